//! What a worker does with packets, turn by turn, on a wire in memory.

mod support;

use support::{Bed, datagram, syn};
use weir_dataplane::limits::{ICMP_BURST, OUTGOING};
use weir_dataplane::mailbox::{Command, Event};
use weir_dataplane::reason::Reason;
use weir_inet::{ChecksumPolicy, ParseError, Transport, parse};

fn dropped(bed: &Bed, reason: Reason) -> u64 {
    bed.worker.counters().dropped[reason.index()]
}

#[test]
fn an_echo_goes_back_to_where_the_datagram_came_from() {
    let mut bed = Bed::new();
    for (local, from) in [("192.0.2.1:7", "198.51.100.1:4000"), ("[2001:db8::1]:7", "[::2]:4001")] {
        bed.open(local, local, None);
        let answers = bed.exchange(from, local, b"Weir");
        let [answer] = answers.as_slice() else { panic!("{} answers", answers.len()) };
        let packet = parse(answer, ChecksumPolicy::Verify).unwrap();
        assert_eq!(packet.key.local.to_string(), from);
        assert_eq!(packet.key.remote.to_string(), local);
        assert_eq!(packet.payload(answer), b"Weir");
        assert_eq!(packet.ethernet.destination, [2, 0, 0, 0, 0, 2]);
    }
    assert_eq!(bed.worker.counters().answered, 2);
    assert_eq!(bed.worker.counters().lookup.bound, 2);
}

#[test]
fn connected_before_bound_before_wildcard() {
    let mut bed = Bed::new();
    let wildcard = bed.open("wildcard", "[::]:9", None);
    let bound = bed.open("bound", "192.0.2.1:9", None);
    let connected = bed.open("connected", "192.0.2.1:9", Some("198.51.100.1:5000"));
    for (from, to) in [
        ("198.51.100.1:5000", "192.0.2.1:9"),
        ("198.51.100.1:5001", "192.0.2.1:9"),
        ("198.51.100.1:5000", "192.0.2.2:9"),
        ("[2001:db8::2]:5000", "[2001:db8::1]:9"),
    ] {
        assert_eq!(bed.exchange(from, to, b"x").len(), 1, "{from} → {to}");
    }
    assert_eq!(bed.received(connected), 1);
    assert_eq!(bed.received(bound), 1);
    assert_eq!(bed.received(wildcard), 2);
}

#[test]
fn nobodys_port_is_refused_as_the_kernel_refuses_it() {
    let mut bed = Bed::new();
    let answers = bed.exchange("198.51.100.1:4000", "192.0.2.1:7", b"Weir");
    let [answer] = answers.as_slice() else { panic!("{} answers", answers.len()) };
    let packet = parse(answer, ChecksumPolicy::Verify).unwrap();
    assert!(matches!(packet.transport, Transport::Icmp(_)));
    let about = weir_inet::icmp::quoted(answer, &packet).expect("the datagram is quoted");
    assert_eq!(about.local.to_string(), "198.51.100.1:4000");
    assert_eq!(about.remote.to_string(), "192.0.2.1:7");
    assert_eq!(bed.worker.counters().refused, 1);

    // At one moment, no more than the burst; the others are drops.
    let at = bed.now + 1_000_000_000;
    bed.worker.turn(at);
    for _ in 0..200 {
        bed.wire.inward.lock().unwrap().push_back(datagram("192.0.2.9:1", "192.0.2.1:7", b""));
    }
    for _ in 0..4 {
        bed.worker.turn(at);
    }
    assert_eq!(bed.worker.counters().refused, 1 + ICMP_BURST);
    assert_eq!(dropped(&bed, Reason::NoSocket), 200 - ICMP_BURST);
}

#[test]
fn what_is_not_a_good_datagram_is_a_counted_drop() {
    let mut bed = Bed::new();
    bed.open("echo", "192.0.2.1:7", None);
    assert!(bed.exchange_frame(syn("198.51.100.1:4000", "192.0.2.1:7")).is_empty());
    assert_eq!(dropped(&bed, Reason::NoListener), 1);
    let mut bad = datagram("198.51.100.1:4000", "192.0.2.1:7", b"Weir");
    *bad.last_mut().unwrap() ^= 1;
    assert!(bed.exchange_frame(bad).is_empty());
    assert_eq!(dropped(&bed, Reason::Parse(ParseError::UdpBadChecksum)), 1);
    assert!(bed.exchange_frame(vec![0; 10]).is_empty());
    assert_eq!(dropped(&bed, Reason::Parse(ParseError::EthernetTruncated)), 1);
    assert_eq!(bed.worker.counters().left(), 3);
}

#[test]
fn a_run_of_unfinished_checksums_names_the_peer() {
    let mut bed = Bed::new();
    bed.open("echo", "192.0.2.1:7", None);
    let mut frame = datagram("198.51.100.1:4000", "192.0.2.1:7", b"Weir");
    // What Linux leaves to the hardware: the pseudo-header's sum alone.
    let sum: u32 = [0xc633, 0x6401, 0xc000, 0x0201, 17, 12].iter().sum();
    frame[40..42].copy_from_slice(&(((sum & 0xffff) + (sum >> 16)) as u16).to_be_bytes());
    for _ in 0..20 {
        assert!(bed.exchange_frame(frame.clone()).is_empty());
    }
    assert_eq!(dropped(&bed, Reason::Parse(ParseError::UdpChecksumUnfinished)), 20);
    let peer: std::net::IpAddr = "198.51.100.1".parse().unwrap();
    let named = |event: &Event| matches!(event, Event::UnfinishedChecksums(p, 8) if *p == peer);
    assert_eq!(bed.events().iter().filter(|event| named(event)).count(), 1);
}

#[test]
fn answers_wait_for_the_transmit_ring_up_to_a_bound() {
    let mut bed = Bed::new();
    bed.open("echo", "192.0.2.1:7", None);
    *bed.wire.room.lock().unwrap() = 0;
    let sent = OUTGOING as u64 + 100;
    for _ in 0..sent {
        bed.exchange("198.51.100.1:4000", "192.0.2.1:7", b"Weir");
    }
    assert_eq!(bed.worker.counters().answered, OUTGOING as u64);
    assert_eq!(dropped(&bed, Reason::TransmitBacklog), 100);
    *bed.wire.room.lock().unwrap() = usize::MAX;
    bed.turn();
    assert_eq!(bed.worker.counters().transmitted, OUTGOING as u64);
    assert_eq!(bed.wire.outward.lock().unwrap().len(), OUTGOING);
}

#[test]
fn a_closed_socket_receives_nothing_and_its_id_stays_dead() {
    let mut bed = Bed::new();
    let id = bed.open("echo", "192.0.2.1:7", None);
    bed.command(Command::Close(id));
    bed.command(Command::Close(id));
    bed.turn();
    let closed = bed.events().iter().filter(|event| matches!(event, Event::Closed(_))).count();
    assert_eq!(closed, 1);
    bed.exchange("198.51.100.1:4000", "192.0.2.1:7", b"Weir");
    assert_eq!(bed.worker.counters().lookup.missed, 1);
}

#[test]
fn a_barrier_is_reached_after_what_came_before_it() {
    let mut bed = Bed::new();
    for number in 0..100 {
        bed.command(Command::Barrier(number));
    }
    for _ in 0..7 {
        bed.turn();
    }
    let reached: Vec<u64> = (bed.events().iter())
        .filter_map(|event| match event {
            Event::Reached(number) => Some(*number),
            _ => None,
        })
        .collect();
    assert_eq!(reached, (0..100).collect::<Vec<_>>());
}
