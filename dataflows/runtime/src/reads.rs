//! Reads a view at one closed epoch.

use std::time::Duration;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use highwater_engine::{Compacted, Equals, JobState, Time};

use crate::running::RunningJob;

/// How long a read that does not wait for an epoch tries again when the epoch it took was compacted away.
const COMPACTED_WAIT: Duration = Duration::from_secs(1);

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

/// Several views at one epoch.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The epoch.
    pub epoch: Time,
    /// Per view its rows, in the order asked for.
    pub views: Vec<Vec<RecordBatch>>,
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
        let Some(handle) = self.handle.view(view) else { return Err(self.unknown_view(view)) };
        if let Some(wanted) = min_epoch {
            let closed = self.wait_closed(wanted, timeout);
            if closed < wanted {
                return Err(self.not_reached(wanted, closed));
            }
        }
        let left = self.deadline(Some(timeout.max(COMPACTED_WAIT)));
        loop {
            let epoch = self.handle.closed();
            let since = match handle.read(epoch, equals, limit) {
                Ok(batches) => return Ok(ViewRead { epoch, schema: handle.schema().clone(), batches }),
                Err(Compacted { since }) => since,
            };
            // Some workers are past the epoch that the slowest of them has closed; it follows soon.
            let closed = self.wait_closed(since, left().unwrap_or_default());
            if closed < since {
                return Err(self.not_reached(since, closed));
            }
        }
    }

    /// Reads several views, all at the same closed epoch, which is at least `min_epoch`.
    pub fn snapshot(&self, views: &[&str], min_epoch: Option<Time>, timeout: Duration) -> Result<Snapshot, ReadError> {
        let mut handles = Vec::with_capacity(views.len());
        for view in views {
            handles.push(self.handle.view(view).ok_or_else(|| self.unknown_view(view))?);
        }
        if let Some(wanted) = min_epoch {
            let closed = self.wait_closed(wanted, timeout);
            if closed < wanted {
                return Err(self.not_reached(wanted, closed));
            }
        }
        let left = self.deadline(Some(timeout.max(COMPACTED_WAIT)));
        loop {
            let epoch = self.handle.closed();
            let read: Result<Vec<_>, Compacted> = handles.iter().map(|handle| handle.read(epoch, &[], None)).collect();
            let since = match read {
                Ok(views) => return Ok(Snapshot { epoch, views }),
                Err(Compacted { since }) => since,
            };
            let closed = self.wait_closed(since, left().unwrap_or_default());
            if closed < since {
                return Err(self.not_reached(since, closed));
            }
        }
    }

    fn unknown_view(&self, view: &str) -> ReadError {
        let known: Vec<&str> = self.handle.views().iter().map(|view| view.name()).collect();
        ReadError::UnknownView { view: view.to_owned(), known: known.join(", ") }
    }

    fn not_reached(&self, wanted: Time, closed: Time) -> ReadError {
        if self.state() == JobState::Running { ReadError::NotYet { wanted, closed } } else { ReadError::Over { wanted, closed } }
    }
}
