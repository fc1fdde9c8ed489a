//! What may be deleted, and when.
//!
//! A file is deleted when no manifest and no savepoint names it. Two orders make that safe against others who work at the same
//! time. Who deletes removes the *manifest first, then looks at savepoints and for newer claims, then removes files*; who makes a savepoint *writes it
//! first, then looks whether the manifest is still there*: one of the two always sees the other. The same holds for who claims a job
//! going on from an old checkpoint. And who claims puts its manifest before it looks for orphans of older writers, so that whatever
//! they have not published by then never will be.
//!
//! While a manifest or savepoint that is to stay cannot be read, nobody knows what it names, and no file is deleted.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::Result;
use crate::job::{JobStore, Place};
use crate::manifest::{Kind, Manifest};
use crate::writer::{State, Writer, data_file};

impl JobStore {
    /// Deletes files that crashed writers left behind; returns all manifests. `claim` is the caller's number.
    pub(crate) fn sweep(&self, claim: u64) -> Result<BTreeMap<u64, Option<Manifest>>> {
        // In this order: what is written after the listing is not looked at.
        let files = self.blobs.list(&self.path("data"))?;
        let numbers = self.numbers()?;
        let known: BTreeMap<u64, _> =
            numbers.into_iter().map(|number| (number, self.load(&Place::Number(number)).ok())).collect();
        self.sweep_staged(claim);
        let Some(savepoints) = self.savepoints()? else { return Ok(known) };
        if let Some((number, _)) = known.iter().find(|(_, manifest)| manifest.is_none()) {
            let file = self.manifest_address(&Place::Number(*number));
            tracing::warn!(job = self.name(), file, "a manifest cannot be read; no file is deleted until it is gone");
            return Ok(known);
        }
        let named = files_of(known.values().flatten().chain(&savepoints));
        let prefix = self.path("");
        for path in files.iter().filter_map(|path| path.strip_prefix(&prefix)) {
            if is_older(path, claim) && !named.contains(path) {
                tracing::info!(job = self.name(), path, "deleting a file that no checkpoint names");
                self.blobs.delete(&self.path(path))?;
            }
        }
        Ok(known)
    }

    /// All savepoints; `None` if one cannot be read.
    fn savepoints(&self) -> Result<Option<Vec<Manifest>>> {
        let mut savepoints = Vec::new();
        for name in self.savepoint_names()? {
            match self.load(&Place::Savepoint(name)) {
                Ok(manifest) => savepoints.push(manifest),
                Err(error) => {
                    tracing::warn!(job = self.name(), %error, "a savepoint cannot be read; no file is deleted until it is deleted");
                    return Ok(None);
                }
            }
        }
        Ok(Some(savepoints))
    }

    /// Deletes what a crash left of files that never got their names, on a local disk, where listings do not show them.
    fn sweep_staged(&self, claim: u64) {
        let Some(folder) = self.blobs.folder() else { return };
        for part in ["data", "manifests"] {
            let Ok(entries) = std::fs::read_dir(folder.join(self.path(part))) else { continue };
            for entry in entries.flatten() {
                let name = entry.file_name();
                let Some((file, attempt)) = name.to_str().and_then(|name| name.rsplit_once('#')) else { continue };
                let number = file.strip_suffix(".manifest").and_then(|number| number.parse::<u64>().ok());
                let is_old = is_older(file, claim) || number.is_some_and(|number| number <= claim);
                if is_old
                    && attempt.bytes().all(|byte| byte.is_ascii_digit())
                    && let Err(error) = std::fs::remove_file(entry.path())
                {
                    tracing::warn!(job = self.name(), %error, "a torn file was not deleted");
                }
            }
        }
    }

    /// Deletes those of the files that no manifest or savepoint names; leaves them if that cannot be told.
    pub(crate) fn delete_unnamed(&self, files: BTreeSet<String>) -> Result<()> {
        let mut manifests = Vec::new();
        for place in self.places()? {
            match self.load(&place) {
                Ok(manifest) => manifests.push(manifest),
                Err(error) => {
                    tracing::warn!(job = self.name(), %error, "a manifest cannot be read; files are deleted at the next claim");
                    return Ok(());
                }
            }
        }
        let named = files_of(&manifests);
        files.difference(&named).try_for_each(|path| self.blobs.delete(&self.path(path)))
    }
}

/// Whether a data file is of a writer that was fenced by this claim. Whoever claims next may be writing already.
fn is_older(path: &str, claim: u64) -> bool {
    data_file(path).is_some_and(|(writer, _)| writer < claim)
}

fn files_of<'a>(manifests: impl IntoIterator<Item = &'a Manifest>) -> BTreeSet<String> {
    manifests.into_iter().flat_map(|manifest| &manifest.files).map(|file| file.path.clone()).collect()
}

/// Numbers of manifests that need not be kept. `known` has all there are; the newest is the writer's own.
fn expired(known: &BTreeMap<u64, Option<Manifest>>, retain: usize) -> Vec<u64> {
    let mut contents = BTreeSet::new();
    let mut expired = Vec::new();
    for (index, (number, manifest)) in known.iter().rev().enumerate() {
        let full = contents.len() >= retain.max(1);
        let is_kept = match manifest {
            Some(manifest) if index == 0 => {
                contents.extend(manifest.content());
                true
            }
            Some(Manifest { kind: Kind::Checkpoint, .. }) => !full && contents.insert(*number) || contents.contains(number),
            // An old claim: what it holds stands in the checkpoint that it went on from.
            Some(_) => false,
            None => !full,
        };
        if !is_kept {
            expired.push(*number);
        }
    }
    expired
}

impl Writer {
    /// Deletes what retention does not keep. What fails is tried again after the next commit: the checkpoint is there in any case.
    pub(crate) fn tidy(&self, state: &mut State) {
        if let Err(error) = self.try_tidy(state) {
            tracing::warn!(job = self.job.name(), %error, "old checkpoints were not deleted");
        }
    }

    fn try_tidy(&self, state: &mut State) -> Result<()> {
        for number in expired(&state.known, self.options.retain) {
            self.job.blobs.delete(&self.job.manifest_path(&Place::Number(number))?)?;
            let manifest = state.known.remove(&number).flatten();
            state.condemned.extend(manifest.into_iter().flat_map(|manifest| manifest.files).map(|file| file.path));
        }
        let mut needed = files_of(state.known.values().flatten());
        needed.extend(state.reading.iter().cloned());
        needed.extend(state.folded.iter().flat_map(|folded| &folded.file).map(|file| file.path.clone()));
        // What is named stays condemned only by those who do not name it any more.
        let named_now = files_of(state.known.values().flatten());
        state.condemned.retain(|path| !named_now.contains(path));
        if state.condemned.iter().all(|path| needed.contains(path)) || state.known.values().any(Option::is_none) {
            return Ok(());
        }
        let Some(savepoints) = self.job.savepoints()? else { return Ok(()) };
        // Whoever has taken over may go on from a checkpoint that was deleted just now.
        if self.job.numbers()?.last() != Some(&state.head.sequence) {
            return Ok(());
        }
        let saved = files_of(&savepoints);
        for path in state.condemned.clone() {
            if saved.contains(&path) {
                // Whoever deletes the savepoint deletes the file.
                state.condemned.remove(&path);
            } else if !needed.contains(&path) {
                self.job.blobs.delete(&self.job.path(&path))?;
                state.condemned.remove(&path);
            }
        }
        Ok(())
    }
}
