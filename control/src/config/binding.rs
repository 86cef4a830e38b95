//! What is handed to Weir: addresses, a protocol, one port or all.

use std::fmt;
use std::str::FromStr;

use super::prefix::{Prefix, PrefixError};

/// The protocols that can be bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// UDP, the IP protocol 17.
    Udp,
}

impl Protocol {
    /// The number in the IP header.
    pub fn number(self) -> u8 {
        match self {
            Protocol::Udp => 17,
        }
    }

    /// The name in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Udp => "udp",
        }
    }
}

/// Why a text is no binding.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BindingError {
    /// The prefix is wrong.
    #[error(transparent)]
    Prefix(#[from] PrefixError),
    /// TCP is not served yet.
    #[error("protocol `tcp` cannot be bound: Weir serves UDP; TCP stays with the kernel")]
    Tcp,
    /// Another word.
    #[error("`{0}` is not a protocol that can be bound")]
    Protocol(String),
    /// Not 1 to 65535, and not all.
    #[error("`{0}` is not a port from 1 to 65535, nor \"all\"")]
    Port(String),
    /// Not three parts.
    #[error("`{0}` is not PROTOCOL,PREFIX,PORT")]
    Syntax(String),
}

/// Packets to any address of a prefix, of one protocol, to one port or all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Binding {
    /// Destination addresses.
    pub prefix: Prefix,
    /// Transport protocol.
    pub protocol: Protocol,
    /// Destination port; `None` is all of them.
    pub port: Option<u16>,
}

impl Binding {
    /// From the words of the configuration.
    ///
    /// # Errors
    /// The first part that is wrong.
    pub fn parse(prefix: &str, protocol: &str, port: &str) -> Result<Binding, BindingError> {
        let protocol = match protocol {
            "udp" => Protocol::Udp,
            "tcp" => return Err(BindingError::Tcp),
            other => return Err(BindingError::Protocol(other.into())),
        };
        let port = match port {
            "all" => None,
            port => match port.parse() {
                Ok(0) | Err(_) => return Err(BindingError::Port(port.into())),
                Ok(port) => Some(port),
            },
        };
        Ok(Binding { prefix: prefix.parse()?, protocol, port })
    }

    /// Whether every packet of `other` is one of this binding too.
    pub fn covers(&self, other: &Binding) -> bool {
        self.protocol == other.protocol
            && (self.port.is_none() || self.port == other.port)
            && self.prefix.contains(other.prefix)
    }

    /// The key that the map `bindings` of `steer.bpf.c` has: prefix length in bits (u32),
    /// protocol (u16), port in network order (u16, 0 = all), address (16 bytes, IPv4 mapped).
    pub fn steer_key(&self) -> Vec<u8> {
        let (address, length) = self.prefix.mapped();
        let mut key = Vec::with_capacity(STEER_KEY_SIZE);
        key.extend((32 + u32::from(length)).to_ne_bytes());
        key.extend(u16::from(self.protocol.number()).to_ne_bytes());
        key.extend(self.port.unwrap_or(0).to_be_bytes());
        key.extend(address);
        key
    }

    /// Reads such a key; `None` if it is not one.
    pub fn from_steer_key(key: &[u8]) -> Option<Binding> {
        let key: &[u8; STEER_KEY_SIZE] = key.try_into().ok()?;
        let (length, rest) = key.split_first_chunk::<4>()?;
        let (protocol, rest) = rest.split_first_chunk::<2>()?;
        let (port, rest) = rest.split_first_chunk::<2>()?;
        let length = u32::from_ne_bytes(*length).checked_sub(32).filter(|&length| length <= 128)?;
        if u16::from_ne_bytes(*protocol) != u16::from(Protocol::Udp.number()) {
            return None;
        }
        let address = std::net::Ipv6Addr::from(<[u8; 16]>::try_from(rest).ok()?);
        let prefix = match address.to_ipv4_mapped() {
            Some(address) if length >= 96 => {
                Prefix { address: address.into(), length: (length - 96) as u8 }
            }
            _ => Prefix { address: address.into(), length: length as u8 },
        };
        let port = match u16::from_be_bytes(*port) {
            0 => None,
            port => Some(port),
        };
        Some(Binding { prefix, protocol: Protocol::Udp, port })
    }
}

/// Bytes of a key of the map `bindings` of `steer.bpf.c`.
pub const STEER_KEY_SIZE: usize = 24;

impl fmt::Display for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{},", self.protocol.as_str(), self.prefix)?;
        match self.port {
            Some(port) => write!(f, "{port}"),
            None => f.write_str("all"),
        }
    }
}

impl FromStr for Binding {
    type Err = BindingError;

    fn from_str(text: &str) -> Result<Binding, BindingError> {
        let mut parts = text.split(',');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(protocol), Some(prefix), Some(port), None) => {
                Binding::parse(prefix, protocol, port)
            }
            _ => Err(BindingError::Syntax(text.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_key_both_keep_a_binding() {
        for text in ["udp,192.0.2.0/24,80", "udp,198.51.100.1/32,all", "udp,2001:db8::/32,53"] {
            let binding: Binding = text.parse().unwrap();
            assert_eq!(binding.to_string(), text);
            assert_eq!(Binding::from_steer_key(&binding.steer_key()), Some(binding));
        }
    }

    #[test]
    fn the_key_is_that_of_the_c_file() {
        let binding: Binding = "udp,192.0.2.0/24,80".parse().unwrap();
        let mut expected = 152u32.to_ne_bytes().to_vec();
        expected.extend(17u16.to_ne_bytes());
        expected.extend([0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 0]);
        assert_eq!(binding.steer_key(), expected);
    }

    #[test]
    fn all_ports_cover_one_and_not_the_reverse() {
        let parse = |text: &str| text.parse::<Binding>().unwrap();
        let (all, one) = (parse("udp,10.0.0.0/8,all"), parse("udp,10.1.0.0/16,53"));
        assert!(all.covers(&one) && !one.covers(&all));
        let (wide, narrow) = (parse("udp,10.0.0.0/8,53"), parse("udp,10.1.0.0/16,all"));
        assert!(!wide.covers(&narrow) && !narrow.covers(&wide));
    }
}
