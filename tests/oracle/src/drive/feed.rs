//! Feeds that follow a script, and the stage that they share with the driver.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use arrow::array::{Int64Array, UInt32Array};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use highwater_engine::{Delta, Feed, FeedBatch, FeedPoll, FeedState, OriginRows, PartitionPosition, Place, Receipt, Time};
use highwater_plan::{Origin, Source};

use crate::history::{used, watermark_of};
use crate::script::{Batch, FeedScript, Script};
use crate::value::{Row, batch_of};

/// What driver and feeds share.
#[derive(Debug)]
pub(super) struct Stage {
    state: Mutex<State>,
    condition: Condvar,
    /// Per feed and batch its step.
    steps: BTreeMap<(usize, usize), usize>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    /// Steps before this one may be given.
    open: usize,
    /// How often something has happened that those who wait may wait for.
    told: u64,
    /// The epoch of each feed's batches.
    pub(super) receipts: BTreeMap<(usize, usize), Time>,
    /// Feeds of a restored job that have not said again what they are, and the last epoch in which one did.
    silent: usize,
    said: Time,
}

impl Stage {
    pub(super) fn new(script: &Script) -> Self {
        let mut steps = BTreeMap::new();
        for (index, feed) in script.feeds.iter().enumerate() {
            let batches = feed.batches.iter().enumerate();
            steps.extend(batches.map(|(number, batch)| ((index, number), batch.step)));
            if script.finishes && (!feed.ends_with_rows || feed.batches.is_empty()) {
                steps.insert((index, feed.batches.len()), script.steps());
            }
        }
        Stage { state: Mutex::default(), condition: Condvar::default(), steps }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics under this lock")
    }

    pub(super) fn open(&self, steps: usize) {
        self.state().open = steps;
    }

    /// The last epoch of the steps before `steps`, if all that belongs to them was taken.
    pub(super) fn taken(&self, steps: usize) -> Option<Time> {
        let state = self.state();
        let wanted = self.steps.iter().filter(|(_, step)| **step < steps);
        let epochs: Option<Vec<Time>> = wanted.map(|(batch, _)| state.receipts.get(batch).copied()).collect();
        epochs.map(|epochs| epochs.into_iter().max().unwrap_or(1))
    }

    /// The epoch in which the last feed of a restored job said again what it is, if all have.
    pub(super) fn restated(&self) -> Option<Time> {
        let state = self.state();
        (state.silent == 0).then_some(state.said)
    }

    /// Wakes those who wait.
    pub(super) fn tell(&self) {
        self.state().told += 1;
        self.condition.notify_all();
    }

    /// Waits until `done`; false if that took longer than `patience`.
    pub(super) fn wait(&self, patience: Duration, done: impl Fn() -> bool) -> bool {
        // Each time nothing was told for this long, it is looked again all the same.
        const LOOK: Duration = Duration::from_millis(250);
        let mut silent = Duration::ZERO;
        loop {
            let told = self.state().told;
            if done() {
                return true;
            }
            if silent >= patience {
                return false;
            }
            let waited = self.condition.wait_timeout_while(self.state(), LOOK, |state| state.told == told);
            let timed_out = waited.expect("nothing panics under this lock").1.timed_out();
            silent = if timed_out { silent + LOOK } else { Duration::ZERO };
        }
    }
}

/// Where a feed stands in its script.
#[derive(Debug, Clone)]
pub(super) struct Position {
    next: usize,
    given: u64,
    watermark: i64,
    said: Option<FeedState>,
}

impl Default for Position {
    fn default() -> Self {
        Position { next: 0, given: 0, watermark: i64::MIN, said: None }
    }
}

impl FromStr for Position {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let words: Vec<&str> = text.split(' ').collect();
        let [next, given, watermark, said] = words[..] else { return Err(()) };
        let watermark = watermark.parse().map_err(drop)?;
        let said = match said {
            "active" => Some(FeedState::Active(watermark)),
            "idle" => Some(FeedState::Idle(watermark)),
            "finished" => Some(FeedState::Finished),
            _ => None,
        };
        Ok(Position { next: next.parse().map_err(drop)?, given: given.parse().map_err(drop)?, watermark, said })
    }
}

/// A feed that gives the batches of a script.
pub(super) struct ScriptedFeed {
    index: usize,
    source: usize,
    declared: Source,
    batches: Vec<Batch>,
    finishes: bool,
    ends_with_rows: bool,
    /// The step of the batch that only says that the feed has finished.
    last_step: usize,
    next: usize,
    watermark: i64,
    /// Rows given so far.
    given: u64,
    /// The rest of the round is for others.
    pause: bool,
    /// What it said of itself last.
    said: Option<FeedState>,
    /// It was restored and has not said that again.
    restored: bool,
    stage: Arc<Stage>,
}

impl ScriptedFeed {
    pub(super) fn new(
        index: usize,
        feed: &FeedScript,
        declared: &Source,
        source: usize,
        script: &Script,
        stage: Arc<Stage>,
        position: Option<Position>,
    ) -> Self {
        let Position { next, given, watermark, said } = position.clone().unwrap_or_default();
        let restored = position.is_some() && said.is_some();
        stage.state().silent += usize::from(restored);
        ScriptedFeed {
            index,
            source,
            declared: declared.clone(),
            batches: feed.batches.clone(),
            finishes: script.finishes,
            ends_with_rows: feed.ends_with_rows && !feed.batches.is_empty(),
            last_step: script.steps(),
            next,
            watermark,
            given,
            pause: false,
            said,
            restored,
            stage,
        }
    }

    fn delta(&self, rows: &[(Row, i64)]) -> Delta {
        let physical: Vec<Row> = rows.iter().map(|(row, _)| row.clone()).collect();
        let pruned: Vec<Row> = physical.iter().map(|row| used(&self.declared, row)).collect();
        let schema = self.declared.schema.project(&self.declared.used).expect("used columns are columns of the source");
        let mut delta = Delta::insert(batch_of(&schema.into(), &pruned).expect("a script's rows fit their source"));
        if rows.iter().any(|(_, diff)| *diff != 1) {
            delta.diffs = Some(Int64Array::from_iter_values(rows.iter().map(|(_, diff)| *diff)));
        }
        if self.declared.keeps_late_rows {
            let whole = batch_of(&self.declared.schema, &physical).expect("a script's rows fit their source");
            delta.origin = Some(OriginRows { source: self.source, origin: Arc::new(Whole(whole)), rows: None });
        }
        delta
    }

    fn receipt(&self) -> Receipt {
        let (stage, key) = (Arc::clone(&self.stage), (self.index, self.next));
        Box::new(move |epoch| {
            stage.state().receipts.insert(key, epoch);
            stage.tell();
        })
    }
}

impl Feed for ScriptedFeed {
    fn positions(&self) -> Vec<PartitionPosition> {
        let said = match self.said {
            None => "nothing",
            Some(FeedState::Active(_)) => "active",
            Some(FeedState::Idle(_)) => "idle",
            Some(FeedState::Finished) => "finished",
        };
        let position = format!("{} {} {} {said}", self.next, self.given, self.watermark);
        vec![PartitionPosition { partition: self.index.to_string(), position }]
    }

    fn poll(&mut self, _rows_max: usize) -> FeedPoll {
        if let Some(state) = self.said.filter(|_| std::mem::take(&mut self.restored)) {
            let place = Place { number: self.given, partition: self.index as u32 };
            let stage = Arc::clone(&self.stage);
            let receipt: Receipt = Box::new(move |epoch| {
                let mut state = stage.state();
                (state.silent, state.said) = (state.silent - 1, state.said.max(epoch));
                drop(state);
                stage.tell();
            });
            return FeedPoll::Ready(FeedBatch { deltas: Vec::new(), rejects: Vec::new(), state, receipts: vec![receipt], place });
        }
        let batches = self.batches.len() + usize::from(self.finishes && !self.ends_with_rows);
        if self.next >= batches {
            return FeedPoll::Pending(None);
        }
        if std::mem::take(&mut self.pause) {
            return FeedPoll::Pending(Some(Duration::ZERO));
        }
        let step = self.batches.get(self.next).map_or(self.last_step, |batch| batch.step);
        if step >= self.stage.state().open {
            return FeedPoll::Pending(None);
        }
        let rows = self.batches.get(self.next).map(|batch| batch.rows.clone()).unwrap_or_default();
        self.watermark = self.watermark.max(watermark_of(&self.declared, &rows));
        let idle = self.batches.get(self.next).is_some_and(|batch| batch.idle);
        let state = match idle {
            _ if self.finishes && self.next + 1 == batches => FeedState::Finished,
            true => FeedState::Idle(self.watermark),
            false => FeedState::Active(self.watermark),
        };
        self.said = Some(state);
        // Every other batch is cut in two, so that an epoch has several deltas.
        let cut = if (self.next + self.index).is_multiple_of(2) { rows.len() / 2 } else { 0 };
        let deltas = [&rows[..cut], &rows[cut..]].into_iter().filter(|rows| !rows.is_empty());
        let batch = FeedBatch {
            deltas: deltas.map(|rows| self.delta(rows)).collect(),
            rejects: Vec::new(),
            state,
            receipts: vec![self.receipt()],
            place: Place { number: self.given, partition: self.index as u32 },
        };
        self.given += rows.len() as u64;
        self.next += 1;
        // The next batch goes to the same epoch only if it is of the same step, and not always then.
        let next_step = self.batches.get(self.next).map(|batch| batch.step);
        self.pause = next_step != Some(step) || self.next.is_multiple_of(3);
        FeedPoll::Ready(batch)
    }
}

/// The whole rows of a batch.
#[derive(Debug)]
struct Whole(RecordBatch);

impl Origin for Whole {
    fn rows(&self, rows: &[u32]) -> Result<RecordBatch, ArrowError> {
        arrow::compute::take_record_batch(&self.0, &UInt32Array::from(rows.to_vec()))
    }
}
