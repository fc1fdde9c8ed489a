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

    /// What a worker's part of an operator keeps, by table. `home`: the worker that has all of what one worker has.
    pub(crate) fn of(&self, operator: &OperatorId, worker: usize, home: usize) -> Vec<Vec<Delta>> {
        let Some(tables) = self.tables.get(operator) else { return Vec::new() };
        let mut parts = vec![Vec::new(); tables.keys().next_back().map_or(0, |last| *last as usize + 1)];
        for (number, (spread, deltas)) in tables {
            if *spread == Spread::One && worker != home {
                continue;
            }
            let mine = deltas.iter().map(|delta| self.part(spread, delta, worker));
            parts[*number as usize] = mine.filter(|delta| !delta.is_empty()).collect();
        }
        parts
    }

    fn part(&self, spread: &Spread, delta: &Delta, worker: usize) -> Delta {
        let mut hashes = Vec::new();
        match spread {
            Spread::Everywhere | Spread::One => return delta.clone(),
            Spread::ByColumns(columns) => hash_columns(&delta.columns(columns), delta.len(), &mut hashes),
            Spread::Anywhere => hash_columns(delta.rows.columns(), delta.len(), &mut hashes),
        }
        let mine = |row: &u32| worker_of(hashes[*row as usize], self.workers) == worker;
        delta.take(&UInt32Array::from_iter_values((0..delta.len() as u32).filter(mine)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, RecordBatch};

    use super::*;
    use crate::checkpoint::{Form, OperatorState};

    fn restored(spread: Spread, workers: usize) -> Vec<usize> {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..100));
        let rows = RecordBatch::try_from_iter([("k", column)]).unwrap();
        let changes = vec![Delta::insert(rows)];
        let operator = OperatorId { node: 0, name: "sum".into() };
        let tables = vec![TableState { table: 0, form: Form::Rows, spread, changes, freed: None }];
        let states = vec![OperatorState { operator: operator.clone(), worker: 0, tables }];
        let checkpoint = Checkpoint { epoch: 1, states, positions: Positions::new(), clock: Clock::default() };
        let restore = Restore::new(&[checkpoint], workers).unwrap();
        let rows = |worker| restore.of(&operator, worker, 1).iter().flatten().map(Delta::len).sum();
        (0..workers).map(rows).collect()
    }

    #[test]
    fn rows_go_where_their_operator_looks_for_them() {
        assert_eq!(restored(Spread::One, 3), [0, 100, 0]);
        assert_eq!(restored(Spread::Everywhere, 3), [100; 3]);
        for spread in [Spread::Anywhere, Spread::ByColumns(vec![0])] {
            let parts = restored(spread, 3);
            assert_eq!((parts.iter().sum::<usize>(), parts.iter().all(|part| *part > 0)), (100, true));
        }
    }
}
