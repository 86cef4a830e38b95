//! Keys of a hash, specialised by their size.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A key, as the table hashes and compares it.
pub(super) trait Key: Copy {
    /// A hash that nobody can foresee who does not know the seed.
    fn hash(self, seed: [u64; 2]) -> u64;
    /// Is it this one that stands in an element, from its first word on?
    fn is_in(self, words: &[AtomicU64]) -> bool;
    /// Writes it there.
    fn store(self, words: &[AtomicU64]);
}

/// Keys of up to eight bytes, padded with zeros.
#[derive(Clone, Copy)]
pub(super) struct Word(pub(super) u64);

/// Keys of sixteen bytes.
#[derive(Clone, Copy)]
pub(super) struct Pair(pub(super) [u64; 2]);

/// All others.
#[derive(Clone, Copy)]
pub(super) struct Long<'a>(pub(super) &'a [u8]);

impl Key for Word {
    #[inline(always)]
    fn hash(self, seed: [u64; 2]) -> u64 {
        fold(self.0 ^ seed[0], seed[1])
    }

    #[inline(always)]
    fn is_in(self, words: &[AtomicU64]) -> bool {
        words[0].load(Relaxed) == self.0
    }

    fn store(self, words: &[AtomicU64]) {
        words[0].store(self.0, Relaxed);
    }
}

impl Key for Pair {
    #[inline(always)]
    fn hash(self, seed: [u64; 2]) -> u64 {
        fold(self.0[0] ^ seed[0], self.0[1] ^ seed[1])
    }

    #[inline(always)]
    fn is_in(self, words: &[AtomicU64]) -> bool {
        words.first_chunk::<2>().is_some_and(|words| {
            words[0].load(Relaxed) == self.0[0] && words[1].load(Relaxed) == self.0[1]
        })
    }

    fn store(self, words: &[AtomicU64]) {
        words[0].store(self.0[0], Relaxed);
        words[1].store(self.0[1], Relaxed);
    }
}

impl Key for Long<'_> {
    #[inline]
    fn hash(self, seed: [u64; 2]) -> u64 {
        let (pairs, rest) = self.0.as_chunks::<16>();
        let mut hash = seed[0];
        for pair in pairs {
            let pair = u128::from_le_bytes(*pair);
            hash = fold(hash ^ pair as u64, seed[1] ^ (pair >> 64) as u64);
        }
        for word in rest.chunks(8) {
            hash = fold(hash ^ padded(word), seed[1]);
        }
        hash
    }

    #[inline]
    fn is_in(self, words: &[AtomicU64]) -> bool {
        let (chunks, rest) = self.0.as_chunks::<8>();
        let same = |(chunk, word): (&[u8; 8], &AtomicU64)| {
            u64::from_le_bytes(*chunk) == word.load(Relaxed)
        };
        chunks.iter().zip(words).all(same)
            && (rest.is_empty() || words[chunks.len()].load(Relaxed) == padded(rest))
    }

    fn store(self, words: &[AtomicU64]) {
        let (chunks, rest) = self.0.as_chunks::<8>();
        for (chunk, word) in chunks.iter().zip(words) {
            word.store(u64::from_le_bytes(*chunk), Relaxed);
        }
        if !rest.is_empty() {
            words[chunks.len()].store(padded(rest), Relaxed);
        }
    }
}

/// Runs `$with` on the key of these bytes in its own type.
macro_rules! with_key {
    ($bytes:expr, |$key:ident| $with:expr) => {{
        let bytes: &[u8] = $bytes;
        if let Ok(word) = <[u8; 4]>::try_from(bytes) {
            let $key = $crate::map::key::Word(u32::from_le_bytes(word).into());
            $with
        } else if let Ok(word) = <[u8; 8]>::try_from(bytes) {
            let $key = $crate::map::key::Word(u64::from_le_bytes(word));
            $with
        } else if let Ok(pair) = <[u8; 16]>::try_from(bytes) {
            let pair = u128::from_le_bytes(pair);
            let $key = $crate::map::key::Pair([pair as u64, (pair >> 64) as u64]);
            $with
        } else {
            let $key = $crate::map::key::Long(bytes);
            $with
        }
    }};
}
pub(super) use with_key;

#[inline(always)]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

#[inline]
fn padded(rest: &[u8]) -> u64 {
    let mut word = [0; 8];
    word[..rest.len()].copy_from_slice(rest);
    u64::from_le_bytes(word)
}
