//! The graph under construction: operators with positional expressions, each sub-plan once.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion_common::DFSchema;
use datafusion_expr::{Expr, ExprSchemable};
use highwater_plan::{
    AggregateCall, AsOf, Comparison, Emit, Grouping, Hold, JoinInterval, JoinKind, JoinWindow, NodeId, Over, SessionAssign,
    SetOperation, Span, StateBound, TimeColumn, TopN, Turns, Unnest, WindowAssign,
};

use super::expr::internal;
use crate::diagnose::Result;

/// Operators before their expressions are compiled.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Op {
    /// Every physical column of a source.
    Source(usize),
    /// Every physical column of a table with a primary key, every version of its rows.
    Versions(usize),
    Constant(RecordBatch),
    Map(Map),
    Window(WindowAssign),
    Session(SessionAssign),
    Unnest(Unnest),
    Stamp,
    Hold(Hold),
    Aggregate(Aggregate),
    Join(Join),
    Timed(Timed),
    Union,
    Temporal(Temporal),
    SetOperation(SetOperation),
    TopN(TopN),
    Over(Over),
    /// One binding of a recursion; the inputs are what defines its bindings.
    Recursion {
        recursion: usize,
        output: usize,
    },
    /// Within a recursion: a binding, as of the step before.
    Binding {
        recursion: usize,
        binding: usize,
    },
}

/// Filters, then projects.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Map {
    pub(super) filters: Vec<Expr>,
    pub(super) exprs: Option<Vec<Expr>>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Aggregate {
    pub(super) keys: Vec<usize>,
    pub(super) calls: Vec<AggregateCall>,
    pub(super) grouping: Grouping,
    pub(super) emit: Emit,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Join {
    pub(super) kind: JoinKind,
    pub(super) on: Vec<(usize, usize)>,
    pub(super) nulls_equal: bool,
    pub(super) residual: Vec<Expr>,
    pub(super) map: Map,
    pub(super) window: Option<JoinWindow>,
    pub(super) interval: Option<JoinInterval>,
    pub(super) emit: Emit,
}

/// Conditions on the clock, all of which must hold.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Temporal {
    pub(super) conditions: Vec<(Turns, Moment)>,
}

/// When a condition turns, as in [`highwater_plan::Moment`].
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Moment {
    At(Expr),
    After(Expr),
    /// The epoch is the column behind the input's.
    Search(Expr),
}

/// A join in time.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Timed {
    pub(super) beside: Beside,
    pub(super) how: How,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Beside {
    pub(super) on: Vec<(usize, usize)>,
    pub(super) nulls_equal: bool,
    pub(super) outer: bool,
    pub(super) residual: Vec<Expr>,
    pub(super) map: Map,
    /// Columns of the left input.
    pub(super) left_width: usize,
}

/// How the right rows of a join in time are found.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum How {
    Temporal(AsOf),
    Nearest { left: usize, right: usize, comparison: Comparison },
}

/// What is known of an operator's output.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) append_only: bool,
    pub(super) time: Vec<Option<TimeColumn>>,
    /// Sets of columns, each of which identifies a row; the first is the preferred one.
    pub(super) keys: Vec<Vec<usize>>,
    pub(super) state: StateBound,
}

/// An operator in the graph.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) op: Op,
    pub(super) inputs: Vec<NodeId>,
    pub(super) schema: SchemaRef,
    /// The same types under positional names, for typing expressions.
    pub(super) typed: Arc<DFSchema>,
    pub(super) known: Known,
    pub(super) span: Option<Span>,
}

/// All operators; inputs stand before their readers.
#[derive(Default)]
pub(super) struct Graph {
    pub(super) nodes: Vec<Node>,
    /// Nodes whose output is kept: readers take it from there and are not fused with them.
    pub(super) kept: HashSet<NodeId>,
}

impl Graph {
    /// Adds an operator, or gives the equal one that is there already.
    pub(super) fn add(
        &mut self,
        op: Op,
        inputs: Vec<NodeId>,
        schema: SchemaRef,
        known: Known,
        span: Option<Span>,
    ) -> Result<NodeId> {
        let equal = self.nodes.iter().position(|node| {
            node.inputs == inputs && node.known.time == known.time && same_types(&node.schema, &schema) && node.op == op
        });
        if let Some(id) = equal {
            return Ok(id);
        }
        let typed = typed([schema.as_ref()])?;
        self.nodes.push(Node { op, inputs, schema, typed, known, span });
        Ok(self.nodes.len() - 1)
    }

    /// A node and all that it reads, ascending.
    pub(super) fn upstream(&self, roots: impl IntoIterator<Item = NodeId>) -> Vec<NodeId> {
        let mut seen = vec![false; self.nodes.len()];
        let mut todo: Vec<NodeId> = roots.into_iter().collect();
        while let Some(id) = todo.pop() {
            if !std::mem::replace(&mut seen[id], true) {
                todo.extend(&self.nodes[id].inputs);
            }
        }
        (0..self.nodes.len()).filter(|id| seen[*id]).collect()
    }
}

fn same_types(a: &Schema, b: &Schema) -> bool {
    a.fields().len() == b.fields().len() && a.fields().iter().zip(b.fields()).all(|(a, b)| a.data_type() == b.data_type())
}

/// Schemas side by side under positional names.
pub(super) fn typed<'a>(schemas: impl IntoIterator<Item = &'a Schema>) -> Result<Arc<DFSchema>> {
    let fields = schemas.into_iter().flat_map(|schema| schema.fields().iter());
    let fields: Vec<Field> =
        fields.enumerate().map(|(index, field)| field.as_ref().clone().with_name(format!("#{index}"))).collect();
    Ok(Arc::new(DFSchema::try_from(Schema::new(fields)).map_err(internal)?))
}

/// The field of an output column.
pub(super) fn field(expr: &Expr, name: &str, types: &DFSchema) -> Result<Field> {
    let data_type = expr.get_type(types).map_err(internal)?;
    let nullable = expr.nullable(types).map_err(internal)?;
    Ok(Field::new(name, data_type, nullable))
}
