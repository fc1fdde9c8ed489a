//! Adds up what checkpoint after checkpoint changed in a table.

use std::collections::HashMap;

use arrow::array::{Array, ArrayRef, AsArray, UInt32Array};
use arrow::datatypes::Int64Type;
use arrow_row::{RowConverter, SortField};
use highwater_plan::Micros;

use super::{Form, TableState};
use crate::Delta;
use crate::operator::sink::consolidate;

/// What all these changes of a table come to, oldest first: of one form and schema. `complete`: nothing came before them, so
/// that what they come to is the table's content.
///
/// Shape: rows with multiplicities, each distinct row once; of entries one row per key, or, unless `complete`, its removal.
/// Cost:  a pass over all changes, and a sort of none.
pub fn fold<'a>(changes: impl IntoIterator<Item = &'a TableState>, complete: bool) -> Vec<Delta> {
    let (mut deltas, mut form, mut freed) = (Vec::new(), Form::Rows, None);
    for table in changes {
        deltas.extend(table.changes.iter().cloned());
        form = table.form;
        freed = later(freed, table.freed);
    }
    deltas.retain(|delta| !delta.is_empty());
    let Some(first) = deltas.first() else { return deltas };
    let schema = first.rows.schema();
    let folded = match form {
        Form::Rows => consolidate(deltas, &schema),
        Form::Entries { keys } => last_of_each(&deltas, keys, complete),
    };
    let Some((column, bound)) = freed else { return folded };
    let kept = folded.into_iter().map(|delta| {
        let needed = needed(delta.rows.column(column), bound);
        delta.take(&needed)
    });
    kept.filter(|delta| !delta.is_empty()).collect()
}

/// Workers free at the same watermark, and a later checkpoint has freed what an earlier one did.
fn later(one: Option<(usize, i64)>, other: Option<(usize, i64)>) -> Option<(usize, i64)> {
    match (one, other) {
        (Some((column, one)), Some((_, other))) => Some((column, one.max(other))),
        (one, other) => other.or(one),
    }
}

/// The rows whose value is above `bound`, or NULL.
fn needed(column: &ArrayRef, bound: i64) -> UInt32Array {
    let rows = 0..column.len() as u32;
    let kept = |value: &dyn Fn(usize) -> i64| {
        UInt32Array::from_iter_values(rows.filter(|row| column.is_null(*row as usize) || value(*row as usize) > bound))
    };
    match column.as_primitive_opt::<Int64Type>() {
        Some(integers) => kept(&|row| integers.value(row)),
        None => {
            let times = Micros::new(column).expect("operators free rows by integers and timestamps");
            kept(&|row| times.value(row))
        }
    }
}

/// The last change per key; if they are `complete`, only of those that were not removed.
fn last_of_each(deltas: &[Delta], keys: usize, complete: bool) -> Vec<Delta> {
    let all = Delta::concat(deltas);
    let key = &all.rows.columns()[..keys];
    let fields = key.iter().map(|column| SortField::new(column.data_type().clone())).collect();
    let converter = RowConverter::new(fields).expect("keys of groups can be encoded");
    let encoded = converter.convert_columns(key).expect("the columns of the converter");
    let mut last: HashMap<&[u8], u32> = HashMap::with_capacity(all.len());
    let encoded: Vec<_> = (0..all.len()).map(|row| if keys == 0 { None } else { Some(encoded.row(row)) }).collect();
    for (row, key) in encoded.iter().enumerate() {
        last.insert(key.as_ref().map_or(&[][..], |key| key.data()), row as u32);
    }
    let mut rows: Vec<u32> = last.into_values().filter(|row| !complete || all.diff(*row as usize) > 0).collect();
    if rows.is_empty() {
        return Vec::new();
    }
    rows.sort_unstable();
    vec![all.take(&UInt32Array::from(rows))]
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, RecordBatch};

    use super::*;
    use crate::checkpoint::Spread;

    fn table(form: Form, rows: &[(i64, i64, i64)], freed: Option<(usize, i64)>) -> TableState {
        let column = |of: fn(&(i64, i64, i64)) -> i64| Arc::new(rows.iter().map(of).collect::<Int64Array>()) as ArrayRef;
        let batch = RecordBatch::try_from_iter([("k", column(|row| row.0)), ("v", column(|row| row.1))]).unwrap();
        let delta = Delta::with_diffs(batch, rows.iter().map(|row| row.2).collect());
        TableState { table: 0, form, spread: Spread::Anywhere, changes: vec![delta], freed }
    }

    fn folded(changes: &[TableState]) -> Vec<(i64, i64, i64)> {
        let mut rows = Vec::new();
        for delta in fold(changes, true) {
            let column = |at: usize| delta.rows.column(at).as_primitive::<Int64Type>().clone();
            rows.extend((0..delta.len()).map(|row| (column(0).value(row), column(1).value(row), delta.diff(row))));
        }
        rows.sort_unstable();
        rows
    }

    #[test]
    fn rows_add_up_and_those_that_were_freed_are_gone() {
        let first = table(Form::Rows, &[(1, 10, 1), (2, 20, 2), (3, 30, 1)], Some((1, 5)));
        let second = table(Form::Rows, &[(1, 10, -1), (2, 20, 1), (4, 40, 1)], None);
        assert_eq!(folded(&[first.clone(), second.clone()]), [(2, 20, 3), (3, 30, 1), (4, 40, 1)]);
        let third = table(Form::Rows, &[], Some((1, 30)));
        assert_eq!(folded(&[first, second, third]), [(4, 40, 1)]);
    }

    #[test]
    fn of_entries_the_last_counts() {
        let form = Form::Entries { keys: 1 };
        let first = table(form, &[(1, 10, 1), (2, 20, 1)], None);
        let second = table(form, &[(1, 0, -1), (2, 21, 1), (3, 30, 1), (3, 0, -1), (3, 31, 1)], None);
        assert_eq!(folded(&[first, second.clone()]), [(2, 21, 1), (3, 31, 1)]);
        let rest = fold(&[second], false);
        assert_eq!((rest[0].len(), (0..3).map(|row| rest[0].diff(row)).sum::<i64>()), (3, 1), "a removal is kept");
        let unit = Form::Entries { keys: 0 };
        assert_eq!(folded(&[table(unit, &[(1, 1, 1)], None), table(unit, &[(1, 2, 1)], None)]), [(1, 2, 1)]);
    }
}
