//! `weir stats`

use clap::Args;

use super::Global;
use super::format::{bytes, count, duration};
use super::table::Table;
use super::trouble::Trouble;
use crate::api::stats;

#[derive(Debug, Args)]
pub(super) struct Stats {}

impl Stats {
    pub(super) fn run(self, global: &Global) -> Result<(), Trouble> {
        let stats: stats::Stats = global.client().read("/v1/stats")?;
        global.show(&stats, render);
        Ok(())
    }
}

fn render(stats: &stats::Stats) -> String {
    let mut text = format!("up {}\n\n", duration(stats.uptime_seconds));
    text.push_str(&traffic(stats));
    text.push('\n');
    text.push_str(&workers(stats));
    if !stats.programs.is_empty() {
        text.push('\n');
        text.push_str(&programs(stats));
    }
    if let Some(redirect) = &stats.redirect {
        let mut table = Table::new(&["XDP PROGRAM", ">PACKETS"]);
        for (name, value) in [
            ("redirected", redirect.redirected),
            ("passed to the kernel", redirect.passed),
            ("fragments, passed", redirect.fragments),
            ("unparsable, passed", redirect.unparsable),
            ("no socket, passed", redirect.no_socket),
        ] {
            table.row([name.into(), count(value)]);
        }
        text.push('\n');
        text.push_str(&table.render());
    }
    text
}

fn traffic(stats: &stats::Stats) -> String {
    let total = &stats.total;
    let mut table = Table::new(&["PACKETS", ">COUNT", ">BYTES"]);
    let mut row = |name: &str, value: u64, size: Option<u64>| {
        table.row([name.into(), count(value), size.map(bytes).unwrap_or_default()]);
    };
    row("received", total.received, Some(total.received_bytes));
    row("transmitted", total.transmitted, Some(total.transmitted_bytes));
    row("delivered", total.delivered, None);
    row("answered", total.answered, None);
    row("refused", total.refused, None);
    row("dropped", total.dropped, None);
    for (reason, &value) in &total.drops {
        row(&format!("  {reason}"), value, None);
    }
    let lookups = &total.lookups;
    for (result, value) in [
        ("found connected", lookups.connected),
        ("found by program", lookups.steered),
        ("found by address", lookups.bound),
        ("found by wildcard", lookups.wildcard),
        ("not found", lookups.missed),
    ] {
        row(result, value, None);
    }
    table.render()
}

fn workers(stats: &stats::Stats) -> String {
    let mut table = Table::new(&[
        "WORKER",
        "QUEUE",
        "MODE",
        ">RECEIVED",
        ">SENT",
        ">DROPPED",
        ">RING FULL",
        ">BUSY",
        ">FRAMES",
        ">FREE",
    ]);
    for worker in &stats.workers {
        let time = worker.busy_seconds + worker.idle_seconds;
        let busy = if time > 0.0 { 100.0 * worker.busy_seconds / time } else { 0.0 };
        table.row([
            worker.worker.to_string(),
            worker.queue.to_string(),
            worker.mode.clone(),
            count(worker.traffic.received),
            count(worker.traffic.transmitted),
            count(worker.traffic.dropped),
            count(worker.device.rx_ring_full + worker.device.rx_dropped),
            format!("{busy:.1} %"),
            count(worker.frames.total),
            count(worker.frames.free),
        ]);
    }
    table.render()
}

fn programs(stats: &stats::Stats) -> String {
    let mut table =
        Table::new(&["LINK", "PROGRAM", ">RUNS", ">PASS", ">DROP", ">FAULT", ">RECALLED"]);
    for program in &stats.programs {
        let runs = program.runs;
        table.row([
            program.link.to_string(),
            program.program.clone(),
            count(runs.runs),
            count(runs.passed),
            count(runs.dropped),
            count(runs.faulted),
            count(runs.recalled),
        ]);
    }
    table.render()
}
