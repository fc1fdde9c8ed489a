//! Rows as text in one canonical form, so that results can be compared with files and hashes, whatever their order.
//!
//! Everything is compared by value: `2013-01-01 05:00:00` is `2013-01-01T05:00:00.000`, `12.50` is `12.5`, and floating
//! point numbers are equal when their first eleven digits are, because a sum depends on the order of its rows.

use std::collections::BTreeMap;
use std::time::Duration;

use highwater::RunningJob;
use highwater_connectors::format::encode;
use serde_json::Value;

use crate::md5::md5;

/// A row by its columns' names.
pub(crate) type Row = BTreeMap<String, Value>;

/// The rows of a view of a job at its latest closed epoch.
pub(crate) fn of_view(job: &RunningJob, view: &str) -> Vec<Row> {
    let read = job.read_view(view, None, Duration::from_secs(60), &[], None).expect("the job has the view");
    let mut text = Vec::new();
    for batch in &read.batches {
        encode::ndjson(batch, &mut text).expect("a view's rows can be written as JSON");
    }
    of_ndjson(std::str::from_utf8(&text).expect("JSON is UTF-8"))
}

/// The rows of a file with a JSON object on each line.
pub(crate) fn of_ndjson(text: &str) -> Vec<Row> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"))).collect()
}

/// How `got` differs from `expected` as a multiset; empty if it does not.
pub(crate) fn difference(expected: &[Row], got: &[Row]) -> String {
    let mut counts: BTreeMap<String, i64> = BTreeMap::new();
    for (rows, sign) in [(expected, -1), (got, 1)] {
        for row in rows {
            *counts.entry(text(row)).or_default() += sign;
        }
    }
    counts.retain(|_, count| *count != 0);
    if counts.is_empty() {
        return String::new();
    }
    const SHOWN: usize = 20;
    let mut out = format!("{} rows are expected, there are {}\n", expected.len(), got.len());
    for (row, count) in counts.iter().take(SHOWN) {
        out.push_str(&format!("  {count:+} {row}\n"));
    }
    if counts.len() > SHOWN {
        out.push_str(&format!("  and {} more (- is missing, + is too many)\n", counts.len() - SHOWN));
    }
    out
}

/// An order-free hash of some columns of rows: the sum of the first eight bytes of each row's MD5. A row's text is its
/// values with U+001F between them; column names are compared without case.
pub(crate) fn hash(rows: &[Row], columns: &[String]) -> String {
    let mut sum = 0_u64;
    for row in rows {
        let values: Vec<String> = columns
            .iter()
            .map(|wanted| {
                let found = row.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
                let (_, value) = found.unwrap_or_else(|| panic!("no column '{wanted}' among {:?}", row.keys()));
                match value {
                    Value::Null => "\\N".into(),
                    Value::Number(number) => exact(number),
                    Value::String(text) => timestamp(text).unwrap_or_else(|| text.clone()),
                    other => other.to_string(),
                }
            })
            .collect();
        let digest = md5(values.join("\u{1f}").as_bytes());
        sum = sum.wrapping_add(u64::from_be_bytes(digest[..8].try_into().expect("eight of sixteen bytes")));
    }
    format!("{sum:016x}")
}

fn text(row: &Row) -> String {
    let fields: Vec<String> = row.iter().map(|(name, value)| format!("{name}={}", canonical(value))).collect();
    fields.join(", ")
}

fn canonical(value: &Value) -> String {
    match value {
        Value::Number(number) => match number.as_f64() {
            Some(real) if number.is_f64() && real.fract() != 0.0 => format!("{real:.10e}"),
            _ => exact(number),
        },
        Value::String(text) => timestamp(text).unwrap_or_else(|| format!("'{text}'")),
        other => other.to_string(),
    }
}

/// A number without an exponent and without zeros behind the point.
fn exact(number: &serde_json::Number) -> String {
    match number.as_f64() {
        Some(real) if number.is_f64() => format!("{real}"),
        _ => number.to_string(),
    }
}

/// `YYYY-MM-DDTHH:MM:SS.mmm`, if the text is a time.
fn timestamp(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let shape = b"0000-00-00T00:00:00";
    let fits = |(byte, shape): (&u8, &u8)| match shape {
        b'0' => byte.is_ascii_digit(),
        b'T' => matches!(byte, b'T' | b' '),
        other => byte == other,
    };
    if bytes.len() < shape.len() || !bytes.iter().zip(shape).all(fits) {
        return None;
    }
    let (seconds, rest) = text.split_at(shape.len());
    let fraction = rest.strip_suffix('Z').unwrap_or(rest);
    let digits = fraction.strip_prefix('.').unwrap_or(fraction);
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(format!("{}.{:0<3.3}", seconds.replace(' ', "T"), digits))
}

#[test]
fn values_are_compared_not_their_spelling() {
    let rows = of_ndjson("{\"at\":\"2013-01-01 05:00:00\",\"n\":12.50}\n{\"at\":null,\"n\":908.0}");
    let same = of_ndjson("{\"n\":908,\"at\":null}\n{\"n\":12.5,\"at\":\"2013-01-01T05:00:00.000000\"}");
    assert_eq!(difference(&rows, &same), "");
    let other = of_ndjson("{\"n\":908,\"at\":null}");
    assert_eq!(
        difference(&rows, &other),
        "2 rows are expected, there are 1\n  -1 at=2013-01-01T05:00:00.000, n=1.2500000000e1\n"
    );
}
