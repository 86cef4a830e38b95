//! Types as C.

use std::fmt::Write as _;

use super::types::{Composite, Enumeration, Kind, Member, Prototype};
use super::{Btf, MAX_DEPTH};

/// The most types that are named in one text; hostile prototypes could name any number.
const MAX_NAMED: usize = 1 << 16;

impl Btf {
    /// A type with the name that is declared, if any: `const struct sock *sk`.
    pub fn declare(&self, id: u32, name: &str) -> String {
        let mut left = MAX_NAMED;
        self.declarator(id, name.to_owned(), MAX_DEPTH, &mut left)
    }

    /// The definition of a type: `struct sock { … };`, `typedef int pid_t;`, a function's prototype,
    /// a variable. Other types are as [`Btf::declare`] writes them. Empty for a type that is not there.
    pub fn define(&self, id: u32) -> String {
        let Some(of) = self.find(id) else { return String::new() };
        let name = self.name(of.name);
        let mut left = MAX_NAMED;
        match &of.kind {
            Kind::Struct(_) | Kind::Union(_) | Kind::Enum(_) => self.body(id, 0, &mut left) + ";",
            Kind::Typedef(to) => format!("typedef {};", self.declare(*to, name)),
            Kind::Function { prototype, .. } => format!("{};", self.declare(*prototype, name)),
            Kind::Variable { type_id, .. } => format!("{};", self.declare(*type_id, name)),
            Kind::Forward { .. } => self.declare(id, "") + ";",
            _ => self.declare(id, ""),
        }
    }

    /// A type around what is declared so far (`inner`).
    fn declarator(&self, id: u32, inner: String, depth: usize, left: &mut usize) -> String {
        let beside = |base: &str, inner: &str| {
            if inner.is_empty() { base.to_owned() } else { format!("{base} {inner}") }
        };
        let Some(depth) = depth.checked_sub(1).filter(|_| *left > 0) else {
            return beside("/* too deep */ void", &inner);
        };
        *left -= 1;
        let Some(of) = self.find(id) else { return beside("/* unknown */ void", &inner) };
        let name = self.name(of.name);
        let tagged = |tag: &str| match name {
            "" => format!("{tag} /* anonymous */"),
            _ => format!("{tag} {name}"),
        };
        match &of.kind {
            Kind::Void => beside("void", &inner),
            Kind::Int(_) | Kind::Float(_) | Kind::Typedef(_) => beside(name, &inner),
            Kind::Struct(_) | Kind::Forward { is_union: false } => {
                beside(&tagged("struct"), &inner)
            }
            Kind::Union(_) | Kind::Forward { is_union: true } => beside(&tagged("union"), &inner),
            Kind::Enum(_) => beside(&tagged("enum"), &inner),
            Kind::Pointer(to) => {
                let to_group = matches!(self.kind(*to), Some(Kind::Array(_) | Kind::Prototype(_)));
                let inner = if to_group { format!("(*{inner})") } else { format!("*{inner}") };
                self.declarator(*to, inner, depth, left)
            }
            Kind::Array(array) => {
                let inner = format!("{inner}[{}]", array.count);
                self.declarator(array.element, inner, depth, left)
            }
            Kind::Prototype(of) => {
                let inner = format!("{inner}({})", self.parameters(of, depth, left));
                self.declarator(of.returns, inner, depth, left)
            }
            Kind::Const(to) => self.qualifier("const", *to, inner, depth, left),
            Kind::Volatile(to) => self.qualifier("volatile", *to, inner, depth, left),
            Kind::Restrict(to) => self.qualifier("restrict", *to, inner, depth, left),
            Kind::TypeTag { type_id, is_attribute } => {
                let tag = match is_attribute {
                    true => format!("__attribute__(({name}))"),
                    false => format!("__attribute__((btf_type_tag(\"{name}\")))"),
                };
                self.qualifier(&tag, *type_id, inner, depth, left)
            }
            Kind::Function { prototype, .. } => {
                self.declarator(*prototype, beside(name, &inner), depth, left)
            }
            Kind::Variable { type_id, .. } => {
                self.declarator(*type_id, beside(name, &inner), depth, left)
            }
            Kind::Section(_) => format!("/* section {name} */"),
            Kind::DeclTag { .. } => format!("__attribute__((btf_decl_tag(\"{name}\")))"),
        }
    }

    /// A qualifier stands before its type, but behind the star of a pointer.
    fn qualifier(
        &self,
        word: &str,
        to: u32,
        inner: String,
        depth: usize,
        left: &mut usize,
    ) -> String {
        if matches!(self.kind(to), Some(Kind::Pointer(_))) {
            let space = if inner.is_empty() { "" } else { " " };
            return self.declarator(to, format!(" {word}{space}{inner}"), depth, left);
        }
        format!("{word} {}", self.declarator(to, inner, depth, left))
    }

    fn parameters(&self, of: &Prototype, depth: usize, left: &mut usize) -> String {
        let mut text = String::new();
        for (i, one) in of.parameters.iter().enumerate() {
            if *left == 0 {
                break;
            }
            text.push_str(if i == 0 { "" } else { ", " });
            if one.type_id == 0 && i + 1 == of.parameters.len() {
                text.push_str("...");
            } else {
                text += &self.declarator(one.type_id, self.name(one.name).to_owned(), depth, left);
            }
        }
        if of.parameters.is_empty() { "void".to_owned() } else { text }
    }

    /// A struct, a union or an enum with its members; anonymous ones within are written out.
    fn body(&self, id: u32, level: usize, left: &mut usize) -> String {
        let Some(of) = self.find(id).filter(|_| level < MAX_DEPTH && *left > 0) else {
            return "/* too deep */".to_owned();
        };
        let name = self.name(of.name);
        let space = if name.is_empty() { "" } else { " " };
        match &of.kind {
            Kind::Struct(of) => {
                format!("struct{space}{name} {}", self.members(of, level, left))
            }
            Kind::Union(of) => format!("union{space}{name} {}", self.members(of, level, left)),
            Kind::Enum(of) => format!("enum{space}{name} {}", self.enumerators(of, level)),
            _ => String::new(),
        }
    }

    fn members(&self, of: &Composite, level: usize, left: &mut usize) -> String {
        let mut text = "{\n".to_owned();
        for member in &of.members {
            _ = writeln!(
                text,
                "{:\t<1$}{2};",
                "",
                level + 1,
                self.member_text(member, level, left)
            );
        }
        _ = write!(text, "{:\t<1$}}}", "", level);
        text
    }

    fn member_text(&self, member: &Member, level: usize, left: &mut usize) -> String {
        let name = self.name(member.name);
        let bits = match member.bit_size {
            0 => String::new(),
            bits => format!(": {bits}"),
        };
        let anonymous = self.find(member.type_id).is_some_and(|of| {
            let nameless = self.name(of.name).is_empty();
            nameless && matches!(of.kind, Kind::Struct(_) | Kind::Union(_) | Kind::Enum(_))
        });
        if anonymous {
            let space = if name.is_empty() { "" } else { " " };
            return format!("{}{space}{name}{bits}", self.body(member.type_id, level + 1, left));
        }
        self.declarator(member.type_id, name.to_owned(), MAX_DEPTH, left) + &bits
    }

    fn enumerators(&self, of: &Enumeration, level: usize) -> String {
        let mut text = "{\n".to_owned();
        for one in of.enumerators.iter().take(MAX_NAMED) {
            let name = self.name(one.name);
            _ = match of.signed || !of.wide {
                true => writeln!(text, "{:\t<1$}{name} = {2},", "", level + 1, one.value),
                false => writeln!(text, "{:\t<1$}{name} = {2},", "", level + 1, one.value as u64),
            };
        }
        _ = write!(text, "{:\t<1$}}}", "", level);
        text
    }
}
