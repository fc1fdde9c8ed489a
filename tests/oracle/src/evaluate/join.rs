//! Pairs of rows with equal keys, and rows without a match: two nested loops.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use highwater_plan::{Emit, Join, JoinInterval, JoinKind, JoinWindow, Map, NodeId, TimeSource};

use super::expression::RowMap;
use super::window::end_of;
use super::{Context, Evaluated, Unfit, wrong};
use crate::multiset::Multiset;
use crate::value::{Row, Value, micros};

/// Pairs of distinct rows that may be looked at in one epoch.
const PAIRS_MAX: usize = 40_000;

/// The content after each epoch.
pub(super) fn content(context: &Context<'_>, id: NodeId, join: &Join, inputs: [&Vec<Multiset>; 2]) -> Result<Evaluated, Unfit> {
    let node = &context.job.plan.nodes[id];
    let schemas = [0, 1].map(|side| &context.job.plan.nodes[node.inputs[side]].schema);
    let fields = schemas[0].fields().iter().chain(schemas[1].fields());
    let both: SchemaRef = Arc::new(Schema::new(fields.map(|field| field.as_ref().clone()).collect::<Vec<Field>>()));
    let output: SchemaRef = Arc::new(Schema::new(join.kind.columns(schemas[0], schemas[1])));
    let condition = Map { filters: join.residual.clone(), exprs: None };
    let mut condition = RowMap::new(&condition, &both, &both, super::keeps_failed(context));
    let mut map = RowMap::new(&join.map, &output, &node.schema, super::keeps_failed(context));
    let mut evaluated = Evaluated::of(vec![Multiset::default(); context.epochs]);
    let mut accepted = [Multiset::default(), Multiset::default()];
    let mut failed_now = Vec::new();
    let shown = [shows_alone(join.kind, 0), shows_alone(join.kind, 1)];
    for epoch in 0..context.epochs {
        for side in [0, 1] {
            let on: Vec<usize> = join.on.iter().map(|on| if side == 0 { on.0 } else { on.1 }).collect();
            let before = epoch.checked_sub(1).map(|before| &inputs[side][before]);
            let change = before.map_or_else(|| inputs[side][epoch].clone(), |before| inputs[side][epoch].minus(before));
            for (row, diff) in change.iter() {
                // Rows that cannot match are not missed, unless they are shown without a match.
                if !join.nulls_equal && !shown[side] && on.iter().any(|column| row[*column].is_null()) {
                    continue;
                }
                if let Some(window) = &join.window {
                    let column = on[window.on];
                    let Some(bound) = micros(&row[column], schemas[side].field(column).data_type()) else {
                        evaluated.errors[epoch] += diff;
                        continue;
                    };
                    if !context.is_open(epoch, &sources(window), end_of(window.kind, bound)) {
                        let of_side = if side == 0 { &window.left } else { &window.right };
                        evaluated.late[epoch] += context.late(of_side, diff);
                        continue;
                    }
                }
                if let Some(interval) = &join.interval {
                    match time_of(interval, side, row, schemas[side]) {
                        None if !shown[side] => continue,
                        Some(time) if !context.is_open(epoch, &interval.sources, end_of(interval.kinds[side], time)) => {
                            evaluated.late[epoch] += context.late(&interval.sources, diff);
                            continue;
                        }
                        _ => {}
                    }
                }
                accepted[side].add(row.clone(), diff);
            }
        }
        if epoch > 0 {
            evaluated.errors[epoch] += evaluated.errors[epoch - 1];
            evaluated.late[epoch] += evaluated.late[epoch - 1];
        }
        if accepted[0].distinct() * accepted[1].distinct() > PAIRS_MAX {
            return Err(Unfit::TooLarge);
        }
        let mut failed = 0;
        let mut joined = Multiset::default();
        let mut matches = accepted.each_ref().map(|rows| vec![0; rows.distinct()]);
        for (l, (left, left_diff)) in accepted[0].iter().enumerate() {
            for (r, (right, right_diff)) in accepted[1].iter().enumerate() {
                if !join.on.iter().all(|(l, r)| left[*l] == right[*r] && (join.nulls_equal || !left[*l].is_null())) {
                    continue;
                }
                let pair: Row = left.iter().chain(right.iter()).cloned().collect::<Vec<Value>>().into();
                if !condition.passes(&pair, left_diff * right_diff, &mut failed).map_err(|e| wrong(id, &e))? {
                    continue;
                }
                matches[0][l] += right_diff;
                matches[1][r] += left_diff;
                if join.kind.gives_pairs() {
                    joined.add(pair, left_diff * right_diff);
                }
            }
        }
        for side in [0, 1].into_iter().filter(|side| shown[*side]) {
            for ((row, diff), matches) in accepted[side].iter().zip(&matches[side]) {
                if told(context, epoch, join, side, row, schemas[side]) {
                    joined.add_all(&alone(join.kind, side, row, *matches > 0, schemas), diff);
                }
            }
        }
        for (row, diff) in joined.iter() {
            map.apply(row, diff, &mut evaluated.content[epoch], &mut failed).map_err(|e| wrong(id, &e))?;
        }
        failed_now.push(failed);
    }
    evaluated.errors.iter_mut().zip(failed_now).for_each(|(errors, failed)| *errors += failed);
    Ok(evaluated)
}

fn sources(window: &JoinWindow) -> Vec<TimeSource> {
    [window.left.clone(), window.right.clone()].concat()
}

/// Whether a row of a side can be in the output by itself.
fn shows_alone(kind: JoinKind, side: usize) -> bool {
    match kind {
        JoinKind::Inner => false,
        JoinKind::Left | JoinKind::Semi | JoinKind::Anti | JoinKind::Mark => side == 0,
        JoinKind::Right => side == 1,
        JoinKind::Full => true,
    }
}

/// The time by which an interval join bounds a row of a side.
fn time_of(interval: &JoinInterval, side: usize, row: &Row, schema: &Schema) -> Option<i64> {
    let column = interval.columns[side];
    micros(&row[column], schema.field(column).data_type())
}

/// Whether rows that could match a row with this time, and rows with this time, are late after an epoch.
fn is_done(context: &Context<'_>, epoch: usize, interval: &JoinInterval, side: usize, time: i64) -> bool {
    let watermark = context.watermark(epoch, &interval.sources);
    // The latest partner: of a left row the right one with the smallest difference, of a right row the other way round.
    let partner = if side == 0 { interval.lower.map(|lower| time - lower) } else { interval.upper.map(|upper| time + upper) };
    let over = |side: usize, time: i64| end_of(interval.kinds[side], time) <= watermark;
    partner.is_some_and(|partner| over(1 - side, partner) && over(side, time))
}

/// Whether it is said by now that a row of a window has a match or none.
fn told(context: &Context<'_>, epoch: usize, join: &Join, side: usize, row: &Row, schema: &Schema) -> bool {
    if let (Emit::Final, Some(interval)) = (join.emit, &join.interval) {
        return time_of(interval, side, row, schema).is_none_or(|time| is_done(context, epoch, interval, side, time));
    }
    let (Emit::Final, Some(window)) = (join.emit, &join.window) else { return true };
    let on = join.on[window.on];
    let column = if side == 0 { on.0 } else { on.1 };
    micros(&row[column], schema.field(column).data_type())
        .is_none_or(|bound| end_of(window.kind, bound) <= context.watermark(epoch, &sources(window)))
}

/// What is given of a row by itself.
fn alone(kind: JoinKind, side: usize, row: &Row, matched: bool, schemas: [&SchemaRef; 2]) -> Multiset {
    let nulls = |side: usize| vec![Value::Null; schemas[side].fields().len()];
    let values: Vec<Value> = match kind {
        JoinKind::Semi if matched => row.to_vec(),
        JoinKind::Anti if !matched => row.to_vec(),
        JoinKind::Mark => row.iter().cloned().chain([Value::Bool(matched)]).collect(),
        JoinKind::Left | JoinKind::Right | JoinKind::Full if !matched => match side {
            0 => row.iter().cloned().chain(nulls(1)).collect(),
            _ => nulls(0).into_iter().chain(row.iter().cloned()).collect(),
        },
        _ => return Multiset::default(),
    };
    [(Row::from(values), 1)].into_iter().collect()
}
