//! A subquery's rows for every value of the outer columns that it names.
//!
//! The values are a relation, the *domain*: `SELECT DISTINCT` of those columns of the query around. Pushed down through a
//! subquery it meets what names outer columns, which then are columns of the domain, and on the way up again every operator
//! works within one value: an aggregate groups by it, `LIMIT` and `OVER` partition by it, a set operation compares it.
//! (T. Neumann and A. Kemper, "Unnesting Arbitrary Queries", 2015.)
//!
//! Where a condition says that an outer column is equal to something of the subquery's own, that is taken for it and no
//! domain is needed: rows of values that no outer row has meet none in the join. An aggregate without GROUP BY has a row
//! also where it has no input, so there the domain says for which values.

use std::sync::Arc;

use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion_common::{Column, DFSchema, JoinType, Result, TableReference};
use datafusion_expr::expr::Sort as SortExpr;
use datafusion_expr::logical_plan::{
    Aggregate, Distinct, EmptyRelation, Extension, FetchType, Filter, Join, Limit, LogicalPlan, LogicalPlanBuilder, Projection,
    SkipType, SubqueryAlias, Union, Unnest, UserDefinedLogicalNode, Values, Window,
};
use datafusion_expr::utils::{conjunction, split_conjunction_owned};
use datafusion_expr::{BinaryExpr, Expr, Operator, binary_expr, lit};
use datafusion_functions::expr_fn::coalesce;

use super::Names;
use crate::bind::nodes::{WatermarkNode, WindowNode, Windows};
use crate::bind::ordered::{is_sorted, numbered, with_ties};
use crate::bind::set_operation::SetOperationNode;
use crate::bind::unnest::UnnestNode;
use crate::diagnose::{Failure, error};

/// The outer columns that a plan names, each once.
pub(super) fn outer_columns(plan: &LogicalPlan) -> Vec<Column> {
    let mut found: Vec<Column> = Vec::new();
    let all = plan.apply(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                if let Expr::OuterReferenceColumn(_, column) = expr
                    && !found.contains(column)
                {
                    found.push(column.clone());
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    });
    all.expect("looking at expressions does not fail");
    found
}

/// The columns of a plan that have the outer columns' values, in their order.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    pub(super) columns: Vec<Column>,
    /// Whether none of them is ever NULL.
    strict: bool,
}

impl Keys {
    /// As they are called above an alias.
    pub(super) fn aliased(&self, alias: &TableReference) -> Keys {
        let columns = self.columns.iter().map(|column| Column::new(Some(alias.clone()), column.name.clone()));
        Keys { columns: columns.collect(), strict: self.strict }
    }

    /// That these columns have the same values. NULL is a value like others.
    pub(super) fn equal(&self, others: &[Column]) -> Vec<Expr> {
        self.equal_if(others, self.strict)
    }

    fn equal_if(&self, others: &[Column], strict: bool) -> Vec<Expr> {
        let operator = if strict { Operator::Eq } else { Operator::IsNotDistinctFrom };
        let pairs = others.iter().zip(&self.columns);
        pairs.map(|(other, own)| binary_expr(Expr::Column(other.clone()), operator, Expr::Column(own.clone()))).collect()
    }

    fn exprs(&self) -> Vec<Expr> {
        self.columns.iter().cloned().map(Expr::Column).collect()
    }
}

/// The values of outer columns.
pub(super) struct Domain<'a> {
    names: &'a Names,
    /// The query around, up to where the subquery stands.
    input: LogicalPlan,
    columns: Vec<Column>,
}

/// A plan that either does not depend on outer columns, or has their values beside its rows.
struct Pushed {
    plan: LogicalPlan,
    keys: Option<Keys>,
}

impl<'a> Domain<'a> {
    pub(super) fn new(names: &'a Names, input: LogicalPlan, columns: Vec<Column>) -> Self {
        Domain { names, input, columns }
    }

    /// The subquery with its rows for each value.
    pub(super) fn pushed(&self, subquery: LogicalPlan) -> Result<(LogicalPlan, Keys)> {
        if self.columns.is_empty() {
            return Ok((subquery, Keys { columns: Vec::new(), strict: true }));
        }
        let pushed = self.push(subquery)?;
        self.bound(pushed)
    }

    /// The values as a relation.
    fn relation(&self) -> Result<(LogicalPlan, Keys)> {
        let names: Vec<String> = self.columns.iter().map(|_| self.names.fresh()).collect();
        let exprs = self.columns.iter().zip(&names).map(|(column, name)| Expr::Column(column.clone()).alias(name));
        let plan = LogicalPlanBuilder::from(self.input.clone()).project(exprs)?.distinct()?.build()?;
        let strict = plan.schema().fields().iter().all(|field| !field.is_nullable());
        Ok((plan, Keys { columns: names.into_iter().map(Column::new_unqualified).collect(), strict }))
    }

    /// The plan beside all values, if it does not have them yet.
    fn bound(&self, pushed: Pushed) -> Result<(LogicalPlan, Keys)> {
        let Pushed { plan, keys } = pushed;
        if let Some(keys) = keys {
            return Ok((plan, keys));
        }
        let (values, keys) = self.relation()?;
        match &plan {
            LogicalPlan::EmptyRelation(empty) if empty.produce_one_row && empty.schema.fields().is_empty() => Ok((values, keys)),
            _ => Ok((LogicalPlanBuilder::from(plan).cross_join(values)?.build()?, keys)),
        }
    }

    fn is_named(&self, expr: &Expr) -> bool {
        expr.exists(|expr| Ok(matches!(expr, Expr::OuterReferenceColumn(_, column) if self.columns.contains(column))))
            .unwrap_or(false)
    }

    fn names_any(&self, plan: &LogicalPlan) -> bool {
        outer_columns(plan).iter().any(|column| self.columns.contains(column))
    }

    /// The expression with the outer columns read from these.
    fn read(&self, expr: Expr, values: &[Expr]) -> Result<Expr> {
        let expr = expr.transform(|expr| {
            Ok(match &expr {
                Expr::OuterReferenceColumn(_, column) => match self.columns.iter().position(|known| known == column) {
                    Some(place) => Transformed::yes(values[place].clone()),
                    None => Transformed::no(expr),
                },
                _ => Transformed::no(expr),
            })
        })?;
        Ok(expr.data)
    }

    fn read_all(&self, exprs: Vec<Expr>, keys: &Keys) -> Result<Vec<Expr>> {
        let values = keys.exprs();
        exprs.into_iter().map(|expr| self.read(expr, &values)).collect()
    }

    fn push(&self, plan: LogicalPlan) -> Result<Pushed> {
        if !self.names_any(&plan) {
            return Ok(Pushed { plan, keys: None });
        }
        match plan {
            LogicalPlan::Projection(project) => {
                let input = self.push(Arc::unwrap_or_clone(project.input))?;
                self.project(project.expr, &project.schema, input)
            }
            LogicalPlan::Filter(filter) => self.filter(filter),
            LogicalPlan::SubqueryAlias(alias) => {
                let (plan, keys) = self.pushed(Arc::unwrap_or_clone(alias.input))?;
                let keys = keys.aliased(&alias.alias);
                let plan = LogicalPlan::SubqueryAlias(SubqueryAlias::try_new(Arc::new(plan), alias.alias)?);
                Ok(Pushed { plan, keys: Some(keys) })
            }
            LogicalPlan::Join(join) => self.join(join),
            LogicalPlan::Aggregate(aggregate) => self.aggregate(aggregate),
            LogicalPlan::Distinct(Distinct::All(input)) => {
                let (plan, keys) = self.pushed(Arc::unwrap_or_clone(input))?;
                Ok(Pushed { plan: LogicalPlan::Distinct(Distinct::All(Arc::new(plan))), keys: Some(keys) })
            }
            // A relation has no order.
            LogicalPlan::Sort(sort) if sort.fetch.is_none() => self.push(Arc::unwrap_or_clone(sort.input)),
            LogicalPlan::Limit(limit) => {
                let rows = Rows::of(&limit)?;
                self.first(Arc::unwrap_or_clone(limit.input), rows)
            }
            LogicalPlan::Window(window) => self.over(window),
            LogicalPlan::Union(union) => self.union(union),
            LogicalPlan::Values(values) => self.values(values),
            LogicalPlan::Unnest(Unnest { input, exec_columns, options, .. }) => {
                let (plan, keys) = self.pushed(Arc::unwrap_or_clone(input))?;
                let plan = LogicalPlan::Unnest(Unnest::try_new(Arc::new(plan), exec_columns, options)?);
                Ok(Pushed { plan, keys: Some(keys) })
            }
            LogicalPlan::Extension(extension) => self.extension(extension),
            other => Err(cannot(&format!("{} in it", other.display().to_string().split(':').next().unwrap_or_default())).into()),
        }
    }

    /// Expressions over the rows; what they are called stays.
    fn project(&self, exprs: Vec<Expr>, schema: &DFSchema, input: Pushed) -> Result<Pushed> {
        let (plan, keys) = self.bound(input)?;
        let values = keys.exprs();
        let mut kept = Vec::with_capacity(exprs.len() + values.len());
        for (expr, (qualifier, field)) in exprs.into_iter().zip(schema.iter()) {
            let named = self.is_named(&expr);
            let expr = self.read(expr, &values)?;
            kept.push(if named { expr.unalias().alias_qualified(qualifier.cloned(), field.name()) } else { expr });
        }
        let (names, again) = self.renamed(&keys);
        kept.extend(again);
        Ok(Pushed { plan: LogicalPlanBuilder::from(plan).project(kept)?.build()?, keys: Some(names) })
    }

    /// The keys under new names, so that they differ from all columns.
    fn renamed(&self, keys: &Keys) -> (Keys, Vec<Expr>) {
        let names: Vec<String> = keys.columns.iter().map(|_| self.names.fresh()).collect();
        let exprs = keys.exprs().into_iter().zip(&names).map(|(key, name)| key.alias(name)).collect();
        (Keys { columns: names.into_iter().map(Column::new_unqualified).collect(), strict: keys.strict }, exprs)
    }

    fn filter(&self, filter: Filter) -> Result<Pushed> {
        let mut conditions = split_conjunction_owned(filter.predicate);
        let mut input = Arc::unwrap_or_clone(filter.input);
        // What several conditions in a row say together may fix every outer column.
        while let LogicalPlan::Filter(below) = input {
            conditions.extend(split_conjunction_owned(below.predicate));
            input = Arc::unwrap_or_clone(below.input);
        }
        if let LogicalPlan::Join(join) = &mut input
            && join.join_type == JoinType::Inner
        {
            let own = join.filter.take().map(split_conjunction_owned).unwrap_or_default();
            let (outer, own): (Vec<Expr>, Vec<Expr>) = own.into_iter().partition(|condition| self.is_named(condition));
            join.filter = conjunction(own);
            conditions.extend(outer);
        }
        let input = self.push(input)?;
        if input.keys.is_none()
            && let Some((values, strict, rest)) = self.fixed(&conditions, input.plan.schema())?
        {
            return self.fixed_by(input.plan, values, strict, rest);
        }
        let (plan, keys) = self.bound(input)?;
        let conditions = self.read_all(conditions, &keys)?;
        let plan = match conjunction(conditions) {
            Some(predicate) => LogicalPlan::Filter(Filter::try_new(predicate, Arc::new(plan))?),
            None => plan,
        };
        Ok(Pushed { plan, keys: Some(keys) })
    }

    /// What every outer column is equal to according to these conditions, whether that is never NULL, and the conditions
    /// that are left.
    #[allow(clippy::type_complexity, reason = "read at one place")]
    fn fixed(&self, conditions: &[Expr], schema: &DFSchema) -> Result<Option<(Vec<Expr>, bool, Vec<Expr>)>> {
        use datafusion_expr::ExprSchemable;
        let mut values: Vec<Option<(Expr, bool)>> = vec![None; self.columns.len()];
        let mut rest = Vec::new();
        for condition in conditions {
            let found = equality(condition).and_then(|(outer, own, strict)| {
                let place = self.columns.iter().position(|column| column == outer.1)?;
                let same = own.get_type(schema).is_ok_and(|found| found == *outer.0);
                let plain =
                    !own.contains_outer() && !super::has_subquery(own) && !own.is_volatile() && !own.column_refs().is_empty();
                (same && plain && values[place].is_none()).then_some((place, own.clone(), strict))
            });
            match found {
                Some((place, own, strict)) => values[place] = Some((own, strict)),
                None => rest.push(condition.clone()),
            }
        }
        let strict = values.iter().all(|value| value.as_ref().is_none_or(|(_, strict)| *strict));
        let values: Option<Vec<Expr>> = values.into_iter().map(|value| value.map(|(own, _)| own)).collect();
        Ok(values.map(|values| (values, strict, rest)))
    }

    fn fixed_by(&self, plan: LogicalPlan, values: Vec<Expr>, strict: bool, rest: Vec<Expr>) -> Result<Pushed> {
        let mut conditions = rest.into_iter().map(|condition| self.read(condition, &values)).collect::<Result<Vec<_>>>()?;
        if strict {
            conditions.extend(values.iter().map(|value| value.clone().is_not_null()));
        }
        let mut builder = LogicalPlanBuilder::from(plan);
        let mut kept: Vec<Expr> = builder.schema().columns().into_iter().map(Expr::Column).collect();
        if let Some(predicate) = conjunction(conditions) {
            builder = builder.filter(predicate)?;
        }
        let names: Vec<String> = values.iter().map(|_| self.names.fresh()).collect();
        kept.extend(values.into_iter().zip(&names).map(|(value, name)| value.alias(name)));
        let keys = Keys { columns: names.into_iter().map(Column::new_unqualified).collect(), strict };
        Ok(Pushed { plan: builder.project(kept)?.build()?, keys: Some(keys) })
    }

    fn join(&self, mut join: Join) -> Result<Pushed> {
        let inner = join.join_type == JoinType::Inner;
        if inner && join.filter.as_ref().is_some_and(|filter| self.is_named(filter)) {
            // A condition of an inner join is one of its result.
            return self.filter(Filter::try_new(lit(true), Arc::new(LogicalPlan::Join(join)))?);
        }
        if join.on.iter().any(|(left, right)| self.is_named(left) || self.is_named(right)) {
            let on = std::mem::take(&mut join.on).into_iter().map(|(left, right)| left.eq(right));
            join.filter = conjunction(on.chain(join.filter.take()));
            return self.join(join);
        }
        let original = Arc::clone(&join.schema);
        let mut left = self.push(Arc::unwrap_or_clone(join.left))?;
        let mut right = self.push(Arc::unwrap_or_clone(join.right))?;
        use JoinType as J;
        // Rows that are given without a match are given for each value.
        if matches!(join.join_type, J::Left | J::LeftSemi | J::LeftAnti | J::LeftMark | J::Full) && left.keys.is_none() {
            let (plan, keys) = self.bound(left)?;
            left = Pushed { plan, keys: Some(keys) };
        }
        if matches!(join.join_type, J::Right | J::RightSemi | J::RightAnti | J::RightMark | J::Full) && right.keys.is_none() {
            let (plan, keys) = self.bound(right)?;
            right = Pushed { plan, keys: Some(keys) };
        }
        let from_right = matches!(join.join_type, J::Right | J::RightSemi | J::RightAnti | J::RightMark);
        let (first, second) = if from_right { (&right.keys, &left.keys) } else { (&left.keys, &right.keys) };
        let mut keys = first.clone().or_else(|| second.clone()).ok_or_else(|| cannot("this join"))?;
        let mut conditions = join.filter.map(split_conjunction_owned).unwrap_or_default();
        conditions = self.read_all(conditions, &keys)?;
        if let (Some(one), Some(other)) = (&left.keys, &right.keys) {
            let strict = one.strict || other.strict;
            conditions.extend(other.equal_if(&one.columns, strict));
            keys.strict = if inner { strict } else { keys.strict };
        }
        let both = (join.join_type == J::Full).then(|| (left.keys.clone(), right.keys.clone()));
        let joined = Join::try_new(
            Arc::new(left.plan),
            Arc::new(right.plan),
            join.on,
            conjunction(conditions),
            join.join_type,
            join.join_constraint,
            join.null_equality,
            join.null_aware,
        )?;
        let plan = LogicalPlan::Join(joined);
        let Some((Some(one), Some(other))) = both else { return Ok(Pushed { plan, keys: Some(keys) }) };
        let names: Vec<String> = one.columns.iter().map(|_| self.names.fresh()).collect();
        let either = one.exprs().into_iter().zip(other.exprs()).zip(&names);
        let either = either.map(|((left, right), name)| coalesce(vec![left, right]).alias(name));
        let kept: Vec<Expr> = original.columns().into_iter().map(Expr::Column).chain(either).collect();
        let strict = one.strict && other.strict;
        let keys = Keys { columns: names.into_iter().map(Column::new_unqualified).collect(), strict };
        Ok(Pushed { plan: LogicalPlanBuilder::from(plan).project(kept)?.build()?, keys: Some(keys) })
    }

    fn aggregate(&self, aggregate: Aggregate) -> Result<Pushed> {
        let Aggregate { input, group_expr, aggr_expr, schema, .. } = aggregate;
        if matches!(group_expr[..], [Expr::GroupingSet(_)]) {
            return Err(cannot("GROUPING SETS in it").into());
        }
        if aggr_expr.iter().any(|call| self.is_named(call) && call.column_refs().is_empty()) {
            return Err(error("not-supported", "an aggregate of columns of the query around belongs to that query")
                .help("aggregate them there, or add a column of the subquery")
                .into());
        }
        let (plan, keys) = self.pushed(Arc::unwrap_or_clone(input))?;
        let groups = self.read_all(group_expr, &keys)?;
        let calls = self.read_all(aggr_expr, &keys)?;
        let (all, width) = (groups.is_empty(), keys.columns.len());
        let empty: Vec<Option<Expr>> = calls
            .iter()
            .zip(schema.fields().iter().skip(groups.len()))
            .map(|(call, field)| {
                let call = call.clone().unalias();
                let Expr::AggregateFunction(call) = &call else { return None };
                let value = call.func.default_value(field.data_type()).ok().filter(|value| !value.is_null());
                let counts = matches!(call.func.name(), "regr_count");
                value.or(counts.then_some(datafusion_common::ScalarValue::Int64(Some(0)))).map(lit)
            })
            .collect();
        let groups: Vec<Expr> = keys.exprs().into_iter().chain(groups).collect();
        let grouped = LogicalPlan::Aggregate(Aggregate::try_new(Arc::new(plan), groups, calls)?);
        let found: Vec<Expr> = grouped.schema().columns().into_iter().map(Expr::Column).collect();
        let (plan, keys) = match all {
            false => (grouped, keys),
            true => {
                let (values, domain) = self.relation()?;
                let conditions = keys.equal(&domain.columns);
                (LogicalPlanBuilder::from(values).join_on(grouped, JoinType::Left, conditions)?.build()?, domain)
            }
        };
        let mut kept = Vec::new();
        for (place, (qualifier, field)) in schema.iter().enumerate() {
            let mut value = found[width + place].clone();
            if all && let Some(empty) = &empty[place] {
                value = coalesce(vec![value, empty.clone()]);
            }
            kept.push(value.alias_qualified(qualifier.cloned(), field.name()));
        }
        let (names, again) = self.renamed(&keys);
        kept.extend(again);
        Ok(Pushed { plan: LogicalPlanBuilder::from(plan).project(kept)?.build()?, keys: Some(names) })
    }

    /// `LIMIT` and its order, as the first rows of each value. Projections above the order make no difference to which.
    fn first(&self, plan: LogicalPlan, rows: Rows) -> Result<Pushed> {
        match plan {
            LogicalPlan::Sort(sort) if sort.fetch.is_none() => {
                let input = self.push(Arc::unwrap_or_clone(sort.input))?;
                self.first_of(input, sort.expr, rows)
            }
            LogicalPlan::Projection(project) if is_sorted(&project.input) => {
                let input = self.first(Arc::unwrap_or_clone(project.input), rows)?;
                self.project(project.expr, &project.schema, input)
            }
            LogicalPlan::SubqueryAlias(alias) if is_sorted(&alias.input) => {
                let (plan, keys) = self.bound(self.first(Arc::unwrap_or_clone(alias.input), rows)?)?;
                let keys = keys.aliased(&alias.alias);
                let plan = LogicalPlan::SubqueryAlias(SubqueryAlias::try_new(Arc::new(plan), alias.alias)?);
                Ok(Pushed { plan, keys: Some(keys) })
            }
            other => {
                let input = self.push(other)?;
                self.first_of(input, Vec::new(), rows)
            }
        }
    }

    fn first_of(&self, input: Pushed, order: Vec<SortExpr>, rows: Rows) -> Result<Pushed> {
        let (plan, keys) = self.bound(input)?;
        let values = keys.exprs();
        let order =
            order.into_iter().map(|by| Ok(SortExpr { expr: self.read(by.expr, &values)?, ..by })).collect::<Result<Vec<_>>>()?;
        let columns: Vec<Expr> = plan.schema().columns().into_iter().map(Expr::Column).collect();
        let number = |name: &str, function: &str| numbered(function, values.clone(), order.clone()).alias(name);
        let (row, peers) = (self.names.fresh(), self.names.fresh());
        let read = |name: &str| Expr::Column(Column::new_unqualified(name));
        let last = lit(i64::try_from(rows.skip.saturating_add(rows.fetch)).unwrap_or(i64::MAX));
        let skipped = |name: &str| read(name).gt(lit(i64::try_from(rows.skip).unwrap_or(i64::MAX)));
        let mut builder = LogicalPlanBuilder::from(plan);
        builder = match rows.ties {
            false => {
                let condition = read(&row).lt_eq(last);
                let condition = if rows.skip == 0 { condition } else { condition.and(skipped(&row)) };
                builder.window(vec![number(&row, "row_number")])?.filter(condition)?
            }
            true => {
                let builder = builder.window(vec![number(&peers, "rank")])?.filter(read(&peers).lt_eq(last))?;
                match rows.skip {
                    0 => builder,
                    // The rows that are skipped are counted one by one, peers or not.
                    _ => builder.window(vec![number(&row, "row_number")])?.filter(skipped(&row))?,
                }
            }
        };
        Ok(Pushed { plan: builder.project(columns)?.build()?, keys: Some(keys) })
    }

    fn over(&self, window: Window) -> Result<Pushed> {
        let width = window.input.schema().fields().len();
        let (plan, keys) = self.pushed(Arc::unwrap_or_clone(window.input))?;
        let values = keys.exprs();
        let mut calls = Vec::with_capacity(window.window_expr.len());
        for (call, (qualifier, field)) in window.window_expr.into_iter().zip(window.schema.iter().skip(width)) {
            let call = self.read(call, &values)?.unalias();
            let Expr::WindowFunction(mut call) = call else { return Err(cannot("this OVER").into()) };
            call.params.partition_by.extend(values.iter().cloned());
            calls.push(Expr::WindowFunction(call).alias_qualified(qualifier.cloned(), field.name()));
        }
        Ok(Pushed { plan: LogicalPlan::Window(Window::try_new(calls, Arc::new(plan))?), keys: Some(keys) })
    }

    fn union(&self, union: Union) -> Result<Pushed> {
        let names: Vec<String> = self.columns.iter().map(|_| self.names.fresh()).collect();
        let mut strict = true;
        let mut inputs = Vec::with_capacity(union.inputs.len());
        for input in union.inputs {
            let input = Arc::unwrap_or_clone(input);
            let columns = input.schema().columns();
            let (plan, keys) = self.pushed(input)?;
            strict &= keys.strict;
            let own =
                columns.into_iter().zip(union.schema.fields()).map(|(column, field)| Expr::Column(column).alias(field.name()));
            let keys = keys.exprs().into_iter().zip(&names).map(|(key, name)| key.alias(name));
            inputs.push(Arc::new(LogicalPlanBuilder::from(plan).project(own.chain(keys))?.build()?));
        }
        let plan = LogicalPlan::Union(Union::try_new_with_loose_types(inputs)?);
        let found = plan.schema().columns();
        let mut kept = Vec::with_capacity(found.len());
        for (column, (qualifier, field)) in found.iter().zip(union.schema.iter()) {
            kept.push(Expr::Column(column.clone()).alias_qualified(qualifier.cloned(), field.name()));
        }
        kept.extend(found[union.schema.fields().len()..].iter().cloned().map(Expr::Column));
        let keys = Keys { columns: names.into_iter().map(Column::new_unqualified).collect(), strict };
        Ok(Pushed { plan: LogicalPlanBuilder::from(plan).project(kept)?.build()?, keys: Some(keys) })
    }

    /// `VALUES` that name outer columns: one row each.
    fn values(&self, values: Values) -> Result<Pushed> {
        let schema = Arc::clone(&values.schema);
        let rows = values.values.into_iter().map(|row| {
            let nothing = EmptyRelation { produce_one_row: true, schema: Arc::new(DFSchema::empty()) };
            let exprs = row.into_iter().zip(schema.iter());
            let exprs = exprs.map(|(expr, (qualifier, field))| expr.alias_qualified(qualifier.cloned(), field.name()));
            let row = Projection::try_new(exprs.collect(), Arc::new(LogicalPlan::EmptyRelation(nothing)))?;
            Ok(Arc::new(LogicalPlan::Projection(row)))
        });
        let mut rows = rows.collect::<Result<Vec<_>>>()?;
        match rows.len() {
            1 => self.push(Arc::unwrap_or_clone(rows.remove(0))),
            _ => self.union(Union { inputs: rows, schema }),
        }
    }

    fn extension(&self, extension: Extension) -> Result<Pushed> {
        let node = extension.node.as_any();
        let as_plan = |node: Arc<dyn UserDefinedLogicalNode>| LogicalPlan::Extension(Extension { node });
        if node.downcast_ref::<SetOperationNode>().is_some() {
            let names: Vec<String> = self.columns.iter().map(|_| self.names.fresh()).collect();
            let mut strict = true;
            let mut sides = Vec::with_capacity(2);
            for side in extension.node.inputs() {
                let columns = side.schema().columns().into_iter().map(Expr::Column);
                let (plan, keys) = self.pushed(side.clone())?;
                strict &= keys.strict;
                let keys = keys.exprs().into_iter().zip(&names).map(|(key, name)| key.alias(name));
                sides.push(LogicalPlanBuilder::from(plan).project(columns.chain(keys))?.build()?);
            }
            let keys = Keys { columns: names.into_iter().map(Column::new_unqualified).collect(), strict };
            return Ok(Pushed { plan: as_plan(extension.node.with_exprs_and_inputs(Vec::new(), sides)?), keys: Some(keys) });
        }
        let plain = node.downcast_ref::<UnnestNode>().is_some() || node.downcast_ref::<WatermarkNode>().is_some();
        let windows = node.downcast_ref::<WindowNode>();
        let inputs = extension.node.inputs();
        let [input] = inputs[..] else { return Err(cannot(&format!("{} in it", extension.node.name())).into()) };
        if !plain && windows.is_none() {
            return Err(cannot(&format!("{} in it", extension.node.name())).into());
        }
        let (plan, keys) = self.pushed(input.clone())?;
        let mut exprs = self.read_all(extension.node.expressions(), &keys)?;
        if windows.is_some_and(|windows| matches!(windows.windows, Windows::Session { .. })) {
            exprs.extend(keys.exprs());
        }
        Ok(Pushed { plan: as_plan(extension.node.with_exprs_and_inputs(exprs, vec![plan])?), keys: Some(keys) })
    }
}

/// How many rows a `LIMIT` wants.
#[derive(Clone, Copy)]
struct Rows {
    skip: usize,
    fetch: usize,
    /// Peers of the last row, too.
    ties: bool,
}

impl Rows {
    fn of(limit: &Limit) -> Result<Rows> {
        let not_constant = || error("wrong-arguments", "LIMIT and OFFSET take constant numbers that are not negative");
        let SkipType::Literal(skip) = limit.get_skip_type()? else { return Err(not_constant().into()) };
        match (limit.get_fetch_type()?, limit.fetch.as_deref()) {
            (FetchType::Literal(Some(fetch)), _) => Ok(Rows { skip, fetch, ties: false }),
            (FetchType::Literal(None), _) => {
                Err(error("not-supported", "OFFSET without LIMIT cannot be maintained: every change shifts all following rows")
                    .help("remove it, or add LIMIT n")
                    .into())
            }
            (FetchType::UnsupportedExpr, Some(fetch)) => {
                let fetch = with_ties(fetch).ok_or_else(not_constant)?;
                Ok(Rows { skip, fetch: usize::try_from(fetch).unwrap_or(usize::MAX), ties: true })
            }
            _ => Err(not_constant().into()),
        }
    }
}

/// An outer column by itself on one side of an equality: its type and itself, the other side, and whether NULLs are unequal.
#[allow(clippy::type_complexity, reason = "read at one place")]
fn equality(condition: &Expr) -> Option<((&arrow::datatypes::DataType, &Column), &Expr, bool)> {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = condition else { return None };
    let strict = match op {
        Operator::Eq => true,
        Operator::IsNotDistinctFrom => false,
        _ => return None,
    };
    match (left.as_ref(), right.as_ref()) {
        (Expr::OuterReferenceColumn(field, column), own) | (own, Expr::OuterReferenceColumn(field, column)) => {
            Some(((field.data_type(), column), own, strict))
        }
        _ => None,
    }
}

fn cannot(what: &str) -> Failure {
    error("not-supported", format!("this correlated subquery cannot be maintained with {what}"))
        .help("name columns of the query around it above that, or write an explicit JOIN")
}
