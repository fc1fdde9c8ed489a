//! Expressions rewritten wherever they stand in a plan, under the names that they have.

use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{DFSchema, Result};
use datafusion_expr::expr_rewriter::NamePreserver;
use datafusion_expr::{Expr, LogicalPlan};

/// Rewrites the expressions of one node, their parts first.
pub(super) fn rewrite_node(
    node: LogicalPlan,
    mut rewrite: impl FnMut(Expr) -> Result<Transformed<Expr>>,
) -> Result<Transformed<LogicalPlan>> {
    let names = NamePreserver::new(&node);
    node.map_expressions(|expr| {
        let name = names.save(&expr);
        let expr = expr.transform_up(&mut rewrite)?;
        Ok(Transformed::new(name.restore(expr.data), expr.transformed, expr.tnr))
    })
}

/// Rewrites the expressions of a plan and of its subqueries, given what they read: the columns of a node's inputs, of a scan
/// its own.
pub(super) fn rewrite_typed(
    plan: LogicalPlan,
    rewrite: impl Fn(Expr, &DFSchema) -> Result<Transformed<Expr>>,
) -> Result<LogicalPlan> {
    let plan = plan.transform_up_with_subqueries(|node| {
        let mut read = DFSchema::empty();
        for input in node.inputs() {
            read.merge(input.schema());
        }
        if let LogicalPlan::TableScan(scan) = &node {
            read.merge(&scan.projected_schema);
        }
        rewrite_node(node, |expr| rewrite(expr, &read))?.map_data(|node| node.recompute_schema())
    })?;
    Ok(plan.data)
}
