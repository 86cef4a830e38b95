//! `weir verify`: what is safe is said to be, by Weir and by this kernel; what is not, with the
//! instruction and the kernel's words.

mod support;

use std::process::Command;

use support::{Folder, privileged, weir};

#[test]
fn our_own_steering_is_safe_here_and_there() {
    let kernel: &[&str] = if privileged() { &["--kernel"] } else { &[] };
    let said = weir(&[&["verify", "builtin:steer", "--json"], kernel].concat());
    assert!(said.status.success(), "{said:?}");
    let said: serde_json::Value = serde_json::from_str(&said.stdout.concat()).unwrap();
    assert_eq!(said["programs"][0]["accepted"], true);
    assert!(said["programs"][0]["instructions_processed"].as_u64().unwrap() > 20);
    if !kernel.is_empty() {
        assert_eq!(said["kernel"]["accepted"], true);
    }
    let table = weir(&["verify", "builtin:lookup_assign", "--log", "2"]);
    let table = table.stdout.join("\n");
    assert!(table.contains("reads_context") && table.contains("safe"), "{table}");
    assert!(table.contains("R1=ctx()"), "the log follows: {table}");
}

#[test]
fn what_is_not_safe_is_refused_here_and_there() {
    let folder = Folder::new();
    let (source, object) = (folder.path("bad.bpf.c"), folder.path("bad.bpf.o"));
    let program = r#"
        #include <linux/bpf.h>
        #include <bpf/bpf_helpers.h>
        SEC("sk_lookup") int bad(struct bpf_sk_lookup *ctx)
        {
            int *nowhere = (int *)(long)ctx->local_port;
            return *nowhere;
        }
        char LICENSE[] SEC("license") = "Dual MIT/GPL";
    "#;
    std::fs::write(&source, program).unwrap();
    let include = format!("-I/usr/include/{}-linux-gnu", std::env::consts::ARCH);
    let built = Command::new("clang")
        .args(["-O2", "-g", "-target", "bpf", &include, "-c", "-o"])
        .arg(&object)
        .arg(&source)
        .status()
        .unwrap();
    assert!(built.success());
    let object = object.to_str().unwrap();
    let kernel: &[&str] = if privileged() { &["--kernel"] } else { &[] };
    let said = weir(&[&["verify", object, "--json", "--log", "1"], kernel].concat());
    assert_eq!(said.status.code(), Some(1));
    let json: serde_json::Value = serde_json::from_str(&said.stdout.concat()).unwrap();
    let words = "R1 invalid mem access 'scalar'";
    assert!(json["programs"][0]["refusal"].as_str().unwrap().contains(words), "{json}");
    assert!(json["programs"][0]["log"].as_str().unwrap().contains(words), "{json}");
    if !kernel.is_empty() {
        assert_eq!(json["kernel"]["accepted"], false);
        assert!(json["kernel"]["refusal"].as_str().unwrap().contains(words), "{json}");
    }
    assert!(said.stderr.contains("1 of 1 programs are not safe"), "{}", said.stderr);
}
