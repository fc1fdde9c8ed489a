//! How far publishing got: a record per sink in a compacted topic, written in the transaction that has the rows.
//!
//! Besides the epoch a record names who published: a process draws a name when it takes a sink over. By it a process that
//! was fenced tells another that runs the same job from a broker that gave up waiting for its transaction.

use std::time::{Duration, Instant};

use highwater_connectors::sink::PublishError;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use serde::{Deserialize, Serialize};

use super::publisher::{failed, forbidden};
use crate::client::{Cluster, Log, PATIENCE, because, block_on, is_forbidden, is_unknown, partitions_of};

/// How long to wait for what others have begun, before it is reported and tried again.
const OTHERS: Duration = Duration::from_secs(30);

/// What a progress record says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Progress {
    /// Everything up to this epoch is published; `None`: nothing is.
    pub(super) epoch: Option<u64>,
    /// The process that published it.
    pub(super) claim: String,
}

/// The topic of progress records.
#[derive(Debug, Clone)]
pub(super) struct ProgressTopic {
    pub(super) cluster: Cluster,
    pub(super) topic: String,
    /// The key of this sink's records.
    pub(super) owner: String,
}

impl ProgressTopic {
    /// Creates the topic if it is missing; looks whether it keeps what is written to it.
    pub(super) fn ensure(&self) -> Result<(), PublishError> {
        let client = self.consumer("read_uncommitted")?;
        if self.partitions(&client)?.is_some() {
            return self.check_compacted();
        }
        // Three replicas where there are as many brokers, whatever the brokers' default: with the only one the sink would stop.
        let metadata = client.fetch_metadata(Some(&self.topic), PATIENCE).map_err(|error| self.failed(&error))?;
        let replicas = metadata.brokers().len().clamp(1, 3) as i32;
        // Small segments: what is compacted is read quickly, and the newest segment never is.
        let topic = NewTopic::new(&self.topic, 1, TopicReplication::Fixed(replicas))
            .set("cleanup.policy", "compact")
            .set("segment.bytes", "16777216")
            .set("segment.ms", "3600000")
            .set("min.cleanable.dirty.ratio", "0.1");
        let options = AdminOptions::new().request_timeout(Some(PATIENCE)).operation_timeout(Some(PATIENCE));
        let created = block_on(self.admin()?.create_topics([&topic], &options)).map_err(|error| self.failed(&error))?;
        match created.into_iter().next() {
            Some(Err((_, code))) if is_forbidden(code) || code == RDKafkaErrorCode::PolicyViolation => {
                return Err(PublishError::fatal(format!(
                    "creating the progress topic '{}': {code}; create it: kafka-topics.sh --create --topic {} --partitions 1 \
                     --config cleanup.policy=compact",
                    self.topic, self.topic
                )));
            }
            Some(Err((_, code))) if code != RDKafkaErrorCode::TopicAlreadyExists => {
                return Err(PublishError::passing(format!("creating the progress topic '{}': {code}", self.topic)));
            }
            _ => {}
        }
        let deadline = Instant::now() + PATIENCE;
        while self.partitions(&client)?.is_none() {
            if Instant::now() > deadline {
                return Err(PublishError::passing(format!("the progress topic '{}' is not there yet", self.topic)));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn check_compacted(&self) -> Result<(), PublishError> {
        let options = AdminOptions::new().request_timeout(Some(PATIENCE));
        let described = block_on(self.admin()?.describe_configs([&ResourceSpecifier::Topic(&self.topic)], &options));
        let described = described.map_err(|error| self.failed(&error))?;
        let policy = match described.first() {
            Some(Ok(resource)) => resource.get("cleanup.policy").and_then(|entry| entry.value.clone()),
            // Who may write a topic need not be allowed to see its settings.
            _ => None,
        };
        match policy.as_deref() {
            None | Some("compact") => Ok(()),
            Some(policy) => Err(PublishError::fatal(format!(
                "the progress topic '{}' has cleanup.policy = '{policy}', so that records of how far publishing got would be \
                 deleted; set cleanup.policy = compact, or name another topic with progress_topic",
                self.topic
            ))),
        }
    }

    /// This sink's newest record.
    ///
    /// Waits for transactions that others have open in the topic now: behind one of them the record may stand. Called after
    /// an older process was fenced, when its own transaction is decided.
    pub(super) fn read(&self) -> Result<Option<Progress>, PublishError> {
        let all = self.consumer("read_uncommitted")?;
        let partitions = self.partitions(&all)?;
        let partitions = partitions.ok_or_else(|| self.missing())?;
        let committed = self.consumer("read_committed")?;
        let deadline = Instant::now() + OTHERS;
        for number in &partitions {
            let end = self.end(&all, *number)?;
            while self.end(&committed, *number)? < end {
                if Instant::now() > deadline {
                    return Err(PublishError::passing(format!(
                        "reading the progress topic '{}': another job has had a transaction open in it for {} seconds",
                        self.topic,
                        OTHERS.as_secs()
                    )));
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        self.scan(&committed, &partitions)
    }

    /// Reads everything that is committed.
    fn scan(&self, consumer: &BaseConsumer<Log>, partitions: &[i32]) -> Result<Option<Progress>, PublishError> {
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for number in partitions {
            list.add_partition_offset(&self.topic, *number, Offset::Beginning).map_err(|error| self.failed(&error))?;
        }
        consumer.assign(&list).map_err(|error| self.failed(&error))?;
        let deadline = Instant::now() + OTHERS;
        let (mut ended, mut found) = (0, None);
        while ended < partitions.len() {
            match consumer.poll(Duration::from_millis(500)) {
                Some(Ok(message)) if message.key() == Some(self.owner.as_bytes()) => {
                    found = Some(message.payload().unwrap_or_default().to_vec());
                }
                Some(Ok(_)) => {}
                Some(Err(KafkaError::PartitionEOF(_))) => ended += 1,
                Some(Err(error)) => return Err(self.failed(&error)),
                None if Instant::now() > deadline => {
                    return Err(PublishError::passing(because(
                        format!("reading the progress topic '{}': no answer", self.topic),
                        consumer.context(),
                    )));
                }
                None => {}
            }
        }
        let Some(record) = found else { return Ok(None) };
        serde_json::from_slice(&record).map(Some).map_err(|error| {
            let record = String::from_utf8_lossy(&record);
            PublishError::fatal(format!(
                "the progress topic '{}' has a record of '{}' that cannot be read: {record}: {error}; name another topic with \
                 progress_topic",
                self.topic, self.owner
            ))
        })
    }

    /// The topic's partitions; `None` if there is no such topic.
    fn partitions(&self, client: &BaseConsumer<Log>) -> Result<Option<Vec<i32>>, PublishError> {
        let metadata = client.fetch_metadata(Some(&self.topic), PATIENCE).map_err(|error| self.failed(&error))?;
        match metadata.topics().first().map(partitions_of) {
            Some(Ok(partitions)) => Ok(Some(partitions)),
            None => Ok(None),
            Some(Err(code)) if is_unknown(code) => Ok(None),
            Some(Err(code)) if is_forbidden(code) => Err(forbidden(&self.topic, code)),
            Some(Err(code)) => Err(PublishError::passing(format!("reading the progress topic '{}': {code}", self.topic))),
        }
    }

    fn end(&self, client: &BaseConsumer<Log>, number: i32) -> Result<i64, PublishError> {
        Ok(client.fetch_watermarks(&self.topic, number, PATIENCE).map_err(|error| self.failed(&error))?.1)
    }

    fn consumer(&self, isolation: &str) -> Result<BaseConsumer<Log>, PublishError> {
        let mut config = self.cluster.config();
        config.set("group.id", "highwater").set("isolation.level", isolation).set("enable.partition.eof", "true");
        config.set("enable.auto.commit", "false").set("auto.offset.reset", "earliest").set("allow.auto.create.topics", "false");
        config.create_with_context(Log::default()).map_err(|error| self.failed(&error))
    }

    fn admin(&self) -> Result<AdminClient<Log>, PublishError> {
        self.cluster.config().create_with_context(Log::default()).map_err(|error| self.failed(&error))
    }

    fn missing(&self) -> PublishError {
        PublishError::passing(format!("the progress topic '{}' is not there", self.topic))
    }

    fn failed(&self, error: &KafkaError) -> PublishError {
        failed(&format!("the progress topic '{}'", self.topic), error)
    }
}
