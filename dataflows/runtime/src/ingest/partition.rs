//! One partition of a feed: asks its reader when there is a reason to, and keeps what did not fit into an epoch.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use highwater_connectors::source::{Offset, PartitionId, PartitionReader, Polled, SourceBatch, SourceError, Waker};
use highwater_engine::{PartitionPosition, Place};

use super::SourceContext;
use super::stood::Stood;
use crate::batch::{Batch, Piece};
use crate::retry::backoff;
use crate::status::{LastError, PartitionState, PartitionStatus};
use crate::watermark::{Activity, PartitionWatermark};

/// How often a reader is asked for its backlog, which may cost it a call to the outside.
const BACKLOG_EVERY: Duration = Duration::from_millis(200);

/// A reader and all that is known of it.
pub(crate) struct Partition {
    id: PartitionId,
    /// Where the next row stands.
    place: Place,
    /// Gone when the partition has ended, by itself or by an error.
    reader: Option<Box<dyn PartitionReader>>,
    woken: Arc<AtomicBool>,
    wait: Wait,
    /// Failures in a row.
    failures: u32,
    /// Whether an error has ended it.
    failed: bool,
    /// What did not fit into an epoch.
    rest: Option<Batch>,
    /// Where the last batch ended that was given whole, and how many rows are done with of the one after it.
    offset: Option<Offset>,
    done_after: u64,
    /// So many rows that come next were given before the job was restored.
    skip: u64,
    /// It has given something since that was asked last.
    moved: bool,
    /// The time by which rows are judged; that of the clock if there is none.
    as_of: Option<i64>,
    watermark: PartitionWatermark,
    backlog_at: Option<Duration>,
    status: Arc<PartitionStatus>,
}

/// When the reader is asked next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    /// Whenever its turn comes.
    No,
    /// When it was woken, or at this time.
    Woken(Option<Duration>),
    /// At this time: waking it up does not repair it.
    Until(Duration),
}

impl Partition {
    /// The `position`th partition of its source, whose reader `open` makes; the waker it gets wakes this partition and then
    /// `worker`. `stood`: where it stood when the job's state was saved.
    pub(crate) fn open(
        id: PartitionId,
        position: u32,
        worker: Waker,
        status: Arc<PartitionStatus>,
        stood: Option<Stood>,
        open: impl FnOnce(&PartitionId, Option<&Offset>, Waker) -> Result<Box<dyn PartitionReader>, SourceError>,
    ) -> Result<Self, SourceError> {
        let woken = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&woken);
        let waker: Waker = Arc::new(move || {
            flag.store(true, Ordering::Release);
            worker();
        });
        let mut stood = stood.unwrap_or_default();
        let reader = open(&id, stood.offset.as_ref(), waker)?;
        // Otherwise a restart would take a partition that is still silent for one that has appeared since.
        stood.offset = stood.offset.or_else(|| reader.begins());
        let reader = Some(reader);
        let mut watermark = PartitionWatermark::new();
        watermark.advance(stood.watermark);
        {
            let mut status = status.lock();
            (status.offset, status.watermark) = (stood.offset.as_ref().map(|offset| offset.0.to_string()), stood.watermark);
        }
        Ok(Partition {
            id,
            place: Place { number: stood.rows, partition: position },
            reader,
            woken,
            wait: Wait::No,
            failures: 0,
            failed: false,
            rest: None,
            offset: stood.offset,
            done_after: stood.done_after,
            skip: stood.done_after,
            moved: false,
            as_of: None,
            watermark,
            backlog_at: None,
            status,
        })
    }

    /// What is known of its event time.
    pub(super) fn watermark(&self) -> &PartitionWatermark {
        &self.watermark
    }

    /// Where it stands, as [`Stood`] reads it.
    pub(super) fn position(&self) -> PartitionPosition {
        let stood = Stood {
            offset: self.offset.clone(),
            done_after: self.done_after,
            rows: self.place.number,
            watermark: self.watermark.max(),
        };
        PartitionPosition { partition: self.id.to_string(), position: stood.to_string() }
    }

    /// Which of its source's it is.
    pub(crate) fn number(&self) -> u32 {
        self.place.partition
    }

    /// Its name.
    pub(super) fn name(&self) -> String {
        self.id.to_string()
    }

    /// Whether it has given something since this was asked last.
    pub(super) fn has_moved(&mut self) -> bool {
        std::mem::take(&mut self.moved)
    }

    /// Gives rows of an epoch that was recorded, until it has given so many in all; `None`: it has none yet.
    pub(super) fn again(
        &mut self,
        epoch: u64,
        rows: u64,
        now: Duration,
        context: &SourceContext,
    ) -> Result<Option<Piece>, String> {
        let left = rows.saturating_sub(self.place.number);
        self.as_of = i64::try_from(epoch.saturating_mul(1_000)).ok();
        let batch = self.next(usize::try_from(left).unwrap_or(usize::MAX).min(super::BATCH_ROWS_MAX), now, context);
        self.as_of = None;
        match batch {
            Some(batch) => Ok(Some(self.give(batch, usize::try_from(left).unwrap_or(usize::MAX), context))),
            None if self.reader.is_none() && !self.failed => {
                Err(format!("partition '{}' has ended, and {left} rows less than were recorded", self.id))
            }
            None => Ok(None),
        }
    }

    /// How many rows it has given in all.
    pub(super) fn rows(&self) -> u64 {
        self.place.number
    }

    /// When it has to be asked again without being woken: in the past if it is ready now.
    pub(super) fn ask_again_at(&self) -> Option<Duration> {
        match self.wait {
            _ if self.rest.is_some() => Some(Duration::ZERO),
            _ if self.reader.is_none() => None,
            Wait::No => Some(Duration::ZERO),
            Wait::Woken(at) => at,
            Wait::Until(at) => Some(at),
        }
    }

    /// What did not fit before, or what its reader gives now: at most about `rows_max` rows.
    pub(super) fn next(&mut self, rows_max: usize, now: Duration, context: &SourceContext) -> Option<Batch> {
        if let Some(rest) = self.rest.take() {
            return Some(rest);
        }
        if !self.is_due(now) {
            return None;
        }
        let reader = self.reader.as_mut()?;
        // Cleared before asking: whatever arrives from here on wakes it again.
        self.woken.store(false, Ordering::Release);
        let answer = match reader.poll(rows_max) {
            Ok(Polled::Batch(read)) => Some(self.read(read, context)),
            Ok(Polled::Pending(again)) => self.at_end(again, now, context),
            Ok(Polled::Waiting(again)) => self.waiting(again, now, context),
            Ok(Polled::Finished) => self.finished(),
            Err(error) if error.fatal => self.failed_for_good(error, context),
            Err(error) => self.failed(error, now, context),
        };
        self.publish(now, context);
        answer
    }

    /// Keeps a batch for the next epoch.
    pub(super) fn put_back(&mut self, batch: Batch) {
        self.rest = Some(batch);
    }

    /// Gives at most `rows_max` rows of the batch and keeps the rest.
    pub(super) fn give(&mut self, batch: Batch, rows_max: usize, context: &SourceContext) -> Piece {
        let (mut piece, rest) = batch.cut(rows_max);
        self.rest = rest;
        self.moved = true;
        piece.place = self.place;
        self.place.number += piece.rows() as u64;
        match &piece.end {
            Some(end) => (self.offset, self.done_after) = (Some(end.offset.clone()), self.skip),
            None => self.done_after = piece.done,
        }
        self.watermark.advance(piece.mark);
        let mut status = self.status.lock();
        status.rows += piece.rows() as u64;
        status.rejected_rows += (piece.rows_and_rejects() - piece.rows()) as u64;
        status.watermark = self.watermark.max();
        status.state = self.state(context);
        if let Some(end) = &piece.end {
            status.offset = Some(end.offset.0.to_string());
            status.bytes += end.bytes;
        }
        drop(status);
        piece
    }

    fn is_due(&self, now: Duration) -> bool {
        match self.wait {
            Wait::No => true,
            Wait::Woken(at) => self.woken.load(Ordering::Acquire) || at.is_some_and(|at| at <= now),
            Wait::Until(at) => at <= now,
        }
    }

    fn read(&mut self, read: SourceBatch, context: &SourceContext) -> Batch {
        self.watermark.reading();
        self.wait = Wait::No;
        self.went_well(context);
        let skip = usize::try_from(self.skip).unwrap_or(usize::MAX).min(read.rows.num_rows());
        self.skip -= skip as u64;
        let wall = self.as_of.unwrap_or_else(|| context.clock.wall_micros());
        Batch::new(context.source, &self.id, read, skip, context.event_time.as_ref(), wall)
    }

    fn at_end(&mut self, again: Option<Duration>, now: Duration, context: &SourceContext) -> Option<Batch> {
        self.watermark.at_end(now);
        let again = again.map(|again| now.saturating_add(again));
        let idle = self.watermark.idle_at(context.idle_timeout);
        self.wait = Wait::Woken([again, idle].into_iter().flatten().min());
        self.went_well(context);
        None
    }

    fn waiting(&mut self, again: Option<Duration>, now: Duration, context: &SourceContext) -> Option<Batch> {
        self.watermark.reading();
        self.wait = Wait::Woken(again.map(|again| now.saturating_add(again)));
        self.went_well(context);
        None
    }

    fn finished(&mut self) -> Option<Batch> {
        self.watermark.finish();
        self.reader = None;
        None
    }

    fn failed(&mut self, error: SourceError, now: Duration, context: &SourceContext) -> Option<Batch> {
        self.watermark.reading();
        self.failures = self.failures.saturating_add(1);
        let wait = backoff(self.failures);
        self.wait = Wait::Until(now.saturating_add(wait));
        if self.record(&error, context) {
            tracing::warn!(
                job = context.job, source = context.name, partition = %self.id, error = error.message,
                "reading failed, trying again"
            );
        }
        None
    }

    fn failed_for_good(&mut self, error: SourceError, context: &SourceContext) -> Option<Batch> {
        self.watermark.reading();
        self.reader = None;
        self.failed = true;
        self.record(&error, context);
        self.status.lock().state = PartitionState::Failed;
        tracing::error!(
            job = context.job, source = context.name, partition = %self.id, error = error.message,
            "reading failed for good, the job stops reading"
        );
        context.fault.set(format!("source '{}', partition '{}': {}", context.name, self.id, error.message));
        None
    }

    fn went_well(&mut self, context: &SourceContext) {
        if std::mem::take(&mut self.failures) > 0 && LastError::pass(&mut self.status.lock().last_error) {
            tracing::info!(job = context.job, source = context.name, partition = %self.id, "reading again");
        }
    }

    fn record(&self, error: &SourceError, context: &SourceContext) -> bool {
        LastError::record(&mut self.status.lock().last_error, &error.message, context.clock.wall_micros())
    }

    /// Writes down what the reader's answer changed.
    fn publish(&mut self, now: Duration, context: &SourceContext) {
        let backlog = self.reader.as_ref().map(|reader| {
            let fresh = self.backlog_at.is_some_and(|at| now.saturating_sub(at) < BACKLOG_EVERY) && self.wait == Wait::No;
            (!fresh).then(|| reader.backlog())
        });
        let mut status = self.status.lock();
        status.state = self.state(context);
        match backlog {
            None => status.backlog = None,
            Some(None) => {}
            Some(Some(backlog)) => {
                status.backlog = backlog;
                self.backlog_at = Some(now);
            }
        }
    }

    fn state(&self, context: &SourceContext) -> PartitionState {
        match self.watermark.activity(context.idle_timeout) {
            _ if self.failed => PartitionState::Failed,
            Activity::Active => PartitionState::Active,
            Activity::Idle => PartitionState::Idle,
            Activity::Finished => PartitionState::Finished,
        }
    }
}
