//! What programs said before: an attached list of programs that only looked at parts of the
//! context and at maps says the same again while those stay the same.
//!
//! Under flood most packets are alike in what a steering program looks at (where they go), however
//! many sources send them. [`weir_bpf::Inputs`] tells which bytes of the context a run read; the
//! cache keys outcomes by all bytes that any kept run has read. Whatever else an outcome depends
//! on is in its *stamp*: the versions of the programs' maps and of the worker's sockets. A new
//! stamp forgets everything.

use weir_bpf::{Inputs, SkLookupContext};

use crate::limits::{PROGRAMS, VERDICTS};
use crate::steer::Steered;

/// Words of a context.
const WORDS: usize = size_of::<SkLookupContext>() / 8;
/// Lookups after which it is judged whether looking is worth it.
const TRIAL: u32 = 4096;
/// Hits in a trial below which the cache rests: a miss costs half of what a hit spares.
const WORTH: u32 = TRIAL / 2;
/// Runs for which it rests.
const REST: u32 = 16 * TRIAL;

const _: () = assert!(PROGRAMS <= 64, "a program's verdict is a bit");
const _: () = assert!(VERDICTS.is_power_of_two());

/// A kept outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// What became of the packet; never [`Steered::Faulted`].
    pub steered: Steered,
    /// Which programs passed: bit n for program n. The others dropped.
    pub passed: u64,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    age: u64,
    words: [u64; WORDS],
    kept: Kept,
}

/// The parts of a context that matter, and where to look for them.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    words: [u64; WORDS],
    slot: usize,
}

/// See the module.
#[derive(Debug)]
pub struct VerdictCache {
    slots: Box<[Slot]>,
    /// Grows at every forgetting: a slot of another age is empty.
    age: u64,
    stamp: u64,
    mask: [u64; WORDS],
    /// Odd, random, one for each word.
    factors: [u64; WORDS],
    tried: u32,
    hits: u32,
    resting: u32,
}

impl VerdictCache {
    /// An empty cache; `secret` makes its places ones that senders cannot guess.
    pub fn new(secret: u64) -> VerdictCache {
        let mut random = fastrand::Rng::with_seed(secret);
        let kept = Kept { steered: Steered::On, passed: 0 };
        VerdictCache {
            slots: vec![Slot { age: 0, words: [0; WORDS], kept }; VERDICTS].into_boxed_slice(),
            age: 1,
            stamp: 0,
            mask: [0; WORDS],
            factors: std::array::from_fn(|_| random.u64(..) | 1),
            tried: 0,
            hits: 0,
            resting: 0,
        }
    }

    /// Forgets everything if the stamp is another than last time.
    pub fn check(&mut self, stamp: u64) {
        if stamp != self.stamp {
            self.stamp = stamp;
            self.forget();
        }
    }

    /// Forgets everything, and which parts matter.
    pub fn forget(&mut self) {
        self.age += 1;
        self.mask = [0; WORDS];
    }

    /// Whether it should be asked: a cache that misses nearly always rests for a while.
    #[inline]
    pub fn is_worth_asking(&mut self) -> bool {
        if self.resting > 0 {
            self.resting -= 1;
            return false;
        }
        if self.tried == TRIAL {
            let was_worth_it = self.hits >= WORTH;
            (self.tried, self.hits) = (0, 0);
            if !was_worth_it {
                self.resting = REST - 1;
                return false;
            }
        }
        self.tried += 1;
        true
    }

    /// The key of a context as of now.
    #[inline]
    pub fn key(&self, context: &SkLookupContext) -> Key {
        let mut words = context.words();
        let mut hash = 0u64;
        // A product a word, none waiting for another.
        for ((word, mask), factor) in words.iter_mut().zip(self.mask).zip(self.factors) {
            *word &= mask;
            hash = hash.wrapping_add((*word ^ *word >> 32).wrapping_mul(factor));
        }
        Key { words, slot: (hash >> 32) as usize & (VERDICTS - 1) }
    }

    /// The outcome kept for the key.
    #[inline]
    pub fn find(&mut self, key: &Key) -> Option<Kept> {
        let slot = &self.slots[key.slot];
        if slot.age != self.age || slot.words != key.words {
            return None;
        }
        self.hits += 1;
        Some(slot.kept)
    }

    /// Keeps the outcome of a run on this context, if it would repeat.
    pub fn keep(&mut self, context: &SkLookupContext, inputs: Inputs, kept: Kept) {
        if !inputs.repeatable {
            return;
        }
        let wider = widened(self.mask, inputs.context_bytes);
        if wider != self.mask {
            // Keys of before left out what matters now.
            self.forget();
            self.mask = wider;
        }
        let key = self.key(context);
        self.slots[key.slot] = Slot { age: self.age, words: key.words, kept };
    }
}

/// The mask with all bits of the read bytes set.
fn widened(mut mask: [u64; WORDS], bytes: u128) -> [u64; WORDS] {
    for (index, word) in mask.iter_mut().enumerate() {
        for byte in 0..8 {
            if bytes >> (index * 8 + byte) & 1 == 1 {
                *word |= 0xff << (byte * 8);
            }
        }
    }
    mask
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(remote_port: u16, local_port: u16) -> SkLookupContext {
        let remote = format!("192.0.2.1:{remote_port}").parse().unwrap();
        let local = format!("192.0.2.2:{local_port}").parse().unwrap();
        SkLookupContext::v4(17, remote, local, 1)
    }

    const LOCAL_PORT: Inputs = Inputs { context_bytes: 0xf << 60, repeatable: true };
    const BOTH_PORTS: Inputs = Inputs { context_bytes: 0xf << 60 | 0x3 << 36, repeatable: true };
    const PASSED: Kept = Kept { steered: Steered::On, passed: 1 };
    const DROPPED: Kept = Kept { steered: Steered::Dropped, passed: 0 };

    fn find(cache: &mut VerdictCache, context: &SkLookupContext) -> Option<Kept> {
        let key = cache.key(context);
        cache.find(&key)
    }

    #[test]
    fn what_was_not_read_does_not_matter() {
        let mut cache = VerdictCache::new(5);
        cache.keep(&context(1, 80), LOCAL_PORT, PASSED);
        assert_eq!(find(&mut cache, &context(2, 80)), Some(PASSED));
        assert_eq!(find(&mut cache, &context(1, 81)), None);
    }

    #[test]
    fn what_is_read_later_matters_from_then_on() {
        let mut cache = VerdictCache::new(5);
        cache.keep(&context(1, 80), LOCAL_PORT, PASSED);
        cache.keep(&context(1, 81), BOTH_PORTS, DROPPED);
        assert_eq!(find(&mut cache, &context(2, 80)), None, "kept under a narrower key");
        assert_eq!(find(&mut cache, &context(1, 81)), Some(DROPPED));
        assert_eq!(find(&mut cache, &context(2, 81)), None);
    }

    #[test]
    fn another_stamp_forgets_and_what_does_not_repeat_is_not_kept() {
        let mut cache = VerdictCache::new(5);
        cache.check(1);
        cache.keep(&context(1, 80), Inputs { repeatable: false, ..LOCAL_PORT }, PASSED);
        assert_eq!(find(&mut cache, &context(1, 80)), None);
        cache.keep(&context(1, 80), LOCAL_PORT, PASSED);
        cache.check(1);
        assert_eq!(find(&mut cache, &context(1, 80)), Some(PASSED));
        cache.check(2);
        assert_eq!(find(&mut cache, &context(1, 80)), None);
    }

    #[test]
    fn a_cache_that_never_hits_rests() {
        let mut cache = VerdictCache::new(5);
        let asked = (0..TRIAL + REST).filter(|_| cache.is_worth_asking()).count();
        assert_eq!(asked as u32, TRIAL);
        for _ in 0..TRIAL {
            cache.is_worth_asking();
            cache.keep(&context(1, 80), LOCAL_PORT, PASSED);
            assert!(find(&mut cache, &context(1, 80)).is_some());
        }
        assert!(cache.is_worth_asking());
    }
}
