//! `/metrics` as Prometheus sees it: its own checker has no complaint, and a real server scrapes
//! the very numbers that Weir counts.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::Value;
use support::peer::{
    Background, DEVICE, bed, binding, client, echoes, eventually, http, output, refused, socket,
};
use support::{Folder, Running, privileged};
use weir_dataplane::reason::Reason;
use weir_lab::Bed;

/// Where Weir exports, as deploy/prometheus.yml has it.
const METRICS: &str = "127.0.0.1:9464";
/// Where the server listens, on the namespace's own loopback.
const SERVER: &str = "127.0.0.1:9090";
/// What an operator deploys.
const DEPLOYED: &str = include_str!("../../deploy/prometheus.yml");

fn config(rest: &str) -> String {
    [
        DEVICE.into(),
        format!("[control]\nsocket = \"{{socket}}\"\nmetrics = \"{METRICS}\"\n"),
        binding("192.0.2.0/24", "\"all\""),
        binding("198.51.100.0/24", "80"),
        socket("echo", "192.0.2.1:7", "echo"),
        socket("web", "127.0.0.1:8080", "echo"),
        "[[program]]\nobject = \"builtin:steer\"\nname = \"steer\"\n\
         [[program.entry]]\nmap = \"sockets\"\nkey = 0\nsocket = \"web\"\n\
         [[program.entry]]\nmap = \"bindings\"\nvalue = 0\n\
         binding = { prefix = \"198.51.100.0/24\", protocol = \"udp\", port = 80 }\n"
            .into(),
        rest.into(),
    ]
    .concat()
}

/// Traffic that ends in each way: answered, steered, refused.
fn talk(bed: &Bed, weir: &Running) {
    let clients = [client(bed, "192.0.2.1:7"), client(bed, "198.51.100.3:80")];
    for number in 0..50u8 {
        assert!(clients.iter().all(|client| echoes(client, &[number; 9])), "{}", weir.log());
    }
    assert!(refused(&client(bed, "192.0.2.1:99"), b"anyone?"), "{}", weir.log());
}

fn scrape(bed: &Bed) -> String {
    let (status, text) = http(bed.weir(), METRICS, "/metrics").unwrap();
    assert_eq!(status, 200, "{text}");
    text
}

/// Every sample, by its name with its labels.
fn samples(text: &str) -> BTreeMap<&str, f64> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| line.rsplit_once(' ').unwrap()).map(|(k, v)| (k, v.parse().unwrap())).collect()
}

/// Sum of the samples of a metric.
fn total(text: &str, name: &str) -> f64 {
    let of = |key: &str| key.strip_prefix(name).is_some_and(|rest| rest.starts_with('{'));
    samples(text).into_iter().filter(|(key, _)| of(key)).map(|(_, value)| value).sum()
}

#[test]
fn promtool_has_no_complaint_and_every_reason_its_series() {
    if !privileged() {
        return;
    }
    let bed = bed(2);
    let weir = Running::start(&bed, &config(""));
    talk(&bed, &weir);
    let text = scrape(&bed);
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let said = promtool.wait_with_output().unwrap();
    let complaint = String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned();
    assert!(said.status.success() && complaint.is_empty(), "{complaint}");

    let samples = samples(&text);
    for queue in 0..2 {
        for reason in Reason::all() {
            let labels =
                format!("worker=\"{queue}\",queue=\"{queue}\",reason=\"{}\"", reason.as_str());
            let series = format!("weir_packets_dropped_total{{{labels}}}");
            assert!(samples.contains_key(&*series), "{series} is missing");
        }
    }
    let traffic = weir.stats().total;
    for (name, counted) in [
        ("weir_packets_received_total", traffic.received),
        ("weir_bytes_received_total", traffic.received_bytes),
        ("weir_packets_transmitted_total", traffic.transmitted),
        ("weir_packets_answered_total", traffic.answered),
        ("weir_packets_refused_total", traffic.refused),
        ("weir_packets_delivered_total", traffic.delivered),
        ("weir_packets_dropped_total", traffic.dropped),
        ("weir_packets_dropped_unaccounted_total", 0),
        ("weir_program_runs_total", 101),
    ] {
        assert_eq!(total(&text, name), counted as f64, "{name}");
    }
    assert_eq!((traffic.received, traffic.answered, traffic.refused), (101, 100, 1));
    // Over the Unix socket it is the same document.
    let other = weir.client().read_text("/metrics").unwrap();
    assert_eq!(total(&other, "weir_packets_received_total"), 101.0);
}

#[test]
fn a_counter_never_goes_back_over_a_reload() {
    if !privileged() {
        return;
    }
    let bed = bed(1);
    let weir = Running::start(&bed, &config(""));
    let path = weir.client().socket().display().to_string();
    let more = binding("203.0.113.0/24", "80") + &socket("more", "203.0.113.1:80", "discard");
    talk(&bed, &weir);
    let mut before = scrape(&bed);
    for rest in [&*more, "", &*more] {
        fs::write(weir.config(), config(rest).replace("{socket}", &path)).unwrap();
        let ended = support::weir(&["reload", "--socket", &path]);
        assert!(ended.status.success(), "{ended:?}");
        let quiet = scrape(&bed);
        assert_monotonic(&before, &quiet);
        talk(&bed, &weir);
        let after = scrape(&bed);
        assert_monotonic(&quiet, &after);
        assert!(
            total(&after, "weir_packets_received_total")
                >= total(&before, "weir_packets_received_total") + 101.0
        );
        before = after;
    }
    assert_eq!(total(&before, "weir_packets_received_total"), 404.0);
}

/// No counter is less than it was, and none of what has stayed is gone.
fn assert_monotonic(before: &str, after: &str) {
    let (before, after) = (samples(before), samples(after));
    for (series, was) in before {
        let name = series.split('{').next().unwrap();
        let counter = ["_total", "_bucket", "_sum", "_count"].iter().any(|end| name.ends_with(end));
        if !counter || series.contains("\"more\"") {
            continue;
        }
        let Some(&is) = after.get(series) else { panic!("{series} is gone") };
        assert!(is >= was, "{series} went from {was} to {is}");
    }
}

/// A server that scrapes every second, with what the operator's file says besides.
fn server(bed: &Bed, folder: &Folder) -> Background {
    fs::create_dir_all(folder.path("data")).unwrap();
    let (file, data) = (folder.path("prometheus.yml"), folder.path("data"));
    assert!(DEPLOYED.contains("scrape_interval: 5s") && DEPLOYED.contains(METRICS), "{DEPLOYED}");
    fs::write(&file, DEPLOYED.replace("scrape_interval: 5s", "scrape_interval: 1s")).unwrap();
    output(Command::new("promtool").args(["check", "config"]).arg(&file));
    let option = |name: &str, value: &str| format!("--{name}={value}");
    let mut command = bed.weir().command("prometheus");
    command.args([
        option("config.file", file.to_str().unwrap()),
        option("storage.tsdb.path", data.to_str().unwrap()),
        option("web.listen-address", SERVER),
    ]);
    Background::start(&mut command)
}

/// What the server answers to an instant query without labels: the only sample's value.
fn query(bed: &Bed, expression: &str) -> Option<f64> {
    let (status, body) =
        http(bed.weir(), SERVER, &format!("/api/v1/query?query={expression}")).ok()?;
    let answer: Value = serde_json::from_str(&body).ok()?;
    let result = answer["data"]["result"].as_array()?;
    assert!(result.len() <= 1, "{body}");
    (status == 200).then(|| result.first()?["value"][1].as_str()?.parse().ok())?
}

#[test]
fn a_real_prometheus_has_the_numbers_that_weir_counts() {
    if !privileged() {
        return;
    }
    let bed = bed(2);
    let weir = Running::start(&bed, &config(""));
    let folder = Folder::new();
    let mut server = server(&bed, &folder);
    talk(&bed, &weir);
    let received = weir.stats().total.received;
    assert_eq!(received, 101);
    let sum = |name: &str| query(&bed, &format!("sum({name})"));
    eventually("the server has what Weir counts", || {
        assert!(server.runs(), "prometheus has ended");
        sum("weir_packets_received_total") == Some(received as f64)
    });
    assert_eq!(sum("weir_packets_answered_total"), Some(100.0));
    assert_eq!(query(&bed, "up%7Bjob=%22weir%22%7D"), Some(1.0));
    assert_eq!(query(&bed, "count(weir_packets_dropped_total)"), Some(2.0 * Reason::COUNT as f64));
    // And it follows.
    talk(&bed, &weir);
    eventually("the server follows", || sum("weir_packets_received_total") == Some(202.0));
    // Without Weir the target is down: the numbers were not the server's own.
    assert!(weir.terminate().status.success());
    eventually("the target is down", || query(&bed, "up%7Bjob=%22weir%22%7D") == Some(0.0));
}
