//! Ring buffers of variable records (`kernel/bpf/ringbuf.c`), both ways.
//!
//! The kernel maps its data pages twice in a row, so that a record that reaches over the end is in
//! one piece. Here the data is followed by as much room: a record is where its header is, and goes
//! on beyond the end. Positions, headers and what fits are the kernel's.

use std::sync::atomic::{
    AtomicBool, AtomicU32, AtomicU64, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed,
    Ordering::Release, Ordering::SeqCst,
};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::cell::Cells;
use super::values::Source;
use crate::errno::Errno;

/// `BPF_RB_NO_WAKEUP`: whoever waits is not woken.
pub const NO_WAKEUP: u64 = 1;
/// `BPF_RB_FORCE_WAKEUP`: whoever waits is woken in any case.
pub const FORCE_WAKEUP: u64 = 2;

/// `BPF_RINGBUF_BUSY_BIT`: reserved, not yet committed.
const BUSY: u32 = 1 << 31;
/// `BPF_RINGBUF_DISCARD_BIT`: to be passed over.
const DISCARD: u32 = 1 << 30;
/// `BPF_RINGBUF_HDR_SZ`.
const HEADER: u64 = 8;
/// `RINGBUF_MAX_RECORD_SZ`.
const MAX_RECORD: u64 = u32::MAX as u64 / 4;
/// `DYNPTR_MAX_SIZE`: the longest sample that a program can be handed.
const MAX_SAMPLE: u64 = (1 << 24) - 1;
/// `BPF_MAX_USER_RINGBUF_SAMPLES`.
const MAX_SAMPLES: u32 = 128 << 10;

/// A ring: of RINGBUF, programs produce and the control plane consumes; of USER_RINGBUF, the other
/// way round.
pub struct Ring {
    data: Cells,
    size: u64,
    producer: AtomicU64,
    consumer: AtomicU64,
    /// Up to where all is committed; who holds it reserves.
    pending: Mutex<u64>,
    consuming: AtomicBool,
    lost: AtomicU64,
    wakeups: AtomicU64,
    waiting: AtomicU32,
    sleep: Mutex<()>,
    bell: Condvar,
}

/// A reserved record: the byte of the ring's data that it begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record(pub u64);

impl Ring {
    /// `size` is a power of two.
    pub(crate) fn new(size: u32) -> Result<Ring, Errno> {
        Ok(Ring {
            data: Cells::zeroed(size as usize / 8 * 2)?,
            size: size.into(),
            producer: AtomicU64::new(0),
            consumer: AtomicU64::new(0),
            pending: Mutex::new(0),
            consuming: AtomicBool::new(false),
            lost: AtomicU64::new(0),
            wakeups: AtomicU64::new(0),
            waiting: AtomicU32::new(0),
            sleep: Mutex::new(()),
            bell: Condvar::new(),
        })
    }

    /// `bpf_ringbuf_reserve`: room for a record of `size` bytes; `None` if there is none.
    pub fn reserve(&self, size: u64) -> Option<Record> {
        if size > MAX_RECORD {
            return None;
        }
        let length = (size + HEADER).next_multiple_of(8);
        if length > self.size {
            return None;
        }
        let consumer = self.consumer.load(Acquire);
        let mut pending = lock(&self.pending);
        let producer = self.producer.load(Relaxed);
        while producer > *pending {
            let header = self.header(*pending).load(Acquire);
            if header & BUSY != 0 {
                break;
            }
            *pending += span(header);
        }
        let end = producer + length;
        if end - consumer > self.size - 1 || end - *pending > self.size - 1 {
            return None;
        }
        let at = producer & (self.size - 1);
        // The header's second half is its page, counted from the kernel's first page of positions.
        self.data.half(at as usize / 4 + 1).store((at >> 12) as u32 + 3, Relaxed);
        self.header(producer).store(size as u32 | BUSY, Relaxed);
        self.producer.store(end, Release);
        Some(Record(at + HEADER))
    }

    /// `bpf_ringbuf_submit`: the record is to be consumed.
    pub fn submit(&self, record: Record, flags: u64) {
        self.commit(record, flags, 0);
    }

    /// `bpf_ringbuf_discard`: the record is to be passed over.
    pub fn discard(&self, record: Record, flags: u64) {
        self.commit(record, flags, DISCARD);
    }

    /// `bpf_ringbuf_output`: a record with these bytes.
    ///
    /// # Errors
    /// `EINVAL` for unknown flags, `EAGAIN` if there is no room.
    pub fn output(&self, bytes: &[u8], flags: u64) -> Result<(), Errno> {
        self.output_from(Source::Bytes(bytes), bytes.len() as u64, flags)
    }

    pub(crate) fn output_from(
        &self,
        source: Source<'_>,
        size: u64,
        flags: u64,
    ) -> Result<(), Errno> {
        if flags & !(NO_WAKEUP | FORCE_WAKEUP) != 0 {
            return Err(Errno::EINVAL);
        }
        let Some(record) = self.reserve(size) else {
            self.lost.fetch_add(1, Relaxed);
            return Err(Errno::EAGAIN);
        };
        let at = record.0 as usize;
        match source {
            Source::Bytes(bytes) => self.data.write(at, bytes),
            Source::Cells(cells, from) => {
                for byte in (0..size as usize).step_by(8) {
                    let mut chunk = [0; 8];
                    let chunk = &mut chunk[..(size as usize - byte).min(8)];
                    cells.read(from + byte, chunk);
                    self.data.write(at + byte, chunk);
                }
            }
        }
        self.submit(record, flags);
        Ok(())
    }

    /// Writes to a reserved record, from its byte `at` on.
    ///
    /// # Panics
    /// When that reaches beyond the record.
    pub fn write(&self, record: Record, at: usize, bytes: &[u8]) {
        let header = self.data.half((record.0 - HEADER) as usize / 4).load(Relaxed);
        assert!(header & BUSY != 0, "a record that is not reserved");
        assert!(at + bytes.len() <= (header & !(BUSY | DISCARD)) as usize, "beyond the record");
        self.data.write(record.0 as usize + at, bytes);
    }

    /// `bpf_ringbuf_query`: 0 what is to be consumed, 1 the size, 2 the consumer's and 3 the
    /// producer's position; 0 for anything else.
    pub fn query(&self, what: u64) -> u64 {
        match what {
            0 => self.producer.load(Acquire) - self.consumer.load(Acquire),
            1 => self.size,
            2 => self.consumer.load(Acquire),
            3 => self.producer.load(Acquire),
            _ => 0,
        }
    }

    /// Consumes up to `most` records, without waiting; how many that were. Nothing while another
    /// consumes.
    pub fn consume(&self, most: usize, mut each: impl FnMut(&[u8])) -> usize {
        let Some(_only) = Consuming::begin(self) else { return 0 };
        let mut count = 0;
        let mut bytes = Vec::new();
        while count < most {
            match self.peek(MAX_RECORD) {
                Ok(Some((at, size))) => {
                    bytes.resize(size as usize, 0);
                    self.data.read(at as usize, &mut bytes);
                    // The place is free before the record is looked at, which may take its time.
                    self.release(size);
                    each(&bytes);
                    count += 1;
                }
                Ok(None) => {}
                Err(_) => break,
            }
        }
        count
    }

    /// `bpf_user_ringbuf_drain`: hands samples to `each` (their first byte in the ring's data, and
    /// their size) until it says otherwise than 0; how many that were.
    ///
    /// # Errors
    /// `EINVAL` for unknown flags, `EBUSY` while another drains, `E2BIG` for a sample that is longer
    /// than 16 MiB.
    pub fn drain(&self, flags: u64, mut each: impl FnMut(u64, u64) -> u64) -> Result<u64, Errno> {
        if flags & !(NO_WAKEUP | FORCE_WAKEUP) != 0 {
            return Err(Errno::EINVAL);
        }
        let only = Consuming::begin(self).ok_or(Errno::EBUSY)?;
        let (mut samples, mut seen) = (0, 0);
        let mut failed = None;
        while seen < MAX_SAMPLES {
            match self.peek(MAX_SAMPLE) {
                Err(Errno::EAGAIN) => break,
                Err(errno) => {
                    failed = Some(errno);
                    break;
                }
                Ok(None) => seen += 1,
                Ok(Some((at, size))) => {
                    seen += 1;
                    samples += 1;
                    let more = each(at, size) == 0;
                    self.release(size);
                    if !more {
                        break;
                    }
                }
            }
        }
        drop(only);
        if flags & FORCE_WAKEUP != 0 || (flags & NO_WAKEUP == 0 && seen > 0) {
            self.wake();
        }
        failed.map_or(Ok(samples), Err)
    }

    /// Bytes of a sample that is being drained.
    pub fn read(&self, at: u64, out: &mut [u8]) {
        self.data.read(at as usize, out);
    }

    /// How often whoever waits was to be woken.
    pub fn wakeups(&self) -> u64 {
        self.wakeups.load(SeqCst)
    }

    /// Outputs for which there was no room.
    pub fn lost(&self) -> u64 {
        self.lost.load(Relaxed)
    }

    /// Waits until `wakeups` is another than `seen`, or the time is over; is it?
    pub fn wait(&self, seen: u64, timeout: Duration) -> bool {
        let end = Instant::now() + timeout;
        let mut sleep = lock(&self.sleep);
        self.waiting.fetch_add(1, SeqCst);
        while self.wakeups.load(SeqCst) == seen {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            sleep = self
                .bell
                .wait_timeout(sleep, left)
                .map_or_else(|poisoned| poisoned.into_inner().0, |(sleep, _)| sleep);
        }
        self.waiting.fetch_sub(1, SeqCst);
        drop(sleep);
        self.wakeups.load(SeqCst) != seen
    }

    /// Where the data is: what compiled programs reach records by. As long as a record may be, its
    /// bytes are in one piece.
    pub fn start(&self) -> *mut u8 {
        self.data.start()
    }

    fn commit(&self, record: Record, flags: u64, discard: u32) {
        let at = record.0 - HEADER;
        let header = self.data.half(at as usize / 4);
        let length = header.load(Relaxed);
        assert!(length & BUSY != 0, "a record is committed once");
        header.swap(length ^ BUSY | discard, AcqRel);
        // Has the consumer caught up, and waits for this very record?
        let caught_up = self.consumer.load(Acquire) & (self.size - 1) == at;
        if flags & FORCE_WAKEUP != 0 || (caught_up && flags & NO_WAKEUP == 0) {
            self.wake();
        }
    }

    /// The next sample's first byte and size; `None` where one was passed over; `EAGAIN` if there
    /// is none.
    fn peek(&self, longest: u64) -> Result<Option<(u64, u64)>, Errno> {
        let consumer = self.consumer.load(Relaxed);
        if consumer >= self.producer.load(Acquire) {
            return Err(Errno::EAGAIN);
        }
        let header = self.header(consumer).load(Acquire);
        let size = u64::from(header & !(BUSY | DISCARD));
        if header & BUSY != 0 {
            return Err(Errno::EAGAIN);
        }
        if size > longest {
            return Err(Errno::E2BIG);
        }
        if header & DISCARD != 0 {
            self.release(size);
            return Ok(None);
        }
        Ok(Some(((consumer & (self.size - 1)) + HEADER, size)))
    }

    fn release(&self, size: u64) {
        let consumer = self.consumer.load(Relaxed);
        self.consumer.store(consumer + (size + HEADER).next_multiple_of(8), Release);
    }

    fn header(&self, position: u64) -> &AtomicU32 {
        self.data.half((position & (self.size - 1)) as usize / 4)
    }

    fn wake(&self) {
        self.wakeups.fetch_add(1, SeqCst);
        if self.waiting.load(SeqCst) > 0 {
            drop(lock(&self.sleep));
            self.bell.notify_all();
        }
    }
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring")
            .field("size", &self.size)
            .field("producer", &self.producer)
            .field("consumer", &self.consumer)
            .finish_non_exhaustive()
    }
}

/// There is one consumer at a time.
struct Consuming<'a>(&'a AtomicBool);

impl Consuming<'_> {
    fn begin(ring: &Ring) -> Option<Consuming<'_>> {
        let free = ring.consuming.compare_exchange(false, true, AcqRel, Relaxed).is_ok();
        free.then(|| Consuming(&ring.consuming))
    }
}

impl Drop for Consuming<'_> {
    fn drop(&mut self) {
        self.0.store(false, Release);
    }
}

/// Bytes that a record with this header takes.
fn span(header: u32) -> u64 {
    (u64::from(header & !(BUSY | DISCARD)) + HEADER).next_multiple_of(8)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::{FORCE_WAKEUP, NO_WAKEUP, Record, Ring};
    use crate::errno::Errno;
    use std::time::Duration;

    #[test]
    fn records_come_in_order_over_the_end() {
        let ring = Ring::new(4096).unwrap();
        let mut seen = Vec::new();
        for i in 0..1_000_u32 {
            let bytes: Vec<u8> = (0..i % 300).map(|byte| (byte + i) as u8).collect();
            ring.output(&bytes, 0).unwrap();
            if i % 5 == 0 {
                ring.consume(usize::MAX, |record| seen.push(record.to_vec()));
            }
        }
        ring.consume(usize::MAX, |record| seen.push(record.to_vec()));
        assert_eq!(seen.len(), 1_000);
        for (i, record) in seen.iter().enumerate() {
            let expected = (0..i as u32 % 300).map(|byte| (byte + i as u32) as u8);
            assert!(record.iter().copied().eq(expected), "record {i}");
        }
    }

    #[test]
    fn what_is_reserved_holds_back_the_rest() {
        let ring = Ring::new(4096).unwrap();
        let first = ring.reserve(16).unwrap();
        ring.output(b"second", 0).unwrap();
        assert_eq!(ring.consume(9, |_| panic!("the first is not committed")), 0);
        let gone = ring.reserve(8).unwrap();
        ring.discard(gone, 0);
        ring.write(first, 8, &[7; 8]);
        ring.submit(first, 0);
        let mut seen = Vec::new();
        assert_eq!(ring.consume(9, |record| seen.push(record.to_vec())), 2);
        assert_eq!(seen, [[[0; 8], [7; 8]].concat(), b"second".to_vec()]);
        assert_eq!((ring.query(0), ring.query(2)), (0, ring.query(3)));
    }

    #[test]
    fn full_is_one_byte_less_than_its_size() {
        let ring = Ring::new(4096).unwrap();
        assert_eq!(ring.reserve(4089), None);
        assert_eq!(ring.reserve(4088), None, "all of it would look empty");
        assert_eq!(ring.reserve(4080), Some(Record(8)));
        assert_eq!(ring.output(&[], 0), Err(Errno::EAGAIN));
        assert_eq!(ring.output(&[], 4), Err(Errno::EINVAL));
        assert_eq!((ring.query(0), ring.query(1), ring.query(9)), (4088, 4096, 0));
    }

    #[test]
    fn wakes_whoever_has_caught_up() {
        let ring = Ring::new(4096).unwrap();
        ring.output(b"a", 0).unwrap();
        assert_eq!(ring.wakeups(), 1);
        ring.output(b"b", 0).unwrap();
        assert_eq!(ring.wakeups(), 1, "the consumer has not seen the first");
        ring.output(b"c", FORCE_WAKEUP).unwrap();
        assert_eq!(ring.wakeups(), 2);
        ring.consume(9, |_| {});
        ring.output(b"d", NO_WAKEUP).unwrap();
        assert!(!ring.wait(2, Duration::ZERO));
        ring.consume(9, |_| {});
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| ring.wait(2, Duration::from_secs(20)));
            ring.output(b"e", 0).unwrap();
            assert!(waiter.join().unwrap());
        });
    }

    #[test]
    fn drains_until_told_to_stop() {
        let ring = Ring::new(4096).unwrap();
        for byte in 0..5_u8 {
            ring.output(&[byte; 3], 0).unwrap();
        }
        let mut seen = Vec::new();
        let count = ring.drain(0, |at, size| {
            let mut bytes = vec![0; size as usize];
            ring.read(at, &mut bytes);
            seen.push(bytes);
            assert_eq!(ring.drain(0, |_, _| 0), Err(Errno::EBUSY));
            u64::from(seen.len() == 3)
        });
        assert_eq!((count, seen.len(), seen[2].as_slice()), (Ok(3), 3, &[2, 2, 2][..]));
        assert_eq!(ring.drain(8, |_, _| 0), Err(Errno::EINVAL));
        assert_eq!((ring.drain(0, |_, _| 0), ring.drain(0, |_, _| 0)), (Ok(2), Ok(0)));
    }

    #[test]
    fn several_producers_lose_nothing() {
        let ring = Ring::new(4096).unwrap();
        let mut last = [0_u64; 3];
        std::thread::scope(|scope| {
            for who in 0..3_u64 {
                let ring = &ring;
                scope.spawn(move || {
                    for i in 1..=2_000_u64 {
                        while ring.output(&(who << 32 | i).to_le_bytes(), 0).is_err() {
                            std::thread::yield_now();
                        }
                    }
                });
            }
            while last.iter().sum::<u64>() < 6_000 {
                ring.consume(64, |record| {
                    let word = u64::from_le_bytes(record.try_into().unwrap());
                    let (who, i) = ((word >> 32) as usize, word & 0xffff_ffff);
                    assert_eq!(i, last[who] + 1, "in order, each once");
                    last[who] = i;
                });
            }
        });
    }
}
