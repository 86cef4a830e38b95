//! The object that both Weir and the kernel run, and what its maps are filled with.

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::Context;
use weir_bpf::verifier::VerifyOptions;
use weir_bpf::{LoadOptions, Map, Object, Program, SocketId};

/// Entries of the trie, as in the published figures of sk_lookup.
pub const ENTRIES: u32 = 200;

/// One entry of `bindings` in steer.bpf.c.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// First address of the prefix.
    pub prefix: IpAddr,
    /// Bits of it that count.
    pub length: u8,
    /// `IPPROTO_UDP` or `IPPROTO_TCP`.
    pub protocol: u8,
    /// The port.
    pub port: u16,
    /// Index into `sockets`.
    pub index: u32,
}

impl Entry {
    /// `struct binding`.
    pub fn key(&self) -> [u8; 24] {
        let (octets, before) = match self.prefix {
            IpAddr::V4(address) => (address.to_ipv6_mapped().octets(), 96),
            IpAddr::V6(address) => (address.octets(), 0),
        };
        let mut key = [0; 24];
        // Protocol and port, 32 bits, stand before the address.
        key[..4].copy_from_slice(&(32 + before + u32::from(self.length)).to_ne_bytes());
        key[4..6].copy_from_slice(&u16::from(self.protocol).to_ne_bytes());
        key[6..8].copy_from_slice(&self.port.to_be_bytes());
        key[8..].copy_from_slice(&octets);
        key
    }

    /// The map's value.
    pub fn value(&self) -> [u8; 4] {
        self.index.to_ne_bytes()
    }
}

/// The object in Weir.
pub struct Steering {
    /// The program.
    pub program: Arc<Program>,
    sockets: Arc<Map>,
}

impl Steering {
    /// Loads the object, proves and compiles it as the daemon does, and fills its trie.
    pub fn load(entries: &[Entry]) -> anyhow::Result<Steering> {
        let loaded = Object::parse(weir_progs::STEER)?
            .load(&LoadOptions { cpus: 1, ..LoadOptions::default() })?;
        loaded.compile(&VerifyOptions::default())?;
        let map = |name: &str| {
            let found = loaded.maps.iter().find(|map| map.spec().name == name);
            found.cloned().with_context(|| format!("steer.bpf.o has no map `{name}`"))
        };
        let bindings = map("bindings")?;
        for entry in entries {
            bindings.update(&entry.key(), &entry.value(), 0)?;
        }
        let program = loaded.programs.first().context("steer.bpf.o has no program")?.clone();
        Ok(Steering { program, sockets: map("sockets")? })
    }

    /// Puts a socket at an index.
    pub fn place(&self, index: u32, socket: SocketId) -> anyhow::Result<()> {
        Ok(self.sockets.update_socket(&index.to_ne_bytes(), socket, 0)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_has_the_layout_of_the_program() {
        let entry = |prefix: &str, length| Entry {
            prefix: prefix.parse().unwrap(),
            length,
            protocol: 17,
            port: 80,
            index: 7,
        };
        let four = entry("192.0.2.0", 24).key();
        assert_eq!(four[..8], [152, 0, 0, 0, 17, 0, 0, 80]);
        assert_eq!(four[18..], [0xff, 0xff, 192, 0, 2, 0]);
        let six = entry("fd77::", 64).key();
        assert_eq!(six[..10], [96, 0, 0, 0, 17, 0, 0, 80, 0xfd, 0x77]);
        assert_eq!(entry("fd77::", 64).value(), [7, 0, 0, 0]);
    }
}
