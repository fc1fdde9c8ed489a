//! Whole dataflows of one, two and four workers: two joins that share a table, against a naive join at every epoch.
//!
//! The table is left in one join and right in the other, which reads it through a projection; one takes NULL for a
//! value; one stream only grows, the other changes.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use highwater_plan::{Emit, Expr, JoinKind, Map, OnError};
use timely::container::NoopBuilder;
use timely::dataflow::operators::core::input::Handle;
use timely::dataflow::operators::core::inspect::InspectCore;
use timely::dataflow::operators::probe::Probe;
use timely::dataflow::{InputHandle, ProbeHandle};

use super::super::BATCH_ROWS;
use super::super::shared::Keep;
use super::*;
use crate::Diff;
use crate::arrangement::random::Random;
use crate::delta::Parcel;
use crate::operator::epoch::{Input, epoch_operator};
use crate::operator::exchange::Route;
use crate::operator::sides::Errors;
use crate::stats::OperatorStats;

/// A text column holds its numbers as text.
type Row = Vec<Option<i64>>;
type Rows = BTreeMap<Row, Diff>;

const TABLE: usize = 2;

/// Columns of the growing stream, the changing stream and the table; true: text.
const COLUMNS: [&[bool]; 3] = [&[false, true, false], &[false, true, false], &[true, true, false, false]];

/// The key columns of each, in one order.
const KEYS: [[usize; 2]; 3] = [[0, 1], [2, 1], [2, 1]];

/// The table's columns as the first join has them.
const PROJECTED: [usize; 3] = [3, 2, 1];

fn schema(text: &[bool]) -> SchemaRef {
    let data_type = |text: bool| if text { DataType::Utf8 } else { DataType::Int64 };
    let fields = text.iter().enumerate().map(|(index, text)| Field::new(format!("c{index}"), data_type(*text), true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn batch(text: &[bool], rows: &[Row]) -> RecordBatch {
    let column = |index: usize| -> ArrayRef {
        let values = rows.iter().map(|row| row[index]);
        match text[index] {
            true => Arc::new(values.map(|value| value.map(|value| value.to_string())).collect::<StringArray>()),
            false => Arc::new(values.collect::<Int64Array>()),
        }
    };
    RecordBatch::try_new(schema(text), (0..text.len()).map(column).collect()).expect("columns fit")
}

fn rows(batch: &RecordBatch) -> Vec<Row> {
    let value = |column: &ArrayRef, row: usize| match column.data_type() {
        _ if column.is_null(row) => None,
        DataType::Utf8 => column.as_string::<i32>().value(row).parse().ok(),
        _ => Some(column.as_primitive::<Int64Type>().value(row)),
    };
    (0..batch.num_rows()).map(|row| batch.columns().iter().map(|column| value(column, row)).collect()).collect()
}

/// One of the two joins: of left and right columns those that are given.
struct Spec {
    inputs: [usize; 2],
    nulls_equal: bool,
    given: Vec<usize>,
}

fn specs(narrow: bool) -> [Spec; 2] {
    let given = if narrow { vec![3, 6] } else { (0..7).collect() };
    [Spec { inputs: [0, TABLE], nulls_equal: false, given: vec![2, 3, 0] }, Spec { inputs: [TABLE, 1], nulls_equal: true, given }]
}

/// The columns of the table that the joins of [`specs`] read.
fn kept(narrow: bool) -> Vec<usize> {
    if narrow { vec![1, 2, 3] } else { vec![0, 1, 2, 3] }
}

/// A row of the table as a join has it.
fn seen(join: usize, row: &Row) -> Row {
    if join == 0 { PROJECTED.iter().map(|column| row[*column]).collect() } else { row.clone() }
}

fn logic(index: usize, spec: &Spec, rows: SharedRows) -> ArrangedJoin {
    let table = usize::from(spec.inputs[1] == TABLE);
    let columns: Vec<usize> = if index == 0 { PROJECTED.to_vec() } else { (0..4).collect() };
    let text = spec.inputs.map(|input| match input {
        TABLE => columns.iter().map(|column| COLUMNS[TABLE][*column]).collect::<Vec<_>>(),
        input => COLUMNS[input].to_vec(),
    });
    let key = |side: usize, part: usize| match spec.inputs[side] {
        TABLE => columns.iter().position(|column| *column == KEYS[TABLE][part]).expect("the key is there"),
        input => KEYS[input][part],
    };
    let all = text.concat();
    let output = schema(&spec.given.iter().map(|column| all[*column]).collect::<Vec<_>>());
    let pairs = schema(&all);
    let exprs = spec.given.iter().map(|column| Expr::column(*column, pairs.field(*column).data_type().clone(), true));
    let map = Map { filters: Vec::new(), exprs: Some(exprs.collect()) };
    let on = vec![(key(0, 0), key(1, 0)), (key(0, 1), key(1, 1))];
    let join = Join {
        kind: JoinKind::Inner,
        on,
        nulls_equal: spec.nulls_equal,
        residual: Vec::new(),
        map: map.clone(),
        window: None,
        interval: None,
        emit: Emit::Changes,
    };
    let fail = Arc::new(|message| panic!("{message}"));
    let errors = Errors { worker: 0, operator: "join".into(), relations: Vec::new(), policy: OnError::Fail, fail };
    let schemas = [schema(&text[0]), schema(&text[1])];
    let append_only = spec.inputs.map(|input| input == 0);
    ArrangedJoin::new(&join, [&schemas[0], &schemas[1]], append_only, Mapper::new(map, output, errors), table, &columns, rows)
}

/// What changes in an epoch, per input.
struct Epoch {
    epoch: Time,
    updates: [Vec<(Row, Diff)>; 3],
    /// Whether workers wait here until it is closed.
    closes: bool,
}

/// What a run gave: per join and epoch the changes, and the counters of the joins and the arrangement, over all workers.
struct Outcome {
    given: [BTreeMap<Time, Rows>; 2],
    stats: [Vec<Arc<OperatorStats>>; 3],
}

impl Outcome {
    fn state_rows(&self, operator: usize) -> u64 {
        self.stats[operator].iter().map(|stats| stats.state_rows.load(Ordering::Relaxed)).sum()
    }
}

fn run(peers: usize, narrow: bool, history: Arc<Vec<Epoch>>) -> Outcome {
    let given = Arc::new(Mutex::new([BTreeMap::<Time, Rows>::new(), BTreeMap::new()]));
    let stats: [Vec<Arc<OperatorStats>>; 3] = std::array::from_fn(|_| (0..peers).map(|_| Arc::default()).collect());
    let (taken, counters) = (Arc::clone(&given), stats.clone());
    let config = if peers == 1 { timely::Config::thread() } else { timely::Config::process(peers) };
    let workers = timely::execute(config, move |worker| {
        let index = worker.index();
        let mut inputs: [InputHandle<Time, NoopBuilder<Parcel>>; 3] = std::array::from_fn(|_| Handle::new_with_builder());
        let probe = ProbeHandle::new();
        worker.dataflow::<Time, _, _>(|scope| {
            let streams: Vec<_> = inputs.iter_mut().map(|input| input.to_stream(scope)).collect();
            let (table, counted) = (schema(COLUMNS[TABLE]), Arc::clone(&counters[2][index]));
            let shared = SharedRows::new(&table, &KEYS[TABLE], &kept(narrow), false, Arc::clone(&counted));
            let input = Input { stream: streams[TABLE].clone(), route: Route::ByColumns(KEYS[TABLE].to_vec()) };
            let changes = epoch_operator(scope, counted, vec![input], None, Box::new(Keep(shared.clone())));
            for (number, spec) in specs(narrow).iter().enumerate() {
                let ports = spec.inputs.map(|input| match input {
                    TABLE => Input { stream: changes.clone(), route: Route::Here },
                    input => Input { stream: streams[input].clone(), route: Route::ByColumns(KEYS[input].to_vec()) },
                });
                let (logic, stats) = (Box::new(logic(number, spec, shared.clone())), Arc::clone(&counters[number][index]));
                let output = epoch_operator(scope, stats, ports.into(), None, logic);
                let taken = Arc::clone(&taken);
                let collect = move |event: Result<(&Time, &Parcel), &[Time]>| {
                    let Ok((epoch, Parcel(Some(delta)))) = event else { return };
                    assert!(delta.len() <= BATCH_ROWS);
                    let mut taken = taken.lock().expect("no panic");
                    let changed = taken[number].entry(*epoch).or_default();
                    for (position, row) in rows(&delta.rows).into_iter().enumerate() {
                        *changed.entry(row).or_default() += delta.diff(position);
                    }
                };
                output.inspect_container(collect).probe_with(&probe);
            }
        });
        let mut random = Random::new(index as u64 + 99);
        for epoch in history.iter() {
            for (number, input) in inputs.iter_mut().enumerate() {
                input.advance_to(epoch.epoch);
                let mine = epoch.updates[number].iter().enumerate().filter(|(position, _)| position % peers == index);
                let mine: Vec<_> = mine.map(|(_, update)| update.clone()).collect();
                for piece in mine.chunks(1 + random.below(20) as usize * random.below(2_000) as usize) {
                    let rows = batch(COLUMNS[number], &piece.iter().map(|(row, _)| row.clone()).collect::<Vec<_>>());
                    let inserts = piece.iter().all(|(_, diff)| *diff == 1);
                    let diffs = (!inserts).then(|| piece.iter().map(|(_, diff)| *diff).collect());
                    input.send_batch(&mut Parcel(Some(Delta::of(rows, diffs))));
                }
                input.advance_to(epoch.epoch + 1);
                input.flush();
            }
            while epoch.closes && probe.less_equal(&epoch.epoch) {
                worker.step_or_park(Some(Duration::from_millis(1)));
            }
        }
        drop(inputs);
        while !probe.done() {
            worker.step_or_park(Some(Duration::from_millis(1)));
        }
    });
    drop(workers.expect("timely starts"));
    let mut given = std::mem::take(&mut *given.lock().expect("no panic"));
    for epochs in &mut given {
        epochs.values_mut().for_each(|rows| rows.retain(|_, diff| *diff != 0));
        epochs.retain(|_, rows| !rows.is_empty());
    }
    Outcome { given, stats }
}

/// All pairs, by looking at the keys alone.
fn naive(index: usize, spec: &Spec, contents: &[Rows; 3]) -> Rows {
    let key = |input: usize, row: &Row| KEYS[input].map(|column| row[column]);
    let as_seen = |input: usize, row: &Row| if input == TABLE { seen(index, row) } else { row.clone() };
    let [left, right] = spec.inputs;
    let mut by_key: BTreeMap<[Option<i64>; 2], Vec<(&Row, Diff)>> = BTreeMap::new();
    for (row, diff) in &contents[right] {
        by_key.entry(key(right, row)).or_default().push((row, *diff));
    }
    let mut pairs = Rows::new();
    for (row, diff) in &contents[left] {
        let key = key(left, row);
        if !spec.nulls_equal && key.contains(&None) {
            continue;
        }
        for (other, times) in by_key.get(&key).into_iter().flatten() {
            let all = [as_seen(left, row), as_seen(right, other)].concat();
            *pairs.entry(spec.given.iter().map(|column| all[*column]).collect()).or_default() += diff * times;
        }
    }
    pairs
}

fn add(content: &mut Rows, row: &Row, diff: Diff) {
    let there = content.entry(row.clone()).or_default();
    *there += diff;
    if *there == 0 {
        content.remove(row);
    }
}

/// Per join and epoch what changes, and the last content of each input.
fn expected(narrow: bool, history: &[Epoch]) -> ([BTreeMap<Time, Rows>; 2], [Rows; 3]) {
    let (mut contents, mut before) = ([Rows::new(), Rows::new(), Rows::new()], [Rows::new(), Rows::new()]);
    let mut expected = [BTreeMap::new(), BTreeMap::new()];
    for epoch in history {
        for (content, updates) in contents.iter_mut().zip(&epoch.updates) {
            updates.iter().for_each(|(row, diff)| add(content, row, *diff));
        }
        for (index, spec) in specs(narrow).iter().enumerate() {
            let after = naive(index, spec, &contents);
            let mut changed = after.clone();
            before[index].iter().for_each(|(row, diff)| add(&mut changed, row, -diff));
            changed.retain(|_, diff| *diff != 0);
            if !changed.is_empty() {
                expected[index].insert(epoch.epoch, changed);
            }
            before[index] = after;
        }
    }
    (expected, contents)
}

/// Epochs with random changes, none of which takes away more than there is; the growing stream only grows.
fn history(random: &mut Random, epochs: usize, updates_max: u64, keys: u64) -> Vec<Epoch> {
    let (mut contents, mut epoch) = ([Rows::new(), Rows::new(), Rows::new()], 0);
    let mut history = Vec::new();
    for _ in 0..epochs {
        let mut updates = [Vec::new(), Vec::new(), Vec::new()];
        for (input, updates) in updates.iter_mut().enumerate() {
            let content = &mut contents[input];
            for _ in 0..random.below(updates_max + 1) * random.below(2) {
                let (row, diff) = if input != 0 && !content.is_empty() && random.below(5) < 2 {
                    let (row, there) = content.iter().nth(random.below(content.len() as u64) as usize).expect("within");
                    (row.clone(), -1 - random.below(*there as u64) as Diff)
                } else {
                    let mut row: Row = COLUMNS[input].iter().map(|_| Some(random.below(3) as i64)).collect();
                    row[KEYS[input][0]] = Some(random.below(keys) as i64).filter(|key| *key != 0);
                    row[KEYS[input][1]] = Some(random.below(3) as i64).filter(|key| *key != 0);
                    (row, if random.one_in(4) { 2 } else { 1 })
                };
                add(content, &row, diff);
                updates.push((row, diff));
            }
        }
        history.push(Epoch { epoch, updates, closes: random.one_in(2) });
        epoch += 1 + random.below(3) * random.below(500);
    }
    history
}

#[test]
fn joins_that_share_a_table_give_what_a_naive_join_gives() {
    for seed in 0..45 {
        let mut random = Random::new(seed);
        let (peers, narrow) = ([1, 2, 4][seed as usize % 3], random.one_in(2));
        let (updates_max, keys) = ([3, 30, 100][random.below(3) as usize], [2, 20, 500][random.below(3) as usize]);
        let epochs = 1 + random.below(40) as usize;
        let history = Arc::new(history(&mut random, epochs, updates_max, keys));
        let (expected, contents) = expected(narrow, &history);
        let outcome = run(peers, narrow, Arc::clone(&history));
        for join in [0, 1] {
            for (epoch, changed) in &expected[join] {
                assert_eq!(outcome.given[join].get(epoch), Some(changed), "seed {seed}, join {join}, epoch {epoch}");
            }
            assert_eq!(outcome.given[join].len(), expected[join].len(), "seed {seed}, join {join}");
        }
        memory_is_shared(&outcome, &contents, narrow, &history);
    }
}

/// The table's rows are counted once, by the arrangement; the joins count their own rows.
fn memory_is_shared(outcome: &Outcome, contents: &[Rows; 3], narrow: bool, history: &[Epoch]) {
    let total = |rows: &Rows| rows.values().sum::<Diff>() as u64;
    let with_keys = |row: &&Row| KEYS[0].iter().all(|column| row[*column].is_some());
    let growing: Rows = contents[0].iter().filter(|(row, _)| with_keys(row)).map(|(row, diff)| (row.clone(), *diff)).collect();
    assert_eq!(outcome.state_rows(0), total(&growing), "a side that only grows keeps each copy");
    // Of the changing stream the narrow join keeps the key, and no more than that.
    let changing = contents[1].keys().map(|row| if narrow { row[1..].to_vec() } else { row.clone() });
    assert_eq!(outcome.state_rows(1), changing.collect::<std::collections::BTreeSet<_>>().len() as u64);
    let distinct = contents[TABLE].keys().map(|row| kept(narrow).iter().map(|column| row[*column]).collect::<Row>());
    let distinct = distinct.collect::<std::collections::BTreeSet<_>>().len() as u64;
    let updates: u64 = history.iter().map(|epoch| epoch.updates[TABLE].len() as u64).sum();
    let state = outcome.state_rows(2);
    assert!(distinct <= state && state <= updates.max(distinct), "{distinct} rows, {updates} updates, {state} kept");
    let taken: u64 = outcome.stats[2].iter().map(|stats| stats.rows_in.load(Ordering::Relaxed)).sum();
    assert_eq!(taken, updates, "each change is arranged once");
}

#[test]
fn many_rows_of_one_key_are_given_in_pieces() {
    let table = |value: i64, key: i64| (vec![Some(value), Some(1), Some(key), Some(value)], 1);
    let row = |key: i64, value: i64| (vec![Some(key), Some(1), Some(value)], 1);
    let many = (0..9_000).map(|value| table(value, 5)).chain((0..10).map(|value| table(value, 6)));
    let growing = (0..3).map(|value| row(5, value)).chain((0..1_000).map(|value| row(6, value)));
    let history = Arc::new(vec![
        Epoch { epoch: 1, updates: [Vec::new(), Vec::new(), many.collect()], closes: true },
        Epoch { epoch: 2, updates: [growing.collect(), Vec::new(), Vec::new()], closes: true },
    ]);
    let (expected, _) = expected(false, &history);
    let outcome = run(1, false, Arc::clone(&history));
    assert_eq!(outcome.given, expected);
    assert_eq!(outcome.given[0][&2].len(), 3 * 9_000 + 10 * 1_000);
}

/// A table whose rows change all the time keeps few old versions, although only its own changes come to the joins.
#[test]
fn history_is_forgotten_as_the_joins_advance() {
    let row = |version: Time, key: Time| vec![Some(version as i64), Some(1), Some(key as i64), Some(0)];
    let change = |epoch: Time| {
        let (version, key) = (epoch / 50, epoch % 50);
        let retracted = version.checked_sub(1).map(|before| (row(before, key), -1));
        [Vec::new(), Vec::new(), retracted.into_iter().chain([(row(version, key), 1)]).collect()]
    };
    let history: Vec<Epoch> = (0..2_000).map(|epoch| Epoch { epoch, updates: change(epoch), closes: true }).collect();
    let outcome = run(1, false, Arc::new(history));
    assert!(outcome.state_rows(2) < 400, "{} updates for 50 rows", outcome.state_rows(2));
}
