//! Source and sink on a real broker.

#![allow(clippy::unwrap_used, reason = "a test that finds nothing to unwrap has failed, and says where")]

mod avro;
mod broker;
mod mock;
mod secure;
mod sink;
mod source;
mod support;
