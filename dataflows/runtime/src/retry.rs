//! When to ask again after a failure that may pass.

use std::time::Duration;

/// The first wait.
const FIRST: Duration = Duration::from_millis(100);

/// The longest wait: an outage that ends is noticed this soon.
const LONGEST: Duration = Duration::from_secs(10);

/// How long to wait after `failures` failures in a row, the last one included: 100 ms, doubled each time, at most 10 s.
pub(crate) fn backoff(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    (FIRST * 2u32.pow(doublings)).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_ten_seconds() {
        let waits: Vec<u128> = [1, 2, 3, 7, 8, 1_000_000].map(|failures| backoff(failures).as_millis()).to_vec();
        assert_eq!(waits, [100, 200, 400, 6_400, 10_000, 10_000]);
    }
}
