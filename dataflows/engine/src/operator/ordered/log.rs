//! Which rows came to partitions and went since the last checkpoint.

use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;

use super::Rows;
use crate::keys::Keys;
use crate::operator::sink::consolidate;
use crate::{Delta, Diff};

/// Changes of the rows that are kept, as rows of the input.
pub(crate) struct RowLog {
    schema: SchemaRef,
    /// Partition, row and multiplicity, of what is not among `changes` yet.
    fresh: Vec<(u32, u32, Diff)>,
    changes: Vec<Delta>,
}

impl RowLog {
    /// Of rows of this schema.
    pub(crate) fn new(schema: SchemaRef) -> Self {
        RowLog { schema, fresh: Vec::new(), changes: Vec::new() }
    }

    /// Copies of a row came or, negative, went.
    pub(crate) fn add(&mut self, partition: u32, row: u32, diff: Diff) {
        self.fresh.push((partition, row, diff));
    }

    /// Reads the rows that changed, before those that are gone are forgotten.
    pub(crate) fn note(&mut self, rows: &Rows, keys: &Keys) {
        if self.fresh.is_empty() {
            return;
        }
        let mut fresh = std::mem::take(&mut self.fresh);
        fresh.sort_unstable_by_key(|(partition, row, _)| (*partition, *row));
        let (mut partitions, mut numbers, mut diffs) = (Vec::new(), Vec::new(), Vec::new());
        for same in fresh.chunk_by(|one, other| (one.0, one.1) == (other.0, other.1)) {
            let diff: Diff = same.iter().map(|(.., diff)| diff).sum();
            if diff != 0 {
                partitions.push(same[0].0);
                numbers.push(same[0].1);
                diffs.push(diff);
            }
        }
        fresh.clear();
        self.fresh = fresh;
        if diffs.is_empty() {
            return;
        }
        let columns = rows.columns(&numbers, &keys.columns(&partitions));
        let options = RecordBatchOptions::new().with_row_count(Some(diffs.len()));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options);
        self.changes.push(Delta::with_diffs(batch.expect("the input's columns"), Int64Array::from(diffs)));
    }

    /// What changed since this was asked last.
    pub(crate) fn take(&mut self) -> Vec<Delta> {
        consolidate(std::mem::take(&mut self.changes), &self.schema)
    }
}
