//! The few bindings of one family that the redirect program walks instead of asking its trie.

use std::net::IpAddr;

use crate::binding::{Binding, Protocol};
use crate::kernel::{LoadError, Object};

/// `RULES` of redirect.bpf.c.
const RULES: usize = 8;
/// More than there can be: the program asks the trie.
const ASK_THE_TRIE: u32 = u32::MAX;

/// One family's rules, as the program has them.
#[derive(Debug)]
pub(crate) struct Rules {
    slots: [Option<Binding>; RULES],
    is_ipv6: bool,
    /// The slots hold all that is bound.
    complete: bool,
}

impl Rules {
    /// None, as in a program just loaded.
    pub fn new(is_ipv6: bool) -> Rules {
        Rules { slots: [None; RULES], is_ipv6, complete: true }
    }

    /// Follows a binding that is in the trie already.
    pub fn add(&mut self, object: &mut Object, binding: Binding) -> Result<(), LoadError> {
        if !self.complete {
            return Ok(());
        }
        match self.slots.iter().position(Option::is_none) {
            Some(slot) => {
                self.slots[slot] = Some(binding);
                self.write(object, slot)?;
                self.publish(object)
            }
            None => {
                self.complete = false;
                self.publish(object)
            }
        }
    }

    /// Follows a binding that is still in the trie; `rest` is what stays bound.
    pub fn remove<'a>(
        &mut self,
        object: &mut Object,
        binding: &Binding,
        rest: impl Iterator<Item = &'a Binding>,
    ) -> Result<(), LoadError> {
        if self.complete {
            let slot = self.slots.iter().position(|slot| slot.as_ref() == Some(binding));
            let slot = slot.expect("complete rules have every binding");
            self.slots[slot] = None;
            self.turn(object, slot, false)?;
            return self.publish(object);
        }
        let rest: Vec<Binding> = rest.take(RULES + 1).copied().collect();
        if rest.len() > RULES {
            return Ok(());
        }
        // Few enough again. The program asks the trie until all of them are written.
        self.slots = [None; RULES];
        for slot in 0..RULES {
            self.slots[slot] = rest.get(slot).copied();
            self.write(object, slot)?;
        }
        self.complete = true;
        self.publish(object)
    }

    /// Off, written, on: a running program never sees half of a rule.
    fn write(&self, object: &mut Object, slot: usize) -> Result<(), LoadError> {
        self.turn(object, slot, false)?;
        let Some(binding) = self.slots[slot] else {
            return Ok(());
        };
        let (address, length) = binding.prefix();
        let (network, mask) = match address {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
                (address.octets().to_vec(), mask.to_be_bytes().to_vec())
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
                (address.octets().to_vec(), mask.to_be_bytes().to_vec())
            }
        };
        let protocol = match binding.protocol() {
            Protocol::Udp => libc::IPPROTO_UDP as u8,
            Protocol::Tcp => libc::IPPROTO_TCP as u8,
            Protocol::Any => 0,
        };
        let port = binding.port().unwrap_or(0).to_be_bytes();
        let at = self.offset(slot);
        let length = network.len();
        object.set_global_part(self.array(), at, &network)?;
        object.set_global_part(self.array(), at + length, &mask)?;
        object.set_global_part(self.array(), at + 2 * length + 1, &[protocol])?;
        object.set_global_part(self.array(), at + 2 * length + 2, &port)?;
        self.turn(object, slot, true)
    }

    fn turn(&self, object: &mut Object, slot: usize, on: bool) -> Result<(), LoadError> {
        let at = self.offset(slot) + if self.is_ipv6 { 32 } else { 8 };
        object.set_global_part(self.array(), at, &[u8::from(on)])
    }

    fn publish(&self, object: &mut Object) -> Result<(), LoadError> {
        let used = self.slots.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        let walk = if self.complete { used as u32 } else { ASK_THE_TRIE };
        object.set_global(if self.is_ipv6 { "walk6" } else { "walk4" }, &walk.to_ne_bytes())
    }

    /// `rules4` and `rules6` of redirect.bpf.c.
    fn array(&self) -> (&'static str, usize) {
        if self.is_ipv6 { ("rules6", 40 * RULES) } else { ("rules4", 12 * RULES) }
    }

    fn offset(&self, slot: usize) -> usize {
        slot * if self.is_ipv6 { 40 } else { 12 }
    }
}
