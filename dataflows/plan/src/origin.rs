//! The whole source row behind a row that was pruned, filtered and projected.

use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;

/// Gives back the rows of a source batch as they were declared.
///
/// A source decodes only the columns that its job reads. An operator that has to refuse a row (it came too late) keeps
/// the *whole* row in `<source>$late`; it asks the batch's origin for it. An origin therefore holds whatever it takes to
/// make the rows again (raw lines, event numbers, or simply the full batch) for as long as the batch is in flight.
pub trait Origin: Send + Sync + std::fmt::Debug {
    /// The rows at these positions of the batch, in this order, with every physical column of the source.
    fn rows(&self, rows: &[u32]) -> Result<RecordBatch, ArrowError>;
}
