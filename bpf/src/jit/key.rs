//! Keys of maps: where a helper may read them.
//!
//! A key in the program's stack is read there. A key elsewhere (in another map's value) may change
//! at any time, so that compiled code copies it first: it may meet half of a change, as programs
//! may, but Rust must not.

use cranelift_codegen::ir::types::{I8, I16, I32, I64};
use cranelift_codegen::ir::{InstBuilder, StackSlotData, StackSlotKind, Type, Value};

use super::facts::is_on_stack;
use super::function::{Work, memory};

/// The address of the key of `size` bytes that r2 points to before an instruction.
pub(super) fn address(work: &mut Work<'_, '_>, at: usize, size: usize) -> Value {
    let key = work.register(2);
    if is_on_stack(work.program, work.block_start, at, 2) {
        return key;
    }
    let slot = StackSlotData::new(StackSlotKind::ExplicitSlot, size as u32, 3);
    let slot = work.b.create_sized_stack_slot(slot);
    let copy = work.b.ins().stack_addr(I64, slot, 0);
    for (offset, width) in pieces(size) {
        let value = work.b.ins().load(width, memory(), key, offset);
        work.b.ins().store(memory(), value, copy, offset);
    }
    copy
}

/// The index that r2 points to.
pub(super) fn index(work: &mut Work<'_, '_>) -> Value {
    let key = work.register(2);
    work.b.ins().load(I32, memory(), key, 0)
}

/// Sizes of accesses that cover this many bytes.
fn pieces(size: usize) -> impl Iterator<Item = (i32, Type)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let (bytes, width) = match size - at {
            0 => return None,
            1 => (1, I8),
            2..4 => (2, I16),
            4..8 => (4, I32),
            _ => (8, I64),
        };
        at += bytes;
        Some(((at - bytes) as i32, width))
    })
}

#[cfg(test)]
mod tests {
    use super::pieces;

    #[test]
    fn pieces_cover_every_size_once() {
        for size in 0..100_usize {
            let mut at = 0;
            for (offset, width) in pieces(size) {
                assert_eq!(offset, at);
                at += width.bytes() as i32;
            }
            assert_eq!(at, size as i32);
        }
    }
}
