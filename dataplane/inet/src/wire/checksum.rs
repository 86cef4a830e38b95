//! The Internet checksum: RFC 1071, incremental update RFC 1624.

use crate::flow::{Address, Protocol};

/// A one's complement sum under way, in the machine's byte order (RFC 1071 section 2 (B):
/// the order does not matter until the end).
///
/// Words of 32 bits go into a 64-bit sum, so that carries need no care below 16 GiB.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum(u64);

impl Sum {
    /// The empty sum.
    #[must_use]
    pub const fn new() -> Sum {
        Sum(0)
    }

    /// The pseudo-header of IPv4 (RFC 768, RFC 9293) or IPv6 (RFC 8200 section 8.1); the
    /// two differ only in bytes that are zero. Both addresses are of one family.
    #[inline]
    #[must_use]
    pub fn pseudo(source: &Address, destination: &Address, protocol: Protocol, length: u16) -> Sum {
        Sum::new()
            .fixed(source.octets())
            .fixed(destination.octets())
            .word(u16::from(protocol.number()))
            .word(length)
    }

    /// Adds a 16-bit word given in host order.
    #[inline]
    #[must_use]
    pub const fn word(self, word: u16) -> Sum {
        Sum(self.0 + word.to_be() as u64)
    }

    /// Adds bytes. Only the last piece of a message may have an odd length.
    #[inline]
    #[must_use]
    pub fn bytes(self, bytes: &[u8]) -> Sum {
        let (words, rest) = bytes.as_chunks::<4>();
        let mut sum = self.0;
        for word in words {
            sum += u64::from(u32::from_ne_bytes(*word));
        }
        let last = match *rest {
            [a, b, c] => [a, b, c, 0],
            [a, b] => [a, b, 0, 0],
            [a] => [a, 0, 0, 0],
            _ => return Sum(sum),
        };
        Sum(sum + u64::from(u32::from_ne_bytes(last)))
    }

    /// Adds 16 bytes without a loop.
    #[inline]
    fn fixed(self, bytes: &[u8; 16]) -> Sum {
        let word = u128::from_ne_bytes(*bytes);
        let mask = u128::from(u32::MAX);
        let folded =
            (word & mask) + (word >> 32 & mask) + (word >> 64 & mask) + (word >> 96 & mask);
        Sum(self.0 + folded as u64)
    }

    /// The sum folded to 16 bits, in host order and not complemented.
    #[inline]
    #[must_use]
    pub const fn fold(self) -> u16 {
        let sum = (self.0 & 0xffff_ffff) + (self.0 >> 32);
        let sum = (sum & 0xffff_ffff) + (sum >> 32);
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = (sum & 0xffff) + (sum >> 16);
        u16::from_be(sum as u16)
    }

    /// The checksum to put into a header whose checksum field was summed as zero.
    #[inline]
    #[must_use]
    pub const fn checksum(self) -> u16 {
        !self.fold()
    }

    /// Whether a message summed with its checksum field is intact.
    #[inline]
    #[must_use]
    pub const fn is_intact(self) -> bool {
        self.fold() == 0xffff
    }
}

/// The checksum of a message whose checksum field is zero.
#[inline]
#[must_use]
pub fn checksum(bytes: &[u8]) -> u16 {
    Sum::new().bytes(bytes).checksum()
}

/// The checksum after one 16-bit word changed from `old` to `new` (RFC 1624, equation 3).
/// UDP's reserved value 0 is the caller's to avoid.
#[inline]
#[must_use]
pub const fn update(checksum: u16, old: u16, new: u16) -> u16 {
    let sum = !checksum as u32 + !old as u32 + new as u32;
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    !(sum as u16)
}

/// Whether a transport checksum field looks like what Linux leaves with CHECKSUM_PARTIAL:
/// the folded sum of the pseudo-header (`~csum_tcpudp_magic`), for a device to finish.
///
/// To be asked of checksums that failed; one in 65,536 of them is mistaken.
#[inline]
#[must_use]
pub const fn looks_unfinished(field: u16, pseudo: Sum) -> bool {
    field == pseudo.fold()
}
