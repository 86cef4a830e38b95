//! BTF, the types of an object (Documentation/bpf/btf.rst): as much as map definitions need.

mod parse;

pub use parse::BtfError;

/// Longest chain of typedefs, qualifiers and arrays that is followed.
const MAX_DEPTH: usize = 32;
/// Longest name that is read, bytes. Names may share their ends, so that a small file could hold many
/// long ones.
const MAX_NAME: usize = 512;

/// All types of an object. Type 0 is `void`.
#[derive(Clone, Debug, Default)]
pub struct Btf {
    pub(crate) types: Vec<Type>,
    pub(crate) strings: Vec<u8>,
}

/// One type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Type {
    /// Where its name begins in the strings.
    pub name: u32,
    /// What it is.
    pub kind: Kind,
}

/// The kinds of types, as far as they are read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// `void`.
    #[default]
    Void,
    /// Integers, floats, enums: size in bytes.
    Scalar(u32),
    /// A pointer to a type.
    Pointer(u32),
    /// `count` times a type.
    Array {
        /// The element's type.
        element: u32,
        /// How many.
        count: u32,
    },
    /// A struct or a union.
    Struct {
        /// In bytes.
        size: u32,
        /// In their order.
        members: Vec<Member>,
    },
    /// A typedef, a qualifier, a type tag: stands for this type.
    Alias(u32),
    /// A variable of this type.
    Variable(u32),
    /// A section's variables, by their types.
    Section(Vec<u32>),
    /// Anything else.
    Other,
}

/// A member of a struct.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Where its name begins in the strings.
    pub name: u32,
    /// Its type.
    pub type_id: u32,
}

impl Btf {
    /// A name; empty for one that is not there or too long.
    pub fn name(&self, offset: u32) -> &str {
        let rest = self.strings.get(offset as usize..).unwrap_or(&[]);
        let end = rest.iter().take(MAX_NAME).position(|byte| *byte == 0).unwrap_or(0);
        std::str::from_utf8(&rest[..end]).unwrap_or("")
    }

    /// A type.
    pub fn find(&self, id: u32) -> Option<&Type> {
        self.types.get(id as usize)
    }

    /// The type behind typedefs and qualifiers.
    pub fn resolve(&self, id: u32) -> Option<&Type> {
        let mut found = self.find(id)?;
        for _ in 0..MAX_DEPTH {
            match found.kind {
                Kind::Alias(to) => found = self.find(to)?,
                _ => return Some(found),
            }
        }
        None
    }

    /// The size of a type in bytes.
    pub fn size(&self, id: u32) -> Option<u32> {
        let mut count = 1_u32;
        let mut id = id;
        for _ in 0..MAX_DEPTH {
            match &self.resolve(id)?.kind {
                Kind::Scalar(size) | Kind::Struct { size, .. } => return count.checked_mul(*size),
                Kind::Pointer(_) => return count.checked_mul(8),
                Kind::Array { element, count: more } => {
                    count = count.checked_mul(*more)?;
                    id = *element;
                }
                _ => return None,
            }
        }
        None
    }

    /// The variables of a section, by name and type.
    pub fn variables(&self, section: &str) -> Vec<(&str, u32)> {
        let named = |kind: &&Type| self.name(kind.name) == section;
        let section = self.types.iter().find_map(|found| match &found.kind {
            Kind::Section(variables) if named(&found) => Some(variables),
            _ => None,
        });
        let variable = |id: &u32| match self.find(*id) {
            Some(Type { name, kind: Kind::Variable(of) }) => Some((self.name(*name), *of)),
            _ => None,
        };
        section.into_iter().flatten().filter_map(variable).collect()
    }
}
