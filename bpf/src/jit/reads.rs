//! Which bytes of its context a program may read: what its outcome can depend on.
//!
//! A walk over all instructions, with the registers that may hold the context's address. Where that
//! address is added to, or leaves the registers, it may be any byte.

use crate::code::Op;
use crate::insn::{Code, R10, ZERO};
use crate::program::Program;

use super::facts::{is_second_slot, is_store};

/// Bit n for register n.
type Registers = u16;

/// The bytes, bit n for byte n.
pub(super) fn context_bytes(program: &Program) -> u128 {
    let size = program.hook().context_size as u32;
    if size == 0 {
        return 0;
    }
    read(program).unwrap_or(u128::MAX >> (128 - size.min(128)))
}

/// `None` if it cannot be told.
fn read(program: &Program) -> Option<u128> {
    let ops = &program.ops;
    let mut before: Vec<Option<Registers>> = vec![None; ops.len()];
    let mut pending = vec![(0, 1 << 1)];
    let mut bytes = 0;
    while let Some((at, may)) = pending.pop() {
        let known = before.get(at)?;
        let all = known.unwrap_or(0) | may;
        if *known == Some(all) {
            continue;
        }
        before[at] = Some(all);
        let op = ops[at];
        bytes |= bytes_of(op, all)?;
        let after = after(op, all)?;
        let next = at + if op.code == Code::LdImm64 { 2 } else { 1 };
        match op.code {
            Code::Exit => {}
            Code::Ja | Code::Gotol => pending.push((op.offset as usize, after)),
            // What a function is given it may read; its caller keeps r6 to r9.
            Code::CallLocal => pending.extend([(op.offset as usize, all & 0x3e), (next, after)]),
            code if code.is_conditional() => {
                pending.extend([(op.offset as usize, after), (next, after)]);
            }
            _ if is_second_slot(program, at) => return None,
            _ => pending.push((next, after)),
        }
    }
    Some(bytes)
}

fn has(registers: Registers, register: u8) -> bool {
    register < R10 && registers >> register & 1 == 1
}

/// The bytes that a load reads of the context.
fn bytes_of(op: Op, may: Registers) -> Option<u128> {
    let size = match op.code {
        Code::Load8 | Code::LoadSx8 => 1,
        Code::Load16 | Code::LoadSx16 => 2,
        Code::Load32 | Code::LoadSx32 => 4,
        Code::Load64 => 8,
        code if (Code::LoadAcquire8..=Code::LoadAcquire64).contains(&code) && has(may, op.src) => {
            return None;
        }
        _ => return Some(0),
    };
    if !has(may, op.src) {
        return Some(0);
    }
    let at = u32::try_from(op.offset).ok().filter(|at| at + size <= 128)?;
    Some(((1_u128 << size) - 1) << at)
}

/// The registers that may hold the address after an instruction.
fn after(op: Op, may: Registers) -> Option<Registers> {
    let without = may & !(1 << op.dst.min(15));
    match op.code {
        Code::Mov64 if op.src != ZERO && has(may, op.src) => Some(without | 1 << op.dst),
        Code::Call | Code::CallRegister | Code::CallLocal | Code::TailCall => Some(may & !0x3f),
        // Spilled, or handed over: it may come back anywhere.
        code if is_store(code) && has(may, op.src) => None,
        Code::Mov64 | Code::Mov32 => Some(without),
        // Sums and the like.
        code if code < Code::Jeq64 && (has(may, op.dst) || has(may, op.src)) => None,
        code if code.writes_dst() => Some(without),
        _ => Some(may),
    }
}
