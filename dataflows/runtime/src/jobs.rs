//! All jobs of a process: create, find, drop.
//!
//! Jobs do not disturb each other: they share worker threads, nothing else. Each has names of its own; two may have views or
//! sources of the same name.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, UNIX_EPOCH};

use highwater_connectors::Registry;
use highwater_connectors::source::Waker;
use highwater_engine::{Engine, EngineConfig, JobSpec, JobState, Recorder, Script, Time, kept_operators};
use highwater_plan::{Diagnostic, Job};
use highwater_store::{Policy, Section, Store, Writer};
use highwater_turns::{Point, crash_point};

use crate::checkpoints::{CheckpointConfig, CheckpointError, CheckpointStatus, Checkpointing, Names, Queue, Restored, Restoring};
use crate::clock::{Clock, SystemClock};
use crate::congestion::Congestion;
use crate::discovery::{Discovery, Growing};
use crate::journal::{self, Journal, Journaled, Journaling};
use crate::open::{OpenSource, Opening};
use crate::outbox::Outbox;
use crate::publishing::Publishing;
use crate::pushed::Pushed;
use crate::reserved::{Purpose, Reservation, Reserved};
use crate::restoring::{RestoreInfo, Restores};
use crate::running::RunningJob;
use crate::savepoints::RestoreFrom;
use crate::signal::Signal;
use crate::status::Fault;

/// How long dropping waits for a job's dataflow to end: a worker first finishes the step it is in.
const DROP_WAIT: Duration = Duration::from_secs(10);

/// How long creating waits for the first epoch of a job that has what it had.
const RESTORED_WAIT: Duration = Duration::from_secs(10);
/// How often it looks whether the job has that, and the process is to go on.
const LOADING_LOOK: Duration = Duration::from_millis(200);

/// What a runtime is made of.
pub struct RuntimeConfig {
    /// How many worker threads run the jobs.
    pub workers: usize,
    /// The connectors there are.
    pub registry: Registry,
    /// Where and how often the jobs are saved; `None`: not at all.
    pub checkpoints: Option<CheckpointConfig>,
}

/// Runs jobs on worker threads.
pub struct Runtime {
    engine: Engine,
    registry: Registry,
    checkpoints: Option<(CheckpointConfig, Store, Policy)>,
    clock: Arc<dyn Clock>,
    jobs: RwLock<Vec<Arc<RunningJob>>>,
    restores: Restores,
    /// Of jobs that are created, brought back or dropped; `jobs` is only locked for a moment.
    reserved: Arc<Reserved>,
}

/// How a job is run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CreateOptions {
    /// End the job when all bounded sources have ended, although others have not.
    pub until_end: bool,
    /// What it begins with, if checkpoints are kept.
    pub restore: RestoreFrom,
    /// It may go on from what was saved of another version of it: [`crate::Upgrade`].
    pub upgrade: bool,
    /// How many rows its sources were thought to give when it was planned; kept for [`Runtime::planned_rows`].
    pub planned_rows: BTreeMap<String, u64>,
}

/// Where a job's checkpoints go.
struct Kept {
    location: String,
    interval: Duration,
    record: Option<Duration>,
    /// Whether what was recorded after the checkpoint is gone through again.
    replays: bool,
    writer: Arc<Writer>,
    names: Names,
    fresh: bool,
    /// Whether the job goes on from the state of another text.
    changed: bool,
    sections: Vec<Section>,
    pushed: Pushed,
}

/// How a job's epochs are recorded.
struct Recording {
    recorder: Arc<Recorder>,
    woken: Arc<Signal>,
    journal: Journal,
    /// Of sinks that wait for that.
    outboxes: Vec<Arc<Outbox>>,
}

/// The runtime could not start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RuntimeError(pub String);

/// A job was not created; nothing of it runs.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// There is a job of this name.
    #[error("a job '{0}' runs; change it with --upgrade, choose another name, or drop it together with its state")]
    Exists(String),
    /// One is being created or dropped, or will be brought back.
    #[error("a job '{0}' is being created, brought back or dropped; wait until it is, or choose another name")]
    Busy(String),
    /// Its text cannot be run: an option, a source that cannot be read.
    #[error("{}", list(.0))]
    Diagnostics(Vec<Diagnostic>),
    /// Nothing could be seen of it.
    #[error("the job has no materialized view and no sink; add CREATE MATERIALIZED VIEW or CREATE SINK")]
    NoViewsOrSinks,
    /// Its checkpoints cannot be read or written.
    #[error(transparent)]
    Checkpoints(#[from] CheckpointError),
    /// The engine did not take it.
    #[error("the job could not be started: {0}")]
    Engine(String),
}

/// There is no job of this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no job '{0}'")]
pub struct NoSuchJob(pub String);

impl Runtime {
    /// Starts the workers.
    pub fn start(config: RuntimeConfig) -> Result<Arc<Runtime>, RuntimeError> {
        let open = |config: &CheckpointConfig| Store::create(&config.location).map_err(|error| RuntimeError(error.to_string()));
        let store = config.checkpoints.as_ref().map(open).transpose()?;
        Runtime::start_on(config, store.map(|store| (store, Policy::default())))
    }

    /// Starts the workers. Checkpoints go to a store, which the configuration's location only names, and whose files are folded by
    /// a policy; `None`: none are kept, whatever the configuration says.
    pub fn start_on(config: RuntimeConfig, store: Option<(Store, Policy)>) -> Result<Arc<Runtime>, RuntimeError> {
        let engine = Engine::start(EngineConfig { workers: config.workers }).map_err(|error| RuntimeError(error.to_string()))?;
        let checkpoints = config.checkpoints.zip(store).map(|(config, (store, policy))| (config, store, policy));
        Ok(Arc::new(Runtime {
            engine,
            registry: config.registry,
            checkpoints,
            clock: Arc::new(SystemClock),
            jobs: RwLock::default(),
            restores: Restores::default(),
            reserved: Arc::default(),
        }))
    }

    /// Whether jobs are saved.
    pub fn keeps_checkpoints(&self) -> bool {
        self.checkpoints.is_some()
    }

    /// What keeps the jobs' checkpoints.
    pub(crate) fn store(&self) -> Option<&Store> {
        self.checkpoints.as_ref().map(|(_, store, _)| store)
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(crate) fn restores(&self) -> &Restores {
        &self.restores
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// How many worker threads there are.
    pub fn workers(&self) -> usize {
        self.engine.workers()
    }

    /// Opens the sources and sinks of a job and starts it. `text` is what diagnostics speak of.
    pub fn create(&self, name: &str, text: &str, job: Job, options: CreateOptions) -> Result<Arc<RunningJob>, CreateError> {
        let reservation = self.reserve(name, false)?;
        self.create_reserved(reservation, text, job, options)
    }

    /// Takes a name, so that no other job gets it. `returns`: a saved job of this name will be brought back, and is told of by
    /// [`Runtime::returning`] until then.
    pub fn reserve(&self, name: &str, returns: bool) -> Result<Reservation, CreateError> {
        let purpose = if returns { Purpose::Returns } else { Purpose::Begins };
        let reservation = self.reserved.take(name, purpose).ok_or_else(|| CreateError::Busy(name.to_owned()))?;
        // Looked at then: a job that was being created is among them before its name is given back.
        match self.job(name) {
            Some(_) => Err(CreateError::Exists(name.to_owned())),
            None => Ok(reservation),
        }
    }

    /// Takes a name under which a job may run, which is not there for a while before this is given back.
    pub(crate) fn reserve_running(&self, name: &str) -> Result<Reservation, CreateError> {
        let reservation = self.reserved.take(name, Purpose::Changes).ok_or_else(|| CreateError::Busy(name.to_owned()))?;
        if self.reserved.is_closed() {
            return Err(CreateError::Engine("the process is about to end".into()));
        }
        Ok(reservation)
    }

    /// Starts a job under a name that was taken before.
    pub fn create_reserved(
        &self,
        reservation: Reservation,
        text: &str,
        job: Job,
        options: CreateOptions,
    ) -> Result<Arc<RunningJob>, CreateError> {
        let name = reservation.name();
        if self.reserved.is_closed() {
            return Err(CreateError::Engine("the process is about to end".into()));
        }
        if job.views.is_empty() && job.sinks.is_empty() {
            return Err(CreateError::NoViewsOrSinks);
        }
        self.start_listed(name, text, job, options)
    }

    /// Starts a job whose name is reserved.
    pub(crate) fn start_listed(
        &self,
        name: &str,
        text: &str,
        job: Job,
        options: CreateOptions,
    ) -> Result<Arc<RunningJob>, CreateError> {
        let running = Arc::new(self.start_job(name, text, job, options)?);
        self.jobs.write().expect("the list is changed without panicking").push(Arc::clone(&running));
        tracing::info!(job = name, sources = running.sources.len(), sinks = running.sinks.len(), "job created");
        Ok(running)
    }

    fn start_job(&self, name: &str, text: &str, mut job: Job, options: CreateOptions) -> Result<RunningJob, CreateError> {
        let signal = Arc::new(Signal::default());
        let fault = Arc::new(Fault::new(Arc::clone(&signal)));
        let whole = Arc::new(job.clone());
        let kept = self.checkpoints.as_ref();
        let kept = kept.map(|(config, store, _)| self.kept(name, text, &whole, &options, config, store)).transpose()?;
        let (mut kept, mut restored) = match kept {
            Some((kept, restored)) => (Some(kept), restored),
            None => (None, None),
        };
        let epoch = restored.as_ref().map(|restored| restored.epoch);
        let wakers: Vec<Waker> = (0..self.workers()).map(|worker| self.engine.waker(worker)).collect();
        let opening = Opening {
            job: name,
            registry: &self.registry,
            congestion: Arc::new(Congestion::new(wakers.clone())),
            wakers,
            fault: Arc::clone(&fault),
            signal: Arc::clone(&signal),
            clock: Arc::clone(&self.clock),
            pushed: kept.as_ref().map(|kept| &kept.pushed),
            resumed: restored.as_mut().map(|restored| std::mem::take(&mut restored.resumed)),
            writes: true,
        };
        let opened = opening.open(&job).map_err(CreateError::Diagnostics)?;
        // The feeds keep to their own limits; the engine has to ask for as much as the largest allows.
        job.settings.epoch_rows_max = opened.epoch_rows_max;
        let mut warnings = job.warnings.clone();
        warnings.extend(opened.warnings);
        let queue = |(number, outbox): (usize, Arc<Outbox>)| {
            let sink = &job.sinks[number];
            let left = restored.as_mut().and_then(|restored| restored.outboxes.remove(&sink.name));
            if let Some(epoch) = epoch {
                outbox.restore(epoch, left.unwrap_or_default());
            }
            Queue { name: sink.name.clone(), schema: Arc::clone(&sink.schema), outbox }
        };
        let queues = opened.outboxes.into_iter().map(queue).collect();
        let mut sinks = opened.sinks;
        if let Some(upgraded) = restored.as_mut().and_then(|restored| restored.upgraded.as_mut()) {
            for (sink, writer) in job.sinks.iter().zip(&mut sinks) {
                let missed = upgraded.sinks.remove(&sink.name).filter(|missed| !missed.is_empty());
                let written = missed.map_or(Ok(()), |missed| writer.write(upgraded.epoch, &missed));
                written.map_err(|why| CreateError::Engine(format!("sink {}: {why}", sink.name)))?;
            }
        }
        let upgrade = restored.as_mut().and_then(|restored| restored.upgraded.take()).map(|upgraded| upgraded.report);

        let recording = match &mut kept {
            Some(kept) => recording(kept, &job, epoch, &opened.sources, &opened.publishing)?,
            None => None,
        };
        let (state, reading) = restored.map(|restored| (restored.state, restored.reading)).unzip();
        let checkpoints = kept.as_ref().map(|kept| CheckpointStatus::new(kept.location.clone(), state.as_ref()));
        let (script, recording) = recording.map_or_else(Default::default, |(script, recording)| (script, Some(recording)));
        let recorded = script.end();
        let spec = JobSpec {
            name: name.to_owned(),
            job: Arc::new(job),
            feeds: opened.feeds,
            sinks,
            until_end: options.until_end,
            checkpoints: kept.is_some(),
            restore: state,
            script,
            recorder: recording.as_ref().map(|recording| Arc::clone(&recording.recorder)),
            excerpt: None,
        };
        let handle = self.engine.create(spec).map_err(|error| CreateError::Engine(error.to_string()))?;
        let read = reading.flatten().zip(kept.as_ref());
        let progress = read.map(|(reading, kept)| reading.finish(&self.engine, &handle, &kept.names)).transpose()?;
        let told = Arc::clone(&signal);
        handle.listen(move |_, state| match state {
            JobState::Running => told.notify_closed(),
            _ => told.notify(),
        });
        fault.attach(handle.clone());
        let running = RunningJob {
            name: name.to_owned(),
            text: text.to_owned(),
            created: UNIX_EPOCH + Duration::from_micros(self.clock.wall_micros().unsigned_abs()),
            handle,
            warnings,
            sources: Arc::new(opened.sources),
            sinks: opened.sink_statuses,
            checkpoints: checkpoints.map(Arc::new),
            fault,
            signal,
            clock: Arc::clone(&self.clock),
            writing: Mutex::default(),
            upgrade,
            threads: RwLock::default(),
        };
        let started = self.start_threads(&running, kept, recording, queues, opened.publishing, opened.growing);
        if let Err(error) = started {
            // Its threads end with it, its dataflow does not.
            let _ = self.engine.drop_job(running.handle.id());
            return Err(CreateError::Engine(format!("a thread cannot be started: {error}")));
        }
        if let Some(epoch) = epoch {
            // Its views are what they were with its first epoch, or with the last that was recorded: who asks next is to find them
            // so.
            let first = recorded.max(epoch + 1);
            loop {
                // What its operators had they are given before that, however long it takes.
                let begun = running.handle.has_begun();
                let closed = running.wait_closed(first, if begun { RESTORED_WAIT } else { LOADING_LOOK });
                if closed >= first || running.state() != JobState::Running || begun || self.reserved.is_closed() {
                    break;
                }
            }
        }
        drop(progress);
        Ok(running)
    }

    /// Takes over the checkpoints of a job of this name, and begins to read the newest.
    fn kept<'p>(
        &'p self,
        name: &str,
        text: &str,
        job: &Arc<Job>,
        options: &CreateOptions,
        config: &CheckpointConfig,
        store: &Store,
    ) -> Result<(Kept, Option<Restored<'p>>), CheckpointError> {
        let mut names = Names::new(job, kept_operators(job)?, &self.registry, text, options.until_end);
        names.set_planned_rows(&options.planned_rows);
        let own = store.job(name)?;
        // Whoever had it before can write no more from here on: what is newest stays so.
        let with = highwater_store::Options::default();
        let (writer, manifest) = match &options.restore {
            RestoreFrom::Newest => (own.claim(with)?, own.latest()?),
            RestoreFrom::Nothing => (own.claim(with)?, None),
            RestoreFrom::Named { job: Some(other), name: wanted } if other != name => {
                let other = store.job(other)?;
                let wanted = other.at(wanted)?;
                let writer = own.claim(with)?;
                let adopted = writer.adopt(&other, &wanted)?;
                (writer, Some(adopted))
            }
            RestoreFrom::Named { name: wanted, .. } => (own.claim_at(wanted, with)?, Some(own.at(wanted)?)),
        };
        crash_point(Point::Claimed);
        let adopts = matches!(&options.restore, RestoreFrom::Named { job: Some(other), .. } if other != name);
        let restoring = Restoring {
            name,
            job,
            names: &names,
            store: &own,
            engine: &self.engine,
            registry: &self.registry,
            clock: &self.clock,
            upgrade: options.upgrade,
            progress: self.restores.begin(name, &*self.clock),
        };
        let restored = manifest.map(|manifest| restoring.read(&manifest)).transpose()?.flatten();
        crash_point(Point::Restored);
        let mut restored = restored.map(|mut restored| {
            if adopts {
                // What the other job's sinks had still to publish, they publish.
                restored.outboxes.clear();
            }
            restored
        });
        // What another job's sources accepted is not this one's.
        let own = restored.as_ref().filter(|_| !adopts).and_then(|restored| Some((restored.run.clone()?, restored.epoch)));
        let begun = || format!("{:020}-{}", writer.owner().claim, writer.owner().since_ms);
        let (run, resumed) = own.map_or_else(|| (begun(), None), |(run, epoch)| (run, Some(epoch)));
        names.set_run(&run);
        restored.iter().for_each(|restored| names.set_begun(&restored.sources));
        let pushed = Pushed::new(&store.job(name)?, run, resumed, config.record.unwrap_or_default());
        let upgraded = restored.as_mut().and_then(|restored| restored.upgraded.as_mut());
        let sections = upgraded.map(|upgraded| std::mem::take(&mut upgraded.sections));
        let changed = sections.is_some();
        let fresh = restored.is_none() || sections.is_some();
        let (location, writer, sections) = (config.location.clone(), Arc::new(writer), sections.unwrap_or_default());
        let (interval, record) = (config.interval, config.record);
        let replays =
            options.restore == RestoreFrom::Newest && restored.as_ref().is_some_and(|restored| restored.upgraded.is_none());
        Ok((Kept { location, interval, record, replays, writer, names, fresh, changed, sections, pushed }, restored))
    }

    fn start_threads(
        &self,
        running: &RunningJob,
        kept: Option<Kept>,
        recording: Option<Recording>,
        queues: Vec<Queue>,
        publishing: Vec<Publishing>,
        growing: Vec<Growing>,
    ) -> std::io::Result<()> {
        let mut threads = running.threads.write().unwrap_or_else(PoisonError::into_inner);
        for publishing in publishing {
            threads.publishing.push(publishing.start(kept.as_ref().map(|kept| Arc::clone(&kept.writer)))?);
        }
        if !growing.is_empty() {
            let discovery = Discovery {
                job: running.name.clone(),
                sources: Arc::clone(&running.sources),
                growing,
                fault: Arc::clone(&running.fault),
                clock: Arc::clone(&running.clock),
            };
            threads.discovery = Some(discovery.start()?);
        }
        let (Some(kept), Some(status)) = (kept, &running.checkpoints) else { return Ok(()) };
        let journaled = recording.as_ref().map(|_| Arc::<Journaled>::default());
        if let (Some(recording), Some(journaled)) = (recording, &journaled) {
            let journaling = Journaling {
                job: running.name.clone(),
                sources: Arc::new(running.sources.iter().map(|source| source.name.clone()).collect()),
                recorder: recording.recorder,
                woken: recording.woken,
                journal: recording.journal,
                journaled: Arc::clone(journaled),
                fresh: kept.fresh,
                changed: kept.changed,
                writer: Arc::clone(&kept.writer),
                outboxes: recording.outboxes,
                status: Arc::clone(status),
                keep: kept.record.unwrap_or_default(),
                fault: Arc::clone(&running.fault),
                signal: Arc::clone(&running.signal),
                clock: Arc::clone(&running.clock),
            };
            threads.journal = Some(journaling.start()?);
        }
        let checkpointing = Checkpointing {
            job: running.handle.clone(),
            names: kept.names,
            writer: kept.writer,
            fresh: kept.fresh,
            sections: kept.sections,
            interval: kept.interval,
            policy: self.checkpoints.as_ref().map_or_else(Policy::default, |(.., policy)| *policy),
            queues,
            pushed: kept.pushed,
            journaled,
            sources: Arc::clone(&running.sources),
            status: Arc::clone(status),
            fault: Arc::clone(&running.fault),
            signal: Arc::clone(&running.signal),
            clock: Arc::clone(&running.clock),
        };
        threads.checkpoints = Some(checkpointing.start()?);
        Ok(())
    }

    /// The jobs there are, oldest first.
    pub fn jobs(&self) -> Vec<Arc<RunningJob>> {
        self.jobs.read().expect("the list is changed without panicking").clone()
    }

    /// The jobs that are being restored: they are not among [`Runtime::jobs`] yet.
    pub fn restoring(&self) -> Vec<RestoreInfo> {
        self.restores.list(&*self.clock)
    }

    /// The names of saved jobs that will be brought back, or are just now.
    pub fn returning(&self) -> Vec<String> {
        self.reserved.names(Purpose::Returns)
    }

    /// The names of jobs that are being [changed](Runtime::replace): for a while they are not among [`Runtime::jobs`].
    pub fn changing(&self) -> Vec<String> {
        self.reserved.names(Purpose::Changes)
    }

    /// The job of this name.
    pub fn job(&self, name: &str) -> Option<Arc<RunningJob>> {
        self.jobs().into_iter().find(|job| job.name == name)
    }

    /// Ends a job and frees its names; the others are not disturbed.
    ///
    /// Waits until the job has been created or changed, if it is being, and until it has ended: not to be called from one of its
    /// listeners, which run on a worker.
    pub fn drop_job(&self, name: &str) -> Result<(), NoSuchJob> {
        let _dropping = self.reserved.wait_for(name, Purpose::Begins);
        let job = self.job(name).ok_or_else(|| NoSuchJob(name.to_owned()))?;
        self.end_with(&job, RunningJob::forget);
        tracing::info!(job = name, "job dropped");
        Ok(())
    }

    /// Ends a job, which stays as it was saved.
    pub(crate) fn end(&self, job: &Arc<RunningJob>) {
        self.end_with(job, RunningJob::end_threads);
    }

    fn end_with(&self, job: &Arc<RunningJob>, end_threads: impl FnOnce(&RunningJob)) {
        self.jobs.write().expect("the list is changed without panicking").retain(|known| !Arc::ptr_eq(known, job));
        if let Err(error) = self.engine.drop_job(job.handle.id()) {
            tracing::warn!(job = job.name, %error, "the job has ended, but its dataflow has not");
        }
        end_threads(job);
        if job.wait_over(Some(DROP_WAIT)) == JobState::Running {
            tracing::warn!(job = job.name, "the job has ended, but its dataflow has not yet");
        }
    }

    /// Ends all jobs and the workers. Waits for jobs that are being created; no more are.
    pub fn shutdown(&self) {
        self.reserved.close();
        self.jobs().iter().for_each(|job| job.end_threads());
        self.engine.shutdown();
    }
}

/// Opens what a job's epochs are recorded in, if they are; and what of it the job goes through again.
fn recording(
    kept: &mut Kept,
    job: &Job,
    restored: Option<Time>,
    sources: &[OpenSource],
    publishing: &[Publishing],
) -> Result<Option<(Script, Recording)>, CreateError> {
    let published = publishing.iter().filter(|publishing| !publishing.exactly_once);
    let outboxes: Vec<_> = published.map(|publishing| Arc::clone(&publishing.outbox)).collect();
    if outboxes.is_empty() && kept.record.is_none() {
        return Ok(None);
    }
    let Some(directory) = kept.pushed.epochs().map_err(CheckpointError::from)? else { return Ok(None) };
    let partitions: Vec<_> = sources.iter().flat_map(OpenSource::names).collect();
    let journal = journal::open(directory, job, restored.unwrap_or(0), kept.replays, partitions.clone());
    let journal::Opened { journal, script } = journal.map_err(CheckpointError::from)?;
    if let Some((source, partition)) = journal::missing_partition(&script, job, &partitions) {
        return Err(CreateError::Engine(format!(
            "source '{source}' has no partition '{partition}' any more, from which rows were read since the last checkpoint; bring \
             it back, or start from the checkpoint alone with --restore and its number"
        )));
    }
    let woken = Arc::new(Signal::default());
    let told = Arc::clone(&woken);
    let recorder = Recorder::new(move || told.notify());
    Ok(Some((script, Recording { recorder, woken, journal, outboxes })))
}

fn list(diagnostics: &[Diagnostic]) -> String {
    let lines: Vec<String> = diagnostics.iter().map(Diagnostic::to_string).collect();
    lines.join("\n")
}
