//! Texts that are compared with something else: in PostgreSQL `at > '2024-01-01'` reads the text as what `at` is.
//!
//! DataFusion would compare as texts, or as timestamps of nanoseconds, which end in the year 2262.

use arrow::datatypes::{DataType, TimeUnit};
use datafusion_common::config::ConfigOptions;
use datafusion_common::tree_node::Transformed;
use datafusion_common::{DFSchema, Result, ScalarValue};
use datafusion_expr::expr::{Between, InList};
use datafusion_expr::{BinaryExpr, Expr, ExprSchemable, LogicalPlan, Operator, cast};
use datafusion_optimizer::analyzer::AnalyzerRule;

use super::expressions::rewrite_typed;

/// Runs before types are made equal.
#[derive(Debug)]
pub(super) struct TextConstants;

impl AnalyzerRule for TextConstants {
    fn name(&self) -> &str {
        "text_constants"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        rewrite_typed(plan, rewritten)
    }
}

fn rewritten(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    Ok(match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if compares(op) && (is_text(&left) != is_text(&right)) => {
            let (left, right) = match is_text(&left) {
                true => (Box::new(read(*left, &right, schema)), right),
                false => {
                    let read = read(*right, &left, schema);
                    (left, Box::new(read))
                }
            };
            Transformed::yes(Expr::BinaryExpr(BinaryExpr { left, op, right }))
        }
        Expr::Between(Between { expr, negated, low, high }) if !is_text(&expr) && (is_text(&low) || is_text(&high)) => {
            let (low, high) = (Box::new(read(*low, &expr, schema)), Box::new(read(*high, &expr, schema)));
            Transformed::yes(Expr::Between(Between { expr, negated, low, high }))
        }
        Expr::InList(InList { expr, list, negated }) if !is_text(&expr) && list.iter().any(is_text) => {
            let list = list.into_iter().map(|item| read(item, &expr, schema)).collect();
            Transformed::yes(Expr::InList(InList { expr, list, negated }))
        }
        other => Transformed::no(other),
    })
}

fn compares(op: Operator) -> bool {
    use Operator as O;
    matches!(op, O::Eq | O::NotEq | O::Lt | O::LtEq | O::Gt | O::GtEq | O::IsDistinctFrom | O::IsNotDistinctFrom)
}

fn is_text(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(ScalarValue::Utf8(Some(_)), _))
}

/// A text as a value of the type that it is compared with.
fn read(expr: Expr, beside: &Expr, schema: &DFSchema) -> Expr {
    let Expr::Literal(ScalarValue::Utf8(Some(text)), _) = &expr else { return expr };
    let Ok(found) = beside.get_type(schema) else { return expr };
    let wanted = match found {
        // No digit of the text is lost.
        DataType::Timestamp(unit, zone) => DataType::Timestamp(unit.max(TimeUnit::Microsecond), zone),
        DataType::Time32(_) => DataType::Time64(TimeUnit::Microsecond),
        DataType::Decimal128(precision, scale) => {
            let digits = text.trim().rsplit_once('.').map_or(0, |(_, fraction)| fraction.len());
            match i8::try_from(digits) {
                Ok(digits) if digits > scale && digits <= 38 => DataType::Decimal128(38, digits),
                _ => DataType::Decimal128(precision.max(38), scale),
            }
        }
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => DataType::Int64,
        found @ (DataType::Boolean
        | DataType::Float32
        | DataType::Float64
        | DataType::Date32
        | DataType::Time64(_)
        | DataType::Interval(_)
        | DataType::Binary
        | DataType::List(_)) => found,
        _ => return expr,
    };
    cast(expr, wanted)
}
