//! Holds changes back: rows until the watermark has passed them, or all changes until their interval is over.

use std::collections::{BTreeMap, HashMap};

use arrow::array::Int64Array;
use arrow::compute;
use arrow::datatypes::SchemaRef;
use highwater_plan::{Micros, TimeKind};

use super::epoch::EpochLogic;
use super::late::{LateGate, RowWindows, Watermark};
use super::sides::Errors;
use super::sink::consolidate;
use super::window::NULL_TIME;
use crate::checkpoint::{Keeps, Saved, Spread};
use crate::{Delta, Diff, Time};

/// Gives each row when the watermark passes its time.
pub(crate) struct UntilPassed {
    column: usize,
    kind: TimeKind,
    watermark: Watermark,
    /// Refuses rows of windows that are closed; absent if a row is its own window.
    gate: Option<LateGate>,
    errors: Errors,
    schema: SchemaRef,
    /// Batches that have rows that wait, and how many.
    batches: HashMap<u64, (Delta, usize)>,
    next: u64,
    /// By the time at which they have passed: batch and row.
    waiting: BTreeMap<i64, Vec<(u64, u32)>>,
    rows: usize,
}

impl UntilPassed {
    /// Nothing waits. `time`: the column with a row's time, and what it is.
    pub(crate) fn new(
        time: (usize, TimeKind),
        watermark: Watermark,
        gate: Option<LateGate>,
        errors: Errors,
        schema: SchemaRef,
    ) -> Self {
        UntilPassed {
            column: time.0,
            kind: time.1,
            watermark,
            gate,
            errors,
            schema,
            batches: HashMap::new(),
            next: 0,
            waiting: BTreeMap::new(),
            rows: 0,
        }
    }

    fn take(&mut self, epoch: Time, delta: Delta) {
        let times = Micros::new(delta.rows.column(self.column)).expect("planners hold rows by timestamps");
        let mut without_time = Vec::new();
        let mut rows = 0;
        for row in 0..delta.len() {
            if times.is_null(row) {
                without_time.push(row as u32);
                continue;
            }
            let end = RowWindows::end_of_bound(self.kind, times.value(row));
            self.waiting.entry(end).or_default().push((self.next, row as u32));
            rows += 1;
        }
        if !without_time.is_empty() {
            self.errors.report(epoch, &delta, &without_time, NULL_TIME, None);
        }
        if rows > 0 {
            self.batches.insert(self.next, (delta, rows));
            self.next += 1;
            self.rows += rows;
        }
    }

    /// Gives what the watermark has passed.
    fn release(&mut self, output: &mut Vec<Delta>) {
        let watermark = self.watermark.current;
        let mut passed: Vec<(u64, u32)> = Vec::new();
        while let Some(first) = self.waiting.first_entry().filter(|first| *first.key() <= watermark) {
            passed.extend(first.remove());
        }
        if passed.is_empty() {
            return;
        }
        passed.sort_unstable();
        self.rows -= passed.len();
        let mut numbers: Vec<u64> = passed.iter().map(|(batch, _)| *batch).collect();
        numbers.dedup();
        let batches: Vec<&Delta> = numbers.iter().map(|number| &self.batches[number].0).collect();
        let place = |batch: u64| numbers.binary_search(&batch).expect("every batch was listed");
        let places: Vec<(usize, usize)> = passed.iter().map(|(batch, row)| (place(*batch), *row as usize)).collect();
        let rows: Vec<_> = batches.iter().map(|delta| &delta.rows).collect();
        let rows = compute::interleave_record_batch(&rows, &places).expect("rows of batches of one schema");
        if batches.iter().all(|delta| delta.diffs.is_none()) {
            output.push(Delta::insert(rows));
        } else {
            // What came and was taken back while it waited is not given.
            let diffs: Vec<Diff> = places.iter().map(|(batch, row)| batches[*batch].diff(*row)).collect();
            output.extend(consolidate(vec![Delta::with_diffs(rows, Int64Array::from(diffs))], &self.schema));
        }
        for (batch, _) in &passed {
            let waiting = &mut self.batches.get_mut(batch).expect("a row's batch is kept").1;
            *waiting -= 1;
            if *waiting == 0 {
                self.batches.remove(batch);
            }
        }
    }
}

impl EpochLogic for UntilPassed {
    fn keeps(&self) -> Keeps {
        Keeps::Inputs
    }

    fn gates(&mut self) -> Vec<&mut LateGate> {
        self.gate.iter_mut().collect()
    }

    fn freed(&self, _table: u32) -> Option<(usize, i64)> {
        Some((self.column, self.watermark.current.saturating_sub(self.kind.closes_after())))
    }

    fn apply(&mut self, epoch: Time, inputs: &mut [Vec<Delta>], watermarks: Option<&[i64]>, output: &mut Vec<Delta>) {
        let deltas = std::mem::take(&mut inputs[0]);
        let deltas = match &self.gate {
            Some(gate) => gate.at_once(deltas),
            None => deltas,
        };
        for delta in deltas {
            let delta = match &self.gate {
                Some(gate) => gate.split(epoch, delta, self.watermark.current),
                None => delta,
            };
            self.take(epoch, Delta { origin: None, ..delta });
        }
        self.watermark.advance(watermarks);
        self.release(output);
    }

    fn state(&self) -> (usize, usize) {
        let bytes = |delta: &Delta| delta.rows.columns().iter().map(crate::keys::array_bytes).sum::<usize>();
        (self.rows, self.batches.values().map(|(delta, _)| bytes(delta)).sum::<usize>() + self.rows * 12)
    }

    fn wake_at(&self) -> Option<Time> {
        self.watermark.due(*self.waiting.first_key_value()?.0)
    }
}

/// Gives the changes of an interval together, in the first epoch after it.
pub(crate) struct Every {
    millis: u64,
    schema: SchemaRef,
    pending: Vec<Delta>,
    rows: usize,
    /// Rows that were left when the pending changes were last consolidated.
    consolidated: usize,
    /// The pending changes' interval.
    interval: u64,
    /// What came, and with the opposite sign what was given, since the last checkpoint.
    log: Vec<Delta>,
    logs: bool,
}

impl Every {
    /// Nothing pending.
    pub(crate) fn new(millis: u64, schema: SchemaRef) -> Self {
        let (pending, log) = (Vec::new(), Vec::new());
        Every { millis: millis.max(1), schema, pending, rows: 0, consolidated: 0, interval: 0, log, logs: false }
    }

    fn consolidate(&mut self) {
        self.pending = consolidate(std::mem::take(&mut self.pending), &self.schema);
        self.rows = self.pending.iter().map(Delta::len).sum();
        self.consolidated = self.rows;
    }

    fn flush(&mut self, output: &mut Vec<Delta>) {
        self.consolidate();
        if self.logs {
            self.log.extend(self.pending.iter().map(Delta::negated));
        }
        output.append(&mut self.pending);
        (self.rows, self.consolidated) = (0, 0);
    }
}

impl EpochLogic for Every {
    fn keeps(&self) -> Keeps {
        Keeps::Own
    }

    fn log(&mut self) {
        self.logs = true;
    }

    fn save(&mut self, saved: &mut Saved) {
        let log = std::mem::take(&mut self.log);
        saved.rows(0, Spread::Anywhere, log, None);
    }

    fn load(&mut self, _epoch: Time, tables: &mut [Vec<Delta>]) {
        self.pending = std::mem::take(&mut tables[0]);
        self.consolidate();
    }

    fn resume(&mut self, epoch: Time, _inputs: usize, _watermarks: &[i64]) {
        self.interval = epoch / self.millis;
    }

    fn apply(&mut self, epoch: Time, inputs: &mut [Vec<Delta>], watermarks: Option<&[i64]>, output: &mut Vec<Delta>) {
        let interval = epoch / self.millis;
        if interval > self.interval && !self.pending.is_empty() {
            self.flush(output);
        }
        self.interval = interval;
        for delta in std::mem::take(&mut inputs[0]) {
            self.rows += delta.len();
            let delta = Delta::of(delta.rows, delta.diffs);
            if self.logs {
                self.log.push(delta.clone());
            }
            self.pending.push(delta);
        }
        // What changes again and again is kept once.
        if self.rows > 1_024 && self.rows > self.consolidated * 2 {
            self.consolidate();
        }
        let over = watermarks.is_some_and(|watermarks| watermarks.last() == Some(&i64::MAX));
        if over && !self.pending.is_empty() {
            self.flush(output);
        }
    }

    fn state(&self) -> (usize, usize) {
        let bytes = |delta: &Delta| delta.rows.columns().iter().map(crate::keys::array_bytes).sum::<usize>();
        (self.rows, self.pending.iter().map(bytes).sum())
    }

    fn wake_at(&self) -> Option<Time> {
        (!self.pending.is_empty()).then(|| (self.interval + 1).saturating_mul(self.millis))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, AsArray, RecordBatch, TimestampMillisecondArray};
    use arrow::datatypes::{DataType, Field, Schema, TimeUnit, TimestampMillisecondType};
    use highwater_plan::{OnError, TimeSource};

    use super::*;

    fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new("ts", DataType::Timestamp(TimeUnit::Millisecond, None), true)]))
    }

    fn delta(rows: &[(i64, Diff)]) -> Delta {
        let times: ArrayRef = Arc::new(TimestampMillisecondArray::from_iter_values(rows.iter().map(|row| row.0)));
        let diffs = Int64Array::from_iter_values(rows.iter().map(|row| row.1));
        Delta::with_diffs(RecordBatch::try_new(schema(), vec![times]).expect("one column"), diffs)
    }

    fn step(logic: &mut dyn EpochLogic, epoch: Time, rows: &[(i64, Diff)], watermark: Option<i64>) -> Vec<(i64, Diff)> {
        let mut output = Vec::new();
        let inputs = if rows.is_empty() { Vec::new() } else { vec![delta(rows)] };
        let watermark = watermark.map(|micros| [micros]);
        logic.apply(epoch, &mut [inputs], watermark.as_ref().map(|watermark| &watermark[..]), &mut output);
        let times = |delta: &Delta| delta.rows.column(0).as_primitive::<TimestampMillisecondType>().clone();
        let mut all: Vec<(i64, Diff)> =
            output.iter().flat_map(|delta| (0..delta.len()).map(|row| (times(delta).value(row), delta.diff(row)))).collect();
        all.sort_unstable();
        all
    }

    #[test]
    fn rows_wait_until_the_watermark_is_after_them() {
        let errors =
            Errors { worker: 0, operator: "test".into(), relations: Vec::new(), policy: OnError::Skip, fail: Arc::new(|_| {}) };
        let mut logic = UntilPassed::new((0, TimeKind::Event), Watermark::of(vec![TimeSource::of(0)]), None, errors, schema());
        assert_eq!(step(&mut logic, 1, &[(5, 1), (7, 2), (9, 1)], None), []);
        assert_eq!(step(&mut logic, 2, &[(7, -1), (9, -1)], Some(5_000)), [], "rows at the watermark may still come");
        assert_eq!(step(&mut logic, 3, &[], Some(9_500)), [(5, 1), (7, 1)], "what was taken back meanwhile is not given");
        assert_eq!(step(&mut logic, 4, &[(3, 1), (9, -1)], None), [(3, 1), (9, -1)], "what has passed is given at once");
        assert_eq!(logic.state(), (0, 0));
    }

    #[test]
    fn changes_of_an_interval_are_given_in_the_first_epoch_after_it() {
        let mut logic = Every::new(10, schema());
        assert_eq!(step(&mut logic, 12, &[(1, 1), (2, 1)], None), []);
        assert_eq!((step(&mut logic, 19, &[(1, -1), (3, 1)], None), logic.wake_at()), (Vec::new(), Some(20)));
        assert_eq!(step(&mut logic, 23, &[(4, 1)], None), [(2, 1), (3, 1)], "those of its own interval wait");
        assert_eq!(step(&mut logic, 24, &[(5, 1)], Some(i64::MAX)), [(4, 1), (5, 1)], "the end gives the rest");
        assert_eq!((logic.wake_at(), logic.state()), (None, (0, 0)));
    }

    #[test]
    fn many_changes_of_one_row_are_kept_once() {
        let mut logic = Every::new(1_000_000, schema());
        for epoch in 0..2_000 {
            step(&mut logic, epoch, &[(1, 1), (2, 1), (2, -1)], None);
        }
        assert!(logic.state().0 < 1_100, "{} rows are kept", logic.state().0);
    }
}
