//! The range that keys are in, if they are near each other.

use arrow::array::{Array, ArrayRef};

use super::index::SPARSEST;
use super::{FAR, Fixed, words};

/// Bits of a word.
const BITS: usize = u64::BITS as usize;

/// Of very many batches one in so many tells the range: words that are not in it are found all the same.
const SAMPLED: usize = 16;

/// From where to where words go, in the order of signed numbers.
struct Extent {
    least: i64,
    most: i64,
}

/// Which words of a range are keys.
struct Range {
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
    fn new() -> Self {
        Extent { least: i64::MAX, most: i64::MIN }
    }

    fn add(&mut self, words: &[u64]) {
        let ends = |(least, most): (i64, i64), word: &u64| (least.min(*word as i64), most.max(*word as i64));
        (self.least, self.most) = words.iter().fold((self.least, self.most), ends);
    }

    /// The range that these tell of so many words; `None` if they are too far from each other, or so few that it does not matter.
    fn range(self, words: usize) -> Option<Range> {
        let last = self.most.abs_diff(self.least);
        if words < FAR || last >= (SPARSEST * words) as u64 {
            return None;
        }
        let length = last as usize + 1;
        Some(Range { first: self.least as u64, length, is_key: vec![0; length.div_ceil(BITS)] })
    }
}

impl Range {
    /// Some words, of which those that are not in it are left out.
    fn add(&mut self, words: &[u64]) {
        for word in words {
            let place = word.wrapping_sub(self.first) as usize;
            if let Some(are_keys) = self.is_key.get_mut(place / BITS) {
                *are_keys |= 1 << (place % BITS);
            }
        }
    }

    /// The range, if it is worth one.
    fn dense(self) -> Option<Dense> {
        let keys = self.is_key.iter().map(|word| word.count_ones() as usize).sum();
        (self.length <= SPARSEST * keys).then_some(Dense { first: self.first, length: self.length, keys })
    }
}

impl<const N: usize> Fixed<N> {
    /// As [`super::Keys::expect`].
    pub(super) fn expect(&mut self, batches: &[Vec<ArrayRef>]) {
        if self.keys.len() > 0 {
            return;
        }
        let words = batches.iter().filter_map(|columns| columns.first()).map(|column| column.len() - column.null_count()).sum();
        let mut extent = Extent::new();
        if batches.len() < SAMPLED * SAMPLED {
            each_words(batches, |words| extent.add(words));
        } else {
            // Ids that are counted up are least in the first and most in the last.
            each_words(batches.iter().step_by(SAMPLED).chain(batches.last()), |words| extent.add(words));
        }
        let Some(mut range) = extent.range(words) else { return };
        each_words(batches, |words| range.add(words));
        if let Some(dense) = range.dense() {
            self.keys.reserve(dense.keys);
            self.index.begin_with(&dense);
        }
    }
}

/// The words of keys of one column, those that are NULL left out.
fn each_words<'a>(batches: impl IntoIterator<Item = &'a Vec<ArrayRef>>, mut take: impl FnMut(&[u64])) {
    for column in batches.into_iter().filter_map(|columns| columns.first()) {
        let words = words(column);
        match column.nulls().filter(|nulls| nulls.null_count() > 0) {
            None => take(&words[..column.len()]),
            Some(nulls) => take(&nulls.valid_indices().map(|row| words[row]).collect::<Vec<_>>()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::Int64Array;
    use arrow::datatypes::DataType;

    use super::*;
    use crate::keys::{Keys, Table};

    fn of(words: &[i64]) -> Option<Dense> {
        let mut extent = Extent::new();
        let words: Vec<u64> = words.iter().map(|word| *word as u64).collect();
        extent.add(&words);
        let mut range = extent.range(words.len())?;
        range.add(&words);
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

    #[test]
    fn keys_have_the_same_numbers_whether_they_were_expected_or_not() {
        let count = 8 * FAR as i64;
        let ids = |ids: &mut dyn Iterator<Item = Option<i64>>| vec![Arc::new(ids.collect::<Int64Array>()) as ArrayRef];
        let far = [None, Some(i64::MIN), Some(-1), Some(3 * count), Some(i64::MAX)];
        let come = [
            ids(&mut (0..count).map(|id| Some(id * 7 % count - 20))),
            ids(&mut (0..count).map(|id| (id % 3 > 0).then_some(id))),
            ids(&mut far.into_iter()),
        ];
        let of = |expected: usize| {
            let mut keys = Keys::new(&[DataType::Int64]);
            keys.expect(&come[..expected]);
            if let Table::One(table) = &keys.table {
                assert_eq!(table.index.is_large(), expected == 2, "an array for all of them, or none yet");
            }
            let (mut numbers, mut all) = (Vec::new(), Vec::new());
            for columns in come.iter().chain(&come) {
                keys.intern(columns, columns[0].len(), &mut numbers);
                all.extend_from_slice(&numbers);
            }
            for columns in &come {
                keys.find(columns, columns[0].len(), &mut numbers);
                all.extend_from_slice(&numbers);
            }
            (keys.len(), keys.columns(&keys.numbers()), all)
        };
        assert_eq!(of(0), of(2));
        assert_eq!(of(0), of(3), "of the third the range is too long");
    }

    #[test]
    fn of_many_batches_some_tell_the_range() {
        let count = (SAMPLED * SAMPLED + 5) as i64;
        let ids = |ids: &[i64]| vec![Arc::new(Int64Array::from(ids.to_vec())) as ArrayRef];
        // Those of the second are not looked at first, and far from the others or next to them.
        let batch = |batch: i64| match batch {
            1 => ids(&[i64::MIN, -1, 10 * count, 10 * count + 70, i64::MAX, -1]),
            _ => ids(&(10 * batch..10 * batch + 10).collect::<Vec<_>>()),
        };
        let come: Vec<_> = (0..count).map(batch).collect();
        let of = |expected: &[Vec<ArrayRef>]| {
            let mut keys = Keys::new(&[DataType::Int64]);
            keys.expect(expected);
            if let Table::One(table) = &keys.table {
                assert_eq!(table.index.is_large(), !expected.is_empty());
            }
            let (mut numbers, mut all) = (Vec::new(), Vec::new());
            for columns in come.iter().chain(&come) {
                keys.intern(columns, columns[0].len(), &mut numbers);
                all.extend_from_slice(&numbers);
            }
            (keys.len(), all)
        };
        assert_eq!(of(&come), of(&[]));
    }
}
