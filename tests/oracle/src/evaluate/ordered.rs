//! Rows of partitions in order, sorted anew at every epoch.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use highwater_plan::{Emit, NodeId, OrderColumn, PartitionWindow, Ranking, TopN};

use super::window::end_of;
use super::{Context, Evaluated};
use crate::multiset::Multiset;
use crate::value::{Row, Value, micros};

/// The content of a [`TopN`] after each epoch.
pub(super) fn topn(context: &Context<'_>, id: NodeId, topn: &TopN, input: &[Multiset]) -> Evaluated {
    let add = |rows: &Multiset, content: &mut Multiset| first_rows(topn, rows, content);
    match &topn.window {
        Some(window) => windowed(context, id, &topn.partition, window, topn.emit, input, |rows, content| {
            add(rows, content);
            0
        }),
        None => {
            let content = input.iter().map(|rows| {
                let mut content = Multiset::default();
                add(rows, &mut content);
                content
            });
            Evaluated::of(content.collect())
        }
    }
}

fn first_rows(topn: &TopN, rows: &Multiset, content: &mut Multiset) {
    for rows in partitions(rows, &topn.partition, &topn.order) {
        let numbers = numbered(&rows, &topn.order, topn.ranking);
        for (row, number) in rows.iter().zip(numbers) {
            if (topn.first..=topn.last).contains(&(number as u64)) {
                let number = topn.numbered.then_some(Value::Int(number));
                content.add(row.iter().cloned().chain(number).collect(), 1);
            }
        }
    }
}

/// The content of an operator whose partitions are freed with windows: each takes rows while it is open. `add` says how
/// many results cannot be represented.
pub(super) fn windowed(
    context: &Context<'_>,
    id: NodeId,
    partition: &[usize],
    window: &PartitionWindow,
    emit: Emit,
    input: &[Multiset],
    mut add: impl FnMut(&Multiset, &mut Multiset) -> i64,
) -> Evaluated {
    let below = &context.job.plan.nodes[context.job.plan.nodes[id].inputs[0]];
    let column = partition[window.key];
    let sources = below.properties.time[column].as_ref().map(|time| time.sources.clone()).unwrap_or_default();
    let data_type = below.schema.field(column).data_type();
    let mut taken: BTreeMap<i64, Multiset> = BTreeMap::new();
    let mut evaluated = Evaluated::of(vec![Multiset::default(); context.epochs]);
    let (mut late, mut untimed) = (0, 0);
    for epoch in 0..context.epochs {
        for (row, diff) in change(input, epoch).iter() {
            match micros(&row[column], data_type).map(|bound| end_of(window.kind, bound)) {
                None => untimed += diff,
                Some(end) if context.is_open(epoch, &sources, end) => taken.entry(end).or_default().add(row.clone(), diff),
                Some(_) => late += context.late(&sources, diff),
            }
        }
        evaluated.late[epoch] = late;
        evaluated.errors[epoch] = untimed;
        for (end, rows) in &taken {
            if emit == Emit::Changes || *end <= context.watermark(epoch, &sources) {
                evaluated.errors[epoch] += add(rows, &mut evaluated.content[epoch]);
            }
        }
    }
    evaluated
}

/// What an epoch adds.
pub(super) fn change(input: &[Multiset], epoch: usize) -> Multiset {
    match epoch {
        0 => input[0].clone(),
        epoch => input[epoch].minus(&input[epoch - 1]),
    }
}

/// The rows of each partition in order, as often as they are there.
pub(super) fn partitions(rows: &Multiset, partition: &[usize], order: &[OrderColumn]) -> Vec<Vec<Row>> {
    let mut partitions: BTreeMap<Vec<Value>, Vec<Row>> = BTreeMap::new();
    for (row, count) in rows.iter() {
        let key = partition.iter().map(|column| row[*column].clone()).collect();
        partitions.entry(key).or_default().extend(std::iter::repeat_n(row.clone(), count.max(0) as usize));
    }
    let sorted = |mut rows: Vec<Row>| {
        rows.sort_by(|one, other| compare(order, one, other).then_with(|| one.cmp(other)));
        rows
    };
    partitions.into_values().map(sorted).collect()
}

/// How rows stand by their order columns alone.
pub(super) fn compare(order: &[OrderColumn], one: &Row, other: &Row) -> Ordering {
    let by_column = |by: &OrderColumn| {
        let (one, other) = (&one[by.column], &other[by.column]);
        match (one.is_null(), other.is_null()) {
            (true, true) => Ordering::Equal,
            (true, false) => {
                if by.nulls_first {
                    Ordering::Less
                } else {
                    Ordering::Greater
                }
            }
            (false, true) => {
                if by.nulls_first {
                    Ordering::Greater
                } else {
                    Ordering::Less
                }
            }
            (false, false) if by.descending => other.cmp(one),
            (false, false) => one.cmp(other),
        }
    };
    order.iter().map(by_column).find(|found| *found != Ordering::Equal).unwrap_or(Ordering::Equal)
}

/// The number of each row of a partition.
pub(super) fn numbered(rows: &[Row], order: &[OrderColumn], ranking: Ranking) -> Vec<i64> {
    let begins = |position: usize| position == 0 || compare(order, &rows[position - 1], &rows[position]) != Ordering::Equal;
    let (mut rank, mut dense) = (0, 0);
    let number = |position: usize| {
        if begins(position) {
            rank = position as i64 + 1;
            dense += 1;
        }
        match ranking {
            Ranking::RowNumber => position as i64 + 1,
            Ranking::Rank => rank,
            Ranking::DenseRank => dense,
        }
    };
    (0..rows.len()).map(number).collect()
}

/// Pairs of rows that may be looked at over all epochs: functions over frames look at each row of a partition from each.
const PAIRS_MAX: usize = 2_000_000;

/// Whether looking at all pairs of rows of a partition, `times` times, takes too long.
pub(super) fn too_large(input: &[Multiset], partition: &[usize], times: usize) -> bool {
    let mut pairs = 0usize;
    for rows in input {
        let mut sizes: BTreeMap<Vec<&Value>, usize> = BTreeMap::new();
        for (row, count) in rows.iter() {
            *sizes.entry(partition.iter().map(|column| &row[*column]).collect()).or_default() += count.max(0) as usize;
        }
        let here = sizes.into_values().fold(0usize, |sum, size| sum.saturating_add(size.saturating_mul(size)));
        pairs = pairs.saturating_add(here.saturating_mul(times.max(1)));
    }
    pairs > PAIRS_MAX
}
