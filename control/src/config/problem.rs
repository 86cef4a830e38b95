//! What is wrong with a configuration: where, why, and what to do about it.

use std::fmt;
use std::path::{Path, PathBuf};

/// One mistake of the operator's, or of the machine that the file is meant for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The configuration file.
    pub file: PathBuf,
    /// Its line, from 1, where the mistake can be placed.
    pub line: Option<usize>,
    /// What is wrong.
    pub reason: String,
    /// What to do.
    pub help: String,
}

impl Problem {
    /// A problem of the whole file.
    pub fn new(file: &Path, reason: impl Into<String>, help: impl Into<String>) -> Problem {
        Problem { file: file.into(), line: None, reason: reason.into(), help: help.into() }
    }

    /// The same, placed.
    pub fn at(self, line: usize) -> Problem {
        Problem { line: Some(line), ..self }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}", self.reason)
    }
}

/// Everything that is wrong with a configuration; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, problem) in self.0.iter().enumerate() {
            if place > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Problems {
        Problems(vec![problem])
    }
}
