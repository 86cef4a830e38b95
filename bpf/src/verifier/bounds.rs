//! What is known of a number: its bits, and its least and greatest value read as signed and as
//! unsigned, in 64 and in the low 32 bits; and how each of these narrows the others.

use super::tnum::Tnum;

/// A set of 64-bit values: those that satisfy every part.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Bounds {
    pub(crate) bits: Tnum,
    pub(crate) smin: i64,
    pub(crate) smax: i64,
    pub(crate) umin: u64,
    pub(crate) umax: u64,
    pub(crate) smin32: i32,
    pub(crate) smax32: i32,
    pub(crate) umin32: u32,
    pub(crate) umax32: u32,
}

const LOW: u64 = 0xffff_ffff;

impl Bounds {
    pub(crate) const UNKNOWN: Bounds = Bounds {
        bits: Tnum::UNKNOWN,
        smin: i64::MIN,
        smax: i64::MAX,
        umin: 0,
        umax: u64::MAX,
        smin32: i32::MIN,
        smax32: i32::MAX,
        umin32: 0,
        umax32: u32::MAX,
    };

    pub(crate) const fn constant(value: u64) -> Bounds {
        Bounds {
            bits: Tnum::constant(value),
            smin: value as i64,
            smax: value as i64,
            umin: value,
            umax: value,
            smin32: value as i32,
            smax32: value as i32,
            umin32: value as u32,
            umax32: value as u32,
        }
    }

    /// The only member, if there is one.
    pub(crate) fn as_constant(&self) -> Option<u64> {
        self.bits.is_constant().then_some(self.bits.value)
    }

    /// The low half's only value.
    pub(crate) fn as_constant32(&self) -> Option<u32> {
        self.bits.low().is_constant().then_some(self.bits.value as u32)
    }

    pub(crate) fn is_zero(&self) -> bool {
        self.as_constant() == Some(0)
    }

    /// Does every part of this one allow what the other allows?
    pub(crate) fn contains(&self, other: &Bounds) -> bool {
        self.umin <= other.umin
            && self.umax >= other.umax
            && self.smin <= other.smin
            && self.smax >= other.smax
            && self.umin32 <= other.umin32
            && self.umax32 >= other.umax32
            && self.smin32 <= other.smin32
            && self.smax32 >= other.smax32
            && self.bits.contains(other.bits)
    }

    /// Is a value in the set? What the soundness tests ask of registers.
    #[cfg(test)]
    pub(crate) fn holds(&self, value: u64) -> bool {
        self.contains(&Bounds::constant(value))
    }

    /// Do the parts contradict each other, so that the set is empty?
    pub(crate) fn is_empty(&self) -> bool {
        self.umin > self.umax
            || self.smin > self.smax
            || self.umin32 > self.umax32
            || self.smin32 > self.smax32
            || (self.bits.is_constant()
                && (self.umin != self.bits.value || self.umax != self.bits.value))
    }

    pub(crate) fn forget64(&mut self) {
        (self.smin, self.smax, self.umin, self.umax) = (i64::MIN, i64::MAX, 0, u64::MAX);
    }

    pub(crate) fn forget32(&mut self) {
        (self.smin32, self.smax32, self.umin32, self.umax32) = (i32::MIN, i32::MAX, 0, u32::MAX);
    }

    pub(crate) fn forget_signed(&mut self) {
        (self.smin, self.smax) = (i64::MIN, i64::MAX);
    }

    pub(crate) fn forget_unsigned(&mut self) {
        (self.umin, self.umax) = (0, u64::MAX);
    }

    pub(crate) fn forget_signed32(&mut self) {
        (self.smin32, self.smax32) = (i32::MIN, i32::MAX);
    }

    pub(crate) fn forget_unsigned32(&mut self) {
        (self.umin32, self.umax32) = (0, u32::MAX);
    }

    /// Lets every part narrow the others.
    pub(crate) fn settle(&mut self) {
        if self.bits.is_constant() && self.umin == self.umax {
            return self.settle_constant();
        }
        self.ranges_from_bits();
        for _ in 0..3 {
            self.deduce32();
            self.deduce64();
            self.deduce_halves();
        }
        self.bits_from_ranges();
        self.ranges_from_bits();
    }

    /// A constant needs no deduction, but contradictions must stay visible.
    fn settle_constant(&mut self) {
        let known = Bounds::constant(self.bits.value);
        self.smin = self.smin.max(known.smin);
        self.smax = self.smax.min(known.smax);
        self.umin = self.umin.max(known.umin);
        self.umax = self.umax.min(known.umax);
        self.smin32 = self.smin32.max(known.smin32);
        self.smax32 = self.smax32.min(known.smax32);
        self.umin32 = self.umin32.max(known.umin32);
        self.umax32 = self.umax32.min(known.umax32);
    }

    /// With the sign bit unknown the smallest signed value has it set, all else unknown clear.
    pub(crate) fn ranges_from_bits(&mut self) {
        let (value, mask) = (self.bits.value, self.bits.mask);
        const SIGN: u64 = 1 << 63;
        self.smin = self.smin.max((value | (mask & SIGN)) as i64);
        self.smax = self.smax.min((value | (mask & !SIGN)) as i64);
        self.umin = self.umin.max(value);
        self.umax = self.umax.min(value | mask);
        let (value, mask) = (value as u32, mask as u32);
        const SIGN32: u32 = 1 << 31;
        self.smin32 = self.smin32.max((value | (mask & SIGN32)) as i32);
        self.smax32 = self.smax32.min((value | (mask & !SIGN32)) as i32);
        self.umin32 = self.umin32.max(value);
        self.umax32 = self.umax32.min(value | mask);
    }

    fn bits_from_ranges(&mut self) {
        let bits = self.bits.intersect(Tnum::range(self.umin, self.umax));
        let low = bits.low().intersect(Tnum::range(self.umin32.into(), self.umax32.into()));
        self.bits = bits.with_low(low);
    }

    /// The low half's ranges, from the whole's where the high halves of its ends agree, and from
    /// each other.
    fn deduce32(&mut self) {
        let (low, high) = (self.umin, self.umax);
        if low >> 32 == high >> 32 {
            self.umin32 = self.umin32.max(low as u32);
            self.umax32 = self.umax32.min(high as u32);
            self.narrow_signed32(low, high);
        } else if (low >> 32).wrapping_add(1) == high >> 32 {
            self.across_sign32(low, high);
        }
        let (low, high) = (self.smin as u64, self.smax as u64);
        if low >> 32 == high >> 32 {
            if low as u32 <= high as u32 {
                self.umin32 = self.umin32.max(low as u32);
                self.umax32 = self.umax32.min(high as u32);
            }
            self.narrow_signed32(low, high);
        } else if ((low >> 32) as u32).wrapping_add(1) == (high >> 32) as u32 {
            self.across_sign32(low, high);
        }
        if self.umin32 as i32 <= self.umax32 as i32 {
            self.smin32 = self.smin32.max(self.umin32 as i32);
            self.smax32 = self.smax32.min(self.umax32 as i32);
        }
        if self.smin32 as u32 <= self.smax32 as u32 {
            self.umin32 = self.umin32.max(self.smin32 as u32);
            self.umax32 = self.umax32.min(self.smax32 as u32);
        }
    }

    fn narrow_signed32(&mut self, low: u64, high: u64) {
        if low as i32 <= high as i32 {
            self.smin32 = self.smin32.max(low as i32);
            self.smax32 = self.smax32.min(high as i32);
        }
    }

    /// The range goes over one multiple of 2³², from a negative low half to a positive one.
    fn across_sign32(&mut self, low: u64, high: u64) {
        if (low as i32) < 0 && high as i32 >= 0 {
            self.smin32 = self.smin32.max(low as i32);
            self.smax32 = self.smax32.min(high as i32);
        }
    }

    fn deduce64(&mut self) {
        if self.umin as i64 <= self.umax as i64 {
            self.smin = self.smin.max(self.umin as i64);
            self.smax = self.smax.min(self.umax as i64);
        }
        if self.smin as u64 <= self.smax as u64 {
            self.umin = self.umin.max(self.smin as u64);
            self.umax = self.umax.min(self.smax as u64);
        } else if self.umax < self.smin as u64 {
            // Only the part from zero up is left.
            self.smin = self.umin as i64;
            self.umax = self.umax.min(self.smax as u64);
        } else if (self.smax as u64) < self.umin {
            // Only the negative part is left.
            self.smax = self.umax as i64;
            self.umin = self.umin.max(self.smin as u64);
        }
    }

    /// The whole's ranges from the low half's.
    fn deduce_halves(&mut self) {
        let with_low = |value: u64, low: u32| (value & !LOW) | u64::from(low);
        self.umin = self.umin.max(with_low(self.umin, self.umin32));
        self.umax = self.umax.min(with_low(self.umax, self.umax32));
        self.smin = self.smin.max(with_low(self.smin as u64, self.umin32) as i64);
        self.smax = self.smax.min(with_low(self.smax as u64, self.umax32) as i64);
        let fits = self.smin >= i32::MIN.into() && self.smax <= i32::MAX.into();
        if self.smin32 >= 0 && fits {
            self.smin = self.smin.max(self.smin32.into());
            self.smax = self.smax.min(self.smax32.into());
            self.umin = self.umin.max(self.smin as u64);
            self.umax = self.umax.min(self.smax as u64);
            self.bits = self.bits.intersect(Tnum::range(self.smin as u64, self.smax as u64));
        }
    }

    /// The low half becomes the whole, as every 32-bit operation leaves it.
    pub(crate) fn zero_extend32(&mut self) {
        self.bits = self.bits.low();
        (self.umin, self.umax) = (self.umin32.into(), self.umax32.into());
        if self.smin32 >= 0 {
            (self.smin, self.smax) = (self.smin32.into(), self.smax32.into());
        } else {
            (self.smin, self.smax) = (0, u32::MAX.into());
        }
        self.settle();
    }

    /// The low `size` bytes, zero-extended: what a narrow load gives.
    pub(crate) fn truncate(&mut self, size: u32) {
        if size >= 8 {
            return;
        }
        let keep = (1_u64 << (size * 8)) - 1;
        self.bits = self.bits.truncate(size);
        if self.umin & !keep == self.umax & !keep {
            (self.umin, self.umax) = (self.umin & keep, self.umax & keep);
        } else {
            (self.umin, self.umax) = (0, keep);
        }
        (self.smin, self.smax) = (self.umin as i64, self.umax as i64);
        if size < 4 {
            self.forget32();
        }
        self.settle();
    }

    /// The low `size` bytes, sign-extended to 64 bits.
    pub(crate) fn sign_extend(&mut self, size: u32) {
        let unused = 64 - size * 8;
        let extend = |value: i64| value << unused >> unused;
        let (low, high) = (extend(self.smin), extend(self.smax));
        // Within one stretch of equal high parts that does not cross the new sign, order is kept.
        let same = self.smin >> (size * 8) == self.smax >> (size * 8) && (low < 0) == (high < 0);
        let bits = self.bits.shl(unused).sar(unused, true);
        *self = Bounds { bits, ..Bounds::UNKNOWN };
        let widest = (i64::MIN >> unused, i64::MAX >> unused);
        (self.smin, self.smax) = if same { (low, high) } else { widest };
        self.settle();
    }

    /// The low `size` bytes, sign-extended to 32 bits; the high half is zero.
    pub(crate) fn sign_extend32(&mut self, size: u32) {
        self.sign_extend(size);
        self.zero_extend32();
    }
}

#[cfg(test)]
mod tests {
    use super::Bounds;
    use crate::verifier::tnum::Tnum;

    fn interesting() -> Vec<u64> {
        let mut values = vec![];
        for edge in [0_u64, 1 << 7, 1 << 15, 1 << 31, 1 << 32, 1 << 63, 0xffff_ffff_0000_0000] {
            for near in [-2_i64, -1, 0, 1, 2] {
                values.push(edge.wrapping_add(near as u64));
            }
        }
        values
    }

    #[test]
    fn settling_loses_no_member() {
        let values = interesting();
        for a in &values {
            for b in &values {
                let unsigned = Bounds { umin: *a.min(b), umax: *a.max(b), ..Bounds::UNKNOWN };
                let (low, high) = ((*a as i64).min(*b as i64), (*a as i64).max(*b as i64));
                let signed = Bounds { smin: low, smax: high, ..Bounds::UNKNOWN };
                let bits = Bounds { bits: Tnum::range(*a & *b, *a | *b), ..Bounds::UNKNOWN };
                let narrow = Bounds {
                    umin32: (*a as u32).min(*b as u32),
                    umax32: (*a as u32).max(*b as u32),
                    smin: low,
                    smax: high,
                    ..Bounds::UNKNOWN
                };
                for bounds in [unsigned, signed, bits, narrow] {
                    let mut settled = bounds;
                    settled.settle();
                    for value in values.iter().filter(|value| bounds.holds(**value)) {
                        assert!(settled.holds(*value), "{bounds:x?} {settled:x?} {value:#x}");
                    }
                    for size in [1, 2, 4] {
                        let (mut cut, mut signed) = (settled, settled);
                        cut.truncate(size);
                        signed.sign_extend(size);
                        for value in values.iter().filter(|value| settled.holds(**value)) {
                            let unused = 64 - size * 8;
                            assert!(cut.holds(value << unused >> unused));
                            let extended = ((value << unused) as i64 >> unused) as u64;
                            assert!(signed.holds(extended), "{settled:x?} {signed:x?} {value:#x}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn halves_narrow_each_other() {
        let mut bounds = Bounds { umin: 5, umax: 9, ..Bounds::UNKNOWN };
        bounds.settle();
        assert_eq!((bounds.smin, bounds.smax32, bounds.bits.mask), (5, 9, 15));
        let mut bounds = Bounds { smin: -1, smax: 0, ..Bounds::UNKNOWN };
        bounds.settle();
        assert_eq!((bounds.smin32, bounds.smax32), (-1, 0));
        assert!(Bounds { umin: 2, umax: 1, ..Bounds::UNKNOWN }.is_empty());
    }
}
