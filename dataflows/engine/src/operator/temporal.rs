//! Rows while their conditions on the clock hold: `WHERE ts > NOW() - INTERVAL '1' HOUR`.
//!
//! For every row the epochs between which it passes are worked out when it comes: from when the last of its conditions has
//! become true until the first has become false. What is to be given or taken back later is scheduled, in the order of
//! the epochs at which it is due. The schedule is a sum of changes, so that a retraction of a row, which has the same
//! moments, cancels what was scheduled for it, and a row that will not change any more is forgotten.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, TimestampMicrosecondArray};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use arrow_row::{RowConverter, SortField};
use highwater_plan::{EvalError, Expr, Micros, Moment, Span, TemporalFilter, Turns};

use super::epoch::EpochLogic;
use super::sides::Errors;
use crate::checkpoint::{Keeps, Saved, Spread};
use crate::{Delta, Diff, Time};

/// Where a search for a moment ends: 2262-01-01, the last year whose instants all have a timestamp in nanoseconds.
const SEARCHED: i64 = 9_214_646_400_000;

/// Bytes in front of a scheduled row: the epoch at which it is due, so that the schedule is in order.
const DUE: usize = 8;

/// What a scheduled change takes besides its row's bytes, about.
const ENTRY_BYTES: usize = 48;

/// The operator.
pub(crate) struct Temporal {
    filter: TemporalFilter,
    schema: SchemaRef,
    /// The input's columns and the epoch.
    with_now: SchemaRef,
    errors: Errors,
    converter: RowConverter,
    /// By the epoch at which it is due and the row's bytes: by how much the row's multiplicity changes then.
    schedule: BTreeMap<Box<[u8]>, Diff>,
    bytes: usize,
    /// By when it is due and the row's bytes what was scheduled since the last checkpoint, if that is to be in the next one.
    log: Option<Vec<(Box<[u8]>, Diff)>>,
    /// All that was due up to this epoch was given.
    rung: Time,
}

/// Per row the epochs between which it passes: from the first, before the second.
struct Passage {
    from: Vec<i64>,
    until: Vec<i64>,
}

impl Temporal {
    /// Nothing is scheduled. The rows' columns are those of `schema`.
    pub(crate) fn new(filter: TemporalFilter, schema: SchemaRef, errors: Errors) -> Self {
        let fields = schema.fields().iter().map(|field| SortField::new(field.data_type().clone())).collect();
        let now = Field::new("now", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true);
        let columns = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
        let with_now = Arc::new(Schema::new(columns.chain([now]).collect::<Vec<_>>()));
        let converter = RowConverter::new(fields).expect("planners allow only columns that can be encoded");
        Temporal { filter, schema, with_now, errors, converter, schedule: BTreeMap::new(), bytes: 0, log: None, rung: 0 }
    }

    /// The epochs between which each row of a batch passes.
    fn passage(&self, rows: &RecordBatch) -> Result<Passage, (EvalError, Option<Span>)> {
        let mut passage = Passage { from: vec![i64::MIN; rows.num_rows()], until: vec![i64::MAX; rows.num_rows()] };
        for condition in &self.filter.conditions {
            let moments = match &condition.moment {
                Moment::At(time) => {
                    epochs_of(time, rows, |micros| micros.div_euclid(1_000) + i64::from(micros.rem_euclid(1_000) > 0))
                }
                Moment::After(time) => epochs_of(time, rows, |micros| micros.div_euclid(1_000) + 1),
                Moment::Search(truth) => self.search(truth, condition.turns, rows).map_err(|e| (e, truth.span)),
            }?;
            for (row, moment) in moments.into_iter().enumerate() {
                match (moment, condition.turns) {
                    (None, _) => passage.until[row] = i64::MIN,
                    (Some(moment), Turns::True) => passage.from[row] = passage.from[row].max(moment),
                    (Some(moment), Turns::False) => passage.until[row] = passage.until[row].min(moment),
                }
            }
        }
        Ok(passage)
    }

    /// Per row the first epoch at which `truth` is not what it was before, by halving; `None` if it is never true.
    fn search(&self, truth: &Expr, turns: Turns, rows: &RecordBatch) -> Result<Vec<Option<i64>>, EvalError> {
        let count = rows.num_rows();
        let is_true = |epochs: &[i64]| -> Result<BooleanBuffer, EvalError> {
            let now = TimestampMicrosecondArray::from_iter_values(epochs.iter().map(|epoch| epoch * 1_000)).with_timezone("UTC");
            let mut columns: Vec<ArrayRef> = rows.columns().to_vec();
            columns.push(Arc::new(now));
            let options = RecordBatchOptions::new().with_row_count(Some(count));
            let batch = RecordBatch::try_new_with_options(Arc::clone(&self.with_now), columns, &options)
                .expect("the input's columns and the epoch");
            let result = truth.scalar.evaluate(&batch)?;
            Ok(truths(result.as_boolean()))
        };
        let turned = |passed: &BooleanBuffer, row: usize| passed.value(row) == (turns == Turns::True);
        // The moment is after `low` and not after `high`, unless the first or the last epoch says otherwise.
        let (mut low, mut high) = (vec![0; count], vec![SEARCHED; count]);
        let (first, last) = (is_true(&low)?, is_true(&high)?);
        while low.iter().zip(&high).any(|(low, high)| high - low > 1) {
            let middle: Vec<i64> = low.iter().zip(&high).map(|(low, high)| low + (high - low) / 2).collect();
            let passed = is_true(&middle)?;
            for (row, middle) in middle.into_iter().enumerate() {
                if turned(&passed, row) {
                    high[row] = middle;
                } else {
                    low[row] = middle;
                }
            }
        }
        let moment = |row: usize| match (turned(&first, row), turned(&last, row), turns) {
            (true, _, Turns::False) | (_, false, Turns::True) => None,
            (true, _, Turns::True) => Some(i64::MIN),
            (_, false, Turns::False) => Some(i64::MAX),
            (false, true, _) => Some(high[row]),
        };
        Ok((0..count).map(moment).collect())
    }

    /// Gives the rows that pass now, and schedules what comes later.
    fn take(&mut self, epoch: Time, delta: Delta, output: &mut Vec<Delta>) {
        if delta.is_empty() {
            return;
        }
        let passage = match self.passage(&delta.rows) {
            Ok(passage) => passage,
            Err((error, span)) if delta.len() == 1 => {
                return self.errors.report(epoch, &delta, &[0], &error.message, span);
            }
            Err(_) => {
                let half = delta.len() / 2;
                self.take(epoch, delta.slice(0, half), output);
                return self.take(epoch, delta.slice(half, delta.len() - half), output);
            }
        };
        let now = i64::try_from(epoch).unwrap_or(i64::MAX);
        let Passage { from, until } = &passage;
        let comes = |row: usize| from[row] < until[row] && now < until[row];
        let changes_later = (0..delta.len()).any(|row| comes(row) && (now < from[row] || until[row] < i64::MAX));
        if changes_later {
            let encoded = self.converter.convert_columns(delta.rows.columns()).expect("the input's columns");
            for row in (0..delta.len()).filter(|row| comes(*row)) {
                let (bytes, diff) = (encoded.row(row), delta.diff(row));
                if now < from[row] {
                    self.schedule(from[row], bytes.data(), diff);
                }
                if until[row] < i64::MAX {
                    self.schedule(until[row], bytes.data(), -diff);
                }
            }
        }
        let passes = BooleanBuffer::collect_bool(delta.len(), |row| from[row] <= now && now < until[row]);
        match passes.count_set_bits() {
            0 => {}
            all if all == delta.len() => output.push(delta),
            _ => output.push(delta.filter(&passes)),
        }
    }

    fn schedule(&mut self, due: i64, row: &[u8], diff: Diff) {
        let mut key = Vec::with_capacity(DUE + row.len());
        key.extend_from_slice(&due.to_be_bytes());
        key.extend_from_slice(row);
        if let Some(log) = &mut self.log {
            log.push((key.clone().into_boxed_slice(), diff));
        }
        let bytes = key.len() + ENTRY_BYTES;
        match self.schedule.entry(key.into_boxed_slice()) {
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(diff);
                self.bytes += bytes;
            }
            std::collections::btree_map::Entry::Occupied(mut entry) => {
                *entry.get_mut() += diff;
                if *entry.get() == 0 {
                    entry.remove();
                    self.bytes -= bytes;
                }
            }
        }
    }

    /// The columns of scheduled rows.
    fn columns(&self, scheduled: &[(Box<[u8]>, Diff)]) -> Vec<ArrayRef> {
        let parser = self.converter.parser();
        let rows = scheduled.iter().map(|(key, _)| parser.parse(&key[DUE..]));
        self.converter.convert_rows(rows).expect("this converter's bytes")
    }

    /// Gives what is due.
    fn ring(&mut self, epoch: Time, output: &mut Vec<Delta>) {
        self.rung = epoch;
        let mut due: Vec<(Box<[u8]>, Diff)> = Vec::new();
        while let Some(first) = self.schedule.first_entry()
            && due_at(first.key()) <= epoch
        {
            let (key, diff) = first.remove_entry();
            self.bytes -= key.len() + ENTRY_BYTES;
            due.push((key, diff));
        }
        if due.is_empty() {
            return;
        }
        let columns = self.columns(&due);
        let options = RecordBatchOptions::new().with_row_count(Some(due.len()));
        let rows = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options).expect("the input's columns");
        output.push(Delta::with_diffs(rows, Int64Array::from_iter_values(due.iter().map(|(_, diff)| *diff))));
    }
}

/// Moments are after 1970 when they are scheduled, so their bytes are in their order.
fn due_at(key: &[u8]) -> Time {
    Time::from_be_bytes(key[..DUE].try_into().expect("a scheduled row begins with its time"))
}

/// The epoch for each row's time; `None` for NULL.
fn epochs_of(time: &Expr, rows: &RecordBatch, epoch: impl Fn(i64) -> i64) -> Result<Vec<Option<i64>>, (EvalError, Option<Span>)> {
    let times = time.scalar.evaluate(rows).map_err(|error| (error, time.span))?;
    let times = Micros::new(&times).expect("planners give timestamps for moments");
    Ok((0..times.len()).map(|row| (!times.is_null(row)).then(|| epoch(times.value(row)))).collect())
}

/// NULL is not true.
fn truths(values: &BooleanArray) -> BooleanBuffer {
    match values.nulls() {
        None => values.values().clone(),
        Some(nulls) => values.values() & nulls.inner(),
    }
}

impl EpochLogic for Temporal {
    fn keeps(&self) -> Keeps {
        Keeps::Own
    }

    fn log(&mut self) {
        self.log = Some(Vec::new());
    }

    /// A table of when each change is due, and its row.
    fn save(&mut self, saved: &mut Saved) {
        let log = self.log.as_mut().map(std::mem::take).unwrap_or_default();
        let due = Int64Array::from_iter_values(log.iter().map(|(key, _)| due_at(key) as i64));
        let mut columns: Vec<ArrayRef> = vec![Arc::new(due)];
        columns.extend(self.columns(&log));
        let fields = self.schema.fields().iter().map(|field| field.as_ref().clone());
        let fields: Vec<Field> = [Field::new("due", DataType::Int64, false)].into_iter().chain(fields).collect();
        let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).expect("the input's columns and a moment");
        let delta = Delta::with_diffs(rows, Int64Array::from_iter_values(log.iter().map(|(_, diff)| *diff)));
        saved.rows(0, Spread::Anywhere, vec![delta], Some((0, self.rung as i64)));
    }

    fn load(&mut self, _epoch: Time, tables: &mut [Vec<Delta>]) {
        for delta in std::mem::take(&mut tables[0]) {
            let due = delta.rows.column(0).as_primitive::<arrow::datatypes::Int64Type>().clone();
            let encoded = self.converter.convert_columns(&delta.rows.columns()[1..]).expect("the input's columns");
            for row in 0..delta.len() {
                self.schedule(due.value(row), encoded.row(row).data(), delta.diff(row));
            }
        }
    }

    fn apply(&mut self, epoch: Time, inputs: &mut [Vec<Delta>], _watermarks: Option<&[i64]>, output: &mut Vec<Delta>) {
        // What is due comes first: what the epoch's rows schedule is after it.
        self.ring(epoch, output);
        for delta in std::mem::take(&mut inputs[0]) {
            self.take(epoch, delta, output);
        }
    }

    fn state(&self) -> (usize, usize) {
        (self.schedule.len(), self.bytes)
    }

    fn wake_at(&self) -> Option<Time> {
        self.schedule.first_key_value().map(|(key, _)| due_at(key))
    }
}
