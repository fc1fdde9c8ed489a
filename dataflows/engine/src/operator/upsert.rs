//! A table with a primary key: the last row per key counts.
//!
//! An insertion replaces the key's row, a retraction deletes it whatever its other columns say. Within an epoch the last row
//! of a key by its [place](super::place) counts, and only the difference to the row before the epoch goes on.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, Int64Array, RecordBatch, UInt64Array};
use arrow::compute;
use arrow::datatypes::{DataType, SchemaRef};
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use super::epoch::EpochLogic;
use super::gather::fixed_hasher;
use super::place::split_places;
use super::rows::{NOBODY, Rows};
use crate::checkpoint::Keeps;
use crate::delta::net;
use crate::equal::{Place, same_values};
use crate::keys::Keys;
use crate::{Delta, Time};

/// Keeps the current row per key.
pub(crate) struct Upsert {
    key: Vec<usize>,
    schema: SchemaRef,
    keys: Keys,
    rows: Rows,
    /// Per key, while an epoch is applied: where its last change stands among the changes, from 1 on; 0 if it has none.
    met: Vec<u32>,
}

/// What an epoch brings to a key.
#[derive(Clone, Copy)]
struct Change {
    key: u32,
    /// Later ones count.
    order: u64,
    /// The row that replaces the key's, among the epoch's; otherwise that is deleted.
    row: Option<Place>,
}

impl Upsert {
    /// An empty table of `schema` with these key columns.
    pub(crate) fn new(key: Vec<usize>, schema: SchemaRef) -> Self {
        let types: Vec<DataType> = key.iter().map(|column| schema.field(*column).data_type().clone()).collect();
        Upsert { key, keys: Keys::new(&types), rows: Rows::default(), met: Vec::new(), schema }
    }

    /// The last change of each key.
    fn changes(&mut self, deltas: &[Delta], orders: &[UInt64Array]) -> Vec<Change> {
        let (mut changes, mut numbers): (Vec<Change>, Vec<u32>) = (Vec::new(), Vec::new());
        for (batch, (delta, orders)) in deltas.iter().zip(orders).enumerate() {
            self.keys.intern(&delta.columns(&self.key), delta.len(), &mut numbers);
            self.met.resize(self.keys.bound(), 0);
            for (row, key) in numbers.iter().enumerate() {
                let place = Place { batch: batch as u32, row: row as u32 };
                let change = Change { key: *key, order: orders.value(row), row: (delta.diff(row) > 0).then_some(place) };
                match &mut self.met[*key as usize] {
                    0 => {
                        changes.push(change);
                        self.met[*key as usize] = changes.len() as u32;
                    }
                    at => {
                        let before = &mut changes[*at as usize - 1];
                        if before.order <= change.order {
                            *before = change;
                        }
                    }
                }
            }
        }
        changes.iter().for_each(|change| self.met[change.key as usize] = 0);
        changes
    }

    fn give(&self, columns: Vec<ArrayRef>, diff: i64, output: &mut Vec<Delta>) {
        let rows = RecordBatch::try_new(Arc::clone(&self.schema), columns).expect("the table's columns");
        let count = rows.num_rows();
        if count > 0 {
            output.push(Delta::of(rows, (diff < 0).then(|| Int64Array::from_value(diff, count))));
        }
    }
}

impl EpochLogic for Upsert {
    fn keeps(&self) -> Keeps {
        Keeps::Output
    }

    fn load(&mut self, _epoch: Time, tables: &mut [Vec<Delta>]) {
        let rows = net(&tables[0]);
        self.keys.reserve(rows);
        self.keys.expect(&tables[0].iter().map(|delta| delta.columns(&self.key)).collect::<Vec<_>>());
        self.rows.reserve(rows);
        let mut removed = Vec::new();
        // A key has one row at the end of each epoch, or none, and of what a checkpoint has of it, in order or added up, each row comes
        // beside the retraction of the one that it replaces. So a retraction is of the row that the key has, unless a row that came
        // before it took that one's place: they need not be compared to tell.
        let mut replaced: HashMap<u32, usize, ahash::RandomState> = HashMap::with_hasher(fixed_hasher());
        for delta in std::mem::take(&mut tables[0]) {
            let columns = delta.rows.columns();
            let mut numbers = Vec::new();
            self.keys.intern(&delta.columns(&self.key), delta.len(), &mut numbers);
            self.rows.make_room(self.keys.bound());
            let batch = self.rows.begin(columns.to_vec(), numbers.len());
            for (row, number) in numbers.iter_mut().enumerate() {
                if delta.diff(row) > 0 {
                    let place = Place { batch, row: row as u32 };
                    if self.rows.of(*number).is_none() {
                        self.rows.put_new(*number, place);
                    } else {
                        *replaced.entry(*number).or_default() += 1;
                        self.rows.put(*number, place);
                    }
                    continue;
                }
                match replaced.entry(*number) {
                    Entry::Occupied(mut left) if *left.get() > 1 => *left.get_mut() -= 1,
                    Entry::Occupied(left) => _ = left.remove(),
                    Entry::Vacant(_) => {
                        assert!(self.rows.of(*number).is_some(), "a table takes back only rows that it had");
                        debug_assert!(self.rows.has(*number, columns, row), "a key has one row at a time");
                        self.rows.remove(*number);
                    }
                }
                removed.push(std::mem::replace(number, NOBODY));
            }
            self.rows.end(batch, numbers);
            self.rows.tidy();
        }
        assert!(replaced.is_empty(), "a key of a table has one row at a time");
        removed.sort_unstable();
        removed.dedup();
        removed.retain(|number| self.rows.of(*number).is_none());
        removed.iter().for_each(|number| self.keys.remove(*number));
    }

    fn takes_changes(&self) -> bool {
        true
    }

    fn apply(&mut self, _epoch: Time, inputs: &mut [Vec<Delta>], _watermarks: Option<&[i64]>, output: &mut Vec<Delta>) {
        let (deltas, orders): (Vec<Delta>, Vec<UInt64Array>) =
            inputs[0].drain(..).map(|delta| split_places(delta, &self.schema)).unzip();
        let changes = self.changes(&deltas, &orders);
        self.rows.make_room(self.keys.bound());
        // Old and new rows, those of keys that have both first.
        let (mut both, mut added, mut deleted): (Vec<_>, Vec<_>, Vec<_>) = Default::default();
        for Change { key, row, .. } in changes {
            match (self.rows.of(key), row) {
                (Some(old), Some(new)) => both.push((key, old, new)),
                (None, Some(new)) => added.push((key, new)),
                (Some(old), None) => deleted.push((key, old)),
                (None, None) => self.keys.remove(key),
            }
        }
        let olds = both.iter().map(|(_, old, _)| *old).chain(deleted.iter().map(|(_, old)| *old));
        let old = self.rows.gather(olds, 0..self.schema.fields().len());
        let news = both.iter().map(|(_, _, new)| *new).chain(added.iter().map(|(_, new)| *new));
        let new = of_batches(&deltas, news);
        let differ = differing(&old, &new, both.len());
        let keys = both.iter().map(|(key, ..)| *key);
        let keys: Vec<u32> = keys.zip(differ.values()).filter(|(_, differs)| *differs).map(|(key, _)| key).collect();
        let keys: Vec<u32> = keys.into_iter().chain(added.iter().map(|(key, _)| *key)).collect();
        for (key, _) in &deleted {
            self.rows.remove(*key);
            self.keys.remove(*key);
        }
        let (old, new) = (with_rest(old, &differ, deleted.len()), with_rest(new, &differ, added.len()));
        if !old.is_empty() {
            self.give(old, -1, output);
        }
        if !new.is_empty() {
            self.rows.set(new.clone(), keys);
            self.give(new, 1, output);
        }
        self.rows.tidy();
    }

    fn state(&self) -> (usize, usize) {
        (self.keys.len(), self.keys.bytes() + self.rows.bytes() + self.met.capacity() * 4)
    }
}

/// The columns of these rows of batches; none if there are no rows.
fn of_batches(deltas: &[Delta], places: impl Iterator<Item = Place>) -> Vec<ArrayRef> {
    let places: Vec<(usize, usize)> = places.map(|place| (place.batch as usize, place.row as usize)).collect();
    if places.is_empty() {
        return Vec::new();
    }
    let column = |column: usize| {
        let arrays: Vec<&dyn Array> = deltas.iter().map(|delta| delta.rows.column(column).as_ref()).collect();
        compute::interleave(&arrays, &places).expect("rows of the epoch's batches")
    };
    (0..deltas[0].rows.num_columns()).map(column).collect()
}

/// Which of the first `rows` rows are not the same.
fn differing(old: &[ArrayRef], new: &[ArrayRef], rows: usize) -> BooleanArray {
    let mut same = BooleanArray::from(vec![rows > 0; rows]);
    for (old, new) in old.iter().zip(new).filter(|_| rows > 0) {
        same = compute::and(&same, &same_values(&old.slice(0, rows), &new.slice(0, rows))).expect("as many rows");
    }
    compute::not(&same).expect("booleans")
}

/// The first rows as far as they are `wanted`, and the `rest` of the rows; no columns if there are none.
fn with_rest(columns: Vec<ArrayRef>, wanted: &BooleanArray, rest: usize) -> Vec<ArrayRef> {
    match wanted.true_count() {
        0 if rest == 0 => Vec::new(),
        all if all == wanted.len() => columns,
        _ => {
            let kept: BooleanArray = wanted.iter().chain(std::iter::repeat_n(Some(true), rest)).collect();
            columns.iter().map(|column| compute::filter(column, &kept).expect("a bit per row")).collect()
        }
    }
}

#[cfg(test)]
mod tests;
