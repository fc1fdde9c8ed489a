//! `ROUND(float)`: to the nearest integer, halves to the even one, as PostgreSQL does and as casts to integers do.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float32Array, Float64Array};
use arrow::datatypes::{DataType, Float32Type, Float64Type};
use datafusion_common::Result;
use datafusion_expr::{ColumnarValue, ScalarUDF};

use super::{Function, Gives, Kind, column, unexpected};

/// `ROUND` of a float without digits is this one.
pub(crate) const NAME: &str = "round_even";

pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    let float = |found: &[DataType]| found.first().filter(|found| found.is_floating()).cloned();
    vec![Function::typed(NAME, &[Kind::Any], Gives::From(float), round).build()]
}

fn round(args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    let floats = column(args, 0, rows)?;
    match floats.data_type() {
        DataType::Float32 => {
            let rounded: Float32Array = floats.as_primitive::<Float32Type>().unary(f32::round_ties_even);
            Ok(Arc::new(rounded))
        }
        DataType::Float64 => {
            let rounded: Float64Array = floats.as_primitive::<Float64Type>().unary(f64::round_ties_even);
            Ok(Arc::new(rounded))
        }
        _ => Err(unexpected(&floats)),
    }
}
