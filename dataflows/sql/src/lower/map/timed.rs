//! Maps onto joins in time: what reads only the left side is filtered before the join.

use arrow::datatypes::SchemaRef;
use datafusion_expr::Expr;
use highwater_plan::NodeId;

use crate::diagnose::Result;
use crate::lower::Lowerer;
use crate::lower::expr::columns;
use crate::lower::graph::{Beside, Known, Map, Op, Timed};

impl Lowerer<'_> {
    /// The join `input` with `map` in place of its own.
    pub(super) fn onto_timed(&mut self, input: NodeId, map: Map, schema: SchemaRef, known: Known) -> Result<NodeId> {
        let node = self.graph.nodes[input].clone();
        let Op::Timed(timed) = node.op else { return Ok(input) };
        let width = timed.beside.left_width;
        let of_left = |filter: &Expr| {
            let read = columns(filter);
            !read.is_empty() && read.iter().all(|column| *column < width)
        };
        let (below, filters): (Vec<Expr>, Vec<Expr>) = map.filters.into_iter().partition(of_left);
        let mut inputs = node.inputs;
        inputs[0] = self.filter(inputs[0], below)?;
        let known = Known { state: node.known.state, ..known };
        let beside = Beside { map: Map { filters, exprs: map.exprs }, ..timed.beside };
        self.graph.add(Op::Timed(Timed { beside, how: timed.how }), inputs, schema, known, node.span)
    }
}
