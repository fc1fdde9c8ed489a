//! `highwater serve`: the service without a job of its own.

use highwater::{Highwater, Server};

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

/// Goes on with the jobs that were saved; what is wrong with one does not keep the others from being served.
fn bring_back(highwater: &Highwater) -> Result<(), Failure> {
    for (name, job) in highwater.bring_back().map_err(|error| Failure::Job(error.to_string()))? {
        match job.map(|job| job.checkpoints().and_then(|info| info.restored)) {
            Ok(epoch) => say(format_args!("job {name} goes on from epoch {}", epoch.unwrap_or_default())),
            Err(error) => say(format_args!("warning: job {name} is not brought back: {error}")),
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
    super::progress::watching_restore(&highwater, false, || bring_back(&highwater))?;
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
