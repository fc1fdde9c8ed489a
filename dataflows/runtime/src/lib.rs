//! Keeps jobs alive: opens what they read and write, feeds the engine, and answers for each job while it runs.
//!
//! A [`Runtime`] has the worker threads and the connectors; [`Runtime::create`] turns a compiled job into a [`RunningJob`].
//!
//! ```text
//!   Job ──► open ──► readers ──► ingest ──► engine ──► sinks ──► writers
//!                                  │           │
//!     batch, event_time, pace, watermark    RunningJob: read views, push rows, wait, look inside
//! ```
//!
//! What decides anything is a function of its arguments: watermarks and idleness, how much an epoch takes, when
//! to try again. What does something is thin and asks the one clock in `clock.rs`. Readers run on the engine's workers; a job
//! that has checkpoints has a thread for them, one for each sink that is published, and one if its partitions may become more.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that finds nothing to unwrap has failed, and says where"))]

mod evaluate;
mod jobs;
mod reads;
mod replacing;
mod replay;
mod reserved;
mod restoring;
mod running;
mod savepoints;

mod open;
mod options;

mod checkpoints;
mod congestion;
mod discovery;
mod dropped;
mod journal;
mod outbox;
mod publishing;
mod pushed;
mod upgrade;

mod batch;
mod event_time;
mod ingest;
mod pace;
mod rejects;
mod retry;
mod watermark;

mod clock;
mod signal;
mod sinks;
mod status;

#[cfg(test)]
mod testing;

pub use checkpoints::{CheckpointConfig, CheckpointError, CheckpointInfo};
pub use evaluate::{EvaluateError, Evaluated};
pub use jobs::{CreateError, CreateOptions, NoSuchJob, Runtime, RuntimeConfig, RuntimeError};
pub use journal::JournalError;
pub use open::sink_spec;
pub use reads::{ReadError, Snapshot, ViewRead};
pub use replay::{ReplayError, ReplayOptions, Replayed};
pub use reserved::Reservation;
pub use restoring::RestoreInfo;
pub use running::{PushFailure, RunningJob, SourceInfo};
pub use savepoints::{CheckpointStore, KeptCheckpoint, RestoreFrom, SavedJob, SavedOrWhyNot, SavepointError};
pub use sinks::SinkInfo;
pub use status::{LastError, PartitionInfo, PartitionState};
pub use upgrade::{StatePart, Upgrade};
