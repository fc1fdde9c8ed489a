//! Giving an operator back what it had, before its first epoch.
//!
//! If there are more cores than workers, logic that may be on any thread is given much on one of its own: the operators of a
//! worker load side by side. The operator waits where it needs its logic first.

use std::cell::RefCell;
use std::sync::Arc;

use super::Keeps;
use super::restore::{Part, PartSize};
use super::saving::replaying;
use crate::Delta;
use crate::operator::epoch::{EpochLogic, Logic};
use crate::parallel::{Apart, apart, cores};
use crate::stats::OperatorStats;

/// From so many rows on it is worth a thread.
const ROWS_APART: usize = 1 << 16;

/// What an operator is given before its first epoch.
pub(crate) struct Loading {
    pub(super) stats: Arc<OperatorStats>,
    pub(super) keeps: Keeps,
    pub(super) inputs: usize,
    /// By table.
    pub(super) parts: Vec<Part>,
}

impl Loading {
    /// Whether another thread would make it faster: otherwise it would take the time of a worker that loads too.
    fn is_better_apart(&self) -> bool {
        let rows: usize = self.parts.iter().flat_map(|part| &part.deltas).map(Delta::len).sum();
        rows >= ROWS_APART && self.stats.checkpoints.workers < cores()
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
                let work = move || {
                    loading.give(logic.as_mut());
                    logic
                };
                Loaded::Apart(Some(apart(work)))
            }
            (logic, loading) => {
                let mut logic = logic.here();
                if let Some(loading) = loading {
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
