//! BTF's bytes, as the kernel takes them (BTF_LOAD) and bpftool reads them.

use super::parse::{HEADER, MAGIC};
use super::types::{Composite, Kind, Linkage, Type};
use super::{Btf, Int};

/// The most members, values or parameters of a type (`BTF_MAX_VLEN`).
const MAX_RECORDS: usize = 0xffff;

impl Btf {
    /// The bytes of a `.BTF` section.
    ///
    /// # Panics
    /// If a type has more than 65,535 members, which [`Btf::parse`] and [`super::BtfBuilder`] do not
    /// make.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut types = Vec::new();
        for of in self.types.iter().skip(1) {
            write_type(of, &mut types);
        }
        let header = [
            u32::from(MAGIC) | 1 << 16,
            HEADER as u32,
            0,
            types.len() as u32,
            types.len() as u32,
            self.strings.len() as u32,
        ];
        let mut bytes = Vec::with_capacity(HEADER + types.len() + self.strings.len());
        put(&mut bytes, &header);
        bytes.extend_from_slice(&types);
        bytes.extend_from_slice(&self.strings);
        bytes
    }
}

fn put(bytes: &mut Vec<u8>, words: &[u32]) {
    for word in words {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
}

fn write_type(of: &Type, bytes: &mut Vec<u8>) {
    let number = of.kind.number() << 24;
    let mut head = |low: u32, flag: bool, size_or_type: u32| {
        put(bytes, &[of.name, number | low | u32::from(flag) << 31, size_or_type]);
    };
    let length = |of: usize| {
        assert!(of <= MAX_RECORDS, "a type has more records than BTF can count");
        of as u32
    };
    match &of.kind {
        Kind::Void => head(0, false, 0),
        Kind::Int(int) => {
            head(0, false, int.size);
            put(bytes, &[int_word(*int)]);
        }
        Kind::Pointer(to)
        | Kind::Typedef(to)
        | Kind::Volatile(to)
        | Kind::Const(to)
        | Kind::Restrict(to) => head(0, false, *to),
        Kind::Array(array) => {
            head(0, false, 0);
            put(bytes, &[array.element, array.index, array.count]);
        }
        Kind::Struct(of) | Kind::Union(of) => {
            let flag = of.members.iter().any(|member| member.bit_size != 0);
            head(length(of.members.len()), flag, of.size);
            write_members(of, flag, bytes);
        }
        Kind::Enum(of) => {
            head(length(of.enumerators.len()), of.signed, of.size);
            for one in &of.enumerators {
                put(bytes, &[one.name, one.value as u32]);
                if of.wide {
                    put(bytes, &[(one.value >> 32) as u32]);
                }
            }
        }
        Kind::Forward { is_union } => head(0, *is_union, 0),
        Kind::Function { prototype, linkage } => head(linkage_number(*linkage), false, *prototype),
        Kind::Prototype(of) => {
            head(length(of.parameters.len()), false, of.returns);
            of.parameters.iter().for_each(|one| put(bytes, &[one.name, one.type_id]));
        }
        Kind::Variable { type_id, linkage } => {
            head(0, false, *type_id);
            put(bytes, &[linkage_number(*linkage)]);
        }
        Kind::Section(of) => {
            head(length(of.variables.len()), false, of.size);
            of.variables.iter().for_each(|one| put(bytes, &[one.type_id, one.offset, one.size]));
        }
        Kind::Float(size) => head(0, false, *size),
        Kind::TypeTag { type_id, is_attribute } => head(0, *is_attribute, *type_id),
        Kind::DeclTag { type_id, component, is_attribute } => {
            head(0, *is_attribute, *type_id);
            put(bytes, &[component.unwrap_or(u32::MAX)]);
        }
    }
}

fn int_word(int: Int) -> u32 {
    u32::from(int.encoding) << 24 | u32::from(int.offset) << 16 | u32::from(int.bits)
}

fn write_members(of: &Composite, flag: bool, bytes: &mut Vec<u8>) {
    for member in &of.members {
        let size = if flag { u32::from(member.bit_size) << 24 } else { 0 };
        put(bytes, &[member.name, member.type_id, member.bit_offset | size]);
    }
}

fn linkage_number(linkage: Linkage) -> u32 {
    match linkage {
        Linkage::Static => 0,
        Linkage::Global => 1,
        Linkage::Extern => 2,
    }
}
