//! What a source or table holds.

use std::collections::BTreeMap;

use highwater_plan::SourceKind;

use super::Context;
use crate::multiset::Multiset;
use crate::value::{Row, Value};

/// All rows that came for a table, after each epoch: what was deleted counts negatively.
pub(super) fn versions(context: &Context<'_>, source: usize, projection: &[usize]) -> Vec<Multiset> {
    let read = |row: &Row| -> Row { projection.iter().map(|column| row[*column].clone()).collect() };
    let through = |epoch: u64| {
        let feeds = context.history.feeds.iter().filter(move |feed| feed.source == source);
        let batches = feeds.flat_map(|feed| &feed.batches).filter(move |batch| batch.epoch <= epoch);
        batches.flat_map(|batch| &batch.rows).map(|(row, diff)| (read(row), *diff)).collect()
    };
    context.history.epochs().into_iter().map(through).collect()
}

/// The content after each epoch: of a table with a primary key the last row per key, otherwise all rows.
pub(super) fn content(context: &Context<'_>, source: usize, projection: &[usize]) -> Vec<Multiset> {
    let declared = &context.job.sources[source];
    let upserts = declared.kind == SourceKind::Table && !declared.primary_key.is_empty();
    let read = |row: &Row| -> Row { projection.iter().map(|column| row[*column].clone()).collect() };
    let mut content = Vec::new();
    let ordered = if upserts { context.history.in_order(source) } else { Vec::new() };
    for through in context.history.epochs() {
        let feeds = context.history.feeds.iter().filter(|feed| feed.source == source);
        let rows = feeds.flat_map(|feed| &feed.batches).filter(|batch| batch.epoch <= through).flat_map(|batch| &batch.rows);
        content.push(if upserts {
            let mut last: BTreeMap<Vec<Value>, Row> = BTreeMap::new();
            for (_, row, diff) in ordered.iter().filter(|(epoch, ..)| *epoch <= through) {
                let key = declared.primary_key.iter().map(|column| row[*column].clone()).collect();
                match *diff > 0 {
                    true => last.insert(key, read(row)),
                    false => last.remove(&key),
                };
            }
            last.into_values().map(|row| (row, 1)).collect()
        } else {
            rows.map(|(row, diff)| (read(row), *diff)).collect()
        });
    }
    content
}
