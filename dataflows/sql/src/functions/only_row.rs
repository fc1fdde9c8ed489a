//! `__only_row(struct of rows and value)`: the value of a scalar subquery, which must not have given several rows.

use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Int64Type};
use datafusion_common::{Result, exec_err, internal_err};
use datafusion_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

/// The name, which no query can write: names do not begin so.
pub(crate) const NAME: &str = "__only_row";

/// The function.
pub(crate) fn function() -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::new_from_impl(OnlyRow { signature: Signature::any(1, Volatility::Immutable) }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct OnlyRow {
    signature: Signature,
}

impl ScalarUDFImpl for OnlyRow {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        match arguments {
            [DataType::Struct(fields)] if fields.len() == 2 => Ok(fields[1].data_type().clone()),
            _ => internal_err!("{NAME} takes a count and a value"),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let counted = args.args[0].to_array(args.number_rows)?;
        let counted = counted.as_struct();
        let rows = counted.column(0).as_primitive::<Int64Type>();
        for row in (0..counted.len()).filter(|row| counted.is_valid(*row) && rows.is_valid(*row)) {
            if rows.value(row) > 1 {
                return exec_err!("a subquery used as a value gives {} rows", rows.value(row));
            }
        }
        // Where the struct is NULL there was no row to join with, and its fields may hold anything.
        let value = Arc::clone(counted.column(1));
        Ok(ColumnarValue::Array(match counted.nulls() {
            None => value,
            Some(nulls) => arrow::array::make_array(
                value
                    .to_data()
                    .into_builder()
                    .nulls(datafusion_common::arrow::buffer::NullBuffer::union(Some(nulls), value.nulls()))
                    .build()?,
            ),
        }))
    }
}
