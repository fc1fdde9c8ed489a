//! Operators over ordered partitions.

use std::sync::Arc;

use highwater_plan::{Node, NodeId, PartitionWindow, TopN};

use super::Renderer;
use crate::operator::DeltaStream;
use crate::operator::epoch::{Input, epoch_operator};
use crate::operator::exchange::Route;
use crate::operator::late::{RowWindows, Watermark};
use crate::operator::topn::{self, Windows};
use crate::stats::OperatorStats;

impl<'scope> Renderer<'scope, '_> {
    pub(super) fn topn(&mut self, id: NodeId, node: &Node, topn: &TopN) -> DeltaStream<'scope> {
        let input = &self.shared.job.plan.nodes[node.inputs[0]];
        let stats = self.stats(id, "topn");
        let windows = topn.window.as_ref().map(|window| self.windows(id, "topn", input, &topn.partition, window, &stats));
        let clock = windows.is_some().then(|| self.clock.clone());
        let growing = input.properties.append_only;
        let logic = topn::TopN::new(topn, &input.schema, growing, Arc::clone(&node.schema), windows);
        let input = Input { stream: self.stream(node.inputs[0]), route: Route::ByColumns(topn.partition.clone()) };
        epoch_operator(self.scope, stats, vec![input], clock, Box::new(logic))
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
