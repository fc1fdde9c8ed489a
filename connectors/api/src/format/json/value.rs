//! One JSON value into one column, by the column's type.

use arrow::datatypes::IntervalMonthDayNano;

use super::cursor::{Cursor, Fault};
use super::keys::Spelling;
use crate::format::column::{Column, Fields, Values, sql_type};
use crate::format::text::{self, Rules};

/// Decodes the next value into `column`.
///
/// On an error the column, its children included, may hold parts of the value: the caller cuts it back.
#[inline]
pub(crate) fn decode(cursor: &mut Cursor<'_>, column: &mut Column, rules: &Rules) -> Result<(), Fault> {
    match cursor.peek() {
        Some(b'"') => string(cursor, column, rules),
        Some(b'-' | b'0'..=b'9') => number(cursor, column, rules),
        Some(b'n') => {
            let at = cursor.at();
            cursor.word("null")?;
            null(column, rules).map_err(|what| Fault::new(at, what))
        }
        Some(b'{') => object_value(cursor, column, rules),
        Some(b'[') => array(cursor, column, rules),
        Some(letter @ (b't' | b'f')) => boolean(cursor, column, letter == b't'),
        _ => Err(cursor.unexpected("a value")),
    }
}

/// Decodes an object whose opening brace is next into the columns of `fields`, as row number `row`.
///
/// Fields that no column has are skipped (or refused, if the rules say so), of those that come twice the last counts, and
/// columns that are missing have their default, or are null.
pub(crate) fn object(cursor: &mut Cursor<'_>, fields: &mut Fields, row: usize, rules: &Rules) -> Result<(), Fault> {
    let Fields { columns, keys } = fields;
    let open = cursor.at();
    cursor.take(b'{');
    let (mut step, mut filled) = (0, 0);
    if cursor.peek() == Some(b'}') {
        cursor.take(b'}');
    } else {
        loop {
            if cursor.peek() != Some(b'"') {
                return Err(cursor.unexpected("a field name"));
            }
            let at = cursor.at();
            let mut found = None;
            if let Some((pattern, place)) = keys.expected(step)
                && cursor.take_all(pattern)
            {
                step += 1;
                found = Some(place);
            }
            let place = match found {
                Some(place) => place,
                None => {
                    let name = cursor.string()?;
                    cursor.expect(b':', "':'")?;
                    let place;
                    (place, step) = keys.find(name.bytes(), step);
                    place
                }
            };
            match place.column.map(|index| &mut columns[index]) {
                Some(column) if column.len > row && place.spelling == Spelling::OtherCase => cursor.skip()?,
                Some(column) => {
                    if column.len > row {
                        column.truncate(row);
                    } else {
                        filled += 1;
                    }
                    if let Err(fault) = decode(cursor, column, rules) {
                        return Err(fault.within(column.field.name()));
                    }
                }
                None if rules.refuses_unknown && place.spelling == Spelling::Unknown => {
                    return Err(cursor.unknown_field(at));
                }
                None => cursor.skip()?,
            }
            match cursor.peek() {
                Some(b',') => cursor.take(b','),
                Some(b'}') => {
                    cursor.take(b'}');
                    break;
                }
                _ => return Err(cursor.unexpected("',' or '}'")),
            };
        }
    }
    if filled < columns.len() {
        for column in columns.iter_mut().filter(|column| column.len == row) {
            let defaulted = column.push_default(rules);
            if defaulted.map_err(|what| Fault::new(open, what).within(column.field.name()))? {
                continue;
            }
            null(column, rules).map_err(|what| {
                let what = what.strip_prefix("null").unwrap_or(what);
                Fault::new(open, format!("missing{what}")).within(column.field.name())
            })?;
        }
    }
    Ok(())
}

/// Appends a null; a placeholder where only the key counts and the column is not of it.
pub(crate) fn null(column: &mut Column, rules: &Rules) -> Result<(), &'static str> {
    if rules.key_only && column.is_key {
        return Err("null, but the column is of the primary key");
    } else if column.field.is_nullable() {
        column.push_nulls(1);
    } else if rules.key_only {
        column.push_placeholder();
    } else {
        return Err("null, but the column is NOT NULL");
    }
    Ok(())
}

#[inline]
fn string(cursor: &mut Cursor<'_>, column: &mut Column, rules: &Rules) -> Result<(), Fault> {
    let at = cursor.at();
    let value = cursor.string()?;
    text::push(column, value.bytes(), rules).map_err(|what| Fault::new(at, what))
}

#[inline]
fn number(cursor: &mut Cursor<'_>, column: &mut Column, rules: &Rules) -> Result<(), Fault> {
    let at = cursor.at();
    let (digits, _) = cursor.number()?;
    if matches!(column.values, Values::Bool(_) | Values::Bytes(_)) {
        return Err(mismatch(at, column, "the number", digits));
    }
    text::push(column, digits, rules).map_err(|what| Fault::new(at, what))?;
    // Text may say 'Infinity'; a number that overflows to it is too large.
    let infinite = match &column.values {
        Values::F64(values) => values.last().is_some_and(|value| value.is_infinite()),
        Values::F32(values) => values.last().is_some_and(|value| value.is_infinite()),
        _ => false,
    };
    if infinite {
        let what = format!("{} does not fit {}", text::excerpt(digits), sql_type(column.field.data_type()));
        return Err(Fault::new(at, what));
    }
    Ok(())
}

fn boolean(cursor: &mut Cursor<'_>, column: &mut Column, value: bool) -> Result<(), Fault> {
    let at = cursor.at();
    let word = if value { "true" } else { "false" };
    cursor.word(word)?;
    let pushed = match &mut column.values {
        Values::Bool(values) => {
            values.append(value);
            true
        }
        Values::Text(values) => values.push(word.as_bytes()),
        _ => false,
    };
    if !pushed {
        return Err(mismatch(at, column, "", word.as_bytes()));
    }
    column.pushed();
    Ok(())
}

fn object_value(cursor: &mut Cursor<'_>, column: &mut Column, rules: &Rules) -> Result<(), Fault> {
    let row = column.len;
    let at = cursor.at();
    match &mut column.values {
        Values::Struct(fields) => {
            fields.columns.iter_mut().for_each(|child| child.pad_to(row));
            object(cursor, fields, row, rules)?;
        }
        Values::Map { offsets, item } => {
            map(cursor, item, rules)?;
            offsets.push(i32::try_from(item.len).map_err(|_| Fault::new(at, "the batch's maps have more than 2^31 entries"))?);
        }
        Values::Bytes(values) => {
            let found = tagged(cursor, "$hex")?.and_then(|text| text::hex(text.trim_matches('"').as_bytes()));
            if !found.is_some_and(|bytes| values.push(&bytes)) {
                return Err(Fault::new(at, "expected BYTEA as base64 or {\"$hex\":\"..\"}, found another object"));
            }
        }
        Values::Interval(values) => {
            let nanos = tagged(cursor, "$interval_us")?.and_then(|text| text.parse::<i64>().ok()?.checked_mul(1_000));
            let what = || Fault::new(at, "expected INTERVAL as {\"$interval_us\":n}, found another object");
            values.push(IntervalMonthDayNano::new(0, 0, nanos.ok_or_else(what)?));
        }
        Values::Text(_) => return raw(cursor, column, rules),
        _ => {
            cursor.skip()?;
            return Err(mismatch(at, column, "the object", cursor.between(at, cursor.at())));
        }
    }
    column.pushed();
    Ok(())
}

fn array(cursor: &mut Cursor<'_>, column: &mut Column, rules: &Rules) -> Result<(), Fault> {
    let at = cursor.at();
    match &mut column.values {
        Values::List { offsets, item } => {
            cursor.take(b'[');
            if cursor.peek() == Some(b']') {
                cursor.take(b']');
            } else {
                loop {
                    decode(cursor, item, rules)?;
                    match cursor.peek() {
                        Some(b',') => cursor.take(b','),
                        Some(b']') => {
                            cursor.take(b']');
                            break;
                        }
                        _ => return Err(cursor.unexpected("',' or ']'")),
                    };
                }
            }
            offsets.push(i32::try_from(item.len).map_err(|_| Fault::new(at, "the batch's arrays have more than 2^31 items"))?);
        }
        Values::Text(_) => return raw(cursor, column, rules),
        _ => {
            cursor.skip()?;
            return Err(mismatch(at, column, "the array", cursor.between(at, cursor.at())));
        }
    }
    column.pushed();
    Ok(())
}

/// The members of an object as entries of a map.
fn map(cursor: &mut Cursor<'_>, entries: &mut Column, rules: &Rules) -> Result<(), Fault> {
    cursor.take(b'{');
    if cursor.peek() == Some(b'}') {
        cursor.take(b'}');
        return Ok(());
    }
    loop {
        if cursor.peek() != Some(b'"') {
            return Err(cursor.unexpected("a key"));
        }
        let row = entries.len;
        let Values::Struct(fields) = &mut entries.values else { unreachable!("a map's entries are structs") };
        let [key, value] = &mut fields.columns[..] else { unreachable!("a map's entry is a key and a value") };
        key.truncate(row);
        value.truncate(row);
        string(cursor, key, rules)?;
        cursor.expect(b':', "':'")?;
        decode(cursor, value, rules)?;
        entries.pushed();
        match cursor.peek() {
            Some(b',') => cursor.take(b','),
            Some(b'}') => {
                cursor.take(b'}');
                return Ok(());
            }
            _ => return Err(cursor.unexpected("',' or '}'")),
        };
    }
}

/// An object or array in a VARCHAR column: its JSON text.
fn raw(cursor: &mut Cursor<'_>, column: &mut Column, rules: &Rules) -> Result<(), Fault> {
    let at = cursor.at();
    cursor.skip()?;
    text::push(column, cursor.between(at, cursor.at()), rules).map_err(|what| Fault::new(at, what))
}

/// The text of the value in `{"tag": value}`; none if the object is another.
fn tagged<'a>(cursor: &mut Cursor<'a>, tag: &str) -> Result<Option<&'a str>, Fault> {
    let start = cursor.at();
    cursor.skip()?;
    let end = cursor.at();
    let object = std::str::from_utf8(cursor.between(start, end)).expect("a part of a UTF-8 text between two tokens");
    let inner = object[1..object.len() - 1].trim();
    let value = inner.strip_prefix('"').and_then(|inner| inner.strip_prefix(tag)).and_then(|inner| inner.strip_prefix('"'));
    Ok(value.and_then(|value| value.trim_start().strip_prefix(':')).map(str::trim))
}

#[cold]
fn mismatch(at: usize, column: &Column, kind: &str, found: &[u8]) -> Fault {
    let space = if kind.is_empty() { "" } else { " " };
    Fault::new(at, format!("expected {}, found {kind}{space}{}", sql_type(column.field.data_type()), text::excerpt(found)))
}
