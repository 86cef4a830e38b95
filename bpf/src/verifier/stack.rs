//! The stack: what is stored there byte by byte, and registers that are kept whole.

use super::alu::MAX_OFFSET;
use super::memory::Attempt;
use super::refusal::{Refusal, Step, refuse};
use super::register::{Kind, Register};
use super::state::{Byte, MAX_STACK};
use super::walk::Walk;
use crate::errno::Errno;

/// The slot and the byte in it of an offset from r10.
pub(crate) fn place(offset: i32) -> (usize, usize) {
    (((-offset - 1) / 8) as usize, offset.rem_euclid(8) as usize)
}

impl Walk<'_> {
    /// An instruction's load or store. `offset` is from r10, without the variable part.
    pub(super) fn access_stack(
        &mut self,
        pointer: &Register,
        attempt: Attempt,
        offset: i32,
    ) -> Step {
        let how = if attempt.write { " write to" } else { " read from" };
        self.check_stack_bounds(attempt.register, offset, attempt.size, how)?;
        let frame = usize::from(pointer.frame);
        match (pointer.bounds.as_constant(), attempt.write) {
            (Some(fixed), false) => self.read_fixed(frame, offset + fixed as i32, attempt),
            (Some(fixed), true) => self.write_fixed(frame, offset + fixed as i32, attempt),
            (None, false) => self.read_variable(pointer, offset, attempt),
            (None, true) => self.write_variable(pointer, offset, attempt),
        }
    }

    /// Is all of an access in the stack, wherever in its range it goes? Makes the stack that large.
    pub(super) fn check_stack_bounds(
        &mut self,
        number: u8,
        offset: i32,
        size: u32,
        how: &str,
    ) -> Step {
        let pointer = *self.reg(number);
        let fixed = pointer.bounds.as_constant();
        let (low, high) = match fixed {
            Some(fixed) => (i64::from(offset) + fixed as i64, i64::from(offset) + fixed as i64),
            None => {
                let (low, high) = (pointer.bounds.smin, pointer.bounds.smax);
                if high >= MAX_OFFSET || low <= -MAX_OFFSET {
                    refuse!(EACCES, "invalid unbounded variable-offset{how} stack R{number}");
                }
                (low + i64::from(offset), high + i64::from(offset))
            }
        };
        let begins = low >= -i64::from(MAX_STACK) && low <= -1;
        if !begins || high + i64::from(size) > 0 {
            let bits = pointer.bounds.bits;
            let message = match fixed {
                Some(_) => format!("invalid{how} stack R{number} off={low} size={size}"),
                None => format!(
                    "invalid variable-offset{how} stack R{number} var_off={bits} off={offset} size={size}"
                ),
            };
            // The kernel tells a wrong end from a wrong start by the errno.
            let errno = if begins { Errno::EINVAL } else { Errno::EACCES };
            return Err(Refusal::boxed(errno, message));
        }
        let frame = &mut self.state.frames[usize::from(pointer.frame)];
        frame.grow(-low as usize);
        let depth = &mut self.stack_depths[frame.subprogram as usize];
        *depth = (*depth).max(frame.stack.len() as u32 * 8);
        Ok(())
    }

    fn read_fixed(&mut self, frame: usize, offset: i32, attempt: Attempt) -> Step {
        let (index, first) = place(offset);
        let size = attempt.size as usize;
        let slot = self.state.frames[frame].stack[index];
        self.read_slots(frame, 1 << index);
        let bytes = &slot.bytes[first..(first + size).min(8)];
        if slot.is_spill() {
            let spilled = slot.bytes.iter().take_while(|byte| **byte == Byte::Spill).count();
            if (size != 8 || spilled != 8) && !slot.spilled.is_scalar() {
                refuse!(EACCES, "invalid size of register fill");
            }
            let Some(value) = attempt.value else { return Ok(()) };
            if first == 0 && size <= spilled {
                let mut filled = slot.spilled;
                if filled.is_scalar() && size < 8 && filled.bounds.umax >> (size * 8) != 0 {
                    (filled.id, filled.offset) = (0, 0);
                }
                *self.reg_mut(value) = filled;
                return self.note_slot(frame, index);
            }
            let zero = slot.spilled.is_null() && bytes.iter().all(|byte| *byte == Byte::Spill);
            if zero {
                *self.reg_mut(value) = Register::constant(0);
                return self.note_slot(frame, index);
            }
        }
        if let Some(at) = bytes.iter().position(|byte| *byte == Byte::Dynptr) {
            refuse!(EACCES, "invalid read from stack off {offset}+{at} size {size}");
        }
        if let Some(value) = attempt.value {
            let zero = bytes.iter().all(|byte| *byte == Byte::Zero);
            *self.reg_mut(value) = if zero { Register::constant(0) } else { Register::UNKNOWN };
        }
        Ok(())
    }

    /// For backtracking: this instruction fills from, or spills to, a slot.
    fn note_slot(&mut self, frame: usize, slot: usize) -> Step {
        self.note(|entry| entry.slot = Some((frame as u8, slot as u8)));
        Ok(())
    }

    fn read_variable(&mut self, pointer: &Register, offset: i32, attempt: Attempt) -> Step {
        self.check_stack_initialized(attempt.register, offset, attempt.size, false)?;
        let Some(value) = attempt.value else { return Ok(()) };
        let low = pointer.bounds.smin as i32 + offset;
        let high = pointer.bounds.smax as i32 + offset + attempt.size as i32;
        let frame = &self.state.frames[usize::from(pointer.frame)];
        let zero = (low..high).all(|at| {
            let (slot, byte) = place(at);
            frame.stack[slot].bytes[byte] == Byte::Zero
        });
        *self.reg_mut(value) = if zero { Register::constant(0) } else { Register::UNKNOWN };
        Ok(())
    }

    /// May every byte be read (`check_stack_range_initialized`)? `clobbers`: a helper may write them.
    pub(super) fn check_stack_initialized(
        &mut self,
        number: u8,
        offset: i32,
        size: u32,
        clobbers: bool,
    ) -> Step {
        let pointer = *self.reg(number);
        let frame = usize::from(pointer.frame);
        let low = pointer.bounds.smin as i32 + offset;
        let high = pointer.bounds.smax as i32 + offset + size as i32;
        for at in low..high {
            let (index, byte) = place(at);
            self.read_slots(frame, 1 << index);
            let slot = &mut self.state.frames[frame].stack[index];
            match slot.bytes[byte] {
                Byte::Data => {}
                Byte::Invalid | Byte::Zero => {
                    if clobbers {
                        slot.bytes[byte] = Byte::Data;
                    }
                }
                Byte::Spill => {
                    if clobbers {
                        slot.scrub();
                        slot.spilled = Register::UNKNOWN;
                    }
                }
                Byte::Dynptr => {
                    let part = at - low;
                    if pointer.has_fixed_offset() {
                        refuse!(
                            EACCES,
                            "invalid read from stack R{number} off {low}+{part} size {size}"
                        );
                    }
                    let bits = pointer.bounds.bits;
                    refuse!(
                        EACCES,
                        "invalid read from stack R{number} var_off {bits}+{part} size {size}"
                    );
                }
            }
        }
        Ok(())
    }

    fn write_fixed(&mut self, frame: usize, offset: i32, attempt: Attempt) -> Step {
        let (index, first) = place(offset);
        let size = attempt.size as usize;
        self.end_dynptr_at(frame, index)?;
        let insn = self.insns[self.insn as usize];
        let plain_store = insn.opcode & 7 == 2;
        let stored = match attempt.value {
            Some(number) => Some(*self.reg(number)),
            None if plain_store => Some(Register::constant(i64::from(insn.imm) as u64)),
            None => None,
        };
        if let Some(stored) = stored.filter(|stored| first == 0 && stored.is_scalar()) {
            return self.spill_scalar(frame, index, stored, attempt);
        }
        if let Some(stored) = stored.filter(Register::is_pointer) {
            if size != 8 {
                refuse!(EACCES, "invalid size of register spill");
            }
            if frame != self.state.depth_of_calls() && stored.kind == Kind::Stack {
                refuse!(EINVAL, "cannot spill pointers to stack into stack frame of the caller");
            }
            self.spill(frame, index, stored, 8);
            return self.note_slot(frame, index);
        }
        let zero = stored.is_some_and(|stored| stored.is_null());
        if let Some(number) = attempt.value.filter(|_| zero) {
            self.mark_precise(number)?;
        }
        if size == 8 {
            self.state.writes[frame] |= 1 << index;
        }
        let slot = &mut self.state.frames[frame].stack[index];
        slot.scrub();
        slot.bytes[first..first + size].fill(if zero { Byte::Zero } else { Byte::Data });
        Ok(())
    }

    fn spill_scalar(
        &mut self,
        frame: usize,
        index: usize,
        stored: Register,
        attempt: Attempt,
    ) -> Step {
        let size = attempt.size as usize;
        let fits = size == 8 || stored.bounds.umax >> (size * 8) == 0;
        let mut stored = stored;
        if let Some(number) = attempt.value {
            if fits {
                self.link_before_copy(number);
            }
            stored = *self.reg(number);
        }
        if !fits {
            (stored.id, stored.offset) = (0, 0);
        }
        self.spill(frame, index, stored, size);
        self.note_slot(frame, index)
    }

    fn spill(&mut self, frame: usize, index: usize, stored: Register, size: usize) {
        if size == 8 {
            self.state.writes[frame] |= 1 << index;
        }
        let slot = &mut self.state.frames[frame].stack[index];
        slot.spilled = stored;
        slot.bytes[..size].fill(Byte::Spill);
        for byte in &mut slot.bytes[size..] {
            if *byte != Byte::Zero {
                *byte = Byte::Data;
            }
        }
    }

    /// Any byte in the range may be written: what was known of them is not any more.
    fn write_variable(&mut self, pointer: &Register, offset: i32, attempt: Attempt) -> Step {
        let frame = usize::from(pointer.frame);
        let low = pointer.bounds.smin as i32 + offset;
        let high = pointer.bounds.smax as i32 + offset + attempt.size as i32;
        let insn = self.insns[self.insn as usize];
        let zero = match attempt.value {
            Some(number) => self.reg(number).is_null(),
            None => insn.opcode & 7 == 2 && insn.imm == 0,
        };
        for at in low..high {
            self.end_dynptr_at(frame, place(at).0)?;
        }
        let mut kept_zero = false;
        for at in low..high {
            let (index, byte) = place(at);
            let slot = &mut self.state.frames[frame].stack[index];
            if zero && slot.bytes[byte] == Byte::Spill && slot.is_spill() && slot.spilled.is_null()
            {
                kept_zero = true;
                continue;
            }
            slot.scrub();
            let keeps = zero && slot.bytes[byte] == Byte::Zero;
            kept_zero |= keeps;
            slot.bytes[byte] = if keeps { Byte::Zero } else { Byte::Data };
        }
        if let Some(number) = attempt.value.filter(|_| kept_zero) {
            self.mark_precise(number)?;
        }
        Ok(())
    }
}
