//! A worker's sockets, and the ways to find one: the whole 4-tuple, the bound address, the
//! wildcard. Sized at start; nothing here allocates afterwards.

use std::hash::{Hash, Hasher};

use siphasher::sip::SipHasher13;
use weir_bpf::SocketFacts;
use weir_inet::{Address, Endpoint, Family, FlowKey, Protocol};

use crate::flow_index::FlowIndex;
use crate::prefetch;
use crate::socket::{
    OpenError, Service, SocketCounters, SocketId, SocketKey, SocketSpec, canonical,
};

/// Both endpoints of a connected socket, or the one of a bound socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Match {
    Connected(FlowKey),
    Bound(Endpoint),
}

/// What the packet path reads of a socket; what it writes stands apart.
#[derive(Debug)]
#[repr(align(64))]
struct Slot {
    matches: Match,
    generation: u32,
    service: Service,
}

/// See the module.
#[derive(Debug)]
pub struct Tables {
    key: [u64; 2],
    slots: Vec<Option<Slot>>,
    counters: Vec<SocketCounters>,
    specs: Vec<Option<SocketSpec>>,
    facts: Vec<SocketFacts>,
    connected: FlowIndex,
    bound: FlowIndex,
    open: usize,
    changes: u64,
}

impl Tables {
    /// Empty tables for `capacity` sockets; `key` makes the hash one that senders cannot guess.
    pub fn new(capacity: usize, key: [u64; 2]) -> Tables {
        Tables {
            key,
            slots: std::iter::repeat_with(|| None).take(capacity).collect(),
            counters: vec![SocketCounters::default(); capacity],
            specs: std::iter::repeat_with(|| None).take(capacity).collect(),
            facts: vec![SocketFacts::default(); capacity],
            connected: FlowIndex::new(capacity),
            // A dual-stack wildcard stands in it twice.
            bound: FlowIndex::new(2 * capacity),
            open: 0,
            changes: 0,
        }
    }

    /// Opens a socket under the id that the registry gave it.
    ///
    /// # Errors
    /// The specification comes back with the reason.
    pub fn open(&mut self, id: SocketId, spec: SocketSpec) -> Result<(), (SocketSpec, OpenError)> {
        let key = SocketKey::from(id);
        if let Err(error) = spec.check() {
            return Err((spec, error));
        }
        match self.slots.get(key.index as usize) {
            None => return Err((spec, OpenError::TableFull)),
            Some(Some(_)) => return Err((spec, OpenError::AddressInUse)),
            Some(None) => {}
        }
        let matches = match_of(&spec);
        if self.find_match(matches).is_some() {
            return Err((spec, OpenError::AddressInUse));
        }
        let service = spec.service;
        self.index(key.index, matches, &spec);
        let slot = Slot { matches, generation: key.generation, service };
        self.slots[key.index as usize] = Some(slot);
        self.counters[key.index as usize] = SocketCounters::default();
        self.facts[key.index as usize] = facts(&spec);
        self.specs[key.index as usize] = Some(spec);
        self.open += 1;
        self.changes += 1;
        Ok(())
    }

    fn index(&mut self, slot: u32, matches: Match, spec: &SocketSpec) {
        match matches {
            Match::Connected(flow) => self.connected.insert(self.flow_hash(&flow), slot),
            Match::Bound(_) => {
                for endpoint in endpoints(spec) {
                    self.bound.insert(self.endpoint_hash(&endpoint), slot);
                }
            }
        }
    }

    /// Closes a socket; its specification, if it was open.
    ///
    /// # Panics
    /// When an open socket is missing from its index: our own broken invariant.
    pub fn close(&mut self, id: SocketId) -> Option<SocketSpec> {
        let index = self.resolve(id)?;
        let slot = self.slots[index as usize].take()?;
        let spec = self.specs[index as usize].take()?;
        match slot.matches {
            Match::Connected(flow) => {
                let removed = self.connected.remove(self.flow_hash(&flow), index);
                assert!(removed, "an open socket is in its index");
            }
            Match::Bound(_) => {
                for endpoint in endpoints(&spec) {
                    let removed = self.bound.remove(self.endpoint_hash(&endpoint), index);
                    assert!(removed, "an open socket is in its index");
                }
            }
        }
        self.open -= 1;
        self.changes += 1;
        Some(spec)
    }

    /// The slot of an id whose socket is open.
    #[inline]
    pub fn resolve(&self, id: SocketId) -> Option<u32> {
        let key = SocketKey::from(id);
        let slot = self.slots.get(key.index as usize)?.as_ref()?;
        (slot.generation == key.generation).then_some(key.index)
    }

    /// What programs may learn of the socket of that id.
    #[inline]
    pub fn facts(&self, id: SocketId) -> Option<&SocketFacts> {
        Some(&self.facts[self.resolve(id)? as usize])
    }

    /// The service on an open slot.
    ///
    /// # Panics
    /// When the slot is not open.
    #[inline]
    pub fn service(&self, slot: u32) -> Service {
        self.slots[slot as usize].as_ref().expect("a found slot is open").service
    }

    /// The counters of a slot.
    #[inline]
    pub fn counters_mut(&mut self, slot: u32) -> &mut SocketCounters {
        &mut self.counters[slot as usize]
    }

    /// The open sockets from slot `start` on.
    pub fn iter_from(&self, start: u32) -> impl Iterator<Item = (SocketId, &SocketCounters)> {
        let from = self.slots.iter().zip(&self.counters).enumerate().skip(start as usize);
        from.filter_map(|(index, (slot, counters))| {
            let generation = slot.as_ref()?.generation;
            let worker = crate::socket::EVERY_WORKER;
            Some((SocketKey { index: index as u32, generation, worker }.id(), counters))
        })
    }

    /// A number that grows whenever a socket opens or closes.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// How many are open.
    pub fn len(&self) -> usize {
        self.open
    }

    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.open == 0
    }

    /// Whether any socket is connected; if not, the search by flow can be spared.
    #[inline]
    pub fn has_connected(&self) -> bool {
        !self.connected.is_empty()
    }

    /// The keyed hash of a flow.
    #[inline]
    pub fn flow_hash(&self, flow: &FlowKey) -> u32 {
        let mut hasher = SipHasher13::new_with_keys(self.key[0], self.key[1]);
        flow.hash(&mut hasher);
        hasher.finish() as u32
    }

    /// The keyed hash of a bound endpoint.
    #[inline]
    pub fn endpoint_hash(&self, endpoint: &Endpoint) -> u32 {
        let mut hasher = SipHasher13::new_with_keys(self.key[0], self.key[1]);
        let [high, low] = endpoint.address.words();
        hasher.write_u64(high);
        hasher.write_u64(low);
        hasher.write_u64(u64::from(endpoint.port) | (endpoint.address.family() as u64) << 16);
        hasher.finish() as u32
    }

    /// Asks the processor for what [`Tables::find_connected`] will read.
    #[inline]
    pub fn prefetch_connected(&self, hash: u32) {
        self.connected.prefetch(hash);
    }

    /// Asks the processor for what [`Tables::find_bound`] will read.
    #[inline]
    pub fn prefetch_bound(&self, hash: u32) {
        self.bound.prefetch(hash);
    }

    /// Asks the processor for the slot that a search is likely to end at.
    #[inline]
    pub fn prefetch_bound_slot(&self, hash: u32) {
        if let Some(slot) = self.bound.find(hash, |_| true) {
            prefetch::read(&self.slots[slot as usize]);
        }
    }

    /// The connected socket of a flow.
    #[inline]
    pub fn find_connected(&self, hash: u32, flow: &FlowKey) -> Option<u32> {
        self.connected.find(hash, |slot| {
            matches!(&self.slots[slot as usize], Some(Slot { matches: Match::Connected(known), .. }) if known == flow)
        })
    }

    /// The socket bound to an endpoint, a wildcard endpoint included.
    #[inline]
    pub fn find_bound(&self, hash: u32, endpoint: &Endpoint) -> Option<u32> {
        self.bound.find(hash, |slot| match &self.slots[slot as usize] {
            Some(Slot { matches: Match::Bound(known), .. }) => covers(known, endpoint),
            _ => false,
        })
    }

    fn find_match(&self, matches: Match) -> Option<u32> {
        match matches {
            Match::Connected(flow) => self.find_connected(self.flow_hash(&flow), &flow),
            Match::Bound(endpoint) => self.find_bound(self.endpoint_hash(&endpoint), &endpoint),
        }
    }
}

/// Whether a socket bound at `known` stands in the index for `wanted`: the same endpoint, or the
/// IPv4 side of a dual-stack wildcard (whose index entry is the only way here).
#[inline]
fn covers(known: &Endpoint, wanted: &Endpoint) -> bool {
    known == wanted
        || (known.port == wanted.port
            && known.address.family() == Family::Ipv6
            && wanted.address.family() == Family::Ipv4
            && known.address.is_unspecified()
            && wanted.address.is_unspecified())
}

fn endpoints(spec: &SocketSpec) -> impl Iterator<Item = Endpoint> + use<> {
    let port = spec.local.port();
    spec.arrival_addresses().map(move |address| Endpoint::new(Address::from(address), port))
}

fn match_of(spec: &SocketSpec) -> Match {
    let local = Endpoint::new(canonical(spec.local.ip()).into(), spec.local.port());
    match spec.remote {
        Some(remote) => Match::Connected(FlowKey {
            remote: Endpoint::new(canonical(remote.ip()).into(), remote.port()),
            local,
            protocol: Protocol::Udp,
        }),
        None => Match::Bound(local),
    }
}

/// A UDP socket as `struct bpf_sock` shows it. Like the kernel's UDP sockets it is freed by RCU,
/// so no references are counted (`SOCK_RCU_FREE`).
fn facts(spec: &SocketSpec) -> SocketFacts {
    const AF_INET: u16 = 2;
    const AF_INET6: u16 = 10;
    const SOCK_DGRAM: u16 = 2;
    const TCP_ESTABLISHED: u8 = 1;
    const TCP_CLOSE: u8 = 7;
    let octets = |address: std::net::IpAddr| match address {
        std::net::IpAddr::V4(v4) => *Address::v4(v4.octets()).octets(),
        std::net::IpAddr::V6(v6) => v6.octets(),
    };
    SocketFacts {
        family: if spec.local.is_ipv4() { AF_INET } else { AF_INET6 },
        kind: SOCK_DGRAM,
        protocol: Protocol::Udp.number(),
        v6only: spec.v6only,
        state: if spec.remote.is_some() { TCP_ESTABLISHED } else { TCP_CLOSE },
        refcounted: false,
        src_ip: octets(spec.local.ip()),
        src_port: spec.local.port(),
        dst_ip: spec.remote.map(|remote| octets(remote.ip())).unwrap_or_default(),
        dst_port: spec.remote.map(|remote| remote.port()).unwrap_or_default(),
        rx_queue_mapping: -1,
        ..SocketFacts::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Registry;

    fn spec(local: &str, remote: Option<&str>, v6only: bool) -> SocketSpec {
        SocketSpec {
            name: local.into(),
            local: local.parse().unwrap(),
            v6only,
            remote: remote.map(|remote| remote.parse().unwrap()),
            service: Service::Discard,
        }
    }

    fn endpoint(text: &str) -> Endpoint {
        text.parse::<std::net::SocketAddr>().unwrap().into()
    }

    fn bound(tables: &Tables, text: &str) -> Option<u32> {
        let endpoint = endpoint(text);
        tables.find_bound(tables.endpoint_hash(&endpoint), &endpoint)
    }

    #[test]
    fn finds_by_flow_by_address_and_by_wildcard() {
        let mut registry = Registry::new(16);
        let mut tables = Tables::new(16, [1, 2]);
        let mut ids = Vec::new();
        for spec in [
            spec("192.0.2.1:80", None, false),
            spec("[::]:80", None, false),
            spec("[::]:81", None, true),
            spec("192.0.2.1:80", Some("198.51.100.7:5000"), false),
        ] {
            let id = registry.open(spec.clone()).unwrap();
            tables.open(id, spec).unwrap();
            ids.push(id);
        }
        assert_eq!(bound(&tables, "192.0.2.1:80"), Some(0));
        assert_eq!(bound(&tables, "0.0.0.0:80"), Some(1));
        assert_eq!(bound(&tables, "[::]:80"), Some(1));
        assert_eq!(bound(&tables, "0.0.0.0:81"), None);
        assert_eq!(bound(&tables, "[::]:81"), Some(2));
        let flow = FlowKey {
            remote: endpoint("198.51.100.7:5000"),
            local: endpoint("192.0.2.1:80"),
            protocol: Protocol::Udp,
        };
        assert_eq!(tables.find_connected(tables.flow_hash(&flow), &flow), Some(3));
        let reversed = flow.reversed();
        assert_eq!(tables.find_connected(tables.flow_hash(&reversed), &reversed), None);

        assert!(tables.close(ids[1]).is_some());
        assert!(tables.close(ids[1]).is_none());
        assert_eq!(bound(&tables, "0.0.0.0:80"), None);
        assert_eq!(bound(&tables, "192.0.2.1:80"), Some(0));
        assert_eq!(tables.len(), 3);
        assert_eq!(tables.iter_from(0).count(), 3);
    }

    #[test]
    fn an_id_of_a_closed_socket_finds_nothing() {
        let mut registry = Registry::new(1);
        let mut tables = Tables::new(1, [1, 2]);
        let first = registry.open(spec("192.0.2.1:80", None, false)).unwrap();
        tables.open(first, spec("192.0.2.1:80", None, false)).unwrap();
        registry.close(first).unwrap();
        tables.close(first).unwrap();
        let second = registry.open(spec("192.0.2.1:80", None, false)).unwrap();
        tables.open(second, spec("192.0.2.1:80", None, false)).unwrap();
        assert_eq!(tables.resolve(first), None);
        assert_eq!(tables.resolve(second), Some(0));
    }
}
