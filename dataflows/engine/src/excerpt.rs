//! A part of a job that is run by itself: to make the state that a job was changed to need, of what is kept already.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use highwater_plan::sharing::shared_sides;
use highwater_plan::{Job, NodeId};

use crate::alarm::Alarms;
use crate::checkpoint::{CLOCK, Checkpoints, KeptOperator, SideRelations};
use crate::engine::{EngineError, relations};
use crate::job::{JobShared, JobState};
use crate::recorded::Script;
use crate::render::render;
use crate::stats::JobStats;

/// What is run of a job. Each operator is as it would be in the whole job, and so is its state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Excerpt {
    /// The nodes that are run: of each but those that are given, its [inputs](Excerpt::inputs), too.
    pub nodes: BTreeSet<NodeId>,
    /// The names of views and sinks that are run; their nodes are, or are given.
    pub outputs: BTreeSet<String>,
    /// Nodes whose rows are not computed but fed, with all their columns: the first of them as source
    /// `job.sources.len()` ([`crate::FeedSpec::source`]), and so on.
    pub given: Vec<NodeId>,
}

impl Excerpt {
    /// Per node of a job's plan what its operators read: its inputs, or what it shares with other nodes instead.
    pub fn inputs(job: &Job) -> Vec<Vec<NodeId>> {
        let mut inputs: Vec<Vec<NodeId>> = job.plan.nodes.iter().map(|node| node.inputs.clone()).collect();
        for side in shared_sides(job) {
            for reader in &side.readers {
                inputs[reader.join][reader.side] = side.node;
            }
        }
        inputs
    }
}

/// What of a job keeps state, and in which form, whatever the number of workers.
///
/// Cost: that of building the job's dataflow, which is not run.
pub fn kept_operators(job: &Arc<Job>) -> Result<Vec<KeptOperator>, EngineError> {
    let job = Arc::clone(job);
    let build = move |worker: &mut timely::worker::Worker| {
        let shared = Arc::new(JobShared {
            id: 0,
            name: "inventory".into(),
            views: relations(&job, 1),
            stats: Arc::new(JobStats::new(job.sources.len(), Arc::new(Checkpoints::new(true, 1, None)))),
            alarms: Alarms::default(),
            published: vec![AtomicU64::new(0)],
            state: Mutex::new(JobState::Running),
            listeners: Mutex::default(),
            wake_all: Arc::new(|| {}),
            first: vec![BTreeSet::new(); job.sources.len()],
            excerpt: None,
            script: Script::default(),
            recorder: None,
            job: Arc::clone(&job),
        });
        let dataflow = worker.next_dataflow_index();
        let sinks = job.sinks.iter().map(|_| None).collect();
        let rendered = worker.dataflow_named("inventory", |scope| render(scope, &shared, sinks, &[]));
        let _relations = SideRelations::new(&shared, 0);
        worker.drop_dataflow(dataflow);
        drop(rendered);
        let mut kept = shared.stats.checkpoints.kept(0);
        kept.retain(|kept| kept.operator.node != CLOCK);
        kept
    };
    let guards = timely::execute(timely::Config::thread(), build).map_err(EngineError::Start)?;
    let kept = guards.join().into_iter().next().unwrap_or_else(|| Err("no worker".into()));
    kept.map_err(EngineError::Start)
}
