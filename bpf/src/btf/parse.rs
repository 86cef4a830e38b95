//! BTF's bytes (struct btf_header, struct btf_type). Nothing is allocated beyond a multiple of their
//! number.

use super::Btf;
use super::types::{
    Array, Composite, Enumeration, Enumerator, Int, Kind, Linkage, Member, Parameter, Prototype,
    Section, SectionVariable, Type,
};

pub(super) const MAGIC: u16 = 0xeb9f;
pub(super) const HEADER: usize = 24;

/// Why BTF cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BtfError {
    /// Not BTF, or of another version or byte order.
    #[error("not little-endian BTF of version 1")]
    Header,
    /// The types or the strings leave the section.
    #[error("types or strings leave the section")]
    Bounds,
    /// A type is cut off or of an unknown kind.
    #[error("type at offset {0} is cut off or of an unknown kind")]
    Type(usize),
    /// A record of `.BTF.ext` is cut off or of another size.
    #[error(".BTF.ext: record at offset {0} is cut off or of a wrong size")]
    Record(usize),
}

impl Btf {
    /// Reads a `.BTF` section or a file such as `/sys/kernel/btf/vmlinux`.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn parse(bytes: &[u8]) -> Result<Btf, BtfError> {
        let mut header = Reader { bytes, at: 0 };
        let magic = header.u32().ok_or(BtfError::Header)?;
        if magic as u16 != MAGIC || (magic >> 16) as u8 != 1 {
            return Err(BtfError::Header);
        }
        let mut word = || header.u32().map(|word| word as usize).ok_or(BtfError::Header);
        let (start, type_at, type_len, string_at, string_len) =
            (word()?, word()?, word()?, word()?, word()?);
        if start < HEADER {
            return Err(BtfError::Header);
        }
        let body = bytes.get(start..).ok_or(BtfError::Bounds)?;
        let part = |at: usize, len: usize| body.get(at..at.checked_add(len)?);
        let types = part(type_at, type_len).ok_or(BtfError::Bounds)?;
        let strings = part(string_at, string_len).ok_or(BtfError::Bounds)?;
        let mut btf = Btf { types: vec![Type::default()], strings: strings.to_vec() };
        let mut reader = Reader { bytes: types, at: 0 };
        while reader.at < types.len() {
            let at = reader.at;
            btf.types.push(read_type(&mut reader).ok_or(BtfError::Type(at))?);
        }
        Ok(btf)
    }
}

/// Reads little-endian words from the front.
pub(super) struct Reader<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
}

impl Reader<'_> {
    pub(super) fn u32(&mut self) -> Option<u32> {
        let word = self.bytes.get(self.at..)?.first_chunk::<4>()?;
        self.at += 4;
        Some(u32::from_le_bytes(*word))
    }

    /// `count` records of `words` words each; none are made if the bytes do not suffice.
    fn records<T, const WORDS: usize>(
        &mut self,
        count: usize,
        record: impl Fn([u32; WORDS]) -> T,
    ) -> Option<Vec<T>> {
        let length = count.checked_mul(4 * WORDS)?;
        let bytes = self.bytes.get(self.at..self.at.checked_add(length)?)?;
        self.at += length;
        let word = |bytes: &[u8], i: usize| {
            bytes[4 * i..].first_chunk::<4>().map_or(0, |word| u32::from_le_bytes(*word))
        };
        let read = |bytes: &[u8]| record(std::array::from_fn(|i| word(bytes, i)));
        Some(bytes.chunks_exact(4 * WORDS).map(read).collect())
    }
}

fn read_type(reader: &mut Reader<'_>) -> Option<Type> {
    let (name, info, size_or_type) = (reader.u32()?, reader.u32()?, reader.u32()?);
    let count = (info & 0xffff) as usize;
    let flag = info >> 31 != 0;
    let kind = match info >> 24 & 0x1f {
        1 => Kind::Int(read_int(reader.u32()?, size_or_type)),
        2 => Kind::Pointer(size_or_type),
        3 => {
            let (element, index, count) = (reader.u32()?, reader.u32()?, reader.u32()?);
            Kind::Array(Array { element, index, count })
        }
        4 => Kind::Struct(read_composite(reader, size_or_type, count, flag)?),
        5 => Kind::Union(read_composite(reader, size_or_type, count, flag)?),
        6 => {
            let read =
                |[name, value]: [u32; 2]| Enumerator { name, value: i64::from(value as i32) };
            let enumerators = reader.records(count, read)?;
            Kind::Enum(Enumeration { size: size_or_type, signed: flag, wide: false, enumerators })
        }
        7 => Kind::Forward { is_union: flag },
        8 => Kind::Typedef(size_or_type),
        9 => Kind::Volatile(size_or_type),
        10 => Kind::Const(size_or_type),
        11 => Kind::Restrict(size_or_type),
        12 => Kind::Function { prototype: size_or_type, linkage: linkage(info & 0xffff) },
        13 => {
            let read = |[name, type_id]: [u32; 2]| Parameter { name, type_id };
            let parameters = reader.records(count, read)?;
            Kind::Prototype(Prototype { returns: size_or_type, parameters })
        }
        14 => Kind::Variable { type_id: size_or_type, linkage: linkage(reader.u32()?) },
        15 => {
            let read =
                |[type_id, offset, size]: [u32; 3]| SectionVariable { type_id, offset, size };
            Kind::Section(Section { size: size_or_type, variables: reader.records(count, read)? })
        }
        16 => Kind::Float(size_or_type),
        17 => {
            let component = reader.u32()?;
            Kind::DeclTag {
                type_id: size_or_type,
                component: (component != u32::MAX).then_some(component),
                is_attribute: flag,
            }
        }
        18 => Kind::TypeTag { type_id: size_or_type, is_attribute: flag },
        19 => {
            let read = |[name, low, high]: [u32; 3]| Enumerator {
                name,
                value: (u64::from(low) | u64::from(high) << 32) as i64,
            };
            let enumerators = reader.records(count, read)?;
            Kind::Enum(Enumeration { size: size_or_type, signed: flag, wide: true, enumerators })
        }
        _ => return None,
    };
    Some(Type { name, kind })
}

fn read_int(word: u32, size: u32) -> Int {
    Int { size, bits: word as u8, offset: (word >> 16) as u8, encoding: (word >> 24) as u8 & 15 }
}

/// With the flag, a member's offset holds the size of a bitfield in its upper byte.
fn read_composite(
    reader: &mut Reader<'_>,
    size: u32,
    count: usize,
    flag: bool,
) -> Option<Composite> {
    let members = reader.records(count, |[name, type_id, offset]: [u32; 3]| Member {
        name,
        type_id,
        bit_offset: if flag { offset & 0xff_ffff } else { offset },
        bit_size: if flag { (offset >> 24) as u8 } else { 0 },
    })?;
    Some(Composite { size, members })
}

fn linkage(number: u32) -> Linkage {
    match number {
        0 => Linkage::Static,
        1 => Linkage::Global,
        _ => Linkage::Extern,
    }
}
