//! Files of this machine that are read once.
//!
//! A checkpoint is larger than what anybody reads again soon. Through the system's cache it would need as much memory again,
//! page by page, and take it from those whose files are of use there: each piece is let go of as soon as it is read. That is
//! cheaper too, for the same few pages serve all of it.

use std::fs::File;
use std::io::Result;
use std::ops::Range;
use std::path::Path;

/// Reads part of a file into `buffer`, which only ever grows. Gives the file's length; if the part is not within it, nothing is
/// read.
pub(crate) fn read_once(file: &Path, part: &Range<u64>, buffer: &mut Vec<u8>) -> Result<u64> {
    let file = File::open(file)?;
    let (size, length) = (file.metadata()?.len(), (part.end - part.start) as usize);
    if part.end <= size {
        if buffer.len() < length {
            buffer.resize(length, 0);
        }
        read_at(&file, part.start, &mut buffer[..length])?;
        forget(&file, part);
    }
    Ok(size)
}

#[cfg(unix)]
fn read_at(file: &File, offset: u64, buffer: &mut [u8]) -> Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buffer, offset)
}

#[cfg(not(unix))]
fn read_at(mut file: &File, offset: u64, buffer: &mut [u8]) -> Result<()> {
    use std::io::{Read, Seek, SeekFrom};
    file.seek(SeekFrom::Start(offset))?;
    file.read_exact(buffer)
}

/// It is a hint: a system that does not take it keeps what it has.
#[cfg(target_os = "linux")]
fn forget(file: &File, part: &Range<u64>) {
    let length = std::num::NonZeroU64::new(part.end - part.start);
    if length.is_some() {
        let _ = rustix::fs::fadvise(file, part.start, length, rustix::fs::Advice::DontNeed);
    }
}

#[cfg(not(target_os = "linux"))]
fn forget(_: &File, _: &Range<u64>) {}
