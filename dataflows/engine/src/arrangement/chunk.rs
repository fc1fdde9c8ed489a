//! The chunk differential's spine is made of: a range of an `Arc`-shared [`Run`].
//!
//! Differential merges, splits and compacts an arrangement a chunk at a time. A chunk of ours is a run and a range of
//! it, so that passing, splitting and giving back are pointer work, and merging copies whole stretches. Because a run
//! is behind an `Arc`, a reader's thread searches the same memory that the worker merges; nothing is ever changed in
//! place.
//!
//! Sorted by `(hash, row bytes, time)`; comparing two updates is most often comparing two integers.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::sync::Arc;

use differential_dataflow::trace::chunk::Chunk;
use timely::Accountable;
use timely::progress::Antichain;
use timely::progress::frontier::AntichainRef;

use super::run::{RUN_BYTES_MAX, RUN_ROWS_MAX, Run, RunBuilder};
use crate::{Diff, Time};

/// A range of a shared run.
#[derive(Debug, Clone, Default)]
pub(crate) struct RowChunk {
    run: Arc<Run>,
    start: usize,
    end: usize,
}

impl RowChunk {
    /// All of a run.
    pub(crate) fn whole(run: Arc<Run>) -> Self {
        let end = run.len();
        RowChunk { run, start: 0, end }
    }

    /// The hashes of the keys, ascending.
    #[inline]
    pub(crate) fn hashes(&self) -> &[u64] {
        &self.run.hashes()[self.start..self.end]
    }

    /// The bytes of a row.
    #[inline]
    pub(crate) fn row(&self, index: usize) -> &[u8] {
        self.run.row(self.start + index)
    }

    /// The time of an update.
    #[inline]
    pub(crate) fn time(&self, index: usize) -> Time {
        self.run.time(self.start + index)
    }

    /// The multiplicity of an update.
    #[inline]
    pub(crate) fn diff(&self, index: usize) -> Diff {
        self.run.diff(self.start + index)
    }

    /// The time of all updates, where that is known without looking.
    pub(crate) fn constant_time(&self) -> Option<Time> {
        self.run.constant_time()
    }

    /// Bytes of memory that the updates take.
    pub(crate) fn bytes(&self) -> usize {
        self.run.bytes_of(self.start..self.end)
    }

    fn row_bytes(&self) -> usize {
        self.run.row_bytes_of(self.start..self.end)
    }

    fn is_exhausted(&self) -> bool {
        self.start == self.end
    }

    /// Whether `next`, the chunk that follows, begins with an update to add to the last one here.
    fn continues_in(&self, next: &Self, since: Time) -> bool {
        let (last, run) = (self.end - 1, &self.run);
        next.time(0) <= since && run.hashes()[last] == next.hashes()[0] && run.row(last) == next.row(0)
    }

    /// Advances the times without touching the rows, if no row repeats and nobody shares the run; tells whether it did.
    fn advance_in_place(&mut self, since: Time) -> bool {
        let repeats = |index: usize| self.run.time(index) <= since && self.run.same_row(index - 1, index);
        // Rows of one time are distinct.
        if self.constant_time().is_none() && (self.start + 1..self.end).any(repeats) {
            return false;
        }
        let whole = self.len() == self.run.len();
        let Some(run) = Arc::get_mut(&mut self.run).filter(|_| whole) else { return false };
        run.advance(since);
        true
    }

    /// How the first update here compares with the first there.
    fn compare(&self, other: &Self) -> Ordering {
        compare(&self.run, self.start, &other.run, other.start)
    }

    /// Where the updates that are before the first of `other` end; the first is known to be.
    fn before(&self, other: &Self) -> usize {
        let is_before = |index: usize| compare(&self.run, index, &other.run, other.start) == Ordering::Less;
        let (mut low, mut step) = (self.start, 1);
        while low + step < self.end && is_before(low + step) {
            low += step;
            step *= 2;
        }
        let mut high = (low + step).min(self.end);
        low += 1;
        while low < high {
            let middle = low + (high - low) / 2;
            if is_before(middle) { low = middle + 1 } else { high = middle }
        }
        low
    }

    /// Moves the updates before `end` to `builder`.
    fn give(&mut self, end: usize, builder: &mut RunBuilder) {
        if end == self.start + 1 {
            let at = self.start;
            builder.push(self.run.hashes()[at], self.run.row(at), self.run.time(at), self.run.diff(at));
        } else {
            builder.extend(&self.run, self.start..end, 0);
        }
        self.start = end;
    }

    /// The same updates, without keeping much of a larger run alive.
    fn trimmed(self) -> Self {
        if (self.end - self.start) * 2 >= self.run.len() { self } else { join(&[self]) }
    }
}

#[inline]
fn compare(left: &Run, at: usize, right: &Run, there: usize) -> Ordering {
    (left.hashes()[at].cmp(&right.hashes()[there]))
        .then_with(|| left.row(at).cmp(right.row(there)))
        .then_with(|| left.time(at).cmp(&right.time(there)))
}

/// One chunk from chunks that follow one another and fit into one run.
fn join(chunks: &[RowChunk]) -> RowChunk {
    let mut out = VecDeque::with_capacity(1);
    let bytes = chunks.iter().map(RowChunk::row_bytes).sum();
    let mut builder = RunBuilder::new(&mut out, chunks.iter().map(Chunk::len).sum(), bytes);
    for chunk in chunks {
        builder.extend(&chunk.run, chunk.start..chunk.end, 0);
    }
    builder.finish();
    assert_eq!(out.len(), 1, "the chunks fit into one run");
    out.pop_front().expect("there is one chunk")
}

impl Accountable for RowChunk {
    fn record_count(&self) -> i64 {
        self.len() as i64
    }
}

impl Chunk for RowChunk {
    type Time = Time;

    const TARGET: usize = RUN_ROWS_MAX;

    fn len(&self) -> usize {
        self.end - self.start
    }

    fn merge(in1: &mut VecDeque<Self>, in2: &mut VecDeque<Self>, out: &mut VecDeque<Self>) {
        let mut left = in1.pop_front().expect("differential merges queues that are not empty");
        let mut right = in2.pop_front().expect("differential merges queues that are not empty");
        let mut builder = RunBuilder::new(out, left.len() + right.len(), left.row_bytes() + right.row_bytes());
        while !left.is_exhausted() && !right.is_exhausted() {
            match left.compare(&right) {
                Ordering::Less => left.give(left.before(&right), &mut builder),
                Ordering::Greater => right.give(right.before(&left), &mut builder),
                Ordering::Equal => {
                    let diff = left.diff(0) + right.diff(0);
                    if diff != 0 {
                        builder.push(left.hashes()[0], left.row(0), left.time(0), diff);
                    }
                    left.start += 1;
                    right.start += 1;
                }
            }
        }
        builder.finish();
        for (rest, queue) in [(left, in1), (right, in2)] {
            if !rest.is_exhausted() {
                queue.push_front(rest);
            }
        }
    }

    fn extract(
        input: &mut VecDeque<Self>,
        frontier: AntichainRef<Time>,
        residual: &mut Antichain<Time>,
        keep: &mut VecDeque<Self>,
        ship: &mut VecDeque<Self>,
    ) {
        let Some(chunk) = input.pop_front() else { return };
        if let Some(time) = chunk.constant_time() {
            if frontier.less_equal(&time) {
                residual.insert(time);
                keep.push_back(chunk);
            } else {
                ship.push_back(chunk);
            }
            return;
        }
        let mut kept = RunBuilder::new(keep, 0, 0);
        let mut shipped = RunBuilder::new(ship, 0, 0);
        for index in 0..chunk.len() {
            let time = chunk.time(index);
            let keeps = frontier.less_equal(&time);
            if keeps {
                residual.insert(time);
            }
            let side = if keeps { &mut kept } else { &mut shipped };
            side.push(chunk.hashes()[index], chunk.row(index), time, chunk.diff(index));
        }
        kept.finish();
        shipped.finish();
    }

    /// Epochs are totally ordered: of a row's updates those up to the frontier become one, in place of the last of
    /// them, and the others stay as they are and where they are. So rows have to be moved only where one repeats, or
    /// where the run is shared, and only the last update can still have to be added to.
    fn advance(input: &mut VecDeque<Self>, frontier: AntichainRef<Time>, done: bool, out: &mut VecDeque<Self>) {
        let Some(since) = frontier.first().copied() else {
            out.extend(input.drain(..));
            return;
        };
        let rows = input.iter().map(Chunk::len).sum();
        let bytes = input.iter().map(RowChunk::row_bytes).sum();
        let mut builder = RunBuilder::new(out, rows, bytes);
        while let Some(mut chunk) = input.pop_front() {
            let continues = builder.ends_with(&chunk.run, chunk.start);
            let goes_on = input.front().is_some_and(|next| chunk.continues_in(next, since));
            if !continues && !goes_on && chunk.advance_in_place(since) {
                if input.is_empty() && !done {
                    builder.finish();
                    input.push_front(chunk);
                    return;
                }
                builder.pass(chunk);
                continue;
            }
            let run = &chunk.run;
            let mut start = chunk.start;
            // Rows of one time are distinct: only the first can repeat what came before.
            let end = if chunk.constant_time().is_some() { chunk.start + 1 } else { chunk.end };
            for index in chunk.start..end {
                let repeats = if index == chunk.start { continues } else { run.same_row(index - 1, index) };
                if repeats && run.time(index) <= since {
                    builder.extend(run, start..index, since);
                    builder.add(run, index, since);
                    start = index + 1;
                }
            }
            builder.extend(run, start..chunk.end, since);
        }
        let carry = if done { None } else { builder.take_last_at(since) };
        builder.finish();
        input.extend(carry);
    }

    fn settle(input: &mut VecDeque<Self>, done: bool, out: &mut VecDeque<Self>) {
        let mut group: Vec<RowChunk> = Vec::new();
        let (mut rows, mut bytes) = (0, 0);
        let flush = |group: &mut Vec<RowChunk>, out: &mut VecDeque<Self>| match group.len() {
            0 => {}
            1 => out.extend(group.pop().map(RowChunk::trimmed)),
            _ => out.push_back(join(&std::mem::take(group))),
        };
        while let Some(mut chunk) = input.pop_front() {
            if chunk.len() > Self::TARGET {
                let rest = RowChunk { start: chunk.start + Self::TARGET, ..chunk.clone() };
                chunk.end = rest.start;
                input.push_front(rest);
            }
            if rows + chunk.len() > Self::TARGET || bytes + chunk.row_bytes() > RUN_BYTES_MAX {
                flush(&mut group, out);
                (rows, bytes) = (0, 0);
            }
            rows += chunk.len();
            bytes += chunk.row_bytes();
            group.push(chunk);
        }
        if done || rows == Self::TARGET {
            flush(&mut group, out);
        }
        input.extend(group);
    }
}

#[cfg(test)]
mod tests;
