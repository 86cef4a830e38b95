//! TCP, RFC 9293: as much as keys and refusals need.

use super::checksum::Sum;
use crate::error::ParseError;

/// Bytes of a header without options.
pub const HEADER_LENGTH: usize = 20;

/// A segment whose header, options included, lies within the IP payload.
#[derive(Clone, Copy, Debug)]
pub struct TcpView<'a> {
    header: &'a [u8; HEADER_LENGTH],
    segment: &'a [u8],
    options: &'a [u8],
    payload: &'a [u8],
}

/// The fields of a header. Options stay with the view; an emitted header has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TcpHeader {
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// Sequence number.
    pub sequence_number: u32,
    /// Acknowledgment number.
    pub acknowledgment_number: u32,
    /// Control bits.
    pub flags: TcpFlags,
    /// Window, unscaled.
    pub window: u16,
    /// Checksum.
    pub checksum: u16,
    /// Urgent pointer.
    pub urgent_pointer: u16,
}

/// The eight control bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    /// No more data from the sender.
    pub const FIN: TcpFlags = TcpFlags(0x01);
    /// Synchronise sequence numbers.
    pub const SYN: TcpFlags = TcpFlags(0x02);
    /// Reset.
    pub const RST: TcpFlags = TcpFlags(0x04);
    /// Push.
    pub const PSH: TcpFlags = TcpFlags(0x08);
    /// The acknowledgment number counts.
    pub const ACK: TcpFlags = TcpFlags(0x10);
    /// The urgent pointer counts.
    pub const URG: TcpFlags = TcpFlags(0x20);
    /// ECN echo (RFC 3168).
    pub const ECE: TcpFlags = TcpFlags(0x40);
    /// Congestion window reduced (RFC 3168).
    pub const CWR: TcpFlags = TcpFlags(0x80);

    /// Whether all of `flags` are set.
    #[inline]
    #[must_use]
    pub const fn contains(self, flags: TcpFlags) -> bool {
        self.0 & flags.0 == flags.0
    }
}

impl core::ops::BitOr for TcpFlags {
    type Output = TcpFlags;

    fn bitor(self, other: TcpFlags) -> TcpFlags {
        TcpFlags(self.0 | other.0)
    }
}

impl<'a> TcpView<'a> {
    /// A view of the segment that fills an IP payload.
    ///
    /// # Errors
    /// [`ParseError::TcpTruncated`], [`ParseError::TcpBadDataOffset`].
    #[inline]
    pub fn new_checked(segment: &'a [u8]) -> Result<TcpView<'a>, ParseError> {
        let Some(header) = segment.first_chunk::<HEADER_LENGTH>() else {
            return Err(ParseError::TcpTruncated);
        };
        let data_offset = usize::from(header[12] >> 4) * 4;
        let (Some(options), Some(payload)) =
            (segment.get(HEADER_LENGTH..data_offset), segment.get(data_offset..))
        else {
            return Err(ParseError::TcpBadDataOffset);
        };
        Ok(TcpView { header, segment, options, payload })
    }

    /// Whether the checksum holds; `pseudo` sums the pseudo-header.
    #[inline]
    #[must_use]
    pub fn is_checksum_intact(&self, pseudo: Sum) -> bool {
        pseudo.bytes(self.segment).is_intact()
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

    /// Sequence number.
    #[inline]
    #[must_use]
    pub const fn sequence_number(&self) -> u32 {
        let [_, _, _, _, a, b, c, d, ..] = *self.header;
        u32::from_be_bytes([a, b, c, d])
    }

    /// Acknowledgment number.
    #[inline]
    #[must_use]
    pub const fn acknowledgment_number(&self) -> u32 {
        let [_, _, _, _, _, _, _, _, a, b, c, d, ..] = *self.header;
        u32::from_be_bytes([a, b, c, d])
    }

    /// Header length in bytes, options included.
    #[inline]
    #[must_use]
    pub const fn header_length(&self) -> usize {
        HEADER_LENGTH + self.options.len()
    }

    /// Control bits.
    #[inline]
    #[must_use]
    pub const fn flags(&self) -> TcpFlags {
        TcpFlags(self.header[13])
    }

    /// Window, unscaled.
    #[inline]
    #[must_use]
    pub const fn window(&self) -> u16 {
        u16::from_be_bytes([self.header[14], self.header[15]])
    }

    /// Checksum.
    #[inline]
    #[must_use]
    pub const fn checksum(&self) -> u16 {
        u16::from_be_bytes([self.header[16], self.header[17]])
    }

    /// Urgent pointer.
    #[inline]
    #[must_use]
    pub const fn urgent_pointer(&self) -> u16 {
        u16::from_be_bytes([self.header[18], self.header[19]])
    }

    /// Options, uninterpreted.
    #[inline]
    #[must_use]
    pub const fn options(&self) -> &'a [u8] {
        self.options
    }

    /// The payload.
    #[inline]
    #[must_use]
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

impl TcpHeader {
    /// The value of a view.
    #[must_use]
    pub const fn parse(view: &TcpView<'_>) -> TcpHeader {
        TcpHeader {
            source_port: view.source_port(),
            destination_port: view.destination_port(),
            sequence_number: view.sequence_number(),
            acknowledgment_number: view.acknowledgment_number(),
            flags: view.flags(),
            window: view.window(),
            checksum: view.checksum(),
            urgent_pointer: view.urgent_pointer(),
        }
    }

    /// The header on the wire, without options, with its checksum field as it is.
    #[must_use]
    pub const fn emit(&self) -> [u8; HEADER_LENGTH] {
        let [s0, s1] = self.source_port.to_be_bytes();
        let [d0, d1] = self.destination_port.to_be_bytes();
        let [n0, n1, n2, n3] = self.sequence_number.to_be_bytes();
        let [a0, a1, a2, a3] = self.acknowledgment_number.to_be_bytes();
        let [w0, w1] = self.window.to_be_bytes();
        let [c0, c1] = self.checksum.to_be_bytes();
        let [u0, u1] = self.urgent_pointer.to_be_bytes();
        [
            s0,
            s1,
            d0,
            d1,
            n0,
            n1,
            n2,
            n3,
            a0,
            a1,
            a2,
            a3, //
            0x50,
            self.flags.0,
            w0,
            w1,
            c0,
            c1,
            u0,
            u1,
        ]
    }

    /// The header with the checksum of itself and `payload`.
    #[must_use]
    pub fn with_checksum(self, pseudo: Sum, payload: &[u8]) -> TcpHeader {
        let header = TcpHeader { checksum: 0, ..self };
        let checksum = pseudo.bytes(&header.emit()).bytes(payload).checksum();
        TcpHeader { checksum, ..header }
    }
}
