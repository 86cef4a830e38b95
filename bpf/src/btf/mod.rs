//! BTF: types of programs, of the kernel and of Weir (Documentation/bpf/btf.rst).
//!
//! [`Btf::parse`] reads a section or a file, [`BtfBuilder`] makes one, [`btf_struct!`](crate::btf_struct)
//! makes one of Rust's structs; [`Btf::to_bytes`] writes it. Types are named by their ids, which are
//! their places; type 0 is `void`.

mod build;
mod declare;
mod ext;
mod parse;
mod rust;
mod types;
mod value;
mod write;

pub use build::BtfBuilder;
pub use ext::{BtfExt, CoreRelocation, FunctionInfo, InfoSection, LineInfo};
pub use parse::BtfError;
pub use rust::BtfType;
pub use types::{
    Array, Composite, Enumeration, Enumerator, Int, Kind, Linkage, Member, Parameter, Prototype,
    Section, SectionVariable, Type,
};
pub use value::{ValueError, ValueStyle};

/// Longest chain of typedefs, qualifiers and arrays that is followed.
const MAX_DEPTH: usize = 32;
/// Longest name that is read, bytes. Names may share their ends, so that a small file could hold many
/// long ones.
const MAX_NAME: usize = 512;
/// Bytes of a pointer in a program.
const POINTER: u32 = 8;

/// All types of an object, of the kernel or of Weir. Type 0 is `void`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Btf {
    pub(crate) types: Vec<Type>,
    pub(crate) strings: Vec<u8>,
}

impl Btf {
    /// A string; empty for one that is not there, too long or no UTF-8.
    pub fn name(&self, offset: u32) -> &str {
        let rest = self.strings.get(offset as usize..).unwrap_or(&[]);
        let end = rest.iter().take(MAX_NAME).position(|byte| *byte == 0).unwrap_or(0);
        std::str::from_utf8(&rest[..end]).unwrap_or("")
    }

    /// A line of source: a string of any length.
    pub fn text(&self, offset: u32) -> &str {
        let rest = self.strings.get(offset as usize..).unwrap_or(&[]);
        let end = rest.iter().position(|byte| *byte == 0).unwrap_or(0);
        std::str::from_utf8(&rest[..end]).unwrap_or("")
    }

    /// A type.
    pub fn find(&self, id: u32) -> Option<&Type> {
        self.types.get(id as usize)
    }

    /// What a type is.
    pub fn kind(&self, id: u32) -> Option<&Kind> {
        Some(&self.find(id)?.kind)
    }

    /// A type's name.
    pub fn type_name(&self, id: u32) -> &str {
        self.find(id).map_or("", |found| self.name(found.name))
    }

    /// All types by their ids, `void` the first.
    pub fn types(&self) -> impl ExactSizeIterator<Item = (u32, &Type)> {
        self.types.iter().enumerate().map(|(id, found)| (id as u32, found))
    }

    /// The first type of this name that is of a kind.
    pub fn by_name(&self, name: &str, is_kind: impl Fn(&Kind) -> bool) -> Option<u32> {
        let found = |(_, found): &(u32, &Type)| {
            is_kind(&found.kind) && self.name(found.name) == name && !name.is_empty()
        };
        self.types().find(found).map(|(id, _)| id)
    }

    /// The struct of this name.
    pub fn struct_named(&self, name: &str) -> Option<u32> {
        self.by_name(name, |kind| matches!(kind, Kind::Struct(_)))
    }

    /// The type behind typedefs, qualifiers and type tags.
    pub fn resolve(&self, id: u32) -> Option<&Type> {
        self.find(self.resolve_id(id)?)
    }

    /// The id of the type behind typedefs, qualifiers and type tags
    /// (`skip_mods_and_typedefs`).
    pub fn resolve_id(&self, id: u32) -> Option<u32> {
        let mut id = id;
        for _ in 0..MAX_DEPTH {
            match self.kind(id)?.modified() {
                Some(to) => id = to,
                None => return Some(id),
            }
        }
        None
    }

    /// The size of a type in bytes (`btf__resolve_size`).
    pub fn size(&self, id: u32) -> Option<u32> {
        let mut count = 1_u32;
        let mut id = id;
        for _ in 0..MAX_DEPTH {
            let size = match &self.resolve(id)?.kind {
                Kind::Int(Int { size, .. }) | Kind::Float(size) => *size,
                Kind::Enum(of) => of.size,
                Kind::Struct(of) | Kind::Union(of) => of.size,
                Kind::Section(of) => of.size,
                Kind::Pointer(_) => POINTER,
                Kind::Variable { type_id, .. } => {
                    id = *type_id;
                    continue;
                }
                Kind::Array(array) => {
                    count = count.checked_mul(array.count)?;
                    id = array.element;
                    continue;
                }
                _ => return None,
            };
            return count.checked_mul(size);
        }
        None
    }

    /// The alignment of a type in bytes (`btf__align_of`).
    pub fn alignment(&self, id: u32) -> Option<u32> {
        self.aligned(id, MAX_DEPTH)
    }

    fn aligned(&self, id: u32, depth: usize) -> Option<u32> {
        let depth = depth.checked_sub(1)?;
        match &self.resolve(id)?.kind {
            Kind::Int(Int { size, .. }) | Kind::Float(size) => Some((*size).clamp(1, POINTER)),
            Kind::Enum(of) => Some(of.size.clamp(1, POINTER)),
            Kind::Pointer(_) => Some(POINTER),
            Kind::Array(array) => self.aligned(array.element, depth),
            Kind::Variable { type_id, .. } => self.aligned(*type_id, depth),
            Kind::Struct(of) | Kind::Union(of) => {
                let mut most = 1;
                for member in &of.members {
                    let align = self.aligned(member.type_id, depth)?;
                    most = most.max(align);
                    // A member that is not where it would be aligned: the struct is packed.
                    if member.bit_size == 0 && member.bit_offset % (8 * align) != 0 {
                        return Some(1);
                    }
                }
                Some(if of.size.is_multiple_of(most) { most } else { 1 })
            }
            _ => None,
        }
    }

    /// A member by its name, those of anonymous structs and unions included; its bits are counted
    /// from the beginning of `id`.
    pub fn member(&self, id: u32, name: &str) -> Option<Member> {
        self.member_within(id, name, 0, MAX_DEPTH)
    }

    fn member_within(&self, id: u32, name: &str, from: u32, depth: usize) -> Option<Member> {
        let depth = depth.checked_sub(1)?;
        let members = &self.resolve(id)?.kind.composite()?.members;
        members.iter().find_map(|member| {
            let bit_offset = from.checked_add(member.bit_offset)?;
            match self.name(member.name) {
                "" => self.member_within(member.type_id, name, bit_offset, depth),
                found if found == name => Some(Member { bit_offset, ..*member }),
                _ => None,
            }
        })
    }

    /// The variables of a section, by name and type.
    pub fn variables(&self, section: &str) -> Vec<(&str, u32)> {
        let variable = |of: &SectionVariable| match self.find(of.type_id) {
            Some(Type { name, kind: Kind::Variable { type_id, .. } }) => {
                Some((self.name(*name), *type_id))
            }
            _ => None,
        };
        let section = self.section(section);
        section.into_iter().flat_map(|of| &of.variables).filter_map(variable).collect()
    }

    /// A section by its name.
    pub fn section(&self, name: &str) -> Option<&Section> {
        self.types.iter().find_map(|found| match &found.kind {
            Kind::Section(of) if self.name(found.name) == name => Some(of),
            _ => None,
        })
    }
}
