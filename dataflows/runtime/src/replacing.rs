//! A running job is changed: it ends where it is saved, and goes on as another version of itself; or, if that cannot be, as it was.

use std::sync::Arc;
use std::time::Duration;

use highwater_engine::JobState;
use highwater_plan::Job;

use crate::checkpoints::{CheckpointError, Meta, sizes};
use crate::jobs::{CreateError, CreateOptions, Runtime};
use crate::running::RunningJob;
use crate::savepoints::RestoreFrom;
use crate::upgrade::Upgrade;

/// How long it waits until all that was read is saved and published.
const SETTLE_WAIT: Duration = Duration::from_secs(60);

impl Runtime {
    /// Goes on with the job `name`, which runs, as what `text` and `job` are: an [`Upgrade`] of it. If nothing runs under that name
    /// it is created. Of the options those that say what it begins with do not count: that is its newest checkpoint.
    ///
    /// Errors: the job runs as it did, unless the error says that it does not.
    pub fn replace(&self, name: &str, text: &str, job: Job, options: CreateOptions) -> Result<Arc<RunningJob>, CreateError> {
        let options = CreateOptions { restore: RestoreFrom::Newest, upgrade: true, ..options };
        let Some(store) = self.store() else { return Err(CreateError::Exists(name.to_owned())) };
        let reservation = self.reserve_running(name)?;
        let Some(old) = self.job(name) else { return self.create_reserved(reservation, text, job, options) };
        if job.views.is_empty() && job.sinks.is_empty() {
            return Err(CreateError::NoViewsOrSinks);
        }
        if old.state() == JobState::Running && !old.settle(SETTLE_WAIT) {
            let problems = old.problems().join("; ");
            let why = if problems.is_empty() { problems } else { format!(": {problems}") };
            return Err(CheckpointError::Unsettled { job: name.to_owned(), why }.into());
        }
        let kept = store.job(name).map_err(CheckpointError::from)?;
        let newest = kept.latest().map_err(CheckpointError::from)?;
        let saved = newest.map(|manifest| Ok::<_, CheckpointError>((Meta::read(&manifest)?, manifest))).transpose()?;
        let Some((Some(meta), manifest)) = saved else { return Err(CheckpointError::NoState(name.to_owned()).into()) };
        let upgrade = Upgrade::of(&meta, &sizes(&kept, &manifest)?, &Arc::new(job.clone()), self.registry())?;
        if !upgrade.refused.is_empty() {
            let why = upgrade.moved.into_iter().chain(upgrade.refused).collect();
            return Err(CheckpointError::Refused { job: name.to_owned(), epoch: manifest.epoch, why }.into());
        }
        let (old_text, old_job) = (old.text().to_owned(), Job::clone(old.handle().job()));
        let Meta { until_end, planned_rows, .. } = meta;
        self.end(&old);
        drop(old);
        let changed = self.start_listed(name, text, job, options);
        let Err(error) = changed else { return changed };
        tracing::warn!(job = name, %error, "the job goes on as it was, because it cannot be changed");
        let as_it_was = CreateOptions { until_end, planned_rows, ..CreateOptions::default() };
        match self.start_listed(name, &old_text, old_job, as_it_was) {
            Ok(_) => Err(error),
            Err(worse) => Err(CreateError::Engine(format!("{error}; and as it was it does not go on, either: {worse}"))),
        }
    }
}
