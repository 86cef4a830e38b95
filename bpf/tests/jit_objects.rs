//! Objects through both engines: the same verdicts, selections and maps; what the code is made of.

mod host;

use std::sync::Arc;
use std::time::Instant;

use host::{World, engines, insn, raw, udp4, v4, v6};
use proptest::prelude::*;
use weir_bpf::insn::Insn;
use weir_bpf::jit::{Target, compile_for};
use weir_bpf::verifier::VerifyOptions;
use weir_bpf::{
    Engine, FaultKind, LoadOptions, Loaded, Machine, Map, MapType, Object, Program, ProgramResult,
    SkLookupContext, SkLookupOutcome, SocketFacts, SocketId, run_sk_lookup,
};

/// An object with its maps filled, and its programs compiled.
fn loaded(bytes: &[u8]) -> Loaded {
    let options = LoadOptions { cpus: 3, ..LoadOptions::default() };
    let loaded = Object::parse(bytes).unwrap().load(&options).unwrap();
    loaded.compile(&VerifyOptions::default()).unwrap();
    assert!(loaded.programs.iter().all(|program| program.machine_code().is_some()));
    loaded
}

fn compile(program: &Program) {
    let proof = program.verify(&VerifyOptions::default()).unwrap();
    program.compile(&proof).unwrap();
    assert!(program.machine_code().is_some_and(|code| !code.is_empty()));
}

fn map<'a>(loaded: &'a Loaded, name: &str) -> &'a Arc<Map> {
    loaded.maps.iter().find(|map| map.spec().name == name).unwrap()
}

fn world() -> World {
    let mut world = World { cpu: 2, ..World::default() };
    let tcp = SocketFacts { protocol: 6, kind: 1, state: 10, ..udp4() };
    let six = SocketFacts { family: 10, ..udp4() };
    let facts = [udp4(), six, tcp, SocketFacts { refcounted: true, ..udp4() }];
    for (number, facts) in facts.into_iter().enumerate() {
        world.sockets.insert(SocketId(number as u64), facts);
    }
    world
}

fn fill_lookup_assign(loaded: &Loaded, gone: bool) {
    for (index, socket) in [0_u64, 1, 2, 3].into_iter().enumerate() {
        let socket = SocketId(if gone { socket + 100 } else { socket });
        let key = (index as u32).to_le_bytes();
        map(loaded, "sockets").update_socket(&key, socket, 0).unwrap();
        let port = (index as u32 + 80).to_le_bytes();
        map(loaded, "by_port").update_socket(&port, socket, 0).unwrap();
    }
}

/// All that the maps have, socket maps left out: programs do not change them here.
fn contents(loaded: &Loaded) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut all = Vec::new();
    for map in &loaded.maps {
        if map.spec().map_type == MapType::SockMap || map.spec().map_type == MapType::SockHash {
            continue;
        }
        let mut key = map.next_key(None).ok();
        while let Some(at) = key {
            all.push((at.clone(), map.lookup(&at).unwrap()));
            key = map.next_key(Some(&at)).ok();
        }
    }
    all.sort();
    all
}

fn run(
    programs: &[Arc<Program>],
    context: &SkLookupContext,
    world: &mut World,
    machine: &mut Machine,
) -> (SkLookupOutcome, Vec<ProgramResult>) {
    let mut results = Vec::new();
    let mut each = |_, result| results.push(result);
    let mut context = *context;
    let before = context;
    let outcome = run_sk_lookup(programs, &mut context, world, machine, &mut each);
    assert_eq!(context, before, "a run leaves no pointer in the context");
    (outcome, results)
}

const EXIT: Insn = Insn { opcode: 0x95, dst: 0, src: 0, offset: 0, imm: 0 };

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Several programs of the object in a row, on several packets.
    #[test]
    fn the_engines_agree_on_objects(
        which in prop::collection::vec(0..12_usize, 1..4),
        packets in prop::collection::vec((any::<bool>(), 78..86_u16, any::<[u8; 4]>()), 1..6),
        gone in any::<bool>(),
    ) {
        let mut ends = Vec::new();
        for engine in engines() {
            let loaded = loaded(weir_progs::LOOKUP_ASSIGN);
            fill_lookup_assign(&loaded, gone);
            let programs: Vec<_> = which.iter()
                .map(|i| Arc::clone(&loaded.programs[i % loaded.programs.len()])).collect();
            let mut world = world();
            let mut machine = Machine::new().with_engine(engine);
            let mut outcomes = Vec::new();
            for (is_v4, port, address) in &packets {
                let [a, b, c, d] = address;
                let context = if *is_v4 {
                    v4(&format!("{a}.{b}.{c}.{d}:{port}"))
                } else {
                    v6(&format!("[2001:db8::{a:x}{b:02x}:{c:x}{d:02x}]:{port}"))
                };
                let (outcome, results) = run(&programs, &context, &mut world, &mut machine);
                let said = (outcome.verdict, outcome.selected, outcome.no_reuseport);
                outcomes.push((said, results));
            }
            ends.push((outcomes, contents(&loaded)));
        }
        prop_assert_eq!(&ends[0], &ends[1]);
    }
}

/// Prefixes as in the published figures: 200 of /24, all to one socket.
fn steering() -> Loaded {
    let loaded = loaded(weir_progs::STEER);
    for prefix in 0..200_u8 {
        let mut key = [0; 24];
        key[..4].copy_from_slice(&(32_u32 + 96 + 24).to_le_bytes());
        key[4..6].copy_from_slice(&17_u16.to_le_bytes());
        key[6..8].copy_from_slice(&80_u16.to_be_bytes());
        key[18..23].copy_from_slice(&[0xff, 0xff, 10, prefix, 7]);
        map(&loaded, "bindings").update(&key, &0_u32.to_le_bytes(), 0).unwrap();
    }
    map(&loaded, "sockets").update_socket(&[0; 4], SocketId(0), 0).unwrap();
    loaded
}

#[test]
fn steering_selects_in_both_engines() {
    let loaded = steering();
    for engine in engines() {
        let mut machine = Machine::new().with_engine(engine);
        for (address, selected) in [
            ("10.5.7.1:80", Some(SocketId(0))),
            ("10.5.8.1:80", None),
            ("10.5.7.1:81", None),
            ("10.199.7.255:80", Some(SocketId(0))),
            ("10.200.7.255:80", None),
        ] {
            let (outcome, _) = run(&loaded.programs, &v4(address), &mut world(), &mut machine);
            assert_eq!(outcome.selected, selected, "{address} {engine:?}");
        }
    }
}

/// `cargo test --release -p weir-bpf --test jit_objects -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
fn steering_takes() {
    let loaded = steering();
    let mut world = world();
    for (what, address) in [("hit", "10.5.7.1:80"), ("miss", "10.5.8.1:81")] {
        for engine in engines() {
            let mut machine = Machine::new().with_engine(engine);
            let context = v4(address);
            let mut best = f64::INFINITY;
            for _ in 0..20 {
                let runs = 100_000;
                let began = Instant::now();
                for _ in 0..runs {
                    let mut context = context;
                    let programs = std::hint::black_box(&loaded.programs);
                    run_sk_lookup(programs, &mut context, &mut world, &mut machine, &mut |_, _| {});
                }
                best = best.min(began.elapsed().as_nanos() as f64 / f64::from(runs));
            }
            println!("{what} {engine:?}: {best:.1} ns");
        }
    }
}

#[test]
fn code_for_arm64_can_be_made() {
    for bytes in [weir_progs::STEER, weir_progs::LOOKUP_ASSIGN] {
        for program in loaded(bytes).programs {
            let proof = program.verify(&VerifyOptions::default()).unwrap();
            let code = compile_for(&proof, Target::Arm64).unwrap();
            // Instructions of arm64 have four bytes; `ret` is among them.
            let ret = 0xd65f_03c0_u32.to_le_bytes();
            assert!(code.as_chunks::<4>().0.contains(&ret), "{}", program.name());
        }
    }
}

/// What the verifier would not let through ends the run, as in the interpreter.
#[test]
fn a_release_of_nothing_ends_the_run() {
    let release = raw(vec![insn(0x85, 0, 0, 0, 86), insn(0xb7, 0, 0, 0, 0), EXIT]).unwrap();
    assert!(release.verify(&VerifyOptions::default()).is_err());
    // SAFETY: the call checks its argument, which is not the address of a socket's block.
    let proof = unsafe { release.assume_verified() };
    release.compile(&proof).unwrap();
    let mut machine = Machine::new().with_engine(Engine::Jit);
    let (_, results) = run(&[release], &v4("192.0.2.1:80"), &mut world(), &mut machine);
    assert!(matches!(results[0], ProgramResult::Fault(fault) if fault.kind == FaultKind::Release));
}

/// `sk` is what programs before have selected, and changes with a selection of the program's own.
#[test]
fn the_context_shows_the_selected_socket() {
    let loaded = loaded(weir_progs::LOOKUP_ASSIGN);
    fill_lookup_assign(&loaded, false);
    let first = loaded.programs.iter().find(|program| program.name() == "first").unwrap();
    // r0 = family of ctx->sk, less one, its lowest bit: 1 for AF_INET.
    let reads = [
        insn(0x79, 2, 1, 0, 0),
        insn(0xb7, 0, 0, 0, 0),
        insn(0x15, 2, 0, 2, 0),
        insn(0x61, 0, 2, 4, 0),
        insn(0x07, 0, 0, 0, -1),
        insn(0x57, 0, 0, 0, 1),
        EXIT,
    ];
    // Takes the selection back, then r0 = 1 if ctx->sk is null.
    let resets = [
        insn(0xbf, 6, 1, 0, 0),
        insn(0xb7, 2, 0, 0, 0),
        insn(0xb7, 3, 0, 0, 1),
        insn(0x85, 0, 0, 0, 124),
        insn(0x79, 2, 6, 0, 0),
        insn(0xb7, 0, 0, 0, 1),
        insn(0x15, 2, 0, 1, 0),
        insn(0xb7, 0, 0, 0, 0),
        EXIT,
    ];
    for engine in engines() {
        for (insns, alone) in
            [(reads.to_vec(), ProgramResult::Drop), (resets.to_vec(), ProgramResult::Pass)]
        {
            let program = raw(insns).unwrap();
            compile(&program);
            let mut machine = Machine::new().with_engine(engine);
            let context = v4("192.0.2.1:80");
            let programs = [Arc::clone(first), Arc::clone(&program)];
            let (_, results) = run(&programs, &context, &mut world(), &mut machine);
            assert_eq!(results, [ProgramResult::Pass, ProgramResult::Pass], "{engine:?}");
            let (_, results) = run(&[program], &context, &mut world(), &mut machine);
            assert_eq!(results, [alone], "{engine:?}");
        }
    }
}

/// What a compiled run says that it depends on is what the program can read.
#[test]
fn inputs_are_the_bytes_that_a_program_reads() {
    let loaded = steering();
    let context = v4("10.5.7.1:80");
    let inputs = engines().map(|engine| {
        let mut machine = Machine::new().with_engine(engine);
        run(&loaded.programs, &context, &mut world(), &mut machine).0.inputs
    });
    assert!(inputs.iter().all(|inputs| inputs.repeatable));
    // Family, protocol, local address of both kinds, local port; not the remote side.
    let [interpreted, compiled] = inputs.map(|inputs| inputs.context_bytes);
    assert_eq!(interpreted & !compiled, 0);
    assert_eq!(compiled & (0xff_ffff << 16), 0, "{compiled:#x}");
}

#[test]
fn runs_are_counted_when_asked_for() {
    let program = raw(vec![insn(0xb7, 0, 0, 0, 1), insn(0x95, 0, 0, 0, 0)]).unwrap();
    compile(&program);
    let mut machine = Machine::new();
    assert_eq!(machine.engine(), Engine::Jit);
    let mut times = |count: usize| {
        for _ in 0..count {
            run(&[Arc::clone(&program)], &v4("192.0.2.1:80"), &mut world(), &mut machine);
        }
    };
    times(3);
    assert_eq!(program.statistics().runs(), 0);
    weir_bpf::engine::count_runs(true);
    times(5);
    weir_bpf::engine::count_runs(false);
    times(3);
    assert_eq!(program.statistics().runs(), 5);
    assert!(program.statistics().nanoseconds() > 0);
}
