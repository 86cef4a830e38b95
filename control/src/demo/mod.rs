//! `weir demo`: real packets through a real Weir, and a verdict on every one of them.

mod account;
mod lab;
mod memory;
mod probe;

use std::thread;
use std::time::Duration;

use serde::Serialize;

use crate::api::sockets::Socket;
use crate::api::stats::Stats;
use crate::cli::format::{count, rate};
use crate::client::{Client, ClientError};
use account::Account;
pub use probe::Probed;

/// The configuration, whose paths and device each stage completes.
const CONFIG: &str = include_str!("../../../configs/demo.toml");
/// Its control socket, replaced by one of the demo's own.
const CONFIG_SOCKET: &str = "/run/weir.sock";
/// Where the flood goes: a socket that takes everything and answers nothing, so that what is
/// measured is receiving and steering, not the veth's transmit side.
const FLOOD_TARGET: &str = "198.51.100.9:9";

/// What the demo showed.
#[derive(Debug, Serialize)]
pub struct Verdict {
    /// Whether it was AF_XDP, or rings in memory.
    pub af_xdp: bool,
    /// Each datagram sent to an address, and which socket answered it.
    pub probes: Vec<Probed>,
    /// What the flood came to.
    pub flood: Flooded,
    /// Each equation of the books.
    pub checks: Vec<Check>,
    /// Whether all of it was right.
    pub success: bool,
}

/// What the flood came to.
#[derive(Debug, Serialize)]
pub struct Flooded {
    /// How long it was.
    pub seconds: f64,
    /// Packets sent.
    pub sent: u64,
    /// Packets that Weir received.
    pub received: u64,
    /// The same, a second.
    pub received_per_second: f64,
}

/// Something that must be so.
#[derive(Debug, Serialize)]
pub struct Check {
    /// What.
    pub what: String,
    /// The numbers.
    pub found: String,
    /// Whether it is so.
    pub right: bool,
}

/// Where the demo plays.
trait Stage {
    /// Sends a datagram to each address and tells what came back.
    fn probe(&self, number: usize, probe: &probe::Probe) -> probe::Answer;
    /// Floods; the packets sent and the time that it took.
    fn flood(&self, seconds: u64) -> anyhow::Result<(u64, f64)>;
    /// Talks to Weir.
    fn client(&self) -> &Client;
    /// Whether it is the real thing.
    fn is_af_xdp(&self) -> bool;
    /// Where the metrics can be seen.
    fn prometheus(&self) -> String;
    /// Reads them as Prometheus would, and says how.
    fn scrape(&self) -> Check;
    /// Ends Weir; what must be so afterwards.
    fn end(self: Box<Self>) -> anyhow::Result<Vec<Check>>;
}

/// Plays the demo with a flood of that many seconds. What happens is told on the way.
///
/// # Errors
/// When the stage cannot be set. That something was wrong is no error, but a verdict.
pub fn run(seconds: u64, say: &(dyn Fn(&str) + Sync)) -> anyhow::Result<Verdict> {
    let stage: Box<dyn Stage + Sync> = match weir_lab::privileged() {
        Ok(()) => Box::new(lab::Lab::set(say)?),
        Err(reason) => {
            say(&format!(
                "No AF_XDP here: {reason}.\nThe same follows on the in-memory device: the same \
                 program, sockets and worker, but packets from this process.\n"
            ));
            Box::new(memory::Memory::set(say)?)
        }
    };
    say(&format!("Prometheus: {}\n", stage.prometheus()));
    let probes = ask_all(&*stage, say)?;
    let flood = flood(&*stage, seconds, say)?;
    let (stats, sockets) = at_rest(stage.client())?;
    let mut checks = Account { stats: &stats, sockets: &sockets }.checks();
    checks.push(stage.scrape());
    let af_xdp = stage.is_af_xdp();
    if !af_xdp {
        checks.push(account::equal(
            "every packet of the flood arrived",
            flood.sent,
            flood.received,
        ));
    }
    checks.extend(stage.end()?);
    let success = probes.iter().all(|p| p.right) && checks.iter().all(|check| check.right);
    Ok(Verdict { af_xdp, probes, flood, checks, success })
}

fn ask_all(stage: &dyn Stage, say: &dyn Fn(&str)) -> anyhow::Result<Vec<Probed>> {
    say("Datagrams from ordinary sockets, and which socket of Weir's answered:");
    let mut probed = Vec::new();
    for (number, probe) in probe::list(stage.is_af_xdp()).iter().enumerate() {
        let before: Vec<Socket> = stage.client().read("/v1/sockets")?;
        let answer = stage.probe(number, probe);
        let after: Vec<Socket> = stage.client().read("/v1/sockets")?;
        let one = Probed::judge(probe, &answer, &before, &after);
        say(&format!("  {one}"));
        probed.push(one);
    }
    say("");
    Ok(probed)
}

fn flood(
    stage: &(dyn Stage + Sync),
    seconds: u64,
    say: &(dyn Fn(&str) + Sync),
) -> anyhow::Result<Flooded> {
    say(&format!(
        "A flood of {seconds} s to {FLOOD_TARGET}, which the program steers to a discarding socket:"
    ));
    let first: Stats = stage.client().read("/v1/stats")?;
    let done = thread::scope(|scope| {
        let flood = scope.spawn(|| stage.flood(seconds));
        let mut before = first.clone();
        while !flood.is_finished() {
            thread::sleep(Duration::from_secs(1));
            // One that is late is told in the next line.
            let Ok(now) = stage.client().read::<Stats>("/v1/stats") else { continue };
            say(&format!("  {}", line(&before, &now)));
            before = now;
        }
        flood.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    let (sent, elapsed) = done?;
    let (last, _) = at_rest(stage.client())?;
    let received = last.total.received - first.total.received;
    say("");
    Ok(Flooded {
        seconds: elapsed,
        sent,
        received,
        received_per_second: received as f64 / elapsed.max(f64::EPSILON),
    })
}

fn line(before: &Stats, now: &Stats) -> String {
    let seconds = (now.uptime_seconds - before.uptime_seconds).max(f64::EPSILON);
    let per_second = |now: u64, before: u64| rate((now - before) as f64 / seconds);
    let sum = |stats: &Stats, count: fn(&crate::api::programs::Runs) -> u64| {
        stats.programs.iter().map(|program| count(&program.runs)).sum::<u64>()
    };
    format!(
        "received {:>12}   ring full {:>12}   dropped {:>8}   verdicts: pass {:>11}, drop {}, fault {}",
        per_second(now.total.received, before.total.received),
        per_second(now.ring_drops(), before.ring_drops()),
        per_second(now.total.dropped, before.total.dropped),
        count(sum(now, |runs| runs.passed)),
        count(sum(now, |runs| runs.dropped)),
        count(sum(now, |runs| runs.faulted)),
    )
}

/// The counters once nothing moves any more.
fn at_rest(client: &Client) -> Result<(Stats, Vec<Socket>), ClientError> {
    let mut before: Stats = client.read("/v1/stats")?;
    for _ in 0..50 {
        thread::sleep(Duration::from_millis(100));
        let now: Stats = client.read("/v1/stats")?;
        let redirected = |stats: &Stats| stats.redirect.as_ref().map_or(0, |r| r.redirected);
        if now.total == before.total && redirected(&now) == redirected(&before) {
            break;
        }
        before = now;
    }
    let sockets = client.read("/v1/sockets")?;
    Ok((client.read("/v1/stats")?, sockets))
}
