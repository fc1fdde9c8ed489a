//! Which keys have a match: per key, how many rows the other side has.

use arrow::array::ArrayRef;
use highwater_plan::JoinKind;

use super::Fresh;
use super::expire::Expiry;
use super::matching::{Form, Given};
use super::side::{NONE, Side};
use crate::keys::Keys;
use crate::operator::lives::netted;
use crate::{Delta, Diff, Time};

/// Rows by key, with counts.
pub(super) struct ByKey {
    keys: Keys,
    /// The right side of a join that gives left rows alone is only counted.
    sides: [Side; 2],
    stored: [bool; 2],
    /// Per side and key how many rows there are, of a side whose other is asked about.
    counts: [Vec<Diff>; 2],
    expiry: Option<Expiry>,
}

/// Keys whose answer an epoch changes, ascending.
#[derive(Default)]
struct Flips {
    matched: Vec<u32>,
    unmatched: Vec<u32>,
}

impl Flips {
    fn contains(&self, key: u32) -> bool {
        self.matched.binary_search(&key).is_ok() || self.unmatched.binary_search(&key).is_ok()
    }
}

impl ByKey {
    pub(super) fn new(form: &Form, expiry: Option<Expiry>) -> Self {
        let layout = &form.layout;
        ByKey {
            keys: Keys::new(&layout.types),
            sides: [0, 1].map(|side| Side::new(&layout.kept_types[side], layout.append_only[side])),
            stored: [true, form.kind.gives_pairs()],
            counts: Default::default(),
            expiry,
        }
    }

    /// Goes on to an epoch: forgets keys that have expired by then.
    pub(super) fn begin(&mut self, epoch: Time) {
        if let Some(expiry) = &mut self.expiry {
            expiry.begin(epoch, &mut self.keys, &mut self.sides, &mut self.counts);
        }
    }

    /// When its keys were touched, if that counts, and the keys.
    pub(super) fn expiry(&mut self) -> (Option<&mut Expiry>, &Keys) {
        (self.expiry.as_mut(), &self.keys)
    }

    /// Takes an epoch's changes of both sides.
    pub(super) fn apply(&mut self, changes: &[Vec<Delta>; 2], told: bool, given: &mut Given<'_>) {
        let form = given.form;
        let admitted = self.admitted(changes, form);
        let changes = admitted.as_ref().unwrap_or(changes);
        let numbers = self.numbers(changes, form);
        // Semi joins never take back what they say of rows that only come, so there is nothing to wait for.
        let told = told || form.kind == JoinKind::Semi;
        let mut touched = self.expiry.as_mut().map(Expiry::take_touched).unwrap_or_default();
        let flips = [0, 1].map(|side| match form.asks(side) {
            true => self.count(1 - side, &numbers[1 - side], &changes[1 - side], &mut touched),
            false => Flips::default(),
        });
        if told {
            self.give_flipped(&flips, true, given);
        }
        for side in [0, 1] {
            if !self.stored[side] {
                continue;
            }
            for (delta, numbers) in changes[side].iter().zip(&numbers[side]) {
                let kept: Vec<ArrayRef> = delta.columns(&form.layout.kept[side]);
                let fresh = Fresh { epoch: given.epoch, side, delta, numbers, kept };
                if form.kind.gives_pairs() {
                    fresh.join(&self.sides[1 - side], None, &form.layout, &form.mapper, given.output);
                }
                self.sides[side].insert(numbers, &fresh.kept, delta);
            }
        }
        if told {
            self.give_flipped(&flips, false, given);
            for side in [0, 1].into_iter().filter(|side| form.asks(*side)) {
                for (delta, numbers) in changes[side].iter().zip(&numbers[side]) {
                    self.give_changed(side, delta, numbers, &flips[side], given);
                }
            }
        }
        self.forget_empty_keys(touched);
    }

    /// Gives all rows that are told alone.
    pub(super) fn tell(&self, given: &mut Given<'_>) {
        for side in [0, 1].into_iter().filter(|side| given.form.asks(*side)) {
            let mut rows: [Vec<(u32, Diff)>; 2] = Default::default();
            for key in self.keys.numbers() {
                let matched = self.counts[1 - side][key as usize] > 0;
                if given.form.gives_alone(side, matched) {
                    self.rows_of(side, key, 1, &mut rows[usize::from(matched)]);
                }
            }
            for (matched, rows) in [false, true].into_iter().zip(&rows) {
                given.stored(side, matched, &self.sides[side], rows);
            }
        }
    }

    pub(super) fn state(&self) -> (usize, usize) {
        let counts: usize = self.counts.iter().map(|counts| counts.capacity() * size_of::<Diff>()).sum();
        let bytes = self.sides.iter().map(Side::bytes).sum::<usize>();
        let counted = if self.stored[1] { 0 } else { self.keys.len() };
        (self.sides.iter().map(Side::len).sum::<usize>() + counted, bytes + counts + self.keys.bytes())
    }

    /// With `state_ttl`: the changes without retractions of rows that are not there. Of a side that is only counted, rows
    /// are told apart by their keys alone.
    fn admitted(&mut self, changes: &[Vec<Delta>; 2], form: &Form) -> Option<[Vec<Delta>; 2]> {
        let expiry = self.expiry.as_mut()?;
        let layout = &form.layout;
        let (mut admitted, numbers) =
            expiry.admitted(changes, &mut self.keys, &mut self.sides, self.stored, [&layout.kept, &layout.on]);
        for side in [0, 1].into_iter().filter(|side| !self.stored[*side] && !layout.append_only[*side]) {
            let counts = &self.counts[side];
            let held = |delta: usize, row: usize| counts.get(numbers[side][delta][row] as usize).copied().unwrap_or(0);
            let (netted, ignored) = netted(&changes[side], &numbers[side], &layout.on[side], held);
            expiry.ignored(ignored);
            admitted[side] = netted.into_iter().map(|(delta, _)| delta).collect();
        }
        expiry.note(&admitted, self.stored, layout);
        Some(admitted)
    }

    /// The number of each changed row's key.
    fn numbers(&mut self, changes: &[Vec<Delta>; 2], form: &Form) -> [Vec<Vec<u32>>; 2] {
        let numbers = [0, 1].map(|side| {
            let intern = |delta: &Delta| {
                let mut numbers = Vec::new();
                self.keys.intern(&delta.columns(&form.layout.on[side]), delta.len(), &mut numbers);
                numbers
            };
            changes[side].iter().map(intern).collect::<Vec<_>>()
        });
        let bound = self.keys.bound();
        for side in [0, 1] {
            self.sides[side].resize(bound);
            if form.asks(1 - side) {
                self.counts[side].resize(bound, 0);
            }
        }
        numbers
    }

    /// Counts the changes of a side, and tells which keys of the other get or lose their matches.
    fn count(&mut self, side: usize, numbers: &[Vec<u32>], changes: &[Delta], touched: &mut Vec<u32>) -> Flips {
        let rows = changes.iter().zip(numbers);
        let mut net: Vec<(u32, Diff)> =
            rows.flat_map(|(delta, keys)| keys.iter().enumerate().map(|(row, key)| (*key, delta.diff(row)))).collect();
        net.sort_unstable_by_key(|(key, _)| *key);
        let mut flips = Flips::default();
        for of_key in net.chunk_by(|one, other| one.0 == other.0) {
            let key = of_key[0].0;
            let count = &mut self.counts[side][key as usize];
            let before = *count;
            *count += of_key.iter().map(|(_, diff)| diff).sum::<Diff>();
            if *count == 0 {
                touched.push(key);
            }
            match (before > 0, *count > 0) {
                (false, true) => flips.matched.push(key),
                (true, false) => flips.unmatched.push(key),
                _ => {}
            }
        }
        flips
    }

    /// Takes back what was said of the rows of keys whose answer changes, or says what is true now.
    fn give_flipped(&self, flips: &[Flips; 2], before: bool, given: &mut Given<'_>) {
        for (side, flips) in flips.iter().enumerate() {
            for (keys, now_matched) in [(&flips.matched, true), (&flips.unmatched, false)] {
                let matched = now_matched != before;
                if !keys.is_empty() && given.form.gives_alone(side, matched) {
                    let mut rows = Vec::new();
                    let sign = if before { -1 } else { 1 };
                    keys.iter().for_each(|key| self.rows_of(side, *key, sign, &mut rows));
                    given.stored(side, matched, &self.sides[side], &rows);
                }
            }
        }
    }

    /// Gives the changed rows of keys whose answer stays; those of the other keys are among all rows of their key.
    fn give_changed(&self, side: usize, delta: &Delta, numbers: &[u32], flips: &Flips, given: &mut Given<'_>) {
        let counts = &self.counts[1 - side];
        let mut rows: [Vec<u32>; 2] = Default::default();
        for (row, key) in numbers.iter().enumerate() {
            let matched = counts[*key as usize] > 0;
            if given.form.gives_alone(side, matched) && !flips.contains(*key) {
                rows[usize::from(matched)].push(row as u32);
            }
        }
        for (matched, rows) in [false, true].into_iter().zip(rows) {
            if !rows.is_empty() {
                given.changed(side, matched, delta, Some(rows));
            }
        }
    }

    fn rows_of(&self, side: usize, key: u32, sign: Diff, rows: &mut Vec<(u32, Diff)>) {
        let side = &self.sides[side];
        let mut row = side.first(key);
        while row != NONE {
            rows.push((row, sign * side.weight(row)));
            row = side.next(row);
        }
    }

    /// Frees the numbers of keys of which nothing is known any more.
    fn forget_empty_keys(&mut self, mut touched: Vec<u32>) {
        self.sides.iter_mut().for_each(|side| touched.append(&mut side.take_emptied()));
        touched.sort_unstable();
        touched.dedup();
        for key in touched {
            let gone = self.sides.iter().all(|side| side.first(key) == NONE)
                && self.counts.iter().all(|counts| counts.get(key as usize).is_none_or(|count| *count == 0));
            if gone {
                self.keys.remove(key);
            }
        }
    }
}
