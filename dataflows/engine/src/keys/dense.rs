//! The range that keys are in, if they are near each other.

use arrow::array::{Array, ArrayRef};

use super::Fixed;
use super::index::{FAR, SPARSEST};

/// Bits of a word.
const BITS: usize = u64::BITS as usize;

/// From where to where words go, in the order of signed numbers.
pub(super) struct Extent {
    least: i64,
    most: i64,
    words: usize,
}

/// Which words of a range are keys.
pub(super) struct Range {
    first: u64,
    length: usize,
    /// A bit for each.
    is_key: Vec<u64>,
}

/// A range of which at least one word in [`SPARSEST`] is a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Dense {
    pub(super) first: u64,
    /// In words.
    pub(super) length: usize,
    /// How many different keys there are in it.
    pub(super) keys: usize,
}

impl Extent {
    pub(super) fn new() -> Self {
        Extent { least: i64::MAX, most: i64::MIN, words: 0 }
    }

    #[inline]
    pub(super) fn add(&mut self, word: u64) {
        self.least = self.least.min(word as i64);
        self.most = self.most.max(word as i64);
        self.words += 1;
    }

    /// The range of all words; `None` if they are too far from each other, or so few that it does not matter.
    pub(super) fn range(self) -> Option<Range> {
        let last = self.most.abs_diff(self.least);
        if self.words < FAR || last >= (SPARSEST * self.words) as u64 {
            return None;
        }
        let length = last as usize + 1;
        Some(Range { first: self.least as u64, length, is_key: vec![0; length.div_ceil(BITS)] })
    }
}

impl Range {
    /// A word of the [`Extent`] that it was made of.
    #[inline]
    pub(super) fn add(&mut self, word: u64) {
        let place = word.wrapping_sub(self.first) as usize;
        self.is_key[place / BITS] |= 1 << (place % BITS);
    }

    /// The range, if it is worth one.
    pub(super) fn dense(self) -> Option<Dense> {
        let keys = self.is_key.iter().map(|word| word.count_ones() as usize).sum();
        (self.length <= SPARSEST * keys).then_some(Dense { first: self.first, length: self.length, keys })
    }
}

impl<const N: usize> Fixed<N> {
    /// As [`super::Keys::expect`].
    pub(super) fn expect(&mut self, batches: &[Vec<ArrayRef>]) {
        if !self.keys.is_empty() {
            return;
        }
        let mut extent = Extent::new();
        Self::each_word(batches, |word| extent.add(word));
        let Some(mut range) = extent.range() else { return };
        Self::each_word(batches, |word| range.add(word));
        if let Some(dense) = range.dense() {
            self.keys.reserve(dense.keys);
            self.index.begin_with(&dense);
        }
    }

    /// The first words of keys without NULL.
    #[inline]
    fn each_word(batches: &[Vec<ArrayRef>], mut take: impl FnMut(u64)) {
        for columns in batches {
            Self::each_key(columns, columns[0].len(), |key| {
                if key.nulls == 0 {
                    take(key.words[0]);
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(words: &[i64]) -> Option<Dense> {
        let mut extent = Extent::new();
        words.iter().for_each(|word| extent.add(*word as u64));
        let mut range = extent.range()?;
        words.iter().for_each(|word| range.add(*word as u64));
        range.dense()
    }

    #[test]
    fn keys_near_each_other_are_a_range() {
        let many = SPARSEST as i64 * FAR as i64;
        let each: Vec<i64> = (-5..many).collect();
        let range = |first: i64, length: i64, keys: usize| Some(Dense { first: first as u64, length: length as usize, keys });
        assert_eq!(of(&each), range(-5, many + 5, each.len()));
        let some: Vec<i64> = (0..many).step_by(3).collect();
        assert_eq!(of(&some), range(0, some[some.len() - 1] + 1, some.len()));
        let few: Vec<i64> = (0..many).map(|key| key / 5 * 5).collect();
        assert_eq!(of(&few), None, "one word in five is a key");
        assert_eq!(of(&[each.clone(), vec![i64::MAX]].concat()), None, "one is far from the others");
        assert_eq!(of(&[vec![i64::MIN], each, vec![i64::MAX]].concat()), None, "as far as can be");
        assert_eq!(of(&(0..FAR as i64 - 1).collect::<Vec<_>>()), None, "they are few");
        assert_eq!(of(&[]), None);
    }
}
