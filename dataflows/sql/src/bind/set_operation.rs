//! `INTERSECT` and `EXCEPT`, with and without `ALL`.
//!
//! DataFusion plans them as joins, which is wrong for `ALL`. So the pre-pass over the syntax tree writes them as table
//! functions of two subqueries, which are planned here to a node of our own.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use datafusion_common::{Column, DFSchemaRef, Result, plan_err};
use datafusion_expr::logical_plan::{Extension, LogicalPlan, LogicalPlanBuilder, UserDefinedLogicalNodeCore};
use datafusion_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion_expr::type_coercion::binary::type_union_coercion;
use datafusion_expr::{Expr, cast};
use highwater_plan::{SetKind, SetOperation};
use sqlparser::ast::{
    Expr as AstExpr, FunctionArg, FunctionArgExpr, Query, SetExpr, SetOperator, SetQuantifier, Statement, TableFactor,
};
use sqlparser::dialect::GenericDialect;
use sqlparser::parser::Parser;

use super::types::sql_type;
use crate::diagnose::error;

const NAMES: [(&str, SetOperation); 4] = [
    ("__intersect", SetOperation { kind: SetKind::Intersect, all: false }),
    ("__intersect_all", SetOperation { kind: SetKind::Intersect, all: true }),
    ("__except", SetOperation { kind: SetKind::Except, all: false }),
    ("__except_all", SetOperation { kind: SetKind::Except, all: true }),
];

/// Writes the set operations of a query's body as table functions. Those of its parts are queries of their own then.
pub(super) fn rewrite_body(body: &mut SetExpr) {
    let SetExpr::SetOperation { op, set_quantifier, left, right } = body else { return };
    let kind = match op {
        SetOperator::Union => {
            rewrite_body(left);
            rewrite_body(right);
            return;
        }
        SetOperator::Intersect => SetKind::Intersect,
        SetOperator::Except | SetOperator::Minus => SetKind::Except,
    };
    let all = *set_quantifier == SetQuantifier::All;
    let Some((name, _)) = NAMES.iter().find(|(_, operation)| *operation == SetOperation { kind, all }) else { return };
    let Some(mut written) = template(name) else { return };
    let SetExpr::Select(select) = &mut *written.body else { return };
    let Some(TableFactor::Table { args: Some(args), .. }) = select.from.first_mut().map(|table| &mut table.relation) else {
        return;
    };
    for (argument, side) in args.args.iter_mut().zip([left, right]) {
        let FunctionArg::Unnamed(FunctionArgExpr::Expr(AstExpr::Subquery(query))) = argument else { return };
        match side.as_ref() {
            SetExpr::Query(inner) => *query = inner.clone(),
            other => *query.body = other.clone(),
        }
    }
    *body = *written.body;
}

fn template(name: &str) -> Option<Query> {
    let text = format!("SELECT * FROM {name}((SELECT 1), (SELECT 1))");
    match Parser::parse_sql(&GenericDialect {}, &text).ok()?.pop()? {
        Statement::Query(query) => Some(*query),
        _ => None,
    }
}

/// Plans the table functions that [`rewrite_body`] wrote.
#[derive(Debug)]
pub(crate) struct SetOperations;

impl RelationPlanner for SetOperations {
    fn plan_relation(&self, relation: TableFactor, cx: &mut dyn RelationPlannerContext) -> Result<RelationPlanning> {
        let operation = match &relation {
            TableFactor::Table { name, args: Some(_), .. } => {
                let name = name.to_string();
                NAMES.iter().find(|(known, _)| *known == name).map(|(_, operation)| *operation)
            }
            _ => None,
        };
        let (Some(operation), TableFactor::Table { args: Some(args), alias, .. }) = (operation, relation.clone()) else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let mut sides = Vec::with_capacity(2);
        for argument in args.args {
            let FunctionArg::Unnamed(FunctionArgExpr::Expr(AstExpr::Subquery(subquery))) = argument else {
                return plan_err!("a set operation is of two queries");
            };
            sides.push(cx.plan(TableFactor::Derived { lateral: false, subquery, alias: None, sample: None })?);
        }
        let (Some(right), Some(left)) = (sides.pop(), sides.pop()) else { return plan_err!("a set operation is of two queries") };
        let plan = SetOperationNode::try_new(left, right, operation)?.into_plan();
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias))))
    }
}

/// Rows by how often each is in either input.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct SetOperationNode {
    pub(crate) left: Arc<LogicalPlan>,
    pub(crate) right: Arc<LogicalPlan>,
    pub(crate) operation: SetOperation,
}

impl SetOperationNode {
    fn try_new(left: LogicalPlan, right: LogicalPlan, operation: SetOperation) -> Result<Self> {
        let (name, columns) = (name(operation), [&left, &right].map(|side| side.schema().fields().len()));
        if columns[0] != columns[1] {
            let message = format!("{name} compares {} columns with {}", columns[0], columns[1]);
            return Err(error("column-count", message).help("both sides must have as many columns").into());
        }
        let mut types = Vec::with_capacity(columns[0]);
        for (one, other) in left.schema().fields().iter().zip(right.schema().fields()) {
            match type_union_coercion(one.data_type(), other.data_type()) {
                Some(common) => types.push(common),
                None => {
                    let [l, r] = [one, other].map(|field| sql_type(field.data_type()));
                    let message = format!("{name} compares {l} ({}) with {r} ({})", one.name(), other.name());
                    return Err(error("type-mismatch", message).help("CAST one side to the other's type").into());
                }
            }
        }
        let cast_to = |side: LogicalPlan| -> Result<Arc<LogicalPlan>> {
            if side.schema().fields().iter().zip(&types).all(|(field, wanted)| field.data_type() == wanted) {
                return Ok(Arc::new(side));
            }
            let columns: Vec<Expr> = side
                .schema()
                .iter()
                .zip(&types)
                .map(|((qualifier, field), wanted)| {
                    let column = Expr::Column(Column::from((qualifier, field)));
                    match field.data_type() == wanted {
                        true => column,
                        false => cast(column, wanted.clone()).alias_qualified(qualifier.cloned(), field.name()),
                    }
                })
                .collect();
            Ok(Arc::new(LogicalPlanBuilder::from(side).project(columns)?.build()?))
        };
        Ok(SetOperationNode { left: cast_to(left)?, right: cast_to(right)?, operation })
    }

    fn into_plan(self) -> LogicalPlan {
        LogicalPlan::Extension(Extension { node: Arc::new(self) })
    }
}

fn name(operation: SetOperation) -> String {
    let name = match operation.kind {
        SetKind::Intersect => "INTERSECT",
        SetKind::Except => "EXCEPT",
    };
    format!("{name}{}", if operation.all { " ALL" } else { "" })
}

impl PartialOrd for SetOperationNode {
    fn partial_cmp(&self, _: &Self) -> Option<Ordering> {
        None
    }
}

impl UserDefinedLogicalNodeCore for SetOperationNode {
    fn name(&self) -> &str {
        "SetOperation"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.left, &self.right]
    }

    fn schema(&self) -> &DFSchemaRef {
        self.left.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&name(self.operation))
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        let (Some(right), Some(left)) = (inputs.pop(), inputs.pop()) else {
            return plan_err!("a set operation is of two queries");
        };
        Ok(SetOperationNode { left: Arc::new(left), right: Arc::new(right), operation: self.operation })
    }

    /// Rows are compared by all their columns, whatever is read of the result.
    fn necessary_children_exprs(&self, _: &[usize]) -> Option<Vec<Vec<usize>>> {
        let all: Vec<usize> = (0..self.left.schema().fields().len()).collect();
        Some(vec![all.clone(), all])
    }
}
