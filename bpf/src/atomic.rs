//! The atomic operations of the instruction set (RFC 9669, section 5.3).

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};

/// What to do with a value in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AtomicOp {
    Add,
    Or,
    And,
    Xor,
    Exchange,
    /// Stores the operand if the old value is this one.
    CompareExchange(u64),
}

impl AtomicOp {
    /// Does it on memory that others use too; gives the old value.
    pub(crate) fn on_u32(self, memory: &AtomicU32, operand: u32) -> u32 {
        match self {
            AtomicOp::Add => memory.fetch_add(operand, SeqCst),
            AtomicOp::Or => memory.fetch_or(operand, SeqCst),
            AtomicOp::And => memory.fetch_and(operand, SeqCst),
            AtomicOp::Xor => memory.fetch_xor(operand, SeqCst),
            AtomicOp::Exchange => memory.swap(operand, SeqCst),
            AtomicOp::CompareExchange(expected) => memory
                .compare_exchange(expected as u32, operand, SeqCst, Relaxed)
                .unwrap_or_else(|old| old),
        }
    }

    /// The same on eight bytes.
    pub(crate) fn on_u64(self, memory: &AtomicU64, operand: u64) -> u64 {
        match self {
            AtomicOp::Add => memory.fetch_add(operand, SeqCst),
            AtomicOp::Or => memory.fetch_or(operand, SeqCst),
            AtomicOp::And => memory.fetch_and(operand, SeqCst),
            AtomicOp::Xor => memory.fetch_xor(operand, SeqCst),
            AtomicOp::Exchange => memory.swap(operand, SeqCst),
            AtomicOp::CompareExchange(expected) => memory
                .compare_exchange(expected, operand, SeqCst, Relaxed)
                .unwrap_or_else(|old| old),
        }
    }

    /// The new value of memory that nobody else uses. With 32-bit operands, the low half is right.
    pub(crate) fn apply(self, old: u64, operand: u64, size: usize) -> u64 {
        let mask = u64::MAX >> (64 - size * 8);
        match self {
            AtomicOp::Add => old.wrapping_add(operand),
            AtomicOp::Or => old | operand,
            AtomicOp::And => old & operand,
            AtomicOp::Xor => old ^ operand,
            AtomicOp::Exchange => operand,
            AtomicOp::CompareExchange(expected) if old & mask == expected & mask => operand,
            AtomicOp::CompareExchange(_) => old,
        }
    }
}
