//! `min` and `max`.
//!
//! Over an input that only grows, one value per group is enough. Otherwise each group keeps all its values in order, with
//! their multiplicities, and a change costs the logarithm of the group's size. Values of at most eight bytes are kept as
//! words whose order is the values' order; all others as order-preserving row bytes.

use std::any::Any;
use std::collections::BTreeMap;

use arrow::array::{ArrayRef, AsArray, new_null_array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::*;
use arrow_row::{RowConverter, SortField};

use super::{Accumulator, Output, Rows};
use crate::Diff;

/// Which end of a group's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Least,
    Greatest,
}

/// The accumulator of `min` or `max` over `argument`.
pub(super) fn extreme(argument: DataType, side: Side, append_only: bool) -> Box<dyn Accumulator> {
    match (Words::new(&argument), append_only) {
        (Some(words), true) => Box::new(Extreme::<Words, Single<u64>>::new(argument, side, words)),
        (Some(words), false) => Box::new(Extreme::<Words, BTreeMap<u64, Diff>>::new(argument, side, words)),
        (None, true) => Box::new(Extreme::<Encoded, Single<Box<[u8]>>>::new(argument.clone(), side, Encoded::new(&argument))),
        (None, false) => {
            Box::new(Extreme::<Encoded, BTreeMap<Box<[u8]>, Diff>>::new(argument.clone(), side, Encoded::new(&argument)))
        }
    }
}

/// Maps a column's values to ordered keys and back.
trait Codec: 'static {
    type Key: Ord + Clone + 'static;
    fn each(&self, column: &ArrayRef, rows: &Rows<'_>, take: impl FnMut(usize, Self::Key, Diff));
    fn column(&self, keys: Vec<Option<Self::Key>>, data_type: &DataType) -> ArrayRef;
    fn key_bytes() -> usize;
}

/// The values of one group.
trait Values<K>: Default + Clone + 'static {
    /// Whether one value stands for the group, so that it can travel in a column.
    const ONE: bool;
    fn add(&mut self, key: K, diff: Diff, side: Side);
    fn merge(&mut self, other: &Self, side: Side);
    fn get(&self, side: Side) -> Option<K>;
    fn len(&self) -> usize;
}

/// The only value that matters while nothing is retracted.
#[derive(Clone)]
struct Single<K>(Option<K>);

impl<K> Default for Single<K> {
    fn default() -> Self {
        Single(None)
    }
}

impl<K: Ord + Clone + 'static> Values<K> for Single<K> {
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
}

impl<K: Ord + Clone + 'static> Values<K> for BTreeMap<K, Diff> {
    const ONE: bool = false;

    fn add(&mut self, key: K, diff: Diff, _side: Side) {
        use std::collections::btree_map::Entry;
        if diff == 0 {
            return;
        }
        match self.entry(key) {
            Entry::Vacant(entry) => {
                entry.insert(diff);
            }
            Entry::Occupied(mut entry) => {
                *entry.get_mut() += diff;
                if *entry.get() == 0 {
                    entry.remove();
                }
            }
        }
    }

    fn merge(&mut self, other: &Self, side: Side) {
        for (key, diff) in other {
            Values::add(self, key.clone(), *diff, side);
        }
    }

    fn get(&self, side: Side) -> Option<K> {
        // A value retracted before it is inserted has a negative multiplicity for the while: it is not there.
        let present = |entry: &(&K, &Diff)| *entry.1 > 0;
        match side {
            Side::Least => self.iter().find(present),
            Side::Greatest => self.iter().rev().find(present),
        }
        .map(|(key, _)| key.clone())
    }

    fn len(&self) -> usize {
        BTreeMap::len(self)
    }
}

struct Extreme<C: Codec, V> {
    data_type: DataType,
    side: Side,
    codec: C,
    groups: Vec<V>,
    values: usize,
}

impl<C: Codec, V: Values<C::Key>> Extreme<C, V> {
    fn new(data_type: DataType, side: Side, codec: C) -> Self {
        Extreme { data_type, side, codec, groups: Vec::new(), values: 0 }
    }
}

impl<C: Codec, V: Values<C::Key>> Accumulator for Extreme<C, V> {
    fn resize(&mut self, groups: usize) {
        self.groups.resize_with(groups, V::default);
    }

    fn update(&mut self, rows: &Rows<'_>) {
        let (groups, side, values) = (&mut self.groups, self.side, &mut self.values);
        self.codec.each(rows.argument.expect("min and max have an argument"), rows, |group, key, diff| {
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
        let (side, mut best) = (self.side, None);
        self.codec.each(rows.argument.expect("min and max have an argument"), rows, |_, key, _| {
            best = Some(match (best.take(), side) {
                (None, _) => key,
                (Some(best), Side::Least) => key.min(best),
                (Some(best), Side::Greatest) => key.max(best),
            });
        });
        if let Some(best) = best {
            let group = &mut self.groups[group as usize];
            let before = group.len();
            group.add(best, 1, side);
            self.values = (self.values + group.len()).wrapping_sub(before);
        }
    }

    fn merge(&mut self, ours: &[u32], other: &dyn Accumulator, theirs: &[u32]) {
        let other: &Self = other.as_any().downcast_ref().expect("accumulators of one call are of one type");
        for (ours, theirs) in ours.iter().zip(theirs) {
            self.groups[*ours as usize].merge(&other.groups[*theirs as usize], self.side);
        }
    }

    fn output(&self, groups: &[u32]) -> Output {
        let keys = groups.iter().map(|group| self.groups[*group as usize].get(self.side)).collect();
        self.codec.column(keys, &self.data_type).into()
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
        V::ONE.then(|| vec![self.data_type.clone()])
    }

    fn partial(&self, groups: &[u32]) -> Vec<ArrayRef> {
        vec![self.output(groups).values]
    }

    fn update_partial(&mut self, groups: &[u32], columns: &[ArrayRef]) {
        self.update(&Rows { groups, argument: Some(&columns[0]), filter: None, diffs: None });
    }
}

/// Values of at most eight bytes as words in their order.
struct Words {
    kind: WordKind,
}

#[derive(Clone, Copy)]
enum WordKind {
    Signed,
    Unsigned,
    Float32,
    Float64,
}

impl Words {
    fn new(data_type: &DataType) -> Option<Self> {
        let kind = match data_type {
            DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => WordKind::Signed,
            DataType::Date32 | DataType::Date64 | DataType::Time32(_) | DataType::Time64(_) => WordKind::Signed,
            DataType::Timestamp(_, _) | DataType::Duration(_) => WordKind::Signed,
            DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => WordKind::Unsigned,
            DataType::Float32 => WordKind::Float32,
            DataType::Float64 => WordKind::Float64,
            _ => return None,
        };
        Some(Words { kind })
    }
}

const SIGN: u64 = 1 << 63;

/// A float's bits in the order of the values: NaN last, as PostgreSQL has it.
#[inline]
fn float_word(value: f64) -> u64 {
    let value = if value.is_nan() { f64::NAN } else { value };
    let bits = value.to_bits();
    if bits & SIGN == 0 { bits | SIGN } else { !bits }
}

fn word_float(word: u64) -> f64 {
    f64::from_bits(if word & SIGN != 0 { word & !SIGN } else { !word })
}

impl Codec for Words {
    type Key = u64;

    #[inline]
    fn each(&self, column: &ArrayRef, rows: &Rows<'_>, mut take: impl FnMut(usize, u64, Diff)) {
        macro_rules! words {
            ($kind:ty, $word:expr) => {{
                let values = column.as_primitive::<$kind>().values();
                rows.for_each(|row, group, diff| take(group, $word(values[row]), diff))
            }};
        }
        let signed = |value: i64| (value as u64) ^ SIGN;
        let array = column.as_ref();
        match self.kind {
            WordKind::Float32 => words!(Float32Type, |value| float_word(f64::from(value))),
            WordKind::Float64 => words!(Float64Type, float_word),
            WordKind::Unsigned => match array.data_type() {
                DataType::UInt8 => words!(UInt8Type, u64::from),
                DataType::UInt16 => words!(UInt16Type, u64::from),
                DataType::UInt32 => words!(UInt32Type, u64::from),
                _ => words!(UInt64Type, |value| value),
            },
            WordKind::Signed => match array.data_type() {
                DataType::Int8 => words!(Int8Type, |value| signed(i64::from(value))),
                DataType::Int16 => words!(Int16Type, |value| signed(i64::from(value))),
                DataType::Int32 => words!(Int32Type, |value| signed(i64::from(value))),
                DataType::Date32 => words!(Date32Type, |value| signed(i64::from(value))),
                DataType::Time32(TimeUnit::Second) => words!(Time32SecondType, |value| signed(i64::from(value))),
                DataType::Time32(_) => words!(Time32MillisecondType, |value| signed(i64::from(value))),
                DataType::Int64 => words!(Int64Type, signed),
                DataType::Date64 => words!(Date64Type, signed),
                DataType::Time64(TimeUnit::Microsecond) => words!(Time64MicrosecondType, signed),
                DataType::Time64(_) => words!(Time64NanosecondType, signed),
                DataType::Timestamp(TimeUnit::Second, _) => words!(TimestampSecondType, signed),
                DataType::Timestamp(TimeUnit::Millisecond, _) => words!(TimestampMillisecondType, signed),
                DataType::Timestamp(TimeUnit::Microsecond, _) => words!(TimestampMicrosecondType, signed),
                DataType::Timestamp(TimeUnit::Nanosecond, _) => words!(TimestampNanosecondType, signed),
                DataType::Duration(TimeUnit::Second) => words!(DurationSecondType, signed),
                DataType::Duration(TimeUnit::Millisecond) => words!(DurationMillisecondType, signed),
                DataType::Duration(TimeUnit::Microsecond) => words!(DurationMicrosecondType, signed),
                _ => words!(DurationNanosecondType, signed),
            },
        }
    }

    fn column(&self, keys: Vec<Option<u64>>, data_type: &DataType) -> ArrayRef {
        let nulls = keys.iter().any(Option::is_none).then(|| NullBuffer::from_iter(keys.iter().map(Option::is_some)));
        let words = keys.into_iter().map(|key| key.unwrap_or_default()).map(|key| match self.kind {
            WordKind::Signed => key ^ SIGN,
            WordKind::Unsigned => key,
            WordKind::Float64 => word_float(key).to_bits(),
            WordKind::Float32 => u64::from((word_float(key) as f32).to_bits()),
        });
        crate::keys::column_of_words(words, nulls, data_type)
    }

    fn key_bytes() -> usize {
        24
    }
}

/// Any other ordered values, as row bytes.
struct Encoded {
    converter: RowConverter,
}

impl Encoded {
    fn new(data_type: &DataType) -> Self {
        let converter = RowConverter::new(vec![SortField::new(data_type.clone())]);
        Encoded { converter: converter.expect("planners allow min and max only over types that have an order") }
    }
}

impl Codec for Encoded {
    type Key = Box<[u8]>;

    fn each(&self, column: &ArrayRef, rows: &Rows<'_>, mut take: impl FnMut(usize, Box<[u8]>, Diff)) {
        let encoded = self.converter.convert_columns(std::slice::from_ref(column)).expect("the column has the converter's type");
        rows.for_each(|row, group, diff| take(group, Box::from(encoded.row(row).data()), diff));
    }

    fn column(&self, keys: Vec<Option<Box<[u8]>>>, data_type: &DataType) -> ArrayRef {
        if keys.is_empty() {
            return new_null_array(data_type, 0);
        }
        let null = self.converter.convert_columns(&[new_null_array(data_type, 1)]).expect("a NULL has the converter's type");
        let parser = self.converter.parser();
        let rows = keys.iter().map(|key| parser.parse(key.as_deref().unwrap_or_else(|| null.row(0).data())));
        let mut columns = self.converter.convert_rows(rows).expect("the bytes came from this converter");
        columns.pop().expect("one column")
    }

    fn key_bytes() -> usize {
        48
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
            extreme.resize(2);
            let groups = vec![0; column.len()];
            extreme.update(&Rows { groups: &groups, argument: Some(&column), filter: None, diffs: None });
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
        greatest.update(&Rows { groups: &[0; 4], argument: Some(&column), filter: None, diffs: None });
        greatest.update(&Rows { groups: &[0; 4], argument: Some(&column), filter: None, diffs: Some(&[0, -1, -1, 0]) });
        assert_eq!(&greatest.output(&[0]).values, &(Arc::new(Int32Array::from(vec![4])) as ArrayRef));
    }
}
