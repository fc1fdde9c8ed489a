//! A job in the engine: what it is made of, and what the process holds of it while it runs.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use highwater_plan::Job;

use crate::alarm::Alarms;
use crate::checkpoint::{CheckpointDone, Restore};
use crate::excerpt::Excerpt;
use crate::recorded::{Recorder, Script};
use crate::stats::JobStats;
use crate::view::ViewHandle;
use crate::{Delta, Feed, Time};

/// What it takes to run a job.
pub struct JobSpec {
    /// Its name, for messages and metrics.
    pub name: String,
    /// What it computes.
    pub job: Arc<Job>,
    /// Where its rows come from.
    pub feeds: Vec<FeedSpec>,
    /// Where its changes go, one per [`Job::sinks`].
    pub sinks: Vec<Box<dyn EpochSink>>,
    /// Its state will be saved: see [`JobHandle::checkpoint`].
    pub checkpoints: bool,
    /// What it goes on from.
    pub restore: Option<Restore>,
    /// End the job when all bounded feeds have finished, although others have not, and although the clock would still
    /// change its results.
    pub until_end: bool,
    /// Epochs that it goes through again before it opens its own.
    pub script: Script,
    /// Told what every further epoch is made of.
    pub recorder: Option<Arc<Recorder>>,
    /// Only this of it is run.
    pub excerpt: Option<Excerpt>,
}

/// One feed and the worker that reads it.
pub struct FeedSpec {
    /// Index into [`Job::sources`]; the numbers after those are of [`Excerpt::given`].
    pub source: usize,
    /// Which worker asks it.
    pub worker: usize,
    /// Whether it finishes by itself.
    pub bounded: bool,
    /// The rows.
    pub feed: Box<dyn Feed>,
}

/// Takes the changes of one closed epoch after another.
pub trait EpochSink: Send {
    /// Takes the consolidated changes of `epoch`. Epochs come in order; those without changes do not come.
    fn write(&mut self, epoch: Time, changes: &[Delta]) -> Result<(), String>;

    /// No further epoch is closed for now.
    fn flush(&mut self) -> Result<(), String>;
}

/// How a job is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobState {
    /// Rows may come.
    Running,
    /// All feeds have finished and every row is in the results.
    Finished,
    /// It stopped by itself: why.
    Failed(String),
    /// It was dropped.
    Dropped,
}

/// A running job, as every thread may hold it.
#[derive(Clone)]
pub struct JobHandle {
    pub(crate) shared: Arc<JobShared>,
}

/// Called with the closed epoch whenever it has grown, and when the state changed.
pub(crate) type Listener = Box<dyn Fn(Time, &JobState) + Send + Sync>;

/// What workers and handles share of a job.
pub(crate) struct JobShared {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) job: Arc<Job>,
    pub(crate) views: Vec<Arc<ViewHandle>>,
    pub(crate) stats: Arc<JobStats>,
    /// When operators have something to do though no row comes.
    pub(crate) alarms: Alarms,
    /// Per worker the last epoch whose batches it has published.
    pub(crate) published: Vec<AtomicU64>,
    pub(crate) state: Mutex<JobState>,
    pub(crate) listeners: Mutex<Vec<Listener>>,
    /// Lets every worker look what there is to do.
    pub(crate) wake_all: Arc<dyn Fn() + Send + Sync>,
    /// Per source those that are read to their end before it.
    pub(crate) first: Vec<BTreeSet<usize>>,
    pub(crate) excerpt: Option<Excerpt>,
    pub(crate) script: Script,
    pub(crate) recorder: Option<Arc<Recorder>>,
}

impl std::fmt::Debug for JobHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JobHandle").field("name", &self.shared.name).field("closed", &self.closed()).finish_non_exhaustive()
    }
}

impl JobHandle {
    /// The engine's number of the job.
    pub fn id(&self) -> u64 {
        self.shared.id
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// What it computes.
    pub fn job(&self) -> &Arc<Job> {
        &self.shared.job
    }

    /// Materialised views, then `$late` and `$rejects` of each source and `$errors` of each view.
    pub fn views(&self) -> &[Arc<ViewHandle>] {
        &self.shared.views
    }

    /// The view or side relation of this name.
    pub fn view(&self, name: &str) -> Option<&Arc<ViewHandle>> {
        self.shared.views.iter().find(|view| view.name() == name)
    }

    /// Counters.
    pub fn stats(&self) -> &Arc<JobStats> {
        &self.shared.stats
    }

    /// The last epoch whose changes are in every view on every worker; 0 before the first.
    pub fn closed(&self) -> Time {
        self.shared.closed()
    }

    /// Whether all of its operators have what they had, if it goes on from a checkpoint: before that it opens no epoch.
    pub fn has_begun(&self) -> bool {
        self.shared.stats.checkpoints.has_begun()
    }

    /// How it is.
    pub fn state(&self) -> JobState {
        self.shared.state.lock().expect("a state is set without panicking").clone()
    }

    /// Stops the job, whose views stay readable as of the last closed epoch; `reason` says why, to people.
    pub fn fail(&self, reason: String) {
        self.shared.set_state(JobState::Failed(reason));
    }

    /// Takes the job's state as of an epoch that begins soon, without stopping it: what changed since the checkpoint before.
    ///
    /// Of a job that has finished it is the state as of its last epoch.
    ///
    /// Errors: the reason is given to `done` if the job was started without [`JobSpec::checkpoints`], the checkpoint before
    ///         is not done, or the job has failed or was dropped.
    pub fn checkpoint(&self, done: CheckpointDone) {
        if !matches!(self.state(), JobState::Running | JobState::Finished) {
            return done(Err("the job has ended".into()));
        }
        self.shared.stats.checkpoints.ask(done);
        (self.shared.wake_all)();
    }

    /// Calls `listener` whenever [`JobHandle::closed`] grew or the state changed, on a worker's thread: it must be quick.
    pub fn listen(&self, listener: impl Fn(Time, &JobState) + Send + Sync + 'static) {
        self.shared.listeners.lock().expect("listeners are added without panicking").push(Box::new(listener));
    }
}

impl JobShared {
    pub(crate) fn closed(&self) -> Time {
        self.published.iter().map(|epoch| epoch.load(Ordering::Acquire)).min().unwrap_or(0)
    }

    /// Sets the state unless the job is over already, and tells the listeners.
    pub(crate) fn set_state(&self, state: JobState) {
        let changes = {
            let mut current = self.state.lock().expect("a state is set without panicking");
            let changes = *current == JobState::Running;
            if changes {
                *current = state.clone();
            }
            changes
        };
        // Of a job that has finished every operator has yet to give its last state.
        if state != JobState::Finished {
            self.stats.checkpoints.abandon("the job has ended");
        }
        if changes {
            self.tell();
        }
    }

    pub(crate) fn tell(&self) {
        let state = self.state.lock().expect("a state is set without panicking").clone();
        let closed = self.closed();
        for listener in self.listeners.lock().expect("listeners are added without panicking").iter() {
            listener(closed, &state);
        }
    }
}
