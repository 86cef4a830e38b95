//! From a hash to the slot of a socket: open addressing, eight slots of the index a cache line.
//!
//! An entry is the hash's 32 bits and the slot + 1; a look at the tag rejects nearly every
//! stranger without touching the socket. The index never grows: it is sized for the table at
//! start, to a load of at most one half.

use crate::prefetch;

/// See the module.
#[derive(Debug)]
pub struct FlowIndex {
    entries: Box<[u64]>,
    mask: usize,
    length: usize,
}

const EMPTY: u64 = 0;

fn entry(hash: u32, slot: u32) -> u64 {
    u64::from(hash) << 32 | (u64::from(slot) + 1)
}

impl FlowIndex {
    /// An index for at most `capacity` entries.
    pub fn new(capacity: usize) -> FlowIndex {
        let size = (capacity.max(4) * 2).next_power_of_two();
        FlowIndex { entries: vec![EMPTY; size].into_boxed_slice(), mask: size - 1, length: 0 }
    }

    /// Adds an entry; the caller sees to it that it is not there yet.
    ///
    /// # Panics
    /// When the index is more than half full: the table that sized it was too small.
    pub fn insert(&mut self, hash: u32, slot: u32) {
        assert!(self.length * 2 < self.entries.len(), "flow index over capacity");
        let mut place = hash as usize & self.mask;
        while self.entries[place] != EMPTY {
            place = (place + 1) & self.mask;
        }
        self.entries[place] = entry(hash, slot);
        self.length += 1;
    }

    /// Removes an entry and closes the gap; `false` if it was not there.
    pub fn remove(&mut self, hash: u32, slot: u32) -> bool {
        let wanted = entry(hash, slot);
        let mut place = hash as usize & self.mask;
        while self.entries[place] != wanted {
            if self.entries[place] == EMPTY {
                return false;
            }
            place = (place + 1) & self.mask;
        }
        self.close_gap(place);
        self.length -= 1;
        true
    }

    /// Moves later members of the run back, so that no search ends early at the gap.
    fn close_gap(&mut self, mut gap: usize) {
        let mut place = gap;
        loop {
            place = (place + 1) & self.mask;
            let candidate = self.entries[place];
            if candidate == EMPTY {
                break;
            }
            let home = (candidate >> 32) as usize & self.mask;
            let distance_home = place.wrapping_sub(home) & self.mask;
            let distance_gap = place.wrapping_sub(gap) & self.mask;
            if distance_home >= distance_gap {
                self.entries[gap] = candidate;
                gap = place;
            }
        }
        self.entries[gap] = EMPTY;
    }

    /// The slot under `hash` that `is_it` accepts.
    #[inline]
    pub fn find(&self, hash: u32, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let mut place = hash as usize & self.mask;
        loop {
            let entry = self.entries[place];
            if entry == EMPTY {
                return None;
            }
            if (entry >> 32) as u32 == hash {
                let slot = entry as u32 - 1;
                if is_it(slot) {
                    return Some(slot);
                }
            }
            place = (place + 1) & self.mask;
        }
    }

    /// Asks the processor for the line where a search for `hash` begins.
    #[inline]
    pub fn prefetch(&self, hash: u32) {
        prefetch::read(&self.entries[hash as usize & self.mask]);
    }

    /// Entries.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether a search can be spared.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    proptest! {
        /// Few distinct hashes, so that runs overlap and wrap.
        #[test]
        fn behaves_like_a_map(steps in prop::collection::vec((any::<bool>(), 0u32..24, 0u32..40), 1..400)) {
            let mut index = FlowIndex::new(40);
            let mut model: HashMap<u32, u32> = HashMap::new();
            for (add, hash, slot) in steps {
                let hash = if hash % 3 == 0 { u32::MAX - hash } else { hash };
                if add && !model.contains_key(&slot) {
                    index.insert(hash, slot);
                    model.insert(slot, hash);
                } else if !add {
                    let hash = model.remove(&slot);
                    prop_assert_eq!(index.remove(hash.unwrap_or(1), slot), hash.is_some());
                }
                prop_assert_eq!(index.len(), model.len());
                for (&slot, &hash) in &model {
                    prop_assert_eq!(index.find(hash, |found| found == slot), Some(slot));
                }
            }
        }
    }
}
