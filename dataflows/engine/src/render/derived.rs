//! Views that show groups, all of them and nothing else: a restored job makes them of the groups that it was given back.
//!
//! A group's row changes with each row that comes to it, so most of what such a view was is gone again, and adding it up takes
//! longer than asking the groups. The view is saved all the same: a changed job may read it without having the groups.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, channel};

use highwater_plan::{Grouping, Job, Lifetime, NodeId, Op, View};

use super::Renderer;
use crate::Delta;
use crate::checkpoint::Derived;

/// By view, what its groups will give.
pub(super) type Awaited = BTreeMap<String, Receiver<Vec<Delta>>>;

/// Whether a view has what groups come to, each row at the worker that has its group.
pub(super) fn shows_groups(job: &Job, view: &View) -> bool {
    let Op::Aggregate(aggregate) = &job.plan.nodes[view.node].op else { return false };
    // Groups that were forgotten stay in the view, and those of windows do when they are closed. The group of no columns is
    // there without rows.
    let forgets = job.lifetime(view.node) == Lifetime::Expires || job.restarts(view.node);
    let is_kept = matches!(aggregate.grouping, Grouping::Keys) && !forgets && !aggregate.keys.is_empty();
    is_kept && view.key.iter().copied().eq(0..aggregate.keys.len())
}

impl Renderer<'_, '_> {
    /// Those that wait for the groups of a node, if the job is being restored.
    pub(super) fn waiting_for(&mut self, id: NodeId) -> Vec<Sender<Vec<Delta>>> {
        if self.shared.stats.checkpoints.restore.is_none() {
            return Vec::new();
        }
        let job = &self.shared.job;
        let views = job.views.iter().filter(|view| view.node == id && shows_groups(job, view));
        let waiting = views.map(|view| {
            let (gives, awaits) = channel();
            self.awaited.insert(view.name.clone(), awaits);
            gives
        });
        waiting.collect()
    }

    /// What gives the rows of a view, if those are the groups of its node, once these are back.
    pub(super) fn rows_of_groups(&mut self, view: &View) -> Option<Derived> {
        if !shows_groups(&self.shared.job, view) {
            return None;
        }
        // It is asked for if the job is being restored; then its operator was rendered before.
        let awaited = self.awaited.remove(&view.name);
        // If they cannot be given back, their operator fails the job and says why.
        Some(Box::new(move || awaited.as_ref().expect("groups are rendered before the views that show them").try_recv().ok()))
    }
}

#[cfg(test)]
mod tests;
