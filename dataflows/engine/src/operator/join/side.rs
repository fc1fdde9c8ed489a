//! The stored rows of one side of a join, chained by key.
//!
//! Both kinds of side keep the Arrow columns they were given. One that only [grows](growing) has nothing besides; in one that
//! [changes](changing) a retraction finds its row, and equal rows are one row that is there several times.

mod changing;
mod growing;

use arrow::array::{ArrayRef, new_empty_array};
use arrow::datatypes::DataType;

use self::changing::Changing;
use self::growing::Growing;
use crate::operator::lives::{TimeToLive, netted};
use crate::{Delta, Diff};

/// No row: the end of a chain.
pub(super) const NONE: u32 = u32::MAX;

/// Rows of one side.
pub(super) struct Side {
    types: Vec<DataType>,
    store: Store,
}

enum Store {
    Growing(Growing),
    Changing(Box<Changing>),
}

impl Side {
    /// No rows yet, with columns of these types.
    pub(super) fn new(types: &[DataType], append_only: bool) -> Self {
        let store = if append_only { Store::Growing(Growing::default()) } else { Store::Changing(Box::default()) };
        Side { types: types.to_vec(), store }
    }

    /// Makes room for keys below `keys`.
    pub(super) fn resize(&mut self, keys: usize) {
        match &mut self.store {
            Store::Growing(store) => store.resize(keys),
            Store::Changing(store) => store.resize(keys),
        }
    }

    /// The first row of a key.
    #[inline]
    pub(super) fn first(&self, key: u32) -> u32 {
        match &self.store {
            Store::Growing(store) => store.first(key),
            Store::Changing(store) => store.first(key),
        }
    }

    /// Whether a key has no rows; it may be a number that this side has no room for yet.
    pub(super) fn is_without(&self, key: u32) -> bool {
        let keys = match &self.store {
            Store::Growing(store) => store.keys(),
            Store::Changing(store) => store.keys(),
        };
        key as usize >= keys || self.first(key) == NONE
    }

    /// The next row of the same key.
    #[inline]
    pub(super) fn next(&self, row: u32) -> u32 {
        match &self.store {
            Store::Growing(store) => store.next(row),
            Store::Changing(store) => store.next(row),
        }
    }

    /// How many copies of a row there are.
    #[inline]
    pub(super) fn weight(&self, row: u32) -> Diff {
        match &self.store {
            Store::Growing(_) => 1,
            Store::Changing(store) => store.weight(row),
        }
    }

    /// How many rows there are.
    pub(super) fn len(&self) -> usize {
        match &self.store {
            Store::Growing(store) => store.len(),
            Store::Changing(store) => store.len(),
        }
    }

    /// About how many bytes they take.
    pub(super) fn bytes(&self) -> usize {
        match &self.store {
            Store::Growing(store) => store.bytes(),
            Store::Changing(store) => store.bytes(),
        }
    }

    /// Makes room for so many more rows.
    pub(super) fn reserve(&mut self, rows: usize) {
        match &mut self.store {
            Store::Growing(store) => store.reserve(rows),
            Store::Changing(store) => store.reserve(rows),
        }
    }

    /// Takes a change: row `i` has key `keys[i]` and the values `columns[..][i]`.
    pub(super) fn insert(&mut self, keys: &[u32], columns: &[ArrayRef], delta: &Delta) {
        match &mut self.store {
            Store::Growing(store) => store.insert(keys, columns, delta),
            Store::Changing(store) => {
                store.insert(keys, columns, delta, &mut |_, _, _, _| {});
                store.sweep();
            }
        }
    }

    /// Takes a change as [`Side::insert`] does, but keeps rows that are gone until [`Side::sweep`]. `seen` is told the
    /// position of each change, its row, whether the row is new, and how many copies there were before. Only for a side
    /// that changes.
    pub(super) fn insert_seen(
        &mut self,
        keys: &[u32],
        columns: &[ArrayRef],
        delta: &Delta,
        seen: &mut dyn FnMut(usize, u32, bool, Diff),
    ) {
        let Store::Changing(store) = &mut self.store else { unreachable!("rows that are counted are kept by content") };
        store.insert(keys, columns, delta, seen);
    }

    /// Forgets rows that are gone.
    pub(super) fn sweep(&mut self) {
        if let Store::Changing(store) = &mut self.store {
            store.sweep();
        }
    }

    /// The columns of these rows.
    pub(super) fn gather(&self, rows: &[u32]) -> Vec<ArrayRef> {
        let all: Vec<usize> = (0..self.types.len()).collect();
        self.gather_of(rows, &all)
    }

    /// Some columns of these rows.
    pub(super) fn gather_of(&self, rows: &[u32], columns: &[usize]) -> Vec<ArrayRef> {
        if rows.is_empty() {
            return columns.iter().map(|column| new_empty_array(&self.types[*column])).collect();
        }
        let columns = columns.iter().copied();
        match &self.store {
            Store::Growing(store) => store.gather(rows, columns),
            Store::Changing(store) => store.gather(rows, columns),
        }
    }

    /// Forgets all rows of a key, and gives how many they were.
    pub(super) fn forget(&mut self, key: u32) -> usize {
        if self.is_without(key) {
            return 0;
        }
        match &mut self.store {
            Store::Growing(store) => store.forget(key),
            Store::Changing(store) => store.forget(key),
        }
    }

    /// Makes use of the room of rows that were forgotten.
    pub(super) fn reclaim(&mut self) {
        match &mut self.store {
            Store::Growing(store) => store.compact_if_worth_it(),
            Store::Changing(store) => store.tidy(),
        }
    }

    /// The changes of an epoch without retractions of rows that are not there, equal rows added up; `columns` are those of
    /// the side. `None`: there are no retractions.
    pub(super) fn admitted(
        &self,
        deltas: &[Delta],
        numbers: &[Vec<u32>],
        columns: &[usize],
        ttl: &TimeToLive,
    ) -> Option<(Vec<Delta>, Vec<Vec<u32>>)> {
        let Store::Changing(store) = &self.store else { return None };
        if !deltas.iter().any(|delta| delta.diff_values().is_some_and(|diffs| diffs.iter().any(|diff| *diff < 0))) {
            return None;
        }
        let kept: Vec<Vec<ArrayRef>> = deltas.iter().map(|delta| delta.columns(columns)).collect();
        let hashes: Vec<Vec<u64>> = kept.iter().zip(numbers).map(|(kept, keys)| changing::hashes(kept, keys)).collect();
        let (changes, ignored) = netted(deltas, numbers, columns, |delta, row| {
            let there = store.look(numbers[delta][row], hashes[delta][row], &kept[delta], row);
            there.map_or(0, |there| store.weight(there))
        });
        ttl.ignored(ignored);
        Some(changes.into_iter().unzip())
    }

    /// Keys that lost their last row since this was asked last.
    pub(super) fn take_emptied(&mut self) -> Vec<u32> {
        match &mut self.store {
            Store::Growing(_) => Vec::new(),
            Store::Changing(store) => store.take_emptied(),
        }
    }
}
