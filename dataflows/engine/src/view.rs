//! Views as the rest of the process sees them: read at a closed epoch, follow from one.
//!
//! A worker publishes, a reader loads: both only swap or copy pointers to immutable batches, and neither waits for the
//! other. Reading at an epoch means: the sum of all changes up to it, so that all views of a job, read at one epoch,
//! belong together. A reader takes the epoch from [`crate::JobHandle::closed`] and reads at once; if it was so slow that
//! the epoch has been compacted away, [`Compacted`] tells it to take a newer one.
//!
//! ```text
//!  worker 0 ── publish ──► snapshot (Arc of batches) ─┐
//!  worker 1 ── publish ──► snapshot                  ─┼─► read at e: by key one worker's, else all, merged
//!           └─ sealed ───► history (ring of epochs)  ─┴─► changes in (after, through]
//! ```
//!
//! Two kinds: *arranged* views, whose batches are those of a differential trace, and *logs* (`$late`, `$rejects`,
//! `$errors`), which are only appended to, kept in the order of their arrival, and bounded: the oldest rows go first,
//! and are counted.

mod find;
mod history;
mod log;
mod snapshot;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{ArrayRef, Int64Array};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;

pub(crate) use self::log::LOG_KEYS;
use self::log::Log;
use self::snapshot::{Part, Snapshot};
use crate::arrangement::{RowChunk, RowCodec};
use crate::hash::worker_of;
use crate::{Delta, Diff, Time};

/// Rows of a batch that a read gives.
const READ_ROWS_MAX: usize = 8_192;

/// A view or side relation that can be read from every thread.
#[derive(Debug)]
pub struct ViewHandle {
    name: String,
    schema: SchemaRef,
    key: Vec<usize>,
    kind: Kind,
    anomalies: AtomicU64,
}

#[derive(Debug)]
enum Kind {
    Arranged {
        codec: Arc<RowCodec>,
        /// One per worker.
        parts: Vec<Part>,
    },
    /// One per worker.
    Log(Vec<Log>),
}

/// A condition: the rows whose column has this value.
#[derive(Debug, Clone)]
pub struct Equals {
    /// Index of the column.
    pub column: usize,
    /// The value: one row, of the column's type. NULL matches NULL.
    pub value: ArrayRef,
}

/// What one epoch changed.
#[derive(Debug, Clone)]
pub struct Changed {
    /// The epoch.
    pub epoch: Time,
    /// Each row that changed, once.
    pub rows: RecordBatch,
    /// Per row how often it was added, never 0.
    pub diffs: Int64Array,
}

/// The epoch asked for has been compacted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the epoch is no longer kept: the oldest that can be read is {since}")]
pub struct Compacted {
    /// The oldest epoch that can be read, or followed from.
    pub since: Time,
}

/// A relation's content as of one closed epoch, held until dropped.
///
/// Taking it is a few pointers, so whoever needs several views at one epoch takes them all first and reads then.
#[derive(Debug)]
pub struct Content<'a> {
    view: &'a ViewHandle,
    epoch: Time,
    snapshots: Vec<Arc<Snapshot>>,
}

impl ViewHandle {
    /// A materialised view whose rows are found by the columns of `key`.
    pub(crate) fn arranged(name: String, schema: SchemaRef, key: Vec<usize>, peers: usize) -> Self {
        let codec = Arc::new(RowCodec::new(schema.clone(), &key));
        let parts = (0..peers).map(|_| Part::new(peers)).collect();
        ViewHandle { name, schema, key, kind: Kind::Arranged { codec, parts }, anomalies: AtomicU64::new(0) }
    }

    /// A side relation, which is only appended to.
    pub(crate) fn log(name: String, schema: SchemaRef, peers: usize) -> Self {
        let logs = (0..peers).map(|_| Log::default()).collect();
        ViewHandle { name, schema, key: Vec::new(), kind: Kind::Log(logs), anomalies: AtomicU64::new(0) }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its columns.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The columns its rows are found by; empty for a side relation.
    pub fn key(&self) -> &[usize] {
        &self.key
    }

    /// Whether it is a `$late`, `$rejects` or `$errors`.
    pub fn is_side_relation(&self) -> bool {
        matches!(self.kind, Kind::Log(_))
    }

    /// The rows as of `epoch`, each as often as its multiplicity.
    ///
    /// Shape:  batches of at most 8,192 rows, at most `limit` rows in all; ordered by key, then by the other columns,
    ///         NULL first. A side relation: in the order of arrival.
    /// Time:   `epoch` must be closed, see [`crate::JobHandle::closed`].
    /// Cost:   with a value for each key column a binary search in each of one worker's batches; otherwise a pass over
    ///         all rows, and a sort of those found.
    /// Errors: [`Compacted`] if the epoch is too old by now. Try again with a newer one.
    pub fn read(&self, epoch: Time, equals: &[Equals], limit: Option<usize>) -> Result<Vec<RecordBatch>, Compacted> {
        let Kind::Arranged { codec, parts } = &self.kind else {
            return Ok(self.at(epoch)?.read(equals, limit));
        };
        let query = find::Query::new(codec, equals);
        let Some(hash) = query.hash() else {
            return Ok(self.at(epoch)?.read(equals, limit));
        };
        let snapshot = parts[worker_of(hash, parts.len())].load();
        snapshot.readable_at(epoch)?;
        Ok(query.run(&[&snapshot], epoch, limit, &self.anomalies))
    }

    /// Takes hold of the content as of `epoch`, a closed epoch.
    ///
    /// Errors: as [`ViewHandle::read`].
    pub fn at(&self, epoch: Time) -> Result<Content<'_>, Compacted> {
        let mut snapshots = Vec::new();
        if let Kind::Arranged { parts, .. } = &self.kind {
            for part in parts {
                let snapshot = part.load();
                snapshot.readable_at(epoch)?;
                debug_assert!(part.through() >= epoch, "an epoch is read when every worker has published it");
                snapshots.push(Arc::clone(&snapshot));
            }
        }
        Ok(Content { view: self, epoch, snapshots })
    }

    /// What the epochs in `(after, through]` changed, one entry per epoch that changed something, ascending.
    ///
    /// Shape:  rows ordered as those of [`ViewHandle::read`].
    /// Time:   `through` must be closed.
    /// Errors: [`Compacted`] if changes after `after` are no longer kept. Read the view anew and follow from there.
    pub fn changes(&self, after: Time, through: Time) -> Result<Vec<Changed>, Compacted> {
        match &self.kind {
            Kind::Arranged { codec, parts } => history::changes(codec, parts.iter().map(Part::history), after, through),
            Kind::Log(logs) => log::changes(logs, after, through),
        }
    }

    /// Net number of rows, as last sealed on each worker.
    pub fn rows(&self) -> u64 {
        match &self.kind {
            Kind::Arranged { parts, .. } => parts.iter().map(Part::net).sum::<Diff>().max(0) as u64,
            Kind::Log(logs) => logs.iter().map(Log::rows).sum::<usize>() as u64,
        }
    }

    /// Bytes of memory that the rows take.
    pub fn bytes(&self) -> u64 {
        match &self.kind {
            Kind::Arranged { parts, .. } => parts.iter().map(Part::bytes).sum(),
            Kind::Log(logs) => logs.iter().map(Log::bytes).sum::<usize>() as u64,
        }
    }

    /// Rows of a side relation that had to make room for newer ones.
    pub fn dropped(&self) -> u64 {
        match &self.kind {
            Kind::Arranged { .. } => 0,
            Kind::Log(logs) => logs.iter().map(Log::dropped).sum(),
        }
    }

    /// How often a read met a row that was retracted more often than added: a changelog source took back what it never
    /// gave, or there is an error upstream.
    pub fn anomalies(&self) -> u64 {
        self.anomalies.load(Ordering::Relaxed)
    }

    /// How an arranged view's rows are encoded.
    pub(crate) fn codec(&self) -> &Arc<RowCodec> {
        match &self.kind {
            Kind::Arranged { codec, .. } => codec,
            Kind::Log(_) => panic!("side relation {} is not arranged", self.name),
        }
    }

    fn part(&self, worker: usize) -> &Part {
        match &self.kind {
            Kind::Arranged { parts, .. } => &parts[worker],
            Kind::Log(_) => panic!("side relation {} is not arranged", self.name),
        }
    }

    /// Notes what an epoch changed on a worker, for those who follow. Epochs come in order.
    pub(crate) fn sealed(&self, worker: usize, epoch: Time, chunks: &[RowChunk], net: Diff) {
        self.part(worker).sealed(epoch, chunks, net);
    }

    /// What was there at `epoch` is no change that one can follow.
    pub(crate) fn begins_at(&self, worker: usize, epoch: Time) {
        self.part(worker).begins_at(epoch);
    }

    /// Swaps what readers see of a worker; its batches can be read at `since` and later.
    pub(crate) fn publish(&self, worker: usize, since: Time, batches: Vec<Arc<[RowChunk]>>, bytes: usize) {
        self.part(worker).publish(Snapshot::new(since, batches), bytes);
    }

    /// Says how far a worker's published batches are complete.
    pub(crate) fn publish_through(&self, worker: usize, closed: Time) {
        self.part(worker).publish_through(closed);
    }

    /// Appends to a side relation, on one worker's thread.
    pub(crate) fn append(&self, worker: usize, epoch: Time, rows: RecordBatch, diffs: Option<Int64Array>) {
        match &self.kind {
            Kind::Log(logs) => logs[worker].append(epoch, rows, diffs),
            Kind::Arranged { .. } => panic!("view {} is arranged, not appended to", self.name),
        }
    }

    /// A worker's part of a side relation takes back what [`ViewHandle::save_log`] gave as of the epoch `since`, and is saved
    /// from here on if that is `enabled`.
    pub(crate) fn resume_log(&self, worker: usize, since: Time, had: &[Delta], enabled: bool) {
        if let Kind::Log(logs) = &self.kind {
            logs[worker].resume(worker, since, had, &self.schema, enabled);
        }
    }

    /// What was appended to and dropped from a worker's part of a side relation up to an epoch, since this was asked last:
    /// entries whose first [`LOG_KEYS`] columns are their key.
    pub(crate) fn save_log(&self, worker: usize, through: Time) -> Vec<Delta> {
        match &self.kind {
            Kind::Log(logs) => logs[worker].save(through, &self.schema),
            Kind::Arranged { .. } => Vec::new(),
        }
    }
}

impl Content<'_> {
    /// The epoch.
    pub fn epoch(&self) -> Time {
        self.epoch
    }

    /// The rows, as [`ViewHandle::read`] gives them.
    pub fn read(&self, equals: &[Equals], limit: Option<usize>) -> Vec<RecordBatch> {
        match &self.view.kind {
            Kind::Arranged { codec, .. } => {
                let snapshots: Vec<&Snapshot> = self.snapshots.iter().map(|snapshot| &**snapshot).collect();
                find::Query::new(codec, equals).run(&snapshots, self.epoch, limit, &self.view.anomalies)
            }
            Kind::Log(logs) => log::read(logs, self.epoch, equals, limit, &self.view.anomalies),
        }
    }

    /// Tells whether two contents are of one snapshot.
    #[cfg(test)]
    pub(crate) fn snapshot_address(&self) -> Vec<usize> {
        self.snapshots.iter().map(|snapshot| Arc::as_ptr(snapshot) as usize).collect()
    }
}
