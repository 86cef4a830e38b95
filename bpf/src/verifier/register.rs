//! What a register holds, as far as is known.

use super::bounds::Bounds;

/// The kind of value. Modifiers are in [`Register::flags`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub(crate) enum Kind {
    /// Nothing was written; may not be read.
    #[default]
    NotInit,
    Scalar,
    Context,
    /// A map itself; `target` is its index.
    MapPointer,
    MapValue,
    MapKey,
    /// `frame` says whose stack.
    Stack,
    Packet,
    PacketMeta,
    PacketEnd,
    Socket,
    SocketCommon,
    TcpSocket,
    XdpSocket,
    /// `target` bytes.
    Memory,
    /// A kernel object of type `target`.
    Btf,
    /// A dynptr that a callback was given.
    Dynptr,
    /// A callback; `target` is the subprogram.
    Function,
}

/// The pointer may be null.
pub(crate) const OR_NULL: u8 = 1;
/// The memory may only be read.
pub(crate) const READ_ONLY: u8 = 2;
/// A ring buffer's record.
pub(crate) const RINGBUF: u8 = 4;
/// Nobody vouches for the pointer.
pub(crate) const UNTRUSTED: u8 = 8;
/// The kernel vouches for the pointer.
pub(crate) const TRUSTED: u8 = 16;

/// In a scalar's `id`: it is the linked value plus `offset`.
pub(crate) const PLUS: u32 = 1 << 31;
/// A packet pointer's `range`: it points at the packet's end.
pub(crate) const AT_END: i32 = -1;
/// The same: beyond the packet's end.
pub(crate) const BEYOND_END: i32 = -2;

/// A register, or what was spilled of one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Register {
    pub(crate) kind: Kind,
    pub(crate) flags: u8,
    /// The bounds of a scalar mattered; only states with the same may stand for it.
    pub(crate) precise: bool,
    pub(crate) frame: u8,
    /// The fixed part of a pointer's offset; of a scalar, the distance to those linked with it.
    pub(crate) offset: i32,
    /// Equal ids are equal values (scalars), variable parts (packets), or null together.
    pub(crate) id: u32,
    /// The acquired reference that it depends on, 0 for none.
    pub(crate) reference: u32,
    /// Map, BTF type, subprogram, bytes: see [`Kind`].
    pub(crate) target: u32,
    /// The lookup that an inner map came from; the dynptr that memory is a slice of.
    pub(crate) origin: u32,
    /// Bytes that may be read behind a packet pointer's variable part.
    pub(crate) range: i32,
    /// A scalar's value; the variable part of a pointer's offset.
    pub(crate) bounds: Bounds,
}

impl Register {
    pub(crate) const NOT_INIT: Register = Register {
        kind: Kind::NotInit,
        flags: 0,
        precise: false,
        frame: 0,
        offset: 0,
        id: 0,
        reference: 0,
        target: 0,
        origin: 0,
        range: 0,
        bounds: Bounds::UNKNOWN,
    };

    pub(crate) const UNKNOWN: Register = Register { kind: Kind::Scalar, ..Register::NOT_INIT };

    pub(crate) const fn constant(value: u64) -> Register {
        Register { bounds: Bounds::constant(value), ..Register::UNKNOWN }
    }

    /// A pointer with no offset.
    pub(crate) const fn pointer(kind: Kind) -> Register {
        Register { kind, bounds: Bounds::constant(0), ..Register::NOT_INIT }
    }

    pub(crate) fn is_scalar(&self) -> bool {
        self.kind == Kind::Scalar
    }

    pub(crate) fn is_pointer(&self) -> bool {
        !matches!(self.kind, Kind::Scalar | Kind::NotInit)
    }

    pub(crate) fn is(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The number zero, which may stand for a null pointer.
    pub(crate) fn is_null(&self) -> bool {
        self.is_scalar() && self.bounds.is_zero()
    }

    pub(crate) fn as_constant(&self) -> Option<u64> {
        if self.is_scalar() { self.bounds.as_constant() } else { None }
    }

    pub(crate) fn is_packet(&self) -> bool {
        matches!(self.kind, Kind::Packet | Kind::PacketMeta)
    }

    pub(crate) fn is_any_packet(&self) -> bool {
        self.is_packet() || self.kind == Kind::PacketEnd
    }

    /// A pointer to one of the socket types (`type_is_sk_pointer`).
    pub(crate) fn is_socket(&self) -> bool {
        matches!(self.kind, Kind::Socket | Kind::SocketCommon | Kind::TcpSocket | Kind::XdpSocket)
    }

    /// A pointer that is certainly not null (`reg_not_null`).
    pub(crate) fn is_not_null(&self) -> bool {
        if self.is(OR_NULL) || self.is(UNTRUSTED) {
            return false;
        }
        // An offset without bounds might wrap to zero.
        const BOUND: i64 = 1 << 29;
        if self.bounds.smin <= -BOUND || self.bounds.smax >= BOUND {
            return false;
        }
        matches!(
            self.kind,
            Kind::MapPointer
                | Kind::MapValue
                | Kind::MapKey
                | Kind::Socket
                | Kind::SocketCommon
                | Kind::TcpSocket
                | Kind::XdpSocket
                | Kind::Memory
        ) || (self.kind == Kind::Btf && self.is(TRUSTED))
    }

    /// Has the variable part of the offset only one value?
    pub(crate) fn has_fixed_offset(&self) -> bool {
        self.bounds.bits.is_constant()
    }

    /// The kernel's name of the type (`reg_type_str`).
    pub(crate) fn type_name(&self) -> String {
        let name = match self.kind {
            Kind::NotInit => "?",
            Kind::Scalar => "scalar",
            Kind::Context => "ctx",
            Kind::MapPointer => "map_ptr",
            Kind::MapValue => "map_value",
            Kind::MapKey => "map_key",
            Kind::Stack => "fp",
            Kind::Packet => "pkt",
            Kind::PacketMeta => "pkt_meta",
            Kind::PacketEnd => "pkt_end",
            Kind::Socket => "sock",
            Kind::SocketCommon => "sock_common",
            Kind::TcpSocket => "tcp_sock",
            Kind::XdpSocket => "xdp_sock",
            Kind::Memory => "mem",
            Kind::Btf => "ptr_",
            Kind::Dynptr => "dynptr_ptr",
            Kind::Function => "func",
        };
        let mut text = String::new();
        for (flag, prefix) in [
            (READ_ONLY, "rdonly_"),
            (RINGBUF, "ringbuf_"),
            (UNTRUSTED, "untrusted_"),
            (TRUSTED, "trusted_"),
        ] {
            if self.is(flag) {
                text.push_str(prefix);
            }
        }
        text.push_str(name);
        if self.is(OR_NULL) {
            text.push_str(if self.kind == Kind::Btf { "or_null_" } else { "_or_null" });
        }
        text
    }
}
