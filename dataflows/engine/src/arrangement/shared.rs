//! A relation that several joins of a job read by the same key: arranged once, read by all.
//!
//! A reader is an epoch-synchronous operator. When it applies epoch `e`, the trace of its worker holds every epoch up to
//! `e` and maybe later ones, and the reader wants the relation as it was before: [`SharedTrace::before`] takes hold of
//! the batches, and [`SharedRows::probe`] finds rows by key, in one pass over each batch for a batch of keys.
//!
//! Each reader keeps the epochs apart that it has still to read and no others: after epoch `e` it needs the relation as
//! of `e` or later ([`SharedTrace::advance`]). The slowest reader decides what is compacted. Nobody cuts the trace at an
//! epoch, times are looked at instead, so batches are merged as the spine likes.

use std::rc::Rc;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use differential_dataflow::trace::chunk::Chunk;
use differential_dataflow::trace::{BatchReader, TraceReader};
use timely::dataflow::Stream;
use timely::progress::Antichain;

use super::arranger::{Sealing, Watch, arrange_stream};
use super::{Batch, RowChunk, RowCodec, Trace};
use crate::delta::Parcel;
use crate::stats::OperatorStats;
use crate::{Diff, Time};

/// Arranges a relation of `schema` by its `key` columns, keeping `columns` (ascending, the key's among them).
///
/// Shape:  the output has the kept columns, consolidated, on the worker that owns the hash of the key.
/// Time:   when the output's frontier has passed an epoch, the epoch is in the trace of this worker.
/// Cost:   as [`arrange_stream`]. The rows and bytes of the trace are counted when an epoch is sealed.
/// Errors: none.
pub(crate) fn arrange_shared<'scope>(
    input: Stream<'scope, Time, Parcel>,
    schema: &SchemaRef,
    key: &[usize],
    columns: &[usize],
    stats: Arc<OperatorStats>,
    peers: usize,
) -> (Stream<'scope, Time, Parcel>, SharedTrace) {
    let kept = |column: &usize| position(columns, *column);
    let fields = columns.iter().map(|column| schema.field(*column).clone().with_nullable(true));
    let stored = Arc::new(Schema::new(fields.collect::<Vec<Field>>()));
    let codec = Arc::new(RowCodec::new(Arc::clone(&stored), &key.iter().map(kept).collect::<Vec<_>>()));
    let sealing = Sealing {
        name: stats.name.clone(),
        route: key.to_vec(),
        columns: Some((columns.to_vec(), stored)),
        codec: Arc::clone(&codec),
        stats: Arc::clone(&stats),
    };
    let watch = move |trace: &Trace| -> Watch {
        let mut counted = trace.clone();
        counted.set_logical_compaction(Antichain::new().borrow());
        counted.set_physical_compaction(Antichain::new().borrow());
        Box::new(move |_epoch, sealed| {
            let (mut rows, mut bytes) = size(&sealed.chunks);
            counted.map_batches(|batch| {
                let (more_rows, more_bytes) = size(&batch.chunks);
                (rows, bytes) = (rows + more_rows, bytes + more_bytes);
            });
            stats.holds(rows, bytes);
        })
    };
    let (output, trace) = arrange_stream(input, sealing, peers, watch);
    (output, SharedTrace { trace, codec, columns: columns.into() })
}

fn size(chunks: &[RowChunk]) -> (usize, usize) {
    chunks.iter().fold((0, 0), |(rows, bytes), chunk| (rows + chunk.len(), bytes + chunk.bytes()))
}

fn position(columns: &[usize], column: usize) -> usize {
    columns.iter().position(|kept| *kept == column).expect("the columns that are read are kept")
}

/// A reader's hold on a shared relation; a clone holds the same epochs.
#[derive(Clone)]
pub(crate) struct SharedTrace {
    trace: Trace,
    codec: Arc<RowCodec>,
    columns: Arc<[usize]>,
}

impl SharedTrace {
    /// Where the kept columns hold a column of the relation.
    pub(crate) fn position(&self, column: usize) -> usize {
        position(&self.columns, column)
    }

    /// The relation as of the epoch before `epoch`, which must be later than that of [`SharedTrace::advance`].
    pub(crate) fn before(&self, epoch: Time) -> SharedRows {
        let mut batches = Vec::new();
        self.trace.map_batches(|batch| {
            let earlier = batch.lower().first().is_some_and(|lower| *lower < epoch);
            if earlier && !batch.is_empty() {
                let since = batch.description().since().first().copied();
                assert!(since.is_none_or(|since| since < epoch), "an epoch is read before it is compacted away");
                batches.push(Rc::clone(batch));
            }
        });
        SharedRows { batches, codec: Arc::clone(&self.codec), before: epoch }
    }

    /// Nothing before `epoch` will be read again: later changes may be added to those up to it.
    pub(crate) fn advance(&mut self, epoch: Time) {
        self.trace.set_logical_compaction(Antichain::from_elem(epoch).borrow());
        self.trace.set_physical_compaction(Antichain::new().borrow());
    }

    /// The kept columns of rows.
    pub(crate) fn decode<'a>(&self, rows: impl Iterator<Item = &'a [u8]>) -> RecordBatch {
        self.codec.decode(rows)
    }
}

/// A shared relation as of one epoch.
pub(crate) struct SharedRows {
    batches: Vec<Batch>,
    codec: Arc<RowCodec>,
    before: Time,
}

impl SharedRows {
    /// Finds the rows of each of `rows` keys.
    ///
    /// Calls `found` once per distinct key that has rows: with the hash and position of each probe of the key, and with
    /// each distinct row and its multiplicity, which is not zero. NULL is a value like any other.
    ///
    /// Cost: a sort of the keys by hash, and per batch of the trace a seek forward per distinct key.
    pub(crate) fn probe<'a>(&'a self, keys: &[ArrayRef], rows: usize, mut found: impl FnMut(&[(u64, u32)], &[(&'a [u8], Diff)])) {
        if self.batches.is_empty() || rows == 0 {
            return;
        }
        let keys = self.codec.encode_keys(keys, rows);
        let mut probes: Vec<(u64, u32)> = (0..rows).map(|row| (keys.hash(row), row as u32)).collect();
        probes.sort_unstable_by(|one, other| {
            let by_key = || keys.row(one.1 as usize).cmp(keys.row(other.1 as usize));
            one.0.cmp(&other.0).then_with(by_key).then(one.1.cmp(&other.1))
        });
        let mut cursors: Vec<Cursor<'a>> = self.batches.iter().map(|batch| Cursor::new(&batch.chunks)).collect();
        let mut matches = Vec::new();
        for same in probes.chunk_by(|one, other| one.0 == other.0 && keys.row(one.1 as usize) == keys.row(other.1 as usize)) {
            let (hash, first) = same[0];
            let key = keys.row(first as usize);
            for cursor in &mut cursors {
                cursor.seek(hash);
                cursor.take(hash, key, self.before, &mut matches);
            }
            consolidate(&mut matches);
            if !matches.is_empty() {
                found(same, &matches);
                matches.clear();
            }
        }
    }
}

/// Adds up the multiplicities of each row; those of which nothing is left are dropped.
fn consolidate(rows: &mut Vec<(&[u8], Diff)>) {
    if rows.len() > 1 {
        // They are some sorted runs one after another, which this sort finds and merges.
        rows.sort_by(|one, other| one.0.cmp(other.0));
        rows.dedup_by(|next, kept| {
            let same = next.0 == kept.0;
            if same {
                kept.1 += next.1;
            }
            same
        });
    }
    rows.retain(|(_, diff)| *diff != 0);
}

/// A place in a batch that only goes forward.
struct Cursor<'a> {
    chunks: &'a [RowChunk],
    chunk: usize,
    at: usize,
}

impl<'a> Cursor<'a> {
    fn new(chunks: &'a [RowChunk]) -> Self {
        Cursor { chunks, chunk: 0, at: 0 }
    }

    /// Goes to the first update of a hash that is not smaller.
    fn seek(&mut self, hash: u64) {
        let ends_before = |chunk: &RowChunk| chunk.hashes().last().is_none_or(|last| *last < hash);
        let rest = &self.chunks[self.chunk..];
        if rest.first().is_some_and(ends_before) {
            self.chunk += rest.partition_point(ends_before);
            self.at = 0;
        }
        if let Some(chunk) = self.chunks.get(self.chunk) {
            self.at += gallop(&chunk.hashes()[self.at..], hash);
        }
    }

    /// Appends the updates of a key before an epoch; stays where it is, for another key may have the same hash.
    fn take(&self, hash: u64, key: &[u8], before: Time, matches: &mut Vec<(&'a [u8], Diff)>) {
        let mut start = self.at;
        for chunk in &self.chunks[self.chunk..] {
            let hashes = &chunk.hashes()[start..];
            for (offset, found) in hashes.iter().enumerate() {
                if *found != hash {
                    return;
                }
                let row = chunk.row(start + offset);
                if row.starts_with(key) && chunk.time(start + offset) < before {
                    matches.push((row, chunk.diff(start + offset)));
                }
            }
            start = 0;
        }
    }
}

/// How many of the ascending hashes are smaller: found by steps that double, for it is most often near.
fn gallop(hashes: &[u64], hash: u64) -> usize {
    let mut high = 1;
    while high <= hashes.len() && hashes[high - 1] < hash {
        high *= 2;
    }
    let low = high / 2;
    let high = (high - 1).min(hashes.len());
    low + hashes[low..high].partition_point(|other| *other < hash)
}

#[cfg(test)]
mod tests;
