//! Tristate numbers: of each bit, whether it is known, and if so, which it is.
//!
//! The operations' soundness is tested over all values of small widths, below.

/// A set of values: those that agree with `value` in all bits that are not in `mask`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Tnum {
    /// The known bits; zero where the mask is one.
    pub(crate) value: u64,
    /// The unknown bits.
    pub(crate) mask: u64,
}

impl Tnum {
    pub(crate) const UNKNOWN: Tnum = Tnum { value: 0, mask: u64::MAX };

    pub(crate) const fn constant(value: u64) -> Tnum {
        Tnum { value, mask: 0 }
    }

    /// The least set that has all of `low..=high`.
    pub(crate) fn range(low: u64, high: u64) -> Tnum {
        let differ = low ^ high;
        if differ == 0 {
            return Tnum::constant(low);
        }
        let bits = 64 - differ.leading_zeros();
        let mask = if bits == 64 { u64::MAX } else { (1 << bits) - 1 };
        Tnum { value: low & !mask, mask }
    }

    pub(crate) fn is_constant(self) -> bool {
        self.mask == 0
    }

    pub(crate) fn is_unknown(self) -> bool {
        self.mask == u64::MAX
    }

    /// The largest member.
    pub(crate) fn highest(self) -> u64 {
        self.value | self.mask
    }

    /// Are all members multiples of `size`, a power of two?
    pub(crate) fn is_aligned(self, size: u64) -> bool {
        size == 0 || self.highest() & (size - 1) == 0
    }

    /// Does it have every member of `other`?
    pub(crate) fn contains(self, other: Tnum) -> bool {
        other.mask & !self.mask == 0 && self.value == other.value & !self.mask
    }

    /// Has it a member in common with `other`?
    pub(crate) fn overlaps(self, other: Tnum) -> bool {
        let known = !self.mask & !other.mask;
        self.value & known == other.value & known
    }

    /// What is known from either; both must hold of the same value.
    pub(crate) fn intersect(self, other: Tnum) -> Tnum {
        let mask = self.mask & other.mask;
        Tnum { value: (self.value | other.value) & !mask, mask }
    }

    /// The least set that has both.
    pub(crate) fn union(self, other: Tnum) -> Tnum {
        let mask = self.mask | other.mask | (self.value ^ other.value);
        Tnum { value: self.value & !mask, mask }
    }

    pub(crate) fn shl(self, by: u32) -> Tnum {
        Tnum { value: self.value << by, mask: self.mask << by }
    }

    pub(crate) fn shr(self, by: u32) -> Tnum {
        Tnum { value: self.value >> by, mask: self.mask >> by }
    }

    /// Arithmetic shift of the low 64 or 32 bits; an unknown sign spreads as unknown.
    pub(crate) fn sar(self, by: u32, wide: bool) -> Tnum {
        if wide {
            let shift = |bits: u64| (bits as i64 >> by) as u64;
            return Tnum { value: shift(self.value), mask: shift(self.mask) };
        }
        let shift = |bits: u64| u64::from((bits as i32 >> by) as u32);
        Tnum { value: shift(self.value), mask: shift(self.mask) }
    }

    /// Carries can reach only bits that differ between the smallest and the largest sum.
    pub(crate) fn add(self, other: Tnum) -> Tnum {
        let masks = self.mask.wrapping_add(other.mask);
        let values = self.value.wrapping_add(other.value);
        let mask = (masks.wrapping_add(values) ^ values) | self.mask | other.mask;
        Tnum { value: values & !mask, mask }
    }

    /// As [`Tnum::add`], with borrows.
    pub(crate) fn sub(self, other: Tnum) -> Tnum {
        let values = self.value.wrapping_sub(other.value);
        let differ = values.wrapping_add(self.mask) ^ values.wrapping_sub(other.mask);
        let mask = differ | self.mask | other.mask;
        Tnum { value: values & !mask, mask }
    }

    pub(crate) fn and(self, other: Tnum) -> Tnum {
        let value = self.value & other.value;
        Tnum { value, mask: self.highest() & other.highest() & !value }
    }

    pub(crate) fn or(self, other: Tnum) -> Tnum {
        let value = self.value | other.value;
        Tnum { value, mask: (self.mask | other.mask) & !value }
    }

    pub(crate) fn xor(self, other: Tnum) -> Tnum {
        let mask = self.mask | other.mask;
        Tnum { value: (self.value ^ other.value) & !mask, mask }
    }

    /// Long multiplication: a partial product is added, may be added, or is not.
    pub(crate) fn mul(self, other: Tnum) -> Tnum {
        if self.is_constant() && other.is_constant() {
            return Tnum::constant(self.value.wrapping_mul(other.value));
        }
        let (mut multiplier, mut part) = (self, other);
        let mut sum = Tnum::constant(0);
        while multiplier.highest() != 0 {
            if multiplier.value & 1 != 0 {
                sum = sum.add(part);
            } else if multiplier.mask & 1 != 0 {
                sum = sum.union(sum.add(part));
            }
            multiplier = multiplier.shr(1);
            part = part.shl(1);
        }
        sum
    }

    /// The low `size` bytes; the others are zero.
    pub(crate) fn truncate(self, size: u32) -> Tnum {
        if size >= 8 {
            return self;
        }
        let keep = (1_u64 << (size * 8)) - 1;
        Tnum { value: self.value & keep, mask: self.mask & keep }
    }

    /// The low half.
    pub(crate) fn low(self) -> Tnum {
        self.truncate(4)
    }

    /// The high half, the low one zero.
    pub(crate) fn high(self) -> Tnum {
        Tnum { value: self.value & !0xffff_ffff, mask: self.mask & !0xffff_ffff }
    }

    /// This one's high half with the low half of `low`.
    pub(crate) fn with_low(self, low: Tnum) -> Tnum {
        self.high().or(low.low())
    }
}

impl std::fmt::Display for Tnum {
    /// As the kernel's log shows it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.is_constant() {
            return write!(f, "{}", self.value as i64);
        }
        write!(f, "({:#x}; {:#x})", self.value, self.mask)
    }
}

#[cfg(test)]
mod tests {
    use super::Tnum;

    const BITS: u32 = 4;

    fn all() -> impl Iterator<Item = Tnum> {
        let end = 1_u64 << BITS;
        (0..end).flat_map(move |mask| {
            (0..end).filter(move |value| value & mask == 0).map(move |value| Tnum { value, mask })
        })
    }

    fn members(of: Tnum) -> impl Iterator<Item = u64> {
        (0..1_u64 << BITS).filter(move |value| value & !of.mask == of.value)
    }

    fn sound(name: &str, abstractly: fn(Tnum, Tnum) -> Tnum, concretely: fn(u64, u64) -> u64) {
        for a in all() {
            for b in all() {
                let result = abstractly(a, b);
                assert_eq!(result.value & result.mask, 0, "{name} {a} {b}");
                for x in members(a) {
                    for y in members(b) {
                        let value = Tnum::constant(concretely(x, y));
                        assert!(result.contains(value), "{name} {a} {b}: {x} {y}");
                    }
                }
            }
        }
    }

    #[test]
    fn operations_hold_every_result() {
        sound("add", Tnum::add, u64::wrapping_add);
        sound("sub", Tnum::sub, u64::wrapping_sub);
        sound("mul", Tnum::mul, u64::wrapping_mul);
        sound("and", Tnum::and, |a, b| a & b);
        sound("or", Tnum::or, |a, b| a | b);
        sound("xor", Tnum::xor, |a, b| a ^ b);
        sound("union", Tnum::union, |a, _| a);
        for a in all() {
            for by in 0..64 {
                for x in members(a) {
                    let holds = |set: Tnum, value| assert!(set.contains(Tnum::constant(value)));
                    holds(a.shl(by), x << by);
                    holds(a.shl(60).sar(by, true), ((x << 60) as i64 >> by) as u64);
                    if by < 32 {
                        let narrow = ((x << 28) as i32 >> by) as u32;
                        holds(a.shl(28).sar(by, false), narrow.into());
                    }
                }
            }
        }
    }

    #[test]
    fn sets_compare_as_sets() {
        for a in all() {
            for b in all() {
                let common: Vec<u64> = members(a).filter(|x| members(b).any(|y| y == *x)).collect();
                assert_eq!(a.overlaps(b), !common.is_empty(), "{a} {b}");
                assert_eq!(a.contains(b), common.len() == members(b).count(), "{a} {b}");
                if !common.is_empty() {
                    assert!(members(a.intersect(b)).eq(common.iter().copied()), "{a} {b}");
                }
            }
        }
        for low in 0..1 << BITS {
            for high in low..1 << BITS {
                let range = Tnum::range(low, high);
                assert!((low..=high).all(|x| range.contains(Tnum::constant(x))));
            }
        }
        assert_eq!(Tnum::range(0, u64::MAX), Tnum::UNKNOWN);
    }
}
