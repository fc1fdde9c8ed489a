//! Few large batches of many small ones.

use crate::Delta;

/// Puts small batches together, in their order: what a job got in many epochs, it is given back in few batches.
pub(super) fn in_larger(deltas: Vec<Delta>) -> Vec<Delta> {
    const ROWS: usize = 8_192;
    // A column of text has 2 GiB at most.
    const BYTES: usize = 64 << 20;
    let (mut larger, mut small, mut rows, mut bytes) = (Vec::new(), Vec::new(), 0, 0);
    for delta in deltas.into_iter().filter(|delta| !delta.is_empty()) {
        let size = if delta.len() < ROWS / 4 { bytes_of(&delta) } else { BYTES };
        let is_large = size >= BYTES / 4;
        if !small.is_empty() && (is_large || rows >= ROWS || bytes >= BYTES) {
            larger.push(together(&mut small));
            (rows, bytes) = (0, 0);
        }
        if is_large {
            larger.push(delta);
            continue;
        }
        (rows, bytes) = (rows + delta.len(), bytes + size);
        small.push(delta);
    }
    if !small.is_empty() {
        larger.push(together(&mut small));
    }
    larger
}

/// What a batch would take if it were copied: many are slices of one block.
fn bytes_of(delta: &Delta) -> usize {
    let sizes = delta.rows.columns().iter().map(|column| column.to_data().get_slice_memory_size());
    sizes.map(|size| size.unwrap_or(usize::MAX / 1_024)).sum()
}

/// Empties a list that is not empty.
fn together(small: &mut Vec<Delta>) -> Delta {
    let one = if small.len() == 1 { small.pop() } else { None };
    let all = std::mem::take(small);
    one.unwrap_or_else(|| Delta::concat(&all))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, RecordBatch, StringArray};

    use super::*;

    #[test]
    fn batches_are_put_together_by_rows_and_bytes() {
        let of = |rows: usize, bytes: usize| {
            let text: ArrayRef = Arc::new(StringArray::from_iter_values((0..rows).map(|_| "x".repeat(bytes / rows))));
            Delta::insert(RecordBatch::try_from_iter([("t", text)]).unwrap())
        };
        let sizes = |deltas: Vec<Delta>| in_larger(deltas).iter().map(Delta::len).collect::<Vec<_>>();
        assert_eq!(sizes((0..100).map(|_| of(100, 1_000)).collect()), [8_200, 1_800]);
        assert_eq!(sizes(vec![of(10, 100), of(5_000, 50_000), of(10, 100)]), [10, 5_000, 10]);
        let together = sizes((0..20).map(|_| of(1, 9 << 20)).collect());
        assert!(together.iter().all(|rows| (4..=8).contains(rows)), "some 64 MiB each: {together:?}");
        assert_eq!(sizes(vec![of(10, 100), of(2, 40 << 20), of(10, 100)]), [10, 2, 10]);
        // Slices of a large batch are no larger for that.
        let block = of(10_000, 100 << 20).rows;
        assert_eq!(sizes((0..50).map(|at| Delta::insert(block.slice(at * 10, 10))).collect()), [500]);
    }
}
