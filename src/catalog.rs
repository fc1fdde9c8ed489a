//! The connectors of this binary. One with a heavy library joins here, from its own crate and behind a feature.

use highwater_connectors::Registry;

/// Every connector that a job of this process may name.
pub fn registry() -> Registry {
    #[cfg_attr(not(feature = "kafka"), expect(unused_mut, reason = "nothing joins"))]
    let mut registry = Registry::builtin();
    #[cfg(feature = "kafka")]
    highwater_kafka::register(&mut registry);
    registry
}
