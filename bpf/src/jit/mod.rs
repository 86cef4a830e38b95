//! The compiler: verified programs become machine code, by Cranelift.
//!
//! Compiled code uses plain pointers and checks nothing. What it may do is what a [`Proof`] says
//! that its program does: so that the interpreter, with every access checked, stays the meaning,
//! and this only a faster way to it. r0–r9 live in registers, the stack in the
//! [`crate::Machine`], values of maps where they are (they never move), sockets in blocks laid out
//! as `struct bpf_sock`, and the context is the structure itself.
//!
//! Of the helpers, lookups in arrays are code; those in other maps, time and sockets are called
//! directly; what is left goes through the interpreter's helpers, with pointers turned into theirs
//! and back.

mod alu;
mod call;
mod compile;
mod exec;
mod facts;
mod function;
mod key;
mod load;
mod pointers;
mod proof;
mod reads;
pub(crate) mod run;

pub use compile::{Target, compile_for};
pub use load::CompileError;
pub(crate) use pointers::tagged;
pub use proof::Proof;

use std::io;
use std::sync::Arc;

use crate::map::Map;
use compile::Image;
use exec::Pages;
use facts::Facts;

/// Why a program was not compiled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JitError {
    /// There is no code generator for this processor.
    #[error("no code can be made for this processor: {0}")]
    Processor(String),
    /// The code generator gave up.
    #[error("instructions {start} to {end}: {reason}")]
    Code {
        /// The function's first instruction.
        start: usize,
        /// Behind its last instruction.
        end: usize,
        /// Why, in the generator's words.
        reason: String,
    },
    /// No executable memory could be had.
    #[error("executable memory: {0}")]
    Memory(#[from] io::Error),
}

/// A compiled program.
pub(crate) struct Compiled {
    pages: Pages,
    entry: usize,
    length: usize,
    facts: Facts,
    /// Whose values the code names by their addresses.
    _maps: Vec<Arc<Map>>,
}

impl Compiled {
    pub(crate) fn of(proof: &Proof<'_>) -> Result<Compiled, JitError> {
        let facts = Facts::of(proof);
        let Image { code, entry } = compile::compile(proof, &facts, Target::Host)?;
        let pages = Pages::load(&code)?;
        facts.tell_maps(proof.program());
        let maps = proof.program().maps.clone();
        Ok(Compiled { pages, entry, length: code.len(), facts, _maps: maps })
    }

    /// The machine code.
    pub(crate) fn code(&self) -> &[u8] {
        &self.pages.bytes()[..self.length]
    }
}
