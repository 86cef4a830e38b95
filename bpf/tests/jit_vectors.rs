//! Every instruction with the operands at its edges, through both engines. The expected values were
//! computed apart from the engines, from RFC 9669.

mod host;

use host::{World, engines, insn};
use weir_bpf::insn::Insn;
use weir_bpf::{Machine, Program, run_bare};

const EXIT: Insn = Insn { opcode: 0x95, dst: 0, src: 0, offset: 0, imm: 0 };

fn wide(dst: u8, value: u64) -> [Insn; 2] {
    [insn(0x18, dst, 0, 0, value as i32), insn(0, 0, 0, 0, (value >> 32) as i32)]
}

fn number(text: &str) -> u64 {
    u64::from_str_radix(text, 16).unwrap()
}

fn bytes(text: &str) -> Vec<u8> {
    let digits: String = text.chars().filter(|digit| !digit.is_whitespace()).collect();
    digits
        .as_bytes()
        .chunks(2)
        .map(|pair| number(std::str::from_utf8(pair).unwrap()) as u8)
        .collect()
}

fn instruction(text: &str) -> Insn {
    Insn::from_bytes(bytes(text).try_into().unwrap())
}

/// r0 and the memory after a program, in each engine.
fn outcomes(insns: Vec<Insn>, memory: &[u8]) -> Vec<(u64, Vec<u8>)> {
    let program = Program::bare("vector", insns).unwrap();
    // SAFETY: the vectors' programs touch their memory only, within its length, and end.
    let proof = unsafe { program.assume_verified() };
    program.compile(&proof).unwrap();
    let outcome = |engine| {
        let mut memory = memory.to_vec();
        let mut machine = Machine::new().with_engine(engine);
        let result = run_bare(&program, &mut memory, &mut World::default(), &mut machine);
        (result.unwrap(), memory)
    };
    engines().map(outcome).to_vec()
}

/// Calls `check` with the fields of each line; how many lines there are.
fn lines(text: &str, mut check: impl FnMut(&str, &[&str])) -> usize {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let mut count = 0;
    for line in lines {
        check(line, &line.split('\t').collect::<Vec<_>>());
        count += 1;
    }
    count
}

#[test]
fn arithmetic() {
    let count = lines(include_str!("vectors/arithmetic.txt"), |line, fields| {
        let mut insns = [wide(1, number(fields[2])), wide(2, number(fields[3]))].concat();
        insns.extend([instruction(fields[1]), insn(0xbf, 0, 1, 0, 0), EXIT]);
        for (result, _) in outcomes(insns, &[]) {
            assert_eq!(result, number(fields[4]), "{line}");
        }
    });
    assert!(count > 1_000, "{count}");
}

#[test]
fn jumps() {
    let count = lines(include_str!("vectors/jumps.txt"), |line, fields| {
        let mut insns = [wide(1, number(fields[2])), wide(2, number(fields[3]))].concat();
        insns.extend([insn(0xb7, 0, 0, 0, 1), instruction(fields[1])]);
        insns.extend([insn(0xb7, 0, 0, 0, 0), EXIT]);
        for (result, _) in outcomes(insns, &[]) {
            assert_eq!(result, number(fields[4]), "{line}");
        }
    });
    assert!(count > 500, "{count}");
}

#[test]
fn memory() {
    let count = lines(include_str!("vectors/memory.txt"), |line, fields| {
        let setup = [wide(0, number(fields[3])), wide(2, number(fields[4]))].concat();
        let operation = instruction(fields[1]);
        for (register, expected) in [(0, fields[5]), (2, fields[6])] {
            let mut insns = setup.clone();
            insns.extend([operation, insn(0xbf, 0, register, 0, 0), EXIT]);
            for (result, after) in outcomes(insns, &bytes(fields[2])) {
                assert_eq!(result, number(expected), "r{register}: {line}");
                assert_eq!(after, bytes(fields[7]), "{line}");
            }
        }
    });
    assert!(count > 500, "{count}");
}

/// `may_goto` jumps once its function has met it 8 Mi times, in a machine that lets it.
#[test]
fn may_goto_ends_a_loop() {
    let insns = vec![
        insn(0xb7, 0, 0, 0, 0),
        insn(0x07, 0, 0, 0, 1),
        insn(0xe5, 0, 0, 1, 0),
        insn(0x05, 0, 0, -3, 0),
        EXIT,
    ];
    let program = Program::bare("loop", insns).unwrap();
    // SAFETY: the program has no memory accesses, and `may_goto` ends its loop.
    let proof = unsafe { program.assume_verified() };
    program.compile(&proof).unwrap();
    for engine in engines() {
        let mut machine = Machine::with_budget(1 << 40).with_engine(engine);
        let result = run_bare(&program, &mut [], &mut World::default(), &mut machine);
        assert_eq!(result, Ok((8 << 20) + 1), "{engine:?}");
    }
}
