//! What an access is of, and where the target has it (libbpf's `bpf_core_parse_spec` and
//! `bpf_core_spec_match`).

use super::{Core, RelocationKind, Subject, alike, essential};
use crate::btf::{Array, Btf, Kind};

/// The most steps of an access (`BPF_CORE_SPEC_MAX_LEN`).
const MAX_STEPS: usize = 64;

/// An access: from a root type over members and elements.
#[derive(Clone, Debug)]
pub(super) struct Spec {
    pub(super) root: u32,
    /// Anonymous structs left out.
    pub(super) steps: Vec<Step>,
    /// Anonymous structs counted.
    depth: usize,
    pub(super) bit_offset: u32,
}

/// One step of an access.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    /// The type that is walked through, or, for an element, the element's.
    pub(super) type_id: u32,
    /// The member, the element or the enumerator.
    pub(super) index: u32,
    /// Is it a member or an enumerator with a name?
    pub(super) is_named: bool,
}

impl Spec {
    fn of(root: u32) -> Spec {
        Spec { root, steps: Vec::new(), depth: 0, bit_offset: 0 }
    }

    pub(super) fn parse(
        btf: &Btf,
        root: u32,
        access: &str,
        kind: RelocationKind,
    ) -> Result<Spec, &'static str> {
        const WRONG: &str = "CO-RE relocation of an access that its type does not have";
        let raw = access
            .split(':')
            .take(MAX_STEPS + 1)
            .map(|step| step.parse::<u32>().map_err(|_| WRONG))
            .collect::<Result<Vec<_>, _>>()?;
        let first = match raw.first() {
            Some(first) if raw.len() <= MAX_STEPS => *first,
            _ => return Err(WRONG),
        };
        let mut spec = Spec::of(root);
        if kind.subject() == Subject::Type {
            let is_whole = raw.len() == 1 && first == 0 && btf.find(root).is_some();
            return if is_whole { Ok(spec) } else { Err(WRONG) };
        }
        let mut id = btf.resolve_id(root).ok_or(WRONG)?;
        if kind.subject() == Subject::Enumerator {
            let Some(Kind::Enum(of)) = btf.kind(id) else { return Err(WRONG) };
            if raw.len() != 1 || of.enumerators.len() <= first as usize {
                return Err(WRONG);
            }
            spec.steps.push(Step { type_id: id, index: first, is_named: true });
            return Ok(spec);
        }
        spec.steps.push(Step { type_id: id, index: first, is_named: false });
        spec.advance(btf, id, first).ok_or(WRONG)?;
        for index in raw.into_iter().skip(1) {
            id = spec.step(btf, id, index).ok_or(WRONG)?;
        }
        Ok(spec)
    }

    /// One more member or element of `id`; its type.
    fn step(&mut self, btf: &Btf, id: u32, index: u32) -> Option<u32> {
        let id = btf.resolve_id(id)?;
        match btf.kind(id)? {
            Kind::Struct(of) | Kind::Union(of) => {
                let member = of.members.get(index as usize)?;
                self.bit_offset = self.bit_offset.checked_add(member.bit_offset)?;
                if !btf.name(member.name).is_empty() {
                    self.steps.push(Step { type_id: id, index, is_named: true });
                }
                Some(member.type_id)
            }
            Kind::Array(array) => {
                let element = btf.resolve_id(array.element)?;
                let is_open = self.is_open_ended(btf, array);
                if !is_open && index >= array.count {
                    return None;
                }
                self.steps.push(Step { type_id: element, index, is_named: false });
                self.advance(btf, element, index)?;
                Some(element)
            }
            _ => None,
        }
    }

    /// Is this array the last member of its struct, without a length (`is_flex_arr`)?
    fn is_open_ended(&self, btf: &Btf, array: &Array) -> bool {
        let Some(last) = self.steps.last().filter(|last| last.is_named) else { return false };
        let members = btf.kind(last.type_id).and_then(Kind::composite).map(|of| of.members.len());
        array.count == 0 && members == Some(last.index as usize + 1)
    }

    fn advance(&mut self, btf: &Btf, id: u32, index: u32) -> Option<()> {
        let bits = index.checked_mul(btf.size(id)?)?.checked_mul(8)?;
        self.bit_offset = self.bit_offset.checked_add(bits)?;
        Some(())
    }
}

impl Core<'_> {
    /// The same access in a type of the target, if it has it.
    pub(super) fn matched(
        &mut self,
        local: &Spec,
        target: &Btf,
        candidate: u32,
        kind: RelocationKind,
    ) -> Result<Option<Spec>, &'static str> {
        let mut spec = Spec::of(candidate);
        match kind.subject() {
            Subject::Type => {
                let found = if kind == RelocationKind::TypeMatches {
                    self.types_match(target, local.root, candidate)?
                } else {
                    self.types_compatible(target, local.root, candidate)?
                };
                Ok(found.then_some(spec))
            }
            Subject::Enumerator => {
                let step = self.enumerator(local, target, candidate)?;
                Ok(step.map(|step| {
                    spec.steps.push(step);
                    spec
                }))
            }
            Subject::Field => {
                let found = self.field(local, target, candidate, &mut spec)?;
                Ok(found.then_some(spec))
            }
        }
    }

    fn enumerator(
        &mut self,
        local: &Spec,
        target: &Btf,
        candidate: u32,
    ) -> Result<Option<Step>, &'static str> {
        let Some(wanted) = local.steps.first() else { return Ok(None) };
        let Some(Kind::Enum(of)) = self.local.kind(wanted.type_id) else { return Ok(None) };
        let Some(one) = of.enumerators.get(wanted.index as usize) else { return Ok(None) };
        let name = essential(self.local.name(one.name));
        let Some(type_id) = target.resolve_id(candidate) else { return Ok(None) };
        let Some(Kind::Enum(of)) = target.kind(type_id) else { return Ok(None) };
        for (index, one) in (0..).zip(&of.enumerators) {
            self.spend()?;
            if essential(target.name(one.name)) == name {
                return Ok(Some(Step { type_id, index, is_named: true }));
            }
        }
        Ok(None)
    }

    fn field(
        &mut self,
        local: &Spec,
        target: &Btf,
        candidate: u32,
        spec: &mut Spec,
    ) -> Result<bool, &'static str> {
        const WRONG: &str = "CO-RE relocation: the target's types cannot be walked";
        let mut id = candidate;
        for (i, step) in local.steps.iter().enumerate() {
            id = target.resolve_id(id).ok_or(WRONG)?;
            if step.is_named {
                match self.member(step, target, id, spec)? {
                    Some(next) => id = next,
                    None => return Ok(false),
                }
                continue;
            }
            if i > 0 {
                let Some(Kind::Array(array)) = target.kind(id) else { return Ok(false) };
                if !spec.is_open_ended(target, array) && step.index >= array.count {
                    return Ok(false);
                }
                id = target.resolve_id(array.element).ok_or(WRONG)?;
            }
            spec.deeper()?;
            spec.steps.push(Step { type_id: id, ..*step });
            spec.advance(target, id, step.index).ok_or(WRONG)?;
        }
        Ok(true)
    }

    /// The member of that name and of a compatible type, in anonymous structs too; its type
    /// (`bpf_core_match_member`).
    fn member(
        &mut self,
        step: &Step,
        target: &Btf,
        id: u32,
        spec: &mut Spec,
    ) -> Result<Option<u32>, &'static str> {
        let Some(type_id) = target.resolve_id(id) else { return Ok(None) };
        let Some(of) = target.kind(type_id).and_then(Kind::composite) else { return Ok(None) };
        let local = self.local.kind(step.type_id).and_then(Kind::composite);
        let Some(local) = local.and_then(|of| of.members.get(step.index as usize)) else {
            return Ok(None);
        };
        let name = self.local.name(local.name);
        spec.deeper()?;
        let bit_offset = spec.bit_offset;
        for (index, member) in (0..).zip(&of.members) {
            self.spend()?;
            let Some(at) = bit_offset.checked_add(member.bit_offset) else { continue };
            spec.bit_offset = at;
            let found = target.name(member.name);
            if found.is_empty() {
                if let Some(next) = self.member(step, target, member.type_id, spec)? {
                    return Ok(Some(next));
                }
            } else if found == name {
                if !self.fields_compatible(target, local.type_id, member.type_id)? {
                    break;
                }
                spec.steps.push(Step { type_id, index, is_named: true });
                return Ok(Some(member.type_id));
            }
        }
        spec.bit_offset = bit_offset;
        spec.depth -= 1;
        Ok(None)
    }

    /// `bpf_core_fields_are_compat`.
    fn fields_compatible(
        &mut self,
        target: &Btf,
        local: u32,
        other: u32,
    ) -> Result<bool, &'static str> {
        let (mut local, mut other) = (local, other);
        loop {
            self.spend()?;
            let (Some(one), Some(two)) = (self.local.resolve(local), target.resolve(other)) else {
                return Err("CO-RE relocation: a member's type is not there");
            };
            if one.kind.composite().is_some() && two.kind.composite().is_some() {
                return Ok(true);
            }
            if !alike(&one.kind, &two.kind) {
                return Ok(false);
            }
            return Ok(match (&one.kind, &two.kind) {
                (Kind::Pointer(_) | Kind::Float(_), _) => true,
                (Kind::Forward { .. } | Kind::Enum(_), _) => {
                    let (one, two) = (self.local.name(one.name), target.name(two.name));
                    let (one, two) = (essential(one), essential(two));
                    one.is_empty() || two.is_empty() || one == two
                }
                (Kind::Int(one), Kind::Int(two)) => one.offset == 0 && two.offset == 0,
                (Kind::Array(one), Kind::Array(two)) => {
                    (local, other) = (one.element, two.element);
                    continue;
                }
                _ => false,
            });
        }
    }
}

impl Spec {
    fn deeper(&mut self) -> Result<(), &'static str> {
        self.depth += 1;
        if self.depth > MAX_STEPS {
            return Err("CO-RE relocation: the target's types are nested too deeply");
        }
        Ok(())
    }
}
