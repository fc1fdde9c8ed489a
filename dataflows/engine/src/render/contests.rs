//! Which joins ask for the extreme rows of their own groups: the decision alone, from the plan.
//!
//! `s JOIN (SELECT k, max(v) m .. FROM s GROUP BY k) a ON s.k = a.k AND s.v = a.m` keeps of `s` the rows that are largest
//! in their group. If `s` only grows, a row below one that was seen before can never match, so
//! [`crate::operator::contenders`] drops it as early as it can: below the windows and projections that only this join
//! reads. The join and the aggregate stay as they are; fewer rows reach the join.
//!
//! Both must be of the same rows. That is told from where their columns come from: the same columns of one node of the
//! plan, through the same filters and the same windows. What cannot be told so is left alone.

use std::collections::BTreeSet;

use highwater_plan::sharing::{as_columns, behind_projections};
use highwater_plan::{Aggregate, AggregateFunction, Grouping, Job, Join, NodeId, Op, TimeSource, WindowAssign, WindowKind};

use crate::operator::contenders::Contest;
use crate::operator::late::RowWindows;
use crate::words::are_words;

/// A place in the plan where rows are dropped.
#[derive(Debug, Clone)]
pub(super) struct Placed {
    /// The node before whose input they are dropped.
    pub(super) reader: NodeId,
    /// Which of its inputs.
    pub(super) place: usize,
    /// What is compared.
    pub(super) contest: Contest,
    /// Sources whose watermarks close the groups' windows.
    pub(super) sources: Vec<TimeSource>,
}

/// Decides for all joins among `needed`.
pub(super) fn contests(job: &Job, needed: &BTreeSet<NodeId>) -> Vec<Placed> {
    let found = needed.iter().filter_map(|id| match &job.plan.nodes[*id].op {
        Op::Join(join) => [0, 1].into_iter().find_map(|own| contest(job, needed, *id, join, own)),
        _ => None,
    });
    // A group that was forgotten begins anew with whatever row comes: only windows end as a whole.
    found.filter(|placed| job.settings.state_ttl.is_none() || placed.contest.windows.is_some()).collect()
}

/// What a column is, seen from far enough below that two ways to it can be compared.
#[derive(Debug, PartialEq)]
enum Value {
    /// A column of a node that is looked through no further.
    Column(NodeId, usize),
    /// An expression over a node's columns.
    Computed(NodeId, String),
    /// A bound of the windows that this time falls in.
    Bound(Bound, WindowKind, Box<Value>),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Bound {
    Start,
    End,
    Time,
}

/// Which rows a node has: those of a node below, through these filters and windows.
#[derive(Debug, PartialEq)]
struct Rows {
    below: NodeId,
    steps: Vec<Step>,
}

#[derive(Debug, PartialEq)]
enum Step {
    Filter(NodeId, String),
    Window(WindowKind, Value),
}

fn contest(job: &Job, needed: &BTreeSet<NodeId>, id: NodeId, join: &Join, own: usize) -> Option<Placed> {
    let inputs = &job.plan.nodes[id].inputs;
    let node = inputs[own];
    let (aggregate_node, columns) = behind_projections(job, inputs[1 - own]);
    let Op::Aggregate(aggregate) = &job.plan.nodes[aggregate_node].op else { return None };
    let below = job.plan.nodes[aggregate_node].inputs[0];
    // Which session a row is in is known only when it is over.
    if matches!(aggregate.grouping, Grouping::Session(_))
        || join.kind.keeps()[own]
        || !job.plan.nodes[node].properties.append_only
        || !job.plan.nodes[below].properties.append_only
        || join.interval.is_some()
        || join.window.is_some() != (aggregate.grouping != Grouping::Keys)
        || rows(job, node) != grouped_rows(job, below, aggregate)
    {
        return None;
    }
    let pairs = pairs(job, id, join, own);
    let pairs = pairs.into_iter().map(|(mine, theirs, order)| (mine, columns[theirs], order));
    let (mut keys, mut extreme) = (Vec::new(), None);
    let mut unmatched: BTreeSet<usize> = (0..aggregate.keys.len()).collect();
    let mut windowed = !matches!(aggregate.grouping, Grouping::Assign(_));
    for (mine, output, order) in pairs {
        match grouped_value(job, below, aggregate, output) {
            Some(found) if order == Order::Equal => {
                if found != value(job, node, mine) {
                    return None;
                }
                windowed |= output >= aggregate.keys.len();
                unmatched.remove(&output);
                keys.push(mine);
            }
            // One more condition on what matches takes nothing away.
            Some(_) => {}
            None => {
                let call = output.checked_sub(aggregate.keys.len() + bounds(aggregate))?;
                let call = aggregate.calls.get(call)?;
                let greatest = call.function == AggregateFunction::Max;
                let asked = match call.function {
                    AggregateFunction::Max => order != Order::AtMost,
                    AggregateFunction::Min => order != Order::AtLeast,
                    _ => false,
                };
                if asked && call.filter.is_none() && value(job, below, call.argument?) == value(job, node, mine) {
                    extreme = Some((mine, greatest));
                }
            }
        }
    }
    let (value, greatest) = extreme?;
    if !unmatched.is_empty() || !windowed || !are_words(job.plan.nodes[node].schema.field(value).data_type()) {
        return None;
    }
    let windows = join.window.as_ref().map(|window| {
        let on = join.on[window.on];
        RowWindows::Bound { column: if own == 0 { on.0 } else { on.1 }, kind: window.kind }
    });
    let sources = aggregate.time_column().and_then(|time| job.plan.nodes[below].properties.time[time].clone());
    let sources = sources.map(|time| time.sources).unwrap_or_default();
    let place = Placed { reader: id, place: own, contest: Contest { keys, value, greatest, windows }, sources };
    Some(lowered(job, needed, place))
}

/// How a column of a join's own side compares with one of the other side.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Order {
    Equal,
    AtLeast,
    AtMost,
}

/// What the join demands: (column of its own side, column of the other side, order).
fn pairs(job: &Job, id: NodeId, join: &Join, own: usize) -> Vec<(usize, usize, Order)> {
    let node = &job.plan.nodes[id];
    let widths = [0, 1].map(|side| job.plan.nodes[node.inputs[side]].schema.fields().len());
    let on = join.on.iter().map(|on| if own == 0 { (on.0, on.1, Order::Equal) } else { (on.1, on.0, Order::Equal) });
    let side = |column: usize| if column < widths[0] { (0, column) } else { (1, column - widths[0]) };
    let compared = join.map.filters.iter().filter_map(|filter| {
        let text = filter.to_string();
        let words: Vec<&str> = text.strip_prefix('(')?.strip_suffix(')')?.split(' ').collect();
        let [left, operator, right] = words.as_slice() else { return None };
        let column = |word: &str| word.strip_prefix('#')?.parse::<usize>().ok().map(side);
        let (left, right) = (column(left)?, column(right)?);
        let order = match *operator {
            "=" => Order::Equal,
            ">=" => Order::AtLeast,
            "<=" => Order::AtMost,
            _ => return None,
        };
        match (left.0 == own, right.0 == own) {
            (true, false) => Some((left.1, right.1, order)),
            (false, true) => {
                let turned = match order {
                    Order::Equal => Order::Equal,
                    Order::AtLeast => Order::AtMost,
                    Order::AtMost => Order::AtLeast,
                };
                Some((right.1, left.1, turned))
            }
            _ => None,
        }
    });
    on.chain(compared).collect()
}

/// Moves the place down through windows and projections that only it reads.
fn lowered(job: &Job, needed: &BTreeSet<NodeId>, mut placed: Placed) -> Placed {
    loop {
        let id = job.plan.nodes[placed.reader].inputs[placed.place];
        let readers = needed.iter().flat_map(|reader| &job.plan.nodes[*reader].inputs).filter(|input| **input == id).count();
        let kept = job.views.iter().any(|view| view.node == id) || job.sinks.iter().any(|sink| sink.node == id);
        if readers > 1 || kept {
            return placed;
        }
        let node = &job.plan.nodes[id];
        let contest = &placed.contest;
        let lower = match &node.op {
            Op::Map(map) => as_columns(map, node.schema.fields().len()).map(|taken| Contest {
                keys: contest.keys.iter().map(|key| taken[*key]).collect(),
                value: taken[contest.value],
                greatest: contest.greatest,
                windows: contest.windows.as_ref().map(|windows| match windows {
                    RowWindows::Bound { column, kind } => RowWindows::Bound { column: taken[*column], kind: *kind },
                    RowWindows::Assign(assign) => {
                        RowWindows::Assign(WindowAssign { kind: assign.kind, time: taken[assign.time] })
                    }
                }),
            }),
            Op::Window(assign) => below_window(job, node.inputs[0], assign, contest),
            _ => None,
        };
        let Some(contest) = lower else { return placed };
        placed = Placed { reader: id, place: 0, contest, sources: placed.sources };
    }
}

/// The same contest over the rows before they are put into windows; only where each is in one.
fn below_window(job: &Job, input: NodeId, assign: &WindowAssign, contest: &Contest) -> Option<Contest> {
    let width = job.plan.nodes[input].schema.fields().len();
    let Some(RowWindows::Bound { column, .. }) = &contest.windows else { return None };
    if *column < width || contest.value >= width || !matches!(assign.kind, WindowKind::Tumble { .. }) {
        return None;
    }
    let keys = contest.keys.iter().copied().filter(|key| *key < width).collect();
    Some(Contest { keys, windows: Some(RowWindows::Assign(assign.clone())), ..contest.clone() })
}

fn value(job: &Job, node: NodeId, column: usize) -> Value {
    let input = || job.plan.nodes[node].inputs[0];
    match &job.plan.nodes[node].op {
        Op::Map(map) => match &map.exprs {
            None => value(job, input(), column),
            Some(exprs) => match exprs[column].as_column() {
                Some(column) => value(job, input(), column),
                None => Value::Computed(input(), exprs[column].to_string()),
            },
        },
        Op::Window(assign) => {
            let width = job.plan.nodes[input()].schema.fields().len();
            let bound = match column.checked_sub(width) {
                None => return value(job, input(), column),
                Some(0) => Bound::Start,
                Some(1) => Bound::End,
                Some(_) => Bound::Time,
            };
            Value::Bound(bound, assign.kind, Box::new(value(job, input(), assign.time)))
        }
        _ => Value::Column(node, column),
    }
}

fn rows(job: &Job, node: NodeId) -> Rows {
    let input = || job.plan.nodes[node].inputs[0];
    match &job.plan.nodes[node].op {
        Op::Map(map) => {
            let mut rows = rows(job, input());
            rows.steps.extend(map.filters.iter().map(|filter| Step::Filter(input(), filter.to_string())));
            rows
        }
        Op::Window(assign) => {
            let mut rows = rows(job, input());
            rows.steps.push(Step::Window(assign.kind, value(job, input(), assign.time)));
            rows
        }
        _ => Rows { below: node, steps: Vec::new() },
    }
}

/// The rows that an aggregate over `below` groups.
fn grouped_rows(job: &Job, below: NodeId, aggregate: &Aggregate) -> Rows {
    let mut rows = rows(job, below);
    if let Grouping::Assign(assign) = &aggregate.grouping {
        rows.steps.push(Step::Window(assign.kind, value(job, below, assign.time)));
    }
    rows
}

/// What an output column of an aggregate over `below` is, if it names the group.
fn grouped_value(job: &Job, below: NodeId, aggregate: &Aggregate, output: usize) -> Option<Value> {
    if let Some(key) = aggregate.keys.get(output) {
        return Some(value(job, below, *key));
    }
    let Grouping::Assign(assign) = &aggregate.grouping else { return None };
    let bound = match output - aggregate.keys.len() {
        0 => Bound::Start,
        1 => Bound::End,
        _ => return None,
    };
    Some(Value::Bound(bound, assign.kind, Box::new(value(job, below, assign.time))))
}

/// How many columns of windows an aggregate gives.
fn bounds(aggregate: &Aggregate) -> usize {
    if matches!(aggregate.grouping, Grouping::Assign(_)) { 2 } else { 0 }
}

#[cfg(test)]
mod tests;
