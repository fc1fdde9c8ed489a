//! A side whose rows stay: retained columns, and chains through them.

use arrow::array::ArrayRef;

use super::NONE;
use crate::Delta;
use crate::equal::Place;
use crate::keys::array_bytes;
use crate::operator::gather::gather;
use crate::operator::join::BATCH_ROWS;

#[derive(Default)]
pub(super) struct Growing {
    /// Per key the first row of its chain.
    heads: Vec<u32>,
    /// Per row the next of its chain.
    nexts: Vec<u32>,
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
    pub(super) fn keys(&self) -> usize {
        self.heads.len()
    }

    pub(super) fn resize(&mut self, keys: usize) {
        self.heads.resize(keys, NONE);
    }

    #[inline]
    pub(super) fn first(&self, key: u32) -> u32 {
        self.heads[key as usize]
    }

    #[inline]
    pub(super) fn next(&self, row: u32) -> u32 {
        self.nexts[row as usize]
    }

    pub(super) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes + self.places.capacity() * 8 + (self.heads.capacity() + self.nexts.capacity()) * 4
    }

    pub(super) fn reserve(&mut self, rows: usize) {
        self.nexts.reserve(rows);
        self.places.reserve(rows);
    }

    pub(super) fn insert(&mut self, keys: &[u32], columns: &[ArrayRef], delta: &Delta) {
        let batch = self.batches.len() as u32;
        for (row, key) in keys.iter().enumerate() {
            debug_assert!(delta.diff(row) > 0, "an append-only side has no retractions");
            for _ in 0..delta.diff(row) {
                let place = (batch, row as u32);
                let head = &mut self.heads[*key as usize];
                if let Some(stored) = self.free.pop() {
                    self.places[stored as usize] = place;
                    self.nexts[stored as usize] = std::mem::replace(head, stored);
                    continue;
                }
                let stored = self.places.len() as u32;
                self.places.push(place);
                self.nexts.push(std::mem::replace(head, stored));
            }
        }
        self.bytes += columns.iter().map(array_bytes).sum::<usize>();
        self.batches.push(columns.to_vec());
    }

    /// Forgets all rows of a key, and gives how many they were.
    pub(super) fn forget(&mut self, key: u32) -> usize {
        let (mut row, mut count) = (std::mem::replace(&mut self.heads[key as usize], NONE), 0);
        while row != NONE {
            self.places[row as usize] = (NONE, 0);
            self.free.push(row);
            row = std::mem::replace(&mut self.nexts[row as usize], NONE);
            count += 1;
        }
        self.dead += count;
        count
    }

    /// Makes the batches anew once less than half of their rows are left.
    pub(super) fn compact_if_worth_it(&mut self) {
        let live: Vec<u32> = match self.dead > self.places.len() - self.free.len() {
            true => (0..self.places.len() as u32).filter(|row| self.places[*row as usize].0 != NONE).collect(),
            false => return,
        };
        let width = self.batches.first().map_or(0, Vec::len);
        let batches: Vec<Vec<ArrayRef>> = live.chunks(BATCH_ROWS).map(|rows| self.gather(rows, 0..width)).collect();
        for (batch, rows) in live.chunks(BATCH_ROWS).enumerate() {
            for (position, row) in rows.iter().enumerate() {
                self.places[*row as usize] = (batch as u32, position as u32);
            }
        }
        self.bytes = batches.iter().flatten().map(array_bytes).sum();
        (self.batches, self.dead) = (batches, 0);
    }

    pub(super) fn gather(&self, rows: &[u32], columns: impl Iterator<Item = usize>) -> Vec<ArrayRef> {
        let places = rows.iter().map(|row| self.places[*row as usize]).map(|(batch, row)| Place { batch, row });
        gather(places, columns, |batch, column| &self.batches[batch as usize][column])
    }
}
