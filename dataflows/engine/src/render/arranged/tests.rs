//! Whole jobs with a table that two views join: their views, their counters, and two of them in one engine.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::Int64Type;

use super::*;
use crate::arrangement::random::Random;
use crate::render::plans::{Plans, schema};
use crate::{
    Delta, Engine, EngineConfig, Feed, FeedBatch, FeedPoll, FeedSpec, FeedState, JobHandle, JobSpec, JobState, Place, Receipt,
    Time,
};

const TABLE: NodeId = 0;

type Updates = Vec<(Vec<i64>, i64)>;

/// `v`: stream `a` with columns 3 and 0 of the table, by projection; `w`: the table with stream `b`.
fn job() -> Job {
    let mut plans = Plans::new();
    let (table, a, b) = (plans.table("t", 4), plans.stream("a", 2), plans.stream("b", 2));
    let projected = plans.project(table, &[3, 0]);
    let v = plans.join([a, projected], &[(0, 1)], &[1, 2]);
    let w = plans.join([table, b], &[(0, 1)], &[1, 4]);
    plans.view("v", v);
    plans.view("w", w);
    plans.0
}

/// Gives its batches one after another, each in an epoch of its own if it can be; then finishes or goes on for ever.
struct Script {
    batches: VecDeque<Delta>,
    rests: bool,
    ends: bool,
    last: Option<Receipt>,
    place: Place,
}

impl Feed for Script {
    fn positions(&self) -> Vec<crate::PartitionPosition> {
        Vec::new()
    }

    fn poll(&mut self, _rows_max: usize) -> FeedPoll {
        self.rests = !self.rests;
        if !self.rests {
            return FeedPoll::Pending(Some(Duration::from_millis(1)));
        }
        let deltas: Vec<Delta> = self.batches.pop_front().into_iter().collect();
        let receipts = if self.batches.is_empty() { self.last.take() } else { None };
        if deltas.is_empty() && receipts.is_none() && !self.ends {
            return FeedPoll::Pending(None);
        }
        let place = self.place;
        self.place.number += deltas.iter().map(|delta| delta.len() as u64).sum::<u64>();
        let state = if self.ends && self.batches.is_empty() { FeedState::Finished } else { FeedState::Active(i64::MIN) };
        FeedPoll::Ready(FeedBatch { deltas, rejects: Vec::new(), state, receipts: receipts.into_iter().collect(), place })
    }
}

fn delta(columns: usize, updates: &[(Vec<i64>, i64)]) -> Delta {
    let column = |index: usize| -> ArrayRef { Arc::new(updates.iter().map(|(row, _)| row[index]).collect::<Int64Array>()) };
    let rows = RecordBatch::try_new(schema(columns), (0..columns).map(column).collect()).expect("columns fit");
    Delta::with_diffs(rows, updates.iter().map(|(_, diff)| *diff).collect())
}

/// Upserts of the table, then rows of the streams.
fn updates(random: &mut Random) -> [Updates; 3] {
    let rows = 50 + random.below(400);
    let mut row = |columns: usize| (0..columns).map(|_| random.below(40) as i64).collect::<Vec<_>>();
    let mut table: Updates = (0..rows).map(|_| (row(4), 1)).collect();
    let streams = [0, 1].map(|_| (0..rows).map(|_| (row(2), 1)).collect());
    table.iter_mut().filter(|_| random.one_in(5)).for_each(|(_, diff)| *diff = -1);
    let [a, b] = streams;
    [table, a, b]
}

/// A job, what is to be in its views, how many rows its table has, and the epochs of its feeds' last rows.
type Started = (JobHandle, [BTreeMap<Vec<i64>, i64>; 2], [usize; 2], Receiver<Time>);

fn start(engine: &Engine, seed: u64, ends: bool) -> Started {
    let mut random = Random::new(seed);
    let updates = updates(&mut random);
    let mut table: BTreeMap<i64, &Vec<i64>> = BTreeMap::new();
    for (row, diff) in &updates[0] {
        let _ = if *diff > 0 { table.insert(row[0], row) } else { table.remove(&row[0]) };
    }
    let mut views = [BTreeMap::new(), BTreeMap::new()];
    for (row, _) in &updates[1] {
        table.get(&row[0]).iter().for_each(|found| *views[0].entry(vec![row[1], found[3]]).or_default() += 1);
    }
    for (row, _) in &updates[2] {
        table.get(&row[1]).iter().for_each(|found| *views[1].entry(vec![found[1], row[0]]).or_default() += 1);
    }
    let sizes = [table.len(), updates[1].len()];
    let (sender, receiver) = channel();
    let feeds = updates.iter().enumerate().map(|(source, updates)| {
        let columns = updates[0].0.len();
        let batches = updates.chunks(1 + random.below(40) as usize).map(|updates| delta(columns, updates)).collect();
        let sender = sender.clone();
        let last: Receipt = Box::new(move |epoch| sender.send(epoch).expect("the test waits"));
        let feed = Box::new(Script { batches, rests: false, ends, last: Some(last), place: Place::default() });
        FeedSpec { source, worker: source, bounded: ends, feed }
    });
    let spec = JobSpec {
        name: format!("job {seed}"),
        job: Arc::new(job()),
        feeds: feeds.collect(),
        sinks: Vec::new(),
        until_end: false,
        checkpoints: false,
        restore: None,
        script: Default::default(),
        recorder: None,
        excerpt: None,
    };
    (engine.create(spec).expect("the engine runs"), views, sizes, receiver)
}

/// Waits until the job has closed an epoch or is in a state.
fn wait(job: &JobHandle, until: impl Fn(Time, &JobState) -> bool) {
    let (sender, receiver) = channel();
    job.listen(move |closed, state| drop(sender.send((closed, state.clone()))));
    let mut now = (job.closed(), job.state());
    while !until(now.0, &now.1) {
        now = receiver.recv_timeout(Duration::from_secs(60)).expect("the job goes on");
    }
}

fn check(job: &JobHandle, expected: &[BTreeMap<Vec<i64>, i64>; 2], [table, stream]: [usize; 2], workers: usize) {
    for (name, expected) in ["v", "w"].iter().zip(expected) {
        let mut content: BTreeMap<Vec<i64>, i64> = BTreeMap::new();
        let view = job.view(name).expect("the job has the view");
        for batch in view.read(job.closed(), &[], None).expect("the epoch is readable") {
            for row in 0..batch.num_rows() {
                let row = batch.columns().iter().map(|column| column.as_primitive::<Int64Type>().value(row)).collect();
                *content.entry(row).or_default() += 1;
            }
        }
        assert_eq!(content, *expected, "{} {name}", job.name());
    }
    let operators = job.stats().operators();
    let named = |name: &str| operators.iter().filter(|stats| stats.name == name).cloned().collect::<Vec<_>>();
    let arrangements = named("arrangement");
    assert_eq!(arrangements.len(), workers, "one arrangement");
    assert!(arrangements.iter().all(|stats| stats.node == TABLE));
    let state = |name: &str| named(name).iter().map(|stats| stats.state_rows.load(Ordering::Relaxed) as usize).sum::<usize>();
    assert!(state("arrangement") >= table);
    assert_eq!(state("join"), 2 * stream, "the joins keep the streams");
    assert_eq!(named("map").len(), 0, "the projection is seen through");
}

#[test]
fn jobs_share_tables_side_by_side_and_are_dropped() {
    for seed in 0..9 {
        let workers = [1, 2, 4][seed as usize % 3];
        let engine = Engine::start(EngineConfig { workers }).expect("the engine starts");
        let (endless, views, sizes, lasts) = start(&engine, seed, false);
        let (ending, other_views, other_sizes, _other_lasts) = start(&engine, seed + 100, true);
        wait(&ending, |_, state| *state == JobState::Finished);
        check(&ending, &other_views, other_sizes, workers);
        let last = (0..3).map(|_| lasts.recv_timeout(Duration::from_secs(60)).expect("the feeds are read")).max();
        wait(&endless, |closed, _| Some(closed) >= last);
        check(&endless, &views, sizes, workers);
        engine.drop_job(endless.id()).expect("the engine runs");
        wait(&endless, |_, state| *state == JobState::Dropped);
        let (again, views, sizes, _lasts) = start(&engine, seed + 200, true);
        wait(&again, |_, state| *state == JobState::Finished);
        check(&again, &views, sizes, workers);
        engine.shutdown();
    }
}
