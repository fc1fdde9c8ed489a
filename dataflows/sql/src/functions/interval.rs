//! Arithmetic of intervals: `iv * 2`, `iv / 3`, and their length, by which they are compared (a month is 30 days, a day 24 hours).

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Decimal128Array, IntervalMonthDayNanoBuilder};
use arrow::datatypes::{DataType, Float64Type, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit};
use arrow::error::ArrowError;
use datafusion_common::{Result, exec_datafusion_err};
use datafusion_expr::{ColumnarValue, ScalarUDF};

use super::{Function, Kind, column};

/// The functions.
pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    let length = DataType::Interval(IntervalUnit::MonthDayNano);
    vec![
        Function::new("interval_multiply", &[Kind::Length, Kind::Number], length.clone(), multiply).build(),
        Function::new("interval_divide", &[Kind::Length, Kind::Number], length.clone(), divide).build(),
        Function::new("interval_length", &[Kind::Length], DataType::Decimal128(38, 0), nanoseconds).build(),
        Function::new("justify_hours", &[Kind::Length], length.clone(), |args, rows| each(args, rows, justify_hours)).build(),
        Function::new("justify_days", &[Kind::Length], length, |args, rows| each(args, rows, justify_days)).build(),
    ]
}

const DAY: i64 = 86_400_000_000_000;

fn multiply(args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    scaled(args, rows, Ok)
}

fn divide(args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    scaled(args, rows, |divisor| if divisor == 0.0 { Err(ArrowError::DivideByZero.into()) } else { Ok(1.0 / divisor) })
}

fn scaled(args: &[ColumnarValue], rows: usize, factor: impl Fn(f64) -> Result<f64>) -> Result<ArrayRef> {
    let (lengths, numbers) = (column(args, 0, rows)?, column(args, 1, rows)?);
    let (lengths, numbers) = (lengths.as_primitive::<IntervalMonthDayNanoType>(), numbers.as_primitive::<Float64Type>());
    let mut out = IntervalMonthDayNanoBuilder::with_capacity(rows);
    for row in 0..rows {
        if lengths.is_null(row) || numbers.is_null(row) {
            out.append_null();
            continue;
        }
        let (value, factor) = (lengths.value(row), factor(numbers.value(row))?);
        let months = f64::from(value.months) * factor;
        let days = f64::from(value.days) * factor + (months - months.trunc()) * 30.0;
        // Microseconds are kept: what is finer comes from the factor's own digits.
        let nanos = value.nanoseconds as f64 * factor + (days - days.trunc()) * DAY as f64;
        let nanos = (nanos / 1_000.0).round() * 1_000.0;
        let fits = months.abs() < f64::from(i32::MAX) && days.abs() < f64::from(i32::MAX) && nanos.abs() < i64::MAX as f64;
        if !fits {
            return Err(exec_datafusion_err!("interval out of range"));
        }
        out.append_value(IntervalMonthDayNano::new(months as i32, days as i32, nanos as i64));
    }
    Ok(Arc::new(out.finish()))
}

fn nanoseconds(args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    let lengths = column(args, 0, rows)?;
    let lengths = lengths.as_primitive::<IntervalMonthDayNanoType>();
    let length = |value: IntervalMonthDayNano| {
        let days = i128::from(value.months) * 30 + i128::from(value.days);
        days * i128::from(DAY) + i128::from(value.nanoseconds)
    };
    let array = Decimal128Array::from_iter(lengths.iter().map(|value| value.map(length)));
    Ok(Arc::new(array.with_precision_and_scale(38, 0)?))
}

fn each(args: &[ColumnarValue], rows: usize, of: fn(IntervalMonthDayNano) -> IntervalMonthDayNano) -> Result<ArrayRef> {
    let lengths = column(args, 0, rows)?;
    let lengths = lengths.as_primitive::<IntervalMonthDayNanoType>();
    Ok(Arc::new(lengths.unary::<_, IntervalMonthDayNanoType>(of)))
}

fn justify_hours(value: IntervalMonthDayNano) -> IntervalMonthDayNano {
    let days = value.days.saturating_add((value.nanoseconds / DAY) as i32);
    IntervalMonthDayNano::new(value.months, days, value.nanoseconds % DAY)
}

fn justify_days(value: IntervalMonthDayNano) -> IntervalMonthDayNano {
    IntervalMonthDayNano::new(value.months.saturating_add(value.days / 30), value.days % 30, value.nanoseconds)
}
