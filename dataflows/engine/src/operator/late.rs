//! Refuses rows whose windows are closed, and keeps them.
//!
//! In epoch `e` a window is closed when its end, plus the allowed lateness, is at or before the watermark of the epoch
//! before. A row all of whose windows are closed goes no further; one that still has an open window goes on and counts
//! there. Both are kept in `<source>$late` with the windows they missed. Rows without a time are in no window: they go to
//! `$errors`.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::buffer::BooleanBuffer;
use highwater_plan::{Micros, PROCESSING_TIME, TimeKind, TimeSource, WindowAssign};

use super::epoch::EpochLogic;
use super::sides::{Errors, LateRows, Missed};
use super::window::NULL_TIME;
use super::windowed::split;
use crate::checkpoint::Keeps;
use crate::stats::{JobStats, OperatorStats};
use crate::{Delta, Time};

/// How a row's windows are found.
#[derive(Debug, Clone)]
pub(crate) enum RowWindows {
    /// From a time column.
    Assign(WindowAssign),
    /// From a column that has a bound of its only window.
    Bound {
        /// The column.
        column: usize,
        /// Which bound.
        kind: TimeKind,
    },
}

impl RowWindows {
    fn column(&self) -> usize {
        match self {
            RowWindows::Assign(assign) => assign.time,
            RowWindows::Bound { column, .. } => *column,
        }
    }

    /// Per row: the time that its windows are assigned by or, for bounds, the bound; in microseconds.
    pub(crate) fn times(&self, delta: &Delta) -> Micros {
        Micros::new(delta.rows.column(self.column())).expect("planners take windows from timestamps")
    }

    /// The smallest and the largest of [`RowWindows::times`].
    fn extent(&self, delta: &Delta) -> Option<(i64, i64)> {
        delta.extent(self.column())
    }

    /// The end of the window whose bound is `value`.
    pub(crate) fn end_of_bound(kind: TimeKind, value: i64) -> i64 {
        value.saturating_add(kind.closes_after())
    }

    /// Ends of the first and last window of a row with this time, and the distance between two; `None` if it is in none.
    fn ends(&self, time: i64) -> Option<(i64, i64, i64)> {
        match self {
            RowWindows::Assign(assign) => assign.kind.ends(time).map(|(first, last)| (first, last, assign.kind.slide())),
            RowWindows::Bound { kind, .. } => {
                let end = Self::end_of_bound(*kind, time);
                Some((end, end, 1))
            }
        }
    }

    /// Splits a batch by the start of the last slide that its rows fall in or, for bounds, by their window's end; no time is
    /// NULL.
    pub(crate) fn split(&self, delta: &Delta) -> Vec<(i64, Delta)> {
        self.split_within(delta, &self.times(delta), self.extent(delta))
    }

    /// [`RowWindows::split`] where the first and the last time are known.
    fn split_within(&self, delta: &Delta, times: &Micros, extent: Option<(i64, i64)>) -> Vec<(i64, Delta)> {
        match self {
            RowWindows::Bound { kind, .. } => {
                let end = |time| Self::end_of_bound(*kind, time);
                split_by(delta, extent, end, |row, _| end(times.value(row)))
            }
            RowWindows::Assign(assign) => {
                let slide = assign.kind.slide();
                let start = |time| assign.kind.last_start(time);
                split_by(delta, extent, start, |row, last| {
                    let time = times.value(row);
                    match last {
                        // Next to each other rows are mostly in one window: a division saved.
                        Some(last) if last <= time && time < last + slide => last,
                        _ => start(time),
                    }
                })
            }
        }
    }

    /// The column and the greatest time of rows whose windows are all over, which end at or before `closed`.
    pub(crate) fn freed(&self, closed: i64) -> (usize, i64) {
        let after = match self {
            RowWindows::Assign(assign) => assign.kind.size(),
            RowWindows::Bound { kind, .. } => kind.closes_after(),
        };
        (self.column(), closed.saturating_sub(after))
    }

    /// The start of the window that ends at `end`.
    fn start_of(&self, end: i64) -> i64 {
        match self {
            RowWindows::Assign(assign) => assign.kind.start_of(end),
            RowWindows::Bound { kind, .. } => match kind {
                TimeKind::WindowStart { size } | TimeKind::WindowEnd { size } => end - size,
                TimeKind::Event => end,
            },
        }
    }
}

/// [`split`] by a key that grows with time: if the first and the last instant have one key, so has every row.
fn split_by(
    delta: &Delta,
    extent: Option<(i64, i64)>,
    of_time: impl Fn(i64) -> i64,
    of_row: impl Fn(usize, Option<i64>) -> i64,
) -> Vec<(i64, Delta)> {
    match extent.map(|(least, greatest)| (of_time(least), of_time(greatest))) {
        None => Vec::new(),
        Some((first, last)) if first == last => vec![(first, delta.clone())],
        Some(_) => split(delta, of_row),
    }
}

/// Splits off what comes too late.
pub(crate) struct LateGate {
    pub(crate) windows: RowWindows,
    pub(crate) lateness: i64,
    pub(crate) late: LateRows,
    pub(crate) errors: Errors,
    pub(crate) stats: Arc<OperatorStats>,
    pub(crate) job: Arc<JobStats>,
    /// Whether another worker, which has the same rows, tells of them.
    pub(crate) silent: bool,
    /// What was let in since the last checkpoint, if that is to be in the next one, and the greatest time of each.
    pub(crate) admitted: Option<RefCell<Vec<(Delta, i64)>>>,
}

impl LateGate {
    /// The updates of an epoch as they are to be split. What tables take back is no late row, nor what they give anew as it
    /// was: both are seen only together.
    pub(crate) fn at_once(&self, deltas: Vec<Delta>) -> Vec<Delta> {
        if self.silent || !self.late.before_images || deltas.len() < 2 || deltas.iter().all(|delta| delta.diffs.is_none()) {
            return deltas;
        }
        vec![Delta::concat(&deltas)]
    }

    /// [`LateGate::split`], then [`RowWindows::split`].
    pub(crate) fn windows_of(&self, epoch: Time, delta: Delta, watermark: i64) -> Vec<(i64, Delta)> {
        let times = self.windows.times(&delta);
        let extent = self.windows.extent(&delta);
        let closed = watermark.saturating_sub(self.lateness);
        match times.null_count() == 0 && (watermark == i64::MIN || self.all_open(extent, closed)) {
            true => {
                self.admit(&delta, extent);
                self.windows.split_within(&delta, &times, extent)
            }
            false => self.windows.split(&self.split(epoch, delta, watermark)),
        }
    }

    /// The rows of `delta` that have an open window, given the watermark of the epoch before.
    pub(crate) fn split(&self, epoch: Time, delta: Delta, watermark: i64) -> Delta {
        let times = self.windows.times(&delta);
        let closed = watermark.saturating_sub(self.lateness);
        let needed = watermark != i64::MIN || self.admitted.is_some();
        let extent = needed.then(|| self.windows.extent(&delta)).flatten();
        if times.null_count() == 0 && (watermark == i64::MIN || self.all_open(extent, closed)) {
            self.admit(&delta, extent);
            return delta;
        }
        let (mut missed, mut without_time) = (Vec::new(), Vec::new());
        let keep = BooleanBuffer::collect_bool(delta.len(), |row| {
            if times.is_null(row) {
                without_time.push(row as u32);
                return false;
            }
            let Some((first, last, slide)) = self.windows.ends(times.value(row)) else { return false };
            if first > closed {
                return true;
            }
            // At the end of the input the watermark is infinite.
            let to = last.min(first.saturating_add(closed.saturating_sub(first) / slide * slide));
            let windows = to.saturating_sub(first) / slide + 1;
            missed.push(Missed { row: row as u32, from: self.windows.start_of(first), to, windows });
            last > closed
        });
        let missed = if self.silent { Vec::new() } else { self.late.rows_that_came(&delta, missed) };
        if !missed.is_empty() {
            let source = self.late.keep(epoch, &delta, &missed, watermark);
            self.stats.late_rows.fetch_add(missed.len() as u64, Ordering::Relaxed);
            self.job.sources[source].late_rows.fetch_add(missed.len() as u64, Ordering::Relaxed);
        }
        if !without_time.is_empty() && !self.silent {
            self.stats.error_rows.fetch_add(without_time.len() as u64, Ordering::Relaxed);
            self.errors.report(epoch, &delta, &without_time, NULL_TIME, None);
        }
        let kept = if keep.count_set_bits() == delta.len() { delta } else { delta.filter(&keep) };
        if self.admitted.is_some() {
            self.admit(&kept, self.windows.extent(&kept));
        }
        kept
    }

    fn admit(&self, delta: &Delta, extent: Option<(i64, i64)>) {
        if let (Some(admitted), Some((_, greatest))) = (&self.admitted, extent) {
            admitted.borrow_mut().push((Delta::of(delta.rows.clone(), delta.diffs.clone()), greatest));
        }
    }

    /// Takes what it let in, of an operator that is saved, since this was asked last; without what was freed meanwhile.
    pub(crate) fn take_admitted(&self) -> Vec<Delta> {
        let admitted = self.admitted.as_ref().map(RefCell::take).unwrap_or_default();
        admitted.into_iter().map(|(delta, _)| delta).collect()
    }

    /// Rows that have at most this in a column need not be saved any more. If it is the column that it goes by, they are let go of
    /// at once: whatever waits for a checkpoint is memory that is not used again, and so not in the cache.
    pub(crate) fn forget_admitted(&self, column: usize, bound: i64) {
        let Some(admitted) = self.admitted.as_ref().filter(|_| column == self.windows.column()) else { return };
        let mut admitted = admitted.borrow_mut();
        let freed = admitted.iter().take_while(|(_, greatest)| *greatest <= bound).count();
        admitted.drain(..freed);
    }

    /// [`RowWindows::freed`].
    pub(crate) fn freed(&self, closed: i64) -> Option<(usize, i64)> {
        Some(self.windows.freed(closed))
    }

    fn all_open(&self, extent: Option<(i64, i64)>, closed: i64) -> bool {
        extent.is_none_or(|(least, _)| self.windows.ends(least).is_some_and(|(first, ..)| first > closed))
    }
}

/// [`LateGate`] as an operator of its own, on the worker that read the row: before an exchange, while the source row is
/// still at hand.
pub(crate) struct LateSplit {
    pub(crate) gate: LateGate,
    pub(crate) watermark: Watermark,
}

impl EpochLogic for LateSplit {
    fn apply(&mut self, epoch: Time, inputs: &mut [Vec<Delta>], watermarks: Option<&[i64]>, output: &mut Vec<Delta>) {
        for delta in self.gate.at_once(std::mem::take(&mut inputs[0])) {
            output.push(self.gate.split(epoch, delta, self.watermark.current));
        }
        self.watermark.advance(watermarks);
    }

    fn keeps(&self) -> Keeps {
        Keeps::Nothing
    }
}

/// The watermark that an operator goes by: the smallest of some sources'.
#[derive(Debug, Clone)]
pub(crate) struct Watermark {
    sources: Vec<TimeSource>,
    /// As of the last epoch applied, in microseconds.
    pub(crate) current: i64,
}

impl Watermark {
    /// Nothing is known yet of these sources.
    pub(crate) fn of(sources: Vec<TimeSource>) -> Self {
        Watermark { sources, current: i64::MIN }
    }

    /// Whether it is processing time.
    pub(crate) fn goes_by_clock(&self) -> bool {
        self.sources == [TimeSource::of(PROCESSING_TIME)]
    }

    /// The epoch as of which the watermark has reached `when`, if it goes by the clock alone.
    pub(crate) fn due(&self, when: i64) -> Option<Time> {
        let millis = when.saturating_add(999).div_euclid(1_000).saturating_sub(1);
        (self.goes_by_clock() && self.current < when).then(|| Time::try_from(millis).unwrap_or(0))
    }

    /// Takes the watermarks as of the epoch just applied.
    pub(crate) fn advance(&mut self, watermarks: Option<&[i64]>) {
        if let Some(watermarks) = watermarks {
            let of = |time: &TimeSource| {
                time.watermark(match time.source {
                    PROCESSING_TIME => *watermarks.last().expect("a job with processing time has its watermark"),
                    source => watermarks[source],
                })
            };
            let least = self.sources.iter().map(of).min();
            self.current = self.current.max(least.unwrap_or(i64::MIN));
        }
    }
}
