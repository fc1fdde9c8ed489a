//! Rows compared as the corpus says: as multisets, columns by name without case, integers exactly, other numbers to a
//! millionth, times by instant.

use std::collections::BTreeMap;

use serde_json::Value;

/// A value in which equal values are equal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Cell {
    Null,
    Bool(bool),
    Integer(i128),
    /// Text of a number that is not an integer, with about as many digits as are compared.
    Real(String),
    Text(String),
    List(Vec<Cell>),
    Object(BTreeMap<String, Cell>),
}

type Row = BTreeMap<String, Cell>;

/// How rows differ, or nothing. Both are JSON objects, one a line.
pub(crate) fn difference(expected: &str, got: &str) -> String {
    let mut counts: BTreeMap<Row, i64> = BTreeMap::new();
    // Our windows have a third column, which `*` shows; the corpus's have two.
    let window_time = expected.contains("\"window_time\"");
    for (text, sign) in [(expected, -1), (got, 1)] {
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let mut row = row(line);
            row.retain(|name, _| window_time || name != "window_time");
            *counts.entry(row).or_default() += sign;
        }
    }
    let some = |sign: i64| {
        let of = counts.iter().filter(move |(_, count)| count.signum() == sign);
        of.flat_map(|(row, count)| std::iter::repeat_n(row, count.unsigned_abs() as usize)).collect::<Vec<&Row>>()
    };
    let (mut missing, mut extra) = (some(-1), some(1));
    // What is equal only nearly is paired off.
    extra.retain(|row| match missing.iter().position(|twin| close_rows(row, twin)) {
        Some(twin) => {
            missing.swap_remove(twin);
            false
        }
        None => true,
    });
    if missing.is_empty() && extra.is_empty() {
        return String::new();
    }
    let mut text = format!("{} rows are missing and {} too many", missing.len(), extra.len());
    for (sign, rows) in [("-", missing), ("+", extra)] {
        for row in rows.iter().take(5) {
            text.push_str(&format!("\n  {sign} {}", shown(row)));
        }
    }
    text
}

fn row(line: &str) -> Row {
    let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"));
    match cell(&value) {
        Cell::Object(row) => row,
        _ => panic!("not a row: {line}"),
    }
}

fn cell(value: &Value) -> Cell {
    match value {
        Value::Null => Cell::Null,
        Value::Bool(value) => Cell::Bool(*value),
        Value::Number(number) => {
            let real = number.as_f64().unwrap_or(f64::NAN);
            match number.as_i128() {
                Some(integer) => Cell::Integer(integer),
                None if real.fract() == 0.0 && real.abs() < 1e30 => Cell::Integer(real as i128),
                None => Cell::Real(format!("{real:e}")),
            }
        }
        Value::String(text) => Cell::Text(time(text)),
        Value::Array(values) => Cell::List(values.iter().map(cell).collect()),
        Value::Object(fields) => Cell::Object(fields.iter().map(|(name, value)| (name.to_lowercase(), cell(value))).collect()),
    }
}

/// A time of day or an instant without the zeros behind its seconds, and an instant without its zone, which is UTC.
fn time(text: &str) -> String {
    let bytes = text.as_bytes();
    let is = |at: usize, wanted: u8| bytes.get(at) == Some(&wanted);
    let dated = bytes.len() >= 19 && is(4, b'-') && is(7, b'-') && (is(10, b'T') || is(10, b' ')) && is(13, b':') && is(16, b':');
    let day = bytes.len() >= 8 && is(2, b':') && is(5, b':');
    if !text.is_ascii() || !(dated || day) {
        return text.to_string();
    }
    let (seconds, rest) = text.split_at(if dated { 19 } else { 8 });
    let zone = rest.find(['Z', '+', '-']).unwrap_or(rest.len());
    let (fraction, zone) = rest.split_at(zone);
    let known = fraction.trim_start_matches('.').bytes().all(|byte| byte.is_ascii_digit())
        && matches!(zone, "" | "Z" | "+00" | "+0000" | "+00:00" | "-00:00");
    if !known {
        return text.to_string();
    }
    format!("{}{}", seconds.replace(' ', "T"), fraction.trim_end_matches('0').trim_end_matches('.'))
}

fn close_rows(left: &Row, right: &Row) -> bool {
    left.len() == right.len() && left.iter().zip(right).all(|((name, left), (twin, right))| name == twin && close(left, right))
}

fn close(left: &Cell, right: &Cell) -> bool {
    match (left, right) {
        (Cell::List(left), Cell::List(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| close(left, right))
        }
        (Cell::Object(left), Cell::Object(right)) => close_rows(left, right),
        (Cell::Integer(left), Cell::Integer(right)) => left == right,
        _ => match (real(left), real(right)) {
            (Some(left), Some(right)) => (left - right).abs() <= 1e-6 * left.abs().max(right.abs()),
            _ => left == right,
        },
    }
}

fn real(cell: &Cell) -> Option<f64> {
    match cell {
        Cell::Integer(value) => Some(*value as f64),
        Cell::Real(text) => text.parse().ok(),
        _ => None,
    }
}

fn shown(row: &Row) -> String {
    let fields: Vec<String> = row.iter().map(|(name, cell)| format!("{name}={}", shown_cell(cell))).collect();
    let text = fields.join(", ");
    if text.len() > 400 { format!("{}...", text.chars().take(400).collect::<String>()) } else { text }
}

fn shown_cell(cell: &Cell) -> String {
    match cell {
        Cell::Null => "NULL".into(),
        Cell::Bool(value) => value.to_string(),
        Cell::Integer(value) => value.to_string(),
        Cell::Real(text) => text.clone(),
        Cell::Text(text) => format!("'{text}'"),
        Cell::List(cells) => format!("[{}]", cells.iter().map(shown_cell).collect::<Vec<_>>().join(", ")),
        Cell::Object(fields) => format!("{{{}}}", shown(fields)),
    }
}

#[test]
fn rows_are_compared_by_value() {
    let same = |left: &str, right: &str| assert_eq!(difference(left, right), "");
    same("{\"A\":1.0,\"t\":\"2024-01-01T00:00:00\"}", "{\"t\":\"2024-01-01 00:00:00.000Z\",\"a\":1}");
    same("{\"a\":0.3}\n{\"a\":1}", "{\"a\":1}\n{\"a\":0.30000000000000004}");
    same("{\"a\":1e3}\n{\"a\":null}", "{\"a\":null}\n{\"a\":1000}");
    same("{\"a\":\"01:00:00\"}", "{\"a\":\"01:00:00.000000\"}");
    let differ = |left: &str, right: &str| assert_ne!(difference(left, right), "");
    differ("{\"a\":1}", "{\"a\":1}\n{\"a\":1}");
    differ("{\"a\":1000000000}", "{\"a\":1000000001}");
    differ("{\"a\":\"1\"}", "{\"a\":1}");
    differ("{\"a\":1}", "{\"b\":1}");
    differ("{\"a\":1.5}", "{\"a\":1.50001}");
    differ("{\"a\":null}", "{}");
}
