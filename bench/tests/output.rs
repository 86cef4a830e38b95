//! What `weir-bench` prints as JSON, from short runs.

use std::process::Command;

use serde_json::Value;

fn json_of(arguments: &[&str]) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_weir-bench")).args(arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    let text = String::from_utf8(output.stdout).unwrap();
    serde_json::from_str(text.lines().last().expect("a line of JSON")).unwrap()
}

fn is_positive(value: &Value) -> bool {
    value.as_f64().is_some_and(|value| value > 0.0)
}

#[test]
fn packet_has_a_row_for_each_table_and_program() {
    let short = ["packet", "--rounds", "1", "--packets", "20000", "--sockets", "1,300", "--core"];
    let report = json_of(&[&short[..], &["0", "--json"]].concat());
    assert!(is_positive(&report["generator_ns"]));
    let rows = report["rows"].as_array().unwrap();
    let named: Vec<_> = (rows.iter())
        .filter(|row| row["verdicts"] != "kept, many hosts")
        .map(|row| (row["sockets"].as_u64().unwrap(), row["verdicts"].as_str().unwrap()))
        .collect();
    let wanted = [1, 300]
        .into_iter()
        .flat_map(|sockets| ["none", "each time", "kept, one host"].map(|how| (sockets, how)));
    assert_eq!(named, wanted.collect::<Vec<_>>());
    for row in rows {
        assert!(is_positive(&row["ns_per_packet"]) && is_positive(&row["ns_net"]), "{row}");
    }
}

/// Each run checks that every packet went the way that its figure is about.
#[test]
fn rx_measures_every_receiver() {
    if let Err(reason) = weir_lab::privileged() {
        eprintln!("skipped: {reason}");
        return;
    }
    for pattern in ["udp4", "udp6", "tcp4-syn", "tcp6-syn"] {
        let report =
            json_of(&["rx", "--pattern", pattern, "--rounds", "1", "--seconds", "0.1", "--json"]);
        assert_eq!(report["pattern"], pattern);
        assert_eq!(report["rounds"], 1);
        for key in ["xsk_ceiling_mpps", "weir_mpps", "kernel_mpps", "kernel_prog_mpps"] {
            assert!(is_positive(&report[key]), "{pattern}: {key}: {report}");
        }
        // Programs are not asked about segments until there is TCP: then no figure is made up.
        let is_udp = pattern.starts_with("udp");
        for key in [
            "weir_prog_mpps",
            "weir_prog_each_mpps",
            "weir_prog_over_kernel_prog",
            "weir_prog_over_ceiling",
        ] {
            assert_eq!(is_positive(&report[key]), is_udp, "{pattern}: {key}: {report}");
            assert_eq!(report[key].is_null(), !is_udp, "{pattern}: {key}: {report}");
        }
    }
}

#[test]
fn nonsense_is_refused() {
    for arguments in [
        &["rx", "--pattern", "sctp4"][..],
        &["rx", "--seconds", "0"],
        &["rx", "--rounds", "0"],
        &["packet", "--sockets", "0"],
    ] {
        let status = Command::new(env!("CARGO_BIN_EXE_weir-bench")).args(arguments).output();
        assert!(!status.unwrap().status.success(), "{arguments:?}");
    }
}
