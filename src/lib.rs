//! Highwater: SQL jobs over streams, always current, consistent at every epoch.
//!
//! This crate is the service, and the way to embed it. [`Highwater`] compiles and runs jobs on worker threads of this
//! process; [`Server`] puts it on HTTP. A program that needs no HTTP reads views through [`RunningJob`]:
//!
//! ```no_run
//! use highwater::{Highwater, JobOptions};
//! use std::time::Duration;
//!
//! let highwater = Highwater::builder().workers(2).start()?;
//! let sql = std::fs::read_to_string("job.sql")?;
//! let job = highwater.create_job("trending", &sql, JobOptions { until_end: true, ..JobOptions::default() })?;
//! job.wait_over(Some(Duration::from_secs(60)));
//! let read = job.read_view("trending", None, Duration::ZERO, &[], None)?;
//! assert!(read.epoch > 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What is in here is thin: SQL is `highwater-sql`, operators and state are `highwater-engine`, jobs are
//! `highwater-runtime`, connectors and formats are `highwater-connectors`. This crate is where they meet
//! ([`app`], [`catalog`]), and the only one that knows HTTP ([`serve`], the only module that sees `warp`).

pub mod app;
pub mod bench;
pub mod catalog;
pub mod config;
pub mod script;
pub mod serve;
pub mod telemetry;

pub use app::{Builder, Highwater, JobError, JobOptions, JobOrWhyNot, Returning};
pub use config::{Limits, ServeConfig};
pub use highwater_runtime::{CheckpointConfig, ReplayOptions, Replayed, RestoreFrom, RunningJob, Runtime};
pub use script::{Answer, Change, ScriptError, ScriptOptions};
pub use serve::{ServeError, Server};
