//! Files of this machine that are read once.
//!
//! A checkpoint is larger than what anybody reads again soon. Through the system's cache it would need as much memory again,
//! page by page, and take it from those whose files are of use there. So what is not there is read past it, straight into where it
//! is wanted, and what is there, because it was written a moment ago, is let go of.

use std::fs::File;
use std::io::Result;
use std::ops::Range;
use std::path::Path;

/// Reads part of a file into `buffer`, which only ever grows. Gives the file's length, and where in the buffer the part is; if the
/// part is not within the file, nothing is read.
pub(crate) fn read_once(path: &Path, part: &Range<u64>, buffer: &mut Vec<u8>) -> Result<(u64, Range<usize>)> {
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    if part.end > size {
        return Ok((size, 0..0));
    }
    if let Some(found) = past_the_cache::read(&file, path, part, buffer) {
        return Ok((size, found));
    }
    let length = (part.end - part.start) as usize;
    make_room(buffer, length);
    read_at(&file, part.start, &mut buffer[..length])?;
    forget(&file, part);
    Ok((size, 0..length))
}

fn make_room(buffer: &mut Vec<u8>, length: usize) {
    if buffer.len() < length {
        buffer.resize(length, 0);
    }
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

/// Reading what the system does not have in memory without having it put there.
#[cfg(target_os = "linux")]
mod past_the_cache {
    use std::fs::File;
    use std::io::IoSliceMut;
    use std::ops::Range;
    use std::path::Path;

    use rustix::fs::{Advice, Mode, OFlags, fadvise};
    use rustix::io::{ReadWriteFlags, preadv2};

    use super::make_room;

    /// Of such many bytes are both the places in a file and the memory that the disk writes to. No disk asks for more.
    const PAGE_BYTES: u64 = 4 << 10;

    /// Gives where in the buffer the part is; `None` if it is to be read by way of the cache: because it is there, or because the
    /// file system cannot do without.
    pub(super) fn read(file: &File, path: &Path, part: &Range<u64>, buffer: &mut Vec<u8>) -> Option<Range<usize>> {
        let last = part.end.checked_sub(1).filter(|last| *last >= part.start && !is_cached(file, *last))?;
        let first = part.start - part.start % PAGE_BYTES;
        let length = (part.end.next_multiple_of(PAGE_BYTES) - first) as usize;
        make_room(buffer, length + PAGE_BYTES as usize);
        let begin = buffer.as_ptr().align_offset(PAGE_BYTES as usize);
        let into = buffer.get_mut(begin..begin + length)?;
        let direct = rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECT | OFlags::CLOEXEC, Mode::empty()).ok()?;
        let (mut done, needed) = (0, (part.end - first) as usize);
        while done < needed {
            // After the last of the file, or of what the system gives at a time, there may be no whole page.
            let at = first + done as u64;
            match rustix::io::pread(&direct, &mut into[done..], at) {
                Ok(0) | Err(_) => return None,
                Ok(read) => done += read,
            }
        }
        // The page that was asked for has come as well by now.
        super::forget(file, &(last - last % PAGE_BYTES..part.end.next_multiple_of(PAGE_BYTES)));
        let start = begin + (part.start - first) as usize;
        Some(start..start + (part.end - part.start) as usize)
    }

    /// Whether this byte is in the system's memory, or cannot be told: of what was written lately all that is near it is, too.
    fn is_cached(file: &File, at: u64) -> bool {
        // Being asked for one page, the system would go on and fetch more.
        if fadvise(file, 0, None, Advice::Random).is_err() {
            return true;
        }
        let found = preadv2(file, &mut [IoSliceMut::new(&mut [0])], at, ReadWriteFlags::NOWAIT);
        fadvise(file, 0, None, Advice::Normal).is_err() || found != Err(rustix::io::Errno::AGAIN)
    }
}

#[cfg(not(target_os = "linux"))]
mod past_the_cache {
    use std::fs::File;
    use std::ops::Range;
    use std::path::Path;

    pub(super) fn read(_: &File, _: &Path, _: &Range<u64>, _: &mut Vec<u8>) -> Option<Range<usize>> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_the_same_from_memory_and_past_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let content: Vec<u8> = (0..50_000u32).flat_map(|number| number.to_le_bytes()).collect();
        std::fs::write(&path, &content).unwrap();
        let file = File::open(&path).unwrap();
        let size = content.len() as u64;
        let mut buffer = Vec::new();
        let mut past = 0;
        for is_cached in [true, false] {
            for part in [0..1, 0..4_096, 4_095..4_097, 5_000..150_001, 8_192..size, size - 1..size, 0..size, 7..7, size..size] {
                if is_cached {
                    std::fs::read(&path).unwrap();
                } else {
                    file.sync_all().unwrap();
                    forget(&file, &(0..size.next_multiple_of(4_096)));
                }
                let direct = past_the_cache::read(&file, &path, &part, &mut buffer);
                assert!(!is_cached || direct.is_none(), "what is in memory is taken from there");
                past += usize::from(direct.is_some());
                let expected = &content[part.start as usize..part.end as usize];
                assert!(direct.is_none_or(|found| &buffer[found] == expected), "{part:?}");
                let (found_size, found) = read_once(&path, &part, &mut buffer).unwrap();
                assert_eq!((found_size, &buffer[found] == expected), (size, true), "{part:?}");
            }
        }
        // Some file systems cannot do without the cache: all of them, or none.
        assert!(past == 0 || past == 7, "{past}");
        assert_eq!(read_once(&path, &(size - 1..size + 1), &mut buffer).unwrap().0, size);
    }
}
