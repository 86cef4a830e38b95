//! Maps: the `.maps` section by its BTF (libbpf's `parse_btf_map_def`), and global data.

use std::collections::HashMap;

use super::ObjectError;
use super::elf::{Elf, Section};
use crate::btf::{Array, Btf, Kind, Member};
use crate::map::{MapSpec, MapType, flags};

/// The largest section without bytes in the file (`.bss`) that is made into a map.
const MAX_BSS: u64 = 64 << 20;

/// `BPF_MAP_TYPE_PROG_ARRAY`.
const PROG_ARRAY: u32 = 3;
/// `BPF_MAP_TYPE_ARRAY_OF_MAPS`.
const ARRAY_OF_MAPS: u32 = 12;
/// `BPF_MAP_TYPE_HASH_OF_MAPS`.
const HASH_OF_MAPS: u32 = 13;

/// What a map's definition says beyond its [`MapSpec`]: types, and what it starts with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MapDefinition {
    /// The key's type in the object's BTF; 0 if it has none.
    pub key_type: u32,
    /// The value's; that of global data is its `DATASEC`.
    pub value_type: u32,
    /// `numa_node`.
    pub numa_node: Option<u32>,
    /// What a map of maps or a program array starts with, by key.
    pub slots: Vec<(u32, MapSlot)>,
}

/// An initial value of a map of maps or a program array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MapSlot {
    /// A map, by its index in the object.
    Map(usize),
    /// A program, by its name.
    Program(String),
}

/// An object's maps, and where they are.
pub(super) struct Layout {
    pub(super) specs: Vec<MapSpec>,
    /// For each of `specs`.
    pub(super) definitions: Vec<MapDefinition>,
    /// `.kconfig`'s index in `specs`.
    pub(super) kconfig: Option<usize>,
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

pub(super) fn read(
    elf: &Elf<'_>,
    btf: Option<&Btf>,
    kconfig: Option<MapSpec>,
) -> Result<Layout, ObjectError> {
    if let Some(legacy) = elf.sections.iter().find(|section| section.name == "maps") {
        return Err(ObjectError::LegacyMaps(legacy.name.to_owned()));
    }
    let mut layout = Layout {
        specs: Vec::new(),
        definitions: Vec::new(),
        kconfig: None,
        section: None,
        by_offset: HashMap::new(),
        by_section: HashMap::new(),
    };
    if let Some(section) = elf.section(".maps") {
        read_definitions(elf, section, btf.ok_or(ObjectError::NoBtf)?, &mut layout)?;
    }
    let mut left = elf.size;
    for section in &elf.sections {
        if let Some(spec) = global_data(section)? {
            // Sections may overlap, so that a small file could name many large ones.
            let held = spec.initial.as_ref().map_or(0, Vec::len);
            left = left.checked_sub(held).ok_or_else(|| too_large(section))?;
            layout.by_section.insert(section.index, layout.specs.len());
            let section_type = |kind: &Kind| matches!(kind, Kind::Section(_));
            let value_type = btf.and_then(|btf| btf.by_name(section.name, section_type));
            let value_type = value_type.unwrap_or(0);
            layout.definitions.push(MapDefinition { value_type, ..MapDefinition::default() });
            layout.specs.push(spec);
        }
    }
    if let Some(spec) = kconfig {
        layout.kconfig = Some(layout.specs.len());
        layout.definitions.push(MapDefinition::default());
        layout.specs.push(spec);
    }
    Ok(layout)
}

fn read_definitions(
    elf: &Elf<'_>,
    section: &Section<'_>,
    btf: &Btf,
    layout: &mut Layout,
) -> Result<(), ObjectError> {
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
        let (spec, mut definition) = definition(btf, name, type_id, true).map_err(fail)?;
        if layout.by_offset.insert(*offset, layout.specs.len()).is_some() {
            return Err(fail("defined twice"));
        }
        definition.slots = slots(elf, section, btf, type_id, *offset).map_err(fail)?;
        layout.specs.push(spec);
        layout.definitions.push(definition);
    }
    // Slots name maps by their index, which is known once all have one.
    for definition in &mut layout.definitions {
        for (_, slot) in &mut definition.slots {
            if let MapSlot::Map(at) = slot {
                *at = *layout.by_offset.get(&(*at as u64)).ok_or_else(|| ObjectError::Map {
                    map: String::new(),
                    reason: "an initial value is no map",
                })?;
            }
        }
    }
    Ok(())
}

/// A definition's fields; that of inner maps stands in the field `values`.
fn definition(
    btf: &Btf,
    name: &str,
    type_id: u32,
    is_outer: bool,
) -> Result<(MapSpec, MapDefinition), &'static str> {
    let members = match btf.resolve(type_id).map(|found| &found.kind) {
        Some(Kind::Struct(of)) => &of.members,
        _ => return Err("the definition is not a struct"),
    };
    let mut spec = MapSpec::new(name, MapType::Unknown(0), 0, 0, 0);
    let mut more = MapDefinition::default();
    for member in members {
        let number = || number(btf, member).ok_or("a number is not made by __uint()");
        match btf.name(member.name) {
            "type" => spec.map_type = MapType::from_number(number()?),
            "max_entries" => spec.max_entries = number()?,
            "map_flags" => spec.flags = number()?,
            "pinning" if is_outer => spec.pinning = number()?,
            "pinning" => return Err("inner maps cannot be pinned"),
            "numa_node" => more.numa_node = Some(number()?),
            "map_extra" => {
                spec.extra = long(btf, member).ok_or("a number is not made by __ulong()")?;
            }
            "key_size" => agree(&mut spec.key_size, number()?)?,
            "value_size" => agree(&mut spec.value_size, number()?)?,
            "key" => {
                more.key_type = pointee(btf, member)?;
                agree(&mut spec.key_size, size(btf, more.key_type)?)?;
            }
            "value" => {
                more.value_type = pointee(btf, member)?;
                agree(&mut spec.value_size, size(btf, more.value_type)?)?;
                spec.lock_at = lock(btf, more.value_type);
            }
            "values" if is_outer => {
                spec.inner = values(btf, name, spec.map_type.number(), member)?;
                agree(&mut spec.value_size, 4)?;
            }
            "values" => return Err("maps in maps in maps"),
            _ => return Err("unknown field in the definition"),
        }
    }
    if spec.pinning > 1 {
        return Err("unknown kind of pinning");
    }
    if spec.map_type == MapType::Unknown(0) {
        return Err("the type is missing");
    }
    Ok((spec, more))
}

/// `__array(values, T)` is `T *values[]`: what the maps in a map are like, or programs.
fn values(
    btf: &Btf,
    name: &str,
    map_type: u32,
    member: &Member,
) -> Result<Option<Box<MapSpec>>, &'static str> {
    const WRONG: &str = "values are not made by __array()";
    let Some(Kind::Array(Array { element, count: 0, .. })) = btf.kind(member.type_id) else {
        return Err(WRONG);
    };
    let Some(Kind::Pointer(to)) = btf.resolve(*element).map(|of| &of.kind) else {
        return Err(WRONG);
    };
    match (map_type, btf.resolve(*to).map(|of| &of.kind)) {
        (PROG_ARRAY, Some(Kind::Prototype(_))) => Ok(None),
        (ARRAY_OF_MAPS | HASH_OF_MAPS, Some(Kind::Struct(_))) => {
            let (spec, _) = definition(btf, &format!("{name}.inner"), *to, false)?;
            Ok(Some(Box::new(spec)))
        }
        (PROG_ARRAY | ARRAY_OF_MAPS | HASH_OF_MAPS, _) => Err(WRONG),
        _ => Err("only maps of maps and program arrays have values"),
    }
}

/// Initial values of `values`: key, and the map (by its offset, for now) or the program.
fn slots(
    elf: &Elf<'_>,
    section: &Section<'_>,
    btf: &Btf,
    type_id: u32,
    from: u64,
) -> Result<Vec<(u32, MapSlot)>, &'static str> {
    const POINTER: u64 = 8;
    let symbol = elf.symbols.iter().find(|s| s.section == Some(section.index) && s.address == from);
    let end = from.saturating_add(symbol.map_or(0, |symbol| symbol.size));
    let Some(values) = btf.member(type_id, "values") else { return Ok(Vec::new()) };
    let first = from + u64::from(values.bit_offset / 8);
    let mut slots = Vec::new();
    for relocation in section.relocations.iter().filter(|r| (from..end).contains(&r.offset)) {
        let at = relocation.offset.checked_sub(first).filter(|at| at.is_multiple_of(POINTER));
        let key = at.ok_or("an initial value is not in values")? / POINTER;
        let symbol = elf.symbols.get(relocation.symbol).ok_or("an initial value is nothing")?;
        let slot = if symbol.is_function {
            MapSlot::Program(symbol.name.to_owned())
        } else if symbol.section == Some(section.index) {
            MapSlot::Map(symbol.address as usize)
        } else {
            return Err("an initial value is neither a map nor a program");
        };
        slots.push((key as u32, slot));
    }
    Ok(slots)
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
        Kind::Array(array) => Some(array.count),
        _ => None,
    }
}

/// `__ulong(name, number)` is an enum whose one value is the number; `__uint()` does as well.
fn long(btf: &Btf, member: &Member) -> Option<u64> {
    match &btf.resolve(member.type_id)?.kind {
        Kind::Enum(of) => of.enumerators.first().map(|one| one.value as u64),
        _ => number(btf, member).map(u64::from),
    }
}

/// `__type(name, T)` is `T *name`.
fn pointee(btf: &Btf, member: &Member) -> Result<u32, &'static str> {
    match btf.resolve(member.type_id).map(|found| &found.kind) {
        Some(Kind::Pointer(to)) => Ok(*to),
        _ => Err("a type is not made by __type()"),
    }
}

/// Where a value's `struct bpf_spin_lock` is, in bytes.
fn lock(btf: &Btf, id: u32) -> Option<u32> {
    let members = &btf.resolve(id)?.kind.composite()?.members;
    let is_lock = |member: &&Member| {
        let of = btf.resolve(member.type_id);
        of.is_some_and(|of| btf.name(of.name) == "bpf_spin_lock" && of.kind.composite().is_some())
    };
    members.iter().find(is_lock).map(|member| member.bit_offset / 8)
}

fn size(btf: &Btf, id: u32) -> Result<u32, &'static str> {
    btf.size(id).ok_or("a type of key or value has no size")
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
