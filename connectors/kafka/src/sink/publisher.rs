//! Publishes epochs: in transactions, or as they come.
//!
//! A transaction's outcome is never guessed. While its producer lives, committing is tried again with it; if the producer is
//! lost, a new one is made, which decides what the old one left open, and the progress record says what was published.
//!
//! ```text
//! take_over ─► init (fences others) ─► read progress ─► claim ─┐
//!                                                              ▼
//! publish ─► settle what is pending ─► begin, rows, progress, commit ─► done, or the rest
//!                 ▲                          │ may be repaired: abort    │ producer lost
//!                 └──────────────────────────┘                           ▼
//!                      whose claim stands there? ours: init, read ─► another's: fatal
//! ```

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use arrow::error::ArrowError;
use highwater_connectors::sink::{Delivery, EpochChanges, PublishError, Publisher};
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};

use super::KafkaOptions;
use super::encode::{Encoder, Outgoing};
use super::progress::{Progress, ProgressTopic};
use crate::client::{Log, because, is_forbidden, is_unknown};

/// How long a call waits for the brokers before it reports that it does, and is made again.
const WAIT: Duration = Duration::from_secs(30);
/// What waits for the brokers' acknowledgement in memory at most, unless `properties.queue.buffering.max.kbytes` says so.
const BUFFERED_KBYTES: &str = "65536";
/// How often a claim is tried that others keep fencing.
const CLAIMS: usize = 5;

type KafkaProducer = BaseProducer<Deliveries>;

pub(super) struct KafkaPublisher {
    options: KafkaOptions,
    encoder: Encoder,
    progress: ProgressTopic,
    /// Drawn when the sink is taken over.
    claim: String,
    producer: Option<KafkaProducer>,
    /// Everything up to here is known to be published.
    published: Option<u64>,
    pending: Option<Pending>,
}

/// A transaction that is not decided yet.
#[derive(Debug, Clone)]
enum Pending {
    /// Everything is sent; once it is committed everything up to this epoch is published.
    Commit(Option<u64>),
    /// It must not be committed, and why.
    Abort(PublishError),
}

/// What became of messages that were sent.
#[derive(Default)]
pub(super) struct Deliveries {
    log: Log,
    /// The first that was not delivered since this was last taken.
    failure: Mutex<Option<RDKafkaErrorCode>>,
}

impl Deliveries {
    fn take(&self) -> Option<RDKafkaErrorCode> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.log.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.log.error(error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
            let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
            // That messages were thrown away because a transaction is aborted says nothing.
            if !matches!(code, RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight) {
                failure.get_or_insert(code);
            }
        }
    }
}

impl KafkaPublisher {
    pub(super) fn new(options: KafkaOptions, encoder: Encoder) -> KafkaPublisher {
        let progress = ProgressTopic {
            cluster: options.cluster.clone(),
            topic: options.progress_topic.clone(),
            owner: options.owner.clone(),
        };
        KafkaPublisher { options, encoder, progress, claim: String::new(), producer: None, published: None, pending: None }
    }

    fn target(&self) -> String {
        format!("topic '{}'", self.options.topic)
    }

    /// A producer; with transactions, once it has fenced those before it and what they left open is decided.
    fn connect(&self) -> Result<KafkaProducer, PublishError> {
        let mut config = self.options.cluster.config_with(&[("queue.buffering.max.kbytes", BUFFERED_KBYTES)]);
        config.set("enable.idempotence", "true").set("acks", "all").set("partitioner", self.options.partitioner);
        let transactions = self.options.delivery == Delivery::ExactlyOnce;
        if transactions {
            config.set("transactional.id", &self.options.transactional_id);
            config.set("transaction.timeout.ms", self.options.transaction_timeout_ms.to_string());
        }
        let made = config.create_with_context(Deliveries::default());
        // Properties were looked at before, except for those that only exclude each other.
        let producer: KafkaProducer =
            made.map_err(|error| PublishError::fatal(format!("publishing to {}: {error}; check its properties", self.target())))?;
        if transactions {
            producer.init_transactions(WAIT).map_err(|error| self.failed(&error, &producer))?;
        }
        Ok(producer)
    }

    fn failed(&self, error: &KafkaError, producer: &KafkaProducer) -> PublishError {
        // What became of a message says more than that the transaction cannot be committed.
        if let Some(code) = producer.context().take() {
            return undelivered(&self.options.topic, code);
        }
        let mut error = failed(&self.target(), error);
        if !error.fatal {
            error.message = because(error.message, &producer.context().log);
        }
        error
    }

    /// Sends a message; makes room for it if there is none.
    fn send(
        &self,
        producer: &KafkaProducer,
        topic: &str,
        partition: Option<i32>,
        message: Outgoing<'_>,
    ) -> Result<(), PublishError> {
        let mut deadline = None;
        let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic).headers(message.headers);
        record.key = message.key;
        record.payload = message.value;
        record.partition = partition;
        loop {
            match producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    if Instant::now() > *deadline.get_or_insert_with(|| Instant::now() + WAIT) {
                        let message = format!("publishing to {}: the brokers acknowledge nothing", self.target());
                        return Err(PublishError::passing(because(message, &producer.context().log)));
                    }
                    record = back;
                    producer.poll(Duration::from_millis(10));
                }
                Err((KafkaError::MessageProduction(code), _)) if code != RDKafkaErrorCode::State => {
                    return Err(undelivered(topic, code));
                }
                Err((error, _)) => return Err(self.failed(&error, producer)),
            }
        }
    }

    /// Sends what is not published yet, whole epochs, until it has taken a while; gives the first that is left.
    fn send_epochs(&self, producer: &KafkaProducer, epochs: &[EpochChanges]) -> Result<Option<u64>, PublishError> {
        // A transaction that takes longer than its time is aborted, and would be again.
        let enough = Instant::now() + Duration::from_millis(self.options.transaction_timeout_ms / 4);
        let transactions = self.options.delivery == Delivery::ExactlyOnce;
        let mut sent_any = false;
        for epoch in epochs.iter().filter(|epoch| self.published.is_none_or(|published| epoch.epoch > published)) {
            if transactions && sent_any && Instant::now() > enough {
                return Ok(Some(epoch.epoch));
            }
            let sent = self
                .encoder
                .encode::<Stop>(epoch, |message| self.send(producer, &self.options.topic, None, message).map_err(Stop::Publish));
            sent.map_err(|stop| match stop {
                Stop::Publish(error) => error,
                Stop::Encode(error) => PublishError::fatal(format!("encoding rows for {}: {error}", self.target())),
            })?;
            producer.poll(Duration::ZERO);
            sent_any = true;
        }
        Ok(None)
    }

    fn send_progress(&self, producer: &KafkaProducer, epoch: Option<u64>) -> Result<(), PublishError> {
        let record = Progress { epoch, claim: self.claim.clone() };
        let record = serde_json::to_vec(&record).expect("a record of numbers and text is JSON");
        let message = Outgoing { key: Some(self.options.owner.as_bytes()), value: Some(&record), headers: OwnedHeaders::new() };
        self.send(producer, &self.options.progress_topic, Some(0), message)
    }

    /// Decides the transaction that is open, if one is. A passing error leaves it for the next call.
    fn settle(&mut self) -> Result<(), PublishError> {
        let Some(pending) = self.pending.clone() else { return Ok(()) };
        let Some(producer) = &self.producer else {
            self.pending = None;
            return Ok(());
        };
        match pending {
            Pending::Commit(through) => match commit(producer) {
                Ok(()) => {
                    self.published = through;
                    self.pending = None;
                    Ok(())
                }
                Err(error) => match Outlook::of(&error) {
                    Outlook::Again => Err(self.failed(&error, producer)),
                    Outlook::Abort => {
                        self.pending = Some(Pending::Abort(self.failed(&error, producer)));
                        self.settle()
                    }
                    Outlook::Lost => Err(self.lose(&error)),
                },
            },
            Pending::Abort(why) => match abort(producer) {
                Ok(()) => {
                    self.pending = None;
                    producer.context().take();
                    Err(why)
                }
                Err(error) => match Outlook::of(&error) {
                    Outlook::Again => Err(self.failed(&error, producer)),
                    Outlook::Abort | Outlook::Lost => {
                        let lost = self.lose(&error);
                        Err(if why.fatal { why } else { lost })
                    }
                },
            },
        }
    }

    /// Lets go of a producer that can do nothing more.
    fn lose(&mut self, error: &KafkaError) -> PublishError {
        self.pending = None;
        self.producer = None;
        PublishError::passing(format!("publishing to {}: {error}; looking how far it got", self.target()))
    }

    /// Makes a new producer after one was lost, unless another process has taken the sink over.
    fn reclaim(&mut self) -> Result<(), PublishError> {
        // Looked at before: making a producer would fence the other process.
        self.check_claim(self.progress.read()?)?;
        let producer = self.connect()?;
        self.check_claim(self.progress.read()?)?;
        self.producer = Some(producer);
        Ok(())
    }

    fn check_claim(&mut self, progress: Option<Progress>) -> Result<(), PublishError> {
        match progress {
            Some(progress) if progress.claim == self.claim => {
                self.published = progress.epoch;
                Ok(())
            }
            _ => Err(PublishError::fatal(format!(
                "publishing to {}: another process runs this job and has taken over sink '{}'; stop one of the two, or give \
                 their jobs different names",
                self.target(),
                self.options.owner
            ))),
        }
    }

    /// Publishes in as few transactions as their time allows, each of whole epochs with its record.
    fn publish_once(&mut self, epochs: &[EpochChanges], through: u64) -> Result<(), PublishError> {
        loop {
            self.settle()?;
            if self.producer.is_none() {
                self.reclaim()?;
            }
            if self.published.is_some_and(|published| published >= through) {
                return Ok(());
            }
            let producer = self.producer.as_ref().expect("it was made above");
            if let Err(error) = producer.begin_transaction() {
                return Err(match Outlook::of(&error) {
                    Outlook::Again => self.failed(&error, producer),
                    Outlook::Abort | Outlook::Lost => self.lose(&error),
                });
            }
            let sent = self.send_epochs(producer, epochs).and_then(|left| {
                // Epochs are in order: everything before the first that is left is sent.
                let upto = left.map_or(through, |left| left - 1);
                self.send_progress(producer, Some(upto)).map(|()| upto)
            });
            self.pending = Some(match sent {
                Ok(upto) => Pending::Commit(Some(upto)),
                Err(error) => Pending::Abort(error),
            });
        }
    }

    /// Sends and waits until all is acknowledged. What is in doubt is sent again: with the same idempotency keys.
    fn publish_each(&mut self, epochs: &[EpochChanges]) -> Result<(), PublishError> {
        if self.producer.is_none() {
            self.producer = Some(self.connect()?);
        }
        let producer = self.producer.as_ref().expect("it was made above");
        let sent = self.send_epochs(producer, epochs);
        let sent = sent.and_then(|_| match flush(producer) {
            Ok(()) => producer.context().take().map_or(Ok(()), |code| Err(undelivered(&self.options.topic, code))),
            Err(error) => Err(self.failed(&error, producer)),
        });
        if sent.is_err() {
            // What still waits in it must not come after what is sent anew.
            self.producer = None;
        }
        sent
    }
}

impl Publisher for KafkaPublisher {
    fn take_over(&mut self) -> Result<Option<u64>, PublishError> {
        self.encoder.register().map_err(|error| match error.fatal {
            true => PublishError::fatal(format!("publishing to {}: {}", self.target(), error.message)),
            false => PublishError::passing(format!("publishing to {}: {}", self.target(), error.message)),
        })?;
        if self.options.delivery == Delivery::AtLeastOnce {
            self.producer = Some(self.connect()?);
            return Ok(None);
        }
        self.progress.ensure()?;
        self.claim = draw();
        let mut last = None;
        for _ in 0..CLAIMS {
            (self.producer, self.pending) = (None, None);
            let producer = self.connect()?;
            self.published = self.progress.read()?.and_then(|progress| progress.epoch);
            if let Err(error) = producer.begin_transaction() {
                last = Some(self.failed(&error, &producer));
                continue;
            }
            self.pending = Some(match self.send_progress(&producer, self.published) {
                Ok(()) => Pending::Commit(self.published),
                Err(error) => Pending::Abort(error),
            });
            self.producer = Some(producer);
            let settled = self.settle();
            match settled {
                Ok(()) => return Ok(self.published),
                Err(error) if error.fatal => return Err(error),
                // A process that was fenced may have come back in between: it will see the claim and give way.
                Err(error) => last = Some(error),
            }
        }
        (self.producer, self.pending) = (None, None);
        Err(last.expect("each try that failed left an error"))
    }

    fn publish(&mut self, epochs: &[EpochChanges], through: u64) -> Result<(), PublishError> {
        match self.options.delivery {
            Delivery::AtLeastOnce => self.publish_each(epochs),
            Delivery::ExactlyOnce => match self.publish_once(epochs, through) {
                // The producer is gone: whether what it sent counts is known at once, and who else there is.
                Err(error) if !error.fatal && self.producer.is_none() => {
                    self.reclaim()?;
                    if self.published.is_some_and(|published| published >= through) { Ok(()) } else { Err(error) }
                }
                result => result,
            },
        }
    }
}

/// Waits until everything is acknowledged or has failed, or nothing has been for a while; the library's own flush looks only
/// every tenth of a second.
fn flush(producer: &KafkaProducer) -> Result<(), KafkaError> {
    let (mut left, mut deadline) = (i32::MAX, Instant::now());
    loop {
        let now = producer.in_flight_count();
        if now < left {
            (left, deadline) = (now, Instant::now() + WAIT);
        }
        if now == 0 || Instant::now() > deadline {
            break;
        }
        producer.poll(Duration::from_millis(1));
    }
    producer.flush(Duration::ZERO)
}

fn commit(producer: &KafkaProducer) -> Result<(), KafkaError> {
    flush(producer)?;
    producer.commit_transaction(WAIT)
}

/// Aborts the open transaction. What is thrown away has to be reported meanwhile, or aborting waits for it in vain.
fn abort(producer: &KafkaProducer) -> Result<(), KafkaError> {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                producer.poll(Duration::from_millis(10));
            }
        });
        let aborted = producer.abort_transaction(WAIT);
        done.store(true, Ordering::Relaxed);
        aborted
    })
}

/// What can be done after an error of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outlook {
    /// The same call again: the outcome is open.
    Again,
    /// The transaction will not be committed.
    Abort,
    /// The producer is of no more use.
    Lost,
}

impl Outlook {
    fn of(error: &KafkaError) -> Outlook {
        match error {
            KafkaError::Transaction(error) if error.is_fatal() => Outlook::Lost,
            KafkaError::Transaction(error) if error.txn_requires_abort() => Outlook::Abort,
            KafkaError::Transaction(error) if error.is_retriable() => Outlook::Again,
            KafkaError::Flush(RDKafkaErrorCode::OperationTimedOut) => Outlook::Again,
            _ => Outlook::Lost,
        }
    }
}

/// Why the encoder stopped.
enum Stop {
    Publish(PublishError),
    Encode(ArrowError),
}

impl From<ArrowError> for Stop {
    fn from(error: ArrowError) -> Stop {
        Stop::Encode(error)
    }
}

/// A name that no other process draws.
fn draw() -> String {
    let random = || RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", random(), random())
}

/// What an error of a call means.
pub(super) fn failed(target: &str, error: &KafkaError) -> PublishError {
    let message = format!("publishing to {target}: {error}");
    match error.rdkafka_error_code() {
        Some(code) if is_forbidden(code) => PublishError::fatal(format!("{message}; give the user of the sink that right")),
        Some(RDKafkaErrorCode::InvalidTransactionTimeout) => PublishError::fatal(format!(
            "{message}; set transaction_timeout to no more than the brokers' transaction.max.timeout.ms"
        )),
        _ => PublishError::passing(message),
    }
}

pub(super) fn forbidden(topic: &str, code: RDKafkaErrorCode) -> PublishError {
    PublishError::fatal(format!("publishing to topic '{topic}': {code}; give the user of the sink that right"))
}

/// What it means that a message was not delivered.
fn undelivered(topic: &str, code: RDKafkaErrorCode) -> PublishError {
    use RDKafkaErrorCode::{InvalidMessage, InvalidMessageSize, InvalidRecord, MessageSizeTooLarge, PolicyViolation};
    match code {
        MessageSizeTooLarge | InvalidMessageSize => PublishError::fatal(format!(
            "publishing to topic '{topic}': a row is larger than a message may be ({code}); raise the topic's \
             max.message.bytes and the sink's properties.message.max.bytes"
        )),
        code if is_unknown(code) => PublishError::fatal(format!(
            "publishing to topic '{topic}': it does not exist any more ({code}); create it, and start the job again"
        )),
        code if is_forbidden(code) => forbidden(topic, code),
        InvalidMessage | InvalidRecord | PolicyViolation => PublishError::fatal(format!(
            "publishing to topic '{topic}': the brokers refuse a row: {code}; check the topic's settings: a compacted topic \
             takes only messages with a key"
        )),
        code => PublishError::passing(format!("publishing to topic '{topic}': {code}")),
    }
}
