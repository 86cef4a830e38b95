//! `weir demo`

use clap::Args;

use super::Global;
use super::format::{count, rate};
use super::table::Table;
use super::trouble::Trouble;
use crate::demo::{self, Verdict};

/// Names the flood's length for `make demo`.
const SECONDS: &str = "DEMO_SECONDS";

#[derive(Debug, Args)]
pub(super) struct Demo {
    /// Seconds of flood [default: the variable DEMO_SECONDS, or 10].
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: Option<u64>,
}

impl Demo {
    pub(super) fn run(self, global: &Global) -> Result<(), Trouble> {
        let seconds = match self.seconds {
            Some(seconds) => seconds,
            None => from_environment()?,
        };
        let json = global.json;
        // With --json the standard output is for the verdict alone.
        let say = |text: &str| if json { eprintln!("{text}") } else { super::print(text) };
        let verdict = demo::run(seconds, &say)?;
        global.show(&verdict, render);
        match verdict.success {
            true => Ok(()),
            false => Err(Trouble::new("not everything was right", "see what is marked WRONG")),
        }
    }
}

fn from_environment() -> Result<u64, Trouble> {
    let Ok(text) = std::env::var(SECONDS) else { return Ok(10) };
    text.parse().ok().filter(|seconds| (1..=3600).contains(seconds)).ok_or_else(|| {
        Trouble::new(format!("{SECONDS} is `{text}`"), "give a number of seconds, 1 to 3600")
    })
}

fn render(verdict: &Verdict) -> String {
    let mut table = Table::new(&["SUMMARY", ">FOUND", ""]);
    let mark = |right: bool| if right { "right" } else { "WRONG" }.to_owned();
    let right = verdict.probes.iter().filter(|probe| probe.right).count();
    table.row([
        "datagrams that the right socket answered".into(),
        format!("{right} of {}", verdict.probes.len()),
        mark(right == verdict.probes.len()),
    ]);
    let flood = &verdict.flood;
    table.row(["flood: sent".into(), count(flood.sent), String::new()]);
    table.row(["flood: received by Weir".into(), count(flood.received), String::new()]);
    table.row(["flood: received a second".into(), rate(flood.received_per_second), String::new()]);
    for check in &verdict.checks {
        table.row([check.what.clone(), check.found.clone(), mark(check.right)]);
    }
    let device = if verdict.af_xdp { "AF_XDP" } else { "the in-memory device, not AF_XDP" };
    let end = if verdict.success { "All of it was right" } else { "Something was WRONG" };
    format!("{}\n{end}, on {device}.", table.render())
}
