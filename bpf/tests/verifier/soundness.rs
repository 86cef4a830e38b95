//! What the verifier accepts never misbehaves: random programs that it took, run in the interpreter,
//! which checks every access, on data that they cannot foresee.

use std::sync::Arc;

use weir_bpf::insn::PSEUDO_MAP;
use weir_bpf::object::MapReference;
use weir_bpf::verifier::VerifyOptions;
use weir_bpf::{
    FaultKind, Host, LoadOptions, Machine, MapSpec, MapType, Object, Program, ProgramResult,
    ProgramSpec, SkLookupContext, SocketFacts, SocketId, flags, run_sk_lookup,
};

use crate::case::Case;
use crate::random::{self, Random};

/// Accepted programs in a plain `cargo test`; `WEIR_VERIFIER_ACCEPTED` asks for more.
const ACCEPTED: u64 = 20_000;
/// Instructions of a program that is worth running; longer ones are counted, not run.
const BUDGET: u32 = 50_000;
const SK_LOOKUP: u32 = 30;

struct World {
    random: Random,
}

impl Host for World {
    fn now_ns(&self) -> u64 {
        1
    }

    fn random(&mut self) -> u32 {
        let wide = self.random.next();
        match wide >> 60 {
            0 => 0,
            1 => u32::MAX,
            2 => 1 << (wide & 31),
            3..8 => wide as u32 & 0x3f,
            _ => wide as u32,
        }
    }

    fn cpu(&self) -> u32 {
        0
    }

    fn trace(&mut self, _text: &str) {}

    fn socket(&self, socket: SocketId) -> Option<SocketFacts> {
        let udp =
            SocketFacts { family: 2, kind: 2, protocol: 17, state: 7, ..SocketFacts::default() };
        (socket.0 < 4).then_some(udp)
    }
}

/// `None` for what the loader refuses: unlike the verifier, it decodes what is never reached.
fn load(case: &Case) -> Option<Arc<Program>> {
    let mut insns = case.insns.clone();
    let mut references = Vec::new();
    for (at, insn) in insns.iter_mut().enumerate() {
        if insn.is_ld_imm64() && insn.src == PSEUDO_MAP {
            references.push(MapReference { insn: at, map: insn.imm as usize, offset: None });
            (insn.src, insn.imm) = (0, 0);
        }
    }
    let spec = ProgramSpec {
        name: "random".to_owned(),
        section: "sk_lookup".to_owned(),
        insns,
        references,
        ..ProgramSpec::default()
    };
    let maps = case.maps.iter().map(|map| {
        let map_type = MapType::from_number(map.map_type);
        MapSpec::new(&map.name, map_type, map.key_size, map.value_size, map.max_entries)
    });
    let maps = maps.collect();
    let object =
        Object { license: "GPL".to_owned(), programs: vec![spec], maps, ..Object::default() };
    let options = LoadOptions { cpus: 1, ..LoadOptions::default() };
    let loaded = object.load(&options).ok()?;
    for map in loaded.maps.iter() {
        if map.spec().map_type == MapType::SockMap {
            map.update_socket(&1_u32.to_le_bytes(), SocketId(1), flags::ANY).unwrap();
            map.update_socket(&2_u32.to_le_bytes(), SocketId(2), flags::ANY).unwrap();
        }
    }
    Some(Arc::clone(&loaded.programs[0]))
}

#[test]
fn accepted_programs_never_fault() {
    let asked = std::env::var("WEIR_VERIFIER_ACCEPTED").ok().and_then(|value| value.parse().ok());
    let wanted: u64 = asked.unwrap_or(ACCEPTED);
    let options = VerifyOptions { budget: BUDGET, ..VerifyOptions::default() };
    let mut machine = Machine::new();
    let (mut accepted, mut seed, mut runs) = (0, 0, 0_u64);
    while accepted < wanted {
        seed += 1;
        let case = random::program(seed, SK_LOOKUP);
        if case.verify(&options).unwrap().is_err() {
            continue;
        }
        let Some(program) = load(&case) else { continue };
        accepted += 1;
        let programs = [program];
        let mut world = World { random: Random(seed ^ 0x5eed) };
        for round in 0..4 {
            let local = format!("192.0.2.{}:{}", round * 7, seed % 65_536).parse().unwrap();
            let mut context =
                SkLookupContext::v4(17, "198.51.100.1:9".parse().unwrap(), local, round);
            let mut each = |_, result| {
                if let ProgramResult::Fault(fault) = result {
                    let same = VerifyOptions { log_level: 2, ..options };
                    let log = case.verify(&same).unwrap().unwrap().log;
                    assert!(fault.kind == FaultKind::Sockets, "{}: {fault}\n{log}", case.name);
                }
            };
            run_sk_lookup(&programs, &mut context, &mut world, &mut machine, &mut each);
            runs += 1;
        }
    }
    println!("{accepted} of {seed} programs accepted, {runs} runs, no fault");
    assert!(accepted * 5 > seed, "the programs test nothing");
}
