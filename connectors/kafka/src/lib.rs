//! Apache Kafka in and out, by librdkafka, which only this crate sees.
//!
//! The **source** reads each partition of its topics through a queue of its own and gives the offsets to whoever makes the
//! checkpoints; a consumer group is only told, never asked, unless the statement says so. The **sink** publishes whole
//! epochs: exactly once by one transaction that has the rows and a record of how far publishing got, or at least once.
//!
//! ```text
//! topic ─► librdkafka ─► queue per partition ─► Reader ─► Decoder ─► SourceBatch          (source)
//!                 └────► events, statistics ──► Monitor: log's ends, what is wrong
//!
//! epochs ─► Encoder ─► Publisher ─► begin, rows, progress record, commit                  (sink)
//! ```

mod client;
mod lines;
mod mock;
mod sink;
mod source;

use std::sync::Arc;

use highwater_connectors::Registry;

pub use lines::{Line, Lines};
pub use mock::MockCluster;
pub use sink::KafkaSink;
pub use source::KafkaSource;

/// Adds the source and the sink `kafka`.
pub fn register(registry: &mut Registry) {
    registry.add_source(Arc::new(KafkaSource));
    registry.add_sink(Arc::new(KafkaSink));
}
