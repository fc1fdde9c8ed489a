//! A topic as a sink: the options, and what the messages look like.

mod encode;
mod progress;
mod publisher;

use std::time::Duration;

use arrow::datatypes::Schema;
use highwater_connectors::format::encode::{Encoding, Part, SchemaError, sink_message_fields};
use highwater_connectors::sink::{COMMON_FIELDS, Delivery, SinkConnector, SinkSpec, SinkTarget};
use highwater_plan::{Diagnostic, Field, OptionReader, Span};
use rdkafka::consumer::BaseConsumer;

use self::encode::{Encoder, Form};
use self::publisher::KafkaPublisher;
use crate::client::{CLIENT_FIELDS, Cluster, Divided, Log, Owned, PATIENCE, UNREACHABLE, partitions_of, topic_refused};

/// `connector = 'kafka'`, out.
///
/// Epochs are published whole. `exactly_once`: in one transaction with a record in the progress topic of how far publishing
/// got. `at_least_once`: as they close, each message with an idempotency key.
#[derive(Debug, Clone, Copy)]
pub struct KafkaSink;

const FIELDS: &[Field] = &[
    Field { key: "topic", about: "the topic to write; it must exist" },
    Field { key: "key", about: "columns, separated by commas, that the messages' keys have; default those that identify a row" },
    Field {
        key: "format",
        about: "json (rows), changelog (rows with op and epoch), upsert (rows by key, nothing for a deleted one), debezium, debezium-avro, avro or protobuf (rows, by key if they change), or raw (one column as it is); default what of JSON fits the rows",
    },
    Field { key: "partitioner", about: "murmur2 (as Java's producers, the default), crc32, fnv1a or random" },
    Field {
        key: "transaction_timeout",
        about: "how long a transaction may stay open before the broker aborts it; default 1 minute",
    },
    Field { key: "progress_topic", about: "where it is written how far publishing got; default __highwater_progress" },
];

/// Properties of librdkafka that the options stand for, or that delivery relies on.
const OWNED: &[Owned] = &[
    ("bootstrap.servers", "say brokers = '...'"),
    ("transactional.id", "leave it out: it is made of the job's and the sink's name, so that no two run at once"),
    ("transaction.timeout.ms", "say transaction_timeout = '...'"),
    ("partitioner", "say partitioner = '...'"),
    ("enable.idempotence", "leave it out: it is always on"),
    ("acks", "leave it out: all in-sync replicas acknowledge"),
    ("request.required.acks", "leave it out: all in-sync replicas acknowledge"),
];

/// Where it is written how far publishing got, unless the statement says another place.
const PROGRESS_TOPIC: &str = "__highwater_progress";

/// How long validating waits for brokers.
const GLANCE: Duration = Duration::from_secs(3);

/// What the options say.
#[derive(Debug, Clone)]
struct KafkaOptions {
    cluster: Cluster,
    topic: String,
    topic_place: Option<Span>,
    progress_topic: String,
    partitioner: &'static str,
    transaction_timeout_ms: u64,
    delivery: Delivery,
    /// Tells this sink's records from those of others: `job/sink`.
    owner: String,
    /// By which older processes of the same sink are fenced.
    transactional_id: String,
}

impl SinkConnector for KafkaSink {
    fn name(&self) -> &'static str {
        "kafka"
    }

    fn fields(&self) -> Vec<Field> {
        [CLIENT_FIELDS, FIELDS, &sink_message_fields(), COMMON_FIELDS].concat()
    }

    fn publishes_exactly_once(&self) -> bool {
        true
    }

    fn validate(&self, spec: &SinkSpec) -> Result<(), Diagnostic> {
        let (options, encoder) = read(spec)?;
        match options.check_topic(GLANCE) {
            // That nobody answers says nothing of the statement: it may be looked at where the brokers cannot be reached.
            Err(error) if error.code == UNREACHABLE => {}
            result => result?,
        }
        answered(encoder.check(), spec)
    }

    fn open(&self, spec: &SinkSpec) -> Result<SinkTarget, Diagnostic> {
        let (options, encoder) = read(spec)?;
        options.check_topic(PATIENCE)?;
        answered(encoder.register(), spec)?;
        Ok(SinkTarget::Publisher(Box::new(KafkaPublisher::new(options, encoder))))
    }
}

/// What the registry says of the schemas. One that does not answer says nothing: publishing waits for it.
fn answered(result: Result<(), SchemaError>, spec: &SinkSpec) -> Result<(), Diagnostic> {
    let place = spec.options.entry("schema_registry").and_then(|entry| entry.value_span).or(spec.options.span);
    match result {
        Err(error) if error.fatal => Err(Diagnostic::error("registry-refused", error.message).at(place).help(
            "change the columns so that old and new schema go together, write to another subject (schema_registry.subject), or \
             change the subject's rules in the registry",
        )),
        Err(error) => {
            tracing::warn!(sink = spec.name, "{}", error.message);
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

fn read(spec: &SinkSpec) -> Result<(KafkaOptions, Encoder), Diagnostic> {
    let divided = Divided::new(&spec.options, &[("properties.bootstrap.servers", "brokers")]);
    let of_messages = sink_message_fields();
    let reader = OptionReader::new(&divided.options, "connector 'kafka'", &[CLIENT_FIELDS, FIELDS, &of_messages, COMMON_FIELDS])?;
    let topic = reader.required("topic")?.to_owned();
    let key = key_columns(&reader, spec)?;
    let (form, language) = form(&reader, spec, key.as_deref())?;
    let (key, value) = language.encodings(&reader, spec, &topic, key, form)?;
    let partitioners =
        [("murmur2", "murmur2_random"), ("crc32", "consistent_random"), ("fnv1a", "fnv1a_random"), ("random", "random")];
    let timeout = reader.duration("transaction_timeout")?.map_or(60_000, |timeout| timeout.as_millis() as u64);
    if !(1_000..=i32::MAX as u64).contains(&timeout) {
        return Err(
            reader.invalid("transaction_timeout", "at least 1 second, and no more than the broker's transaction.max.timeout.ms")
        );
    }
    let progress_topic = reader.optional("progress_topic").unwrap_or(PROGRESS_TOPIC).to_owned();
    if progress_topic.is_empty() || progress_topic == topic {
        return Err(reader.invalid("progress_topic", "the name of a topic of its own"));
    }
    let owner = format!("{}/{}", in_path(&spec.job), in_path(&spec.name));
    let options = KafkaOptions {
        cluster: Cluster::read(format!("sink '{}'", spec.name), &reader, &divided, OWNED)?,
        topic,
        topic_place: divided.options.entry("topic").and_then(|entry| entry.value_span).or(divided.options.span),
        progress_topic,
        partitioner: reader.choice("partitioner", &partitioners)?.unwrap_or("murmur2_random"),
        transaction_timeout_ms: timeout,
        delivery: spec.delivery(true)?,
        transactional_id: format!("highwater-{owner}"),
        owner,
    };
    let at_least_once = options.delivery == Delivery::AtLeastOnce;
    let encoder = Encoder::new(form, key, value, (&spec.job, &spec.name), at_least_once);
    Ok((options, encoder))
}

/// A name as part of a path: no two pairs of names have the same path.
fn in_path(name: &str) -> String {
    name.replace('%', "%25").replace('/', "%2F")
}

/// The columns of the messages' keys.
fn key_columns(reader: &OptionReader<'_>, spec: &SinkSpec) -> Result<Option<Vec<usize>>, Diagnostic> {
    let Some(names) = reader.optional("key") else { return Ok(spec.key.clone().filter(|key| !key.is_empty())) };
    let mut columns = Vec::new();
    for name in names.split(',').map(str::trim) {
        let column = spec.schema.fields().iter().position(|field| field.name() == name);
        let column = column.ok_or_else(|| reader.invalid("key", format!("columns of the sink; there is no '{name}'")))?;
        if columns.contains(&column) {
            return Err(reader.invalid("key", "each column once"));
        }
        columns.push(column);
    }
    Ok(Some(columns))
}

/// What messages are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Language {
    Json,
    Avro,
    Protobuf,
    Raw,
}

/// The columns of keys, and those of values if these are not all, each with how they are written.
type KeyAndValue = (Option<(Vec<usize>, Encoding)>, (Option<Vec<usize>>, Encoding));

impl Language {
    /// How keys and values are written, and of which columns.
    fn encodings(
        self,
        reader: &OptionReader<'_>,
        spec: &SinkSpec,
        topic: &str,
        key: Option<Vec<usize>>,
        form: Form,
    ) -> Result<KeyAndValue, Diagnostic> {
        let languages = [("json", Language::Json), ("avro", Language::Avro), ("raw", Language::Raw)];
        let of_keys = reader.choice("key.format", &languages)?;
        for field in sink_message_fields().iter().filter(|field| reader.optional(field.key).is_some()) {
            let fits = match (field.key.split('.').next(), self) {
                (Some("key"), _) => key.is_some(),
                (Some("protobuf"), language) => language == Language::Protobuf,
                (Some("avro"), language) => language == Language::Avro || of_keys == Some(Language::Avro),
                (_, language) => matches!(language, Language::Avro | Language::Protobuf) || of_keys == Some(Language::Avro),
            };
            if !fits {
                let needs =
                    if field.key == "key.format" { "a key beside it: key = '...'" } else { "a format beside it that it is for" };
                return Err(reader.invalid(field.key, needs));
            }
        }
        let avro =
            |columns: &Schema, part: Part| Encoding::avro(reader, &spec.options, columns.fields(), &spec.name, topic, part);
        let project = |columns: &[usize]| spec.schema.project(columns).expect("they are of these columns");
        let (of_values, value) = match self {
            Language::Json => (None, Encoding::Json),
            Language::Avro => {
                let part = if form == Form::Debezium { Part::Change } else { Part::Row };
                (None, avro(&spec.schema, part)?)
            }
            Language::Protobuf => (None, Encoding::protobuf(reader, &spec.options, spec.schema.fields(), &spec.name, topic)?),
            Language::Raw => {
                let others = |key: &Vec<usize>| (0..spec.schema.fields().len()).filter(|at| !key.contains(at)).collect();
                let beside: Option<Vec<usize>> = key.as_ref().map(others).filter(|others: &Vec<usize>| !others.is_empty());
                let columns = beside.as_deref().map_or_else(|| spec.schema.clone(), |columns| project(columns).into());
                let value = Encoding::raw(&spec.options, &columns)?;
                (beside, value)
            }
        };
        let key = key.map(|key| {
            let default = match (self, &key[..]) {
                (Language::Avro, _) => Language::Avro,
                (Language::Raw, [_]) => Language::Raw,
                _ => Language::Json,
            };
            let encoding = match of_keys.unwrap_or(default) {
                Language::Avro => avro(&project(&key), Part::Key)?,
                Language::Raw => Encoding::raw(&spec.options, &project(&key).into())?,
                Language::Json | Language::Protobuf => Encoding::Json,
            };
            Ok((key, encoding))
        });
        Ok((key.transpose()?, (of_values, value)))
    }
}

fn form(reader: &OptionReader<'_>, spec: &SinkSpec, key: Option<&[usize]>) -> Result<(Form, Language), Diagnostic> {
    // Formats that are as well rows as upserts.
    let fitting = if spec.append_only { Form::Rows } else { Form::Upsert };
    let forms = [
        ("json", (Form::Rows, Language::Json)),
        ("changelog", (Form::Changelog, Language::Json)),
        ("upsert", (Form::Upsert, Language::Json)),
        ("debezium", (Form::Debezium, Language::Json)),
        ("avro", (fitting, Language::Avro)),
        ("debezium-avro", (Form::Debezium, Language::Avro)),
        ("protobuf", (fitting, Language::Protobuf)),
        ("raw", (fitting, Language::Raw)),
    ];
    let default = match (spec.append_only, key) {
        (true, _) => Form::Rows,
        (false, Some(_)) => Form::Upsert,
        (false, None) => Form::Changelog,
    };
    let (form, language) = reader.choice("format", &forms)?.unwrap_or((default, Language::Json));
    let name = reader.optional("format").unwrap_or("upsert");
    let refused = |message: &str, help: &str| {
        let entry = spec.options.entry("format").and_then(|entry| entry.value_span);
        Err(Diagnostic::error("invalid-option", message).at(entry.or(spec.options.span)).help(help))
    };
    match (form, key) {
        (Form::Rows, _) if !spec.append_only => refused(
            "format 'json' cannot say that a row is taken back, and rows of this sink are",
            "say upsert, changelog or debezium, or EMIT FINAL if the rows are of windows",
        ),
        (Form::Upsert, None) => refused(
            &match language {
                Language::Json => "format 'upsert' needs a key, and no columns are known to identify a row".to_owned(),
                _ => format!("format '{name}' needs a key where rows are taken back, and no columns are known to identify a row"),
            },
            match language {
                Language::Json => "name them with key = '...', or say changelog",
                Language::Avro | Language::Protobuf | Language::Raw => "name them with key = '...', or say debezium-avro",
            },
        ),
        // Two rows of the result with one key would replace each other.
        (Form::Upsert, Some(key)) if spec.key.as_ref().is_some_and(|own| !own.iter().all(|column| key.contains(column))) => {
            let names: Vec<&str> = spec.key.iter().flatten().map(|column| spec.schema.field(*column).name().as_str()).collect();
            refused(
                &format!("the key of format '{name}' does not identify a row: others with the same key would be lost"),
                &format!("a row is identified by {}: leave 'key' out, or name them, too", names.join(", ")),
            )
        }
        _ => Ok((form, language)),
    }
}

impl KafkaOptions {
    /// Whether the topic is there. A consumer asks: a producer's question would make the topic.
    fn check_topic(&self, patience: Duration) -> Result<(), Diagnostic> {
        let mut config = self.cluster.config();
        config.set("allow.auto.create.topics", "false");
        let client: BaseConsumer<Log> =
            config.create_with_context(Log::default()).map_err(|error| self.cluster.refused(&error))?;
        let metadata = self.cluster.metadata(&client, &self.topic, patience)?;
        match metadata.topics().first().map(partitions_of) {
            Some(Ok(_)) => Ok(()),
            Some(Err(code)) => Err(topic_refused(&self.topic, code, self.topic_place)),
            None => Err(topic_refused(&self.topic, rdkafka::error::RDKafkaErrorCode::UnknownTopic, self.topic_place)),
        }
    }
}
