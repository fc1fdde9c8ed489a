//! Times from text and from numbers: `TO_TIMESTAMP`, `TO_TIMESTAMP_LTZ`, `TO_DATE`, `UNIX_TIMESTAMP`, `FROM_UNIXTIME`,
//! `MAKE_TIMESTAMP`.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Date32Builder, Int64Builder, StringBuilder, TimestampMicrosecondBuilder};
use arrow::datatypes::{DataType, Float64Type, TimeUnit};
use chrono::{NaiveDate, NaiveDateTime};
use datafusion_common::{DataFusionError, Result, exec_datafusion_err};
use datafusion_expr::{ColumnarValue, ScalarUDF};

use super::time_pattern::{self, Pattern, civil};
use super::{Function, Gives, Kind, cast, column, text, whole};

fn utc() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

fn plain() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, None)
}

/// The functions.
pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    let instant = |found: &[DataType]| match found.first()? {
        DataType::Utf8 | DataType::Null => Some(plain()),
        DataType::Timestamp(_, None) | DataType::Date32 if found.len() == 1 => Some(plain()),
        found if found.is_numeric() => Some(utc()),
        _ => None,
    };
    let date = |found: &[DataType]| {
        let fits = matches!(found.first()?, DataType::Utf8 | DataType::Null | DataType::Date32 | DataType::Timestamp(_, None));
        fits.then_some(DataType::Date32)
    };
    let number = &[Kind::Whole, Kind::Whole, Kind::Whole, Kind::Whole, Kind::Whole, Kind::Number];
    vec![
        Function::typed("to_timestamp", &[Kind::Any], Gives::From(instant), to_timestamp).optional(&[Kind::Text]).build(),
        Function::new("to_timestamp_ltz", &[Kind::Any], utc(), to_timestamp_ltz).optional(&[Kind::Any]).build(),
        Function::typed("to_date", &[Kind::Any], Gives::From(date), to_date).optional(&[Kind::Text]).build(),
        Function::new("unix_timestamp", &[Kind::Text], DataType::Int64, unix_timestamp).optional(&[Kind::Text]).build(),
        Function::new("from_unixtime", &[Kind::Whole], DataType::Utf8, from_unixtime).optional(&[Kind::Text]).build(),
        Function::new("make_timestamp", number, plain(), make_timestamp).build(),
    ]
}

fn out_of_range() -> DataFusionError {
    exec_datafusion_err!("timestamp out of range")
}

/// Text, by a pattern if there is one, as times.
fn times(args: &[ColumnarValue], rows: usize, target: &str, mut take: impl FnMut(Option<NaiveDateTime>)) -> Result<()> {
    let texts = text(args, 0, rows)?;
    let patterns = if args.len() > 1 { Some(text(args, 1, rows)?) } else { None };
    let mut known: Option<(String, Pattern)> = None;
    for row in 0..rows {
        if texts.is_null(row) || patterns.as_ref().is_some_and(|patterns| patterns.is_null(row)) {
            take(None);
            continue;
        }
        let value = texts.value(row);
        let time = match &patterns {
            None => cast::timestamp_in(value.trim(), TimeUnit::Microsecond, false).and_then(civil),
            Some(patterns) => {
                let pattern = patterns.value(row);
                if known.as_ref().is_none_or(|(before, _)| before != pattern) {
                    let read = time_pattern::any(pattern);
                    let read = read.ok_or_else(|| exec_datafusion_err!("unsupported pattern '{pattern}' of a time"))?;
                    known = Some((pattern.to_string(), read));
                }
                known.as_ref().and_then(|(_, pattern)| pattern.read(value))
            }
        };
        match time {
            Some(time) => take(Some(time)),
            None => return Err(exec_datafusion_err!("cannot cast '{value}' to {target}")),
        }
    }
    Ok(())
}

fn micros(time: NaiveDateTime) -> i64 {
    time.and_utc().timestamp_micros()
}

/// Seconds since 1970 as microseconds.
fn seconds(values: &ArrayRef, per_second: f64) -> Result<Vec<Option<i64>>> {
    let values = arrow::compute::cast(values, &DataType::Float64)?;
    let values = values.as_primitive::<Float64Type>();
    let value = |value: Option<f64>| match value {
        None => Ok(None),
        Some(value) => {
            let micros = (value * (1_000_000.0 / per_second)).round();
            let fits = micros.abs() < 8.2e18 && civil(micros as i64).is_some();
            if fits { Ok(Some(micros as i64)) } else { Err(out_of_range()) }
        }
    };
    values.iter().map(value).collect()
}

fn to_timestamp(args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    let values = column(args, 0, rows)?;
    if values.data_type().is_numeric() {
        let mut out = TimestampMicrosecondBuilder::with_capacity(rows).with_data_type(utc());
        seconds(&values, 1.0)?.into_iter().for_each(|value| out.append_option(value));
        return Ok(Arc::new(out.finish()));
    }
    if !matches!(values.data_type(), DataType::Utf8) {
        return Ok(arrow::compute::cast(&values, &plain())?);
    }
    let mut out = TimestampMicrosecondBuilder::with_capacity(rows);
    times(args, rows, "TIMESTAMP", |time| out.append_option(time.map(micros)))?;
    Ok(Arc::new(out.finish()))
}

/// Of a number: in units of ten to the minus given power of a second (0: seconds, 3: milliseconds, the default of text none).
fn to_timestamp_ltz(args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    let values = column(args, 0, rows)?;
    let mut out = TimestampMicrosecondBuilder::with_capacity(rows).with_data_type(utc());
    if values.data_type().is_numeric() {
        let precision = match args.get(1) {
            None => 3,
            Some(_) => {
                let given = arrow::compute::cast(&column(args, 1, rows)?, &DataType::Int64)?;
                let given = given.as_primitive::<arrow::datatypes::Int64Type>();
                given.iter().flatten().next().unwrap_or(3)
            }
        };
        let per_second = match precision {
            0 => 1.0,
            3 => 1_000.0,
            6 => 1_000_000.0,
            other => return Err(exec_datafusion_err!("the precision of TO_TIMESTAMP_LTZ is 0, 3 or 6, not {other}")),
        };
        if values.data_type().is_integer() {
            // Exactly, not through floats.
            let values = arrow::compute::cast(&values, &DataType::Int64)?;
            let factor = (1_000_000.0 / per_second) as i64;
            for value in values.as_primitive::<arrow::datatypes::Int64Type>() {
                let micros = value.map(|value| value.checked_mul(factor).filter(|micros| civil(*micros).is_some()));
                match micros {
                    Some(None) => return Err(out_of_range()),
                    other => out.append_option(other.flatten()),
                }
            }
        } else {
            seconds(&values, per_second)?.into_iter().for_each(|value| out.append_option(value));
        }
        return Ok(Arc::new(out.finish()));
    }
    if values.data_type().is_null() {
        out.append_nulls(rows);
        return Ok(Arc::new(out.finish()));
    }
    times(args, rows, "TIMESTAMP_LTZ", |time| out.append_option(time.map(micros)))?;
    Ok(Arc::new(out.finish()))
}

fn to_date(args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    let values = column(args, 0, rows)?;
    if !matches!(values.data_type(), DataType::Utf8) {
        return Ok(arrow::compute::cast(&values, &DataType::Date32)?);
    }
    let mut out = Date32Builder::with_capacity(rows);
    let days = |time: NaiveDateTime| (time.date() - NaiveDate::default()).num_days() as i32;
    times(args, rows, "DATE", |time| out.append_option(time.map(days)))?;
    Ok(Arc::new(out.finish()))
}

fn unix_timestamp(args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    let mut out = Int64Builder::with_capacity(rows);
    times(args, rows, "TIMESTAMP", |time| out.append_option(time.map(|time| time.and_utc().timestamp())))?;
    Ok(Arc::new(out.finish()))
}

fn from_unixtime(args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    let numbers = whole(args, 0, rows)?;
    let patterns = if args.len() > 1 { Some(text(args, 1, rows)?) } else { None };
    let default = "yyyy-MM-dd HH:mm:ss";
    let mut known: Option<(String, Pattern)> = None;
    let mut out = StringBuilder::with_capacity(rows, rows * 20);
    for row in 0..rows {
        if numbers.is_null(row) || patterns.as_ref().is_some_and(|patterns| patterns.is_null(row)) {
            out.append_null();
            continue;
        }
        let pattern = patterns.as_ref().map_or(default, |patterns| patterns.value(row));
        if known.as_ref().is_none_or(|(before, _)| before != pattern) {
            let read = time_pattern::java(pattern);
            known = Some((
                pattern.to_string(),
                read.ok_or_else(|| exec_datafusion_err!("unsupported pattern '{pattern}' of a time"))?,
            ));
        }
        let time = numbers.value(row).checked_mul(1_000_000).and_then(civil).ok_or_else(out_of_range)?;
        if let Some((_, pattern)) = &known {
            pattern.write(&time, &mut out)?;
        }
        out.append_value("");
    }
    Ok(Arc::new(out.finish()))
}

fn make_timestamp(args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    let parts = (0..5).map(|index| whole(args, index, rows)).collect::<Result<Vec<_>>>()?;
    let seconds = column(args, 5, rows)?;
    let seconds = seconds.as_primitive::<Float64Type>();
    let mut out = TimestampMicrosecondBuilder::with_capacity(rows);
    for row in 0..rows {
        if parts.iter().any(|part| part.is_null(row)) || seconds.is_null(row) {
            out.append_null();
            continue;
        }
        let part = |index: usize| u32::try_from(parts[index].value(row)).ok();
        let time = || {
            let date = NaiveDate::from_ymd_opt(i32::try_from(parts[0].value(row)).ok()?, part(1)?, part(2)?)?;
            let second = seconds.value(row);
            let whole = (0.0..60.0).contains(&second).then_some(second as u32)?;
            let micros = ((second - f64::from(whole)) * 1e6).round() as u32;
            date.and_hms_micro_opt(part(3)?, part(4)?, whole, micros.min(999_999))
        };
        out.append_value(micros(time().ok_or_else(|| exec_datafusion_err!("date or time out of range"))?));
    }
    Ok(Arc::new(out.finish()))
}
