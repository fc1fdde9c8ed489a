//! The service over HTTP, one file per group of routes.

mod changes;
mod errors;
mod expiry;
mod jobs;
mod limits;
mod metrics;
mod names;
mod script;
mod sources;
mod views;
