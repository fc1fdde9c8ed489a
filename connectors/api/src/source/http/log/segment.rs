//! Reads a file of bodies.

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

use memchr::memmem;

use super::record::{FRAME, GROUP, GROUP_BYTES, crc, entry, group, u32_at};
use super::{Entry, LogError, failed};

/// What a file begins with: the last byte is the layout's version.
pub(super) const HEAD: [u8; 8] = *b"HWPUSH\0\x01";

/// Reads records one after the other.
#[derive(Debug)]
pub(super) struct Records {
    path: PathBuf,
    file: BufReader<File>,
    at: u64,
    bytes: u64,
    payload: Vec<u8>,
}

/// What comes next in a file.
#[derive(Debug)]
pub(super) enum Next {
    Group,
    Body(Entry),
    End,
    /// What is no record, and why.
    Broken(String),
}

impl Records {
    pub(super) fn open(path: &Path) -> Result<Records, LogError> {
        let file = File::open(path).map_err(failed("opening", path))?;
        let bytes = file.metadata().map_err(failed("reading", path))?.len();
        let mut records = Records {
            path: path.to_path_buf(),
            file: BufReader::with_capacity(1 << 18, file),
            at: 0,
            bytes,
            payload: Vec::new(),
        };
        let mut head = [0; HEAD.len()];
        match records.file.read_exact(&mut head) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                return Err(records.damaged("it has no head".into()));
            }
            Err(error) => return Err(failed("reading", path)(error)),
        }
        if head[..HEAD.len() - 1] != HEAD[..HEAD.len() - 1] {
            return Err(records.damaged("it is no log of accepted rows".into()));
        }
        if head != HEAD {
            let found = format!("version {}, and {} is the newest known", head[HEAD.len() - 1], HEAD[HEAD.len() - 1]);
            return Err(LogError::Version { path: records.path, found });
        }
        records.at = HEAD.len() as u64;
        Ok(records)
    }

    /// Where the next record begins.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn damaged(&self, why: String) -> LogError {
        LogError::Damaged { path: self.path.clone(), at: self.at, why }
    }

    pub(super) fn next(&mut self) -> Result<Next, LogError> {
        let left = self.bytes.saturating_sub(self.at);
        if left == 0 {
            return Ok(Next::End);
        }
        if left < FRAME as u64 {
            return Ok(Next::Broken("it ends within a record".into()));
        }
        let mut frame = [0; FRAME];
        self.file.read_exact(&mut frame).map_err(failed("reading", &self.path))?;
        let (length, sum) = (u32_at(&frame, 0).unwrap_or_default(), u32_at(&frame, 4).unwrap_or_default());
        if length == 0 || u64::from(length) > left - FRAME as u64 {
            return Ok(Next::Broken(format!("a record of {length} bytes where {} are left", left - FRAME as u64)));
        }
        self.payload.resize(length as usize, 0);
        self.file.read_exact(&mut self.payload).map_err(failed("reading", &self.path))?;
        if crc(&self.payload) != sum {
            return Ok(Next::Broken("a record does not have its checksum".into()));
        }
        if self.payload.starts_with(&GROUP) {
            self.at += FRAME as u64 + u64::from(length);
            return Ok(Next::Group);
        }
        Ok(match entry(&self.payload) {
            Ok(entry) => {
                self.at += FRAME as u64 + u64::from(length);
                Next::Body(entry)
            }
            Err(why) => Next::Broken(why),
        })
    }
}

/// Whether what is from `at` on in the last file may be what a crash left of its last write: no group begins after it, which
/// is written only when all before it is durable.
pub(super) fn is_cut_off(path: &Path, at: u64) -> Result<bool, LogError> {
    let bytes = std::fs::read(path).map_err(failed("reading", path))?;
    let from = usize::try_from(at).map_or(bytes.len(), |at| at.saturating_add(FRAME + 1).min(bytes.len()));
    let is_group = |found: usize| {
        let start = (from + found).checked_sub(FRAME)?;
        let head = bytes.get(start..start + GROUP_BYTES)?;
        let (first, count) = head[FRAME + GROUP.len()..].split_first_chunk::<8>()?;
        let count = u64::from_le_bytes(*count.first_chunk()?);
        Some(group(u64::from_le_bytes(*first), usize::try_from(count).ok()?) == head)
    };
    Ok(!memmem::find_iter(&bytes[from..], &GROUP).any(|found| is_group(found) == Some(true)))
}
