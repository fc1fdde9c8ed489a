//! Counters of a running job: per operator and worker, per source. Relaxed atomics, written by one worker each.

mod latency;

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

pub use latency::LatencyHistogram;

use crate::checkpoint::Checkpoints;

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
    pub(crate) breaker: Arc<Breaker>,
    pub(crate) checkpoints: Arc<Checkpoints>,
}

impl JobStats {
    pub(crate) fn new(sources: usize, checkpoints: Arc<Checkpoints>) -> Self {
        let sources = (0..sources).map(|_| SourceStats::default()).collect();
        JobStats { sources, checkpoints, ..JobStats::default() }
    }

    pub(crate) fn operator(&self, node: usize, name: impl Into<String>, worker: usize) -> Arc<OperatorStats> {
        let stats = Arc::new(OperatorStats {
            node,
            name: name.into(),
            worker,
            breaker: Arc::clone(&self.breaker),
            checkpoints: Arc::clone(&self.checkpoints),
            ..OperatorStats::default()
        });
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
    breaker: Arc<Breaker>,
    /// Where its state goes.
    pub(crate) checkpoints: Arc<Checkpoints>,
    /// Whether it panicked.
    broken: AtomicBool,
}

impl OperatorStats {
    /// Runs a part of the operator. A panic stops the job, and from then on the operator does nothing: what it keeps may
    /// be half of something. The caller gives up its capabilities then, so that the dataflow can come to an end.
    pub(crate) fn guard<R>(&self, work: impl FnOnce() -> R) -> Option<R> {
        if self.broken.load(Ordering::Relaxed) {
            return None;
        }
        // Nothing of what the work has seen is looked at again.
        match std::panic::catch_unwind(AssertUnwindSafe(work)) {
            Ok(done) => Some(done),
            Err(panic) => {
                self.broken.store(true, Ordering::Relaxed);
                self.breaker.stop(&*panic, &format!("operator '{}' @{}", self.name, self.node));
                None
            }
        }
    }

    /// Whether its job started from nothing: what is there before any row came has not been given yet.
    pub(crate) fn is_new(&self) -> bool {
        self.checkpoints.restore.is_none()
    }

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

/// Stops a job of which some part panicked.
#[derive(Default)]
pub(crate) struct Breaker(OnceLock<Box<dyn Fn(String) + Send + Sync>>);

impl Breaker {
    /// Says how the job is stopped; before that a panic is only noted.
    pub(crate) fn set(&self, stop: impl Fn(String) + Send + Sync + 'static) {
        let _ = self.0.set(Box::new(stop));
    }

    /// Stops the job because `place` panicked.
    pub(crate) fn stop(&self, panic: &(dyn Any + Send), place: &str) {
        let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        let reason = format!("{place} panicked: {}; this is a bug, please report it", text.unwrap_or("no message"));
        tracing::error!(reason, "a job is stopped");
        if let Some(stop) = self.0.get() {
            stop(reason);
        }
    }
}

impl std::fmt::Debug for Breaker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Breaker")
    }
}
