//! A queue on a veth: receive, answer, account for, close and open again.

mod support;

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use support::{Port, assert_balance, bed, binding, payload, turn_around};
use weir_lab::{Bed, BedOptions};
use weir_xsk::{
    BusyPoll, Mode, ModeRequest, OpenError, Protocol, Queue, QueueConfig, Redirect,
    interface_index, kernel::AttachMode, mtu, rx_queues,
};

const LIMIT: Duration = Duration::from_secs(5);

#[test]
fn echoes_datagrams_of_kernel_sockets() {
    let Some(bed) = bed(BedOptions::default()) else { return };
    let bindings = [
        binding("192.0.2.0/24", Protocol::Udp, Some(7)),
        binding("2001:db8::/32", Protocol::Udp, Some(7)),
    ];
    let Port { redirect, mut queue } = Port::open(&bed, &bindings);
    assert_eq!(queue.mode(), Mode::Copy);
    assert_eq!(redirect.mode(), AttachMode::Native);
    for (local, remote) in [("10.77.0.2:0", "192.0.2.9:7"), ("[fd77::2]:0", "[2001:db8::9]:7")] {
        let client = bed.peer().enter(|| UdpSocket::bind(local)).unwrap();
        client.set_read_timeout(Some(LIMIT)).unwrap();
        for round in 0..200u32 {
            // From one datagram to more than a batch at once.
            let burst = 1 + round % 100;
            for number in 0..burst {
                client.send_to(&[round, number].map(u32::to_be_bytes).concat(), remote).unwrap();
            }
            echo(&mut queue, burst as usize);
            for number in 0..burst {
                let mut answer = [0; 64];
                let (length, from) = client.recv_from(&mut answer).unwrap();
                assert_eq!(from, remote.parse().unwrap());
                assert_eq!(answer[..length], [round, number].map(u32::to_be_bytes).concat());
            }
        }
    }
    let total: u64 = 2 * (0..200).map(|round| 1 + round % 100).sum::<u64>();
    assert_eq!(redirect.counters().unwrap().redirected, total);
    assert_eq!(redirect.counters().unwrap().no_socket, 0);
    let statistics = queue.statistics().unwrap();
    assert_eq!((statistics.rx_dropped, statistics.rx_ring_full), (0, 0));
    assert_eq!((statistics.rx_invalid_descriptors, statistics.descriptors_refused), (0, 0));
    assert_eq!(statistics.tx_invalid_descriptors, 0);
}

/// Receives and sends back so many packets, with every frame accounted for at every step.
fn echo(queue: &mut Queue, count: usize) {
    let started = Instant::now();
    let mut batch = Vec::with_capacity(64);
    let mut left = count;
    while left > 0 {
        assert!(started.elapsed() < LIMIT, "{left} of {count} packets are missing");
        queue.wait(Duration::from_millis(100)).unwrap();
        let received = queue.receive(&mut batch, 64);
        assert_eq!(received, batch.len());
        assert_balance(queue, &batch);
        for frame in &mut batch {
            turn_around(queue.bytes_mut(frame));
        }
        while !batch.is_empty() {
            assert!(started.elapsed() < LIMIT, "{} packets are not sent", batch.len());
            queue.transmit(&mut batch);
            assert_balance(queue, &batch);
        }
        left -= received;
    }
}

#[test]
fn never_takes_more_than_there_is_room_for() {
    let Some(bed) = bed(BedOptions::default()) else { return };
    let Port { redirect: _redirect, mut queue } =
        Port::open(&bed, &[binding("192.0.2.0/24", Protocol::Udp, None)]);
    let client = bed.peer().enter(|| UdpSocket::bind("10.77.0.2:0")).unwrap();
    for _ in 0..50 {
        client.send_to(b"x", "192.0.2.1:1234").unwrap();
    }
    let mut small = Vec::with_capacity(3);
    let capacity = small.capacity();
    assert_eq!(queue.receive(&mut small, 64), capacity);
    assert_eq!(queue.receive(&mut small, 64), 0);
    queue.recycle(&mut small);
    assert_eq!(queue.receive(&mut small, 2), 2);
    queue.recycle(&mut small);
    assert_eq!(small.capacity(), capacity);
    assert_balance(&queue, &small);
}

#[test]
fn frames_shrink_grow_and_are_replaced() {
    let Some(bed) = bed(BedOptions::default()) else { return };
    let Port { redirect: _redirect, mut queue } = Port::open(&bed, &[]);
    let mut frame = queue.take_free().unwrap();
    assert!(queue.bytes(&frame).is_empty());
    assert_eq!(queue.capacity(&frame), 2048 - 256);
    assert!(queue.replace(&mut frame, b"0123456789"));
    queue.shrink(&mut frame, 2, 5);
    assert_eq!(queue.bytes(&frame), b"23456");
    queue.shrink(&mut frame, 0, 4);
    assert_eq!(queue.bytes(&frame), b"2345");
    queue.resize(&mut frame, 6).unwrap()[4..].copy_from_slice(b"ab");
    assert_eq!(queue.bytes(&frame), b"2345ab");
    assert!(!queue.replace(&mut frame, &[0; 2048 - 256 + 1]));
    assert!(queue.resize(&mut frame, 2048 - 256 + 1).is_none());
    assert_eq!(queue.bytes(&frame), b"2345ab");
    queue.prefetch(&frame);
    let mut back = vec![frame];
    queue.recycle(&mut back);
    assert_balance(&queue, &[]);
}

#[test]
#[should_panic(expected = "a frame of another queue")]
fn a_frame_is_no_other_queue_s() {
    let options = BedOptions { queues: 2, ..BedOptions::default() };
    let Some(bed) = bed(options) else { panic!("a frame of another queue: skipped") };
    bed.weir().enter(|| {
        let mut first = Queue::open(&QueueConfig::new(Bed::WEIR_DEVICE, 0)).unwrap();
        let second = Queue::open(&QueueConfig::new(Bed::WEIR_DEVICE, 1)).unwrap();
        let frame = first.take_free().unwrap();
        second.bytes(&frame).len()
    });
}

#[test]
fn all_frames_can_be_taken_and_come_back() {
    let Some(bed) = bed(BedOptions::default()) else { return };
    let Port { redirect: _redirect, mut queue } = Port::open(&bed, &[]);
    let mut all: Vec<_> = std::iter::from_fn(|| queue.take_free()).collect();
    assert_eq!(all.len() as u64, queue.balance().total - queue.balance().filling);
    assert_balance(&queue, &all);
    queue.recycle(&mut all);
    assert_balance(&queue, &all);
}

#[test]
fn opens_again_right_after_closing() {
    let Some(bed) = bed(BedOptions::default()) else { return };
    bed.weir().enter(|| {
        for _ in 0..10 {
            drop(Queue::open(&QueueConfig::new(Bed::WEIR_DEVICE, 0)).unwrap());
        }
    });
}

#[test]
fn refusals_say_what_to_do() {
    let Some(bed) = bed(BedOptions::default()) else { return };
    bed.weir().enter(|| {
        let good = QueueConfig::new(Bed::WEIR_DEVICE, 0);
        let _first = Queue::open(&good).unwrap();
        let error = Queue::open(&good).map(drop).unwrap_err();
        assert!(matches!(error, OpenError::Busy { .. }), "{error}");
        let error = Queue::open(&QueueConfig::new("nothing0", 0)).map(drop).unwrap_err();
        assert!(error.to_string().contains("no interface `nothing0`"), "{error}");
        let error = Queue::open(&QueueConfig::new(Bed::WEIR_DEVICE, 1)).map(drop).unwrap_err();
        assert!(error.to_string().contains("queue 1 does not exist"), "{error}");
        let odd = QueueConfig { rx_ring: 1000, ..good.clone() };
        let error = Queue::open(&odd).map(drop).unwrap_err();
        assert!(matches!(error, OpenError::Config { .. }), "{error}");
        let large = QueueConfig { frame_size: 8192, ..good };
        let error = Queue::open(&large).map(drop).unwrap_err();
        assert!(error.to_string().contains("frame_size 8192"), "{error}");
    });
}

#[test]
fn zero_copy_is_refused_not_downgraded() {
    let Some(bed) = bed(BedOptions::default()) else { return };
    let mut config = QueueConfig::new(Bed::WEIR_DEVICE, 0);
    config.mode = ModeRequest::ZeroCopy;
    let error = bed.weir().enter(|| Queue::open(&config).map(drop)).unwrap_err();
    assert!(matches!(error, OpenError::NoZeroCopy { .. }), "{error}");
}

#[test]
fn works_in_skb_mode_and_with_busy_polling() {
    let Some(bed) = bed(BedOptions::default()) else { return };
    for (request, attach, mode, busy_poll) in [
        (ModeRequest::Skb, AttachMode::Skb, Mode::Skb, None),
        (ModeRequest::Copy, AttachMode::Native, Mode::Copy, Some((20, 64))),
    ] {
        let mut config = QueueConfig::new(Bed::WEIR_DEVICE, 0);
        config.mode = request;
        config.busy_poll =
            busy_poll.map(|(microseconds, budget)| BusyPoll { microseconds, budget });
        let (mut redirect, mut queue) = bed.weir().enter(|| {
            let index = interface_index(Bed::WEIR_DEVICE).unwrap();
            let redirect = Redirect::attach(index, Some(attach)).unwrap();
            (redirect, Queue::open(&config).unwrap())
        });
        assert_eq!((queue.mode(), redirect.mode()), (mode, attach));
        redirect.register(&queue).unwrap();
        redirect.bind(&binding("192.0.2.1/32", Protocol::Any, None)).unwrap();
        let client = bed.peer().enter(|| UdpSocket::bind("10.77.0.2:0")).unwrap();
        client.set_read_timeout(Some(LIMIT)).unwrap();
        client.send_to(b"hello", "192.0.2.1:53").unwrap();
        echo(&mut queue, 1);
        let mut answer = [0; 16];
        assert_eq!(client.recv(&mut answer).unwrap(), 5);
        assert_eq!(&answer[..5], b"hello");
    }
}

#[test]
fn waits_no_longer_than_it_is_told() {
    let Some(bed) = bed(BedOptions::default()) else { return };
    let Port { redirect: _redirect, mut queue } =
        Port::open(&bed, &[binding("192.0.2.0/24", Protocol::Udp, None)]);
    let started = Instant::now();
    queue.wait(Duration::from_millis(20)).unwrap();
    assert!(started.elapsed() >= Duration::from_millis(20));
    let client = bed.peer().enter(|| UdpSocket::bind("10.77.0.2:0")).unwrap();
    client.send_to(b"wake", "192.0.2.1:1").unwrap();
    let started = Instant::now();
    queue.wait(LIMIT).unwrap();
    assert!(started.elapsed() < LIMIT);
    let mut batch = Vec::with_capacity(1);
    assert_eq!(queue.receive(&mut batch, 1), 1);
    assert_eq!(payload(queue.bytes(&batch[0])), b"wake");
    queue.recycle(&mut batch);
}

#[test]
fn interfaces_say_their_queues_and_mtu() {
    let options = BedOptions { queues: 3, mtu: 1400, ..BedOptions::default() };
    let Some(bed) = bed(options) else { return };
    bed.weir().enter(|| {
        assert_eq!(rx_queues(Bed::WEIR_DEVICE).unwrap(), 3);
        assert_eq!(mtu(Bed::WEIR_DEVICE).unwrap(), 1400);
        assert!(rx_queues("nothing0").is_err());
    });
}
