//! Casts, ours in place of Arrow's where they mean something else.

use arrow::datatypes::DataType;
use datafusion_common::config::ConfigOptions;
use datafusion_common::tree_node::Transformed;
use datafusion_common::{DFSchema, Result};
use datafusion_expr::expr::{Cast, TryCast};
use datafusion_expr::{Expr, ExprSchemable, LogicalPlan};
use datafusion_optimizer::analyzer::AnalyzerRule;

use super::expressions::rewrite_typed;

use crate::functions::cast;

/// Runs when all types are settled.
#[derive(Debug)]
pub(super) struct Casts;

impl AnalyzerRule for Casts {
    fn name(&self) -> &str {
        "casts"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        rewrite_typed(plan, rewritten)
    }
}

fn rewritten(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    Ok(match expr {
        Expr::Cast(Cast { expr, field }) if is_ours(&expr, field.data_type(), schema) => {
            Transformed::yes(cast::call(*expr, field.data_type(), false))
        }
        Expr::TryCast(TryCast { expr, field }) if is_ours(&expr, field.data_type(), schema) => {
            Transformed::yes(cast::call(*expr, field.data_type(), true))
        }
        other => Transformed::no(other),
    })
}

fn is_ours(expr: &Expr, to: &DataType, schema: &DFSchema) -> bool {
    expr.get_type(schema).is_ok_and(|from| cast::is_ours(&from, to))
}
