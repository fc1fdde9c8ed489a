//! Bodies of epochs that are run again, read beside whoever accepts more.

use std::path::Path;
use std::sync::Arc;

use super::Http;
use super::log::{LogError, Replay};
use crate::source::{PartitionReader, Polled, SourceError};

/// Reads what was accepted, and is only asked for as much as there once was.
pub(super) struct Past {
    http: Arc<Http>,
    replay: Replay,
}

impl Past {
    /// The bodies after a number.
    pub(super) fn new(http: Arc<Http>, directory: &Path, after: u64) -> Result<Past, SourceError> {
        let failed = |error: LogError| SourceError::fatal(format!("source '{}': {error}", http.spec.name));
        let replay = Replay::look(directory, after).map_err(failed)?;
        Ok(Past { http, replay })
    }
}

impl PartitionReader for Past {
    fn poll(&mut self, rows_max: usize) -> Result<Polled, SourceError> {
        let polled = self.http.replayed(&mut self.replay, rows_max)?;
        polled.ok_or_else(|| SourceError::fatal(self.replay.gone(None).to_string()))
    }
}
