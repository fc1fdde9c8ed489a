//! Values of different types beside each other: what is meant is made plain before DataFusion guesses, and what has no meaning
//! is refused with its place.
//!
//! Dates beside timestamps become timestamps of that precision (DataFusion takes nanoseconds, which end in 2262). Text that is
//! written as a constant is of the other side's type, as in PostgreSQL; columns of text are compared with numbers and times by
//! value, as in Flink and Feldera. Numbers, times and truth values do not mix.

use arrow::datatypes::DataType;
use datafusion_common::config::ConfigOptions;
use datafusion_common::tree_node::Transformed;
use datafusion_common::{DFSchema, Result};
use datafusion_expr::expr::{Between, InList, InSubquery};
use datafusion_expr::logical_plan::{LogicalPlanBuilder, Union};
use datafusion_expr::{BinaryExpr, Case, Expr, ExprSchemable, LogicalPlan, Operator, cast};
use datafusion_optimizer::analyzer::AnalyzerRule;
use std::sync::Arc;

use super::expressions::rewrite_typed;
use super::text_constants::{is_text, read};
use super::types::sql_type;
use crate::diagnose::{Failure, error};
use crate::lower::first_place;

/// Stands before the coercion of types.
#[derive(Debug)]
pub(super) struct Coercion;

impl AnalyzerRule for Coercion {
    fn name(&self) -> &str {
        "coercion"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let plan = rewrite_typed(plan, plain)?;
        Ok(plan.transform_up_with_subqueries(union)?.data)
    }
}

/// What values are, as far as it matters for what they go with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Number,
    Truth,
    Date,
    Instant,
    Hour,
    Length,
    /// Text, NULL and what is made of others: nothing is said of them here.
    Open,
}

fn class(found: &DataType) -> Class {
    match found {
        found if found.is_numeric() => Class::Number,
        DataType::Boolean => Class::Truth,
        DataType::Date32 | DataType::Date64 => Class::Date,
        DataType::Timestamp(..) => Class::Instant,
        DataType::Time32(_) | DataType::Time64(_) => Class::Hour,
        DataType::Interval(_) | DataType::Duration(_) => Class::Length,
        _ => Class::Open,
    }
}

fn go_together(left: Class, right: Class) -> bool {
    use Class::{Date, Instant, Open};
    left == right || left == Open || right == Open || matches!((left, right), (Date, Instant) | (Instant, Date))
}

/// Errors: two types that have no common meaning.
fn refuse(left: &DataType, right: &DataType, what: &str, at: &[&Expr]) -> Result<()> {
    if go_together(class(left), class(right)) {
        return Ok(());
    }
    Err(mismatch(left, right, what).at(at.iter().find_map(|expr| first_place(expr))).into())
}

fn mismatch(left: &DataType, right: &DataType, what: &str) -> Failure {
    error("type-mismatch", format!("{} and {} {what}", sql_type(left), sql_type(right))).help(remedy(class(left), class(right)))
}

fn remedy(left: Class, right: Class) -> &'static str {
    use Class::{Date, Hour, Instant, Length, Number, Truth};
    let either = |class| left == class || right == class;
    match () {
        () if either(Number) && either(Date) => "a number of days is a date as DATE '1970-01-01' + n",
        () if either(Number) && either(Instant) => {
            "a number is a time as TO_TIMESTAMP_LTZ(n, 3) if it counts milliseconds, with 0 seconds"
        }
        () if either(Number) && either(Length) => {
            "EXTRACT(EPOCH FROM interval) counts its seconds, n * INTERVAL '1' SECOND is an interval"
        }
        () if either(Number) && either(Hour) => "EXTRACT(HOUR FROM time) and its like are numbers",
        () if either(Truth) && either(Number) => "a BOOLEAN stands by itself as a condition; CAST(b AS INT) is 1 or 0",
        () if either(Hour) => "a date and a time of day are a timestamp as d + t; CAST(ts AS TIME) is the time of day",
        () => "CAST one of them",
    }
}

/// A value as it is compared with one of type `other`.
fn beside(expr: Expr, found: &DataType, other: &DataType) -> Expr {
    match is_text(&expr) {
        true => read(expr, other),
        false => among(expr, found, other),
    }
}

/// A value as it stands among others of type `other`.
fn among(expr: Expr, found: &DataType, other: &DataType) -> Expr {
    match (class(found), other) {
        (Class::Date, DataType::Timestamp(..)) => cast(expr, other.clone()),
        (Class::Open, DataType::Timestamp(..) | DataType::Date32) if *found == DataType::Utf8 => cast(expr, other.clone()),
        _ => expr,
    }
}

/// Both sides of an operator as they are meant.
///
/// Errors: types that cannot be compared, or texts in arithmetic with numbers.
pub(super) fn operands(left: Expr, op: Operator, right: Expr, schema: &DFSchema) -> Result<(Expr, Expr)> {
    let (Ok(left_type), Ok(right_type)) = (left.get_type(schema), right.get_type(schema)) else { return Ok((left, right)) };
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
    if matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom) {
        refuse(&left_type, &right_type, "cannot be compared", &[&left, &right])?;
        return Ok((beside(left, &left_type, &right_type), beside(right, &right_type, &left_type)));
    }
    let number = |found: &DataType| class(found) == Class::Number;
    let text = |found: &DataType| *found == DataType::Utf8;
    Ok(match (&left_type, &right_type) {
        _ if !op.is_numerical_operators() => (left, right),
        (number_type, text_type) if number(number_type) && text(text_type) => {
            let right = counted(right, number_type, text_type, op)?;
            (left, right)
        }
        (text_type, number_type) if text(text_type) && number(number_type) => (counted(left, number_type, text_type, op)?, right),
        _ => (left, right),
    })
}

fn plain(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let found = |expr: &Expr| expr.get_type(schema).ok();
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let (left, right) = operands(*left, op, *right, schema)?;
            Ok(Transformed::yes(Expr::BinaryExpr(BinaryExpr { left: Box::new(left), op, right: Box::new(right) })))
        }
        Expr::Between(Between { expr, negated, low, high }) => {
            let Some(value) = found(&expr) else {
                return Ok(Transformed::no(Expr::Between(Between { expr, negated, low, high })));
            };
            let bound = |bound: Expr| match bound.get_type(schema) {
                Ok(limit) => {
                    refuse(&value, &limit, "cannot be compared", &[&expr, &bound])?;
                    Ok::<_, datafusion_common::DataFusionError>(beside(bound, &limit, &value))
                }
                Err(_) => Ok(bound),
            };
            let (low, high) = (Box::new(bound(*low)?), Box::new(bound(*high)?));
            Ok(Transformed::yes(Expr::Between(Between { expr, negated, low, high })))
        }
        Expr::InList(InList { expr, list, negated }) => {
            let Some(value) = found(&expr) else { return Ok(Transformed::no(Expr::InList(InList { expr, list, negated }))) };
            let item = |item: Expr| match item.get_type(schema) {
                Ok(other) => {
                    refuse(&value, &other, "cannot be compared", &[&expr, &item])?;
                    Ok::<_, datafusion_common::DataFusionError>(beside(item, &other, &value))
                }
                Err(_) => Ok(item),
            };
            let list = list.into_iter().map(item).collect::<Result<_>>()?;
            Ok(Transformed::yes(Expr::InList(InList { expr, list, negated })))
        }
        Expr::InSubquery(InSubquery { expr, subquery, negated }) => {
            let column = subquery.subquery.schema().fields().first().map(|field| field.data_type().clone());
            if let (Some(value), Some(column)) = (found(&expr), column) {
                refuse(&value, &column, "cannot be compared", &[&expr])?;
            }
            Ok(Transformed::no(Expr::InSubquery(InSubquery { expr, subquery, negated })))
        }
        Expr::Case(Case { expr, when_then_expr, else_expr }) => {
            let results = when_then_expr.iter().map(|(_, then)| &**then).chain(else_expr.as_deref());
            let common = common(results, schema, "cannot be results of one CASE")?;
            let fit = |expr: Box<Expr>| match (&common, found(&expr)) {
                (Some(common), Some(found)) => Box::new(among(*expr, &found, common)),
                _ => expr,
            };
            let when_then_expr = when_then_expr.into_iter().map(|(when, then)| (when, fit(then))).collect();
            Ok(Transformed::yes(Expr::Case(Case { expr, when_then_expr, else_expr: else_expr.map(fit) })))
        }
        Expr::ScalarFunction(mut call) if matches!(call.func.name(), "coalesce" | "greatest" | "least" | "nullif" | "nvl") => {
            let common = common(call.args.iter(), schema, "cannot be arguments of one call")?;
            if let Some(common) = common {
                let args = std::mem::take(&mut call.args).into_iter();
                call.args = args
                    .map(|arg| match found(&arg) {
                        Some(found) => among(arg, &found, &common),
                        None => arg,
                    })
                    .collect();
            }
            Ok(Transformed::yes(Expr::ScalarFunction(call)))
        }
        other => Ok(Transformed::no(other)),
    }
}

/// A constant text beside a number in a sum: that number.
fn counted(text: Expr, number: &DataType, found: &DataType, op: Operator) -> Result<Expr> {
    if !is_text(&text) {
        let message = format!("{} {op} {}: an operand is no number", sql_type(number), sql_type(found));
        return Err(error("type-mismatch", message).at(first_place(&text)).help("CAST the text to a number").into());
    }
    Ok(cast(text, number.clone()))
}

/// The timestamp, or the date beside texts, that some values are brought to.
///
/// Errors: values that do not go together.
fn common<'a>(exprs: impl Iterator<Item = &'a Expr>, schema: &DFSchema, what: &str) -> Result<Option<DataType>> {
    let mut first: Option<(DataType, &Expr)> = None;
    let mut instant = None;
    for expr in exprs {
        let Ok(found) = expr.get_type(schema) else { continue };
        if let DataType::Timestamp(..) = found {
            instant.get_or_insert_with(|| found.clone());
        }
        if class(&found) == Class::Open {
            continue;
        }
        match &first {
            Some((before, at)) => refuse(before, &found, what, &[expr, at])?,
            None => first = Some((found, expr)),
        }
    }
    Ok(instant)
}

/// The branches of a UNION have types that go together; dates beside timestamps become those.
fn union(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let LogicalPlan::Union(Union { inputs, schema }) = plan else { return Ok(Transformed::no(plan)) };
    let width = inputs.iter().map(|input| input.schema().fields().len()).min().unwrap_or(0);
    let mut wanted: Vec<Option<DataType>> = vec![None; width];
    for (column, wanted) in wanted.iter_mut().enumerate() {
        let types = || inputs.iter().map(|input| input.schema().field(column).data_type());
        let Some(first) = types().find(|found| class(found) != Class::Open) else { continue };
        if let Some(other) = types().find(|other| !go_together(class(first), class(other))) {
            return Err(mismatch(first, other, "cannot stand in one column of a UNION").into());
        }
        let mixed = types().any(|found| class(found) == Class::Date);
        *wanted = types().find(|found| mixed && class(found) == Class::Instant).cloned();
    }
    if wanted.iter().all(Option::is_none) {
        return Ok(Transformed::no(LogicalPlan::Union(Union { inputs, schema })));
    }
    let inputs = inputs.into_iter().map(|input| {
        let columns = input.schema().columns().into_iter().enumerate().map(|(index, column)| {
            let expr = Expr::Column(column.clone());
            match wanted.get(index) {
                Some(Some(wanted)) if class(input.schema().field(index).data_type()) == Class::Date => {
                    cast(expr, wanted.clone()).alias(column.name)
                }
                _ => expr,
            }
        });
        let columns: Vec<Expr> = columns.collect();
        LogicalPlanBuilder::from(Arc::unwrap_or_clone(input)).project(columns)?.build().map(Arc::new)
    });
    let inputs = inputs.collect::<Result<Vec<_>>>()?;
    Ok(Transformed::yes(LogicalPlan::Union(Union::try_new_with_loose_types(inputs)?)))
}
