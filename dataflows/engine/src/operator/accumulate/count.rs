//! `count(*)` and `count(x)`.

use std::any::Any;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::datatypes::{DataType, Int64Type};

use super::{Accumulator, Output, Rows};
use crate::Diff;

/// Rows that count, per group.
#[derive(Default)]
pub(super) struct Count {
    counts: Vec<Diff>,
}

impl Accumulator for Count {
    fn resize(&mut self, groups: usize) {
        self.counts.resize(groups, 0);
    }

    fn update(&mut self, rows: &Rows<'_>) {
        let counts = &mut self.counts;
        rows.for_each(|_, group, diff| counts[group] += diff);
    }

    fn update_one(&mut self, group: u32, rows: &Rows<'_>) {
        let mut count = 0;
        match (rows.argument, rows.filter) {
            (None, None) => count = rows.groups.len() as Diff,
            _ => rows.for_each(|_, _, diff| count += diff),
        }
        self.counts[group as usize] += count;
    }

    fn merge(&mut self, ours: &[u32], other: &dyn Accumulator, theirs: &[u32]) {
        let other: &Count = other.as_any().downcast_ref().expect("accumulators of one call are of one type");
        for (ours, theirs) in ours.iter().zip(theirs) {
            self.counts[*ours as usize] += other.counts[*theirs as usize];
        }
    }

    fn output(&self, groups: &[u32]) -> Output {
        let counts = groups.iter().map(|group| self.counts[*group as usize]);
        let values: ArrayRef = Arc::new(Int64Array::from_iter_values(counts));
        values.into()
    }

    fn clear(&mut self, group: u32) {
        self.counts[group as usize] = 0;
    }

    fn bytes(&self) -> usize {
        self.counts.capacity() * size_of::<Diff>()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn partial_types(&self) -> Option<Vec<DataType>> {
        Some(vec![DataType::Int64])
    }

    fn partial(&self, groups: &[u32]) -> Vec<ArrayRef> {
        vec![self.output(groups).values]
    }

    fn update_partial(&mut self, groups: &[u32], columns: &[ArrayRef]) {
        let counts = columns[0].as_primitive::<Int64Type>().values();
        for (group, count) in groups.iter().zip(counts) {
            self.counts[*group as usize] += count;
        }
    }
}
