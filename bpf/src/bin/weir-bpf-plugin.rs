//! Runs one program for an outside suite that tests instructions: the plugin that bpf_conformance
//! asks for.
//!
//! `weir-bpf-plugin ["aa bb …"] [--interp | --jit]`: memory as hex bytes; the program as hex bytes
//! on standard input. Prints r0 in hexadecimal, or says on standard error why there is none.

use std::io::Read;
use std::process::ExitCode;

use weir_bpf::helper::HelperId;
use weir_bpf::insn::Insn;
use weir_bpf::{Engine, Host, Machine, Program, SocketFacts, SocketId, run_bare};

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    match run() {
        Ok(result) => {
            println!("{result:x}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<u64, Failure> {
    let mut engine = Engine::Jit;
    let mut memory = Vec::new();
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--interp" => engine = Engine::Interpreter,
            "--jit" => engine = Engine::Jit,
            option if option.starts_with("--") => return Err(format!("unknown {option}").into()),
            bytes => memory = hex(bytes)?,
        }
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    let code = hex(&text)?;
    let (slots, []) = code.as_chunks::<8>() else {
        return Err("the program is no multiple of eight bytes".into());
    };
    let program = Program::bare("plugin", slots.iter().copied().map(Insn::from_bytes).collect())?;
    if engine == Engine::Jit {
        // SAFETY: the suite's programs keep to their stack and memory and end, as the interpreter
        // shows; whoever gives others to this command answers for what they do.
        let proof = unsafe { program.assume_verified() };
        program.compile(&proof)?;
    }
    let mut machine = Machine::new().with_engine(engine);
    Ok(run_bare(&program, &mut memory, &mut Suite, &mut machine)?)
}

/// The helpers that the suite's programs call.
struct Suite;

impl Host for Suite {
    fn now_ns(&self) -> u64 {
        0
    }

    fn random(&mut self) -> u32 {
        0
    }

    fn cpu(&self) -> u32 {
        0
    }

    fn trace(&mut self, _: &str) {}

    fn socket(&self, _: SocketId) -> Option<SocketFacts> {
        None
    }

    fn call(&mut self, helper: HelperId, arguments: [u64; 5]) -> Option<u64> {
        // Number 5 returns its first argument.
        (helper == HelperId(5)).then_some(arguments[0])
    }
}

fn hex(text: &str) -> Result<Vec<u8>, Failure> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let (pairs, []) = digits.as_chunks::<2>() else {
        return Err("an odd number of hexadecimal digits".into());
    };
    pairs.iter().map(byte).collect()
}

fn byte(digits: &[u8; 2]) -> Result<u8, Failure> {
    Ok(u8::from_str_radix(std::str::from_utf8(digits)?, 16)?)
}
