//! Checkpoints from outside: which jobs a store has, their checkpoints and savepoints, and how one is made, kept and deleted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use highwater_connectors::Registry;
use highwater_engine::Time;
use highwater_plan::Job;
use highwater_store::{Kind, ManifestInfo, Store};

use crate::checkpoints::{CheckpointError, Meta, sizes};
use crate::jobs::{NoSuchJob, Runtime};
use crate::upgrade::Upgrade;

/// How long a savepoint waits for its checkpoint, and for what its sinks have to publish.
const SAVEPOINT_WAIT: Duration = Duration::from_secs(60);

/// What a job is begun with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum RestoreFrom {
    /// The newest checkpoint of a job of this name; nothing if there is none.
    #[default]
    Newest,
    /// Nothing, although there is a checkpoint of a job of this name.
    Nothing,
    /// A savepoint, or a checkpoint by its number.
    Named {
        /// The job whose it is; the job's own if `None`.
        job: Option<String>,
        /// Its name or number.
        name: String,
    },
}

/// A checkpoint or savepoint of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptCheckpoint {
    /// What [`RestoreFrom::Named`] finds it by.
    pub name: String,
    /// Whether it stays until it is deleted.
    pub savepoint: bool,
    /// The epoch as of which it is; `None` if it cannot be told.
    pub epoch: Option<Time>,
    /// When it was made: milliseconds since the Unix epoch.
    pub created_ms: Option<u64>,
    /// Bytes of its files.
    pub bytes: u64,
    /// How many files it has.
    pub files: usize,
    /// What is wrong with it, if something is.
    pub problem: Option<String>,
}

/// A savepoint was not made or deleted.
#[derive(Debug, thiserror::Error)]
pub enum SavepointError {
    /// There is no such job.
    #[error(transparent)]
    NoSuchJob(#[from] NoSuchJob),
    /// Nothing is saved here.
    #[error("the process keeps no checkpoints; start it with --checkpoints DIR")]
    NoCheckpoints,
    /// The job's epochs are not saved and published in time.
    #[error("the job's rows are not saved and published after {} s{}", SAVEPOINT_WAIT.as_secs(), .0)]
    NotSettled(String),
    /// The store refused.
    #[error(transparent)]
    Checkpoints(#[from] CheckpointError),
}

/// The checkpoints below a location, without the jobs that write them.
#[derive(Debug)]
pub struct CheckpointStore(Store);

impl CheckpointStore {
    /// Opens what is there.
    pub fn open(location: &str) -> Result<Self, CheckpointError> {
        Ok(CheckpointStore(Store::open(location)?))
    }

    /// The names of the jobs that have checkpoints.
    pub fn jobs(&self) -> Result<Vec<String>, CheckpointError> {
        Ok(self.0.jobs()?)
    }

    /// A job's checkpoints and savepoints, newest first.
    pub fn list(&self, job: &str) -> Result<Vec<KeptCheckpoint>, CheckpointError> {
        list(&self.0, job)
    }

    /// By which sizes of its sources a job was planned that goes on from there: it is to be planned alike, or its operators are
    /// others. Nothing of a job that is not kept.
    pub fn planned_rows(&self, job: &str, at: Option<&str>) -> BTreeMap<String, u64> {
        planned_rows(&self.0, job, at)
    }

    /// What would become of the state of a job, as of a savepoint or checkpoint or else the newest, if `new` went on from it.
    pub fn upgrade(&self, job: &str, at: Option<&str>, new: &Arc<Job>, registry: &Registry) -> Result<Upgrade, CheckpointError> {
        let store = self.0.job(job)?;
        let manifest = match at {
            Some(name) => Some(store.at(name)?),
            None => store.latest()?,
        };
        let saved = manifest.map(|manifest| Ok::<_, CheckpointError>((Meta::read(&manifest)?, manifest))).transpose()?;
        let Some((Some(meta), manifest)) = saved else { return Err(CheckpointError::NoState(job.to_owned())) };
        Upgrade::of(&meta, &sizes(&store, &manifest)?, new, registry)
    }

    /// Deletes a savepoint.
    pub fn delete_savepoint(&self, job: &str, name: &str) -> Result<(), CheckpointError> {
        Ok(self.0.job(job)?.delete_savepoint(name)?)
    }
}

/// A job that was saved and not dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedJob {
    /// Its SQL.
    pub text: String,
    /// Whether it ends when its bounded sources have ended.
    pub until_end: bool,
}

/// A saved job, or what is wrong with it.
pub type SavedOrWhyNot = Result<SavedJob, CheckpointError>;

/// What cannot be read is said by whoever restores it.
fn planned_rows(store: &Store, job: &str, at: Option<&str>) -> BTreeMap<String, u64> {
    let kept = store.job(job).and_then(|store| match at {
        Some(name) => store.at(name).map(Some),
        None => store.latest(),
    });
    let meta = kept.ok().flatten().and_then(|manifest| Meta::read(&manifest).ok().flatten());
    meta.map(|meta| meta.planned_rows).unwrap_or_default()
}

impl Runtime {
    /// By which sizes of its sources a job was planned that will go on from what is kept: see [`CheckpointStore::planned_rows`].
    pub fn planned_rows(&self, job: &str, restore: &RestoreFrom) -> BTreeMap<String, u64> {
        let Some(store) = self.store() else { return BTreeMap::new() };
        match restore {
            RestoreFrom::Newest => planned_rows(store, job, None),
            RestoreFrom::Nothing => BTreeMap::new(),
            RestoreFrom::Named { job: other, name } => planned_rows(store, other.as_deref().unwrap_or(job), Some(name)),
        }
    }

    /// By name the jobs whose checkpoints this process keeps, running or not, that were not dropped; or what is wrong with one.
    pub fn saved_jobs(&self) -> Result<Vec<(String, SavedOrWhyNot)>, CheckpointError> {
        let Some(store) = self.store() else { return Ok(Vec::new()) };
        let mut saved = Vec::new();
        for name in store.jobs()? {
            let newest = match store.job(&name)?.latest() {
                Ok(Some(newest)) => newest,
                Ok(None) => continue,
                Err(error) => {
                    saved.push((name, Err(error.into())));
                    continue;
                }
            };
            match Meta::read(&newest) {
                Ok(Some(Meta { text, until_end, .. })) => saved.push((name, Ok(SavedJob { text, until_end }))),
                Ok(None) => {}
                Err(error) => saved.push((name, Err(error))),
            }
        }
        Ok(saved)
    }

    /// Saves and publishes what a job has come to, with the rows that it has accepted by now, and keeps that under a name.
    pub fn savepoint(&self, job: &str, name: &str) -> Result<KeptCheckpoint, SavepointError> {
        let store = self.store().ok_or(SavepointError::NoCheckpoints)?;
        let running = self.job(job).ok_or_else(|| NoSuchJob(job.to_owned()))?;
        if !running.settle_accepted(SAVEPOINT_WAIT) {
            let problems = running.problems().join("; ");
            return Err(SavepointError::NotSettled(if problems.is_empty() { problems } else { format!(": {problems}") }));
        }
        let made = store.job(job).and_then(|store| store.savepoint(name)).map_err(CheckpointError::from)?;
        tracing::info!(job, savepoint = name, epoch = made.epoch, "savepoint made");
        Ok(KeptCheckpoint {
            name: name.to_owned(),
            savepoint: true,
            epoch: Some(made.epoch),
            created_ms: Some(made.created_ms),
            bytes: made.bytes(),
            files: made.files.len(),
            problem: None,
        })
    }

    /// A job's checkpoints and savepoints, newest first; the job need not run.
    pub fn kept_checkpoints(&self, job: &str) -> Result<Vec<KeptCheckpoint>, SavepointError> {
        Ok(list(self.store().ok_or(SavepointError::NoCheckpoints)?, job)?)
    }

    /// Deletes a savepoint; the job need not run.
    pub fn delete_savepoint(&self, job: &str, name: &str) -> Result<(), SavepointError> {
        let store = self.store().ok_or(SavepointError::NoCheckpoints)?;
        store.job(job).and_then(|store| store.delete_savepoint(name)).map_err(CheckpointError::from)?;
        Ok(())
    }
}

fn list(store: &Store, job: &str) -> Result<Vec<KeptCheckpoint>, CheckpointError> {
    let made = |info: &ManifestInfo| !matches!(info.kind, Some(Kind::Claim { .. }));
    let kept = |info: ManifestInfo| KeptCheckpoint {
        savepoint: matches!(info.kind, Some(Kind::Savepoint { .. })),
        name: info.name,
        epoch: info.epoch,
        created_ms: info.created_ms,
        bytes: info.bytes,
        files: info.files,
        problem: info.problem,
    };
    Ok(store.job(job)?.list()?.into_iter().filter(made).map(kept).collect())
}
