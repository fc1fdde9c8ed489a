//! The brokers outside: topics that are read, topics that are written in transactions, and what goes wrong with them.
//!
//! A sink's rows and the record of how far it is published are committed together or not at all. Who takes a sink over gets a
//! number; whoever has an older one is refused. Everything that is committed is checked at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use highwater_connectors::source::Waker;
use highwater_store::testing::Disk;
use highwater_turns::elapsed;

use crate::baton::Baton;
use crate::input::{Input, Row};
use crate::process::JOB;

/// How often what goes wrong, in a thousand calls, as long as the world is not calm.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BrokerFaults {
    /// A commit is refused.
    pub(crate) refused: u64,
    /// A commit is done, and its acknowledgement lost.
    pub(crate) acks_lost: u64,
    /// A read fails.
    pub(crate) reads: u64,
    /// A reader waits for rows that are there.
    pub(crate) stalls: u64,
    /// The brokers go away, for a while.
    pub(crate) away: u64,
}

impl BrokerFaults {
    const NONE: BrokerFaults = BrokerFaults { refused: 0, acks_lost: 0, reads: 0, stalls: 0, away: 0 };
}

/// Changes of one epoch, as a sink has them.
pub(crate) type EpochRows = (u64, Vec<(Row, i64)>);

/// One sink's topic.
#[derive(Default)]
pub(crate) struct Target {
    /// Who published last has this number.
    pub(crate) owner: u64,
    /// Who claimed the progress record.
    pub(crate) claim: u64,
    /// Up to here everything is published.
    pub(crate) progress: Option<u64>,
    /// What a reader of committed rows sees, in order.
    pub(crate) committed: Vec<EpochRows>,
    /// How often somebody with an older number was refused.
    pub(crate) fenced: u64,
}

/// Why a call to the brokers failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Nothing was done.
    Refused,
    /// It may have been done.
    NoAnswer,
    /// Somebody else has taken over.
    Fenced,
    /// The process is dead, or the brokers are away.
    Away,
}

struct State {
    faults: BrokerFaults,
    away_until: Duration,
    targets: BTreeMap<String, Target>,
    /// Per topic and partition how many entries nobody needs any more.
    trimmed: BTreeMap<(String, usize), usize>,
    /// Per life of a process and partition how far it was read.
    read: BTreeMap<(usize, String, usize), usize>,
    wakers: Vec<Waker>,
}

/// All brokers.
pub(crate) struct Brokers {
    pub(crate) baton: Arc<Baton>,
    pub(crate) input: Input,
    /// Topics end when all of their entries are there and read.
    pub(crate) bounded: bool,
    /// How often processes look for new partitions, if these appear.
    pub(crate) grows: Option<Duration>,
    /// What is durable, whoever is dead.
    disk: Disk,
    state: Mutex<State>,
}

impl Brokers {
    pub(crate) fn new(
        baton: Arc<Baton>,
        input: Input,
        disk: Disk,
        (bounded, grows): (bool, Option<Duration>),
        faults: BrokerFaults,
    ) -> Arc<Self> {
        let state = State {
            faults,
            away_until: Duration::ZERO,
            targets: BTreeMap::new(),
            trimmed: BTreeMap::new(),
            read: BTreeMap::new(),
            wakers: Vec::new(),
        };
        Arc::new(Brokers { baton, input, bounded, grows, disk, state: Mutex::new(state) })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics under this lock")
    }

    /// From here on nothing goes wrong.
    pub(crate) fn calm(&self) {
        let mut state = self.lock();
        state.faults = BrokerFaults::NONE;
        state.away_until = Duration::ZERO;
    }

    /// Whether a process gets through; the brokers may go away now.
    fn reach(&self, life: usize) -> Result<(), Refusal> {
        let mut state = self.lock();
        if self.baton.draw(|random| random.chance(state.faults.away)) {
            state.away_until = elapsed() + Duration::from_micros(self.baton.draw(|random| random.between(10_000, 800_000)));
            self.baton.say(format_args!("brokers: away until {}", state.away_until.as_micros()));
        }
        if self.baton.is_dead(life) || elapsed() < state.away_until { Err(Refusal::Away) } else { Ok(()) }
    }

    /// The partitions that are there.
    pub(crate) fn partitions(&self, life: usize, topic: &str) -> Result<Vec<usize>, Refusal> {
        self.reach(life)?;
        let now = elapsed().as_micros() as u64;
        let logs = self.input.topics[topic].iter().enumerate();
        Ok(logs.filter(|(_, log)| self.grows.is_none() || log.since_us <= now).map(|(number, _)| number).collect())
    }

    /// How many entries of a partition are there.
    pub(crate) fn end(&self, topic: &str, partition: usize) -> usize {
        let now = elapsed().as_micros() as u64;
        self.input.topics[topic][partition].at_us.partition_point(|at| *at <= now)
    }

    /// Whether reading goes well: an error to be reported, or a stall, or neither.
    pub(crate) fn reads(&self, life: usize) -> Result<bool, Refusal> {
        self.reach(life)?;
        let BrokerFaults { reads, stalls, .. } = self.lock().faults;
        let [fails, stalls] = self.baton.draw(|random| [reads, stalls].map(|per_mille| random.chance(per_mille)));
        if fails { Err(Refusal::Refused) } else { Ok(stalls) }
    }

    /// A process begins to read at an offset. One that was replaced and does not know may want what is gone.
    pub(crate) fn begin_reading(&self, life: usize, topic: &str, partition: usize, from: usize, waker: Waker) {
        let mut state = self.lock();
        state.wakers.push(waker);
        let trimmed = state.trimmed.get(&(topic.to_owned(), partition)).copied().unwrap_or(0);
        drop(state);
        if from < trimmed && self.baton.is_newest(life) {
            self.baton
                .fail(format!("{topic}/{partition} is read from {from}, and everything before {trimmed} was said to be durable"));
        }
    }

    /// A process has read so far.
    pub(crate) fn has_read(&self, life: usize, topic: &str, partition: usize, to: usize) {
        self.lock().read.insert((life, topic.to_owned(), partition), to);
    }

    /// Whether a process has read all that there will ever be.
    pub(crate) fn all_read(&self, life: usize) -> bool {
        let state = self.lock();
        self.input.topics.iter().all(|(topic, logs)| {
            logs.iter().enumerate().all(|(partition, log)| {
                let read = state.read.get(&(life, (*topic).to_owned(), partition)).copied().unwrap_or(0);
                read == log.entries.len()
            })
        })
    }

    /// A process says that nobody will read anything before this offset again.
    pub(crate) fn trim(&self, life: usize, topic: &str, partition: usize, before: usize) {
        if self.baton.is_dead(life) {
            return;
        }
        self.baton.say(format_args!("brokers: {topic}/{partition} is durable up to {before}"));
        let mut state = self.lock();
        let trimmed = state.trimmed.entry((topic.to_owned(), partition)).or_default();
        *trimmed = before.max(*trimmed);
    }

    /// Wakes all readers: entries may have come.
    pub(crate) fn wake(&self) {
        let wakers = self.lock().wakers.clone();
        wakers.iter().for_each(|wake| wake());
    }

    /// Takes a sink over; gives the number to publish with.
    pub(crate) fn take_over(&self, life: usize, sink: &str) -> Result<u64, Refusal> {
        self.reach(life)?;
        let mut state = self.lock();
        let target = state.targets.entry(sink.to_owned()).or_default();
        target.owner += 1;
        let owner = target.owner;
        self.baton.say(format_args!("brokers: {sink} is taken over by {owner}"));
        let lost = state.faults.refused;
        drop(state);
        if self.baton.draw(|random| random.chance(lost)) { Err(Refusal::NoAnswer) } else { Ok(owner) }
    }

    /// Reads the progress record: who claimed it, and how far it goes.
    pub(crate) fn progress(&self, life: usize, sink: &str) -> Result<(u64, Option<u64>), Refusal> {
        self.reach(life)?;
        Ok(self.lock().targets.get(sink).map_or((0, None), |target| (target.claim, target.progress)))
    }

    /// Commits rows and the record of how far they go.
    pub(crate) fn commit(
        &self,
        life: usize,
        sink: &str,
        (owner, claim): (u64, u64),
        epochs: Vec<EpochRows>,
        progress: Option<u64>,
    ) -> Result<(), Refusal> {
        self.reach(life)?;
        let mut state = self.lock();
        let BrokerFaults { refused, acks_lost, .. } = state.faults;
        let target = state.targets.get_mut(sink).expect("a sink is taken over before it is published");
        if target.owner != owner {
            target.fenced += 1;
            self.baton.say(format_args!("brokers: {sink} is not {owner}'s any more"));
            return Err(Refusal::Fenced);
        }
        if self.baton.draw(|random| random.chance(refused)) {
            self.baton.say(format_args!("brokers: {sink} refused"));
            return Err(Refusal::Refused);
        }
        let numbers: Vec<u64> = epochs.iter().map(|(epoch, _)| *epoch).collect();
        self.baton.say(format_args!("brokers: {sink} committed by {owner}: {numbers:?} up to {progress:?}, {epochs:?}"));
        let wrong = wrong_commit(target, &epochs, progress).or_else(|| {
            let ahead = progress.filter(|progress| *progress > self.durable());
            ahead.map(|progress| format!("epochs up to {progress} are published, and no durable checkpoint has them"))
        });
        if let Some(wrong) = wrong {
            drop(state);
            self.baton.fail(format!("sink {sink}: {wrong}"));
            return Err(Refusal::Refused);
        }
        (target.claim, target.progress) = (claim, progress);
        target.committed.extend(epochs);
        drop(state);
        let lost = self.baton.draw(|random| random.chance(acks_lost));
        if lost {
            self.baton.say(format_args!("brokers: the acknowledgement is lost"));
            return Err(Refusal::NoAnswer);
        }
        Ok(())
    }

    /// The epoch of the newest checkpoint on the disk; 0 if there is none.
    fn durable(&self) -> u64 {
        let latest = self.disk.store().and_then(|store| store.job(JOB)).and_then(|job| job.latest());
        latest.ok().flatten().map_or(0, |manifest| manifest.epoch)
    }

    /// Appends rows without a transaction; gives whether that was acknowledged.
    pub(crate) fn append(&self, life: usize, sink: &str, epochs: Vec<EpochRows>) -> Result<(), Refusal> {
        self.reach(life)?;
        let mut state = self.lock();
        let BrokerFaults { refused, acks_lost, .. } = state.faults;
        let [refused, lost] = self.baton.draw(|random| [refused, acks_lost].map(|per_mille| random.chance(per_mille)));
        if refused {
            return Err(Refusal::Refused);
        }
        self.baton.say(format_args!("brokers: {sink} appended {epochs:?}"));
        state.targets.entry(sink.to_owned()).or_default().committed.extend(epochs);
        if lost { Err(Refusal::NoAnswer) } else { Ok(()) }
    }

    /// What a reader of committed rows sees of a sink.
    pub(crate) fn committed(&self, sink: &str) -> Vec<EpochRows> {
        self.lock().targets.get(sink).map(|target| target.committed.clone()).unwrap_or_default()
    }
}

/// What is wrong with a transaction after those before it.
fn wrong_commit(target: &Target, epochs: &[EpochRows], progress: Option<u64>) -> Option<String> {
    let mut before = target.progress;
    for (epoch, rows) in epochs {
        if rows.iter().map(|(row, _)| row).collect::<BTreeSet<_>>().len() < rows.len() {
            return Some(format!("epoch {epoch} has two changes of one row: {rows:?}"));
        }
        if before.is_some_and(|before| *epoch <= before) {
            return Some(format!("epoch {epoch} is published again: everything up to {before:?} was"));
        }
        before = Some(*epoch);
    }
    if progress < before {
        return Some(format!("the record says {progress:?} and the rows go to {before:?}"));
    }
    None
}
