//! Joins as operators.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow_row::{RowConverter, SortField};
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
        let ttl = self.time_to_live(id, &stats);
        let expires = ttl.is_some();
        let clocked = window.is_some().then(|| self.clock.clone());
        let logic: Box<dyn EpochLogic> = match join.kind {
            JoinKind::Inner => {
                let logic = HashJoin::new(join, schemas, append_only, mapper, window);
                Box::new(match ttl {
                    Some(ttl) => logic.that_expires(ttl),
                    None => logic,
                })
            }
            _ => {
                let condition = (!join.residual.is_empty()).then(|| {
                    let filters = Map { filters: join.residual.clone(), exprs: None };
                    Mapper::new(filters, Arc::new(Schema::empty()), self.errors(id, "join"))
                });
                let logic = MatchingJoin::new(join, schemas, append_only, mapper, condition, window);
                Box::new(match ttl {
                    Some(ttl) => logic.that_expires(ttl),
                    None => logic,
                })
            }
        };
        let inputs = [0, 1].map(|side| Input { stream: self.input(id, side), route: route(join, sides, side) });
        if expires {
            return self.expiring_operator(stats, inputs.into(), true, logic);
        }
        epoch_operator(self.scope, stats, inputs.into(), clocked, logic)
    }
}

/// Where the rows of a side go.
///
/// Without keys every row of one side must meet every row of the other. So that not one worker has to do it all, one side
/// goes everywhere, and each row of the other to some worker: always the same one, because a retraction must find it. The
/// side whose rows are given alone is the one that is spread; if that is both, there is one worker for them.
fn route(join: &Join, sides: [&Node; 2], side: usize) -> Route {
    let on: Vec<usize> = join.on.iter().map(|on| if side == 0 { on.0 } else { on.1 }).collect();
    let everywhere = match join.kind {
        JoinKind::Full => None,
        JoinKind::Right => Some(0),
        JoinKind::Inner if sides[0].properties.unique_key.as_ref().is_some_and(Vec::is_empty) => Some(0),
        _ => Some(1),
    };
    match everywhere {
        Some(everywhere) if on.is_empty() && everywhere == side => Route::Everywhere,
        Some(_) if on.is_empty() && sides[side].properties.append_only => Route::Here,
        Some(_) if on.is_empty() => {
            let fields = sides[side].schema.fields().iter().enumerate();
            let hashed = |field: &Field| RowConverter::supports_fields(&[SortField::new(field.data_type().clone())]);
            Route::ByColumns(fields.filter(|(_, field)| hashed(field)).map(|(column, _)| column).collect())
        }
        _ => Route::ByColumns(on),
    }
}
