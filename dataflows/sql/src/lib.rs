//! A job's SQL text to a [`highwater_plan::Job`].
//!
//! Three steps, each in its own module: `parse` (text to statements), `bind` (names and types, with DataFusion's SQL
//! front end and optimizer as libraries) and `lower` (DataFusion's logical plan to our operators). DataFusion's types end
//! here: what leaves this crate evaluates expressions behind [`highwater_plan::Scalar`].

mod compile;

mod bind;
mod diagnose;
mod functions;
mod lower;
mod parse;
mod script;

pub use compile::{CompileOptions, compile};
pub use script::{Once, Planned, Readable, Script, Verb, Writable, plain_views};
