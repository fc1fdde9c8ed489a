//! Dates and times as text: hand-written both ways, because a timestamp is the most frequent text that is not a string.
//!
//! The calendar is the proleptic Gregorian one; the conversions between days and civil dates follow Howard Hinnant's
//! "chrono-compatible low-level date algorithms". A leap second (`:60`) is refused, as Arrow cannot hold one.

use arrow::datatypes::TimeUnit;

/// Units of `unit` in a second.
pub(crate) fn units_per_second(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    }
}

/// Digits after the point that `unit` has.
fn fraction_digits(unit: TimeUnit) -> usize {
    match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 3,
        TimeUnit::Microsecond => 6,
        TimeUnit::Nanosecond => 9,
    }
}

/// Days since 1970-01-01 of a civil date; `None` if there is no such day.
pub(crate) fn days_from_civil(year: i64, month: u32, day: u32) -> Option<i64> {
    if !(1..=12).contains(&month) || day == 0 || day > days_in_month(year, month) {
        return None;
    }
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let shifted_month = i64::from((month + 9) % 12);
    let day_of_year = (153 * shifted_month + 2) / 5 + i64::from(day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some(era * 146_097 + day_of_era - 719_468)
}

fn days_in_month(year: i64, month: u32) -> u32 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// The civil date of a number of days since 1970-01-01.
pub(crate) fn civil_from_days(days: i64) -> (i64, u32, u32) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * shifted_month + 2) / 5 + 1) as u32;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 } as u32;
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// Reads `YYYY-MM-DD`, `YYYY-MM-DD[T ]HH:MM[:SS[.fraction]]`, each with or without `Z` or `+hh[[:]mm]`, as units since
/// the Unix epoch. A zone moves the time to UTC; digits finer than the unit are cut off.
pub(crate) fn parse_timestamp(text: &[u8], unit: TimeUnit) -> Option<i64> {
    let (days, rest) = date(text)?;
    let per_second = units_per_second(unit);
    let seconds = days.checked_mul(86_400)?;
    let (separator, rest) = match rest.split_first() {
        None => return seconds.checked_mul(per_second),
        Some((separator, rest)) => (separator, rest),
    };
    if !matches!(separator, b'T' | b't' | b' ') {
        return None;
    }
    let (second_of_day, nanos, rest) = clock(rest)?;
    let seconds = seconds + second_of_day - zone(rest)?;
    let fraction = nanos / (1_000_000_000 / per_second);
    seconds.checked_mul(per_second)?.checked_add(fraction)
}

/// Reads `YYYY-MM-DD` as days since the Unix epoch; a time of day behind it is ignored if it is well formed.
pub(crate) fn parse_date(text: &[u8]) -> Option<i32> {
    let (days, rest) = date(text)?;
    if !rest.is_empty() {
        parse_timestamp(text, TimeUnit::Second)?;
    }
    i32::try_from(days).ok()
}

/// Reads `HH:MM[:SS[.fraction]]` as units since midnight.
pub(crate) fn parse_time(text: &[u8], unit: TimeUnit) -> Option<i64> {
    let (second_of_day, nanos, rest) = clock(text)?;
    let per_second = units_per_second(unit);
    rest.is_empty().then_some(second_of_day * per_second + nanos / (1_000_000_000 / per_second))
}

/// Days and what follows the date. Years have four to six digits and may have a sign.
fn date(text: &[u8]) -> Option<(i64, &[u8])> {
    if let [y0, y1, y2, y3, b'-', m0, m1, b'-', d0, d1, rest @ ..] = text {
        let year = i64::from(two(*y0, *y1)?) * 100 + i64::from(two(*y2, *y3)?);
        return Some((days_from_civil(year, two(*m0, *m1)?, two(*d0, *d1)?)?, rest));
    }
    let (sign, unsigned) = match text.first()? {
        b'-' => (-1, &text[1..]),
        b'+' => (1, &text[1..]),
        _ => (1, text),
    };
    let digits = unsigned.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if !(4..=6).contains(&digits) {
        return None;
    }
    let year = unsigned[..digits].iter().fold(0, |year, digit| year * 10 + i64::from(digit - b'0'));
    match &unsigned[digits..] {
        [b'-', m0, m1, b'-', d0, d1, rest @ ..] => Some((days_from_civil(sign * year, two(*m0, *m1)?, two(*d0, *d1)?)?, rest)),
        _ => None,
    }
}

/// Second of the day, nanoseconds, and what follows.
fn clock(text: &[u8]) -> Option<(i64, i64, &[u8])> {
    let [h0, h1, b':', m0, m1, rest @ ..] = text else { return None };
    let (hour, minute) = (two(*h0, *h1)?, two(*m0, *m1)?);
    let (second, rest) = match rest {
        [b':', s0, s1, rest @ ..] => (two(*s0, *s1)?, rest),
        _ => (0, rest),
    };
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let second_of_day = i64::from(hour * 3_600 + minute * 60 + second);
    match rest {
        [b'.' | b',', fraction @ ..] => {
            let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
            if digits == 0 {
                return None;
            }
            const PLACES: [i64; 10] = [1_000_000_000, 100_000_000, 10_000_000, 1_000_000, 100_000, 10_000, 1_000, 100, 10, 1];
            let kept = digits.min(9);
            let value = fraction[..kept].iter().fold(0, |value, digit| value * 10 + i64::from(digit - b'0'));
            let nanos = value * PLACES[kept];
            Some((second_of_day, nanos, &fraction[digits..]))
        }
        _ => Some((second_of_day, 0, rest)),
    }
}

/// Seconds east of UTC: nothing, `Z`, `+hh`, `+hhmm`, `+hh:mm`.
fn zone(text: &[u8]) -> Option<i64> {
    let (sign, hour, minute) = match text {
        [] | [b'Z' | b'z'] => return Some(0),
        [sign, h0, h1] => (sign, two(*h0, *h1)?, 0),
        [sign, h0, h1, b':', m0, m1] | [sign, h0, h1, m0, m1] => (sign, two(*h0, *h1)?, two(*m0, *m1)?),
        _ => return None,
    };
    let seconds = i64::from(hour * 3_600 + minute * 60);
    match sign {
        _ if hour > 18 || minute > 59 => None,
        b'+' => Some(seconds),
        b'-' => Some(-seconds),
        _ => None,
    }
}

fn two(tens: u8, ones: u8) -> Option<u32> {
    let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
    (tens < 10 && ones < 10).then_some(u32::from(tens) * 10 + u32::from(ones))
}

/// Writes `YYYY-MM-DD`.
pub(crate) fn write_date(days: i64, out: &mut Vec<u8>) {
    let (year, month, day) = civil_from_days(days);
    if (0..=9_999).contains(&year) {
        push_digits(year as u64, 4, out);
    } else {
        out.push(if year < 0 { b'-' } else { b'+' });
        push_digits(year.unsigned_abs(), if year.unsigned_abs() > 99_999 { 6 } else { 5 }, out);
    }
    out.push(b'-');
    push_digits(u64::from(month), 2, out);
    out.push(b'-');
    push_digits(u64::from(day), 2, out);
}

/// Writes `HH:MM:SS` and the unit's digits after the point.
pub(crate) fn write_time(units: i64, unit: TimeUnit, out: &mut Vec<u8>) {
    let per_second = units_per_second(unit);
    let seconds = units.div_euclid(per_second);
    push_digits((seconds / 3_600) as u64, 2, out);
    out.push(b':');
    push_digits((seconds / 60 % 60) as u64, 2, out);
    out.push(b':');
    push_digits((seconds % 60) as u64, 2, out);
    let digits = fraction_digits(unit);
    if digits > 0 {
        out.push(b'.');
        push_digits(units.rem_euclid(per_second) as u64, digits, out);
    }
}

/// Writes `YYYY-MM-DDTHH:MM:SS` and the unit's digits after the point; no zone.
pub(crate) fn write_timestamp(units: i64, unit: TimeUnit, out: &mut Vec<u8>) {
    let per_day = units_per_second(unit) * 86_400;
    write_date(units.div_euclid(per_day), out);
    out.push(b'T');
    write_time(units.rem_euclid(per_day), unit, out);
}

fn push_digits(mut number: u64, width: usize, out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + width, b'0');
    for place in (start..start + width).rev() {
        out[place] = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use TimeUnit::{Microsecond, Millisecond, Nanosecond, Second};

    #[test]
    fn timestamps_in_all_spellings() {
        let check = |text: &str, unit, expected| assert_eq!(parse_timestamp(text.as_bytes(), unit), expected, "{text}");
        check("2015-07-15 00:00:00.123", Millisecond, Some(1_436_918_400_123));
        check("2015-07-15T00:00:00.123456Z", Microsecond, Some(1_436_918_400_123_456));
        check("2015-07-15T02:00:00+02:00", Second, Some(1_436_918_400));
        check("2015-07-15T02:00:00+0200", Second, Some(1_436_918_400));
        check("2015-07-14T19:00-05", Second, Some(1_436_918_400));
        check("2015-07-15", Nanosecond, Some(1_436_918_400_000_000_000));
        check("1969-12-31T23:59:59.999", Millisecond, Some(-1));
        check("0001-01-01", Second, Some(-62_135_596_800));
        check("+12345-01-01", Second, days_from_civil(12_345, 1, 1).map(|days| days * 86_400));
        for bad in [
            "",
            "2015",
            "2015-02-29",
            "2015-07-15X",
            "2015-07-15T24:00:00",
            "2015-07-15T10:00:60",
            "2015-07-15T10:0",
            "2015-07-15T10:00:00.",
            "2015-07-15T10:00:00 +",
            "2015-07-15T10:00:00+25:00",
            "15-07-2015",
            "2015-7-15",
        ] {
            check(bad, Millisecond, None);
        }
        check("2262-04-12", Nanosecond, None);
    }

    #[test]
    fn every_day_of_eight_centuries_round_trips() {
        for days in -250_000..250_000 {
            let (year, month, day) = civil_from_days(days);
            assert_eq!(days_from_civil(year, month, day), Some(days));
        }
    }

    #[test]
    fn written_times_read_back() {
        for units in [0, 1, -1, 1_436_918_400_123, -62_135_596_800_000, 253_402_300_800_000] {
            let mut text = Vec::new();
            write_timestamp(units, Millisecond, &mut text);
            assert_eq!(parse_timestamp(&text, Millisecond), Some(units), "{}", String::from_utf8_lossy(&text));
        }
        let mut text = Vec::new();
        write_time(3_723_000_001, Microsecond, &mut text);
        assert_eq!(text, b"01:02:03.000001");
    }
}
