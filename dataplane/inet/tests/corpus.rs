//! The fuzz target's corpus, replayed, and what is known of its frames.
//!
//! Most were sent by Linux 6.18 over veth, `-unfinished` ones with transmit offload on; those
//! with tags and with chains of extension headers are made by hand from these.

mod frames;

use weir_inet::{ChecksumPolicy, ParseError, Protocol, parse};

const EXPECTED: &[(&str, Result<Protocol, ParseError>)] = &[
    ("arp-request", Err(ParseError::EtherTypeUnknown)),
    ("icmp-echo-reply", Ok(Protocol::Icmp)),
    ("icmp-echo-request", Ok(Protocol::Icmp)),
    ("icmpv6-echo-reply", Ok(Protocol::Icmpv6)),
    ("icmpv6-echo-request", Ok(Protocol::Icmpv6)),
    ("multicast-listener-report", Ok(Protocol::Icmpv6)),
    ("neighbour-solicitation", Ok(Protocol::Icmpv6)),
    ("tcp4-reset", Ok(Protocol::Tcp)),
    ("tcp4-syn", Ok(Protocol::Tcp)),
    ("tcp4-syn-unfinished", Err(ParseError::TcpChecksumUnfinished)),
    ("tcp6-reset", Ok(Protocol::Tcp)),
    ("tcp6-syn", Ok(Protocol::Tcp)),
    ("tcp6-syn-unfinished", Err(ParseError::TcpChecksumUnfinished)),
    ("udp4", Ok(Protocol::Udp)),
    ("udp4-1400", Ok(Protocol::Udp)),
    ("udp4-1400-unreachable", Ok(Protocol::Icmp)),
    ("udp4-empty", Ok(Protocol::Udp)),
    ("udp4-empty-unreachable", Ok(Protocol::Icmp)),
    ("udp4-fragment-first", Err(ParseError::Fragment)),
    ("udp4-fragment-last", Err(ParseError::Fragment)),
    ("udp4-fragments-unreachable", Ok(Protocol::Icmp)),
    ("udp4-no-checksum", Ok(Protocol::Udp)),
    ("udp4-no-checksum-unreachable", Ok(Protocol::Icmp)),
    ("udp4-odd", Ok(Protocol::Udp)),
    ("udp4-odd-unreachable", Ok(Protocol::Icmp)),
    ("udp4-options", Ok(Protocol::Udp)),
    ("udp4-options-unreachable", Ok(Protocol::Icmp)),
    ("udp4-tos", Ok(Protocol::Udp)),
    ("udp4-tos-unreachable", Ok(Protocol::Icmp)),
    ("udp4-unfinished", Err(ParseError::UdpChecksumUnfinished)),
    ("udp4-unreachable", Ok(Protocol::Icmp)),
    ("udp6", Ok(Protocol::Udp)),
    ("udp6-1400", Ok(Protocol::Udp)),
    ("udp6-1400-unreachable", Ok(Protocol::Icmpv6)),
    ("udp6-destination-options", Ok(Protocol::Udp)),
    ("udp6-destination-options-unreachable", Ok(Protocol::Icmpv6)),
    ("udp6-empty", Ok(Protocol::Udp)),
    ("udp6-empty-unreachable", Ok(Protocol::Icmpv6)),
    ("udp6-odd", Ok(Protocol::Udp)),
    ("udp6-odd-unreachable", Ok(Protocol::Icmpv6)),
    ("udp6-unfinished", Err(ParseError::UdpChecksumUnfinished)),
    ("udp6-unreachable", Ok(Protocol::Icmpv6)),
    ("qinq-tcp4-syn", Ok(Protocol::Tcp)),
    ("qinq-udp6", Ok(Protocol::Udp)),
    ("qinqinq-udp4", Err(ParseError::VlanTooManyTags)),
    ("udp6-all-extensions", Ok(Protocol::Udp)),
    ("udp6-atomic-fragment", Ok(Protocol::Udp)),
    ("udp6-eight-extensions", Ok(Protocol::Udp)),
    ("udp6-fragment", Err(ParseError::Fragment)),
    ("udp6-home-address-option", Err(ParseError::Ipv6UnknownOption)),
    ("udp6-nine-extensions", Err(ParseError::Ipv6ExtensionChainTooLong)),
    ("udp6-routing-segments", Err(ParseError::Ipv6RoutingSegments)),
    ("vlan-priority-udp6", Ok(Protocol::Udp)),
    ("vlan-udp4", Ok(Protocol::Udp)),
];

#[test]
fn every_frame_of_the_corpus_passes_the_checks() {
    let corpus = frames::corpus();
    assert!(corpus.len() >= EXPECTED.len());
    for frame in corpus.values() {
        frames::exercise(frame);
    }
}

#[test]
fn known_frames_are_what_they_are() {
    for (name, expected) in EXPECTED {
        let frame = frames::captured(name);
        let found = parse(&frame, ChecksumPolicy::Verify).map(|packet| packet.key.protocol);
        assert_eq!(found, *expected, "{name}");
    }
}

#[test]
fn an_unfinished_checksum_is_no_matter_to_who_does_not_verify() {
    for name in ["udp4-unfinished", "udp6-unfinished", "tcp4-syn-unfinished"] {
        let frame = frames::captured(name);
        assert!(parse(&frame, ChecksumPolicy::NetworkOnly).is_ok(), "{name}");
    }
}
