//! A panic in one job: that job fails and says where, all others go on.

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Int64Type};
use highwater_plan::{EvalError, Expr, Job, Op, Scalar};

use crate::render::plans::{Plans, schema};
use crate::{Delta, Engine, EngineConfig, Feed, FeedBatch, FeedPoll, FeedSpec, FeedState, JobHandle, JobSpec, JobState, Time};

/// True of every row, but 7 it cannot stand.
#[derive(Debug)]
struct NotSeven;

impl Scalar for NotSeven {
    fn evaluate(&self, batch: &RecordBatch) -> Result<ArrayRef, EvalError> {
        let values = batch.column(0).as_primitive::<Int64Type>();
        assert!(values.iter().all(|value| value != Some(7)), "there is a seven");
        Ok(Arc::new(BooleanArray::from(vec![true; batch.num_rows()])))
    }
}

impl fmt::Display for NotSeven {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not_seven(#0)")
    }
}

fn not_seven() -> Expr {
    let scalar = Arc::new(NotSeven);
    Expr { scalar, data_type: DataType::Boolean, nullable: false, columns: vec![0], fallible: false, span: None }
}

/// A filter that panics.
fn filtering() -> Job {
    let mut plans = Plans::new();
    let stream = plans.stream("s", 1);
    let node = plans.filter(stream, 0);
    if let Op::Map(map) = &mut plans.0.plan.nodes[node].op {
        map.filters = vec![not_seven()];
    }
    plans.view("v", node);
    plans.0
}

/// A join whose condition panics.
fn joining() -> Job {
    let mut plans = Plans::new();
    let (a, b) = (plans.stream("s", 1), plans.stream("t", 1));
    let node = plans.join([a, b], &[(0, 0)], &[0]);
    if let Op::Join(join) = &mut plans.0.plan.nodes[node].op {
        join.map.filters = vec![not_seven()];
    }
    plans.view("v", node);
    plans.0
}

/// A plan that cannot be built: its filter reads an operator that is not there.
fn unbuilt() -> Job {
    let mut job = filtering();
    job.plan.nodes[1].inputs = vec![99];
    job
}

/// Gives the values that are sent to it, each in a batch of its own; on one of them it panics.
struct Sent {
    values: Receiver<i64>,
    panics_on: i64,
}

impl Feed for Sent {
    fn positions(&self) -> Vec<crate::PartitionPosition> {
        Vec::new()
    }

    fn poll(&mut self, _rows_max: usize) -> FeedPoll {
        let Ok(value) = self.values.try_recv() else { return FeedPoll::Pending(Some(Duration::from_millis(1))) };
        assert!(value != self.panics_on, "the feed does not like {value}");
        let rows = RecordBatch::try_new(schema(1), vec![Arc::new(Int64Array::from(vec![value]))]).expect("one column");
        let deltas = vec![Delta::insert(rows)];
        let (state, place) = (FeedState::Active(i64::MIN), Default::default());
        FeedPoll::Ready(FeedBatch { deltas, rejects: Vec::new(), state, receipts: Vec::new(), place })
    }
}

/// A job with a feed per source, each on another worker, and the other ends of the feeds.
fn start(engine: &Engine, job: Job, panics_on: i64) -> (JobHandle, Vec<Sender<i64>>) {
    let (senders, feeds) = (0..job.sources.len())
        .map(|source| {
            let (sender, values) = channel();
            (sender, FeedSpec { source, worker: source + 1, bounded: false, feed: Box::new(Sent { values, panics_on }) as _ })
        })
        .unzip();
    let spec = JobSpec {
        name: "job".into(),
        job: Arc::new(job),
        feeds,
        sinks: Vec::new(),
        until_end: false,
        checkpoints: false,
        restore: None,
        script: Default::default(),
        recorder: None,
        excerpt: None,
    };
    (engine.create(spec).expect("the engine runs"), senders)
}

fn wait(job: &JobHandle, until: impl Fn(Time, &JobState) -> bool) -> JobState {
    let (sender, receiver) = channel();
    job.listen(move |closed, state| drop(sender.send((closed, state.clone()))));
    let mut now = (job.closed(), job.state());
    while !until(now.0, &now.1) {
        now = receiver.recv_timeout(Duration::from_secs(60)).expect("the job goes on");
    }
    now.1
}

fn content(job: &JobHandle) -> Vec<i64> {
    let view = job.view("v").expect("the job has the view");
    let batches = view.read(job.closed(), &[], None).expect("the epoch is readable");
    let values = |batch: &RecordBatch| batch.column(0).as_primitive::<Int64Type>().values().to_vec();
    let mut all: Vec<i64> = batches.iter().filter(|batch| !batch.column(0).is_empty()).flat_map(values).collect();
    all.sort_unstable();
    all
}

/// Why a job fails to which these values are sent, beside one that goes on.
fn failure(job: fn() -> Job, values: &[i64], panics_on: i64, workers: usize) -> String {
    let engine = Engine::start(EngineConfig { workers }).expect("threads can be started");
    let (beside, beside_feeds) = start(&engine, filtering(), -1);
    beside_feeds[0].send(1).expect("the feed is polled");
    wait(&beside, |_, state| content(&beside) == [1] || *state != JobState::Running);

    let (failing, feeds) = start(&engine, job(), panics_on);
    for value in values {
        // The last feed may be gone with the job.
        feeds.iter().for_each(|feed| _ = feed.send(*value));
    }
    let state = wait(&failing, |_, state| *state != JobState::Running);
    let JobState::Failed(why) = state else { panic!("the job is {state:?}") };
    assert!(!content(&failing).contains(&7), "nothing of the epoch is shown");

    beside_feeds[0].send(2).expect("the feed is polled");
    wait(&beside, |_, state| content(&beside) == [1, 2] || *state != JobState::Running);
    assert_eq!(beside.state(), JobState::Running);
    engine.drop_job(failing.id()).expect("the engine runs");

    let (after, feeds) = start(&engine, joining(), -1);
    feeds.iter().for_each(|feed| feed.send(5).expect("the feed is polled"));
    wait(&after, |_, state| content(&after) == [5] || *state != JobState::Running);
    assert_eq!(after.state(), JobState::Running);
    engine.shutdown();
    why
}

#[test]
fn a_panic_fails_its_job_alone() {
    for workers in [1, 2, 4] {
        let why = failure(filtering, &[1, 7, 2], -1, workers);
        assert!(why.starts_with("operator 'map' @1 panicked: there is a seven"), "{why}");
        let why = failure(joining, &[1, 7, 2], -1, workers);
        assert!(why.starts_with("operator 'join' @2 panicked: there is a seven"), "{why}");
        let why = failure(filtering, &[1, 8], 8, workers);
        assert!(why.starts_with("the ingestion panicked: the feed does not like 8"), "{why}");
        let why = failure(unbuilt, &[], -1, workers);
        assert!(why.starts_with("building the dataflow panicked: index out of bounds"), "{why}");
    }
}
