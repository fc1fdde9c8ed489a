//! Reads a job's newest checkpoint back.

use std::collections::BTreeMap;

use highwater_connectors::sink::EpochChanges;
use highwater_engine::{Checkpoint, Restore, Time};
use highwater_plan::Job;
use highwater_store::{JobStore, Manifest, ReadOptions, Section};

use super::CheckpointError;
use super::record::{Meta, Names, outbox_epochs, outbox_of};
use crate::ingest::Stood;
use crate::open::Resumed;

/// What a job goes on from.
pub(crate) struct Restored {
    /// For the engine.
    pub(crate) state: Restore,
    /// For its sources.
    pub(crate) resumed: Resumed,
    /// Per sink, by its name, what was still to be published.
    pub(crate) outboxes: BTreeMap<String, Vec<EpochChanges>>,
    /// The checkpoint's epoch.
    pub(crate) epoch: Time,
    /// What the checkpoint belongs to.
    pub(crate) run: Option<String>,
}

/// Reads the state that `manifest` names, for a job on so many workers; `None` if that job was dropped.
pub(crate) fn restore(
    store: &JobStore,
    manifest: &Manifest,
    job: &Job,
    names: &Names,
    name: &str,
    workers: usize,
) -> Result<Option<Restored>, CheckpointError> {
    let Some(meta) = Meta::read(manifest)? else { return Ok(None) };
    let differences = names.differs_from(&meta);
    if !differences.is_empty() {
        return Err(CheckpointError::Changed { job: name.to_owned(), epoch: manifest.epoch, differences });
    }
    let mut positions = BTreeMap::new();
    let mut read = BTreeMap::new();
    for known in &meta.partitions {
        let stood: Stood = known.position.parse().map_err(|error| CheckpointError::Unreadable(format!("{error}")))?;
        positions.insert((known.source.clone(), known.partition.clone()), stood);
        if let Some(source) = job.sources.iter().position(|source| source.name == known.source) {
            read.insert((source, known.partition.clone()), known.position.clone());
        }
    }
    let mut states = Vec::new();
    let mut queued: BTreeMap<String, Vec<Section>> = BTreeMap::new();
    for section in store.read(manifest, ReadOptions::default())? {
        let section = section?;
        match outbox_of(&section) {
            Some(sink) => queued.entry(sink.to_owned()).or_default().push(section),
            None => states.extend(names.state(&section)?),
        }
    }
    let checkpoint = Checkpoint { epoch: manifest.epoch, states, positions: read, clock: names.clock(&meta) };
    let outboxes = queued.into_iter().map(|(sink, sections)| Ok((sink, outbox_epochs(&sections)?)));
    Ok(Some(Restored {
        state: Restore::new(&[checkpoint], workers).expect("there is one"),
        resumed: Resumed { epoch: manifest.epoch, positions },
        outboxes: outboxes.collect::<Result<_, CheckpointError>>()?,
        epoch: manifest.epoch,
        run: meta.run,
    }))
}
