//! `highwater serve`: the service without a job of its own.

use highwater::{Highwater, JobOptions, RestoreFrom, Server};

use super::{CheckpointArgs, Failure, HttpArgs, say, signals};

const EXAMPLES: &str = "\
Examples:
  highwater serve --workers 4 --checkpoints state/
  curl -X POST --data-binary @job.sql 'http://127.0.0.1:8090/v1/jobs?name=hot'

Exit codes: 0 stopped by a signal, 1 the workers could not start, 2 wrong usage, 130 interrupted twice.";

/// Arguments of `highwater serve`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ServeArgs {
    /// Worker threads, shared by all jobs.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers: u16,
    #[command(flatten)]
    checkpoints: CheckpointArgs,
    #[command(flatten)]
    http: HttpArgs,
}

/// Brings back the jobs that were saved and not dropped.
fn restore(highwater: &Highwater) -> Result<(), Failure> {
    let saved = highwater.runtime().saved_jobs().map_err(|error| Failure::Job(error.to_string()))?;
    for job in saved {
        // What is wrong with one job does not keep the others from being served.
        let job = match job {
            Ok(job) => job,
            Err(error) => {
                say(format_args!("warning: a job is not brought back: {error}"));
                continue;
            }
        };
        let options = JobOptions { until_end: job.until_end, restore: RestoreFrom::Newest };
        match highwater.create_job(&job.name, &job.text, options) {
            Ok(running) => {
                let epoch = running.checkpoints().and_then(|info| info.restored);
                say(format_args!("job {} goes on from epoch {}", job.name, epoch.unwrap_or_default()));
            }
            Err(error) => say(format_args!("warning: job {} is not brought back: {error}", job.name)),
        }
    }
    Ok(())
}

/// Serves until interrupted.
pub(super) fn serve(args: &ServeArgs) -> Result<(), Failure> {
    super::logging::start("info");
    let highwater = Highwater::builder()
        .workers(usize::from(args.workers))
        .checkpoints(args.checkpoints.config())
        .start()
        .map_err(|error| Failure::Job(format!("cannot start: {error}")))?;
    restore(&highwater)?;
    let server = Server::start(highwater, args.http.config())
        .map_err(|error| Failure::Usage(format!("{error}; choose another address with --http")))?;
    say(format_args!("serving on {}", server.url()));
    let (wake, woken) = std::sync::mpsc::channel();
    signals::watch(wake).map_err(|error| Failure::Job(format!("cannot watch for signals: {error}")))?;
    // The sender lives as long as the process; only an interrupt ends the wait.
    let _ = woken.recv();
    say(format_args!("stopping"));
    server.stop();
    Ok(())
}
