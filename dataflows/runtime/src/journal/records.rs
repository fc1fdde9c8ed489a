//! Recorded epochs as they are kept: sources go by their names.

use std::collections::BTreeSet;

use highwater_engine::{Clock, EpochRecord, Positions, Time};
use highwater_plan::Job;
use serde::{Deserialize, Serialize};

/// Epochs that one flush made durable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Group {
    /// The epoch that the first of them came after; what was recorded after that before did not happen.
    pub(super) after: Time,
    /// Told by the first group of a start of the job: its sources and their partitions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) partitions: Option<Vec<(String, String)>>,
    pub(super) epochs: Vec<Kept>,
}

/// An [`EpochRecord`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    #[serde(rename = "e")]
    epoch: Time,
    /// Source, partition, position.
    #[serde(rename = "r", default, skip_serializing_if = "Vec::is_empty")]
    read: Vec<(String, String, String)>,
    /// [`Clock`].
    #[serde(rename = "w", default, skip_serializing_if = "Option::is_none")]
    clock: Option<KeptClock>,
    #[serde(rename = "l", default, skip_serializing_if = "std::ops::Not::not")]
    last: bool,
}

/// Watermarks, and since when sources are idle.
type KeptClock = (Vec<i64>, Vec<Option<(Time, i64)>>);

impl Kept {
    /// `sources`: their names.
    pub(super) fn new(record: &EpochRecord, sources: &[String]) -> Kept {
        let read = record.read.iter().map(|((source, partition), position)| {
            let name = sources.get(*source).cloned().unwrap_or_default();
            (name, partition.clone(), position.clone())
        });
        let clock = record.clock.as_ref().map(|clock| (clock.watermarks.clone(), clock.idle_since.clone()));
        Kept { epoch: record.epoch, read: read.collect(), clock, last: record.last }
    }

    pub(super) fn epoch(&self) -> Time {
        self.epoch
    }

    fn record(&self, job: &Job) -> EpochRecord {
        let place = |name: &str| job.sources.iter().position(|source| source.name == name);
        let read = self.read.iter().filter_map(|(source, partition, position)| {
            let source = place(source)?;
            Some(((source, partition.clone()), position.clone()))
        });
        let clock = self.clock.clone().map(|(watermarks, idle_since)| Clock { watermarks, idle_since });
        EpochRecord { epoch: self.epoch, read: read.collect::<Positions>(), clock, last: self.last }
    }
}

/// What is recorded of a run, without a gap.
#[derive(Debug, Default)]
pub(crate) struct Recorded {
    /// The epoch that they come after; 0: the job began with the first of them. Earlier ones may have been left out.
    after: Time,
    epochs: Vec<Kept>,
    /// Sources and partitions that there were.
    partitions: BTreeSet<(String, String)>,
}

impl Recorded {
    /// The next group. Epochs up to `from` are not kept here.
    pub(super) fn push(&mut self, group: Group, from: Time) {
        let Group { after, partitions, epochs } = group;
        while self.epochs.last().is_some_and(|last| last.epoch > after) {
            self.epochs.pop();
        }
        if self.last() != after {
            // Epochs between were not recorded.
            self.epochs.clear();
            self.after = after;
        }
        self.partitions.extend(partitions.into_iter().flatten());
        self.epochs.extend(epochs);
        let old = self.epochs.iter().take_while(|kept| kept.epoch <= from).count();
        if let Some(last) = old.checked_sub(1) {
            self.after = self.epochs[last].epoch;
            self.epochs.drain(..old);
        }
    }

    /// The last epoch; 0 if there is none.
    pub(crate) fn last(&self) -> Time {
        self.epochs.last().map_or(self.after, Kept::epoch)
    }

    /// The first and the last.
    pub(crate) fn bounds(&self) -> Option<(Time, Time)> {
        Some((self.epochs.first()?.epoch, self.epochs.last()?.epoch))
    }

    /// Whether what comes after the state as of an epoch is here, as far as it was recorded.
    pub(crate) fn has_state_of(&self, epoch: Time) -> bool {
        self.after == epoch || self.epochs.iter().any(|kept| kept.epoch == epoch)
    }

    /// What came after `after`, up to `through`.
    pub(crate) fn script(&self, job: &Job, after: Time, through: Time) -> Vec<EpochRecord> {
        let wanted = self.epochs.iter().filter(|kept| kept.epoch > after && kept.epoch <= through);
        wanted.map(|kept| kept.record(job)).collect()
    }

    /// Sources and partitions that there were.
    pub(crate) fn partitions(&self) -> impl Iterator<Item = &(String, String)> {
        self.partitions.iter()
    }
}
