//! Each header alone: published examples, and values that survive the wire.

mod frames;

use core::net::{Ipv4Addr, Ipv6Addr};
use std::collections::HashSet;

use proptest::prelude::*;
use weir_inet::wire::checksum::{Sum, checksum, looks_unfinished, update};
use weir_inet::wire::icmp::{IcmpMessage, IcmpView};
use weir_inet::wire::icmpv6::{Icmpv6Message, Icmpv6View};
use weir_inet::wire::ipv4::{Ipv4Header, Ipv4View};
use weir_inet::wire::ipv6::{Ipv6Header, Ipv6View};
use weir_inet::wire::tcp::{TcpFlags, TcpHeader, TcpView};
use weir_inet::wire::udp::{UdpHeader, UdpView};
use weir_inet::{Address, Endpoint, FlowKey, Protocol};

/// RFC 1071 section 4.1, as it is written there, 16 bits at a time.
fn reference_sum(bytes: &[u8]) -> u16 {
    let mut sum = 0u64;
    for pair in bytes.chunks(2) {
        sum += u64::from(pair[0]) << 8 | pair.get(1).map_or(0, |&low| u64::from(low));
    }
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[test]
fn rfc_1071_section_3() {
    let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
    assert_eq!(Sum::new().bytes(&bytes).fold(), 0xddf2);
    assert_eq!(checksum(&bytes), 0x220d);
}

#[test]
fn rfc_1624_section_4() {
    // The case that the older equation of RFC 1141 gets wrong.
    assert_eq!(update(0xdd2f, 0x5555, 0x3285), 0x0000);
}

#[test]
fn sums_of_the_extremes() {
    assert_eq!(Sum::new().fold(), 0);
    for length in [1, 2, 3, 4, 5, 7, 8, 9, 65_535, 200_001] {
        let ones = vec![0xff; length];
        assert_eq!(Sum::new().bytes(&ones).fold(), reference_sum(&ones), "{length}");
        assert_eq!(Sum::new().bytes(&vec![0; length]).fold(), 0);
    }
}

#[test]
fn a_known_ipv4_header() {
    let bytes = [
        0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0xb8, 0x61, 0xc0, 0xa8, 0x00,
        0x01, 0xc0, 0xa8, 0x00, 0xc7,
    ];
    let packet = [&bytes[..], &[0; 95]].concat();
    let view = Ipv4View::new_checked(&packet).expect("a whole packet");
    assert!(view.is_checksum_intact());
    assert_eq!(view.header_checksum(), 0xb861);
    let header = Ipv4Header::parse(&view);
    assert_eq!(header.source, Ipv4Addr::new(192, 168, 0, 1));
    assert_eq!(header.destination, Ipv4Addr::new(192, 168, 0, 199));
    assert_eq!((header.total_length, header.time_to_live, header.protocol), (115, 64, 17));
    assert!(header.dont_fragment && !view.is_fragment());
    assert_eq!(header.emit(), bytes);
}

#[test]
fn mapped_addresses_are_no_ipv4_addresses() {
    let v4 = Address::v4([192, 0, 2, 1]);
    let mapped = Address::from("::ffff:192.0.2.1".parse::<core::net::IpAddr>().expect("valid"));
    // The one IPv6 address with an IPv4 address's bytes in this form.
    let alike = Address::v6(*v4.octets());
    let keys: HashSet<FlowKey> = [v4, mapped, alike]
        .into_iter()
        .map(|address| {
            let end = Endpoint::new(address, 1);
            FlowKey { remote: end, local: end, protocol: Protocol::Udp }
        })
        .collect();
    assert_eq!(keys.len(), 3);
    assert_eq!(v4.to_string(), "192.0.2.1");
    assert_eq!(mapped.to_string(), "::ffff:192.0.2.1");
}

#[test]
fn kinds_of_addresses() {
    let is = |text: &str, check: fn(&Address) -> bool| {
        check(&Address::from(text.parse::<core::net::IpAddr>().expect("valid")))
    };
    assert!(is("224.0.0.1", Address::is_multicast) && is("239.255.255.255", Address::is_multicast));
    assert!(
        !is("240.0.0.1", Address::is_multicast) && !is("223.255.255.255", Address::is_multicast)
    );
    assert!(is("ff02::1", Address::is_multicast) && !is("fe80::1", Address::is_multicast));
    assert!(is("255.255.255.255", Address::is_limited_broadcast));
    assert!(!is("255.255.255.254", Address::is_limited_broadcast));
    assert!(!is("ffff:ffff::", Address::is_limited_broadcast));
    assert!(is("0.0.0.0", Address::is_unspecified) && is("::", Address::is_unspecified));
    assert!(!is("::1", Address::is_unspecified) && !is("0.0.0.1", Address::is_unspecified));
    assert!(is("127.1.2.3", Address::is_loopback) && is("::1", Address::is_loopback));
    assert!(!is("::2", Address::is_loopback) && !is("7f00::1", Address::is_loopback));
    assert!(is("0.1.2.3", Address::is_this_network) && !is("::", Address::is_this_network));
    assert!(is("240.0.0.1", Address::is_reserved) && !is("f000::", Address::is_reserved));
}

fn pseudo_v6(source: [u8; 16], destination: [u8; 16], protocol: Protocol, length: u16) -> Vec<u8> {
    // RFC 8200 section 8.1, laid out.
    let mut bytes = [source, destination].concat();
    bytes.extend(u32::from(length).to_be_bytes());
    bytes.extend([0, 0, 0, protocol.number()]);
    bytes
}

fn pseudo_v4(source: [u8; 4], destination: [u8; 4], protocol: Protocol, length: u16) -> Vec<u8> {
    // RFC 768, laid out.
    let mut bytes = [source, destination].concat();
    bytes.extend([0, protocol.number()]);
    bytes.extend(length.to_be_bytes());
    bytes
}

proptest! {
    #[test]
    fn sums_are_the_reference_s(bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
        prop_assert_eq!(Sum::new().bytes(&bytes).fold(), reference_sum(&bytes));
        let at = bytes.len() / 4 * 2;
        let pieces = Sum::new().bytes(&bytes[..at]).bytes(&bytes[at..]);
        prop_assert_eq!(pieces.fold(), reference_sum(&bytes));
    }

    #[test]
    fn updates_agree_with_sums(
        mut bytes in proptest::collection::vec(any::<u8>(), 20..60), word in any::<u16>(),
    ) {
        // A constant word that is not zero: with it the two zeros of one's complement agree.
        bytes[0] |= 1;
        let before = checksum(&bytes);
        let old = u16::from_be_bytes([bytes[10], bytes[11]]);
        bytes[10..12].copy_from_slice(&word.to_be_bytes());
        prop_assert_eq!(update(before, old, word), checksum(&bytes));
    }

    #[test]
    fn pseudo_headers_are_those_of_the_rfcs(
        source in any::<[u8; 16]>(), destination in any::<[u8; 16]>(), length in any::<u16>(),
    ) {
        for protocol in [Protocol::Udp, Protocol::Tcp, Protocol::Icmpv6] {
            let ours = Sum::pseudo(
                &Address::v6(source), &Address::v6(destination), protocol, length);
            let reference = reference_sum(&pseudo_v6(source, destination, protocol, length));
            prop_assert_eq!(ours.fold(), reference);
            prop_assert!(looks_unfinished(reference, ours));
            prop_assert!(!looks_unfinished(!reference, ours));
        }
        let v4 = |octets: [u8; 16]| [octets[0], octets[1], octets[2], octets[3]];
        let (source, destination) = (v4(source), v4(destination));
        let ours =
            Sum::pseudo(&Address::v4(source), &Address::v4(destination), Protocol::Udp, length);
        let laid_out = pseudo_v4(source, destination, Protocol::Udp, length);
        prop_assert_eq!(ours.fold(), reference_sum(&laid_out));
    }

    #[test]
    fn ipv4_headers_survive(
        fields in any::<(u8, u16, bool, bool, u8, u8, [u8; 4], [u8; 4])>(),
        fragment_offset in 0u16..0x2000, payload in 0usize..64,
    ) {
        let header = Ipv4Header {
            type_of_service: fields.0,
            total_length: 20 + payload as u16,
            identification: fields.1,
            dont_fragment: fields.2,
            more_fragments: fields.3,
            fragment_offset,
            time_to_live: fields.4,
            protocol: fields.5,
            source: fields.6.into(),
            destination: fields.7.into(),
        };
        let packet = [&header.emit()[..], &vec![7; payload], b"trailer"].concat();
        let view = Ipv4View::new_checked(&packet).expect("a whole packet");
        prop_assert!(view.is_checksum_intact());
        prop_assert_eq!(Ipv4Header::parse(&view), header);
        prop_assert_eq!(view.payload(), &vec![7; payload][..]);
        prop_assert_eq!(view.is_fragment(), fields.3 || fragment_offset != 0);
    }

    #[test]
    fn ipv6_headers_survive(
        fields in any::<(u8, u8, u8, [u8; 16], [u8; 16])>(),
        flow_label in 0u32..0x10_0000, payload in 0usize..64,
    ) {
        let header = Ipv6Header {
            traffic_class: fields.0,
            flow_label,
            payload_length: payload as u16,
            next_header: fields.1,
            hop_limit: fields.2,
            source: Ipv6Addr::from(fields.3),
            destination: Ipv6Addr::from(fields.4),
        };
        let packet = [&header.emit()[..], &vec![7; payload], b"trailer"].concat();
        let view = Ipv6View::new_checked(&packet).expect("a whole packet");
        prop_assert_eq!(Ipv6Header::parse(&view), header);
        prop_assert_eq!(view.payload(), &vec![7; payload][..]);
    }

    #[test]
    fn udp_headers_survive_and_are_summed(
        ports in any::<(u16, u16)>(), payload in proptest::collection::vec(any::<u8>(), 0..64),
        ends in any::<([u8; 4], [u8; 4])>(),
    ) {
        let length = 8 + payload.len() as u16;
        let pseudo =
            Sum::pseudo(&Address::v4(ends.0), &Address::v4(ends.1), Protocol::Udp, length);
        let header =
            UdpHeader { source_port: ports.0, destination_port: ports.1, length, checksum: 0 };
        let header = header.with_checksum(pseudo, &payload);
        prop_assert_ne!(header.checksum, 0);
        let datagram = [&header.emit()[..], &payload, b"slack"].concat();
        let view = UdpView::new_checked(&datagram).expect("a whole datagram");
        prop_assert_eq!(UdpHeader::parse(&view), header);
        prop_assert!(view.is_checksum_intact(pseudo));
        prop_assert_eq!(view.payload(), &payload[..]);
        let mut laid_out = pseudo_v4(ends.0, ends.1, Protocol::Udp, length);
        laid_out.extend(&datagram[..usize::from(length)]);
        prop_assert_eq!(reference_sum(&laid_out), 0xffff);
    }

    #[test]
    fn tcp_headers_survive_and_are_summed(
        fields in any::<(u16, u16, u32, u32, u8, u16, u16)>(),
        payload in proptest::collection::vec(any::<u8>(), 0..64),
    ) {
        let ends = (Address::v6([1; 16]), Address::v6([0xee; 16]));
        let pseudo = Sum::pseudo(&ends.0, &ends.1, Protocol::Tcp, 20 + payload.len() as u16);
        let header = TcpHeader {
            source_port: fields.0,
            destination_port: fields.1,
            sequence_number: fields.2,
            acknowledgment_number: fields.3,
            flags: TcpFlags(fields.4),
            window: fields.5,
            checksum: 0,
            urgent_pointer: fields.6,
        };
        let header = header.with_checksum(pseudo, &payload);
        let segment = [&header.emit()[..], &payload].concat();
        let view = TcpView::new_checked(&segment).expect("a whole segment");
        prop_assert_eq!(TcpHeader::parse(&view), header);
        prop_assert!(view.is_checksum_intact(pseudo));
        prop_assert_eq!((view.header_length(), view.payload()), (20, &payload[..]));
    }

    #[test]
    fn icmp_messages_survive(
        (identifier, sequence) in any::<(u16, u16)>(), code in 0u8..16, mtu in any::<u16>(),
        payload in proptest::collection::vec(any::<u8>(), 0..64),
    ) {
        let mtu = if code == 4 { mtu } else { 0 };
        for message in [
            IcmpMessage::EchoRequest { identifier, sequence },
            IcmpMessage::EchoReply { identifier, sequence },
            IcmpMessage::DestinationUnreachable { code, mtu },
            IcmpMessage::Other { kind: 11, code, rest: [1, 2, 3, 4] },
        ] {
            let bytes = [&message.emit(&payload)[..], &payload].concat();
            let view = IcmpView::new_checked(&bytes).expect("a whole message");
            prop_assert_eq!(IcmpMessage::parse(&view), message);
            prop_assert!(view.is_checksum_intact());
            prop_assert_eq!(reference_sum(&bytes), 0xffff);
            prop_assert_eq!(message.is_error(), bytes[0] == 3 || bytes[0] == 11);
        }
    }

    #[test]
    fn icmpv6_messages_survive(
        (identifier, sequence) in any::<(u16, u16)>(), code in any::<u8>(), mtu in any::<u32>(),
        payload in proptest::collection::vec(any::<u8>(), 0..64),
    ) {
        let ends = (Address::v6([3; 16]), Address::v6([0xfe; 16]));
        let pseudo = Sum::pseudo(&ends.0, &ends.1, Protocol::Icmpv6, 8 + payload.len() as u16);
        for message in [
            Icmpv6Message::EchoRequest { identifier, sequence },
            Icmpv6Message::EchoReply { identifier, sequence },
            Icmpv6Message::DestinationUnreachable { code },
            Icmpv6Message::PacketTooBig { mtu },
            Icmpv6Message::Other { kind: 135, code, rest: [1, 2, 3, 4] },
        ] {
            let bytes = [&message.emit(pseudo, &payload)[..], &payload].concat();
            let view = Icmpv6View::new_checked(&bytes).expect("a whole message");
            prop_assert_eq!(Icmpv6Message::parse(&view), message);
            prop_assert!(view.is_checksum_intact(pseudo));
            prop_assert_eq!(message.is_error(), bytes[0] < 128);
        }
    }
}
