//! Joins with a side that several joins share, as operators: what [`highwater_plan::sharing`] decided.

use std::collections::BTreeSet;
use std::sync::Arc;

use highwater_plan::sharing::{Reader, SharedSide, needed, shared_sides};
use highwater_plan::{Job, Join, Node, NodeId};

use super::Renderer;
use crate::operator::DeltaStream;
use crate::operator::epoch::{Input, epoch_operator};
use crate::operator::exchange::Route;
use crate::operator::join::arranged::ArrangedJoin;
use crate::operator::join::shared::{Keep, SharedRows};
use crate::operator::map::Mapper;

/// The shared sides of a job, and those that are rendered by now.
pub(super) struct Sharing<'scope> {
    sides: Vec<SharedSide>,
    arranged: Vec<Option<(DeltaStream<'scope>, SharedRows)>>,
}

impl Sharing<'_> {
    /// Decides what is shared.
    pub(super) fn new(job: &Job) -> Self {
        let sides = shared_sides(job);
        Sharing { arranged: sides.iter().map(|_| None).collect(), sides }
    }

    /// The nodes to render.
    pub(super) fn needed(&self, job: &Job) -> BTreeSet<NodeId> {
        needed(job, &self.sides)
    }

    /// Which shared side a join reads, and how.
    pub(super) fn of(&self, join: NodeId) -> Option<(usize, Reader)> {
        let reader = |side: &SharedSide| side.readers.iter().find(|reader| reader.join == join).cloned();
        self.sides.iter().enumerate().find_map(|(index, side)| Some((index, reader(side)?)))
    }
}

impl<'scope> Renderer<'scope, '_> {
    /// A join that reads the shared side `shared`.
    pub(super) fn arranged_join(
        &mut self,
        id: NodeId,
        node: &Node,
        join: &Join,
        shared: usize,
        reader: &Reader,
    ) -> DeltaStream<'scope> {
        let (changes, rows) = self.arranged(shared);
        let sides = [0, 1].map(|side| &self.shared.job.plan.nodes[node.inputs[side]]);
        let append_only = sides.map(|side| side.properties.append_only);
        let mapper = Mapper::new(join.map.clone(), Arc::clone(&node.schema), self.errors(id, "join"));
        let schemas = [&sides[0].schema, &sides[1].schema];
        let logic = ArrangedJoin::new(join, schemas, append_only, mapper, reader.side, &reader.columns, rows);
        let inputs = [0, 1].map(|side| {
            if side == reader.side {
                return Input { stream: changes.clone(), route: Route::Here };
            }
            let on = join.on.iter().map(|on| if side == 0 { on.0 } else { on.1 }).collect();
            Input { stream: self.input(id, side), route: Route::ByColumns(on) }
        });
        epoch_operator(self.scope, self.stats(id, "join"), inputs.into(), None, Box::new(logic))
    }

    /// The changes and the rows of a shared side, rendered when they are asked for first.
    fn arranged(&mut self, shared: usize) -> (DeltaStream<'scope>, SharedRows) {
        if let Some(arranged) = &self.sharing.arranged[shared] {
            return arranged.clone();
        }
        let side = self.sharing.sides[shared].clone();
        let node = &self.shared.job.plan.nodes[side.node];
        let stats = self.stats(side.node, "arrangement");
        let rows = SharedRows::new(&node.schema, &side.key, &side.columns, node.properties.append_only, Arc::clone(&stats));
        let input = Input { stream: self.stream(side.node), route: Route::ByColumns(side.key) };
        let changes = epoch_operator(self.scope, stats, vec![input], None, Box::new(Keep(rows.clone())));
        self.sharing.arranged[shared] = Some((changes.clone(), rows.clone()));
        (changes, rows)
    }
}

#[cfg(test)]
mod sharing;
#[cfg(test)]
mod tests;
