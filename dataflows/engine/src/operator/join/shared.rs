//! A side that several joins of a job read: its rows are kept once, by hash of their key, and all of them look there.
//!
//! Joins are epoch-synchronous, but not all at the same epoch: one may be some epochs ahead of another. What is kept is
//! the relation as the slowest reader has it, and behind it a queue of the epochs that not all have read. A reader that is
//! ahead joins with what is kept *and* with the queued changes before its epoch, which get a table of their own when
//! somebody asks for it. When the last reader has read an epoch, its changes go into what is kept.
//!
//! ```text
//!  changes ──► exchange by key ──► keep ──► queue of epochs ─── read by all ──► rows by key
//!                                    └──► the same changes, for the joins that keep the other side
//! ```
//!
//! All of this belongs to one worker: nothing is locked.

use std::cell::{OnceCell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Schema, SchemaRef};

use super::Fresh;
use super::layout::Layout;
use super::side::Side;
use crate::checkpoint::{Keeps, KeptFrom};
use crate::keys::Keys;
use crate::operator::epoch::EpochLogic;
use crate::operator::map::Mapper;
use crate::stats::OperatorStats;
use crate::{Delta, Time};

/// A hold on a shared side.
#[derive(Clone)]
pub(crate) struct SharedRows(Rc<RefCell<Shared>>);

/// A join's hold on a shared side, and the side that it keeps itself. Keys have the same numbers on both, and for all
/// readers: a key that comes by several ways is looked up once for each, and kept once.
pub(crate) struct Reader {
    shared: SharedRows,
    /// Which reader this is.
    number: usize,
}

struct Shared {
    /// What is kept of the relation: its columns, ascending.
    columns: Vec<usize>,
    /// Where the kept columns are the key.
    on: Vec<usize>,
    schema: SchemaRef,
    append_only: bool,
    /// The relation as the slowest reader has it, and the keys of all sides.
    table: Table,
    /// What each reader keeps of its other side.
    others: Vec<Side>,
    /// Changes that not all readers have read, oldest first.
    queue: VecDeque<Queued>,
    stats: Arc<OperatorStats>,
}

/// The changes of an epoch.
struct Queued {
    epoch: Time,
    deltas: Vec<Delta>,
    /// How many readers have read them.
    read_by: usize,
    /// The changes by key, once a reader that is ahead has asked for them.
    table: OnceCell<Table>,
}

/// Rows by key. The keys of the shared rows' table are those of all readers too.
struct Table {
    keys: Keys,
    rows: Side,
}

impl SharedRows {
    /// Of a relation of `schema` the `columns` (ascending), by `key`, which is among them.
    pub(crate) fn new(
        schema: &SchemaRef,
        key: &[usize],
        columns: &[usize],
        append_only: bool,
        stats: Arc<OperatorStats>,
    ) -> Self {
        let fields = columns.iter().map(|column| schema.field(*column).clone().with_nullable(true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let on: Vec<usize> = key.iter().map(|column| position(columns, *column)).collect();
        let table = Table::new(&schema, &on, append_only);
        let (columns, queue, others) = (columns.to_vec(), VecDeque::new(), Vec::new());
        SharedRows(Rc::new(RefCell::new(Shared { columns, on, schema, append_only, table, others, queue, stats })))
    }

    /// A hold for one more join, which keeps columns of these types of its other side. All of them are made before the
    /// first epoch.
    pub(super) fn reader(self, types: &[DataType], append_only: bool) -> Reader {
        let mut shared = self.0.borrow_mut();
        shared.others.push(Side::new(types, append_only));
        let number = shared.others.len() - 1;
        drop(shared);
        Reader { shared: self, number }
    }

    /// Where the kept columns hold a column of the relation.
    pub(super) fn position(&self, column: usize) -> usize {
        position(&self.0.borrow().columns, column)
    }
}

impl Reader {
    /// Joins a change of the reader's own side with the shared rows before its epoch, then keeps it.
    pub(super) fn join(&self, change: &Change<'_>, layout: &Layout, mapper: &Mapper, output: &mut Vec<Delta>) {
        let mut shared = self.shared.0.borrow_mut();
        let mut numbers = Vec::new();
        shared.table.keys.intern(change.keys, change.delta.len(), &mut numbers);
        shared.resize(self.number);
        change.fresh(&numbers).join(&shared.table.rows, Some(change.read), layout, mapper, output);
        shared.others[self.number].insert(&numbers, change.kept, change.delta);
        for queued in shared.queue.iter().take_while(|queued| queued.epoch < change.epoch) {
            let table = queued.table.get_or_init(|| shared.table_of(&queued.deltas));
            table.keys.find(change.keys, change.delta.len(), &mut numbers);
            change.fresh(&numbers).join(&table.rows, Some(change.read), layout, mapper, output);
        }
    }

    /// Takes a change of the reader's own side without joining it.
    pub(super) fn insert(&self, keys: &[ArrayRef], kept: &[ArrayRef], delta: &Delta) {
        let mut shared = self.shared.0.borrow_mut();
        let mut numbers = Vec::new();
        shared.table.keys.intern(keys, delta.len(), &mut numbers);
        shared.resize(self.number);
        shared.others[self.number].insert(&numbers, kept, delta);
    }

    /// Joins a change of the shared rows with what the reader keeps.
    pub(super) fn join_kept(&self, change: &Change<'_>, layout: &Layout, mapper: &Mapper, output: &mut Vec<Delta>) {
        let mut shared = self.shared.0.borrow_mut();
        shared.resize(self.number);
        let mut numbers = Vec::new();
        shared.table.keys.find(change.keys, change.delta.len(), &mut numbers);
        change.fresh(&numbers).join(&shared.others[self.number], None, layout, mapper, output);
    }

    /// An epoch is over; `changed`: the shared rows changed in it.
    pub(super) fn read(&self, epoch: Time, changed: bool) {
        let mut shared = self.shared.0.borrow_mut();
        if changed {
            let queued = shared.queue.iter_mut().find(|queued| queued.epoch == epoch);
            queued.expect("an epoch is kept until all have read it").read_by += 1;
            shared.settle();
        }
        shared.forget_empty_keys(self.number);
    }

    /// Rows and bytes that the reader keeps itself.
    pub(super) fn state(&self) -> (usize, usize) {
        let shared = self.shared.0.borrow();
        let other = &shared.others[self.number];
        (other.len(), other.bytes())
    }
}

/// A change of either side.
pub(super) struct Change<'a> {
    pub(super) epoch: Time,
    /// Which side of the join it is.
    pub(super) side: usize,
    pub(super) delta: &'a Delta,
    /// Its key columns.
    pub(super) keys: &'a [ArrayRef],
    /// Its columns that the output reads.
    pub(super) kept: &'a [ArrayRef],
    /// Positions of the shared relation's kept columns that the output reads.
    pub(super) read: &'a [usize],
}

impl<'a> Change<'a> {
    fn fresh(&self, numbers: &'a [u32]) -> Fresh<'a> {
        Fresh { epoch: self.epoch, side: self.side, delta: self.delta, numbers, kept: self.kept.to_vec() }
    }
}

fn position(columns: &[usize], column: usize) -> usize {
    columns.iter().position(|kept| *kept == column).expect("the columns that are read are kept")
}

impl Table {
    fn new(schema: &SchemaRef, on: &[usize], append_only: bool) -> Self {
        let data_type = |column: usize| schema.field(column).data_type().clone();
        let types: Vec<DataType> = (0..schema.fields().len()).map(data_type).collect();
        let keys: Vec<DataType> = on.iter().map(|column| data_type(*column)).collect();
        Table { keys: Keys::new(&keys), rows: Side::new(&types, append_only) }
    }

    fn insert(&mut self, delta: &Delta, on: &[usize]) {
        let mut numbers = Vec::new();
        self.keys.intern(&delta.columns(on), delta.len(), &mut numbers);
        self.rows.resize(self.keys.bound());
        self.rows.insert(&numbers, delta.rows.columns(), delta);
    }
}

impl Shared {
    /// The columns that are kept.
    fn kept(&self, delta: Delta) -> Delta {
        // Of a side that is only counted no column is kept.
        let options = RecordBatchOptions::new().with_row_count(Some(delta.len()));
        let columns = delta.columns(&self.columns);
        let rows = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options);
        Delta::of(rows.expect("the kept columns are the input's"), delta.diffs)
    }

    fn table_of(&self, deltas: &[Delta]) -> Table {
        let mut table = Table::new(&self.schema, &self.on, self.append_only);
        deltas.iter().for_each(|delta| table.insert(delta, &self.on));
        table
    }

    /// Makes room for all keys, with the shared rows and with what one reader keeps.
    fn resize(&mut self, reader: usize) {
        let bound = self.table.keys.bound();
        self.table.rows.resize(bound);
        self.others[reader].resize(bound);
    }

    /// Takes up the changes that all have read.
    fn settle(&mut self) {
        while self.queue.front().is_some_and(|queued| queued.read_by == self.others.len()) {
            let queued = self.queue.pop_front().expect("it was there");
            queued.deltas.iter().for_each(|delta| self.table.insert(delta, &self.on));
        }
        let (rows, bytes) = self.size();
        self.stats.holds(rows, bytes);
    }

    /// Frees the numbers of those keys that no side has rows of any more, after one reader's epoch. Each number is freed
    /// once, because nobody leaves a key that it emptied to a later call.
    fn forget_empty_keys(&mut self, reader: usize) {
        let mut emptied = self.others[reader].take_emptied();
        emptied.append(&mut self.table.rows.take_emptied());
        emptied.sort_unstable();
        emptied.dedup();
        for number in emptied {
            if self.others.iter().chain([&self.table.rows]).all(|side| side.is_without(number)) {
                self.table.keys.remove(number);
            }
        }
    }

    fn size(&self) -> (usize, usize) {
        let tables = self.queue.iter().filter_map(|queued| queued.table.get()).chain([&self.table]);
        let bytes: usize = tables.map(|table| table.rows.bytes() + table.keys.bytes()).sum();
        let waiting = self.queue.iter().flat_map(|queued| &queued.deltas);
        waiting.fold((self.table.rows.len(), bytes), |(rows, bytes), delta| {
            (rows + delta.len(), bytes + delta.rows.get_array_memory_size())
        })
    }
}

/// The operator that keeps a shared side.
pub(crate) struct Keep(pub(crate) SharedRows);

impl EpochLogic for Keep {
    fn keeps(&self) -> Keeps {
        Keeps::Inputs
    }

    fn kept_from(&self) -> KeptFrom {
        KeptFrom::Output
    }

    fn load(&mut self, _epoch: Time, tables: &mut [Vec<Delta>]) {
        let mut shared = self.0.0.borrow_mut();
        let shared = &mut *shared;
        for delta in std::mem::take(&mut tables[0]) {
            let kept = shared.kept(delta);
            shared.table.insert(&kept, &shared.on);
        }
    }

    fn apply(&mut self, epoch: Time, inputs: &mut [Vec<Delta>], _watermarks: Option<&[i64]>, output: &mut Vec<Delta>) {
        let mut shared = self.0.0.borrow_mut();
        let deltas: Vec<Delta> = inputs[0].drain(..).filter(|delta| !delta.is_empty()).map(|delta| shared.kept(delta)).collect();
        if !deltas.is_empty() {
            output.extend(deltas.iter().cloned());
            shared.queue.push_back(Queued { epoch, deltas, read_by: 0, table: OnceCell::new() });
        }
    }

    fn state(&self) -> (usize, usize) {
        self.0.0.borrow().size()
    }
}
