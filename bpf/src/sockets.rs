//! The sockets that a run holds pointers to.

use crate::helper::SocketId;

/// How many sockets a run may know at once.
const SLOTS: usize = 32;

/// Slots of sockets; a pointer names a slot. Equal sockets have equal slots, as in the kernel they
/// have equal addresses.
#[derive(Default)]
pub(crate) struct Sockets {
    slots: [Slot; SLOTS],
    used: usize,
    held: u32,
}

#[derive(Clone, Copy)]
struct Slot {
    socket: SocketId,
    references: u32,
}

impl Default for Slot {
    fn default() -> Slot {
        Slot { socket: SocketId(0), references: 0 }
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
        self.slots[slot] = Slot { socket, references: 0 };
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

    /// Is any socket held?
    pub(crate) fn any_held(&self) -> bool {
        self.held > 0
    }
}
