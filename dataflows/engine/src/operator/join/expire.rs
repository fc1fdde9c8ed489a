//! `state_ttl` of joins: keys that no row of either side touched are forgotten, rows, counts and all.
//!
//! A key goes as a whole: as long as one side is touched the other stays, so what is said of rows without a match stays
//! right among what is kept.

use super::side::Side;
use crate::keys::Keys;
use crate::operator::lives::{Lives, TimeToLive};
use crate::{Delta, Diff, Time};

/// When the keys of a table were touched last.
pub(super) struct Expiry {
    lives: Lives,
    /// Keys of this epoch's rows.
    touched: Vec<u32>,
}

/// Changes of both sides with the numbers of their keys.
pub(super) type Numbered = ([Vec<Delta>; 2], [Vec<Vec<u32>>; 2]);

impl Expiry {
    pub(super) fn new(ttl: TimeToLive) -> Self {
        Expiry { lives: Lives::new(ttl), touched: Vec::new() }
    }

    /// Goes on to an epoch: forgets keys that have expired by then. `counts`: what else is known by key.
    pub(super) fn begin(&mut self, epoch: Time, keys: &mut Keys, sides: &mut [Side; 2], counts: &mut [Vec<Diff>; 2]) {
        let expired = self.lives.begin(epoch, keys);
        if expired.is_empty() {
            return;
        }
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
