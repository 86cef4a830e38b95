//! Slots of what is counted: programs, maps, rings. Read without a lock, freed by epoch.

use std::sync::atomic::Ordering::{AcqRel, Acquire};

use crossbeam_epoch::{Atomic, Guard, Owned, Shared, pin};

use crate::errno::Errno;

pub(crate) struct References<T> {
    slots: Box<[Atomic<T>]>,
}

impl<T> References<T> {
    pub(crate) fn new(count: u64) -> Result<References<T>, Errno> {
        let count = usize::try_from(count).map_err(|_| Errno::ENOMEM)?;
        let mut slots = Vec::new();
        slots.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
        slots.resize_with(count, Atomic::null);
        Ok(References { slots: slots.into_boxed_slice() })
    }

    /// What is in a slot, for as long as the reader is pinned.
    #[inline]
    pub(crate) fn load<'g>(&self, index: usize, guard: &'g Guard) -> Option<&'g T> {
        let shared = self.slots.get(index)?.load(Acquire, guard);
        // SAFETY: a slot holds null or a value that `set` has allocated, published with a release,
        // and which is destroyed no sooner than all that are pinned now have been unpinned.
        unsafe { shared.as_ref() }
    }

    /// Puts something into a slot, or takes out what is there; was there anything?
    pub(crate) fn set(&self, index: usize, value: Option<T>) -> bool
    where
        T: Send + 'static,
    {
        let guard = pin();
        let new = value.map_or(Shared::null(), |value| Owned::new(value).into_shared(&guard));
        let old = self.slots[index].swap(new, AcqRel, &guard);
        if old.is_null() {
            return false;
        }
        // SAFETY: the slot does not hold it any more, so that nobody pinned from now on comes upon
        // it, and whoever swapped it out, this thread, is the only one to destroy it.
        unsafe { guard.defer_destroy(old) };
        true
    }

    /// How many slots hold something.
    pub(crate) fn len(&self) -> usize {
        let guard = pin();
        self.slots.iter().filter(|slot| !slot.load(Acquire, &guard).is_null()).count()
    }
}

impl<T> Drop for References<T> {
    fn drop(&mut self) {
        for slot in &mut self.slots {
            let slot = std::mem::replace(slot, Atomic::null());
            // SAFETY: `self` is borrowed by nobody else any more, and so are the slots.
            drop(unsafe { slot.try_into_owned() });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::References;

    #[test]
    fn what_is_taken_out_lives_as_long_as_a_reader() {
        let value = Arc::new(());
        let slots = References::new(2).unwrap();
        assert!(!slots.set(0, Some(Arc::clone(&value))));
        let guard = crossbeam_epoch::pin();
        let seen = slots.load(0, &guard).unwrap();
        assert!(slots.set(0, None) && !slots.set(1, Some(Arc::clone(&value))));
        assert!(slots.load(0, &guard).is_none());
        assert_eq!((Arc::strong_count(seen), slots.len()), (3, 1));
        drop(guard);
        drop(slots);
        let begun = std::time::Instant::now();
        while Arc::strong_count(&value) > 1 {
            assert!(begun.elapsed().as_secs() < 10, "a value leaks");
            crossbeam_epoch::pin().flush();
        }
    }
}
