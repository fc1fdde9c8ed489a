//! Joins as operators.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use highwater_plan::{Join, JoinKind, Map, Node, NodeId};

use super::Renderer;
use crate::operator::DeltaStream;
use crate::operator::epoch::{EpochLogic, Input, epoch_operator};
use crate::operator::exchange::Route;
use crate::operator::join::matching::MatchingJoin;
use crate::operator::join::{HashJoin, Window};
use crate::operator::late::{RowWindows, Watermark};
use crate::operator::map::Mapper;

impl<'scope> Renderer<'scope, '_> {
    /// A join of two inputs by key.
    pub(super) fn join(&mut self, id: NodeId, node: &Node, join: &Join) -> DeltaStream<'scope> {
        if let Some((shared, reader)) = self.sharing.of(id) {
            return self.arranged_join(id, node, join, shared, &reader);
        }
        let sides = [0, 1].map(|side| &self.shared.job.plan.nodes[node.inputs[side]]);
        let schemas: [&SchemaRef; 2] = [&sides[0].schema, &sides[1].schema];
        let append_only = sides.map(|side| side.properties.append_only);
        let mapper = Mapper::new(join.map.clone(), Arc::clone(&node.schema), self.errors(id, "join"));
        let stats = self.stats(id, "join");
        let window = join.window.as_ref().map(|window| {
            let mut sources = [window.left.clone(), window.right.clone()].concat();
            sources.sort_unstable();
            sources.dedup();
            let columns = join.on[window.on];
            let gate = |column: usize| {
                let windows = RowWindows::Bound { column, kind: window.kind };
                self.gate(windows, "join", id, &sources, Arc::clone(&stats))
            };
            Window {
                watermark: Watermark::of(sources.clone()),
                lateness: self.lateness(),
                gates: [gate(columns.0), gate(columns.1)],
            }
        });
        let clocked = window.is_some().then(|| self.clock.clone());
        let logic: Box<dyn EpochLogic> = match join.kind {
            JoinKind::Inner => Box::new(HashJoin::new(join, schemas, append_only, mapper, window)),
            _ => {
                let condition = (!join.residual.is_empty()).then(|| {
                    let filters = Map { filters: join.residual.clone(), exprs: None };
                    Mapper::new(filters, Arc::new(Schema::empty()), self.errors(id, "join"))
                });
                Box::new(MatchingJoin::new(join, schemas, append_only, mapper, condition, window))
            }
        };
        let inputs = [0, 1].map(|side| {
            let on = join.on.iter().map(|on| if side == 0 { on.0 } else { on.1 }).collect();
            Input { stream: self.input(id, side), route: Route::ByColumns(on) }
        });
        epoch_operator(self.scope, stats, inputs.into(), clocked, logic)
    }
}
