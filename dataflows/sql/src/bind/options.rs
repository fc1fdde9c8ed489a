//! Options by the names that Flink and Arroyo give them, put into ours.
//!
//! Only names whose meaning is the same are known here; anything else reaches the connector, which says what it takes.

use highwater_plan::{Diagnostic, OptionEntry, Options, SourceKind, Span, is_reference, is_secret};

use super::Binder;

/// Connectors by other names.
const CONNECTORS: [(&str, &str); 4] =
    [("print", "stdout"), ("filesystem", "file"), ("single_file", "file"), ("preview", "stdout")];

/// Formats by other names.
const FORMATS: [(&str, &str); 5] = [
    ("debezium-json", "debezium"),
    ("debezium_json", "debezium"),
    ("avro-confluent", "avro"),
    ("debezium-avro-confluent", "debezium-avro"),
    ("debezium_avro", "debezium-avro"),
];

/// Options by other names, per connector; `*` stands for any.
const NAMES: [(&str, &str, &str); 13] = [
    ("kafka", "avro-confluent.url", "schema_registry"),
    ("kafka", "avro-confluent.schema-registry.url", "schema_registry"),
    ("kafka", "avro-confluent.subject", "schema_registry.subject"),
    ("kafka", "debezium-avro-confluent.url", "schema_registry"),
    ("kafka", "debezium-avro-confluent.schema-registry.url", "schema_registry"),
    ("kafka", "debezium-avro-confluent.subject", "schema_registry.subject"),
    ("datagen", "rows-per-second", "rate"),
    ("datagen", "number-of-rows", "rows"),
    ("*", "csv.field-delimiter", "csv.delimiter"),
    ("*", "csv.null-literal", "csv.null"),
    ("*", "scan.watermark.idle-timeout", "idle_timeout"),
    ("file", "source.monitor-interval", "follow"),
    ("file", "partition.fields", "partition_by"),
];

/// Ends of names of datagen's options for a column.
const FIELD_NAMES: [(&str, &str); 2] = [(".null-rate", ".null_fraction"), (".max-past", ".max_delay")];

/// Options that say what is so here anyway, with the values for which that holds; without any, whatever they say.
const SAID_ANYWAY: [(&str, &[&str]); 12] = [
    ("json.ignore-parse-errors", &[]),
    ("csv.ignore-parse-errors", &[]),
    ("debezium-json.ignore-parse-errors", &[]),
    ("json.fail-on-missing-field", &["false"]),
    ("json.timestamp-format.standard", &[]),
    ("debezium-json.timestamp-format.standard", &[]),
    ("debezium-json.schema-include", &[]),
    ("json.encode.decimal-as-plain-number", &["true"]),
    ("scan.parallelism", &[]),
    ("sink.parallelism", &[]),
    ("scan.watermark.emit.strategy", &[]),
    ("json.debezium", &["false"]),
];

impl Binder {
    /// Options of a source or table. A table without WITH takes its rows over HTTP.
    pub(super) fn source_options(&self, kind: SourceKind, given: Option<Vec<OptionEntry>>, span: Span) -> Options {
        let entry =
            |key: &str, value: &str| OptionEntry { key: key.into(), value: value.into(), key_span: None, value_span: None };
        let mut entries = match (kind, given) {
            (_, Some(entries)) => in_our_names(entries),
            (SourceKind::Table, None) => vec![entry("connector", "http")],
            (SourceKind::Source, None) => Vec::new(),
        };
        if let Some(timeout) = &self.bound.decisions.idle_timeout
            && !entries.iter().any(|entry| entry.key == "idle_timeout")
        {
            entries.push(entry("idle_timeout", timeout));
        }
        Options { entries, span: Some(span) }
    }
}

/// What to say of secrets that stand in the text.
pub(super) fn written_secrets(options: &Options) -> impl Iterator<Item = Diagnostic> {
    let written = options.entries.iter().filter(|entry| is_secret(&entry.key) && !is_reference(&entry.value));
    written.map(|entry| {
        let message = format!("the secret '{}' stands in the job's text, which its checkpoints keep", entry.key);
        Diagnostic::warning("secret-in-text", message)
            .at(entry.key_span.or(options.span))
            .help("refer to it: '${env:NAME}' is a variable of the environment, '${file:PATH}' what stands in a file")
    })
}

/// The entries under our names.
pub(super) fn in_our_names(entries: Vec<OptionEntry>) -> Vec<OptionEntry> {
    let connector = entries.iter().find(|entry| entry.key == "connector").map(|entry| {
        let other = CONNECTORS.iter().find(|(name, _)| *name == entry.value);
        (entry.value.clone(), other.map_or(entry.value.clone(), |(_, ours)| ours.to_string()))
    });
    let (written, connector) = connector.unwrap_or_default();
    let rows = (connector == "datagen").then(|| rows_of_sequences(&entries)).flatten();
    let mut out: Vec<OptionEntry> = Vec::with_capacity(entries.len());
    for mut entry in entries {
        if SAID_ANYWAY
            .iter()
            .any(|(name, values)| *name == entry.key && (values.is_empty() || values.contains(&entry.value.as_str())))
        {
            continue;
        }
        // Arroyo says of every table which of the two it is; what is inserted into is a sink here.
        if entry.key == "type" && (written == "single_file" || written == "filesystem" || written == "kafka") {
            continue;
        }
        match entry.key.as_str() {
            "connector" => entry.value.clone_from(&connector),
            "format" => {
                if let Some((_, ours)) = FORMATS.iter().find(|(name, _)| *name == entry.value) {
                    entry.value = ours.to_string();
                }
            }
            "path" if connector == "file" => {
                if let Some(path) = entry.value.strip_prefix("file://") {
                    entry.value = path.into();
                }
            }
            "source.monitor-interval" if connector == "file" => entry.value = "true".into(),
            _ => {}
        }
        if let Some((_, _, ours)) = NAMES.iter().find(|(of, name, _)| *name == entry.key && (*of == "*" || *of == connector)) {
            entry.key = ours.to_string();
        }
        if connector == "datagen" && entry.key.starts_with("fields.") {
            if rows.is_some() && entry.key.ends_with(".end") {
                continue;
            }
            if let Some((end, ours)) = FIELD_NAMES.iter().find(|(end, _)| entry.key.ends_with(end)) {
                entry.key = entry.key.replace(end, ours);
            }
        }
        out.push(entry);
    }
    if let Some((count, place)) = rows
        && !out.iter().any(|entry| entry.key == "rows" && entry.value.parse().is_ok_and(|rows: i128| rows <= count))
    {
        out.retain(|entry| entry.key != "rows");
        out.push(OptionEntry { key: "rows".into(), value: count.to_string(), ..place });
    }
    out
}

/// How many rows there are until the first sequence is at its end, as Flink's datagen ends with it.
fn rows_of_sequences(entries: &[OptionEntry]) -> Option<(i128, OptionEntry)> {
    let value = |key: &str| entries.iter().find(|entry| entry.key == key).map(|entry| entry.value.as_str());
    let counts = entries.iter().filter_map(|entry| {
        let field = entry.key.strip_suffix(".end")?;
        let start: i128 = value(&format!("{field}.start")).unwrap_or("0").parse().ok()?;
        let end: i128 = entry.value.parse().ok()?;
        (end >= start).then(|| (end - start + 1, entry.clone()))
    });
    counts.min_by_key(|(count, _)| *count)
}
