//! What a program type allows: its context, its helpers, its return values.

use super::register::Kind;

/// One stretch of a context.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Field {
    /// First byte.
    pub start: u16,
    /// Behind the last byte.
    pub end: u16,
    /// What a read gives.
    pub value: Value,
    /// Sizes that may be read, as a sum of 1, 2, 4, 8. Accesses are aligned to their size.
    pub reads: u8,
    /// Sizes that may be written.
    pub writes: u8,
}

/// What is read from a context.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Value {
    /// A number.
    Scalar,
    /// The packet's first byte.
    Packet,
    /// The packet's metadata.
    PacketMeta,
    /// Behind the packet's last byte.
    PacketEnd,
    /// A full socket or null.
    SocketOrNull,
    /// A socket or null.
    SocketCommonOrNull,
}

impl Value {
    pub(crate) fn pointer(self) -> Option<(Kind, bool)> {
        match self {
            Value::Scalar => None,
            Value::Packet => Some((Kind::Packet, false)),
            Value::PacketMeta => Some((Kind::PacketMeta, false)),
            Value::PacketEnd => Some((Kind::PacketEnd, false)),
            Value::SocketOrNull => Some((Kind::Socket, true)),
            Value::SocketCommonOrNull => Some((Kind::SocketCommon, true)),
        }
    }
}

/// A program type's rules.
#[derive(Debug)]
pub struct Rules {
    /// The kernel's name of it.
    pub name: &'static str,
    /// The kernel's number of it.
    pub program_type: u32,
    /// The context, by offset; what is in no field may not be accessed.
    pub context: &'static [Field],
    /// The helpers beside those of [`EVERY_TYPE`].
    pub helpers: &'static [u32],
    /// The smallest and the largest return value; `None` for any number.
    pub returns: Option<(i32, i32)>,
    /// May it use legacy packet loads (`BPF_LD_ABS`, `BPF_LD_IND`)?
    pub legacy_loads: bool,
    /// May it write the packet?
    pub writes_packet: bool,
    /// May maps with spin locks and timers be used?
    pub spin_locks: bool,
}

/// The helpers of every program type here (`bpf_base_func_proto`), for privileged loaders.
#[rustfmt::skip]
pub static EVERY_TYPE: &[u32] = &[
    1, 2, 3, 5, 6, 7, 8, 12, 14, 15, 35, 42, 80, 87, 88, 89, 93, 94, 105, 106, 112, 113, 114, 115, 118,
    120, 123, 125, 130, 131, 132, 133, 134, 164, 165, 169, 170, 171, 172, 177, 181, 182, 195, 197,
    198, 199, 200, 201, 202, 203, 208, 209,
];

impl Rules {
    /// May programs call this helper?
    pub fn allows_helper(&self, id: u32) -> bool {
        EVERY_TYPE.binary_search(&id).is_ok() || self.helpers.contains(&id)
    }

    /// The rules of a program type, by the kernel's number.
    pub fn of_type(program_type: u32) -> Option<&'static Rules> {
        ALL.iter().copied().find(|rules| rules.program_type == program_type)
    }

    /// The field that an access is to; `None` for one that is not allowed.
    pub(crate) fn access(&self, offset: i64, size: u32, write: bool) -> Option<&Field> {
        let offset = u16::try_from(offset).ok()?;
        let size = size as u16;
        if !offset.is_multiple_of(size) {
            return None;
        }
        let field = self.context.iter().find(|field| (field.start..field.end).contains(&offset))?;
        let sizes = if write { field.writes } else { field.reads };
        let inside = offset + size <= field.end;
        (inside && u16::from(sizes) & size != 0).then_some(field)
    }
}

/// Every program type here.
pub static ALL: &[&Rules] = &[&SOCKET_FILTER, &SCHED_CLS, &XDP, &SK_LOOKUP];

const fn read(start: u16, end: u16, reads: u8) -> Field {
    Field { start, end, value: Value::Scalar, reads, writes: 0 }
}

const fn both(start: u16, end: u16, reads: u8, writes: u8) -> Field {
    Field { start, end, value: Value::Scalar, reads, writes }
}

const fn pointer(start: u16, size: u16, value: Value) -> Field {
    Field { start, end: start + size, value, reads: size as u8, writes: 0 }
}

/// `BPF_PROG_TYPE_SK_LOOKUP`: `struct bpf_sk_lookup`.
pub static SK_LOOKUP: Rules = Rules {
    name: "sk_lookup",
    program_type: 30,
    context: &[
        pointer(0, 8, Value::SocketOrNull),
        read(8, 36, 1 | 2 | 4),
        // The port is 16 bits with 16 of padding; four bytes at once for old programs.
        read(36, 40, 1 | 2 | 4),
        read(40, 68, 1 | 2 | 4),
    ],
    helpers: &[25, 86, 124, 160],
    returns: Some((0, 1)),
    legacy_loads: false,
    writes_packet: false,
    spin_locks: true,
};

/// `BPF_PROG_TYPE_XDP`: `struct xdp_md`.
pub static XDP: Rules = Rules {
    name: "xdp",
    program_type: 6,
    context: &[
        pointer(0, 4, Value::Packet),
        pointer(4, 4, Value::PacketEnd),
        pointer(8, 4, Value::PacketMeta),
        read(12, 20, 4),
    ],
    helpers: &[
        23, 25, 28, 44, 51, 54, 65, 69, 84, 85, 86, 99, 100, 110, 160, 163, 188, 189, 190, 204,
        205, 206, 207,
    ],
    returns: None,
    legacy_loads: false,
    writes_packet: true,
    spin_locks: true,
};

/// `BPF_PROG_TYPE_SOCKET_FILTER`: `struct __sk_buff` without the packet's pointers.
pub static SOCKET_FILTER: Rules = Rules {
    name: "socket_filter",
    program_type: 1,
    context: &[
        read(0, 48, 1 | 2 | 4),
        both(48, 68, 15, 15),
        read(68, 72, 1 | 2 | 4),
        read(84, 88, 1 | 2 | 4),
        read(164, 168, 1 | 2 | 4),
        pointer(168, 8, Value::SocketCommonOrNull),
        read(176, 180, 1 | 2 | 4),
    ],
    helpers: &[25, 26, 46, 47, 68, 160],
    returns: None,
    legacy_loads: true,
    writes_packet: false,
    spin_locks: false,
};

/// `BPF_PROG_TYPE_SCHED_CLS`: `struct __sk_buff`.
pub static SCHED_CLS: Rules = Rules {
    name: "sched_cls",
    program_type: 3,
    context: &[
        read(0, 8, 7),
        both(8, 16, 7, 4),
        read(16, 32, 7),
        both(32, 36, 7, 4),
        read(36, 44, 7),
        both(44, 48, 7, 4),
        both(48, 68, 15, 15),
        read(68, 72, 7),
        both(72, 76, 7, 4),
        pointer(76, 4, Value::Packet),
        pointer(80, 4, Value::PacketEnd),
        read(84, 88, 7),
        pointer(140, 4, Value::PacketMeta),
        both(152, 160, 8, 8),
        read(160, 168, 7),
        pointer(168, 8, Value::SocketCommonOrNull),
        read(176, 180, 7),
        read(180, 181, 1),
        read(184, 192, 8),
    ],
    helpers: &[
        9, 10, 11, 13, 17, 18, 19, 23, 25, 26, 28, 34, 38, 39, 40, 43, 44, 46, 47, 50, 51, 68, 69,
        84, 85, 86, 95, 96, 98, 99, 100, 107, 108, 110, 124, 160, 163, 204, 205, 206, 207,
    ],
    returns: None,
    legacy_loads: true,
    writes_packet: true,
    spin_locks: true,
};

/// May a socket's field be read (`bpf_sock_is_valid_access` and its kin)?
pub(crate) fn socket_access(kind: Kind, offset: i64, size: u32) -> bool {
    let wide = i64::from(size);
    if offset < 0 || offset % wide != 0 {
        return false;
    }
    match kind {
        Kind::TcpSocket => match offset {
            80 | 88 => size == 8,
            112.. => false,
            _ => size == 4,
        },
        Kind::XdpSocket => offset < 4 && size == 4,
        // A common socket has no type, protocol, mark, priority.
        Kind::SocketCommon if (8..24).contains(&offset) => false,
        _ => match offset {
            80.. => false,
            4 | 8 | 12 | 44 | 72 | 76 | 24..=43 | 52..=71 => size <= 4,
            48 | 49 => size <= 2 || size == 4,
            50 | 51 => false,
            _ => size == 4,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::{ALL, EVERY_TYPE, SK_LOOKUP, XDP, socket_access};
    use crate::verifier::prototype;
    use crate::verifier::register::Kind;

    #[test]
    fn every_helper_has_a_prototype() {
        assert!(EVERY_TYPE.is_sorted());
        for id in ALL.iter().flat_map(|rules| rules.helpers).chain(EVERY_TYPE) {
            assert!(prototype::of(*id).is_some(), "{id}");
        }
    }

    #[test]
    fn context_reads_are_aligned_and_in_their_field() {
        assert!(SK_LOOKUP.access(0, 8, false).is_some());
        assert!(SK_LOOKUP.access(0, 4, false).is_none());
        assert!(SK_LOOKUP.access(36, 4, false).is_some());
        assert!(SK_LOOKUP.access(38, 2, false).is_some());
        assert!(SK_LOOKUP.access(37, 2, false).is_none());
        assert!(SK_LOOKUP.access(68, 4, false).is_none());
        assert!(SK_LOOKUP.access(8, 8, false).is_none());
        assert!(SK_LOOKUP.access(8, 4, true).is_none());
        assert!(XDP.access(0, 8, false).is_none());
        assert!(XDP.access(-4, 4, false).is_none());
    }

    #[test]
    fn socket_fields() {
        assert!(socket_access(Kind::Socket, 12, 1));
        assert!(!socket_access(Kind::SocketCommon, 12, 4));
        assert!(!socket_access(Kind::Socket, 50, 2));
        assert!(!socket_access(Kind::Socket, 80, 4));
        assert!(socket_access(Kind::TcpSocket, 80, 8));
    }
}
