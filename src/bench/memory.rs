//! Sources whose batches are ready before the clock starts, and sources fed by the benchmark itself.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, PrimitiveArray};
use arrow::datatypes::{ArrowPrimitiveType, Int64Type, TimestampMicrosecondType, TimestampMillisecondType};
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
    /// How often they are given.
    pub(crate) laps: Laps,
}

/// How often prepared batches are given, each time as events that follow those before.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Laps {
    /// How often.
    pub(crate) count: u64,
    /// Microseconds by which the timestamps of a lap are later than those of the one before.
    pub(crate) micros: i64,
    /// By how much the numbers of a source's column are larger than in the lap before, once multiplied by `scale`.
    pub(crate) growth: fn(&str, &str) -> i64,
    /// See `growth`.
    pub(crate) scale: i64,
}

impl Laps {
    /// All batches once.
    pub(crate) const ONE: Laps = Laps { count: 1, micros: 0, growth: |_, _| 0, scale: 0 };

    /// A source's batch as it is in a lap.
    fn at(&self, source: &str, batch: &Prepared, lap: u64) -> Prepared {
        if lap == 0 {
            return batch.clone();
        }
        let lap = lap as i64;
        let schema = batch.rows.schema();
        let column = |(field, column): (&Arc<arrow::datatypes::Field>, &ArrayRef)| -> ArrayRef {
            if let Some(times) = column.as_primitive_opt::<TimestampMicrosecondType>() {
                return later(times, lap * self.micros);
            }
            if let Some(times) = column.as_primitive_opt::<TimestampMillisecondType>() {
                return later(times, lap * self.micros / 1_000);
            }
            match ((self.growth)(source, field.name()), column.as_primitive_opt::<Int64Type>()) {
                (0, _) | (_, None) => Arc::clone(column),
                (growth, Some(numbers)) => later(numbers, lap * growth * self.scale),
            }
        };
        let columns = schema.fields().iter().zip(batch.rows.columns()).map(column).collect();
        let rows = RecordBatch::try_new(schema, columns).expect("columns of the same types and length");
        Prepared { rows, diffs: batch.diffs.clone(), origin: None }
    }
}

fn later<T: ArrowPrimitiveType<Native = i64>>(column: &PrimitiveArray<T>, by: i64) -> ArrayRef {
    Arc::new(column.unary::<_, T>(|value| value + by).with_data_type(column.data_type().clone()))
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
            Some(batches) => {
                Ok(Box::new(MemorySource { name: spec.name.clone(), batches: Arc::clone(batches), laps: self.laps }))
            }
            None => Err(Diagnostic::error("missing-option", format!("no batches were prepared for source '{}'", spec.name))),
        }
    }
}

struct MemorySource {
    name: String,
    batches: Arc<Vec<Vec<Prepared>>>,
    laps: Laps,
}

impl Source for MemorySource {
    fn partitions(&self) -> Result<Vec<PartitionId>, SourceError> {
        Ok((0..self.batches.len()).map(|index| PartitionId::new(index.to_string())).collect())
    }

    fn read(&self, partition: &PartitionId, _: Option<&Offset>, _: Waker) -> Result<Box<dyn PartitionReader>, SourceError> {
        let index: usize = partition.0.parse().map_err(|_| SourceError::fatal(format!("no partition {partition}")))?;
        let (name, batches) = (self.name.clone(), Arc::clone(&self.batches));
        Ok(Box::new(MemoryReader { name, batches, laps: self.laps, partition: index, next: 0 }))
    }

    fn bounded(&self) -> bool {
        true
    }
}

struct MemoryReader {
    name: String,
    batches: Arc<Vec<Vec<Prepared>>>,
    laps: Laps,
    partition: usize,
    next: usize,
}

impl PartitionReader for MemoryReader {
    fn poll(&mut self, _rows_max: usize) -> Result<Polled, SourceError> {
        let batches = &self.batches[self.partition];
        let lap = self.next.checked_div(batches.len()).unwrap_or(0) as u64;
        if batches.is_empty() || lap >= self.laps.count {
            return Ok(Polled::Finished);
        }
        let batch = self.laps.at(&self.name, &batches[self.next % batches.len()], lap);
        self.next += 1;
        Ok(Polled::Batch(batch.into_batch(Offset::new(self.next), None)))
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

#[cfg(test)]
mod tests {
    use arrow::array::TimestampMicrosecondArray;

    use super::*;

    #[test]
    fn a_lap_goes_on_where_the_one_before_ended() {
        let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![1, 2]).with_timezone("UTC"));
        let ids: ArrayRef = Arc::new(Int64Array::from(vec![Some(7), None]));
        let rows =
            RecordBatch::try_from_iter_with_nullable([("at", times, true), ("id", ids.clone(), true), ("price", ids, true)]);
        let batches = Arc::new(vec![vec![Prepared::insert(rows.unwrap())]]);
        let laps = Laps { count: 2, micros: 10, growth: |_, column| if column == "id" { 3 } else { 0 }, scale: 100 };
        let source = MemorySource { name: "auction".into(), batches, laps };
        let given = read(&source, &PartitionId::new("0")).unwrap();
        let numbers = |lap: usize, column: usize| given[lap].rows.column(column).as_primitive::<Int64Type>().clone();
        assert_eq!((given.len(), given[0].rows.schema()), (2, given[1].rows.schema()));
        let times = given[1].rows.column(0).as_primitive::<TimestampMicrosecondType>();
        assert_eq!(times.values().to_vec(), [11, 12]);
        assert_eq!(numbers(1, 1), Int64Array::from(vec![Some(307), None]));
        assert_eq!(numbers(1, 2), numbers(0, 2), "prices do not grow");
    }
}
