//! What stands between programs and code that checks nothing.

use crate::errno::Errno;
use crate::hook::ProgramType;
use crate::map::{Map, flags};
use crate::program::Program;
use crate::verifier::rules::{Rules, SK_LOOKUP};
use crate::verifier::{self, Access, MapFacts, Rejected, Unverified, Verified, VerifyOptions};

/// That a program is safe to run unchecked.
pub struct Proof<'a> {
    program: &'a Program,
    verified: Option<Verified>,
}

impl Program {
    /// Verifies the program.
    ///
    /// # Errors
    /// Why it is not safe, in the kernel's words; `EINVAL` for a program without a hook, which has
    /// no rules to be verified by.
    pub fn verify(&self, options: &VerifyOptions) -> Result<Proof<'_>, Rejected> {
        let rules = self.rules().ok_or_else(|| Rejected {
            errno: Errno::EINVAL,
            message: "programs without a hook have no rules".to_owned(),
            instruction: 0,
            log: String::new(),
        })?;
        let constants: Vec<_> = self.maps.iter().map(|map| constant(map)).collect();
        let facts = self.maps.iter().zip(&constants);
        let maps: Vec<_> =
            facts.map(|(map, constant)| facts_of(map, constant.as_deref())).collect();
        let (functions, lines) = (&[], &[]);
        let insns = self.insns();
        let program = Unverified { insns, maps: &maps, rules, gpl: self.gpl, functions, lines };
        let verified = verifier::verify(&program, options)?;
        Ok(Proof { program: self, verified: Some(verified) })
    }

    /// A proof that somebody else gives: of tests, benches and conformance suites.
    ///
    /// # Safety
    /// Whatever the program does when it runs must be what the kernel's verifier would let it do:
    /// accesses within its stack, its context (or given memory), values of maps that it looked up
    /// and sockets that it holds; calls with arguments of the helpers' types; no more than eight
    /// frames; an end.
    #[doc(hidden)]
    pub unsafe fn assume_verified(&self) -> Proof<'_> {
        Proof { program: self, verified: None }
    }

    fn rules(&self) -> Option<&'static Rules> {
        match self.hook().program_type {
            ProgramType::SkLookup => Some(&SK_LOOKUP),
            ProgramType::Bare => None,
        }
    }
}

impl<'a> Proof<'a> {
    /// The program.
    pub fn program(&self) -> &'a Program {
        self.program
    }

    /// What the verifier found, if it was the verifier.
    pub fn verified(&self) -> Option<&Verified> {
        self.verified.as_ref()
    }

    /// The map that a call works on, the same on every path.
    pub(super) fn map_of_call(&self, at: usize) -> Option<usize> {
        let finding = self.verified.as_ref()?.findings.get(at)?;
        finding.map.filter(|_| !finding.map_varies).map(usize::from)
    }

    /// Bytes of stack of a function.
    pub(super) fn stack_depth(&self, index: usize, start: usize) -> Option<usize> {
        let function = self.verified.as_ref()?.functions.get(index)?;
        (function.start as usize == start).then_some(function.stack_depth as usize)
    }

    /// Is an instruction's memory the stack?
    pub(super) fn is_stack(&self, at: usize) -> bool {
        let access = self.verified.as_ref().map(|verified| verified.findings[at].access);
        matches!(access, Some(Access::Stack | Access::StackVariable))
    }

    /// May the program read fields of sockets?
    pub(super) fn reads_sockets(&self) -> bool {
        self.verified.as_ref().is_none_or(|verified| {
            let kinds = [Access::Socket, Access::Mixed, Access::Object, Access::ObjectChecked];
            verified.findings.iter().any(|finding| kinds.contains(&finding.access))
        })
    }
}

/// The only value of a map that neither programs nor the control plane can change any more.
fn constant(map: &Map) -> Option<Vec<u8>> {
    let spec = map.spec();
    let fixed = spec.read_only && spec.flags & flags::RDONLY_PROG != 0 && spec.max_entries == 1;
    if fixed { map.lookup(&[0; 4]).ok() } else { None }
}

fn facts_of<'a>(map: &'a Map, constant: Option<&'a [u8]>) -> MapFacts<'a> {
    let spec = map.spec();
    MapFacts {
        name: &spec.name,
        map_type: spec.map_type.number(),
        key_size: spec.key_size,
        value_size: spec.value_size,
        max_entries: spec.max_entries,
        flags: spec.flags,
        constant,
        ..MapFacts::default()
    }
}
