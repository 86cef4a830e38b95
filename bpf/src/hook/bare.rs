//! Programs without a hook: r1 is some memory, r2 its length, and the helpers are the host's own.
//!
//! For those who use the engine alone, and for suites that test instructions.

use super::{Hook, ProgramType, Returns};
use crate::engine;
use crate::fault::Fault;
use crate::helper::Host;
use crate::machine::Machine;
use crate::program::Program;

/// The hook that is none.
pub static HOOK: Hook = Hook {
    program_type: ProgramType::Bare,
    attach_types: &[],
    sections: &[],
    context_size: 0,
    context: &[],
    helpers: &[],
    returns: Returns { low: 0, high: u64::MAX },
};

/// Runs a program on some memory, which it may read and write; the value of r0.
///
/// # Errors
/// What the program did that it must not.
///
/// # Panics
/// If the program has a hook.
pub fn run_bare<H: Host>(
    program: &Program,
    memory: &mut [u8],
    host: &mut H,
    machine: &mut Machine,
) -> Result<u64, Fault> {
    assert_eq!(program.hook().program_type, ProgramType::Bare, "a program without a hook");
    machine.forget_inputs();
    engine::run_bare(program, memory, host, machine)
}
