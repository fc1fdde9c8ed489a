//! An operator and its twin, which is saved and restored again and again: they must give the same.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use arrow::array::{Array, ArrayRef};
use arrow_row::{RowConverter, SortField};

use super::*;
use crate::operator::epoch::EpochLogic;
use crate::operator::exchange::Route;
use crate::stats::JobStats;
use crate::{Delta, Diff, Time};

/// Makes an operator that has nothing yet.
pub(crate) type Make<'a> = dyn Fn() -> Box<dyn EpochLogic> + 'a;

/// Makes a change of rows of a key and a value.
pub(crate) type Rows<'a> = dyn Fn(&[(i64, i64, Diff)]) -> Delta + 'a;

/// The twins.
pub(crate) struct Twins<'a> {
    make: &'a Make<'a>,
    routes: Vec<Route>,
    steady: Box<dyn EpochLogic>,
    other: Box<dyn EpochLogic>,
    saving: Saving,
    checkpoints: Arc<Checkpoints>,
    /// All that was saved, folded.
    folded: Option<Checkpoint>,
    /// The same, as it was saved.
    all: Vec<Checkpoint>,
    /// How often it was restored: from what was folded and from the rest, by turns.
    restored: usize,
    watermarks: Vec<i64>,
}

impl<'a> Twins<'a> {
    /// Of an operator with inputs on these routes.
    pub(crate) fn new(routes: Vec<Route>, make: &'a Make<'a>) -> Self {
        let mut other = make();
        let (saving, checkpoints) = saving(&routes, None, other.as_mut());
        let (steady, folded, watermarks) = (make(), None, Vec::new());
        Twins { make, routes, steady, other, saving, checkpoints, folded, all: Vec::new(), restored: 0, watermarks }
    }

    /// Gives both an epoch; what they give for it is the same, and is given back added up.
    pub(crate) fn step(&mut self, epoch: Time, inputs: &[Vec<Delta>], watermarks: Option<&[i64]>) -> BTreeMap<Vec<u8>, Diff> {
        if let Some(watermarks) = watermarks {
            self.watermarks = watermarks.to_vec();
        }
        let mut outputs = [Vec::new(), Vec::new()];
        self.steady.apply(epoch, &mut inputs.to_vec(), watermarks, &mut outputs[0]);
        self.saving.takes(inputs, self.other.as_ref());
        self.other.apply(epoch, &mut inputs.to_vec(), watermarks, &mut outputs[1]);
        self.saving.gives(&outputs[1]);
        if watermarks.is_some() {
            self.saving.frees(self.other.as_mut());
        }
        let [one, other] = outputs.map(|deltas| added_up(&deltas));
        assert_eq!(one, other, "epoch {epoch}");
        one
    }

    /// Saves one of them as of an epoch, for which it has been given all.
    pub(crate) fn save(&mut self, epoch: Time) {
        let taken: Arc<Mutex<Option<Checkpoint>>> = Arc::default();
        let gives = Arc::clone(&taken);
        self.checkpoints.ask(Box::new(move |checkpoint| *gives.lock().unwrap() = Some(checkpoint.expect("it can be saved"))));
        self.checkpoints.opens(epoch);
        self.checkpoints.give_positions(0, Positions::new());
        self.saving.save(Some(epoch + 1), self.other.as_mut());
        let mut taken = taken.lock().unwrap().take().expect("all have given");
        taken.clock.watermarks.clone_from(&self.watermarks);
        self.all.push(taken.clone());
        self.folded = Some(fold_all(self.folded.take(), taken));
    }

    /// Puts another in its place that has what was saved.
    pub(crate) fn restore(&mut self) {
        self.restored += 1;
        let saved = if self.restored.is_multiple_of(2) { &self.all } else { self.folded.as_slice() };
        let restore = Restore::new(saved, 1, &self.checkpoints.kept(0));
        self.other = (self.make)();
        (self.saving, self.checkpoints) = saving(&self.routes, restore, self.other.as_mut());
    }

    /// Rows of all tables that were saved, folded.
    pub(crate) fn saved_rows(&self) -> usize {
        let tables = self.folded.iter().flat_map(|folded| &folded.states).flat_map(|state| &state.tables);
        tables.flat_map(|table| &table.changes).map(Delta::len).sum()
    }

    /// Rows that the steady one keeps.
    pub(crate) fn kept_rows(&self) -> usize {
        self.steady.state().0
    }
}

fn saving(routes: &[Route], restore: Option<Restore>, logic: &mut dyn EpochLogic) -> (Saving, Arc<Checkpoints>) {
    let checkpoints = Arc::new(Checkpoints::new(true, 1, restore));
    let stats = JobStats::new(1, Arc::clone(&checkpoints)).operator(0, "twin", 0);
    let (saving, loading) = Saving::new(&stats, routes, logic);
    loading.expect("checkpoints are used").at_once(logic);
    (saving.expect("it keeps something"), checkpoints)
}

/// What both come to, as a store would fold them.
fn fold_all(before: Option<Checkpoint>, mut after: Checkpoint) -> Checkpoint {
    let mut tables: BTreeMap<u32, Vec<TableState>> = BTreeMap::new();
    for state in before.iter().flat_map(|before| &before.states).chain(&after.states) {
        state.tables.iter().for_each(|table| tables.entry(table.table).or_default().push(table.clone()));
    }
    let folded = tables.into_values().map(|parts| {
        let last = parts.last().expect("there is a part").clone();
        TableState { changes: fold(&parts, true), freed: None, ..last }
    });
    after.states[0].tables = folded.collect();
    after
}

/// Rows as bytes, with their multiplicities.
fn added_up(deltas: &[Delta]) -> BTreeMap<Vec<u8>, Diff> {
    let mut rows: BTreeMap<Vec<u8>, Diff> = BTreeMap::new();
    for delta in deltas {
        let columns: &[ArrayRef] = delta.rows.columns();
        let fields = columns.iter().map(|column| SortField::new(column.data_type().clone())).collect();
        let encoded = RowConverter::new(fields).unwrap().convert_columns(columns).unwrap();
        for row in 0..delta.len() {
            *rows.entry(encoded.row(row).data().to_vec()).or_default() += delta.diff(row);
        }
    }
    rows.retain(|_, diff| *diff != 0);
    rows
}

/// Rows of (key, value) that come to the inputs and, where that may be, go again, epoch after epoch; the operator is saved
/// and restored between, and its saved rows stay below a bound.
pub(crate) struct Life {
    /// Whether rows of an input go.
    pub(crate) retracts: Vec<bool>,
    /// Keys and values are below these.
    pub(crate) keys: u64,
    /// See `keys`.
    pub(crate) values: u64,
    /// How many milliseconds an epoch is after the one before, at most.
    pub(crate) apart: u64,
    /// Rows that may be saved.
    pub(crate) saved_max: usize,
}

impl Life {
    /// Lives it; gives how many changes there were in all.
    pub(crate) fn live(&self, twins: &mut Twins<'_>, delta: &Rows<'_>) -> usize {
        let mut random = crate::arrangement::random::Random::new(11);
        let mut held: Vec<Vec<(i64, i64)>> = vec![Vec::new(); self.retracts.len()];
        let (mut epoch, mut changes, mut restored) = (10_000, 0, 0);
        for _ in 0..500 {
            epoch += 1 + random.below(self.apart);
            let mut inputs = Vec::new();
            for (retracts, held) in self.retracts.iter().zip(&mut held) {
                let mut rows = Vec::new();
                for _ in 0..random.below(4) {
                    if *retracts && !held.is_empty() && random.below(5) < 2 {
                        let (key, value) = held.swap_remove(random.below(held.len() as u64) as usize);
                        rows.push((key, value, -1));
                    } else {
                        let row = (random.below(self.keys) as i64, random.below(self.values) as i64);
                        held.push(row);
                        rows.push((row.0, row.1, 1));
                    }
                }
                inputs.push(if rows.is_empty() { Vec::new() } else { vec![delta(&rows)] });
            }
            changes += twins.step(epoch, &inputs, None).len();
            if random.one_in(4) {
                twins.save(epoch);
                assert!(
                    twins.saved_rows() <= self.saved_max,
                    "{} rows are saved, {} kept",
                    twins.saved_rows(),
                    twins.kept_rows()
                );
                if random.one_in(2) {
                    twins.restore();
                    restored += 1;
                }
            }
        }
        assert!(restored > 20, "restored {restored} times");
        changes
    }
}
