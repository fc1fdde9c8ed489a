//! Lines appended to files exactly once.
//!
//! Beside the file, or in the directory of partitions, stands a *record*: up to which epoch all is written, and, while more is
//! being written, how long each file was before. Whoever takes the sink over cuts the files back to that, and publishes the same
//! epochs again. A reader of the files sees, after a crash, at most lines that are written once more as they were.
//!
//! ```text
//! out.jsonl                the lines
//! out.jsonl.highwater      {"job":"hot","sink":"out","epoch":1700000000000,"writing":[]}
//! out.jsonl.highwater-lock held by the process that writes
//! ```

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use arrow::error::ArrowError;
use serde::{Deserialize, Serialize};

use super::lines::Lines;
use super::partitioned::Partitioned;
use super::{Changes, EpochChanges, PublishError, Publisher, SinkSpec};

/// Which lines go to which file.
pub(super) enum Layout {
    /// All to one.
    One(PathBuf, Lines),
    /// By columns.
    Partitioned(Partitioned),
}

impl Layout {
    fn encode(&self, epoch: u64, changes: &[Changes], files: &mut BTreeMap<PathBuf, Vec<u8>>) -> Result<(), ArrowError> {
        match self {
            Layout::One(path, lines) => lines.write(epoch, changes, files.entry(path.clone()).or_default()).map(drop),
            Layout::Partitioned(partitioned) => partitioned.encode(epoch, changes, files),
        }
    }

    /// The file or the directory.
    fn path(&self) -> &Path {
        match self {
            Layout::One(path, _) => path,
            Layout::Partitioned(partitioned) => &partitioned.directory,
        }
    }
}

/// Where the record of a file or a directory stands.
pub(super) fn record_of(path: &Path, is_directory: bool) -> PathBuf {
    if is_directory {
        return path.join(".highwater");
    }
    let mut name = path.as_os_str().to_owned();
    name.push(".highwater");
    PathBuf::from(name)
}

/// Writes files exactly once.
pub(super) struct Published {
    spec: SinkSpec,
    layout: Layout,
    record: PathBuf,
    /// Held as long as this process writes.
    lock: Option<File>,
    epoch: Option<u64>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    job: String,
    sink: String,
    /// Everything up to this epoch is written.
    epoch: Option<u64>,
    /// Files that were being written, and how long they were before.
    writing: Vec<(PathBuf, u64)>,
}

impl Published {
    pub(super) fn new(spec: SinkSpec, layout: Layout) -> Self {
        let record = record_of(layout.path(), matches!(layout, Layout::Partitioned(_)));
        Published { spec, layout, record, lock: None, epoch: None }
    }

    fn lock(&self) -> Result<File, PublishError> {
        let mut name = self.record.as_os_str().to_owned();
        name.push("-lock");
        let path = PathBuf::from(name);
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|error| failed("opening", &path, &error))?;
        file.try_lock().map_err(|error| match error {
            std::fs::TryLockError::WouldBlock => {
                PublishError::passing(format!("'{}' is being written by another process", self.layout.path().display()))
            }
            std::fs::TryLockError::Error(error) => failed("locking", &path, &error),
        })?;
        Ok(file)
    }

    fn read(&self) -> Result<Option<Record>, PublishError> {
        let path = &self.record;
        let text = match std::fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("reading", path, &error)),
        };
        let damaged = |error: serde_json::Error| {
            PublishError::fatal(format!(
                "'{}' is damaged ({error}): it says what was written already; remove it and the files to publish them anew",
                path.display()
            ))
        };
        let record: Record = serde_json::from_slice(&text).map_err(damaged)?;
        if (&record.job, &record.sink) != (&self.spec.job, &self.spec.name) {
            return Err(PublishError::fatal(format!(
                "'{}' is written by sink '{}' of job '{}'; choose another path",
                self.layout.path().display(),
                record.sink,
                record.job
            )));
        }
        Ok(Some(record))
    }

    /// Replaces the record, durably.
    fn save(&self, writing: Vec<(PathBuf, u64)>) -> Result<(), PublishError> {
        let record = Record { job: self.spec.job.clone(), sink: self.spec.name.clone(), epoch: self.epoch, writing };
        let text = serde_json::to_vec(&record).expect("names and numbers are JSON");
        let mut new = self.record.as_os_str().to_owned();
        new.push("-new");
        let new = PathBuf::from(new);
        let save = || -> std::io::Result<()> {
            let mut file = File::create(&new)?;
            file.write_all(&text)?;
            file.sync_all()?;
            std::fs::rename(&new, &self.record)?;
            sync_directory(&self.record)
        };
        save().map_err(|error| failed("writing", &self.record, &error))
    }

    fn header(&self) -> Vec<u8> {
        match &self.layout {
            Layout::Partitioned(partitioned) => partitioned.header(),
            Layout::One(_, lines) => {
                let mut header = Vec::new();
                lines.header(&self.spec, &mut header);
                header
            }
        }
    }
}

impl Publisher for Published {
    fn take_over(&mut self) -> Result<Option<u64>, PublishError> {
        if self.lock.is_none() {
            self.lock = Some(self.lock()?);
        }
        let Some(record) = self.read()? else { return Ok(None) };
        for (path, length) in &record.writing {
            cut(path, *length)?;
        }
        self.epoch = record.epoch;
        self.save(Vec::new())?;
        Ok(self.epoch)
    }

    fn publish(&mut self, epochs: &[EpochChanges], through: u64) -> Result<(), PublishError> {
        let mut files = BTreeMap::new();
        for EpochChanges { epoch, changes } in epochs {
            let encoded = self.layout.encode(*epoch, changes, &mut files);
            let path = self.layout.path().display();
            encoded.map_err(|error| PublishError::fatal(format!("encoding rows for '{path}': {error}")))?;
        }
        let mut writing = Vec::with_capacity(files.len());
        for path in files.keys() {
            match std::fs::metadata(path) {
                Ok(found) => writing.push((path.clone(), found.len())),
                Err(error) if error.kind() == ErrorKind::NotFound => writing.push((path.clone(), 0)),
                Err(error) => return Err(failed("looking at", path, &error)),
            }
        }
        self.save(writing.clone())?;
        let header = self.header();
        for ((path, lines), (_, length)) in files.iter().zip(&writing) {
            let header = if *length == 0 { header.as_slice() } else { &[] };
            if let Err(error) = append(path, header, lines) {
                // What was written of it is no part of the file: the same epochs are given again.
                for (path, length) in &writing {
                    cut(path, *length)?;
                }
                return Err(failed("writing to", path, &error));
            }
        }
        let before = self.epoch.replace(through);
        self.save(Vec::new()).inspect_err(|_| self.epoch = before)?;
        Ok(())
    }
}

/// Cuts a file back to what it was before it was written to.
fn cut(path: &Path, length: u64) -> Result<(), PublishError> {
    let found = match std::fs::metadata(path) {
        Ok(found) => found.len(),
        Err(error) if error.kind() == ErrorKind::NotFound => 0,
        Err(error) => return Err(failed("looking at", path, &error)),
    };
    if found < length {
        return Err(PublishError::fatal(format!(
            "'{}' has {found} bytes, and had {length} when it was last written to: somebody has cut it; choose another path",
            path.display()
        )));
    }
    if found == length {
        return Ok(());
    }
    let cut = || -> std::io::Result<()> {
        let file = OpenOptions::new().write(true).open(path)?;
        file.set_len(length)?;
        file.sync_all()
    };
    cut().map_err(|error| failed("cutting", path, &error))
}

fn append(path: &Path, header: &[u8], lines: &[u8]) -> std::io::Result<()> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    file.write_all(header)?;
    file.write_all(lines)?;
    file.sync_all()?;
    if header.is_empty() { Ok(()) } else { sync_directory(path) }
}

/// Makes sure that a file's name is as durable as what is in it.
fn sync_directory(path: &Path) -> std::io::Result<()> {
    match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(directory) => File::open(directory)?.sync_all(),
        None => File::open(".")?.sync_all(),
    }
}

fn failed(doing: &str, path: &Path, error: &std::io::Error) -> PublishError {
    PublishError::passing(format!("{doing} '{}': {error}", path.display()))
}
