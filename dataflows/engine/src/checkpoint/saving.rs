//! An operator's side of checkpoints: what it keeps, what of it changed, and how it is given back.

use std::cell::Cell;
use std::sync::Arc;

use super::loading::Loading;
use super::{Checkpoints, Form, KeptFrom, KeptOperator, OperatorId, OperatorState, Piece, Slot, Spread, TableState};
use crate::operator::epoch::EpochLogic;
use crate::operator::exchange::Route;
use crate::stats::OperatorStats;
use crate::{Delta, Time};

/// How an operator's state comes to be in checkpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keeps {
    /// It keeps nothing, or nothing that results depend on.
    Nothing,
    /// What it keeps follows from all rows that it was given: they are saved, a table per input.
    Inputs,
    /// What it keeps follows from all that it gave, which is saved as its only table; its rows are where its first input's
    /// are.
    Output,
    /// Tables of its own.
    Own,
    /// It cannot be saved, of which this says what it is.
    Unsaved(&'static str),
}

/// Collects the tables of an operator of its own.
#[derive(Debug, Default)]
pub(crate) struct Saved(pub(super) Vec<TableState>);

impl Saved {
    /// Rows that were added and taken back.
    pub(crate) fn rows(&mut self, table: u32, spread: Spread, changes: Vec<Delta>, freed: Option<(usize, i64)>) {
        self.push(table, Form::Rows, spread, changes, freed);
    }

    /// Entries that were set and removed; their first columns are their key.
    pub(crate) fn entries(&mut self, table: u32, keys: usize, spread: Spread, changes: Vec<Delta>, freed: Option<(usize, i64)>) {
        self.push(table, Form::Entries { keys }, spread, changes, freed);
    }

    fn push(&mut self, table: u32, form: Form, spread: Spread, changes: Vec<Delta>, freed: Option<(usize, i64)>) {
        self.0.push(TableState { table, form, spread, piece: Piece::WHOLE, changes, freed });
    }
}

/// Gives the rows of a relation that follow from what another operator was given back, once it was.
pub(crate) type Derived = Box<dyn FnMut() -> Option<Vec<Delta>>>;

/// What is known of a relation that is saved.
#[derive(Default)]
pub(crate) struct Known {
    /// As in [`KeptOperator::unique_key`].
    pub(crate) unique_key: Option<Vec<usize>>,
    /// What gives its rows when they are [derived](KeptOperator::derived).
    pub(crate) derived: Option<Derived>,
}

/// What a relation had when its job was saved.
pub(crate) struct Had {
    checkpoints: Arc<Checkpoints>,
    id: OperatorId,
    worker: usize,
    derived: Option<Derived>,
}

impl Had {
    /// A worker's part of it, once; `None` while that is still to come.
    pub(crate) fn take(&mut self) -> Option<Vec<Delta>> {
        let Some(restore) = &self.checkpoints.restore else { return Some(Vec::new()) };
        match &mut self.derived {
            Some(rows) => rows().map(|rows| restore.derive(rows)),
            None => restore.take_relation(&self.id, self.worker),
        }
    }
}

/// The changes of an operator that are in no checkpoint yet.
pub(crate) struct Saving {
    checkpoints: Arc<Checkpoints>,
    slot: Slot,
    id: OperatorId,
    worker: usize,
    keeps: Keeps,
    /// The logic's gates log what they let in.
    gated: bool,
    /// Per table where its rows are, if the frame logs them.
    spread: Vec<Spread>,
    log: Vec<Vec<Delta>>,
    /// The epoch of the last checkpoint that has this operator's state.
    last: Time,
    /// It has given all that it will ever have.
    ended: bool,
}

impl Saving {
    /// For an operator with inputs on these routes; `None` if it has nothing to save. Besides, what it is to be given first, if
    /// anything.
    pub(crate) fn new(
        stats: &Arc<OperatorStats>,
        routes: &[Route],
        logic: &mut dyn EpochLogic,
    ) -> (Option<Self>, Option<Loading>) {
        let checkpoints = Arc::clone(&stats.checkpoints);
        let keeps = logic.keeps();
        if !checkpoints.are_used() {
            return (None, None);
        }
        let id = OperatorId { node: stats.node, name: stats.name.clone() };
        let (slot, id) = match keeps {
            Keeps::Nothing => (None, id),
            _ => {
                let spread: Vec<Spread> = routes.iter().map(Spread::of).collect();
                let from = logic.kept_from();
                let complete = keeps == Keeps::Output || from == KeptFrom::Output;
                let kept = KeptOperator::new(id, from, format!("{keeps:?} {spread:?}"));
                let kept = KeptOperator { complete, takes_changes: logic.takes_changes(), ..kept };
                let (slot, id) = checkpoints.register_kept(stats.worker, kept);
                (Some(slot), id)
            }
        };
        let loading = Loading { stats: Arc::clone(stats), id: id.clone(), home: home(routes), keeps, inputs: routes.len() };
        let loading = Some(loading);
        let spread = match keeps {
            Keeps::Nothing => return (None, loading),
            Keeps::Inputs => routes.iter().map(Spread::of).collect(),
            Keeps::Output => vec![Spread::of(&routes[0])],
            Keeps::Own => Vec::new(),
            Keeps::Unsaved(what) => {
                checkpoints.refuse(what);
                Vec::new()
            }
        };
        let gated = !logic.gates().is_empty();
        let log = vec![Vec::new(); spread.len()];
        let last = checkpoints.restore.as_ref().map_or(0, |restore| restore.epoch);
        let worker = stats.worker;
        let saving = slot.map(|slot| Saving { slot, last, ended: false, id, worker, keeps, gated, spread, log, checkpoints });
        (saving, loading)
    }

    /// For a relation that is the sum of its changes, and what it had; neither if nothing is saved. `columns`: by which its rows
    /// are spread, or, of [`Spread::Anywhere`], that they have.
    pub(crate) fn of_relation(
        stats: &OperatorStats,
        from: KeptFrom,
        spread: Spread,
        columns: &[usize],
        known: Known,
    ) -> Option<(Self, Had)> {
        let checkpoints = Arc::clone(&stats.checkpoints);
        if !checkpoints.are_used() {
            return None;
        }
        let id = OperatorId { node: stats.node, name: stats.name.clone() };
        let Known { unique_key, derived } = known;
        let is_derived = derived.is_some();
        let kept = KeptOperator::new(id, from, format!("{columns:?}"));
        let kept = KeptOperator { unique_key, derived: is_derived, ..kept };
        let (slot, id) = checkpoints.register_kept(stats.worker, kept);
        let last = checkpoints.restore.as_ref().map_or(0, |restore| restore.epoch);
        let had = Had { checkpoints: Arc::clone(&checkpoints), id: id.clone(), worker: stats.worker, derived };
        let (spread, log) = (vec![spread], vec![Vec::new()]);
        let saving = Saving {
            slot,
            last,
            ended: false,
            id,
            worker: stats.worker,
            keeps: Keeps::Output,
            gated: false,
            spread,
            log,
            checkpoints,
        };
        Some((saving, had))
    }

    /// Whether the state is to be handed out: a checkpoint's epoch has come, as all epochs before `open` were applied and none
    /// from there on; or there will be no more epochs (`None`).
    fn is_due(&self, open: Option<Time>) -> bool {
        let due = self.checkpoints.due();
        match open {
            _ if self.ended || !self.checkpoints.enabled => false,
            None => true,
            Some(open) => due > self.last && open > due,
        }
    }

    fn give(&mut self, open: Option<Time>, mut saved: Saved) {
        let piece = Piece { number: self.worker, of: self.checkpoints.workers };
        for table in &mut saved.0 {
            if let Spread::ByColumns(_) = table.spread {
                table.piece = piece;
            }
        }
        self.last = self.checkpoints.due();
        let state = OperatorState { operator: self.id.clone(), worker: self.worker, tables: saved.0 };
        if open.is_some() {
            return self.checkpoints.give(self.slot, state);
        }
        self.ended = true;
        self.checkpoints.give_last(self.slot, state);
    }

    /// Hands out the changes of a relation if its state is that of a checkpoint's epoch; see [`Saving::save`].
    pub(crate) fn save_relation(&mut self, open: Option<Time>) {
        if self.is_due(open) {
            let mut saved = Saved::default();
            saved.rows(0, self.spread[0].clone(), std::mem::take(&mut self.log[0]), None);
            self.give(open, saved);
        }
    }

    /// What an epoch brings.
    pub(crate) fn takes(&mut self, inputs: &[Vec<Delta>], logic: &dyn EpochLogic) {
        if self.keeps == Keeps::Inputs && !self.gated && self.checkpoints.enabled {
            for (port, (log, input)) in self.log.iter_mut().zip(inputs).enumerate() {
                if !logic.keeps_input(port as u32) {
                    continue;
                }
                log.extend(input.iter().map(|delta| logic.kept_of(port as u32, delta)));
            }
        }
    }

    /// What an epoch changed.
    pub(crate) fn gives(&mut self, output: &[Delta]) {
        if self.keeps == Keeps::Output && self.checkpoints.enabled {
            self.log[0].extend(output.iter().map(|delta| Delta::of(delta.rows.clone(), delta.diffs.clone())));
        }
    }

    /// What time has freed by now, if the watermarks have just changed.
    pub(crate) fn frees(&self, logic: &mut dyn EpochLogic) {
        if !self.gated || self.keeps != Keeps::Inputs || !self.checkpoints.enabled {
            return;
        }
        let freed: Vec<_> = (0..self.spread.len()).map(|table| logic.freed(table as u32)).collect();
        for (gate, freed) in logic.gates().into_iter().zip(freed) {
            if let Some((column, bound)) = freed {
                gate.forget_admitted(column, bound);
            }
        }
    }

    /// Hands out the state if it is that of a checkpoint's epoch: all epochs before `open` (all, if none) were applied, and
    /// none from there on.
    pub(crate) fn save(&mut self, open: Option<Time>, logic: &mut dyn EpochLogic) {
        if !self.is_due(open) {
            return;
        }
        let mut saved = Saved::default();
        match self.keeps {
            Keeps::Own => logic.save(&mut saved),
            Keeps::Unsaved(_) => {}
            Keeps::Inputs if self.gated => {
                let admitted: Vec<_> = logic.gates().into_iter().map(|gate| gate.take_admitted()).collect();
                for (table, (log, spread)) in admitted.into_iter().zip(&self.spread).enumerate() {
                    saved.rows(table as u32, spread.clone(), log, logic.freed(table as u32));
                }
            }
            _ => {
                for (table, (log, spread)) in self.log.iter_mut().zip(&self.spread).enumerate() {
                    saved.rows(table as u32, spread.clone(), std::mem::take(log), logic.freed(table as u32));
                }
            }
        }
        let first = self.worker == 0;
        saved.0.retain(|table| first || table.spread != Spread::Everywhere);
        self.give(open, saved);
    }
}

thread_local! {
    /// Whether this thread gives an operator back what it had: errors that this meets were reported when they came.
    static REPLAYING: Cell<bool> = const { Cell::new(false) };
}

pub(super) fn replaying<R>(work: impl FnOnce() -> R) -> R {
    struct Ends;
    impl Drop for Ends {
        fn drop(&mut self) {
            REPLAYING.set(false);
        }
    }
    REPLAYING.set(true);
    // After a panic, too: the thread may be a worker's, which goes on with other operators.
    let _ends = Ends;
    work()
}

/// Whether an operator is being given back what it had.
pub(crate) fn is_replaying() -> bool {
    REPLAYING.get()
}

/// The worker that has all rows of an operator that only one runs.
fn home(routes: &[Route]) -> usize {
    routes.iter().find_map(|route| if let Route::To(worker) = route { Some(*worker) } else { None }).unwrap_or(0)
}

impl Spread {
    fn of(route: &Route) -> Self {
        match route {
            Route::ByColumns(columns) => Spread::ByColumns(columns.clone()),
            Route::Everywhere => Spread::Everywhere,
            Route::To(_) => Spread::One,
            Route::Here => Spread::Anywhere,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_panics_while_it_gives_back_reports_errors_again() {
        replaying(|| assert!(is_replaying()));
        assert!(!is_replaying());
        assert!(std::panic::catch_unwind(|| replaying(|| panic!("it cannot be given back"))).is_err());
        assert!(!is_replaying());
    }
}
