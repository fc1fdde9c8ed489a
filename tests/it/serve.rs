//! The service over HTTP, one file per group of routes.

mod changes;
mod errors;
mod jobs;
mod limits;
mod metrics;
mod sources;
mod views;
