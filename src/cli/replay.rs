//! `highwater run --from-epoch`: epochs that a job has recorded, once more.

use std::path::PathBuf;
use std::time::Duration;

use highwater::{Highwater, JobError, ReplayOptions};

use super::dump::Dump;
use super::{Failure, say, wrong_text};

/// How long a wait goes on before it is looked whether the job has failed.
const SLICE: Duration = Duration::from_millis(200);

/// Which epochs, and where their rows go.
#[derive(Debug, clap::Args)]
pub(super) struct ReplayArgs {
    /// Run epochs again that were recorded (--record-epochs), from this one on, with the same boundaries, rows and watermarks; the
    /// job may be running meanwhile. Nothing is saved, and sinks write nothing to their targets.
    #[arg(long, value_name = "EPOCH", requires = "checkpoints", conflicts_with_all = ["fresh", "restore", "upgrade", "savepoint", "http"])]
    pub(super) from_epoch: Option<u64>,
    /// The last epoch that is run again [default: the last that is recorded].
    #[arg(long, value_name = "EPOCH", requires = "from_epoch")]
    to_epoch: Option<u64>,
    /// Write what the sinks would have written to new files DIR/<sink>.jsonl: a line per change, with `op` and `epoch`.
    #[arg(long, value_name = "DIR", requires = "from_epoch")]
    replay_into: Option<PathBuf>,
}

/// What is run again of which job.
pub(super) struct Replay<'a> {
    pub(super) args: &'a ReplayArgs,
    pub(super) path: &'a PathBuf,
    pub(super) name: &'a str,
    pub(super) text: &'a str,
    pub(super) dumps: &'a [Dump],
}

impl Replay<'_> {
    /// Runs the epochs from `from` on.
    pub(super) fn run(&self, highwater: &Highwater, from: u64) -> Result<(), Failure> {
        let options = ReplayOptions { from, to: self.args.to_epoch, into: self.args.replay_into.clone() };
        let replayed = highwater.replay_job(self.name, self.text, &options).map_err(|error| match error {
            JobError::Text(diagnostics) => wrong_text(self.path, self.text, &diagnostics),
            error => Failure::Job(error.to_string()),
        })?;
        for dump in self.dumps {
            dump.check(&replayed.job)?;
        }
        let failed = |why| Failure::Job(format!("the job failed: {why}"));
        while !replayed.wait(SLICE).map_err(failed)? {}
        for dump in self.dumps {
            let rows = dump.write(&replayed.job)?;
            say(format_args!("dumped {rows} rows of {}", dump.view));
        }
        highwater.runtime().end_replay(&replayed);
        let (first, last) = replayed.epochs;
        let begun = match replayed.base {
            0 => "the job's beginning".to_owned(),
            base => format!("the state as of epoch {base}"),
        };
        say(format_args!("epochs {first} to {last} were run again, from {begun}"));
        Ok(())
    }
}
