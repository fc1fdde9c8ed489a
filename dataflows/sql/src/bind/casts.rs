//! Casts, ours in place of Arrow's where they mean something else, and those that mean nothing refused.

use arrow::compute::can_cast_types;
use arrow::datatypes::DataType;
use datafusion_common::config::ConfigOptions;
use datafusion_common::tree_node::Transformed;
use datafusion_common::{DFSchema, Result};
use datafusion_expr::expr::{Cast, TryCast};
use datafusion_expr::{Expr, ExprSchemable, LogicalPlan};
use datafusion_optimizer::analyzer::AnalyzerRule;

use super::expressions::rewrite_typed;
use super::types::sql_type;
use crate::diagnose::error;
use crate::functions::cast;
use crate::lower::first_place;

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
    let (inner, to, safe) = match expr {
        Expr::Cast(Cast { expr, field }) => (expr, field, false),
        Expr::TryCast(TryCast { expr, field }) => (expr, field, true),
        other => return Ok(Transformed::no(other)),
    };
    let as_it_was = |inner, field| match safe {
        true => Expr::TryCast(TryCast { expr: inner, field }),
        false => Expr::Cast(Cast { expr: inner, field }),
    };
    let Ok(from) = inner.get_type(schema) else { return Ok(Transformed::no(as_it_was(inner, to))) };
    if let Some(help) = refusal(&from, to.data_type()) {
        let message = format!("{} cannot be CAST to {}", sql_type(&from), sql_type(to.data_type()));
        return Err(error("type-mismatch", message).at(first_place(&inner)).help(help).into());
    }
    Ok(match cast::is_ours(&from, to.data_type()) {
        true => Transformed::yes(cast::call(*inner, to.data_type(), safe)),
        false => Transformed::no(as_it_was(inner, to)),
    })
}

/// What to write instead of a cast that means nothing.
fn refusal(from: &DataType, to: &DataType) -> Option<&'static str> {
    use DataType as T;
    let number = |found: &DataType| found.is_numeric();
    let hour = |found: &DataType| matches!(found, T::Time32(_) | T::Time64(_));
    let length = |found: &DataType| matches!(found, T::Interval(_) | T::Duration(_));
    match (from, to) {
        (from, T::Date32) if number(from) => Some("DATE '1970-01-01' + n is the date n days after"),
        (T::Date32, to) if number(to) => Some("d - DATE '1970-01-01' counts its days"),
        (from, to) if (number(from) && hour(to)) || (hour(from) && number(to)) => {
            Some("EXTRACT(HOUR FROM t) and its like are numbers")
        }
        (from, to) if number(from) && length(to) => Some("n * INTERVAL '1' SECOND is an interval"),
        (from, to) if length(from) && number(to) => Some("EXTRACT(EPOCH FROM i) counts its seconds"),
        (from, T::Timestamp(..) | T::Date32) if hour(from) => Some("a date and a time of day are a timestamp: d + t"),
        (T::Date32, to) if hour(to) => Some("a date has no time of day; TIME '00:00:00' is its beginning"),
        (T::Binary, to) if number(to) => Some("bytes have no value as a number; ENCODE(b, 'hex') is text"),
        (from, to) if !cast::is_ours(from, to) && !can_cast_types(from, to) => {
            Some("there is no such conversion; go by VARCHAR if its text is meant")
        }
        _ => None,
    }
}
