//! Ethernet II.

use crate::error::ParseError;

/// Bytes of a header without tags.
pub const HEADER_LENGTH: usize = 14;
/// EtherType of IPv4.
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// EtherType of IPv6.
pub const ETHERTYPE_IPV6: u16 = 0x86dd;

/// A frame that holds a whole Ethernet header.
#[derive(Clone, Copy, Debug)]
pub struct EthernetView<'a> {
    header: &'a [u8; HEADER_LENGTH],
    payload: &'a [u8],
}

/// The link-layer addresses. The EtherType depends on what follows, tags included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EthernetHeader {
    /// Destination address.
    pub destination: [u8; 6],
    /// Source address.
    pub source: [u8; 6],
}

impl<'a> EthernetView<'a> {
    /// A view of a frame.
    ///
    /// # Errors
    /// [`ParseError::EthernetTruncated`].
    #[inline]
    pub const fn new_checked(frame: &'a [u8]) -> Result<EthernetView<'a>, ParseError> {
        match frame.split_first_chunk() {
            Some((header, payload)) => Ok(EthernetView { header, payload }),
            None => Err(ParseError::EthernetTruncated),
        }
    }

    /// Destination address.
    #[inline]
    #[must_use]
    pub const fn destination(&self) -> [u8; 6] {
        let [a, b, c, d, e, f, ..] = *self.header;
        [a, b, c, d, e, f]
    }

    /// Source address.
    #[inline]
    #[must_use]
    pub const fn source(&self) -> [u8; 6] {
        let [_, _, _, _, _, _, a, b, c, d, e, f, ..] = *self.header;
        [a, b, c, d, e, f]
    }

    /// The EtherType, a tag's protocol identifier, or an 802.3 length (below 0x0600).
    #[inline]
    #[must_use]
    pub const fn ether_type(&self) -> u16 {
        u16::from_be_bytes([self.header[12], self.header[13]])
    }

    /// What follows the header: tags, packet, trailer.
    #[inline]
    #[must_use]
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

impl EthernetHeader {
    /// The value of a view.
    #[inline]
    #[must_use]
    pub const fn parse(view: &EthernetView<'_>) -> EthernetHeader {
        EthernetHeader { destination: view.destination(), source: view.source() }
    }

    /// The header on the wire, before a payload of type `ether_type`.
    #[inline]
    #[must_use]
    pub const fn emit(&self, ether_type: u16) -> [u8; HEADER_LENGTH] {
        let [d0, d1, d2, d3, d4, d5] = self.destination;
        let [s0, s1, s2, s3, s4, s5] = self.source;
        let [t0, t1] = ether_type.to_be_bytes();
        [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, t0, t1]
    }

    /// The header of an answer.
    #[inline]
    #[must_use]
    pub const fn reversed(self) -> EthernetHeader {
        EthernetHeader { destination: self.source, source: self.destination }
    }
}

/// Whether an address has the group bit set: multicast or broadcast.
#[inline]
#[must_use]
pub const fn is_group(address: [u8; 6]) -> bool {
    address[0] & 1 == 1
}
