//! Why a frame was refused.

use core::fmt;

macro_rules! parse_errors {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $text:literal;)*) => {
        /// Why a frame was refused: one variant for each way out of the parser, so that
        /// each can be a metric's label.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum ParseError {
            $($(#[$doc])* $variant,)*
        }

        impl ParseError {
            /// Every variant, in declaration order: `ALL[e.index()] == e`.
            pub const ALL: [ParseError; [$(ParseError::$variant),*].len()] =
                [$(ParseError::$variant),*];

            /// The name used as a metric's label, in snake case.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(ParseError::$variant => $name,)* }
            }

            const fn text(self) -> &'static str {
                match self { $(ParseError::$variant => $text,)* }
            }
        }
    };
}

parse_errors! {
    /// Fewer than 14 bytes.
    EthernetTruncated = "ethernet_truncated", "frame shorter than an Ethernet header";
    /// The frame ends within an 802.1Q tag.
    VlanTruncated = "vlan_truncated", "frame ends within a VLAN tag";
    /// More than two 802.1Q tags.
    VlanTooManyTags = "vlan_too_many_tags", "more than two VLAN tags";
    /// Neither IPv4 nor IPv6 (ARP, 802.3 length fields and all others).
    EtherTypeUnknown = "ether_type_unknown", "EtherType is neither IPv4 nor IPv6";
    /// Fewer than 20 bytes after the link header.
    Ipv4Truncated = "ipv4_truncated", "packet shorter than an IPv4 header";
    /// EtherType says IPv4, the version field does not.
    Ipv4BadVersion = "ipv4_bad_version", "IPv4 version field is not 4";
    /// Internet header length below 5 words.
    Ipv4BadHeaderLength = "ipv4_bad_header_length", "IPv4 header length below 20 bytes";
    /// Total length below the header length or beyond the frame.
    Ipv4BadTotalLength = "ipv4_bad_total_length", "IPv4 total length does not fit";
    /// The header checksum does not hold.
    Ipv4BadChecksum = "ipv4_bad_checksum", "IPv4 header checksum is wrong";
    /// Fewer than 40 bytes after the link header.
    Ipv6Truncated = "ipv6_truncated", "packet shorter than an IPv6 header";
    /// EtherType says IPv6, the version field does not.
    Ipv6BadVersion = "ipv6_bad_version", "IPv6 version field is not 6";
    /// Payload length beyond the frame.
    Ipv6BadPayloadLength = "ipv6_bad_payload_length", "IPv6 payload length exceeds the frame";
    /// An extension header reaches beyond the payload, or hop-by-hop options stand where
    /// they may not (RFC 8200 section 4.1).
    Ipv6BadExtension = "ipv6_bad_extension", "IPv6 extension header does not fit";
    /// More than [`crate::wire::ipv6::EXTENSIONS_MAX`] extension headers.
    Ipv6ExtensionChainTooLong = "ipv6_extension_chain_too_long", "too many IPv6 extension headers";
    /// An option that we do not know and that asks to be refused (RFC 8200 section 4.2).
    Ipv6UnknownOption = "ipv6_unknown_option", "IPv6 option must be understood and is not";
    /// A routing header with segments left: the packet is not for this node yet.
    Ipv6RoutingSegments = "ipv6_routing_segments", "IPv6 routing header has segments left";
    /// A source that names no single host (RFC 1122 section 3.2.1.3, RFC 4291 section 2.7):
    /// multicast, limited broadcast, or 0.0.0.0/8 towards a unicast address.
    SourceMartian = "source_martian", "source address names no single host";
    /// A fragment, first ones included. IPv6 atomic fragments (RFC 6946) are whole packets.
    Fragment = "fragment", "fragments are not reassembled";
    /// The packet carries none of UDP, TCP, ICMP (over IPv4) and ICMPv6 (over IPv6).
    ProtocolUnsupported = "protocol_unsupported", "transport protocol is not supported";
    /// Fewer than 8 bytes of UDP.
    UdpTruncated = "udp_truncated", "datagram shorter than a UDP header";
    /// UDP length below 8 (0, a jumbogram's, included) or beyond the IP payload.
    UdpBadLength = "udp_bad_length", "UDP length does not fit";
    /// The UDP checksum does not hold.
    UdpBadChecksum = "udp_bad_checksum", "UDP checksum is wrong";
    /// The UDP checksum holds the pseudo-header's sum only: the sender left it to a device
    /// (Linux CHECKSUM_PARTIAL) and no device finished it.
    UdpChecksumUnfinished = "udp_checksum_unfinished", "UDP checksum was left to offload";
    /// Checksum zero over IPv6 (RFC 8200 section 8.1).
    UdpZeroChecksum = "udp_zero_checksum", "UDP over IPv6 without a checksum";
    /// Fewer than 20 bytes of TCP.
    TcpTruncated = "tcp_truncated", "segment shorter than a TCP header";
    /// Data offset below 5 words or beyond the segment.
    TcpBadDataOffset = "tcp_bad_data_offset", "TCP data offset does not fit";
    /// The TCP checksum does not hold.
    TcpBadChecksum = "tcp_bad_checksum", "TCP checksum is wrong";
    /// As [`ParseError::UdpChecksumUnfinished`], for TCP.
    TcpChecksumUnfinished = "tcp_checksum_unfinished", "TCP checksum was left to offload";
    /// Fewer than 8 bytes of ICMP.
    IcmpTruncated = "icmp_truncated", "message shorter than an ICMP header";
    /// The ICMP checksum does not hold.
    IcmpBadChecksum = "icmp_bad_checksum", "ICMP checksum is wrong";
    /// Fewer than 8 bytes of ICMPv6.
    Icmpv6Truncated = "icmpv6_truncated", "message shorter than an ICMPv6 header";
    /// The ICMPv6 checksum does not hold.
    Icmpv6BadChecksum = "icmpv6_bad_checksum", "ICMPv6 checksum is wrong";
}

impl ParseError {
    /// Position in [`ParseError::ALL`], for arrays of counters.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// A transport checksum that the sender left to offload.
    #[must_use]
    pub const fn is_unfinished_checksum(self) -> bool {
        matches!(self, ParseError::UdpChecksumUnfinished | ParseError::TcpChecksumUnfinished)
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl core::error::Error for ParseError {}
