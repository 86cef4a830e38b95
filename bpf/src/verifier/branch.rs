//! Conditional jumps: what each branch learns (`check_cond_jmp_op`).

use super::bounds::Bounds;
use super::cfg::MAY_GOTO;
use super::compare::{self, Comparison};
use super::precision::{self, Links};
use super::program::MapFacts;
use super::refusal::{Step, refuse};
use super::register::{AT_END, BEYOND_END, Kind, OR_NULL, PLUS, Register};
use super::state::{Frame, State};
use super::walk::{Next, Walk};
use crate::insn::Insn;

impl Walk<'_> {
    pub(super) fn conditional(&mut self, insn: Insn) -> Step<Next> {
        let following = self.insn + 1;
        let target = (i64::from(following) + i64::from(insn.offset)) as u32;
        if insn.opcode == MAY_GOTO {
            return self.may_goto(insn, target);
        }
        let Some(op) = Comparison::of(insn.opcode) else {
            refuse!(EINVAL, "invalid BPF_JMP/JMP32 opcode {:x}", insn.opcode & 0xf0);
        };
        let wide = insn.opcode & 7 == 5;
        let source = self.operand(insn)?;
        let taken = self.outcome(op, insn, &source, wide);
        if let Some(taken) = taken {
            if self.reg(insn.dst).is_scalar() {
                self.mark_precise(insn.dst)?;
            }
            if insn.opcode & 8 != 0 && source.is_scalar() {
                self.mark_precise(insn.src)?;
            }
            return Ok(Next::Insn(if taken { target } else { following }));
        }
        self.fork(op, insn, &source, wide, target)?;
        Ok(Next::Insn(following))
    }

    fn may_goto(&mut self, insn: Insn, target: u32) -> Step<Next> {
        if insn.src != 0 || insn.dst != 0 || insn.imm != 0 || insn.offset == 0 {
            refuse!(EINVAL, "invalid may_goto off {} imm {}", insn.offset, insn.imm);
        }
        let at = self.insn;
        // The newest checkpoint is the one that was just made for this very instruction.
        let before = self.previous_entry(at, self.state.depth.saturating_sub(1));
        self.branch_to(at + 1)?.may_goto_depth += 1;
        if let Some(before) = before {
            self.widen_pending(before);
        }
        Ok(Next::Insn(target))
    }

    /// The second operand, with the checks of both.
    fn operand(&mut self, insn: Insn) -> Step<Register> {
        self.check_read(insn.dst)?;
        let is_register = insn.opcode & 8 != 0;
        let reserved = if is_register { insn.imm != 0 } else { insn.src != 0 };
        if reserved {
            refuse!(EINVAL, "BPF_JMP/JMP32 uses reserved fields");
        }
        let source = if is_register {
            self.check_read(insn.src)?;
            *self.reg(insn.src)
        } else {
            Register::constant(i64::from(insn.imm) as u64)
        };
        let stack = |register: &Register| register.kind == Kind::Stack;
        let compares = (stack(self.reg(insn.dst)), stack(&source));
        if compares != (false, false) {
            self.note(|entry| entry.compares_stack = compares);
        }
        Ok(source)
    }

    /// Is it known which way the jump goes (`is_branch_taken`)?
    fn outcome(&self, op: Comparison, insn: Insn, source: &Register, wide: bool) -> Option<bool> {
        let target = self.reg(insn.dst);
        if target.is_any_packet() && source.is_any_packet() && wide {
            return packet_outcome(op, target, source);
        }
        match (target.is_pointer(), source.is_pointer()) {
            (false, false) => compare::is_known(op, &target.bounds, &source.bounds, wide),
            (true, true) => None,
            (pointer, _) => {
                let (pointer, number) = if pointer { (target, source) } else { (source, target) };
                let zero = if wide {
                    number.bounds.as_constant() == Some(0)
                } else {
                    number.bounds.as_constant32() == Some(0)
                };
                if !zero || !pointer.is_not_null() {
                    return None;
                }
                match op {
                    Comparison::Equal => Some(false),
                    Comparison::NotEqual => Some(true),
                    _ => None,
                }
            }
        }
    }

    /// What a pointer that might have been null is when it is not (`mark_ptr_not_null_reg`).
    pub(super) fn not_null(&self, register: &Register) -> Register {
        let mut sure = Register { flags: register.flags & !OR_NULL, id: 0, ..*register };
        if register.kind != Kind::MapValue {
            return sure;
        }
        let facts = self.maps[register.target as usize];
        match facts.map_type {
            MapFacts::ARRAY_OF_MAPS | MapFacts::HASH_OF_MAPS => {
                sure.kind = Kind::MapPointer;
                sure.target = self.inner[register.target as usize];
                // Values of different inner maps must not be taken for each other.
                sure.origin = register.id;
            }
            MapFacts::SOCKMAP | MapFacts::SOCKHASH => sure.kind = Kind::Socket,
            MapFacts::XSKMAP => sure.kind = Kind::XdpSocket,
            _ if facts.spin_lock.is_some() => sure.id = register.id,
            _ => {}
        }
        sure
    }

    fn fork(
        &mut self,
        op: Comparison,
        insn: Insn,
        source: &Register,
        wide: bool,
        target: u32,
    ) -> Step {
        let is_register = insn.opcode & 8 != 0;
        let destination = *self.reg(insn.dst);
        let mut links = Links::default();
        for register in [source, &destination] {
            if register.is_scalar() && register.id != 0 {
                links.collect(&self.state, register.id);
            }
        }
        if links.count() > 1 {
            self.note(|entry| entry.linked = links.packed());
        }
        self.branch_to(target)?;
        let dst = usize::from(insn.dst);
        let src = usize::from(insn.src);
        let (sure, sure_source) = (self.not_null(&destination), self.not_null(source));
        let (here, there) = self.both_branches();
        let Some(there) = there else { refuse!(EFAULT, "a branch was lost") };
        // The kernel compares only numbers, and only these learn ranges.
        if destination.is_scalar() && source.is_scalar() {
            let (mut a, mut b) = (destination.bounds, source.bounds);
            let (mut x, mut y) = (destination.bounds, source.bounds);
            // Nothing is learned by comparing a register with itself.
            if !is_register || insn.src != insn.dst {
                compare::refine(op, &mut a, &mut b, wide);
                compare::refine(op.negated(), &mut x, &mut y, wide);
            }
            learn_numbers(there, insn, (a, b), &links);
            learn_numbers(here, insn, (x, y), &links);
        }
        if is_register && wide && destination.is_pointer() && source.is_pointer() {
            let equal = match op {
                Comparison::Equal => Some(&mut *there),
                Comparison::NotEqual => Some(&mut *here),
                _ => None,
            };
            let objects = destination.kind == Kind::Btf || source.kind == Kind::Btf;
            if let Some(equal) = equal.filter(|_| !objects) {
                let registers = &mut equal.frame_mut().registers;
                if destination.is_not_null() && source.is(OR_NULL) {
                    registers[src] = sure_source;
                }
                if source.is_not_null() && destination.is(OR_NULL) {
                    registers[dst] = sure;
                }
            }
        }
        let tests_null = wide && !is_register && insn.imm == 0 && destination.is(OR_NULL);
        if tests_null && matches!(op, Comparison::Equal | Comparison::NotEqual) {
            let null_there = op == Comparison::Equal;
            settle_null(there, &destination, &sure, null_there);
            settle_null(here, &destination, &sure, !null_there);
        } else if is_register && wide {
            learn_packet(op, &destination, source, here, there);
        }
        Ok(())
    }
}

/// Both operands have new bounds on this branch, and so have the numbers linked with them.
fn learn_numbers(state: &mut State, insn: Insn, (target, source): (Bounds, Bounds), links: &Links) {
    let (dst, src) = (usize::from(insn.dst), usize::from(insn.src));
    let registers = &mut state.frame_mut().registers;
    registers[dst].bounds = target;
    if insn.opcode & 8 != 0 {
        registers[src].bounds = source;
        let known = registers[src];
        if known.id != 0 {
            links.spread(state, &known);
        }
    }
    let known = state.frame().registers[dst];
    if known.id != 0 {
        links.spread(state, &known);
    }
}

/// All copies of a pointer that may be null become the sure pointer, or zero.
fn settle_null(state: &mut State, tested: &Register, sure: &Register, is_null: bool) {
    let id = tested.id;
    if is_null && tested.reference != 0 && tested.reference == id {
        // There is no object, and nothing to release.
        state.references.retain(|held| held.id != id);
    }
    state.each_register(|register| {
        if register.id == id && register.is(OR_NULL) {
            *register = if is_null { Register::constant(0) } else { *sure };
        }
    });
}

fn packet_outcome(op: Comparison, a: &Register, b: &Register) -> Option<bool> {
    let (packet, op) = match (a.kind, b.kind) {
        (Kind::Packet | Kind::PacketMeta, Kind::PacketEnd) => (a, op),
        (Kind::PacketEnd, Kind::Packet | Kind::PacketMeta) => (b, op.flipped()),
        _ => return None,
    };
    if packet.range >= 0 {
        return None;
    }
    match (op, packet.range) {
        (Comparison::AtMost, BEYOND_END) => Some(false),
        (Comparison::Above, BEYOND_END) => Some(true),
        (Comparison::Below, BEYOND_END | AT_END) => Some(false),
        (Comparison::AtLeast, BEYOND_END | AT_END) => Some(true),
        _ => None,
    }
}

/// A comparison with the packet's end (or of metadata with the packet's start) says how many bytes
/// there are (`try_match_pkt_pointers`).
fn learn_packet(op: Comparison, a: &Register, b: &Register, here: &mut State, there: &mut State) {
    let is_start = |register: &Register| {
        register.kind == Kind::Packet && register.offset == 0 && register.bounds.is_zero()
    };
    let ends = |pointer: &Register, end: &Register| match pointer.kind {
        Kind::Packet => end.kind == Kind::PacketEnd,
        Kind::PacketMeta => is_start(end),
        _ => false,
    };
    let (pointer, op) = if ends(a, b) {
        (a, op)
    } else if ends(b, a) {
        (b, op.flipped())
    } else {
        return;
    };
    let ends_packet = a.kind == Kind::PacketEnd || b.kind == Kind::PacketEnd;
    // `strictly`: the pointer itself is before the end, so that one more byte is there.
    let (inside, outside, strictly) = match op {
        Comparison::Below => (there, here, true),
        Comparison::AtMost => (there, here, false),
        Comparison::Above => (here, there, false),
        Comparison::AtLeast => (here, there, true),
        _ => return,
    };
    grow_range(inside, pointer, strictly);
    if ends_packet {
        let beyond = if strictly { AT_END } else { BEYOND_END };
        let frame = outside.frame_mut();
        for register in frame.registers.iter_mut() {
            // Only the compared register is known to be there; its copies keep what they had.
            if register == pointer && register.kind == Kind::Packet {
                register.range = beyond;
            }
        }
    }
}

/// Every pointer with the same variable part has at least these bytes behind it.
fn grow_range(state: &mut State, pointer: &Register, strictly: bool) {
    let nothing = pointer.offset < 0 || (pointer.offset == 0 && strictly);
    let whole = pointer.bounds.umax.checked_add(pointer.offset as u64);
    if nothing || whole.is_none_or(|whole| whole > u64::from(u16::MAX)) {
        return;
    }
    let range = pointer.offset + i32::from(strictly);
    state.each_register(|register| {
        if register.kind == pointer.kind && register.id == pointer.id {
            register.range = register.range.max(range);
        }
    });
}

/// What other copies of a register learn when it learned something (`sync_linked_regs`).
pub(super) fn bounds_of_link(linked: &Register, known: &Register) -> Option<(Bounds, u32, i32)> {
    if !linked.is_scalar() || linked.id & !PLUS != known.id & !PLUS || known.id == 0 {
        return None;
    }
    let delta = |register: &Register| if register.id & PLUS != 0 { register.offset } else { 0 };
    let distance = i64::from(delta(linked)) - i64::from(delta(known));
    if linked.id & PLUS == known.id & PLUS && distance == 0 {
        return Some((known.bounds, linked.id, linked.offset));
    }
    let by = Bounds::constant(distance as u64);
    let bounds = super::scalar::compute(super::scalar::Operation::Add, &known.bounds, &by, true);
    Some((bounds, linked.id, linked.offset))
}

/// A frame's register or spilled register, by the numbers that [`precision::Links`] uses.
pub(super) fn linked_register(frame: &mut Frame, place: precision::Place) -> Option<&mut Register> {
    match place {
        precision::Place::Register(number) => frame.registers.get_mut(usize::from(number)),
        precision::Place::Slot(slot) => {
            frame.stack.get_mut(usize::from(slot)).map(|slot| &mut slot.spilled)
        }
    }
}
