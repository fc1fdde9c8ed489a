//! A table with a primary key: the last row per key counts.
//!
//! An insertion replaces the key's row, a retraction deletes it whatever its other columns say. Within an epoch the last row
//! of a key by its [place](super::place) counts, and only the difference to the row before the epoch goes on.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, UInt64Array};
use arrow::compute;
use arrow::datatypes::{DataType, SchemaRef};
use arrow_row::{RowConverter, SortField};

use super::epoch::EpochLogic;
use super::place::split_places;
use crate::checkpoint::Keeps;
use crate::keys::Keys;
use crate::{Delta, Time};

/// Keeps the current row per key.
pub(crate) struct Upsert {
    key: Vec<usize>,
    schema: SchemaRef,
    keys: Keys,
    converter: RowConverter,
    /// Per key its row's bytes.
    rows: Vec<Option<Box<[u8]>>>,
    bytes: usize,
    /// Per key, while an epoch is applied: its last change, and whether the key was met.
    pending: Vec<Option<Pending>>,
}

#[derive(Clone, Copy)]
struct Pending {
    place: u64,
    /// Batch and row that replace the key's row; otherwise it is deleted.
    row: Option<(usize, usize)>,
}

impl Upsert {
    /// An empty table of `schema` with these key columns.
    pub(crate) fn new(key: Vec<usize>, schema: SchemaRef) -> Self {
        let types: Vec<DataType> = key.iter().map(|column| schema.field(*column).data_type().clone()).collect();
        let fields = schema.fields().iter().map(|field| SortField::new(field.data_type().clone())).collect();
        Upsert {
            key,
            keys: Keys::new(&types),
            converter: RowConverter::new(fields).expect("planners allow only columns that can be encoded"),
            schema,
            rows: Vec::new(),
            bytes: 0,
            pending: Vec::new(),
        }
    }
}

impl EpochLogic for Upsert {
    fn keeps(&self) -> Keeps {
        Keeps::Output
    }

    fn load(&mut self, _epoch: Time, tables: &mut [Vec<Delta>]) {
        let mut numbers = Vec::new();
        for delta in std::mem::take(&mut tables[0]) {
            self.keys.intern(&delta.columns(&self.key), delta.len(), &mut numbers);
            self.rows.resize(self.keys.bound(), None);
            let encoded = self.converter.convert_columns(delta.rows.columns()).expect("the table's columns");
            for (row, number) in numbers.iter().enumerate() {
                let bytes = encoded.row(row).data();
                self.bytes += bytes.len();
                self.rows[*number as usize] = Some(Box::from(bytes));
            }
        }
    }

    fn apply(&mut self, _epoch: Time, inputs: &mut [Vec<Delta>], _watermarks: Option<&[i64]>, output: &mut Vec<Delta>) {
        let mut touched = Vec::new();
        let mut numbers = Vec::new();
        let (deltas, places): (Vec<Delta>, Vec<UInt64Array>) =
            inputs[0].drain(..).map(|delta| split_places(delta, &self.schema)).unzip();
        for (batch, (delta, places)) in deltas.iter().zip(&places).enumerate() {
            self.keys.intern(&delta.columns(&self.key), delta.len(), &mut numbers);
            self.rows.resize(self.keys.bound(), None);
            self.pending.resize(self.keys.bound(), None);
            for (row, number) in numbers.iter().enumerate() {
                let (place, pending) = (places.value(row), &mut self.pending[*number as usize]);
                if pending.is_none() {
                    touched.push(*number);
                }
                if pending.is_none_or(|before| before.place <= place) {
                    *pending = Some(Pending { place, row: (delta.diff(row) > 0).then_some((batch, row)) });
                }
            }
        }
        let encoded: Vec<_> = deltas
            .iter()
            .map(|delta| self.converter.convert_columns(delta.rows.columns()).expect("the table's columns"))
            .collect();
        let mut retracted: Vec<Box<[u8]>> = Vec::new();
        let mut inserted: Vec<(usize, usize)> = Vec::new();
        for number in touched {
            let change = self.pending[number as usize].take().expect("a touched key has a change");
            let slot = &mut self.rows[number as usize];
            match change.row {
                Some((batch, row)) => {
                    let bytes = encoded[batch].row(row).data();
                    if slot.as_deref() == Some(bytes) {
                        continue;
                    }
                    self.bytes += bytes.len();
                    if let Some(old) = slot.replace(Box::from(bytes)) {
                        self.bytes -= old.len();
                        retracted.push(old);
                    }
                    inserted.push((batch, row));
                }
                None => {
                    if let Some(old) = slot.take() {
                        self.bytes -= old.len();
                        retracted.push(old);
                    }
                    self.keys.remove(number);
                }
            }
        }
        if retracted.is_empty() && inserted.is_empty() {
            return;
        }
        let parser = self.converter.parser();
        let old = self.converter.convert_rows(retracted.iter().map(|row| parser.parse(row))).expect("this converter's bytes");
        let columns: Vec<ArrayRef> = (0..self.schema.fields().len())
            .map(|column| {
                let mut arrays: Vec<&dyn Array> = deltas.iter().map(|delta| delta.rows.column(column).as_ref()).collect();
                let new = compute::interleave(&arrays, &inserted).expect("rows of the epoch's batches");
                arrays.clear();
                compute::concat(&[old[column].as_ref(), new.as_ref()]).expect("two columns of one type")
            })
            .collect();
        let diffs = std::iter::repeat_n(-1, retracted.len()).chain(std::iter::repeat_n(1, inserted.len()));
        let rows = RecordBatch::try_new(Arc::clone(&self.schema), columns).expect("the table's columns");
        output.push(Delta::with_diffs(rows, Int64Array::from_iter_values(diffs)));
    }

    fn state(&self) -> (usize, usize) {
        (self.keys.len(), self.keys.bytes() + self.bytes + self.rows.capacity() * 16)
    }
}
