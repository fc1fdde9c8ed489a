//! `highwater check` and `highwater explain`: what can be said of a job without running it.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use highwater::{Highwater, JobError, catalog};

use super::{Failure, read_job, render, say, wrong_text};

/// Arguments of `highwater check`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 the job is right, 2 it is wrong (what, where and the remedy are on standard error).")]
pub(super) struct CheckArgs {
    /// The job's SQL file; `-` reads standard input.
    job: PathBuf,
}

/// Arguments of `highwater explain`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 done, 2 the job is wrong.")]
pub(super) struct ExplainArgs {
    /// The job's SQL file; `-` reads standard input.
    job: PathBuf,
}

/// Compiles the job and reads its connectors' options.
pub(super) fn check(args: &CheckArgs) -> Result<(), Failure> {
    let job = compile(&args.job)?;
    let names = |names: Vec<&str>| if names.is_empty() { String::from("none") } else { names.join(", ") };
    say(format_args!(
        "ok: sources {}; views {}; sinks {}",
        names(job.sources.iter().map(|source| source.name.as_str()).collect()),
        names(job.views.iter().map(|view| view.name.as_str()).collect()),
        names(job.sinks.iter().map(|sink| sink.name.as_str()).collect()),
    ));
    Ok(())
}

/// Prints the job's plan.
pub(super) fn explain(args: &ExplainArgs) -> Result<(), Failure> {
    let job = compile(&args.job)?;
    // A reader that has seen enough is no failure.
    let _ = std::io::stdout().write_all(highwater_plan::explain(&job).as_bytes());
    Ok(())
}

fn compile(path: &PathBuf) -> Result<highwater_plan::Job, Failure> {
    compile_like(path, &BTreeMap::new())
}

/// Compiles a job, planned by these sizes of its sources where they are known.
pub(super) fn compile_like(path: &PathBuf, rows: &BTreeMap<String, u64>) -> Result<highwater_plan::Job, Failure> {
    let text = read_job(path)?;
    let job = Highwater::check_like(&catalog::registry(), &text, rows).map_err(|error| match error {
        JobError::Text(diagnostics) => wrong_text(path, &text, &diagnostics),
        other => Failure::Usage(other.to_string()),
    })?;
    let warnings = render(path, &text, &job.warnings);
    if !warnings.is_empty() {
        say(format_args!("{}", warnings.trim_end()));
    }
    Ok(job)
}
