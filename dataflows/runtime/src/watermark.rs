//! Event time of a feed: what each partition's watermark is, when a partition is idle, and what the feed says as a whole.
//!
//! Each partition keeps the largest watermark of the rows it has *given* (not of those it has only read). The feed's
//! watermark is the smallest of its partitions: a row of the slowest partition must not be late because a faster one ran
//! ahead. Two kinds of partition do not take part:
//!
//! - a **finished** one: nothing of it can come late any more;
//! - an **idle** one: its reader stood at its log's end for `idle_timeout`. Only the reader's own word counts. A
//!   partition that is not asked (backpressure), or cannot answer (a broker is away), is slow, and slow is not idle.
//!
//! ```text
//! read something ──► Reading ◄── read failed          idle: AtEnd with last - since >= idle_timeout
//!                      │  ▲
//!         at the end   ▼  │ read something
//!                    AtEnd { since, last } ──► Finished
//! ```
//!
//! Everything here is a function of its arguments; there is no clock in this file. That the source's watermark never
//! goes back, and how it advances while every partition is idle, is the engine's part.

use std::time::Duration;

use highwater_engine::FeedState;

/// How a partition takes part in its feed's watermark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activity {
    /// Holds the feed's watermark back to its own.
    Active,
    /// Does not hold it back for now.
    Idle,
    /// Does not hold it back any more.
    Finished,
}

/// What is known of one partition's event time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PartitionWatermark {
    max: Option<i64>,
    position: Position,
}

/// What the partition's reader last said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Position {
    Reading,
    AtEnd { since: Duration, last: Duration },
    Finished,
}

impl PartitionWatermark {
    /// A partition of which nothing is known.
    pub(crate) fn new() -> Self {
        PartitionWatermark { max: None, position: Position::Reading }
    }

    /// The largest watermark of the rows given, in microseconds.
    pub(crate) fn max(&self) -> Option<i64> {
        self.max
    }

    /// Rows with this largest watermark were given.
    pub(crate) fn advance(&mut self, watermark: Option<i64>) {
        self.max = self.max.max(watermark);
    }

    /// The reader gave something, waits, or failed: whichever, it is not known to stand at the log's end.
    pub(crate) fn reading(&mut self) {
        self.position = Position::Reading;
    }

    /// The reader said at `now` that it stands at the log's end.
    pub(crate) fn at_end(&mut self, now: Duration) {
        self.position = match self.position {
            Position::AtEnd { since, .. } => Position::AtEnd { since, last: now },
            Position::Reading | Position::Finished => Position::AtEnd { since: now, last: now },
        };
    }

    /// The reader will give nothing ever again.
    pub(crate) fn finish(&mut self) {
        self.position = Position::Finished;
    }

    /// How it takes part; without an `idle_timeout` no partition is ever idle.
    pub(crate) fn activity(&self, idle_timeout: Option<Duration>) -> Activity {
        match (self.position, idle_timeout) {
            (Position::Finished, _) => Activity::Finished,
            (Position::AtEnd { since, last }, Some(timeout)) if last.saturating_sub(since) >= timeout => Activity::Idle,
            _ => Activity::Active,
        }
    }

    /// When the reader must be asked again so that the partition becomes idle in time; `None` if nothing hangs on it.
    pub(crate) fn idle_at(&self, idle_timeout: Option<Duration>) -> Option<Duration> {
        match (self.position, self.activity(idle_timeout)) {
            (Position::AtEnd { since, .. }, Activity::Active) => idle_timeout.map(|timeout| since.saturating_add(timeout)),
            _ => None,
        }
    }
}

/// What a feed says of event time, given its partitions. A feed without partitions that could ever have one
/// (`bounded`) has finished; another one waits.
pub(crate) fn feed_state<'a>(
    partitions: impl Iterator<Item = &'a PartitionWatermark> + Clone,
    idle_timeout: Option<Duration>,
    bounded: bool,
) -> FeedState {
    let with = |wanted: Activity| partitions.clone().filter(move |partition| partition.activity(idle_timeout) == wanted);
    let seen = || partitions.clone().filter_map(|partition| partition.max).max().unwrap_or(i64::MIN);
    if let Some(watermark) = with(Activity::Active).map(|partition| partition.max.unwrap_or(i64::MIN)).min() {
        FeedState::Active(watermark)
    } else if with(Activity::Idle).next().is_some() {
        FeedState::Idle(seen())
    } else if partitions.clone().next().is_none() && !bounded {
        FeedState::Active(i64::MIN)
    } else {
        FeedState::Finished
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Option<Duration> = Some(Duration::from_secs(10));

    /// Plays a script on one partition: `r` reads, `f` fails, `w7` gives rows with watermark 7, `e3` is at the end at
    /// second 3, `x` finishes.
    fn play(script: &str) -> PartitionWatermark {
        let mut partition = PartitionWatermark::new();
        for word in script.split_whitespace() {
            let number = || word[1..].parse::<i64>().unwrap();
            match &word[..1] {
                "r" | "f" => partition.reading(),
                "w" => partition.advance(Some(number())),
                "e" => partition.at_end(Duration::from_secs(number() as u64)),
                "x" => partition.finish(),
                other => panic!("no word {other}"),
            }
        }
        partition
    }

    #[test]
    fn a_partition_is_idle_only_by_its_readers_own_word() {
        use Activity::*;
        let cases = [
            ("", Active, "nothing known"),
            ("e0", Active, "at the end just now"),
            ("e0 e9", Active, "at the end for nine seconds"),
            ("e0 e10", Idle, "at the end for ten"),
            ("e0 e30", Idle, "not asked in between, and still at the end: nothing had come"),
            ("e0 e10 r w5", Active, "rows came"),
            ("e0 e10 f", Active, "it cannot answer, so nobody knows"),
            ("e0 e9 r e10 e15", Active, "rows start the count again"),
            ("e0 e10 e20", Idle, "stays idle"),
            ("e0 x", Finished, "finished"),
        ];
        for (script, expected, why) in cases {
            assert_eq!(play(script).activity(TIMEOUT), expected, "{script}: {why}");
        }
        assert_eq!(play("e0 e999").activity(None), Active, "never idle without a timeout");
        assert_eq!(play("e0").activity(Some(Duration::ZERO)), Idle, "idle at once with a timeout of zero");
    }

    #[test]
    fn the_reader_is_asked_again_when_it_would_become_idle() {
        assert_eq!(play("e3").idle_at(TIMEOUT), Some(Duration::from_secs(13)));
        assert_eq!(play("e3 e8").idle_at(TIMEOUT), Some(Duration::from_secs(13)));
        assert_eq!(play("e3 e13").idle_at(TIMEOUT), None);
        assert_eq!(play("r").idle_at(TIMEOUT), None);
        assert_eq!(play("e3").idle_at(None), None);
    }

    #[test]
    fn a_feed_is_as_far_as_its_slowest_active_partition() {
        use FeedState::*;
        let cases: [(&[&str], FeedState, &str); 11] = [
            (&["w5"], Active(5), "one partition"),
            (&["w5", "w3"], Active(3), "the slowest counts"),
            (&["w5 w2"], Active(5), "a watermark never goes back"),
            (&["w5", ""], Active(i64::MIN), "nothing is known of one"),
            (&["w5", "w3 e0 e10"], Active(5), "the slow one is idle"),
            (&["w5", "w3 x"], Active(5), "the slow one has finished"),
            (&["w5 e0 e10", "w3 e0 e10"], Idle(5), "all idle: what was seen stays known"),
            (&["w5 x", "w3 e0 e10"], Idle(5), "finished or idle"),
            (&["e0 e10"], Idle(i64::MIN), "idle from the start"),
            (&["w5 x", "x"], Finished, "all finished"),
            (&["w5", "w3 e0 e10 r"], Active(3), "it holds back again as soon as it has rows"),
        ];
        for (scripts, expected, why) in cases {
            let partitions: Vec<PartitionWatermark> = scripts.iter().map(|script| play(script)).collect();
            assert_eq!(feed_state(partitions.iter(), TIMEOUT, true), expected, "{scripts:?}: {why}");
        }
    }

    #[test]
    fn a_feed_without_partitions_finishes_if_it_is_bounded() {
        assert_eq!(feed_state([].iter(), TIMEOUT, true), FeedState::Finished);
        assert_eq!(feed_state([].iter(), TIMEOUT, false), FeedState::Active(i64::MIN));
    }
}
