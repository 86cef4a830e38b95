//! Verdicts that a kernel gave and that were recorded: its own selftests, from outside of this
//! repository. `WEIR_VERIFIER_CASES` names the files, separated by colons.

use std::collections::BTreeMap;

use weir_bpf::verifier::VerifyOptions;
use weir_bpf::verifier::rules::Rules;

use crate::case::{self, Case};

/// What is out of scope, by the kernel's or our own message.
const OUT_OF_SCOPE: &[&str] = &["kernel btf_id", "arena", "kfunc", "kptr"];

#[test]
#[ignore = "wants recorded cases: WEIR_VERIFIER_CASES"]
fn recorded_verdicts() {
    let Ok(files) = std::env::var("WEIR_VERIFIER_CASES") else {
        println!("skipped: WEIR_VERIFIER_CASES is not set");
        return;
    };
    let mut by_name: BTreeMap<String, Case> = BTreeMap::new();
    for file in files.split(':') {
        for case in case::parse(&std::fs::read_to_string(file).unwrap()) {
            by_name.insert(case.name.clone(), case);
        }
    }
    let wanted = std::env::var("WEIR_VERIFIER_CASE").unwrap_or_default();
    let (mut agree, mut phrase, mut refused, mut skipped) = (0, 0, 0, 0);
    let mut unsafe_accepts = Vec::new();
    let mut over_refusals = Vec::new();
    for case in by_name.values().filter(|case| case.name.contains(&wanted)) {
        if case.odd
            || case.verdict == 28
            || Rules::of_type(case.program_type).is_none()
            || case.insns.is_empty()
        {
            skipped += 1;
            continue;
        }
        let level = if wanted.is_empty() { 0 } else { 2 };
        let options = VerifyOptions { log_level: level, ..VerifyOptions::default() };
        let Some(verdict) = case.verify(&options) else { continue };
        let ours =
            verdict.as_ref().err().map_or(String::new(), |rejected| rejected.message.clone());
        if level > 0 {
            match &verdict {
                Ok(verified) => println!("{}", verified.log),
                Err(rejected) => println!("{}", rejected.log),
            }
        }
        if OUT_OF_SCOPE.iter().any(|text| ours.contains(text) || case.message.contains(text)) {
            skipped += 1;
            continue;
        }
        match (verdict.is_ok(), case.verdict == 0) {
            (true, true) => agree += 1,
            (false, false) => {
                agree += 1;
                refused += 1;
                let last = ours.lines().last().unwrap_or("");
                let same = last == case.message || case.message.contains(last);
                phrase += usize::from(same);
                if !same && std::env::var("WEIR_VERIFIER_PHRASES").is_ok() {
                    println!("PHRASE {}: {last:?} / kernel {:?}", case.name, case.message);
                }
            }
            (true, false) => {
                unsafe_accepts.push(format!("{}: kernel: {}", case.name, case.message))
            }
            (false, true) => over_refusals.push(format!("{}: {ours}", case.name)),
        }
    }
    for line in &unsafe_accepts {
        println!("ACCEPTS {line}");
    }
    for line in &over_refusals {
        println!("REFUSES {line}");
    }
    let all = agree + unsafe_accepts.len() + over_refusals.len();
    println!(
        "{agree} of {all} agree ({:.2} %), {skipped} skipped; {phrase} of {refused} refusals say the same",
        agree as f64 * 100.0 / all.max(1) as f64
    );
}
