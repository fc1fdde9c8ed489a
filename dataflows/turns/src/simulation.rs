//! What a simulation is told, and which one this thread belongs to.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use crate::Point;

/// Decides which of its threads runs. Each call is made by the thread that runs; those that hand over come back when it is that
/// thread's turn again.
pub trait Simulation: Send + Sync {
    /// A thread is about to be started by `parent`; gives its number. It may be given the turn before it is there.
    fn starts(&self, parent: u64, name: &str) -> u64;

    /// The first call of a thread: comes back with its first turn.
    fn begins(&self, thread: u64);

    /// The last call of a thread, which hands over and comes back at once.
    fn ends(&self, thread: u64);

    /// Whether a thread has ended.
    fn has_ended(&self, thread: u64) -> bool;

    /// Another thread may run. Comes back whenever the simulation likes.
    fn passes(&self, thread: u64);

    /// The thread has nothing to do until `place` is woken or so much time has passed; it may come back earlier.
    fn waits(&self, thread: u64, place: Place, longest: Option<Duration>);

    /// Whoever waits at a place has to look again.
    fn wakes(&self, thread: u64, place: Place);

    /// A timely worker has made a step. It is idle if it says for how long it would park and no epoch is open; but what its peers
    /// send wakes it without this trait's knowing, so it has to step once or twice more after each sign of life of one of them.
    fn stepped(&self, thread: u64, idle: Option<Duration>);

    /// Time since a fixed moment.
    fn elapsed(&self) -> Duration;

    /// Time since the beginning of 1970, as the thread's process has it.
    fn wall(&self, thread: u64) -> Duration;

    /// The thread has come to a point at which a crash is interesting.
    fn reaches(&self, thread: u64, point: Point);
}

/// What a thread waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A [`crate::Bell`], by its address.
    Bell(usize),
    /// Being woken itself.
    Thread(u64),
    /// The end of another thread.
    EndOf(u64),
    /// Nothing but time.
    Time,
}

/// This thread in its simulation.
#[derive(Clone)]
pub(crate) struct Here {
    pub(crate) simulation: Arc<dyn Simulation>,
    pub(crate) thread: u64,
}

thread_local! {
    static HERE: RefCell<Option<Here>> = const { RefCell::new(None) };
}

/// This thread in its simulation; `None` in production.
pub(crate) fn here() -> Option<Here> {
    HERE.with_borrow(Clone::clone)
}

/// Whether this thread is simulated.
pub fn is_simulated() -> bool {
    HERE.with_borrow(Option::is_some)
}

/// Lets other threads of a simulation run.
pub fn pass() {
    if let Some(here) = here() {
        here.simulation.passes(here.thread);
    }
}

/// A worker has made a step: see [`Simulation::stepped`].
pub fn stepped(idle: Option<Duration>) {
    if let Some(here) = here() {
        here.simulation.stepped(here.thread, idle);
    }
}

/// A thread's place in a simulation, taken before it is started: so threads are numbered in the order in which they were wanted, not
/// in which they came up. Empty in production.
#[derive(Clone)]
pub struct Ticket(pub(crate) Option<Here>);

impl std::fmt::Debug for Ticket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Ticket").field(&self.0.as_ref().map(|here| here.thread)).finish()
    }
}

impl Ticket {
    /// For a thread that this one is about to start.
    pub fn new(name: &str) -> Ticket {
        Ticket(here().map(|here| Here { thread: here.simulation.starts(here.thread, name), simulation: here.simulation }))
    }

    /// For the first thread of a simulation.
    pub fn first(simulation: Arc<dyn Simulation>, thread: u64) -> Ticket {
        Ticket(Some(Here { simulation, thread }))
    }

    /// Runs a thread's work in its place.
    pub fn run<T>(&self, work: impl FnOnce() -> T) -> T {
        let Some(here) = &self.0 else { return work() };
        HERE.set(Some(here.clone()));
        here.simulation.begins(here.thread);
        // Also if the work panics: the others go on.
        let _ends = Ends(here);
        work()
    }

    /// Waits until the thread has ended its work, as far as that can be told here; its end itself may take a moment longer.
    pub fn wait(&self) {
        let (Some(theirs), Some(here)) = (&self.0, here()) else { return };
        while !here.simulation.has_ended(theirs.thread) {
            here.simulation.waits(here.thread, Place::EndOf(theirs.thread), None);
        }
    }
}

struct Ends<'a>(&'a Here);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        HERE.set(None);
        self.0.simulation.ends(self.0.thread);
    }
}
