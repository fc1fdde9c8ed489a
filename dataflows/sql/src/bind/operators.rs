//! Operators whose meaning depends on their operands' types: division of decimals, arithmetic and comparison of intervals,
//! subscripts of arrays and maps, arrays that overlap.

use arrow::datatypes::{DataType, TimeUnit};
use datafusion_common::tree_node::TreeNode;
use datafusion_common::{DFSchema, Result, ScalarValue};
use datafusion_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr, RawFieldAccessExpr};
use datafusion_expr::{BinaryExpr, Expr, ExprSchemable, GetFieldAccess, Operator, lit};
use datafusion_functions_nested::expr_fn::{array_compact, array_has_all, array_has_any};
use sqlparser::ast::BinaryOperator;

use super::coercion::operands;
use crate::functions::{NOW, cast, decimal_divide, function};

/// Plans operators before DataFusion does.
#[derive(Debug)]
pub(super) struct Operators;

impl ExprPlanner for Operators {
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let RawBinaryExpr { op, mut left, mut right } = expr;
        if let Some(operator) = comparison(&op).or_else(|| arithmetic(&op)) {
            (left, right) = operands(left, operator, right, schema)?;
        }
        let (Ok(left_type), Ok(right_type)) = (left.get_type(schema), right.get_type(schema)) else {
            return Ok(PlannerResult::Original(RawBinaryExpr { op, left, right }));
        };
        let planned = match &op {
            BinaryOperator::Divide if divides_decimals(&left_type, &right_type) => decimal_divide::call(left, right),
            BinaryOperator::Multiply if is_interval(&left_type) && right_type.is_numeric() => {
                function("interval_multiply").call(vec![left, right])
            }
            BinaryOperator::Multiply if left_type.is_numeric() && is_interval(&right_type) => {
                function("interval_multiply").call(vec![right, left])
            }
            BinaryOperator::Divide if is_interval(&left_type) && right_type.is_numeric() => {
                function("interval_divide").call(vec![left, right])
            }
            // Dates count days: `date + 1`, `date - 1`, `date - date`.
            BinaryOperator::Plus if left_type == DataType::Date32 && right_type.is_integer() => {
                later(left, right, Operator::Plus)
            }
            BinaryOperator::Plus if left_type.is_integer() && right_type == DataType::Date32 => {
                later(right, left, Operator::Plus)
            }
            BinaryOperator::Minus if left_type == DataType::Date32 && right_type.is_integer() => {
                later(left, right, Operator::Minus)
            }
            // A date and a time of day are a timestamp; whole days and months later it is a date again.
            BinaryOperator::Plus | BinaryOperator::Minus
                if left_type == DataType::Date32 && is_interval(&right_type) && !is_whole_days(&right) =>
            {
                let left = datafusion_expr::cast(left, DataType::Timestamp(TimeUnit::Microsecond, None));
                return Ok(PlannerResult::Original(RawBinaryExpr { op, left, right }));
            }
            BinaryOperator::Plus if is_interval(&left_type) && right_type == DataType::Date32 && !is_whole_days(&left) => {
                let right = datafusion_expr::cast(right, DataType::Timestamp(TimeUnit::Microsecond, None));
                return Ok(PlannerResult::Original(RawBinaryExpr { op, left, right }));
            }
            BinaryOperator::PGOverlap if is_list(&left_type) && is_list(&right_type) => array_has_any(array_compact(left), right),
            // A NULL is equal to none: an array with one is within no other.
            BinaryOperator::AtArrow if is_list(&left_type) && is_list(&right_type) => array_has_all(array_compact(left), right),
            BinaryOperator::ArrowAt if is_list(&left_type) && is_list(&right_type) => array_has_all(array_compact(right), left),
            op if is_interval(&left_type)
                && is_interval(&right_type)
                && comparison(op).is_some()
                // What follows the clock is taken apart as it is written.
                && !(follows_clock(&left) || follows_clock(&right)) =>
            {
                let length = |side: Expr| function("interval_length").call(vec![side]);
                let op = comparison(op).expect("just asked");
                Expr::BinaryExpr(BinaryExpr::new(Box::new(length(left)), op, Box::new(length(right))))
            }
            _ => return Ok(PlannerResult::Original(RawBinaryExpr { op, left, right })),
        };
        Ok(PlannerResult::Planned(planned))
    }

    fn plan_field_access(&self, expr: RawFieldAccessExpr, schema: &DFSchema) -> Result<PlannerResult<RawFieldAccessExpr>> {
        let RawFieldAccessExpr { expr, field_access } = expr;
        let found = expr.get_type(schema).ok();
        let planned = match (found, field_access) {
            (Some(DataType::Map(..)), GetFieldAccess::NamedStructField { name: ScalarValue::Utf8(Some(name)) }) => {
                function("map_item").call(vec![expr, lit(name)])
            }
            (Some(DataType::Map(..)), GetFieldAccess::ListIndex { key }) => function("map_item").call(vec![expr, *key]),
            (Some(DataType::List(_)), GetFieldAccess::ListIndex { key })
                if !matches!(expr, Expr::AggregateFunction(_))
                    && key.get_type(schema).is_ok_and(|key| key.is_integer() || key.is_null()) =>
            {
                function("array_item").call(vec![expr, *key])
            }
            (Some(DataType::List(_)), GetFieldAccess::ListRange { start, stop, stride }) if *stride == lit(1i64) => {
                function("array_range").call(vec![expr, *start, *stop])
            }
            (_, field_access) => return Ok(PlannerResult::Original(RawFieldAccessExpr { expr, field_access })),
        };
        Ok(PlannerResult::Planned(planned))
    }
}

/// Through integers, which is what dates are.
fn later(date: Expr, days: Expr, op: Operator) -> Expr {
    let number = cast::call(date, &DataType::Int32, false);
    let sum = Expr::BinaryExpr(BinaryExpr::new(Box::new(number), op, Box::new(datafusion_expr::cast(days, DataType::Int32))));
    cast::call(sum, &DataType::Date32, false)
}

fn follows_clock(expr: &Expr) -> bool {
    expr.exists(|expr| Ok(matches!(expr, Expr::ScalarFunction(call) if call.func.name() == NOW))).unwrap_or(false)
}

fn divides_decimals(left: &DataType, right: &DataType) -> bool {
    let decimal = |found: &DataType| matches!(found, DataType::Decimal128(..));
    let exact = |found: &DataType| decimal(found) || found.is_integer();
    (decimal(left) && exact(right)) || (exact(left) && decimal(right))
}

fn is_interval(found: &DataType) -> bool {
    matches!(found, DataType::Interval(_) | DataType::Duration(_))
}

/// Whether it is a constant interval of days and months.
fn is_whole_days(interval: &Expr) -> bool {
    match interval {
        Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(length)), _) => length.nanoseconds == 0,
        Expr::Literal(ScalarValue::IntervalYearMonth(_), _) => true,
        _ => false,
    }
}

fn is_list(found: &DataType) -> bool {
    matches!(found, DataType::List(_))
}

fn arithmetic(op: &BinaryOperator) -> Option<Operator> {
    Some(match op {
        BinaryOperator::Plus => Operator::Plus,
        BinaryOperator::Minus => Operator::Minus,
        BinaryOperator::Multiply => Operator::Multiply,
        BinaryOperator::Divide => Operator::Divide,
        BinaryOperator::Modulo => Operator::Modulo,
        _ => return None,
    })
}

fn comparison(op: &BinaryOperator) -> Option<Operator> {
    Some(match op {
        BinaryOperator::Eq => Operator::Eq,
        BinaryOperator::NotEq => Operator::NotEq,
        BinaryOperator::Lt => Operator::Lt,
        BinaryOperator::LtEq => Operator::LtEq,
        BinaryOperator::Gt => Operator::Gt,
        BinaryOperator::GtEq => Operator::GtEq,
        _ => return None,
    })
}
