//! Tail calls in both engines: where they lead, where they do not, and how often.

mod host;

use std::sync::Arc;

use host::{World, engines, insn, v4};
use weir_bpf::insn::Insn;
use weir_bpf::object::MapReference;
use weir_bpf::verifier::VerifyOptions;
use weir_bpf::{
    Engine, LoadOptions, Loaded, Machine, MapSpec, MapType, Object, ProgramResult, ProgramSpec,
    run_sk_lookup,
};

const EXIT: Insn = Insn { opcode: 0x95, dst: 0, src: 0, offset: 0, imm: 0 };
const PROGRAMS: usize = 0;
const COUNTS: usize = 1;

fn map_load(dst: u8) -> [Insn; 2] {
    [insn(0x18, dst, 1, 0, 0), Insn::default()]
}

/// Counts in slot `slot` of the array, then goes on at `index`; where that fails returns `otherwise`.
fn counting(name: &str, slot: i32, index: i32, otherwise: i32) -> ProgramSpec {
    let mut insns = vec![insn(0xbf, 6, 1, 0, 0), insn(0x62, 10, 0, -4, slot)];
    let counts = insns.len();
    insns.extend(map_load(1));
    insns.extend([insn(0xbf, 2, 10, 0, 0), insn(0x07, 2, 0, 0, -4), insn(0x85, 0, 0, 0, 1)]);
    insns.extend([insn(0x15, 0, 0, 2, 0), insn(0xb7, 1, 0, 0, 1), insn(0xdb, 0, 1, 0, 0)]);
    insns.push(insn(0xbf, 1, 6, 0, 0));
    let programs = insns.len();
    insns.extend(map_load(2));
    insns.extend([insn(0xb7, 3, 0, 0, index), insn(0x85, 0, 0, 0, 12)]);
    insns.extend([insn(0xb7, 0, 0, 0, otherwise), EXIT]);
    spec(name, insns, vec![(counts, COUNTS), (programs, PROGRAMS)])
}

fn returning(name: &str, value: i32) -> ProgramSpec {
    spec(name, vec![insn(0xb7, 0, 0, 0, value), EXIT], Vec::new())
}

fn spec(name: &str, insns: Vec<Insn>, maps: Vec<(usize, usize)>) -> ProgramSpec {
    let references = maps.into_iter().map(|(insn, map)| MapReference { insn, map, offset: None });
    ProgramSpec {
        name: name.to_owned(),
        section: "sk_lookup".to_owned(),
        insns,
        references: references.collect(),
        ..ProgramSpec::default()
    }
}

/// The programs, each at its index in the program array too.
fn load(programs: Vec<ProgramSpec>) -> Loaded {
    let maps = vec![
        MapSpec::new("programs", MapType::ProgArray, 4, 4, 8),
        MapSpec::new("counts", MapType::Array, 4, 8, 4),
    ];
    let object = Object { license: "GPL".to_owned(), programs, maps, ..Object::default() };
    let loaded = object.load(&LoadOptions::default()).unwrap();
    for (index, program) in loaded.programs.iter().enumerate() {
        let key = (index as u32).to_le_bytes();
        loaded.maps[PROGRAMS].update_program(&key, Arc::clone(program), 1, 0).unwrap();
    }
    loaded
}

fn run(loaded: &Loaded, engine: Engine) -> ProgramResult {
    let mut result = None;
    let mut machine = Machine::new().with_engine(engine);
    let programs = &loaded.programs[..1];
    let mut each = |_, ran| result = Some(ran);
    let mut world = World::default();
    run_sk_lookup(programs, &mut v4("192.0.2.1:80"), &mut world, &mut machine, &mut each);
    result.unwrap()
}

fn count(loaded: &Loaded, slot: u32) -> u64 {
    let value = loaded.maps[COUNTS].lookup(&slot.to_le_bytes()).unwrap();
    u64::from_le_bytes(value.try_into().unwrap())
}

/// Calls `check` with a result and the loaded object of each engine.
fn in_both(programs: &[ProgramSpec], check: impl Fn(ProgramResult, &Loaded)) {
    for engine in engines() {
        let loaded = load(programs.to_vec());
        loaded.compile(&VerifyOptions::default()).unwrap();
        check(run(&loaded, engine), &loaded);
        loaded.maps[PROGRAMS].clear_programs();
    }
}

#[test]
fn a_chain_ends_with_the_last_programs_value() {
    let programs = [counting("first", 0, 1, 0), counting("second", 1, 2, 0), returning("third", 1)];
    in_both(&programs, |result, loaded| {
        assert_eq!(result, ProgramResult::Pass);
        assert_eq!((count(loaded, 0), count(loaded, 1)), (1, 1));
    });
}

#[test]
fn what_leads_nowhere_goes_on() {
    for index in [5, 8, -1, i32::MAX] {
        in_both(&[counting("lost", 0, index, 1)], |result, loaded| {
            assert_eq!(result, ProgramResult::Pass, "{index}");
            assert_eq!(count(loaded, 0), 1);
        });
    }
}

#[test]
fn thirty_three_are_made_and_no_more() {
    in_both(&[counting("again", 0, 0, 1)], |result, loaded| {
        assert_eq!(result, ProgramResult::Pass);
        assert_eq!(count(loaded, 0), 34);
    });
    // The next run has as many again.
    let loaded = load(vec![counting("again", 0, 0, 1)]);
    loaded.compile(&VerifyOptions::default()).unwrap();
    run(&loaded, Engine::Jit);
    run(&loaded, Engine::Jit);
    assert_eq!(count(&loaded, 0), 68);
    loaded.maps[PROGRAMS].clear_programs();
}

#[test]
fn code_jumps_to_code_only() {
    let loaded = load(vec![counting("first", 0, 1, 0), returning("second", 1)]);
    let proof = loaded.programs[0].verify(&VerifyOptions::default()).unwrap();
    loaded.programs[0].compile(&proof).unwrap();
    assert_eq!(run(&loaded, Engine::Interpreter), ProgramResult::Pass);
    assert_eq!(run(&loaded, Engine::Jit), ProgramResult::Drop);
    loaded.maps[PROGRAMS].clear_programs();
}
