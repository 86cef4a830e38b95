//! Buckets of a hash: one cache line each, which is enough to say that a key is not there.
//!
//! A line's first word packs a sequence number with the line that it overflows to; two words of
//! tags (15 bits of the hash of each entry, 0 for none); four words of elements. All lines of a
//! bucket but the last are full. Entries are published by one store. Who takes an entry out, or
//! moves one, changes the sequence of the bucket's first line, and who read it meanwhile reads
//! again: see `tests/models.rs`.

use std::sync::atomic::{
    AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release, fence,
};

use super::cell::{Cells, LINE};
use crate::errno::Errno;

/// Entries a line.
pub(super) const SLOTS: usize = 8;
/// Entries a bucket, on average in a full map, at most.
const LOAD: u64 = 4;
/// How often a reader begins again when writers are at work in its bucket.
const RETRIES: usize = 64;
const ONES: u64 = 0x0001_0001_0001_0001;
const HIGHS: u64 = ONES << 15;

pub(super) struct Buckets {
    lines: Cells,
    mask: usize,
    /// Longest possible chain of lines.
    longest: usize,
}

/// Where an entry is.
#[derive(Clone, Copy)]
pub(super) struct Place {
    line: usize,
    slot: usize,
    pub(super) element: u32,
}

/// Lines that buckets overflow to, and that none does; only writers see them.
pub(super) struct Overflow {
    untouched: usize,
    first: u32,
}

impl Buckets {
    pub(super) fn new(max_entries: u64) -> Result<(Buckets, Overflow), Errno> {
        let buckets = max_entries.div_ceil(LOAD).next_power_of_two();
        // All lines of a bucket but the last are full.
        let overflow = max_entries / SLOTS as u64 + 2;
        let lines = usize::try_from(buckets + overflow).map_err(|_| Errno::ENOMEM)?;
        let cells = Cells::zeroed(lines.checked_mul(LINE).ok_or(Errno::ENOMEM)?)?;
        let mask = buckets as usize - 1;
        let overflow_lines = Overflow { untouched: mask + 1, first: 0 };
        Ok((Buckets { lines: cells, mask, longest: overflow as usize }, overflow_lines))
    }

    pub(super) fn count(&self) -> usize {
        self.mask + 1
    }

    /// The bucket of a hash.
    #[inline(always)]
    pub(super) fn of(&self, hash: u64) -> usize {
        hash as usize & self.mask
    }

    /// The element with this hash for which `is` holds. No lock; a bounded number of new
    /// beginnings.
    #[inline(always)]
    pub(super) fn find(&self, hash: u64, is: impl Fn(u32) -> bool) -> Option<u32> {
        let first = self.lines.line(self.of(hash));
        let tags = tag(hash) * ONES;
        let mut found = None;
        for _ in 0..RETRIES {
            let head = first[0].load(Acquire);
            found = find_in(first, tags, &is).map(|(_, element)| element);
            if found.is_none() && head >> 32 != 0 {
                found = self.find_beyond(head, tags, &is);
            }
            fence(Acquire);
            if first[0].load(Relaxed) == head {
                break;
            }
        }
        found
    }

    #[cold]
    fn find_beyond(&self, head: u64, tags: u64, is: &impl Fn(u32) -> bool) -> Option<u32> {
        let mut head = head;
        // Bounded: a chain that changes underfoot may lead anywhere, and in circles.
        for _ in 0..self.longest {
            if head >> 32 == 0 {
                return None;
            }
            let line = self.lines.line((head >> 32) as usize);
            if let Some((_, element)) = find_in(line, tags, is) {
                return Some(element);
            }
            head = line[0].load(Acquire);
        }
        None
    }

    /// Where the entry with this hash is for which `is` holds. For writers.
    pub(super) fn place(&self, hash: u64, is: impl Fn(u32) -> bool) -> Option<Place> {
        let tags = tag(hash) * ONES;
        let found = self.chain(self.of(hash)).find_map(|line| {
            find_in(self.lines.line(line), tags, &is).map(|(slot, element)| (line, slot, element))
        });
        found.map(|(line, slot, element)| Place { line, slot, element })
    }

    /// Adds an entry.
    pub(super) fn add(&self, hash: u64, element: u32, overflow: &mut Overflow) {
        let bucket = self.of(hash);
        let last = self.chain(bucket).last().unwrap_or(bucket);
        if let Some(slot) = self.elements(last).position(|element| element == 0) {
            return self.set(last, slot, tag(hash), element);
        }
        // The new line is whole before it is linked.
        let line = self.take(overflow);
        self.lines.line(line)[0].store(0, Relaxed);
        self.set(line, 0, tag(hash), element);
        let head = &self.lines.line(last)[0];
        head.store(head.load(Relaxed) & 0xffff_ffff | (line as u64) << 32, Release);
    }

    /// Lets an entry have another element, which has the same key. The old one is not to be found
    /// any more.
    pub(super) fn replace(&self, hash: u64, place: Place, element: u32) {
        self.set(place.line, place.slot, tag(hash), element);
        self.change(self.of(hash));
    }

    /// Takes an entry out.
    pub(super) fn remove(&self, hash: u64, place: Place, overflow: &mut Overflow) {
        let bucket = self.of(hash);
        let (mut before, mut last) = (None, bucket);
        for line in self.chain(bucket) {
            before = (line != bucket).then_some(last);
            last = line;
        }
        let slot = self.elements(last).rposition(|element| element != 0).unwrap_or(0);
        if (last, slot) == (place.line, place.slot) {
            // Whoever begins to read after the change does not see the entry, nor what becomes of
            // its element.
            self.set(last, slot, 0, 0);
            self.change(bucket);
        } else {
            // The last entry fills the gap, and is in both places until the sequence has changed.
            let (tag, element) = self.entry(last, slot);
            self.set(place.line, place.slot, tag, element);
            self.change(bucket);
            self.set(last, slot, 0, 0);
        }
        if let Some(before) = before.filter(|_| slot == 0) {
            let head = &self.lines.line(before)[0];
            head.store(head.load(Relaxed) & 0xffff_ffff, Release);
            self.change(bucket);
            self.lines.line(last)[0].store(u64::from(overflow.first) << 32, Relaxed);
            overflow.first = last as u32;
        }
    }

    /// The elements of a bucket.
    pub(super) fn all(&self, bucket: usize) -> impl Iterator<Item = u32> {
        self.chain(bucket).flat_map(|line| self.elements(line)).filter(|element| *element != 0)
    }

    fn take(&self, overflow: &mut Overflow) -> usize {
        if overflow.first == 0 {
            overflow.untouched += 1;
            return overflow.untouched - 1;
        }
        let line = overflow.first;
        overflow.first = (self.lines.line(line as usize)[0].load(Relaxed) >> 32) as u32;
        // Readers that were on their way through it see their bucket changed ere they see this.
        fence(Release);
        line as usize
    }

    /// A bucket's lines. For writers.
    fn chain(&self, bucket: usize) -> impl Iterator<Item = usize> {
        let next = |line: &usize| {
            let next = (self.lines.line(*line)[0].load(Relaxed) >> 32) as usize;
            (next != 0).then_some(next)
        };
        std::iter::successors(Some(bucket), next)
    }

    fn elements(&self, line: usize) -> impl DoubleEndedIterator<Item = u32> + ExactSizeIterator {
        (0..SLOTS).map(move |slot| self.entry(line, slot).1)
    }

    fn entry(&self, line: usize, slot: usize) -> (u64, u32) {
        let line = self.lines.line(line);
        let tags = line[1 + slot / 4].load(Relaxed);
        (tags >> (slot % 4 * 16) & 0xffff, element_in(line, slot))
    }

    /// The element first: who sees the tag sees it too.
    fn set(&self, line: usize, slot: usize, tag: u64, element: u32) {
        let line = self.lines.line(line);
        let put = |word: &AtomicU64, shift: usize, mask: u64, value: u64| {
            let rest = word.load(Relaxed) & !(mask << shift);
            word.store(rest | value << shift, Release);
        };
        put(&line[3 + slot / 2], slot % 2 * 32, 0xffff_ffff, element.into());
        put(&line[1 + slot / 4], slot % 4 * 16, 0xffff, tag);
    }

    fn change(&self, bucket: usize) {
        let head = &self.lines.line(bucket)[0];
        let old = head.load(Relaxed);
        head.store(old & !0xffff_ffff | u64::from((old as u32).wrapping_add(1)), Release);
        fence(Release);
    }
}

/// The top bits of a hash, never zero.
#[inline(always)]
fn tag(hash: u64) -> u64 {
    hash >> 48 | 0x8000
}

#[inline(always)]
fn element_in(line: &[AtomicU64; LINE], slot: usize) -> u32 {
    (line[3 + ((slot / 2) & 3)].load(Relaxed) >> (slot % 2 * 32)) as u32
}

#[inline(always)]
fn find_in(line: &[AtomicU64; LINE], tags: u64, is: &impl Fn(u32) -> bool) -> Option<(usize, u32)> {
    // Both halves at once, for the half that an entry is in cannot be foreseen: bit 16 × lane + half.
    let mut zeros = zero_lanes(line[1].load(Acquire) ^ tags) >> 15
        | zero_lanes(line[2].load(Acquire) ^ tags) >> 14;
    while zeros != 0 {
        let at = zeros.trailing_zeros() as usize;
        let slot = (at & 1) * 4 + at / 16;
        let element = element_in(line, slot);
        if element != 0 && is(element) {
            return Some((slot, element));
        }
        zeros &= zeros - 1;
    }
    None
}

/// The top bits of the lanes that are zero. Above one of them there may be a false one: the key
/// decides.
#[inline(always)]
fn zero_lanes(lanes: u64) -> u64 {
    lanes.wrapping_sub(ONES) & !lanes & HIGHS
}

#[cfg(test)]
mod tests {
    use super::{Buckets, SLOTS};

    #[test]
    fn one_bucket_holds_all() {
        // As bad as it gets: every entry in one bucket.
        const ENTRIES: u32 = 100;
        let (buckets, mut overflow) = Buckets::new(ENTRIES.into()).unwrap();
        let hash = |i: u32| u64::from(i % 7) << 48;
        for round in 1..4 {
            for i in 1..=ENTRIES {
                buckets.add(hash(i), i, &mut overflow);
            }
            for i in 1..=ENTRIES {
                assert_eq!(buckets.find(hash(i), |element| element == i), Some(i));
            }
            for i in (1..=ENTRIES).map(|i| i * 37 * round % 101) {
                let place = buckets.place(hash(i), |element| element == i).unwrap();
                buckets.remove(hash(i), place, &mut overflow);
                assert_eq!(buckets.find(hash(i), |element| element == i), None);
                let left: Vec<_> = buckets.all(0).collect();
                for j in left {
                    assert_eq!(buckets.find(hash(j), |element| element == j), Some(j));
                }
            }
            assert_eq!(buckets.all(0).count(), 0);
        }
        assert!(overflow.untouched <= buckets.count() + ENTRIES as usize / SLOTS + 1);
    }
}
