//! The stored rows of one side of a join, chained by key.
//!
//! A side that only grows keeps the Arrow columns it was given. A side that changes keeps rows as bytes, with an index by
//! content, so that a retraction finds its row without walking the key's chain.

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use arrow_row::{RowConverter, Rows, SortField};
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::BATCH_ROWS;
use crate::equal::Place;
use crate::hash::{hash_bytes, mix};
use crate::keys::array_bytes;
use crate::operator::gather::gather;
use crate::operator::lives::{TimeToLive, netted};
use crate::{Delta, Diff};

/// No row: the end of a chain.
pub(super) const NONE: u32 = u32::MAX;

/// Rows of one side.
pub(super) struct Side {
    /// Per key the first row of its chain.
    heads: Vec<u32>,
    /// Per row the next of its chain.
    nexts: Vec<u32>,
    store: Store,
}

enum Store {
    Growing(Growing),
    Changing(Changing),
}

impl Side {
    /// No rows yet, with columns of these types.
    pub(super) fn new(types: &[DataType], append_only: bool) -> Self {
        let store = if append_only { Store::Growing(Growing::default()) } else { Store::Changing(Changing::new(types)) };
        Side { heads: Vec::new(), nexts: Vec::new(), store }
    }

    /// Makes room for keys below `keys`.
    pub(super) fn resize(&mut self, keys: usize) {
        self.heads.resize(keys, NONE);
    }

    /// The first row of a key.
    #[inline]
    pub(super) fn first(&self, key: u32) -> u32 {
        self.heads[key as usize]
    }

    /// Whether a key has no rows; it may be a number that this side has no room for yet.
    pub(super) fn is_without(&self, key: u32) -> bool {
        self.heads.get(key as usize).is_none_or(|first| *first == NONE)
    }

    /// The next row of the same key.
    #[inline]
    pub(super) fn next(&self, row: u32) -> u32 {
        self.nexts[row as usize]
    }

    /// How many copies of a row there are.
    #[inline]
    pub(super) fn weight(&self, row: u32) -> Diff {
        match &self.store {
            Store::Growing(_) => 1,
            Store::Changing(store) => store.rows[row as usize].weight,
        }
    }

    /// How many rows there are.
    pub(super) fn len(&self) -> usize {
        match &self.store {
            Store::Growing(store) => store.places.len() - store.free.len(),
            Store::Changing(store) => store.rows.len() - store.free.len(),
        }
    }

    /// About how many bytes they take.
    pub(super) fn bytes(&self) -> usize {
        let chains = (self.heads.capacity() + self.nexts.capacity()) * size_of::<u32>();
        chains
            + match &self.store {
                Store::Growing(store) => store.bytes + store.places.capacity() * 8,
                Store::Changing(store) => {
                    store.arena.capacity() + store.rows.capacity() * size_of::<Stored>() + store.index.capacity() * 17
                }
            }
    }

    /// Makes room for so many more rows.
    pub(super) fn reserve(&mut self, rows: usize) {
        self.nexts.reserve(rows);
        match &mut self.store {
            Store::Growing(store) => store.places.reserve(rows),
            Store::Changing(store) => {
                store.rows.reserve(rows);
                store.index.reserve(rows, |entry| entry.0);
            }
        }
    }

    /// Takes a change: row `i` has key `keys[i]` and the values `columns[..][i]`.
    pub(super) fn insert(&mut self, keys: &[u32], columns: &[ArrayRef], delta: &Delta) {
        match &mut self.store {
            Store::Growing(store) => store.insert(keys, columns, delta, &mut self.heads, &mut self.nexts),
            Store::Changing(store) => store.insert(keys, columns, delta, &mut self.heads, &mut self.nexts),
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
        let encoded = store.encode(columns);
        for (index, key) in keys.iter().enumerate() {
            let bytes = encoded.as_ref().map_or(&[][..], |encoded| encoded.row(index).data());
            let diff = delta.diff(index);
            if diff != 0 {
                let (row, hash, new) = store.slot(*key, bytes, &mut self.heads, &mut self.nexts);
                let before = store.rows[row as usize].weight;
                store.rows[row as usize].weight += diff;
                if before + diff == 0 {
                    store.gone.push((row, hash));
                }
                seen(index, row, new, before);
            }
        }
    }

    /// Forgets rows that are gone.
    pub(super) fn sweep(&mut self) {
        let Store::Changing(store) = &mut self.store else { return };
        let mut gone = std::mem::take(&mut store.gone);
        gone.sort_unstable();
        gone.dedup();
        for (row, hash) in gone {
            if store.rows[row as usize].weight == 0 {
                store.unlink(row, hash, &mut self.heads, &mut self.nexts);
            }
        }
        store.compact_if_worth_it();
    }

    /// The columns of these rows.
    pub(super) fn gather(&self, rows: &[u32]) -> Vec<ArrayRef> {
        match &self.store {
            Store::Growing(store) => store.gather(rows),
            Store::Changing(store) => store.gather(rows),
        }
    }

    /// Some columns of these rows.
    pub(super) fn gather_of(&self, rows: &[u32], columns: &[usize]) -> Vec<ArrayRef> {
        match &self.store {
            _ if columns.is_empty() => Vec::new(),
            Store::Growing(store) => store.gather_of(rows, columns.iter().copied()),
            Store::Changing(store) => {
                let all = store.gather(rows);
                columns.iter().map(|column| ArrayRef::clone(&all[*column])).collect()
            }
        }
    }

    /// Forgets all rows of a key, and gives how many they were.
    pub(super) fn forget(&mut self, key: u32) -> usize {
        let Some(head) = self.heads.get_mut(key as usize) else { return 0 };
        let (mut row, mut count) = (std::mem::replace(head, NONE), 0);
        while row != NONE {
            let next = std::mem::replace(&mut self.nexts[row as usize], NONE);
            match &mut self.store {
                Store::Growing(store) => store.forget(row),
                Store::Changing(store) => store.forget(row),
            }
            (row, count) = (next, count + 1);
        }
        count
    }

    /// Makes use of the room of rows that were forgotten.
    pub(super) fn reclaim(&mut self) {
        match &mut self.store {
            Store::Growing(store) => store.compact_if_worth_it(),
            Store::Changing(store) => store.compact_if_worth_it(),
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
        let encoded: Vec<Option<Rows>> = deltas.iter().map(|delta| store.encode(&delta.columns(columns))).collect();
        let (changes, ignored) = netted(deltas, numbers, columns, |delta, row| {
            let bytes = encoded[delta].as_ref().map_or(&[][..], |encoded| encoded.row(row).data());
            store.find(numbers[delta][row], bytes).map_or(0, |row| store.rows[row as usize].weight)
        });
        ttl.ignored(ignored);
        Some(changes.into_iter().unzip())
    }

    /// Keys that lost their last row since this was asked last.
    pub(super) fn take_emptied(&mut self) -> Vec<u32> {
        match &mut self.store {
            Store::Growing(_) => Vec::new(),
            Store::Changing(store) => std::mem::take(&mut store.emptied),
        }
    }
}

/// Retained Arrow columns.
#[derive(Default)]
struct Growing {
    batches: Vec<Vec<ArrayRef>>,
    /// Per row its batch and position.
    places: Vec<(u32, u32)>,
    bytes: usize,
    /// Rows that were forgotten: their numbers are used again, their values stay until the batches are made anew.
    free: Vec<u32>,
    /// Of those how many are still among the batches.
    dead: usize,
}

impl Growing {
    fn insert(&mut self, keys: &[u32], columns: &[ArrayRef], delta: &Delta, heads: &mut [u32], nexts: &mut Vec<u32>) {
        let batch = self.batches.len() as u32;
        for (row, key) in keys.iter().enumerate() {
            debug_assert!(delta.diff(row) > 0, "an append-only side has no retractions");
            for _ in 0..delta.diff(row) {
                let place = (batch, row as u32);
                if let Some(stored) = self.free.pop() {
                    self.places[stored as usize] = place;
                    nexts[stored as usize] = std::mem::replace(&mut heads[*key as usize], stored);
                    continue;
                }
                let stored = self.places.len() as u32;
                self.places.push(place);
                nexts.push(std::mem::replace(&mut heads[*key as usize], stored));
            }
        }
        self.bytes += columns.iter().map(array_bytes).sum::<usize>();
        self.batches.push(columns.to_vec());
    }

    fn forget(&mut self, row: u32) {
        self.places[row as usize] = (NONE, 0);
        self.free.push(row);
        self.dead += 1;
    }

    /// Makes the batches anew once less than half of their rows are left.
    fn compact_if_worth_it(&mut self) {
        let live: Vec<u32> = match self.dead > self.places.len() - self.free.len() {
            true => (0..self.places.len() as u32).filter(|row| self.places[*row as usize].0 != NONE).collect(),
            false => return,
        };
        let batches: Vec<Vec<ArrayRef>> = live.chunks(BATCH_ROWS).map(|rows| self.gather(rows)).collect();
        for (batch, rows) in live.chunks(BATCH_ROWS).enumerate() {
            for (position, row) in rows.iter().enumerate() {
                self.places[*row as usize] = (batch as u32, position as u32);
            }
        }
        self.bytes = batches.iter().flatten().map(array_bytes).sum();
        (self.batches, self.dead) = (batches, 0);
    }

    fn gather(&self, rows: &[u32]) -> Vec<ArrayRef> {
        let width = self.batches.first().map_or(0, Vec::len);
        if width == 0 {
            return Vec::new();
        }
        self.gather_of(rows, 0..width)
    }

    fn gather_of(&self, rows: &[u32], columns: impl Iterator<Item = usize>) -> Vec<ArrayRef> {
        let places = rows.iter().map(|row| self.places[*row as usize]).map(|(batch, row)| Place { batch, row });
        gather(places, columns, |batch, column| &self.batches[batch as usize][column])
    }
}

/// Rows as bytes, found by content.
struct Changing {
    converter: RowConverter,
    /// `(hash of key and content, row)`.
    index: HashTable<(u64, u32)>,
    rows: Vec<Stored>,
    free: Vec<u32>,
    arena: Vec<u8>,
    garbage: usize,
    emptied: Vec<u32>,
    /// Rows without copies that are still linked, with their hashes.
    gone: Vec<(u32, u64)>,
}

#[derive(Clone, Copy)]
struct Stored {
    start: usize,
    length: u32,
    key: u32,
    previous: u32,
    weight: Diff,
}

impl Changing {
    fn new(types: &[DataType]) -> Self {
        let fields = types.iter().map(|data_type| SortField::new(data_type.clone())).collect();
        Changing {
            converter: RowConverter::new(fields).expect("planners allow only columns that can be encoded"),
            index: HashTable::new(),
            rows: Vec::new(),
            free: Vec::new(),
            arena: Vec::new(),
            garbage: 0,
            emptied: Vec::new(),
            gone: Vec::new(),
        }
    }

    fn encode(&self, columns: &[ArrayRef]) -> Option<Rows> {
        (!columns.is_empty()).then(|| self.converter.convert_columns(columns).expect("the side's columns"))
    }

    fn insert(&mut self, keys: &[u32], columns: &[ArrayRef], delta: &Delta, heads: &mut [u32], nexts: &mut Vec<u32>) {
        let encoded = self.encode(columns);
        for (row, key) in keys.iter().enumerate() {
            let bytes = encoded.as_ref().map_or(&[][..], |encoded| encoded.row(row).data());
            let diff = delta.diff(row);
            if diff != 0 {
                self.change(*key, bytes, diff, heads, nexts);
            }
        }
        self.compact_if_worth_it();
    }

    fn compact_if_worth_it(&mut self) {
        if self.garbage > 64 * 1024 && self.garbage > self.arena.len() / 2 {
            self.compact();
        }
    }

    fn change(&mut self, key: u32, bytes: &[u8], diff: Diff, heads: &mut [u32], nexts: &mut Vec<u32>) {
        let (row, hash, _) = self.slot(key, bytes, heads, nexts);
        let stored = &mut self.rows[row as usize];
        stored.weight += diff;
        if stored.weight == 0 {
            self.unlink(row, hash, heads, nexts);
        }
    }

    /// The row of a key with this content, its hash, and whether it is new: then there are no copies of it yet.
    fn slot(&mut self, key: u32, bytes: &[u8], heads: &mut [u32], nexts: &mut Vec<u32>) -> (u32, u64, bool) {
        let hash = mix(hash_bytes(0, bytes), u64::from(key));
        let (rows, arena) = (&self.rows, &self.arena);
        let same = |entry: &(u64, u32)| {
            let stored = &rows[entry.1 as usize];
            entry.0 == hash && stored.key == key && &arena[stored.start..stored.start + stored.length as usize] == bytes
        };
        let vacant = match self.index.entry(hash, same, |entry| entry.0) {
            Entry::Occupied(entry) => return (entry.get().1, hash, false),
            Entry::Vacant(entry) => entry,
        };
        let row = self.free.pop().unwrap_or(self.rows.len() as u32);
        vacant.insert((hash, row));
        let stored = Stored { start: self.arena.len(), length: bytes.len() as u32, key, previous: NONE, weight: 0 };
        self.arena.extend_from_slice(bytes);
        match self.rows.get_mut(row as usize) {
            Some(freed) => *freed = stored,
            None => {
                self.rows.push(stored);
                nexts.push(NONE);
            }
        }
        let head = std::mem::replace(&mut heads[key as usize], row);
        nexts[row as usize] = head;
        if head != NONE {
            self.rows[head as usize].previous = row;
        }
        (row, hash, true)
    }

    fn find(&self, key: u32, bytes: &[u8]) -> Option<u32> {
        let hash = mix(hash_bytes(0, bytes), u64::from(key));
        let same = |entry: &(u64, u32)| entry.0 == hash && self.is(entry.1, key, bytes);
        self.index.find(hash, same).map(|entry| entry.1)
    }

    fn is(&self, row: u32, key: u32, bytes: &[u8]) -> bool {
        let stored = &self.rows[row as usize];
        stored.key == key && &self.arena[stored.start..stored.start + stored.length as usize] == bytes
    }

    /// Forgets a row that is in no chain any more.
    fn forget(&mut self, row: u32) {
        let stored = &mut self.rows[row as usize];
        let hash = mix(hash_bytes(0, &self.arena[stored.start..stored.start + stored.length as usize]), u64::from(stored.key));
        self.garbage += stored.length as usize;
        (stored.length, stored.weight) = (0, 0);
        if let Ok(entry) = self.index.find_entry(hash, |entry| entry.1 == row) {
            entry.remove();
        }
        self.free.push(row);
    }

    fn unlink(&mut self, row: u32, hash: u64, heads: &mut [u32], nexts: &mut [u32]) {
        let stored = self.rows[row as usize];
        let next = std::mem::replace(&mut nexts[row as usize], NONE);
        match stored.previous {
            NONE => heads[stored.key as usize] = next,
            previous => nexts[previous as usize] = next,
        }
        if next != NONE {
            self.rows[next as usize].previous = stored.previous;
        }
        if heads[stored.key as usize] == NONE {
            self.emptied.push(stored.key);
        }
        if let Ok(entry) = self.index.find_entry(hash, |entry| entry.1 == row) {
            entry.remove();
        }
        self.garbage += stored.length as usize;
        self.rows[row as usize].length = 0;
        self.free.push(row);
    }

    fn gather(&self, rows: &[u32]) -> Vec<ArrayRef> {
        let parser = self.converter.parser();
        let bytes = rows.iter().map(|row| {
            let stored = &self.rows[*row as usize];
            parser.parse(&self.arena[stored.start..stored.start + stored.length as usize])
        });
        self.converter.convert_rows(bytes).expect("the bytes came from this converter")
    }

    fn compact(&mut self) {
        let mut arena = Vec::with_capacity(self.arena.len() - self.garbage);
        for stored in &mut self.rows {
            let start = arena.len();
            arena.extend_from_slice(&self.arena[stored.start..stored.start + stored.length as usize]);
            stored.start = start;
        }
        self.arena = arena;
        self.garbage = 0;
    }
}
