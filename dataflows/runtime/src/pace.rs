//! How many rows of a source one epoch takes, and when the rest has to wait for the next one.
//!
//! The engine asks a feed again and again until it says that nothing is there, or until the epoch is full by the job's
//! setting. A source may have a smaller limit of its own (`epoch_rows_max`); then it says that nothing is there although
//! there is, and is asked again at once, in the next epoch. What a client pushed as one unit is held back in the same way
//! when it does not fit into what is left of the epoch: half of it must not become visible alone. Only a unit that no
//! epoch can hold is split.

/// Counts what one feed has given to the current epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pace {
    limit: usize,
    given: usize,
}

/// What to do with rows that are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Give at most so many of them, at least one.
    Give(usize),
    /// Wait for the next epoch.
    NextEpoch,
}

impl Pace {
    /// A pace of at most `limit` rows an epoch, at least one.
    pub(crate) fn new(limit: usize) -> Self {
        Pace { limit: limit.max(1), given: 0 }
    }

    /// How many rows this epoch may still take when the engine asks for `rows_max`.
    pub(crate) fn room(&self, rows_max: usize) -> usize {
        rows_max.min(self.limit.saturating_sub(self.given))
    }

    /// What to do with `rows` rows, which must stay together if they are a `whole`.
    pub(crate) fn turn(&self, rows: usize, whole: bool, rows_max: usize) -> Turn {
        let room = self.room(rows_max);
        let epoch_has_begun = self.given > 0;
        if room == 0 || (whole && rows > room && epoch_has_begun) { Turn::NextEpoch } else { Turn::Give(room) }
    }

    /// So many rows were given; rejected ones count, too.
    pub(crate) fn gave(&mut self, rows: usize, rows_max: usize) {
        // Having got what it asked for, the engine goes on to the next epoch by itself.
        if rows >= rows_max {
            self.next_epoch();
        } else {
            self.given += rows.max(1);
        }
    }

    /// The feed said that nothing is there: what it gives next is in another epoch.
    pub(crate) fn next_epoch(&mut self) {
        self.given = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::Turn::{Give, NextEpoch};
    use super::*;

    #[test]
    fn rows_wait_when_the_epoch_is_full_and_units_when_they_do_not_fit() {
        // limit, given, rows, whole, rows_max
        let cases = [
            ((10, 0, 5, false, 100), Give(10), "an empty epoch"),
            ((10, 7, 5, false, 100), Give(3), "the rest of the limit"),
            ((10, 7, 5, false, 2), Give(2), "the engine asks for less"),
            ((10, 10, 1, false, 100), NextEpoch, "full"),
            ((10, 12, 1, false, 100), NextEpoch, "overfull by rejects"),
            ((10, 7, 3, true, 100), Give(3), "a unit that fits"),
            ((10, 7, 5, true, 100), NextEpoch, "a unit that fits an empty epoch"),
            ((10, 7, 50, true, 100), NextEpoch, "a unit that is too large starts in an empty epoch"),
            ((10, 0, 50, true, 100), Give(10), "and is split there"),
            ((10, 7, 0, true, 100), Give(3), "a unit of rejects alone"),
            ((10, 0, 5, false, 0), NextEpoch, "the engine asks for nothing"),
        ];
        for ((limit, given, rows, whole, rows_max), expected, why) in cases {
            assert_eq!(Pace { limit, given }.turn(rows, whole, rows_max), expected, "{why}");
        }
    }

    #[test]
    fn an_epoch_ends_when_the_engine_has_what_it_asked_for() {
        let mut pace = Pace::new(10);
        pace.gave(6, 100);
        assert_eq!(pace.room(100), 4);
        pace.gave(4, 4);
        assert_eq!(pace.room(100), 10, "the engine is full");
        pace.gave(0, 100);
        assert_eq!(pace.room(100), 9, "answers without rows cannot go on for ever");
    }
}
