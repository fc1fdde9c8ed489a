//! Joins of rows whose times are near each other: every kind, with state that the watermark frees on both sides.
//!
//! The rows of a side are kept in slices of time, each a table by key of its own. A row is compared with those slices of
//! the other side that its interval reaches, a handful; a slice is dropped whole when the watermark has passed all that its
//! rows could match. So neither does a row cost more when one source is far ahead of the other, nor does freeing cost
//! anything per row. What decides about a pair is the join's own condition: slices only narrow down where to look.
//!
//! A side whose rows are given alone, or are not, counts the matches of each of its rows. A match that is freed stays
//! counted: the pair is in the result for good.
//!
//! Rows without a time match nothing. They are given at once where rows without a match are, and are not kept.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::mem;

use arrow::array::{Array, ArrayRef, Int64Array, UInt32Array};
use arrow::buffer::BooleanBuffer;
use arrow::compute;
use arrow::datatypes::SchemaRef;
use highwater_plan::{Emit, Join, JoinInterval, Micros};

use super::BATCH_ROWS;
use super::layout::Layout;
use super::matching::{Form, Given};
use super::side::NONE;
use super::slices::{Slice, Slices};
use crate::checkpoint::Keeps;
use crate::keys::ABSENT;
use crate::operator::epoch::EpochLogic;
use crate::operator::late::{LateGate, Watermark};
use crate::operator::map::Mapper;
use crate::operator::windowed::split;
use crate::{Delta, Diff, Time};

/// Slices that an interval is cut into.
const SLICES: i64 = 8;
/// A slice is at least so long, in microseconds: otherwise keeping it costs more than its rows.
const SLICE_MIN: i64 = 100_000;
/// How long a slice is where the other bound is missing, in microseconds.
const SLICE_OPEN: i64 = 60_000_000;

/// Whose rows are late, and when others are done with.
pub(crate) struct Limits {
    /// The smaller of both sides'.
    pub(crate) watermark: Watermark,
    /// For how much longer rows are taken, in microseconds.
    pub(crate) lateness: i64,
    /// Refuse rows whose own time is over, per side.
    pub(crate) gates: [LateGate; 2],
}

/// A join with bounds on the distance of its rows' times.
pub(crate) struct IntervalJoin {
    form: Form,
    interval: JoinInterval,
    /// Per side how long after its time a row is done with.
    keeps: [Option<i64>; 2],
    limits: Limits,
    sides: [Slices; 2],
    /// Whether matches are counted, per side.
    counted: [bool; 2],
    /// Rows of which it is not told yet whether they have a match: when it will be, their slice and row. Entries of rows
    /// that are gone stay until then.
    untold: [BinaryHeap<Reverse<(i64, i64, u32)>>; 2],
}

/// A change of one side within one slice, stored.
struct Part {
    side: usize,
    slice: i64,
    delta: Delta,
    keys: Vec<ArrayRef>,
    kept: Vec<ArrayRef>,
    /// Rows that can match at all; `None`: all.
    comparable: Option<BooleanBuffer>,
    /// Rows that are new, by the position of the change that brought them; otherwise [`NONE`]. Empty where rows are not
    /// counted.
    new: Vec<u32>,
    /// The smallest and the greatest time.
    extent: (i64, i64),
}

impl IntervalJoin {
    /// Joins rows of `left` and `right`; `mapper` takes what the kind of join gives, `condition` has the residual
    /// conditions as filters over left then right columns.
    pub(crate) fn new(
        join: &Join,
        interval: &JoinInterval,
        inputs: [&SchemaRef; 2],
        append_only: [bool; 2],
        mapper: Mapper,
        condition: Option<Mapper>,
        limits: Limits,
    ) -> Self {
        let layout = Layout::new(join, inputs, append_only);
        let form = Form { kind: join.kind, layout, mapper, condition, last: join.emit == Emit::Final };
        let length = match (interval.lower, interval.upper) {
            (Some(lower), Some(upper)) => (upper.saturating_sub(lower) / SLICES).max(SLICE_MIN),
            _ => SLICE_OPEN,
        };
        let keeps = [0, 1].map(|side| interval.keeps(side));
        let sides = keeps.map(|keeps| Slices::new(keeps.map(|_| length)));
        let counted = [0, 1].map(|side| form.asks(side));
        let interval = interval.clone();
        IntervalJoin { form, interval, keeps, limits, sides, counted, untold: Default::default() }
    }

    /// Takes a change of a side into its slices; gives what cannot match and is told at once.
    fn store(&mut self, epoch: Time, side: usize, delta: Delta, parts: &mut Vec<Part>, output: &mut Vec<Delta>) {
        let (form, layout) = (&self.form, &self.form.layout);
        let alone = form.gives_alone(side, false);
        let mut given = Given { form, epoch, output };
        // Of a side that is given in matches only, rows that cannot match are nobody's loss.
        let delta = if form.asks(side) { delta } else { layout.with_keys(delta, side) };
        let column = self.interval.columns[side];
        let (delta, timeless) = with_times(delta, column);
        if let Some(timeless) = timeless.filter(|_| alone) {
            given.changed(side, false, &timeless, None);
        }
        if delta.is_empty() {
            return;
        }
        let mut delta = self.limits.gates[side].split(epoch, delta, self.limits.watermark.current);
        if alone && !form.last {
            let (keyed, unkeyed) = layout.split_keys(delta, side);
            if let Some(unkeyed) = unkeyed {
                given.changed(side, false, &unkeyed, None);
            }
            delta = keyed;
        }
        if delta.is_empty() {
            return;
        }
        let times = Micros::new(delta.rows.column(column)).expect("planners bound differences of timestamps");
        let slices = &self.sides[side];
        let within = delta.extent(column).filter(|(first, last)| slices.of(*first) == slices.of(*last));
        let cut = match within {
            Some((first, _)) => vec![(slices.of(first), delta)],
            None => split(&delta, |row, _| slices.of(times.value(row))),
        };
        for (slice, delta) in cut {
            parts.push(self.store_part(side, slice, delta));
        }
    }

    fn store_part(&mut self, side: usize, number: i64, delta: Delta) -> Part {
        let layout = &self.form.layout;
        let times = Micros::new(delta.rows.column(self.interval.columns[side])).expect("it was a timestamp before");
        let extent = delta.extent(self.interval.columns[side]).expect("there are rows, with times");
        let keys = delta.columns(&layout.on[side]);
        let kept = delta.columns(&layout.kept[side]);
        let counted = self.counted[side];
        let slice = self.sides[side].change(number, || Slice::new(layout, side, counted));
        let mut numbers = Vec::new();
        slice.keys.intern(&keys, delta.len(), &mut numbers);
        slice.rows.resize(slice.keys.bound());
        let mut new = Vec::new();
        if counted {
            new.resize(delta.len(), NONE);
            let keeps = self.keeps[side].filter(|_| self.form.last);
            let Slice { rows, matches, touched, told_at, .. } = slice;
            let (untold, ended) = (&mut self.untold[side], self.limits.watermark.current);
            rows.insert_seen(&numbers, &kept, &delta, &mut |position, row, is_new, before| {
                let index = row as usize;
                if is_new {
                    new[position] = row;
                    matches.resize(matches.len().max(index + 1), 0);
                    matches[index] = 0;
                    if let Some(keeps) = keeps {
                        let when = times.value(position).saturating_add(keeps);
                        told_at.resize(told_at.len().max(index + 1), i64::MAX);
                        told_at[index] = when;
                        if when > ended {
                            untold.push(Reverse((when, number, row)));
                        }
                    }
                }
                touched.entry(row).or_insert((before, matches[index]));
            });
        } else {
            slice.rows.insert(&numbers, &kept, &delta);
        }
        let comparable = comparable(layout, side, &delta);
        Part { side, slice: number, delta, keys, kept, comparable, new, extent }
    }

    /// Compares a change with the rows of the other side that it can reach.
    fn pair(&mut self, epoch: Time, part: &Part, output: &mut Vec<Delta>) {
        let (side, other) = (part.side, 1 - part.side);
        let form = &self.form;
        let from = self.interval.reach(side, part.extent.0).0;
        let to = self.interval.reach(side, part.extent.1).1;
        let can_fail = form.condition.as_ref().is_some_and(Mapper::can_fail);
        // A row that was there before knows its matches; its pairs matter if they are given or counted on the other side.
        let only_new = !form.kind.gives_pairs() && !self.counted[other] && !can_fail;
        let skipped = |position: usize| {
            part.comparable.as_ref().is_some_and(|comparable| !comparable.value(position))
                || part.delta.diff(position) == 0
                || (only_new && part.new.get(position) == Some(&NONE))
        };
        let given = Given { form, epoch, output };
        let found = vec![0; part.new.len()];
        let mut pairing = Pairing { part, counted: self.counted[other], found, given, fresh: Vec::new(), stored: Vec::new() };
        let mut numbers = Vec::new();
        self.sides[other].visit(from, to, &mut |slice| {
            if slice.rows.len() > 0 {
                slice.keys.find(&part.keys, part.delta.len(), &mut numbers);
                for (position, key) in numbers.iter().enumerate() {
                    if *key != ABSENT && !skipped(position) {
                        pairing.row(position as u32, *key, slice);
                    }
                }
                pairing.compare(slice);
            }
            !slice.touched.is_empty()
        });
        let found = pairing.found;
        if found.iter().any(|found| *found != 0) {
            let slice = self.sides[side].get(part.slice).expect("the change is stored there");
            for (row, found) in part.new.iter().zip(found).filter(|(row, _)| **row != NONE) {
                slice.matches[*row as usize] += found;
            }
        }
    }

    /// Gives the rows that are told of from now on, and forgets those that are done with.
    fn advance(&mut self, epoch: Time, watermarks: Option<&[i64]>, output: &mut Vec<Delta>) {
        self.limits.watermark.advance(watermarks);
        let ended = self.limits.watermark.current;
        let closed = ended.saturating_sub(self.limits.lateness);
        for side in [0, 1] {
            let mut told: Vec<(i64, u32)> = Vec::new();
            while let Some(next) = self.untold[side].peek_mut().filter(|next| next.0.0 <= ended) {
                let Reverse((when, slice, row)) = PeekMut::pop(next);
                // The row may be gone, and another one in its place.
                let there = self.sides[side].get(slice).and_then(|slice| slice.told_at.get(row as usize));
                told.extend(there.filter(|told_at| **told_at == when).map(|_| (slice, row)));
            }
            told.sort_unstable();
            told.dedup();
            for rows in told.chunk_by(|one, other| one.0 == other.0) {
                let slice = self.sides[side].get(rows[0].0).expect("it was there just now");
                let mut given = Given { form: &self.form, epoch, output };
                slice.tell(side, rows.iter().map(|(_, row)| *row), &mut given);
            }
            if let Some(keeps) = self.keeps[side] {
                self.sides[side].free(|last| last.saturating_add(keeps) <= closed);
            }
        }
    }
}

impl EpochLogic for IntervalJoin {
    fn keeps(&self) -> Keeps {
        Keeps::Inputs
    }

    fn gates(&mut self) -> Vec<&mut LateGate> {
        self.limits.gates.iter_mut().collect()
    }

    fn freed(&self, table: u32) -> Option<(usize, i64)> {
        let side = table as usize;
        let closed = self.limits.watermark.current.saturating_sub(self.limits.lateness);
        self.keeps[side].map(|keeps| (self.interval.columns[side], closed.saturating_sub(keeps)))
    }

    fn apply(&mut self, epoch: Time, inputs: &mut [Vec<Delta>], watermarks: Option<&[i64]>, output: &mut Vec<Delta>) {
        // First the left changes with the right rows as they were, then the right changes with the left rows as they are.
        for side in [0, 1] {
            let mut parts = Vec::new();
            for delta in self.limits.gates[side].at_once(mem::take(&mut inputs[side])) {
                self.store(epoch, side, delta, &mut parts, output);
            }
            for part in &parts {
                self.pair(epoch, part, output);
            }
        }
        let before = self.limits.watermark.current;
        for side in [0, 1] {
            let mut given = Given { form: &self.form, epoch, output };
            let counted = self.counted[side];
            self.sides[side].settle(&mut |slice| {
                if counted {
                    slice.give_touched(side, before, &mut given);
                }
                slice.forget();
            });
        }
        self.advance(epoch, watermarks, output);
    }

    fn state(&self) -> (usize, usize) {
        let untold = self.untold.iter().map(BinaryHeap::len).sum::<usize>() * size_of::<(i64, i64, u32)>();
        self.sides.iter().map(Slices::state).fold((0, untold), |all, one| (all.0 + one.0, all.1 + one.1))
    }

    fn wake_at(&self) -> Option<Time> {
        let next = self.untold.iter().filter_map(|untold| untold.peek().map(|next| next.0.0)).min();
        next.and_then(|next| self.limits.watermark.due(next))
    }
}

/// A change of one side beside rows of the other.
struct Pairing<'a> {
    part: &'a Part,
    /// Whether the other side's matches are counted.
    counted: bool,
    /// Per position of the change how many rows match it.
    found: Vec<Diff>,
    given: Given<'a>,
    /// Pairs of equal keys that wait to be compared as one batch: positions of the change, and rows of the slice.
    fresh: Vec<u32>,
    stored: Vec<u32>,
}

impl Pairing<'_> {
    /// All rows of a key.
    fn row(&mut self, position: u32, key: u32, slice: &mut Slice) {
        let mut row = slice.rows.first(key);
        while row != NONE {
            if slice.rows.weight(row) != 0 {
                self.fresh.push(position);
                self.stored.push(row);
            }
            row = slice.rows.next(row);
            if self.fresh.len() == BATCH_ROWS {
                self.compare(slice);
            }
        }
    }

    /// Gives the pairs that match, and counts them.
    fn compare(&mut self, slice: &mut Slice) {
        if self.fresh.is_empty() {
            return;
        }
        let Form { layout, condition, kind, .. } = self.given.form;
        let (part, side) = (self.part, self.part.side);
        let positions = UInt32Array::from(mem::take(&mut self.fresh));
        let stored = mem::take(&mut self.stored);
        let take = |column: &ArrayRef| compute::take(column, &positions, None).expect("rows of the batch");
        let columns = part.kept.iter().map(take).collect();
        let rows = layout.pairs(side, columns, slice.rows.gather(&stored), stored.len());
        let diff = |pair: usize| part.delta.diff(positions.value(pair) as usize) * slice.rows.weight(stored[pair]);
        let plain = part.delta.diffs.is_none() && layout.append_only[1 - side] && !self.counted;
        let diffs = (!plain).then(|| (0..stored.len()).map(diff).collect::<Int64Array>());
        let mut pairs = Delta { diffs, ..Delta::insert(rows) };
        let holds = condition.as_ref().map(|condition| condition.holds(self.given.epoch, &pairs));
        let holds = holds.unwrap_or_else(|| BooleanBuffer::new_set(stored.len()));
        if !self.found.is_empty() || self.counted {
            for pair in holds.set_indices() {
                let (position, row) = (positions.value(pair) as usize, stored[pair]);
                let weight = slice.rows.weight(row);
                if let Some(found) = self.found.get_mut(position) {
                    *found += weight;
                }
                if self.counted {
                    let matches = &mut slice.matches[row as usize];
                    slice.touched.entry(row).or_insert((weight, *matches));
                    *matches += part.delta.diff(position);
                }
            }
        }
        if kind.gives_pairs() {
            if holds.count_set_bits() < pairs.len() {
                pairs = pairs.filter(&holds);
            }
            if !pairs.is_empty() {
                self.given.form.mapper.apply(self.given.epoch, pairs, self.given.output);
            }
        }
    }
}

/// Rows with a time, and those without, if there are some.
fn with_times(delta: Delta, column: usize) -> (Delta, Option<Delta>) {
    match delta.rows.column(column).nulls().filter(|nulls| nulls.null_count() > 0).map(|nulls| nulls.inner().clone()) {
        None => (delta, None),
        Some(valid) => (delta.filter(&valid), Some(delta.filter(&!&valid))),
    }
}

/// Rows that can match at all: NULL keys match nothing, unless NULLs are equal. `None`: all.
fn comparable(layout: &Layout, side: usize, delta: &Delta) -> Option<BooleanBuffer> {
    let nulls = || layout.on[side].iter().filter_map(|column| delta.rows.column(*column).nulls());
    if layout.nulls_equal || nulls().all(|nulls| nulls.null_count() == 0) {
        return None;
    }
    Some(nulls().fold(BooleanBuffer::new_set(delta.len()), |valid, nulls| &valid & nulls.inner()))
}

#[cfg(test)]
mod tests;
