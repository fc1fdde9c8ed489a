//! `highwater diff`: what becomes of a job's state when its text is changed, before anything is done.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use highwater::catalog;
use highwater_runtime::{CheckpointStore, StatePart, Upgrade};

use super::Failure;
use super::check::compile_like;
use super::progress::bytes;
use super::run::job_name;

const EXAMPLES: &str = "\
Examples:
  highwater diff old.sql new.sql
  highwater diff new.sql --checkpoints state/ --name hot
  highwater diff new.sql --checkpoints state/ --name hot --at before-upgrade

With --checkpoints what is kept of the job is compared, and sizes are told: rows in its files, of which some may take others back.

  reused    taken over as it is
  rebuilt   computed anew, of what is said behind it, before the job goes on
  dropped   no longer needed
  refused   why the job cannot go on

`highwater run new.sql --name hot --checkpoints state/ --upgrade` does it.

Exit codes: 0 it can be done, 1 it cannot, 2 wrong usage or job text.";

/// Arguments of `highwater diff`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct DiffArgs {
    /// The old text, unless --checkpoints has it, and the new one.
    #[arg(required = true, num_args = 1..=2, value_name = "SQL")]
    jobs: Vec<PathBuf>,
    /// Where the job is saved.
    #[arg(long, value_name = "DIR")]
    checkpoints: Option<String>,
    /// The name it is saved under [default: as for `highwater run`].
    #[arg(long, requires = "checkpoints")]
    name: Option<String>,
    /// A savepoint, or a checkpoint by its number, instead of the newest checkpoint.
    #[arg(long, value_name = "NAME", requires = "checkpoints")]
    at: Option<String>,
}

/// Prints the differences.
pub(super) fn diff(args: &DiffArgs) -> Result<(), Failure> {
    let registry = catalog::registry();
    let failed = |error: highwater_runtime::CheckpointError| Failure::Job(error.to_string());
    let upgrade = match (&args.checkpoints, args.jobs.as_slice()) {
        (None, [old, new]) => {
            let [old, new] = [old, new].map(|text| compile_like(text, &BTreeMap::new()).map(Arc::new));
            let (old, new) = (old?, new?);
            Upgrade::between(&old, &new, &registry).map_err(failed)?
        }
        (Some(location), [new]) => {
            let store = CheckpointStore::open(location).map_err(failed)?;
            let name = args.name.clone().unwrap_or_else(|| job_name(new));
            let new = compile_like(new, &store.planned_rows(&name, args.at.as_deref()))?;
            store.upgrade(&name, args.at.as_deref(), &Arc::new(new), &registry).map_err(failed)?
        }
        (None, _) => {
            let usage = "two texts are compared, an old one and a new one; or one with what --checkpoints DIR has";
            return Err(Failure::Usage(usage.into()));
        }
        (Some(_), _) => {
            return Err(Failure::Usage("with --checkpoints one text is compared, the new one: the old one is kept there".into()));
        }
    };
    let mut text = String::new();
    write(&upgrade, &mut |line| {
        text.push_str(line);
        text.push('\n');
    });
    // Whoever reads it may have had enough.
    let _ = std::io::stdout().write_all(text.as_bytes());
    match upgrade.refused.is_empty() {
        true => Ok(()),
        false => Err(Failure::Job("the job cannot go on from that state".into())),
    }
}

/// Gives the lines that say what becomes of the state.
pub(super) fn write(upgrade: &Upgrade, give: &mut dyn FnMut(&str)) {
    let all = [("reused", &upgrade.reused), ("rebuilt", &upgrade.rebuilt), ("dropped", &upgrade.dropped)];
    let parts = all.iter().flat_map(|(_, parts)| parts.iter());
    let width = parts.map(|part| part.what.chars().count()).max().unwrap_or(0);
    for (what, parts) in all {
        for part in parts {
            give(format!("{what:<8}  {:<width$}  {}", part.what, said(part)).trim_end());
        }
    }
    for moved in &upgrade.moved {
        give(&format!("moved     {moved}"));
    }
    for grown in &upgrade.grown {
        give(&format!("grown     {grown}"));
    }
    for refused in &upgrade.refused {
        give(&format!("refused   {refused}"));
    }
    if upgrade.is_nothing() {
        give("nothing changes");
    }
}

fn said(part: &StatePart) -> String {
    let size = part.rows.zip(part.bytes).map(|(rows, size)| format!("{rows} rows, {}", bytes(size)));
    let from = part.from.as_ref().map(|from| format!("from {from}"));
    [from, size].into_iter().flatten().collect::<Vec<_>>().join("; ")
}
