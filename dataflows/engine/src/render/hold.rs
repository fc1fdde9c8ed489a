//! Operators that hold changes back.

use std::sync::Arc;

use highwater_plan::{Hold, Node, NodeId, TimeKind};

use super::Renderer;
use crate::operator::DeltaStream;
use crate::operator::epoch::{EpochLogic, Input};
use crate::operator::exchange::Route;
use crate::operator::hold::{Every, UntilPassed};
use crate::operator::late::{RowWindows, Watermark};

impl<'scope> Renderer<'scope, '_> {
    pub(super) fn hold(&mut self, id: NodeId, node: &Node, hold: &Hold) -> DeltaStream<'scope> {
        let stats = self.stats(id, "hold");
        let logic: Box<dyn EpochLogic> = match *hold {
            Hold::Every { millis } => Box::new(Every::new(millis, Arc::clone(&node.schema))),
            Hold::UntilPassed { column, kind } => {
                let time = &self.shared.job.plan.nodes[node.inputs[0]].properties.time[column];
                let sources = time.as_ref().map(|time| time.sources.clone()).unwrap_or_default();
                let windows = RowWindows::Bound { column, kind };
                // A row of its own changes nothing that was given: only a window's rows can come too late for it.
                let gate =
                    (kind != TimeKind::Event).then(|| self.gate(windows.clone(), "hold", id, &sources, Arc::clone(&stats)));
                let errors = self.errors(id, "hold");
                let watermark = Watermark::of(sources);
                Box::new(UntilPassed::new((column, kind), watermark, gate, errors, Arc::clone(&node.schema)))
            }
        };
        let input = Input { stream: self.stream(node.inputs[0]), route: Route::Here };
        self.clocked_operator(stats, vec![input], logic)
    }
}
