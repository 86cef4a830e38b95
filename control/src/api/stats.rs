//! `/v1/stats`: what the workers, the device and the XDP program have counted.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use weir_dataplane::counters::Counters;
use weir_dataplane::reason::Reason;

use super::programs::Runs;
use super::{App, Failure};
use crate::fleet::Standing;

/// Everything that is counted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Stats {
    /// Since the start.
    pub uptime_seconds: f64,
    /// All workers together.
    pub total: Traffic,
    /// Each worker.
    pub workers: Vec<WorkerStats>,
    /// Each attached program, all workers together.
    pub programs: Vec<LinkStats>,
    /// What the XDP program did, on an AF_XDP device.
    pub redirect: Option<Redirected>,
}

/// Frames in and out. `received` = `delivered` + `answered` + `refused` + `dropped`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Frames received.
    pub received: u64,
    /// Bytes of them.
    pub received_bytes: u64,
    /// Frames given to the device to send.
    pub transmitted: u64,
    /// Bytes of them.
    pub transmitted_bytes: u64,
    /// Taken by a service that does not answer.
    pub delivered: u64,
    /// Answered by a service.
    pub answered: u64,
    /// Refused with an ICMP error.
    pub refused: u64,
    /// Dropped, for whatever reason.
    pub dropped: u64,
    /// By reason; those that have not occurred are left out.
    pub drops: BTreeMap<String, u64>,
    /// How lookups ended.
    pub lookups: Lookups,
}

/// How lookups ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lookups {
    /// By the whole 4-tuple.
    pub connected: u64,
    /// By a program.
    pub steered: u64,
    /// By the bound address.
    pub bound: u64,
    /// By a wildcard.
    pub wildcard: u64,
    /// By nothing.
    pub missed: u64,
}

/// One worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WorkerStats {
    /// Its number.
    pub worker: u8,
    /// Its queue.
    pub queue: u32,
    /// The mode that it really got.
    pub mode: String,
    /// Frames in and out.
    pub traffic: Traffic,
    /// Answers that wait for the transmit ring.
    pub backlog: u64,
    /// Where its frames are.
    pub frames: Frames,
    /// What the kernel says of its ring.
    pub device: Device,
    /// Open sockets.
    pub sockets: u64,
    /// Turns that found work.
    pub turns_busy: u64,
    /// Turns that found none.
    pub turns_idle: u64,
    /// Time in busy turns.
    pub busy_seconds: f64,
    /// Time in idle turns and asleep.
    pub idle_seconds: f64,
    /// Times that it slept.
    pub waits: u64,
    /// Lines of `bpf_trace_printk` that were lost.
    pub trace_lost: u64,
}

/// Where a device's frames are.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Frames {
    /// All of them.
    pub total: u64,
    /// In the fill or the receive ring.
    pub filling: u64,
    /// In the transmit or the completion ring.
    pub transmitting: u64,
    /// Unused.
    pub free: u64,
    /// In the worker's hands.
    pub held: u64,
}

/// `struct xdp_statistics`, and what we refused ourselves.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the kernel's names")]
pub struct Device {
    pub rx_dropped: u64,
    pub rx_ring_full: u64,
    pub fill_ring_empty: u64,
    pub rx_invalid_descriptors: u64,
    pub tx_invalid_descriptors: u64,
    pub tx_ring_empty: u64,
    pub descriptors_refused: u64,
}

/// One attached program.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LinkStats {
    /// Its link.
    pub link: u64,
    /// Its name.
    pub program: String,
    /// Its runs.
    pub runs: Runs,
}

/// What the XDP program did, packet by packet.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Redirected {
    /// Bound, and given to a queue's socket.
    pub redirected: u64,
    /// Not bound: the kernel's.
    pub passed: u64,
    /// Fragments: the kernel's.
    pub fragments: u64,
    /// Not parsable: the kernel's.
    pub unparsable: u64,
    /// Bound, but the queue has no socket: the kernel's.
    pub no_socket: u64,
}

impl Traffic {
    fn of(counters: &Counters) -> Traffic {
        let drops = Reason::all()
            .map(|reason| (reason.as_str().to_owned(), counters.dropped[reason.index()]))
            .filter(|&(_, count)| count > 0)
            .collect();
        let lookup = counters.lookup;
        Traffic {
            received: counters.received,
            received_bytes: counters.received_bytes,
            transmitted: counters.transmitted,
            transmitted_bytes: counters.transmitted_bytes,
            delivered: counters.delivered,
            answered: counters.answered,
            refused: counters.refused,
            dropped: counters.dropped_total(),
            drops,
            lookups: Lookups {
                connected: lookup.connected,
                steered: lookup.steered,
                bound: lookup.bound,
                wildcard: lookup.wildcard,
                missed: lookup.missed,
            },
        }
    }

    fn add(&mut self, other: &Traffic) {
        self.received += other.received;
        self.received_bytes += other.received_bytes;
        self.transmitted += other.transmitted;
        self.transmitted_bytes += other.transmitted_bytes;
        self.delivered += other.delivered;
        self.answered += other.answered;
        self.refused += other.refused;
        self.dropped += other.dropped;
        for (reason, count) in &other.drops {
            *self.drops.entry(reason.clone()).or_default() += count;
        }
        self.lookups.connected += other.lookups.connected;
        self.lookups.steered += other.lookups.steered;
        self.lookups.bound += other.lookups.bound;
        self.lookups.wildcard += other.lookups.wildcard;
        self.lookups.missed += other.lookups.missed;
    }

    /// Frames that left by a door.
    pub fn left(&self) -> u64 {
        self.delivered + self.answered + self.refused + self.dropped
    }
}

impl WorkerStats {
    fn of(worker: &Standing<'_>) -> WorkerStats {
        let report = worker.report;
        let (counters, balance, device) = (&report.counters, report.balance, report.device);
        WorkerStats {
            worker: worker.number,
            queue: worker.queue,
            mode: worker.mode.as_str().into(),
            traffic: Traffic::of(counters),
            backlog: report.backlog,
            frames: Frames {
                total: balance.total,
                filling: balance.filling,
                transmitting: balance.transmitting,
                free: balance.free,
                held: balance.held(),
            },
            device: Device {
                rx_dropped: device.rx_dropped,
                rx_ring_full: device.rx_ring_full,
                fill_ring_empty: device.fill_ring_empty,
                rx_invalid_descriptors: device.rx_invalid_descriptors,
                tx_invalid_descriptors: device.tx_invalid_descriptors,
                tx_ring_empty: device.tx_ring_empty,
                descriptors_refused: device.descriptors_refused,
            },
            sockets: report.sockets,
            turns_busy: counters.turns_busy,
            turns_idle: counters.turns_idle,
            busy_seconds: counters.busy_ns as f64 / 1e9,
            idle_seconds: counters.idle_ns as f64 / 1e9,
            waits: counters.waits,
            trace_lost: counters.trace_lost,
        }
    }
}

impl Stats {
    /// Frames that an AF_XDP ring had no room for, all queues together.
    pub fn ring_drops(&self) -> u64 {
        self.workers.iter().map(|w| w.device.rx_dropped + w.device.rx_ring_full).sum()
    }
}

pub(super) async fn read(State(app): State<App>) -> Result<Json<Stats>, Failure> {
    let mut plane = app.plane().await?;
    plane.fleet.refresh().await?;
    let workers: Vec<WorkerStats> =
        plane.fleet.standings().map(|worker| WorkerStats::of(&worker)).collect();
    let mut total = Traffic::default();
    for worker in &workers {
        total.add(&worker.traffic);
    }
    let programs = plane
        .steering
        .links()
        .iter()
        .map(|link| LinkStats {
            link: link.id,
            program: link.code.name().into(),
            runs: Runs::from(plane.fleet.program(link.id)),
        })
        .collect();
    let redirect = plane.redirected().map(|counters| Redirected {
        redirected: counters.redirected,
        passed: counters.passed,
        fragments: counters.fragments,
        unparsable: counters.unparsable,
        no_socket: counters.no_socket,
    });
    let uptime_seconds = plane.started.elapsed().as_secs_f64();
    Ok(Json(Stats { uptime_seconds, total, workers, programs, redirect }))
}
