//! `min` and `max`, `first_value` and `last_value`.
//!
//! Over an input that only grows, one value per group is enough. Otherwise each group keeps all its values with their
//! multiplicities, many of them in order: a change costs the logarithm of the group's size.
//! `first_value` and `last_value` are the same over values behind what they are ordered by.

use std::any::Any;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use arrow::array::ArrayRef;
use arrow::compute::SortOptions;
use arrow::datatypes::DataType;

use super::codec::{Codec, Encoded, Tuple, Words};
use super::{Accumulator, Output, Rows};
use crate::Diff;
use crate::keys::FAR;

/// Which end of a group's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Least,
    Greatest,
}

/// The accumulator of `min` or `max` over `argument`.
pub(super) fn extreme(argument: DataType, side: Side, append_only: bool) -> Box<dyn Accumulator> {
    match Words::new(&argument) {
        Some(words) => of(words, side, append_only),
        None => of(Encoded::new(&argument), side, append_only),
    }
}

/// The accumulator of `first_value` (the least) or `last_value` over `argument` in this order.
pub(super) fn placed(
    argument: &DataType,
    order: &[(DataType, SortOptions)],
    side: Side,
    append_only: bool,
) -> Box<dyn Accumulator> {
    of(Tuple::new(order, argument), side, append_only)
}

fn of<C: Codec>(codec: C, side: Side, append_only: bool) -> Box<dyn Accumulator> {
    match append_only {
        true => Box::new(Extreme::<C, Single<C::Key>>::new(side, codec)),
        false => Box::new(Extreme::<C, Ranked<C::Key>>::new(side, codec)),
    }
}

/// The values of one group.
trait Values<K>: Default + Clone + Send + 'static {
    /// Whether one value stands for the group, so that it can travel in a column.
    const ONE: bool;
    fn add(&mut self, key: K, diff: Diff, side: Side);
    fn merge(&mut self, other: &Self, side: Side);
    fn get(&self, side: Side) -> Option<K>;
    fn len(&self) -> usize;
    /// Reads where the values are, so that the cache has it; what it gives means nothing.
    fn touch(&self) -> Diff;
}

/// The only value that matters while nothing is retracted.
#[derive(Clone)]
struct Single<K>(Option<K>);

impl<K> Default for Single<K> {
    fn default() -> Self {
        Single(None)
    }
}

impl<K: Ord + Clone + Send + 'static> Values<K> for Single<K> {
    const ONE: bool = true;

    #[inline]
    fn add(&mut self, key: K, _diff: Diff, side: Side) {
        let better = match (&self.0, side) {
            (None, _) => true,
            (Some(current), Side::Least) => key < *current,
            (Some(current), Side::Greatest) => key > *current,
        };
        if better {
            self.0 = Some(key);
        }
    }

    fn merge(&mut self, other: &Self, side: Side) {
        if let Some(key) = &other.0 {
            self.add(key.clone(), 1, side);
        }
    }

    fn get(&self, _side: Side) -> Option<K> {
        self.0.clone()
    }

    fn len(&self) -> usize {
        usize::from(self.0.is_some())
    }

    fn touch(&self) -> Diff {
        Diff::from(self.0.is_some())
    }
}

/// All values with their multiplicities: most groups have few, for which a list in no order is smaller and faster than a tree.
#[derive(Clone)]
enum Ranked<K> {
    Few(Vec<(K, Diff)>),
    Many(BTreeMap<K, Diff>),
}

/// The values of so many rows fit the caches near the processor.
const NEAR_ROWS: usize = 1 << 14;

/// How many values a list has at most.
const FEW: usize = 16;

impl<K> Default for Ranked<K> {
    fn default() -> Self {
        Ranked::Few(Vec::new())
    }
}

impl<K: Ord + Clone + Send + 'static> Values<K> for Ranked<K> {
    const ONE: bool = false;

    fn add(&mut self, key: K, diff: Diff, _side: Side) {
        if diff == 0 {
            return;
        }
        match self {
            Ranked::Few(values) => match values.iter().position(|(value, _)| *value == key) {
                Some(at) => {
                    values[at].1 += diff;
                    if values[at].1 == 0 {
                        values.swap_remove(at);
                    }
                }
                None if values.len() < FEW => values.push((key, diff)),
                None => {
                    let many = std::mem::take(values).into_iter().chain([(key, diff)]);
                    *self = Ranked::Many(many.collect());
                }
            },
            Ranked::Many(values) => match values.entry(key) {
                Entry::Vacant(entry) => {
                    entry.insert(diff);
                }
                Entry::Occupied(mut entry) => {
                    *entry.get_mut() += diff;
                    if *entry.get() == 0 {
                        entry.remove();
                    }
                }
            },
        }
    }

    fn merge(&mut self, other: &Self, side: Side) {
        match other {
            Ranked::Few(values) => values.iter().for_each(|(key, diff)| self.add(key.clone(), *diff, side)),
            Ranked::Many(values) => values.iter().for_each(|(key, diff)| self.add(key.clone(), *diff, side)),
        }
    }

    fn get(&self, side: Side) -> Option<K> {
        // A value retracted before it is inserted has a negative multiplicity for the while: it is not there.
        let is_there = |diff: &Diff| *diff > 0;
        match (self, side) {
            (Ranked::Few(values), _) => {
                let there = values.iter().filter(|(_, diff)| is_there(diff)).map(|(key, _)| key);
                if side == Side::Least { there.min() } else { there.max() }
            }
            (Ranked::Many(values), Side::Least) => values.iter().find(|(_, diff)| is_there(diff)).map(|(key, _)| key),
            (Ranked::Many(values), Side::Greatest) => values.iter().rfind(|(_, diff)| is_there(diff)).map(|(key, _)| key),
        }
        .cloned()
    }

    fn len(&self) -> usize {
        match self {
            Ranked::Few(values) => values.len(),
            Ranked::Many(values) => values.len(),
        }
    }

    fn touch(&self) -> Diff {
        match self {
            Ranked::Few(values) => values.first().map_or(0, |(_, diff)| *diff),
            Ranked::Many(_) => 0,
        }
    }
}

struct Extreme<C: Codec, V> {
    side: Side,
    codec: C,
    groups: Vec<V>,
    values: usize,
}

impl<C: Codec, V: Values<C::Key>> Extreme<C, V> {
    fn new(side: Side, codec: C) -> Self {
        Extreme { side, codec, groups: Vec::new(), values: 0 }
    }

    fn keys(&self, groups: &[u32]) -> Vec<Option<C::Key>> {
        groups.iter().map(|group| self.groups[*group as usize].get(self.side)).collect()
    }
}

impl<C: Codec, V: Values<C::Key>> Accumulator for Extreme<C, V> {
    fn resize(&mut self, groups: usize) {
        self.groups.resize_with(groups, V::default);
    }

    fn update(&mut self, rows: &Rows<'_>) {
        if self.groups.len() >= FAR && rows.groups.len() <= NEAR_ROWS {
            // Before the first has to wait for its values, the cache gets those of all: these do not wait for each other.
            let touch = |group: &u32| self.groups[*group as usize].touch();
            std::hint::black_box(rows.groups.iter().map(touch).fold(0, |all, one| all ^ one));
        }
        let (groups, side, values) = (&mut self.groups, self.side, &mut self.values);
        self.codec.each(rows, |group, key, diff| {
            let group = &mut groups[group];
            let before = group.len();
            group.add(key, diff, side);
            *values = (*values + group.len()).wrapping_sub(before);
        });
    }

    fn update_one(&mut self, group: u32, rows: &Rows<'_>) {
        if !V::ONE {
            return self.update(rows);
        }
        let side = self.side;
        if let Some(best) = self.codec.extreme(rows, side) {
            let group = &mut self.groups[group as usize];
            let before = group.len();
            group.add(best, 1, side);
            self.values = (self.values + group.len()).wrapping_sub(before);
        }
    }

    fn merge(&mut self, ours: &[u32], other: &dyn Accumulator, theirs: &[u32]) {
        let other: &Self = other.as_any().downcast_ref().expect("accumulators of one call are of one type");
        for (ours, theirs) in ours.iter().zip(theirs) {
            let group = &mut self.groups[*ours as usize];
            let before = group.len();
            group.merge(&other.groups[*theirs as usize], self.side);
            self.values = (self.values + group.len()).wrapping_sub(before);
        }
    }

    fn output(&self, groups: &[u32]) -> Output {
        self.codec.column(self.keys(groups)).into()
    }

    fn clear(&mut self, group: u32) {
        self.values = self.values.saturating_sub(self.groups[group as usize].len());
        self.groups[group as usize] = V::default();
    }

    fn bytes(&self) -> usize {
        self.groups.capacity() * size_of::<V>() + self.values * C::key_bytes()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn partial_types(&self) -> Option<Vec<DataType>> {
        V::ONE.then(|| vec![self.codec.packed_type()])
    }

    fn partial(&self, groups: &[u32]) -> Vec<ArrayRef> {
        vec![self.codec.pack(self.keys(groups))]
    }

    fn update_partial(&mut self, groups: &[u32], columns: &[ArrayRef]) {
        let (ours, side) = (&mut self.groups, self.side);
        self.codec.each_packed(&columns[0], groups, |group, key| ours[group].add(key, 1, side));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Float64Array, Int32Array, StringArray};
    use std::sync::Arc;

    fn check(column: ArrayRef, side: Side, expected: ArrayRef) {
        for append_only in [true, false] {
            let mut extreme = extreme(column.data_type().clone(), side, append_only);
            extreme.resize(2 + FAR);
            let groups = vec![0; column.len()];
            extreme.update(&Rows::of(&groups, Some(&column)));
            assert_eq!(&extreme.output(&[0]).values, &expected);
            assert!(extreme.output(&[1]).values.is_null(0));
        }
    }

    #[test]
    fn every_kind_of_value_has_its_order() {
        check(Arc::new(Int32Array::from(vec![Some(3), None, Some(-5)])), Side::Least, Arc::new(Int32Array::from(vec![-5])));
        check(Arc::new(Float64Array::from(vec![-1.5, 2.0, -0.1])), Side::Least, Arc::new(Float64Array::from(vec![-1.5])));
        check(
            Arc::new(Float64Array::from(vec![-1.5, f64::INFINITY])),
            Side::Greatest,
            Arc::new(Float64Array::from(vec![f64::INFINITY])),
        );
        check(Arc::new(StringArray::from(vec!["b", "abc", "a"])), Side::Greatest, Arc::new(StringArray::from(vec!["b"])));
    }

    #[test]
    fn a_retracted_extreme_gives_way_to_the_next() {
        let mut greatest = extreme(DataType::Int32, Side::Greatest, false);
        greatest.resize(1);
        let column: ArrayRef = Arc::new(Int32Array::from(vec![1, 7, 7, 4]));
        greatest.update(&Rows::of(&[0; 4], Some(&column)));
        greatest.update(&Rows { diffs: Some(&[0, -1, -1, 0]), ..Rows::of(&[0; 4], Some(&column)) });
        assert_eq!(&greatest.output(&[0]).values, &(Arc::new(Int32Array::from(vec![4])) as ArrayRef));
    }

    #[test]
    fn few_values_and_many_are_told_alike() {
        let mut state = 5u64;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let (mut ranked, mut expected) = (Ranked::default(), BTreeMap::<u64, Diff>::new());
        for step in 0..5_000 {
            if step % 250 == 0 {
                // Those that were many do not become few again.
                (ranked, expected) = Default::default();
            }
            let (key, diff) = (random([4, FEW as u64, 90][step / 250 % 3]), random(3) as Diff - 1);
            ranked.add(key, diff, Side::Least);
            *expected.entry(key).or_default() += diff;
            expected.retain(|_, diff| *diff != 0);
            let present = || expected.iter().filter(|(_, diff)| **diff > 0).map(|(key, _)| *key);
            assert_eq!((ranked.get(Side::Least), ranked.get(Side::Greatest)), (present().min(), present().max()));
            assert_eq!(Values::len(&ranked), expected.len());
        }
        let mut merged = Ranked::Few(vec![(1_000, 1)]);
        merged.merge(&ranked, Side::Least);
        assert_eq!((merged.get(Side::Greatest), Values::len(&merged)), (Some(1_000), expected.len() + 1));
    }

    #[test]
    fn the_first_in_an_order_gives_way_to_the_next() {
        let order = [(DataType::Int32, SortOptions { descending: true, nulls_first: false })];
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("b"), None, Some("c"), Some("a")]));
        let numbers: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), Some(9), None, Some(1)]));
        for side in [Side::Least, Side::Greatest] {
            let mut first = placed(&DataType::Utf8, &order, side, false);
            first.resize(1);
            let rows = Rows { order: vec![Arc::clone(&numbers)], ..Rows::of(&[0; 4], Some(&texts)) };
            first.update(&rows);
            let expected = if side == Side::Least { None } else { Some("c") };
            assert_eq!(&first.output(&[0]).values, &(Arc::new(StringArray::from(vec![expected])) as ArrayRef));
            first.update(&Rows { diffs: Some(&[0, -1, -1, 0]), ..rows });
            // Equal in the order: the lesser value comes first.
            let expected = if side == Side::Least { "a" } else { "b" };
            assert_eq!(&first.output(&[0]).values, &(Arc::new(StringArray::from(vec![expected])) as ArrayRef));
        }
    }

    #[test]
    fn the_first_of_a_growing_input_travels() {
        let order = [(DataType::Int32, SortOptions::default())];
        let mut parts = [0, 1].map(|_| placed(&DataType::Utf8, &order, Side::Least, true));
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["x", "y"]));
        let numbers: ArrayRef = Arc::new(Int32Array::from(vec![2, 1]));
        let [one, other] = &mut parts;
        one.resize(1);
        other.resize(2);
        one.update(&Rows { order: vec![numbers.slice(0, 1)], ..Rows::of(&[0], Some(&texts.slice(0, 1))) });
        other.update(&Rows { order: vec![numbers.slice(1, 1)], ..Rows::of(&[1], Some(&texts.slice(1, 1))) });
        one.update_partial(&[0, 0], &other.partial(&[0, 1]));
        assert_eq!(&one.output(&[0]).values, &(Arc::new(StringArray::from(vec!["y"])) as ArrayRef));
    }
}
