//! Filters, then projects: a batch at a time, at any time, without state.
//!
//! A row on which an expression fails does not disturb the others: the batch is tried again in halves until the row is
//! found, which goes to `$errors`. A retraction of the row fails in the same way and so retracts its error. Only the versions
//! of a table have negative rows that retract nothing.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, BooleanBufferBuilder, Int64Array, NullArray, RecordBatch, RecordBatchOptions,
    UInt32Array, new_null_array,
};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{FilterBuilder, FilterPredicate};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use highwater_plan::{EvalError, Expr, Map, OnError, Span};
use timely::container::NoopBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;

use crate::delta::{OriginRows, Parcel};
use crate::operator::DeltaStream;
use crate::operator::sides::Errors;
use crate::stats::OperatorStats;
use crate::{Delta, Time};

/// Filters and projects a stream.
pub(crate) fn map<'scope>(input: DeltaStream<'scope>, mapper: Mapper, stats: Arc<OperatorStats>) -> DeltaStream<'scope> {
    input.unary::<NoopBuilder<Parcel>, _, _, _>(Pipeline, &stats.name.clone(), move |_, _| {
        let mut mapped = Vec::new();
        move |input, output| {
            input.for_each(|capability, parcel| {
                let Some(delta) = parcel.0.take() else { return };
                let started = Instant::now();
                stats.took(delta.len());
                let epoch = *capability.time();
                let Some(failed) = stats.guard(|| mapper.apply(epoch, delta, &mut mapped)) else {
                    mapped.clear();
                    return;
                };
                if failed > 0 {
                    stats.error_rows.fetch_add(failed as u64, Ordering::Relaxed);
                }
                stats.busy_ns.fetch_add(started.elapsed().as_nanos() as u64, Ordering::Relaxed);
                for delta in mapped.drain(..) {
                    stats.gave(&delta);
                    output.session_with_builder(&capability).give_container(&mut Parcel(Some(delta)));
                }
            });
        }
    })
}

/// A [`Map`] ready to be applied to batches.
pub(crate) struct Mapper {
    filters: Vec<Expr>,
    output: Output,
    schema: SchemaRef,
    errors: Errors,
    /// Input columns that anything evaluated after a filter reads.
    read: Vec<bool>,
    /// Whether rows are what came, one after another, and negative ones the ends of what came before.
    versions: bool,
}

/// What a map gives of the rows that pass.
enum Output {
    /// The input's columns at these positions.
    Columns(Vec<usize>),
    /// Expressions; those that are free are evaluated before the filter, and only their result is filtered.
    Exprs(Vec<Expr>),
}

struct Failure {
    error: EvalError,
    span: Option<Span>,
}

impl Mapper {
    /// A map whose output has `schema`.
    pub(crate) fn new(map: Map, schema: SchemaRef, errors: Errors) -> Self {
        let columns: Option<Vec<usize>> = match &map.exprs {
            None => Some((0..schema.fields().len()).collect()),
            Some(exprs) => exprs.iter().map(Expr::as_column).collect(),
        };
        let output = match (columns, map.exprs) {
            (Some(columns), _) => Output::Columns(columns),
            (None, exprs) => Output::Exprs(exprs.unwrap_or_default()),
        };
        let mut read = Vec::new();
        let later = map.filters.iter().filter(|filter| filter.fallible);
        let evaluated: Vec<&Expr> = match &output {
            Output::Columns(_) => later.collect(),
            Output::Exprs(exprs) => later.chain(exprs.iter().filter(|expr| !expr.scalar.is_free())).collect(),
        };
        for column in evaluated.iter().flat_map(|expr| &expr.columns) {
            if read.len() <= *column {
                read.resize(column + 1, false);
            }
            read[*column] = true;
        }
        Mapper { filters: map.filters, output, schema, errors, read, versions: false }
    }

    /// A map of the versions of a table. One that fails is an error, and from its time on its key has no row; the end of a
    /// version takes back no row and so no error, and whatever else stands in it, it ends the version.
    pub(crate) fn of_versions(map: Map, schema: SchemaRef, errors: Errors) -> Self {
        let nullable = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
        let schema = Arc::new(Schema::new(nullable.collect::<Vec<Field>>()));
        Mapper { versions: true, ..Mapper::new(map, schema, errors) }
    }

    /// Maps `delta`, appends what is left of it to `mapped`, and gives the number of rows that failed.
    pub(crate) fn apply(&self, epoch: Time, delta: Delta, mapped: &mut Vec<Delta>) -> usize {
        match self.evaluate(&delta) {
            Ok(Some(delta)) => {
                mapped.push(delta);
                0
            }
            Ok(None) => 0,
            Err(failure) if delta.len() == 1 && self.versions => {
                let begins = delta.diff(0) > 0;
                if begins {
                    self.errors.report(epoch, &delta, &[0], &failure.error.message, failure.span);
                }
                let kept = begins && self.errors.policy == OnError::Null;
                let diffs = if kept { delta.diffs.clone() } else { Some(Int64Array::from(vec![-1])) };
                mapped.extend(self.with_nulls(&Delta { diffs, ..delta }));
                usize::from(begins)
            }
            Err(failure) if delta.len() == 1 => {
                self.errors.report(epoch, &delta, &[0], &failure.error.message, failure.span);
                if self.errors.policy == OnError::Null {
                    mapped.extend(self.with_nulls(&delta));
                }
                1
            }
            Err(_) => {
                let half = delta.len() / 2;
                let failed = self.apply(epoch, delta.slice(0, half), mapped);
                failed + self.apply(epoch, delta.slice(half, delta.len() - half), mapped)
            }
        }
    }

    /// The rows of `delta` that pass the filters; a row on which one fails does not.
    pub(crate) fn holds(&self, epoch: Time, delta: &Delta) -> BooleanBuffer {
        match self.passed(delta) {
            Ok(passed) => passed.unwrap_or_else(|| BooleanBuffer::new_set(delta.len())),
            Err(failure) if delta.len() == 1 => {
                self.errors.report(epoch, delta, &[0], &failure.error.message, failure.span);
                BooleanBuffer::new_unset(1)
            }
            Err(_) => {
                let half = delta.len() / 2;
                let mut holds = BooleanBufferBuilder::new(delta.len());
                holds.append_buffer(&self.holds(epoch, &delta.slice(0, half)));
                holds.append_buffer(&self.holds(epoch, &delta.slice(half, delta.len() - half)));
                holds.finish()
            }
        }
    }

    /// Whether a filter can fail on a row.
    pub(crate) fn can_fail(&self) -> bool {
        self.filters.iter().any(|filter| filter.fallible)
    }

    fn evaluate(&self, delta: &Delta) -> Result<Option<Delta>, Failure> {
        let Some(passed) = self.passed(delta)? else {
            let columns = match &self.output {
                Output::Columns(columns) => delta.columns(columns),
                Output::Exprs(exprs) => exprs.iter().map(|expr| evaluate(expr, &delta.rows)).collect::<Result<_, _>>()?,
            };
            let mapped = self.delta(columns, delta.len(), delta.diffs.clone(), delta.origin.clone())?;
            return Ok(Some(mapped.with_extent_of(delta)));
        };
        if passed.count_set_bits() == 0 {
            return Ok(None);
        }
        let selection = Selection::new(passed);
        let columns = match &self.output {
            Output::Columns(columns) => columns.iter().map(|column| selection.column(delta.rows.column(*column))).collect(),
            Output::Exprs(exprs) => {
                let narrowed = selection.batch(&delta.rows, &self.read);
                let value = |expr: &Expr| match expr.scalar.is_free() {
                    true => evaluate(expr, &delta.rows).map(|values| selection.column(&values)),
                    false => evaluate(expr, &narrowed),
                };
                exprs.iter().map(value).collect::<Result<Vec<_>, _>>()?
            }
        };
        let (diffs, origin) = selection.diffs_and_origin(delta);
        self.delta(columns, selection.rows, diffs, origin).map(Some)
    }

    /// One row with NULL for each expression that fails on it; nothing if a filter fails, because NULL is not true.
    fn with_nulls(&self, delta: &Delta) -> Option<Delta> {
        let passed =
            self.filters.iter().all(|filter| evaluate(filter, &delta.rows).is_ok_and(|result| boolean(&result).value(0)));
        let Output::Exprs(exprs) = &self.output else { return None };
        let value = |expr: &Expr| evaluate(expr, &delta.rows).unwrap_or_else(|_| new_null_array(&expr.data_type, 1));
        let columns = exprs.iter().map(value).collect();
        if !passed {
            return None;
        }
        self.delta(columns, 1, delta.diffs.clone(), delta.origin.clone()).ok()
    }

    /// The rows that pass every filter; `None`: all of them.
    fn passed(&self, delta: &Delta) -> Result<Option<BooleanBuffer>, Failure> {
        let mut passed: Option<BooleanBuffer> = None;
        for filter in &self.filters {
            let result = match &passed {
                // A filter that can fail sees only the rows that the filters before it let through.
                Some(earlier) if filter.fallible => {
                    let selection = Selection::new(earlier.clone());
                    let kept = boolean(&evaluate(filter, &selection.batch(&delta.rows, &self.read))?);
                    selection.spread(&kept)
                }
                Some(earlier) => earlier & &boolean(&evaluate(filter, &delta.rows)?),
                None => boolean(&evaluate(filter, &delta.rows)?),
            };
            match result.count_set_bits() {
                0 => return Ok(Some(result)),
                all if all == delta.len() => {}
                _ => passed = Some(result),
            }
        }
        Ok(passed)
    }

    fn delta(
        &self,
        columns: Vec<ArrayRef>,
        rows: usize,
        diffs: Option<Int64Array>,
        origin: Option<OriginRows>,
    ) -> Result<Delta, Failure> {
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let rows = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options).map_err(|error| Failure {
            error: EvalError { message: format!("result does not fit its column: {error}") },
            span: None,
        })?;
        Ok(Delta::of(rows, diffs).from_origin(origin))
    }
}

/// The rows of a batch that passed its filters.
struct Selection {
    filter: FilterPredicate,
    passed: BooleanBuffer,
    rows: usize,
}

impl Selection {
    fn new(passed: BooleanBuffer) -> Self {
        let filter = FilterBuilder::new(&BooleanArray::new(passed.clone(), None)).optimize().build();
        Selection { filter, rows: passed.count_set_bits(), passed }
    }

    fn column(&self, column: &ArrayRef) -> ArrayRef {
        self.filter.filter(column).expect("the selection has a bit per row")
    }

    /// The selected rows of the columns that are read; the others become columns of NULLs, which cost nothing.
    fn batch(&self, rows: &RecordBatch, read: &[bool]) -> RecordBatch {
        let unread: ArrayRef = Arc::new(NullArray::new(self.rows));
        let (fields, columns): (Vec<_>, Vec<_>) = rows
            .schema_ref()
            .fields()
            .iter()
            .zip(rows.columns())
            .enumerate()
            .map(|(index, (field, column))| match read.get(index) {
                Some(true) => (Arc::clone(field), self.column(column)),
                _ => (Arc::new(Field::new(field.name(), DataType::Null, true)), Arc::clone(&unread)),
            })
            .unzip();
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options).expect("columns of as many rows")
    }

    fn diffs_and_origin(&self, delta: &Delta) -> (Option<Int64Array>, Option<OriginRows>) {
        let diffs = delta.diffs.as_ref().map(|diffs| {
            let kept = self.filter.filter(diffs).expect("the selection has a bit per row");
            Int64Array::from(kept.to_data())
        });
        let origin = delta.origin.as_ref().map(|origin| {
            let rows = match &origin.rows {
                Some(rows) => UInt32Array::from(self.filter.filter(rows).expect("the selection has a bit per row").to_data()),
                None => self.passed.set_indices().map(|row| row as u32).collect(),
            };
            OriginRows { rows: Some(rows), ..origin.clone() }
        });
        (diffs, origin)
    }

    /// Bits of the selected rows, at the places of all rows.
    fn spread(&self, kept: &BooleanBuffer) -> BooleanBuffer {
        let mut spread = BooleanBufferBuilder::new(self.passed.len());
        spread.append_n(self.passed.len(), false);
        for (position, row) in self.passed.set_indices().enumerate() {
            spread.set_bit(row, kept.value(position));
        }
        spread.finish()
    }
}

fn evaluate(expr: &Expr, rows: &RecordBatch) -> Result<ArrayRef, Failure> {
    expr.scalar.evaluate(rows).map_err(|error| Failure { error, span: expr.span })
}

/// The rows for which a filter's result is true: NULL is not.
fn boolean(result: &ArrayRef) -> BooleanBuffer {
    let result = result.as_boolean();
    match result.nulls() {
        None => result.values().clone(),
        Some(nulls) => result.values() & nulls.inner(),
    }
}
