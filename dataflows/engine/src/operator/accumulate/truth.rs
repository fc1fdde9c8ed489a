//! `bool_and` and `bool_or`: how many values are true, and how many false.

use std::any::Any;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array};
use arrow::datatypes::{DataType, Int64Type};

use super::{Accumulator, Output, Rows};
use crate::Diff;

/// Which values must be true.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    All,
    Some,
}

/// Counts of both values, per group.
pub(super) struct Truth {
    wanted: Wanted,
    /// `[false, true]`.
    counts: Vec<[Diff; 2]>,
}

impl Truth {
    pub(super) fn new(wanted: Wanted) -> Self {
        Truth { wanted, counts: Vec::new() }
    }

    fn result(&self, group: u32) -> Option<bool> {
        let [wrong, right] = self.counts[group as usize].map(|count| count > 0);
        (wrong || right).then_some(match self.wanted {
            Wanted::All => !wrong,
            Wanted::Some => right,
        })
    }
}

impl Accumulator for Truth {
    fn resize(&mut self, groups: usize) {
        self.counts.resize(groups, [0; 2]);
    }

    fn update(&mut self, rows: &Rows<'_>) {
        let values = rows.argument.expect("bool_and and bool_or have an argument").as_boolean().values();
        let counts = &mut self.counts;
        rows.for_each(|row, group, diff| counts[group][usize::from(values.value(row))] += diff);
    }

    fn merge(&mut self, ours: &[u32], other: &dyn Accumulator, theirs: &[u32]) {
        let other: &Truth = other.as_any().downcast_ref().expect("accumulators of one call are of one type");
        for (ours, theirs) in ours.iter().zip(theirs) {
            for (our, their) in self.counts[*ours as usize].iter_mut().zip(other.counts[*theirs as usize]) {
                *our += their;
            }
        }
    }

    fn output(&self, groups: &[u32]) -> Output {
        let values: ArrayRef = Arc::new(BooleanArray::from_iter(groups.iter().map(|group| self.result(*group))));
        values.into()
    }

    fn clear(&mut self, group: u32) {
        self.counts[group as usize] = [0; 2];
    }

    fn bytes(&self) -> usize {
        self.counts.capacity() * size_of::<[Diff; 2]>()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn partial_types(&self) -> Option<Vec<DataType>> {
        Some(vec![DataType::Int64; 2])
    }

    fn partial(&self, groups: &[u32]) -> Vec<ArrayRef> {
        let counts = |value: usize| groups.iter().map(move |group| self.counts[*group as usize][value]);
        [0, 1].map(|value| Arc::new(Int64Array::from_iter_values(counts(value))) as ArrayRef).to_vec()
    }

    fn update_partial(&mut self, groups: &[u32], columns: &[ArrayRef]) {
        for (value, column) in columns.iter().enumerate() {
            for (group, count) in groups.iter().zip(column.as_primitive::<Int64Type>().values()) {
                self.counts[*group as usize][value] += count;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retracted_value_no_longer_counts() {
        let column: ArrayRef = Arc::new(BooleanArray::from(vec![Some(true), Some(false), None]));
        for (wanted, with, without) in [(Wanted::All, false, true), (Wanted::Some, true, true)] {
            let mut truth = Truth::new(wanted);
            truth.resize(2);
            truth.update(&Rows::of(&[0; 3], Some(&column)));
            assert_eq!(truth.result(0), Some(with));
            truth.update(&Rows { diffs: Some(&[0, -1, -1]), ..Rows::of(&[0; 3], Some(&column)) });
            assert_eq!(truth.result(0), Some(without));
            assert_eq!(truth.result(1), None);
        }
    }
}
