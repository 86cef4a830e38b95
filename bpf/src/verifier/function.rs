//! Functions of the program: calls, callbacks, returns; and what 64-bit immediate loads name.

use super::argument::Meta;
use super::cfg::PSEUDO_FUNCTION;
use super::maps;
use super::program::FunctionArgument;
use super::prototype::DynptrKind;
use super::refusal::{Step, refuse};
use super::register::{Kind, OR_NULL, Register};
use super::state::{Entry, Frame, MAX_FRAMES, NO_CALLER};
use super::walk::{Next, Walk};
use crate::insn::{Insn, PSEUDO_MAP, PSEUDO_MAP_VALUE};

impl Walk<'_> {
    pub(super) fn load_immediate(&mut self, insn: Insn) -> Step {
        if insn.offset != 0 {
            refuse!(EINVAL, "BPF_LD_IMM64 uses reserved fields");
        }
        self.check_write(insn.dst)?;
        let high = self.insns[self.insn as usize + 1].imm as u32;
        let loaded = match insn.src {
            0 => Register::constant(u64::from(insn.imm as u32) | u64::from(high) << 32),
            PSEUDO_FUNCTION => {
                let callee = i64::from(self.insn) + 1 + i64::from(insn.imm);
                let callee = self.graph.subprogram_at(callee).unwrap_or(0);
                if self.program.functions.is_empty() {
                    refuse!(EINVAL, "missing btf func_info");
                }
                if self.is_global(callee) {
                    refuse!(EINVAL, "callback function not static");
                }
                if callee == 0 {
                    refuse!(EINVAL, "callback function cannot be the main program");
                }
                Register { target: callee as u32, ..Register::pointer(Kind::Function) }
            }
            PSEUDO_MAP => {
                Register { target: insn.imm as u32, ..Register::pointer(Kind::MapPointer) }
            }
            PSEUDO_MAP_VALUE => Register {
                target: insn.imm as u32,
                offset: high as i32,
                ..Register::pointer(Kind::MapValue)
            },
            _ => refuse!(EINVAL, "unrecognized bpf_ld_imm64 insn"),
        };
        *self.reg_mut(insn.dst) = loaded;
        Ok(())
    }

    /// Is a function verified by its types, once, and not with each call?
    pub(super) fn is_global(&self, subprogram: usize) -> bool {
        let start = self.graph.subprograms[subprogram].start;
        let functions = self.program.functions;
        functions.iter().any(|function| function.start == start && function.global)
    }

    pub(super) fn call_function(&mut self, insn: Insn) -> Step<Next> {
        let to = i64::from(self.insn) + 1 + i64::from(insn.imm);
        let Some(callee) = self.graph.subprogram_at(to) else {
            refuse!(EFAULT, "verifier bug: invalid subprog start {to}");
        };
        if self.is_global(callee) {
            self.call_global(callee)?;
            return Ok(Next::Insn(self.insn + 1));
        }
        let mut frame = self.new_frame(callee)?;
        frame.registers[1..6].copy_from_slice(&self.state.frame().registers[1..6]);
        for number in 0..6 {
            *self.reg_mut(number) = Register::NOT_INIT;
        }
        self.enter(frame);
        Ok(Next::Insn(self.graph.subprograms[callee].start))
    }

    fn new_frame(&self, callee: usize) -> Step<Frame> {
        let depth = self.state.frames.len();
        if depth >= MAX_FRAMES {
            refuse!(E2BIG, "the call stack of {} frames is too deep", depth + 1);
        }
        Ok(Frame::new(self.insn, depth, callee as u32))
    }

    fn enter(&mut self, frame: Frame) {
        // What a frame before this one had on its stack is no concern of this one.
        self.state.writes[self.state.frames.len()] = u64::MAX;
        self.state.frames.push(frame);
    }

    fn call_global(&mut self, callee: usize) -> Step {
        let start = self.graph.subprograms[callee].start;
        let found = self.program.functions.iter().find(|function| function.start == start);
        let Some(function) = found else {
            refuse!(EFAULT, "verifier bug: no type of func#{callee}")
        };
        if self.state.lock.is_some() {
            refuse!(
                EINVAL,
                "global function calls are not allowed while holding a lock,\nuse static function instead"
            );
        }
        for (i, argument) in function.arguments.iter().enumerate().take(5) {
            let number = i as u8 + 1;
            if let Err(mut refusal) = self.check_global_argument(number, *argument) {
                refusal.message += &format!(
                    "\nCaller passes invalid args into func#{callee} ('{}')",
                    function.name
                );
                return Err(refusal);
            }
        }
        self.called[callee] = true;
        for number in 0..6 {
            *self.reg_mut(number) = Register::NOT_INIT;
        }
        if !function.returns_void {
            *self.reg_mut(0) = Register::UNKNOWN;
        }
        if self.graph.subprograms[callee].changes_packet {
            self.forget_packet();
        }
        Ok(())
    }

    fn check_global_argument(&mut self, number: u8, argument: FunctionArgument) -> Step {
        self.check_read(number)?;
        let register = *self.reg(number);
        match argument {
            FunctionArgument::Scalar if !register.is_scalar() => {
                refuse!(EINVAL, "R{number} is not a scalar");
            }
            FunctionArgument::Scalar => Ok(()),
            FunctionArgument::Context if register.kind != Kind::Context => {
                refuse!(EINVAL, "arg#{} expects pointer to ctx", number - 1);
            }
            FunctionArgument::Context => self.check_unmoved(number),
            FunctionArgument::Memory { nullable: true, .. } if register.is_null() => Ok(()),
            FunctionArgument::Memory { size, nullable } => {
                if register.is(OR_NULL) && !nullable {
                    refuse!(EINVAL, "arg#{} is expected to be non-NULL", number - 1);
                }
                let kept = register;
                self.reg_mut(number).flags &= !OR_NULL;
                let checked = self.check_plain_memory(number, size);
                *self.reg_mut(number) = kept;
                checked
            }
            FunctionArgument::Unsupported => {
                refuse!(EINVAL, "arg#{} is of a type that is not supported", number - 1);
            }
        }
    }

    /// What a global function starts with.
    pub(super) fn prepare_global(
        arguments: &[FunctionArgument],
        frame: &mut Frame,
        mut id: impl FnMut() -> u32,
    ) {
        for (register, argument) in frame.registers[1..6].iter_mut().zip(arguments) {
            *register = match argument {
                FunctionArgument::Scalar | FunctionArgument::Unsupported => Register::UNKNOWN,
                FunctionArgument::Context => Register::pointer(Kind::Context),
                FunctionArgument::Memory { size, nullable } => Register {
                    target: *size,
                    flags: if *nullable { OR_NULL } else { 0 },
                    id: if *nullable { id() } else { 0 },
                    ..Register::pointer(Kind::Memory)
                },
            };
        }
    }

    /// A helper calls back: the callback's walk goes on behind this one's (`push_callback_call`).
    pub(super) fn call_back(&mut self, helper: u32, meta: &Meta) -> Step {
        let callee = meta.function as usize;
        let start = self.graph.subprograms[callee].start;
        let caller = self.state.frame().registers;
        let map = |kind| Register {
            target: meta.map.unwrap_or(0),
            origin: meta.map_origin,
            ..Register::pointer(kind)
        };
        let mut frame = self.new_frame(callee)?;
        let arguments = match helper {
            164 => vec![map(Kind::MapPointer), map(Kind::MapKey), map(Kind::MapValue), caller[3]],
            170 => vec![map(Kind::MapPointer), map(Kind::MapKey), map(Kind::MapValue)],
            181 => vec![Register::UNKNOWN, caller[3]],
            _ => vec![
                Register {
                    target: DynptrKind::Local as u32,
                    id: self.new_id(),
                    ..Register::pointer(Kind::Dynptr)
                },
                caller[3],
            ],
        };
        frame.registers[1..=arguments.len()].copy_from_slice(&arguments);
        if let Some(facts) = meta.map.map(|map| self.maps[map as usize])
            && facts.spin_lock.is_some()
            && matches!(helper, 164 | 170)
        {
            frame.registers[3].id = self.new_id();
        }
        if helper == 170 {
            self.graph.subprograms[callee].is_async = true;
            return self.call_back_later(frame, start);
        }
        self.graph.subprograms[callee].is_callback = true;
        frame.entry = Entry::Callback(0, 1);
        let branch = self.branch_to(start)?;
        branch.callback_unroll_depth += 1;
        branch.frame_mut().callback_depth += 1;
        branch.writes[branch.frames.len()] = u64::MAX;
        branch.frames.push(frame);
        self.state.frame_mut().callback_depth = 0;
        Ok(())
    }

    /// A timer's callback runs on its own, with an empty stack and nothing held.
    fn call_back_later(&mut self, frame: Frame, start: u32) -> Step {
        let entry = self.state.frame().async_entry + 1;
        let branch = self.branch_to(start)?;
        branch.frames.clear();
        branch.frames.push(Frame {
            call: NO_CALLER,
            entry: Entry::AsyncCallback,
            async_entry: entry,
            ..frame
        });
        branch.frames[0].registers[10].frame = 0;
        branch.references.clear();
        branch.lock = None;
        branch.writes = [u64::MAX; MAX_FRAMES];
        Ok(())
    }

    pub(super) fn exit(&mut self) -> Step<Next> {
        let outermost = self.state.depth_of_calls() == 0;
        self.check_leaks("BPF_EXIT instruction in main prog", outermost)?;
        if !outermost {
            return self.leave();
        }
        self.check_result()?;
        Ok(Next::End)
    }

    /// Returns to the caller, or to the helper that called back.
    pub(super) fn leave(&mut self) -> Step<Next> {
        let result = *self.reg(0);
        if result.kind == Kind::Stack {
            refuse!(EINVAL, "cannot return stack pointer to the caller");
        }
        let frame = self.state.frame();
        let call = frame.call;
        if let Entry::Callback(low, high) = frame.entry {
            if !result.is_scalar() {
                refuse!(EACCES, "R0 not a scalar value");
            }
            self.mark_precise(0)?;
            self.check_range(&self.reg(0).bounds, (low, high), "At callback return")?;
            self.state.frames.pop();
            if let Some(before) = self.previous_entry(call, self.state.depth) {
                self.widen(before);
            }
            return Ok(Next::Insn(call));
        }
        self.state.frames.pop();
        *self.reg_mut(0) = result;
        Ok(Next::Insn(call + 1))
    }

    /// The number of bytes that the deepest chain of calls takes, checked against the limits
    /// (`check_max_stack_depth`).
    pub(super) fn check_stack_depth(&self) -> Step<u32> {
        let mut deepest = self.depth_below(0, 0, 0, &mut Vec::new())?;
        for (i, subprogram) in self.graph.subprograms.iter().enumerate() {
            if subprogram.is_async {
                deepest = deepest.max(self.depth_below(i, 0, 0, &mut Vec::new())?);
            }
        }
        Ok(deepest)
    }

    fn depth_below(
        &self,
        subprogram: usize,
        above: u32,
        tail_called: u32,
        path: &mut Vec<usize>,
    ) -> Step<u32> {
        const LIMIT: u32 = 512;
        const TAIL_CALL_LIMIT: u32 = 256;
        let facts = &self.graph.subprograms[subprogram];
        path.push(subprogram);
        if path.len() > MAX_FRAMES {
            refuse!(E2BIG, "the call stack of {} frames is too deep !", path.len());
        }
        if facts.has_tail_call && tail_called >= TAIL_CALL_LIMIT {
            refuse!(
                EACCES,
                "tail_calls are not allowed when call stack of previous frames is {tail_called} bytes. Too large"
            );
        }
        let depth = above + self.stack_depths[subprogram].next_multiple_of(16);
        if depth > LIMIT {
            let calls = path.len();
            refuse!(EACCES, "combined stack size of {calls} calls is {depth}. Too large");
        }
        let mut deepest = depth;
        for at in facts.start..facts.end {
            let insn = self.insns[at as usize];
            let function = insn.is_ld_imm64() && insn.src == PSEUDO_FUNCTION;
            if !insn.is_local_call() && !function {
                continue;
            }
            let to = i64::from(at) + 1 + i64::from(insn.imm);
            let Some(callee) = self.graph.subprogram_at(to) else { continue };
            if function && self.graph.subprograms[callee].is_async {
                continue;
            }
            deepest = deepest.max(self.depth_below(callee, depth, depth, path)?);
        }
        path.pop();
        Ok(deepest)
    }
}

/// Checks that need only the instruction and the maps (`resolve_pseudo_ldimm64`).
pub(super) fn check_wide_load(
    insns: &[Insn],
    at: usize,
    map_list: &[super::program::MapFacts<'_>],
) -> Step {
    let insn = insns[at];
    let second = insns.get(at + 1).copied();
    let empty = |second: Insn| second == Insn { imm: second.imm, ..Insn::default() };
    let Some(second) = second.filter(|second| empty(*second)) else {
        refuse!(EINVAL, "invalid bpf_ld_imm64 insn");
    };
    match insn.src {
        0 => Ok(()),
        PSEUDO_FUNCTION if second.imm == 0 => Ok(()),
        PSEUDO_MAP if second.imm == 0 => match map_list.get(insn.imm as usize) {
            Some(_) => Ok(()),
            None => refuse!(EBADF, "fd {} is not pointing to valid bpf_map", insn.imm),
        },
        PSEUDO_MAP_VALUE => {
            let Some(facts) = map_list.get(insn.imm as usize) else {
                refuse!(EBADF, "fd {} is not pointing to valid bpf_map", insn.imm);
            };
            let offset = second.imm as u32;
            if offset >= super::alu::MAX_OFFSET as u32 {
                refuse!(EINVAL, "direct value offset of {offset} is not allowed");
            }
            if !maps::has_direct_values(facts.map_type) {
                refuse!(EINVAL, "no direct value access support for this map type");
            }
            if facts.max_entries != 1 {
                refuse!(
                    ENOTSUPP,
                    "invalid access to map value pointer, value_size={} off={offset}",
                    facts.value_size
                );
            }
            if offset >= facts.value_size {
                let size = facts.value_size;
                refuse!(
                    EINVAL,
                    "invalid access to map value pointer, value_size={size} off={offset}"
                );
            }
            Ok(())
        }
        _ => refuse!(EINVAL, "unrecognized bpf_ld_imm64 insn"),
    }
}
