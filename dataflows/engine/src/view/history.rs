//! What the last epochs changed: a ring of their sealed batches, for those who follow a view.
//!
//! The batches are shared with the trace until it has merged them. The ring is bounded in bytes and epochs; whoever
//! falls behind its start reads the view anew.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use arrow::array::Int64Array;
use differential_dataflow::trace::chunk::Chunk;

use super::{Changed, Compacted};
use crate::Time;
use crate::arrangement::{RowChunk, RowCodec};

/// Bytes of the changes that are kept of a view, over all workers.
const BYTES_MAX: usize = 64 << 20;

/// Epochs whose changes are kept.
const EPOCHS_MAX: usize = 100_000;

/// Epochs that are kept however large they are: a follower that keeps up is never sent away.
const EPOCHS_KEPT: usize = 4;

/// One worker's ring.
#[derive(Debug)]
pub(crate) struct History {
    epochs: VecDeque<Epoch>,
    bytes: usize,
    /// All changes after this epoch are in the ring.
    since: Time,
    bytes_max: usize,
    epochs_max: usize,
}

#[derive(Debug)]
struct Epoch {
    epoch: Time,
    chunks: Arc<[RowChunk]>,
    bytes: usize,
}

impl History {
    /// An empty ring of one of `peers` workers.
    pub(crate) fn new(peers: usize) -> Self {
        Self::with_limits(BYTES_MAX / peers, EPOCHS_MAX)
    }

    pub(crate) fn with_limits(bytes_max: usize, epochs_max: usize) -> Self {
        History { epochs: VecDeque::new(), bytes: 0, since: 0, bytes_max, epochs_max }
    }

    /// Forgets all changes up to `epoch`.
    pub(crate) fn begin_at(&mut self, epoch: Time) {
        self.epochs.clear();
        (self.bytes, self.since) = (0, epoch);
    }

    /// Adds what an epoch changed, and forgets the oldest epochs that are too much.
    pub(crate) fn push(&mut self, epoch: Time, chunks: &[RowChunk]) {
        if epoch <= self.since {
            // What a restored relation had may come after it was said where it begins.
            return;
        }
        debug_assert!(self.epochs.back().is_none_or(|last| last.epoch < epoch), "epochs are sealed in order, each once");
        let bytes = chunks.iter().map(RowChunk::bytes).sum();
        self.bytes += bytes;
        self.epochs.push_back(Epoch { epoch, chunks: chunks.into(), bytes });
        while self.epochs.len() > EPOCHS_KEPT && (self.bytes > self.bytes_max || self.epochs.len() > self.epochs_max) {
            let oldest = self.epochs.pop_front().expect("there are more than a few");
            self.bytes -= oldest.bytes;
            self.since = oldest.epoch;
        }
    }

    /// The batches of the epochs in `(after, through]`.
    fn range(&self, after: Time, through: Time) -> Result<impl Iterator<Item = (Time, Arc<[RowChunk]>)>, Compacted> {
        if after < self.since {
            return Err(Compacted { since: self.since });
        }
        let start = self.epochs.partition_point(|entry| entry.epoch <= after);
        let end = self.epochs.partition_point(|entry| entry.epoch <= through).max(start);
        Ok(self.epochs.range(start..end).map(|entry| (entry.epoch, Arc::clone(&entry.chunks))))
    }
}

/// The changes of all workers in `(after, through]`.
pub(super) fn changes<'a>(
    codec: &RowCodec,
    histories: impl Iterator<Item = &'a Mutex<History>>,
    after: Time,
    through: Time,
) -> Result<Vec<Changed>, Compacted> {
    let mut epochs: BTreeMap<Time, Vec<Arc<[RowChunk]>>> = BTreeMap::new();
    for history in histories {
        let history = history.lock().expect("a history is changed without panicking");
        for (epoch, chunks) in history.range(after, through)? {
            epochs.entry(epoch).or_default().push(chunks);
        }
    }
    Ok(epochs.into_iter().map(|(epoch, batches)| changed(codec, epoch, &batches)).collect())
}

fn changed(codec: &RowCodec, epoch: Time, batches: &[Arc<[RowChunk]>]) -> Changed {
    let chunks = batches.iter().flat_map(|batch| batch.iter());
    let mut updates: Vec<(&[u8], i64)> =
        chunks.flat_map(|chunk| (0..chunk.len()).map(|row| (chunk.row(row), chunk.diff(row)))).collect();
    updates.sort_unstable();
    let rows = codec.decode(updates.iter().map(|(row, _)| *row));
    Changed { epoch, rows, diffs: updates.iter().map(|(_, diff)| *diff).collect::<Int64Array>() }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, StringArray};
    use arrow::datatypes::{DataType, Field, Schema};
    use arrow::record_batch::RecordBatch;

    use super::*;
    use crate::Delta;
    use crate::arrangement::Sealer;

    #[test]
    fn the_oldest_epochs_go_but_never_the_last_few() {
        let mut history = History::with_limits(0, 10);
        for epoch in 1..=9 {
            history.push(epoch * 10, &[]);
        }
        assert_eq!(history.range(0, 90).map(Iterator::count), Ok(9), "empty batches take no bytes");
        let mut history = History::with_limits(1 << 20, 6);
        for epoch in 1..=9 {
            history.push(epoch * 10, &[]);
        }
        assert_eq!(history.range(29, 90).map(Iterator::count), Err(Compacted { since: 30 }));
        let epochs = |after, through| history.range(after, through).map(|entries| entries.map(|(epoch, _)| epoch).collect());
        assert_eq!(epochs(30, 60), Ok(vec![40, 50, 60]));
        assert_eq!(epochs(45, 55), Ok(vec![50]));
        assert_eq!(epochs(90, 95), Ok(vec![]));
        assert_eq!(epochs(90, 30), Ok(vec![]));
    }

    #[test]
    fn bytes_are_bounded() {
        let schema = Arc::new(Schema::new(vec![Field::new("text", DataType::Utf8, false)]));
        let codec = Arc::new(RowCodec::new(schema.clone(), &[0]));
        let mut sealer = Sealer::new(Arc::clone(&codec));
        let history = Mutex::new(History::with_limits(10_000, EPOCHS_MAX));
        for epoch in 1..=50 {
            let text: ArrayRef = Arc::new(StringArray::from(vec![format!("{epoch} ").repeat(300)]));
            let rows = RecordBatch::try_new(schema.clone(), vec![text]).expect("columns fit");
            let sealed = sealer.seal(epoch, vec![Delta::insert(rows)]);
            history.lock().expect("no panic").push(epoch, &sealed.chunks);
        }
        assert!(history.lock().expect("no panic").bytes <= 10_000);
        let since = history.lock().expect("no panic").since;
        assert!((30..=46).contains(&since), "some epochs fit: all after {since}");
        let followed = changes(&codec, [&history].into_iter(), since, 49).expect("these are kept");
        assert_eq!(followed.iter().map(|changed| changed.epoch).collect::<Vec<_>>(), (since + 1..50).collect::<Vec<_>>());
        assert_eq!(changes(&codec, [&history].into_iter(), since - 1, 49).map(|_| ()), Err(Compacted { since }));
    }
}
