//! `weir verify`

use std::collections::HashMap;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use weir_bpf::object::Object;
use weir_bpf::verifier::VerifyOptions;
use weir_bpf::{LoadOptions, Program};
use weir_xsk::kernel;

use super::Global;
use super::format::count;
use super::table::Table;
use super::trouble::Trouble;
use crate::config::ObjectSource;
use crate::steering::read_object;

#[derive(Debug, Args)]
pub(super) struct Verify {
    /// The object, or `builtin:NAME`.
    #[arg(value_name = "FILE")]
    object: String,
    /// How much the log tells: 0 nothing, 1 the path that failed, 2 every path.
    #[arg(long, value_name = "LEVEL", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2))]
    log: u8,
    /// Load the object into the running kernel as well, and show its verdict beside ours.
    #[arg(long)]
    kernel: bool,
}

/// What was found of an object.
#[derive(Debug, Serialize)]
struct Verified {
    object: String,
    programs: Vec<Verdict>,
    /// The running kernel's, of the object as a whole.
    kernel: Option<KernelVerdict>,
}

/// What was found of a program.
#[derive(Debug, Serialize)]
struct Verdict {
    program: String,
    accepted: bool,
    /// Why not, in the kernel's words.
    refusal: Option<String>,
    instructions: usize,
    instructions_processed: u32,
    total_states: u32,
    stack_bytes: u32,
    microseconds: f64,
    log: String,
}

#[derive(Debug, Serialize)]
struct KernelVerdict {
    accepted: bool,
    /// What it said when it refused.
    refusal: Option<String>,
}

impl Verify {
    pub(super) fn run(self, global: &Global) -> Result<(), Trouble> {
        let source = match self.object.strip_prefix("builtin:") {
            Some(name) => ObjectSource::Builtin(name.to_owned()),
            None => ObjectSource::File(PathBuf::from(&self.object)),
        };
        let trouble = |error: String| Trouble::new(error, "build it with clang -O2 -g -target bpf");
        let bytes = read_object(&source).map_err(|error| trouble(error.to_string()))?;
        let object = Object::parse(&bytes).map_err(|error| trouble(error.to_string()))?;
        let options = LoadOptions { cpus: 1, reuse: HashMap::new() };
        let loaded = object.load(&options).map_err(|error| trouble(error.to_string()))?;
        let options = VerifyOptions { log_level: self.log, ..VerifyOptions::default() };
        let verified = Verified {
            object: source.to_string(),
            programs: loaded.programs.iter().map(|program| verdict(program, &options)).collect(),
            kernel: self.kernel.then(|| kernel_verdict(&bytes)),
        };
        global.show(&verified, Verified::text);
        let refused = verified.programs.iter().filter(|verdict| !verdict.accepted).count();
        if refused > 0 {
            let error = format!("{refused} of {} programs are not safe", verified.programs.len());
            return Err(Trouble::new(error, "`--log 1` shows the way to the instruction"));
        }
        Ok(())
    }
}

fn verdict(program: &Program, options: &VerifyOptions) -> Verdict {
    let mut verdict = Verdict {
        program: program.name().to_owned(),
        accepted: true,
        refusal: None,
        instructions: program.instructions(),
        instructions_processed: 0,
        total_states: 0,
        stack_bytes: 0,
        microseconds: 0.0,
        log: String::new(),
    };
    match program.verify(options) {
        Ok(proof) => {
            let Some(found) = proof.verified() else { return verdict };
            verdict.instructions_processed = found.statistics.instructions_processed;
            verdict.total_states = found.statistics.total_states;
            verdict.stack_bytes = found.stack_depth;
            verdict.microseconds = found.statistics.time_ns as f64 / 1e3;
            verdict.log.clone_from(&found.log);
        }
        Err(rejected) => {
            verdict.accepted = false;
            verdict.refusal = Some(rejected.to_string());
            verdict.log = rejected.log;
        }
    }
    verdict
}

fn kernel_verdict(bytes: &[u8]) -> KernelVerdict {
    match kernel::Object::load("verify", bytes) {
        Ok(_) => KernelVerdict { accepted: true, refusal: None },
        Err(error) => KernelVerdict { accepted: false, refusal: Some(error.to_string()) },
    }
}

impl Verified {
    fn text(&self) -> String {
        let mut table =
            Table::new(&["PROGRAM", "VERDICT", ">INSNS", ">PROCESSED", ">STATES", ">STACK", ">µs"]);
        for one in &self.programs {
            table.row([
                one.program.clone(),
                if one.accepted { "safe" } else { "refused" }.into(),
                count(one.instructions as u64),
                count(one.instructions_processed.into()),
                count(one.total_states.into()),
                count(one.stack_bytes.into()),
                format!("{:.1}", one.microseconds),
            ]);
        }
        let mut text = table.render();
        for one in &self.programs {
            if let Some(refusal) = &one.refusal {
                text.push_str(&format!("\n{}: {refusal}", one.program));
            }
            if !one.log.is_empty() {
                text.push_str(&format!("\n{}:\n{}", one.program, one.log));
            }
        }
        match &self.kernel {
            None => {}
            Some(KernelVerdict { refusal: Some(refusal), .. }) => {
                text.push_str(&format!("\nthis kernel: refused: {refusal}"));
            }
            Some(_) => text.push_str("\nthis kernel: accepted"),
        }
        text
    }
}
