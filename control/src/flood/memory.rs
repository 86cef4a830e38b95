//! A flood within the process: a wire that makes packets, and a worker that takes them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use weir_dataplane::device::memory::{MemoryDevice, Wire};
use weir_dataplane::mailbox::Command;
use weir_dataplane::registry::Registry;
use weir_dataplane::runner::{self, IdlePolicy, WorkerOptions};
use weir_dataplane::socket::{Service, SocketSpec};
use weir_dataplane::worker::WorkerSetup;
use weir_xsk::{FloodTraffic, Template};

use super::FloodRefusal;
use super::pace::{Bound, Progress, Telling};

/// Different frames; more would only be more memory.
const FRAMES: u16 = 10_000;
/// Frames between two looks at the clock.
const STRIDE: u64 = 256;

/// Makes packets as fast as the bound allows.
struct Generator {
    frames: Vec<Vec<u8>>,
    next: usize,
    bound: Bound,
    started: Instant,
    allowance: u64,
    sent: Arc<AtomicU64>,
}

impl Wire for Generator {
    fn next(&mut self, buffer: &mut [u8]) -> usize {
        if self.allowance == 0 {
            let sent = self.sent.load(Ordering::Relaxed);
            let allowed = self.bound.allowance(self.started.elapsed(), sent).unwrap_or(0);
            self.allowance = allowed.min(STRIDE);
        }
        if self.allowance == 0 {
            return 0;
        }
        self.allowance -= 1;
        self.sent.fetch_add(1, Ordering::Relaxed);
        let frame = &self.frames[self.next];
        self.next = (self.next + 1) % self.frames.len();
        buffer[..frame.len()].copy_from_slice(frame);
        frame.len()
    }

    fn sent(&mut self, _packet: &[u8]) -> bool {
        true
    }

    fn wait(&mut self, timeout: Duration) {
        std::thread::sleep(timeout.min(Duration::from_millis(1)));
    }
}

/// Floods a worker with one socket that takes everything.
pub(super) fn run(
    traffic: &FloodTraffic,
    bound: &Bound,
    tell: &mut dyn FnMut(Progress),
) -> Result<Progress, FloodRefusal> {
    let failed = |error: &dyn std::fmt::Display| FloodRefusal::Worker(error.to_string());
    let sent = Arc::new(AtomicU64::new(0));
    let mut telling = Telling::new();
    let generator = Generator {
        frames: frames(traffic)?,
        next: 0,
        bound: *bound,
        started: telling.started,
        allowance: 0,
        sent: sent.clone(),
    };
    let setup =
        WorkerSetup { number: 0, sockets: 16, hash_key: [1, 2], ifindex: 0, verdict_cache: true };
    let options = WorkerOptions { setup, core: None, idle: IdlePolicy::Adaptive };
    let spec = SocketSpec {
        name: "flood".into(),
        local: std::net::SocketAddr::new(traffic.destination, traffic.destination_port),
        v6only: false,
        remote: None,
        service: Service::Discard,
    };
    let id = Registry::new(16).open(spec.clone()).map_err(|error| failed(&error))?;
    let worker =
        runner::spawn(options, MemoryDevice::new(generator)).map_err(|error| failed(&error))?;
    let tell_worker = |command| {
        worker.mailbox.commands.push(command).map_err(|_| failed(&"it takes no commands"))
    };
    tell_worker(Command::Open(id, spec))?;
    while !worker.is_finished() {
        let now = sent.load(Ordering::Relaxed);
        if bound.allowance(telling.started.elapsed(), now).is_none() {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
        telling.tell(now, tell);
    }
    let progress = telling.progress(sent.load(Ordering::Relaxed));
    tell_worker(Command::Stop { drain: true })?;
    let report = worker.join().map_err(|_| failed(&"it found an invariant broken"))?;
    let received = report.counters.received;
    Ok(Progress { sent: received, ..progress })
}

/// The packets of the flood, one a source port.
fn frames(traffic: &FloodTraffic) -> Result<Vec<Vec<u8>>, FloodRefusal> {
    (0..FRAMES.min(traffic.ports))
        .map(|port| {
            let mut one =
                FloodTraffic { first_port: traffic.first_port + port, ports: 1, ..*traffic };
            if traffic.random_bits > 0 {
                one.source = scatter(traffic.source, port);
            }
            Ok(Template::new(&one)?.frame().to_vec())
        })
        .collect()
}

/// An address that differs in its last 16 bits, spread by an odd factor.
fn scatter(address: std::net::IpAddr, place: u16) -> std::net::IpAddr {
    let bits = place.wrapping_mul(0x9e37);
    match address {
        std::net::IpAddr::V4(address) => {
            std::net::Ipv4Addr::from_bits(address.to_bits() ^ u32::from(bits)).into()
        }
        std::net::IpAddr::V6(address) => {
            std::net::Ipv6Addr::from_bits(address.to_bits() ^ u128::from(bits)).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flood::{Flood, Source};
    use weir_xsk::FloodPattern;

    #[test]
    fn every_packet_of_a_counted_flood_is_taken() {
        for pattern in FloodPattern::ALL {
            let flood = Flood {
                source: Source::Memory,
                pattern,
                interface: None,
                destination: None,
                port: 80,
                random_sources: true,
                bound: Bound { count: Some(20_000), time: Duration::from_secs(10), rate: None },
                own_network: false,
            };
            let outcome = flood.run(&mut |_| {}).unwrap();
            assert_eq!(outcome.sent, 20_000, "{pattern:?}");
        }
    }
}
