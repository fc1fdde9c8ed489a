//! `state_ttl` of joins: keys that no row of either side touched are forgotten, rows, counts and all.
//!
//! A key goes as a whole: as long as one side is touched the other stays, so what is said of rows without a match stays
//! right among what is kept.

use super::layout::Layout;
use super::side::{NONE, Side};
use crate::checkpoint::{Saved, Spread};
use crate::keys::Keys;
use crate::operator::groups::state_batch;
use crate::operator::lives::{Lives, TimeToLive};
use crate::operator::sink::consolidate;
use crate::{Delta, Diff, Time};

/// When the keys of a table were touched last.
pub(super) struct Expiry {
    lives: Lives,
    /// Keys of this epoch's rows.
    touched: Vec<u32>,
    /// Per side what came and went since the last checkpoint, if that is to be in the next one: key columns, then, of a side
    /// that is stored, the kept ones.
    log: Option<[Vec<Delta>; 2]>,
}

/// Changes of both sides with the numbers of their keys.
pub(super) type Numbered = ([Vec<Delta>; 2], [Vec<Vec<u32>>; 2]);

impl Expiry {
    pub(super) fn new(ttl: TimeToLive) -> Self {
        Expiry { lives: Lives::new(ttl), touched: Vec::new(), log: None }
    }

    /// From here on it is remembered what changes.
    pub(super) fn log(&mut self) {
        self.lives.log();
        self.log = Some(Default::default());
    }

    /// Puts the rows of both sides of a join by so many columns, and when keys were touched, into tables.
    pub(super) fn save(&mut self, keys: usize, saved: &mut Saved) {
        let spread = Spread::ByColumns((0..keys).collect());
        for (side, log) in self.log.as_mut().map(std::mem::take).unwrap_or_default().into_iter().enumerate() {
            let schema = log.first().map(|delta| delta.rows.schema());
            let changes = schema.map_or_else(Vec::new, |schema| consolidate(log, &schema));
            saved.rows(side as u32, spread.clone(), changes, None);
        }
        self.lives.save(2, spread, saved);
    }

    /// Takes back when keys were touched, whose rows were loaded.
    pub(super) fn load(&mut self, epoch: Time, touched: &[Delta], keys: &Keys) {
        self.lives.load(epoch, touched, keys);
    }

    /// What an epoch changes, without what is not admitted, of sides of which rows are `stored` or only counted.
    pub(super) fn note(&mut self, changes: &[Vec<Delta>; 2], stored: [bool; 2], layout: &Layout) {
        let Some(log) = &mut self.log else { return };
        for side in [0, 1] {
            for delta in &changes[side] {
                let mut columns = delta.columns(&layout.on[side]);
                if stored[side] {
                    columns.extend(delta.columns(&layout.kept[side]));
                }
                log[side].push(Delta::of(state_batch(columns, delta.len()), delta.diffs.clone()));
            }
        }
    }

    /// The rows of keys that go, or how many there are on a side that is only counted.
    fn note_gone(&mut self, gone: &[u32], keys: &Keys, sides: &[Side; 2], counts: &[Vec<Diff>; 2]) {
        let Some(log) = &mut self.log else { return };
        for (side, log) in log.iter_mut().enumerate() {
            let (mut numbers, mut rows, mut diffs) = (Vec::new(), Vec::new(), Vec::new());
            for key in gone {
                let mut row = sides[side].first(*key);
                while row != NONE {
                    numbers.push(*key);
                    rows.push(row);
                    diffs.push(-sides[side].weight(row));
                    row = sides[side].next(row);
                }
            }
            if !rows.is_empty() {
                let columns = [keys.columns(&numbers), sides[side].gather(&rows)].concat();
                log.push(Delta::with_diffs(state_batch(columns, rows.len()), diffs.into()));
                continue;
            }
            let counted = gone.iter().map(|key| (*key, counts[side].get(*key as usize).copied().unwrap_or(0)));
            let (numbers, diffs): (Vec<u32>, Vec<Diff>) = counted.filter(|(_, count)| *count != 0).unzip();
            if !numbers.is_empty() {
                let diffs: Vec<Diff> = diffs.into_iter().map(|count| -count).collect();
                log.push(Delta::with_diffs(state_batch(keys.columns(&numbers), numbers.len()), diffs.into()));
            }
        }
    }

    /// Goes on to an epoch: forgets keys that have expired by then. `counts`: what else is known by key.
    pub(super) fn begin(&mut self, epoch: Time, keys: &mut Keys, sides: &mut [Side; 2], counts: &mut [Vec<Diff>; 2]) {
        let expired = self.lives.begin(epoch, keys);
        if expired.is_empty() {
            return;
        }
        self.note_gone(&expired, keys, sides, counts);
        let mut rows = 0;
        for key in expired {
            let stored: usize = sides.iter_mut().map(|side| side.forget(key)).sum();
            counts.iter_mut().filter_map(|counts| counts.get_mut(key as usize)).for_each(|count| *count = 0);
            // What is only counted of a key is one entry.
            rows += stored.max(1);
            keys.remove(key);
        }
        sides.iter_mut().for_each(Side::reclaim);
        self.lives.ttl.expired(rows);
    }

    /// An epoch's changes without retractions of rows that are not there, of sides that are stored. `kept` and `on`: the
    /// columns of each side that are kept and that are keys.
    pub(super) fn admitted(
        &mut self,
        changes: &[Vec<Delta>; 2],
        keys: &mut Keys,
        sides: &mut [Side; 2],
        stored: [bool; 2],
        [kept, on]: [&[Vec<usize>; 2]; 2],
    ) -> Numbered {
        let (mut admitted, mut all): Numbered = Default::default();
        for side in [0, 1] {
            let mut numbers: Vec<Vec<u32>> = Vec::with_capacity(changes[side].len());
            for delta in &changes[side] {
                let mut of_delta = Vec::new();
                keys.intern(&delta.columns(&on[side]), delta.len(), &mut of_delta);
                self.lives.touch(&of_delta);
                self.touched.extend(&of_delta);
                numbers.push(of_delta);
            }
            let ttl = &self.lives.ttl;
            let netted = stored[side].then(|| sides[side].admitted(&changes[side], &numbers, &kept[side], ttl)).flatten();
            (admitted[side], all[side]) = match netted {
                Some(netted) => netted,
                None => (changes[side].clone(), numbers),
            };
        }
        self.lives.noted(keys);
        let bound = keys.bound();
        sides.iter_mut().for_each(|side| side.resize(bound));
        (admitted, all)
    }

    /// Keys of this epoch's rows, of which nothing may have been kept.
    pub(super) fn take_touched(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.touched)
    }

    /// Counts retractions of rows that are not there.
    pub(super) fn ignored(&self, retractions: Diff) {
        self.lives.ttl.ignored(retractions);
    }

    pub(super) fn bytes(&self) -> usize {
        self.lives.bytes()
    }
}
