//! Instructions as the kernel's disassembler writes them, for the log.

use super::cfg::{MAY_GOTO, PSEUDO_FUNCTION, is_legacy_load, jump_distance};
use super::memory::size_of;
use crate::helper::HelperId;
use crate::insn::{CALL, EXIT, GOTOL, Insn, JA, PSEUDO_CALL, PSEUDO_MAP, PSEUDO_MAP_VALUE};

const ALU: [&str; 14] =
    ["+=", "-=", "*=", "/=", "|=", "&=", "<<=", ">>=", "neg", "%=", "^=", "=", "s>>=", "endian"];
const JUMP: [&str; 14] =
    ["jmp", "==", ">", ">=", "&", "!=", "s>", "s>=", "call", "exit", "<", "<=", "s<", "s<="];

/// One instruction.
pub(crate) fn of(insns: &[Insn], at: usize) -> String {
    let insn = insns[at];
    let body = match insn.opcode & 7 {
        4 | 7 => alu(insn),
        5 | 6 => jump(insn),
        0 => wide(insns, at),
        1 => {
            let signed = if insn.opcode >> 5 == 4 { "s" } else { "u" };
            let size = size_of(insn.opcode) * 8;
            format!("r{} = *({signed}{size} *)(r{} {:+})", insn.dst, insn.src, insn.offset)
        }
        2 => {
            let size = size_of(insn.opcode) * 8;
            format!("*(u{size} *)(r{} {:+}) = {}", insn.dst, insn.offset, insn.imm)
        }
        _ if insn.opcode >> 5 == 6 => atomic(insn),
        _ => {
            let size = size_of(insn.opcode) * 8;
            format!("*(u{size} *)(r{} {:+}) = r{}", insn.dst, insn.offset, insn.src)
        }
    };
    format!("({:02x}) {body}", insn.opcode)
}

fn alu(insn: Insn) -> String {
    let name = if insn.opcode & 7 == 7 { 'r' } else { 'w' };
    let op = ALU.get(usize::from(insn.opcode >> 4)).copied().unwrap_or("?");
    match insn.opcode >> 4 {
        0x8 => format!("{name}{0} = -{name}{0}", insn.dst),
        0xd => {
            let order = match (insn.opcode & 7, insn.opcode & 8) {
                (7, _) => "bswap",
                (_, 0) => "le",
                _ => "be",
            };
            format!("r{0} = {order}{1} r{0}", insn.dst, insn.imm)
        }
        _ if insn.opcode & 8 == 0 => format!("{name}{} {op} {}", insn.dst, insn.imm),
        0xb if insn.offset != 0 => {
            format!("{name}{} = (s{}){name}{}", insn.dst, insn.offset, insn.src)
        }
        _ => format!("{name}{} {op} {name}{}", insn.dst, insn.src),
    }
}

fn jump(insn: Insn) -> String {
    let name = if insn.opcode & 7 == 5 { 'r' } else { 'w' };
    let distance = jump_distance(insn).unwrap_or(0);
    match insn.opcode {
        CALL if insn.src == PSEUDO_CALL => format!("call pc{:+}", insn.imm),
        CALL => format!("call bpf_{}#{}", HelperId(insn.imm as u32).name(), insn.imm),
        EXIT => "exit".to_owned(),
        JA => format!("goto pc{distance:+}"),
        GOTOL => format!("gotol pc{distance:+}"),
        MAY_GOTO => format!("may_goto pc{distance:+}"),
        _ => {
            let op = JUMP.get(usize::from(insn.opcode >> 4)).copied().unwrap_or("?");
            if insn.opcode & 8 != 0 {
                format!("if {name}{} {op} {name}{} goto pc{distance:+}", insn.dst, insn.src)
            } else {
                format!("if {name}{} {op} {:#x} goto pc{distance:+}", insn.dst, insn.imm)
            }
        }
    }
}

fn wide(insns: &[Insn], at: usize) -> String {
    let insn = insns[at];
    if is_legacy_load(insn) {
        let size = size_of(insn.opcode) * 8;
        return match insn.opcode >> 5 {
            1 => format!("r0 = *(u{size} *)skb[{}]", insn.imm),
            _ => format!("r0 = *(u{size} *)skb[r{} + {}]", insn.src, insn.imm),
        };
    }
    let high = insns.get(at + 1).map_or(0, |second| second.imm as u32);
    match insn.src {
        PSEUDO_MAP => format!("r{} = map[id:{}]", insn.dst, insn.imm),
        PSEUDO_MAP_VALUE => format!("r{} = map[id:{}][0]+{high}", insn.dst, insn.imm),
        PSEUDO_FUNCTION => format!("r{} = func pc{:+}", insn.dst, insn.imm),
        _ => {
            let value = u64::from(insn.imm as u32) | u64::from(high) << 32;
            format!("r{} = {value:#x}", insn.dst)
        }
    }
}

fn atomic(insn: Insn) -> String {
    let size = size_of(insn.opcode) * 8;
    let (dst, src, offset) = (insn.dst, insn.src, insn.offset);
    let place = format!("(u{size} *)(r{dst} {offset:+})");
    let width = if size == 64 { "64" } else { "" };
    let op = |imm: i32| match imm {
        0x40 => ("|=", "or"),
        0x50 => ("&=", "and"),
        0xa0 => ("^=", "xor"),
        _ => ("+=", "add"),
    };
    match insn.imm {
        0xe1 => format!("r{src} = atomic{width}_xchg({place}, r{src})"),
        0xf1 => format!("r0 = atomic{width}_cmpxchg({place}, r0, r{src})"),
        0x100 => format!("r{dst} = load_acquire((u{size} *)(r{src} {offset:+}))"),
        0x110 => format!("store_release({place}, r{src})"),
        imm if imm & 1 != 0 => {
            format!("r{src} = atomic{width}_fetch_{}({place}, r{src})", op(imm & !1).1)
        }
        imm => format!("lock *{place} {} r{src}", op(imm).0),
    }
}
