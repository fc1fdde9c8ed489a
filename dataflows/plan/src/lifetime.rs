//! `SET state_ttl`: which operators forget what was not touched for so long, and which cannot.

use crate::{Grouping, Job, NodeId, Op, StateBound};

/// What ends the state of an operator of a job with `state_ttl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// It has none, or what bounds it needs no such setting: windows, the clock, a declared table's keys.
    Own,
    /// What is known of a key that no row touched for `state_ttl` is dropped.
    Expires,
    /// It grows, and `state_ttl` does not reach it; why.
    Kept(&'static str),
}

impl Job {
    /// What ends the state of a node; [`Lifetime::Own`] in a job without `state_ttl`.
    pub fn lifetime(&self, id: NodeId) -> Lifetime {
        let node = &self.plan.nodes[id];
        let grows = matches!(node.properties.state, StateBound::Unbounded | StateBound::Keys);
        if self.settings.state_ttl.is_none() || !grows {
            return Lifetime::Own;
        }
        let unbounded = node.properties.state == StateBound::Unbounded;
        let append_only = || self.plan.nodes[node.inputs[0]].properties.append_only;
        match &node.op {
            Op::Aggregate(aggregate) => match &aggregate.grouping {
                Grouping::Keys if !aggregate.keys.is_empty() => Lifetime::Expires,
                Grouping::Keys if append_only() && !aggregate.calls.iter().any(|call| call.distinct) => Lifetime::Own,
                Grouping::Keys => Lifetime::Kept("it has no GROUP BY keys that could expire one by one"),
                _ => Lifetime::Kept("its windows go by a time without WATERMARK"),
            },
            Op::Join(join) if join.on.is_empty() => Lifetime::Kept("it has no equality whose keys could expire one by one"),
            Op::Join(join) if join.interval.is_some() => {
                Lifetime::Kept("its interval has one end only: rows leave by time, and some never do")
            }
            Op::Join(join) if join.window.is_none() => Lifetime::Expires,
            Op::TopN(topn) if !topn.partition.is_empty() => Lifetime::Expires,
            Op::TopN(_) if !unbounded => Lifetime::Own,
            Op::Over(over) if !over.partition.is_empty() && over.closing.is_none() => Lifetime::Expires,
            Op::TopN(_) | Op::Over(_) => Lifetime::Kept("it has no PARTITION BY keys that could expire one by one"),
            Op::SetOperation(_) => Lifetime::Expires,
            Op::Nearest(_) => Lifetime::Kept("an ASOF join may ask for rows of any age"),
            Op::TemporalJoin(_) => Lifetime::Kept("its table's versions are those that rows may ask for"),
            Op::Recursion { .. } => Lifetime::Kept("a recursion needs all rows that its results follow from"),
            Op::Window(_) | Op::Session(_) => Lifetime::Kept("its windows go by a time without WATERMARK"),
            _ => Lifetime::Own,
        }
    }

    /// Whether what a node gives may be given anew by an operator that forgot it.
    pub fn restarts(&self, id: NodeId) -> bool {
        self.plan.upstream_of(id).into_iter().any(|id| self.lifetime(id) == Lifetime::Expires)
    }
}
