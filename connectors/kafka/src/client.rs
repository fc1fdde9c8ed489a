//! What source and sink have in common: the options that say where the cluster is, and the clients made from them.

use std::fmt::Display;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context as TaskContext, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use highwater_connectors::resolved;
use highwater_plan::{Diagnostic, Field, OptionEntry, OptionReader, Options, Span};
use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::{Metadata, MetadataTopic};

/// The options that say where the cluster is.
pub(crate) const CLIENT_FIELDS: &[Field] = &[
    Field { key: "brokers", about: "host:port of some brokers, separated by commas" },
    Field { key: "bootstrap.servers", about: "another name for brokers" },
];

/// Options of this prefix go to librdkafka as they are, without it.
const PREFIX: &str = "properties.";

/// How long a question to the cluster may take while a job is being opened.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// The code of the error that no broker answers.
pub(crate) const UNREACHABLE: &str = "broker-unreachable";

/// A property that is not the user's to set, and what to set instead.
pub(crate) type Owned = (&'static str, &'static str);

/// How long a question waits at first before it looks what became of the connections; each time twice as long.
const GLANCE: Duration = Duration::from_millis(300);
/// The least that a poll waits.
const POLL_LEAST: Duration = Duration::from_millis(20);
/// After how long a broker that refuses is believed: another one may let in.
const REFUSED: Duration = Duration::from_secs(1);

/// A cluster, as options name it.
#[derive(Debug, Clone)]
pub(crate) struct Cluster {
    /// `source 'payment'`.
    of: String,
    brokers: String,
    /// Where the brokers stand in the statement.
    place: Option<Span>,
    /// What librdkafka is told besides, without the prefix, and with what it refers to.
    properties: Vec<OptionEntry>,
}

/// The options of a statement: those of librdkafka apart from those that connectors read.
pub(crate) struct Divided {
    /// For an [`OptionReader`].
    pub(crate) options: Options,
    properties: Vec<OptionEntry>,
}

impl Divided {
    /// Takes `properties.*` out of a statement's options. `aliases`: properties that stand for an option of ours.
    pub(crate) fn new(all: &Options, aliases: &[(&str, &str)]) -> Divided {
        let mut options = Options { entries: Vec::new(), span: all.span };
        let mut properties = Vec::new();
        for entry in &all.entries {
            let property = entry.key.strip_prefix(PREFIX);
            let alias = aliases.iter().find(|(property, option)| entry.key == *property && all.entry(option).is_none());
            match (alias, property) {
                (Some((_, option)), _) => options.entries.push(OptionEntry { key: (*option).into(), ..entry.clone() }),
                (None, Some(property)) => properties.push(OptionEntry { key: property.into(), ..entry.clone() }),
                (None, None) => options.entries.push(entry.clone()),
            }
        }
        Divided { options, properties }
    }
}

impl Cluster {
    /// Reads where the cluster of `of` is. `owned`: what else must not stand among the properties.
    pub(crate) fn read(of: String, reader: &OptionReader<'_>, divided: &Divided, owned: &[Owned]) -> Result<Cluster, Diagnostic> {
        let key = if reader.optional("bootstrap.servers").is_some() { "bootstrap.servers" } else { "brokers" };
        if key != "brokers" && reader.optional("brokers").is_some() {
            return Err(reader.invalid(key, "either brokers or bootstrap.servers"));
        }
        let brokers = reader.required(key)?.to_owned();
        if brokers.split(',').any(|broker| broker.trim().is_empty()) {
            return Err(reader.invalid(key, "host:port, several separated by commas"));
        }
        let place = divided.options.entry(key).and_then(|entry| entry.value_span).or(divided.options.span);
        for entry in &divided.properties {
            if let Some((_, instead)) = owned.iter().find(|(property, _)| *property == entry.key) {
                let message = format!("the property '{}' is set by Highwater", entry.key);
                return Err(Diagnostic::error("invalid-option", message).at(entry.key_span.or(place)).help(*instead));
            }
        }
        let looked_up = |entry: &OptionEntry| -> Result<OptionEntry, Diagnostic> {
            // An error is to speak of the option as it is written.
            let written = OptionEntry { key: format!("{PREFIX}{}", entry.key), ..entry.clone() };
            Ok(OptionEntry { value: resolved(&written, place)?.into_owned(), ..entry.clone() })
        };
        let properties = divided.properties.iter().map(looked_up).collect::<Result<_, _>>()?;
        let cluster = Cluster { of, brokers, place, properties };
        cluster.check_tls()?;
        // librdkafka knows which properties there are and what they may be.
        cluster.config().create_native_config().map_err(|error| cluster.refused(&error))?;
        Ok(cluster)
    }

    /// A configuration for clients of this cluster, without what the user may override.
    pub(crate) fn config(&self) -> ClientConfig {
        self.config_with(&[])
    }

    /// A configuration with `defaults`, which the user's properties override.
    pub(crate) fn config_with(&self, defaults: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers).set("client.id", "highwater");
        config.set("reconnect.backoff.max.ms", "2000").set("socket.keepalive.enable", "true");
        for (key, value) in defaults {
            config.set(*key, *value);
        }
        for entry in &self.properties {
            config.set(&entry.key, &entry.value);
        }
        config.set_log_level(RDKafkaLogLevel::Info);
        config
    }

    /// Asks the brokers of a topic. That they do not let this user in is said at once, instead of asking on.
    pub(crate) fn metadata(&self, client: &BaseConsumer<Log>, topic: &str, patience: Duration) -> Result<Metadata, Diagnostic> {
        let (started, mut turn) = (Instant::now(), GLANCE);
        loop {
            let end = started.elapsed() + turn.min(patience.saturating_sub(started.elapsed()));
            let error = match client.fetch_metadata(Some(topic), end.saturating_sub(started.elapsed())) {
                Ok(metadata) => return Ok(metadata),
                Err(error) => error,
            };
            // What became of the connections is told while events are served. A broker that hangs up fails the question at once.
            // Without any patience a poll ends with the first log line.
            let left = || end.saturating_sub(started.elapsed());
            while client.poll(left().max(POLL_LEAST)).is_some() && !left().is_zero() {}
            let refused = client.context().refused().is_some() && started.elapsed() >= REFUSED;
            if refused || started.elapsed() >= patience {
                return Err(self.unanswered(&error, client.context()));
            }
            turn *= 2;
        }
    }

    /// No broker answers, or none lets this user in.
    fn unanswered(&self, error: &KafkaError, log: &Log) -> Diagnostic {
        let Cluster { of, brokers, place, .. } = self;
        let diagnostic = match (log.refused(), log.take()) {
            (Some(Refusal::User), Some(reason)) => {
                let user = self.property("sasl.username").map_or_else(String::new, |user| format!(" as user '{user}'"));
                let message = format!("{of}: the brokers '{brokers}' do not let it in{user}: {reason}");
                Diagnostic::error("authentication-failed", message).help(
                    "check properties.sasl.username, properties.sasl.password and properties.sasl.mechanism, and that the brokers \
                     know this user",
                )
            }
            (Some(Refusal::Certificate), Some(reason)) => {
                let message = format!("{of}: no TLS connection to the brokers '{brokers}': {reason}");
                Diagnostic::error("tls-failed", message).help(
                    "check properties.ssl.ca.location (the authority that signed the brokers' certificates), that host names are \
                     those in the certificates, and, if the brokers ask for one, properties.ssl.keystore.location or \
                     properties.ssl.certificate.location and properties.ssl.key.location",
                )
            }
            (_, reason) => {
                let reason = reason.map_or_else(String::new, |reason| format!(" ({reason})"));
                Diagnostic::error(UNREACHABLE, format!("{of}: asking the brokers '{brokers}': {error}{reason}")).help(
                    "check host and port, that the brokers can be reached from here, and properties.security.protocol; properties.* \
                     are passed to librdkafka",
                )
            }
        };
        diagnostic.at(*place)
    }

    fn property(&self, key: &str) -> Option<&str> {
        self.properties.iter().find(|entry| entry.key == key).map(|entry| entry.value.as_str())
    }

    /// No client can be made, or no broker answers: at the place of what is wrong.
    pub(crate) fn refused(&self, error: &KafkaError) -> Diagnostic {
        let (what, key, value) = match error {
            KafkaError::ClientConfig(_, what, key, value) => (what, key, value),
            // Properties that are right by themselves, and not together or not here: a key store that does not open.
            KafkaError::ClientCreation(what) => {
                let message = format!("{}: no client can be made of its properties: {what}", self.of);
                return Diagnostic::error("invalid-option", message).at(self.place).help("check properties.*");
            }
            error => return self.unanswered(error, &Log::default()),
        };
        let entry = self.properties.iter().find(|entry| entry.key == *key);
        // Passwords are not for logs.
        // Neither is what a name that nobody knows was given: it may be a password's, misspelt.
        let is_hidden = highwater_plan::is_secret(key) || what.starts_with("No such configuration property");
        let value = if is_hidden { "what it is" } else { &format!("'{value}'") };
        let message = format!("{}: property '{key}' cannot be {value}: {what}", self.of);
        let diagnostic = Diagnostic::error("invalid-option", message).at(entry.and_then(|entry| entry.value_span).or(self.place));
        match key.as_str() {
            _ if what.contains("not supported in this build") => {
                diagnostic.help(if cfg!(feature = "tls") { IN_NO_BINARY } else { BUILD_WITH_TLS })
            }
            "sasl.jaas.config" => diagnostic
                .help("it is for Java: say properties.sasl.mechanism, properties.sasl.username and properties.sasl.password"),
            _ => diagnostic,
        }
    }

    fn check_tls(&self) -> Result<(), Diagnostic> {
        if cfg!(feature = "tls") {
            return Ok(());
        }
        for entry in &self.properties {
            let value = entry.value.to_ascii_lowercase();
            let needs = match entry.key.as_str() {
                "security.protocol" => value == "ssl" || value == "sasl_ssl",
                "sasl.mechanism" | "sasl.mechanisms" => value.starts_with("scram-") || value == "oauthbearer",
                _ => false,
            };
            if needs {
                let (of, key) = (&self.of, &entry.key);
                let message = format!("{of}: {key} = '{}' needs TLS, which this binary was built without", entry.value);
                return Err(Diagnostic::error("invalid-option", message)
                    .at(entry.value_span.or(self.place))
                    .help(BUILD_WITH_TLS));
            }
        }
        Ok(())
    }
}

const BUILD_WITH_TLS: &str = "build it with `cargo build --release --features tls` (needs OpenSSL's headers, or tls-vendored \
                              builds OpenSSL, too); without TLS there are plaintext and SASL PLAIN";

const IN_NO_BINARY: &str = "this binary has TLS, and of SASL what needs passwords: PLAIN and SCRAM; tokens from an OpenID provider and \
                            Kerberos are in none";

/// Why a broker that can be reached does not talk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It does not know the user, or not by this password or mechanism.
    User,
    /// One does not trust the other's certificate, or they have no version of TLS in common.
    Certificate,
}

/// The client context of producers that nobody waits on and of short questions: what librdkafka says goes to the log.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log {
    last: Arc<Mutex<Option<(RDKafkaErrorCode, String)>>>,
}

impl Log {
    /// What went wrong last with the connection, taken out.
    pub(crate) fn take(&self) -> Option<String> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).take().map(|(_, reason)| reason)
    }

    /// Whether that was a broker that refused.
    fn refused(&self) -> Option<Refusal> {
        match *self.last.lock().unwrap_or_else(PoisonError::into_inner) {
            Some((RDKafkaErrorCode::Authentication, _)) => Some(Refusal::User),
            Some((RDKafkaErrorCode::SSL, _)) => Some(Refusal::Certificate),
            // What the other one does not like is told after the handshake.
            Some((_, ref reason)) if reason.contains("SSL routines") => Some(Refusal::Certificate),
            _ => None,
        }
    }
}

impl rdkafka::ClientContext for Log {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
        // Why a broker hung up is told nowhere else: `[thrd:host:port/bootstrap]: host:port/bootstrap: Disconnected while ...`.
        if facility == "FAIL" {
            let reason = message.split_once("]: ").map_or(message, |(_, reason)| reason);
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            if last.as_ref().is_none_or(|(code, _)| *code == RDKafkaErrorCode::AllBrokersDown) {
                *last = Some((RDKafkaErrorCode::BrokerTransportFailure, reason.to_owned()));
            }
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let KafkaError::Global(code) = error else { return };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match code {
            RDKafkaErrorCode::PartitionEOF => {}
            // Only a count: why each of them is down was said before.
            RDKafkaErrorCode::AllBrokersDown if last.is_some() => {}
            _ => *last = Some((code, reason.to_owned())),
        }
    }
}

impl rdkafka::consumer::ConsumerContext for Log {}

/// What librdkafka says goes to our log; what it calls an error passes by itself or comes back as one.
pub(crate) fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
            tracing::error!(facility, "librdkafka: {message}");
        }
        RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning | RDKafkaLogLevel::Notice => {
            tracing::warn!(facility, "librdkafka: {message}");
        }
        RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => tracing::debug!(facility, "librdkafka: {message}"),
    }
}

/// The numbers of a topic's partitions, ascending; `Err` if the broker does not know the topic or does not show it.
pub(crate) fn partitions_of(topic: &MetadataTopic) -> Result<Vec<i32>, RDKafkaErrorCode> {
    if let Some(error) = topic.error() {
        return Err(error.into());
    }
    let mut partitions: Vec<i32> = topic.partitions().iter().map(|partition| partition.id()).collect();
    partitions.sort_unstable();
    if partitions.is_empty() { Err(RDKafkaErrorCode::UnknownTopicOrPartition) } else { Ok(partitions) }
}

/// Whether an error says that a topic or partition is not there.
pub(crate) fn is_unknown(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode::{UnknownPartition, UnknownTopic, UnknownTopicOrPartition};
    matches!(code, UnknownTopicOrPartition | UnknownTopic | UnknownPartition)
}

/// Whether an error says that this user may not do this, which no waiting changes.
pub(crate) fn is_forbidden(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode::{
        Authentication, ClusterAuthorizationFailed, GroupAuthorizationFailed, SaslAuthenticationFailed, TopicAuthorizationFailed,
        TransactionalIdAuthorizationFailed,
    };
    matches!(
        code,
        Authentication
            | ClusterAuthorizationFailed
            | GroupAuthorizationFailed
            | SaslAuthenticationFailed
            | TopicAuthorizationFailed
            | TransactionalIdAuthorizationFailed
    )
}

/// What is wrong with a topic that a statement names.
pub(crate) fn topic_refused(topic: &str, code: RDKafkaErrorCode, place: Option<Span>) -> Diagnostic {
    if is_unknown(code) {
        Diagnostic::error("unknown-topic", format!("there is no topic '{topic}'"))
            .at(place)
            .help(format!("check its name, or create it: kafka-topics.sh --create --topic {topic} --partitions 1"))
    } else {
        Diagnostic::error("unknown-topic", format!("topic '{topic}' cannot be used: {code}"))
            .at(place)
            .help("check the name, and what the user of these options may do with the topic")
    }
}

/// A text for people of what went wrong.
pub(crate) fn because(what: impl Display, log: &Log) -> String {
    match log.take() {
        Some(reason) => format!("{what} ({reason})"),
        None => what.to_string(),
    }
}

/// Waits for an answer of the admin client, whose own thread brings it.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = TaskContext::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}
