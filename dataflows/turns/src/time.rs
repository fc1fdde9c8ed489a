//! What time it is.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::simulation::{Place, here};

/// Time since a fixed moment of this process; never goes back.
pub fn elapsed() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    match here() {
        Some(here) => here.simulation.elapsed(),
        None => START.get_or_init(Instant::now).elapsed(),
    }
}

/// Time on the wall since the beginning of 1970; that, if the clock says less.
pub fn wall() -> Duration {
    match here() {
        Some(here) => here.simulation.wall(here.thread),
        None => SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
    }
}

/// Waits for so long.
pub fn sleep(time: Duration) {
    let Some(here) = here() else { return std::thread::sleep(time) };
    let end = here.simulation.elapsed() + time;
    while let Some(left) = end.checked_sub(here.simulation.elapsed()).filter(|left| !left.is_zero()) {
        here.simulation.waits(here.thread, Place::Time, Some(left));
    }
}
