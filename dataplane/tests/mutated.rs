//! Ten million mutated packets through parse and lookup: no panic, and the frames balance (the
//! worker asserts that itself at every turn).

mod support;

use std::time::Duration;

use support::{datagram, open_echoes, syn};
use weir_dataplane::device::memory::{MemoryDevice, Wire};
use weir_dataplane::mailbox::Mailbox;
use weir_dataplane::registry::Registry;
use weir_dataplane::worker::{Worker, WorkerSetup};

const PACKETS: u64 = 10_000_000;

/// Good packets with a few bytes, or the length, changed.
struct Mutator {
    random: fastrand::Rng,
    seeds: Vec<Vec<u8>>,
    made: u64,
}

impl Wire for Mutator {
    fn next(&mut self, buffer: &mut [u8]) -> usize {
        if self.made == PACKETS {
            return 0;
        }
        self.made += 1;
        let seed = &self.seeds[self.random.usize(..self.seeds.len())];
        buffer[..seed.len()].copy_from_slice(seed);
        let mut length = seed.len();
        for _ in 0..self.random.usize(..4) {
            buffer[self.random.usize(..length)] = self.random.u8(..);
        }
        match self.random.u8(..16) {
            0 => length = self.random.usize(1..=length),
            1 => length = self.random.usize(length..length + 64),
            _ => {}
        }
        length
    }

    fn sent(&mut self, packet: &[u8]) -> bool {
        // What goes out is a good packet, whatever came in. Looking at some is enough.
        if self.made.is_multiple_of(16) {
            weir_inet::parse(packet, weir_inet::ChecksumPolicy::Verify).expect("a good answer");
        }
        true
    }

    fn wait(&mut self, _timeout: Duration) {}
}

fn seeds() -> Vec<Vec<u8>> {
    let plain = datagram("198.51.100.1:4000", "192.0.2.1:7", b"Weir");
    let mut tagged = plain.clone();
    tagged.splice(12..12, [0x88, 0xa8, 0, 5, 0x81, 0, 0, 6]);
    let mut zero = plain.clone();
    zero[40..42].fill(0);
    let mut extended = datagram("[2001:db8::2]:4000", "[2001:db8::1]:7", b"Weir");
    // Destination options of eight bytes, padded, before UDP; payload length with them.
    extended.splice(54..54, [17, 0, 1, 4, 0, 0, 0, 0]);
    extended[20] = 60;
    extended[19] += 8;
    let six = datagram("[2001:db8::2]:4000", "[2001:db8::1]:7", &[1; 900]);
    let elsewhere = datagram("198.51.100.1:4000", "192.0.2.1:8", b"");
    vec![plain, tagged, zero, extended, six, elsewhere, syn("198.51.100.1:1", "192.0.2.1:7")]
}

#[test]
fn ten_million_mutated_packets() {
    let wire = Mutator { random: fastrand::Rng::with_seed(2026), seeds: seeds(), made: 0 };
    let mailbox = Mailbox::new();
    let setup =
        WorkerSetup { number: 0, sockets: 64, hash_key: [3, 4], ifindex: 1, verdict_cache: true };
    let mut worker = Worker::new(&setup, MemoryDevice::new(wire), mailbox.clone());
    let mut registry = Registry::new(64);
    let addresses = [
        ("192.0.2.1:7", None),
        ("[::]:7", None),
        ("192.0.2.1:7", Some("198.51.100.1:4000")),
        ("[2001:db8::1]:7", Some("[2001:db8::2]:4000")),
    ];
    open_echoes(&mailbox, &mut registry, true, &addresses);
    let mut now = 0;
    while worker.counters().received < PACKETS {
        now += 10_000;
        worker.turn(now);
    }
    let counters = worker.counters();
    assert_eq!(counters.left(), PACKETS);
    assert!(counters.answered > PACKETS / 10, "{counters:?}");
    assert!(counters.dropped_total() > PACKETS / 10, "{counters:?}");
    assert!(counters.refused > 100, "{counters:?}");
    assert!(counters.lookup.connected > PACKETS / 20, "{counters:?}");
    assert!(counters.lookup.wildcard > 50, "{counters:?}");
}
