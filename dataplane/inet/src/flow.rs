//! What names a flow: addresses, ports, protocol.

use core::fmt;
use core::hash::{Hash, Hasher};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A flow as this host sees it. `remote` sent the packet, `local` is where it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowKey {
    /// The sender of a received packet.
    pub remote: Endpoint,
    /// The receiver of a received packet.
    pub local: Endpoint,
    /// The transport protocol.
    pub protocol: Protocol,
}

/// An address and a port. ICMP and ICMPv6 have no ports: theirs are 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    /// The address.
    pub address: Address,
    /// The port, in host byte order.
    pub port: u16,
}

/// An IPv4 or IPv6 address in one 16-byte form.
///
/// The family is part of it: `192.0.2.1` and `::ffff:192.0.2.1` differ.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    family: Family,
    /// IPv4: four bytes, then zeros, which add nothing to a checksum.
    octets: [u8; 16],
}

/// Which of the two internet protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Family {
    /// IPv4.
    Ipv4 = 4,
    /// IPv6.
    Ipv6 = 6,
}

/// The transport protocols that the parser knows, by their IANA numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Protocol {
    /// ICMP, over IPv4 only.
    Icmp = 1,
    /// TCP.
    Tcp = 6,
    /// UDP.
    Udp = 17,
    /// ICMPv6, over IPv6 only.
    Icmpv6 = 58,
}

impl FlowKey {
    /// The same flow seen from the other end.
    #[must_use]
    pub const fn reversed(self) -> FlowKey {
        FlowKey { remote: self.local, local: self.remote, protocol: self.protocol }
    }
}

impl Hash for FlowKey {
    /// Five words, whatever the hasher: slices would add their lengths.
    fn hash<H: Hasher>(&self, state: &mut H) {
        for endpoint in [&self.remote, &self.local] {
            let [high, low] = endpoint.address.words();
            state.write_u64(high);
            state.write_u64(low);
        }
        state.write_u64(
            u64::from(self.remote.port)
                | u64::from(self.local.port) << 16
                | u64::from(self.protocol.number()) << 32
                | u64::from(self.remote.address.family as u8) << 40
                | u64::from(self.local.address.family as u8) << 48,
        );
    }
}

impl Endpoint {
    /// An endpoint from its parts.
    #[must_use]
    pub const fn new(address: Address, port: u16) -> Endpoint {
        Endpoint { address, port }
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Endpoint {
        Endpoint { address: address.ip().into(), port: address.port() }
    }
}

impl From<Endpoint> for SocketAddr {
    fn from(endpoint: Endpoint) -> SocketAddr {
        SocketAddr::new(endpoint.address.ip(), endpoint.port)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SocketAddr::from(*self).fmt(f)
    }
}

impl Address {
    /// An IPv4 address from its bytes in network order.
    #[must_use]
    pub const fn v4(octets: [u8; 4]) -> Address {
        let [a, b, c, d] = octets;
        Address { family: Family::Ipv4, octets: [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0] }
    }

    /// An IPv6 address from its bytes in network order.
    #[must_use]
    pub const fn v6(octets: [u8; 16]) -> Address {
        Address { family: Family::Ipv6, octets }
    }

    /// The family.
    #[must_use]
    pub const fn family(&self) -> Family {
        self.family
    }

    /// The 16-byte form: IPv4 in the first four bytes, zeros after them.
    #[must_use]
    pub const fn octets(&self) -> &[u8; 16] {
        &self.octets
    }

    /// The 16-byte form as two big-endian words.
    #[must_use]
    pub const fn words(&self) -> [u64; 2] {
        let word = u128::from_be_bytes(self.octets);
        [(word >> 64) as u64, word as u64]
    }

    /// The standard library's form.
    #[must_use]
    pub const fn ip(&self) -> IpAddr {
        let [a, b, c, d, ..] = self.octets;
        match self.family {
            Family::Ipv4 => IpAddr::V4(Ipv4Addr::new(a, b, c, d)),
            Family::Ipv6 => IpAddr::V6(Ipv6Addr::from_octets(self.octets)),
        }
    }

    /// 224.0.0.0/4 or ff00::/8.
    #[must_use]
    pub const fn is_multicast(&self) -> bool {
        match self.family {
            Family::Ipv4 => self.octets[0] & 0xf0 == 0xe0,
            Family::Ipv6 => self.octets[0] == 0xff,
        }
    }

    /// 255.255.255.255. Directed broadcasts are known to whoever knows the prefixes.
    #[must_use]
    pub const fn is_limited_broadcast(&self) -> bool {
        matches!(self.family, Family::Ipv4) && self.words()[0] >> 32 == 0xffff_ffff
    }

    /// 0.0.0.0 or `::`.
    #[must_use]
    pub const fn is_unspecified(&self) -> bool {
        let [high, low] = self.words();
        high | low == 0
    }

    /// 127.0.0.0/8 or `::1`.
    #[must_use]
    pub const fn is_loopback(&self) -> bool {
        let [high, low] = self.words();
        match self.family {
            Family::Ipv4 => self.octets[0] == 127,
            Family::Ipv6 => high == 0 && low == 1,
        }
    }

    /// 0.0.0.0/8, "this network" (RFC 1122 section 3.2.1.3); IPv4 only.
    #[must_use]
    pub const fn is_this_network(&self) -> bool {
        matches!(self.family, Family::Ipv4) && self.octets[0] == 0
    }

    /// 240.0.0.0/4, class E, the limited broadcast included; IPv4 only.
    #[must_use]
    pub const fn is_reserved(&self) -> bool {
        matches!(self.family, Family::Ipv4) && self.octets[0] >= 0xf0
    }
}

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Address {
        match address {
            IpAddr::V4(v4) => Address::v4(v4.octets()),
            IpAddr::V6(v6) => Address::v6(v6.octets()),
        }
    }
}

impl From<Address> for IpAddr {
    fn from(address: Address) -> IpAddr {
        address.ip()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ip().fmt(f)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ip().fmt(f)
    }
}

impl Protocol {
    /// The protocol with this IANA number.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Protocol> {
        match number {
            1 => Some(Protocol::Icmp),
            6 => Some(Protocol::Tcp),
            17 => Some(Protocol::Udp),
            58 => Some(Protocol::Icmpv6),
            _ => None,
        }
    }

    /// The IANA number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The name in lower case: `udp`, `tcp`, `icmp`, `icmpv6`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Protocol::Icmp => "icmp",
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Icmpv6 => "icmpv6",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
