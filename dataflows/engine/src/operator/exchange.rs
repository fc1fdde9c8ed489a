//! Moving updates to the worker that owns their key.

use arrow::array::UInt32Array;
use timely::communication::Push;
use timely::dataflow::channels::Message;
use timely::dataflow::channels::pact::DistributorPact;
use timely::dataflow::channels::pushers::exchange::Distributor;

use crate::delta::Parcel;
use crate::hash::{hash_columns, worker_of};

/// Where an operator's input goes.
#[derive(Debug, Clone)]
pub(crate) enum Route {
    /// It stays on its worker.
    Here,
    /// To the worker that owns the hash of these columns.
    ByColumns(Vec<usize>),
    /// All of it to one worker.
    To(usize),
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
        hash_columns(&columns, delta.len(), &mut self.hashes);
        let peers = pushers.len();
        let mut parts = vec![Vec::with_capacity(delta.len() / peers + 16); peers];
        for (row, hash) in self.hashes.iter().enumerate() {
            parts[worker_of(*hash, peers)].push(row as u32);
        }
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
