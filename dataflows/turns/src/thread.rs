//! Threads that are started, joined and woken.

use std::thread::Thread;

use crate::simulation::{Place, Ticket, here};

/// A thread that was started here.
#[derive(Debug)]
pub struct JoinHandle {
    thread: std::thread::JoinHandle<()>,
    ticket: Ticket,
}

/// Starts a thread.
pub fn spawn(name: String, work: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle> {
    let ticket = Ticket::new(&name);
    let theirs = ticket.clone();
    let thread = std::thread::Builder::new().name(name).spawn(move || theirs.run(work))?;
    Ok(JoinHandle { thread, ticket })
}

impl JoinHandle {
    /// Waits until the thread has ended; the error is what it panicked with.
    pub fn join(self) -> std::thread::Result<()> {
        self.ticket.wait();
        self.thread.join()
    }

    /// Whether the thread has done its work.
    pub fn is_finished(&self) -> bool {
        match &self.ticket.0 {
            Some(theirs) => theirs.simulation.has_ended(theirs.thread),
            None => self.thread.is_finished(),
        }
    }
}

/// A thread that parks, to be woken by others.
#[derive(Debug)]
pub struct Sleeper {
    thread: Thread,
    simulated: Option<u64>,
}

impl Sleeper {
    /// This thread.
    pub fn this() -> Sleeper {
        Sleeper { thread: std::thread::current(), simulated: here().map(|here| here.thread) }
    }

    /// Wakes it up, or lets it not fall asleep the next time.
    pub fn wake(&self) {
        match (self.simulated, here()) {
            (Some(sleeper), Some(here)) => here.simulation.wakes(here.thread, Place::Thread(sleeper)),
            _ => self.thread.unpark(),
        }
    }
}
