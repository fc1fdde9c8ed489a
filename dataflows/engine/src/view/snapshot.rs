//! What one worker has published of a view.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use arc_swap::{ArcSwap, Guard};

use super::Compacted;
use super::history::History;
use crate::arrangement::RowChunk;
use crate::{Diff, Time};

/// The batches of one worker's trace at one moment.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    since: Time,
    batches: Vec<Arc<[RowChunk]>>,
}

impl Snapshot {
    /// Batches that can be read at `since` and later.
    pub(crate) fn new(since: Time, batches: Vec<Arc<[RowChunk]>>) -> Self {
        Snapshot { since, batches }
    }

    /// The batches: each sorted, and together all changes.
    pub(crate) fn batches(&self) -> impl Iterator<Item = &[RowChunk]> {
        self.batches.iter().map(|batch| &**batch)
    }

    /// Whether changes up to `epoch` can still be told from later ones.
    pub(crate) fn readable_at(&self, epoch: Time) -> Result<(), Compacted> {
        if epoch < self.since { Err(Compacted { since: self.since }) } else { Ok(()) }
    }
}

/// One worker's part of a view: written by that worker, read by all.
#[derive(Debug)]
pub(crate) struct Part {
    snapshot: ArcSwap<Snapshot>,
    through: AtomicU64,
    net: AtomicI64,
    bytes: AtomicU64,
    history: Mutex<History>,
}

impl Part {
    /// The part of one of `peers` workers.
    pub(crate) fn new(peers: usize) -> Self {
        Part {
            snapshot: ArcSwap::default(),
            through: AtomicU64::new(0),
            net: AtomicI64::new(0),
            bytes: AtomicU64::new(0),
            history: Mutex::new(History::new(peers)),
        }
    }

    /// What is published.
    pub(crate) fn load(&self) -> Guard<Arc<Snapshot>> {
        self.snapshot.load()
    }

    /// The last epoch that is complete in what is published.
    pub(crate) fn through(&self) -> Time {
        self.through.load(Ordering::Acquire)
    }

    /// Net number of rows.
    pub(crate) fn net(&self) -> Diff {
        self.net.load(Ordering::Relaxed)
    }

    /// Bytes of the batches.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// What the last epochs changed.
    pub(crate) fn history(&self) -> &Mutex<History> {
        &self.history
    }

    pub(super) fn sealed(&self, epoch: Time, chunks: &[RowChunk], net: Diff) {
        self.net.fetch_add(net, Ordering::Relaxed);
        self.history.lock().expect("a history is changed without panicking").push(epoch, chunks);
    }

    pub(super) fn begins_at(&self, epoch: Time) {
        self.history.lock().expect("a history is changed without panicking").begin_at(epoch);
    }

    pub(super) fn publish(&self, snapshot: Snapshot, bytes: usize) {
        self.snapshot.store(Arc::new(snapshot));
        self.bytes.store(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn publish_through(&self, closed: Time) {
        self.through.store(closed, Ordering::Release);
    }
}
