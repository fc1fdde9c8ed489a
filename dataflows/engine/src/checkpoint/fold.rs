//! Adds up what checkpoint after checkpoint changed in a table.

use arrow::array::{Array, ArrayRef, AsArray, UInt32Array};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::Int64Type;
use highwater_plan::Micros;

use super::{Form, TableState};
use crate::equal::{Order, Parts, Place};
use crate::parallel::in_parallel;
use crate::{Delta, Diff};

/// What all these changes of a table come to, oldest first: of one form and schema. `complete`: nothing came before them, so
/// that what they come to is the table's content.
///
/// Shape: rows with multiplicities, each distinct row once; of entries one row per key, or, unless `complete`, its removal.
/// Cost:  a hash per row. Only rows that are changed again are compared, and only batches that have such are copied.
pub fn fold<'a>(changes: impl IntoIterator<Item = &'a TableState>, complete: bool) -> Vec<Delta> {
    let (deltas, form, freed) = gather(changes);
    without(freed, settle(deltas, form, complete, true, 1))
}

/// What a table has after all these changes, oldest first, which began with nothing: [`fold`] for those who need not have each
/// row only once, and who wait for it: all cores take part. Where rows were only added, nothing is hashed.
///
/// Shape: rows with positive multiplicities, an equal row perhaps again; of entries one row per key.
pub(super) fn content<'a>(changes: impl IntoIterator<Item = &'a TableState>) -> Vec<Delta> {
    let (deltas, form, freed) = gather(changes);
    without(freed, settle(deltas, form, true, false, usize::MAX))
}

/// Adds changes up, with at most so many threads. `once`: each distinct row is given once.
fn settle(deltas: Vec<Delta>, form: Form, complete: bool, once: bool, threads: usize) -> Vec<Delta> {
    let Some(first) = deltas.first() else { return deltas };
    let (columns, once, removals) = match form {
        Form::Rows => (first.rows.num_columns(), once, !once),
        Form::Entries { keys } => (keys, true, complete),
    };
    if !once && deltas.iter().all(only_adds) {
        return in_larger(deltas);
    }
    let hashes = in_parallel(&deltas, threads, |delta| delta.hashes(columns));
    let contested = contested(&deltas, &hashes, once, removals);
    let order = if form == Form::Rows { Order::OldestFirst } else { Order::NewestFirst };
    let parts = Parts::new(&hashes, |hash| contested.has(hash), order);
    drop((hashes, contested));
    // Of batches with rows that others say something of: what becomes of them.
    let mut diffs: Vec<Option<Vec<Diff>>> = vec![None; deltas.len()];
    for place in parts.places() {
        diffs[place.batch as usize].get_or_insert_with(|| deltas[place.batch as usize].to_diffs());
    }
    let keys: Vec<&[ArrayRef]> = deltas.iter().map(|delta| &delta.rows.columns()[..columns]).collect();
    let mut replace = |place: Place, diff: &dyn Fn(Diff) -> Diff| {
        let of = &mut diffs[place.batch as usize].as_mut().expect("made for every place")[place.row as usize];
        std::mem::replace(of, diff(*of))
    };
    for (place, first) in parts.equal(&keys, threads) {
        let diff = replace(place, &|_| 0);
        if form == Form::Rows {
            replace(first, &|sum| sum + diff);
        }
    }
    let removals_too = form == Form::Rows || !complete;
    let changed: Vec<_> = deltas.into_iter().zip(diffs).collect();
    let settled = in_parallel(&changed, threads, |(delta, diffs)| match diffs {
        None => delta.clone(),
        Some(diffs) => with_diffs(delta, diffs, removals_too),
    });
    in_larger(settled.into_iter().filter(|delta| !delta.is_empty()).collect())
}

/// The hashes of rows that say what became of others, and some more; all rows of such a hash are compared.
fn contested(deltas: &[Delta], hashes: &[Vec<u64>], once: bool, removals: bool) -> Hashes {
    let rows: usize = hashes.iter().map(Vec::len).sum();
    let says = |diff: Diff| diff == 0 || (removals && diff < 0);
    let count = match once {
        true => rows,
        false => deltas.iter().flat_map(Delta::diff_values).flatten().filter(|diff| says(**diff)).count(),
    };
    let (mut contested, mut seen) = (Hashes::of(count), Hashes::of(if once { rows } else { 0 }));
    for (delta, hashes) in deltas.iter().zip(hashes) {
        for (row, hash) in hashes.iter().enumerate() {
            if says(delta.diff(row)) || (once && !seen.insert(*hash)) {
                contested.insert(*hash);
            }
        }
    }
    contested
}

/// The updates with these multiplicities, without those that have none or, unless they are wanted, remove something.
fn with_diffs(delta: &Delta, diffs: &[Diff], removals_too: bool) -> Delta {
    let is_kept = |diff: Diff| diff > 0 || (removals_too && diff < 0);
    let left: Vec<Diff> = diffs.iter().copied().filter(|diff| is_kept(*diff)).collect();
    let rows = match left.len() == diffs.len() {
        true => delta.rows.clone(),
        false => {
            let kept = BooleanBuffer::collect_bool(diffs.len(), |row| is_kept(diffs[row]));
            Delta::insert(delta.rows.clone()).filter(&kept).rows
        }
    };
    let adds_one = left.iter().all(|diff| *diff == 1);
    Delta::of(rows, (!adds_one).then(|| left.into()))
}

/// All changes, and which rows are no longer needed.
fn gather<'a>(changes: impl IntoIterator<Item = &'a TableState>) -> (Vec<Delta>, Form, Option<(usize, i64)>) {
    let (mut deltas, mut form, mut freed) = (Vec::new(), Form::Rows, None);
    for table in changes {
        deltas.extend(table.changes.iter().filter(|delta| !delta.is_empty()).cloned());
        form = table.form;
        freed = later(freed, table.freed);
    }
    (deltas, form, freed)
}

/// Without the rows that are no longer needed.
fn without(freed: Option<(usize, i64)>, deltas: Vec<Delta>) -> Vec<Delta> {
    let Some((column, bound)) = freed else { return deltas };
    let kept = deltas.into_iter().map(|delta| {
        let needed = needed(delta.rows.column(column), bound);
        if needed.len() == delta.len() { delta } else { delta.take(&needed) }
    });
    kept.filter(|delta| !delta.is_empty()).collect()
}

fn only_adds(delta: &Delta) -> bool {
    delta.diff_values().is_none_or(|diffs| diffs.iter().all(|diff| *diff > 0))
}

/// Puts small batches together: what a job got in many epochs, it is given back in few batches.
fn in_larger(deltas: Vec<Delta>) -> Vec<Delta> {
    const ROWS: usize = 8_192;
    let (mut larger, mut small, mut rows) = (Vec::new(), Vec::new(), 0);
    for delta in deltas {
        if rows + delta.len() > ROWS && !small.is_empty() {
            larger.push(together(&mut small));
            rows = 0;
        }
        rows += delta.len();
        small.push(delta);
    }
    if !small.is_empty() {
        larger.push(together(&mut small));
    }
    larger
}

/// Empties a list that is not empty.
fn together(small: &mut Vec<Delta>) -> Delta {
    let one = if small.len() == 1 { small.pop() } else { None };
    let all = std::mem::take(small);
    one.unwrap_or_else(|| Delta::concat(&all))
}

/// A set of hashes that may have some more than were put into it.
struct Hashes(Vec<u64>);

impl Hashes {
    /// For so many: of others it has one in sixteen, about.
    fn of(count: usize) -> Self {
        Hashes(vec![0; (count / 4).next_power_of_two()])
    }

    fn place(&self, hash: u64) -> (usize, u64) {
        ((hash >> 6) as usize & (self.0.len() - 1), 1 << (hash & 63))
    }

    fn has(&self, hash: u64) -> bool {
        let (word, bit) = self.place(hash);
        self.0[word] & bit != 0
    }

    /// Whether it was not there.
    fn insert(&mut self, hash: u64) -> bool {
        let (word, bit) = self.place(hash);
        let is_new = self.0[word] & bit == 0;
        self.0[word] |= bit;
        is_new
    }
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
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

    fn rows(deltas: Vec<Delta>) -> Vec<(i64, i64, i64)> {
        let mut rows: BTreeMap<(i64, i64), i64> = BTreeMap::new();
        for delta in deltas {
            let column = |at: usize| delta.rows.column(at).as_primitive::<Int64Type>().clone();
            for row in 0..delta.len() {
                *rows.entry((column(0).value(row), column(1).value(row))).or_default() += delta.diff(row);
            }
        }
        rows.into_iter().map(|((key, value), diff)| (key, value, diff)).collect()
    }

    /// What changes come to, which is also what the table has.
    fn folded(changes: &[TableState]) -> Vec<(i64, i64, i64)> {
        let folded = rows(fold(changes, true));
        assert_eq!(rows(content(changes)), folded);
        folded
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

    #[test]
    fn the_content_is_what_changes_come_to() {
        let mut state = 7u64;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 33) % below) as i64
        };
        for _ in 0..300 {
            let (mut kept, mut changes) = (BTreeMap::new(), Vec::new());
            let form = if random(2) == 0 { Form::Rows } else { Form::Entries { keys: 1 } };
            for _ in 0..1 + random(7) {
                let mut rows = Vec::new();
                for _ in 0..random(20) {
                    let (key, value) = (random(30), random(3));
                    let had: i64 = *kept.get(&(key, value)).unwrap_or(&0);
                    match random(3) {
                        0 if form == Form::Rows && had == 0 => continue,
                        0 => rows.push((key, value, -1)),
                        _ => rows.push((key, value, 1)),
                    }
                    *kept.entry((key, value)).or_default() += rows[rows.len() - 1].2;
                }
                let freed = (random(4) == 0).then_some((0, random(10)));
                changes.push(table(form, &rows, freed));
            }
            let content = folded(&changes);
            assert!(content.iter().all(|row| row.2 > 0), "{content:?}");
            if form == Form::Rows && changes.iter().all(|table| table.freed.is_none()) {
                kept.retain(|_, times| *times != 0);
                assert_eq!(content, kept.into_iter().map(|((key, value), times)| (key, value, times)).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn batches_that_nothing_was_taken_from_are_not_copied() {
        let many: Vec<(i64, i64, i64)> = (0..9_000).map(|key| (key, 1, 1)).collect();
        let first = table(Form::Rows, &many, None);
        let second = table(Form::Rows, &[(9_001, 1, 1), (9_001, 1, -1), (9_002, 1, 1)], None);
        let had = content([&first, &second]);
        assert_eq!(
            had[0].rows.column(0).to_data().buffers()[0].as_ptr(),
            first.changes[0].rows.column(0).to_data().buffers()[0].as_ptr()
        );
        assert_eq!(had.iter().map(Delta::len).sum::<usize>(), 9_001);
    }
}
