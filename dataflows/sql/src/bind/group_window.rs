//! Windows in GROUP BY: `GROUP BY auction, TUMBLE(ts, INTERVAL '10' SECOND)` with `TUMBLE_START(..)`, `TUMBLE_END(..)`.
//!
//! `tumble(ts, size)` is a marker function that returns a struct; the pre-pass over the syntax tree turns
//! `TUMBLE_START(ts, size)` into a field of it, so DataFusion itself matches it against the group key. The rule below,
//! first of the analyzer's, then replaces the marker by a [`WindowNode`] under the aggregate and builds the struct again
//! above it; lowering folds the struct away.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields};
use datafusion_common::config::ConfigOptions;
use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion_common::{Column, ExprSchema, Result, TableReference, not_impl_err};
use datafusion_expr::logical_plan::{Aggregate, LogicalPlan, LogicalPlanBuilder};
use datafusion_expr::{ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, lit};
use datafusion_optimizer::analyzer::AnalyzerRule;

use super::nodes::{WINDOW_COLUMNS, WindowNode};
use super::tvf::{interval_micros, windows};
use super::types::sql_type;
use crate::diagnose::error;

/// `tumble(ts, size)` or `hop(ts, slide, size)` as a value: a struct of the window's start and end.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct WindowMarker {
    name: &'static str,
    signature: Signature,
}

impl WindowMarker {
    /// The markers.
    pub(crate) fn all() -> Vec<Arc<ScalarUDF>> {
        let marker = |name| {
            let signature = Signature::variadic_any(Volatility::Stable);
            Arc::new(ScalarUDF::new_from_impl(WindowMarker { name, signature }))
        };
        ["tumble", "hop", "cumulate", "session"].map(marker).to_vec()
    }
}

impl ScalarUDFImpl for WindowMarker {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, args: &[DataType]) -> Result<DataType> {
        let Some(time @ DataType::Timestamp(..)) = args.first() else {
            let found = args.first().map_or("nothing".to_string(), sql_type);
            let message = format!("the first argument of {} must be a TIMESTAMP, found {found}", self.name.to_uppercase());
            return Err(error("window-argument", message).into());
        };
        let bounds = WINDOW_COLUMNS[..2].iter().map(|name| Field::new(*name, time.clone(), false));
        Ok(DataType::Struct(Fields::from(bounds.collect::<Vec<_>>())))
    }

    fn is_nullable(&self, _: &[Expr], _: &dyn ExprSchema) -> bool {
        false
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        not_impl_err!("{} stands only in GROUP BY or FROM", self.name.to_uppercase())
    }
}

/// The call, if the expression is a marker.
fn marker(expr: &Expr) -> Option<(&str, &[Expr])> {
    match expr {
        Expr::Alias(alias) => marker(&alias.expr),
        Expr::ScalarFunction(call) if call.func.inner().downcast_ref::<WindowMarker>().is_some() => {
            Some((call.func.name(), &call.args))
        }
        _ => None,
    }
}

/// Replaces markers in GROUP BY by window nodes, and refuses them elsewhere.
#[derive(Debug)]
pub(crate) struct GroupWindows;

impl AnalyzerRule for GroupWindows {
    fn name(&self) -> &str {
        "group_windows"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let mut count = 0;
        let plan = plan
            .transform_up_with_subqueries(|node| match node {
                LogicalPlan::Aggregate(aggregate) => {
                    count += 1;
                    expand(aggregate, count)
                }
                other => Ok(Transformed::no(other)),
            })?
            .data;
        plan.apply_with_subqueries(|node| {
            node.apply_expressions(|expr| {
                expr.apply(|expr| match marker(expr) {
                    Some((name, _)) => {
                        let name = name.to_uppercase();
                        let message = format!("{name} stands only in GROUP BY or FROM");
                        let help = format!("group by it, and select {name}_START(..) and {name}_END(..) with the same arguments");
                        Err(error("misplaced-window", message).help(help).into())
                    }
                    None => Ok(TreeNodeRecursion::Continue),
                })
            })
        })?;
        Ok(plan)
    }
}

/// `Aggregate(input, [k, tumble(ts, size)])` as `Project([k, struct], Aggregate(Window(input), [k, start, end]))`.
fn expand(aggregate: Aggregate, number: usize) -> Result<Transformed<LogicalPlan>> {
    let positions: Vec<usize> = (0..aggregate.group_expr.len()).filter(|i| marker(&aggregate.group_expr[*i]).is_some()).collect();
    if let [Expr::GroupingSet(sets)] = &aggregate.group_expr[..]
        && let Some((name, _)) = sets.distinct_expr().into_iter().find_map(marker)
    {
        let name = name.to_uppercase();
        let message = format!("{name} in GROUP BY cannot stand beside GROUPING SETS, ROLLUP or CUBE");
        let help = format!("write FROM {name}(table, time, ..) and group by window_start, window_end, ROLLUP (..)");
        return Err(error("misplaced-window", message).help(help).into());
    }
    let position = match positions[..] {
        [] => return Ok(Transformed::no(LogicalPlan::Aggregate(aggregate))),
        [position] => position,
        _ => {
            return Err(error("misplaced-window", "GROUP BY takes one window function")
                .help("put rows into the first windows by FROM TUMBLE(TABLE t, ...) in a subquery")
                .into());
        }
    };
    let (name, args) = marker(&aggregate.group_expr[position]).expect("the position was found by this test");
    let lengths = args[1..].iter().map(interval_micros).collect::<std::result::Result<Vec<i64>, _>>()?;
    let (name, time) = (name.to_string(), args[0].clone());
    let names = ["start", "end", "time"].map(|column| format!("__window{number}_{column}"));
    let qualifier = TableReference::bare("__window");
    let columns = [names[0].as_str(), names[1].as_str(), names[2].as_str()];
    let mut input = Arc::unwrap_or_clone(aggregate.input);
    let mut group = aggregate.group_expr.clone();
    let mut partition = Vec::new();
    if name == "session" {
        // Sessions are those of the other keys: computed ones become columns, so that grouping and windows have them alike.
        let mut exprs: Vec<Expr> = input.schema().columns().into_iter().map(Expr::Column).collect();
        for (index, key) in group.iter_mut().enumerate().filter(|(index, _)| *index != position) {
            if !matches!(key, Expr::Column(_)) {
                let column = format!("__window{number}_key{index}");
                exprs.push(key.clone().unalias().alias_qualified(Some(qualifier.clone()), &column));
                *key = Expr::Column(Column::new(Some(qualifier.clone()), column));
            }
            partition.push(key.clone());
        }
        if exprs.len() > input.schema().fields().len() {
            input = LogicalPlanBuilder::from(input).project(exprs)?.build()?;
        }
    }
    let windows = windows(&name, &lengths, partition)?;
    let node = WindowNode::try_new(input, time, windows, columns, Some(qualifier.clone()))?.into_plan();
    let bound = |name: &String| Expr::Column(Column::new(Some(qualifier.clone()), name));
    group.splice(position..=position, [bound(&names[0]), bound(&names[1])]);
    let grouped = LogicalPlan::Aggregate(Aggregate::try_new(Arc::new(node), group, aggregate.aggr_expr)?);
    let mut columns: Vec<Expr> = grouped.schema().columns().into_iter().map(Expr::Column).collect();
    for index in (0..aggregate.group_expr.len()).filter(|index| *index != position) {
        // The bounds stand where the function stood, so what is behind it has moved by one.
        let column = &mut columns[if index < position { index } else { index + 1 }];
        let (qualifier, field) = aggregate.schema.qualified_field(index);
        if !matches!(column, Expr::Column(column) if column.name == *field.name()) {
            *column = column.clone().alias_qualified(qualifier.cloned(), field.name());
        }
    }
    let (old_qualifier, old_field) = aggregate.schema.qualified_field(position);
    let window = datafusion_functions::core::named_struct()
        .call(vec![lit(WINDOW_COLUMNS[0]), columns[position].clone(), lit(WINDOW_COLUMNS[1]), columns[position + 1].clone()])
        .alias_qualified(old_qualifier.cloned(), old_field.name());
    columns.splice(position..position + 2, [window]);
    Ok(Transformed::yes(LogicalPlanBuilder::from(grouped).project(columns)?.build()?))
}
