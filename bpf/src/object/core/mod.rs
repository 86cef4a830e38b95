//! CO-RE: instructions that depend on a type are changed for the types of the target (libbpf's
//! `bpf_core_calc_relo_insn` and `bpf_core_patch_insn`).

mod compare;
mod patch;
mod spec;
mod value;

use std::collections::HashMap;

use crate::btf::{Btf, CoreRelocation, Kind};
use crate::insn::Insn;
use spec::Spec;
use value::Outcome;

/// What an instruction wants to know of the target (`enum bpf_core_relo_kind`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum RelocationKind {
    FieldByteOffset,
    FieldByteSize,
    FieldExists,
    FieldSigned,
    FieldLshift,
    FieldRshift,
    TypeIdLocal,
    TypeIdTarget,
    TypeExists,
    TypeSize,
    EnumeratorExists,
    EnumeratorValue,
    TypeMatches,
}

/// What an access is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    Field,
    Type,
    Enumerator,
}

impl RelocationKind {
    fn from_number(number: u32) -> Option<RelocationKind> {
        use RelocationKind::*;
        const ALL: [RelocationKind; 13] = [
            FieldByteOffset,
            FieldByteSize,
            FieldExists,
            FieldSigned,
            FieldLshift,
            FieldRshift,
            TypeIdLocal,
            TypeIdTarget,
            TypeExists,
            TypeSize,
            EnumeratorExists,
            EnumeratorValue,
            TypeMatches,
        ];
        ALL.get(number as usize).copied()
    }

    pub(super) fn subject(self) -> Subject {
        use RelocationKind::*;
        match self {
            FieldByteOffset | FieldByteSize | FieldExists | FieldSigned | FieldLshift
            | FieldRshift => Subject::Field,
            TypeIdLocal | TypeIdTarget | TypeExists | TypeSize | TypeMatches => Subject::Type,
            EnumeratorExists | EnumeratorValue => Subject::Enumerator,
        }
    }
}

/// Most steps that comparing types may take for one object. Hostile types could ask for any number.
const MAX_STEPS: usize = 1 << 26;

/// The types of an object and of the target, and what was found out about them.
pub(super) struct Core<'a> {
    local: &'a Btf,
    target: Option<&'a Btf>,
    /// The target's types by their names without flavours.
    by_name: HashMap<&'a str, Vec<u32>>,
    steps: usize,
}

impl<'a> Core<'a> {
    pub(super) fn new(local: &'a Btf, target: Option<&'a Btf>) -> Core<'a> {
        let mut by_name: HashMap<&str, Vec<u32>> = HashMap::new();
        for (id, of) in target
            .into_iter()
            .flat_map(|target| target.types().map(move |t| (target, t)))
            .map(|(target, (id, of))| (id, target.name(of.name)))
        {
            if !of.is_empty() {
                by_name.entry(essential(of)).or_default().push(id);
            }
        }
        Core { local, target, by_name, steps: MAX_STEPS }
    }

    /// Changes the instruction at `insn`.
    ///
    /// # Errors
    /// Why libbpf would refuse the object, too.
    pub(super) fn relocate(
        &mut self,
        relocation: &CoreRelocation,
        insns: &mut [Insn],
        insn: usize,
    ) -> Result<(), &'static str> {
        let kind = RelocationKind::from_number(relocation.kind)
            .ok_or("CO-RE relocation of an unknown kind")?;
        let access = self.local.name(relocation.access);
        let local = Spec::parse(self.local, relocation.type_id, access, kind)?;
        let outcome = self.resolve(&local, kind)?;
        patch::patch(insns, insn, &outcome)
    }

    fn resolve(&mut self, local: &Spec, kind: RelocationKind) -> Result<Outcome, &'static str> {
        if kind == RelocationKind::TypeIdLocal {
            return Ok(Outcome::local_id(local.root));
        }
        let root = self.local.find(local.root).ok_or("CO-RE relocation of an unknown type")?;
        let name = self.local.name(root.name);
        if name.is_empty() {
            return Err("CO-RE relocation of a type without a name");
        }
        let target_btf = self.target.ok_or("CO-RE relocation, but no target's types are given")?;
        let candidates = self.by_name.get(essential(name)).cloned().unwrap_or_default();
        let mut found: Option<(u32, Outcome)> = None;
        for candidate in candidates {
            self.spend()?;
            let is_alike = target_btf.kind(candidate).is_some_and(|kind| alike(&root.kind, kind));
            if !is_alike {
                continue;
            }
            let Some(spec) = self.matched(local, target_btf, candidate, kind)? else { continue };
            let outcome = value::outcome(self.local, local, Some((target_btf, &spec)), kind)?;
            match &found {
                None => found = Some((spec.bit_offset, outcome)),
                Some((bits, first)) => {
                    let same = *bits == spec.bit_offset
                        && first.poison == outcome.poison
                        && first.new_value == outcome.new_value;
                    if !same {
                        return Err("ambiguous CO-RE relocation: several types match, and differ");
                    }
                }
            }
        }
        match found {
            Some((_, outcome)) => Ok(outcome),
            None => value::outcome(self.local, local, None, kind),
        }
    }
}

/// The name without its flavour: what is behind `___` (`bpf_core_essential_name_len`).
pub(super) fn essential(name: &str) -> &str {
    let bytes = name.as_bytes();
    // libbpf looks for the last `X___Y` with other characters on both sides.
    for at in (0..bytes.len().saturating_sub(4)).rev() {
        if bytes[at] != b'_' && &bytes[at + 1..at + 4] == b"___" && bytes[at + 4] != b'_' {
            return &name[..=at];
        }
    }
    name
}

/// `btf_kind_core_compat`: enums of both widths are alike.
pub(super) fn alike(one: &Kind, other: &Kind) -> bool {
    match (one, other) {
        (Kind::Enum(_), Kind::Enum(_)) => true,
        _ => one.number() == other.number(),
    }
}
