//! What the watermark frees: rows that no later row can concern, and that no result needs to go on from.

use highwater_plan::{FrameBound, FrameUnits, OverFunction};

use super::{Moment, Table};
use crate::operator::over::evaluate::Prepared;
use crate::operator::over::frames::{frame_of, micros};

impl Table {
    /// Drops rows of a partition that nothing can need any more, and notes when to look again.
    pub(super) fn forget(&mut self, number: u32, moment: Moment) {
        let closed = self.final_at(number, moment.closed);
        let reach = self.reach();
        let free = self.free(number, closed, reach, moment);
        let due = if free < self.ordered(number).len() { Some(self.next_due(number, reach, moment)) } else { None };
        for row in self.partitions[number as usize].list.drain_front(free) {
            self.note_change(number, row);
            self.given[row as usize] = None;
            self.failing.remove(&row);
            self.rows.drop(row);
        }
        let partition = &mut self.partitions[number as usize];
        partition.given -= free.min(partition.given);
        partition.closed = closed.saturating_sub(free);
        if let Some(old) = std::mem::replace(&mut partition.due, due) {
            self.due.remove(&(old, number));
        }
        self.due.extend(due.map(|due| (due, number)));
    }

    /// How long a row concerns rows that come later, in microseconds, if that is known.
    fn reach(&self) -> Option<i64> {
        let of = |call: &Prepared| match (&call.call.function, call.call.frame.units, call.call.frame.start) {
            (OverFunction::Nth { .. } | OverFunction::Aggregate(_), FrameUnits::Range, FrameBound::Offset(start)) => {
                Some(micros((-start).max(0), self.shared.unit))
            }
            _ => None,
        };
        self.shared.calls.iter().map(of).collect::<Option<Vec<i64>>>().and_then(|all| all.into_iter().max())
    }

    /// How many of a partition's first rows nothing can need any more; the first `closed` cannot change.
    fn free(&self, number: u32, closed: usize, reach: Option<i64>, moment: Moment) -> usize {
        let of = self.ordered(number);
        let all_closed = closed == of.len();
        if moment.closed == i64::MAX
            || all_closed
                && reach.zip(self.last_time(number)).is_some_and(|(reach, last)| last.saturating_add(reach) < moment.closed)
        {
            return of.len();
        }
        let Some(last_closed) = closed.checked_sub(1) else { return 0 };
        let row = [of.list.get(last_closed)];
        let frame = |call: &Prepared| {
            let ranges = self.shared.ranges(&call.call, &self.rows, &row, false);
            frame_of(call.call.frame, of, last_closed, ranges.as_ref().map(|ranges| (ranges, 0)))
        };
        // The first row that the last closed one needs, to go on from it.
        let start = |call: &Prepared| match (&call.call.function, call.call.frame.start) {
            (OverFunction::Shift { offset, .. }, _) => {
                (last_closed as i128 + i128::from((*offset).min(0))).clamp(0, last_closed as i128) as usize
            }
            (OverFunction::Nth { position: -1, .. }, _) => frame(call).1.saturating_sub(1),
            (OverFunction::Ranking(_), _) | (_, FrameBound::Unbounded) => last_closed,
            _ => frame(call).0,
        };
        self.shared.calls.iter().map(start).min().unwrap_or(0).min(last_closed)
    }

    fn last_time(&self, number: u32) -> Option<i64> {
        let list = &self.partitions[number as usize].list;
        list.len().checked_sub(1).map(|last| self.times[list.get(last) as usize])
    }

    /// The watermark at which something more of a partition is final or can go.
    fn next_due(&self, number: u32, reach: Option<i64>, moment: Moment) -> i64 {
        let of = self.ordered(number);
        // Frames of rows or groups wait for what follows, or for the end.
        let mut due = i64::MAX;
        let mut at = |time: i64| due = due.min(time);
        let lateness = moment.watermark.saturating_sub(moment.closed);
        let reached = self.shared.plan.calls.iter().map(|call| match (&call.function, call.frame.units, call.frame.end) {
            (OverFunction::Nth { .. } | OverFunction::Aggregate(_), FrameUnits::Range, FrameBound::Offset(end)) => {
                micros(end.max(0), self.shared.unit)
            }
            _ => 0,
        });
        let behind = reached.max().unwrap_or(0);
        for late in [0, lateness] {
            let before = moment.watermark.saturating_sub(late);
            let next = of.list.partition_point(|row| self.times[row as usize].saturating_add(behind) < before);
            let passed = of.list.partition_point(|row| self.times[row as usize] < before);
            for (position, more) in [(next, behind), (passed, 0)] {
                if position < of.len() {
                    let time = self.times[of.list.get(position) as usize];
                    at(time.saturating_add(more).saturating_add(late).saturating_add(1));
                }
            }
        }
        if let Some((reach, last)) = reach.zip(self.last_time(number)) {
            at(last.saturating_add(reach).saturating_add(lateness).saturating_add(1));
        }
        due.max(moment.watermark.saturating_add(1))
    }
}
