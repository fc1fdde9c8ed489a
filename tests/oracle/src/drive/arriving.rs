//! What a job that was restarted goes on from: its tables come when it is there already, as they do when they are read.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::thread;
use std::time::Duration;

use highwater_engine::{Arriving, Checkpoint, KeptOperator, OperatorId, Restore, TableState};

use crate::generate::Random;

/// Some of the tables come so much later than the others.
const LATER: Duration = Duration::from_millis(2);

/// What there is to go on from.
pub(super) struct State {
    restore: Restore,
    tables: Tables,
}

/// The tables of it.
pub(super) struct Tables {
    arriving: Arriving,
    /// In the order in which they come.
    tables: Vec<(OperatorId, Vec<TableState>)>,
    workers: usize,
    kept: Vec<KeptOperator>,
}

impl State {
    /// What these checkpoints come to, which follow each other from the job's beginning. `order`: a seed of the order in which its
    /// tables come.
    pub(super) fn new(saved: &[Checkpoint], workers: usize, kept: Vec<KeptOperator>, order: u64) -> Self {
        let last = saved.last().expect("a checkpoint was just taken");
        let mut tables: BTreeMap<(OperatorId, u32), Vec<TableState>> = BTreeMap::new();
        for state in saved.iter().flat_map(|checkpoint| &checkpoint.states) {
            for table in &state.tables {
                tables.entry((state.operator.clone(), table.table)).or_default().push(table.clone());
            }
        }
        let (restore, arriving) = Restore::awaiting(tables.keys().cloned());
        let mut tables: Vec<_> = tables.into_iter().map(|((operator, _), changes)| (operator, changes)).collect();
        let mut random = Random::new(order);
        tables.sort_by_cached_key(|_| random.below(1 << 30));
        let restore = restore.as_of(last.epoch, last.positions.clone(), last.clock.clone());
        State { restore, tables: Tables { arriving, tables, workers, kept } }
    }

    /// What the job is made with, and what comes then.
    pub(super) fn split(self) -> (Restore, Tables) {
        (self.restore, self.tables)
    }
}

impl Tables {
    /// They come.
    pub(super) fn arrive(self) {
        let Tables { arriving, tables, workers, kept } = self;
        let middle = tables.len() / 2;
        let tables = tables.into_iter().enumerate().map(|(number, table)| {
            if number == middle {
                thread::sleep(LATER);
            }
            Ok::<_, Infallible>(table)
        });
        arriving.fill(tables, workers, &kept).unwrap_or_else(|never| match never {});
    }
}
