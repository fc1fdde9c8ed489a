//! Seeds, one after the other: `HIGHWATER_SIM_SEED` looks at one, `HIGHWATER_SIM_SEEDS` says how many are run, `HIGHWATER_SIM_FROM` from which
//! on.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that finds nothing to unwrap has failed, and says where")]

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use highwater_sim::{Point, Run, run};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

/// Runs seeds side by side; gives what came of those that `each` keeps.
fn all<T: Send>(seeds: std::ops::Range<u64>, each: impl Fn(u64, Run) -> Option<T> + Sync) -> Vec<T> {
    let (next, kept) = (AtomicU64::new(seeds.start), Mutex::new(Vec::new()));
    // One more than there are cores: a baton that goes from one core to another takes a moment.
    let threads = std::thread::available_parallelism().map_or(2, usize::from) + 1;
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(seed) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|seed| *seed < seeds.end) {
                    if let Some(found) = each(seed, run(seed, false)) {
                        kept.lock().unwrap().push(found);
                    }
                }
            });
        }
    });
    kept.into_inner().unwrap()
}

#[test]
fn one_seed() {
    let Some(seed) = number("HIGHWATER_SIM_SEED") else { return };
    let run = run(seed, true);
    run.lines.iter().for_each(|line| println!("{line}"));
    println!("seed {seed}: {} turns, {:?} of simulated time, trace {:016x}", run.turns, run.time, run.hash);
    assert_eq!(run.failure, None);
}

#[test]
fn many_seeds() {
    if number("HIGHWATER_SIM_SEED").is_some() {
        return;
    }
    let seeds = number("HIGHWATER_SIM_SEEDS").unwrap_or(if std::env::var_os("CI").is_some() { 10_000 } else { 300 });
    let (began, turns, reached) = (Instant::now(), AtomicU64::new(0), Mutex::new(BTreeSet::new()));
    let most = Mutex::new((0, 0));
    let from = number("HIGHWATER_SIM_FROM").unwrap_or(0);
    let wrong = all(from..from + seeds, |seed, run| {
        turns.fetch_add(run.turns, Ordering::Relaxed);
        reached.lock().unwrap().extend(run.crashed_at);
        let mut most = most.lock().unwrap();
        *most = (*most).max((run.turns, seed));
        drop(most);
        let failure = run.failure?;
        let again = format!("HIGHWATER_SIM_SEED={seed} cargo test -p highwater-sim one_seed -- --nocapture");
        println!("seed {seed}: {failure}\n  {again}");
        Some(seed)
    });
    let turns = turns.into_inner();
    let (most, longest) = most.into_inner().unwrap();
    println!("{seeds} seeds, {turns} turns ({most} of them in seed {longest}), {:?}", began.elapsed());
    assert!(wrong.is_empty(), "{} of {seeds} seeds failed: {:?}", wrong.len(), &wrong[..wrong.len().min(20)]);
    let reached = reached.into_inner().unwrap();
    let missed: Vec<&Point> = Point::ALL.iter().filter(|point| !reached.contains(point)).collect();
    assert!(seeds < 1_000 || missed.is_empty(), "nobody died at {missed:?}");
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    if number("HIGHWATER_SIM_SEED").is_some() {
        return;
    }
    let differ = all(0..if std::env::var_os("CI").is_some() { 100 } else { 30 }, |seed, first| {
        let second = run(seed, false);
        (first != second).then_some(seed)
    });
    assert!(differ.is_empty(), "these seeds did not repeat themselves: {differ:?}");
}
