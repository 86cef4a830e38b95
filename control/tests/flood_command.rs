//! `weir flood` in a lab: what it says that it sent is what arrived, at the rate that was asked
//! for; and it refuses what is no lab.

mod support;

use std::process::{Command, Output};
use std::sync::{Mutex, PoisonError};

use serde_json::Value;
use support::peer::{DEVICE, bed, binding, eventually, output, socket, transmitted};
use support::{Running, privileged, weir};
use weir_lab::Bed;

/// One flood at a time: each has a rate to keep.
static FLOOD: Mutex<()> = Mutex::new(());

fn config() -> String {
    [
        DEVICE.into(),
        binding("192.0.2.0/24", "\"all\""),
        binding("2001:db8::/32", "\"all\""),
        socket("sink", "[::]:80", "discard"),
    ]
    .concat()
}

fn flood(bed: &Bed, interface: &str, arguments: &[&str]) -> Output {
    let mut command = bed.peer().command(env!("CARGO_BIN_EXE_weir"));
    command.args(["flood", "--json", "--interface", interface]).args(arguments).output().unwrap()
}

fn outcome(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_bounded_flood_arrives_as_it_was_told() {
    if !privileged() {
        return;
    }
    let _alone = FLOOD.lock().unwrap_or_else(PoisonError::into_inner);
    let bed = bed(1);
    let weir = Running::start(&bed, &config());
    let mut arrived = 0;
    for (source, pattern, count) in [
        ("live-frames", "udp4", 20_000),
        ("live-frames", "udp6", 20_000),
        ("xsk", "udp4", 2_000),
        ("xsk", "udp6", 2_000),
    ] {
        let text = u64::to_string(&count);
        let limits = ["--count", &text, "--rate", "20000", "--seconds", "20"];
        let which = ["--source", source, "--pattern", pattern];
        let outcome = outcome(&flood(&bed, Bed::PEER_DEVICE, &[&which[..], &limits].concat()));
        assert_eq!((&outcome["source"], &outcome["pattern"]), (&source.into(), &pattern.into()));
        assert_eq!(outcome["sent"], count, "{outcome}");
        arrived += count;
        // What veth's own ring has no room for is the sending end's loss.
        let seen = || {
            let stats = weir.stats();
            stats.redirect.as_ref().unwrap().redirected + transmitted(&bed, "dropped")
        };
        eventually("all of it arrives", || seen() >= arrived);
        assert_eq!(seen(), arrived, "{source} {pattern}");
    }
    let stats = weir.stats();
    // A worker that waits for its processor finds that its ring had no room for some.
    let redirected = stats.redirect.as_ref().unwrap().redirected;
    assert_eq!(stats.total.received + stats.ring_drops(), redirected, "{stats:?}");
    assert_eq!(stats.total.delivered, stats.total.received, "{stats:?}");
    assert!(weir.terminate().status.success());
}

#[test]
fn a_rate_is_kept_within_a_tenth() {
    if !privileged() {
        return;
    }
    let _alone = FLOOD.lock().unwrap_or_else(PoisonError::into_inner);
    let bed = bed(1);
    let _weir = Running::start(&bed, &config());
    for (source, rate) in [("live-frames", 50_000), ("xsk", 5_000)] {
        let text = u64::to_string(&rate);
        let arguments = ["--source", source, "--rate", &text, "--seconds", "3"];
        let outcome = outcome(&flood(&bed, Bed::PEER_DEVICE, &arguments));
        let (sent, seconds) =
            (outcome["sent"].as_u64().unwrap(), outcome["seconds"].as_f64().unwrap());
        let achieved = outcome["packets_per_second"].as_f64().unwrap();
        assert!((3.0..4.0).contains(&seconds), "{outcome}");
        assert!((achieved - sent as f64 / seconds).abs() < 1.0, "{outcome}");
        assert!((achieved / rate as f64 - 1.0).abs() < 0.1, "{outcome}");
    }
}

#[test]
fn what_is_no_lab_is_not_flooded() {
    if !privileged() {
        return;
    }
    let bed = bed(1);
    output(bed.peer().command("ip").args(["link", "add", "bridge0", "type", "bridge"]));
    let few = ["--count", "1", "--seconds", "1"];
    for (interface, reason) in [
        ("bridge0", "bridge0 is a bridge, not a veth"),
        ("lo", "lo is a real interface, not a veth"),
        ("none0", "none0"),
    ] {
        let refused = flood(&bed, interface, &few);
        assert_refused(refused.status.code(), &String::from_utf8_lossy(&refused.stderr), reason);
    }
    let pair = Pair::new();
    let ended = weir(&["flood", "--interface", &pair.0, "--count", "1", "--seconds", "1"]);
    let reason = format!("{} is in the network namespace of this machine's init", pair.0);
    assert_refused(ended.status.code(), &ended.stderr, &reason);
    assert_eq!(pair.sent(), 0);
}

fn assert_refused(code: Option<i32>, said: &str, reason: &str) {
    assert_eq!(code, Some(1), "{said}");
    assert!(said.starts_with("error: ") && said.contains(reason), "{said}");
    assert!(said.contains("\nhelp: "), "{said}");
}

/// A veth pair outside of any lab, down, so that nothing can leave by it.
struct Pair(String);

impl Pair {
    fn new() -> Pair {
        let name = format!("wt{}", std::process::id());
        let other = format!("{name}p");
        output(Command::new("ip").args(["link", "add", &name, "type", "veth", "peer", &other]));
        Pair(name)
    }

    fn sent(&self) -> u64 {
        let path = format!("/sys/class/net/{}/statistics/tx_packets", self.0);
        std::fs::read_to_string(path).unwrap().trim().parse().unwrap()
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["link", "delete", &self.0]).status();
    }
}
