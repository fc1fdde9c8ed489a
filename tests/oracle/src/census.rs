//! Of what kinds jobs are, and what their operators are given: counted over many jobs, it says what random jobs cover.
//!
//! A kind is a way in which an operator, a function or a setting can be: `join left, by keys`, `sum, distinct`. What can
//! happen to an operator is a [`Met`]; both are found in the compiled plan and in the naive evaluation, not in the text, so
//! that a query which the planner turns into something else does not count as what was meant.

mod counts;
mod functions;
mod operators;

use std::collections::{BTreeMap, BTreeSet};

use highwater_plan::{Emit, Job, NodeId, OnError, Op, Plan};

pub use self::counts::Counts;

/// What an operator meets in its input or gives in its output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Met {
    /// It gives rows.
    Rows,
    /// Rows are taken back.
    Retractions,
    /// Its own rows are taken back.
    Corrections,
    /// A value is NULL.
    Nulls,
    /// A row is there more than once.
    Copies,
    /// The last row of a key goes (of the input, if it has no keys).
    Emptied,
    /// Rows of a key come after its last one had gone.
    Refilled,
    /// One epoch takes back a row of a key and gives another.
    Replaced,
    /// A row comes for a window that is closed, and counts as it is within the allowed lateness.
    Allowed,
    /// A row comes too late.
    Late,
    /// A row fails.
    Errors,
}

impl Met {
    /// All of them.
    pub const ALL: [Met; 11] = [
        Met::Rows,
        Met::Retractions,
        Met::Corrections,
        Met::Nulls,
        Met::Copies,
        Met::Emptied,
        Met::Refilled,
        Met::Replaced,
        Met::Allowed,
        Met::Late,
        Met::Errors,
    ];
}

/// What operators met, by their families.
pub type Meetings = BTreeMap<&'static str, BTreeSet<Met>>;

/// The job as a whole, which meets what its views give and what any of its operators does not let through.
pub const WHOLE: &str = "a job";

/// The kinds that a job is of.
pub fn kinds(job: &Job) -> BTreeSet<String> {
    let mut kinds = BTreeSet::new();
    let roots = job.views.iter().map(|view| view.node).chain(job.sinks.iter().map(|sink| sink.node));
    let live: BTreeSet<NodeId> = roots.flat_map(|root| job.plan.upstream_of(root)).collect();
    for id in live {
        add_kinds(&job.plan, id, &mut kinds);
    }
    for view in &job.views {
        kinds.insert(match view.emit {
            Emit::Changes => "view, emit changes".into(),
            Emit::Final => "view, emit final".into(),
        });
    }
    if !job.sinks.is_empty() {
        kinds.insert("sink".into());
    }
    let settings = &job.settings;
    let set = [
        (!settings.allowed_lateness.is_zero(), "allowed_lateness"),
        (settings.on_error == OnError::Null, "on_error = null"),
        (settings.state_ttl.is_some(), "state_ttl"),
    ];
    kinds.extend(set.into_iter().filter(|(set, _)| *set).map(|(_, name)| name.to_string()));
    kinds
}

fn add_kinds(plan: &Plan, id: NodeId, kinds: &mut BTreeSet<String>) {
    kinds.extend(operators::kinds(plan, id));
    kinds.extend(functions::kinds(&plan.nodes[id].op));
    if let Op::Recursion { recursion, .. } = &plan.nodes[id].op {
        (0..recursion.body.nodes.len()).for_each(|id| add_kinds(&recursion.body, id, kinds));
    }
}

/// The family of an operator, by which what it meets is counted; `None` for those that only pass rows on.
pub fn family(op: &Op) -> Option<&'static str> {
    operators::family(op)
}

/// Kinds that there are, of which random jobs should be.
pub fn known() -> Vec<String> {
    let settings = ["view, emit changes", "view, emit final", "sink", "allowed_lateness", "on_error = null", "state_ttl"];
    [operators::known(), functions::known(), settings.map(str::to_string).to_vec()].concat()
}
