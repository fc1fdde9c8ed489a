//! Puts rows into windows: adds `window_start`, `window_end` and `window_time`, one row per window.
//!
//! A row whose time is NULL is in no window: it goes to `$errors`. Nothing is refused as late here: that is for the
//! operators whose state closes.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, UInt32Array};
use arrow::datatypes::SchemaRef;
use highwater_plan::{Micros, WindowAssign, WindowKind, timestamp_from_micros};
use timely::container::NoopBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;

use crate::delta::{OriginRows, Parcel};
use crate::operator::DeltaStream;
use crate::operator::sides::Errors;
use crate::stats::OperatorStats;
use crate::{Delta, Time};

/// `window_time` is the last instant of a window at the precision people use for event times.
pub(crate) const LAST_INSTANT_MICROS: i64 = 1_000;

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
                let epoch = *capability.time();
                let assigned = stats.guard(|| {
                    let without_time = report_without_time(epoch, &delta, &assign, &errors);
                    stats.error_rows.fetch_add(without_time as u64, Ordering::Relaxed);
                    assign_windows(&delta, &assign, &schema)
                });
                let Some(assigned) = assigned else { return };
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
    let (assigned, ends) = match assign.kind {
        // Every row is in exactly one window: rows stay as they are.
        WindowKind::Tumble { size, .. } if times.null_count() == 0 => {
            let first_and_last = delta.extent(assign.time).map(|(least, greatest)| (assign.kind.last_start(least), greatest));
            let ends = match first_and_last {
                Some((start, greatest)) if greatest - start < size => vec![start + size; times.len()],
                _ => tumbling_ends(&times, assign, size),
            };
            (delta.clone(), ends)
        }
        _ => {
            let (rows, ends) = rows_and_ends(&times, assign);
            let positions = |origin: &OriginRows| OriginRows { rows: Some(origin.positions(&rows).into()), ..origin.clone() };
            let origin = delta.origin.as_ref().map(positions);
            (delta.take(&UInt32Array::from(rows)).from_origin(origin), ends)
        }
    };
    let data_type = delta.rows.column(assign.time).data_type().clone();
    let mut columns = assigned.rows.columns().to_vec();
    let starts = Int64Array::from_iter_values(ends.iter().map(|end| assign.kind.start_of(*end)));
    let times = Int64Array::from_iter_values(ends.iter().map(|end| end - LAST_INSTANT_MICROS));
    let bounds = [starts, Int64Array::from(ends), times].into_iter().take(schema.fields().len() - columns.len());
    columns.extend(bounds.map(|bound| -> ArrayRef { timestamp_from_micros(bound, &data_type) }));
    let rows = RecordBatch::try_new(Arc::clone(schema), columns).expect("the input's columns and the window's bounds");
    Delta { rows, ..assigned }
}

/// Per row the end of its window. Rows come nearly in order, so most are in the window of the row before.
fn tumbling_ends(times: &Micros, assign: &WindowAssign, size: i64) -> Vec<i64> {
    let mut last = i64::MIN;
    let end = |row: usize| {
        let time = times.value(row);
        if last == i64::MIN || time < last || time - last >= size {
            last = assign.kind.last_start(time);
        }
        last + size
    };
    (0..times.len()).map(end).collect()
}

/// Rows and the ends of the windows they are in, one entry per row and window.
fn rows_and_ends(times: &Micros, assign: &WindowAssign) -> (Vec<u32>, Vec<i64>) {
    let slide = assign.kind.slide();
    let (mut rows, mut ends) = (Vec::with_capacity(times.len()), Vec::with_capacity(times.len()));
    for row in (0..times.len()).filter(|row| !times.is_null(*row)) {
        let Some((first, last)) = assign.kind.ends(times.value(row)) else { continue };
        let mut end = first;
        while end <= last {
            rows.push(row as u32);
            ends.push(end);
            end += slide;
        }
    }
    (rows, ends)
}
