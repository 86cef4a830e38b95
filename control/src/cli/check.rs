//! `weir check`

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::Global;
use super::trouble::Trouble;
use crate::config::Config;
use crate::staging;

#[derive(Debug, Args)]
pub(super) struct Check {
    /// The configuration file.
    #[arg(value_name = "FILE")]
    config: PathBuf,
}

/// What a good file holds.
#[derive(Debug, Serialize)]
struct Checked {
    config: String,
    bindings: usize,
    sockets: usize,
    programs: usize,
}

impl Check {
    pub(super) fn run(self, global: &Global) -> Result<(), Trouble> {
        let config = Config::read(&self.config)?;
        staging::rehearse(&config)?;
        let checked = Checked {
            config: self.config.display().to_string(),
            bindings: config.bindings.len(),
            sockets: config.sockets.len(),
            programs: config.programs.len(),
        };
        global.show(&checked, |c| {
            format!(
                "{}: good: {} bindings, {} sockets, {} programs",
                c.config, c.bindings, c.sockets, c.programs
            )
        });
        Ok(())
    }
}
