//! Sections, symbols and relocations of an ELF file, as the rest of the loader needs them.

use object::read::elf::ElfFile64;
use object::{
    Architecture, LittleEndian, Object as _, ObjectKind, ObjectSection, ObjectSymbol,
    RelocationFlags, RelocationTarget, SectionFlags, SymbolKind, elf,
};

use super::ObjectError;

/// Longest name of a section or a function, bytes. Names may share their ends, so that a small file
/// could hold many long ones.
const MAX_NAME: usize = 512;
/// Bytes of a relocation in the file (`Elf64_Rel`).
const RELOCATION: usize = 16;

pub(super) struct Elf<'a> {
    /// Bytes of the file.
    pub(super) size: usize,
    pub(super) sections: Vec<Section<'a>>,
    pub(super) symbols: Vec<Symbol<'a>>,
}

pub(super) struct Section<'a> {
    /// The ELF section's index.
    pub(super) index: usize,
    pub(super) name: &'a str,
    /// Empty for `.bss` and its like.
    pub(super) data: &'a [u8],
    pub(super) size: u64,
    pub(super) is_code: bool,
    /// By offset.
    pub(super) relocations: Vec<Relocation>,
}

pub(super) struct Symbol<'a> {
    pub(super) name: &'a str,
    pub(super) section: Option<usize>,
    pub(super) address: u64,
    pub(super) size: u64,
    pub(super) is_function: bool,
    pub(super) is_global: bool,
    pub(super) is_weak: bool,
    /// Defined elsewhere.
    pub(super) is_undefined: bool,
}

#[derive(Clone, Copy)]
pub(super) struct Relocation {
    pub(super) offset: u64,
    /// Index in [`Elf::symbols`].
    pub(super) symbol: usize,
    pub(super) kind: u32,
}

impl<'a> Elf<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Result<Elf<'a>, ObjectError> {
        let unreadable = |error: object::Error| ObjectError::Elf(error.to_string());
        let file = ElfFile64::<LittleEndian>::parse(bytes).map_err(unreadable)?;
        let is_bpf = file.architecture() == Architecture::Bpf;
        if !is_bpf || file.kind() != ObjectKind::Relocatable {
            return Err(ObjectError::Machine);
        }
        let mut symbols = vec![Symbol::none()];
        for symbol in file.symbols() {
            // Symbol 0 is none, and the reader leaves it out.
            symbols.resize_with(symbol.index().0, Symbol::none);
            let name = symbol.name().map_err(unreadable)?;
            let is_function = symbol.kind() == SymbolKind::Text;
            if is_function && name.len() > MAX_NAME {
                return Err(ObjectError::Elf("a function's name is too long".to_owned()));
            }
            symbols.push(Symbol {
                name,
                section: symbol.section_index().map(|index| index.0),
                address: symbol.address(),
                size: symbol.size(),
                is_function,
                is_global: symbol.is_global(),
                is_weak: symbol.is_weak(),
                is_undefined: symbol.is_undefined(),
            });
        }
        let mut sections = Vec::new();
        let mut left = bytes.len() / RELOCATION;
        for section in file.sections() {
            let flags = match section.flags() {
                SectionFlags::Elf { sh_flags, .. } => sh_flags.0,
                _ => 0,
            };
            let mut relocations = Vec::new();
            for (offset, relocation) in section.relocations() {
                let RelocationTarget::Symbol(symbol) = relocation.target() else { continue };
                let RelocationFlags::Elf { r_type, .. } = relocation.flags() else { continue };
                // Tables may overlap, so that a small file could name many.
                left = left.checked_sub(1).ok_or_else(|| {
                    ObjectError::Elf("more relocations than the file has room for".to_owned())
                })?;
                relocations.push(Relocation { offset, symbol: symbol.0, kind: r_type.0 });
            }
            relocations.sort_by_key(|relocation| relocation.offset);
            let name = section.name().map_err(unreadable)?;
            if name.len() > MAX_NAME {
                return Err(ObjectError::Elf("a section's name is too long".to_owned()));
            }
            sections.push(Section {
                index: section.index().0,
                name,
                data: section.data().map_err(unreadable)?,
                size: section.size(),
                is_code: flags & elf::SHF_EXECINSTR.0 != 0,
                relocations,
            });
        }
        Ok(Elf { size: bytes.len(), sections, symbols })
    }

    pub(super) fn section(&self, name: &str) -> Option<&Section<'a>> {
        self.sections.iter().find(|section| section.name == name)
    }

    /// The `license` section up to its NUL.
    pub(super) fn license(&self) -> String {
        let data = self.section("license").map_or(&[][..], |section| section.data);
        let end = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
        String::from_utf8_lossy(&data[..end]).into_owned()
    }
}

impl Symbol<'_> {
    fn none() -> Self {
        Symbol {
            name: "",
            section: None,
            address: 0,
            size: 0,
            is_function: false,
            is_global: false,
            is_weak: false,
            is_undefined: false,
        }
    }
}
