//! `mode`: the most frequent value.
//!
//! Each group keeps how often each value is there, and the values by that, so that a change costs the logarithm of their
//! number.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;

use super::codec::{Codec, Encoded, Words};
use super::{Accumulator, Output, Rows};
use crate::Diff;

/// The accumulator of `mode` over values of this type; of several most frequent ones the smallest, or the greatest.
pub(super) fn mode(argument: &DataType, greatest: bool) -> Box<dyn Accumulator> {
    match Words::new(argument) {
        Some(codec) => Box::new(Mode { codec, greatest, groups: Vec::new() }),
        None => Box::new(Mode { codec: Encoded::new(argument), greatest, groups: Vec::new() }),
    }
}

struct Mode<C: Codec> {
    codec: C,
    greatest: bool,
    groups: Vec<Group<C::Key>>,
}

struct Group<K> {
    counts: BTreeMap<K, Diff>,
    ranks: BTreeSet<(Diff, K)>,
}

impl<K> Default for Group<K> {
    fn default() -> Self {
        Group { counts: BTreeMap::new(), ranks: BTreeSet::new() }
    }
}

impl<K: Ord + Clone + Default> Group<K> {
    fn add(&mut self, key: K, diff: Diff) {
        let before = self.counts.get(&key).copied().unwrap_or_default();
        let after = before + diff;
        if before != 0 {
            self.ranks.remove(&(before, key.clone()));
        }
        if after == 0 {
            self.counts.remove(&key);
            return;
        }
        self.ranks.insert((after, key.clone()));
        self.counts.insert(key, after);
    }

    fn mode(&self, greatest: bool) -> Option<K> {
        let (count, last) = self.ranks.last().filter(|(count, _)| *count > 0)?;
        if greatest {
            return Some(last.clone());
        }
        self.ranks.range((*count, K::default())..).next().map(|(_, key)| key.clone())
    }
}

impl<C: Codec> Accumulator for Mode<C> {
    fn resize(&mut self, groups: usize) {
        self.groups.resize_with(groups, Group::default);
    }

    fn update(&mut self, rows: &Rows<'_>) {
        let groups = &mut self.groups;
        self.codec.each(rows, |group, key, diff| groups[group].add(key, diff));
    }

    fn merge(&mut self, ours: &[u32], other: &dyn Accumulator, theirs: &[u32]) {
        let other: &Self = other.as_any().downcast_ref().expect("accumulators of one call are of one type");
        for (ours, theirs) in ours.iter().zip(theirs) {
            for (key, count) in &other.groups[*theirs as usize].counts {
                self.groups[*ours as usize].add(key.clone(), *count);
            }
        }
    }

    fn output(&self, groups: &[u32]) -> Output {
        let modes = groups.iter().map(|group| self.groups[*group as usize].mode(self.greatest)).collect();
        let values: ArrayRef = self.codec.column(modes);
        values.into()
    }

    fn clear(&mut self, group: u32) {
        self.groups[group as usize] = Group::default();
    }

    fn bytes(&self) -> usize {
        let values: usize = self.groups.iter().map(|group| group.counts.len()).sum();
        self.groups.capacity() * size_of::<Group<C::Key>>() + values * 2 * C::key_bytes()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::Int64Array;
    use std::sync::Arc;

    #[test]
    fn the_most_frequent_value_changes_as_values_come_and_go() {
        let column: ArrayRef = Arc::new(Int64Array::from(vec![3, -1, 3, -1, 5]));
        for (greatest, both) in [(false, -1), (true, 3)] {
            let mut mode = mode(&DataType::Int64, greatest);
            mode.resize(1);
            let one = |value: i64| Arc::new(Int64Array::from(vec![value])) as ArrayRef;
            mode.update(&Rows::of(&[0; 5], Some(&column)));
            assert_eq!(&mode.output(&[0]).values, &one(both));
            mode.update(&Rows { diffs: Some(&[-1, -1, 0, 0, 1]), ..Rows::of(&[0; 5], Some(&column)) });
            assert_eq!(&mode.output(&[0]).values, &one(5));
        }
    }
}
