//! Operators over ordered partitions.

use std::sync::Arc;

use highwater_plan::{Node, NodeId, Over, OverClosing, PartitionWindow, TimeKind, TopN};

use super::Renderer;
use crate::operator::DeltaStream;
use crate::operator::epoch::{Input, Logic, epoch_operator};
use crate::operator::exchange::Route;
use crate::operator::late::{RowWindows, Watermark};
use crate::operator::over::{self, Closing};
use crate::operator::topn::{self, Windows};
use crate::stats::OperatorStats;

impl<'scope> Renderer<'scope, '_> {
    pub(super) fn topn(&mut self, id: NodeId, node: &Node, topn: &TopN) -> DeltaStream<'scope> {
        let input = &self.shared.job.plan.nodes[node.inputs[0]];
        let stats = self.stats(id, "topn");
        let windows = topn.window.as_ref().map(|window| self.windows(id, "topn", input, &topn.partition, window, &stats));
        let clock = windows.is_some().then(|| self.clock.clone());
        let growing = input.properties.append_only;
        let mut logic = topn::TopN::new(topn, &input.schema, growing, Arc::clone(&node.schema), windows);
        let ttl = self.time_to_live(id, &stats);
        let input = Input { stream: self.stream(node.inputs[0]), route: Route::ByColumns(topn.partition.clone()) };
        if let Some(ttl) = ttl {
            logic = logic.that_expire(ttl);
            return self.expiring_operator(stats, vec![input], true, Logic::anywhere(logic));
        }
        epoch_operator(self.scope, stats, vec![input], clock, Logic::anywhere(logic))
    }

    pub(super) fn over(&mut self, id: NodeId, node: &Node, over: &Over) -> DeltaStream<'scope> {
        let input = &self.shared.job.plan.nodes[node.inputs[0]];
        let stats = self.stats(id, "over");
        let closing = over.closing.as_ref().map(|closing| match closing {
            OverClosing::Window(window) => Closing::Window(self.windows(id, "over", input, &over.partition, window, &stats)),
            OverClosing::Time => {
                // The instant of a row is a window of its own, the shortest one there is.
                let instant = PartitionWindow { key: 0, kind: TimeKind::WindowStart { size: 1 } };
                Closing::Time(self.windows(id, "over", input, &[over.order[0].column], &instant, &stats))
            }
        });
        let clock = closing.is_some().then(|| self.clock.clone());
        let ttl = self.time_to_live(id, &stats);
        let mut logic = over::Over::new(over, &input.schema, Arc::clone(&node.schema), self.errors(id, "over"), closing);
        let input = Input { stream: self.stream(node.inputs[0]), route: Route::ByColumns(over.partition.clone()) };
        if let Some(ttl) = ttl {
            logic = logic.that_expire(ttl);
            return self.expiring_operator(stats, vec![input], true, Logic::anywhere(logic));
        }
        epoch_operator(self.scope, stats, vec![input], clock, Logic::anywhere(logic))
    }

    /// What closes the windows that partitions of `input` belong to.
    fn windows(
        &self,
        id: NodeId,
        operator: &str,
        input: &Node,
        partition: &[usize],
        window: &PartitionWindow,
        stats: &Arc<OperatorStats>,
    ) -> Windows {
        let column = partition[window.key];
        let sources = input.properties.time[column].as_ref().map(|time| time.sources.clone()).unwrap_or_default();
        let rows = RowWindows::Bound { column, kind: window.kind };
        Windows {
            gate: self.gate(rows.clone(), operator, id, &sources, Arc::clone(stats)),
            rows,
            kind: window.kind,
            watermark: Watermark::of(sources),
            lateness: self.lateness(),
        }
    }
}
