//! A sum of floats without error: adding a value and later its negation leaves no trace.
//!
//! The sum is kept as an expansion: floats that do not overlap, smallest first, whose exact sum is the sum of everything
//! added. Most sums need one or two. Values near the end of the floats' range are kept apart and smaller, so that a sum may
//! leave the range and come back. Infinities and NaNs cannot be taken back out of an expansion, so they are counted.
//!
//! Source: Shewchuk, "Adaptive Precision Floating-Point Arithmetic", 1997, `Grow-Expansion`.

/// An exact sum of floats.
#[derive(Debug, Clone, Default)]
pub(crate) struct ExactSum {
    parts: Vec<f64>,
    /// The sum of the values of at least [`HUGE`], times [`SMALLER`]; absent if there is none.
    huge: Option<Box<ExactSum>>,
    infinite: i64,
    negative_infinite: i64,
    not_a_number: i64,
}

/// Values from here on are kept apart: 2^960. Of smaller ones no number of copies leaves the floats' range.
const HUGE: f64 = f64::from_bits((1023 + 960) << 52);

/// 2^-128.
const SMALLER: f64 = f64::from_bits((1023 - 128) << 52);

impl ExactSum {
    /// Adds `value` `times` times; negative times take it back.
    pub(crate) fn add(&mut self, value: f64, times: i64) {
        if value.abs() < HUGE {
            let count = times as f64;
            let product = value * count;
            self.grow(product);
            self.grow(value.mul_add(count, -product));
        } else if value.is_finite() {
            let huge = self.huge.get_or_insert_default();
            huge.add(value * SMALLER, times);
            self.huge.take_if(|huge| huge.parts.is_empty());
        } else if value.is_nan() {
            self.not_a_number += times;
        } else if value > 0.0 {
            self.infinite += times;
        } else {
            self.negative_infinite += times;
        }
    }

    /// Adds `one * other`, without rounding the product, `times` times.
    ///
    /// A product beyond the floats' range counts as infinite; digits below their range are lost, the same ones when it is
    /// taken back.
    pub(crate) fn add_product(&mut self, one: f64, other: f64, times: i64) {
        let product = one * other;
        self.add(product, times);
        if product.is_finite() {
            self.add(one.mul_add(other, -product), times);
        }
    }

    /// `count * sum - one * other`, from which nothing was lost.
    pub(crate) fn of_difference(sum: &ExactSum, count: i64, one: &ExactSum, other: &ExactSum) -> ExactSum {
        let mut difference = ExactSum::default();
        // Products of values that large are beyond the floats' range.
        let special =
            |sum: &ExactSum| sum.not_a_number > 0 || sum.infinite > 0 || sum.negative_infinite > 0 || sum.huge.is_some();
        if special(sum) || special(one) || special(other) {
            difference.not_a_number = 1;
            return difference;
        }
        for part in &sum.parts {
            difference.add(*part, count);
        }
        for one in &one.parts {
            for other in &other.parts {
                difference.add_product(*one, *other, -1);
            }
        }
        difference
    }

    /// Adds another sum.
    pub(crate) fn merge(&mut self, other: &ExactSum) {
        for part in &other.parts {
            self.grow(*part);
        }
        if let Some(other) = &other.huge {
            self.huge.get_or_insert_default().merge(other);
            self.huge.take_if(|huge| huge.parts.is_empty());
        }
        self.infinite += other.infinite;
        self.negative_infinite += other.negative_infinite;
        self.not_a_number += other.not_a_number;
    }

    /// The sum, rounded once.
    pub(crate) fn value(&self) -> f64 {
        if self.not_a_number > 0 || (self.infinite > 0 && self.negative_infinite > 0) {
            return f64::NAN;
        }
        match (self.infinite > 0, self.negative_infinite > 0) {
            (true, _) => f64::INFINITY,
            (_, true) => f64::NEG_INFINITY,
            _ => match &self.huge {
                None => self.rounded(),
                Some(huge) => {
                    let mut sum = ExactSum { parts: huge.parts.clone(), ..ExactSum::default() };
                    self.parts.iter().for_each(|part| sum.grow(part * SMALLER));
                    sum.rounded() / SMALLER
                }
            },
        }
    }

    /// The parts' sum, rounded half to even, whatever the parts are.
    fn rounded(&self) -> f64 {
        let mut parts = self.parts.iter().rev().copied();
        let Some(mut sum) = parts.next() else { return 0.0 };
        let mut rest = 0.0;
        for part in parts.by_ref() {
            let before = sum;
            sum += part;
            rest = part - (sum - before);
            if rest != 0.0 {
                break;
            }
        }
        // Exactly between two floats, the parts below decide which way to go.
        if let Some(below) = parts.next()
            && rest != 0.0
            && (rest < 0.0) == (below < 0.0)
        {
            let twice = rest * 2.0;
            let next = sum + twice;
            if next - sum == twice {
                return next;
            }
        }
        sum
    }

    /// The sum as it travels between workers.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let counts = [self.infinite, self.negative_infinite, self.not_a_number, self.parts.len() as i64];
        let counts = counts.iter().flat_map(|count| count.to_le_bytes());
        let huge = self.huge.iter().flat_map(|huge| &huge.parts);
        counts.chain(self.parts.iter().chain(huge).flat_map(|part| part.to_le_bytes())).collect()
    }

    /// What [`ExactSum::to_bytes`] gave.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        let word = |index: usize| -> [u8; 8] { bytes[index * 8..index * 8 + 8].try_into().expect("eight bytes") };
        let count = |index: usize| i64::from_le_bytes(word(index));
        let floats = |range: std::ops::Range<usize>| range.map(|index| f64::from_le_bytes(word(index))).collect();
        let (end, all) = (4 + count(3) as usize, bytes.len() / 8);
        let huge = (end < all).then(|| Box::new(ExactSum { parts: floats(end..all), ..ExactSum::default() }));
        ExactSum { infinite: count(0), negative_infinite: count(1), not_a_number: count(2), parts: floats(4..end), huge }
    }

    /// Bytes kept beside the struct.
    pub(crate) fn bytes(&self) -> usize {
        let huge = self.huge.as_ref().map_or(0, |huge| size_of::<ExactSum>() + huge.bytes());
        self.parts.capacity() * size_of::<f64>() + huge
    }

    fn grow(&mut self, value: f64) {
        let mut carry = value;
        let mut kept = 0;
        for index in 0..self.parts.len() {
            let part = self.parts[index];
            let sum = carry + part;
            let round = sum - carry;
            let error = (carry - (sum - round)) + (part - round);
            if error != 0.0 {
                self.parts[kept] = error;
                kept += 1;
            }
            carry = sum;
        }
        self.parts.truncate(kept);
        if carry != 0.0 {
            self.parts.push(carry);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_back_leaves_no_trace() {
        let mut sum = ExactSum::default();
        sum.add(0.1, 1);
        sum.add(1e300, 1);
        sum.add(-3.7e-200, 3);
        sum.add(f64::INFINITY, 1);
        assert_eq!(sum.value(), f64::INFINITY);
        sum.add(f64::INFINITY, -1);
        sum.add(1e300, -1);
        sum.add(-3.7e-200, -3);
        assert_eq!(sum.value(), 0.1);
        sum.add(0.1, -1);
        assert_eq!(sum.value(), 0.0);
        assert!(sum.parts.is_empty());
    }

    #[test]
    fn order_does_not_matter() {
        let values = [1e16, 1.0, -1e16, 0.3, 7e-9, -0.3, 1e-30];
        let (mut forward, mut backward) = (ExactSum::default(), ExactSum::default());
        values.iter().for_each(|value| forward.add(*value, 1));
        values.iter().rev().for_each(|value| backward.add(*value, 1));
        assert_eq!(forward.value(), backward.value());
    }

    #[test]
    fn a_sum_leaves_the_range_and_comes_back() {
        let mut sum = ExactSum::default();
        sum.add(f64::MAX, 1);
        sum.add(1e308, 3);
        sum.add(0.25, 1);
        assert_eq!(sum.value(), f64::INFINITY);
        let mut other = ExactSum::from_bytes(&sum.to_bytes());
        other.merge(&sum);
        assert_eq!(other.value(), f64::INFINITY);
        other.add(1e308, -6);
        other.add(f64::MAX, -1);
        assert_eq!(other.value(), f64::MAX);
        other.add(f64::MAX, -1);
        assert_eq!(other.value(), 0.5);
        assert!(other.huge.is_none());
    }
}
