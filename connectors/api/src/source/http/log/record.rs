//! Bodies as bytes: length, checksum, and what both are of.
//!
//! ```text
//! body   u32 length, u32 CRC-32 of the rest: u64 number, u64 ms since 1970, u8 content, u32 length of the key + 1 (0: none),
//!        u32 length of the summary, key, summary (JSON), bytes
//! group  u32 length, u32 CRC-32 of the rest: "highwater pushed", u64 number of the first body, u64 how many
//! ```
//!
//! All numbers are little-endian.

use flate2::Crc;

use crate::source::{PushFormat, PushSummary};

/// What a group's head begins with; the number of a body is never this large.
pub(super) const GROUP: [u8; 16] = *b"highwater pushed";

/// Bytes before those that the checksum is of.
pub(super) const FRAME: usize = 8;

/// The bytes of a body's fields of fixed length.
const FIXED: usize = 25;

/// Bytes of a group's head, its frame included.
pub(super) const GROUP_BYTES: usize = FRAME + GROUP.len() + 16;

/// What a body's bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// As a client sent them.
    Pushed(PushFormat),
    /// An Arrow stream of all columns and `$diff`.
    Rows,
    /// Nothing: the body was let go of.
    Released,
}

impl Content {
    fn code(self) -> u8 {
        match self {
            Content::Pushed(PushFormat::Ndjson) => 0,
            Content::Pushed(PushFormat::Json) => 1,
            Content::Pushed(PushFormat::Csv) => 2,
            Content::Rows => 3,
            Content::Released => 4,
        }
    }

    fn of(code: u8) -> Option<Content> {
        let all = [PushFormat::Ndjson, PushFormat::Json, PushFormat::Csv].map(Content::Pushed);
        all.into_iter().chain([Content::Rows, Content::Released]).find(|content| content.code() == code)
    }
}

/// A body that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) number: u64,
    /// When it was accepted: milliseconds since the Unix epoch.
    pub(crate) at: u64,
    pub(crate) content: Content,
    pub(crate) key: Option<String>,
    /// What its sender was told.
    pub(crate) summary: PushSummary,
    pub(crate) body: Vec<u8>,
}

/// A body as bytes, whose number is not known yet.
#[derive(Debug)]
pub(crate) struct Unsealed(Vec<u8>);

impl Unsealed {
    /// `None`: a body of more than 4 GiB.
    pub(crate) fn new(entry: &Entry) -> Option<Unsealed> {
        let summary = &entry.summary;
        let summary =
            serde_json::to_vec(&(summary.accepted, summary.rejected, &summary.reasons)).expect("numbers and texts are JSON");
        let key = entry.key.as_deref().unwrap_or_default().as_bytes();
        let length = u32::try_from(FIXED + key.len() + summary.len() + entry.body.len()).ok()?;
        let mut bytes = Vec::with_capacity(FRAME + length as usize);
        bytes.extend(length.to_le_bytes());
        bytes.extend([0; 4]);
        bytes.extend(entry.number.to_le_bytes());
        bytes.extend(entry.at.to_le_bytes());
        bytes.push(entry.content.code());
        bytes.extend(entry.key.as_ref().map_or(0, |key| key.len() as u32 + 1).to_le_bytes());
        bytes.extend((summary.len() as u32).to_le_bytes());
        bytes.extend(key);
        bytes.extend(summary);
        bytes.extend(&entry.body);
        Some(Unsealed(bytes))
    }

    /// Appends it as the body of this number.
    pub(crate) fn seal(&self, number: u64, to: &mut Vec<u8>) {
        let start = to.len();
        to.extend(&self.0);
        to[start + FRAME..start + FRAME + 8].copy_from_slice(&number.to_le_bytes());
        let crc = crc(&to[start + FRAME..]);
        to[start + 4..start + FRAME].copy_from_slice(&crc.to_le_bytes());
    }

    /// Appends it with the number that it was made with.
    pub(crate) fn seal_numbered(&self, to: &mut Vec<u8>) {
        self.seal(u64_at(&self.0, FRAME).expect("a body has a number"), to);
    }
}

/// The head of a group of bodies.
pub(super) fn group(first: u64, count: usize) -> Vec<u8> {
    let mut payload = GROUP.to_vec();
    payload.extend(first.to_le_bytes());
    payload.extend((count as u64).to_le_bytes());
    let mut bytes = (payload.len() as u32).to_le_bytes().to_vec();
    bytes.extend(crc(&payload).to_le_bytes());
    bytes.extend(payload);
    bytes
}

pub(super) fn crc(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}

/// Reads a body from what its checksum is of.
pub(super) fn entry(payload: &[u8]) -> Result<Entry, String> {
    read(payload).ok_or_else(|| "its parts are longer than it".to_owned())?
}

fn read(payload: &[u8]) -> Option<Result<Entry, String>> {
    let (number, at) = (u64_at(payload, 0)?, u64_at(payload, 8)?);
    let code = *payload.get(16)?;
    let (key, summary) = (u32_at(payload, 17)?, u32_at(payload, 21)? as usize);
    let rest = payload.get(FIXED..)?;
    let (key_text, rest) = rest.split_at_checked(key.saturating_sub(1) as usize)?;
    let (summary, body) = rest.split_at_checked(summary)?;
    let Some(content) = Content::of(code) else { return Some(Err(format!("{code} is no kind of body"))) };
    let key = match (key, std::str::from_utf8(key_text)) {
        (0, _) => None,
        (_, Ok(key)) => Some(key.to_owned()),
        (_, Err(_)) => return Some(Err("its key is not UTF-8".into())),
    };
    let (accepted, rejected, reasons) = match serde_json::from_slice(summary) {
        Ok(summary) => summary,
        Err(error) => return Some(Err(format!("its summary: {error}"))),
    };
    let summary = PushSummary { accepted, rejected, reasons, duplicate: false };
    Some(Ok(Entry { number, at, content, key, summary, body: body.to_vec() }))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}
