//! Runs: immutable, sorted, flat columns of updates, and the builder that cuts them to size.
//!
//! A run holds `(hash, row, time, diff)` quadruples sorted by `(hash, row, time)`, each triple once. The rows are the
//! bytes of [`super::codec::RowCodec`], one after another behind `u32` offsets, so a run never holds 4 GiB: the builder
//! starts another before. Most runs are of one epoch, or compacted to one, and most of their diffs are `+1`, so times
//! and diffs that are all equal are kept as one value: an update then costs 12 bytes and its row.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use super::chunk::RowChunk;
use crate::{Diff, Time};

/// Updates that a run has at most: what is merged at once, and so how long a worker may be away.
pub(crate) const RUN_ROWS_MAX: usize = 8_192;

/// Bytes of rows that a run has at most, unless one row alone has more. Far below what a `u32` can point to.
pub(crate) const RUN_BYTES_MAX: usize = 256 << 20;

/// Values of which most often all are equal.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Column<T> {
    /// All have this value.
    One(T),
    /// Each has its own.
    Many(Vec<T>),
}

impl<T: Copy + PartialEq> Column<T> {
    #[inline]
    fn get(&self, index: usize) -> T {
        match self {
            Column::One(value) => *value,
            Column::Many(values) => values[index],
        }
    }

    /// Appends a value to the `length` there are.
    #[inline]
    fn push(&mut self, length: usize, value: T) {
        match self {
            Column::Many(values) => values.push(value),
            Column::One(same) if *same == value => {}
            Column::One(_) => self.repeat(length, value, 1),
        }
    }

    /// Appends a value `count` times to the `length` there are.
    fn repeat(&mut self, length: usize, value: T, count: usize) {
        match self {
            _ if length == 0 => *self = Column::One(value),
            Column::One(same) if *same == value => {}
            Column::One(same) => {
                let mut values = Vec::with_capacity((length + count).max(64));
                values.resize(length, *same);
                values.resize(length + count, value);
                *self = Column::Many(values);
            }
            Column::Many(values) => values.resize(length + count, value),
        }
    }

    /// Appends a range of another column to the `length` values there are.
    fn extend(&mut self, length: usize, other: &Self, range: Range<usize>) {
        match (other, &mut *self) {
            (Column::One(value), _) => self.repeat(length, *value, range.len()),
            (Column::Many(values), Column::Many(own)) => own.extend_from_slice(&values[range]),
            (Column::Many(values), Column::One(_)) => {
                for (offset, value) in values[range].iter().enumerate() {
                    self.push(length + offset, *value);
                }
            }
        }
    }

    fn truncate(&mut self, length: usize) {
        if let Column::Many(values) = self {
            values.truncate(length);
        }
    }

    /// The value that all of the range have, if it is known without looking at each.
    fn constant(&self) -> Option<T> {
        match self {
            Column::One(value) => Some(*value),
            Column::Many(_) => None,
        }
    }

    /// Takes no more room than needed.
    fn shrink(&mut self) {
        if let Column::Many(values) = self {
            match values.first() {
                Some(first) if values.iter().all(|value| value == first) => *self = Column::One(*first),
                _ => shrink(values),
            }
        }
    }

    fn bytes(&self, range: &Range<usize>) -> usize {
        match self {
            Column::One(_) => 0,
            Column::Many(_) => range.len() * size_of::<T>(),
        }
    }
}

/// Gives back spare room when it is worth a copy.
fn shrink<T>(values: &mut Vec<T>) {
    if values.capacity() - values.len() > values.len() / 8 {
        values.shrink_to_fit();
    }
}

/// Sorted updates in flat columns.
#[derive(Debug)]
pub(crate) struct Run {
    hashes: Vec<u64>,
    /// One more than there are rows; the first is 0.
    offsets: Vec<u32>,
    bytes: Vec<u8>,
    times: Column<Time>,
    diffs: Column<Diff>,
}

impl Default for Run {
    fn default() -> Self {
        Run::with_capacity(0, 0)
    }
}

impl Run {
    fn with_capacity(rows: usize, bytes: usize) -> Self {
        let mut offsets = Vec::with_capacity(rows + 1);
        offsets.push(0);
        let (times, diffs) = (Column::One(0), Column::One(1));
        Run { hashes: Vec::with_capacity(rows), offsets, bytes: Vec::with_capacity(bytes), times, diffs }
    }

    /// Number of updates.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.hashes.len()
    }

    /// The hashes of the keys, ascending.
    #[inline]
    pub(crate) fn hashes(&self) -> &[u64] {
        &self.hashes
    }

    /// The bytes of a row.
    #[inline]
    pub(crate) fn row(&self, index: usize) -> &[u8] {
        &self.bytes[self.offsets[index] as usize..self.offsets[index + 1] as usize]
    }

    /// The time of an update.
    #[inline]
    pub(crate) fn time(&self, index: usize) -> Time {
        self.times.get(index)
    }

    /// The multiplicity of an update.
    #[inline]
    pub(crate) fn diff(&self, index: usize) -> Diff {
        self.diffs.get(index)
    }

    /// The time of all updates, where that is known without looking.
    pub(crate) fn constant_time(&self) -> Option<Time> {
        self.times.constant()
    }

    /// Bytes of memory that these updates take.
    pub(crate) fn bytes_of(&self, range: Range<usize>) -> usize {
        let rows = (self.offsets[range.end] - self.offsets[range.start]) as usize;
        rows + range.len() * (size_of::<u64>() + size_of::<u32>()) + self.times.bytes(&range) + self.diffs.bytes(&range)
    }

    /// Bytes of these rows alone.
    pub(crate) fn row_bytes_of(&self, range: Range<usize>) -> usize {
        (self.offsets[range.end] - self.offsets[range.start]) as usize
    }

    /// Whether two updates are of one row.
    #[inline]
    pub(crate) fn same_row(&self, one: usize, other: usize) -> bool {
        self.hashes[one] == self.hashes[other] && self.row(one) == self.row(other)
    }

    #[inline]
    fn push(&mut self, hash: u64, row: &[u8], time: Time, diff: Diff) {
        let length = self.len();
        self.bytes.extend_from_slice(row);
        self.offsets.push(u32::try_from(self.bytes.len()).expect("a row has less than 4 GiB"));
        self.times.push(length, time);
        self.diffs.push(length, diff);
        self.hashes.push(hash);
    }

    /// Appends a range of another run, its times advanced to `since`.
    fn extend(&mut self, other: &Run, range: Range<usize>, since: Time) {
        let length = self.len();
        let (from, to) = (other.offsets[range.start], other.offsets[range.end]);
        let base = self.bytes.len() as u32;
        self.bytes.extend_from_slice(&other.bytes[from as usize..to as usize]);
        self.offsets.extend(other.offsets[range.start + 1..=range.end].iter().map(|offset| offset - from + base));
        match &other.times {
            Column::One(time) => self.times.repeat(length, (*time).max(since), range.len()),
            Column::Many(times) if since > 0 => {
                for (offset, time) in times[range.clone()].iter().enumerate() {
                    self.times.push(length + offset, (*time).max(since));
                }
            }
            times => self.times.extend(length, times, range.clone()),
        }
        self.diffs.extend(length, &other.diffs, range.clone());
        self.hashes.extend_from_slice(&other.hashes[range]);
    }

    /// Advances all times to `since`, where that keeps the updates apart.
    pub(crate) fn advance(&mut self, since: Time) {
        match &mut self.times {
            Column::One(time) => *time = (*time).max(since),
            Column::Many(times) => times.iter_mut().for_each(|time| *time = (*time).max(since)),
        }
        self.times.shrink();
    }

    fn pop(&mut self) {
        self.hashes.pop();
        self.offsets.pop();
        self.bytes.truncate(*self.offsets.last().expect("there is one more offset than rows") as usize);
        self.times.truncate(self.hashes.len());
        self.diffs.truncate(self.hashes.len());
    }

    fn set_diff(&mut self, index: usize, diff: Diff) {
        let length = self.len();
        match &mut self.diffs {
            Column::Many(diffs) => diffs[index] = diff,
            Column::One(same) if *same == diff => {}
            Column::One(same) => {
                let mut diffs = vec![*same; length];
                diffs[index] = diff;
                self.diffs = Column::Many(diffs);
            }
        }
    }

    fn shrink(&mut self) {
        shrink(&mut self.hashes);
        shrink(&mut self.offsets);
        shrink(&mut self.bytes);
        self.times.shrink();
        self.diffs.shrink();
    }
}

/// Collects sorted updates into runs of bounded size.
///
/// A full run is given out only when another update comes: the last update can still be changed until then.
pub(crate) struct RunBuilder<'a> {
    run: Run,
    out: &'a mut VecDeque<RowChunk>,
    rows_max: usize,
    bytes_max: usize,
}

impl<'a> RunBuilder<'a> {
    /// A builder that appends to `out`, with room for the updates that are expected.
    pub(crate) fn new(out: &'a mut VecDeque<RowChunk>, rows: usize, bytes: usize) -> Self {
        Self::with_limits(out, rows, bytes, RUN_ROWS_MAX, RUN_BYTES_MAX)
    }

    pub(crate) fn with_limits(
        out: &'a mut VecDeque<RowChunk>,
        rows: usize,
        bytes: usize,
        rows_max: usize,
        bytes_max: usize,
    ) -> Self {
        // No more is asked for at once than one run of rows that are alike takes.
        let bytes = if rows > rows_max { bytes / rows * rows_max } else { bytes };
        RunBuilder { run: Run::with_capacity(rows.min(rows_max), bytes.min(bytes_max)), out, rows_max, bytes_max }
    }

    /// Appends an update.
    #[inline]
    pub(crate) fn push(&mut self, hash: u64, row: &[u8], time: Time, diff: Diff) {
        if self.run.len() >= self.rows_max || self.run.bytes.len() + row.len() > self.bytes_max {
            self.start_another();
        }
        self.run.push(hash, row, time, diff);
    }

    /// Appends a range of a run, its times advanced to `since`.
    pub(crate) fn extend(&mut self, run: &Run, mut range: Range<usize>, since: Time) {
        while !range.is_empty() {
            let room = self.bytes_max.saturating_sub(self.run.bytes.len());
            let end = range.end.min(range.start + (self.rows_max - self.run.len().min(self.rows_max)));
            let first = run.offsets[range.start] as usize;
            let fits = run.offsets[range.start + 1..=end].partition_point(|offset| *offset as usize - first <= room);
            // A row that is too large for any run gets its own.
            let fits = if fits == 0 && self.run.len() == 0 { 1 } else { fits };
            if fits == 0 {
                self.start_another();
                continue;
            }
            self.run.extend(run, range.start..range.start + fits, since);
            range.start += fits;
        }
    }

    /// Whether the last update is of this row of a run.
    #[inline]
    pub(crate) fn ends_with(&self, run: &Run, index: usize) -> bool {
        let last = self.run.len();
        last > 0 && self.run.hashes[last - 1] == run.hashes[index] && self.run.row(last - 1) == run.row(index)
    }

    /// Adds an update of a run at `since`: to the last one, if that is of the same row, and that is dropped at zero.
    pub(crate) fn add(&mut self, run: &Run, index: usize, since: Time) {
        if !self.ends_with(run, index) {
            self.push(run.hashes[index], run.row(index), since, run.diff(index));
            return;
        }
        let last = self.run.len() - 1;
        debug_assert_eq!(self.run.time(last), since, "earlier updates of a row were advanced as well");
        match self.run.diff(last) + run.diff(index) {
            0 => self.run.pop(),
            diff => self.run.set_diff(last, diff),
        }
    }

    /// Takes back the last update if it is of this time.
    pub(crate) fn take_last_at(&mut self, time: Time) -> Option<RowChunk> {
        let last = self.run.len().checked_sub(1)?;
        if self.run.time(last) != time {
            return None;
        }
        let mut alone = Run::default();
        alone.push(self.run.hashes[last], self.run.row(last), time, self.run.diff(last));
        self.run.pop();
        Some(RowChunk::whole(Arc::new(alone)))
    }

    /// Gives out what there is, then a chunk as it is.
    pub(crate) fn pass(&mut self, chunk: RowChunk) {
        self.emit();
        self.out.push_back(chunk);
    }

    /// Gives out what there is.
    pub(crate) fn finish(mut self) {
        self.emit();
    }

    fn start_another(&mut self) {
        let another = Run::with_capacity(self.run.len(), self.run.bytes.len());
        self.emit();
        self.run = another;
    }

    fn emit(&mut self) {
        if self.run.len() == 0 {
            return;
        }
        let mut run = std::mem::take(&mut self.run);
        run.shrink();
        self.out.push_back(RowChunk::whole(Arc::new(run)));
    }
}
