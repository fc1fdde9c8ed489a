//! Division of decimals with at least sixteen digits behind the point, rounded; Arrow's cuts off after four more than the
//! dividend has.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Decimal128Builder};
use arrow::datatypes::{DataType, Decimal128Type, i256};
use arrow::error::ArrowError;
use datafusion_common::{Result, exec_datafusion_err, plan_err};
use datafusion_expr::{ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

const DIGITS: i8 = 16;

/// The function.
pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    vec![Arc::new(ScalarUDF::new_from_impl(Divide(Signature::user_defined(Volatility::Immutable))))]
}

/// `left / right`.
pub(crate) fn call(left: Expr, right: Expr) -> Expr {
    ScalarUDF::new_from_impl(Divide(Signature::user_defined(Volatility::Immutable))).call(vec![left, right])
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Divide(Signature);

fn scale(data_type: &DataType) -> i8 {
    match data_type {
        DataType::Decimal128(_, scale) => *scale,
        _ => 0,
    }
}

impl ScalarUDFImpl for Divide {
    fn name(&self) -> &str {
        "decimal_divide"
    }

    fn signature(&self) -> &Signature {
        &self.0
    }

    fn return_type(&self, found: &[DataType]) -> Result<DataType> {
        Ok(DataType::Decimal128(38, DIGITS.max(scale(&found[0])).max(scale(&found[1]))))
    }

    fn coerce_types(&self, found: &[DataType]) -> Result<Vec<DataType>> {
        let decimal = |found: &DataType| match found {
            DataType::Decimal128(..) => Some(found.clone()),
            DataType::Null => Some(DataType::Decimal128(38, 0)),
            found if found.is_integer() => Some(DataType::Decimal128(20, 0)),
            _ => None,
        };
        match found.iter().map(decimal).collect::<Option<Vec<_>>>() {
            Some(types) if types.len() == 2 => Ok(types),
            _ => plan_err!("decimals are divided by decimals and integers"),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let (left, right) = (args.args[0].to_array(args.number_rows)?, args.args[1].to_array(args.number_rows)?);
        divide(&left, &right, args.return_field.data_type()).map(ColumnarValue::Array)
    }
}

fn divide(left: &ArrayRef, right: &ArrayRef, result: &DataType) -> Result<ArrayRef> {
    let shift = scale(result) - scale(left.data_type()) + scale(right.data_type());
    let factor = i256::from_i128(10).checked_pow(u32::from(shift.unsigned_abs()));
    let factor = factor.ok_or_else(|| exec_datafusion_err!("decimal overflow"))?;
    let limit = 10i128.pow(38);
    let (left, right) = (left.as_primitive::<Decimal128Type>(), right.as_primitive::<Decimal128Type>());
    let mut out = Decimal128Builder::with_capacity(left.len()).with_data_type(result.clone());
    for row in 0..left.len() {
        if left.is_null(row) || right.is_null(row) {
            out.append_null();
            continue;
        }
        let (dividend, divisor) = (left.value(row), right.value(row));
        if divisor == 0 {
            return Err(ArrowError::DivideByZero.into());
        }
        let quotient = quotient(dividend, divisor, factor).filter(|quotient| quotient.abs() < limit);
        out.append_value(quotient.ok_or_else(|| exec_datafusion_err!("decimal overflow"))?);
    }
    Ok(Arc::new(out.finish()))
}

/// Rounded half away from zero.
fn quotient(dividend: i128, divisor: i128, factor: i256) -> Option<i128> {
    let scaled = i256::from_i128(dividend).checked_mul(factor)?;
    // Most values fit the machine's own arithmetic.
    if let Some(scaled) = scaled.to_i128() {
        let (quotient, rest) = (scaled / divisor, scaled % divisor);
        let up = rest.unsigned_abs() >= divisor.unsigned_abs() - rest.unsigned_abs();
        return Some(if up { quotient + scaled.signum() * divisor.signum() } else { quotient });
    }
    let divisor = i256::from_i128(divisor);
    let (quotient, rest) = (scaled.checked_div(divisor)?, scaled.checked_rem(divisor)?);
    let (rest, size) = (rest.wrapping_abs(), divisor.wrapping_abs());
    let up = rest >= size.wrapping_sub(rest);
    let sign = if (scaled < i256::ZERO) == (divisor < i256::ZERO) { i256::ONE } else { i256::MINUS_ONE };
    if up { quotient.checked_add(sign)?.to_i128() } else { quotient.to_i128() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_go_away_from_zero() {
        let one = i256::ONE;
        assert_eq!(quotient(5, 2, one), Some(3));
        assert_eq!(quotient(-5, 2, one), Some(-3));
        assert_eq!(quotient(4, 3, one), Some(1));
        assert_eq!(quotient(0, -3, one), Some(0));
        assert_eq!(quotient(2, -3, one), Some(-1));
        assert!(quotient(i128::MAX, 3, i256::from_i128(1_000)).is_none());
        assert_eq!(quotient(i128::MAX / 10, i128::MAX, i256::from_i128(1_000)), Some(100));
    }
}
