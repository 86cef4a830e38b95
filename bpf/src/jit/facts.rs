//! What is known of a program before it is compiled.

use super::proof::Proof;
use super::reads::context_bytes;
use crate::code::Op;
use crate::helper::{HelperId, REPEATABLE};
use crate::hook::ProgramType;
use crate::insn::{Code, Insn, PSEUDO_MAP, PSEUDO_MAP_VALUE, R10, ZERO};
use crate::machine::FRAME;
use crate::map::flags;
use crate::program::Program;

/// One function of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: usize,
    /// Behind its last instruction.
    pub(super) end: usize,
    /// Bytes of stack that it may use.
    pub(super) stack: usize,
}

/// What is known of the program as a whole.
pub(super) struct Facts {
    /// The program first, then the functions that it calls.
    pub(super) functions: Vec<Span>,
    /// The bytes of the context that it may read: bit n for byte n.
    pub(super) context_bytes: u128,
    /// It calls nothing that a second run would not repeat, and stores only to its stack.
    pub(super) repeatable: bool,
    /// It may read fields of sockets.
    pub(super) reads_sockets: bool,
    /// It has pointers to values that others may take out of their maps meanwhile.
    pub(super) holds_values: bool,
    /// It may go on in another program.
    pub(super) tail_calls: bool,
    /// It stores to other memory than its stack.
    stores: bool,
}

impl Facts {
    pub(super) fn of(proof: &Proof<'_>) -> Facts {
        let program = proof.program();
        let ops = &program.ops;
        let mut starts = vec![0];
        starts.extend(
            ops.iter().filter(|op| op.code == Code::CallLocal).map(|op| op.offset as usize),
        );
        starts.sort_unstable();
        starts.dedup();
        let spans = starts.iter().enumerate().map(|(i, start)| {
            let end = starts.get(i + 1).copied().unwrap_or(ops.len());
            let stack =
                proof.stack_depth(i, *start).unwrap_or_else(|| stack_depth(&ops[*start..end]));
            Span { start: *start, end, stack: stack.min(FRAME).next_multiple_of(8) }
        });
        let elsewhere = |at, op: &Op| op.dst != R10 && !proof.is_stack(at);
        let mut accesses = ops.iter().enumerate().filter(|(at, op)| elsewhere(*at, op));
        let stores = accesses.any(|(_, op)| is_store(op.code));
        let repeats = |op: &Op| match op.code {
            Code::Call => REPEATABLE.contains(&HelperId(op.imm as u32)),
            code => !matches!(code, Code::CallRegister | Code::TailCall),
        };
        Facts {
            functions: spans.collect(),
            context_bytes: context_bytes(program),
            tail_calls: ops.iter().any(|op| op.code == Code::TailCall),
            reads_sockets: proof.reads_sockets() || ops.iter().any(|op| op.code == Code::TailCall),
            holds_values: program.maps.iter().any(|map| map.array_layout().is_none()),
            repeatable: !stores && ops.iter().all(repeats),
            stores,
        }
    }

    /// Tells the maps that programs store to their values from now on.
    pub(super) fn tell_maps(&self, program: &Program) {
        let writable = |flags: u32| flags & flags::RDONLY_PROG == 0;
        for map in program.maps.iter().filter(|map| writable(map.spec().flags)) {
            if self.stores && map.values().is_some() {
                map.stored_to();
            }
        }
    }

    /// The function that begins at an instruction.
    pub(super) fn function_at(&self, start: usize) -> Option<usize> {
        self.functions.iter().position(|span| span.start == start)
    }
}

/// The map that a call works on: as the verifier found, or as the instructions just before say.
pub(super) fn map_of_call(proof: &Proof<'_>, block: usize, at: usize) -> Option<usize> {
    proof.map_of_call(at).or_else(|| map_in(proof.program(), block, at, 1))
}

fn map_in(program: &Program, block: usize, at: usize, register: u8) -> Option<usize> {
    let load = source_of(program, block, at, register)?;
    let insn = program.insns()[load];
    let is_map = insn.is_ld_imm64() && insn.src == PSEUDO_MAP;
    is_map.then_some(insn.imm as u32 as usize)
}

/// Is what is in a register before an instruction an address of the stack?
pub(super) fn is_on_stack(program: &Program, block: usize, at: usize, register: u8) -> bool {
    let ops = &program.ops;
    let Some(mut from) = source_of(program, block, at, register) else { return false };
    // Sums of the frame pointer and constants.
    loop {
        let op = ops[from];
        match op.code {
            Code::Add64 if op.src == ZERO => {}
            code => return code == Code::Mov64 && op.src == R10,
        }
        let Some(before) = source_of(program, block, from, op.dst) else { return false };
        from = before;
    }
}

/// Is an immediate load's value an address of a map's value?
pub(super) fn value_address(insn: Insn) -> bool {
    insn.is_ld_imm64() && insn.src == PSEUDO_MAP_VALUE
}

/// The instruction of the same block that a register's value before `at` is from, copies followed.
fn source_of(program: &Program, block: usize, at: usize, register: u8) -> Option<usize> {
    let mut register = register;
    for i in (block..at).rev() {
        let op = program.ops[i];
        if is_second_slot(program, i) {
            continue;
        }
        match op.code {
            Code::Call | Code::CallLocal | Code::CallRegister | Code::TailCall if register <= 5 => {
                return None;
            }
            Code::Mov64 if op.dst == register && op.src != ZERO && op.src != R10 => {
                register = op.src
            }
            code if code.writes_dst() && op.dst == register => return Some(i),
            Code::Atomic32 | Code::Atomic64 if register == 0 || op.src == register => return None,
            _ => {}
        }
    }
    None
}

pub(super) fn is_second_slot(program: &Program, at: usize) -> bool {
    program.insns()[at].opcode == 0
}

pub(super) fn is_store(code: Code) -> bool {
    use Code::{Atomic32, Atomic64, Store8, Store16, Store32, Store64};
    let plain = matches!(code, Store8 | Store16 | Store32 | Store64 | Atomic32 | Atomic64);
    plain || (Code::StoreRelease8..=Code::StoreRelease64).contains(&code)
}

/// Bytes of stack that a function uses, as clang writes them: loads and stores by r10, and copies of
/// it to which a constant is added at once. Anything else means all of it.
fn stack_depth(ops: &[Op]) -> usize {
    let mut depth = 0;
    let below = |offset: i64| if offset < 0 { offset.unsigned_abs() as usize } else { 0 };
    for (i, op) in ops.iter().enumerate() {
        let is_load = matches!(op.code, Code::Load8 | Code::Load16 | Code::Load32 | Code::Load64)
            || (Code::LoadSx8..=Code::LoadSx32).contains(&op.code)
            || (Code::LoadAcquire8..=Code::LoadAcquire64).contains(&op.code);
        if (is_store(op.code) && op.dst == R10) || (is_load && op.src == R10) {
            depth = depth.max(below(op.offset.into()));
        }
        let copied = op.code == Code::Mov64 && op.src == R10;
        let added = ops.get(i + 1).filter(|next| {
            copied && next.code == Code::Add64 && next.src == ZERO && next.dst == op.dst
        });
        match added {
            Some(add) => depth = depth.max(below(add.imm as i64)),
            None if op.src == R10 && !is_load => return FRAME,
            None => {}
        }
    }
    depth
}

/// Has the program r2 as an argument?
pub(super) fn has_length(program: &Program) -> bool {
    program.hook().program_type == ProgramType::Bare
}
