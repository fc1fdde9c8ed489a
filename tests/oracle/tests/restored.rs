//! Random jobs that are saved, dropped and restored on another number of workers: nothing is lost and nothing comes twice.
//!
//! `HIGHWATER_ORACLE_CASES=n`: how many jobs. `HIGHWATER_ORACLE_SEED=n`: only this one, with everything printed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use highwater_engine::{Checkpoint, OperatorState};
use highwater_oracle::case::{Outcome, compiled, run_alone};
use highwater_oracle::census::family;
use highwater_oracle::generate::generate;
use highwater_oracle::script::Script;
use highwater_oracle::shrink::Failing;
use highwater_plan::Job;

/// What had state in the checkpoints that a job went on from.
fn restored_kinds(job: &Job, saved: &[Checkpoint]) -> BTreeSet<String> {
    let has = |state: &&OperatorState| state.tables.iter().flat_map(|table| &table.changes).any(|delta| !delta.is_empty());
    let mut kinds = BTreeSet::new();
    for state in saved.iter().flat_map(|checkpoint| &checkpoint.states).filter(has) {
        match state.operator.name.rsplit_once('$').filter(|(name, _)| name.starts_with("rows of")) {
            Some((_, relation)) => kinds.insert(format!("${relation}")),
            None => {
                let Some(family) = family(&job.plan.nodes[state.operator.node].op) else { continue };
                if job.settings.state_ttl.is_some() {
                    kinds.insert(format!("{family}, with a state_ttl"));
                }
                kinds.insert(family.to_string())
            }
        };
    }
    kinds
}

/// What operators are known to be restored with state in some jobs each.
const FAMILIES: [&str; 24] = [
    "$errors",
    "$late",
    "changes held for an interval",
    "filter by the clock",
    "groups",
    "groups, with a state_ttl",
    "groups with windows among the keys",
    "interval join",
    "join as of a time",
    "join as of the moment",
    "join by conditions",
    "join by keys",
    "join by keys, with a state_ttl",
    "nearest join",
    "one group",
    "over",
    "over, with a state_ttl",
    "recursion",
    "session groups",
    "set operation",
    "top-n",
    "top-n, with a state_ttl",
    "window groups",
    "window join",
];

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

/// Runs jobs that are restarted after some of so many steps, on numbers of workers. Gives how often each was restarted, and
/// how many of them had which state.
fn run(name: &str, cases: u64, restarts: impl Fn(&mut Script, [usize; 2])) -> (Vec<usize>, BTreeMap<String, usize>) {
    let only = number("HIGHWATER_ORACLE_SEED");
    let seeds = only.map_or(0..number("HIGHWATER_ORACLE_CASES").unwrap_or(cases), |seed| seed..seed + 1);
    let (mut restored, mut wrong) = (Vec::new(), Vec::new());
    let mut had: BTreeMap<String, usize> = BTreeMap::new();
    for seed in seeds {
        let generated = generate(seed);
        let Ok(job) = compiled(&generated.text.sql()) else { continue };
        let mut script = generated.script(seed, &job);
        let workers = [1, 2, 4];
        let of = |number: u64| workers[(seed / number) as usize % 3];
        script.awaited = true;
        restarts(&mut script, [of(3), of(9)]);
        if script.restarts.is_empty() {
            continue;
        }
        match run_alone(of(1), &job, &script) {
            Outcome::Right(seen) => {
                restored.push(seen.observed.saved.len());
                restored_kinds(&job, &seen.observed.saved).into_iter().for_each(|kind| *had.entry(kind).or_default() += 1);
            }
            Outcome::Skipped => {}
            Outcome::Wrong(found) => {
                let failing = Failing { text: generated.text.clone(), script: script.clone(), workers: of(1), wrong: *found };
                if only.is_some() {
                    eprintln!("{}", failing.report());
                }
                eprintln!("seed {seed}: {}", failing.wrong.fault.to_string().lines().next().unwrap_or_default());
                wrong.push((seed, failing));
            }
        }
    }
    for (seed, failing) in wrong.iter().take(1) {
        let small = failing.clone().shrink();
        let folder = small.write(Path::new(env!("CARGO_TARGET_TMPDIR")), &format!("{name}-{seed}")).unwrap();
        eprintln!("==== seed {seed}, made small in {}\n{}", folder.display(), small.report());
    }
    assert!(wrong.is_empty(), "{} jobs fail", wrong.len());
    (restored, had)
}

fn everything_is_asked_for() -> bool {
    number("HIGHWATER_ORACLE_SEED").is_none() && number("HIGHWATER_ORACLE_CASES").is_none_or(|cases| cases >= 150)
}

#[test]
fn restored_jobs_go_on_as_if_nothing_had_been() {
    let (restored, had) = run("restored", 200, |script, [one, other]| {
        let steps = script.steps();
        script.restarts = vec![(steps / 3, one), (steps * 2 / 3, other)];
    });
    let twice = restored.iter().filter(|times| **times == 2).count();
    eprintln!("{twice} of {} jobs were restored twice, with state of {had:#?}", restored.len());
    if everything_is_asked_for() {
        assert!(twice * 100 >= restored.len() * 95, "{twice} of {} jobs could be saved", restored.len());
        let seldom: Vec<&str> = FAMILIES.into_iter().filter(|family| had.get(*family).is_none_or(|jobs| *jobs < 2)).collect();
        assert!(seldom.is_empty(), "nothing or too little was restored of {seldom:?}");
    }
}

/// The last checkpoint is asked for when the job has finished.
#[test]
fn a_job_that_had_finished_finishes_at_once_and_gives_nothing_twice() {
    let (restored, _) = run("finished", 60, |script, [one, other]| {
        if script.finishes {
            let end = script.steps() + 1;
            script.restarts = vec![(end, one), (end, other)];
        }
    });
    let twice = restored.iter().filter(|times| **times == 2).count();
    assert!(twice > 10 || !everything_is_asked_for(), "{twice} jobs were restored twice");
}
