//! Where changes go: one closed epoch after another, consolidated.

mod blackhole;
mod file;
mod lines;
mod partitioned;
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

    /// Reads the options of one sink and looks whether it could be opened, without making, emptying or writing anything.
    ///
    /// Errors: the mistakes that [`SinkConnector::open`] would find, each at its place, as far as they show from here.
    fn validate(&self, spec: &SinkSpec) -> Result<(), Diagnostic>;

    /// Reads the options of one sink and gets ready to write; mistakes are errors at their place.
    fn open(&self, spec: &SinkSpec) -> Result<Box<dyn SinkWriter>, Diagnostic>;
}

/// What a sink statement says, as a connector needs it.
#[derive(Debug, Clone)]
pub struct SinkSpec {
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
}

/// Writes the changes of one closed epoch after another. One writer has all rows of the sink.
pub trait SinkWriter: Send {
    /// Writes the changes of `epoch`; epochs come in order, and only those that changed something.
    fn write(&mut self, epoch: u64, changes: &[Changes]) -> Result<(), SinkError>;

    /// Called when no further epoch is closed for now: what was written should reach its reader.
    fn flush(&mut self) -> Result<(), SinkError>;
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
