//! The instruction set (RFC 9669): how eight bytes become an operation. Every pass reads this.

/// Frame pointer, read-only.
pub const R10: u8 = 10;
/// In a decoded operation: a register that is always zero, the source of immediate forms.
pub(crate) const ZERO: u8 = 11;

/// `src_reg` of a 64-bit immediate load that names a map by its index (`BPF_PSEUDO_MAP_FD`).
pub const PSEUDO_MAP: u8 = 1;
/// The same for the address of a map's value (`BPF_PSEUDO_MAP_VALUE`).
pub const PSEUDO_MAP_VALUE: u8 = 2;
/// `src_reg` of a call of a function of the same program (`BPF_PSEUDO_CALL`).
pub const PSEUDO_CALL: u8 = 1;

/// Opcode of a 64-bit immediate load, the only instruction of two slots.
pub const LD_IMM64: u8 = 0x18;
/// Opcode of a call.
pub const CALL: u8 = 0x85;
/// Opcode of a call of the helper whose number is in the destination register (`callx`).
pub const CALL_REGISTER: u8 = 0x8d;
/// Opcode of an exit.
pub const EXIT: u8 = 0x95;
/// Opcode of an unconditional jump by `offset`.
pub const JA: u8 = 0x05;
/// Opcode of an unconditional jump by `imm` (v4).
pub const GOTOL: u8 = 0x06;
/// Opcode of a jump that is taken once a function has met it too often (`BPF_JCOND`, `may_goto`).
pub const MAY_GOTO: u8 = 0xe5;
/// How often a function may meet its `may_goto` before they jump (`BPF_MAX_LOOPS`).
pub const MAY_GOTO_LOOPS: u32 = 8 << 20;

/// One slot of eight bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Insn {
    /// Operation, source and class.
    pub opcode: u8,
    /// Destination register, 0–15 as encoded.
    pub dst: u8,
    /// Source register or pseudo source, 0–15 as encoded.
    pub src: u8,
    /// Offset.
    pub offset: i16,
    /// Immediate.
    pub imm: i32,
}

impl Insn {
    /// From its little-endian bytes.
    pub fn from_bytes(bytes: [u8; 8]) -> Insn {
        Insn {
            opcode: bytes[0],
            dst: bytes[1] & 15,
            src: bytes[1] >> 4,
            offset: i16::from_le_bytes([bytes[2], bytes[3]]),
            imm: i32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
        }
    }

    /// To its little-endian bytes.
    pub fn to_bytes(self) -> [u8; 8] {
        let [o0, o1] = self.offset.to_le_bytes();
        let [i0, i1, i2, i3] = self.imm.to_le_bytes();
        [self.opcode, self.dst | self.src << 4, o0, o1, i0, i1, i2, i3]
    }

    /// The first slot of a 64-bit immediate load?
    pub fn is_ld_imm64(self) -> bool {
        self.opcode == LD_IMM64
    }

    /// A call of a function of the same program?
    pub fn is_local_call(self) -> bool {
        self.opcode == CALL && self.src == PSEUDO_CALL
    }

    /// The operation; `None` for what RFC 9669 does not define or this crate does not have, fields
    /// that must be zero included. A 64-bit immediate load's fields are its reader's to check.
    pub fn code(self) -> Option<Code> {
        let immediate = self.opcode & 0x08 == 0;
        let unused = if immediate { self.src == 0 } else { self.imm == 0 };
        match self.opcode & 7 {
            4 | 7 => alu(self).filter(|_| self.opcode >> 4 == 0xd || unused),
            5 | 6 => jump(self, unused),
            0 => self.is_ld_imm64().then_some(Code::LdImm64),
            1 => load(self).filter(|_| self.imm == 0),
            2 => (self.opcode >> 5 == 3 && self.src == 0).then(|| store(self)),
            _ => match self.opcode >> 5 {
                3 => (self.imm == 0).then(|| store(self)),
                6 => atomic(self),
                _ => None,
            },
        }
    }
}

/// An operation. Whether its second operand is a register or an immediate is not part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
#[rustfmt::skip]
#[allow(missing_docs, reason = "the RFC's names; 32 and 64 are operand widths in bits")]
pub enum Code {
    Add64, Sub64, Mul64, Div64, Sdiv64, Or64, And64, Lsh64, Rsh64, Arsh64, Neg64, Mod64, Smod64,
    Xor64, Mov64, Movsx64From8, Movsx64From16, Movsx64From32,
    Add32, Sub32, Mul32, Div32, Sdiv32, Or32, And32, Lsh32, Rsh32, Arsh32, Neg32, Mod32, Smod32,
    Xor32, Mov32, Movsx32From8, Movsx32From16,
    Le16, Le32, Le64, Be16, Be32, Be64,
    Jeq64, Jne64, Jgt64, Jge64, Jlt64, Jle64, Jset64, Jsgt64, Jsge64, Jslt64, Jsle64,
    Jeq32, Jne32, Jgt32, Jge32, Jlt32, Jle32, Jset32, Jsgt32, Jsge32, Jslt32, Jsle32,
    Ja, Gotol, Call, CallLocal, Exit,
    LdImm64, Load8, Load16, Load32, Load64, LoadSx8, LoadSx16, LoadSx32,
    Store8, Store16, Store32, Store64, Atomic32, Atomic64,
    LoadAcquire8, LoadAcquire16, LoadAcquire32, LoadAcquire64,
    StoreRelease8, StoreRelease16, StoreRelease32, StoreRelease64, MayGoto,
    CallRegister,
    /// A call of `bpf_tail_call`: decoded apart, since it is a jump.
    TailCall,
}

impl Code {
    /// Does it put its result into its destination register?
    pub fn writes_dst(self) -> bool {
        self <= Code::Be64
            || (Code::LdImm64..=Code::LoadSx32).contains(&self)
            || (Code::LoadAcquire8..=Code::LoadAcquire64).contains(&self)
    }

    /// A jump that is taken or not?
    pub fn is_conditional(self) -> bool {
        (Code::Jeq64..=Code::Jsle32).contains(&self) || self == Code::MayGoto
    }
}

/// `imm` of an atomic instruction: the old value goes to the source register.
pub const FETCH: i32 = 1;
/// `imm` of an atomic instruction: exchange, with [`FETCH`].
pub const XCHG: i32 = 0xe0;
/// `imm` of an atomic instruction: compare with r0 and exchange, with [`FETCH`].
pub const CMPXCHG: i32 = 0xf0;
/// `imm` of an atomic instruction: a load that later accesses stay behind (`BPF_LOAD_ACQ`).
pub const LOAD_ACQUIRE: i32 = 0x100;
/// `imm` of an atomic instruction: a store that earlier accesses stay before (`BPF_STORE_REL`).
pub const STORE_RELEASE: i32 = 0x110;

fn alu(insn: Insn) -> Option<Code> {
    use Code::*;
    let wide = insn.opcode & 7 == 7;
    let pick = |narrow, long| Some(if wide { long } else { narrow });
    let register = insn.opcode & 0x08 != 0;
    match (insn.opcode >> 4, insn.offset) {
        (0x0, 0) => pick(Add32, Add64),
        (0x1, 0) => pick(Sub32, Sub64),
        (0x2, 0) => pick(Mul32, Mul64),
        (0x3, 0) => pick(Div32, Div64),
        (0x3, 1) => pick(Sdiv32, Sdiv64),
        (0x4, 0) => pick(Or32, Or64),
        (0x5, 0) => pick(And32, And64),
        (0x6, 0) => pick(Lsh32, Lsh64),
        (0x7, 0) => pick(Rsh32, Rsh64),
        (0x8, 0) if !register && insn.imm == 0 => pick(Neg32, Neg64),
        (0x9, 0) => pick(Mod32, Mod64),
        (0x9, 1) => pick(Smod32, Smod64),
        (0xa, 0) => pick(Xor32, Xor64),
        (0xb, 0) => pick(Mov32, Mov64),
        (0xb, 8) if register => pick(Movsx32From8, Movsx64From8),
        (0xb, 16) if register => pick(Movsx32From16, Movsx64From16),
        (0xb, 32) if register && wide => Some(Movsx64From32),
        (0xc, 0) => pick(Arsh32, Arsh64),
        (0xd, 0) if insn.src == 0 => byte_order(insn, wide, register),
        _ => None,
    }
}

/// `le`, `be`, and (64-bit class) `bswap`, which on a little-endian machine is `be`.
fn byte_order(insn: Insn, wide: bool, register: bool) -> Option<Code> {
    match (insn.imm, register || wide) {
        _ if wide && register => None,
        (16, false) => Some(Code::Le16),
        (32, false) => Some(Code::Le32),
        (64, false) => Some(Code::Le64),
        (16, true) => Some(Code::Be16),
        (32, true) => Some(Code::Be32),
        (64, true) => Some(Code::Be64),
        _ => None,
    }
}

fn jump(insn: Insn, unused: bool) -> Option<Code> {
    use Code::*;
    match insn.opcode {
        JA if insn.dst == 0 && insn.src == 0 && insn.imm == 0 => return Some(Ja),
        GOTOL if insn.dst == 0 && insn.src == 0 && insn.offset == 0 => return Some(Gotol),
        CALL_REGISTER if insn.src == 0 && insn.offset == 0 && insn.imm == 0 => {
            return Some(CallRegister);
        }
        MAY_GOTO if insn.dst == 0 && insn.src == 0 && insn.imm == 0 => return Some(MayGoto),
        CALL if insn.dst == 0 && insn.offset == 0 => {
            return match insn.src {
                0 => Some(Call),
                PSEUDO_CALL => Some(CallLocal),
                _ => None,
            };
        }
        EXIT => {
            let zero = insn.dst == 0 && insn.src == 0 && insn.offset == 0 && insn.imm == 0;
            return zero.then_some(Exit);
        }
        _ => {}
    }
    let wide = insn.opcode & 7 == 5;
    let pick = |narrow, long| unused.then_some(if wide { long } else { narrow });
    match insn.opcode >> 4 {
        0x1 => pick(Jeq32, Jeq64),
        0x2 => pick(Jgt32, Jgt64),
        0x3 => pick(Jge32, Jge64),
        0x4 => pick(Jset32, Jset64),
        0x5 => pick(Jne32, Jne64),
        0x6 => pick(Jsgt32, Jsgt64),
        0x7 => pick(Jsge32, Jsge64),
        0xa => pick(Jlt32, Jlt64),
        0xb => pick(Jle32, Jle64),
        0xc => pick(Jslt32, Jslt64),
        0xd => pick(Jsle32, Jsle64),
        _ => None,
    }
}

fn load(insn: Insn) -> Option<Code> {
    match insn.opcode {
        0x71 => Some(Code::Load8),
        0x69 => Some(Code::Load16),
        0x61 => Some(Code::Load32),
        0x79 => Some(Code::Load64),
        0x91 => Some(Code::LoadSx8),
        0x89 => Some(Code::LoadSx16),
        0x81 => Some(Code::LoadSx32),
        _ => None,
    }
}

fn store(insn: Insn) -> Code {
    match insn.opcode >> 3 & 3 {
        0 => Code::Store32,
        1 => Code::Store16,
        2 => Code::Store8,
        _ => Code::Store64,
    }
}

fn atomic(insn: Insn) -> Option<Code> {
    use Code::*;
    let sizes = match insn.imm {
        LOAD_ACQUIRE => Some([LoadAcquire32, LoadAcquire16, LoadAcquire8, LoadAcquire64]),
        STORE_RELEASE => Some([StoreRelease32, StoreRelease16, StoreRelease8, StoreRelease64]),
        _ => None,
    };
    if let Some(sizes) = sizes {
        return Some(sizes[usize::from(insn.opcode >> 3 & 3)]);
    }
    let known = matches!(insn.imm & !FETCH, 0x00 | 0x40 | 0x50 | 0xa0)
        || insn.imm == XCHG | FETCH
        || insn.imm == CMPXCHG | FETCH;
    match insn.opcode {
        0xc3 if known => Some(Code::Atomic32),
        0xdb if known => Some(Code::Atomic64),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{Code, Insn};

    #[test]
    fn bytes_and_back() {
        let bytes = [0x63, 0x1a, 0xfc, 0xff, 0, 0, 0, 0];
        let insn = Insn::from_bytes(bytes);
        assert_eq!((insn.dst, insn.src, insn.offset), (10, 1, -4));
        assert_eq!(insn.code(), Some(Code::Store32));
        assert_eq!(insn.to_bytes(), bytes);
    }

    #[test]
    fn reserved_fields_must_be_zero() {
        let add = Insn { opcode: 0x07, dst: 1, imm: 5, ..Insn::default() };
        assert_eq!(add.code(), Some(Code::Add64));
        assert_eq!(Insn { src: 1, ..add }.code(), None);
        assert_eq!(Insn { offset: 1, ..add }.code(), None);
        assert_eq!(Insn { opcode: 0x0f, ..add }.code(), None);
        assert_eq!(Insn { opcode: 0x20, ..add }.code(), None, "legacy packet load");
        let swap = Insn { opcode: 0xd7, imm: 32, ..Insn::default() };
        assert_eq!(swap.code(), Some(Code::Be32));
    }
}
