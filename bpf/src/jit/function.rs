//! One function of a program as Cranelift's.

use cranelift_codegen::ir::types::{I8, I8X16, I16, I32, I64};
use cranelift_codegen::ir::{
    self, AtomicRmwOp, Block, ExtFuncData, ExternalName, FuncRef, InstBuilder, MemFlagsData, Type,
    UserExternalName, Value,
};
use cranelift_codegen::isa::TargetIsa;
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext, Variable};

use super::compile::inner_signature;
use super::facts::{Facts, Span, has_length, value_address};
use super::proof::Proof;
use super::{alu, call};
use crate::code::Op;
use crate::insn::{CMPXCHG, Code, FETCH, MAY_GOTO_LOOPS, PSEUDO_MAP, R10, XCHG, ZERO};
use crate::machine::FRAME;
use crate::program::Program;

/// What the work on one function needs.
pub(super) struct Work<'a, 'b> {
    pub(super) b: FunctionBuilder<'b>,
    pub(super) proof: &'a Proof<'a>,
    pub(super) program: &'a Program,
    pub(super) facts: &'a Facts,
    pub(super) isa: &'a dyn TargetIsa,
    /// The run ([`super::run::Running`]).
    pub(super) run: Value,
    /// The first instruction of the block at work.
    pub(super) block_start: usize,
    frame: Value,
    registers: [Variable; 10],
    loops: Variable,
    span: Span,
    /// The block that begins at an instruction, counted from the function's first.
    blocks: Vec<Option<Block>>,
}

/// Builds a function of the program.
pub(super) fn build(
    function: &mut ir::Function,
    context: &mut FunctionBuilderContext,
    isa: &dyn TargetIsa,
    proof: &Proof<'_>,
    facts: &Facts,
    index: usize,
) {
    let program = proof.program();
    let span = facts.functions[index];
    let mut b = FunctionBuilder::new(function, context);
    let entry = b.create_block();
    b.append_block_params_for_function_params(entry);
    b.switch_to_block(entry);
    let parameters = b.block_params(entry).to_vec();
    let registers: [Variable; 10] = std::array::from_fn(|_| b.declare_var(I64));
    let loops = b.declare_var(I32);
    let zero = b.ins().iconst(I64, 0);
    for (number, register) in registers.iter().enumerate() {
        let given = number.checked_sub(1).and_then(|i| parameters.get(2 + i)).copied();
        b.def_var(*register, given.filter(|_| number <= 5).unwrap_or(zero));
    }
    let most = b.ins().iconst(I32, i64::from(MAY_GOTO_LOOPS));
    b.def_var(loops, most);
    if index == 0 && !has_length(program) {
        b.def_var(registers[2], zero);
    }
    let (run, frame) = (parameters[0], parameters[1]);
    let blocks = vec![None; span.end - span.start];
    let block_start = span.start;
    let mut work = Work {
        b,
        proof,
        program,
        facts,
        isa,
        run,
        block_start,
        frame,
        registers,
        loops,
        span,
        blocks,
    };
    work.clear_stack();
    work.translate();
    work.b.seal_all_blocks();
    work.b.finalize(isa.frontend_config());
}

/// Builds the C function that enters the program.
pub(super) fn build_entry(
    function: &mut ir::Function,
    context: &mut FunctionBuilderContext,
    isa: &dyn TargetIsa,
) {
    let mut b = FunctionBuilder::new(function, context);
    let entry = b.create_block();
    b.append_block_params_for_function_params(entry);
    b.switch_to_block(entry);
    let parameters = b.block_params(entry).to_vec();
    let program = reference(&mut b, 0);
    let called = b.ins().call(program, &parameters);
    let result = b.inst_results(called)[0];
    b.ins().return_(&[result]);
    b.seal_all_blocks();
    b.finalize(isa.frontend_config());
}

fn reference(b: &mut FunctionBuilder<'_>, index: usize) -> FuncRef {
    let name = UserExternalName::new(0, index as u32);
    let name = ExternalName::User(b.func.declare_imported_user_function(name));
    let signature = b.import_signature(inner_signature(index));
    b.import_function(ExtFuncData { name, signature, colocated: true, patchable: false })
}

/// Memory that programs access: it is there, perhaps not aligned.
pub(super) fn memory() -> MemFlagsData {
    MemFlagsData::new().with_notrap()
}

impl Work<'_, '_> {
    pub(super) fn register(&mut self, number: u8) -> Value {
        match number {
            R10 => self.frame,
            ZERO => self.b.ins().iconst(I64, 0),
            _ => self.b.use_var(self.registers[usize::from(number)]),
        }
    }

    pub(super) fn set(&mut self, number: u8, value: Value) {
        self.b.def_var(self.registers[usize::from(number)], value);
    }

    /// What a call leaves in r0, and nothing in r1–r5.
    pub(super) fn set_result(&mut self, value: Value) {
        self.set(0, value);
        let zero = self.b.ins().iconst(I64, 0);
        (1..=5).for_each(|number| self.set(number, zero));
    }

    /// Zeroes the stack, so that what was never written reads as it does in the interpreter.
    fn clear_stack(&mut self) {
        let written = written_first(&self.program.ops[self.span.start..self.span.end]);
        let mut at = FRAME - self.span.stack;
        while at < FRAME {
            let untouched = |bytes: usize| !written[at..at + bytes].iter().all(|byte| *byte);
            let offset = at as i32 - FRAME as i32;
            if at.is_multiple_of(16) && untouched(8) && !written[at + 8..at + 16].iter().all(|b| *b)
            {
                let byte = self.b.ins().iconst(I8, 0);
                let zeros = self.b.ins().splat(I8X16, byte);
                self.b.ins().store(memory(), zeros, self.frame, offset);
                at += 16;
                continue;
            }
            if untouched(8) {
                let zero = self.b.ins().iconst(I64, 0);
                self.b.ins().store(memory(), zero, self.frame, offset);
            }
            at += 8;
        }
    }

    /// The blocks that can be reached, each once.
    fn translate(&mut self) {
        let starts = self.block_starts();
        let first = self.block(self.span.start);
        self.b.ins().jump(first, &[]);
        let mut pending = vec![self.span.start];
        let mut done = vec![false; self.span.end - self.span.start];
        while let Some(start) = pending.pop() {
            if std::mem::replace(&mut done[start - self.span.start], true) {
                continue;
            }
            let block = self.block(start);
            self.b.switch_to_block(block);
            self.block_start = start;
            let mut at = start;
            loop {
                let op = self.program.ops[at];
                let next = at + if op.code == Code::LdImm64 { 2 } else { 1 };
                if self.ends_block(op, next, &mut pending) {
                    break;
                }
                self.instruction(op, at);
                at = next;
                if starts[at - self.span.start] {
                    let block = self.block(at);
                    self.b.ins().jump(block, &[]);
                    pending.push(at);
                    break;
                }
            }
        }
    }

    /// Where blocks begin: at targets, and behind jumps.
    fn block_starts(&self) -> Vec<bool> {
        let mut starts = vec![false; self.span.end - self.span.start + 1];
        for (at, op) in
            self.program.ops.iter().enumerate().take(self.span.end).skip(self.span.start)
        {
            let jumps = matches!(op.code, Code::Ja | Code::Gotol) || op.code.is_conditional();
            // A second slot has its first one's fields, which for a jump are none.
            if jumps {
                starts[op.offset as usize - self.span.start] = true;
                starts[at + 1 - self.span.start] = true;
            }
        }
        starts
    }

    fn block(&mut self, at: usize) -> Block {
        let index = at - self.span.start;
        if let Some(block) = self.blocks[index] {
            return block;
        }
        let block = self.b.create_block();
        self.blocks[index] = Some(block);
        block
    }

    /// Translates an instruction that ends its block; false if it is none.
    fn ends_block(&mut self, op: Op, next: usize, pending: &mut Vec<usize>) -> bool {
        let target = op.offset as usize;
        match op.code {
            Code::Exit => {
                let result = self.register(0);
                let fine = self.b.ins().iconst(I64, 0);
                self.b.ins().return_(&[result, fine]);
            }
            Code::Ja | Code::Gotol => {
                let block = self.block(target);
                self.b.ins().jump(block, &[]);
                pending.push(target);
            }
            code if code.is_conditional() => {
                let condition = if code == Code::MayGoto {
                    self.may_goto()
                } else {
                    let (left, right) = (self.register(op.dst), self.operand(op));
                    alu::condition(&mut self.b, code, left, right)
                };
                let (taken, other) = (self.block(target), self.block(next));
                self.b.ins().brif(condition, taken, &[], other, &[]);
                pending.extend([next, target]);
            }
            _ => return false,
        }
        true
    }

    /// Has the function met its `may_goto` too often? Counts this time.
    fn may_goto(&mut self) -> Value {
        let left = self.b.use_var(self.loops);
        let zero = self.b.ins().iconst(I32, 0);
        let one = self.b.ins().iconst(I32, 1);
        let none = self.b.ins().icmp(ir::condcodes::IntCC::Equal, left, zero);
        let fewer = self.b.ins().isub(left, one);
        let after = self.b.ins().select(none, zero, fewer);
        self.b.def_var(self.loops, after);
        none
    }

    fn instruction(&mut self, op: Op, at: usize) {
        use Code::*;
        match op.code {
            Load8 | LoadSx8 | LoadAcquire8 => self.load(op, I8),
            Load16 | LoadSx16 | LoadAcquire16 => self.load(op, I16),
            Load32 | LoadSx32 | LoadAcquire32 => self.load(op, I32),
            Load64 | LoadAcquire64 => self.load(op, I64),
            Store8 | StoreRelease8 => self.store(op, I8),
            Store16 | StoreRelease16 => self.store(op, I16),
            Store32 | StoreRelease32 => self.store(op, I32),
            Store64 | StoreRelease64 => self.store(op, I64),
            Atomic32 => self.atomic(op, I32),
            Atomic64 => self.atomic(op, I64),
            LdImm64 => self.immediate(op, at),
            Call => call::helper(self, op, at),
            TailCall => self.tail_call(),
            CallRegister => call::by_register(self, op, at),
            CallLocal => self.call_local(op),
            _ => {
                let (left, right) = (self.register(op.dst), self.operand(op));
                let constant = (op.src == ZERO).then_some(op.imm);
                let result = alu::operation(&mut self.b, op.code, left, right, constant);
                self.set(op.dst, result);
            }
        }
    }

    /// The second operand: a register, or a constant.
    fn operand(&mut self, op: Op) -> Value {
        match op.src {
            ZERO => self.b.ins().iconst(I64, op.imm as i64),
            register => self.register(register),
        }
    }

    fn address(&mut self, register: u8, op: Op) -> Value {
        let base = self.register(register);
        self.b.ins().iadd_imm_s(base, i64::from(op.offset))
    }

    fn load(&mut self, op: Op, width: Type) {
        let value = if (Code::LoadAcquire8..=Code::LoadAcquire64).contains(&op.code) {
            let address = self.address(op.src, op);
            self.b.ins().atomic_load(width, memory(), address)
        } else {
            let base = self.register(op.src);
            self.b.ins().load(width, memory(), base, op.offset)
        };
        let signed = (Code::LoadSx8..=Code::LoadSx32).contains(&op.code);
        let value = match (width == I64, signed) {
            (true, _) => value,
            (false, true) => self.b.ins().sextend(I64, value),
            (false, false) => self.b.ins().uextend(I64, value),
        };
        self.set(op.dst, value);
    }

    fn store(&mut self, op: Op, width: Type) {
        let value = self.operand(op);
        let value = self.narrowed(value, width);
        if (Code::StoreRelease8..=Code::StoreRelease64).contains(&op.code) {
            let address = self.address(op.dst, op);
            self.b.ins().atomic_store(memory(), value, address);
        } else {
            let base = self.register(op.dst);
            self.b.ins().store(memory(), value, base, op.offset);
        }
    }

    fn narrowed(&mut self, value: Value, width: Type) -> Value {
        if width == I64 { value } else { self.b.ins().ireduce(width, value) }
    }

    fn atomic(&mut self, op: Op, width: Type) {
        let kind = op.imm as i32;
        let address = self.address(op.dst, op);
        let operand = self.register(op.src);
        let operand = self.narrowed(operand, width);
        let old = if kind == CMPXCHG | FETCH {
            let expected = self.register(0);
            let expected = self.narrowed(expected, width);
            self.b.ins().atomic_cas(memory(), address, expected, operand)
        } else {
            let operation = match kind & !FETCH {
                _ if kind == XCHG | FETCH => AtomicRmwOp::Xchg,
                0x40 => AtomicRmwOp::Or,
                0x50 => AtomicRmwOp::And,
                0xa0 => AtomicRmwOp::Xor,
                _ => AtomicRmwOp::Add,
            };
            self.b.ins().atomic_rmw(width, memory(), operation, address, operand)
        };
        if kind & FETCH != 0 {
            let old = if width == I64 { old } else { self.b.ins().uextend(I64, old) };
            self.set(if kind == CMPXCHG | FETCH { 0 } else { op.src }, old);
        }
    }

    /// A constant, the address of a map, or the address of a map's value.
    fn immediate(&mut self, op: Op, at: usize) {
        let insn = self.program.insns()[at];
        let map = self.program.maps.get(insn.imm as u32 as usize);
        let value = match map {
            Some(map) if insn.src == PSEUDO_MAP => std::sync::Arc::as_ptr(map) as u64,
            Some(map) if value_address(insn) => {
                let first = map.values().map_or(0, |values| values.cells().start() as u64);
                let within = self.program.insns()[at + 1].imm as u32;
                first.wrapping_add(within.into())
            }
            _ => op.imm,
        };
        let value = self.b.ins().iconst(I64, value as i64);
        self.set(op.dst, value);
    }

    fn call_local(&mut self, op: Op) {
        let index = self.facts.function_at(op.offset as usize).expect("calls lead to functions");
        let function = reference(&mut self.b, index);
        let frame = self.b.ins().iadd_imm_s(self.frame, FRAME as i64);
        let mut arguments = vec![self.run, frame];
        let count = if index == 0 { 2 } else { 5 };
        arguments.extend((1..=count).map(|number| self.register(number)));
        let called = self.b.ins().call(function, &arguments);
        let results = self.b.inst_results(called).to_vec();
        if self.facts.tail_calls {
            call::this_program_again(self);
        }
        self.unless_faulted(results[1]);
        self.set_result(results[0]);
    }

    /// Goes on in another program, in the same frame, or here if there is none.
    fn tail_call(&mut self) {
        let (map, index) = (self.register(2), self.register(3));
        let target = call::next_program(self, map, index);
        let (leave, go_on) = (self.b.create_block(), self.b.create_block());
        self.b.ins().brif(target, leave, &[], go_on, &[]);
        self.b.switch_to_block(leave);
        let signature = self.b.import_signature(inner_signature(0));
        let zero = self.b.ins().iconst(I64, 0);
        let arguments = [self.run, self.frame, self.register(1), zero];
        self.b.ins().return_call_indirect(signature, target, &arguments);
        self.b.switch_to_block(go_on);
        let zero = self.b.ins().iconst(I64, 0);
        self.set_result(zero);
    }

    /// Goes on, or, if a value is not zero, leaves the run.
    pub(super) fn unless_faulted(&mut self, faulted: Value) {
        let (leave, go_on) = (self.b.create_block(), self.b.create_block());
        self.b.set_cold_block(leave);
        self.b.ins().brif(faulted, leave, &[], go_on, &[]);
        self.b.switch_to_block(leave);
        let zero = self.b.ins().iconst(I64, 0);
        let one = self.b.ins().iconst(I64, 1);
        self.b.ins().return_(&[zero, one]);
        self.b.switch_to_block(go_on);
    }
}

/// The bytes of a frame that a function surely writes before anything else is done with its stack.
fn written_first(ops: &[Op]) -> [bool; FRAME] {
    let mut written = [false; FRAME];
    // Registers that hold no address of the stack: the program's argument, and what comes of it.
    let mut elsewhere = [false; 16];
    elsewhere[1] = true;
    let mut ops = ops.iter();
    while let Some(op) = ops.next() {
        let size = match op.code {
            Code::Store8 => 1,
            Code::Store16 => 2,
            Code::Store32 => 4,
            Code::Store64 => 8,
            Code::Load8 | Code::Load16 | Code::Load32 | Code::Load64
                if elsewhere[usize::from(op.src)] =>
            {
                elsewhere[usize::from(op.dst)] = false;
                continue;
            }
            Code::Mov64 if op.src != ZERO => {
                elsewhere[usize::from(op.dst)] = elsewhere[usize::from(op.src)];
                continue;
            }
            Code::LdImm64 => {
                elsewhere[usize::from(op.dst)] = false;
                ops.next();
                continue;
            }
            code if code < Code::Jeq64 => {
                elsewhere[usize::from(op.dst)] = false;
                continue;
            }
            _ => break,
        };
        let start = FRAME as i64 + i64::from(op.offset);
        if op.dst == R10 && start >= 0 && start + size <= FRAME as i64 {
            written[start as usize..(start + size) as usize].fill(true);
        }
    }
    written
}
