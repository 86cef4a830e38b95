//! Errors about datagrams: those we send, and the packets that received ones quote.

use crate::build::{Envelope, put};
use crate::flow::{Address, Endpoint, Family, FlowKey, Protocol};
use crate::packet::{Packet, Transport};
use crate::wire::icmp::{self, IcmpMessage};
use crate::wire::icmpv6::{self, Icmpv6Message};
use crate::wire::{ipv4, ipv6};

/// The longest ICMP error as an IP packet (RFC 1812 section 4.3.2.3, Linux `__icmp_send`).
pub const ICMP_ERROR_MAX: usize = 576;
/// The longest ICMPv6 error as an IP packet (RFC 4443 section 2.4 (c)).
pub const ICMPV6_ERROR_MAX: usize = 1280;

/// Writes into `out` the frame that tells a datagram's sender that nobody has its port:
/// ICMP type 3 code 3, or ICMPv6 type 1 code 4, quoting as much as fits. Returns its length.
///
/// `None` where there must be no answer (RFC 1122 section 3.2.2, RFC 4443 section 2.4 (e)):
/// to anything but a datagram, to what went to a group address of either layer, to a source
/// that names no single host. `None` too if `out` is too short or `packet` not the frame's.
/// How often to answer is the caller's to limit.
#[must_use]
pub fn unreachable_port(frame: &[u8], packet: &Packet, out: &mut [u8]) -> Option<usize> {
    if packet.transport != Transport::Udp || !may_be_told(packet) {
        return None;
    }
    let family = packet.key.local.address.family();
    let quote = packet.network(frame);
    let (room, traffic_class, protocol) = match family {
        // The precedence is "internetwork control", the service as asked (RFC 1812 4.3.2.5).
        Family::Ipv4 => (
            ICMP_ERROR_MAX - ipv4::HEADER_LENGTH - icmp::HEADER_LENGTH,
            packet.traffic_class & 0x1e | 0xc0,
            Protocol::Icmp,
        ),
        Family::Ipv6 => {
            (ICMPV6_ERROR_MAX - ipv6::HEADER_LENGTH - icmpv6::HEADER_LENGTH, 0, Protocol::Icmpv6)
        }
    };
    let quote = quote.get(..quote.len().min(room)).filter(|quote| !quote.is_empty())?;
    let envelope = Envelope {
        ethernet: packet.ethernet.reversed(),
        vlan: packet.vlan,
        source: packet.key.local,
        destination: packet.key.remote,
        traffic_class,
    };
    let message_length = icmp::HEADER_LENGTH + quote.len();
    let header = match family {
        Family::Ipv4 => {
            let code = icmp::CODE_PORT_UNREACHABLE;
            IcmpMessage::DestinationUnreachable { code, mtu: 0 }.emit(quote)
        }
        Family::Ipv6 => {
            let pseudo = envelope.pseudo(protocol, message_length as u16);
            let code = icmpv6::CODE_PORT_UNREACHABLE;
            Icmpv6Message::DestinationUnreachable { code }.emit(pseudo, quote)
        }
    };
    let rest = envelope.write(out, protocol, message_length)?;
    put(rest, header)?.get_mut(..quote.len())?.copy_from_slice(quote);
    Some(envelope.length() + message_length)
}

/// The flow that a received ICMP or ICMPv6 error is about, as this host knows it: the quoted
/// packet was ours, so that its source is `local`.
///
/// Nothing vouches for a quote but its resemblance to what we sent; the caller looks the
/// flow up. `None` for other messages, and for quotes without ports (later fragments,
/// too short, other protocols).
#[must_use]
pub fn quoted(frame: &[u8], packet: &Packet) -> Option<FlowKey> {
    let quote = packet.payload(frame);
    match packet.transport {
        Transport::Icmp(message) if message.is_error() => quoted_ipv4(quote),
        Transport::Icmpv6(message) if message.is_error() => quoted_ipv6(quote),
        _ => None,
    }
}

/// Not through the view: a quote may be cut short, and routers may have touched its header.
fn quoted_ipv4(quote: &[u8]) -> Option<FlowKey> {
    let header = quote.first_chunk::<{ ipv4::HEADER_LENGTH }>()?;
    let header_length = usize::from(header[0] & 0x0f) * 4;
    let offset = u16::from_be_bytes([header[6] & 0x1f, header[7]]);
    if header[0] >> 4 != 4 || header_length < ipv4::HEADER_LENGTH || offset != 0 {
        return None;
    }
    let [.., s0, s1, s2, s3, d0, d1, d2, d3] = *header;
    let ends = (Address::v4([s0, s1, s2, s3]), Address::v4([d0, d1, d2, d3]));
    quoted_key(ends, header[9], quote.get(header_length..)?)
}

fn quoted_ipv6(quote: &[u8]) -> Option<FlowKey> {
    let (header, payload) = quote.split_first_chunk::<{ ipv6::HEADER_LENGTH }>()?;
    if header[0] >> 4 != 6 {
        return None;
    }
    let source = Address::v6(*header.get(8..)?.first_chunk()?);
    let destination = Address::v6(*header.get(24..)?.first_chunk()?);
    let upper = ipv6::skip_extensions(header[6], payload).ok()?;
    quoted_key((source, destination), upper.protocol, upper.payload)
}

fn quoted_key(ends: (Address, Address), protocol: u8, segment: &[u8]) -> Option<FlowKey> {
    let protocol = Protocol::from_number(protocol)?;
    if !matches!(protocol, Protocol::Udp | Protocol::Tcp) {
        return None;
    }
    // Eight bytes are what RFC 792 promises; the ports are the first four of them.
    let [s0, s1, d0, d1, ..] = *segment.first_chunk::<8>()?;
    Some(FlowKey {
        local: Endpoint::new(ends.0, u16::from_be_bytes([s0, s1])),
        remote: Endpoint::new(ends.1, u16::from_be_bytes([d0, d1])),
        protocol,
    })
}

fn may_be_told(packet: &Packet) -> bool {
    let source = packet.key.remote.address;
    packet.is_between_hosts() && !source.is_loopback() && !source.is_reserved()
}
