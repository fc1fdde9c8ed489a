//! The connectors of this binary. One with a heavy library joins here, from its own crate.

use std::sync::Arc;

use highwater_connectors::Registry;
use highwater_kafka::{KafkaSink, KafkaSource};

/// Every connector that a job of this process may name.
pub fn registry() -> Registry {
    let mut registry = Registry::builtin();
    registry.add_source(Arc::new(KafkaSource));
    registry.add_sink(Arc::new(KafkaSink));
    registry
}
