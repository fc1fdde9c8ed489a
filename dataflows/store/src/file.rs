//! A file of sections, and its index.
//!
//! ```text
//! "HWSTATE1"                        8 bytes
//! payload of the first section      one after the other, without gaps
//! ...
//! index                             JSON: key, meta, offset, bytes, rows and checksum of each section
//! trailer                           32 bytes: length of the index u64, its checksum u64, version u32, zero u32, "HWSTATE1"
//! ```
//!
//! All numbers are little endian. The checksum of the index stands in the manifest too, those of the payloads stand in the index:
//! so each byte is vouched for by the manifest, a single section can be read and trusted by itself, and a file that was exchanged
//! for another sound one is noticed.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use twox_hash::XxHash3_64;

use crate::blobs::{Blobs, Upload};
use crate::codec::{self, Encoder, Expected};
use crate::error::{Result, StoreError};
use crate::manifest::{FileRef, checksum};
use crate::section::Section;

const MAGIC: &[u8; 8] = b"HWSTATE1";
/// Since 2 payloads may have blocks of runs, since 3 tables need not have a column of multiplicities; what was written before has
/// no blocks of runs, and all of them.
const VERSION: u32 = 3;
const TRAILER_BYTES: u64 = 32;
/// How much of a file's end is read at first: enough for the index of most.
const TAIL_BYTES: u64 = 64 << 10;

/// A section of more bytes than this, before compression, becomes several of its key: they are read by several threads.
const PIECE_BYTES: u64 = 16 << 20;

/// What the index says of a section.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct IndexEntry {
    pub(crate) key: String,
    pub(crate) meta: Value,
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
    pub(crate) raw_bytes: u64,
    pub(crate) rows: u64,
    pub(crate) batches: u64,
    pub(crate) checksum: String,
}

/// Writes a file of sections, one after the other.
pub(crate) struct FileWriter {
    upload: Upload,
    encoder: Encoder,
    entries: Vec<IndexEntry>,
}

impl FileWriter {
    /// Begins a file whose name nobody else uses.
    pub(crate) fn new(blobs: &Blobs, path: &str) -> Result<FileWriter> {
        let mut upload = blobs.upload(path);
        upload.write(MAGIC)?;
        Ok(FileWriter { upload, encoder: Encoder::default(), entries: Vec::new() })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn push(&mut self, section: &Section) -> Result<()> {
        section.check()?;
        let refuse = |what| StoreError::refused(format!("section `{}` cannot be written: {what}", section.key));
        let mut pieces = self.encoder.pieces(section, PIECE_BYTES);
        while let Some(encoded) = pieces.next().map_err(refuse)? {
            let offset = self.upload.bytes();
            self.upload.write(encoded.payload)?;
            self.entries.push(IndexEntry {
                key: section.key.clone(),
                meta: section.meta.clone(),
                offset,
                bytes: encoded.payload.len() as u64,
                raw_bytes: encoded.raw_bytes,
                rows: encoded.rows,
                batches: encoded.batches,
                checksum: checksum(encoded.payload),
            });
        }
        Ok(())
    }

    /// Makes the file durable. `path` is what the manifest calls it.
    pub(crate) fn finish(mut self, path: String, base: bool, epoch: u64) -> Result<FileRef> {
        let index = serde_json::to_vec(&self.entries).expect("an index has names for keys");
        let mut trailer = Vec::with_capacity(TRAILER_BYTES as usize);
        trailer.extend_from_slice(&(index.len() as u64).to_le_bytes());
        trailer.extend_from_slice(&XxHash3_64::oneshot(&index).to_le_bytes());
        trailer.extend_from_slice(&VERSION.to_le_bytes());
        trailer.extend_from_slice(&0u32.to_le_bytes());
        trailer.extend_from_slice(MAGIC);
        self.upload.write(&index)?;
        self.upload.write(&trailer)?;
        let sum = |of: fn(&IndexEntry) -> u64| self.entries.iter().map(of).sum();
        let mut file = FileRef {
            path,
            bytes: 0,
            raw_bytes: sum(|entry| entry.raw_bytes),
            sections: self.entries.len() as u64,
            rows: sum(|entry| entry.rows),
            checksum: checksum(&index),
            base,
            epoch,
        };
        file.bytes = self.upload.finish()?;
        Ok(file)
    }
}

/// Reads a file's index, and checks that it is the file which the manifest names and that the index covers all of it.
///
/// `path` is the file's path within the store.
pub(crate) fn read_index(blobs: &Blobs, path: &str, file: &FileRef) -> Result<Vec<IndexEntry>> {
    let wrong = |what: &str| StoreError::corrupt(blobs.name(path), what);
    let smallest = MAGIC.len() as u64 + TRAILER_BYTES;
    if file.bytes < smallest {
        return Err(wrong("its manifest says that it is shorter than any file of sections"));
    }
    let tail_start = file.bytes - file.bytes.min(TAIL_BYTES);
    let mut tail = blobs.read_range(path, tail_start..file.bytes, file.bytes)?.to_vec();
    let trailer = tail.split_off(tail.len() - TRAILER_BYTES as usize);
    let number = |at: usize| u64::from_le_bytes(trailer[at..at + 8].try_into().expect("eight bytes"));
    if &trailer[24..] != MAGIC {
        return Err(wrong("it does not end as a file of sections does"));
    }
    let version = (number(16) & u64::from(u32::MAX)) as u32;
    if version > VERSION {
        return Err(StoreError::Newer { file: blobs.name(path), found: version.into(), supported: VERSION.into() });
    }
    let index_bytes = number(0);
    if version == 0 || number(16) != u64::from(version) || index_bytes > file.bytes - smallest {
        return Err(wrong("its trailer says what cannot be"));
    }
    let index_end = file.bytes - TRAILER_BYTES;
    let index_start = index_end - index_bytes;
    let index = match (tail.len() as u64).checked_sub(index_bytes) {
        Some(skip) => tail.split_off(skip as usize),
        None => blobs.read_range(path, index_start..index_end, file.bytes)?.to_vec(),
    };
    let found = XxHash3_64::oneshot(&index);
    if found != number(8) {
        return Err(wrong("the checksum of its index does not match"));
    }
    if format!("{found:016x}") != file.checksum {
        return Err(wrong("it is another file than the one that its manifest names"));
    }
    let entries: Vec<IndexEntry> =
        serde_json::from_slice(&index).map_err(|error| wrong(&format!("its index cannot be understood: {error}")))?;
    let mut at = MAGIC.len() as u64;
    for entry in &entries {
        if entry.offset != at {
            return Err(wrong("the sections of its index do not lie one after the other"));
        }
        at = at.checked_add(entry.bytes).ok_or_else(|| wrong("a section of its index is longer than any file"))?;
    }
    if at != index_start {
        return Err(wrong("the sections of its index do not fill it"));
    }
    check_head(blobs, path, file, tail_start, &tail)?;
    Ok(entries)
}

/// Checks the first bytes, which no checksum covers.
fn check_head(blobs: &Blobs, path: &str, file: &FileRef, tail_start: u64, tail: &[u8]) -> Result<()> {
    let length = MAGIC.len();
    let head = match tail.get(..length).filter(|_| tail_start == 0) {
        Some(head) => head.to_vec(),
        None => blobs.read_range(path, 0..length as u64, file.bytes)?.to_vec(),
    };
    if head == MAGIC {
        Ok(())
    } else {
        Err(StoreError::corrupt(blobs.name(path), "it does not begin as a file of sections does"))
    }
}

/// A section of its payload, which is checked against the index; `file` is the address, for errors.
pub(crate) fn open_section(entry: &IndexEntry, payload: &[u8], file: &str) -> Result<Section> {
    check_section(entry, payload, file)?;
    let expected = Expected { raw_bytes: entry.raw_bytes, rows: entry.rows, batches: entry.batches };
    let (schema, batches) = codec::decode(payload, &expected).map_err(|what| wrong(entry, file, &what))?;
    Ok(Section { key: entry.key.clone(), meta: entry.meta.clone(), schema, batches })
}

/// Whether a payload is the one that the index means; `file` is the address, for errors.
pub(crate) fn check_section(entry: &IndexEntry, payload: &[u8], file: &str) -> Result<()> {
    if checksum(payload) == entry.checksum { Ok(()) } else { Err(wrong(entry, file, "its checksum does not match")) }
}

fn wrong(entry: &IndexEntry, file: &str, what: &str) -> StoreError {
    StoreError::corrupt(file, format!("section `{}`: {what}", entry.key))
}
