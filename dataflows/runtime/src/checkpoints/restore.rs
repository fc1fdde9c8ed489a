//! Reads a job's checkpoint back.
//!
//! What sinks have still to publish comes first; then the job can be made, and its operators are given their tables as they are
//! read ([`Reading`]). Of a job that was changed all is read before.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use highwater_connectors::Registry;
use highwater_connectors::sink::EpochChanges;
use highwater_engine::{Arriving, Checkpoint, Delta, Engine, JobHandle, OperatorId, OperatorState, Restore, TableState, Time};
use highwater_plan::Job;
use highwater_store::{JobStore, Manifest, ReadOptions, Section, SectionInfo, Sections};

use super::CheckpointError;
use super::record::{Meta, Names, operator_of};
use super::sections::{fold_sections, is_outbox, outbox_epochs, outbox_of, rows_of_table};
use crate::clock::Clock;
use crate::dropped::Dropped;
use crate::ingest::Stood;
use crate::open::{Beginnings, Resumed};
use crate::restoring::RestoreProgress;
use crate::upgrade::origins::{grown, moved};
use crate::upgrade::rebuild::{Rebuilding, Rebuilt};
use crate::upgrade::{Change, Origin, SourceMeta, Upgrade};

/// What a job goes on from.
pub(crate) struct Restored<'a> {
    /// For the engine.
    pub(crate) state: Restore,
    /// What of that is still to be read.
    pub(crate) reading: Option<Reading<'a>>,
    /// For its sources.
    pub(crate) resumed: Resumed,
    /// Per sink, by its name, what was still to be published.
    pub(crate) outboxes: BTreeMap<String, Vec<EpochChanges>>,
    /// The checkpoint's epoch.
    pub(crate) epoch: Time,
    /// What the checkpoint belongs to.
    pub(crate) run: Option<String>,
    /// What it knows of the job's sources.
    pub(crate) sources: Vec<SourceMeta>,
    /// If the job is not the one that was saved, what became of its state.
    pub(crate) upgraded: Option<Upgraded>,
}

/// What is to be done besides, if the job was changed.
pub(crate) struct Upgraded {
    pub(crate) report: Upgrade,
    /// All of its state: what is kept of the other version is no longer of use.
    pub(crate) sections: Vec<Section>,
    /// What sinks that are new would have written, as of this epoch.
    pub(crate) sinks: BTreeMap<String, Vec<Delta>>,
    pub(crate) epoch: Time,
}

/// The tables of a job that are still to be read.
pub(crate) struct Reading<'a> {
    sections: Sections,
    /// The first of them.
    first: Option<Section>,
    arriving: Arriving,
    progress: RestoreProgress<'a>,
}

impl<'a> Reading<'a> {
    /// Gives the job, which was just made, its tables as they are read; it is dropped if they cannot be.
    pub(crate) fn finish(self, engine: &Engine, job: &JobHandle, names: &Names) -> Result<RestoreProgress<'a>, CheckpointError> {
        let Reading { sections, first, arriving, progress } = self;
        let unread = Dropped { engine, id: job.id() };
        arriving.fill(Tables::new(names, &progress, sections, first, None), engine.workers(), names.kept())?;
        std::mem::forget(unread);
        Ok(progress)
    }
}

/// What restoring needs.
pub(crate) struct Restoring<'a, 'p> {
    pub(crate) name: &'a str,
    pub(crate) job: &'a Arc<Job>,
    pub(crate) names: &'a Names,
    pub(crate) store: &'a JobStore,
    pub(crate) engine: &'a Engine,
    pub(crate) registry: &'a Registry,
    pub(crate) clock: &'a Arc<dyn Clock>,
    /// Whether the job may be another one than that which was saved.
    pub(crate) upgrade: bool,
    /// Told how far it is.
    pub(crate) progress: RestoreProgress<'p>,
}

impl<'p> Restoring<'_, 'p> {
    /// Reads the state that `manifest` names, or begins to; `None` if that job was dropped.
    pub(crate) fn read(self, manifest: &Manifest) -> Result<Option<Restored<'p>>, CheckpointError> {
        let Some(meta) = Meta::read(manifest)? else { return Ok(None) };
        let change = self.change(manifest, &meta)?;
        // Of a source that is another one now nothing is known.
        let meta = meta.without(&moved(&meta.sources, self.names.sources()));
        let meta = meta.renamed(&grown(&meta.sources, self.names.sources()), self.registry);
        let mut positions = BTreeMap::new();
        let mut read = BTreeMap::new();
        for known in &meta.partitions {
            let stood: Stood = known.position.parse().map_err(|error| CheckpointError::Unreadable(format!("{error}")))?;
            positions.insert((known.source.clone(), known.partition.clone()), stood);
            if let Some(source) = self.job.sources.iter().position(|source| source.name == known.source) {
                read.insert((source, known.partition.clone()), known.position.clone());
            }
        }
        let mut options = ReadOptions::default().in_groups(|key| (!is_outbox(key)).then(|| operator_of(key)));
        if change.is_none() {
            // A changed job may need them to make others.
            options = options.unopened(|key| self.names.is_derived(key));
        }
        let sections = self.store.read(manifest, options)?;
        self.progress.read(sections.progress());
        let (clock, workers) = (self.names.clock(&meta), self.engine.workers());
        let mut reading = None;
        let (state, queued, upgraded) = match &change {
            None => {
                let mut expected = Vec::new();
                for key in sections.keys().into_iter().filter(|key| !is_outbox(key)) {
                    expected.extend(self.names.table(key)?);
                }
                let (state, arriving) = Restore::awaiting(expected);
                let (queued, sections, first) = outboxes(sections)?;
                reading = Some((sections, first, arriving));
                (state.as_of(manifest.epoch, read, clock), queued, None)
            }
            Some(change) => {
                let mut tables = Tables::new(self.names, &self.progress, sections, None, Some(change));
                let state = |(operator, tables)| OperatorState { operator, worker: 0, tables };
                let states = tables.by_ref().map(|table| table.map(state)).collect::<Result<_, CheckpointError>>()?;
                let Tables { mut kept, queued, .. } = tables;
                let saved = Checkpoint { epoch: manifest.epoch, states, positions: read, clock };
                let rebuilt = self.rebuild(change, &meta, &saved, &positions, kept.rows()?)?;
                let (positions, clock) = (saved.positions.clone(), saved.clock.clone());
                let last = Checkpoint { epoch: rebuilt.epoch, states: rebuilt.states, positions, clock };
                let mut sections = kept.sections()?;
                sections.extend(self.names.sections(&last));
                for (sink, queued) in &queued {
                    if self.job.sinks.iter().any(|known| known.name == *sink) {
                        sections.extend(fold_sections(&queued[0].key, true, queued)?);
                    }
                }
                tracing::info!(job = self.name, rows = rebuilt.rows, "what was changed is rebuilt");
                let state = Restore::new(&[saved, last], workers, self.names.kept()).expect("there are two");
                (state, queued, Some((sections, rebuilt.sinks, rebuilt.epoch)))
            }
        };
        self.progress.counts(&state.given);
        let upgraded = change.zip(upgraded);
        let upgraded =
            upgraded.map(|(change, (sections, sinks, epoch))| Upgraded { report: change.report, sections, sinks, epoch });
        let known = meta.sources.iter().map(|known| known.name.clone()).collect();
        let outboxes = queued.into_iter().map(|(sink, sections)| Ok((sink, outbox_epochs(&sections)?)));
        let progress = self.progress;
        Ok(Some(Restored {
            state,
            reading: reading.map(|(sections, first, arriving)| Reading { sections, first, arriving, progress }),
            resumed: Resumed { epoch: manifest.epoch, positions, beginnings: Beginnings::Known(known) },
            sources: meta.sources,
            outboxes: outboxes.collect::<Result<_, CheckpointError>>()?,
            epoch: manifest.epoch,
            run: meta.run,
            upgraded,
        }))
    }

    /// How the job differs from what was saved, if it does and may.
    fn change(&self, manifest: &Manifest, meta: &Meta) -> Result<Option<Change>, CheckpointError> {
        if self.names.is_of(meta) {
            return Ok(None);
        }
        let sizes = sizes(self.store, manifest)?;
        let change = Change::new(self.job, self.names, meta, self.registry, &sizes);
        if change.report.is_nothing() {
            return Ok(None);
        }
        let (job, epoch) = (self.name.to_owned(), manifest.epoch);
        if !self.upgrade {
            return Err(CheckpointError::Changed { job, epoch, differences: change.report.differences() });
        }
        match change.report.refused.is_empty() {
            true => Ok(Some(change)),
            false => {
                let why = change.report.moved.into_iter().chain(change.report.refused).collect();
                Err(CheckpointError::Refused { job, epoch, why })
            }
        }
    }

    fn rebuild(
        &self,
        change: &Change,
        meta: &Meta,
        saved: &Checkpoint,
        stood: &BTreeMap<(String, String), Stood>,
        kept: BTreeMap<String, Vec<Delta>>,
    ) -> Result<Rebuilt, CheckpointError> {
        if change.excerpt.nodes.is_empty() && change.excerpt.outputs.is_empty() {
            return Ok(Rebuilt { epoch: saved.epoch, states: Vec::new(), sinks: BTreeMap::new(), rows: 0 });
        }
        let rebuilding = Rebuilding {
            name: self.name,
            job: self.job,
            change,
            engine: self.engine,
            registry: self.registry,
            clock: self.clock,
            until: &saved.clock,
            stood,
            sources: &meta.sources,
            kept,
            progress: &self.progress,
        };
        let rebuilt = rebuilding.run()?;
        Ok(Rebuilt { epoch: rebuilt.epoch.max(saved.epoch), ..rebuilt })
    }
}

/// How large the sections of a checkpoint are; of what is to be published only what has not been.
pub(crate) fn sizes(store: &JobStore, manifest: &Manifest) -> Result<Vec<SectionInfo>, CheckpointError> {
    let mut sizes = store.contents(manifest)?;
    let mut queued: BTreeMap<String, Vec<Section>> = BTreeMap::new();
    for section in store.read(manifest, ReadOptions::default().only(is_outbox))? {
        let section = section?;
        queued.entry(section.key.clone()).or_default().push(section);
    }
    for (key, sections) in queued {
        let bytes: u64 = sizes.iter().filter(|size| size.key == key).map(|size| size.bytes).sum();
        let (all, left) = (sections.iter().map(Section::rows).sum::<u64>(), fold_sections(&key, true, &sections)?);
        let rows = left.iter().map(Section::rows).sum();
        sizes.retain(|size| size.key != key);
        sizes.push(SectionInfo { key, rows, bytes: (bytes * rows).checked_div(all).unwrap_or(0) });
    }
    Ok(sizes)
}

/// Per sink what it has still to publish.
type Queued = BTreeMap<String, Vec<Section>>;

/// Of sections with outboxes before all others, those; besides, the first that is of something else.
fn outboxes(mut sections: Sections) -> Result<(Queued, Sections, Option<Section>), CheckpointError> {
    let mut queued = Queued::new();
    for section in sections.by_ref() {
        let section = section?;
        let Some(sink) = outbox_of(&section) else { return Ok((queued, sections, Some(section))) };
        queued.entry(sink.to_owned()).or_default().push(section);
    }
    Ok((queued, sections, None))
}

/// The tables of a checkpoint, each when all of it is read; what is not of a table is put aside.
struct Tables<'a> {
    names: &'a Names,
    progress: &'a RestoreProgress<'a>,
    sections: Sections,
    /// A section that was read before those.
    first: Option<Section>,
    change: Option<&'a Change>,
    kept: Kept,
    queued: Queued,
    /// The table that is being read, and its sections' key.
    open: Option<(String, OperatorId, Vec<TableState>)>,
}

impl<'a> Tables<'a> {
    fn new(
        names: &'a Names,
        progress: &'a RestoreProgress<'a>,
        sections: Sections,
        first: Option<Section>,
        change: Option<&'a Change>,
    ) -> Self {
        let (kept, queued) = (Kept::new(change), Queued::new());
        Tables { names, progress, sections, first, change, kept, queued, open: None }
    }

    /// A part of a table that is wanted, if the section is one.
    fn part(&mut self, section: Section) -> Result<Option<(String, OperatorState)>, CheckpointError> {
        let section = self.names.adapted(section)?;
        self.kept.look(&section);
        if let Some(sink) = outbox_of(&section) {
            let sink = sink.to_owned();
            self.queued.entry(sink).or_default().push(section);
            return Ok(None);
        }
        let state = self.names.state(&section)?.filter(|state| self.change.is_none_or(|change| !change.is_missing(state)));
        Ok(state.map(|state| {
            let key = section.key.clone();
            self.kept.reuse(section);
            (key, state)
        }))
    }
}

impl Iterator for Tables<'_> {
    type Item = Result<(OperatorId, Vec<TableState>), CheckpointError>;

    fn next(&mut self) -> Option<Self::Item> {
        while let Some(section) = self.first.take().map(Ok).or_else(|| self.sections.next()) {
            self.progress.read(self.sections.progress());
            let part = section.map_err(CheckpointError::from).and_then(|section| self.part(section));
            let (key, state) = match part {
                Ok(Some(part)) => part,
                Ok(None) => continue,
                Err(error) => return Some(Err(error)),
            };
            match &mut self.open {
                Some((open, _, changes)) if *open == key => changes.extend(state.tables),
                open => {
                    if let Some((_, operator, changes)) = open.replace((key, state.operator, state.tables)) {
                        return Some(Ok((operator, changes)));
                    }
                }
            }
        }
        // The last of what is read may be what nobody needs.
        self.progress.read(self.sections.progress());
        self.open.take().map(|(_, operator, changes)| Ok((operator, changes)))
    }
}

/// Sections that a change of the job needs once more; none if it was not changed.
struct Kept {
    changes: bool,
    reused: BTreeMap<String, Vec<Section>>,
    /// Those of which rows are made that are missing.
    origins: BTreeMap<String, Vec<Section>>,
}

impl Kept {
    fn new(change: Option<&Change>) -> Self {
        let tables = change.iter().flat_map(|change| change.sources.values()).filter_map(|origin| match origin {
            Origin::Table(key) => Some(key),
            Origin::Again => None,
        });
        let wanted: BTreeSet<&String> = change.iter().flat_map(|change| &change.given).chain(tables).collect();
        let origins = wanted.into_iter().map(|key| (key.clone(), Vec::new())).collect();
        Kept { changes: change.is_some(), reused: BTreeMap::new(), origins }
    }

    fn look(&mut self, section: &Section) {
        if let Some(sections) = self.origins.get_mut(&section.key) {
            sections.push(section.clone());
        }
    }

    fn reuse(&mut self, section: Section) {
        if self.changes {
            self.reused.entry(section.key.clone()).or_default().push(section);
        }
    }

    fn rows(&mut self) -> Result<BTreeMap<String, Vec<Delta>>, CheckpointError> {
        let origins = std::mem::take(&mut self.origins);
        origins.into_iter().map(|(key, sections)| Ok((key.clone(), rows_of_table(&key, &sections)?))).collect()
    }

    fn sections(self) -> Result<Vec<Section>, CheckpointError> {
        let folded = self.reused.iter().map(|(key, sections)| fold_sections(key, true, sections));
        Ok(folded.collect::<Result<Vec<_>, _>>()?.concat())
    }
}

impl Change {
    fn is_missing(&self, state: &OperatorState) -> bool {
        self.missing.contains(&(state.operator.node, state.operator.name.clone()))
    }
}
