//! Functions and what they refer to: each program becomes one run of instructions, with the
//! functions that it calls behind it (libbpf's `bpf_object__relocate_calls`).

use std::collections::HashMap;

use super::elf::{Elf, Relocation, Section, Symbol};
use super::maps::{Layout, Place};
use super::{MapReference, ObjectError, ProgramSpec};
use crate::insn::{Insn, PSEUDO_CALL};

/// Bytes a slot.
const SLOT: u64 = 8;
/// The most instructions of a program.
const MAX_INSNS: usize = 1_000_000;
/// `R_BPF_64_64`: a 64-bit immediate load.
const R_BPF_64_64: u32 = 1;
/// `R_BPF_64_32`: a call.
const R_BPF_64_32: u32 = 10;

/// A function: the slots of a section from `start` up to `end`.
struct Function<'a> {
    name: &'a str,
    section: &'a Section<'a>,
    start: usize,
    end: usize,
    is_program: bool,
}

/// What all programs of an object are linked from.
struct Linker<'a> {
    elf: &'a Elf<'a>,
    layout: &'a Layout,
    functions: Vec<Function<'a>>,
    /// Section and slot to the function that begins there.
    by_start: HashMap<(usize, usize), usize>,
}

/// A program while it grows.
struct Linking {
    insns: Vec<Insn>,
    references: Vec<MapReference>,
    /// Function to the slot where it was put, in the order of being put.
    placed: Vec<(usize, usize)>,
    index: HashMap<usize, usize>,
    /// The most instructions that it may have.
    limit: usize,
}

pub(super) fn link(elf: &Elf<'_>, layout: &Layout) -> Result<Vec<ProgramSpec>, ObjectError> {
    let functions = functions(elf)?;
    let by_start = functions
        .iter()
        .enumerate()
        .map(|(i, function)| ((function.section.index, function.start), i))
        .collect();
    let linker = Linker { elf, layout, functions, by_start };
    // An object's programs may share functions; their sum is bounded like a single one, so that a
    // small file cannot ask for much.
    let mut total = 0;
    let mut programs = Vec::new();
    for (i, function) in linker.functions.iter().enumerate().filter(|(_, f)| f.is_program) {
        let program = linker.program(i, MAX_INSNS - total)?;
        total += program.insns.len();
        programs.push(ProgramSpec { name: function.name.to_owned(), ..program });
    }
    Ok(programs)
}

/// The functions of all sections with code. Global ones outside of `.text` are programs.
fn functions<'a>(elf: &'a Elf<'a>) -> Result<Vec<Function<'a>>, ObjectError> {
    let sections: HashMap<usize, &Section<'_>> =
        elf.sections.iter().filter(|s| s.is_code).map(|s| (s.index, s)).collect();
    let mut functions = Vec::new();
    for symbol in elf.symbols.iter().filter(|symbol| symbol.is_function) {
        let Some(section) = symbol.section.and_then(|index| sections.get(&index)) else { continue };
        let fail = |reason| error(section, symbol.name, symbol.address, reason);
        let end = symbol.address.checked_add(symbol.size).ok_or(fail("too large"))?;
        if !symbol.address.is_multiple_of(SLOT) || !symbol.size.is_multiple_of(SLOT) {
            return Err(fail("function is not made of whole instructions"));
        }
        if symbol.size == 0 || end > section.data.len() as u64 {
            return Err(fail("function is empty or leaves its section"));
        }
        functions.push(Function {
            name: symbol.name,
            section,
            start: (symbol.address / SLOT) as usize,
            end: (end / SLOT) as usize,
            is_program: symbol.is_global && section.name != ".text",
        });
    }
    functions.sort_by_key(|function| (function.section.index, function.start));
    let overlap = |pair: &&[Function<'_>]| {
        pair[0].section.index == pair[1].section.index && pair[1].start < pair[0].end
    };
    match functions.windows(2).find(overlap) {
        Some([_, second]) => {
            let offset = second.start as u64 * SLOT;
            Err(error(second.section, second.name, offset, "functions overlap"))
        }
        _ => Ok(functions),
    }
}

impl<'a> Linker<'a> {
    fn program(&self, main: usize, limit: usize) -> Result<ProgramSpec, ObjectError> {
        let mut linking = Linking {
            insns: Vec::new(),
            references: Vec::new(),
            placed: Vec::new(),
            index: HashMap::new(),
            limit,
        };
        let name = self.functions[main].name;
        let too_large = || ObjectError::Size(name.to_owned());
        linking.place(main, &self.functions[main]).ok_or_else(too_large)?;
        let mut next = 0;
        while let Some((function, at)) = linking.placed.get(next).copied() {
            self.function(&self.functions[function], at, &mut linking)?;
            next += 1;
        }
        linking.references.sort_by_key(|reference| reference.insn);
        Ok(ProgramSpec {
            name: String::new(),
            section: self.functions[main].section.name.to_owned(),
            insns: linking.insns,
            references: linking.references,
        })
    }

    /// Relocates one function that was put at slot `at`.
    fn function(
        &self,
        function: &Function<'a>,
        at: usize,
        linking: &mut Linking,
    ) -> Result<(), ObjectError> {
        let relocations = &function.section.relocations;
        let mut slot = function.start;
        while slot < function.end {
            let offset = slot as u64 * SLOT;
            let here = at + slot - function.start;
            let insn = linking.insns[here];
            let first = relocations.partition_point(|relocation| relocation.offset < offset);
            let relocation = relocations.get(first).filter(|found| found.offset == offset);
            let fail = |symbol: &str, reason| error(function.section, symbol, offset, reason);
            if insn.is_ld_imm64() && slot + 1 < function.end {
                if let Some(relocation) = relocation {
                    let reference =
                        self.data(insn, *relocation, here).map_err(|(s, r)| fail(s, r))?;
                    linking.references.push(reference);
                }
                slot += 1;
            } else if insn.is_local_call() {
                let callee = self
                    .callee(insn, relocation, function, slot)
                    .map_err(|(symbol, reason)| fail(symbol, reason))?;
                let target = linking
                    .place(callee, &self.functions[callee])
                    .ok_or_else(|| ObjectError::Size(function.name.to_owned()))?;
                linking.insns[here].imm = (target as i64 - here as i64 - 1) as i32;
            } else if let Some(relocation) = relocation {
                let symbol = self.symbol(*relocation).map_or("", |symbol| symbol.name);
                return Err(fail(symbol, "relocation of an instruction that takes none"));
            }
            slot += 1;
        }
        Ok(())
    }

    /// A map, or an address in global data.
    fn data(
        &self,
        insn: Insn,
        relocation: Relocation,
        at: usize,
    ) -> Result<MapReference, (&'a str, &'static str)> {
        let symbol =
            self.symbol(relocation).ok_or(("", "relocation of a symbol that is not there"))?;
        let fail = |reason| (symbol.name, reason);
        if relocation.kind != R_BPF_64_64 {
            return Err(fail("unexpected kind of relocation"));
        }
        let section = symbol.section.ok_or(fail("extern symbols are not supported"))?;
        match self.layout.find(section, symbol.address) {
            Some(Place::Map(map)) if insn.imm == 0 => {
                Ok(MapReference { insn: at, map, offset: None })
            }
            Some(Place::Data(map)) => {
                let offset = i64::from(insn.imm) + symbol.address as i64;
                let offset =
                    u32::try_from(offset).map_err(|_| fail("address out of its section"))?;
                // One past the end is an address that C allows.
                if offset > self.layout.specs[map].value_size {
                    return Err(fail("address out of its section"));
                }
                Ok(MapReference { insn: at, map, offset: Some(offset) })
            }
            _ => Err(fail("neither a map nor global data")),
        }
    }

    /// The function that a call goes to: by its symbol, or by distance within the section.
    fn callee(
        &self,
        insn: Insn,
        relocation: Option<&Relocation>,
        caller: &Function<'_>,
        slot: usize,
    ) -> Result<usize, (&'a str, &'static str)> {
        let (name, section, from) = match relocation {
            None => ("call", caller.section.index, slot as i64),
            Some(relocation) => {
                let symbol = self
                    .symbol(*relocation)
                    .ok_or(("", "relocation of a symbol that is not there"))?;
                let fail = |reason| (symbol.name, reason);
                if relocation.kind != R_BPF_64_32 {
                    return Err(fail("unexpected kind of relocation"));
                }
                let section = symbol.section.ok_or(fail("extern functions are not supported"))?;
                (symbol.name, section, (symbol.address / SLOT).min(u32::MAX.into()) as i64)
            }
        };
        let target = from + i64::from(insn.imm) + 1;
        let start = usize::try_from(target).map_err(|_| (name, "call out of its section"))?;
        self.by_start.get(&(section, start)).copied().ok_or((name, "call of what is no function"))
    }

    fn symbol(&self, relocation: Relocation) -> Option<&'a Symbol<'a>> {
        self.elf.symbols.get(relocation.symbol)
    }
}

impl Linking {
    /// Puts a function behind the others, unless it is there; its first slot, or `None` if the
    /// program would be too large.
    fn place(&mut self, index: usize, function: &Function<'_>) -> Option<usize> {
        if let Some(at) = self.index.get(&index) {
            return Some(*at);
        }
        let at = self.insns.len();
        if at + (function.end - function.start) > self.limit {
            return None;
        }
        let bytes = &function.section.data[function.start * 8..function.end * 8];
        let slots = bytes.chunks_exact(8).filter_map(|slot| slot.first_chunk::<8>());
        self.insns.extend(slots.map(|slot| Insn::from_bytes(*slot)));
        self.index.insert(index, at);
        self.placed.push((index, at));
        Some(at)
    }
}

fn error(section: &Section<'_>, symbol: &str, offset: u64, reason: &'static str) -> ObjectError {
    let (section, symbol) = (section.name.to_owned(), symbol.to_owned());
    ObjectError::Code { section, symbol, offset, reason }
}

const _: () = assert!(PSEUDO_CALL == 1, "is_local_call reads the source register");
