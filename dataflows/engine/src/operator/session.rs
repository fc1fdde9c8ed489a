//! Sessions: the rows of a partition that follow each other at most a gap apart.
//!
//! Unlike other windows a session is made by its rows: one more may make it longer or join two, one less may split it. So
//! who puts rows into sessions keeps, per key, an ordered map of the sessions that the watermark has not passed
//! ([`map::Sessions`]). An aggregate over an input that only grows keeps one state per session and adds states up when
//! sessions are joined ([`aggregate::SessionStates`]); everything else keeps the rows as well, in order of time
//! ([`rows::SessionRows`]), and moves the fewer of them when sessions are joined or split.
//!
//! In an epoch new rows come first, then retractions. New rows are cut into runs, and a run that neither touches a kept
//! session nor ends (plus the allowed lateness) after the watermark of the epoch before is late; so whether a row is late
//! does not depend on the order within the epoch. A retraction of a row that is not kept is late as well.

pub(crate) mod aggregate;
pub(crate) mod assign;
mod map;
mod rows;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::{Int64Array, UInt32Array};
use arrow::datatypes::SchemaRef;
use highwater_plan::{Emit, Micros, SessionAssign};

use self::map::{Session, Sessions};
use super::late::Watermark;
use super::sides::{Errors, LateRows, Missed};
use super::window::NULL_TIME;
use crate::delta::OriginRows;
use crate::keys::Keys;
use crate::stats::{JobStats, OperatorStats};
use crate::{Delta, Diff, Time};

/// What every operator with sessions needs.
pub(crate) struct SessionSpec {
    pub(crate) assign: SessionAssign,
    pub(crate) watermark: Watermark,
    /// For how long after its end a session takes rows, in microseconds.
    pub(crate) lateness: i64,
    pub(crate) refused: Refused,
}

/// Where rows go that are in no session.
pub(crate) struct Refused {
    pub(crate) late: LateRows,
    pub(crate) errors: Errors,
    pub(crate) stats: Arc<OperatorStats>,
    pub(crate) job: Arc<JobStats>,
}

/// A row that came too late.
struct LateRow {
    row: u32,
    diff: Diff,
    /// The session that it would have made.
    from: i64,
    to: i64,
}

/// A row of an epoch and where it stands.
#[derive(Clone, Copy)]
struct Entry {
    key: u32,
    time: i64,
    batch: u32,
    row: u32,
}

impl Refused {
    /// Keeps rows of `delta` as late.
    fn late(&self, epoch: Time, delta: &Delta, rows: &[LateRow], watermark: i64) {
        let rows: Vec<&LateRow> = rows.iter().filter(|late| !self.late.before_images || late.diff > 0).collect();
        if rows.is_empty() {
            return;
        }
        let positions: Vec<u32> = rows.iter().map(|late| late.row).collect();
        let origin =
            delta.origin.as_ref().map(|origin| OriginRows { rows: Some(origin.positions(&positions).into()), ..origin.clone() });
        let taken = delta.take(&UInt32Array::from(positions));
        let diffs = Some(Int64Array::from_iter_values(rows.iter().map(|late| late.diff)));
        let missed =
            rows.iter().enumerate().map(|(row, late)| Missed { row: row as u32, from: late.from, to: late.to, windows: 1 });
        let source = self.late.keep(epoch, &Delta { diffs, origin, ..taken }, &missed.collect::<Vec<_>>(), watermark);
        self.stats.late_rows.fetch_add(rows.len() as u64, Ordering::Relaxed);
        self.job.sources[source].late_rows.fetch_add(rows.len() as u64, Ordering::Relaxed);
    }

    fn without_time(&self, epoch: Time, delta: &Delta, rows: &[u32]) {
        if !rows.is_empty() {
            self.stats.error_rows.fetch_add(rows.len() as u64, Ordering::Relaxed);
            self.errors.report(epoch, delta, rows, NULL_TIME, None);
        }
    }
}

impl SessionSpec {
    /// The partitions of rows of `input`, none yet.
    fn keys(&self, input: &SchemaRef) -> Keys {
        let types = self.assign.partition.iter().map(|column| input.field(*column).data_type().clone());
        Keys::new(&types.collect::<Vec<_>>())
    }

    /// Every row that has a time, its partition interned in `keys`; and the partitions of those that have none.
    fn entries(&self, epoch: Time, deltas: &[Delta], keys: &mut Keys) -> (Vec<Entry>, Vec<u32>) {
        let mut entries = Vec::with_capacity(deltas.iter().map(Delta::len).sum());
        let (mut numbers, mut others) = (Vec::new(), Vec::new());
        for (batch, delta) in deltas.iter().enumerate() {
            let times = Micros::new(delta.rows.column(self.assign.time)).expect("planners make sessions of timestamps");
            let mut without_time = Vec::new();
            keys.intern(&delta.columns(&self.assign.partition), delta.len(), &mut numbers);
            for (row, key) in numbers.iter().enumerate() {
                if times.is_null(row) {
                    without_time.push(row as u32);
                    others.push(*key);
                } else {
                    entries.push(Entry { key: *key, time: times.value(row), batch: batch as u32, row: row as u32 });
                }
            }
            self.refused.without_time(epoch, delta, &without_time);
        }
        (entries, others)
    }

    /// When a session with this last row ends.
    fn end(&self, last: i64) -> i64 {
        last.saturating_add(self.assign.gap)
    }

    /// Whether a session with this last row has ended by `watermark` and takes no more rows.
    fn is_closed(&self, last: i64, watermark: i64) -> bool {
        self.closes_at(last) <= watermark && watermark > i64::MIN
    }

    /// When a session with this last row takes no more rows.
    fn closes_at(&self, last: i64) -> i64 {
        self.end(last).saturating_add(self.lateness)
    }

    /// Has the sessions that the epoch has changed looked at in time, and looks at those that the watermark has reached.
    fn pass(&self, sessions: &mut Sessions, emit: Emit) -> Passed {
        let watermark = self.watermark.current;
        let first_look = |last: i64| if emit == Emit::Final { self.end(last) } else { self.closes_at(last) };
        let changed: Vec<u32> = sessions.touched().iter().map(|before| before.slot).collect();
        for slot in changed.into_iter().filter(|slot| sessions.is_live(*slot)).collect::<Vec<_>>() {
            sessions.schedule(slot, first_look(sessions.get(slot).last));
        }
        let mut passed = Passed::default();
        if watermark == i64::MIN {
            return passed;
        }
        for slot in sessions.take_due(watermark) {
            let Session { last, given, .. } = *sessions.get(slot);
            if emit == Emit::Final && !given {
                if self.end(last) > watermark {
                    sessions.schedule(slot, self.end(last));
                    continue;
                }
                sessions.give(slot);
                passed.given.push(slot);
            }
            match self.closes_at(last) {
                when if when > watermark => sessions.schedule(slot, when),
                _ => passed.closed.push(slot),
            }
        }
        passed
    }
}

/// Sessions that the watermark has reached.
#[derive(Default)]
struct Passed {
    /// Their results are final, as far as rows within the allowed lateness do not correct them.
    given: Vec<u32>,
    /// They take no more rows.
    closed: Vec<u32>,
}
