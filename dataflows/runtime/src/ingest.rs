//! Reads a source: backpressure, fairness between partitions, rejects, and what each epoch is told of event time.
//!
//! A [`SourceFeed`] is one source on one worker. The engine asks it for rows while few enough epochs are open, and it asks
//! its partitions in turn; so when the dataflow is slow nobody asks, nothing queues, and the backlog stays where it came
//! from. At most one batch per partition is at hand here: the rest of one that did not fit into its epoch.
//!
//! ```text
//! engine ── poll ──► SourceFeed ── in turn ──► partition ── poll ──► PartitionReader
//!                        │                        │  judged by event time, cut to the epoch (batch, event_time, pace)
//!        FeedBatch ◄─────┴──── piece ◄────────────┘
//! ```
//!
//! A failure that may pass is retried ([`crate::retry`]); meanwhile the partition holds back the watermark. One that cannot pass
//! stops the reading of the whole job ([`crate::status::Fault`]). It does not *finish* the feed: finishing means that nothing was
//! missed, and would close every window.

mod partition;
mod stood;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use highwater_engine::{Again, EpochRecord, Feed, FeedBatch, FeedPoll, FeedState, PartitionPosition, Place};

pub(crate) use self::partition::Partition;
pub(crate) use self::stood::{NoPosition, Stood};
use crate::batch::Piece;
use crate::clock::Clock;
use crate::congestion::Congestion;
use crate::discovery::Mailbox;
use crate::event_time::EventTime;
use crate::pace::{Pace, Turn};
use crate::status::Fault;
use crate::watermark::feed_state;

/// The most rows asked of a reader at once: enough that the cost per batch is nothing, few enough to stay in cache.
const BATCH_ROWS_MAX: usize = 4_096;

/// After how long a feed that is held up looks again, although it is woken when that has passed.
const CONGESTED_WAIT: Duration = Duration::from_millis(100);

/// What all feeds of one source share.
pub(crate) struct SourceContext {
    /// Index into [`highwater_plan::Job::sources`].
    pub(crate) source: usize,
    /// The source's name.
    pub(crate) name: String,
    /// The job's name.
    pub(crate) job: String,
    /// Whether it ends by itself.
    pub(crate) bounded: bool,
    /// Judges rows by their event time; absent without a watermark.
    pub(crate) event_time: Option<EventTime>,
    /// After how long at the log's end a partition is idle; `None`: never.
    pub(crate) idle_timeout: Option<Duration>,
    /// Rows per worker and epoch.
    pub(crate) epoch_rows_max: usize,
    /// Stops the job's reading.
    pub(crate) fault: Arc<Fault>,
    /// Holds it up.
    pub(crate) congestion: Arc<Congestion>,
    /// Tells the time.
    pub(crate) clock: Arc<dyn Clock>,
}

/// One source on one worker.
pub(crate) struct SourceFeed {
    context: Arc<SourceContext>,
    partitions: Vec<Partition>,
    /// Partitions that have appeared.
    mailbox: Arc<Mailbox>,
    /// The partition whose turn it is.
    cursor: usize,
    pace: Pace,
    /// The state last told.
    told: FeedState,
    /// Of an epoch that is gone through again, how many rows each partition has given in all after it.
    until: Option<Vec<Option<u64>>>,
}

impl SourceFeed {
    /// A feed of these partitions.
    pub(crate) fn new(context: Arc<SourceContext>, partitions: Vec<Partition>, mailbox: Arc<Mailbox>) -> Self {
        let pace = Pace::new(context.epoch_rows_max);
        SourceFeed { context, partitions, mailbox, cursor: 0, pace, told: FeedState::Active(i64::MIN), until: None }
    }

    /// Rows of the first partition, from the cursor on, that has some.
    fn next_piece(&mut self, now: Duration, rows_max: usize) -> Option<Result<Piece, NextEpoch>> {
        for _ in 0..self.partitions.len() {
            let partition = &mut self.partitions[self.cursor];
            let room = self.pace.room(rows_max);
            if room == 0 {
                return Some(Err(NextEpoch));
            }
            if let Some(batch) = partition.next(room.min(BATCH_ROWS_MAX), now, &self.context) {
                match self.pace.turn(batch.rows(), batch.whole(), rows_max) {
                    // The cursor stays: the batch is the first of the next epoch.
                    Turn::NextEpoch => {
                        partition.put_back(batch);
                        return Some(Err(NextEpoch));
                    }
                    Turn::Give(rows) => {
                        let piece = partition.give(batch, rows, &self.context);
                        self.pace.gave(piece.rows_and_rejects(), rows_max);
                        self.pass_on();
                        return Some(Ok(piece));
                    }
                }
            }
            self.pass_on();
        }
        None
    }

    fn pass_on(&mut self) {
        self.cursor = (self.cursor + 1) % self.partitions.len();
    }

    fn state(&self) -> FeedState {
        let watermarks = self.partitions.iter().map(Partition::watermark);
        feed_state(watermarks, self.context.idle_timeout, self.context.bounded)
    }

    /// Per partition how many rows it had given in all after an epoch, if it gave it some.
    fn stood_after(&self, record: &EpochRecord) -> Result<Vec<Option<u64>>, NoPosition> {
        let stood = |partition: &Partition| {
            let text = record.read.get(&(self.context.source, partition.name()));
            text.map(|text| text.parse::<Stood>().map(|stood| stood.rows)).transpose()
        };
        self.partitions.iter().map(stood).collect()
    }

    fn pending(&mut self, wait: Option<Duration>) -> FeedPoll {
        self.pace.next_epoch();
        FeedPoll::Pending(wait)
    }
}

/// Nothing more fits into this epoch.
struct NextEpoch;

impl Feed for SourceFeed {
    fn positions(&self) -> Vec<PartitionPosition> {
        self.partitions.iter().map(Partition::position).collect()
    }

    fn moved(&mut self) -> Vec<PartitionPosition> {
        let moved = self.partitions.iter_mut().filter_map(|partition| partition.has_moved().then(|| partition.position()));
        moved.collect()
    }

    fn again(&mut self, record: &EpochRecord) -> Again {
        if self.context.fault.reason().is_some() {
            return Again::Pending(None);
        }
        if self.context.congestion.is_set() {
            return Again::Pending(Some(CONGESTED_WAIT));
        }
        self.partitions.extend(self.mailbox.take());
        let until = match self.until.take() {
            Some(until) => until,
            None => match self.stood_after(record) {
                Ok(until) => until,
                Err(error) => return Again::Failed(error.to_string()),
            },
        };
        let now = self.context.clock.elapsed();
        let (mut waits, mut wait) = (false, None::<Duration>);
        for (partition, rows) in self.partitions.iter_mut().zip(&until) {
            let Some(rows) = rows.filter(|rows| partition.rows() < *rows) else { continue };
            match partition.again(record.epoch, rows, now, &self.context) {
                Err(why) => return Again::Failed(why),
                Ok(Some(piece)) => {
                    self.until = Some(until);
                    return Again::Ready(batch_of(piece, FeedState::Active(i64::MIN)));
                }
                Ok(None) => {
                    waits = true;
                    let next = partition.ask_again_at().map(|at| at.saturating_sub(now));
                    wait = [wait, next].into_iter().flatten().min();
                }
            }
        }
        if !waits {
            return Again::Done;
        }
        self.until = Some(until);
        Again::Pending(wait)
    }

    fn poll(&mut self, rows_max: usize) -> FeedPoll {
        if self.told == FeedState::Finished || self.context.fault.reason().is_some() {
            return self.pending(None);
        }
        if self.context.congestion.is_set() {
            return self.pending(Some(CONGESTED_WAIT));
        }
        self.partitions.extend(self.mailbox.take());
        let now = self.context.clock.elapsed();
        let piece = match self.next_piece(now, rows_max) {
            Some(Err(NextEpoch)) => return self.pending(Some(Duration::ZERO)),
            Some(Ok(piece)) => Some(piece),
            None if self.context.fault.reason().is_some() || self.state() == self.told => {
                let next = self.partitions.iter().filter_map(Partition::ask_again_at).min();
                return self.pending(next.map(|at| at.saturating_sub(now)));
            }
            None => None,
        };
        self.told = self.state();
        FeedPoll::Ready(match piece {
            Some(piece) => batch_of(piece, self.told),
            None => batch_of_none(self.told),
        })
    }
}

fn batch_of(piece: Piece, state: FeedState) -> FeedBatch {
    let receipt = piece.end.and_then(|end| end.receipt).map(|receipt| receipt.0);
    FeedBatch {
        deltas: piece.delta.into_iter().collect(),
        rejects: piece.rejects.into_iter().collect(),
        receipts: receipt.into_iter().collect(),
        place: piece.place,
        state,
    }
}

/// Of a change of state without rows.
fn batch_of_none(state: FeedState) -> FeedBatch {
    FeedBatch { deltas: Vec::new(), rejects: Vec::new(), receipts: Vec::new(), place: Place::default(), state }
}
