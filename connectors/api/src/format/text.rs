//! Scalars from text: what a CSV field, a JSON string and a JSON number have in common.

use arrow::datatypes::{IntervalMonthDayNano, TimeUnit};

use super::column::{Column, Values, sql_type};
use super::{decimal, time};

/// What decoding depends on besides the schema.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    /// The unit of timestamps that are integers.
    pub(crate) epoch: TimeUnit,
    /// Whether NOT NULL columns that are missing get a placeholder: for the old row of a change, of which only the key counts.
    pub(crate) key_only: bool,
    /// Whether fields that no column is declared for refuse their row.
    pub(crate) refuses_unknown: bool,
}

/// Appends the value that `text` stands for to a scalar column.
///
/// Errors: what was expected and found; nothing has been appended then.
#[inline]
pub(crate) fn push(column: &mut Column, text: &[u8], rules: &Rules) -> Result<(), String> {
    if push_value(&mut column.values, text, rules).is_some() {
        column.pushed();
        Ok(())
    } else {
        Err(refused(column, text))
    }
}

#[inline]
fn push_value(values: &mut Values, text: &[u8], rules: &Rules) -> Option<()> {
    match values {
        Values::I64(values) => values.push(integer(text)?),
        Values::Text(values) => return values.push(text).then_some(()),
        Values::Timestamp(values, unit) => values.push(timestamp(text, *unit, rules)?),
        Values::I32(values) => values.push(integer(text)?),
        Values::F64(values) => values.push(std::str::from_utf8(text).ok()?.parse().ok()?),
        Values::F32(values) => values.push(std::str::from_utf8(text).ok()?.parse().ok()?),
        Values::Bool(values) => values.append(boolean(text)?),
        Values::I8(values) => values.push(integer(text)?),
        Values::I16(values) => values.push(integer(text)?),
        Values::U8(values) => values.push(integer(text)?),
        Values::U16(values) => values.push(integer(text)?),
        Values::U32(values) => values.push(integer(text)?),
        Values::U64(values) => values.push(integer(text)?),
        Values::Decimal { values, precision, scale } => {
            let scaled = decimal::parse(text, i32::from(*scale))?;
            values.push(decimal::fits(scaled.value, *precision).then_some(scaled.value)?);
        }
        Values::Date(values) => values.push(time::parse_date(text).or_else(|| days(text))?),
        Values::Time32(values, unit) => values.push(i32::try_from(time_of_day(text, *unit, rules)?).ok()?),
        Values::Time64(values, unit) => values.push(time_of_day(text, *unit, rules)?),
        Values::Interval(values) => {
            let nanos = integer::<i64>(text)?.checked_mul(1_000)?;
            values.push(IntervalMonthDayNano::new(0, 0, nanos));
        }
        Values::Bytes(values) => {
            let bytes = match text.strip_prefix(b"\\x") {
                Some(digits) => hex(digits)?,
                None => base64(text)?,
            };
            return values.push(&bytes).then_some(());
        }
        Values::Null | Values::Struct(_) | Values::List { .. } | Values::Map { .. } => return None,
    }
    Some(())
}

/// An integer of any width; a number with a point or exponent counts if it is whole.
#[inline]
fn integer<T: TryFrom<i64> + TryFrom<i128>>(text: &[u8]) -> Option<T> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if (1..=18).contains(&digits.len()) {
        let mut value = 0_i64;
        let mut plain = true;
        for byte in digits {
            let digit = byte.wrapping_sub(b'0');
            plain &= digit < 10;
            value = value.wrapping_mul(10).wrapping_add(i64::from(digit));
        }
        if plain {
            return T::try_from(if negative { -value } else { value }).ok();
        }
    }
    let scaled = decimal::parse(text, 0)?;
    if scaled.exact { T::try_from(scaled.value).ok() } else { None }
}

#[inline]
fn timestamp(text: &[u8], unit: TimeUnit, rules: &Rules) -> Option<i64> {
    time::parse_timestamp(text, unit).or_else(|| from_epoch(text, rules.epoch, unit))
}

/// Days since the Unix epoch, within the years 1 to 9999: `20240101` is a mistake, not a day in the year 57,000.
fn days(text: &[u8]) -> Option<i32> {
    integer(text).filter(|days| (-719_162..=2_932_896).contains(days))
}

fn time_of_day(text: &[u8], unit: TimeUnit, rules: &Rules) -> Option<i64> {
    let units = time::parse_time(text, unit).or_else(|| from_epoch(text, rules.epoch, unit))?;
    (0..time::units_per_second(unit) * 86_400).contains(&units).then_some(units)
}

/// A number of `from` units as `to` units; the digits behind its point count.
fn from_epoch(text: &[u8], from: TimeUnit, to: TimeUnit) -> Option<i64> {
    let (from, to) = (time::units_per_second(from), time::units_per_second(to));
    if to >= from {
        let scaled = decimal::parse(text, (to / from).ilog10() as i32)?;
        i64::try_from(scaled.value).ok()
    } else {
        integer::<i64>(text).map(|value| value.div_euclid(from / to))
    }
}

fn boolean(text: &[u8]) -> Option<bool> {
    let is = |words: [&str; 3]| words.iter().any(|word| text.eq_ignore_ascii_case(word.as_bytes()));
    if is(["true", "t", "1"]) {
        Some(true)
    } else if is(["false", "f", "0"]) {
        Some(false)
    } else {
        None
    }
}

/// Bytes from hexadecimal digits.
pub(crate) fn hex(digits: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    digits.chunks_exact(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

/// Bytes from base64, standard alphabet, with or without padding.
fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let text = text.strip_suffix(b"==").or(text.strip_suffix(b"=")).unwrap_or(text);
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 2);
    for group in text.chunks(4) {
        let mut bits = 0_u32;
        for byte in group {
            let sextet = match byte {
                b'A'..=b'Z' => byte - b'A',
                b'a'..=b'z' => byte - b'a' + 26,
                b'0'..=b'9' => byte - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => return None,
            };
            bits = bits << 6 | u32::from(sextet);
        }
        bits <<= 6 * (4 - group.len());
        let three = [(bits >> 16) as u8, (bits >> 8) as u8, bits as u8];
        bytes.extend_from_slice(match group.len() {
            4 => &three,
            3 => &three[..2],
            2 => &three[..1],
            _ => return None,
        });
    }
    Some(bytes)
}

/// Says why `text` was refused.
#[cold]
pub(crate) fn refused(column: &Column, text: &[u8]) -> String {
    let expected = sql_type(column.field.data_type());
    match &column.values {
        Values::Text(_) => "the batch's strings are longer than 2 GiB".to_string(),
        Values::Decimal { .. } if decimal::parse(text, 0).is_some() => format!("{} does not fit {expected}", excerpt(text)),
        Values::I8(_)
        | Values::I16(_)
        | Values::I32(_)
        | Values::I64(_)
        | Values::U8(_)
        | Values::U16(_)
        | Values::U32(_)
        | Values::U64(_) => match decimal::parse(text, 0) {
            Some(scaled) if !scaled.exact => format!("expected {expected}, found {}, which is not whole", excerpt(text)),
            Some(_) => format!("{} does not fit {expected}", excerpt(text)),
            None => format!("expected {expected}, found '{}'", excerpt(text)),
        },
        Values::Timestamp(..) => {
            format!("expected {expected} such as '2024-05-01 12:00:00.000' or an epoch number, found '{}'", excerpt(text))
        }
        _ => format!("expected {expected}, found '{}'", excerpt(text)),
    }
}

/// The beginning of a text, for people.
pub(crate) fn excerpt(text: &[u8]) -> String {
    const CHARS_MAX: usize = 60;
    let text = String::from_utf8_lossy(&text[..text.len().min(4 * CHARS_MAX)]);
    if text.chars().count() <= CHARS_MAX {
        return text.into_owned();
    }
    text.chars().take(CHARS_MAX).chain("...".chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_of_every_spelling() {
        assert_eq!(integer::<i64>(b"-9223372036854775808"), Some(i64::MIN));
        assert_eq!(integer::<i64>(b"9223372036854775808"), None);
        assert_eq!(integer::<u64>(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(integer::<i8>(b"128"), None);
        assert_eq!(integer::<i32>(b"1e3"), Some(1_000));
        assert_eq!(integer::<i32>(b"3.0"), Some(3));
        assert_eq!(integer::<i32>(b"3.5"), None);
        assert_eq!(integer::<i32>(b""), None);
        assert_eq!(integer::<i32>(b"-"), None);
        assert_eq!(integer::<i32>(b"12a"), None);
    }

    #[test]
    fn epochs_in_any_unit() {
        use TimeUnit::{Microsecond, Millisecond, Second};
        assert_eq!(from_epoch(b"1436918400123", Millisecond, Microsecond), Some(1_436_918_400_123_000));
        assert_eq!(from_epoch(b"1436918400.5", Second, Millisecond), Some(1_436_918_400_500));
        assert_eq!(from_epoch(b"-1", Microsecond, Second), Some(-1));
        assert_eq!(from_epoch(b"9223372036854775807", Second, Millisecond), None);
    }

    #[test]
    fn bytes_from_base64_and_hex() {
        assert_eq!(base64(b"aGk="), Some(b"hi".to_vec()));
        assert_eq!(base64(b"aGlnaA"), Some(b"high".to_vec()));
        assert_eq!(base64(b""), Some(Vec::new()));
        assert_eq!(base64(b"a"), None);
        assert_eq!(base64(b"a?=="), None);
        assert_eq!(hex(b"00fF"), Some(vec![0, 255]));
        assert_eq!(hex(b"0"), None);
    }
}
