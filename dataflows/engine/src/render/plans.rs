//! Small jobs by hand, for tests: every column is a nullable Int64.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use highwater_plan::{
    Aggregate, AggregateCall, AggregateFunction, Emit, Expr, Grouping, Job, Join, JoinKind, JoinWindow, Map, Node, NodeId, Op,
    Options, Plan, Properties, Settings, Source, SourceKind, StateBound, TimeKind, TimeSource, View,
};

/// Columns `c0`, `c1` and so on.
pub(super) fn schema(columns: usize) -> SchemaRef {
    let field = |index| Field::new(format!("c{index}"), DataType::Int64, true);
    Arc::new(Schema::new((0..columns).map(field).collect::<Vec<_>>()))
}

/// A job under construction.
pub(super) struct Plans(pub(super) Job);

impl Plans {
    pub(super) fn new() -> Self {
        Plans(Job {
            sources: Vec::new(),
            plan: Plan::default(),
            views: Vec::new(),
            sinks: Vec::new(),
            settings: Settings::default(),
            warnings: Vec::new(),
        })
    }

    fn node(&mut self, op: Op, inputs: Vec<NodeId>, columns: usize, append_only: bool) -> NodeId {
        let properties = Properties { append_only, time: vec![None; columns], unique_key: None, state: StateBound::Stateless };
        self.0.plan.push(Node { op, inputs, schema: schema(columns), properties, span: None })
    }

    /// A stream.
    pub(super) fn stream(&mut self, name: &str, columns: usize) -> NodeId {
        self.source(name, columns, SourceKind::Source, Vec::new())
    }

    /// A table whose first column is its primary key.
    pub(super) fn table(&mut self, name: &str, columns: usize) -> NodeId {
        self.source(name, columns, SourceKind::Table, vec![0])
    }

    pub(super) fn source(&mut self, name: &str, columns: usize, kind: SourceKind, primary_key: Vec<usize>) -> NodeId {
        let append_only = primary_key.is_empty();
        self.0.sources.push(Source {
            name: name.to_owned(),
            kind,
            schema: schema(columns),
            used: (0..columns).collect(),
            primary_key,
            defaults: Vec::new(),
            metadata: Vec::new(),
            watermark: None,
            options: Options::default(),
            append_only: true,
            keeps_late_rows: false,
            span: None,
        });
        let op = Op::Source { source: self.0.sources.len() - 1, projection: (0..columns).collect() };
        self.node(op, Vec::new(), columns, append_only)
    }

    /// These columns of a node.
    pub(super) fn project(&mut self, input: NodeId, columns: &[usize]) -> NodeId {
        let append_only = self.0.plan.nodes[input].properties.append_only;
        self.node(Op::Map(select(columns)), vec![input], columns.len(), append_only)
    }

    /// The largest value of column `value` per group.
    pub(super) fn max(&mut self, input: NodeId, keys: &[usize], value: usize) -> NodeId {
        let call = AggregateCall::of(AggregateFunction::Max, Some(value), DataType::Int64);
        let grouping = Grouping::Keys;
        let aggregate = Aggregate { keys: keys.to_vec(), calls: vec![call], grouping, emit: Emit::Changes };
        self.node(Op::Aggregate(aggregate), vec![input], keys.len() + 1, false)
    }

    /// Rows whose column is true; what is true is the same if it reads the same.
    pub(super) fn filter(&mut self, input: NodeId, column: usize) -> NodeId {
        let columns = self.0.plan.nodes[input].schema.fields().len();
        let append_only = self.0.plan.nodes[input].properties.append_only;
        let map = Map { filters: vec![Expr::column(column, DataType::Int64, true)], exprs: None };
        self.node(Op::Map(map), vec![input], columns, append_only)
    }

    /// These of the left then right columns of the pairs.
    pub(super) fn join(&mut self, inputs: [NodeId; 2], on: &[(usize, usize)], columns: &[usize]) -> NodeId {
        let append_only = inputs.iter().all(|input| self.0.plan.nodes[*input].properties.append_only);
        let join = Join {
            kind: JoinKind::Inner,
            on: on.to_vec(),
            nulls_equal: false,
            residual: Vec::new(),
            map: select(columns),
            window: None,
            interval: None,
            emit: Emit::Changes,
        };
        self.node(Op::Join(join), inputs.to_vec(), columns.len(), append_only)
    }

    /// Makes a join one of windows.
    pub(super) fn windowed(&mut self, id: NodeId) {
        if let Op::Join(join) = &mut self.0.plan.nodes[id].op {
            join.window = Some(JoinWindow {
                on: 0,
                kind: TimeKind::WindowEnd { size: 1 },
                left: vec![TimeSource::of(0)],
                right: vec![TimeSource::of(0)],
            });
        }
    }

    /// A view of a node, with all columns as its key.
    pub(super) fn view(&mut self, name: &str, node: NodeId) {
        let schema = Arc::clone(&self.0.plan.nodes[node].schema);
        let key = (0..schema.fields().len()).collect();
        self.0.views.push(View { name: name.to_owned(), node, schema, key, emit: Emit::Changes, span: None });
    }
}

fn select(columns: &[usize]) -> Map {
    let exprs = columns.iter().map(|column| Expr::column(*column, DataType::Int64, true)).collect();
    Map { filters: Vec::new(), exprs: Some(exprs) }
}
