//! Values as PostgreSQL writes them: `2024-02-29 13:14:15.5`, `1 day 02:03:04`, `1e+20`, `\x00ff`, `{1,2,NULL}`, `(1,one)`.

use std::fmt::Write;

use arrow::array::{Array, ArrayRef, AsArray, GenericStringBuilder, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Float32Type, Float64Type, Int64Type, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit, TimeUnit,
};
use chrono::{DateTime, NaiveDateTime};
use datafusion_common::{Result, exec_datafusion_err};

type Builder = GenericStringBuilder<i32>;

/// Every value of a column as text; NULL stays NULL.
pub(super) fn texts(array: &ArrayRef) -> Result<StringArray> {
    Ok(match array.data_type() {
        DataType::Float64 => {
            let values = array.as_primitive::<Float64Type>();
            each(array, |row, out| float(values.value(row), 15, out))?
        }
        DataType::Float32 => {
            let values = array.as_primitive::<Float32Type>();
            each(array, |row, out| float_digits(values.value(row).into(), &format!("{:e}", values.value(row)), 6, out))?
        }
        DataType::Timestamp(unit, zone) => {
            let zoned = zone.is_some();
            let micros = DataType::Timestamp(TimeUnit::Microsecond, zone.clone());
            let values = match unit {
                // Nanoseconds keep their digits.
                TimeUnit::Nanosecond => cast(array, &DataType::Int64)?,
                _ => cast(&cast(array, &micros)?, &DataType::Int64)?,
            };
            let per_second = if *unit == TimeUnit::Nanosecond { 1_000_000_000 } else { 1_000_000 };
            let values = values.as_primitive::<Int64Type>();
            each(array, |row, out| {
                let (seconds, rest) = (values.value(row).div_euclid(per_second), values.value(row).rem_euclid(per_second));
                let time = DateTime::from_timestamp(seconds, 0).ok_or_else(|| exec_datafusion_err!("timestamp out of range"))?;
                date_time(&time.naive_utc(), out);
                fraction(rest, per_second, out);
                if zoned {
                    out.write_str("+00").expect("writing to memory");
                }
                Ok(())
            })?
        }
        DataType::Time32(_) | DataType::Time64(_) => {
            let nanos = cast(&cast(array, &DataType::Time64(TimeUnit::Nanosecond))?, &DataType::Int64)?;
            let nanos = nanos.as_primitive::<Int64Type>();
            each(array, |row, out| {
                clock(nanos.value(row), out);
                Ok(())
            })?
        }
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            let values = array.as_primitive::<IntervalMonthDayNanoType>();
            each(array, |row, out| {
                interval(values.value(row), out);
                Ok(())
            })?
        }
        DataType::Interval(_) => texts(&cast(array, &DataType::Interval(IntervalUnit::MonthDayNano))?)?,
        DataType::Duration(_) => {
            let nanos = cast(&cast(array, &DataType::Duration(TimeUnit::Nanosecond))?, &DataType::Int64)?;
            let nanos = nanos.as_primitive::<Int64Type>();
            const DAY: i64 = 86_400_000_000_000;
            each(array, |row, out| {
                let value = nanos.value(row);
                interval(IntervalMonthDayNano::new(0, (value / DAY) as i32, value % DAY), out);
                Ok(())
            })?
        }
        DataType::Binary => {
            let values = array.as_binary::<i32>();
            each(array, |row, out| {
                out.write_str("\\x").and_then(|()| values.value(row).iter().try_for_each(|byte| write!(out, "{byte:02x}")))?;
                Ok(())
            })?
        }
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            let items = texts(list.values())?;
            let nested = matches!(list.values().data_type(), DataType::List(_));
            each(array, |row, out| {
                out.write_char('{')?;
                for (place, item) in (list.value_offsets()[row]..list.value_offsets()[row + 1]).enumerate() {
                    if place > 0 {
                        out.write_char(',')?;
                    }
                    match items.is_null(item as usize) {
                        true => out.write_str("NULL")?,
                        false if nested => out.write_str(items.value(item as usize))?,
                        false => quoted(items.value(item as usize), &['{', '}'], true, out)?,
                    }
                }
                Ok(out.write_char('}')?)
            })?
        }
        DataType::Struct(_) => {
            let fields = array.as_struct().columns().iter().map(texts).collect::<Result<Vec<_>>>()?;
            each(array, |row, out| {
                out.write_char('(')?;
                for (place, field) in fields.iter().enumerate() {
                    if place > 0 {
                        out.write_char(',')?;
                    }
                    if !field.is_null(row) {
                        quoted(field.value(row), &['(', ')'], false, out)?;
                    }
                }
                Ok(out.write_char(')')?)
            })?
        }
        DataType::Map(..) => {
            let map = array.as_map();
            let (keys, values) = (texts(map.keys())?, texts(map.values())?);
            each(array, |row, out| {
                out.write_char('{')?;
                for (place, entry) in (map.value_offsets()[row]..map.value_offsets()[row + 1]).enumerate() {
                    let entry = entry as usize;
                    let value = if values.is_null(entry) { "NULL" } else { values.value(entry) };
                    write!(out, "{}{}={value}", if place > 0 { ", " } else { "" }, keys.value(entry))?;
                }
                Ok(out.write_char('}')?)
            })?
        }
        _ => {
            let cast = cast(array, &DataType::Utf8)?;
            cast.as_string::<i32>().clone()
        }
    })
}

fn each(array: &ArrayRef, mut write: impl FnMut(usize, &mut Builder) -> Result<()>) -> Result<StringArray> {
    let mut out = Builder::with_capacity(array.len(), array.len() * 16);
    for row in 0..array.len() {
        if array.is_null(row) {
            out.append_null();
        } else {
            write(row, &mut out)?;
            out.append_value("");
        }
    }
    Ok(out.finish())
}

/// The shortest digits that give the number back, with an exponent below 1e-4 and from `1e{limit}` on.
fn float(value: f64, limit: i32, out: &mut Builder) -> Result<()> {
    float_digits(value, &format!("{value:e}"), limit, out)
}

fn float_digits(value: f64, scientific: &str, limit: i32, out: &mut Builder) -> Result<()> {
    if !value.is_finite() {
        let text = match value {
            value if value.is_nan() => "NaN",
            value if value > 0.0 => "Infinity",
            _ => "-Infinity",
        };
        return Ok(out.write_str(text)?);
    }
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((scientific, "0"));
    let exponent: i32 = exponent.parse().map_err(|_| exec_datafusion_err!("a number without exponent"))?;
    if exponent < -4 || exponent >= limit {
        let sign = if exponent < 0 { '-' } else { '+' };
        return Ok(write!(out, "{mantissa}e{sign}{:02}", exponent.abs())?);
    }
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    let (whole, rest) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    out.write_str(sign)?;
    if exponent < 0 {
        write!(out, "0.{:0>width$}{rest}", whole, width = exponent.unsigned_abs() as usize)?;
        return Ok(());
    }
    let shift = exponent as usize;
    match rest.len() > shift {
        true => write!(out, "{whole}{}.{}", &rest[..shift], &rest[shift..])?,
        false => write!(out, "{whole}{rest:0<shift$}")?,
    }
    Ok(())
}

fn date_time(time: &NaiveDateTime, out: &mut Builder) {
    write!(out, "{}", time.format("%Y-%m-%d %H:%M:%S")).expect("writing to memory");
}

/// `.5` of half a second, nothing of a whole one.
fn fraction(rest: i64, per_second: i64, out: &mut Builder) {
    if rest == 0 {
        return;
    }
    let width = if per_second == 1_000_000_000 { 9 } else { 6 };
    let digits = format!("{rest:0width$}");
    write!(out, ".{}", digits.trim_end_matches('0')).expect("writing to memory");
}

fn clock(nanos: i64, out: &mut Builder) {
    let seconds = nanos.div_euclid(1_000_000_000);
    write!(out, "{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60).expect("writing to memory");
    fraction(nanos.rem_euclid(1_000_000_000), 1_000_000_000, out);
}

/// `1 year 2 mons 3 days 04:05:06.7`, a sign for each part.
fn interval(value: IntervalMonthDayNano, out: &mut Builder) {
    let mut parts: Vec<String> = Vec::with_capacity(4);
    let mut part = |count: i32, one: &str, many: &str| {
        if count != 0 {
            parts.push(format!("{count} {}", if count == 1 { one } else { many }));
        }
    };
    part(value.months / 12, "year", "years");
    part(value.months % 12, "mon", "mons");
    part(value.days, "day", "days");
    let text = parts.join(" ");
    out.write_str(&text).expect("writing to memory");
    if value.nanoseconds != 0 || text.is_empty() {
        if !text.is_empty() {
            out.write_char(' ').expect("writing to memory");
        }
        if value.nanoseconds < 0 {
            out.write_char('-').expect("writing to memory");
        }
        let nanos = value.nanoseconds.checked_abs().unwrap_or(i64::MAX);
        clock(nanos, out);
    }
}

/// A part of an array or a row, between quotes if it could be read as something else.
fn quoted(text: &str, brackets: &[char], array: bool, out: &mut Builder) -> Result<()> {
    let special = |c: char| c == ',' || c == '"' || c == '\\' || c.is_whitespace() || brackets.contains(&c);
    let quote = text.is_empty() || text.contains(special) || (array && text.eq_ignore_ascii_case("null"));
    if !quote {
        return Ok(out.write_str(text)?);
    }
    out.write_char('"')?;
    for c in text.chars() {
        match c {
            '"' | '\\' if array => write!(out, "\\{c}")?,
            '"' | '\\' => write!(out, "{c}{c}")?,
            c => out.write_char(c)?,
        }
    }
    Ok(out.write_char('"')?)
}
