//! Text to values, as PostgreSQL reads it: blanks around it are no part of it, and what does not fit is an error.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryBuilder, BooleanBuilder, Decimal128Builder, IntervalMonthDayNanoBuilder, ListArray, PrimitiveBuilder,
    StringArray, StringBuilder,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::kernels::cast_utils::{Parser, string_to_datetime};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, FieldRef, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    Time32MillisecondType, Time32SecondType, Time64MicrosecondType, Time64NanosecondType, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
};
use chrono::Utc;
use datafusion_common::{DataFusionError, Result, exec_datafusion_err};

use super::interval::parse_interval;
use crate::bind::sql_type;

/// Every text as a value of `target`; with `safe`, NULL for what is none.
pub(super) fn parsed(texts: &StringArray, target: &DataType, safe: bool) -> Result<ArrayRef> {
    macro_rules! number {
        ($kind:ty) => {
            numbers::<$kind>(texts, target, safe, |text| text.parse().ok())
        };
    }
    macro_rules! timestamp {
        ($kind:ty, $unit:expr, $zone:expr) => {
            numbers::<$kind>(texts, target, safe, |text| timestamp_in(text, $unit, $zone.is_some()))
        };
    }
    match target {
        DataType::Int8 => number!(Int8Type),
        DataType::Int16 => number!(Int16Type),
        DataType::Int32 => number!(Int32Type),
        DataType::Int64 => number!(Int64Type),
        DataType::Float64 => numbers::<Float64Type>(texts, target, safe, |text| {
            let value: f64 = text.parse().ok()?;
            (value.is_finite() || !text.contains(|c: char| c.is_ascii_digit())).then_some(value)
        }),
        DataType::Float32 => numbers::<Float32Type>(texts, target, safe, |text| {
            let value: f32 = text.parse().ok()?;
            (value.is_finite() || !text.contains(|c: char| c.is_ascii_digit())).then_some(value)
        }),
        DataType::Decimal128(precision, scale) => decimals(texts, target, *precision, *scale, safe),
        DataType::Boolean => {
            let mut out = BooleanBuilder::with_capacity(texts.len());
            each(texts, target, safe, boolean, |value| out.append_option(value))?;
            Ok(Arc::new(out.finish()))
        }
        DataType::Date32 => numbers::<Date32Type>(texts, target, safe, |text| {
            // Arrow would move a time with an offset to UTC first.
            let of_time = || Some(timestamp_in(text, TimeUnit::Second, false)?.div_euclid(86_400) as i32);
            if text.contains(':') { of_time() } else { Date32Type::parse(text).or_else(of_time) }
        }),
        DataType::Time32(TimeUnit::Second) => {
            numbers::<Time32SecondType>(texts, target, safe, |text| either(text, Time32SecondType::parse))
        }
        DataType::Time32(_) => {
            numbers::<Time32MillisecondType>(texts, target, safe, |text| either(text, Time32MillisecondType::parse))
        }
        DataType::Time64(TimeUnit::Nanosecond) => {
            numbers::<Time64NanosecondType>(texts, target, safe, |text| either(text, Time64NanosecondType::parse))
        }
        DataType::Time64(_) => {
            numbers::<Time64MicrosecondType>(texts, target, safe, |text| either(text, Time64MicrosecondType::parse))
        }
        DataType::Timestamp(unit @ TimeUnit::Second, zone) => timestamp!(TimestampSecondType, *unit, zone),
        DataType::Timestamp(unit @ TimeUnit::Millisecond, zone) => timestamp!(TimestampMillisecondType, *unit, zone),
        DataType::Timestamp(unit @ TimeUnit::Microsecond, zone) => timestamp!(TimestampMicrosecondType, *unit, zone),
        DataType::Timestamp(unit @ TimeUnit::Nanosecond, zone) => timestamp!(TimestampNanosecondType, *unit, zone),
        DataType::Interval(_) => {
            let mut out = IntervalMonthDayNanoBuilder::with_capacity(texts.len());
            each(texts, target, safe, parse_interval, |value| out.append_option(value))?;
            Ok(Arc::new(out.finish()))
        }
        DataType::Binary => {
            let mut out = BinaryBuilder::new();
            for text in texts {
                let Some(text) = text else {
                    out.append_null();
                    continue;
                };
                match text.strip_prefix("\\x").map_or_else(|| escaped(text), hex) {
                    Some(bytes) => out.append_value(bytes),
                    None if safe => out.append_null(),
                    None => return Err(refused(text, target)),
                }
            }
            Ok(Arc::new(out.finish()))
        }
        DataType::List(item) => lists(texts, target, item, safe),
        other => Err(exec_datafusion_err!("cannot cast VARCHAR to {}", sql_type(other))),
    }
}

fn refused(text: &str, target: &DataType) -> DataFusionError {
    exec_datafusion_err!("cannot cast '{text}' to {}", sql_type(target))
}

fn each<T>(
    texts: &StringArray,
    target: &DataType,
    safe: bool,
    parse: impl Fn(&str) -> Option<T>,
    mut take: impl FnMut(Option<T>),
) -> Result<()> {
    for text in texts {
        match text.map(|text| (text, parse(text.trim()))) {
            None => take(None),
            Some((text, None)) if !safe => return Err(refused(text, target)),
            Some((_, value)) => take(value),
        }
    }
    Ok(())
}

fn numbers<T: ArrowPrimitiveType>(
    texts: &StringArray,
    target: &DataType,
    safe: bool,
    parse: impl Fn(&str) -> Option<T::Native>,
) -> Result<ArrayRef> {
    let mut out = PrimitiveBuilder::<T>::with_capacity(texts.len()).with_data_type(target.clone());
    each(texts, target, safe, parse, |value| out.append_option(value))?;
    Ok(Arc::new(out.finish()))
}

fn boolean(text: &str) -> Option<bool> {
    let is = |words: &[&str]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
    match text {
        _ if is(&["true", "t", "yes", "y", "on", "1", "tru", "tr", "ye"]) => Some(true),
        _ if is(&["false", "f", "no", "n", "off", "0", "fals", "fal", "fa", "of"]) => Some(false),
        _ => None,
    }
}

/// A time in units since 1970. An offset or zone in the text moves it only if its type has a zone; TIMESTAMP is what is written,
/// as in PostgreSQL.
pub(crate) fn timestamp_in(text: &str, unit: TimeUnit, zoned: bool) -> Option<i64> {
    let time = timestamp(text, unit)?;
    // Behind the date, whose own signs are no offsets.
    let offset = text.char_indices().skip_while(|(_, c)| !matches!(c, ' ' | 'T' | 't')).skip(1);
    match offset.into_iter().find(|(_, c)| matches!(c, '+' | '-') || c.is_ascii_alphabetic()) {
        Some((at, _)) if !zoned => timestamp(text[..at].trim_end(), unit),
        _ => Some(time),
    }
}

/// A time in units since 1970; without a zone it is taken as UTC, and seconds may be left out.
pub(crate) fn timestamp(text: &str, unit: TimeUnit) -> Option<i64> {
    let read = |text: &str| string_to_datetime(&Utc, text).ok();
    let to_the_minute = |text: &str| read(&format!("{text}:00")).filter(|_| text.len() == 16 && text.is_ascii());
    let time = read(text).or_else(|| to_the_minute(text)).or_else(|| {
        let text = padded(text)?;
        read(&text).or_else(|| to_the_minute(&text))
    })?;
    match unit {
        TimeUnit::Second => Some(time.timestamp()),
        TimeUnit::Millisecond => Some(time.timestamp_millis()),
        TimeUnit::Microsecond => Some(time.timestamp_micros()),
        TimeUnit::Nanosecond => time.timestamp_nanos_opt(),
    }
}

/// A text whose lone digits have a zero in front, `2020-1-2 3:04:05`, if it has some; those of a fraction stay.
fn padded(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len() + 6);
    let chars: Vec<char> = text.chars().collect();
    for (index, c) in chars.iter().enumerate() {
        let digit = |at: Option<usize>| at.and_then(|at| chars.get(at)).is_some_and(char::is_ascii_digit);
        let before = index.checked_sub(1);
        let fraction = before.is_some_and(|at| chars[at] == '.');
        if c.is_ascii_digit() && !fraction && !digit(before) && !digit(Some(index + 1)) {
            out.push('0');
        }
        out.push(*c);
    }
    (out.len() > text.len()).then_some(out)
}

/// The text as it is, or with its lone digits padded.
fn either<T>(text: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
    parse(text).or_else(|| parse(&padded(text)?))
}

fn decimals(texts: &StringArray, target: &DataType, precision: u8, scale: i8, safe: bool) -> Result<ArrayRef> {
    let mut out = Decimal128Builder::with_capacity(texts.len()).with_data_type(target.clone());
    let limit = 10i128.pow(u32::from(precision));
    for text in texts {
        match text.map(|text| (text, decimal(text.trim(), scale))) {
            None => out.append_null(),
            Some((_, Some(Some(value)))) if value.abs() < limit => out.append_value(value),
            Some(_) if safe => out.append_null(),
            Some((text, Some(_))) => {
                return Err(exec_datafusion_err!("decimal overflow: '{text}' does not fit {}", sql_type(target)));
            }
            Some((text, None)) => return Err(refused(text, target)),
        }
    }
    Ok(Arc::new(out.finish()))
}

/// Digits, a point and an exponent, rounded half away from zero; the inner `None` is a number that is too large.
fn decimal(text: &str, scale: i8) -> Option<Option<i128>> {
    let (negative, text) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (digits, exponent) = match text.split_once(['e', 'E']) {
        Some((digits, exponent)) => (digits, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (whole, rest) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.len() + rest.len() == 0 || !whole.bytes().chain(rest.bytes()).all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // How many digits stand before the last one that is kept.
    let kept = whole.len() as i64 + i64::from(exponent) + i64::from(scale);
    let mut value: i128 = 0;
    let mut next = whole.bytes().chain(rest.bytes()).map(|byte| i128::from(byte - b'0'));
    if kept > 60 {
        let zero = next.all(|digit| digit == 0);
        return Some(zero.then_some(0));
    }
    for _ in 0..kept.max(0) {
        let Some(larger) = value.checked_mul(10).and_then(|value| value.checked_add(next.next().unwrap_or(0))) else {
            return Some(None);
        };
        value = larger;
    }
    if kept >= 0 && next.next().is_some_and(|digit| digit >= 5) {
        value += 1;
    }
    Some(Some(if negative { -value } else { value }))
}

/// Bytes of a text in which `\\` is a backslash and `\377` a byte by its octal digits.
fn escaped(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, behind @ ..] = rest {
        (rest, _) = match behind {
            [b'\\', behind @ ..] if *first == b'\\' => (behind, bytes.push(b'\\')),
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', behind @ ..] if *first == b'\\' => {
                (behind, bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0')))
            }
            _ if *first == b'\\' => return None,
            behind => (behind, bytes.push(*first)),
        };
    }
    Some(bytes)
}

/// Bytes of hexadecimal digits.
pub(super) fn hex(digits: &str) -> Option<Vec<u8>> {
    let digits = digits.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    digits.chunks_exact(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

/// `{1,2,NULL}`, `{"a b",c}`, `{{1},{2}}`.
fn lists(texts: &StringArray, target: &DataType, item: &FieldRef, safe: bool) -> Result<ArrayRef> {
    let mut items = StringBuilder::new();
    let mut lengths = Vec::with_capacity(texts.len());
    let mut valid = Vec::with_capacity(texts.len());
    let mut count = 0;
    for text in texts {
        let before = count;
        let read = text.map(|text| (text, array_items(text.trim())));
        valid.push(matches!(&read, Some((_, Some(_)))));
        match read {
            None => {}
            Some((_, Some(found))) => {
                for found in found {
                    items.append_option(found);
                    count += 1;
                }
            }
            Some(_) if safe => {}
            Some((text, None)) => return Err(refused(text, target)),
        }
        lengths.push(count - before);
    }
    let values = match item.data_type() {
        DataType::Utf8 => Arc::new(items.finish()) as ArrayRef,
        other => parsed(&items.finish(), other, safe)?,
    };
    let offsets = OffsetBuffer::from_lengths(lengths);
    Ok(Arc::new(ListArray::new(Arc::clone(item), offsets, values, Some(NullBuffer::from(valid)))))
}

/// The items of an array's text; items that are arrays keep their braces.
fn array_items(text: &str) -> Option<Vec<Option<String>>> {
    let inner = text.strip_prefix('{')?.strip_suffix('}')?;
    let mut items = Vec::new();
    let mut chars = inner.chars().peekable();
    if inner.trim().is_empty() {
        return Some(items);
    }
    loop {
        let (mut item, mut quoted, mut depth) = (String::new(), false, 0);
        loop {
            match chars.next() {
                Some('"') if depth == 0 => {
                    quoted = true;
                    loop {
                        match chars.next()? {
                            '"' => break,
                            '\\' => item.push(chars.next()?),
                            c => item.push(c),
                        }
                    }
                }
                Some(',') if depth == 0 => break,
                None if depth == 0 => {
                    items.push(finished(item, quoted));
                    return Some(items);
                }
                None => return None,
                Some(c) => {
                    depth += i32::from(c == '{') - i32::from(c == '}');
                    item.push(c);
                }
            }
        }
        items.push(finished(item, quoted));
    }
}

fn finished(item: String, quoted: bool) -> Option<String> {
    if quoted {
        return Some(item);
    }
    let item = item.trim();
    (!item.eq_ignore_ascii_case("null")).then(|| item.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_rounded_half_away_from_zero() {
        assert_eq!(decimal("12.345", 2), Some(Some(1_235)));
        assert_eq!(decimal("-12.345", 2), Some(Some(-1_235)));
        assert_eq!(decimal("0.004", 2), Some(Some(0)));
        assert_eq!(decimal("5e-3", 2), Some(Some(1)));
        assert_eq!(decimal("4e-4", 2), Some(Some(0)));
        assert_eq!(decimal("1e2", 2), Some(Some(10_000)));
        assert_eq!(decimal("1e99", 2), Some(None));
        assert_eq!(decimal("1.", 0), Some(Some(1)));
        assert_eq!(decimal(".", 0), None);
        assert_eq!(decimal("", 0), None);
    }

    #[test]
    fn lone_digits_of_times_are_read() {
        assert_eq!(
            timestamp("1970-1-2 3:04:5.5", TimeUnit::Millisecond),
            timestamp("1970-01-02 03:04:05.5", TimeUnit::Millisecond)
        );
        assert_eq!(padded("1970-01-02 03:04:05.5"), None);
        assert_eq!(either("8:00:00", Time64MicrosecondType::parse), Some(28_800_000_000));
    }

    #[test]
    fn arrays_of_arrays() {
        let items =
            |text: &str| array_items(text).map(|items| items.into_iter().map(|item| item.unwrap_or("-".into())).collect());
        assert_eq!(items("{1, 2,null}"), Some(vec!["1".to_string(), "2".into(), "-".into()]));
        assert_eq!(items(r#"{"a,b","c\"d",""}"#), Some(vec!["a,b".to_string(), "c\"d".into(), String::new()]));
        assert_eq!(items("{{1,2},{3}}"), Some(vec!["{1,2}".to_string(), "{3}".into()]));
        assert_eq!(items("{}"), Some(vec![]));
        assert_eq!(items("{1"), None);
    }
}
