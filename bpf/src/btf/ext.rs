//! `.BTF.ext`: which function and which line an instruction is of, and which instructions CO-RE
//! moves (struct btf_ext_header, struct btf_ext_info_sec).

use super::BtfError;
use super::parse::{MAGIC, Reader};

/// Bytes of a header without CO-RE relocations, and with them.
const HEADER: usize = 24;
const HEADER_CORE: usize = 32;
/// The most bytes of a record that are accepted; later versions may add some.
const MAX_RECORD: usize = 512;

/// A section `.BTF.ext`; strings and types are those of the `.BTF` beside it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BtfExt {
    /// Where functions begin.
    pub functions: Vec<InfoSection<FunctionInfo>>,
    /// Where lines begin.
    pub lines: Vec<InfoSection<LineInfo>>,
    /// What CO-RE moves.
    pub core: Vec<InfoSection<CoreRelocation>>,
}

/// The records of one section of code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InfoSection<T> {
    /// Where the section's name begins in the strings.
    pub name: u32,
    /// By the file's order.
    pub records: Vec<T>,
}

/// A function (struct bpf_func_info).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FunctionInfo {
    /// In `.BTF.ext`: bytes from the section's start. In a linked program: instructions, in slots.
    pub insn: u32,
    /// Its type, a `FUNC`.
    pub type_id: u32,
}

/// A line of source (struct bpf_line_info).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct LineInfo {
    /// In `.BTF.ext`: bytes from the section's start. In a linked program: instructions, in slots.
    pub insn: u32,
    /// Where the file's name begins in the strings.
    pub file: u32,
    /// Where the line's text begins in the strings.
    pub text: u32,
    /// From 1.
    pub line: u32,
    /// From 1; 0 for none.
    pub column: u32,
}

/// An instruction that depends on a type of the target (struct bpf_core_relo).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct CoreRelocation {
    /// Bytes from the section's start.
    pub insn: u32,
    /// The root type, of the object's BTF.
    pub type_id: u32,
    /// Where the access begins in the strings: `0:1:2`.
    pub access: u32,
    /// `enum bpf_core_relo_kind`.
    pub kind: u32,
}

impl BtfExt {
    /// Reads a `.BTF.ext` section.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn parse(bytes: &[u8]) -> Result<BtfExt, BtfError> {
        let mut header = Reader { bytes, at: 0 };
        let magic = header.u32().ok_or(BtfError::Header)?;
        let start = header.u32().ok_or(BtfError::Header)? as usize;
        if magic as u16 != MAGIC || (magic >> 16) as u8 != 1 || start < HEADER {
            return Err(BtfError::Header);
        }
        let body = bytes.get(start..).ok_or(BtfError::Bounds)?;
        let mut part = || {
            let at = header.u32().ok_or(BtfError::Header)? as usize;
            let length = header.u32().ok_or(BtfError::Header)? as usize;
            let end = at.checked_add(length).ok_or(BtfError::Bounds)?;
            body.get(at..end).ok_or(BtfError::Bounds)
        };
        let functions = sections(part()?, |[insn, type_id]| FunctionInfo { insn, type_id })?;
        let lines = sections(part()?, |[insn, file, text, place]| LineInfo {
            insn,
            file,
            text,
            line: place >> 10,
            column: place & 0x3ff,
        })?;
        let core = if start < HEADER_CORE { &[][..] } else { part()? };
        let core = sections(core, |[insn, type_id, access, kind]| CoreRelocation {
            insn,
            type_id,
            access,
            kind,
        })?;
        Ok(BtfExt { functions, lines, core })
    }
}

/// A record's size, then for each section: its name, how many records, the records.
fn sections<T, const WORDS: usize>(
    bytes: &[u8],
    record: impl Fn([u32; WORDS]) -> T,
) -> Result<Vec<InfoSection<T>>, BtfError> {
    let mut sections = Vec::new();
    let mut reader = Reader { bytes, at: 0 };
    if bytes.is_empty() {
        return Ok(sections);
    }
    let size = reader.u32().ok_or(BtfError::Record(0))? as usize;
    if size < 4 * WORDS || size > MAX_RECORD || !size.is_multiple_of(4) {
        return Err(BtfError::Record(0));
    }
    while reader.at < bytes.len() {
        let cut = BtfError::Record(reader.at);
        let (name, count) = (reader.u32().ok_or(cut)?, reader.u32().ok_or(cut)? as usize);
        let end = count.checked_mul(size).and_then(|length| length.checked_add(reader.at));
        let of = end.and_then(|end| bytes.get(reader.at..end)).ok_or(cut)?;
        reader.at += of.len();
        let read = |bytes: &[u8]| {
            let mut words = Reader { bytes, at: 0 };
            record(std::array::from_fn(|_| words.u32().unwrap_or(0)))
        };
        sections.push(InfoSection { name, records: of.chunks_exact(size).map(read).collect() });
    }
    Ok(sections)
}
