//! The bed, the traffic and the time: what all receivers share.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::Child;
use std::time::Duration;

use anyhow::Context;
use weir_lab::{Bed, BedOptions};
use weir_xsk::FloodPattern;

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
/// More than any sender manages: what bounds a flood whose parent has died.
const MOST_A_SECOND: f64 = 100e6;

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
        let warm_up = Duration::from_millis(300);
        Ok(Scene { bed, pattern, warm_up, window })
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
        addresses(self.pattern).1
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

    /// Runs `measure` while the flood runs.
    pub fn flooded<T>(&self, measure: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
        let bound = (self.warm_up + self.window).as_secs_f64() * MOST_A_SECOND;
        let program = std::env::current_exe()?;
        let program = program.to_str().context("the path of this program is no text")?;
        let child = (self.bed.peer().command(program))
            .args(["flood", "--pattern", self.pattern.as_str(), "--count"])
            .arg((bound as u64).to_string())
            .args([
                "--from",
                &mac_text(self.bed.peer_mac()),
                "--to",
                &mac_text(self.bed.weir_mac()),
            ])
            .spawn()
            .context("cannot start the flood")?;
        let mut flood = Flooding(child);
        let measured = measure()?;
        let ended = flood.0.try_wait()?;
        anyhow::ensure!(ended.is_none(), "the flood ended before its time: {ended:?}");
        Ok(measured)
    }
}

/// The sender: a process, since a signal is what ends a long run of live frames. Each run costs
/// the kernel two RCU grace periods, so that short ones would be mostly silence.
struct Flooding(Child);

impl Drop for Flooding {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
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

/// Source and destination of a pattern.
pub fn addresses(pattern: FloodPattern) -> (IpAddr, IpAddr) {
    if is_ipv6(pattern) {
        (SOURCE_V6.into(), Bed::WEIR_V6.into())
    } else {
        (SOURCE_V4.into(), Bed::WEIR_V4.into())
    }
}

fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

fn is_ipv6(pattern: FloodPattern) -> bool {
    matches!(pattern, FloodPattern::Udp6 | FloodPattern::Tcp6Syn)
}
