//! What is taken from the kernel: a prefix, a protocol, a port.

use std::fmt;
use std::net::IpAddr;

/// Bits of the redirect program's key ahead of the address: protocol, family and port.
const KEY_BITS: u32 = 32;

/// Packets to a prefix, of a protocol, to a port or to all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Binding {
    prefix: IpAddr,
    length: u8,
    protocol: Protocol,
    port: Option<u16>,
}

/// Which transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// UDP.
    Udp,
    /// TCP.
    Tcp,
    /// Both of them.
    Any,
}

/// Why there is no such binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BindingError {
    /// The prefix is longer than an address.
    #[error("{0}/{1}: a prefix of this family has at most {2} bits")]
    Length(IpAddr, u8, u8),
    /// Bits beyond the prefix are set.
    #[error("{0}/{1}: bits after the prefix are set; did you mean {2}/{1}?")]
    HostBits(IpAddr, u8, IpAddr),
    /// No packet is for port 0.
    #[error("port 0 cannot be bound; leave the port out for all ports")]
    Port,
}

impl Binding {
    /// A binding; `None` is all ports.
    ///
    /// # Errors
    /// [`BindingError`].
    pub fn new(
        prefix: (IpAddr, u8),
        protocol: Protocol,
        port: Option<u16>,
    ) -> Result<Binding, BindingError> {
        let (address, length) = prefix;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        if length > bits {
            return Err(BindingError::Length(address, length, bits));
        }
        let masked = mask(address, length);
        if masked != address {
            return Err(BindingError::HostBits(address, length, masked));
        }
        if port == Some(0) {
            return Err(BindingError::Port);
        }
        Ok(Binding { prefix: address, length, protocol, port })
    }

    /// The prefix and its length in bits.
    pub fn prefix(&self) -> (IpAddr, u8) {
        (self.prefix, self.length)
    }

    /// The protocol.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// The port; `None` is all.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// `struct key` of redirect.bpf.c.
    pub(crate) fn key(&self) -> [u8; 24] {
        let mut key = [0; 24];
        key[..4].copy_from_slice(&(KEY_BITS + u32::from(self.length)).to_ne_bytes());
        key[4] = match self.protocol {
            Protocol::Udp => libc::IPPROTO_UDP as u8,
            Protocol::Tcp => libc::IPPROTO_TCP as u8,
            Protocol::Any => 0,
        };
        key[6..8].copy_from_slice(&self.port.unwrap_or(0).to_be_bytes());
        match self.prefix {
            IpAddr::V4(address) => {
                key[5] = 4;
                key[8..12].copy_from_slice(&address.octets());
            }
            IpAddr::V6(address) => {
                key[5] = 6;
                key[8..24].copy_from_slice(&address.octets());
            }
        }
        key
    }

    /// The bit of `kinds` in redirect.bpf.c that lets the program look for such a binding.
    pub(crate) fn kind(&self) -> usize {
        let any_protocol = usize::from(self.protocol == Protocol::Any);
        let all_ports = usize::from(self.port.is_none());
        let family = usize::from(self.prefix.is_ipv6());
        family * 4 + any_protocol * 2 + all_ports
    }
}

impl fmt::Display for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.protocol {
            Protocol::Udp => "udp",
            Protocol::Tcp => "tcp",
            Protocol::Any => "any",
        };
        write!(f, "{}/{} {protocol} ", self.prefix, self.length)?;
        match self.port {
            Some(port) => write!(f, "port {port}"),
            None => f.write_str("all ports"),
        }
    }
}

fn mask(address: IpAddr, length: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let keep = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            IpAddr::V4((address.to_bits() & keep).into())
        }
        IpAddr::V6(address) => {
            let keep = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
            IpAddr::V6((address.to_bits() & keep).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn refuses_what_cannot_match() {
        let any = Protocol::Any;
        assert!(Binding::new((ip("0.0.0.0"), 0), any, None).is_ok());
        assert!(Binding::new((ip("::"), 0), any, None).is_ok());
        assert_eq!(
            Binding::new((ip("10.0.0.1"), 24), any, None),
            Err(BindingError::HostBits(ip("10.0.0.1"), 24, ip("10.0.0.0")))
        );
        assert_eq!(
            Binding::new((ip("10.0.0.0"), 33), any, None),
            Err(BindingError::Length(ip("10.0.0.0"), 33, 32))
        );
        assert_eq!(Binding::new((ip("::"), 0), any, Some(0)), Err(BindingError::Port));
    }

    #[test]
    fn the_key_has_the_layout_of_the_program() {
        let binding = Binding::new((ip("10.1.0.0"), 16), Protocol::Udp, Some(53)).unwrap();
        let mut key = [0; 24];
        key[..4].copy_from_slice(&48u32.to_ne_bytes());
        key[4..12].copy_from_slice(&[17, 4, 0, 53, 10, 1, 0, 0]);
        assert_eq!(binding.key(), key);
        assert_eq!(binding.kind(), 0);
        let all = Binding::new((ip("fd00::"), 8), Protocol::Any, None).unwrap();
        assert_eq!(all.key()[4..9], [0, 6, 0, 0, 0xfd]);
        assert_eq!(all.kind(), 7);
    }
}
