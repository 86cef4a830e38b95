//! The verifier: proves, by walking every path, that a program reads and writes only what it may,
//! ends, and gives back what it took.
//!
//! It follows the kernel's (kernel/bpf/verifier.c) in what it accepts, for a privileged loader,
//! and in its words. Where paths meet again, a checkpoint that was found safe stands for states
//! that allow no more than it did; what mattered of it is found backwards ([`precision`]).
//!
//! ```text
//! Unverified → shape (cfg) → every path (walk: alu, branch, memory, call) → Verified
//! ```

mod alu;
mod argument;
mod bounds;
mod branch;
mod call;
mod cfg;
mod compare;
mod dynptr;
mod function;
mod log;
mod maps;
mod memory;
mod precision;
mod program;
pub mod prototype;
mod prune;
mod refusal;
mod register;
mod returns;
pub mod rules;
mod scalar;
mod stack;
mod state;
mod text;
mod tnum;
mod walk;

use std::time::Instant;

use crate::insn::Insn;
use cfg::Graph;
use log::Log;
pub use program::{
    Access, Finding, Function, FunctionArgument, FunctionFacts, Line, MapFacts, Rejected,
    Statistics, Unverified, Verified, VerifyOptions,
};
use refusal::{Refusal, Step, refuse};
use register::{Kind, Register};
use walk::Walk;

/// The most instructions of a program (`BPF_COMPLEXITY_LIMIT_INSNS`).
const MAX_INSNS: usize = 1_000_000;

/// Verifies a program with all its functions.
///
/// # Errors
/// The first thing that is not safe, in the kernel's words, with its errno.
pub fn verify(program: &Unverified<'_>, options: &VerifyOptions) -> Result<Verified, Rejected> {
    let start = Instant::now();
    let mut log = Log::new(options.log_level);
    let early = |refusal: Box<Refusal>, log: Log| rejected(*refusal, 0, log, Statistics::default());
    let graph = match prepare(program) {
        Ok(graph) => graph,
        Err(refusal) => return Err(early(refusal, log)),
    };
    for (i, found) in graph.subprograms.iter().enumerate() {
        log.push(&format!("func#{i} @{}\n", found.start));
    }
    let mut walk = Walk::new(program, options, graph, log);
    let done = walk_all(&mut walk);
    walk.statistics.time_ns = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
    let (log, statistics) = (std::mem::take(&mut walk.log), walk.statistics);
    match done {
        Ok(stack_depth) => Ok(verified(walk, stack_depth, log.finish(None, &statistics))),
        Err(refusal) => Err(rejected(*refusal, walk.insn as usize, log, statistics)),
    }
}

fn verified(walk: Walk<'_>, stack_depth: u32, log: String) -> Verified {
    let functions = walk.graph.subprograms.iter().zip(&walk.stack_depths);
    let functions = functions.map(|(subprogram, depth)| FunctionFacts {
        start: subprogram.start,
        end: subprogram.end,
        stack_depth: *depth,
        has_tail_call: subprogram.has_tail_call,
    });
    Verified {
        functions: functions.collect(),
        stack_depth,
        statistics: walk.statistics,
        log,
        findings: walk.findings,
    }
}

fn rejected(refusal: Refusal, insn: usize, log: Log, statistics: Statistics) -> Rejected {
    Rejected {
        errno: refusal.errno,
        instruction: insn,
        log: log.finish(Some(&refusal.message), &statistics),
        message: refusal.message,
    }
}

/// What can be said before any path is walked.
fn prepare(program: &Unverified<'_>) -> Step<Graph> {
    let insns = program.insns;
    if insns.is_empty() || insns.len() > MAX_INSNS {
        refuse!(E2BIG, "{} instructions; 1 to {MAX_INSNS} are allowed", insns.len());
    }
    let mut graph = Graph::of(program)?;
    check_functions(program, &graph)?;
    let mut at = 0;
    while at < insns.len() {
        check_encoding(insns[at])?;
        if insns[at].is_ld_imm64() {
            function::check_wide_load(insns, at, program.maps)?;
            at += 1;
        }
        at += 1;
    }
    for facts in program.maps {
        if (facts.spin_lock.is_some() || facts.timer.is_some()) && !program.rules.spin_locks {
            refuse!(EINVAL, "socket filter progs cannot use bpf_spin_lock yet");
        }
    }
    graph.explore(insns)?;
    Ok(graph)
}

/// Types of functions, where there are any, must be of the functions that there are.
fn check_functions(program: &Unverified<'_>, graph: &Graph) -> Step {
    if program.functions.is_empty() {
        let lone = |found: &cfg::Subprogram| found.has_legacy_load || found.has_tail_call;
        if graph.subprograms.len() > 1 && graph.subprograms.iter().skip(1).any(lone) {
            let legacy = graph.subprograms.iter().any(|found| found.has_legacy_load);
            if legacy {
                refuse!(EINVAL, "LD_ABS is not allowed in subprogs without BTF");
            }
            refuse!(EINVAL, "tail_call is not allowed in subprogs without BTF");
        }
        return Ok(());
    }
    if program.functions.len() != graph.subprograms.len() {
        refuse!(EINVAL, "number of funcs in func_info doesn't match number of subprogs");
    }
    let starts = program.functions.iter().map(|function| function.start);
    if !starts.eq(graph.subprograms.iter().map(|found| found.start)) {
        refuse!(EINVAL, "func_info BTF section doesn't match subprog layout in BPF program");
    }
    for (function, found) in program.functions.iter().zip(&graph.subprograms).skip(1) {
        // Both may end the function with a number.
        if function.returns_void && found.has_legacy_load {
            refuse!(EINVAL, "LD_ABS is only allowed in functions that return 'int'.");
        }
        if function.returns_void && found.has_tail_call {
            refuse!(EINVAL, "tail_call is only allowed in functions that return 'int'.");
        }
    }
    Ok(())
}

/// Is the opcode one that there is (`bpf_opcode_in_insntable`)?
fn check_encoding(insn: Insn) -> Step {
    let opcode = insn.opcode;
    let (class, size, mode, op) = (opcode & 7, opcode >> 3 & 3, opcode >> 5, opcode >> 4);
    if class == 1 && (!matches!(mode, 3 | 4) || insn.imm != 0) {
        refuse!(EINVAL, "BPF_LDX uses reserved fields");
    }
    let register = opcode & 8 != 0;
    let known = match class {
        0 => opcode == 0x18 || (matches!(mode, 1 | 2) && size != 3),
        1 => mode == 3 || (mode == 4 && size != 3),
        2 => mode == 3,
        3 => mode == 3 || mode == 6,
        4 | 7 => match op {
            0x8 => !register,
            0xd => class == 4 || !register,
            0xe.. => false,
            _ => true,
        },
        5 if op == 0xe => !register,
        _ => match op {
            0x0 => !register,
            0x8 | 0x9 => class == 5 && !register,
            0xe.. => false,
            _ => true,
        },
    };
    if !known {
        refuse!(EINVAL, "unknown opcode {opcode:02x}");
    }
    Ok(())
}

/// The program, then the global functions that are called, and what they take of the stack.
fn walk_all(walk: &mut Walk<'_>) -> Step<u32> {
    walk.run(0, |frame| frame.registers[1] = Register::pointer(Kind::Context))?;
    let mut verified = vec![false; walk.called.len()];
    while let Some(next) = (0..verified.len()).find(|i| walk.called[*i] && !verified[*i]) {
        verified[next] = true;
        let start = walk.graph.subprograms[next].start;
        let functions = walk.program.functions;
        let Some(function) = functions.iter().find(|function| function.start == start) else {
            continue;
        };
        walk.log.push(&format!("Validating {}() func#{next}...\n", function.name));
        let mut last = 1 << 24;
        walk.run(next, |frame| {
            Walk::prepare_global(&function.arguments, frame, || {
                last += 1;
                last
            });
        })?;
        walk.log.push(&format!(
            "Func#{next} ('{}') is safe for any args that match its prototype\n",
            function.name
        ));
    }
    walk.check_stack_depth()
}
