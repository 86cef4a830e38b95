//! Changing an instruction (libbpf's `bpf_core_patch_insn`).

use super::value::Outcome;
use crate::insn::{CALL, Insn};

/// The helper that does not exist: what reaches a poisoned instruction calls it.
const POISON: i32 = 0xbad_2310;

pub(super) fn patch(insns: &mut [Insn], at: usize, of: &Outcome) -> Result<(), &'static str> {
    const OTHER: &str = "CO-RE relocation: the instruction does not hold what its type says";
    let insn = insns.get_mut(at).ok_or("CO-RE relocation of no instruction")?;
    let is_wide = insn.is_ld_imm64();
    if of.poison {
        return poison(insns, at);
    }
    match insn.opcode & 7 {
        // ALU and ALU64, with an immediate.
        4 | 7 if insn.opcode & 0x08 == 0 => {
            if of.validate && i64::from(insn.imm) as u64 as u32 != of.old_value as u32 {
                return Err(OTHER);
            }
            insn.imm = of.new_value as i32;
        }
        // LDX, ST, STX.
        1..=3 => {
            if of.validate && i64::from(insn.offset) as u64 != of.old_value {
                return Err(OTHER);
            }
            let offset = i16::try_from(of.new_value)
                .map_err(|_| "CO-RE relocation: the target's offset does not fit a load")?;
            if of.wrong_size {
                return poison(insns, at);
            }
            insn.offset = offset;
            if of.old_size != of.new_size {
                resize(insn, of)?;
            }
        }
        0 if is_wide => {
            let Some([first, second]) = insns.get_mut(at..at + 2) else {
                return Err("CO-RE relocation of an instruction that is cut off");
            };
            let plain = first.src == 0 && first.offset == 0;
            let rest = Insn { imm: 0, ..*second } == Insn::default();
            let held = u64::from(first.imm as u32) | u64::from(second.imm as u32) << 32;
            if !plain || !rest || of.validate && held != of.old_value {
                return Err(OTHER);
            }
            first.imm = of.new_value as i32;
            second.imm = (of.new_value >> 32) as i32;
        }
        _ => return Err("CO-RE relocation of an instruction that takes none"),
    }
    Ok(())
}

fn poison(insns: &mut [Insn], at: usize) -> Result<(), &'static str> {
    let slots = if insns[at].is_ld_imm64() { 2 } else { 1 };
    let call = Insn { opcode: CALL, imm: POISON, ..Insn::default() };
    for insn in insns.iter_mut().skip(at).take(slots) {
        *insn = call;
    }
    Ok(())
}

fn resize(insn: &mut Insn, of: &Outcome) -> Result<(), &'static str> {
    let bytes = match insn.opcode & 0x18 {
        0x00 => 4,
        0x08 => 2,
        0x10 => 1,
        _ => 8,
    };
    let size = match of.new_size {
        4 => 0x00,
        2 => 0x08,
        1 => 0x10,
        8 => 0x18,
        _ => return Err("CO-RE relocation: the target's field has a size that no load has"),
    };
    if bytes != of.old_size {
        return Err("CO-RE relocation: the load has another size than its field");
    }
    insn.opcode = insn.opcode & !0x18 | size;
    Ok(())
}
