//! Equalities of a join's condition as its keys.

use datafusion_common::tree_node::Transformed;
use datafusion_common::{NullEquality, Result};
use datafusion_expr::LogicalPlan;
use datafusion_optimizer::extract_equijoin_predicate::ExtractEquijoinPredicate;
use datafusion_optimizer::optimizer::ApplyOrder;
use datafusion_optimizer::{OptimizerConfig, OptimizerRule};

/// DataFusion's rule without what it makes of `IS NOT DISTINCT FROM`.
///
/// It says of the whole join that NULLs are equal; other rules then add keys of `=`, or merge the join with others, and what
/// was said holds of those as well. So `IS NOT DISTINCT FROM` stays a condition, until the lowering finds keys in it.
#[derive(Debug, Default)]
pub(super) struct Equalities(ExtractEquijoinPredicate);

impl OptimizerRule for Equalities {
    fn name(&self) -> &str {
        "equalities"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        if !matches!(&plan, LogicalPlan::Join(join) if join.filter.is_some()) {
            return Ok(Transformed::no(plan));
        }
        let rewritten = self.0.rewrite(plan.clone(), config)?;
        match &rewritten.data {
            LogicalPlan::Join(join) if join.null_equality == NullEquality::NullEqualsNull => Ok(Transformed::no(plan)),
            _ => Ok(rewritten),
        }
    }
}
