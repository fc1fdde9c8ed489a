//! `sum` and `avg` of decimals of many digits, in 256 bits: their sum may leave 128 bits and come back.

use std::any::Any;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Decimal128Array, Decimal256Array, Int64Array};
use arrow::datatypes::{DataType, Decimal128Type, Decimal256Type, Int64Type, i256};

use super::{Accumulator, Output, Rows};
use crate::Diff;

/// Sums of decimals, exact.
pub(super) struct Decimals {
    /// Of the argument.
    scale: i8,
    /// Precision and scale of the result.
    result: (u8, i8),
    average: bool,
    sums: Vec<i256>,
    counts: Vec<Diff>,
}

impl Decimals {
    /// Over decimals of `scale`.
    pub(super) fn new(scale: i8, result: (u8, i8), average: bool) -> Self {
        Decimals { scale, result, average, sums: Vec::new(), counts: Vec::new() }
    }

    /// `None` if the result does not fit its type.
    fn result(&self, group: u32) -> Option<i128> {
        let (precision, scale) = self.result;
        let shift = i32::from(scale) - i32::from(self.scale);
        let factor = i256::from_i128(10).checked_pow(shift.unsigned_abs())?;
        let sum = self.sums[group as usize];
        let scaled = if shift >= 0 { sum.checked_mul(factor)? } else { sum.checked_div(factor)? };
        let value = if self.average { divide_rounded(scaled, self.counts[group as usize])? } else { scaled };
        let value = value.to_i128()?;
        let limit = 10i128.checked_pow(u32::from(precision));
        limit.is_none_or(|limit| value.unsigned_abs() < limit.unsigned_abs()).then_some(value)
    }

    fn add(&mut self, group: usize, sum: i256, count: Diff) {
        self.sums[group] = self.sums[group].wrapping_add(sum);
        self.counts[group] += count;
    }
}

/// Half away from zero, as PostgreSQL rounds numerics.
fn divide_rounded(value: i256, by: Diff) -> Option<i256> {
    let by = i256::from(by);
    let (quotient, rest) = (value.checked_div(by)?, value.checked_rem(by)?);
    let twice = rest.checked_mul(i256::from(2))?.checked_abs()?;
    if twice < by.checked_abs()? || rest == i256::ZERO {
        return Some(quotient);
    }
    quotient.checked_add(if rest.is_negative() == by.is_negative() { i256::ONE } else { i256::MINUS_ONE })
}

impl Accumulator for Decimals {
    fn resize(&mut self, groups: usize) {
        self.sums.resize(groups, i256::ZERO);
        self.counts.resize(groups, 0);
    }

    fn update(&mut self, rows: &Rows<'_>) {
        let values = rows.argument.expect("sum has an argument").as_primitive::<Decimal128Type>().values();
        rows.for_each(|row, group, diff| {
            self.add(group, i256::from_i128(values[row]).wrapping_mul(i256::from(diff)), diff);
        });
    }

    fn merge(&mut self, ours: &[u32], other: &dyn Accumulator, theirs: &[u32]) {
        let other: &Decimals = other.as_any().downcast_ref().expect("accumulators of one call are of one type");
        for (ours, theirs) in ours.iter().zip(theirs) {
            self.add(*ours as usize, other.sums[*theirs as usize], other.counts[*theirs as usize]);
        }
    }

    fn output(&self, groups: &[u32]) -> Output {
        let mut failed = Vec::new();
        let values = groups.iter().enumerate().map(|(position, group)| {
            if self.counts[*group as usize] <= 0 {
                return None;
            }
            let value = self.result(*group);
            if value.is_none() {
                failed.push((position, "decimal overflow"));
            }
            value
        });
        let values: Decimal128Array = values.collect();
        let (precision, scale) = self.result;
        let values = values.with_precision_and_scale(precision, scale).expect("a type that the planner made");
        Output { values: Arc::new(values), failed }
    }

    fn clear(&mut self, group: u32) {
        self.sums[group as usize] = i256::ZERO;
        self.counts[group as usize] = 0;
    }

    fn bytes(&self) -> usize {
        self.sums.capacity() * size_of::<i256>() + self.counts.capacity() * size_of::<Diff>()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn partial_types(&self) -> Option<Vec<DataType>> {
        Some(vec![DataType::Decimal256(76, 0), DataType::Int64])
    }

    fn partial(&self, groups: &[u32]) -> Vec<ArrayRef> {
        let sums = Decimal256Array::from_iter_values(groups.iter().map(|group| self.sums[*group as usize]));
        let sums = sums.with_precision_and_scale(76, 0).expect("the widest decimal");
        let counts = Int64Array::from_iter_values(groups.iter().map(|group| self.counts[*group as usize]));
        vec![Arc::new(sums), Arc::new(counts)]
    }

    fn update_partial(&mut self, groups: &[u32], columns: &[ArrayRef]) {
        let sums = columns[0].as_primitive::<Decimal256Type>().values();
        let counts = columns[1].as_primitive::<Int64Type>().values();
        for (row, group) in groups.iter().enumerate() {
            self.add(*group as usize, sums[row], counts[row]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_leaves_its_type_and_comes_back() {
        let nines = 10i128.pow(38) - 1;
        let column = Decimal128Array::from(vec![nines, nines, nines, nines]);
        let column: ArrayRef = Arc::new(column.with_precision_and_scale(38, 2).expect("it fits"));
        let mut sum = Decimals::new(2, (38, 2), false);
        sum.resize(1);
        sum.update(&Rows::of(&[0; 4], Some(&column)));
        assert_eq!(sum.output(&[0]).failed, [(0, "decimal overflow")]);
        let mut other = Decimals::new(2, (38, 2), false);
        other.resize(1);
        other.update_partial(&[0], &sum.partial(&[0]));
        other.update(&Rows { diffs: Some(&[-3, 0, 0, 0]), ..Rows::of(&[0; 4], Some(&column)) });
        let output = other.output(&[0]);
        assert!(output.failed.is_empty());
        assert_eq!(output.values.as_primitive::<Decimal128Type>().value(0), nines);
    }

    #[test]
    fn means_round_half_away_from_zero() {
        let mean = |sum: i128, count: Diff| divide_rounded(i256::from_i128(sum), count).and_then(|mean| mean.to_i128());
        assert_eq!(mean(5, 2), Some(3));
        assert_eq!(mean(-5, 2), Some(-3));
        assert_eq!(mean(4, 3), Some(1));
        assert_eq!(mean(-1, 3), Some(0));
        assert_eq!(mean(6, 3), Some(2));
    }
}
