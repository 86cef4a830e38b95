//! `/metrics` in Prometheus' text format. Every scrape is rendered from the workers' reports by a
//! recorder of its own, so that what is gone (a closed socket, a detached program) is gone from
//! the metrics too, and the packet path never touches one.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::UNIX_EPOCH;

use metrics::{Label, Unit, counter, describe_counter, describe_gauge, gauge};
use metrics_exporter_prometheus::PrometheusBuilder;
use weir_dataplane::reason::Reason;
use weir_dataplane::socket::{SocketCounters, SocketId};

use crate::daemon::Plane;
use crate::fleet::Standing;

/// Sockets that have series of their own; of the others `weir ss` tells.
pub const SOCKETS_SHOWN: usize = 4096;

/// The counters of every socket, each worker's by itself.
pub type SocketTable = HashMap<SocketId, Vec<(u8, SocketCounters)>>;

/// Counters that a worker has one of: name, help, value.
type Series = (&'static str, &'static str, fn(&Standing<'_>) -> u64);

const WORKER_SERIES: [Series; 17] = [
    ("weir_packets_received_total", "Frames taken from the device.", |w| {
        w.report.counters.received
    }),
    ("weir_bytes_received_total", "Bytes of the frames taken from the device.", |w| {
        w.report.counters.received_bytes
    }),
    ("weir_packets_transmitted_total", "Frames given to the device.", |w| {
        w.report.counters.transmitted
    }),
    ("weir_bytes_transmitted_total", "Bytes of the frames given to the device.", |w| {
        w.report.counters.transmitted_bytes
    }),
    ("weir_packets_delivered_total", "Datagrams that a service took and did not answer.", |w| {
        w.report.counters.delivered
    }),
    ("weir_packets_answered_total", "Datagrams that a service answered.", |w| {
        w.report.counters.answered
    }),
    ("weir_packets_refused_total", "Datagrams refused with an ICMP error.", |w| {
        w.report.counters.refused
    }),
    ("weir_worker_waits_total", "Times the worker slept until the device had something.", |w| {
        w.report.counters.waits
    }),
    ("weir_trace_lines_lost_total", "Lines of bpf_trace_printk that found no room.", |w| {
        w.report.counters.trace_lost
    }),
    ("weir_device_receive_dropped_total", "Frames the kernel dropped at the AF_XDP socket.", |w| {
        w.report.device.rx_dropped
    }),
    ("weir_device_receive_ring_full_total", "Frames that found the receive ring full.", |w| {
        w.report.device.rx_ring_full
    }),
    ("weir_device_fill_ring_empty_total", "Frames that found no buffer to be put into.", |w| {
        w.report.device.fill_ring_empty
    }),
    (
        "weir_device_receive_invalid_descriptors_total",
        "Descriptors of the fill ring that the kernel refused.",
        |w| w.report.device.rx_invalid_descriptors,
    ),
    (
        "weir_device_transmit_invalid_descriptors_total",
        "Descriptors of the transmit ring that the kernel refused.",
        |w| w.report.device.tx_invalid_descriptors,
    ),
    (
        "weir_device_transmit_ring_empty_total",
        "Times the kernel found nothing in the transmit ring.",
        |w| w.report.device.tx_ring_empty,
    ),
    (
        "weir_device_descriptors_refused_total",
        "Descriptors from the kernel that pointed outside of a frame.",
        |w| w.report.device.descriptors_refused,
    ),
    ("weir_packets_dropped_unaccounted_total", "Frames that left by no door; always 0.", |w| {
        let counters = &w.report.counters;
        counters.received.abs_diff(counters.left())
    }),
];

/// The renderer.
#[derive(Debug, Default)]
pub struct Metrics(());

impl Metrics {
    /// The state of everything, as text.
    pub fn render(&self, plane: &Plane, sockets: &SocketTable) -> String {
        let recorder = PrometheusBuilder::new().build_recorder();
        metrics::with_local_recorder(&recorder, || {
            describe();
            plane.fleet.standings().for_each(|worker| record_worker(plane, &worker));
            record_programs(plane);
            record_sockets(plane, sockets);
            record_plane(plane);
        });
        let mut text = recorder.handle().render();
        append_seconds(&mut text, plane);
        append_batches(&mut text, plane);
        text
    }
}

fn describe() {
    for (name, help, _) in WORKER_SERIES {
        describe_counter!(name, help);
    }
    describe_counter!("weir_packets_dropped_total", "Frames dropped, by reason.");
    describe_counter!("weir_lookups_total", "Socket lookups, by how they ended.");
    describe_counter!("weir_worker_turns_total", "Turns of the worker, by what they found.");
    describe_counter!("weir_program_runs_total", "Runs of an attached program.");
    describe_counter!(
        "weir_program_runs_recalled_total",
        "Of the runs, those whose outcome was known from a like packet."
    );
    describe_counter!("weir_program_verdicts_total", "Runs of an attached program, by verdict.");
    describe_counter!("weir_socket_packets_received_total", "Datagrams delivered to the socket.");
    describe_counter!("weir_socket_bytes_received_total", "Payload bytes delivered to it.");
    describe_counter!("weir_socket_packets_transmitted_total", "Datagrams sent by the socket.");
    describe_counter!("weir_socket_bytes_transmitted_total", "Payload bytes sent by it.");
    describe_counter!("weir_socket_packets_steered_total", "Datagrams that a program gave it.");
    describe_counter!("weir_redirect_packets_total", "Packets seen by the XDP program, by result.");
    describe_gauge!("weir_frames", "Frames of the device, by where they are.");
    describe_gauge!("weir_backlog_frames", "Answers that wait for the transmit ring.");
    describe_gauge!("weir_sockets", "Open sockets.");
    describe_gauge!("weir_bindings", "Bindings of the XDP program.");
    describe_gauge!("weir_map_entries", "Entries in a map.");
    describe_gauge!("weir_device_info", "The device and the mode that it really got; always 1.");
    describe_gauge!("weir_build_info", "The version of Weir; always 1.");
    describe_gauge!("weir_uptime_seconds", Unit::Seconds, "Time since the start.");
    describe_gauge!("weir_config_last_reload_success", "1 if the last reload went through.");
    describe_gauge!(
        "weir_config_last_reload_success_timestamp_seconds",
        Unit::Seconds,
        "When the last reload was, in seconds since 1970."
    );
}

fn worker_labels(worker: &Standing<'_>) -> Vec<Label> {
    vec![
        Label::new("worker", worker.number.to_string()),
        Label::new("queue", worker.queue.to_string()),
    ]
}

fn with(labels: &[Label], key: &'static str, value: impl Into<String>) -> Vec<Label> {
    let mut labels = labels.to_vec();
    labels.push(Label::new(key, value.into()));
    labels
}

fn record_worker(plane: &Plane, worker: &Standing<'_>) {
    let labels = worker_labels(worker);
    for (name, _, value) in WORKER_SERIES {
        counter!(name, labels.clone()).absolute(value(worker));
    }
    let report = worker.report;
    let counters = &report.counters;
    for reason in Reason::all() {
        counter!("weir_packets_dropped_total", with(&labels, "reason", reason.as_str()))
            .absolute(counters.dropped[reason.index()]);
    }
    let lookup = counters.lookup;
    for (result, count) in [
        ("connected", lookup.connected),
        ("steered", lookup.steered),
        ("bound", lookup.bound),
        ("wildcard", lookup.wildcard),
        ("missed", lookup.missed),
    ] {
        counter!("weir_lookups_total", with(&labels, "result", result)).absolute(count);
    }
    for (state, count) in [("busy", counters.turns_busy), ("idle", counters.turns_idle)] {
        counter!("weir_worker_turns_total", with(&labels, "state", state)).absolute(count);
    }
    let balance = report.balance;
    for (state, count) in [
        ("filling", balance.filling),
        ("transmitting", balance.transmitting),
        ("free", balance.free),
        ("held", balance.held()),
    ] {
        gauge!("weir_frames", with(&labels, "state", state)).set(count as f64);
    }
    gauge!("weir_backlog_frames", labels).set(report.backlog as f64);
    gauge!(
        "weir_device_info",
        "interface" => plane.interface().unwrap_or("").to_owned(),
        "queue" => worker.queue.to_string(),
        "mode" => worker.mode.as_str()
    )
    .set(1.0);
}

fn record_programs(plane: &Plane) {
    for link in plane.steering.links() {
        let labels = vec![
            Label::new("program", link.code.name().to_owned()),
            Label::new("link", link.id.to_string()),
        ];
        let runs = plane.fleet.program(link.id);
        counter!("weir_program_runs_total", labels.clone()).absolute(runs.runs);
        counter!("weir_program_runs_recalled_total", labels.clone()).absolute(runs.recalled);
        for (verdict, count) in
            [("pass", runs.passed), ("drop", runs.dropped), ("fault", runs.faulted)]
        {
            counter!("weir_program_verdicts_total", with(&labels, "verdict", verdict))
                .absolute(count);
        }
    }
    for (object, (id, map)) in
        plane.steering.objects().iter().flat_map(|o| o.maps.iter().map(move |map| (o.id, map)))
    {
        gauge!(
            "weir_map_entries",
            "object" => object.to_string(),
            "map" => map.spec().name.clone(),
            "id" => id.to_string()
        )
        .set(map.len() as f64);
    }
}

fn record_sockets(plane: &Plane, sockets: &SocketTable) {
    for (id, spec) in plane.registry.iter().take(SOCKETS_SHOWN) {
        let all = sockets.get(&id).map_or(&[][..], |workers| workers);
        let sum = |count: fn(&SocketCounters) -> u64| all.iter().map(|(_, c)| count(c)).sum();
        let series: [(&'static str, u64); 5] = [
            ("weir_socket_packets_received_total", sum(|c| c.received)),
            ("weir_socket_bytes_received_total", sum(|c| c.received_bytes)),
            ("weir_socket_packets_transmitted_total", sum(|c| c.sent)),
            ("weir_socket_bytes_transmitted_total", sum(|c| c.sent_bytes)),
            ("weir_socket_packets_steered_total", sum(|c| c.steered)),
        ];
        for (name, count) in series {
            counter!(name, "socket" => spec.name.to_string()).absolute(count);
        }
    }
}

fn record_plane(plane: &Plane) {
    if let Some(redirect) = plane.redirected() {
        for (result, count) in [
            ("redirected", redirect.redirected),
            ("passed", redirect.passed),
            ("fragment", redirect.fragments),
            ("unparsable", redirect.unparsable),
            ("no_socket", redirect.no_socket),
        ] {
            counter!("weir_redirect_packets_total", "result" => result).absolute(count);
        }
    }
    gauge!("weir_sockets").set(plane.registry.len() as f64);
    gauge!("weir_bindings").set(plane.config.bindings.len() as f64);
    gauge!("weir_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    gauge!("weir_uptime_seconds").set(plane.started.elapsed().as_secs_f64());
    let reloaded = plane.reloaded;
    gauge!("weir_config_last_reload_success").set(f64::from(u8::from(reloaded.success)));
    let when = reloaded.at.duration_since(UNIX_EPOCH).unwrap_or_default();
    gauge!("weir_config_last_reload_success_timestamp_seconds").set(when.as_secs_f64());
}

/// Counters of fractions, which the metrics crate does not have.
fn append_seconds(text: &mut String, plane: &Plane) {
    let name = "weir_worker_seconds_total";
    text.push_str("# HELP weir_worker_seconds_total Time of the worker, by what it did.\n");
    text.push_str("# TYPE weir_worker_seconds_total counter\n");
    for worker in plane.fleet.standings() {
        let counters = &worker.report.counters;
        for (state, ns) in [("busy", counters.busy_ns), ("idle", counters.idle_ns)] {
            let (number, queue, seconds) = (worker.number, worker.queue, ns as f64 / 1e9);
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "{name}{{worker=\"{number}\",queue=\"{queue}\",state=\"{state}\"}} {seconds}"
            );
        }
    }
}

/// A histogram whose buckets the worker has filled already, which the metrics crate does not take.
fn append_batches(text: &mut String, plane: &Plane) {
    let name = "weir_batch_frames";
    text.push_str("# HELP weir_batch_frames Frames that a busy turn received.\n");
    text.push_str("# TYPE weir_batch_frames histogram\n");
    for worker in plane.fleet.standings() {
        let labels = format!("worker=\"{}\",queue=\"{}\"", worker.number, worker.queue);
        let mut turns = 0;
        for (power, count) in worker.report.counters.batches.iter().enumerate() {
            turns += count;
            let _ = writeln!(text, "{name}_bucket{{{labels},le=\"{}\"}} {turns}", 1u64 << power);
        }
        let _ = writeln!(text, "{name}_bucket{{{labels},le=\"+Inf\"}} {turns}");
        let _ = writeln!(text, "{name}_sum{{{labels}}} {}", worker.report.counters.received);
        let _ = writeln!(text, "{name}_count{{{labels}}} {turns}");
    }
}
