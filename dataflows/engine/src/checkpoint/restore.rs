//! What a job starts from: the state of checkpoints, for any number of workers.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::fold::{changes_of, content};
use super::{Checkpoint, Clock, Form, OperatorId, OperatorState, Positions, Spread, TableState};
use crate::keys::array_bytes;
use crate::{Delta, Diff, Time};

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
    workers: usize,
    tables: HashMap<OperatorId, Mutex<BTreeMap<u32, Table>>>,
}

/// How much of a state operators were given back.
#[derive(Debug, Default)]
pub struct GivenBack {
    /// Rows of all tables together.
    pub rows: AtomicU64,
    /// What they take as columns, in bytes.
    pub bytes: AtomicU64,
}

/// How an operator wants a table that it is given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wants {
    /// What is in it.
    Content,
    /// All that became of it, oldest first: it puts that together itself.
    Changes,
}

/// A table of an operator.
#[derive(Debug)]
enum Table {
    /// Oldest first.
    Saved(Vec<TableState>),
    /// Cut for the workers.
    Cut(Cut),
}

#[derive(Debug)]
struct Cut {
    spread: Spread,
    form: Form,
    parts: Vec<Vec<Delta>>,
}

/// A worker's part of a table.
#[derive(Debug, Default)]
pub(crate) struct Given {
    pub(crate) deltas: Vec<Delta>,
    /// How many rows they come to, if that can be told of the rows alone.
    rows: Option<usize>,
    /// It is another worker's part, too, which counts.
    is_copy: bool,
}

/// What such a part is to be counted as.
#[derive(Debug)]
pub(crate) struct GivenSize {
    /// Of all changes as columns.
    bytes: usize,
    changes: usize,
    rows: Option<usize>,
    is_copy: bool,
}

impl Restore {
    /// The state after the last of these checkpoints, which follow each other from the job's beginning, for a job on so many
    /// workers. `None` if there are none.
    pub fn new(checkpoints: &[Checkpoint], workers: usize) -> Option<Self> {
        let last = checkpoints.last()?;
        let states = checkpoints.iter().flat_map(|checkpoint| checkpoint.states.iter().cloned());
        Some(Restore::of_states(states, workers).as_of(last.epoch, last.positions.clone(), last.clock.clone()))
    }

    /// The state that these changes come to, oldest first, for a job on so many workers.
    pub fn of_states(states: impl IntoIterator<Item = OperatorState>, workers: usize) -> Self {
        let mut tables: HashMap<OperatorId, BTreeMap<u32, Vec<TableState>>> = HashMap::new();
        for state in states {
            let of_operator = tables.entry(state.operator).or_default();
            state.tables.into_iter().for_each(|table| of_operator.entry(table.table).or_default().push(table));
        }
        let saved = |tables: BTreeMap<u32, Vec<TableState>>| {
            Mutex::new(tables.into_iter().map(|(number, changes)| (number, Table::Saved(changes))).collect())
        };
        let tables = tables.into_iter().map(|(operator, tables)| (operator, saved(tables))).collect();
        Restore { workers, tables, ..Restore::default() }
    }

    /// The state as of an epoch, at which the sources stood here and had said this of time.
    pub fn as_of(self, epoch: Time, positions: Positions, clock: Clock) -> Self {
        Restore { epoch, positions, clock, ..self }
    }

    /// What a worker's part of an operator keeps, by table. `home`: the worker that has all of what one worker has. It is given
    /// once: whoever takes it need not keep it twice.
    ///
    /// Cost:  of content a hash per row of tables from which something was taken back; all cores take part.
    pub(crate) fn take(&self, operator: &OperatorId, worker: usize, home: usize, wants: Wants) -> Vec<Given> {
        let Some(tables) = self.tables.get(operator) else { return Vec::new() };
        let mut tables = tables.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = Vec::new();
        taken.resize_with(tables.keys().next_back().map_or(0, |last| *last as usize + 1), Given::default);
        for (number, table) in tables.iter_mut() {
            let Cut { spread, form, parts } = table.cut(self.workers, wants);
            if *spread == Spread::One && worker != home {
                continue;
            }
            let deltas = std::mem::take(&mut parts[worker]);
            let rows = match (wants, *form) {
                (Wants::Content, _) => Some(deltas.iter().map(Delta::len).sum()),
                (Wants::Changes, Form::Rows) => Some(net(&deltas)),
                (Wants::Changes, Form::Entries { .. }) => None,
            };
            taken[*number as usize] = Given { deltas, rows, is_copy: *spread == Spread::Everywhere && worker > 0 };
        }
        taken
    }

    /// A worker's part of a relation, which has one table.
    pub(crate) fn take_content(&self, relation: &OperatorId, worker: usize) -> Vec<Delta> {
        let Some(table) = self.take(relation, worker, 0, Wants::Content).into_iter().next() else { return Vec::new() };
        let size = table.size();
        self.given.count(&size, size.changes);
        table.deltas
    }
}

impl GivenBack {
    /// A worker was given a part back of which `rows` are there, if the part does not tell itself.
    pub(crate) fn count(&self, given: &GivenSize, rows: usize) {
        if given.is_copy || given.changes == 0 {
            return;
        }
        let rows = given.rows.unwrap_or(rows).min(given.changes);
        self.rows.fetch_add(rows as u64, Ordering::Relaxed);
        // Changes are of one length, about.
        self.bytes.fetch_add((given.bytes as f64 * rows as f64 / given.changes as f64) as u64, Ordering::Relaxed);
    }
}

impl Table {
    fn cut(&mut self, workers: usize, wants: Wants) -> &mut Cut {
        if let Table::Saved(changes) = self {
            let changes = std::mem::take(changes);
            let (spread, form) = changes.last().map_or((Spread::Anywhere, Form::Rows), |last| (last.spread.clone(), last.form));
            let parts = match wants {
                Wants::Content => content(&changes, &spread, workers),
                Wants::Changes => changes_of(&changes, &spread, workers),
            };
            *self = Table::Cut(Cut { spread, form, parts });
        }
        match self {
            Table::Cut(cut) => cut,
            Table::Saved(_) => unreachable!("it was cut just now"),
        }
    }
}

impl Given {
    pub(crate) fn size(&self) -> GivenSize {
        let bytes = self.deltas.iter().flat_map(|delta| delta.rows.columns()).map(array_bytes).sum();
        let changes = self.deltas.iter().map(Delta::len).sum();
        GivenSize { bytes, changes, rows: self.rows, is_copy: self.is_copy }
    }
}

/// How many rows are there after these changes.
fn net(deltas: &[Delta]) -> usize {
    let net: Diff = deltas.iter().map(|delta| delta.diff_values().map_or(delta.len() as Diff, |diffs| diffs.iter().sum())).sum();
    net.max(0) as usize
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, RecordBatch};

    use super::*;

    fn restored(spread: Spread, workers: usize, wants: Wants) -> Vec<usize> {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..100));
        let rows = RecordBatch::try_from_iter([("k", column)]).unwrap();
        let changes = vec![Delta::insert(rows)];
        let operator = OperatorId { node: 0, name: "sum".into() };
        let tables = vec![TableState { table: 0, form: Form::Rows, spread, changes, freed: None }];
        let states = vec![OperatorState { operator: operator.clone(), worker: 0, tables }];
        let checkpoint = Checkpoint { epoch: 1, states, positions: Positions::new(), clock: Clock::default() };
        let restore = Restore::new(&[checkpoint], workers).unwrap();
        let rows = |worker| restore.take(&operator, worker, 1, wants).iter().flat_map(|table| &table.deltas).map(Delta::len).sum();
        (0..workers).map(rows).collect()
    }

    #[test]
    fn rows_go_where_their_operator_looks_for_them() {
        for wants in [Wants::Content, Wants::Changes] {
            assert_eq!(restored(Spread::One, 3, wants), [0, 100, 0]);
            assert_eq!(restored(Spread::Everywhere, 3, wants), [100; 3]);
            for spread in [Spread::Anywhere, Spread::ByColumns(vec![0])] {
                let parts = restored(spread, 3, wants);
                assert_eq!((parts.iter().sum::<usize>(), parts.iter().all(|part| *part > 0)), (100, true));
            }
        }
    }
}
