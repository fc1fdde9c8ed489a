//! A side whose rows come and go: retained columns, and chains through them in which rows are found by content.
//!
//! Most keys have few rows: those are looked through, by hash, and beside the head of their chain it stands which hashes cannot
//! be among them, so that a row that is new is mostly known to be new without a look. Rows of keys that have many are in an
//! index by content.

use arrow::array::ArrayRef;
use hashbrown::{HashSet, HashTable};

use super::NONE;
use crate::equal::Place;
use crate::hash::{hash_columns, mix};
use crate::keys::{AT_ONCE, FAR};
use crate::operator::gather::fixed_hasher;
use crate::operator::rows::{NOBODY, Rows};
use crate::{Delta, Diff};

/// A key of which so many rows were looked at in vain gets an index.
const CROWD: usize = 8;

pub(super) struct Changing {
    heads: Vec<Head>,
    /// Per row its place in its key's chain.
    links: Vec<Link>,
    rows: Rows,
    free: Vec<u32>,
    /// Keys with many rows.
    crowded: HashSet<u32, ahash::RandomState>,
    /// Of the rows of those the one before it in the chain. As long as the links, or shorter if none of the last rows is such a one.
    previous: Vec<u32>,
    /// The rows of those, by hash.
    index: HashTable<u32>,
    emptied: Vec<u32>,
    /// Rows without copies that are still linked, perhaps several times.
    gone: Vec<u32>,
}

/// A key's chain.
#[derive(Clone, Copy)]
struct Head {
    first: u32,
    /// A bit for each hash that was in the chain.
    seen: u32,
}

const EMPTY: Head = Head { first: NONE, seen: 0 };

/// A row. One without key is free.
#[derive(Clone, Copy)]
struct Link {
    /// Of key and content.
    hash: u64,
    weight: Diff,
    key: u32,
    next: u32,
}

/// The hashes of rows by key and content.
pub(super) fn hashes(columns: &[ArrayRef], keys: &[u32]) -> Vec<u64> {
    let mut hashes = Vec::new();
    hash_columns(columns, keys.len(), &mut hashes);
    hashes.iter_mut().zip(keys).for_each(|(hash, key)| *hash = mix(*hash, u64::from(*key)));
    hashes
}

/// The bit of a hash in [`Head::seen`].
fn bit(hash: u64) -> u32 {
    1 << (hash >> 59)
}

impl Default for Changing {
    fn default() -> Self {
        Changing {
            heads: Vec::new(),
            links: Vec::new(),
            rows: Rows::default(),
            free: Vec::new(),
            crowded: HashSet::with_hasher(fixed_hasher()),
            previous: Vec::new(),
            index: HashTable::new(),
            emptied: Vec::new(),
            gone: Vec::new(),
        }
    }
}

impl Changing {
    pub(super) fn keys(&self) -> usize {
        self.heads.len()
    }

    pub(super) fn resize(&mut self, keys: usize) {
        self.heads.resize(keys, EMPTY);
    }

    #[inline]
    pub(super) fn first(&self, key: u32) -> u32 {
        self.heads[key as usize].first
    }

    #[inline]
    pub(super) fn next(&self, row: u32) -> u32 {
        self.links[row as usize].next
    }

    #[inline]
    pub(super) fn weight(&self, row: u32) -> Diff {
        self.links[row as usize].weight
    }

    pub(super) fn len(&self) -> usize {
        self.links.len() - self.free.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.heads.capacity() * size_of::<Head>()
            + self.links.capacity() * size_of::<Link>()
            + self.rows.bytes()
            + self.index.capacity() * 5
            + self.crowded.capacity() * 5
            + self.previous.capacity() * size_of::<u32>()
    }

    pub(super) fn reserve(&mut self, rows: usize) {
        self.links.reserve(rows);
        self.rows.reserve(rows);
    }

    pub(super) fn take_emptied(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.emptied)
    }

    /// As [`super::Side::insert_seen`].
    pub(super) fn insert(
        &mut self,
        keys: &[u32],
        columns: &[ArrayRef],
        delta: &Delta,
        seen: &mut dyn FnMut(usize, u32, bool, Diff),
    ) {
        self.insert_hashed(keys, &hashes(columns, keys), columns, delta, seen);
    }

    fn insert_hashed(
        &mut self,
        keys: &[u32],
        hashes: &[u64],
        columns: &[ArrayRef],
        delta: &Delta,
        seen: &mut dyn FnMut(usize, u32, bool, Diff),
    ) {
        let batch = self.rows.begin(columns.to_vec(), keys.len());
        let mut added = Vec::with_capacity(keys.len());
        let is_far = self.heads.len() >= FAR;
        for (position, (key, hash)) in keys.iter().zip(hashes).enumerate() {
            if is_far && position % AT_ONCE == 0 {
                self.approach(&keys[position..], &hashes[position..]);
            }
            let diff = delta.diff(position);
            if diff == 0 {
                added.push(NOBODY);
                continue;
            }
            let found = self.find(*key, *hash, columns, position);
            let row = found.unwrap_or_else(|| self.add(*key, *hash, Place { batch, row: position as u32 }));
            added.push(if found.is_none() { row } else { NOBODY });
            let weight = &mut self.links[row as usize].weight;
            let before = *weight;
            *weight += diff;
            if *weight == 0 {
                self.gone.push(row);
            }
            seen(position, row, found.is_none(), before);
        }
        self.rows.end(batch, added);
    }

    /// Has the cache get what looking for the first of these rows will read, as [`crate::keys`] does.
    fn approach(&self, keys: &[u32], hashes: &[u64]) {
        let (mut likely, mut count) = ([(NONE, 0); AT_ONCE], 0);
        for (key, hash) in keys.iter().zip(hashes).take(AT_ONCE) {
            let head = self.heads[*key as usize];
            let first = match !self.crowded.is_empty() && self.crowded.contains(key) {
                // There may be others of this hash, but seldom.
                true => self.index.find(*hash, |_| true).copied().unwrap_or(NONE),
                false => head.first,
            };
            likely[count] = (first, *hash);
            count += usize::from(head.seen & bit(*hash) != 0);
        }
        let mut read = 0;
        for _ in 0..CROWD {
            let mut left = 0;
            for at in 0..count {
                let (row, hash) = likely[at];
                let Some(link) = self.links.get(row as usize) else { continue };
                likely[left] = (link.next, hash);
                match link.hash == hash {
                    true => read ^= self.rows.of(row).map_or(0, |place| place.row),
                    false => left += 1,
                }
            }
            count = left;
        }
        std::hint::black_box(read);
    }

    /// The row of a key that has the values at a position of these columns.
    fn find(&mut self, key: u32, hash: u64, columns: &[ArrayRef], position: usize) -> Option<u32> {
        let head = self.heads[key as usize];
        if head.seen & bit(hash) == 0 {
            return None;
        }
        if !self.crowded.contains(&key) {
            let (mut row, mut looked) = (head.first, 0);
            while row != NONE && looked < CROWD {
                let link = &self.links[row as usize];
                if link.hash == hash && self.rows.has(row, columns, position) {
                    return Some(row);
                }
                (row, looked) = (link.next, looked + 1);
            }
            if row == NONE {
                return None;
            }
            self.crowd(key);
        }
        self.find_indexed(key, hash, columns, position)
    }

    /// As what an insertion would find, but no index is made.
    pub(super) fn look(&self, key: u32, hash: u64, columns: &[ArrayRef], position: usize) -> Option<u32> {
        let head = self.heads.get(key as usize).filter(|head| head.seen & bit(hash) != 0)?;
        if self.crowded.contains(&key) {
            return self.find_indexed(key, hash, columns, position);
        }
        let mut row = head.first;
        while row != NONE {
            let link = &self.links[row as usize];
            if link.hash == hash && self.rows.has(row, columns, position) {
                return Some(row);
            }
            row = link.next;
        }
        None
    }

    fn find_indexed(&self, key: u32, hash: u64, columns: &[ArrayRef], position: usize) -> Option<u32> {
        let same = |row: &u32| {
            let link = &self.links[*row as usize];
            link.hash == hash && link.key == key && self.rows.has(*row, columns, position)
        };
        self.index.find(hash, same).copied()
    }

    /// Links a row that is new; no copies of it are there yet.
    fn add(&mut self, key: u32, hash: u64, place: Place) -> u32 {
        let head = &mut self.heads[key as usize];
        let link = Link { hash, weight: 0, key, next: head.first };
        let row = match self.free.pop() {
            Some(row) => {
                self.links[row as usize] = link;
                row
            }
            None => {
                self.links.push(link);
                self.links.len() as u32 - 1
            }
        };
        *head = Head { first: row, seen: head.seen | bit(hash) };
        self.rows.make_room(self.links.len());
        self.rows.put_new(row, place);
        if !self.crowded.is_empty() && self.crowded.contains(&key) {
            self.follow(link.next, row);
            self.follow(row, NONE);
            self.index.insert_unique(hash, row, |row| self.links[*row as usize].hash);
        }
        row
    }

    /// A row of a crowded key comes after this one, or is its first.
    fn follow(&mut self, row: u32, previous: u32) {
        if self.previous.len() <= row as usize {
            self.previous.reserve_exact(self.links.capacity() - self.previous.len());
            self.previous.resize(self.links.len(), NONE);
        }
        self.previous[row as usize] = previous;
    }

    /// Makes the index of a key.
    fn crowd(&mut self, key: u32) {
        self.crowded.insert(key);
        let (mut row, mut previous) = (self.heads[key as usize].first, NONE);
        while row != NONE {
            self.follow(row, previous);
            let Link { hash, next, .. } = self.links[row as usize];
            self.index.insert_unique(hash, row, |row| self.links[*row as usize].hash);
            (previous, row) = (row, next);
        }
    }

    /// Forgets rows that are gone.
    pub(super) fn sweep(&mut self) {
        let mut gone = std::mem::take(&mut self.gone);
        for row in gone.drain(..) {
            let link = self.links[row as usize];
            if link.weight == 0 && link.key != NONE {
                self.unlink(row);
            }
        }
        self.gone = gone;
        self.tidy();
    }

    fn unlink(&mut self, row: u32) {
        let Link { key, next, .. } = self.links[row as usize];
        match self.before(row) {
            NONE => self.heads[key as usize].first = next,
            previous => self.links[previous as usize].next = next,
        }
        if !self.crowded.is_empty() && self.crowded.contains(&key) {
            if next != NONE {
                self.follow(next, self.previous[row as usize]);
            }
            self.leave_index(row);
        }
        if self.heads[key as usize].first == NONE {
            self.crowded.remove(&key);
            self.heads[key as usize] = EMPTY;
            self.emptied.push(key);
        }
        self.free(row);
    }

    /// The row before this one in its chain.
    fn before(&mut self, row: u32) -> u32 {
        let key = self.links[row as usize].key;
        if self.crowded.is_empty() || !self.crowded.contains(&key) {
            let (mut at, mut previous, mut looked) = (self.heads[key as usize].first, NONE, 0);
            while at != row && looked < CROWD {
                (previous, at, looked) = (at, self.links[at as usize].next, looked + 1);
            }
            if at == row {
                return previous;
            }
            self.crowd(key);
        }
        self.previous[row as usize]
    }

    fn leave_index(&mut self, row: u32) {
        if let Ok(entry) = self.index.find_entry(self.links[row as usize].hash, |entry| *entry == row) {
            entry.remove();
        }
    }

    fn free(&mut self, row: u32) {
        self.links[row as usize] = Link { hash: 0, weight: 0, key: NONE, next: NONE };
        self.rows.remove(row);
        self.free.push(row);
    }

    /// Forgets all rows of a key, and gives how many they were.
    pub(super) fn forget(&mut self, key: u32) -> usize {
        let was_crowded = self.crowded.remove(&key);
        let (mut row, mut count) = (std::mem::replace(&mut self.heads[key as usize], EMPTY).first, 0);
        while row != NONE {
            let next = self.links[row as usize].next;
            if was_crowded {
                self.leave_index(row);
            }
            self.free(row);
            (row, count) = (next, count + 1);
        }
        count
    }

    pub(super) fn tidy(&mut self) {
        self.rows.tidy();
    }

    pub(super) fn gather(&self, rows: &[u32], columns: impl Iterator<Item = usize>) -> Vec<ArrayRef> {
        let place = |row: &u32| self.rows.of(*row).expect("rows that are linked have a place");
        self.rows.gather(rows.iter().map(place), columns)
    }
}

#[cfg(test)]
mod tests;
