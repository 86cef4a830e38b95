//! Verification against the kernel's whole load of the same plain instructions, one after the other
//! in turns. Wants `--release`.

use std::time::{Duration, Instant};

use weir_bpf::insn::Insn;
use weir_bpf::verifier::VerifyOptions;

use crate::case::Case;
use crate::kernel::{self, Maps};

/// Straight lines of arithmetic with a branch in every eight.
fn plain(length: usize) -> Case {
    let insn = |opcode, dst, src, offset, imm| Insn { opcode, dst, src, offset, imm };
    let mut insns = vec![insn(0x85, 0, 0, 0, 7), insn(0xbf, 7, 0, 0, 0), insn(0xb7, 8, 0, 0, 3)];
    while insns.len() < length - 2 {
        let at = insns.len() as i32;
        insns.push(match at % 8 {
            0 => insn(0x0f, 8, 7, 0, 0),
            1 => insn(0x57, 8, 0, 0, 0xffff),
            2 => insn(0x25, 8, 0, 1, at),
            3 => insn(0x07, 8, 0, 0, 7),
            4 => insn(0xaf, 7, 8, 0, 0),
            5 => insn(0x67, 8, 0, 0, 3),
            6 => insn(0x27, 7, 0, 0, 31),
            _ => insn(0x04, 8, 0, 0, 1),
        });
    }
    insns.push(insn(0xb7, 0, 0, 0, 0));
    insns.push(insn(0x95, 0, 0, 0, 0));
    Case { name: "plain".to_owned(), program_type: 1, gpl: true, insns, ..Case::default() }
}

#[test]
#[ignore = "takes time; wants --release"]
fn verification_beside_the_kernels_load() {
    if !kernel::is_there() {
        return;
    }
    let maps = Maps::new(&[]).unwrap();
    let options = VerifyOptions::default();
    for length in [100, 400, 2_000, 10_000] {
        let case = plain(length);
        let (mut ours, mut theirs) = (Duration::MAX, Duration::MAX);
        for _ in 0..20 {
            let start = Instant::now();
            let verified = case.verify(&options).unwrap().unwrap();
            ours = ours.min(start.elapsed());
            assert!(verified.statistics.instructions_processed as usize >= length - 1);
            let start = Instant::now();
            maps.verdict(&case, false).unwrap();
            theirs = theirs.min(start.elapsed());
        }
        let ratio = ours.as_secs_f64() / theirs.as_secs_f64();
        println!(
            "{length} instructions: {ours:?} to verify, the kernel loads in {theirs:?}: {ratio:.2}"
        );
    }
}
