//! How long epochs take, from opening to publication, in logarithmic buckets.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Buckets per doubling.
const STEPS: u32 = 4;
const BUCKETS: usize = 30 * STEPS as usize;

/// Counts durations in buckets, four per doubling from a microsecond up; each is off by at most a quarter of itself.
#[derive(Debug)]
pub struct LatencyHistogram {
    buckets: Vec<AtomicU64>,
}

impl Default for LatencyHistogram {
    fn default() -> Self {
        LatencyHistogram { buckets: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect() }
    }
}

impl LatencyHistogram {
    pub(crate) fn record(&self, latency: Duration) {
        let micros = (latency.as_micros() as u64).max(1);
        let doubling = micros.ilog2();
        let rest = if doubling >= 2 { (micros >> (doubling - 2)) & 3 } else { 0 };
        let bucket = ((doubling * STEPS) as usize + rest as usize).min(BUCKETS - 1);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
    }

    /// How many durations were counted.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).sum()
    }

    /// The duration that this share (0 to 1) of all are not longer than: a bucket's upper end. Zero if none was counted.
    pub fn quantile(&self, share: f64) -> Duration {
        let total = self.count();
        let wanted = (share.clamp(0.0, 1.0) * total as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (index, bucket) in self.buckets.iter().enumerate() {
            seen += bucket.load(Ordering::Relaxed);
            if total > 0 && seen >= wanted {
                return Self::upper(index);
            }
        }
        Duration::ZERO
    }

    /// Upper ends and counts of the buckets that hold something.
    pub fn buckets(&self) -> Vec<(Duration, u64)> {
        let counts = self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).enumerate();
        counts.filter(|(_, count)| *count > 0).map(|(index, count)| (Self::upper(index), count)).collect()
    }

    fn upper(index: usize) -> Duration {
        let (doubling, rest) = (index as u32 / STEPS, index as u64 % u64::from(STEPS));
        let base = 1u64 << doubling;
        Duration::from_micros(base + (base * (rest + 1)).div_ceil(u64::from(STEPS)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_a_quarter() {
        let histogram = LatencyHistogram::default();
        assert_eq!(histogram.quantile(0.5), Duration::ZERO);
        for micros in 1..=10_000 {
            histogram.record(Duration::from_micros(micros));
        }
        for (share, exact) in [(0.5, 5_000.0), (0.99, 9_900.0)] {
            let found = histogram.quantile(share).as_micros() as f64;
            assert!(found >= exact * 0.99 && found <= exact * 1.26, "{share}: {found}");
        }
        assert_eq!(histogram.count(), 10_000);
    }
}
