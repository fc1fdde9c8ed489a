//! Topics as a source: the options, the partitions, and where reading starts.

mod metadata;
mod monitor;
mod reader;
mod start;

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use highwater_connectors::format::{DecoderSpec, FORMAT_FIELDS, Format, message_fields};
use highwater_connectors::source::{
    COMMON_FIELDS, Offset, PartitionId, PartitionReader, Source, SourceConnector, SourceError, SourceSpec, Waker,
};
use highwater_plan::{Diagnostic, Field, OptionReader, Span};
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};

use self::metadata::Columns;
use self::monitor::{Events, Monitor};
use self::reader::Reader;
use self::start::Start;
use crate::client::{
    CLIENT_FIELDS, Cluster, Divided, Log, Owned, PATIENCE, is_forbidden, is_unknown, log, partitions_of, topic_refused,
};

/// `connector = 'kafka'`, in.
///
/// A topic's partitions are the source's: `0`, or `topic/0` if there are several topics. Offsets are Kafka's: the next one to
/// read.
#[derive(Debug, Clone, Copy)]
pub struct KafkaSource;

const FIELDS: &[Field] = &[
    Field { key: "topic", about: "the topic to read; several separated by commas" },
    Field {
        key: "start",
        about: "where reading starts without a checkpoint: earliest (the default), latest, committed (by the group), a time such as 2026-01-31T12:00:00Z, or offsets: 0:42,1:300",
    },
    Field { key: "group", about: "consumer group that is told how far checkpoints got, for others to see" },
    Field { key: "discovery_interval", about: "how often new partitions are looked for; default 10 s" },
    Field { key: "isolation", about: "read_committed (the default) or read_uncommitted" },
    Field { key: "until_end", about: "whether to end at what is the log's end when the source opens; default false" },
];

/// Properties of librdkafka that the options stand for, or that reading relies on.
const OWNED: &[Owned] = &[
    ("bootstrap.servers", "say brokers = '...'"),
    ("group.id", "say group = '...'"),
    ("isolation.level", "say isolation = '...'"),
    ("auto.offset.reset", "say start = '...'; an offset that the log no longer has is an error, not a jump"),
    ("enable.partition.eof", "leave it out: idleness depends on it"),
    ("enable.auto.commit", "leave it out: the group is told after each checkpoint"),
    ("enable.auto.offset.store", "leave it out: the group is told after each checkpoint"),
    ("allow.auto.create.topics", "leave it out, and create the topic first"),
];

/// What the local queues of a source may hold together, unless `properties.queued.max.messages.kbytes` says so for each.
const QUEUED_KBYTES: usize = 64 * 1024;
/// What the queue of a partition may hold at least.
const QUEUED_KBYTES_MIN: usize = 1024;

/// How often new partitions are looked for.
const DISCOVERY_INTERVAL: Duration = Duration::from_secs(10);

/// The consumer of a source.
type Reading = BaseConsumer<Events>;

/// A partition of a topic.
type Place = (Arc<str>, i32);

/// An opened source.
struct Kafka {
    options: KafkaOptions,
    format: Format,
    decoder: DecoderSpec,
    columns: Arc<Columns>,
    spec: SourceSpec,
    consumer: Arc<Reading>,
    /// Runs as long as anybody reads.
    _monitor: Monitor,
    /// The partitions there were when the source was opened, and for a bounded one where each begins and ends.
    opened: HashMap<Place, Option<(i64, i64)>>,
    /// Where reading starts in each of them; asked for once, by the first partition that needs it.
    starts: OnceLock<HashMap<Place, rdkafka::Offset>>,
    starting: Mutex<()>,
    resumes: AtomicBool,
}

/// What the options say, the format's apart.
struct KafkaOptions {
    cluster: Cluster,
    topics: Vec<Arc<str>>,
    topics_place: Option<Span>,
    start: Start,
    group: Option<String>,
    isolation: &'static str,
    until_end: bool,
    discovery_interval: Duration,
}

impl SourceConnector for KafkaSource {
    fn name(&self) -> &'static str {
        "kafka"
    }

    fn fields(&self) -> Vec<Field> {
        [CLIENT_FIELDS, FIELDS, FORMAT_FIELDS, &message_fields(), COMMON_FIELDS].concat()
    }

    fn metadata(&self) -> &'static [&'static str] {
        metadata::NAMES
    }

    fn origins(&self) -> &'static [&'static str] {
        &["topic"]
    }

    fn renamed(&self, partition: &str, was: &[&str]) -> String {
        match was {
            [topic] => format!("{topic}/{partition}"),
            _ => partition.to_owned(),
        }
    }

    fn open(&self, spec: &SourceSpec) -> Result<Box<dyn Source>, Diagnostic> {
        let divided =
            Divided::new(&spec.options, &[("properties.bootstrap.servers", "brokers"), ("properties.group.id", "group")]);
        let of_messages = message_fields();
        let known = [CLIENT_FIELDS, FIELDS, FORMAT_FIELDS, &of_messages, COMMON_FIELDS];
        let reader = OptionReader::new(&divided.options, "connector 'kafka'", &known)?;
        let options = KafkaOptions::read(&spec.name, &reader, &divided)?;
        let format = Format::of_messages(&reader)?;
        if reader.optional("csv.header") == Some("true") {
            return Err(reader.invalid("csv.header", "false: messages have no header, their fields are the columns in order"));
        }
        let columns = Arc::new(Columns::new(spec)?);
        let decoder = columns.decoder_spec(spec);
        format.decoder(&decoder, &spec.options)?;
        format.check(&decoder, &spec.options)?;

        let partitions = options.partitions_now()?;
        options.start.check(&reader, &options.topics, &partitions)?;
        let consumer: Reading = options
            .config(partitions.len())
            .create_with_context(Events::default())
            .map_err(|error| options.cluster.refused(&error))?;
        let mut opened = HashMap::new();
        for place in partitions {
            let end = match options.until_end {
                false => None,
                true => {
                    let ends = consumer.fetch_watermarks(&place.0, place.1, PATIENCE);
                    Some(ends.map_err(|error| options.cluster.refused(&error))?)
                }
            };
            opened.insert(place, end);
        }
        let consumer = Arc::new(consumer);
        let monitor = Monitor::start(&spec.name, Arc::clone(&consumer), options.isolation == "read_committed");
        Ok(Box::new(Topics(Arc::new(Kafka {
            options,
            format,
            decoder,
            columns,
            spec: spec.clone(),
            consumer,
            _monitor: monitor,
            opened,
            starts: OnceLock::new(),
            starting: Mutex::new(()),
            resumes: AtomicBool::new(false),
        }))))
    }
}

impl KafkaOptions {
    fn read(name: &str, reader: &OptionReader<'_>, divided: &Divided) -> Result<KafkaOptions, Diagnostic> {
        let mut topics: Vec<Arc<str>> = Vec::new();
        for topic in reader.required("topic")?.split(',').map(str::trim) {
            if topic.is_empty() || topics.iter().any(|other| **other == *topic) {
                return Err(reader.invalid("topic", "names of topics, each once, separated by commas"));
            }
            topics.push(topic.into());
        }
        let isolations = [("read_committed", "read_committed"), ("read_uncommitted", "read_uncommitted")];
        let group = reader.optional("group").map(str::to_owned);
        if group.as_deref() == Some("") {
            return Err(reader.invalid("group", "a name"));
        }
        let start = Start::read(reader)?;
        if matches!(start, Start::Committed) && group.is_none() {
            return Err(reader.invalid("start", "an option 'group' beside 'committed': whose offsets are meant"));
        }
        Ok(KafkaOptions {
            cluster: Cluster::read(format!("source '{name}'"), reader, divided, OWNED)?,
            topics,
            topics_place: divided.options.entry("topic").and_then(|entry| entry.value_span).or(divided.options.span),
            start,
            group,
            isolation: reader.choice("isolation", &isolations)?.unwrap_or("read_committed"),
            until_end: reader.flag("until_end", false)?,
            discovery_interval: reader.duration("discovery_interval")?.unwrap_or(DISCOVERY_INTERVAL),
        })
    }

    /// The consumer's configuration if it reads this many partitions.
    fn config(&self, partitions: usize) -> rdkafka::ClientConfig {
        let queued = (QUEUED_KBYTES / partitions.max(1)).max(QUEUED_KBYTES_MIN).to_string();
        let defaults = [("queued.max.messages.kbytes", queued.as_str()), ("statistics.interval.ms", "1000")];
        let mut config = self.cluster.config_with(&defaults);
        // librdkafka assigns partitions only to members of a group, even if nobody ever joins it.
        config.set("group.id", self.group.as_deref().unwrap_or("highwater"));
        config.set("isolation.level", self.isolation);
        config.set("enable.auto.commit", "false").set("enable.auto.offset.store", "false");
        config.set("auto.offset.reset", "error").set("enable.partition.eof", "true").set("allow.auto.create.topics", "false");
        config
    }

    /// The partitions, asked for by a client of its own: how many there are decides how much each may queue.
    fn partitions_now(&self) -> Result<Vec<Place>, Diagnostic> {
        let client: BaseConsumer<Log> = self
            .config(1)
            .set("statistics.interval.ms", "0")
            .create_with_context(Log::default())
            .map_err(|error| self.cluster.refused(&error))?;
        let mut places = Vec::new();
        for topic in &self.topics {
            let metadata = self.cluster.metadata(&client, topic, PATIENCE)?;
            let found = metadata.topics().first().map(partitions_of);
            let found = found.unwrap_or(Err(rdkafka::error::RDKafkaErrorCode::UnknownTopicOrPartition));
            let found = found.map_err(|code| topic_refused(topic, code, self.topics_place))?;
            places.extend(found.into_iter().map(|number| (Arc::clone(topic), number)));
        }
        Ok(places)
    }

    fn name(&self, (topic, number): &Place) -> PartitionId {
        match self.topics.len() {
            1 => PartitionId::new(number.to_string()),
            _ => PartitionId::new(format!("{topic}/{number}")),
        }
    }

    fn place(&self, id: &PartitionId) -> Option<Place> {
        let (topic, number) = match (&*self.topics, id.0.rsplit_once('/')) {
            ([topic], None) => (topic, &*id.0),
            ([_], _) | (_, None) => return None,
            (topics, Some((name, number))) => (topics.iter().find(|topic| ***topic == *name)?, number),
        };
        Some((Arc::clone(topic), number.parse().ok()?))
    }
}

impl Kafka {
    /// Where a partition that has no offset is read from.
    fn start_of(&self, place: &Place) -> Result<rdkafka::Offset, SourceError> {
        // A partition that appeared since has rows that nobody has read.
        if self.resumes.load(Ordering::Acquire) || !self.opened.contains_key(place) {
            return Ok(rdkafka::Offset::Beginning);
        }
        let _one_asks = self.starting.lock().unwrap_or_else(PoisonError::into_inner);
        let starts = match self.starts.get() {
            Some(starts) => starts,
            None => {
                let places: Vec<&Place> = self.opened.keys().collect();
                let starts = self.options.start.find(&self.consumer, &places)?;
                self.starts.get_or_init(|| starts)
            }
        };
        Ok(starts.get(place).copied().unwrap_or(rdkafka::Offset::Beginning))
    }
}

/// The source, which its readers share.
struct Topics(Arc<Kafka>);

impl Deref for Topics {
    type Target = Arc<Kafka>;

    fn deref(&self) -> &Arc<Kafka> {
        &self.0
    }
}

impl Topics {
    fn number(&self, partition: &PartitionId, offset: &Offset) -> Result<i64, SourceError> {
        let number = offset.0.parse().ok().filter(|number| *number >= 0);
        number.ok_or_else(|| SourceError::fatal(format!("'{}' is no offset of partition '{partition}'", offset.0)))
    }

    fn reader(&self, place: Place, start: rdkafka::Offset, end: Option<i64>, waker: Waker) -> Result<Reader, SourceError> {
        let decoder = self.format.decoder(&self.decoder, &self.spec.options);
        let decoder = decoder.map_err(|error| SourceError::fatal(error.to_string()))?;
        Reader::open(self, place, start, end, decoder, waker)
    }
}

impl Source for Topics {
    fn partitions(&self) -> Result<Vec<PartitionId>, SourceError> {
        let mut found = Vec::new();
        for topic in &self.options.topics {
            let metadata = self.consumer.fetch_metadata(Some(topic), PATIENCE);
            let metadata =
                metadata.map_err(|error| SourceError::passing(format!("listing partitions of topic '{topic}': {error}")))?;
            let partitions = metadata.topics().first().map(partitions_of).unwrap_or(Ok(Vec::new()));
            for number in partitions.map_err(|code| {
                let message = format!("listing partitions of topic '{topic}': {code}");
                // A topic that is gone is told by its readers, who make sure first.
                if is_forbidden(code) && !is_unknown(code) { SourceError::fatal(message) } else { SourceError::passing(message) }
            })? {
                found.push(self.options.name(&(Arc::clone(topic), number)));
            }
        }
        Ok(found)
    }

    fn check(&self) -> Result<(), Diagnostic> {
        let topics: Vec<&str> = self.options.topics.iter().map(|topic| &**topic).collect();
        self.format.check_registered(&self.decoder, &topics, &self.spec.options)
    }

    fn resumes(&self) {
        self.resumes.store(true, Ordering::Release);
    }

    fn read(
        &self,
        partition: &PartitionId,
        offset: Option<&Offset>,
        waker: Waker,
    ) -> Result<Box<dyn PartitionReader>, SourceError> {
        let place = self.options.place(partition);
        let place = place.ok_or_else(|| SourceError::fatal(format!("'{partition}' is no partition of this source")))?;
        let start = match offset {
            Some(offset) => rdkafka::Offset::Offset(self.number(partition, offset)?),
            None => self.start_of(&place)?,
        };
        // A partition that a bounded source did not have when it was opened has nothing for it.
        let opened = || self.opened.get(&place).copied().flatten().map_or(0, |(_, end)| end);
        let end = self.options.until_end.then(opened);
        Ok(Box::new(self.reader(place, start, end, waker)?))
    }

    fn repeats(&self) -> bool {
        self.options.start.repeats()
    }

    fn again(&self, partition: &PartitionId, until: &Offset, waker: Waker) -> Result<Box<dyn PartitionReader>, SourceError> {
        let place = self.options.place(partition);
        let place = place.ok_or_else(|| SourceError::fatal(format!("'{partition}' is no partition of this source")))?;
        let end = self.number(partition, until)?;
        let begin = self.consumer.fetch_watermarks(&place.0, place.1, PATIENCE);
        let (begin, _) = begin.map_err(|error| SourceError::passing(format!("looking where '{partition}' begins: {error}")))?;
        if begin > 0 {
            let (source, partition) = (&self.spec.name, &partition.0);
            tracing::warn!(%source, %partition, begin, "what the topic had before is gone, and is not in what is rebuilt");
        }
        let start = self.start_of(&place)?;
        Ok(Box::new(self.reader(place, start, Some(end), waker)?))
    }

    fn bounded(&self) -> bool {
        self.options.until_end
    }

    fn grows(&self) -> Option<Duration> {
        (!self.options.until_end).then_some(self.options.discovery_interval)
    }

    fn rows(&self) -> Option<u64> {
        let rows = |ends: &Option<(i64, i64)>| ends.map(|(begin, end)| u64::try_from(end - begin).unwrap_or(0));
        self.opened.values().map(rows).sum()
    }

    fn committed(&self, positions: &[(PartitionId, Offset)]) {
        if self.options.group.is_none() {
            return;
        }
        let mut list = TopicPartitionList::with_capacity(positions.len());
        for (id, offset) in positions {
            let Some(((topic, number), offset)) = self.options.place(id).zip(offset.0.parse().ok()) else { continue };
            if let Err(error) = list.add_partition_offset(&topic, number, rdkafka::Offset::Offset(offset)) {
                tracing::warn!(source = self.spec.name, partition = %id, %error, "an offset cannot be committed to the group");
            }
        }
        if let Err(error) = self.consumer.commit(&list, CommitMode::Async) {
            tracing::warn!(source = self.spec.name, %error, "offsets are not committed to the group");
        }
    }
}
