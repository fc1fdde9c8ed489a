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

#[test]
fn restored_jobs_go_on_as_if_nothing_had_been() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let only = number("HIGHWATER_ORACLE_SEED");
    let seeds = only.map_or(0..number("HIGHWATER_ORACLE_CASES").unwrap_or(150), |seed| seed..seed + 1);
    let (mut restored, mut wrong) = (0, Vec::new());
    let mut had: BTreeMap<String, usize> = BTreeMap::new();
    for seed in seeds {
        let generated = generate(seed);
        let Ok(job) = compiled(&generated.text.sql()) else { continue };
        let mut script = generated.script(seed, &job);
        let workers = [1, 2, 4];
        let of = |number: u64| workers[(seed / number) as usize % 3];
        let steps = script.steps();
        script.awaited = true;
        script.restarts = vec![(steps / 3, of(3)), (steps * 2 / 3, of(9))];
        match run_alone(of(1), &job, &script) {
            Outcome::Right(seen) => {
                restored += usize::from(seen.observed.saved.len() == 2);
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
    eprintln!("{restored} jobs were restored twice, with state of {had:#?}");
    for (seed, failing) in wrong.iter().take(1) {
        let small = failing.clone().shrink();
        let folder = small.write(Path::new(env!("CARGO_TARGET_TMPDIR")), &format!("restored-{seed}")).unwrap();
        eprintln!("==== seed {seed}, made small in {}\n{}", folder.display(), small.report());
    }
    assert!(wrong.is_empty(), "{} jobs fail", wrong.len());
    assert!(only.is_some() || restored > 0, "no job was restored");
}
