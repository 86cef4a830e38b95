//! The program's shape before any value is known: functions, jumps, what is reached, where paths
//! meet, and which registers are still read behind each instruction.

use super::program::Unverified;
use super::prototype::{self, HelperTraits};
use super::refusal::{Step, refuse};
use crate::insn::{CALL, EXIT, GOTOL, Insn, JA, PSEUDO_CALL};

/// `src` of a 64-bit immediate load of a function's address (`BPF_PSEUDO_FUNC`).
pub(crate) const PSEUDO_FUNCTION: u8 = 4;
/// `src` of a call of a kernel function (`BPF_PSEUDO_KFUNC_CALL`).
pub(crate) const PSEUDO_KFUNC: u8 = 2;
/// Opcode of the conditional jump whose condition is a budget (`BPF_JCOND`).
pub(crate) const MAY_GOTO: u8 = 0xe5;
/// The most functions (`BPF_MAX_SUBPROGS`).
const MAX_SUBPROGRAMS: usize = 256;

/// States are compared here.
pub(crate) const PRUNE: u8 = 1;
/// The instruction before this one may not be the one executed before it.
pub(crate) const JUMP: u8 = 2;
/// A checkpoint is always made here.
pub(crate) const CHECKPOINT: u8 = 4;
/// A helper call that calls back.
pub(crate) const CALLS_BACK: u8 = 8;

/// One function of the program.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Subprogram {
    pub(crate) start: u32,
    pub(crate) end: u32,
    pub(crate) has_tail_call: bool,
    pub(crate) has_legacy_load: bool,
    /// It, or what it calls, may move the packet.
    pub(crate) changes_packet: bool,
    /// It is called back by a timer.
    pub(crate) is_async: bool,
    /// It is called back by a helper.
    pub(crate) is_callback: bool,
}

/// What the whole walk reads of the shape.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    pub(crate) subprograms: Vec<Subprogram>,
    /// [`PRUNE`], [`JUMP`], [`CHECKPOINT`], [`CALLS_BACK`] of each instruction.
    pub(crate) marks: Vec<u8>,
    /// Registers whose values may be read at or behind each instruction.
    pub(crate) live: Vec<u16>,
    /// Loops may end by a budget: checkpoints may be asked for as entries of loops.
    pub(crate) has_may_goto: bool,
}

impl Graph {
    /// The checks of `add_subprog_and_kfunc`, `check_subprogs` and `check_cfg`.
    pub(crate) fn of(program: &Unverified<'_>) -> Step<Graph> {
        let insns = program.insns;
        let subprograms = find_subprograms(insns)?;
        let has_may_goto = insns.iter().any(|insn| insn.opcode == MAY_GOTO);
        let marks = vec![0; insns.len()];
        let mut graph = Graph { subprograms, marks, live: Vec::new(), has_may_goto };
        graph.check_jumps(insns)?;
        Ok(graph)
    }

    /// Every instruction must be reached; behind this the whole can be walked.
    pub(crate) fn explore(&mut self, insns: &[Insn]) -> Step {
        let mut found = vec![false; insns.len()];
        let mut left = vec![0_u32];
        found[0] = true;
        while let Some(at) = left.pop() {
            let successors = self.visit(insns, at as usize);
            for next in successors.into_iter().flatten() {
                let Some(seen) = found.get_mut(next) else {
                    refuse!(EINVAL, "jump out of range from insn {at} to {next}");
                };
                if !std::mem::replace(seen, true) {
                    left.push(next as u32);
                }
            }
        }
        for (at, insn) in insns.iter().enumerate() {
            let second = at > 0 && insns[at - 1].is_ld_imm64() && insn.opcode == 0;
            if second && found[at] {
                refuse!(EINVAL, "jump into the middle of ldimm64 insn {}", at - 1);
            }
            if !found[at] && !second {
                refuse!(EINVAL, "unreachable insn {at}");
            }
        }
        self.spread_packet_changes(insns);
        self.find_live(insns);
        Ok(())
    }

    /// The function that an instruction is in.
    pub(crate) fn subprogram_of(&self, insn: usize) -> usize {
        self.subprograms.partition_point(|found| found.start as usize <= insn) - 1
    }

    /// The function that begins at an instruction.
    pub(crate) fn subprogram_at(&self, insn: i64) -> Option<usize> {
        let start = u32::try_from(insn).ok()?;
        self.subprograms.binary_search_by_key(&start, |found| found.start).ok()
    }

    pub(crate) fn is(&self, insn: u32, mark: u8) -> bool {
        self.marks[insn as usize] & mark != 0
    }

    fn check_jumps(&mut self, insns: &[Insn]) -> Step {
        for subprogram in &mut self.subprograms {
            for at in subprogram.start..subprogram.end {
                let insn = insns[at as usize];
                subprogram.has_tail_call |=
                    insn.opcode == CALL && insn.src == 0 && insn.imm == prototype::TAIL_CALL;
                subprogram.has_legacy_load |= is_legacy_load(insn);
                let Some(distance) = jump_distance(insn) else { continue };
                let to = i64::from(at) + 1 + i64::from(distance);
                if !(i64::from(subprogram.start)..i64::from(subprogram.end)).contains(&to) {
                    refuse!(EINVAL, "jump out of range from insn {at} to {to}");
                }
            }
            let last = insns[subprogram.end as usize - 1].opcode;
            if !matches!(last, EXIT | JA | GOTOL) {
                refuse!(EINVAL, "last insn is not an exit or jmp");
            }
        }
        Ok(())
    }

    /// Marks what meets at an instruction; what follows it.
    fn visit(&mut self, insns: &[Insn], at: usize) -> [Option<usize>; 2] {
        let insn = insns[at];
        let jump_to = |graph: &mut Graph, to: usize| graph.mark(to, PRUNE | JUMP);
        if insn.is_ld_imm64() && insn.src == PSEUDO_FUNCTION {
            let callee = (at as i64 + 1 + i64::from(insn.imm)) as usize;
            self.mark(at, PRUNE);
            jump_to(self, at + 2);
            jump_to(self, callee);
            return [Some(at + 2), Some(callee)];
        }
        if !matches!(insn.opcode & 7, 5 | 6) {
            return [Some(at + if insn.is_ld_imm64() { 2 } else { 1 }), None];
        }
        match insn.opcode {
            EXIT => [None, None],
            CALL => {
                let traits = prototype::traits(insn);
                if traits.calls_back_later {
                    self.mark(at, PRUNE);
                }
                if traits.calls_back {
                    self.mark(at, PRUNE | JUMP | CHECKPOINT | CALLS_BACK);
                }
                jump_to(self, at + 1);
                if insn.src != PSEUDO_CALL {
                    return [Some(at + 1), None];
                }
                let callee = (at as i64 + 1 + i64::from(insn.imm)) as usize;
                self.mark(at, PRUNE);
                jump_to(self, callee);
                [Some(at + 1), Some(callee)]
            }
            JA | GOTOL => {
                let distance = jump_distance(insn).unwrap_or(0);
                let to = (at as i64 + 1 + i64::from(distance)) as usize;
                jump_to(self, to);
                [Some(to), None]
            }
            _ => {
                let to = (at as i64 + 1 + i64::from(insn.offset)) as usize;
                let checkpoint = if insn.opcode == MAY_GOTO { CHECKPOINT } else { 0 };
                self.mark(at, PRUNE | checkpoint);
                jump_to(self, to);
                [Some(at + 1), Some(to)]
            }
        }
    }

    fn mark(&mut self, at: usize, marks: u8) {
        if let Some(mark) = self.marks.get_mut(at) {
            *mark |= marks;
        }
    }

    /// A function that calls one that moves the packet moves it too.
    fn spread_packet_changes(&mut self, insns: &[Insn]) {
        for (at, insn) in insns.iter().enumerate() {
            let HelperTraits { changes_packet, .. } = prototype::traits(*insn);
            if changes_packet {
                let within = self.subprogram_of(at);
                self.subprograms[within].changes_packet = true;
            }
        }
        loop {
            let mut changed = false;
            for (at, insn) in insns.iter().enumerate().filter(|(_, insn)| insn.is_local_call()) {
                let callee = self.subprogram_at(at as i64 + 1 + i64::from(insn.imm));
                let caller = self.subprogram_of(at);
                let moves = callee.is_some_and(|callee| self.subprograms[callee].changes_packet);
                if moves && !self.subprograms[caller].changes_packet {
                    self.subprograms[caller].changes_packet = true;
                    changed = true;
                }
            }
            if !changed {
                return;
            }
        }
    }

    /// Registers read before they are written, backwards to a fixed point.
    fn find_live(&mut self, insns: &[Insn]) {
        self.live = vec![0; insns.len()];
        let mut changed = true;
        while changed {
            changed = false;
            for at in (0..insns.len()).rev() {
                let insn = insns[at];
                let mut after = 0;
                let mut follow = |to: i64| {
                    after |=
                        usize::try_from(to).ok().and_then(|to| self.live.get(to)).unwrap_or(&0);
                };
                let next = at as i64 + 1;
                match insn.opcode {
                    EXIT if insn.opcode & 7 == 5 => {}
                    JA | GOTOL => follow(next + i64::from(jump_distance(insn).unwrap_or(0))),
                    _ => {
                        follow(next + i64::from(insn.is_ld_imm64()));
                        if let Some(distance) = jump_distance(insn) {
                            follow(next + i64::from(distance));
                        }
                    }
                }
                let (reads, writes) = registers(insn);
                let live = (after & !writes) | reads;
                changed |= live != self.live[at];
                self.live[at] = live;
            }
        }
    }
}

/// `BPF_LD_ABS` or `BPF_LD_IND`.
pub(crate) fn is_legacy_load(insn: Insn) -> bool {
    insn.opcode & 7 == 0 && matches!(insn.opcode >> 5, 1 | 2)
}

fn find_subprograms(insns: &[Insn]) -> Step<Vec<Subprogram>> {
    let mut starts = vec![0_u32];
    for (at, insn) in insns.iter().enumerate() {
        let refers = insn.is_local_call() || (insn.is_ld_imm64() && insn.src == PSEUDO_FUNCTION);
        if !refers {
            continue;
        }
        let to = at as i64 + 1 + i64::from(insn.imm);
        if !(0..insns.len() as i64).contains(&to) {
            refuse!(EINVAL, "call to invalid destination");
        }
        starts.push(to as u32);
    }
    starts.sort_unstable();
    starts.dedup();
    if starts.len() > MAX_SUBPROGRAMS {
        refuse!(E2BIG, "too many subprograms");
    }
    let ends = starts.iter().skip(1).copied().chain([insns.len() as u32]);
    let made = starts.iter().zip(ends);
    Ok(made
        .map(|(start, end)| Subprogram { start: *start, end, ..Subprogram::default() })
        .collect())
}

/// How far a jump goes; `None` for what is no jump.
pub(crate) fn jump_distance(insn: Insn) -> Option<i32> {
    match (insn.opcode & 7, insn.opcode >> 4) {
        (5 | 6, 8 | 9) => None,
        (6, 0) => Some(insn.imm),
        (5 | 6, _) => Some(insn.offset.into()),
        _ => None,
    }
}

/// Which registers an instruction reads, and which it writes.
fn registers(insn: Insn) -> (u16, u16) {
    const ARGUMENTS: u16 = 0b11_1110;
    const SCRATCHED: u16 = 0b11_1111;
    let (dst, src) = (1_u16 << (insn.dst & 15), 1_u16 << (insn.src & 15));
    let operand = if insn.opcode & 8 != 0 { src } else { 0 };
    match insn.opcode & 7 {
        0 if is_legacy_load(insn) => {
            (1 << 6 | if insn.opcode >> 5 == 2 { src } else { 0 }, SCRATCHED)
        }
        0 if insn.is_ld_imm64() => (0, dst),
        0 => (0, 0),
        1 => (src, dst),
        2 => (dst, 0),
        3 if insn.opcode >> 5 == 6 => match insn.imm {
            0xf1 => (dst | src | 1, 1),
            0x100 => (src, dst),
            imm if imm & 1 != 0 && imm != 0x110 => (dst | src, src),
            _ => (dst | src, 0),
        },
        3 => (dst | src, 0),
        4 | 7 => match insn.opcode >> 4 {
            0xb => (operand, dst),
            0xd | 0x8 => (dst, dst),
            _ => (dst | operand, dst),
        },
        _ => match insn.opcode {
            EXIT => (1, 0),
            CALL if insn.src == 0 => {
                let count = prototype::of(insn.imm as u32).map_or(5, |found| found.count());
                (((1_u16 << count) - 1) << 1, SCRATCHED)
            }
            CALL => (ARGUMENTS, SCRATCHED),
            JA | GOTOL | MAY_GOTO => (0, 0),
            _ => (dst | operand, 0),
        },
    }
}
