//! Records in, batches out: the decoder that connectors use, whatever the format.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use highwater_plan::Origin;

use super::avro::AvroDecoder;
use super::column::{Column, Unsupported};
use super::csv::CsvDecoder;
use super::json::{self, JsonDecoder};
use super::protobuf::ProtobufDecoder;
use super::raw::{self, RawDecoder};
use super::schemas::Readiness;
use super::{DecoderSpec, Format, Kind};
use crate::source::Waker;

/// Decodes records one after another into a batch.
#[derive(Debug)]
pub struct Decoder {
    format: Format,
    spec: DecoderSpec,
    schema: SchemaRef,
    inner: Inner,
    header: Option<Vec<u8>>,
    /// The records behind the rows, if the origin cannot be the batch itself.
    records: Option<Records>,
}

#[derive(Debug)]
enum Inner {
    Json(JsonDecoder),
    Csv(CsvDecoder),
    Avro(AvroDecoder),
    Protobuf(ProtobufDecoder),
    Raw(RawDecoder),
}

/// The rows of the records since the last batch.
#[derive(Debug)]
pub struct Decoded {
    /// The used columns.
    pub rows: RecordBatch,
    /// Per row +1 or -1; absent: all +1.
    pub diffs: Option<Int64Array>,
    /// The whole rows, if the decoder's spec asked for them.
    pub origin: Option<Arc<dyn Origin>>,
}

impl Decoder {
    pub(super) fn new(format: Format, spec: DecoderSpec) -> Result<Decoder, Unsupported> {
        let used = spec.used.iter().map(|column| spec.schema.field(*column).clone()).collect::<Vec<_>>();
        let schema = Arc::new(arrow::datatypes::Schema::new(used));
        let inner = match format.kind {
            Kind::Json(meaning) => Inner::Json(JsonDecoder::new(&spec, meaning, format.rules())?),
            Kind::Csv => Inner::Csv(CsvDecoder::new(&spec, format.csv.clone(), format.rules())?),
            Kind::Avro { changes } => {
                let messages = format.messages.as_ref().expect("only the options of messages make this kind");
                let values = messages.values.clone().expect("Avro has schemas from somewhere");
                Inner::Avro(AvroDecoder::new(&spec, changes, format.rules(), values, messages.keys.clone())?)
            }
            Kind::Protobuf => {
                let messages = format.messages.as_ref().expect("only the options of messages make this kind");
                Inner::Protobuf(ProtobufDecoder::new(&spec, format.rules(), messages)?)
            }
            Kind::Raw => {
                let little = format.messages.as_ref().is_some_and(|messages| messages.little);
                Inner::Raw(RawDecoder::new(&spec, format.rules(), little)?)
            }
        };
        let keeps_records = spec.keeps_origin && spec.used.len() < spec.schema.fields().len();
        Ok(Decoder { format, spec, schema, inner, header: None, records: keeps_records.then(Records::default) })
    }

    /// Rows since the last batch was taken.
    pub fn rows(&self) -> usize {
        match &self.inner {
            Inner::Json(decoder) => decoder.rows(),
            Inner::Csv(decoder) => decoder.rows(),
            Inner::Avro(decoder) => decoder.rows(),
            Inner::Protobuf(decoder) => decoder.rows(),
            Inner::Raw(decoder) => decoder.rows(),
        }
    }

    /// Whether a message with this value, or with this key and no value, can be decoded now. If not, its schema is asked for,
    /// and `waker` is called when it has come.
    #[inline]
    pub fn readiness(&self, value: Option<&[u8]>, key: Option<&[u8]>, waker: &Waker) -> Readiness {
        match &self.inner {
            Inner::Json(_) | Inner::Csv(_) | Inner::Raw(_) => Readiness::Ready,
            Inner::Avro(decoder) => decoder.readiness(value, key, waker),
            Inner::Protobuf(decoder) => decoder.readiness(value, waker),
        }
    }

    /// Whether a message of white space, or of nothing, may mean a row.
    pub fn takes_blank(&self) -> bool {
        match &self.inner {
            Inner::Json(_) | Inner::Csv(_) => false,
            Inner::Avro(_) | Inner::Protobuf(_) | Inner::Raw(_) => true,
        }
    }

    /// Learns the columns' order from a header record.
    pub fn set_header(&mut self, record: &[u8]) -> Result<(), String> {
        self.header = Some(record.to_vec());
        match &mut self.inner {
            Inner::Csv(decoder) => decoder.set_header(record),
            Inner::Json(_) | Inner::Avro(_) | Inner::Protobuf(_) | Inner::Raw(_) => Ok(()),
        }
    }

    /// Decodes one record, without its line end: no row if it is blank, up to two if it is a change.
    ///
    /// Errors: the reason, with column and byte; the rows before and after are not affected.
    #[inline]
    pub fn decode(&mut self, record: &[u8]) -> Result<(), String> {
        let before = self.rows();
        match &mut self.inner {
            Inner::Json(decoder) => decoder.decode(record)?,
            Inner::Csv(decoder) => decoder.decode(record)?,
            Inner::Avro(decoder) => decoder.decode(record)?,
            Inner::Protobuf(decoder) => decoder.decode(record)?,
            Inner::Raw(decoder) => decoder.decode(record)?,
        }
        let added = self.rows() - before;
        if let Some(records) = &mut self.records {
            records.push(record, added, false);
        }
        Ok(())
    }

    /// Deletes the row of a key, as a message without a value does: a row with the diff -1 of which only the key counts.
    ///
    /// `key` is an object or record with the columns of the primary key, or the value of the only one, as the options say. Errors: the reason; a key
    /// that is incomplete, a table without one, a format without deletions.
    pub fn delete(&mut self, key: &[u8]) -> Result<(), String> {
        let messages = self.format.messages.as_deref();
        let of_avro = match &mut self.inner {
            Inner::Avro(decoder) => decoder.delete(key),
            _ => None,
        };
        let rows = match &mut self.inner {
            Inner::Csv(_) => return Err("a message without a value deletes nothing in format 'csv'".into()),
            Inner::Json(decoder) => decoder.rows_mut(),
            Inner::Avro(decoder) => decoder.rows_mut(),
            Inner::Protobuf(decoder) => decoder.rows_mut(),
            Inner::Raw(decoder) => decoder.rows_mut(),
        };
        match (of_avro, messages) {
            (Some(deleted), _) => deleted?,
            (None, Some(messages)) if messages.raw_keys => raw::delete(rows, key, messages.little)?,
            (None, _) => json::delete(rows, key)?,
        }
        if let Some(records) = &mut self.records {
            records.push(key, 1, true);
        }
        Ok(())
    }

    /// Takes the rows of all records since the last time.
    pub fn take(&mut self) -> Result<Decoded, ArrowError> {
        let rows = self.rows();
        let (columns, diffs) = match &mut self.inner {
            Inner::Json(decoder) => decoder.take(),
            Inner::Csv(decoder) => (decoder.take(), None),
            Inner::Avro(decoder) => decoder.take(),
            Inner::Protobuf(decoder) => decoder.take(),
            Inner::Raw(decoder) => decoder.take(),
        };
        let arrays = columns.iter_mut().map(Column::take).collect::<Result<Vec<ArrayRef>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let rows = RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options)?;
        let origin: Option<Arc<dyn Origin>> = match &mut self.records {
            _ if !self.spec.keeps_origin => None,
            None => Some(Arc::new(BatchOrigin(rows.clone()))),
            Some(records) => Some(Arc::new(RecordOrigin {
                format: self.format.clone(),
                spec: DecoderSpec {
                    used: (0..self.spec.schema.fields().len()).collect(),
                    keeps_origin: false,
                    ..self.spec.clone()
                },
                header: self.header.clone(),
                records: std::mem::take(records),
            })),
        };
        Ok(Decoded { rows, diffs: diffs.map(Int64Array::from), origin })
    }
}

/// An origin of batches that hold every column.
#[derive(Debug)]
pub(crate) struct BatchOrigin(pub(crate) RecordBatch);

impl Origin for BatchOrigin {
    fn rows(&self, rows: &[u32]) -> Result<RecordBatch, ArrowError> {
        take_record_batch(&self.0, &UInt32Array::from(rows.to_vec()))
    }
}

/// Records end to end, and the rows they gave.
#[derive(Debug, Default)]
struct Records {
    bytes: Vec<u8>,
    /// Per record where it ends, and whether it is a key whose row is deleted.
    ends: Vec<(usize, bool)>,
    /// Per row its record, and which of the record's rows it is.
    rows: Vec<(u32, u32)>,
}

impl Records {
    fn push(&mut self, record: &[u8], rows: usize, deletes: bool) {
        if rows > 0 {
            let index = self.ends.len() as u32;
            self.bytes.extend_from_slice(record);
            self.ends.push((self.bytes.len(), deletes));
            self.rows.extend((0..rows as u32).map(|row| (index, row)));
        }
    }

    fn decode(&self, index: u32, decoder: &mut Decoder) -> Result<(), String> {
        let index = index as usize;
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before].0);
        let (end, deletes) = self.ends[index];
        let record = &self.bytes[start..end];
        if deletes { decoder.delete(record) } else { decoder.decode(record) }
    }
}

/// An origin that decodes the records again, all columns this time.
#[derive(Debug)]
struct RecordOrigin {
    format: Format,
    spec: DecoderSpec,
    header: Option<Vec<u8>>,
    records: Records,
}

impl Origin for RecordOrigin {
    fn rows(&self, rows: &[u32]) -> Result<RecordBatch, ArrowError> {
        let unsupported = |error: Unsupported| ArrowError::NotYetImplemented(format!("{error:?}"));
        let mut decoder = Decoder::new(self.format.clone(), self.spec.clone()).map_err(unsupported)?;
        if let Some(header) = &self.header {
            decoder.set_header(header).map_err(ArrowError::ParseError)?;
        }
        // A record may fail now, in a column that was not decoded before: the row is then all it was, in the used columns
        // nothing, so that the caller still gets one row for each it asked for.
        let mut places = Vec::with_capacity(rows.len());
        for row in rows {
            let (record, nth) = self.records.rows[*row as usize];
            let start = decoder.rows() as u32;
            match self.records.decode(record, &mut decoder) {
                Ok(()) => places.push(Some(start + nth)),
                Err(_) => places.push(None),
            }
        }
        let whole = decoder.take()?.rows;
        if places.iter().all(Option::is_some) {
            return take_record_batch(&whole, &UInt32Array::from(places));
        }
        let fields: Vec<_> = whole.schema().fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
        let nullable = RecordBatch::try_new(Arc::new(arrow::datatypes::Schema::new(fields)), whole.columns().to_vec())?;
        take_record_batch(&nullable, &UInt32Array::from(places))
    }
}
