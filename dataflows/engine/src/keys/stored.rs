//! Keys of words, by number.

use crate::hash::mix;

/// A key of `N` words; a set bit of `nulls` means that the column is NULL (and its word 0).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Word<const N: usize> {
    pub(super) words: [u64; N],
    pub(super) nulls: u8,
}

impl<const N: usize> Word<N> {
    #[inline]
    pub(super) fn hash(&self) -> u64 {
        let hash = self.words.iter().fold(self.nulls.into(), |hash, word| mix(hash, *word));
        hash ^ (hash >> 32)
    }
}

/// The key of each number.
pub(super) struct Stored<const N: usize> {
    words: Vec<[u64; N]>,
    /// Per number which columns are NULL: up to the last key that has such, which are few, or none.
    nulls: Vec<u8>,
}

impl<const N: usize> Stored<N> {
    pub(super) fn new() -> Self {
        Stored { words: Vec::new(), nulls: Vec::new() }
    }

    /// One more than the largest number.
    pub(super) fn len(&self) -> usize {
        self.words.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.words.capacity() * size_of::<[u64; N]>() + self.nulls.capacity()
    }

    pub(super) fn reserve(&mut self, keys: usize) {
        self.words.reserve(keys);
    }

    #[inline]
    pub(super) fn get(&self, number: u32) -> Word<N> {
        Word { words: self.words[number as usize], nulls: self.nulls(number) }
    }

    /// A word of a number's key, if there is such a number.
    #[inline]
    pub(super) fn word(&self, number: u32, column: usize) -> Option<u64> {
        self.words.get(number as usize).map(|words| words[column])
    }

    #[inline]
    pub(super) fn nulls(&self, number: u32) -> u8 {
        self.nulls.get(number as usize).copied().unwrap_or(0)
    }

    /// Gives a number, which is the next one or one of before, its key.
    #[inline]
    pub(super) fn set(&mut self, number: u32, key: Word<N>) {
        let at = number as usize;
        match self.words.get_mut(at) {
            Some(words) => *words = key.words,
            None => self.words.push(key.words),
        }
        if key.nulls != 0 && self.nulls.len() <= at {
            self.nulls.resize(at + 1, 0);
        }
        if let Some(nulls) = self.nulls.get_mut(at) {
            *nulls = key.nulls;
        }
    }
}
