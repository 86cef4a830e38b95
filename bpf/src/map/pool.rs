//! Elements that are free, the longest free first.

use std::sync::atomic::{Ordering::Relaxed, Ordering::Release, fence};

use super::cell::Cells;
use super::grace;
use crate::errno::Errno;

/// How often what is behind a grace period is asked for, in elements taken.
const ASK_EVERY: u32 = 32;

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
    asked: u32,
}

impl Pool {
    /// `elements` counts the one for none.
    pub(crate) fn new(elements: u64) -> Result<Pool, Errno> {
        if elements > u64::from(u32::MAX) {
            return Err(Errno::ENOMEM);
        }
        let links = Cells::zeroed(elements as usize)?;
        Ok(Pool { links, untouched: 1, elements, first: 0, last: 0, asked: 0 })
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
        self.first = self.links.word(element as usize).load(Relaxed) as u32;
        if self.first == 0 {
            self.last = 0;
        }
        fence(Release);
        element
    }

    /// Gives back an element that no reader can come upon any more.
    pub(crate) fn give(&mut self, element: u32) {
        let stamp = u64::from(grace::stamp()) << 32;
        self.links.word(element as usize).store(stamp, Relaxed);
        match self.last {
            0 => self.first = element,
            last => {
                let word = self.links.word(last as usize);
                word.store(word.load(Relaxed) | u64::from(element), Relaxed);
            }
        }
        self.last = element;
    }

    fn is_rested(&mut self) -> bool {
        // To ask helps the time along, which costs: not for each element.
        self.asked += 1;
        let stamp = (self.links.word(self.first as usize).load(Relaxed) >> 32) as u32;
        if self.asked < ASK_EVERY && self.untouched < self.elements {
            return grace::is_behind(stamp);
        }
        self.asked = 0;
        grace::has_passed(stamp)
    }
}
