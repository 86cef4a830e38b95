//! BPF programs in user space: the kernel's objects, maps, helpers and hooks, run as the kernel
//! runs them.
//!
//! ```text
//! bytes of an ELF object → Object::parse → Object::load → Program, Map
//!     → Program::verify → Proof → Program::compile → run_sk_lookup
//! ```
//!
//! The crate knows no packet, no socket and no operating system. What a program may ask of the
//! world goes through [`Host`]. Names, numbers and errors are those of the kernel's
//! `include/uapi/linux/bpf.h`; where Weir differs, `DIFFERENCES.md` says why.
//!
//! Compiled code ([`jit`]) checks nothing and wants the [`verifier`]'s proof. The interpreter checks
//! every access as it happens, and is the meaning: a program that misbehaves ends in a [`Fault`].

#[cfg(target_endian = "big")]
compile_error!("registers and maps are little-endian here, as the objects that clang builds");

mod atomic;
pub mod btf;
mod code;
pub mod engine;
mod errno;
mod fault;
pub mod helper;
pub mod hook;
mod inputs;
pub mod insn;
mod interp;
pub mod jit;
mod machine;
mod map;
mod memory;
pub mod object;
mod program;
mod sockets;
pub mod verifier;

pub use crossbeam_epoch as epoch;
pub use engine::Engine;
pub use errno::Errno;
pub use fault::{Fault, FaultKind};
pub use helper::{Host, SocketFacts, SocketId};
pub use hook::bare::run_bare;
pub use hook::sk_lookup::{
    ProgramResult, SkLookupContext, SkLookupOutcome, Verdict, run_sk_lookup,
};
pub use inputs::Inputs;
pub use machine::Machine;
pub use map::{
    ArrayLayout, Batch, FORCE_WAKEUP, Lookup, Map, MapSpec, MapType, NO_WAKEUP, Record, Ring, flags,
};
pub use object::{Object, ObjectError, ProgramSpec};
pub use program::{LoadError, LoadOptions, Loaded, Program};
