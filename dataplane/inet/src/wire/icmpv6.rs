//! ICMPv6, RFC 4443.

use super::checksum::Sum;
use super::icmp::pair;
use crate::error::ParseError;

/// Bytes of a header, the four that depend on the type included.
pub const HEADER_LENGTH: usize = 8;
/// Type of destination unreachable.
pub const DESTINATION_UNREACHABLE: u8 = 1;
/// Code of destination unreachable: no socket has the port.
pub const CODE_PORT_UNREACHABLE: u8 = 4;

const PACKET_TOO_BIG: u8 = 2;
const ECHO_REQUEST: u8 = 128;
const ECHO_REPLY: u8 = 129;

/// A message that fills what is left of an IPv6 payload.
#[derive(Clone, Copy, Debug)]
pub struct Icmpv6View<'a> {
    header: &'a [u8; HEADER_LENGTH],
    message: &'a [u8],
    payload: &'a [u8],
}

/// A message's header, by its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Icmpv6Message {
    /// Type 128.
    EchoRequest {
        /// Identifier.
        identifier: u16,
        /// Sequence number.
        sequence: u16,
    },
    /// Type 129.
    EchoReply {
        /// Identifier.
        identifier: u16,
        /// Sequence number.
        sequence: u16,
    },
    /// Type 1; a packet of ours is quoted.
    DestinationUnreachable {
        /// Code.
        code: u8,
    },
    /// Type 2; a packet of ours is quoted.
    PacketTooBig {
        /// The next hop's MTU.
        mtu: u32,
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

impl<'a> Icmpv6View<'a> {
    /// A view of the message that fills what is left of an IPv6 payload.
    ///
    /// # Errors
    /// [`ParseError::Icmpv6Truncated`].
    #[inline]
    pub fn new_checked(message: &'a [u8]) -> Result<Icmpv6View<'a>, ParseError> {
        match message.split_first_chunk() {
            Some((header, payload)) => Ok(Icmpv6View { header, message, payload }),
            None => Err(ParseError::Icmpv6Truncated),
        }
    }

    /// Whether the checksum holds; `pseudo` sums the pseudo-header.
    #[must_use]
    pub fn is_checksum_intact(&self, pseudo: Sum) -> bool {
        pseudo.bytes(self.message).is_intact()
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

impl Icmpv6Message {
    /// The value of a view.
    #[must_use]
    pub const fn parse(view: &Icmpv6View<'_>) -> Icmpv6Message {
        let rest = view.rest();
        let high = u16::from_be_bytes([rest[0], rest[1]]);
        let low = u16::from_be_bytes([rest[2], rest[3]]);
        match (view.kind(), view.code()) {
            (ECHO_REQUEST, 0) => Icmpv6Message::EchoRequest { identifier: high, sequence: low },
            (ECHO_REPLY, 0) => Icmpv6Message::EchoReply { identifier: high, sequence: low },
            (DESTINATION_UNREACHABLE, code) => Icmpv6Message::DestinationUnreachable { code },
            // The code is to be ignored (RFC 4443 section 3.2).
            (PACKET_TOO_BIG, _) => Icmpv6Message::PacketTooBig { mtu: u32::from_be_bytes(rest) },
            (kind, code) => Icmpv6Message::Other { kind, code, rest },
        }
    }

    /// The header on the wire, its checksum that of the pseudo-header, itself and `payload`.
    #[must_use]
    pub fn emit(&self, pseudo: Sum, payload: &[u8]) -> [u8; HEADER_LENGTH] {
        let (kind, code, [r0, r1, r2, r3]) = match *self {
            Icmpv6Message::EchoRequest { identifier, sequence } => {
                (ECHO_REQUEST, 0, pair(identifier, sequence))
            }
            Icmpv6Message::EchoReply { identifier, sequence } => {
                (ECHO_REPLY, 0, pair(identifier, sequence))
            }
            Icmpv6Message::DestinationUnreachable { code } => {
                (DESTINATION_UNREACHABLE, code, [0; 4])
            }
            Icmpv6Message::PacketTooBig { mtu } => (PACKET_TOO_BIG, 0, mtu.to_be_bytes()),
            Icmpv6Message::Other { kind, code, rest } => (kind, code, rest),
        };
        let mut header = [kind, code, 0, 0, r0, r1, r2, r3];
        let [c0, c1] = pseudo.bytes(&header).bytes(payload).checksum().to_be_bytes();
        header[2] = c0;
        header[3] = c1;
        header
    }

    /// Whether this is an error (type below 128), whose payload quotes a packet.
    #[must_use]
    pub const fn is_error(&self) -> bool {
        match self {
            Icmpv6Message::EchoRequest { .. } | Icmpv6Message::EchoReply { .. } => false,
            Icmpv6Message::DestinationUnreachable { .. } | Icmpv6Message::PacketTooBig { .. } => {
                true
            }
            Icmpv6Message::Other { kind, .. } => *kind < 128,
        }
    }
}
