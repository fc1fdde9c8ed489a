//! DataFusion's analyzer and optimizer with the rules that fit a result that is maintained for ever.

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion_common::config::ConfigOptions;
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{DFSchema, Result, ScalarValue};
use datafusion_expr::execution_props::ExecutionProps;
use datafusion_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion_expr::{Expr, ExprSchemable, LogicalPlan, Operator, Volatility};
use datafusion_optimizer::analyzer::AnalyzerRule;
use datafusion_optimizer::optimize_projections::OptimizeProjections;
use datafusion_optimizer::simplify_expressions::SimplifyExpressions;
use datafusion_optimizer::{Analyzer, Optimizer, OptimizerContext, OptimizerRule};
use datafusion_physical_expr::create_physical_expr;

use super::bounds::{Bounded, FlatCoalesce, bounded, bounded_in_words};
use super::casts::Casts;
use super::coercion::Coercion;
use super::decimals::ProductScales;
use super::dependent::Dependent;
use super::equalities::Equalities;
use super::event_order::EventOrders;
use super::expressions::{rewrite_node, rewrite_typed};
use super::group_window::GroupWindows;
use super::join_order::order_joins;
use super::marks::Marks;
use super::ordered::{DistinctOnRows, PeerFrames, TimeFrames};
use super::subquery::Subqueries;
use crate::diagnose::error;
use crate::functions::{BYTE_LENGTH, ROUND_EVEN, function};

/// Rules that are left out, with the reason.
const LEFT_OUT: [&str; 7] = [
    // Panics without a function registry; DISTINCT is an operator of ours anyway.
    "replace_distinct_aggregate",
    // Two nested groupings where one keeps the distinct values.
    "single_distinct_aggregation_to_group_by",
    // Moves LIMIT into scans and joins.
    "push_down_limit",
    // Number their aliases, so that equal sub-plans are no longer equal.
    "extract_leaf_expressions",
    "push_down_leaf_projections",
    // Turns inner joins into semi joins, which cost more here than an inner join with unique keys.
    "eliminate_join",
    // Merges the branches of a UNION into one filter with OR, which splits work that other views share.
    "unions_to_filter",
];

/// Types, windows and constants resolved; no rule that changes the plan's shape.
fn analyze(plan: LogicalPlan, config: &Arc<ConfigOptions>) -> Result<LogicalPlan> {
    let mut rules: Vec<Arc<dyn AnalyzerRule + Send + Sync>> = vec![
        Arc::new(FlatCoalesce),
        Arc::new(GroupWindows),
        Arc::new(EventOrders),
        Arc::new(DistinctOnRows),
        Arc::new(Subqueries),
        Arc::new(PeerFrames),
        Arc::new(TimeFrames),
        Arc::new(PlainStrings),
        Arc::new(Coercion),
        Arc::new(ProductScales),
    ];
    rules.extend(Analyzer::new().rules);
    bounded(&plan)?;
    rules.push(Arc::new(Dependent));
    rules.push(Arc::new(Casts));
    rules.push(Arc::new(CheckedConstants));
    Analyzer::with_rules(rules).execute_and_check(plan, config, |_, _| {})
}

/// Expressions made simpler, the plan's shape kept.
pub(crate) fn simplify(plan: LogicalPlan, config: &Arc<ConfigOptions>) -> Result<LogicalPlan> {
    let rule: Arc<dyn OptimizerRule + Send + Sync> = Arc::new(SimplifyExpressions::new());
    let plan = analyze(plan, config)?;
    bounded_in_words(&plan)?;
    Optimizer::with_rules(vec![rule]).optimize(plan, &context(config), |_, _| {})
}

fn context(config: &Arc<ConfigOptions>) -> OptimizerContext {
    // Without a start time `now()` stays a call: folded into a constant it would be wrong from the second row on.
    OptimizerContext::new_with_config_options(Arc::clone(config))
        .without_query_execution_start_time()
        .with_skip_failing_rules(false)
        .with_max_passes(8)
}

/// The plan that is lowered.
pub(crate) fn optimize(plan: LogicalPlan, config: &Arc<ConfigOptions>) -> Result<LogicalPlan> {
    let plan = analyze(plan, config)?;
    bounded_in_words(&plan)?;
    let mut rules = Optimizer::new().rules;
    rules.retain(|rule| !LEFT_OUT.contains(&rule.name()));
    let before = rules.iter().position(|rule| rule.name() == "decorrelate_predicate_subquery").unwrap_or(0);
    rules.insert(before, Arc::new(Marks));
    for rule in &mut rules {
        if rule.name() == "extract_equijoin_predicate" {
            *rule = Arc::new(Equalities::default());
        }
    }
    rules.push(Arc::new(Bounded));
    let plan = Optimizer::with_rules(rules).optimize(plan, &context(config), |_, _| {})?;
    // Between joins in another order other columns are read.
    let prune: Arc<dyn OptimizerRule + Send + Sync> = Arc::new(OptimizeProjections::new());
    Optimizer::with_rules(vec![prune]).optimize(order_joins(plan)?, &context(config), |_, _| {})
}

/// Computes sums, differences and products of integer constants: DataFusion would let them wrap.
#[derive(Debug)]
struct CheckedConstants;

impl AnalyzerRule for CheckedConstants {
    fn name(&self) -> &str {
        "checked_constants"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        Ok(plan.transform_up_with_subqueries(|node| rewrite_node(node, checked_constant))?.data)
    }
}

fn checked_constant(expr: Expr) -> Result<Transformed<Expr>> {
    let Expr::BinaryExpr(binary) = &expr else { return Ok(Transformed::no(expr)) };
    if !matches!(binary.op, Operator::Plus | Operator::Minus | Operator::Multiply) {
        return Ok(Transformed::no(expr));
    }
    let (Some(left), Some(right)) = (integer(&binary.left), integer(&binary.right)) else { return Ok(Transformed::no(expr)) };
    if !left.data_type().is_integer() || left.data_type() != right.data_type() || left.is_null() || right.is_null() {
        return Ok(Transformed::no(expr));
    }
    let value = match binary.op {
        Operator::Plus => left.add_checked(&right),
        Operator::Minus => left.sub_checked(&right),
        _ => left.mul_checked(&right),
    };
    match value {
        Ok(value) => Ok(Transformed::yes(Expr::Literal(value, None))),
        Err(_) => {
            let message = format!("a constant expression fails: integer overflow in {left} {} {right}", binary.op);
            Err(error("constant-error", message).help("CAST one side to DECIMAL or DOUBLE").into())
        }
    }
}

/// The value of an integer constant: a literal, or what is made of literals by casts and functions that always give the same.
fn integer(expr: &Expr) -> Option<ScalarValue> {
    if let Expr::Literal(value, _) = expr {
        return Some(value.clone());
    }
    let schema = DFSchema::empty();
    if expr.any_column_refs() || !expr.get_type(&schema).is_ok_and(|found| found.is_integer()) {
        return None;
    }
    let changing = |expr: &Expr| match expr {
        Expr::ScalarFunction(call) => call.func.signature().volatility != Volatility::Immutable,
        Expr::Literal(..) | Expr::Cast(_) | Expr::TryCast(_) | Expr::Negative(_) | Expr::BinaryExpr(_) | Expr::Case(_) => false,
        _ => true,
    };
    if expr.exists(|expr| Ok(changing(expr))).unwrap_or(true) {
        return None;
    }
    let physical = create_physical_expr(expr, &schema, &ExecutionProps::new(), &PhysicalPlanningContext::default()).ok()?;
    let row = RecordBatchOptions::new().with_row_count(Some(1));
    let row = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &row).ok()?;
    let value = physical.evaluate(&row).and_then(|value| value.into_array(1)).ok()?;
    ScalarValue::try_from_array(&value, 0).ok()
}

/// Casts the few functions that return `Utf8View` to `Utf8`: one string type throughout, and bytes are no strings.
#[derive(Debug)]
struct PlainStrings;

impl AnalyzerRule for PlainStrings {
    fn name(&self) -> &str {
        "plain_strings"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        rewrite_typed(plan, |expr, schema| {
            // Of bytes DataFusion would count the characters that they may be.
            if let Expr::ScalarFunction(call) = &expr
                && call.func.name() == "character_length"
                && let [arg] = &call.args[..]
                && matches!(arg.get_type(schema), Ok(DataType::Binary))
            {
                return Ok(Transformed::yes(function(BYTE_LENGTH).call(call.args.clone())));
            }
            // Floats are rounded as when they are cast.
            if let Expr::ScalarFunction(call) = &expr
                && call.func.name() == "round"
                && let [arg] = &call.args[..]
                && arg.get_type(schema).is_ok_and(|found| found.is_floating())
            {
                return Ok(Transformed::yes(function(ROUND_EVEN).call(call.args.clone())));
            }
            let view = matches!(&expr, Expr::ScalarFunction(_)) && matches!(expr.get_type(schema), Ok(DataType::Utf8View));
            Ok(if view { Transformed::yes(datafusion_expr::cast(expr, DataType::Utf8)) } else { Transformed::no(expr) })
        })
    }
}
