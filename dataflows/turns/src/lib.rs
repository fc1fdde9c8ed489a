//! Where threads wait, what time it is, and where a crash would hurt: the machine's business, unless a simulation makes it its own.
//!
//! A job is several threads: timely's workers, one that saves, one per sink that is published. What they do is only as
//! repeatable as the order in which they do it. So whatever waits for time or for another thread, starts one or ends one goes
//! through this crate. In production each call is what its name says of the standard library: a condition variable, a thread,
//! the clock. On a thread of a [`Simulation`] the call goes to that instead, which lets one thread run at a time and chooses by a
//! seed who is next and what time it is (`tests/sim`).
//!
//! ```text
//!  worker ─ step ─┐                          ┌─► the machine: park, condition variable, Instant
//!  saving ─ wait ─┼─► a call of this crate ──┤
//!  sink  ─ sleep ─┘                          └─► a simulation: hand the baton on, come back when it is given again
//! ```
//!
//! Whether a thread is simulated is a thread-local, handed from parent to child. Outside a simulation it is one load and one
//! branch, where a thread was about to wait or to ask for the time anyway. Nothing here decides anything.
//!
//! **Rule.** A thread that may be made to wait here holds no lock that another simulated thread takes, or takes it by [`lock`].

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that finds nothing to unwrap has failed, and says where"))]

mod bell;
mod point;
mod simulation;
mod thread;
mod time;

pub use bell::{Bell, lock, try_lock};
pub use point::{Point, crash_point};
pub use simulation::{Place, Simulation, Ticket, is_simulated, pass, stepped};
pub use thread::{JoinHandle, Sleeper, spawn};
pub use time::{elapsed, sleep, wall};

#[cfg(test)]
mod tests;
