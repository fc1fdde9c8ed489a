//! Subqueries that depend on the rows of the query around them, as joins.
//!
//! DataFusion pulls the conditions that name outer columns out of a subquery and makes them conditions of a join. That is
//! right, and the best plan, where nothing stands above them but projections, other conditions, and an aggregate of which
//! they fix a key. Above everything else (`LIMIT`, `OVER`, a set operation, an outer join, conditions that are no equality
//! below an aggregate, columns of two levels further out) it gives up or gives something else, so those are made here:
//! a subquery becomes one that gives its rows for *every* value of the outer columns it names, beside that value (see
//! [`push`]), and a join brings each outer row together with those of its own value.

mod push;

use std::cell::Cell;
use std::sync::Arc;

use datafusion_common::config::ConfigOptions;
use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion_common::{Column, DFSchema, JoinConstraint, NullEquality, Result};
use datafusion_expr::expr::{Exists, InSubquery};
use datafusion_expr::expr_rewriter::NamePreserver;
use datafusion_expr::logical_plan::{
    Distinct, FetchType, Filter, Join, LogicalPlan, LogicalPlanBuilder, Projection, SkipType, SubqueryAlias,
};
use datafusion_expr::utils::{conjunction, split_conjunction, split_conjunction_owned};
use datafusion_expr::{Expr, JoinType, Operator};
use datafusion_optimizer::analyzer::AnalyzerRule;

use self::push::{Domain, outer_columns};
use super::subquery::has_subquery;
use crate::diagnose::error;

/// Runs when all types are settled.
#[derive(Debug)]
pub(super) struct Dependent;

impl AnalyzerRule for Dependent {
    fn name(&self) -> &str {
        "dependent"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let names = Names::default();
        // From the innermost subquery outwards: what one leaves behind names columns of further out only.
        Ok(plan.transform_up_with_subqueries(|node| names.joined(node))?.data)
    }
}

/// Makes names that no query has.
#[derive(Default)]
struct Names(Cell<usize>);

impl Names {
    fn fresh(&self) -> String {
        let number = self.0.get();
        self.0.set(number + 1);
        format!("__outer_{number}")
    }

    fn joined(&self, node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
        match node {
            LogicalPlan::Join(join) => self.join(join),
            LogicalPlan::Filter(filter) => self.filter(filter),
            node => self.other(node),
        }
    }

    /// A join with a LATERAL right side, or with subqueries in its condition.
    fn join(&self, join: Join) -> Result<Transformed<LogicalPlan>> {
        let schema = Arc::clone(&join.schema);
        let asks = join.filter.as_ref().is_some_and(has_subquery);
        let lateral = match lateral(&join.right) {
            // The check of the text lets LATERAL stand in inner and left joins alone.
            Some(found) if join.join_type != JoinType::Inner || !fits(&found.0, false, false) => Some(found),
            _ => None,
        };
        if !asks && lateral.is_none() {
            return Ok(Transformed::no(LogicalPlan::Join(join)));
        }
        let Join { left, right, on, filter, join_type, join_constraint, null_equality, null_aware, .. } = join;
        let (mut left, mut right) = (Arc::unwrap_or_clone(left), Arc::unwrap_or_clone(right));
        let mut conditions = filter.map(split_conjunction_owned).unwrap_or_default();
        if let Some((subquery, alias)) = lateral {
            let columns = of_level(&subquery, left.schema());
            let (plan, mut keys) = Domain::new(self, left.clone(), columns.clone()).pushed(subquery)?;
            right = plan;
            if let Some(alias) = alias {
                right = LogicalPlan::SubqueryAlias(SubqueryAlias::try_new(Arc::new(right), alias.clone())?);
                keys = keys.aliased(&alias);
            }
            conditions.extend(keys.equal(&columns));
        }
        if asks {
            let mut rest = Vec::new();
            for condition in conditions {
                if !has_subquery(&condition) {
                    rest.push(condition);
                    continue;
                }
                let side = self.side(&condition, left.schema(), right.schema(), join_type)?;
                let input = if side == 0 { &mut left } else { &mut right };
                rest.push(self.attached(input, condition, true)?);
            }
            conditions = rest;
        }
        let join = Join::try_new(
            Arc::new(left),
            Arc::new(right),
            on,
            conjunction(conditions),
            join_type,
            join_constraint,
            null_equality,
            null_aware,
        )?;
        Ok(Transformed::yes(only_columns_of(LogicalPlan::Join(join), &schema)?))
    }

    /// On which side of a join the subqueries of a condition can be answered.
    fn side(&self, condition: &Expr, left: &DFSchema, right: &DFSchema, kind: JoinType) -> Result<usize> {
        let mut columns: Vec<Column> = Vec::new();
        condition.apply(|expr| {
            let subquery = match expr {
                Expr::ScalarSubquery(subquery) => subquery,
                Expr::Exists(found) => &found.subquery,
                Expr::InSubquery(found) => {
                    columns.extend(found.expr.column_refs().into_iter().cloned());
                    &found.subquery
                }
                _ => return Ok(TreeNodeRecursion::Continue),
            };
            columns.extend(outer_columns(&subquery.subquery));
            Ok(TreeNodeRecursion::Continue)
        })?;
        let reads = |schema: &DFSchema| columns.iter().any(|column| schema.has_column(column));
        match (reads(left), reads(right)) {
            (true, true) => Err(error("not-supported", "a subquery in the condition of an outer join reads one of its sides")
                .help("compute what it gives in a subquery of FROM first, or write an explicit JOIN")
                .into()),
            (true, false) => Ok(0),
            (false, true) => Ok(1),
            // Where no row is added for the side that the join fills up, either would do.
            (false, false) => Ok(usize::from(matches!(kind, JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti))),
        }
    }

    /// `EXISTS` and `IN` that a row has to pass become semi and anti joins.
    fn filter(&self, filter: Filter) -> Result<Transformed<LogicalPlan>> {
        let schema = Arc::clone(filter.input.schema());
        let is_hard = |part: &Expr, schema: &DFSchema| is_hard(part, schema) || is_nested(part);
        if !split_conjunction(&filter.predicate).iter().any(|part| is_hard(part, &schema)) {
            return Ok(Transformed::no(LogicalPlan::Filter(filter)));
        }
        let mut input = Arc::unwrap_or_clone(filter.input);
        let mut rest = Vec::new();
        let mut marked = Vec::new();
        for part in split_conjunction_owned(filter.predicate) {
            match part {
                part if !is_hard(&part, &schema) => rest.push(part),
                Expr::Exists(Exists { subquery, negated }) => {
                    let kind = if negated { JoinType::LeftAnti } else { JoinType::LeftSemi };
                    input = self.beside(input, &subquery.subquery, kind, None)?.0;
                }
                Expr::InSubquery(InSubquery { expr, subquery, negated: false }) if !has_subquery(&expr) => {
                    input = self.beside(input, &subquery.subquery, JoinType::LeftSemi, Some(*expr))?.0;
                }
                part => marked.push(part),
            }
        }
        for part in marked {
            let all = is_nested(&part);
            rest.push(self.attached(&mut input, part, all)?);
        }
        let plan = match conjunction(rest) {
            Some(predicate) => LogicalPlan::Filter(Filter::try_new(predicate, Arc::new(input))?),
            None => input,
        };
        Ok(Transformed::yes(only_columns_of(plan, &schema)?))
    }

    /// What subqueries say becomes a column of the input of the node that asks.
    fn other(&self, node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
        let inputs = node.inputs();
        let [input] = inputs[..] else { return Ok(Transformed::no(node)) };
        // DataFusion looks for values in projections and filters alone.
        let elsewhere = !matches!(node, LogicalPlan::Projection(_));
        let mut hard = false;
        node.apply_expressions(|expr| {
            hard |= is_hard(expr, input.schema()) || (elsewhere && has_value(expr));
            Ok(TreeNodeRecursion::Continue)
        })?;
        if !hard {
            return Ok(Transformed::no(node));
        }
        let schema = Arc::clone(node.schema());
        let mut input = match (&node, input) {
            (LogicalPlan::Sort(sort), LogicalPlan::Projection(project)) => {
                with_columns_of_order(project, sort.expr.iter().map(|by| &by.expr))?
            }
            _ => input.clone(),
        };
        let names = NamePreserver::new(&node);
        let mut exprs = Vec::new();
        for expr in node.expressions() {
            let name = names.save(&expr);
            let all = elsewhere && has_value(&expr);
            exprs.push(name.restore(self.attached(&mut input, expr, all)?));
        }
        let plan = node.with_new_exprs(exprs, vec![input])?;
        Ok(Transformed::yes(only_columns_of(plan, &schema)?))
    }

    /// The expression over an input that has a column for each subquery in it; with `all` for those too that are left to
    /// DataFusion elsewhere.
    fn attached(&self, input: &mut LogicalPlan, expr: Expr, all: bool) -> Result<Expr> {
        let expr = expr.transform_up(|expr| {
            if !all && !is_hard_itself(&expr, input.schema()) {
                return Ok(Transformed::no(expr));
            }
            match expr {
                Expr::ScalarSubquery(subquery) => {
                    let (plan, name) = self.beside(input.clone(), &subquery.subquery, JoinType::Left, None)?;
                    *input = plan;
                    Ok(Transformed::yes(Expr::Column(name)))
                }
                Expr::Exists(Exists { subquery, negated }) => {
                    let (plan, mark) = self.beside(input.clone(), &subquery.subquery, JoinType::LeftMark, None)?;
                    *input = plan;
                    let mark = Expr::Column(mark);
                    Ok(Transformed::yes(if negated { Expr::Not(Box::new(mark)) } else { mark }))
                }
                // Where NULL is not false, IN has been spelled out with EXISTS.
                Expr::InSubquery(InSubquery { expr, subquery, negated: false }) => {
                    let (plan, mark) = self.beside(input.clone(), &subquery.subquery, JoinType::LeftMark, Some(*expr))?;
                    *input = plan;
                    Ok(Transformed::yes(Expr::Column(mark)))
                }
                other => Ok(Transformed::no(other)),
            }
        })?;
        Ok(expr.data)
    }

    /// The input joined with a subquery: by the values of the columns it names, and of `looked_for` with its first column.
    /// Also the column that says what the subquery gave, or whether it gave something.
    fn beside(
        &self,
        input: LogicalPlan,
        subquery: &LogicalPlan,
        kind: JoinType,
        looked_for: Option<Expr>,
    ) -> Result<(LogicalPlan, Column)> {
        let subquery = match (kind, &looked_for) {
            (JoinType::Left, _) | (_, Some(_)) => subquery.clone(),
            _ => only_existence(subquery.clone())?,
        };
        let columns = of_level(&subquery, input.schema());
        let (plan, keys) = Domain::new(self, input.clone(), columns.clone()).pushed(subquery)?;
        let (alias, value) = (self.fresh(), self.fresh());
        // Only what the join reads: the keys, and the value if there is one to be read.
        let mut kept: Vec<Expr> = keys.columns.iter().cloned().map(Expr::Column).collect();
        if kind == JoinType::Left || looked_for.is_some() || kept.is_empty() {
            kept.push(Expr::Column(Column::from(plan.schema().qualified_field(0))).alias(&value));
        }
        let plan = LogicalPlanBuilder::from(plan).project(kept)?.alias(alias.as_str())?.build()?;
        let keys = keys.aliased(&alias.as_str().into());
        let mut conditions = keys.equal(&columns);
        let value = Column::new(Some(alias.as_str()), value);
        conditions.extend(looked_for.map(|expr| expr.eq(Expr::Column(value.clone()))));
        let join = Join::try_new(
            Arc::new(input),
            Arc::new(plan),
            Vec::new(),
            conjunction(conditions),
            kind,
            JoinConstraint::On,
            NullEquality::NullEqualsNothing,
            false,
        )?;
        let column = if kind == JoinType::LeftMark { Column::new(Some(alias), "mark") } else { value };
        Ok((LogicalPlan::Join(join), column))
    }
}

/// A plan's columns of this schema, if it has others as well.
fn only_columns_of(plan: LogicalPlan, schema: &DFSchema) -> Result<LogicalPlan> {
    if plan.schema().fields().len() == schema.fields().len() {
        return Ok(plan);
    }
    let columns: Vec<Expr> = schema.columns().into_iter().map(Expr::Column).collect();
    Ok(LogicalPlan::Projection(Projection::try_new(columns, Arc::new(plan))?))
}

/// A projection with the columns that only subqueries of the order above it read.
fn with_columns_of_order<'a>(project: &Projection, order: impl Iterator<Item = &'a Expr>) -> Result<LogicalPlan> {
    let mut exprs = project.expr.clone();
    for expr in order {
        expr.apply(|expr| {
            if let Expr::ScalarSubquery(subquery) = expr {
                let missing = outer_columns(&subquery.subquery)
                    .into_iter()
                    .filter(|column| !project.schema.has_column(column) && project.input.schema().has_column(column));
                for column in missing.map(Expr::Column) {
                    if !exprs.contains(&column) {
                        exprs.push(column);
                    }
                }
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
    }
    Ok(LogicalPlan::Projection(Projection::try_new(exprs, Arc::clone(&project.input))?))
}

/// The subquery of a LATERAL relation and what it is called.
fn lateral(plan: &LogicalPlan) -> Option<(LogicalPlan, Option<datafusion_common::TableReference>)> {
    match plan {
        LogicalPlan::Subquery(subquery) => Some((subquery.subquery.as_ref().clone(), None)),
        LogicalPlan::SubqueryAlias(alias) => match alias.input.as_ref() {
            LogicalPlan::Subquery(subquery) => Some((subquery.subquery.as_ref().clone(), Some(alias.alias.clone()))),
            _ => None,
        },
        _ => None,
    }
}

/// The columns of this schema that a subquery names.
fn of_level(subquery: &LogicalPlan, schema: &DFSchema) -> Vec<Column> {
    outer_columns(subquery).into_iter().filter(|column| schema.has_column(column)).collect()
}

/// Whether an expression has a subquery that DataFusion would not turn into a join, or into a wrong one.
fn is_hard(expr: &Expr, schema: &DFSchema) -> bool {
    expr.exists(|expr| Ok(is_hard_itself(expr, schema))).unwrap_or(false)
}

/// Whether an expression has a subquery that is used as a value.
fn has_value(expr: &Expr) -> bool {
    expr.exists(|expr| Ok(matches!(expr, Expr::ScalarSubquery(_)))).unwrap_or(false)
}

/// Whether an expression looks with `IN` for what is itself a subquery.
fn is_nested(expr: &Expr) -> bool {
    expr.exists(|expr| Ok(matches!(expr, Expr::InSubquery(found) if has_subquery(&found.expr)))).unwrap_or(false)
}

fn is_hard_itself(expr: &Expr, schema: &DFSchema) -> bool {
    let (subquery, is_value) = match expr {
        Expr::ScalarSubquery(subquery) => (subquery, true),
        Expr::Exists(found) => (&found.subquery, false),
        Expr::InSubquery(found) => (&found.subquery, false),
        _ => return false,
    };
    let plan = subquery.subquery.as_ref();
    let outer = outer_columns(plan);
    if outer.is_empty() {
        return false;
    }
    if outer.iter().any(|column| !schema.has_column(column)) {
        return true;
    }
    let plain = match plan {
        _ if !is_value => fits(plan, false, true),
        LogicalPlan::Projection(project) if !project.expr.iter().any(Expr::contains_outer) => fits_value(&project.input),
        plan => fits_value(plan),
    };
    !plain
}

/// One aggregate over all rows that DataFusion can group by what the outer row has.
fn fits_value(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Aggregate(aggregate) => {
            aggregate.group_expr.is_empty()
                && !aggregate.aggr_expr.iter().any(Expr::contains_outer)
                && !outer_columns(&aggregate.input).is_empty()
                && fits(&aggregate.input, true, false)
        }
        _ => false,
    }
}

/// Whether the conditions on outer columns can be pulled out of a plan; above an aggregate only those that fix a key of it.
fn fits(plan: &LogicalPlan, fixing: bool, aggregates: bool) -> bool {
    if outer_columns(plan).is_empty() {
        return true;
    }
    match plan {
        LogicalPlan::Projection(project) => {
            !project.expr.iter().any(Expr::contains_outer) && fits(&project.input, fixing, aggregates)
        }
        // DataFusion leaves the alias with the columns it had before.
        LogicalPlan::SubqueryAlias(_) => false,
        LogicalPlan::Filter(filter) => {
            let conditions = split_conjunction(&filter.predicate);
            let mut outer = conditions.iter().filter(|condition| condition.contains_outer());
            outer.all(|condition| !has_subquery(condition) && (!fixing || fixes_column(condition)))
                && fits(&filter.input, fixing, aggregates)
        }
        LogicalPlan::Join(join) if join.join_type == JoinType::Inner => {
            let mut on = join.on.iter().flat_map(|(left, right)| [left, right]);
            !on.any(Expr::contains_outer)
                && !join.filter.iter().any(Expr::contains_outer)
                && fits(&join.left, fixing, aggregates)
                && fits(&join.right, fixing, aggregates)
        }
        LogicalPlan::Distinct(Distinct::All(input)) => aggregates && fits(input, true, aggregates),
        LogicalPlan::Aggregate(aggregate) => {
            aggregates
                && !aggregate.group_expr.is_empty()
                && !matches!(aggregate.group_expr[..], [Expr::GroupingSet(_)])
                && !aggregate.group_expr.iter().chain(&aggregate.aggr_expr).any(Expr::contains_outer)
                && fits(&aggregate.input, true, aggregates)
        }
        _ => false,
    }
}

/// `column = what the outer row has`.
fn fixes_column(condition: &Expr) -> bool {
    let Expr::BinaryExpr(binary) = condition else { return false };
    let of_outer = |expr: &Expr| expr.contains_outer() && expr.column_refs().is_empty();
    let is_column = |expr: &Expr| matches!(expr, Expr::Column(_));
    binary.op == Operator::Eq
        && ((is_column(&binary.left) && of_outer(&binary.right)) || (is_column(&binary.right) && of_outer(&binary.left)))
}

/// A subquery of which only matters whether it gives a row, without what makes no difference to that.
fn only_existence(plan: LogicalPlan) -> Result<LogicalPlan> {
    Ok(match plan {
        LogicalPlan::Sort(sort) if sort.fetch.is_none() => only_existence(Arc::unwrap_or_clone(sort.input))?,
        LogicalPlan::Distinct(Distinct::All(input)) => only_existence(Arc::unwrap_or_clone(input))?,
        LogicalPlan::Limit(limit)
            if matches!(limit.get_skip_type()?, SkipType::Literal(0))
                && matches!(limit.get_fetch_type()?, FetchType::Literal(Some(1..))) =>
        {
            only_existence(Arc::unwrap_or_clone(limit.input))?
        }
        other => other,
    })
}
