//! Random jobs over random inputs: the engine equals the oracle after every closed epoch, on 1, 2 and 4 workers.
//!
//! - `HIGHWATER_ORACLE_CASES=n`: how many jobs; without it ten thousand if `CI` is set, and a few hundred otherwise. The first
//!   few hundred run with every number of workers, the others with one of them, and over fewer epochs.
//! - `HIGHWATER_ORACLE_FROM=n`: the first seed; 0 without it.
//! - `HIGHWATER_ORACLE_COUNTS=1`: prints of how many jobs each kind is and what their operators met.
//! - `HIGHWATER_ORACLE_SEED=n`: only the job of this seed, with everything printed.
//!
//! Ten thousand jobs must also be of every kind that there is and meet what can be met: see [`Counts::lacking`].
//!
//! A job that fails is made small and written to the target directory: `job.sql`, `input` and `fault`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::mem::ManuallyDrop;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use highwater_engine::{Engine, EngineConfig};
use highwater_oracle::case::{Outcome, compiled, run};
use highwater_oracle::census::Counts;
use highwater_oracle::generate::generate;
use highwater_oracle::shrink::Failing;

const WORKERS: [usize; 3] = [1, 2, 4];

/// Jobs that run with every number of workers.
const ON_ALL_WORKERS: u64 = 350;

/// Jobs that run where all must hold.
const IN_CI: u64 = 10_000;

/// On how many workers the others run, in turn: two have all that there is between workers, and cost half of four.
const ON_ONE: [usize; 8] = [1, 2, 1, 2, 1, 2, 1, 4];

/// Failing cases that are made small; more of them seldom say more.
const SHRUNK_MAX: usize = 4;

#[derive(Default)]
struct Tally {
    compiled: AtomicUsize,
    rejected: AtomicUsize,
    skipped: AtomicUsize,
    counts: Mutex<Counts>,
    /// The longest that a job took, and its seed.
    slowest: Mutex<(Duration, u64)>,
    failing: Mutex<Vec<(u64, Failing)>>,
}

impl Tally {
    fn seed(&self, seed: u64, engines: &mut Engines, loud: bool) {
        let generated = generate(seed);
        let job = match compiled(&generated.text.sql()) {
            Ok(job) => job,
            Err(error) => {
                if loud {
                    eprintln!("seed {seed} does not compile: {error}\n{}", generated.text.sql());
                }
                self.rejected.fetch_add(1, Ordering::Relaxed);
                return;
            }
        };
        self.compiled.fetch_add(1, Ordering::Relaxed);
        let whole = seed < ON_ALL_WORKERS;
        let script = if whole { generated.script(seed, &job) } else { generated.short_script(seed, &job) };
        let one = [ON_ONE[seed as usize % ON_ONE.len()]];
        let (begun, mut met) = (Instant::now(), None);
        for workers in if loud || whole { &WORKERS[..] } else { &one } {
            let workers = *workers;
            match run(engines.of(workers), &job, &script) {
                Outcome::Right(seen) => met = Some(seen.met),
                Outcome::Skipped => drop(self.skipped.fetch_add(1, Ordering::Relaxed)),
                Outcome::Wrong(wrong) => {
                    engines.abandon(workers);
                    let failing = Failing { text: generated.text.clone(), script: script.clone(), workers, wrong: *wrong };
                    let fault = failing.wrong.fault.to_string();
                    eprintln!("seed {seed} on {workers} workers: {}", fault.lines().next().unwrap_or_default());
                    if loud {
                        eprintln!("{}", failing.report());
                    }
                    self.failing.lock().unwrap().push((seed, failing));
                    return;
                }
            }
        }
        if let Some(met) = met {
            self.counts.lock().unwrap().add(&job, &met);
        }
        let mut slowest = self.slowest.lock().unwrap();
        *slowest = (*slowest).max((begun.elapsed(), seed));
    }

    /// Makes the first failing cases small, and fails if there are some.
    fn judge(self) {
        let (compiled, rejected) = (self.compiled.into_inner(), self.rejected.into_inner());
        let (slowest, seed) = self.slowest.into_inner().unwrap();
        eprintln!(
            "{compiled} jobs, {rejected} did not compile, {} runs were too large; the job of seed {seed} took {slowest:?}",
            self.skipped.into_inner()
        );
        let counts = self.counts.into_inner().unwrap();
        if std::env::var_os("HIGHWATER_ORACLE_COUNTS").is_some() {
            eprintln!("{}", counts.report());
        }
        let failing = self.failing.into_inner().unwrap();
        let seeds: Vec<u64> = failing.iter().map(|(seed, _)| *seed).collect();
        for (seed, failing) in failing.into_iter().take(SHRUNK_MAX) {
            let name = format!("seed-{seed}-workers-{}", failing.workers);
            let small = failing.shrink();
            let folder = small.write(Path::new(env!("CARGO_TARGET_TMPDIR")), &name).unwrap();
            eprintln!("==== seed {seed}, made small in {}\n{}", folder.display(), small.report());
        }
        assert!(seeds.is_empty(), "{} of {compiled} jobs fail; their seeds are {seeds:?}", seeds.len());
        assert!(compiled * 10 >= (compiled + rejected) * 7, "too many jobs do not compile: {rejected} beside {compiled}");
        if compiled as u64 >= IN_CI {
            let lacking = counts.lacking();
            assert!(lacking.is_empty(), "random jobs do not cover enough:\n{}", lacking.join("\n"));
        }
    }
}

/// One engine per number of workers, used for one job after another.
#[derive(Default)]
struct Engines(BTreeMap<usize, Engine>);

impl Engines {
    fn of(&mut self, workers: usize) -> &Engine {
        self.0.entry(workers).or_insert_with(|| Engine::start(EngineConfig { workers }).unwrap())
    }

    /// Its workers may have died or hang: nobody waits for them.
    fn abandon(&mut self, workers: usize) {
        if let Some(engine) = self.0.remove(&workers) {
            std::mem::forget(engine);
        }
    }
}

#[test]
fn engine_equals_oracle() {
    let tally = Tally::default();
    if let Some(seed) = number("HIGHWATER_ORACLE_SEED") {
        tally.seed(seed, &mut Engines::default(), true);
        return tally.judge();
    }
    let usual = if std::env::var_os("CI").is_some() { IN_CI } else { ON_ALL_WORKERS };
    let wanted = number("HIGHWATER_ORACLE_CASES").unwrap_or(usual) as usize;
    // A lane waits for its workers now and then, so there is one more than can run.
    let lanes = std::thread::available_parallelism().map_or(2, |cores| cores.get()) + 1;
    let next = AtomicU64::new(number("HIGHWATER_ORACLE_FROM").unwrap_or(0));
    std::thread::scope(|scope| {
        for _ in 0..lanes {
            scope.spawn(|| {
                let mut engines = Engines::default();
                while tally.compiled.load(Ordering::Relaxed) < wanted {
                    tally.seed(next.fetch_add(1, Ordering::Relaxed), &mut engines, false);
                }
            });
        }
    });
    tally.judge();
}

#[test]
fn jobs_beside_each_other_do_not_disturb_each_other() {
    // Never dropped: its workers may have died, and then a failure would wait for them.
    let engine = ManuallyDrop::new(Engine::start(EngineConfig { workers: 2 }).unwrap());
    let engine = &engine;
    std::thread::scope(|scope| {
        for lane in 0..4u64 {
            scope.spawn(move || {
                for seed in (0..6).map(|round| 1_000_000 + round * 4 + lane) {
                    let generated = generate(seed);
                    let Ok(job) = compiled(&generated.text.sql()) else { continue };
                    if let Outcome::Wrong(wrong) = run(engine, &job, &generated.script(seed, &job)) {
                        panic!("seed {seed}, beside others: {}\n{}", wrong.fault, generated.text.sql());
                    }
                }
            });
        }
    });
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}
