//! `array[1]`: items are counted from 1; where there is none it is NULL, also before the first.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::DataType;
use datafusion_common::Result;
use datafusion_expr::{ColumnarValue, ScalarUDF};

use super::{Function, Gives, Kind, column, unexpected, whole};

/// The function.
pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    let item = |found: &[DataType]| match found.first()? {
        DataType::List(item) => Some(item.data_type().clone()),
        _ => None,
    };
    vec![Function::typed("array_item", &[Kind::Any, Kind::Whole], Gives::From(item), array_item).build()]
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
