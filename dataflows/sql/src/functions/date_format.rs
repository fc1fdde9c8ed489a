//! `DATE_FORMAT(time, pattern)` with Java's pattern letters.
//!
//! DataFusion has an alias of this name for `to_char`, whose patterns are `%Y`: a Flink query would run and be wrong.
//! Times of the same second (or minute, or millisecond: whatever the pattern shows) are formatted once.

use std::fmt::Write;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringBuilder};
use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};
use chrono::DateTime;
use chrono::format::{Item, StrftimeItems};
use datafusion_common::{Result, exec_datafusion_err};
use datafusion_expr::{ColumnarValue, ScalarUDF};

use super::{Function, Kind, text};

/// The function.
pub(super) fn function() -> Arc<ScalarUDF> {
    Function::new("date_format", &[Kind::Time, Kind::Text], DataType::Utf8, date_format).build()
}

fn date_format(args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    let times = arrow::compute::cast(&args[0].to_array(rows)?, &DataType::Timestamp(TimeUnit::Microsecond, None))?;
    let times = times.as_primitive::<TimestampMicrosecondType>();
    let patterns = text(args, 1, rows)?;
    let mut out = StringBuilder::with_capacity(rows, rows * 10);
    let mut format: Option<Format> = None;
    for row in 0..rows {
        if times.is_null(row) || patterns.is_null(row) {
            out.append_null();
            continue;
        }
        let pattern = patterns.value(row);
        if format.as_ref().is_none_or(|format| format.pattern != pattern) {
            format = Some(Format::new(pattern)?);
        }
        let format = format.as_mut().expect("made above");
        out.append_value(format.apply(times.value(row))?);
    }
    Ok(Arc::new(out.finish()))
}

/// A compiled pattern and the last text it made.
struct Format {
    pattern: String,
    items: Vec<Item<'static>>,
    /// Times in the same multiple of this many microseconds look the same.
    grain: i64,
    last: Option<i64>,
    text: String,
}

impl Format {
    fn new(pattern: &str) -> Result<Self> {
        let translated =
            strftime(pattern).ok_or_else(|| exec_datafusion_err!("unsupported pattern '{pattern}' for DATE_FORMAT"))?;
        let grain = if translated.contains('f') {
            1
        } else if translated.contains("%S") || translated.contains("%-S") {
            1_000_000
        } else {
            60_000_000
        };
        let items = StrftimeItems::new(&translated).parse_to_owned();
        let items = items.map_err(|_| exec_datafusion_err!("unsupported pattern '{pattern}' for DATE_FORMAT"))?;
        Ok(Format { pattern: pattern.to_string(), items, grain, last: None, text: String::new() })
    }

    fn apply(&mut self, micros: i64) -> Result<&str> {
        let grain = micros.div_euclid(self.grain);
        if self.last != Some(grain) {
            let time = DateTime::from_timestamp_micros(micros).ok_or_else(|| exec_datafusion_err!("timestamp out of range"))?;
            self.text.clear();
            write!(self.text, "{}", time.naive_utc().format_with_items(self.items.iter()))
                .map_err(|_| exec_datafusion_err!("cannot format a timestamp as '{}'", self.pattern))?;
            self.last = Some(grain);
        }
        Ok(&self.text)
    }
}

/// Java's `SimpleDateFormat` letters as strftime's; `None` for letters without a counterpart.
fn strftime(pattern: &str) -> Option<String> {
    let mut out = String::new();
    let letters: Vec<char> = pattern.chars().collect();
    let mut index = 0;
    while index < letters.len() {
        let letter = letters[index];
        let count = letters[index..].iter().take_while(|other| **other == letter).count();
        if letter == '\'' {
            index = quoted(&letters, index, &mut out)?;
            continue;
        }
        let code = match (letter, count) {
            ('y' | 'u', 2) => "%y",
            ('y' | 'u', _) => "%Y",
            ('M' | 'L', 1) => "%-m",
            ('M' | 'L', 2) => "%m",
            ('M' | 'L', 3) => "%b",
            ('M' | 'L', 4) => "%B",
            ('d', 1) => "%-d",
            ('d', 2) => "%d",
            ('D', _) => "%j",
            ('H', 1) => "%-H",
            ('H', 2) => "%H",
            ('h', 1) => "%-I",
            ('h', 2) => "%I",
            ('m', 1) => "%-M",
            ('m', 2) => "%M",
            ('s', 1) => "%-S",
            ('s', 2) => "%S",
            ('S', 3) => "%3f",
            ('S', 6) => "%6f",
            ('a', _) => "%p",
            ('E', 1..=3) => "%a",
            ('E', _) => "%A",
            (letter, _) if letter.is_ascii_alphabetic() => return None,
            ('%', _) => &"%%".repeat(count),
            (letter, _) => &letter.to_string().repeat(count),
        };
        out.push_str(code);
        index += count;
    }
    Some(out)
}

/// Text between quotes; two quotes are one.
fn quoted(letters: &[char], start: usize, out: &mut String) -> Option<usize> {
    if letters.get(start + 1) == Some(&'\'') {
        out.push('\'');
        return Some(start + 2);
    }
    let length = letters[start + 1..].iter().position(|letter| *letter == '\'')?;
    for letter in &letters[start + 1..start + 1 + length] {
        if *letter == '%' {
            out.push('%');
        }
        out.push(*letter);
    }
    Some(start + length + 2)
}

#[cfg(test)]
mod tests {
    use arrow::array::TimestampMillisecondArray;

    use super::super::tests::{call, constant};
    use super::*;

    #[test]
    fn java_patterns() {
        let times = TimestampMillisecondArray::from(vec![Some(1_436_918_400_123), None, Some(-1)]);
        let times = ColumnarValue::Array(Arc::new(times));
        let found = call(date_format, &[times.clone(), constant("yyyy-MM-dd HH:mm:ss.SSS")], 3);
        assert_eq!(found, [Some("2015-07-15 00:00:00.123".into()), None, Some("1969-12-31 23:59:59.999".into())]);
        let found = call(date_format, &[times.clone(), constant("yyyy'T'M/d")], 3);
        assert_eq!(found[0].as_deref(), Some("2015T7/15"));
        assert!(date_format(&[times, constant("QQ")], 3).is_err());
    }
}
