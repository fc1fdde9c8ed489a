//! `FOR SYSTEM_TIME AS OF` event time: each left row beside the version that is valid at its time.
//!
//! A key's versions are kept in order of their times. Left rows wait until the watermark has passed their time: then no
//! version can come that they would have to see, they are given, and that is final. Of the versions that the watermark has
//! passed only the last of each key can still be asked for.

mod saved;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::{Array, AsArray};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::DataType;
use arrow_row::{RowConverter, SortField};
use highwater_plan::Micros;

pub(crate) use self::saved::Log;
use super::couples::{Couples, Pairs};
use crate::checkpoint::{Keeps, Saved};
use crate::keys::{ABSENT, Keys};
use crate::operator::epoch::EpochLogic;
use crate::operator::late::Watermark;
use crate::operator::sides::{Errors, LateRows, Missed};
use crate::operator::window::NULL_TIME;
use crate::stats::{JobStats, OperatorStats};
use crate::{Delta, Time};

/// No row: from here on the key has none.
const GONE: u32 = u32::MAX;

/// A join with the versions of a table.
pub(crate) struct Versioned {
    pub(crate) couples: Couples,
    /// The event time per side; the left one's lateness is judged before this.
    pub(crate) times: [usize; 2],
    /// A right column of booleans: whether the row is a version, or the end of one.
    pub(crate) valid: Option<usize>,
    /// Of rows with one key and one time the first in their order counts, not the one that comes last.
    pub(crate) first_of_equal: bool,
    pub(crate) watermark: Watermark,
    pub(crate) errors: Errors,
    pub(crate) late: LateRows,
    pub(crate) stats: Arc<OperatorStats>,
    pub(crate) job: Arc<JobStats>,
    pub(crate) versions: Versions,
    /// Left rows that wait, by their batch's smallest time.
    pub(crate) waiting: BTreeMap<i64, Vec<Waiting>>,
    pub(crate) waiting_rows: usize,
    /// What changed since the last checkpoint, if that is to be in the next one.
    pub(crate) log: Option<Log>,
}

/// A batch of left rows, and their largest time.
pub(crate) struct Waiting {
    delta: Delta,
    last: i64,
}

/// A row that sets a version.
struct Came {
    time: i64,
    key: u32,
    /// It is a version, not the end of one.
    exists: bool,
    batch: usize,
    row: usize,
}

/// What became of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Set {
    Done,
    /// Another of its time counts.
    Stays,
    /// Nobody can ask for it, as all times before some are over.
    TooLate,
}

/// The versions of all keys.
pub(crate) struct Versions {
    keys: Keys,
    /// Per key its versions, by time.
    of: Vec<VecDeque<(i64, u32)>>,
    converter: RowConverter,
    rows: Vec<Box<[u8]>>,
    free: Vec<u32>,
    bytes: usize,
    count: usize,
    /// Keys that get a version at a time that the watermark has not passed yet.
    agenda: BTreeMap<i64, Vec<u32>>,
    kept_types: Vec<DataType>,
}

impl Versions {
    pub(crate) fn new(couples: &Couples) -> Self {
        let fields = couples.kept_types[1].iter().map(|data_type| SortField::new(data_type.clone())).collect();
        Versions {
            keys: Keys::new(&couples.types),
            of: Vec::new(),
            converter: RowConverter::new(fields).expect("planners allow only columns that can be encoded"),
            rows: Vec::new(),
            free: Vec::new(),
            bytes: 0,
            count: 0,
            agenda: BTreeMap::new(),
            kept_types: couples.kept_types[1].clone(),
        }
    }

    /// Sets the version of a key from `time` on.
    fn set(&mut self, key: u32, time: i64, row: Option<&[u8]>, passed: i64, first_of_equal: bool) -> Set {
        let versions = &mut self.of[key as usize];
        let place = versions.partition_point(|(from, _)| *from < time);
        let same = versions.get(place).is_some_and(|(from, _)| *from == time);
        let next = versions.get(place + usize::from(same));
        if next.is_some_and(|(from, _)| *from <= passed) {
            return Set::TooLate;
        }
        if same && first_of_equal {
            let there = versions[place].1;
            let stays = match row {
                None => true,
                Some(row) => there != GONE && &*self.rows[there as usize] <= row,
            };
            if stays {
                return Set::Stays;
            }
        }
        let versions = &mut self.of[key as usize];
        if same {
            let old = std::mem::replace(&mut versions[place].1, GONE);
            self.release(old);
            if row.is_none() && time <= passed {
                self.agenda.entry(time).or_default().push(key);
            }
        } else {
            versions.insert(place, (time, GONE));
            self.count += 1;
            self.agenda.entry(time).or_default().push(key);
        }
        if let Some(row) = row {
            self.bytes += row.len() + 40;
            let slot = match self.free.pop() {
                Some(slot) => {
                    self.rows[slot as usize] = Box::from(row);
                    slot
                }
                None => {
                    self.rows.push(Box::from(row));
                    self.rows.len() as u32 - 1
                }
            };
            self.of[key as usize][place].1 = slot;
        }
        Set::Done
    }

    fn release(&mut self, slot: u32) {
        if slot != GONE {
            self.bytes -= self.rows[slot as usize].len() + 40;
            self.rows[slot as usize] = Box::from([]);
            self.free.push(slot);
        }
    }

    /// The row of a key at a time.
    fn at(&self, key: u32, time: i64) -> u32 {
        if key == ABSENT {
            return GONE;
        }
        let versions = &self.of[key as usize];
        let place = versions.partition_point(|(from, _)| *from <= time);
        if place == 0 { GONE } else { versions[place - 1].1 }
    }

    /// Frees what no row at or after `passed` can ask for; `gone` takes its keys and times.
    fn forget(&mut self, passed: i64, mut gone: Option<&mut Log>) {
        let mut without = Vec::new();
        let mut dropped: Vec<(u32, i64)> = Vec::new();
        while let Some(next) = self.agenda.first_entry() {
            if *next.key() > passed {
                break;
            }
            for key in next.remove() {
                // A key that is gone already may be named by more than one of its versions.
                while self.of[key as usize].get(1).is_some_and(|(from, _)| *from <= passed) {
                    dropped.extend(self.drop_first(key).map(|time| (key, time)));
                }
                if let Some((from, GONE)) = self.of[key as usize].front()
                    && *from <= passed
                {
                    dropped.extend(self.drop_first(key).map(|time| (key, time)));
                    if self.of[key as usize].is_empty() {
                        without.push(key);
                    }
                }
            }
        }
        if let Some(log) = gone.take_if(|_| !dropped.is_empty()) {
            log.dropped(self, &dropped);
        }
        without.into_iter().for_each(|key| self.keys.remove(key));
    }

    /// Gives the time of what it drops.
    fn drop_first(&mut self, key: u32) -> Option<i64> {
        let (time, slot) = self.of[key as usize].pop_front()?;
        self.count -= 1;
        self.release(slot);
        Some(time)
    }
}

impl Versioned {
    fn take_right(&mut self, epoch: Time, deltas: &[Delta]) {
        let passed = self.watermark.current;
        let mut came: Vec<Came> = Vec::new();
        let (mut bytes, mut touched) = (Vec::new(), Vec::new());
        for (batch, delta) in deltas.iter().enumerate() {
            let times = Micros::new(delta.rows.column(self.times[1])).expect("planners compare timestamps");
            let kept = delta.columns(&self.couples.kept[1]);
            let versions = &mut self.versions;
            bytes.push((!kept.is_empty()).then(|| versions.converter.convert_columns(&kept).expect("the right columns")));
            let mut numbers = Vec::new();
            versions.keys.intern(&delta.columns(&self.couples.on[1]), delta.len(), &mut numbers);
            versions.of.resize_with(versions.keys.bound(), VecDeque::new);
            let valid = self.valid.map(|column| delta.rows.column(column).as_boolean());
            let (without_time, with_time): (Vec<usize>, Vec<usize>) = (0..delta.len()).partition(|row| times.is_null(*row));
            came.extend(with_time.into_iter().map(|row| Came {
                time: times.value(row),
                key: numbers[row],
                exists: delta.diff(row) > 0 && valid.is_none_or(|valid| valid.is_valid(row) && valid.value(row)),
                batch,
                row,
            }));
            touched.append(&mut numbers);
            if !without_time.is_empty() {
                let without_time: Vec<u32> = without_time.into_iter().map(|row| row as u32).collect();
                self.stats.error_rows.fetch_add(without_time.len() as u64, Ordering::Relaxed);
                self.errors.report(epoch, &as_it_came(delta), &without_time, NULL_TIME, None);
            }
        }
        if self.first_of_equal {
            // A table's rows come in the order of its log. A stream's have none: what is late must not hang on it.
            came.sort_by_key(|row| row.time);
        }
        let mut missed: Vec<Vec<Missed>> = deltas.iter().map(|_| Vec::new()).collect();
        let mut set = Vec::new();
        for Came { time, key, exists, batch, row } in &came {
            let bytes = bytes[*batch].as_ref().map_or(&[][..], |encoded| encoded.row(*row).data());
            match self.versions.set(*key, *time, exists.then_some(bytes), passed, self.first_of_equal) {
                Set::TooLate => {
                    missed[*batch].push(Missed { row: *row as u32, from: *time, to: time.saturating_add(1), windows: 1 });
                }
                Set::Done => set.push((*batch, *row, *time, *exists)),
                Set::Stays => {}
            }
        }
        if let Some(log) = &mut self.log {
            log.set(&self.couples, deltas, &set);
        }
        // Keys that got no version, because all their rows were refused or have no time.
        touched.sort_unstable();
        touched.dedup();
        touched.retain(|key| self.versions.of[*key as usize].is_empty());
        touched.iter().for_each(|key| self.versions.keys.remove(*key));
        for (delta, missed) in deltas.iter().zip(missed).filter(|(_, missed)| !missed.is_empty()) {
            let source = self.late.keep(epoch, &as_it_came(delta), &missed, passed);
            self.stats.late_rows.fetch_add(missed.len() as u64, Ordering::Relaxed);
            self.job.sources[source].late_rows.fetch_add(missed.len() as u64, Ordering::Relaxed);
        }
    }

    fn wait(&mut self, delta: Delta) {
        let times = Micros::new(delta.rows.column(self.times[0])).expect("planners compare timestamps");
        let all = || (0..times.len()).map(|row| times.value(row));
        let (Some(first), Some(last)) = (all().min(), all().max()) else { return };
        self.waiting_rows += delta.len();
        self.waiting.entry(first).or_default().push(Waiting { delta, last });
    }

    /// Gives the rows that the watermark has passed.
    fn give(&mut self, epoch: Time, output: &mut Vec<Delta>) {
        let passed = self.watermark.current;
        let mut later = Vec::new();
        while let Some(next) = self.waiting.first_entry() {
            if *next.key() >= passed {
                break;
            }
            for Waiting { mut delta, last } in next.remove() {
                self.waiting_rows -= delta.len();
                if last >= passed {
                    let times = Micros::new(delta.rows.column(self.times[0])).expect("planners compare timestamps");
                    let ready = BooleanBuffer::collect_bool(delta.len(), |row| times.value(row) < passed);
                    later.push(delta.filter(&!&ready));
                    delta = delta.filter(&ready);
                }
                self.give_batch(epoch, &delta, output);
            }
        }
        later.into_iter().for_each(|delta| self.wait(delta));
    }

    fn give_batch(&self, epoch: Time, delta: &Delta, output: &mut Vec<Delta>) {
        let (couples, versions) = (&self.couples, &self.versions);
        let times = Micros::new(delta.rows.column(self.times[0])).expect("planners compare timestamps");
        let mut numbers = Vec::new();
        versions.keys.find(&delta.columns(&couples.on[0]), delta.len(), &mut numbers);
        if let Some(comparable) = couples.comparable(delta, 0) {
            // NULL keys match nothing, although rows of a stream may have versions under them.
            let absent = |(row, number): (usize, &mut u32)| {
                if !comparable.value(row) {
                    *number = ABSENT;
                }
            };
            numbers.iter_mut().enumerate().for_each(absent);
        }
        let (mut groups, mut slots) = (Vec::new(), Vec::new());
        for (row, key) in numbers.iter().enumerate() {
            let slot = versions.at(*key, times.value(row));
            if slot != GONE {
                groups.push(row as u32);
                slots.push(slot);
            }
        }
        let left = delta.columns(&couples.kept[0]);
        let mut matched = vec![false; delta.len()];
        let diffs = delta.diff_values().map(|diffs| groups.iter().map(|row| diffs[*row as usize]).collect());
        let right = match couples.kept[1].is_empty() {
            true => Vec::new(),
            false => {
                let parser = versions.converter.parser();
                let rows = slots.iter().map(|slot| parser.parse(&versions.rows[*slot as usize]));
                versions.converter.convert_rows(rows).expect("the bytes came from this converter")
            }
        };
        couples.pairs(epoch, &left, Pairs { groups, right, diffs }, &mut matched, output);
        couples.unmatched(epoch, &left, &matched, delta.diff_values(), output);
    }
}

/// The end of a version is a row that came, like its begin: refused, it is one row more that was.
fn as_it_came(delta: &Delta) -> Delta {
    Delta { diffs: None, ..delta.clone() }
}

impl EpochLogic for Versioned {
    fn keeps(&self) -> Keeps {
        Keeps::Own
    }

    fn log(&mut self) {
        self.log = Some(Log::default());
    }

    fn save(&mut self, saved: &mut Saved) {
        if let Some(log) = &mut self.log {
            log.save(&self.couples, self.times[0], self.watermark.current, saved);
        }
    }

    fn load(&mut self, _epoch: Time, tables: &mut [Vec<Delta>]) {
        std::mem::take(&mut tables[0]).into_iter().for_each(|delta| self.wait(delta));
        tables[1].iter().for_each(|delta| self.versions.load(delta));
    }

    /// What the watermark has passed was given.
    fn resume(&mut self, _epoch: Time, _inputs: usize, watermarks: &[i64]) {
        self.watermark.advance(Some(watermarks));
        self.versions.forget(self.watermark.current, None);
    }

    fn apply(&mut self, epoch: Time, inputs: &mut [Vec<Delta>], watermarks: Option<&[i64]>, output: &mut Vec<Delta>) {
        let right = std::mem::take(&mut inputs[1]);
        self.take_right(epoch, &right);
        for delta in std::mem::take(&mut inputs[0]) {
            let delta = match self.couples.comparable(&delta, 0).filter(|_| !self.couples.outer) {
                // NULL keys match nothing: an inner join need not wait with them.
                Some(comparable) => delta.filter(&comparable),
                None => delta,
            };
            if let Some(log) = &mut self.log {
                log.waits(&delta);
            }
            self.wait(delta);
        }
        let before = self.watermark.current;
        self.watermark.advance(watermarks);
        if self.watermark.current > before {
            self.give(epoch, output);
        }
        // The end of a key may come when the watermark has passed its time already: how long it is known must not hang on
        // when the watermark moves again.
        self.versions.forget(self.watermark.current, self.log.as_mut());
    }

    fn state(&self) -> (usize, usize) {
        let versions = &self.versions;
        let waiting: usize = self.waiting.values().flatten().map(|waiting| waiting.delta.rows.get_array_memory_size()).sum();
        let bytes = versions.keys.bytes() + versions.bytes + versions.count * 16 + waiting;
        (self.waiting_rows + versions.count, bytes)
    }
}
