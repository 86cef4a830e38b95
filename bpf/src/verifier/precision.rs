//! Which numbers must be known for a path to be safe: found backwards from where they mattered,
//! and marked in the checkpoints on the way. Only they keep other states from standing for these
//! (`mark_chain_precision`, `backtrack_insn`).

use super::branch::{bounds_of_link, linked_register};
use super::cfg::{self, PSEUDO_KFUNC};
use super::prototype;
use super::refusal::{Step, refuse};
use super::register::{PLUS, Register};
use super::state::{MAX_FRAMES, NO_CALLER, State};
use super::walk::{History, Walk};
use crate::insn::{CALL, EXIT, Insn, PSEUDO_CALL, R10};

/// How many linked registers a jump remembers.
const MAX_LINKS: usize = 6;
const ARGUMENTS: u16 = 0b11_1110;

/// Where a linked register is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    Register(u8),
    Slot(u8),
}

/// Registers that hold the same value but for a constant.
#[derive(Clone, Copy, Default)]
pub(crate) struct Links {
    places: [Option<(u8, Place)>; MAX_LINKS],
    count: usize,
}

impl Links {
    pub(crate) fn collect(&mut self, state: &State, id: u32) {
        let same = |register: &Register| register.is_scalar() && register.id & !PLUS == id & !PLUS;
        for (depth, frame) in state.frames.iter().enumerate() {
            for (number, register) in frame.registers[..10].iter().enumerate() {
                if same(register) {
                    self.add(depth as u8, Place::Register(number as u8));
                }
            }
            for (slot, held) in frame.stack.iter().enumerate() {
                if held.is_spill() && same(&held.spilled) {
                    self.add(depth as u8, Place::Slot(slot as u8));
                }
            }
        }
    }

    fn add(&mut self, frame: u8, place: Place) {
        if self.count < MAX_LINKS && !self.places[..self.count].contains(&Some((frame, place))) {
            self.places[self.count] = Some((frame, place));
            self.count += 1;
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Ten bits each: whether it is there, frame, whether it is a slot, number.
    pub(crate) fn packed(&self) -> u64 {
        self.places[..self.count].iter().flatten().fold(0, |packed, (frame, place)| {
            let (slot, number) = match place {
                Place::Register(number) => (0, *number),
                Place::Slot(number) => (1, *number),
            };
            let bits = u64::from(*frame) << 7 | slot << 6 | u64::from(number & 63);
            packed << 10 | bits
        }) | (self.count as u64) << 60
    }

    fn unpacked(packed: u64) -> impl Iterator<Item = (usize, Place)> {
        (0..packed >> 60).map(move |i| {
            let bits = packed >> (i * 10);
            let number = (bits & 63) as u8;
            let place = if bits & 64 != 0 { Place::Slot(number) } else { Place::Register(number) };
            ((bits >> 7 & 7) as usize, place)
        })
    }

    /// Lets all of them know what one has learned.
    pub(crate) fn spread(&self, state: &mut State, known: &Register) {
        for (frame, place) in self.places[..self.count].iter().flatten() {
            let Some(frame) = state.frames.get_mut(usize::from(*frame)) else { continue };
            let Some(linked) = linked_register(frame, *place) else { continue };
            if let Some((bounds, id, offset)) = bounds_of_link(linked, known) {
                let precise = known.precise;
                *linked = Register { bounds, id, offset, precise, ..Register::UNKNOWN };
            }
        }
    }
}

/// What is still looked for while going back.
#[derive(Default)]
struct Wanted {
    registers: [u16; MAX_FRAMES],
    slots: [u64; MAX_FRAMES],
    frame: usize,
}

impl Wanted {
    fn is_empty(&self) -> bool {
        self.registers[..=self.frame].iter().all(|mask| *mask == 0)
            && self.slots[..=self.frame].iter().all(|mask| *mask == 0)
    }

    fn has(&self, number: u8) -> bool {
        self.registers[self.frame] & 1 << (number & 15) != 0
    }

    fn want(&mut self, number: u8) {
        self.registers[self.frame] |= 1 << (number & 15);
    }

    fn forget(&mut self, number: u8) {
        self.registers[self.frame] &= !(1 << (number & 15));
    }

    /// If one of the linked registers is wanted, all are.
    fn want_linked(&mut self, linked: u64) {
        if linked == 0 {
            return;
        }
        let wanted = Links::unpacked(linked).any(|(frame, place)| match place {
            Place::Register(number) => self.registers[frame] & 1 << number != 0,
            Place::Slot(slot) => self.slots[frame] & 1 << slot != 0,
        });
        if !wanted {
            return;
        }
        for (frame, place) in Links::unpacked(linked) {
            match place {
                Place::Register(number) => self.registers[frame] |= 1 << number,
                Place::Slot(slot) => self.slots[frame] |= 1 << slot,
            }
        }
    }
}

/// How going back over one instruction ended.
enum Back {
    Done,
    /// It cannot be followed: everything becomes precise.
    Unsupported,
}

impl Walk<'_> {
    /// A register's bounds matter here.
    pub(crate) fn mark_precise(&mut self, number: u8) -> Step {
        let mut wanted = Wanted { frame: self.state.depth_of_calls(), ..Wanted::default() };
        wanted.want(number);
        self.go_back(wanted)
    }

    /// The same of a register that was spilled.
    pub(crate) fn mark_slot_precise(&mut self, frame: usize, slot: usize) -> Step {
        let mut wanted = Wanted { frame: self.state.depth_of_calls(), ..Wanted::default() };
        wanted.slots[frame] |= 1 << slot;
        self.go_back(wanted)
    }

    /// What mattered behind a checkpoint matters behind the present state, which it stands for.
    pub(crate) fn inherit_precision(&mut self, node: u32) -> Step {
        let depth = self.state.depth_of_calls();
        let mut wanted = Wanted { frame: depth, ..Wanted::default() };
        let live = |walk: &Walk<'_>, frame| {
            let at = walk.state.insn_of_frame(frame, walk.insn);
            walk.graph.live[at as usize]
        };
        for frame in 0..=depth {
            let live = live(self, frame);
            let old = &self.nodes[node as usize];
            let reads = old.reads[frame];
            let frame_state = &old.state.frames[frame];
            for (number, register) in frame_state.registers[..10].iter().enumerate() {
                let matters = register.is_scalar() && register.precise && live >> number & 1 != 0;
                wanted.registers[frame] |= u16::from(matters) << number;
            }
            for (slot, held) in frame_state.stack.iter().enumerate() {
                let matters =
                    held.is_scalar_spill() && held.spilled.precise && reads >> slot & 1 != 0;
                wanted.slots[frame] |= u64::from(matters) << slot;
            }
        }
        self.go_back(wanted)
    }

    /// Goes back to where the wanted values came from, checkpoint by checkpoint. The instruction at
    /// work itself is not looked at.
    fn go_back(&mut self, mut wanted: Wanted) -> Step {
        if wanted.is_empty() {
            return Ok(());
        }
        let mut skip = true;
        let mut last = self.insn;
        let mut following = None;
        let mut range = self.state.history.clone();
        let mut first = self.state.first_insn;
        let mut parent = self.state.parent;
        loop {
            let skips = std::mem::take(&mut skip);
            if self.go_back_to(&mut wanted, (last, first), range, &mut following, skips)? {
                return Ok(());
            }
            let Some(above) = parent else { break };
            self.mark_checkpoint(above, &mut wanted);
            if wanted.is_empty() {
                return Ok(());
            }
            let state = &self.nodes[above as usize].state;
            following = Some(first);
            last = state.last_insn;
            first = state.first_insn;
            range = state.history.clone();
            parent = state.parent;
            if last == u32::MAX {
                break;
            }
        }
        let at_start = self.state.frames[0].call == NO_CALLER
            && wanted.slots.iter().all(|mask| *mask == 0)
            && wanted.registers[0] & !ARGUMENTS == 0;
        if !at_start || wanted.frame > 0 {
            self.all_precise();
        }
        Ok(())
    }

    /// Goes back over the instructions between two checkpoints; true when nothing is wanted more.
    fn go_back_to(
        &mut self,
        wanted: &mut Wanted,
        (last, first): (u32, u32),
        range: std::ops::Range<u32>,
        following: &mut Option<u32>,
        mut skip: bool,
    ) -> Step<bool> {
        let mut end = range.end;
        let mut at = last;
        loop {
            let entry = (end > range.start)
                .then(|| self.history[end as usize - 1])
                .filter(|entry| entry.insn == at);
            if !std::mem::take(&mut skip)
                && let Back::Unsupported = self.back(wanted, at, *following, entry)?
            {
                self.all_precise();
                return Ok(true);
            }
            if wanted.is_empty() {
                return Ok(true);
            }
            *following = Some(at);
            if at == first {
                let left = end - range.start;
                let own = left == 1 && self.history[range.start as usize].insn == at;
                if left == 0 || own {
                    return Ok(false);
                }
            }
            match entry {
                Some(entry) => {
                    at = entry.previous;
                    end -= 1;
                }
                None => at = at.wrapping_sub(1),
            }
            if at as usize >= self.insns.len() {
                return Ok(false);
            }
        }
    }

    /// One instruction back.
    fn back(
        &self,
        wanted: &mut Wanted,
        at: u32,
        following: Option<u32>,
        entry: Option<History>,
    ) -> Step<Back> {
        let insn = self.insns[at as usize];
        let entry = entry.unwrap_or_default();
        wanted.want_linked(entry.linked);
        match insn.opcode & 7 {
            4 | 7 => back_over_alu(wanted, insn),
            1 => {
                if wanted.has(insn.dst) {
                    wanted.forget(insn.dst);
                    want_slot(wanted, entry);
                }
            }
            3 if insn.opcode >> 5 == 6 && fetches(insn).is_some() => {
                let loaded = fetches(insn).unwrap_or(0);
                if wanted.has(loaded) {
                    wanted.forget(loaded);
                    want_slot(wanted, entry);
                }
            }
            2 | 3 => {
                if wanted.has(insn.dst) {
                    return Ok(Back::Unsupported);
                }
                let Some((frame, slot)) = entry.slot else { return Ok(Back::Done) };
                let bit = 1 << slot;
                if wanted.slots[usize::from(frame)] & bit != 0 {
                    wanted.slots[usize::from(frame)] &= !bit;
                    if insn.opcode & 7 == 3 {
                        wanted.want(insn.src);
                    }
                }
            }
            0 if insn.is_ld_imm64() => wanted.forget(insn.dst),
            0 if cfg::is_legacy_load(insn) => {
                if wanted.has(insn.dst) {
                    return Ok(Back::Unsupported);
                }
                if following != Some(at + 1) {
                    wanted.frame += 1;
                }
            }
            0 => {}
            _ => return self.back_over_jump(wanted, insn, at, following, entry),
        }
        wanted.want_linked(entry.linked);
        Ok(Back::Done)
    }

    fn back_over_jump(
        &self,
        wanted: &mut Wanted,
        insn: Insn,
        at: u32,
        following: Option<u32>,
        entry: History,
    ) -> Step<Back> {
        match insn.opcode {
            CALL if insn.src == PSEUDO_CALL => return self.back_over_call(wanted, insn, at),
            CALL if prototype::traits(insn).calls_back && following != Some(at + 1) => {
                // From a callback back to the helper: what it was given are not its arguments.
                let current = wanted.frame;
                if wanted.registers[current] & !ARGUMENTS != 0 || wanted.slots[current] != 0 {
                    return Ok(Back::Unsupported);
                }
                wanted.registers[current] = 0;
                if current == 0 {
                    return Ok(Back::Unsupported);
                }
                wanted.frame -= 1;
            }
            CALL => {
                if insn.src == PSEUDO_KFUNC && insn.imm == 0 {
                    return Ok(Back::Unsupported);
                }
                wanted.forget(0);
                if wanted.registers[wanted.frame] & ARGUMENTS != 0 {
                    return Ok(Back::Unsupported);
                }
            }
            EXIT => {
                let call = following.and_then(|at| at.checked_sub(1));
                let called = call.is_some_and(|call| self.insns[call as usize].is_local_call());
                let result = called && wanted.has(0);
                if called && wanted.registers[wanted.frame] & ARGUMENTS != 0 {
                    return Ok(Back::Unsupported);
                }
                wanted.forget(0);
                if wanted.frame + 1 >= MAX_FRAMES {
                    return Ok(Back::Unsupported);
                }
                wanted.frame += 1;
                if result {
                    wanted.want(0);
                }
            }
            opcode if opcode & 8 != 0 => {
                if wanted.has(insn.dst) || wanted.has(insn.src) {
                    let (dst_is_stack, src_is_stack) = entry.compares_stack;
                    if !src_is_stack {
                        wanted.want(insn.src);
                    }
                    if !dst_is_stack {
                        wanted.want(insn.dst);
                    }
                }
                wanted.want_linked(entry.linked);
            }
            _ => wanted.want_linked(entry.linked),
        }
        Ok(Back::Done)
    }

    /// A function's start, coming from inside of it: what is wanted of its arguments is the caller's.
    fn back_over_call(&self, wanted: &mut Wanted, insn: Insn, at: u32) -> Step<Back> {
        let callee = self.graph.subprogram_at(i64::from(at) + 1 + i64::from(insn.imm));
        let global = callee.is_some_and(|callee| self.is_global(callee));
        let current = wanted.frame;
        if global {
            if wanted.registers[current] & ARGUMENTS != 0 {
                return Ok(Back::Unsupported);
            }
            wanted.forget(0);
            return Ok(Back::Done);
        }
        if wanted.registers[current] & !ARGUMENTS != 0 || wanted.slots[current] != 0 {
            return Ok(Back::Unsupported);
        }
        let arguments = std::mem::take(&mut wanted.registers[current]);
        if current == 0 {
            refuse!(EFAULT, "verifier bug: backtracking call without frame at {at}");
        }
        wanted.frame -= 1;
        wanted.registers[wanted.frame] |= arguments;
        Ok(Back::Done)
    }

    /// Marks a checkpoint's registers; what was marked already need not be followed further.
    fn mark_checkpoint(&mut self, node: u32, wanted: &mut Wanted) {
        let state = &mut self.nodes[node as usize].state;
        for (i, frame) in state.frames.iter_mut().enumerate().take(wanted.frame + 1) {
            for (number, register) in frame.registers.iter_mut().enumerate() {
                if wanted.registers[i] & 1 << number == 0 {
                    continue;
                }
                if !register.is_scalar() || std::mem::replace(&mut register.precise, true) {
                    wanted.registers[i] &= !(1 << number);
                }
            }
            let mut slots = wanted.slots[i];
            while slots != 0 {
                let slot = slots.trailing_zeros() as usize;
                slots &= slots - 1;
                let marked = match frame.stack.get_mut(slot) {
                    Some(held) if held.is_scalar_spill() => {
                        std::mem::replace(&mut held.spilled.precise, true)
                    }
                    _ => true,
                };
                if marked {
                    wanted.slots[i] &= !(1 << slot);
                }
            }
        }
    }

    /// Where the way back is lost, every number on the path matters.
    fn all_precise(&mut self) {
        let mut above = self.state.parent;
        while let Some(node) = above {
            let state = &mut self.nodes[node as usize].state;
            for frame in &mut state.frames {
                for register in frame.registers.iter_mut().filter(|found| found.is_scalar()) {
                    register.precise = true;
                }
                for slot in frame.stack.iter_mut().filter(|slot| slot.is_scalar_spill()) {
                    slot.spilled.precise = true;
                }
            }
            above = state.parent;
        }
    }
}

fn back_over_alu(wanted: &mut Wanted, insn: Insn) {
    if !wanted.has(insn.dst) {
        return;
    }
    let is_register = insn.opcode & 8 != 0;
    match insn.opcode >> 4 {
        0x8 | 0xd => {}
        0xb => {
            wanted.forget(insn.dst);
            if is_register && insn.src != R10 {
                wanted.want(insn.src);
            }
        }
        _ if is_register && insn.src != R10 => wanted.want(insn.src),
        _ => {}
    }
}

fn want_slot(wanted: &mut Wanted, entry: History) {
    if let Some((frame, slot)) = entry.slot {
        wanted.slots[usize::from(frame)] |= 1 << slot;
    }
}

/// The register that an atomic instruction puts the old value into.
fn fetches(insn: Insn) -> Option<u8> {
    match insn.imm {
        0xf1 => Some(0),
        0x100 => Some(insn.dst),
        imm if imm & 1 != 0 && imm != 0x110 => Some(insn.src),
        _ => None,
    }
}
