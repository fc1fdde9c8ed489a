//! Whatever comes, the table has what a map would have, and gives the difference.

use std::collections::BTreeMap;

use arrow::array::{AsArray, StringArray};
use arrow::datatypes::{Field, Int64Type, Schema};
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use super::*;

type Model = BTreeMap<i64, Option<String>>;

struct Table {
    upsert: Upsert,
    epoch: Time,
    /// What was given, added up.
    given: BTreeMap<(i64, Option<String>), i64>,
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("k", DataType::Int64, false), Field::new("v", DataType::Utf8, true)]))
}

fn rows(changes: &[(i64, Option<String>, u64, i64)]) -> Delta {
    let keys: ArrayRef = Arc::new(changes.iter().map(|change| Some(change.0)).collect::<Int64Array>());
    let values: ArrayRef = Arc::new(changes.iter().map(|change| change.1.clone()).collect::<StringArray>());
    let places: ArrayRef = Arc::new(changes.iter().map(|change| Some(change.2)).collect::<UInt64Array>());
    let columns = [("k", keys, false), ("v", values, true), ("place", places, false)];
    let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
    Delta::with_diffs(batch, changes.iter().map(|change| change.3).collect())
}

impl Table {
    fn new() -> Self {
        Table { upsert: Upsert::new(vec![0], schema()), epoch: 0, given: BTreeMap::new() }
    }

    /// Gives how many changes came of it.
    fn apply(&mut self, batches: Vec<Delta>) -> usize {
        self.epoch += 1;
        let mut output = Vec::new();
        self.upsert.apply(self.epoch, &mut [batches], None, &mut output);
        for delta in &output {
            let (keys, values) = (delta.rows.column(0).as_primitive::<Int64Type>(), delta.rows.column(1).as_string::<i32>());
            for row in 0..delta.len() {
                let value = values.is_valid(row).then(|| values.value(row).to_owned());
                *self.given.entry((keys.value(row), value)).or_default() += delta.diff(row);
            }
        }
        self.given.retain(|_, count| *count != 0);
        output.iter().map(Delta::len).sum()
    }

    fn check(&self, model: &Model) {
        let expected: BTreeMap<_, _> = model.iter().map(|(key, value)| ((*key, value.clone()), 1)).collect();
        assert_eq!(self.given, expected);
        assert_eq!(self.upsert.state().0, model.len());
    }
}

#[test]
fn of_an_epochs_changes_the_last_by_place_counts() {
    let mut table = Table::new();
    let value = |text: &str| Some(text.to_owned());
    table.apply(vec![
        rows(&[(1, value("b"), 20, 1), (2, value("x"), 21, 1)]),
        rows(&[(1, value("a"), 10, 1), (2, None, 22, -1), (3, None, 23, 1)]),
    ]);
    table.check(&Model::from([(1, value("b")), (3, None)]));
    let changes = table.apply(vec![rows(&[(1, value("b"), 1, 1), (3, None, 2, 1), (4, value("gone"), 3, -1)])]);
    assert_eq!(changes, 0, "nothing differs");
    assert_eq!(table.apply(vec![rows(&[(1, value("whatever"), 1, -1), (3, value("c"), 1, 1)])]), 3);
    table.check(&Model::from([(3, value("c"))]));
}

#[test]
fn batches_of_every_size_come_and_go() {
    let mut random = SmallRng::seed_from_u64(11);
    let mut table = Table::new();
    let mut model = Model::new();
    for step in 0..400 {
        let (count, keys) = match step % 40 {
            0 => (20_000, 30_000),
            1..=20 => (random.gen_range(1..4), 30_000),
            _ => (random.gen_range(1..2_000), 5_000),
        };
        let mut changes = Vec::new();
        for place in 0..count {
            let key = random.gen_range(0..keys);
            let value = (random.gen_range(0..9) > 0).then(|| format!("value {}", random.gen_range(0..4)));
            if random.gen_range(0..6) == 0 {
                model.remove(&key);
                changes.push((key, None, place, -1));
            } else {
                model.insert(key, value.clone());
                changes.push((key, value, place, 1));
            }
        }
        let half = changes.len() / 2;
        table.apply(vec![rows(&changes[half..]), rows(&changes[..half])]);
        if step % 10 == 0 {
            table.check(&model);
        }
    }
    table.check(&model);
    let (batches, stored) = table.upsert.rows.stored();
    assert!(batches < 40 && stored < 2 * model.len() + 100_000, "{batches} batches with {stored} rows for {}", model.len());
    let all: Vec<_> = model.keys().map(|key| (*key, None, 1, -1)).collect();
    table.apply(vec![rows(&all)]);
    table.check(&Model::new());
    let (batches, stored) = table.upsert.rows.stored();
    assert!(batches < 20 && stored < 40_000, "{batches} batches with {stored} rows for none");
}

#[test]
fn what_is_given_back_goes_on() {
    let mut table = Table::new();
    let all: Vec<_> = (0..20_000).map(|key| (key, Some(format!("value {key}")), 1, 1)).collect();
    let delta = rows(&all);
    let columns = delta.rows.columns()[..2].to_vec();
    let saved = Delta::insert(RecordBatch::try_new(schema(), columns).unwrap());
    table.upsert.load(0, &mut [vec![saved.slice(0, 9_000), saved.slice(9_000, 10), saved.slice(9_010, 10_990)]]);
    assert_eq!(table.upsert.state().0, 20_000);
    assert_eq!(table.apply(vec![delta]), 0, "nothing differs");
    assert_eq!(table.apply(vec![rows(&[(9_005, None, 1, 1), (19_999, None, 1, -1)])]), 3);
}

/// Changes as they are saved.
fn saved(changes: &[(i64, String, i64)]) -> Delta {
    let all: Vec<_> = changes.iter().map(|(key, value, diff)| (*key, Some(value.clone()), 1, *diff)).collect();
    let delta = rows(&all);
    Delta::of(RecordBatch::try_new(schema(), delta.rows.columns()[..2].to_vec()).unwrap(), delta.diffs)
}

#[test]
fn a_table_is_given_back_checkpoints_added_up_in_any_order_and_others_in_theirs() {
    let mut random = SmallRng::seed_from_u64(12);
    let (mut now, mut checkpoints): (BTreeMap<i64, String>, Vec<Delta>) = Default::default();
    for checkpoint in 0..40 {
        let (before, mut changes) = (now.clone(), Vec::new());
        for _ in 0..300 {
            let key = random.gen_range(0..400);
            // It may be what it was before, and what it had several checkpoints ago.
            let value = Some(random.gen_range(0..4)).filter(|value| *value > 0).map(|value| format!("value {value}"));
            let had = match &value {
                Some(value) => now.insert(key, value.clone()),
                None => now.remove(&key),
            };
            if had != value {
                changes.extend(had.map(|had| (key, had, -1)).into_iter().chain(value.map(|value| (key, value, 1))));
            }
        }
        if checkpoint % 3 > 0 {
            let not_in = |other: &BTreeMap<i64, String>, (key, value): &(&i64, &String)| other.get(*key) != Some(*value);
            let gone = before.iter().filter(|row| not_in(&now, row)).map(|(key, value)| (*key, value.clone(), -1));
            let come = now.iter().filter(|row| not_in(&before, row)).map(|(key, value)| (*key, value.clone(), 1));
            changes = gone.chain(come).collect();
            changes.shuffle(&mut random);
        }
        checkpoints.extend(changes.chunks(70).map(saved));
    }
    let mut table = Table::new();
    table.upsert.load(0, &mut [checkpoints]);
    assert_eq!(table.upsert.state().0, now.len());
    let same: Vec<_> = now.iter().map(|(key, value)| (*key, Some(value.clone()), 1, 1)).collect();
    assert_eq!(table.apply(vec![rows(&same)]), 0, "nothing differs");
}

#[test]
fn a_table_is_given_back_what_became_of_it() {
    let mut table = Table::new();
    let changes = |changes: &[(i64, &str, i64)]| {
        saved(&changes.iter().map(|(key, value, diff)| (*key, (*value).to_owned(), *diff)).collect::<Vec<_>>())
    };
    let saved = vec![
        changes(&[(1, "a", 1), (2, "a", 1), (3, "a", 1)]),
        changes(&[(1, "a", -1), (1, "b", 1), (2, "a", -1), (4, "a", 1)]),
        changes(&[(1, "c", 1), (1, "b", -1), (2, "b", 1), (3, "a", -1)]),
    ];
    table.upsert.load(0, &mut [saved]);
    assert_eq!(table.upsert.state().0, 3);
    let same = [(1, "c"), (2, "b"), (4, "a")].map(|(key, value)| (key, Some(value.to_owned()), 1, 1));
    assert_eq!(table.apply(vec![rows(&same)]), 0, "nothing differs");
    assert_eq!(table.apply(vec![rows(&[(3, None, 1, 1), (2, None, 1, -1)])]), 2, "one is new, one goes");
}
