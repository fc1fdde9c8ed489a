//! Sealing: all changes of one epoch, consolidated, as the chunks of one batch and as a stream may carry them.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::Int64Array;
use arrow::compute;
use arrow::record_batch::RecordBatch;

use super::chunk::RowChunk;
use super::codec::{Encoded, RowCodec};
use super::run::RunBuilder;
use crate::keys::AT_ONCE;
use crate::{Delta, Diff, Time};

/// Rows of a delta that had to be put together.
const DELTA_ROWS_MAX: usize = 8_192;

/// Room that is kept from one epoch to the next.
const KEPT_ROWS_MAX: usize = 1 << 16;

/// From so many rows on, they do not fit the caches near the processor.
const FAR_ROWS: usize = if cfg!(debug_assertions) { 1 << 4 } else { 1 << 14 };

/// Seals one epoch after another; keeps its buffers.
pub(crate) struct Sealer {
    codec: Arc<RowCodec>,
    encoded: Encoded,
    /// Hash and position of each update, to be sorted.
    order: Vec<(u64, u32)>,
}

/// An epoch's changes.
pub(crate) struct Sealed {
    /// Sorted and consolidated, all at the epoch.
    pub(crate) chunks: Vec<RowChunk>,
    /// The same changes: one row per distinct row, each with a multiplicity that is not zero.
    pub(crate) deltas: Vec<Delta>,
    /// The sum of the multiplicities.
    pub(crate) net: Diff,
}

impl Sealer {
    /// Seals epochs of a relation.
    pub(crate) fn new(codec: Arc<RowCodec>) -> Self {
        Sealer { encoded: codec.buffer(), codec, order: Vec::new() }
    }

    /// How rows are encoded.
    pub(crate) fn codec(&self) -> &Arc<RowCodec> {
        &self.codec
    }

    /// Consolidates all changes of an epoch.
    ///
    /// Cost: encoding plus a sort by hash; the deltas are passed on without a copy unless rows cancelled or repeated.
    pub(crate) fn seal(&mut self, epoch: Time, deltas: Vec<Delta>) -> Sealed {
        for delta in &deltas {
            self.codec.encode(&delta.rows, &mut self.encoded);
        }
        let Sealer { codec, encoded, order } = self;
        let diffs = diffs(&deltas, encoded.len());
        sort(encoded, order);
        let mut chunks = VecDeque::new();
        let mut builder = RunBuilder::new(&mut chunks, encoded.len(), encoded.bytes());
        // The multiplicity of each distinct row, at its first position.
        let mut kept: Vec<(u32, Diff)> = Vec::new();
        let (mut distinct, mut net) = (true, 0);
        let (mut at, mut near) = (0, 0);
        for rows in order.chunk_by(|one, other| same_row(encoded, *one, *other)) {
            if at >= near && order.len() >= FAR_ROWS {
                approach(encoded, &order[at..]);
                near = at + AT_ONCE;
            }
            at += rows.len();
            let (hash, first) = rows[0];
            let diff = rows.iter().map(|(_, row)| diffs.get(*row)).sum();
            distinct &= rows.len() == 1 && diff != 0;
            net += diff;
            if diff != 0 {
                builder.push(hash, encoded.row(first as usize), epoch, diff);
                kept.push((first, diff));
            }
        }
        builder.finish();
        encoded.clear(codec);
        order.clear();
        order.shrink_to(KEPT_ROWS_MAX);
        let deltas = if distinct { deltas } else { put_together(&deltas, kept) };
        Sealed { chunks: chunks.into(), deltas, net }
    }
}

/// The multiplicities of all updates in a row.
enum Diffs {
    Inserts,
    Each(Vec<Diff>),
}

impl Diffs {
    #[inline]
    fn get(&self, row: u32) -> Diff {
        match self {
            Diffs::Inserts => 1,
            Diffs::Each(diffs) => diffs[row as usize],
        }
    }
}

fn diffs(deltas: &[Delta], rows: usize) -> Diffs {
    if deltas.iter().all(|delta| delta.diffs.is_none()) {
        return Diffs::Inserts;
    }
    let mut all = Vec::with_capacity(rows);
    for delta in deltas {
        match delta.diff_values() {
            Some(diffs) => all.extend_from_slice(diffs),
            None => all.resize(all.len() + delta.len(), 1),
        }
    }
    Diffs::Each(all)
}

/// Sorts by hash, then row, then position.
fn sort(encoded: &Encoded, order: &mut Vec<(u64, u32)>) {
    let rows = u32::try_from(encoded.len()).expect("an epoch has less than 2^32 changes");
    order.clear();
    order.extend((0..rows).map(|row| (encoded.hash(row as usize), row)));
    order.sort_unstable_by(|one, other| {
        let by_row = || encoded.row(one.1 as usize).cmp(encoded.row(other.1 as usize));
        one.0.cmp(&other.0).then_with(by_row).then(one.1.cmp(&other.1))
    });
}

#[inline]
fn same_row(encoded: &Encoded, one: (u64, u32), other: (u64, u32)) -> bool {
    one.0 == other.0 && encoded.row(one.1 as usize) == encoded.row(other.1 as usize)
}

/// Has the cache get the first of these rows, which lie anywhere, as [`crate::keys`] does: most are in two of its lines, or one.
fn approach(encoded: &Encoded, order: &[(u64, u32)]) {
    let ends = |(_, row): &(u64, u32)| match encoded.row(*row as usize) {
        [first, .., last] => first ^ last,
        _ => 0,
    };
    std::hint::black_box(order.iter().take(AT_ONCE).map(ends).fold(0, |all, one| all ^ one));
}

/// The kept rows, in the order they came in.
fn put_together(deltas: &[Delta], mut kept: Vec<(u32, Diff)>) -> Vec<Delta> {
    kept.sort_unstable_by_key(|(row, _)| *row);
    let batches: Vec<&RecordBatch> = deltas.iter().map(|delta| &delta.rows).collect();
    let (mut batch, mut start) = (0, 0);
    let mut places = Vec::with_capacity(kept.len());
    for (row, _) in &kept {
        while *row as usize >= start + batches[batch].num_rows() {
            start += batches[batch].num_rows();
            batch += 1;
        }
        places.push((batch, *row as usize - start));
    }
    let mut pieces = Vec::new();
    for (places, kept) in places.chunks(DELTA_ROWS_MAX).zip(kept.chunks(DELTA_ROWS_MAX)) {
        let rows = compute::interleave_record_batch(&batches, places).expect("the batches of a relation have one schema");
        let inserts = kept.iter().all(|(_, diff)| *diff == 1);
        let diffs = (!inserts).then(|| kept.iter().map(|(_, diff)| *diff).collect::<Int64Array>());
        pieces.push(Delta::of(rows, diffs));
    }
    pieces
}
