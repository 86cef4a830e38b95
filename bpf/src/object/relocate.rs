//! Functions and what they refer to: each program becomes one run of instructions, with the
//! functions that it calls behind it (libbpf's `bpf_object__relocate_calls`).

use std::collections::HashMap;

use super::core::Core;
use super::elf::{Elf, Relocation, Section, Symbol};
use super::externs::{Extern, Externs};
use super::maps::{Layout, Place};
use super::{KfuncCall, MapReference, ObjectError, ParseOptions, ProgramSpec};
use crate::btf::{Btf, BtfExt, FunctionInfo, LineInfo};
use crate::insn::{Insn, PSEUDO_CALL};

/// Bytes a slot.
const SLOT: u64 = 8;
/// The most instructions of a program.
const MAX_INSNS: usize = 1_000_000;
/// `R_BPF_64_64`: a 64-bit immediate load.
const R_BPF_64_64: u32 = 1;
/// `R_BPF_64_32`: a call.
const R_BPF_64_32: u32 = 10;

/// `src_reg` of a 64-bit immediate load of a variable or a function of the kernel's
/// (`BPF_PSEUDO_BTF_ID`).
const PSEUDO_BTF_ID: u8 = 3;
/// `src_reg` of a 64-bit immediate load of a function of the same program (`BPF_PSEUDO_FUNC`).
const PSEUDO_FUNC: u8 = 4;
/// `src_reg` of a call of a function of the kernel's (`BPF_PSEUDO_KFUNC_CALL`).
const PSEUDO_KFUNC_CALL: u8 = 2;
/// libbpf's `imm` of a call of a weak function that is not there.
const MISSING_KFUNC: i32 = 2_002_000_000;

/// A function: the slots of a section from `start` up to `end`.
struct Function<'a> {
    name: &'a str,
    section: &'a Section<'a>,
    start: usize,
    end: usize,
    is_program: bool,
}

/// What instructions refer to.
#[derive(Clone, Copy)]
pub(super) struct Sources<'a> {
    pub(super) elf: &'a Elf<'a>,
    pub(super) layout: &'a Layout,
    pub(super) externs: &'a Externs,
}

/// The instructions of each section with code, by the section's index, CO-RE applied.
pub(super) type Code = HashMap<usize, Vec<Insn>>;

/// The records of `.BTF.ext` by section and slot.
#[derive(Default)]
struct Infos {
    functions: HashMap<usize, Vec<FunctionInfo>>,
    lines: HashMap<usize, Vec<LineInfo>>,
}

/// What all programs of an object are linked from.
struct Linker<'a> {
    sources: Sources<'a>,
    code: Code,
    infos: Infos,
    functions: Vec<Function<'a>>,
    /// Section and slot to the function that begins there.
    by_start: HashMap<(usize, usize), usize>,
}

/// A program while it grows.
struct Linking {
    insns: Vec<Insn>,
    references: Vec<MapReference>,
    kfuncs: Vec<KfuncCall>,
    /// Function to the slot where it was put, in the order of being put.
    placed: Vec<(usize, usize)>,
    index: HashMap<usize, usize>,
    /// The most instructions that it may have.
    limit: usize,
}

/// Decodes all sections with code, and applies their CO-RE relocations.
pub(super) fn code(
    elf: &Elf<'_>,
    btf: Option<&Btf>,
    ext: &BtfExt,
    options: &ParseOptions<'_>,
) -> Result<Code, ObjectError> {
    /// `BPF_CORE_TYPE_ID_LOCAL`, which no target is needed for.
    const TYPE_ID_LOCAL: u32 = 6;
    let sections = elf.sections.iter().filter(|section| section.is_code);
    let mut left = elf.size;
    let mut code = Code::new();
    for section in sections {
        // Sections may overlap, so that a small file could name many large ones.
        left = left
            .checked_sub(section.data.len())
            .ok_or_else(|| error(section, "", 0, "sections with code overlap"))?;
        let slots = section.data.chunks_exact(8).filter_map(|slot| slot.first_chunk::<8>());
        code.insert(section.index, slots.map(|slot| Insn::from_bytes(*slot)).collect());
    }
    let Some(btf) = btf.filter(|_| !ext.core.is_empty()) else { return Ok(code) };
    let mut core = Core::new(btf, options.target);
    for info in &ext.core {
        let needs_target = info.records.iter().any(|record| record.kind != TYPE_ID_LOCAL);
        if needs_target && options.target.is_none() {
            return Err(ObjectError::CoreRelocations);
        }
        let name = btf.name(info.name);
        let Some(section) = elf.section(name) else { continue };
        let Some(insns) = code.get_mut(&section.index) else { continue };
        for record in &info.records {
            let offset = u64::from(record.insn);
            let slot = (offset / SLOT) as usize;
            core.relocate(record, insns, slot)
                .map_err(|reason| error(section, btf.type_name(record.type_id), offset, reason))?;
        }
    }
    Ok(code)
}

impl Infos {
    fn read(elf: &Elf<'_>, btf: Option<&Btf>, ext: &BtfExt) -> Infos {
        let mut infos = Infos::default();
        let Some(btf) = btf else { return infos };
        let index = |name: u32| elf.section(btf.name(name)).map(|section| section.index);
        let slot = |offset: u32| offset / SLOT as u32;
        for section in &ext.functions {
            let Some(index) = index(section.name) else { continue };
            let records = infos.functions.entry(index).or_default();
            let read = |of: &FunctionInfo| FunctionInfo { insn: slot(of.insn), ..*of };
            records.extend(section.records.iter().map(read));
        }
        for section in &ext.lines {
            let Some(index) = index(section.name) else { continue };
            let records = infos.lines.entry(index).or_default();
            records
                .extend(section.records.iter().map(|of| LineInfo { insn: slot(of.insn), ..*of }));
        }
        infos.functions.values_mut().for_each(|all| all.sort_by_key(|of| of.insn));
        infos.lines.values_mut().for_each(|all| all.sort_by_key(|of| of.insn));
        infos
    }
}

/// A function while it is relocated.
struct Frame {
    function: usize,
    /// The program's slot where it begins.
    at: usize,
    /// The section's slot that is next.
    slot: usize,
}

pub(super) fn link(
    sources: Sources<'_>,
    code: Code,
    btf: Option<&Btf>,
    ext: &BtfExt,
) -> Result<Vec<ProgramSpec>, ObjectError> {
    let functions = functions(sources.elf)?;
    let by_start = functions
        .iter()
        .enumerate()
        .map(|(i, function)| ((function.section.index, function.start), i))
        .collect();
    let infos = Infos::read(sources.elf, btf, ext);
    let linker = Linker { sources, code, infos, functions, by_start };
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
            kfuncs: Vec::new(),
            placed: Vec::new(),
            index: HashMap::new(),
            limit,
        };
        let name = self.functions[main].name;
        let too_large = || ObjectError::Size(name.to_owned());
        linking.place(main, &self.functions[main], &self.code).ok_or_else(too_large)?;
        // A function's callees follow it before its caller goes on, as libbpf puts them.
        let mut frames = vec![Frame { function: main, at: 0, slot: self.functions[main].start }];
        while let Some(frame) = frames.last_mut() {
            match self.function(frame, &mut linking)? {
                Some((function, at)) => {
                    let slot = self.functions[function].start;
                    frames.push(Frame { function, at, slot });
                }
                None => _ = frames.pop(),
            }
        }
        linking.references.sort_by_key(|reference| reference.insn);
        linking.kfuncs.sort_by_key(|call| call.insn);
        let (func_info, line_info) = self.infos(&linking);
        Ok(ProgramSpec {
            name: String::new(),
            section: self.functions[main].section.name.to_owned(),
            insns: linking.insns,
            references: linking.references,
            kfuncs: linking.kfuncs,
            func_info,
            line_info,
        })
    }

    /// The records of all functions of a program, moved to where the functions are.
    fn infos(&self, linking: &Linking) -> (Vec<FunctionInfo>, Vec<LineInfo>) {
        let (mut functions, mut lines) = (Vec::new(), Vec::new());
        for (index, at) in &linking.placed {
            let function = &self.functions[*index];
            let (start, end, at) = (function.start as u32, function.end as u32, *at as u32);
            let within = |insn: u32| (start..end).contains(&insn);
            let of_section = self.infos.functions.get(&function.section.index);
            let all = of_section.into_iter().flatten().filter(|of| within(of.insn));
            functions.extend(all.map(|of| FunctionInfo { insn: of.insn - start + at, ..*of }));
            let of_section = self.infos.lines.get(&function.section.index);
            let all = of_section.into_iter().flatten().filter(|of| within(of.insn));
            lines.extend(all.map(|of| LineInfo { insn: of.insn - start + at, ..*of }));
        }
        (functions, lines)
    }

    /// Relocates a function from where its frame stands, up to its end or to the first instruction
    /// that wants a function that was not there yet: that one, and where it was put.
    fn function(
        &self,
        frame: &mut Frame,
        linking: &mut Linking,
    ) -> Result<Option<(usize, usize)>, ObjectError> {
        let function = &self.functions[frame.function];
        let relocations = &function.section.relocations;
        let known = linking.placed.len();
        while frame.slot < function.end {
            let slot = frame.slot;
            let offset = slot as u64 * SLOT;
            let here = frame.at + slot - function.start;
            let insn = linking.insns[here];
            let first = relocations.partition_point(|relocation| relocation.offset < offset);
            let relocation = relocations.get(first).filter(|found| found.offset == offset);
            let fail =
                |(symbol, reason): (&str, _)| error(function.section, symbol, offset, reason);
            frame.slot += 1;
            if insn.is_ld_imm64() && slot + 1 < function.end {
                frame.slot += 1;
                if let Some(relocation) = relocation {
                    self.load(*relocation, here, linking).map_err(fail)?;
                }
            } else if insn.is_local_call() {
                self.call(relocation, (function, slot), here, linking).map_err(fail)?;
            } else if let Some(relocation) = relocation {
                let symbol = self.symbol(*relocation).map_or("", |symbol| symbol.name);
                return Err(fail((symbol, "relocation of an instruction that takes none")));
            }
            if let Some(placed) = linking.placed.get(known) {
                return Ok(Some(*placed));
            }
        }
        Ok(None)
    }

    /// A 64-bit immediate load of a map, of an address in global data, of a function, or of what is
    /// defined elsewhere.
    fn load(
        &self,
        relocation: Relocation,
        at: usize,
        linking: &mut Linking,
    ) -> Result<(), (&'a str, &'static str)> {
        let symbol =
            self.symbol(relocation).ok_or(("", "relocation of a symbol that is not there"))?;
        let fail = |reason| (symbol.name, reason);
        if relocation.kind != R_BPF_64_64 {
            return Err(fail("unexpected kind of relocation"));
        }
        let insn = linking.insns[at];
        let Some(section) = symbol.section else {
            return self.load_extern(symbol, at, linking).map_err(fail);
        };
        if self.code.contains_key(&section) {
            let offset = i64::from(insn.imm).checked_add_unsigned(symbol.address);
            let start = offset.and_then(|offset| usize::try_from(offset / SLOT as i64).ok());
            let callee = start.and_then(|start| self.by_start.get(&(section, start)).copied());
            let callee = callee.ok_or(fail("address of what is no function"))?;
            let target = self.place(callee, linking).ok_or(fail("the program is too large"))?;
            linking.insns[at].src = PSEUDO_FUNC;
            linking.insns[at].imm = (target as i64 - at as i64 - 1) as i32;
            return Ok(());
        }
        let layout = self.sources.layout;
        match layout.find(section, symbol.address) {
            Some(Place::Map(map)) if insn.imm == 0 => {
                linking.references.push(MapReference { insn: at, map, offset: None });
            }
            Some(Place::Data(map)) => {
                let offset = i64::from(insn.imm).checked_add_unsigned(symbol.address);
                let offset = offset.and_then(|offset| u32::try_from(offset).ok());
                // One past the end is an address that C allows.
                let offset = offset.filter(|at| *at <= layout.specs[map].value_size);
                let offset = offset.ok_or(fail("address out of its section"))?;
                linking.references.push(MapReference { insn: at, map, offset: Some(offset) });
            }
            _ => return Err(fail("neither a map nor global data")),
        }
        Ok(())
    }

    fn load_extern(
        &self,
        symbol: &Symbol<'_>,
        at: usize,
        linking: &mut Linking,
    ) -> Result<(), &'static str> {
        let found = self.sources.externs.by_name.get(symbol.name);
        let (src, low, high) = match found.ok_or("extern symbol that is not declared in BTF")? {
            Extern::Kconfig(offset) => {
                let map = self.sources.layout.kconfig.ok_or("there is no .kconfig")?;
                let offset = Some(*offset);
                linking.references.push(MapReference { insn: at, map, offset });
                return Ok(());
            }
            Extern::Address(address) => (0, *address as i32, (*address >> 32) as i32),
            Extern::Variable(id) | Extern::Function { target: Some(id), .. } => {
                (PSEUDO_BTF_ID, *id as i32, 0)
            }
            Extern::Function { is_weak: true, .. } => (0, 0, 0),
            Extern::Function { .. } => return Err("address of a function, but no target is given"),
        };
        let slots = linking.insns.get_mut(at..at + 2);
        let Some([first, second]) = slots else { return Err("the load is cut off") };
        (first.src, first.imm, second.imm) = (src, low, high);
        Ok(())
    }

    /// A call of a function of the program, or of the kernel's.
    fn call(
        &self,
        relocation: Option<&Relocation>,
        from: (&Function<'a>, usize),
        at: usize,
        linking: &mut Linking,
    ) -> Result<(), (&'a str, &'static str)> {
        let symbol = relocation.and_then(|relocation| self.symbol(*relocation));
        if let Some(symbol) = symbol.filter(|symbol| symbol.is_undefined && !symbol.name.is_empty())
        {
            let found = self.sources.externs.by_name.get(symbol.name);
            let Some(Extern::Function { local, target, is_weak, index }) = found else {
                return Err((symbol.name, "extern function that is not declared in .ksyms"));
            };
            let is_missing = target.is_none() && *is_weak;
            let insn = &mut linking.insns[at];
            (insn.src, insn.offset) = (PSEUDO_KFUNC_CALL, 0);
            insn.imm = match target {
                Some(id) => *id as i32,
                None if is_missing => {
                    insn.src = 0;
                    MISSING_KFUNC.wrapping_add_unsigned(*index)
                }
                None => 0,
            };
            let (name, type_id) = (symbol.name.to_owned(), *local);
            linking.kfuncs.push(KfuncCall { insn: at, name, type_id, is_missing });
            return Ok(());
        }
        let (caller, slot) = from;
        let callee = self.callee(linking.insns[at], relocation, caller, slot)?;
        let target = self.place(callee, linking).ok_or((
            self.functions[callee].name,
            "the program has more than a million instructions",
        ))?;
        linking.insns[at].imm = (target as i64 - at as i64 - 1) as i32;
        Ok(())
    }

    fn place(&self, index: usize, linking: &mut Linking) -> Option<usize> {
        linking.place(index, &self.functions[index], &self.code)
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
        self.sources.elf.symbols.get(relocation.symbol)
    }
}

impl Linking {
    /// Puts a function behind the others, unless it is there; its first slot, or `None` if the
    /// program would be too large.
    fn place(&mut self, index: usize, function: &Function<'_>, code: &Code) -> Option<usize> {
        if let Some(at) = self.index.get(&index) {
            return Some(*at);
        }
        let at = self.insns.len();
        if at + (function.end - function.start) > self.limit {
            return None;
        }
        let insns = code.get(&function.section.index)?.get(function.start..function.end)?;
        self.insns.extend_from_slice(insns);
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
