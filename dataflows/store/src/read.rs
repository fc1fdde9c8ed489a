//! Reading what a checkpoint holds: in order, several sections at a time, in bounded memory.
//!
//! ```text
//! indexes of all files ──► reads: neighbouring sections, up to 4 MiB or one larger section
//!                            │  taken in order by threads, while no more than `ahead_bytes` wait
//!                            ▼
//!          read by range ─► checksum ─► decompress ─► decode ─► put in order ─► whoever iterates
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::blobs::ReadBuffer;
use crate::error::{Result, StoreError};
use crate::file::{IndexEntry, check_section, open_section};
use crate::job::JobStore;
use crate::manifest::{FileRef, Manifest};
use crate::section::Section;

/// Neighbouring sections are read together up to so many bytes.
const READ_BYTES: u64 = 4 << 20;

/// Whether sections of a key are wanted.
type Filter<'a> = dyn Fn(&str) -> bool + 'a;

/// What keys belong together; those of none come first.
type Group<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// What to read, and with how much haste.
pub struct ReadOptions<'a> {
    filter: Option<Box<Filter<'a>>>,
    unopened: Option<Box<Filter<'a>>>,
    group: Option<Box<Group<'a>>>,
    threads: usize,
    ahead_bytes: u64,
}

impl Default for ReadOptions<'_> {
    fn default() -> Self {
        // Some wait for the disk while others decode.
        let threads = thread::available_parallelism().map_or(4, |cores| 2 * usize::from(cores)).min(16);
        ReadOptions { filter: None, unopened: None, group: None, threads, ahead_bytes: 256 << 20 }
    }
}

impl<'a> ReadOptions<'a> {
    /// Only sections with keys like these.
    pub fn only(mut self, wanted: impl Fn(&str) -> bool + 'a) -> ReadOptions<'a> {
        self.filter = Some(Box::new(wanted));
        self
    }

    /// Sections with keys like these are read and their checksums compared, but they are not given: nobody needs their rows now,
    /// and whether they are damaged is told all the same.
    pub fn unopened(mut self, unneeded: impl Fn(&str) -> bool + 'a) -> ReadOptions<'a> {
        self.unopened = Some(Box::new(unneeded));
        self
    }

    /// All sections of a key one after the other, oldest file first, all keys of a group one after the other, and of the groups the
    /// one with the shortest rows first: whoever needs a group whole can go on while others are read, and of short rows there is most
    /// to do for what is read. Keys of no group come before.
    pub fn in_groups(mut self, group: impl Fn(&str) -> Option<String> + 'a) -> ReadOptions<'a> {
        self.group = Some(Box::new(group));
        self
    }

    /// How many threads read and decode; by default twice as many as there are cores, up to 16.
    pub fn threads(mut self, threads: usize) -> ReadOptions<'a> {
        self.threads = threads;
        self
    }

    /// How many bytes of rows may wait for whoever iterates; by default 256 MiB. A section that is larger waits alone.
    pub fn ahead_bytes(mut self, bytes: u64) -> ReadOptions<'a> {
        self.ahead_bytes = bytes;
        self
    }
}

impl fmt::Debug for ReadOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadOptions")
            .field("in_groups", &self.group.is_some())
            .field("threads", &self.threads)
            .field("ahead_bytes", &self.ahead_bytes)
            .finish_non_exhaustive()
    }
}

/// What is known of a section before it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SectionInfo {
    /// Its key.
    pub key: String,
    /// How many rows it has.
    pub rows: u64,
    /// How long it is in its file.
    pub bytes: u64,
}

/// How far reading has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of files whose sections were given.
    pub bytes_done: u64,
    /// Bytes of all files that have to be read.
    pub bytes_total: u64,
}

/// Neighbouring sections of one file, that are read together.
struct Read {
    /// The file's path in the store, its length and its address.
    file: Arc<(String, u64, String)>,
    range: Range<u64>,
    /// Of those that are given.
    raw_bytes: u64,
    /// Whether it is given, and what it is.
    entries: Vec<(bool, IndexEntry)>,
}

struct Shared {
    job: JobStore,
    reads: Vec<Read>,
    ahead_bytes: u64,
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    /// The next read that a thread takes.
    next: usize,
    /// Bytes of rows of reads that were taken and not given.
    waiting_bytes: u64,
    done: BTreeMap<usize, Result<Vec<Section>>>,
    stopped: bool,
}

/// Sections in the order in which they were written, oldest file first, or [in groups](ReadOptions::in_groups). Ends after the first
/// error.
pub struct Sections {
    shared: Arc<Shared>,
    sequence: u64,
    given: usize,
    ready: VecDeque<Section>,
    progress: Progress,
}

impl fmt::Debug for Sections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sections").field("progress", &self.progress).finish_non_exhaustive()
    }
}

impl JobStore {
    /// Reads a checkpoint's sections. Errors are like those of [`JobStore::latest`].
    pub fn read(&self, manifest: &Manifest, options: ReadOptions<'_>) -> Result<Sections> {
        let sequence = manifest.sequence;
        let reads = self.plan(manifest, &options).map_err(|error| self.offering(error, Some(sequence)))?;
        let bytes_total = reads.iter().map(|read| read.range.end - read.range.start).sum();
        let threads = options.threads.clamp(1, reads.len().max(1));
        let (queue, changed) = (Mutex::default(), Condvar::new());
        let shared = Arc::new(Shared { job: self.clone(), reads, ahead_bytes: options.ahead_bytes, queue, changed });
        let progress = Progress { bytes_done: 0, bytes_total };
        let sections = Sections { shared: shared.clone(), sequence, given: 0, ready: VecDeque::new(), progress };
        for number in 0..threads {
            let shared = shared.clone();
            let started = thread::Builder::new().name(format!("restore-{number}")).spawn(move || shared.work());
            if let (0, Err(error)) = (number, started) {
                return Err(StoreError::Io {
                    file: self.address(""),
                    attempted: "starting a thread for",
                    what: error.to_string(),
                });
            }
        }
        Ok(sections)
    }

    /// What a checkpoint's sections are and how large, in the order in which [`JobStore::read`] gives them, without reading them.
    pub fn contents(&self, manifest: &Manifest) -> Result<Vec<SectionInfo>> {
        let mut contents = Vec::new();
        for file in &manifest.files {
            let entries = self.index(file).map_err(|error| self.offering(error, Some(manifest.sequence)))?;
            contents.extend(entries.into_iter().map(|entry| SectionInfo {
                key: entry.key,
                rows: entry.rows,
                bytes: entry.bytes,
            }));
        }
        Ok(contents)
    }

    /// Reads everything that a checkpoint holds, and gives nothing: whether it is whole to the last byte.
    pub fn verify(&self, manifest: &Manifest) -> Result<()> {
        self.read(manifest, ReadOptions::default())?.try_for_each(|section| section.map(|_| ()))
    }

    fn plan(&self, manifest: &Manifest, options: &ReadOptions<'_>) -> Result<Vec<Read>> {
        let mut wanted = Vec::new();
        for file in &manifest.files {
            let entries = self.index(file)?;
            let file = Arc::new((self.path(&file.path), file.bytes, self.address(&file.path)));
            let entries = entries.into_iter().filter(|entry| options.filter.as_ref().is_none_or(|filter| filter(&entry.key)));
            wanted.extend(entries.map(|entry| (file.clone(), entry)));
        }
        let is_given = |key: &str| options.unopened.as_ref().is_none_or(|unopened| !unopened(key));
        if let Some(group) = &options.group {
            let mut sizes: BTreeMap<Option<String>, (u64, u64)> = BTreeMap::new();
            for (_, entry) in wanted.iter().filter(|(_, entry)| is_given(&entry.key)) {
                let (bytes, rows) = sizes.entry(group(&entry.key)).or_default();
                *bytes = bytes.saturating_add(entry.raw_bytes);
                *rows = rows.saturating_add(entry.rows);
            }
            // What is not given keeps nobody waiting.
            let bytes_per_row = |group: &Option<String>| sizes.get(group).map_or(u64::MAX, |(bytes, rows)| bytes / rows.max(&1));
            wanted.sort_by_cached_key(|(_, entry)| {
                let group = group(&entry.key);
                (group.as_ref().map(|_| bytes_per_row(&group)), group, entry.key.clone())
            });
        }
        let mut reads: Vec<Read> = Vec::new();
        for (file, entry) in wanted {
            let is_given = is_given(&entry.key);
            let raw_bytes = if is_given { entry.raw_bytes } else { 0 };
            let end = entry.offset + entry.bytes;
            match reads.last_mut() {
                Some(read)
                    if Arc::ptr_eq(&read.file, &file)
                        && read.range.end == entry.offset
                        && end - read.range.start <= READ_BYTES =>
                {
                    read.range.end = end;
                    read.raw_bytes = read.raw_bytes.saturating_add(raw_bytes);
                    read.entries.push((is_given, entry));
                }
                _ => {
                    let range = entry.offset..end;
                    reads.push(Read { file, range, raw_bytes, entries: vec![(is_given, entry)] });
                }
            }
        }
        Ok(reads)
    }

    /// Reads one section by itself, of a file that nobody reads again soon.
    pub(crate) fn read_section(&self, file: &FileRef, entry: &IndexEntry, buffer: &mut ReadBuffer) -> Result<Section> {
        let path = self.path(&file.path);
        let payload = self.blobs.read_once(&path, entry.offset..entry.offset + entry.bytes, file.bytes, buffer)?;
        open_section(entry, payload, &self.blobs.name(&path))
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        let mut buffer = ReadBuffer::default();
        while let Some((index, read)) = self.take() {
            let done = catch_unwind(AssertUnwindSafe(|| self.perform(read, &mut buffer)));
            let done = done.unwrap_or_else(|_| {
                Err(StoreError::corrupt(read.file.2.clone(), "reading it failed in a way that nobody foresaw"))
            });
            self.queue().done.insert(index, done);
            self.changed.notify_all();
        }
    }

    fn take(&self) -> Option<(usize, &Read)> {
        let mut queue = self.queue();
        loop {
            let read = self.reads.get(queue.next).filter(|_| !queue.stopped)?;
            if queue.waiting_bytes == 0 || queue.waiting_bytes.saturating_add(read.raw_bytes) <= self.ahead_bytes {
                queue.waiting_bytes = queue.waiting_bytes.saturating_add(read.raw_bytes);
                queue.next += 1;
                return Some((queue.next - 1, read));
            }
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn perform(&self, read: &Read, buffer: &mut ReadBuffer) -> Result<Vec<Section>> {
        let (path, file_bytes, address) = &*read.file;
        let bytes = self.job.blobs.read_once(path, read.range.clone(), *file_bytes, buffer)?;
        let mut sections = Vec::with_capacity(read.entries.len());
        for (is_given, entry) in &read.entries {
            let start = (entry.offset - read.range.start) as usize;
            let payload = &bytes[start..start + entry.bytes as usize];
            match is_given {
                true => sections.push(open_section(entry, payload, address)?),
                false => check_section(entry, payload, address)?,
            }
        }
        Ok(sections)
    }
}

impl Sections {
    /// The keys of all sections that are given, each once.
    pub fn keys(&self) -> BTreeSet<&str> {
        let entries = self.shared.reads.iter().flat_map(|read| &read.entries);
        entries.filter(|(is_given, _)| *is_given).map(|(_, entry)| entry.key.as_str()).collect()
    }

    /// How far reading has come.
    pub fn progress(&self) -> Progress {
        self.progress
    }

    fn stop(&self) {
        self.shared.queue().stopped = true;
        self.shared.changed.notify_all();
    }
}

impl Iterator for Sections {
    type Item = Result<Section>;

    fn next(&mut self) -> Option<Result<Section>> {
        loop {
            if let Some(section) = self.ready.pop_front() {
                return Some(Ok(section));
            }
            let read = self.shared.reads.get(self.given)?;
            let mut queue = self.shared.queue();
            let done = loop {
                match queue.done.remove(&self.given) {
                    Some(done) => break done,
                    None => queue = self.shared.changed.wait(queue).unwrap_or_else(PoisonError::into_inner),
                }
            };
            queue.waiting_bytes = queue.waiting_bytes.saturating_sub(read.raw_bytes);
            drop(queue);
            self.shared.changed.notify_all();
            match done {
                Ok(sections) => {
                    self.progress.bytes_done += read.range.end - read.range.start;
                    self.given += 1;
                    self.ready.extend(sections);
                }
                Err(error) => {
                    self.stop();
                    self.given = self.shared.reads.len();
                    return Some(Err(self.shared.job.offering(error, Some(self.sequence))));
                }
            }
        }
    }
}

impl Drop for Sections {
    fn drop(&mut self) {
        self.stop();
    }
}
