//! IPv4, RFC 791.

use core::net::Ipv4Addr;

use super::checksum::Sum;
use crate::error::ParseError;

/// Bytes of a header without options.
pub const HEADER_LENGTH: usize = 20;

/// A packet whose header lies within the bytes and whose lengths agree.
#[derive(Clone, Copy, Debug)]
pub struct Ipv4View<'a> {
    header: &'a [u8; HEADER_LENGTH],
    options: &'a [u8],
    payload: &'a [u8],
}

/// The fields of a header. Options stay with the view; an emitted header has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ipv4Header {
    /// DSCP and ECN (RFC 2474, RFC 3168), once the type of service.
    pub type_of_service: u8,
    /// Header and payload, in bytes.
    pub total_length: u16,
    /// Identification.
    pub identification: u16,
    /// Don't fragment.
    pub dont_fragment: bool,
    /// More fragments follow.
    pub more_fragments: bool,
    /// Fragment offset in units of 8 bytes, 13 bits.
    pub fragment_offset: u16,
    /// Time to live.
    pub time_to_live: u8,
    /// IANA number of what the packet carries.
    pub protocol: u8,
    /// Source address.
    pub source: Ipv4Addr,
    /// Destination address.
    pub destination: Ipv4Addr,
}

impl<'a> Ipv4View<'a> {
    /// A view of the packet at the start of `bytes`; what follows its total length is an
    /// Ethernet trailer and left out. The checksum is a question of its own.
    ///
    /// # Errors
    /// [`ParseError::Ipv4Truncated`], [`ParseError::Ipv4BadVersion`],
    /// [`ParseError::Ipv4BadHeaderLength`], [`ParseError::Ipv4BadTotalLength`].
    #[inline]
    pub fn new_checked(bytes: &'a [u8]) -> Result<Ipv4View<'a>, ParseError> {
        let Some(header) = bytes.first_chunk::<HEADER_LENGTH>() else {
            return Err(ParseError::Ipv4Truncated);
        };
        if header[0] >> 4 != 4 {
            return Err(ParseError::Ipv4BadVersion);
        }
        let header_length = usize::from(header[0] & 0x0f) * 4;
        if header_length < HEADER_LENGTH {
            return Err(ParseError::Ipv4BadHeaderLength);
        }
        let total_length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        let (Some(options), Some(payload)) =
            (bytes.get(HEADER_LENGTH..header_length), bytes.get(header_length..total_length))
        else {
            return Err(ParseError::Ipv4BadTotalLength);
        };
        Ok(Ipv4View { header, options, payload })
    }

    /// Whether the header checksum holds.
    #[inline]
    #[must_use]
    pub fn is_checksum_intact(&self) -> bool {
        let header = Sum::new().bytes(self.header);
        // Few packets bear options: the loop over none is worth the branch.
        match self.options {
            [] => header.is_intact(),
            options => header.bytes(options).is_intact(),
        }
    }

    /// Header length in bytes, options included.
    #[inline]
    #[must_use]
    pub const fn header_length(&self) -> usize {
        HEADER_LENGTH + self.options.len()
    }

    /// DSCP and ECN.
    #[inline]
    #[must_use]
    pub const fn type_of_service(&self) -> u8 {
        self.header[1]
    }

    /// Header and payload, in bytes.
    #[inline]
    #[must_use]
    pub const fn total_length(&self) -> u16 {
        u16::from_be_bytes([self.header[2], self.header[3]])
    }

    /// Identification.
    #[inline]
    #[must_use]
    pub const fn identification(&self) -> u16 {
        u16::from_be_bytes([self.header[4], self.header[5]])
    }

    /// Don't fragment.
    #[inline]
    #[must_use]
    pub const fn dont_fragment(&self) -> bool {
        self.header[6] & 0x40 != 0
    }

    /// More fragments follow.
    #[inline]
    #[must_use]
    pub const fn more_fragments(&self) -> bool {
        self.header[6] & 0x20 != 0
    }

    /// Fragment offset in units of 8 bytes.
    #[inline]
    #[must_use]
    pub const fn fragment_offset(&self) -> u16 {
        u16::from_be_bytes([self.header[6] & 0x1f, self.header[7]])
    }

    /// Whether this is a piece of a packet, the first one included.
    #[inline]
    #[must_use]
    pub const fn is_fragment(&self) -> bool {
        u16::from_be_bytes([self.header[6], self.header[7]]) & 0x3fff != 0
    }

    /// Time to live.
    #[inline]
    #[must_use]
    pub const fn time_to_live(&self) -> u8 {
        self.header[8]
    }

    /// IANA number of what the packet carries.
    #[inline]
    #[must_use]
    pub const fn protocol(&self) -> u8 {
        self.header[9]
    }

    /// Header checksum.
    #[inline]
    #[must_use]
    pub const fn header_checksum(&self) -> u16 {
        u16::from_be_bytes([self.header[10], self.header[11]])
    }

    /// Source address.
    #[inline]
    #[must_use]
    pub const fn source(&self) -> Ipv4Addr {
        let [.., a, b, c, d, _, _, _, _] = *self.header;
        Ipv4Addr::new(a, b, c, d)
    }

    /// Destination address.
    #[inline]
    #[must_use]
    pub const fn destination(&self) -> Ipv4Addr {
        let [.., a, b, c, d] = *self.header;
        Ipv4Addr::new(a, b, c, d)
    }

    /// Options, uninterpreted.
    #[inline]
    #[must_use]
    pub const fn options(&self) -> &'a [u8] {
        self.options
    }

    /// What the packet carries.
    #[inline]
    #[must_use]
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

impl Ipv4Header {
    /// The value of a view.
    #[must_use]
    pub const fn parse(view: &Ipv4View<'_>) -> Ipv4Header {
        Ipv4Header {
            type_of_service: view.type_of_service(),
            total_length: view.total_length(),
            identification: view.identification(),
            dont_fragment: view.dont_fragment(),
            more_fragments: view.more_fragments(),
            fragment_offset: view.fragment_offset(),
            time_to_live: view.time_to_live(),
            protocol: view.protocol(),
            source: view.source(),
            destination: view.destination(),
        }
    }

    /// The header on the wire, without options, its checksum right.
    #[inline]
    #[must_use]
    pub fn emit(&self) -> [u8; HEADER_LENGTH] {
        let [l0, l1] = self.total_length.to_be_bytes();
        let [i0, i1] = self.identification.to_be_bytes();
        let fragment = u16::from(self.dont_fragment) << 14
            | u16::from(self.more_fragments) << 13
            | self.fragment_offset & 0x1fff;
        let [f0, f1] = fragment.to_be_bytes();
        let [s0, s1, s2, s3] = self.source.octets();
        let [d0, d1, d2, d3] = self.destination.octets();
        let mut header = [
            0x45,
            self.type_of_service,
            l0,
            l1,
            i0,
            i1,
            f0,
            f1, //
            self.time_to_live,
            self.protocol,
            0,
            0,
            s0,
            s1,
            s2,
            s3,
            d0,
            d1,
            d2,
            d3,
        ];
        let [c0, c1] = Sum::new().bytes(&header).checksum().to_be_bytes();
        header[10] = c0;
        header[11] = c1;
        header
    }
}
