//! Sources whose batches are ready before the clock starts, and sources fed by the benchmark itself.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use arrow::array::Int64Array;
use arrow::record_batch::RecordBatch;
use highwater_connectors::source::{
    Offset, PartitionId, PartitionReader, Polled, Receipt, Source, SourceBatch, SourceConnector, SourceError, SourceSpec, Waker,
};
use highwater_plan::{Diagnostic, Field, Origin};

/// A batch that can be given again and again.
#[derive(Clone)]
pub(crate) struct Prepared {
    rows: RecordBatch,
    diffs: Option<Int64Array>,
    origin: Option<Arc<dyn Origin>>,
}

/// Reads every partition of a bounded source to its end.
pub(crate) fn prepare(source: &dyn Source) -> Result<Vec<Vec<Prepared>>, SourceError> {
    let partitions = source.partitions()?;
    partitions.iter().map(|partition| read(source, partition)).collect()
}

fn read(source: &dyn Source, partition: &PartitionId) -> Result<Vec<Prepared>, SourceError> {
    let mut reader = source.read(partition, None, Arc::new(|| {}))?;
    let mut batches = Vec::new();
    loop {
        match reader.poll(BATCH_ROWS)? {
            Polled::Batch(SourceBatch { rows, diffs, origin, .. }) => batches.push(Prepared { rows, diffs, origin }),
            Polled::Pending(_) | Polled::Waiting(_) => std::thread::yield_now(),
            Polled::Finished => return Ok(batches),
        }
    }
}

/// Rows of a prepared batch.
const BATCH_ROWS: usize = 8_192;

/// Stands in for the connector `name`: gives each source the batches that were prepared for it.
pub(crate) struct Memory {
    pub(crate) name: &'static str,
    /// By source name, per partition.
    pub(crate) batches: HashMap<String, Arc<Vec<Vec<Prepared>>>>,
}

impl SourceConnector for Memory {
    fn name(&self) -> &'static str {
        self.name
    }

    fn fields(&self) -> Vec<Field> {
        Vec::new()
    }

    fn open(&self, spec: &SourceSpec) -> Result<Box<dyn Source>, Diagnostic> {
        match self.batches.get(&spec.name) {
            Some(batches) => Ok(Box::new(MemorySource(Arc::clone(batches)))),
            None => Err(Diagnostic::error("missing-option", format!("no batches were prepared for source '{}'", spec.name))),
        }
    }
}

struct MemorySource(Arc<Vec<Vec<Prepared>>>);

impl Source for MemorySource {
    fn partitions(&self) -> Result<Vec<PartitionId>, SourceError> {
        Ok((0..self.0.len()).map(|index| PartitionId::new(index.to_string())).collect())
    }

    fn read(&self, partition: &PartitionId, _: Option<&Offset>, _: Waker) -> Result<Box<dyn PartitionReader>, SourceError> {
        let index: usize = partition.0.parse().map_err(|_| SourceError::fatal(format!("no partition {partition}")))?;
        Ok(Box::new(MemoryReader { batches: Arc::clone(&self.0), partition: index, next: 0 }))
    }

    fn bounded(&self) -> bool {
        true
    }
}

struct MemoryReader {
    batches: Arc<Vec<Vec<Prepared>>>,
    partition: usize,
    next: usize,
}

impl PartitionReader for MemoryReader {
    fn poll(&mut self, _rows_max: usize) -> Result<Polled, SourceError> {
        let Some(batch) = self.batches[self.partition].get(self.next) else { return Ok(Polled::Finished) };
        self.next += 1;
        Ok(Polled::Batch(batch.clone().into_batch(Offset::new(self.next), None)))
    }
}

impl Prepared {
    /// Rows that are each inserted, of all physical columns.
    pub(crate) fn insert(rows: RecordBatch) -> Self {
        Prepared { rows, diffs: None, origin: None }
    }

    fn into_batch(self, offset: Offset, receipt: Option<Receipt>) -> SourceBatch {
        SourceBatch { rows: self.rows, diffs: self.diffs, origin: self.origin, rejects: Vec::new(), offset, bytes: 0, receipt }
    }
}

/// Stands in for the connector `http`: the benchmark gives batches while the job runs.
#[derive(Clone, Default)]
pub(crate) struct Fed {
    queues: Arc<Mutex<HashMap<String, Queue>>>,
}

#[derive(Default)]
struct Queue {
    batches: VecDeque<(Prepared, Receipt)>,
    waker: Option<Waker>,
}

impl Fed {
    /// Gives a source a batch; `done` is called with its epoch.
    pub(crate) fn give(&self, source: &str, batch: Prepared, done: Receipt) {
        let mut queues = self.queues.lock().expect("nothing panics under this lock");
        let queue = queues.entry(source.to_owned()).or_default();
        queue.batches.push_back((batch, done));
        if let Some(waker) = &queue.waker {
            waker();
        }
    }
}

impl SourceConnector for Fed {
    fn name(&self) -> &'static str {
        "http"
    }

    fn fields(&self) -> Vec<Field> {
        Vec::new()
    }

    fn open(&self, spec: &SourceSpec) -> Result<Box<dyn Source>, Diagnostic> {
        Ok(Box::new(FedSource { fed: self.clone(), name: spec.name.clone(), used: spec.used.clone() }))
    }
}

struct FedSource {
    fed: Fed,
    name: String,
    used: Vec<usize>,
}

impl Source for FedSource {
    fn partitions(&self) -> Result<Vec<PartitionId>, SourceError> {
        Ok(vec![PartitionId::new("0")])
    }

    fn read(&self, _: &PartitionId, _: Option<&Offset>, waker: Waker) -> Result<Box<dyn PartitionReader>, SourceError> {
        let mut queues = self.fed.queues.lock().expect("nothing panics under this lock");
        queues.entry(self.name.clone()).or_default().waker = Some(waker);
        Ok(Box::new(FedReader { fed: self.fed.clone(), name: self.name.clone(), used: self.used.clone() }))
    }

    fn bounded(&self) -> bool {
        false
    }
}

struct FedReader {
    fed: Fed,
    name: String,
    used: Vec<usize>,
}

impl PartitionReader for FedReader {
    fn poll(&mut self, _rows_max: usize) -> Result<Polled, SourceError> {
        let mut queues = self.fed.queues.lock().expect("nothing panics under this lock");
        let next = queues.entry(self.name.clone()).or_default().batches.pop_front();
        Ok(match next {
            Some((mut batch, done)) => {
                batch.rows = batch.rows.project(&self.used).map_err(|error| SourceError::fatal(error.to_string()))?;
                Polled::Batch(batch.into_batch(Offset::new(0), Some(done)))
            }
            None => Polled::Pending(None),
        })
    }
}
