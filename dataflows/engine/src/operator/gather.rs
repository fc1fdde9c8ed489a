//! Rows from here and there among kept batches, put together.

use arrow::array::{Array, ArrayRef};
use arrow::compute;

use crate::equal::Place;

/// These columns of the rows at these places, of batches whose columns `column` gives.
///
/// Cost:  that of the rows and of the batches they are in, however many others there are.
pub(crate) fn gather<'a>(
    places: impl Iterator<Item = Place>,
    columns: impl Iterator<Item = usize>,
    column: impl Fn(u32, usize) -> &'a ArrayRef,
) -> Vec<ArrayRef> {
    // Only the batches that are read go into the kernel: it looks at each of them first.
    let mut used: Vec<u32> = Vec::new();
    let mut ranks = hashbrown::HashMap::<u32, u32, ahash::RandomState>::with_capacity_and_hasher(64, fixed_hasher());
    let mut last = (u32::MAX, 0);
    let positions: Vec<(usize, usize)> = places
        .map(|Place { batch, row }| {
            if last.0 != batch {
                let rank = *ranks.entry(batch).or_insert_with(|| {
                    used.push(batch);
                    used.len() as u32 - 1
                });
                last = (batch, rank);
            }
            (last.1 as usize, row as usize)
        })
        .collect();
    let gathered = columns.map(|index| {
        let arrays: Vec<&dyn Array> = used.iter().map(|batch| column(*batch, index).as_ref()).collect();
        compute::interleave(&arrays, &positions).expect("places lie within their batches")
    });
    gathered.collect()
}

/// Hashes alike in every run.
pub(crate) fn fixed_hasher() -> ahash::RandomState {
    ahash::RandomState::with_seeds(1, 2, 3, 4)
}
