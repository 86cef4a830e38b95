//! Tables of functions for the kernel's structs of them (`.struct_ops`, `.struct_ops.link`).

use super::ObjectError;
use super::elf::{Elf, Section};
use crate::btf::{Btf, Kind};

/// A variable of a `.struct_ops` section: a struct of the kernel's, filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StructOps {
    /// The variable's name.
    pub name: String,
    /// The struct's name, such as `tcp_congestion_ops`, a flavour included.
    pub type_name: String,
    /// The struct in [`super::Object::btf`].
    pub type_id: u32,
    /// Of `.struct_ops.link`: it is attached by a link.
    pub is_link: bool,
    /// The section's name began with `?`: made only when asked for.
    pub is_optional: bool,
    /// The struct's bytes; functions are 0.
    pub data: Vec<u8>,
    /// Which program is which member, by the member's offset.
    pub programs: Vec<StructOpsProgram>,
}

/// A member that is a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StructOpsProgram {
    /// The member's offset in bytes.
    pub offset: u32,
    /// The member's name.
    pub member: String,
    /// The program's name.
    pub program: String,
}

pub(super) fn read(elf: &Elf<'_>, btf: Option<&Btf>) -> Result<Vec<StructOps>, ObjectError> {
    let mut all = Vec::new();
    for section in &elf.sections {
        let plain = section.name.strip_prefix('?').unwrap_or(section.name);
        if !matches!(plain, ".struct_ops" | ".struct_ops.link") || section.is_code {
            continue;
        }
        let btf = btf.ok_or(ObjectError::NoBtf)?;
        let mut left = section.data.len();
        for (name, type_id) in btf.variables(section.name) {
            let one = variable(elf, section, btf, name, type_id)?;
            // Variables may overlap, so that a small file could name many large ones.
            left = left
                .checked_sub(one.data.len())
                .ok_or_else(|| fail(section, name, 0, "variables overlap"))?;
            all.push(one);
        }
    }
    Ok(all)
}

fn fail(section: &Section<'_>, symbol: &str, offset: u64, reason: &'static str) -> ObjectError {
    let (section, symbol) = (section.name.to_owned(), symbol.to_owned());
    ObjectError::Code { section, symbol, offset, reason }
}

fn variable(
    elf: &Elf<'_>,
    section: &Section<'_>,
    btf: &Btf,
    name: &str,
    type_id: u32,
) -> Result<StructOps, ObjectError> {
    let symbol = elf.symbols.iter().find(|s| s.section == Some(section.index) && s.name == name);
    let symbol = symbol.ok_or_else(|| fail(section, name, 0, "no symbol in the section"))?;
    let from = symbol.address;
    let fail = |offset, reason| fail(section, name, offset, reason);
    let type_id = btf.resolve_id(type_id).unwrap_or(0);
    let Some(Kind::Struct(of)) = btf.kind(type_id) else {
        return Err(fail(from, "its type is not a struct"));
    };
    let end = from.checked_add(of.size.into()).filter(|end| *end <= section.data.len() as u64);
    let end = end.ok_or(fail(from, "it leaves its section"))?;
    let mut programs = Vec::new();
    for relocation in section.relocations.iter().filter(|r| (from..end).contains(&r.offset)) {
        let at = (relocation.offset - from) as u32;
        let target = elf.symbols.get(relocation.symbol).filter(|symbol| symbol.is_function);
        let target = target.ok_or(fail(relocation.offset, "relocation of what is no function"))?;
        let member = of.members.iter().find(|member| {
            let is_pointer = btf.resolve(member.type_id).map(|found| &found.kind);
            member.bit_offset == at * 8 && matches!(is_pointer, Some(Kind::Pointer(_)))
        });
        let member = member.ok_or(fail(relocation.offset, "relocation of no function pointer"))?;
        programs.push(StructOpsProgram {
            offset: at,
            member: btf.name(member.name).to_owned(),
            program: target.name.to_owned(),
        });
    }
    let plain = section.name.strip_prefix('?').unwrap_or(section.name);
    Ok(StructOps {
        name: name.to_owned(),
        type_name: btf.type_name(type_id).to_owned(),
        type_id,
        is_link: plain == ".struct_ops.link",
        is_optional: plain.len() != section.name.len(),
        data: section.data[from as usize..end as usize].to_vec(),
        programs,
    })
}
