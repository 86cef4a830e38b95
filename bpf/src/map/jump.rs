//! Where a walk down a trie begins: a table over the first bits of a key.

use std::sync::atomic::{Ordering::Acquire, Ordering::Release};

use super::cell::Cells;
use crate::errno::Errno;

/// The most bits: a million slots.
const MAX_BITS: u32 = 20;
/// Slots an entry, as a power of two: with random keys one node remains to be seen.
const SLOTS_PER_ENTRY: u32 = 1;

pub(super) struct Jump {
    bits: u32,
    slots: Cells,
}

/// Where a walk begins. 0 for none.
#[derive(Clone, Copy)]
pub(super) struct Start {
    /// The first node of at least the table's number of bits.
    pub(super) node: u32,
    /// The longest entry above it.
    pub(super) best: u32,
}

impl Jump {
    /// `max_prefix` is how many bits a key has, eight at least.
    pub(super) fn new(max_entries: u32, max_prefix: u32) -> Result<Jump, Errno> {
        let bits = (max_entries.ilog2() + 1 + SLOTS_PER_ENTRY).min(max_prefix).min(MAX_BITS);
        Ok(Jump { bits, slots: Cells::zeroed(1 << bits)? })
    }

    /// How many bits it looks at.
    pub(super) fn bits(&self) -> u32 {
        self.bits
    }

    /// Where to begin with a key of this prefix and first word; `None` if the prefix is too short.
    #[inline(always)]
    pub(super) fn start(&self, prefix: u32, word: u64) -> Option<Start> {
        if prefix < self.bits {
            return None;
        }
        let slot = self.slots.word((word >> (64 - self.bits)) as usize).load(Acquire);
        Some(Start { node: slot as u32, best: (slot >> 32) as u32 })
    }

    /// The first slot whose bits begin with the first `length` of this word.
    pub(super) fn slot(&self, word: u64, length: u32) -> usize {
        let kept = word & !u64::MAX.checked_shr(length).unwrap_or(0);
        (kept >> (64 - self.bits)) as usize
    }

    pub(super) fn set(&self, slot: usize, start: Start) {
        self.slots.word(slot).store(u64::from(start.best) << 32 | u64::from(start.node), Release);
    }
}
