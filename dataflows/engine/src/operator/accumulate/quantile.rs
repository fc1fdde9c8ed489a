//! `percentile_cont` and `percentile_disc`, and `median`, which is the first of them at a half.
//!
//! Each group keeps its values in order and finds the n-th in the logarithm of their number.

use std::any::Any;

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;

use super::codec::{Codec, Encoded, Words, float_word, word_float};
use super::counted::Counted;
use super::{Accumulator, Output, Rows};
use crate::Diff;

/// The accumulator of `percentile_cont` over Float64s.
pub(super) fn continuous(fraction: f64, descending: bool) -> Box<dyn Accumulator> {
    let codec = Words::new(&DataType::Float64).expect("floats are words");
    let pick = move |values: &Counted<u64>| {
        let last = values.len() - 1;
        let place = fraction * last as f64;
        let (below, above) = (place.floor(), place.ceil());
        let at = |place: f64| {
            let rank = (place as Diff).clamp(0, last);
            values.get(if descending { last - rank } else { rank }).copied()
        };
        let (low, high) = (word_float(at(below)?), word_float(at(above)?));
        Some(float_word(if below == above || low == high { low } else { low + (high - low) * (place - below) }))
    };
    Box::new(Quantile { codec, pick, groups: Vec::new() })
}

/// The accumulator of `percentile_disc` over values of this type.
pub(super) fn discrete(argument: &DataType, fraction: f64, descending: bool) -> Box<dyn Accumulator> {
    match Words::new(argument) {
        Some(codec) => Box::new(Quantile { codec, pick: at_fraction(fraction, descending), groups: Vec::new() }),
        None => Box::new(Quantile { codec: Encoded::new(argument), pick: at_fraction(fraction, descending), groups: Vec::new() }),
    }
}

/// The first value at which so much of all values has come.
fn at_fraction<K: Ord + Clone + Default>(fraction: f64, descending: bool) -> impl Fn(&Counted<K>) -> Option<K> {
    move |values| {
        let count = values.len();
        let rank = (((fraction * count as f64).ceil() as Diff) - 1).clamp(0, count - 1);
        values.get(if descending { count - 1 - rank } else { rank }).cloned()
    }
}

struct Quantile<C: Codec, P> {
    codec: C,
    /// The result of a group that has values.
    pick: P,
    groups: Vec<Counted<C::Key>>,
}

impl<C: Codec, P: Fn(&Counted<C::Key>) -> Option<C::Key> + Send + 'static> Accumulator for Quantile<C, P> {
    fn resize(&mut self, groups: usize) {
        self.groups.resize_with(groups, Counted::default);
    }

    fn update(&mut self, rows: &Rows<'_>) {
        let groups = &mut self.groups;
        self.codec.each(rows, |group, key, diff| groups[group].add(key, diff));
    }

    fn merge(&mut self, ours: &[u32], other: &dyn Accumulator, theirs: &[u32]) {
        let other: &Self = other.as_any().downcast_ref().expect("accumulators of one call are of one type");
        for (ours, theirs) in ours.iter().zip(theirs) {
            self.groups[*ours as usize].merge(&other.groups[*theirs as usize]);
        }
    }

    fn output(&self, groups: &[u32]) -> Output {
        let results = groups.iter().map(|group| {
            let values = &self.groups[*group as usize];
            if values.len() > 0 { (self.pick)(values) } else { None }
        });
        let values: ArrayRef = self.codec.column(results.collect());
        values.into()
    }

    fn clear(&mut self, group: u32) {
        self.groups[group as usize] = Counted::default();
    }

    fn bytes(&self) -> usize {
        let values: usize = self.groups.iter().map(Counted::distinct).sum();
        self.groups.capacity() * size_of::<Counted<C::Key>>() + values * (C::key_bytes() + 32)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Float64Array, StringArray};
    use std::sync::Arc;

    fn cont(fraction: f64, descending: bool, values: &[f64]) -> Option<f64> {
        let mut quantile = continuous(fraction, descending);
        quantile.resize(1);
        let column: ArrayRef = Arc::new(Float64Array::from(values.to_vec()));
        let (groups, gone) = (vec![0; values.len() + 1], -7.25);
        quantile.update(&Rows::of(&groups[1..], Some(&column)));
        // One more value comes and goes.
        let more: ArrayRef = Arc::new(Float64Array::from(vec![gone]));
        quantile.update(&Rows::of(&groups[..1], Some(&more)));
        quantile.update(&Rows { diffs: Some(&[-1]), ..Rows::of(&groups[..1], Some(&more)) });
        let result = quantile.output(&[0]).values;
        let result = result.as_any().downcast_ref::<Float64Array>().expect("floats").clone();
        result.iter().next().flatten()
    }

    #[test]
    fn continuous_percentiles_are_interpolated() {
        assert_eq!(cont(0.5, false, &[1.0, 2.0, 4.0, 3.0]), Some(2.5));
        assert_eq!(cont(0.0, false, &[1.0, 2.0]), Some(1.0));
        assert_eq!(cont(1.0, false, &[1.0, 2.0]), Some(2.0));
        assert_eq!(cont(0.25, true, &[1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(cont(0.5, false, &[f64::INFINITY, f64::INFINITY]), Some(f64::INFINITY));
        assert_eq!(cont(0.5, false, &[]), None);
    }

    #[test]
    fn discrete_percentiles_are_values() {
        let column: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), Some("c"), None, Some("b")]));
        for (fraction, descending, expected) in [(0.5, false, "b"), (0.0, false, "a"), (1.0, false, "c"), (0.3, true, "c")] {
            let mut quantile = discrete(&DataType::Utf8, fraction, descending);
            quantile.resize(1);
            quantile.update(&Rows::of(&[0; 4], Some(&column)));
            assert_eq!(&quantile.output(&[0]).values, &(Arc::new(StringArray::from(vec![expected])) as ArrayRef));
        }
    }
}
