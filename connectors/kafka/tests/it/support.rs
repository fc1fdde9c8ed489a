//! What the tests share: topics, messages in and out by librdkafka itself, sources and sinks, and waiting for conditions.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use highwater_connectors::source::{
    Offset as At, PartitionId, PartitionReader, Polled, Source, SourceBatch, SourceConnector, SourceError, SourceSpec,
};
use highwater_kafka::KafkaSource;
use highwater_plan::{Diagnostic, Options};
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::types::RDKafkaErrorCode::{AllBrokersDown, BrokerTransportFailure, QueueFull};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

/// How long anything may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// Waits until `done` gives something.
pub(crate) fn wait<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(done) = done() {
            return done;
        }
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

pub(crate) fn config(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers);
    config
}

pub(crate) fn admin(brokers: &str) -> AdminClient<DefaultClientContext> {
    config(brokers).create().unwrap()
}

/// A name that no other test uses.
pub(crate) fn unique(name: &str) -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    format!("{name}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Makes a topic with a name of its own.
pub(crate) fn topic(brokers: &str, name: &str, partitions: i32) -> String {
    topic_with(brokers, name, partitions, &[])
}

pub(crate) fn topic_with(brokers: &str, name: &str, partitions: i32, settings: &[(&str, &str)]) -> String {
    let name = unique(name);
    let mut topic = NewTopic::new(&name, partitions, TopicReplication::Fixed(1));
    for (key, value) in settings {
        topic = topic.set(key, value);
    }
    let made = block_on(admin(brokers).create_topics([&topic], &AdminOptions::new())).unwrap();
    made[0].as_ref().unwrap();
    let consumer: BaseConsumer = config(brokers).create().unwrap();
    wait("the topic", || {
        let metadata = consumer.fetch_metadata(Some(&name), Duration::from_secs(10)).ok()?;
        let ready = |found: &rdkafka::metadata::MetadataTopic| {
            found.partitions().len() == partitions as usize && found.partitions().iter().all(|one| one.leader() >= 0)
        };
        metadata.topics().iter().any(ready).then_some(())
    });
    name
}

pub(crate) fn delete_topic(brokers: &str, topic: &str) {
    block_on(admin(brokers).delete_topics(&[topic], &AdminOptions::new())).unwrap()[0].as_ref().unwrap();
}

pub(crate) fn add_partitions(brokers: &str, topic: &str, total: usize) {
    let more = NewPartitions::new(topic, total);
    block_on(admin(brokers).create_partitions([&more], &AdminOptions::new())).unwrap()[0].as_ref().unwrap();
}

/// Deletes what stands before these offsets, as retention does.
pub(crate) fn cut_log(brokers: &str, topic: &str, partition: i32, before: i64) {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(before)).unwrap();
    block_on(admin(brokers).delete_records(&list, &AdminOptions::new())).unwrap();
}

pub(crate) fn producer(brokers: &str) -> BaseProducer {
    config(brokers).set("linger.ms", "0").create().unwrap()
}

/// A producer of transactions that has fenced those before it.
pub(crate) fn transactional(brokers: &str, id: &str) -> BaseProducer {
    let producer: BaseProducer = config(brokers).set("transactional.id", id).create().unwrap();
    producer.init_transactions(PATIENCE).unwrap();
    producer
}

/// Sends a message without waiting for it.
pub(crate) fn send(producer: &BaseProducer, topic: &str, partition: i32, key: Option<&str>, value: Option<&str>) {
    let mut record: BaseRecord<'_, str, str> = BaseRecord::to(topic).partition(partition);
    (record.key, record.payload) = (key, value);
    loop {
        match producer.send(record) {
            Ok(()) => return,
            Err((KafkaError::MessageProduction(QueueFull), back)) => {
                record = back;
                producer.poll(Duration::from_millis(10));
            }
            Err((error, _)) => panic!("sending: {error}"),
        }
    }
}

/// Sends these values and waits until they are there.
pub(crate) fn produce(brokers: &str, topic: &str, partition: i32, values: impl IntoIterator<Item = String>) {
    let producer = producer(brokers);
    for value in values {
        send(&producer, topic, partition, None, Some(&value));
    }
    producer.flush(PATIENCE).unwrap();
}

pub(crate) fn rows(ids: std::ops::Range<i64>) -> impl Iterator<Item = String> {
    ids.map(|id| format!("{{\"id\":{id},\"name\":\"n{id}\"}}"))
}

/// A message as it stands in a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) partition: i32,
    pub(crate) key: Option<String>,
    pub(crate) value: Option<String>,
    pub(crate) headers: Vec<(String, String)>,
}

/// Everything that a topic has.
pub(crate) fn consume(brokers: &str, topic: &str, isolation: &str) -> Vec<Stored> {
    let consumer: BaseConsumer = config(brokers)
        .set("group.id", "test")
        .set("isolation.level", isolation)
        .set("enable.partition.eof", "true")
        .set("enable.auto.commit", "false")
        .create()
        .unwrap();
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).unwrap();
    let mut list = TopicPartitionList::new();
    for partition in metadata.topics()[0].partitions() {
        list.add_partition_offset(topic, partition.id(), Offset::Beginning).unwrap();
    }
    consumer.assign(&list).unwrap();
    let (mut ended, mut found) = (0, Vec::new());
    let start = Instant::now();
    while ended < list.count() {
        assert!(start.elapsed() < PATIENCE, "waited in vain for the end of topic '{topic}'");
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                let text = |bytes: Option<&[u8]>| bytes.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap());
                let headers = message.headers().into_iter().flat_map(Headers::iter);
                found.push(Stored {
                    partition: message.partition(),
                    key: text(message.key()),
                    value: text(message.payload()),
                    headers: headers.map(|header| (header.key.to_owned(), text(header.value).unwrap())).collect(),
                });
            }
            Some(Err(KafkaError::PartitionEOF(_))) => ended += 1,
            // One of several brokers may be away.
            Some(Err(KafkaError::MessageConsumption(BrokerTransportFailure | AllBrokersDown))) | None => {}
            Some(Err(error)) => panic!("{error}"),
        }
    }
    found
}

/// The values of [`consume`].
pub(crate) fn values(brokers: &str, topic: &str, isolation: &str) -> Vec<String> {
    consume(brokers, topic, isolation).into_iter().map(|message| message.value.unwrap_or_default()).collect()
}

/// `(id BIGINT, name VARCHAR)` from a topic.
pub(crate) fn source_spec(brokers: &str, topic: &str, more: &[(&str, &str)]) -> SourceSpec {
    let fields = vec![Field::new("id", DataType::Int64, true), Field::new("name", DataType::Utf8, true)];
    let pairs = [("connector", "kafka"), ("brokers", brokers), ("topic", topic)];
    SourceSpec {
        name: "s".into(),
        schema: Arc::new(Schema::new(fields)),
        used: vec![0, 1],
        primary_key: Vec::new(),
        defaults: Vec::new(),
        metadata: Vec::new(),
        options: Options::from_pairs(pairs.into_iter().chain(more.iter().copied())),
        keeps_origin: false,
        workers: 1,
        log: None,
    }
}

pub(crate) fn open(brokers: &str, topic: &str, more: &[(&str, &str)]) -> Box<dyn Source> {
    KafkaSource.open(&source_spec(brokers, topic, more)).unwrap()
}

pub(crate) fn refused(spec: &SourceSpec) -> Diagnostic {
    KafkaSource.open(spec).err().expect("it cannot be opened")
}

/// A reader with what it has given, and how often it woke its worker.
pub(crate) struct Reading {
    pub(crate) reader: Box<dyn PartitionReader>,
    pub(crate) woken: Arc<AtomicUsize>,
    pub(crate) ids: Vec<i64>,
    pub(crate) diffs: Vec<i64>,
    pub(crate) rejects: Vec<String>,
    pub(crate) offset: Option<At>,
    pub(crate) batches: Vec<SourceBatch>,
    /// Errors that may pass.
    pub(crate) errors: Vec<String>,
}

/// How far a reader is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stand {
    Read,
    AtEnd,
    Waiting,
    Finished,
    Failed,
}

impl Reading {
    pub(crate) fn of(source: &dyn Source, partition: &str, offset: Option<&str>) -> Reading {
        let woken = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&woken);
        let waker = Arc::new(move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        let offset = offset.map(At::new);
        let reader = source.read(&PartitionId::new(partition), offset.as_ref(), waker).unwrap();
        let (ids, diffs, rejects, batches, errors) = Default::default();
        Reading { reader, woken, ids, diffs, rejects, offset, batches, errors }
    }

    /// Asks once.
    pub(crate) fn step(&mut self) -> Result<Stand, SourceError> {
        match self.reader.poll(1_000) {
            Ok(Polled::Batch(batch)) => {
                if let Some(ids) = batch.rows.column_by_name("id") {
                    let ids = ids.as_primitive::<Int64Type>();
                    self.ids.extend(ids.values());
                    match &batch.diffs {
                        Some(diffs) => self.diffs.extend(diffs.values()),
                        None => self.diffs.extend(vec![1; ids.len()]),
                    }
                }
                self.rejects.extend(batch.rejects.iter().map(|reject| format!("{}@{}", reject.reason, reject.offset.0)));
                self.offset = Some(batch.offset.clone());
                self.batches.push(batch);
                Ok(Stand::Read)
            }
            Ok(Polled::Pending(_)) => Ok(Stand::AtEnd),
            Ok(Polled::Waiting(_)) => Ok(Stand::Waiting),
            Ok(Polled::Finished) => Ok(Stand::Finished),
            Err(error) if error.fatal => Err(error),
            Err(error) => {
                self.errors.push(error.message);
                Ok(Stand::Failed)
            }
        }
    }

    /// Reads until it stands like this.
    pub(crate) fn until(&mut self, stand: Stand) {
        wait(&format!("{stand:?} after {:?}, {:?}", self.offset, self.errors), || {
            let now = self.step().unwrap_or_else(|error| panic!("{error}"));
            (now == stand).then_some(())
        });
    }

    /// Reads until it has this many rows.
    pub(crate) fn until_rows(&mut self, rows: usize) {
        wait(&format!("{rows} rows"), || {
            self.step().unwrap_or_else(|error| panic!("{error}"));
            (self.ids.len() >= rows).then_some(())
        });
    }

    /// Reads until it fails for good.
    pub(crate) fn until_fatal(&mut self) -> String {
        wait("a fatal error", || self.step().err()).message
    }

    pub(crate) fn offset(&self) -> &str {
        self.offset.as_ref().map_or("-", |offset| &offset.0)
    }
}
