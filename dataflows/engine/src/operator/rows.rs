//! The row of each number: columns as they came, and per number where its row stands in them.
//!
//! Numbers are those of keys, of which each has one row, or of the rows themselves. Rows that were replaced stay in their batch until half of it is of no use: then its others are moved together. Small batches
//! are moved together too, so that there are few however little an epoch brings.

use arrow::array::ArrayRef;

use crate::equal::{Place, same_value};
use crate::keys::array_bytes;
use crate::operator::gather::gather;

/// Batches of fewer rows are put together.
const BATCH_ROWS: usize = 4_096;

const NOWHERE: Place = Place { batch: u32::MAX, row: 0 };

/// Nobody has this row.
pub(crate) const NOBODY: u32 = u32::MAX;

/// Rows by number.
#[derive(Default)]
pub(crate) struct Rows {
    batches: Vec<Batch>,
    /// Batches without rows, whose numbers are used again.
    free: Vec<u32>,
    /// Small batches, the older the larger.
    small: Vec<u32>,
    /// Batches of which half is of no use.
    sparse: Vec<u32>,
    /// Per number where its row is.
    places: Vec<Place>,
    /// Of all batches.
    bytes: usize,
}

#[derive(Default)]
struct Batch {
    columns: Vec<ArrayRef>,
    /// Per row its number, which may have another row by now; none while it is still told which rows have one.
    numbers: Vec<u32>,
    /// How many rows are their numbers'.
    live: usize,
    is_small: bool,
    bytes: usize,
}

impl Batch {
    /// Whether more rows are of no use than `live`.
    fn is_sparse(&self, live: usize) -> bool {
        2 * live < self.numbers.len()
    }
}

impl Rows {
    /// Makes room for numbers below `numbers`.
    pub(crate) fn make_room(&mut self, numbers: usize) {
        if self.places.len() < numbers {
            self.places.resize(numbers, NOWHERE);
        }
    }

    /// Makes room for so many more numbers.
    pub(crate) fn reserve(&mut self, numbers: usize) {
        self.places.reserve(numbers);
    }

    /// Where a number's row is.
    pub(crate) fn of(&self, number: u32) -> Option<Place> {
        Some(self.places[number as usize]).filter(|place| *place != NOWHERE)
    }

    /// Whether a number's row has the values that stand at `position` of these columns.
    pub(crate) fn has(&self, number: u32, columns: &[ArrayRef], position: usize) -> bool {
        let place = self.places[number as usize];
        let stored = &self.batches[place.batch as usize].columns;
        stored.iter().zip(columns).all(|(stored, column)| same_value(stored, place.row as usize, column, position))
    }

    /// About how many bytes the rows take.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes + self.places.capacity() * size_of::<Place>()
    }

    /// A number has no row any more.
    pub(crate) fn remove(&mut self, number: u32) {
        let place = std::mem::replace(&mut self.places[number as usize], NOWHERE);
        if place == NOWHERE {
            return;
        }
        let batch = &mut self.batches[place.batch as usize];
        batch.live -= 1;
        if !batch.is_small && batch.is_sparse(batch.live) && !batch.is_sparse(batch.live + 1) {
            self.sparse.push(place.batch);
        }
    }

    /// Row `i` of these columns is from now on that of number `numbers[i]`, and no other number has one of them. A number may
    /// come again: the last counts.
    pub(crate) fn set(&mut self, columns: Vec<ArrayRef>, numbers: Vec<u32>) {
        let batch = self.begin(columns, numbers.len());
        for (row, number) in numbers.iter().enumerate() {
            self.put(*number, Place { batch, row: row as u32 });
        }
        self.end(batch, numbers);
    }

    /// Takes columns of so many rows; gives their batch. [`Rows::put`] says whose they are, until [`Rows::end`].
    pub(crate) fn begin(&mut self, columns: Vec<ArrayRef>, rows: usize) -> u32 {
        let number = self.free.pop().unwrap_or(self.batches.len() as u32);
        let bytes = columns.iter().map(array_bytes).sum::<usize>() + rows * size_of::<u32>();
        self.bytes += bytes;
        if number as usize == self.batches.len() {
            self.batches.push(Batch::default());
        }
        // All of them will be somebody's, or `end` tells.
        let batch = Batch { live: rows, columns, numbers: Vec::new(), is_small: rows < BATCH_ROWS, bytes };
        self.batches[number as usize] = batch;
        number
    }

    /// A row of the batch that was begun is from now on that of this number.
    #[inline]
    pub(crate) fn put(&mut self, number: u32, place: Place) {
        self.remove(number);
        self.put_new(number, place);
    }

    /// As [`Rows::put`], for a number that has no row.
    #[inline]
    pub(crate) fn put_new(&mut self, number: u32, place: Place) {
        debug_assert!(self.places[number as usize] == NOWHERE, "it has a row");
        self.places[number as usize] = place;
    }

    /// Says of each row of the batch whose it is, or that it is [`NOBODY`]'s.
    pub(crate) fn end(&mut self, batch: u32, numbers: Vec<u32>) {
        let ended = &mut self.batches[batch as usize];
        ended.live -= numbers.iter().filter(|number| **number == NOBODY).count();
        ended.numbers = numbers;
        if ended.live == 0 {
            self.drop_batch(batch);
        } else if ended.is_small {
            self.small.push(batch);
        } else if ended.is_sparse(ended.live) {
            self.sparse.push(batch);
        }
    }

    /// These columns of the rows at these places; none if there are no rows.
    pub(crate) fn gather(&self, places: impl Iterator<Item = Place>, columns: impl Iterator<Item = usize>) -> Vec<ArrayRef> {
        let mut places = places.peekable();
        if places.peek().is_none() {
            return Vec::new();
        }
        gather(places, columns, |batch, column| &self.batches[batch as usize].columns[column])
    }

    /// Moves rows together where that is worth it.
    ///
    /// Cost:  amortised, each row is moved once for each that was replaced, and log(batch rows) times while batches are small.
    pub(crate) fn tidy(&mut self) {
        let mut sparse = std::mem::take(&mut self.sparse).into_iter().peekable();
        while sparse.peek().is_some() {
            let (mut together, mut rows) = (Vec::new(), 0);
            while let Some(number) = sparse.next_if(|_| rows < BATCH_ROWS) {
                rows += self.batches[number as usize].live;
                together.push(number);
            }
            self.move_together(&together);
        }
        let rows = |batches: &[Batch], number: u32| batches[number as usize].live;
        while let [.., before, last] = self.small[..]
            && rows(&self.batches, before) <= 2 * rows(&self.batches, last)
        {
            self.small.truncate(self.small.len() - 2);
            self.move_together(&[before, last]);
        }
        while let Some(last) = self.small.pop_if(|last| rows(&self.batches, *last) == 0) {
            self.drop_batch(last);
        }
    }

    /// Makes one batch of the rows of several that are still their numbers'.
    fn move_together(&mut self, batches: &[u32]) {
        let (mut places, mut numbers) = (Vec::new(), Vec::new());
        for batch in batches {
            for (row, number) in self.batches[*batch as usize].numbers.iter().enumerate() {
                let place = Place { batch: *batch, row: row as u32 };
                if *number != NOBODY && self.places[*number as usize] == place {
                    places.push(place);
                    numbers.push(*number);
                }
            }
        }
        let columns = batches.first().map_or(0, |batch| self.batches[*batch as usize].columns.len());
        let moved = self.gather(places.into_iter(), 0..columns);
        for number in &numbers {
            self.places[*number as usize] = NOWHERE;
        }
        batches.iter().for_each(|batch| self.drop_batch(*batch));
        if !numbers.is_empty() {
            self.set(moved, numbers);
        }
    }

    fn drop_batch(&mut self, batch: u32) {
        self.bytes -= std::mem::take(&mut self.batches[batch as usize]).bytes;
        self.free.push(batch);
    }

    #[cfg(test)]
    pub(crate) fn stored(&self) -> (usize, usize) {
        (self.batches.len() - self.free.len(), self.batches.iter().map(|batch| batch.numbers.len()).sum())
    }
}
