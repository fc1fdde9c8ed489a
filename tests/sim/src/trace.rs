//! What happened, line by line: a hash of it always, the text when somebody wants to read it.

use std::fmt::{self, Write};
use std::time::Duration;

/// A trace in the making.
#[derive(Default)]
pub(crate) struct Trace {
    hash: Hash,
    lines: Option<Vec<String>>,
}

struct Hash(u64);

impl Default for Hash {
    fn default() -> Self {
        Hash(0xcbf2_9ce4_8422_2325)
    }
}

impl Write for Hash {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        Ok(())
    }
}

impl Trace {
    /// One whose lines are kept if `kept`.
    pub(crate) fn new(kept: bool) -> Self {
        Trace { hash: Hash::default(), lines: kept.then(Vec::new) }
    }

    /// Adds a line: turn, simulated time, which life of the process, thread, what it did.
    pub(crate) fn line(&mut self, turn: u64, now: Duration, life: usize, thread: &str, what: fmt::Arguments<'_>) {
        match &mut self.lines {
            None => {
                let _ = writeln!(self.hash, "{turn} {} {life} {thread} {what}", now.as_micros());
            }
            Some(lines) => {
                // Both ways the same is hashed.
                let text = format!("{what}");
                let _ = writeln!(self.hash, "{turn} {} {life} {thread} {text}", now.as_micros());
                lines.push(format!("{turn:>6} {:>10.3} ms  life {life}  {thread:<18} {text}", now.as_micros() as f64 / 1e3));
            }
        }
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash.0
    }

    pub(crate) fn lines(&mut self) -> Vec<String> {
        self.lines.take().unwrap_or_default()
    }
}
