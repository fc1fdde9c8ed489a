//! Variances, covariances, correlation and regression.
//!
//! All come from how many pairs there are and from the sums of `x`, `y`, `x²`, `y²` and `xy`. Those are exact, so a row that
//! is taken back leaves no trace; and so are their differences, from which the results are rounded at the end: values
//! that are large and near each other lose no digits.

use std::any::Any;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BinaryArray, Float64Array, Int64Array};
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use highwater_plan::Statistic;

use super::{Accumulator, Output, Rows};
use crate::Diff;
use crate::operator::exact_sum::ExactSum;

/// Sums per group.
pub(super) struct Statistics {
    statistic: Statistic,
    counts: Vec<Diff>,
    /// Per group so many as [`Statistics::width`] says: x and x²; of pairs also y, y² and xy.
    sums: Vec<ExactSum>,
}

const X: usize = 0;
const XX: usize = 1;
const Y: usize = 2;
const YY: usize = 3;
const XY: usize = 4;

impl Statistics {
    pub(super) fn new(statistic: Statistic) -> Self {
        Statistics { statistic, counts: Vec::new(), sums: Vec::new() }
    }

    fn width(&self) -> usize {
        if self.statistic.of_pairs() { 5 } else { 2 }
    }

    fn result(&self, group: u32) -> Option<f64> {
        let (group, width) = (group as usize, self.width());
        let count = self.counts[group];
        if count <= 0 {
            return None;
        }
        let sums = &self.sums[group * width..(group + 1) * width];
        let number = count as f64;
        // So many times the sum of products of deviations from the means.
        let deviations = |product: usize, one: usize, other: usize| {
            ExactSum::of_difference(&sums[product], count, &sums[one], &sums[other]).value()
        };
        let xx = || deviations(XX, X, X);
        let yy = || deviations(YY, Y, Y);
        let xy = || deviations(XY, X, Y);
        let all = number * number;
        let sample = number * (number - 1.0);
        let is_zero = |value: f64| value == 0.0;
        Some(match self.statistic {
            Statistic::VarPop => xx() / all,
            Statistic::StddevPop => (xx() / all).sqrt(),
            Statistic::CovarPop => xy() / all,
            Statistic::VarSamp | Statistic::StddevSamp | Statistic::CovarSamp if count < 2 => return None,
            Statistic::VarSamp => xx() / sample,
            Statistic::StddevSamp => (xx() / sample).sqrt(),
            Statistic::CovarSamp => xy() / sample,
            Statistic::Corr => {
                let (xx, yy) = (xx(), yy());
                if is_zero(xx) || is_zero(yy) {
                    return None;
                }
                // Rounding must not make it more than perfect; NaN stays.
                (xy() / xx.sqrt() / yy.sqrt()).clamp(-1.0, 1.0)
            }
            Statistic::RegrSlope | Statistic::RegrIntercept | Statistic::RegrR2 => {
                let xx = xx();
                if is_zero(xx) {
                    return None;
                }
                let slope = xy() / xx;
                match self.statistic {
                    Statistic::RegrSlope => slope,
                    Statistic::RegrIntercept => (sums[Y].value() - slope * sums[X].value()) / number,
                    _ => {
                        let yy = yy();
                        if is_zero(yy) { 1.0 } else { (slope * (xy() / yy)).clamp(0.0, 1.0) }
                    }
                }
            }
            Statistic::RegrAvgX => sums[X].value() / number,
            Statistic::RegrAvgY => sums[Y].value() / number,
            Statistic::RegrSxx => xx() / number,
            Statistic::RegrSyy => yy() / number,
            Statistic::RegrSxy => xy() / number,
        })
    }
}

impl Accumulator for Statistics {
    fn resize(&mut self, groups: usize) {
        self.counts.resize(groups, 0);
        self.sums.resize_with(groups * self.width(), ExactSum::default);
    }

    fn update(&mut self, rows: &Rows<'_>) {
        let floats = |column: &'_ ArrayRef| column.as_primitive::<Float64Type>().values().clone();
        let first = floats(rows.argument.expect("statistics have an argument"));
        let width = self.width();
        let (counts, sums) = (&mut self.counts, &mut self.sums);
        let Some(second) = rows.further.first().map(floats) else {
            rows.for_each(|row, group, diff| {
                counts[group] += diff;
                let sums = &mut sums[group * width..];
                sums[X].add(first[row], diff);
                sums[XX].add_product(first[row], first[row], diff);
            });
            return;
        };
        // As in SQL: the dependent value comes first.
        rows.for_each(|row, group, diff| {
            counts[group] += diff;
            let (y, x) = (first[row], second[row]);
            let sums = &mut sums[group * width..];
            sums[X].add(x, diff);
            sums[XX].add_product(x, x, diff);
            sums[Y].add(y, diff);
            sums[YY].add_product(y, y, diff);
            sums[XY].add_product(x, y, diff);
        });
    }

    fn merge(&mut self, ours: &[u32], other: &dyn Accumulator, theirs: &[u32]) {
        let other: &Statistics = other.as_any().downcast_ref().expect("accumulators of one call are of one type");
        let width = self.width();
        for (ours, theirs) in ours.iter().zip(theirs) {
            let (ours, theirs) = (*ours as usize, *theirs as usize);
            self.counts[ours] += other.counts[theirs];
            for index in 0..width {
                self.sums[ours * width + index].merge(&other.sums[theirs * width + index]);
            }
        }
    }

    fn output(&self, groups: &[u32]) -> Output {
        let values: ArrayRef = Arc::new(Float64Array::from_iter(groups.iter().map(|group| self.result(*group))));
        values.into()
    }

    fn clear(&mut self, group: u32) {
        let (group, width) = (group as usize, self.width());
        self.counts[group] = 0;
        self.sums[group * width..(group + 1) * width].fill(ExactSum::default());
    }

    fn bytes(&self) -> usize {
        let parts: usize = self.sums.iter().map(ExactSum::bytes).sum();
        parts + self.sums.capacity() * size_of::<ExactSum>() + self.counts.capacity() * size_of::<Diff>()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn partial_types(&self) -> Option<Vec<DataType>> {
        Some([vec![DataType::Int64], vec![DataType::Binary; self.width()]].concat())
    }

    fn partial(&self, groups: &[u32]) -> Vec<ArrayRef> {
        let width = self.width();
        let counts = Int64Array::from_iter_values(groups.iter().map(|group| self.counts[*group as usize]));
        let mut columns: Vec<ArrayRef> = vec![Arc::new(counts)];
        for index in 0..width {
            let sums = groups.iter().map(|group| self.sums[*group as usize * width + index].to_bytes());
            columns.push(Arc::new(BinaryArray::from_iter_values(sums)));
        }
        columns
    }

    fn update_partial(&mut self, groups: &[u32], columns: &[ArrayRef]) {
        let width = self.width();
        for (group, count) in groups.iter().zip(columns[0].as_primitive::<Int64Type>().values()) {
            self.counts[*group as usize] += count;
        }
        for (index, column) in columns[1..].iter().enumerate() {
            let states = column.as_binary::<i32>();
            for (row, group) in groups.iter().enumerate() {
                self.sums[*group as usize * width + index].merge(&ExactSum::from_bytes(states.value(row)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(values: &[f64]) -> ArrayRef {
        Arc::new(Float64Array::from(values.to_vec()))
    }

    #[test]
    fn a_row_that_is_taken_back_leaves_no_trace() {
        let mut statistics = Statistics::new(Statistic::VarSamp);
        statistics.resize(1);
        let column = floats(&[4.0, 3.0, 0.1, 1e15, -7.3e-9, 1e200]);
        statistics.update(&Rows::of(&[0; 6], Some(&column)));
        statistics.update(&Rows { diffs: Some(&[0, 0, -1, -1, -1, -1]), ..Rows::of(&[0; 6], Some(&column)) });
        assert_eq!(statistics.result(0), Some(0.5));
        statistics.update(&Rows { diffs: Some(&[-1, 0, 0, 0, 0, 0]), ..Rows::of(&[0; 6], Some(&column)) });
        assert_eq!(statistics.result(0), None);
    }

    #[test]
    fn near_and_large_values_keep_their_digits() {
        let mut statistics = Statistics::new(Statistic::VarPop);
        statistics.resize(1);
        let column = floats(&[1e15, 1e15 + 1.0, 1e15 + 2.0]);
        statistics.update(&Rows::of(&[0; 3], Some(&column)));
        assert_eq!(statistics.result(0), Some(2.0 / 3.0));
    }

    #[test]
    fn statistics_of_a_line() {
        let (x, y) = (floats(&[1.0, 2.0, 4.0, 9.0]), floats(&[5.0, 7.0, 11.0, 9.0]));
        let result = |statistic: Statistic, diffs: &[Diff]| {
            let mut parts = [0, 1].map(|_| Statistics::new(statistic));
            parts.iter_mut().for_each(|part| part.resize(1));
            let rows = Rows { further: vec![Arc::clone(&x)], diffs: Some(diffs), ..Rows::of(&[0; 4], Some(&y)) };
            parts[0].update(&rows);
            let state = parts[0].partial(&[0]);
            parts[1].update_partial(&[0], &state);
            assert_eq!(parts[0].result(0), parts[1].result(0));
            parts[0].result(0)
        };
        let line = [1, 1, 1, 0];
        assert_eq!(result(Statistic::RegrSlope, &line), Some(2.0));
        assert_eq!(result(Statistic::RegrIntercept, &line), Some(3.0));
        assert_eq!(result(Statistic::RegrR2, &line), Some(1.0));
        assert_eq!(result(Statistic::Corr, &line), Some(1.0));
        assert_eq!(result(Statistic::CovarPop, &line), Some(28.0 / 9.0));
        assert_eq!(result(Statistic::RegrAvgY, &line), Some(23.0 / 3.0));
        assert_eq!(result(Statistic::Corr, &[3, 0, 0, 0]), None);
        assert_eq!(result(Statistic::CovarSamp, &[1, 0, 0, 0]), None);
        assert_eq!(result(Statistic::CovarPop, &[1, 0, 0, 0]), Some(0.0));
    }
}
