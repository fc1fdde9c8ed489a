//! What a job was given, by epoch: all that its views' content depends on.

use std::collections::BTreeSet;

use arrow::array::ArrayRef;
use highwater_engine::Time;
use highwater_plan::{Job, Source};

use crate::script::{Batch, Script};
use crate::value::{Row, batch_of, micros, values_of};

/// Everything that the feeds of a job gave.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// One entry per feed.
    pub feeds: Vec<FeedHistory>,
    /// The epoch in which the job ended, if it did.
    pub ended: Option<Time>,
    /// Epochs in which a view changed, whether the job was given anything or not.
    pub seen: Vec<Time>,
}

/// What one feed gave.
#[derive(Debug, Clone)]
pub struct FeedHistory {
    /// Index into [`Job::sources`].
    pub source: usize,
    /// In the order it was given.
    pub batches: Vec<TakenBatch>,
}

/// A batch and the epoch that the engine put it in.
#[derive(Debug, Clone)]
pub struct TakenBatch {
    /// The epoch.
    pub epoch: Time,
    /// Physical rows and multiplicities.
    pub rows: Vec<(Row, i64)>,
    /// What the feed said of itself.
    pub mark: Mark,
}

/// What a feed says of the rows that are still to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// There may be some.
    Active,
    /// Not for a while.
    Idle,
    /// There are none.
    Finished,
}

impl History {
    /// What a job would be given if every step were an epoch.
    pub fn imagined(job: &Job, script: &Script) -> History {
        let feeds = script.feeds.iter().map(|feed| {
            let taken =
                |batch: &Batch| TakenBatch { epoch: batch.step as Time + 1, rows: batch.rows.clone(), mark: Mark::Active };
            let source =
                job.sources.iter().position(|source| source.name == feed.source).expect("a script's sources are the job's");
            FeedHistory { source, batches: feed.batches.iter().map(taken).collect() }
        });
        History { feeds: feeds.collect(), ended: script.finishes.then_some(script.steps() as Time + 1), seen: Vec::new() }
    }

    /// The rows of a source with their epochs, in the order in which they count for a table with a primary key: by epoch, by
    /// their number in their feed, by feed.
    pub fn in_order(&self, source: usize) -> Vec<(Time, &Row, i64)> {
        let mut rows = Vec::new();
        for (index, feed) in self.feeds.iter().enumerate().filter(|(_, feed)| feed.source == source) {
            let all = feed.batches.iter().flat_map(|batch| batch.rows.iter().map(|(row, diff)| (batch.epoch, row, *diff)));
            rows.extend(all.enumerate().map(|(number, (epoch, row, diff))| ((epoch, number, index), (epoch, row, diff))));
        }
        rows.sort_by_key(|(place, _)| *place);
        rows.into_iter().map(|(_, row)| row).collect()
    }

    /// The epochs that were opened for something or in which a view changed, ascending; 0, at which constants are
    /// given, is the first.
    pub fn epochs(&self) -> Vec<Time> {
        let taken = self.feeds.iter().flat_map(|feed| &feed.batches).map(|batch| batch.epoch);
        let epochs: BTreeSet<Time> = std::iter::once(0).chain(taken).chain(self.ended).chain(self.seen.iter().copied()).collect();
        epochs.into_iter().collect()
    }

    /// The epoch after which no row can come: the job has ended, or all feeds have said that they have finished.
    pub fn finished(&self) -> Option<Time> {
        let of_feed = |feed: &FeedHistory| {
            let finished = feed.batches.iter().find(|batch| batch.mark == Mark::Finished);
            finished.map(|batch| batch.epoch)
        };
        let all: Option<Vec<Time>> = self.feeds.iter().map(of_feed).collect();
        let last = all.and_then(|epochs| epochs.into_iter().max());
        last.into_iter().chain(self.ended).min()
    }

    /// Per epoch (as [`History::epochs`] lists them) and source the watermark after that epoch, in microseconds.
    ///
    /// That of a source is the smallest over its feeds that are neither idle nor finished; infinity when all have
    /// finished. It never goes back. `None` if all feeds of a source are idle at once: then it follows the clock, which is not
    /// known here.
    pub fn watermarks(&self, job: &Job) -> Option<Vec<Vec<i64>>> {
        let feeds: Vec<(usize, Vec<(Time, FeedMark)>)> =
            self.feeds.iter().map(|feed| (feed.source, feed_marks(&job.sources[feed.source], feed))).collect();
        let mut current = vec![i64::MIN; job.sources.len()];
        let mut all = Vec::new();
        for epoch in self.epochs() {
            let ended = self.ended.is_some_and(|last| last <= epoch);
            for (source, current) in current.iter_mut().enumerate().filter(|_| epoch > 0) {
                let said = feeds.iter().filter(|(of, _)| *of == source).map(|(_, marks)| {
                    let before = marks.iter().rev().find(|(at, _)| *at <= epoch);
                    before.map_or(FeedMark { mark: Mark::Active, watermark: i64::MIN }, |(_, mark)| *mark)
                });
                let said: Vec<FeedMark> = said.collect();
                let holding = said.iter().filter(|said| said.mark == Mark::Active).map(|said| said.watermark).min();
                let idle = said.iter().any(|said| said.mark == Mark::Idle);
                if holding.is_none() && idle && !ended {
                    return None;
                }
                let next = if ended { i64::MAX } else { holding.unwrap_or(i64::MAX) };
                *current = next.max(*current);
            }
            all.push(current.clone());
        }
        Some(all)
    }
}

/// What a feed has said as of an epoch.
#[derive(Debug, Clone, Copy)]
struct FeedMark {
    mark: Mark,
    watermark: i64,
}

fn feed_marks(source: &Source, feed: &FeedHistory) -> Vec<(Time, FeedMark)> {
    let mut watermark = i64::MIN;
    let mut marks = Vec::new();
    for batch in &feed.batches {
        watermark = watermark.max(watermark_of(source, &batch.rows));
        marks.push((batch.epoch, FeedMark { mark: batch.mark, watermark }));
    }
    marks
}

/// The largest watermark that these rows of a source give.
pub fn watermark_of(source: &Source, rows: &[(Row, i64)]) -> i64 {
    let Some(watermark) = &source.watermark else { return i64::MIN };
    let schema = source.schema.project(&source.used).expect("used columns are columns of the source");
    let rows: Vec<Row> = rows.iter().map(|(row, _)| used(source, row)).collect();
    let batch = batch_of(&schema.into(), &rows).expect("a script's rows fit their source");
    let values: ArrayRef = watermark.expr.scalar.evaluate(&batch).expect("watermarks of the oracle's jobs do not fail");
    let times = values_of(&values).into_iter().filter_map(|value| micros(&value, values.data_type()));
    times.max().unwrap_or(i64::MIN)
}

/// The columns of a physical row that the job reads.
pub fn used(source: &Source, row: &Row) -> Row {
    source.used.iter().map(|column| row[*column].clone()).collect()
}
