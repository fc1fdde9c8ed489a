//! The only clock of this crate. Decisions take times as arguments; what carries them out asks a [`Clock`] once and
//! passes the answer down, so that a test sets the time instead of waiting for it.

use std::time::Duration;

/// Tells the time, twice: one that never goes back, and the one on the wall.
pub(crate) trait Clock: Send + Sync {
    /// Time since a fixed moment of this process; never goes back.
    fn elapsed(&self) -> Duration;

    /// Time on the wall in microseconds since the Unix epoch, the unit of event times.
    fn wall_micros(&self) -> i64;
}

/// The machine's clock, or a simulation's.
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    fn elapsed(&self) -> Duration {
        highwater_turns::elapsed()
    }

    fn wall_micros(&self) -> i64 {
        // A clock before 1970 is wrong anyway; 1970 keeps the far-future guard on the safe side.
        micros(highwater_turns::wall())
    }
}

/// A length of time in microseconds, at most `i64::MAX`.
pub(crate) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
