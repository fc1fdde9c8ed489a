//! Arrangements: state that is shared by everyone who reads it: materialised views.
//!
//! A view's rows are a differential trace: a few immutable, sorted batches that together hold every change since the
//! beginning, merged in the background so that there are only logarithmically many. The changes of an epoch wait until
//! the frontier says that there will be no more of them; then they become one batch that ends at `e + 1`. **Every batch
//! starts as one epoch's**, even when the frontier jumps over several: whoever reads, resumes or writes the trace may
//! cut it after any epoch.
//!
//! ```text
//!  changes ──► exchange by key hash ──► wait for the epoch ──► seal ──► trace ──► publish: Arc of batches ──► readers
//!                                                               └──► consolidated changes of the epoch ──► sinks
//! ```
//!
//! The trace is multi-versioned. [`Arrangement::publish`] moves its `since` a few closed epochs behind, so that a reader
//! that took the closed epoch a moment ago can still read it, and everything older is compacted as batches merge.
//!
//! What is not here: differential's own `arrange`, which seals whatever the frontier passed as one batch and sorts by
//! merging small runs; an epoch's changes are sorted at once here. Starting from stored chunks goes where the trace is
//! made (insert a batch `[0, E)`, start with `upper` at `E`).

mod arranger;
mod chunk;
mod codec;
#[cfg(test)]
pub(crate) mod random;
mod run;
mod seal;

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use differential_dataflow::operators::arrange::TraceAgent;
use differential_dataflow::trace::chunk::{ChunkBatch, ChunkSpine};
use differential_dataflow::trace::{BatchReader, TraceReader};
use timely::dataflow::Stream;
use timely::progress::Antichain;

use self::arranger::{Sealing, Watch, arrange_stream};
pub(crate) use self::chunk::RowChunk;
pub(crate) use self::codec::RowCodec;
#[cfg(test)]
pub(crate) use self::seal::Sealer;
use crate::Time;
use crate::checkpoint::Derived;
use crate::delta::Parcel;
use crate::stats::OperatorStats;
use crate::view::ViewHandle;

/// The spine of an arrangement.
pub(crate) type Spine = ChunkSpine<RowChunk>;

/// A hold on a trace: to read, compact and import it.
pub(crate) type Trace = TraceAgent<Spine>;

type Batch = Rc<ChunkBatch<RowChunk>>;

/// Closed epochs that stay readable behind the last one.
const EPOCHS_READABLE: usize = 32;

/// Arranges a view's changes by its key: [`arrange_stream`] with the view's columns, and [`Arrangement::publish`] for
/// those who read it from other threads. `derived`: what gives its rows in a restored job, if that is not its own state.
pub(crate) fn arrange<'scope>(
    input: Stream<'scope, Time, Parcel>,
    view: Arc<ViewHandle>,
    stats: Arc<OperatorStats>,
    worker: usize,
    peers: usize,
    derived: Option<Derived>,
) -> (Stream<'scope, Time, Parcel>, Arrangement) {
    let sealing = Sealing {
        name: format!("arrange {}", view.name()),
        route: view.key().to_vec(),
        // Views are found by a unique key of theirs, or, without one, by all columns.
        is_unique: view.key().len() < view.schema().fields().len(),
        codec: Arc::clone(view.codec()),
        stats: Arc::clone(&stats),
        derived,
    };
    let shared = Arc::clone(&view);
    let watch: Watch = Box::new(move |epoch, sealed| shared.sealed(worker, epoch, &sealed.chunks, sealed.net));
    let (output, trace) = arrange_stream(input, sealing, peers, watch);
    if let Some(restore) = &stats.checkpoints.restore {
        view.begins_at(worker, restore.epoch);
    }
    (output, Arrangement::new(trace, view, stats, worker))
}

/// One worker's part of a view, as its worker loop holds it.
pub(crate) struct Arrangement {
    /// The trace; clone it to import it into another dataflow of this worker.
    pub(crate) trace: Trace,
    view: Arc<ViewHandle>,
    stats: Arc<OperatorStats>,
    worker: usize,
    /// What readers see, and the batches it was made of.
    published: Vec<Published>,
    /// The last closed epochs, oldest first.
    closed: VecDeque<Time>,
}

struct Published {
    batch: Batch,
    chunks: Arc<[RowChunk]>,
    rows: usize,
    bytes: usize,
}

impl Published {
    fn new(batch: Batch) -> Self {
        let (rows, bytes) = (batch.len(), batch.chunks.iter().map(RowChunk::bytes).sum());
        Published { chunks: batch.chunks.as_slice().into(), batch, rows, bytes }
    }
}

impl Arrangement {
    fn new(trace: Trace, view: Arc<ViewHandle>, stats: Arc<OperatorStats>, worker: usize) -> Self {
        Arrangement { trace, view, stats, worker, published: Vec::new(), closed: VecDeque::new() }
    }

    /// Lets readers see everything up to `closed`, an epoch that this worker has sealed, and forgets versions before
    /// the last few closed epochs.
    ///
    /// Cost: pointers to the batches, of which there are logarithmically many; nothing but a number when none changed.
    /// Part of the trace's merging is done here.
    pub(crate) fn publish(&mut self, closed: Time) {
        if self.closed.back().is_some_and(|last| *last >= closed) {
            return;
        }
        self.closed.push_back(closed);
        if self.closed.len() > EPOCHS_READABLE {
            self.closed.pop_front();
        }
        let since = self.closed.front().copied().unwrap_or(closed);
        self.trace.set_logical_compaction(Antichain::from_elem(since).borrow());
        self.trace.set_physical_compaction(Antichain::from_elem(closed + 1).borrow());
        if self.refresh(closed) {
            let batches = self.published.iter().map(|part| Arc::clone(&part.chunks)).collect();
            let since = self.published.iter().filter_map(|part| part.batch.description().since().first()).max();
            let bytes = self.published.iter().map(|part| part.bytes).sum();
            self.stats.holds(self.published.iter().map(|part| part.rows).sum(), bytes);
            self.view.publish(self.worker, since.copied().unwrap_or(0), batches, bytes);
        }
        self.view.publish_through(self.worker, closed);
    }

    /// Takes up the trace's batches through `closed`; tells whether they are others than before.
    fn refresh(&mut self, closed: Time) -> bool {
        let (mut position, mut changed) = (0, false);
        let published = &mut self.published;
        self.trace.map_batches(|batch| {
            let later = batch.lower().first().is_none_or(|lower| *lower > closed);
            if later || batch.is_empty() {
                return;
            }
            if published.get(position).is_none_or(|part| !Rc::ptr_eq(&part.batch, batch)) {
                changed = true;
                match published[position.min(published.len())..].iter().position(|part| Rc::ptr_eq(&part.batch, batch)) {
                    Some(ahead) => drop(published.drain(position..position + ahead)),
                    None => published.insert(position, Published::new(Rc::clone(batch))),
                }
            }
            position += 1;
        });
        changed |= published.len() > position;
        published.truncate(position);
        changed
    }
}

#[cfg(test)]
mod tests;
