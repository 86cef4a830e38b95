//! After start the packet path allocates nothing, and frees nothing.

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

use support::{datagram, open_echoes, steer_programs};
use weir_dataplane::device::memory::{MemoryDevice, Wire};
use weir_dataplane::mailbox::{Command, Mailbox, Report};
use weir_dataplane::registry::Registry;
use weir_dataplane::worker::{Worker, WorkerSetup};

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

/// Counts what this thread asks of the system's allocator.
struct Counting;

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        count();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(place, layout) }
    }
}

fn count() {
    // A thread that is ending has no counter any more.
    let _ = CALLS.try_with(|calls| calls.set(calls.get() + 1));
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Goes around the same packets.
struct Carousel {
    packets: Vec<Vec<u8>>,
    next: usize,
}

impl Wire for Carousel {
    fn next(&mut self, buffer: &mut [u8]) -> usize {
        let packet = &self.packets[self.next % self.packets.len()];
        self.next += 1;
        buffer[..packet.len()].copy_from_slice(packet);
        packet.len()
    }

    fn sent(&mut self, _packet: &[u8]) -> bool {
        true
    }

    fn wait(&mut self, _timeout: Duration) {}
}

/// Compiled and interpreted, with every outcome recalled and with every program run.
#[test]
fn a_turn_allocates_nothing() {
    for (jit, verdict_cache) in [(true, true), (true, false), (false, true), (false, false)] {
        turns_allocate_nothing(jit, verdict_cache);
    }
}

fn turns_allocate_nothing(jit: bool, verdict_cache: bool) {
    let mut bad = datagram("198.51.100.1:4000", "192.0.2.1:7", b"Weir");
    bad.truncate(30);
    let packets = vec![
        datagram("198.51.100.1:4000", "192.0.2.1:7", b"Weir"),
        datagram("198.51.100.1:4001", "192.0.2.1:7", b"Weir"),
        datagram("198.51.100.1:4001", "192.0.2.1:8", b"Weir"),
        datagram("[2001:db8::2]:4000", "[2001:db8::1]:7", b"Weir"),
        bad,
    ];
    let mailbox = Mailbox::new();
    let setup = WorkerSetup { number: 0, sockets: 64, hash_key: [3, 4], ifindex: 1, verdict_cache };
    let device = MemoryDevice::new(Carousel { packets, next: 0 });
    let mut worker = Worker::new(&setup, device, mailbox.clone());
    let mut registry = Registry::new(64);
    let addresses =
        [("192.0.2.1:7", None), ("[::]:7", None), ("192.0.2.1:7", Some("198.51.100.1:4000"))];
    open_echoes(&mailbox, &mut registry, false, &addresses);
    mailbox.commands.push(Command::Attach(steer_programs(&registry, jit))).unwrap();
    worker.turn(1);
    mailbox.commands.push(Command::Report(Box::default())).unwrap();

    let before = CALLS.get();
    for turn in 0..10_000u64 {
        worker.turn(2 + turn * 1000);
    }
    assert_eq!(CALLS.get() - before, 0, "calls of the allocator in 10,000 turns");
    assert_eq!(worker.counters().received, 10_001 * 64);
    assert!(worker.counters().lookup.steered > 0, "programs ran");
    let report: Box<Report> = Box::default();
    assert!(CALLS.get() > before, "the guard counts: {report:?}");
}
