//! Floods into a queue: every frame is received, or dropped and counted.

mod support;

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use support::{Port, assert_balance, bed, binding};
use weir_lab::{Bed, BedOptions};
use weir_xsk::ceiling::Ceiling;
use weir_xsk::kernel::AttachMode;
use weir_xsk::{
    Binding, FloodPattern, FloodTraffic, LiveFrames, Protocol, Queue, QueueConfig, Template,
    Transmitter, interface_index,
};

fn traffic(bed: &Bed, pattern: FloodPattern) -> FloodTraffic {
    let is_ipv6 = matches!(pattern, FloodPattern::Udp6 | FloodPattern::Tcp6Syn);
    FloodTraffic {
        pattern,
        source_mac: bed.peer_mac(),
        destination_mac: bed.weir_mac(),
        source: if is_ipv6 { Bed::PEER_V6.into() } else { Bed::PEER_V4.into() },
        destination: if is_ipv6 { "2001:db8::1" } else { "192.0.2.1" }.parse().unwrap(),
        destination_port: 7,
        first_port: 1024,
        ports: 10_000,
        random_bits: 0,
        payload: 0,
    }
}

fn everything() -> [Binding; 2] {
    [binding("192.0.2.0/24", Protocol::Any, None), binding("2001:db8::/32", Protocol::Any, None)]
}

/// Receives until `done`, then until nothing comes; answers with how many came, and how long it
/// took until `done`.
fn drain(queue: &mut Queue, done: &AtomicBool) -> (u64, Duration) {
    let started = Instant::now();
    let mut batch = Vec::with_capacity(64);
    let mut received = 0;
    let mut quiet = None::<Instant>;
    let mut took = Duration::ZERO;
    loop {
        received += queue.receive(&mut batch, 64) as u64;
        assert_balance(queue, &batch);
        queue.recycle(&mut batch);
        if done.load(Ordering::Relaxed) {
            let since = *quiet.get_or_insert_with(|| {
                took = started.elapsed();
                Instant::now()
            });
            if since.elapsed() > Duration::from_millis(50) {
                return (received, took);
            }
        }
    }
}

fn flood_into(bed: &Bed, queue: &mut Queue, template: &Template, count: u64) -> (u64, u64, f64) {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            bed.peer().enter(|| {
                let index = interface_index(Bed::PEER_DEVICE).unwrap();
                let sent = LiveFrames::new(index, template).unwrap().send(count);
                done.store(true, Ordering::Relaxed);
                sent.unwrap()
            })
        });
        let (received, took) = drain(queue, &done);
        (sender.join().unwrap(), received, received as f64 / took.as_secs_f64() / 1e6)
    })
}

#[test]
fn a_million_live_frames_are_all_accounted_for() {
    let Some(bed) = bed(BedOptions::default()) else { return };
    for pattern in FloodPattern::ALL {
        let Port { redirect, mut queue } = Port::open(&bed, &everything());
        let template = Template::new(&traffic(&bed, pattern)).unwrap();
        let (sent, received, rate) = flood_into(&bed, &mut queue, &template, 1_000_000);
        let counters = redirect.counters().unwrap();
        let statistics = queue.statistics().unwrap();
        println!("{}: {received} of {sent} at {rate:.2} Mpps, {statistics:?}", pattern.as_str());
        assert_eq!(sent, 1_000_000);
        // The veth's own ring may overflow before the program sees a frame; after it, none is lost
        // unseen.
        let dropped = statistics.rx_dropped + statistics.rx_ring_full;
        assert_eq!(counters.redirected, received + dropped);
        assert!(received >= 2048, "{received}");
        assert_eq!(statistics.descriptors_refused, 0);
        assert_balance(&queue, &[]);
    }
}

#[test]
fn live_frames_have_right_checksums_and_cycle_through_the_ports() {
    let Some(bed) = bed(BedOptions { gro: true, ..BedOptions::default() }) else { return };
    for (random_bits, count) in [(0, 20), (8, 20)] {
        let mut flood = traffic(&bed, FloodPattern::Udp4);
        flood.destination = Bed::WEIR_V4.into();
        (flood.ports, flood.random_bits, flood.payload) = (5, random_bits, 11);
        let template = Template::new(&flood).unwrap();
        // A kernel socket: it checks every checksum, and drops what is wrong.
        let sink = bed.weir().enter(|| UdpSocket::bind("10.77.0.1:7")).unwrap();
        sink.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let sent = bed.peer().enter(|| {
            let index = interface_index(Bed::PEER_DEVICE).unwrap();
            LiveFrames::new(index, &template).unwrap().send(count).unwrap()
        });
        assert_eq!(sent, count);
        let mut sources = std::collections::BTreeSet::new();
        let mut ports = Vec::new();
        for _ in 0..count {
            let (length, from) = sink.recv_from(&mut [0; 64]).unwrap();
            assert_eq!(length, 11);
            ports.push(from.port());
            assert!(from.ip().to_string().starts_with("10.77.0."), "{from}");
            sources.insert(from.ip());
        }
        // Sorted: in which order the kernel delivers several flows is not what is tested.
        ports.sort_unstable();
        let each = |port: u16| std::iter::repeat_n(1024 + port, 4);
        assert_eq!(ports, (0..5).flat_map(each).collect::<Vec<_>>());
        assert_eq!(sources.len() > 1, random_bits > 0, "{sources:?}");
    }
}

#[test]
fn the_transmitter_sends_as_many_and_as_fast_as_it_is_told() {
    let Some(bed) = bed(BedOptions::default()) else { return };
    let Port { redirect, mut queue } = Port::open(&bed, &everything());
    let template = Template::new(&traffic(&bed, FloodPattern::Udp6)).unwrap();
    let done = AtomicBool::new(false);
    let (sent, took, received) = std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let queue = bed.peer().enter(|| Queue::open(&QueueConfig::new(Bed::PEER_DEVICE, 0)));
            let mut transmitter = Transmitter::new(queue.unwrap(), template);
            let fast = Instant::now();
            let mut sent = transmitter.send(200_000, None);
            assert!(transmitter.flush(Duration::from_secs(5)));
            println!("transmitter: {:.2} Mpps", sent as f64 / fast.elapsed().as_secs_f64() / 1e6);
            let slow = Instant::now();
            sent += transmitter.send(20_000, Some(100_000));
            let took = slow.elapsed();
            assert!(transmitter.flush(Duration::from_secs(5)));
            assert_balance(transmitter.queue(), &[]);
            done.store(true, Ordering::Relaxed);
            (sent, took)
        });
        let (received, _) = drain(&mut queue, &done);
        let (sent, took) = sender.join().unwrap();
        (sent, took, received)
    });
    assert_eq!(sent, 220_000);
    assert!(took >= Duration::from_millis(190), "20,000 at 100,000 a second took {took:?}");
    let statistics = queue.statistics().unwrap();
    let dropped = statistics.rx_dropped + statistics.rx_ring_full;
    assert_eq!(redirect.counters().unwrap().redirected, received + dropped);
    assert!(received >= 2048, "{received}");
}

#[test]
fn the_bare_loop_receives() {
    let Some(bed) = bed(BedOptions::default()) else { return };
    let template = Template::new(&traffic(&bed, FloodPattern::Udp4)).unwrap();
    let mut ceiling = bed.weir().enter(|| {
        let index = interface_index(Bed::WEIR_DEVICE).unwrap();
        Ceiling::open(&QueueConfig::new(Bed::WEIR_DEVICE, 0), index, AttachMode::Native).unwrap()
    });
    let stop = AtomicBool::new(false);
    let (received, took) = std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            bed.peer().enter(|| {
                let index = interface_index(Bed::PEER_DEVICE).unwrap();
                let started = Instant::now();
                LiveFrames::new(index, &template).unwrap().send(1_000_000).unwrap();
                let took = started.elapsed();
                stop.store(true, Ordering::Relaxed);
                took
            })
        });
        let received = ceiling.bare_receive_loop(&stop);
        (received, sender.join().unwrap())
    });
    println!("bare loop: {:.2} Mpps", received as f64 / took.as_secs_f64() / 1e6);
    // A little more than was sent: the kernel announces its multicast groups.
    assert!((2048..=1_000_100).contains(&received), "{received}");
}
