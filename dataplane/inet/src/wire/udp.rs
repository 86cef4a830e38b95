//! UDP, RFC 768.

use super::checksum::Sum;
use crate::error::ParseError;

/// Bytes of a header.
pub const HEADER_LENGTH: usize = 8;

/// A datagram whose length field lies within the IP payload.
#[derive(Clone, Copy, Debug)]
pub struct UdpView<'a> {
    header: &'a [u8; HEADER_LENGTH],
    datagram: &'a [u8],
}

/// The fields of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UdpHeader {
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// Header and payload, in bytes.
    pub length: u16,
    /// Checksum; 0 over IPv4 means none.
    pub checksum: u16,
}

impl<'a> UdpView<'a> {
    /// A view of the datagram at the start of an IP payload; what follows its length is
    /// left out, as Linux does.
    ///
    /// # Errors
    /// [`ParseError::UdpTruncated`], [`ParseError::UdpBadLength`].
    #[inline]
    pub fn new_checked(bytes: &'a [u8]) -> Result<UdpView<'a>, ParseError> {
        let Some(header) = bytes.first_chunk::<HEADER_LENGTH>() else {
            return Err(ParseError::UdpTruncated);
        };
        let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
        match bytes.get(..length) {
            Some(datagram) if length >= HEADER_LENGTH => Ok(UdpView { header, datagram }),
            _ => Err(ParseError::UdpBadLength),
        }
    }

    /// Whether the checksum holds; `pseudo` sums the pseudo-header. The value 0 ("none") is
    /// the caller's to notice.
    #[inline]
    #[must_use]
    pub fn is_checksum_intact(&self, pseudo: Sum) -> bool {
        pseudo.bytes(self.datagram).is_intact()
    }

    /// Source port.
    #[inline]
    #[must_use]
    pub const fn source_port(&self) -> u16 {
        u16::from_be_bytes([self.header[0], self.header[1]])
    }

    /// Destination port.
    #[inline]
    #[must_use]
    pub const fn destination_port(&self) -> u16 {
        u16::from_be_bytes([self.header[2], self.header[3]])
    }

    /// Header and payload, in bytes.
    #[inline]
    #[must_use]
    pub const fn length(&self) -> u16 {
        u16::from_be_bytes([self.header[4], self.header[5]])
    }

    /// Checksum; 0 over IPv4 means none.
    #[inline]
    #[must_use]
    pub const fn checksum(&self) -> u16 {
        u16::from_be_bytes([self.header[6], self.header[7]])
    }

    /// The payload.
    #[inline]
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        self.datagram.get(HEADER_LENGTH..).unwrap_or(&[])
    }
}

impl UdpHeader {
    /// The value of a view.
    #[must_use]
    pub const fn parse(view: &UdpView<'_>) -> UdpHeader {
        UdpHeader {
            source_port: view.source_port(),
            destination_port: view.destination_port(),
            length: view.length(),
            checksum: view.checksum(),
        }
    }

    /// The header on the wire, with its checksum field as it is.
    #[inline]
    #[must_use]
    pub const fn emit(&self) -> [u8; HEADER_LENGTH] {
        let [s0, s1] = self.source_port.to_be_bytes();
        let [d0, d1] = self.destination_port.to_be_bytes();
        let [l0, l1] = self.length.to_be_bytes();
        let [c0, c1] = self.checksum.to_be_bytes();
        [s0, s1, d0, d1, l0, l1, c0, c1]
    }

    /// The header with the checksum of itself and `payload`. A sum of 0 is sent as 0xffff.
    #[inline]
    #[must_use]
    pub fn with_checksum(self, pseudo: Sum, payload: &[u8]) -> UdpHeader {
        let header = UdpHeader { checksum: 0, ..self };
        let checksum = match pseudo.bytes(&header.emit()).bytes(payload).checksum() {
            0 => 0xffff,
            checksum => checksum,
        };
        UdpHeader { checksum, ..header }
    }
}
