//! `TIMESTAMPDIFF(unit, from, to)`: whole units from one time to another, towards zero; months count calendar months.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Builder};
use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};
use chrono::{DateTime, Datelike, NaiveDateTime};
use datafusion_common::{Result, exec_datafusion_err, exec_err};
use datafusion_expr::{ColumnarValue, ScalarUDF};

use super::{Function, Kind, text};

/// The function.
pub(super) fn function() -> Arc<ScalarUDF> {
    Function::new("timestampdiff", &[Kind::Text, Kind::Time, Kind::Time], DataType::Int64, timestampdiff).build()
}

fn timestampdiff(args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    let units = text(args, 0, rows)?;
    let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
    let from = arrow::compute::cast(&args[1].to_array(rows)?, &micros)?;
    let to = arrow::compute::cast(&args[2].to_array(rows)?, &micros)?;
    let from = from.as_primitive::<TimestampMicrosecondType>();
    let to = to.as_primitive::<TimestampMicrosecondType>();
    let mut out = Int64Builder::with_capacity(rows);
    for row in 0..rows {
        if units.is_null(row) || from.is_null(row) || to.is_null(row) {
            out.append_null();
            continue;
        }
        out.append_value(difference(units.value(row), from.value(row), to.value(row))?);
    }
    Ok(Arc::new(out.finish()))
}

fn difference(unit: &str, from: i64, to: i64) -> Result<i64> {
    const SECOND: i64 = 1_000_000;
    let length = match unit {
        "microsecond" => 1,
        "millisecond" => 1_000,
        "second" => SECOND,
        "minute" => 60 * SECOND,
        "hour" => 3_600 * SECOND,
        "day" => 86_400 * SECOND,
        "week" => 7 * 86_400 * SECOND,
        "month" => return months(from, to),
        "quarter" => return Ok(months(from, to)? / 3),
        "year" => return Ok(months(from, to)? / 12),
        _ => return exec_err!("unknown unit of time '{unit}'"),
    };
    let micros = to.checked_sub(from).ok_or_else(|| exec_datafusion_err!("integer overflow"))?;
    Ok(micros / length)
}

fn months(from: i64, to: i64) -> Result<i64> {
    let (from, to) = (civil(from)?, civil(to)?);
    let months = |time: &NaiveDateTime| i64::from(time.year()) * 12 + i64::from(time.month0());
    let rest = |time: &NaiveDateTime| (time.day(), time.time());
    let whole = months(&to) - months(&from);
    Ok(match whole {
        1.. if rest(&to) < rest(&from) => whole - 1,
        ..=-1 if rest(&to) > rest(&from) => whole + 1,
        _ => whole,
    })
}

fn civil(micros: i64) -> Result<NaiveDateTime> {
    let time = DateTime::from_timestamp_micros(micros);
    Ok(time.ok_or_else(|| exec_datafusion_err!("timestamp out of range"))?.naive_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_units_towards_zero() {
        let day = 86_400_000_000;
        assert_eq!(difference("hour", 0, 3_599_000_000).ok(), Some(0));
        assert_eq!(difference("hour", 0, -7_200_000_000).ok(), Some(-2));
        // 1970-01-31 to 1970-02-28 is no whole month, to 1970-03-31 it is two.
        assert_eq!(difference("month", 30 * day, 58 * day).ok(), Some(0));
        assert_eq!(difference("month", 30 * day, 89 * day).ok(), Some(2));
        assert!(difference("fortnight", 0, 1).is_err());
    }
}
