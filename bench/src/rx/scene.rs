//! The bed, the traffic and the time: what all receivers share.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use weir_lab::{Bed, BedOptions};
use weir_xsk::{FloodPattern, FloodTraffic, LiveFrames, Template, interface_index};

use crate::steering::{ENTRIES, Entry};

/// The core that sends. A veth's receive side runs there too, XDP and the copy included.
pub const SENDER_CORE: usize = 0;
/// The core that the receivers in user space poll on.
pub const RECEIVER_CORE: usize = 1;
/// Where the flood goes.
pub const PORT: u16 = 80;
/// Where a socket is bound that only the program can find.
pub const ELSEWHERE: u16 = 8080;

/// Who sends: addresses that nobody has, so that answers to the flood end in silence.
const SOURCE_V4: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 99);
const SOURCE_V6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 99);
/// Frames between two looks at the flag that ends the flood.
const STEP: u64 = 1 << 15;

/// See the module.
pub struct Scene {
    /// Namespaces and veth pair.
    pub bed: Bed,
    /// What is sent.
    pub pattern: FloodPattern,
    /// How long the flood runs before it is counted.
    pub warm_up: Duration,
    /// How long it is counted.
    pub window: Duration,
    template: Template,
    sent: AtomicU64,
}

impl Scene {
    /// Builds the bed.
    pub fn new(pattern: FloodPattern, window: Duration) -> anyhow::Result<Scene> {
        weir_lab::privileged().map_err(anyhow::Error::msg)?;
        // GRO on: without XDP, it is what lets the receiving end take XDP frames.
        let bed = Bed::new(BedOptions { gro: true, ..BedOptions::default() })?;
        for source in [IpAddr::V4(SOURCE_V4), IpAddr::V6(SOURCE_V6)] {
            bed.weir().neighbour(Bed::WEIR_DEVICE, source, bed.peer_mac())?;
        }
        let (source, destination): (IpAddr, IpAddr) = if is_ipv6(pattern) {
            (SOURCE_V6.into(), Bed::WEIR_V6.into())
        } else {
            (SOURCE_V4.into(), Bed::WEIR_V4.into())
        };
        let template = Template::new(&FloodTraffic {
            pattern,
            source_mac: bed.peer_mac(),
            destination_mac: bed.weir_mac(),
            source,
            destination,
            destination_port: PORT,
            first_port: 1024,
            ports: 10_000,
            random_bits: 0,
            payload: 0,
        })?;
        let warm_up = Duration::from_millis(300);
        Ok(Scene { bed, pattern, warm_up, window, template, sent: AtomicU64::new(0) })
    }

    /// Whether segments are sent, not datagrams.
    pub fn is_tcp(&self) -> bool {
        matches!(self.pattern, FloodPattern::Tcp4Syn | FloodPattern::Tcp6Syn)
    }

    /// Whether IPv6 is sent.
    pub fn is_ipv6(&self) -> bool {
        is_ipv6(self.pattern)
    }

    /// The transport protocol's number.
    pub fn protocol(&self) -> u8 {
        if self.is_tcp() { 6 } else { 17 }
    }

    /// Where the flood goes.
    pub fn destination(&self) -> IpAddr {
        if self.is_ipv6() { Bed::WEIR_V6.into() } else { Bed::WEIR_V4.into() }
    }

    /// What the program's trie holds: one prefix that the flood hits, and others beside it.
    pub fn entries(&self) -> Vec<Entry> {
        let prefix = |number: u32| -> (IpAddr, u8) {
            match (self.is_ipv6(), number) {
                (false, 0) => (Ipv4Addr::new(10, 77, 0, 0).into(), 24),
                (false, _) => (Ipv4Addr::new(10, 78, number as u8, 0).into(), 24),
                (true, 0) => (Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 0).into(), 64),
                (true, _) => (Ipv6Addr::new(0xfd78, 0, 0, number as u16, 0, 0, 0, 0).into(), 64),
            }
        };
        let entry = |number| {
            let (prefix, length) = prefix(number);
            Entry { prefix, length, protocol: self.protocol(), port: PORT, index: 0 }
        };
        (0..ENTRIES).map(entry).collect()
    }

    /// Frames that the flood has sent so far, in steps of some milliseconds.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Runs `measure` while the flood runs.
    pub fn flooded<T>(&self, measure: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let flood = scope.spawn(|| self.bed.peer().enter(|| self.flood(&stop)));
            let ending = Ending(&stop);
            let measured = measure();
            drop(ending);
            let flooded = flood.join().map_err(|_| anyhow::anyhow!("the flood panicked"))?;
            flooded.context("the flood")?;
            measured
        })
    }

    fn flood(&self, stop: &AtomicBool) -> anyhow::Result<()> {
        pin(SENDER_CORE)?;
        let mut frames = LiveFrames::new(interface_index(Bed::PEER_DEVICE)?, &self.template)?;
        while !stop.load(Ordering::Relaxed) {
            self.sent.fetch_add(frames.send(STEP)?, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// Ends the flood, by a panic too.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Keeps the calling thread on a core.
pub fn pin(core: usize) -> anyhow::Result<()> {
    anyhow::ensure!(
        core_affinity::set_for_current(core_affinity::CoreId { id: core }),
        "cannot stay on core {core}: the bench needs cores {SENDER_CORE} and {RECEIVER_CORE}"
    );
    Ok(())
}

fn is_ipv6(pattern: FloodPattern) -> bool {
    matches!(pattern, FloodPattern::Udp6 | FloodPattern::Tcp6Syn)
}
