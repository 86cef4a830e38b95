//! Calls of helpers: what they ask, what they give, what they change (`check_helper_call`).

use super::argument::Meta;
use super::cfg::PSEUDO_KFUNC;
use super::maps;
use super::memory::Attempt;
use super::prototype::{self, ArgumentKind, Prototype, ReturnType};
use super::refusal::{Step, refuse};
use super::register::{Kind, OR_NULL, RINGBUF, Register};
use super::state::{Byte, Reference};
use super::walk::{Next, Walk};
use crate::helper::HelperId;
use crate::insn::{Insn, PSEUDO_CALL};

/// `bpf_spin_unlock`, the only call while a lock is held.
const SPIN_UNLOCK: i32 = 94;

impl Walk<'_> {
    pub(super) fn call(&mut self, insn: Insn) -> Step<Next> {
        if (insn.src != PSEUDO_KFUNC && insn.offset != 0) || insn.src > PSEUDO_KFUNC {
            refuse!(EINVAL, "BPF_CALL uses reserved fields");
        }
        if self.state.lock.is_some() && insn.src != PSEUDO_CALL && insn.imm != SPIN_UNLOCK {
            refuse!(EINVAL, "function calls are not allowed while holding a lock");
        }
        match insn.src {
            PSEUDO_CALL => self.call_function(insn),
            PSEUDO_KFUNC => {
                refuse!(EINVAL, "kernel btf_id {} is not a function that Weir has", insn.imm);
            }
            _ => {
                self.call_helper(insn)?;
                Ok(Next::Insn(self.insn + 1))
            }
        }
    }

    fn call_helper(&mut self, insn: Insn) -> Step {
        let id = insn.imm as u32;
        let name = HelperId(id).name();
        if name == "unknown" || name == "unspec" {
            refuse!(EINVAL, "invalid func {name}#{id}");
        }
        let allowed = self.program.rules.allows_helper(id);
        let Some(prototype) = prototype::of(id).filter(|_| allowed) else {
            refuse!(EINVAL, "program of this type cannot use helper bpf_{name}#{id}");
        };
        if prototype.gpl_only && !self.program.gpl {
            refuse!(EINVAL, "cannot call GPL-restricted function from non-GPL compatible program");
        }
        let mut meta = Meta { packet_access: prototype.packet_access, ..Meta::default() };
        for i in 0..prototype.count() {
            self.check_argument(prototype, i, &mut meta)?;
        }
        maps::check_writes(self.map_of(&meta), id)?;
        self.note_map(&meta);
        if let Some((register, size)) = meta.raw {
            self.overwrite(register, size)?;
        }
        self.release_argument(prototype, &meta)?;
        self.call_specially(id, &mut meta)?;
        for number in 0..6 {
            *self.reg_mut(number) = Register::NOT_INIT;
        }
        self.set_result(prototype, &meta)?;
        maps::check_compatible(self.map_of(&meta), id)?;
        if prototype::changes_packet(id) {
            self.forget_packet();
        }
        Ok(())
    }

    fn map_of(&self, meta: &Meta) -> Option<&super::program::MapFacts<'_>> {
        meta.map.and_then(|map| self.maps.get(map as usize).copied())
    }

    /// For compilers: which map, and which key, if they are the same on every path.
    fn note_map(&mut self, meta: &Meta) {
        let Some(map) = meta.map else { return };
        let known = (meta.map_origin == 0).then_some(map as u16);
        let finding = &mut self.findings[self.insn as usize];
        if finding.map.is_none() && !finding.map_varies {
            (finding.map, finding.map_varies) = (known, known.is_none());
            (finding.key, finding.key_varies) = (meta.key, meta.key.is_none());
            return;
        }
        if finding.map != known {
            (finding.map, finding.map_varies) = (None, true);
        }
        if finding.key != meta.key {
            (finding.key, finding.key_varies) = (None, true);
        }
    }

    /// A helper may write all of this memory, and need not.
    fn overwrite(&mut self, register: u8, size: u32) -> Step {
        let pointer = *self.reg(register);
        if pointer.kind != Kind::Stack {
            return Ok(());
        }
        let frame = usize::from(pointer.frame);
        let low = pointer.offset + pointer.bounds.smin as i32;
        for at in low..low + size as i32 {
            let (index, byte) = super::stack::place(at);
            self.end_dynptr_at(frame, index)?;
            let slot = &mut self.state.frames[frame].stack[index];
            slot.scrub();
            slot.bytes[byte] = Byte::Data;
            if byte == 7 && at - 7 >= low {
                self.state.writes[frame] |= 1 << index;
            }
        }
        Ok(())
    }

    fn release_argument(&mut self, prototype: &Prototype, meta: &Meta) -> Step {
        let Some(register) = meta.release else { return Ok(()) };
        let argument = prototype.arguments[usize::from(register) - 1];
        if matches!(argument.kind, ArgumentKind::Dynptr(_)) {
            return self.release_dynptr(register);
        }
        let released = if meta.reference != 0 {
            self.release(meta.reference)
        } else {
            self.reg(register).is_null()
        };
        if !released {
            let id = prototype.id;
            let name = HelperId(id).name();
            refuse!(EINVAL, "func bpf_{name}#{id} reference has not been acquired before");
        }
        Ok(())
    }

    /// Gives a reference back: nothing that depends on it may be used any more.
    pub(super) fn release(&mut self, reference: u32) -> bool {
        let before = self.state.references.len();
        self.state.references.retain(|held| held.id != reference);
        if self.state.references.len() == before {
            return false;
        }
        self.state.each_register(|register| {
            if register.reference == reference {
                *register = Register::UNKNOWN;
            }
        });
        true
    }

    pub(super) fn acquire(&mut self) -> u32 {
        let id = self.new_id();
        let frame = self.state.depth_of_calls() as u32;
        self.state.references.push(Reference { id, insn: self.insn, frame });
        id
    }

    fn call_specially(&mut self, id: u32, meta: &mut Meta) -> Step {
        match id {
            12 => {
                self.check_leaks("tail_call", true)?;
            }
            164 | 170 | 209 => self.call_back(id, meta)?,
            165 => self.check_snprintf()?,
            181 => {
                self.mark_precise(1)?;
                let limit = self.reg(1).bounds.umax;
                if u64::from(self.state.frame().callback_depth) < limit {
                    self.call_back(id, meta)?;
                } else {
                    self.state.frame_mut().callback_depth = 0;
                }
            }
            197 if self.reg(1).kind != Kind::MapValue => {
                let name = self.reg(1).type_name();
                refuse!(EACCES, "Unsupported reg type {name} for bpf_dynptr_from_mem data");
            }
            _ => {}
        }
        Ok(())
    }

    /// The arguments' number must be what the format asks for; the format itself is read when it is
    /// known.
    fn check_snprintf(&mut self) -> Step {
        let size = *self.reg(5);
        if size.bounds.as_constant().is_some_and(|size| !size.is_multiple_of(8)) {
            refuse!(EINVAL, "The bpf_snprintf data_len must be a multiple of 8");
        }
        Ok(())
    }

    fn set_result(&mut self, prototype: &Prototype, meta: &Meta) -> Step {
        let id = prototype.id;
        let mut result = match prototype.returns {
            ReturnType::Integer => self.number_from(id, meta),
            ReturnType::Void => Register::NOT_INIT,
            ReturnType::MapValueOrNull => {
                let target = meta.map.unwrap_or(0);
                let facts = self.maps[target as usize];
                let sure = maps::is_always_found(facts, id, meta.key);
                let id = if sure && facts.spin_lock.is_some() { self.new_id() } else { 0 };
                let flags = if sure { 0 } else { OR_NULL };
                Register {
                    target,
                    origin: meta.map_origin,
                    id,
                    flags,
                    ..Register::pointer(Kind::MapValue)
                }
            }
            ReturnType::SocketOrNull => nullable(Kind::Socket),
            ReturnType::SocketCommonOrNull => nullable(Kind::SocketCommon),
            ReturnType::TcpSocketOrNull => nullable(Kind::TcpSocket),
            ReturnType::RecordOrNull => Register {
                target: meta.memory_size,
                flags: OR_NULL | RINGBUF,
                ..Register::pointer(Kind::Memory)
            },
            ReturnType::SliceOrNull => Register {
                target: meta.memory_size,
                origin: meta.dynptr,
                reference: meta.reference,
                ..nullable(Kind::Memory)
            },
        };
        if result.is(OR_NULL) {
            result.id = self.new_id();
        }
        let sockets = self.map_of(meta).is_some_and(|map| maps::holds_sockets(map.map_type));
        if matches!(id, 84 | 85 | 99 | 131) || (id == 1 && sockets) {
            let reference = self.acquire();
            (result.id, result.reference) = (reference, reference);
        } else if matches!(id, 95 | 96) {
            result.reference = meta.reference;
        }
        *self.reg_mut(0) = result;
        Ok(())
    }

    /// What helpers promise of the numbers that they return.
    fn number_from(&self, id: u32, meta: &Meta) -> Register {
        let mut number = Register::UNKNOWN;
        if matches!(id, 45 | 67 | 114 | 115) {
            const MAX_ERRNO: i64 = 4095;
            let most = meta.size_max.min(i32::MAX as u64) as i64;
            (number.bounds.smin, number.bounds.smax) = (-MAX_ERRNO, most);
            (number.bounds.smin32, number.bounds.smax32) = (-MAX_ERRNO as i32, most as i32);
            number.bounds.settle();
        }
        number
    }

    /// The packet may have moved: what was known of it is not any more.
    pub(super) fn forget_packet(&mut self) {
        self.state.each_register(|register| {
            if register.is_any_packet() {
                *register = Register::UNKNOWN;
            }
        });
    }

    /// What is held must be given back before the program is left.
    pub(super) fn check_leaks(&mut self, by: &str, outermost: bool) -> Step {
        let frame = self.state.frame();
        let depth = self.state.depth_of_calls() as u32;
        let in_callback = frame.is_callback();
        let leaked = self
            .state
            .references
            .iter()
            .find(|held| outermost || (in_callback && held.frame == depth));
        if let Some(leaked) = leaked {
            let (id, insn) = (leaked.id, leaked.insn);
            refuse!(
                EINVAL,
                "Unreleased reference id={id} alloc_insn={insn}\n{by} would lead to reference leak"
            );
        }
        if outermost && self.state.lock.is_some() {
            refuse!(EINVAL, "{by} cannot be used inside bpf_spin_lock-ed region");
        }
        Ok(())
    }

    /// `BPF_LD_ABS` and `BPF_LD_IND`: a call in an instruction's clothes.
    pub(super) fn legacy_load(&mut self, insn: Insn) -> Step<Next> {
        let indirect = insn.opcode >> 5 == 2;
        if !self.program.rules.legacy_loads {
            refuse!(EINVAL, "BPF_LD_[ABS|IND] instructions not allowed for this program type");
        }
        if self.state.frames.iter().any(super::state::Frame::is_callback) {
            refuse!(EINVAL, "cannot use BPF_LD_[ABS|IND] within callback");
        }
        let wide = insn.opcode >> 3 & 3 == 3;
        if insn.dst != 0 || insn.offset != 0 || wide || (!indirect && insn.src != 0) {
            refuse!(EINVAL, "BPF_LD_[ABS|IND] uses reserved fields");
        }
        self.check_read(6)?;
        self.check_leaks("BPF_LD_[ABS|IND]", true)?;
        if self.reg(6).kind != Kind::Context {
            refuse!(EINVAL, "at the time of BPF_LD_ABS|IND R6 != pointer to skb");
        }
        if indirect {
            self.check_read(insn.src)?;
        }
        self.check_unmoved(6)?;
        for number in 1..6 {
            *self.reg_mut(number) = Register::NOT_INIT;
        }
        *self.reg_mut(0) = Register::UNKNOWN;
        let following = self.insn + 1;
        if self.state.depth_of_calls() == 0 {
            return Ok(Next::Insn(following));
        }
        // Beyond the packet the whole program ends with zero: within a function that is a return.
        self.branch_to(following)?;
        *self.reg_mut(0) = Register::constant(0);
        self.leave()
    }

    /// A store by a helper, of whole slots.
    pub(super) fn store_slot(&mut self, register: u8, offset: i32) -> Step {
        self.access(Attempt {
            register,
            offset,
            size: 8,
            write: true,
            value: None,
            aligned: false,
            sign_extends: false,
        })
    }
}

fn nullable(kind: Kind) -> Register {
    Register { flags: OR_NULL, ..Register::pointer(kind) }
}
