//! Giving an operator back what it had, before its first epoch.
//!
//! If there are more cores than workers, logic that may be on any thread is given much on one of its own: the operators of a
//! worker load side by side. The operator waits where it needs its logic first.

use std::cell::RefCell;
use std::sync::Arc;

use highwater_turns::is_simulated;

use super::Keeps;
use super::restore::{Part, PartSize};
use super::saving::replaying;
use crate::Delta;
use crate::operator::epoch::{EpochLogic, Logic};
use crate::parallel::{Apart, Held, ROWS_APART, apart, cores};
use crate::stats::OperatorStats;

/// What an operator is given before its first epoch.
pub(crate) struct Loading {
    pub(super) stats: Arc<OperatorStats>,
    pub(super) keeps: Keeps,
    pub(super) inputs: usize,
    /// By table.
    pub(super) parts: Vec<Part>,
}

impl Loading {
    fn rows(&self) -> usize {
        self.parts.iter().flat_map(|part| &part.deltas).map(Delta::len).sum()
    }

    /// Whether another thread would make it faster: otherwise it would take the time of a worker that loads too.
    fn is_better_apart(&self) -> bool {
        // A simulation's threads do not depend on the machine.
        self.rows() >= ROWS_APART && self.stats.checkpoints.workers < cores() && !is_simulated()
    }

    /// Gives it back. From there on the logic remembers what changes.
    pub(super) fn give(self, logic: &mut dyn EpochLogic) {
        let checkpoints = &self.stats.checkpoints;
        if let Some(restore) = &checkpoints.restore {
            let parts = self.parts.into_iter();
            let (mut tables, sizes): (Vec<Vec<Delta>>, Vec<PartSize>) = parts.map(|part| (part.deltas, part.size)).unzip();
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

/// An operator's logic, to which what it had may still be given.
pub(crate) enum Loaded {
    Here(Box<dyn EpochLogic>),
    Apart(Option<Apart<Box<dyn EpochLogic + Send>>>),
}

impl Loaded {
    /// `waits`: the operator does not need its logic before it runs.
    pub(crate) fn new(logic: Logic, loading: Option<Loading>, waits: bool) -> Self {
        match (logic, loading) {
            (Logic::Anywhere(mut logic), Some(loading)) if waits && loading.is_better_apart() => {
                let name = format!("load {}", loading.stats.name);
                // Rows are looked up one by one, whatever is in them. Who waits for it has about as much to do then.
                let size = if logic.is_awaited() { 2 * loading.rows() } else { loading.rows() };
                let work = move || {
                    loading.give(logic.as_mut());
                    logic
                };
                Loaded::Apart(Some(apart(&name, size, work)))
            }
            (logic, loading) => {
                let mut logic = logic.here();
                if let Some(loading) = loading {
                    Held::end_before(loading.rows());
                    loading.give(logic.as_mut());
                }
                Loaded::Here(logic)
            }
        }
    }

    /// The logic, which has all that it had.
    ///
    /// # Panics
    ///
    /// If giving it back did.
    pub(crate) fn get(&mut self) -> &mut dyn EpochLogic {
        if let Loaded::Apart(logic) = self {
            *self = Loaded::Here(logic.take().expect("nobody asks again after a panic").wait());
        }
        let Loaded::Here(logic) = self else { unreachable!("it was just put there") };
        logic.as_mut()
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array, RecordBatch};

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

    fn loaded(workers: usize, mut logic: Logic) -> (Arc<OperatorStats>, Loaded) {
        let stats = going_on(workers);
        let (saving, loading) = Saving::new(&stats, &[Route::ByColumns(vec![0])], logic.as_mut());
        assert!(saving.is_some());
        let loaded = Loaded::new(logic, loading, true);
        (stats, loaded)
    }

    #[test]
    fn much_is_given_on_another_thread_if_a_core_is_free() {
        for workers in [1, cores()] {
            let (stats, mut loaded) = loaded(workers, Logic::anywhere(Upsert::new(vec![0], rows().schema())));
            assert_eq!(matches!(loaded, Loaded::Apart(_)), workers < cores());
            let (rows, bytes) = loaded.get().state();
            assert!(rows as i64 == ROWS / workers as i64 || workers > 1, "{rows}");
            assert_eq!(stats.state_bytes.load(std::sync::atomic::Ordering::Relaxed), bytes as u64);
            let given = &stats.checkpoints.restore.as_ref().unwrap().given;
            assert_eq!(given.rows.load(std::sync::atomic::Ordering::Relaxed), rows as u64);
            assert!(matches!(loaded, Loaded::Here(_)));
        }
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
        let (_, mut loaded) = loaded(1, Logic::anywhere(Fails));
        let failed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| loaded.get().state()));
        assert_eq!(failed.unwrap_err().downcast_ref::<&str>(), Some(&"it cannot take that"));
    }
}
