//! From keys of words to their numbers.
//!
//! Ids are mostly counted up, so that a column of them has many values in a short range. The numbers of those stand in a plain
//! array, by value: one look, without a hash and without comparing keys. All others are in a hash table. Which range it is follows
//! from the keys that come:
//!
//! ```text
//!  far: hash table      near: an array, which grows while one in four of its places has a key   far
//!  ...................  |first . . . . . . . . . . . . . . . . . . . . . . first + length|  .........
//!                        ◄── twice as long, in either direction, for a key next to it ──►
//! ```

use hashbrown::HashTable;

use super::dense::Dense;
use super::{ABSENT, Stored, Word};

/// For one key in so many places a range grows.
pub(super) const SPARSEST: usize = 4;

/// From so many keys in the hash table on, which a core's cache does not hold, it is asked each time they have doubled whether a
/// range would have most of them. Tests have small tables, which are to go the same ways.
pub(crate) const FAR: usize = if cfg!(debug_assertions) { 1 << 5 } else { 1 << 16 };

/// The numbers of keys.
pub(super) struct Index<const N: usize> {
    /// The word that the first place is of.
    first: u64,
    /// Per word from there on its number, or [`ABSENT`]; only of keys that are one word, and not NULL.
    near: Vec<u32>,
    /// How many of those there are.
    near_keys: usize,
    /// The others.
    far: HashTable<u32>,
    /// How many keys may be expected in all.
    expected: usize,
    /// When there are so many in the hash table, it is asked whether they are near each other.
    far_most: usize,
}

impl<const N: usize> Index<N> {
    pub(super) fn new() -> Self {
        Index { first: 0, near: Vec::new(), near_keys: 0, far: HashTable::new(), expected: 0, far_most: FAR }
    }

    /// Says how many keys there will be, about.
    pub(super) fn expect(&mut self, count: usize, keys: &Stored<N>) {
        self.expected = count;
        if N != 1 {
            // None of them will be near.
            self.far.reserve(count.saturating_sub(self.far.len()), |number| keys.get(*number).hash());
        }
    }

    /// Before there are keys: most that come are probably in this range, and those after them a little above it.
    pub(super) fn begin_with(&mut self, dense: &Dense) {
        self.first = dense.first;
        self.near = vec![ABSENT; dense.length + dense.length / 8];
    }

    pub(super) fn bytes(&self) -> usize {
        self.near.capacity() * size_of::<u32>() + self.far.capacity() * 5
    }

    /// Whether it does not fit the caches near the processor.
    pub(super) fn is_large(&self) -> bool {
        self.far.len() >= FAR || self.near.len() >= 4 * FAR
    }

    /// The place of a key that is in the range.
    #[inline]
    fn place(&self, key: &Word<N>) -> Option<usize> {
        let place = key.words[0].wrapping_sub(self.first);
        (N == 1 && key.nulls == 0 && place < self.near.len() as u64).then_some(place as usize)
    }

    /// The number of a key; [`ABSENT`] if it has none.
    #[inline]
    pub(super) fn find(&self, key: &Word<N>, keys: &Stored<N>) -> u32 {
        match self.place(key) {
            Some(place) => self.near[place],
            None => self.far.find(key.hash(), |number| keys.get(*number) == *key).copied().unwrap_or(ABSENT),
        }
    }

    /// The number of a key in the range, [`ABSENT`] if it has none; `None` of other keys.
    #[inline]
    pub(super) fn near(&self, key: &Word<N>) -> Option<u32> {
        self.place(key).map(|place| self.near[place])
    }

    /// A number that a key may have which is not in the range.
    #[inline]
    pub(super) fn likely(&self, key: &Word<N>) -> u32 {
        self.far.find(key.hash(), |_| true).copied().unwrap_or(0)
    }

    /// The number of a key, or, if it has none, the one that `new` gives it. Those of all others are places in `keys`.
    #[inline]
    pub(super) fn number(&mut self, key: Word<N>, keys: &Stored<N>, new: impl FnOnce() -> u32) -> u32 {
        if let Some(place) = self.place(&key) {
            return self.near_number(place, new);
        }
        let found = self.find(&key, keys);
        if found != ABSENT {
            return found;
        }
        match self.comes_near(&key, keys) {
            Some(place) => self.near_number(place, new),
            None => {
                let number = new();
                self.insert_far(key.hash(), number, keys);
                number
            }
        }
    }

    #[inline]
    fn near_number(&mut self, place: usize, new: impl FnOnce() -> u32) -> u32 {
        let number = &mut self.near[place];
        if *number == ABSENT {
            *number = new();
            self.near_keys += 1;
        }
        *number
    }

    fn insert_far(&mut self, hash: u64, number: u32, keys: &Stored<N>) {
        if self.far.len() == self.far.capacity() {
            // Those that are expected may be near.
            let room = self.expected.saturating_sub(self.near_keys + self.far.len());
            self.far.reserve(room.clamp(1, self.far.len().max(FAR)), |number| keys.get(*number).hash());
        }
        self.far.insert_unique(hash, number, |number| keys.get(*number).hash());
    }

    /// Makes the range longer, or another, for a key that is new; gives its place if it is in the range then.
    fn comes_near(&mut self, key: &Word<N>, keys: &Stored<N>) -> Option<usize> {
        if N != 1 || key.nulls != 0 {
            return None;
        }
        let word = key.words[0];
        let length = self.near.len();
        let grows = length > 0 && self.near_keys >= length / SPARSEST && self.far.len() <= 16 * length;
        if grows && word.wrapping_sub(self.first) < 2 * length as u64 {
            self.near.resize(2 * length, ABSENT);
            self.gather(keys);
        } else if grows && self.first.wrapping_sub(word) <= length as u64 {
            self.near.splice(..0, std::iter::repeat_n(ABSENT, length));
            self.first = self.first.wrapping_sub(length as u64);
            self.gather(keys);
        } else if self.far.len() >= self.far_most {
            self.far_most = 2 * self.far.len();
            self.settle(word, keys);
        }
        self.place(key)
    }

    /// Moves to a range around this word, if it would have most of the keys that are in the hash table.
    fn settle(&mut self, word: u64, keys: &Stored<N>) {
        let (count, radius) = (self.far.len(), (SPARSEST / 2 * self.far.len()) as u64);
        let first = word.wrapping_sub(radius);
        let is_within = |number: &u32| {
            let key = keys.get(*number);
            key.nulls == 0 && key.words[0].wrapping_sub(first) < 2 * radius
        };
        if self.near_keys >= count || 2 * self.far.iter().filter(|number| is_within(number)).count() < count {
            return;
        }
        let before = std::mem::replace(&mut self.near, vec![ABSENT; 2 * radius as usize]);
        self.first = first;
        self.near_keys = 0;
        for number in before.into_iter().filter(|number| *number != ABSENT) {
            self.insert_far(keys.get(number).hash(), number, keys);
        }
        self.gather(keys);
        // When these have gone, others are to find a range again.
        self.far_most = FAR.max(2 * self.far.len());
        self.far.shrink_to(2 * self.far.len(), |number: &u32| keys.get(*number).hash());
    }

    /// Takes out of the hash table what is in the range.
    fn gather(&mut self, keys: &Stored<N>) {
        let Index { first, near, near_keys, far, .. } = self;
        far.retain(|number| {
            let key = keys.get(*number);
            let place = key.words[0].wrapping_sub(*first);
            let is_near = key.nulls == 0 && place < near.len() as u64;
            if is_near {
                near[place as usize] = *number;
                *near_keys += 1;
            }
            !is_near
        });
    }

    /// Forgets a key and its number.
    pub(super) fn remove(&mut self, key: &Word<N>, number: u32) {
        match self.place(key) {
            Some(place) => {
                self.near_keys -= usize::from(std::mem::replace(&mut self.near[place], ABSENT) != ABSENT);
                if self.near_keys == 0 {
                    self.near = Vec::new();
                }
            }
            None => {
                if let Ok(entry) = self.far.find_entry(key.hash(), |other| *other == number) {
                    entry.remove();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
