//! Hands a sink the consolidated changes of one closed epoch after another, on one worker.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute;
use arrow::datatypes::SchemaRef;
use arrow_row::{RowConverter, SortField};

use super::epoch::EpochLogic;
use crate::checkpoint::Keeps;
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
    let batches: Vec<_> = deltas.iter().map(|delta| &delta.rows).collect();
    let rows = compute::concat_batches(schema, batches).expect("batches of one schema");
    let diffs: Vec<Diff> = deltas.iter().flat_map(|delta| (0..delta.len()).map(|row| delta.diff(row))).collect();
    if schema.fields().is_empty() {
        // Rows without columns are all alike.
        return match diffs.iter().sum() {
            0 => Vec::new(),
            sum => {
                let options = RecordBatchOptions::new().with_row_count(Some(1));
                let row = RecordBatch::try_new_with_options(Arc::clone(schema), Vec::new(), &options);
                vec![Delta::with_diffs(row.expect("no columns"), vec![sum].into())]
            }
        };
    }
    let fields = schema.fields().iter().map(|field| SortField::new(field.data_type().clone())).collect();
    let converter = RowConverter::new(fields).expect("planners allow only columns that can be encoded");
    let encoded = converter.convert_columns(rows.columns()).expect("the schema's columns");
    let mut first: HashMap<&[u8], usize> = HashMap::new();
    let encoded: Vec<_> = encoded.iter().collect();
    let mut kept: Vec<(u32, Diff)> = Vec::new();
    for (row, diff) in diffs.into_iter().enumerate() {
        let position = *first.entry(encoded[row].data()).or_insert_with(|| {
            kept.push((row as u32, 0));
            kept.len() - 1
        });
        kept[position].1 += diff;
    }
    kept.retain(|(_, diff)| *diff != 0);
    if kept.is_empty() {
        return Vec::new();
    }
    kept.sort_by_key(|(_, diff)| *diff > 0);
    let positions = UInt32Array::from_iter_values(kept.iter().map(|(row, _)| *row));
    let rows = compute::take_record_batch(&rows, &positions).expect("rows of the batch");
    vec![Delta::with_diffs(rows, Int64Array::from_iter_values(kept.iter().map(|(_, diff)| *diff)))]
}
