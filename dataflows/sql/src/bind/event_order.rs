//! `first_value(x)` and `last_value(x)` without ORDER BY go by the event time of their input.
//!
//! Which column that is, is known only when a plan is lowered, and by then a column that nothing reads is gone. So the calls
//! are given an order here: a mark, and behind it every column that may be the time.

use arrow::datatypes::DataType;
use datafusion_common::config::ConfigOptions;
use datafusion_common::tree_node::Transformed;
use datafusion_common::{Column, Result, ScalarValue};
use datafusion_expr::expr::Sort;
use datafusion_expr::{Expr, LogicalPlan, lit};
use datafusion_optimizer::analyzer::AnalyzerRule;

use super::expressions::rewrite_node;

const MARK: &str = "(event time)";

/// Whether this order is the mark's.
pub(crate) fn is_event_order(order: &[Sort]) -> bool {
    matches!(order.first(), Some(Sort { expr: Expr::Literal(ScalarValue::Utf8(Some(mark)), _), .. }) if mark == MARK)
}

/// Gives the calls their order.
#[derive(Debug)]
pub(super) struct EventOrders;

impl AnalyzerRule for EventOrders {
    fn name(&self) -> &str {
        "event_orders"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let plan = plan.transform_up_with_subqueries(|node| {
            let LogicalPlan::Aggregate(aggregate) = &node else { return Ok(Transformed::no(node)) };
            let fields = aggregate.input.schema().iter();
            let times: Vec<Column> = fields
                .filter(|(_, field)| matches!(field.data_type(), DataType::Timestamp(..)))
                .map(|(qualifier, field)| Column::new(qualifier.cloned(), field.name()))
                .collect();
            if times.is_empty() {
                return Ok(Transformed::no(node));
            }
            rewrite_node(node, |expr| Ok(ordered(expr, &times)))
        })?;
        Ok(plan.data)
    }
}

fn ordered(expr: Expr, times: &[Column]) -> Transformed<Expr> {
    let Expr::AggregateFunction(mut call) = expr else { return Transformed::no(expr) };
    if !call.params.order_by.is_empty() || !matches!(call.func.name(), "first_value" | "last_value") {
        return Transformed::no(Expr::AggregateFunction(call));
    }
    let ascending = |expr: Expr| Sort::new(expr, true, false);
    call.params.order_by = vec![ascending(lit(MARK))];
    call.params.order_by.extend(times.iter().map(|time| ascending(Expr::Column(time.clone()))));
    Transformed::yes(Expr::AggregateFunction(call))
}
