//! A job's state as of one epoch, taken while later epochs are in flight.
//!
//! Nobody stops and nothing is marked in the streams. The epoch `E` is chosen when it is opened ([`EpochGate`]); an operator
//! that has applied `E`, and nothing after it, hands out what changed in its state since the checkpoint before, and goes on.
//! What it hands out is pointers to batches that exist already, or copies of the groups that were touched: the cost is that
//! of the change, not of the state. Whoever asked for the checkpoint gets it whole, when the last operator has given its part.
//!
//! State is *tables of rows*. Of a table in the form of [`Form::Rows`] the sum of all changes counts, of [`Form::Entries`]
//! the last row per key; either way a table that was put together from checkpoints is cut by the hash of its `route` columns
//! for any number of workers ([`restore`]).
//!
//! [`EpochGate`]: crate::pump::EpochGate

mod arriving;
mod fold;
mod loading;
mod relations;
mod restore;
mod saving;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

pub use self::arriving::Arriving;
pub(crate) use self::arriving::Awaits;
pub use self::fold::{fold, fold_pieces};
pub(crate) use self::loading::Loaded;
pub use self::relations::LOG_COLUMNS;
pub(crate) use self::relations::SideRelations;
pub use self::restore::{GivenBack, Restore};
pub(crate) use self::saving::{Derived, Had, Keeps, Known, Saved, Saving, is_replaying};
use crate::{Delta, Time};

/// What changed in a job's state since the checkpoint before, as of an epoch.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// All rows of this epoch and of those before it are in the state, and none of those after it.
    pub epoch: Time,
    /// What every operator keeps.
    pub states: Vec<OperatorState>,
    /// Per source ([`highwater_plan::Job::sources`]) and partition where reading it stands.
    pub positions: Positions,
    /// What the sources said of time.
    pub clock: Clock,
}

/// Per source and partition where reading it stands.
pub type Positions = BTreeMap<(usize, String), String>;

/// What a job's sources said of time, as of an epoch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Clock {
    /// Per source its watermark, and that of processing time if the job goes by it.
    pub watermarks: Vec<i64>,
    /// Per source, while all its feeds are idle: the epoch and the watermark at which that began.
    pub idle_since: Vec<Option<(Time, i64)>>,
}

/// Stands for a node where the watermarks are meant.
pub(crate) const CLOCK: usize = usize::MAX;

/// Names an operator of a plan.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OperatorId {
    /// Index into [`highwater_plan::Plan::nodes`].
    pub node: usize,
    /// Which of the node's operators.
    pub name: String,
}

/// An operator that keeps state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptOperator {
    /// The operator.
    pub operator: OperatorId,
    /// In which form: an operator that keeps the same in another form cannot take it over.
    pub form: String,
    /// What it follows from.
    pub from: KeptFrom,
    /// Whether its table 0 has all rows that its node gives, and all of their columns.
    pub complete: bool,
    /// Whether it can be given back all that became of its tables, and put that together itself: otherwise what is in them.
    pub takes_changes: bool,
    /// Columns of its table 0 in all of which, at the end of every epoch, no two rows agreed, if that is known.
    pub unique_key: Option<Vec<usize>>,
    /// What it has follows from what another operator of its node is given back: its own tables are not looked at for that.
    pub derived: bool,
}

impl KeptOperator {
    /// Of which nothing more is known.
    fn new(operator: OperatorId, from: KeptFrom, form: String) -> Self {
        let complete = from == KeptFrom::Output;
        KeptOperator { operator, form, from, complete, takes_changes: false, unique_key: None, derived: false }
    }
}

/// What the state of an operator follows from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeptFrom {
    /// What its node's inputs give.
    Inputs,
    /// What its node gives.
    Output,
    /// What happened to single rows, once: `$late`, `$rejects`, `$errors`.
    Rows,
}

/// One operator's part of a checkpoint, on one worker.
#[derive(Debug, Clone)]
pub struct OperatorState {
    /// The operator.
    pub operator: OperatorId,
    /// The worker.
    pub worker: usize,
    /// Its tables; those in which nothing changed may be left out.
    pub tables: Vec<TableState>,
}

/// What changed in a table of an operator's state.
#[derive(Debug, Clone)]
pub struct TableState {
    /// Its number among the operator's.
    pub table: u32,
    /// What the changes mean.
    pub form: Form,
    /// Which workers have which rows.
    pub spread: Spread,
    /// Of which rows these are the changes.
    pub piece: Piece,
    /// The changes, in order.
    pub changes: Vec<Delta>,
    /// Rows that are no longer needed: those whose column, a 64-bit integer or a timestamp in microseconds, is at most this.
    pub freed: Option<(usize, i64)>,
}

/// How the changes of a table add up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Rows with multiplicities: their sum counts.
    Rows,
    /// The last change of a key counts, which are so many first columns: +1 sets its row, -1 removes it.
    Entries {
        /// How many columns are the key.
        keys: usize,
    },
}

/// Which workers have which rows of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Spread {
    /// Each row is at the worker that the hash of these columns belongs to, when it is saved as when it is given back.
    ByColumns(Vec<usize>),
    /// Each row is at some worker, whichever.
    Anywhere,
    /// One worker has all.
    One,
    /// Every worker has all, of which only the first one's are saved.
    Everywhere,
}

/// The rows of a table whose hashes belong to one worker of so many.
///
/// It is [`Piece::WHOLE`] of tables that are not [spread by columns](Spread::ByColumns).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Piece {
    /// Which worker, from 0.
    pub number: usize,
    /// Of how many.
    pub of: usize,
}

impl Piece {
    /// All rows.
    pub const WHOLE: Piece = Piece { number: 0, of: 1 };

    /// The worker, of so many, that has all of these rows; `None` if they are of several.
    pub(crate) fn worker(self, workers: usize) -> Option<usize> {
        self.of.is_multiple_of(workers).then_some(self.number % workers)
    }
}

/// Called with the checkpoint that was asked for, or with the reason why there is none.
pub type CheckpointDone = Box<dyn FnOnce(Result<Checkpoint, String>) + Send>;

/// Takes a job's checkpoints, one after the other.
#[derive(Debug, Default)]
pub(crate) struct Checkpoints {
    /// Operators remember what changes.
    enabled: bool,
    /// Of the job.
    pub(crate) workers: usize,
    /// The next epoch that is opened is that of a checkpoint.
    asked: AtomicBool,
    /// The epoch of the last checkpoint; 0 before the first.
    due: AtomicU64,
    collected: Mutex<Collected>,
    /// What in the job cannot be saved.
    unsaved: Mutex<Option<&'static str>>,
    /// What the job starts from.
    pub(crate) restore: Option<Restore>,
}

#[derive(Default)]
struct Collected {
    done: Option<CheckpointDone>,
    /// The epoch of the last checkpoint that is whole.
    whole: Time,
    /// Per worker.
    workers: Vec<Part>,
    positions: Positions,
    clock: Clock,
    /// Of the job's end, which may come while a checkpoint of an epoch before it is being taken.
    last_positions: Positions,
    /// As `last_positions`.
    last_clock: Option<Clock>,
}

/// One worker's part of what is collected.
#[derive(Default)]
struct Part {
    /// How often each name was met among a node's operators.
    names: BTreeMap<OperatorId, usize>,
    /// What keeps state, and in which form.
    kept: Vec<KeptOperator>,
    /// What keeps state, the clock included.
    givers: Vec<Giver>,
    states: Vec<OperatorState>,
    /// For the checkpoint after the one that is being taken.
    later: Vec<OperatorState>,
    /// Its feeds have said where they stand as of the epoch that is due.
    fed: bool,
    /// The job's last epoch, when its feeds have said where they stood at its end.
    ended: Option<Time>,
}

/// How far something that keeps state has come.
#[derive(Debug, Clone, Copy, Default)]
struct Giver {
    /// It has given its state as of the epoch that is due.
    given: bool,
    /// It will have no more.
    ended: bool,
}

impl Part {
    /// A worker that ended its feeds has not read any row since the epoch that is due.
    fn is_whole(&self) -> bool {
        (self.fed || self.ended.is_some()) && self.givers.iter().all(|giver| giver.given || giver.ended)
    }

    fn has_ended(&self) -> bool {
        self.ended.is_some() && self.givers.iter().all(|giver| giver.ended)
    }
}

/// Names what keeps state among all that does on its worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot(usize);

impl std::fmt::Debug for Collected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Collected").field("asked", &self.done.is_some()).finish_non_exhaustive()
    }
}

impl Checkpoints {
    /// Of a job on so many workers. `enabled`: checkpoints will be asked for.
    pub(crate) fn new(enabled: bool, workers: usize, restore: Option<Restore>) -> Self {
        let collected = Collected { workers: (0..workers).map(|_| Part::default()).collect(), ..Collected::default() };
        Checkpoints { enabled, workers, restore, collected: Mutex::new(collected), ..Checkpoints::default() }
    }

    /// Whether the job's state is saved, or comes from what was.
    fn are_used(&self) -> bool {
        self.enabled || self.restore.is_some()
    }

    /// Asks for a checkpoint.
    pub(crate) fn ask(&self, done: CheckpointDone) {
        if !self.enabled {
            return done(Err("the job was started without checkpoints".into()));
        }
        if let Some(what) = *self.unsaved.lock().expect("nothing panics under this lock") {
            return done(Err(format!("the job has {what}, whose state cannot be saved yet")));
        }
        let mut collected = self.lock();
        if collected.done.is_some() {
            drop(collected);
            return done(Err("the checkpoint before is still being taken".into()));
        }
        collected.done = Some(done);
        self.asked.store(true, Ordering::Release);
        self.finish(collected);
    }

    /// Whether an epoch is to be opened for a checkpoint.
    pub(crate) fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Acquire)
    }

    /// An epoch is being opened: it may become that of a checkpoint. No row of it is on its way yet.
    pub(crate) fn opens(&self, epoch: Time) {
        if self.asked.swap(false, Ordering::AcqRel) {
            self.due.store(epoch, Ordering::Release);
        }
    }

    /// The epoch of the last checkpoint.
    pub(crate) fn due(&self) -> Time {
        self.due.load(Ordering::Acquire)
    }

    /// There will be no more epochs: nobody waits for what cannot come.
    pub(crate) fn abandon(&self, why: &str) {
        let done = self.lock().done.take();
        if let Some(done) = done {
            done(Err(why.to_owned()));
        }
    }

    /// There is an operator whose state cannot be saved.
    pub(crate) fn refuse(&self, what: &'static str) {
        *self.unsaved.lock().expect("nothing panics under this lock") = Some(what);
    }

    /// Something that keeps state is being built; gives what it is called.
    fn register(&self, worker: usize, operator: OperatorId, from: KeptFrom, form: &dyn std::fmt::Debug) -> (Slot, OperatorId) {
        self.register_kept(worker, KeptOperator::new(operator, from, format!("{form:?}")))
    }

    fn register_kept(&self, worker: usize, mut kept: KeptOperator) -> (Slot, OperatorId) {
        let mut collected = self.lock();
        let part = &mut collected.workers[worker];
        let same = part.names.entry(kept.operator.clone()).or_default();
        *same += 1;
        if *same > 1 {
            kept.operator.name = format!("{} #{same}", kept.operator.name);
        }
        part.givers.push(Giver::default());
        let id = kept.operator.clone();
        part.kept.push(kept);
        (Slot(part.givers.len() - 1), id)
    }

    /// What keeps state on a worker.
    pub(crate) fn kept(&self, worker: usize) -> Vec<KeptOperator> {
        self.lock().workers[worker].kept.clone()
    }

    /// Takes an operator's state as of the epoch that is due.
    fn give(&self, slot: Slot, state: OperatorState) {
        let mut collected = self.lock();
        let part = &mut collected.workers[state.worker];
        part.givers[slot.0].given = true;
        part.states.push(state);
        self.finish(collected);
    }

    /// Takes all that an operator will ever have.
    fn give_last(&self, slot: Slot, state: OperatorState) {
        let mut collected = self.lock();
        let part = &mut collected.workers[state.worker];
        let giver = &mut part.givers[slot.0];
        giver.ended = true;
        if giver.given {
            part.later.push(state)
        } else {
            part.states.push(state)
        }
        self.finish(collected);
    }

    /// Takes where a worker's feeds stand as of the epoch that is due.
    pub(crate) fn give_positions(&self, worker: usize, positions: Positions) {
        let mut collected = self.lock();
        collected.positions.extend(positions);
        collected.workers[worker].fed = true;
        self.finish(collected);
    }

    /// Takes where a worker's feeds stand at the end of the job's last epoch.
    pub(crate) fn give_last_positions(&self, worker: usize, epoch: Time, positions: Positions) {
        let mut collected = self.lock();
        let collects = &mut *collected;
        let part = &mut collects.workers[worker];
        part.ended = Some(epoch);
        if part.fed { &mut collects.last_positions } else { &mut collects.positions }.extend(positions);
        self.finish(collected);
    }

    /// The watermarks of a worker, all of which know the same, will be given.
    pub(crate) fn register_clock(&self, worker: usize) -> Slot {
        let id = OperatorId { node: CLOCK, name: "clock".into() };
        self.register(worker, id, KeptFrom::Rows, &"clock").0
    }

    /// Takes what is known of time as of the epoch that is due, or, if it `ended`, for ever.
    pub(crate) fn give_clock(&self, worker: usize, slot: Slot, clock: Clock, ended: bool) {
        let mut collected = self.lock();
        let giver = &mut collected.workers[worker].givers[slot.0];
        let is_later = giver.given;
        if ended {
            giver.ended = true
        } else {
            giver.given = true
        }
        if is_later {
            collected.last_clock = Some(clock)
        } else {
            collected.clock = clock
        }
        self.finish(collected);
    }

    /// Gives what is asked for, if that is whole: as of the epoch that is due, or as of the last one.
    fn finish(&self, mut collected: MutexGuard<'_, Collected>) {
        let due = self.due();
        let epoch = if due > collected.whole {
            if !collected.workers.iter().all(Part::is_whole) {
                return;
            }
            due
        } else {
            let last = collected.workers.first().and_then(|part| part.ended);
            if collected.done.is_none() || !collected.workers.iter().all(Part::has_ended) {
                return;
            }
            last.expect("every part has ended")
        };
        collected.whole = epoch;
        let states = collected.workers.iter_mut().flat_map(|part| {
            part.fed = false;
            part.givers.iter_mut().for_each(|giver| giver.given = false);
            let later = std::mem::take(&mut part.later);
            std::mem::replace(&mut part.states, later)
        });
        let states = states.collect();
        let checkpoint = Checkpoint { epoch, states, positions: collected.positions.clone(), clock: collected.clock.clone() };
        let last = std::mem::take(&mut collected.last_positions);
        collected.positions.extend(last);
        if let Some(clock) = collected.last_clock.take() {
            collected.clock = clock;
        }
        let done = collected.done.take();
        drop(collected);
        if let Some(done) = done {
            done(Ok(checkpoint));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Collected> {
        self.collected.lock().expect("nothing panics under this lock")
    }
}
