//! Recorded epochs as they are kept: sources go by their names.

use std::collections::BTreeSet;
use std::sync::Arc;

use highwater_engine::{Clock, EpochRecord, Positions, Time};
use highwater_plan::Job;
use serde::{Deserialize, Serialize};

/// Epochs that one flush made durable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Group {
    /// The epoch that the first of them came after; what was recorded after that before did not happen.
    pub(super) after: Time,
    /// The names of the job's sources then, in the order in which their watermarks stand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) sources: Vec<String>,
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
    /// [`Group::sources`].
    #[serde(skip)]
    sources: Arc<Vec<String>>,
}

/// Watermarks, and since when sources are idle.
type KeptClock = (Vec<i64>, Vec<Option<(Time, i64)>>);

impl Kept {
    /// `sources`: their names.
    pub(super) fn new(record: &EpochRecord, sources: &Arc<Vec<String>>) -> Kept {
        let read = record.read.iter().map(|((source, partition), position)| {
            let name = sources.get(*source).cloned().unwrap_or_default();
            (name, partition.clone(), position.clone())
        });
        let clock = record.clock.as_ref().map(|clock| (clock.watermarks.clone(), clock.idle_since.clone()));
        Kept { epoch: record.epoch, read: read.collect(), clock, last: record.last, sources: Arc::clone(sources) }
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
        let clock = self.clock.as_ref().map(|clock| self.clock(job, clock));
        EpochRecord { epoch: self.epoch, read: read.collect::<Positions>(), clock, last: self.last }
    }
}

impl Kept {
    /// What was known of time, for the job's sources as they stand now: nothing of those that were not there.
    fn clock(&self, job: &Job, (watermarks, idle_since): &KeptClock) -> Clock {
        let place = |name: &String| self.sources.iter().position(|source| source == name);
        let of = |name: &String| place(name).and_then(|place| watermarks.get(place)).copied().unwrap_or(i64::MIN);
        let idle = |name: &String| place(name).and_then(|place| *idle_since.get(place)?);
        let names = || job.sources.iter().map(|source| &source.name);
        // That of processing time comes after those of the sources.
        let processing = watermarks.get(self.sources.len()..).unwrap_or_default();
        let watermarks = names().map(of).chain(processing.iter().copied()).collect();
        Clock { watermarks, idle_since: names().map(idle).collect() }
    }

    pub(super) fn sources(&self) -> &Arc<Vec<String>> {
        &self.sources
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
        let Group { after, sources, partitions, mut epochs } = group;
        let sources = Arc::new(sources);
        epochs.iter_mut().for_each(|kept| kept.sources = Arc::clone(&sources));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::connector::job;

    #[test]
    fn what_was_known_of_time_goes_to_the_sources_it_was_known_of() {
        let record = EpochRecord {
            epoch: 4,
            clock: Some(Clock { watermarks: vec![5, 7, 9], idle_since: vec![None, Some((1, 2))] }),
            ..EpochRecord::default()
        };
        let mut recorded = Recorded::default();
        let kept = |names: &[&str]| Kept::new(&record, &Arc::new(names.iter().map(|name| (*name).to_owned()).collect()));
        for (names, watermark, idle) in
            [(["other", "s"], 7, Some((1, 2))), (["s", "other"], 5, None), (["a", "b"], i64::MIN, None)]
        {
            let kept = kept(&names);
            let group = Group { after: 0, sources: kept.sources.to_vec(), partitions: None, epochs: vec![kept] };
            let read: Group = serde_json::from_str(&serde_json::to_string(&group).unwrap()).unwrap();
            recorded.push(read, 0);
            let clock = recorded.script(&job("s", "v", None, &[]), 0, 4).remove(0).clock.unwrap();
            // Whatever was in front of the source or behind it then; the last is processing time.
            assert_eq!((clock.watermarks, clock.idle_since), (vec![watermark, 9], vec![idle]), "{names:?}");
        }
    }
}
