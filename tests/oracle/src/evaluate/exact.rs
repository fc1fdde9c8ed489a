//! Whole numbers of any length, in which sums and products of floats are exact.

use std::cmp::Ordering;

/// A whole number: its size in digits of 32 bits, least first, without zeros at the end, and its sign.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Whole {
    negative: bool,
    digits: Vec<u32>,
}

/// What a float is a multiple of: 2 to this power.
pub(super) const UNIT: i32 = -1074;

impl Whole {
    /// A finite float in units of 2^-1074.
    pub(super) fn of_float(value: f64) -> Self {
        let bits = value.to_bits();
        let (exponent, fraction) = ((bits >> 52 & 0x7FF) as usize, bits & ((1 << 52) - 1));
        let (size, shift) = if exponent == 0 { (fraction, 0) } else { (fraction | 1 << 52, exponent - 1) };
        let mut digits = vec![0; shift / 32];
        let size = u128::from(size) << (shift % 32);
        digits.extend((0..4).map(|digit| (size >> (32 * digit)) as u32));
        Whole { negative: value < 0.0, digits }.trimmed()
    }

    /// A small number.
    pub(super) fn of(value: i64) -> Self {
        let size = value.unsigned_abs();
        Whole { negative: value < 0, digits: vec![size as u32, (size >> 32) as u32] }.trimmed()
    }

    pub(super) fn plus(&self, other: &Whole) -> Whole {
        if self.negative == other.negative {
            return Whole { negative: self.negative, digits: sum(&self.digits, &other.digits) }.trimmed();
        }
        let (large, small) = match larger(&self.digits, &other.digits) {
            Ordering::Less => (other, self),
            _ => (self, other),
        };
        Whole { negative: large.negative, digits: difference(&large.digits, &small.digits) }.trimmed()
    }

    pub(super) fn minus(&self, other: &Whole) -> Whole {
        self.plus(&Whole { negative: !other.negative, digits: other.digits.clone() })
    }

    pub(super) fn times(&self, other: &Whole) -> Whole {
        let mut digits = vec![0u32; self.digits.len() + other.digits.len()];
        for (place, one) in self.digits.iter().enumerate() {
            let mut carry = 0u64;
            for (more, two) in other.digits.iter().chain([&0]).enumerate() {
                let Some(digit) = digits.get_mut(place + more) else { break };
                let all = u64::from(*one) * u64::from(*two) + u64::from(*digit) + carry;
                *digit = all as u32;
                carry = all >> 32;
            }
        }
        Whole { negative: self.negative != other.negative, digits }.trimmed()
    }

    /// The nearest float to this many times 2 to the power of `unit`.
    pub(super) fn to_float(&self, unit: i32) -> f64 {
        let Some(last) = self.digits.last() else { return 0.0 };
        let length = self.digits.len() * 32 - last.leading_zeros() as usize;
        let below = length.saturating_sub(64);
        let bit = |place: usize| self.digits.get(place / 32).map_or(0, |digit| u64::from(digit >> (place % 32) & 1));
        let head = (below..length).rev().fold(0u64, |head, place| head << 1 | bit(place));
        // Below the last of 64 bits it only matters whether there is something.
        let head = head | u64::from((0..below).any(|place| bit(place) == 1));
        let mut value = head as f64;
        let mut power = unit + below as i32;
        while power != 0 {
            let step = power.clamp(-900, 900);
            value *= 2f64.powi(step);
            power -= step;
        }
        if self.negative { -value } else { value }
    }

    fn trimmed(mut self) -> Self {
        while self.digits.last() == Some(&0) {
            self.digits.pop();
        }
        self.negative &= !self.digits.is_empty();
        self
    }
}

fn larger(one: &[u32], other: &[u32]) -> Ordering {
    one.len().cmp(&other.len()).then_with(|| one.iter().rev().cmp(other.iter().rev()))
}

fn sum(one: &[u32], other: &[u32]) -> Vec<u32> {
    let mut carry = 0u64;
    let digit = |digits: &[u32], place: usize| u64::from(digits.get(place).copied().unwrap_or(0));
    let digits = (0..one.len().max(other.len()) + 1).map(|place| {
        let all = digit(one, place) + digit(other, place) + carry;
        carry = all >> 32;
        all as u32
    });
    digits.collect()
}

/// Of a number and a smaller one.
fn difference(large: &[u32], small: &[u32]) -> Vec<u32> {
    let mut borrow = 0i64;
    let digits = large.iter().enumerate().map(|(place, digit)| {
        let rest = i64::from(*digit) - i64::from(small.get(place).copied().unwrap_or(0)) - borrow;
        borrow = i64::from(rest < 0);
        rest as u32
    });
    digits.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_come_back() {
        for value in [0.0, 1.0, -0.1, 1e300, 5e-324, -123_456.789, f64::MAX] {
            assert_eq!(Whole::of_float(value).to_float(UNIT), value);
        }
    }

    #[test]
    fn sums_and_products_are_exact() {
        let [a, b] = [1e200, -3.5e-100].map(Whole::of_float);
        assert_eq!(a.plus(&b).minus(&a), b);
        assert_eq!(b.minus(&a).plus(&a), b);
        assert_eq!(a.times(&b).to_float(2 * UNIT), 1e200 * -3.5e-100);
        assert_eq!(a.minus(&a), Whole::default());
        assert_eq!(Whole::of(-7).times(&Whole::of(6)), Whole::of(-42));
        assert_eq!(Whole::of(i64::MIN).to_float(0), i64::MIN as f64);
    }
}
