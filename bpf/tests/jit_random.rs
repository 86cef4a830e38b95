//! Random programs that are memory-safe by construction: the engines agree on r0, memory and
//! faults. And what becomes of compiled code's pages.

mod host;

use std::sync::Mutex;

use host::{World, engines, insn};
use proptest::prelude::*;
use weir_bpf::insn::Insn;
use weir_bpf::jit::{Target, compile_for};
use weir_bpf::{Fault, Machine, Program, run_bare};

const EXIT: Insn = Insn { opcode: 0x95, dst: 0, src: 0, offset: 0, imm: 0 };
/// Bytes of memory that programs are given.
const MEMORY: usize = 64;
/// r9 points to the memory, which only loads and stores use; r0–r7 are numbers.
const POINTER: u8 = 9;
/// r8 counts a loop down.
const COUNTER: u8 = 8;

/// Only one test at a time looks at the process's mappings.
static PAGES: Mutex<()> = Mutex::new(());

/// A piece of a program.
#[derive(Clone, Debug)]
enum Piece {
    Plain(Vec<Insn>),
    /// Jumps over the pieces if the condition holds.
    If(Insn, Vec<Piece>),
    /// Runs the pieces a few times.
    Repeat(i32, Vec<Piece>),
    /// Calls the function, which is given r1–r5.
    Call,
    /// Calls the host's helper.
    Helper(i32),
}

fn wide(dst: u8, value: u64) -> Vec<Insn> {
    vec![insn(0x18, dst, 0, 0, value as i32), insn(0, 0, 0, 0, (value >> 32) as i32)]
}

fn number() -> impl Strategy<Value = u64> {
    let edge =
        prop::sample::select(vec![0, 1, 63, 64, 1 << 31, u32::MAX.into(), 1 << 63, u64::MAX]);
    prop_oneof![edge, any::<u64>()]
}

fn arithmetic() -> impl Strategy<Value = Insn> {
    let operation = prop::sample::select(vec![
        0x00, 0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0x90, 0xa0, 0xb0, 0xc0,
    ]);
    (operation, any::<[bool; 3]>(), 0..8_u8, 0..8_u8, any::<i32>(), 0..4_usize).prop_map(
        |(operation, [wide, register, signed], dst, src, imm, size)| {
            let class = if wide { 7 } else { 4 };
            let offset = match operation {
                0x30 | 0x90 => i16::from(signed),
                // Only 64-bit moves extend 32 bits.
                0xb0 if register => [0, 8, 16, if wide { 32 } else { 0 }][size],
                _ => 0,
            };
            if register {
                insn(operation | 8 | class, dst, src, offset, 0)
            } else {
                insn(operation | class, dst, 0, offset, imm)
            }
        },
    )
}

fn other() -> impl Strategy<Value = Insn> {
    let width = prop::sample::select(vec![16, 32, 64]);
    let opcode = prop::sample::select(vec![0xd4, 0xdc, 0xd7]);
    let swap =
        (opcode, 0..8_u8, width).prop_map(|(opcode, dst, width)| insn(opcode, dst, 0, 0, width));
    let negate = (any::<bool>(), 0..8_u8)
        .prop_map(|(wide, dst)| insn(if wide { 0x87 } else { 0x84 }, dst, 0, 0, 0));
    prop_oneof![swap, negate]
}

/// Loads, stores and atomics within the stack or the memory.
fn access() -> impl Strategy<Value = Insn> {
    let kinds = prop::sample::select(vec![0_u8, 1, 2, 3, 4, 5]);
    let atomic =
        prop::sample::select(vec![0x00, 0x01, 0x40, 0x41, 0x50, 0x51, 0xa0, 0xa1, 0xe1, 0xf1]);
    (kinds, 0..4_usize, any::<bool>(), 0..8_u8, 0..MEMORY as i16, any::<i32>(), atomic).prop_map(
        |(kind, size, stack, register, at, imm, atomic)| {
            let (bits, bytes) = [(0x10, 1), (0x08, 2), (0x00, 4), (0x18, 8)][size];
            let (base, start) = if stack { (10, -(MEMORY as i16)) } else { (POINTER, 0) };
            let fits = at.min(MEMORY as i16 - bytes);
            let (aligned, unaligned) = (start + fits / bytes * bytes, start + fits);
            match kind {
                0 => insn(0x61 | bits, register, base, unaligned, 0),
                1 if bytes < 8 => insn(0x81 | bits, register, base, unaligned, 0),
                2 => insn(0x62 | bits, base, 0, unaligned, imm),
                3 if bytes >= 4 => insn(0xc3 | bits, base, register, aligned, atomic),
                4 => insn(0xc3 | bits, register, base, aligned, 0x100),
                5 => insn(0xc3 | bits, base, register, aligned, 0x110),
                _ => insn(0x63 | bits, base, register, unaligned, 0),
            }
        },
    )
}

fn condition() -> impl Strategy<Value = Insn> {
    let operation = prop::sample::select(vec![
        0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0xa0, 0xb0, 0xc0, 0xd0,
    ]);
    (operation, any::<[bool; 2]>(), 0..8_u8, 0..8_u8, any::<i32>()).prop_map(
        |(operation, [wide, register], dst, src, imm)| {
            let class = if wide { 5 } else { 6 };
            if register {
                insn(operation | 8 | class, dst, src, 0, 0)
            } else {
                insn(operation | class, dst, 0, 0, imm)
            }
        },
    )
}

fn plain() -> impl Strategy<Value = Vec<Insn>> {
    let constant = (0..8_u8, number()).prop_map(|(dst, value)| wide(dst, value));
    let one =
        prop_oneof![4 => arithmetic(), 1 => other(), 4 => access()].prop_map(|insn| vec![insn]);
    prop::collection::vec(prop_oneof![6 => one, 1 => constant], 1..8).prop_map(|all| all.concat())
}

fn pieces() -> impl Strategy<Value = Vec<Piece>> {
    let leaf = prop_oneof![
        6 => plain().prop_map(Piece::Plain),
        1 => Just(Piece::Call),
        // Number 9 is one that the host does not have.
        1 => prop_oneof![20 => 5..9, 1 => Just(9)].prop_map(Piece::Helper),
    ];
    let nested = leaf.prop_recursive(3, 24, 4, |inner| {
        let inner = prop::collection::vec(inner, 1..4);
        prop_oneof![
            (condition(), inner.clone())
                .prop_map(|(condition, pieces)| Piece::If(condition, pieces)),
            (1..5, inner).prop_map(|(count, pieces)| Piece::Repeat(count, pieces)),
        ]
    });
    prop::collection::vec(nested, 1..8)
}

/// Where calls stand, to be aimed at the function behind the program.
type Calls = Vec<usize>;

fn assemble(pieces: &[Piece], in_loop: bool, insns: &mut Vec<Insn>, calls: &mut Calls) {
    for piece in pieces {
        match piece {
            Piece::Plain(some) => insns.extend(some),
            Piece::If(condition, inner) => {
                let at = insns.len();
                insns.push(*condition);
                assemble(inner, in_loop, insns, calls);
                insns[at].offset = (insns.len() - at - 1) as i16;
            }
            // One counter: a loop in a loop runs once.
            Piece::Repeat(_, inner) if in_loop => assemble(inner, true, insns, calls),
            Piece::Repeat(count, inner) => {
                insns.push(insn(0xb7, COUNTER, 0, 0, *count));
                let start = insns.len();
                assemble(inner, true, insns, calls);
                insns.push(insn(0x07, COUNTER, 0, 0, -1));
                let back = start as i64 - insns.len() as i64 - 1;
                insns.push(insn(0x55, COUNTER, 0, back as i16, 0));
            }
            Piece::Call => {
                calls.push(insns.len());
                insns.push(insn(0x85, 0, 1, 0, 0));
            }
            Piece::Helper(number) => insns.push(insn(0x85, 0, 0, 0, *number)),
        }
    }
}

/// The program, then one function that it calls.
fn program(pieces: &[Piece], function: &[Vec<Insn>], start: &[u64]) -> Vec<Insn> {
    let mut insns = vec![insn(0xbf, POINTER, 1, 0, 0)];
    for (register, value) in start.iter().enumerate() {
        insns.extend(wide(register as u8, *value));
    }
    let mut calls = Vec::new();
    assemble(pieces, false, &mut insns, &mut calls);
    // r0 tells of every register.
    for register in 1..8 {
        insns.extend([insn(0x67, 0, 0, 0, 5), insn(0xaf, 0, register, 0, 0)]);
    }
    insns.push(EXIT);
    for at in calls {
        insns[at].imm = (insns.len() - at - 1) as i32;
    }
    for register in [0, 6, 7] {
        insns.extend(wide(register, 77 + u64::from(register)));
    }
    // The function has a stack of its own, and no pointer to the memory.
    let own = |insn: &&Insn| insn.dst != POINTER && insn.src != POINTER;
    let inner = function.concat();
    let skips = |at: usize| at > 0 && inner[at - 1].opcode == 0x18;
    let kept = inner.iter().enumerate().filter(|(at, insn)| skips(*at) || own(insn));
    insns.extend(kept.map(|(_, insn)| *insn));
    insns.push(EXIT);
    insns
}

type Outcome = (Result<u64, Fault>, Vec<u8>);

fn outcomes(insns: Vec<Insn>) -> (Program, [Outcome; 2]) {
    let program = Program::bare("random", insns).unwrap();
    // SAFETY: accesses are within the stack and the memory, loops are counted, calls are one deep.
    let proof = unsafe { program.assume_verified() };
    program.compile(&proof).unwrap();
    let both = engines().map(|engine| {
        let mut memory: Vec<u8> = (0..MEMORY as u8).map(|byte| byte.wrapping_mul(37)).collect();
        let mut machine = Machine::new().with_engine(engine);
        let result = run_bare(&program, &mut memory, &mut World::default(), &mut machine);
        (result, memory)
    });
    (program, both)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6_000))]

    #[test]
    fn the_engines_agree(
        pieces in pieces(),
        function in prop::collection::vec(plain(), 1..3),
        start in prop::collection::vec(number(), 9),
    ) {
        let insns = program(&pieces, &function, &start);
        let (_, [interpreted, compiled]) = outcomes(insns);
        prop_assert_eq!(interpreted, compiled);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn code_for_arm64_can_be_made(
        pieces in pieces(),
        function in prop::collection::vec(plain(), 1..3),
    ) {
        let program = Program::bare("random", program(&pieces, &function, &[0; 9])).unwrap();
        // SAFETY: as in `outcomes`; and the code is not run.
        let proof = unsafe { program.assume_verified() };
        let code = compile_for(&proof, Target::Arm64);
        prop_assert!(code.is_ok_and(|code| code.len() > 4));
    }
}

fn small() -> Program {
    let program = Program::bare("small", vec![insn(0xb7, 0, 0, 0, 7), EXIT]).unwrap();
    // SAFETY: the program touches no memory and ends.
    let proof = unsafe { program.assume_verified() };
    program.compile(&proof).unwrap();
    program
}

/// The process's mappings: first and last address, permissions.
fn mappings() -> Vec<(u64, u64, String)> {
    let text = std::fs::read_to_string("/proc/self/maps").unwrap();
    let number = |text: &str| u64::from_str_radix(text, 16).unwrap();
    let line = |line: &str| {
        let mut fields = line.split(' ');
        let (first, last) = fields.next()?.split_once('-')?;
        Some((number(first), number(last), fields.next()?.to_owned()))
    };
    text.lines().filter_map(line).collect()
}

#[test]
fn code_is_executable_and_never_writable() {
    let _alone = PAGES.lock().unwrap();
    let program = small();
    let address = program.machine_code().unwrap().as_ptr() as u64;
    let mappings = mappings();
    let of_code = mappings.iter().find(|(first, last, _)| (*first..*last).contains(&address));
    assert_eq!(of_code.map(|(_, _, permissions)| permissions.as_str()), Some("r-xp"));
    let both = |permissions: &str| permissions.contains('w') && permissions.contains('x');
    assert!(!mappings.iter().any(|(_, _, permissions)| both(permissions)), "{mappings:?}");
}

/// Pages of the process that are executable, and not of a file that it was linked with.
fn executable_mappings() -> usize {
    mappings().iter().filter(|(_, _, permissions)| permissions.contains('x')).count()
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn ten_thousand_programs_leave_nothing_behind() {
    let _alone = PAGES.lock().unwrap();
    let mut machine = Machine::new();
    let mut cycle = |count: usize| {
        for _ in 0..count {
            let result = run_bare(&small(), &mut [], &mut World::default(), &mut machine);
            assert_eq!(result, Ok(7));
        }
    };
    cycle(500);
    let (pages, memory) = (executable_mappings(), resident_kib());
    cycle(10_000);
    // Other tests of this process compile at the same time, some programs each.
    assert!(executable_mappings() < pages + 16, "{pages} before, {}", executable_mappings());
    assert!(resident_kib() < memory + 32 * 1024, "{memory} KiB before, {}", resident_kib());
}
