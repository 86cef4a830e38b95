//! Answers: those made in place, those refused, and the silence that is due.

mod frames;

use proptest::prelude::*;
use weir_inet::build::Envelope;
use weir_inet::{
    ChecksumPolicy, ChecksumState, Packet, VlanTag, VlanTags, build, icmp, parse, udp,
};

fn parsed(frame: &[u8]) -> Packet {
    parse(frame, ChecksumPolicy::Verify).expect("a good frame")
}

fn turned(envelope: &Envelope) -> Envelope {
    Envelope {
        ethernet: envelope.ethernet.reversed(),
        source: envelope.destination,
        destination: envelope.source,
        ..*envelope
    }
}

#[test]
fn a_reply_byte_for_byte() {
    let mut frame = frames::captured("udp4");
    let packet = parsed(&frame);
    let range = udp::reply_in_place(&mut frame, &packet).expect("a reply");
    #[rustfmt::skip]
    let expected = [
        2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x08, 0x00,
        0x45, 0, 0, 32, 0, 0, 0x40, 0, 64, 17, 0xb6, 0xc9, 192, 0, 2, 2, 192, 0, 2, 1,
        0x00, 0x07, 0x9c, 0x44, 0, 12, 0xfe, 0xae, b'w', b'e', b'i', b'r',
    ];
    assert_eq!(frame[range], expected);
}

#[test]
fn options_and_extension_headers_are_not_reflected() {
    for (name, dropped) in [("udp4-options", 4), ("udp6-destination-options", 8)] {
        let mut frame = frames::captured(name);
        let packet = parsed(&frame);
        let payload = packet.payload(&frame).to_vec();
        let range = udp::reply_in_place(&mut frame, &packet).expect(name);
        assert_eq!(range, dropped..frame.len(), "{name}");
        let reply = parsed(&frame[range.clone()]);
        assert_eq!(reply.payload(&frame[range]), payload, "{name}");
    }
}

#[test]
fn trailers_are_not_sent_back() {
    let envelope = frames::envelope("192.0.2.1:4000", "198.51.100.1:7");
    let mut frame = frames::udp_frame(&envelope, b"x");
    let length = frame.len();
    frame.resize(60, 0xaa);
    let packet = parsed(&frame);
    assert_eq!(udp::reply_in_place(&mut frame, &packet), Some(0..length));
}

#[test]
fn an_unverified_checksum_is_not_reflected() {
    let mut frame = frames::captured("udp4-unfinished");
    let packet = parse(&frame, ChecksumPolicy::NetworkOnly).expect("not verified");
    assert_eq!(packet.checksum, ChecksumState::Unchecked);
    let range = udp::reply_in_place(&mut frame, &packet).expect("a reply");
    assert_eq!(parsed(&frame[range]).checksum, ChecksumState::Verified);
}

#[test]
fn a_datagram_without_checksum_is_answered_with_one() {
    let mut frame = frames::captured("udp4-no-checksum");
    let packet = parsed(&frame);
    assert_eq!(packet.checksum, ChecksumState::Absent);
    let range = udp::reply_in_place(&mut frame, &packet).expect("a reply");
    assert_eq!(parsed(&frame[range]).checksum, ChecksumState::Verified);
}

#[test]
fn only_datagrams_between_hosts_are_answered() {
    let good = frames::envelope("192.0.2.1:4000", "198.51.100.1:7");
    let mut cases = vec![
        frames::envelope("192.0.2.1:4000", "224.0.0.251:5353"),
        frames::envelope("192.0.2.1:4000", "255.255.255.255:7"),
        frames::envelope("192.0.2.1:4000", "0.0.0.0:7"),
        frames::envelope("0.0.0.0:68", "255.255.255.255:67"),
        frames::envelope("[2001:db8::1]:4000", "[ff02::fb]:5353"),
        frames::envelope("[::]:4000", "[2001:db8::2]:7"),
        frames::envelope("[2001:db8::1]:4000", "[::]:7"),
    ];
    let mut broadcast = good;
    broadcast.ethernet.destination = [0xff; 6];
    let mut group = good;
    group.ethernet.source = [0x01, 0, 0x5e, 0, 0, 1];
    cases.extend([broadcast, group]);
    let mut out = [0; 1500];
    for envelope in cases {
        let mut frame = frames::udp_frame(&envelope, b"who");
        let before = frame.clone();
        let packet = parsed(&frame);
        assert_eq!(udp::reply_in_place(&mut frame, &packet), None, "{envelope:?}");
        assert_eq!(udp::reply_rewritten(&mut frame, &packet, 1), None, "{envelope:?}");
        assert_eq!(icmp::unreachable_port(&frame, &packet, &mut out), None, "{envelope:?}");
        assert_eq!(frame, before);
    }
    for source in ["127.0.0.1:9", "240.0.0.1:9"] {
        let frame = frames::udp_frame(&frames::envelope(source, "198.51.100.1:7"), b"who");
        assert_eq!(icmp::unreachable_port(&frame, &parsed(&frame), &mut out), None, "{source}");
    }
    let frame = frames::udp_frame(&good, b"who");
    assert!(icmp::unreachable_port(&frame, &parsed(&frame), &mut out).is_some());
}

#[test]
fn errors_and_segments_are_never_answered_with_errors() {
    for name in ["udp4-unreachable", "udp6-unreachable", "icmp-echo-request", "tcp4-syn"] {
        let mut frame = frames::captured(name);
        let packet = parsed(&frame);
        assert_eq!(icmp::unreachable_port(&frame, &packet, &mut [0; 1500]), None, "{name}");
        assert_eq!(udp::reply_in_place(&mut frame, &packet), None, "{name}");
        assert_eq!(frame, frames::captured(name));
    }
}

#[test]
fn a_buffer_too_short_is_left_alone() {
    let frame = frames::captured("udp6");
    let packet = parsed(&frame);
    let mut whole = [0; 1500];
    let length = icmp::unreachable_port(&frame, &packet, &mut whole).expect("it fits");
    for short in 0..length {
        assert_eq!(icmp::unreachable_port(&frame, &packet, &mut vec![0; short]), None);
    }
    assert_eq!(icmp::unreachable_port(&frame, &packet, &mut vec![0; length]), Some(length));

    let envelope = frames::envelope("192.0.2.1:4000", "198.51.100.1:7");
    for short in 0..46 {
        assert_eq!(build::udp(&mut vec![0; short], &envelope, b"weir"), None);
    }
    for short in 0..54 {
        assert_eq!(build::tcp_syn(&mut vec![0; short], &envelope, 7), None);
    }
    assert_eq!(build::udp(&mut [0; 46], &envelope, b"weir"), Some(46));
    assert_eq!(build::tcp_syn(&mut [0; 54], &envelope, 7), Some(54));
}

#[test]
fn families_do_not_mix_and_lengths_have_limits() {
    let mut mixed = frames::envelope("192.0.2.1:4000", "198.51.100.1:7");
    mixed.destination = "[2001:db8::1]:7".parse::<std::net::SocketAddr>().expect("valid").into();
    assert_eq!(build::udp(&mut [0; 200], &mixed, b"weir"), None);
    let envelope = frames::envelope("192.0.2.1:4000", "198.51.100.1:7");
    let mut out = vec![0; 70_000];
    assert_eq!(build::udp(&mut out, &envelope, &vec![1; 65_508]), None);
    let length = build::udp(&mut out, &envelope, &vec![1; 65_507]).expect("the longest");
    assert_eq!(parsed(&out[..length]).payload_length, 65_507);
}

#[test]
fn a_packet_of_another_frame_is_refused() {
    let long = frames::captured("udp4-1400");
    let packet = parsed(&long);
    let mut short = frames::captured("udp4");
    assert_eq!(udp::reply_in_place(&mut short, &packet), None);
    assert_eq!(icmp::unreachable_port(&short, &packet, &mut [0; 1500]), None);
    assert_eq!(packet.payload(&short), b"");
    assert_eq!(udp::reply_in_place(&mut [], &packet), None);
}

#[test]
fn quotes_without_ports_name_no_flow() {
    for (name, at, byte) in [
        ("udp4-unreachable", 42, 0x46),
        ("udp4-unreachable", 42, 0x65),
        ("udp4-unreachable", 49, 0x01),
        ("udp4-unreachable", 51, 1),
        ("udp6-unreachable", 62, 0x40),
        ("udp6-unreachable", 68, 58),
        ("udp6-unreachable", 68, 0),
    ] {
        let mut frame = frames::captured(name);
        let before = parse(&frame, ChecksumPolicy::Ignore).expect(name);
        assert!(icmp::quoted(&frame, &before).is_some());
        frame[at] = byte;
        let packet = parse(&frame, ChecksumPolicy::Ignore).expect(name);
        // 0x46: the options take the first half of the UDP header, leaving too few bytes.
        if byte == 0x46 {
            frame.truncate(42 + 20 + 4 + 7);
        }
        assert_eq!(icmp::quoted(&frame, &packet), None, "{name} {at}");
    }
}

proptest! {
    #[test]
    fn replies_are_what_the_other_end_would_build(
        payload in proptest::collection::vec(any::<u8>(), 0..200), ports in any::<(u16, u16)>(),
        is_v6 in any::<bool>(), tags in 0usize..3, answer in 0usize..200,
    ) {
        let mut envelope = match is_v6 {
            true => frames::envelope("[2001:db8::1]:1", "[2001:db8::2]:2"),
            false => frames::envelope("192.0.2.1:1", "198.51.100.1:2"),
        };
        (envelope.source.port, envelope.destination.port) = ports;
        let tag = VlanTag { protocol: 0x8100, control: 7 };
        envelope.vlan = [VlanTags::NONE, VlanTags::single(tag), VlanTags::double(tag, tag)][tags];

        let mut frame = frames::udp_frame(&envelope, &payload);
        let packet = parsed(&frame);
        let range = udp::reply_in_place(&mut frame, &packet).expect("a reply");
        prop_assert_eq!(&frame[range], frames::udp_frame(&turned(&envelope), &payload));

        // A service that answers with something else, within a roomy frame.
        let mut frame = frames::udp_frame(&envelope, &payload);
        let packet = parsed(&frame);
        let start = usize::from(packet.payload_offset);
        frame.resize(start + 200, 0);
        frame[start..start + answer].fill(0x5a);
        let range = udp::reply_rewritten(&mut frame, &packet, answer).expect("a reply");
        let expected = frames::udp_frame(&turned(&envelope), &vec![0x5a; answer]);
        prop_assert_eq!(&frame[range], expected);
        prop_assert_eq!(udp::reply_rewritten(&mut frame, &packet, 201), None);
    }
}
