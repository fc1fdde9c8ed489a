//! The command line: what may be said, and what the process answers with.
//!
//! A command is a file of its own; here are their names, the exit codes, and how failures are told.

mod bench;
mod check;
mod checkpoints;
mod client;
mod diff;
mod dump;
#[cfg(feature = "kafka")]
mod kafka;
mod logging;
mod progress;
mod query;
mod replay;
mod run;
mod serve;
mod signals;
mod tail;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use highwater::{CheckpointConfig, Limits, ServeConfig};

const EXIT_CODES: &str = "\
Exit codes:
    0  done
    1  the job failed while running
    2  wrong usage, or a job text that is wrong (what, where and the remedy are on standard error)
    3  the server cannot be reached, or does not have what was asked for
  130  interrupted twice

A command whose output is cut off (`highwater tail x | head`) ends with 0.";

/// Incremental stream computation: SQL jobs on timely dataflow, always-current views over HTTP.
#[derive(Debug, Parser)]
#[command(name = "highwater", version, about, after_help = EXIT_CODES, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs a job in this process and serves its views.
    Run(run::RunArgs),
    /// Serves without a job: jobs are created and dropped over HTTP.
    Serve(serve::ServeArgs),
    /// Says whether a job's text is right, without running it.
    Check(check::CheckArgs),
    /// Prints a job's plan with the time, update and state properties of every operator.
    Explain(check::ExplainArgs),
    /// Reads a view of a running service.
    Query(query::QueryArgs),
    /// Follows the changes of a view of a running service.
    Tail(tail::TailArgs),
    /// Keeps what a job of a running service has come to, under a name.
    Savepoint(checkpoints::SavepointArgs),
    /// Says what becomes of a job's state when its text is changed.
    Diff(diff::DiffArgs),
    /// Lists and deletes what is kept of jobs.
    Checkpoints(checkpoints::CheckpointsArgs),
    /// Writes and reads messages by hand, and runs a mock of a broker to try things out with.
    #[cfg(feature = "kafka")]
    Kafka(kafka::KafkaArgs),
    /// Runs a benchmark.
    Bench(bench::BenchArgs),
}

/// Why a command did not do what it was asked for.
#[derive(Debug)]
enum Failure {
    /// The job failed while running.
    Job(String),
    /// Wrong usage or job text.
    Usage(String),
    /// No server, or not what was asked for.
    Unreachable(String),
}

impl Failure {
    fn code(&self) -> u8 {
        match self {
            Failure::Job(_) => 1,
            Failure::Usage(_) => 2,
            Failure::Unreachable(_) => 3,
        }
    }

    fn message(&self) -> &str {
        match self {
            Failure::Job(message) | Failure::Usage(message) | Failure::Unreachable(message) => message,
        }
    }
}

/// Where jobs are saved.
#[derive(Debug, Clone, Args)]
struct CheckpointArgs {
    /// Save jobs below DIR, so that they go on after a crash or restart with nothing lost and nothing twice; also a URL of an
    /// object store.
    #[arg(long, value_name = "DIR")]
    checkpoints: Option<String>,
    /// From the beginning of one checkpoint to that of the next: 100ms, 1s, 1 minute.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = interval, requires = "checkpoints")]
    checkpoint_interval: std::time::Duration,
    /// Keep for so long of what epochs were made, and the rows that were pushed, so that they can be run again with --from-epoch:
    /// 10 minutes, 1 hour. DIR has to be a directory.
    #[arg(long, value_name = "TIME", value_parser = interval, requires = "checkpoints")]
    record_epochs: Option<std::time::Duration>,
}

impl CheckpointArgs {
    fn config(&self) -> Option<CheckpointConfig> {
        let location = self.checkpoints.clone()?;
        Some(CheckpointConfig { location, interval: self.checkpoint_interval, record: self.record_epochs })
    }
}

fn interval(text: &str) -> Result<std::time::Duration, String> {
    let parsed = highwater_plan::parse_duration(text).filter(|interval| !interval.is_zero());
    parsed.ok_or_else(|| "expected a time such as 100ms, 1s or 1 minute".into())
}

/// Where to listen, and what to grant.
#[derive(Debug, Clone, Args)]
struct HttpArgs {
    /// Address to listen on [default: 127.0.0.1:8090]; port 0 takes a free one and prints it.
    #[arg(long, value_name = "ADDR")]
    http: Option<std::net::SocketAddr>,
    /// A further name by which clients may address a server that listens to this machine only (a proxy in front).
    #[arg(long = "allow-host", value_name = "NAME")]
    allowed_hosts: Vec<String>,
    /// Connections at a time.
    #[arg(long, value_name = "N", default_value_t = Limits::default().connections)]
    limit_connections: usize,
    /// Subscribers at a time, over all views.
    #[arg(long, value_name = "N", default_value_t = Limits::default().subscribers)]
    limit_subscribers: usize,
    /// Subscribers at a time of one view.
    #[arg(long, value_name = "N", default_value_t = Limits::default().subscribers_per_view)]
    limit_subscribers_per_view: usize,
    /// Bytes of changes kept per view for subscribers to fetch; who falls further behind is disconnected.
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().subscriber_bytes)]
    limit_subscriber_bytes: usize,
    /// Scripts of `POST /v1/query` that run at a time.
    #[arg(long, value_name = "N", default_value_t = Limits::default().queries)]
    limit_queries: usize,
    /// Rows of a query's answer.
    #[arg(long, value_name = "N", default_value_t = Limits::default().query_rows)]
    limit_query_rows: u64,
    /// Bytes of one request body.
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().body_bytes)]
    limit_body_bytes: usize,
}

impl HttpArgs {
    fn config(&self) -> ServeConfig {
        let defaults = ServeConfig::default();
        ServeConfig {
            address: self.http.unwrap_or(defaults.address),
            allowed_hosts: self.allowed_hosts.clone(),
            limits: Limits {
                connections: self.limit_connections,
                subscribers: self.limit_subscribers,
                subscribers_per_view: self.limit_subscribers_per_view,
                subscriber_bytes: self.limit_subscriber_bytes,
                body_bytes: self.limit_body_bytes,
                queries: self.limit_queries,
                query_rows: self.limit_query_rows,
                ..defaults.limits
            },
        }
    }
}

/// Reads the command line, does it, and gives the process's exit code.
pub(crate) fn main() -> ExitCode {
    // Clap exits by itself: 0 after `--help`, 2 after wrong usage.
    let cli = Cli::parse();
    let done = match cli.command {
        Command::Run(args) => run::run(&args),
        Command::Serve(args) => serve::serve(&args),
        Command::Check(args) => check::check(&args),
        Command::Explain(args) => check::explain(&args),
        Command::Query(args) => query::query(&args),
        Command::Tail(args) => tail::tail(&args),
        Command::Savepoint(args) => checkpoints::savepoint(&args),
        Command::Diff(args) => diff::diff(&args),
        Command::Checkpoints(args) => checkpoints::checkpoints(&args),
        #[cfg(feature = "kafka")]
        Command::Kafka(args) => kafka::kafka(&args),
        Command::Bench(args) => bench::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let message = failure.message().trim_end();
            // Diagnostics begin with `error[code]` already.
            let prefix = if message.starts_with("error") { "" } else { "error: " };
            say(format_args!("{prefix}{message}"));
            ExitCode::from(failure.code())
        }
    }
}

/// A line for a person, on standard error; nobody is told if nobody listens.
fn say(line: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Reads a job's text; `-` is standard input.
fn read_job(path: &PathBuf) -> Result<String, Failure> {
    let read = match path.to_str() {
        Some("-") => std::io::read_to_string(std::io::stdin()),
        _ => std::fs::read_to_string(path),
    };
    read.map_err(|error| Failure::Usage(format!("cannot read the job {}: {error}", path.display())))
}

/// Renders what is wrong with the text of `path`, one paragraph each.
fn wrong_text(path: &std::path::Path, text: &str, diagnostics: &[highwater_plan::Diagnostic]) -> Failure {
    Failure::Usage(render(path, text, diagnostics))
}

fn render(path: &std::path::Path, text: &str, diagnostics: &[highwater_plan::Diagnostic]) -> String {
    let name = path.display().to_string();
    let paragraphs: Vec<String> = diagnostics.iter().map(|diagnostic| diagnostic.render(&name, text)).collect();
    paragraphs.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn no_http_excludes_an_address() {
        let wrong = Cli::try_parse_from(["highwater", "run", "job.sql", "--http", "127.0.0.1:0", "--no-http"]);
        assert!(wrong.is_err());
    }
}
