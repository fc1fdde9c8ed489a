//! Feeds of an excerpt: rows that are kept, then what sources give once more; no watermark passes what it was when the job was
//! saved, and each is there when all rows are.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use highwater_connectors::source::{PartitionReader, Polled, SourceError};
use highwater_engine::{Delta, Feed, FeedBatch, FeedPoll, FeedState, PartitionPosition, Place};

use crate::ingest::SourceFeed;

/// How long a feed waits for the others.
const WAIT: Duration = Duration::from_millis(5);

/// How far all feeds of an excerpt are.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Feeds of kept rows that have some left.
    kept: AtomicUsize,
    /// Feeds that have rows left.
    left: AtomicUsize,
    /// Feeds that have not told their last watermark.
    silent: AtomicUsize,
}

impl Progress {
    /// Whether all rows are in the dataflow.
    pub(super) fn is_done(&self) -> bool {
        self.silent.load(Ordering::Acquire) == 0
    }
}

enum Rows {
    Kept(VecDeque<Delta>),
    Again(SourceFeed),
}

/// One of an excerpt's feeds.
pub(super) struct ExcerptFeed {
    rows: Rows,
    /// The watermark of its source when the job was saved.
    until: i64,
    given: u64,
    finished: bool,
    told: bool,
    progress: Arc<Progress>,
}

impl ExcerptFeed {
    pub(super) fn kept(rows: Vec<Delta>, until: i64, progress: &Arc<Progress>) -> Self {
        progress.kept.fetch_add(1, Ordering::AcqRel);
        Self::new(Rows::Kept(rows.into()), until, progress)
    }

    pub(super) fn again(feed: SourceFeed, until: i64, progress: &Arc<Progress>) -> Self {
        Self::new(Rows::Again(feed), until, progress)
    }

    fn new(rows: Rows, until: i64, progress: &Arc<Progress>) -> Self {
        progress.left.fetch_add(1, Ordering::AcqRel);
        progress.silent.fetch_add(1, Ordering::AcqRel);
        ExcerptFeed { rows, until, given: 0, finished: false, told: false, progress: Arc::clone(progress) }
    }

    fn finish(&mut self) {
        if !std::mem::replace(&mut self.finished, true) {
            if matches!(self.rows, Rows::Kept(_)) {
                self.progress.kept.fetch_sub(1, Ordering::AcqRel);
            }
            self.progress.left.fetch_sub(1, Ordering::AcqRel);
        }
    }

    fn state(&self, state: FeedState) -> FeedState {
        match state {
            FeedState::Active(watermark) | FeedState::Idle(watermark) => FeedState::Active(watermark.min(self.until)),
            FeedState::Finished => FeedState::Active(self.until),
        }
    }
}

impl Feed for ExcerptFeed {
    fn positions(&self) -> Vec<PartitionPosition> {
        Vec::new()
    }

    fn poll(&mut self, rows_max: usize) -> FeedPoll {
        if self.finished {
            if self.progress.left.load(Ordering::Acquire) > 0 || self.told {
                return FeedPoll::Pending((!self.told).then_some(WAIT));
            }
            self.told = true;
            self.progress.silent.fetch_sub(1, Ordering::AcqRel);
            return FeedPoll::Ready(batch(Vec::new(), FeedState::Active(self.until), Place::default()));
        }
        match &mut self.rows {
            Rows::Kept(rows) => {
                let Some(delta) = rows.pop_front() else {
                    self.finish();
                    return FeedPoll::Pending(Some(Duration::ZERO));
                };
                let (now, later) = (delta.len().min(rows_max.max(1)), delta.len().saturating_sub(rows_max.max(1)));
                if later > 0 {
                    rows.push_front(delta.slice(now, later));
                }
                let place = Place { number: self.given, partition: 0 };
                self.given += now as u64;
                FeedPoll::Ready(batch(vec![delta.slice(0, now)], FeedState::Active(i64::MIN), place))
            }
            Rows::Again(_) if self.progress.kept.load(Ordering::Acquire) > 0 => FeedPoll::Pending(Some(WAIT)),
            Rows::Again(feed) => match feed.poll(rows_max) {
                FeedPoll::Pending(wait) => FeedPoll::Pending(wait),
                FeedPoll::Ready(mut ready) => {
                    let finished = ready.state == FeedState::Finished;
                    // Refused when they came, and kept since.
                    ready.rejects.clear();
                    ready.state = self.state(ready.state);
                    if finished {
                        self.finish();
                    }
                    FeedPoll::Ready(ready)
                }
            },
        }
    }
}

fn batch(deltas: Vec<Delta>, state: FeedState, place: Place) -> FeedBatch {
    FeedBatch { deltas, rejects: Vec::new(), state, receipts: Vec::new(), place }
}

/// Opens a reader.
pub(super) type Open = Box<dyn FnOnce() -> Result<Box<dyn PartitionReader>, SourceError> + Send>;

/// Reads what a partition gave: all before a position, and then so many rows.
pub(super) struct Until {
    /// `None` when it has finished.
    before: Option<Box<dyn PartitionReader>>,
    /// Called when the reader before is closed: some partitions can be read once at a time.
    open: Option<Open>,
    after: Option<Box<dyn PartitionReader>>,
    rows_after: u64,
}

impl Until {
    pub(super) fn new(before: Option<Box<dyn PartitionReader>>, rows_after: u64, open: Open) -> Self {
        Until { before, open: Some(open), after: None, rows_after }
    }
}

impl PartitionReader for Until {
    fn poll(&mut self, rows_max: usize) -> Result<Polled, SourceError> {
        if let Some(before) = &mut self.before {
            match before.poll(rows_max)? {
                Polled::Finished => self.before = None,
                polled => return Ok(polled),
            }
        }
        if self.rows_after == 0 {
            return Ok(Polled::Finished);
        }
        let wanted = usize::try_from(self.rows_after).unwrap_or(usize::MAX).min(rows_max.max(1));
        if let Some(open) = self.open.take() {
            self.after = Some(open()?);
        }
        let Some(after) = &mut self.after else { return Err(SourceError::fatal("it cannot be opened")) };
        match after.poll(wanted)? {
            Polled::Batch(mut batch) => {
                let rows = wanted.min(batch.rows.num_rows());
                batch.rows = batch.rows.slice(0, rows);
                batch.diffs = batch.diffs.map(|diffs| diffs.slice(0, rows));
                self.rows_after -= rows as u64;
                Ok(Polled::Batch(batch))
            }
            Polled::Finished => Err(SourceError::fatal("it has fewer rows than when the job was saved")),
            polled => Ok(polled),
        }
    }
}
