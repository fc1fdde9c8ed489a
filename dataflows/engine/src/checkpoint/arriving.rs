//! The tables of a job that goes on from a checkpoint, as they are read.
//!
//! ```text
//!  whoever reads ──► a table ──► put together, cut for the workers ──► here ──► its operator, when it has all of its tables
//!                                                                       │
//!                                                        the workers are woken, and ask their operators
//! ```
//!
//! So operators load what is there while that of others is still being read, and a worker serves its other jobs meanwhile. No
//! worker opens an epoch before all operators of all workers have what they had.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use highwater_turns::{is_simulated, lock};
use timely::scheduling::SyncActivator;

use super::restore::{Part, Table};
use super::{Checkpoints, KeptOperator, OperatorId, TableState};
use crate::parallel::as_they_come;

/// How many tables are put together at a time, each by all cores.
const TABLES_AT_ONCE: usize = 2;

/// An operator's tables.
pub(super) type Tables = BTreeMap<u32, Table>;

/// Wakes all workers.
type Wake = Arc<dyn Fn() + Send + Sync>;

/// Gives a [`super::Restore`] the tables that it awaits. A job to which not all of them are given never opens an epoch: whoever
/// made it drops it then.
#[derive(Debug)]
pub struct Arriving(pub(super) Arc<Arrivals>);

/// What has come, and who waits for it.
#[derive(Default)]
pub(crate) struct Arrivals {
    state: Mutex<State>,
    /// How often there was news for operators that wait.
    news: AtomicU64,
    /// How many workers have made their operators.
    made: AtomicUsize,
    /// How many workers have begun.
    begun: AtomicUsize,
    wake: OnceLock<Wake>,
}

#[derive(Default)]
struct State {
    tables: HashMap<OperatorId, Tables>,
    /// How many tables of an operator are still to come.
    missing: HashMap<OperatorId, usize>,
    /// All that comes has come.
    complete: bool,
    /// Nobody will take anything any more.
    given_up: bool,
    /// Operators that do not have what they had: their workers, and how to have them asked.
    waiting: BTreeMap<u64, (usize, SyncActivator)>,
    next: u64,
}

/// An operator that waits for what it had.
pub(crate) struct Awaits {
    arrivals: Arc<Arrivals>,
    number: u64,
}

impl Arriving {
    /// Puts together and gives all tables, for a job on so many workers with these operators: each table with all of its changes,
    /// oldest first, under its operator. While further tables come those that are there are put together, and loaded.
    ///
    /// Cost:  of operators that [want content](KeptOperator::takes_changes) a hash per row of tables from which something was
    ///        taken back, two if those have a [unique key](KeptOperator::unique_key); one per row of what is
    ///        [of several workers](super::Piece), which is copied. All cores take part.
    /// Errors: the first that comes instead of a table. What came before it was given.
    ///
    /// # Panics
    ///
    /// If a table comes that is not awaited.
    pub fn fill<E>(
        self,
        tables: impl Iterator<Item = Result<(OperatorId, Vec<TableState>), E>>,
        workers: usize,
        kept: &[KeptOperator],
    ) -> Result<(), E> {
        let put = |(operator, changes): (OperatorId, Vec<TableState>)| {
            let kept = kept.iter().find(|kept| kept.operator == operator);
            let Some(newest) = changes.last().filter(|_| kept.is_none_or(|kept| !kept.derived)) else { return };
            let number = newest.table;
            self.0.put(operator, number, Table::of(&changes, workers, kept));
        };
        let tables = tables.take_while(|_| !self.0.lock().given_up);
        if is_simulated() {
            // A simulation wakes its threads in the order in which it is told to, which threads of no simulation cannot do.
            for table in tables {
                put(table?);
            }
        } else {
            as_they_come(tables, TABLES_AT_ONCE, put)?;
        }
        self.0.complete();
        Ok(())
    }
}

impl Arrivals {
    /// Of these tables.
    pub(super) fn of(expected: impl IntoIterator<Item = (OperatorId, u32)>) -> Self {
        let mut state = State::default();
        for (operator, _) in expected {
            *state.missing.entry(operator).or_default() += 1;
        }
        Arrivals { state: Mutex::new(state), ..Arrivals::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn put(&self, operator: OperatorId, number: u32, table: Table) {
        let mut state = self.lock();
        if state.given_up {
            return;
        }
        // Whoever was not told of it may have begun without.
        let missing =
            state.missing.get_mut(&operator).filter(|missing| **missing > 0).expect("only tables come that are awaited");
        *missing -= 1;
        let has_all = *missing == 0;
        state.tables.entry(operator).or_default().insert(number, table);
        drop(state);
        if has_all {
            self.tell();
        }
    }

    fn complete(&self) {
        self.lock().complete = true;
        self.tell();
    }

    /// There is something new: whoever waits is to be asked.
    pub(super) fn tell(&self) {
        self.news.fetch_add(1, Ordering::Release);
        if let Some(wake) = self.wake.get() {
            wake();
        }
    }

    /// A worker's part of an operator's tables; `None` while some of those are still to come. `of`: its part of a table.
    pub(super) fn take(&self, operator: &OperatorId, mut of: impl FnMut(&mut Table) -> Part) -> Option<Vec<Part>> {
        let mut state = self.lock();
        let is_missing = !state.complete && state.missing.get(operator).is_some_and(|missing| *missing > 0);
        if is_missing || state.given_up {
            return None;
        }
        let Some(tables) = state.tables.get_mut(operator) else { return Some(Vec::new()) };
        let mut taken = Vec::new();
        taken.resize_with(tables.keys().next_back().map_or(0, |last| *last as usize + 1), Part::default);
        tables.iter_mut().for_each(|(number, table)| taken[*number as usize] = of(table));
        Some(taken)
    }

    /// An operator of a worker waits until it has what it had; asked again whenever there is news.
    pub(super) fn await_them(self: &Arc<Self>, worker: usize, activator: SyncActivator) -> Awaits {
        let mut state = self.lock();
        state.next += 1;
        let number = state.next;
        state.waiting.insert(number, (worker, activator));
        Awaits { arrivals: Arc::clone(self), number }
    }
}

impl super::Restore {
    /// Whom to wake when there is something new.
    pub(crate) fn wakes(&self, wake: Wake) {
        let _ = self.arrivals.wake.set(wake);
    }

    /// A worker has made its operators: those that do not have what they had [wait](Restore::await_them).
    pub(crate) fn made(&self) {
        self.arrivals.made.fetch_add(1, Ordering::Release);
        self.arrivals.tell();
    }

    /// Whether all operators of all workers, of which there are so many, have what they had.
    pub(crate) fn is_over(&self, workers: usize) -> bool {
        let all_made = self.arrivals.made.load(Ordering::Acquire) == workers;
        let state = self.arrivals.lock();
        all_made && state.complete && state.waiting.is_empty()
    }

    /// Has those operators of a worker asked once more that wait, should there be news since it `saw` some last.
    pub(crate) fn ask_again(&self, worker: usize, saw: &mut u64) {
        let news = self.arrivals.news.load(Ordering::Acquire);
        if std::mem::replace(saw, news) != news {
            let state = self.arrivals.lock();
            for (_, operator) in state.waiting.values().filter(|(of, _)| *of == worker) {
                // It fails if the worker has ended.
                let _ = operator.activate();
            }
        }
    }

    /// The job is over before it has begun: what has come is freed, and nothing more is taken.
    pub(crate) fn give_up(&self) {
        let mut state = self.arrivals.lock();
        state.given_up = true;
        let tables = std::mem::take(&mut state.tables);
        drop(state);
        drop(tables);
    }
}

impl Checkpoints {
    /// A worker's operators have what they had, and so have those of all workers that it knows of.
    pub(crate) fn begins(&self) {
        self.restore.iter().for_each(|restore| _ = restore.arrivals.begun.fetch_add(1, Ordering::Release));
    }

    /// Whether all operators have what they had.
    pub(crate) fn has_begun(&self) -> bool {
        self.restore.as_ref().is_none_or(|restore| restore.arrivals.begun.load(Ordering::Acquire) == self.workers)
    }
}

impl Awaits {
    /// It has what it had.
    pub(crate) fn end(self) {
        self.arrivals.lock().waiting.remove(&self.number);
        self.arrivals.tell();
    }
}

impl std::fmt::Debug for Arrivals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.lock();
        f.debug_struct("Arrivals").field("missing", &state.missing).field("waiting", &state.waiting.len()).finish_non_exhaustive()
    }
}

/// All of it is there.
pub(super) fn all_of(
    tables: impl Iterator<Item = (OperatorId, Vec<TableState>)>,
    workers: usize,
    kept: &[KeptOperator],
) -> Arc<Arrivals> {
    let tables: Vec<_> = tables.filter(|(_, changes)| !changes.is_empty()).collect();
    let expected = tables.iter().map(|(operator, changes)| (operator.clone(), changes[0].table));
    let arrivals = Arc::new(Arrivals::of(expected));
    let arriving = Arriving(Arc::clone(&arrivals));
    arriving.fill(tables.into_iter().map(Ok::<_, Infallible>), workers, kept).unwrap_or_else(|never| match never {});
    arrivals
}
