//! Interval joins: the times of a matching pair are at most so far apart, so the watermark says which rows are done with.

use crate::{JoinKind, TimeKind, TimeSource};

/// Bounds on how far apart the times of matching rows are: `lower <= left - right <= upper`, in microseconds.
///
/// They follow from the join's conditions and are no tighter than those: conditions decide what matches, bounds only which
/// rows can still match. In epoch `e` a row is late if its own time was over in the epoch before; a row is kept until its
/// own time is over and that of every row it could match. The watermark is the smallest of [`JoinInterval::sources`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinInterval {
    /// Per side the column that has the time.
    pub columns: [usize; 2],
    /// Per side what the time is.
    pub kinds: [TimeKind; 2],
    /// Smallest difference of left and right time; `None`: there is none, and left rows are kept for ever.
    pub lower: Option<i64>,
    /// Greatest difference of left and right time; `None`: there is none, and right rows are kept for ever.
    pub upper: Option<i64>,
    /// The sources whose watermarks bound both times, ascending.
    pub sources: Vec<TimeSource>,
}

impl JoinInterval {
    /// The first and the last time that rows of the other side have which match a row of `side` with this time.
    pub fn reach(&self, side: usize, time: i64) -> (i64, i64) {
        let minus = |bound: Option<i64>, open: i64| bound.map_or(open, |bound| time.saturating_sub(bound));
        let plus = |bound: Option<i64>, open: i64| bound.map_or(open, |bound| time.saturating_add(bound));
        match side {
            0 => (minus(self.upper, i64::MIN), minus(self.lower, i64::MAX)),
            _ => (plus(self.lower, i64::MIN), plus(self.upper, i64::MAX)),
        }
    }

    /// How long after its time a row of `side` is done with: when the watermark has reached the sum. `None`: never.
    pub fn keeps(&self, side: usize) -> Option<i64> {
        let after = self.kinds.map(TimeKind::closes_after);
        let last = match side {
            0 => self.lower.map(|lower| after[1].saturating_sub(lower)),
            _ => self.upper.map(|upper| after[0].saturating_add(upper)),
        };
        last.map(|last| last.max(after[side]))
    }

    /// By how much a row may be given after the watermark has passed its time on `side`: its match may come that much later.
    /// Of a side without a bound nothing can be said; its late comers are late for what reads them.
    pub fn delay(&self, side: usize) -> i64 {
        let after = self.kinds[side].closes_after();
        self.keeps(side).map_or(0, |keeps| keeps.saturating_sub(after))
    }

    /// Whether it is known at some time of every row that is given without a match that it has none.
    pub fn tells(&self, kind: JoinKind) -> bool {
        (0..2).all(|side| !kind.keeps()[side] || self.keeps(side).is_some())
    }

    /// Whether rows of both sides are freed.
    pub fn is_bounded(&self) -> bool {
        self.lower.is_some() && self.upper.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Left from 2 before to 10 after right.
    fn interval() -> JoinInterval {
        let kinds = [TimeKind::Event; 2];
        JoinInterval { columns: [0, 0], kinds, lower: Some(-2), upper: Some(10), sources: vec![TimeSource::of(0)] }
    }

    #[test]
    fn rows_are_kept_while_the_other_side_may_reach_them() {
        let interval = interval();
        assert_eq!((interval.reach(0, 100), interval.reach(1, 100)), ((90, 102), (98, 110)));
        // A right row at 102 matches the left row at 100; it is over when the watermark is 103.
        assert_eq!((interval.keeps(0), interval.keeps(1)), (Some(3), Some(11)));
        assert_eq!((interval.delay(0), interval.delay(1)), (2, 10));
    }

    #[test]
    fn a_side_that_only_looks_back_is_done_with_when_its_own_time_is_over() {
        let interval = JoinInterval { lower: Some(5), ..interval() };
        assert_eq!((interval.keeps(0), interval.delay(0)), (Some(1), 0));
    }

    #[test]
    fn without_a_bound_rows_are_never_done_with() {
        let interval = JoinInterval { upper: None, ..interval() };
        assert_eq!((interval.reach(0, 7), interval.keeps(1), interval.is_bounded()), ((i64::MIN, 9), None, false));
    }

    #[test]
    fn windows_are_over_at_their_end() {
        let kinds = [TimeKind::Event, TimeKind::WindowEnd { size: 10 }];
        let interval = JoinInterval { kinds, lower: Some(-10), upper: Some(0), ..interval() };
        assert_eq!((interval.keeps(0), interval.keeps(1)), (Some(10), Some(1)));
        let kinds = [TimeKind::Event, TimeKind::WindowStart { size: 10 }];
        let interval = JoinInterval { kinds, lower: Some(0), upper: Some(10), ..interval };
        assert_eq!((interval.keeps(0), interval.keeps(1)), (Some(10), Some(11)));
    }
}
