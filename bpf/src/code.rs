//! Decoded operations, and what is checked of a program before it may run at all.

use crate::helper::HelperId;
use crate::hook::{Hook, ProgramType};
use crate::insn::{Code, FETCH, Insn, PSEUDO_MAP, PSEUDO_MAP_VALUE, R10, ZERO};
use crate::memory;

/// The most instructions of a program (`BPF_COMPLEXITY_LIMIT_INSNS`).
const MAX_INSNS: usize = 1_000_000;

/// One slot, decoded. The second slot of a 64-bit immediate load is never reached.
#[derive(Clone, Copy)]
pub(crate) struct Op {
    pub(crate) code: Code,
    pub(crate) dst: u8,
    /// [`ZERO`] for immediate forms: the second operand is always `register + imm`.
    pub(crate) src: u8,
    /// Memory: the offset. Jumps and local calls: the target's index.
    pub(crate) offset: i32,
    pub(crate) imm: u64,
}

/// Why an instruction may not run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// No instruction, or too many.
    #[error("{0} instructions; 1 to {MAX_INSNS} are allowed")]
    Length(usize),
    /// Not an instruction, or a reserved field is not zero.
    #[error("unknown opcode or reserved fields: {0:02x?}")]
    Opcode([u8; 8]),
    /// A register above r10.
    #[error("R{0} is invalid")]
    Register(u8),
    /// r10 may only be read.
    #[error("frame pointer is read only")]
    FramePointer,
    /// The second slot of a 64-bit immediate load is missing or wrong.
    #[error("invalid bpf_ld_imm64 insn")]
    LdImm64,
    /// A pseudo source of a 64-bit immediate load that Weir does not have.
    #[error("unrecognized bpf_ld_imm64 source {0}")]
    PseudoSource(u8),
    /// A jump that leaves its function, or lands inside of an instruction.
    #[error("jump out of range to insn {0}")]
    Jump(i64),
    /// The function runs over its end.
    #[error("last insn is not an exit or jmp")]
    LastInsn,
    /// A helper that programs of this type may not call, or that Weir does not have.
    #[error("program of this type cannot use helper bpf_{name}#{id}")]
    Helper {
        /// Its number.
        id: u32,
        /// Its name.
        name: &'static str,
    },
    /// The helper asks for a GPL-compatible licence.
    #[error("cannot call GPL-restricted function bpf_{0} from non-GPL compatible program")]
    License(&'static str),
}

/// Decodes and checks a linked program. Maps are named by their index among the program's own.
pub(crate) fn decode(
    insns: &[Insn],
    hook: &Hook,
    gpl: bool,
    maps: usize,
) -> Result<Box<[Op]>, (usize, Refusal)> {
    if insns.is_empty() || insns.len() > MAX_INSNS {
        return Err((0, Refusal::Length(insns.len())));
    }
    let mut ops = Vec::with_capacity(insns.len());
    let mut at = 0;
    while at < insns.len() {
        let fail = |refusal| (at, refusal);
        let mut op = operation(insns, at, maps).map_err(fail)?;
        if op.code == Code::TailCall && hook.program_type == ProgramType::Bare {
            // The host's own number 12.
            op.code = Code::Call;
        }
        if matches!(op.code, Code::Call | Code::TailCall) {
            check_helper(insns[at].imm as u32, hook, gpl).map_err(fail)?;
        }
        if op.code == Code::CallRegister && hook.program_type != ProgramType::Bare {
            // Only the verifier could tell which helper it is.
            return Err(fail(Refusal::Opcode(insns[at].to_bytes())));
        }
        ops.push(op);
        if op.code == Code::LdImm64 {
            ops.push(Op { code: Code::Exit, ..op });
            at += 1;
        }
        at += 1;
    }
    check_flow(insns, &ops)?;
    Ok(ops.into_boxed_slice())
}

fn operation(insns: &[Insn], at: usize, maps: usize) -> Result<Op, Refusal> {
    let insn = insns[at];
    let mut code = insn.code().ok_or(Refusal::Opcode(insn.to_bytes()))?;
    let pseudo = matches!(code, Code::LdImm64 | Code::CallLocal);
    if insn.dst > R10 || (insn.src > R10 && !pseudo) {
        return Err(Refusal::Register(insn.dst.max(insn.src)));
    }
    let ordered = (Code::LoadAcquire8..=Code::StoreRelease64).contains(&code);
    let fetches = matches!(code, Code::Atomic32 | Code::Atomic64) && insn.imm & FETCH != 0;
    if (code.writes_dst() && insn.dst == R10) || (fetches && insn.src == R10) {
        return Err(Refusal::FramePointer);
    }
    let immediate = matches!(insn.opcode & 7, 4..=7) && insn.opcode & 8 == 0;
    let source_is_zero = immediate || insn.opcode & 7 == 2;
    let (mut offset, mut imm) = (i32::from(insn.offset), i64::from(insn.imm) as u64);
    if ordered {
        // It says which operation this is, which is no part of an address or a value.
        imm = 0;
    }
    match code {
        Code::Call if insn.imm as u32 == HelperId::TAIL_CALL.0 => code = Code::TailCall,
        Code::LdImm64 => imm = wide_immediate(insns, at, maps)?,
        Code::Gotol | Code::CallLocal => offset = target(at, insn.imm, insns.len())?,
        Code::Ja => offset = target(at, offset, insns.len())?,
        code if code.is_conditional() => offset = target(at, offset, insns.len())?,
        _ => {}
    }
    let src = if source_is_zero || pseudo { ZERO } else { insn.src };
    Ok(Op { code, dst: insn.dst, src, offset, imm })
}

fn target(at: usize, distance: i32, length: usize) -> Result<i32, Refusal> {
    let target = at as i64 + 1 + i64::from(distance);
    // The length is at most a million, so that a target within it fits.
    if (0..length as i64).contains(&target) {
        Ok(target as i32)
    } else {
        Err(Refusal::Jump(target))
    }
}

fn wide_immediate(insns: &[Insn], at: usize, maps: usize) -> Result<u64, Refusal> {
    let first = insns[at];
    let second = insns.get(at + 1).copied().ok_or(Refusal::LdImm64)?;
    if second != (Insn { imm: second.imm, ..Insn::default() }) || first.offset != 0 {
        return Err(Refusal::LdImm64);
    }
    let map = first.imm as u32 as usize;
    match first.src {
        0 => Ok(u64::from(first.imm as u32) | u64::from(second.imm as u32) << 32),
        PSEUDO_MAP | PSEUDO_MAP_VALUE if map >= maps => Err(Refusal::LdImm64),
        PSEUDO_MAP if second.imm != 0 => Err(Refusal::LdImm64),
        PSEUDO_MAP => Ok(memory::map_handle(map)),
        PSEUDO_MAP_VALUE => Ok(memory::map_value(map) + u64::from(second.imm as u32)),
        other => Err(Refusal::PseudoSource(other)),
    }
}

fn check_helper(id: u32, hook: &Hook, gpl: bool) -> Result<(), Refusal> {
    if hook.program_type == ProgramType::Bare {
        return Ok(());
    }
    let helper = HelperId(id);
    let legal = hook.helpers.contains(&helper);
    let Some(prototype) = helper.prototype().filter(|_| legal) else {
        return Err(Refusal::Helper { id, name: helper.name() });
    };
    if prototype.gpl_only && !gpl { Err(Refusal::License(helper.name())) } else { Ok(()) }
}

/// `check_subprogs`: functions begin where they are called, jumps stay inside, none runs over.
fn check_flow(insns: &[Insn], ops: &[Op]) -> Result<(), (usize, Refusal)> {
    let mut starts = vec![0];
    starts.extend(ops.iter().filter(|op| op.code == Code::CallLocal).map(|op| op.offset as usize));
    starts.sort_unstable();
    starts.dedup();
    for (i, start) in starts.iter().enumerate() {
        let end = starts.get(i + 1).copied().unwrap_or(ops.len());
        if is_second_slot(insns, *start) {
            return Err((*start, Refusal::Jump(*start as i64)));
        }
        for (at, op) in ops.iter().enumerate().take(end).skip(*start) {
            let jumps = matches!(op.code, Code::Ja | Code::Gotol) || op.code.is_conditional();
            let to = op.offset as usize;
            let inside = (*start..end).contains(&to) && !is_second_slot(insns, to);
            if jumps && !is_second_slot(insns, at) && !inside {
                return Err((at, Refusal::Jump(i64::from(op.offset))));
            }
        }
        let ends = matches!(ops[end - 1].code, Code::Exit | Code::Ja | Code::Gotol);
        if !ends || is_second_slot(insns, end - 1) {
            return Err((end - 1, Refusal::LastInsn));
        }
    }
    Ok(())
}

/// Second slots are all but the immediate zero, which no instruction is: opcode 0 is unknown.
fn is_second_slot(insns: &[Insn], at: usize) -> bool {
    insns[at].opcode == 0
}
