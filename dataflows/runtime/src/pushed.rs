//! Where sources keep what they accept from clients between two checkpoints, a directory per run of a job and source; and where
//! a run's epochs are recorded.
//!
//! A run begins with nothing, or with another job's savepoint, and goes on with each start from its own checkpoints. What was
//! accepted belongs to it: a job that begins anew has an empty directory, and the old ones are deleted when its first checkpoint
//! is durable, since until then a start would go on from the old one.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use highwater_connectors::source::{LogMode, SourceLog};
use highwater_engine::Time;
use highwater_store::{JobStore, StoreError, to_part};

/// The directories of a job.
#[derive(Debug, Clone)]
pub(crate) struct Pushed {
    /// That of the job; `None`: its checkpoints are not in a directory.
    folder: Option<PathBuf>,
    /// As `folder`, of recorded epochs.
    epochs: Option<PathBuf>,
    run: String,
    mode: LogMode,
}

impl Pushed {
    /// Of a run of a job; `resumed`: the epoch of its own checkpoint that it goes on from; `keep`: for how long what it accepts is
    /// kept when a checkpoint has it.
    pub(crate) fn new(store: &JobStore, run: String, resumed: Option<Time>, keep: Duration) -> Self {
        Self::with(store, run, LogMode::Accept { resumed, keep })
    }

    /// Of a run of which epochs are run again.
    pub(crate) fn again(store: &JobStore, run: String) -> Self {
        Self::with(store, run, LogMode::Again)
    }

    fn with(store: &JobStore, run: String, mode: LogMode) -> Self {
        Pushed { folder: store.folder_beside("pushed"), epochs: store.folder_beside("epochs"), run, mode }
    }

    /// Where a source may keep what it accepts, if anywhere.
    pub(crate) fn log(&self, source: &str) -> Result<Option<SourceLog>, StoreError> {
        let Some(folder) = &self.folder else { return Ok(None) };
        let directory = folder.join(to_part(&self.run, "run")?).join(to_part(source, "source")?);
        Ok(Some(SourceLog { directory, mode: self.mode }))
    }

    /// Where the run's epochs may be recorded, if anywhere.
    pub(crate) fn epochs(&self) -> Result<Option<PathBuf>, StoreError> {
        let Some(folder) = &self.epochs else { return Ok(None) };
        Ok(Some(folder.join(to_part(&self.run, "run")?)))
    }

    /// Deletes what other runs left.
    pub(crate) fn sweep(&self) {
        for folder in self.folder.iter().chain(&self.epochs) {
            let Ok(runs) = std::fs::read_dir(folder) else { continue };
            for run in runs.flatten().filter(|run| run.file_name().to_str() != Some(&self.run)) {
                delete(&run.path());
            }
        }
    }

    /// Deletes all of a job that was dropped.
    pub(crate) fn remove(&self) {
        self.folder.iter().chain(&self.epochs).for_each(|folder| delete(folder));
    }
}

fn delete(folder: &Path) {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            tracing::warn!(folder = %folder.display(), %error, "accepted rows or recorded epochs that nobody needs are not deleted");
        }
        _ => {}
    }
}
