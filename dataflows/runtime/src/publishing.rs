//! Publishes an outbox: a thread per sink, which may wait for whoever it publishes to.
//!
//! A failure that may pass is tried again, with the same epochs, for as long as it takes; meanwhile the outbox grows, and then
//! the job stops reading. One that cannot pass stops the job: nothing is left out, and nothing is published past a gap.

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
        let take_over = |publisher: &mut dyn Publisher| {
            // A process that was cut off, and replaced meanwhile, does not take the sinks from its successor when it is back.
            writer.map_or(Ok(()), Writer::check_owner).map_err(|error| match error {
                StoreError::Fenced { .. } => PublishError::fatal(error.to_string()),
                error => PublishError::passing(error.to_string()),
            })?;
            publisher.take_over()
        };
        let Some(progress) = self.insist("taking over", take_over) else { return };
        crash_point(Point::TakenOver);
        if let (true, Some(progress)) = (self.exactly_once, progress)
            && !self.resume(progress)
        {
            return;
        }
        while let Some((epochs, through)) = self.outbox.next() {
            crash_point(Point::Publishing);
            let published = self.insist("publishing", |publisher| publisher.publish(&epochs, through));
            if published.is_none() {
                return;
            }
            crash_point(Point::Published);
            let rows = epochs.iter().flat_map(|epoch| &epoch.changes).map(|changes| changes.rows.num_rows() as u64);
            self.status.lock().rows += rows.sum::<u64>();
            self.outbox.published(through);
            self.signal.notify();
        }
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

    /// Tries until it goes well; `None` if it never will, or need not any more.
    fn insist<T>(&mut self, doing: &str, mut attempt: impl FnMut(&mut dyn Publisher) -> Result<T, PublishError>) -> Option<T> {
        let mut failures = 0;
        loop {
            let error = match attempt(self.publisher.as_mut()) {
                Ok(done) => {
                    LastError::pass(&mut self.status.lock().last_error);
                    return Some(done);
                }
                Err(error) => error,
            };
            let name = self.status.lock().name.clone();
            if LastError::record(&mut self.status.lock().last_error, &error.message, self.clock.wall_micros()) {
                tracing::error!(job = self.job, sink = name, error = error.message, fatal = error.fatal, "{doing} a sink failed");
            }
            if error.fatal {
                self.fault.set(format!("sink '{name}': {}", error.message));
                return None;
            }
            failures += 1;
            if self.outbox.stopped(backoff(failures)) {
                return None;
            }
        }
    }
}
