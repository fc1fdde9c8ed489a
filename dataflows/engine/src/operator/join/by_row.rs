//! Which rows have a match, where more is asked of a pair than equal keys: per row, how many pairs it is in.

use arrow::array::{ArrayRef, Int64Array, UInt32Array};
use arrow::compute;
use hashbrown::HashMap;
use highwater_plan::JoinKind;

use super::BATCH_ROWS;
use super::expire::Expiry;
use super::matching::{Form, Given};
use super::side::{NONE, Side};
use crate::keys::Keys;
use crate::operator::gather::fixed_hasher;
use crate::{Delta, Diff, Time};

/// Rows by key, with counts.
pub(super) struct ByRow {
    keys: Keys,
    sides: [Side; 2],
    counted: [bool; 2],
    /// Per side and row how many rows of the other side match it, of a side that is asked about.
    matches: [Vec<Diff>; 2],
    expiry: Option<Expiry>,
}

/// Of rows that an epoch touched: their copies and their matches before it.
type Touched = HashMap<u32, (Diff, Diff), ahash::RandomState>;

/// A change of one side, stored.
struct Change<'a> {
    side: usize,
    delta: &'a Delta,
    /// The numbers of its keys.
    numbers: &'a [u32],
    kept: Vec<ArrayRef>,
    /// Rows that are new, by the position of the change that brought them; otherwise [`NONE`].
    new: Vec<u32>,
}

impl ByRow {
    pub(super) fn new(form: &Form, expiry: Option<Expiry>) -> Self {
        let layout = &form.layout;
        let counted = [0, 1].map(|side| form.asks(side));
        ByRow {
            keys: Keys::new(&layout.types),
            // Rows that are counted are found by their content: a retraction takes its own.
            sides: [0, 1].map(|side| Side::new(&layout.kept_types[side], layout.append_only[side] && !counted[side])),
            counted,
            matches: Default::default(),
            expiry,
        }
    }

    /// Goes on to an epoch: forgets keys that have expired by then.
    pub(super) fn begin(&mut self, epoch: Time) {
        if let Some(expiry) = &mut self.expiry {
            expiry.begin(epoch, &mut self.keys, &mut self.sides, &mut Default::default());
        }
    }

    /// When its keys were touched, if that counts, and the keys.
    pub(super) fn expiry(&mut self) -> (Option<&mut Expiry>, &Keys) {
        (self.expiry.as_mut(), &self.keys)
    }

    /// Takes an epoch's changes of both sides.
    pub(super) fn apply(&mut self, changes: &[Vec<Delta>; 2], told: bool, given: &mut Given<'_>) {
        let layout = &given.form.layout;
        let (keys, sides) = (&mut self.keys, &mut self.sides);
        let admitted = self.expiry.as_mut().map(|expiry| {
            let admitted = expiry.admitted(changes, keys, sides, [true; 2], [&layout.kept, &layout.on]).0;
            expiry.note(&admitted, [true; 2], layout);
            admitted
        });
        let changes = admitted.as_ref().unwrap_or(changes);
        let mut touched: [Touched; 2] = [0, 1].map(|_| Touched::with_hasher(fixed_hasher()));
        // First the left changes with the right rows as they were, then the right changes with the left rows as they are.
        for side in [0, 1] {
            let mut stored: Vec<(Vec<u32>, Vec<u32>)> = Vec::with_capacity(changes[side].len());
            for delta in &changes[side] {
                let mut numbers = Vec::new();
                self.keys.intern(&delta.columns(&layout.on[side]), delta.len(), &mut numbers);
                let bound = self.keys.bound();
                self.sides.iter_mut().for_each(|side| side.resize(bound));
                let new = self.store(side, delta, &numbers, &delta.columns(&layout.kept[side]), &mut touched[side]);
                stored.push((numbers, new));
            }
            for (delta, (numbers, new)) in changes[side].iter().zip(stored) {
                let kept = delta.columns(&layout.kept[side]);
                let change = Change { side, delta, numbers: &numbers, kept, new };
                self.pair(&change, &mut touched[1 - side], given);
            }
        }
        let told = told || given.form.kind == JoinKind::Semi;
        for (side, touched) in touched.into_iter().enumerate() {
            if told && self.counted[side] {
                self.give_touched(side, touched, given);
            }
        }
        self.forget();
    }

    /// Gives all rows that are told alone.
    pub(super) fn tell(&self, given: &mut Given<'_>) {
        for side in [0, 1].into_iter().filter(|side| self.counted[*side]) {
            let mut rows: [Vec<(u32, Diff)>; 2] = Default::default();
            for key in self.keys.numbers() {
                let mut row = self.sides[side].first(key);
                while row != NONE {
                    let matched = self.matches[side][row as usize] > 0;
                    if given.form.gives_alone(side, matched) {
                        rows[usize::from(matched)].push((row, self.sides[side].weight(row)));
                    }
                    row = self.sides[side].next(row);
                }
            }
            for (matched, rows) in [false, true].into_iter().zip(&rows) {
                given.stored(side, matched, &self.sides[side], rows);
            }
        }
    }

    pub(super) fn state(&self) -> (usize, usize) {
        let counts: usize = self.matches.iter().map(|matches| matches.capacity() * size_of::<Diff>()).sum();
        let bytes = self.sides.iter().map(Side::bytes).sum::<usize>();
        (self.sides.iter().map(Side::len).sum(), bytes + counts + self.keys.bytes())
    }

    /// Takes a change into its side; gives, per position, the row if it is new.
    fn store(&mut self, side: usize, delta: &Delta, numbers: &[u32], kept: &[ArrayRef], touched: &mut Touched) -> Vec<u32> {
        let mut created = vec![NONE; delta.len()];
        if !self.counted[side] {
            self.sides[side].insert(numbers, kept, delta);
            return created;
        }
        let matches = &mut self.matches[side];
        self.sides[side].insert_seen(numbers, kept, delta, &mut |position, row, new, before| {
            if new {
                created[position] = row;
                if matches.len() <= row as usize {
                    matches.resize(row as usize + 1, 0);
                }
                matches[row as usize] = 0;
            }
            touched.entry(row).or_insert((before, matches[row as usize]));
        });
        created
    }

    /// Compares a change with the rows of the same keys on the other side.
    fn pair(&mut self, change: &Change<'_>, touched: &mut Touched, given: &mut Given<'_>) {
        let condition = given.form.condition.as_ref().expect("rows are counted where there is a condition");
        let other = 1 - change.side;
        // A row that was there before knows its matches; its pairs matter if they are given or counted on the other side.
        let only_new = !given.form.kind.gives_pairs() && !self.counted[other] && !condition.can_fail();
        let (mut fresh, mut stored) = (Vec::new(), Vec::new());
        for (position, number) in change.numbers.iter().enumerate() {
            if change.delta.diff(position) == 0 || (only_new && change.new[position] == NONE) {
                continue;
            }
            let mut row = self.sides[other].first(*number);
            while row != NONE {
                if self.sides[other].weight(row) != 0 {
                    fresh.push(position as u32);
                    stored.push(row);
                }
                row = self.sides[other].next(row);
                if fresh.len() == BATCH_ROWS {
                    self.compare(change, std::mem::take(&mut fresh), std::mem::take(&mut stored), touched, given);
                }
            }
        }
        self.compare(change, fresh, stored, touched, given);
    }

    fn compare(&mut self, change: &Change<'_>, fresh: Vec<u32>, stored: Vec<u32>, touched: &mut Touched, given: &mut Given<'_>) {
        if fresh.is_empty() {
            return;
        }
        let (side, other) = (change.side, 1 - change.side);
        let form = given.form;
        let positions = UInt32Array::from(fresh);
        let take = |column: &ArrayRef| compute::take(column, &positions, None).expect("rows of the batch");
        let columns = change.kept.iter().map(take).collect();
        let rows = form.layout.pairs(side, columns, self.sides[other].gather(&stored), stored.len());
        let diff = |pair: usize| change.delta.diff(positions.value(pair) as usize) * self.sides[other].weight(stored[pair]);
        let diffs: Int64Array = (0..stored.len()).map(diff).collect();
        let pairs = Delta::with_diffs(rows, diffs);
        let condition = form.condition.as_ref().expect("rows are counted where there is a condition");
        let holds = condition.holds(given.epoch, &pairs);
        for pair in holds.set_indices() {
            let (position, row) = (positions.value(pair) as usize, stored[pair]);
            if self.counted[side] && change.new[position] != NONE {
                self.matches[side][change.new[position] as usize] += self.sides[other].weight(row);
            }
            if self.counted[other] {
                let matches = &mut self.matches[other][row as usize];
                touched.entry(row).or_insert((self.sides[other].weight(row), *matches));
                *matches += change.delta.diff(position);
            }
        }
        if form.kind.gives_pairs() && holds.count_set_bits() > 0 {
            form.mapper.apply(given.epoch, pairs.filter(&holds), given.output);
        }
    }

    /// Gives what changed of the rows that are told alone.
    fn give_touched(&self, side: usize, touched: Touched, given: &mut Given<'_>) {
        let mut touched: Vec<(u32, (Diff, Diff))> = touched.into_iter().collect();
        touched.sort_unstable_by_key(|(row, _)| *row);
        let mut rows: [Vec<(u32, Diff)>; 2] = Default::default();
        for (row, (copies_before, matches_before)) in touched {
            let (copies, matches) = (self.sides[side].weight(row), self.matches[side][row as usize]);
            for matched in [false, true] {
                let now = if (matches > 0) == matched { copies } else { 0 };
                let before = if (matches_before > 0) == matched { copies_before } else { 0 };
                if now != before && given.form.gives_alone(side, matched) {
                    rows[usize::from(matched)].push((row, now - before));
                }
            }
        }
        for (matched, rows) in [false, true].into_iter().zip(&rows) {
            given.stored(side, matched, &self.sides[side], rows);
        }
    }

    /// Frees rows that are gone, and the numbers of keys that neither side has rows of any more.
    fn forget(&mut self) {
        self.sides.iter_mut().for_each(Side::sweep);
        let mut emptied: Vec<u32> = self.sides.iter_mut().flat_map(Side::take_emptied).collect();
        emptied.append(&mut self.expiry.as_mut().map(Expiry::take_touched).unwrap_or_default());
        emptied.sort_unstable();
        emptied.dedup();
        for key in emptied {
            if self.sides.iter().all(|side| side.first(key) == NONE) {
                self.keys.remove(key);
            }
        }
    }
}
