//! What goes on around the messages: errors, outages, where logs end. A thread per source serves librdkafka's events and asks
//! the cluster what readers, which must not wait, want to know.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use highwater_connectors::source::Waker;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::{ClientContext, TopicPartitionList};
use serde::Deserialize;

use super::{Place, Reading, log, partitions_of};
use crate::client::{is_forbidden, is_unknown};

/// How long the thread waits for events at a time: questions wait as long.
const TURN: Duration = Duration::from_millis(200);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(5);
/// How often a topic must be found missing, and how far apart, before it is gone for good: after an election a broker may not
/// know it for a moment.
const MISSING: (u32, Duration) = (3, Duration::from_secs(1));

/// A partition that is read.
pub(super) struct Watch {
    pub(super) place: Place,
    waker: Waker,
    state: Mutex<State>,
}

/// What is known of a partition.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Why nothing can be read at present.
    pub(super) away: Option<String>,
    /// How often it came back, from wherever: the reader has to find the log's end anew.
    pub(super) returns: u64,
    /// Why nothing will be read any more.
    pub(super) fatal: Option<String>,
    /// Where the log ended when it was last told.
    pub(super) end: Option<i64>,
    /// Where the log began.
    pub(super) begin: Option<i64>,
    /// The last end that reading has come to: nothing before it is still to come, queued messages apart.
    pub(super) reached: Option<i64>,
    /// Consecutive reports that its broker cannot be reached.
    unreached: u32,
    question: Option<Question>,
}

/// What a reader wants to know.
#[derive(Debug)]
pub(super) enum Question {
    /// The log does not have this offset: what has it?
    Range(i64),
    /// Is the topic there? Found missing so often, last at.
    Exists(u32, Option<Instant>),
}

impl Watch {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks, unless something is being asked already.
    pub(super) fn ask(&self, question: Question) {
        self.state().question.get_or_insert(question);
    }

    fn away(&self, why: &str) {
        if self.state().away.replace(why.to_owned()).is_none() {
            (self.waker)();
        }
    }

    fn back(&self) {
        let mut state = self.state();
        state.unreached = 0;
        if state.away.take().is_some() {
            state.returns += 1;
            drop(state);
            (self.waker)();
        }
    }

    fn describe(&self) -> String {
        format!("partition {} of topic '{}'", self.place.1, self.place.0)
    }
}

/// The context of a source's consumer: librdkafka calls it while events are served.
#[derive(Default)]
pub(super) struct Events {
    watches: Mutex<HashMap<Place, Arc<Watch>>>,
    /// What went wrong last with a connection.
    reason: Mutex<Option<String>>,
    read_committed: AtomicBool,
}

impl Events {
    pub(super) fn watch(&self, place: &Place, waker: Waker) -> Arc<Watch> {
        let watch = Arc::new(Watch { place: place.clone(), waker, state: Mutex::default() });
        self.watches.lock().unwrap_or_else(PoisonError::into_inner).insert(place.clone(), Arc::clone(&watch));
        watch
    }

    pub(super) fn forget(&self, place: &Place) {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner).remove(place);
    }

    fn watches(&self) -> Vec<Arc<Watch>> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    fn reason(&self) -> String {
        let reason = self.reason.lock().unwrap_or_else(PoisonError::into_inner).clone();
        reason.unwrap_or_else(|| "its broker cannot be reached".into())
    }

    /// Takes in what librdkafka reports every second.
    fn report(&self, report: &Report) {
        // A broker that is only known by its address has the number that stands for no leader.
        let state_of = |leader: i32| report.brokers.values().find(|broker| leader >= 0 && broker.nodeid == leader);
        for watch in self.watches() {
            let (topic, number) = &watch.place;
            let partition = report.topics.get(&**topic).and_then(|topic| topic.partitions.get(&number.to_string()));
            let Some(partition) = partition else { continue };
            let known = |offset: i64| (offset >= 0).then_some(offset);
            let end = if self.read_committed.load(Ordering::Relaxed) { partition.ls_offset } else { partition.hi_offset };
            let mut state = watch.state();
            state.end = known(end).or(state.end);
            state.begin = known(partition.lo_offset).or(state.begin);
            state.reached = known(partition.eof_offset).or(state.reached);
            let broker = state_of(partition.leader).map_or("DOWN", |broker| &broker.state);
            if broker == "UP" {
                drop(state);
                watch.back();
            } else if matches!(broker, "INIT" | "DOWN" | "TRY_CONNECT" | "CONNECT") {
                // Twice: at first, and while leaders change, nobody is connected for a moment.
                state.unreached += 1;
                let away = state.unreached >= 2;
                drop(state);
                if away {
                    watch.away(&self.reason());
                }
            }
        }
    }
}

impl ClientContext for Events {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let KafkaError::Global(code) = error else { return };
        match code {
            RDKafkaErrorCode::PartitionEOF => {}
            RDKafkaErrorCode::AllBrokersDown => {
                let why = self.reason();
                self.watches().iter().for_each(|watch| watch.away(&why));
            }
            _ => *self.reason.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.to_owned()),
        }
    }

    fn stats_raw(&self, statistics: &[u8]) {
        match serde_json::from_slice(statistics) {
            Ok(report) => self.report(&report),
            Err(error) => tracing::warn!(%error, "librdkafka's statistics cannot be read"),
        }
    }
}

impl ConsumerContext for Events {
    fn commit_callback(&self, result: KafkaResult<()>, _: &TopicPartitionList) {
        if let Err(error) = result {
            tracing::warn!(%error, "offsets are not committed to the group");
        }
    }
}

#[derive(Deserialize)]
struct Report {
    #[serde(default)]
    brokers: HashMap<String, ReportedBroker>,
    #[serde(default)]
    topics: HashMap<String, ReportedTopic>,
}

#[derive(Deserialize)]
struct ReportedBroker {
    nodeid: i32,
    state: String,
}

#[derive(Deserialize)]
struct ReportedTopic {
    #[serde(default)]
    partitions: HashMap<String, ReportedPartition>,
}

#[derive(Deserialize)]
struct ReportedPartition {
    leader: i32,
    lo_offset: i64,
    hi_offset: i64,
    ls_offset: i64,
    eof_offset: i64,
}

/// The thread; it ends soon after this is dropped.
pub(super) struct Monitor(Arc<AtomicBool>);

impl Monitor {
    pub(super) fn start(source: &str, consumer: Arc<Reading>, read_committed: bool) -> Monitor {
        consumer.context().read_committed.store(read_committed, Ordering::Relaxed);
        let ended = Arc::new(AtomicBool::new(false));
        let monitor = Monitor(Arc::clone(&ended));
        let name = format!("kafka {source}");
        let run = move || {
            while !ended.load(Ordering::Relaxed) {
                // Errors have been told to the context; messages have queues of their own.
                if let Some(Ok(message)) = consumer.poll(TURN) {
                    use rdkafka::Message;
                    unreachable!("a message of {} {} outside of its queue", message.topic(), message.partition());
                }
                for watch in consumer.context().watches() {
                    answer(&consumer, &watch);
                }
            }
        };
        std::thread::Builder::new().name(name).spawn(run).expect("a process can have another thread");
        monitor
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn answer(consumer: &Reading, watch: &Watch) {
    let Some(question) = watch.state().question.take() else { return };
    let (topic, number) = &watch.place;
    let answer = match question {
        Question::Range(offset) => match consumer.fetch_watermarks(topic, *number, ANSWER) {
            Ok((begin, end)) if (begin..=end).contains(&offset) => Answer::Fine,
            Ok((begin, end)) => {
                let what = if offset < begin { "it deleted what was there (retention)" } else { "it was emptied or made anew" };
                Answer::Fatal(format!(
                    "{}: offset {offset} is not in its log, which has {begin} to {end}: {what}; start the job anew, without \
                     its checkpoint, from what is there",
                    watch.describe()
                ))
            }
            Err(error) if is_gone(&error) => Answer::Again(Question::Exists(0, None)),
            Err(_) => Answer::Again(question),
        },
        Question::Exists(missing, Some(at)) if at.elapsed() < MISSING.1 => Answer::Again(Question::Exists(missing, Some(at))),
        Question::Exists(missing, _) => match consumer.fetch_metadata(Some(topic), ANSWER) {
            Err(_) => Answer::Again(Question::Exists(missing, None)),
            Ok(metadata) => match metadata.topics().first().map(partitions_of) {
                Some(Ok(partitions)) if partitions.contains(number) => Answer::Fine,
                Some(Err(code)) if is_forbidden(code) => Answer::Fatal(format!("{}: {code}", watch.describe())),
                Some(Err(code)) if !is_unknown(code) => Answer::Again(Question::Exists(missing, None)),
                _ if missing + 1 < MISSING.0 => Answer::Again(Question::Exists(missing + 1, Some(Instant::now()))),
                _ => Answer::Fatal(format!(
                    "{} does not exist any more: the topic was deleted; start the job anew once it is there",
                    watch.describe()
                )),
            },
        },
    };
    let mut state = watch.state();
    match answer {
        Answer::Again(question) => {
            state.question = Some(question);
            return;
        }
        Answer::Fine => state.returns += 1,
        Answer::Fatal(why) => state.fatal = Some(why),
    }
    drop(state);
    (watch.waker)();
}

enum Answer {
    /// Reading may go on.
    Fine,
    Fatal(String),
    Again(Question),
}

fn is_gone(error: &KafkaError) -> bool {
    error.rdkafka_error_code().is_some_and(is_unknown)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn a_partition_is_away_while_its_leader_is_not_up() {
        let events = Events::default();
        let woken = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&woken);
        let waker: Waker = Arc::new(move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        let watch = events.watch(&("t".into(), 0), waker);
        let away = |leader: i32, state: &str| {
            let offsets = r#""lo_offset":0,"hi_offset":9,"ls_offset":9,"eof_offset":9"#;
            let broker = format!(r#"{{"nodeid":1,"state":"{state}"}}"#);
            // What a client began with, and is connected to.
            let known_by_address = r#"{"nodeid":-1,"state":"UP"}"#;
            events.stats_raw(
                format!(
                    r#"{{"brokers":{{"a":{known_by_address},"b":{broker}}},
                        "topics":{{"t":{{"partitions":{{"0":{{"leader":{leader},{offsets}}}}}}}}}}}"#
                )
                .as_bytes(),
            );
            watch.state().away.is_some()
        };
        assert!(!away(1, "UP"));
        for (leader, state) in [(-1, "UP"), (1, "DOWN"), (1, "TRY_CONNECT"), (2, "UP")] {
            assert!(!away(leader, state), "not at once: {leader} {state}");
            assert!(away(leader, state), "{leader} {state}");
            // What is being connected to is neither up nor down.
            assert!(away(1, "APIVERSION_QUERY"));
            assert!(!away(1, "UP"));
            assert!(!away(1, "AUTH_REQ") && !away(1, "AUTH_REQ") && !away(1, "AUTH_REQ"));
        }
        assert_eq!(woken.load(Ordering::Relaxed), 8);
    }
}
