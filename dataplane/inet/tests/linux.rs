//! Our frames beside those that Linux 6.18 sent for the same packet.

mod frames;

use weir_inet::wire::tcp::TcpFlags;
use weir_inet::{ChecksumPolicy, Transport, icmp, parse};

/// Identification, flags and header checksum of IPv4; flow label of IPv6: Linux numbers its
/// errors, ours are atomic.
fn without_identity(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    let identity: &[usize] = match frame[12..14] {
        [0x08, 0x00] => &[18, 19, 20, 21, 24, 25],
        _ => &[15, 16, 17],
    };
    for &at in identity {
        frame[at] = 0;
    }
    frame
}

#[test]
fn port_unreachable_is_what_linux_says() {
    for name in [
        "udp4-empty",
        "udp4",
        "udp4-odd",
        "udp4-1400",
        "udp4-options",
        "udp4-tos",
        "udp4-no-checksum",
        "udp6-empty",
        "udp6",
        "udp6-odd",
        "udp6-1400",
        "udp6-destination-options",
    ] {
        let frame = frames::captured(name);
        let linux = frames::captured(&format!("{name}-unreachable"));
        let packet = parse(&frame, ChecksumPolicy::Verify).expect(name);
        let mut out = [0; 2048];
        let length = icmp::unreachable_port(&frame, &packet, &mut out).expect(name);
        assert_eq!(without_identity(&out[..length]), without_identity(&linux), "{name}");

        let error = parse(&linux, ChecksumPolicy::Verify).expect(name);
        assert_eq!(icmp::quoted(&linux, &error), Some(packet.key.reversed()), "{name}");
    }
}

#[test]
fn datagrams_are_built_as_linux_builds_them() {
    for (name, source, destination, payload) in [
        ("udp4-empty", "192.0.2.1:40000", "192.0.2.2:7", &b""[..]),
        ("udp4", "192.0.2.1:40004", "192.0.2.2:7", b"weir"),
        ("udp4-odd", "192.0.2.1:40003", "192.0.2.2:7", b"odd"),
        ("udp6-empty", "[2001:db8::1]:40000", "[2001:db8::2]:7", b""),
        ("udp6", "[2001:db8::1]:40004", "[2001:db8::2]:7", b"weir"),
        ("udp6-odd", "[2001:db8::1]:40003", "[2001:db8::2]:7", b"odd"),
    ] {
        let ours = frames::udp_frame(&frames::envelope(source, destination), payload);
        let linux = frames::captured(name);
        assert_eq!(without_identity(&ours), without_identity(&linux), "{name}");
        let packet = parse(&linux, ChecksumPolicy::Verify).expect(name);
        assert_eq!(packet.key.remote.to_string(), source);
        assert_eq!(packet.key.local.to_string(), destination);
        assert_eq!(packet.payload(&linux), payload);
    }
}

#[test]
fn segments_are_read_as_linux_meant_them() {
    for (name, flags, header) in [
        ("tcp4-syn", TcpFlags::SYN, 40),
        ("tcp6-syn", TcpFlags::SYN, 40),
        ("tcp4-reset", TcpFlags::RST | TcpFlags::ACK, 20),
        ("tcp6-reset", TcpFlags::RST | TcpFlags::ACK, 20),
    ] {
        let frame = frames::captured(name);
        let packet = parse(&frame, ChecksumPolicy::Verify).expect(name);
        let Transport::Tcp { flags: found, .. } = packet.transport else {
            panic!("{name} is TCP");
        };
        assert_eq!(found, flags, "{name}");
        assert_eq!(packet.payload_offset - packet.transport_offset, header, "{name}");
        assert_eq!(packet.payload_length, 0);
    }
}
