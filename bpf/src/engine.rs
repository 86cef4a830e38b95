//! Which engine runs a program, and what its runs cost.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use crate::fault::Fault;
use crate::helper::Host;
use crate::hook::sk_lookup::{Selection, SkLookupContext};
use crate::interp;
use crate::jit::run as native;
use crate::machine::Machine;
use crate::program::Program;

/// What runs programs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Engine {
    /// The interpreter, which checks every access as it happens.
    Interpreter,
    /// Machine code, where [`Program::compile`] has made it; else the interpreter.
    #[default]
    Jit,
}

/// Runs of a program while they were counted (`BPF_STATS_RUN_TIME`).
#[derive(Debug, Default)]
pub struct Statistics {
    runs: AtomicU64,
    nanoseconds: AtomicU64,
}

impl Statistics {
    /// How many runs began and ended.
    pub fn runs(&self) -> u64 {
        self.runs.load(Relaxed)
    }

    /// Their time, nanoseconds.
    pub fn nanoseconds(&self) -> u64 {
        self.nanoseconds.load(Relaxed)
    }
}

static COUNTS: AtomicBool = AtomicBool::new(false);

/// Counts and times the runs of all programs from now on, or no longer
/// (`kernel.bpf_stats_enabled`). Off at first, since reading the clock costs as much as a small run.
pub fn count_runs(counts: bool) {
    COUNTS.store(counts, Relaxed);
}

/// Runs a program to its exit; the value of r0.
pub(crate) fn run<H: Host>(
    program: &Program,
    context: &mut SkLookupContext,
    selection: &mut Selection,
    host: &mut H,
    machine: &mut Machine,
) -> Result<u64, Fault> {
    timed(program, || match (machine.engine, program.compiled.get()) {
        (Engine::Jit, Some(code)) => native::run(code, program, context, selection, host, machine),
        _ => interp::run(program, context, selection, host, machine),
    })
}

/// The same for a program without a hook.
pub(crate) fn run_bare<H: Host>(
    program: &Program,
    memory: &mut [u8],
    host: &mut H,
    machine: &mut Machine,
) -> Result<u64, Fault> {
    timed(program, || match (machine.engine, program.compiled.get()) {
        (Engine::Jit, Some(code)) => native::run_bare(code, program, memory, host, machine),
        _ => interp::run_bare(program, memory, host, machine),
    })
}

#[inline(always)]
fn timed<T>(program: &Program, run: impl FnOnce() -> T) -> T {
    if !COUNTS.load(Relaxed) {
        return run();
    }
    let began = Instant::now();
    let result = run();
    let statistics = &program.statistics;
    statistics.runs.fetch_add(1, Relaxed);
    statistics.nanoseconds.fetch_add(began.elapsed().as_nanos() as u64, Relaxed);
    result
}
