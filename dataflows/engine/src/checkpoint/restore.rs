//! What a job starts from: the state of checkpoints, for any number of workers.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::sync::{Mutex, PoisonError};

use super::fold::content;
use super::{Checkpoint, Clock, OperatorId, Positions, Spread, TableState};
use crate::keys::array_bytes;
use crate::parallel::as_they_come;
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

/// How many tables are put together at a time, each by all cores.
const TABLES_AT_ONCE: usize = 2;

/// A table, cut for the workers.
#[derive(Debug)]
struct Table {
    /// One worker has all.
    at_home: bool,
    parts: Vec<Vec<Delta>>,
}

impl Restore {
    /// The state after the last of these checkpoints, which follow each other from the job's beginning, for a job on so many
    /// workers. `None` if there are none.
    pub fn new(checkpoints: &[Checkpoint], workers: usize) -> Option<Self> {
        let last = checkpoints.last()?;
        let mut tables: BTreeMap<(&OperatorId, u32), Vec<TableState>> = BTreeMap::new();
        for state in checkpoints.iter().flat_map(|checkpoint| &checkpoint.states) {
            for table in &state.tables {
                tables.entry((&state.operator, table.table)).or_default().push(table.clone());
            }
        }
        let tables = tables.into_iter().map(|((operator, _), changes)| Ok::<_, Infallible>((operator.clone(), changes)));
        let restore = Restore::of_tables(tables, workers).unwrap_or_else(|never| match never {});
        Some(restore.as_of(last.epoch, last.positions.clone(), last.clock.clone()))
    }

    /// The state that these tables come to, for a job on so many workers: each with all of its changes, oldest first, under its
    /// operator. While further tables come those that are there are put together.
    ///
    /// Cost:  a hash per row of tables from which something was taken back; all cores take part.
    /// Errors: the first that comes instead of a table.
    pub fn of_tables<E>(
        tables: impl Iterator<Item = Result<(OperatorId, Vec<TableState>), E>>,
        workers: usize,
    ) -> Result<Self, E> {
        let tables = tables.filter(|table| !matches!(table, Ok((_, changes)) if changes.is_empty()));
        let together = as_they_come(tables, TABLES_AT_ONCE, |(operator, changes)| {
            let (number, spread) = (changes[0].table, changes[0].spread.clone());
            let parts = content(&changes, &spread, workers);
            // Of what every worker has the first one's counts.
            let counted = if matches!(spread, Spread::Everywhere | Spread::One) { 1 } else { workers };
            let counted = || parts[..counted].iter().flatten();
            let rows: usize = counted().map(Delta::len).sum();
            let bytes: usize = counted().flat_map(|delta| delta.rows.columns()).map(array_bytes).sum();
            (operator, number, rows as u64, bytes as u64, Table { at_home: spread == Spread::One, parts })
        })?;
        let mut restore = Restore::default();
        let mut tables: HashMap<OperatorId, Tables> = HashMap::new();
        for (operator, number, rows, bytes, table) in together {
            restore.rows += rows;
            restore.bytes += bytes;
            tables.entry(operator).or_default().insert(number, table);
        }
        Ok(Restore { tables: Mutex::new(tables), ..restore })
    }

    /// The state as of an epoch, at which the sources stood here and had said this of time.
    pub fn as_of(self, epoch: Time, positions: Positions, clock: Clock) -> Self {
        Restore { epoch, positions, clock, ..self }
    }

    /// What a worker's part of an operator keeps, by table. `home`: the worker that has all of what one worker has. It is given
    /// once: whoever takes it need not keep it twice.
    pub(crate) fn take(&self, operator: &OperatorId, worker: usize, home: usize) -> Vec<Vec<Delta>> {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(tables) = tables.get_mut(operator) else { return Vec::new() };
        let mut taken = vec![Vec::new(); tables.keys().next_back().map_or(0, |last| *last as usize + 1)];
        for (number, Table { at_home, parts }) in tables {
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
