//! Pointers as programs have them: a region in the top 16 bits, an offset in the low 48. They are
//! never addresses, so that whatever a program computes reaches only what is checked here.

use crate::atomic::AtomicOp;
use crate::fault::FaultKind;
use crate::helper::{Host, SocketFacts, SocketId};
use crate::hook::sk_lookup::{Selection, SkLookupContext};
use crate::machine::{FRAME, FRAMES, Machine};
use crate::map::{Map, Source, flags};
use crate::program::Program;

/// Frame 0's stack; the other frames follow.
const STACK: usize = 1;
const CONTEXT: usize = STACK + FRAMES;
const SOCKET: usize = CONTEXT + 1;
/// The memory that a program without a hook is given.
const MEMORY: usize = SOCKET + 1;
/// Values of the program's first map; the others follow.
const MAP: usize = 16;
/// The program's first map itself; only helpers take it.
const HANDLE: usize = 0x8000;
const OFFSET: u64 = (1 << 48) - 1;
/// Bits of a socket pointer's offset for the byte within `struct bpf_sock`.
const FIELD_BITS: u32 = 12;

const fn pointer(region: usize, offset: u64) -> u64 {
    (region as u64) << 48 | offset
}

/// The end of a frame's stack: its r10.
pub(crate) fn frame_pointer(depth: usize) -> u64 {
    pointer(STACK + depth, FRAME as u64)
}

pub(crate) fn context() -> u64 {
    pointer(CONTEXT, 0)
}

pub(crate) fn given() -> u64 {
    pointer(MEMORY, 0)
}

pub(crate) fn map_handle(map: usize) -> u64 {
    pointer(HANDLE + map, 0)
}

pub(crate) fn map_value(map: usize) -> u64 {
    pointer(MAP + map, 0)
}

pub(crate) fn socket(slot: usize) -> u64 {
    pointer(SOCKET, (slot as u64) << FIELD_BITS)
}

/// One run: a program, what it works on, and what it works with.
pub(crate) struct Run<'a, H> {
    pub(crate) program: &'a Program,
    pub(crate) context: &'a SkLookupContext,
    pub(crate) selection: &'a mut Selection,
    pub(crate) host: &'a mut H,
    pub(crate) machine: &'a mut Machine,
    /// What a program without a hook works on.
    pub(crate) memory: &'a mut [u8],
    /// Pointers are addresses, since compiled code runs: see [`crate::jit`].
    pub(crate) native: bool,
}

impl<'a, H: Host> Run<'a, H> {
    /// Reads `N` bytes.
    #[inline]
    pub(crate) fn load<const N: usize>(&mut self, address: u64) -> Result<u64, FaultKind> {
        let (region, offset) = split(address);
        let frame = region.wrapping_sub(STACK);
        let value = if frame <= self.machine.depth {
            word::<N>(&self.machine.stack[frame], offset)
        } else if region == CONTEXT {
            self.load_context::<N>(offset)
        } else if region >= MAP {
            self.load_map(region - MAP, offset, N)
        } else if region == MEMORY {
            word::<N>(self.memory, offset)
        } else {
            self.load_socket(region, offset, N)
        };
        value.ok_or(FaultKind::Read(address, N as u8))
    }

    /// Writes the low `N` bytes of `value`.
    #[inline]
    pub(crate) fn store<const N: usize>(
        &mut self,
        address: u64,
        value: u64,
    ) -> Result<(), FaultKind> {
        let fault = FaultKind::Write(address, N as u8);
        let (region, offset) = split(address);
        let frame = region.wrapping_sub(STACK);
        if frame <= self.machine.depth {
            let at = usize::try_from(offset).map_err(|_| fault)?;
            let rest = self.machine.stack[frame].get_mut(at..).ok_or(fault)?;
            let bytes = rest.first_chunk_mut::<N>().ok_or(fault)?;
            bytes.copy_from_slice(&value.to_le_bytes()[..N]);
            self.machine.dirty[frame] = self.machine.dirty[frame].min(at);
            return Ok(());
        }
        if region == MEMORY {
            let rest = usize::try_from(offset).ok().and_then(|at| self.memory.get_mut(at..));
            let bytes = rest.and_then(<[u8]>::first_chunk_mut::<N>).ok_or(fault)?;
            bytes.copy_from_slice(&value.to_le_bytes()[..N]);
            return Ok(());
        }
        let map = self.writable(region).ok_or(fault)?;
        let values = map.values().ok_or(fault)?;
        let at = values.locate(offset, N).ok_or(fault)?;
        values.cells().store(at, N, value);
        map.stored_to();
        self.machine.inputs.repeatable = false;
        Ok(())
    }

    /// An atomic operation on `size` bytes, which must be aligned; the old value.
    pub(crate) fn atomic(
        &mut self,
        address: u64,
        size: usize,
        op: AtomicOp,
        operand: u64,
    ) -> Result<u64, FaultKind> {
        let fault = FaultKind::Write(address, size as u8);
        if !address.is_multiple_of(size as u64) {
            return Err(fault);
        }
        let (region, offset) = split(address);
        if region.wrapping_sub(STACK) <= self.machine.depth || region == MEMORY {
            if size == 4 {
                let old = self.load::<4>(address)?;
                return self.store::<4>(address, op.apply(old, operand, 4)).map(|()| old);
            }
            let old = self.load::<8>(address)?;
            return self.store::<8>(address, op.apply(old, operand, 8)).map(|()| old);
        }
        let map = self.writable(region).ok_or(fault)?;
        let values = map.values().ok_or(fault)?;
        let at = values.locate(offset, size).ok_or(fault)?;
        let old = values.cells().update(at, size, op, operand).ok_or(fault)?;
        map.stored_to();
        self.machine.inputs.repeatable = false;
        Ok(old)
    }

    /// Ordinary memory that a helper reads: stack as it is, a map's value copied to `scratch`.
    pub(crate) fn bytes<'b>(
        &'b self,
        address: u64,
        size: usize,
        scratch: &'b mut [u8],
    ) -> Option<&'b [u8]> {
        match self.source(address, size)? {
            Source::Bytes(bytes) => Some(bytes),
            Source::Cells(cells, at) => {
                let scratch = scratch.get_mut(..size)?;
                cells.read(at, scratch);
                Some(scratch)
            }
        }
    }

    /// Stack that a helper reads.
    #[inline]
    pub(crate) fn on_stack(&self, address: u64, size: usize) -> Option<&[u8]> {
        let (region, offset) = split(self.tagged(address));
        let frame = region.wrapping_sub(STACK);
        if frame > self.machine.depth {
            return None;
        }
        let at = usize::try_from(offset).ok()?;
        self.machine.stack[frame].get(at..at.checked_add(size)?)
    }

    /// Memory that a map's new value comes from.
    pub(crate) fn source(&self, address: u64, size: usize) -> Option<Source<'_>> {
        if let Some(bytes) = self.on_stack(address, size) {
            return Some(Source::Bytes(bytes));
        }
        let (region, offset) = split(self.tagged(address));
        if region == MEMORY {
            let at = usize::try_from(offset).ok()?;
            return Some(Source::Bytes(self.memory.get(at..at.checked_add(size)?)?));
        }
        let map = self.program.maps.get(region.checked_sub(MAP)?)?;
        if map.spec().flags & flags::WRONLY_PROG != 0 {
            return None;
        }
        let values = map.values()?;
        Some(Source::Cells(values.cells(), values.locate(offset, size)?))
    }

    /// Whether the value at an address is one that programs write to.
    pub(crate) fn is_stored_to(&self, address: u64) -> bool {
        let index = split(self.tagged(address)).0.checked_sub(MAP);
        index.and_then(|index| self.program.maps.get(index)).is_some_and(|map| map.is_stored_to())
    }

    /// Has the program no hook?
    pub(crate) fn memory_only(&self) -> bool {
        self.program.hook().program_type == crate::hook::ProgramType::Bare
    }

    /// Is this the pointer to the context?
    pub(crate) fn is_context(&self, address: u64) -> bool {
        self.tagged(address) == context()
    }

    /// A pointer as the checks here have it; null for an address of nothing.
    #[inline]
    fn tagged(&self, address: u64) -> u64 {
        if self.native { crate::jit::tagged(self, address) } else { address }
    }

    /// The map that a handle stands for, and its index.
    #[inline]
    pub(crate) fn map(&self, handle: u64) -> Option<(usize, &'a Map)> {
        let (region, offset) = split(self.tagged(handle));
        let index = region.checked_sub(HANDLE)?;
        let map = self.program.maps.get(index)?;
        (offset == 0).then_some((index, map))
    }

    /// The slot and the socket that a pointer stands for, if the run holds it or selected it.
    pub(crate) fn socket(&self, address: u64) -> Option<(usize, SocketId)> {
        let (region, offset) = split(self.tagged(address));
        if region != SOCKET || offset & ((1 << FIELD_BITS) - 1) != 0 {
            return None;
        }
        let slot = (offset >> FIELD_BITS) as usize;
        Some((slot, self.machine.sockets.socket(slot, self.selection.socket)?))
    }

    #[inline(always)]
    fn load_context<const N: usize>(&mut self, offset: u64) -> Option<u64> {
        let allowed = *self.program.context_reads.get(usize::try_from(offset).ok()?)?;
        if usize::from(allowed) & N == 0 {
            return None;
        }
        self.machine.inputs.read_context(offset, N);
        if N == 8 {
            let Some(selected) = self.selection.socket else { return Some(0) };
            return self.machine.sockets.slot(selected).map(socket);
        }
        self.context.load(offset as usize, N)
    }

    #[inline(always)]
    fn load_map(&mut self, index: usize, offset: u64, size: usize) -> Option<u64> {
        let map = self.program.maps.get(index)?;
        if map.spec().flags & flags::WRONLY_PROG != 0 {
            return None;
        }
        let values = map.values()?;
        self.machine.inputs.repeatable &= !map.is_stored_to();
        Some(values.cells().load(values.locate(offset, size)?, size))
    }

    fn load_socket(&self, region: usize, offset: u64, size: usize) -> Option<u64> {
        let field = offset & ((1 << FIELD_BITS) - 1);
        let (_, socket) = self.socket(pointer(region, offset - field))?;
        let facts = self.host.socket(socket).unwrap_or_default();
        bpf_sock_field(&facts, field as usize, size)
    }

    fn writable(&self, region: usize) -> Option<&'a Map> {
        let map = self.program.maps.get(region.checked_sub(MAP)?)?;
        (map.spec().flags & flags::RDONLY_PROG == 0).then_some(map)
    }
}

/// A stack pointer, from the byte counted from the first frame's lowest.
pub(crate) fn stack(byte: usize) -> u64 {
    pointer(STACK + byte / FRAME, (byte % FRAME) as u64)
}

/// What a value's or a socket's pointer names: the map's index or nothing, and the offset.
pub(crate) fn target(tagged: u64) -> Option<Target> {
    let (region, offset) = split(tagged);
    match region {
        SOCKET => Some(Target::Socket((offset >> FIELD_BITS) as usize)),
        _ if (MAP..HANDLE).contains(&region) => Some(Target::Value(region - MAP, offset)),
        _ => None,
    }
}

/// What a helper returned a pointer to.
pub(crate) enum Target {
    /// A socket's slot.
    Socket(usize),
    /// A map's index, and an offset among its values.
    Value(usize, u64),
}

#[inline]
fn split(address: u64) -> (usize, u64) {
    ((address >> 48) as usize, address & OFFSET)
}

/// `N` bytes of ordinary memory, little-endian.
#[inline(always)]
fn word<const N: usize>(bytes: &[u8], offset: u64) -> Option<u64> {
    let chunk = bytes.get(usize::try_from(offset).ok()?..)?.first_chunk::<N>()?;
    let mut word = [0; 8];
    word[..N].copy_from_slice(chunk);
    Some(u64::from_le_bytes(word))
}

/// A read of `struct bpf_sock` (`bpf_sock_is_valid_access`): every field in its own size, some in
/// parts. `None` is a read that the kernel's verifier refuses.
fn bpf_sock_field(facts: &SocketFacts, offset: usize, size: usize) -> Option<u64> {
    const IS_V4: u16 = 2;
    if !offset.is_multiple_of(size) || offset + size > 80 || size > 4 {
        return None;
    }
    let narrow_allowed = matches!(offset & !3, 4 | 8 | 12 | 24..=51 | 52..=71 | 72 | 76);
    if size != 4 && !narrow_allowed {
        return None;
    }
    let quarter = |ip: &[u8; 16], at: usize| {
        let mut word = [0; 4];
        word.copy_from_slice(&ip[at..at + 4]);
        u32::from_le_bytes(word)
    };
    let is_v4 = facts.family == IS_V4;
    let word = match offset & !3 {
        0 => facts.bound_dev_if,
        4 => facts.family.into(),
        8 => facts.kind.into(),
        12 => facts.protocol.into(),
        16 => facts.mark,
        20 => facts.priority,
        24 => {
            if is_v4 {
                quarter(&facts.src_ip, 0)
            } else {
                0
            }
        }
        at @ 28..=40 => {
            if is_v4 {
                0
            } else {
                quarter(&facts.src_ip, at - 28)
            }
        }
        44 => facts.src_port.into(),
        48 => facts.dst_port.to_be().into(),
        52 => {
            if is_v4 {
                quarter(&facts.dst_ip, 0)
            } else {
                0
            }
        }
        at @ 56..=68 => {
            if is_v4 {
                0
            } else {
                quarter(&facts.dst_ip, at - 56)
            }
        }
        72 => facts.state.into(),
        _ => facts.rx_queue_mapping as u32,
    };
    let value = u64::from(word) >> (offset % 4 * 8);
    Some(value & (u64::MAX >> (64 - size * 8)))
}
