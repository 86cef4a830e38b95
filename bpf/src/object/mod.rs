//! Objects as clang builds them, by libbpf's conventions: SEC() names, BTF-defined maps, global
//! data, relocations, functions.

mod core;
mod elf;
mod externs;
mod fill;
mod fixup;
mod maps;
mod pin;
mod relocate;
mod section;
mod struct_ops;

use std::collections::HashMap;

pub use externs::KconfigValue;
pub use maps::{MapDefinition, MapSlot};
pub use pin::PinRegistry;
pub use section::SectionName;
pub use struct_ops::{StructOps, StructOpsProgram};

use crate::btf::{Btf, BtfError, BtfExt, FunctionInfo, LineInfo};
use crate::hook::Hook;
use crate::insn::{Insn, PSEUDO_MAP, PSEUDO_MAP_VALUE};
use crate::map::MapSpec;
use elf::Elf;
use maps::Layout;

/// An object's programs and maps, linked but not yet checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Object {
    /// The `license` section, empty where there is none.
    pub license: String,
    /// By section, then by address.
    pub programs: Vec<ProgramSpec>,
    /// The `.maps` section's, then global data, then `.kconfig`.
    pub maps: Vec<MapSpec>,
    /// For each of `maps`, what its definition says beyond its specification.
    pub definitions: Vec<MapDefinition>,
    /// The variables of `.struct_ops` and `.struct_ops.link`.
    pub struct_ops: Vec<StructOps>,
    /// The types of the object.
    pub btf: Option<Btf>,
}

/// What an object is linked against.
#[derive(Clone, Debug, Default)]
pub struct ParseOptions<'a> {
    /// The types that CO-RE and `.ksyms` refer to: Weir's, a kernel's, those of a file.
    pub target: Option<&'a Btf>,
    /// Values of `.kconfig` externs.
    pub kconfig: HashMap<String, KconfigValue>,
    /// Addresses of `.ksyms` variables.
    pub ksyms: HashMap<String, u64>,
}

/// A program with all its functions, as one run of instructions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProgramSpec {
    /// The function's name.
    pub name: String,
    /// The section's name, which says what type of program it is.
    pub section: String,
    /// The function, then those that it calls.
    pub insns: Vec<Insn>,
    /// The instructions that name maps.
    pub references: Vec<MapReference>,
    /// The instructions that call functions of the kernel's.
    pub kfuncs: Vec<KfuncCall>,
    /// Where functions begin and what their types are, by instruction.
    pub func_info: Vec<FunctionInfo>,
    /// Where lines of source begin, by instruction; texts are in [`Object::btf`].
    pub line_info: Vec<LineInfo>,
}

/// A call of a function of the kernel's (`BPF_PSEUDO_KFUNC_CALL`). Its `imm` is the function's id in
/// the target's BTF; 0 if no target was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KfuncCall {
    /// The instruction, counted in slots.
    pub insn: usize,
    /// The function's name.
    pub name: String,
    /// Its `FUNC` in [`Object::btf`].
    pub type_id: u32,
    /// Weak, and the target does not have it: the call may not be reached.
    pub is_missing: bool,
}

/// A 64-bit immediate load of a map, or of an address within its first value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapReference {
    /// The instruction, counted in slots.
    pub insn: usize,
    /// Index in [`Object::maps`].
    pub map: usize,
    /// The byte of the value; `None` is the map itself.
    pub offset: Option<u32>,
}

/// Why an object is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ObjectError {
    /// Not an ELF file that can be read.
    #[error("not a readable ELF object: {0}")]
    Elf(String),
    /// An ELF file, but not of little-endian BPF.
    #[error("not a relocatable object for little-endian BPF")]
    Machine,
    /// The old `maps` section.
    #[error("section {0:?}: legacy map definitions have no BTF; define the maps in SEC(\".maps\")")]
    LegacyMaps(String),
    /// The BTF cannot be read, or is missing where maps need it.
    #[error("section .BTF: {0}")]
    Btf(BtfError),
    /// Maps are defined, but there is no BTF.
    #[error("section .maps: the object has no BTF; build it with clang -g")]
    NoBtf,
    /// A map's definition is wrong.
    #[error("section .maps: map {map}: {reason}")]
    Map {
        /// The map's name.
        map: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// A section's bytes or a function in it is wrong.
    #[error("section {section:?}: {symbol} at offset {offset:#x}: {reason}")]
    Code {
        /// The section's name.
        section: String,
        /// The function or the symbol.
        symbol: String,
        /// Bytes from the section's start.
        offset: u64,
        /// What is wrong.
        reason: &'static str,
    },
    /// CO-RE relocations, but no target's types: run as they are, the programs would read wrong
    /// fields.
    #[error("section .BTF.ext: CO-RE relocations need a target's types, and none were given")]
    CoreRelocations,
    /// Functions call so many others that the program would be too large.
    #[error("program {0}: more than a million instructions with its functions")]
    Size(String),
}

impl Object {
    /// Reads an object. The bytes need not be trusted: what is wrong is an error, and nothing is
    /// allocated beyond a multiple of their number.
    ///
    /// # Errors
    /// The first thing that is wrong, with section, symbol and offset.
    pub fn parse(bytes: &[u8]) -> Result<Object, ObjectError> {
        Object::parse_with(bytes, &ParseOptions::default())
    }

    /// Reads an object, with CO-RE relocations, `.kconfig` and `.ksyms` as the options say.
    ///
    /// # Errors
    /// As [`Object::parse`]; what the target does not have is an error only where libbpf says so.
    pub fn parse_with(bytes: &[u8], options: &ParseOptions<'_>) -> Result<Object, ObjectError> {
        let elf = Elf::read(bytes)?;
        let btf = elf.section(".BTF").map(|section| Btf::parse(section.data));
        let mut btf = btf.transpose().map_err(ObjectError::Btf)?;
        if let Some(btf) = &mut btf {
            fixup::sections(btf, &elf);
        }
        let ext = match (&btf, elf.section(".BTF.ext")) {
            (Some(_), Some(section)) => BtfExt::parse(section.data).map_err(ObjectError::Btf)?,
            _ => BtfExt::default(),
        };
        let mut externs = externs::read(&elf, btf.as_ref(), options)?;
        let layout = maps::read(&elf, btf.as_ref(), externs.kconfig.take())?;
        let code = relocate::code(&elf, btf.as_ref(), &ext, options)?;
        let sources = relocate::Sources { elf: &elf, layout: &layout, externs: &externs };
        let programs = relocate::link(sources, code, btf.as_ref(), &ext)?;
        let struct_ops = struct_ops::read(&elf, btf.as_ref())?;
        let Layout { specs: maps, definitions, .. } = layout;
        Ok(Object { license: elf.license(), programs, maps, definitions, struct_ops, btf })
    }

    /// May its programs call helpers for GPL-compatible ones (`license_is_gpl_compatible`)?
    pub fn is_gpl_compatible(&self) -> bool {
        const COMPATIBLE: [&str; 6] = [
            "GPL",
            "GPL v2",
            "GPL and additional rights",
            "Dual BSD/GPL",
            "Dual MIT/GPL",
            "Dual MPL/GPL",
        ];
        COMPATIBLE.contains(&self.license.as_str())
    }

    /// The program with this name.
    pub fn program(&self, name: &str) -> Option<&ProgramSpec> {
        self.programs.iter().find(|program| program.name == name)
    }
}

impl ProgramSpec {
    /// Its hook; `None` for a section's name that Weir does not know.
    pub fn hook(&self) -> Option<&'static Hook> {
        Hook::of_section(&self.section)
    }

    /// The instructions with maps named by their index in the list of those that it uses.
    pub(crate) fn link_maps(&self) -> (Vec<Insn>, Vec<usize>) {
        let mut insns = self.insns.clone();
        let mut used = Vec::new();
        for reference in &self.references {
            let index = used.iter().position(|map| *map == reference.map).unwrap_or_else(|| {
                used.push(reference.map);
                used.len() - 1
            });
            let Some([first, second]) = insns.get_mut(reference.insn..reference.insn + 2) else {
                continue;
            };
            first.src = if reference.offset.is_some() { PSEUDO_MAP_VALUE } else { PSEUDO_MAP };
            first.imm = index as i32;
            second.imm = reference.offset.unwrap_or(0) as i32;
        }
        (insns, used)
    }
}
