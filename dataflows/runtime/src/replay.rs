//! Runs recorded epochs of a job once more, beside whatever the job does now: nothing of it is claimed, and nothing written but
//! what its sinks would have been given, to files of its own.
//!
//! It begins with the newest checkpoint or savepoint before the first epoch that is wanted, or with nothing if the records go back
//! to the job's beginning, and goes through all epochs from there with the same boundaries and watermarks ([`crate::journal`]).

mod sink;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, UNIX_EPOCH};

use highwater_connectors::source::Waker;
use highwater_engine::{EpochSink, JobSpec, JobState, Script, Time, kept_operators};
use highwater_plan::{Diagnostic, Job};
use highwater_store::{JobStore, Manifest, StoreError};

use self::sink::Lines;
use crate::checkpoints::{CheckpointError, Meta, Names, Restored, Restoring};
use crate::congestion::Congestion;
use crate::ingest::Stood;
use crate::jobs::Runtime;
use crate::journal::{JournalError, Recorded, missing_partition};
use crate::open::{Beginnings, OpenSource, Opening, Resumed};
use crate::pushed::Pushed;
use crate::running::RunningJob;
use crate::signal::Signal;
use crate::status::Fault;
use crate::upgrade::SourceMeta;
use crate::upgrade::origins::{grown, moved, other_start};

/// Which epochs are run again, and where their rows go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayOptions {
    /// The first epoch whose rows are wanted.
    pub from: Time,
    /// The last; `None`: the last that is recorded.
    pub to: Option<Time>,
    /// A directory for a file of lines per sink; `None`: they are not written.
    pub into: Option<PathBuf>,
}

/// A job that goes through recorded epochs.
pub struct Replayed {
    /// The job. Its views are those as of the last epoch when it is there.
    pub job: Arc<RunningJob>,
    /// The epoch that it begins after.
    pub base: Time,
    /// The first epoch that it goes through whose rows are wanted, and the last.
    pub epochs: (Time, Time),
}

/// Epochs cannot be run again.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// There is nothing to read.
    #[error("epochs are run again from where they were recorded: a directory of checkpoints (--checkpoints)")]
    NoDirectory,
    /// Nothing is recorded.
    #[error(
        "no epochs of job '{0}' are recorded; run it with --record-epochs (jobs with an at-least-once sink record what a restart \
         needs)"
    )]
    NothingRecorded(String),
    /// Not those that are wanted.
    #[error("of job '{job}' epochs {first} to {last} are recorded, and {wanted} is not among them")]
    NotRecorded {
        /// The job.
        job: String,
        /// The first that is recorded.
        first: Time,
        /// The last.
        last: Time,
        /// What was asked for.
        wanted: String,
    },
    /// There is no state to begin with.
    #[error(
        "job '{job}' cannot be run from epoch {from}: {there}; make a savepoint before the epochs that are to be run again, and \
         record for long enough (--record-epochs)"
    )]
    NoState {
        /// The job.
        job: String,
        /// The epoch.
        from: Time,
        /// What there is.
        there: String,
    },
    /// A partition is gone.
    #[error("source '{0}' has no partition '{1}' any more, from which rows were read in these epochs")]
    NoPartition(String, String),
    /// Nobody knows any more where reading began.
    #[error(
        "these epochs are run from the job's beginning, and what source '{0}' gave then cannot be told again; make a savepoint while \
         the job runs, and run epochs after it"
    )]
    Start(String),
    /// A source is another one than it was.
    #[error("source '{source_name}' is not what it was in these epochs: {how}")]
    Moved {
        /// The source.
        source_name: String,
        /// What differs, and what can be done.
        how: String,
    },
    /// The job's text cannot be run.
    #[error("{}", .0.first().map_or_else(String::new, ToString::to_string))]
    Diagnostics(Vec<Diagnostic>),
    /// What is kept of the job cannot be read.
    #[error(transparent)]
    Checkpoints(#[from] CheckpointError),
    /// A file of lines cannot be written.
    #[error("{0}")]
    Output(String),
    /// The workers did not take it.
    #[error(transparent)]
    Engine(#[from] highwater_engine::EngineError),
}

impl From<StoreError> for ReplayError {
    fn from(error: StoreError) -> Self {
        ReplayError::Checkpoints(error.into())
    }
}

impl From<JournalError> for ReplayError {
    fn from(error: JournalError) -> Self {
        ReplayError::Checkpoints(error.into())
    }
}

/// What is recorded of a run.
struct Run {
    name: String,
    /// What is known of the job's sources.
    sources: Vec<SourceMeta>,
    /// What they accepted.
    pushed: Pushed,
    recorded: Recorded,
}

impl Runtime {
    /// Runs recorded epochs of the job `name` again. It is not among [`Runtime::jobs`]; [`Runtime::end_replay`] ends it.
    pub fn replay(&self, name: &str, text: &str, job: Job, options: &ReplayOptions) -> Result<Replayed, ReplayError> {
        let store = self.store().ok_or(ReplayError::NoDirectory)?.job(name)?;
        let run = run_of(&store)?;
        let (first, last) = run.recorded.bounds().ok_or_else(|| ReplayError::NothingRecorded(name.to_owned()))?;
        let through = options.to.unwrap_or(last);
        let wanted = match options.to {
            Some(to) => format!("{} to {to}", options.from),
            None => options.from.to_string(),
        };
        if options.from < first || through > last || options.from > through {
            return Err(ReplayError::NotRecorded { job: name.to_owned(), first, last, wanted });
        }
        let whole = Arc::new(job.clone());
        let names = Names::new(&whole, kept_operators(&whole)?, self.registry(), text, false);
        let base = self.base(&store, &run, options.from)?;
        if base.is_none() {
            same_beginnings(&run, &names)?;
        }
        let restored = match &base {
            None => None,
            Some(manifest) => {
                let restoring = Restoring {
                    name,
                    job: &whole,
                    names: &names,
                    store: &store,
                    engine: self.engine(),
                    registry: self.registry(),
                    clock: self.clock(),
                    upgrade: false,
                    progress: self.restores().begin(name, &**self.clock()),
                };
                restoring.read(manifest)?
            }
        };
        let after = restored.as_ref().map_or(0, |restored| restored.epoch);
        let script = Script { epochs: run.recorded.script(&job, after, through), stops: true };
        let begins = script.epochs.iter().map(|record| record.epoch).find(|epoch| *epoch >= options.from);
        let begins = begins.ok_or_else(|| ReplayError::NotRecorded { job: name.to_owned(), first, last, wanted })?;
        let through = script.end();
        let job = self.start_replay(name, text, job, &run, script, restored, &names, options)?;
        Ok(Replayed { job: Arc::new(job), base: after, epochs: (begins, through) })
    }

    /// Ends a job that goes through recorded epochs.
    pub fn end_replay(&self, replayed: &Replayed) {
        // Its workers may have ended already.
        let _ = self.engine().drop_job(replayed.job.handle.id());
    }

    /// The newest state before an epoch; `None`: the job's beginning.
    fn base(&self, store: &JobStore, run: &Run, from: Time) -> Result<Option<Manifest>, ReplayError> {
        let mut there = Vec::new();
        let mut kept = store.list()?;
        kept.sort_by_key(|info| std::cmp::Reverse(info.epoch));
        for info in kept {
            let Some(epoch) = info.epoch else { continue };
            there.push(format!("{} of epoch {epoch}{}", info.name, if info.problem.is_some() { " (damaged)" } else { "" }));
            if epoch >= from || info.problem.is_some() || !run.recorded.has_state_of(epoch) {
                continue;
            }
            let manifest = store.at(&info.name)?;
            if Meta::read(&manifest)?.is_some_and(|meta| meta.run.as_deref() == Some(&run.name)) {
                return Ok(Some(manifest));
            }
        }
        if run.recorded.has_state_of(0) {
            return Ok(None);
        }
        let there = match there.is_empty() {
            true => "there is no checkpoint".to_owned(),
            false => format!(
                "the checkpoints that there are do not come before it, or what followed them is not recorded: {}",
                there.join(", ")
            ),
        };
        Err(ReplayError::NoState { job: store.name().to_owned(), from, there })
    }

    #[allow(clippy::too_many_arguments, reason = "each is used once")]
    fn start_replay(
        &self,
        name: &str,
        text: &str,
        mut job: Job,
        run: &Run,
        script: Script,
        mut restored: Option<Restored>,
        names: &Names,
        options: &ReplayOptions,
    ) -> Result<RunningJob, ReplayError> {
        let signal = Arc::new(Signal::default());
        let fault = Arc::new(Fault::new(Arc::clone(&signal)));
        let wakers: Vec<Waker> = (0..self.workers()).map(|worker| self.engine().waker(worker)).collect();
        // A source is split as it was then.
        let beginning = || run.recorded.partitions().map(|partition| (partition.clone(), Stood::default())).collect();
        let resumed = match &mut restored {
            Some(restored) => std::mem::take(&mut restored.resumed),
            None => Resumed { epoch: 0, positions: beginning(), beginnings: Beginnings::Again },
        };
        let opening = Opening {
            job: name,
            registry: self.registry(),
            congestion: Arc::new(Congestion::new(wakers.clone())),
            wakers,
            fault: Arc::clone(&fault),
            signal: Arc::clone(&signal),
            clock: Arc::clone(self.clock()),
            pushed: Some(&run.pushed),
            resumed: Some(resumed),
            writes: false,
        };
        let opened = opening.open(&job).map_err(ReplayError::Diagnostics)?;
        let read: BTreeSet<usize> =
            script.epochs.iter().flat_map(|record| record.read.keys()).map(|(source, _)| *source).collect();
        let from_start = read.iter().filter(|_| restored.is_none()).filter_map(|source| opened.sources.get(*source));
        // What was pushed is in the log from the first row on, or the log says that it is not.
        let begins_anew = |source: &&OpenSource| source.push.is_some() || source.opened.repeats();
        if let Some(source) = from_start.into_iter().find(|source| !begins_anew(source)) {
            return Err(ReplayError::Start(source.name.clone()));
        }
        let partitions: Vec<_> = opened.sources.iter().flat_map(OpenSource::names).collect();
        if let Some((source, partition)) = missing_partition(&script, &job, &partitions) {
            return Err(ReplayError::NoPartition(source, partition));
        }
        job.settings.epoch_rows_max = opened.epoch_rows_max;
        let (mut sinks, mut files): (Vec<Box<dyn EpochSink>>, Vec<PathBuf>) = Default::default();
        for sink in &job.sinks {
            let lines = Lines::new(options.into.as_deref(), &sink.name, options.from).map_err(ReplayError::Output)?;
            files.extend(lines.path().map(Path::to_path_buf));
            sinks.push(Box::new(lines));
        }
        let restored_from = restored.as_ref().map(|restored| restored.epoch);
        let (state, reading) = restored.map(|restored| (restored.state, restored.reading)).unzip();
        let spec = JobSpec {
            name: format!("{name} (replayed)"),
            job: Arc::new(job),
            feeds: opened.feeds,
            sinks,
            until_end: true,
            checkpoints: false,
            restore: state,
            script,
            recorder: None,
            excerpt: None,
        };
        let handle = self.engine().create(spec)?;
        if let Some(reading) = reading.flatten() {
            reading.finish(self.engine(), &handle, names).inspect_err(|_| {
                // Whoever mends what cannot be read and tries again is to find the directory as it was.
                files.iter().for_each(|file| _ = fs::remove_file(file));
            })?;
        }
        let told = Arc::clone(&signal);
        handle.listen(move |_, _| told.notify());
        fault.attach(handle.clone());
        tracing::info!(job = name, from = restored_from, "recorded epochs are run again");
        Ok(RunningJob {
            name: name.to_owned(),
            text: text.to_owned(),
            created: UNIX_EPOCH + Duration::from_micros(self.clock().wall_micros().unsigned_abs()),
            handle,
            warnings: opened.warnings,
            sources: Arc::new(opened.sources),
            sinks: Vec::new(),
            checkpoints: None,
            fault,
            signal,
            clock: Arc::clone(self.clock()),
            writing: Mutex::default(),
            upgrade: None,
            threads: RwLock::default(),
        })
    }
}

impl Replayed {
    /// Waits until all epochs were gone through, or `timeout` has passed; whether they were.
    ///
    /// Errors: why the job failed.
    pub fn wait(&self, timeout: Duration) -> Result<bool, String> {
        let closed = self.job.wait_closed(self.epochs.1, timeout);
        match self.job.state() {
            JobState::Failed(why) => Err(why),
            JobState::Dropped => Err("it was stopped".into()),
            JobState::Running | JobState::Finished => Ok(closed >= self.epochs.1),
        }
    }
}

/// What is recorded of the run that the newest checkpoint is of.
fn run_of(store: &JobStore) -> Result<Run, ReplayError> {
    let name = store.name().to_owned();
    let none = || ReplayError::NothingRecorded(name.clone());
    let manifest = store.latest()?.ok_or_else(none)?;
    let (run, sources) = match Meta::read(&manifest)? {
        Some(Meta { run: Some(run), sources, .. }) => (run, sources),
        _ => return Err(none()),
    };
    let pushed = Pushed::again(store, run.clone());
    let directory = pushed.epochs()?.ok_or(ReplayError::NoDirectory)?;
    Ok(Run { name: run, sources, pushed, recorded: Recorded::read(&directory)? })
}

/// Whether all sources begin where they began then. Their state says so otherwise.
fn same_beginnings(run: &Run, names: &Names) -> Result<(), ReplayError> {
    let grown = grown(&run.sources, names.sources()).into_iter().map(|(source, grown)| (source, format!("it {}", grown.how)));
    let moved = moved(&run.sources, names.sources()).into_iter().chain(grown);
    let moved = moved.map(|(source, how)| (source, format!("{how}; write it as it was")));
    let started = names.sources().iter().filter_map(|now| Some((now.name.clone(), other_start(&run.sources, now)?)));
    match moved.chain(started).next() {
        Some((source_name, how)) => Err(ReplayError::Moved { source_name, how }),
        None => Ok(()),
    }
}
