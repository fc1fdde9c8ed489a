//! The connector `sim`: sources and sinks of one process, over the brokers outside.

mod publisher;
mod reader;

use std::sync::Arc;

use highwater_connectors::Registry;
use highwater_connectors::sink::{self, Delivery, SinkConnector, SinkSpec, SinkTarget};
use highwater_connectors::source::{self, Source, SourceConnector, SourceSpec};
use highwater_plan::{Diagnostic, Field, OptionReader};

use self::publisher::Publishes;
pub(crate) use self::publisher::rows_as_numbers;
use self::reader::Topic;
use crate::broker::Brokers;

const TOPIC: &[Field] = &[Field { key: "topic", about: "what is read or written" }];

/// One process's connections.
#[derive(Clone)]
struct Connector {
    brokers: Arc<Brokers>,
    life: usize,
}

/// The connectors of a process.
pub(crate) fn registry(brokers: &Arc<Brokers>, life: usize) -> Registry {
    let connector = Arc::new(Connector { brokers: Arc::clone(brokers), life });
    let mut registry = Registry::default();
    registry.add_source(Arc::clone(&connector) as Arc<dyn SourceConnector>);
    registry.add_sink(connector);
    registry
}

impl SourceConnector for Connector {
    fn name(&self) -> &'static str {
        "sim"
    }

    fn fields(&self) -> Vec<Field> {
        [TOPIC, source::COMMON_FIELDS].concat()
    }

    fn open(&self, spec: &SourceSpec) -> Result<Box<dyn Source>, Diagnostic> {
        let options = OptionReader::new(&spec.options, "connector 'sim'", &[TOPIC, source::COMMON_FIELDS])?;
        let topic = options.required("topic")?.to_owned();
        Ok(Box::new(Topic { brokers: Arc::clone(&self.brokers), life: self.life, topic, used: spec.used.clone() }))
    }
}

impl SinkConnector for Connector {
    fn name(&self) -> &'static str {
        "sim"
    }

    fn fields(&self) -> Vec<Field> {
        [TOPIC, sink::COMMON_FIELDS].concat()
    }

    fn publishes_exactly_once(&self) -> bool {
        true
    }

    fn validate(&self, _spec: &SinkSpec) -> Result<(), Diagnostic> {
        Ok(())
    }

    fn open(&self, spec: &SinkSpec) -> Result<SinkTarget, Diagnostic> {
        let options = OptionReader::new(&spec.options, "connector 'sim'", &[TOPIC, sink::COMMON_FIELDS])?;
        let topic = options.required("topic")?.to_owned();
        let exactly_once = spec.delivery(true)? == Delivery::ExactlyOnce;
        Ok(SinkTarget::Publisher(Box::new(Publishes::new(Arc::clone(&self.brokers), self.life, topic, exactly_once))))
    }
}
