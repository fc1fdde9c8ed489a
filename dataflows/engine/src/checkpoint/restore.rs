//! What a job starts from: the state of checkpoints, for any number of workers.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use super::fold::content;
use super::{Checkpoint, Clock, OperatorId, Positions, Spread, TableState};
use crate::keys::array_bytes;
use crate::parallel::in_parallel;
use crate::{Delta, Time};

/// A job's state as of an epoch.
#[derive(Debug, Default)]
pub struct Restore {
    /// The next epoch comes after it.
    pub epoch: Time,
    /// What the sources had said of time.
    pub clock: Clock,
    /// Per source and partition where reading it stood.
    pub positions: Positions,
    /// Rows of all tables together.
    pub rows: u64,
    /// What they take as columns, in bytes.
    pub bytes: u64,
    tables: Mutex<HashMap<OperatorId, Tables>>,
}

/// An operator's tables.
type Tables = BTreeMap<u32, Table>;

/// A table, cut for the workers.
#[derive(Debug)]
struct Table {
    /// One worker has all.
    at_home: bool,
    rows: usize,
    bytes: usize,
    parts: Vec<Vec<Delta>>,
}

impl Restore {
    /// The state after the last of these checkpoints, which follow each other from the job's beginning, for a job on so many
    /// workers. `None` if there are none.
    ///
    /// Cost:  a hash per row of tables from which something was taken back; tables are put together by as many threads as there
    ///        are cores, a large one by all of them.
    pub fn new(checkpoints: &[Checkpoint], workers: usize) -> Option<Self> {
        let last = checkpoints.last()?;
        let mut changes: BTreeMap<(&OperatorId, u32), Vec<&TableState>> = BTreeMap::new();
        for state in checkpoints.iter().flat_map(|checkpoint| &checkpoint.states) {
            state.tables.iter().for_each(|table| changes.entry((&state.operator, table.table)).or_default().push(table));
        }
        let mut tables: HashMap<OperatorId, Tables> = HashMap::new();
        let put_together = |changes: &Vec<&TableState>| {
            let spread = &changes[0].spread;
            let parts = content(changes.iter().copied(), spread, workers);
            // Of what every worker has the first one's counts.
            let counted = if matches!(spread, Spread::Everywhere | Spread::One) { 1 } else { workers };
            let counted = || parts[..counted].iter().flatten();
            let rows = counted().map(Delta::len).sum();
            let bytes = counted().flat_map(|delta| delta.rows.columns()).map(array_bytes).sum();
            Table { at_home: *spread == Spread::One, rows, bytes, parts }
        };
        let mut changes: Vec<_> = changes.into_iter().collect();
        // The largest first, so that it is not what all others wait for.
        let rows = |changes: &[&TableState]| changes.iter().flat_map(|table| &table.changes).map(Delta::len).sum::<usize>();
        changes.sort_by_cached_key(|(_, changes)| std::cmp::Reverse(rows(changes)));
        let together = in_parallel(&changes, usize::MAX, |(_, changes)| put_together(changes));
        let (mut rows, mut bytes) = (0, 0);
        for (&((operator, number), _), table) in changes.iter().zip(together) {
            rows += table.rows as u64;
            bytes += table.bytes as u64;
            tables.entry(operator.clone()).or_default().insert(number, table);
        }
        let (epoch, clock, positions) = (last.epoch, last.clock.clone(), last.positions.clone());
        Some(Restore { epoch, clock, positions, rows, bytes, tables: Mutex::new(tables) })
    }

    /// What a worker's part of an operator keeps, by table. `home`: the worker that has all of what one worker has. It is given
    /// once: whoever takes it need not keep it twice.
    pub(crate) fn take(&self, operator: &OperatorId, worker: usize, home: usize) -> Vec<Vec<Delta>> {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(tables) = tables.get_mut(operator) else { return Vec::new() };
        let mut taken = vec![Vec::new(); tables.keys().next_back().map_or(0, |last| *last as usize + 1)];
        for (number, Table { at_home, parts, .. }) in tables {
            let part = std::mem::take(&mut parts[worker]);
            if !*at_home || worker == home {
                taken[*number as usize] = part;
            }
        }
        taken
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
        let rows = |worker| restore.take(&operator, worker, 1).iter().flatten().map(Delta::len).sum();
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
