//! Where a worker's rows come from, as the engine sees it.
//!
//! The engine asks; a feed never pushes. So a slow dataflow stops the asking, and that is all of backpressure.

use arrow::record_batch::RecordBatch;
use std::time::Duration;

use crate::recorded::EpochRecord;
use crate::{Delta, Time};

/// Rows of one source (one partition, or several read together) for one worker.
pub trait Feed: Send {
    /// Gives what there is now, at most about `rows_max` rows, without blocking.
    fn poll(&mut self, rows_max: usize) -> FeedPoll;

    /// Per partition that it reads where it stands after all that it has given: whoever gets such a position goes on with the
    /// next row.
    fn positions(&self) -> Vec<PartitionPosition>;

    /// [`Feed::positions`] of those partitions that have given something since this was asked last.
    fn moved(&mut self) -> Vec<PartitionPosition> {
        self.positions()
    }

    /// Gives what an epoch had of its partitions when it was recorded, without blocking: all rows before the positions that it
    /// has, and none after them. Asked until all is given.
    fn again(&mut self, record: &EpochRecord) -> Again {
        let _ = record;
        Again::Failed("its rows cannot be had again".into())
    }
}

/// An answer to [`Feed::again`].
pub enum Again {
    /// Rows; there may be more. Their `state` does not count.
    Ready(FeedBatch),
    /// None yet. Ask again when woken, or after this time.
    Pending(Option<Duration>),
    /// All are given.
    Done,
    /// It cannot give what was recorded, and why.
    Failed(String),
}

/// Where reading a partition of a source stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionPosition {
    /// The partition's name.
    pub partition: String,
    /// Text that the feeds of the source understand.
    pub position: String,
}

/// A feed's answer.
pub enum FeedPoll {
    /// Rows, or a change of state without rows.
    Ready(FeedBatch),
    /// Nothing now. Ask again when woken, or after this time.
    Pending(Option<Duration>),
}

/// What a feed adds to one epoch.
pub struct FeedBatch {
    /// Rows with the columns of [`highwater_plan::Source::used`].
    pub deltas: Vec<Delta>,
    /// Rows for `<source>$rejects`, with the schema of [`crate::ViewHandle`]s of that kind.
    pub rejects: Vec<RecordBatch>,
    /// The feed's state after these rows.
    pub state: FeedState,
    /// Told the epoch that the rows are in.
    pub receipts: Vec<Receipt>,
    /// Where the first of the rows stands; the others follow it.
    pub place: Place,
}

/// Where a row stands in what its source gives: of the rows of a key that come to a table in one epoch, the one with the
/// largest number counts, and of those with the same number the one of the last partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place {
    /// How many rows of its partition the job was given before it.
    pub number: u64,
    /// Its partition, in the source's order of them.
    pub partition: u32,
}

/// Called once with an epoch.
pub type Receipt = Box<dyn FnOnce(Time) + Send>;

/// What a feed says of event time, as of the rows it has given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeedState {
    /// Rows may come, of event times that its watermark (microseconds; `i64::MIN`: nothing is known) bounds.
    Active(i64),
    /// Nothing has come for a while: it does not hold back the source's watermark. What it had seen stays known.
    Idle(i64),
    /// Nothing will ever come.
    Finished,
}
