//! Views that are given back with their groups.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::Int64Type;
use highwater_plan::{Job, StateBound};

use crate::checkpoint::{Arriving, Checkpoint, OperatorId, OperatorState, Restore, TableState};
use crate::parallel::ROWS_APART;
use crate::render::plans::{Plans, schema};
use crate::{
    Delta, Engine, EngineConfig, Feed, FeedBatch, FeedPoll, FeedSpec, FeedState, JobHandle, JobSpec, JobState, kept_operators,
};

/// More than what is given back where it is.
const ROWS: i64 = ROWS_APART as i64 + 100;

/// The largest value of each of three groups.
fn largest() -> Job {
    let mut plans = Plans::new();
    let rows = plans.table("t", 3);
    let groups = plans.max(rows, &[1], 2);
    plans.view("v", groups);
    plans.0.views[0].key = vec![0];
    plans.0
}

fn is_derived(job: Job) -> BTreeMap<String, bool> {
    let kept = kept_operators(&Arc::new(job)).expect("a thread can be started");
    kept.into_iter().map(|kept| (kept.operator.name, kept.derived)).collect()
}

#[test]
fn only_views_of_groups_that_stay_are() {
    let of = |job: Job| is_derived(job)["view v"];
    assert!(of(largest()));
    assert_eq!(is_derived(largest()).values().filter(|derived| **derived).count(), 1, "nothing but the view is");
    let mut by_all = largest();
    by_all.views[0].key = vec![0, 1];
    assert!(!of(by_all), "its rows are at other workers than the groups");
    let mut expiring = largest();
    expiring.settings.state_ttl = Some(Duration::from_secs(60));
    expiring.plan.nodes[1].properties.state = StateBound::Keys;
    assert!(!of(expiring), "groups are forgotten, and the view is not");
    let mut plans = Plans::new();
    let rows = plans.table("t", 3);
    let groups = plans.max(rows, &[1], 2);
    let some = plans.filter(groups, 1);
    plans.view("v", some);
    plans.0.views[0].key = vec![0];
    assert!(!of(plans.0), "it shows some of the groups");
    let mut plans = Plans::new();
    let rows = plans.table("t", 3);
    let all = plans.max(rows, &[], 2);
    plans.view("v", all);
    assert!(!of(plans.0), "there is a row without rows");
}

/// Gives what is sent to it.
struct Sent(Receiver<RecordBatch>);

impl Feed for Sent {
    fn positions(&self) -> Vec<crate::PartitionPosition> {
        Vec::new()
    }

    fn poll(&mut self, _rows_max: usize) -> FeedPoll {
        let Ok(rows) = self.0.try_recv() else { return FeedPoll::Pending(Some(Duration::from_millis(1))) };
        let (deltas, state) = (vec![Delta::insert(rows)], FeedState::Active(i64::MIN));
        FeedPoll::Ready(FeedBatch { deltas, rejects: Vec::new(), state, receipts: Vec::new(), place: Default::default() })
    }
}

/// The job, which reads what is sent to it.
fn spec(restore: Option<Restore>) -> (JobSpec, Sender<RecordBatch>) {
    let (sender, values) = channel();
    let spec = JobSpec {
        name: "job".into(),
        job: Arc::new(largest()),
        feeds: vec![FeedSpec { source: 0, worker: 0, bounded: false, feed: Box::new(Sent(values)) }],
        sinks: Vec::new(),
        until_end: false,
        checkpoints: true,
        restore,
        script: Default::default(),
        recorder: None,
        excerpt: None,
    };
    (spec, sender)
}

/// A job that goes on from a state; of what is given to it, if anything, the view shows so many rows in the end.
fn run(workers: usize, restore: Option<Restore>, given: Option<RecordBatch>, groups: usize) -> (Vec<(i64, i64)>, Checkpoint) {
    let engine = Engine::start(EngineConfig { workers }).expect("threads can be started");
    let (spec, sender) = spec(restore);
    let job = engine.create(spec).expect("the engine runs");
    given.into_iter().for_each(|rows| sender.send(rows).expect("the feed is polled"));
    wait_for(&job, groups);
    let (gives, taken) = channel();
    job.checkpoint(Box::new(move |checkpoint| drop(gives.send(checkpoint))));
    let saved = taken.recv_timeout(Duration::from_secs(60)).expect("it is saved").expect("it can be saved");
    let rows = std::iter::repeat_with(|| content(&job)).flatten().next().expect("it goes on until there are some");
    engine.shutdown();
    (rows, saved)
}

/// Until the view shows so many rows.
fn wait_for(job: &JobHandle, groups: usize) {
    let (tells, told) = channel();
    job.listen(move |_, _| _ = tells.send(()));
    while content(job).is_none_or(|rows| rows.len() != groups) {
        told.recv_timeout(Duration::from_secs(60)).expect("the job goes on");
    }
}

/// What the view shows; `None` if it is further by now.
fn content(job: &JobHandle) -> Option<Vec<(i64, i64)>> {
    let view = job.view("v").expect("the job has the view");
    let batches = view.read(job.closed(), &[], None).ok()?;
    let column = |column: usize| -> Vec<i64> {
        batches.iter().flat_map(|batch| batch.column(column).as_primitive::<Int64Type>().values().to_vec()).collect()
    };
    let mut rows: Vec<(i64, i64)> = column(0).into_iter().zip(column(1)).collect();
    rows.sort_unstable();
    Some(rows)
}

fn rows(ids: std::ops::Range<i64>, group: fn(i64) -> i64) -> RecordBatch {
    let column = |of: fn(i64) -> i64| Arc::new(Int64Array::from_iter_values(ids.clone().map(of))) as ArrayRef;
    RecordBatch::try_new(schema(3), vec![column(|id| id), column(group), column(|id| id * 10)]).expect("three columns")
}

#[test]
fn what_they_saved_is_not_needed() {
    let (had, mut saved) = run(1, None, Some(rows(0..ROWS, |id| id % 3)), 3);
    let largest = |group: i64| (0..ROWS).filter(|id| id % 3 == group).max().expect("each group has rows") * 10;
    assert_eq!(had, [0, 1, 2].map(|group| (group, largest(group))));
    let is_view = |state: &OperatorState| state.operator.name == "view v";
    assert!(saved.states.iter().any(is_view), "it is saved all the same");
    saved.states.retain(|state| !is_view(state));
    let kept = kept_operators(&Arc::new(self::largest())).expect("a thread can be started");
    for workers in [1, 2, 3] {
        let restore = || Restore::new(std::slice::from_ref(&saved), workers, &kept);
        let (back, _) = run(workers, restore(), None, 3);
        assert_eq!(back, had, "{workers} workers");
        // Its groups go on from there: the row that a group had is taken back. One group is new.
        let (after, changes) = run(workers, restore(), Some(rows(ROWS..ROWS + 2, |id| if id == ROWS { 0 } else { 7 })), 4);
        assert_eq!(after, [(0, ROWS * 10), had[1], had[2], (7, (ROWS + 1) * 10)], "{workers} workers");
        let views = changes.states.iter().filter(|state| is_view(state)).flat_map(|state| &state.tables);
        let changed: usize = views.flat_map(|table| &table.changes).map(Delta::len).sum();
        assert_eq!(changed, 3, "what it was given back is no change");
    }
}

/// The tables of a checkpoint, those of the aggregate first.
fn tables(saved: &Checkpoint) -> Vec<(OperatorId, Vec<TableState>)> {
    let of = |state: &OperatorState| state.tables.iter().map(|table| (state.operator.clone(), vec![table.clone()])).collect();
    let mut tables: Vec<_> = saved.states.iter().flat_map(|state| -> Vec<_> { of(state) }).collect();
    tables.sort_by_key(|(operator, _)| operator.name != "aggregate");
    tables
}

fn awaiting(saved: &Checkpoint) -> (Restore, Arriving) {
    let expected = tables(saved).into_iter().map(|(operator, changes)| (operator, changes[0].table));
    let (restore, arriving) = Restore::awaiting(expected);
    (restore.as_of(saved.epoch, saved.positions.clone(), saved.clock.clone()), arriving)
}

/// How many rows operators of this name have, on all workers.
fn rows_of(job: &JobHandle, name: &str) -> u64 {
    let operators = job.stats().operators();
    operators.iter().filter(|stats| stats.name == name).map(|stats| stats.state_rows.load(Ordering::Relaxed)).sum()
}

#[test]
fn operators_load_while_tables_of_others_are_to_come_and_no_epoch_is_opened_before() {
    let (had, saved) = run(1, None, Some(rows(0..ROWS, |id| id % 3)), 3);
    let kept = kept_operators(&Arc::new(largest())).expect("a thread can be started");
    for workers in [1, 2, 3] {
        let engine = Engine::start(EngineConfig { workers }).expect("threads can be started");
        let (restore, arriving) = awaiting(&saved);
        let job = engine.create(spec(Some(restore)).0).expect("the engine runs");
        let end = Instant::now() + Duration::from_secs(60);
        let come = tables(&saved).into_iter().enumerate().map(|(number, table)| {
            while number == 1 && rows_of(&job, "aggregate") == 0 {
                assert!(Instant::now() < end, "it does not load");
                std::thread::yield_now();
            }
            assert!(!job.has_begun() && job.closed() == 0 && rows_of(&job, "table t") == 0, "{number}");
            Ok::<_, Infallible>(table)
        });
        arriving.fill(come, workers, &kept).unwrap_or_else(|never| match never {});
        wait_for(&job, 3);
        assert!(job.has_begun());
        assert_eq!((content(&job).unwrap(), rows_of(&job, "table t")), (had.clone(), ROWS as u64), "{workers} workers");
        engine.shutdown();
    }
}

#[test]
fn a_job_that_is_not_given_all_never_begins_and_can_be_dropped() {
    let (_, saved) = run(1, None, Some(rows(0..ROWS, |id| id % 3)), 3);
    let engine = Engine::start(EngineConfig { workers: 2 }).expect("threads can be started");
    let (restore, arriving) = awaiting(&saved);
    let job = engine.create(spec(Some(restore)).0).expect("the engine runs");
    let (tells, told) = channel();
    job.listen(move |_, state| _ = tells.send(state.clone()));
    let broken = tables(&saved).into_iter().take(1).map(Ok).chain([Err("the file ends here")]);
    assert_eq!(arriving.fill(broken, 2, &[]), Err("the file ends here"));
    assert!(!job.has_begun());
    engine.drop_job(job.id()).unwrap();
    assert_eq!(told.recv_timeout(Duration::from_secs(60)), Ok(JobState::Dropped));
    assert_eq!(job.closed(), 0);
    engine.shutdown();
}
