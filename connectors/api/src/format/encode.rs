//! Arrow to bytes: NDJSON and CSV, for sinks, for the HTTP service and for `--dump`.
//!
//! JSON keeps what SQL means: timestamps have the digits of their unit, decimals all of theirs, and what JSON cannot say
//! is text (`"NaN"`) or an object with one `$` field (`{"$hex":".."}`). The decoders of this crate read all of it back.

pub(crate) mod avro;
mod message;
pub(crate) mod protobuf;
mod value;

use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;

use self::value::Writer;

pub use message::{AvroEncoding, Encoding, MessageWriter, Part, ProtobufEncoding, SchemaError, sink_message_fields};

/// Appends a line of JSON for each row, with the columns' names as they are.
pub fn ndjson(batch: &RecordBatch, out: &mut Vec<u8>) -> Result<(), ArrowError> {
    let writer = RowWriter::new(batch)?;
    for row in 0..batch.num_rows() {
        out.push(b'{');
        writer.write_fields(row, true, out);
        out.extend_from_slice(b"}\n");
    }
    Ok(())
}

/// Appends JSON objects row by row, where the caller decides what stands around them.
pub struct RowWriter<'a> {
    /// `"name":`, escaped, and the values.
    columns: Vec<(Vec<u8>, Writer<'a>)>,
}

impl<'a> RowWriter<'a> {
    /// Prepares the columns of a batch; errors are types that have no JSON.
    pub fn new(batch: &'a RecordBatch) -> Result<Self, ArrowError> {
        let schema = batch.schema_ref();
        let columns = schema.fields().iter().zip(batch.columns());
        let columns = columns.map(|(field, array)| Ok((value::key(field.name()), Writer::new(array.as_ref())?)));
        Ok(RowWriter { columns: columns.collect::<Result<_, ArrowError>>()? })
    }

    /// Appends `{...}`.
    pub fn write_object(&self, row: usize, out: &mut Vec<u8>) {
        out.push(b'{');
        self.write_fields(row, true, out);
        out.push(b'}');
    }

    /// Appends `"name":value,...` without braces; unless `first`, with a comma before.
    pub fn write_fields(&self, row: usize, first: bool, out: &mut Vec<u8>) {
        let mut first = first;
        for (key, writer) in &self.columns {
            if !first {
                out.push(b',');
            }
            first = false;
            out.extend_from_slice(key);
            writer.write(row, out);
        }
    }
}

/// Appends a line of JSON for each row, with `leading(row, out)` before its columns.
///
/// `leading` appends fields such as `"epoch":7,"diff":-1`, without a comma at the end, and at least one.
pub fn ndjson_with(
    batch: &RecordBatch,
    mut leading: impl FnMut(usize, &mut Vec<u8>),
    out: &mut Vec<u8>,
) -> Result<(), ArrowError> {
    let writer = RowWriter::new(batch)?;
    for row in 0..batch.num_rows() {
        out.push(b'{');
        leading(row, out);
        writer.write_fields(row, false, out);
        out.extend_from_slice(b"}\n");
    }
    Ok(())
}

/// Writes CSV rows: text as it is, quoted where it must be; other values as in JSON.
///
/// NULL is an empty field and the empty string is `""`, which arrow-csv cannot tell apart; structs and lists are JSON.
pub struct CsvWriter<'a> {
    columns: Vec<(Writer<'a>, bool)>,
}

impl<'a> CsvWriter<'a> {
    /// Prepares the columns of a batch.
    pub fn new(batch: &'a RecordBatch) -> Result<Self, ArrowError> {
        let columns = batch.columns().iter().map(|array| Ok((Writer::new(array.as_ref())?, array.data_type().is_nested())));
        Ok(CsvWriter { columns: columns.collect::<Result<_, ArrowError>>()? })
    }

    /// Appends a row's fields without a line end.
    pub fn write_row(&self, row: usize, out: &mut Vec<u8>) {
        let mut json = Vec::new();
        for (place, (writer, nested)) in self.columns.iter().enumerate() {
            if place > 0 {
                out.push(b',');
            }
            if writer.is_null(row) {
                continue;
            }
            if let Some(text) = writer.text(row) {
                push_csv_text(text.as_bytes(), out);
                continue;
            }
            if let Some(bytes) = writer.bytes(row) {
                out.extend_from_slice(b"\\x");
                value::push_hex(bytes, out);
                continue;
            }
            json.clear();
            writer.write(row, &mut json);
            if *nested {
                push_csv_text(&json, out);
            } else {
                out.extend_from_slice(json.strip_prefix(b"\"").and_then(|json| json.strip_suffix(b"\"")).unwrap_or(&json));
            }
        }
    }
}

/// Appends a CSV line for each row, after a header line if asked for.
pub fn csv(batch: &RecordBatch, header: bool, out: &mut Vec<u8>) -> Result<(), ArrowError> {
    if header {
        csv_header(batch.schema_ref().fields().iter().map(|field| field.name().as_str()), out);
    }
    let writer = CsvWriter::new(batch)?;
    for row in 0..batch.num_rows() {
        writer.write_row(row, out);
        out.push(b'\n');
    }
    Ok(())
}

/// Appends a CSV header line.
pub fn csv_header<'a>(names: impl Iterator<Item = &'a str>, out: &mut Vec<u8>) {
    for (place, name) in names.enumerate() {
        if place > 0 {
            out.push(b',');
        }
        push_csv_text(name.as_bytes(), out);
    }
    out.push(b'\n');
}

fn push_csv_text(text: &[u8], out: &mut Vec<u8>) {
    if !text.is_empty() && !text.iter().any(|byte| matches!(byte, b',' | b'"' | b'\n' | b'\r')) {
        out.extend_from_slice(text);
        return;
    }
    out.push(b'"');
    for byte in text {
        if *byte == b'"' {
            out.push(b'"');
        }
        out.push(*byte);
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests;
