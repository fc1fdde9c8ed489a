//! The outside world, as Highwater sees it: partitions of rows that come in, epochs of changes that go out.
//!
//! A **source connector** lists its partitions and opens a [`PartitionReader`] for each; the reader is asked for batches and
//! never pushes, so a slow dataflow stops the reading (backpressure) and nothing queues in between. A **sink connector**
//! opens a [`SinkWriter`] that is handed the consolidated changes of one closed epoch after another. Decoding bytes into
//! Arrow is a [`format`](crate::format)'s work, shared by all connectors that carry bytes.
//!
//! This crate has the traits, the formats, and the connectors without heavy dependencies: `nexmark`, `datagen`, `file`,
//! `http` (in), and `file`, `stdout`, `blackhole` (out). A connector with a heavy library has a crate of its own and the
//! same traits.

pub mod format;
pub mod sink;
pub mod source;

mod registry;
mod secret;

pub use registry::Registry;
pub use secret::resolved;
