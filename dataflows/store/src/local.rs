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
    let is_cached = past_the_cache::is_cached(&file, part);
    let found = if is_cached { None } else { past_the_cache::read(&file, part, buffer) };
    let found = match found {
        Some(found) => found,
        None => {
            let length = (part.end - part.start) as usize;
            make_room(buffer, length);
            read_at(&file, part.start, &mut buffer[..length])?;
            0..length
        }
    };
    forget(&file, part);
    Ok((size, found))
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
    // The system keeps pages that are not asked for whole; those at the ends are nobody's either.
    let start = part.start - part.start % past_the_cache::PAGE_BYTES;
    let length = part.end.next_multiple_of(past_the_cache::PAGE_BYTES) - start;
    if let Some(length) = std::num::NonZeroU64::new(length) {
        let _ = rustix::fs::fadvise(file, start, Some(length), rustix::fs::Advice::DontNeed);
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

    use rustix::fs::{Advice, OFlags, fadvise, fcntl_getfl, fcntl_setfl};
    use rustix::io::{Errno, ReadWriteFlags, pread, preadv2};

    use super::make_room;

    /// What places in the file and in memory are multiples of. A disk that asks for more is read by way of the cache.
    pub(super) const PAGE_BYTES: u64 = 4 << 10;

    /// Gives where in the buffer the part is; `None` if it is to be read by way of the cache, because that cannot be done without.
    pub(super) fn read(file: &File, part: &Range<u64>, buffer: &mut Vec<u8>) -> Option<Range<usize>> {
        let first = part.start - part.start % PAGE_BYTES;
        let length = (part.end.next_multiple_of(PAGE_BYTES) - first) as usize;
        make_room(buffer, length + PAGE_BYTES as usize);
        let begin = buffer.as_ptr().align_offset(PAGE_BYTES as usize);
        let into = buffer.get_mut(begin..begin + length)?;
        let flags = fcntl_getfl(file).ok()?;
        fcntl_setfl(file, flags | OFlags::DIRECT).ok()?;
        let (mut done, needed) = (0, (part.end - first) as usize);
        // What is left after the last of the file, or of what the system gives at a time, may be no whole page.
        while done < needed {
            match pread(file, &mut into[done..], first + done as u64) {
                Ok(0) | Err(_) => break,
                Ok(read) => done += read,
            }
        }
        fcntl_setfl(file, flags).ok().filter(|()| done >= needed)?;
        let start = begin + (part.start - first) as usize;
        Some(start..start + (part.end - part.start) as usize)
    }

    /// Whether the middle of a part is in the system's memory, or cannot be told: of what was written lately all that is near it is,
    /// too, and what is at the ends may be kept with what is next to it. If it is not, its page is fetched.
    pub(super) fn is_cached(file: &File, part: &Range<u64>) -> bool {
        if part.is_empty() {
            return true;
        }
        let middle = part.start + (part.end - part.start) / 2;
        // Being asked for one page, the system would go on and fetch more.
        if fadvise(file, 0, None, Advice::Random).is_err() {
            return true;
        }
        let found = preadv2(file, &mut [IoSliceMut::new(&mut [0])], middle, ReadWriteFlags::NOWAIT);
        fadvise(file, 0, None, Advice::Normal).is_err() || found != Err(Errno::AGAIN)
    }
}

#[cfg(not(target_os = "linux"))]
mod past_the_cache {
    use std::fs::File;
    use std::ops::Range;

    pub(super) fn read(_: &File, _: &Range<u64>, _: &mut Vec<u8>) -> Option<Range<usize>> {
        None
    }

    pub(super) fn is_cached(_: &File, _: &Range<u64>) -> bool {
        true
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
        file.sync_all().unwrap();
        let size = content.len() as u64;
        let mut buffer = Vec::new();
        for part in [0..1, 0..4_096, 4_095..4_097, 5_000..150_001, 8_192..size, size - 1..size, 0..size, 7..7, size..size] {
            let expected = &content[part.start as usize..part.end as usize];
            for in_memory in [true, false] {
                match in_memory {
                    true => _ = std::fs::read(&path).unwrap(),
                    false => forget(&file, &(0..size)),
                }
                let (found_size, found) = read_once(&path, &part, &mut buffer).unwrap();
                assert_eq!((found_size, &buffer[found] == expected), (size, true), "{part:?}");
            }
            // Some file systems cannot do without the cache.
            if let Some(found) = past_the_cache::read(&file, &part, &mut buffer) {
                assert!(&buffer[found] == expected, "{part:?}");
            }
        }
        assert_eq!(read_once(&path, &(size - 1..size + 1), &mut buffer).unwrap().0, size);
    }

    #[test]
    fn what_was_read_once_is_not_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        // The system keeps up to some megabytes together, and of what it is asked to let go of only what it is asked for whole.
        std::fs::write(&path, vec![7; 16 << 20]).unwrap();
        let file = File::open(&path).unwrap();
        file.sync_all().unwrap();
        let (part, mut buffer) = (5_000..(15 << 20) + 1, Vec::new());
        // Who was just asked for a page may have it by the time the answer is given: then it is asked once more.
        let is_let_go = |read: &mut dyn FnMut()| {
            (0..20).any(|_| {
                read();
                !past_the_cache::is_cached(&file, &part)
            })
        };
        let is_kept = !is_let_go(&mut || _ = read_once(&path, &part, &mut buffer).unwrap());
        // Of a file system that is nothing but memory it stays.
        if is_let_go(&mut || forget(&file, &(0..16 << 20))) {
            assert!(!is_kept);
        }
    }
}
