//! `DISTINCT`: hands a value to the inner accumulator when its first copy comes, and takes it back with its last.
//!
//! Several calls over the same columns, with different functions and filters, find the values once: each value has a count
//! of copies per call.

use std::any::Any;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, UInt32Array};
use arrow::compute;
use arrow::datatypes::DataType;

use super::{Accumulator, Output, Rows};
use crate::Diff;
use crate::keys::Keys;

/// Counts copies of `(group, values)` for each of its calls.
pub(super) struct Distinct {
    keys: Keys,
    /// By key, then by call.
    counts: Vec<Diff>,
    inner: Vec<Box<dyn Accumulator>>,
    /// How many further arguments stand behind the first.
    further: usize,
    numbers: Vec<u32>,
}

/// What crossed zero for one call.
#[derive(Default)]
struct Crossed {
    groups: Vec<u32>,
    rows: Vec<u32>,
    diffs: Vec<Diff>,
}

impl Distinct {
    /// `types`: of the argument, of so many further arguments, and of what the values are ordered by.
    pub(super) fn new(types: Vec<DataType>, further: usize, inner: Vec<Box<dyn Accumulator>>) -> Self {
        let types: Vec<DataType> = std::iter::once(DataType::UInt32).chain(types).collect();
        Distinct { keys: Keys::new(&types), counts: Vec::new(), inner, further, numbers: Vec::new() }
    }

    /// Applies copies; `diff(call, row)`. Only crossings of zero reach the inner accumulators.
    fn apply(&mut self, groups: &[u32], columns: &[ArrayRef], diff: impl Fn(usize, usize) -> Diff) {
        let calls = self.inner.len();
        let mut keys: Vec<ArrayRef> = vec![Arc::new(UInt32Array::from(groups.to_vec()))];
        keys.extend(columns.iter().cloned());
        let mut numbers = std::mem::take(&mut self.numbers);
        self.keys.intern(&keys, groups.len(), &mut numbers);
        self.counts.resize(self.keys.bound() * calls, 0);
        for (call, inner) in self.inner.iter_mut().enumerate() {
            let mut crossed = Crossed::default();
            for (row, number) in numbers.iter().enumerate() {
                let count = &mut self.counts[*number as usize * calls + call];
                let before = *count > 0;
                *count += diff(call, row);
                let after = *count > 0;
                if before != after {
                    crossed.groups.push(groups[row]);
                    crossed.rows.push(row as u32);
                    crossed.diffs.push(if after { 1 } else { -1 });
                }
            }
            if crossed.rows.is_empty() {
                continue;
            }
            let rows = UInt32Array::from(crossed.rows);
            let take = |column: &ArrayRef| compute::take(column, &rows, None).expect("rows of the batch");
            let mut taken = columns.iter().map(take);
            let argument = taken.next().expect("DISTINCT has an argument");
            let rows = Rows {
                further: taken.by_ref().take(self.further).collect(),
                order: taken.collect(),
                diffs: Some(&crossed.diffs),
                ..Rows::of(&crossed.groups, Some(&argument))
            };
            inner.update(&rows);
        }
        numbers.sort_unstable();
        numbers.dedup();
        for number in &numbers {
            let from = *number as usize * calls;
            if self.counts[from..from + calls].iter().all(|count| *count == 0) {
                self.keys.remove(*number);
            }
        }
        self.numbers = numbers;
    }
}

/// The columns that name a value.
fn columns(rows: &Rows<'_>) -> Vec<ArrayRef> {
    let argument = rows.argument.expect("DISTINCT has an argument");
    std::iter::once(argument).chain(&rows.further).chain(&rows.order).cloned().collect()
}

impl Accumulator for Distinct {
    fn resize(&mut self, groups: usize) {
        self.inner.iter_mut().for_each(|inner| inner.resize(groups));
    }

    fn update(&mut self, rows: &Rows<'_>) {
        self.update_all(std::slice::from_ref(rows));
    }

    fn update_all(&mut self, rows: &[Rows<'_>]) {
        let first = &rows[0];
        let (groups, values) = (first.groups, columns(first));
        let diff = |call: usize, row: usize| if rows[call].passes(row) { first.diff(row) } else { 0 };
        if rows.iter().any(|rows| rows.filter.is_none()) {
            return self.apply(groups, &values, diff);
        }
        // Values of rows that no call counts are not looked for.
        let counts = |row: usize| rows.iter().any(|rows| rows.passes(row));
        let kept = BooleanArray::from_iter((0..groups.len()).map(|row| Some(counts(row))));
        let kept_rows: Vec<usize> = kept.values().set_indices().collect();
        if kept_rows.is_empty() {
            return;
        }
        let kept_groups: Vec<u32> = kept_rows.iter().map(|row| groups[*row]).collect();
        let keep = |column: &ArrayRef| compute::filter(column, &kept).expect("one bit per row");
        let values: Vec<ArrayRef> = values.iter().map(keep).collect();
        self.apply(&kept_groups, &values, |call, row| diff(call, kept_rows[row]));
    }

    fn merge(&mut self, ours: &[u32], other: &dyn Accumulator, theirs: &[u32]) {
        let other: &Distinct = other.as_any().downcast_ref().expect("accumulators of one call are of one type");
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
        let calls = self.inner.len();
        let count = |call: usize, row: usize| other.counts[numbers[rows[row] as usize] as usize * calls + call];
        let taken = UInt32Array::from(rows.clone());
        let take = |column: &ArrayRef| compute::take(column, &taken, None).expect("rows of the keys");
        let values: Vec<ArrayRef> = columns[1..].iter().map(take).collect();
        self.apply(&groups, &values, count);
    }

    fn output(&self, groups: &[u32]) -> Output {
        self.inner[0].output(groups)
    }

    fn outputs(&self, groups: &[u32]) -> Vec<Output> {
        self.inner.iter().map(|inner| inner.output(groups)).collect()
    }

    fn clear(&mut self, group: u32) {
        // A group is forgotten when its last row is retracted, so all its values were taken back before.
        self.inner.iter_mut().for_each(|inner| inner.clear(group));
    }

    fn bytes(&self) -> usize {
        let inner: usize = self.inner.iter().map(|inner| inner.bytes()).sum();
        self.keys.bytes() + self.counts.capacity() * size_of::<Diff>() + inner
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::super::count::Count;
    use super::super::sum;
    use super::*;
    use arrow::array::Int64Array;

    fn integers(values: &[i64]) -> ArrayRef {
        Arc::new(Int64Array::from(values.to_vec()))
    }

    #[test]
    fn calls_over_one_column_keep_their_values_together() {
        let inner: Vec<Box<dyn Accumulator>> =
            vec![Box::new(Count::default()), Box::new(Count::default()), sum::sum(DataType::Int64, DataType::Int64)];
        let mut distinct = Distinct::new(vec![DataType::Int64], 0, inner);
        distinct.resize(2);
        let values = integers(&[7, 7, 8, 9, 7]);
        let filter = BooleanArray::from(vec![true, true, false, true, true]);
        let groups = [0, 0, 0, 0, 1];
        let rows = |diffs| {
            let all = || Rows { diffs, ..Rows::of(&groups, Some(&values)) };
            vec![all(), Rows { filter: Some(&filter), ..all() }, all()]
        };
        distinct.update_all(&rows(None));
        let shown = |distinct: &Distinct| -> Vec<ArrayRef> {
            distinct.outputs(&[0, 1]).into_iter().map(|output| output.values).collect()
        };
        assert_eq!(shown(&distinct), [integers(&[3, 1]), integers(&[2, 1]), integers(&[24, 7])]);
        distinct.update_all(&rows(Some(&[-1, 0, -1, 0, 0])));
        assert_eq!(shown(&distinct), [integers(&[2, 1]), integers(&[2, 1]), integers(&[16, 7])]);
        assert_eq!(distinct.keys.len(), 3);
        distinct.update_all(&rows(Some(&[0, -1, 0, -1, 0])));
        assert_eq!(shown(&distinct)[..2], [integers(&[0, 1]), integers(&[0, 1])]);
        assert_eq!(distinct.keys.len(), 1);
    }
}
