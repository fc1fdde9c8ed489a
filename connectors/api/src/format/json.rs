//! JSON into columns: one object a row, or one change a row.
//!
//! The schema drives: for each field of an object the column's type says what may stand there, and what no column wants is
//! checked and skipped. A row that fails leaves nothing behind. Strings and numbers are taken by what the column is, so
//! `"12"` is an integer where one is wanted; VARCHAR takes numbers, objects and arrays as their text.

mod changelog;
mod cursor;
mod keys;
mod value;

use std::ops::Range;

pub(crate) use cursor::Fault;
pub(crate) use keys::Keys;
pub(crate) use value::null;

use self::changelog::Envelope;
use self::cursor::Cursor;
use super::DecoderSpec;
use super::column::{Column, Unsupported, Values};
use super::rows::Rows;
use super::text::Rules;

/// What a JSON object stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// A row.
    Row,
    /// A row with `"op": "+"` or `"-"`.
    Signed,
    /// A Debezium change.
    Debezium,
}

/// Decodes JSON objects into columns.
#[derive(Debug)]
pub(crate) struct JsonDecoder {
    /// With `op` behind the schema's columns, if objects say their sign.
    rows: Rows,
    meaning: Meaning,
}

impl JsonDecoder {
    /// A decoder of the used columns of `spec`.
    pub(crate) fn new(spec: &DecoderSpec, meaning: Meaning, rules: Rules) -> Result<Self, Unsupported> {
        let op = || Column::new(arrow::datatypes::Field::new("op", arrow::datatypes::DataType::Utf8, true).into());
        let hidden = (meaning == Meaning::Signed).then(op).transpose()?;
        Ok(JsonDecoder { rows: Rows::new(spec, hidden, rules, meaning != Meaning::Row)?, meaning })
    }

    /// Rows since the last [`JsonDecoder::take`].
    pub(crate) fn rows(&self) -> usize {
        self.rows.len()
    }

    /// Decodes a record: nothing but white space gives no row, a change may give two.
    pub(crate) fn decode(&mut self, record: &[u8]) -> Result<(), String> {
        let text = match std::str::from_utf8(record) {
            Ok(text) => text,
            Err(error) => return Err(format!("not UTF-8 at byte {}", error.valid_up_to())),
        };
        let rows = self.rows.len();
        let done = match self.meaning {
            Meaning::Debezium => self.change(text),
            _ => self.row(text),
        };
        done.map_err(|fault| {
            self.rows.truncate(rows);
            fault.to_string()
        })
    }

    pub(crate) fn rows_mut(&mut self) -> &mut Rows {
        &mut self.rows
    }

    fn row(&mut self, text: &str) -> Result<(), Fault> {
        let mut cursor = Cursor::new(text);
        match cursor.peek() {
            None => return Ok(()),
            Some(b'{') => {}
            Some(_) => return Err(cursor.unexpected("an object")),
        }
        let signed = self.meaning == Meaning::Signed;
        self.rows.push(
            |fields, row, rules| {
                value::object(&mut cursor, fields, row, rules)?;
                cursor.end()
            },
            |rows| if signed { sign(rows) } else { Ok(1) },
        )
    }

    fn change(&mut self, text: &str) -> Result<(), Fault> {
        if text.trim_ascii().is_empty() {
            return Ok(());
        }
        let Some(Envelope { op, before, after }) = changelog::envelope(text)? else { return Ok(()) };
        let pair = |range: Range<usize>| (range.start, range.end);
        self.rows.change(op.as_deref(), before.map(pair), after.map(pair), |fields, row, (start, end), diff, rules| {
            let name = if diff > 0 { "after" } else { "before" };
            value::object(&mut Cursor::within(text, start..end), fields, row, rules).map_err(|fault: Fault| fault.within(name))
        })
    }

    /// Takes out the columns and diffs; the decoder is empty again.
    pub(crate) fn take(&mut self) -> (&mut [Column], Option<Vec<i64>>) {
        self.rows.take()
    }
}

/// The sign of the row that was just decoded.
fn sign(rows: &Rows) -> Result<i64, Fault> {
    let op = rows.hidden();
    let Values::Text(texts) = &op.values else { unreachable!("the column 'op' is text") };
    if !op.is_valid(rows.len()) {
        return Ok(1);
    }
    match texts.get(rows.len()) {
        b"+" => Ok(1),
        b"-" => Ok(-1),
        other => Err(Fault::new(0, format!("'op' is '+' or '-', found '{}'", super::text::excerpt(other)))),
    }
}

/// Deletes a key's row: the key is an object with the key's columns, alone or as a `payload`, or the value of the only one.
pub(crate) fn delete(rows: &mut Rows, key: &[u8]) -> Result<(), String> {
    let text = match std::str::from_utf8(key) {
        Ok(text) => text,
        Err(error) => return Err(format!("key: not UTF-8 at byte {}", error.valid_up_to())),
    };
    let before = rows.len();
    let deleted = changelog::key(text).and_then(|part| {
        let mut cursor = Cursor::within(text, part);
        rows.delete(|fields, row, rules, key| {
            match (cursor.peek(), key) {
                (_, []) => return Err(Fault::new(0, "the table has no primary key that is read")),
                (Some(b'{'), _) => value::object(&mut cursor, fields, row, rules)?,
                (Some(_), [column]) => {
                    fields.only(*column, rules, |column| {
                        value::decode(&mut cursor, column, rules).map_err(|fault: Fault| fault.within(column.field.name()))
                    })?;
                }
                _ => return Err(cursor.unexpected("an object with the columns of the primary key")),
            }
            cursor.end()
        })
    });
    deleted.map_err(|fault| {
        rows.truncate(before);
        format!("key: {fault}")
    })
}

/// Decodes a text that is one JSON value into a column, which is cut back by the caller if it fails.
pub(crate) fn decode_field(column: &mut Column, text: &[u8], rules: &Rules) -> Result<(), String> {
    let text = std::str::from_utf8(text).map_err(|_| "not UTF-8".to_string())?;
    let mut cursor = Cursor::new(text);
    value::decode(&mut cursor, column, rules).and_then(|()| cursor.end()).map_err(|fault| fault.to_string())
}

/// Finds the objects of a body that is one object, objects one after another, or an array of objects.
pub(crate) fn objects(body: &str) -> Result<Vec<Range<usize>>, String> {
    let mut cursor = Cursor::new(body);
    let mut found = Vec::new();
    let mut one = |cursor: &mut Cursor<'_>| -> Result<(), Fault> {
        cursor.peek();
        let start = cursor.at();
        cursor.skip()?;
        found.push(start..cursor.at());
        Ok(())
    };
    let mut all = || -> Result<(), Fault> {
        while let Some(byte) = cursor.peek() {
            if byte != b'[' {
                one(&mut cursor)?;
                continue;
            }
            cursor.take(b'[');
            if cursor.peek() == Some(b']') {
                cursor.take(b']');
                continue;
            }
            loop {
                one(&mut cursor)?;
                cursor.peek();
                if cursor.take(b']') {
                    break;
                }
                cursor.expect(b',', "',' or ']'")?;
            }
        }
        Ok(())
    };
    all().map_err(|fault| fault.to_string())?;
    Ok(found)
}

#[cfg(test)]
mod tests;
