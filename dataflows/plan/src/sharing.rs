//! Which tables several joins share: the decision alone, from the plan.
//!
//! A join keeps the rows of both sides. Where two or more joins have the same table-like side, joined on the same
//! columns in the same order, that side is arranged once and these joins read the arrangement. A join reads at most one
//! side so: its other side is its own. Projections between the table and its joins are seen through, so that joins that
//! read different columns of a table share it all the same; the arrangement keeps the columns that any of them reads.
//!
//! Streams are not shared although they could be: keeping Arrow batches that only grow is much cheaper than arranging.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use arrow::row::{RowConverter, SortField};

use crate::{Expr, Job, Join, JoinKind, Map, NodeId, Op, SourceKind};

/// A node that is arranged for several joins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedSide {
    /// The node.
    pub node: NodeId,
    /// Its columns that the joins' keys are, in their order.
    pub key: Vec<usize>,
    /// Its columns that some join reads, the key's included, ascending.
    pub columns: Vec<usize>,
    /// The joins, ascending.
    pub readers: Vec<Reader>,
}

/// A join that reads a shared side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reader {
    /// The join's node.
    pub join: NodeId,
    /// Which of its inputs is shared.
    pub side: usize,
    /// Per column of this input the column of the shared node that it is.
    pub columns: Vec<usize>,
}

/// Decides what is arranged, in the order of the nodes.
///
/// A join whose sides could both be shared gets the one that more joins read, then the one that is a table itself, then
/// the first in the plan.
pub fn shared_sides(job: &Job) -> Vec<SharedSide> {
    // Keys of a join expire by what comes to that join.
    if job.settings.state_ttl.is_some() {
        return Vec::new();
    }
    let mut candidates: BTreeMap<(NodeId, Vec<usize>), Vec<Reader>> = BTreeMap::new();
    for id in needed(job, &[]) {
        let Op::Join(join) = &job.plan.nodes[id].op else { continue };
        for (node, key, reader) in [0, 1].into_iter().filter_map(|side| candidate(job, id, join, side)) {
            let readers = candidates.entry((node, key)).or_default();
            if readers.last().is_none_or(|last| last.join != id) {
                readers.push(reader);
            }
        }
    }
    let mut shared = Vec::new();
    loop {
        let rank =
            |((node, _), readers): &(&(NodeId, Vec<usize>), &Vec<Reader>)| (readers.len(), is_table(job, *node), Reverse(*node));
        let best = candidates.iter().filter(|(_, readers)| readers.len() > 1).max_by_key(rank);
        let Some(best) = best.map(|(best, _)| best.clone()) else { break };
        let Some(readers) = candidates.remove(&best) else { break };
        for others in candidates.values_mut() {
            others.retain(|other| readers.iter().all(|reader| reader.join != other.join));
        }
        let (node, key) = best;
        let columns: BTreeSet<usize> = readers.iter().flat_map(|reader| read(job, reader)).chain(key.iter().copied()).collect();
        shared.push(SharedSide { node, key, columns: columns.into_iter().collect(), readers });
    }
    shared.sort_by(|one, other| (one.node, &one.key).cmp(&(other.node, &other.key)));
    shared
}

/// The nodes that views and sinks need, ascending, when joins read `shared` instead of their inputs.
pub fn needed(job: &Job, shared: &[SharedSide]) -> BTreeSet<NodeId> {
    let roots = job.views.iter().map(|view| view.node).chain(job.sinks.iter().map(|sink| sink.node));
    let (mut needed, mut todo) = (BTreeSet::new(), roots.collect::<Vec<_>>());
    while let Some(id) = todo.pop() {
        if !needed.insert(id) {
            continue;
        }
        let mut inputs = job.plan.nodes[id].inputs.clone();
        for side in shared {
            for reader in side.readers.iter().filter(|reader| reader.join == id) {
                inputs[reader.side] = side.node;
            }
        }
        todo.extend(inputs);
    }
    needed
}

/// The node and key that a side of a join could share, if it could.
fn candidate(job: &Job, id: NodeId, join: &Join, side: usize) -> Option<(NodeId, Vec<usize>, Reader)> {
    // Rows without a match would need counts of both sides; without a key every worker needs all rows of a side.
    if join.window.is_some() || join.interval.is_some() || join.kind != JoinKind::Inner || join.on.is_empty() {
        return None;
    }
    let (node, columns) = behind_projections(job, job.plan.nodes[id].inputs[side]);
    if !is_table(job, node) && job.plan.nodes[node].properties.append_only {
        return None;
    }
    let key = join.on.iter().map(|on| columns[if side == 0 { on.0 } else { on.1 }]).collect();
    let reader = Reader { join: id, side, columns };
    // An arrangement keeps rows as bytes; a side that only grows could have columns that have none.
    let types = read(job, &reader).into_iter().map(|column| job.plan.nodes[node].schema.field(column).data_type().clone());
    let stored: Vec<SortField> = types.map(SortField::new).collect();
    RowConverter::supports_fields(&stored).then_some((node, key, reader))
}

/// The node that this one only takes columns of, and which.
pub fn behind_projections(job: &Job, node: NodeId) -> (NodeId, Vec<usize>) {
    let (mut node, mut columns) = (node, (0..job.plan.nodes[node].schema.fields().len()).collect::<Vec<_>>());
    while let Op::Map(map) = &job.plan.nodes[node].op
        && let Some(taken) = as_columns(map, job.plan.nodes[node].schema.fields().len())
    {
        columns.iter_mut().for_each(|column| *column = taken[*column]);
        node = job.plan.nodes[node].inputs[0];
    }
    (node, columns)
}

/// The input's columns that a map of `width` columns takes, if that is all it does.
pub fn as_columns(map: &Map, width: usize) -> Option<Vec<usize>> {
    if !map.filters.is_empty() {
        return None;
    }
    match &map.exprs {
        None => Some((0..width).collect()),
        Some(exprs) => exprs.iter().map(Expr::as_column).collect(),
    }
}

fn is_table(job: &Job, node: NodeId) -> bool {
    matches!(job.plan.nodes[node].op, Op::Source { source, .. } if job.sources[source].kind == SourceKind::Table)
}

/// Columns of the shared node that the output of a join reads.
fn read(job: &Job, reader: &Reader) -> Vec<usize> {
    let node = &job.plan.nodes[reader.join];
    let Op::Join(join) = &node.op else { return Vec::new() };
    let widths = [0, 1].map(|side| job.plan.nodes[node.inputs[side]].schema.fields().len());
    let read = join.read_columns(widths);
    let offset = if reader.side == 0 { 0 } else { widths[0] };
    (0..widths[reader.side]).filter(|column| read[offset + column]).map(|column| reader.columns[column]).collect()
}
