//! What the inside of a running job tells people: partitions, sinks, errors, and the fault that stops it.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use highwater_connectors::source::Backlog;
use highwater_engine::JobHandle;

use crate::signal::Signal;

/// An error that a partition or sink has met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastError {
    /// The last one, as its connector said it.
    pub message: String,
    /// How many there were since the job started.
    pub count: u64,
    /// When the last one was met: microseconds since the Unix epoch.
    pub wall_micros: i64,
    /// Whether it has gone since.
    pub passed: bool,
}

impl LastError {
    /// Adds an error to what is known; gives whether it is news, or only the same again.
    pub(crate) fn record(known: &mut Option<LastError>, message: &str, wall_micros: i64) -> bool {
        let news = known.as_ref().is_none_or(|known| known.passed || known.message != message);
        let count = known.as_ref().map_or(0, |known| known.count) + 1;
        *known = Some(LastError { message: message.to_owned(), count, wall_micros, passed: false });
        news
    }

    /// What was tried again went well; gives whether that is news.
    pub(crate) fn pass(known: &mut Option<LastError>) -> bool {
        known.as_mut().is_some_and(|known| !std::mem::replace(&mut known.passed, true))
    }

    /// The message, unless the error has passed.
    pub(crate) fn current(known: &Option<LastError>) -> Option<&str> {
        known.as_ref().filter(|known| !known.passed).map(|known| known.message.as_str())
    }
}

/// How a partition is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartitionState {
    /// Rows may come; it holds the watermark back to its own.
    Active,
    /// It stands at its log's end for so long that it does not hold back the watermark.
    Idle,
    /// Nothing will ever come.
    Finished,
    /// It cannot be read: the job has failed.
    Failed,
}

/// One partition of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionInfo {
    /// Its name within the source.
    pub id: String,
    /// The worker that reads it.
    pub worker: usize,
    /// Where reading stands, as its connector says it; `None` before the first row.
    pub offset: Option<String>,
    /// Rows given to the dataflow.
    pub rows: u64,
    /// Rows that went to `$rejects`.
    pub rejected_rows: u64,
    /// Bytes read, rejected rows included.
    pub bytes: u64,
    /// Its watermark in microseconds; `None` before the first row with an event time.
    pub watermark: Option<i64>,
    /// How it is.
    pub state: PartitionState,
    /// What waits, if its connector can know; seldom older than a few tenths of a second.
    pub backlog: Option<Backlog>,
    /// The last error met.
    pub last_error: Option<LastError>,
}

/// A partition's entry, written by the worker that reads it, read by anyone.
#[derive(Debug)]
pub(crate) struct PartitionStatus(Mutex<PartitionInfo>);

impl PartitionStatus {
    pub(crate) fn new(id: String, worker: usize) -> Self {
        PartitionStatus(Mutex::new(PartitionInfo {
            id,
            worker,
            offset: None,
            rows: 0,
            rejected_rows: 0,
            bytes: 0,
            watermark: None,
            state: PartitionState::Active,
            backlog: None,
            last_error: None,
        }))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, PartitionInfo> {
        self.0.lock().expect("statuses are written without panicking")
    }
}

/// Why a job cannot go on although the engine could: a partition that cannot be read. The first reason stays.
///
/// Once it is set no feed of the job gives anything. That is not the end of the input: no window closes because of it.
#[derive(Debug)]
pub(crate) struct Fault {
    reason: OnceLock<String>,
    /// The job, once it runs: a fault stops it.
    job: OnceLock<JobHandle>,
    signal: Arc<Signal>,
}

impl Fault {
    pub(crate) fn new(signal: Arc<Signal>) -> Self {
        Fault { reason: OnceLock::new(), job: OnceLock::new(), signal }
    }

    pub(crate) fn set(&self, reason: String) {
        if self.reason.set(reason).is_ok() {
            self.stop_job();
            self.signal.notify();
        }
    }

    /// Names the job that a fault stops; one that came before this stops it now.
    pub(crate) fn attach(&self, job: JobHandle) {
        let _ = self.job.set(job);
        self.stop_job();
    }

    fn stop_job(&self) {
        if let (Some(job), Some(reason)) = (self.job.get(), self.reason.get()) {
            job.fail(reason.clone());
        }
    }

    pub(crate) fn reason(&self) -> Option<&str> {
        self.reason.get().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_news_once_until_it_changes_or_comes_back() {
        let mut known = None;
        assert!(LastError::record(&mut known, "broker away", 1));
        assert!(!LastError::record(&mut known, "broker away", 2));
        assert!(LastError::record(&mut known, "no such topic", 3));
        assert!(LastError::pass(&mut known));
        assert!(!LastError::pass(&mut known));
        assert_eq!(LastError::current(&known), None);
        assert!(LastError::record(&mut known, "no such topic", 4));
        let known = known.unwrap();
        assert_eq!((known.count, known.wall_micros, known.passed), (4, 4, false));
    }
}
