//! What the tests share: the corpus, envelopes, and the check that every frame must pass.

#![allow(dead_code, reason = "each test takes what it needs")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use weir_inet::build::Envelope;
use weir_inet::{ChecksumPolicy, EthernetHeader, Packet, Transport, VlanTags, icmp, parse, udp};

pub const LOCAL: [u8; 6] = [2, 0, 0, 0, 0, 2];
pub const REMOTE: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// The frames of the fuzz target's corpus by their names.
pub fn corpus() -> BTreeMap<String, Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/wire");
    let entries = std::fs::read_dir(&folder).expect("the corpus is part of the repository");
    entries
        .map(|entry| {
            let entry = entry.expect("a readable folder");
            let name = entry.file_name().into_string().expect("names are ASCII");
            (name, std::fs::read(entry.path()).expect("a readable file"))
        })
        .collect()
}

/// One frame of the corpus.
pub fn captured(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/wire");
    std::fs::read(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

pub fn envelope(source: &str, destination: &str) -> Envelope {
    let endpoint = |text: &str| text.parse::<SocketAddr>().expect("an address and a port").into();
    Envelope {
        ethernet: EthernetHeader { destination: LOCAL, source: REMOTE },
        vlan: VlanTags::NONE,
        source: endpoint(source),
        destination: endpoint(destination),
        traffic_class: 0,
    }
}

/// A UDP frame between documentation addresses of one family.
pub fn udp_frame(envelope: &Envelope, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; 128 + payload.len()];
    let length = weir_inet::build::udp(&mut frame, envelope, payload).expect("it fits");
    frame.truncate(length);
    frame
}

/// Whatever the bytes are: nothing panics, what is accepted lies within the frame, and what
/// is answered would be accepted by its receiver. Returns whether the frame was accepted.
pub fn exercise(frame: &[u8]) -> bool {
    let mut accepted = false;
    for policy in [ChecksumPolicy::Verify, ChecksumPolicy::NetworkOnly, ChecksumPolicy::Ignore] {
        if let Ok(packet) = parse(frame, policy) {
            accepted |= policy == ChecksumPolicy::Verify;
            check_offsets(frame, &packet);
            check_reply(frame, &packet);
            check_refusal(frame, &packet);
            let _ = icmp::quoted(frame, &packet);
        }
    }
    accepted
}

fn check_offsets(frame: &[u8], packet: &Packet) {
    assert!(packet.network_offset >= 14);
    assert!(packet.transport_offset >= packet.network_offset + 20);
    assert!(packet.payload_offset >= packet.transport_offset + 8);
    assert!(packet.payload_range().end <= frame.len());
    assert_eq!(packet.payload(frame).len(), usize::from(packet.payload_length));
    assert!(!packet.network(frame).is_empty());
}

fn check_reply(frame: &[u8], packet: &Packet) {
    let mut copy = frame.to_vec();
    let Some(range) = udp::reply_in_place(&mut copy, packet) else {
        assert_eq!(copy, frame, "a frame that is not answered stays as it was");
        return;
    };
    assert_eq!(packet.transport, Transport::Udp);
    let reply_frame = &copy[range];
    let reply = parse(reply_frame, ChecksumPolicy::Verify).expect("a reply is a good frame");
    assert_eq!(reply.key, packet.key.reversed());
    assert_eq!(reply.vlan, packet.vlan);
    assert_eq!(reply.ethernet, packet.ethernet.reversed());
    assert_eq!(reply.payload(reply_frame), packet.payload(frame));
    assert_eq!((reply.hop_limit, reply.traffic_class), (64, 0));
}

fn check_refusal(frame: &[u8], packet: &Packet) {
    let mut out = [0; 1400];
    let Some(length) = icmp::unreachable_port(frame, packet, &mut out) else {
        return;
    };
    assert_eq!(packet.transport, Transport::Udp);
    let refusal = parse(&out[..length], ChecksumPolicy::Verify).expect("a refusal is a good frame");
    let limit = if packet.key.local.address.ip().is_ipv4() { 576 } else { 1280 };
    assert!(refusal.network(&out[..length]).len() <= limit);
    assert_eq!(refusal.key.local.address, packet.key.remote.address);
    assert_eq!(refusal.key.remote.address, packet.key.local.address);
    // The quote may end before the ports where options or extension headers fill it.
    if let Some(key) = icmp::quoted(&out[..length], &refusal) {
        assert_eq!(key, packet.key.reversed());
    } else {
        assert!(packet.payload_offset - packet.network_offset > 548);
    }
}
