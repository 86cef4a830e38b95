//! A socket: what was bound, to whom it is connected, which service answers on it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

pub use weir_bpf::SocketId;

/// The worker part of the id of a socket that every worker holds a replica of.
pub const EVERY_WORKER: u8 = 0xff;

/// The parts of a [`SocketId`]: slot, generation and worker, packed as 32, 24 and 8 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SocketKey {
    /// Slot in the slab of the worker.
    pub index: u32,
    /// Which socket of those that used the slot; 24 bits, never 0.
    pub generation: u32,
    /// The worker that owns it, or [`EVERY_WORKER`].
    pub worker: u8,
}

impl SocketKey {
    /// Largest generation; the next one after it is 1.
    pub const GENERATION_MAX: u32 = (1 << 24) - 1;

    /// The id that maps, programs and the control plane hold. Never 0.
    pub fn id(self) -> SocketId {
        debug_assert!(self.generation <= Self::GENERATION_MAX);
        SocketId(
            u64::from(self.index) | u64::from(self.generation) << 32 | u64::from(self.worker) << 56,
        )
    }
}

impl From<SocketId> for SocketKey {
    fn from(id: SocketId) -> SocketKey {
        SocketKey {
            index: id.0 as u32,
            generation: (id.0 >> 32) as u32 & Self::GENERATION_MAX,
            worker: (id.0 >> 56) as u8,
        }
    }
}

/// What answers on a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Sends each datagram back to where it came from (RFC 862).
    Echo,
    /// Takes each datagram and says nothing (RFC 863).
    Discard,
}

impl Service {
    /// The name that the configuration uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Service::Echo => "echo",
            Service::Discard => "discard",
        }
    }
}

/// What to open: a UDP socket. TCP comes with its engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketSpec {
    /// The operator's name for it.
    pub name: Arc<str>,
    /// Bound address and port; an unspecified address is the wildcard.
    pub local: SocketAddr,
    /// For an IPv6 wildcard or mapped address: whether IPv4 is left out.
    pub v6only: bool,
    /// Peer of a connected socket.
    pub remote: Option<SocketAddr>,
    /// What answers.
    pub service: Service,
}

/// Why a socket cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Another socket has the same address and port (EADDRINUSE).
    #[error("the address is in use by another socket")]
    AddressInUse,
    /// A connected socket needs a specific local address (EINVAL).
    #[error("a connected socket needs a specific local address")]
    ConnectedWildcard,
    /// Local and remote address are of two families (EAFNOSUPPORT).
    #[error("local and remote address are of different families")]
    FamilyMismatch,
    /// Port 0 is no port to receive at (EINVAL).
    #[error("port 0 cannot be bound: name a port")]
    PortZero,
    /// The table is full (ENFILE).
    #[error("the socket table is full: raise `limits.sockets`")]
    TableFull,
}

impl SocketSpec {
    /// Checks what can be said without a table.
    ///
    /// # Errors
    /// As [`OpenError`] says; `AddressInUse` and `TableFull` never come from here.
    pub fn check(&self) -> Result<(), OpenError> {
        if self.local.port() == 0 || self.remote.is_some_and(|remote| remote.port() == 0) {
            return Err(OpenError::PortZero);
        }
        let Some(remote) = self.remote else { return Ok(()) };
        if canonical(self.local.ip()).is_unspecified() {
            return Err(OpenError::ConnectedWildcard);
        }
        if canonical(self.local.ip()).is_ipv4() != canonical(remote.ip()).is_ipv4() {
            return Err(OpenError::FamilyMismatch);
        }
        Ok(())
    }

    /// The addresses at which packets for it arrive: one, or for a dual-stack wildcard two.
    pub fn arrival_addresses(&self) -> impl Iterator<Item = IpAddr> + use<> {
        let local = canonical(self.local.ip());
        let dual = local == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && !self.v6only;
        std::iter::once(local).chain(dual.then_some(IpAddr::V4(Ipv4Addr::UNSPECIFIED)))
    }
}

/// The address as it stands in packets: a mapped IPv4 address is an IPv4 one.
pub fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// What one socket has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketCounters {
    /// Datagrams delivered to it.
    pub received: u64,
    /// Payload bytes of those.
    pub received_bytes: u64,
    /// Datagrams sent by it.
    pub sent: u64,
    /// Payload bytes of those.
    pub sent_bytes: u64,
    /// Of the delivered, those that a program steered to it.
    pub steered: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_keep_their_parts() {
        let key =
            SocketKey { index: 7, generation: SocketKey::GENERATION_MAX, worker: EVERY_WORKER };
        assert_eq!(SocketKey::from(key.id()), key);
        assert_eq!(SocketKey { worker: 3, ..key }.id().0 >> 56, 3);
    }

    #[test]
    fn a_dual_stack_wildcard_receives_both_families() {
        let spec = |local: &str, v6only| SocketSpec {
            name: "s".into(),
            local: local.parse().unwrap(),
            v6only,
            remote: None,
            service: Service::Echo,
        };
        assert_eq!(spec("[::]:7", false).arrival_addresses().count(), 2);
        assert_eq!(spec("[::]:7", true).arrival_addresses().count(), 1);
        let mapped: Vec<_> = spec("[::ffff:192.0.2.1]:7", false).arrival_addresses().collect();
        assert_eq!(mapped, ["192.0.2.1".parse::<IpAddr>().unwrap()]);
        assert_eq!(spec("0.0.0.0:0", false).check(), Err(OpenError::PortZero));
    }
}
