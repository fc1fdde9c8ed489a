//! Formats: bytes to Arrow and back.
//!
//! A [`Format`] is what a statement's options say: which of JSON, CSV, changes as JSON, and for messages Avro, Protobuf and raw bytes,
//! and the details. It makes [`Decoder`]s, which are fed one record at a time (a line, a message) and give back columns; a record that does not decode
//! is an error with its reason and disturbs no other. [`encode`] is the way out: NDJSON and CSV.

pub mod encode;

mod avro;
pub(crate) mod column;
mod csv;
mod decimal;
mod decoder;
mod json;
mod messages;
mod protobuf;
mod raw;
mod rows;
mod scalar;
mod schemas;
#[cfg(test)]
mod testing;
pub(crate) mod text;
pub(crate) mod time;

use std::sync::Arc;

use arrow::datatypes::{SchemaRef, TimeUnit};
use highwater_plan::{Diagnostic, Field, OptionReader, Options};

use self::csv::CsvDialect;
use self::json::Meaning;
use self::messages::Messages;
use self::text::Rules;

pub(crate) use decoder::BatchOrigin;
pub use decoder::{Decoded, Decoder};
pub(crate) use json::objects as json_objects;
pub use messages::message_fields;
pub use schemas::Readiness;

/// The options of formats.
pub const FORMAT_FIELDS: &[Field] = &[
    Field {
        key: "format",
        about: "json, csv, debezium (changes as JSON) or changelog (rows with \"op\": \"+\" or \"-\"); default json",
    },
    Field {
        key: "format.timestamp",
        about: "what integer timestamps count: iso (milliseconds, the default), epoch_s, epoch_ms or epoch_us; ISO texts are always read",
    },
    Field {
        key: "ignore_unknown_fields",
        about: "whether fields that no column is declared for are skipped; default true, false rejects their rows",
    },
    Field { key: "csv.header", about: "whether the first record names the columns; default true" },
    Field { key: "csv.delimiter", about: "one character between fields, or 'tab'; default ','" },
    Field { key: "csv.null", about: "what stands for NULL; default nothing" },
    Field { key: "row_bytes_max", about: "longest row in bytes; longer ones are rejected; default 1048576, at most 16777216" },
];

/// What the options say about a format.
#[derive(Debug, Clone)]
pub struct Format {
    kind: Kind,
    epoch: TimeUnit,
    refuses_unknown: bool,
    csv: CsvDialect,
    row_bytes_max: usize,
    /// What messages need besides.
    messages: Option<Arc<Messages>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Json(Meaning),
    Csv,
    Avro { changes: bool },
    Protobuf,
    Raw,
}

/// The formats of lines, which messages may have as well.
const KINDS: &[(&str, Kind)] = &[
    ("json", Kind::Json(Meaning::Row)),
    ("csv", Kind::Csv),
    ("debezium", Kind::Json(Meaning::Debezium)),
    ("changelog", Kind::Json(Meaning::Signed)),
];

/// What a decoder is for.
#[derive(Debug, Clone)]
pub struct DecoderSpec {
    /// All physical columns.
    pub schema: SchemaRef,
    /// The columns to decode, ascending.
    pub used: Vec<usize>,
    /// The columns of the primary key; empty without one.
    pub primary_key: Vec<usize>,
    /// Whether whole rows must be given back by an origin.
    pub keeps_origin: bool,
    /// Per physical column what stands in it where an input does not have it, as JSON or CSV would write it; may be shorter
    /// than the schema.
    pub defaults: Vec<Option<String>>,
}

impl DecoderSpec {
    fn column(&self, index: usize) -> Result<column::Column, column::Unsupported> {
        let default = self.defaults.get(index).cloned().flatten();
        Ok(column::Column::new(self.schema.fields()[index].clone())?.with_default(default))
    }
}

impl Format {
    /// Reads the format's options; `reader` knows [`FORMAT_FIELDS`].
    pub fn from_options(reader: &OptionReader<'_>) -> Result<Format, Diagnostic> {
        Format::read(reader, KINDS)
    }

    fn read(reader: &OptionReader<'_>, kinds: &[(&str, Kind)]) -> Result<Format, Diagnostic> {
        const EPOCHS: &[(&str, TimeUnit)] = &[
            ("iso", TimeUnit::Millisecond),
            ("epoch_s", TimeUnit::Second),
            ("epoch_ms", TimeUnit::Millisecond),
            ("epoch_us", TimeUnit::Microsecond),
        ];
        let delimiter = match reader.optional("csv.delimiter") {
            None => b',',
            Some("tab" | "\\t" | "\t") => b'\t',
            Some(text) => match text.as_bytes() {
                [byte] if byte.is_ascii() && !matches!(byte, b'"' | b'\n' | b'\r') => *byte,
                _ => return Err(reader.invalid("csv.delimiter", "one ASCII character other than a quote, or 'tab'")),
            },
        };
        const BYTES: &str = "a number of bytes from 1024 to 16777216";
        let row_bytes_max = reader.parsed::<usize>("row_bytes_max", BYTES)?.unwrap_or(1 << 20);
        if !(1024..=16 << 20).contains(&row_bytes_max) {
            return Err(reader.invalid("row_bytes_max", BYTES));
        }
        Ok(Format {
            kind: reader.choice("format", kinds)?.unwrap_or(Kind::Json(Meaning::Row)),
            epoch: reader.choice("format.timestamp", EPOCHS)?.unwrap_or(TimeUnit::Millisecond),
            refuses_unknown: !reader.flag("ignore_unknown_fields", true)?,
            csv: CsvDialect {
                header: reader.flag("csv.header", true)?,
                delimiter,
                null: reader.optional("csv.null").unwrap_or_default().to_string(),
            },
            row_bytes_max,
            messages: None,
        })
    }

    /// The same details for pushed CSV with a header, whatever the source's own format is.
    pub(crate) fn as_csv(&self) -> Format {
        Format { kind: Kind::Csv, csv: CsvDialect { header: true, ..self.csv.clone() }, ..self.clone() }
    }

    /// The same details for JSON, if the source's own format is CSV.
    pub(crate) fn as_json(&self) -> Format {
        let kind = if self.kind == Kind::Csv { Kind::Json(Meaning::Row) } else { self.kind };
        Format { kind, ..self.clone() }
    }

    /// Whether the first record of each file is a header.
    pub fn has_header(&self) -> bool {
        self.kind == Kind::Csv && self.csv.header
    }

    /// Whether a record may have line feeds in it.
    pub fn has_quotes(&self) -> bool {
        self.kind == Kind::Csv
    }

    /// Whether records are changes that say themselves which row is gone.
    pub fn tells_deletions(&self) -> bool {
        matches!(self.kind, Kind::Json(Meaning::Debezium) | Kind::Avro { changes: true })
    }

    /// The longest row in bytes.
    pub fn row_bytes_max(&self) -> usize {
        self.row_bytes_max
    }

    /// Where the record at the start of `text` ends: the place of its line feed, if it is complete.
    pub fn record_end(&self, text: &[u8]) -> Option<usize> {
        match self.kind {
            Kind::Csv => csv::record_end(text, self.csv.delimiter),
            Kind::Json(_) | Kind::Avro { .. } | Kind::Protobuf | Kind::Raw => memchr::memchr(b'\n', text),
        }
    }

    /// Makes a decoder; errors are columns of types that cannot be decoded, at the place of `options`.
    pub fn decoder(&self, spec: &DecoderSpec, options: &Options) -> Result<Decoder, Diagnostic> {
        if self.kind == Kind::Json(Meaning::Signed) && spec.schema.fields().iter().any(|field| field.name() == "op") {
            let message = "a table in format 'changelog' cannot have a column 'op': the format uses it";
            return Err(Diagnostic::error("invalid-schema", message).at(options.span).help("rename the column"));
        }
        Decoder::new(self.clone(), spec.clone()).map_err(|unsupported| {
            let column::Unsupported { column, data_type } = unsupported;
            Diagnostic::error(
                "unsupported-type",
                format!("column '{column}' has type {}, which cannot be decoded", column::sql_type(&data_type)),
            )
            .at(options.span)
            .help("declare the column with another type, for example VARCHAR, and cast it in the query")
        })
    }

    fn rules(&self) -> Rules {
        Rules { epoch: self.epoch, key_only: false, refuses_unknown: self.refuses_unknown }
    }
}
