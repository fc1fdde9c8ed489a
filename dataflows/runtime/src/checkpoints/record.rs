//! A checkpoint as it is kept: the engine's tables as sections, everything else as the manifest's JSON.
//!
//! | section | key | rows |
//! |---|---|---|
//! | a table of an operator | `<fingerprint of its node>/<table>/<operator>` | its changes, and in `$diff` how often |
//! | `$late` and `$rejects` of a source | `source/0/rows of <relation>` | as above |
//! | what a sink is to publish | `outbox/<sink>` | its changes, their `$epoch`, and in `$diff` how often |
//!
//! Of a table there is a section per [`Piece`], unless they are small.
//!
//! Operators go by the [fingerprint](highwater_plan::fingerprints) of what made their state, so that a job finds it although
//! its text has changed elsewhere; sources, views and sinks go by their names.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use highwater_connectors::Registry;
use highwater_connectors::sink::{Changes, EpochChanges};
use highwater_engine::{
    Checkpoint, Clock, Delta, Form, KeptOperator, LOG_COLUMNS, OperatorId, OperatorState, Piece, Spread, TableState, Time, fold,
    fold_pieces, late_schema, rejects_schema,
};
use highwater_plan::{Job, NodeId, OutputNames, fingerprints};
use highwater_store::{Manifest, Section};
use serde::{Deserialize, Serialize};

use super::CheckpointError;
use crate::upgrade::origins::{Whence, moved};
use crate::upgrade::{OperatorMeta, SourceMeta};

/// The column of multiplicities, the last one of every section.
const DIFF: &str = "$diff";

/// The column of epochs, the one before it in what a sink is to publish.
const EPOCH: &str = "$epoch";

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

/// How the changes of a section add up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct TableMeta {
    /// Absent: rows with multiplicities. Else the last change of a key counts, which has so many first columns.
    keys: Option<usize>,
    spread: SpreadMeta,
    freed: Option<(usize, i64)>,
    /// Of which worker, of how many, the rows are; absent: of all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    piece: Option<(usize, usize)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum SpreadMeta {
    ByColumns(Vec<usize>),
    Anywhere,
    One,
    Everywhere,
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
        for source in &mut self.sources {
            let began = known.iter().find(|known| known.name == source.name).and_then(|known| known.whence.as_ref());
            if let (Some(began), Some(whence)) = (began, &mut source.whence) {
                whence.start.clone_from(&began.start);
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
        let Some(schema) = schema.filter(|_| section.schema.fields().len() > LOG_COLUMNS) else { return Ok(section) };
        let had = &section.schema.fields()[LOG_COLUMNS..section.schema.fields().len() - 1];
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
        let last = section.schema.fields().last().cloned();
        let whole = Arc::new(Schema::new(keys.chain(own).chain(last).collect::<Vec<_>>()));
        let adapt = |batch: &RecordBatch| {
            let own = schema.fields().iter().zip(&places).map(|(field, place)| match place {
                Some(place) => Arc::clone(batch.column(LOG_COLUMNS + place)),
                None => new_null_array(field.data_type(), batch.num_rows()),
            });
            let keys = batch.columns()[..LOG_COLUMNS].iter().cloned();
            RecordBatch::try_new(Arc::clone(&whole), keys.chain(own).chain(batch.columns().last().cloned()).collect())
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
        let mut parts = section.key.splitn(3, '/');
        let (Some(name), Some(number), Some(operator)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(CheckpointError::Unreadable(format!("section '{}' is of nothing", section.key)));
        };
        let found = self.kept.iter().find(|kept| {
            kept.operator.name == operator
                && self.operator(&kept.operator).split_once('/').is_some_and(|(known, _)| known == name)
        });
        let Some(node) = found.map(|kept| kept.operator.node) else { return Ok(None) };
        let number =
            number.parse().map_err(|_| CheckpointError::Unreadable(format!("section '{}' has no table", section.key)))?;
        let operator = OperatorId { node, name: operator.to_owned() };
        Ok(Some(OperatorState { operator, worker: 0, tables: vec![table_of(number, section)?] }))
    }
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

/// The section of what a sink is to publish; `published`: up to this epoch it need not be kept.
pub(crate) fn outbox_section(sink: &str, schema: &SchemaRef, epochs: &[EpochChanges], published: Time) -> Option<Section> {
    let columns = schema.fields().len();
    let mut changes = Vec::new();
    for epoch in epochs {
        for Changes { rows, diffs } in &epoch.changes {
            let at: ArrayRef = Arc::new(Int64Array::from(vec![epoch.epoch as i64; rows.num_rows()]));
            let rows = appended(rows, EPOCH, at);
            changes.push(match diffs {
                Some(diffs) => Delta::with_diffs(rows, diffs.clone()),
                None => Delta::insert(rows),
            });
        }
    }
    let freed = Some((columns, published as i64));
    let table = TableState { table: 0, form: Form::Rows, spread: Spread::One, piece: Piece::WHOLE, changes, freed };
    section_of_piece(&format!("{OUTBOX}{sink}"), Piece::WHOLE, &[&table], freed)
}

const OUTBOX: &str = "outbox/";

/// What stands in place of a node's name before relations of sources.
const SOURCE: &str = "source/";

/// Whether a section of this key has rows that are to be published.
pub(crate) fn is_outbox(key: &str) -> bool {
    key.starts_with(OUTBOX)
}

/// The sink that a section has rows of that are to be published.
pub(crate) fn outbox_of(section: &Section) -> Option<&str> {
    section.key.strip_prefix(OUTBOX)
}

/// What a sink is to publish, from all sections of it, oldest first.
pub(crate) fn outbox_epochs(sections: &[Section]) -> Result<Vec<EpochChanges>, CheckpointError> {
    let tables = sections.iter().map(|section| table_of(0, section)).collect::<Result<Vec<_>, _>>()?;
    let mut epochs: BTreeMap<Time, Vec<Changes>> = BTreeMap::new();
    for delta in fold(&tables, true) {
        let last = delta.rows.num_columns() - 1;
        let at = delta.rows.column(last).as_primitive::<Int64Type>().clone();
        let mut rows: BTreeMap<i64, Vec<u32>> = BTreeMap::new();
        for row in 0..delta.len() {
            rows.entry(at.value(row)).or_default().push(row as u32);
        }
        for (epoch, mut rows) in rows {
            // As it was first given: retractions before insertions.
            rows.sort_by_key(|row| delta.diff(*row as usize) > 0);
            let part = delta.take(&rows.into());
            let columns: Vec<usize> = (0..last).collect();
            let rows = part.rows.project(&columns).map_err(|error| CheckpointError::Unreadable(error.to_string()))?;
            epochs.entry(epoch as Time).or_default().push(Changes { rows, diffs: part.diffs });
        }
    }
    Ok(epochs.into_iter().map(|(epoch, changes)| EpochChanges { epoch, changes }).collect())
}

/// The rows of a table whose sections these are, oldest first and from its beginning.
pub(crate) fn rows_of_table(key: &str, sections: &[Section]) -> Result<Vec<Delta>, CheckpointError> {
    let folded = fold_sections(key, true, sections)?;
    let changes = folded.iter().map(|section| Ok(table_of(0, section)?.changes));
    Ok(changes.collect::<Result<Vec<_>, CheckpointError>>()?.concat())
}

/// Adds up sections of one key, oldest first; `complete`: nothing came before them. Of what nothing is left there is none.
pub(crate) fn fold_sections(key: &str, complete: bool, sections: &[Section]) -> Result<Vec<Section>, CheckpointError> {
    let tables = sections.iter().map(|section| table_of(0, section)).collect::<Result<Vec<_>, _>>()?;
    let Some(last) = tables.last() else { return Ok(Vec::new()) };
    let freed = tables.iter().filter_map(|table| table.freed).reduce(|one, other| (one.0, one.1.max(other.1)));
    let of = |(piece, changes)| TableState {
        table: last.table,
        form: last.form,
        spread: last.spread.clone(),
        piece,
        changes,
        freed: freed.filter(|_| !complete),
    };
    let folded: Vec<TableState> = fold_pieces(&tables, complete).into_iter().map(of).collect();
    Ok(sections_of_table(key, &folded.iter().collect::<Vec<_>>()))
}

/// Rows per piece of a table from which on it is kept in pieces: to cut fewer costs less than to keep them apart.
const PIECE_ROWS: usize = 1_024;

/// The parts of a table, of all workers, a section per [`Piece`] unless they are small; none if nothing of it changed.
fn sections_of_table(key: &str, parts: &[&TableState]) -> Vec<Section> {
    let mut pieces: BTreeMap<Piece, Vec<&TableState>> = BTreeMap::new();
    for part in parts {
        pieces.entry(part.piece).or_default().push(part);
    }
    let freed = parts.iter().map(|part| part.freed).reduce(|one, other| match (one, other) {
        (Some((column, one)), Some((_, other))) => Some((column, one.min(other))),
        _ => None,
    });
    let freed = freed.flatten();
    let rows: usize = parts.iter().flat_map(|part| &part.changes).map(Delta::len).sum();
    if rows < PIECE_ROWS * pieces.len() {
        return section_of_piece(key, Piece::WHOLE, parts, freed).into_iter().collect();
    }
    pieces.into_iter().filter_map(|(piece, parts)| section_of_piece(key, piece, &parts, freed)).collect()
}

/// The changes of a piece and what is freed of the table; `None` if nothing is.
fn section_of_piece(key: &str, piece: Piece, parts: &[&TableState], freed: Option<(usize, i64)>) -> Option<Section> {
    let first = parts.first()?;
    let deltas: Vec<&Delta> = parts.iter().flat_map(|part| &part.changes).filter(|delta| !delta.is_empty()).collect();
    if deltas.is_empty() && freed.is_none() {
        return None;
    }
    let schema = section_schema(deltas.first().map(|delta| delta.rows.schema_ref()));
    let batches = deltas.into_iter().map(|delta| section_rows(&schema, delta)).collect();
    let meta = TableMeta {
        keys: match first.form {
            Form::Rows => None,
            Form::Entries { keys } => Some(keys),
        },
        spread: match &first.spread {
            Spread::ByColumns(columns) => SpreadMeta::ByColumns(columns.clone()),
            Spread::Anywhere => SpreadMeta::Anywhere,
            Spread::One => SpreadMeta::One,
            Spread::Everywhere => SpreadMeta::Everywhere,
        },
        freed,
        piece: (piece != Piece::WHOLE).then_some((piece.number, piece.of)),
    };
    let meta = serde_json::to_value(meta).expect("numbers and names are JSON");
    Some(Section::new(key, schema, batches).with_meta(meta))
}

/// Columns go by their position: names are for people, and operators of equal fingerprints may have different ones.
fn section_schema(rows: Option<&SchemaRef>) -> SchemaRef {
    let columns = rows.into_iter().flat_map(|schema| schema.fields());
    let named = columns.map(|field| Field::new(field.name(), field.data_type().clone(), true));
    Arc::new(Schema::new(named.chain([Field::new(DIFF, DataType::Int64, true)]).collect::<Vec<_>>()))
}

fn section_rows(schema: &SchemaRef, delta: &Delta) -> RecordBatch {
    let diffs: ArrayRef = match &delta.diffs {
        Some(diffs) => Arc::new(diffs.clone()),
        None => Arc::new(Int64Array::from(vec![1; delta.len()])),
    };
    let columns = delta.rows.columns().iter().cloned().chain([diffs]).collect();
    RecordBatch::try_new(Arc::clone(schema), columns).expect("the changes of a table have one schema")
}

fn table_of(number: u32, section: &Section) -> Result<TableState, CheckpointError> {
    let unreadable = |what: &dyn std::fmt::Display| CheckpointError::Unreadable(format!("section '{}': {what}", section.key));
    let meta: TableMeta = serde_json::from_value(section.meta.clone()).map_err(|error| unreadable(&error))?;
    let columns = section.schema.fields().len().saturating_sub(1);
    if section.schema.fields().last().is_none_or(|field| field.name() != DIFF || *field.data_type() != DataType::Int64) {
        return Err(unreadable(&"it has no multiplicities"));
    }
    let mut all: Vec<usize> = meta.freed.iter().map(|freed| freed.0).collect();
    if let SpreadMeta::ByColumns(columns) = &meta.spread {
        all.extend(columns);
    }
    // Nothing changed but what is freed: then its columns are not told.
    if columns > 0 && (all.iter().any(|column| *column >= columns) || meta.keys.is_some_and(|keys| keys > columns)) {
        return Err(unreadable(&"it speaks of columns that it does not have"));
    }
    let piece = meta.piece.map_or(Piece::WHOLE, |(number, of)| Piece { number, of });
    if piece.number >= piece.of || (piece != Piece::WHOLE && !matches!(meta.spread, SpreadMeta::ByColumns(_))) {
        let (number, of) = (piece.number, piece.of);
        return Err(unreadable(&format_args!("a table whose rows are {:?} cannot have piece {number} of {of}", meta.spread)));
    }
    let kept: Vec<usize> = (0..columns).collect();
    let mut changes = Vec::with_capacity(section.batches.len());
    for batch in &section.batches {
        let diffs = batch.column(columns).as_primitive::<Int64Type>().clone();
        if diffs.null_count() > 0 {
            return Err(unreadable(&"a multiplicity is NULL"));
        }
        let rows = match kept.is_empty() {
            // A row without columns is a row.
            true => {
                let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
                RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &options)
            }
            false => batch.project(&kept),
        };
        changes.push(Delta::with_diffs(rows.map_err(|error| unreadable(&error))?, diffs));
    }
    Ok(TableState {
        table: number,
        form: meta.keys.map_or(Form::Rows, |keys| Form::Entries { keys }),
        spread: match meta.spread {
            SpreadMeta::ByColumns(columns) => Spread::ByColumns(columns),
            SpreadMeta::Anywhere => Spread::Anywhere,
            SpreadMeta::One => Spread::One,
            SpreadMeta::Everywhere => Spread::Everywhere,
        },
        piece,
        changes,
        freed: meta.freed,
    })
}

fn appended(rows: &RecordBatch, name: &str, column: ArrayRef) -> RecordBatch {
    let fields = rows.schema_ref().fields().iter().cloned().chain([Arc::new(Field::new(name, DataType::Int64, true))]);
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let columns = rows.columns().iter().cloned().chain([column]).collect();
    RecordBatch::try_new(schema, columns).expect("the column is as long as the rows")
}

#[cfg(test)]
mod tests;
