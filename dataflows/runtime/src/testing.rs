//! What the tests of this crate share: a clock that is set, readers that follow a script, rows with an event time.

pub(crate) mod connector;

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, BooleanArray, TimestampMicrosecondArray, UInt32Array};
use arrow::compute;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use highwater_connectors::source::{Backlog, Offset, PartitionReader, Polled, Receipt, SourceBatch, SourceError, Waker};
use highwater_plan::{EvalError, Expr, Origin, Scalar, Watermark};

use crate::clock::Clock;
use crate::options::MaxAhead;

/// A clock that stands still until it is set.
#[derive(Default)]
pub(crate) struct ManualClock(AtomicU64);

impl ManualClock {
    pub(crate) fn set_ms(&self, ms: u64) {
        self.0.store(ms, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn elapsed(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::SeqCst))
    }

    fn wall_micros(&self) -> i64 {
        0
    }
}

/// A reader that says what a test told it to say, then that it stands at the end.
#[derive(Clone, Default)]
pub(crate) struct Script(Arc<Mutex<ScriptState>>);

#[derive(Default)]
struct ScriptState {
    answers: VecDeque<Result<Polled, SourceError>>,
    asked: usize,
    waker: Option<Waker>,
}

impl Script {
    pub(crate) fn say(&self, answer: Result<Polled, SourceError>) {
        let mut state = self.0.lock().unwrap();
        state.answers.push_back(answer);
        let waker = state.waker.clone();
        drop(state);
        if let Some(waker) = waker {
            waker();
        }
    }

    /// Whom to wake when there is something to say.
    pub(crate) fn wakes(&self, waker: Waker) {
        self.0.lock().unwrap().waker = Some(waker);
    }

    /// Rows with these event times in microseconds.
    pub(crate) fn say_rows(&self, micros: &[i64]) {
        self.say(Ok(Polled::Batch(batch_at(&micros.iter().copied().map(Some).collect::<Vec<_>>()))));
    }

    /// How often it was asked.
    pub(crate) fn asked(&self) -> usize {
        self.0.lock().unwrap().asked
    }
}

impl PartitionReader for Script {
    fn poll(&mut self, _rows_max: usize) -> Result<Polled, SourceError> {
        let mut state = self.0.lock().unwrap();
        state.asked += 1;
        state.answers.pop_front().unwrap_or(Ok(Polled::Pending(None)))
    }

    fn backlog(&self) -> Option<Backlog> {
        Some(Backlog { rows: self.0.lock().unwrap().answers.len() as u64, bytes: 0 })
    }
}

pub(crate) fn time_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("time", DataType::Timestamp(TimeUnit::Microsecond, None), true)]))
}

/// Rows with one column, `time`.
pub(crate) fn rows_at(micros: &[Option<i64>]) -> RecordBatch {
    let column: ArrayRef = Arc::new(TimestampMicrosecondArray::from(micros.to_vec()));
    RecordBatch::try_new(time_schema(), vec![column]).unwrap()
}

/// A reader's batch: its offset is the number of rows, and a row has ten bytes.
pub(crate) fn batch_at(micros: &[Option<i64>]) -> SourceBatch {
    SourceBatch {
        rows: rows_at(micros),
        diffs: None,
        origin: None,
        rejects: Vec::new(),
        offset: Offset::new(micros.len()),
        bytes: 10 * micros.len() as u64,
        receipt: None,
    }
}

/// The `time` column.
pub(crate) fn times(rows: &RecordBatch) -> Vec<Option<i64>> {
    rows.column(0).as_primitive::<TimestampMicrosecondType>().iter().collect()
}

/// A receipt that stores its epoch.
pub(crate) fn receipt(told: &Arc<AtomicU64>) -> Receipt {
    let told = Arc::clone(told);
    Receipt(Box::new(move |epoch| told.store(epoch, Ordering::SeqCst)))
}

pub(crate) fn max_ahead(micros: u64) -> MaxAhead {
    MaxAhead { length: Duration::from_micros(micros), text: format!("{micros} us") }
}

/// `WATERMARK FOR time AS time - bound`.
pub(crate) fn watermark(bound: i64) -> Watermark {
    watermark_as(Minus { bound, fails_on: Vec::new() })
}

/// A watermark whose expression fails on these values.
pub(crate) fn watermark_that_fails_on(values: &[i64]) -> Watermark {
    watermark_as(Minus { bound: 0, fails_on: values.to_vec() })
}

fn watermark_as(expr: Minus) -> Watermark {
    let data_type = DataType::Timestamp(TimeUnit::Microsecond, None);
    let event_time = Expr::column(0, data_type.clone(), true);
    let expr = Expr { scalar: Arc::new(expr), data_type, nullable: true, columns: vec![0], fallible: true, span: None };
    Watermark { column: "time".into(), event_time, expr, delay: None }
}

#[derive(Debug)]
struct Minus {
    bound: i64,
    fails_on: Vec<i64>,
}

impl Scalar for Minus {
    fn evaluate(&self, batch: &RecordBatch) -> Result<ArrayRef, EvalError> {
        let values = batch.column(0).as_primitive::<TimestampMicrosecondType>();
        if let Some(bad) = values.iter().flatten().find(|value| self.fails_on.contains(value)) {
            return Err(EvalError { message: format!("{bad} is not to be had") });
        }
        Ok(Arc::new(values.unary::<_, TimestampMicrosecondType>(|value| value.saturating_sub(self.bound))))
    }
}

impl fmt::Display for Minus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#0 - {}", self.bound)
    }
}

/// Gives back the batch it holds, with a further column.
#[derive(Debug)]
pub(crate) struct WholeRows(pub(crate) RecordBatch);

impl Origin for WholeRows {
    fn rows(&self, rows: &[u32]) -> Result<RecordBatch, ArrowError> {
        let taken = compute::take_record_batch(&self.0, &UInt32Array::from(rows.to_vec()))?;
        let mut fields = taken.schema().fields().to_vec();
        fields.push(Arc::new(Field::new("whole", DataType::Boolean, false)));
        let mut columns = taken.columns().to_vec();
        columns.push(Arc::new(BooleanArray::from(vec![true; taken.num_rows()])));
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
    }
}
