//! What an instruction is to hold: before, as clang put it, and after (libbpf's
//! `bpf_core_calc_field_relo` and its like).

use super::RelocationKind;
use super::spec::Spec;
use crate::btf::{Btf, Int, Kind};

/// What becomes of an instruction (struct bpf_core_relo_res).
#[derive(Clone, Debug, Default)]
pub(super) struct Outcome {
    /// What clang put in.
    pub(super) old_value: u64,
    pub(super) new_value: u64,
    /// The target has no such thing: reaching the instruction is to fail.
    pub(super) poison: bool,
    /// Must the instruction hold `old_value`?
    pub(super) validate: bool,
    /// Bytes that a load or a store is to move; 0 if that is not known.
    pub(super) old_size: u32,
    pub(super) new_size: u32,
    /// The sizes differ in a way that a load cannot make up for.
    pub(super) wrong_size: bool,
}

impl Outcome {
    pub(super) fn local_id(id: u32) -> Outcome {
        Outcome { old_value: id.into(), new_value: id.into(), ..Outcome::default() }
    }
}

/// One side's answer. `None` is what cannot be answered without the type.
struct Answer {
    value: u64,
    validate: bool,
    /// What a load or a store moves: bytes and type.
    moved: Option<(u32, u32)>,
}

impl Answer {
    fn checked(value: u64) -> Answer {
        Answer { value, validate: true, moved: None }
    }
}

pub(super) fn outcome(
    local_btf: &Btf,
    local: &Spec,
    target: Option<(&Btf, &Spec)>,
    kind: RelocationKind,
) -> Result<Outcome, &'static str> {
    let old = answer(Some((local_btf, local)), kind)?;
    let new = answer(target, kind)?;
    let (Some(old), Some(new)) = (old, new) else {
        return Ok(Outcome { poison: true, ..Outcome::default() });
    };
    let mut outcome = Outcome {
        old_value: old.value,
        new_value: new.value,
        validate: old.validate,
        ..Outcome::default()
    };
    if let (Some((old_size, old_type)), Some((new_size, new_type)), Some((target, _))) =
        (old.moved, new.moved, target)
    {
        (outcome.old_size, outcome.new_size) = (old_size, new_size);
        let kinds = (local_btf.kind(old_type), target.kind(new_type));
        outcome.wrong_size = old_size != new_size && !is_adjustable(kinds);
    }
    Ok(outcome)
}

/// Loads of pointers and of unsigned integers may change their size.
fn is_adjustable(kinds: (Option<&Kind>, Option<&Kind>)) -> bool {
    match kinds {
        (Some(Kind::Pointer(_)), Some(Kind::Pointer(_))) => true,
        (Some(Kind::Int(old)), Some(Kind::Int(new))) => {
            old.encoding != Int::SIGNED && new.encoding != Int::SIGNED
        }
        _ => false,
    }
}

fn answer(
    side: Option<(&Btf, &Spec)>,
    kind: RelocationKind,
) -> Result<Option<Answer>, &'static str> {
    use RelocationKind::*;
    const WRONG: &str = "CO-RE relocation of a type without a size";
    let found = u64::from(side.is_some());
    Ok(match (kind, side) {
        (FieldExists | TypeExists | TypeMatches | EnumeratorExists, _) => {
            Some(Answer::checked(found))
        }
        (TypeIdTarget | TypeIdLocal, Some((_, spec))) => {
            Some(Answer { value: spec.root.into(), validate: false, moved: None })
        }
        (TypeSize, Some((btf, spec))) => {
            Some(Answer::checked(btf.size(spec.root).ok_or(WRONG)?.into()))
        }
        (TypeIdTarget | TypeIdLocal | TypeSize, None) => Some(Answer::checked(0)),
        (_, None) => None,
        (EnumeratorValue, Some((btf, spec))) => {
            Some(Answer::checked(enumerator(btf, spec).ok_or(WRONG)? as u64))
        }
        (_, Some((btf, spec))) => Some(field(btf, spec, kind)?),
    })
}

fn enumerator(btf: &Btf, spec: &Spec) -> Option<i64> {
    let step = spec.steps.first()?;
    let Kind::Enum(of) = btf.kind(step.type_id)? else { return None };
    Some(of.enumerators.get(step.index as usize)?.value)
}

/// Where and how large a field is; of a bitfield: the smallest aligned integer that holds it.
fn field(btf: &Btf, spec: &Spec, kind: RelocationKind) -> Result<Answer, &'static str> {
    const WRONG: &str = "CO-RE relocation of a field without a size";
    let step = spec.steps.last().ok_or(WRONG)?;
    if !step.is_named {
        let size = btf.size(step.type_id).ok_or(WRONG)?;
        return match kind {
            RelocationKind::FieldByteOffset => Ok(Answer {
                value: u64::from(spec.bit_offset / 8),
                validate: true,
                moved: Some((size, step.type_id)),
            }),
            RelocationKind::FieldByteSize => Ok(Answer::checked(size.into())),
            _ => Err("CO-RE relocation of this kind is of fields, not of elements"),
        };
    }
    let of = btf.kind(step.type_id).and_then(Kind::composite).ok_or(WRONG)?;
    let member = of.members.get(step.index as usize).ok_or(WRONG)?;
    let type_id = btf.resolve_id(member.type_id).ok_or(WRONG)?;
    let size = btf.size(type_id).ok_or(WRONG)?;
    let is_bitfield = member.bit_size != 0;
    let (bytes, at, bits) = if is_bitfield {
        let (bytes, at) = container(spec.bit_offset, member.bit_size.into(), size)?;
        (bytes, at, u64::from(member.bit_size))
    } else {
        (size, spec.bit_offset / 8, u64::from(size) * 8)
    };
    let end = u64::from(spec.bit_offset) + bits - u64::from(at) * 8;
    let unchecked = |value| Answer { value, validate: !is_bitfield, moved: None };
    Ok(match kind {
        RelocationKind::FieldByteOffset => {
            Answer { moved: (!is_bitfield).then_some((bytes, type_id)), ..unchecked(at.into()) }
        }
        RelocationKind::FieldByteSize => unchecked(bytes.into()),
        RelocationKind::FieldSigned => Answer::checked(u64::from(is_signed(btf, type_id))),
        RelocationKind::FieldLshift => unchecked(64_u64.wrapping_sub(end)),
        _ => Answer::checked(64_u64.wrapping_sub(bits)),
    })
}

fn is_signed(btf: &Btf, id: u32) -> bool {
    match btf.kind(id) {
        Some(Kind::Enum(of)) => of.signed,
        Some(Kind::Int(int)) => int.is_signed(),
        _ => false,
    }
}

/// The smallest aligned integer, from the field's own upwards, that holds all bits: bytes and
/// offset.
fn container(bit_offset: u32, bits: u32, size: u32) -> Result<(u32, u32), &'static str> {
    const WRONG: &str = "CO-RE relocation of a bitfield that no integer of 64 bits holds";
    let mut bytes = size;
    loop {
        if bytes == 0 {
            return Err(WRONG);
        }
        let at = bit_offset / 8 / bytes * bytes;
        if u64::from(bit_offset) + u64::from(bits) - u64::from(at) * 8 <= u64::from(bytes) * 8 {
            return Ok((bytes, at));
        }
        if bytes >= 8 {
            return Err(WRONG);
        }
        bytes *= 2;
    }
}
