//! How a running job is doing, for a person: one line that is rewritten on a terminal, plain lines elsewhere.

use std::io::{IsTerminal, Write};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use highwater::{Highwater, RunningJob};
use highwater_runtime::RestoreInfo;

use super::say;

/// Moves to the start of the terminal's line and clears it.
pub(super) const ERASE: &str = "\r\x1b[2K";

const TERMINAL_EVERY: Duration = Duration::from_millis(250);
const PLAIN_EVERY: Duration = Duration::from_secs(10);
const RESTORE_EVERY: Duration = Duration::from_secs(2);

/// Prints a job's progress now and then.
pub(super) struct Progress {
    terminal: bool,
    quiet: bool,
    started: Instant,
    shown: Instant,
    rows_shown: u64,
    rate: f64,
}

impl Progress {
    pub(super) fn new(quiet: bool) -> Self {
        let now = Instant::now();
        Progress { terminal: std::io::stderr().is_terminal(), quiet, started: now, shown: now, rows_shown: 0, rate: 0.0 }
    }

    /// How long to wait until [`Progress::show`] has something to do.
    pub(super) fn interval(&self) -> Duration {
        TERMINAL_EVERY
    }

    /// Shows where the job stands, if it is time to.
    pub(super) fn show(&mut self, job: &RunningJob) {
        let every = if self.terminal { TERMINAL_EVERY } else { PLAIN_EVERY };
        let elapsed = self.shown.elapsed();
        if self.quiet || elapsed < every {
            return;
        }
        let facts = Facts::of(job);
        let rate = (facts.rows - self.rows_shown) as f64 / elapsed.as_secs_f64();
        // Smoothed on a terminal, where it is read four times a second.
        self.rate = if self.terminal { 0.7 * self.rate + 0.3 * rate } else { rate };
        self.shown = Instant::now();
        self.rows_shown = facts.rows;
        let line = format!("{} rows/s, {}", count(self.rate as u64), facts.text());
        let mut stderr = std::io::stderr().lock();
        // Line wrap is off while it is written, so that erasing one line erases it whole.
        let _ = match self.terminal {
            true => write!(stderr, "{ERASE}\x1b[?7l{line}\x1b[?7h"),
            false => writeln!(stderr, "{line}"),
        };
        let _ = stderr.flush();
    }

    /// Removes the progress line.
    pub(super) fn erase(&self) {
        if self.terminal && !self.quiet {
            let _ = write!(std::io::stderr(), "{ERASE}");
        }
    }

    /// What the job did in total.
    pub(super) fn totals(&self, job: &RunningJob) -> String {
        let facts = Facts::of(job);
        let seconds = self.started.elapsed().as_secs_f64();
        let rate = facts.rows as f64 / seconds.max(1e-9);
        format!("{} in {seconds:.2} s ({} rows/s)", facts.totals(), count(rate as u64))
    }
}

/// Does what may restore a job, and says now and then how far that is.
pub(super) fn watching_restore<T>(highwater: &Highwater, quiet: bool, work: impl FnOnce() -> T) -> T {
    let (done, over) = channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            while !quiet && over.recv_timeout(RESTORE_EVERY) == Err(RecvTimeoutError::Timeout) {
                for restore in highwater.runtime().restoring() {
                    say(format_args!("{}", restoring(&restore)));
                }
            }
        });
        let made = work();
        drop(done);
        made
    })
}

/// How far restoring a job is.
fn restoring(restore: &RestoreInfo) -> String {
    let seconds = restore.took.as_secs();
    match restore.rebuilding_rows {
        Some(rows) => format!("restoring {}: what is new is made, of {} rows so far, {seconds} s", restore.job, count(rows)),
        None => format!(
            "restoring {}: {} of {} read, {} rows loaded, {seconds} s",
            restore.job,
            bytes(restore.bytes_done),
            bytes(restore.bytes_total),
            count(restore.loaded_rows)
        ),
    }
}

/// Figures of a job at one moment.
struct Facts {
    rows: u64,
    late: u64,
    rejected: u64,
    errors: u64,
    state_rows: u64,
    state_bytes: u64,
    lag_ms: u64,
    watermark_lag: Option<Duration>,
}

impl Facts {
    fn of(job: &RunningJob) -> Facts {
        let stats = job.handle().stats();
        let operators = stats.operators();
        let sum = |field: fn(&highwater_engine::OperatorStats) -> &std::sync::atomic::AtomicU64| -> u64 {
            operators.iter().map(|operator| field(operator).load(Relaxed)).sum()
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let watermarks = stats.sources.iter().map(|source| source.watermark.load(Relaxed));
        let watermark = watermarks.filter(|watermark| *watermark != i64::MIN && *watermark != i64::MAX).min();
        Facts {
            rows: stats.sources.iter().map(|source| source.rows.load(Relaxed)).sum(),
            late: stats.sources.iter().map(|source| source.late_rows.load(Relaxed)).sum(),
            rejected: stats.sources.iter().map(|source| source.rejected_rows.load(Relaxed)).sum(),
            errors: sum(|operator| &operator.error_rows),
            state_rows: sum(|operator| &operator.state_rows),
            state_bytes: sum(|operator| &operator.state_bytes),
            lag_ms: highwater::telemetry::epoch_lag_ms(job),
            watermark_lag: watermark.map(|micros| now.saturating_sub(Duration::from_micros(u64::try_from(micros).unwrap_or(0)))),
        }
    }

    fn text(&self) -> String {
        let watermark = self.watermark_lag.map_or(String::new(), |lag| format!(", event time {} behind", span(lag)));
        let errors = if self.errors == 0 { String::new() } else { format!(", {} errors", count(self.errors)) };
        format!(
            "{} rows, lag {} ms{watermark}, state {} rows {}, {} late, {} rejected{errors}",
            count(self.rows),
            self.lag_ms,
            count(self.state_rows),
            bytes(self.state_bytes),
            count(self.late),
            count(self.rejected),
        )
    }

    fn totals(&self) -> String {
        let errors = if self.errors == 0 { String::new() } else { format!(", {} errors", self.errors) };
        format!("{} rows, {} late, {} rejected{errors}", self.rows, self.late, self.rejected)
    }
}

/// `999`, `12.3k`, `4.5M`.
fn count(n: u64) -> String {
    match n {
        0..=9_999 => n.to_string(),
        10_000..=999_999 => format!("{:.1}k", n as f64 / 1e3),
        1_000_000..=999_999_999 => format!("{:.1}M", n as f64 / 1e6),
        _ => format!("{:.1}G", n as f64 / 1e9),
    }
}

pub(super) fn bytes(n: u64) -> String {
    match n {
        0..=9_999 => format!("{n} B"),
        10_000..=999_999 => format!("{:.1} kB", n as f64 / 1e3),
        1_000_000..=999_999_999 => format!("{:.1} MB", n as f64 / 1e6),
        _ => format!("{:.2} GB", n as f64 / 1e9),
    }
}

fn span(lag: Duration) -> String {
    match lag.as_secs() {
        0..=119 => format!("{:.1} s", lag.as_secs_f64()),
        seconds @ 120..=7_199 => format!("{} min", seconds / 60),
        seconds @ 7_200..=172_799 => format!("{} h", seconds / 3_600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short() {
        assert_eq!([count(9_999), count(12_345), count(1_234_567)], ["9999", "12.3k", "1.2M"]);
        assert_eq!([bytes(512), bytes(4_500_000)], ["512 B", "4.5 MB"]);
        assert_eq!([span(Duration::from_millis(1_500)), span(Duration::from_secs(7_200))], ["1.5 s", "2 h"]);
    }
}
