//! A manifest: what a checkpoint consists of.
//!
//! ```text
//! highwater-manifest 1 xxh3-64 0123456789abcdef
//! { "job": "orders", "sequence": 12, "epoch": 1763..., ..., "files": [{ "path": "data/...", ... }] }
//! ```
//!
//! The first line has the format's number and the checksum of everything below it, so that a manifest can be read with `tail -n +2`
//! and `jq` and no byte of it can change unseen.

use std::fmt;

use chrono::{DateTime, SecondsFormat};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use twox_hash::XxHash3_64;

use crate::error::{Result, StoreError};

/// How a manifest begins.
const MAGIC: &str = "highwater-manifest";
/// The newest format that is read, and the one that is written.
pub(crate) const VERSION: u64 = 1;

/// What a checkpoint consists of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The job that it belongs to.
    pub job: String,
    /// Its number; a savepoint has the number of the checkpoint that it keeps.
    pub sequence: u64,
    /// What it was made for.
    pub kind: Kind,
    /// The epoch as of which the state is, in milliseconds.
    pub epoch: u64,
    /// When it was written, in milliseconds since 1970.
    pub created_ms: u64,
    /// Who wrote it.
    pub writer: Owner,
    /// Numbers of the manifests by which the job was claimed, the newest last, as many as are remembered.
    pub claims: Vec<u64>,
    /// What the writer says of it.
    pub meta: Value,
    /// Its files, oldest first.
    pub files: Vec<FileRef>,
}

/// What a manifest was made for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Kind {
    /// State as of an epoch.
    Checkpoint,
    /// A writer that took the job over: the content is that of another manifest.
    Claim {
        /// That manifest's number; `None`: there is no state yet.
        of: Option<u64>,
    },
    /// A checkpoint that is kept until it is deleted.
    Savepoint {
        /// Its name.
        name: String,
    },
}

/// Who writes a job's checkpoints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Owner {
    /// The number of the manifest by which it claimed the job.
    pub claim: u64,
    /// Its machine.
    pub host: String,
    /// Its process.
    pub pid: u32,
    /// When it claimed the job, in milliseconds since 1970.
    pub since_ms: u64,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = i64::try_from(self.since_ms).ok().and_then(DateTime::from_timestamp_millis);
        let since = since.map_or_else(|| "an unknown time".into(), |since| since.to_rfc3339_opts(SecondsFormat::Secs, true));
        write!(f, "process {} on {} (claim {}, since {since})", self.pid, self.host, self.claim)
    }
}

/// A file that a checkpoint names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileRef {
    /// Its path below the job's folder.
    pub path: String,
    /// How long it is.
    pub bytes: u64,
    /// How long it is without compression.
    pub raw_bytes: u64,
    /// How many sections it has.
    pub sections: u64,
    /// How many rows they have.
    pub rows: u64,
    /// The checksum of its index, in hexadecimal digits.
    pub checksum: String,
    /// Whether nothing older is needed: what follows are increments.
    pub base: bool,
    /// The epoch as of which it was written, in milliseconds.
    pub epoch: u64,
}

impl Manifest {
    /// How many bytes its files have.
    pub fn bytes(&self) -> u64 {
        self.files.iter().fold(0, |bytes, file| bytes.saturating_add(file.bytes))
    }

    /// Whether it holds state: the claim of a job that never wrote a checkpoint does not.
    pub fn has_state(&self) -> bool {
        self.kind != Kind::Claim { of: None }
    }

    /// What people call it: `checkpoint 12 (epoch 34)`, `savepoint nightly (epoch 34)`.
    pub fn name(&self) -> String {
        match &self.kind {
            Kind::Savepoint { name } => format!("savepoint `{name}` (epoch {})", self.epoch),
            _ => format!("checkpoint {} (epoch {})", self.sequence, self.epoch),
        }
    }

    /// The number of the checkpoint whose content this is.
    pub(crate) fn content(&self) -> Option<u64> {
        match self.kind {
            Kind::Claim { of } => of,
            _ => Some(self.sequence),
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut body = serde_json::to_vec_pretty(self).expect("a manifest has names for keys");
        body.push(b'\n');
        let mut text = format!("{MAGIC} {VERSION} xxh3-64 {}\n", checksum(&body)).into_bytes();
        text.append(&mut body);
        text
    }

    /// Reads a manifest; `file` is its address, for errors.
    pub(crate) fn decode(text: &[u8], file: &str) -> Result<Manifest> {
        let wrong = |what: &str| StoreError::corrupt(file, what);
        let end =
            text.iter().take(128).position(|byte| *byte == b'\n').ok_or_else(|| wrong("it does not begin as a manifest does"))?;
        let head = std::str::from_utf8(&text[..end]).map_err(|_| wrong("it does not begin as a manifest does"))?;
        let parts: Vec<&str> = head.split(' ').collect();
        let [MAGIC, version, rest @ ..] = parts.as_slice() else { return Err(wrong("it does not begin as a manifest does")) };
        let version: u64 = version.parse().map_err(|_| wrong("its format has no number"))?;
        if version > VERSION {
            return Err(StoreError::Newer { file: file.into(), found: version, supported: VERSION });
        }
        let ["xxh3-64", found] = rest else { return Err(wrong("its first line is not that of a manifest")) };
        let body = &text[end + 1..];
        if version != VERSION || *found != checksum(body) {
            return Err(wrong("its checksum does not match its text"));
        }
        serde_json::from_slice(body).map_err(|error| StoreError::corrupt(file, format!("its text cannot be understood: {error}")))
    }
}

/// The checksum that everything here is guarded by: XXH3, 64 bits.
pub(crate) fn checksum(bytes: &[u8]) -> String {
    format!("{:016x}", XxHash3_64::oneshot(bytes))
}
