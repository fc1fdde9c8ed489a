//! Bound queries to one graph of operators.
//!
//! Every variant of DataFusion's logical plan is either lowered or refused here, without a wildcard: a construct that is
//! not maintained never becomes a wrong result. Expressions become positional, chains of filters and projections become
//! one [`highwater_plan::Map`], and equal sub-plans become one node.

mod aggregate;
mod decimal;
mod expr;
mod finish;
mod graph;
mod join;
mod leaf;
mod map;
mod output;
mod over;
mod recursion;
mod scalar;
mod set_operation;
mod temporal;
mod text;
mod timed;
mod topn;
mod unnest;
mod window;

use std::collections::HashMap;

use datafusion_expr::Expr;
use datafusion_expr::logical_plan::{Distinct, LogicalPlan};
use datafusion_expr::utils::split_conjunction;
use highwater_plan::{Diagnostic, Emit, Job, NodeId};

use crate::bind::{Bound, SetOperationNode, TimedJoinNode, UnnestNode, WatermarkNode, WindowNode, has_subquery};
use crate::diagnose::{Construct, Failure, Item, Places, Result, error};
pub(crate) use expr::span as first_place;
use graph::Graph;
use recursion::Recursing;

/// Lowers a job.
pub(crate) fn lower(bound: Bound) -> Result<Job> {
    let mut lowerer = Lowerer {
        bound: &bound,
        graph: Graph::default(),
        views: HashMap::new(),
        recursions: vec![Recursing::Not; bound.recursions.len()],
        places: Places::default(),
        emit: Emit::Changes,
        warnings: bound.warnings.clone(),
    };
    let outputs = lowerer.outputs()?;
    finish::finish(lowerer, outputs)
}

/// The graph under construction and where in the job it stands.
struct Lowerer<'a> {
    bound: &'a Bound,
    graph: Graph,
    /// Views lowered so far, by position and emission.
    views: HashMap<(usize, bool), NodeId>,
    /// Recursions, by position.
    recursions: Vec<Recursing>,
    /// Of the query at hand.
    places: Places,
    /// When the windows of the query at hand give their results.
    emit: Emit,
    warnings: Vec<Diagnostic>,
}

impl Lowerer<'_> {
    fn plan(&mut self, plan: &LogicalPlan) -> Result<NodeId> {
        match plan {
            LogicalPlan::TableScan(scan) => self.scan(scan),
            LogicalPlan::Projection(project) => {
                let input = self.plan(&project.input)?;
                let exprs = self.positional(&project.expr, &[&project.input])?;
                self.project(input, exprs, &names(plan))
            }
            LogicalPlan::Filter(filter) => {
                let input = self.plan(&filter.input)?;
                let parts: Vec<Expr> = split_conjunction(&filter.predicate).into_iter().cloned().collect();
                let filters = self.positional(&parts, &[&filter.input])?;
                self.filter(input, filters)
            }
            LogicalPlan::SubqueryAlias(alias) => self.plan(&alias.input),
            LogicalPlan::Repartition(repartition) => self.plan(&repartition.input),
            LogicalPlan::Aggregate(aggregate) => self.aggregate(aggregate, &names(plan)),
            LogicalPlan::Distinct(Distinct::All(input)) => self.distinct(input),
            LogicalPlan::Join(join) => self.join(join, &names(plan)),
            LogicalPlan::Union(union) => self.union(union, &names(plan)),
            LogicalPlan::Values(values) => self.values(values),
            LogicalPlan::EmptyRelation(empty) => self.empty(empty),
            LogicalPlan::Extension(extension) => {
                if let Some(window) = extension.node.as_any().downcast_ref::<WindowNode>() {
                    return self.window(window, &names(plan));
                }
                if let Some(unnest) = extension.node.as_any().downcast_ref::<UnnestNode>() {
                    return self.unnest(unnest);
                }
                if let Some(operation) = extension.node.as_any().downcast_ref::<SetOperationNode>() {
                    return self.set_operation(operation, &names(plan));
                }
                if let Some(join) = extension.node.as_any().downcast_ref::<TimedJoinNode>() {
                    return self.timed_join(join, &names(plan));
                }
                if let Some(watermark) = extension.node.as_any().downcast_ref::<WatermarkNode>() {
                    return self.watermark(watermark);
                }
                Err(self.unsupported(extension.node.name()))
            }
            LogicalPlan::Sort(sort) => self.sorted(sort),
            LogicalPlan::Limit(limit) => self.limit(limit),
            LogicalPlan::Window(window) => self.over(window, &names(plan)),
            // The binder makes it a row_number() that is 1.
            LogicalPlan::Distinct(Distinct::On(_)) => Err(self.unsupported("this DISTINCT ON")),
            LogicalPlan::Unnest(unnest) => self.select_unnest(unnest, &names(plan)),
            LogicalPlan::RecursiveQuery(_) => Err(self.unsupported("this form of WITH RECURSIVE")),
            LogicalPlan::Subquery(_) => Err(self.no_join()),
            LogicalPlan::Dml(_)
            | LogicalPlan::Ddl(_)
            | LogicalPlan::Copy(_)
            | LogicalPlan::Explain(_)
            | LogicalPlan::Analyze(_)
            | LogicalPlan::Statement(_)
            | LogicalPlan::DescribeTable(_) => Err(self.unsupported("this statement")),
        }
    }

    /// Expressions over the outputs of these plans, side by side.
    fn positional(&self, exprs: &[Expr], inputs: &[&LogicalPlan]) -> Result<Vec<Expr>> {
        let schemas: Vec<_> = inputs.iter().map(|input| input.schema().as_ref()).collect();
        exprs
            .iter()
            .map(|expr| {
                if expr.contains_outer() || has_subquery(expr) {
                    return Err(self.no_join());
                }
                let (names, words) = expr::mentions(expr);
                let place = Item::find(&self.places.items, &names, &words);
                let place = place.or_else(|| Item::find(&self.bound.items, &names, &words));
                expr::positional(expr, &schemas).map(|found| expr::placed(found, place))
            })
            .collect()
    }

    /// A subquery is left that the binder made no join of.
    fn no_join(&self) -> Failure {
        error("not-supported", "a subquery cannot be maintained where this one stands")
            .at(self.places.construct(Construct::Subquery).or(self.places.statement))
            .help("compute it in a subquery of FROM first, or write an explicit JOIN")
    }

    fn unsupported(&self, what: &str) -> Failure {
        error("not-supported", format!("{what} is not supported yet")).at(self.places.statement)
    }
}

/// A schema's columns.
fn names_of(schema: &arrow::datatypes::Schema) -> Vec<String> {
    schema.fields().iter().map(|field| field.name().clone()).collect()
}

/// A plan's output columns.
fn names(plan: &LogicalPlan) -> Vec<String> {
    plan.schema().fields().iter().map(|field| field.name().clone()).collect()
}
