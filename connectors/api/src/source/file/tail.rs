//! Following a file by its name, like `tail -F`.
//!
//! The open file is read to its end before its name is looked up again, so nothing that was written before a rotation is
//! lost: a file that was renamed or deleted is still read through the open handle. A file that has become shorter is read
//! from its start. While the name leads nowhere, the reader waits. Offsets hold the file's inode, so that after a restart
//! the rest of a file that was rotated in the meantime is found in the same directory under its new name.

use std::fmt;
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use tracing::{info, warn};

use crate::source::SourceError;

/// Where reading stands in a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// Bytes before it.
    pub(super) byte: u64,
    /// Lines before it.
    pub(super) line: u64,
    /// Which file, if it may have been replaced.
    pub(super) inode: Option<u64>,
}

impl Place {
    /// Reads `byte 120 line 3`, with or without ` inode 77`.
    pub(super) fn parse(text: &str) -> Option<Place> {
        let words: Vec<&str> = text.split(' ').collect();
        match words.as_slice() {
            ["byte", byte, "line", line] => Some(Place { byte: byte.parse().ok()?, line: line.parse().ok()?, inode: None }),
            ["byte", byte, "line", line, "inode", inode] => {
                Some(Place { byte: byte.parse().ok()?, line: line.parse().ok()?, inode: Some(inode.parse().ok()?) })
            }
            _ => None,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "byte {} line {}", self.byte, self.line)?;
        self.inode.map_or(Ok(()), |inode| write!(f, " inode {inode}"))
    }
}

/// A file that is followed.
#[derive(Debug)]
pub(super) struct Tail {
    path: PathBuf,
    /// Where to start in the first file.
    place: Option<Place>,
    file: Option<(File, u64)>,
    /// The name leads to another file by now: this one will not grow, and what follows its last line end is a line.
    replaced: bool,
    /// The replaced file was read to its end.
    exhausted: bool,
    /// It was told that the file is missing.
    missing_told: bool,
}

impl Tail {
    /// Follows `path` from a place.
    pub(super) fn new(path: PathBuf, place: Place) -> Self {
        Tail { path, place: Some(place), file: None, replaced: false, exhausted: false, missing_told: false }
    }

    /// Makes sure that a file is open: none if there is none now, the place to read from if it has just been opened.
    pub(super) fn open(&mut self) -> Result<Option<Option<Place>>, SourceError> {
        if self.file.is_some() && !self.exhausted {
            return Ok(Some(None));
        }
        let place = self.place.unwrap_or_default();
        let found = match place.inode.filter(|_| self.file.is_none()).and_then(|inode| self.rotated(inode)) {
            Some(file) => Ok((file, true)),
            None => File::open(&self.path).map(|file| (file, false)),
        };
        let (mut file, rotated) = match found {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if std::mem::replace(&mut self.missing_told, true) {
                    return Ok(None);
                }
                return Err(SourceError::passing(format!("file '{}' is missing: waiting for it", self.path.display())));
            }
            Err(error) => return Err(self.failed(error)),
        };
        let metadata = file.metadata().map_err(|error| self.failed(error))?;
        let same = place.inode.is_none_or(|inode| inode == metadata.ino());
        let start = if same && place.byte <= metadata.len() { place } else { Place::default() };
        if start.byte != place.byte {
            warn!(file = %self.path.display(), byte = place.byte, "file was replaced or truncated: reading from its start");
        }
        file.seek(SeekFrom::Start(start.byte)).map_err(|error| self.failed(error))?;
        self.file = Some((file, metadata.ino()));
        self.place = None;
        self.replaced = rotated;
        self.exhausted = false;
        self.missing_told = false;
        Ok(Some(Some(start)))
    }

    /// A file of this inode in the same directory, if the path does not lead to it.
    fn rotated(&self, inode: u64) -> Option<File> {
        if fs::metadata(&self.path).is_ok_and(|metadata| metadata.ino() == inode) {
            return None;
        }
        let directory =
            self.path.parent().filter(|parent| !parent.as_os_str().is_empty()).map_or(PathBuf::from("."), PathBuf::from);
        let same =
            |path: &PathBuf| fs::metadata(path).is_ok_and(|metadata: Metadata| metadata.is_file() && metadata.ino() == inode);
        let path = fs::read_dir(directory).ok()?.filter_map(|entry| Some(entry.ok()?.path())).find(same)?;
        info!(file = %self.path.display(), rotated = %path.display(), "going on in the file that was rotated");
        File::open(path).ok()
    }

    /// Called when the open file gave no more bytes after `position`: looks whether the name leads elsewhere by now.
    pub(super) fn ran_dry(&mut self, position: u64) {
        if self.replaced {
            self.exhausted = true;
            return;
        }
        let Some((_, inode)) = &self.file else { return };
        match fs::metadata(&self.path) {
            // What came in between the last read and the replacement is read before the new file.
            Ok(metadata) if metadata.ino() != *inode => self.replaced = true,
            Ok(metadata) if metadata.len() < position => {
                warn!(file = %self.path.display(), bytes = metadata.len(), position, "file was truncated: reading from its start");
                self.replaced = true;
                self.exhausted = true;
            }
            // Gone for now: it may come back, as the same file or another.
            _ => {}
        }
    }

    /// Whether the open file is not the one that the name leads to.
    pub(super) fn replaced(&self) -> bool {
        self.replaced
    }

    /// The open file.
    pub(super) fn file(&mut self) -> &mut File {
        &mut self.file.as_mut().expect("opened before").0
    }

    /// The open file's beginning, for its header; its position is left alone.
    pub(super) fn head(&mut self) -> io::Result<impl Read + use<>> {
        let mut file = self.file();
        let position = file.stream_position()?;
        file.seek(SeekFrom::Start(0))?;
        let mut head = vec![0; 64 * 1024];
        let mut length = 0;
        while length < head.len() {
            match file.read(&mut head[length..])? {
                0 => break,
                bytes => length += bytes,
            }
        }
        head.truncate(length);
        file = self.file();
        file.seek(SeekFrom::Start(position))?;
        Ok(io::Cursor::new(head))
    }

    /// The open file's inode.
    pub(super) fn inode(&self) -> Option<u64> {
        self.file.as_ref().map(|(_, inode)| *inode).or(self.place.and_then(|place| place.inode))
    }

    /// The open file's size.
    pub(super) fn size(&self) -> Option<u64> {
        self.file.as_ref()?.0.metadata().ok().map(|metadata| metadata.len())
    }

    fn failed(&self, error: io::Error) -> SourceError {
        SourceError::passing(format!("reading file '{}': {error}", self.path.display()))
    }
}
