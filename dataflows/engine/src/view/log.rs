//! Side relations: late rows, rejects and errors, appended by workers in the order they meet them.
//!
//! Appends are mostly of a few rows. They are put together into blocks as they age, each block about twice as large as
//! the next, so that a million rows are a few hundred blocks and each row is copied a dozen times at most. A relation is
//! bounded: the oldest block goes when there is too much, and its rows are counted.

mod saved;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use arrow::array::{Array, ArrayRef, Int64Array, UInt32Array};
use arrow::compute;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use arrow_row::{RowConverter, Rows, SortField};

pub(crate) use self::saved::LOG_KEYS;
use self::saved::Saving;
use super::{Changed, Compacted, Equals, find};
use crate::{Delta, Diff, Time};

/// Rows that one worker keeps of a relation.
const ROWS_MAX: usize = 1_000_000;

/// Bytes that one worker keeps of a relation.
const BYTES_MAX: usize = 256 << 20;

/// Rows of a block.
const BLOCK_ROWS_MAX: usize = 8_192;

/// A block is at most this part of what a worker keeps: so much goes at once when there is too much.
const PARTS: usize = 16;

/// One worker's part of a side relation.
#[derive(Debug)]
pub(crate) struct Log {
    blocks: Mutex<Blocks>,
    rows_max: usize,
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct Blocks {
    blocks: VecDeque<Arc<Block>>,
    rows: usize,
    bytes: usize,
    dropped: u64,
    /// No row of a later epoch was dropped.
    since: Time,
    /// What is in checkpoints, if there are any.
    saving: Option<Saving>,
    /// What came with epochs up to this one, or comes once more because it is computed anew, was restored.
    restored: Option<Time>,
}

/// Rows in the order of their arrival.
#[derive(Debug)]
struct Block {
    rows: RecordBatch,
    diffs: Option<Int64Array>,
    /// Epochs, and where the rows of each end.
    epochs: Vec<(Time, usize)>,
    bytes: usize,
}

/// Rows of one epoch in a block.
struct Piece {
    epoch: Time,
    rows: RecordBatch,
    diffs: Option<Int64Array>,
}

impl Default for Log {
    fn default() -> Self {
        Self::with_limits(ROWS_MAX, BYTES_MAX)
    }
}

impl Log {
    pub(crate) fn with_limits(rows_max: usize, bytes_max: usize) -> Self {
        Log { blocks: Mutex::default(), rows_max, bytes_max }
    }

    /// Number of rows kept.
    pub(crate) fn rows(&self) -> usize {
        self.lock().rows
    }

    /// Bytes kept.
    pub(crate) fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// Rows that were dropped.
    pub(crate) fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    /// Appends rows of an epoch.
    pub(crate) fn append(&self, epoch: Time, rows: RecordBatch, diffs: Option<Int64Array>) {
        let mut blocks = self.lock();
        if blocks.restored.is_some_and(|restored| epoch <= restored) {
            return;
        }
        if let Some(saving) = &mut blocks.saving {
            saving.append(epoch, &rows, diffs.as_ref());
        }
        self.put(&mut blocks, epoch, &rows, diffs.as_ref());
    }

    /// What changed up to an epoch since this was asked last.
    pub(crate) fn save(&self, through: Time, schema: &SchemaRef) -> Vec<Delta> {
        self.lock().saving.as_mut().map(|saving| saving.take(through, schema)).unwrap_or_default()
    }

    /// Takes back what [`Log::save`] gave, of all logs of a relation, as of the epoch `since`; `enabled`: it goes on being
    /// saved.
    pub(crate) fn resume(&self, worker: usize, since: Time, had: &[Delta], schema: &SchemaRef, enabled: bool) {
        let mut blocks = self.lock();
        let mut saving = Saving::new(worker);
        let restored = saving.restore(had, schema);
        blocks.saving = enabled.then_some(saving);
        for part in restored {
            self.put(&mut blocks, part.epoch, &part.rows, part.diffs.as_ref());
        }
        // What was there is no change that one can follow.
        blocks.since = blocks.since.max(since);
        blocks.restored = Some(since).filter(|since| *since > 0);
    }

    fn put(&self, blocks: &mut Blocks, epoch: Time, rows: &RecordBatch, diffs: Option<&Int64Array>) {
        let (rows_max, bytes_max) = (BLOCK_ROWS_MAX.min(self.rows_max / PARTS), self.bytes_max / PARTS);
        let parts = (bytes_of(rows) / bytes_max.max(1)).max(rows.num_rows() / rows_max.max(1)) + 1;
        let mut start = 0;
        for part in 1..=parts {
            let length = rows.num_rows() * part / parts - start;
            if length == 0 {
                continue;
            }
            let diffs = diffs.map(|diffs| diffs.slice(start, length));
            blocks.push(Block::new(rows.slice(start, length), diffs, vec![(epoch, length)]), rows_max, bytes_max);
            start += length;
            while blocks.rows > self.rows_max || blocks.bytes > self.bytes_max {
                blocks.drop_oldest();
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Blocks> {
        self.blocks.lock().expect("a log is changed without panicking")
    }

    /// The blocks, and the epoch after which none was dropped.
    fn load(&self) -> (Vec<Arc<Block>>, Time) {
        let blocks = self.lock();
        (blocks.blocks.iter().cloned().collect(), blocks.since)
    }
}

impl Blocks {
    fn push(&mut self, mut block: Block, rows_max: usize, bytes_max: usize) {
        while let Some(last) = self.blocks.pop_back_if(|last| last.joins(&block, rows_max, bytes_max)) {
            self.rows -= last.rows.num_rows();
            self.bytes -= last.bytes;
            block = last.followed_by(&block);
        }
        self.rows += block.rows.num_rows();
        self.bytes += block.bytes;
        self.blocks.push_back(Arc::new(block));
    }

    fn drop_oldest(&mut self) {
        let block = self.blocks.pop_front().expect("there is a block while there are rows");
        self.rows -= block.rows.num_rows();
        self.bytes -= block.bytes;
        self.dropped += block.rows.num_rows() as u64;
        if let Some(saving) = &mut self.saving {
            saving.drop_oldest(block.rows.num_rows());
        }
        self.since = block.epochs.iter().map(|(epoch, _)| *epoch).fold(self.since, Time::max);
    }
}

/// Bytes of the values, whatever else their buffers hold.
fn bytes_of(rows: &RecordBatch) -> usize {
    let bytes = |column: &ArrayRef| column.to_data().get_slice_memory_size().unwrap_or(column.get_array_memory_size());
    rows.columns().iter().map(bytes).sum()
}

impl Block {
    fn new(rows: RecordBatch, diffs: Option<Int64Array>, epochs: Vec<(Time, usize)>) -> Self {
        let bytes = bytes_of(&rows)
            + diffs.as_ref().map_or(0, |diffs| diffs.len() * size_of::<Diff>())
            + epochs.len() * size_of::<(Time, usize)>()
            + size_of::<Block>();
        Block { rows, diffs, epochs, bytes }
    }

    /// Whether the two should be one: rows are copied when their block doubles.
    fn joins(&self, next: &Block, rows_max: usize, bytes_max: usize) -> bool {
        let (rows, more) = (self.rows.num_rows(), next.rows.num_rows());
        rows <= 2 * more && rows + more <= rows_max && self.bytes + next.bytes <= bytes_max
    }

    fn followed_by(&self, next: &Block) -> Block {
        let rows = compute::concat_batches(self.rows.schema_ref(), [&self.rows, &next.rows]);
        let diffs = (self.diffs.is_some() || next.diffs.is_some()).then(|| {
            let each = |block: &Block, row| block.diffs.as_ref().map_or(1, |diffs| diffs.value(row));
            let diffs = (0..self.rows.num_rows()).map(|row| each(self, row));
            diffs.chain((0..next.rows.num_rows()).map(|row| each(next, row))).collect()
        });
        let mut epochs = self.epochs.clone();
        let base = self.rows.num_rows();
        for (epoch, end) in &next.epochs {
            match epochs.last_mut() {
                Some((last, last_end)) if last == epoch => *last_end = base + end,
                _ => epochs.push((*epoch, base + end)),
            }
        }
        Block::new(rows.expect("the batches of a relation have one schema"), diffs, epochs)
    }

    /// The rows of the epochs that `wanted` says.
    fn pieces(&self, wanted: impl Fn(Time) -> bool) -> impl Iterator<Item = Piece> {
        let mut start = 0;
        self.epochs.iter().filter_map(move |(epoch, end)| {
            let (from, length) = (start, end - start);
            start = *end;
            wanted(*epoch).then(|| Piece {
                epoch: *epoch,
                rows: self.rows.slice(from, length),
                diffs: self.diffs.as_ref().map(|diffs| diffs.slice(from, length)),
            })
        })
    }
}

/// The rows of all workers as of `epoch`, in the order of their epochs, workers and arrival.
pub(super) fn read(
    logs: &[Log],
    epoch: Time,
    equals: &[Equals],
    limit: Option<usize>,
    anomalies: &AtomicU64,
) -> Vec<RecordBatch> {
    let mut pieces = Vec::new();
    let mut dropped = false;
    for log in logs {
        let (blocks, since) = log.load();
        dropped |= since > 0;
        for block in blocks {
            pieces.extend(block.pieces(|of| of <= epoch));
        }
    }
    pieces.sort_by_key(|piece| piece.epoch);
    for piece in &mut pieces {
        if !equals.is_empty() {
            piece.filter(equals);
        }
    }
    let mut rows = Vec::new();
    if pieces.iter().any(Piece::has_diffs) {
        let consolidated = consolidate(pieces);
        let retracted = consolidated.iter().flat_map(|(_, diffs)| diffs.values()).filter(|diff| **diff < 0).count();
        // What was retracted may have been dropped before, or have come with another watermark beside it.
        if !dropped {
            anomalies.fetch_add(retracted as u64, Ordering::Relaxed);
        }
        rows.extend(consolidated.iter().map(|(rows, diffs)| repeat(rows, diffs)));
    } else {
        rows.extend(pieces.into_iter().map(|piece| piece.rows));
    }
    limit_to(rows, limit.unwrap_or(usize::MAX))
}

/// What the epochs in `(after, through]` added or took back.
pub(super) fn changes(logs: &[Log], after: Time, through: Time) -> Result<Vec<Changed>, Compacted> {
    let mut epochs: BTreeMap<Time, Vec<Piece>> = BTreeMap::new();
    for log in logs {
        let (blocks, since) = log.load();
        if after < since {
            return Err(Compacted { since });
        }
        for block in blocks {
            for piece in block.pieces(|epoch| after < epoch && epoch <= through) {
                epochs.entry(piece.epoch).or_default().push(piece);
            }
        }
    }
    let changed = |(epoch, pieces)| {
        let parts = consolidate(pieces);
        let schema = parts.first()?.0.schema();
        let rows = compute::concat_batches(&schema, parts.iter().map(|(rows, _)| rows));
        let diffs = parts.iter().flat_map(|(_, diffs)| diffs.values().iter().copied()).collect();
        Some(Changed { epoch, rows: rows.expect("the batches of a relation have one schema"), diffs })
    };
    Ok(epochs.into_iter().filter_map(changed).collect())
}

impl Piece {
    fn has_diffs(&self) -> bool {
        self.diffs.as_ref().is_some_and(|diffs| diffs.values().iter().any(|diff| *diff != 1))
    }

    fn filter(&mut self, equals: &[Equals]) {
        let keep = find::matching(&self.rows, equals.iter());
        self.rows = compute::filter_record_batch(&self.rows, &keep).expect("there is a bit per row");
        self.diffs = self.diffs.as_ref().map(|diffs| {
            let kept = compute::filter(diffs, &keep).expect("there is a bit per row");
            Int64Array::from(kept.to_data())
        });
    }
}

/// Each distinct row once, where it first came, with its multiplicity, which is not zero.
fn consolidate(pieces: Vec<Piece>) -> Vec<(RecordBatch, Int64Array)> {
    let Some(first) = pieces.first() else { return Vec::new() };
    let converter = converter(&first.rows.schema());
    let encode =
        |piece: &Piece| converter.convert_columns(piece.rows.columns()).expect("the batches of a relation have one schema");
    let encoded: Vec<Rows> = pieces.iter().map(encode).collect();
    let mut places: HashMap<&[u8], (usize, usize), ahash::RandomState> = HashMap::default();
    let mut totals: Vec<Vec<Diff>> = encoded.iter().map(|rows| vec![0; rows.num_rows()]).collect();
    for (index, (rows, piece)) in encoded.iter().zip(&pieces).enumerate() {
        for row in 0..rows.num_rows() {
            let (first, place) = *places.entry(rows.row(row).data()).or_insert((index, row));
            totals[first][place] += piece.diffs.as_ref().map_or(1, |diffs| diffs.value(row));
        }
    }
    let kept = |(piece, totals): (Piece, Vec<Diff>)| {
        let places: Vec<u32> = (0..totals.len() as u32).filter(|row| totals[*row as usize] != 0).collect();
        let diffs = places.iter().map(|row| totals[*row as usize]).collect();
        let rows = compute::take_record_batch(&piece.rows, &UInt32Array::from(places)).expect("positions are within the batch");
        (rows, diffs)
    };
    pieces.into_iter().zip(totals).map(kept).filter(|(rows, _)| rows.num_rows() > 0).collect()
}

fn converter(schema: &SchemaRef) -> RowConverter {
    let fields = schema.fields().iter().map(|field| SortField::new(field.data_type().clone()));
    RowConverter::new(fields.collect()).expect("side relations have types that have an order")
}

/// The rows as often as their multiplicities.
fn repeat(rows: &RecordBatch, diffs: &Int64Array) -> RecordBatch {
    if diffs.values().iter().all(|diff| *diff == 1) {
        return rows.clone();
    }
    let times = |(row, diff): (usize, &Diff)| std::iter::repeat_n(row as u32, (*diff).max(0) as usize);
    let places: UInt32Array = diffs.values().iter().enumerate().flat_map(times).collect();
    compute::take_record_batch(rows, &places).expect("positions are within the batch")
}

/// Batches of a good size with the first `limit` rows.
fn limit_to(batches: Vec<RecordBatch>, limit: usize) -> Vec<RecordBatch> {
    let mut left = limit;
    let mut groups: Vec<(usize, Vec<RecordBatch>)> = Vec::new();
    for batch in batches {
        let length = batch.num_rows().min(left);
        left -= length;
        if length == 0 {
            continue;
        }
        let batch = batch.slice(0, length);
        match groups.last_mut() {
            Some((rows, group)) if *rows + length <= super::READ_ROWS_MAX => {
                *rows += length;
                group.push(batch);
            }
            _ => groups.push((length, vec![batch])),
        }
    }
    let join = |(_, group): (usize, Vec<RecordBatch>)| match group.as_slice() {
        [single] => single.clone(),
        several => compute::concat_batches(several[0].schema_ref(), several).expect("the batches of a relation have one schema"),
    };
    groups.into_iter().map(join).collect()
}

#[cfg(test)]
mod tests;
