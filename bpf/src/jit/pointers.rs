//! Addresses of a compiled run, as the pointers that the checks of [`crate::memory`] have.

use std::sync::Arc;

use crate::helper::Host;
use crate::machine::{FRAME, FRAMES};
use crate::memory::{self, Run, Target};

/// The pointer that an address stands for; null (which nothing is at) if the run has none there.
pub(crate) fn tagged<H: Host>(run: &Run<'_, H>, address: u64) -> u64 {
    let stack = run.machine.stack.as_ptr() as u64;
    if let Some(byte) = within(address, stack, FRAME * FRAMES) {
        return memory::stack(byte);
    }
    if address == std::ptr::from_ref(run.context) as u64 {
        return memory::context();
    }
    if let Some(slot) = run.machine.sockets.slot_at(address) {
        return memory::socket(slot);
    }
    if let Some(byte) = within(address, run.memory.as_ptr() as u64, run.memory.len()) {
        return memory::given() + byte as u64;
    }
    for (index, map) in run.program.maps.iter().enumerate() {
        if address == Arc::as_ptr(map) as u64 {
            return memory::map_handle(index);
        }
        if let Some(offset) = map.values().and_then(|values| values.offset_of(address)) {
            return memory::map_value(index) + offset;
        }
    }
    0
}

/// The address that a pointer stands for which a helper returned.
pub(super) fn address<H: Host>(run: &mut Run<'_, H>, pointer: u64) -> u64 {
    match memory::target(pointer) {
        Some(Target::Socket(slot)) => {
            let host = &*run.host;
            run.machine.sockets.block(slot, true, |socket| host.socket(socket))
        }
        Some(Target::Value(index, offset)) => {
            let values = run.program.maps.get(index).and_then(|map| map.values());
            values.and_then(|values| values.address_of(offset)).unwrap_or(0)
        }
        None => pointer,
    }
}

fn within(address: u64, start: u64, length: usize) -> Option<usize> {
    let byte = address.checked_sub(start)? as usize;
    (byte < length).then_some(byte)
}
