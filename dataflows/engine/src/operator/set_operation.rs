//! `INTERSECT` and `EXCEPT`: how often each row is in either input, and so in the result.

use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, SchemaRef};
use highwater_plan::SetOperation;

use super::epoch::EpochLogic;
use super::lives::{Lives, TimeToLive};
use crate::checkpoint::Keeps;
use crate::keys::Keys;
use crate::{Delta, Diff, Time};

/// Rows of one output batch.
const BATCH_ROWS: usize = 8_192;

/// Counts of two inputs, row by row.
pub(crate) struct SetOperator {
    operation: SetOperation,
    schema: SchemaRef,
    rows: Keys,
    /// Per row how many copies each input has.
    counts: Vec<[Diff; 2]>,
    /// With `state_ttl`: when each row was touched last.
    lives: Option<Lives>,
}

impl SetOperator {
    /// Compares relations of the columns of `schema`.
    pub(crate) fn new(operation: SetOperation, schema: SchemaRef) -> Self {
        let types: Vec<DataType> = schema.fields().iter().map(|field| field.data_type().clone()).collect();
        SetOperator { operation, schema, rows: Keys::new(&types), counts: Vec::new(), lives: None }
    }

    /// Rows that are not touched for so long are forgotten.
    pub(crate) fn that_expire(mut self, ttl: TimeToLive) -> Self {
        self.lives = Some(Lives::new(ttl));
        self
    }

    fn begin(&mut self, epoch: Time) {
        let Some(lives) = &mut self.lives else { return };
        let expired = lives.begin(epoch, &self.rows);
        lives.ttl.expired(expired.len());
        for number in expired {
            self.counts[number as usize] = [0, 0];
            self.rows.remove(number);
        }
    }
}

impl EpochLogic for SetOperator {
    fn keeps(&self) -> Keeps {
        if self.lives.is_some() { Keeps::Unsaved("a state_ttl") } else { Keeps::Inputs }
    }

    fn apply(&mut self, epoch: Time, inputs: &mut [Vec<Delta>], _: Option<&[i64]>, output: &mut Vec<Delta>) {
        self.begin(epoch);
        let mut touched: Vec<(u32, [Diff; 2])> = Vec::new();
        let mut numbers = Vec::new();
        for (side, deltas) in inputs.iter_mut().enumerate() {
            for delta in deltas.drain(..) {
                self.rows.intern(delta.rows.columns(), delta.len(), &mut numbers);
                if let Some(lives) = &mut self.lives {
                    lives.touch(&numbers);
                }
                for (row, number) in numbers.iter().enumerate() {
                    let mut change = [0, 0];
                    change[side] = delta.diff(row);
                    touched.push((*number, change));
                }
            }
        }
        self.counts.resize(self.rows.bound(), [0, 0]);
        touched.sort_unstable_by_key(|(number, _)| *number);
        let (mut changed, mut diffs, mut gone) = (Vec::new(), Vec::new(), Vec::new());
        for changes in touched.chunk_by(|one, other| one.0 == other.0) {
            let number = changes[0].0;
            let counts = &mut self.counts[number as usize];
            let before = self.operation.copies(counts[0], counts[1]);
            for (_, [left, right]) in changes {
                counts[0] += left;
                counts[1] += right;
            }
            if let Some(lives) = &self.lives {
                for count in counts.iter_mut().filter(|count| **count < 0) {
                    lives.ttl.ignored(std::mem::take(count));
                }
            }
            let diff = self.operation.copies(counts[0], counts[1]) - before;
            if diff != 0 {
                changed.push(number);
                diffs.push(diff);
            }
            if *counts == [0, 0] {
                gone.push(number);
            }
        }
        for (rows, diffs) in changed.chunks(BATCH_ROWS).zip(diffs.chunks(BATCH_ROWS)) {
            let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
            let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), self.rows.columns(rows), &options);
            let batch = batch.expect("both inputs have the columns of the output");
            output.push(Delta::with_diffs(batch, Int64Array::from(diffs.to_vec())));
        }
        gone.into_iter().for_each(|number| self.rows.remove(number));
    }

    fn state(&self) -> (usize, usize) {
        let lives = self.lives.as_ref().map_or(0, Lives::bytes);
        (self.rows.len(), self.rows.bytes() + self.counts.capacity() * size_of::<[Diff; 2]>() + lives)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Array, AsArray};
    use arrow::datatypes::{Field, Int64Type, Schema};
    use highwater_plan::SetKind;
    use std::collections::BTreeMap;

    fn delta(rows: &[(Option<i64>, i64)]) -> Delta {
        let schema = Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, true)]));
        let values: Int64Array = rows.iter().map(|(value, _)| *value).collect();
        let batch = RecordBatch::try_new(schema, vec![Arc::new(values)]).unwrap();
        Delta::with_diffs(batch, rows.iter().map(|(_, diff)| *diff).collect())
    }

    type Rows<'a> = &'a [(Option<i64>, i64)];

    fn run(kind: SetKind, all: bool, epochs: &[[Rows<'_>; 2]]) -> BTreeMap<Option<i64>, i64> {
        let schema = Arc::clone(delta(&[]).rows.schema_ref());
        let mut logic = SetOperator::new(SetOperation { kind, all }, schema);
        let mut content = BTreeMap::new();
        for (epoch, sides) in epochs.iter().enumerate() {
            let mut inputs: Vec<Vec<Delta>> = sides.iter().map(|rows| vec![delta(rows)]).collect();
            let mut output = Vec::new();
            logic.apply(epoch as u64, &mut inputs, None, &mut output);
            for delta in output {
                let values = delta.rows.column(0).as_primitive::<Int64Type>();
                for row in 0..delta.len() {
                    *content.entry(values.is_valid(row).then(|| values.value(row))).or_insert(0) += delta.diff(row);
                }
            }
        }
        content.retain(|_, count| *count != 0);
        content
    }

    #[test]
    fn copies_count_with_all_and_nulls_are_equal() {
        let epochs: [[Rows<'_>; 2]; 3] = [
            [&[(Some(1), 3), (Some(2), 1), (None, 2)], &[(Some(1), 1)]],
            [&[(Some(3), 1)], &[(None, 1), (Some(2), 2), (Some(1), 1)]],
            [&[(Some(2), 1), (Some(3), -1)], &[(Some(2), -1), (Some(3), 1)]],
        ];
        let rows = |rows: &[(Option<i64>, i64)]| rows.iter().copied().collect::<BTreeMap<_, _>>();
        // Left: 1 three times, 2 twice, NULL twice. Right: 1 twice, 2 once, 3 once, NULL once.
        assert_eq!(run(SetKind::Intersect, true, &epochs), rows(&[(Some(1), 2), (Some(2), 1), (None, 1)]));
        assert_eq!(run(SetKind::Intersect, false, &epochs), rows(&[(Some(1), 1), (Some(2), 1), (None, 1)]));
        assert_eq!(run(SetKind::Except, true, &epochs), rows(&[(Some(1), 1), (Some(2), 1), (None, 1)]));
        assert_eq!(run(SetKind::Except, false, &epochs), rows(&[]));
    }

    #[test]
    fn rows_that_are_gone_are_forgotten() {
        let schema = Arc::clone(delta(&[]).rows.schema_ref());
        let mut logic = SetOperator::new(SetOperation { kind: SetKind::Except, all: true }, schema);
        for value in 0..100 {
            let mut inputs = [vec![delta(&[(Some(value), 1)])], vec![delta(&[(Some(value), 2)])]];
            logic.apply(value as u64 * 2, &mut inputs, None, &mut Vec::new());
            let mut inputs = [vec![delta(&[(Some(value), -1)])], vec![delta(&[(Some(value), -2)])]];
            logic.apply(value as u64 * 2 + 1, &mut inputs, None, &mut Vec::new());
        }
        assert_eq!(logic.state().0, 0);
    }

    #[test]
    fn rows_expire_and_are_not_taken_back() {
        use crate::operator::lives::tests::{counted, ttl};
        let (ttl, stats) = ttl(80);
        let schema = Arc::clone(delta(&[]).rows.schema_ref());
        let operation = SetOperation { kind: SetKind::Except, all: false };
        let mut logic = SetOperator::new(operation, schema).that_expire(ttl);
        let mut at = |epoch: Time, left: Rows<'_>, right: Rows<'_>| {
            let mut output = Vec::new();
            logic.apply(epoch, &mut [vec![delta(left)], vec![delta(right)]], None, &mut output);
            let diffs = output.iter().flat_map(|delta| (0..delta.len()).map(|row| delta.diff(row)));
            (diffs.collect::<Vec<_>>(), logic.state().0)
        };
        assert_eq!(at(1_000, &[(Some(1), 1)], &[]), (vec![1], 1));
        assert_eq!(at(1_200, &[], &[]), (vec![], 0));
        assert_eq!(at(1_200, &[(Some(1), -1)], &[(Some(1), -1)]), (vec![], 0));
        assert_eq!(at(1_210, &[(Some(1), 1)], &[]), (vec![1], 1));
        assert_eq!(at(1_220, &[(Some(1), -1)], &[]), (vec![-1], 0));
        assert_eq!(counted(&stats), (1, 2));
    }
}
