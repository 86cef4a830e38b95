//! The sockets that a run holds pointers to.

use crate::helper::{SocketFacts, SocketId, Suitability};

/// How many sockets a run may know at once.
const SLOTS: usize = 32;

/// Slots of sockets; a pointer names a slot. Equal sockets have equal slots, as in the kernel they
/// have equal addresses.
#[derive(Default)]
pub(crate) struct Sockets {
    slots: [Slot; SLOTS],
    used: usize,
    held: u32,
    /// What compiled programs read of the socket in each slot; never moves.
    blocks: Box<[Block; SLOTS]>,
}

/// A socket's facts as compiled programs read them, and as helpers do.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(crate) struct Block {
    fields: BpfSock,
    /// `None` once the socket is gone.
    suitability: Option<Suitability>,
}

/// `struct bpf_sock` in include/uapi/linux/bpf.h.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct BpfSock {
    bound_dev_if: u32,
    family: u32,
    kind: u32,
    protocol: u32,
    mark: u32,
    priority: u32,
    src_ip4: [u8; 4],
    src_ip6: [u8; 16],
    src_port: u32,
    dst_port: [u8; 2],
    zero: u16,
    dst_ip4: [u8; 4],
    dst_ip6: [u8; 16],
    state: u32,
    rx_queue_mapping: i32,
}

const _: () = assert!(size_of::<BpfSock>() == 80);

impl BpfSock {
    /// An address of the other family reads as zero, as in the interpreter.
    fn of(facts: &SocketFacts) -> BpfSock {
        const IS_V4: u16 = 2;
        let v4 = |ip: &[u8; 16]| {
            if facts.family == IS_V4 { [ip[0], ip[1], ip[2], ip[3]] } else { [0; 4] }
        };
        let v6 = |ip: &[u8; 16]| if facts.family == IS_V4 { [0; 16] } else { *ip };
        BpfSock {
            bound_dev_if: facts.bound_dev_if,
            family: facts.family.into(),
            kind: facts.kind.into(),
            protocol: facts.protocol.into(),
            mark: facts.mark,
            priority: facts.priority,
            src_ip4: v4(&facts.src_ip),
            src_ip6: v6(&facts.src_ip),
            src_port: facts.src_port.into(),
            dst_port: facts.dst_port.to_be_bytes(),
            zero: 0,
            dst_ip4: v4(&facts.dst_ip),
            dst_ip6: v6(&facts.dst_ip),
            state: facts.state.into(),
            rx_queue_mapping: facts.rx_queue_mapping,
        }
    }
}

#[derive(Clone, Copy)]
struct Slot {
    socket: SocketId,
    references: u32,
    /// Its block was filled in this run.
    known: bool,
}

impl Default for Slot {
    fn default() -> Slot {
        Slot { socket: SocketId(0), references: 0, known: false }
    }
}

impl Sockets {
    pub(crate) fn clear(&mut self) {
        self.used = 0;
        self.held = 0;
    }

    /// The slot of a socket, without holding it; `None` if all slots are held.
    pub(crate) fn slot(&mut self, socket: SocketId) -> Option<usize> {
        if let Some(slot) = self.slots[..self.used].iter().position(|slot| slot.socket == socket) {
            return Some(slot);
        }
        let slot = if self.used < SLOTS {
            self.used += 1;
            self.used - 1
        } else {
            self.slots.iter().position(|slot| slot.references == 0)?
        };
        self.slots[slot] = Slot { socket, references: 0, known: false };
        Some(slot)
    }

    /// Holds a socket once more.
    pub(crate) fn acquire(&mut self, socket: SocketId) -> Option<usize> {
        let slot = self.slot(socket)?;
        self.slots[slot].references += 1;
        self.held += 1;
        Some(slot)
    }

    /// Lets go of a socket once; false if it is not held.
    pub(crate) fn release(&mut self, slot: usize) -> bool {
        match self.slots[..self.used].get_mut(slot) {
            Some(slot) if slot.references > 0 => {
                slot.references -= 1;
                self.held -= 1;
                true
            }
            _ => false,
        }
    }

    /// The socket in a slot, if the run holds it or it is the selected one.
    pub(crate) fn socket(&self, slot: usize, selected: Option<SocketId>) -> Option<SocketId> {
        let slot = self.slots[..self.used].get(slot)?;
        (slot.references > 0 || selected == Some(slot.socket)).then_some(slot.socket)
    }

    /// The block of a slot, for compiled programs: filled at the slot's first use in a run, what
    /// programs read of it only if they do.
    #[inline(always)]
    pub(crate) fn block(
        &mut self,
        slot: usize,
        with_fields: bool,
        facts: impl FnOnce(SocketId) -> Option<SocketFacts>,
    ) -> u64 {
        if !self.slots[slot].known {
            self.slots[slot].known = true;
            let facts = facts(self.slots[slot].socket);
            if with_fields {
                self.blocks[slot].fields = BpfSock::of(&facts.unwrap_or_default());
            }
            self.blocks[slot].suitability = facts.as_ref().map(Suitability::of);
        }
        self.address(slot)
    }

    /// The address of a slot's block.
    pub(crate) fn address(&self, slot: usize) -> u64 {
        std::ptr::from_ref(&self.blocks[slot]) as u64
    }

    /// The slot whose block is at an address.
    #[inline]
    pub(crate) fn slot_at(&self, address: u64) -> Option<usize> {
        let within = address.checked_sub(self.blocks.as_ptr() as u64)? as usize;
        let slot = within / size_of::<Block>();
        (within.is_multiple_of(size_of::<Block>()) && slot < self.used).then_some(slot)
    }

    /// The socket in a slot.
    pub(crate) fn id(&self, slot: usize) -> SocketId {
        self.slots[slot].socket
    }

    /// What the socket in a slot is fit for; `None` once it is gone.
    pub(crate) fn suitability(&self, slot: usize) -> Option<Suitability> {
        self.blocks[slot].suitability
    }

    /// Is any socket held?
    pub(crate) fn any_held(&self) -> bool {
        self.held > 0
    }
}
