//! The order of the rows that come to a table with a primary key in one epoch: by their number in their partition, then by
//! partition. It travels as a last column, so that it does not depend on which worker read a row and on who was faster.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, UInt32Array, UInt64Array};
use arrow::compute;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt64Type};

use super::epoch::EpochLogic;
use crate::checkpoint::Keeps;
use crate::{Delta, Place, Time};

/// Bits of a place that are its partition's.
const PARTITION_BITS: u32 = 20;

/// Appends the places of rows that follow each other.
pub(crate) fn with_places(delta: Delta, first: Place) -> Delta {
    let partition = u64::from(first.partition) & ((1 << PARTITION_BITS) - 1);
    let places = (first.number..).take(delta.len()).map(|number| number << PARTITION_BITS | partition);
    let places: ArrayRef = Arc::new(UInt64Array::from_iter_values(places));
    let mut fields = delta.rows.schema().fields().to_vec();
    fields.push(Arc::new(Field::new("place", DataType::UInt64, false)));
    let columns = delta.rows.columns().iter().cloned().chain([places]).collect();
    let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).expect("one place per row");
    Delta { rows, ..delta }
}

/// Takes the places off.
pub(crate) fn split_places(mut delta: Delta, schema: &SchemaRef) -> (Delta, UInt64Array) {
    let mut columns = delta.rows.columns().to_vec();
    let places = columns.pop().expect("a table's rows come with their places");
    delta.rows = RecordBatch::try_new(Arc::clone(schema), columns).expect("the table's columns");
    (delta, places.as_primitive::<UInt64Type>().clone())
}

/// Puts an epoch's rows into the order of their places.
pub(crate) struct InOrder(pub(crate) SchemaRef);

impl EpochLogic for InOrder {
    fn keeps(&self) -> Keeps {
        Keeps::Nothing
    }

    fn apply(&mut self, _: Time, inputs: &mut [Vec<Delta>], _: Option<&[i64]>, output: &mut Vec<Delta>) {
        if inputs[0].is_empty() {
            return;
        }
        let diffs: Int64Array = inputs[0].iter().flat_map(|delta| (0..delta.len()).map(|row| delta.diff(row))).collect();
        let schema = inputs[0][0].rows.schema();
        let rows = compute::concat_batches(&schema, inputs[0].drain(..).map(|delta| delta.rows).collect::<Vec<_>>().iter());
        let rows = Delta::insert(rows.expect("batches of one table"));
        let (mut delta, places) = split_places(rows, &self.0);
        let mut order: Vec<u32> = (0..places.len() as u32).collect();
        order.sort_by_key(|row| places.value(*row as usize));
        delta.diffs = Some(diffs);
        output.push(delta.take(&UInt32Array::from(order)));
    }
}
