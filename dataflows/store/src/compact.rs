//! Folding many files into one, while commits go on.
//!
//! All sections of one key are read, oldest first, and given to the caller, who makes others of them (adds up what was inserted
//! and deleted, say) or none. The new file is not part of anything until the next commit names it instead of those it was made of; files
//! committed meanwhile stay after it. A crash in between leaves an orphan, which the next claim deletes.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use highwater_turns::{Point, crash_point, try_lock};

use crate::blobs::ReadBuffer;
use crate::error::{Result, StoreError};
use crate::file::FileWriter;
use crate::manifest::FileRef;
use crate::policy::{Policy, Span};
use crate::section::Section;
use crate::writer::Writer;

/// What the caller is asked to fold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fold<'a> {
    /// The key of all sections.
    pub key: &'a str,
    /// Whether nothing older exists: what cancels out, and what only says that something older is gone, may be left away.
    pub complete: bool,
}

/// Makes sections of all of one key, oldest first, that stand for them: of the same key, or none; or says what is wrong with them.
pub type Folder<'a> = dyn Fn(Fold<'_>, Vec<Section>) -> std::result::Result<Vec<Section>, String> + 'a;

/// What a compaction did.
#[derive(Clone, Debug, PartialEq)]
pub struct Compacted {
    /// How many files it read.
    pub files: usize,
    /// How many bytes they have.
    pub bytes_read: u64,
    /// The file that the next commit names instead; `None` if nothing was left.
    pub file: Option<FileRef>,
}

/// What came of folding.
enum Outcome {
    /// A file, if anything was left.
    Folded(Option<FileRef>),
    Stopped,
}

/// A file that the next commit takes in.
pub(crate) struct Folded {
    /// Paths of the files that it stands for, one after the other in the manifest.
    pub(crate) replaces: Vec<String>,
    /// `None`: nothing was left of them.
    pub(crate) file: Option<FileRef>,
}

impl Writer {
    /// Which files should be folded now, if any.
    pub fn due(&self, policy: &Policy) -> Option<Span> {
        let state = self.state();
        // What is folded already must be committed first.
        if state.folded.is_some() { None } else { policy.due(&state.head.files) }
    }

    /// Has a compaction that runs come to nothing soon, and no other begin: for a writer that will not commit what it would bring.
    pub fn stop_compacting(&self) {
        self.stopped.store(true, Ordering::Release);
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// Folds files of the newest checkpoint into one, which the next commit refers to instead.
    ///
    /// To be called on a thread of its own, while others commit. Memory is bounded by the sections of one key. Returns `None` if
    /// there is nothing to fold, if another compaction runs, if the one before was not committed yet, or if it was
    /// [stopped](Writer::stop_compacting).
    pub fn compact(&self, span: Span, fold: &Folder<'_>) -> Result<Option<Compacted>> {
        let Some(_one_at_a_time) = try_lock(&self.compacting) else { return Ok(None) };
        let files = {
            let mut state = self.state();
            state.usable()?;
            let from = if let Span::After(from) = span { from } else { 0 };
            let files: Vec<FileRef> = state.head.files.get(from..).unwrap_or_default().to_vec();
            if files.is_empty() || state.folded.is_some() {
                return Ok(None);
            }
            state.reading.extend(files.iter().map(|file| file.path.clone()));
            files
        };
        let reading = Reading(self);
        let file = self.fold(&files, span == Span::All, fold);
        let file = file.map_err(|error| {
            let sequence = self.state().head.sequence;
            self.job.offering(self.fenced_or(error), Some(sequence))
        })?;
        drop(reading);
        let Outcome::Folded(file) = file else { return Ok(None) };
        crash_point(Point::Folded);
        let compacted =
            Compacted { files: files.len(), bytes_read: files.iter().map(|file| file.bytes).sum(), file: file.clone() };
        self.state().folded = Some(Folded { replaces: files.into_iter().map(|file| file.path).collect(), file });
        Ok(Some(compacted))
    }

    fn fold(&self, files: &[FileRef], complete: bool, fold: &Folder<'_>) -> Result<Outcome> {
        let mut keys: BTreeMap<String, Vec<_>> = BTreeMap::new();
        for file in files {
            for entry in self.job.index(file)? {
                keys.entry(entry.key.clone()).or_default().push((file, entry));
            }
        }
        let path = self.new_path();
        let mut writer = FileWriter::new(&self.job.blobs, &self.job.path(&path))?;
        let mut buffer = ReadBuffer::default();
        for (key, entries) in keys {
            let mut sections: Vec<Section> = Vec::with_capacity(entries.len());
            for (file, entry) in entries {
                if self.is_stopped() {
                    return Ok(Outcome::Stopped);
                }
                sections.push(self.job.read_section(file, &entry, &mut buffer)?);
            }
            let refuse = |what: String| StoreError::refused(format!("sections `{key}` cannot be folded: {what}"));
            for section in fold(Fold { key: &key, complete }, sections).map_err(refuse)? {
                if section.key != key {
                    return Err(refuse(format!("what came of them is called `{}`", section.key)));
                }
                writer.push(&section)?;
            }
        }
        if writer.is_empty() {
            return Ok(Outcome::Folded(None));
        }
        let epoch = files.iter().map(|file| file.epoch).max().unwrap_or(0);
        writer.finish(path, complete, epoch).map(|file| Outcome::Folded(Some(file)))
    }
}

/// Lets go of the files that a compaction read, however it ends.
struct Reading<'a>(&'a Writer);

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.0.state().reading.clear();
    }
}
