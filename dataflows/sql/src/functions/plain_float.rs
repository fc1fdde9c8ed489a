//! One zero and one NaN: PostgreSQL has -0.0 equal to 0.0 and every NaN equal to itself, the bits have not.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::compute::kernels::arity::unary;
use arrow::datatypes::{DataType, Float32Type, Float64Type};
use datafusion_common::Result;
use datafusion_expr::{ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

/// The function's name.
pub(crate) const NAME: &str = "plain_float";

/// A float as all equal ones are written.
pub(crate) fn call(expr: Expr) -> Expr {
    ScalarUDF::new_from_impl(PlainFloat(Signature::any(1, Volatility::Immutable))).call(vec![expr])
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct PlainFloat(Signature);

impl ScalarUDFImpl for PlainFloat {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.0
    }

    fn return_type(&self, found: &[DataType]) -> Result<DataType> {
        Ok(found[0].clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let array = args.args[0].to_array(args.number_rows)?;
        let plain: ArrayRef = match array.data_type() {
            DataType::Float64 => {
                let plain = |value: f64| if value.is_nan() { f64::NAN } else { value + 0.0 };
                Arc::new(unary::<_, _, Float64Type>(array.as_primitive::<Float64Type>(), plain))
            }
            DataType::Float32 => {
                let plain = |value: f32| if value.is_nan() { f32::NAN } else { value + 0.0 };
                Arc::new(unary::<_, _, Float32Type>(array.as_primitive::<Float32Type>(), plain))
            }
            _ => array,
        };
        Ok(ColumnarValue::Array(plain))
    }
}
