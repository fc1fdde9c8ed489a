//! The watermark as a function of the epoch.
//!
//! Every feed records what it has seen as part of an epoch's data ([`Mark`]). When the frontier has passed `e`, every
//! worker holds the same records up to `e` and so computes the same watermark `W(e)` per source: the smallest over the
//! feeds that are not idle. `W` never decreases. If all feeds of a source are idle, its watermark goes on from where it
//! stood at the pace of the epochs, which are wall-clock milliseconds, but never further than a new row of the same age
//! would put it: so the last window closes without a new event, and a replay of history is not cut off.

use serde::{Deserialize, Serialize};

use crate::checkpoint::Clock;
use crate::{FeedState, Time};

/// What one feed says as of an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    /// Which feed, among all workers' of the job; none in [`Mark::TICK`].
    pub(crate) feed: u32,
    /// What it says: watermark, and whether it holds the source back.
    pub(crate) state: MarkState,
}

impl Mark {
    /// The feed of a mark that only says that there is an epoch.
    const NONE: u32 = u32::MAX;

    /// Says nothing of any feed: a worker whose feeds have nothing to say tells the others of an epoch all the same.
    pub(crate) const TICK: Mark = Mark { feed: Self::NONE, state: MarkState::Finished };
}

/// [`FeedState`] as it travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum MarkState {
    Active(i64),
    Idle(i64),
    Finished,
}

impl From<FeedState> for MarkState {
    fn from(state: FeedState) -> Self {
        match state {
            FeedState::Active(watermark) => MarkState::Active(watermark),
            FeedState::Idle(watermark) => MarkState::Idle(watermark),
            FeedState::Finished => MarkState::Finished,
        }
    }
}

/// Computes `W(e)` per source from the marks up to `e`.
#[derive(Debug)]
pub(crate) struct Watermarks {
    /// Per feed its source and last mark.
    feeds: Vec<(usize, MarkState)>,
    /// Per source its watermark; then that of processing time, if the job goes by it.
    current: Vec<i64>,
    sources: usize,
    /// Per source, while all its feeds are idle: the epoch and watermark at which that began.
    idle_since: Vec<Option<(Time, i64)>>,
}

impl Watermarks {
    /// For feeds of these sources, of which nothing is known yet. `processing`: processing time has a watermark as well.
    pub(crate) fn new(feeds: &[usize], sources: usize, processing: bool) -> Self {
        Watermarks {
            feeds: feeds.iter().map(|source| (*source, MarkState::Active(i64::MIN))).collect(),
            current: vec![i64::MIN; sources + usize::from(processing)],
            sources,
            idle_since: vec![None; sources],
        }
    }

    /// They go on from these.
    pub(crate) fn resume(&mut self, clock: &Clock) {
        self.current.clone_from(&clock.watermarks);
        self.idle_since.clone_from(&clock.idle_since);
    }

    /// What is known as of the last epoch.
    pub(crate) fn clock(&self) -> Clock {
        Clock { watermarks: self.current.clone(), idle_since: self.idle_since.clone() }
    }

    /// Takes the marks of `epoch` and gives the watermarks per source if one changed.
    pub(crate) fn close(&mut self, epoch: Time, marks: impl IntoIterator<Item = Mark>) -> Option<&[i64]> {
        for mark in marks.into_iter().filter(|mark| mark.feed != Mark::NONE) {
            self.feeds[mark.feed as usize].1 = mark.state;
        }
        let mut changed = false;
        for source in 0..self.current.len() {
            let next = if source < self.sources { self.of_source(source, epoch) } else { self.of_clock(epoch) };
            if next > self.current[source] {
                self.current[source] = next;
                changed = true;
            }
        }
        changed.then_some(&self.current)
    }

    /// They are these, whatever the feeds say; gives the watermarks per source if one changed.
    pub(crate) fn set(&mut self, clock: &Clock) -> Option<&[i64]> {
        let changed = self.current != clock.watermarks;
        self.resume(clock);
        changed.then_some(&self.current)
    }

    fn of_clock(&self, epoch: Time) -> i64 {
        if !self.feeds.is_empty() && self.feeds.iter().all(|(_, state)| *state == MarkState::Finished) {
            return i64::MAX;
        }
        i64::try_from(epoch.saturating_add(1).saturating_mul(1_000)).unwrap_or(i64::MAX)
    }

    fn of_source(&mut self, source: usize, epoch: Time) -> i64 {
        let (mut active, mut seen, mut any_idle) = (None::<i64>, i64::MIN, false);
        for (_, state) in self.feeds.iter().filter(|(of, _)| *of == source) {
            match *state {
                MarkState::Active(watermark) => active = Some(active.map_or(watermark, |least| least.min(watermark))),
                MarkState::Idle(watermark) => {
                    any_idle = true;
                    seen = seen.max(watermark);
                }
                MarkState::Finished => {}
            }
        }
        match (active, any_idle) {
            (Some(watermark), _) => {
                self.idle_since[source] = None;
                watermark
            }
            (None, true) => {
                let (since, from) = *self.idle_since[source].get_or_insert((epoch, seen.max(self.current[source])));
                let passed = epoch.saturating_sub(since).saturating_mul(1_000);
                if from == i64::MIN { from } else { from.saturating_add_unsigned(passed) }
            }
            (None, false) => i64::MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(feed: u32, state: MarkState) -> Mark {
        Mark { feed, state }
    }

    #[test]
    fn the_slowest_active_feed_holds_the_source_back() {
        let mut watermarks = Watermarks::new(&[0, 0, 1], 2, false);
        assert_eq!(watermarks.close(1, [mark(0, MarkState::Active(10))]), None, "the other feed is unknown");
        assert_eq!(watermarks.close(2, [mark(1, MarkState::Active(7))]), Some(&[7, i64::MIN][..]));
        assert_eq!(watermarks.close(3, [mark(1, MarkState::Idle(7))]), Some(&[10, i64::MIN][..]));
        assert_eq!(watermarks.close(4, [mark(1, MarkState::Active(8))]), None, "a watermark never goes back");
        assert_eq!(
            watermarks.close(5, [mark(0, MarkState::Finished), mark(1, MarkState::Finished)]),
            Some(&[i64::MAX, i64::MIN][..])
        );
    }

    #[test]
    fn an_idle_source_goes_on_at_the_pace_of_the_epochs() {
        let mut watermarks = Watermarks::new(&[0], 1, false);
        watermarks.close(1_000, [mark(0, MarkState::Active(5_000_000))]);
        assert_eq!(watermarks.close(2_000, [mark(0, MarkState::Idle(5_000_000))]), None);
        assert_eq!(watermarks.close(2_500, []), Some(&[5_500_000][..]));
        assert_eq!(watermarks.close(4_000, []), Some(&[7_000_000][..]));
        assert_eq!(watermarks.close(4_001, [mark(0, MarkState::Active(6_000_000))]), None);
    }

    #[test]
    fn processing_time_is_the_epoch_until_all_have_finished() {
        let mut watermarks = Watermarks::new(&[0, 0], 1, true);
        assert_eq!(watermarks.close(5, []), Some(&[i64::MIN, 6_000][..]));
        assert_eq!(watermarks.close(6, [mark(0, MarkState::Finished)]), Some(&[i64::MIN, 7_000][..]));
        assert_eq!(watermarks.close(7, [mark(1, MarkState::Finished)]), Some(&[i64::MAX, i64::MAX][..]));
    }

    #[test]
    fn a_source_that_never_had_a_row_has_no_watermark_when_idle() {
        let mut watermarks = Watermarks::new(&[0], 1, false);
        assert_eq!(watermarks.close(2_000, [mark(0, MarkState::Idle(i64::MIN))]), None);
        assert_eq!(watermarks.close(9_000, []), None);
    }
}
