//! Puts rows into windows: adds `window_start`, `window_end` and `window_time`, one row per window.
//!
//! A row whose time is NULL is in no window: it goes to `$errors`. Nothing is refused as late here: that is for the
//! operators whose state closes.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, UInt32Array};
use arrow::datatypes::SchemaRef;
use highwater_plan::{Micros, WindowAssign, timestamp_from_micros};
use timely::container::NoopBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;

use crate::delta::{OriginRows, Parcel};
use crate::operator::DeltaStream;
use crate::operator::sides::Errors;
use crate::stats::OperatorStats;
use crate::{Delta, Time};

/// `window_time` is the last instant of a window at the precision people use for event times.
const LAST_INSTANT_MICROS: i64 = 1_000;

/// What is said of a row without a time.
pub(crate) const NULL_TIME: &str = "event time is NULL, so the row is in no window";

/// Adds window columns to a stream.
pub(crate) fn window<'scope>(
    input: DeltaStream<'scope>,
    assign: WindowAssign,
    schema: SchemaRef,
    errors: Errors,
    stats: Arc<OperatorStats>,
) -> DeltaStream<'scope> {
    input.unary::<NoopBuilder<Parcel>, _, _, _>(Pipeline, &stats.name.clone(), move |_, _| {
        move |input, output| {
            input.for_each(|capability, parcel| {
                let Some(delta) = parcel.0.take() else { return };
                stats.took(delta.len());
                let without_time = report_without_time(*capability.time(), &delta, &assign, &errors);
                stats.error_rows.fetch_add(without_time as u64, Ordering::Relaxed);
                let assigned = assign_windows(&delta, &assign, &schema);
                if !assigned.is_empty() {
                    stats.gave(&assigned);
                    output.session_with_builder(&capability).give_container(&mut Parcel(Some(assigned)));
                }
            });
        }
    })
}

/// Keeps rows whose time is NULL as errors; gives their number.
fn report_without_time(epoch: Time, delta: &Delta, assign: &WindowAssign, errors: &Errors) -> usize {
    let Some(nulls) = delta.rows.column(assign.time).nulls().filter(|nulls| nulls.null_count() > 0) else { return 0 };
    let rows: Vec<u32> = (0..delta.len()).filter(|row| nulls.is_null(*row)).map(|row| row as u32).collect();
    errors.report(epoch, delta, &rows, NULL_TIME, None);
    rows.len()
}

fn assign_windows(delta: &Delta, assign: &WindowAssign, schema: &SchemaRef) -> Delta {
    let times = Micros::new(delta.rows.column(assign.time)).expect("planners assign windows by timestamps");
    let (slide, size) = (assign.kind.slide(), assign.kind.size());
    let (assigned, starts) = if slide == size && times.null_count() == 0 {
        // Every row is in exactly one window: rows stay as they are.
        (delta.clone(), tumbling_starts(&times, assign))
    } else {
        let (rows, starts) = rows_and_starts(&times, assign);
        let positions = |origin: &OriginRows| OriginRows { rows: Some(origin.positions(&rows).into()), ..origin.clone() };
        let origin = delta.origin.as_ref().map(positions);
        (Delta { origin, ..delta.take(&UInt32Array::from(rows)) }, starts)
    };
    let data_type = delta.rows.column(assign.time).data_type().clone();
    let mut columns = assigned.rows.columns().to_vec();
    let bounds = [0, size, size - LAST_INSTANT_MICROS].into_iter().take(schema.fields().len() - columns.len());
    let bound = |shift: i64| -> ArrayRef {
        timestamp_from_micros(Int64Array::from_iter_values(starts.iter().map(|start| start + shift)), &data_type)
    };
    columns.extend(bounds.map(bound));
    let rows = RecordBatch::try_new(Arc::clone(schema), columns).expect("the input's columns and the window's bounds");
    Delta { rows, ..assigned }
}

/// Per row the start of its window. Rows come nearly in order, so most are in the window of the row before.
fn tumbling_starts(times: &Micros, assign: &WindowAssign) -> Vec<i64> {
    let size = assign.kind.size();
    let mut last = i64::MIN;
    let start = |row: usize| {
        let time = times.value(row);
        if last == i64::MIN || time < last || time - last >= size {
            last = assign.kind.last_start(time);
        }
        last
    };
    (0..times.len()).map(start).collect()
}

/// Rows and the starts of the windows they are in, one entry per row and window.
fn rows_and_starts(times: &Micros, assign: &WindowAssign) -> (Vec<u32>, Vec<i64>) {
    let (slide, size) = (assign.kind.slide(), assign.kind.size());
    let (mut rows, mut starts) = (Vec::with_capacity(times.len()), Vec::with_capacity(times.len()));
    for row in (0..times.len()).filter(|row| !times.is_null(*row)) {
        let time = times.value(row);
        let mut start = assign.kind.last_start(time);
        while start > time - size {
            rows.push(row as u32);
            starts.push(start);
            start -= slide;
        }
    }
    (rows, starts)
}
