//! The arguments of helpers (`check_func_arg`).

use super::alu::MAX_OFFSET;
use super::program::MapFacts;
use super::prototype::{Argument, ArgumentKind, Prototype};
use super::refusal::{Step, refuse};
use super::register::{Kind, OR_NULL, READ_ONLY, RINGBUF, Register};
use super::state::{Byte, Lock};
use super::walk::Walk;
use crate::map::flags;

/// What the arguments of one call say together.
#[derive(Default)]
pub(crate) struct Meta {
    /// The map argument's index, and the lookup that gave it.
    pub(crate) map: Option<u32>,
    pub(crate) map_origin: u32,
    /// The key, if it is a known number.
    pub(crate) key: Option<u32>,
    /// The reference that an argument depends on.
    pub(crate) reference: u32,
    /// The register whose reference is released.
    pub(crate) release: Option<u8>,
    /// Bytes that the helper writes: register and size.
    pub(crate) raw: Option<(u8, u32)>,
    /// The callback.
    pub(crate) function: u32,
    /// Bytes that the helper returns.
    pub(crate) memory_size: u32,
    /// The most bytes that a size argument allows.
    pub(crate) size_max: u64,
    /// The id of a dynptr argument.
    pub(crate) dynptr: u32,
    /// May memory be in the packet?
    pub(crate) packet_access: bool,
}

impl Walk<'_> {
    pub(super) fn check_argument(
        &mut self,
        prototype: &Prototype,
        index: usize,
        meta: &mut Meta,
    ) -> Step {
        let number = index as u8 + 1;
        let mut argument = prototype.arguments[index];
        self.check_read(number)?;
        if argument.kind == ArgumentKind::Anything {
            return Ok(());
        }
        let register = *self.reg(number);
        if register.is_packet() && !meta.packet_access {
            refuse!(EACCES, "helper access to the packet is not allowed");
        }
        if argument.kind == ArgumentKind::MapValue {
            argument = self.value_argument(argument, prototype.id, meta)?;
        }
        if !(register.is_null() && argument.or_null) {
            self.check_type(number, argument)?;
            self.check_moved(number, argument)?;
        }
        if argument.releases {
            let dynptr = matches!(argument.kind, ArgumentKind::Dynptr(_));
            if !dynptr && register.reference == 0 && !register.is_null() {
                refuse!(EINVAL, "R{number} must be referenced when passed to release function");
            }
            meta.release = Some(number);
        }
        if register.reference != 0 {
            if meta.reference != 0 {
                let (held, other) = (register.reference, meta.reference);
                refuse!(EFAULT, "more than one arg with ref_obj_id R{number} {held} {other}");
            }
            meta.reference = register.reference;
        }
        self.check_kind(prototype, index, argument, meta)
    }

    /// What a map's value is for its type (`resolve_map_arg_type`).
    fn value_argument(&self, argument: Argument, helper: u32, meta: &Meta) -> Step<Argument> {
        const PEEK: u32 = 89;
        let Some(map) = meta.map else {
            refuse!(EACCES, "invalid map_ptr to access map->type");
        };
        match self.maps[map as usize].map_type {
            MapFacts::SOCKMAP | MapFacts::SOCKHASH if argument.writes => {
                refuse!(EINVAL, "invalid arg_type for sockmap/sockhash");
            }
            MapFacts::SOCKMAP | MapFacts::SOCKHASH => {
                Ok(Argument { kind: ArgumentKind::BtfSocketCommon, ..argument })
            }
            // A bloom filter is asked for a value, not read.
            MapFacts::BLOOM_FILTER if helper == PEEK => {
                Ok(Argument { writes: false, uninitialized: false, ..argument })
            }
            _ => Ok(argument),
        }
    }

    fn check_kind(
        &mut self,
        prototype: &Prototype,
        index: usize,
        argument: Argument,
        meta: &mut Meta,
    ) -> Step {
        let number = index as u8 + 1;
        let register = *self.reg(number);
        match argument.kind {
            ArgumentKind::Map => {
                if prototype.id == 169 {
                    return self.check_timer_map(meta, &register);
                }
                (meta.map, meta.map_origin) = (Some(register.target), register.origin);
            }
            ArgumentKind::MapKey => {
                let Some(map) = meta.map else {
                    refuse!(EACCES, "invalid map_ptr to access map->key");
                };
                let size = self.maps[map as usize].key_size;
                self.check_memory(number, size, false, false, None)?;
                if prototype.id == 1 {
                    meta.key = self.constant_key(number, map, size)?;
                }
            }
            ArgumentKind::MapValue => {
                let Some(map) = meta.map else {
                    refuse!(EACCES, "invalid map_ptr to access map->value");
                };
                if register.is_null() {
                    return Ok(());
                }
                let size = self.maps[map as usize].value_size;
                let raw = argument.uninitialized.then_some(&mut meta.raw);
                self.check_memory(number, size, argument.writes, false, raw)?;
            }
            ArgumentKind::FixedMemory(size) => {
                let raw = argument.uninitialized.then_some(&mut meta.raw);
                self.check_memory(number, size, argument.writes, false, raw)?;
            }
            ArgumentKind::Size | ArgumentKind::SizeOrZero => {
                let memory = prototype.arguments[index - 1];
                let zero = argument.kind == ArgumentKind::SizeOrZero;
                self.check_size(number, memory, zero, meta)?;
            }
            ArgumentKind::AllocationSize => {
                let Some(size) = register.as_constant() else {
                    refuse!(EACCES, "R{number} is not a known constant'");
                };
                meta.memory_size = u32::try_from(size).unwrap_or(u32::MAX);
                self.mark_precise(number)?;
            }
            ArgumentKind::SpinLock => self.spin_lock(number, prototype.id == 93)?,
            ArgumentKind::Timer => self.check_timer(number, meta)?,
            ArgumentKind::Function => meta.function = register.target,
            ArgumentKind::ConstString => self.check_string(number)?,
            ArgumentKind::Dynptr(kind) => self.check_dynptr(number, argument, kind, meta)?,
            _ => {}
        }
        Ok(())
    }

    fn check_type(&self, number: u8, argument: Argument) -> Step {
        let register = self.reg(number);
        let flags = if argument.or_null { register.flags & !OR_NULL } else { register.flags };
        // What is only read may be read-only memory.
        let readable = if argument.writes { flags } else { flags & !READ_ONLY };
        const MEMORY: &[Kind] = &[
            Kind::Stack,
            Kind::Packet,
            Kind::PacketMeta,
            Kind::MapKey,
            Kind::MapValue,
            Kind::Memory,
        ];
        const SOCKETS: &[Kind] =
            &[Kind::SocketCommon, Kind::Socket, Kind::TcpSocket, Kind::XdpSocket];
        let (kinds, flags): (&[Kind], u8) = match argument.kind {
            ArgumentKind::Context => (&[Kind::Context], flags),
            ArgumentKind::Map => (&[Kind::MapPointer], flags),
            ArgumentKind::MapKey
            | ArgumentKind::MapValue
            | ArgumentKind::Memory
            | ArgumentKind::FixedMemory(_) => (MEMORY, readable & !RINGBUF),
            ArgumentKind::Size | ArgumentKind::SizeOrZero | ArgumentKind::AllocationSize => {
                (&[Kind::Scalar], flags)
            }
            ArgumentKind::SpinLock | ArgumentKind::Timer | ArgumentKind::ConstString => {
                (&[Kind::MapValue], flags)
            }
            ArgumentKind::SocketCommon | ArgumentKind::BtfSocketCommon => (SOCKETS, flags),
            ArgumentKind::Socket => (&[Kind::Socket], flags),
            ArgumentKind::Record => {
                let record = register.is(RINGBUF);
                (&[Kind::Memory], if record { flags & !RINGBUF } else { u8::MAX })
            }
            ArgumentKind::Function => (&[Kind::Function], flags),
            ArgumentKind::Stack => (&[Kind::Stack], flags),
            ArgumentKind::Dynptr(_) => (&[Kind::Stack, Kind::Dynptr], flags),
            ArgumentKind::None | ArgumentKind::Anything => return Ok(()),
        };
        if flags == 0 && kinds.contains(&register.kind) {
            return Ok(());
        }
        let expected: Vec<String> =
            kinds.iter().map(|kind| Register::pointer(*kind).type_name()).collect();
        let name = register.type_name();
        refuse!(EACCES, "R{number} type={name} expected={}", expected.join(", "));
    }

    /// Which pointers may have been moved (`check_func_arg_reg_off`).
    fn check_moved(&self, number: u8, argument: Argument) -> Step {
        let register = self.reg(number);
        if argument.releases {
            if matches!(argument.kind, ArgumentKind::Dynptr(_)) && register.kind == Kind::Stack {
                return Ok(());
            }
            if register.offset != 0 {
                refuse!(
                    EINVAL,
                    "R{number} must have zero offset when passed to release func or trusted arg to kfunc"
                );
            }
            return self.check_unmoved(number);
        }
        match register.kind {
            Kind::Stack
            | Kind::Packet
            | Kind::PacketMeta
            | Kind::MapKey
            | Kind::MapValue
            | Kind::Memory
            | Kind::Scalar => Ok(()),
            _ => self.check_unmoved(number),
        }
    }

    /// Memory that a helper works on (`check_helper_mem_access`). `raw`: it is written whole, and
    /// need not be initialized.
    pub(super) fn check_memory(
        &mut self,
        number: u8,
        size: u32,
        write: bool,
        zero: bool,
        raw: Option<&mut Option<(u8, u32)>>,
    ) -> Step {
        let register = *self.reg(number);
        match register.kind {
            Kind::Packet | Kind::PacketMeta if !register.is(OR_NULL) => {
                if write && !self.program.rules.writes_packet {
                    refuse!(EACCES, "cannot write into packet");
                }
                self.check_packet(number, register.offset, size, zero)
            }
            Kind::MapKey if write => {
                refuse!(EACCES, "R{number} cannot write into {}", register.type_name());
            }
            Kind::MapKey => {
                let limit = self.maps[register.target as usize].key_size;
                self.check_region(number, register.offset, size, limit, false)
            }
            Kind::MapValue => self.check_map_access(number, register.offset, size, write, zero),
            Kind::Memory => {
                if write && register.is(READ_ONLY) {
                    refuse!(EACCES, "R{number} cannot write into {}", register.type_name());
                }
                self.check_region(number, register.offset, size, register.target, zero)
            }
            Kind::Stack => self.check_stack_memory(number, size, write, zero, raw),
            _ if zero && size == 0 && register.is_null() => Ok(()),
            _ => {
                let name = register.type_name();
                refuse!(EACCES, "R{number} type={name} expected=fp");
            }
        }
    }

    fn check_stack_memory(
        &mut self,
        number: u8,
        size: u32,
        write: bool,
        zero: bool,
        raw: Option<&mut Option<(u8, u32)>>,
    ) -> Step {
        if size == 0 && !zero {
            refuse!(EACCES, "invalid zero-sized read");
        }
        let register = *self.reg(number);
        let how = if write { " write to" } else { " read from" };
        self.check_stack_bounds(number, register.offset, size, how)?;
        let Some(raw) = raw.filter(|_| register.has_fixed_offset()) else {
            return self.check_stack_initialized(number, register.offset, size, write);
        };
        let low = register.offset + register.bounds.smin as i32;
        let frame = &self.state.frames[usize::from(register.frame)];
        for at in low..low + size as i32 {
            let (slot, byte) = super::stack::place(at);
            let held = frame.stack.get(slot).map(|slot| slot.bytes[byte]);
            if held == Some(Byte::Dynptr) {
                refuse!(EACCES, "potential write to dynptr at off={at} disallowed");
            }
        }
        *raw = Some((number, size));
        Ok(())
    }

    /// The size of the memory that is the argument before (`check_mem_size_reg`).
    fn check_size(&mut self, number: u8, memory: Argument, zero: bool, meta: &mut Meta) -> Step {
        let bounds = self.reg(number).bounds;
        meta.size_max = bounds.umax;
        if bounds.smin < 0 {
            refuse!(
                EACCES,
                "R{number} min value is negative, either use unsigned or 'var &= const'"
            );
        }
        if bounds.umin == 0 && !zero {
            let (low, high) = (bounds.umin, bounds.umax);
            refuse!(EACCES, "R{number} invalid zero-sized read: u64=[{low},{high}]");
        }
        if bounds.umax >= MAX_OFFSET as u64 {
            refuse!(
                EACCES,
                "R{number} unbounded memory access, use 'var &= const' or 'if (var < const)'"
            );
        }
        let whole = memory.uninitialized && bounds.bits.is_constant();
        let raw = whole.then_some(&mut meta.raw);
        self.check_memory(number - 1, bounds.umax as u32, memory.writes, zero, raw)?;
        self.mark_precise(number)
    }

    /// A key on the stack whose value is known: it then matters, since what is looked up by it may
    /// be known to be there.
    fn constant_key(&mut self, number: u8, map: u32, size: u32) -> Step<Option<u32>> {
        let register = *self.reg(number);
        let array =
            matches!(self.maps[map as usize].map_type, MapFacts::ARRAY | MapFacts::PERCPU_ARRAY);
        let fixed = register.bounds.as_constant().filter(|_| array);
        let (Kind::Stack, 4, Some(fixed)) = (register.kind, size, fixed) else { return Ok(None) };
        let (index, byte) = super::stack::place(register.offset + fixed as i32);
        let frame = usize::from(register.frame);
        let Some(slot) = self.state.frames[frame].stack.get(index).copied() else {
            return Ok(None);
        };
        if byte == 0 && slot.bytes[..4] == [Byte::Spill; 4] && slot.is_scalar_spill() {
            let key = slot.spilled.bounds.as_constant32();
            if key.is_some() {
                self.mark_slot_precise(frame, index)?;
            }
            return Ok(key);
        }
        let zero = slot.bytes.get(byte..byte + 4) == Some(&[Byte::Zero; 4]);
        Ok(zero.then_some(0))
    }

    /// A string that cannot change, with its end in the map's value.
    fn check_string(&self, number: u8) -> Step {
        let register = self.reg(number);
        let facts = self.maps[register.target as usize];
        let constant = facts.constant.filter(|_| facts.flags & flags::RDONLY_PROG != 0);
        let Some(bytes) = constant else {
            refuse!(EACCES, "R{number} does not point to a readonly map'");
        };
        let Some(at) = register.bounds.as_constant() else {
            refuse!(EACCES, "R{number} is not a constant address'");
        };
        let at = (at as i64 + i64::from(register.offset)) as usize;
        if facts.map_type != MapFacts::ARRAY {
            refuse!(EACCES, "no direct value access support for this map type");
        }
        let length = facts.value_size.saturating_sub(at as u32);
        self.check_map_access(number, register.offset, length, false, false)?;
        match bytes.get(at..) {
            Some(rest) if rest.contains(&0) => Ok(()),
            _ => refuse!(EINVAL, "string is not zero-terminated"),
        }
    }

    fn spin_lock(&mut self, number: u8, locks: bool) -> Step {
        let register = *self.reg(number);
        let facts = self.maps[register.target as usize];
        let Some(at) = register.bounds.as_constant() else {
            refuse!(
                EINVAL,
                "R{number} doesn't have constant offset. bpf_spin_lock has to be at the constant offset"
            );
        };
        let name = facts.name;
        if !facts.has_btf {
            refuse!(EINVAL, "map '{name}' has to have BTF in order to use bpf_spin_lock");
        }
        let Some(place) = facts.spin_lock else {
            refuse!(EINVAL, "map '{name}' has no valid bpf_spin_lock");
        };
        let at = at as i64 + i64::from(register.offset);
        if at != i64::from(place) {
            refuse!(EINVAL, "off {at} doesn't point to 'struct bpf_spin_lock' that is at {place}");
        }
        let lock = Lock { map: register.target, id: register.id };
        match (locks, self.state.lock) {
            (true, Some(_)) => refuse!(EINVAL, "Locking two bpf_spin_locks are not allowed"),
            (true, None) => self.state.lock = Some(lock),
            (false, None) => refuse!(EINVAL, "bpf_spin_unlock without taking a lock"),
            (false, Some(held)) if held != lock => {
                refuse!(EINVAL, "bpf_spin_unlock of different lock");
            }
            (false, Some(_)) => self.state.lock = None,
        }
        Ok(())
    }

    fn check_timer(&self, number: u8, meta: &mut Meta) -> Step {
        let register = self.reg(number);
        let facts = self.maps[register.target as usize];
        let Some(at) = register.bounds.as_constant() else {
            refuse!(
                EINVAL,
                "R{number} doesn't have constant offset. bpf_timer has to be at the constant offset"
            );
        };
        let name = facts.name;
        if !facts.has_btf {
            refuse!(EINVAL, "map '{name}' has to have BTF in order to use bpf_timer");
        }
        let Some(place) = facts.timer else {
            refuse!(EINVAL, "map '{name}' has no valid bpf_timer");
        };
        let at = at as i64 + i64::from(register.offset);
        if at != i64::from(place) {
            refuse!(EINVAL, "off {at} doesn't point to 'struct bpf_timer' that is at {place}");
        }
        (meta.map, meta.map_origin) = (Some(register.target), register.origin);
        Ok(())
    }

    /// `bpf_timer_init` wants the map that the timer is in.
    fn check_timer_map(&self, meta: &Meta, register: &Register) -> Step {
        if meta.map_origin != register.origin {
            let (a, b) = (meta.map_origin, register.origin);
            refuse!(
                EINVAL,
                "timer pointer in R1 map_uid={a} doesn't match map pointer in R2 map_uid={b}"
            );
        }
        if meta.map != Some(register.target) {
            refuse!(EINVAL, "timer pointer in R1 doesn't match map pointer in R2");
        }
        Ok(())
    }

    /// Any memory, as global functions take it: it must be readable and writable.
    pub(super) fn check_plain_memory(&mut self, number: u8, size: u32) -> Step {
        self.check_memory(number, size, false, true, None)?;
        self.check_memory(number, size, true, true, None)
    }
}
