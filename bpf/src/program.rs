//! From an object to what can run: `Object → Loaded`.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

pub use crate::code::Refusal;
use crate::code::{self, Op};
use crate::engine::Statistics;
use crate::errno::Errno;
use crate::hook::{FieldKind, Hook, bare};
use crate::insn::Insn;
use crate::jit::{Compiled, JitError, Proof};
use crate::map::Map;
use crate::object::{Object, ProgramSpec};

/// The most maps that a program may use (`MAX_USED_MAPS`).
const MAX_USED_MAPS: usize = 64;

/// How to load an object.
#[derive(Default)]
pub struct LoadOptions {
    /// How many workers there are: per-CPU maps have a value for each.
    pub cpus: usize,
    /// Maps to use in place of new ones, by name.
    pub reuse: HashMap<String, Arc<Map>>,
}

/// Programs that can run, and the maps that they use.
#[derive(Debug)]
pub struct Loaded {
    /// In the object's order.
    pub programs: Vec<Arc<Program>>,
    /// In the object's order.
    pub maps: Vec<Arc<Map>>,
}

/// Why an object was not loaded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// A map could not be made.
    #[error("map {name}: {errno}")]
    Map {
        /// The map's name.
        name: String,
        /// What the kernel would have said.
        errno: Errno,
    },
    /// A map to reuse has another type, size or flags.
    #[error("map {name}: the map to reuse has another type, size or flags")]
    Reuse {
        /// The map's name.
        name: String,
    },
    /// The section's name stands for no program type that Weir has.
    #[error("program {program}: section {section:?} is of no known program type")]
    ProgramType {
        /// The program's name.
        program: String,
        /// The section's name.
        section: String,
    },
    /// The program uses too many maps.
    #[error("program {program}: {maps} maps; at most {MAX_USED_MAPS} are allowed")]
    MapCount {
        /// The program's name.
        program: String,
        /// How many it uses.
        maps: usize,
    },
    /// An instruction may not run.
    #[error("program {program}: insn {insn}: {refusal}")]
    Program {
        /// The program's name.
        program: String,
        /// The instruction, counted in slots.
        insn: usize,
        /// Why.
        refusal: Refusal,
    },
}

impl Object {
    /// Makes the maps, and checks and decodes the programs.
    ///
    /// # Errors
    /// The first map or program that is refused. Nothing outlives the error.
    pub fn load(&self, options: &LoadOptions) -> Result<Loaded, LoadError> {
        let maps = self
            .maps
            .iter()
            .map(|spec| match options.reuse.get(&spec.name) {
                Some(map) if map.spec().is_compatible(spec) => Ok(Arc::clone(map)),
                Some(_) => Err(LoadError::Reuse { name: spec.name.clone() }),
                None => Map::create(spec, options.cpus)
                    .map(Arc::new)
                    .map_err(|errno| LoadError::Map { name: spec.name.clone(), errno }),
            })
            .collect::<Result<Vec<_>, _>>()?;
        let programs = self
            .programs
            .iter()
            .map(|spec| Program::load(spec, &maps, self.is_gpl_compatible()).map(Arc::new))
            .collect::<Result<Vec<_>, _>>()?;
        self.fill(&maps, &programs, &options.reuse)?;
        Ok(Loaded { programs, maps })
    }
}

/// A program that can run, on any number of workers at once.
pub struct Program {
    name: String,
    section: String,
    hook: &'static Hook,
    pub(crate) maps: Vec<Arc<Map>>,
    pub(crate) ops: Box<[Op]>,
    insns: Vec<Insn>,
    /// Is its licence GPL-compatible?
    pub(crate) gpl: bool,
    /// For each byte of the context: the sizes (1, 2, 4, 8, as bits) of the reads that begin there.
    pub(crate) context_reads: Box<[u8]>,
    pub(crate) compiled: OnceLock<Compiled>,
    pub(crate) statistics: Statistics,
}

impl Program {
    /// The function's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The ELF section's name.
    pub fn section(&self) -> &str {
        &self.section
    }

    /// Its type.
    pub fn hook(&self) -> &'static Hook {
        self.hook
    }

    /// The maps that it uses.
    pub fn maps(&self) -> &[Arc<Map>] {
        &self.maps
    }

    /// How many instructions it has, in slots, its functions included.
    pub fn instructions(&self) -> usize {
        self.insns.len()
    }

    /// The instructions as they were linked; maps are named by their index in [`Program::maps`].
    pub fn insns(&self) -> &[Insn] {
        &self.insns
    }

    /// A program without a hook and without maps, see [`bare`].
    ///
    /// # Errors
    /// [`LoadError::Program`] for the first instruction that may not run.
    pub fn bare(name: &str, insns: Vec<Insn>) -> Result<Program, LoadError> {
        let ops = code::decode(&insns, &bare::HOOK, true, 0).map_err(|(insn, refusal)| {
            LoadError::Program { program: name.to_owned(), insn, refusal }
        })?;
        Ok(Program {
            name: name.to_owned(),
            section: String::new(),
            hook: &bare::HOOK,
            maps: Vec::new(),
            ops,
            insns,
            gpl: true,
            context_reads: context_reads(&bare::HOOK),
            compiled: OnceLock::new(),
            statistics: Statistics::default(),
        })
    }

    /// Compiles the program: from now on machines whose engine is [`crate::Engine::Jit`] run
    /// machine code. Off the packet path: it takes microseconds an instruction.
    ///
    /// # Errors
    /// [`JitError`]; the interpreter goes on running the program.
    ///
    /// # Panics
    /// If the proof is another program's.
    pub fn compile(&self, proof: &Proof<'_>) -> Result<(), JitError> {
        assert!(std::ptr::eq(proof.program(), self), "a proof of this program");
        if self.compiled.get().is_none() {
            let compiled = Compiled::of(proof)?;
            // Of two that compile at once one keeps its code; both are the same.
            let _ = self.compiled.set(compiled);
        }
        Ok(())
    }

    /// The machine code and how many bytes it has, if the program is compiled.
    pub fn machine_code(&self) -> Option<&[u8]> {
        self.compiled.get().map(Compiled::code)
    }

    /// Runs and their time, counted while [`crate::engine::count_runs`] says so.
    pub fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    fn load(spec: &ProgramSpec, all: &[Arc<Map>], gpl: bool) -> Result<Program, LoadError> {
        let hook = Hook::of_section(&spec.section).ok_or_else(|| LoadError::ProgramType {
            program: spec.name.clone(),
            section: spec.section.clone(),
        })?;
        let (insns, used) = spec.link_maps();
        if used.len() > MAX_USED_MAPS {
            return Err(LoadError::MapCount { program: spec.name.clone(), maps: used.len() });
        }
        let ops = code::decode(&insns, hook, gpl, used.len()).map_err(|(insn, refusal)| {
            LoadError::Program { program: spec.name.clone(), insn, refusal }
        })?;
        Ok(Program {
            name: spec.name.clone(),
            section: spec.section.clone(),
            hook,
            maps: used.iter().map(|map| Arc::clone(&all[*map])).collect(),
            ops,
            insns,
            gpl,
            context_reads: context_reads(hook),
            compiled: OnceLock::new(),
            statistics: Statistics::default(),
        })
    }
}

impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Program").field("name", &self.name).field("section", &self.section).finish()
    }
}

/// Aligned reads of at most a field's widest, within it; a socket in its whole size only.
fn context_reads(hook: &Hook) -> Box<[u8]> {
    let mut reads = vec![0; hook.context_size];
    for field in hook.context {
        let end = field.offset + field.size;
        for at in field.offset..end {
            for size in [1, 2, 4, 8_u8] {
                let wide = u16::from(size);
                let whole = field.kind == FieldKind::Scalar || size == field.widest;
                if whole && size <= field.widest && at % wide == 0 && at + wide <= end {
                    reads[usize::from(at)] |= size;
                }
            }
        }
    }
    reads.into_boxed_slice()
}
