//! Bloom filters (`kernel/bpf/bloom_filter.c`).

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::Ordering::Relaxed;

use super::cell::Cells;
use super::flags;
use super::key::{Key, with_key};
use crate::errno::Errno;

/// How many bits a value sets unless told otherwise.
const HASHES: u32 = 5;

pub(crate) struct Bloom {
    bits: Cells,
    mask: u64,
    hashes: u32,
    seed: [u64; 2],
}

impl Bloom {
    /// `hashes` is how many bits a value sets; 0 for five.
    pub(crate) fn new(entries: u32, hashes: u32, seeded: bool) -> Result<Bloom, Errno> {
        let hashes = if hashes == 0 { HASHES } else { hashes };
        // entries × hashes / ln 2, in powers of two, as the kernel has it.
        let bits = u64::from(entries) * u64::from(hashes) / 5 * 7;
        let bits = match bits {
            ..=64 => 64,
            _ if bits > 1 << 31 => 1 << 32,
            _ => bits.next_power_of_two(),
        };
        let random = RandomState::new();
        let seed = if seeded { random.hash_one(0) } else { 0x9e37_79b9_7f4a_7c15 };
        let cells = Cells::zeroed((bits / 64) as usize)?;
        Ok(Bloom { bits: cells, mask: bits - 1, hashes, seed: [seed, random.hash_one(1) | 1] })
    }

    pub(crate) fn push(&self, value: &[u8], flag: u64) -> Result<(), Errno> {
        if flag != flags::ANY {
            return Err(Errno::EINVAL);
        }
        for bit in self.bits_of(value) {
            self.bits.word(bit as usize / 64).fetch_or(1 << (bit % 64), Relaxed);
        }
        Ok(())
    }

    /// May it have been pushed? No lock.
    #[inline]
    pub(crate) fn holds(&self, value: &[u8]) -> bool {
        self.bits_of(value)
            .all(|bit| self.bits.word(bit as usize / 64).load(Relaxed) >> (bit % 64) & 1 == 1)
    }

    /// Two hashes make all (Kirsch and Mitzenmacher, "Less hashing, same performance").
    #[inline]
    fn bits_of(&self, value: &[u8]) -> impl Iterator<Item = u64> {
        let hash = with_key!(value, |key| key.hash(self.seed));
        let step = hash.rotate_left(32) | 1;
        let mut at = hash;
        (0..self.hashes).map(move |_| {
            at = at.wrapping_add(step);
            at & self.mask
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Bloom;

    #[test]
    fn holds_what_was_pushed_and_little_else() {
        let bloom = Bloom::new(1_000, 0, true).unwrap();
        (0..1_000_u64).for_each(|i| bloom.push(&i.to_le_bytes(), 0).unwrap());
        assert!((0..1_000_u64).all(|i| bloom.holds(&i.to_le_bytes())));
        let wrong = (1_000..101_000_u64).filter(|i| bloom.holds(&i.to_le_bytes())).count();
        // 8,192 bits, 5,000 set at most: (1 − e^(−5000/8192))⁵ = 2.0 %.
        assert!(wrong < 3_000, "{wrong} of 100,000 are taken for pushed");
    }
}
