//! Random changes against a model: rows that come and go, in short chains and in long ones.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray, Int64Array, StringArray};
use arrow::datatypes::Int64Type;
use arrow::record_batch::RecordBatch;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::*;

/// Rows by key and content, with how many copies there are.
type Model = BTreeMap<(u32, i64, Option<String>), Diff>;

fn text(value: i64) -> Option<String> {
    (value % 5 != 0).then(|| format!("text {value}"))
}

fn delta(values: &[(i64, Diff)]) -> Delta {
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(values.iter().map(|(value, _)| *value)));
    let texts: ArrayRef = Arc::new(values.iter().map(|(value, _)| text(*value)).collect::<StringArray>());
    let rows = RecordBatch::try_from_iter_with_nullable([("number", numbers, true), ("text", texts, true)]).unwrap();
    Delta::with_diffs(rows, Int64Array::from_iter_values(values.iter().map(|(_, diff)| *diff)))
}

fn content(side: &Changing) -> Model {
    let mut content = Model::new();
    for key in 0..side.keys() as u32 {
        let mut rows = Vec::new();
        let mut row = side.first(key);
        while row != NONE {
            rows.push(row);
            row = side.next(row);
        }
        if rows.is_empty() {
            continue;
        }
        let columns = side.gather(&rows, 0..2);
        let (numbers, texts) = (columns[0].as_primitive::<Int64Type>(), columns[1].as_string::<i32>());
        for (index, row) in rows.iter().enumerate() {
            let text = texts.is_valid(index).then(|| texts.value(index).to_owned());
            let there = content.insert((key, numbers.value(index), text), side.weight(*row));
            assert_eq!(there, None, "equal rows are one row");
        }
    }
    content
}

/// Rows of crowded keys know the one before them.
fn check_previous(side: &Changing) {
    for key in &side.crowded {
        let (mut row, mut previous) = (side.first(*key), NONE);
        while row != NONE {
            assert_eq!(side.previous[row as usize], previous, "key {key}");
            (previous, row) = (row, side.next(row));
        }
    }
}

/// What becomes of random changes; `hash` gives the hash of a key and a value, `values` how many there are.
fn changed_at_random(keys: u32, values: i64, hash: impl Fn(u32, i64) -> u64) -> Changing {
    let change = move |random: &mut SmallRng| (random.gen_range(0..keys), random.gen_range(0..values));
    changed_by(keys, 40, change, hash)
}

/// The same of changes of these keys and values, fewer than `most` at a time.
fn changed_by(keys: u32, most: usize, change: impl Fn(&mut SmallRng) -> (u32, i64), hash: impl Fn(u32, i64) -> u64) -> Changing {
    let mut random = SmallRng::seed_from_u64(u64::from(keys) + most as u64);
    let (mut side, mut model) = (Changing::default(), Model::new());
    side.resize(keys as usize);
    for round in 0..400 {
        let count = random.gen_range(1..most);
        let changes: Vec<(u32, i64, Diff)> = (0..count)
            .map(|_| {
                let (key, value) = change(&mut random);
                (key, value, if random.gen_bool(0.5) { 1 } else { -1 })
            })
            .collect();
        let keys: Vec<u32> = changes.iter().map(|change| change.0).collect();
        let hashes: Vec<u64> = changes.iter().map(|change| hash(change.0, change.1)).collect();
        let delta = delta(&changes.iter().map(|change| (change.1, change.2)).collect::<Vec<_>>());
        let mut told = Vec::new();
        side.insert_hashed(&keys, &hashes, delta.rows.columns(), &delta, &mut |position, _, _, before| {
            told.push((position, before));
        });
        let mut expected = Vec::new();
        for (position, (key, value, diff)) in changes.into_iter().enumerate() {
            let copies = model.entry((key, value, text(value))).or_default();
            expected.push((position, *copies));
            *copies += diff;
        }
        assert_eq!(told, expected);
        side.sweep();
        model.retain(|_, copies| *copies != 0);
        if round % 50 == 49 {
            let key = random.gen_range(0..*keys.iter().max().unwrap() + 1);
            let rows = model.keys().filter(|(of, ..)| *of == key).count();
            assert_eq!(side.forget(key), rows);
            model.retain(|(of, ..), _| *of != key);
        }
        check_previous(&side);
        assert_eq!(content(&side), model);
        assert_eq!(side.len(), model.len());
    }
    side
}

#[test]
fn rows_come_and_go_in_short_chains_and_in_long_ones() {
    let spread = |key: u32, value: i64| mix(mix(0, u64::from(key)), value as u64);
    assert!(changed_at_random(200, 3, spread).crowded.is_empty());
    assert!(!changed_at_random(3, 500, spread).crowded.is_empty());
}

#[test]
fn rows_go_from_crowded_keys_to_others_and_back() {
    let spread = |key: u32, value: i64| mix(mix(0, u64::from(key)), value as u64);
    // Half of the rows are of three keys, and of many values.
    let change = |random: &mut SmallRng| match random.gen_bool(0.5) {
        true => (random.gen_range(0..3), random.gen_range(0..60)),
        false => (random.gen_range(3..60), random.gen_range(0..4)),
    };
    let side = changed_by(60, 3 * AT_ONCE, change, spread);
    assert!((1..=3).contains(&side.crowded.len()), "{:?}", side.crowded);
}

#[test]
fn rows_that_share_a_hash_are_told_apart() {
    changed_at_random(20, 30, |_, _| 7);
    changed_at_random(2, 60, |_, _| 7);
}

#[test]
fn a_key_that_lost_all_its_rows_is_like_new() {
    let mut side = Changing::default();
    side.resize(2);
    let many: Vec<(i64, Diff)> = (0..100).map(|value| (value, 1)).collect();
    let gone: Vec<(i64, Diff)> = many.iter().map(|(value, _)| (*value, -1)).collect();
    for changes in [&many, &many, &gone, &gone] {
        let delta = delta(changes);
        side.insert(&[1; 100], delta.rows.columns(), &delta, &mut |_, _, _, _| {});
        side.sweep();
    }
    assert_eq!((side.len(), side.take_emptied(), side.first(1)), (0, vec![1], NONE));
    assert!(side.crowded.is_empty() && side.index.is_empty() && side.heads[1].seen == 0);
    assert_eq!(side.rows.stored(), (0, 0));
}
