//! Searching published batches.
//!
//! The columns of a view are stored key first, and the bytes of a row begin with those of its leading columns. So the
//! conditions are taken apart: those on the leading stored columns become bytes that a row must begin with (all of the
//! key: also a hash, and then a binary search), the others are evaluated on decoded rows.

use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{Array, ArrayRef, BooleanArray, Scalar};
use arrow::compute::kernels::{boolean, cmp};
use arrow::record_batch::RecordBatch;
use arrow_row::{RowConverter, SortField};
use differential_dataflow::trace::chunk::Chunk;

use super::snapshot::Snapshot;
use super::{Equals, READ_ROWS_MAX};
use crate::arrangement::{RowChunk, RowCodec};
use crate::{Diff, Time};

/// What is asked of a view.
pub(super) struct Query<'a> {
    codec: &'a RowCodec,
    /// What the rows' bytes begin with.
    prefix: Vec<u8>,
    /// The key's hash, if all of the key is known.
    hash: Option<u64>,
    /// The conditions that the prefix does not cover.
    rest: Vec<&'a Equals>,
}

/// An update that was found.
#[derive(Clone, Copy)]
struct Found<'a> {
    hash: u64,
    chunk: &'a RowChunk,
    at: u32,
}

impl<'a> Found<'a> {
    fn row(&self) -> &'a [u8] {
        self.chunk.row(self.at as usize)
    }

    fn diff(&self) -> Diff {
        self.chunk.diff(self.at as usize)
    }
}

impl<'a> Query<'a> {
    /// Takes the conditions apart.
    pub(super) fn new(codec: &'a RowCodec, equals: &'a [Equals]) -> Self {
        let covers = |column: usize| equals.iter().position(|condition| condition.column == column);
        let used: Vec<usize> = codec.order().iter().map_while(|column| covers(*column)).collect();
        let value = |index: &usize| equals[*index].value.clone();
        let (hash, prefix) = if used.len() == codec.key_len() {
            let (hash, prefix) = codec.encode_key(&used.iter().map(value).collect::<Vec<_>>());
            (Some(hash), prefix)
        } else if used.len() > codec.key_len() {
            let values: Vec<ArrayRef> = used.iter().map(value).collect();
            (Some(codec.encode_key(&values[..codec.key_len()]).0), codec.encode_prefix(&values))
        } else {
            (None, codec.encode_prefix(&used.iter().map(value).collect::<Vec<_>>()))
        };
        let rest = equals.iter().enumerate().filter(|(index, _)| !used.contains(index)).map(|(_, condition)| condition);
        Query { codec, prefix, hash, rest: rest.collect() }
    }

    /// The hash of the key, if there is a value for each of its columns.
    pub(super) fn hash(&self) -> Option<u64> {
        self.hash
    }

    /// The rows as of `epoch`, in order, each as often as its multiplicity.
    pub(super) fn run(
        &self,
        snapshots: &[&Snapshot],
        epoch: Time,
        limit: Option<usize>,
        anomalies: &AtomicU64,
    ) -> Vec<RecordBatch> {
        let mut rows = Vec::new();
        let mut updates = Vec::new();
        for snapshot in snapshots {
            match self.hash {
                Some(hash) => self.seek(snapshot, hash, epoch, &mut updates),
                None => self.scan(snapshot, epoch, &mut updates),
            }
            consolidate(&mut updates, &mut rows, anomalies);
            updates.clear();
        }
        if !self.rest.is_empty() {
            rows = self.filter(rows);
        }
        let limit = limit.unwrap_or(usize::MAX);
        sort_first(&mut rows, limit);
        let repeated = rows.iter().flat_map(|(row, times)| std::iter::repeat_n(*row, *times as usize)).take(limit);
        self.decode(repeated)
    }

    fn decode<'r>(&self, mut rows: impl Iterator<Item = &'r [u8]>) -> Vec<RecordBatch> {
        let next = || Some(self.codec.decode(rows.by_ref().take(READ_ROWS_MAX))).filter(|batch| batch.num_rows() > 0);
        std::iter::from_fn(next).collect()
    }

    /// The updates of one key.
    fn seek<'s>(&self, snapshot: &'s Snapshot, hash: u64, epoch: Time, updates: &mut Vec<Found<'s>>) {
        for batch in snapshot.batches() {
            let ends_before = |chunk: &RowChunk| chunk.hashes().last().is_none_or(|last| *last < hash);
            let first = batch.partition_point(ends_before);
            for chunk in batch[first..].iter().take_while(|chunk| chunk.hashes().first().is_some_and(|first| *first <= hash)) {
                let hashes = chunk.hashes();
                let start = hashes.partition_point(|other| *other < hash);
                let length = hashes[start..].iter().take_while(|other| **other == hash).count();
                self.take(chunk, start..start + length, epoch, updates);
            }
        }
    }

    /// All updates.
    fn scan<'s>(&self, snapshot: &'s Snapshot, epoch: Time, updates: &mut Vec<Found<'s>>) {
        for chunk in snapshot.batches().flatten() {
            self.take(chunk, 0..chunk.len(), epoch, updates);
        }
    }

    fn take<'s>(&self, chunk: &'s RowChunk, range: std::ops::Range<usize>, epoch: Time, updates: &mut Vec<Found<'s>>) {
        let hashes = chunk.hashes();
        for at in range {
            if chunk.time(at) <= epoch && chunk.row(at).starts_with(&self.prefix) {
                updates.push(Found { hash: hashes[at], chunk, at: at as u32 });
            }
        }
    }

    /// The rows that meet the conditions that need decoding.
    fn filter<'r>(&self, rows: Vec<(&'r [u8], Diff)>) -> Vec<(&'r [u8], Diff)> {
        let mut kept = Vec::new();
        for rows in rows.chunks(READ_ROWS_MAX) {
            let batch = self.codec.decode(rows.iter().map(|(row, _)| *row));
            let matching = matching(&batch, self.rest.iter().copied());
            kept.extend(matching.values().set_indices().map(|row| rows[row]));
        }
        kept
    }
}

/// Adds up the multiplicities of each row; gives those that are there.
fn consolidate<'s>(updates: &mut [Found<'s>], rows: &mut Vec<(&'s [u8], Diff)>, anomalies: &AtomicU64) {
    // They are some sorted runs one after another, which this sort finds and merges.
    updates.sort_by(|one, other| one.hash.cmp(&other.hash).then_with(|| one.row().cmp(other.row())));
    for same in updates.chunk_by(|one, other| one.hash == other.hash && one.row() == other.row()) {
        let diff: Diff = same.iter().map(Found::diff).sum();
        if diff > 0 {
            rows.push((same[0].row(), diff));
        }
        if diff < 0 {
            // A source may take back what it never gave; the row is not there, and the view counts it.
            anomalies.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Brings the first `count` rows into the order of their bytes; the others may be gone.
fn sort_first(rows: &mut Vec<(&[u8], Diff)>, count: usize) {
    if count == 0 {
        rows.clear();
    } else if count < rows.len() {
        rows.select_nth_unstable_by(count - 1, |one, other| one.0.cmp(other.0));
        rows.truncate(count);
    }
    if rows.len() < 2 {
        return;
    }
    // Comparing two prefixes held at hand saves most visits to the rows.
    rows.sort_by_cached_key(|(row, _)| {
        let mut prefix = [0; 16];
        let length = row.len().min(16);
        prefix[..length].copy_from_slice(&row[..length]);
        (u128::from_be_bytes(prefix), *row)
    });
}

/// Which rows meet all conditions.
pub(super) fn matching<'e>(batch: &RecordBatch, conditions: impl Iterator<Item = &'e Equals>) -> BooleanArray {
    let each = conditions.map(|condition| equal(batch.column(condition.column), &condition.value));
    let all = each.reduce(|one, other| boolean::and(&one, &other).expect("both have a bit per row"));
    all.unwrap_or_else(|| BooleanArray::from(vec![true; batch.num_rows()]))
}

fn equal(column: &ArrayRef, value: &ArrayRef) -> BooleanArray {
    if let Ok(equal) = cmp::not_distinct(column, &Scalar::new(value)) {
        return equal;
    }
    // Nested types have no such kernel, but an encoding.
    let fields = vec![SortField::new(column.data_type().clone())];
    let converter = RowConverter::new(fields).expect("planners allow only types that have an order");
    let encode =
        |array: &ArrayRef| converter.convert_columns(std::slice::from_ref(array)).expect("a value has its column's type");
    let (rows, value) = (encode(column), encode(value));
    rows.iter().map(|row| Some(row == value.row(0))).collect()
}
