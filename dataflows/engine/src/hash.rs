//! Hashes of rows, a column at a time: the same everywhere, so that every worker routes a key alike.
//!
//! The hash names a key's worker, its place in an arrangement and its piece of a checkpoint. It depends on the
//! values alone: not on the batch's layout, the process or the run. NULL is a value like any other.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{ArrowPrimitiveType, DataType, Float32Type, Float64Type};
use arrow::{downcast_primitive_array, util::bit_util};
use arrow_row::{RowConverter, SortField};

const SEED: u64 = 0x51_7c_c1_b7_27_22_0a_95;
const NULL: u64 = 0x9e_37_79_b9_7f_4a_7c_15;

/// Mixes `value` into `hash`.
#[inline]
pub(crate) fn mix(hash: u64, value: u64) -> u64 {
    let mixed = (hash ^ value).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed ^ (mixed >> 29)
}

/// Hashes bytes.
#[inline]
pub(crate) fn hash_bytes(hash: u64, bytes: &[u8]) -> u64 {
    let mut hash = mix(hash, bytes.len() as u64);
    let mut words = bytes.chunks_exact(8);
    for word in &mut words {
        hash = mix(hash, u64::from_le_bytes(word.try_into().expect("chunks of eight")));
    }
    let rest = words.remainder();
    if rest.is_empty() {
        return hash;
    }
    mix(hash, last_word(bytes, rest))
}

/// The bytes that are left of some after whole words, as a word.
///
/// Never by way of memory: a load of bytes that were just stored one by one waits until all stores before them are done, and
/// those of a large table miss the cache.
#[inline]
fn last_word(bytes: &[u8], rest: &[u8]) -> u64 {
    if let Some(word) = bytes.last_chunk::<8>() {
        return u64::from_le_bytes(*word) >> (64 - 8 * rest.len());
    }
    match (rest.first_chunk::<4>(), rest.last_chunk::<4>()) {
        (Some(low), Some(high)) => {
            let high = u64::from(u32::from_le_bytes(*high)) << (8 * (rest.len() - 4));
            high | u64::from(u32::from_le_bytes(*low))
        }
        _ => rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)),
    }
}

/// The worker, of `peers`, that a hash belongs to.
#[inline]
pub(crate) fn worker_of(hash: u64, peers: usize) -> usize {
    ((hash >> 32) % peers as u64) as usize
}

/// Which of `rows` rows belong to which of `peers` workers, by the hash of these columns, for which there is room in `hashes`.
pub(crate) fn rows_of_workers(columns: &[ArrayRef], rows: usize, peers: usize, hashes: &mut Vec<u64>) -> Vec<Vec<u32>> {
    hash_columns(columns, rows, hashes);
    let mut of_workers = vec![Vec::with_capacity(rows / peers + 16); peers];
    for (row, hash) in hashes.iter().enumerate() {
        of_workers[worker_of(*hash, peers)].push(row as u32);
    }
    of_workers
}

/// Hashes each of `rows` rows over `columns` into `hashes`, which is overwritten.
pub(crate) fn hash_columns(columns: &[ArrayRef], rows: usize, hashes: &mut Vec<u64>) {
    hashes.clear();
    hashes.resize(rows, SEED);
    for column in columns {
        hash_column(column, hashes);
    }
    for hash in hashes.iter_mut() {
        *hash = mix(*hash, SEED);
    }
}

/// The bits of a float as all that are equal to it have them: -0.0 is 0.0, and there is one NaN, as in PostgreSQL.
#[inline]
pub(crate) fn one_float(value: f64) -> u64 {
    if value.is_nan() { f64::NAN.to_bits() } else { (value + 0.0).to_bits() }
}

/// The same of a REAL.
#[inline]
pub(crate) fn one_float32(value: f32) -> u32 {
    if value.is_nan() { f32::NAN.to_bits() } else { (value + 0.0).to_bits() }
}

fn hash_column(column: &ArrayRef, hashes: &mut [u64]) {
    let array = column.as_ref();
    if let Some(array) = array.as_primitive_opt::<Float64Type>() {
        return hash_values(array, hashes, |hash, row| mix(hash, one_float(array.value(row))));
    }
    if let Some(array) = array.as_primitive_opt::<Float32Type>() {
        return hash_values(array, hashes, |hash, row| mix(hash, u64::from(one_float32(array.value(row)))));
    }
    downcast_primitive_array!(
        array => hash_primitive(array, hashes),
        DataType::Utf8 => {
            let array = array.as_string::<i32>();
            hash_values(array, hashes, |hash, row| hash_bytes(hash, array.value(row).as_bytes()));
        }
        DataType::Boolean => {
            let array = array.as_boolean();
            hash_values(array, hashes, |hash, row| mix(hash, u64::from(array.value(row))));
        }
        _ => hash_encoded(column, hashes)
    )
}

fn hash_primitive<T: ArrowPrimitiveType>(array: &arrow::array::PrimitiveArray<T>, hashes: &mut [u64]) {
    let bytes = array.values().inner().as_slice();
    let width = size_of::<T::Native>();
    match (width, array.null_count()) {
        (8, 0) => {
            for (hash, word) in hashes.iter_mut().zip(bytes.chunks_exact(8)) {
                *hash = mix(*hash, u64::from_le_bytes(word.try_into().expect("chunks of eight")));
            }
        }
        (1, _) => hash_values(array, hashes, |hash, row| mix(hash, u64::from(bytes[row]))),
        (2, _) => {
            let words = array.values().inner().typed_data::<u16>();
            hash_values(array, hashes, |hash, row| mix(hash, u64::from(words[row])));
        }
        (4, _) => {
            let words = array.values().inner().typed_data::<u32>();
            hash_values(array, hashes, |hash, row| mix(hash, u64::from(words[row])));
        }
        (8, _) => {
            let words = array.values().inner().typed_data::<u64>();
            hash_values(array, hashes, |hash, row| mix(hash, words[row]));
        }
        _ => hash_values(array, hashes, |hash, row| hash_bytes(hash, &bytes[row * width..(row + 1) * width])),
    }
}

#[inline]
fn hash_values(array: &dyn Array, hashes: &mut [u64], value: impl Fn(u64, usize) -> u64) {
    match array.nulls() {
        None => hashes.iter_mut().enumerate().for_each(|(row, hash)| *hash = value(*hash, row)),
        Some(nulls) => {
            let (bits, offset) = (nulls.validity(), nulls.offset());
            for (row, hash) in hashes.iter_mut().enumerate() {
                *hash = if bit_util::get_bit(bits, row + offset) { value(*hash, row) } else { mix(*hash, NULL) };
            }
        }
    }
}

/// Nested types and the like: over their order-preserving encoding.
fn hash_encoded(column: &ArrayRef, hashes: &mut [u64]) {
    let converter = RowConverter::new(vec![SortField::new(column.data_type().clone())])
        .expect("planners allow only types that have an order");
    let rows = converter.convert_columns(std::slice::from_ref(column)).expect("the column has the converter's type");
    for (hash, row) in hashes.iter_mut().zip(rows.iter()) {
        *hash = hash_bytes(*hash, row.data());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int32Array, Int64Array, StringArray};
    use std::sync::Arc;

    fn hashes(columns: &[ArrayRef]) -> Vec<u64> {
        let mut out = Vec::new();
        hash_columns(columns, columns[0].len(), &mut out);
        out
    }

    #[test]
    fn the_last_word_has_the_bytes_that_are_left_in_their_order() {
        let bytes: Vec<u8> = (1..=30).map(|byte| byte * 7).collect();
        for length in (1..bytes.len()).filter(|length| length % 8 > 0) {
            let bytes = &bytes[..length];
            let rest = bytes.chunks_exact(8).remainder();
            let mut word = [0; 8];
            word[..rest.len()].copy_from_slice(rest);
            assert_eq!(last_word(bytes, rest), u64::from_le_bytes(word), "{length}");
        }
    }

    #[test]
    fn a_slice_hashes_as_the_rows_it_holds() {
        let whole: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None, Some(3), Some(1)]));
        let all = hashes(&[Arc::clone(&whole)]);
        assert_eq!(hashes(&[whole.slice(1, 3)]), all[1..]);
        assert_eq!(all[0], all[3]);
        assert_ne!(all[0], all[1]);
    }

    #[test]
    fn every_width_and_strings_differ_by_value() {
        let ints: ArrayRef = Arc::new(Int32Array::from(vec![1, 2, 1]));
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["a", "a", "a"]));
        let all = hashes(&[ints, texts]);
        assert_eq!(all[0], all[2]);
        assert_ne!(all[0], all[1]);
    }
}
