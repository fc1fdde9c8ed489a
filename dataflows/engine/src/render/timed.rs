//! Joins in time, as operators.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use highwater_plan::{AsOf, Beside, Nearest, Node, NodeId, TemporalJoin, TimeKind};

use super::Renderer;
use crate::operator::DeltaStream;
use crate::operator::epoch::{Input, Logic, epoch_operator};
use crate::operator::exchange::Route;
use crate::operator::join::couples::Couples;
use crate::operator::join::lookup::Lookup;
use crate::operator::join::nearest::NearestJoin;
use crate::operator::join::versioned::{Versioned, Versions};
use crate::operator::late::{LateSplit, RowWindows, Watermark};
use crate::operator::sides::LateRows;

/// A row's time as a window: over when the watermark is past it.
const INSTANT: TimeKind = TimeKind::WindowStart { size: 1 };

impl<'scope> Renderer<'scope, '_> {
    pub(super) fn temporal_join(&mut self, id: NodeId, node: &Node, temporal: &TemporalJoin) -> DeltaStream<'scope> {
        let couples = self.couples(id, node, &temporal.beside, "temporal join");
        let inputs = self.sides(node, &temporal.beside);
        let AsOf::Event { left, right, valid, first_of_equal, sources } = &temporal.as_of else {
            let sides = [0, 1].map(|side| &self.shared.job.plan.nodes[node.inputs[side]]);
            let append_only = sides.map(|side| side.properties.append_only);
            let logic = Lookup::new(couples, &sides[0].schema, append_only);
            return self.operator(id, "temporal join", inputs, false, Box::new(logic));
        };
        let [mut rows, versions] = inputs.try_into().unwrap_or_else(|_| unreachable!("a join has two inputs"));
        let windows = RowWindows::Bound { column: *left, kind: INSTANT };
        let late = self.stats(id, "late");
        let mut gate = self.gate(windows.clone(), "temporal join", id, sources, Arc::clone(&late));
        gate.lateness = 0;
        let watermark = Watermark::of(sources.clone());
        // What tables take back and give anew meets where rows with equal keys do, and is told from late rows there.
        let route = if gate.late.before_images { std::mem::replace(&mut rows.route, Route::Here) } else { Route::Here };
        let input = Input { stream: rows.stream, route };
        let split = Box::new(LateSplit { gate, watermark: watermark.clone() });
        rows.stream = epoch_operator(self.scope, late, vec![input], Some(self.clock.clone()), split);
        let stats = self.stats(id, "temporal join");
        let gate = self.gate(windows, "temporal join", id, sources, Arc::clone(&stats));
        let logic = Versioned {
            versions: Versions::new(&couples),
            couples,
            times: [*left, *right],
            valid: *valid,
            first_of_equal: *first_of_equal,
            watermark,
            errors: gate.errors,
            // Versions are as they came, deletions too.
            late: LateRows { before_images: false, ..gate.late },
            stats: Arc::clone(&stats),
            job: gate.job,
            waiting: BTreeMap::new(),
            waiting_rows: 0,
            log: None,
        };
        epoch_operator(self.scope, stats, vec![rows, versions], Some(self.clock.clone()), Logic::anywhere(logic))
    }

    pub(super) fn nearest(&mut self, id: NodeId, node: &Node, nearest: &Nearest) -> DeltaStream<'scope> {
        let couples = self.couples(id, node, &nearest.beside, "asof join");
        let inputs = self.sides(node, &nearest.beside);
        let logic = NearestJoin::new(nearest, couples);
        self.operator(id, "asof join", inputs, false, Box::new(logic))
    }

    fn couples(&self, id: NodeId, node: &Node, beside: &Beside, name: &str) -> Couples {
        let schemas: [&SchemaRef; 2] = [0, 1].map(|side| &self.shared.job.plan.nodes[node.inputs[side]].schema);
        Couples::new(beside, schemas, Arc::clone(&node.schema), self.errors(id, name))
    }

    fn sides(&self, node: &Node, beside: &Beside) -> Vec<Input<'scope>> {
        let side = |side: usize| {
            let on = beside.on.iter().map(|on| if side == 0 { on.0 } else { on.1 }).collect();
            Input { stream: self.stream(node.inputs[side]), route: Route::ByColumns(on) }
        };
        vec![side(0), side(1)]
    }
}
