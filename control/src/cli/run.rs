//! `weir run`

use std::path::PathBuf;

use clap::Args;
use tracing_subscriber::EnvFilter;

use super::trouble::Trouble;
use crate::daemon;

#[derive(Debug, Args)]
pub(super) struct Run {
    /// The configuration file.
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
}

impl Run {
    pub(super) fn run(self) -> Result<(), Trouble> {
        let filter = EnvFilter::try_from_env("WEIR_LOG").unwrap_or_else(|_| "info".into());
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .with_target(false)
            .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
            .init();
        let ending = daemon::run(&self.config)?;
        super::print(&ending.to_string());
        Ok(())
    }
}
