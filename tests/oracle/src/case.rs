//! One case: a text, a script and a number of workers; and what came of it.

use std::sync::Arc;

use highwater_engine::{Engine, EngineConfig};
use highwater_plan::{Job, explain};
use highwater_sql::{CompileOptions, compile};

use crate::census::Meetings;
use crate::compare::{Mismatch, compare};
use crate::drive::{DriveError, Observed, drive};
use crate::evaluate::{Unfit, evaluate};
use crate::history::History;
use crate::script::Script;
use crate::value::show;

/// What a job was seen to do wrong.
#[derive(Debug, Clone)]
pub struct Wrong {
    /// What.
    pub fault: Fault,
    /// What the job had been given, and in which epochs, if it came to an end.
    pub history: Option<History>,
}

/// A kind of wrong.
#[derive(Debug, Clone)]
pub enum Fault {
    /// The engine failed.
    Drive(DriveError),
    /// The plan says something that is not so.
    Plan(String),
    /// A relation does not hold what it must.
    Mismatch(Box<Mismatch>),
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Fault::Drive(error) => write!(f, "{error}"),
            Fault::Plan(what) => f.write_str(what),
            Fault::Mismatch(mismatch) => {
                let Mismatch { relation, epoch, expected, got } = &**mismatch;
                write!(f, "{relation}, after epoch {epoch}\nexpected:\n{expected}got:\n{got}")
            }
        }
    }
}

/// A job that does what it must.
#[derive(Debug, Clone)]
pub struct Seen {
    /// What it did.
    pub observed: Observed,
    /// What its operators met on the way.
    pub met: Meetings,
}

/// What came of a case.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// All is as it must be.
    Right(Box<Seen>),
    /// Something is not.
    Wrong(Box<Wrong>),
    /// The oracle did not look: the case is too large.
    Skipped,
}

/// Compiles a job's text.
pub fn compiled(sql: &str) -> Result<Arc<Job>, String> {
    compile(sql, &CompileOptions::default()).map(Arc::new).map_err(|diagnostics| {
        let lines = diagnostics.iter().map(|diagnostic| {
            format!("{}: {} {:?}", diagnostic.code, diagnostic.message, diagnostic.span) + &format!(" {:?}", diagnostic.notes)
        });
        lines.collect::<Vec<_>>().join("\n")
    })
}

/// Runs a job on an engine and compares.
pub fn run(engine: &Engine, job: &Arc<Job>, script: &Script) -> Outcome {
    let observed = match drive(engine, job, script) {
        Ok(observed) => observed,
        Err(DriveError::TooLarge) => return Outcome::Skipped,
        // A plan that is wrong may well be why the engine failed: it is the better message then.
        Err(error) => {
            let fault = match evaluate(job, &History::imagined(job, script)) {
                Err(Unfit::PlanIsWrong(what)) => Fault::Plan(format!("{what} ({error})")),
                _ => Fault::Drive(error),
            };
            return Outcome::Wrong(Box::new(Wrong { fault, history: None }));
        }
    };
    let wrong = |fault| Outcome::Wrong(Box::new(Wrong { fault, history: Some(observed.history.clone()) }));
    let expected = match evaluate(job, &observed.history) {
        Ok(expected) => expected,
        Err(Unfit::TooLarge | Unfit::NeedsClock) => return Outcome::Skipped,
        Err(Unfit::PlanIsWrong(what)) => return wrong(Fault::Plan(what)),
    };
    match compare(job, &expected, &observed) {
        Some(mismatch) => wrong(Fault::Mismatch(Box::new(mismatch))),
        None => Outcome::Right(Box::new(Seen { observed, met: expected.met })),
    }
}

/// An engine of its own for one run.
pub fn run_alone(workers: usize, job: &Arc<Job>, script: &Script) -> Outcome {
    let engine = Engine::start(EngineConfig { workers }).expect("threads can be started");
    let outcome = run(&engine, job, script);
    if matches!(outcome, Outcome::Wrong(_)) {
        // Its workers may have died or hang: nobody waits for them.
        std::mem::forget(engine);
    }
    outcome
}

/// Runs a text with a script on 1, 2 and 4 workers.
///
/// # Panics
///
/// If the text does not compile, the script cannot be read, or something is wrong: for tests.
pub fn check(sql: &str, script: &str) {
    let job = compiled(sql).unwrap_or_else(|error| panic!("{error}"));
    let script = Script::parse(script, &job).unwrap_or_else(|error| panic!("{error}"));
    for workers in [1, 2, 4] {
        match run_alone(workers, &job, &script) {
            Outcome::Right(_) => {}
            Outcome::Skipped => panic!("the case is too large"),
            Outcome::Wrong(wrong) => panic!("{workers} workers: {}\n{}", wrong.fault, explain(&job)),
        }
    }
}

/// What the first view of a job holds at last, worked out as if every step were an epoch: for what a query *means*.
///
/// # Panics
///
/// As [`check`].
pub fn last_content(sql: &str, script: &str) -> Vec<String> {
    let job = compiled(sql).unwrap_or_else(|error| panic!("{error}"));
    let script = Script::parse(script, &job).unwrap_or_else(|error| panic!("{error}"));
    let expected = evaluate(&job, &History::imagined(&job, &script)).unwrap_or_else(|error| panic!("{error}"));
    let rows = expected.views[0].last().expect("there is an epoch");
    rows.iter().map(|(row, diff)| format!("{diff:+} {}", show(row))).collect()
}
