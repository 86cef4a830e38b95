//! All programs of an object: verified, then compiled.

use super::JitError;
use crate::program::Loaded;
use crate::verifier::{Rejected, VerifyOptions};

/// Why an object's programs do not run as machine code.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompileError {
    /// A program is not safe.
    #[error("program {program}: {rejected}")]
    Rejected {
        /// Its name.
        program: String,
        /// Why, with the verifier's log.
        rejected: Box<Rejected>,
    },
    /// A program could not be compiled.
    #[error("program {program}: {error}")]
    Jit {
        /// Its name.
        program: String,
        /// Why.
        error: JitError,
    },
}

impl Loaded {
    /// Verifies and compiles every program, off the packet path.
    ///
    /// # Errors
    /// The first program that is not safe, or could not be compiled. Those before it are compiled;
    /// the interpreter still runs the others, with every access checked.
    pub fn compile(&self, options: &VerifyOptions) -> Result<(), CompileError> {
        for program in &self.programs {
            let name = || program.name().to_owned();
            let proof = program.verify(options).map_err(|rejected| CompileError::Rejected {
                program: name(),
                rejected: Box::new(rejected),
            })?;
            program
                .compile(&proof)
                .map_err(|error| CompileError::Jit { program: name(), error })?;
        }
        Ok(())
    }
}
