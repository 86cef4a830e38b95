//! The `.BTF` section's bytes (struct btf_header, struct btf_type). Nothing is allocated beyond a
//! multiple of the section's size.

use super::{Btf, Kind, Member, Type};

const MAGIC: u16 = 0xeb9f;
const HEADER: usize = 24;

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
}

impl Btf {
    /// Reads a `.BTF` section.
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

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn u32(&mut self) -> Option<u32> {
        let word = self.bytes.get(self.at..)?.first_chunk::<4>()?;
        self.at += 4;
        Some(u32::from_le_bytes(*word))
    }

    fn skip(&mut self, count: usize, size: usize) -> Option<()> {
        let at = self.at.checked_add(count.checked_mul(size)?)?;
        self.at = Some(at).filter(|at| *at <= self.bytes.len())?;
        Some(())
    }
}

fn read_type(reader: &mut Reader<'_>) -> Option<Type> {
    let (name, info, size_or_type) = (reader.u32()?, reader.u32()?, reader.u32()?);
    let count = (info & 0xffff) as usize;
    let kind = match info >> 24 & 0x1f {
        1 => {
            reader.skip(1, 4)?;
            Kind::Scalar(size_or_type)
        }
        2 => Kind::Pointer(size_or_type),
        3 => {
            let (element, _index, count) = (reader.u32()?, reader.u32()?, reader.u32()?);
            Kind::Array { element, count }
        }
        4 | 5 => {
            let mut members = Vec::new();
            for _ in 0..count {
                members.push(Member { name: reader.u32()?, type_id: reader.u32()? });
                reader.skip(1, 4)?;
            }
            Kind::Struct { size: size_or_type, members }
        }
        6 => {
            reader.skip(count, 8)?;
            Kind::Scalar(size_or_type)
        }
        7 | 12 => Kind::Other,
        8..=11 | 18 => Kind::Alias(size_or_type),
        13 => {
            reader.skip(count, 8)?;
            Kind::Other
        }
        14 => {
            reader.skip(1, 4)?;
            Kind::Variable(size_or_type)
        }
        15 => {
            let mut variables = Vec::new();
            for _ in 0..count {
                variables.push(reader.u32()?);
                reader.skip(2, 4)?;
            }
            Kind::Section(variables)
        }
        16 => Kind::Scalar(size_or_type),
        17 => {
            reader.skip(1, 4)?;
            Kind::Other
        }
        19 => {
            reader.skip(count, 12)?;
            Kind::Scalar(size_or_type)
        }
        _ => return None,
    };
    Some(Type { name, kind })
}
