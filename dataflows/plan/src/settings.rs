//! What a job's `SET` statements decide.

use std::time::Duration;

/// What happens to a row on which an expression fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    /// The job stops and says which row.
    Fail,
    /// The row is left out of the result and kept in `<view>$errors`.
    Skip,
    /// The expression is NULL for this row, and the row is kept in `<view>$errors` as well.
    Null,
}

/// Settings of one job; each field is a `SET` name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `SET epochs_in_flight = n`: how many epochs may be open behind the outputs before sources wait.
    pub epochs_in_flight: usize,
    /// `SET epoch_rows_max = n`: how many rows one worker reads from one source into one epoch.
    pub epoch_rows_max: usize,
    /// `SET allowed_lateness = '1 minute'`: for how long after its end a window still takes rows, by correcting its result.
    pub allowed_lateness: Duration,
    /// `SET on_error = fail | skip | null`.
    pub on_error: OnError,
    /// `SET recursion_limit = n`: after how many steps a recursive query that has not come to an end fails.
    pub recursion_limit: u64,
    /// `SET state_ttl = '1 hour'`: for how long operators whose state nothing else bounds keep what is known of a key that no
    /// row touches; for ever without it.
    pub state_ttl: Option<Duration>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            epochs_in_flight: 3,
            epoch_rows_max: 32_768,
            allowed_lateness: Duration::ZERO,
            on_error: OnError::Skip,
            recursion_limit: 10_000,
            state_ttl: None,
        }
    }
}
