//! Each way out of the parser is taken by a frame, and by the frame that it is meant for.

mod frames;

use std::collections::BTreeSet;

use weir_inet::wire::checksum::{Sum, checksum};
use weir_inet::{
    Address, ChecksumPolicy, ParseError, Protocol, Transport, VlanTag, VlanTags, parse,
};

fn udp4() -> Vec<u8> {
    frames::udp_frame(&frames::envelope("192.0.2.1:4000", "198.51.100.1:53"), b"query")
}

fn udp6() -> Vec<u8> {
    frames::udp_frame(&frames::envelope("[2001:db8::1]:4000", "[2001:db8::2]:53"), b"query")
}

fn tcp4() -> Vec<u8> {
    let mut frame = vec![0; 128];
    let envelope = frames::envelope("192.0.2.1:4000", "198.51.100.1:80");
    let length = weir_inet::build::tcp_syn(&mut frame, &envelope, 1).expect("it fits");
    frame.truncate(length);
    frame
}

/// With bytes changed.
fn with(mut frame: Vec<u8>, changes: &[(usize, u8)]) -> Vec<u8> {
    for &(at, byte) in changes {
        frame[at] = byte;
    }
    frame
}

/// With bytes of the IPv4 header changed and its checksum made right again.
fn with_ipv4(frame: Vec<u8>, changes: &[(usize, u8)]) -> Vec<u8> {
    let mut frame = with(frame, changes);
    frame[24..26].fill(0);
    let header_length = usize::from(frame[14] & 15) * 4;
    let sum = checksum(&frame[14..(14 + header_length).min(frame.len())]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame
}

/// With extension headers before the transport header of an IPv6 frame without any.
fn with_extensions(frame: &[u8], first: u8, extensions: &[u8]) -> Vec<u8> {
    let mut longer = [&frame[..54], extensions, &frame[54..]].concat();
    longer[20] = first;
    let length = (longer.len() - 54) as u16;
    longer[18..20].copy_from_slice(&length.to_be_bytes());
    longer
}

fn with_tags(frame: &[u8], tags: &[[u8; 4]]) -> Vec<u8> {
    [&frame[..12], &tags.concat(), &frame[12..]].concat()
}

fn unfinished(mut frame: Vec<u8>, protocol: Protocol, field: usize) -> Vec<u8> {
    let address = |at: usize| Address::v4(frame[at..at + 4].try_into().expect("four bytes"));
    let pseudo = Sum::pseudo(&address(26), &address(30), protocol, (frame.len() - 34) as u16);
    frame[field..field + 2].copy_from_slice(&pseudo.fold().to_be_bytes());
    frame
}

fn refusals() -> Vec<(Vec<u8>, ParseError)> {
    use ParseError as E;
    let destination_options = [60, 0, 1, 4, 0, 0, 0, 0];
    vec![
        (udp4()[..13].to_vec(), E::EthernetTruncated),
        (with_tags(&udp4(), &[[0x81, 0, 0, 5]])[..17].to_vec(), E::VlanTruncated),
        (with_tags(&udp4(), &[[0x81, 0, 0, 5]; 3]), E::VlanTooManyTags),
        (with(udp4(), &[(12, 0x08), (13, 0x06)]), E::EtherTypeUnknown),
        (with(udp4(), &[(12, 0x00), (13, 0x40)]), E::EtherTypeUnknown),
        (udp4()[..33].to_vec(), E::Ipv4Truncated),
        (with_ipv4(udp4(), &[(14, 0x65)]), E::Ipv4BadVersion),
        (with_ipv4(udp4(), &[(14, 0x44)]), E::Ipv4BadHeaderLength),
        (with_ipv4(udp4(), &[(17, 19)]), E::Ipv4BadTotalLength),
        (with_ipv4(udp4(), &[(17, 34)]), E::Ipv4BadTotalLength),
        (with(udp4(), &[(22, 63)]), E::Ipv4BadChecksum),
        (udp6()[..53].to_vec(), E::Ipv6Truncated),
        (with(udp6(), &[(14, 0x40)]), E::Ipv6BadVersion),
        (with(udp6(), &[(19, 14)]), E::Ipv6BadPayloadLength),
        (with_extensions(&udp6(), 60, &[17, 9, 1, 4, 0, 0, 0, 0]), E::Ipv6BadExtension),
        (with_extensions(&udp6(), 60, &[17, 0, 1, 5, 0, 0, 0, 0]), E::Ipv6BadExtension),
        (
            with_extensions(&udp6(), 60, &[0, 0, 1, 4, 0, 0, 0, 0, 17, 0, 1, 4, 0, 0, 0, 0]),
            E::Ipv6BadExtension,
        ),
        (
            with_extensions(&udp6(), 60, &destination_options.repeat(9)),
            E::Ipv6ExtensionChainTooLong,
        ),
        (with_extensions(&udp6(), 0, &[17, 0, 0xc2, 4, 0, 1, 0, 0]), E::Ipv6UnknownOption),
        (with_extensions(&udp6(), 43, &[17, 2, 0, 1, 0, 0, 0, 0]), E::Ipv6BadExtension),
        (
            with_extensions(&udp6(), 43, &[[17, 2, 0, 1, 0, 0, 0, 0], [0; 8], [1; 8]].concat()),
            E::Ipv6RoutingSegments,
        ),
        (with_ipv4(udp4(), &[(26, 224)]), E::SourceMartian),
        (with_ipv4(udp4(), &[(26, 255), (27, 255), (28, 255), (29, 255)]), E::SourceMartian),
        (with_ipv4(udp4(), &[(26, 0)]), E::SourceMartian),
        (with(udp6(), &[(22, 0xff)]), E::SourceMartian),
        (with_ipv4(udp4(), &[(20, 0x20)]), E::Fragment),
        (with_ipv4(udp4(), &[(20, 0x00), (21, 0x01)]), E::Fragment),
        (with_ipv4(udp4(), &[(20, 0x10)]), E::Fragment),
        (with_extensions(&udp6(), 44, &[17, 0, 0, 1, 0, 0, 0, 1]), E::Fragment),
        (with_extensions(&udp6(), 44, &[17, 0, 0, 8, 0, 0, 0, 1]), E::Fragment),
        (with_ipv4(udp4(), &[(23, 132)]), E::ProtocolUnsupported),
        (with_ipv4(udp4(), &[(23, 58)]), E::ProtocolUnsupported),
        (with(udp6(), &[(20, 1)]), E::ProtocolUnsupported),
        (with(udp6(), &[(20, 59)]), E::ProtocolUnsupported),
        (with_ipv4(udp4(), &[(17, 27)]), E::UdpTruncated),
        (with(udp4(), &[(39, 0)]), E::UdpBadLength),
        (with(udp4(), &[(39, 7)]), E::UdpBadLength),
        (with(udp4(), &[(39, 14)]), E::UdpBadLength),
        (with(udp4(), &[(42, b'Q')]), E::UdpBadChecksum),
        (with(udp6(), &[(62, b'Q')]), E::UdpBadChecksum),
        (unfinished(udp4(), Protocol::Udp, 40), E::UdpChecksumUnfinished),
        (with(udp6(), &[(60, 0), (61, 0)]), E::UdpZeroChecksum),
        (with_ipv4(tcp4(), &[(17, 39)]), E::TcpTruncated),
        (with(tcp4(), &[(46, 0x40)]), E::TcpBadDataOffset),
        (with(tcp4(), &[(46, 0x60)]), E::TcpBadDataOffset),
        (with(tcp4(), &[(41, 9)]), E::TcpBadChecksum),
        (unfinished(tcp4(), Protocol::Tcp, 50), E::TcpChecksumUnfinished),
        (with_ipv4(frames::captured("icmp-echo-request"), &[(17, 27)]), E::IcmpTruncated),
        (with(frames::captured("icmp-echo-request"), &[(40, 1)]), E::IcmpBadChecksum),
        (with(frames::captured("icmpv6-echo-request"), &[(19, 7)]), E::Icmpv6Truncated),
        (with(frames::captured("icmpv6-echo-request"), &[(60, 1)]), E::Icmpv6BadChecksum),
    ]
}

#[test]
fn each_refusal_has_a_frame() {
    let mut seen = BTreeSet::new();
    for (index, (frame, expected)) in refusals().into_iter().enumerate() {
        let found = parse(&frame, ChecksumPolicy::Verify);
        assert_eq!(found.map(|packet| packet.key), Err(expected), "frame {index}");
        frames::exercise(&frame);
        seen.insert(expected);
    }
    let all: BTreeSet<ParseError> = ParseError::ALL.into_iter().collect();
    assert_eq!(seen, all, "a refusal that no frame reaches");
}

#[test]
fn names_are_distinct_snake_case_and_indexed() {
    let mut names = BTreeSet::new();
    for (index, error) in ParseError::ALL.into_iter().enumerate() {
        assert_eq!(error.index(), index);
        let name = error.as_str();
        assert!(names.insert(name), "{name} twice");
        assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'));
        assert!(!error.to_string().is_empty());
    }
}

#[test]
fn tags_are_read_outermost_first() {
    let service = VlanTag { protocol: 0x88a8, control: 0xf00a };
    let customer = VlanTag { protocol: 0x8100, control: 0x0fff };
    let frame = with_tags(&udp4(), &[[0x88, 0xa8, 0xf0, 0x0a], [0x81, 0x00, 0x0f, 0xff]]);
    let packet = parse(&frame, ChecksumPolicy::Verify).expect("two tags are allowed");
    assert_eq!(packet.vlan.as_slice(), [service, customer]);
    assert_eq!((service.identifier(), service.priority()), (10, 7));
    assert!(service.drop_eligible() && !customer.drop_eligible());
    assert_eq!((packet.network_offset, packet.payload(&frame)), (22, &b"query"[..]));

    let mut envelope = frames::envelope("192.0.2.1:4000", "198.51.100.1:53");
    envelope.vlan = VlanTags::double(service, customer);
    assert_eq!(frames::udp_frame(&envelope, b"query"), frame);
}

#[test]
fn trailers_and_slack_are_no_payload() {
    let mut padded = udp4();
    padded.resize(60, 0xee);
    assert_eq!(parse(&padded, ChecksumPolicy::Verify).expect("padded").payload(&padded), b"query");

    // IP payload beyond UDP's length: the checksum covers the datagram alone.
    let mut slack = udp4();
    slack.extend_from_slice(b"slack");
    let slack = with_ipv4(slack, &[(17, 38)]);
    assert_eq!(parse(&slack, ChecksumPolicy::Verify).expect("slack").payload(&slack), b"query");
}

#[test]
fn whole_packets_with_extension_headers_are_accepted() {
    let pad: [u8; 8] = [60, 0, 1, 4, 0, 0, 0, 0];
    let mut eight = pad.repeat(8);
    eight[56] = 17;
    let routing = [[17, 2, 0, 0, 0, 0, 0, 0], [0; 8], [1; 8]].concat();
    for (name, first, extensions) in [
        ("hop-by-hop router alert", 0, vec![17, 0, 5, 2, 0, 0, 1, 0]),
        ("pad1", 60, vec![17, 0, 0, 0, 0, 0, 0, 0]),
        ("unknown option that may be skipped", 60, vec![17, 0, 0x1e, 4, 9, 9, 9, 9]),
        ("atomic fragment", 44, vec![17, 0, 0, 0, 1, 2, 3, 4]),
        ("atomic fragment, reserved bits set", 44, vec![17, 0xff, 0, 6, 1, 2, 3, 4]),
        ("routing, no segment left", 43, routing),
        ("authentication, 12 bytes of value", 51, [[17, 4, 0, 0], [7; 4]].concat().repeat(3)),
        ("eight headers", 60, eight),
    ] {
        let frame = with_extensions(&udp6(), first, &extensions);
        let packet = parse(&frame, ChecksumPolicy::Verify);
        let packet = packet.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(packet.transport, Transport::Udp, "{name}");
        assert_eq!(usize::from(packet.transport_offset), 54 + extensions.len(), "{name}");
        assert_eq!(packet.payload(&frame), b"query", "{name}");
        assert!(frames::exercise(&frame), "{name}");
    }
}

#[test]
fn a_host_without_an_address_may_broadcast() {
    let envelope = frames::envelope("0.0.0.0:68", "255.255.255.255:67");
    let frame = frames::udp_frame(&envelope, b"discover");
    assert!(parse(&frame, ChecksumPolicy::Verify).is_ok());
}
