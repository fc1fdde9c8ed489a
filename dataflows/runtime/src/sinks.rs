//! Writes a sink: the engine's closed epochs handed to a connector's writer, counted, errors remembered.

use std::sync::{Arc, Mutex, MutexGuard};

use highwater_connectors::sink::{Changes, SinkError, SinkWriter};
use highwater_engine::{Delta, EpochSink, Time};

use crate::clock::Clock;
use crate::status::LastError;

/// One sink of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkInfo {
    /// Its name.
    pub name: String,
    /// Its connector's name.
    pub connector: String,
    /// Changed rows written.
    pub rows: u64,
    /// The last epoch written; `None` before the first.
    pub epoch: Option<Time>,
    /// Closed epochs that wait to be published, of sinks that are.
    pub waiting_epochs: u64,
    /// What those have, in bytes.
    pub waiting_bytes: u64,
    /// The last error met.
    pub last_error: Option<LastError>,
}

/// A sink's entry, written by the worker that writes the sink, read by anyone.
#[derive(Debug)]
pub(crate) struct SinkStatus(Mutex<SinkInfo>);

impl SinkStatus {
    pub(crate) fn new(name: String, connector: String) -> Self {
        SinkStatus(Mutex::new(SinkInfo {
            name,
            connector,
            rows: 0,
            epoch: None,
            waiting_epochs: 0,
            waiting_bytes: 0,
            last_error: None,
        }))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, SinkInfo> {
        self.0.lock().expect("statuses are written without panicking")
    }
}

/// A connector's writer, as the engine sees it.
pub(crate) struct WriterSink {
    writer: Box<dyn SinkWriter>,
    job: String,
    status: Arc<SinkStatus>,
    clock: Arc<dyn Clock>,
}

impl WriterSink {
    pub(crate) fn new(writer: Box<dyn SinkWriter>, job: String, status: Arc<SinkStatus>, clock: Arc<dyn Clock>) -> Self {
        WriterSink { writer, job, status, clock }
    }

    fn note(&self, result: Result<(), SinkError>, doing: &str) -> Result<(), String> {
        let mut status = self.status.lock();
        let Err(error) = result else {
            LastError::pass(&mut status.last_error);
            return Ok(());
        };
        if LastError::record(&mut status.last_error, &error.message, self.clock.wall_micros()) {
            tracing::error!(job = self.job, sink = status.name, error = error.message, "{doing} a sink failed");
        }
        Err(format!("sink '{}': {}", status.name, error.message))
    }
}

impl EpochSink for WriterSink {
    fn write(&mut self, epoch: Time, changes: &[Delta]) -> Result<(), String> {
        let changes: Vec<Changes> =
            changes.iter().map(|delta| Changes { rows: delta.rows.clone(), diffs: delta.diffs.clone() }).collect();
        let result = self.writer.write(epoch, &changes);
        if result.is_ok() {
            let mut status = self.status.lock();
            status.rows += changes.iter().map(|changes| changes.rows.num_rows() as u64).sum::<u64>();
            status.epoch = Some(epoch);
        }
        self.note(result, "writing")
    }

    fn flush(&mut self) -> Result<(), String> {
        let result = self.writer.flush();
        self.note(result, "flushing")
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::Int64Array;

    use super::*;
    use crate::testing::{ManualClock, rows_at};

    struct Writer(Vec<(u64, Vec<i64>)>);

    impl SinkWriter for Writer {
        fn write(&mut self, epoch: u64, changes: &[Changes]) -> Result<(), SinkError> {
            if epoch == 3 {
                return Err(SinkError { message: "cannot write 'out': disk full".into() });
            }
            let diffs = changes.iter().flat_map(|changes| changes.diffs.as_ref().unwrap().values().to_vec()).collect();
            self.0.push((epoch, diffs));
            Ok(())
        }

        fn flush(&mut self) -> Result<(), SinkError> {
            Ok(())
        }
    }

    #[test]
    fn rows_and_errors_are_counted() {
        let status = Arc::new(SinkStatus::new("out".into(), "file".into()));
        let mut sink =
            WriterSink::new(Box::new(Writer(Vec::new())), "job".into(), Arc::clone(&status), Arc::new(ManualClock::default()));
        let delta = Delta::with_diffs(rows_at(&[Some(1), Some(2)]), Int64Array::from(vec![1, -1]));
        assert_eq!(sink.write(2, std::slice::from_ref(&delta)), Ok(()));
        assert_eq!(sink.write(3, &[delta]), Err("sink 'out': cannot write 'out': disk full".into()));
        let info = status.lock().clone();
        assert_eq!((info.rows, info.epoch), (2, Some(2)));
        assert_eq!(LastError::current(&info.last_error), Some("cannot write 'out': disk full"));
        assert_eq!(sink.flush(), Ok(()));
        assert_eq!(LastError::current(&status.lock().last_error), None);
    }
}
