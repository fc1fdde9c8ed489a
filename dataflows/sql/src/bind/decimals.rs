//! How many digits a product of decimals has behind the point.
//!
//! Arrow adds the factors' scales, however few digits are left before the point: a product of three `NUMERIC` columns
//! (38 digits, 10 of them behind the point) would have room for 99,999,999. Where a product would need more than 38 digits
//! it keeps the scale of its wider factor instead, and six digits at least: the digits before the point matter more.

use arrow::datatypes::DataType;
use datafusion_common::config::ConfigOptions;
use datafusion_common::tree_node::Transformed;
use datafusion_common::{DFSchema, Result};
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

fn rounded(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
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
