//! What a comparison says of its operands: whether it is known already, and what either branch
//! learns.

use super::bounds::Bounds;
use super::tnum::Tnum;

/// A comparison, the destination first (`BPF_JEQ` …).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[rustfmt::skip]
pub(crate) enum Comparison {
    Equal, NotEqual, Set, NotSet, Above, AtLeast, Below, AtMost,
    SignedAbove, SignedAtLeast, SignedBelow, SignedAtMost,
}

use Comparison::*;

impl Comparison {
    /// From the upper four bits of an opcode.
    pub(crate) fn of(opcode: u8) -> Option<Comparison> {
        Some(match opcode >> 4 {
            0x1 => Equal,
            0x2 => Above,
            0x3 => AtLeast,
            0x4 => Set,
            0x5 => NotEqual,
            0x6 => SignedAbove,
            0x7 => SignedAtLeast,
            0xa => Below,
            0xb => AtMost,
            0xc => SignedBelow,
            0xd => SignedAtMost,
            _ => return None,
        })
    }

    /// What holds where this does not.
    pub(crate) fn negated(self) -> Comparison {
        match self {
            Equal => NotEqual,
            NotEqual => Equal,
            Set => NotSet,
            NotSet => Set,
            Above => AtMost,
            AtLeast => Below,
            Below => AtLeast,
            AtMost => Above,
            SignedAbove => SignedAtMost,
            SignedAtLeast => SignedBelow,
            SignedBelow => SignedAtLeast,
            SignedAtMost => SignedAbove,
        }
    }

    /// The same with the operands exchanged.
    pub(crate) fn flipped(self) -> Comparison {
        match self {
            Above => Below,
            AtLeast => AtMost,
            Below => Above,
            AtMost => AtLeast,
            SignedAbove => SignedBelow,
            SignedAtLeast => SignedAtMost,
            SignedBelow => SignedAbove,
            SignedAtMost => SignedAtLeast,
            same => same,
        }
    }
}

/// Is `a op b` true, or false, of all members?
pub(crate) fn is_known(op: Comparison, a: &Bounds, b: &Bounds, wide: bool) -> Option<bool> {
    if !wide {
        return is_known32(op, a, b);
    }
    let ordered = |never: bool, always: bool| match (never, always) {
        (true, _) => Some(false),
        (_, true) => Some(true),
        _ => None,
    };
    match op {
        Equal => equal(a, b),
        NotEqual => equal(a, b).map(|equal| !equal),
        Set => set(a.bits, b.bits),
        NotSet => set(a.bits, b.bits).map(|set| !set),
        Above => ordered(a.umax <= b.umin, a.umin > b.umax),
        AtLeast => ordered(a.umax < b.umin, a.umin >= b.umax),
        SignedAbove => ordered(a.smax <= b.smin, a.smin > b.smax),
        SignedAtLeast => ordered(a.smax < b.smin, a.smin >= b.smax),
        Below | AtMost | SignedBelow | SignedAtMost => is_known(op.flipped(), b, a, wide),
    }
}

fn is_known32(op: Comparison, a: &Bounds, b: &Bounds) -> Option<bool> {
    let ordered = |never: bool, always: bool| match (never, always) {
        (true, _) => Some(false),
        (_, true) => Some(true),
        _ => None,
    };
    match op {
        Equal => equal32(a, b),
        NotEqual => equal32(a, b).map(|equal| !equal),
        Set => set(a.bits.low(), b.bits.low()),
        NotSet => set(a.bits.low(), b.bits.low()).map(|set| !set),
        Above => ordered(a.umax32 <= b.umin32, a.umin32 > b.umax32),
        AtLeast => ordered(a.umax32 < b.umin32, a.umin32 >= b.umax32),
        SignedAbove => ordered(a.smax32 <= b.smin32, a.smin32 > b.smax32),
        SignedAtLeast => ordered(a.smax32 < b.smin32, a.smin32 >= b.smax32),
        Below | AtMost | SignedBelow | SignedAtMost => is_known32(op.flipped(), b, a),
    }
}

fn equal(a: &Bounds, b: &Bounds) -> Option<bool> {
    if a.bits.is_constant() && b.bits.is_constant() {
        return Some(a.bits.value == b.bits.value);
    }
    let apart = !a.bits.overlaps(b.bits)
        || a.umin > b.umax
        || a.umax < b.umin
        || a.smin > b.smax
        || a.smax < b.smin;
    // Neither half can be equal if the low ones are apart.
    let apart32 =
        a.umin32 > b.umax32 || a.umax32 < b.umin32 || a.smin32 > b.smax32 || a.smax32 < b.smin32;
    (apart || apart32).then_some(false)
}

fn equal32(a: &Bounds, b: &Bounds) -> Option<bool> {
    let (x, y) = (a.bits.low(), b.bits.low());
    if x.is_constant() && y.is_constant() {
        return Some(x.value == y.value);
    }
    let apart = !x.overlaps(y)
        || a.umin32 > b.umax32
        || a.umax32 < b.umin32
        || a.smin32 > b.smax32
        || a.smax32 < b.smin32;
    apart.then_some(false)
}

fn set(a: Tnum, b: Tnum) -> Option<bool> {
    let mask = match (b.is_constant(), a.is_constant()) {
        (true, _) => (b.value, a),
        (_, true) => (a.value, b),
        _ => return None,
    };
    let (mask, tested) = mask;
    if tested.value & mask != 0 {
        Some(true)
    } else if tested.highest() & mask == 0 {
        Some(false)
    } else {
        None
    }
}

/// Narrows both operands to members for which `a op b` holds.
pub(crate) fn refine(op: Comparison, a: &mut Bounds, b: &mut Bounds, wide: bool) {
    match op {
        Above | AtLeast | SignedAbove | SignedAtLeast => {
            return refine(op.flipped(), b, a, wide);
        }
        Equal if wide => refine_equal(a, b),
        Equal => refine_equal32(a, b),
        NotEqual => refine_not_equal(a, b, wide),
        Set | NotSet => refine_set(op == Set, a, b, wide),
        AtMost if wide => {
            a.umax = a.umax.min(b.umax);
            b.umin = b.umin.max(a.umin);
        }
        AtMost => {
            a.umax32 = a.umax32.min(b.umax32);
            b.umin32 = b.umin32.max(a.umin32);
        }
        Below if wide => {
            a.umax = a.umax.min(b.umax.wrapping_sub(1));
            b.umin = b.umin.max(a.umin.wrapping_add(1));
        }
        Below => {
            a.umax32 = a.umax32.min(b.umax32.wrapping_sub(1));
            b.umin32 = b.umin32.max(a.umin32.wrapping_add(1));
        }
        SignedAtMost if wide => {
            a.smax = a.smax.min(b.smax);
            b.smin = b.smin.max(a.smin);
        }
        SignedAtMost => {
            a.smax32 = a.smax32.min(b.smax32);
            b.smin32 = b.smin32.max(a.smin32);
        }
        SignedBelow if wide => {
            a.smax = a.smax.min(b.smax.wrapping_sub(1));
            b.smin = b.smin.max(a.smin.wrapping_add(1));
        }
        SignedBelow => {
            a.smax32 = a.smax32.min(b.smax32.wrapping_sub(1));
            b.smin32 = b.smin32.max(a.smin32.wrapping_add(1));
        }
    }
    for bounds in [a, b] {
        bounds.settle();
        // Contradictions come from branches that are never taken.
        if bounds.is_empty() {
            *bounds = Bounds::UNKNOWN;
        }
    }
}

fn refine_equal(a: &mut Bounds, b: &mut Bounds) {
    a.umin = a.umin.max(b.umin);
    a.umax = a.umax.min(b.umax);
    a.smin = a.smin.max(b.smin);
    a.smax = a.smax.min(b.smax);
    a.bits = a.bits.intersect(b.bits);
    (b.umin, b.umax, b.smin, b.smax, b.bits) = (a.umin, a.umax, a.smin, a.smax, a.bits);
    refine_equal32_ranges(a, b);
}

fn refine_equal32_ranges(a: &mut Bounds, b: &mut Bounds) {
    a.umin32 = a.umin32.max(b.umin32);
    a.umax32 = a.umax32.min(b.umax32);
    a.smin32 = a.smin32.max(b.smin32);
    a.smax32 = a.smax32.min(b.smax32);
    (b.umin32, b.umax32, b.smin32, b.smax32) = (a.umin32, a.umax32, a.smin32, a.smax32);
}

fn refine_equal32(a: &mut Bounds, b: &mut Bounds) {
    refine_equal32_ranges(a, b);
    let low = a.bits.low().intersect(b.bits.low());
    a.bits = a.bits.with_low(low);
    b.bits = b.bits.with_low(low);
}

/// Only a constant at the other's end says anything.
fn refine_not_equal(a: &mut Bounds, b: &mut Bounds, wide: bool) {
    let is_constant = |bounds: &Bounds| {
        if wide { bounds.bits.is_constant() } else { bounds.bits.low().is_constant() }
    };
    let (a, b) = if is_constant(b) { (a, b) } else { (b, a) };
    if !is_constant(b) {
        return;
    }
    if wide {
        let value = b.bits.value;
        a.umin += u64::from(a.umin == value && value < u64::MAX);
        a.umax -= u64::from(a.umax == value && value > 0);
        a.smin += i64::from(a.smin == value as i64 && (value as i64) < i64::MAX);
        a.smax -= i64::from(a.smax == value as i64 && value as i64 > i64::MIN);
    } else {
        let value = b.bits.value as u32;
        a.umin32 += u32::from(a.umin32 == value && value < u32::MAX);
        a.umax32 -= u32::from(a.umax32 == value && value > 0);
        a.smin32 += i32::from(a.smin32 == value as i32 && (value as i32) < i32::MAX);
        a.smax32 -= i32::from(a.smax32 == value as i32 && value as i32 > i32::MIN);
    }
}

/// A constant of one bit is learned when it is set; all of a constant's bits when none is.
fn refine_set(is_set: bool, a: &mut Bounds, b: &mut Bounds, wide: bool) {
    let constant = |bounds: &Bounds| {
        if wide { bounds.as_constant() } else { bounds.as_constant32().map(u64::from) }
    };
    let (a, mask) = match (constant(b), constant(a)) {
        (Some(mask), _) => (a, mask),
        (None, Some(mask)) => (b, mask),
        _ => return,
    };
    if is_set && mask.is_power_of_two() {
        a.bits = a.bits.or(Tnum::constant(mask));
    } else if !is_set {
        a.bits = a.bits.and(Tnum::constant(!mask));
    }
}

#[cfg(test)]
mod tests {
    use super::{Bounds, Comparison, is_known, refine};
    use Comparison::*;

    fn holds(op: Comparison, a: u64, b: u64, wide: bool) -> bool {
        let (a, b) = if wide { (a, b) } else { (u64::from(a as u32), u64::from(b as u32)) };
        let signed = |value: u64| if wide { value as i64 } else { i64::from(value as u32 as i32) };
        match op {
            Equal => a == b,
            NotEqual => a != b,
            Set => a & b != 0,
            NotSet => a & b == 0,
            Above => a > b,
            AtLeast => a >= b,
            Below => a < b,
            AtMost => a <= b,
            SignedAbove => signed(a) > signed(b),
            SignedAtLeast => signed(a) >= signed(b),
            SignedBelow => signed(a) < signed(b),
            SignedAtMost => signed(a) <= signed(b),
        }
    }

    #[test]
    fn branches_lose_no_member() {
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for start in [0_u64, 3, 0x7fff_fffe, 0xffff_fffe, 1 << 32, u64::MAX - 3, i64::MAX as u64] {
            for length in [0, 1, 3] {
                ranges.push((start, start.saturating_add(length)));
            }
        }
        let ops = (1..14_u8).filter_map(|nibble| Comparison::of(nibble << 4));
        for op in ops.flat_map(|op| [op, op.negated()]) {
            for (low, high) in &ranges {
                for (other_low, other_high) in &ranges {
                    for wide in [false, true] {
                        let make = |low: u64, high: u64| {
                            let mut made = Bounds { umin: low, umax: high, ..Bounds::UNKNOWN };
                            made.settle();
                            made
                        };
                        let (a, b) = (make(*low, *high), make(*other_low, *other_high));
                        let known = is_known(op, &a, &b, wide);
                        let (mut x, mut y) = (a, b);
                        refine(op, &mut x, &mut y, wide);
                        for p in *low..=*high {
                            for q in *other_low..=*other_high {
                                let truth = holds(op, p, q, wide);
                                assert!(known.is_none_or(|known| known == truth), "{op:?} {p} {q}");
                                if truth {
                                    assert!(
                                        x.holds(p) && y.holds(q),
                                        "{op:?} {p:#x} {q:#x} {wide}"
                                    );
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}
