//! Columns that are filled from around a message: its topic, offset, time, key and headers.

use std::fmt;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, Int32Array, Int64Array, MapArray, StringArray, StructArray, TimestampMicrosecondArray, UInt32Array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use highwater_connectors::format::DecoderSpec;
use highwater_connectors::source::SourceSpec;
use highwater_plan::{Diagnostic, Origin};
use rdkafka::message::{Headers, Message};

/// What a column takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Topic,
    Partition,
    Offset,
    Timestamp,
    OfMessage,
    Headers,
}

/// What columns can take.
pub(super) const NAMES: &[&str] = &["topic", "partition", "offset", "timestamp", "key", "headers"];

const KEYS: &[(&str, Key, &str)] = &[
    ("topic", Key::Topic, "VARCHAR"),
    ("partition", Key::Partition, "INT or BIGINT"),
    ("offset", Key::Offset, "BIGINT"),
    ("timestamp", Key::Timestamp, "TIMESTAMP or TIMESTAMPTZ"),
    ("key", Key::OfMessage, "VARCHAR or BYTEA"),
    ("headers", Key::Headers, "MAP<VARCHAR, VARCHAR>, MAP<VARCHAR, BYTEA> or VARCHAR (a JSON object)"),
];

/// Which columns of a source come from where.
#[derive(Debug)]
pub(super) struct Columns {
    /// The physical columns.
    schema: SchemaRef,
    /// The columns of batches.
    used: SchemaRef,
    /// Per used column where it comes from.
    from: Vec<Whence>,
    /// Per physical column where it comes from; the decoder's ones as positions among themselves.
    whole: Vec<Whence>,
    /// The columns that take metadata.
    keys: Vec<Wanted>,
    keeps_origin: bool,
}

#[derive(Debug)]
struct Wanted {
    key: Key,
    data_type: DataType,
    nullable: bool,
}

#[derive(Debug, Clone, Copy)]
enum Whence {
    Decoder(usize),
    /// Index into `keys`.
    Metadata(usize),
}

impl Columns {
    /// Errors: metadata that there is not, or of another type, at the statement's place.
    pub(super) fn new(spec: &SourceSpec) -> Result<Columns, Diagnostic> {
        let mut keys = Vec::new();
        let (mut whole, mut decoded) = (Vec::new(), 0);
        for (index, field) in spec.schema.fields().iter().enumerate() {
            let Some(name) = spec.metadata.get(index).and_then(Option::as_deref) else {
                whole.push(Whence::Decoder(decoded));
                decoded += 1;
                continue;
            };
            let wrong = |message: String| Err(Diagnostic::error("invalid-schema", message).at(spec.options.span));
            let Some((_, key, types)) = KEYS.iter().find(|(known, ..)| *known == name) else {
                let names: Vec<&str> = KEYS.iter().map(|(name, ..)| *name).collect();
                return wrong(format!(
                    "column '{}' takes the metadata '{name}', which connector 'kafka' does not have",
                    field.name()
                ))
                .map_err(|error: Diagnostic| error.help(format!("there are: {}", names.join(", "))));
            };
            if !key.fits(field.data_type()) {
                return wrong(format!("column '{}' takes the metadata '{name}', which is {types}", field.name()))
                    .map_err(|error: Diagnostic| error.help("declare the column with that type"));
            }
            whole.push(Whence::Metadata(keys.len()));
            keys.push(Wanted { key: *key, data_type: field.data_type().clone(), nullable: field.is_nullable() });
        }
        let mut used_decoded = 0;
        let from = spec.used.iter().map(|column| match whole[*column] {
            Whence::Decoder(_) => {
                used_decoded += 1;
                Whence::Decoder(used_decoded - 1)
            }
            metadata => metadata,
        });
        let from: Vec<Whence> = from.collect();
        Ok(Columns { schema: spec.schema.clone(), used: spec.used_schema(), from, whole, keys, keeps_origin: spec.keeps_origin })
    }

    /// What the decoder is for: the columns that come from the message itself.
    pub(super) fn decoder_spec(&self, spec: &SourceSpec) -> DecoderSpec {
        let position = |column: &usize| match self.whole[*column] {
            Whence::Decoder(position) => Some(position),
            Whence::Metadata(_) => None,
        };
        let own: Vec<usize> = (0..self.whole.len()).filter(|column| position(column).is_some()).collect();
        let fields: Vec<_> = own.iter().map(|column| spec.schema.fields()[*column].clone()).collect();
        DecoderSpec {
            schema: Arc::new(Schema::new(fields)),
            used: spec.used.iter().filter_map(position).collect(),
            primary_key: spec.primary_key.iter().filter_map(position).collect(),
            keeps_origin: spec.keeps_origin,
            defaults: own.iter().map(|column| spec.defaults.get(*column).cloned().flatten()).collect(),
        }
    }

    /// What is to be kept of each message.
    pub(super) fn keeper(self: &Arc<Self>) -> Keeper {
        let wanted = |index: usize| {
            self.keeps_origin || self.from.iter().any(|from| matches!(from, Whence::Metadata(other) if *other == index))
        };
        let kept = self.keys.iter().enumerate().map(|(index, Wanted { key, .. })| wanted(index).then(|| Kept::new(*key)));
        Keeper { kept: kept.collect(), columns: Arc::clone(self) }
    }
}

impl Key {
    fn fits(self, data_type: &DataType) -> bool {
        match (self, data_type) {
            (Key::Topic, DataType::Utf8) | (Key::Partition, DataType::Int32 | DataType::Int64) => true,
            (Key::Offset, DataType::Int64) | (Key::Timestamp, DataType::Timestamp(..)) => true,
            (Key::OfMessage | Key::Headers, DataType::Utf8) | (Key::OfMessage, DataType::Binary) => true,
            (Key::Headers, DataType::Map(entries, _)) => match entries.data_type() {
                DataType::Struct(entry) => {
                    let types: Vec<&DataType> = entry.iter().map(|field| field.data_type()).collect();
                    matches!(types[..], [DataType::Utf8, DataType::Utf8 | DataType::Binary])
                }
                _ => false,
            },
            _ => false,
        }
    }
}

/// What is kept of the messages of a batch, a value per row.
pub(super) struct Keeper {
    columns: Arc<Columns>,
    /// Per [`Columns::keys`]; absent if nobody wants it.
    kept: Vec<Option<Kept>>,
}

enum Kept {
    Topic(Arc<str>, usize),
    Partition(i32, usize),
    Offset(Vec<i64>),
    /// Microseconds since 1970.
    Timestamp(Vec<Option<i64>>),
    Key(Texts),
    Headers(HeaderRows),
}

/// Bytes end to end, some absent.
#[derive(Default)]
struct Texts {
    bytes: Vec<u8>,
    ends: Vec<i32>,
    valid: Vec<bool>,
}

#[derive(Default)]
struct HeaderRows {
    names: Texts,
    values: Texts,
    /// Per row how many there are by then.
    ends: Vec<i32>,
}

impl Texts {
    fn push(&mut self, bytes: Option<&[u8]>) {
        self.bytes.extend_from_slice(bytes.unwrap_or_default());
        self.ends.push(self.bytes.len() as i32);
        self.valid.push(bytes.is_some());
    }

    fn take(&mut self, data_type: &DataType) -> Result<ArrayRef, ArrowError> {
        let Texts { bytes, ends, valid } = std::mem::take(self);
        let offsets = offsets(ends);
        let nulls = Some(NullBuffer::from(valid));
        match data_type {
            DataType::Binary => Ok(Arc::new(BinaryArray::try_new(offsets, bytes.into(), nulls)?)),
            _ => Ok(Arc::new(StringArray::try_new(offsets, bytes.into(), nulls)?)),
        }
    }
}

fn offsets(ends: Vec<i32>) -> OffsetBuffer<i32> {
    let mut starts = Vec::with_capacity(ends.len() + 1);
    starts.push(0);
    starts.extend(ends);
    OffsetBuffer::new(starts.into())
}

impl Kept {
    fn new(key: Key) -> Kept {
        match key {
            Key::Topic => Kept::Topic("".into(), 0),
            Key::Partition => Kept::Partition(0, 0),
            Key::Offset => Kept::Offset(Vec::new()),
            Key::Timestamp => Kept::Timestamp(Vec::new()),
            Key::OfMessage => Kept::Key(Texts::default()),
            Key::Headers => Kept::Headers(HeaderRows::default()),
        }
    }

    fn push<M: Message<Headers: Headers>>(&mut self, message: &M) {
        match self {
            Kept::Topic(topic, rows) => {
                if **topic != *message.topic() {
                    *topic = message.topic().into();
                }
                *rows += 1;
            }
            Kept::Partition(number, rows) => {
                *number = message.partition();
                *rows += 1;
            }
            Kept::Offset(offsets) => offsets.push(message.offset()),
            Kept::Timestamp(times) => times.push(message.timestamp().to_millis().map(|millis| millis.saturating_mul(1_000))),
            Kept::Key(keys) => keys.push(message.key()),
            Kept::Headers(rows) => {
                for header in message.headers().into_iter().flat_map(Headers::iter) {
                    rows.names.push(Some(header.key.as_bytes()));
                    rows.values.push(header.value);
                }
                rows.ends.push(rows.names.ends.len() as i32);
            }
        }
    }

    fn take(&mut self, data_type: &DataType) -> Result<ArrayRef, ArrowError> {
        let array: ArrayRef = match self {
            Kept::Topic(topic, rows) => {
                Arc::new(StringArray::from_iter_values(std::iter::repeat_n(&**topic, std::mem::take(rows))))
            }
            Kept::Partition(number, rows) => Arc::new(Int32Array::from(vec![*number; std::mem::take(rows)])),
            Kept::Offset(offsets) => Arc::new(Int64Array::from(std::mem::take(offsets))),
            Kept::Timestamp(times) => Arc::new(TimestampMicrosecondArray::from(std::mem::take(times))),
            Kept::Key(keys) => return keys.take(data_type),
            Kept::Headers(rows) => return rows.take(data_type),
        };
        cast(&array, data_type)
    }
}

impl HeaderRows {
    fn take(&mut self, data_type: &DataType) -> Result<ArrayRef, ArrowError> {
        let ends = std::mem::take(&mut self.ends);
        let DataType::Map(entries, sorted) = data_type else { return self.take_json(&ends) };
        let DataType::Struct(fields) = entries.data_type() else { unreachable!("looked at when the source was opened") };
        let names = self.names.take(fields[0].data_type())?;
        let values = self.values.take(fields[1].data_type())?;
        let pairs = StructArray::try_new(fields.clone(), vec![names, values], None)?;
        Ok(Arc::new(MapArray::try_new(Arc::clone(entries), offsets(ends), pairs, None, *sorted)?))
    }

    fn take_json(&mut self, ends: &[i32]) -> Result<ArrayRef, ArrowError> {
        let (names, values) = (std::mem::take(&mut self.names), std::mem::take(&mut self.values));
        let text = |texts: &Texts, at: usize| {
            let start = at.checked_sub(1).map_or(0, |before| texts.ends[before]) as usize;
            texts.valid[at].then(|| String::from_utf8_lossy(&texts.bytes[start..texts.ends[at] as usize]).into_owned())
        };
        let mut start = 0;
        let rows = ends.iter().map(|end| {
            let all = (start..*end as usize).map(|at| (text(&names, at).unwrap_or_default(), text(&values, at).into()));
            let object: serde_json::Map<String, serde_json::Value> = all.collect();
            start = *end as usize;
            serde_json::Value::Object(object).to_string()
        });
        Ok(Arc::new(StringArray::from_iter_values(rows)))
    }
}

impl Keeper {
    /// Whether the message has what columns of text take.
    pub(super) fn check<M: Message<Headers: Headers>>(&self, message: &M) -> Result<(), String> {
        for (Wanted { key, data_type, nullable }, _) in
            self.columns.keys.iter().zip(&self.kept).filter(|(_, kept)| kept.is_some())
        {
            let absent = match key {
                Key::OfMessage => message.key().is_none(),
                Key::Timestamp => message.timestamp().to_millis().is_none(),
                _ => false,
            };
            if absent && !nullable {
                let what = if *key == Key::OfMessage { "key" } else { "timestamp" };
                return Err(format!("the message has no {what}, but its column is NOT NULL"));
            }
            let is_text = |bytes: Option<&[u8]>| bytes.is_none_or(|bytes| std::str::from_utf8(bytes).is_ok());
            let texts = !matches!(data_type, DataType::Binary) && !data_type.to_string().contains("Binary");
            let good = match key {
                Key::OfMessage => !texts || is_text(message.key()),
                Key::Headers => {
                    !texts || message.headers().into_iter().flat_map(Headers::iter).all(|header| is_text(header.value))
                }
                _ => true,
            };
            if !good {
                let what = if *key == Key::OfMessage { "the key" } else { "a header" };
                return Err(format!("{what} is not UTF-8; declare its column as BYTEA"));
            }
        }
        Ok(())
    }

    /// Keeps what is wanted of a message that gave this many rows.
    pub(super) fn push<M: Message<Headers: Headers>>(&mut self, message: &M, rows: usize) {
        for kept in self.kept.iter_mut().flatten() {
            for _ in 0..rows {
                kept.push(message);
            }
        }
    }

    /// Puts the metadata between the decoder's columns.
    pub(super) fn complete(
        &mut self,
        decoded: RecordBatch,
        origin: Option<Arc<dyn Origin>>,
    ) -> Result<(RecordBatch, Option<Arc<dyn Origin>>), ArrowError> {
        if self.columns.keys.is_empty() {
            return Ok((decoded, origin));
        }
        let take =
            |(kept, wanted): (&mut Option<Kept>, &Wanted)| kept.as_mut().map(|kept| kept.take(&wanted.data_type)).transpose();
        let metadata = self.kept.iter_mut().zip(&self.columns.keys).map(take).collect::<Result<Vec<_>, _>>()?;
        let rows = assemble(&self.columns.used, &self.columns.from, &decoded, &metadata)?;
        let columns = Arc::clone(&self.columns);
        let origin = origin.map(|inner| -> Arc<dyn Origin> { Arc::new(Around { inner, metadata, columns }) });
        Ok((rows, origin))
    }
}

fn assemble(
    schema: &SchemaRef,
    from: &[Whence],
    decoded: &RecordBatch,
    metadata: &[Option<ArrayRef>],
) -> Result<RecordBatch, ArrowError> {
    let column = |from: &Whence| match from {
        Whence::Decoder(index) => Arc::clone(decoded.column(*index)),
        Whence::Metadata(index) => Arc::clone(metadata[*index].as_ref().expect("what is used is kept")),
    };
    let options = RecordBatchOptions::new().with_row_count(Some(decoded.num_rows()));
    RecordBatch::try_new_with_options(schema.clone(), from.iter().map(column).collect(), &options)
}

/// An origin whose rows have the metadata between the columns of another.
struct Around {
    inner: Arc<dyn Origin>,
    metadata: Vec<Option<ArrayRef>>,
    columns: Arc<Columns>,
}

impl fmt::Debug for Around {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Around").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl Origin for Around {
    fn rows(&self, rows: &[u32]) -> Result<RecordBatch, ArrowError> {
        let decoded = self.inner.rows(rows)?;
        let indices = UInt32Array::from(rows.to_vec());
        let taken = |array: &Option<ArrayRef>| array.as_ref().map(|array| take(array, &indices, None)).transpose();
        let metadata = self.metadata.iter().map(taken).collect::<Result<Vec<_>, _>>()?;
        // The decoder may have made its columns nullable, for a row that it could not decode again.
        let fields = self.columns.schema.fields().iter().zip(&self.columns.whole).map(|(field, from)| match from {
            Whence::Decoder(index) => {
                let nullable = field.is_nullable() || decoded.schema().field(*index).is_nullable();
                Arc::new(Field::clone(field).with_nullable(nullable))
            }
            Whence::Metadata(_) => field.clone(),
        });
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        assemble(&schema, &self.columns.whole, &decoded, &metadata)
    }
}
