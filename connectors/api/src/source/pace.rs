//! Rows at a rate: how many are due by now, and how long until the next.

use std::time::{Duration, Instant};

/// A schedule of rows.
#[derive(Debug, Clone)]
pub(super) struct Pace {
    rows_per_second: Option<f64>,
    start: Instant,
}

/// The shortest wait: generators at a rate are asked about a hundred times a second, not for every row.
const WAIT_MIN: Duration = Duration::from_millis(10);

impl Pace {
    /// Starts a schedule now; without a rate every row is due at once.
    pub(super) fn start(rows_per_second: Option<f64>) -> Self {
        Pace { rows_per_second, start: Instant::now() }
    }

    /// How many rows are due since the start.
    pub(super) fn due(&self, now: Instant) -> u64 {
        match self.rows_per_second {
            Some(rate) => (now.duration_since(self.start).as_secs_f64() * rate) as u64,
            None => u64::MAX,
        }
    }

    /// How long after `now` row number `row` (from 0) is due.
    pub(super) fn wait(&self, row: u64, now: Instant) -> Duration {
        let Some(rate) = self.rows_per_second else { return Duration::ZERO };
        let at = Duration::try_from_secs_f64((row + 1) as f64 / rate).unwrap_or(Duration::from_secs(3_600));
        at.saturating_sub(now.duration_since(self.start)).max(WAIT_MIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_due_at_the_rate() {
        let pace = Pace::start(Some(1_000.0));
        assert_eq!(pace.due(pace.start + Duration::from_millis(1_500)), 1_500);
        assert_eq!(pace.wait(1_999, pace.start), Duration::from_secs(2));
        assert_eq!(pace.wait(0, pace.start), WAIT_MIN);
        assert_eq!(Pace::start(None).due(Instant::now()), u64::MAX);
    }
}
