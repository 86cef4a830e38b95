//! Instructions and faults: what each does at its edges, and that nothing a program does gets out.

mod host;

use host::{World, insn, raw, run, v4};
use proptest::prelude::*;
use weir_bpf::insn::Insn;
use weir_bpf::{FaultKind, ProgramResult, ProgramSpec};

const EXIT: Insn = Insn { opcode: 0x95, dst: 0, src: 0, offset: 0, imm: 0 };

/// A 64-bit immediate load.
fn wide(dst: u8, value: u64) -> [Insn; 2] {
    [insn(0x18, dst, 0, 0, value as i32), insn(0, 0, 0, 0, (value >> 32) as i32)]
}

/// The value that an instruction leaves in r1, of r1 and r2; as the fault of a wrong return value.
fn result(operation: Insn, r1: u64, r2: u64) -> u64 {
    let mut insns = [wide(1, r1), wide(2, r2)].concat();
    insns.extend([operation, insn(0xbf, 0, 1, 0, 0), insn(0xa7, 0, 0, 0, 0x5a5a_0000), EXIT]);
    let program = raw(insns).unwrap();
    match run(&[program], &v4("192.0.2.1:80"), &mut World::default()).1[0] {
        ProgramResult::Fault(fault) => match fault.kind {
            FaultKind::Return(value) => value ^ 0x5a5a_0000,
            other => panic!("{operation:?}: {other:?}"),
        },
        ref other => panic!("{operation:?}: {other:?}"),
    }
}

fn fault(insns: Vec<Insn>) -> Option<FaultKind> {
    let program = raw(insns).unwrap();
    match run(&[program], &v4("192.0.2.1:80"), &mut World::default()).1[0] {
        ProgramResult::Fault(fault) => Some(fault.kind),
        _ => None,
    }
}

#[test]
#[rustfmt::skip]
fn arithmetic_at_its_edges() {
    const MIN: u64 = i64::MIN as u64;
    const MIN32: u64 = i32::MIN as u32 as u64;
    let register = |opcode, offset| insn(opcode, 1, 2, offset, 0);
    let immediate = |opcode, offset, imm| insn(opcode, 1, 0, offset, imm);
    for (operation, r1, r2, expected) in [
        (register(0x0f, 0), u64::MAX, 2, 1), (register(0x0c, 0), u64::MAX, 2, 1),
        (immediate(0x07, 0, -1), 0, 0, u64::MAX), (immediate(0x04, 0, -1), 0, 0, 0xffff_ffff),
        (register(0x1f, 0), 1, 2, u64::MAX), (register(0x2f, 0), 1 << 63, 3, 1 << 63),
        (register(0x3f, 0), 7, 0, 0), (register(0x3c, 0), 7 | 1 << 32, 2, 3),
        (register(0x3f, 1), MIN, u64::MAX, MIN), (register(0x3c, 1), MIN32, 0xffff_ffff, MIN32),
        (register(0x3f, 1), (-7_i64) as u64, 2, (-3_i64) as u64), (register(0x3f, 1), 7, 0, 0),
        (register(0x9f, 0), 7, 0, 7), (register(0x9c, 0), 7 | 1 << 32, 0, 7),
        (register(0x9f, 1), MIN, u64::MAX, 0), (register(0x9f, 1), (-7_i64) as u64, 2, u64::MAX),
        (register(0x9c, 1), 0xffff_fff9, 2, 0xffff_ffff), (register(0x9f, 1), 9, 0, 9),
        (register(0x6f, 0), 1, 65, 2), (register(0x6c, 0), 1, 33, 2), (register(0x7f, 0), MIN, 63, 1),
        (register(0xcf, 0), MIN, 63, u64::MAX), (register(0xcc, 0), MIN32, 31, 0xffff_ffff),
        (immediate(0x87, 0, 0), 1, 0, u64::MAX), (immediate(0x84, 0, 0), 1, 0, 0xffff_ffff),
        (register(0xaf, 0), 6, 3, 5), (register(0x4f, 0), 6, 3, 7), (register(0x5f, 0), 6, 3, 2),
        (register(0xbf, 0), 0, MIN, MIN), (register(0xbc, 0), 0, MIN | 5, 5),
        (register(0xbf, 8), 0, 0x80, (-128_i64) as u64), (register(0xbc, 8), 0, 0x80, 0xffff_ff80),
        (register(0xbf, 16), 0, 0x8000, (-32768_i64) as u64), (register(0xbf, 32), 0, MIN32, i64::from(i32::MIN) as u64),
        (immediate(0xb7, 0, -5), 0, 0, (-5_i64) as u64), (immediate(0xb4, 0, -5), 0, 0, 0xffff_fffb),
        (immediate(0xdc, 0, 16), 0x1234_5678, 0, 0x7856), (immediate(0xdc, 0, 32), 0x1_1234_5678, 0, 0x7856_3412),
        (immediate(0xdc, 0, 64), 1, 0, 1 << 56), (immediate(0xd4, 0, 16), 0x1234_5678, 0, 0x5678),
        (immediate(0xd7, 0, 64), 1, 0, 1 << 56), (immediate(0xd4, 0, 32), u64::MAX, 0, 0xffff_ffff),
    ] {
        assert_eq!(result(operation, r1, r2), expected, "{operation:?} {r1:#x} {r2:#x}");
    }
}

#[test]
fn jumps_compare_as_they_say() {
    let minus = (-1_i64) as u64;
    for (opcode, r1, r2, taken) in [
        (0x1d, 1, 1, true),
        (0x1e, 1 << 32 | 1, 1, true),
        (0x2d, minus, 1, true),
        (0x6d, minus, 1, false),
        (0x6e, 0xffff_ffff, 1, false),
        (0x3d, 1, 1, true),
        (0x4d, 6, 9, false),
        (0x4e, 2, 3, true),
        (0x5d, 1, 1, false),
        (0x7d, minus, minus, true),
        (0xad, 1, minus, true),
        (0xae, 1, 0xffff_ffff, true),
        (0xbd, 1, 1, true),
        (0xcd, minus, 0, true),
        (0xce, 0xffff_ffff, 0, true),
        (0xdd, 1, minus, false),
        (0xde, 5, 5, true),
    ] {
        let mut insns = [wide(1, r1), wide(2, r2)].concat();
        insns.extend([insn(0xb7, 0, 0, 0, 1), insn(opcode, 1, 2, 1, 0)]);
        insns.extend([insn(0xb7, 0, 0, 0, 0), EXIT]);
        let ran = run(&[raw(insns).unwrap()], &v4("192.0.2.1:80"), &mut World::default()).1;
        let passed = ran[0] == ProgramResult::Pass;
        assert_eq!(passed, taken, "{opcode:#x} {r1:#x} {r2:#x}");
    }
}

#[test]
fn atomics_on_the_stack() {
    for (imm, memory, operand) in [
        (0x00, 7, 2),
        (0x01, 7, 5),
        (0x41, 7, 5),
        (0x51, 0, 5),
        (0xa1, 7, 5),
        (0xe1, 2, 5),
        (0xf1, 2, 2),
    ] {
        // r0 = 5 (what cmpxchg compares with), [r10-8] = 5, r1 = 2; then compare both.
        let insns = vec![
            insn(0xb7, 0, 0, 0, 5),
            insn(0x7a, 10, 0, -8, 5),
            insn(0xb7, 1, 0, 0, 2),
            insn(0xdb, 10, 1, -8, imm),
            insn(0x79, 2, 10, -8, 0),
            insn(0xb7, 0, 0, 0, 0),
            insn(0x55, 2, 0, 2, memory),
            insn(0x55, 1, 0, 1, operand),
            insn(0xb7, 0, 0, 0, 1),
            EXIT,
        ];
        let ran = run(&[raw(insns).unwrap()], &v4("192.0.2.1:80"), &mut World::default()).1;
        assert_eq!(ran[0], ProgramResult::Pass, "{imm:#x}");
    }
}

#[test]
fn what_must_not_be_done_faults() {
    let zero = insn(0xb7, 0, 0, 0, 0);
    let read = |src, offset, opcode| vec![insn(opcode, 0, src, offset, 0), zero, EXIT];
    // Null, beyond both ends of the stack, context fields in wrong sizes, writes to the context.
    assert!(matches!(fault(read(3, 0, 0x79)), Some(FaultKind::Read(0, 8))));
    assert!(matches!(fault(read(10, 0, 0x71)), Some(FaultKind::Read(..))));
    assert!(matches!(fault(read(10, -4, 0x79)), Some(FaultKind::Read(..))));
    assert!(matches!(fault(read(10, -513, 0x71)), Some(FaultKind::Read(..))));
    assert_eq!(fault(read(10, -512, 0x79)), None);
    for (offset, opcode, ok) in [
        (0, 0x79, true),
        (0, 0x61, false),
        (8, 0x61, true),
        (8, 0x79, false),
        (9, 0x71, true),
        (9, 0x69, false),
        (36, 0x61, true),
        (38, 0x69, true),
        (64, 0x61, true),
        (68, 0x71, false),
        (72, 0x71, false),
        (-1, 0x71, false),
    ] {
        assert_eq!(fault(read(1, offset, opcode)).is_none(), ok, "{offset} {opcode:#x}");
    }
    let write = vec![insn(0x62, 1, 0, 8, 0), zero, EXIT];
    assert!(matches!(fault(write), Some(FaultKind::Write(..))));
    // A loop without end, a call without end, a wrong return, a release of nothing.
    assert_eq!(fault(vec![insn(0x05, 0, 0, -1, 0)]), Some(FaultKind::Budget));
    assert_eq!(fault(vec![insn(0x85, 0, 1, 0, -1), EXIT]), Some(FaultKind::CallDepth));
    assert_eq!(fault(vec![insn(0xb7, 0, 0, 0, 2), EXIT]), Some(FaultKind::Return(2)));
    let release = vec![insn(0x85, 0, 0, 0, 86), zero, EXIT];
    assert_eq!(fault(release), Some(FaultKind::Argument(86, 1)));
    let assign = vec![insn(0xb7, 1, 0, 0, 0), insn(0x85, 0, 0, 0, 124), zero, EXIT];
    assert_eq!(fault(assign), Some(FaultKind::Argument(124, 1)));
}

#[test]
fn an_earlier_runs_stack_is_not_seen() {
    let write = raw(vec![insn(0x7a, 10, 0, -264, 1), insn(0xb7, 0, 0, 0, 1), EXIT]).unwrap();
    let read = raw(vec![insn(0x79, 0, 10, -264, 0), EXIT]).unwrap();
    let results = run(&[write, read], &v4("192.0.2.1:80"), &mut World::default()).1;
    assert_eq!(results, [ProgramResult::Pass, ProgramResult::Drop]);
}

#[test]
fn refused_before_it_runs() {
    let zero = insn(0xb7, 0, 0, 0, 0);
    for (insns, said) in [
        (vec![], "0 instructions"),
        (vec![zero], "last insn is not an exit or jmp"),
        (vec![insn(0x05, 0, 0, 1, 0), EXIT], "insn 0: jump out of range"),
        (
            vec![insn(0x05, 0, 0, 1, 0), insn(0x18, 0, 0, 0, 0), insn(0, 0, 0, 0, 0), EXIT],
            "jump out",
        ),
        (vec![insn(0xb7, 10, 0, 0, 0), EXIT], "frame pointer is read only"),
        (vec![insn(0xb7, 11, 0, 0, 0), EXIT], "R11 is invalid"),
        (vec![zero, insn(0x18, 0, 0, 0, 0)], "insn 1: invalid bpf_ld_imm64"),
        (vec![insn(0x85, 0, 0, 0, 9), EXIT], "cannot use helper bpf_skb_store_bytes#9"),
        (vec![insn(0x85, 0, 1, 0, 7), EXIT], "jump out of range"),
        (vec![insn(0x30, 0, 0, 0, 0), EXIT], "unknown opcode"),
    ] {
        let error = raw(insns).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
}

#[test]
fn texts_are_formatted_as_the_kernels() {
    let format = *b"a=%d b=%5u c=%llx\0\0\0\0\0\0\0";
    let mut insns = Vec::new();
    for (i, word) in format.chunks(8).enumerate() {
        insns.extend(wide(1, u64::from_le_bytes(word.try_into().unwrap())));
        insns.push(insn(0x7b, 10, 1, i as i16 * 8 - 24, 0));
    }
    insns.extend([insn(0xbf, 1, 10, 0, 0), insn(0x07, 1, 0, 0, -24), insn(0xb7, 2, 0, 0, 18)]);
    insns.extend([insn(0xb7, 3, 0, 0, -3), insn(0xb7, 4, 0, 0, 42), insn(0xb7, 5, 0, 0, -1)]);
    insns.extend([insn(0x85, 0, 0, 0, 6), insn(0xb7, 0, 0, 0, 1), EXIT]);
    let mut world = World::default();
    run(&[raw(insns).unwrap()], &v4("192.0.2.1:80"), &mut world);
    assert_eq!(world.texts, ["a=-3 b=   42 c=ffffffffffffffff"]);
}

fn any_insn() -> impl Strategy<Value = Insn> {
    let opcode = prop::sample::select(vec![
        0x07, 0x0f, 0x1f, 0x57, 0x67, 0xb7, 0xbf, 0x04, 0xb4, 0x61, 0x69, 0x71, 0x79, 0x62, 0x63,
        0x7a, 0x7b, 0x73, 0xc3, 0xdb, 0x05, 0x15, 0x2d, 0x55, 0xa5, 0x85, 0x95, 0x18,
    ]);
    let imm = prop_oneof![-600..64_i32, prop::sample::select(vec![1, 2, 3, 6, 86, 124])];
    (opcode, 0..11_u8, 0..11_u8, -64..64_i16, imm)
        .prop_map(|(opcode, dst, src, offset, imm)| mended(insn(opcode, dst, src, offset, imm)))
}

/// The same with reserved fields cleared, so that more programs get to run.
fn mended(insn: Insn) -> Insn {
    match insn.opcode {
        0x85 => Insn { dst: 0, src: 0, offset: 0, ..insn },
        0x95 => EXIT,
        0x05 => Insn { dst: 0, src: 0, imm: 0, offset: insn.offset / 8, ..insn },
        0x0f | 0x1f | 0xbf => Insn { offset: 0, imm: 0, ..insn },
        0x07 | 0x57 | 0x67 | 0xb7 | 0x04 | 0xb4 => Insn { offset: 0, src: 0, ..insn },
        0x15 | 0x55 | 0xa5 => Insn { src: 0, offset: insn.offset / 8, ..insn },
        0x2d => Insn { imm: 0, offset: insn.offset / 8, ..insn },
        0xc3 | 0xdb => Insn { imm: 1, ..insn },
        0x62 | 0x7a => Insn { src: 0, ..insn },
        _ => Insn { imm: 0, ..insn },
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    /// Whatever is loaded runs to an end, a verdict or a fault, and never a panic.
    #[test]
    fn random_programs_end(insns in prop::collection::vec(any_insn(), 1..40)) {
        let insns = insns.into_iter().chain([insn(0xb7, 0, 0, 0, 1), EXIT]).collect();
        if let Ok(program) = raw(insns) {
            run(&[program], &v4("192.0.2.1:80"), &mut World::default());
        }
    }

    /// Real programs with changed instructions, on their real maps.
    #[test]
    fn changed_programs_end(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any_insn()), 1..4),
    ) {
        let object = weir_bpf::Object::parse(weir_progs::LOOKUP_ASSIGN).unwrap();
        let mut spec: ProgramSpec = which.get(&object.programs).clone();
        for (at, insn) in changes {
            let at = at.index(spec.insns.len());
            spec.insns[at] = insn;
        }
        let changed = weir_bpf::Object { programs: vec![spec], ..object };
        let Ok(loaded) = changed.load(&Default::default()) else { return Ok(()) };
        let socket = weir_bpf::SocketId(1);
        let mut world = World::default();
        world.sockets.insert(socket, host::udp4());
        for map in &loaded.maps {
            let _ = map.update_socket(&0_u32.to_le_bytes(), socket, 0);
        }
        run(&loaded.programs, &v4("192.0.2.1:80"), &mut world);
    }
}
