//! Finding rows by key, against a search of everything; and that nothing is left when a dataflow is dropped.

use std::collections::{BTreeMap, VecDeque};

use arrow::array::{AsArray, Int64Array};
use arrow::datatypes::{DataType, Int64Type};
use differential_dataflow::trace::Description;
use differential_dataflow::trace::chunk::ChunkBatch;
use timely::container::NoopBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::core::input::Handle;
use timely::dataflow::operators::generic::Operator;

use super::super::random::Random;
use super::super::run::RunBuilder;
use super::*;
use crate::Delta;

type Row = (i64, i64);

fn codec() -> Arc<RowCodec> {
    let fields = ["value", "key"].map(|name| Field::new(name, DataType::Int64, true));
    Arc::new(RowCodec::new(Arc::new(Schema::new(fields.to_vec())), &[1]))
}

fn column(values: impl Iterator<Item = i64>) -> ArrayRef {
    Arc::new(values.collect::<Int64Array>())
}

fn encoded(codec: &RowCodec, rows: &[Row]) -> super::super::codec::Encoded {
    let columns = vec![column(rows.iter().map(|row| row.1)), column(rows.iter().map(|row| row.0))];
    let fields = ["value", "key"].map(|name| Field::new(name, DataType::Int64, true));
    let mut encoded = codec.buffer();
    codec.encode(&RecordBatch::try_new(Arc::new(Schema::new(fields.to_vec())), columns).expect("columns fit"), &mut encoded);
    encoded
}

/// A batch of `(key, value), time, diff`, in chunks of a few rows, each under the hash that `hash` gives its key's.
fn batch(codec: &RowCodec, updates: &[(Row, Time, Diff)], bounds: [Time; 2], hash: impl Fn(i64, u64) -> u64) -> Batch {
    let rows = encoded(codec, &updates.iter().map(|update| update.0).collect::<Vec<_>>());
    let mut order: Vec<usize> = (0..updates.len()).collect();
    let hash = |row: usize| hash(updates[row].0.0, rows.hash(row));
    order.sort_by(|one, other| {
        (hash(*one), rows.row(*one), updates[*one].1).cmp(&(hash(*other), rows.row(*other), updates[*other].1))
    });
    let mut chunks = VecDeque::new();
    let mut builder = RunBuilder::with_limits(&mut chunks, 3, 0, 3, 1 << 20);
    for row in order {
        builder.push(hash(row), rows.row(row), updates[row].1, updates[row].2);
    }
    builder.finish();
    let [lower, upper] = bounds.map(Antichain::from_elem);
    Rc::new(ChunkBatch::new(chunks.into(), Description::new(lower, upper, Antichain::from_elem(0))))
}

/// Per probe what was found.
fn probe(rows: &SharedRows, keys: &[i64]) -> Vec<BTreeMap<Row, Diff>> {
    let mut all = vec![BTreeMap::new(); keys.len()];
    rows.probe(&[column(keys.iter().copied())], keys.len(), |probes, found| {
        let decoded = rows.codec.decode(found.iter().map(|(row, _)| *row));
        let (values, keys) = (decoded.column(0).as_primitive::<Int64Type>(), decoded.column(1).as_primitive::<Int64Type>());
        for (_, at) in probes {
            for (row, (_, diff)) in found.iter().enumerate() {
                let twice = all[*at as usize].insert((keys.value(row), values.value(row)), *diff);
                assert_eq!(twice, None, "each row is given once");
            }
        }
    });
    all
}

#[test]
fn probing_finds_what_a_search_of_everything_finds() {
    for seed in 0..200 {
        let (mut random, codec) = (Random::new(seed), codec());
        let keys = [2, 10, 100][random.below(3) as usize];
        let (mut batches, mut updates, mut time) = (Vec::new(), BTreeMap::<(Row, Time), Diff>::new(), 0);
        for _ in 0..random.below(6) {
            let mut added = BTreeMap::<(Row, Time), Diff>::new();
            let upper = time + 1 + random.below(4);
            for _ in 0..random.below(40) {
                let row = (random.below(keys) as i64, random.below(3) as i64);
                *added.entry((row, time + random.below(upper - time))).or_default() += if random.one_in(2) { 1 } else { -1 };
            }
            added.retain(|_, diff| *diff != 0);
            let list: Vec<_> = added.iter().map(|((row, time), diff)| (*row, *time, *diff)).collect();
            // Every other key collides with the one before it.
            let collide = seed % 2 == 1;
            let first = encoded(&codec, &(0..keys as i64).map(|key| (key, 0)).collect::<Vec<_>>());
            batches.push(batch(
                &codec,
                &list,
                [time, upper],
                |key, hash| if collide { first.hash(key as usize & !1) } else { hash },
            ));
            updates.extend(added);
            time = upper;
        }
        let before = random.below(time + 2);
        let rows = SharedRows { batches, codec, before };
        // Colliding keys are under the hash of their even neighbour, so only even ones are found by hash.
        let probes: Vec<i64> = (0..random.below(60)).map(|_| random.below(keys + 2) as i64).collect();
        let probes: Vec<i64> = probes.into_iter().map(|key| if seed % 2 == 1 { key & !1 } else { key }).collect();
        for (key, found) in probes.iter().zip(probe(&rows, &probes)) {
            let mut expected = BTreeMap::<Row, Diff>::new();
            for ((row, _), diff) in updates.iter().filter(|((row, time), _)| row.0 == *key && *time < before) {
                *expected.entry(*row).or_default() += diff;
            }
            expected.retain(|_, diff| *diff != 0);
            assert_eq!(found, expected, "seed {seed}, key {key}");
        }
    }
}

#[test]
fn galloping_counts_smaller_hashes() {
    for length in 0..40 {
        let hashes: Vec<u64> = (0..length).map(|index| index / 3 * 2).collect();
        for hash in 0..30 {
            assert_eq!(gallop(&hashes, hash), hashes.partition_point(|other| *other < hash), "{hashes:?} {hash}");
        }
    }
}

#[test]
fn nothing_is_left_of_a_dropped_dataflow() {
    timely::execute(timely::Config::thread(), |worker| {
        let mut input = Handle::<Time, NoopBuilder<Parcel>>::new_with_builder();
        let stats = Arc::new(OperatorStats::default());
        let dataflow = worker.next_dataflow_index();
        let schema = Arc::new(Schema::new(["value", "key"].map(|name| Field::new(name, DataType::Int64, true)).to_vec()));
        let (codec, traced) = worker.dataflow::<Time, _, _>(|scope| {
            let stream = input.to_stream(scope);
            let (changes, trace) = arrange_shared(stream, &schema, &[1], &[0, 1], Arc::clone(&stats), 1);
            let mut reader = trace.clone();
            changes.sink(Pipeline, "reader", move |(input, _)| input.for_each(|time, _| reader.advance(*time.time())));
            (Arc::downgrade(&trace.codec), Rc::downgrade(&trace.trace.trace_box_unstable()))
        });
        for epoch in 1..10 {
            input.advance_to(epoch);
            let columns = vec![column(0..5), column(0..5)];
            let rows = RecordBatch::try_new(Arc::clone(&schema), columns).expect("columns fit");
            input.send_batch(&mut Parcel(Some(Delta::insert(rows))));
            input.flush();
            worker.step();
        }
        assert!(stats.state_rows.load(std::sync::atomic::Ordering::Relaxed) >= 5);
        assert!(codec.upgrade().is_some() && traced.upgrade().is_some());
        worker.drop_dataflow(dataflow);
        assert!(codec.upgrade().is_none() && traced.upgrade().is_none());
    })
    .map(drop)
    .expect("timely starts");
}
