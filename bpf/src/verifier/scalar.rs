//! Arithmetic over [`Bounds`]: the least bounds that are cheap to find and hold every result.

use super::bounds::Bounds;
use super::tnum::Tnum;
use crate::insn::Insn;

/// The operation of an ALU instruction's upper four bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
#[rustfmt::skip]
pub(crate) enum Operation {
    Add, Sub, Mul, Div, Or, And, Lsh, Rsh, Neg, Mod, Xor, Mov, Arsh, End,
}

impl Operation {
    pub(crate) fn of(insn: Insn) -> Option<Operation> {
        use Operation::*;
        const ALL: [Operation; 14] =
            [Add, Sub, Mul, Div, Or, And, Lsh, Rsh, Neg, Mod, Xor, Mov, Arsh, End];
        ALL.get(usize::from(insn.opcode >> 4)).copied()
    }
}

/// `a op b`. `wide` is 64 bits; otherwise the low halves are taken and the high one becomes zero.
/// What is not bounded here (division, shifts by what is not constant) is unknown.
pub(crate) fn compute(op: Operation, a: &Bounds, b: &Bounds, wide: bool) -> Bounds {
    if !is_computable(op, b, wide) {
        return Bounds::UNKNOWN;
    }
    let mut result = *a;
    match op {
        Operation::Add => add(&mut result, b),
        Operation::Sub => sub(&mut result, b),
        Operation::Mul => mul(&mut result, b),
        Operation::And => and(&mut result, b),
        Operation::Or => or(&mut result, b),
        Operation::Xor => xor(&mut result, b),
        Operation::Neg => {
            result = Bounds::constant(0);
            sub(&mut result, a);
        }
        // Shifts are by a constant below the width.
        Operation::Lsh if wide => shift_left(&mut result, b.umin as u32),
        Operation::Lsh => shift_left32(&mut result, b.umin as u32),
        Operation::Rsh if wide => shift_right(&mut result, b.umin as u32),
        Operation::Rsh => shift_right32(&mut result, b.umin as u32),
        _ if wide => shift_arithmetic(&mut result, b.umin as u32),
        _ => shift_arithmetic32(&mut result, b.umin as u32),
    }
    if wide {
        result.settle()
    } else {
        result.zero_extend32()
    }
    result
}

/// The low `size` bytes, swapped or not.
pub(crate) fn reorder(a: &Bounds, size: u32, swap: bool) -> Bounds {
    let mut result = *a;
    if swap {
        let swapped = |bits: u64| bits.swap_bytes() >> (64 - size * 8);
        let bits = Tnum { value: swapped(a.bits.value), mask: swapped(a.bits.mask) };
        result = Bounds { bits, ..Bounds::UNKNOWN };
        result.settle();
    }
    result.truncate(size);
    result
}

fn is_computable(op: Operation, b: &Bounds, wide: bool) -> bool {
    let contradicts = if wide {
        b.smin > b.smax || b.umin > b.umax
    } else {
        b.smin32 > b.smax32 || b.umin32 > b.umax32
    };
    match op {
        _ if contradicts => false,
        Operation::Lsh | Operation::Rsh | Operation::Arsh if wide => {
            b.bits.is_constant() && b.umax < 64
        }
        Operation::Lsh | Operation::Rsh | Operation::Arsh => {
            b.bits.low().is_constant() && b.umax < 32
        }
        Operation::Div | Operation::Mod | Operation::Mov | Operation::End => false,
        _ => true,
    }
}

/// Unsigned ends that both wrap, or both do not, still bound what is between them.
fn add(a: &mut Bounds, b: &Bounds) {
    match (a.smin.checked_add(b.smin), a.smax.checked_add(b.smax)) {
        (Some(low), Some(high)) => (a.smin, a.smax) = (low, high),
        _ => a.forget_signed(),
    }
    let (low, high) = (a.umin.overflowing_add(b.umin), a.umax.overflowing_add(b.umax));
    (a.umin, a.umax) = if low.1 == high.1 { (low.0, high.0) } else { (0, u64::MAX) };
    match (a.smin32.checked_add(b.smin32), a.smax32.checked_add(b.smax32)) {
        (Some(low), Some(high)) => (a.smin32, a.smax32) = (low, high),
        _ => a.forget_signed32(),
    }
    let (low, high) = (a.umin32.overflowing_add(b.umin32), a.umax32.overflowing_add(b.umax32));
    (a.umin32, a.umax32) = if low.1 == high.1 { (low.0, high.0) } else { (0, u32::MAX) };
    a.bits = a.bits.add(b.bits);
}

fn sub(a: &mut Bounds, b: &Bounds) {
    match (a.smin.checked_sub(b.smax), a.smax.checked_sub(b.smin)) {
        (Some(low), Some(high)) => (a.smin, a.smax) = (low, high),
        _ => a.forget_signed(),
    }
    let (low, high) = (a.umin.overflowing_sub(b.umax), a.umax.overflowing_sub(b.umin));
    (a.umin, a.umax) = if low.1 == high.1 { (low.0, high.0) } else { (0, u64::MAX) };
    match (a.smin32.checked_sub(b.smax32), a.smax32.checked_sub(b.smin32)) {
        (Some(low), Some(high)) => (a.smin32, a.smax32) = (low, high),
        _ => a.forget_signed32(),
    }
    let (low, high) = (a.umin32.overflowing_sub(b.umax32), a.umax32.overflowing_sub(b.umin32));
    (a.umin32, a.umax32) = if low.1 == high.1 { (low.0, high.0) } else { (0, u32::MAX) };
    a.bits = a.bits.sub(b.bits);
}

/// Signed products are extreme at the corners.
fn mul(a: &mut Bounds, b: &Bounds) {
    match (a.umin.checked_mul(b.umin), a.umax.checked_mul(b.umax)) {
        (Some(low), Some(high)) => (a.umin, a.umax) = (low, high),
        _ => a.forget_unsigned(),
    }
    let corner = |x: i64, y: i64| x.checked_mul(y);
    let corners = (|| {
        let all = [
            corner(a.smin, b.smin)?,
            corner(a.smin, b.smax)?,
            corner(a.smax, b.smin)?,
            corner(a.smax, b.smax)?,
        ];
        Some((*all.iter().min()?, *all.iter().max()?))
    })();
    match corners {
        Some(ends) => (a.smin, a.smax) = ends,
        None => a.forget_signed(),
    }
    match (a.umin32.checked_mul(b.umin32), a.umax32.checked_mul(b.umax32)) {
        (Some(low), Some(high)) => (a.umin32, a.umax32) = (low, high),
        _ => a.forget_unsigned32(),
    }
    let corner = |x: i32, y: i32| x.checked_mul(y);
    let corners = (|| {
        let all = [
            corner(a.smin32, b.smin32)?,
            corner(a.smin32, b.smax32)?,
            corner(a.smax32, b.smin32)?,
            corner(a.smax32, b.smax32)?,
        ];
        Some((*all.iter().min()?, *all.iter().max()?))
    })();
    match corners {
        Some(ends) => (a.smin32, a.smax32) = ends,
        None => a.forget_signed32(),
    }
    a.bits = a.bits.mul(b.bits);
}

fn and(a: &mut Bounds, b: &Bounds) {
    a.bits = a.bits.and(b.bits);
    a.umin = a.bits.value;
    a.umax = a.umax.min(b.umax);
    a.umin32 = a.bits.value as u32;
    a.umax32 = a.umax32.min(b.umax32);
    signed_from_unsigned(a);
}

fn or(a: &mut Bounds, b: &Bounds) {
    a.bits = a.bits.or(b.bits);
    a.umin = a.umin.max(b.umin);
    a.umax = a.bits.highest();
    a.umin32 = a.umin32.max(b.umin32);
    a.umax32 = a.bits.highest() as u32;
    signed_from_unsigned(a);
}

fn xor(a: &mut Bounds, b: &Bounds) {
    a.bits = a.bits.xor(b.bits);
    (a.umin, a.umax) = (a.bits.value, a.bits.highest());
    (a.umin32, a.umax32) = (a.bits.value as u32, a.bits.highest() as u32);
    signed_from_unsigned(a);
}

/// Where the unsigned range does not cross the sign, it is the signed one too.
fn signed_from_unsigned(a: &mut Bounds) {
    if a.umin as i64 <= a.umax as i64 {
        (a.smin, a.smax) = (a.umin as i64, a.umax as i64);
    } else {
        a.forget_signed();
    }
    if a.umin32 as i32 <= a.umax32 as i32 {
        (a.smin32, a.smax32) = (a.umin32 as i32, a.umax32 as i32);
    } else {
        a.forget_signed32();
    }
}

fn shift_left(a: &mut Bounds, by: u32) {
    // Shifting by 32 is how a compiler begins to sign-extend a word.
    if by == 32 {
        (a.smin, a.smax) = (i64::from(a.smin32) << 32, i64::from(a.smax32) << 32);
    } else {
        a.forget_signed();
    }
    if by > 0 && a.umax > 1 << (63 - by) {
        a.forget_unsigned();
    } else {
        (a.umin, a.umax) = (a.umin << by, a.umax << by);
    }
    a.bits = a.bits.shl(by);
    a.forget32();
    a.ranges_from_bits();
}

fn shift_left32(a: &mut Bounds, by: u32) {
    if a.umax32 > 1 << (31 - by) {
        a.forget_unsigned32();
    } else {
        (a.umin32, a.umax32) = (a.umin32 << by, a.umax32 << by);
    }
    a.forget_signed32();
    a.bits = a.bits.low().shl(by).low();
    a.forget64();
    a.ranges_from_bits();
}

fn shift_right(a: &mut Bounds, by: u32) {
    a.forget_signed();
    (a.umin, a.umax) = (a.umin >> by, a.umax >> by);
    a.bits = a.bits.shr(by);
    a.forget32();
    a.ranges_from_bits();
}

fn shift_right32(a: &mut Bounds, by: u32) {
    a.forget_signed32();
    (a.umin32, a.umax32) = (a.umin32 >> by, a.umax32 >> by);
    a.bits = a.bits.low().shr(by);
    a.forget64();
    a.ranges_from_bits();
}

fn shift_arithmetic(a: &mut Bounds, by: u32) {
    (a.smin, a.smax) = (a.smin >> by, a.smax >> by);
    a.bits = a.bits.sar(by, true);
    a.forget_unsigned();
    a.forget32();
    a.ranges_from_bits();
}

fn shift_arithmetic32(a: &mut Bounds, by: u32) {
    (a.smin32, a.smax32) = (a.smin32 >> by, a.smax32 >> by);
    a.bits = a.bits.low().sar(by, false);
    a.forget_unsigned32();
    a.forget64();
    a.ranges_from_bits();
}

#[cfg(test)]
mod tests {
    use super::{Operation, compute};
    use crate::verifier::bounds::Bounds;
    use crate::verifier::tnum::Tnum;

    /// Small ranges around every place where something wraps.
    fn ranges() -> Vec<Vec<u64>> {
        let mut all = Vec::new();
        for start in [0_u64, 1, 5, 126, 0x7fff_fffe, 0xffff_fffd, 1 << 40, i64::MAX as u64 - 2] {
            for length in [1_u64, 2, 4, 7] {
                all.push((0..length).map(|i| start.wrapping_add(i)).collect());
                all.push((0..length).map(|i| start.wrapping_neg().wrapping_add(i)).collect());
            }
        }
        all
    }

    fn hull(values: &[u64]) -> Bounds {
        let first = Tnum::constant(values[0]);
        let signed = values.iter().map(|value| *value as i64);
        let narrow = values.iter().map(|value| *value as u32);
        let mut hull = Bounds {
            bits: values.iter().fold(first, |bits, value| bits.union(Tnum::constant(*value))),
            smin: signed.clone().min().unwrap(),
            smax: signed.max().unwrap(),
            umin: *values.iter().min().unwrap(),
            umax: *values.iter().max().unwrap(),
            smin32: narrow.clone().map(|value| value as i32).min().unwrap(),
            smax32: narrow.clone().map(|value| value as i32).max().unwrap(),
            umin32: narrow.clone().min().unwrap(),
            umax32: narrow.max().unwrap(),
        };
        hull.settle();
        hull
    }

    fn concretely(op: Operation, a: u64, b: u64, wide: bool) -> u64 {
        let shift = b as u32;
        if wide {
            return match op {
                Operation::Add => a.wrapping_add(b),
                Operation::Sub => a.wrapping_sub(b),
                Operation::Mul => a.wrapping_mul(b),
                Operation::And => a & b,
                Operation::Or => a | b,
                Operation::Xor => a ^ b,
                Operation::Neg => a.wrapping_neg(),
                Operation::Lsh => a.wrapping_shl(shift),
                Operation::Rsh => a.wrapping_shr(shift),
                _ => (a as i64).wrapping_shr(shift) as u64,
            };
        }
        let (a, b) = (a as u32, b as u32);
        u64::from(match op {
            Operation::Add => a.wrapping_add(b),
            Operation::Sub => a.wrapping_sub(b),
            Operation::Mul => a.wrapping_mul(b),
            Operation::And => a & b,
            Operation::Or => a | b,
            Operation::Xor => a ^ b,
            Operation::Neg => a.wrapping_neg(),
            Operation::Lsh => a.wrapping_shl(shift),
            Operation::Rsh => a.wrapping_shr(shift),
            _ => (a as i32).wrapping_shr(shift) as u32,
        })
    }

    #[test]
    fn results_hold_whatever_the_operands_hold() {
        use Operation::*;
        let ranges = ranges();
        for op in [Add, Sub, Mul, And, Or, Xor, Neg, Lsh, Rsh, Arsh] {
            for a in &ranges {
                for b in &ranges {
                    for wide in [false, true] {
                        let result = compute(op, &hull(a), &hull(b), wide);
                        for x in a {
                            for y in b {
                                let value = concretely(op, *x, *y, wide);
                                assert!(
                                    result.holds(value),
                                    "{op:?} {wide} {x:#x} {y:#x}: {value:#x} {result:x?}"
                                );
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn constants_stay_constants() {
        let (a, b) = (Bounds::constant(40), Bounds::constant(2));
        assert_eq!(compute(Operation::Mul, &a, &b, true).as_constant(), Some(80));
        assert_eq!(compute(Operation::Neg, &b, &b, false).as_constant(), Some(0xffff_fffe));
        assert_eq!(compute(Operation::Div, &a, &b, true), Bounds::UNKNOWN);
    }
}
