//! What a type is (struct btf_type and what follows it, by kind).

/// One type.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Type {
    /// Where its name begins in the strings.
    pub name: u32,
    /// What it is.
    pub kind: Kind,
}

/// The kinds of types (`BTF_KIND_*`). The numbers in them are type ids.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `void`, type 0.
    #[default]
    Void,
    /// An integer.
    Int(Int),
    /// A pointer to a type.
    Pointer(u32),
    /// Many of a type.
    Array(Array),
    /// A struct.
    Struct(Composite),
    /// A union.
    Union(Composite),
    /// An enum, of 32-bit values or (`ENUM64`) of 64-bit ones.
    Enum(Enumeration),
    /// A struct or a union that is declared only.
    Forward {
        /// A union?
        is_union: bool,
    },
    /// Another name of a type.
    Typedef(u32),
    /// `volatile`.
    Volatile(u32),
    /// `const`.
    Const(u32),
    /// `restrict`.
    Restrict(u32),
    /// A function.
    Function {
        /// Its prototype.
        prototype: u32,
        /// Who sees it.
        linkage: Linkage,
    },
    /// What a function takes and returns.
    Prototype(Prototype),
    /// A variable.
    Variable {
        /// Its type.
        type_id: u32,
        /// Who sees it.
        linkage: Linkage,
    },
    /// A section's variables.
    Section(Section),
    /// A floating-point number of so many bytes.
    Float(u32),
    /// An attribute of a declaration; its name is the attribute's text.
    DeclTag {
        /// The declaration.
        type_id: u32,
        /// The member or the parameter; `None` is the declaration itself.
        component: Option<u32>,
        /// Is the text a whole attribute rather than a tag's (`kind_flag`)?
        is_attribute: bool,
    },
    /// An attribute of a type; its name is the attribute's text.
    TypeTag {
        /// The type.
        type_id: u32,
        /// Is the text a whole attribute rather than a tag's (`kind_flag`)?
        is_attribute: bool,
    },
}

/// An integer (`BTF_KIND_INT`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Int {
    /// In bytes.
    pub size: u32,
    /// How many of its bits count.
    pub bits: u8,
    /// Where they begin.
    pub offset: u8,
    /// `BTF_INT_SIGNED` (1), `BTF_INT_CHAR` (2), `BTF_INT_BOOL` (4).
    pub encoding: u8,
}

impl Int {
    /// `BTF_INT_SIGNED`.
    pub const SIGNED: u8 = 1;
    /// `BTF_INT_CHAR`.
    pub const CHAR: u8 = 2;
    /// `BTF_INT_BOOL`.
    pub const BOOL: u8 = 4;

    /// Has it a sign?
    pub fn is_signed(self) -> bool {
        self.encoding & Int::SIGNED != 0
    }
}

/// An array (struct btf_array).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Array {
    /// The element's type.
    pub element: u32,
    /// The index's type.
    pub index: u32,
    /// How many.
    pub count: u32,
}

/// A struct or a union.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Composite {
    /// In bytes.
    pub size: u32,
    /// In their order.
    pub members: Vec<Member>,
}

/// A member of a struct or a union (struct btf_member).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Member {
    /// Where its name begins in the strings; empty for an anonymous struct or union.
    pub name: u32,
    /// Its type.
    pub type_id: u32,
    /// Bits from the beginning.
    pub bit_offset: u32,
    /// Bits of a bitfield; 0 for other members.
    pub bit_size: u8,
}

/// An enum.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Enumeration {
    /// In bytes.
    pub size: u32,
    /// Are its values signed?
    pub signed: bool,
    /// Written as `BTF_KIND_ENUM64`?
    pub wide: bool,
    /// In their order.
    pub enumerators: Vec<Enumerator>,
}

/// A name of a number (struct btf_enum, struct btf_enum64).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Enumerator {
    /// Where its name begins in the strings.
    pub name: u32,
    /// The number; the 32-bit ones are sign-extended, as libbpf reads them.
    pub value: i64,
}

/// What a function takes and returns.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Prototype {
    /// The type that it returns.
    pub returns: u32,
    /// In their order. A last one of type 0 without a name stands for `...`.
    pub parameters: Vec<Parameter>,
}

/// A parameter (struct btf_param).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Parameter {
    /// Where its name begins in the strings.
    pub name: u32,
    /// Its type.
    pub type_id: u32,
}

/// A section's variables (`BTF_KIND_DATASEC`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Section {
    /// In bytes; clang leaves it 0.
    pub size: u32,
    /// In their order.
    pub variables: Vec<SectionVariable>,
}

/// Where a variable lies (struct btf_var_secinfo). clang leaves the offset 0: the symbol has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SectionVariable {
    /// The variable.
    pub type_id: u32,
    /// Bytes from the section's start.
    pub offset: u32,
    /// In bytes.
    pub size: u32,
}

/// Who sees a function or a variable (`enum btf_func_linkage`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Linkage {
    /// Its file.
    #[default]
    Static,
    /// Everyone.
    Global,
    /// It is defined elsewhere.
    Extern,
}

impl Kind {
    /// The kernel's number (`BTF_KIND_*`).
    pub fn number(&self) -> u32 {
        match self {
            Kind::Void => 0,
            Kind::Int(_) => 1,
            Kind::Pointer(_) => 2,
            Kind::Array(_) => 3,
            Kind::Struct(_) => 4,
            Kind::Union(_) => 5,
            Kind::Enum(of) => {
                if of.wide {
                    19
                } else {
                    6
                }
            }
            Kind::Forward { .. } => 7,
            Kind::Typedef(_) => 8,
            Kind::Volatile(_) => 9,
            Kind::Const(_) => 10,
            Kind::Restrict(_) => 11,
            Kind::Function { .. } => 12,
            Kind::Prototype(_) => 13,
            Kind::Variable { .. } => 14,
            Kind::Section(_) => 15,
            Kind::Float(_) => 16,
            Kind::DeclTag { .. } => 17,
            Kind::TypeTag { .. } => 18,
        }
    }

    /// The type that a typedef, a qualifier or a type tag stands for.
    pub fn modified(&self) -> Option<u32> {
        match self {
            Kind::Typedef(of) => Some(*of),
            _ => self.qualified(),
        }
    }

    /// The type that a qualifier or a type tag stands for (`btf_is_mod`).
    pub fn qualified(&self) -> Option<u32> {
        match self {
            Kind::Volatile(of) | Kind::Const(of) | Kind::Restrict(of) => Some(*of),
            Kind::TypeTag { type_id, .. } => Some(*type_id),
            _ => None,
        }
    }

    /// A struct or a union.
    pub fn composite(&self) -> Option<&Composite> {
        match self {
            Kind::Struct(of) | Kind::Union(of) => Some(of),
            _ => None,
        }
    }
}
