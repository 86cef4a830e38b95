//! IPv6 and its extension headers, RFC 8200.

use core::net::Ipv6Addr;

use crate::error::ParseError;

/// Bytes of the fixed header.
pub const HEADER_LENGTH: usize = 40;
/// The most extension headers that a packet may bear.
pub const EXTENSIONS_MAX: usize = 8;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;

/// A packet whose fixed header and payload lie within the bytes.
#[derive(Clone, Copy, Debug)]
pub struct Ipv6View<'a> {
    header: &'a [u8; HEADER_LENGTH],
    payload: &'a [u8],
}

/// The fields of the fixed header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ipv6Header {
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// Flow label, 20 bits.
    pub flow_label: u32,
    /// Extension headers and upper layer, in bytes.
    pub payload_length: u16,
    /// IANA number of the header that follows.
    pub next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Source address.
    pub source: Ipv6Addr,
    /// Destination address.
    pub destination: Ipv6Addr,
}

/// Where the extension headers end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpperLayer<'a> {
    /// IANA number of the upper layer.
    pub protocol: u8,
    /// Its bytes.
    pub payload: &'a [u8],
}

impl<'a> Ipv6View<'a> {
    /// A view of the packet at the start of `bytes`; what follows its payload length is an
    /// Ethernet trailer and left out. Jumbograms (RFC 2675) have payload length 0 and look
    /// like packets that end too early.
    ///
    /// # Errors
    /// [`ParseError::Ipv6Truncated`], [`ParseError::Ipv6BadVersion`],
    /// [`ParseError::Ipv6BadPayloadLength`].
    #[inline]
    pub fn new_checked(bytes: &'a [u8]) -> Result<Ipv6View<'a>, ParseError> {
        let Some((header, rest)) = bytes.split_first_chunk::<HEADER_LENGTH>() else {
            return Err(ParseError::Ipv6Truncated);
        };
        if header[0] >> 4 != 6 {
            return Err(ParseError::Ipv6BadVersion);
        }
        let payload_length = usize::from(u16::from_be_bytes([header[4], header[5]]));
        match rest.get(..payload_length) {
            Some(payload) => Ok(Ipv6View { header, payload }),
            None => Err(ParseError::Ipv6BadPayloadLength),
        }
    }

    /// DSCP and ECN.
    #[inline]
    #[must_use]
    pub const fn traffic_class(&self) -> u8 {
        self.header[0] << 4 | self.header[1] >> 4
    }

    /// Flow label, 20 bits.
    #[inline]
    #[must_use]
    pub const fn flow_label(&self) -> u32 {
        u32::from_be_bytes([0, self.header[1] & 0x0f, self.header[2], self.header[3]])
    }

    /// Extension headers and upper layer, in bytes.
    #[inline]
    #[must_use]
    pub const fn payload_length(&self) -> u16 {
        u16::from_be_bytes([self.header[4], self.header[5]])
    }

    /// IANA number of the header that follows.
    #[inline]
    #[must_use]
    pub const fn next_header(&self) -> u8 {
        self.header[6]
    }

    /// Hop limit.
    #[inline]
    #[must_use]
    pub const fn hop_limit(&self) -> u8 {
        self.header[7]
    }

    /// Source address.
    #[inline]
    #[must_use]
    pub fn source(&self) -> Ipv6Addr {
        address(self.header, 8)
    }

    /// Destination address.
    #[inline]
    #[must_use]
    pub fn destination(&self) -> Ipv6Addr {
        address(self.header, 24)
    }

    /// Extension headers and upper layer.
    #[inline]
    #[must_use]
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// What the packet carries behind its extension headers.
    ///
    /// # Errors
    /// As [`skip_extensions`].
    #[inline]
    pub fn upper_layer(&self) -> Result<UpperLayer<'a>, ParseError> {
        skip_extensions(self.next_header(), self.payload)
    }
}

impl Ipv6Header {
    /// The value of a view.
    #[must_use]
    pub fn parse(view: &Ipv6View<'_>) -> Ipv6Header {
        Ipv6Header {
            traffic_class: view.traffic_class(),
            flow_label: view.flow_label(),
            payload_length: view.payload_length(),
            next_header: view.next_header(),
            hop_limit: view.hop_limit(),
            source: view.source(),
            destination: view.destination(),
        }
    }

    /// The header on the wire.
    #[inline]
    #[must_use]
    pub fn emit(&self) -> [u8; HEADER_LENGTH] {
        let first = 6 << 28 | u32::from(self.traffic_class) << 20 | self.flow_label & 0x000f_ffff;
        let mut header = [0; HEADER_LENGTH];
        header[..4].copy_from_slice(&first.to_be_bytes());
        header[4..6].copy_from_slice(&self.payload_length.to_be_bytes());
        header[6] = self.next_header;
        header[7] = self.hop_limit;
        header[8..24].copy_from_slice(&self.source.octets());
        header[24..].copy_from_slice(&self.destination.octets());
        header
    }
}

/// Walks over the extension headers at the start of `payload`, the first of which is
/// `next_header`, up to the upper layer: hop-by-hop and destination options, routing with no
/// segment left, authentication (not verified) and atomic fragments (RFC 6946).
///
/// # Errors
/// [`ParseError::Ipv6BadExtension`], [`ParseError::Ipv6ExtensionChainTooLong`],
/// [`ParseError::Ipv6UnknownOption`], [`ParseError::Ipv6RoutingSegments`],
/// [`ParseError::Fragment`].
#[inline]
pub fn skip_extensions(next_header: u8, payload: &[u8]) -> Result<UpperLayer<'_>, ParseError> {
    match is_extension(next_header) {
        true => walk_extensions(next_header, payload),
        false => Ok(UpperLayer { protocol: next_header, payload }),
    }
}

/// Apart from the common case, which has none.
#[cold]
#[inline(never)]
fn walk_extensions(next_header: u8, payload: &[u8]) -> Result<UpperLayer<'_>, ParseError> {
    let mut upper = UpperLayer { protocol: next_header, payload };
    for position in 0..=EXTENSIONS_MAX {
        if !is_extension(upper.protocol) {
            return Ok(upper);
        }
        if position == EXTENSIONS_MAX {
            break;
        }
        if upper.protocol == HOP_BY_HOP && position != 0 {
            return Err(ParseError::Ipv6BadExtension);
        }
        upper = skip_extension(upper)?;
    }
    Err(ParseError::Ipv6ExtensionChainTooLong)
}

#[inline]
const fn is_extension(next_header: u8) -> bool {
    matches!(next_header, HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION_OPTIONS)
}

fn skip_extension(at: UpperLayer<'_>) -> Result<UpperLayer<'_>, ParseError> {
    let Some(&[protocol, units, third, fourth, ..]) = at.payload.first_chunk::<8>() else {
        return Err(ParseError::Ipv6BadExtension);
    };
    // The fragment header's second byte is reserved; AH counts in words of 4, less 2 (RFC 4302).
    let length = match at.protocol {
        FRAGMENT => 8,
        AUTHENTICATION => (usize::from(units) + 2) * 4,
        _ => (usize::from(units) + 1) * 8,
    };
    let Some((extension, payload)) = at.payload.split_at_checked(length) else {
        return Err(ParseError::Ipv6BadExtension);
    };
    match at.protocol {
        // Offset or more-fragments set; the two bits between them are reserved.
        FRAGMENT if u16::from_be_bytes([third, fourth]) & 0xfff9 != 0 => {
            return Err(ParseError::Fragment);
        }
        // The fourth byte counts the segments left.
        ROUTING if fourth != 0 => return Err(ParseError::Ipv6RoutingSegments),
        HOP_BY_HOP | DESTINATION_OPTIONS => check_options(extension.get(2..).unwrap_or(&[]))?,
        _ => {}
    }
    Ok(UpperLayer { protocol, payload })
}

/// Refuses options that must be understood: the highest two bits of an unknown type say what
/// to do with it, and 0 is to go on (RFC 8200 section 4.2). We know none but padding.
fn check_options(mut options: &[u8]) -> Result<(), ParseError> {
    const PAD1: u8 = 0;
    // Every turn takes a byte or more of at most 2,046.
    while let Some((&kind, rest)) = options.split_first() {
        if kind == PAD1 {
            options = rest;
            continue;
        }
        let after = rest.split_first().and_then(|(&length, data)| data.get(usize::from(length)..));
        let Some(after) = after else {
            return Err(ParseError::Ipv6BadExtension);
        };
        if kind >> 6 != 0 {
            return Err(ParseError::Ipv6UnknownOption);
        }
        options = after;
    }
    Ok(())
}

#[inline]
fn address(header: &[u8; HEADER_LENGTH], at: usize) -> Ipv6Addr {
    let mut octets = [0; 16];
    octets.copy_from_slice(&header[at..at + 16]);
    Ipv6Addr::from_octets(octets)
}
