//! Counters of a running job: per operator and worker, per source. Relaxed atomics, written by one worker each.

mod latency;

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

pub use latency::LatencyHistogram;

/// A job's counters.
#[derive(Debug, Default)]
pub struct JobStats {
    /// One entry per operator and worker, in the order they were made.
    operators: Mutex<Vec<Arc<OperatorStats>>>,
    /// One entry per [`highwater_plan::Job::sources`].
    pub sources: Vec<SourceStats>,
    /// The last epoch that was opened.
    pub epoch_opened: AtomicU64,
    /// How many epochs are open behind the outputs.
    pub epochs_open: AtomicU64,
    /// How many epochs were closed.
    pub epochs_closed: AtomicU64,
    /// How long epochs took from opening to publication.
    pub epoch_latency: LatencyHistogram,
}

impl JobStats {
    pub(crate) fn new(sources: usize) -> Self {
        let sources = (0..sources).map(|_| SourceStats::default()).collect();
        JobStats { sources, ..JobStats::default() }
    }

    pub(crate) fn operator(&self, node: usize, name: impl Into<String>, worker: usize) -> Arc<OperatorStats> {
        let stats = Arc::new(OperatorStats { node, name: name.into(), worker, ..OperatorStats::default() });
        self.operators.lock().expect("stats are added without panicking").push(Arc::clone(&stats));
        stats
    }

    /// The operators' counters, one entry per operator and worker.
    pub fn operators(&self) -> Vec<Arc<OperatorStats>> {
        self.operators.lock().expect("stats are added without panicking").clone()
    }
}

/// Counters of one operator on one worker.
#[derive(Debug, Default)]
pub struct OperatorStats {
    /// Index into [`highwater_plan::Plan::nodes`].
    pub node: usize,
    /// What it is: `aggregate`, `join`, `map`, `view bids`.
    pub name: String,
    /// The worker.
    pub worker: usize,
    /// Updates taken.
    pub rows_in: AtomicU64,
    /// Updates given.
    pub rows_out: AtomicU64,
    /// Bytes of the Arrow buffers given, about.
    pub bytes_out: AtomicU64,
    /// Updates that wait for their epoch to be complete.
    pub queued_rows: AtomicU64,
    /// Rows, groups or batches kept.
    pub state_rows: AtomicU64,
    /// Bytes kept, about.
    pub state_bytes: AtomicU64,
    /// Rows refused because their windows were closed.
    pub late_rows: AtomicU64,
    /// Rows on which an expression failed.
    pub error_rows: AtomicU64,
    /// Rows or groups dropped because nothing touched their key for the job's `state_ttl`.
    pub expired_rows: AtomicU64,
    /// Retractions of rows that had been dropped so: they are ignored.
    pub expired_retractions: AtomicU64,
    /// Nanoseconds spent in it.
    pub busy_ns: AtomicU64,
}

impl OperatorStats {
    pub(crate) fn took(&self, rows: usize) {
        self.rows_in.fetch_add(rows as u64, Ordering::Relaxed);
    }

    pub(crate) fn gave(&self, delta: &crate::Delta) {
        self.rows_out.fetch_add(delta.len() as u64, Ordering::Relaxed);
        let bytes: usize = delta.rows.columns().iter().map(crate::keys::array_bytes).sum();
        self.bytes_out.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn holds(&self, rows: usize, bytes: usize) {
        self.state_rows.store(rows as u64, Ordering::Relaxed);
        self.state_bytes.store(bytes as u64, Ordering::Relaxed);
    }
}

/// Counters of one source over all workers.
#[derive(Debug)]
pub struct SourceStats {
    /// Rows read, rejected ones included.
    pub rows: AtomicU64,
    /// Rows refused by some operator as late, each counted once per operator.
    pub late_rows: AtomicU64,
    /// Rows that could not be decoded, or were too far in the future.
    pub rejected_rows: AtomicU64,
    /// The watermark of the last closed epoch in microseconds; `i64::MIN` before the first, `i64::MAX` at the end.
    pub watermark: AtomicI64,
}

impl Default for SourceStats {
    fn default() -> Self {
        SourceStats {
            rows: AtomicU64::new(0),
            late_rows: AtomicU64::new(0),
            rejected_rows: AtomicU64::new(0),
            watermark: AtomicI64::new(i64::MIN),
        }
    }
}
