//! What clang leaves open in BTF and the ELF file knows (libbpf's `btf_fixup_datasec`).

use std::collections::HashMap;

use super::elf::Elf;
use crate::btf::{Btf, Kind};

/// Fills in the sizes of sections and the offsets of their variables.
pub(super) fn sections(btf: &mut Btf, elf: &Elf<'_>) {
    let symbols: HashMap<(usize, &str), u64> = elf
        .symbols
        .iter()
        .filter_map(|symbol| Some(((symbol.section?, symbol.name), symbol.address)))
        .collect();
    let sections: HashMap<&str, _> =
        elf.sections.iter().rev().map(|section| (section.name, section)).collect();
    let mut found = Vec::new();
    for (id, of) in btf.types() {
        let Kind::Section(section) = &of.kind else { continue };
        let Some(of) = sections.get(btf.name(of.name)) else { continue };
        let size = u32::try_from(of.size).unwrap_or(u32::MAX);
        let mut filled = section.clone();
        filled.size = size;
        for variable in &mut filled.variables {
            let name = btf.type_name(variable.type_id);
            if let Some(at) = symbols.get(&(of.index, name)) {
                variable.offset = u32::try_from(*at).unwrap_or(u32::MAX);
            }
        }
        filled.variables.sort_by_key(|variable| variable.offset);
        found.push((id as usize, filled));
    }
    for (id, section) in found {
        btf.types[id].kind = Kind::Section(section);
    }
}
