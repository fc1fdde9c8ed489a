//! Keeps a job's checkpoints: asks the engine for one from time to time, writes it, and lets sinks publish what it has.
//!
//! ```text
//! every interval ──► engine: what changed as of epoch E ──► sections ──► store: file, then manifest
//!                    outboxes: what is to be published up to E ──┘                │ durable
//!                                                     outboxes release E ◄────────┤
//!                                                     sources: read up to here ◄──┘
//! ```
//!
//! One thread per job does this, and may wait for disks. A checkpoint that cannot be written is tried again with the next one's
//! changes added: nothing of it is lost, and nothing is published meanwhile. A job that another process has taken over stops.

mod record;
mod restore;
mod sections;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{TryRecvError, channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use highwater_connectors::source::{Offset, PartitionId};
use highwater_engine::{Checkpoint, GivenBack, JobHandle, JobState, Positions, Restore, Time};
use highwater_store::{Checkpoint as Stored, Fold, Keep, Policy, Section, StoreError, Writer};
use highwater_turns::{JoinHandle, Point, crash_point, spawn};

pub(crate) use self::record::{Meta, Names};
pub(crate) use self::restore::{Restored, Restoring, sizes};
use self::sections::{fold_sections, is_outbox, outbox_section};
use crate::clock::Clock;
use crate::ingest::Stood;
use crate::journal::{JournalError, Journaled};
use crate::open::OpenSource;
use crate::outbox::Outbox;
use crate::pushed::Pushed;
use crate::retry::backoff;
use crate::signal::Signal;
use crate::status::{Fault, LastError};

/// After how long a checkpoint is written although nothing has changed: who does not write does not find out that another
/// process has the job.
const IDLE_MAX: Duration = Duration::from_secs(10);

/// How long a wait goes on without looking whether the job has ended.
const SLICE: Duration = Duration::from_millis(50);
/// As [`SLICE`], of a job that has ended, whether somebody wants it gone, who says so.
const ENDED_LOOK: Duration = Duration::from_secs(60);

/// Where and how often jobs are saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointConfig {
    /// A directory, or the URL of an object store.
    pub location: String,
    /// From the beginning of one checkpoint to that of the next.
    pub interval: Duration,
    /// For how long it is kept of what epochs were made, so that they can be replayed; `None`: as long as a restart may need it,
    /// if at all.
    pub record: Option<Duration>,
}

/// How a job's checkpoints are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CheckpointInfo {
    /// Where they are kept.
    pub location: String,
    /// The epoch that the job was restored from.
    pub restored: Option<Time>,
    /// Rows of state that it was given back.
    pub restored_rows: u64,
    /// What they took as columns, in bytes.
    pub restored_bytes: u64,
    /// The epoch of the last durable one.
    pub epoch: Option<Time>,
    /// When that became durable: microseconds since the Unix epoch.
    pub wall_micros: i64,
    /// How many there were since the job started.
    pub count: u64,
    /// Rows and bytes of the last one: what changed since the one before.
    pub rows: u64,
    /// See `rows`.
    pub bytes: u64,
    /// Those bytes before they were compressed.
    pub raw_bytes: u64,
    /// Bytes of all files that the last one needs.
    pub total_bytes: u64,
    /// From asking for the last one until it was durable.
    pub took: Duration,
    /// The last error met.
    pub last_error: Option<LastError>,
}

/// A job's checkpoints could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What the store gave is not what was kept.
    #[error("the checkpoint cannot be read: {0}")]
    Unreadable(String),
    /// The job is not the one that was saved.
    #[error(
        "the checkpoint of epoch {epoch} is of another version of job '{job}': {}; see `highwater diff`, and go on with --upgrade; \
         or start it anew with --fresh, or under another name",
        .differences.join(", ")
    )]
    Changed {
        /// The job.
        job: String,
        /// The checkpoint.
        epoch: Time,
        /// What is new, and what is gone.
        differences: Vec<String>,
    },
    /// The job cannot go on from what was saved of another version of it.
    #[error("job '{job}' cannot go on from the checkpoint of epoch {epoch}, which is of another version of it: {}", .why.join("; "))]
    Refused {
        /// The job.
        job: String,
        /// The checkpoint.
        epoch: Time,
        /// What stands in the way, and what can be done.
        why: Vec<String>,
    },
    /// What a changed job needs could not be made.
    #[error("what is new in job '{job}' cannot be made of what was read before: {why}; nothing was changed")]
    Rebuilding {
        /// The job.
        job: String,
        /// What went wrong.
        why: String,
    },
    /// A running job cannot be ended where it is.
    #[error("job '{job}' runs as it did: what it has come to cannot be saved and published now{why}")]
    Unsettled {
        /// The job.
        job: String,
        /// What stands in the way, after a colon; nothing if it only takes long.
        why: String,
    },
    /// Nothing is kept of the job that it could go on from.
    #[error("nothing is kept of job '{0}'")]
    NoState(String),
    /// What was recorded of its epochs cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The workers could not be asked.
    #[error(transparent)]
    Engine(#[from] highwater_engine::EngineError),
}

/// What is known of a job's checkpoints, written by their thread, read by anyone.
#[derive(Debug)]
pub(crate) struct CheckpointStatus {
    info: Mutex<CheckpointInfo>,
    /// Operators are given their state back after this was made.
    given: Arc<GivenBack>,
}

impl CheckpointStatus {
    pub(crate) fn new(location: String, state: Option<&Restore>) -> Self {
        let info = CheckpointInfo { location, restored: state.map(|state| state.epoch), ..CheckpointInfo::default() };
        let given = state.map(|state| Arc::clone(&state.given)).unwrap_or_default();
        CheckpointStatus { info: Mutex::new(info), given }
    }

    pub(crate) fn info(&self) -> CheckpointInfo {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        CheckpointInfo { restored_rows: of(&self.given.rows), restored_bytes: of(&self.given.bytes), ..self.lock().clone() }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, CheckpointInfo> {
        self.info.lock().expect("statuses are written without panicking")
    }
}

/// A sink that is published.
pub(crate) struct Queue {
    pub(crate) name: String,
    pub(crate) schema: SchemaRef,
    pub(crate) outbox: Arc<Outbox>,
}

/// What a job's thread needs.
pub(crate) struct Checkpointing {
    pub(crate) job: JobHandle,
    pub(crate) names: Names,
    pub(crate) writer: Arc<Writer>,
    /// What the store has of a job of this name is not this job's.
    pub(crate) fresh: bool,
    /// What the first checkpoint has besides.
    pub(crate) sections: Vec<Section>,
    pub(crate) interval: Duration,
    pub(crate) policy: Policy,
    pub(crate) queues: Vec<Queue>,
    pub(crate) pushed: Pushed,
    /// If epochs are recorded.
    pub(crate) journaled: Option<Arc<Journaled>>,
    pub(crate) sources: Arc<Vec<OpenSource>>,
    pub(crate) status: Arc<CheckpointStatus>,
    pub(crate) fault: Arc<Fault>,
    pub(crate) signal: Arc<Signal>,
    pub(crate) clock: Arc<dyn Clock>,
}

/// A job's thread. Dropping it ends the thread when it is done with the checkpoint at hand.
pub(crate) struct CheckpointThread {
    shared: Arc<Shared>,
    signal: Arc<Signal>,
    thread: Mutex<Option<JoinHandle>>,
}

#[derive(Default)]
struct Shared {
    /// No further checkpoint.
    stopped: AtomicBool,
    /// The job was dropped.
    dropped: AtomicBool,
    /// One is wanted now.
    wanted: AtomicBool,
    /// And it is to be of an epoch that is opened for it, although nothing seems to have changed.
    anew: AtomicBool,
    /// The job has finished, its last checkpoint is durable, and all of it is published; or that will never be.
    settled: AtomicBool,
}

impl CheckpointThread {
    /// Whether nothing is left to be saved or published of a job that has finished.
    pub(crate) fn is_settled(&self) -> bool {
        self.shared.settled.load(Ordering::Acquire)
    }

    /// Marks the job as dropped, when no checkpoint is being written any more: it is not to go on from what is kept.
    pub(crate) fn dropped(&self) {
        self.shared.dropped.store(true, Ordering::Release);
    }

    /// Takes a checkpoint without waiting for its time, when the signal is notified.
    pub(crate) fn want(&self) {
        self.shared.wanted.store(true, Ordering::Release);
    }

    /// The one that is wanted next is to be of an epoch that is opened for it.
    pub(crate) fn want_anew(&self) {
        self.shared.anew.store(true, Ordering::Release);
    }
}

impl Drop for CheckpointThread {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Release);
        self.signal.notify();
        if let Some(thread) = self.thread.lock().ok().and_then(|mut thread| thread.take()) {
            // A panic there has failed the job already.
            let _ = thread.join();
        }
    }
}

impl Checkpointing {
    /// Starts the thread.
    pub(crate) fn start(self) -> std::io::Result<CheckpointThread> {
        let shared = Arc::new(Shared::default());
        let (signal, theirs) = (Arc::clone(&self.signal), Arc::clone(&shared));
        let name = format!("checkpoints {}", self.job.name());
        let thread = spawn(name, move || Thread::new(self, theirs).run())?;
        Ok(CheckpointThread { shared, signal, thread: Mutex::new(Some(thread)) })
    }
}

struct Thread {
    with: Checkpointing,
    shared: Arc<Shared>,
    /// Of checkpoints that could not be written: they are part of the next one.
    unwritten: Vec<Section>,
    failures: u32,
    /// What other runs of the job left is deleted.
    swept: bool,
    compaction: Option<JoinHandle>,
    /// Up to which epoch each sink was published when that was last saved.
    published: BTreeMap<String, Time>,
    /// The last checkpoint: its epoch, and where reading stood.
    last: Option<(Time, Positions)>,
    /// When the last one was written.
    written: Duration,
}

/// What became of a checkpoint.
enum Taken {
    Durable,
    /// It is to be tried again.
    Failed,
    /// There will be no more.
    Over,
}

impl Thread {
    fn new(mut with: Checkpointing, shared: Arc<Shared>) -> Self {
        Thread {
            unwritten: std::mem::take(&mut with.sections),
            with,
            shared,
            failures: 0,
            swept: false,
            compaction: None,
            published: BTreeMap::new(),
            last: None,
            written: Duration::ZERO,
        }
    }

    fn run(mut self) {
        let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.take_all()));
        // What is folded from here on nobody would refer to.
        self.with.writer.stop_compacting();
        self.end_compaction();
        if run.is_err() {
            self.with.fault.set("taking a checkpoint panicked".into());
        }
        self.shared.settled.store(true, Ordering::Release);
        self.with.signal.notify();
        // A job that has ended, or failed, is there until somebody drops it.
        self.with.signal.wait(|| self.stopped().then_some(()), || Some(ENDED_LOOK));
        if self.shared.dropped.load(Ordering::Acquire) {
            self.mark_dropped();
        }
    }

    fn take_all(&mut self) {
        let mut next = self.with.clock.elapsed();
        loop {
            self.wait_until(next);
            if self.stopped() {
                return;
            }
            let finished = match self.with.job.state() {
                JobState::Running => false,
                JobState::Finished => true,
                // Nothing can be saved of it any more.
                JobState::Failed(_) | JobState::Dropped => return,
            };
            let begun = self.with.clock.elapsed();
            match self.take(finished) {
                Taken::Over => return,
                Taken::Durable if finished => return self.drain(),
                Taken::Durable => {
                    self.failures = 0;
                    next = begun + self.with.interval;
                }
                Taken::Failed => {
                    self.failures += 1;
                    next = self.with.clock.elapsed() + backoff(self.failures);
                }
            }
        }
    }

    fn stopped(&self) -> bool {
        self.shared.stopped.load(Ordering::Acquire)
    }

    /// Waits until a time, or until a checkpoint is wanted, or the job comes to its end.
    fn wait_until(&self, time: Duration) {
        let (with, shared) = (&self.with, &self.shared);
        let due = || {
            let over = with.job.state() != JobState::Running && self.failures == 0;
            (over || shared.stopped.load(Ordering::Acquire) || shared.wanted.swap(false, Ordering::AcqRel)).then_some(())
        };
        let left = || time.checked_sub(with.clock.elapsed()).filter(|left| !left.is_zero());
        with.signal.wait(due, left);
    }

    /// Takes and writes one checkpoint.
    fn take(&mut self, finished: bool) -> Taken {
        let begun = self.with.clock.elapsed();
        let opened = self.with.job.stats().epoch_opened.load(Ordering::Acquire);
        let idle = !finished && begun.saturating_sub(self.written) < IDLE_MAX;
        let anew = self.shared.anew.swap(false, Ordering::AcqRel);
        if idle && !anew && self.unwritten.is_empty() && self.last.as_ref().is_some_and(|(last, _)| *last == opened) {
            // No epoch was opened since, so nothing has changed.
            return Taken::Durable;
        }
        let checkpoint = match self.ask() {
            Ok(Some(checkpoint)) => checkpoint,
            Ok(None) => return Taken::Over,
            Err(why) => {
                self.with.fault.set(format!("no checkpoint can be taken: {why}"));
                return Taken::Over;
            }
        };
        crash_point(Point::CheckpointTaken);
        if !self.wait_recorded(checkpoint.epoch) {
            return Taken::Over;
        }
        self.unwritten.extend(self.with.names.sections(&checkpoint));
        for queue in &self.with.queues {
            let (epochs, published) = queue.outbox.save(checkpoint.epoch);
            if !epochs.is_empty() || self.published.insert(queue.name.clone(), published) != Some(published) {
                self.unwritten.extend(outbox_section(&queue.name, &queue.schema, &epochs, published));
            }
        }
        let read = self.last.as_ref().is_none_or(|(_, positions)| *positions != checkpoint.positions);
        let says_nothing = |section: &Section| section.rows() == 0 && !is_outbox(&section.key);
        if idle && !read && self.unwritten.iter().all(says_nothing) {
            // Time has passed, that is all: whoever goes on from the checkpoint before finds the same. What the watermark has freed
            // meanwhile is said once more by each checkpoint that comes.
            self.unwritten.clear();
            self.durable(&checkpoint);
            return Taken::Durable;
        }
        let meta = self.with.names.meta(&checkpoint, finished);
        let meta = serde_json::to_value(meta).expect("names and numbers are JSON");
        let rows = self.unwritten.iter().map(Section::rows).sum();
        let changed = !self.unwritten.is_empty();
        let keep = if self.with.fresh { Keep::None } else { Keep::All };
        let stored = Stored { epoch: checkpoint.epoch, meta, sections: self.unwritten.clone(), keep };
        let written = match self.with.writer.commit(stored) {
            Ok(written) => written,
            Err(error) => return self.failed(&error),
        };
        crash_point(Point::CheckpointDurable);
        // Only what a manifest has need not be gone through again: one that was passed over has none.
        self.with.journaled.iter().for_each(|journaled| journaled.saved(checkpoint.epoch));
        self.unwritten.clear();
        self.written = self.with.clock.elapsed();
        self.with.fresh = false;
        {
            let mut status = self.with.status.lock();
            LastError::pass(&mut status.last_error);
            status.count += 1;
            status.rows = rows;
            status.total_bytes = written.bytes();
            let file = written.files.last().filter(|_| changed);
            status.bytes = file.map_or(0, |file| file.bytes);
            status.raw_bytes = file.map_or(0, |file| file.raw_bytes);
            status.took = self.with.clock.elapsed().saturating_sub(begun);
        }
        self.durable(&checkpoint);
        crash_point(Point::Released);
        self.tell_sources(&checkpoint);
        crash_point(Point::SourcesTold);
        if !std::mem::replace(&mut self.swept, true) {
            let sources: Vec<&str> = self.with.sources.iter().map(|source| source.name.as_str()).collect();
            self.with.pushed.sweep(&sources);
        }
        self.compact();
        Taken::Durable
    }

    /// Waits until an epoch is recorded, so that those after it can follow it there; whether it is, or need not be.
    fn wait_recorded(&self, epoch: Time) -> bool {
        let Some(journaled) = &self.with.journaled else { return true };
        let has = || (journaled.has(epoch) || self.stopped()).then(|| journaled.has(epoch));
        self.with.signal.wait(has, || Some(SLICE)).unwrap_or(false)
    }

    /// All up to the checkpoint's epoch is durable.
    fn durable(&mut self, checkpoint: &Checkpoint) {
        {
            let mut status = self.with.status.lock();
            status.epoch = Some(checkpoint.epoch);
            status.wall_micros = self.with.clock.wall_micros();
        }
        self.last = Some((checkpoint.epoch, checkpoint.positions.clone()));
        self.with.queues.iter().for_each(|queue| queue.outbox.release(checkpoint.epoch));
        self.with.signal.notify();
    }

    /// Folds files into one, beside the checkpoints that come.
    fn compact(&mut self) {
        if self.compaction.as_ref().is_some_and(|running| !running.is_finished()) {
            return;
        }
        self.end_compaction();
        let Some(span) = self.with.writer.due(&self.with.policy) else { return };
        let (writer, job) = (Arc::clone(&self.with.writer), self.with.job.name().to_owned());
        let work = move || {
            let fold = |fold: Fold<'_>, sections: Vec<Section>| {
                fold_sections(fold.key, fold.complete, &sections).map_err(|error| error.to_string())
            };
            // What could not be folded stays as it is, and is tried again after a later checkpoint.
            if let Err(error) = writer.compact(span, &fold) {
                tracing::error!(job, %error, "folding checkpoints failed");
            }
        };
        match spawn("fold checkpoints".into(), work) {
            Ok(thread) => self.compaction = Some(thread),
            Err(error) => tracing::error!(job = self.with.job.name(), %error, "no thread to fold checkpoints"),
        }
    }

    fn end_compaction(&mut self) {
        if let Some(thread) = self.compaction.take() {
            // A panic there has changed nothing that is durable.
            let _ = thread.join();
        }
    }

    /// The engine's part; `None` if the job is over before it has come.
    fn ask(&self) -> Result<Option<Checkpoint>, String> {
        let (give, given) = channel();
        let signal = Arc::clone(&self.with.signal);
        self.with.job.checkpoint(Box::new(move |checkpoint| {
            // Who asked may have gone.
            let _ = give.send(checkpoint);
            signal.notify();
        }));
        let come = || match given.try_recv() {
            Ok(checkpoint) => Some(Some(checkpoint)),
            Err(TryRecvError::Empty) if !self.stopped() => None,
            Err(_) => Some(None),
        };
        match self.with.signal.wait(come, || Some(SLICE)).flatten() {
            None => Ok(None),
            Some(Ok(checkpoint)) => Ok(Some(checkpoint)),
            Some(Err(why)) => {
                let goes_on = matches!(self.with.job.state(), JobState::Running | JobState::Finished);
                if goes_on { Err(why) } else { Ok(None) }
            }
        }
    }

    fn failed(&mut self, error: &StoreError) -> Taken {
        let job = self.with.job.name();
        let known = LastError::record(&mut self.with.status.lock().last_error, &error.to_string(), self.with.clock.wall_micros());
        if known {
            tracing::error!(job, %error, "writing a checkpoint failed");
        }
        match error {
            StoreError::Io { .. } => Taken::Failed,
            // Another process has the job, or nobody knows what is durable: this one must not go on.
            _ => {
                self.with.fault.set(format!("its checkpoint cannot be written: {error}"));
                Taken::Over
            }
        }
    }

    fn mark_dropped(&self) {
        let meta = serde_json::to_value(self.with.names.dropped()).expect("names are JSON");
        let epoch = self.with.writer.manifest().epoch;
        let stored = Stored { epoch, meta, sections: Vec::new(), keep: Keep::None };
        match self.with.writer.commit(stored) {
            Ok(_) => self.with.pushed.remove(),
            Err(error) => {
                tracing::error!(job = self.with.job.name(), %error, "the job is dropped, but its checkpoints do not say so");
            }
        }
    }

    /// Tells sources up to where they need not keep what was read.
    fn tell_sources(&self, checkpoint: &Checkpoint) {
        self.with.sources.iter().for_each(|source| source.opened.saved());
        let mut read: BTreeMap<usize, Vec<(PartitionId, Offset)>> = BTreeMap::new();
        for ((source, partition), position) in &checkpoint.positions {
            if let Ok(Stood { offset: Some(offset), .. }) = position.parse() {
                read.entry(*source).or_default().push((PartitionId::new(partition), offset));
            }
        }
        for (source, positions) in read {
            self.with.sources[source].opened.committed(&positions);
        }
    }

    /// Waits until all of a job that has finished is published.
    fn drain(&self) {
        for queue in &self.with.queues {
            while !queue.outbox.drained(SLICE) {
                if self.stopped() || self.with.fault.reason().is_some() {
                    return;
                }
            }
        }
    }
}
