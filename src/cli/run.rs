//! `highwater run`: one job in this process, with its views on HTTP.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use highwater::{Highwater, JobError, JobOptions, RestoreFrom, RunningJob, Server};
use highwater_engine::JobState;

use super::dump::Dump;
use super::progress::{Progress, watching_restore};
use super::replay::{Replay, ReplayArgs};
use super::signals::{self, Wake};
use super::{CheckpointArgs, Failure, HttpArgs, read_job, render, say, wrong_text};

/// How long a drain waits for what was read to reach the views.
const DRAIN: Duration = Duration::from_secs(30);

const EXAMPLES: &str = "\
Examples:
  highwater run dataflows/jobs/trending_videos/job.sql
  highwater run job.sql --workers 4 --http 0.0.0.0:8090
  highwater run job.sql --until-end --no-http --dump q5=q5.jsonl
  highwater run job.sql --checkpoints state/
  highwater run job.sql --checkpoints state/ --from-epoch 1764000000000 --replay-into again/
  highwater run changed.sql --name job --checkpoints state/ --upgrade

The first Ctrl-C drains: what was read reaches the views, dumps are written, totals reported. The second ends at once.

Exit codes: 0 done, 1 the job failed, 2 wrong usage or job text, 130 interrupted twice.";

/// Arguments of `highwater run`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct RunArgs {
    /// The job's SQL file; `-` reads standard input.
    job: PathBuf,
    /// The job's name [default: the file's, or its folder's if it is `job.sql`].
    #[arg(long)]
    name: Option<String>,
    /// Worker threads.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers: u16,
    #[command(flatten)]
    checkpoints: CheckpointArgs,
    /// Begin with nothing, although there are checkpoints of a job of this name.
    #[arg(long, requires = "checkpoints")]
    fresh: bool,
    /// Begin with a savepoint, or a checkpoint by its number, instead of the newest checkpoint; `JOB/NAME` is another job's.
    #[arg(long, value_name = "NAME", requires = "checkpoints", conflicts_with = "fresh")]
    restore: Option<String>,
    /// Go on although the job is not the one that was saved: what is equal is taken over, the rest made anew; `highwater diff`
    /// shows before what that is.
    #[arg(long, requires = "checkpoints", conflicts_with = "fresh")]
    upgrade: bool,
    /// Keep what the job has come to when it ends or is stopped, until the savepoint is deleted.
    #[arg(long, value_name = "NAME", requires = "checkpoints")]
    savepoint: Option<String>,
    #[command(flatten)]
    replay: ReplayArgs,
    #[command(flatten)]
    http: HttpArgs,
    /// Serve nothing.
    #[arg(long, conflicts_with = "http")]
    no_http: bool,
    /// End when all bounded sources are consumed.
    #[arg(long)]
    until_end: bool,
    /// At the end, write the final rows of VIEW to FILE, one JSON object a line; `-` is standard output.
    #[arg(long = "dump", value_name = "VIEW=FILE")]
    dumps: Vec<Dump>,
    /// No progress.
    #[arg(long, short)]
    quiet: bool,
}

impl RunArgs {
    fn restore_from(&self) -> RestoreFrom {
        match &self.restore {
            None if self.fresh => RestoreFrom::Nothing,
            None => RestoreFrom::Newest,
            Some(name) => match name.split_once('/') {
                Some((job, name)) => RestoreFrom::Named { job: Some(job.into()), name: name.into() },
                None => RestoreFrom::Named { job: None, name: name.clone() },
            },
        }
    }
}

/// Runs the job until it ends or is interrupted.
pub(super) fn run(args: &RunArgs) -> Result<(), Failure> {
    super::logging::start("warn");
    let text = read_job(&args.job)?;
    let highwater = Highwater::builder()
        .workers(usize::from(args.workers))
        .checkpoints(args.checkpoints.config())
        .start()
        .map_err(|error| Failure::Job(format!("cannot start: {error}")))?;
    let name = args.name.clone().unwrap_or_else(|| job_name(&args.job));
    if let Some(from) = args.replay.from_epoch {
        let replay = Replay { args: &args.replay, path: &args.job, name: &name, text: &text, dumps: &args.dumps };
        return replay.run(&highwater, from);
    }
    // The port is taken before the job starts, so that a refused address costs nothing.
    let server = start_server(args, &highwater)?;
    let (wake, woken) = std::sync::mpsc::channel();
    signals::watch(wake.clone()).map_err(|error| Failure::Job(format!("cannot watch for signals: {error}")))?;

    let mut progress = Progress::new(args.quiet);
    let job = create(args, &highwater, &name, &text)?;
    for dump in &args.dumps {
        dump.check(&job)?;
    }
    job.handle().listen(move |_, state| {
        if *state != JobState::Running {
            // Nobody listens any more when the command is ending.
            let _ = wake.send(Wake::JobOver);
        }
    });
    announce(&job, server.as_ref());

    let ended = follow(args, &job, &woken, &mut progress, server.is_some());
    progress.erase();
    if let JobState::Failed(reason) = job.state() {
        return Err(Failure::Job(format!("the job failed: {reason}")));
    }
    for dump in &args.dumps {
        let rows = dump.write(&job)?;
        say(format_args!("dumped {rows} rows of {}", dump.view));
    }
    if let Some(savepoint) = &args.savepoint {
        let made = highwater.runtime().savepoint(job.name(), savepoint);
        let made = made.map_err(|error| Failure::Job(format!("no savepoint is made: {error}")))?;
        say(format_args!("savepoint {savepoint} made, of epoch {}", made.epoch.unwrap_or_default()));
    }
    let verb = if ended { "finished" } else { "stopped" };
    say(format_args!("{verb}: {}", progress.totals(&job)));
    for problem in job.problems() {
        say(format_args!("warning: {problem}"));
    }
    Ok(())
}

fn create(args: &RunArgs, highwater: &Highwater, name: &str, text: &str) -> Result<Arc<RunningJob>, Failure> {
    let options = JobOptions { until_end: args.until_end, restore: args.restore_from(), upgrade: args.upgrade };
    let created = watching_restore(highwater, args.quiet, || highwater.create_job(name, text, options));
    let job = created.map_err(|error| match error {
        JobError::Text(diagnostics) => wrong_text(&args.job, text, &diagnostics),
        JobError::Name(_) | JobError::Exists(_) => {
            Failure::Usage(format!("{error}: use letters, digits, '_', '-' and '.' (--name)"))
        }
        JobError::Nothing | JobError::Busy(_) => Failure::Usage(error.to_string()),
        JobError::Checkpoints(_) | JobError::Replay(_) => Failure::Job(error.to_string()),
        JobError::Engine(detail) => Failure::Job(format!("cannot start the job: {detail}")),
    })?;
    let warnings = render(&args.job, text, job.warnings());
    if !warnings.is_empty() {
        say(format_args!("{}", warnings.trim_end()));
    }
    Ok(job)
}

fn start_server(args: &RunArgs, highwater: &Arc<Highwater>) -> Result<Option<Server>, Failure> {
    if args.no_http {
        return Ok(None);
    }
    match Server::start(Arc::clone(highwater), args.http.config()) {
        Ok(server) => Ok(Some(server)),
        // Batches of `--until-end` runs beside a service should not need `--no-http`.
        Err(error) if args.until_end && args.http.http.is_none() => {
            say(format_args!("warning: {error}; running without HTTP"));
            Ok(None)
        }
        Err(error) => Err(Failure::Usage(format!("{error}; choose another address with --http, or --no-http"))),
    }
}

/// Waits for the end of the job or an interrupt; whether the job came to its end.
fn follow(args: &RunArgs, job: &RunningJob, woken: &Receiver<Wake>, progress: &mut Progress, serving: bool) -> bool {
    let mut told = false;
    loop {
        let state = job.state();
        let over = state != JobState::Running;
        if over && (args.until_end || !serving || state != JobState::Finished) {
            return true;
        }
        if over && !told {
            told = true;
            progress.erase();
            say(format_args!("all sources have ended; serving the views until Ctrl-C"));
        }
        match woken.recv_timeout(progress.interval()) {
            Ok(Wake::Interrupt) => {
                progress.erase();
                drain(job);
                return over;
            }
            Ok(Wake::JobOver) => {}
            Err(RecvTimeoutError::Timeout) if over => {}
            Err(RecvTimeoutError::Timeout) => progress.show(job),
            Err(RecvTimeoutError::Disconnected) => return over,
        }
    }
}

/// Lets every epoch that is open now reach the views.
fn drain(job: &RunningJob) {
    if job.state() != JobState::Running {
        return;
    }
    say(format_args!("draining; Ctrl-C again ends at once"));
    let opened = job.handle().stats().epoch_opened.load(std::sync::atomic::Ordering::Acquire);
    let deadline = std::time::Instant::now() + DRAIN;
    while job.handle().closed() < opened && job.state() == JobState::Running {
        if std::time::Instant::now() >= deadline {
            say(format_args!("warning: epoch {opened} is not closed after {} s", DRAIN.as_secs()));
            return;
        }
        job.wait_closed(opened, Duration::from_millis(100));
    }
    if !job.settle(deadline.saturating_duration_since(std::time::Instant::now())) {
        say(format_args!("warning: not everything is saved and published after {} s", DRAIN.as_secs()));
    }
}

fn announce(job: &RunningJob, server: Option<&Server>) {
    if let Some((epoch, info)) = job.checkpoints().and_then(|info| Some((info.restored?, info))) {
        let megabytes = info.restored_bytes as f64 / 1e6;
        say(format_args!("restored from the checkpoint of epoch {epoch}: {} rows, {megabytes:.1} MB", info.restored_rows));
    }
    if let Some(upgrade) = job.upgrade() {
        super::diff::write(upgrade, &mut |line| say(format_args!("{line}")));
    }
    let Some(server) = server else { return };
    say(format_args!("job {} on {}", job.name(), server.url()));
    for view in job.handle().views().iter().filter(|view| !view.is_side_relation()) {
        say(format_args!("  {}", server.view_url(view.name())));
    }
}

/// The name of a job's file, or of its folder if the file is `job.sql`, made of what a name may hold.
pub(super) fn job_name(path: &Path) -> String {
    let stem = |path: &Path| path.file_stem().and_then(|stem| stem.to_str()).map(str::to_string);
    let name = match stem(path).as_deref() {
        Some("job") => path.canonicalize().ok().and_then(|path| path.parent().and_then(stem)),
        Some("-") | None => None,
        Some(name) => Some(name.to_string()),
    };
    let legal = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.') { c } else { '_' };
    name.map_or_else(|| "job".into(), |name| name.chars().map(legal).take(128).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_named_by_its_file_or_folder() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("nexmark q5");
        std::fs::create_dir(&path).expect("a folder");
        std::fs::write(path.join("job.sql"), "").expect("a file");
        assert_eq!(job_name(&path.join("job.sql")), "nexmark_q5");
        assert_eq!(job_name(Path::new("jobs/hot.sql")), "hot");
        assert_eq!(job_name(Path::new("-")), "job");
    }
}
