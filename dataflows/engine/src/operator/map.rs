//! Filters, then projects: a batch at a time, at any time, without state.
//!
//! A row on which an expression fails does not disturb the others: the batch is tried again in halves until the row is
//! found, which goes to `$errors`. A retraction of the row fails in the same way and so retracts its error.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::SchemaRef;
use highwater_plan::{EvalError, Expr, Map, Span};
use timely::container::NoopBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;

use crate::delta::Parcel;
use crate::operator::DeltaStream;
use crate::operator::sides::Errors;
use crate::stats::OperatorStats;
use crate::{Delta, Time};

/// Filters and projects a stream.
pub(crate) fn map<'scope>(
    input: DeltaStream<'scope>,
    map: Map,
    schema: SchemaRef,
    errors: Errors,
    stats: Arc<OperatorStats>,
) -> DeltaStream<'scope> {
    let mapper = Mapper::new(map, schema, errors);
    input.unary::<NoopBuilder<Parcel>, _, _, _>(Pipeline, &stats.name.clone(), move |_, _| {
        let mut mapped = Vec::new();
        move |input, output| {
            input.for_each(|capability, parcel| {
                let Some(delta) = parcel.0.take() else { return };
                let started = Instant::now();
                stats.took(delta.len());
                let failed = mapper.apply(*capability.time(), delta, &mut mapped);
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
    map: Map,
    schema: SchemaRef,
    errors: Errors,
    /// Set if the map only chooses columns.
    projection: Option<Vec<usize>>,
}

struct Failure {
    error: EvalError,
    span: Option<Span>,
}

impl Mapper {
    /// A map whose output has `schema`.
    pub(crate) fn new(map: Map, schema: SchemaRef, errors: Errors) -> Self {
        let projection = match &map.exprs {
            None => Some((0..schema.fields().len()).collect()),
            Some(exprs) => exprs.iter().map(Expr::as_column).collect(),
        };
        Mapper { map, schema, errors, projection }
    }

    /// Maps `delta`, appends what is left of it to `mapped`, and gives the number of rows that failed.
    pub(crate) fn apply(&self, epoch: Time, delta: Delta, mapped: &mut Vec<Delta>) -> usize {
        match self.evaluate(&delta) {
            Ok(Some(delta)) => {
                mapped.push(delta);
                0
            }
            Ok(None) => 0,
            Err(failure) if delta.len() == 1 => {
                self.errors.report(epoch, &delta, &[0], &failure.error.message, failure.span);
                1
            }
            Err(_) => {
                let half = delta.len() / 2;
                let failed = self.apply(epoch, delta.slice(0, half), mapped);
                failed + self.apply(epoch, delta.slice(half, delta.len() - half), mapped)
            }
        }
    }

    fn evaluate(&self, delta: &Delta) -> Result<Option<Delta>, Failure> {
        let mut kept: Option<Delta> = None;
        for filter in &self.map.filters {
            let current = kept.as_ref().unwrap_or(delta);
            let passed = boolean(&evaluate(filter, &current.rows)?);
            match passed.count_set_bits() {
                0 => return Ok(None),
                all if all == current.len() => {}
                _ => kept = Some(current.filter(&passed)),
            }
        }
        let kept = kept.unwrap_or_else(|| delta.clone());
        let columns: Vec<ArrayRef> = match (&self.projection, &self.map.exprs) {
            (Some(projection), _) => kept.columns(projection),
            (None, Some(exprs)) => exprs.iter().map(|expr| evaluate(expr, &kept.rows)).collect::<Result<_, _>>()?,
            (None, None) => unreachable!("a map without expressions is a projection"),
        };
        let options = RecordBatchOptions::new().with_row_count(Some(kept.len()));
        let rows = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)
            .map_err(|error| Failure { error: EvalError { message: format!("result does not fit its column: {error}") }, span: None })?;
        Ok(Some(Delta { rows, diffs: kept.diffs, origin: kept.origin }))
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
