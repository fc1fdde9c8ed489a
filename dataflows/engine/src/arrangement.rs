//! Arrangements: the materialised views' state, shared by everyone who reads it.
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

mod chunk;
mod codec;
#[cfg(test)]
mod random;
mod run;
mod seal;

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use differential_dataflow::operators::arrange::{TraceAgent, TraceWriter};
use differential_dataflow::trace::chunk::{ChunkBatch, ChunkSpine};
use differential_dataflow::trace::{BatchReader, Description, Trace as _, TraceReader};
use timely::container::NoopBuilder;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::{ParallelizationContract, Pipeline};
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::Operator;
use timely::progress::Antichain;

pub(crate) use self::chunk::RowChunk;
pub(crate) use self::codec::RowCodec;
pub(crate) use self::seal::Sealer;
use crate::delta::Parcel;
use crate::operator::exchange;
use crate::stats::OperatorStats;
use crate::view::ViewHandle;
use crate::{Delta, Time};

/// The spine of an arrangement.
pub(crate) type Spine = ChunkSpine<RowChunk>;

/// A hold on a trace: to read, compact and import it.
pub(crate) type Trace = TraceAgent<Spine>;

type Batch = Rc<ChunkBatch<RowChunk>>;

/// Closed epochs that stay readable behind the last one.
const EPOCHS_READABLE: usize = 32;

/// Arranges a view's changes by its key.
///
/// Shape:  rows of the view's schema; the output has the same rows, consolidated: each distinct row of an epoch once.
/// Time:   an epoch is sealed when the input's frontier has passed it; when the output's frontier has, the epoch is
///         in the trace of this worker.
/// Cost:   hash, encode and sort each change, then about log(n) copies over its life. An idle epoch costs an empty
///         batch, which is fused with the one before.
/// Errors: none.
pub(crate) fn arrange<'scope>(
    input: Stream<'scope, Time, Parcel>,
    view: Arc<ViewHandle>,
    stats: Arc<OperatorStats>,
    worker: usize,
    peers: usize,
) -> (Stream<'scope, Time, Parcel>, Arrangement) {
    if peers > 1 {
        let pact = exchange::by_columns(view.key());
        arrange_with(input, pact, view, stats, worker)
    } else {
        arrange_with(input, Pipeline, view, stats, worker)
    }
}

fn arrange_with<'scope, P: ParallelizationContract<Time, Parcel>>(
    input: Stream<'scope, Time, Parcel>,
    pact: P,
    view: Arc<ViewHandle>,
    stats: Arc<OperatorStats>,
    worker: usize,
) -> (Stream<'scope, Time, Parcel>, Arrangement) {
    let name = format!("arrange {}", view.name());
    let scope = input.scope();
    let mut reader = None;
    let (shared, counters) = (Arc::clone(&view), Arc::clone(&stats));
    let output = input.unary_frontier::<NoopBuilder<Parcel>, _, _, _>(pact, &name, |_capability, info| {
        let activator = scope.activator_for(Rc::clone(&info.address));
        let (agent, writer) = TraceAgent::new(Spine::new(info.clone(), None, Some(activator)), info, None);
        reader = Some(agent);
        let mut arranger = Arranger::new(writer, shared, counters, worker);
        move |(input, frontier), output| {
            let started = Instant::now();
            input.for_each(|time, parcel| arranger.take(parcel, *time.time(), || time.retain(0)));
            while let Some((epoch, capability, deltas)) = arranger.next_complete(|epoch| frontier.less_equal(epoch)) {
                for delta in arranger.seal(epoch, deltas) {
                    output.session_with_builder(&capability).give_container(&mut Parcel(Some(delta)));
                }
            }
            arranger.advance(&frontier.frontier().to_owned());
            arranger.stats.busy_ns.fetch_add(started.elapsed().as_nanos() as u64, Ordering::Relaxed);
        }
    });
    let trace = reader.expect("the operator was built");
    (output, Arrangement::new(trace, view, stats, worker))
}

/// The changes that wait for their epochs, and the end of the trace that grows.
struct Arranger {
    waiting: BTreeMap<Time, (Capability<Time>, Vec<Delta>)>,
    waiting_rows: usize,
    sealer: Sealer,
    writer: TraceWriter<Spine>,
    /// Where the last batch ended.
    upper: Antichain<Time>,
    /// Whether a batch was added since [`Arranger::advance`].
    grew: bool,
    view: Arc<ViewHandle>,
    stats: Arc<OperatorStats>,
    worker: usize,
}

impl Arranger {
    fn new(writer: TraceWriter<Spine>, view: Arc<ViewHandle>, stats: Arc<OperatorStats>, worker: usize) -> Self {
        let sealer = Sealer::new(Arc::clone(view.codec()));
        let (waiting, upper) = (BTreeMap::new(), Antichain::from_elem(0));
        Arranger { waiting, waiting_rows: 0, sealer, writer, upper, grew: false, view, stats, worker }
    }

    fn take(&mut self, parcel: &mut Parcel, epoch: Time, capability: impl FnOnce() -> Capability<Time>) {
        let Some(delta) = parcel.0.take().filter(|delta| !delta.is_empty()) else { return };
        self.stats.took(delta.len());
        self.wait(delta.len() as isize);
        let delta = Delta { origin: None, ..delta };
        self.waiting.entry(epoch).or_insert_with(|| (capability(), Vec::new())).1.push(delta);
    }

    fn next_complete(&mut self, is_open: impl Fn(&Time) -> bool) -> Option<(Time, Capability<Time>, Vec<Delta>)> {
        let first = self.waiting.first_entry().filter(|first| !is_open(first.key()))?;
        let (epoch, (capability, deltas)) = first.remove_entry();
        Some((epoch, capability, deltas))
    }

    /// Adds the batch of an epoch to the trace; gives what changed.
    fn seal(&mut self, epoch: Time, deltas: Vec<Delta>) -> Vec<Delta> {
        self.wait(-(deltas.iter().map(Delta::len).sum::<usize>() as isize));
        let sealed = self.sealer.seal(epoch, deltas);
        if sealed.chunks.is_empty() {
            return Vec::new();
        }
        self.view.sealed(self.worker, epoch, &sealed.chunks, sealed.net);
        let upper = Antichain::from_elem(epoch + 1);
        let lower = std::mem::replace(&mut self.upper, upper.clone());
        let description = Description::new(lower, upper, Antichain::from_elem(0));
        self.grew = true;
        self.writer.insert(Rc::new(ChunkBatch::new(sealed.chunks, description)), Some(epoch));
        sealed.deltas.iter().for_each(|delta| self.stats.gave(delta));
        sealed.deltas
    }

    /// Says how far the trace is complete, and merges a little.
    ///
    /// The batch of an epoch says enough of itself, and the next one begins where it ended: an empty batch between any
    /// two would double the work of the spine. Only a view at rest needs them, for those who import it.
    fn advance(&mut self, frontier: &Antichain<Time>) {
        let grew = std::mem::take(&mut self.grew);
        if self.upper != *frontier && (!grew || frontier.is_empty()) {
            self.upper.clone_from(frontier);
            self.writer.seal(frontier.clone());
        }
        self.writer.exert();
    }

    fn wait(&mut self, rows: isize) {
        self.waiting_rows = self.waiting_rows.saturating_add_signed(rows);
        self.stats.queued_rows.store(self.waiting_rows as u64, Ordering::Relaxed);
    }
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
