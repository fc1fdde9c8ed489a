//! Operators with sessions.

use std::sync::Arc;

use highwater_plan::{Aggregate, Node, NodeId, OutputNames, SessionAssign};

use super::{Renderer, own_source};
use crate::operator::DeltaStream;
use crate::operator::epoch::{EpochLogic, Input};
use crate::operator::exchange::Route;
use crate::operator::late::Watermark;
use crate::operator::session::aggregate::SessionAggregate;
use crate::operator::session::assign::SessionAssigner;
use crate::operator::session::{Refused, SessionSpec};
use crate::operator::sides::LateRows;
use crate::stats::OperatorStats;

impl<'scope> Renderer<'scope, '_> {
    /// Rows with their sessions.
    pub(super) fn session(&mut self, id: NodeId, node: &Node, assign: &SessionAssign) -> DeltaStream<'scope> {
        let stats = self.stats(id, "session");
        let spec = self.session_spec(id, node, assign, "session", &stats);
        let input = Arc::clone(&self.shared.job.plan.nodes[node.inputs[0]].schema);
        let logic = SessionAssigner::new(spec, &input, Arc::clone(&node.schema));
        self.with_sessions(node, assign, stats, Box::new(logic))
    }

    /// Groups that are sessions.
    pub(super) fn session_aggregate(
        &mut self,
        id: NodeId,
        node: &Node,
        aggregate: &Aggregate,
        assign: &SessionAssign,
    ) -> DeltaStream<'scope> {
        let stats = self.stats(id, "session aggregate");
        let spec = self.session_spec(id, node, assign, "session aggregate", &stats);
        let input = &self.shared.job.plan.nodes[node.inputs[0]];
        let (schema, append_only) = (Arc::clone(&input.schema), input.properties.append_only);
        let logic = SessionAggregate::new(spec, aggregate, &schema, append_only, Arc::clone(&node.schema));
        self.with_sessions(node, assign, stats, Box::new(logic))
    }

    fn session_spec(
        &self,
        id: NodeId,
        node: &Node,
        assign: &SessionAssign,
        operator: &str,
        stats: &Arc<OperatorStats>,
    ) -> SessionSpec {
        let time = &self.shared.job.plan.nodes[node.inputs[0]].properties.time[assign.time];
        let sources = time.as_ref().map(|time| time.sources.clone()).unwrap_or_default();
        let relations = self.shared.job.sources.iter().map(|source| self.view(&OutputNames::late(&source.name))).collect();
        SessionSpec {
            assign: assign.clone(),
            watermark: Watermark::of(sources.clone()),
            lateness: self.lateness(),
            refused: Refused {
                late: LateRows {
                    worker: self.worker(),
                    operator: format!("{operator} @{id}"),
                    relations,
                    fallback: own_source(&self.shared.job, &sources),
                    before_images: self.of_tables(&sources),
                },
                errors: self.errors(id, operator),
                stats: Arc::clone(stats),
                job: Arc::clone(&self.shared.stats),
            },
        }
    }

    fn with_sessions(
        &mut self,
        node: &Node,
        assign: &SessionAssign,
        stats: Arc<OperatorStats>,
        logic: Box<dyn EpochLogic>,
    ) -> DeltaStream<'scope> {
        let input = Input { stream: self.stream(node.inputs[0]), route: Route::ByColumns(assign.partition.clone()) };
        self.clocked_operator(stats, vec![input], logic)
    }
}
