//! Growing a trace: the operator behind every arrangement.
//!
//! Changes wait until the frontier says that their epoch is complete; then they become one batch of the trace, and go on
//! consolidated.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use differential_dataflow::operators::arrange::{TraceAgent, TraceWriter};
use differential_dataflow::trace::chunk::ChunkBatch;
use differential_dataflow::trace::{Description, Trace as _};
use timely::PartialOrder;
use timely::container::NoopBuilder;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::{ParallelizationContract, Pipeline};
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::Operator;
use timely::progress::Antichain;

use super::codec::RowCodec;
use super::seal::{Sealed, Sealer};
use super::{Spine, Trace};
use crate::arrangement::RowChunk;
use crate::checkpoint::{Awaits, Derived, Had, KeptFrom, Known, Saving, Spread};
use crate::delta::Parcel;
use crate::operator::exchange;
use crate::parallel::{Apart, apart};
use crate::stats::OperatorStats;
use crate::{Delta, Time};

/// Is told of each epoch's changes before they go into the trace.
pub(super) type Watch = Box<dyn FnMut(Time, &Sealed)>;

/// What is arranged, and how.
pub(super) struct Sealing {
    /// The operator's name.
    pub(super) name: String,
    /// Columns of the input whose hash says where a row goes: those that are the key of `codec`.
    pub(super) route: Vec<usize>,
    /// No two rows agree in all of these columns, at the end of any epoch.
    pub(super) is_unique: bool,
    /// Encodes the rows.
    pub(super) codec: Arc<RowCodec>,
    pub(super) stats: Arc<OperatorStats>,
    /// As in [`Known::derived`].
    pub(super) derived: Option<Derived>,
}

/// Arranges a stream by the hash of its key columns.
///
/// Shape:  the output is the input, consolidated: each distinct row of an epoch once.
/// Time:   an epoch is sealed when the input's frontier has passed it; when the output's frontier has, the epoch is
///         in the trace of this worker.
/// Cost:   hash, encode and sort each change, then about log(n) copies over its life. An idle epoch costs an empty
///         batch, which is fused with the one before.
/// Errors: none.
pub(super) fn arrange_stream<'scope>(
    input: Stream<'scope, Time, Parcel>,
    sealing: Sealing,
    peers: usize,
    watch: Watch,
) -> (Stream<'scope, Time, Parcel>, Trace) {
    if peers > 1 {
        let pact = exchange::by_columns(&sealing.route);
        arrange_with(input, pact, sealing, watch)
    } else {
        arrange_with(input, Pipeline, sealing, watch)
    }
}

fn arrange_with<'scope, P: ParallelizationContract<Time, Parcel>>(
    input: Stream<'scope, Time, Parcel>,
    pact: P,
    sealing: Sealing,
    watch: Watch,
) -> (Stream<'scope, Time, Parcel>, Trace) {
    let name = sealing.name.clone();
    let scope = input.scope();
    let mut reader = None;
    let output = input.unary_frontier::<NoopBuilder<Parcel>, _, _, _>(pact, &name, |capability, info| {
        let activator = scope.activator_for(Rc::clone(&info.address));
        let asked = scope.worker().sync_activator_for(info.address.to_vec());
        let (agent, writer) = TraceAgent::new(Spine::new(info.clone(), None, Some(activator)), info, None);
        let mut arranger = Arranger::new(writer, sealing, watch);
        if !arranger.is_restored() {
            let restore = arranger.stats.checkpoints.restore.as_ref();
            // Timely forgets operators to which nothing can come and which can give nothing.
            arranger.awaits = restore.map(|restore| (capability, restore.await_them(arranger.stats.worker, asked)));
        }
        reader = Some(agent);
        move |(input, frontier), output| {
            let stats = Arc::clone(&arranger.stats);
            let done = stats.guard(|| {
                let started = Instant::now();
                if !arranger.is_restored() {
                    return;
                }
                input.for_each(|time, parcel| arranger.take(parcel, *time.time(), || time.retain(0)));
                while let Some((epoch, capability, deltas)) = arranger.next_complete(|epoch| frontier.less_equal(epoch)) {
                    arranger.save(Some(epoch));
                    for delta in arranger.seal(epoch, deltas) {
                        output.session_with_builder(&capability).give_container(&mut Parcel(Some(delta)));
                    }
                }
                arranger.save(frontier.frontier().first().copied());
                arranger.advance(&frontier.frontier().to_owned());
                arranger.stats.busy_ns.fetch_add(started.elapsed().as_nanos() as u64, Ordering::Relaxed);
            });
            if done.is_none() {
                input.for_each(|_, _| {});
                arranger.waiting.clear();
                arranger.awaits = None;
            }
        }
    });
    (output, reader.expect("the operator was built"))
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
    watch: Watch,
    stats: Arc<OperatorStats>,
    saving: Option<Saving>,
    /// What the relation had when the job was saved; absent when it is in the trace.
    first: Option<First>,
    /// That has yet to come.
    awaits: Option<(Capability<Time>, Awaits)>,
}

/// What a relation begins with.
enum First {
    Rows(Had),
    /// It is being sealed on another thread.
    Apart(Apart<Sealed>),
}

impl Arranger {
    fn new(writer: TraceWriter<Spine>, sealing: Sealing, watch: Watch) -> Self {
        let Sealing { route, stats, codec, derived, is_unique, .. } = sealing;
        let known = Known { unique_key: is_unique.then(|| route.clone()), derived };
        let saving = Saving::of_relation(&stats, KeptFrom::Output, Spread::ByColumns(route.clone()), &route, known);
        let (saving, had) = saving.unzip();
        Arranger {
            saving,
            first: had.map(First::Rows),
            awaits: None,
            waiting: BTreeMap::new(),
            waiting_rows: 0,
            sealer: Sealer::new(codec),
            writer,
            upper: Antichain::from_elem(0),
            grew: false,
            watch,
            stats,
        }
    }

    /// Whether it has the relation as it was when the job was saved: as its first batch, if there is any of it.
    fn is_restored(&mut self) -> bool {
        let Some(first) = self.first.take() else { return true };
        let Some(epoch) = self.stats.checkpoints.restore.as_ref().map(|restore| restore.epoch) else { return true };
        let sealed = match first {
            First::Rows(mut had) => match had.take() {
                Some(rows) => self.seal_first(epoch, rows),
                None => Err(First::Rows(had)),
            },
            First::Apart(apart) => apart.result().map_err(First::Apart),
        };
        match sealed {
            Ok(sealed) => self.begin(epoch, sealed),
            Err(first) => {
                self.first = Some(first);
                return false;
            }
        }
        true
    }

    fn seal_first(&mut self, epoch: Time, had: Vec<Delta>) -> Result<Sealed, First> {
        let rows = had.iter().map(Delta::len).sum();
        let checkpoints = Arc::clone(&self.stats.checkpoints);
        if !checkpoints.loads_apart(rows) {
            return Ok(self.sealer.seal(epoch, had));
        }
        let mut sealer = Sealer::new(Arc::clone(self.sealer.codec()));
        let work = move || sealer.seal(epoch, had);
        Err(First::Apart(apart(&format!("load {}", self.stats.name), rows, work, move || checkpoints.tell())))
    }

    fn begin(&mut self, epoch: Time, sealed: Sealed) {
        if !sealed.chunks.is_empty() {
            (self.watch)(epoch, &sealed);
            self.insert(epoch, sealed.chunks);
        }
        if let Some((_, awaits)) = self.awaits.take() {
            awaits.end();
        }
    }

    fn save(&mut self, open: Option<Time>) {
        if let Some(saving) = &mut self.saving {
            saving.save_relation(open);
        }
    }

    /// Adds a batch of one epoch to the trace.
    fn insert(&mut self, epoch: Time, chunks: Vec<RowChunk>) {
        let upper = Antichain::from_elem(epoch + 1);
        let lower = std::mem::replace(&mut self.upper, upper.clone());
        let description = Description::new(lower, upper, Antichain::from_elem(0));
        self.grew = true;
        self.writer.insert(Rc::new(ChunkBatch::new(chunks, description)), Some(epoch));
    }

    fn take(&mut self, parcel: &mut Parcel, epoch: Time, capability: impl FnOnce() -> Capability<Time>) {
        let Some(delta) = parcel.0.take().filter(|delta| !delta.is_empty()) else { return };
        self.stats.took(delta.len());
        self.wait(delta.len() as isize);
        let delta = Delta::of(delta.rows, delta.diffs);
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
        (self.watch)(epoch, &sealed);
        self.insert(epoch, sealed.chunks);
        if let Some(saving) = &mut self.saving {
            saving.gives(&sealed.deltas);
        }
        sealed.deltas.iter().for_each(|delta| self.stats.gave(delta));
        sealed.deltas
    }

    /// Says how far the trace is complete, and merges a little.
    ///
    /// The batch of an epoch says enough of itself, and the next one begins where it ended: an empty batch between any
    /// two would double the work of the spine. Only a trace at rest needs them, for those who import it.
    fn advance(&mut self, frontier: &Antichain<Time>) {
        let grew = std::mem::take(&mut self.grew);
        // A relation that was restored is ahead of its inputs until they have begun.
        let passed = PartialOrder::less_than(&self.upper, frontier);
        if passed && (!grew || frontier.is_empty()) {
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
