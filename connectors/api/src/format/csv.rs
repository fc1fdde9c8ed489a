//! CSV into columns: RFC 4180 with any one-byte delimiter, one record at a time.
//!
//! arrow-csv gives up a whole batch for one bad field, so fields go straight into the same columns as JSON's. An empty
//! field is NULL; `""` is the empty string. A record with too few or too many fields is refused: a delimiter that was not
//! quoted would otherwise shift values into the wrong columns.

use memchr::{memchr, memchr2};

use super::DecoderSpec;
use super::column::{Column, Unsupported, Values};
use super::json;
use super::text::{self, Rules};

/// How CSV is written.
#[derive(Debug, Clone)]
pub(crate) struct CsvDialect {
    /// Whether the first record of a file names the columns.
    pub(crate) header: bool,
    /// Between fields.
    pub(crate) delimiter: u8,
    /// What stands for NULL.
    pub(crate) null: String,
}

/// Decodes CSV records into columns.
#[derive(Debug)]
pub(crate) struct CsvDecoder {
    columns: Vec<Column>,
    /// Names of all declared columns.
    all: Vec<String>,
    rows: usize,
    dialect: CsvDialect,
    rules: Rules,
    /// For each field of a record its column, if it is wanted.
    places: Vec<Option<usize>>,
    /// Columns that no field has.
    absent: Vec<usize>,
    scratch: Vec<u8>,
}

impl CsvDecoder {
    /// A decoder of the used columns of `spec`; records have the schema's columns in order until a header says otherwise.
    pub(crate) fn new(spec: &DecoderSpec, dialect: CsvDialect, rules: Rules) -> Result<Self, Unsupported> {
        let columns = spec.used.iter().map(|column| spec.column(*column)).collect::<Result<Vec<_>, _>>()?;
        let all = spec.schema.fields().iter().map(|field| field.name().clone()).collect();
        let places = (0..spec.schema.fields().len()).map(|field| spec.used.iter().position(|column| *column == field)).collect();
        Ok(CsvDecoder { columns, all, rows: 0, dialect, rules, places, absent: Vec::new(), scratch: Vec::new() })
    }

    /// Rows since the last [`CsvDecoder::take`].
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Learns from a header record which field is which column; fields without a column are ignored.
    pub(crate) fn set_header(&mut self, record: &[u8]) -> Result<(), String> {
        let mut names = Vec::new();
        let mut rest = Some(record.strip_prefix(b"\xef\xbb\xbf").unwrap_or(record));
        while let Some(at) = rest {
            let (name, _, next) = field(at, self.dialect.delimiter, &mut self.scratch)?;
            names.push(String::from_utf8_lossy(name).trim().to_string());
            rest = next;
        }
        for (index, name) in names.iter().enumerate() {
            if names[..index].contains(name) && self.columns.iter().any(|column| column.field.name() == name) {
                return Err(format!("the header names the column '{name}' twice"));
            }
        }
        let declared = |name: &String| {
            let mut found = self.all.iter().position(|column| column == name);
            // As in SQL, a name is found without its case where that is not ambiguous.
            if found.is_none() && !names.iter().any(|other| other != name && other.eq_ignore_ascii_case(name)) {
                let mut same = (0..self.all.len()).filter(|index| self.all[*index].eq_ignore_ascii_case(name));
                found = same.next().filter(|_| same.next().is_none());
            }
            found.map(|index| self.all[index].clone())
        };
        let declared: Vec<Option<String>> = names.iter().map(declared).collect();
        if let (true, Some(unknown)) = (self.rules.refuses_unknown, declared.iter().position(Option::is_none)) {
            return Err(format!("unknown field '{}' in the header (ignore_unknown_fields is false)", names[unknown]));
        }
        let place = |name: &Option<String>| self.columns.iter().position(|column| Some(column.field.name()) == name.as_ref());
        self.places = declared.iter().map(place).collect();
        self.absent = (0..self.columns.len()).filter(|column| !self.places.contains(&Some(*column))).collect();
        if !self.columns.is_empty() && self.absent.len() == self.columns.len() {
            let wanted: Vec<&str> = self.columns.iter().map(|column| column.field.name().as_str()).collect();
            let (wanted, names) = (wanted.join(", "), names.join(", "));
            return Err(format!("the header names none of the columns {wanted}; it has {}", text::excerpt(names.as_bytes())));
        }
        Ok(())
    }

    /// Decodes a record, without its line end; an empty one gives no row.
    pub(crate) fn decode(&mut self, record: &[u8]) -> Result<(), String> {
        if record.is_empty() {
            return Ok(());
        }
        if let Err(error) = std::str::from_utf8(record) {
            return Err(format!("not UTF-8 at byte {}", error.valid_up_to()));
        }
        let done = self.row(record);
        match done {
            Ok(()) => self.rows += 1,
            Err(_) => self.columns.iter_mut().for_each(|column| column.truncate(self.rows)),
        }
        done
    }

    fn row(&mut self, record: &[u8]) -> Result<(), String> {
        let mut rest = Some(record);
        let mut place = 0;
        while let Some(at) = rest {
            let Some(wanted) = self.places.get(place) else {
                return Err(format!("more than the {} fields of a record", self.places.len()));
            };
            let (value, quoted, next) = field(at, self.dialect.delimiter, &mut self.scratch)?;
            if let Some(index) = *wanted {
                let column = &mut self.columns[index];
                let null = !quoted && value == self.dialect.null.as_bytes()
                    || value.is_empty() && !matches!(column.values, Values::Text(_) | Values::Bytes(_));
                let done = if null { push_null(column) } else { push(column, value, &self.rules) };
                done.map_err(|what| format!("column '{}': {what}", column.field.name()))?;
            }
            rest = next;
            place += 1;
        }
        if place < self.places.len() {
            return Err(format!("{place} fields, expected {}", self.places.len()));
        }
        for index in &self.absent {
            let column = &mut self.columns[*index];
            if column.push_default(&self.rules).map_err(|what| format!("column '{}': {what}", column.field.name()))? {
                continue;
            }
            push_null(column).map_err(|_| format!("column '{}': missing, but the column is NOT NULL", column.field.name()))?;
        }
        Ok(())
    }

    /// Gives the columns, to be taken; the decoder counts from zero again.
    pub(crate) fn take(&mut self) -> &mut [Column] {
        self.rows = 0;
        &mut self.columns
    }
}

fn push_null(column: &mut Column) -> Result<(), String> {
    if !column.field.is_nullable() {
        return Err("empty, but the column is NOT NULL".to_string());
    }
    column.push_nulls(1);
    Ok(())
}

fn push(column: &mut Column, value: &[u8], rules: &Rules) -> Result<(), String> {
    match column.values {
        Values::Struct(_) | Values::List { .. } | Values::Map { .. } => json::decode_field(column, value, rules),
        _ => text::push(column, value, rules),
    }
}

/// Splits off a field: its value, whether it was quoted, and what follows the delimiter, if there is one.
#[inline]
#[allow(clippy::type_complexity, reason = "read once, above")]
fn field<'a: 'v, 'v>(
    at: &'a [u8],
    delimiter: u8,
    scratch: &'v mut Vec<u8>,
) -> Result<(&'v [u8], bool, Option<&'a [u8]>), String> {
    if at.first() != Some(&b'"') {
        return Ok(match memchr(delimiter, at) {
            Some(end) => (&at[..end], false, Some(&at[end + 1..])),
            None => (at, false, None),
        });
    }
    scratch.clear();
    let mut rest = &at[1..];
    loop {
        let Some(quote) = memchr(b'"', rest) else { return Err("a quoted field has no end".to_string()) };
        let (value, behind) = (&rest[..quote], &rest[quote + 1..]);
        let doubled = behind.first() == Some(&b'"');
        if doubled {
            scratch.extend_from_slice(value);
            scratch.push(b'"');
            rest = &behind[1..];
            continue;
        }
        let value = if scratch.is_empty() {
            value
        } else {
            scratch.extend_from_slice(value);
            scratch
        };
        return match behind.split_first() {
            None => Ok((value, true, None)),
            Some((next, behind)) if *next == delimiter => Ok((value, true, Some(behind))),
            Some(_) => Err("text behind the closing quote of a field".to_string()),
        };
    }
}

/// Where the record at the start of `text` ends: the place of its line feed, quoted ones not counted.
pub(crate) fn record_end(text: &[u8], delimiter: u8) -> Option<usize> {
    let line = memchr(b'\n', text)?;
    if memchr(b'"', &text[..line]).is_none() {
        return Some(line);
    }
    let mut at = 0;
    loop {
        // At the beginning of a field.
        if text.get(at) == Some(&b'"') {
            at += 1;
            loop {
                at += memchr(b'"', &text[at..])? + 1;
                if text.get(at) != Some(&b'"') {
                    break;
                }
                at += 1;
            }
        }
        at += memchr2(delimiter, b'\n', &text[at..])?;
        if text[at] == b'\n' {
            return Some(at);
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Array, AsArray};
    use arrow::datatypes::{DataType, Field, Int64Type, Schema, TimeUnit};

    use super::*;

    fn decoder(null: &str) -> CsvDecoder {
        let schema = Arc::new(Schema::new(vec![
            Field::new("id", DataType::Int64, false),
            Field::new("name", DataType::Utf8, true),
            Field::new("at", DataType::Timestamp(TimeUnit::Millisecond, None), true),
        ]));
        let dialect = CsvDialect { header: true, delimiter: b',', null: null.to_string() };
        let rules = Rules { epoch: TimeUnit::Millisecond, key_only: false, refuses_unknown: false };
        let defaults = vec![None, Some("nobody".to_string())];
        let spec = DecoderSpec { schema, used: vec![0, 1, 2], primary_key: Vec::new(), keeps_origin: false, defaults };
        CsvDecoder::new(&spec, dialect, rules).expect("all types are known")
    }

    #[test]
    fn quotes_nulls_and_bad_records() {
        let mut decoder = decoder("");
        decoder.decode(b"1,\"a \"\"b\"\", c\",2024-05-01").expect("a good record");
        decoder.decode(b"2,,").expect("a good record");
        decoder.decode(b"3,\"\",1000").expect("a good record");
        for (record, expected) in [
            (&b"x,a,"[..], "column 'id': expected BIGINT, found 'x'"),
            (b",a,", "column 'id': empty, but the column is NOT NULL"),
            (b"4,a", "2 fields, expected 3"),
            (b"4,a,,", "more than the 3 fields of a record"),
            (b"4,\"a,", "a quoted field has no end"),
            (b"4,\"a\"b,", "text behind the closing quote of a field"),
            (b"4,\xff,", "not UTF-8 at byte 2"),
        ] {
            assert_eq!(decoder.decode(record), Err(expected.to_string()));
        }
        assert_eq!(decoder.rows(), 3);
        let columns: Vec<_> = decoder.take().iter_mut().map(|column| column.take().expect("valid")).collect();
        assert_eq!(columns[0].as_primitive::<Int64Type>().values().to_vec(), [1, 2, 3]);
        let names = columns[1].as_string::<i32>();
        assert_eq!((names.value(0), names.is_null(1), names.is_valid(2)), ("a \"b\", c", true, true));
        assert_eq!(columns[2].null_count(), 1);
    }

    #[test]
    fn a_header_maps_columns_by_name() {
        let mut decoder = decoder("NA");
        decoder.set_header(b"\xef\xbb\xbfextra, name ,id").expect("two columns are known");
        decoder.decode(b"x,NA,7").expect("a good record");
        decoder.decode(b"x,\"NA\",8").expect("a good record");
        let columns: Vec<_> = decoder.take().iter_mut().map(|column| column.take().expect("valid")).collect();
        assert_eq!((columns[1].null_count(), columns[2].null_count()), (1, 2));
        assert!(decoder.set_header(b"id,id").is_err());
        assert!(decoder.set_header(b"a,b").expect_err("nothing known").contains("none of the columns id, name, at"));
    }

    #[test]
    fn a_record_ends_at_a_line_feed_that_is_not_quoted() {
        assert_eq!(record_end(b"a,b\nc", b','), Some(3));
        assert_eq!(record_end(b"a,\"x\ny\"\nc", b','), Some(7));
        assert_eq!(record_end(b"a,\"x\"\"\n\"\nc", b','), Some(8));
        assert_eq!(record_end(b"5\" pipe,b\nc", b','), Some(9));
        assert_eq!(record_end(b"a,\"x\n", b','), None);
        assert_eq!(record_end(b"a", b','), None);
    }

    #[test]
    fn a_column_that_the_header_lacks_has_its_default() {
        let mut decoder = decoder("");
        decoder.set_header(b"ID,at").expect("found without its case");
        decoder.decode(b"1,").expect("a good record");
        let columns: Vec<_> = decoder.take().iter_mut().map(|column| column.take().expect("valid")).collect();
        assert_eq!((columns[1].as_string::<i32>().value(0), columns[2].null_count()), ("nobody", 1));
    }
}
