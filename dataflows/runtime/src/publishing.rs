//! Publishes an outbox: a thread per sink, which may wait for whoever it publishes to.
//!
//! A failure that may pass is tried again, with the same epochs, for as long as it takes; meanwhile the outbox grows, and then
//! the job stops reading. One that cannot pass stops the job: nothing is left out, and nothing is published past a gap.
//!
//! Whose the sink is goes by whose the job's checkpoints are. A process that was cut off, and replaced meanwhile, may come to the
//! sink after its successor, between its look at the store and its taking over:
//!
//! ```text
//! replaced    looks: its own ─────────────────────────────────► takes the sink ─► looks: not its own, stops
//! successor                    claims the job ─► takes the sink                      is refused ─► looks: its own, takes it again
//! ```
//!
//! So both look again after they have taken it. Who finds then that the job is another's has published nothing since; and a claim
//! that comes after that look is followed by a taking over that refuses this one. What the successor finds published when it takes
//! the sink again can only be what it has published itself, or its predecessors had.

use std::sync::Arc;
use std::time::Duration;

use highwater_connectors::sink::{PublishError, Publisher};
use highwater_engine::Time;
use highwater_store::{StoreError, Writer};
use highwater_turns::{JoinHandle, Point, crash_point, spawn};

use crate::clock::Clock;
use crate::outbox::Outbox;
use crate::retry::backoff;
use crate::signal::Signal;
use crate::sinks::SinkStatus;
use crate::status::{Fault, LastError};

/// How often a sink is taken over again from processes that this one has replaced.
const RETAKEN_MAX: usize = 3;

/// What a sink's thread needs.
pub(crate) struct Publishing {
    pub(crate) publisher: Box<dyn Publisher>,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) job: String,
    pub(crate) status: Arc<SinkStatus>,
    pub(crate) fault: Arc<Fault>,
    pub(crate) signal: Arc<Signal>,
    pub(crate) clock: Arc<dyn Clock>,
    /// The epoch of the checkpoint that the job was restored from.
    pub(crate) restored: Option<Time>,
    /// Epochs that are published are told by a record: see [`highwater_connectors::sink::Delivery::ExactlyOnce`].
    pub(crate) exactly_once: bool,
}

/// Why something is not done.
enum Undone {
    /// It need not be any more.
    Stopped,
    Failed(PublishError),
}

/// A sink's thread. Dropping it ends the thread when it is done with what it is publishing.
pub(crate) struct PublishingThread {
    outbox: Arc<Outbox>,
    thread: Option<JoinHandle>,
}

impl PublishingThread {
    /// Whether all that may be published is.
    pub(crate) fn is_drained(&self) -> bool {
        self.outbox.drained(Duration::ZERO)
    }

    /// Whether all of the epochs up to `through` is published.
    pub(crate) fn has_published(&self, through: Time) -> bool {
        self.outbox.has_published(through)
    }
}

impl Drop for PublishingThread {
    fn drop(&mut self) {
        self.outbox.stop();
        if let Some(thread) = self.thread.take() {
            // A panic there has failed the job already.
            let _ = thread.join();
        }
    }
}

impl Publishing {
    /// Starts the thread. `writer`: who has the job's checkpoints has its sinks.
    pub(crate) fn start(self, writer: Option<Arc<Writer>>) -> std::io::Result<PublishingThread> {
        let outbox = Arc::clone(&self.outbox);
        let name = format!("sink {}", self.status.lock().name);
        let thread = spawn(name, move || self.run(writer.as_deref()))?;
        Ok(PublishingThread { outbox, thread: Some(thread) })
    }

    fn run(mut self, writer: Option<&Writer>) {
        let (fault, name) = (Arc::clone(&self.fault), self.status.lock().name.clone());
        let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.publish_all(writer)));
        if run.is_err() {
            fault.set(format!("sink '{name}': its connector panicked"));
        }
    }

    fn publish_all(&mut self, writer: Option<&Writer>) {
        if let Err(Undone::Failed(error)) = self.publish_until_stopped(writer) {
            let name = self.status.lock().name.clone();
            self.fault.set(format!("sink '{name}': {}", error.message));
        }
    }

    fn publish_until_stopped(&mut self, writer: Option<&Writer>) -> Result<(), Undone> {
        let progress = self.take_over(writer)?;
        crash_point(Point::TakenOver);
        if let (true, Some(progress)) = (self.exactly_once, progress)
            && !self.resume(progress)
        {
            return Ok(());
        }
        let mut known = progress.unwrap_or(0);
        let mut retaken = 0;
        while let Some((epochs, through)) = self.outbox.next() {
            crash_point(Point::Publishing);
            match self.insist("publishing", |publisher| publisher.publish(&epochs, through)) {
                Ok(()) => {}
                Err(Undone::Failed(_)) if self.exactly_once && writer.is_some() && retaken < RETAKEN_MAX => {
                    // It may have been a process that was replaced: that is for whoever has the job to find out.
                    retaken += 1;
                    let progress = self.take_over(writer)?.unwrap_or(0);
                    if !(known..=through).contains(&progress) {
                        return Err(Undone::Failed(PublishError::fatal(format!(
                            "it is published up to epoch {progress}, and this process has come from {known} to {through}: another \
                             one, with checkpoints elsewhere, publishes as the same job; stop one of the two, or give their jobs \
                             different names"
                        ))));
                    }
                    known = progress;
                    let (job, sink) = (&self.job, self.status.lock().name.clone());
                    tracing::warn!(job, sink, progress, "the sink is taken over again");
                    self.outbox.published(progress);
                    self.signal.notify();
                    continue;
                }
                Err(undone) => return Err(undone),
            }
            crash_point(Point::Published);
            known = known.max(through);
            let rows = epochs.iter().flat_map(|epoch| &epoch.changes).map(|changes| changes.rows.num_rows() as u64);
            self.status.lock().rows += rows.sum::<u64>();
            self.outbox.published(through);
            self.signal.notify();
        }
        Ok(())
    }

    /// Takes the sink over for whoever has the job, as of before and after: gives up to which epoch it is published.
    fn take_over(&mut self, writer: Option<&Writer>) -> Result<Option<Time>, Undone> {
        let look = || {
            writer.map_or(Ok(()), Writer::check_owner).map_err(|error| match error {
                StoreError::Fenced { .. } => PublishError::fatal(error.to_string()),
                error => PublishError::passing(error.to_string()),
            })
        };
        self.insist("taking over", |publisher| {
            look()?;
            let progress = publisher.take_over()?;
            look()?;
            Ok(progress)
        })
    }

    /// Goes on after what an earlier run has published, up to `progress`; whether it can.
    fn resume(&self, progress: Time) -> bool {
        let name = self.status.lock().name.clone();
        match self.restored {
            None => tracing::warn!(
                job = self.job,
                sink = name,
                "an earlier run has published up to epoch {progress}; this one begins anew and publishes all of its own rows"
            ),
            Some(restored) if progress > restored => {
                self.fault.set(format!(
                    "sink '{name}' was published up to epoch {progress}, and the checkpoint that the job goes on from is of epoch \
                     {restored}: going on would publish rows twice; restore the newest checkpoint, or give the sink another name \
                     and target"
                ));
                return false;
            }
            Some(_) => self.outbox.published(progress),
        }
        true
    }

    /// Tries until it goes well.
    fn insist<T>(
        &mut self,
        doing: &str,
        mut attempt: impl FnMut(&mut dyn Publisher) -> Result<T, PublishError>,
    ) -> Result<T, Undone> {
        let mut failures = 0;
        loop {
            let error = match attempt(self.publisher.as_mut()) {
                Ok(done) => {
                    LastError::pass(&mut self.status.lock().last_error);
                    return Ok(done);
                }
                Err(error) => error,
            };
            let name = self.status.lock().name.clone();
            if LastError::record(&mut self.status.lock().last_error, &error.message, self.clock.wall_micros()) {
                tracing::error!(job = self.job, sink = name, error = error.message, fatal = error.fatal, "{doing} a sink failed");
            }
            if error.fatal {
                return Err(Undone::Failed(error));
            }
            failures += 1;
            if self.outbox.stopped(backoff(failures)) {
                return Err(Undone::Stopped);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use highwater_connectors::sink::{Changes, EpochChanges};
    use highwater_store::{Options, Store};

    use super::*;
    use crate::clock::SystemClock;
    use crate::congestion::Congestion;
    use crate::testing::rows_at;

    const PATIENCE: Duration = Duration::from_secs(180);

    /// What the outside does: the answers to takings and to publishings, in order, and what was published.
    #[derive(Default)]
    struct Outside {
        takings: Vec<Option<Time>>,
        refusals: usize,
        published: Vec<Time>,
        /// Another process claims the job while the sink is taken over.
        claims: bool,
        store: Option<Store>,
    }

    struct Sink(Arc<Mutex<Outside>>);

    impl Publisher for Sink {
        fn take_over(&mut self) -> Result<Option<u64>, PublishError> {
            let mut outside = self.0.lock().unwrap();
            if let (true, Some(store)) = (outside.claims, &outside.store) {
                store.job("j").unwrap().claim(Options::default()).unwrap();
            }
            Ok(if outside.takings.is_empty() { None } else { outside.takings.remove(0) })
        }

        fn publish(&mut self, epochs: &[EpochChanges], _: u64) -> Result<(), PublishError> {
            let mut outside = self.0.lock().unwrap();
            if outside.refusals > 0 {
                outside.refusals -= 1;
                return Err(PublishError::fatal("another process has taken it over"));
            }
            outside.published.extend(epochs.iter().map(|epoch| epoch.epoch));
            Ok(())
        }
    }

    /// Publishes epochs 3, 5 and 8 of a job that was restored as of 3; what was published, and why it stopped if it did.
    fn publish(outside: Outside) -> (Vec<Time>, Option<String>) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::create(&folder.path().display().to_string()).unwrap();
        let writer = Arc::new(store.job("j").unwrap().claim(Options::default()).unwrap());
        let outside = Arc::new(Mutex::new(Outside { store: Some(store), ..outside }));
        let status = Arc::new(SinkStatus::new("out".into(), "kafka".into()));
        let outbox = Outbox::new(true, 0, Arc::new(Congestion::new(Vec::new())), Arc::clone(&status));
        let epoch = |epoch| EpochChanges { epoch, changes: vec![Changes { rows: rows_at(&[Some(1)]), diffs: None }] };
        outbox.restore(8, [3, 5, 8].map(epoch).to_vec());
        let signal = Arc::new(Signal::default());
        let fault = Arc::new(Fault::new(Arc::clone(&signal)));
        let publishing = Publishing {
            publisher: Box::new(Sink(Arc::clone(&outside))),
            outbox: Arc::clone(&outbox),
            job: "j".into(),
            status,
            fault: Arc::clone(&fault),
            signal: Arc::clone(&signal),
            clock: Arc::new(SystemClock),
            restored: Some(8),
            exactly_once: true,
        };
        let thread = publishing.start(Some(writer)).unwrap();
        let over = || (thread.is_drained() || fault.reason().is_some()).then_some(());
        assert_eq!(signal.wait(over, || Some(PATIENCE)), Some(()));
        drop(thread);
        let published = outside.lock().unwrap().published.clone();
        (published, fault.reason().map(str::to_owned))
    }

    #[test]
    fn who_was_replaced_while_it_took_the_sink_over_publishes_nothing() {
        let (published, fault) = publish(Outside { claims: true, ..Outside::default() });
        assert_eq!(published, Vec::<Time>::new());
        assert!(fault.as_ref().is_some_and(|why| why.contains("has taken job")), "{fault:?}");
    }

    #[test]
    fn who_still_has_the_job_takes_its_sink_again_and_goes_on_where_it_was() {
        let once = Outside { takings: vec![None, Some(5)], refusals: 1, ..Outside::default() };
        assert_eq!(publish(once), (vec![8], None));
        let (published, fault) = publish(Outside { refusals: RETAKEN_MAX + 1, ..Outside::default() });
        assert_eq!((published, fault.as_deref()), (vec![], Some("sink 'out': another process has taken it over")));
        for strange in [Some(9), Some(2)] {
            let (published, fault) = publish(Outside { takings: vec![Some(3), strange], refusals: 1, ..Outside::default() });
            assert_eq!(published, Vec::<Time>::new());
            assert!(fault.as_ref().is_some_and(|why| why.contains("with checkpoints elsewhere")), "{fault:?}");
        }
    }
}
