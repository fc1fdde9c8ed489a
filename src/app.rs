//! The composition root: the one place that knows the planner, the runtime and the connectors at once.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use highwater_connectors::Registry;
use highwater_connectors::source::{Source, SourceSpec};
use highwater_plan::{Diagnostic, Job, Op, Source as SourceDecl};
use highwater_runtime::{
    CheckpointConfig, CheckpointError, CreateError, CreateOptions, ReplayError, ReplayOptions, Replayed, Reservation,
    RestoreFrom, RunningJob, Runtime, RuntimeConfig, RuntimeError, SavedOrWhyNot, sink_spec,
};
use highwater_sql::CompileOptions;

use crate::catalog;

/// Says what a [`Highwater`] is made of.
pub struct Builder {
    workers: usize,
    registry: Registry,
    checkpoints: Option<CheckpointConfig>,
}

impl Builder {
    /// Sets how many worker threads run the dataflows; at least one.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers.max(1);
        self
    }

    /// Replaces the connectors, for programs that bring their own.
    pub fn registry(mut self, registry: Registry) -> Self {
        self.registry = registry;
        self
    }

    /// Sets where and how often jobs are saved; not at all without it.
    pub fn checkpoints(mut self, checkpoints: Option<CheckpointConfig>) -> Self {
        self.checkpoints = checkpoints;
        self
    }

    /// Starts the worker threads.
    pub fn start(self) -> Result<Arc<Highwater>, RuntimeError> {
        let Builder { workers, registry, checkpoints } = self;
        let runtime = Runtime::start(RuntimeConfig { workers, registry: registry.clone(), checkpoints })?;
        Ok(Arc::new(Highwater { runtime, registry }))
    }
}

/// How many saved jobs are brought back at a time: each waits for its disk or object store most of the time.
const BROUGHT_BACK: usize = 4;

/// A running Highwater: worker threads, and the jobs on them. Dropping it stops both.
pub struct Highwater {
    runtime: Arc<Runtime>,
    registry: Registry,
}

/// How a job is run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobOptions {
    /// End the job when its bounded sources have ended, although others have not.
    pub until_end: bool,
    /// What it begins with, if checkpoints are kept.
    pub restore: RestoreFrom,
    /// It may go on from what was saved of another version of it: what is equal is taken over, the rest made anew.
    pub upgrade: bool,
}

/// A job that runs, or why it does not.
pub type JobOrWhyNot = Result<Arc<RunningJob>, JobError>;

/// A job could not be created.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// The name cannot be one: it stands in tokens and addresses.
    #[error("a job cannot be named '{0}'")]
    Name(String),
    /// A job of this name runs.
    #[error("there is a job named '{0}' already; it can be changed by an upgrade")]
    Exists(String),
    /// A job of this name is being created, brought back or dropped.
    #[error("{0}")]
    Busy(String),
    /// Its text is wrong.
    #[error("{}", .0.first().map_or_else(String::new, ToString::to_string))]
    Text(Vec<Diagnostic>),
    /// It has neither a view nor a sink.
    #[error("the job has no materialized view and no sink; add CREATE MATERIALIZED VIEW or CREATE SINK")]
    Nothing,
    /// Its checkpoints cannot be read or written.
    #[error(transparent)]
    Checkpoints(CheckpointError),
    /// Its recorded epochs cannot be run again.
    #[error(transparent)]
    Replay(ReplayError),
    /// The workers could not start it.
    #[error("{0}")]
    Engine(String),
}

impl Highwater {
    /// Starts saying what to run; one worker, all connectors.
    pub fn builder() -> Builder {
        Builder { workers: 1, registry: catalog::registry(), checkpoints: None }
    }

    /// The jobs and workers.
    pub fn runtime(&self) -> &Arc<Runtime> {
        &self.runtime
    }

    /// Compiles `text` and starts it as `name`. With [`JobOptions::upgrade`] it takes the place of a job of that name that runs: see
    /// [`Runtime::replace`].
    ///
    /// Names are letters, digits, `_`, `-` and `.`, at most 128.
    pub fn create_job(&self, name: &str, text: &str, options: JobOptions) -> Result<Arc<RunningJob>, JobError> {
        if !is_job_name(name) {
            return Err(JobError::Name(name.to_string()));
        }
        if options.upgrade && options.restore == RestoreFrom::Newest && self.runtime.job(name).is_some() {
            let known = self.runtime.planned_rows(name, &options.restore);
            let (job, planned_rows) = plan(&self.registry, text, &known).map_err(JobError::Text)?;
            let options = CreateOptions { until_end: options.until_end, planned_rows, ..CreateOptions::default() };
            return Ok(self.runtime.replace(name, text, job, options)?);
        }
        let reservation = self.runtime.reserve(name, false)?;
        self.create_reserved(reservation, text, options)
    }

    fn create_reserved(&self, reservation: Reservation, text: &str, options: JobOptions) -> Result<Arc<RunningJob>, JobError> {
        let known = self.runtime.planned_rows(reservation.name(), &options.restore);
        let (job, planned_rows) = plan(&self.registry, text, &known).map_err(JobError::Text)?;
        let JobOptions { until_end, restore, upgrade } = options;
        let options = CreateOptions { until_end, restore, upgrade, planned_rows };
        Ok(self.runtime.create_reserved(reservation, text, job, options)?)
    }

    /// Compiles `text`, which is that of the job `name`, and runs epochs of it again that were recorded; the job may be running.
    pub fn replay_job(&self, name: &str, text: &str, options: &ReplayOptions) -> Result<Replayed, JobError> {
        if !is_job_name(name) {
            return Err(JobError::Name(name.to_string()));
        }
        let known = self.runtime.planned_rows(name, &RestoreFrom::Newest);
        let (job, _) = plan(&self.registry, text, &known).map_err(JobError::Text)?;
        if job.views.is_empty() && job.sinks.is_empty() {
            return Err(JobError::Nothing);
        }
        self.runtime.replay(name, text, job, options).map_err(|error| match error {
            ReplayError::Diagnostics(diagnostics) => JobError::Text(diagnostics),
            error => JobError::Replay(error),
        })
    }

    /// Goes on with the jobs that were saved and not dropped, each from its newest checkpoint; by name, and for those that
    /// cannot, why.
    pub fn bring_back(&self) -> Result<Vec<(String, JobOrWhyNot)>, CheckpointError> {
        let back = Mutex::new(Vec::new());
        self.returning()?.bring_back(&|name, job| back.lock().unwrap_or_else(PoisonError::into_inner).push((name, job)));
        let mut back = back.into_inner().unwrap_or_else(PoisonError::into_inner);
        back.sort_by(|(one, _), (other, _)| one.cmp(other));
        Ok(back)
    }

    /// The jobs that were saved and not dropped. From now on no other job gets their names, and [`Runtime::returning`] lists them.
    pub fn returning(&self) -> Result<Returning<'_>, CheckpointError> {
        let saved = self.runtime.saved_jobs()?.into_iter();
        // One that runs already is back.
        let reserved = saved.filter_map(|(name, saved)| Some((self.runtime.reserve(&name, true).ok()?, saved)));
        Ok(Returning { highwater: self, jobs: reserved.collect() })
    }

    /// Compiles `text` and reads the options of its sources and sinks, without reading a row or writing anything.
    pub fn check(registry: &Registry, text: &str) -> Result<Job, JobError> {
        Self::check_like(registry, text, &BTreeMap::new())
    }

    /// [`Highwater::check`], planned by these sizes of sources where they are known.
    pub fn check_like(registry: &Registry, text: &str, rows: &BTreeMap<String, u64>) -> Result<Job, JobError> {
        let (job, _) = plan(registry, text, rows).map_err(JobError::Text)?;
        let wrong_sources = job.sources.iter().filter_map(|source| open(registry, source).err());
        let wrong_sinks = job.sinks.iter().filter_map(|sink| registry.validate_sink(&sink_spec("", sink, true, false)).err());
        let wrong: Vec<Diagnostic> = wrong_sources.chain(wrong_sinks).collect();
        match job {
            _ if !wrong.is_empty() => Err(JobError::Text(wrong)),
            job if job.views.is_empty() && job.sinks.is_empty() => Err(JobError::Nothing),
            job => Ok(job),
        }
    }

    /// The connectors jobs may name.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }
}

/// Saved jobs that are to go on.
pub struct Returning<'a> {
    highwater: &'a Highwater,
    jobs: VecDeque<(Reservation, SavedOrWhyNot)>,
}

impl Returning<'_> {
    /// Their names.
    pub fn names(&self) -> Vec<&str> {
        self.jobs.iter().map(|(reservation, _)| reservation.name()).collect()
    }

    /// Goes on with all of them, several at a time; `told` is called for each when it is back, or why it is not.
    pub fn bring_back(self, told: &(dyn Fn(String, JobOrWhyNot) + Sync)) {
        let Returning { highwater, jobs } = self;
        let threads = jobs.len().min(BROUGHT_BACK);
        let jobs = Mutex::new(jobs);
        let next = || jobs.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let work = || {
            while let Some((reservation, saved)) = next() {
                let name = reservation.name().to_owned();
                let job = saved.map_err(JobError::Checkpoints).and_then(|saved| {
                    let options = JobOptions { until_end: saved.until_end, ..JobOptions::default() };
                    highwater.create_reserved(reservation, &saved.text, options)
                });
                told(name, job);
            }
        };
        std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    }
}

impl From<CreateError> for JobError {
    fn from(error: CreateError) -> JobError {
        match error {
            CreateError::Exists(name) => JobError::Exists(name),
            CreateError::Busy(_) => JobError::Busy(error.to_string()),
            CreateError::Checkpoints(error) => JobError::Checkpoints(error),
            CreateError::Diagnostics(diagnostics) => JobError::Text(diagnostics),
            CreateError::NoViewsOrSinks => JobError::Nothing,
            CreateError::Engine(detail) => JobError::Engine(detail),
        }
    }
}

impl Drop for Highwater {
    fn drop(&mut self) {
        self.runtime.shutdown();
    }
}

/// SQL text to a job.
pub fn compile(text: &str) -> Result<Job, Vec<Diagnostic>> {
    highwater_sql::compile(text, &CompileOptions::default().with_readable_tables())
}

/// [`compile`], joins in an order that suits the sizes of sources that know theirs, and these sizes. `known`: sizes by which it
/// was planned before.
fn plan(registry: &Registry, text: &str, known: &BTreeMap<String, u64>) -> Result<(Job, BTreeMap<String, u64>), Vec<Diagnostic>> {
    let job = compile(text)?;
    let joins = job.plan.nodes.iter().filter(|node| matches!(node.op, Op::Join(_))).count();
    if joins < 2 {
        return Ok((job, BTreeMap::new()));
    }
    // What is wrong with a source's options is said by whoever opens it to be read.
    let rows = |source: &SourceDecl| {
        let known = known.get(&source.name).copied();
        Some((source.name.clone(), known.or_else(|| open(registry, source).ok()?.rows())?))
    };
    let rows: BTreeMap<String, u64> = job.sources.iter().filter_map(rows).collect();
    if rows.is_empty() {
        return Ok((job, rows));
    }
    let options = CompileOptions::default().with_readable_tables().with_rows(rows.clone());
    Ok((highwater_sql::compile(text, &options)?, rows))
}

fn open(registry: &Registry, source: &SourceDecl) -> Result<Box<dyn Source>, Diagnostic> {
    registry.open_source(&SourceSpec {
        name: source.name.clone(),
        schema: source.schema.clone(),
        used: source.used.clone(),
        primary_key: source.primary_key.clone(),
        defaults: source.defaults.clone(),
        metadata: source.metadata.clone(),
        options: source.options.clone(),
        keeps_origin: source.keeps_late_rows,
        workers: 1,
        log: None,
    })
}

fn is_job_name(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    (1..=128).contains(&name.len()) && name.bytes().all(legal)
}
