//! Sessions, made anew from all rows that were accepted and are not over.
//!
//! In an epoch the new rows are put beside those that are there. A session of the two together is refused if all of its
//! rows are new and it had ended, plus the allowed lateness, by the watermark of the epoch before. Then rows are taken
//! back: as often as they are there, the rest is late. What is left makes sessions; those that are over stay as they are.

use std::collections::BTreeMap;

use highwater_plan::{Aggregate, Emit, NodeId, SessionAssign};

use super::{Context, Evaluated, aggregate, keeps_failed};
use crate::multiset::Multiset;
use crate::value::{Row, Value, micros, timestamp};

/// A session's bounds and rows.
type Session = ((i64, i64), Multiset);

/// What a session gives: rows, and how many failed.
type Given = (Multiset, i64);

/// The rows of a key with times, cut where two neighbours are more than the gap apart.
fn sessions(rows: &[(i64, &Row, i64)], gap: i64) -> Vec<Session> {
    let mut sorted = rows.to_vec();
    sorted.sort_by_key(|(time, ..)| *time);
    let mut all: Vec<Session> = Vec::new();
    for (time, row, diff) in sorted {
        match all.last_mut() {
            Some(((_, end), rows)) if time <= *end => {
                *end = time + gap;
                rows.add(row.clone(), diff);
            }
            _ => all.push(((time, time + gap), [(row.clone(), diff)].into_iter().collect())),
        }
    }
    all
}

/// Goes through the epochs; `give` says what a session gives.
fn through(
    context: &Context<'_>,
    id: NodeId,
    assign: &SessionAssign,
    input: &[Multiset],
    emit: Emit,
    give: impl Fn(&Session) -> Given,
) -> Evaluated {
    let below = &context.job.plan.nodes[context.job.plan.nodes[id].inputs[0]];
    let sources = below.properties.time[assign.time].as_ref().map(|time| time.sources.clone()).unwrap_or_default();
    let data_type = below.schema.field(assign.time).data_type();
    let time_of = |row: &Row| micros(&row[assign.time], data_type);
    let key_of = |row: &Row| -> Vec<Value> { assign.partition.iter().map(|column| row[*column].clone()).collect() };
    let cut = |rows: &Multiset| -> Vec<Session> {
        let mut keys: BTreeMap<Vec<Value>, Vec<(i64, &Row, i64)>> = BTreeMap::new();
        for (row, diff) in rows.iter() {
            keys.entry(key_of(row)).or_default().push((time_of(row).expect("rows without a time are kept out"), row, diff));
        }
        keys.values().flat_map(|rows| sessions(rows, assign.gap)).collect()
    };
    let mut evaluated = Evaluated::of(Vec::new());
    let (mut kept, mut over): (Multiset, Given) = Default::default();
    let (mut late, mut untimed) = (0, 0);
    for epoch in 0..context.epochs {
        let change = match epoch {
            0 => input[0].clone(),
            epoch => input[epoch].minus(&input[epoch - 1]),
        };
        let (timed, without): (Vec<_>, Vec<_>) = change.iter().partition(|(row, _)| time_of(row).is_some());
        untimed += without.iter().map(|(_, diff)| diff).sum::<i64>();
        let mut together = kept.clone();
        timed.iter().filter(|(_, diff)| *diff > 0).for_each(|(row, diff)| together.add((*row).clone(), *diff));
        for ((_, end), rows) in cut(&together) {
            let is_new = rows.iter().all(|(row, _)| kept.count(row) == 0);
            if is_new && !context.is_open(epoch, &sources, end) {
                late += rows.net();
                together.add_all(&rows, -1);
            }
        }
        kept = together;
        for (row, diff) in timed.iter().filter(|(_, diff)| *diff < 0) {
            let taken = kept.count(row).min(-diff);
            kept.add((*row).clone(), -taken);
            late += context.late(&sources, diff + taken);
        }
        let mut given = over.clone();
        for session in cut(&kept) {
            let end = session.0.1;
            let (rows, failed) = give(&session);
            if emit == Emit::Changes || end <= context.watermark(epoch, &sources) {
                given.0.add_all(&rows, 1);
                given.1 += failed;
            }
            if context.is_over(epoch, &sources, end) {
                over.0.add_all(&rows, 1);
                over.1 += failed;
                kept.add_all(&session.1, -1);
            }
        }
        evaluated.content.push(given.0);
        evaluated.errors.push(untimed + given.1);
        evaluated.late.push(late);
    }
    evaluated
}

/// The content of rows with their sessions.
pub(super) fn rows(context: &Context<'_>, id: NodeId, assign: &SessionAssign, input: &[Multiset]) -> Evaluated {
    let schema = &context.job.plan.nodes[id].schema;
    let data_type = schema.field(schema.fields().len() - 1).data_type().clone();
    through(context, id, assign, input, Emit::Changes, |((start, end), rows)| {
        let bounds = [*start, *end, end - 1_000].map(|bound| timestamp(bound, &data_type));
        let with_bounds = |row: &Row| -> Row { row.iter().chain(&bounds).cloned().collect::<Vec<Value>>().into() };
        (rows.iter().map(|(row, diff)| (with_bounds(row), diff)).collect(), 0)
    })
}

/// The content of groups that are sessions.
pub(super) fn groups(
    context: &Context<'_>,
    id: NodeId,
    aggregate: &Aggregate,
    assign: &SessionAssign,
    input: &[Multiset],
) -> Evaluated {
    let node = &context.job.plan.nodes[id];
    let below = &context.job.plan.nodes[node.inputs[0]].schema;
    through(context, id, assign, input, aggregate.emit, |((start, end), rows)| {
        let groups = aggregate::groups(rows, aggregate, below, false, keeps_failed(context));
        let rows = groups.rows.into_iter().map(|(mut row, results)| {
            let keys = row.len();
            let bounds = [*start, *end].into_iter().enumerate();
            row.extend(bounds.map(|(index, bound)| timestamp(bound, node.schema.field(keys + index).data_type())));
            row.extend(results);
            (row.into(), 1)
        });
        (rows.collect(), groups.failed)
    })
}
