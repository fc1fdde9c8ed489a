//! The acceptance corpus: small jobs from other engines' tests and our own, with answers that two databases agree on.
//!
//! The corpus stands beside the clone (`../shared/corpus`, or where `CORPUS_DIR` says) and is described by its README. Where it is
//! absent the test says so and passes, except under `CI`. Every case is run twice: on one worker, step by step, the
//! view compared after each step that has an answer; and on two or four, all rows at once or one by one. A table's rows
//! are pushed to it ([`feed`]), and the end of all input closes what is open.
//!
//! Two lists stand beside this file. `exceptions.txt`: cases whose answer is not ours, with the reason; they are run, and
//! must not begin to pass unseen. `pending.txt`: cases that do not pass yet, with the first line of
//! what is wrong; a case that has begun to pass must leave it, and one that is not on it must pass.
//!
//! ```text
//! cargo test --test it corpus                           all cases
//! CORPUS=session cargo test --test it corpus            the cases whose name contains 'session', told at length
//! UPDATE=1 cargo test --test it corpus                  writes pending.txt anew (with CORPUS: the lines of those cases)
//! ```

mod case;
pub(crate) mod compare;
mod feed;
mod lists;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use self::case::{Case, Pace};
use self::lists::{Pending, exceptions};
use crate::jobs::root;

/// Where the corpus is, unless it is absent and may be.
fn corpus() -> Option<PathBuf> {
    let beside = || root().join("../shared/corpus");
    let given = std::env::var_os("CORPUS_DIR").map_or_else(beside, PathBuf::from);
    if given.join("cases").is_dir() {
        return Some(given);
    }
    assert!(std::env::var_os("CI").is_none(), "the corpus is not at {}", given.display());
    eprintln!("skipped: there is no corpus at {}; CORPUS_DIR says where it is", given.display());
    None
}

#[test]
fn cases_give_the_answers_of_others() {
    let Some(corpus) = corpus() else { return };
    let filter = std::env::var("CORPUS").unwrap_or_default();
    let cases: Vec<Case> = case::all(&corpus).into_iter().filter(|case| case.name.contains(&filter)).collect();
    assert!(!cases.is_empty(), "no case's name contains '{filter}'");
    let outcomes = run_all(&cases);

    let exceptions = exceptions();
    let mut pending = Pending::read();
    let mut wrong = Vec::new();
    let mut failing = BTreeMap::new();
    let mut excepted = 0;
    for (case, outcome) in cases.iter().zip(outcomes) {
        let listed = pending.get(&case.name);
        match (outcome, exceptions.get(&case.name)) {
            (Ok(()), Some(_)) => wrong.push(format!("{}: its answer is ours: take it off exceptions.txt", case.name)),
            (Err(_), Some(_)) => excepted += 1,
            (Ok(()), None) if listed.is_some() => wrong.push(format!("{}: passes: take it off pending.txt", case.name)),
            (Ok(()), None) => {}
            (Err(failure), None) => {
                if listed.is_none() || !filter.is_empty() {
                    wrong.push(format!("{}: {}", case.name, failure.0));
                }
                failing.insert(case.name.clone(), failure.first_line());
            }
        }
    }
    eprintln!("{} of {} cases pass", cases.len() - failing.len() - excepted, cases.len());
    if std::env::var_os("UPDATE").is_some() {
        pending.replace(cases.iter().map(|case| case.name.as_str()), failing);
        return;
    }
    let hint = "(UPDATE=1 writes pending.txt anew)";
    assert!(wrong.is_empty(), "{} cases are not as listed {hint}\n{}", wrong.len(), wrong.join("\n"));
}

/// The cases' outcomes, in their order. As many run at once as there are processors.
fn run_all(cases: &[Case]) -> Vec<Result<(), case::Failure>> {
    let threads = std::thread::available_parallelism().map_or(2, usize::from).min(8);
    let outcomes: Vec<Mutex<Option<Result<(), case::Failure>>>> = cases.iter().map(|_| Mutex::default()).collect();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((index, case)) = Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|i| Some((i, cases.get(i)?)))
                {
                    let outcome = run(index, case);
                    *outcomes[index].lock().unwrap() = Some(outcome);
                }
            });
        }
    });
    outcomes.into_iter().map(|outcome| outcome.into_inner().unwrap().expect("every case was run")).collect()
}

/// Runs a case on one worker, and on two or four.
fn run(index: usize, case: &Case) -> Result<(), case::Failure> {
    case.run(1, Pace::Steps)?;
    let pace = match case.order_matters {
        true => Pace::Steps,
        false if index.is_multiple_of(3) && case.rows <= 200 => Pace::Rows,
        false => Pace::Once,
    };
    case.run(if index.is_multiple_of(2) { 2 } else { 4 }, pace)
}
