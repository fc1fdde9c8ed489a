//! What changes come to: folded, as content, in pieces.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};

use super::*;

fn table(form: Form, rows: &[(i64, i64, i64)], freed: Option<(usize, i64)>) -> TableState {
    let column = |of: fn(&(i64, i64, i64)) -> i64| Arc::new(rows.iter().map(of).collect::<Int64Array>()) as ArrayRef;
    let batch = RecordBatch::try_from_iter([("k", column(|row| row.0)), ("v", column(|row| row.1))]).unwrap();
    let delta = Delta::with_diffs(batch, rows.iter().map(|row| row.2).collect());
    TableState { table: 0, form, spread: Spread::Anywhere, piece: Piece::WHOLE, changes: vec![delta], freed }
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

/// Numbers below what it is given.
fn random(seed: u64) -> impl FnMut(u64) -> i64 {
    let mut state = seed;
    move |below| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) % below) as i64
    }
}

fn whole(changes: &[TableState]) -> Vec<Delta> {
    content(changes, None, &Spread::One, 1).remove(0)
}

/// What changes come to, which is also what the table has.
fn folded(changes: &[TableState]) -> Vec<(i64, i64, i64)> {
    let folded = rows(fold(changes, true));
    assert_eq!(rows(whole(changes)), folded);
    assert_eq!(rows(content(changes, None, &Spread::Anywhere, 3).concat()), folded, "in parts");
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
    let mut random = random(7);
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

/// What workers of a job on so many would have of a table, each its piece.
fn in_pieces(table: &TableState, of: usize) -> Vec<TableState> {
    let changes = std::slice::from_ref(table);
    let parts = cut(changes, None, &table.spread, of, 1).into_iter().enumerate();
    parts.map(|(number, part)| TableState { piece: Piece { number, of }, changes: part.deltas, ..table.clone() }).collect()
}

#[test]
fn pieces_of_jobs_on_other_numbers_of_workers_come_to_the_same() {
    for form in [Form::Rows, Form::Entries { keys: 1 }] {
        let step = |from: i64, taken: i64| {
            let gone = (taken..from).map(|key| (key, key, -1));
            let came = (from..from + 300).map(|key| (key, key, 1));
            TableState { spread: Spread::ByColumns(vec![0]), ..table(form, &gone.chain(came).collect::<Vec<_>>(), None) }
        };
        let steps = [step(0, 0), step(300, 200), step(600, 550)];
        let whole = rows(fold(&steps, true));
        assert_eq!(whole.len(), 750, "{form:?}");
        for of in [[2, 2, 2], [1, 4, 4], [4, 2, 1], [2, 3, 1], [3, 2, 4]] {
            let changes: Vec<_> = steps.iter().zip(of).flat_map(|(step, of)| in_pieces(step, of)).collect();
            let folded = fold_pieces(&changes, true);
            let newest = of.into_iter().rev().find(|of| *of > 1).unwrap();
            assert_eq!(folded.iter().map(|(piece, _)| *piece).collect::<Vec<_>>(), {
                (0..newest).map(|number| Piece { number, of: newest }).collect::<Vec<_>>()
            });
            for (piece, deltas) in &folded {
                assert!(deltas.iter().all(|delta| rows_of(delta, &[0], piece.of)[piece.number].len() == delta.len()));
            }
            assert_eq!(rows(folded.into_iter().flat_map(|(_, deltas)| deltas).collect()), whole, "{of:?}");
            for workers in 1..=4 {
                let parts = content(&changes, None, &Spread::ByColumns(vec![0]), workers);
                for (worker, deltas) in parts.iter().enumerate() {
                    assert!(deltas.iter().all(|delta| rows_of(delta, &[0], workers)[worker].len() == delta.len()));
                }
                assert_eq!(rows(parts.concat()), whole, "{of:?} for {workers}");
            }
        }
    }
}

#[test]
fn a_table_that_is_spread_anew_is_folded_as_it_is_spread_now() {
    let of = |first: i64, spread| {
        let rows: Vec<_> = (first..first + 300).map(|key| (key, key, 1)).collect();
        TableState { spread, ..table(Form::Rows, &rows, None) }
    };
    let by_columns = Spread::ByColumns(vec![0]);
    let folded = |changes: Vec<TableState>| {
        let (pieces, deltas): (Vec<Piece>, Vec<_>) = fold_pieces(&changes, true).into_iter().unzip();
        assert_eq!(rows(deltas.concat()), (0..600).map(|key| (key, key, 1)).collect::<Vec<_>>());
        pieces
    };
    let pieces = in_pieces(&of(0, by_columns.clone()), 4);
    assert_eq!(folded([pieces, vec![of(300, Spread::Anywhere)]].concat()), [Piece::WHOLE]);
    let pieces = in_pieces(&of(300, by_columns), 2);
    let both = [Piece { number: 0, of: 2 }, Piece { number: 1, of: 2 }];
    assert_eq!(folded([vec![of(0, Spread::Anywhere)], pieces].concat()), both);
}

#[test]
fn what_is_of_one_worker_is_not_copied() {
    let many: Vec<(i64, i64, i64)> = (0..9_000).map(|key| (key, 1, 1)).collect();
    let table = TableState { spread: Spread::ByColumns(vec![0]), ..table(Form::Rows, &many, None) };
    let address = |delta: &Delta| delta.rows.column(0).to_data().buffers()[0].as_ptr();
    let pieces = in_pieces(&table, 4);
    let given = changes_of(&pieces, &table.spread, 2);
    for (worker, deltas) in given.iter().enumerate() {
        let of = pieces.iter().filter(|piece| piece.piece.number % 2 == worker).flat_map(|piece| &piece.changes);
        assert_eq!(deltas.iter().map(address).collect::<Vec<_>>(), of.map(address).collect::<Vec<_>>());
    }
}

#[test]
fn batches_that_nothing_was_taken_from_are_not_copied() {
    let many: Vec<(i64, i64, i64)> = (0..9_000).map(|key| (key, 1, 1)).collect();
    let first = table(Form::Rows, &many, None);
    let second = table(Form::Rows, &[(9_001, 1, 1), (9_001, 1, -1), (9_002, 1, 1)], None);
    let had = whole(&[first.clone(), second]);
    assert_eq!(
        had[0].rows.column(0).to_data().buffers()[0].as_ptr(),
        first.changes[0].rows.column(0).to_data().buffers()[0].as_ptr()
    );
    assert_eq!(had.iter().map(Delta::len).sum::<usize>(), 9_001);
}

#[test]
fn of_a_table_with_a_unique_key_the_newest_counts() {
    let mut random = random(3);
    let (mut kept, mut steps) = (BTreeMap::<i64, i64>::new(), Vec::new());
    for step in 0..60 {
        let mut rows = Vec::new();
        for key in 0..40 {
            let new = (random(4) > 0).then_some(step * 40 + key % 3);
            let old = match new {
                _ if random(2) == 0 => continue,
                Some(new) => kept.insert(key, new),
                None => kept.remove(&key),
            };
            let changes = [old.map(|old| (key, old, -1)), new.map(|new| (key, new, 1))].into_iter().flatten();
            let changes: Vec<_> = changes.collect();
            // What an epoch takes back comes before what it adds or after it.
            rows.extend(if random(2) == 0 { changes } else { changes.into_iter().rev().collect() });
        }
        steps.push(table(Form::Rows, &rows, None));
    }
    let expected: Vec<_> = kept.into_iter().map(|(key, value)| (key, value, 1)).collect();
    assert!(mostly_go(&gather(&steps, None).deltas) && expected.len() > 20);
    let newest_of = |steps: &[TableState]| {
        let changes = gather(steps, Some(&[0]));
        newest(&changes, 2).map(|newest| newest.len())
    };
    assert_eq!(newest_of(&steps), Some(expected.len()));
    for workers in [1, 3] {
        let by_key = Spread::ByColumns(vec![0]);
        let spread: Vec<_> = steps.iter().map(|step| TableState { spread: by_key.clone(), ..step.clone() }).collect();
        assert_eq!(rows(content(&spread, Some(&[0]), &by_key, workers).concat()), expected);
    }
    // A key that has two rows after all, of which the older one stays.
    let twice = [(7, -1, 1), (7, -2, 1), (7, -2, -1)].map(|row| table(Form::Rows, &[row], None));
    for (broken, more) in [(&twice[..2], vec![(7, -2, 1), (7, -1, 1)]), (&twice, vec![(7, -1, 1)])] {
        let steps = [broken, &steps].concat();
        assert_eq!(newest_of(&steps), None, "it is told");
        let mut expected = [more, expected.clone()].concat();
        expected.sort_unstable();
        assert_eq!(rows(content(&steps, Some(&[0]), &Spread::One, 1).remove(0)), expected);
    }
    let alone = [(7, -1, 1), (7, -2, 1), (7, -1, -1), (7, -1, 1), (7, -2, -1)].map(|row| table(Form::Rows, &[row], None));
    assert_eq!(newest_of(&alone), Some(1));
    let older = [(7, -1, 1), (7, -2, 1), (7, -2, -1)].map(|row| table(Form::Rows, &[row], None));
    assert_eq!(newest_of(&older), None, "its newest is not what is left");
}

#[test]
fn a_table_whose_rows_mostly_went_is_added_up_as_any_other() {
    let steps: Vec<_> = (0..40_i64)
        .map(|step| {
            let taken = (0..50).map(|key| (key, step * 50 + key - 50, -1)).filter(|_| step > 0);
            table(Form::Rows, &taken.chain((0..50).map(|key| (key, step * 50 + key, 1))).collect::<Vec<_>>(), None)
        })
        .collect();
    let deltas: Vec<Delta> = steps.iter().flat_map(|step| step.changes.clone()).collect();
    assert!(mostly_go(&deltas) && !mostly_go(&deltas[..1]));
    let last: Vec<_> = (0..50).map(|key| (key, 39 * 50 + key, 1)).collect();
    assert_eq!(rows(whole(&steps)), last);
    assert_eq!(rows(fold(&steps, true)), last);
    let later = rows(fold(&steps[1..], false));
    let taken = (0..50).map(|key| (key, key, -1));
    let mut expected: Vec<_> = taken.chain(last).collect();
    expected.sort_unstable();
    assert_eq!(later, expected, "of what nothing is known but that it went");
}
