//! `highwater serve`: the service without a job of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use highwater::{Highwater, Returning, Server};

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
fn bring_back(returning: Returning<'_>) {
    returning.bring_back(&|name, job| match job.map(|job| job.checkpoints().and_then(|info| info.restored)) {
        Ok(epoch) => say(format_args!("job {name} goes on from epoch {}", epoch.unwrap_or_default())),
        Err(error) => say(format_args!("warning: job {name} is not brought back: {error}")),
    });
}

/// Serves until interrupted.
pub(super) fn serve(args: &ServeArgs) -> Result<(), Failure> {
    super::logging::start("info");
    let highwater = Highwater::builder()
        .workers(usize::from(args.workers))
        .checkpoints(args.checkpoints.config())
        .start()
        .map_err(|error| Failure::Job(format!("cannot start: {error}")))?;
    // Known before anybody asks for them.
    let returning = highwater.returning().map_err(|error| Failure::Job(error.to_string()))?;
    let server = Server::start(Arc::clone(&highwater), args.http.config())
        .map_err(|error| Failure::Usage(format!("{error}; choose another address with --http")))?;
    if !returning.names().is_empty() {
        say(format_args!("listening on {}, and bringing back {}", server.url(), returning.names().join(", ")));
    }
    let (wake, woken) = std::sync::mpsc::channel();
    signals::watch(wake).map_err(|error| Failure::Job(format!("cannot watch for signals: {error}")))?;
    let stopping = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            super::progress::watching_restore(&highwater, false, || bring_back(returning));
            if !stopping.load(Ordering::Acquire) {
                say(format_args!("serving on {}", server.url()));
            }
        });
        // The sender lives as long as the process; only an interrupt ends the wait.
        let _ = woken.recv();
        stopping.store(true, Ordering::Release);
        say(format_args!("stopping"));
        server.stop();
        // Those that are not back yet stay as they were saved.
        highwater.runtime().shutdown();
    });
    Ok(())
}
