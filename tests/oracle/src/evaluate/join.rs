//! Pairs of rows with equal keys: two nested loops.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema};
use highwater_plan::{Join, NodeId};

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
    let both: Vec<Field> = fields.map(|field| field.as_ref().clone()).collect();
    let both = Arc::new(Schema::new(both));
    let mut map = RowMap::new(&join.map, &both, &node.schema);
    let mut evaluated = Evaluated::of(vec![Multiset::default(); context.epochs]);
    let mut accepted = [Multiset::default(), Multiset::default()];
    let mut pairs_failed = Vec::new();
    for epoch in 0..context.epochs {
        for side in [0, 1] {
            let on: Vec<usize> = join.on.iter().map(|on| if side == 0 { on.0 } else { on.1 }).collect();
            let before = epoch.checked_sub(1).map(|before| &inputs[side][before]);
            let change = before.map_or_else(|| inputs[side][epoch].clone(), |before| inputs[side][epoch].minus(before));
            for (row, diff) in change.iter() {
                if !join.nulls_equal && on.iter().any(|column| row[*column].is_null()) {
                    continue;
                }
                if let Some(window) = &join.window {
                    let column = on[window.on];
                    let Some(bound) = micros(&row[column], schemas[side].field(column).data_type()) else {
                        evaluated.errors[epoch] += diff;
                        continue;
                    };
                    let sources = [window.left.clone(), window.right.clone()].concat();
                    if !context.is_open(epoch, &sources, end_of(window.kind, bound)) {
                        evaluated.late[epoch] += diff;
                        continue;
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
        for (left, left_diff) in accepted[0].iter() {
            for (right, right_diff) in accepted[1].iter() {
                if join.on.iter().all(|(l, r)| left[*l] == right[*r]) {
                    let pair: Row = left.iter().chain(right.iter()).cloned().collect::<Vec<Value>>().into();
                    let rows = &mut evaluated.content[epoch];
                    map.apply(&pair, left_diff * right_diff, rows, &mut failed).map_err(|e| wrong(id, &e))?;
                }
            }
        }
        pairs_failed.push(failed);
    }
    evaluated.errors.iter_mut().zip(pairs_failed).for_each(|(errors, failed)| *errors += failed);
    Ok(evaluated)
}
