//! `UNNEST` as an operator of its own: arrays that are computed become columns below it.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use datafusion_expr::Expr;
use datafusion_expr::logical_plan::Unnest as SelectUnnest;
use highwater_plan::{NodeId, StateBound, Unnest};

use super::Lowerer;
use super::expr::at;
use super::graph::{Known, Op};
use crate::bind::UnnestNode;
use crate::diagnose::{Result, error};

impl Lowerer<'_> {
    /// `FROM t CROSS JOIN UNNEST(..)`.
    pub(super) fn unnest(&mut self, node: &UnnestNode) -> Result<NodeId> {
        let input = self.plan(&node.input)?;
        let width = self.graph.nodes[input].schema.fields().len();
        let lists = self.positional(&node.lists, &[&node.input])?;
        let (input, lists) = self.with_keys(input, lists)?;
        let keep = if node.input.schema().fields().is_empty() { Vec::new() } else { (0..width).collect() };
        self.unnested(input, Unnest { keep, lists, ordinality: node.ordinality, outer: node.outer })
    }

    /// `SELECT unnest(..)`: DataFusion's node over columns that hold the arrays.
    pub(super) fn select_unnest(&mut self, unnest: &SelectUnnest, names: &[String]) -> Result<NodeId> {
        let deep = unnest.list_type_columns.iter().any(|(_, list)| list.depth != 1);
        if deep || !unnest.struct_type_columns.is_empty() {
            return Err(error("not-supported", "this use of unnest() in SELECT is not supported")
                .at(self.places.function("unnest").or(self.places.statement))
                .help("write FROM t CROSS JOIN UNNEST(t.items) AS i(item)"));
        }
        let input = self.plan(&unnest.input)?;
        let width = self.graph.nodes[input].schema.fields().len();
        let lists: Vec<usize> = unnest.list_type_columns.iter().map(|(column, _)| *column).collect();
        let keep: Vec<usize> = (0..width).filter(|column| !lists.contains(column)).collect();
        // Items come behind the columns that are kept: put them back where their arrays stood.
        let place = |column: usize| match lists.iter().position(|list| *list == column) {
            Some(list) => keep.len() + list,
            None => keep.iter().position(|kept| *kept == column).expect("a column is an array or is kept"),
        };
        let exprs: Vec<Expr> = (0..width).map(|column| at(place(column))).collect();
        let outer = unnest.options.preserve_nulls();
        let node = self.unnested(input, Unnest { keep: keep.clone(), lists: lists.clone(), ordinality: false, outer })?;
        self.project(node, exprs, names)
    }

    /// A row per item; columns are the kept ones, the items, the number.
    pub(super) fn unnested(&mut self, input: NodeId, unnest: Unnest) -> Result<NodeId> {
        let node = &self.graph.nodes[input];
        let mut fields: Vec<Field> = unnest.keep.iter().map(|column| node.schema.field(*column).clone()).collect();
        let mut time: Vec<_> = unnest.keep.iter().map(|column| node.known.time[*column].clone()).collect();
        for list in &unnest.lists {
            let item = match node.schema.field(*list).data_type() {
                DataType::List(item) => item.data_type().clone(),
                other => {
                    let found = crate::bind::sql_type(other);
                    return Err(error("wrong-arguments", format!("UNNEST takes an array, this is {found}"))
                        .at(self.places.function("unnest").or(self.places.statement)));
                }
            };
            fields.push(Field::new(format!("item{}", fields.len()), item, true));
            time.push(None);
        }
        let mut keys = Vec::new();
        if unnest.ordinality {
            fields.push(Field::new("ordinality", DataType::Int64, unnest.outer));
            time.push(None);
            let kept = |key: &Vec<usize>| {
                let key = key.iter().map(|column| unnest.keep.iter().position(|kept| kept == column));
                key.chain([Some(fields.len() - 1)]).collect::<Option<Vec<usize>>>()
            };
            keys = node.known.keys.iter().filter_map(kept).collect();
        }
        let known = Known { append_only: node.known.append_only, time, keys, state: StateBound::Stateless };
        let place = self.places.function("unnest").or(self.places.statement);
        self.graph.add(Op::Unnest(unnest), vec![input], Arc::new(Schema::new(fields)), known, place)
    }
}
