//! A checkpoint as it is kept: the engine's tables as sections, everything else as the manifest's JSON.
//!
//! | section | key | rows |
//! |---|---|---|
//! | a table of an operator | `<fingerprint of its node>/<table>/<operator>` | its changes, and in `$diff` how often, unless each once |
//! | `$late` and `$rejects` of a source | `source/0/rows of <relation>` | as above |
//! | what a sink is to publish | `outbox/<sink>` | its changes, their `$epoch`, and `$diff` as above |
//!
//! Of a table there is a section per [`Piece`](highwater_engine::Piece), unless they are small.
//!
//! Operators go by the [fingerprint](highwater_plan::fingerprints) of what made their state, so that a job finds it although
//! its text has changed elsewhere; sources, views and sinks go by their names.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{RecordBatch, new_null_array};
use arrow::datatypes::{Field, Schema, SchemaRef};
use highwater_connectors::Registry;
use highwater_engine::{
    Checkpoint, Clock, KeptOperator, LOG_COLUMNS, OperatorId, OperatorState, TableState, Time, late_schema, rejects_schema,
};
use highwater_plan::{Job, NodeId, OutputNames, fingerprints};
use highwater_store::{Manifest, Section};
use serde::{Deserialize, Serialize};

use super::CheckpointError;
use super::sections::{columns_of, sections_of_table, table_of};
use crate::upgrade::origins::{Grown, Whence, grown, moved};
use crate::upgrade::{OperatorMeta, SourceMeta};

/// What stands in place of a node's name before relations of sources.
const SOURCE: &str = "source/";

/// What a manifest says of a checkpoint beside its files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Meta {
    /// What wrote it.
    pub(crate) version: String,
    /// The job's text.
    pub(crate) text: String,
    /// What keeps state, by [`Names::operator`].
    pub(crate) operators: BTreeMap<String, OperatorMeta>,
    /// The names of views and sinks.
    pub(crate) outputs: BTreeSet<String>,
    /// The job's sources.
    pub(crate) sources: Vec<SourceMeta>,
    /// How many rows they were thought to give when the job was planned.
    pub(crate) planned_rows: BTreeMap<String, u64>,
    /// Where reading stands.
    pub(crate) partitions: Vec<PartitionMeta>,
    /// What the sources said of time, in the order of their statements.
    pub(crate) watermarks: Vec<WatermarkMeta>,
    /// Whether the job ends when its bounded sources have ended.
    pub(crate) until_end: bool,
    /// Whether the job had come to its end.
    pub(crate) finished: bool,
    /// Whether the job was dropped: nothing goes on from here.
    #[serde(default)]
    pub(crate) dropped: bool,
    /// Since when the job goes on from its own checkpoints: what its sources accepted meanwhile is kept under this name.
    #[serde(default)]
    pub(crate) run: Option<String>,
}

impl Meta {
    /// What a checkpoint's manifest says; `None` if the job was dropped.
    pub(crate) fn read(manifest: &Manifest) -> Result<Option<Meta>, CheckpointError> {
        let meta: Result<Meta, _> = serde_json::from_value(manifest.meta.clone());
        let meta = meta.map_err(|error| CheckpointError::Unreadable(format!("{}: {error}", manifest.name())))?;
        Ok(Some(meta).filter(|meta| !meta.dropped))
    }

    /// The same if it had known nothing of some sources; of what was made of them it still knows.
    pub(crate) fn without(&self, sources: &BTreeMap<String, String>) -> Meta {
        let mut meta = self.clone();
        meta.sources.retain(|known| !sources.contains_key(&known.name));
        meta.planned_rows.retain(|name, _| !sources.contains_key(name));
        meta.partitions.retain(|known| !sources.contains_key(&known.source));
        meta.watermarks.retain(|known| known.source.as_ref().is_none_or(|name| !sources.contains_key(name)));
        meta
    }

    /// The same if its partitions had had the names that they have since their sources read more.
    pub(crate) fn renamed(&self, grown: &BTreeMap<String, Grown>, registry: &Registry) -> Meta {
        let mut meta = self.clone();
        for partition in &mut meta.partitions {
            let Some(grown) = grown.get(&partition.source) else { continue };
            let known = self.sources.iter().find(|known| known.name == partition.source);
            let connector = known.and_then(|known| registry.sources().find(|connector| connector.name() == known.connector));
            let was: Vec<&str> = grown.was.iter().map(String::as_str).collect();
            if let Some(connector) = connector {
                partition.partition = connector.renamed(&partition.partition, &was);
            }
        }
        meta
    }
}

/// Where reading a partition stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PartitionMeta {
    /// The source's name.
    pub(crate) source: String,
    /// The partition's.
    pub(crate) partition: String,
    /// As [`crate::ingest::Stood`] reads it.
    pub(crate) position: String,
}

/// What is known of a source's event time, or of processing time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WatermarkMeta {
    /// The source's name; none of processing time.
    pub(crate) source: Option<String>,
    /// In microseconds.
    pub(crate) watermark: i64,
    /// While it is idle: since which epoch, and the watermark then.
    pub(crate) idle_since: Option<(Time, i64)>,
}

/// Translates between a job's operators and the names that their state is kept under.
pub(crate) struct Names {
    /// Per node.
    of_nodes: Vec<String>,
    /// What keeps state.
    kept: Vec<KeptOperator>,
    operators: BTreeMap<String, OperatorMeta>,
    sources: Vec<SourceMeta>,
    /// The columns of the relations that come with sources.
    relations: BTreeMap<String, SchemaRef>,
    outputs: BTreeSet<String>,
    text: String,
    until_end: bool,
    run: Option<String>,
    planned_rows: BTreeMap<String, u64>,
}

impl Names {
    /// Of a job, what of it [keeps state](highwater_engine::kept_operators), its text, and whether it ends with its bounded
    /// sources.
    pub(crate) fn new(job: &Job, kept: Vec<KeptOperator>, registry: &Registry, text: &str, until_end: bool) -> Self {
        let of_nodes = fingerprints(job);
        let late = |source: &highwater_plan::Source| (OutputNames::late(&source.name), late_schema(&source.schema));
        let rejects = |source: &highwater_plan::Source| (OutputNames::rejects(&source.name), rejects_schema());
        let relations = job.sources.iter().flat_map(|source| [late(source), rejects(source)]);
        let relations: BTreeMap<String, SchemaRef> =
            relations.map(|(name, schema)| (format!("rows of {name}"), schema)).collect();
        let named = |kept: &KeptOperator| {
            let what = what(job, &kept.operator);
            let columns = relations.get(&kept.operator.name).map(|schema| format!(" {:?}", schema.fields()));
            let form = format!("{}{}", kept.form, columns.unwrap_or_default());
            (operator(&of_nodes, &relations, &kept.operator), OperatorMeta { form, what })
        };
        let views = job.views.iter().map(|view| format!("view {}", view.name));
        let sinks = job.sinks.iter().map(|sink| format!("sink {}", sink.name));
        Names {
            operators: kept.iter().map(named).collect(),
            relations,
            of_nodes,
            kept,
            sources: job.sources.iter().map(|source| source_meta(source, registry)).collect(),
            outputs: views.chain(sinks).collect(),
            text: text.to_owned(),
            until_end,
            run: None,
            planned_rows: BTreeMap::new(),
        }
    }

    /// Names what the checkpoints to come belong to.
    pub(crate) fn set_run(&mut self, run: &str) {
        self.run = Some(run.to_owned());
    }

    /// The job goes on from there: its sources began where they began then, whatever the text says of that now.
    pub(crate) fn set_begun(&mut self, known: &[SourceMeta]) {
        let grown = grown(known, &self.sources);
        for source in &mut self.sources {
            let began = known.iter().find(|known| known.name == source.name).and_then(|known| known.whence.as_ref());
            if let (Some(began), Some(whence)) = (began, &mut source.whence) {
                whence.start.clone_from(&began.start);
                whence.grown = began.grown || grown.contains_key(&source.name);
            }
        }
    }

    /// The job's sources.
    pub(crate) fn sources(&self) -> &[SourceMeta] {
        &self.sources
    }

    /// Says by which sizes of sources the job was planned.
    pub(crate) fn set_planned_rows(&mut self, rows: &BTreeMap<String, u64>) {
        self.planned_rows.clone_from(rows);
    }

    /// What the manifest says of a job that was dropped.
    pub(crate) fn dropped(&self) -> Meta {
        Meta {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            text: self.text.clone(),
            operators: BTreeMap::new(),
            outputs: BTreeSet::new(),
            sources: Vec::new(),
            planned_rows: BTreeMap::new(),
            partitions: Vec::new(),
            watermarks: Vec::new(),
            until_end: self.until_end,
            finished: false,
            dropped: true,
            run: self.run.clone(),
        }
    }

    /// What the manifest says once some of every source was read.
    pub(crate) fn meta_after_reading(&self) -> Meta {
        let partition = |source: &SourceMeta| PartitionMeta {
            source: source.name.clone(),
            partition: String::new(),
            position: String::new(),
        };
        let (operators, outputs) = (self.operators.clone(), self.outputs.clone());
        let partitions = self.sources.iter().map(partition).collect();
        Meta { operators, outputs, sources: self.sources.clone(), partitions, dropped: false, ..self.dropped() }
    }

    /// What is kept of a checkpoint in its manifest.
    pub(crate) fn meta(&self, checkpoint: &Checkpoint, finished: bool) -> Meta {
        let partition = |((source, partition), position): (&(usize, String), &String)| PartitionMeta {
            source: self.sources[*source].name.clone(),
            partition: partition.clone(),
            position: position.clone(),
        };
        let clock = &checkpoint.clock;
        let watermark = |(index, watermark): (usize, &i64)| WatermarkMeta {
            source: self.sources.get(index).map(|source| source.name.clone()),
            watermark: *watermark,
            idle_since: clock.idle_since.get(index).copied().flatten(),
        };
        Meta {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            text: self.text.clone(),
            operators: self.operators.clone(),
            outputs: self.outputs.clone(),
            sources: self.sources.clone(),
            planned_rows: self.planned_rows.clone(),
            partitions: checkpoint.positions.iter().map(partition).collect(),
            watermarks: clock.watermarks.iter().enumerate().map(watermark).collect(),
            until_end: self.until_end,
            finished,
            dropped: false,
            run: self.run.clone(),
        }
    }

    /// The sections of a checkpoint's tables in which something changed.
    pub(crate) fn sections(&self, checkpoint: &Checkpoint) -> Vec<Section> {
        let mut tables: BTreeMap<String, Vec<&TableState>> = BTreeMap::new();
        for state in &checkpoint.states {
            for table in &state.tables {
                tables.entry(self.key(&state.operator, table.table)).or_default().push(table);
            }
        }
        tables.into_iter().flat_map(|(key, parts)| sections_of_table(&key, &parts)).collect()
    }

    fn key(&self, operator: &OperatorId, table: u32) -> String {
        let key = self.operator(operator);
        let (node, operator) = key.split_once('/').expect("it begins with the node's name");
        format!("{node}/{table}/{operator}")
    }

    /// Whether all that was saved is of this job, and all of it was.
    pub(crate) fn is_of(&self, meta: &Meta) -> bool {
        let forms = |operators: &BTreeMap<String, OperatorMeta>| -> Vec<(String, String)> {
            operators.iter().map(|(key, known)| (key.clone(), known.form.clone())).collect()
        };
        let connectors = |sources: &[SourceMeta]| -> Vec<(String, String)> {
            sources.iter().map(|source| (source.name.clone(), source.connector.clone())).collect()
        };
        moved(&meta.sources, &self.sources).is_empty()
            && grown(&meta.sources, &self.sources).is_empty()
            && self.outputs == meta.outputs
            && forms(&self.operators) == forms(&meta.operators)
            && connectors(&self.sources) == connectors(&meta.sources)
    }

    /// What an operator's state goes by.
    pub(crate) fn operator(&self, id: &OperatorId) -> String {
        operator(&self.of_nodes, &self.relations, id)
    }

    /// A section of a source's relation as it would be with the columns that the source has now: those that it had not are
    /// NULL. Others stay as they are.
    pub(crate) fn adapted(&self, section: Section) -> Result<Section, CheckpointError> {
        let schema = section.key.strip_prefix(SOURCE).and_then(|key| self.relations.get(key.strip_prefix("0/")?));
        let Some(schema) = schema else { return Ok(section) };
        let columns = columns_of(&section)?;
        // Of which nothing is told but what is freed, that is all.
        let Some(had) = section.schema.fields().get(LOG_COLUMNS..columns) else { return Ok(section) };
        if had
            .iter()
            .map(|field| (field.name(), field.data_type()))
            .eq(schema.fields().iter().map(|field| (field.name(), field.data_type())))
        {
            return Ok(section);
        }
        let place =
            |field: &Arc<Field>| had.iter().position(|had| had.name() == field.name() && had.data_type() == field.data_type());
        let places: Vec<Option<usize>> = schema.fields().iter().map(place).collect();
        let own = schema.fields().iter().map(|field| Arc::new(field.as_ref().clone().with_nullable(true)));
        let keys = section.schema.fields()[..LOG_COLUMNS].iter().cloned();
        let diffs = section.schema.fields()[columns..].iter().cloned();
        let whole = Arc::new(Schema::new(keys.chain(own).chain(diffs).collect::<Vec<_>>()));
        let adapt = |batch: &RecordBatch| {
            let own = schema.fields().iter().zip(&places).map(|(field, place)| match place {
                Some(place) => Arc::clone(batch.column(LOG_COLUMNS + place)),
                None => new_null_array(field.data_type(), batch.num_rows()),
            });
            let keys = batch.columns()[..LOG_COLUMNS].iter().cloned();
            RecordBatch::try_new(Arc::clone(&whole), keys.chain(own).chain(batch.columns()[columns..].iter().cloned()).collect())
        };
        let batches = section.batches.iter().map(adapt).collect::<Result<Vec<_>, _>>();
        let batches = batches.map_err(|error| CheckpointError::Unreadable(format!("section '{}': {error}", section.key)))?;
        Ok(Section::new(section.key, Arc::clone(&whole), batches).with_meta(section.meta))
    }

    /// What a node goes by.
    pub(crate) fn of_node(&self, node: NodeId) -> &str {
        &self.of_nodes[node]
    }

    /// What keeps state.
    pub(crate) fn kept(&self) -> &[KeptOperator] {
        &self.kept
    }

    /// The same, as it is saved.
    pub(crate) fn operators(&self) -> &BTreeMap<String, OperatorMeta> {
        &self.operators
    }

    /// What the sources had said of time.
    pub(crate) fn clock(&self, meta: &Meta) -> Clock {
        let of = |source: Option<&String>| meta.watermarks.iter().find(|known| known.source.as_ref() == source);
        let processing = of(None).is_some().then_some(None);
        let all = self.sources.iter().map(|source| Some(&source.name)).chain(processing);
        let mut clock = Clock::default();
        for source in all {
            let known = of(source);
            clock.watermarks.push(known.map_or(i64::MIN, |known| known.watermark));
            if source.is_some() {
                clock.idle_since.push(known.and_then(|known| known.idle_since));
            }
        }
        clock
    }

    /// The table of an operator that a section has changes of; `None` if the job has no such operator any more.
    pub(crate) fn state(&self, section: &Section) -> Result<Option<OperatorState>, CheckpointError> {
        let Some((operator, number)) = self.table(&section.key)? else { return Ok(None) };
        Ok(Some(OperatorState { operator, worker: 0, tables: vec![table_of(number, section)?] }))
    }

    /// The operator that sections of this key are of, and the number of its table; `None` if the job has no such operator any more.
    pub(crate) fn table(&self, key: &str) -> Result<Option<(OperatorId, u32)>, CheckpointError> {
        let Some((name, number, operator)) = parts_of(key) else {
            return Err(CheckpointError::Unreadable(format!("section '{key}' is of nothing")));
        };
        let Some(kept) = self.kept_as(name, operator) else { return Ok(None) };
        let number = number.parse().map_err(|_| CheckpointError::Unreadable(format!("section '{key}' has no table")))?;
        Ok(Some((kept.operator.clone(), number)))
    }

    /// Whether the rows of a section follow from what other sections have: see [`KeptOperator::derived`].
    pub(crate) fn is_derived(&self, key: &str) -> bool {
        let kept = parts_of(key).and_then(|(name, _, operator)| self.kept_as(name, operator));
        kept.is_some_and(|kept| kept.derived)
    }

    /// What keeps its state under this name of a node and of an operator.
    fn kept_as(&self, name: &str, operator: &str) -> Option<&KeptOperator> {
        self.kept.iter().find(|kept| {
            kept.operator.name == operator
                && self.operator(&kept.operator).split_once('/').is_some_and(|(known, _)| known == name)
        })
    }
}

/// What is the same in the keys of all of an operator's tables.
pub(super) fn operator_of(key: &str) -> String {
    parts_of(key).map_or_else(|| key.to_owned(), |(name, _, operator)| format!("{name}/{operator}"))
}

/// Of a section's key: the node's name, the table's number and the operator's name.
fn parts_of(key: &str) -> Option<(&str, &str, &str)> {
    let mut parts = key.splitn(3, '/');
    Some((parts.next()?, parts.next()?, parts.next()?))
}

fn operator(of_nodes: &[String], relations: &BTreeMap<String, SchemaRef>, id: &OperatorId) -> String {
    match relations.contains_key(&id.name) {
        true => format!("{SOURCE}{}", id.name),
        false => format!("{}/{}", of_nodes[id.node], id.name),
    }
}

/// An operator, for people: with the views and sinks that it works for.
fn what(job: &Job, id: &OperatorId) -> String {
    const NAMES_MAX: usize = 3;
    if ["view ", "table ", "rows of "].iter().any(|whole| id.name.starts_with(whole)) {
        return id.name.clone();
    }
    let views = job.views.iter().map(|view| (&view.name, view.node));
    let outputs = views.chain(job.sinks.iter().map(|sink| (&sink.name, sink.node)));
    let names: Vec<&str> =
        outputs.filter(|(_, node)| job.plan.upstream_of(*node).contains(&id.node)).map(|(name, _)| name.as_str()).collect();
    let more = match names.len().saturating_sub(NAMES_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{} of {}{more}", id.name, names[..names.len().min(NAMES_MAX)].join(", "))
}

fn source_meta(source: &highwater_plan::Source, registry: &Registry) -> SourceMeta {
    let name = |column: usize| source.schema.fields()[column].name().clone();
    SourceMeta {
        name: source.name.clone(),
        connector: source.options.get("connector").unwrap_or_default().to_owned(),
        columns: (0..source.schema.fields().len()).map(name).collect(),
        used: source.used.iter().copied().map(name).collect(),
        whence: Some(Whence::of(source, registry)),
    }
}

#[cfg(test)]
mod tests;
