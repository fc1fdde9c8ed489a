//! Where changes go: one closed epoch after another, consolidated.

mod blackhole;
mod file;
mod lines;
mod partitioned;
mod published;
mod stdout;

use arrow::array::Int64Array;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use highwater_plan::{Diagnostic, Emit, Field, Options};

pub use blackhole::Blackhole;
pub use file::FileSink;
pub use stdout::Stdout;

/// Options that the runtime reads for every sink; each connector accepts them and leaves them alone.
pub const COMMON_FIELDS: &[Field] = &[
    Field { key: "connector", about: "the kind of sink" },
    Field { key: "delivery", about: "exactly_once or at_least_once, as far as the connector can" },
];

/// A kind of sink: `connector = 'stdout'`.
pub trait SinkConnector: Send + Sync {
    /// The name in `WITH (connector = '...')`.
    fn name(&self) -> &'static str;

    /// The options it knows.
    fn fields(&self) -> Vec<Field>;

    /// Whether what it opens can keep [`Delivery::ExactlyOnce`].
    fn publishes_exactly_once(&self) -> bool {
        false
    }

    /// Reads the options of one sink and looks whether it could be opened, without making, emptying or writing anything.
    ///
    /// Errors: the mistakes that [`SinkConnector::open`] would find, each at its place, as far as they show from here.
    fn validate(&self, spec: &SinkSpec) -> Result<(), Diagnostic>;

    /// Reads the options of one sink and gets ready to write; mistakes are errors at their place.
    fn open(&self, spec: &SinkSpec) -> Result<SinkTarget, Diagnostic>;
}

/// An opened sink: how rows get to it.
pub enum SinkTarget {
    /// Written by the worker as each epoch closes: where writing is a matter of microseconds and nothing is lost by a crash
    /// that was not lost already.
    Writer(Box<dyn SinkWriter>),
    /// Published from a queue that is part of the job's state, by a thread of its own.
    Publisher(Box<dyn Publisher>),
}

/// What a sink's reader may rely on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// Each row once: epochs are published when the checkpoint that has them is durable, together with a record of how far
    /// publishing got.
    ExactlyOnce,
    /// Each row, and after a crash perhaps again: epochs are published as they close.
    AtLeastOnce,
}

/// What a sink statement says, as a connector needs it.
#[derive(Debug, Clone)]
pub struct SinkSpec {
    /// The job's name: with the sink's it tells its records from those of others.
    pub job: String,
    /// The sink's name.
    pub name: String,
    /// The columns.
    pub schema: SchemaRef,
    /// Columns that identify a row, if known.
    pub key: Option<Vec<usize>>,
    /// Whether rows are never retracted.
    pub append_only: bool,
    /// As written.
    pub emit: Emit,
    /// `WITH (...)`.
    pub options: Options,
    /// Whether the job has checkpoints, without which nothing can be delivered exactly once.
    pub checkpoints: bool,
    /// Whether it goes on from one: what was written before is its own.
    pub resumes: bool,
}

impl SinkSpec {
    /// What the sink's reader may rely on: as its options say, else the best there is. `exactly_once`: the connector can.
    pub fn delivery(&self, exactly_once: bool) -> Result<Delivery, Diagnostic> {
        let Some(entry) = self.options.entry("delivery") else {
            return Ok(if exactly_once && self.checkpoints { Delivery::ExactlyOnce } else { Delivery::AtLeastOnce });
        };
        let refused =
            |code: &'static str, message: String| Diagnostic::error(code, message).at(entry.value_span.or(self.options.span));
        match entry.value.as_str() {
            "at_least_once" => Ok(Delivery::AtLeastOnce),
            "exactly_once" if !exactly_once => {
                let connector = self.options.get("connector").unwrap_or_default();
                let message = format!("connector '{connector}' cannot deliver exactly once");
                Err(refused("invalid-option", message).help("leave 'delivery' out: rows are then delivered at least once"))
            }
            "exactly_once" if !self.checkpoints => {
                let message = "delivery = 'exactly_once' needs checkpoints, and the job has none";
                Err(refused("needs-checkpoints", message.into()).help("start it with --checkpoints DIR, or say at_least_once"))
            }
            "exactly_once" => Ok(Delivery::ExactlyOnce),
            other => Err(refused("invalid-option", format!("option 'delivery' cannot be '{other}'"))
                .help("expected exactly_once or at_least_once")),
        }
    }
}

/// Writes the changes of one closed epoch after another. One writer has all rows of the sink.
pub trait SinkWriter: Send {
    /// Writes the changes of `epoch`; epochs come in order, and only those that changed something.
    fn write(&mut self, epoch: u64, changes: &[Changes]) -> Result<(), SinkError>;

    /// Called when no further epoch is closed for now: what was written should reach its reader.
    fn flush(&mut self) -> Result<(), SinkError>;
}

/// Publishes whole epochs. Called on a thread that may wait; after an error of a failure that may pass, the same epochs are
/// given again.
pub trait Publisher: Send {
    /// Takes the sink over from whoever published to it under the same job and sink, also in another process: that one can
    /// publish no more. Gives the last epoch that is known to be published; `None` if none is. Called before the first
    /// publishing, and again when publishing has failed for good although the job is still this process's.
    fn take_over(&mut self) -> Result<Option<u64>, PublishError>;

    /// Publishes these epochs, in order. Once it returns they are durable there.
    ///
    /// [`Delivery::ExactlyOnce`]: together with the record that everything up to `through` is published, however the process
    /// ends. What is too much for one transaction may be several, each of whole epochs with the record of how far it goes.
    fn publish(&mut self, epochs: &[EpochChanges], through: u64) -> Result<(), PublishError>;
}

/// What one closed epoch changed.
#[derive(Debug, Clone)]
pub struct EpochChanges {
    /// The epoch.
    pub epoch: u64,
    /// What it changed: consolidated, retractions first.
    pub changes: Vec<Changes>,
}

/// Publishing failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PublishError {
    /// Lower case, names the target and what was attempted.
    pub message: String,
    /// Whether trying again cannot help: somebody else has taken the sink over, the target refuses the rows.
    pub fatal: bool,
}

impl PublishError {
    /// An error after which publishing cannot go on.
    pub fn fatal(message: impl Into<String>) -> Self {
        PublishError { message: message.into(), fatal: true }
    }

    /// An error that may pass.
    pub fn passing(message: impl Into<String>) -> Self {
        PublishError { message: message.into(), fatal: false }
    }
}

/// Changed rows.
#[derive(Debug, Clone)]
pub struct Changes {
    /// The rows.
    pub rows: RecordBatch,
    /// Per row how many times it was added (positive) or retracted (negative); absent: all +1.
    pub diffs: Option<Int64Array>,
}

/// Writing failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SinkError {
    /// Lower case, names the target and what was attempted.
    pub message: String,
}

#[cfg(test)]
mod tests;
