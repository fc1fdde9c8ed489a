//! What a job starts from: the state of checkpoints, for any number of workers.

use std::collections::{BTreeMap, HashMap};

use arrow::array::UInt32Array;

use super::{Checkpoint, Clock, OperatorId, Positions, Spread, TableState, fold};
use crate::hash::{hash_columns, worker_of};
use crate::{Delta, Time};

/// A job's state as of an epoch.
#[derive(Debug, Clone, Default)]
pub struct Restore {
    /// The next epoch comes after it.
    pub epoch: Time,
    /// What the sources had said of time.
    pub clock: Clock,
    /// Per source and partition where reading it stood.
    pub positions: Positions,
    workers: usize,
    tables: HashMap<OperatorId, BTreeMap<u32, (Spread, Vec<Delta>)>>,
}

impl Restore {
    /// The state after the last of these checkpoints, which follow each other from the job's beginning, for a job on so many
    /// workers. `None` if there are none.
    pub fn new(checkpoints: &[Checkpoint], workers: usize) -> Option<Self> {
        let last = checkpoints.last()?;
        let mut changes: HashMap<&OperatorId, BTreeMap<u32, Vec<&TableState>>> = HashMap::new();
        for state in checkpoints.iter().flat_map(|checkpoint| &checkpoint.states) {
            let tables = changes.entry(&state.operator).or_default();
            state.tables.iter().for_each(|table| tables.entry(table.table).or_default().push(table));
        }
        let tables = changes.into_iter().map(|(operator, tables)| {
            let folded = tables.into_iter().map(|(number, changes)| {
                let spread = changes[0].spread.clone();
                (number, (spread, fold(changes, true)))
            });
            (operator.clone(), folded.collect())
        });
        Some(Restore {
            epoch: last.epoch,
            clock: last.clock.clone(),
            positions: last.positions.clone(),
            workers,
            tables: tables.collect(),
        })
    }

    /// What a worker's part of an operator keeps, by table.
    pub(crate) fn of(&self, operator: &OperatorId, worker: usize) -> Vec<Vec<Delta>> {
        let Some(tables) = self.tables.get(operator) else { return Vec::new() };
        let mut parts = vec![Vec::new(); tables.keys().next_back().map_or(0, |last| *last as usize + 1)];
        for (number, (spread, deltas)) in tables {
            let mine = deltas.iter().map(|delta| self.part(spread, delta, worker));
            parts[*number as usize] = mine.filter(|delta| !delta.is_empty()).collect();
        }
        parts
    }

    fn part(&self, spread: &Spread, delta: &Delta, worker: usize) -> Delta {
        let mut hashes = Vec::new();
        match spread {
            // Of an operator that one worker runs, the others' stand-ins leave it.
            Spread::Everywhere | Spread::One => return delta.clone(),
            Spread::ByColumns(columns) => hash_columns(&delta.columns(columns), delta.len(), &mut hashes),
            Spread::Anywhere => hash_columns(delta.rows.columns(), delta.len(), &mut hashes),
        }
        let mine = |row: &u32| worker_of(hashes[*row as usize], self.workers) == worker;
        delta.take(&UInt32Array::from_iter_values((0..delta.len() as u32).filter(mine)))
    }
}
