//! The control plane's book of sockets: names, ids, and who has which address. The workers hold
//! replicas under the same ids.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::socket::{EVERY_WORKER, OpenError, SocketId, SocketKey, SocketSpec, canonical};

/// Where packets of a socket arrive, and from whom if only from one.
type Claim = (IpAddr, u16, Option<SocketAddr>);

/// See the module.
#[derive(Debug)]
pub struct Registry {
    slots: Vec<Slot>,
    free: Vec<u32>,
    capacity: usize,
    names: HashMap<Arc<str>, SocketId>,
    claims: HashMap<Claim, SocketId>,
}

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    spec: Option<SocketSpec>,
}

impl Registry {
    /// An empty book for at most `capacity` sockets.
    pub fn new(capacity: usize) -> Registry {
        Registry {
            slots: Vec::new(),
            free: Vec::new(),
            capacity,
            names: HashMap::new(),
            claims: HashMap::new(),
        }
    }

    /// Enters a socket and gives it an id that no other has had.
    ///
    /// A wildcard and a specific address of one port may both be bound, as two sockets with
    /// SO_REUSEADDR may in the kernel; the same address twice may not.
    ///
    /// # Errors
    /// As [`OpenError`] says; nothing is entered then.
    pub fn open(&mut self, spec: SocketSpec) -> Result<SocketId, OpenError> {
        spec.check()?;
        let claims = claims(&spec);
        if claims.iter().any(|claim| self.claims.contains_key(claim)) {
            return Err(OpenError::AddressInUse);
        }
        let index = self.take_slot()?;
        let slot = &mut self.slots[index as usize];
        slot.generation = slot.generation % SocketKey::GENERATION_MAX + 1;
        let id = SocketKey { index, generation: slot.generation, worker: EVERY_WORKER }.id();
        self.names.insert(spec.name.clone(), id);
        self.claims.extend(claims.into_iter().map(|claim| (claim, id)));
        slot.spec = Some(spec);
        Ok(id)
    }

    fn take_slot(&mut self) -> Result<u32, OpenError> {
        if let Some(index) = self.free.pop() {
            return Ok(index);
        }
        if self.slots.len() == self.capacity {
            return Err(OpenError::TableFull);
        }
        self.slots.push(Slot::default());
        Ok(self.slots.len() as u32 - 1)
    }

    /// Strikes a socket out; what it was, if it was there.
    pub fn close(&mut self, id: SocketId) -> Option<SocketSpec> {
        self.spec(id)?;
        let index = SocketKey::from(id).index;
        let spec = self.slots[index as usize].spec.take()?;
        for claim in claims(&spec) {
            self.claims.remove(&claim);
        }
        if self.names.get(&spec.name) == Some(&id) {
            self.names.remove(&spec.name);
        }
        self.free.push(index);
        Some(spec)
    }

    /// The socket of that id, if it is open.
    pub fn spec(&self, id: SocketId) -> Option<&SocketSpec> {
        let key = SocketKey::from(id);
        let slot = self.slots.get(key.index as usize)?;
        (slot.generation == key.generation && key.worker == EVERY_WORKER)
            .then_some(slot.spec.as_ref())
            .flatten()
    }

    /// The socket of that name.
    pub fn by_name(&self, name: &str) -> Option<SocketId> {
        self.names.get(name).copied()
    }

    /// All open sockets, by slot.
    pub fn iter(&self) -> impl Iterator<Item = (SocketId, &SocketSpec)> {
        self.slots.iter().enumerate().filter_map(|(index, slot)| {
            let key = SocketKey {
                index: index as u32,
                generation: slot.generation,
                worker: EVERY_WORKER,
            };
            slot.spec.as_ref().map(|spec| (key.id(), spec))
        })
    }

    /// How many are open.
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn claims(spec: &SocketSpec) -> Vec<Claim> {
    let remote = spec.remote.map(|remote| SocketAddr::new(canonical(remote.ip()), remote.port()));
    spec.arrival_addresses().map(|address| (address, spec.local.port(), remote)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::socket::Service;

    fn spec(name: &str, local: &str, remote: Option<&str>) -> SocketSpec {
        SocketSpec {
            name: name.into(),
            local: local.parse().unwrap(),
            v6only: false,
            remote: remote.map(|remote| remote.parse().unwrap()),
            service: Service::Echo,
        }
    }

    #[test]
    fn one_address_one_socket() {
        let mut registry = Registry::new(8);
        let web = registry.open(spec("web", "192.0.2.1:80", None)).unwrap();
        assert_eq!(
            registry.open(spec("web2", "[::ffff:192.0.2.1]:80", None)),
            Err(OpenError::AddressInUse)
        );
        registry.open(spec("any", "[::]:80", None)).unwrap();
        assert_eq!(registry.open(spec("any4", "0.0.0.0:80", None)), Err(OpenError::AddressInUse));
        registry.open(spec("peer", "192.0.2.1:80", Some("198.51.100.1:9"))).unwrap();
        assert_eq!(registry.by_name("web"), Some(web));
        assert_eq!(registry.close(web).unwrap().name.as_ref(), "web");
        assert_eq!(registry.by_name("web"), None);
        let again = registry.open(spec("web", "192.0.2.1:80", None)).unwrap();
        assert_ne!(again, web);
        assert!(registry.spec(web).is_none());
        assert!(registry.close(web).is_none());
        assert_eq!(registry.len(), 3);
    }

    #[test]
    fn the_table_is_bounded() {
        let mut registry = Registry::new(1);
        registry.open(spec("a", "192.0.2.1:1", None)).unwrap();
        assert_eq!(registry.open(spec("b", "192.0.2.1:2", None)), Err(OpenError::TableFull));
    }
}
