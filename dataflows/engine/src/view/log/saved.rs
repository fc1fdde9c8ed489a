//! What of a log is in checkpoints, and what is not yet.
//!
//! A saved row goes by its epoch, the worker that it was appended on, and its number there: a table of entries, which are
//! removed when the log drops its oldest rows.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, UInt32Array, new_null_array};
use arrow::compute::{SortColumn, lexsort_to_indices};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};

use crate::{Delta, Diff, Time};

/// Columns that a saved row goes by.
pub(crate) const LOG_KEYS: usize = 3;

/// Columns before the row's own: the keys and its multiplicity.
const COLUMNS: usize = LOG_KEYS + 1;

/// How far one worker's part of a relation is saved.
#[derive(Debug)]
pub(super) struct Saving {
    worker: i64,
    /// The number of the next row.
    next: i64,
    /// All rows that are kept, oldest first.
    runs: VecDeque<Run>,
    /// Rows that are in no checkpoint, in the order of their numbers.
    pending: VecDeque<Pending>,
    /// Keys of rows that were dropped since the last checkpoint, which has them.
    gone: Vec<Run>,
}

/// Rows that were appended one after the other.
#[derive(Debug, Clone, Copy)]
struct Run {
    epoch: i64,
    worker: i64,
    number: i64,
    rows: usize,
    saved: bool,
}

#[derive(Debug)]
struct Pending {
    epoch: i64,
    number: i64,
    rows: RecordBatch,
    diffs: Option<Int64Array>,
}

/// Rows of one epoch that were saved.
pub(super) struct Restored {
    pub(super) epoch: Time,
    pub(super) rows: RecordBatch,
    pub(super) diffs: Option<Int64Array>,
}

impl Saving {
    /// Of a log that has nothing.
    pub(super) fn new(worker: usize) -> Self {
        let worker = worker as i64;
        Saving { worker, next: 0, runs: VecDeque::new(), pending: VecDeque::new(), gone: Vec::new() }
    }

    /// Rows are appended.
    pub(super) fn append(&mut self, epoch: Time, rows: &RecordBatch, diffs: Option<&Int64Array>) {
        if rows.num_rows() == 0 {
            return;
        }
        let (epoch, number, count) = (epoch as i64, self.next, rows.num_rows());
        self.run(Run { epoch, worker: self.worker, number, rows: count, saved: false });
        self.pending.push_back(Pending { epoch, number, rows: rows.clone(), diffs: diffs.cloned() });
        self.next += count as i64;
    }

    fn run(&mut self, run: Run) {
        let goes_on = |last: &Run| {
            (last.epoch, last.worker, last.saved, last.number + last.rows as i64)
                == (run.epoch, run.worker, run.saved, run.number)
        };
        match self.runs.back_mut().filter(|last| goes_on(last)) {
            Some(last) => last.rows += run.rows,
            None => self.runs.push_back(run),
        }
    }

    /// The oldest rows are dropped.
    pub(super) fn drop_oldest(&mut self, mut rows: usize) {
        while rows > 0 {
            let Some(run) = self.runs.front_mut() else { return };
            let gone = Run { rows: run.rows.min(rows), ..*run };
            (run.number, run.rows) = (run.number + gone.rows as i64, run.rows - gone.rows);
            if run.rows == 0 {
                self.runs.pop_front();
            }
            rows -= gone.rows;
            if gone.saved {
                self.gone.push(gone);
                continue;
            }
            let end = gone.number + gone.rows as i64;
            while let Some(first) = self.pending.front_mut().filter(|first| first.number < end) {
                let (length, over) = (first.rows.num_rows(), (end - first.number) as usize);
                if over >= length {
                    self.pending.pop_front();
                    continue;
                }
                first.rows = first.rows.slice(over, length - over);
                first.diffs = first.diffs.as_ref().map(|diffs| diffs.slice(over, length - over));
                first.number = end;
            }
        }
    }

    /// What changed up to an epoch since this was asked last: keys, multiplicity and columns of rows that came, the keys of
    /// those that are gone.
    pub(super) fn take(&mut self, through: Time, schema: &SchemaRef) -> Vec<Delta> {
        let through = i64::try_from(through).unwrap_or(i64::MAX);
        let saved = saved_schema(schema);
        let mut changes = Vec::new();
        let gone = std::mem::take(&mut self.gone);
        let length = gone.iter().map(|run| run.rows).sum();
        if length > 0 {
            let each = |of: fn(&Run, i64) -> i64| -> ArrayRef {
                let all = gone.iter().flat_map(|run| (0..run.rows as i64).map(move |row| of(run, row)));
                Arc::new(Int64Array::from_iter_values(all))
            };
            let keys = [each(|run, _| run.epoch), each(|run, _| run.worker), each(|run, row| run.number + row)];
            let nulls = saved.fields()[LOG_KEYS..].iter().map(|field| new_null_array(field.data_type(), length));
            let rows = RecordBatch::try_new(Arc::clone(&saved), keys.into_iter().chain(nulls).collect());
            changes.push(Delta::with_diffs(rows.expect("keys and nothing else"), vec![-1; length].into()));
        }
        let (now, later): (VecDeque<Pending>, VecDeque<Pending>) =
            std::mem::take(&mut self.pending).into_iter().partition(|pending| pending.epoch <= through);
        self.pending = later;
        for pending in now {
            let length = pending.rows.num_rows();
            let same = |value: i64| -> ArrayRef { Arc::new(Int64Array::from(vec![value; length])) };
            let numbers = Int64Array::from_iter_values((0..length as i64).map(|row| pending.number + row));
            let diffs = pending.diffs.map_or_else(|| same(1), |diffs| Arc::new(diffs) as ArrayRef);
            let keys = [same(pending.epoch), same(self.worker), Arc::new(numbers), diffs];
            let columns = keys.into_iter().chain(pending.rows.columns().iter().cloned()).collect();
            changes.push(Delta::insert(RecordBatch::try_new(Arc::clone(&saved), columns).expect("keys and the row")));
        }
        self.runs.iter_mut().filter(|run| run.epoch <= through).for_each(|run| run.saved = true);
        changes
    }

    /// Takes back what was saved, of all workers; gives the rows in the order in which they came.
    pub(super) fn restore(&mut self, had: &[Delta], schema: &SchemaRef) -> Vec<Restored> {
        if had.is_empty() {
            return Vec::new();
        }
        let all = Delta::concat(had).rows;
        let keys = all.columns()[..LOG_KEYS].iter();
        let keys: Vec<SortColumn> = keys.map(|column| SortColumn { values: Arc::clone(column), options: None }).collect();
        let order: UInt32Array = lexsort_to_indices(&keys, None).expect("integers have an order");
        let all = arrow::compute::take_record_batch(&all, &order).expect("positions are within the batch");
        let integers = |column: usize| all.column(column).as_primitive::<Int64Type>().values();
        let (epochs, workers, numbers, diffs) = (integers(0), integers(1), integers(2), integers(3));
        for row in 0..all.num_rows() {
            let (epoch, worker, number) = (epochs[row], workers[row], numbers[row]);
            self.run(Run { epoch, worker, number, rows: 1, saved: true });
        }
        let mut restored = Vec::new();
        let mut start = 0;
        for of_epoch in epochs.chunk_by(|one, other| one == other) {
            let length = of_epoch.len();
            let columns = all.columns()[COLUMNS..].iter().map(|column| column.slice(start, length)).collect();
            let rows = RecordBatch::try_new(Arc::clone(schema), columns).expect("the relation's columns were saved");
            let diffs: &[Diff] = &diffs[start..start + length];
            let diffs = diffs.iter().any(|diff| *diff != 1).then(|| Int64Array::from(diffs.to_vec()));
            restored.push(Restored { epoch: of_epoch[0] as Time, rows, diffs });
            start += length;
        }
        restored
    }
}

fn saved_schema(schema: &SchemaRef) -> SchemaRef {
    let keys = ["epoch", "worker", "number", "diff"].map(|name| Field::new(name, DataType::Int64, true));
    let columns = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
    Arc::new(Schema::new(keys.into_iter().chain(columns).collect::<Vec<_>>()))
}
