//! `EXISTS` in a SELECT list or an aggregate's argument, as mark joins: DataFusion makes them for filters alone.

use std::sync::Arc;

use datafusion_common::Result;
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_expr::expr_rewriter::NamePreserver;
use datafusion_expr::logical_plan::{Aggregate, Filter, LogicalPlan, Projection};
use datafusion_expr::utils::{conjunction, split_conjunction_owned};
use datafusion_expr::{Expr, LogicalPlanBuilder};
use datafusion_optimizer::decorrelate_predicate_subquery::DecorrelatePredicateSubquery;
use datafusion_optimizer::optimizer::ApplyOrder;
use datafusion_optimizer::{OptimizerConfig, OptimizerRule};

/// Stands before DataFusion's own rule for filters.
#[derive(Debug)]
pub(crate) struct Marks;

impl OptimizerRule for Marks {
    fn name(&self) -> &str {
        "marks"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let names = NamePreserver::new(&plan);
        match plan {
            LogicalPlan::Projection(Projection { expr, input, .. }) if expr.iter().any(asks) => {
                let saved: Vec<_> = expr.iter().map(|expr| names.save(expr)).collect();
                let (input, exprs) = marked(&input, expr, config)?;
                let exprs: Vec<Expr> = exprs.into_iter().zip(saved).map(|(expr, name)| name.restore(expr)).collect();
                Ok(Transformed::yes(LogicalPlanBuilder::from(input).project(exprs)?.build()?))
            }
            LogicalPlan::Aggregate(Aggregate { input, group_expr, aggr_expr, .. })
                if group_expr.iter().chain(&aggr_expr).any(asks) =>
            {
                let groups = group_expr.len();
                let all: Vec<Expr> = group_expr.into_iter().chain(aggr_expr).collect();
                let saved: Vec<_> = all.iter().map(|expr| names.save(expr)).collect();
                let (input, exprs) = marked(&input, all, config)?;
                let mut exprs: Vec<Expr> = exprs.into_iter().zip(saved).map(|(expr, name)| name.restore(expr)).collect();
                let calls = exprs.split_off(groups);
                Ok(Transformed::yes(LogicalPlan::Aggregate(Aggregate::try_new(Arc::new(input), exprs, calls)?)))
            }
            other => Ok(Transformed::no(other)),
        }
    }
}

/// The input with its marks, and the expressions over it.
fn marked(input: &Arc<LogicalPlan>, exprs: Vec<Expr>, config: &dyn OptimizerConfig) -> Result<(LogicalPlan, Vec<Expr>)> {
    // Inside a larger condition a subquery becomes a mark; a condition that is made up for that is taken apart again.
    let conditions = exprs.iter().filter(|expr| asks(expr)).map(|expr| expr.clone().unalias().is_null());
    let Some(condition) = conjunction(conditions) else { return Ok((input.as_ref().clone(), exprs)) };
    let filter = LogicalPlan::Filter(Filter::try_new(condition, Arc::clone(input))?);
    let mut found = DecorrelatePredicateSubquery::new().rewrite(filter, config)?.data;
    if let LogicalPlan::Projection(projection) = found {
        found = Arc::unwrap_or_clone(projection.input);
    }
    let LogicalPlan::Filter(filter) = found else { return Ok((input.as_ref().clone(), exprs)) };
    let mut rewritten = split_conjunction_owned(filter.predicate).into_iter().map(|condition| match condition {
        Expr::IsNull(expr) => *expr,
        other => other,
    });
    let exprs = exprs.into_iter().map(|expr| if asks(&expr) { rewritten.next().unwrap_or(expr) } else { expr }).collect();
    Ok((Arc::unwrap_or_clone(filter.input), exprs))
}

/// Whether an expression asks for the existence of rows.
fn asks(expr: &Expr) -> bool {
    expr.exists(|expr| Ok(matches!(expr, Expr::Exists(_) | Expr::InSubquery(_)))).unwrap_or(false)
}
