//! Scalars from binary formats: what a number, a text or a time of Avro and Protobuf is in a column.
//!
//! [`Scalar::fits`] says which column takes what, before any row has come; the `put` functions then check values only. Integers
//! go into every type of number that holds them exactly, of whatever width, and a value that does not fit is an error of its
//! row. Nothing is rounded but an integer that becomes a REAL or DOUBLE.

use arrow::datatypes::{DataType, IntervalMonthDayNano, IntervalUnit, TimeUnit};

use super::column::{Column, Values, sql_type};
use super::text::{self, Rules, excerpt};
use super::{decimal, time};

/// What a value of a binary format is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scalar {
    Bool,
    /// An integer of any width.
    Int,
    Float,
    Double,
    Text,
    Bytes,
    /// A decimal with this many digits after the point.
    Decimal(i32),
    /// Days since 1970-01-01.
    Date,
    /// Units since midnight.
    Time(TimeUnit),
    /// Units since 1970.
    Timestamp(TimeUnit),
    Interval,
}

impl Scalar {
    /// Whether a column of this type takes such values.
    pub(crate) fn fits(self, column: &DataType) -> bool {
        use DataType as T;
        match self {
            Scalar::Bool => matches!(column, T::Boolean),
            Scalar::Int => {
                let number = column.is_integer() || matches!(column, T::Float32 | T::Float64 | T::Decimal128(..));
                number || matches!(column, T::Timestamp(..))
            }
            Scalar::Float => matches!(column, T::Float32 | T::Float64),
            Scalar::Double => matches!(column, T::Float64),
            Scalar::Text => {
                let parsed = matches!(column, T::Decimal128(..) | T::Date32 | T::Time32(_) | T::Time64(_) | T::Timestamp(..));
                parsed || is_text(column) || is_bytes(column)
            }
            Scalar::Bytes => is_text(column) || is_bytes(column),
            // What is written of a BIGINT UNSIGNED, which Avro does not have.
            Scalar::Decimal(0) if matches!(column, T::Int64 | T::UInt64) => true,
            Scalar::Decimal(_) => matches!(column, T::Decimal128(..)),
            Scalar::Date => matches!(column, T::Date32 | T::Int32 | T::Int64),
            Scalar::Time(_) => matches!(column, T::Time32(_) | T::Time64(_) | T::Int32 | T::Int64),
            Scalar::Timestamp(_) => matches!(column, T::Timestamp(..) | T::Int64),
            Scalar::Interval => matches!(column, T::Interval(IntervalUnit::MonthDayNano)),
        }
    }

    /// The type of a column that takes it, as SQL writes it: what to declare.
    pub(crate) fn remedy(self) -> &'static str {
        match self {
            Scalar::Bool => "BOOLEAN",
            Scalar::Int => "BIGINT, or another type of numbers",
            Scalar::Float => "REAL or DOUBLE",
            Scalar::Double => "DOUBLE",
            Scalar::Text => "VARCHAR",
            Scalar::Bytes => "BYTEA",
            Scalar::Decimal(_) => "DECIMAL",
            Scalar::Date => "DATE",
            Scalar::Time(_) => "TIME",
            Scalar::Timestamp(_) => "TIMESTAMP",
            Scalar::Interval => "INTERVAL",
        }
    }
}

fn is_text(column: &DataType) -> bool {
    matches!(column, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

pub(crate) fn is_bytes(column: &DataType) -> bool {
    matches!(column, DataType::Binary | DataType::LargeBinary | DataType::BinaryView)
}

/// Counts the value if it was pushed, else says that it does not fit.
#[inline]
fn done(column: &mut Column, pushed: Option<()>, value: impl std::fmt::Display) -> Result<(), String> {
    if pushed.is_some() {
        column.pushed();
        Ok(())
    } else {
        Err(unfit(column, value))
    }
}

#[inline]
fn push<T>(values: &mut Vec<T>, value: T) -> Option<()> {
    values.push(value);
    Some(())
}

#[cold]
fn unfit(column: &Column, value: impl std::fmt::Display) -> String {
    match &column.values {
        Values::Text(_) | Values::Bytes(_) => format!("the batch's strings have no room for {value}"),
        _ => format!("{value} does not fit {}", sql_type(column.field.data_type())),
    }
}

/// Appends a truth value.
pub(crate) fn put_bool(column: &mut Column, value: bool) -> Result<(), String> {
    let pushed = match &mut column.values {
        Values::Bool(values) => {
            values.append(value);
            Some(())
        }
        _ => None,
    };
    done(column, pushed, value)
}

/// Appends an integer.
#[inline]
pub(crate) fn put_int(column: &mut Column, value: i64, rules: &Rules) -> Result<(), String> {
    let pushed = push_int(&mut column.values, value, rules);
    done(column, pushed, value)
}

#[inline]
fn push_int(values: &mut Values, value: i64, rules: &Rules) -> Option<()> {
    match values {
        Values::I64(values) => values.push(value),
        Values::I32(values) => values.push(value.try_into().ok()?),
        Values::I16(values) => values.push(value.try_into().ok()?),
        Values::I8(values) => values.push(value.try_into().ok()?),
        Values::U64(values) => values.push(value.try_into().ok()?),
        Values::U32(values) => values.push(value.try_into().ok()?),
        Values::U16(values) => values.push(value.try_into().ok()?),
        Values::U8(values) => values.push(value.try_into().ok()?),
        Values::F64(values) => values.push(value as f64),
        Values::F32(values) => values.push(value as f32),
        Values::Decimal { values, precision, scale } => values.push(rescaled(value.into(), 0, *precision, *scale)?),
        Values::Timestamp(values, unit) => values.push(converted(value, rules.epoch, *unit)?),
        _ => return None,
    }
    Some(())
}

/// Appends an integer that may be larger than any `i64`.
pub(crate) fn put_unsigned(column: &mut Column, value: u64, rules: &Rules) -> Result<(), String> {
    let pushed = match (&mut column.values, i64::try_from(value)) {
        (values, Ok(value)) => push_int(values, value, rules),
        (Values::U64(values), _) => push(values, value),
        (Values::F64(values), _) => push(values, value as f64),
        (Values::F32(values), _) => push(values, value as f32),
        (Values::Decimal { values, precision, scale }, _) => {
            rescaled(value.into(), 0, *precision, *scale).map(|value| values.push(value))
        }
        _ => None,
    };
    done(column, pushed, value)
}

/// Appends a number of single precision.
pub(crate) fn put_float(column: &mut Column, value: f32) -> Result<(), String> {
    let pushed = match &mut column.values {
        Values::F32(values) => push(values, value),
        Values::F64(values) => push(values, value.into()),
        _ => None,
    };
    done(column, pushed, value)
}

/// Appends a number of double precision.
pub(crate) fn put_double(column: &mut Column, value: f64) -> Result<(), String> {
    let pushed = match &mut column.values {
        Values::F64(values) => push(values, value),
        _ => None,
    };
    done(column, pushed, value)
}

/// Appends a text, which a column of another type takes for what it says.
#[inline]
pub(crate) fn put_text(column: &mut Column, value: &[u8], rules: &Rules) -> Result<(), String> {
    if std::str::from_utf8(value).is_err() {
        return Err(format!("a text is not UTF-8: '{}'", excerpt(value)));
    }
    match &mut column.values {
        Values::Bytes(_) => put_bytes(column, value),
        _ => text::push(column, value, rules),
    }
}

/// Appends bytes; a column of texts takes those that are UTF-8.
pub(crate) fn put_bytes(column: &mut Column, value: &[u8]) -> Result<(), String> {
    let pushed = match &mut column.values {
        Values::Bytes(values) => values.push(value).then_some(()),
        Values::Text(_) if std::str::from_utf8(value).is_err() => {
            return Err("bytes that are not UTF-8 cannot be VARCHAR; declare the column as BYTEA".to_owned());
        }
        Values::Text(values) => values.push(value).then_some(()),
        _ => None,
    };
    done(column, pushed, format_args!("{} bytes", value.len()))
}

/// Appends a decimal: big-endian two's complement of the digits, `scale` of which stand after the point.
pub(crate) fn put_decimal(column: &mut Column, digits: &[u8], scale: i32) -> Result<(), String> {
    let Some(value) = big_endian(digits) else { return Err(unfit(column, format_args!("a decimal of {} bytes", digits.len()))) };
    let pushed = match &mut column.values {
        Values::Decimal { values, precision, scale: own } => {
            rescaled(value, scale, *precision, *own).map(|value| values.push(value))
        }
        Values::I64(values) if scale == 0 => value.try_into().ok().map(|value| values.push(value)),
        Values::U64(values) if scale == 0 => value.try_into().ok().map(|value| values.push(value)),
        _ => None,
    };
    let shown = || {
        let mut text = Vec::new();
        decimal::write(value, i8::try_from(scale).unwrap_or(0), &mut text);
        String::from_utf8_lossy(&text).into_owned()
    };
    if pushed.is_some() { done(column, pushed, "") } else { Err(unfit(column, shown())) }
}

/// The number that big-endian two's complement stands for; nothing is zero.
fn big_endian(bytes: &[u8]) -> Option<i128> {
    let negative = bytes.first().is_some_and(|first| first & 0x80 != 0);
    let fill = if negative { 0xff } else { 0 };
    let extra = bytes.len().saturating_sub(16);
    let (front, back) = bytes.split_at(extra);
    let mut whole = [fill; 16];
    whole[16 - back.len()..].copy_from_slice(back);
    let value = i128::from_be_bytes(whole);
    (front.iter().all(|byte| *byte == fill) && (value < 0) == negative).then_some(value)
}

/// `value` of `from` digits after the point with `to` of them, if that is exact and has no more than `precision` digits.
fn rescaled(value: i128, from: i32, precision: u8, to: i8) -> Option<i128> {
    let shift = i32::from(to) - from;
    let power = 10_i128.checked_pow(shift.unsigned_abs());
    let value = match power {
        _ if value == 0 => 0,
        None => return None,
        Some(power) if shift >= 0 => value.checked_mul(power)?,
        Some(power) => (value % power == 0).then_some(value / power)?,
    };
    decimal::fits(value, precision).then_some(value)
}

/// Appends days since 1970-01-01.
pub(crate) fn put_date(column: &mut Column, days: i64) -> Result<(), String> {
    let pushed = match (&mut column.values, i32::try_from(days)) {
        (Values::Date(values) | Values::I32(values), Ok(days)) => push(values, days),
        (Values::I64(values), _) => push(values, days),
        _ => None,
    };
    done(column, pushed, format_args!("day {days}"))
}

/// Appends units since midnight.
pub(crate) fn put_time(column: &mut Column, value: i64, unit: TimeUnit) -> Result<(), String> {
    let of_day =
        |to: TimeUnit| converted(value, unit, to).filter(|units| (0..time::units_per_second(to) * 86_400).contains(units));
    let pushed = match &mut column.values {
        Values::Time64(values, to) => of_day(*to).map(|units| values.push(units)),
        Values::Time32(values, to) => of_day(*to).and_then(|units| units.try_into().ok()).map(|units| values.push(units)),
        Values::I64(values) => push(values, value),
        Values::I32(values) => value.try_into().ok().map(|value| values.push(value)),
        _ => None,
    };
    done(column, pushed, value)
}

/// Appends units since 1970.
#[inline]
pub(crate) fn put_timestamp(column: &mut Column, value: i64, unit: TimeUnit) -> Result<(), String> {
    let pushed = match &mut column.values {
        Values::Timestamp(values, to) => converted(value, unit, *to).map(|value| values.push(value)),
        Values::I64(values) => push(values, value),
        _ => None,
    };
    done(column, pushed, value)
}

/// Appends a length of time.
pub(crate) fn put_interval(column: &mut Column, months: i32, days: i32, nanos: i64) -> Result<(), String> {
    let pushed = match &mut column.values {
        Values::Interval(values) => push(values, IntervalMonthDayNano::new(months, days, nanos)),
        _ => None,
    };
    done(column, pushed, "an interval")
}

/// Units of another size; digits finer than those are cut off.
fn converted(value: i64, from: TimeUnit, to: TimeUnit) -> Option<i64> {
    let (from, to) = (time::units_per_second(from), time::units_per_second(to));
    if to >= from { value.checked_mul(to / from) } else { Some(value.div_euclid(from / to)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twos_complement_of_any_length() {
        assert_eq!(big_endian(&[]), Some(0));
        assert_eq!(big_endian(&[0xff]), Some(-1));
        assert_eq!(big_endian(&[0, 0x80]), Some(128));
        assert_eq!(big_endian(&[0x80]), Some(-128));
        assert_eq!(big_endian(&[0xff; 20]), Some(-1));
        assert_eq!(big_endian(&i128::MIN.to_be_bytes()), Some(i128::MIN));
        let mut too_large = vec![1];
        too_large.extend([0; 16]);
        assert_eq!(big_endian(&too_large), None);
        let mut sign_alone = vec![0];
        sign_alone.extend([0xff; 16]);
        assert_eq!(big_endian(&sign_alone), None, "larger than any i128");
    }

    #[test]
    fn decimals_change_their_scale_exactly_or_not_at_all() {
        assert_eq!(rescaled(123, 2, 10, 3), Some(1_230));
        assert_eq!(rescaled(1_230, 3, 10, 2), Some(123));
        assert_eq!(rescaled(1_234, 3, 10, 2), None);
        assert_eq!(rescaled(1_000, 0, 3, 0), None);
        assert_eq!(rescaled(0, 100, 3, 0), Some(0));
        assert_eq!(rescaled(1, -100, 38, 0), None);
    }
}
