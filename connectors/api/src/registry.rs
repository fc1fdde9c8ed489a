//! Connectors by name.

use std::sync::Arc;

use highwater_plan::Diagnostic;

use crate::sink::{self, SinkConnector, SinkSpec, SinkTarget};
use crate::source::{self, Source, SourceConnector, SourceSpec};

/// The connectors a process has.
#[derive(Default, Clone)]
pub struct Registry {
    sources: Vec<Arc<dyn SourceConnector>>,
    sinks: Vec<Arc<dyn SinkConnector>>,
}

impl Registry {
    /// The connectors of this crate: `nexmark`, `datagen`, `file`, `http` in; `file`, `stdout`, `blackhole` out.
    pub fn builtin() -> Self {
        let mut registry = Registry::default();
        registry.add_source(Arc::new(source::Nexmark));
        registry.add_source(Arc::new(source::Datagen));
        registry.add_source(Arc::new(source::FileSource));
        registry.add_source(Arc::new(source::HttpSource));
        registry.add_sink(Arc::new(sink::FileSink));
        registry.add_sink(Arc::new(sink::Stdout));
        registry.add_sink(Arc::new(sink::Blackhole));
        registry
    }

    /// The source connectors, for whoever lists them.
    pub fn sources(&self) -> impl Iterator<Item = &dyn SourceConnector> {
        self.sources.iter().map(Arc::as_ref)
    }

    /// The sink connectors, for whoever lists them.
    pub fn sinks(&self) -> impl Iterator<Item = &dyn SinkConnector> {
        self.sinks.iter().map(Arc::as_ref)
    }

    /// Adds this registry's sink connectors to another.
    pub fn sinks_into(&self, other: &mut Registry) {
        other.sinks.extend(self.sinks.iter().cloned());
    }

    /// Adds a source connector.
    pub fn add_source(&mut self, connector: Arc<dyn SourceConnector>) {
        self.sources.push(connector);
    }

    /// Adds a sink connector.
    pub fn add_sink(&mut self, connector: Arc<dyn SinkConnector>) {
        self.sinks.push(connector);
    }

    /// Opens the source that `spec` describes with the connector that its options name.
    pub fn open_source(&self, spec: &SourceSpec) -> Result<Box<dyn Source>, Diagnostic> {
        let names: Vec<&str> = self.sources.iter().map(|connector| connector.name()).collect();
        let name = connector_name(&spec.options, &format!("source '{}'", spec.name), &names)?;
        match self.sources.iter().find(|connector| connector.name() == name) {
            Some(connector) => {
                known_metadata(spec, name, connector.metadata())?;
                connector.open(spec)
            }
            None => Err(unknown(&spec.options, name, &names)),
        }
    }

    /// Opens the sink that `spec` describes with the connector that its options name.
    pub fn open_sink(&self, spec: &SinkSpec) -> Result<SinkTarget, Diagnostic> {
        self.sink(spec)?.open(spec)
    }

    /// Looks whether the sink that `spec` describes could be opened, without making, emptying or writing anything.
    pub fn validate_sink(&self, spec: &SinkSpec) -> Result<(), Diagnostic> {
        self.sink(spec)?.validate(spec)
    }

    fn sink(&self, spec: &SinkSpec) -> Result<&dyn SinkConnector, Diagnostic> {
        let names: Vec<&str> = self.sinks.iter().map(|connector| connector.name()).collect();
        let name = connector_name(&spec.options, &format!("sink '{}'", spec.name), &names)?;
        let connector = self.sinks.iter().find(|connector| connector.name() == name);
        let connector = connector.ok_or_else(|| unknown(&spec.options, name, &names))?;
        spec.delivery(connector.publishes_exactly_once())?;
        Ok(connector.as_ref())
    }
}

fn connector_name<'a>(options: &'a highwater_plan::Options, what: &str, names: &[&str]) -> Result<&'a str, Diagnostic> {
    options.get("connector").ok_or_else(|| {
        Diagnostic::error("missing-option", format!("{what} needs the option 'connector'"))
            .at(options.span)
            .help(format!("connectors: {}", names.join(", ")))
    })
}

fn known_metadata(spec: &SourceSpec, connector: &str, known: &[&str]) -> Result<(), Diagnostic> {
    let mut asked = spec.metadata.iter().flatten();
    let Some(key) = asked.find(|key| !known.contains(&key.as_str())) else { return Ok(()) };
    let message = format!("source '{}' has no metadata '{key}': connector '{connector}' does not know it", spec.name);
    let help = match known {
        [] => "leave the METADATA column out: the connector knows nothing of a row beside the row".to_owned(),
        known => format!("metadata: {}", known.join(", ")),
    };
    Err(Diagnostic::error("unknown-metadata", message).at(spec.options.span).help(help))
}

fn unknown(options: &highwater_plan::Options, name: &str, names: &[&str]) -> Diagnostic {
    let span = options.entry("connector").and_then(|entry| entry.value_span).or(options.span);
    Diagnostic::error("unknown-connector", format!("unknown connector '{name}'"))
        .at(span)
        .help(format!("connectors: {}", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::{DataType, Field, Schema};
    use highwater_plan::Options;

    use super::*;

    #[test]
    fn metadata_that_a_connector_does_not_know_is_refused() {
        let spec = SourceSpec {
            name: "s".into(),
            schema: Arc::new(Schema::new(vec![Field::new("o", DataType::Int64, true)])),
            used: vec![0],
            primary_key: Vec::new(),
            defaults: Vec::new(),
            metadata: vec![Some("offset".into())],
            options: Options::from_pairs([("connector", "datagen")]),
            keeps_origin: false,
            workers: 1,
            log: None,
        };
        let error = Registry::builtin().open_source(&spec).err().expect("rows are made up").to_string();
        assert!(error.contains("source 's' has no metadata 'offset'"), "{error}");
        assert!(Registry::builtin().open_source(&SourceSpec { metadata: vec![None], ..spec }).is_ok());
    }
}
