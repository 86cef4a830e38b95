//! The fast path's parser: one pass over a frame, from bytes to a value.

use crate::error::ParseError;
use crate::flow::{Address, Endpoint, Family, FlowKey, Protocol};
use crate::wire::checksum::{Sum, looks_unfinished};
use crate::wire::ethernet::{
    ETHERTYPE_IPV4, ETHERTYPE_IPV6, EthernetHeader, EthernetView, is_group,
};
use crate::wire::icmp::{IcmpMessage, IcmpView};
use crate::wire::icmpv6::{Icmpv6Message, Icmpv6View};
use crate::wire::ipv4::Ipv4View;
use crate::wire::ipv6::Ipv6View;
use crate::wire::tcp::{TcpFlags, TcpView};
use crate::wire::udp::UdpView;
use crate::wire::vlan::{Untagged, VlanTags, is_tag};
use crate::wire::{icmp, icmpv6, udp};

/// A received packet as a value. Offsets count from the start of the frame that was parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Link-layer addresses.
    pub ethernet: EthernetHeader,
    /// VLAN tags.
    pub vlan: VlanTags,
    /// Who sent it to whom.
    pub key: FlowKey,
    /// What the transport header says beyond the ports.
    pub transport: Transport,
    /// What is known of the transport checksum.
    pub checksum: ChecksumState,
    /// IPv4 time to live, IPv6 hop limit.
    pub hop_limit: u8,
    /// DSCP and ECN: IPv4 type of service, IPv6 traffic class.
    pub traffic_class: u8,
    /// Where the IP header starts.
    pub network_offset: u16,
    /// Where the transport header starts.
    pub transport_offset: u16,
    /// Where the transport's payload starts.
    pub payload_offset: u16,
    /// The transport's payload, in bytes: no Ethernet trailer, nothing beyond UDP's length.
    pub payload_length: u16,
}

/// What a transport header says beyond the ports, which are in the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// UDP.
    Udp,
    /// TCP.
    Tcp {
        /// Sequence number.
        sequence_number: u32,
        /// Acknowledgment number; counts if ACK is set.
        acknowledgment_number: u32,
        /// Window, unscaled.
        window: u16,
        /// Control bits.
        flags: TcpFlags,
    },
    /// ICMP.
    Icmp(IcmpMessage),
    /// ICMPv6.
    Icmpv6(Icmpv6Message),
}

/// Which checksums to verify. Structural rules (UDP over IPv6 must have one) hold always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChecksumPolicy {
    /// IPv4 header and transport.
    #[default]
    Verify,
    /// The IPv4 header only: a device has verified the transport's, or nobody cares.
    NetworkOnly,
    /// None.
    Ignore,
}

/// What is known of a packet's transport checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChecksumState {
    /// It holds.
    Verified,
    /// UDP over IPv4 without one.
    Absent,
    /// The policy was not to look.
    Unchecked,
}

impl Packet {
    /// The transport's payload within the frame that was parsed; empty if `frame` is shorter
    /// than that one.
    #[inline]
    #[must_use]
    pub fn payload<'a>(&self, frame: &'a [u8]) -> &'a [u8] {
        frame.get(self.payload_range()).unwrap_or(&[])
    }

    /// Where the transport's payload lies.
    #[inline]
    #[must_use]
    pub const fn payload_range(&self) -> core::ops::Range<usize> {
        let start = self.payload_offset as usize;
        start..start + self.payload_length as usize
    }

    /// The IP packet within the frame that was parsed, up to the end of the transport's
    /// payload; empty if `frame` is shorter than that one.
    #[inline]
    #[must_use]
    pub fn network<'a>(&self, frame: &'a [u8]) -> &'a [u8] {
        frame.get(usize::from(self.network_offset)..self.payload_range().end).unwrap_or(&[])
    }

    /// Whether both ends are single hosts on both layers, as those of an answer must be.
    #[inline]
    #[must_use]
    pub(crate) const fn is_between_hosts(&self) -> bool {
        !is_group(self.ethernet.destination)
            && !is_group(self.ethernet.source)
            && names_host(&self.key.local.address)
            && names_host(&self.key.remote.address)
    }
}

#[inline]
const fn names_host(address: &Address) -> bool {
    !(address.is_multicast()
        || address.is_limited_broadcast()
        || address.is_unspecified()
        || address.is_this_network())
}

/// Reads a frame.
///
/// The order of refusals: link, IP header, source address, fragments, transport.
///
/// # Errors
/// One [`ParseError`] for each reason to refuse.
#[inline]
pub fn parse(frame: &[u8], checks: ChecksumPolicy) -> Result<Packet, ParseError> {
    let ethernet = EthernetView::new_checked(frame)?;
    let (ether_type, payload) = (ethernet.ether_type(), ethernet.payload());
    if is_tag(ether_type) {
        return parse_tagged(frame, ethernet, checks);
    }
    parse_untagged(
        frame,
        &ethernet,
        &Untagged { tags: VlanTags::NONE, ether_type, payload },
        checks,
    )
}

/// Apart from the common case, whose tags are a constant then.
#[inline(never)]
fn parse_tagged(
    frame: &[u8],
    ethernet: EthernetView<'_>,
    checks: ChecksumPolicy,
) -> Result<Packet, ParseError> {
    let link = VlanTags::parse(ethernet.ether_type(), ethernet.payload())?;
    parse_untagged(frame, &ethernet, &link, checks)
}

#[inline(always)]
fn parse_untagged(
    frame: &[u8],
    ethernet: &EthernetView<'_>,
    link: &Untagged<'_>,
    checks: ChecksumPolicy,
) -> Result<Packet, ParseError> {
    // Each family goes to the end by itself: values that meet in one variable go through
    // memory, which cost a third of the time.
    match link.ether_type {
        ETHERTYPE_IPV4 => {
            let network = parse_ipv4(link.payload, checks)?;
            finish(frame, ethernet, link, &network, checks)
        }
        ETHERTYPE_IPV6 => {
            let network = parse_ipv6(link.payload)?;
            finish(frame, ethernet, link, &network, checks)
        }
        _ => Err(ParseError::EtherTypeUnknown),
    }
}

/// An IP header read, extension headers included.
struct Network<'a> {
    source: Address,
    destination: Address,
    protocol: Protocol,
    hop_limit: u8,
    traffic_class: u8,
    header_length: usize,
    payload: &'a [u8],
}

/// A transport header read.
struct Segment {
    source_port: u16,
    destination_port: u16,
    transport: Transport,
    checksum: ChecksumState,
    header_length: usize,
    payload_length: usize,
}

#[inline(always)]
fn finish(
    frame: &[u8],
    ethernet: &EthernetView<'_>,
    link: &Untagged<'_>,
    network: &Network<'_>,
    checks: ChecksumPolicy,
) -> Result<Packet, ParseError> {
    // An IP payload's length fits 16 bits; UDP puts its own.
    let pseudo = Sum::pseudo(&network.source, &network.destination, network.protocol, 0);
    let family = network.source.family();
    let payload = network.payload;
    let segment = match network.protocol {
        Protocol::Udp => parse_udp(payload, family, pseudo, checks)?,
        Protocol::Tcp => parse_tcp(payload, pseudo, checks)?,
        Protocol::Icmp => parse_icmp(payload, checks)?,
        Protocol::Icmpv6 => parse_icmpv6(payload, pseudo, checks)?,
    };
    // At most 22 bytes of link header, and an IP packet's 16-bit lengths minus its headers:
    // extensions take 8 × 2,048 bytes at most, so each offset fits 16 bits.
    let network_offset = frame.len() - link.payload.len();
    let transport_offset = network_offset + network.header_length;
    Ok(Packet {
        ethernet: EthernetHeader::parse(ethernet),
        vlan: link.tags,
        key: FlowKey {
            remote: Endpoint::new(network.source, segment.source_port),
            local: Endpoint::new(network.destination, segment.destination_port),
            protocol: network.protocol,
        },
        transport: segment.transport,
        checksum: segment.checksum,
        hop_limit: network.hop_limit,
        traffic_class: network.traffic_class,
        network_offset: network_offset as u16,
        transport_offset: transport_offset as u16,
        payload_offset: (transport_offset + segment.header_length) as u16,
        payload_length: segment.payload_length as u16,
    })
}

#[inline(always)]
fn parse_ipv4(bytes: &[u8], checks: ChecksumPolicy) -> Result<Network<'_>, ParseError> {
    let view = Ipv4View::new_checked(bytes)?;
    if checks != ChecksumPolicy::Ignore && !view.is_checksum_intact() {
        return Err(ParseError::Ipv4BadChecksum);
    }
    let source = Address::v4(view.source().octets());
    let destination = Address::v4(view.destination().octets());
    if source.is_multicast()
        || source.is_limited_broadcast()
        || source.is_this_network() && !destination.is_limited_broadcast()
    {
        return Err(ParseError::SourceMartian);
    }
    if view.is_fragment() {
        return Err(ParseError::Fragment);
    }
    let protocol = match Protocol::from_number(view.protocol()) {
        None | Some(Protocol::Icmpv6) => return Err(ParseError::ProtocolUnsupported),
        Some(protocol) => protocol,
    };
    Ok(Network {
        source,
        destination,
        protocol,
        hop_limit: view.time_to_live(),
        traffic_class: view.type_of_service(),
        header_length: view.header_length(),
        payload: view.payload(),
    })
}

#[inline(always)]
fn parse_ipv6(bytes: &[u8]) -> Result<Network<'_>, ParseError> {
    let view = Ipv6View::new_checked(bytes)?;
    let source = Address::v6(view.source().octets());
    let destination = Address::v6(view.destination().octets());
    if source.is_multicast() {
        return Err(ParseError::SourceMartian);
    }
    let upper = view.upper_layer()?;
    let protocol = match Protocol::from_number(upper.protocol) {
        None | Some(Protocol::Icmp) => return Err(ParseError::ProtocolUnsupported),
        Some(protocol) => protocol,
    };
    let extensions = view.payload().len() - upper.payload.len();
    Ok(Network {
        source,
        destination,
        protocol,
        hop_limit: view.hop_limit(),
        traffic_class: view.traffic_class(),
        header_length: crate::wire::ipv6::HEADER_LENGTH + extensions,
        payload: upper.payload,
    })
}

#[inline(always)]
fn parse_udp(
    payload: &[u8],
    family: Family,
    pseudo: Sum,
    checks: ChecksumPolicy,
) -> Result<Segment, ParseError> {
    let view = UdpView::new_checked(payload)?;
    let checksum = match (view.checksum(), family) {
        (0, Family::Ipv4) => ChecksumState::Absent,
        (0, Family::Ipv6) => return Err(ParseError::UdpZeroChecksum),
        _ if checks != ChecksumPolicy::Verify => ChecksumState::Unchecked,
        (field, _) => {
            let pseudo = pseudo.word(view.length());
            if !view.is_checksum_intact(pseudo) {
                return Err(match looks_unfinished(field, pseudo) {
                    true => ParseError::UdpChecksumUnfinished,
                    false => ParseError::UdpBadChecksum,
                });
            }
            ChecksumState::Verified
        }
    };
    Ok(Segment {
        source_port: view.source_port(),
        destination_port: view.destination_port(),
        transport: Transport::Udp,
        checksum,
        header_length: udp::HEADER_LENGTH,
        payload_length: view.payload().len(),
    })
}

#[inline(always)]
fn parse_tcp(payload: &[u8], pseudo: Sum, checks: ChecksumPolicy) -> Result<Segment, ParseError> {
    let view = TcpView::new_checked(payload)?;
    let mut checksum = ChecksumState::Unchecked;
    if checks == ChecksumPolicy::Verify {
        let pseudo = pseudo.word(payload.len() as u16);
        if !view.is_checksum_intact(pseudo) {
            return Err(match looks_unfinished(view.checksum(), pseudo) {
                true => ParseError::TcpChecksumUnfinished,
                false => ParseError::TcpBadChecksum,
            });
        }
        checksum = ChecksumState::Verified;
    }
    Ok(Segment {
        source_port: view.source_port(),
        destination_port: view.destination_port(),
        transport: Transport::Tcp {
            sequence_number: view.sequence_number(),
            acknowledgment_number: view.acknowledgment_number(),
            window: view.window(),
            flags: view.flags(),
        },
        checksum,
        header_length: view.header_length(),
        payload_length: view.payload().len(),
    })
}

#[inline(never)]
fn parse_icmp(payload: &[u8], checks: ChecksumPolicy) -> Result<Segment, ParseError> {
    let view = IcmpView::new_checked(payload)?;
    let verify = checks == ChecksumPolicy::Verify;
    if verify && !view.is_checksum_intact() {
        return Err(ParseError::IcmpBadChecksum);
    }
    Ok(Segment {
        source_port: 0,
        destination_port: 0,
        transport: Transport::Icmp(IcmpMessage::parse(&view)),
        checksum: if verify { ChecksumState::Verified } else { ChecksumState::Unchecked },
        header_length: icmp::HEADER_LENGTH,
        payload_length: view.payload().len(),
    })
}

#[inline(never)]
fn parse_icmpv6(
    payload: &[u8],
    pseudo: Sum,
    checks: ChecksumPolicy,
) -> Result<Segment, ParseError> {
    let view = Icmpv6View::new_checked(payload)?;
    let verify = checks == ChecksumPolicy::Verify;
    if verify && !view.is_checksum_intact(pseudo.word(payload.len() as u16)) {
        return Err(ParseError::Icmpv6BadChecksum);
    }
    Ok(Segment {
        source_port: 0,
        destination_port: 0,
        transport: Transport::Icmpv6(Icmpv6Message::parse(&view)),
        checksum: if verify { ChecksumState::Verified } else { ChecksumState::Unchecked },
        header_length: icmpv6::HEADER_LENGTH,
        payload_length: view.payload().len(),
    })
}

// Values of a batch of 64 stay within the first-level cache's 32 KiB beside the headers.
const _: () = assert!(size_of::<Packet>() <= 112);
