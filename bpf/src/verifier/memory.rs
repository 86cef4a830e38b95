//! Loads and stores: may they, and what is loaded (`check_mem_access`).

use super::alu::MAX_OFFSET;
use super::program::MapFacts;
use super::refusal::{Step, refuse};
use super::register::{Kind, OR_NULL, READ_ONLY, Register, UNTRUSTED};
use super::rules::socket_access;
use super::tnum::Tnum;
use super::walk::Walk;
use crate::insn::{FETCH, Insn};
use crate::map::flags;

/// An access by an instruction.
#[derive(Clone, Copy)]
pub(crate) struct Attempt {
    /// The register that holds the address.
    pub(crate) register: u8,
    /// The instruction's offset.
    pub(crate) offset: i32,
    /// Bytes.
    pub(crate) size: u32,
    pub(crate) write: bool,
    /// The register that is loaded or stored; none for an immediate, or where the value is of no
    /// interest.
    pub(crate) value: Option<u8>,
    /// Is the address to be aligned in any case?
    pub(crate) aligned: bool,
    pub(crate) sign_extends: bool,
}

/// Bytes of a size field.
pub(crate) fn size_of(opcode: u8) -> u32 {
    match opcode >> 3 & 3 {
        0 => 4,
        1 => 2,
        2 => 1,
        _ => 8,
    }
}

impl Walk<'_> {
    pub(super) fn load(&mut self, insn: Insn) -> Step {
        self.check_read(insn.src)?;
        self.check_write(insn.dst)?;
        let pointer = *self.reg(insn.src);
        self.access(Attempt {
            register: insn.src,
            offset: insn.offset.into(),
            size: size_of(insn.opcode),
            write: false,
            value: Some(insn.dst),
            aligned: false,
            sign_extends: insn.opcode >> 5 == 4,
        })?;
        self.note_access(&pointer)
    }

    pub(super) fn store(&mut self, insn: Insn) -> Step {
        let mode = insn.opcode >> 5;
        let immediate = insn.opcode & 7 == 2;
        if !immediate && mode == 6 {
            return self.atomic(insn);
        }
        if immediate && (mode != 3 || insn.src != 0) {
            refuse!(EINVAL, "BPF_ST uses reserved fields");
        }
        if !immediate && (mode != 3 || insn.imm != 0) {
            refuse!(EINVAL, "BPF_STX uses reserved fields");
        }
        if !immediate {
            self.check_read(insn.src)?;
        }
        self.check_read(insn.dst)?;
        let pointer = *self.reg(insn.dst);
        self.access(Attempt {
            register: insn.dst,
            offset: insn.offset.into(),
            size: size_of(insn.opcode),
            write: true,
            value: (!immediate).then_some(insn.src),
            aligned: false,
            sign_extends: false,
        })?;
        self.note_access(&pointer)
    }

    fn atomic(&mut self, insn: Insn) -> Step {
        const LOAD_ACQUIRE: i32 = 0x100;
        const STORE_RELEASE: i32 = 0x110;
        let size = size_of(insn.opcode);
        let ordered = matches!(insn.imm, LOAD_ACQUIRE | STORE_RELEASE);
        let known = matches!(insn.imm & !FETCH, 0x00 | 0x40 | 0x50 | 0xa0)
            || matches!(insn.imm, 0xe1 | 0xf1);
        if !known && !ordered {
            refuse!(EINVAL, "BPF_ATOMIC uses invalid atomic opcode {:02x}", insn.imm);
        }
        if ordered {
            return self.ordered(insn, insn.imm == LOAD_ACQUIRE, size);
        }
        if size < 4 {
            refuse!(EINVAL, "invalid atomic operand size");
        }
        self.check_read(insn.src)?;
        self.check_read(insn.dst)?;
        if insn.imm == 0xf1 {
            self.check_read(0)?;
        }
        self.check_atomic_pointer(insn.dst)?;
        let loads = (insn.imm & FETCH != 0).then_some(if insn.imm == 0xf1 { 0 } else { insn.src });
        if let Some(loads) = loads {
            self.check_write(loads)?;
        }
        let pointer = *self.reg(insn.dst);
        let attempt = Attempt {
            register: insn.dst,
            offset: insn.offset.into(),
            size,
            write: false,
            value: None,
            aligned: true,
            sign_extends: false,
        };
        self.access(attempt)?;
        if loads.is_some() {
            // The address's own register may be the one that is loaded.
            self.access(Attempt { value: loads, ..attempt })?;
        }
        if loads == Some(insn.dst) {
            let loaded = std::mem::replace(self.reg_mut(insn.dst), pointer);
            self.access(Attempt { write: true, ..attempt })?;
            *self.reg_mut(insn.dst) = loaded;
        } else {
            self.access(Attempt { write: true, ..attempt })?;
        }
        self.note_access(&pointer)
    }

    /// Load-acquire and store-release are a load and a store.
    fn ordered(&mut self, insn: Insn, load: bool, size: u32) -> Step {
        let (pointer, value) = if load { (insn.src, insn.dst) } else { (insn.dst, insn.src) };
        self.check_read(pointer)?;
        if load {
            self.check_write(value)?
        } else {
            self.check_read(value)?
        }
        self.check_atomic_pointer(pointer)?;
        let held = *self.reg(pointer);
        self.access(Attempt {
            register: pointer,
            offset: insn.offset.into(),
            size,
            write: !load,
            value: Some(value),
            aligned: true,
            sign_extends: false,
        })?;
        self.note_access(&held)
    }

    fn check_atomic_pointer(&self, number: u8) -> Step {
        let pointer = self.reg(number);
        let other = pointer.kind == Kind::Context || pointer.is_packet() || pointer.is_socket();
        if other {
            let name = pointer.type_name();
            refuse!(EACCES, "BPF_ATOMIC stores into R{number} {name} is not allowed");
        }
        Ok(())
    }

    /// Checks an access, and sets the register that is loaded.
    pub(super) fn access(&mut self, attempt: Attempt) -> Step {
        let Attempt { register: number, size, write, value, .. } = attempt;
        let pointer = *self.reg(number);
        self.check_alignment(&pointer, &attempt)?;
        let offset = attempt.offset + pointer.offset;
        let may_be_null = pointer.is(OR_NULL);
        let mut loaded = Register::UNKNOWN;
        match pointer.kind {
            _ if may_be_null => return self.refuse_access(number),
            Kind::MapValue => {
                loaded = self.access_map_value(number, offset, size, write)?;
            }
            Kind::MapKey => {
                if write {
                    refuse!(EACCES, "write to change key R{number} not allowed");
                }
                let limit = self.maps[pointer.target as usize].key_size;
                self.check_region(number, offset, size, limit, false)?;
            }
            Kind::Memory => {
                if write && pointer.is(READ_ONLY) {
                    refuse!(EACCES, "R{number} cannot write into {}", pointer.type_name());
                }
                self.check_region(number, offset, size, pointer.target, false)?;
            }
            Kind::Context => loaded = self.access_context(number, attempt)?,
            Kind::Stack => {
                // The stack sets what it loads itself.
                self.access_stack(&pointer, attempt, offset)?;
                return self.cut(attempt);
            }
            Kind::Packet | Kind::PacketMeta => {
                if write && !self.program.rules.writes_packet {
                    refuse!(EACCES, "cannot write into packet");
                }
                self.check_packet(number, offset, size, false)?;
            }
            _ if pointer.is_socket() => {
                if write {
                    refuse!(EACCES, "R{number} cannot write into {}", pointer.type_name());
                }
                let at = i64::from(offset) + pointer.bounds.smin;
                if !socket_access(pointer.kind, at, size) {
                    let name = pointer.type_name();
                    refuse!(EACCES, "R{number} invalid {name} access off={offset} size={size}");
                }
            }
            Kind::MapPointer => {
                let map_type = self.maps[pointer.target as usize].map_type;
                refuse!(EINVAL, "map_ptr access not supported for map type {map_type}");
            }
            Kind::Btf if pointer.is(UNTRUSTED) && !write => {}
            _ => return self.refuse_access(number),
        }
        if let Some(value) = value.filter(|_| !write) {
            *self.reg_mut(value) = loaded;
        }
        self.cut(attempt)
    }

    fn refuse_access(&self, number: u8) -> Step {
        refuse!(EACCES, "R{number} invalid mem access '{}'", self.reg(number).type_name());
    }

    /// What was loaded has the size of the load.
    fn cut(&mut self, attempt: Attempt) -> Step {
        if let Some(value) = attempt.value.filter(|_| !attempt.write && attempt.size < 8) {
            let register = self.reg_mut(value);
            if register.is_scalar() && attempt.sign_extends {
                register.bounds.sign_extend(attempt.size);
            } else if register.is_scalar() {
                register.bounds.truncate(attempt.size);
            }
        }
        Ok(())
    }

    fn check_alignment(&self, pointer: &Register, attempt: &Attempt) -> Step {
        let size = u64::from(attempt.size);
        let stack = pointer.kind == Kind::Stack;
        if size == 1 || !(stack || attempt.aligned || self.options.strict_alignment) {
            return Ok(());
        }
        // Packets begin two bytes behind a multiple of four (NET_IP_ALIGN).
        let shift = if pointer.is_packet() { 2 } else { 0 };
        let fixed = i64::from(pointer.offset) + i64::from(attempt.offset) + shift;
        let address = pointer.bounds.bits.add(Tnum::constant(fixed as u64));
        if address.is_aligned(size) {
            return Ok(());
        }
        let name = match pointer.kind {
            Kind::Packet | Kind::PacketMeta => {
                refuse!(
                    EACCES,
                    "misaligned packet access off {shift}+{}+{}+{} size {size}",
                    pointer.bounds.bits,
                    pointer.offset,
                    attempt.offset
                );
            }
            Kind::MapKey => "key ",
            Kind::MapValue => "value ",
            Kind::Context => "context ",
            Kind::Stack => "stack ",
            Kind::Socket => "sock ",
            Kind::SocketCommon => "sock_common ",
            Kind::TcpSocket => "tcp_sock ",
            Kind::XdpSocket => "xdp_sock ",
            _ => "",
        };
        let (bits, held) = (pointer.bounds.bits, pointer.offset);
        refuse!(EACCES, "misaligned {name}access off {bits}+{held}+{} size {size}", attempt.offset);
    }

    /// `check_mem_region_access`: at the least and at the greatest offset.
    pub(super) fn check_region(
        &self,
        number: u8,
        offset: i32,
        size: u32,
        limit: u32,
        zero_allowed: bool,
    ) -> Step {
        let bounds = &self.reg(number).bounds;
        let low = bounds.smin.checked_add(offset.into());
        if bounds.smin < 0 && low.is_none_or(|low| low < 0 || i32::try_from(low).is_err()) {
            refuse!(
                EACCES,
                "R{number} min value is negative, either use unsigned index or do a if (index >=0) check."
            );
        }
        let low = low.unwrap_or(i64::MAX);
        if let Some(message) = self.outside(number, low, size, limit, zero_allowed) {
            refuse!(
                EACCES,
                "{message}\nR{number} min value is outside of the allowed memory range"
            );
        }
        if bounds.umax >= MAX_OFFSET as u64 {
            refuse!(
                EACCES,
                "R{number} unbounded memory access, make sure to bounds check any such access"
            );
        }
        let high = bounds.umax as i64 + i64::from(offset);
        if let Some(message) = self.outside(number, high, size, limit, zero_allowed) {
            refuse!(
                EACCES,
                "{message}\nR{number} max value is outside of the allowed memory range"
            );
        }
        Ok(())
    }

    fn outside(&self, number: u8, at: i64, size: u32, limit: u32, zero: bool) -> Option<String> {
        let fits = at >= 0 && at + i64::from(size) <= i64::from(limit);
        if fits && (size > 0 || zero) {
            return None;
        }
        let register = self.reg(number);
        Some(match register.kind {
            Kind::MapKey => {
                format!("invalid access to map key, key_size={limit} off={at} size={size}")
            }
            Kind::MapValue => {
                format!("invalid access to map value, value_size={limit} off={at} size={size}")
            }
            Kind::Packet | Kind::PacketMeta | Kind::PacketEnd => format!(
                "invalid access to packet, off={at} size={size}, R{number}(id={},off={},r={})",
                register.id, register.offset, register.range
            ),
            _ => format!("invalid access to memory, mem_size={limit} off={at} size={size}"),
        })
    }

    pub(super) fn check_packet(&self, number: u8, offset: i32, size: u32, zero: bool) -> Step {
        let pointer = self.reg(number);
        if pointer.bounds.smin < 0 {
            refuse!(
                EACCES,
                "R{number} min value is negative, either use unsigned index or do a if (index >=0) check."
            );
        }
        let range = u32::try_from(pointer.range).ok();
        let outside = match range {
            None => Some(String::new()),
            Some(range) => self.outside(number, offset.into(), size, range, zero),
        };
        if let Some(message) = outside {
            let line = if message.is_empty() { "" } else { "\n" };
            refuse!(EACCES, "{message}{line}R{number} offset is outside of the packet");
        }
        Ok(())
    }

    /// A map's value, for an instruction or a helper; the number if it is a known constant.
    fn access_map_value(&self, number: u8, offset: i32, size: u32, write: bool) -> Step<Register> {
        self.check_map_access(number, offset, size, write, false)?;
        let pointer = self.reg(number);
        let facts = self.maps[pointer.target as usize];
        let constant = facts.constant.filter(|_| {
            facts.map_type == MapFacts::ARRAY && facts.flags & flags::RDONLY_PROG != 0 && !write
        });
        let at = pointer.bounds.as_constant().map(|at| at.wrapping_add(offset as u64) as usize);
        let bytes = constant.zip(at).and_then(|(bytes, at)| bytes.get(at..at + size as usize));
        Ok(bytes.map_or(Register::UNKNOWN, |bytes| {
            let mut word = [0; 8];
            word[..bytes.len()].copy_from_slice(bytes);
            Register::constant(u64::from_le_bytes(word))
        }))
    }

    /// `check_map_access_type` and `check_map_access`.
    pub(super) fn check_map_access(
        &self,
        number: u8,
        offset: i32,
        size: u32,
        write: bool,
        zero: bool,
    ) -> Step {
        let pointer = self.reg(number);
        let facts = self.maps[pointer.target as usize];
        let shape = || format!("value_size={} off={offset} size={size}", facts.value_size);
        if write && facts.flags & flags::RDONLY_PROG != 0 {
            refuse!(EACCES, "write into map forbidden, {}", shape());
        }
        if !write && facts.flags & flags::WRONLY_PROG != 0 {
            refuse!(EACCES, "read from map forbidden, {}", shape());
        }
        self.check_region(number, offset, size, facts.value_size, zero)?;
        let special = [(facts.spin_lock, 4, "bpf_spin_lock"), (facts.timer, 16, "bpf_timer")];
        for (at, length, name) in special {
            let Some(at) = at.map(i64::from) else { continue };
            let low = pointer.bounds.smin + i64::from(offset);
            let high = pointer.bounds.umax as i64 + i64::from(offset) + i64::from(size);
            if low < at + length && at < high {
                refuse!(EACCES, "{name} cannot be accessed directly by load/store");
            }
        }
        Ok(())
    }

    fn access_context(&mut self, number: u8, attempt: Attempt) -> Step<Register> {
        self.check_unmoved(number)?;
        let Attempt { offset, size, write, .. } = attempt;
        let field = self.program.rules.access(offset.into(), size, write);
        let pointer = field.map(|field| field.value.pointer());
        match pointer {
            Some(None) => Ok(Register::UNKNOWN),
            Some(Some((kind, or_null))) if !attempt.sign_extends => {
                let mut loaded = Register::pointer(kind);
                if or_null {
                    loaded.flags = OR_NULL;
                    loaded.id = self.new_id();
                }
                Ok(loaded)
            }
            _ => refuse!(EACCES, "invalid bpf_context access off={offset} size={size}"),
        }
    }

    /// A pointer that must be as it was given (`check_ptr_off_reg`).
    pub(super) fn check_unmoved(&self, number: u8) -> Step {
        let pointer = self.reg(number);
        let name = || pointer.type_name();
        if pointer.offset < 0 {
            let offset = pointer.offset;
            refuse!(EACCES, "negative offset {} ptr R{number} off={offset} disallowed", name());
        }
        if pointer.offset != 0 {
            let offset = pointer.offset;
            refuse!(
                EACCES,
                "dereference of modified {} ptr R{number} off={offset} disallowed",
                name()
            );
        }
        if !pointer.bounds.is_zero() {
            let bits = pointer.bounds.bits;
            refuse!(EACCES, "variable {} access var_off={bits} disallowed", name());
        }
        Ok(())
    }
}
