//! An address prefix as operators write it: `192.0.2.0/24`, `2001:db8::/32`, or one address.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

/// The first `length` bits of `address`; the rest of the address is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Prefix {
    /// The network.
    pub address: IpAddr,
    /// Bits of it that count: at most 32 for IPv4, 128 for IPv6.
    pub length: u8,
}

/// Why a text is no prefix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrefixError {
    /// No address before the slash.
    #[error("`{0}` is not an address prefix")]
    Syntax(String),
    /// Longer than the address.
    #[error("prefix length {length} of `{text}` is more than {bits}")]
    TooLong {
        /// What was written.
        text: String,
        /// The length in it.
        length: u32,
        /// The most that the family allows.
        bits: u8,
    },
    /// Host bits are set.
    #[error("`{text}` has bits set beyond its length; the network is `{network}`")]
    HostBits {
        /// What was written.
        text: String,
        /// What it probably meant.
        network: Prefix,
    },
    /// An IPv4 address in IPv6 clothes.
    #[error("`{0}` is an IPv4-mapped prefix; packets carry the IPv4 form")]
    Mapped(String),
}

impl Prefix {
    /// Whether every address of `other` is in this prefix.
    pub fn contains(self, other: Prefix) -> bool {
        self.address.is_ipv4() == other.address.is_ipv4()
            && self.length <= other.length
            && network(other.address, self.length) == self.address
    }

    /// The address in 16 bytes, IPv4 as `::ffff:a.b.c.d`, and the length in bits of that form.
    pub fn mapped(self) -> ([u8; 16], u8) {
        match self.address {
            IpAddr::V4(address) => (address.to_ipv6_mapped().octets(), self.length + 96),
            IpAddr::V6(address) => (address.octets(), self.length),
        }
    }
}

/// The address with all bits after the first `length` cleared.
fn network(address: IpAddr, length: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & mask))
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
            IpAddr::V6((address.to_bits() & mask).into())
        }
    }
}

impl FromStr for Prefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Prefix, PrefixError> {
        let syntax = || PrefixError::Syntax(text.into());
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| syntax())?;
        if address.to_canonical() != address {
            return Err(PrefixError::Mapped(text.into()));
        }
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let length = match length {
            None => u32::from(bits),
            Some(length) if length.bytes().all(|byte| byte.is_ascii_digit()) => {
                length.parse().map_err(|_| syntax())?
            }
            Some(_) => return Err(syntax()),
        };
        if length > u32::from(bits) {
            return Err(PrefixError::TooLong { text: text.into(), length, bits });
        }
        let length = length as u8;
        let network = Prefix { address: network(address, length), length };
        if network.address != address {
            return Err(PrefixError::HostBits { text: text.into(), network });
        }
        Ok(network)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_printed_is_what_was_read() {
        for text in ["0.0.0.0/0", "192.0.2.0/24", "198.51.100.1/32", "::/0", "2001:db8::/32"] {
            assert_eq!(prefix(text).to_string(), text);
        }
        assert_eq!(prefix("198.51.100.1").to_string(), "198.51.100.1/32");
    }

    #[test]
    fn mistakes_are_told_apart() {
        assert!(matches!("192.0.2.1/24".parse::<Prefix>(), Err(PrefixError::HostBits { .. })));
        assert!(matches!("192.0.2.0/33".parse::<Prefix>(), Err(PrefixError::TooLong { .. })));
        assert!(matches!("::ffff:192.0.2.0/120".parse::<Prefix>(), Err(PrefixError::Mapped(_))));
        for text in
            ["", "/", "x/8", "192.0.2.0/", "192.0.2.0/+8", "192.0.2/24", "1.2.3.4/99999999999"]
        {
            assert!(matches!(text.parse::<Prefix>(), Err(PrefixError::Syntax(_))), "{text}");
        }
    }

    #[test]
    fn containment_is_by_family_and_bits() {
        assert!(prefix("10.0.0.0/8").contains(prefix("10.1.0.0/16")));
        assert!(prefix("0.0.0.0/0").contains(prefix("10.1.0.0/16")));
        assert!(!prefix("10.1.0.0/16").contains(prefix("10.0.0.0/8")));
        assert!(!prefix("::/0").contains(prefix("10.0.0.0/8")));
        assert_eq!(prefix("192.0.2.0/24").mapped().1, 120);
    }
}
