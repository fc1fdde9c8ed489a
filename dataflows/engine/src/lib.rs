//! Runs plans: the only crate that sees timely and differential.
//!
//! An [`Engine`] is a set of worker threads. A [`JobSpec`] (a plan, where its rows come from, where its changes go) becomes
//! one dataflow on every worker; [`JobHandle`] is what the rest of the process holds of it. Rows travel as [`Delta`]s: an
//! Arrow batch with signed multiplicities, all of one epoch.
//!
//! Two kinds of state, each where it is best. *Inside* a job, operators are **epoch-synchronous**: they collect the
//! changes of epoch `e`, apply them at once to hash tables that hold the current epoch only, and emit one consolidated
//! change at `e`. At the *edges*, views are differential **arrangements**: immutable, `Arc`-shared, multi-versioned
//! batches that an HTTP thread reads while the worker merges them.
//!
//! `Delta`, [`Time`] and [`Diff`] are fixed here once, so that each operator of timely and differential is compiled once.

mod alarm;
mod arrangement;
mod checkpoint;
mod delta;
mod engine;
mod equal;
mod excerpt;
mod feed;
mod first;
mod hash;
mod job;
mod keys;
mod operator;
mod parallel;
mod pump;
mod recorded;
mod render;
mod stats;
mod view;
mod watermark;
mod words;

pub use checkpoint::{
    Arriving, Checkpoint, CheckpointDone, Clock, Form, GivenBack, KeptFrom, KeptOperator, LOG_COLUMNS, OperatorId, OperatorState,
    Piece, Positions, Restore, Spread, TableState, fold, fold_pieces,
};
pub use delta::{Delta, OriginRows};
pub use engine::{Engine, EngineConfig, EngineError};
pub use excerpt::{Excerpt, kept_operators};
pub use feed::{Again, Feed, FeedBatch, FeedPoll, FeedState, PartitionPosition, Place, Receipt};
pub use job::{EpochSink, FeedSpec, JobHandle, JobSpec, JobState};
pub use operator::sides::{late_schema, rejects_schema};
pub use recorded::{EpochRecord, Recorder, Script};
pub use stats::{JobStats, LatencyHistogram, OperatorStats, SourceStats};
pub use view::{Changed, Compacted, Equals, ViewHandle};

/// Logical time: the epoch.
pub type Time = highwater_plan::Epoch;

/// Signed multiplicity.
pub type Diff = i64;
