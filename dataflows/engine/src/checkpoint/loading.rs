//! Giving an operator back what it had, before its first epoch.
//!
//! It is given when all of it has come. If there are more cores than workers, logic that may be on any thread is given much on one
//! of its own: the operators of a worker load side by side. Until an operator has its logic, it does nothing when it is asked.

use std::cell::RefCell;
use std::sync::Arc;

use highwater_turns::is_simulated;
use timely::scheduling::SyncActivator;

use super::restore::{Part, PartSize};
use super::saving::replaying;
use super::{Awaits, Checkpoints, Keeps, OperatorId};
use crate::Delta;
use crate::operator::epoch::{EpochLogic, Logic};
use crate::parallel::{Apart, ROWS_APART, apart, cores};
use crate::stats::OperatorStats;

/// What an operator is given before its first epoch.
pub(crate) struct Loading {
    pub(super) stats: Arc<OperatorStats>,
    pub(super) id: OperatorId,
    /// The worker that has all of what one worker has.
    pub(super) home: usize,
    pub(super) keeps: Keeps,
    pub(super) inputs: usize,
}

impl Loading {
    /// What it had, by table; `None` while some of it is still to come.
    fn parts(&self) -> Option<Vec<Part>> {
        let restore = self.stats.checkpoints.restore.as_ref();
        restore.map_or(Some(Vec::new()), |restore| restore.take(&self.id, self.stats.worker, self.home))
    }

    /// Gives the logic what it had, or begins to, if that has come.
    fn begin(self, logic: Logic) -> State {
        let Some(parts) = self.parts() else { return State::Awaits(logic, self) };
        let rows = parts.iter().flat_map(|part| &part.deltas).map(Delta::len).sum();
        match logic {
            Logic::Anywhere(mut logic) if self.stats.checkpoints.loads_apart(rows) => {
                let name = format!("load {}", self.stats.name);
                // Rows are looked up one by one, whatever is in them. Who waits for it has about as much to do then.
                let size = if logic.is_awaited() { 2 * rows } else { rows };
                let checkpoints = Arc::clone(&self.stats.checkpoints);
                let work = move || {
                    self.give(parts, logic.as_mut());
                    logic
                };
                State::Apart(apart(&name, size, work, move || checkpoints.tell()))
            }
            logic => {
                let mut logic = logic.here();
                self.give(parts, logic.as_mut());
                State::Here(logic)
            }
        }
    }

    /// Gives it back here and now: all of it has come.
    #[cfg(test)]
    pub(super) fn at_once(self, logic: &mut dyn EpochLogic) {
        let parts = self.parts().expect("it has come");
        self.give(parts, logic);
    }

    /// Gives it back. From there on the logic remembers what changes.
    fn give(self, parts: Vec<Part>, logic: &mut dyn EpochLogic) {
        let checkpoints = &self.stats.checkpoints;
        if let Some(restore) = &checkpoints.restore {
            let parts = parts.into_iter().map(|part| (part.deltas, part.size));
            let (mut tables, sizes): (Vec<Vec<Delta>>, Vec<PartSize>) = parts.unzip();
            replaying(|| {
                if tables.iter().any(|table| !table.is_empty()) {
                    tables.resize_with(tables.len().max(self.inputs), Vec::new);
                    logic.load(restore.epoch, &mut tables);
                }
                logic.resume(restore.epoch, self.inputs, &restore.clock.watermarks);
            });
            let (rows, bytes) = logic.state();
            self.stats.holds(rows, bytes);
            sizes.iter().for_each(|size| restore.given.count(size, rows));
        }
        if checkpoints.enabled {
            if self.keeps == Keeps::Inputs {
                logic.gates().into_iter().for_each(|gate| gate.admitted = Some(RefCell::default()));
            }
            logic.log();
        }
    }
}

impl Checkpoints {
    /// Whether another thread would make so many rows faster: otherwise it would take the time of a worker that loads too.
    pub(crate) fn loads_apart(&self, rows: usize) -> bool {
        // A simulation's threads do not depend on the machine.
        rows >= ROWS_APART && self.workers < cores() && !is_simulated()
    }

    /// There may be something new for operators that wait for what they had.
    pub(crate) fn tell(&self) {
        self.restore.iter().for_each(|restore| restore.arrivals.tell());
    }
}

/// An operator's logic, which is there when it has what it had.
pub(crate) struct Loaded {
    state: State,
    awaits: Option<Awaits>,
}

enum State {
    Here(Box<dyn EpochLogic>),
    Awaits(Logic, Loading),
    Apart(Apart<Box<dyn EpochLogic + Send>>),
    /// Giving it back failed.
    Failed,
}

impl Loaded {
    /// `activator`: has the operator asked.
    pub(crate) fn new(logic: Logic, loading: Option<Loading>, activator: impl FnOnce() -> SyncActivator) -> Self {
        let Some(loading) = loading else { return Loaded { state: State::Here(logic.here()), awaits: None } };
        let stats = Arc::clone(&loading.stats);
        let state = loading.begin(logic);
        let restore = stats.checkpoints.restore.as_ref().filter(|_| !matches!(state, State::Here(_)));
        let awaits = restore.map(|restore| restore.await_them(stats.worker, activator()));
        Loaded { state, awaits }
    }

    /// The logic, if it has all that it had.
    ///
    /// # Panics
    ///
    /// If giving it back did.
    pub(crate) fn get(&mut self) -> Option<&mut dyn EpochLogic> {
        if !matches!(self.state, State::Here(_)) {
            self.state = match std::mem::replace(&mut self.state, State::Failed) {
                State::Awaits(logic, loading) => loading.begin(logic),
                State::Apart(apart) => apart.result().map_or_else(State::Apart, |logic| State::Here(logic)),
                state => state,
            };
        }
        let State::Here(logic) = &mut self.state else { return None };
        if let Some(awaits) = self.awaits.take() {
            awaits.end();
        }
        Some(logic.as_mut())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;
    use std::time::{Duration, Instant};

    use arrow::array::{ArrayRef, Int64Array, RecordBatch};
    use timely::worker::Worker;

    use super::*;
    use crate::Time;
    use crate::checkpoint::{Checkpoint, Checkpoints, Clock, Form, OperatorId, OperatorState, Piece, Positions};
    use crate::checkpoint::{Restore, Saving, Spread, TableState};
    use crate::operator::exchange::Route;
    use crate::operator::upsert::Upsert;
    use crate::parallel::cores;
    use crate::stats::JobStats;

    const ROWS: i64 = ROWS_APART as i64 + 10;

    fn rows() -> RecordBatch {
        let column = |from: i64| Arc::new(Int64Array::from_iter_values(from..from + ROWS)) as ArrayRef;
        RecordBatch::try_from_iter([("k", column(0)), ("v", column(7))]).unwrap()
    }

    /// A job's statistics, on so many workers, that goes on from a table of [`ROWS`] rows.
    fn going_on(workers: usize) -> Arc<OperatorStats> {
        let spread = Spread::ByColumns(vec![0]);
        let (form, piece, changes) = (Form::Rows, Piece::WHOLE, vec![Delta::insert(rows())]);
        let tables = vec![TableState { table: 0, form, spread, piece, changes, freed: None }];
        let operator = OperatorId { node: 0, name: "table".into() };
        let states = vec![OperatorState { operator, worker: 0, tables }];
        let saved = Checkpoint { epoch: 5, states, positions: Positions::new(), clock: Clock::default() };
        let restore = Restore::new(&[saved], workers, &[]);
        JobStats::new(workers, Arc::new(Checkpoints::new(true, workers, restore))).operator(0, "table", 0)
    }

    fn loaded(workers: usize, mut logic: Logic, dispatcher: &Worker) -> (Arc<OperatorStats>, Loaded) {
        let stats = going_on(workers);
        let (saving, loading) = Saving::new(&stats, &[Route::ByColumns(vec![0])], logic.as_mut());
        assert!(saving.is_some());
        let loaded = Loaded::new(logic, loading, || dispatcher.sync_activator_for(vec![0]));
        (stats, loaded)
    }

    /// Asks until it is there.
    fn wait(loaded: &mut Loaded) -> &mut dyn EpochLogic {
        let end = Instant::now() + Duration::from_secs(60);
        while loaded.get().is_none() {
            assert!(Instant::now() < end, "it never comes");
            std::thread::yield_now();
        }
        loaded.get().unwrap()
    }

    #[test]
    fn much_is_given_on_another_thread_if_a_core_is_free() {
        timely::execute_directly(|worker| {
            for workers in [1, cores()] {
                let logic = Logic::anywhere(Upsert::new(vec![0], rows().schema()));
                let (stats, mut loaded) = loaded(workers, logic, worker);
                assert_eq!(matches!(loaded.state, State::Apart(_)), workers < cores());
                let restore = stats.checkpoints.restore.as_ref().unwrap();
                assert!(!restore.is_over(workers), "no worker has made all of its operators");
                (0..workers).for_each(|_| restore.made());
                assert_eq!(restore.is_over(workers), workers == cores(), "whoever waits is waited for");
                let (rows, bytes) = wait(&mut loaded).state();
                assert!(restore.is_over(workers));
                assert!(rows as i64 == ROWS / workers as i64 || workers > 1, "{rows}");
                assert_eq!(stats.state_bytes.load(Ordering::Relaxed), bytes as u64);
                assert_eq!(restore.given.rows.load(Ordering::Relaxed), rows as u64);
            }
        });
    }

    struct Fails;

    impl EpochLogic for Fails {
        fn apply(&mut self, _: Time, _: &mut [Vec<Delta>], _: Option<&[i64]>, _: &mut Vec<Delta>) {
            panic!("it cannot take that");
        }

        fn keeps(&self) -> Keeps {
            Keeps::Inputs
        }
    }

    #[test]
    fn what_fails_elsewhere_fails_where_it_is_needed() {
        if cores() == 1 {
            return;
        }
        timely::execute_directly(|worker| {
            let (_, mut loaded) = loaded(1, Logic::anywhere(Fails), worker);
            let failed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| wait(&mut loaded).state()));
            assert_eq!(failed.unwrap_err().downcast_ref::<&str>(), Some(&"it cannot take that"));
            assert!(loaded.get().is_none(), "half of it is not given");
        });
    }
}
