//! Conditions on the clock: looked at anew at every epoch.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use highwater_engine::Time;
use highwater_plan::{Expr, Moment, TemporalFilter, Turns};

use super::Evaluated;
use super::expression::value;
use crate::multiset::Multiset;
use crate::value::{Row, Value, batch_of, micros};

/// The content after each epoch, whose times are `epochs`.
pub(super) fn content(
    filter: &TemporalFilter,
    schema: &SchemaRef,
    epochs: &[Time],
    input: &[Multiset],
) -> Result<Evaluated, String> {
    let mut evaluated = Evaluated::of(vec![Multiset::default(); input.len()]);
    for (epoch, rows) in input.iter().enumerate() {
        for (row, diff) in rows.iter() {
            match passes(filter, schema, epochs[epoch], row)? {
                Some(true) => evaluated.content[epoch].add(row.clone(), diff),
                Some(false) => {}
                None => evaluated.errors[epoch] += diff,
            }
        }
    }
    Ok(evaluated)
}

/// Whether a row passes at an epoch; `None` if a condition fails on it.
fn passes(filter: &TemporalFilter, schema: &SchemaRef, epoch: Time, row: &Row) -> Result<Option<bool>, String> {
    let now = epoch as i64 * 1_000;
    let mut all = true;
    for condition in &filter.conditions {
        let holds = match &condition.moment {
            Moment::At(time) => time_of(time, schema, row)?.map(|time| match condition.turns {
                Turns::True => time.is_some_and(|time| time <= now),
                Turns::False => time.is_some_and(|time| now < time),
            }),
            Moment::After(time) => time_of(time, schema, row)?.map(|time| match condition.turns {
                Turns::True => time.is_some_and(|time| time < now),
                Turns::False => time.is_some_and(|time| now <= time),
            }),
            Moment::Search(truth) => {
                let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
                let fields = schema.fields().iter().map(|field| field.as_ref().clone()).chain([Field::new("now", utc, false)]);
                let with_now: Row = row.iter().cloned().chain([Value::Int(now)]).collect::<Vec<_>>().into();
                let batch = batch_of(&Arc::new(Schema::new(fields.collect::<Vec<_>>())), &[with_now])?;
                value(truth, &batch).map(|value| value.is_true())
            }
        };
        match holds {
            None => return Ok(None),
            Some(holds) => all &= holds,
        }
    }
    Ok(Some(all))
}

/// A row's time in microseconds, if it has one; `None` if the expression fails.
fn time_of(time: &Expr, schema: &SchemaRef, row: &Row) -> Result<Option<Option<i64>>, String> {
    let batch = batch_of(schema, std::slice::from_ref(row))?;
    Ok(value(time, &batch).map(|value| micros(&value, &time.data_type)))
}
