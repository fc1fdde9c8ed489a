//! `AGE(a, b)`: from `b` to `a` in years, months, days and time, as a person would count.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, IntervalMonthDayNanoBuilder};
use arrow::datatypes::{DataType, IntervalMonthDayNano, IntervalUnit, TimeUnit, TimestampMicrosecondType};
use chrono::{DateTime, Datelike, Months, NaiveDate, NaiveDateTime};
use datafusion_common::{Result, exec_datafusion_err};
use datafusion_expr::{ColumnarValue, ScalarUDF};

use super::{Function, Kind, column};

/// The function.
pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    let result = DataType::Interval(IntervalUnit::MonthDayNano);
    vec![Function::new("age", &[Kind::Time, Kind::Time], result, age).build()]
}

fn age(args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
    let to = arrow::compute::cast(&column(args, 0, rows)?, &micros)?;
    let from = arrow::compute::cast(&column(args, 1, rows)?, &micros)?;
    let (to, from) = (to.as_primitive::<TimestampMicrosecondType>(), from.as_primitive::<TimestampMicrosecondType>());
    let mut out = IntervalMonthDayNanoBuilder::with_capacity(rows);
    for row in 0..rows {
        if to.is_null(row) || from.is_null(row) {
            out.append_null();
            continue;
        }
        let (to, from) = (civil(to.value(row))?, civil(from.value(row))?);
        let (months, days, nanos) = if to >= from { between(from, to)? } else { between(to, from)? };
        let sign = if to >= from { 1 } else { -1 };
        out.append_value(IntervalMonthDayNano::new(months * sign, days * sign, nanos * i64::from(sign)));
    }
    Ok(Arc::new(out.finish()))
}

fn civil(micros: i64) -> Result<NaiveDateTime> {
    let time = DateTime::from_timestamp_micros(micros).ok_or_else(|| exec_datafusion_err!("timestamp out of range"))?;
    Ok(time.naive_utc())
}

/// Borrows days from the month of the earlier time, as PostgreSQL does.
fn between(from: NaiveDateTime, to: NaiveDateTime) -> Result<(i32, i32, i64)> {
    let out_of_range = || exec_datafusion_err!("timestamp out of range");
    let mut nanos = (to.time() - from.time()).num_nanoseconds().unwrap_or(0);
    let (end, start) = (to.date(), from.date());
    let mut months = (end.year() - start.year()) * 12 + end.month() as i32 - start.month() as i32;
    let mut days = end.day() as i32 - start.day() as i32;
    if nanos < 0 {
        nanos += 86_400_000_000_000;
        days -= 1;
    }
    if days < 0 {
        months -= 1;
        days += days_in_month(start).ok_or_else(out_of_range)?;
    }
    Ok((months, days, nanos))
}

fn days_in_month(day: NaiveDate) -> Option<i32> {
    let first = day.with_day(1)?;
    Some((first.checked_add_months(Months::new(1))? - first).num_days() as i32)
}
