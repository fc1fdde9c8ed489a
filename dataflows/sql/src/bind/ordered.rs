//! What is said of orders in ways that the lowering does not want: `DISTINCT ON`, `FETCH FIRST`, frames of peers.

use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};
use datafusion_common::config::ConfigOptions;
use datafusion_common::tree_node::Transformed;
use datafusion_common::{DFSchema, Result, ScalarValue};
use datafusion_expr::expr::{Sort, WindowFunction, WindowFunctionDefinition};
use datafusion_expr::logical_plan::{Distinct, DistinctOn, LogicalPlanBuilder};
use datafusion_expr::{Expr, ExprSchemable, LogicalPlan, WindowFrame, WindowFrameBound, WindowFrameUnits, cast, col, lit};
use datafusion_optimizer::analyzer::AnalyzerRule;
use sqlparser::ast::{self, LimitClause, Query};

use super::expressions::rewrite_node;
use crate::functions::WITH_TIES;
use crate::functions::cast::{instant_of, raw};
use crate::parse::ast_function;

/// `DISTINCT ON (k) .. ORDER BY k, v` as the rows whose `row_number() OVER (PARTITION BY k ORDER BY k, v)` is 1.
///
/// DataFusion's rule makes an aggregate of it, and its optimizer moves filters below a `DISTINCT ON`, where they choose
/// other rows.
#[derive(Debug)]
pub(super) struct DistinctOnRows;

impl AnalyzerRule for DistinctOnRows {
    fn name(&self) -> &str {
        "distinct_on_rows"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let plan = plan.transform_up_with_subqueries(|plan| match plan {
            LogicalPlan::Distinct(Distinct::On(distinct)) => Ok(Transformed::yes(first_rows(distinct)?)),
            other => Ok(Transformed::no(other)),
        })?;
        Ok(plan.data)
    }
}

fn first_rows(distinct: DistinctOn) -> Result<LogicalPlan> {
    const NUMBER: &str = "__distinct_on";
    let DistinctOn { on_expr, select_expr, sort_expr, input, .. } = distinct;
    LogicalPlanBuilder::from(Arc::unwrap_or_clone(input))
        .window(vec![numbered("row_number", on_expr, sort_expr.unwrap_or_default()).alias(NUMBER)])?
        .filter(col(NUMBER).lt_eq(lit(1i64)))?
        .project(select_expr)?
        .build()
}

/// `row_number` or `rank` of the rows of a partition in an order.
pub(super) fn numbered(function: &str, partition: Vec<Expr>, order: Vec<Sort>) -> Expr {
    let ranking = crate::functions::windows().into_iter().find(|ranking| ranking.name() == function);
    let ranking = ranking.expect("rankings are among the window functions");
    let mut call = WindowFunction::new(WindowFunctionDefinition::WindowUDF(ranking), Vec::new());
    call.params.window_frame = WindowFrame::new((!order.is_empty()).then_some(false));
    call.params.partition_by = partition;
    call.params.order_by = order;
    Expr::from(call)
}

/// RANGE frames without distances as GROUPS: the same rows, for every type of order column.
#[derive(Debug)]
pub(super) struct PeerFrames;

impl AnalyzerRule for PeerFrames {
    fn name(&self) -> &str {
        "peer_frames"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let plan = plan.transform_up_with_subqueries(|node| {
            if !matches!(node, LogicalPlan::Window(_)) {
                return Ok(Transformed::no(node));
            }
            rewrite_node(node, |expr| Ok(peer_frame(expr)))
        })?;
        Ok(plan.data)
    }
}

/// RANGE distances between times of day, as between those of the first day there is: DataFusion knows them of timestamps.
#[derive(Debug)]
pub(super) struct TimeFrames;

impl AnalyzerRule for TimeFrames {
    fn name(&self) -> &str {
        "time_frames"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let plan = plan.transform_up_with_subqueries(|node| {
            let LogicalPlan::Window(window) = &node else { return Ok(Transformed::no(node)) };
            let schema = Arc::clone(window.input.schema());
            rewrite_node(node, |expr| Ok(time_frame(expr, &schema)))
        })?;
        Ok(plan.data)
    }
}

fn time_frame(expr: Expr, schema: &DFSchema) -> Transformed<Expr> {
    let Expr::WindowFunction(mut call) = expr else { return Transformed::no(expr) };
    let is_time = |by: &Sort| matches!(by.expr.get_type(schema), Ok(DataType::Time32(_) | DataType::Time64(_)));
    match &mut call.params.order_by[..] {
        [by] if call.params.window_frame.units == WindowFrameUnits::Range && is_time(by) => {
            let time = cast(by.expr.clone(), DataType::Time64(TimeUnit::Microsecond));
            by.expr = instant_of(raw(time, DataType::Int64));
            Transformed::yes(Expr::WindowFunction(call))
        }
        _ => Transformed::no(Expr::WindowFunction(call)),
    }
}

fn peer_frame(expr: Expr) -> Transformed<Expr> {
    let Expr::WindowFunction(mut call) = expr else { return Transformed::no(expr) };
    let frame = &call.params.window_frame;
    let plain = |bound: &WindowFrameBound| bound.is_unbounded() || *bound == WindowFrameBound::CurrentRow;
    if frame.units != WindowFrameUnits::Range || !plain(&frame.start_bound) || !plain(&frame.end_bound) {
        return Transformed::no(Expr::WindowFunction(call));
    }
    let bound = |bound: &WindowFrameBound| match bound {
        WindowFrameBound::Preceding(_) => WindowFrameBound::Preceding(ScalarValue::UInt64(None)),
        WindowFrameBound::Following(_) => WindowFrameBound::Following(ScalarValue::UInt64(None)),
        WindowFrameBound::CurrentRow => WindowFrameBound::CurrentRow,
    };
    let (start, end) = (bound(&frame.start_bound), bound(&frame.end_bound));
    if call.params.order_by.is_empty() {
        // Without an order all rows are peers.
        call.params.order_by.push(Sort::new(lit(1i64), true, false));
    }
    call.params.window_frame = WindowFrame::new_bounds(WindowFrameUnits::Groups, start, end);
    Transformed::yes(Expr::WindowFunction(call))
}

/// `FETCH FIRST n ROWS ONLY` as LIMIT, with a mark around the number for `WITH TIES`.
pub(super) fn fetch_as_limit(query: &mut Query) {
    let Some(fetch) = query.fetch.take() else { return };
    let one = || ast::Expr::Value(ast::Value::Number("1".into(), false).with_empty_span());
    let mut count = fetch.quantity.unwrap_or_else(one);
    if fetch.with_ties {
        let argument = ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(count));
        count = ast_function(WITH_TIES, vec![argument], sqlparser::tokenizer::Span::empty());
    }
    let offset = match query.limit_clause.take() {
        Some(LimitClause::LimitOffset { offset, .. }) => offset,
        _ => None,
    };
    query.limit_clause = Some(LimitClause::LimitOffset { limit: Some(count), offset, limit_by: Vec::new() });
}

/// Whether an order stands below projections.
pub(crate) fn is_sorted(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Sort(sort) => sort.fetch.is_none(),
        LogicalPlan::Projection(project) => is_sorted(&project.input),
        LogicalPlan::SubqueryAlias(alias) => is_sorted(&alias.input),
        _ => false,
    }
}

/// The number in the mark that is made of `WITH TIES`.
pub(crate) fn with_ties(fetch: &Expr) -> Option<u64> {
    match fetch {
        Expr::Cast(cast) => with_ties(&cast.expr),
        Expr::ScalarFunction(call) if call.func.name() == WITH_TIES => match call.args.first()?.clone().unalias() {
            Expr::Literal(value, _) => value.to_string().parse().ok(),
            _ => None,
        },
        _ => None,
    }
}
