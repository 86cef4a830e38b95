//! What an object wants from outside: `.kconfig` values, `.ksyms` functions and variables (libbpf's
//! `bpf_object__collect_externs`).

use std::collections::HashMap;

use super::elf::{Elf, Symbol};
use super::{ObjectError, ParseOptions};
use crate::btf::{Btf, Int, Kind};
use crate::map::{MapSpec, MapType, flags};

/// The largest `.kconfig` map, bytes.
const MAX_KCONFIG: usize = 1 << 20;

/// What a kernel's configuration says of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KconfigValue {
    /// A number, such as `CONFIG_HZ` or `LINUX_KERNEL_VERSION`.
    Number(i64),
    /// `y`, `m` or `n`.
    Tristate(char),
    /// Text, without quotes.
    Text(String),
}

/// What stands for an extern symbol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Extern {
    /// A byte of the `.kconfig` map's value.
    Kconfig(u32),
    /// A function of the kernel's: its `FUNC` in the object's BTF, and in the target's.
    Function {
        local: u32,
        target: Option<u32>,
        is_weak: bool,
        /// Its place among all externs, by which libbpf names one that is not there.
        index: u32,
    },
    /// A variable with a type: its `VAR` in the target's BTF.
    Variable(u32),
    /// An address; 0 for a weak one that is not there.
    Address(u64),
}

/// All extern symbols by their names.
#[derive(Default)]
pub(super) struct Externs {
    pub(super) by_name: HashMap<String, Extern>,
    /// The map of the `.kconfig` values.
    pub(super) kconfig: Option<MapSpec>,
}

/// A `.kconfig` variable while its place is looked for.
struct Wanted<'a> {
    name: &'a str,
    type_id: u32,
    size: u32,
    align: u32,
    is_weak: bool,
}

pub(super) fn read(
    elf: &Elf<'_>,
    btf: Option<&Btf>,
    options: &ParseOptions<'_>,
) -> Result<Externs, ObjectError> {
    let mut externs = Externs::default();
    let Some(btf) = btf else { return Ok(externs) };
    let declared = declared(btf);
    let has_symbols = declared.values().any(|(section, _)| *section == ".ksyms");
    let target = match options.target {
        Some(target) if has_symbols => named(target),
        _ => Named::default(),
    };
    let mut wanted = Vec::new();
    for symbol in elf.symbols.iter().filter(|symbol| symbol.is_undefined) {
        let Some((section, id)) = declared.get(symbol.name) else { continue };
        let fail = |reason| fail(section, symbol.name, reason);
        match (*section, btf.kind(*id)) {
            (".kconfig", Some(Kind::Variable { type_id, .. })) => {
                let size = btf.size(*type_id).filter(|size| *size > 0);
                let align = btf.alignment(*type_id);
                let (Some(size), Some(align)) = (size, align) else {
                    return Err(fail("a type without a size"));
                };
                let is_weak = symbol.is_weak;
                wanted.push(Wanted { name: symbol.name, type_id: *type_id, size, align, is_weak });
            }
            (".ksyms", Some(_)) => {
                let found = kernel_symbol(btf, *id, symbol, options, &target).map_err(fail)?;
                externs.by_name.insert(symbol.name.to_owned(), found);
            }
            _ => {}
        }
    }
    number(&mut externs, wanted.len() as u32);
    place(btf, wanted, options, &mut externs)?;
    Ok(externs)
}

/// Symbols are counted by name, behind the `.kconfig` values.
fn number(externs: &mut Externs, values: u32) {
    let mut found: Vec<_> = externs.by_name.iter_mut().collect();
    found.sort_by(|one, other| one.0.cmp(other.0));
    for (at, (_, found)) in (values..).zip(found) {
        if let Extern::Function { index, .. } = found {
            *index = at;
        }
    }
}

fn fail(section: &str, symbol: &str, reason: &'static str) -> ObjectError {
    let (section, symbol) = (section.to_owned(), symbol.to_owned());
    ObjectError::Code { section, symbol, offset: 0, reason }
}

/// Extern variables and functions by name: section and id.
fn declared(btf: &Btf) -> HashMap<&str, (&str, u32)> {
    let mut declared = HashMap::new();
    for (_, of) in btf.types() {
        if let Kind::Section(section) = &of.kind {
            let name = btf.name(of.name);
            if matches!(name, ".kconfig" | ".ksyms") {
                for variable in &section.variables {
                    declared.insert(btf.type_name(variable.type_id), (name, variable.type_id));
                }
            }
        }
    }
    declared
}

/// The target's functions and variables.
#[derive(Default)]
struct Named<'a> {
    functions: HashMap<&'a str, u32>,
    variables: HashMap<&'a str, u32>,
}

fn named(target: &Btf) -> Named<'_> {
    let mut named = Named::default();
    for (id, of) in target.types() {
        let all = match of.kind {
            Kind::Function { .. } => &mut named.functions,
            Kind::Variable { .. } => &mut named.variables,
            _ => continue,
        };
        // The first of several, as libbpf finds it.
        all.entry(target.name(of.name)).or_insert(id);
    }
    named
}

fn kernel_symbol(
    btf: &Btf,
    id: u32,
    symbol: &Symbol<'_>,
    options: &ParseOptions<'_>,
    target: &Named<'_>,
) -> Result<Extern, &'static str> {
    let is_weak = symbol.is_weak;
    match btf.kind(id) {
        Some(Kind::Function { .. }) => {
            let target = target.functions.get(symbol.name).copied();
            if options.target.is_some() && target.is_none() && !is_weak {
                return Err("the target has no such function");
            }
            Ok(Extern::Function { local: id, target, is_weak, index: 0 })
        }
        Some(Kind::Variable { type_id, .. }) => {
            let is_typed = !matches!(btf.resolve(*type_id).map(|of| &of.kind), Some(Kind::Void));
            if let Some(address) = options.ksyms.get(symbol.name) {
                return Ok(Extern::Address(*address));
            }
            if let Some(id) = target.variables.get(symbol.name).filter(|_| is_typed) {
                return Ok(Extern::Variable(*id));
            }
            if is_weak { Ok(Extern::Address(0)) } else { Err("the target has no such variable") }
        }
        _ => Err("neither a function nor a variable"),
    }
}

/// Puts the `.kconfig` values where libbpf puts them: by alignment, size and name.
fn place(
    btf: &Btf,
    mut wanted: Vec<Wanted<'_>>,
    options: &ParseOptions<'_>,
    externs: &mut Externs,
) -> Result<(), ObjectError> {
    if wanted.is_empty() {
        return Ok(());
    }
    wanted.sort_by(|a, b| {
        b.align.cmp(&a.align).then(a.size.cmp(&b.size)).then_with(|| a.name.cmp(b.name))
    });
    let mut data: Vec<u8> = Vec::new();
    for one in &wanted {
        let at = data.len().next_multiple_of(one.align as usize);
        let end = at + one.size as usize;
        if end > MAX_KCONFIG {
            return Err(fail(".kconfig", one.name, "too large"));
        }
        data.resize(end, 0);
        externs.by_name.insert(one.name.to_owned(), Extern::Kconfig(at as u32));
        match options.kconfig.get(one.name) {
            Some(value) => fill(btf, one.type_id, value, &mut data[at..])
                .map_err(|reason| fail(".kconfig", one.name, reason))?,
            None if one.is_weak => {}
            None => return Err(fail(".kconfig", one.name, "no value is given for it")),
        }
    }
    let mut spec = MapSpec::new(".kconfig", MapType::Array, 4, data.len() as u32, 1);
    spec.flags = flags::MMAPABLE | flags::RDONLY_PROG;
    spec.initial = Some(data);
    spec.read_only = true;
    externs.kconfig = Some(spec);
    Ok(())
}

/// A value in the bytes of its type (libbpf's `set_kcfg_value_*`).
fn fill(
    btf: &Btf,
    type_id: u32,
    value: &KconfigValue,
    data: &mut [u8],
) -> Result<(), &'static str> {
    const WRONG: &str = "its type does not suit the value given";
    let of = btf.resolve(type_id).ok_or(WRONG)?;
    let number = match (&of.kind, value) {
        (Kind::Int(int), KconfigValue::Tristate(state)) => match (int.encoding, state) {
            (Int::BOOL, 'y') => 1,
            (Int::BOOL, 'n') => 0,
            (_, state) if int.size == 1 && int.encoding != Int::BOOL => i64::from(*state as u32),
            _ => return Err(WRONG),
        },
        (Kind::Enum(of), KconfigValue::Tristate(state)) if btf.type_name(type_id).len() < 512 => {
            let name = match state {
                'y' => "TRI_YES",
                'm' => "TRI_MODULE",
                _ => "TRI_NO",
            };
            let named = of.enumerators.iter().find(|one| btf.name(one.name) == name);
            named.ok_or(WRONG)?.value
        }
        (Kind::Int(int), KconfigValue::Number(number)) => {
            let bits = 8 * int.size.clamp(1, 8);
            let (low, high) = match int.encoding & (Int::SIGNED | Int::BOOL) {
                Int::BOOL => (0, 1),
                Int::SIGNED => (i64::MIN >> (64 - bits), i64::MAX >> (64 - bits)),
                _ if bits == 64 => (i64::MIN, i64::MAX),
                _ => (0, (1 << bits) - 1),
            };
            if !(low..=high).contains(number) {
                return Err("the value given does not fit its type");
            }
            *number
        }
        (Kind::Array(array), KconfigValue::Text(text)) if btf.size(array.element) == Some(1) => {
            // Cut off where it is too long, the NUL kept.
            let length = text.len().min(data.len().saturating_sub(1));
            data[..length].copy_from_slice(&text.as_bytes()[..length]);
            return Ok(());
        }
        _ => return Err(WRONG),
    };
    let length = data.len().min(8);
    data[..length].copy_from_slice(&number.to_le_bytes()[..length]);
    Ok(())
}
