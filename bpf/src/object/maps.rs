//! Maps: the `.maps` section by its BTF (libbpf's `parse_btf_map_def`), and global data.

use std::collections::HashMap;

use super::ObjectError;
use super::elf::{Elf, Section};
use crate::btf::{Btf, Kind, Member};
use crate::map::{MapSpec, MapType, flags};

/// The largest section without bytes in the file (`.bss`) that is made into a map.
const MAX_BSS: u64 = 64 << 20;

/// An object's maps, and where they are.
pub(super) struct Layout {
    pub(super) specs: Vec<MapSpec>,
    /// The `.maps` section's index.
    section: Option<usize>,
    /// Offset in the `.maps` section to index in `specs`.
    by_offset: HashMap<u64, usize>,
    /// Global data: section to index in `specs`.
    by_section: HashMap<usize, usize>,
}

/// What a symbol of a map section stands for.
pub(super) enum Place {
    /// This map itself.
    Map(usize),
    /// The value of this map, global data.
    Data(usize),
}

impl Layout {
    /// What an offset in a section stands for.
    pub(super) fn find(&self, section: usize, offset: u64) -> Option<Place> {
        if self.section == Some(section) {
            return self.by_offset.get(&offset).map(|map| Place::Map(*map));
        }
        self.by_section.get(&section).map(|map| Place::Data(*map))
    }
}

pub(super) fn read(elf: &Elf<'_>) -> Result<Layout, ObjectError> {
    if let Some(legacy) = elf.sections.iter().find(|section| section.name == "maps") {
        return Err(ObjectError::LegacyMaps(legacy.name.to_owned()));
    }
    let mut layout = Layout {
        specs: Vec::new(),
        section: None,
        by_offset: HashMap::new(),
        by_section: HashMap::new(),
    };
    if let Some(section) = elf.section(".maps") {
        read_definitions(elf, section, &mut layout)?;
    }
    let mut left = elf.size;
    for section in &elf.sections {
        if let Some(spec) = global_data(section)? {
            // Sections may overlap, so that a small file could name many large ones.
            let held = spec.initial.as_ref().map_or(0, Vec::len);
            left = left.checked_sub(held).ok_or_else(|| too_large(section))?;
            layout.by_section.insert(section.index, layout.specs.len());
            layout.specs.push(spec);
        }
    }
    Ok(layout)
}

fn read_definitions(
    elf: &Elf<'_>,
    section: &Section<'_>,
    layout: &mut Layout,
) -> Result<(), ObjectError> {
    let bytes = elf.section(".BTF").ok_or(ObjectError::NoBtf)?.data;
    let btf = Btf::parse(bytes).map_err(ObjectError::Btf)?;
    layout.section = Some(section.index);
    let offsets: HashMap<&str, u64> = elf
        .symbols
        .iter()
        .filter(|symbol| symbol.section == Some(section.index))
        .map(|symbol| (symbol.name, symbol.address))
        .collect();
    for (name, type_id) in btf.variables(".maps") {
        let fail = |reason| ObjectError::Map { map: name.to_owned(), reason };
        let offset = offsets.get(name).ok_or(fail("no symbol in the section"))?;
        let spec = definition(&btf, name, type_id).map_err(fail)?;
        if layout.by_offset.insert(*offset, layout.specs.len()).is_some() {
            return Err(fail("defined twice"));
        }
        layout.specs.push(spec);
    }
    Ok(())
}

fn definition(btf: &Btf, name: &str, type_id: u32) -> Result<MapSpec, &'static str> {
    let members = match btf.resolve(type_id).map(|found| &found.kind) {
        Some(Kind::Struct { members, .. }) => members,
        _ => return Err("the definition is not a struct"),
    };
    let mut spec = MapSpec::new(name, MapType::Unknown(0), 0, 0, 0);
    for member in members {
        let number = || number(btf, member).ok_or("a number is not made by __uint()");
        match btf.name(member.name) {
            "type" => spec.map_type = MapType::from_number(number()?),
            "max_entries" => spec.max_entries = number()?,
            "map_flags" => spec.flags = number()?,
            "pinning" => spec.pinning = number()?,
            "numa_node" => _ = number()?,
            "key_size" => agree(&mut spec.key_size, number()?)?,
            "value_size" => agree(&mut spec.value_size, number()?)?,
            "key" => agree(&mut spec.key_size, pointee_size(btf, member)?)?,
            "value" => agree(&mut spec.value_size, pointee_size(btf, member)?)?,
            "values" => return Err("maps in maps and program arrays are not supported"),
            "map_extra" => return Err("map_extra is not supported"),
            _ => return Err("unknown field in the definition"),
        }
    }
    if spec.pinning > 1 {
        return Err("unknown kind of pinning");
    }
    if spec.map_type == MapType::Unknown(0) { Err("the type is missing") } else { Ok(spec) }
}

/// A size may be given twice, by type and by number, if it is the same.
fn agree(size: &mut u32, given: u32) -> Result<(), &'static str> {
    if *size != 0 && *size != given {
        return Err("conflicting sizes of key or value");
    }
    *size = given;
    Ok(())
}

/// `__uint(name, number)` is `int (*name)[number]`.
fn number(btf: &Btf, member: &Member) -> Option<u32> {
    let Kind::Pointer(to) = btf.resolve(member.type_id)?.kind else { return None };
    match btf.resolve(to)?.kind {
        Kind::Array { count, .. } => Some(count),
        _ => None,
    }
}

/// `__type(name, T)` is `T *name`.
fn pointee_size(btf: &Btf, member: &Member) -> Result<u32, &'static str> {
    const WRONG: &str = "a type of key or value has no size";
    match btf.resolve(member.type_id).map(|found| &found.kind) {
        Some(Kind::Pointer(to)) => btf.size(*to).ok_or(WRONG),
        _ => Err("a type is not made by __type()"),
    }
}

/// `.rodata`, `.data`, `.bss` and sections named after them: an array of one entry.
fn global_data(section: &Section<'_>) -> Result<Option<MapSpec>, ObjectError> {
    let is_of = |kind: &str| {
        section.name.strip_prefix(kind).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    let read_only = is_of(".rodata");
    if !(read_only || is_of(".data") || is_of(".bss")) || section.size == 0 {
        return Ok(None);
    }
    let in_file = section.data.len() as u64 == section.size;
    if !in_file && section.size > MAX_BSS {
        return Err(too_large(section));
    }
    let size = u32::try_from(section.size).unwrap_or(u32::MAX);
    let mut spec = MapSpec::new(section.name, MapType::Array, 4, size, 1);
    spec.flags = flags::MMAPABLE | if read_only { flags::RDONLY_PROG } else { 0 };
    spec.initial = in_file.then(|| section.data.to_vec());
    spec.read_only = read_only;
    Ok(Some(spec))
}

fn too_large(section: &Section<'_>) -> ObjectError {
    ObjectError::Code {
        section: section.name.to_owned(),
        symbol: "global data".to_owned(),
        offset: 0,
        reason: "too large",
    }
}
