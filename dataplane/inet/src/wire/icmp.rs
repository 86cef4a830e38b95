//! ICMP, RFC 792.

use super::checksum::Sum;
use crate::error::ParseError;

/// Bytes of a header, the four that depend on the type included.
pub const HEADER_LENGTH: usize = 8;
/// Type of destination unreachable.
pub const DESTINATION_UNREACHABLE: u8 = 3;
/// Code of destination unreachable: no socket has the port.
pub const CODE_PORT_UNREACHABLE: u8 = 3;
/// Code of destination unreachable: too big and not to be fragmented (RFC 1191).
pub const CODE_FRAGMENTATION_NEEDED: u8 = 4;

const ECHO_REPLY: u8 = 0;
const SOURCE_QUENCH: u8 = 4;
const REDIRECT: u8 = 5;
const ECHO_REQUEST: u8 = 8;
const TIME_EXCEEDED: u8 = 11;
const PARAMETER_PROBLEM: u8 = 12;

/// A message that fills an IPv4 payload.
#[derive(Clone, Copy, Debug)]
pub struct IcmpView<'a> {
    header: &'a [u8; HEADER_LENGTH],
    message: &'a [u8],
    payload: &'a [u8],
}

/// A message's header, by its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IcmpMessage {
    /// Type 8.
    EchoRequest {
        /// Identifier.
        identifier: u16,
        /// Sequence number.
        sequence: u16,
    },
    /// Type 0.
    EchoReply {
        /// Identifier.
        identifier: u16,
        /// Sequence number.
        sequence: u16,
    },
    /// Type 3; a packet of ours is quoted.
    DestinationUnreachable {
        /// Code.
        code: u8,
        /// The next hop's MTU (RFC 1191), with code 4; else 0.
        mtu: u16,
    },
    /// Any other type.
    Other {
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
        /// The four bytes that depend on the type.
        rest: [u8; 4],
    },
}

impl<'a> IcmpView<'a> {
    /// A view of the message that fills an IPv4 payload.
    ///
    /// # Errors
    /// [`ParseError::IcmpTruncated`].
    #[inline]
    pub fn new_checked(message: &'a [u8]) -> Result<IcmpView<'a>, ParseError> {
        match message.split_first_chunk() {
            Some((header, payload)) => Ok(IcmpView { header, message, payload }),
            None => Err(ParseError::IcmpTruncated),
        }
    }

    /// Whether the checksum holds.
    #[must_use]
    pub fn is_checksum_intact(&self) -> bool {
        Sum::new().bytes(self.message).is_intact()
    }

    /// Type.
    #[must_use]
    pub const fn kind(&self) -> u8 {
        self.header[0]
    }

    /// Code.
    #[must_use]
    pub const fn code(&self) -> u8 {
        self.header[1]
    }

    /// Checksum.
    #[must_use]
    pub const fn checksum(&self) -> u16 {
        u16::from_be_bytes([self.header[2], self.header[3]])
    }

    /// The four bytes that depend on the type.
    #[must_use]
    pub const fn rest(&self) -> [u8; 4] {
        let [.., a, b, c, d] = *self.header;
        [a, b, c, d]
    }

    /// Echoed data, or the quoted packet of an error.
    #[must_use]
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

impl IcmpMessage {
    /// The value of a view.
    #[must_use]
    pub const fn parse(view: &IcmpView<'_>) -> IcmpMessage {
        let rest = view.rest();
        let high = u16::from_be_bytes([rest[0], rest[1]]);
        let low = u16::from_be_bytes([rest[2], rest[3]]);
        match (view.kind(), view.code()) {
            (ECHO_REQUEST, 0) => IcmpMessage::EchoRequest { identifier: high, sequence: low },
            (ECHO_REPLY, 0) => IcmpMessage::EchoReply { identifier: high, sequence: low },
            (DESTINATION_UNREACHABLE, code) => IcmpMessage::DestinationUnreachable {
                code,
                mtu: if code == CODE_FRAGMENTATION_NEEDED { low } else { 0 },
            },
            (kind, code) => IcmpMessage::Other { kind, code, rest },
        }
    }

    /// The header on the wire, its checksum that of itself and `payload`.
    #[must_use]
    pub fn emit(&self, payload: &[u8]) -> [u8; HEADER_LENGTH] {
        let (kind, code, [r0, r1, r2, r3]) = match *self {
            IcmpMessage::EchoRequest { identifier, sequence } => {
                (ECHO_REQUEST, 0, pair(identifier, sequence))
            }
            IcmpMessage::EchoReply { identifier, sequence } => {
                (ECHO_REPLY, 0, pair(identifier, sequence))
            }
            IcmpMessage::DestinationUnreachable { code, mtu } => {
                (DESTINATION_UNREACHABLE, code, pair(0, mtu))
            }
            IcmpMessage::Other { kind, code, rest } => (kind, code, rest),
        };
        let mut header = [kind, code, 0, 0, r0, r1, r2, r3];
        let [c0, c1] = Sum::new().bytes(&header).bytes(payload).checksum().to_be_bytes();
        header[2] = c0;
        header[3] = c1;
        header
    }

    /// Whether this is an error, whose payload quotes the packet that caused it.
    #[must_use]
    pub const fn is_error(&self) -> bool {
        match self {
            IcmpMessage::EchoRequest { .. } | IcmpMessage::EchoReply { .. } => false,
            IcmpMessage::DestinationUnreachable { .. } => true,
            IcmpMessage::Other { kind, .. } => {
                matches!(*kind, SOURCE_QUENCH | REDIRECT | TIME_EXCEEDED | PARAMETER_PROBLEM)
            }
        }
    }
}

pub(super) const fn pair(high: u16, low: u16) -> [u8; 4] {
    ((high as u32) << 16 | low as u32).to_be_bytes()
}
