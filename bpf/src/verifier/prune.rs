//! Checkpoints, and when one stands for the present state: everything behind it was found safe, and
//! the present state allows nothing that it did not (`is_state_visited`, `states_equal`).

use super::cfg::{CALLS_BACK, CHECKPOINT, MAY_GOTO};
use super::refusal::{Step, refuse};
use super::register::{Kind, PLUS, Register};
use super::state::{Byte, Frame, MAX_FRAMES, Slot, State};
use super::walk::Walk;

/// A checkpoint.
#[derive(Default)]
pub(crate) struct Node {
    pub(crate) state: State,
    pub(crate) insn: u32,
    /// Paths behind it that have not ended.
    pub(crate) branches: u32,
    /// Stack slots that were read behind it, a word a frame.
    pub(crate) reads: [u64; MAX_FRAMES],
    /// The next older checkpoint of the instruction, as index plus one.
    next: u32,
    hits: u32,
    misses: u32,
}

/// How alike states must be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Exactness {
    /// What was read behind the old one, as precisely as it mattered.
    Enough,
    /// Everything, each within the old one's range: the old one's marks are not complete yet.
    Within,
    /// Everything the same.
    Exact,
}

/// Ids of the old state and what they are in the present one.
#[derive(Default)]
pub(crate) struct Ids {
    pairs: Vec<(u32, u32)>,
    /// For numbers without an id, each unlike any other.
    fresh: u32,
}

impl Ids {
    fn reset(&mut self) {
        self.pairs.clear();
        self.fresh = 1 << 30;
    }

    /// Do they play the same part?
    fn same(&mut self, old: u32, new: u32) -> bool {
        if old == 0 || new == 0 {
            return old == new;
        }
        for (from, to) in &self.pairs {
            if *from == old {
                return *to == new;
            }
            if *to == new {
                return false;
            }
        }
        self.pairs.push((old, new));
        true
    }

    /// A number that was linked to none may stand for any.
    fn same_scalar(&mut self, old: u32, new: u32) -> bool {
        if old == 0 {
            return true;
        }
        let new = if new == 0 {
            self.fresh += 1;
            self.fresh
        } else {
            new
        };
        self.same(old, new)
    }
}

impl Walk<'_> {
    /// Is there a checkpoint here that stands for the present state? If not, one may be made.
    pub(super) fn is_visited(&mut self) -> Step<bool> {
        let at = self.insn;
        let history = self.state.history.end - self.state.history.start;
        let forced = self.options.checkpoint_often || self.graph.is(at, CHECKPOINT) || history > 40;
        let since = (
            self.jumps - self.at_checkpoint.0,
            self.statistics.instructions_processed - self.at_checkpoint.1,
        );
        let mut add = forced || (since.0 >= 2 && since.1 >= 8);
        let mut previous = 0_u32;
        let mut next = self.heads[at as usize];
        let mut seen = 0;
        while next != 0 {
            seen += 1;
            let node = next - 1;
            let looping = self.nodes[node as usize].branches > 0;
            let stands = if looping {
                self.closes_loop(node)?
            } else {
                let entry = self.loop_entry(node);
                let open = entry.filter(|entry| self.nodes[*entry as usize].branches > 0);
                let how = if open.is_some() { Exactness::Within } else { Exactness::Enough };
                let equal = self.states_equal(node, how);
                if let Some(entry) = open.filter(|_| equal) {
                    self.state.loop_entry = Some(entry);
                }
                equal
            };
            if stands {
                self.nodes[node as usize].hits += 1;
                self.inherit(node)?;
                return Ok(true);
            }
            if looping && !forced && since.0 < 20 && since.1 < 100 {
                add = false;
            }
            next = self.miss(node, &mut previous, add);
        }
        self.statistics.max_states_per_insn = self.statistics.max_states_per_insn.max(seen);
        if add {
            self.checkpoint();
        }
        Ok(false)
    }

    /// Is an open checkpoint met again in a way that ends the loop? An error where it never ends.
    fn closes_loop(&mut self, node: u32) -> Step<bool> {
        let at = self.insn;
        let frame = self.nodes[node as usize].state.frame();
        let entries = (frame.async_entry, self.state.frame().async_entry);
        if frame.entry == super::state::Entry::AsyncCallback && entries.0 != entries.1 {
            return Ok(false);
        }
        if self.insns[at as usize].opcode == MAY_GOTO {
            let deeper =
                self.nodes[node as usize].state.may_goto_depth != self.state.may_goto_depth;
            if deeper && self.states_equal(node, Exactness::Within) {
                self.enter_loop(node);
                return Ok(true);
            }
        }
        if self.graph.is(at, CALLS_BACK) {
            return Ok(self.states_equal(node, Exactness::Within));
        }
        let old = &self.nodes[node as usize].state;
        let depths = (old.may_goto_depth, old.callback_unroll_depth);
        let same = depths == (self.state.may_goto_depth, self.state.callback_unroll_depth);
        if same && self.states_equal(node, Exactness::Exact) {
            refuse!(EINVAL, "infinite loop detected at insn {at}");
        }
        Ok(false)
    }

    fn enter_loop(&mut self, node: u32) {
        self.state.loop_entry = Some(node);
        let mut above = self.state.parent;
        while let Some(parent) = above {
            if parent == node {
                break;
            }
            let state = &mut self.nodes[parent as usize].state;
            state.loop_entry = Some(node);
            above = state.parent;
        }
    }

    /// The outermost checkpoint of the loop that a checkpoint is in.
    fn loop_entry(&self, node: u32) -> Option<u32> {
        let mut entry = self.nodes[node as usize].state.loop_entry?;
        while let Some(outer) = self.nodes[entry as usize].state.loop_entry {
            if outer == entry {
                break;
            }
            entry = outer;
        }
        Some(entry)
    }

    /// What was read and what mattered behind a checkpoint is so for the present state too.
    fn inherit(&mut self, node: u32) -> Step {
        for frame in 0..self.state.frames.len() {
            let reads = self.nodes[node as usize].reads[frame];
            self.read_slots(frame, reads);
        }
        if self.graph.is(self.insn, super::cfg::JUMP) {
            self.note(|_| {});
        }
        self.inherit_precision(node)
    }

    /// Stack slots were read: the checkpoints above that did not write them must know.
    pub(super) fn read_slots(&mut self, frame: usize, slots: u64) {
        let mut slots = slots & !self.state.writes[frame];
        let mut above = self.state.parent;
        while let Some(node) = above {
            let node = &mut self.nodes[node as usize];
            slots &= !node.reads[frame];
            if slots == 0 {
                return;
            }
            node.reads[frame] |= slots;
            slots &= !node.state.writes[frame];
            above = node.state.parent;
        }
    }

    /// Counts that a checkpoint did not help; one that never does is dropped. The next one.
    fn miss(&mut self, at: u32, previous: &mut u32, counts: bool) -> u32 {
        let keep = if self.graph.is(self.insn, CHECKPOINT) { 64 } else { 3 };
        let node = &mut self.nodes[at as usize];
        let keep = if node.branches > 0 { keep } else { 3 };
        node.misses += u32::from(counts);
        let next = node.next;
        if node.misses <= node.hits * keep + keep {
            *previous = at + 1;
            return next;
        }
        if *previous == 0 {
            self.heads[self.insn as usize] = next;
        } else {
            self.nodes[*previous as usize - 1].next = next;
        }
        // Open ones are on the way up from the present state, and loop entries are asked for.
        if self.nodes[at as usize].branches == 0 && !self.graph.has_may_goto {
            self.free.push(at);
            self.statistics.peak_states -= 1;
        }
        next
    }

    /// Remembers the present state.
    fn checkpoint(&mut self) {
        self.at_checkpoint = (self.jumps, self.statistics.instructions_processed);
        self.statistics.total_states += 1;
        self.statistics.peak_states += 1;
        self.state.forget_precision();
        let at = self.insn;
        let index = self.free.pop().unwrap_or_else(|| {
            self.nodes.push(Node::default());
            self.nodes.len() as u32 - 1
        });
        let node = &mut self.nodes[index as usize];
        node.state.clone_from(&self.state);
        node.insn = at;
        node.branches = 1;
        node.reads = [0; MAX_FRAMES];
        (node.hits, node.misses) = (0, 0);
        node.next = self.heads[at as usize];
        self.heads[at as usize] = index + 1;
        self.state.parent = Some(index);
        self.state.first_insn = at;
        self.state.history.start = self.state.history.end;
        self.state.depth += 1;
        self.state.writes = [0; MAX_FRAMES];
    }

    /// An open checkpoint of an instruction with the present calls, further up.
    /// Its depth must be below `depth`.
    pub(super) fn previous_entry(&self, insn: u32, depth: u32) -> Option<u32> {
        let mut next = self.heads[insn as usize];
        while next != 0 {
            let node = &self.nodes[next as usize - 1];
            let same = node.state.frames.len() <= self.state.frames.len()
                && node.state.frames.iter().zip(&self.state.frames).all(|(a, b)| a.call == b.call);
            if node.branches > 0 && same && node.state.depth < depth {
                return Some(next - 1);
            }
            next = node.next;
        }
        None
    }

    /// Forgets, in the present state, numbers that changed since a checkpoint and did not matter.
    pub(super) fn widen(&mut self, node: u32) {
        let old = std::mem::take(&mut self.nodes[node as usize].state);
        widen(&old, &mut self.state);
        self.nodes[node as usize].state = old;
    }

    /// The same in the branch that was kept last.
    pub(super) fn widen_pending(&mut self, node: u32) {
        let old = std::mem::take(&mut self.nodes[node as usize].state);
        if let (_, Some(branch)) = self.both_branches() {
            widen(&old, branch);
        }
        self.nodes[node as usize].state = old;
    }

    fn states_equal(&mut self, node: u32, how: Exactness) -> bool {
        let mut ids = std::mem::take(&mut self.id_map);
        ids.reset();
        let equal = self.compare(node, how, &mut ids);
        self.id_map = ids;
        equal
    }

    fn compare(&self, node: u32, how: Exactness, ids: &mut Ids) -> bool {
        let node = &self.nodes[node as usize];
        let (old, new) = (&node.state, &self.state);
        if old.frames.len() != new.frames.len() {
            return false;
        }
        let locks = match (old.lock, new.lock) {
            (None, None) => true,
            (Some(a), Some(b)) => a.map == b.map && ids.same(a.id, b.id),
            _ => false,
        };
        if !locks || old.references.len() != new.references.len() {
            return false;
        }
        for (depth, (a, b)) in old.frames.iter().zip(&new.frames).enumerate() {
            // A callback that was walked more often may have seen more.
            if a.call != b.call || a.callback_depth > b.callback_depth {
                return false;
            }
            let at = old.insn_of_frame(depth, self.insn);
            let live = self.graph.live[at as usize];
            for (number, (x, y)) in a.registers.iter().zip(&b.registers).enumerate() {
                let matters = live >> number & 1 != 0 || how == Exactness::Exact;
                if matters && !is_register_safe(x, y, ids, how) {
                    return false;
                }
            }
            if !is_stack_safe(a, b, node.reads[depth], ids, how) {
                return false;
            }
        }
        old.references.iter().zip(&new.references).all(|(a, b)| ids.same(a.id, b.id))
    }
}

/// Forgets numbers that differ and mattered in neither.
fn widen(old: &State, new: &mut State) {
    let forget = |old: &Register, new: &mut Register| {
        let numbers = old.is_scalar() && new.is_scalar() && !old.precise && !new.precise;
        if numbers && (old.bounds != new.bounds || old.id != new.id) {
            *new = Register::UNKNOWN;
        }
    };
    for (old, new) in old.frames.iter().zip(&mut new.frames) {
        for (old, new) in old.registers.iter().zip(&mut new.registers) {
            forget(old, new);
        }
        for (old, new) in old.stack.iter().zip(&mut new.stack) {
            if old.is_spill() && new.is_spill() {
                forget(&old.spilled, &mut new.spilled);
            }
        }
    }
}

fn is_exact(old: &Register, new: &Register, ids: &mut Ids) -> bool {
    let plain = |register: &Register| Register { id: 0, reference: 0, precise: false, ..*register };
    plain(old) == plain(new) && ids.same(old.id, new.id) && ids.same(old.reference, new.reference)
}

/// May the new register stand where the old one was (`regsafe`)?
fn is_register_safe(old: &Register, new: &Register, ids: &mut Ids, how: Exactness) -> bool {
    if how == Exactness::Exact {
        return is_exact(old, new, ids);
    }
    if old.kind == Kind::NotInit && (how == Exactness::Enough || new.kind == Kind::NotInit) {
        return true;
    }
    if old.kind != new.kind || old.flags != new.flags {
        return false;
    }
    match old.kind {
        Kind::Scalar => {
            if !old.precise && how == Exactness::Enough {
                return true;
            }
            let plus = (old.id & PLUS != 0, new.id & PLUS != 0);
            let linked_alike = match plus {
                (true, true) => old.offset == new.offset,
                (true, false) => false,
                (false, true) => old.id == 0,
                (false, false) => true,
            };
            linked_alike && ids.same_scalar(old.id, new.id) && old.bounds.contains(&new.bounds)
        }
        Kind::MapKey | Kind::MapValue | Kind::Memory => {
            old.offset == new.offset
                && old.target == new.target
                && old.origin == new.origin
                && old.bounds.contains(&new.bounds)
                && ids.same(old.id, new.id)
                && ids.same(old.reference, new.reference)
        }
        Kind::Packet | Kind::PacketMeta => {
            let ranges = if old.range < 0 || new.range < 0 {
                old.range == new.range
            } else {
                old.range <= new.range
            };
            ranges
                && old.offset == new.offset
                && ids.same(old.id, new.id)
                && old.bounds.contains(&new.bounds)
        }
        _ => is_exact(old, new, ids),
    }
}

/// May the new stack stand where the old one was (`stacksafe`)? `reads`: the slots that were read.
fn is_stack_safe(old: &Frame, new: &Frame, reads: u64, ids: &mut Ids, how: Exactness) -> bool {
    for (i, old_slot) in old.stack.iter().enumerate() {
        let new_slot = new.stack.get(i);
        if how != Exactness::Enough {
            let same = new_slot.is_some_and(|new_slot| new_slot.bytes == old_slot.bytes);
            if !same {
                return false;
            }
        } else if reads >> i & 1 == 0 {
            continue;
        }
        if !is_slot_safe(old_slot, new_slot.unwrap_or(&Slot::EMPTY), ids, how) {
            return false;
        }
    }
    true
}

fn is_slot_safe(old: &Slot, new: &Slot, ids: &mut Ids, how: Exactness) -> bool {
    // What was read as some data may be anything.
    let free = |byte: Byte| matches!(byte, Byte::Invalid | Byte::Data);
    if old.bytes.iter().all(|byte| free(*byte)) && !is_special(new) {
        return true;
    }
    if let (Some(old), Some(new)) = (as_scalar(old), as_scalar(new)) {
        return is_register_safe(&old, &new, ids, how);
    }
    for (old_byte, new_byte) in old.bytes.iter().zip(&new.bytes) {
        if free(*old_byte) && *new_byte != Byte::Dynptr {
            continue;
        }
        if old_byte != new_byte {
            return false;
        }
    }
    if old.is_spill() {
        return is_register_safe(&old.spilled, &new.spilled, ids, how);
    }
    if old.is_dynptr() {
        let (a, b) = (&old.spilled, &new.spilled);
        return a.target == b.target
            && a.origin == b.origin
            && ids.same(a.id, b.id)
            && ids.same(a.reference, b.reference);
    }
    true
}

fn is_special(slot: &Slot) -> bool {
    slot.bytes.contains(&Byte::Dynptr)
}

/// The number in a slot: a spilled one, or data, which may be any.
fn as_scalar(slot: &Slot) -> Option<Register> {
    if slot.is_whole_spill() && slot.spilled.is_scalar() {
        return Some(slot.spilled);
    }
    let data = slot.bytes.iter().all(|byte| matches!(byte, Byte::Data | Byte::Invalid));
    data.then_some(Register::UNKNOWN)
}
