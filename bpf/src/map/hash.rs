//! Hash tables that are read without a lock (`kernel/bpf/hashtab.c`).
//!
//! Elements are chained by index. A bucket's head packs a sequence number with the first element's
//! index; whoever changes the chain changes the sequence, and whoever read it meanwhile reads
//! again. A replaced value lands in another element, so that a reader sees the old or the new one.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{Ordering::Acquire, Ordering::Relaxed, Ordering::Release, fence};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::cell::Cells;
use super::flags;
use super::values::{Source, Values};
use crate::errno::Errno;

/// Elements beyond `max_entries`, so that a full map can replace, and a replaced element rests
/// before it is used again.
const SPARE: u64 = 64;
/// How often a reader begins again when writers are at work in its bucket.
const RETRIES: usize = 64;

pub(crate) struct Hash {
    key_size: usize,
    key_words: usize,
    max_entries: u64,
    seed: [u64; 2],
    mask: u64,
    heads: Cells,
    links: Cells,
    keys: Cells,
    writer: Mutex<Writer>,
}

/// What only writers see. Element 0 stands for none.
pub(super) struct Writer {
    entries: u64,
    untouched: u64,
    free_first: u32,
    free_last: u32,
}

impl Hash {
    pub(crate) fn new(key_size: usize, max_entries: u32, seeded: bool) -> Result<Hash, Errno> {
        let elements = Hash::elements(max_entries);
        let count = usize::try_from(elements).map_err(|_| Errno::ENOMEM)?;
        if elements > u64::from(u32::MAX) {
            return Err(Errno::ENOMEM);
        }
        let buckets = u64::from(max_entries).next_power_of_two();
        let key_words = key_size.div_ceil(8);
        let random = RandomState::new();
        let seed = if seeded { [random.hash_one(0), random.hash_one(1)] } else { [0, 0] };
        Ok(Hash {
            key_size,
            key_words,
            max_entries: u64::from(max_entries),
            seed,
            mask: buckets - 1,
            heads: Cells::zeroed(buckets as usize)?,
            links: Cells::zeroed(count.div_ceil(2))?,
            keys: Cells::zeroed(count.checked_mul(key_words).ok_or(Errno::ENOMEM)?)?,
            writer: Mutex::new(Writer { entries: 0, untouched: 1, free_first: 0, free_last: 0 }),
        })
    }

    /// How many elements, the one for none included, a table has.
    pub(crate) fn elements(max_entries: u32) -> u64 {
        u64::from(max_entries) + SPARE + 1
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().entries as usize
    }

    /// The element of a key. No lock; a bounded number of new beginnings.
    #[inline]
    pub(crate) fn find(&self, key: &[u8]) -> Option<u32> {
        assert_eq!(key.len(), self.key_size, "key size");
        let bucket = self.bucket(key);
        let mut found = None;
        for _ in 0..RETRIES {
            let head = self.heads.word(bucket).load(Acquire);
            found = self.walk(head as u32, key);
            fence(Acquire);
            if self.heads.word(bucket).load(Relaxed) == head {
                break;
            }
        }
        found
    }

    /// Puts a value at a key.
    pub(crate) fn insert(
        &self,
        key: &[u8],
        value: Source<'_>,
        flag: u64,
        values: &Values,
    ) -> Result<(), Errno> {
        if flag > flags::EXIST {
            return Err(Errno::EINVAL);
        }
        let mut writer = self.lock();
        let bucket = self.bucket(key);
        let old = self.walk(self.heads.word(bucket).load(Relaxed) as u32, key);
        match old {
            Some(_) if flag == flags::NOEXIST => return Err(Errno::EEXIST),
            None if flag == flags::EXIST => return Err(Errno::ENOENT),
            None if writer.entries == self.max_entries => return Err(Errno::E2BIG),
            _ => {}
        }
        let element = self.take(&mut writer);
        self.write_key(element, key);
        values.write(u64::from(element), value);
        let head = self.heads.word(bucket).load(Relaxed);
        self.link(element).store(head as u32, Relaxed);
        self.heads.word(bucket).store(advance(head, element), Release);
        match old {
            Some(old) => self.unlink(bucket, old, &mut writer),
            None => writer.entries += 1,
        }
        Ok(())
    }

    /// Takes a key out.
    pub(crate) fn remove(&self, key: &[u8]) -> Result<(), Errno> {
        let mut writer = self.lock();
        let bucket = self.bucket(key);
        let first = self.heads.word(bucket).load(Relaxed) as u32;
        let element = self.walk(first, key).ok_or(Errno::ENOENT)?;
        self.unlink(bucket, element, &mut writer);
        writer.entries -= 1;
        Ok(())
    }

    /// The key after this one, by bucket; the first where this one is not in the table.
    pub(crate) fn next_key(&self, key: Option<&[u8]>) -> Option<Vec<u8>> {
        let _writer = self.lock();
        let mut bucket = 0;
        if let Some(key) = key {
            let at = self.bucket(key);
            if let Some(element) = self.walk(self.heads.word(at).load(Relaxed) as u32, key) {
                let next = self.link(element).load(Relaxed);
                if next != 0 {
                    return Some(self.key(next));
                }
                bucket = at + 1;
            }
        }
        let first = (bucket..=self.mask as usize)
            .map(|bucket| self.heads.word(bucket).load(Relaxed) as u32)
            .find(|element| *element != 0)?;
        Some(self.key(first))
    }

    fn key(&self, element: u32) -> Vec<u8> {
        let mut key = vec![0; self.key_size];
        self.keys.read(element as usize * self.key_words * 8, &mut key);
        key
    }

    /// Walks a chain. Bounded: a chain that changes underfoot may lead anywhere, and in circles.
    #[inline]
    fn walk(&self, first: u32, key: &[u8]) -> Option<u32> {
        let mut element = first;
        let mut left = self.max_entries + SPARE;
        while element != 0 && left > 0 {
            if self.has_key(element, key) {
                return Some(element);
            }
            element = self.link(element).load(Acquire);
            left -= 1;
        }
        None
    }

    #[inline]
    fn has_key(&self, element: u32, key: &[u8]) -> bool {
        let first = element as usize * self.key_words;
        (0..self.key_words).all(|i| self.keys.word(first + i).load(Relaxed) == key_word(key, i))
    }

    fn write_key(&self, element: u32, key: &[u8]) {
        let first = element as usize * self.key_words;
        for i in 0..self.key_words {
            self.keys.word(first + i).store(key_word(key, i), Relaxed);
        }
    }

    /// A free element: the longest free, else one never used. Readers of the chain that it was in
    /// have its change of sequence before them (the fence) ere they can see its new key.
    fn take(&self, writer: &mut Writer) -> u32 {
        if writer.untouched < self.max_entries + SPARE {
            writer.untouched += 1;
            return (writer.untouched - 1) as u32;
        }
        let element = writer.free_first;
        assert!(element != 0, "spare elements are never all in use");
        writer.free_first = self.link(element).load(Relaxed);
        if writer.free_first == 0 {
            writer.free_last = 0;
        }
        fence(Release);
        element
    }

    fn unlink(&self, bucket: usize, element: u32, writer: &mut Writer) {
        let head = self.heads.word(bucket).load(Relaxed);
        let next = self.link(element).load(Relaxed);
        if head as u32 == element {
            self.heads.word(bucket).store(advance(head, next), Release);
        } else {
            let mut previous = head as u32;
            while self.link(previous).load(Relaxed) != element {
                previous = self.link(previous).load(Relaxed);
            }
            self.link(previous).store(next, Release);
            self.heads.word(bucket).store(advance(head, head as u32), Release);
        }
        fence(Release);
        self.link(element).store(0, Relaxed);
        match writer.free_last {
            0 => writer.free_first = element,
            last => self.link(last).store(element, Relaxed),
        }
        writer.free_last = element;
    }

    #[inline]
    fn link(&self, element: u32) -> &std::sync::atomic::AtomicU32 {
        self.links.half(element as usize)
    }

    /// Folded multiplication over the key's words, keyed by a seed that nobody outside knows.
    #[inline]
    fn bucket(&self, key: &[u8]) -> usize {
        let mut hash = self.seed[0] ^ key.len() as u64;
        for i in 0..self.key_words {
            hash = fold(hash ^ key_word(key, i), self.seed[1] | 1);
        }
        (fold(hash, 0x9e37_79b9_7f4a_7c15) & self.mask) as usize
    }

    /// Keeps writers out.
    pub(super) fn lock(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A head with the next sequence number and this first element.
fn advance(head: u64, first: u32) -> u64 {
    ((head >> 32).wrapping_add(1) << 32) | u64::from(first)
}

#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

/// Eight bytes of a key; the last ones are padded with zeros.
#[inline]
fn key_word(key: &[u8], index: usize) -> u64 {
    let rest = &key[index * 8..];
    match rest.first_chunk::<8>() {
        Some(word) => u64::from_le_bytes(*word),
        None => rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)),
    }
}
