//! `highwater checkpoints`: what is kept of jobs, below a directory or in an object store; `highwater savepoint`: one more of a
//! running service.

use std::io::Write;

use highwater_runtime::{CheckpointStore, KeptCheckpoint};
use serde_json::Value;

use super::client::{UrlArgs, address, agent, encode, success, unreachable};
use super::{Failure, say};

const EXAMPLES: &str = "\
Examples:
  highwater checkpoints list state/
  highwater checkpoints list state/ --job hot
  highwater checkpoints delete state/ --job hot before-upgrade

Exit codes: 0 done, 1 the store cannot be read, 2 wrong usage.";

/// Arguments of `highwater checkpoints`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct CheckpointsArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Lists checkpoints and savepoints, newest first, and what is wrong with any.
    List {
        /// The directory or URL.
        location: String,
        /// Only of this job.
        #[arg(long, value_name = "JOB")]
        job: Option<String>,
    },
    /// Deletes a savepoint, and the files that only it needs.
    Delete {
        /// The directory or URL.
        location: String,
        /// Whose it is.
        #[arg(long, value_name = "JOB")]
        job: String,
        /// The savepoint.
        name: String,
    },
}

/// Lists or deletes.
pub(super) fn checkpoints(args: &CheckpointsArgs) -> Result<(), Failure> {
    let failed = |error: highwater_runtime::CheckpointError| Failure::Job(error.to_string());
    match &args.what {
        What::List { location, job } => {
            let store = CheckpointStore::open(location).map_err(failed)?;
            let jobs = match job {
                Some(job) => vec![job.clone()],
                None => store.jobs().map_err(failed)?,
            };
            let mut text = String::new();
            for name in jobs {
                let all = store.list(&name).map_err(failed)?;
                if job.is_some() && all.is_empty() {
                    let there = store.jobs().map_err(failed)?.join(", ");
                    let there = if there.is_empty() { "there are no jobs".to_owned() } else { format!("there are {there}") };
                    return Err(Failure::Job(format!("nothing is kept of job '{name}'; {there}")));
                }
                text.push_str(&format!("{name}\n"));
                for kept in all {
                    text.push_str(&format!("  {}\n", line(&kept)));
                }
            }
            // Whoever reads it may have had enough.
            let _ = std::io::stdout().write_all(text.as_bytes());
            Ok(())
        }
        What::Delete { location, job, name } => {
            let store = CheckpointStore::open(location).map_err(failed)?;
            store.delete_savepoint(job, name).map_err(failed)?;
            say(format_args!("savepoint {name} of job {job} is deleted"));
            Ok(())
        }
    }
}

fn line(kept: &KeptCheckpoint) -> String {
    let kind = if kept.savepoint { "savepoint" } else { "checkpoint" };
    let epoch = kept.epoch.map_or_else(|| "?".into(), |epoch| epoch.to_string());
    let problem = kept.problem.as_ref().map_or(String::new(), |problem| format!("  PROBLEM: {problem}"));
    format!("{kind} {}  epoch {epoch}  {} bytes in {} files{problem}", kept.name, kept.bytes, kept.files)
}

const SAVEPOINT_EXAMPLES: &str = "\
Examples:
  highwater savepoint hot before-upgrade
  highwater run hot.sql --checkpoints state/ --restore before-upgrade

The service must have been started with --checkpoints.

Exit codes: 0 done, 2 wrong usage, 3 no server, no such job, or no savepoint could be made.";

/// Arguments of `highwater savepoint`.
#[derive(Debug, clap::Args)]
#[command(after_help = SAVEPOINT_EXAMPLES)]
pub(super) struct SavepointArgs {
    /// The job.
    job: String,
    /// The savepoint's name.
    name: String,
    #[command(flatten)]
    url: UrlArgs,
}

/// Makes a savepoint of a job of a running service.
pub(super) fn savepoint(args: &SavepointArgs) -> Result<(), Failure> {
    let path = format!("/v1/jobs/{}/savepoints/{}", encode(&args.job), encode(&args.name));
    let response = agent().put(address(&args.url, &path)).send_empty();
    let mut response = success(response.map_err(|error| unreachable(&args.url, &error))?)?;
    let text = response.body_mut().read_to_string().unwrap_or_default();
    let made: Value = serde_json::from_str(&text).unwrap_or_default();
    say(format_args!("savepoint {} made, of epoch {}, {} bytes", args.name, made["epoch"], made["bytes"]));
    Ok(())
}
