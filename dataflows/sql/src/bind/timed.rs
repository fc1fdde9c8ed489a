//! Joins in time: `FOR SYSTEM_TIME AS OF` and `ASOF JOIN`.
//!
//! DataFusion would ignore the first without a word and refuses the second, and has no hook for joins. So the pre-pass puts
//! parentheses around each ([`nest`]), and the [`RelationPlanner`] makes a node of its own of the pair: one that DataFusion's
//! rules for joins do not know and so do not move anything through.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::Field;
use datafusion_common::{DFSchema, DFSchemaRef, Result};
use datafusion_expr::Expr;
use datafusion_expr::logical_plan::{Extension, LogicalPlan, UserDefinedLogicalNodeCore};
use datafusion_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use sqlparser::ast::{Join, JoinConstraint, JoinOperator, Spanned, TableFactor, TableVersion, TableWithJoins};

use super::nodes::WatermarkNode;
use crate::diagnose::{Failure, error, known_place};

/// Puts each join in time, with all that stands to its left, into parentheses of its own.
pub(super) fn nest(table: &mut TableWithJoins) {
    if !table.joins.iter().any(is_timed) {
        return;
    }
    let nested =
        |relation, joins| TableFactor::NestedJoin { table_with_joins: Box::new(TableWithJoins { relation, joins }), alias: None };
    let mut relation = table.relation.clone();
    let mut joins = Vec::new();
    for join in std::mem::take(&mut table.joins) {
        if is_timed(&join) {
            if !joins.is_empty() {
                relation = nested(relation, std::mem::take(&mut joins));
            }
            relation = nested(relation, vec![join]);
        } else {
            joins.push(join);
        }
    }
    (table.relation, table.joins) = (relation, joins);
}

/// As [`nest`], for parentheses; those that hold one join in time are as they should be.
pub(super) fn nest_within(factor: &mut TableFactor) {
    if let TableFactor::NestedJoin { table_with_joins, .. } = factor
        && table_with_joins.joins.len() > 1
    {
        nest(table_with_joins);
    }
}

/// Whether a join is one in time.
pub(super) fn is_timed(join: &Join) -> bool {
    is_asof(join) || matches!(&join.relation, TableFactor::Table { version: Some(TableVersion::ForSystemTimeAsOf(_)), .. })
}

/// Whether a join was written as ASOF JOIN: the token pass leaves this mark.
pub(super) fn is_asof(join: &Join) -> bool {
    join.global
}

/// The join's name in messages.
pub(super) fn name_of(join: &Join) -> &'static str {
    if is_asof(join) { "ASOF JOIN" } else { "FOR SYSTEM_TIME AS OF" }
}

/// Whether left rows without a match are kept, and the condition; a CROSS JOIN has none.
pub(super) fn kind_of(join: &Join) -> std::result::Result<(bool, Option<&sqlparser::ast::Expr>), Failure> {
    let place = known_place(join.relation.span());
    let (outer, constraint) = match &join.join_operator {
        JoinOperator::Join(constraint) | JoinOperator::Inner(constraint) => (false, constraint),
        JoinOperator::Left(constraint) | JoinOperator::LeftOuter(constraint) => (true, constraint),
        JoinOperator::CrossJoin(JoinConstraint::None) if !is_asof(join) => return Ok((false, None)),
        _ => {
            return Err(error("not-supported", format!("{} is an inner join or a LEFT JOIN", name_of(join)))
                .at(place)
                .help("each left row is given beside a right row of its time; right rows by themselves have none"));
        }
    };
    match constraint {
        JoinConstraint::On(condition) => Ok((outer, Some(condition))),
        _ => Err(error("join-without-condition", format!("{} needs a condition", name_of(join))).at(place).help(
            match is_asof(join) {
                true => "write ASOF JOIN t ON a.id = t.id AND a.ts >= t.ts",
                false => "write JOIN t FOR SYSTEM_TIME AS OF a.ts ON a.id = t.id",
            },
        )),
    }
}

/// Plans joins in time.
#[derive(Debug)]
pub(crate) struct TimedJoins;

impl RelationPlanner for TimedJoins {
    fn plan_relation(&self, relation: TableFactor, cx: &mut dyn RelationPlannerContext) -> Result<RelationPlanning> {
        match relation {
            TableFactor::NestedJoin { mut table_with_joins, alias } if matches!(&table_with_joins.joins[..], [join] if is_timed(join)) =>
            {
                let join = table_with_joins.joins.remove(0);
                let plan = plan_join(table_with_joins.relation, join, cx)?;
                Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias))))
            }
            TableFactor::Table { version: Some(_), .. } => {
                Err(error("misplaced-as-of", "FOR SYSTEM_TIME AS OF stands behind the table that a join looks up")
                    .at(known_place(relation.span()))
                    .help("write FROM stream AS s JOIN table FOR SYSTEM_TIME AS OF s.ts AS t ON s.id = t.id")
                    .into())
            }
            other => Ok(RelationPlanning::Original(Box::new(other))),
        }
    }
}

fn plan_join(left: TableFactor, join: Join, cx: &mut dyn RelationPlannerContext) -> Result<LogicalPlan> {
    let (outer, condition) = kind_of(&join)?;
    let condition = condition.cloned();
    let asof = is_asof(&join);
    let mut right = join.relation;
    let version = match &mut right {
        TableFactor::Table { version, .. } => version.take(),
        _ => None,
    };
    let left = cx.plan(left)?;
    let right = cx.plan(right)?;
    let time = match version {
        Some(_) if asof => {
            return Err(error("not-supported", "a join is either ASOF or FOR SYSTEM_TIME AS OF")
                .help("leave ASOF out for the version at a time, or FOR SYSTEM_TIME for the nearest row")
                .into());
        }
        Some(TableVersion::ForSystemTimeAsOf(time)) => {
            let place = known_place(time.span());
            let time = cx.sql_to_expr(time, left.schema())?;
            match is_proctime(&time, &left) {
                true => JoinTime::Processing,
                false if time.column_refs().is_empty() => {
                    return Err(error("as-of", "FOR SYSTEM_TIME AS OF takes PROCTIME() or an event time of the left side")
                        .at(place)
                        .help("a state of the table at a fixed time is not kept")
                        .into());
                }
                false => JoinTime::Event(time, versions_time(&right)),
            }
        }
        _ => JoinTime::Nearest,
    };
    let schema = left.schema().join(right.schema())?;
    let condition = condition.map(|condition| cx.sql_to_expr(condition, &schema)).transpose()?;
    let conditions = condition.map(datafusion_expr::utils::split_conjunction_owned).unwrap_or_default();
    let node = TimedJoinNode::try_new(Arc::new(left), Arc::new(right), conditions, outer, time)?;
    Ok(LogicalPlan::Extension(Extension { node: Arc::new(node) }))
}

/// Whether an expression over a plan is PROCTIME(), written here or in what the plan selects.
fn is_proctime(expr: &Expr, plan: &LogicalPlan) -> bool {
    let column = match expr {
        Expr::Alias(alias) => return is_proctime(&alias.expr, plan),
        Expr::ScalarFunction(call) => return call.func.name() == crate::functions::PROCTIME,
        Expr::Column(column) => column,
        _ => return false,
    };
    match plan {
        LogicalPlan::Projection(project) => {
            project.schema.maybe_index_of_column(column).is_some_and(|index| is_proctime(&project.expr[index], &project.input))
        }
        LogicalPlan::SubqueryAlias(alias) => alias
            .schema
            .maybe_index_of_column(column)
            .is_some_and(|index| is_proctime(&Expr::Column(alias.input.schema().columns()[index].clone()), &alias.input)),
        LogicalPlan::Union(_) | LogicalPlan::Aggregate(_) | LogicalPlan::Distinct(_) => false,
        other => other.inputs().iter().any(|input| input.schema().has_column(column) && is_proctime(expr, input)),
    }
}

/// The output column of a plan over a source that has the source's event time.
fn versions_time(plan: &LogicalPlan) -> Option<Expr> {
    let index = event_time(plan)?;
    Some(Expr::Column(plan.schema().columns()[index].clone()))
}

fn event_time(plan: &LogicalPlan) -> Option<usize> {
    match plan {
        LogicalPlan::Extension(extension) => {
            let watermark = extension.node.as_any().downcast_ref::<WatermarkNode>()?;
            let Expr::Column(column) = &watermark.column else { return None };
            watermark.input.schema().maybe_index_of_column(column)
        }
        LogicalPlan::Projection(project) => {
            let below = project.input.schema().columns()[event_time(&project.input)?].clone();
            let is_time = |expr: &Expr| match expr {
                Expr::Alias(alias) => matches!(&*alias.expr, Expr::Column(column) if *column == below),
                Expr::Column(column) => *column == below,
                _ => false,
            };
            project.expr.iter().position(is_time)
        }
        LogicalPlan::SubqueryAlias(alias) => event_time(&alias.input),
        LogicalPlan::Filter(filter) => event_time(&filter.input),
        _ => None,
    }
}

/// What brings the two sides of a join in time together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[allow(clippy::large_enum_variant, reason = "there is one of it per join in a job's text")]
pub(crate) enum JoinTime {
    /// The right side of now.
    Processing,
    /// The right side's version at this left time; the right side's event time, where it can be seen.
    Event(Expr, Option<Expr>),
    /// The nearest right row: the conditions have one inequality.
    Nearest,
}

/// Left rows beside right rows of their time.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct TimedJoinNode {
    pub(crate) left: Arc<LogicalPlan>,
    pub(crate) right: Arc<LogicalPlan>,
    /// All must be true, over both sides.
    pub(crate) conditions: Vec<Expr>,
    /// Whether left rows without a match are kept.
    pub(crate) outer: bool,
    pub(crate) time: JoinTime,
    schema: DFSchemaRef,
}

impl TimedJoinNode {
    fn try_new(
        left: Arc<LogicalPlan>,
        right: Arc<LogicalPlan>,
        conditions: Vec<Expr>,
        outer: bool,
        time: JoinTime,
    ) -> Result<Self> {
        let padded = |field: &Arc<Field>| match outer {
            true => Arc::new(field.as_ref().clone().with_nullable(true)),
            false => Arc::clone(field),
        };
        let fields = left.schema().iter().map(|(qualifier, field)| (qualifier.cloned(), Arc::clone(field)));
        let fields = fields.chain(right.schema().iter().map(|(qualifier, field)| (qualifier.cloned(), padded(field))));
        let schema = Arc::new(DFSchema::new_with_metadata(fields.collect(), left.schema().metadata().clone())?);
        Ok(TimedJoinNode { left, right, conditions, outer, time, schema })
    }
}

impl PartialOrd for TimedJoinNode {
    fn partial_cmp(&self, _: &Self) -> Option<Ordering> {
        None
    }
}

impl UserDefinedLogicalNodeCore for TimedJoinNode {
    fn name(&self) -> &str {
        "TimedJoin"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.left, &self.right]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        let mut all = self.conditions.clone();
        if let JoinTime::Event(left, right) = &self.time {
            all.push(left.clone());
            all.extend(right.clone());
        }
        all
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TimedJoin: {:?} {:?}", self.time, self.conditions)
    }

    fn with_exprs_and_inputs(&self, mut exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        let mut inputs = inputs.into_iter().map(Arc::new);
        let (Some(left), Some(right)) = (inputs.next(), inputs.next()) else {
            return datafusion_common::internal_err!("a join in time has two inputs");
        };
        let mut times = exprs.split_off(self.conditions.len()).into_iter();
        let time = match (&self.time, times.next()) {
            (JoinTime::Event(..), Some(left)) => JoinTime::Event(left, times.next()),
            (time, _) => time.clone(),
        };
        TimedJoinNode::try_new(left, right, exprs, self.outer, time)
    }

    fn necessary_children_exprs(&self, output: &[usize]) -> Option<Vec<Vec<usize>>> {
        let width = self.left.schema().fields().len();
        let mut wanted: Vec<usize> = output.to_vec();
        for column in self.expressions().iter().flat_map(|expr| expr.column_refs()) {
            wanted.push(self.schema.maybe_index_of_column(column)?);
        }
        wanted.sort_unstable();
        wanted.dedup();
        let (left, right): (Vec<usize>, Vec<usize>) = wanted.into_iter().partition(|column| *column < width);
        Some(vec![left, right.into_iter().map(|column| column - width).collect()])
    }
}
