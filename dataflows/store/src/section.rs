//! What is stored: a table under a key.

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use serde_json::Value;

use crate::error::{Result, StoreError};

/// How deep JSON may be nested, so that whoever reads it can.
const DEPTH_MAX: usize = 64;

/// A table of rows under a key: the piece of a checkpoint that can be read by itself.
///
/// A section of many batches is written in pieces of some tens of megabytes, which are read as sections of the same key, by
/// several threads. A batch is never cut, so large state should come in batches of some thousand rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Section {
    /// What it is found by. Several sections may share a key; they are given in the order in which they were written.
    pub key: String,
    /// What the writer says of it. Numbers that are no integers may lose their last digit.
    pub meta: Value,
    /// The columns, known even if there are no rows.
    pub schema: SchemaRef,
    /// The rows, in order.
    pub batches: Vec<RecordBatch>,
}

impl Section {
    /// A section without meta.
    pub fn new(key: impl Into<String>, schema: SchemaRef, batches: Vec<RecordBatch>) -> Section {
        Section { key: key.into(), meta: Value::Null, schema, batches }
    }

    /// The same section with meta.
    pub fn with_meta(mut self, meta: Value) -> Section {
        self.meta = meta;
        self
    }

    /// How many rows it has.
    pub fn rows(&self) -> u64 {
        self.batches.iter().map(|batch| batch.num_rows() as u64).sum()
    }

    /// Whether it can be written: batches of its schema, meta that can be read again.
    pub(crate) fn check(&self) -> Result<()> {
        if let Some(batch) = self.batches.iter().find(|batch| batch.schema_ref() != &self.schema) {
            let (found, declared) = (batch.schema(), &self.schema);
            return Err(StoreError::refused(format!(
                "section `{}` is declared as {declared:?} and has a batch of {found:?}",
                self.key
            )));
        }
        check_depth(&self.meta, || format!("the meta of section `{}`", self.key))
    }
}

/// Refuses JSON that is nested too deeply to be read again.
pub(crate) fn check_depth(value: &Value, what: impl Fn() -> String) -> Result<()> {
    let mut level = vec![value];
    for _ in 0..DEPTH_MAX {
        let mut next = Vec::new();
        for value in level {
            match value {
                Value::Array(values) => next.extend(values),
                Value::Object(fields) => next.extend(fields.values()),
                _ => {}
            }
        }
        if next.is_empty() {
            return Ok(());
        }
        level = next;
    }
    Err(StoreError::refused(format!("{} is nested more than {DEPTH_MAX} deep", what())))
}
