//! `DIV(a, b)`: how often `b` goes into `a`, cut towards zero, without a detour over doubles.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Decimal128Builder, Int64Builder};
use arrow::compute::kernels::arity::binary;
use arrow::datatypes::{DataType, Decimal128Type, Float64Type, Int64Type, i256};
use arrow::error::ArrowError;
use datafusion_common::{Result, exec_datafusion_err, plan_err};
use datafusion_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

/// The function.
pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    vec![Arc::new(ScalarUDF::new_from_impl(Div(Signature::user_defined(Volatility::Immutable))))]
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Div(Signature);

/// What both numbers are counted in.
fn common(found: &[DataType]) -> Option<DataType> {
    let is_number = |found: &DataType| found.is_numeric() || found.is_null();
    let [left, right] = found else { return None };
    if !is_number(left) || !is_number(right) {
        return None;
    }
    let any = |test: fn(&DataType) -> bool| test(left) || test(right);
    Some(match () {
        () if any(|found| found.is_floating()) => DataType::Float64,
        () if any(|found| found.is_decimal()) => DataType::Decimal128(38, 0),
        () => DataType::Int64,
    })
}

impl ScalarUDFImpl for Div {
    fn name(&self) -> &str {
        "div"
    }

    fn signature(&self) -> &Signature {
        &self.0
    }

    fn return_type(&self, found: &[DataType]) -> Result<DataType> {
        match common(found) {
            Some(result) => Ok(result),
            None => plan_err!("write DIV(number, number)"),
        }
    }

    fn coerce_types(&self, found: &[DataType]) -> Result<Vec<DataType>> {
        let result = self.return_type(found)?;
        let argument = |found: &DataType| match (&result, found) {
            (DataType::Decimal128(..), DataType::Decimal128(..)) => found.clone(),
            (DataType::Decimal128(..), _) => DataType::Decimal128(20, 0),
            _ => result.clone(),
        };
        Ok(found.iter().map(argument).collect())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let (left, right) = (args.args[0].to_array(args.number_rows)?, args.args[1].to_array(args.number_rows)?);
        div(&left, &right).map(ColumnarValue::Array)
    }
}

fn div(left: &ArrayRef, right: &ArrayRef) -> Result<ArrayRef> {
    let valid = |row: usize| left.is_valid(row) && right.is_valid(row);
    match left.data_type() {
        DataType::Float64 => {
            let (left, right) = (left.as_primitive::<Float64Type>(), right.as_primitive::<Float64Type>());
            if (0..left.len()).any(|row| valid(row) && right.value(row) == 0.0) {
                return Err(ArrowError::DivideByZero.into());
            }
            Ok(Arc::new(binary::<_, _, _, Float64Type>(left, right, |left, right| (left / right).trunc())?))
        }
        DataType::Int64 => {
            let (left, right) = (left.as_primitive::<Int64Type>(), right.as_primitive::<Int64Type>());
            let mut out = Int64Builder::with_capacity(left.len());
            for row in 0..left.len() {
                match valid(row).then(|| (left.value(row), right.value(row))) {
                    None => out.append_null(),
                    Some((_, 0)) => return Err(ArrowError::DivideByZero.into()),
                    Some((left, right)) => {
                        out.append_value(left.checked_div(right).ok_or_else(|| exec_datafusion_err!("integer overflow"))?);
                    }
                }
            }
            Ok(Arc::new(out.finish()))
        }
        _ => decimals(left, right),
    }
}

fn decimals(left: &ArrayRef, right: &ArrayRef) -> Result<ArrayRef> {
    let factor = |array: &ArrayRef| match array.data_type() {
        DataType::Decimal128(_, scale) => i256::from_i128(10i128.pow(u32::from(scale.unsigned_abs()))),
        _ => i256::ONE,
    };
    let (by_left, by_right) = (factor(right), factor(left));
    let (left, right) = (left.as_primitive::<Decimal128Type>(), right.as_primitive::<Decimal128Type>());
    let mut out = Decimal128Builder::with_capacity(left.len()).with_data_type(DataType::Decimal128(38, 0));
    for row in 0..left.len() {
        if left.is_null(row) || right.is_null(row) {
            out.append_null();
            continue;
        }
        if right.value(row) == 0 {
            return Err(ArrowError::DivideByZero.into());
        }
        let scaled = |value: i128, factor: i256| i256::from_i128(value).checked_mul(factor);
        let quotient = scaled(left.value(row), by_left)
            .and_then(|left| left.checked_div(scaled(right.value(row), by_right)?))
            .and_then(|quotient| quotient.to_i128())
            .filter(|quotient| quotient.unsigned_abs() < 10u128.pow(38));
        out.append_value(quotient.ok_or_else(|| exec_datafusion_err!("decimal overflow"))?);
    }
    Ok(Arc::new(out.finish()))
}
