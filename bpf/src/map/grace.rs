//! When an element that was taken out may be used again: after a grace period.
//!
//! Readers are pinned (`crossbeam_epoch`), for a run or for a worker's turn. Instead of one deferred
//! function an element, there is at most one for all maps together: it says that a *stamp* has
//! passed, and with it all that was taken out before the function was deferred.

use std::sync::atomic::{AtomicU32, Ordering::AcqRel, Ordering::Acquire, Ordering::Release};

static DEFERRED: AtomicU32 = AtomicU32::new(0);
static PASSED: AtomicU32 = AtomicU32::new(0);

/// The stamp of what has just been taken out. Taking out comes first, then this.
pub(super) fn stamp() -> u32 {
    // Read and written at once, so that who defers this stamp has seen what was taken out.
    DEFERRED.fetch_add(0, AcqRel).wrapping_add(1)
}

/// Has no reader any more what was taken out with this stamp? Helps the time along.
pub(super) fn has_passed(stamp: u32) -> bool {
    if is_behind(stamp) {
        return true;
    }
    let passed = PASSED.load(Acquire);
    let guard = crossbeam_epoch::pin();
    let next = passed.wrapping_add(1);
    if DEFERRED.compare_exchange(passed, next, AcqRel, Acquire).is_ok() {
        guard.defer(move || PASSED.store(next, Release));
    }
    guard.flush();
    drop(guard);
    is_behind(stamp)
}

/// Is it known that this stamp has passed?
pub(super) fn is_behind(stamp: u32) -> bool {
    PASSED.load(Acquire).wrapping_sub(stamp) as i32 >= 0
}

#[cfg(test)]
mod tests {
    use super::{has_passed, stamp};

    #[test]
    fn a_pinned_reader_holds_the_time() {
        let reader = crossbeam_epoch::pin();
        let stamp = stamp();
        for _ in 0..100 {
            assert!(!has_passed(stamp), "a reader may still have it");
        }
        drop(reader);
        let begun = std::time::Instant::now();
        while !has_passed(stamp) {
            assert!(begun.elapsed().as_secs() < 10, "time stands still");
            std::thread::yield_now();
        }
    }
}
