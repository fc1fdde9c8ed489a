//! Which sources are read to their end before others are begun.
//!
//! A lookup gives a stream's row beside what the table holds at that moment. Of a table that is read from something with an
//! end, a file say, the moment that counts is when it has been read: so the stream's sources wait until then. They wait
//! outside, where it costs nothing; a table without an end is taken as it is.

use std::collections::BTreeSet;

use highwater_plan::{AsOf, Job, NodeId, Op};

/// Per source those that must have ended before it is read. `bounded` per source: whether it ends by itself.
pub(crate) fn read_first(job: &Job, bounded: &[bool]) -> Vec<BTreeSet<usize>> {
    let mut first = vec![BTreeSet::new(); job.sources.len()];
    for node in &job.plan.nodes {
        let Op::TemporalJoin(temporal) = &node.op else { continue };
        if temporal.as_of != AsOf::Processing {
            continue;
        }
        let [left, right] = [0, 1].map(|side| sources_of(job, node.inputs[side]));
        for waiting in left.difference(&right) {
            for awaited in right.iter().filter(|source| bounded[**source]) {
                // Two that look each other up cannot wait for each other.
                if !waits(&first, *awaited, *waiting) {
                    first[*waiting].insert(*awaited);
                }
            }
        }
    }
    first
}

/// Whether `source` waits for `other`, directly or not.
fn waits(first: &[BTreeSet<usize>], source: usize, other: usize) -> bool {
    source == other || first[source].iter().any(|next| waits(first, *next, other))
}

fn sources_of(job: &Job, node: NodeId) -> BTreeSet<usize> {
    let source = |id: NodeId| match job.plan.nodes[id].op {
        Op::Source { source, .. } | Op::Versions { source, .. } => Some(source),
        _ => None,
    };
    job.plan.upstream_of(node).into_iter().filter_map(source).collect()
}
