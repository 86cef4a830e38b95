//! `weir demo` and `weir flood` as a person runs them.

mod support;

use std::process::Command;

use serde_json::Value;
use support::{Ended, Running, privileged, weir};
use weir_lab::{Bed, BedOptions};

fn verdict(ended: &Ended) -> Value {
    serde_json::from_str(&ended.stdout.join("\n")).unwrap_or_else(|e| panic!("{e}: {ended:?}"))
}

#[test]
fn the_demo_is_right_and_leaves_nothing() {
    if !privileged() {
        return;
    }
    let ended = weir(&["demo", "--seconds", "2", "--json"]);
    assert!(ended.status.success(), "{ended:?}");
    let verdict = verdict(&ended);
    assert_eq!((&verdict["af_xdp"], &verdict["success"]), (&true.into(), &true.into()));
    assert!(verdict["flood"]["received"].as_u64().unwrap() > 10_000, "{verdict}");
    let kernel = verdict["probes"].as_array().unwrap().iter();
    assert_eq!(kernel.filter(|probe| probe["answered"] == "the kernel").count(), 1);
    let namespaces = Command::new("ip").args(["netns", "list"]).output().unwrap();
    let namespaces = String::from_utf8(namespaces.stdout).unwrap();
    let lab = ended.stderr.lines().find(|line| line.starts_with("A lab: ")).unwrap();
    let name = lab.split_whitespace().nth(2).unwrap();
    assert!(!namespaces.contains(name), "{name} is still there");
}

#[test]
fn without_privileges_the_demo_says_so_and_runs_in_memory() {
    let output = Command::new("setpriv")
        .args(["--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all", "--"])
        .args([env!("CARGO_BIN_EXE_weir"), "demo", "--seconds", "1"])
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    assert!(said.starts_with("No AF_XDP here: "), "{said}");
    assert!(said.trim_end().ends_with("on the in-memory device, not AF_XDP."), "{said}");
}

#[test]
fn a_flood_is_counted_at_both_ends() {
    if !privileged() {
        return;
    }
    let bed = Bed::new(BedOptions::default()).unwrap();
    let config = "[device]\nkind = \"xsk\"\ninterface = \"weir0\"\nframes = 65536\n\
        fill_ring = 32768\nrx_ring = 32768\n\
        [[bind]]\nprefix = \"192.0.2.0/24\"\nprotocol = \"udp\"\n\
        [[bind]]\nprefix = \"2001:db8::/32\"\nprotocol = \"udp\"\n\
        [[socket]]\nname = \"sink\"\naddress = \"[::]:80\"\nservice = \"discard\"\n";
    let running = Running::start(&bed, config);
    let mut expected = 0;
    for (source, pattern) in [
        ("live-frames", "udp4"),
        ("live-frames", "udp6"),
        ("xsk", "udp4"),
        ("live-frames", "tcp4-syn"),
    ] {
        let output = bed
            .peer()
            .command(env!("CARGO_BIN_EXE_weir"))
            .args(["flood", "--interface", "peer0", "--count", "20000", "--rate", "50000"])
            .args(["--source", source, "--pattern", pattern, "--json"])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let outcome: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(outcome["sent"], 20_000, "{source} {pattern}");
        // What is not bound, as TCP, stays with the kernel.
        expected += if pattern.starts_with("udp") { 20_000 } else { 0 };
        std::thread::sleep(std::time::Duration::from_millis(200));
        let stats = running.stats();
        assert_eq!(stats.total.received + stats.ring_drops(), expected, "{source} {pattern}");
        assert_eq!(stats.total.delivered, stats.total.received);
        assert_eq!(stats.redirect.unwrap().redirected, expected);
    }
}

#[test]
fn a_flood_of_what_is_not_ours_is_refused() {
    let refused = weir(&["flood", "--interface", "lo"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(refused.stderr.contains("--i-own-this-network"), "{refused:?}");
    let nothing = weir(&["flood"]);
    assert!(nothing.stderr.contains("needs an interface"), "{nothing:?}");
}
