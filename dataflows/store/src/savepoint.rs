//! Savepoints: checkpoints that are kept until someone deletes them.
//!
//! A savepoint is a manifest of its own that names the files of a checkpoint; it costs nothing until the checkpoint's files would
//! have been deleted. Anyone may make and delete them, while a writer writes ([`crate::sweep`] says why that is safe).

use crate::blobs::Created;
use crate::error::{Result, StoreError};
use crate::job::{JobStore, Place};
use crate::manifest::{Kind, Manifest};
use crate::writer::{Options, Writer, check_savepoint_name};

/// How often a savepoint is tried while its checkpoint is deleted under it.
const ATTEMPTS_MAX: usize = 16;

impl Writer {
    /// Keeps the newest checkpoint under a name.
    pub fn savepoint(&self, name: &str) -> Result<Manifest> {
        // While this is held no commit deletes anything.
        let state = self.state();
        state.usable()?;
        self.job.keep(&state.head, name, &self.options)
    }
}

impl JobStore {
    /// Keeps the newest checkpoint under a name.
    pub fn savepoint(&self, name: &str) -> Result<Manifest> {
        check_savepoint_name(name)?;
        let options = Options::default();
        for _ in 0..ATTEMPTS_MAX {
            let newest = self.newest()?;
            let manifest = match self.latest() {
                Ok(Some(manifest)) => manifest,
                Ok(None) => return Err(self.no_state()),
                Err(error) if error.is_damage() && self.newest()? != newest => continue,
                Err(error) => return Err(error),
            };
            let savepoint = self.keep(&manifest, name, &options)?;
            if self.load(&Place::Number(manifest.sequence)).is_ok() {
                return Ok(savepoint);
            }
            self.blobs.delete(&self.manifest_path(&Place::Savepoint(name.into()))?)?;
        }
        Err(StoreError::refused(format!(
            "checkpoints of job {} are deleted faster than they can be kept: retain more of them",
            self.name()
        )))
    }

    fn keep(&self, manifest: &Manifest, name: &str, options: &Options) -> Result<Manifest> {
        check_savepoint_name(name)?;
        let Some(sequence) = manifest.content() else { return Err(self.no_state()) };
        let kind = Kind::Savepoint { name: name.into() };
        let savepoint = Manifest { kind, sequence, created_ms: (options.now_ms)(), ..manifest.clone() };
        let place = Place::Savepoint(name.into());
        // What is there before may equal what would be put, if both are made within a millisecond.
        if self.savepoint_names()?.iter().any(|taken| taken == name) {
            return Err(StoreError::Taken { job: self.name().into(), name: name.into() });
        }
        match self.put(&place, &savepoint)? {
            Created::Done => Ok(savepoint),
            Created::Exists if self.load(&place).is_ok_and(|found| found == savepoint) => Ok(savepoint),
            Created::Exists => Err(StoreError::Taken { job: self.name().into(), name: name.into() }),
            Created::Failed(error) => Err(error),
        }
    }

    /// Deletes a savepoint, and the files that only it names. A damaged one can be deleted, too.
    pub fn delete_savepoint(&self, name: &str) -> Result<()> {
        let place = Place::Savepoint(name.to_string());
        let names = self.savepoint_names()?;
        if !names.iter().any(|found| found == name) {
            let there = if names.is_empty() { "none".into() } else { names.join(", ") };
            return Err(StoreError::Unknown { job: self.name().into(), wanted: format!("savepoint `{name}`"), there });
        }
        let files = self.load(&place).map(|manifest| manifest.files).unwrap_or_default();
        self.blobs.delete(&self.manifest_path(&place)?)?;
        self.delete_unnamed(files.into_iter().map(|file| file.path).collect())
    }

    fn no_state(&self) -> StoreError {
        let there = "no checkpoint yet".into();
        StoreError::Unknown { job: self.name().into(), wanted: "checkpoint to keep".into(), there }
    }
}
