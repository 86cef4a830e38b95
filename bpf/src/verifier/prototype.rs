//! What helpers take and give, with the kernel's argument types (`struct bpf_func_proto`).

use crate::insn::{CALL, Insn};

/// `bpf_tail_call`.
pub(crate) const TAIL_CALL: i32 = 12;
const TAIL: u32 = TAIL_CALL as u32;

/// What a helper demands of an argument (`enum bpf_arg_type`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the kernel's names without ARG_PTR_TO")]
pub enum ArgumentKind {
    None,
    Anything,
    Context,
    Map,
    MapKey,
    MapValue,
    /// Its size is the next argument.
    Memory,
    /// Of this many bytes, so aligned.
    FixedMemory(u32),
    /// The size of the memory before; not zero.
    Size,
    SizeOrZero,
    /// The size of the memory that the helper returns: a constant.
    AllocationSize,
    SpinLock,
    Timer,
    /// Any socket type (`ARG_PTR_TO_SOCK_COMMON`).
    SocketCommon,
    /// Any socket type, also as BTF object (`ARG_PTR_TO_BTF_ID_SOCK_COMMON`).
    BtfSocketCommon,
    /// A full socket.
    Socket,
    /// A ring buffer's record.
    Record,
    /// A callback.
    Function,
    /// What a callback is given: an address on the stack.
    Stack,
    /// A string in a read-only map.
    ConstString,
    Dynptr(DynptrKind),
}

/// What a dynptr is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum DynptrKind {
    /// Any; only for arguments.
    Any = 0,
    /// The value of a map.
    Local = 1,
    /// A ring buffer's record.
    Ringbuf = 2,
}

/// An argument.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Argument {
    /// What it must be.
    pub kind: ArgumentKind,
    /// Null is taken too.
    pub or_null: bool,
    /// The helper writes the memory.
    pub writes: bool,
    /// The memory need not be initialized.
    pub uninitialized: bool,
    /// The reference is released.
    pub releases: bool,
}

impl Argument {
    const fn of(kind: ArgumentKind) -> Argument {
        Argument { kind, or_null: false, writes: false, uninitialized: false, releases: false }
    }

    const fn or_null(self) -> Argument {
        Argument { or_null: true, ..self }
    }

    const fn written(self) -> Argument {
        Argument { writes: true, ..self }
    }

    const fn uninitialized(self) -> Argument {
        Argument { uninitialized: true, writes: true, ..self }
    }

    const fn released(self) -> Argument {
        Argument { releases: true, ..self }
    }
}

/// What a helper gives (`enum bpf_return_type`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the kernel's names")]
pub enum ReturnType {
    Integer,
    Void,
    MapValueOrNull,
    SocketOrNull,
    SocketCommonOrNull,
    TcpSocketOrNull,
    /// A ring buffer's record.
    RecordOrNull,
    /// A slice of a dynptr.
    SliceOrNull,
}

/// A helper.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Prototype {
    /// Its number.
    pub id: u32,
    /// Its arguments; behind the last, `None`.
    pub arguments: [Argument; 5],
    /// What it returns.
    pub returns: ReturnType,
    /// Only for GPL-compatible programs.
    pub gpl_only: bool,
    /// Memory arguments may be in the packet.
    pub packet_access: bool,
}

impl Prototype {
    /// How many arguments it has.
    pub fn count(&self) -> usize {
        self.arguments.iter().take_while(|found| found.kind != ArgumentKind::None).count()
    }
}

/// What the walk must know of a call before it knows any value.
#[derive(Clone, Copy, Default)]
pub(crate) struct HelperTraits {
    pub(crate) calls_back: bool,
    pub(crate) calls_back_later: bool,
    pub(crate) changes_packet: bool,
}

pub(crate) fn traits(insn: Insn) -> HelperTraits {
    if insn.opcode != CALL || insn.src != 0 {
        return HelperTraits::default();
    }
    HelperTraits {
        calls_back: matches!(insn.imm, 164 | 180 | 181 | 209),
        calls_back_later: insn.imm == 170,
        changes_packet: changes_packet(insn.imm as u32),
    }
}

/// `bpf_helper_changes_pkt_data`.
pub(crate) fn changes_packet(id: u32) -> bool {
    // Another program may move the packet, and a tail call that fails comes back.
    matches!(
        id,
        TAIL | 9 | 10 | 11 | 13 | 18 | 19 | 31 | 38 | 39 | 43 | 44 | 50 | 54 | 62 | 65 | 73..=76
    ) || matches!(id, 90 | 91 | 122 | 142 | 143)
}

const NONE: Argument = Argument::of(ArgumentKind::None);
const ANY: Argument = Argument::of(ArgumentKind::Anything);
const CONTEXT: Argument = Argument::of(ArgumentKind::Context);
const MAP: Argument = Argument::of(ArgumentKind::Map);
const KEY: Argument = Argument::of(ArgumentKind::MapKey);
const VALUE: Argument = Argument::of(ArgumentKind::MapValue);
const VALUE_OUT: Argument = VALUE.uninitialized();
const MEMORY: Argument = Argument::of(ArgumentKind::Memory);
const MEMORY_OUT: Argument = MEMORY.uninitialized();
const SIZE: Argument = Argument::of(ArgumentKind::Size);
const SIZE0: Argument = Argument::of(ArgumentKind::SizeOrZero);
const ALLOCATION: Argument = Argument::of(ArgumentKind::AllocationSize);
const LOCK: Argument = Argument::of(ArgumentKind::SpinLock);
const TIMER: Argument = Argument::of(ArgumentKind::Timer);
const FUNCTION: Argument = Argument::of(ArgumentKind::Function);
const STACK: Argument = Argument::of(ArgumentKind::Stack).or_null();
const STRING: Argument = Argument::of(ArgumentKind::ConstString);
const RECORD: Argument = Argument::of(ArgumentKind::Record).released();
const SOCKET: Argument = Argument::of(ArgumentKind::BtfSocketCommon);
const SOCK_COMMON: Argument = Argument::of(ArgumentKind::SocketCommon);
const LONG_OUT: Argument = Argument::of(ArgumentKind::FixedMemory(8)).uninitialized();
const DYNPTR: Argument = Argument::of(ArgumentKind::Dynptr(DynptrKind::Any));
const RINGBUF: Argument = Argument::of(ArgumentKind::Dynptr(DynptrKind::Ringbuf));
const LOCAL: Argument = Argument::of(ArgumentKind::Dynptr(DynptrKind::Local));
const HEADER: Argument = Argument::of(ArgumentKind::FixedMemory(20));

const fn proto(id: u32, given: &[Argument], returns: ReturnType) -> Prototype {
    let mut arguments = [NONE; 5];
    let mut i = 0;
    while i < given.len() {
        arguments[i] = given[i];
        i += 1;
    }
    Prototype { id, arguments, returns, gpl_only: false, packet_access: false }
}

const fn int(id: u32, given: &[Argument]) -> Prototype {
    proto(id, given, ReturnType::Integer)
}

const fn void(id: u32, given: &[Argument]) -> Prototype {
    proto(id, given, ReturnType::Void)
}

const fn gpl(prototype: Prototype) -> Prototype {
    Prototype { gpl_only: true, ..prototype }
}

const fn packet(prototype: Prototype) -> Prototype {
    Prototype { packet_access: true, ..prototype }
}

/// By number.
static PROTOTYPES: &[Prototype] = &[
    packet(proto(1, &[MAP, KEY], ReturnType::MapValueOrNull)),
    packet(int(2, &[MAP, KEY, VALUE, ANY])),
    packet(int(3, &[MAP, KEY])),
    int(5, &[]),
    gpl(int(6, &[MEMORY, SIZE])),
    int(7, &[]),
    int(8, &[]),
    int(9, &[CONTEXT, ANY, MEMORY, SIZE, ANY]),
    int(10, &[CONTEXT, ANY, ANY, ANY, ANY]),
    int(11, &[CONTEXT, ANY, ANY, ANY, ANY]),
    void(12, &[CONTEXT, MAP, ANY]),
    int(13, &[CONTEXT, ANY, ANY]),
    int(14, &[]),
    int(15, &[]),
    int(17, &[CONTEXT]),
    int(18, &[CONTEXT, ANY, ANY]),
    int(19, &[CONTEXT]),
    int(23, &[ANY, ANY]),
    gpl(int(25, &[CONTEXT, MAP, ANY, MEMORY, SIZE0])),
    int(26, &[CONTEXT, ANY, MEMORY_OUT, SIZE]),
    packet(int(28, &[MEMORY.or_null(), SIZE0, MEMORY.or_null(), SIZE0, ANY])),
    int(34, &[CONTEXT]),
    gpl(int(35, &[])),
    int(38, &[CONTEXT, ANY, ANY]),
    int(39, &[CONTEXT, ANY]),
    int(40, &[CONTEXT, ANY]),
    int(42, &[]),
    int(43, &[CONTEXT, ANY, ANY]),
    int(44, &[CONTEXT, ANY]),
    int(46, &[CONTEXT]),
    int(47, &[CONTEXT]),
    int(50, &[CONTEXT, ANY, ANY, ANY]),
    int(51, &[MAP, ANY, ANY]),
    int(54, &[CONTEXT, ANY]),
    int(65, &[CONTEXT, ANY]),
    int(68, &[CONTEXT, ANY, MEMORY_OUT, SIZE, ANY]),
    gpl(int(69, &[CONTEXT, MEMORY.written(), SIZE, ANY])),
    int(80, &[]),
    packet(proto(84, &[CONTEXT, MEMORY, SIZE, ANY, ANY], ReturnType::SocketOrNull)),
    packet(proto(85, &[CONTEXT, MEMORY, SIZE, ANY, ANY], ReturnType::SocketOrNull)),
    int(86, &[SOCKET.released()]),
    packet(int(87, &[MAP, VALUE, ANY])),
    int(88, &[MAP, VALUE_OUT]),
    int(89, &[MAP, VALUE_OUT]),
    void(93, &[LOCK]),
    void(94, &[LOCK]),
    proto(95, &[SOCK_COMMON], ReturnType::SocketOrNull),
    proto(96, &[SOCK_COMMON], ReturnType::TcpSocketOrNull),
    proto(98, &[SOCK_COMMON], ReturnType::SocketOrNull),
    packet(proto(99, &[CONTEXT, MEMORY, SIZE, ANY, ANY], ReturnType::SocketCommonOrNull)),
    packet(int(100, &[SOCKET, MEMORY, SIZE, MEMORY, SIZE])),
    int(105, &[MEMORY, SIZE, ANY, LONG_OUT]),
    int(106, &[MEMORY, SIZE, ANY, LONG_OUT]),
    proto(107, &[MAP, SOCKET, VALUE.or_null(), ANY], ReturnType::MapValueOrNull),
    int(108, &[MAP, SOCKET]),
    packet(int(110, &[SOCKET, MEMORY, SIZE, MEMORY, SIZE])),
    gpl(int(112, &[MEMORY_OUT, SIZE0, ANY])),
    gpl(int(113, &[MEMORY_OUT, SIZE0, ANY])),
    gpl(int(114, &[MEMORY_OUT, SIZE0, ANY])),
    gpl(int(115, &[MEMORY_OUT, SIZE0, ANY])),
    int(118, &[]),
    int(120, &[ANY, ANY, MEMORY_OUT, SIZE]),
    int(123, &[ANY]),
    int(124, &[CONTEXT, Argument::of(ArgumentKind::Socket).or_null(), ANY]),
    int(125, &[]),
    int(130, &[MAP, MEMORY, SIZE0, ANY]),
    proto(131, &[MAP, ALLOCATION, ANY], ReturnType::RecordOrNull),
    void(132, &[RECORD, ANY]),
    void(133, &[RECORD, ANY]),
    int(134, &[MAP, ANY]),
    int(160, &[]),
    int(163, &[CONTEXT, ANY, Argument::of(ArgumentKind::FixedMemory(4)).written(), ANY, ANY]),
    int(164, &[MAP, FUNCTION, STACK, ANY]),
    gpl(int(165, &[MEMORY_OUT.or_null(), SIZE0, STRING, MEMORY.or_null(), SIZE0])),
    int(169, &[TIMER, MAP, ANY]),
    int(170, &[TIMER, FUNCTION]),
    int(171, &[TIMER, ANY, ANY]),
    int(172, &[TIMER]),
    gpl(int(177, &[MEMORY, SIZE, MEMORY.or_null(), SIZE0])),
    int(181, &[ANY, FUNCTION, STACK, ANY]),
    int(182, &[MEMORY, SIZE, STRING]),
    int(188, &[CONTEXT]),
    int(189, &[CONTEXT, ANY, MEMORY_OUT, SIZE]),
    int(190, &[CONTEXT, ANY, MEMORY, SIZE]),
    packet(proto(195, &[MAP, KEY, ANY], ReturnType::MapValueOrNull)),
    int(197, &[MEMORY_OUT, SIZE0, ANY, LOCAL.uninitialized()]),
    int(198, &[MAP, ANY, ANY, RINGBUF.uninitialized()]),
    void(199, &[RINGBUF.released(), ANY]),
    void(200, &[RINGBUF.released(), ANY]),
    int(201, &[MEMORY_OUT, SIZE0, DYNPTR, ANY, ANY]),
    int(202, &[DYNPTR, ANY, MEMORY, SIZE0, ANY]),
    proto(203, &[DYNPTR, ANY, ALLOCATION], ReturnType::SliceOrNull),
    packet(int(204, &[HEADER, MEMORY, SIZE0])),
    packet(int(205, &[Argument::of(ArgumentKind::FixedMemory(40)), MEMORY, SIZE0])),
    packet(int(206, &[HEADER, HEADER])),
    packet(int(207, &[Argument::of(ArgumentKind::FixedMemory(40)), HEADER])),
    int(208, &[]),
    int(209, &[MAP, FUNCTION, STACK, ANY]),
];

/// The prototype of a helper, if the verifier knows it.
pub fn of(id: u32) -> Option<&'static Prototype> {
    let found = PROTOTYPES.binary_search_by_key(&id, |prototype| prototype.id).ok()?;
    PROTOTYPES.get(found)
}

#[cfg(test)]
mod tests {
    use super::{PROTOTYPES, of};

    #[test]
    fn found_by_number() {
        assert!(PROTOTYPES.is_sorted_by(|a, b| a.id < b.id));
        assert_eq!(of(2).map(|found| found.count()), Some(4));
        assert_eq!(of(4), None);
    }
}
