//! Temporal filters.

use std::sync::Arc;

use highwater_plan::{Node, NodeId, TemporalFilter};

use super::Renderer;
use crate::operator::DeltaStream;
use crate::operator::epoch::{Input, Logic};
use crate::operator::exchange::Route;
use crate::operator::temporal::Temporal;

impl<'scope> Renderer<'scope, '_> {
    pub(super) fn temporal(&mut self, id: NodeId, node: &Node, filter: &TemporalFilter) -> DeltaStream<'scope> {
        let input = &self.shared.job.plan.nodes[node.inputs[0]];
        // A row and its retraction meet on one worker, so that what was scheduled for it is forgotten.
        let route = match input.properties.append_only {
            true => Route::Here,
            false => Route::ByColumns((0..input.schema.fields().len()).collect()),
        };
        let logic = Temporal::new(filter.clone(), Arc::clone(&node.schema), self.errors(id, "temporal"));
        let inputs = vec![Input { stream: self.stream(node.inputs[0]), route }];
        self.awake_operator(id, "temporal", inputs, Logic::anywhere(logic))
    }
}
