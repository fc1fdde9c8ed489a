//! Reads one partition: takes messages out of its queue, straight into the decoder.

use std::sync::Arc;
use std::time::Duration;

use highwater_connectors::format::{Decoder, Readiness};
use highwater_connectors::source::{Backlog, Offset, PartitionReader, Polled, Reject, SourceBatch, SourceError, Waker};
use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Headers, Message, OwnedMessage};

use super::metadata::Keeper;
use super::monitor::{Events, Question, Watch};
use super::{Kafka, Place};
use crate::client::{is_forbidden, is_unknown};

/// Bytes that one batch takes at most.
const BATCH_BYTES_MAX: u64 = 8 << 20;

pub(super) struct Reader {
    kafka: Arc<Kafka>,
    place: Place,
    queue: PartitionQueue<Events>,
    watch: Arc<Watch>,
    taker: Taker,
    waker: Waker,
    /// A message whose schema is not known yet: the next one.
    held: Option<OwnedMessage>,
    /// The next offset to read; the log's beginning if that is not known yet.
    position: Option<i64>,
    /// Where a bounded source ends.
    end: Option<i64>,
    /// Whether librdkafka said that the log's end is reached, and nothing came after.
    at_end: bool,
    finished: bool,
    /// Whether librdkafka has given up reading because of its position.
    halted: bool,
    /// [`super::monitor::State::returns`] when it was last looked at.
    returns: u64,
    /// What to say once the rows before it are given.
    failure: Option<SourceError>,
}

/// Turns messages into rows and rejects.
struct Taker {
    kafka: Arc<Kafka>,
    decoder: Decoder,
    keeper: Keeper,
    rejects: Vec<Reject>,
}

impl Taker {
    /// Rows and rejects so far.
    fn rows(&self) -> usize {
        self.decoder.rows() + self.rejects.len()
    }

    fn take<M: Message<Headers: Headers>>(&mut self, message: &M) {
        if let Err(reason) = self.decode(message) {
            let raw = message.payload().or(message.key()).unwrap_or_default();
            let offset = message.offset();
            self.rejects.push(Reject::new(raw, Offset::new(offset), format!("offset {offset}: {reason}")));
        }
    }

    fn decode<M: Message<Headers: Headers>>(&mut self, message: &M) -> Result<(), String> {
        self.keeper.check(message)?;
        let rows = self.decoder.rows();
        let max = self.kafka.format.row_bytes_max();
        match message.payload() {
            Some(payload) if payload.len() > max => return Err(format!("longer than row_bytes_max = {max} bytes")),
            Some(payload) if payload.trim_ascii().is_empty() && !self.decoder.takes_blank() => {
                return Err("the message is empty".into());
            }
            Some(payload) => self.decoder.decode(payload)?,
            None if self.kafka.spec.primary_key.is_empty() => {
                // After a deletion that was told already it is for the compaction of the topic.
                if !self.kafka.format.tells_deletions() {
                    return Err("a message without a value deletes the row of its key, and there is no primary key".into());
                }
            }
            None => match message.key() {
                Some(key) => self.decoder.delete(key)?,
                None => return Err("a message with neither key nor value".into()),
            },
        }
        self.keeper.push(message, self.decoder.rows() - rows);
        Ok(())
    }
}

impl Reader {
    pub(super) fn open(
        kafka: &Arc<Kafka>,
        place: Place,
        start: rdkafka::Offset,
        end: Option<i64>,
        decoder: Decoder,
        waker: Waker,
    ) -> Result<Reader, SourceError> {
        let (topic, number) = (&*place.0, place.1);
        let failed =
            |what: &dyn std::fmt::Display| SourceError::fatal(format!("reading partition {number} of topic '{topic}': {what}"));
        // The queue before the partition is assigned: nothing of it comes another way.
        let queue = kafka.consumer.split_partition_queue(topic, number);
        let mut queue = queue.ok_or_else(|| failed(&"librdkafka has no queue for it"))?;
        let wake = Arc::clone(&waker);
        queue.set_nonempty_callback(move || wake());
        let watch = kafka.consumer.context().watch(&place, Arc::clone(&waker));
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition_offset(topic, number, start).map_err(|error| failed(&error))?;
        kafka.consumer.incremental_assign(&list).map_err(|error| failed(&error))?;
        let position = match start {
            rdkafka::Offset::Offset(offset) => Some(offset),
            _ => None,
        };
        Ok(Reader {
            kafka: Arc::clone(kafka),
            queue,
            watch,
            waker,
            held: None,
            taker: Taker { decoder, keeper: kafka.columns.keeper(), rejects: Vec::new(), kafka: Arc::clone(kafka) },
            position,
            finished: end.is_some_and(|end| position.unwrap_or(0) >= end),
            end,
            at_end: false,
            halted: false,
            returns: 0,
            failure: None,
            place,
        })
    }

    fn readiness(&self, message: &OwnedMessage) -> Readiness {
        self.taker.decoder.readiness(message.payload(), message.key(), &self.waker)
    }

    /// Takes a message that was held; how many bytes it has.
    fn accept(&mut self, message: &OwnedMessage) -> u64 {
        self.position = Some(message.offset() + 1);
        self.taker.take(message);
        bytes_of(message)
    }

    /// What an error in the queue means; `None` if the monitor has to find out.
    fn failed(&self, error: &KafkaError) -> Option<SourceError> {
        let message = format!("reading partition {} of topic '{}': {error}", self.place.1, self.place.0);
        let Some(code) = error.rdkafka_error_code() else { return Some(SourceError::passing(message)) };
        match code {
            RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange => {
                self.watch.ask(Question::Range(self.position.unwrap_or(0)));
                None
            }
            code if is_unknown(code) => {
                self.watch.ask(Question::Exists(0, None));
                Some(SourceError::passing(message))
            }
            code if is_forbidden(code) => {
                Some(SourceError::fatal(format!("{message}; give the user the right to read the topic")))
            }
            RDKafkaErrorCode::NotImplemented | RDKafkaErrorCode::BadCompression => Some(SourceError::fatal(format!(
                "{message} at offset {}: its compression cannot be read",
                self.position.unwrap_or(0)
            ))),
            _ if matches!(error, KafkaError::MessageConsumptionFatal(_)) => Some(SourceError::fatal(message)),
            _ => Some(SourceError::passing(message)),
        }
    }

    /// Rows and rejects since the last batch.
    fn batch(&mut self, bytes: u64) -> Result<Polled, SourceError> {
        let failed = |error: arrow::error::ArrowError| {
            SourceError::fatal(format!("decoding partition {} of topic '{}': {error}", self.place.1, self.place.0))
        };
        let decoded = self.taker.decoder.take().map_err(failed)?;
        let (rows, origin) = self.taker.keeper.complete(decoded.rows, decoded.origin).map_err(failed)?;
        Ok(Polled::Batch(SourceBatch {
            rows,
            diffs: decoded.diffs,
            origin,
            rejects: std::mem::take(&mut self.taker.rejects),
            offset: Offset::new(self.position.expect("something was read")),
            bytes,
            receipt: None,
        }))
    }

    /// The partition can be read again: librdkafka tells its end anew if it starts anew.
    fn start_anew(&mut self) {
        self.at_end = false;
        self.held = None;
        let position = self.position.map_or(rdkafka::Offset::Beginning, rdkafka::Offset::Offset);
        let consumer = &self.kafka.consumer;
        let (topic, number) = (&*self.place.0, self.place.1);
        let anew = || {
            if !self.halted {
                return consumer.seek(topic, number, position, Duration::ZERO);
            }
            // What does not read cannot be sought, and nobody says so.
            let mut list = TopicPartitionList::with_capacity(1);
            list.add_partition_offset(topic, number, position)?;
            consumer.incremental_unassign(&list)?;
            consumer.incremental_assign(&list)
        };
        let begun = anew();
        self.halted = false;
        if let Err(error) = begun {
            let message = format!("reading partition {} of topic '{}' again: {error}", self.place.1, self.place.0);
            self.failure = Some(SourceError::passing(message));
        }
    }
}

impl PartitionReader for Reader {
    fn poll(&mut self, rows_max: usize) -> Result<Polled, SourceError> {
        if self.finished {
            return Ok(Polled::Finished);
        }
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        // Looked at before the queue: if the queue is empty after this, everything before `reached` has been taken.
        let (reached, returns) = {
            let state = self.watch.state();
            if let Some(why) = &state.fatal {
                return Err(SourceError::fatal(why.clone()));
            }
            (state.reached, state.returns)
        };
        if returns != self.returns {
            self.returns = returns;
            self.start_anew();
        }
        let before = self.position;
        let (mut bytes, mut empty, mut failed, mut unready) = (0, false, None, None);
        if let Some(message) = self.held.take() {
            match self.readiness(&message) {
                Readiness::Ready => bytes += self.accept(&message),
                not => (self.held, unready) = (Some(message), Some(not)),
            }
        }
        while unready.is_none() && self.taker.rows() < rows_max.max(1) && bytes < BATCH_BYTES_MAX {
            match self.queue.poll(Duration::ZERO) {
                None => {
                    empty = true;
                    break;
                }
                Some(Ok(message)) => {
                    if self.end.is_some_and(|end| message.offset() >= end) {
                        self.finished = true;
                        break;
                    }
                    self.at_end = false;
                    match self.taker.decoder.readiness(message.payload(), message.key(), &self.waker) {
                        Readiness::Ready => {
                            self.position = Some(message.offset() + 1);
                            bytes += bytes_of(&message);
                            self.taker.take(&message);
                        }
                        not => {
                            let message = message.detach();
                            (self.held, unready) = (Some(message), Some(not));
                        }
                    }
                }
                Some(Err(KafkaError::PartitionEOF(_))) => self.at_end = true,
                Some(Err(error)) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        if let Some(error) = failed {
            self.halted |= matches!(
                error.rdkafka_error_code(),
                Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange)
            );
            self.failure = self.failed(&error);
        }
        if empty && self.at_end {
            // What stands between the last message and the log's end is for librdkafka alone (ends of transactions, aborted
            // messages); if the log is cut there, a position before it would be lost.
            self.position = self.position.max(reached);
        }
        let at_its_end = |end: i64| self.position.is_some_and(|position| position >= end);
        // An end of the log is never before the one that the source was opened with.
        self.finished |= self.end.is_some_and(|end| at_its_end(end) || (empty && self.at_end));
        if self.position != before {
            return self.batch(bytes);
        }
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        if self.finished {
            return Ok(Polled::Finished);
        }
        match unready {
            Some(Readiness::Failed(why)) => {
                let at = self.held.as_ref().map_or(0, Message::offset);
                let (topic, number) = (&self.place.0, self.place.1);
                let message = format!("waiting for the schema of offset {at} of topic '{topic}', partition {number}: {why}");
                return Err(SourceError::passing(message));
            }
            Some(_) => return Ok(Polled::Waiting(None)),
            None => {}
        }
        if let Some(why) = &self.watch.state().away {
            let message = format!("reading partition {} of topic '{}': {why}", self.place.1, self.place.0);
            return Err(SourceError::passing(message));
        }
        Ok(if empty && self.at_end { Polled::Pending(None) } else { Polled::Waiting(None) })
    }

    fn begins(&self) -> Option<Offset> {
        self.position.map(Offset::new)
    }

    fn backlog(&self) -> Option<Backlog> {
        if self.at_end {
            return Some(Backlog::default());
        }
        let state = self.watch.state();
        let end = self.end.or(state.end)?;
        let position = self.position.or(state.begin)?;
        Some(Backlog { rows: u64::try_from(end - position).unwrap_or(0), bytes: 0 })
    }
}

/// Bytes of a message's key and value.
fn bytes_of(message: &impl Message) -> u64 {
    (message.payload().map_or(0, <[u8]>::len) + message.key().map_or(0, <[u8]>::len)) as u64
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.kafka.consumer.context().forget(&self.place);
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition(&self.place.0, self.place.1);
        if let Err(error) = self.kafka.consumer.incremental_unassign(&list) {
            tracing::debug!(%error, "a partition is not given back");
        }
    }
}
