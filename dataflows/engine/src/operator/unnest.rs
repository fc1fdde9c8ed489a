//! Gives a row per item of array columns: stateless, a batch at a time.
//!
//! Items of a retracted row are retracted with it, because its array is in the retraction.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, RecordBatchOptions, UInt32Array, UInt64Array};
use arrow::compute::take;
use arrow::datatypes::SchemaRef;
use highwater_plan::Unnest;
use timely::container::NoopBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;

use crate::Delta;
use crate::delta::{OriginRows, Parcel};
use crate::operator::DeltaStream;
use crate::stats::OperatorStats;

/// Items that are given in one batch, about: long arrays become several batches.
const BATCH_ITEMS: usize = 8_192;

/// Goes through the arrays of a stream.
pub(crate) fn unnest<'scope>(
    input: DeltaStream<'scope>,
    spec: Unnest,
    schema: SchemaRef,
    stats: Arc<OperatorStats>,
) -> DeltaStream<'scope> {
    input.unary::<NoopBuilder<Parcel>, _, _, _>(Pipeline, &stats.name.clone(), move |_, _| {
        move |input, output| {
            input.for_each(|capability, parcel| {
                let Some(delta) = parcel.0.take() else { return };
                stats.took(delta.len());
                stats.guard(|| {
                    items(&delta, &spec, &schema, BATCH_ITEMS, |items| {
                        stats.gave(&items);
                        output.session_with_builder(&capability).give_container(&mut Parcel(Some(items)));
                    });
                });
            });
        }
    })
}

/// The rows of the items, in batches.
fn items(delta: &Delta, spec: &Unnest, schema: &SchemaRef, batch_items: usize, mut give: impl FnMut(Delta)) {
    let lists: Vec<_> = spec.lists.iter().map(|column| delta.rows.column(*column).as_list::<i32>()).collect();
    let mut batch = Items { rows: Vec::new(), places: vec![Vec::new(); lists.len()], numbers: Vec::new() };
    for row in 0..delta.len() {
        let ranges = lists.iter().map(|list| match list.is_null(row) {
            true => (0, 0),
            false => {
                let start = list.value_offsets()[row] as u64;
                (start, list.value_offsets()[row + 1] as u64 - start)
            }
        });
        let most = ranges.clone().map(|(_, length)| length).max().unwrap_or(0);
        let count = if most == 0 && spec.outer { 1 } else { most };
        for number in 0..count {
            batch.rows.push(row as u32);
            for (places, (start, length)) in batch.places.iter_mut().zip(ranges.clone()) {
                places.push((number < length).then_some(start + number));
            }
            if spec.ordinality {
                batch.numbers.push((most > 0).then_some(number as i64 + 1));
            }
            if batch.rows.len() >= batch_items {
                give(batch.take(delta, spec, schema));
            }
        }
    }
    if !batch.rows.is_empty() {
        give(batch.take(delta, spec, schema));
    }
}

/// Rows in the making.
struct Items {
    /// Per item the input row it is of.
    rows: Vec<u32>,
    /// Per array and item its place among the array's values.
    places: Vec<Vec<Option<u64>>>,
    /// Per item its number, if that is asked for.
    numbers: Vec<Option<i64>>,
}

impl Items {
    fn take(&mut self, delta: &Delta, spec: &Unnest, schema: &SchemaRef) -> Delta {
        let rows = UInt32Array::from(std::mem::take(&mut self.rows));
        let kept = |column: &usize| take(delta.rows.column(*column), &rows, None).expect("positions are within the batch");
        let mut columns: Vec<ArrayRef> = spec.keep.iter().map(kept).collect();
        for (column, places) in spec.lists.iter().zip(&mut self.places) {
            let places = UInt64Array::from(std::mem::take(places));
            let values = delta.rows.column(*column).as_list::<i32>().values();
            columns.push(take(values, &places, None).expect("places are within the array's values"));
        }
        if spec.ordinality {
            columns.push(Arc::new(Int64Array::from(std::mem::take(&mut self.numbers))));
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        let batch = RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options);
        let diffs = delta.diffs.as_ref().map(|diffs| {
            let taken = take(diffs, &rows, None).expect("positions are within the batch");
            Int64Array::from(taken.to_data())
        });
        let positions = |origin: &OriginRows| OriginRows { rows: Some(origin.positions(rows.values()).into()), ..origin.clone() };
        let batch = batch.expect("the kept columns, an item of each array and its number");
        Delta::of(batch, diffs).from_origin(delta.origin.as_ref().map(positions))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int64Builder, ListBuilder};
    use arrow::datatypes::{DataType, Field, Int64Type, Schema};

    fn delta() -> Delta {
        let mut list = ListBuilder::new(Int64Builder::new());
        list.append_value([Some(10), None]);
        list.append_null();
        list.append_value([]);
        list.append_value([Some(20)]);
        let list: ArrayRef = Arc::new(list.finish());
        let ids: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3, 4]));
        let rows = RecordBatch::try_from_iter_with_nullable([("id", ids, true), ("list", list, true)]).expect("equally long");
        Delta::with_diffs(rows, Int64Array::from(vec![1, 1, -1, -2]))
    }

    fn unnested(outer: bool, lists: Vec<usize>, batch_items: usize) -> Vec<(Vec<Option<i64>>, i64)> {
        let field = |name: &str| Field::new(name, DataType::Int64, true);
        let mut fields = vec![field("id")];
        fields.extend(lists.iter().map(|_| field("item")));
        fields.push(field("number"));
        let spec = Unnest { keep: vec![0], lists, ordinality: true, outer };
        let mut found = Vec::new();
        items(&delta(), &spec, &Arc::new(Schema::new(fields)), batch_items, |delta| {
            for row in 0..delta.len() {
                let value = |column: &ArrayRef| {
                    let column = column.as_primitive::<Int64Type>();
                    (!column.is_null(row)).then(|| column.value(row))
                };
                found.push((delta.rows.columns().iter().map(value).collect(), delta.diff(row)));
            }
        });
        found
    }

    #[test]
    fn items_have_the_diffs_of_their_rows() {
        let expected = vec![
            (vec![Some(1), Some(10), Some(1)], 1),
            (vec![Some(1), None, Some(2)], 1),
            (vec![Some(4), Some(20), Some(1)], -2),
        ];
        assert_eq!(unnested(false, vec![1], 100), expected);
        assert_eq!(unnested(false, vec![1], 1), expected, "in batches of one");
    }

    #[test]
    fn outer_keeps_rows_without_items() {
        let found = unnested(true, vec![1], 100);
        assert_eq!(found.len(), 5);
        assert_eq!(found[2], (vec![Some(2), None, None], 1));
        assert_eq!(found[3], (vec![Some(3), None, None], -1));
    }

    #[test]
    fn several_arrays_go_side_by_side() {
        assert_eq!(unnested(false, vec![1, 1], 100)[1], (vec![Some(1), None, None, Some(2)], 1));
    }
}
