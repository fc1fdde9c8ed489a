//! Moving updates to the worker that owns their key.

use arrow::array::UInt32Array;
use timely::communication::Push;
use timely::container::NoopBuilder;
use timely::dataflow::channels::Message;
use timely::dataflow::channels::pact::{DistributorPact, Pipeline};
use timely::dataflow::channels::pushers::exchange::Distributor;
use timely::dataflow::operators::generic::Operator;

use crate::delta::Parcel;
use crate::hash::rows_of_workers;
use crate::operator::DeltaStream;

/// Where an operator's input goes.
#[derive(Debug, Clone)]
pub(crate) enum Route {
    /// It stays on its worker.
    Here,
    /// To the worker that owns the hash of these columns.
    ByColumns(Vec<usize>),
    /// All of it to one worker.
    To(usize),
    /// All of it to every worker.
    Everywhere,
}

/// Splits batches by the hash of key columns.
pub(crate) struct ByColumns {
    columns: Vec<usize>,
    hashes: Vec<u64>,
}

/// The pact that moves each row to the worker that owns the hash of these columns.
pub(crate) fn by_columns(columns: &[usize]) -> DistributorPact<impl FnOnce(usize) -> ByColumns + use<>> {
    let columns = columns.to_vec();
    DistributorPact(move |_peers| ByColumns { columns, hashes: Vec::new() })
}

impl Distributor<Parcel> for ByColumns {
    fn partition<T: Clone, P: Push<Message<T, Parcel>>>(&mut self, parcel: &mut Parcel, time: &T, pushers: &mut [P]) {
        let Some(delta) = parcel.0.take() else { return };
        let columns = delta.columns(&self.columns);
        let parts = rows_of_workers(&columns, delta.len(), pushers.len(), &mut self.hashes);
        for (pusher, part) in pushers.iter_mut().zip(parts) {
            match part.len() {
                0 => {}
                rows if rows == delta.len() => {
                    let mut whole = delta.clone();
                    whole.origin = None;
                    Message::push_at(&mut Parcel(Some(whole)), time.clone(), pusher);
                }
                _ => {
                    let taken = delta.take(&UInt32Array::from(part));
                    Message::push_at(&mut Parcel(Some(taken)), time.clone(), pusher);
                }
            }
        }
    }

    fn flush<T: Clone, P: Push<Message<T, Parcel>>>(&mut self, _time: &T, _pushers: &mut [P]) {}
}

/// Sends everything to one worker.
pub(crate) struct ToWorker(usize);

/// The pact that moves everything to one worker.
pub(crate) fn to_worker(worker: usize) -> DistributorPact<impl FnOnce(usize) -> ToWorker> {
    DistributorPact(move |_peers| ToWorker(worker))
}

impl Distributor<Parcel> for ToWorker {
    fn partition<T: Clone, P: Push<Message<T, Parcel>>>(&mut self, parcel: &mut Parcel, time: &T, pushers: &mut [P]) {
        if let Some(mut delta) = parcel.0.take() {
            delta.origin = None;
            Message::push_at(&mut Parcel(Some(delta)), time.clone(), &mut pushers[self.0]);
        }
    }

    fn flush<T: Clone, P: Push<Message<T, Parcel>>>(&mut self, _time: &T, _pushers: &mut [P]) {}
}

/// Each batch once for every worker, one copy after the other; [`in_turn`] moves them.
///
/// Copies are made by an operator, because timely counts what is sent before a pact sees it: a pact that sent more would
/// never be done, or done too early.
pub(crate) fn copies(stream: DeltaStream<'_>, peers: usize) -> DeltaStream<'_> {
    stream.unary::<NoopBuilder<Parcel>, _, _, _>(Pipeline, "copies", move |_, _| {
        move |input, output| {
            input.for_each(|capability, parcel| {
                let Some(mut delta) = parcel.0.take() else { return };
                delta.origin = None;
                let mut session = output.session_with_builder(&capability);
                for _ in 0..peers {
                    session.give_container(&mut Parcel(Some(delta.clone())));
                }
            });
        }
    })
}

/// Sends one batch to the first worker, the next to the second and so on.
pub(crate) struct InTurn(usize);

/// The pact that moves [`copies`], each to another worker.
pub(crate) fn in_turn() -> DistributorPact<impl FnOnce(usize) -> InTurn> {
    DistributorPact(move |_peers| InTurn(0))
}

impl Distributor<Parcel> for InTurn {
    fn partition<T: Clone, P: Push<Message<T, Parcel>>>(&mut self, parcel: &mut Parcel, time: &T, pushers: &mut [P]) {
        if let Some(delta) = parcel.0.take() {
            Message::push_at(&mut Parcel(Some(delta)), time.clone(), &mut pushers[self.0]);
            self.0 = (self.0 + 1) % pushers.len();
        }
    }

    fn flush<T: Clone, P: Push<Message<T, Parcel>>>(&mut self, _time: &T, _pushers: &mut [P]) {}
}
