//! The rows of groups that are forgotten after a time, where aggregates keep values that do not tell the rows they came from.
//!
//! Such groups are saved as the rows that make them. When a group is forgotten its rows have to be taken out of what was saved,
//! so they are kept as well: only where `state_ttl` and checkpoints come together.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use arrow_row::{RowConverter, SortField};

use super::sink::consolidate;
use crate::{Delta, Diff};

/// Rows by group.
pub(crate) struct Ledger {
    schema: SchemaRef,
    converter: RowConverter,
    rows: Vec<HashMap<Box<[u8]>, Diff, ahash::RandomState>>,
    bytes: usize,
    changes: Vec<Delta>,
}

impl Ledger {
    /// Whether rows of this schema can be told apart.
    pub(crate) fn can_keep(schema: &SchemaRef) -> bool {
        RowConverter::supports_fields(&fields(schema))
    }

    /// No rows yet of a schema whose rows can be told apart.
    pub(crate) fn new(schema: &SchemaRef) -> Self {
        let converter = RowConverter::new(fields(schema)).expect("it was asked whether they can be told apart");
        Ledger { schema: Arc::clone(schema), converter, rows: Vec::new(), bytes: 0, changes: Vec::new() }
    }

    /// Rows of these groups came or went.
    pub(crate) fn add(&mut self, delta: &Delta, groups: &[u32]) {
        let bound = groups.iter().max().map_or(0, |last| *last as usize + 1);
        if self.rows.len() < bound {
            self.rows.resize_with(bound, HashMap::default);
        }
        let encoded = self.converter.convert_columns(delta.rows.columns()).expect("the input's columns");
        for (row, group) in groups.iter().enumerate() {
            let (bytes, of_group) = (encoded.row(row).data(), &mut self.rows[*group as usize]);
            match of_group.get_mut(bytes) {
                Some(count) => {
                    *count += delta.diff(row);
                    if *count == 0 {
                        of_group.remove(bytes);
                        self.bytes -= bytes.len() + ROW_BYTES;
                    }
                }
                None if delta.diff(row) != 0 => {
                    of_group.insert(bytes.into(), delta.diff(row));
                    self.bytes += bytes.len() + ROW_BYTES;
                }
                None => {}
            }
        }
        self.changes.push(Delta::of(delta.rows.clone(), delta.diffs.clone()));
    }

    /// Groups are forgotten.
    pub(crate) fn forget(&mut self, groups: &[u32]) {
        let (mut rows, mut diffs): (Vec<Box<[u8]>>, Vec<Diff>) = Default::default();
        for group in groups {
            let Some(of_group) = self.rows.get_mut(*group as usize) else { continue };
            for (row, count) in std::mem::take(of_group) {
                rows.push(row);
                diffs.push(-count);
            }
        }
        if rows.is_empty() {
            return;
        }
        self.bytes -= rows.iter().map(|row| row.len() + ROW_BYTES).sum::<usize>();
        let parser = self.converter.parser();
        let columns = self.converter.convert_rows(rows.iter().map(|row| parser.parse(row))).expect("this converter's bytes");
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options);
        self.changes.push(Delta::with_diffs(batch.expect("the input's columns"), Int64Array::from(diffs)));
    }

    /// What changed since this was asked last.
    pub(crate) fn take(&mut self) -> Vec<Delta> {
        consolidate(std::mem::take(&mut self.changes), &self.schema)
    }

    /// About how many bytes it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

fn fields(schema: &SchemaRef) -> Vec<SortField> {
    schema.fields().iter().map(|field| SortField::new(field.data_type().clone())).collect()
}

/// What a row takes besides its bytes, about.
const ROW_BYTES: usize = 32;
