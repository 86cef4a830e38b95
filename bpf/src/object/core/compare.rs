//! Are two types alike (libbpf's `bpf_core_types_are_compat` and `bpf_core_types_match`)?

use super::{Core, alike, essential};
use crate::btf::{Btf, Composite, Enumeration, Kind};

/// How deep prototypes and structs are compared.
const MAX_LEVEL: u32 = 32;
const TOO_DEEP: &str = "CO-RE relocation: types are nested too deeply to be compared";

impl Core<'_> {
    /// One step of comparing.
    pub(super) fn spend(&mut self) -> Result<(), &'static str> {
        self.steps = self.steps.checked_sub(1).ok_or("CO-RE relocations take too many steps")?;
        Ok(())
    }

    /// The caller has made sure that their names match.
    pub(super) fn types_compatible(
        &mut self,
        target: &Btf,
        local: u32,
        other: u32,
    ) -> Result<bool, &'static str> {
        self.compatible(target, local, other, MAX_LEVEL)
    }

    fn compatible(
        &mut self,
        target: &Btf,
        local: u32,
        other: u32,
        level: u32,
    ) -> Result<bool, &'static str> {
        let (mut local, mut other) = (local, other);
        for _ in 0..MAX_LEVEL {
            self.spend()?;
            let btf = self.local;
            let (Some(one), Some(two)) = (btf.resolve(local), target.resolve(other)) else {
                return Err(TOO_DEEP);
            };
            if !alike(&one.kind, &two.kind) {
                return Ok(false);
            }
            (local, other) = match (&one.kind, &two.kind) {
                (
                    Kind::Void
                    | Kind::Struct(_)
                    | Kind::Union(_)
                    | Kind::Enum(_)
                    | Kind::Forward { .. },
                    _,
                ) => return Ok(true),
                (Kind::Int(one), Kind::Int(two)) => return Ok(one.offset == 0 && two.offset == 0),
                (Kind::Pointer(one), Kind::Pointer(two)) => (*one, *two),
                (Kind::Array(one), Kind::Array(two)) => (one.element, two.element),
                (Kind::Prototype(one), Kind::Prototype(two)) => {
                    if one.parameters.len() != two.parameters.len() {
                        return Ok(false);
                    }
                    for (one, two) in one.parameters.iter().zip(&two.parameters) {
                        let level = level.checked_sub(1).ok_or(TOO_DEEP)?;
                        if !self.compatible(target, one.type_id, two.type_id, level)? {
                            return Ok(false);
                        }
                    }
                    (one.returns, two.returns)
                }
                _ => return Ok(false),
            };
        }
        Err(TOO_DEEP)
    }

    pub(super) fn types_match(
        &mut self,
        target: &Btf,
        local: u32,
        other: u32,
    ) -> Result<bool, &'static str> {
        self.matches(target, local, other, false, MAX_LEVEL)
    }

    fn matches(
        &mut self,
        target: &Btf,
        local: u32,
        other: u32,
        behind_pointer: bool,
        level: u32,
    ) -> Result<bool, &'static str> {
        if level == 0 {
            return Err(TOO_DEEP);
        }
        let (mut local, mut other, mut behind) = (local, other, behind_pointer);
        for _ in 0..MAX_LEVEL {
            self.spend()?;
            let btf = self.local;
            let (Some(one), Some(two)) = (btf.resolve(local), target.resolve(other)) else {
                return Err(TOO_DEEP);
            };
            if !names_match(btf.name(one.name), target.name(two.name)) {
                return Ok(false);
            }
            (local, other) = match (&one.kind, &two.kind) {
                (Kind::Void, Kind::Void) => return Ok(true),
                (Kind::Forward { is_union: one }, Kind::Forward { is_union: two }) => {
                    return Ok(one == two);
                }
                (Kind::Forward { is_union }, two) => {
                    return Ok(behind && declares(*is_union, two));
                }
                (Kind::Enum(one), Kind::Enum(two)) => return self.enums_match(target, one, two),
                (Kind::Struct(one), Kind::Struct(two)) | (Kind::Union(one), Kind::Union(two)) => {
                    return if behind {
                        Ok(true)
                    } else {
                        self.composites_match(target, one, two, level)
                    };
                }
                (Kind::Struct(_), Kind::Forward { is_union }) => return Ok(behind && !is_union),
                (Kind::Union(_), Kind::Forward { is_union }) => return Ok(behind && *is_union),
                (Kind::Int(one), Kind::Int(two)) => {
                    return Ok(one.size == two.size && one.is_signed() == two.is_signed());
                }
                (Kind::Pointer(one), Kind::Pointer(two)) => {
                    behind = true;
                    (*one, *two)
                }
                (Kind::Array(one), Kind::Array(two)) if one.count == two.count => {
                    (one.element, two.element)
                }
                (Kind::Prototype(one), Kind::Prototype(two)) => {
                    if one.parameters.len() != two.parameters.len() {
                        return Ok(false);
                    }
                    for (one, two) in one.parameters.iter().zip(&two.parameters) {
                        let (one, two) = (one.type_id, two.type_id);
                        if !self.matches(target, one, two, behind, level - 1)? {
                            return Ok(false);
                        }
                    }
                    (one.returns, two.returns)
                }
                _ => return Ok(false),
            };
        }
        Err(TOO_DEEP)
    }

    /// Each name of ours is one of theirs.
    fn enums_match(
        &mut self,
        target: &Btf,
        one: &Enumeration,
        two: &Enumeration,
    ) -> Result<bool, &'static str> {
        for ours in &one.enumerators {
            let mut found = false;
            for theirs in &two.enumerators {
                self.spend()?;
                found |= names_match(self.local.name(ours.name), target.name(theirs.name));
                if found {
                    break;
                }
            }
            if !found {
                return Ok(false);
            }
        }
        Ok(one.enumerators.len() <= two.enumerators.len())
    }

    /// Each member of ours is one of theirs.
    fn composites_match(
        &mut self,
        target: &Btf,
        one: &Composite,
        two: &Composite,
        level: u32,
    ) -> Result<bool, &'static str> {
        if one.members.len() > two.members.len() {
            return Ok(false);
        }
        for ours in &one.members {
            let mut found = false;
            for theirs in &two.members {
                self.spend()?;
                if !names_match(self.local.name(ours.name), target.name(theirs.name)) {
                    continue;
                }
                found = self.matches(target, ours.type_id, theirs.type_id, false, level - 1)?;
                if found {
                    break;
                }
            }
            if !found {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Is a kind what `struct x;` or `union x;` declares?
fn declares(is_union: bool, kind: &Kind) -> bool {
    match kind {
        Kind::Struct(_) => !is_union,
        Kind::Union(_) => is_union,
        _ => false,
    }
}

/// Names are the same without their flavours.
fn names_match(local: &str, target: &str) -> bool {
    essential(local) == essential(target)
}
