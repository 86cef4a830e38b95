//! Whole frames from values: what generators send and tests receive.

use crate::flow::{Endpoint, Family, Protocol};
use crate::wire::checksum::Sum;
use crate::wire::ethernet::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, EthernetHeader};
use crate::wire::ipv4::{self, Ipv4Header};
use crate::wire::ipv6::{self, Ipv6Header};
use crate::wire::tcp::{TcpFlags, TcpHeader};
use crate::wire::udp::UdpHeader;
use crate::wire::vlan::{TAG_LENGTH, VlanTags};
use crate::wire::{ethernet, tcp, udp};

/// The hop limit of what is sent (RFC 1700, Linux's `ip_default_ttl`).
pub const HOP_LIMIT: u8 = 64;

/// What stands around a transport segment: link and IP headers.
#[derive(Clone, Copy, Debug)]
pub struct Envelope {
    /// Link-layer addresses.
    pub ethernet: EthernetHeader,
    /// VLAN tags.
    pub vlan: VlanTags,
    /// The sender.
    pub source: Endpoint,
    /// The receiver, of the sender's family.
    pub destination: Endpoint,
    /// DSCP and ECN.
    pub traffic_class: u8,
}

impl Envelope {
    /// Bytes of the link and IP headers.
    #[inline]
    #[must_use]
    pub const fn length(&self) -> usize {
        let network = match self.source.address.family() {
            Family::Ipv4 => ipv4::HEADER_LENGTH,
            Family::Ipv6 => ipv6::HEADER_LENGTH,
        };
        ethernet::HEADER_LENGTH + TAG_LENGTH * self.vlan.len() + network
    }

    /// The sum of the pseudo-header for a segment of `length` bytes.
    #[inline]
    #[must_use]
    pub fn pseudo(&self, protocol: Protocol, length: u16) -> Sum {
        Sum::pseudo(&self.source.address, &self.destination.address, protocol, length)
    }

    /// Writes the headers at the start of `out` and returns what is behind them. An IPv4
    /// packet is an atomic one (RFC 6864): don't fragment, identification 0.
    ///
    /// `None`, and nothing written, if `out` is too short, the families differ, or the
    /// lengths exceed 16 bits.
    #[inline]
    pub fn write<'a>(
        &self,
        out: &'a mut [u8],
        protocol: Protocol,
        segment_length: usize,
    ) -> Option<&'a mut [u8]> {
        let (ether_type, network) = match self.source.address.family() {
            Family::Ipv4 => (ETHERTYPE_IPV4, ipv4::HEADER_LENGTH),
            Family::Ipv6 => (ETHERTYPE_IPV6, 0),
        };
        let length = u16::try_from(network + segment_length).ok()?;
        if out.len() < self.length()
            || self.source.address.family() != self.destination.address.family()
        {
            return None;
        }
        let tags = self.vlan.as_slice();
        let first = tags.first().map_or(ether_type, |tag| tag.protocol);
        let mut out = put(out, self.ethernet.emit(first))?;
        for (index, tag) in tags.iter().enumerate() {
            let next = tags.get(index + 1).map_or(ether_type, |inner| inner.protocol);
            let [c0, c1] = tag.control.to_be_bytes();
            let [t0, t1] = next.to_be_bytes();
            out = put(out, [c0, c1, t0, t1])?;
        }
        match (self.source.address.ip(), self.destination.address.ip()) {
            (core::net::IpAddr::V4(source), core::net::IpAddr::V4(destination)) => {
                let header = Ipv4Header {
                    type_of_service: self.traffic_class,
                    total_length: length,
                    identification: 0,
                    dont_fragment: true,
                    more_fragments: false,
                    fragment_offset: 0,
                    time_to_live: HOP_LIMIT,
                    protocol: protocol.number(),
                    source,
                    destination,
                };
                put(out, header.emit())
            }
            (core::net::IpAddr::V6(source), core::net::IpAddr::V6(destination)) => {
                let header = Ipv6Header {
                    traffic_class: self.traffic_class,
                    flow_label: 0,
                    payload_length: length,
                    next_header: protocol.number(),
                    hop_limit: HOP_LIMIT,
                    source,
                    destination,
                };
                put(out, header.emit())
            }
            _ => None,
        }
    }
}

/// Writes a UDP frame with right checksums and returns its length, without padding.
///
/// `None` if `out` is too short, the families differ, or the payload exceeds 16-bit lengths.
#[must_use]
pub fn udp(out: &mut [u8], envelope: &Envelope, payload: &[u8]) -> Option<usize> {
    let segment_length = udp::HEADER_LENGTH + payload.len();
    let length = u16::try_from(segment_length).ok()?;
    let header = UdpHeader {
        source_port: envelope.source.port,
        destination_port: envelope.destination.port,
        length,
        checksum: 0,
    };
    let header = header.with_checksum(envelope.pseudo(Protocol::Udp, length), payload);
    let rest = envelope.write(out, Protocol::Udp, segment_length)?;
    put(rest, header.emit())?.get_mut(..payload.len())?.copy_from_slice(payload);
    Some(envelope.length() + segment_length)
}

/// Writes a TCP SYN without options or data, with right checksums, and returns its length.
///
/// `None` if `out` is too short or the families differ.
#[must_use]
pub fn tcp_syn(out: &mut [u8], envelope: &Envelope, sequence_number: u32) -> Option<usize> {
    let header = TcpHeader {
        source_port: envelope.source.port,
        destination_port: envelope.destination.port,
        sequence_number,
        acknowledgment_number: 0,
        flags: TcpFlags::SYN,
        window: 0xffff,
        checksum: 0,
        urgent_pointer: 0,
    };
    let pseudo = envelope.pseudo(Protocol::Tcp, tcp::HEADER_LENGTH as u16);
    let rest = envelope.write(out, Protocol::Tcp, tcp::HEADER_LENGTH)?;
    put(rest, header.with_checksum(pseudo, &[]).emit())?;
    Some(envelope.length() + tcp::HEADER_LENGTH)
}

/// Writes `bytes` at the start of `out` and returns what is behind them.
#[inline]
pub(crate) fn put<const N: usize>(out: &mut [u8], bytes: [u8; N]) -> Option<&mut [u8]> {
    let (head, rest) = out.split_first_chunk_mut::<N>()?;
    *head = bytes;
    Some(rest)
}
