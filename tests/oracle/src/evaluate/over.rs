//! Functions of the rows around each row, from whole partitions.

use std::cmp::Ordering;

use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use highwater_plan::{
    Emit, Frame, FrameBound, FrameUnits, NodeId, OrderColumn, Over, OverCall, OverClosing, OverFunction, Ranking,
};

use super::aggregate::result;
use super::ordered::{change, compare, numbered, partitions, windowed};
use super::{Context, Evaluated, keeps_failed};
use crate::multiset::Multiset;
use crate::value::{Row, Value, micros};

/// The content after each epoch.
pub(super) fn content(context: &Context<'_>, id: NodeId, over: &Over, input: &[Multiset]) -> Evaluated {
    let below = &context.job.plan.nodes[context.job.plan.nodes[id].inputs[0]];
    let keep_failed = keeps_failed(context);
    let mut all = |rows: &Multiset, passed: Option<i64>, content: &mut Multiset| -> i64 {
        let mut failed = 0;
        for rows in partitions(rows, &over.partition, &over.order) {
            let finals = passed.map_or(rows.len(), |passed| finals(over, &rows, passed, &below.schema));
            failed += results(over, &rows, finals, &below.schema, keep_failed, content);
        }
        failed
    };
    match &over.closing {
        Some(OverClosing::Window(window)) => {
            windowed(context, id, &over.partition, window, over.emit, input, |rows, content| all(rows, None, content))
        }
        Some(OverClosing::Time) => by_time(context, id, over, input, &mut all),
        None => {
            let mut evaluated = Evaluated::of(vec![Multiset::default(); context.epochs]);
            for (epoch, rows) in input.iter().enumerate() {
                evaluated.errors[epoch] = all(rows, None, &mut evaluated.content[epoch]);
            }
            evaluated
        }
    }
}

type All<'a> = &'a mut dyn FnMut(&Multiset, Option<i64>, &mut Multiset) -> i64;

/// Rows are late by their own time; with `EMIT FINAL` they are given when the watermark has passed their frames.
fn by_time(context: &Context<'_>, id: NodeId, over: &Over, input: &[Multiset], all: All<'_>) -> Evaluated {
    let below = &context.job.plan.nodes[context.job.plan.nodes[id].inputs[0]];
    let column = over.order[0].column;
    let sources = below.properties.time[column].as_ref().map(|time| time.sources.clone()).unwrap_or_default();
    let data_type = below.schema.field(column).data_type();
    let mut taken = Multiset::default();
    let mut evaluated = Evaluated::of(vec![Multiset::default(); context.epochs]);
    let (mut late, mut untimed) = (0, 0);
    for epoch in 0..context.epochs {
        for (row, diff) in change(input, epoch).iter() {
            match micros(&row[column], data_type) {
                None => untimed += diff,
                Some(time) if context.is_open(epoch, &sources, time + 1) => taken.add(row.clone(), diff),
                Some(_) => late += context.late(&sources, diff),
            }
        }
        evaluated.late[epoch] = late;
        let passed = (over.emit == Emit::Final).then(|| context.watermark(epoch, &sources));
        evaluated.errors[epoch] = untimed + all(&taken, passed, &mut evaluated.content[epoch]);
    }
    evaluated
}

/// How many of the first rows of a partition nothing that comes can change when all rows before `passed` have come.
fn finals(over: &Over, rows: &[Row], passed: i64, schema: &SchemaRef) -> usize {
    let column = over.order[0].column;
    let data_type = schema.field(column).data_type();
    let time = |row: &Row| micros(&row[column], data_type).expect("rows without a time were refused");
    let before = |row: &Row| time(row) < passed;
    if passed == i64::MAX {
        return rows.len();
    }
    let is_final = |position: usize| {
        let behind = || rows[position + 1..].iter().filter(|row| before(row)).count() as i128;
        let groups_behind = || {
            let mut groups: Vec<&Row> = rows
                .iter()
                .filter(|row| before(row) && compare(&over.order, row, &rows[position]) == Ordering::Greater)
                .collect();
            groups.dedup_by(|one, other| compare(&over.order, one, other) == Ordering::Equal);
            groups.len() as i128
        };
        before(&rows[position])
            && over.calls.iter().all(|call| match &call.function {
                OverFunction::Shift { offset, .. } => behind() >= i128::from(*offset),
                OverFunction::Nth { .. } | OverFunction::Aggregate(_) => match (call.frame.units, call.frame.end) {
                    (_, FrameBound::Unbounded) => false,
                    (FrameUnits::Rows, FrameBound::Offset(end)) => behind() >= end,
                    (FrameUnits::Groups, FrameBound::Offset(end)) => groups_behind() >= end,
                    (FrameUnits::Range, FrameBound::Offset(end)) => {
                        time(&rows[position]) + micros_of(end.max(0) as i64, data_type) < passed
                    }
                    (_, FrameBound::Float(_)) => unreachable!("times have no differences of floats"),
                },
                _ => true,
            })
    };
    (0..rows.len()).take_while(|position| is_final(*position)).count()
}

/// A length in a column's units as microseconds, rounded up.
fn micros_of(length: i64, data_type: &DataType) -> i64 {
    match data_type {
        DataType::Timestamp(TimeUnit::Second, _) => length * 1_000_000,
        DataType::Timestamp(TimeUnit::Millisecond, _) => length * 1_000,
        DataType::Timestamp(TimeUnit::Nanosecond, _) => length.div_euclid(1_000) + i64::from(length % 1_000 > 0),
        _ => length,
    }
}

/// Adds the first `finals` rows of a partition with their results; gives how many results cannot be represented.
fn results(over: &Over, rows: &[Row], finals: usize, schema: &SchemaRef, keep_failed: bool, content: &mut Multiset) -> i64 {
    let columns: Vec<Vec<Option<Value>>> = over.calls.iter().map(|call| values(over, call, rows, schema)).collect();
    let mut failed = 0;
    for (position, row) in rows.iter().enumerate().take(finals) {
        let results: Vec<&Option<Value>> = columns.iter().map(|column| &column[position]).collect();
        let wrong = results.iter().filter(|result| result.is_none()).count() as i64;
        failed += wrong;
        if wrong == 0 || keep_failed {
            let results = results.into_iter().map(|result| result.clone().unwrap_or(Value::Null));
            content.add(row.iter().cloned().chain(results).collect(), 1);
        }
    }
    failed
}

/// A call's result per row; `None` where it cannot be represented.
fn values(over: &Over, call: &OverCall, rows: &[Row], schema: &SchemaRef) -> Vec<Option<Value>> {
    let order = &over.order;
    let length = rows.len();
    let ranks = || numbered(rows, order, Ranking::Rank);
    match &call.function {
        OverFunction::Ranking(ranking) => {
            numbered(rows, order, *ranking).into_iter().map(|number| Some(Value::Int(number))).collect()
        }
        OverFunction::PercentRank => {
            let share = |rank: i64| if length > 1 { (rank - 1) as f64 / (length - 1) as f64 } else { 0.0 };
            ranks().into_iter().map(|rank| Some(Value::Float(share(rank)))).collect()
        }
        OverFunction::CumeDist => {
            let not_behind = |row: &Row| rows.iter().filter(|other| compare(order, other, row) != Ordering::Greater).count();
            rows.iter().map(|row| Some(Value::Float(not_behind(row) as f64 / length as f64))).collect()
        }
        OverFunction::Ntile(count) => {
            let count = *count as usize;
            let sizes = (0..count).map(|bucket| length / count + usize::from(bucket < length % count));
            sizes.enumerate().flat_map(|(bucket, size)| std::iter::repeat_n(Some(Value::Int(bucket as i64 + 1)), size)).collect()
        }
        OverFunction::Shift { argument, offset, default } => (0..length)
            .map(|position| {
                let there = usize::try_from(position as i64 + offset).ok().and_then(|place| rows.get(place));
                Some(match (there, default) {
                    (Some(row), _) => row[*argument].clone(),
                    (None, Some(default)) => rows[position][*default].clone(),
                    (None, None) => Value::Null,
                })
            })
            .collect(),
        OverFunction::Nth { argument, position } => (0..length)
            .map(|at| {
                let frame = framed(call.frame, order, rows, at);
                let place = if *position > 0 { *position - 1 } else { frame.len() as i64 + position };
                let row = usize::try_from(place).ok().and_then(|place| frame.get(place));
                Some(row.map_or(Value::Null, |row| row[*argument].clone()))
            })
            .collect(),
        OverFunction::Aggregate(aggregate) => (0..length)
            .map(|at| {
                let frame: Vec<(&Row, i64)> = framed(call.frame, order, rows, at).into_iter().map(|row| (row, 1)).collect();
                result(aggregate, &frame, schema)
            })
            .collect(),
    }
}

/// The rows of a row's frame, in order.
fn framed<'a>(frame: Frame, order: &[OrderColumn], rows: &'a [Row], at: usize) -> Vec<&'a Row> {
    let groups = match frame.units {
        FrameUnits::Groups => numbered(rows, order, Ranking::DenseRank),
        _ => Vec::new(),
    };
    let within = |place: usize, row: &Row| match frame.units {
        FrameUnits::Rows => between(frame, place as i128 - at as i128),
        FrameUnits::Groups => between(frame, i128::from(groups[place] - groups[at])),
        FrameUnits::Range => in_range(frame, &order[0], row, &rows[at]),
    };
    rows.iter().enumerate().filter(|(place, row)| within(*place, row)).map(|(_, row)| row).collect()
}

fn between(frame: Frame, distance: i128) -> bool {
    let start = match frame.start {
        FrameBound::Offset(start) => distance >= start,
        _ => true,
    };
    let end = match frame.end {
        FrameBound::Offset(end) => distance <= end,
        _ => true,
    };
    start && end
}

/// By value. A row without a value has the others without as its frame, and what an unbounded side holds.
fn in_range(frame: Frame, by: &OrderColumn, row: &Row, current: &Row) -> bool {
    let (value, here) = (&row[by.column], &current[by.column]);
    if value.is_null() || here.is_null() {
        let order = compare(std::slice::from_ref(by), row, current);
        return match order {
            Ordering::Equal => true,
            Ordering::Less => frame.start == FrameBound::Unbounded,
            Ordering::Greater => frame.end == FrameBound::Unbounded,
        };
    }
    let float = |value: &Value| match value {
        Value::Float(value) => Some(*value),
        _ => None,
    };
    let whole = |value: &Value| match value {
        Value::Decimal(value) => *value,
        value => i128::from(value.int()),
    };
    match (float(value), float(here)) {
        (Some(value), Some(here)) => {
            // The bound is computed, then compared, as a database does.
            let at = |distance: f64| if by.descending { here - distance } else { here + distance };
            let behind = |bound: f64| if by.descending { value.total_cmp(&bound).reverse() } else { value.total_cmp(&bound) };
            let start = !matches!(frame.start, FrameBound::Float(start) if behind(at(start)) == Ordering::Less)
                && !matches!(frame.start, FrameBound::Offset(_) if behind(here) == Ordering::Less);
            let end = !matches!(frame.end, FrameBound::Float(end) if behind(at(end)) == Ordering::Greater)
                && !matches!(frame.end, FrameBound::Offset(_) if behind(here) == Ordering::Greater);
            start && end
        }
        _ => {
            let distance = whole(value) - whole(here);
            between(frame, if by.descending { -distance } else { distance })
        }
    }
}
