//! `array[1]`, `array[2:3]`: items are counted from 1; where there is none it is NULL, also before the first.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, UInt32Array};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::take;
use arrow::datatypes::DataType;
use datafusion_common::Result;
use datafusion_expr::{ColumnarValue, ScalarUDF};

use super::{Function, Gives, Kind, column, unexpected, whole};

/// The functions.
pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    let item = |found: &[DataType]| match found.first()? {
        DataType::List(item) => Some(item.data_type().clone()),
        _ => None,
    };
    let list = |found: &[DataType]| found.first().filter(|found| matches!(found, DataType::List(_))).cloned();
    vec![
        Function::typed("array_item", &[Kind::Any, Kind::Whole], Gives::From(item), array_item).build(),
        Function::typed("array_range", &[Kind::Any, Kind::Whole, Kind::Whole], Gives::From(list), array_range).build(),
    ]
}

/// The items that there are between two places, the ends with them. DataFusion's slices count negative places from the end.
fn array_range(args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    let (lists, first, last) = (column(args, 0, rows)?, whole(args, 1, rows)?, whole(args, 2, rows)?);
    let (Some(found), DataType::List(field)) = (lists.as_list_opt::<i32>(), lists.data_type()) else {
        return Err(unexpected(&lists));
    };
    let offsets = found.value_offsets();
    let nulls = NullBuffer::union(NullBuffer::union(found.nulls(), first.nulls()).as_ref(), last.nulls());
    let (mut places, mut lengths) = (Vec::new(), Vec::with_capacity(rows));
    for row in 0..rows {
        let before = places.len();
        if nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row)) {
            let length = i64::from(offsets[row + 1] - offsets[row]);
            let (first, last) = (first.value(row).max(1), last.value(row).min(length));
            places.extend((first..=last).map(|place| offsets[row] as u32 + place as u32 - 1));
        }
        lengths.push(places.len() - before);
    }
    let items = take(found.values(), &UInt32Array::from(places), None)?;
    Ok(Arc::new(ListArray::try_new(Arc::clone(field), OffsetBuffer::from_lengths(lengths), items, nulls)?))
}

fn array_item(args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    let (lists, numbers) = (column(args, 0, rows)?, whole(args, 1, rows)?);
    let Some(lists) = lists.as_list_opt::<i32>() else { return Err(unexpected(&lists)) };
    let offsets = lists.value_offsets();
    let place = |row: usize| {
        if lists.is_null(row) || numbers.is_null(row) {
            return None;
        }
        let length = i64::from(offsets[row + 1] - offsets[row]);
        (1..=length).contains(&numbers.value(row)).then(|| offsets[row] as u32 + numbers.value(row) as u32 - 1)
    };
    Ok(take(lists.values(), &UInt32Array::from_iter((0..rows).map(place)), None)?)
}
