//! The interpreter: the meaning of the instructions, every access checked.

use std::sync::atomic::{Ordering::SeqCst, fence};

use crate::atomic::AtomicOp;
use crate::code::Op;
use crate::fault::{Fault, FaultKind};
use crate::helper::{self, HelperId, Host};
use crate::hook::sk_lookup::{Selection, SkLookupContext};
use crate::insn::{CMPXCHG, Code, FETCH, MAY_GOTO_LOOPS, XCHG};
use crate::machine::{FRAMES, Machine, Saved, TAIL_CALLS};
use crate::map::Map;
use crate::memory::{self, Run};
use crate::program::Program;

/// Sixteen, so that a register's four bits need no check; r11 stays zero.
type Registers = [u64; 16];

/// Runs a program to its exit; the value of r0.
pub(crate) fn run<H: Host>(
    program: &Program,
    context: &SkLookupContext,
    selection: &mut Selection,
    host: &mut H,
    machine: &mut Machine,
) -> Result<u64, Fault> {
    machine.begin();
    let native = false;
    let run = Run { program, context, selection, host, machine, memory: &mut [], native };
    begin(run, [memory::context(), 0])
}

/// The same for a program without a hook.
pub(crate) fn run_bare<H: Host>(
    program: &Program,
    memory: &mut [u8],
    host: &mut H,
    machine: &mut Machine,
) -> Result<u64, Fault> {
    machine.begin();
    let arguments = [memory::given(), memory.len() as u64];
    let (context, selection) = (&SkLookupContext::NONE, &mut Selection::default());
    begin(Run { program, context, selection, host, machine, memory, native: false }, arguments)
}

fn begin<H: Host>(mut run: Run<'_, H>, arguments: [u64; 2]) -> Result<u64, Fault> {
    let mut pc = 0;
    let mut left = run.machine.budget;
    execute(&mut run, arguments, &mut pc, &mut left).map_err(|kind| Fault { pc: pc as u32, kind })
}

/// Where a run goes on after an instruction.
enum Flow {
    /// Behind it.
    Next,
    /// There.
    At(usize),
    /// Nowhere.
    Ended,
}

/// How often each frame has met a `may_goto`, and at which frame the program began.
struct Loops {
    met: [u32; FRAMES],
    outermost: usize,
}

/// The loop's match, with one arm an operation: named here, so that each arm has its own code, and
/// the machine predicts each from what came before it.
macro_rules! dispatch {
    (
        match $code:expr;
        alu => |$result:ident| $assign:expr;
        jump => |$taken:ident| $branch:block;
        of($a:expr, $b:expr);
        { $($rest:tt)* }
    ) => {
        dispatch! {
            match $code;
            alu(
                Add64 Sub64 Mul64 Div64 Sdiv64 Or64 And64 Lsh64 Rsh64 Arsh64 Neg64 Mod64 Smod64
                Xor64 Mov64 Movsx64From8 Movsx64From16 Movsx64From32 Add32 Sub32 Mul32 Div32 Sdiv32
                Or32 And32 Lsh32 Rsh32 Arsh32 Neg32 Mod32 Smod32 Xor32 Mov32 Movsx32From8
                Movsx32From16 Le16 Le32 Le64 Be16 Be32 Be64
            ) => |$result| $assign;
            jump(
                Jeq64 Jne64 Jgt64 Jge64 Jlt64 Jle64 Jset64 Jsgt64 Jsge64 Jslt64 Jsle64 Jeq32 Jne32
                Jgt32 Jge32 Jlt32 Jle32 Jset32 Jsgt32 Jsge32 Jslt32 Jsle32 Ja Gotol
            ) => |$taken| $branch;
            of($a, $b);
            { $($rest)* }
        }
    };
    (
        match $code:expr;
        alu($($alu:ident)*) => |$result:ident| $assign:expr;
        jump($($jump:ident)*) => |$taken:ident| $branch:block;
        of($a:expr, $b:expr);
        { $($rest:tt)* }
    ) => {
        match $code {
            $(Code::$alu => { let $result = alu(Code::$alu, $a, $b); $assign })*
            $(Code::$jump => { let $taken = is_taken(Code::$jump, $a, $b); $branch })*
            $($rest)*
        }
    };
}

/// The loop. `pc` is the instruction at work, also when it faults.
fn execute<H: Host>(
    run: &mut Run<'_, H>,
    arguments: [u64; 2],
    pc: &mut usize,
    budget: &mut u64,
) -> Result<u64, FaultKind> {
    let ops = &run.program.ops[..];
    let mut regs: Registers = [0; 16];
    [regs[1], regs[2]] = arguments;
    let mut loops = Loops { met: [0; FRAMES], outermost: run.machine.depth };
    regs[10] = memory::frame_pointer(loops.outermost);
    let mut left = *budget;
    loop {
        let op = ops[*pc];
        left = left.checked_sub(1).ok_or(FaultKind::Budget)?;
        let dst = usize::from(op.dst & 15);
        let operand = regs[usize::from(op.src & 15)].wrapping_add(op.imm);
        let at = |base: u64| base.wrapping_add(i64::from(op.offset) as u64);
        dispatch! {
            match op.code;
            alu => |result| regs[dst] = result;
            jump => |taken| {
                if taken {
                    *pc = op.offset as usize;
                    continue;
                }
            };
            of(regs[dst], operand);
            {
                Code::Load8 => regs[dst] = run.load::<1>(at(operand))?,
                Code::Load16 => regs[dst] = run.load::<2>(at(operand))?,
                Code::Load32 => regs[dst] = run.load::<4>(at(operand))?,
                Code::Load64 => regs[dst] = run.load::<8>(at(operand))?,
                Code::LoadSx8 => regs[dst] = sign_extend(run.load::<1>(at(operand))?, 8),
                Code::LoadSx16 => regs[dst] = sign_extend(run.load::<2>(at(operand))?, 16),
                Code::LoadSx32 => regs[dst] = sign_extend(run.load::<4>(at(operand))?, 32),
                Code::Store8 => run.store::<1>(at(regs[dst]), operand)?,
                Code::Store16 => run.store::<2>(at(regs[dst]), operand)?,
                Code::Store32 => run.store::<4>(at(regs[dst]), operand)?,
                Code::Store64 => run.store::<8>(at(regs[dst]), operand)?,
                Code::Atomic32 | Code::Atomic64 => atomic(run, op, &mut regs)?,
                Code::LdImm64 => (regs[dst], *pc) = (op.imm, *pc + 1),
                Code::Call => {
                    let arguments = [regs[1], regs[2], regs[3], regs[4], regs[5]];
                    regs[0] = helper::call(run, HelperId(op.imm as u32), arguments)?;
                    // What a call leaves in r1–r5 may not be read; here it is zero.
                    regs[1..6].fill(0);
                }
                _ => {
                    let mut rest = left; // A copy: what is counted down stays in a register.
                    let flow = control(run, op, &mut regs, pc, &mut rest, &mut loops)?;
                    left = rest;
                    match flow {
                        Flow::Next => {}
                        Flow::At(next) => {
                            *pc = next;
                            continue;
                        }
                        Flow::Ended => {
                            *budget = left;
                            return Ok(regs[0]);
                        }
                    }
                }
            }
        }
        *pc += 1;
    }
}

/// What is rare: ordered accesses, calls of functions, returns, and jumps that count.
#[inline(never)]
fn control<H: Host>(
    run: &mut Run<'_, H>,
    op: Op,
    regs: &mut Registers,
    pc: &mut usize,
    left: &mut u64,
    loops: &mut Loops,
) -> Result<Flow, FaultKind> {
    match op.code {
        Code::MayGoto => {
            let met = &mut loops.met[run.machine.depth];
            if *met == MAY_GOTO_LOOPS {
                return Ok(Flow::At(op.offset as usize));
            }
            *met += 1;
        }
        Code::CallRegister => {
            let arguments = [regs[1], regs[2], regs[3], regs[4], regs[5]];
            let helper = regs[usize::from(op.dst & 15)] as u32;
            regs[0] = helper::call(run, HelperId(helper), arguments)?;
            regs[1..6].fill(0);
        }
        Code::CallLocal => {
            call(run, regs, *pc)?;
            loops.met[run.machine.depth] = 0;
            return Ok(Flow::At(op.offset as usize));
        }
        Code::Exit => match leave(run, regs, loops.outermost) {
            Some(caller) => *pc = caller,
            None if run.machine.sockets.any_held() => return Err(FaultKind::Unreleased),
            None => return Ok(Flow::Ended),
        },
        Code::TailCall => {
            let ended = tail_call(run, [regs[1], regs[2], regs[3]], pc, left)?;
            regs[0] = ended.unwrap_or(0);
            regs[1..6].fill(0);
            if ended.is_some() {
                match leave(run, regs, loops.outermost) {
                    Some(caller) => *pc = caller,
                    None => return Ok(Flow::Ended),
                }
            }
        }
        // What is left are loads that acquire and stores that release.
        _ => ordered(run, op, regs)?,
    }
    Ok(Flow::Next)
}

/// The result of an arithmetic operation. Division by zero gives 0, modulo zero leaves the dividend.
#[inline(always)]
fn alu(code: Code, a: u64, b: u64) -> u64 {
    let (a32, b32) = (a as u32, b as u32);
    match code {
        Code::Add64 => a.wrapping_add(b),
        Code::Sub64 => a.wrapping_sub(b),
        Code::Mul64 => a.wrapping_mul(b),
        Code::Div64 => a.checked_div(b).unwrap_or(0),
        Code::Sdiv64 if b == 0 => 0,
        Code::Sdiv64 => (a as i64).wrapping_div(b as i64) as u64,
        Code::Or64 => a | b,
        Code::And64 => a & b,
        Code::Lsh64 => a.wrapping_shl(b32),
        Code::Rsh64 => a.wrapping_shr(b32),
        Code::Arsh64 => (a as i64).wrapping_shr(b32) as u64,
        Code::Neg64 => a.wrapping_neg(),
        Code::Mod64 => a.checked_rem(b).unwrap_or(a),
        Code::Smod64 if b == 0 => a,
        Code::Smod64 => (a as i64).wrapping_rem(b as i64) as u64,
        Code::Xor64 => a ^ b,
        Code::Mov64 => b,
        Code::Movsx64From8 => sign_extend(b, 8),
        Code::Movsx64From16 => sign_extend(b, 16),
        Code::Movsx64From32 => sign_extend(b, 32),
        Code::Le16 => a & 0xffff,
        Code::Le32 => a & 0xffff_ffff,
        Code::Le64 => a,
        Code::Be16 => (a as u16).swap_bytes().into(),
        Code::Be32 => a32.swap_bytes().into(),
        Code::Be64 => a.swap_bytes(),
        code => u64::from(alu32(code, a32, b32)),
    }
}

#[inline(always)]
fn alu32(code: Code, a: u32, b: u32) -> u32 {
    match code {
        Code::Add32 => a.wrapping_add(b),
        Code::Sub32 => a.wrapping_sub(b),
        Code::Mul32 => a.wrapping_mul(b),
        Code::Div32 => a.checked_div(b).unwrap_or(0),
        Code::Sdiv32 if b == 0 => 0,
        Code::Sdiv32 => (a as i32).wrapping_div(b as i32) as u32,
        Code::Or32 => a | b,
        Code::And32 => a & b,
        Code::Lsh32 => a.wrapping_shl(b),
        Code::Rsh32 => a.wrapping_shr(b),
        Code::Arsh32 => (a as i32).wrapping_shr(b) as u32,
        Code::Neg32 => a.wrapping_neg(),
        Code::Mod32 => a.checked_rem(b).unwrap_or(a),
        Code::Smod32 if b == 0 => a,
        Code::Smod32 => (a as i32).wrapping_rem(b as i32) as u32,
        Code::Xor32 => a ^ b,
        Code::Movsx32From8 => i32::from(b as i8) as u32,
        Code::Movsx32From16 => i32::from(b as i16) as u32,
        // What is left is Mov32; the loop sends nothing else here.
        _ => b,
    }
}

#[inline(always)]
fn is_taken(code: Code, a: u64, b: u64) -> bool {
    let (a32, b32) = (a as u32, b as u32);
    match code {
        Code::Jeq64 => a == b,
        Code::Jne64 => a != b,
        Code::Jgt64 => a > b,
        Code::Jge64 => a >= b,
        Code::Jlt64 => a < b,
        Code::Jle64 => a <= b,
        Code::Jset64 => a & b != 0,
        Code::Jsgt64 => a as i64 > b as i64,
        Code::Jsge64 => a as i64 >= b as i64,
        Code::Jslt64 => (a as i64) < b as i64,
        Code::Jsle64 => a as i64 <= b as i64,
        Code::Jeq32 => a32 == b32,
        Code::Jne32 => a32 != b32,
        Code::Jgt32 => a32 > b32,
        Code::Jge32 => a32 >= b32,
        Code::Jlt32 => a32 < b32,
        Code::Jle32 => a32 <= b32,
        Code::Jset32 => a32 & b32 != 0,
        Code::Jsgt32 => a32 as i32 > b32 as i32,
        Code::Jsge32 => a32 as i32 >= b32 as i32,
        Code::Jslt32 => (a32 as i32) < b32 as i32,
        Code::Jsle32 => a32 as i32 <= b32 as i32,
        // What is left is Ja and Gotol; the loop sends nothing else here.
        _ => true,
    }
}

fn sign_extend(value: u64, bits: u32) -> u64 {
    ((value << (64 - bits)) as i64 >> (64 - bits)) as u64
}

/// A load that later accesses stay behind, or a store that earlier ones stay before. It must be
/// aligned. The fences order more than is asked for.
fn ordered<H: Host>(run: &mut Run<'_, H>, op: Op, regs: &mut Registers) -> Result<(), FaultKind> {
    let size = match op.code {
        Code::LoadAcquire8 | Code::StoreRelease8 => 1,
        Code::LoadAcquire16 | Code::StoreRelease16 => 2,
        Code::LoadAcquire32 | Code::StoreRelease32 => 4,
        _ => 8,
    };
    let loads = op.code <= Code::LoadAcquire64;
    let (dst, src) = (usize::from(op.dst & 15), usize::from(op.src & 15));
    let base = if loads { regs[src] } else { regs[dst] };
    let address = base.wrapping_add(i64::from(op.offset) as u64);
    if !address.is_multiple_of(size) {
        let fault = if loads { FaultKind::Read } else { FaultKind::Write };
        return Err(fault(address, size as u8));
    }
    fence(SeqCst);
    match (loads, size) {
        (true, 1) => regs[dst] = run.load::<1>(address)?,
        (true, 2) => regs[dst] = run.load::<2>(address)?,
        (true, 4) => regs[dst] = run.load::<4>(address)?,
        (true, _) => regs[dst] = run.load::<8>(address)?,
        (false, 1) => run.store::<1>(address, regs[src])?,
        (false, 2) => run.store::<2>(address, regs[src])?,
        (false, 4) => run.store::<4>(address, regs[src])?,
        (false, _) => run.store::<8>(address, regs[src])?,
    }
    fence(SeqCst);
    Ok(())
}

fn atomic<H: Host>(run: &mut Run<'_, H>, op: Op, regs: &mut Registers) -> Result<(), FaultKind> {
    let kind = op.imm as i32;
    let operation = match kind {
        _ if kind == XCHG | FETCH => AtomicOp::Exchange,
        _ if kind == CMPXCHG | FETCH => AtomicOp::CompareExchange(regs[0]),
        _ => match kind & !FETCH {
            0x40 => AtomicOp::Or,
            0x50 => AtomicOp::And,
            0xa0 => AtomicOp::Xor,
            _ => AtomicOp::Add,
        },
    };
    let address = regs[usize::from(op.dst & 15)].wrapping_add(i64::from(op.offset) as u64);
    let operand = regs[usize::from(op.src & 15)];
    let size = if op.code == Code::Atomic32 { 4 } else { 8 };
    let old = run.atomic(address, size, operation, operand)?;
    match operation {
        AtomicOp::CompareExchange(_) => regs[0] = old,
        _ if kind & FETCH != 0 => regs[usize::from(op.src & 15)] = old,
        _ => {}
    }
    Ok(())
}

/// Enters a function: r6–r10 are kept for the caller, the function gets a stack of its own.
///
/// Like [`leave`] it stands apart: inlined, it made the loop load these registers as vectors at
/// every instruction, each a stall behind the store of a single one.
#[cold]
#[inline(never)]
fn call<H: Host>(run: &mut Run<'_, H>, regs: &mut Registers, pc: usize) -> Result<(), FaultKind> {
    let machine = &mut *run.machine;
    if machine.depth + 1 == FRAMES {
        return Err(FaultKind::CallDepth);
    }
    let registers = [regs[6], regs[7], regs[8], regs[9], regs[10]];
    machine.saved[machine.depth] = Saved { pc, registers };
    machine.depth += 1;
    machine.clear_frame();
    regs[10] = memory::frame_pointer(machine.depth);
    Ok(())
}

/// Runs another program in this one's place, in the same frame; what it returned, or `None` if there
/// is none at the index or there were too many.
#[cold]
#[inline(never)]
fn tail_call<H: Host>(
    run: &mut Run<'_, H>,
    [context, map, index]: [u64; 3],
    pc: &mut usize,
    left: &mut u64,
) -> Result<Option<u64>, FaultKind> {
    let fault = |argument| FaultKind::Argument(HelperId::TAIL_CALL.0, argument);
    if !run.is_context(context) {
        return Err(fault(1));
    }
    let (_, map) = run.map(map).ok_or(fault(2))?;
    // Which programs there are is no part of what the outcome is said to depend on.
    run.machine.inputs.repeatable = false;
    let guard = crossbeam_epoch::pin();
    let Some(target) = next_program(run.program, map, index, run.machine, &guard) else {
        return Ok(None);
    };
    run.machine.clear_frame();
    let depth = run.machine.depth;
    let mut next = Run {
        program: target,
        context: run.context,
        selection: &mut *run.selection,
        host: &mut *run.host,
        machine: &mut *run.machine,
        memory: &mut *run.memory,
        native: false,
    };
    let at = std::mem::replace(pc, 0);
    let returned = execute(&mut next, [memory::context(), 0], pc, left)?;
    *pc = at;
    run.machine.depth = depth;
    Ok(Some(returned))
}

/// The program that a tail call goes to (`bpf_prog_array`): of the same type, and not one too many.
pub(crate) fn next_program<'g>(
    from: &Program,
    map: &Map,
    index: u64,
    machine: &mut Machine,
    guard: &'g crossbeam_epoch::Guard,
) -> Option<&'g Program> {
    if machine.tail_calls >= TAIL_CALLS {
        return None;
    }
    // The kernel takes the index in 32 bits.
    let target = map.program(index as u32, guard)?;
    if !std::ptr::eq(target.hook(), from.hook()) {
        return None;
    }
    machine.tail_calls += 1;
    Some(target)
}

/// Leaves a function: the call that it returns to, or `None` at the program's end.
#[cold]
#[inline(never)]
fn leave<H: Host>(run: &mut Run<'_, H>, regs: &mut Registers, base: usize) -> Option<usize> {
    let machine = &mut *run.machine;
    if machine.depth == base {
        return None;
    }
    machine.depth -= 1;
    let saved = machine.saved[machine.depth];
    regs[6..11].copy_from_slice(&saved.registers);
    regs[1..6].fill(0);
    Some(saved.pc)
}
