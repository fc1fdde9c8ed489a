//! Filters and projections, one row at a time.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use highwater_plan::{Expr, Map};

use crate::multiset::Multiset;
use crate::value::{Row, Value, batch_of, values_of};

/// A map over rows. It remembers what became of each row, because the same rows come again at every epoch.
pub(super) struct RowMap<'a> {
    map: &'a Map,
    input: SchemaRef,
    output: SchemaRef,
    /// Whether NULL is taken for an expression that fails.
    nulls: bool,
    known: BTreeMap<Row, Mapped>,
}

#[derive(Clone)]
enum Mapped {
    Row(Row),
    /// With NULL where an expression failed.
    Partly(Row),
    FilteredOut,
    Failed,
}

impl<'a> RowMap<'a> {
    /// A map from rows of `input` to rows of `output`.
    pub(super) fn new(map: &'a Map, input: &SchemaRef, output: &SchemaRef, nulls: bool) -> Self {
        RowMap { map, input: Arc::clone(input), output: Arc::clone(output), nulls, known: BTreeMap::new() }
    }

    /// Maps `diff` copies of a row, into `rows` or `errors`.
    pub(super) fn apply(&mut self, row: &Row, diff: i64, rows: &mut Multiset, errors: &mut i64) -> Result<(), String> {
        if !self.known.contains_key(row) {
            let mapped = self.evaluate(row)?;
            self.known.insert(row.clone(), mapped);
        }
        match &self.known[row] {
            Mapped::Row(mapped) => rows.add(mapped.clone(), diff),
            Mapped::Partly(mapped) => {
                rows.add(mapped.clone(), diff);
                *errors += diff;
            }
            Mapped::FilteredOut => {}
            Mapped::Failed => *errors += diff,
        }
        Ok(())
    }

    /// Whether a row passes the filters; if one fails, `diff` copies of it are errors.
    pub(super) fn passes(&mut self, row: &Row, diff: i64, errors: &mut i64) -> Result<bool, String> {
        let mut passed = Multiset::default();
        self.apply(row, 1, &mut passed, &mut 0)?;
        if matches!(self.known[row], Mapped::Failed) {
            *errors += diff;
        }
        Ok(passed.distinct() > 0)
    }

    fn evaluate(&self, row: &Row) -> Result<Mapped, String> {
        let batch = batch_of(&self.input, std::slice::from_ref(row))?;
        for filter in &self.map.filters {
            match value(filter, &batch) {
                None => return Ok(Mapped::Failed),
                Some(passed) if !passed.is_true() => return Ok(Mapped::FilteredOut),
                Some(_) => {}
            }
        }
        let Some(exprs) = &self.map.exprs else { return Ok(Mapped::Row(row.clone())) };
        let values: Vec<Option<Value>> = exprs.iter().map(|expr| value(expr, &batch)).collect();
        let failed = values.iter().any(Option::is_none);
        if failed && !self.nulls {
            return Ok(Mapped::Failed);
        }
        let mapped: Row = values.into_iter().map(|value| value.unwrap_or(Value::Null)).collect::<Vec<Value>>().into();
        batch_of(&self.output, std::slice::from_ref(&mapped))?;
        Ok(if failed { Mapped::Partly(mapped) } else { Mapped::Row(mapped) })
    }
}

/// An expression's value over the only row of a batch; `None` if it fails.
pub(super) fn value(expr: &Expr, batch: &RecordBatch) -> Option<Value> {
    let values = expr.scalar.evaluate(batch).ok()?;
    assert_eq!(values.len(), 1, "an expression gives a value per row");
    assert_eq!(*values.data_type(), expr.data_type, "an expression gives values of its type");
    values_of(&values).pop()
}
