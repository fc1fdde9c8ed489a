//! `approx_percentile_cont`: how many values fall in each of many buckets.
//!
//! A bucket holds the floats that agree in sign, exponent and the first seven bits of the fraction, so its middle is off by
//! at most 1/256 of any value in it. Counting is exact, adds up, and can be taken back; unlike a t-digest or a
//! HyperLogLog the result depends on the values alone. Source of the idea: Masson, Rim and Lee, "DDSketch", 2019; bits
//! instead of logarithms make it the same on every machine.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BinaryArray, Float64Array};
use arrow::datatypes::{DataType, Float64Type};

use super::codec::{float_word, word_float};
use super::{Accumulator, Output, Rows};
use crate::Diff;

/// Bits of a float's word that a bucket leaves open.
const OPEN_BITS: u32 = 45;

/// Buckets of each group.
pub(super) struct Sketch {
    fraction: f64,
    descending: bool,
    groups: Vec<BTreeMap<u32, Diff>>,
}

impl Sketch {
    pub(super) fn new(fraction: f64, descending: bool) -> Self {
        Sketch { fraction, descending, groups: Vec::new() }
    }

    fn result(&self, buckets: &BTreeMap<u32, Diff>) -> Option<f64> {
        let count: Diff = buckets.values().map(|count| (*count).max(0)).sum();
        if count == 0 {
            return None;
        }
        let rank = ((self.fraction * (count - 1) as f64).floor() as Diff).clamp(0, count - 1);
        let mut rank = if self.descending { count - 1 - rank } else { rank };
        for (bucket, count) in buckets {
            rank -= (*count).max(0);
            if rank < 0 {
                return Some(middle(*bucket));
            }
        }
        None
    }
}

fn bucket(value: f64) -> u32 {
    (float_word(if value == 0.0 { 0.0 } else { value }) >> OPEN_BITS) as u32
}

/// The value that stands for a bucket.
fn middle(bucket: u32) -> f64 {
    let low = u64::from(bucket) << OPEN_BITS;
    let (one, other) = (word_float(low), word_float(low | ((1 << OPEN_BITS) - 1)));
    let least = if one.abs() < other.abs() { one } else { other };
    match (one.is_nan(), other.is_nan()) {
        // Infinities stand at the border of the NaNs.
        (true, true) => f64::NAN,
        (true, false) => other,
        (false, true) => one,
        // So do zeros at the border of the floats that are too small to have all bits.
        _ if least == 0.0 => 0.0,
        _ => one + (other - one) / 2.0,
    }
}

fn add(buckets: &mut BTreeMap<u32, Diff>, bucket: u32, diff: Diff) {
    let count = buckets.entry(bucket).or_default();
    *count += diff;
    if *count == 0 {
        buckets.remove(&bucket);
    }
}

impl Accumulator for Sketch {
    fn resize(&mut self, groups: usize) {
        self.groups.resize_with(groups, BTreeMap::new);
    }

    fn update(&mut self, rows: &Rows<'_>) {
        let values = rows.argument.expect("percentiles have an argument").as_primitive::<Float64Type>().values();
        let groups = &mut self.groups;
        rows.for_each(|row, group, diff| add(&mut groups[group], bucket(values[row]), diff));
    }

    fn merge(&mut self, ours: &[u32], other: &dyn Accumulator, theirs: &[u32]) {
        let other: &Sketch = other.as_any().downcast_ref().expect("accumulators of one call are of one type");
        for (ours, theirs) in ours.iter().zip(theirs) {
            for (bucket, count) in &other.groups[*theirs as usize] {
                add(&mut self.groups[*ours as usize], *bucket, *count);
            }
        }
    }

    fn output(&self, groups: &[u32]) -> Output {
        let results = groups.iter().map(|group| self.result(&self.groups[*group as usize]));
        let values: ArrayRef = Arc::new(Float64Array::from_iter(results));
        values.into()
    }

    fn clear(&mut self, group: u32) {
        self.groups[group as usize].clear();
    }

    fn bytes(&self) -> usize {
        let buckets: usize = self.groups.iter().map(BTreeMap::len).sum();
        self.groups.capacity() * size_of::<BTreeMap<u32, Diff>>() + buckets * 24
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn partial_types(&self) -> Option<Vec<DataType>> {
        Some(vec![DataType::Binary])
    }

    fn partial(&self, groups: &[u32]) -> Vec<ArrayRef> {
        let bytes = |group: &u32| -> Vec<u8> {
            let buckets = self.groups[*group as usize].iter();
            buckets.flat_map(|(bucket, count)| bucket.to_le_bytes().into_iter().chain(count.to_le_bytes())).collect()
        };
        vec![Arc::new(BinaryArray::from_iter_values(groups.iter().map(bytes)))]
    }

    fn update_partial(&mut self, groups: &[u32], columns: &[ArrayRef]) {
        let states = columns[0].as_binary::<i32>();
        for (row, group) in groups.iter().enumerate() {
            for pair in states.value(row).chunks_exact(12) {
                let bucket = u32::from_le_bytes(pair[..4].try_into().expect("four bytes"));
                let count = Diff::from_le_bytes(pair[4..].try_into().expect("eight bytes"));
                add(&mut self.groups[*group as usize], bucket, count);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_a_bucket_is_near_every_value_in_it() {
        for value in [1.0, -1.0, 0.1, 123_456.789, -3e-200, 8.5e300, 2.0 - 1e-12, f64::MIN_POSITIVE, f64::MAX, f64::MIN] {
            let error = (middle(bucket(value)) - value).abs() / value.abs();
            assert!(error <= 1.0 / 256.0, "{value}: {error}");
        }
        for value in [0.0, -0.0, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(middle(bucket(value)), value);
        }
        assert!(middle(bucket(f64::NAN)).is_nan());
    }

    #[test]
    fn values_come_go_and_travel() {
        let column: ArrayRef = Arc::new(Float64Array::from((1..=100).map(f64::from).collect::<Vec<_>>()));
        let groups = vec![0; 100];
        let mut parts = [Sketch::new(0.5, false), Sketch::new(0.5, false)];
        for part in &mut parts {
            part.resize(1);
            part.update(&Rows::of(&groups, Some(&column)));
        }
        let state = parts[1].partial(&[0]);
        parts[0].update_partial(&[0], &state);
        let near = |sketch: &Sketch, wanted: f64| {
            let got = sketch.result(&sketch.groups[0]).expect("there are values");
            assert!((got - wanted).abs() <= wanted / 256.0, "{got} is not near {wanted}");
        };
        near(&parts[0], 50.0);
        parts[0].update(&Rows { diffs: Some(&[-2; 50]), ..Rows::of(&groups[..50], Some(&column.slice(0, 50))) });
        near(&parts[0], 75.0);
        parts[0].update(&Rows { diffs: Some(&[-2; 50]), ..Rows::of(&groups[..50], Some(&column.slice(50, 50))) });
        assert_eq!(parts[0].result(&parts[0].groups[0]), None);
        assert!(parts[0].groups[0].is_empty());
    }
}
