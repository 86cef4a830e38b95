//! BTF that is made rather than read.

use std::any::TypeId;
use std::collections::HashMap;

use super::types::{Array, Composite, Int, Kind, Type};
use super::{Btf, Member};

/// Collects types. The same type is kept once: those without a definition that could refer to itself
/// by their contents, structs of Rust by their identity.
#[derive(Debug)]
pub struct BtfBuilder {
    btf: Btf,
    strings: HashMap<String, u32>,
    types: HashMap<Type, u32>,
    rust: HashMap<TypeId, u32>,
}

impl Default for BtfBuilder {
    fn default() -> Self {
        BtfBuilder {
            btf: Btf { types: vec![Type::default()], strings: vec![0] },
            strings: HashMap::from([(String::new(), 0)]),
            types: HashMap::from([(Type::default(), 0)]),
            rust: HashMap::new(),
        }
    }
}

impl BtfBuilder {
    /// Without types.
    pub fn new() -> BtfBuilder {
        BtfBuilder::default()
    }

    /// A string's place; the same string has one.
    pub fn string(&mut self, text: &str) -> u32 {
        if let Some(at) = self.strings.get(text) {
            return *at;
        }
        let at = self.btf.strings.len() as u32;
        self.btf.strings.extend_from_slice(text.as_bytes());
        self.btf.strings.push(0);
        self.strings.insert(text.to_owned(), at);
        at
    }

    /// A type, which is the same if it was there.
    pub fn add(&mut self, name: &str, kind: Kind) -> u32 {
        let of = Type { name: self.string(name), kind };
        if let Some(id) = self.types.get(&of) {
            return *id;
        }
        let id = self.push(of.clone());
        self.types.insert(of, id);
        id
    }

    /// A type of Rust: what `define` makes, once. While `define` runs, the type can already be
    /// referred to by calling this again.
    pub fn once<T: 'static>(
        &mut self,
        name: &str,
        define: impl FnOnce(&mut BtfBuilder) -> Composite,
    ) -> u32 {
        if let Some(id) = self.rust.get(&TypeId::of::<T>()) {
            return *id;
        }
        let name = self.string(name);
        let id = self.push(Type { name, kind: Kind::Void });
        self.rust.insert(TypeId::of::<T>(), id);
        self.btf.types[id as usize].kind = Kind::Struct(define(self));
        id
    }

    /// An integer.
    pub fn int(&mut self, name: &str, size: u32, encoding: u8) -> u32 {
        self.add(name, Kind::Int(Int { size, bits: (size * 8) as u8, offset: 0, encoding }))
    }

    /// An array.
    pub fn array(&mut self, element: u32, count: u32) -> u32 {
        let index = self.int("__ARRAY_SIZE_TYPE__", 4, 0);
        self.add("", Kind::Array(Array { element, index, count }))
    }

    /// A member at a byte.
    pub fn member(&mut self, name: &str, type_id: u32, offset: usize) -> Member {
        let name = self.string(name);
        Member { name, type_id, bit_offset: offset as u32 * 8, bit_size: 0 }
    }

    /// All types.
    pub fn finish(self) -> Btf {
        self.btf
    }

    fn push(&mut self, of: Type) -> u32 {
        self.btf.types.push(of);
        self.btf.types.len() as u32 - 1
    }
}
