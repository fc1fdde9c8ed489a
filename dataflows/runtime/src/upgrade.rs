//! A job that goes on from what was saved of another version of itself: what of the state it takes over, what is made anew, and
//! of what, and what is dropped.
//!
//! ```text
//! operators of the job ──┐                          ┌── reused:  as they were saved
//!                        ├── by name and form ──►   ├── rebuilt: from views and tables that are reused,
//! operators that ────────┘                          │            or from sources that are read again
//! were saved                                        └── dropped
//! ```
//!
//! An operator whose [fingerprint](highwater_plan::fingerprints) was saved takes its state over. What is new is computed as of
//! the checkpoint's epoch, before the job goes on: an [excerpt](highwater_engine::Excerpt) of the job runs by itself, is fed with
//! what it needs, and its state is taken ([`rebuild`]). So the job goes on as if it had always been the one that it is now.
//! Lateness is judged again by the order in which rows are read then.

mod feed;
pub(crate) mod origins;
pub(crate) mod rebuild;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::slice;
use std::sync::Arc;

use highwater_connectors::Registry;
use highwater_engine::{Excerpt, KeptFrom, KeptOperator, kept_operators};
use highwater_plan::{Job, NodeId, Op};
use highwater_store::SectionInfo;
use serde::{Deserialize, Serialize};

use self::origins::{Downstream, Whence};
use crate::checkpoints::{CheckpointError, Meta, Names};
use crate::open::spec_of;

/// What becomes of a job's state when the job is changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Upgrade {
    /// What is taken over as it is.
    pub reused: Vec<StatePart>,
    /// What is made anew.
    pub rebuilt: Vec<StatePart>,
    /// What nobody needs any more.
    pub dropped: Vec<StatePart>,
    /// Sources by whose names another topic, or another file, is read now, in words for people: they begin anew.
    pub moved: Vec<String>,
    /// Sources that read more than they did, another topic besides, in words for people: that begins at its beginning.
    pub grown: Vec<String>,
    /// Why it cannot be done, in words for people; nothing if it can.
    pub refused: Vec<String>,
}

/// What an operator keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatePart {
    /// The operator, and for which views and sinks it is.
    pub what: String,
    /// What it is made of; none of what is reused or dropped.
    pub from: Option<String>,
    /// Rows of it in the checkpoint's files, those that were taken back again included; `None`: it is in none.
    pub rows: Option<u64>,
    /// Their bytes.
    pub bytes: Option<u64>,
}

impl Upgrade {
    /// Whether all state is reused: what else differs, a source that nobody reads, keeps none.
    pub fn is_nothing(&self) -> bool {
        self.rebuilt.is_empty()
            && self.dropped.is_empty()
            && self.moved.is_empty()
            && self.grown.is_empty()
            && self.refused.is_empty()
    }

    /// What is new and what is gone, in a few words.
    pub(crate) fn differences(&self) -> Vec<String> {
        let listed = |parts: &[StatePart], what: &str| {
            let names: Vec<&str> = parts.iter().take(3).map(|part| part.what.as_str()).collect();
            let more = if parts.len() > 3 { format!(" and {} more", parts.len() - 3) } else { String::new() };
            (!names.is_empty()).then(|| format!("{what}: {}{more}", names.join(", ")))
        };
        let all = [listed(&self.rebuilt, "new"), listed(&self.dropped, "gone")];
        let mut differences = [&self.moved[..], &self.grown].concat();
        differences.extend(all.into_iter().flatten().chain(self.refused.iter().cloned()));
        differences
    }
}

impl Upgrade {
    /// From one job to another, when all sources of the first have been read.
    pub fn between(old: &Arc<Job>, new: &Arc<Job>, registry: &Registry) -> Result<Upgrade, CheckpointError> {
        let meta = Names::new(old, kept_operators(old)?, registry, "", false).meta_after_reading();
        Self::of(&meta, &[], new, registry)
    }

    /// From what was saved of a job.
    pub(crate) fn of(
        meta: &Meta,
        sizes: &[SectionInfo],
        new: &Arc<Job>,
        registry: &Registry,
    ) -> Result<Upgrade, CheckpointError> {
        let names = Names::new(new, kept_operators(new)?, registry, "", false);
        Ok(Change::new(new, &names, meta, registry, sizes).report)
    }
}

/// What is saved of an operator beside its state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OperatorMeta {
    /// As [`KeptOperator::form`].
    pub(crate) form: String,
    /// For people.
    pub(crate) what: String,
}

/// What is saved of a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SourceMeta {
    pub(crate) name: String,
    pub(crate) connector: String,
    /// All columns that it was declared with.
    pub(crate) columns: Vec<String>,
    /// Those that were read, in the order in which they are kept.
    pub(crate) used: Vec<String>,
    /// What positions in it are of; `None`: a version that did not say so wrote this.
    #[serde(default)]
    pub(crate) whence: Option<Whence>,
}

/// Of what rows are made that the operators to be rebuilt read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The rows of a table under this name, without columns that were not declared then.
    Table(String),
    /// The source is read once more.
    Again,
}

/// How a job's state differs from what was saved.
#[derive(Debug, Default)]
pub(crate) struct Change {
    /// For people.
    pub(crate) report: Upgrade,
    /// The operators without state, by their place in the job.
    pub(crate) missing: BTreeSet<(NodeId, String)>,
    /// What is run to make it.
    pub(crate) excerpt: Excerpt,
    /// Per node of [`Excerpt::given`] what it is made of.
    pub(crate) given: Vec<String>,
    /// Per source that is read by the excerpt, what it gives.
    pub(crate) sources: BTreeMap<usize, Origin>,
    /// Sinks that were not there.
    pub(crate) new_sinks: BTreeSet<String>,
}

impl Change {
    /// Compares a job with what was saved of it. `sizes`: of all sections, for the report.
    pub(crate) fn new(job: &Job, names: &Names, meta: &Meta, registry: &Registry, sizes: &[SectionInfo]) -> Change {
        let moved = origins::moved(&meta.sources, names.sources());
        let meta = &meta.without(&moved);
        let mut change = Compare {
            job,
            names,
            meta,
            registry,
            moved: Downstream::of(job, moved.keys()),
            inputs: Excerpt::inputs(job),
            own: BTreeSet::new(),
            seen: BTreeMap::new(),
            change: Change::default(),
        };
        change.missing();
        change.outputs();
        change.connectors();
        let Compare { mut change, seen, .. } = change;
        change.report.moved.extend(moved.iter().map(|(source, how)| format!("source {source} is another one: {how}")));
        let grown = origins::grown(&meta.sources, names.sources());
        change.report.grown.extend(grown.iter().map(|(source, grown)| format!("source {source} {}", grown.how)));
        change.report(names, meta, &Sizes::new(sizes), &seen, job);
        change
    }

    fn report(&mut self, names: &Names, meta: &Meta, sizes: &Sizes, made_of: &BTreeMap<NodeId, BTreeSet<String>>, job: &Job) {
        let part = |key: &str, meta: &OperatorMeta| {
            let size = sizes.0.get(key);
            let (rows, bytes) = (size.map(|size| size.0), size.map(|size| size.1));
            StatePart { what: meta.what.clone(), from: None, rows, bytes }
        };
        let (mut wanted, inputs) = (BTreeSet::new(), Excerpt::inputs(job));
        for kept in names.kept() {
            let key = names.operator(&kept.operator);
            let of = &names.operators()[&key];
            if !self.missing.contains(&(kept.operator.node, kept.operator.name.clone())) {
                let part = part(&key, of);
                if kept.from != KeptFrom::Rows || part.rows.is_some_and(|rows| rows > 0) {
                    self.report.reused.push(part);
                }
                wanted.insert(key);
            } else if kept.from != KeptFrom::Rows {
                let read = &inputs[kept.operator.node];
                let reads =
                    if kept.from == KeptFrom::Output || read.is_empty() { slice::from_ref(&kept.operator.node) } else { read };
                let from: BTreeSet<&str> =
                    reads.iter().filter_map(|input| made_of.get(input)).flatten().map(String::as_str).collect();
                let from = if from.is_empty() { "nothing that was read".into() } else { listed(from.into_iter()) };
                self.report.rebuilt.push(StatePart { what: of.what.clone(), from: Some(from), rows: None, bytes: None });
            }
        }
        for sink in &self.new_sinks {
            let node = job.sinks.iter().find(|known| known.name == *sink).map(|sink| sink.node);
            let from = node.and_then(|node| made_of.get(&node)).map(|from| listed(from.iter().map(String::as_str)));
            let what = format!("sink {sink}: all that it would have written");
            self.report.rebuilt.push(StatePart { what, from, rows: None, bytes: None });
        }
        let gone = meta.operators.iter().filter(|(key, _)| !wanted.contains(*key));
        // `$errors` and the like without rows are nothing.
        let gone = gone.map(|(key, meta)| part(key, meta));
        let gone = gone.filter(|part| part.rows.is_some_and(|rows| rows > 0) || !part.what.starts_with("rows of "));
        self.report.dropped.extend(gone);
        for sink in meta.outputs.iter().filter_map(|output| output.strip_prefix("sink ")) {
            let Some((rows, bytes)) = sizes.0.get(&format!("outbox/{sink}")).copied() else { continue };
            if rows > 0 && !job.sinks.iter().any(|known| known.name == sink) {
                let what = format!("sink {sink}: what it has not published yet");
                self.report.dropped.push(StatePart { what, from: None, rows: Some(rows), bytes: Some(bytes) });
            }
        }
    }
}

/// Rows and bytes per operator.
struct Sizes(BTreeMap<String, (u64, u64)>);

impl Sizes {
    fn new(sections: &[SectionInfo]) -> Self {
        let mut sizes: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        for section in sections {
            let mut parts = section.key.splitn(3, '/');
            let key = match (parts.next(), parts.next(), parts.next()) {
                (Some(node), Some(_), Some(operator)) => format!("{node}/{operator}"),
                _ => section.key.clone(),
            };
            let size = sizes.entry(key).or_default();
            *size = (size.0 + section.rows, size.1 + section.bytes);
        }
        Sizes(sizes)
    }
}

struct Compare<'a> {
    job: &'a Job,
    names: &'a Names,
    meta: &'a Meta,
    registry: &'a Registry,
    /// What is of sources that are others now.
    moved: Downstream,
    /// Per node what its operators read.
    inputs: Vec<Vec<NodeId>>,
    /// Nodes whose own state is missing.
    own: BTreeSet<NodeId>,
    /// What the rows of a node that was looked at are made of, for people.
    seen: BTreeMap<NodeId, BTreeSet<String>>,
    change: Change,
}

impl Compare<'_> {
    /// Rows that are [derived](KeptOperator::derived) are those of what they are derived from: they are kept with it or not at all.
    fn is_kept(&self, kept: &KeptOperator) -> bool {
        let node = kept.operator.node;
        let gives = |other: &&KeptOperator| kept.derived && other.from == KeptFrom::Inputs && other.operator.node == node;
        self.was_saved(kept) && self.names.kept().iter().filter(gives).all(|other| self.was_saved(other))
    }

    fn was_saved(&self, kept: &KeptOperator) -> bool {
        let key = self.names.operator(&kept.operator);
        if self.moved.has(&kept.operator) {
            return false;
        }
        let known = self.meta.operators.get(&key);
        // Relations of sources are adapted to the columns that there are now.
        known.is_some_and(|known| kept.from == KeptFrom::Rows || known.form == self.names.operators()[&key].form)
    }

    /// What has no state, and what it takes to make that.
    fn missing(&mut self) {
        let missing: Vec<&KeptOperator> = self.names.kept().iter().filter(|kept| !self.is_kept(kept)).collect();
        for kept in &missing {
            self.change.missing.insert((kept.operator.node, kept.operator.name.clone()));
            if kept.from == KeptFrom::Inputs {
                self.own.insert(kept.operator.node);
            }
        }
        for kept in missing {
            match kept.from {
                KeptFrom::Inputs => self.run(kept.operator.node),
                KeptFrom::Output => self.want(kept.operator.node),
                KeptFrom::Rows => {}
            }
            if let Some(view) = kept.operator.name.strip_prefix("view ") {
                self.change.excerpt.outputs.insert(view.to_owned());
            }
        }
    }

    /// New sinks get all that they would have got. One that reads something else now cannot take back what it wrote.
    fn outputs(&mut self) {
        for sink in &self.job.sinks {
            if !self.meta.outputs.contains(&format!("sink {}", sink.name)) {
                self.change.new_sinks.insert(sink.name.clone());
                self.change.excerpt.outputs.insert(sink.name.clone());
                self.want(sink.node);
                continue;
            }
            let errors = format!("rows of {}", highwater_plan::OutputNames::errors(&sink.name));
            if self.change.missing.contains(&(sink.node, errors)) {
                self.change.report.refused.push(format!(
                    "sink {} gets other rows than before, and what it has written stays: give it another name, and a place of its own \
                     to write to, which then gets all rows",
                    sink.name
                ));
            }
        }
    }

    fn connectors(&mut self) {
        for source in &self.job.sources {
            let Some(known) = self.meta.sources.iter().find(|known| known.name == source.name) else { continue };
            let connector = source.options.get("connector").unwrap_or_default();
            if known.connector != connector && self.meta.partitions.iter().any(|partition| partition.source == known.name) {
                self.change.report.refused.push(format!(
                    "source {} was read by connector '{}', not '{connector}', whose positions are others: give it another name",
                    source.name, known.connector
                ));
            }
        }
    }

    /// The rows of a node are needed.
    fn want(&mut self, node: NodeId) {
        if self.seen.contains_key(&node) {
            return;
        }
        if self.own.contains(&node) {
            return self.run(node);
        }
        let all = |kept: &&KeptOperator| kept.complete && kept.operator.node == node && self.is_kept(kept);
        let Some(kept) = self.names.kept().iter().find(all) else { return self.run(node) };
        let key = self.names.operator(&kept.operator);
        let what = self.meta.operators[&key].what.clone();
        self.seen.insert(node, BTreeSet::from([what]));
        self.change.excerpt.given.push(node);
        let table = format!("{}/0/{}", self.names.of_node(node), kept.operator.name);
        self.change.given.push(table);
    }

    /// A node is to be computed.
    fn run(&mut self, node: NodeId) {
        if self.seen.contains_key(&node) {
            return;
        }
        self.seen.insert(node, BTreeSet::new());
        self.change.excerpt.nodes.insert(node);
        let made_of = match self.job.plan.nodes[node].op {
            Op::Source { source, .. } | Op::Versions { source, .. } => self.source(source).into_iter().collect(),
            _ => {
                let inputs = self.inputs[node].clone();
                inputs.iter().for_each(|input| self.want(*input));
                inputs.iter().filter_map(|input| self.seen.get(input)).flatten().cloned().collect()
            }
        };
        self.seen.insert(node, made_of);
    }

    /// What a source gave is needed; what it is made of, for people, if it gave anything.
    fn source(&mut self, index: usize) -> Option<String> {
        let source = &self.job.sources[index];
        if self.moved.has_source(index) {
            return Some(format!("source {}, which begins anew", source.name));
        }
        if !self.meta.partitions.iter().any(|partition| partition.source == source.name) {
            return None;
        }
        let read_again = format!("source {}, read again from its start", source.name);
        if self.change.sources.contains_key(&index) {
            return Some(read_again);
        }
        let opened = self.registry.open_source(&spec_of(source, 1));
        let repeats = match &opened {
            Ok(opened) => opened.repeats(),
            // Whoever opens it to be read says so at its place.
            Err(_) => true,
        };
        let other_start = origins::other_start(&self.meta.sources, &self.names.sources()[index]);
        let why = match other_start {
            None if repeats => {
                self.change.sources.insert(index, Origin::Again);
                return Some(read_again);
            }
            None => "cannot be read again".to_owned(),
            Some(how) => format!("cannot be read again as it was, because {how}"),
        };
        match self.kept_table(index) {
            Ok(key) => {
                self.change.sources.insert(index, Origin::Table(key));
                Some(format!("table {}, as it is kept", source.name))
            }
            Err(nor) => {
                let refused = format!("source {} {why}, and {nor}", source.name);
                if !self.change.report.refused.contains(&refused) {
                    self.change.report.refused.push(refused);
                }
                None
            }
        }
    }

    /// The rows of a table as they were kept, if that can be told of all columns that are read now.
    fn kept_table(&self, index: usize) -> Result<String, String> {
        let source = &self.job.sources[index];
        let known = self.meta.sources.iter().find(|known| known.name == source.name);
        let operator = format!("/table {}", source.name);
        let key = self.meta.operators.keys().find(|key| key.ends_with(&operator));
        let (Some(known), Some(key)) = (known, key) else {
            let remedy = "start the job with --fresh, or add what is new to a job of another name";
            return Err(format!("its rows are not kept: {remedy}"));
        };
        for column in &source.used {
            let field = &source.schema.fields()[*column];
            if known.used.contains(field.name()) {
                continue;
            }
            if known.columns.contains(field.name()) {
                return Err(format!("its column {} was not kept, because nothing read it", field.name()));
            }
            if !field.is_nullable() && source.defaults.get(*column).is_none_or(Option::is_none) {
                return Err(format!("its new column {} is NOT NULL: give it a DEFAULT", field.name()));
            }
        }
        let (node, operator) = key.split_once('/').expect("it ends with the operator");
        Ok(format!("{node}/0/{operator}"))
    }
}

fn listed<'a>(all: impl Iterator<Item = &'a str>) -> String {
    all.collect::<Vec<_>>().join(", ")
}
