//! Waiting for epochs without a thread per waiter: a job's progress as a channel that requests watch.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use highwater_engine::JobState;
use highwater_plan::Epoch;
use highwater_runtime::RunningJob;
use tokio::sync::watch;

/// How far a job has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Progress {
    /// The last closed epoch.
    pub(crate) closed: Epoch,
    /// How the job is.
    pub(crate) state: JobState,
}

/// The jobs' progress, one channel per job, made when somebody first waits.
#[derive(Default)]
pub(crate) struct Watches {
    jobs: Mutex<HashMap<u64, watch::Receiver<Progress>>>,
}

impl Watches {
    /// The progress of `job`.
    pub(crate) fn of(&self, job: &RunningJob) -> watch::Receiver<Progress> {
        let handle = job.handle();
        let mut jobs = self.jobs.lock().expect("the map is changed without panicking");
        if let Some(progress) = jobs.get(&handle.id()) {
            return progress.clone();
        }
        // Jobs that are over need no channel: a new one says so at once.
        jobs.retain(|_, progress| progress.borrow().state == JobState::Running);
        let (sender, receiver) = watch::channel(Progress { closed: 0, state: JobState::Running });
        let sender = Arc::new(sender);
        let listener = Arc::clone(&sender);
        handle.listen(move |closed, state| advance(&listener, closed, state));
        advance(&sender, handle.closed(), &handle.state());
        jobs.insert(handle.id(), receiver.clone());
        receiver
    }
}

/// Listeners are called by several workers, so neither part may go back.
fn advance(sender: &watch::Sender<Progress>, closed: Epoch, state: &JobState) {
    sender.send_if_modified(|progress| {
        let ended = progress.state == JobState::Running && *state != JobState::Running;
        let advanced = closed > progress.closed;
        if ended {
            progress.state = state.clone();
        }
        progress.closed = progress.closed.max(closed);
        ended || advanced
    });
}

/// A source that cannot be read ends its job without telling the engine, whose listeners therefore do not hear of it: who
/// waits looks again after this time.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// What a wait came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Waited {
    /// The epoch is closed.
    Closed,
    /// The job ended before.
    Over(JobState),
    /// It took too long; this is the last closed epoch.
    TimedOut(Epoch),
}

/// Waits until `epoch` is closed.
pub(crate) async fn wait_closed(
    mut progress: watch::Receiver<Progress>,
    job: &RunningJob,
    epoch: Epoch,
    timeout: Duration,
) -> Waited {
    let reached = |progress: &Progress| progress.closed >= epoch || progress.state != JobState::Running;
    let ended = async {
        loop {
            tokio::time::sleep(LOOK_AGAIN).await;
            let state = job.state();
            if state != JobState::Running {
                return state;
            }
        }
    };
    let waited = async {
        tokio::select! {
            found = progress.wait_for(reached) => match found {
                Ok(found) if found.closed >= epoch => Waited::Closed,
                Ok(found) => Waited::Over(found.state.clone()),
                // The sender lives in the job's listener: without it there is no job.
                Err(_) => Waited::Over(JobState::Dropped),
            },
            state = ended => Waited::Over(state),
        }
    };
    tokio::time::timeout(timeout, waited).await.unwrap_or_else(|_| Waited::TimedOut(job.handle().closed()))
}
