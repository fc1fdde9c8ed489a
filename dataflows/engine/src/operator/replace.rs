//! One row per key of a view, although operators before it forget what they gave (`state_ttl`).
//!
//! An operator that forgot a key gives its next result as if it were the first, and never takes the last one back. Before a
//! view with a key this takes it back: a row replaces the row of its key that is there. A retraction of a row that is not
//! there is ignored and counted. It keeps what the view keeps.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch};
use arrow::compute;
use arrow::datatypes::{DataType, SchemaRef};
use arrow_row::{RowConverter, SortField};

use super::epoch::EpochLogic;
use super::lives::TimeToLive;
use crate::checkpoint::Keeps;
use crate::keys::Keys;
use crate::{Delta, Diff, Time};

/// Keeps one row per key.
pub(crate) struct Replace {
    key: Vec<usize>,
    schema: SchemaRef,
    /// A row that is there stays: the input says that it never retracts.
    growing: bool,
    ttl: TimeToLive,
    keys: Keys,
    converter: RowConverter,
    /// Per key its row's bytes.
    rows: Vec<Option<Box<[u8]>>>,
    bytes: usize,
}

/// What an epoch says of a key: by content how often it came, and where it stands among the batches.
type Changes = BTreeMap<Box<[u8]>, (Diff, (usize, usize))>;

impl Replace {
    /// Rows of `schema` with these key columns.
    pub(crate) fn new(key: Vec<usize>, schema: SchemaRef, growing: bool, ttl: TimeToLive) -> Self {
        let types: Vec<DataType> = key.iter().map(|column| schema.field(*column).data_type().clone()).collect();
        let fields = schema.fields().iter().map(|field| SortField::new(field.data_type().clone())).collect();
        Replace {
            key,
            growing,
            ttl,
            keys: Keys::new(&types),
            converter: RowConverter::new(fields).expect("a view's columns can be encoded"),
            schema,
            rows: Vec::new(),
            bytes: 0,
        }
    }

    /// What becomes of a key's row: whether the old one goes, and the new one.
    fn decide(&self, number: u32, changes: &Changes) -> (bool, Option<(usize, usize)>) {
        let held = self.rows[number as usize].as_deref();
        let mut gone = false;
        let mut new: Option<(usize, usize)> = None;
        for (bytes, (net, place)) in changes {
            let is_held = held == Some(&**bytes);
            match *net {
                net if net < 0 => {
                    gone |= is_held;
                    self.ttl.ignored(net + Diff::from(is_held));
                }
                net if net > 0 && !is_held => new = Some(*place),
                _ => {}
            }
        }
        match held {
            Some(_) if self.growing => (false, None),
            Some(_) => (gone || new.is_some(), new),
            None => (false, new),
        }
    }
}

impl EpochLogic for Replace {
    fn keeps(&self) -> Keeps {
        Keeps::Output
    }

    fn apply(&mut self, _epoch: Time, inputs: &mut [Vec<Delta>], _watermarks: Option<&[i64]>, output: &mut Vec<Delta>) {
        let deltas = std::mem::take(&mut inputs[0]);
        let mut changes: BTreeMap<u32, Changes> = BTreeMap::new();
        let mut numbers = Vec::new();
        for (index, delta) in deltas.iter().enumerate() {
            self.keys.intern(&delta.columns(&self.key), delta.len(), &mut numbers);
            let encoded = self.converter.convert_columns(delta.rows.columns()).expect("the view's columns");
            for (row, number) in numbers.iter().enumerate() {
                let of_key = changes.entry(*number).or_default();
                of_key.entry(encoded.row(row).data().into()).or_insert((0, (index, row))).0 += delta.diff(row);
            }
        }
        self.rows.resize(self.keys.bound(), None);
        let mut retracted: Vec<Box<[u8]>> = Vec::new();
        let mut inserted: Vec<(usize, usize)> = Vec::new();
        for (number, changes) in changes {
            let (gone, new) = self.decide(number, &changes);
            let slot = &mut self.rows[number as usize];
            if gone && let Some(old) = slot.take() {
                self.bytes -= old.len();
                retracted.push(old);
            }
            if let Some(place) = new {
                let bytes = changes.into_iter().find(|(_, (_, at))| *at == place).map(|(bytes, _)| bytes);
                self.bytes += bytes.as_deref().map_or(0, <[u8]>::len);
                *slot = bytes;
                inserted.push(place);
            }
            if slot.is_none() {
                self.keys.remove(number);
            }
        }
        if retracted.is_empty() && inserted.is_empty() {
            return;
        }
        let parser = self.converter.parser();
        let old = self.converter.convert_rows(retracted.iter().map(|row| parser.parse(row))).expect("this converter's bytes");
        let columns = (0..self.schema.fields().len()).map(|column| -> ArrayRef {
            let arrays: Vec<&dyn Array> = deltas.iter().map(|delta| delta.rows.column(column).as_ref()).collect();
            let new = compute::interleave(&arrays, &inserted).expect("rows of the epoch's batches");
            compute::concat(&[old[column].as_ref(), new.as_ref()]).expect("two columns of one type")
        });
        let rows = RecordBatch::try_new(Arc::clone(&self.schema), columns.collect()).expect("the view's columns");
        if retracted.is_empty() {
            return output.push(Delta::insert(rows));
        }
        let diffs = std::iter::repeat_n(-1, retracted.len()).chain(std::iter::repeat_n(1, inserted.len()));
        output.push(Delta::with_diffs(rows, Int64Array::from_iter_values(diffs)));
    }

    fn state(&self) -> (usize, usize) {
        (self.keys.len(), self.keys.bytes() + self.bytes + self.rows.capacity() * 16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator::lives::tests::{counted, ttl};
    use arrow::array::AsArray;
    use arrow::datatypes::{Field, Int64Type, Schema};

    type Row = (i64, i64, i64);

    fn delta(rows: &[Row]) -> Delta {
        let fields = ["k", "v"].map(|name| Field::new(name, DataType::Int64, false));
        let column = |of: fn(&Row) -> i64| Arc::new(rows.iter().map(of).collect::<Int64Array>()) as ArrayRef;
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields.to_vec())), vec![column(|row| row.0), column(|row| row.1)]);
        Delta::with_diffs(batch.unwrap(), rows.iter().map(|row| row.2).collect())
    }

    fn apply(logic: &mut Replace, deltas: &[&[Row]]) -> Vec<Row> {
        let mut output = Vec::new();
        logic.apply(0, &mut [deltas.iter().map(|rows| delta(rows)).collect()], None, &mut output);
        let mut rows = Vec::new();
        for delta in output {
            let column = |at: usize| delta.rows.column(at).as_primitive::<Int64Type>();
            rows.extend((0..delta.len()).map(|row| (column(0).value(row), column(1).value(row), delta.diff(row))));
        }
        rows.sort_unstable();
        rows
    }

    #[test]
    fn a_row_replaces_that_of_its_key_and_strangers_are_not_taken_back() {
        let (ttl, stats) = ttl(1);
        let schema = Arc::clone(delta(&[]).rows.schema_ref());
        let mut logic = Replace::new(vec![0], schema, false, ttl);
        assert_eq!(apply(&mut logic, &[&[(1, 5, 1), (2, 5, 1)]]), [(1, 5, 1), (2, 5, 1)]);
        assert_eq!(apply(&mut logic, &[&[(1, 6, 1)]]), [(1, 5, -1), (1, 6, 1)], "a key that began anew");
        assert_eq!(apply(&mut logic, &[&[(1, 6, -1)], &[(1, 7, 1)]]), [(1, 6, -1), (1, 7, 1)], "a change as any");
        assert_eq!(apply(&mut logic, &[&[(1, 9, -1)]]), [], "that row is not there");
        assert_eq!(counted(&stats), (0, 1));
        assert_eq!(apply(&mut logic, &[&[(1, 7, 1)]]), [], "it is there");
        assert_eq!(apply(&mut logic, &[&[(1, 8, 1), (1, 8, -1)]]), [], "it came and went");
        assert_eq!(apply(&mut logic, &[&[(1, 7, -1), (2, 5, -1)]]), [(1, 7, -1), (2, 5, -1)]);
        assert_eq!((logic.state().0, logic.bytes), (0, 0));
    }

    #[test]
    fn what_never_retracts_does_not_begin_to() {
        let (ttl, _) = ttl(1);
        let schema = Arc::clone(delta(&[]).rows.schema_ref());
        let mut logic = Replace::new(vec![0], schema, true, ttl);
        assert_eq!(apply(&mut logic, &[&[(1, 5, 1)]]), [(1, 5, 1)]);
        assert_eq!(apply(&mut logic, &[&[(1, 5, 1)]]), []);
        assert_eq!(apply(&mut logic, &[&[(1, 6, 1)]]), []);
    }
}
