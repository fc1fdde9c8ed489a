//! `TYPEOF(value)`: the type's name.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};
use arrow::datatypes::DataType;
use datafusion_common::Result;
use datafusion_expr::{ColumnarValue, ScalarUDF};

use super::{Function, Kind};
use crate::bind::sql_type;

/// The function.
pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    vec![
        Function::new("typeof", &[Kind::Any], DataType::Utf8, type_of).build(),
        Function::new("pg_typeof", &[Kind::Any], DataType::Utf8, type_of).build(),
    ]
}

fn type_of(args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    let name = sql_type(&args[0].data_type());
    Ok(Arc::new(StringArray::from_iter_values(std::iter::repeat_n(name, rows))))
}
