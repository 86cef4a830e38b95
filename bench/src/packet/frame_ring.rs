//! Frames made beforehand, served one after the other for ever.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use weir_dataplane::device::memory::Wire;
use weir_inet::build::{self, Envelope};
use weir_inet::{EthernetHeader, VlanTags};

/// Bytes that a frame takes in the ring: the copy is of one size, as cheap as it can be.
const SLOT: usize = 64;
/// Who sends: one address, as many ports as in the published figures of sk_lookup.
const SOURCE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 99);
const FIRST_PORT: u16 = 1024;
const PORTS: usize = 10_000;

/// UDP datagrams of length 0 for prepared destinations. Clones serve the same frames.
#[derive(Clone)]
pub struct FrameRing {
    frames: Arc<[[u8; SLOT]]>,
    length: usize,
    next: usize,
}

impl FrameRing {
    /// One frame a destination, in that order.
    pub fn new(destinations: impl Iterator<Item = SocketAddrV4>) -> anyhow::Result<FrameRing> {
        let mut length = 0;
        let frames = destinations
            .enumerate()
            .map(|(number, destination)| {
                let port = FIRST_PORT + (number % PORTS) as u16;
                let mut frame = [0; SLOT];
                let envelope = envelope(SocketAddrV4::new(SOURCE, port), destination);
                length = build::udp(&mut frame, &envelope, &[]).context("a datagram fits")?;
                Ok(frame)
            })
            .collect::<anyhow::Result<Arc<[_]>>>()?;
        anyhow::ensure!(!frames.is_empty(), "a ring of no frames");
        Ok(FrameRing { frames, length, next: 0 })
    }

    /// How many frames.
    pub fn len(&self) -> usize {
        self.frames.len()
    }
}

impl Wire for FrameRing {
    #[inline]
    fn next(&mut self, buffer: &mut [u8]) -> usize {
        buffer[..SLOT].copy_from_slice(&self.frames[self.next]);
        self.next += 1;
        if self.next == self.frames.len() {
            self.next = 0;
        }
        self.length
    }

    fn sent(&mut self, _packet: &[u8]) -> bool {
        true
    }

    fn wait(&mut self, _timeout: Duration) {}
}

fn envelope(source: SocketAddrV4, destination: SocketAddrV4) -> Envelope {
    Envelope {
        ethernet: EthernetHeader { destination: [2, 0, 0, 0, 0, 1], source: [2, 0, 0, 0, 0, 2] },
        vlan: VlanTags::default(),
        source: std::net::SocketAddr::V4(source).into(),
        destination: std::net::SocketAddr::V4(destination).into(),
        traffic_class: 0,
    }
}
