//! Rows as messages, in whatever format: what a sink's options say, and the schemas it registers.

use std::io::Write as _;
use std::sync::{Arc, OnceLock};

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, FieldRef, Fields, SchemaRef};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use highwater_plan::{Diagnostic, Field, OptionReader, Options};
use highwater_schemas::{Kind, Messages, RegistryError, Schema};

use super::RowWriter;
use super::avro::{self, Shape, Unwritable, Writer};
use super::protobuf;
use crate::format::messages::descriptors;
use crate::format::schemas::{REGISTRY_FIELDS, Subjects};
use crate::format::{column, raw};

/// The options of formats that sinks of messages have.
pub fn sink_message_fields() -> Vec<Field> {
    [FIELDS, REGISTRY_FIELDS].concat()
}

const FIELDS: &[Field] = &[
    Field {
        key: "key.format",
        about: "json, avro or raw: how messages' keys are written; default json, avro beside avro, raw beside raw",
    },
    Field { key: "protobuf.descriptor_file", about: "a set of descriptors that has the message to write" },
    Field { key: "protobuf.message", about: "the name of the message; default the first of the schema" },
    Field { key: "avro.record_name", about: "the name of the schema's record, with its namespace; default the sink's" },
    Field {
        key: "schema_registry.register",
        about: "whether the schema is registered (the default); false: it must be a version of its subject already",
    },
];

/// How rows become the keys or the values of messages.
#[derive(Debug, Clone)]
pub enum Encoding {
    /// Objects of JSON.
    Json,
    /// Records of Avro.
    Avro(Arc<AvroEncoding>),
    /// Messages of Protobuf.
    Protobuf(Arc<ProtobufEncoding>),
    /// The only column, as it is.
    Raw,
}

/// Records of Avro, and the schema that says so.
#[derive(Debug)]
pub struct AvroEncoding {
    shape: Shape,
    schema: Schema,
    registry: Option<Registration>,
    /// Given by the registry.
    id: OnceLock<u32>,
}

#[derive(Debug)]
struct Registration {
    subjects: Subjects,
    subject: String,
    register: bool,
}

/// Whose schema it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Of messages' keys.
    Key,
    /// Of messages' values, which are rows.
    Row,
    /// Of messages' values, which are changes of rows.
    Change,
}

/// Why a schema cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SchemaError {
    /// Lower case, names the registry or the subject.
    pub message: String,
    /// Whether asking again cannot help.
    pub fatal: bool,
}

impl Encoding {
    /// Records of Avro with these columns, in messages of `topic`; `name`: the sink's. Nothing is registered yet.
    ///
    /// Errors: columns that no schema has, at the place of `options`.
    pub fn avro(
        reader: &OptionReader<'_>,
        options: &Options,
        columns: &Fields,
        name: &str,
        topic: &str,
        part: Part,
    ) -> Result<Encoding, Diagnostic> {
        let given = reader.optional("avro.record_name");
        if given.is_some_and(|name| !name.split('.').all(avro::is_name)) {
            return Err(reader.invalid("avro.record_name", "a name such as Order or com.example.Order"));
        }
        let base = given.map_or_else(|| in_letters(name), str::to_owned);
        let record = if part == Part::Key { format!("{base}_key") } else { base };
        let shape = Shape::record(&record, columns).map_err(|Unwritable { column, what, help }| {
            Diagnostic::error("unsupported-type", format!("column '{column}' cannot be written as Avro: {what}"))
                .at(options.span)
                .help(help)
        })?;
        let (json, shape) = if part == Part::Change { shape.envelope() } else { (shape.json(), shape) };
        let register = reader.flag("schema_registry.register", true)?;
        let registry = Subjects::from_options(reader)?.map(|subjects| {
            let subject = if part == Part::Key { subjects.key(topic) } else { subjects.value(topic) };
            Registration { subjects, subject, register }
        });
        let schema = Schema { kind: Kind::Avro, text: json.to_string(), references: Vec::new() };
        Ok(Encoding::Avro(Arc::new(AvroEncoding { shape, schema, registry, id: OnceLock::new() })))
    }

    /// Messages of Protobuf with these columns: of the type that a file of descriptors has, or the latest schema of the topic's
    /// subject, or of one that is made of the columns and registered.
    pub fn protobuf(
        reader: &OptionReader<'_>,
        options: &Options,
        columns: &Fields,
        name: &str,
        topic: &str,
    ) -> Result<Encoding, Diagnostic> {
        let columns: Vec<FieldRef> = columns.iter().cloned().collect();
        let message = reader.optional("protobuf.message").map(str::to_owned);
        let refused = |what: SchemaError| {
            Diagnostic::error("schema-mismatch", what.message).at(options.span).help("change the columns, or the schema")
        };
        let subjects = Subjects::from_options(reader)?;
        let encoding = match (descriptors(reader)?, subjects) {
            (Some(_), Some(_)) => {
                return Err(reader.invalid("protobuf.descriptor_file", "either a file or schema_registry"));
            }
            (None, None) => {
                return Err(reader.invalid(
                    "format",
                    "beside it schema_registry = 'http://host:port', or the message's type: protobuf.descriptor_file",
                ));
            }
            (Some(all), None) => {
                let plan = ProtobufPlan::new(&all, message.as_deref(), &columns, "the file of descriptors", None);
                let plan = OnceLock::from(plan.map_err(refused)?);
                ProtobufEncoding { columns, message, derived: None, registry: None, plan }
            }
            (None, Some(subjects)) => {
                let register = reader.flag("schema_registry.register", true)?;
                let own = message.clone().unwrap_or_else(|| in_letters(name));
                let derived = protobuf::derived(&own, &columns).map_err(|Unwritable { column, what, help }| {
                    Diagnostic::error("unsupported-type", format!("column '{column}' cannot be written as Protobuf: {what}"))
                        .at(options.span)
                        .help(help)
                })?;
                let registry = Registration { subject: subjects.value(topic), subjects, register };
                let derived = Schema { kind: Kind::Protobuf, text: derived, references: Vec::new() };
                ProtobufEncoding { columns, message, derived: Some(derived), registry: Some(registry), plan: OnceLock::new() }
            }
        };
        Ok(Encoding::Protobuf(Arc::new(encoding)))
    }

    /// The only one of these columns. Errors: there are several, or it has a type that no raw message is.
    pub fn raw(options: &Options, columns: &SchemaRef) -> Result<Encoding, Diagnostic> {
        let wrong = |message: String, help: &str| Err(Diagnostic::error("invalid-schema", message).at(options.span).help(help));
        match &columns.fields()[..] {
            [field] if raw::fits(field.data_type()) => Ok(Encoding::Raw),
            [field] => {
                let data_type = column::sql_type(field.data_type());
                let message = format!("column '{}' has type {data_type}, which cannot be a raw message", field.name());
                wrong(message, "cast it to BYTEA, VARCHAR, BOOLEAN or a type of numbers")
            }
            fields => wrong(
                format!("a message in format 'raw' is one column, and there are {}", fields.len()),
                "select one column, or one beside those of the key",
            ),
        }
    }

    /// The schema that is made of the columns, if one is.
    pub fn schema(&self) -> Option<&str> {
        match self {
            Encoding::Avro(avro) => Some(&avro.schema.text),
            Encoding::Protobuf(protobuf) => protobuf.derived.as_ref().map(|schema| schema.text.as_str()),
            Encoding::Json | Encoding::Raw => None,
        }
    }

    /// Looks whether the registry would take the schema; changes nothing.
    pub fn check(&self) -> Result<(), SchemaError> {
        let avro = match self {
            Encoding::Avro(avro) => avro,
            Encoding::Protobuf(protobuf) => return protobuf.latest().map(drop),
            Encoding::Json | Encoding::Raw => return Ok(()),
        };
        let Some(Registration { subjects, subject, register }) = &avro.registry else { return Ok(()) };
        let registry = subjects.schemas.registry();
        if !register {
            return registry.find(subject, &avro.schema).map(drop).map_err(|error| refused(&avro.schema, subject, error));
        }
        let objections = registry.objections(subject, &avro.schema).map_err(|error| refused(&avro.schema, subject, error))?;
        if objections.is_empty() {
            Ok(())
        } else {
            Err(refused(&avro.schema, subject, RegistryError::Refused(objections.join("; "))))
        }
    }

    /// Makes sure that the schema has an id: asks the registry, and waits for it. Not before that are there messages.
    pub fn register(&self) -> Result<(), SchemaError> {
        let avro = match self {
            Encoding::Avro(avro) => avro,
            Encoding::Protobuf(protobuf) => return protobuf.register(),
            Encoding::Json | Encoding::Raw => return Ok(()),
        };
        let Some(Registration { subjects, subject, register }) = &avro.registry else { return Ok(()) };
        if avro.id.get().is_some() {
            return Ok(());
        }
        let registry = subjects.schemas.registry();
        let id = if *register { registry.register(subject, &avro.schema) } else { registry.find(subject, &avro.schema) };
        let id = id.map_err(|error| refused(&avro.schema, subject, error))?;
        avro.id.get_or_init(|| id);
        Ok(())
    }

    /// Prepares the rows of a batch; errors are types that have no such message.
    pub fn writer<'a>(&'a self, batch: &'a RecordBatch) -> Result<MessageWriter<'a>, ArrowError> {
        Ok(MessageWriter(match self {
            Encoding::Json => Rows::Json(RowWriter::new(batch)?),
            Encoding::Avro(avro) => Rows::Avro(Box::new(Writer::record(&avro.shape, batch.columns())?), avro),
            Encoding::Protobuf(protobuf) => {
                let plan = protobuf.plan.get().expect("schemas are registered before anything is written");
                Rows::Protobuf(protobuf::Writer::new(&plan.shape, batch.columns())?, plan)
            }
            Encoding::Raw => {
                let column = batch.columns().first().ok_or_else(|| ArrowError::SchemaError("no column".to_owned()))?;
                let plainer = match column.data_type() {
                    DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
                    DataType::LargeBinary | DataType::BinaryView => DataType::Binary,
                    other => other.clone(),
                };
                Rows::Raw(arrow::compute::cast(column, &plainer)?)
            }
        }))
    }
}

/// Messages of Protobuf, and their type.
#[derive(Debug)]
pub struct ProtobufEncoding {
    columns: Vec<FieldRef>,
    /// Which message, if the statement says so.
    message: Option<String>,
    /// A schema of the columns, if the registry has none.
    derived: Option<Schema>,
    registry: Option<Registration>,
    plan: OnceLock<ProtobufPlan>,
}

#[derive(Debug)]
struct ProtobufPlan {
    shape: protobuf::Shape,
    /// What stands in front of each message.
    prefix: Vec<u8>,
}

impl ProtobufPlan {
    /// `id`: of the schema in a registry, if it is in one.
    fn new(
        all: &Messages,
        message: Option<&str>,
        columns: &[FieldRef],
        what: &str,
        id: Option<u32>,
    ) -> Result<ProtobufPlan, SchemaError> {
        let fatal = |message: String| SchemaError { message, fatal: true };
        let found = match message {
            Some(name) => all.find(name).ok_or_else(|| fatal(format!("{what} has no message '{name}'")))?,
            None => all.at(&[0]).ok_or_else(|| fatal(format!("{what} has no message")))?,
        };
        let shape = protobuf::Shape::of(all, found, columns).map_err(|Unwritable { column, what: why, help }| {
            fatal(format!("{what} does not fit column '{column}': {why}; {help}"))
        })?;
        let mut prefix = Vec::new();
        if let Some(id) = id {
            let path =
                all.path(found).ok_or_else(|| fatal(format!("{what} imports the message, and does not have it itself")))?;
            prefix.push(0);
            prefix.extend_from_slice(&id.to_be_bytes());
            protobuf::path(&path, &mut prefix);
        }
        Ok(ProtobufPlan { shape, prefix })
    }
}

impl ProtobufEncoding {
    /// How messages of the subject's latest schema are written, if it has one.
    fn latest(&self) -> Result<Option<ProtobufPlan>, SchemaError> {
        let Some(Registration { subjects, subject, register }) = &self.registry else { return Ok(None) };
        match subjects.schemas.registry().latest(subject) {
            Ok(latest) => self.plan(&latest.schema, latest.id, &format!("schema {} of subject '{subject}'", latest.id)).map(Some),
            Err(RegistryError::Unknown(_)) if *register => Ok(None),
            Err(error) => Err(refused(self.derived.as_ref().expect("it is made beside a registry"), subject, error)),
        }
    }

    fn plan(&self, schema: &Schema, id: u32, what: &str) -> Result<ProtobufPlan, SchemaError> {
        let fatal = |message: String| SchemaError { message, fatal: true };
        if schema.kind != Kind::Protobuf {
            return Err(fatal(format!("{what} is {:?}, not Protobuf", schema.kind)));
        }
        let all = Messages::compile(schema).map_err(|why| fatal(format!("{what} is not understood: {why}")))?;
        ProtobufPlan::new(&all, self.message.as_deref(), &self.columns, what, Some(id))
    }

    fn register(&self) -> Result<(), SchemaError> {
        let Some(Registration { subjects, subject, .. }) = &self.registry else { return Ok(()) };
        if self.plan.get().is_some() {
            return Ok(());
        }
        let plan = match self.latest()? {
            Some(plan) => plan,
            None => {
                let derived = self.derived.as_ref().expect("it is made beside a registry");
                let id =
                    subjects.schemas.registry().register(subject, derived).map_err(|error| refused(derived, subject, error))?;
                self.plan(derived, id, "the schema of the columns")?
            }
        };
        self.plan.get_or_init(|| plan);
        Ok(())
    }
}

fn refused(schema: &Schema, subject: &str, error: RegistryError) -> SchemaError {
    match error {
        RegistryError::Unreachable(message) => SchemaError { message, fatal: false },
        RegistryError::Forbidden(message) => SchemaError { message, fatal: true },
        RegistryError::Unknown(why) => {
            let message = format!(
                "subject '{subject}' does not have the schema of the sink's columns: {why}; register it, or say \
                 schema_registry.register = 'true': {}",
                schema.text
            );
            SchemaError { message, fatal: true }
        }
        RegistryError::Refused(why) => SchemaError {
            message: format!("subject '{subject}' does not take the schema of the sink's columns: {why}"),
            fatal: true,
        },
    }
}

/// A name with nothing in it but what Avro takes.
fn in_letters(name: &str) -> String {
    let letters: String = name.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '_' }).collect();
    if avro::is_name(&letters) { letters } else { format!("_{letters}") }
}

/// Writes the rows of a batch.
pub struct MessageWriter<'a>(Rows<'a>);

enum Rows<'a> {
    /// Objects.
    Json(RowWriter<'a>),
    /// Records.
    Avro(Box<Writer>, &'a AvroEncoding),
    /// Messages.
    Protobuf(protobuf::Writer<'a>, &'a ProtobufPlan),
    /// Values of a column.
    Raw(ArrayRef),
}

impl MessageWriter<'_> {
    /// Appends `"name":value,...` for a row without braces, with a comma before, if messages are JSON.
    pub fn write_fields(&self, row: usize, out: &mut Vec<u8>) {
        if let Rows::Json(writer) = &self.0 {
            writer.write_fields(row, false, out);
        }
    }

    /// Whether the message for a row is none, as for a deletion: a raw NULL has no bytes.
    pub fn is_absent(&self, row: usize) -> bool {
        matches!(&self.0, Rows::Raw(column) if column.is_null(row))
    }

    /// Whether one of the rows is [absent](MessageWriter::is_absent).
    pub fn has_absent(&self) -> bool {
        matches!(&self.0, Rows::Raw(column) if column.null_count() > 0)
    }

    /// Appends a whole message.
    pub fn write(&self, row: usize, out: &mut Vec<u8>) {
        self.write_prefix(out);
        self.write_bare(row, out);
    }

    /// Appends what stands in front of a message.
    fn write_prefix(&self, out: &mut Vec<u8>) {
        match &self.0 {
            Rows::Avro(_, encoding) if encoding.registry.is_some() => {
                let id = encoding.id.get().expect("schemas are registered before anything is written");
                out.push(0);
                out.extend_from_slice(&id.to_be_bytes());
            }
            Rows::Protobuf(_, plan) => out.extend_from_slice(&plan.prefix),
            Rows::Avro(..) | Rows::Json(_) | Rows::Raw(_) => {}
        }
    }

    fn write_bare(&self, row: usize, out: &mut Vec<u8>) {
        match &self.0 {
            Rows::Json(writer) => writer.write_object(row, out),
            Rows::Avro(writer, _) => writer.write(row, out),
            Rows::Protobuf(writer, _) => writer.write(row, out),
            Rows::Raw(column) => write_raw(column, row, out),
        }
    }

    /// Appends a change: the row before, the row after, both with their writers, the operation and the time.
    pub fn write_change(
        &self,
        before: Option<(&Self, usize)>,
        after: Option<(&Self, usize)>,
        op: char,
        ms: u64,
        out: &mut Vec<u8>,
    ) {
        match &self.0 {
            Rows::Avro(..) => {
                self.write_prefix(out);
                for part in [before, after] {
                    avro::long(i64::from(part.is_some()), out);
                    if let Some((writer, row)) = part {
                        writer.write_bare(row, out);
                    }
                }
                avro::sized(op.encode_utf8(&mut [0; 4]).as_bytes(), out);
                avro::long(1, out);
                avro::long(i64::try_from(ms).unwrap_or(i64::MAX), out);
            }
            Rows::Json(_) | Rows::Protobuf(..) | Rows::Raw(_) => {
                let part = |part: Option<(&Self, usize)>, out: &mut Vec<u8>| match part {
                    Some((writer, row)) => writer.write_bare(row, out),
                    None => out.extend_from_slice(b"null"),
                };
                out.extend_from_slice(b"{\"before\":");
                part(before, out);
                out.extend_from_slice(b",\"after\":");
                part(after, out);
                // Writing into a vector does not fail.
                let _ = write!(out, ",\"op\":\"{op}\",\"ts_ms\":{ms}}}");
            }
        }
    }
}

fn write_raw(column: &ArrayRef, row: usize, out: &mut Vec<u8>) {
    use arrow::datatypes as t;
    if column.is_null(row) {
        return;
    }
    macro_rules! number {
        ($kind:ty) => {
            out.extend_from_slice(&column.as_primitive::<$kind>().value(row).to_be_bytes())
        };
    }
    match column.data_type() {
        DataType::Utf8 => out.extend_from_slice(column.as_string::<i32>().value(row).as_bytes()),
        DataType::Binary => out.extend_from_slice(column.as_binary::<i32>().value(row)),
        DataType::Boolean => out.push(u8::from(column.as_boolean().value(row))),
        DataType::Int8 => number!(t::Int8Type),
        DataType::Int16 => number!(t::Int16Type),
        DataType::Int32 => number!(t::Int32Type),
        DataType::Int64 => number!(t::Int64Type),
        DataType::UInt8 => number!(t::UInt8Type),
        DataType::UInt16 => number!(t::UInt16Type),
        DataType::UInt32 => number!(t::UInt32Type),
        DataType::UInt64 => number!(t::UInt64Type),
        DataType::Float32 => number!(t::Float32Type),
        DataType::Float64 => number!(t::Float64Type),
        other => unreachable!("raw columns were looked at when the sink was opened: {other}"),
    }
}
