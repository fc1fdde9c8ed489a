//! Groups and their aggregates, made anew from all rows.

mod function;

use std::collections::BTreeMap;

use arrow::datatypes::{DataType, SchemaRef};
use highwater_plan::{Aggregate, AggregateCall, AggregateFunction, Emit, Grouping, NodeId};

use super::window::{end_of, start_of, windows};
use super::{Context, Evaluated, keeps_failed};
use crate::multiset::Multiset;
use crate::value::{Row, Value, micros, timestamp};

/// The content after each epoch.
pub(super) fn content(context: &Context<'_>, id: NodeId, aggregate: &Aggregate, input: &[Multiset]) -> Evaluated {
    if let Grouping::Session(assign) = &aggregate.grouping {
        return super::session::groups(context, id, aggregate, assign, input);
    }
    if aggregate.grouping != Grouping::Keys {
        return windowed(context, id, aggregate, input);
    }
    let schema = &context.job.plan.nodes[context.job.plan.nodes[id].inputs[0]].schema;
    let mut evaluated = Evaluated::of(Vec::new());
    for rows in input {
        let always = aggregate.keys.is_empty();
        let groups = groups(rows, aggregate, schema, always, keeps_failed(context));
        evaluated.content.push(groups.rows.into_iter().map(|(keys, results)| ([keys, results].concat().into(), 1)).collect());
        evaluated.errors.push(groups.failed);
        evaluated.late.push(0);
    }
    evaluated
}

/// Each window takes rows while it is open, and its content is that of the rows it took.
fn windowed(context: &Context<'_>, id: NodeId, aggregate: &Aggregate, input: &[Multiset]) -> Evaluated {
    let node = &context.job.plan.nodes[id];
    let below = &context.job.plan.nodes[node.inputs[0]];
    let time = aggregate.time_column().expect("the grouping has windows");
    let sources = below.properties.time[time].as_ref().map(|time| time.sources.clone()).unwrap_or_default();
    let data_type = below.schema.field(time).data_type();
    let mut taken: BTreeMap<i64, Multiset> = BTreeMap::new();
    let mut evaluated = Evaluated::of(vec![Multiset::default(); context.epochs]);
    let (mut late, mut untimed) = (0, 0);
    for epoch in 0..context.epochs {
        let change = match epoch {
            0 => input[0].clone(),
            epoch => input[epoch].minus(&input[epoch - 1]),
        };
        for (row, diff) in change.iter() {
            let Some(time) = micros(&row[time], data_type) else {
                untimed += diff;
                continue;
            };
            let ends: Vec<i64> = match &aggregate.grouping {
                Grouping::Assign(assign) => windows(&assign.kind, time).into_iter().map(|(_, end)| end).collect(),
                Grouping::Column { kind, .. } => vec![end_of(*kind, time)],
                Grouping::Keys | Grouping::Session(_) => unreachable!("the grouping has windows of a row's time alone"),
            };
            let (open, closed): (Vec<i64>, Vec<i64>) = ends.into_iter().partition(|end| context.is_open(epoch, &sources, *end));
            if !closed.is_empty() {
                late += context.late(&sources, diff);
            }
            for end in open {
                taken.entry(end).or_default().add(row.clone(), diff);
            }
        }
        evaluated.late[epoch] = late;
        evaluated.errors[epoch] = untimed;
        for (end, rows) in &taken {
            if aggregate.emit == Emit::Final && *end > context.watermark(epoch, &sources) {
                continue;
            }
            let groups = groups(rows, aggregate, &below.schema, false, keeps_failed(context));
            evaluated.errors[epoch] += groups.failed;
            for (mut row, results) in groups.rows {
                if let Grouping::Assign(assign) = &aggregate.grouping {
                    let bounds = [start_of(&assign.kind, *end), *end].into_iter().enumerate();
                    let keys = row.len();
                    row.extend(bounds.map(|(index, bound)| timestamp(bound, node.schema.field(keys + index).data_type())));
                }
                row.extend(results);
                evaluated.content[epoch].add(row.into(), 1);
            }
        }
    }
    evaluated
}

/// Keys and results of each group.
pub(super) struct Grouped {
    pub(super) rows: Vec<(Vec<Value>, Vec<Value>)>,
    /// How many results cannot be represented.
    pub(super) failed: i64,
}

/// `always`: there is a group even without rows. `keep_failed`: a result that cannot be represented is NULL, otherwise its
/// group is left out.
pub(super) fn groups(rows: &Multiset, aggregate: &Aggregate, schema: &SchemaRef, always: bool, keep_failed: bool) -> Grouped {
    let mut groups: BTreeMap<Vec<Value>, Vec<(&Row, i64)>> = BTreeMap::new();
    if always {
        groups.insert(Vec::new(), Vec::new());
    }
    for (row, diff) in rows.iter() {
        let key = aggregate.keys.iter().map(|column| row[*column].clone()).collect();
        groups.entry(key).or_default().push((row, diff));
    }
    let mut all = Grouped { rows: Vec::new(), failed: 0 };
    for (key, rows) in groups {
        let count: i64 = rows.iter().map(|(_, diff)| diff).sum();
        if count <= 0 && !always {
            continue;
        }
        let results: Vec<Option<Value>> = aggregate.calls.iter().map(|call| result(call, &rows, schema)).collect();
        let failed = results.iter().filter(|result| result.is_none()).count() as i64;
        all.failed += failed;
        if failed == 0 || keep_failed {
            all.rows.push((key, results.into_iter().map(|result| result.unwrap_or(Value::Null)).collect()));
        }
    }
    all
}

/// The result of a call over a group's rows; `None` if it cannot be represented.
pub(super) fn result(call: &AggregateCall, rows: &[(&Row, i64)], schema: &SchemaRef) -> Option<Value> {
    let counted = function::counted(call, rows);
    let count: i64 = counted.iter().map(|(_, diff)| diff).sum();
    if call.function == AggregateFunction::Count {
        return Some(Value::Int(count));
    }
    if count == 0 {
        return Some(Value::Null);
    }
    let argument = call.argument.map(|column| schema.field(column).data_type().clone());
    let values = || counted.iter().map(|(counted, diff)| (counted.arguments[0].clone(), *diff));
    match call.function {
        AggregateFunction::Min => values().map(|(value, _)| value).min(),
        AggregateFunction::Max => values().map(|(value, _)| value).max(),
        AggregateFunction::Sum => total(&values().collect::<Vec<_>>(), &argument?, 1, &call.data_type),
        AggregateFunction::Avg => total(&values().collect::<Vec<_>>(), &argument?, count, &call.data_type),
        _ => Some(function::result(call, &counted)),
    }
}

/// The sum of values, divided by a count, as a value of type `result`.
fn total(values: &[(Value, i64)], argument: &DataType, count: i64, result: &DataType) -> Option<Value> {
    if argument.is_floating() {
        let float = |value: &Value| match value {
            Value::Float(value) => *value,
            other => panic!("{other} is not a float"),
        };
        let sum = exact_sum(values.iter().map(|(value, diff)| (float(value), *diff)));
        return Some(Value::Float(if count == 1 { sum } else { sum / count as f64 }));
    }
    let sum: i128 = values
        .iter()
        .map(|(value, diff)| match value {
            Value::Int(value) => i128::from(*value) * i128::from(*diff),
            Value::Decimal(value) => value * i128::from(*diff),
            other => panic!("{other} is not a number"),
        })
        .sum();
    let scale = |data_type: &DataType| {
        if let DataType::Decimal128(_, scale) = data_type { u32::try_from(*scale).unwrap_or(0) } else { 0 }
    };
    match result {
        DataType::Decimal128(precision, _) => {
            let scaled = sum.checked_mul(10i128.pow(scale(result) - scale(argument)))?;
            let (count, half) = (i128::from(count), i128::from(count) / 2);
            // Half away from zero.
            let rounded = if count % 2 == 0 { (scaled.abs() + half) / count } else { (scaled.abs() * 2 + count) / (count * 2) };
            let limit = 10i128.pow(u32::from(*precision));
            (rounded < limit).then_some(Value::Decimal(rounded * scaled.signum()))
        }
        DataType::Float64 => Some(Value::Float(sum as f64 / 10f64.powi(scale(argument) as i32) / count as f64)),
        _ => i64::try_from(sum).ok().map(Value::Int),
    }
}

/// The sum of floats, exact as long as they are multiples of 2^-64 and not huge: those of the oracle's scripts are.
fn exact_sum(values: impl Iterator<Item = (f64, i64)>) -> f64 {
    const UNIT: f64 = 18_446_744_073_709_551_616.0;
    let values: Vec<(f64, i64)> = values.collect();
    let fixed = |(value, diff): &(f64, i64)| -> Option<i128> {
        let scaled = value * UNIT;
        (scaled.trunc() == scaled && scaled.abs() < 1e36).then(|| (scaled as i128).checked_mul(i128::from(*diff))).flatten()
    };
    match values.iter().map(fixed).sum::<Option<i128>>() {
        Some(sum) => sum as f64 / UNIT,
        None => values.iter().map(|(value, diff)| value * *diff as f64).sum(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_of_decimals_round_half_away_from_zero() {
        let mean = |sum: i128, count: i64| {
            total(&[(Value::Decimal(sum), 1)], &DataType::Decimal128(10, 0), count, &DataType::Decimal128(10, 0))
        };
        assert_eq!(mean(5, 2), Some(Value::Decimal(3)));
        assert_eq!(mean(-5, 2), Some(Value::Decimal(-3)));
        assert_eq!(mean(4, 3), Some(Value::Decimal(1)));
        assert_eq!(mean(5, 3), Some(Value::Decimal(2)));
    }

    #[test]
    fn sums_of_floats_are_rounded_once() {
        assert_eq!(exact_sum([(1e15, 2), (0.1, 1), (1e15, -2), (0.5, -3)].into_iter()), 0.1 - 1.5);
    }
}
