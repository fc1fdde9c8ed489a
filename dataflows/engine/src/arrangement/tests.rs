//! Whole dataflows of one and two workers: what is read and followed against a multiset.

use std::collections::BTreeMap;
use std::sync::{Barrier, Mutex};
use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use timely::container::NoopBuilder;
use timely::dataflow::ProbeHandle;
use timely::dataflow::operators::core::input::Handle;
use timely::dataflow::operators::core::inspect::InspectCore;
use timely::dataflow::operators::probe::Probe;

use super::random::Random;
use super::*;
use crate::view::{Compacted, Equals};
use crate::{Delta, Diff};

/// Key second, so that the stored order is another than the view's.
type Row = (String, Option<i64>);
type Stored = (Option<i64>, String);
type Rows = BTreeMap<Stored, Diff>;
type Epochs = Vec<(Time, Rows)>;

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("value", DataType::Utf8, false), Field::new("key", DataType::Int64, true)]))
}

fn batch(rows: &[Row]) -> RecordBatch {
    let values: ArrayRef = Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row.0)));
    let keys: ArrayRef = Arc::new(rows.iter().map(|row| row.1).collect::<Int64Array>());
    RecordBatch::try_new(schema(), vec![values, keys]).expect("columns fit")
}

fn rows(batch: &RecordBatch) -> Vec<Stored> {
    let (values, keys) = (batch.column(0).as_string::<i32>(), batch.column(1).as_primitive::<Int64Type>());
    let row = |row| (keys.is_valid(row).then(|| keys.value(row)), values.value(row).to_owned());
    (0..batch.num_rows()).map(row).collect()
}

/// Each row as often as its multiplicity, in the order of a read.
fn expanded(content: &Rows) -> Vec<Stored> {
    content.iter().flat_map(|(row, diff)| std::iter::repeat_n(row.clone(), *diff as usize)).collect()
}

fn read(view: &ViewHandle, epoch: Time, equals: &[Equals], limit: Option<usize>) -> Vec<Stored> {
    view.read(epoch, equals, limit).expect("the epoch is readable").iter().flat_map(rows).collect()
}

fn key_is(key: Option<i64>) -> Equals {
    Equals { column: 1, value: Arc::new(Int64Array::from(vec![key])) }
}

fn value_is(value: &str) -> Equals {
    Equals { column: 0, value: Arc::new(StringArray::from(vec![value])) }
}

struct Epoch {
    epoch: Time,
    updates: Vec<(Row, Diff)>,
    /// Whether workers wait here until it is closed.
    closes: bool,
}

/// Epochs with random changes, none of which takes away more than there is.
fn history(random: &mut Random, epochs: usize, updates_max: u64, keys: u64) -> Vec<Epoch> {
    let (mut content, mut epoch) = (Rows::new(), 0);
    let mut history: Vec<Epoch> = Vec::new();
    for _ in 0..epochs {
        let mut updates = Vec::new();
        for _ in 0..random.below(updates_max + 1) {
            let retracts = !content.is_empty() && random.below(5) < 2;
            if retracts {
                let index = random.below(content.len() as u64) as usize;
                let ((key, value), there) = content.iter_mut().nth(index).expect("within the content");
                let diff = 1 + random.below(*there as u64) as Diff;
                updates.push(((value.clone(), *key), -diff));
                *there -= diff;
                content.retain(|_, there| *there > 0);
            } else {
                let key = Some(random.below(keys) as i64).filter(|key| *key != 0);
                let value = format!("{}", random.below(4)).repeat(1 + random.below(20) as usize);
                let diff = if random.one_in(4) { 2 } else { 1 };
                updates.push(((value.clone(), key), diff));
                *content.entry((key, value)).or_default() += diff;
            }
        }
        if random.one_in(6) {
            updates.push((("gone at once".to_owned(), Some(1)), 1));
            updates.push((("gone at once".to_owned(), Some(1)), -1));
        }
        history.push(Epoch { epoch, updates, closes: random.one_in(2) });
        epoch += 1 + random.below(3) * random.below(500);
    }
    if let Some(last) = history.last_mut() {
        last.closes = true;
    }
    history
}

/// Content after each epoch, and what each epoch changed.
fn expected(history: &[Epoch]) -> (Epochs, Epochs) {
    let (mut contents, mut changes, mut content) = (Vec::new(), Vec::new(), Rows::new());
    for epoch in history {
        let mut changed = Rows::new();
        for ((value, key), diff) in &epoch.updates {
            *changed.entry((*key, value.clone())).or_default() += diff;
            *content.entry((*key, value.clone())).or_default() += diff;
        }
        changed.retain(|_, diff| *diff != 0);
        content.retain(|_, diff| *diff != 0);
        contents.push((epoch.epoch, content.clone()));
        if !changed.is_empty() {
            changes.push((epoch.epoch, changed));
        }
    }
    (contents, changes)
}

/// Runs a history on some workers; calls `check` on one of them after each epoch that closes.
fn run(peers: usize, history: Vec<Epoch>, check: impl Fn(&ViewHandle, Time) + Send + Sync + 'static) -> Arc<ViewHandle> {
    let view = Arc::new(ViewHandle::arranged("v".to_owned(), schema(), vec![1], peers));
    let (barrier, given) = (Barrier::new(peers), Arc::new(Mutex::new(BTreeMap::<Time, Rows>::new())));
    let (history, shared, taken) = (Arc::new(history), Arc::clone(&view), Arc::clone(&given));
    let epochs = Arc::clone(&history);
    let config = if peers == 1 { timely::Config::thread() } else { timely::Config::process(peers) };
    let workers = timely::execute(config, move |worker| {
        let (index, stats) = (worker.index(), Arc::new(OperatorStats::default()));
        let mut input = Handle::<Time, NoopBuilder<Parcel>>::new_with_builder();
        let probe = ProbeHandle::new();
        let (view, taken) = (Arc::clone(&shared), Arc::clone(&taken));
        let mut arrangement = worker.dataflow::<Time, _, _>(|scope| {
            let stream = input.to_stream(scope);
            let (output, arrangement) = arrange(stream, Arc::clone(&view), Arc::clone(&stats), index, peers, None);
            let collect = move |event: Result<(&Time, &Parcel), &[Time]>| {
                let Ok((epoch, Parcel(Some(delta)))) = event else { return };
                let mut taken = taken.lock().expect("no panic");
                for (position, row) in rows(&delta.rows).into_iter().enumerate() {
                    let there = taken.entry(*epoch).or_default().insert(row, delta.diff(position));
                    assert_eq!(there, None, "each row of an epoch is given once");
                }
            };
            output.inspect_container(collect).probe_with(&probe);
            arrangement
        });
        let mut random = Random::new(index as u64 + 99);
        for epoch in epochs.iter() {
            input.advance_to(epoch.epoch);
            let mine = epoch.updates.iter().enumerate().filter(|(position, _)| position % peers == index);
            let mine: Vec<_> = mine.map(|(_, update)| update.clone()).collect();
            for piece in mine.chunks(1 + random.below(10) as usize) {
                let rows = batch(&piece.iter().map(|(row, _)| row.clone()).collect::<Vec<_>>());
                let inserts = piece.iter().all(|(_, diff)| *diff == 1);
                let diffs = (!inserts).then(|| piece.iter().map(|(_, diff)| *diff).collect());
                input.send_batch(&mut Parcel(Some(Delta::of(rows, diffs))));
            }
            input.flush();
            if !epoch.closes {
                continue;
            }
            input.advance_to(epoch.epoch + 1);
            input.flush();
            while probe.less_equal(&epoch.epoch) {
                worker.step_or_park(Some(Duration::from_millis(1)));
            }
            arrangement.publish(epoch.epoch);
            barrier.wait();
            if index == 0 {
                check(&view, epoch.epoch);
            }
            barrier.wait();
        }
        drop(input);
        while !probe.done() {
            worker.step_or_park(Some(Duration::from_millis(1)));
        }
        let mut batches = 0;
        arrangement.trace.map_batches(|_| batches += 1);
        assert!(batches < 40, "old batches were merged: {batches}");
    });
    drop(workers.expect("timely starts"));
    let (_, changes) = expected(&history);
    let given = std::mem::take(&mut *given.lock().expect("no panic"));
    assert_eq!(given.into_iter().collect::<Vec<_>>(), changes, "the stream carries the consolidated changes");
    view
}

#[test]
fn reads_and_changes_are_those_of_a_multiset() {
    for seed in 0..30 {
        let mut random = Random::new(seed);
        let peers = 1 + (seed % 2) as usize;
        let (updates_max, keys) = ([3, 30, 300][random.below(3) as usize], [3, 40, 1_000][random.below(3) as usize]);
        let epochs = 1 + random.below(60) as usize;
        let history = history(&mut random, epochs, updates_max, keys);
        let (contents, changes) = expected(&history);
        let followed = Mutex::new((0, Vec::new()));
        run(peers, history, move |view, closed| {
            for (epoch, content) in contents.iter().filter(|(epoch, _)| *epoch <= closed).rev().take(4) {
                let all = expanded(content);
                match view.read(*epoch, &[], None) {
                    Ok(read) => assert_eq!(read.iter().flat_map(rows).collect::<Vec<_>>(), all, "seed {seed}, epoch {epoch}"),
                    Err(_) => assert_ne!(*epoch, closed, "a closed epoch is readable"),
                }
            }
            let (_, content) = contents.iter().rfind(|(epoch, _)| *epoch <= closed).expect("an epoch closed");
            check_conditions(view, closed, content);
            let mut followed = followed.lock().expect("no panic");
            let (after, seen) = &mut *followed;
            for changed in view.changes(*after, closed).expect("the follower keeps up") {
                let diffs = changed.diffs.values().to_vec();
                seen.push((changed.epoch, rows(&changed.rows).into_iter().zip(diffs).collect::<Rows>()));
            }
            *after = closed;
            let so_far: Vec<_> = changes.iter().filter(|(epoch, _)| 0 < *epoch && *epoch <= closed).cloned().collect();
            assert_eq!(*seen, so_far, "seed {seed}");
            assert_eq!(view.anomalies(), 0);
        });
    }
}

fn check_conditions(view: &ViewHandle, closed: Time, content: &Rows) {
    let all = expanded(content);
    assert_eq!(view.rows(), all.len() as u64);
    assert_eq!(read(view, closed, &[], Some(3)), all[..all.len().min(3)]);
    assert_eq!(read(view, closed, &[], Some(0)), []);
    let filtered = |keep: &dyn Fn(&Stored) -> bool| all.iter().filter(|row| keep(row)).cloned().collect::<Vec<_>>();
    for key in [None, Some(1), Some(2), Some(17), Some(-5)] {
        assert_eq!(read(view, closed, &[key_is(key)], None), filtered(&|row| row.0 == key), "by key");
        let both = [value_is("1"), key_is(key)];
        assert_eq!(read(view, closed, &both, None), filtered(&|row| row.0 == key && row.1 == "1"), "by all columns");
        let contradiction = [key_is(key), key_is(Some(3))];
        assert_eq!(read(view, closed, &contradiction, None), filtered(&|row| row.0 == key && key == Some(3)));
        let at = view.at(closed).expect("the epoch is readable");
        let limited: Vec<_> = at.read(&[key_is(key)], Some(1)).iter().flat_map(rows).collect();
        assert_eq!(limited, filtered(&|row| row.0 == key).into_iter().take(1).collect::<Vec<_>>());
    }
    for value in ["2", "33", ""] {
        assert_eq!(read(view, closed, &[value_is(value)], None), filtered(&|row| row.1 == value), "by a scan");
    }
}

#[test]
fn an_old_epoch_is_compacted_and_a_held_one_is_not() {
    let mut random = Random::new(12);
    let mut history = history(&mut random, 400, 20, 30);
    history.iter_mut().for_each(|epoch| epoch.closes = true);
    let (contents, _) = expected(&history);
    let (first, last) = (history[0].epoch, history[399].epoch);
    let view = run(1, history, move |view, closed| {
        let position = contents.iter().position(|(epoch, _)| *epoch == closed).expect("it is one of them");
        // An epoch behind by less than the promise is always readable.
        let (epoch, content) = &contents[position.saturating_sub(EPOCHS_READABLE - 1)];
        assert_eq!(read(view, *epoch, &[], None), expanded(content));
    });
    let Err(Compacted { since }) = view.read(first, &[], None) else { panic!("the first epoch is compacted by now") };
    assert!(since > first && since <= last);
    assert!(view.at(since).is_ok());
    assert_eq!(view.at(first).map(|content| content.epoch()), Err(Compacted { since }));
    assert_eq!(Compacted { since: 7 }.to_string(), "the epoch is no longer kept: the oldest that can be read is 7");
}

#[test]
fn content_is_held_while_the_view_goes_on() {
    let view = ViewHandle::arranged("v".to_owned(), schema(), vec![1], 1);
    let mut sealer = Sealer::new(Arc::clone(view.codec()));
    let mut publish = |epoch: Time, since, row: &str| {
        let sealed = sealer.seal(epoch, vec![Delta::insert(batch(&[(row.to_owned(), Some(1))]))]);
        view.sealed(0, epoch, &sealed.chunks, sealed.net);
        view.publish(0, since, vec![sealed.chunks.as_slice().into()], 0);
        view.publish_through(0, epoch);
    };
    publish(1, 0, "old");
    let held = view.at(1).expect("the epoch is readable");
    publish(2, 2, "new");
    assert_eq!(held.read(&[], None).iter().flat_map(rows).collect::<Vec<_>>(), [(Some(1), "old".to_owned())]);
    assert!(view.at(1).is_err());
    assert_eq!(view.read(2, &[key_is(Some(1))], None).expect("readable")[0].num_rows(), 1);
    assert_eq!(view.read(1, &[key_is(Some(1))], None).map(|_| ()), Err(Compacted { since: 2 }));
}

#[test]
fn publishing_again_without_changes_keeps_the_snapshot() {
    let history = vec![
        Epoch { epoch: 1, updates: (0..100).map(|n| (("a".to_owned(), Some(n)), 1)).collect(), closes: true },
        Epoch { epoch: 5, updates: Vec::new(), closes: true },
        Epoch { epoch: 9, updates: Vec::new(), closes: true },
    ];
    let seen = Mutex::new(Vec::new());
    run(1, history, move |view, closed| {
        let content = view.at(closed).expect("readable");
        let mut seen = seen.lock().expect("no panic");
        seen.push(content.snapshot_address());
        assert!(seen.iter().all(|address| *address == seen[0]));
    });
}

#[test]
fn a_row_that_is_less_than_absent_is_an_anomaly() {
    let view = ViewHandle::arranged("v".to_owned(), schema(), vec![1], 1);
    let mut sealer = Sealer::new(Arc::clone(view.codec()));
    let diffs = Int64Array::from(vec![-1]);
    let sealed = sealer.seal(1, vec![Delta::with_diffs(batch(&[("a".to_owned(), Some(1))]), diffs)]);
    view.publish(0, 0, vec![sealed.chunks.as_slice().into()], 0);
    view.publish_through(0, 1);
    assert_eq!(read(&view, 1, &[], None), []);
    assert_eq!(view.anomalies(), 1);
}

#[test]
fn a_view_without_a_key_has_one_place() {
    let view = ViewHandle::arranged("v".to_owned(), schema(), Vec::new(), 2);
    let mut sealer = Sealer::new(Arc::clone(view.codec()));
    let sealed = sealer.seal(1, vec![Delta::insert(batch(&[("a".to_owned(), Some(1)), ("b".to_owned(), None)]))]);
    let mut hashes = Vec::new();
    crate::hash::hash_columns(&[], 1, &mut hashes);
    let worker = crate::hash::worker_of(hashes[0], 2);
    view.publish(worker, 0, vec![sealed.chunks.as_slice().into()], 0);
    view.publish_through(0, 1);
    view.publish_through(1, 1);
    assert_eq!(read(&view, 1, &[], None).len(), 2);
    assert_eq!(read(&view, 1, &[key_is(None)], None), [(None, "b".to_owned())]);
}

#[test]
fn an_epoch_of_many_rows_is_cut_and_sorted() {
    let many: Vec<(Row, Diff)> = (0..30_000).map(|n| ((format!("{}", n % 7), Some(n / 3)), 1)).collect();
    let history = vec![
        Epoch { epoch: 1, updates: many.clone(), closes: true },
        Epoch { epoch: 2, updates: many.iter().step_by(2).map(|(row, _)| (row.clone(), -1)).collect(), closes: true },
    ];
    let (contents, _) = expected(&history);
    let view = run(2, history, |_, _| {});
    for (epoch, content) in contents {
        assert_eq!(read(&view, epoch, &[], None), expanded(&content));
        let batches = view.read(epoch, &[], None).expect("readable");
        assert!(batches.iter().all(|batch| batch.num_rows() <= 8_192));
    }
    assert!(view.bytes() > 0);
}

/// Many small epochs leave few batches, and few versions of rows that changed often.
#[test]
fn history_is_forgotten_as_it_grows() {
    let mut history = vec![Epoch { epoch: 0, updates: (0..50).map(|n| (("0".to_owned(), Some(n)), 1)).collect(), closes: true }];
    for epoch in 1..1_000 {
        let row = |version: Time| (format!("{}", version / 50), Some(epoch as i64 % 50));
        history.push(Epoch { epoch, updates: vec![(row(epoch - epoch.min(50)), -1), (row(epoch), 1)], closes: true });
    }
    let (contents, _) = expected(&history);
    let view = run(1, history, |_, _| {});
    let (last, content) = contents.last().expect("there are epochs");
    assert_eq!(content.len(), 50);
    assert_eq!(read(&view, *last, &[], None), expanded(content));
    assert!(view.bytes() < 20_000, "{} bytes for 50 rows", view.bytes());
}
