//! The current row of each key: columns as they came, and per key where its row stands in them.
//!
//! Rows that were replaced stay in their batch until half of it is of no use: then its others are moved together. Small batches
//! are moved together too, so that there are few however little an epoch brings.

use arrow::array::ArrayRef;

use crate::equal::Place;
use crate::keys::array_bytes;
use crate::operator::gather::gather;

/// Batches of fewer rows are put together.
const BATCH_ROWS: usize = 8_192;

const NOWHERE: Place = Place { batch: u32::MAX, row: 0 };

/// Rows by the number of their key.
#[derive(Default)]
pub(super) struct Rows {
    batches: Vec<Batch>,
    /// Batches without rows, whose numbers are used again.
    free: Vec<u32>,
    /// Small batches, the older the larger.
    small: Vec<u32>,
    /// Batches of which half is of no use.
    sparse: Vec<u32>,
    /// Per key where its row is.
    places: Vec<Place>,
    /// Of all batches.
    bytes: usize,
}

#[derive(Default)]
struct Batch {
    columns: Vec<ArrayRef>,
    /// Per row its key, which may have another row by now.
    keys: Vec<u32>,
    /// How many rows are their keys'.
    live: usize,
    is_small: bool,
    bytes: usize,
}

impl Batch {
    /// Whether more rows are of no use than `live`.
    fn is_sparse(&self, live: usize) -> bool {
        2 * live < self.keys.len()
    }
}

impl Rows {
    /// Makes room for keys below `keys`.
    pub(super) fn make_room(&mut self, keys: usize) {
        self.places.resize(keys, NOWHERE);
    }

    /// Where a key's row is.
    pub(super) fn of(&self, key: u32) -> Option<Place> {
        Some(self.places[key as usize]).filter(|place| *place != NOWHERE)
    }

    /// About how many bytes the rows take.
    pub(super) fn bytes(&self) -> usize {
        self.bytes + self.places.capacity() * size_of::<Place>()
    }

    /// A key has no row any more.
    pub(super) fn remove(&mut self, key: u32) {
        let place = std::mem::replace(&mut self.places[key as usize], NOWHERE);
        if place == NOWHERE {
            return;
        }
        let batch = &mut self.batches[place.batch as usize];
        batch.live -= 1;
        if !batch.is_small && batch.is_sparse(batch.live) && !batch.is_sparse(batch.live + 1) {
            self.sparse.push(place.batch);
        }
    }

    /// Row `i` of these columns is from now on that of key `keys[i]`, and no other key has one of them. A key may come again:
    /// the last counts.
    pub(super) fn set(&mut self, columns: Vec<ArrayRef>, keys: Vec<u32>) {
        let number = self.free.pop().unwrap_or(self.batches.len() as u32);
        let bytes = columns.iter().map(array_bytes).sum::<usize>() + keys.len() * size_of::<u32>();
        let is_small = keys.len() < BATCH_ROWS;
        self.bytes += bytes;
        if number as usize == self.batches.len() {
            self.batches.push(Batch::default());
        }
        self.batches[number as usize] = Batch { live: keys.len(), columns, keys: Vec::new(), is_small, bytes };
        for (row, key) in keys.iter().enumerate() {
            self.remove(*key);
            self.places[*key as usize] = Place { batch: number, row: row as u32 };
        }
        let batch = &mut self.batches[number as usize];
        batch.keys = keys;
        if is_small {
            self.small.push(number);
        } else if batch.is_sparse(batch.live) {
            self.sparse.push(number);
        }
    }

    /// The columns of the rows at these places; none if there are no rows.
    pub(super) fn gather(&self, places: impl Iterator<Item = Place>, columns: usize) -> Vec<ArrayRef> {
        let mut places = places.peekable();
        if places.peek().is_none() {
            return Vec::new();
        }
        gather(places, 0..columns, |batch, column| &self.batches[batch as usize].columns[column])
    }

    /// Moves rows together where that is worth it.
    ///
    /// Cost:  amortised, each row is moved once for each that was replaced, and log(batch rows) times while batches are small.
    pub(super) fn tidy(&mut self) {
        let mut sparse = std::mem::take(&mut self.sparse).into_iter().peekable();
        while sparse.peek().is_some() {
            let (mut together, mut rows) = (Vec::new(), 0);
            while let Some(number) = sparse.next_if(|_| rows < BATCH_ROWS) {
                rows += self.batches[number as usize].live;
                together.push(number);
            }
            self.move_together(&together);
        }
        while let [.., before, last] = self.small[..] {
            let rows = |number: u32| self.batches[number as usize].live;
            if rows(before) > 2 * rows(last) {
                break;
            }
            self.small.truncate(self.small.len() - 2);
            self.move_together(&[before, last]);
        }
    }

    /// Makes one batch of the rows of several that are still their keys'.
    fn move_together(&mut self, numbers: &[u32]) {
        let (mut places, mut keys) = (Vec::new(), Vec::new());
        for number in numbers {
            for (row, key) in self.batches[*number as usize].keys.iter().enumerate() {
                let place = Place { batch: *number, row: row as u32 };
                if self.places[*key as usize] == place {
                    places.push(place);
                    keys.push(*key);
                }
            }
        }
        let columns = numbers.first().map_or(0, |number| self.batches[*number as usize].columns.len());
        let moved = self.gather(places.into_iter(), columns);
        for key in &keys {
            self.places[*key as usize] = NOWHERE;
        }
        for number in numbers {
            self.bytes -= std::mem::take(&mut self.batches[*number as usize]).bytes;
            self.free.push(*number);
        }
        if !keys.is_empty() {
            self.set(moved, keys);
        }
    }

    #[cfg(test)]
    pub(super) fn stored(&self) -> (usize, usize) {
        (self.batches.len() - self.free.len(), self.batches.iter().map(|batch| batch.keys.len()).sum())
    }
}
