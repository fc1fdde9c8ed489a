//! Intervals from text: `1 year 2 mons 3 days 04:05:06.7`, `-01:02`, `P1Y2M3DT4H5M6S`, `2 hours ago`.

use arrow::datatypes::IntervalMonthDayNano;

const SECOND: f64 = 1e9;

/// Months, days and nanoseconds apart; `None` for what is no interval.
pub(crate) fn parse_interval(text: &str) -> Option<IntervalMonthDayNano> {
    let text = text.trim();
    let mut sum = Sum::default();
    if let Some(iso) = text.strip_prefix(['P', 'p']) {
        sum.iso(iso)?;
        return sum.finish(1.0);
    }
    let mut words = text.split_whitespace().peekable();
    words.peek()?;
    let mut sign = 1.0;
    while let Some(word) = words.next() {
        if word.eq_ignore_ascii_case("ago") && words.peek().is_none() {
            sign = -1.0;
        } else if word.contains(':') {
            sum.nanos += clock(word)?;
        } else {
            let digits = word.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(word.len());
            let count: f64 = word[..digits].parse().ok()?;
            let unit = if digits < word.len() { &word[digits..] } else { words.next()? };
            sum.add(count, unit)?;
        }
    }
    sum.finish(sign)
}

#[derive(Default)]
struct Sum {
    months: f64,
    days: f64,
    nanos: f64,
}

impl Sum {
    fn add(&mut self, count: f64, unit: &str) -> Option<()> {
        let unit = unit.trim_end_matches(',').to_ascii_lowercase();
        match unit.strip_suffix('s').filter(|unit| unit.len() > 1).unwrap_or(&unit) {
            "millennium" | "millennia" => self.months += count * 12_000.0,
            "century" | "centurie" => self.months += count * 1_200.0,
            "decade" => self.months += count * 120.0,
            "year" | "yr" | "y" => self.months += count * 12.0,
            "quarter" => self.months += count * 3.0,
            "month" | "mon" => self.months += count,
            "week" | "w" => self.days += count * 7.0,
            "day" | "d" => self.days += count,
            "hour" | "hr" | "h" => self.nanos += count * 3_600.0 * SECOND,
            "minute" | "min" | "m" => self.nanos += count * 60.0 * SECOND,
            "second" | "sec" | "s" => self.nanos += count * SECOND,
            "millisecond" | "msec" | "m\u{73}" => self.nanos += count * 1e6,
            "microsecond" | "usec" | "us" | "u" => self.nanos += count * 1e3,
            "nanosecond" | "nsec" | "ns" | "n" => self.nanos += count,
            _ => return None,
        }
        Some(())
    }

    /// `1Y2M3DT4H5M6S` behind the P.
    fn iso(&mut self, text: &str) -> Option<()> {
        let (date, time) = text.split_once(['T', 't']).unwrap_or((text, ""));
        for (part, clock) in [(date, false), (time, true)] {
            let mut rest = part;
            while !rest.is_empty() {
                let unit = rest.find(|c: char| c.is_ascii_alphabetic())?;
                let count: f64 = rest[..unit].parse().ok()?;
                let name = match (rest[unit..].chars().next()?.to_ascii_uppercase(), clock) {
                    ('Y', false) => "year",
                    ('M', false) => "month",
                    ('W', false) => "week",
                    ('D', false) => "day",
                    ('H', true) => "hour",
                    ('M', true) => "minute",
                    ('S', true) => "second",
                    _ => return None,
                };
                self.add(count, name)?;
                rest = &rest[unit + 1..];
            }
        }
        (!text.is_empty()).then_some(())
    }

    /// Parts of months become days, parts of days time, as PostgreSQL has it.
    fn finish(self, sign: f64) -> Option<IntervalMonthDayNano> {
        let (months, days, nanos) = (self.months * sign, self.days * sign, self.nanos * sign);
        let days = days + (months - months.trunc()) * 30.0;
        let nanos = nanos + (days - days.trunc()) * 86_400.0 * SECOND;
        let whole = |value: f64| (value.abs() <= f64::from(i32::MAX)).then_some(value as i32);
        if nanos.abs() >= i64::MAX as f64 {
            return None;
        }
        // Microseconds are what PostgreSQL keeps; nanoseconds only where they were exact.
        Some(IntervalMonthDayNano::new(whole(months.trunc())?, whole(days.trunc())?, nanos.round() as i64))
    }
}

/// `[-]04:05[:06.7]` in nanoseconds.
fn clock(text: &str) -> Option<f64> {
    let (sign, text) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    let mut parts = text.split(':');
    let hours: u32 = parts.next()?.parse().ok()?;
    let minutes: u32 = parts.next()?.parse().ok()?;
    let seconds: f64 = parts.next().map_or(Some(0.0), |seconds| seconds.parse().ok())?;
    if parts.next().is_some() || minutes > 59 || !(0.0..60.0).contains(&seconds) {
        return None;
    }
    Some(sign * (f64::from(hours) * 3_600.0 + f64::from(minutes) * 60.0 + seconds) * SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_spellings() {
        let hour = 3_600_000_000_000;
        for (text, months, days, nanos) in [
            ("1 year 2 mons 3 days 04:00:00", 14, 3, 4 * hour),
            ("-01:30", 0, 0, -hour - hour / 2),
            ("2 hours ago", 0, 0, -2 * hour),
            ("P1Y2M3DT4H", 14, 3, 4 * hour),
            ("PT0.5H", 0, 0, hour / 2),
            ("1.5 days", 0, 1, 12 * hour),
            ("1 week 1 ms", 0, 7, 1_000_000),
            ("3d 2h", 0, 3, 2 * hour),
        ] {
            assert_eq!(parse_interval(text), Some(IntervalMonthDayNano::new(months, days, nanos)), "{text}");
        }
        for text in ["", "hello", "1", "1 fortnight", "01:60", "P", "1 day ago 2 days"] {
            assert_eq!(parse_interval(text), None, "{text}");
        }
    }
}
