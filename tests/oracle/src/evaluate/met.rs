//! What the operators of a job meet: seen in their inputs and outputs, epoch by epoch.

use std::collections::BTreeSet;

use highwater_plan::{Grouping, Job, NodeId, Op};

use super::{Context, Evaluated};
use crate::census::{Meetings, Met, WHOLE, family};
use crate::multiset::Multiset;
use crate::value::{Row, Value};

/// Per family of operators what some operator of the job meets, over what the job was given.
pub(super) fn met(context: &Context<'_>, nodes: &[Evaluated], live: &[bool]) -> Meetings {
    let job = context.job;
    let mut all = Meetings::new();
    let changes: Vec<Vec<Multiset>> = nodes.iter().map(changes).collect();
    let mut whole = BTreeSet::new();
    for id in (0..nodes.len()).filter(|id| live[*id]) {
        let own = of_own(&nodes[id], &changes[id]);
        whole.extend(own.intersection(&BTreeSet::from([Met::Late, Met::Errors])));
        if let Some(family) = family(&job.plan.nodes[id].op) {
            let met = all.entry(family).or_default();
            met.extend(own);
            met.extend(of_inputs(job, id, nodes, &changes));
            if context.allowed.borrow().contains(&id) {
                met.insert(Met::Allowed);
            }
        }
    }
    for view in &job.views {
        whole.extend(of_own(&nodes[view.node], &changes[view.node]));
    }
    all.insert(WHOLE, whole);
    all
}

/// What each epoch changes.
fn changes(node: &Evaluated) -> Vec<Multiset> {
    let first = node.content.first().cloned();
    first.into_iter().chain(node.content.windows(2).map(|pair| pair[1].minus(&pair[0]))).collect()
}

/// The columns of an input whose values belong together, if there are such.
fn keys(op: &Op, place: usize) -> Vec<usize> {
    let on = |on: &[(usize, usize)]| on.iter().map(|(left, right)| if place == 0 { *left } else { *right }).collect();
    match op {
        Op::Aggregate(aggregate) => match &aggregate.grouping {
            Grouping::Session(session) => session.partition.clone(),
            _ => aggregate.keys.clone(),
        },
        Op::Session(session) => session.partition.clone(),
        Op::Join(join) => on(&join.on),
        Op::TemporalJoin(join) => on(&join.beside.on),
        Op::Nearest(join) => on(&join.beside.on),
        Op::TopN(topn) => topn.partition.clone(),
        Op::Over(over) => over.partition.clone(),
        _ => Vec::new(),
    }
}

/// What can be seen of an operator's own rows.
fn of_own(own: &Evaluated, changes: &[Multiset]) -> BTreeSet<Met> {
    let found = [
        (own.content.iter().any(|rows| rows.distinct() > 0), Met::Rows),
        (changes.iter().flat_map(Multiset::iter).any(|(_, diff)| diff < 0), Met::Corrections),
        (own.late.iter().any(|late| *late != 0), Met::Late),
        (own.errors.iter().any(|errors| *errors != 0), Met::Errors),
    ];
    found.into_iter().filter(|(is, _)| *is).map(|(_, met)| met).collect()
}

fn of_inputs(job: &Job, id: NodeId, nodes: &[Evaluated], changes: &[Vec<Multiset>]) -> BTreeSet<Met> {
    let node = &job.plan.nodes[id];
    let mut met = BTreeSet::new();
    for (place, input) in node.inputs.iter().enumerate() {
        of_input(&nodes[*input].content, &changes[*input], &keys(&node.op, place), &mut met);
    }
    met
}

fn of_input(content: &[Multiset], changes: &[Multiset], keys: &[usize], met: &mut BTreeSet<Met>) {
    let key_of = |row: &Row| -> Vec<Value> { keys.iter().map(|column| row[*column].clone()).collect() };
    let mut gone: BTreeSet<Vec<Value>> = BTreeSet::new();
    let mut there: BTreeSet<Vec<Value>> = BTreeSet::new();
    for (rows, change) in content.iter().zip(changes) {
        let (mut taken, mut given) = (BTreeSet::new(), BTreeSet::new());
        for (row, diff) in change.iter() {
            if diff < 0 { &mut taken } else { &mut given }.insert(key_of(row));
            if row.iter().any(Value::is_null) {
                met.insert(Met::Nulls);
            }
        }
        let now: BTreeSet<Vec<Value>> = rows.iter().map(|(row, _)| key_of(row)).collect();
        gone.extend(there.difference(&now).cloned());
        let found = [
            (!taken.is_empty(), Met::Retractions),
            (taken.intersection(&given).next().is_some(), Met::Replaced),
            (rows.iter().any(|(_, diff)| diff > 1), Met::Copies),
            (!gone.is_empty(), Met::Emptied),
            (now.intersection(&gone).next().is_some(), Met::Refilled),
        ];
        met.extend(found.into_iter().filter(|(is, _)| *is).map(|(_, met)| met));
        there = now;
    }
}
