//! How many digits a product of decimals has behind the point, and what is cut off one.
//!
//! Arrow adds the factors' scales, however few digits are left before the point: a product of three `NUMERIC` columns
//! (38 digits, 10 of them behind the point) would have room for 99,999,999. Where a product would need more than 38 digits
//! it keeps the scale of its wider factor instead, and six digits at least: the digits before the point matter more.

use arrow::datatypes::DataType;
use datafusion_common::config::ConfigOptions;
use datafusion_common::tree_node::Transformed;
use datafusion_common::{DFSchema, Result, ScalarValue};
use datafusion_expr::expr::ScalarFunction;
use datafusion_expr::type_coercion::binary::BinaryTypeCoercer;
use datafusion_expr::{BinaryExpr, Expr, ExprSchemable, LogicalPlan, Operator, cast};
use datafusion_optimizer::analyzer::AnalyzerRule;

use super::expressions::rewrite_typed;

const DIGITS_MAX: u8 = 38;
const SCALE_MIN: i8 = 6;

/// Rounds products to the scale that they may have. Stands before the coercion of types, which must see that scale.
#[derive(Debug)]
pub(crate) struct ProductScales;

impl AnalyzerRule for ProductScales {
    fn name(&self) -> &str {
        "product_scales"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        rewrite_typed(plan, rounded)
    }
}

/// `trunc(x, 1)` has one digit behind the point, `ceil(x)` and `floor(x)` have none.
fn cut(mut call: ScalarFunction, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let kept = match (call.func.name(), &call.args[..]) {
        ("trunc" | "ceil" | "floor", [_]) => 0,
        ("trunc", [_, Expr::Literal(digits, _)]) => match digits.cast_to(&DataType::Int64) {
            Ok(ScalarValue::Int64(Some(digits))) => digits.clamp(0, i64::from(DIGITS_MAX)) as i8,
            _ => return Ok(Transformed::no(Expr::ScalarFunction(call))),
        },
        _ => return Ok(Transformed::no(Expr::ScalarFunction(call))),
    };
    match call.args[0].get_type(schema) {
        Ok(DataType::Decimal128(precision, scale)) if kept < scale => {
            // What is rounded up may need one digit more.
            let whole = (precision as i8 - scale + 1).max(1) + kept;
            if precision < DIGITS_MAX {
                let value = std::mem::take(&mut call.args[0]);
                call.args[0] = cast(value, DataType::Decimal128(precision + 1, scale));
            }
            let call = Expr::ScalarFunction(call);
            Ok(Transformed::yes(cast(call, DataType::Decimal128((whole as u8).min(DIGITS_MAX), kept))))
        }
        _ => Ok(Transformed::no(Expr::ScalarFunction(call))),
    }
}

fn rounded(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let expr = match expr {
        Expr::ScalarFunction(call) => return cut(call, schema),
        other => other,
    };
    let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Multiply, right }) = &expr else { return Ok(Transformed::no(expr)) };
    let (Ok(left), Ok(right)) = (left.get_type(schema), right.get_type(schema)) else { return Ok(Transformed::no(expr)) };
    let coerced = BinaryTypeCoercer::new(&left, &Operator::Multiply, &right).get_input_types();
    let Ok((DataType::Decimal128(left_digits, left), DataType::Decimal128(right_digits, right))) = coerced else {
        return Ok(Transformed::no(expr));
    };
    let scale = left.max(right).max(SCALE_MIN);
    if left_digits.saturating_add(right_digits) < DIGITS_MAX || left.saturating_add(right) <= scale {
        return Ok(Transformed::no(expr));
    }
    Ok(Transformed::yes(cast(expr, DataType::Decimal128(DIGITS_MAX, scale))))
}
