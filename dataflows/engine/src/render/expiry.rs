//! `SET state_ttl`: what it changes in the dataflow.

use std::sync::Arc;

use highwater_plan::{Lifetime, NodeId};

use super::Renderer;
use crate::operator::DeltaStream;
use crate::operator::epoch::{Awake, Input, Logic, epoch_operator, epoch_operator_awake};
use crate::operator::exchange::Route;
use crate::operator::lives::TimeToLive;
use crate::operator::replace::Replace;
use crate::stats::OperatorStats;

impl<'scope> Renderer<'scope, '_> {
    /// How long a node keeps keys that no row touches, if not for ever.
    pub(super) fn time_to_live(&self, id: NodeId, stats: &Arc<OperatorStats>) -> Option<TimeToLive> {
        let job = &self.shared.job;
        let ttl = job.settings.state_ttl.filter(|_| job.lifetime(id) == Lifetime::Expires)?;
        Some(TimeToLive::new(ttl, Arc::clone(stats)))
    }

    /// An operator without watermarks whose keys may expire: then it is given every epoch, so that they go although no row
    /// comes to it.
    pub(super) fn expiring_operator(
        &mut self,
        stats: Arc<OperatorStats>,
        inputs: Vec<Input<'scope>>,
        expires: bool,
        logic: impl Into<Logic>,
    ) -> DeltaStream<'scope> {
        if !expires {
            return epoch_operator(self.scope, stats, inputs, None, logic);
        }
        let awake = Awake { ticks: self.ticks.clone(), alarm: self.shared.alarms.add(self.worker()) };
        epoch_operator_awake(self.scope, stats, inputs, None, Some(awake), logic.into())
    }

    /// The output of a view's node: where operators that forget may give a key anew, one row per key.
    pub(super) fn reconciled(&mut self, id: NodeId, stream: DeltaStream<'scope>) -> DeltaStream<'scope> {
        let job = Arc::clone(&self.shared.job);
        let node = &job.plan.nodes[id];
        let is_view = job.views.iter().any(|view| view.node == id);
        let key = node.properties.unique_key.clone().filter(|_| is_view && job.restarts(id));
        let (Some(key), Some(ttl)) = (key, job.settings.state_ttl) else { return stream };
        let stats = self.stats(id, "replace");
        let ttl = TimeToLive::new(ttl, Arc::clone(&stats));
        let logic = Replace::new(key.clone(), Arc::clone(&node.schema), node.properties.append_only, ttl);
        let input = Input { stream, route: Route::ByColumns(key) };
        epoch_operator(self.scope, stats, vec![input], None, Logic::anywhere(logic))
    }
}
