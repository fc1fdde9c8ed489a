//! Changes that are held back, and rows with the epoch in which they came.

use highwater_plan::{Hold, NodeId, TimeKind};

use super::window::end_of;
use super::{Context, Evaluated};
use crate::multiset::Multiset;
use crate::value::{Row, Value, micros};

/// What an epoch has changed.
fn change(input: &[Multiset], epoch: usize) -> Multiset {
    if epoch == 0 { input[0].clone() } else { input[epoch].minus(&input[epoch - 1]) }
}

/// Each row with the epoch in which it came; none is ever taken back.
pub(super) fn stamped(context: &Context<'_>, input: &[Multiset]) -> Vec<Multiset> {
    let mut all = Multiset::default();
    let mut content = Vec::new();
    for epoch in 0..context.epochs {
        let stamp = Value::Int(context.times[epoch] as i64);
        for (row, diff) in change(input, epoch).iter() {
            let with_epoch: Row = row.iter().chain([&stamp]).cloned().collect::<Vec<Value>>().into();
            all.add(with_epoch, diff);
        }
        content.push(all.clone());
    }
    content
}

/// The content after each epoch.
pub(super) fn content(context: &Context<'_>, id: NodeId, hold: &Hold, input: &[Multiset]) -> Evaluated {
    match hold {
        Hold::Every { millis } => {
            let interval = |epoch: usize| context.times[epoch] / millis;
            let given = |epoch: usize| match context.clock(epoch) {
                i64::MAX => Some(epoch),
                _ => (0..epoch).rev().find(|before| interval(*before) < interval(epoch)),
            };
            let content = (0..context.epochs).map(|epoch| given(epoch).map(|last| input[last].clone()).unwrap_or_default());
            Evaluated::of(content.collect())
        }
        Hold::UntilPassed { column, kind } => until_passed(context, id, (*column, *kind), input),
    }
}

fn until_passed(context: &Context<'_>, id: NodeId, (column, kind): (usize, TimeKind), input: &[Multiset]) -> Evaluated {
    let below = &context.job.plan.nodes[context.job.plan.nodes[id].inputs[0]];
    let sources = below.properties.time[column].as_ref().map(|time| time.sources.clone()).unwrap_or_default();
    let end = |row: &Row| micros(&row[column], below.schema.field(column).data_type()).map(|time| end_of(kind, time));
    let mut evaluated = Evaluated::of(Vec::new());
    let mut taken = Multiset::default();
    let (mut late, mut untimed) = (0, 0);
    for epoch in 0..context.epochs {
        for (row, diff) in change(input, epoch).iter() {
            match end(row) {
                None => untimed += diff,
                Some(end) if kind != TimeKind::Event && !context.is_open(epoch, &sources, end) => {
                    late += context.late(&sources, diff)
                }
                Some(_) => taken.add(row.clone(), diff),
            }
        }
        let passed = |row: &Row| end(row).is_some_and(|end| end <= context.watermark(epoch, &sources));
        let content = taken.iter().filter(|(row, _)| passed(row)).map(|(row, diff)| (row.clone(), diff));
        evaluated.content.push(content.collect());
        evaluated.errors.push(untimed);
        evaluated.late.push(late);
    }
    evaluated
}
