//! Reads a view at one closed epoch.

use std::time::Duration;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use highwater_engine::{Compacted, Equals, JobState, Time};

use crate::running::RunningJob;

/// A view's rows at one epoch.
#[derive(Debug, Clone)]
pub struct ViewRead {
    /// The epoch: every change up to it is in the rows, none after it.
    pub epoch: Time,
    /// The view's columns.
    pub schema: SchemaRef,
    /// The rows.
    pub batches: Vec<RecordBatch>,
}

/// A view could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The job has no view of this name.
    #[error("no view '{view}' in this job; its views: {known}")]
    UnknownView {
        /// The name asked for.
        view: String,
        /// The names there are.
        known: String,
    },
    /// The epoch asked for was not closed in time.
    #[error("epoch {wanted} was not closed in time: the job is at {closed}")]
    NotYet {
        /// The epoch asked for.
        wanted: Time,
        /// The epoch the job is at.
        closed: Time,
    },
    /// The epoch asked for will never be closed.
    #[error("epoch {wanted} will never be closed: the job ended at {closed}")]
    Over {
        /// The epoch asked for.
        wanted: Time,
        /// The epoch it ended at.
        closed: Time,
    },
}

impl RunningJob {
    /// Reads a view, or a relation that comes with one, at the latest closed epoch; waits until that is at least `min_epoch`.
    ///
    /// Rows are those equal to every one of `equals`, at most `limit`, in no order. Several threads may read at once, and
    /// no read holds up the dataflow: an epoch that was compacted away while it was read is read again at a later one.
    pub fn read_view(
        &self,
        view: &str,
        min_epoch: Option<Time>,
        timeout: Duration,
        equals: &[Equals],
        limit: Option<usize>,
    ) -> Result<ViewRead, ReadError> {
        let Some(handle) = self.handle.view(view) else {
            let known: Vec<&str> = self.handle.views().iter().map(|view| view.name()).collect();
            return Err(ReadError::UnknownView { view: view.to_owned(), known: known.join(", ") });
        };
        if let Some(wanted) = min_epoch {
            let closed = self.wait_closed(wanted, timeout);
            if closed < wanted {
                let over = self.state() != JobState::Running;
                return Err(if over { ReadError::Over { wanted, closed } } else { ReadError::NotYet { wanted, closed } });
            }
        }
        loop {
            let epoch = self.handle.closed();
            match handle.read(epoch, equals, limit) {
                Ok(batches) => return Ok(ViewRead { epoch, schema: handle.schema().clone(), batches }),
                // Compaction follows the closed epoch, so there is a later one to read at by now.
                Err(Compacted { .. }) => std::thread::yield_now(),
            }
        }
    }
}
