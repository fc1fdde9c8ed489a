//! The order of inner joins, by the keys that tables declare and by how many rows they have.
//!
//! A join keeps the rows of both its inputs, and each change goes through all joins above it. So the rows that joins give
//! to joins are what an order costs: `customer, supplier, .. WHERE c_nation = s_nation AND ..` read as written pairs all
//! customers and suppliers of a nation, where another order never has more rows than there are orders.
//!
//! How many rows an order has between its joins is estimated ([`estimate`]); a written order stays unless another has less
//! than half as many. Joins on times stay as written: their state may end with their windows.

mod estimate;
mod search;

use std::collections::HashSet;
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion_common::{Column, NullEquality, Result};
use datafusion_expr::logical_plan::{Join, Projection};
use datafusion_expr::utils::{conjunction, split_conjunction};
use datafusion_expr::{Expr, ExprSchemable, JoinConstraint, JoinType, LogicalPlan, Operator, binary_expr};

use estimate::Estimate;
use search::{Graph, Relations, Tree};

/// More relations than this are joined as written: the search looks at every subset.
const RELATIONS_MAX: usize = 10;

/// Puts the inner joins of a plan in the order that is estimated to be cheapest.
pub(super) fn order_joins(plan: LogicalPlan) -> Result<LogicalPlan> {
    let plan = plan.transform_down(|node| match &node {
        LogicalPlan::Join(join) if is_plain(join) => {
            let ordered = reorder(&node)?;
            Ok(match ordered {
                // What is below was looked at with it.
                Some(ordered) => Transformed::new(ordered, true, TreeNodeRecursion::Jump),
                None => Transformed::no(node),
            })
        }
        _ => Ok(Transformed::no(node)),
    })?;
    Ok(plan.data)
}

fn is_plain(join: &Join) -> bool {
    join.join_type == JoinType::Inner && join.null_equality == NullEquality::NullEqualsNothing
}

/// A tree of inner joins taken apart.
#[derive(Default)]
struct Parts {
    relations: Vec<Arc<LogicalPlan>>,
    conditions: Vec<Expr>,
}

impl Parts {
    fn take(&mut self, plan: &Arc<LogicalPlan>) -> Tree {
        match plan.as_ref() {
            LogicalPlan::Join(join) if is_plain(join) => {
                let tree = Tree::join(self.take(&join.left), self.take(&join.right));
                let equal = |(left, right): &(Expr, Expr)| binary_expr(left.clone(), Operator::Eq, right.clone());
                self.conditions.extend(join.on.iter().map(equal));
                self.conditions.extend(join.filter.iter().flat_map(split_conjunction).cloned());
                tree
            }
            LogicalPlan::Projection(Projection { expr, input, .. })
                if matches!(input.as_ref(), LogicalPlan::Join(join) if is_plain(join))
                    && expr.iter().all(|expr| matches!(expr, Expr::Column(_))) =>
            {
                self.take(input)
            }
            _ => {
                self.relations.push(Arc::clone(plan));
                Tree::Relation(self.relations.len() - 1)
            }
        }
    }

    /// The relations whose columns an expression reads; `None` if one of them is nobody's.
    fn read_by(&self, expr: &Expr) -> Option<Relations> {
        let of = |column: &Column| self.relations.iter().position(|relation| relation.schema().has_column(column));
        expr.column_refs().into_iter().try_fold(Relations::default(), |read, column| Some(read.with(of(column)?)))
    }

    /// Whether no column is of two relations, and no condition is on a time.
    fn can_move(&self) -> Result<bool> {
        let columns: Vec<Column> = self.relations.iter().flat_map(|relation| relation.schema().columns()).collect();
        if columns.iter().collect::<HashSet<_>>().len() < columns.len() {
            return Ok(false);
        }
        for condition in &self.conditions {
            for column in condition.column_refs() {
                let owner = self.relations.iter().find(|relation| relation.schema().has_column(column));
                let Some(owner) = owner else { return Ok(false) };
                let data_type = Expr::Column(column.clone()).get_type(owner.schema().as_ref())?;
                if matches!(data_type, DataType::Timestamp(..)) || condition.is_volatile() {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
}

/// A condition of a tree of joins.
struct Condition {
    expr: Expr,
    read: Relations,
    /// The sides of an equality that read relations of their own.
    equal: Option<[(Expr, Relations); 2]>,
}

/// The plan with its joins in another order, if one is better.
fn reorder(plan: &LogicalPlan) -> Result<Option<LogicalPlan>> {
    let mut parts = Parts::default();
    let written = parts.take(&Arc::new(plan.clone()));
    if !(3..=RELATIONS_MAX).contains(&parts.relations.len()) || !parts.can_move()? {
        return Ok(None);
    }
    let mut conditions = Vec::new();
    for expr in &parts.conditions {
        let Some(read) = parts.read_by(expr) else { return Ok(None) };
        let equal = match expr {
            Expr::BinaryExpr(binary) if binary.op == Operator::Eq => {
                let sides =
                    [&binary.left, &binary.right].map(|side| parts.read_by(side).map(|read| (side.as_ref().clone(), read)));
                match sides {
                    [Some(left), Some(right)] if !left.1.is_empty() && !right.1.is_empty() && !left.1.meets(right.1) => {
                        Some([left, right])
                    }
                    _ => None,
                }
            }
            _ => None,
        };
        conditions.push(Condition { expr: expr.clone(), read, equal });
    }
    let estimates: Vec<Estimate> = parts.relations.iter().map(|relation| Estimate::of(relation)).collect();
    let graph = Graph {
        rows: estimates.iter().map(|estimate| estimate.rows).collect(),
        conditions: conditions.iter().map(|condition| (condition.read, selectivity(condition, &estimates))).collect(),
    };
    let best = graph.best();
    let ((crosses, rows), (written_crosses, written_rows)) = (graph.cost(&best), graph.cost(&written));
    if crosses == written_crosses && rows * 2.0 >= written_rows {
        return Ok(None);
    }
    let relations = parts.relations.iter().map(|relation| order_joins(relation.as_ref().clone()).map(Arc::new));
    let relations = relations.collect::<Result<Vec<_>>>()?;
    let (joined, _) = build(&best, &relations, &conditions)?;
    let columns = plan.schema().columns().into_iter().map(Expr::Column).collect();
    Ok(Some(LogicalPlan::Projection(Projection::try_new(columns, joined)?)))
}

/// Of all pairs the part that a condition lets through.
fn selectivity(condition: &Condition, estimates: &[Estimate]) -> f64 {
    let Some([left, right]) = &condition.equal else { return estimate::of_condition(&condition.expr) };
    let [left, right] = [left, right].map(|(expr, read)| read.only().map(|relation| estimates[relation].values(expr)));
    match (left, right) {
        (Some(left), Some(right)) => 1.0 / left.of_equality(right),
        _ => estimate::of_condition(&condition.expr),
    }
}

/// A tree as joins, each condition at the lowest join that has all it reads.
fn build(tree: &Tree, relations: &[Arc<LogicalPlan>], conditions: &[Condition]) -> Result<(Arc<LogicalPlan>, Relations)> {
    let (left, right) = match tree {
        Tree::Relation(relation) => return Ok((Arc::clone(&relations[*relation]), Relations::default().with(*relation))),
        Tree::Join(left, right) => (left, right),
    };
    let (left, in_left) = build(left, relations, conditions)?;
    let (right, in_right) = build(right, relations, conditions)?;
    let all = in_left.and(in_right);
    let (mut on, mut filters) = (Vec::new(), Vec::new());
    let here = |read: Relations| read.within(all) && !read.within(in_left) && !read.within(in_right);
    for condition in conditions.iter().filter(|condition| here(condition.read)) {
        match &condition.equal {
            Some([one, other]) if one.1.within(in_left) && other.1.within(in_right) => on.push((one.0.clone(), other.0.clone())),
            Some([one, other]) if one.1.within(in_right) && other.1.within(in_left) => on.push((other.0.clone(), one.0.clone())),
            _ => filters.push(condition.expr.clone()),
        }
    }
    let join = Join::try_new(
        left,
        right,
        on,
        conjunction(filters),
        JoinType::Inner,
        JoinConstraint::On,
        NullEquality::NullEqualsNothing,
        false,
    )?;
    Ok((Arc::new(LogicalPlan::Join(join)), all))
}
