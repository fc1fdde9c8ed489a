//! Chunks against the definition: sums over a map.

use std::collections::BTreeMap;

use differential_dataflow::trace::chunk::{ChunkBatch, is_graded, merge_chains, settle_all};
use differential_dataflow::trace::{Batch as _, Description, Merger as _};

use super::*;
use crate::arrangement::random::Random;

type Update = (u64, Vec<u8>, Time, Diff);
type Model = BTreeMap<(u64, Vec<u8>, Time), Diff>;

fn model(updates: impl IntoIterator<Item = Update>) -> Model {
    let mut model = Model::new();
    for (hash, row, time, diff) in updates {
        *model.entry((hash, row, time)).or_default() += diff;
    }
    model.retain(|_, diff| *diff != 0);
    model
}

/// Updates with many equal hashes, rows and times.
fn random_updates(random: &mut Random, count: usize, rows: u64, times: u64) -> Model {
    model((0..count).map(|_| {
        let row = random.below(rows);
        let bytes = format!("{row}").repeat(row as usize % 3).into_bytes();
        (row % (rows / 2 + 1), bytes, random.below(times), random.below(5) as i64 - 2)
    }))
}

/// A chain of chunks, cut anywhere, some sharing a run.
fn chain(random: &mut Random, model: &Model, chunk_rows_max: u64) -> Vec<RowChunk> {
    let mut out = VecDeque::new();
    let mut builder = RunBuilder::with_limits(&mut out, 0, 0, 1 + random.below(2 * chunk_rows_max) as usize, 1 << 20);
    for ((hash, row, time), diff) in model {
        builder.push(*hash, row, *time, *diff);
    }
    builder.finish();
    let mut chunks = Vec::new();
    for chunk in out {
        let mut start = 0;
        while start < chunk.end {
            let end = chunk.end.min(start + 1 + random.below(chunk_rows_max) as usize);
            chunks.push(RowChunk { start, end, ..chunk.clone() });
            start = end;
        }
    }
    chunks
}

/// What chunks hold; checks that they are sorted, consolidated and not empty.
fn content<'a>(chunks: impl IntoIterator<Item = &'a RowChunk>) -> Model {
    let mut updates: Vec<Update> = Vec::new();
    for chunk in chunks {
        assert!(chunk.len() > 0);
        for index in 0..chunk.len() {
            updates.push((chunk.hashes()[index], chunk.row(index).to_vec(), chunk.time(index), chunk.diff(index)));
        }
    }
    assert!(updates.windows(2).all(|pair| (&pair[0].0, &pair[0].1, pair[0].2) < (&pair[1].0, &pair[1].1, pair[1].2)));
    assert!(updates.iter().all(|update| update.3 != 0));
    model(updates)
}

fn advanced(model_before: &Model, since: Time) -> Model {
    model(model_before.iter().map(|((hash, row, time), diff)| (*hash, row.clone(), (*time).max(since), *diff)))
}

fn updates(model: &Model) -> impl Iterator<Item = Update> {
    model.iter().map(|((hash, row, time), diff)| (*hash, row.clone(), *time, *diff))
}

/// A seed's shape: few or many updates, rows and times.
fn shape(random: &mut Random) -> (usize, u64, u64, u64) {
    let count = [3, 40, 400][random.below(3) as usize];
    (1 + random.below(count) as usize, 1 + random.below(60), 1 + random.below(12), 1 + random.below(20))
}

#[test]
fn merging_adds() {
    for seed in 0..600 {
        let mut random = Random::new(seed);
        let (count, rows, times, cut) = shape(&mut random);
        let (one, other) = (random_updates(&mut random, count, rows, times), random_updates(&mut random, count, rows, times));
        let chains = (chain(&mut random, &one, cut), chain(&mut random, &other, cut));
        let mut out = VecDeque::new();
        merge_chains(chains.0, chains.1, &mut out);
        assert_eq!(content(&out), model(updates(&one).chain(updates(&other))), "seed {seed}");
    }
}

#[test]
fn merging_with_the_negative_leaves_nothing() {
    let mut random = Random::new(7);
    let one = random_updates(&mut random, 500, 40, 9);
    let negative = one.iter().map(|(key, diff)| (key.clone(), -diff)).collect();
    let mut out = VecDeque::new();
    merge_chains(chain(&mut random, &one, 9), chain(&mut random, &negative, 13), &mut out);
    assert!(out.is_empty());
}

#[test]
fn extracting_splits_by_time() {
    for seed in 0..300 {
        let mut random = Random::new(seed);
        let (count, rows, times, cut) = shape(&mut random);
        let before = random_updates(&mut random, count, rows, times);
        let frontier = Antichain::from_elem(random.below(times + 2));
        let mut input = chain(&mut random, &before, cut).into();
        let (mut keep, mut ship, mut residual) = (VecDeque::new(), VecDeque::new(), Antichain::new());
        while !VecDeque::is_empty(&input) {
            RowChunk::extract(&mut input, frontier.borrow(), &mut residual, &mut keep, &mut ship);
        }
        let (later, earlier): (Model, Model) = before.into_iter().partition(|((_, _, time), _)| frontier.less_equal(time));
        assert_eq!(residual.first(), later.keys().map(|(_, _, time)| time).min(), "seed {seed}");
        assert_eq!((content(&keep), content(&ship)), (later, earlier), "seed {seed}");
    }
}

#[test]
fn advancing_adds_up_what_becomes_one_time() {
    for seed in 0..600 {
        let mut random = Random::new(seed);
        let (count, rows, times, cut) = shape(&mut random);
        let before = random_updates(&mut random, count, rows, times);
        let since = random.below(times + 2);
        let frontier = Antichain::from_elem(since);
        let (mut input, mut out) = (VecDeque::new(), VecDeque::new());
        for chunk in chain(&mut random, &before, cut) {
            input.push_back(chunk);
            if random.one_in(3) {
                RowChunk::advance(&mut input, frontier.borrow(), false, &mut out);
                assert!(input.len() <= 1, "all but a last update is given");
            }
        }
        RowChunk::advance(&mut input, frontier.borrow(), true, &mut out);
        assert!(input.is_empty());
        assert_eq!(content(&out), advanced(&before, since), "seed {seed}");
    }
}

#[test]
fn advancing_past_everything_makes_times_one_value() {
    let mut random = Random::new(3);
    let before = random_updates(&mut random, 4_000, 3_000, 5);
    let mut input = chain(&mut random, &before, 100).into();
    let mut out = VecDeque::new();
    RowChunk::advance(&mut input, Antichain::from_elem(9).borrow(), true, &mut out);
    assert!(out.iter().all(|chunk| chunk.constant_time() == Some(9)));
    let run = |chunk: &RowChunk| chunk.bytes() - chunk.row_bytes();
    assert!(out.iter().map(run).sum::<usize>() <= content(&out).len() * 20, "12 bytes an update, 20 with diffs");
}

#[test]
fn a_frontier_that_is_empty_changes_nothing() {
    let mut random = Random::new(4);
    let before = random_updates(&mut random, 100, 30, 5);
    let mut input = chain(&mut random, &before, 10).into();
    let mut out = VecDeque::new();
    RowChunk::advance(&mut input, Antichain::new().borrow(), false, &mut out);
    assert_eq!(content(&out), before);
}

#[test]
fn settling_packs_and_keeps_everything() {
    for (seed, cut) in [(1, 50), (2, 3_000), (3, 40_000)] {
        let mut random = Random::new(seed);
        let before = random_updates(&mut random, 60_000, 50_000, 7);
        let chunks = chain(&mut random, &before, cut);
        let settled = settle_all(chunks.clone());
        assert!(is_graded(&settled), "seed {seed}");
        assert_eq!(content(&settled), before, "seed {seed}");
        let (mut input, mut out) = (VecDeque::new(), VecDeque::new());
        for chunk in chunks {
            input.push_back(chunk);
            RowChunk::settle(&mut input, false, &mut out);
        }
        RowChunk::settle(&mut input, true, &mut out);
        assert_eq!(content(&out), before, "seed {seed}, a chunk at a time");
        let again = settle_all(settled.clone());
        let same = |(one, other): (&RowChunk, &RowChunk)| Arc::ptr_eq(&one.run, &other.run);
        assert!(again.iter().zip(&settled).all(same), "what is settled is not copied");
    }
}

#[test]
fn a_small_rest_of_a_large_run_does_not_keep_it() {
    let mut random = Random::new(5);
    let before = random_updates(&mut random, 4_000, 3_000, 3);
    let mut whole = VecDeque::new();
    let mut builder = RunBuilder::new(&mut whole, 0, 0);
    updates(&before).for_each(|(hash, row, time, diff)| builder.push(hash, &row, time, diff));
    builder.finish();
    let rest = RowChunk { start: 10, end: 20, ..whole[0].clone() };
    assert_eq!(settle_all([rest])[0].run.len(), 10);
}

/// The whole way of two batches through differential's merger, with little fuel at a time.
#[test]
fn batches_merge_and_compact() {
    for seed in 0..60 {
        let mut random = Random::new(seed);
        let rows = [20, 2_000, 30_000][random.below(3) as usize];
        let (one, other) = (random_updates(&mut random, 20_000, rows, 4), random_updates(&mut random, 6_000, rows, 4));
        let other: Model = other.into_iter().map(|((hash, row, time), diff)| ((hash, row, time + 4), diff)).collect();
        let batch = |random: &mut Random, model: &Model, lower, upper| {
            let frontier = |time: Time| Antichain::from_elem(time);
            let chunks = settle_all(chain(random, model, 9_000));
            ChunkBatch::new(chunks, Description::new(frontier(lower), frontier(upper), frontier(0)))
        };
        let (early, late) = (batch(&mut random, &one, 0, 4), batch(&mut random, &other, 4, 8));
        let since = random.below(10);
        let mut merger = early.begin_merge(&late, Antichain::from_elem(since).borrow());
        loop {
            let mut fuel = 1 + random.below(20_000) as isize;
            merger.work(&early, &late, &mut fuel);
            if fuel > 0 {
                break;
            }
        }
        let merged = merger.done();
        let both = model(updates(&one).chain(updates(&other)));
        assert_eq!(content(&merged.chunks), advanced(&both, since), "seed {seed}");
        assert!(is_graded(&merged.chunks), "seed {seed}");
        assert_eq!(content(&early.chunks), one, "sources stay as they were");
    }
}

#[test]
fn runs_split_before_their_offsets_overflow() {
    let mut random = Random::new(6);
    let before = random_updates(&mut random, 3_000, 2_000, 3);
    let mut whole = VecDeque::new();
    let mut builder = RunBuilder::new(&mut whole, 0, 0);
    updates(&before).for_each(|(hash, row, time, diff)| builder.push(hash, &row, time, diff));
    builder.finish();
    let (mut pushed, mut extended) = (VecDeque::new(), VecDeque::new());
    let mut one = RunBuilder::with_limits(&mut pushed, 0, 0, 1_000, 64);
    updates(&before).for_each(|(hash, row, time, diff)| one.push(hash, &row, time, diff));
    one.finish();
    let mut other = RunBuilder::with_limits(&mut extended, 0, 0, 1_000, 64);
    other.extend(&whole[0].run, 0..whole[0].run.len(), 0);
    other.finish();
    for chunks in [&pushed, &extended] {
        assert_eq!(content(chunks), before);
        assert!(chunks.iter().all(|chunk| chunk.row_bytes() <= 64));
    }
    // A row that is larger than any run may be gets one of its own.
    let mut large = VecDeque::new();
    let mut builder = RunBuilder::with_limits(&mut large, 0, 0, 1_000, 3);
    builder.push(1, b"ab", 0, 1);
    builder.push(2, b"abcdefgh", 0, 1);
    builder.push(3, b"", 0, 1);
    builder.finish();
    assert_eq!(large.iter().map(Chunk::len).collect::<Vec<_>>(), [1, 1, 1]);
}
