//! A worker's part of `$late`, `$rejects` and `$errors` in checkpoints.
//!
//! Operators append to them without being asked in order, so they are saved when the outputs have passed the checkpoint's
//! epoch: then all of its rows are there, those of later epochs are told by theirs.

use std::sync::Arc;

use highwater_plan::{Job, Op, OutputNames};

use super::{Checkpoints, KeptFrom, OperatorId, OperatorState, Saved, Slot, Spread};
use crate::Time;
use crate::job::JobShared;
use crate::view::{LOG_KEYS, ViewHandle};

/// How many columns a saved row of such a relation has before the relation's own.
pub const LOG_COLUMNS: usize = LOG_KEYS + 1;

/// The side relations that a worker appends to.
pub(crate) struct SideRelations {
    checkpoints: Arc<Checkpoints>,
    worker: usize,
    relations: Vec<(Slot, OperatorId, Arc<ViewHandle>)>,
    /// The epoch of the last checkpoint that has them.
    last: Time,
    ended: bool,
}

impl SideRelations {
    /// Gives the relations back what they had, all of which has [come](super::Restore::is_over); `None` if nothing is to be saved.
    pub(crate) fn new(shared: &JobShared, worker: usize) -> Option<Self> {
        let checkpoints = Arc::clone(&shared.stats.checkpoints);
        if !checkpoints.are_used() {
            return None;
        }
        let (mut relations, since) = (Vec::new(), checkpoints.restore.as_ref().map_or(0, |restore| restore.epoch));
        for (node, name) in names(&shared.job) {
            let Some(view) = shared.views.iter().find(|view| view.name() == name) else { continue };
            let id = OperatorId { node, name: format!("rows of {name}") };
            let (slot, id) = checkpoints.register(worker, id, KeptFrom::Rows, &"rows");
            let restore = checkpoints.restore.as_ref();
            let had = restore.map(|restore| restore.take_relation(&id, worker).expect("all of the state has come"));
            view.resume_log(worker, since, &had.unwrap_or_default(), checkpoints.enabled);
            relations.push((slot, id, Arc::clone(view)));
        }
        let enabled = checkpoints.enabled;
        enabled.then_some(SideRelations { checkpoints, worker, relations, last: since, ended: false })
    }

    /// Hands out what was appended and dropped, if the outputs, which are at `frontier`, have passed a checkpoint's epoch;
    /// `ends`: nothing will be appended any more.
    pub(crate) fn save(&mut self, frontier: Option<Time>, ends: bool) {
        let due = self.checkpoints.due();
        if due > self.last && frontier.is_none_or(|frontier| frontier > due) {
            self.last = due;
            for (slot, state) in self.states(due) {
                self.checkpoints.give(slot, state);
            }
        }
        if ends && !std::mem::replace(&mut self.ended, true) {
            for (slot, state) in self.states(Time::MAX) {
                self.checkpoints.give_last(slot, state);
            }
        }
    }

    fn states(&self, through: Time) -> Vec<(Slot, OperatorState)> {
        let of = |(slot, id, view): &(Slot, OperatorId, Arc<ViewHandle>)| {
            let mut saved = Saved::default();
            let changes = view.save_log(self.worker, through);
            saved.entries(0, LOG_KEYS, Spread::ByColumns((0..LOG_KEYS).collect()), changes, None);
            (*slot, OperatorState { operator: id.clone(), worker: self.worker, tables: saved.0 })
        };
        self.relations.iter().map(of).collect()
    }
}

/// The side relations and whose they are.
fn names(job: &Job) -> Vec<(usize, String)> {
    let reads = |source: usize| {
        let reads = |op: &Op| matches!(op, Op::Source { source: of, .. } | Op::Versions { source: of, .. } if *of == source);
        // Of a source that nobody reads there may be rejects.
        job.plan.nodes.iter().position(|node| reads(&node.op)).unwrap_or(0)
    };
    let sources = job.sources.iter().enumerate();
    let refused = sources.flat_map(|(source, declared)| {
        [OutputNames::late(&declared.name), OutputNames::rejects(&declared.name)].map(|name| (reads(source), name))
    });
    let views = job.views.iter().map(|view| (view.node, OutputNames::errors(&view.name)));
    let sinks = job.sinks.iter().map(|sink| (sink.node, OutputNames::errors(&sink.name)));
    refused.chain(views).chain(sinks).collect()
}
