//! The rows of one side of an interval join, in slices of time.

use std::collections::BTreeMap;

use hashbrown::HashMap;

use super::layout::Layout;
use super::matching::Given;
use super::side::{NONE, Side};
use crate::Diff;
use crate::keys::Keys;
use crate::operator::gather::fixed_hasher;

/// Of rows that an epoch touched: their copies and their matches before it.
type Touched = HashMap<u32, (Diff, Diff), ahash::RandomState>;

/// Slices by number.
pub(super) struct Slices {
    /// How long a slice is, in microseconds; `None`: all time is one.
    length: Option<i64>,
    slices: BTreeMap<i64, Slice>,
    /// Slices that an epoch changed, perhaps several times.
    changed: Vec<i64>,
}

impl Slices {
    pub(super) fn new(length: Option<i64>) -> Self {
        Slices { length, slices: BTreeMap::new(), changed: Vec::new() }
    }

    /// The slice that a time is in.
    pub(super) fn of(&self, time: i64) -> i64 {
        self.length.map_or(0, |length| time.div_euclid(length))
    }

    /// A slice, made if it is not there; it is noted as changed.
    pub(super) fn change(&mut self, number: i64, new: impl FnOnce() -> Slice) -> &mut Slice {
        self.changed.push(number);
        self.slices.entry(number).or_insert_with(new)
    }

    /// A slice, if it is there.
    pub(super) fn get(&mut self, number: i64) -> Option<&mut Slice> {
        self.slices.get_mut(&number)
    }

    /// Calls `visit` with the slices between two times, in their order; those for which it gives true are noted as changed.
    pub(super) fn visit(&mut self, from: i64, to: i64, visit: &mut dyn FnMut(&mut Slice) -> bool) {
        let (from, to) = (self.of(from), self.of(to));
        // Bounds that contradict each other reach nothing.
        if from > to {
            return;
        }
        for (number, slice) in self.slices.range_mut(from..=to) {
            if visit(slice) {
                self.changed.push(*number);
            }
        }
    }

    /// Calls `settle` with the slices that were noted as changed, once each, in their order, and drops those that are
    /// empty.
    pub(super) fn settle(&mut self, settle: &mut dyn FnMut(&mut Slice)) {
        let mut changed = std::mem::take(&mut self.changed);
        changed.sort_unstable();
        changed.dedup();
        for number in changed.drain(..) {
            let Some(slice) = self.slices.get_mut(&number) else { continue };
            settle(slice);
            if slice.rows.len() == 0 {
                self.slices.remove(&number);
            }
        }
        self.changed = changed;
    }

    /// Drops the slices whose last time is done with.
    pub(super) fn free(&mut self, done: impl Fn(i64) -> bool) {
        let Some(length) = self.length else { return };
        while let Some(first) = self.slices.first_entry() {
            let last = first.key().saturating_mul(length).saturating_add(length - 1);
            if !done(last) {
                break;
            }
            first.remove();
        }
    }

    /// Rows and bytes, about.
    pub(super) fn state(&self) -> (usize, usize) {
        self.slices.values().map(Slice::state).fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1))
    }
}

/// The rows of a slice, by key.
pub(super) struct Slice {
    pub(super) keys: Keys,
    pub(super) rows: Side,
    /// Per row how many rows of the other side match it, where that is counted.
    pub(super) matches: Vec<Diff>,
    /// Per row the watermark at which it is told whether it has a match, where that is not at once.
    pub(super) told_at: Vec<i64>,
    /// Rows that this epoch touched.
    pub(super) touched: Touched,
}

impl Slice {
    /// `counted`: matches are counted for each row, which then is found by its content.
    pub(super) fn new(layout: &Layout, side: usize, counted: bool) -> Self {
        Slice {
            keys: Keys::new(&layout.types),
            rows: Side::new(&layout.kept_types[side], layout.append_only[side] && !counted),
            matches: Vec::new(),
            told_at: Vec::new(),
            touched: Touched::with_hasher(fixed_hasher()),
        }
    }

    /// Gives what became of the rows that this epoch touched, if they are told of by a watermark `until`.
    pub(super) fn give_touched(&mut self, side: usize, until: i64, given: &mut Given<'_>) {
        let mut rows: [Vec<(u32, Diff)>; 2] = Default::default();
        for (row, (copies_before, matches_before)) in self.touched.drain() {
            if self.told_at.get(row as usize).is_some_and(|told_at| *told_at > until) {
                continue;
            }
            let (copies, matches) = (self.rows.weight(row), self.matches[row as usize]);
            for matched in [false, true] {
                let now = if (matches > 0) == matched { copies } else { 0 };
                let before = if (matches_before > 0) == matched { copies_before } else { 0 };
                if now != before && given.form.gives_alone(side, matched) {
                    rows[usize::from(matched)].push((row, now - before));
                }
            }
        }
        self.give(side, &rows, given);
    }

    /// Gives these rows as they are now.
    pub(super) fn tell(&self, side: usize, told: impl Iterator<Item = u32>, given: &mut Given<'_>) {
        let mut rows: [Vec<(u32, Diff)>; 2] = Default::default();
        for row in told {
            let (copies, matched) = (self.rows.weight(row), self.matches[row as usize] > 0);
            if copies != 0 && given.form.gives_alone(side, matched) {
                rows[usize::from(matched)].push((row, copies));
            }
        }
        self.give(side, &rows, given);
    }

    fn give(&self, side: usize, rows: &[Vec<(u32, Diff)>; 2], given: &mut Given<'_>) {
        for (matched, rows) in [false, true].into_iter().zip(rows) {
            given.stored(side, matched, &self.rows, rows);
        }
    }

    /// Frees rows that are gone, and the numbers of keys without rows.
    pub(super) fn forget(&mut self) {
        self.rows.sweep();
        let mut emptied = self.rows.take_emptied();
        emptied.sort_unstable();
        emptied.dedup();
        for key in emptied {
            if self.rows.first(key) == NONE {
                self.keys.remove(key);
            }
        }
    }

    fn state(&self) -> (usize, usize) {
        let counts = (self.matches.capacity() + self.told_at.capacity()) * size_of::<i64>();
        (self.rows.len(), self.rows.bytes() + self.keys.bytes() + counts)
    }
}
