//! Hands a sink the consolidated changes of one closed epoch after another, on one worker.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute;
use arrow::datatypes::SchemaRef;

use super::epoch::EpochLogic;
use crate::checkpoint::Keeps;
use crate::equal::{Order, Parts};
use crate::{Delta, Diff, EpochSink, Time};

/// Writes to an [`EpochSink`].
pub(crate) struct SinkWriter {
    sink: Box<dyn EpochSink>,
    append_only: bool,
    schema: SchemaRef,
    failed: bool,
    /// Stops the job.
    fail: Arc<dyn Fn(String) + Send + Sync>,
}

impl SinkWriter {
    /// Writes rows of `schema`; `append_only` changes need no consolidation.
    pub(crate) fn new(
        sink: Box<dyn EpochSink>,
        append_only: bool,
        schema: SchemaRef,
        fail: Arc<dyn Fn(String) + Send + Sync>,
    ) -> Self {
        SinkWriter { sink, append_only, schema, failed: false, fail }
    }
}

impl EpochLogic for SinkWriter {
    /// No tables, but a checkpoint is whole only when all epochs up to its own were written.
    fn keeps(&self) -> Keeps {
        Keeps::Own
    }

    fn apply(&mut self, epoch: Time, inputs: &mut [Vec<Delta>], _watermarks: Option<&[i64]>, _output: &mut Vec<Delta>) {
        if self.failed {
            return;
        }
        let changes = std::mem::take(&mut inputs[0]);
        let changes = match self.append_only {
            true => changes.into_iter().map(|delta| named(delta, &self.schema)).collect(),
            false => consolidate(changes, &self.schema),
        };
        if changes.is_empty() {
            return;
        }
        if let Err(message) = self.sink.write(epoch, &changes).and_then(|()| self.sink.flush()) {
            self.failed = true;
            (self.fail)(message);
        }
    }
}

/// Rows under the names that they are written with.
fn named(delta: Delta, schema: &SchemaRef) -> Delta {
    let options = RecordBatchOptions::new().with_row_count(Some(delta.len()));
    let rows = RecordBatch::try_new_with_options(Arc::clone(schema), delta.rows.columns().to_vec(), &options);
    Delta::of(rows.expect("names apart, the schema is the rows'"), delta.diffs)
}

/// Adds up the multiplicities of equal rows and leaves out those that cancel; retractions come first.
pub(crate) fn consolidate(deltas: Vec<Delta>, schema: &SchemaRef) -> Vec<Delta> {
    if deltas.is_empty() {
        return deltas;
    }
    let hashes: Vec<Vec<u64>> = deltas.iter().map(|delta| delta.hashes(schema.fields().len())).collect();
    let columns: Vec<&[ArrayRef]> = deltas.iter().map(|delta| delta.rows.columns()).collect();
    let diff = |batch: usize, row: usize| deltas[batch].diff(row);
    let mut sums = Parts::new(&hashes, |_| true, Order::OldestFirst, diff).sums(&columns, 1);
    sums.sort_unstable_by_key(|(place, diff)| (*diff > 0, place.batch, place.row));
    let (places, diffs): (Vec<(usize, usize)>, Vec<Diff>) =
        sums.into_iter().map(|(place, diff)| ((place.batch as usize, place.row as usize), diff)).unzip();
    if places.is_empty() {
        return Vec::new();
    }
    let column = |column: usize| {
        let arrays: Vec<&dyn Array> = columns.iter().map(|columns| columns[column].as_ref()).collect();
        compute::interleave(&arrays, &places).expect("rows of the batches, which are of one schema")
    };
    let options = RecordBatchOptions::new().with_row_count(Some(places.len()));
    let kept = (0..schema.fields().len()).map(column).collect();
    let rows = RecordBatch::try_new_with_options(Arc::clone(schema), kept, &options).expect("batches of the schema");
    vec![Delta::with_diffs(rows, diffs.into())]
}
