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

    /// The same of a source that begins: what one of this name left, which the job has not had for a while, is not its. Nothing is
    /// accepted until a checkpoint knows of it: a restart before that has no such source, or begins it once more.
    pub(crate) fn new_log(&self, source: &str) -> Result<Option<SourceLog>, StoreError> {
        let Some(SourceLog { directory, mode }) = self.log(source)? else { return Ok(None) };
        let mode = match mode {
            LogMode::Again => mode,
            LogMode::Accept { keep, .. } => {
                delete(&directory);
                LogMode::Accept { resumed: None, keep }
            }
        };
        Ok(Some(SourceLog { directory, mode }))
    }

    /// Deletes what other runs left, and sources that the job does not have any more, when they have not been written for as long as
    /// what they accepted is kept.
    pub(crate) fn sweep(&self, sources: &[&str]) {
        for folder in self.folder.iter().chain(&self.epochs) {
            delete_others(folder, &[&self.run], Duration::ZERO);
        }
        if let (Some(folder), LogMode::Accept { keep, .. }) = (&self.folder, self.mode) {
            delete_others(&folder.join(&self.run), sources, keep);
        }
    }

    /// Deletes all of a job that was dropped.
    pub(crate) fn remove(&self) {
        self.folder.iter().chain(&self.epochs).for_each(|folder| delete(folder));
    }
}

/// Deletes the folders in a folder that have other names, and in which nothing was written for so long.
fn delete_others(folder: &Path, names: &[&str], age: Duration) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    let kept: Vec<String> = names.iter().filter_map(|name| to_part(name, "name").ok()).collect();
    for entry in entries.flatten().filter(|entry| !kept.iter().any(|name| entry.file_name().to_str() == Some(name))) {
        if is_older(&entry.path(), age) {
            delete(&entry.path());
        }
    }
}

fn is_older(folder: &Path, age: Duration) -> bool {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let written = files.filter_map(|file| file.metadata().ok()?.modified().ok()).max();
    // A file of the future is one of a clock that was wrong.
    age.is_zero() || written.is_none_or(|written| written.elapsed().is_ok_and(|since| since >= age))
}

fn delete(folder: &Path) {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            tracing::warn!(folder = %folder.display(), %error, "accepted rows or recorded epochs that nobody needs are not deleted");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use highwater_store::Store;

    use super::*;

    #[test]
    fn a_source_that_begins_has_nothing_and_accepts_nothing_before_it_is_saved() {
        let folder = tempfile::tempdir().unwrap();
        let job = Store::create(&folder.path().display().to_string()).unwrap().job("j").unwrap();
        let keep = Duration::from_secs(60);
        let pushed = Pushed::new(&job, "run".into(), Some(5), keep);
        let known = pushed.log("s").unwrap().unwrap();
        assert_eq!(known.mode, LogMode::Accept { resumed: Some(5), keep });
        std::fs::create_dir_all(&known.directory).unwrap();
        let new = pushed.new_log("s").unwrap().unwrap();
        assert_eq!(new, SourceLog { directory: known.directory, mode: LogMode::Accept { resumed: None, keep } });
        assert!(!new.directory.exists());
        // A replay reads what is there.
        std::fs::create_dir_all(&new.directory).unwrap();
        let again = Pushed::again(&job, "run".into()).new_log("s").unwrap().unwrap();
        assert_eq!((again.mode, again.directory.exists()), (LogMode::Again, true));
    }
}
