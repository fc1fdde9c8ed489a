//! Where rows come from: connectors, their partitions, and the readers that are asked for batches.

mod datagen;
mod file;
mod http;
mod nexmark;
mod pace;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::Int64Array;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use highwater_plan::{Diagnostic, Field, Options, Origin};

use crate::format::DecoderSpec;

pub use datagen::Datagen;
pub use file::FileSource;
pub use http::HttpSource;
pub use nexmark::Nexmark;

/// Options that the runtime reads for every source; each connector accepts them and leaves them alone.
pub const COMMON_FIELDS: &[Field] = &[
    Field { key: "connector", about: "the kind of source" },
    Field { key: "idle_timeout", about: "after how long without rows a partition no longer holds the watermark back" },
    Field { key: "max_ahead", about: "how far ahead of the wall clock an event time may be" },
    Field {
        key: "readable",
        about: "tables: whether their rows are kept, to be read like a view and changed by UPDATE and DELETE",
    },
    Field { key: "epoch_rows_max", about: "most rows that one epoch takes from this source" },
];

/// A kind of source: `connector = 'file'`.
pub trait SourceConnector: Send + Sync {
    /// The name in `WITH (connector = '...')`.
    fn name(&self) -> &'static str;

    /// The options it knows, its format's included.
    fn fields(&self) -> Vec<Field>;

    /// What it knows of a row beside the row, by the names that columns take it by: [`SourceSpec::metadata`].
    fn metadata(&self) -> &'static [&'static str] {
        &[]
    }

    /// The options that say which rows there are, and so what positions are positions of: with another value of one of them a
    /// source is another one, and does not go on where it was. An address by which the same rows are reached is none of them.
    ///
    /// As it is: whichever of the usual two the connector has.
    fn origin(&self) -> &'static [&'static str] {
        &["path", "topic"]
    }

    /// Those of them that name several things, separated by commas. Their order is no difference, and with more of them a source is
    /// the same one, that reads more.
    fn origins(&self) -> &'static [&'static str] {
        &[]
    }

    /// What a partition is called since these were added to what the source `was` reading: another name of the same positions.
    fn renamed(&self, partition: &str, was: &[&str]) -> String {
        let _ = was;
        partition.to_owned()
    }

    /// Reads the options of one source; unknown, missing and malformed ones are errors at their place.
    fn open(&self, spec: &SourceSpec) -> Result<Box<dyn Source>, Diagnostic>;
}

/// What a source statement says, as a connector needs it.
#[derive(Debug, Clone)]
pub struct SourceSpec {
    /// The source's name.
    pub name: String,
    /// All physical columns.
    pub schema: SchemaRef,
    /// The physical columns that batches hold, ascending; the others need not be decoded.
    pub used: Vec<usize>,
    /// Physical columns of the primary key; empty without one.
    pub primary_key: Vec<usize>,
    /// Per physical column its `DEFAULT`, as [`DecoderSpec::defaults`].
    pub defaults: Vec<Option<String>>,
    /// Per physical column the metadata that it takes (`offset`), `None` if it comes from the row itself; may be shorter than
    /// the schema. Only keys that the connector [has](SourceConnector::metadata).
    pub metadata: Vec<Option<String>>,
    /// `WITH (...)`.
    pub options: Options,
    /// Whether batches need an [`Origin`], because an operator may refuse rows as late.
    pub keeps_origin: bool,
    /// A connector that can split itself at will makes so many partitions: one for each worker that reads, or as many as
    /// there were when the job was saved.
    pub workers: usize,
    /// Where the source may keep what it accepts from clients; `None`: nowhere that outlives the process.
    pub log: Option<SourceLog>,
}

/// A directory of a source's own, in which it keeps what it accepted from the time that the job's checkpoints do not cover.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceLog {
    /// The directory; it need not be there. It has what belongs to the job's checkpoints, or nothing.
    pub directory: PathBuf,
    /// What it is for.
    pub mode: LogMode,
}

/// What a source does with its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogMode {
    /// It keeps what it accepts.
    Accept {
        /// The epoch of the checkpoint that the job goes on from, if the log is of that run of the job. Otherwise nobody goes on
        /// from what is accepted until [`Source::saved`] is told.
        resumed: Option<u64>,
        /// For how long it is kept once a durable checkpoint has it.
        keep: Duration,
    },
    /// What was accepted is read once more, beside whoever accepts more; nothing is accepted or written.
    Again,
}

impl SourceSpec {
    /// What a decoder for this source is for.
    pub fn decoder_spec(&self) -> DecoderSpec {
        DecoderSpec {
            schema: self.schema.clone(),
            used: self.used.clone(),
            primary_key: self.primary_key.clone(),
            keeps_origin: self.keeps_origin,
            defaults: self.defaults.clone(),
        }
    }

    /// The schema of [`SourceBatch::rows`].
    pub fn used_schema(&self) -> SchemaRef {
        let used: Vec<_> = self.used.iter().map(|column| self.schema.fields()[*column].clone()).collect();
        Arc::new(Schema::new(used))
    }
}

/// An opened source.
pub trait Source: Send + Sync {
    /// Its partitions now.
    fn partitions(&self) -> Result<Vec<PartitionId>, SourceError>;

    /// Starts reading a partition after `offset`, or from where the options say if `None`.
    ///
    /// `waker` is called when rows have arrived for a reader that had none ([`Polled::Pending`], [`Polled::Waiting`]).
    fn read(
        &self,
        partition: &PartitionId,
        offset: Option<&Offset>,
        waker: Waker,
    ) -> Result<Box<dyn PartitionReader>, SourceError>;

    /// Whether [`Source::again`] gives what was given before.
    fn repeats(&self) -> bool {
        false
    }

    /// Reads a partition from where the options say that reading starts up to `until`, where a reader stood once, and as fast
    /// as it can; then the reader has [finished](Polled::Finished). Only asked of sources that [repeat](Source::repeats).
    fn again(&self, partition: &PartitionId, until: &Offset, waker: Waker) -> Result<Box<dyn PartitionReader>, SourceError> {
        let _ = (until, waker);
        Err(SourceError::fatal(format!("partition '{partition}' cannot be read again")))
    }

    /// Looks whether what the statement declares goes together with what is outside now, a schema in a registry for example. Asked
    /// when a job begins, not when it goes on: what others have changed meanwhile is no reason not to.
    fn check(&self) -> Result<(), Diagnostic> {
        Ok(())
    }

    /// Told that the job goes on from a checkpoint, or that it has begun: partitions that are read without an offset from then
    /// on are new, and are read from their beginning, wherever the options say that reading starts.
    fn resumes(&self) {}

    /// Whether it ends by itself.
    fn bounded(&self) -> bool;

    /// How often [`Source::partitions`] is asked again, because more may appear while it runs; `None`: they never do.
    /// Partitions that appear are read after [`Source::resumes`] was told.
    fn grows(&self) -> Option<Duration> {
        None
    }

    /// About how many rows it gives until it ends, where that can be told without reading them: the order of joins goes by
    /// it.
    fn rows(&self) -> Option<u64> {
        None
    }

    /// Told after each durable checkpoint: the job, if it is started again, goes on from there.
    fn saved(&self) {}

    /// Told after each durable checkpoint up to where each partition is read in it: what comes before is never read again, and
    /// may be let go of or shown to others. Does not wait; what goes wrong is logged, since nothing depends on it.
    fn committed(&self, positions: &[(PartitionId, Offset)]) {
        let _ = positions;
    }

    /// Takes rows that a client pushes; only sources that are pushed to have it.
    fn push_handle(&self) -> Option<Arc<dyn PushHandle>> {
        None
    }
}

/// Wakes the worker that reads a partition.
pub type Waker = Arc<dyn Fn() + Send + Sync>;

/// Names a partition within its source: `0`, a file's path.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PartitionId(pub Arc<str>);

impl PartitionId {
    /// A partition of this name.
    pub fn new(name: impl AsRef<str>) -> Self {
        PartitionId(Arc::from(name.as_ref()))
    }
}

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where reading a partition stands: everything before it has been read. Text that its connector understands, so that it
/// can be saved and shown; for a file the byte, for a generator the event number.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Offset(pub Arc<str>);

impl Offset {
    /// An offset from whatever prints as one.
    pub fn new(offset: impl fmt::Display) -> Self {
        Offset(Arc::from(offset.to_string()))
    }
}

/// Reads one partition.
pub trait PartitionReader: Send {
    /// Gives the next rows, at most about `rows_max`, without blocking for longer than a disk read takes.
    ///
    /// Errors: [`SourceError::fatal`] ends the source; any other is reported and the reader is asked again later.
    fn poll(&mut self, rows_max: usize) -> Result<Polled, SourceError>;

    /// Where reading begins, of a reader that was given no offset and nothing has been read of: from there it goes on after a
    /// restart, although it may not have given anything yet. `None`: from the partition's beginning, or nobody knows.
    fn begins(&self) -> Option<Offset> {
        None
    }

    /// How many rows or bytes are known to wait behind this reader, for people: `None` if it cannot know.
    fn backlog(&self) -> Option<Backlog> {
        None
    }
}

/// What a reader knows to be waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Backlog {
    /// Rows that wait, if rows are counted.
    pub rows: u64,
    /// Bytes that wait, if bytes are counted.
    pub bytes: u64,
}

/// A reader's answer.
#[derive(Debug)]
pub enum Polled {
    /// Rows, or rejected rows, or both.
    Batch(SourceBatch),
    /// Nothing now, and the log's end is reached. The reader calls its waker when that changes, or wants to be asked again
    /// after this time.
    Pending(Option<Duration>),
    /// Nothing now, and the log's end is not known to be reached: rows may be on their way, so the partition is not idle and
    /// holds the watermark. The reader calls its waker, or wants to be asked again, as for [`Polled::Pending`].
    Waiting(Option<Duration>),
    /// Nothing ever again.
    Finished,
}

/// Rows of one partition.
#[derive(Debug)]
pub struct SourceBatch {
    /// The used columns, in the order of [`SourceSpec::used`].
    pub rows: RecordBatch,
    /// Per row +1 or -1; absent: all +1. With a primary key: -1 deletes the key's row, +1 inserts or replaces it.
    pub diffs: Option<Int64Array>,
    /// Gives back whole rows by position in `rows`; set if the spec asked for it.
    pub origin: Option<Arc<dyn Origin>>,
    /// Rows that could not be decoded.
    pub rejects: Vec<Reject>,
    /// Where reading stands after this batch.
    pub offset: Offset,
    /// Bytes read for this batch, rejected rows included; 0 if the source has no bytes.
    pub bytes: u64,
    /// Told the epoch in which the batch's rows became part of the dataflow; for pushed rows.
    pub receipt: Option<Receipt>,
}

/// Called once with the epoch that a batch's rows belong to.
pub struct Receipt(pub Box<dyn FnOnce(u64) + Send>);

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Receipt")
    }
}

/// A row that could not be decoded: it goes to `<source>$rejects`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    /// The bytes as they came; at most [`Reject::RAW_BYTES_MAX`] of them.
    pub raw: Vec<u8>,
    /// How many bytes there were.
    pub raw_bytes: u64,
    /// Where in the partition it stands: line, byte or message number, as the connector counts.
    pub offset: Offset,
    /// Why: lower case, names the column and what was found.
    pub reason: String,
}

impl Reject {
    /// How much of a rejected row is kept.
    pub const RAW_BYTES_MAX: usize = 64 * 1024;

    /// A reject that keeps as much of `raw` as is kept.
    pub fn new(raw: &[u8], offset: Offset, reason: impl Into<String>) -> Self {
        let kept = &raw[..raw.len().min(Self::RAW_BYTES_MAX)];
        Reject { raw: kept.to_vec(), raw_bytes: raw.len() as u64, offset, reason: reason.into() }
    }
}

/// Takes pushed rows (`POST /v1/sources/{source}`).
pub trait PushHandle: Send + Sync {
    /// Decodes a body and queues its rows as one unit: they become visible at one epoch.
    ///
    /// With a [log](SourceSpec::log) a body that was taken is on the disk; so many bodies share a flush as wait for it.
    ///
    /// `done` is called with that epoch once the dataflow has taken the rows. A body with the `idempotency_key` of an
    /// earlier one is not queued again; `done` gets the earlier one's epoch.
    fn push(&self, request: PushRequest, done: Receipt) -> Result<PushSummary, PushError>;

    /// Queues rows that are columns already, as one unit: all physical columns of the source, +1 or -1 per row.
    ///
    /// With a primary key -1 deletes the key's row, +1 inserts or replaces it. Errors: a full queue, rows of another schema.
    fn push_rows(&self, rows: RecordBatch, diffs: Int64Array, done: Receipt) -> Result<(), PushError>;

    /// Rows and bytes that wait to be taken.
    fn depth(&self) -> Backlog;

    /// Bodies (as rows) and bytes in the log that [`SourceSpec::log`] asked for; `None` without one.
    fn kept(&self) -> Option<Backlog> {
        None
    }
}

/// A pushed body.
#[derive(Debug)]
pub struct PushRequest {
    /// The body's format.
    pub format: PushFormat,
    /// The body.
    pub body: Vec<u8>,
    /// `Idempotency-Key`.
    pub idempotency_key: Option<String>,
}

/// Formats of pushed bodies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushFormat {
    /// One JSON object a line: `application/x-ndjson`.
    Ndjson,
    /// One JSON object or an array of them: `application/json`.
    Json,
    /// `text/csv`, with a header line that names columns.
    Csv,
}

/// What became of a pushed body's rows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PushSummary {
    /// Rows queued.
    pub accepted: u64,
    /// Rows that went to `$rejects`.
    pub rejected: u64,
    /// The reasons of the first few rejected rows, with their line.
    pub reasons: Vec<String>,
    /// The body was known by its idempotency key and was not queued again.
    pub duplicate: bool,
}

/// A pushed body was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// The queue is full: the dataflow is behind. Try again later.
    #[error("the source's queue is full: {rows} rows wait")]
    Full {
        /// Rows that wait.
        rows: u64,
    },
    /// The body as a whole is not of its format.
    #[error("{0}")]
    Malformed(String),
    /// The disk has no room for it; nothing was taken.
    #[error("{0}")]
    NoRoom(String),
    /// It cannot be kept so that it outlives the process; nothing was taken.
    #[error("{0}")]
    NotKept(String),
    /// The source has ended.
    #[error("the source has ended")]
    Closed,
}

/// Reading failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SourceError {
    /// Lower case, names the partition and what was attempted.
    pub message: String,
    /// Whether the source cannot go on.
    pub fatal: bool,
}

impl SourceError {
    /// An error after which reading cannot go on.
    pub fn fatal(message: impl Into<String>) -> Self {
        SourceError { message: message.into(), fatal: true }
    }

    /// An error that may pass: the reader is asked again.
    pub fn passing(message: impl Into<String>) -> Self {
        SourceError { message: message.into(), fatal: false }
    }
}
