//! Models of what readers without a lock rely on, over all interleavings that the memory model
//! allows (loom). The steps are those of `map/bucket.rs`, `map/pool.rs` and `map/ring.rs`, each on
//! as few words as show them.

use loom::sync::Arc;
use loom::sync::atomic::{
    AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release, fence,
};
use loom::thread;

/// A bucket: sequence, two tags and two elements; each element is a key of two words and a value.
struct Bucket {
    sequence: AtomicU64,
    slots: [Slot; 2],
    elements: [[AtomicU64; 3]; 2],
}

struct Slot {
    tag: AtomicU64,
    element: AtomicU64,
}

const KEY: [u64; 2] = [1, 2];
const OTHER: [u64; 2] = [1, 3];

impl Bucket {
    fn new() -> Bucket {
        let zero = || AtomicU64::new(0);
        let slot = || Slot { tag: zero(), element: zero() };
        Bucket {
            sequence: zero(),
            slots: [slot(), slot()],
            elements: [[zero(), zero(), zero()], [zero(), zero(), zero()]],
        }
    }

    /// `Buckets::find`: the value's element, plus one.
    fn find(&self, key: [u64; 2]) -> Option<u64> {
        for _ in 0..4 {
            let sequence = self.sequence.load(Acquire);
            let found = self.slots.iter().find_map(|slot| {
                let tag = slot.tag.load(Acquire);
                let element = slot.element.load(Relaxed);
                (tag == 1 && element != 0 && self.has(element, key)).then_some(element)
            });
            fence(Acquire);
            if self.sequence.load(Relaxed) == sequence {
                return found;
            }
        }
        panic!("one writer changes it once");
    }

    fn has(&self, element: u64, key: [u64; 2]) -> bool {
        let words = &self.elements[element as usize - 1];
        words[0].load(Relaxed) == key[0] && words[1].load(Relaxed) == key[1]
    }

    /// `Hash::insert` of a key that is not there.
    fn add(&self, slot: usize, element: u64, key: [u64; 2]) {
        let words = &self.elements[element as usize - 1];
        words[0].store(key[0], Relaxed);
        words[1].store(key[1], Relaxed);
        words[2].store(key[1] * 10, Relaxed);
        self.slots[slot].element.store(element, Release);
        self.slots[slot].tag.store(1, Release);
    }

    /// `Buckets::change`.
    fn change(&self) {
        self.sequence.store(self.sequence.load(Relaxed) + 1, Release);
        fence(Release);
    }

    /// `Buckets::remove`, its part at the last entry.
    fn clear(&self, slot: usize) {
        self.slots[slot].element.store(0, Release);
        self.slots[slot].tag.store(0, Release);
    }
}

#[test]
fn what_is_found_is_whole() {
    loom::model(|| {
        let bucket = Arc::new(Bucket::new());
        let writer = Arc::clone(&bucket);
        let writer = thread::spawn(move || writer.add(0, 1, KEY));
        if let Some(element) = bucket.find(KEY) {
            let value = bucket.elements[element as usize - 1][2].load(Relaxed);
            assert_eq!(value, KEY[1] * 10, "published before it is whole");
        }
        writer.join().unwrap();
        assert_eq!(bucket.find(KEY), Some(1));
    });
}

/// An element is used again at once, with no grace period: what a full map may do.
#[test]
fn a_reused_element_is_not_taken_for_another_key() {
    loom::model(|| {
        let bucket = Arc::new(Bucket::new());
        bucket.add(0, 1, KEY);
        let writer = Arc::clone(&bucket);
        let writer = thread::spawn(move || {
            writer.clear(0);
            writer.change();
            // `Pool::take`.
            fence(Release);
            writer.add(0, 1, [2, 3]);
        });
        // Half of the old key and half of the new one.
        assert_eq!(bucket.find(OTHER), None, "a key that never was is found");
        writer.join().unwrap();
        assert_eq!((bucket.find(KEY), bucket.find([2, 3])), (None, Some(1)));
    });
}

#[test]
fn what_is_moved_is_found() {
    loom::model(|| {
        let bucket = Arc::new(Bucket::new());
        bucket.add(0, 1, OTHER);
        bucket.add(1, 2, KEY);
        let writer = Arc::clone(&bucket);
        let writer = thread::spawn(move || {
            // The last entry fills the gap, and is in both places until the sequence has changed.
            writer.slots[0].element.store(2, Release);
            writer.slots[0].tag.store(1, Release);
            writer.change();
            writer.clear(1);
        });
        assert_eq!(bucket.find(KEY), Some(2), "it was there all the time");
        writer.join().unwrap();
        assert_eq!((bucket.find(KEY), bucket.find(OTHER)), (Some(2), None));
    });
}

/// A ring's producer and consumer: what is consumed was committed.
#[test]
fn a_record_is_read_once_committed() {
    const BUSY: u64 = 1 << 31;
    struct Ring {
        producer: AtomicU64,
        header: AtomicU64,
        data: AtomicU64,
    }
    loom::model(|| {
        let ring = Arc::new(Ring {
            producer: AtomicU64::new(0),
            header: AtomicU64::new(0),
            data: AtomicU64::new(0),
        });
        let producer = Arc::clone(&ring);
        let producer = thread::spawn(move || {
            producer.header.store(8 | BUSY, Relaxed);
            producer.producer.store(16, Release);
            producer.data.store(7, Relaxed);
            producer.header.swap(8, std::sync::atomic::Ordering::AcqRel);
        });
        if ring.producer.load(Acquire) == 16 {
            let header = ring.header.load(Acquire);
            assert!(header == 8 || header == 8 | BUSY, "{header}");
            if header == 8 {
                assert_eq!(ring.data.load(Relaxed), 7, "read before it is written");
            }
        }
        producer.join().unwrap();
    });
}
