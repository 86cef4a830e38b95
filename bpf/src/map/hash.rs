//! Hash tables that are read without a lock (`kernel/bpf/hashtab.c`).
//!
//! An element is its key and its value, side by side: a miss costs the cache line of its bucket, a
//! hit one more. A replaced value lands in another element, so that a reader sees the old or the
//! new one.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::bucket::{Buckets, Overflow};
use super::flags;
use super::key::{Key, with_key};
use super::pool::Pool;
use super::values::Values;
use crate::errno::Errno;

/// Elements beyond `max_entries`, so that a full map can replace, and a replaced element rests
/// before it is used again.
const SPARE: u64 = 64;
/// Of an element's state in a map with eviction: there is an entry; it was used of late.
const LIVE: u64 = 1;
const USED: u64 = 2;

pub(crate) struct Hash {
    key_size: usize,
    /// Words of an element before its key: its state, in a map with eviction.
    state_words: usize,
    max_entries: u64,
    seed: [u64; 2],
    buckets: Buckets,
    values: Values,
    entries: AtomicUsize,
    writer: Mutex<Writer>,
}

/// What a table is to be.
pub(crate) struct Shape {
    pub(crate) key_size: usize,
    /// Bytes beside the key; none where the values are elsewhere.
    pub(crate) value_size: usize,
    pub(crate) max_entries: u32,
    /// Keyed by a seed that nobody outside knows.
    pub(crate) seeded: bool,
    /// Full, it takes out what was not used of late.
    pub(crate) evicts: bool,
    /// Where a value has its spin lock.
    pub(crate) lock_at: Option<u32>,
}

/// What happens to the entry of a key that is there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Renewal {
    /// It gets another element.
    Replace,
    /// Its element is changed.
    InPlace,
}

/// What only writers see.
pub(crate) struct Writer {
    entries: u64,
    pool: Pool,
    overflow: Overflow,
    /// The element that is looked at next when one is to be taken out.
    hand: u32,
}

impl Hash {
    pub(crate) fn new(shape: &Shape) -> Result<Hash, Errno> {
        let elements = Hash::elements(shape.max_entries);
        let max_entries = u64::from(shape.max_entries);
        let state_words = usize::from(shape.evicts);
        let header = state_words + shape.key_size.div_ceil(8);
        let (buckets, overflow) = Buckets::new(max_entries)?;
        let values = Values::with_header(header, shape.value_size, elements)?;
        let random = RandomState::new();
        let seed = match shape.seeded {
            true => [random.hash_one(0), random.hash_one(1)],
            false => [0x9e37_79b9_7f4a_7c15, 0xbf58_476d_1ce4_e5b9],
        };
        let writer = Writer { entries: 0, pool: Pool::new(elements)?, overflow, hand: 0 };
        Ok(Hash {
            key_size: shape.key_size,
            state_words,
            max_entries,
            seed: [seed[0], seed[1] | 1],
            buckets,
            values: values.with_lock(shape.lock_at),
            entries: AtomicUsize::new(0),
            writer: Mutex::new(writer),
        })
    }

    /// How many elements, the one for none included, a table has.
    pub(crate) fn elements(max_entries: u32) -> u64 {
        u64::from(max_entries) + SPARE + 1
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.load(Relaxed)
    }

    pub(crate) fn values(&self) -> &Values {
        &self.values
    }

    /// The element of a key. No lock.
    ///
    /// # Panics
    /// When the key has another size than the map's keys.
    #[inline]
    pub(crate) fn find(&self, key: &[u8]) -> Option<u32> {
        assert_eq!(key.len(), self.key_size, "key size");
        with_key!(key, |key| self.find_key(key))
    }

    /// The element of a key that a program asks for: it is in use.
    #[inline]
    pub(crate) fn use_bytes(&self, key: &[u8]) -> Option<u32> {
        assert_eq!(key.len(), self.key_size, "key size");
        with_key!(key, |key| self.use_key(key))
    }

    /// The element of a key whose size is known.
    #[inline(always)]
    pub(super) fn find_key<K: Key>(&self, key: K) -> Option<u32> {
        self.buckets.find(key.hash(self.seed), |element| key.is_in(self.key_words(element)))
    }

    /// The element of a key that a program asks for: it is in use.
    #[inline(always)]
    pub(super) fn use_key<K: Key>(&self, key: K) -> Option<u32> {
        let element = self.find_key(key)?;
        if self.state_words != 0 {
            let state = self.values.cells().word(self.values.header(element));
            // Not written again and again: the line stays with all that read it.
            if state.load(Relaxed) & USED == 0 {
                state.fetch_or(USED, Relaxed);
            }
        }
        Some(element)
    }

    /// Puts an entry at a key; `fill` writes the element, which is told to be new or not.
    pub(crate) fn insert(
        &self,
        key: &[u8],
        flag: u64,
        renewal: Renewal,
        fill: impl FnOnce(u32, bool),
    ) -> Result<(), Errno> {
        assert_eq!(key.len(), self.key_size, "key size");
        with_key!(key, |key| self.insert_key(key, flag, renewal, fill))
    }

    fn insert_key<K: Key>(
        &self,
        key: K,
        flag: u64,
        renewal: Renewal,
        fill: impl FnOnce(u32, bool),
    ) -> Result<(), Errno> {
        let hash = key.hash(self.seed);
        let mut writer = self.lock();
        let old = self.buckets.place(hash, |element| key.is_in(self.key_words(element)));
        match old {
            Some(_) if flag == flags::NOEXIST => return Err(Errno::EEXIST),
            None if flag == flags::EXIST => return Err(Errno::ENOENT),
            None if writer.entries == self.max_entries => self.evict(&mut writer)?,
            _ => {}
        }
        if let Some(old) = old.filter(|_| renewal == Renewal::InPlace) {
            fill(old.element, false);
            return Ok(());
        }
        let element = writer.pool.take();
        key.store(self.key_words(element));
        self.set_state(element, LIVE);
        fill(element, true);
        match old {
            Some(old) => {
                self.buckets.replace(hash, old, element);
                self.set_state(old.element, 0);
                writer.pool.give(old.element);
            }
            None => {
                self.buckets.add(hash, element, &mut writer.overflow);
                self.count(&mut writer, 1);
            }
        }
        Ok(())
    }

    /// Takes a key out; `last` sees the element before others may have it.
    pub(crate) fn remove(&self, key: &[u8], last: impl FnOnce(u32)) -> Result<(), Errno> {
        assert_eq!(key.len(), self.key_size, "key size");
        self.remove_with(&mut self.lock(), key, last)
    }

    /// The same, by whoever keeps the other writers out.
    pub(crate) fn remove_with(
        &self,
        writer: &mut Writer,
        key: &[u8],
        last: impl FnOnce(u32),
    ) -> Result<(), Errno> {
        let element = self.unlink(writer, key).ok_or(Errno::ENOENT)?;
        last(element);
        writer.pool.give(element);
        Ok(())
    }

    /// The key after this one, by bucket; the first where this one is not in the table.
    pub(crate) fn next_key(&self, key: Option<&[u8]>) -> Option<Vec<u8>> {
        let _writer = self.lock();
        let mut from = 0;
        if let Some(key) = key {
            let bucket = self.bucket(key);
            let mut rest =
                self.buckets.all(bucket).skip_while(|element| !self.has_key(*element, key));
            if rest.next().is_some() {
                if let Some(next) = rest.next() {
                    return Some(self.key(next));
                }
                from = bucket + 1;
            }
        }
        (from..self.buckets.count())
            .find_map(|bucket| self.buckets.all(bucket).next())
            .map(|e| self.key(e))
    }

    /// How many buckets there are to walk.
    pub(crate) fn buckets(&self) -> usize {
        self.buckets.count()
    }

    /// Keys and elements of a bucket, while writers are kept out.
    pub(crate) fn bucket_entries(&self, _writer: &Writer, bucket: usize) -> Vec<(Vec<u8>, u32)> {
        self.buckets.all(bucket).map(|element| (self.key(element), element)).collect()
    }

    /// Keeps writers out.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes out an entry that was not used since the hand came by last (second chance).
    fn evict(&self, writer: &mut Writer) -> Result<(), Errno> {
        if self.state_words == 0 {
            return Err(Errno::E2BIG);
        }
        let elements = self.max_entries + SPARE + 1;
        for _ in 0..elements * 2 {
            writer.hand = ((u64::from(writer.hand) + 1) % elements) as u32;
            let state = self.values.cells().word(self.values.header(writer.hand));
            match state.load(Relaxed) {
                LIVE => {
                    let key = self.key(writer.hand);
                    let element = self.unlink(writer, &key);
                    assert_eq!(element, Some(writer.hand), "a live element has an entry");
                    writer.pool.give(writer.hand);
                    return Ok(());
                }
                _ => _ = state.fetch_and(!USED, Relaxed),
            }
        }
        // Others used every entry meanwhile.
        Err(Errno::ENOMEM)
    }

    fn unlink(&self, writer: &mut Writer, key: &[u8]) -> Option<u32> {
        let (hash, place) = with_key!(key, |key| {
            let hash = key.hash(self.seed);
            (hash, self.buckets.place(hash, |element| key.is_in(self.key_words(element))))
        });
        let place = place?;
        self.buckets.remove(hash, place, &mut writer.overflow);
        self.set_state(place.element, 0);
        self.count(writer, -1);
        Some(place.element)
    }

    fn count(&self, writer: &mut Writer, change: i64) {
        writer.entries = writer.entries.wrapping_add_signed(change);
        self.entries.store(writer.entries as usize, Relaxed);
    }

    fn set_state(&self, element: u32, state: u64) {
        if self.state_words != 0 {
            self.values.cells().word(self.values.header(element)).store(state, Relaxed);
        }
    }

    #[inline(always)]
    fn key_words(&self, element: u32) -> &[AtomicU64] {
        self.values.header_words(element, self.state_words)
    }

    fn has_key(&self, element: u32, key: &[u8]) -> bool {
        with_key!(key, |key| key.is_in(self.key_words(element)))
    }

    fn bucket(&self, key: &[u8]) -> usize {
        self.buckets.of(with_key!(key, |key| key.hash(self.seed)))
    }

    fn key(&self, element: u32) -> Vec<u8> {
        let mut key = vec![0; self.key_size];
        let words = self.values.header(element) + self.state_words;
        self.values.cells().read(words * 8, &mut key);
        key
    }
}
