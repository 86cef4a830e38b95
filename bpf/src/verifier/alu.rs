//! Arithmetic instructions: on numbers, and of pointers with numbers (`check_alu_op`).

use super::bounds::Bounds;
use super::refusal::{Step, refuse};
use super::register::{Kind, OR_NULL, PLUS, Register};
use super::scalar::{self, Operation};
use super::walk::Walk;
use crate::insn::Insn;

/// How far an offset may go (`BPF_MAX_VAR_OFF`).
pub(crate) const MAX_OFFSET: i64 = 1 << 29;
/// Names of operations in messages (`bpf_alu_string`).
const NAMES: [&str; 14] =
    ["+=", "-=", "*=", "/=", "|=", "&=", "<<=", ">>=", "neg", "%=", "^=", "=", "s>>=", "endian"];

/// The register form of an instruction?
fn is_register(insn: Insn) -> bool {
    insn.opcode & 8 != 0
}

/// Does a byte-order instruction swap? `le` does not, on machines as BPF's are here.
fn swaps(insn: Insn) -> bool {
    is_register(insn) || insn.opcode & 7 == 7
}

impl Walk<'_> {
    pub(super) fn alu(&mut self, insn: Insn) -> Step {
        let wide = insn.opcode & 7 == 7;
        let Some(op) = Operation::of(insn) else {
            refuse!(EINVAL, "invalid BPF_ALU opcode {:x}", insn.opcode & 0xf0);
        };
        match op {
            Operation::Neg => {
                if is_register(insn) || insn.src != 0 || insn.offset != 0 || insn.imm != 0 {
                    refuse!(EINVAL, "BPF_NEG uses reserved fields");
                }
                self.check_unary(insn)?;
                let a = *self.reg(insn.dst);
                let bounds = match a.is_scalar() {
                    true => scalar::compute(Operation::Neg, &a.bounds, &a.bounds, wide),
                    false => Bounds::UNKNOWN,
                };
                *self.reg_mut(insn.dst) =
                    Register { bounds, precise: a.precise && a.is_scalar(), ..Register::UNKNOWN };
            }
            Operation::End => {
                let size = matches!(insn.imm, 16 | 32 | 64);
                if insn.src != 0 || insn.offset != 0 || !size || (wide && is_register(insn)) {
                    refuse!(EINVAL, "BPF_END uses reserved fields");
                }
                self.check_unary(insn)?;
                let held = *self.reg(insn.dst);
                let bounds = match held.is_scalar() {
                    true => scalar::reorder(&held.bounds, insn.imm as u32 / 8, swaps(insn)),
                    false => Bounds::UNKNOWN,
                };
                let precise = held.precise && held.is_scalar();
                *self.reg_mut(insn.dst) = Register { bounds, precise, ..Register::UNKNOWN };
            }
            Operation::Mov => self.mov(insn, wide)?,
            _ => self.binary(insn, op, wide)?,
        }
        let bounds = &mut self.reg_mut(insn.dst).bounds;
        if bounds.is_empty() {
            *bounds = Bounds::UNKNOWN;
        }
        Ok(())
    }

    fn check_unary(&self, insn: Insn) -> Step {
        self.check_read(insn.dst)?;
        self.check_write(insn.dst)
    }

    fn mov(&mut self, insn: Insn, wide: bool) -> Step {
        if !is_register(insn) {
            if insn.src != 0 || insn.offset != 0 {
                refuse!(EINVAL, "BPF_MOV uses reserved fields");
            }
            self.check_write(insn.dst)?;
            let value = if wide { i64::from(insn.imm) as u64 } else { u64::from(insn.imm as u32) };
            *self.reg_mut(insn.dst) = Register::constant(value);
            return Ok(());
        }
        if wide && insn.offset == 1 {
            refuse!(
                EINVAL,
                "addr_space_cast insn can only be used in a program that has an associated arena"
            );
        }
        let known = matches!(insn.offset, 0 | 8 | 16) || (wide && insn.offset == 32);
        if !known || insn.imm != 0 {
            refuse!(EINVAL, "BPF_MOV uses reserved fields");
        }
        self.check_read(insn.src)?;
        self.check_write(insn.dst)?;
        if wide && insn.offset == 0 {
            self.link_before_copy(insn.src);
            *self.reg_mut(insn.dst) = *self.reg(insn.src);
            return Ok(());
        }
        let source = *self.reg(insn.src);
        if !source.is_scalar() {
            *self.reg_mut(insn.dst) = Register::UNKNOWN;
            if !wide {
                self.reg_mut(insn.dst).bounds.zero_extend32();
            }
            return Ok(());
        }
        // Where the copy has the same value, both go on knowing of each other.
        let same = match insn.offset {
            0 => source.bounds.umax <= u32::MAX.into(),
            bits => source.bounds.umax < 1 << (bits - 1),
        };
        if same {
            self.link_before_copy(insn.src);
        }
        let mut copy = *self.reg(insn.src);
        if !same {
            (copy.id, copy.offset) = (0, 0);
        }
        match (insn.offset, wide) {
            (0, _) => copy.bounds.zero_extend32(),
            (bits, true) => copy.bounds.sign_extend(bits as u32 / 8),
            (bits, false) => copy.bounds.sign_extend32(bits as u32 / 8),
        }
        *self.reg_mut(insn.dst) = copy;
        Ok(())
    }

    /// Gives a number that is about to be copied an id, so that what one copy learns in a
    /// comparison the others learn too.
    pub(super) fn link_before_copy(&mut self, number: u8) {
        let register = *self.reg(number);
        if !register.is_scalar() {
            return;
        }
        if register.id & PLUS != 0 {
            let register = self.reg_mut(number);
            (register.id, register.offset) = (0, 0);
        }
        if self.reg(number).id == 0 && !register.bounds.bits.is_constant() {
            let id = self.new_id();
            self.reg_mut(number).id = id;
        }
    }

    fn binary(&mut self, insn: Insn, op: Operation, wide: bool) -> Step {
        let signed_allowed = matches!(op, Operation::Div | Operation::Mod);
        let reserved = if is_register(insn) { insn.imm != 0 } else { insn.src != 0 };
        if reserved || !(insn.offset == 0 || (insn.offset == 1 && signed_allowed)) {
            refuse!(EINVAL, "BPF_ALU uses reserved fields");
        }
        if is_register(insn) {
            self.check_read(insn.src)?;
        }
        self.check_read(insn.dst)?;
        if !is_register(insn) {
            if signed_allowed && insn.imm == 0 {
                refuse!(EINVAL, "div by zero");
            }
            let width = if wide { 64 } else { 32 };
            let shifts = matches!(op, Operation::Lsh | Operation::Rsh | Operation::Arsh);
            if shifts && !(0..width).contains(&insn.imm) {
                refuse!(EINVAL, "invalid shift {}", insn.imm);
            }
        }
        self.check_write(insn.dst)?;
        let source = match is_register(insn) {
            true => *self.reg(insn.src),
            false => Register::constant(i64::from(insn.imm) as u64),
        };
        let target = *self.reg(insn.dst);
        match (target.is_scalar(), source.is_scalar()) {
            (true, true) => {}
            (false, false) if op == Operation::Sub => {
                *self.reg_mut(insn.dst) = Register::UNKNOWN;
                return Ok(());
            }
            (false, false) => {
                refuse!(EACCES, "R{} pointer {} pointer prohibited", insn.dst, name(insn));
            }
            (true, false) => {
                self.mark_precise(insn.dst)?;
                return self.pointer(insn, op, wide, &source, &target, false);
            }
            (false, true) => {
                if is_register(insn) {
                    self.mark_precise(insn.src)?;
                }
                return self.pointer(insn, op, wide, &target, &source, true);
            }
        }
        if target.precise && is_register(insn) {
            self.mark_precise(insn.src)?;
        }
        let bounds = scalar::compute(op, &target.bounds, &source.bounds, wide);
        let register = self.reg_mut(insn.dst);
        register.bounds = bounds;
        let itself = is_register(insn) && insn.src == insn.dst;
        let by = source.as_constant().filter(|by| *by <= i32::MAX as u64);
        match by {
            Some(by)
                if op == Operation::Add
                    && wide
                    && !itself
                    && target.id != 0
                    && target.id & PLUS == 0 =>
            {
                register.id |= PLUS;
                register.offset = by as i32;
            }
            _ => (register.id, register.offset) = (0, 0),
        }
        Ok(())
    }

    /// `pointer ± number` (`adjust_ptr_min_max_vals`). `leads`: the pointer is the destination.
    fn pointer(
        &mut self,
        insn: Insn,
        op: Operation,
        wide: bool,
        pointer: &Register,
        by: &Register,
        leads: bool,
    ) -> Step {
        let constant = by.bounds.as_constant();
        let dst = insn.dst;
        if by.bounds.is_empty() {
            *self.reg_mut(dst) = Register::UNKNOWN;
            return Ok(());
        }
        if !wide {
            if op == Operation::Sub {
                *self.reg_mut(dst) = Register::UNKNOWN;
                return Ok(());
            }
            refuse!(EACCES, "R{dst} 32-bit pointer arithmetic prohibited");
        }
        let type_name = || pointer.type_name();
        if pointer.is(OR_NULL) {
            let name = type_name();
            refuse!(EACCES, "R{dst} pointer arithmetic on {name} prohibited, null-check it first");
        }
        let nothing = constant == Some(0) && op == Operation::Add;
        let movable = match pointer.kind {
            Kind::MapPointer => nothing,
            Kind::PacketEnd => false,
            _ => !pointer.is_socket(),
        };
        if !movable {
            refuse!(EACCES, "R{dst} pointer arithmetic on {} prohibited", type_name());
        }
        check_sane(by, pointer)?;
        check_sane(pointer, pointer)?;
        let moved = match op {
            Operation::Add => self.add(pointer, by),
            Operation::Sub if !leads => {
                refuse!(EACCES, "R{dst} tried to subtract pointer from scalar");
            }
            Operation::Sub if pointer.kind == Kind::Stack => {
                refuse!(EACCES, "R{dst} subtraction from stack pointer prohibited");
            }
            Operation::Sub => self.subtract(pointer, by),
            Operation::And | Operation::Or | Operation::Xor => {
                refuse!(EACCES, "R{dst} bitwise operator {} on pointer prohibited", name(insn));
            }
            _ => {
                let name = name(insn);
                refuse!(EACCES, "R{dst} pointer arithmetic with {name} operator prohibited");
            }
        };
        check_sane(&moved, pointer)?;
        *self.reg_mut(dst) = moved;
        Ok(())
    }

    fn add(&mut self, pointer: &Register, by: &Register) -> Register {
        let mut moved = *pointer;
        let sum =
            by.bounds.as_constant().map(|by| i64::from(pointer.offset).checked_add(by as i64));
        if let Some(Some(offset)) = sum
            && let Ok(offset) = i32::try_from(offset)
        {
            moved.offset = offset;
            return moved;
        }
        moved.bounds.forget32();
        let bounds = &mut moved.bounds;
        match (bounds.smin.checked_add(by.bounds.smin), bounds.smax.checked_add(by.bounds.smax)) {
            (Some(low), Some(high)) => (bounds.smin, bounds.smax) = (low, high),
            _ => bounds.forget_signed(),
        }
        match (bounds.umin.checked_add(by.bounds.umin), bounds.umax.checked_add(by.bounds.umax)) {
            (Some(low), Some(high)) => (bounds.umin, bounds.umax) = (low, high),
            _ => bounds.forget_unsigned(),
        }
        bounds.bits = bounds.bits.add(by.bounds.bits);
        bounds.settle();
        if moved.is_packet() {
            moved.id = self.new_id();
            moved.range = 0;
        }
        moved
    }

    fn subtract(&mut self, pointer: &Register, by: &Register) -> Register {
        let mut moved = *pointer;
        let rest =
            by.bounds.as_constant().map(|by| i64::from(pointer.offset).checked_sub(by as i64));
        if let Some(Some(offset)) = rest
            && let Ok(offset) = i32::try_from(offset)
        {
            moved.offset = offset;
            return moved;
        }
        moved.bounds.forget32();
        let bounds = &mut moved.bounds;
        match (bounds.smin.checked_sub(by.bounds.smax), bounds.smax.checked_sub(by.bounds.smin)) {
            (Some(low), Some(high)) => (bounds.smin, bounds.smax) = (low, high),
            _ => bounds.forget_signed(),
        }
        match (bounds.umin.checked_sub(by.bounds.umax), bounds.umax.checked_sub(by.bounds.umin)) {
            (Some(low), Some(high)) => (bounds.umin, bounds.umax) = (low, high),
            _ => bounds.forget_unsigned(),
        }
        bounds.bits = bounds.bits.sub(by.bounds.bits);
        bounds.settle();
        if moved.is_packet() {
            moved.id = self.new_id();
            // What was proved of the packet holds still where the pointer moved back only.
            if by.bounds.smin < 0 {
                moved.range = 0;
            }
        }
        moved
    }
}

fn name(insn: Insn) -> &'static str {
    NAMES.get(usize::from(insn.opcode >> 4)).copied().unwrap_or("?")
}

/// Offsets stay so small that no later sum overflows (`check_reg_sane_offset`).
fn check_sane(register: &Register, pointer: &Register) -> Step {
    let bounds = &register.bounds;
    let kind = || pointer.type_name();
    if let Some(value) = bounds.as_constant() {
        let value = value as i64;
        if value >= MAX_OFFSET || value <= -MAX_OFFSET {
            refuse!(EINVAL, "math between {} pointer and {value} is not allowed", kind());
        }
    }
    let offset = i64::from(register.offset);
    if !register.is_scalar() && (offset >= MAX_OFFSET || offset <= -MAX_OFFSET) {
        refuse!(EINVAL, "{} pointer offset {offset} is not allowed", kind());
    }
    if bounds.smin == i64::MIN {
        refuse!(
            EINVAL,
            "math between {} pointer and register with unbounded min value is not allowed",
            kind()
        );
    }
    if bounds.smin >= MAX_OFFSET || bounds.smin <= -MAX_OFFSET {
        refuse!(EINVAL, "value {} makes {} pointer be out of bounds", bounds.smin, kind());
    }
    Ok(())
}
