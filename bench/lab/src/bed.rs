//! The usual test bed, ready made: Weir's side and a peer, one veth pair between them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::{Lab, LabError, Namespace, VethOptions};

/// What may differ from one bed to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BedOptions {
    /// Receive and transmit queues of each end.
    pub queues: u32,
    /// Bytes of IP packet that one frame may carry. Native XDP on veth takes up to 3506.
    pub mtu: u32,
    /// GRO on both ends. On, an end without an XDP program takes XDP frames too.
    pub gro: bool,
}

impl Default for BedOptions {
    fn default() -> BedOptions {
        BedOptions { queues: 1, mtu: 1500, gro: false }
    }
}

/// Two namespaces, "weir" and "peer", joined by [`Bed::WEIR_DEVICE`] and [`Bed::PEER_DEVICE`].
///
/// Both are up with their addresses, and checksum offload is off, so that what the kernel sends
/// carries finished checksums. The peer routes [`Bed::PREFIXES`] to Weir's side. Neighbours are
/// pinned and IPv6 asks for no routers: almost nothing crosses that the user did not send (the
/// kernel still announces multicast membership, MLD).
#[derive(Debug)]
pub struct Bed {
    weir: Namespace,
    peer: Namespace,
    weir_mac: [u8; 6],
    peer_mac: [u8; 6],
    lab: Lab,
}

impl Bed {
    /// The interface on Weir's side.
    pub const WEIR_DEVICE: &'static str = "weir0";
    /// The interface on the peer's side.
    pub const PEER_DEVICE: &'static str = "peer0";
    /// Weir's own IPv4 address, in a /24.
    pub const WEIR_V4: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
    /// The peer's IPv4 address, in the same /24.
    pub const PEER_V4: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
    /// Weir's own IPv6 address, in a /64.
    pub const WEIR_V6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1);
    /// The peer's IPv6 address, in the same /64.
    pub const PEER_V6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 2);
    /// What the peer sends to Weir's side: the prefixes for documentation (RFC 5737, RFC 3849).
    pub const PREFIXES: [&'static str; 3] = ["192.0.2.0/24", "198.51.100.0/24", "2001:db8::/32"];

    /// Builds the bed.
    ///
    /// # Errors
    /// When the process has not the privileges (see [`privileged`](crate::privileged)) or the
    /// kernel refuses an option.
    pub fn new(options: BedOptions) -> Result<Bed, LabError> {
        let mut lab = Lab::new()?;
        let weir = lab.namespace("weir")?;
        let peer = lab.namespace("peer")?;
        let veth = VethOptions { queues: options.queues, mtu: options.mtu };
        lab.veth((&weir, Bed::WEIR_DEVICE), (&peer, Bed::PEER_DEVICE), &veth)?;
        start(&weir, Bed::WEIR_DEVICE, options, Bed::WEIR_V4, Bed::WEIR_V6)?;
        start(&peer, Bed::PEER_DEVICE, options, Bed::PEER_V4, Bed::PEER_V6)?;
        let weir_mac = weir.mac(Bed::WEIR_DEVICE)?;
        let peer_mac = peer.mac(Bed::PEER_DEVICE)?;
        for ip in [IpAddr::V4(Bed::PEER_V4), IpAddr::V6(Bed::PEER_V6)] {
            weir.neighbour(Bed::WEIR_DEVICE, ip, peer_mac)?;
        }
        for ip in [IpAddr::V4(Bed::WEIR_V4), IpAddr::V6(Bed::WEIR_V6)] {
            peer.neighbour(Bed::PEER_DEVICE, ip, weir_mac)?;
        }
        for prefix in Bed::PREFIXES {
            let via: IpAddr =
                if prefix.contains(':') { Bed::WEIR_V6.into() } else { Bed::WEIR_V4.into() };
            peer.route(prefix, via)?;
        }
        Ok(Bed { weir, peer, weir_mac, peer_mac, lab })
    }

    /// The namespace in which Weir runs.
    pub fn weir(&self) -> &Namespace {
        &self.weir
    }

    /// The namespace of the clients, the generators and the flood.
    pub fn peer(&self) -> &Namespace {
        &self.peer
    }

    /// The Ethernet address of [`Bed::WEIR_DEVICE`].
    pub fn weir_mac(&self) -> [u8; 6] {
        self.weir_mac
    }

    /// The Ethernet address of [`Bed::PEER_DEVICE`].
    pub fn peer_mac(&self) -> [u8; 6] {
        self.peer_mac
    }

    /// The lab under the bed, to add namespaces and pairs to.
    pub fn lab(&mut self) -> &mut Lab {
        &mut self.lab
    }
}

fn start(
    side: &Namespace,
    device: &str,
    options: BedOptions,
    v4: Ipv4Addr,
    v6: Ipv6Addr,
) -> Result<(), LabError> {
    side.up("lo")?;
    side.offload(device, "tx", false)?;
    side.offload(device, "rx", false)?;
    side.offload(device, "gro", options.gro)?;
    // Without a link-local address nothing solicits routers or probes for duplicates.
    side.ip(&["link", "set", "dev", device, "addrgenmode", "none"])?;
    side.up(device)?;
    side.address(device, &format!("{v4}/24"))?;
    side.address(device, &format!("{v6}/64"))
}
