//! The same random programs to this kernel and to Weir: the verdicts must be the same.

use weir_bpf::verifier::VerifyOptions;

use crate::case::Case;
use crate::kernel::{self, Maps};
use crate::random;

/// Programs in a plain `cargo test`; `WEIR_VERIFIER_PROGRAMS` asks for more.
const PROGRAMS: u64 = 6_000;

#[test]
fn random_programs_have_the_kernels_verdict() {
    if !kernel::is_there() {
        return;
    }
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse().ok());
    let programs: u64 = number("WEIR_VERIFIER_PROGRAMS").unwrap_or(PROGRAMS);
    let first: u64 = number("WEIR_VERIFIER_SEED").unwrap_or(1);
    let maps = Maps::new(&random::maps()).unwrap();
    let (mut accepted, mut refused) = (0, 0);
    let mut differ = Vec::new();
    for seed in first..first + programs {
        let case = random::program(seed, [30, 6, 1][(seed % 3) as usize]);
        let ours = case.verify(&VerifyOptions::default()).unwrap();
        let theirs = maps.verdict(&case, false);
        match (ours.is_ok(), theirs.is_ok()) {
            (true, true) => accepted += 1,
            (false, false) => refused += 1,
            _ => {
                let log = maps.verdict(&case, true).err().map_or(String::new(), |(_, log)| log);
                let said = log.lines().rev().nth(1).unwrap_or("accepts").to_owned();
                let said_by_us =
                    ours.err().map_or("accepts".to_owned(), |rejected| rejected.message);
                println!("{}: we: {said_by_us:?}, the kernel: {said:?}", case.name);
                differ.push(describe(&case, &log));
            }
        }
    }
    println!("{accepted} accepted, {refused} refused, {} verdicts differ", differ.len());
    for difference in differ.iter().take(4) {
        println!("{difference}");
    }
    assert!(differ.is_empty(), "{} verdicts differ from the kernel's", differ.len());
    assert!(accepted > programs / 5 && refused > programs / 20, "the programs test nothing");
}

/// Both logs' ends.
fn describe(case: &Case, theirs: &str) -> String {
    let options = VerifyOptions { log_level: 2, ..VerifyOptions::default() };
    let ours = match case.verify(&options).unwrap() {
        Ok(verified) => verified.log,
        Err(rejected) => rejected.log,
    };
    let tail = |text: &str, lines: usize| {
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    };
    format!("--- {}\n{}\n--- kernel\n{}", case.name, tail(&ours, 150), tail(theirs, 60))
}
