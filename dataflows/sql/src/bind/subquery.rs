//! Subqueries in expressions, said in words that can be maintained.
//!
//! DataFusion turns subqueries into joins. Two of its answers would be wrong here: `NOT IN` where NULLs are about, of which
//! its joins know too little (and nothing at all inside `OR`, `CASE` or a SELECT list), and a scalar subquery that gives
//! several rows, which would multiply the rows of the query around it. So what NULLs do to `IN` is spelled out with
//! `EXISTS`, which has no third answer; and a scalar subquery that may give several rows counts them.

use std::sync::Arc;

use datafusion_common::config::ConfigOptions;
use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion_common::{Column, DFSchema, ExprSchema, Result, ScalarValue};
use datafusion_expr::expr::{Exists, InSubquery, SetComparison, SetQuantifier};
use datafusion_expr::expr_rewriter::NamePreserver;
use datafusion_expr::logical_plan::{LogicalPlan, LogicalPlanBuilder, Subquery};
use datafusion_expr::utils::{conjunction, disjunction, split_conjunction, split_conjunction_owned};
use datafusion_expr::{Expr, ExprSchemable, JoinType, Operator, binary_expr, exists, lit, not_exists, when};
use datafusion_functions_aggregate::expr_fn::{count, min};
use datafusion_optimizer::analyzer::AnalyzerRule;

use crate::diagnose::error;
use crate::functions::{ROW_OF, only_row};

/// Rewrites subqueries in the expressions of a plan.
#[derive(Debug)]
pub(crate) struct Subqueries;

impl AnalyzerRule for Subqueries {
    fn name(&self) -> &str {
        "subqueries"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        Ok(plan.transform_up_with_subqueries(rewritten)?.data)
    }
}

/// Whether a plan asks `x NOT IN (subquery)`, or `x < ALL (subquery)`, of a subquery that may give NULL.
pub(crate) fn not_in_nullable(plan: &LogicalPlan) -> Result<bool> {
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                match expr {
                    Expr::InSubquery(InSubquery { subquery, negated: true, .. }) => found |= gives_null(&subquery.subquery),
                    Expr::SetComparison(SetComparison { subquery, quantifier: SetQuantifier::All, .. }) => {
                        found |= gives_null(&subquery.subquery);
                    }
                    _ => {}
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(found)
}

/// Whether one of the columns that a subquery is asked for can be NULL.
fn gives_null(plan: &LogicalPlan) -> bool {
    if let LogicalPlan::Projection(project) = plan
        && let Some(columns) = project.expr.first().and_then(columns_of_row)
    {
        return columns.iter().any(|column| !matches!(column, Expr::Column(column) if !may_be_null(&project.input, column)));
    }
    plan.schema().columns().first().is_none_or(|column| may_be_null(plan, column))
}

/// Whether a plan's column can be NULL: not if it is declared so, and not if a filter says so.
fn may_be_null(plan: &LogicalPlan, column: &Column) -> bool {
    plan.schema().field_from_column(column).is_ok_and(|field| field.is_nullable()) && !filtered(plan, column)
}

/// Whether the rows of a plan are only those whose column is not NULL, as far as that is plain to see.
fn filtered(plan: &LogicalPlan, column: &Column) -> bool {
    match plan {
        LogicalPlan::Projection(project) => {
            let place = project.schema.maybe_index_of_column(column);
            let expr = place.map(|place| project.expr[place].clone().unalias());
            matches!(expr, Some(Expr::Column(column)) if filtered(&project.input, &column))
        }
        LogicalPlan::SubqueryAlias(alias) => {
            let place = alias.schema.maybe_index_of_column(column);
            let below = place.map(|place| Column::from(alias.input.schema().qualified_field(place)));
            below.is_some_and(|column| filtered(&alias.input, &column))
        }
        LogicalPlan::Filter(filter) => {
            let parts = split_conjunction(&filter.predicate);
            let not_null = |part: &&Expr| matches!(part, Expr::IsNotNull(inner) if matches!(&**inner, Expr::Column(found) if found == column));
            parts.iter().any(not_null) || filtered(&filter.input, column)
        }
        _ => false,
    }
}

/// Whether an expression has a subquery.
pub(crate) fn has_subquery(expr: &Expr) -> bool {
    expr.exists(|expr| {
        Ok(matches!(expr, Expr::InSubquery(_) | Expr::Exists(_) | Expr::ScalarSubquery(_) | Expr::SetComparison(_)))
    })
    .unwrap_or(false)
}

fn rewritten(node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let mut found = false;
    node.apply_expressions(|expr| {
        found |= has_subquery(expr);
        Ok(TreeNodeRecursion::Continue)
    })?;
    if !found {
        return Ok(Transformed::no(node));
    }
    let node = match node {
        // A condition of an inner join is one of its result, where DataFusion looks for subqueries.
        LogicalPlan::Join(mut join) if join.join_type == JoinType::Inner => {
            let conditions = join.filter.take().map(split_conjunction_owned).unwrap_or_default();
            let (above, stay): (Vec<Expr>, Vec<Expr>) = conditions.into_iter().partition(has_subquery);
            join.filter = conjunction(stay);
            match conjunction(above) {
                Some(above) => LogicalPlanBuilder::from(LogicalPlan::Join(join)).filter(above)?.build()?,
                None => LogicalPlan::Join(join),
            }
        }
        node => node,
    };
    let mut outer = DFSchema::empty();
    for input in node.inputs() {
        outer.merge(input.schema());
    }
    let is_filter = matches!(node, LogicalPlan::Filter(_));
    let names = NamePreserver::new(&node);
    let node = node.map_expressions(|expr| {
        let name = names.save(&expr);
        let expr = if is_filter { condition(expr, &outer)? } else { value(expr, &outer)? };
        Ok(Transformed::yes(name.restore(expr)))
    })?;
    node.map_data(|node| node.recompute_schema())
}

/// An expression of which only matters whether it is true.
fn condition(expr: Expr, outer: &DFSchema) -> Result<Expr> {
    match expr {
        Expr::BinaryExpr(mut binary) if matches!(binary.op, Operator::And | Operator::Or) => {
            *binary.left = condition(*binary.left, outer)?;
            *binary.right = condition(*binary.right, outer)?;
            Ok(Expr::BinaryExpr(binary))
        }
        Expr::Not(inner) => match *inner {
            Expr::InSubquery(inner) => condition(Expr::InSubquery(InSubquery { negated: !inner.negated, ..inner }), outer),
            Expr::Exists(inner) => Ok(Expr::Exists(Exists { negated: !inner.negated, ..inner })),
            inner => Ok(Expr::Not(Box::new(value(inner, outer)?))),
        },
        // Of rows each column is compared by itself.
        Expr::InSubquery(found) if !found.negated && columns_of_row(&found.expr).is_some() => {
            Ok(exists(Asked::new(found, outer)?.matching()?))
        }
        Expr::InSubquery(InSubquery { expr, subquery, negated: false }) => {
            let expr = Box::new(value(*expr, outer)?);
            Ok(Expr::InSubquery(InSubquery { expr, subquery, negated: false }))
        }
        Expr::InSubquery(found) => Asked::new(found, outer)?.never(),
        Expr::SetComparison(found) => match found.quantifier {
            SetQuantifier::Any => Ok(exists(Asked::of_any(found, outer)?.0.matching()?)),
            SetQuantifier::All => Asked::of_any(found, outer)?.0.never(),
        },
        other => value(other, outer),
    }
}

/// An expression whose NULL is not false.
fn value(expr: Expr, outer: &DFSchema) -> Result<Expr> {
    let expr = expr.transform_up(|expr| {
        Ok(match expr {
            Expr::InSubquery(found) => {
                let negated = found.negated;
                Transformed::yes(Asked::new(found, outer)?.value(negated)?)
            }
            Expr::SetComparison(found) => {
                let (asked, negated) = Asked::of_any(found, outer)?;
                Transformed::yes(asked.value(negated)?)
            }
            Expr::ScalarSubquery(subquery) => single(subquery)?,
            other => Transformed::no(other),
        })
    })?;
    Ok(expr.data)
}

/// `expr IN (subquery)`, or `expr < ANY (subquery)`, seen from the subquery.
struct Asked {
    subquery: LogicalPlan,
    /// How what is looked for compares with a row of the subquery that matches.
    op: Operator,
    /// What is compared: one pair, or one for each column of a row.
    pairs: Vec<Pair>,
}

/// A column of the subquery and what is looked for in it.
struct Pair {
    inner: Expr,
    /// From outside.
    outer: Expr,
    inner_nullable: bool,
    outer_nullable: bool,
}

impl Pair {
    /// Whether the two are equal, or cannot be told to differ.
    fn may_match(&self) -> Expr {
        let mut condition = self.inner.clone().eq(self.outer.clone());
        if self.inner_nullable {
            condition = condition.or(self.inner.clone().is_null());
        }
        if self.outer_nullable {
            condition = condition.or(self.outer.clone().is_null());
        }
        condition
    }
}

impl Asked {
    fn new(found: InSubquery, outer: &DFSchema) -> Result<Self> {
        Asked::by(*found.expr, Operator::Eq, found.subquery, outer)
    }

    /// What `ANY` asks; and for `ALL`, which is that nothing compares the other way round, that this is to be negated.
    fn of_any(found: SetComparison, outer: &DFSchema) -> Result<(Self, bool)> {
        let negated = found.quantifier == SetQuantifier::All;
        let op = if negated { found.op.negate() } else { Some(found.op) };
        let op = op.ok_or_else(|| error("not-supported", format!("{} ALL of a subquery is not supported", found.op)))?;
        Ok((Asked::by(*found.expr, op, found.subquery, outer)?, negated))
    }

    fn by(expr: Expr, op: Operator, subquery: Subquery, outer: &DFSchema) -> Result<Self> {
        let subquery = Arc::unwrap_or_clone(subquery.subquery);
        let (columns, exprs, subquery) = match (columns_of_row(&expr), subquery) {
            (Some(exprs), LogicalPlan::Projection(project)) => match columns_of_row(&project.expr[0]) {
                Some(columns) if columns.len() == exprs.len() => (columns, exprs, Arc::unwrap_or_clone(project.input)),
                _ => return Err(error("internal-planner-error", "a row beside no row").help("please report this").into()),
            },
            (_, subquery) => {
                let (qualifier, field) = subquery.schema().qualified_field(0);
                (vec![Expr::Column(Column::from((qualifier, field)))], vec![expr], subquery)
            }
        };
        let pairs = columns.into_iter().zip(exprs).map(|(inner, expr)| {
            let inner_nullable = match &inner {
                Expr::Column(column) => may_be_null(&subquery, column),
                _ => true,
            };
            let outer_nullable = expr.nullable(outer)?;
            Ok(Pair { inner, outer: looked_for(expr, outer)?, inner_nullable, outer_nullable })
        });
        let pairs = pairs.collect::<Result<Vec<Pair>>>()?;
        Ok(Asked { subquery, op, pairs })
    }

    fn rows(&self, condition: Expr) -> Result<Arc<LogicalPlan>> {
        Ok(Arc::new(LogicalPlanBuilder::from(self.subquery.clone()).filter(condition)?.build()?))
    }

    /// Rows that match what is looked for.
    fn matching(&self) -> Result<Arc<LogicalPlan>> {
        let compared = self.pairs.iter().map(|Pair { inner, outer, .. }| match self.op {
            Operator::Eq => inner.clone().eq(outer.clone()),
            op => binary_expr(outer.clone(), op, inner.clone()),
        });
        self.rows(conjunction(compared).unwrap_or_else(|| lit(true)))
    }

    /// Conditions on rows of which cannot be told whether they match.
    fn unknown(&self) -> Result<Vec<Expr>> {
        let mut unknown = Vec::new();
        if self.pairs.iter().any(|pair| pair.inner_nullable) {
            unknown.push(exists(self.undecided(|pair| pair.inner_nullable.then(|| pair.inner.clone()))?));
        }
        if self.pairs.iter().any(|pair| pair.outer_nullable) {
            unknown.push(exists(self.undecided(|pair| pair.outer_nullable.then(|| pair.outer.clone()))?));
        }
        Ok(unknown)
    }

    /// Rows where one of these values is NULL, and the columns of a row that can be compared do not differ.
    fn undecided(&self, value: impl Fn(&Pair) -> Option<Expr>) -> Result<Arc<LogicalPlan>> {
        let null = disjunction(self.pairs.iter().filter_map(value).map(Expr::is_null)).unwrap_or_else(|| lit(false));
        match &self.pairs[..] {
            [_] => self.rows(null),
            pairs => self.rows(conjunction(pairs.iter().map(Pair::may_match)).unwrap_or_else(|| lit(true)).and(null)),
        }
    }

    /// That no row matches, and that this is certain.
    fn never(&self) -> Result<Expr> {
        let mut conditions = vec![not_exists(self.matching()?)];
        conditions.extend(self.unknown()?.into_iter().map(|unknown| match unknown {
            Expr::Exists(found) => Expr::Exists(Exists { negated: true, ..found }),
            other => Expr::Not(Box::new(other)),
        }));
        Ok(conjunction(conditions).unwrap_or_else(|| lit(true)))
    }

    /// Whether a row matches, or the opposite of that; NULL where it cannot be told.
    fn value(&self, negated: bool) -> Result<Expr> {
        match disjunction(self.unknown()?) {
            None if negated => Ok(not_exists(self.matching()?)),
            None => Ok(exists(self.matching()?)),
            Some(unknown) => when(exists(self.matching()?), lit(!negated))
                .when(unknown, lit(ScalarValue::Boolean(None)))
                .otherwise(lit(negated)),
        }
    }
}

/// The columns of a row that is looked for as one value.
fn columns_of_row(expr: &Expr) -> Option<Vec<Expr>> {
    match expr {
        Expr::Alias(alias) => columns_of_row(&alias.expr),
        Expr::ScalarFunction(call) if call.func.name() == ROW_OF => Some(call.args.clone()),
        _ => None,
    }
}

/// What is looked for, as the subquery sees it.
fn looked_for(expr: Expr, outer: &DFSchema) -> Result<Expr> {
    let looked_for = value(expr, outer)?.transform_up(|expr| {
        Ok(match expr {
            Expr::Column(column) => {
                let field = Arc::clone(outer.field_from_column(&column)?);
                Transformed::yes(Expr::OuterReferenceColumn(field, column))
            }
            // A column of further out, unless the query between has one of the same name.
            Expr::OuterReferenceColumn(_, ref column) if !outer.has_column(column) => Transformed::no(expr),
            Expr::OuterReferenceColumn(..) | Expr::ScalarSubquery(_) | Expr::Exists(_) => {
                return Err(error("not-supported", "what is compared with a subquery here is itself a subquery")
                    .help("compute it in a subquery of FROM first, and compare its column")
                    .into());
            }
            other => Transformed::no(other),
        })
    })?;
    Ok(looked_for.data)
}

/// A scalar subquery that may give several rows, with their number: more than one is an error of the row around it.
fn single(subquery: Subquery) -> Result<Transformed<Expr>> {
    let plan = &subquery.subquery;
    if plan.max_rows().is_some_and(|rows| rows <= 1) || plan.schema().fields().len() != 1 {
        return Ok(Transformed::no(Expr::ScalarSubquery(subquery)));
    }
    let (qualifier, field) = plan.schema().qualified_field(0);
    let column = Expr::Column(Column::from((qualifier, field)));
    let counted = LogicalPlanBuilder::from(plan.as_ref().clone())
        .aggregate(Vec::<Expr>::new(), vec![count(lit(1_i64)).alias("__rows"), min(column).alias("__value")])?
        .project(vec![
            datafusion_functions::core::named_struct()
                .call(vec![
                    lit("rows"),
                    Expr::Column(Column::from_name("__rows")),
                    lit("value"),
                    Expr::Column(Column::from_name("__value")),
                ])
                .alias("__only_row"),
        ])?
        .build()?;
    let outer_ref_columns = counted.all_out_ref_exprs();
    let counted = Subquery { subquery: Arc::new(counted), outer_ref_columns, spans: subquery.spans };
    Ok(Transformed::yes(only_row::function().call(vec![Expr::ScalarSubquery(counted)])))
}
