//! How a program misbehaved.

use std::fmt;

/// A program misbehaved and was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The instruction, counted in 8-byte slots from the program's start as it was linked.
    pub pc: u32,
    /// What it did.
    pub kind: FaultKind,
}

/// What a program did that it must not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FaultKind {
    /// Read outside of what it may read: address and size in bytes.
    Read(u64, u8),
    /// Wrote outside of what it may write: address and size in bytes.
    Write(u64, u8),
    /// Ran more instructions than the budget.
    Budget,
    /// Called deeper than eight frames.
    CallDepth,
    /// A helper's argument (counted from 1) is not what its prototype asks for.
    Argument(u32, u8),
    /// Held more sockets at once than the run's table has room for.
    Sockets,
    /// Released a socket that it does not hold.
    Release,
    /// Returned while it held a socket.
    Unreleased,
    /// Returned a value that the hook does not allow.
    Return(u64),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "insn {}: ", self.pc)?;
        match self.kind {
            FaultKind::Read(address, size) => write!(f, "invalid read of {size} at {address:#x}"),
            FaultKind::Write(address, size) => write!(f, "invalid write of {size} at {address:#x}"),
            FaultKind::Budget => write!(f, "instruction budget is used up"),
            FaultKind::CallDepth => write!(f, "the call stack of 8 frames is too deep"),
            FaultKind::Argument(helper, argument) => {
                let name = crate::helper::HelperId(helper).name();
                write!(f, "invalid argument {argument} of bpf_{name}")
            }
            FaultKind::Sockets => write!(f, "too many sockets held at once"),
            FaultKind::Release => write!(f, "release of a socket that is not held"),
            FaultKind::Unreleased => write!(f, "unreleased reference to a socket"),
            FaultKind::Return(value) => write!(f, "return value {value} is not in [0, 1]"),
        }
    }
}

impl std::error::Error for Fault {}
