//! A host in memory: sockets with facts, texts kept, one worker.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::collections::BTreeMap;
use std::sync::Arc;

use weir_bpf::helper::HelperId;
use weir_bpf::insn::Insn;
use weir_bpf::{
    Engine, Host, LoadError, LoadOptions, Machine, Object, Program, ProgramResult, ProgramSpec,
    SkLookupContext, SkLookupOutcome, SocketFacts, SocketId, run_sk_lookup,
};

#[derive(Default)]
pub struct World {
    pub sockets: BTreeMap<SocketId, SocketFacts>,
    pub texts: Vec<String>,
    pub cpu: u32,
}

impl Host for World {
    fn now_ns(&self) -> u64 {
        12_345
    }

    fn random(&mut self) -> u32 {
        4
    }

    fn cpu(&self) -> u32 {
        self.cpu
    }

    fn trace(&mut self, text: &str) {
        self.texts.push(text.to_owned());
    }

    fn socket(&self, socket: SocketId) -> Option<SocketFacts> {
        self.sockets.get(&socket).copied()
    }

    /// Numbers 5 to 8, for programs without a hook.
    fn call(&mut self, helper: HelperId, arguments: [u64; 5]) -> Option<u64> {
        let [a, b, c, d, e] = arguments;
        let all = [a, b ^ c, d.wrapping_sub(e), a.wrapping_mul(e) ^ c];
        all.get(helper.0.checked_sub(5)? as usize).copied()
    }
}

/// An unconnected UDP socket, IPv4.
pub fn udp4() -> SocketFacts {
    SocketFacts { family: 2, kind: 2, protocol: 17, state: 7, ..SocketFacts::default() }
}

pub fn v4(local: &str) -> SkLookupContext {
    SkLookupContext::v4(17, "192.0.2.9:4321".parse().unwrap(), local.parse().unwrap(), 3)
}

pub fn v6(local: &str) -> SkLookupContext {
    SkLookupContext::v6(17, "[2001:db8::9]:4321".parse().unwrap(), local.parse().unwrap(), 3)
}

/// Runs programs once, and gives each one's result.
pub fn run(
    programs: &[Arc<Program>],
    context: &SkLookupContext,
    world: &mut World,
) -> (SkLookupOutcome, Vec<ProgramResult>) {
    let mut results = Vec::new();
    let mut machine = Machine::with_budget(100_000);
    let mut each = |_, result| results.push(result);
    let outcome = run_sk_lookup(programs, &mut context.clone(), world, &mut machine, &mut each);
    (outcome, results)
}

/// A program without maps, written as slots of eight bytes (little-endian words).
pub fn raw(insns: Vec<Insn>) -> Result<Arc<Program>, LoadError> {
    let spec = ProgramSpec {
        name: "raw".to_owned(),
        section: "sk_lookup".to_owned(),
        insns,
        ..ProgramSpec::default()
    };
    let object = Object { license: "GPL".to_owned(), programs: vec![spec], ..Object::default() };
    Ok(Arc::clone(&object.load(&LoadOptions::default())?.programs[0]))
}

pub fn insn(opcode: u8, dst: u8, src: u8, offset: i16, imm: i32) -> Insn {
    Insn { opcode, dst, src, offset, imm }
}

/// Both engines.
pub fn engines() -> [Engine; 2] {
    [Engine::Interpreter, Engine::Jit]
}
