//! A running job, as the rest of the process holds it: push rows, read views, wait, look inside.

use std::cell::Cell;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, SystemTime};

use arrow::array::Int64Array;
use arrow::record_batch::RecordBatch;
use highwater_connectors::source::{Backlog, PushError, PushHandle, PushRequest, PushSummary, Receipt};
use highwater_engine::{JobHandle, JobState, Time};
use highwater_plan::{Diagnostic, SourceKind};

use crate::checkpoints::{CheckpointInfo, CheckpointStatus, CheckpointThread};
use crate::clock::Clock;
use crate::discovery::DiscoveryThread;
use crate::journal::JournalThread;
use crate::open::OpenSource;
use crate::publishing::PublishingThread;
use crate::signal::Signal;
use crate::sinks::{SinkInfo, SinkStatus};
use crate::status::{Fault, LastError, PartitionInfo};
use crate::upgrade::Upgrade;

/// A job that was created and not yet dropped; it may have finished or failed.
pub struct RunningJob {
    pub(crate) name: String,
    pub(crate) text: String,
    pub(crate) created: SystemTime,
    pub(crate) handle: JobHandle,
    pub(crate) warnings: Vec<Diagnostic>,
    pub(crate) sources: Arc<Vec<OpenSource>>,
    pub(crate) sinks: Vec<Arc<SinkStatus>>,
    pub(crate) fault: Arc<Fault>,
    pub(crate) signal: Arc<Signal>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) writing: Mutex<()>,
    pub(crate) checkpoints: Option<Arc<CheckpointStatus>>,
    pub(crate) upgrade: Option<Upgrade>,
    pub(crate) threads: RwLock<Threads>,
}

/// What works for a job beside its workers.
#[derive(Default)]
pub(crate) struct Threads {
    // Fields are dropped in order: a checkpoint that is being written may still be published.
    pub(crate) checkpoints: Option<CheckpointThread>,
    // It flushes what is complete before it ends, and checkpoints wait for it.
    pub(crate) journal: Option<JournalThread>,
    pub(crate) publishing: Vec<PublishingThread>,
    pub(crate) discovery: Option<DiscoveryThread>,
}

impl Threads {
    /// Whether nothing of a job that has finished is left to be saved or published.
    fn are_settled(&self) -> bool {
        self.checkpoints.as_ref().is_none_or(CheckpointThread::is_settled)
            && self.publishing.iter().all(PublishingThread::is_drained)
    }
}

/// A source or table of a running job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceInfo {
    /// Its name.
    pub name: String,
    /// Stream or table.
    pub kind: SourceKind,
    /// Its connector's name.
    pub connector: String,
    /// Whether it ends by itself.
    pub bounded: bool,
    /// Whether rows can be pushed to it.
    pub pushable: bool,
    /// What waits to be read, as far as its connector can know.
    pub backlog: Option<Backlog>,
    /// What it keeps of what clients pushed until a checkpoint has it: bodies (as rows) and bytes; `None`: nothing.
    pub log: Option<Backlog>,
    /// Its partitions.
    pub partitions: Vec<PartitionInfo>,
}

/// Pushed rows were not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PushFailure {
    /// The job has no source of this name.
    #[error("no source '{0}' in this job")]
    UnknownSource(String),
    /// The source gets its rows elsewhere.
    #[error("source '{source_name}' cannot be pushed to: its connector is '{connector}'; declare it with connector = 'http'")]
    NotPushable {
        /// The source's name.
        source_name: String,
        /// Its connector's name.
        connector: String,
    },
    /// The source did not take them.
    #[error(transparent)]
    Refused(#[from] PushError),
}

impl RunningJob {
    /// Its name, unique among the jobs there are.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its SQL.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// When it was created.
    pub fn created(&self) -> SystemTime {
        self.created
    }

    /// What the engine gives to hold of it.
    pub fn handle(&self) -> &JobHandle {
        &self.handle
    }

    /// What became of its state, if it goes on from that of another version of it.
    pub fn upgrade(&self) -> Option<&Upgrade> {
        self.upgrade.as_ref()
    }

    /// What a person should know although it runs.
    pub fn warnings(&self) -> &[Diagnostic] {
        &self.warnings
    }

    /// How it is. Prefer this to the handle's state: a partition that cannot be read fails the job, too, and a job has not
    /// finished before its last rows are saved and published.
    pub fn state(&self) -> JobState {
        match (self.handle.state(), self.fault.reason()) {
            (JobState::Running | JobState::Finished, Some(reason)) => JobState::Failed(reason.to_owned()),
            (JobState::Finished, None) if !self.threads().are_settled() => JobState::Running,
            (state, _) => state,
        }
    }

    /// How its checkpoints are; `None` if it has none.
    pub fn checkpoints(&self) -> Option<CheckpointInfo> {
        self.checkpoints.as_ref().map(|status| status.info())
    }

    /// Saves and publishes all epochs up to the one that is closed now, or waits until `timeout` has passed; whether all are.
    ///
    /// A job without checkpoints only publishes.
    pub fn settle(&self, timeout: Duration) -> bool {
        self.settle_through(self.handle.closed(), timeout)
    }

    /// As [`RunningJob::settle`], and all rows that were accepted before this was called, if not more of them wait than an epoch
    /// takes.
    pub(crate) fn settle_accepted(&self, timeout: Duration) -> bool {
        let left = self.deadline(Some(timeout));
        let anew = || {
            let opened = self.handle.stats().epoch_opened.load(Ordering::Acquire);
            self.threads().checkpoints.iter().for_each(CheckpointThread::want_anew);
            self.settle_through(opened + 1, left().unwrap_or_default())
        };
        // A worker may have asked its feeds before this was called, and opened the first epoch after it. All give to that one
        // before they ask their feeds for the second.
        anew() && anew()
    }

    fn settle_through(&self, closed: Time, timeout: Duration) -> bool {
        let wanted = self.checkpoints.is_some();
        self.want_checkpoint();
        let through = Cell::new(if wanted { None } else { Some(closed) });
        let settled = || {
            if through.get().is_none() {
                through.set(self.checkpoints().and_then(|info| info.epoch.filter(|epoch| *epoch >= closed)));
            }
            let published = |through: Time| self.threads().publishing.iter().all(|sink| sink.has_published(through));
            let over = self.handle.state() == JobState::Finished && self.threads().are_settled();
            let done = over || through.get().is_some_and(published);
            let gone = matches!(self.handle.state(), JobState::Failed(_) | JobState::Dropped);
            let failed = self.fault.reason().is_some() || gone;
            (done || failed).then_some(done)
        };
        self.signal.wait(settled, self.deadline(Some(timeout))).unwrap_or(false)
    }

    /// Has a checkpoint taken without waiting for its time.
    fn want_checkpoint(&self) {
        if let Some(checkpoints) = &self.threads().checkpoints {
            checkpoints.want();
        }
        // Not while the threads are locked: who looks under the signal's lock asks for them.
        self.signal.notify();
    }

    fn threads(&self) -> RwLockReadGuard<'_, Threads> {
        self.threads.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// As [`RunningJob::end_threads`], of a job that is dropped: its checkpoints say so.
    pub(crate) fn forget(&self) {
        if let Some(checkpoints) = &self.threads().checkpoints {
            checkpoints.dropped();
        }
        self.end_threads();
    }

    /// Ends what works for it beside its workers; waits until it has.
    pub(crate) fn end_threads(&self) {
        let threads = std::mem::take(&mut *self.threads.write().unwrap_or_else(PoisonError::into_inner));
        drop(threads);
    }

    /// Pushes rows to a source; `done` gets the epoch at which they are visible: [`RunningJob::read_view`] waits for it.
    ///
    /// A job that ends before it has taken the rows does not call `done`: whoever waits for it has to have a limit.
    pub fn push(&self, source: &str, request: PushRequest, done: Receipt) -> Result<PushSummary, PushFailure> {
        Ok(self.push_handle(source)?.push(request, done)?)
    }

    /// Pushes rows that are columns already, as [`RunningJob::push`] does.
    pub fn push_rows(&self, source: &str, rows: RecordBatch, diffs: Int64Array, done: Receipt) -> Result<(), PushFailure> {
        let push = self.push_handle(source)?;
        Ok(push.push_rows(rows, diffs, done)?)
    }

    /// The handle of a source that rows can be pushed to now.
    fn push_handle(&self, source: &str) -> Result<&Arc<dyn PushHandle>, PushFailure> {
        let Some(source) = self.sources.iter().find(|known| known.name == source) else {
            return Err(PushFailure::UnknownSource(source.to_owned()));
        };
        let Some(push) = &source.push else {
            let (source_name, connector) = (source.name.clone(), source.connector.clone());
            return Err(PushFailure::NotPushable { source_name, connector });
        };
        if self.state() != JobState::Running {
            return Err(PushError::Closed.into());
        }
        Ok(push)
    }

    /// Held by who reads its views to change its tables by what he finds: one at a time.
    pub fn writing(&self) -> MutexGuard<'_, ()> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its sources and tables, in the order of their statements.
    pub fn sources(&self) -> Vec<SourceInfo> {
        self.sources.iter().map(source_info).collect()
    }

    /// Its sinks, in the order of their statements.
    pub fn sinks(&self) -> Vec<SinkInfo> {
        self.sinks.iter().map(|sink| sink.lock().clone()).collect()
    }

    /// What is wrong now, one line each: why it failed, partitions that cannot be read, sinks that cannot be written.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if let JobState::Failed(reason) = self.state() {
            problems.push(reason);
        }
        for source in self.sources() {
            for partition in &source.partitions {
                if let Some(error) = LastError::current(&partition.last_error) {
                    problems.push(format!("source '{}', partition '{}': {error}", source.name, partition.id));
                }
            }
        }
        for sink in self.sinks() {
            if let Some(error) = LastError::current(&sink.last_error) {
                problems.push(format!("sink '{}': {error}", sink.name));
            }
        }
        if let Some(error) = self.checkpoints().as_ref().and_then(|info| LastError::current(&info.last_error).map(str::to_owned))
        {
            problems.push(format!("checkpoints: {error}"));
        }
        // The reason of a failure is mostly the error of a partition or sink that follows.
        let mut seen = std::collections::BTreeSet::new();
        problems.retain(|problem| seen.insert(problem.clone()));
        problems
    }

    /// Blocks until the closed epoch is at least `epoch`, the job is over, or `timeout` has passed; gives the closed
    /// epoch.
    pub fn wait_closed(&self, epoch: Time, timeout: Duration) -> Time {
        let reached = || (self.handle.closed() >= epoch || self.state() != JobState::Running).then_some(());
        self.signal.wait_closed(reached, self.deadline(Some(timeout)));
        self.handle.closed()
    }

    /// Blocks until a restart would find the job as it is now, or `timeout` has passed; whether one would. None finds a job without
    /// checkpoints, or one that has failed before its first.
    pub fn wait_saved(&self, timeout: Duration) -> bool {
        let has_one = || self.checkpoints().is_some_and(|info| info.epoch.is_some());
        if !has_one() {
            self.want_checkpoint();
        }
        let ended = || match self.state() {
            JobState::Running => false,
            JobState::Finished => self.checkpoints.is_none() || self.threads().are_settled(),
            JobState::Failed(_) | JobState::Dropped => true,
        };
        let done = || (has_one() || self.checkpoints.is_none() || ended()).then(has_one);
        self.signal.wait(done, self.deadline(Some(timeout))).unwrap_or(false)
    }

    /// Blocks until the job is over or `timeout` has passed; gives its state.
    pub fn wait_over(&self, timeout: Option<Duration>) -> JobState {
        let over = || (self.state() != JobState::Running).then_some(());
        self.signal.wait(over, self.deadline(timeout));
        self.state()
    }

    /// What is left of `timeout`, counted from now.
    pub(crate) fn deadline(&self, timeout: Option<Duration>) -> impl Fn() -> Option<Duration> + '_ {
        /// Waking for nothing once an hour is simpler than two ways to wait.
        const LONG: Duration = Duration::from_secs(3_600);
        let start = self.clock.elapsed();
        move || match timeout {
            None => Some(LONG),
            Some(timeout) => {
                let left = timeout.saturating_sub(self.clock.elapsed().saturating_sub(start));
                (left > Duration::ZERO).then(|| left.min(LONG))
            }
        }
    }
}

fn source_info(source: &OpenSource) -> SourceInfo {
    let partitions = source.partitions();
    SourceInfo {
        name: source.name.clone(),
        kind: source.kind,
        connector: source.connector.clone(),
        bounded: source.bounded,
        pushable: source.push.is_some(),
        backlog: backlog(source, &partitions),
        log: source.push.as_ref().and_then(|push| push.kept()),
        partitions,
    }
}

/// The readers' backlog. A source that is pushed to knows its queue exactly, so what its readers said a while ago does not count.
fn backlog(source: &OpenSource, partitions: &[PartitionInfo]) -> Option<Backlog> {
    if let Some(push) = &source.push {
        return Some(push.depth());
    }
    let known = partitions.iter().filter_map(|partition| partition.backlog);
    known.reduce(|sum, next| Backlog { rows: sum.rows + next.rows, bytes: sum.bytes + next.bytes })
}
