//! How many different keys there are among rows, about, before a table makes room for them.
//!
//! Source: Whang, Vander-Zanden and Taylor, "A Linear-Time Probabilistic Counting Algorithm for Database Applications", 1990.

use arrow::array::ArrayRef;

use crate::hash::hash_columns;

/// About how many keys are different in these batches, hardly ever less than there are: the columns that are the key, and how many
/// rows they have.
///
/// Cost: a hash and a bit per row.
pub(super) fn distinct(batches: &[(Vec<ArrayRef>, usize)]) -> usize {
    let rows: usize = batches.iter().map(|(_, rows)| rows).sum();
    // As many bits as rows, at least: then hardly any estimate is wrong by a hundredth.
    let bits = rows.next_power_of_two().max(64);
    let mut seen = vec![0u64; bits / 64];
    let mut hashes = Vec::new();
    for (columns, rows) in batches {
        hash_columns(columns, *rows, &mut hashes);
        for hash in &hashes {
            let bit = *hash as usize & (bits - 1);
            seen[bit / 64] |= 1 << (bit % 64);
        }
    }
    let set: usize = seen.iter().map(|word| word.count_ones() as usize).sum();
    let unset = (bits - set).max(1) as f64;
    let estimate = (bits as f64 * (bits as f64 / unset).ln()).ceil() as usize;
    // One key more than there is room for, and the room is doubled.
    (estimate + estimate / 64).min(rows)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, StringArray};

    use super::*;

    #[test]
    fn different_keys_are_counted_about() {
        for (rows, different) in [(1_000, 1_000), (100_000, 100_000), (100_000, 30_000), (131_072, 131_072), (50_000, 7), (10, 1)]
        {
            let numbers = (0..rows as i64).map(|row| row % different as i64);
            let texts: ArrayRef = Arc::new(StringArray::from_iter_values(numbers.clone().map(|number| number.to_string())));
            let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(numbers));
            for columns in [vec![Arc::clone(&numbers)], vec![numbers, texts]] {
                let half = |start: usize| columns.iter().map(|column| column.slice(start, rows / 2)).collect::<Vec<_>>();
                let told = distinct(&[(half(0), rows / 2), (half(rows / 2), rows / 2)]);
                let more = if rows < 65_536 { different / 20 + 1 } else { different / 40 };
                assert!((different..=different + more).contains(&told), "{told} of {different} in {rows}");
            }
        }
        assert_eq!(distinct(&[]), 0);
    }
}
