//! Elements that are free, the longest free first.

use std::sync::atomic::{Ordering::Relaxed, Ordering::Release, fence};

use super::cell::Cells;
use super::grace;
use crate::errno::Errno;

/// How many elements are stamped at once, and how often what has passed is asked for: both cost
/// more than what is done with an element.
const BATCH: u32 = 32;

/// Free elements of a map. Element 0 stands for none and is never free.
///
/// An element rests until a grace period has passed while others are free. Only when all others are
/// in use is the longest free one used earlier, as the kernel's preallocated maps always do.
pub(crate) struct Pool {
    /// For each element: the stamp of when it became free above, the next free one below.
    links: Cells,
    untouched: u64,
    elements: u64,
    first: u32,
    last: u32,
    /// The first one without a stamp, and how many there are.
    unstamped: u32,
    fresh: u32,
    asked: u32,
}

impl Pool {
    /// `elements` counts the one for none.
    pub(crate) fn new(elements: u64) -> Result<Pool, Errno> {
        if elements > u64::from(u32::MAX) {
            return Err(Errno::ENOMEM);
        }
        let links = Cells::zeroed(elements as usize)?;
        let (first, last, unstamped, fresh, asked) = (0, 0, 0, 0, 0);
        Ok(Pool { links, untouched: 1, elements, first, last, unstamped, fresh, asked })
    }

    /// A free element. What readers could still compare with is changed only after a fence: they
    /// see that the chain which it was in has changed ere they see what is written to it.
    ///
    /// # Panics
    /// When all are in use: the map's owner counts.
    pub(crate) fn take(&mut self) -> u32 {
        let rested = self.first != 0 && self.is_rested();
        if !rested && self.untouched < self.elements {
            self.untouched += 1;
            return (self.untouched - 1) as u32;
        }
        let element = self.first;
        assert!(element != 0, "there are more elements than entries");
        if element == self.unstamped {
            self.stamp();
        }
        self.first = self.links.word(element as usize).load(Relaxed) as u32;
        if self.first == 0 {
            self.last = 0;
        }
        fence(Release);
        element
    }

    /// Gives back an element that no reader can come upon any more.
    pub(crate) fn give(&mut self, element: u32) {
        self.links.word(element as usize).store(0, Relaxed);
        match self.last {
            0 => self.first = element,
            last => {
                let word = self.links.word(last as usize);
                word.store(word.load(Relaxed) | u64::from(element), Relaxed);
            }
        }
        self.last = element;
        if self.unstamped == 0 {
            self.unstamped = element;
        }
        self.fresh += 1;
        if self.fresh == BATCH {
            self.stamp();
        }
    }

    /// Stamps what was given since: at most a batch.
    fn stamp(&mut self) {
        let stamp = u64::from(grace::stamp()) << 32;
        let mut element = self.unstamped;
        while element != 0 {
            let word = self.links.word(element as usize);
            let next = word.load(Relaxed);
            word.store(next | stamp, Relaxed);
            element = next as u32;
        }
        self.unstamped = 0;
        self.fresh = 0;
    }

    fn is_rested(&mut self) -> bool {
        if self.first == self.unstamped {
            return false;
        }
        let stamp = (self.links.word(self.first as usize).load(Relaxed) >> 32) as u32;
        self.asked += 1;
        if self.asked < BATCH {
            return grace::is_behind(stamp);
        }
        self.asked = 0;
        grace::has_passed(stamp)
    }
}

#[cfg(test)]
mod tests {
    use super::Pool;

    #[test]
    fn gives_each_element_to_one_at_a_time() {
        let mut pool = Pool::new(101).unwrap();
        let mut taken = Vec::new();
        let mut random = 1_u64;
        for _ in 0..20_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let at = (random >> 33) as usize;
            if taken.len() < 100 && (taken.is_empty() || at.is_multiple_of(2)) {
                let element = pool.take();
                assert!((1..=100).contains(&element) && !taken.contains(&element));
                taken.push(element);
            } else {
                pool.give(taken.swap_remove(at / 2 % taken.len()));
            }
        }
    }

    #[test]
    fn what_a_reader_may_hold_rests_while_others_are_free() {
        let _reader = crossbeam_epoch::pin();
        let mut pool = Pool::new(1_001).unwrap();
        let first = pool.take();
        pool.give(first);
        assert!((0..999).all(|_| pool.take() != first));
        assert_eq!(pool.take(), first, "there is no other");
    }
}
