//! `INTERSECT` and `EXCEPT`: how often each row is in either input, and so in the result.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Int64Type, SchemaRef};
use highwater_plan::SetOperation;

use super::epoch::EpochLogic;
use super::groups::state_batch;
use super::lives::{Lives, TimeToLive};
use crate::checkpoint::{Keeps, Saved, Spread};
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
    /// With `state_ttl`: the rows whose counts changed since the last checkpoint, if that is to be in the next one.
    log: Option<Vec<Delta>>,
}

impl SetOperator {
    /// Compares relations of the columns of `schema`.
    pub(crate) fn new(operation: SetOperation, schema: SchemaRef) -> Self {
        let types: Vec<DataType> = schema.fields().iter().map(|field| field.data_type().clone()).collect();
        SetOperator { operation, schema, rows: Keys::new(&types), counts: Vec::new(), lives: None, log: None }
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
        self.note(&expired, true);
        for number in expired {
            self.counts[number as usize] = [0, 0];
            self.rows.remove(number);
        }
    }
}

impl SetOperator {
    /// The counts of these rows have changed, or the rows go.
    fn note(&mut self, numbers: &[u32], gone: bool) {
        let Some(log) = self.log.as_mut().filter(|_| !numbers.is_empty()) else { return };
        let counts = &self.counts;
        let count = |side: usize| numbers.iter().map(move |number| counts[*number as usize][side]);
        let mut columns = self.rows.columns(numbers);
        columns.extend([0, 1].map(|side| -> ArrayRef { Arc::new(Int64Array::from_iter_values(count(side))) }));
        let rows = state_batch(columns, numbers.len());
        let diff = if gone { -1 } else { 1 };
        log.push(Delta::with_diffs(rows, vec![diff; numbers.len()].into()));
    }
}

impl EpochLogic for SetOperator {
    fn keeps(&self) -> Keeps {
        if self.lives.is_some() { Keeps::Own } else { Keeps::Inputs }
    }

    fn log(&mut self) {
        if let Some(lives) = &mut self.lives {
            lives.log();
            self.log = Some(Vec::new());
        }
    }

    /// The rows with their counts, and when they were touched.
    fn save(&mut self, saved: &mut Saved) {
        let keys = self.schema.fields().len();
        let spread = Spread::ByColumns((0..keys).collect());
        saved.entries(0, keys, spread.clone(), self.log.as_mut().map(std::mem::take).unwrap_or_default(), None);
        if let Some(lives) = &mut self.lives {
            lives.save(1, spread, saved);
        }
    }

    fn load(&mut self, epoch: Time, tables: &mut [Vec<Delta>]) {
        let Some(lives) = &mut self.lives else {
            return self.apply(epoch, tables, None, &mut Vec::new());
        };
        let mut numbers = Vec::new();
        for delta in &tables[0] {
            let (columns, counts) = delta.rows.columns().split_at(delta.rows.num_columns() - 2);
            self.rows.intern(columns, delta.len(), &mut numbers);
            self.counts.resize(self.rows.bound(), [0, 0]);
            let [left, right] = [0, 1].map(|side| counts[side].as_primitive::<Int64Type>().values());
            numbers.iter().enumerate().for_each(|(row, number)| self.counts[*number as usize] = [left[row], right[row]]);
        }
        lives.load(epoch, &tables[1], &self.rows);
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
        if let Some(lives) = &mut self.lives {
            lives.noted(&self.rows);
            let mut numbers: Vec<u32> = touched.iter().map(|(number, _)| *number).collect();
            numbers.dedup();
            numbers.retain(|number| self.counts[*number as usize] != [0, 0]);
            self.note(&numbers, false);
            self.note(&gone, true);
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
    use arrow::array::Array;
    use arrow::datatypes::{Field, Schema};
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

    #[test]
    fn restored_rows_expire_as_if_nothing_had_been() {
        use crate::checkpoint::testing::{Life, Twins};
        use crate::operator::exchange::Route;
        use crate::operator::lives::tests::ttl;
        for (kind, all) in [(SetKind::Except, true), (SetKind::Intersect, false)] {
            let schema = Arc::clone(delta(&[]).rows.schema_ref());
            let make = || -> Box<dyn EpochLogic> {
                Box::new(SetOperator::new(SetOperation { kind, all }, Arc::clone(&schema)).that_expire(ttl(80).0))
            };
            let mut twins = Twins::new(vec![Route::ByColumns(vec![0]), Route::ByColumns(vec![0])], &make);
            let life = Life { retracts: vec![true, true], keys: 12, values: 1, apart: 30, saved_max: 12 * 10 };
            let rows =
                |rows: &[(i64, i64, i64)]| delta(&rows.iter().map(|(key, _, diff)| (Some(*key), *diff)).collect::<Vec<_>>());
            assert!(life.live(&mut twins, &rows) > 150);
        }
    }
}
