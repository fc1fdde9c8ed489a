//! The files of recorded epochs: lines, each a group with its checksum.
//!
//! ```text
//! highwater epochs 1
//! <CRC-32 of the rest of the line, 8 hexadecimal digits> {"after":17,"epochs":[{"e":18,"r":[["bids","0","0 512 - 511"]]}]}
//! ```
//!
//! Each start of a job begins a new file; files are deleted whole. A line is written when the one before it is durable: so what
//! is not whole at the end of a file is what a crash left of a write, and damage if a whole line follows. It is left where it is:
//! a process that was replaced, and does not know it yet, may be writing it.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use flate2::Crc;
use highwater_engine::Time;

use super::records::{Group, Kept, Recorded};

/// What a file begins with.
const HEAD: &[u8] = b"highwater epochs 1\n";

/// A file that has so many bytes gets no more.
const FILE_BYTES: u64 = 4 << 20;

/// Recorded epochs cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The operating system failed.
    #[error("recorded epochs: {doing} {} failed: {error}", path.display())]
    Io {
        /// What was done.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why it failed.
        error: io::Error,
    },
    /// A file is not what was written.
    #[error(
        "recorded epochs are damaged: {} at byte {at}: {why}; put back the file, or start the job with --restore and the number of \
         its newest checkpoint: rows that an at-least-once sink has published since may then come again under other keys",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where in it.
        at: u64,
        /// What is wrong.
        why: String,
    },
    /// There are later epochs, but not those that come after a checkpoint.
    #[error(
        "what came after the checkpoint of epoch {epoch} is not recorded in {}, although later epochs are; put back what is missing, \
         or start the job with --restore and the number of its newest checkpoint", directory.display()
    )]
    Gap {
        /// Where they are.
        directory: PathBuf,
        /// The checkpoint's epoch.
        epoch: Time,
    },
    /// Another process has begun a file where this one was to.
    #[error("recorded epochs: another process has begun {}: two of them run the job", path.display())]
    Taken {
        /// The file.
        path: PathBuf,
    },
    /// A newer version wrote it.
    #[error("recorded epochs have a layout that this version does not know: {}", path.display())]
    Version {
        /// The file.
        path: PathBuf,
    },
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> JournalError {
    let path = path.to_path_buf();
    move |error| JournalError::Io { doing, path, error }
}

/// The recorded epochs of a run of a job, while it goes on.
#[derive(Debug)]
pub(crate) struct Journal {
    directory: PathBuf,
    /// Files that get no more, oldest first, each with its last epoch.
    old: VecDeque<(PathBuf, Time)>,
    /// The number of the next file.
    next: u64,
    /// The number of the last file that this process has begun, or tried to.
    begun: u64,
    open: Option<(File, PathBuf, u64)>,
    last: Time,
    partitions: Option<Vec<(String, String)>>,
    /// What is in the file is not known.
    broken: bool,
}

impl Journal {
    /// Opens a directory, which is made if there is none, and reads what was recorded after `from`.
    pub(super) fn open(directory: PathBuf, from: Time) -> Result<(Journal, Recorded), JournalError> {
        fs::create_dir_all(&directory).map_err(failed("creating", &directory))?;
        let mut recorded = Recorded::default();
        let (mut old, mut next) = (VecDeque::new(), 1);
        let files = files(&directory)?;
        for (number, path) in files {
            read_file(&path, &mut recorded, from)?;
            next = number + 1;
            old.push_back((path, recorded.last()));
        }
        let last = recorded.last();
        sync_directories(&directory).map_err(failed("flushing", &directory))?;
        Ok((Journal { directory, old, next, begun: 0, open: None, last, partitions: None, broken: false }, recorded))
    }

    /// Deletes what a directory has.
    pub(super) fn forget(directory: &Path) -> Result<(), JournalError> {
        files(directory)?.into_iter().try_for_each(|(_, path)| fs::remove_file(&path).map_err(failed("deleting", &path)))
    }

    /// What is appended next comes after `last`, whatever was recorded.
    pub(super) fn go_on(&mut self, last: Time, partitions: Vec<(String, String)>) {
        (self.last, self.partitions) = (last, Some(partitions));
    }

    /// The same, if it is not told again which partitions there are.
    pub(super) fn begin_after(&mut self, last: Time) {
        self.last = last;
    }

    /// Up to here all is durable.
    pub(super) fn last(&self) -> Time {
        self.last
    }

    /// Whether nothing more can be written.
    pub(super) fn is_broken(&self) -> bool {
        self.broken
    }

    /// Makes epochs durable, all or none.
    pub(super) fn append(&mut self, epochs: &[Kept]) -> Result<(), JournalError> {
        let Some(last) = epochs.last().map(Kept::epoch) else { return Ok(()) };
        let sources = epochs.first().map_or_else(Vec::new, |kept| kept.sources().to_vec());
        let group = Group { after: self.last, sources, partitions: self.partitions.clone(), epochs: epochs.to_vec() };
        let json = serde_json::to_vec(&group).expect("names and numbers are JSON");
        let mut line = format!("{:08x} ", crc(&json)).into_bytes();
        line.extend(json);
        line.push(b'\n');
        let (mut file, path, bytes) = match self.open.take() {
            Some(open) if open.2 < FILE_BYTES => open,
            full => {
                self.old.extend(full.map(|(_, path, _)| (path, self.last)));
                self.begin()?
            }
        };
        if let Err(error) = file.write_all(&line) {
            // What came of it is taken back, so that the next write is where this one should have been.
            match file.set_len(bytes).and_then(|()| file.seek(SeekFrom::Start(bytes)).map(drop)) {
                Ok(()) => self.open = Some((file, path.clone(), bytes)),
                Err(_) => self.broken = true,
            }
            return Err(failed("writing", &path)(error));
        }
        if let Err(error) = file.sync_data() {
            // Nobody knows what of it will be there after a crash.
            self.broken = true;
            return Err(failed("flushing", &path)(error));
        }
        self.open = Some((file, path, bytes + line.len() as u64));
        (self.last, self.partitions) = (last, None);
        Ok(())
    }

    fn begin(&mut self) -> Result<(File, PathBuf, u64), JournalError> {
        let path = self.directory.join(format!("{:020}.epochs", self.next));
        // What an append that failed had begun is begun again; but never what a process has that was replaced, or that has
        // replaced this one.
        let made = match self.begun == self.next {
            true => File::create(&path),
            false => OpenOptions::new().write(true).create_new(true).open(&path),
        };
        let mut file = match made {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Err(JournalError::Taken { path }),
            made => made.map_err(failed("creating", &path))?,
        };
        self.begun = self.next;
        let begun = file.write_all(HEAD).and_then(|()| file.sync_all()).and_then(|()| sync(&self.directory));
        begun.map_err(failed("writing", &path))?;
        self.next += 1;
        Ok((file, path, HEAD.len() as u64))
    }

    /// Leaves the next number to whoever has it: what this process writes comes after that.
    pub(super) fn skip(&mut self) {
        self.next += 1;
    }

    /// Deletes files that have no epoch after `free`.
    pub(super) fn prune(&mut self, free: Time) -> Result<(), JournalError> {
        while self.old.front().is_some_and(|(_, last)| *last <= free) {
            if let Some((path, _)) = self.old.pop_front() {
                match fs::remove_file(&path) {
                    Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed("deleting", &path)(error)),
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

impl Recorded {
    /// Reads what a directory has, without changing it.
    pub(crate) fn read(directory: &Path) -> Result<Recorded, JournalError> {
        let mut recorded = Recorded::default();
        let files = files(directory)?;
        for (_, path) in files {
            match read_file(&path, &mut recorded, 0) {
                // The job that goes on has deleted it meanwhile.
                Err(JournalError::Io { error, .. }) if error.kind() == ErrorKind::NotFound => {}
                read => read?,
            }
        }
        Ok(recorded)
    }
}

/// The files of a directory, if there is one, by their numbers.
fn files(directory: &Path) -> Result<Vec<(u64, PathBuf)>, JournalError> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed("listing", directory))?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed("listing", directory))?.path();
        let number = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
        if let Some(number) = number.filter(|_| path.extension().is_some_and(|extension| extension == "epochs")) {
            files.push((number, path));
        }
    }
    files.sort_unstable();
    Ok(files)
}

fn read_file(path: &Path, recorded: &mut Recorded, from: Time) -> Result<(), JournalError> {
    let bytes = fs::read(path).map_err(failed("reading", path))?;
    let damaged = |at: usize, why: &str| JournalError::Damaged { path: path.to_path_buf(), at: at as u64, why: why.to_owned() };
    if !bytes.starts_with(HEAD) {
        return match bytes.len() < HEAD.len() {
            true => Ok(()),
            false if bytes.starts_with(b"highwater epochs ") => Err(JournalError::Version { path: path.to_path_buf() }),
            false => Err(damaged(0, "it does not begin as a file of recorded epochs does")),
        };
    }
    let mut at = HEAD.len();
    while at < bytes.len() {
        let end = bytes[at..].iter().position(|byte| *byte == b'\n').map(|end| at + end);
        match end.map(|end| group(&bytes[at..end])) {
            Some(Ok(group)) => recorded.push(group, from),
            broken => {
                if !has_group(&bytes[at + 1..]) {
                    tracing::warn!(file = %path.display(), at, "the end of a write that a crash cut off is left out");
                    return Ok(());
                }
                let why = broken.and_then(Result::err).unwrap_or_else(|| "it ends within a line".into());
                return Err(damaged(at, &why));
            }
        }
        at = end.map_or(bytes.len(), |end| end + 1);
    }
    Ok(())
}

/// Whether a whole group begins somewhere.
fn has_group(bytes: &[u8]) -> bool {
    let begins = |place: &usize| bytes[*place..].starts_with(b" {\"after\":");
    let mut places = (8..bytes.len()).filter(begins);
    places.any(|place| {
        let line = &bytes[place - 8..];
        let end = line.iter().position(|byte| *byte == b'\n').unwrap_or(line.len());
        group(&line[..end]).is_ok()
    })
}

fn group(line: &[u8]) -> Result<Group, String> {
    let (sum, json) = line.split_at_checked(9).ok_or("a line is too short")?;
    let known = std::str::from_utf8(&sum[..8]).ok().and_then(|sum| u32::from_str_radix(sum, 16).ok());
    if known != Some(crc(json)) || sum[8] != b' ' {
        return Err("a line does not have its checksum".into());
    }
    serde_json::from_slice(json).map_err(|error| format!("a line cannot be read: {error}"))
}

fn crc(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}

/// Makes names in a directory durable.
fn sync(directory: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(directory)?.sync_all() } else { Ok(()) }
}

/// A directory that was just made, and those that it is in; three of them at most were made with it.
fn sync_directories(directory: &Path) -> io::Result<()> {
    directory.ancestors().take(4).filter(|folder| !folder.as_os_str().is_empty()).try_for_each(sync)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use highwater_engine::EpochRecord;

    use super::*;

    fn kept(epoch: Time) -> Kept {
        Kept::new(&EpochRecord { epoch, ..EpochRecord::default() }, &Arc::default())
    }

    fn begun(directory: &Path, from: Time, goes_on: Time) -> Journal {
        let (mut journal, _) = Journal::open(directory.to_path_buf(), from).unwrap();
        journal.go_on(goes_on, vec![("s".into(), "0".into())]);
        journal
    }

    #[test]
    fn epochs_are_read_as_they_were_written_and_a_start_from_an_earlier_one_forgets_later_ones() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = begun(directory.path(), 0, 0);
        journal.append(&[kept(3), kept(5)]).unwrap();
        journal.append(&[kept(8)]).unwrap();
        assert_eq!(Recorded::read(directory.path()).unwrap().bounds(), Some((3, 8)));
        let (_, recorded) = Journal::open(directory.path().to_path_buf(), 5).unwrap();
        assert_eq!((recorded.bounds(), recorded.has_state_of(5), recorded.has_state_of(4)), (Some((8, 8)), true, false));
        // It goes on from the checkpoint of 5, and from then on 8 has never been.
        let mut journal = begun(directory.path(), 5, 5);
        journal.append(&[kept(9)]).unwrap();
        let recorded = Recorded::read(directory.path()).unwrap();
        assert_eq!(recorded.bounds(), Some((3, 9)));
        assert!(!recorded.has_state_of(8) && recorded.has_state_of(5) && recorded.has_state_of(0));
        assert_eq!(recorded.partitions().count(), 1);
        // Nothing was recorded for a while.
        let mut journal = begun(directory.path(), 20, 20);
        journal.append(&[kept(21)]).unwrap();
        assert_eq!(Recorded::read(directory.path()).unwrap().bounds(), Some((21, 21)));
        journal.prune(20).unwrap();
        assert_eq!(files(directory.path()).unwrap().len(), 1, "what is no longer needed is deleted");
    }

    #[test]
    fn two_processes_do_not_write_over_each_other() {
        let directory = tempfile::tempdir().unwrap();
        let mut replaced = begun(directory.path(), 0, 0);
        replaced.append(&[kept(3)]).unwrap();
        let mut successor = begun(directory.path(), 3, 3);
        successor.append(&[kept(7)]).unwrap();
        // The first would go on in a new file, which its successor has.
        replaced.old.extend(replaced.open.take().map(|(_, path, _)| (path, 3)));
        assert!(
            matches!(replaced.append(&[kept(5)]), Err(JournalError::Taken { path }) if path.ends_with("00000000000000000002.epochs"))
        );
        assert_eq!(Recorded::read(directory.path()).unwrap().bounds(), Some((3, 7)));
        // And the other way round: the successor has looked what there is, and then the first begins a file.
        let directory = tempfile::tempdir().unwrap();
        let mut replaced = begun(directory.path(), 0, 0);
        replaced.append(&[kept(3)]).unwrap();
        let mut successor = begun(directory.path(), 3, 3);
        replaced.old.extend(replaced.open.take().map(|(_, path, _)| (path, 3)));
        replaced.append(&[kept(5)]).unwrap();
        assert!(matches!(successor.append(&[kept(7)]), Err(JournalError::Taken { .. })));
        successor.skip();
        successor.append(&[kept(7)]).unwrap();
        let recorded = Recorded::read(directory.path()).unwrap();
        assert_eq!((recorded.bounds(), recorded.has_state_of(5)), (Some((3, 7)), false));
    }

    #[test]
    fn what_a_crash_cut_off_is_dropped_and_damage_before_that_names_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = begun(directory.path(), 0, 0);
        journal.append(&[kept(3)]).unwrap();
        journal.append(&[kept(5)]).unwrap();
        let path = files(directory.path()).unwrap().remove(0).1;
        let whole = fs::read(&path).unwrap();
        let first = HEAD.len() + whole[HEAD.len()..].iter().position(|byte| *byte == b'\n').unwrap() + 1;
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            let expected = if length >= first { Some((3, 3)) } else { None };
            assert_eq!(Recorded::read(directory.path()).unwrap().bounds(), expected, "{length}");
        }
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x01;
            fs::write(&path, &bytes).unwrap();
            match Recorded::read(directory.path()) {
                Ok(recorded) => assert!(at >= first && recorded.bounds() == Some((3, 3)), "{at}"),
                Err(error) => assert!(at < first && error.to_string().contains("0001.epochs"), "{at}: {error}"),
            }
        }
        fs::write(&path, &whole[..whole.len() - 3]).unwrap();
        let mut journal = begun(directory.path(), 3, 3);
        journal.append(&[kept(7)]).unwrap();
        assert_eq!(Recorded::read(directory.path()).unwrap().bounds(), Some((3, 7)));
    }
}
