//! Dynptrs: two slots of stack that a helper fills and that only helpers read.

use super::argument::Meta;
use super::prototype::{Argument, DynptrKind};
use super::refusal::{Step, refuse};
use super::register::{Kind, Register};
use super::state::{Byte, Slot};
use super::walk::Walk;

impl Walk<'_> {
    pub(super) fn check_dynptr(
        &mut self,
        number: u8,
        argument: Argument,
        wanted: DynptrKind,
        meta: &mut Meta,
    ) -> Step {
        let register = *self.reg(number);
        if argument.uninitialized {
            return self.make_dynptr(number, wanted, meta);
        }
        if register.kind == Kind::Dynptr {
            (meta.dynptr, meta.reference) = (register.id, register.reference);
            return Ok(());
        }
        let frame = usize::from(register.frame);
        let slot = self.dynptr_slot(&register)?;
        let held = slot.and_then(|slot| self.state.frames[frame].stack.get(slot)).copied();
        let Some(held) = held.filter(|held| held.is_dynptr() && held.spilled.origin == 1) else {
            refuse!(EINVAL, "Expected an initialized dynptr as arg #{number}");
        };
        if wanted != DynptrKind::Any && held.spilled.target != wanted as u32 {
            let name = if wanted == DynptrKind::Ringbuf { "ringbuf" } else { "local" };
            refuse!(EINVAL, "Expected a dynptr of type {name} as arg #{number}");
        }
        if let Some(slot) = slot {
            self.read_slots(frame, 0b11 << (slot - 1));
        }
        meta.dynptr = held.spilled.id;
        meta.reference = held.spilled.reference;
        Ok(())
    }

    /// The slot of a dynptr's lower half; `None` beyond the stack that was used.
    fn dynptr_slot(&self, register: &Register) -> Step<Option<usize>> {
        let Some(fixed) = register.bounds.as_constant() else {
            refuse!(EINVAL, "dynptr has to be at a constant offset");
        };
        let offset = i64::from(register.offset) + fixed as i64;
        if offset % 8 != 0 || !(-512..=-16).contains(&offset) {
            refuse!(EINVAL, "cannot pass in dynptr at an offset={offset}");
        }
        let slot = (-offset - 1) as usize / 8;
        let frame = &self.state.frames[usize::from(register.frame)];
        Ok((slot < frame.stack.len()).then_some(slot))
    }

    fn make_dynptr(&mut self, number: u8, kind: DynptrKind, meta: &Meta) -> Step {
        let register = *self.reg(number);
        if register.kind == Kind::Dynptr {
            refuse!(EINVAL, "Dynptr has to be an uninitialized dynptr");
        }
        self.dynptr_slot(&register)?;
        self.store_slot(number, 0)?;
        self.store_slot(number, 8)?;
        let Some(slot) = self.dynptr_slot(&register)? else {
            refuse!(EINVAL, "Dynptr has to be an uninitialized dynptr");
        };
        let id = self.new_id();
        // A record is held until it is submitted or discarded.
        let reference = match kind {
            DynptrKind::Ringbuf => self.acquire(),
            _ => meta.reference,
        };
        let frame = &mut self.state.frames[usize::from(register.frame)];
        for (slot, first) in [(slot, 1), (slot - 1, 0)] {
            frame.stack[slot] = Slot {
                bytes: [Byte::Dynptr; 8],
                spilled: Register {
                    target: kind as u32,
                    origin: first,
                    id,
                    reference,
                    ..Register::pointer(Kind::Dynptr)
                },
            };
            self.state.writes[usize::from(register.frame)] |= 1 << slot;
        }
        Ok(())
    }

    /// A write to a dynptr's slot ends it, with the slices of it; one that holds a record may not be.
    pub(super) fn end_dynptr_at(&mut self, frame: usize, index: usize) -> Step {
        let stack = &self.state.frames[frame].stack;
        let Some(held) = stack.get(index).filter(|slot| slot.is_dynptr()).copied() else {
            return Ok(());
        };
        let reference = held.spilled.reference;
        if held.spilled.target == DynptrKind::Ringbuf as u32 && reference != 0 {
            refuse!(EINVAL, "cannot overwrite referenced dynptr");
        }
        self.forget_dynptr(frame, held.spilled.id);
        Ok(())
    }

    fn forget_dynptr(&mut self, frame: usize, id: u32) {
        for (index, slot) in self.state.frames[frame].stack.iter_mut().enumerate() {
            if slot.is_dynptr() && slot.spilled.id == id {
                *slot = Slot::EMPTY;
                self.state.writes[frame] |= 1 << index;
            }
        }
        self.state.each_register(|register| {
            if register.kind == Kind::Memory && register.origin == id {
                *register = Register::UNKNOWN;
            }
        });
    }

    /// Submits or discards the record of a dynptr.
    pub(super) fn release_dynptr(&mut self, number: u8) -> Step {
        let register = *self.reg(number);
        let frame = usize::from(register.frame);
        let Some(slot) = self.dynptr_slot(&register)? else {
            refuse!(EINVAL, "arg {number} is an unacquired reference");
        };
        let held = self.state.frames[frame].stack[slot].spilled;
        if held.reference == 0 || !self.release(held.reference) {
            refuse!(EINVAL, "arg {number} is an unacquired reference");
        }
        self.forget_dynptr(frame, held.id);
        Ok(())
    }
}
