//! Bodies that were accepted, on a disk before their senders are told.
//!
//! ```text
//! <directory>/owner                                  who may write: a number that each opening raises
//! <directory>/keys                                   idempotency keys of bodies that were let go of
//! <directory>/00000000000000000001.bodies            bodies in the order of their numbers, oldest file first
//! <directory>/00000000000000000001-00000000000000000017.saved
//!                                                    bodies that a checkpoint has, for epochs that are run again; since the file's time
//! ```
//!
//! A file begins with its version and holds groups: a head, and the bodies that one flush made durable. A group is written when
//! the one before it is durable, so that what is not whole is the end of a write that a crash cut off if no group follows, and
//! damage if one does. Each opening begins a new file; files are deleted whole.
//!
//! Who opens the log takes it over, as checkpoints are taken over: writing is done under a lock of the file `owner` and looks
//! whether the number is still its own, so that the newcomer has all that was accepted, and the other accepts no more.

mod record;
mod segment;

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use self::record::group;
pub(super) use self::record::{Content, Entry, Unsealed};
use self::segment::{HEAD, Next, Records, is_cut_off};
use crate::source::Backlog;

/// A file that has so many bytes gets no more.
const SEGMENT_BYTES: u64 = 16 << 20;

/// How long opening waits for another process that is writing.
const LOCK_WAIT: Duration = Duration::from_secs(10);

/// The log cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub(super) enum LogError {
    #[error("the log of accepted rows: {doing} {} failed: {error}", path.display())]
    Io { doing: &'static str, path: PathBuf, error: io::Error },
    #[error("the log of accepted rows has no room: writing {} failed: {error}", path.display())]
    Full { path: PathBuf, error: io::Error },
    #[error(
        "the log of accepted rows is damaged: {} at byte {at}: {why}; put back the file, or start the job anew with --fresh: it \
         then begins with nothing",
        path.display()
    )]
    Damaged { path: PathBuf, at: u64, why: String },
    #[error("the log of accepted rows has a layout that this version does not know: {}: {found}", path.display())]
    Version { path: PathBuf, found: String },
    #[error("another process has taken over the log of accepted rows in {}", directory.display())]
    TakenOver { directory: PathBuf },
    #[error("another process holds the log of accepted rows in {}; end it", directory.display())]
    Held { directory: PathBuf },
    #[error(
        "its rows after body {after} are no longer kept{}: they are for as long as --record-epochs says, from the checkpoint on that \
         has them; run later epochs again, or record for longer", next.map_or_else(String::new, |next| format!(" (the next is body {next})"))
    )]
    Gone { after: u64, next: Option<u64> },
    #[error("the log of accepted rows accepts no more since an earlier error; start the job again: {0}")]
    Failed(String),
}

/// Gives an error of the operating system its place.
fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LogError {
    let path = path.to_path_buf();
    move |error| match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => LogError::Full { path, error },
        _ => LogError::Io { doing, path, error },
    }
}

/// The log of one source.
#[derive(Debug)]
pub(super) struct Log {
    directory: PathBuf,
    owner: File,
    generation: u64,
    /// Oldest first.
    segments: VecDeque<Segment>,
    /// Files that a checkpoint has, oldest first.
    saved: VecDeque<Saved>,
    /// For how long those are kept.
    keep: Duration,
    /// The last one, while it takes more.
    open: Option<File>,
    /// What is on the disk is not known: nothing more is written.
    broken: Option<String>,
}

#[derive(Debug, Clone)]
struct Segment {
    path: PathBuf,
    first: u64,
    last: u64,
    bytes: u64,
}

/// A file that a checkpoint has.
#[derive(Debug)]
struct Saved {
    path: PathBuf,
    first: u64,
    last: u64,
    since: SystemTime,
}

/// What was found in a log.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The bodies that had keys, oldest first, without their bytes.
    pub(super) keyed: Vec<Entry>,
    /// The numbers of the first and the last body that can be replayed.
    pub(super) bodies: Option<(u64, u64)>,
}

impl Log {
    /// Takes over the log in a directory, which is made if there is none, and reads all of it.
    ///
    /// `keep`: for how long files are kept that a checkpoint has.
    pub(super) fn open(directory: &Path, keep: Duration) -> Result<(Log, Found), LogError> {
        fs::create_dir_all(directory).map_err(failed("creating", directory))?;
        let path = directory.join("owner");
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut owner = file.map_err(failed("opening", &path))?;
        let since = Instant::now();
        loop {
            match owner.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if since.elapsed() < LOCK_WAIT => std::thread::sleep(Duration::from_millis(5)),
                Err(TryLockError::WouldBlock) => return Err(LogError::Held { directory: directory.to_path_buf() }),
                Err(TryLockError::Error(error)) => return Err(failed("locking", &path)(error)),
            }
        }
        let generation = read_owner(&mut owner).map_err(failed("reading", &path))? + 1;
        let mut log = Log {
            directory: directory.to_path_buf(),
            owner,
            generation,
            segments: VecDeque::new(),
            saved: VecDeque::new(),
            keep,
            open: None,
            broken: None,
        };
        log.write_owner().map_err(failed("writing", &path))?;
        let found = log.scan().and_then(|found| log.find_saved().map(|()| found));
        log.owner.unlock().map_err(failed("unlocking", &path))?;
        sync_directories(directory).map_err(failed("flushing", directory))?;
        Ok((log, found?))
    }

    /// Reads all files, and cuts off what a crash left of the last one.
    fn scan(&mut self) -> Result<Found, LogError> {
        let mut found = Found::default();
        let files = list(&self.directory, "bodies")?;
        let keys = self.keys_path();
        if keys.exists() {
            let mut records = Records::open(&keys)?;
            loop {
                match records.next()? {
                    Next::Body(entry) => found.keyed.push(entry),
                    Next::Group => {}
                    Next::End => break,
                    Next::Broken(why) => return Err(records.damaged(why)),
                }
            }
        }
        let keyed_upto = found.keyed.last().map_or(0, |entry| entry.number);
        let newest = files.len().saturating_sub(1);
        for (index, path) in files.into_iter().enumerate() {
            let mut segment: Option<Segment> = None;
            let expected = self.segments.back().map(|before| before.last + 1);
            let mut records = match Records::open(&path) {
                // A crash came before the file's head was on the disk.
                Err(LogError::Damaged { at: 0, .. }) if index == newest && is_cut_off(&path, 0)? => {
                    fs::remove_file(&path).map_err(failed("deleting", &path))?;
                    continue;
                }
                opened => opened?,
            };
            let bytes = loop {
                let at = records.at();
                match records.next()? {
                    Next::Group => {}
                    Next::Body(mut entry) => {
                        let follows = segment.as_ref().map(|segment| segment.last + 1).or(expected);
                        if follows.is_some_and(|follows| follows != entry.number) {
                            let why = format!("body {} is where {} should be", entry.number, follows.unwrap_or_default());
                            return Err(LogError::Damaged { path, at, why });
                        }
                        let (first, last) = (segment.map_or(entry.number, |segment| segment.first), entry.number);
                        segment = Some(Segment { path: path.clone(), first, last, bytes: 0 });
                        if entry.key.is_some() && entry.number > keyed_upto {
                            entry.body = Vec::new();
                            found.keyed.push(entry);
                        }
                    }
                    Next::End => break at,
                    Next::Broken(_) if index == newest && is_cut_off(&path, at)? => {
                        tracing::warn!(file = %path.display(), at, "the end of a write that a crash cut off is dropped");
                        let file = OpenOptions::new().write(true).open(&path).map_err(failed("opening", &path))?;
                        file.set_len(at).and_then(|()| file.sync_all()).map_err(failed("cutting", &path))?;
                        break at;
                    }
                    Next::Broken(why) => return Err(records.damaged(why)),
                }
            };
            match segment {
                Some(segment) => self.segments.push_back(Segment { bytes, ..segment }),
                None => fs::remove_file(&path).map_err(failed("deleting", &path))?,
            }
        }
        found.bodies = self.segments.front().zip(self.segments.back()).map(|(first, last)| (first.first, last.last));
        Ok(found)
    }

    fn keys_path(&self) -> PathBuf {
        self.directory.join("keys")
    }

    fn write_owner(&mut self) -> io::Result<()> {
        self.owner.seek(SeekFrom::Start(0))?;
        self.owner.write_all(format!("{:020}\n", self.generation).as_bytes())?;
        self.owner.sync_all()
    }

    /// Makes bodies durable, all or none, as the next ones from number `first` on.
    pub(super) fn append(&mut self, first: u64, bodies: &[Unsealed]) -> Result<(), LogError> {
        self.owned(|log| {
            let mut bytes = group(first, bodies.len());
            bodies.iter().zip(first..).for_each(|(body, number)| body.seal(number, &mut bytes));
            if log.segments.back().is_some_and(|segment| segment.bytes >= SEGMENT_BYTES) {
                log.open = None;
            }
            let path = match (&log.open, log.segments.back()) {
                (Some(_), Some(segment)) => segment.path.clone(),
                _ => log.begin(first)?,
            };
            let file = log.open.as_mut().expect("one was just begun");
            let segment = log.segments.back_mut().expect("one was just begun");
            let (before, after) = (segment.bytes, segment.bytes + bytes.len() as u64);
            if let Err(error) = file.write_all(&bytes) {
                // What came of it is taken back, so that the next write is where this one should have been.
                if let Err(error) = file.set_len(before).and_then(|()| file.seek(SeekFrom::Start(before)).map(drop)) {
                    log.broken = Some(format!("cutting {} failed: {error}", path.display()));
                }
                return Err(failed("writing", &path)(error));
            }
            if let Err(error) = file.sync_data() {
                // Nobody knows what of it will be there after a crash.
                let error = failed("flushing", &path)(error);
                log.broken = Some(error.to_string());
                return Err(error);
            }
            (segment.bytes, segment.last) = (after, first + bodies.len() as u64 - 1);
            Ok(())
        })
    }

    /// Does what only the owner may.
    fn owned<T>(&mut self, work: impl FnOnce(&mut Log) -> Result<T, LogError>) -> Result<T, LogError> {
        if let Some(why) = &self.broken {
            return Err(LogError::Failed(why.clone()));
        }
        let path = self.directory.join("owner");
        self.owner.lock().map_err(failed("locking", &path))?;
        let done = match read_owner(&mut self.owner) {
            Ok(generation) if generation == self.generation => work(self),
            Ok(_) => Err(LogError::TakenOver { directory: self.directory.clone() }),
            Err(error) => Err(failed("reading", &path)(error)),
        };
        self.owner.unlock().map_err(failed("unlocking", &path))?;
        done
    }

    /// Begins a file whose first body has this number.
    fn begin(&mut self, first: u64) -> Result<PathBuf, LogError> {
        let path = self.directory.join(format!("{first:020}.bodies"));
        // What an append that failed had begun is begun again.
        let mut file = File::create(&path).map_err(failed("creating", &path))?;
        let begun = file.write_all(&HEAD).and_then(|()| file.sync_all()).and_then(|()| sync(&self.directory));
        if let Err(error) = begun {
            // An empty file is no harm: it is begun again.
            let _ = fs::remove_file(&path);
            return Err(failed("writing", &path)(error));
        }
        self.segments.retain(|segment| segment.last >= segment.first);
        self.segments.push_back(Segment { path: path.clone(), first, last: first - 1, bytes: HEAD.len() as u64 });
        self.open = Some(file);
        Ok(path)
    }

    /// Files that checkpoints had before. None is deleted until there is another checkpoint: this start may go back.
    fn find_saved(&mut self) -> Result<(), LogError> {
        let now = SystemTime::now();
        for path in list(&self.directory, "saved")? {
            let Some((first, last)) = numbers(&path) else { continue };
            let since = fs::metadata(&path).and_then(|metadata| metadata.modified()).map_err(failed("reading", &path))?;
            // A file of the future is one of a clock that was wrong.
            self.saved.push_back(Saved { path, first, last, since: since.min(now) });
        }
        Ok(())
    }

    /// Deletes files that a checkpoint has had for long enough.
    fn prune(&mut self) -> Result<(), LogError> {
        while let Some(saved) = self.saved.front().filter(|saved| self.is_over(saved)) {
            delete(&saved.path)?;
            self.saved.pop_front();
        }
        Ok(())
    }

    fn is_over(&self, saved: &Saved) -> bool {
        saved.since.elapsed().is_ok_and(|age| age >= self.keep)
    }

    /// Keeps a file that a checkpoint has, for epochs that are run again.
    fn set_aside(&mut self, segment: &Segment) -> Result<(), LogError> {
        let (first, last, since) = (segment.first, segment.last, SystemTime::now());
        let path = self.directory.join(format!("{first:020}-{last:020}.saved"));
        let marked = OpenOptions::new().write(true).open(&segment.path).and_then(|file| file.set_modified(since));
        match marked.and_then(|()| fs::rename(&segment.path, &path)) {
            Ok(()) => self.saved.push_back(Saved { path, first, last, since }),
            // Somebody has deleted it, and it is needed no more.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(failed("renaming", &segment.path)(error)),
        }
        Ok(())
    }

    /// For a job that goes back to a checkpoint which has bodies up to a number: takes those back that only later ones had, as
    /// far as they are kept without a gap. Gives what is in the log then; `None` if nothing was taken back.
    pub(super) fn take_back(&mut self, after: u64) -> Result<Option<Found>, LogError> {
        if self.saved.back().is_none_or(|saved| saved.last <= after) {
            return Ok(None);
        }
        self.owned(|log| {
            let mut next = log.segments.front().map(|segment| segment.first);
            // Newest first: wherever it ends, there is no gap in what is in the log.
            while let Some(saved) = log.saved.pop_back_if(|saved| saved.last > after) {
                if next.is_some_and(|next| saved.last + 1 != next) {
                    log.saved.push_back(saved);
                    break;
                }
                let name = log.directory.join(format!("{:020}.bodies", saved.first));
                fs::rename(&saved.path, name).map_err(failed("renaming", &saved.path))?;
                next = Some(saved.first);
            }
            sync(&log.directory).map_err(failed("flushing", &log.directory))?;
            log.segments.clear();
            log.scan().map(Some)
        })
    }

    /// Lets go of bodies up to this number, as far as whole files can be deleted or set aside; of those the keys that are still
    /// known, which `keys` gives for a number, oldest first, stay.
    pub(super) fn release(&mut self, upto: u64, keys: impl FnOnce(u64) -> Vec<Unsealed>) -> Result<(), LogError> {
        let open = self.open.is_some();
        let full = |segment: &Segment, is_last: bool| !is_last || !open || segment.bytes >= SEGMENT_BYTES;
        let count = self.segments.len();
        let free = |(index, segment): (usize, &Segment)| segment.last <= upto && full(segment, index + 1 == count);
        let free = self.segments.iter().enumerate().take_while(|entry| free(*entry)).count();
        if free == 0 && !self.saved.front().is_some_and(|saved| self.is_over(saved)) {
            return Ok(());
        }
        self.owned(|log| {
            if free > 0 {
                let last = log.segments[free - 1].last;
                log.replace_keys(&keys(last))?;
            }
            for _ in 0..free {
                let Some(segment) = log.segments.front().cloned() else { break };
                match log.keep.is_zero() {
                    true => delete(&segment.path)?,
                    false => log.set_aside(&segment)?,
                }
                log.segments.pop_front();
                if log.segments.is_empty() {
                    log.open = None;
                }
            }
            log.prune()
        })
    }

    /// Has these keys of bodies that were let go of, and no others.
    pub(super) fn write_keys(&mut self, keys: &[Unsealed]) -> Result<(), LogError> {
        self.owned(|log| log.replace_keys(keys))
    }

    fn replace_keys(&self, keys: &[Unsealed]) -> Result<(), LogError> {
        let mut bytes = HEAD.to_vec();
        keys.iter().for_each(|key| key.seal_numbered(&mut bytes));
        let (path, new) = (self.keys_path(), self.directory.join("keys.new"));
        let written = File::create(&new).and_then(|mut file| file.write_all(&bytes).and_then(|()| file.sync_all()));
        written.map_err(failed("writing", &new))?;
        fs::rename(&new, &path).and_then(|()| sync(&self.directory)).map_err(failed("writing", &path))
    }

    /// The bodies after a number, oldest first.
    pub(super) fn replay(&self, after: u64) -> Replay {
        let segments = self.segments.iter().filter(|segment| segment.last > after && segment.last >= segment.first);
        let segments: VecDeque<_> = segments.map(|segment| (segment.path.clone(), segment.first, Some(segment.last))).collect();
        // Those that were let go of are not waited for.
        let after = segments.front().map_or(after, |(_, first, _)| after.max(first - 1));
        Replay { segments, records: None, after }
    }

    /// Bodies (as rows) and bytes in the files.
    pub(super) fn size(&self) -> Backlog {
        let bodies = self.segments.iter().map(|segment| segment.last + 1 - segment.first).sum();
        Backlog { rows: bodies, bytes: self.segments.iter().map(|segment| segment.bytes).sum() }
    }
}

/// Reads bodies again, one after the other.
#[derive(Debug)]
pub(super) struct Replay {
    /// Files, the numbers of their first bodies, and the last that is wanted; `None`: as far as the file is whole.
    segments: VecDeque<(PathBuf, u64, Option<u64>)>,
    records: Option<Records>,
    after: u64,
}

impl Replay {
    /// The bodies after a number of a log that others have, as far as they are kept.
    pub(super) fn look(directory: &Path, after: u64) -> Result<Replay, LogError> {
        // What is set aside meanwhile, or taken back, is seen in one of the two places, or both.
        let (mut bodies, saved) = (list(directory, "bodies")?, list(directory, "saved")?);
        bodies.extend(list(directory, "bodies")?);
        let bodies = bodies.into_iter().filter_map(|path| numbers(&path).map(|(first, _)| (path, first, None)));
        let saved = saved.into_iter().filter_map(|path| numbers(&path).map(|(first, last)| (path, first, Some(last))));
        let mut segments: Vec<_> = saved.chain(bodies).collect();
        segments.sort_by_key(|(_, first, _)| *first);
        segments.dedup_by_key(|(_, first, _)| *first);
        let before = segments.iter().skip(1).take_while(|(_, first, _)| *first <= after + 1).count();
        Ok(Replay { segments: segments.drain(before..).collect(), records: None, after })
    }

    /// Says that the body that should come next is not there.
    pub(super) fn gone(&self, next: Option<u64>) -> LogError {
        LogError::Gone { after: self.after, next }
    }

    /// The next body; `None` at the end of what there was when the replay began.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, LogError> {
        while let Some((path, _, last)) = self.segments.front() {
            let records = match &mut self.records {
                Some(records) => records,
                None => match open_either(path)? {
                    Some(records) => self.records.insert(records),
                    None => return Err(self.gone(None)),
                },
            };
            let (last, is_newest) = (*last, self.segments.len() == 1);
            if last.is_some_and(|last| self.after >= last) {
                self.end_of_file();
                continue;
            }
            let at = records.at();
            match records.next()? {
                Next::Group => {}
                Next::Body(entry) if entry.number <= self.after => {}
                Next::Body(entry) if entry.number > self.after + 1 => return Err(self.gone(Some(entry.number))),
                Next::Body(entry) => {
                    self.after = entry.number;
                    return Ok(Some(entry));
                }
                Next::End if last.is_some() => return Err(records.damaged("the file has become shorter".into())),
                Next::End => self.end_of_file(),
                // Another process writes it.
                Next::Broken(_) if last.is_none() && is_newest && is_cut_off(records.path(), at)? => self.end_of_file(),
                Next::Broken(why) => return Err(records.damaged(why)),
            }
        }
        Ok(None)
    }

    fn end_of_file(&mut self) {
        self.segments.pop_front();
        self.records = None;
    }
}

/// Opens a file, which may have been set aside or taken back since its name was read; `None`: it is gone.
fn open_either(path: &Path) -> Result<Option<Records>, LogError> {
    let directory = path.parent().unwrap_or(path);
    let others = || Ok([list(directory, "saved")?, list(directory, "bodies")?].concat());
    let first = |path: &Path| numbers(path).map(|(first, _)| first);
    let mut tried = vec![path.to_path_buf()];
    while let Some(name) = tried.pop() {
        match Records::open(&name) {
            Err(LogError::Io { error, .. }) if error.kind() == ErrorKind::NotFound && name == path => {
                tried.extend(others()?.into_iter().filter(|other| first(other) == first(path) && other != path));
            }
            Err(LogError::Io { error, .. }) if error.kind() == ErrorKind::NotFound => {}
            opened => return opened.map(Some),
        }
    }
    Ok(None)
}

/// Deletes a file that may be gone already.
fn delete(path: &Path) -> Result<(), LogError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(failed("deleting", path)(error)),
        _ => Ok(()),
    }
}

/// The numbers of the first and the last body of a file, as far as its name says them.
fn numbers(path: &Path) -> Option<(u64, u64)> {
    let name = path.file_stem()?.to_str()?;
    let (first, last) = name.split_once('-').unwrap_or((name, name));
    Some((first.parse().ok()?, last.parse().ok()?))
}

/// The files in a directory that end so, by their names; none if it is not there.
fn list(directory: &Path, extension: &str) -> Result<Vec<PathBuf>, LogError> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed("listing", directory))?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed("listing", directory))?.path();
        if path.extension().is_some_and(|found| found == extension) {
            files.push(path);
        }
    }
    files.sort_unstable();
    Ok(files)
}

fn read_owner(file: &mut File) -> io::Result<u64> {
    let mut text = String::new();
    file.seek(SeekFrom::Start(0))?;
    file.read_to_string(&mut text)?;
    if text.is_empty() {
        return Ok(0);
    }
    text.trim()
        .parse()
        .map_err(|_| io::Error::new(ErrorKind::InvalidData, format!("it holds '{}', which is no number", text.trim())))
}

/// Makes names in a directory durable.
fn sync(directory: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(directory)?.sync_all() } else { Ok(()) }
}

/// A directory that was just made, and those that it is in; the log's owner made three of them at most.
fn sync_directories(directory: &Path) -> io::Result<()> {
    directory.ancestors().take(5).filter(|folder| !folder.as_os_str().is_empty()).try_for_each(sync)
}

#[cfg(test)]
mod tests;
