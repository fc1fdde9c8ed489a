//! Messages as lines of text: what a person writes to a topic by hand, and looks at.

use std::io::BufRead;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::{ClientConfig, ClientContext, Offset, TopicPartitionList};

use highwater_plan::{OptionReader, Options};

use crate::client::{CLIENT_FIELDS, Cluster, Divided, Log, PATIENCE, partitions_of, topic_refused};

/// How often whoever writes is told that he waits.
const WAIT_TOLD: Duration = Duration::from_secs(5);

/// A cluster, as a command names it.
pub struct Lines(Cluster);

/// A message for people.
pub struct Line {
    /// As text.
    pub key: Option<String>,
    /// As text; `None` takes back what the key had.
    pub value: Option<String>,
}

impl Lines {
    /// The cluster of these brokers, with properties of librdkafka, which may [refer](highwater_connectors::resolved) to secrets.
    pub fn new(brokers: &str, properties: &[(String, String)]) -> Result<Lines, String> {
        let named: Vec<(String, &str)> = properties.iter().map(|(key, value)| (format!("properties.{key}"), &**value)).collect();
        let pairs = named.iter().map(|(key, value)| (key.as_str(), *value));
        let options = Options::from_pairs([("brokers", brokers)].into_iter().chain(pairs));
        let divided = Divided::new(&options, &[]);
        let cluster = OptionReader::new(&divided.options, "the brokers", &[CLIENT_FIELDS])
            .and_then(|reader| Cluster::read("the command".into(), &reader, &divided, &[]));
        cluster.map(Lines).map_err(|error| error.to_string())
    }

    /// Writes each line as a message, what stands before `separator` as its key; how many there were. `waits` is told from time to
    /// time how many the brokers have not taken yet.
    ///
    /// Errors: also how many messages were not written; those before a line that cannot be one are.
    pub fn write(
        &self,
        topic: &str,
        lines: impl BufRead,
        separator: Option<&str>,
        waits: impl Fn(usize),
    ) -> Result<usize, String> {
        self.partitions(topic)?;
        let mut config = self.0.config();
        config.set("enable.idempotence", "true");
        let producer: BaseProducer<Undelivered> = self.create(&config, Undelivered::default())?;
        let (mut count, mut read, mut ended, mut told) = (0, 0, Ok(()), Instant::now());
        let in_flight = || usize::try_from(producer.in_flight_count()).unwrap_or(0);
        for line in lines.lines() {
            read += 1;
            ended = line.map_err(|error| error.to_string()).and_then(|line| {
                let (key, value) = match separator.and_then(|separator| line.split_once(separator)) {
                    Some((key, value)) => (Some(key), value),
                    None if line.is_empty() => return Ok(()),
                    None => (None, line.as_str()),
                };
                let mut record: BaseRecord<'_, str, str> = BaseRecord::to(topic).payload(value);
                record.key = key;
                while let Err((error, back)) = producer.send(record) {
                    if error != KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) {
                        return Err(error.to_string());
                    }
                    record = back;
                    producer.poll(Duration::from_millis(10));
                    if told.elapsed() >= WAIT_TOLD {
                        waits(in_flight());
                        told = Instant::now();
                    }
                }
                count += 1;
                producer.poll(Duration::ZERO);
                Ok(())
            });
            ended = ended.map_err(|error| format!("line {read}: {error}"));
            if ended.is_err() || producer.context().first().is_some() {
                break;
            }
        }
        // Messages that are not taken give up by themselves: `message.timeout.ms`.
        while producer.flush(WAIT_TOLD).is_err() && in_flight() > 0 {
            waits(in_flight());
        }
        if let Some((missing, why)) = producer.context().first() {
            let until = format!("{missing} of {count} messages of the first {read} lines were not written");
            return Err(format!("{until} to topic '{topic}', and no further line was read: {why}"));
        }
        ended.map_err(|error| format!("{error}; messages written to topic '{topic}' before it: {count}"))?;
        Ok(count)
    }

    /// Gives what is committed from the beginning of all partitions, then what comes, until `take` says no; or until the end.
    pub fn read(&self, topic: &str, until_end: bool, mut take: impl FnMut(Line) -> bool) -> Result<(), String> {
        let partitions = self.partitions(topic)?;
        let mut config = self.0.config();
        config.set("group.id", "highwater").set("enable.auto.commit", "false").set("enable.partition.eof", "true");
        // What the log no longer has is passed over, and not what it still has.
        config.set("auto.offset.reset", "earliest");
        config.set("isolation.level", "read_committed").set("allow.auto.create.topics", "false");
        let consumer: BaseConsumer<Log> = self.create(&config, Log::default())?;
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        let failed = |error: KafkaError| format!("reading topic '{topic}': {error}");
        for number in &partitions {
            list.add_partition_offset(topic, *number, Offset::Beginning).map_err(failed)?;
        }
        consumer.assign(&list).map_err(failed)?;
        let mut ended = vec![false; partitions.len()];
        while !(until_end && ended.iter().all(|ended| *ended)) {
            match consumer.poll(Duration::from_millis(200)) {
                Some(Ok(message)) => {
                    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                    if !take(Line { key: message.key().map(text), value: message.payload().map(text) }) {
                        return Ok(());
                    }
                }
                Some(Err(KafkaError::PartitionEOF(number))) => {
                    if let Some(at) = partitions.iter().position(|other| *other == number) {
                        ended[at] = true;
                    }
                }
                // It comes back, or the user stops waiting.
                Some(Err(KafkaError::MessageConsumption(
                    RDKafkaErrorCode::AllBrokersDown
                    | RDKafkaErrorCode::BrokerTransportFailure
                    | RDKafkaErrorCode::OperationTimedOut
                    | RDKafkaErrorCode::Resolve,
                ))) => tracing::warn!("the brokers are away"),
                Some(Err(error)) => return Err(failed(error)),
                None => {}
            }
        }
        Ok(())
    }

    fn partitions(&self, topic: &str) -> Result<Vec<i32>, String> {
        let mut config = self.0.config();
        config.set("allow.auto.create.topics", "false");
        let client: BaseConsumer<Log> = self.create(&config, Log::default())?;
        let metadata = self.0.metadata(&client, topic, PATIENCE).map_err(|error| error.to_string())?;
        let found = metadata.topics().first().map(partitions_of);
        let found = found.unwrap_or(Err(RDKafkaErrorCode::UnknownTopicOrPartition));
        found.map_err(|code| topic_refused(topic, code, None).to_string())
    }

    fn create<C, T>(&self, config: &ClientConfig, context: C) -> Result<T, String>
    where
        C: ClientContext,
        T: rdkafka::config::FromClientConfigAndContext<C>,
    {
        config.create_with_context(context).map_err(|error| self.0.refused(&error).to_string())
    }
}

/// How many messages were not delivered, and why the first was not.
#[derive(Default)]
struct Undelivered(Mutex<Option<(usize, String)>>);

impl Undelivered {
    fn first(&self) -> Option<(usize, String)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ClientContext for Undelivered {}

impl ProducerContext for Undelivered {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            let mut undelivered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            undelivered.get_or_insert_with(|| (0, error.to_string())).0 += 1;
        }
    }
}
