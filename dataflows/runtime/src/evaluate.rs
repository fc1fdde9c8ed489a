//! Evaluates a job that ends over rows that are at hand: a query that is asked once.
//!
//! It is a job like any other, on the same workers, for as long as it takes; but nobody else sees it. Its rows come in
//! epochs of some size, so that a large question does not keep a worker from its jobs for longer than one of these takes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, AsArray};
use arrow::datatypes::Int64Type;
use arrow::record_batch::RecordBatch;
use highwater_engine::{
    Delta, Feed, FeedBatch, FeedPoll, FeedSpec, FeedState, JobSpec, JobState, PartitionPosition, Place, Time, ViewHandle,
};
use highwater_plan::{Job, Op, OutputNames};

use crate::dropped::Dropped;
use crate::jobs::Runtime;
use crate::signal::Signal;

/// Rows handed over at once.
const BATCH_ROWS: usize = 8_192;

/// What a job gave.
#[derive(Debug, Clone)]
pub struct Evaluated {
    /// The rows of its first view.
    pub rows: Vec<RecordBatch>,
}

/// A job gave nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvaluateError {
    /// An expression failed on a row, or the like.
    #[error("{0}")]
    Failed(String),
    /// It took too long.
    #[error("not done after {} ms", .0.as_millis())]
    TimedOut(Duration),
    /// It gives more rows than are allowed.
    #[error("{rows} rows, of which {allowed} are allowed")]
    TooManyRows {
        /// What it gives.
        rows: u64,
        /// What is allowed.
        allowed: u64,
    },
    /// The workers are gone.
    #[error("{0}")]
    Engine(String),
}

impl Runtime {
    /// The sources of a job that some operator reads.
    pub fn sources_read(job: &Job) -> Vec<usize> {
        let read = job.plan.nodes.iter().filter_map(|node| match &node.op {
            Op::Source { source, .. } => Some(*source),
            _ => None,
        });
        let mut read: Vec<usize> = read.collect();
        read.sort_unstable();
        read.dedup();
        read
    }

    /// Runs `job` over these rows, which stand for its sources (all physical columns; sources that have none are empty), and
    /// gives the rows of its first view.
    ///
    /// Blocks for `timeout` at most. Not to be called from a listener, which runs on a worker.
    pub fn evaluate(
        &self,
        job: Job,
        inputs: Vec<(usize, Vec<RecordBatch>)>,
        rows_max: u64,
        timeout: Duration,
    ) -> Result<Evaluated, EvaluateError> {
        let workers = self.workers();
        let mut feeds = Vec::new();
        for (source, declared) in job.sources.iter().enumerate() {
            let mut shares: Vec<VecDeque<RecordBatch>> = vec![VecDeque::new(); workers];
            let batches = inputs.iter().filter(|(input, _)| *input == source).flat_map(|(_, batches)| batches);
            let slices = batches.flat_map(|batch| {
                let starts = (0..batch.num_rows()).step_by(BATCH_ROWS);
                starts.map(|start| batch.slice(start, BATCH_ROWS.min(batch.num_rows() - start)))
            });
            for (index, slice) in slices.enumerate() {
                let used = slice.project(&declared.used).map_err(|error| EvaluateError::Engine(error.to_string()))?;
                shares[index % workers].push_back(used);
            }
            for (worker, share) in shares.into_iter().enumerate() {
                feeds.push(FeedSpec { source, worker, bounded: true, feed: Box::new(Share { batches: share, finished: false }) });
            }
        }
        let Some(view) = job.views.first().map(|view| view.name.clone()) else {
            return Err(EvaluateError::Engine("the job has no view".into()));
        };
        let spec = JobSpec {
            name: "query".into(),
            job: Arc::new(job),
            feeds,
            sinks: Vec::new(),
            until_end: true,
            checkpoints: false,
            restore: None,
            script: Default::default(),
            recorder: None,
            excerpt: None,
        };
        let engine = self.engine();
        let handle = engine.create(spec).map_err(|error| EvaluateError::Engine(error.to_string()))?;
        let _dropped = Dropped { engine, id: handle.id() };
        let signal = Arc::new(Signal::default());
        let told = Arc::clone(&signal);
        handle.listen(move |_, _| told.notify());
        let began = std::time::Instant::now();
        let over = || (handle.state() != JobState::Running).then_some(());
        signal.wait(over, || Some(timeout.saturating_sub(began.elapsed())));
        match handle.state() {
            JobState::Finished => {}
            JobState::Failed(reason) => return Err(EvaluateError::Failed(reason)),
            JobState::Running => return Err(EvaluateError::TimedOut(timeout)),
            JobState::Dropped => return Err(EvaluateError::Engine("the workers have stopped".into())),
        }
        if let Some(failure) = handle.view(&OutputNames::errors(&view)).and_then(|errors| first_error(errors, handle.closed())) {
            return Err(EvaluateError::Failed(failure));
        }
        let view = handle.view(&view).expect("every view of a job has a handle");
        if view.rows() > rows_max {
            return Err(EvaluateError::TooManyRows { rows: view.rows(), allowed: rows_max });
        }
        let read = view.read(handle.closed(), &[], None);
        let rows = read.map_err(|_| EvaluateError::Engine("the answer was compacted away".into()))?;
        Ok(Evaluated { rows })
    }
}

/// What is said of the first row that could not be computed.
fn first_error(errors: &ViewHandle, closed: Time) -> Option<String> {
    let found = errors.read(closed, &[], Some(1)).ok()?;
    let row = found.iter().find(|rows| rows.num_rows() > 0)?;
    let text = |name: &str| row.column_by_name(name).map(|column| column.as_string::<i32>().value(0)).unwrap_or_default();
    let number = |name: &str| {
        let column = row.column_by_name(name)?.as_primitive::<Int64Type>();
        column.is_valid(0).then(|| column.value(0))
    };
    let place = number("line").zip(number("column")).map_or(String::new(), |(line, column)| format!(" at {line}:{column}"));
    Some(format!("{} in {}{place}, row {}", text("message"), text("operator"), text("row")))
}

/// One worker's share of a source's rows.
struct Share {
    batches: VecDeque<RecordBatch>,
    finished: bool,
}

impl Feed for Share {
    /// A query is over before anybody could ask.
    fn positions(&self) -> Vec<PartitionPosition> {
        Vec::new()
    }

    fn poll(&mut self, rows_max: usize) -> FeedPoll {
        if self.finished {
            return FeedPoll::Pending(None);
        }
        let mut deltas = Vec::new();
        let mut rows = 0;
        while let Some(batch) = self.batches.front()
            && (rows == 0 || rows + batch.num_rows() <= rows_max)
        {
            rows += batch.num_rows();
            deltas.extend(self.batches.pop_front().map(Delta::insert));
        }
        self.finished = self.batches.is_empty();
        let state = if self.finished { FeedState::Finished } else { FeedState::Active(i64::MIN) };
        FeedPoll::Ready(FeedBatch { deltas, rejects: Vec::new(), state, receipts: Vec::new(), place: Place::default() })
    }
}
