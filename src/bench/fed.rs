//! A job that runs while a benchmark feeds it.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use highwater_connectors::Registry;
use highwater_connectors::source::Receipt;
use highwater_engine::JobState;
use highwater_runtime::{CheckpointConfig, CreateOptions, RunningJob, Runtime, RuntimeConfig};

use super::BenchError;
use super::memory::{Fed, Prepared};

/// A running job whose `http` sources take what the benchmark gives.
pub(super) struct FedJob {
    runtime: Arc<Runtime>,
    job: Arc<RunningJob>,
    fed: Fed,
}

impl FedJob {
    /// Compiles and starts a job.
    pub(super) fn create(sql: &str, workers: usize) -> Result<Self, BenchError> {
        Self::create_kept(sql, workers, None)
    }

    /// As [`FedJob::create`], with checkpoints: a job that was there goes on.
    pub(super) fn create_kept(sql: &str, workers: usize, checkpoints: Option<CheckpointConfig>) -> Result<Self, BenchError> {
        let fed = Fed::default();
        let mut registry = Registry::default();
        registry.add_source(Arc::new(fed.clone()));
        let runtime = Runtime::start(RuntimeConfig { workers, registry, checkpoints }).map_err(failed)?;
        let job = crate::app::compile(sql).map_err(failed)?;
        let job = runtime.create("bench", sql, job, CreateOptions::default()).map_err(failed)?;
        Ok(FedJob { runtime, job, fed })
    }

    /// Gives batches and waits until the views show them.
    pub(super) fn give<'a>(&self, batches: impl Iterator<Item = (&'a str, Prepared)>) -> Result<(), BenchError> {
        let (sender, receiver) = channel();
        for (source, batch) in batches {
            let sender = sender.clone();
            let done = Receipt(Box::new(move |epoch| {
                let _ = sender.send(epoch);
            }));
            self.fed.give(source, batch, done);
        }
        drop(sender);
        let mut epoch = None;
        // What a failed job has not read by then, it never takes.
        while self.job.state() == JobState::Running {
            match receiver.recv_timeout(Duration::from_secs(1)) {
                Ok(taken) => epoch = epoch.max(Some(taken)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        let epoch = epoch.ok_or_else(|| BenchError(format!("the job took no rows: {:?}", self.job.state())))?;
        let closed = self.job.wait_closed(epoch, Duration::from_secs(600));
        if closed < epoch {
            return Err(BenchError(format!("the job did not get to epoch {epoch}: {:?}", self.job.state())));
        }
        Ok(())
    }

    /// The job.
    pub(super) fn job(&self) -> &RunningJob {
        &self.job
    }

    /// How many rows a view has that is readable now.
    pub(super) fn rows(&self, view: &str) -> Result<usize, BenchError> {
        let read = self.job.read_view(view, None, Duration::from_secs(60), &[], None).map_err(failed)?;
        Ok(read.batches.iter().map(|batch| batch.num_rows()).sum())
    }

    /// The job's counters.
    pub(super) fn stats(&self) -> &Arc<highwater_engine::JobStats> {
        self.job.handle().stats()
    }

    /// Ends the job and what runs it.
    pub(super) fn shutdown(&self) {
        self.runtime.shutdown();
    }
}

fn failed(error: impl std::fmt::Debug) -> BenchError {
    BenchError(format!("{error:?}"))
}
