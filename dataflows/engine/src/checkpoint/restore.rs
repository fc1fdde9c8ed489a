//! What a job starts from: the state of checkpoints, for any number of workers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use timely::scheduling::SyncActivator;

use super::arriving::{Arrivals, Arriving, Awaits, all_of};
use super::fold::{changes_of, content};
use super::{Checkpoint, Clock, Form, KeptOperator, OperatorId, Positions, Spread, TableState};
use crate::delta::net;
use crate::keys::array_bytes;
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
    /// How much of it was given back.
    pub given: Arc<GivenBack>,
    pub(super) arrivals: Arc<Arrivals>,
}

/// How much of a state operators were given back.
#[derive(Debug, Default)]
pub struct GivenBack {
    /// Rows of all tables together.
    pub rows: AtomicU64,
    /// What they take as columns, in bytes.
    pub bytes: AtomicU64,
}

/// A table, cut for the workers.
#[derive(Debug)]
pub(super) struct Table {
    spread: Spread,
    parts: Vec<Part>,
}

/// A worker's part of a table.
#[derive(Debug, Default)]
pub(crate) struct Part {
    pub(crate) deltas: Vec<Delta>,
    pub(crate) size: PartSize,
}

/// What a part comes to.
#[derive(Debug, Default)]
pub(crate) struct PartSize {
    /// As columns, in bytes.
    bytes: usize,
    changes: usize,
    /// How many rows there are after all changes, if they tell.
    rows: Option<usize>,
}

impl Restore {
    /// The state after the last of these checkpoints, which follow each other from the job's beginning, for a job on so many
    /// workers with these operators. `None` if there are none.
    pub fn new(checkpoints: &[Checkpoint], workers: usize, kept: &[KeptOperator]) -> Option<Self> {
        let last = checkpoints.last()?;
        let mut tables: BTreeMap<(&OperatorId, u32), Vec<TableState>> = BTreeMap::new();
        for state in checkpoints.iter().flat_map(|checkpoint| &checkpoint.states) {
            for table in &state.tables {
                tables.entry((&state.operator, table.table)).or_default().push(table.clone());
            }
        }
        let tables = tables.into_iter().map(|((operator, _), changes)| (operator.clone(), changes));
        let restore = Restore { arrivals: all_of(tables, workers, kept), ..Restore::default() };
        Some(restore.as_of(last.epoch, last.positions.clone(), last.clock.clone()))
    }

    /// A state of which these tables are still to come, and who is to [give](Arriving::fill) them. The job may be created before.
    pub fn awaiting(expected: impl IntoIterator<Item = (OperatorId, u32)>) -> (Self, Arriving) {
        let arrivals = Arc::new(Arrivals::of(expected));
        (Restore { arrivals: Arc::clone(&arrivals), ..Restore::default() }, Arriving(arrivals))
    }

    /// The state as of an epoch, at which the sources stood here and had said this of time.
    pub fn as_of(self, epoch: Time, positions: Positions, clock: Clock) -> Self {
        Restore { epoch, positions, clock, ..self }
    }

    /// What a worker's part of an operator keeps, by table; `None` while some of it is still to come. `home`: the worker that has
    /// all of what one worker has. It is given once: whoever takes it need not keep it twice.
    pub(crate) fn take(&self, operator: &OperatorId, worker: usize, home: usize) -> Option<Vec<Part>> {
        self.arrivals.take(operator, |Table { spread, parts }| {
            let part = std::mem::take(&mut parts[worker]);
            if *spread != Spread::One || worker == home { part } else { Part::default() }
        })
    }

    /// An operator of a worker waits until it has what it had.
    pub(crate) fn await_them(&self, worker: usize, activator: SyncActivator) -> Awaits {
        self.arrivals.await_them(worker, activator)
    }

    /// A worker's part of a relation whose rows follow from what another operator was given back.
    pub(super) fn derive(&self, rows: Vec<Delta>) -> Vec<Delta> {
        let size = PartSize::of(&rows, Form::Rows, false);
        self.given.count(&size, size.changes);
        rows
    }

    /// A worker's part of a relation, which has one table; `None` while that is still to come.
    pub(crate) fn take_relation(&self, relation: &OperatorId, worker: usize) -> Option<Vec<Delta>> {
        let Some(part) = self.take(relation, worker, 0)?.into_iter().next() else { return Some(Vec::new()) };
        self.given.count(&part.size, part.size.changes);
        Some(part.deltas)
    }
}

impl Table {
    /// All of a table's changes, oldest first, put together and cut for so many workers. `kept`: what is known of its operator.
    pub(super) fn of(changes: &[TableState], workers: usize, kept: Option<&KeptOperator>) -> Self {
        let newest = changes.last().expect("tables without changes are left out");
        let (number, spread, form) = (newest.table, newest.spread.clone(), newest.form);
        let as_changes = kept.is_some_and(|kept| kept.takes_changes);
        let unique_key = kept.and_then(|kept| kept.unique_key.as_deref()).filter(|_| number == 0);
        let part = |(worker, deltas): (usize, Vec<Delta>)| {
            // Of what every worker has the first one's counts.
            let counts = worker == 0 || spread != Spread::Everywhere;
            let size = if counts { PartSize::of(&deltas, form, as_changes) } else { PartSize::default() };
            Part { deltas, size }
        };
        let parts = match as_changes {
            true => changes_of(changes, &spread, workers),
            false => content(changes, unique_key, &spread, workers),
        };
        let parts = parts.into_iter().enumerate().map(part).collect();
        Table { spread, parts }
    }
}

impl GivenBack {
    /// A worker was given a part back; it has so many rows, should the part not tell itself.
    pub(crate) fn count(&self, part: &PartSize, rows: usize) {
        let rows = part.rows.unwrap_or(rows).min(part.changes);
        if rows > 0 {
            self.rows.fetch_add(rows as u64, Ordering::Relaxed);
            // Changes are of one length, about.
            self.bytes.fetch_add((part.bytes as f64 * rows as f64 / part.changes as f64) as u64, Ordering::Relaxed);
        }
    }
}

impl PartSize {
    fn of(deltas: &[Delta], form: Form, as_changes: bool) -> Self {
        let changes = deltas.iter().map(Delta::len).sum();
        let rows = match form {
            _ if !as_changes => Some(changes),
            Form::Rows => Some(net(deltas)),
            Form::Entries { .. } => None,
        };
        PartSize { bytes: deltas.iter().flat_map(|delta| delta.rows.columns()).map(array_bytes).sum(), changes, rows }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, RecordBatch};

    use super::*;
    use crate::checkpoint::{KeptFrom, OperatorState, Piece};

    fn restored(spread: Spread, workers: usize, takes_changes: bool) -> Vec<usize> {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..100));
        let rows = RecordBatch::try_from_iter([("k", column)]).unwrap();
        let changes = vec![Delta::insert(rows)];
        let operator = OperatorId { node: 0, name: "sum".into() };
        let tables = vec![TableState { table: 0, form: Form::Rows, spread, piece: Piece::WHOLE, changes, freed: None }];
        let states = vec![OperatorState { operator: operator.clone(), worker: 0, tables }];
        let checkpoint = Checkpoint { epoch: 1, states, positions: Positions::new(), clock: Clock::default() };
        let kept = KeptOperator::new(operator.clone(), KeptFrom::Inputs, String::new());
        let kept = KeptOperator { takes_changes, ..kept };
        let restore = Restore::new(&[checkpoint], workers, &[kept]).unwrap();
        let rows =
            |worker| restore.take(&operator, worker, 1).unwrap().iter().flat_map(|part| &part.deltas).map(Delta::len).sum();
        (0..workers).map(rows).collect()
    }

    #[test]
    fn rows_go_where_their_operator_looks_for_them() {
        for changes in [false, true] {
            assert_eq!(restored(Spread::One, 3, changes), [0, 100, 0]);
            assert_eq!(restored(Spread::Everywhere, 3, changes), [100; 3]);
            for spread in [Spread::Anywhere, Spread::ByColumns(vec![0])] {
                let parts = restored(spread, 3, changes);
                assert_eq!((parts.iter().sum::<usize>(), parts.iter().all(|part| *part > 0)), (100, true));
            }
        }
    }
}
