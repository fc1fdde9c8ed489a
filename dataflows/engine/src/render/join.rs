//! Joins as operators.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow_row::{RowConverter, SortField};
use highwater_plan::{Join, JoinInterval, JoinKind, Map, Node, NodeId, TimeSource};

use super::Renderer;
use crate::operator::DeltaStream;
use crate::operator::epoch::{Input, Logic, epoch_operator};
use crate::operator::exchange::Route;
use crate::operator::join::interval::{IntervalJoin, Limits};
use crate::operator::join::matching::MatchingJoin;
use crate::operator::join::{HashJoin, Window};
use crate::operator::late::{LateGate, RowWindows, Watermark};
use crate::operator::map::Mapper;
use crate::stats::OperatorStats;

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
        let condition = (!join.residual.is_empty()).then(|| {
            let filters = Map { filters: join.residual.clone(), exprs: None };
            Mapper::new(filters, Arc::new(Schema::empty()), self.errors(id, "join"))
        });
        let ttl = self.time_to_live(id, &stats);
        let expires = ttl.is_some();
        let routes = [0, 1].map(|side| route(join, sides, side));
        let logic: Logic = match (&join.interval, join.kind) {
            (Some(interval), _) => {
                let limits = self.limits(id, interval, &routes, &stats);
                Logic::anywhere(IntervalJoin::new(join, interval, schemas, append_only, mapper, condition, limits))
            }
            (None, JoinKind::Inner) => {
                let logic = HashJoin::new(join, schemas, append_only, mapper, self.join_window(id, join, &stats));
                Logic::anywhere(match ttl {
                    Some(ttl) => logic.that_expires(ttl),
                    None => logic,
                })
            }
            (None, _) => {
                let window = self.join_window(id, join, &stats);
                let logic = MatchingJoin::new(join, schemas, append_only, mapper, condition, window);
                Logic::anywhere(match ttl {
                    Some(ttl) => logic.that_expires(ttl),
                    None => logic,
                })
            }
        };
        let mut inputs = Vec::with_capacity(2);
        for (side, route) in routes.into_iter().enumerate() {
            inputs.push(Input { stream: self.input(id, side), route });
        }
        match (&join.window, &join.interval) {
            (None, None) if expires => self.expiring_operator(stats, inputs, true, logic),
            (None, None) => epoch_operator(self.scope, stats, inputs, None, logic),
            (Some(_), _) => epoch_operator(self.scope, stats, inputs, Some(self.clock.clone()), logic),
            (None, Some(_)) => self.clocked_operator(stats, inputs, logic),
        }
    }

    /// How a windowed join finds rows of a window and frees them.
    fn join_window(&self, id: NodeId, join: &Join, stats: &Arc<OperatorStats>) -> Option<Window> {
        let window = join.window.as_ref()?;
        let sources = TimeSource::merged(window.left.iter().chain(&window.right));
        let columns = join.on[window.on];
        let gate = |column: usize, of_side: &[TimeSource]| {
            let windows = RowWindows::Bound { column, kind: window.kind };
            let mut gate = self.gate(windows, "join", id, &sources, Arc::clone(stats));
            gate.late.before_images = self.of_tables(of_side);
            gate
        };
        let gates = [gate(columns.0, &window.left), gate(columns.1, &window.right)];
        Some(Window { watermark: Watermark::of(sources), lateness: self.lateness(), gates })
    }

    /// Which rows an interval join refuses.
    fn limits(&self, id: NodeId, interval: &JoinInterval, routes: &[Route; 2], stats: &Arc<OperatorStats>) -> Limits {
        let gates = [0, 1].map(|side| {
            let windows = RowWindows::Bound { column: interval.columns[side], kind: interval.kinds[side] };
            let gate = self.gate(windows, "join", id, &interval.sources, Arc::clone(stats));
            // A row that goes everywhere is late once.
            let silent = matches!(routes[side], Route::Everywhere) && self.worker() > 0;
            LateGate { silent, ..gate }
        });
        Limits { watermark: Watermark::of(interval.sources.clone()), lateness: self.lateness(), gates }
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
