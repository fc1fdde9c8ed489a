//! `DISTINCT`: hands a value to the inner accumulator when its first copy comes, and takes it back with its last.

use std::any::Any;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, UInt32Array};
use arrow::compute;
use arrow::datatypes::DataType;

use super::{Accumulator, Output, Rows};
use crate::Diff;
use crate::keys::Keys;

/// Counts copies of `(group, value)`.
pub(super) struct Distinct {
    data_type: DataType,
    keys: Keys,
    counts: Vec<Diff>,
    inner: Box<dyn Accumulator>,
    numbers: Vec<u32>,
}

impl Distinct {
    pub(super) fn new(data_type: DataType, inner: Box<dyn Accumulator>) -> Self {
        let keys = Keys::new(&[DataType::UInt32, data_type.clone()]);
        Distinct { data_type, keys, counts: Vec::new(), inner, numbers: Vec::new() }
    }

    /// Applies copies `(group, value, diff)`; only crossings of zero reach the inner accumulator.
    fn apply(&mut self, groups: &[u32], values: &ArrayRef, diffs: impl Iterator<Item = (usize, Diff)>) {
        let columns: [ArrayRef; 2] = [Arc::new(UInt32Array::from(groups.to_vec())), Arc::clone(values)];
        let mut numbers = std::mem::take(&mut self.numbers);
        self.keys.intern(&columns, groups.len(), &mut numbers);
        self.counts.resize(self.keys.bound(), 0);
        let (mut crossed_groups, mut crossed_rows, mut crossed_diffs) = (Vec::new(), Vec::new(), Vec::new());
        for (row, diff) in diffs {
            let count = &mut self.counts[numbers[row] as usize];
            let before = *count > 0;
            *count += diff;
            let after = *count > 0;
            if before != after {
                crossed_groups.push(groups[row]);
                crossed_rows.push(row as u32);
                crossed_diffs.push(if after { 1 } else { -1 });
            }
        }
        numbers.retain(|number| self.counts[*number as usize] == 0);
        numbers.sort_unstable();
        numbers.dedup();
        for number in &numbers {
            self.keys.remove(*number);
        }
        self.numbers = numbers;
        if !crossed_rows.is_empty() {
            let crossed = compute::take(values, &UInt32Array::from(crossed_rows), None).expect("rows of the batch");
            self.inner.update(&Rows {
                groups: &crossed_groups,
                argument: Some(&crossed),
                filter: None,
                diffs: Some(&crossed_diffs),
            });
        }
    }
}

impl Accumulator for Distinct {
    fn resize(&mut self, groups: usize) {
        self.inner.resize(groups);
    }

    fn update(&mut self, rows: &Rows<'_>) {
        let values = rows.argument.expect("DISTINCT has an argument");
        let mut counted = Vec::with_capacity(rows.groups.len());
        rows.for_each(|row, _, diff| counted.push((row, diff)));
        if counted.len() == rows.groups.len() {
            self.apply(rows.groups, values, counted.into_iter());
            return;
        }
        let positions = UInt32Array::from_iter_values(counted.iter().map(|(row, _)| *row as u32));
        let values = compute::take(values, &positions, None).expect("rows of the batch");
        let groups: Vec<u32> = counted.iter().map(|(row, _)| rows.groups[*row]).collect();
        self.apply(&groups, &values, counted.iter().enumerate().map(|(row, (_, diff))| (row, *diff)));
    }

    fn merge(&mut self, ours: &[u32], other: &dyn Accumulator, theirs: &[u32]) {
        let other: &Distinct = other.as_any().downcast_ref().expect("accumulators of one call are of one type");
        debug_assert_eq!(self.data_type, other.data_type, "accumulators of one call have one type");
        let numbers = other.keys.numbers();
        let columns = other.keys.columns(&numbers);
        let their_groups = columns[0].as_any().downcast_ref::<UInt32Array>().expect("the first key column is the group");
        let mut translate = vec![u32::MAX; theirs.iter().max().map_or(0, |max| *max as usize + 1)];
        for (ours, theirs) in ours.iter().zip(theirs) {
            translate[*theirs as usize] = *ours;
        }
        let (mut groups, mut rows) = (Vec::new(), Vec::new());
        for row in 0..their_groups.len() {
            if let Some(ours) = translate.get(their_groups.value(row) as usize).filter(|ours| **ours != u32::MAX) {
                groups.push(*ours);
                rows.push(row as u32);
            }
        }
        let counts: Vec<Diff> = rows.iter().map(|row| other.counts[numbers[*row as usize] as usize]).collect();
        let values = compute::take(&columns[1], &UInt32Array::from(rows), None).expect("rows of the keys");
        self.apply(&groups, &values, counts.into_iter().enumerate());
    }

    fn output(&self, groups: &[u32]) -> Output {
        self.inner.output(groups)
    }

    fn clear(&mut self, group: u32) {
        // A group is forgotten when its last row is retracted, so all its values were taken back before.
        self.inner.clear(group);
    }

    fn bytes(&self) -> usize {
        self.keys.bytes() + self.counts.capacity() * size_of::<Diff>() + self.inner.bytes()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
