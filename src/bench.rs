//! Benchmarks that people run: `highwater bench nexmark`, `checkpoints`, `recompute`, `sharing` and `state`.
//!
//! They run real jobs through the whole house (SQL, ingestion, operators, sinks or views) and measure from outside: what is
//! timed is what a user would wait for.

pub mod checkpoints;
pub mod nexmark;
pub mod recompute;
pub mod sharing;
pub mod state;

mod fed;
mod memory;
mod process;

/// A benchmark could not be run: lower case, says what was attempted.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BenchError(pub String);
