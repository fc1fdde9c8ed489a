//! How many rows a relation has, and how many values a column of it: guesses, of which only the order of magnitude counts.

use datafusion_common::{Dependency, ScalarValue};
use datafusion_expr::expr::InList;
use datafusion_expr::logical_plan::Values;
use datafusion_expr::{BinaryExpr, Expr, LogicalPlan, Operator};

use crate::bind::{Relation, Target};

/// Rows of a stream of which nothing is known.
const STREAM_ROWS: f64 = 1e6;
/// Rows of a table or view of which nothing is known.
const TABLE_ROWS: f64 = 1e5;

/// What is guessed of a relation.
pub(super) struct Estimate {
    pub(super) rows: f64,
    /// Names of columns that are a key together, before any filter, which had this many rows then.
    keys: Vec<Vec<String>>,
    /// Rows before conditions: a condition on other columns leaves a key's values as many as they were named elsewhere.
    unfiltered: f64,
}

/// How many values an expression over a relation has.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct ValueCount {
    values: f64,
    /// It is a key, or a column of one: other relations' values are among its.
    key: bool,
}

impl ValueCount {
    /// One pair of so many is equal.
    pub(super) fn of_equality(self, other: ValueCount) -> f64 {
        match (self.key, other.key) {
            (true, false) => self.values,
            (false, true) => other.values,
            _ => self.values.max(other.values),
        }
    }
}

impl Estimate {
    pub(super) fn of(plan: &LogicalPlan) -> Estimate {
        let schema = plan.schema();
        let single = schema.functional_dependencies().iter().filter(|dependence| dependence.mode == Dependency::Single);
        let keys = single.map(|dependence| {
            dependence.source_indices.iter().map(|index| schema.field(*index).name().clone()).collect::<Vec<_>>()
        });
        Estimate { rows: rows(plan, true), keys: keys.collect(), unfiltered: rows(plan, false) }
    }

    /// How many values an expression over it has.
    pub(super) fn values(&self, expr: &Expr) -> ValueCount {
        let expr = match expr {
            Expr::Cast(cast) => &cast.expr,
            other => other,
        };
        let name = match expr {
            Expr::Column(column) => Some(&column.name),
            _ => None,
        };
        let key = self.keys.iter().filter(|key| name.is_some_and(|name| key.contains(name))).map(Vec::len).min();
        let values = match key {
            Some(columns) => self.unfiltered.powf(1.0 / columns as f64),
            None => self.unfiltered.sqrt(),
        };
        ValueCount { values: values.max(1.0), key: key.is_some() }
    }
}

fn rows(plan: &LogicalPlan, filtered: bool) -> f64 {
    let input = |plan: &LogicalPlan| plan.inputs().iter().map(|input| rows(input, filtered)).fold(1.0, f64::max);
    let rows = match plan {
        LogicalPlan::TableScan(scan) => {
            let relation = scan.source.downcast_ref::<Relation>();
            let known = relation.and_then(|relation| relation.rows).map(|rows| rows as f64);
            let is_stream = relation.is_some_and(|relation| relation.is_stream && matches!(relation.target, Target::Source(_)));
            known.unwrap_or(if is_stream { STREAM_ROWS } else { TABLE_ROWS })
        }
        LogicalPlan::Filter(filter) if filtered => input(plan) * of_condition(&filter.predicate),
        LogicalPlan::Values(Values { values, .. }) => values.len() as f64,
        LogicalPlan::EmptyRelation(_) => 1.0,
        LogicalPlan::Aggregate(aggregate) if aggregate.group_expr.is_empty() => 1.0,
        LogicalPlan::Aggregate(_) | LogicalPlan::Distinct(_) => input(plan).powf(0.75),
        LogicalPlan::Limit(limit) => match limit.fetch.as_deref() {
            Some(Expr::Literal(ScalarValue::Int64(Some(fetch)), _)) => input(plan).min(*fetch as f64),
            _ => input(plan),
        },
        LogicalPlan::Union(union) => union.inputs.iter().map(|input| rows(input, filtered)).sum(),
        _ => input(plan),
    };
    rows.max(1.0)
}

/// Of all rows the part that a condition lets through.
pub(super) fn of_condition(condition: &Expr) -> f64 {
    match condition {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => match op {
            Operator::And => of_condition(left) * of_condition(right),
            Operator::Or => (of_condition(left) + of_condition(right)).min(1.0),
            Operator::Eq | Operator::IsNotDistinctFrom => 0.1,
            Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq => 0.3,
            _ => 0.9,
        },
        Expr::Between(_) => 0.2,
        Expr::InList(InList { list, negated: false, .. }) => (0.1 * list.len() as f64).min(0.5),
        Expr::Like(like) if !like.negated => 0.2,
        Expr::IsNull(_) => 0.1,
        Expr::Literal(ScalarValue::Boolean(Some(false)), _) => 0.0,
        _ => 0.9,
    }
}
