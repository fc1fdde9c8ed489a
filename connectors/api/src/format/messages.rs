//! The formats of messages: those of lines, and those whose schema stands elsewhere.

use std::sync::Arc;

use highwater_plan::{Diagnostic, Field, OptionReader, Options};
use highwater_schemas::{Kind as Language, Schema};

use super::avro::{self, resolve::Misfit};
use super::schemas::{Latest, REGISTRY_FIELDS, Subjects, Whence};
use super::{DecoderSpec, Format, KINDS, Kind, column, protobuf, raw};

/// The options of formats that messages have besides [`FORMAT_FIELDS`](super::FORMAT_FIELDS).
pub fn message_fields() -> Vec<Field> {
    [FIELDS, REGISTRY_FIELDS].concat()
}

const FIELDS: &[Field] = &[
    Field {
        key: "key.format",
        about: "json, avro or raw: how the key of a message without a value names the row it deletes; default json, avro beside avro with a registry, raw beside raw",
    },
    Field { key: "avro.schema", about: "the schema of all messages, as JSON, if there is no registry" },
    Field { key: "avro.schema_file", about: "a file with the schema of all messages, if there is no registry" },
    Field {
        key: "protobuf.descriptor_file",
        about: "a set of descriptors, as protoc --descriptor_set_out --include_imports writes it",
    },
    Field { key: "protobuf.message", about: "the name of the message; needed if there are several" },
    Field { key: "raw.endianness", about: "big-endian (the default) or little-endian: how numbers stand in raw messages" },
];

/// How messages are decoded whose format is not one of lines.
#[derive(Debug, Clone)]
pub(crate) struct Messages {
    pub(crate) values: Option<Whence>,
    /// Where keys' schemas come from, if keys are Avro.
    pub(crate) keys: Option<Whence>,
    /// Whether a key is the value of a column as it is; else, if it is not Avro, it is JSON.
    pub(crate) raw_keys: bool,
    /// What a file has of messages of Protobuf.
    pub(crate) protobuf: Option<Arc<highwater_schemas::Messages>>,
    pub(crate) protobuf_message: Option<String>,
    pub(crate) little: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KeyFormat {
    Json,
    Avro,
    Raw,
}

impl Format {
    /// Reads the options of messages' format; `reader` knows [`message_fields`], too.
    pub fn of_messages(reader: &OptionReader<'_>) -> Result<Format, Diagnostic> {
        const MESSAGES: &[(&str, Kind)] = &[
            ("avro", Kind::Avro { changes: false }),
            ("debezium-avro", Kind::Avro { changes: true }),
            ("protobuf", Kind::Protobuf),
            ("raw", Kind::Raw),
        ];
        let format = Format::read(reader, &[KINDS, MESSAGES].concat())?;
        let is_avro = matches!(format.kind, Kind::Avro { .. });
        for field in message_fields().iter().filter(|field| reader.optional(field.key).is_some()) {
            let (fits, needs) = match field.key.split('.').next() {
                Some("avro") => (is_avro, "avro or debezium-avro"),
                Some("protobuf") => (format.kind == Kind::Protobuf, "protobuf"),
                Some("schema_registry") => (is_avro || format.kind == Kind::Protobuf, "avro, debezium-avro or protobuf"),
                Some("raw") => (format.kind == Kind::Raw || reader.optional("key.format") == Some("raw"), "raw"),
                _ => (true, ""),
            };
            if !fits {
                return Err(reader.invalid(field.key, format!("a format beside it that it is for: {needs}")));
            }
        }
        let subjects = Subjects::from_options(reader)?;
        let fixed = fixed(reader)?;
        let protobuf = descriptors(reader)?;
        let little = reader.choice("raw.endianness", &[("big-endian", false), ("little-endian", true)])?;
        let keys = [("json", KeyFormat::Json), ("avro", KeyFormat::Avro), ("raw", KeyFormat::Raw)];
        let key = reader.choice("key.format", &keys)?;
        let values = match (format.kind, &subjects, fixed) {
            (Kind::Avro { .. }, Some(_), Some((key, _))) => {
                return Err(reader.invalid(key, "either a schema or schema_registry: the registry has the schemas"));
            }
            (Kind::Avro { .. }, Some(subjects), None) => Some(Whence::Registry(subjects.clone())),
            (Kind::Avro { .. }, None, Some((_, schema))) => Some(Whence::Fixed(schema)),
            (Kind::Avro { .. }, None, None) => {
                return Err(reader.invalid(
                    "format",
                    "beside it schema_registry = 'http://host:port', or the schema itself: avro.schema or avro.schema_file",
                ));
            }
            (Kind::Protobuf, Some(_), _) if protobuf.is_some() => {
                return Err(
                    reader.invalid("protobuf.descriptor_file", "either a file or schema_registry: the registry has the schemas")
                );
            }
            (Kind::Protobuf, Some(subjects), _) => Some(Whence::Registry(subjects.clone())),
            (Kind::Protobuf, None, _) if protobuf.is_none() => {
                return Err(reader.invalid(
                    "format",
                    "beside it schema_registry = 'http://host:port', or the messages' types: protobuf.descriptor_file",
                ));
            }
            _ => None,
        };
        let keys = match (key, format.kind, &values) {
            (None, Kind::Avro { .. }, Some(registry @ Whence::Registry(_))) => Some(registry.clone()),
            (Some(KeyFormat::Avro), Kind::Avro { .. }, Some(registry @ Whence::Registry(_))) => Some(registry.clone()),
            (Some(KeyFormat::Avro), ..) => {
                return Err(reader.invalid("key.format", "json: keys are Avro beside values that are, with a schema_registry"));
            }
            _ => None,
        };
        let messages = Messages {
            values,
            keys,
            raw_keys: key == Some(KeyFormat::Raw) || (key.is_none() && format.kind == Kind::Raw),
            protobuf,
            protobuf_message: reader.optional("protobuf.message").map(str::to_owned),
            little: little.unwrap_or(false),
        };
        Ok(Format { messages: Some(Arc::new(messages)), ..format })
    }

    /// Looks whether the columns fit the schema that the statement gives, if it gives one. Errors are at the place of `options`.
    pub fn check(&self, spec: &DecoderSpec, options: &Options) -> Result<(), Diagnostic> {
        let Some(messages) = &self.messages else { return Ok(()) };
        if self.kind == Kind::Raw {
            return raw_columns(spec, options);
        }
        let fits = match (&messages.protobuf, &messages.values) {
            (Some(all), _) => {
                let checked = protobuf::check(all, messages.protobuf_message.as_deref(), &avro::target(spec, &self.rules()));
                checked.map_err(|misfit| mismatch("the file of descriptors", misfit))
            }
            (None, Some(Whence::Fixed(schema))) => self.fits(schema, "the messages' schema", spec),
            _ => Ok(()),
        };
        fits.map_err(|error| error.at(options.span))
    }

    /// Looks whether the columns fit the latest schemas of the messages of `topics`: asks the registry, if there is one, and waits.
    /// That it does not answer, or has none yet, is no mistake.
    pub fn check_registered(&self, spec: &DecoderSpec, topics: &[&str], options: &Options) -> Result<(), Diagnostic> {
        let values = self.messages.as_ref().and_then(|messages| messages.values.as_ref());
        let Some(Whence::Registry(subjects)) = values else { return Ok(()) };
        for topic in topics {
            let subject = subjects.value(topic);
            let latest = subjects.latest(&subject).map_err(|why| {
                let place = options.entry("schema_registry").and_then(|entry| entry.value_span).or(options.span);
                Diagnostic::error("registry-refused", format!("the schema of subject '{subject}' is not told: {why}"))
                    .at(place)
                    .help("check schema_registry.user and password (or token), and what that user may read")
            })?;
            match latest {
                Latest::Known(id, schema) => {
                    let what = format!("schema {id} of subject '{subject}'");
                    self.fits(&schema, &what, spec).map_err(|error| error.at(options.span))?;
                }
                Latest::None => {}
                Latest::Silent(why) => {
                    tracing::warn!(subject, "the columns are not compared with the schema yet: {why}");
                    break;
                }
            }
        }
        Ok(())
    }

    fn fits(&self, schema: &Schema, what: &str, spec: &DecoderSpec) -> Result<(), Diagnostic> {
        let target = avro::target(spec, &self.rules());
        let name = self.messages.as_ref().and_then(|messages| messages.protobuf_message.as_deref());
        let plan = match (self.kind, schema.kind) {
            (Kind::Avro { changes }, Language::Avro) => avro::resolve(schema, &target, changes).map(drop),
            (Kind::Protobuf, Language::Protobuf) => match highwater_schemas::Messages::compile(schema) {
                Ok(all) if name.is_some() || all.names().len() == 1 => protobuf::check(&all, name, &target),
                // Which message it is, each says.
                Ok(_) => Ok(()),
                Err(what) => Err(Misfit {
                    column: String::new(),
                    what: format!("it is not understood: {what}"),
                    help: "register one that protoc takes".to_owned(),
                }),
            },
            // Each message says what it is.
            _ => Ok(()),
        };
        plan.map_err(|misfit| mismatch(what, misfit))
    }
}

fn mismatch(what: &str, misfit: Misfit) -> Diagnostic {
    let Misfit { column, what: why, help } = misfit;
    let message = match column.as_str() {
        "" => format!("{what}: {why}"),
        column => format!("{what} does not fit column '{column}': {why}"),
    };
    Diagnostic::error("schema-mismatch", message).help(help)
}

/// The schema that all messages have, and the option that says so.
fn fixed(reader: &OptionReader<'_>) -> Result<Option<(&'static str, Arc<Schema>)>, Diagnostic> {
    let (key, text) = match (reader.optional("avro.schema"), reader.optional("avro.schema_file")) {
        (Some(_), Some(_)) => return Err(reader.invalid("avro.schema_file", "either a schema or a file with one")),
        (Some(text), None) => ("avro.schema", text.to_owned()),
        (None, Some(path)) => {
            let text = std::fs::read_to_string(path);
            let text = text.map_err(|error| reader.invalid("avro.schema_file", format!("a file that can be read: {error}")))?;
            ("avro.schema_file", text)
        }
        (None, None) => return Ok(None),
    };
    if let Err(what) = avro::schema::Schema::parse(&[], &text) {
        return Err(reader.invalid(key, format!("a schema of Avro: {what}")));
    }
    Ok(Some((key, Arc::new(Schema { kind: Language::Avro, text, references: Vec::new() }))))
}

/// The messages of a file of descriptors.
pub(crate) fn descriptors(reader: &OptionReader<'_>) -> Result<Option<Arc<highwater_schemas::Messages>>, Diagnostic> {
    const KEY: &str = "protobuf.descriptor_file";
    let Some(path) = reader.optional(KEY) else { return Ok(None) };
    let bytes = std::fs::read(path).map_err(|error| reader.invalid(KEY, format!("a file that can be read: {error}")))?;
    let all = highwater_schemas::Messages::from_descriptor_set(&bytes);
    let all = all
        .map_err(|what| reader.invalid(KEY, format!("what protoc --descriptor_set_out --include_imports has written: {what}")))?;
    Ok(Some(Arc::new(all)))
}

fn raw_columns(spec: &DecoderSpec, options: &Options) -> Result<(), Diagnostic> {
    let wrong = |message: String, help: &str| Err(Diagnostic::error("invalid-schema", message).at(options.span).help(help));
    match &spec.schema.fields()[..] {
        [field] if raw::fits(field.data_type()) => Ok(()),
        [field] => wrong(
            format!("column '{}' has type {}, which no raw message is", field.name(), column::sql_type(field.data_type())),
            "declare it as BYTEA, VARCHAR, BOOLEAN or a type of numbers",
        ),
        fields => wrong(
            format!("a message in format 'raw' is one column, and {} are declared", fields.len()),
            "declare one beside those that take METADATA",
        ),
    }
}
