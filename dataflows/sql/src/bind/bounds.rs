//! How large the plan of a query may become.
//!
//! Views that are inlined, and expressions that are spelled out with what they read in them twice, double with every level of
//! nesting: forty lines of SQL can ask for a plan that no machine holds. A plan is measured before the rules of the optimizer
//! run, and after each pass.

use datafusion_common::config::ConfigOptions;
use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion_common::{DataFusionError, Result};
use datafusion_expr::expr::ScalarFunction;
use datafusion_expr::{Expr, LogicalPlan};
use datafusion_optimizer::analyzer::AnalyzerRule;
use datafusion_optimizer::{OptimizerConfig, OptimizerRule};

use super::expressions::rewrite_node;
use crate::diagnose::error;

/// Operators of a query, views that it inlines counted where they stand.
const OPERATORS: usize = 5_000;
/// Expressions of a query.
const EXPRESSIONS: u64 = 1_000_000;

/// Errors: a plan that is larger than can be planned, as it is.
pub(super) fn bounded(plan: &LogicalPlan) -> Result<()> {
    measured(plan, &|expr| size(expr, false))
}

/// The same, as it will be when some functions are a CASE that has their arguments twice.
pub(super) fn bounded_in_words(plan: &LogicalPlan) -> Result<()> {
    measured(plan, &|expr| size(expr, true))
}

fn measured(plan: &LogicalPlan, size: &dyn Fn(&Expr) -> u64) -> Result<()> {
    let (mut operators, mut expressions) = (0_usize, 0_u64);
    plan.apply_with_subqueries(|node| {
        operators += 1;
        node.apply_expressions(|expr| {
            expressions = expressions.saturating_add(size(expr));
            Ok(TreeNodeRecursion::Continue)
        })?;
        if operators > OPERATORS {
            return Err(too_large(format!("the query is a plan of more than {OPERATORS} operators")));
        }
        if expressions > EXPRESSIONS {
            return Err(too_large(format!("the query is a plan of more than {EXPRESSIONS} expressions")));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(())
}

fn too_large(message: String) -> DataFusionError {
    let help = "views that a query reads are planned as part of it, each where it is named: make those that are named often \
                materialized, and compute in a subquery of FROM what COALESCE and the like read";
    error("too-large", message).help(help).into()
}

/// How many expressions this one is, or will be in other words.
fn size(expr: &Expr, in_words: bool) -> u64 {
    let mut whole = 1_u64;
    let doubled = match expr {
        Expr::ScalarFunction(ScalarFunction { func, args }) if is_doubled(func.name()) => args.len().saturating_sub(1),
        Expr::Between(_) => 1,
        _ => 0,
    };
    let mut child = 0;
    let _ = expr.apply_children(|part| {
        let part = size(part, in_words);
        whole = whole.saturating_add(if in_words && child < doubled { part.saturating_mul(2) } else { part });
        child += 1;
        Ok(TreeNodeRecursion::Continue)
    });
    whole
}

fn is_doubled(function: &str) -> bool {
    matches!(function, "coalesce" | "nvl" | "ifnull" | "nvl2")
}

/// Measures the plan at the end of each pass.
#[derive(Debug)]
pub(super) struct Bounded;

impl OptimizerRule for Bounded {
    fn name(&self) -> &str {
        "bounded"
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        bounded_in_words(&plan)?;
        Ok(Transformed::no(plan))
    }
}

/// `COALESCE(COALESCE(a, b), c)` is `COALESCE(a, b, c)`, of which the CASE has each argument twice, not the first ones once
/// more with every level.
#[derive(Debug)]
pub(super) struct FlatCoalesce;

impl AnalyzerRule for FlatCoalesce {
    fn name(&self) -> &str {
        "flat_coalesce"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        Ok(plan.transform_up_with_subqueries(|node| rewrite_node(node, |expr| Ok(flat(expr))))?.data)
    }
}

fn flat(expr: Expr) -> Transformed<Expr> {
    let is_coalesce = |expr: &Expr| matches!(expr, Expr::ScalarFunction(call) if call.func.name() == "coalesce");
    match expr {
        Expr::ScalarFunction(call) if call.func.name() == "coalesce" && call.args.iter().any(is_coalesce) => {
            let args = call.args.into_iter().flat_map(|arg| match arg {
                Expr::ScalarFunction(inner) if inner.func.name() == "coalesce" => inner.args,
                other => vec![other],
            });
            Transformed::yes(Expr::ScalarFunction(ScalarFunction { func: call.func, args: args.collect() }))
        }
        other => Transformed::no(other),
    }
}
