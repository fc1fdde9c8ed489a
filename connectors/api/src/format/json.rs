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

pub(crate) use keys::Keys;

use self::changelog::Envelope;
use self::cursor::{Cursor, Fault};
use super::DecoderSpec;
use super::column::{Column, Fields, Unsupported, Values};
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
    fields: Fields,
    /// How many of the columns are the schema's; the one behind them is `op`.
    width: usize,
    rows: usize,
    meaning: Meaning,
    /// Columns of the primary key.
    key: Vec<usize>,
    rules: Rules,
    diffs: Vec<i64>,
    /// Whether one of the rows deletes a key, so that rows need diffs whatever the meaning.
    deletes: bool,
}

impl JsonDecoder {
    /// A decoder of the used columns of `spec`.
    pub(crate) fn new(spec: &DecoderSpec, meaning: Meaning, rules: Rules) -> Result<Self, Unsupported> {
        let place = |column: &usize| spec.used.iter().position(|used| used == column);
        let key: Vec<usize> = spec.primary_key.iter().filter_map(place).collect();
        let mut columns = spec.used.iter().map(|column| spec.column(*column)).collect::<Result<Vec<_>, _>>()?;
        let width = columns.len();
        for column in &key {
            columns[*column].is_key = true;
        }
        // Columns that nobody reads are known by their names, so that these are not taken for another spelling of others.
        let all = spec.schema.fields().iter().enumerate();
        let mut names: Vec<(&str, Option<usize>)> = all.map(|(index, field)| (field.name().as_str(), place(&index))).collect();
        if meaning == Meaning::Signed {
            let op = arrow::datatypes::Field::new("op", arrow::datatypes::DataType::Utf8, true);
            columns.push(Column::new(op.into())?);
            names.push(("op", Some(width)));
        }
        let fields = Fields { columns, keys: Keys::new(names.into_iter()) };
        Ok(JsonDecoder { fields, width, rows: 0, meaning, key, rules, diffs: Vec::new(), deletes: false })
    }

    /// Rows since the last [`JsonDecoder::take`].
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Decodes a record: nothing but white space gives no row, a change may give two.
    pub(crate) fn decode(&mut self, record: &[u8]) -> Result<(), String> {
        let text = match std::str::from_utf8(record) {
            Ok(text) => text,
            Err(error) => return Err(format!("not UTF-8 at byte {}", error.valid_up_to())),
        };
        let rows = self.rows;
        let done = match self.meaning {
            Meaning::Debezium => self.change(text),
            _ => self.row(text),
        };
        done.map_err(|fault| {
            self.truncate(rows);
            fault.to_string()
        })
    }

    /// Deletes a key's row: the key is an object with the key's columns, alone or as a `payload`, or the value of the only one.
    pub(crate) fn delete(&mut self, key: &[u8]) -> Result<(), String> {
        let text = match std::str::from_utf8(key) {
            Ok(text) => text,
            Err(error) => return Err(format!("key: not UTF-8 at byte {}", error.valid_up_to())),
        };
        self.deletion(text).map_err(|fault| {
            self.truncate(self.rows);
            format!("key: {fault}")
        })?;
        if self.meaning == Meaning::Row && !self.deletes {
            self.deletes = true;
            self.diffs.resize(self.rows, 1);
        }
        self.diffs.push(-1);
        self.rows += 1;
        Ok(())
    }

    fn deletion(&mut self, text: &str) -> Result<(), Fault> {
        let mut cursor = Cursor::within(text, changelog::key(text)?);
        let rules = Rules { key_only: true, ..self.rules };
        match (cursor.peek(), self.key.as_slice()) {
            (_, []) => return Err(Fault::new(0, "the table has no primary key that is read")),
            (Some(b'{'), _) => value::object(&mut cursor, &mut self.fields, self.rows, &rules)?,
            (Some(_), [column]) => {
                let within = |fault: Fault, column: &Column| fault.within(column.field.name());
                let columns = &mut self.fields.columns;
                value::decode(&mut cursor, &mut columns[*column], &rules).map_err(|fault| within(fault, &columns[*column]))?;
                for (_, other) in columns.iter_mut().enumerate().filter(|(place, _)| place != column) {
                    value::null(other, &rules).expect("a column that is not of the key has a placeholder");
                }
            }
            _ => return Err(cursor.unexpected("an object with the columns of the primary key")),
        }
        cursor.end()
    }

    fn row(&mut self, text: &str) -> Result<(), Fault> {
        let mut cursor = Cursor::new(text);
        match cursor.peek() {
            None => return Ok(()),
            Some(b'{') => value::object(&mut cursor, &mut self.fields, self.rows, &self.rules)?,
            Some(_) => return Err(cursor.unexpected("an object")),
        }
        cursor.end()?;
        if self.meaning == Meaning::Signed {
            self.diffs.push(self.sign()?);
        } else if self.deletes {
            self.diffs.push(1);
        }
        self.rows += 1;
        Ok(())
    }

    /// The sign of the row that was just decoded.
    fn sign(&self) -> Result<i64, Fault> {
        let op = &self.fields.columns[self.width];
        let Values::Text(texts) = &op.values else { unreachable!("the column 'op' is text") };
        if !op.is_valid(self.rows) {
            return Ok(1);
        }
        match texts.get(self.rows) {
            b"+" => Ok(1),
            b"-" => Ok(-1),
            other => Err(Fault::new(0, format!("'op' is '+' or '-', found '{}'", super::text::excerpt(other)))),
        }
    }

    fn change(&mut self, text: &str) -> Result<(), Fault> {
        if text.trim_ascii().is_empty() {
            return Ok(());
        }
        let Some(Envelope { op, before, after }) = changelog::envelope(text)? else { return Ok(()) };
        let part = |part: Option<Range<usize>>, name: &str, op: &str| {
            part.ok_or_else(|| Fault::new(0, format!("'{name}' is missing in a change with op '{op}'")))
        };
        match op.as_deref() {
            Some(op @ ("c" | "r")) => self.part(text, part(after, "after", op)?, 1, false),
            Some("d") => self.part(text, part(before, "before", "d")?, -1, !self.key.is_empty()),
            Some("u") if self.key.is_empty() => {
                self.part(text, part(before, "before", "u")?, -1, false)?;
                self.part(text, part(after, "after", "u")?, 1, false)
            }
            Some("u") => self.upsert(text, before, part(after, "after", "u")?),
            // A message for whoever reads the topic, not a change.
            Some("m") => Ok(()),
            Some("t") => Err(Fault::new(0, "op 't' (truncate) cannot be applied: delete the rows instead")),
            Some(op) => Err(Fault::new(0, format!("'op' is one of c, r, u, d, found '{}'", super::text::excerpt(op.as_bytes())))),
            None => Err(Fault::new(0, "expected a change with 'op', 'before' and 'after'")),
        }
    }

    /// The new row; before it the old row's deletion if the key has changed.
    fn upsert(&mut self, text: &str, before: Option<Range<usize>>, after: Range<usize>) -> Result<(), Fault> {
        let row = self.rows;
        self.part(text, after.clone(), 1, false)?;
        let Some(before) = before else { return Ok(()) };
        self.part(text, before.clone(), -1, true)?;
        let moved = self.key.iter().any(|column| !self.fields.columns[*column].equal(row, row + 1));
        if moved {
            self.truncate(row);
            self.part(text, before, -1, true)?;
            self.part(text, after, 1, false)
        } else {
            self.truncate(row + 1);
            Ok(())
        }
    }

    fn part(&mut self, text: &str, part: Range<usize>, diff: i64, key_only: bool) -> Result<(), Fault> {
        let rules = Rules { key_only, ..self.rules };
        let name = if diff > 0 { "after" } else { "before" };
        value::object(&mut Cursor::within(text, part), &mut self.fields, self.rows, &rules)
            .map_err(|fault| fault.within(name))?;
        self.diffs.push(diff);
        self.rows += 1;
        Ok(())
    }

    /// Forgets all rows from `rows` on.
    fn truncate(&mut self, rows: usize) {
        self.fields.truncate(rows);
        self.diffs.truncate(rows);
        self.rows = rows;
    }

    /// Takes out the columns and diffs; the decoder is empty again.
    pub(crate) fn take(&mut self) -> (&mut [Column], Option<Vec<i64>>) {
        self.rows = 0;
        let diffs = std::mem::take(&mut self.diffs);
        let deletes = std::mem::take(&mut self.deletes);
        let diffs = (self.meaning != Meaning::Row || deletes).then_some(diffs);
        let (columns, hidden) = self.fields.columns.split_at_mut(self.width);
        hidden.iter_mut().for_each(|column| column.truncate(0));
        (columns, diffs)
    }
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
