//! Partitions with their rows in order, and which of them are within the bounds.
//!
//! The rows that count are a stretch of a partition's list. A change behind the stretch is only kept; a change before its
//! end makes an old stretch that is compared with the new one when the epoch has been applied, so that rows which stay cost
//! no output. Over a growing input a row behind the stretch can never count: it is dropped, by its order columns alone if
//! they tell.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, UInt32Array};
use arrow::datatypes::{DataType, SchemaRef};
use highwater_plan::{Ranking, TopN};

use crate::keys::Keys;
use crate::operator::lives::Lives;
use crate::operator::ordered::{Encoded, Layout, List, RowKey, RowLog, Rows};
use crate::{Delta, Diff, Time};

/// Changes of the rows that count: retracted and added rows with their numbers (0 if those are not asked for).
#[derive(Default)]
pub(super) struct Changes {
    pub(super) columns: Vec<ArrayRef>,
    pub(super) numbers: Vec<i64>,
    pub(super) diffs: Vec<Diff>,
}

/// Partitions of one window, or all.
pub(super) struct Table {
    spec: Arc<TopN>,
    layout: Arc<Layout>,
    growing: bool,
    keys: Keys,
    partitions: Vec<Partition>,
    rows: Rows,
    /// Rows that were retracted before they came, by partition and bytes.
    owed: HashMap<(u32, Box<[u8]>), Diff>,
    touched: Vec<Touched>,
    /// Partitions that may have become empty.
    shrunk: Vec<u32>,
    /// Its final result was given.
    pub(super) given: bool,
    /// With `state_ttl`: when each partition was touched last.
    pub(super) lives: Option<Lives>,
    /// What changed since the last checkpoint, if that is to be in the next one.
    pub(super) log: Option<RowLog>,
}

#[derive(Default)]
struct Partition {
    list: List,
    /// Where the rows that count end, as of the epoch's begin.
    end: u32,
    /// Whether more rows would not move the end back.
    full: bool,
    /// Different order values; only kept for growing inputs and DENSE_RANK.
    groups: u32,
    /// Whether its old rows are noted in this epoch.
    touched: bool,
    /// Kinds of rows owed.
    owed: u32,
}

/// A partition that changes in this epoch, with the rows that counted before.
struct Touched {
    partition: u32,
    old: Vec<Counted>,
}

/// A row that counts and its number.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Counted {
    row: u32,
    number: i64,
}

impl Table {
    pub(super) fn new(spec: Arc<TopN>, layout: Arc<Layout>, key_types: &[DataType], growing: bool, lives: Option<Lives>) -> Self {
        Table {
            rows: Rows::new(Arc::clone(&layout)),
            spec,
            layout,
            growing,
            keys: Keys::new(key_types),
            partitions: Vec::new(),
            owed: HashMap::new(),
            touched: Vec::new(),
            shrunk: Vec::new(),
            given: false,
            lives,
            log: None,
        }
    }

    /// From here on it is remembered what changes; `schema`: of the input.
    pub(super) fn log(&mut self, schema: &SchemaRef) {
        self.log = Some(RowLog::new(Arc::clone(schema)));
        self.lives.iter_mut().for_each(Lives::log);
    }

    /// Takes back when partitions were touched, whose rows were loaded.
    pub(super) fn load_lives(&mut self, epoch: Time, touched: &[Delta]) {
        if let Some(lives) = &mut self.lives {
            lives.load(epoch, touched, &self.keys);
        }
    }

    /// Goes on to an epoch: forgets partitions that have expired by then.
    pub(super) fn begin(&mut self, epoch: Time) {
        let Some(lives) = &mut self.lives else { return };
        let expired = lives.begin(epoch, &self.keys);
        for number in &expired {
            let rows = self.partitions[*number as usize].list.truncate(0);
            lives.ttl.expired(rows.len());
            for row in rows {
                if let Some(log) = &mut self.log {
                    log.add(*number, row, -1);
                }
                self.rows.drop(row);
            }
            self.partitions[*number as usize] = Partition::default();
        }
        if let Some(log) = &mut self.log {
            log.note(&self.rows, &self.keys);
        }
        expired.into_iter().for_each(|number| self.keys.remove(number));
        self.rows.sweep();
    }

    /// How many rows it keeps.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// About how many bytes it takes.
    pub(super) fn bytes(&self) -> usize {
        let partitions: usize = self.partitions.iter().map(|partition| partition.list.bytes()).sum();
        let owed: usize = self.owed.keys().map(|(_, row)| row.len() + 48).sum();
        self.keys.bytes() + self.partitions.capacity() * size_of::<Partition>() + partitions + self.rows.bytes() + owed
    }

    /// Applies rows without looking at what changes.
    pub(super) fn accumulate(&mut self, deltas: &[Delta]) {
        self.change(deltas, false);
        self.finish(None);
    }

    /// Applies rows and gives what changed.
    pub(super) fn apply(&mut self, deltas: &[Delta]) -> Changes {
        self.change(deltas, true);
        let mut changes = Listed::default();
        for Touched { partition, old } in std::mem::take(&mut self.touched) {
            let new = self.counted(partition);
            self.difference(partition, &old, &new, &mut changes);
            self.partitions[partition as usize].touched = false;
        }
        self.finish(Some(changes))
    }

    /// All rows that count.
    pub(super) fn results(&self) -> Changes {
        let mut all = Listed::default();
        for partition in self.keys.numbers() {
            for counted in self.counted(partition) {
                all.add(partition, counted, 1);
            }
        }
        self.gathered(&all)
    }

    fn change(&mut self, deltas: &[Delta], noted: bool) {
        let mut numbers = Vec::new();
        for delta in deltas {
            self.keys.intern(&delta.columns(&self.spec.partition), delta.len(), &mut numbers);
            if self.partitions.len() < self.keys.bound() {
                self.partitions.resize_with(self.keys.bound(), Partition::default);
            }
            if let Some(lives) = &mut self.lives {
                lives.touch(&numbers);
            }
            if self.growing {
                self.grow(delta, &numbers, noted);
                continue;
            }
            let encoded = self.layout.encode(delta);
            for (row, partition) in numbers.iter().enumerate() {
                match delta.diff(row) {
                    0 => self.shrunk.push(*partition),
                    diff => self.add(*partition, encoded.key(row), diff, noted),
                }
            }
        }
    }

    /// Applies rows of an input that never retracts.
    fn grow(&mut self, delta: &Delta, numbers: &[u32], noted: bool) {
        let order = self.layout.encode_order(delta);
        let candidate = |row: usize| self.may_count(numbers[row], &order, row);
        let candidates: Vec<u32> = (0..delta.len()).filter(|row| candidate(*row)).map(|row| row as u32).collect();
        if candidates.is_empty() {
            return;
        }
        let whole = candidates.len() == delta.len();
        let taken = if whole { delta.clone() } else { delta.take(&UInt32Array::from(candidates.clone())) };
        let encoded = self.layout.encode(&taken);
        for (row, candidate) in candidates.iter().enumerate() {
            let partition = numbers[*candidate as usize];
            debug_assert!(taken.diff(row) > 0, "a growing input has no retractions");
            let copies = u64::try_from(taken.diff(row)).unwrap_or(0);
            // Copies have one rank: of it there may be any number.
            let copies = if self.spec.ranking == Ranking::RowNumber { copies.min(self.spec.last) } else { copies };
            if copies == 0 {
                self.shrunk.push(partition);
            }
            for _ in 0..copies {
                if !self.may_count(partition, &encoded, row) {
                    break;
                }
                self.add(partition, encoded.key(row), 1, noted);
                self.evict(partition);
            }
        }
    }

    /// Whether a row of a growing input can count, going by what is known of it.
    fn may_count(&self, partition: u32, encoded: &Encoded, row: usize) -> bool {
        let Partition { list, groups, .. } = &self.partitions[partition as usize];
        let kept = if self.spec.ranking == Ranking::DenseRank { u64::from(*groups) } else { list.len() as u64 };
        kept < self.spec.last || (!list.is_empty() && encoded.key(row).order <= self.rows.key(list.get(list.len() - 1)).order)
    }

    /// Drops the rows of a growing partition that can no more count.
    fn evict(&mut self, partition: u32) {
        let Partition { list, groups, .. } = &mut self.partitions[partition as usize];
        let last = usize::try_from(self.spec.last).unwrap_or(usize::MAX);
        let length = match self.spec.ranking {
            Ranking::RowNumber => list.len().min(last),
            Ranking::Rank | Ranking::DenseRank => {
                if list.len() <= last {
                    return;
                }
                let order = self.rows.key(list.get(list.len() - 1)).order;
                let start = list.partition_point(|row| self.rows.key(row).order < order);
                let out = match self.spec.ranking {
                    Ranking::DenseRank => u64::from(*groups) > self.spec.last,
                    _ => start >= last,
                };
                if out { start } else { list.len() }
            }
        };
        if length == list.len() {
            return;
        }
        *groups = groups.saturating_sub(1);
        for row in list.truncate(length) {
            if let Some(log) = &mut self.log {
                log.add(partition, row, -1);
            }
            self.rows.drop(row);
        }
    }

    /// Adds a row `diff` times to a partition; negative: takes it out.
    fn add(&mut self, partition: u32, key: RowKey<'_>, diff: Diff, noted: bool) {
        if noted {
            self.note(partition, key);
        }
        let Partition { list, groups, owed, .. } = &mut self.partitions[partition as usize];
        let rows = &mut self.rows;
        let found = list.search(|row| rows.compare(row, key));
        let mut diff = diff;
        if *owed > 0 && diff > 0 {
            let bytes = (partition, [key.order, key.rest].concat().into_boxed_slice());
            if let Some(debt) = self.owed.get_mut(&bytes) {
                let paid = diff.min(*debt);
                *debt -= paid;
                diff -= paid;
                if *debt == 0 {
                    self.owed.remove(&bytes);
                    *owed -= 1;
                }
            }
        }
        if diff > 0 {
            let (position, row, first) = match found {
                Ok(position) => (position, list.get(position), false),
                Err(position) => (position, rows.add(key), true),
            };
            let peers = |at: usize| at < list.len() && rows.peers(list.get(at), row);
            if first && !peers(position) && !(position > 0 && peers(position - 1)) {
                *groups += 1;
            }
            if let Some(log) = &mut self.log {
                log.add(partition, row, diff);
            }
            for copy in 0..diff {
                if !first || copy > 0 {
                    rows.copy(row);
                }
                list.insert(position, row);
            }
            return;
        }
        let mut missing = -diff;
        if let Ok(position) = found {
            while missing > 0 && position < list.len() && rows.compare(list.get(position), key).is_eq() {
                let row = list.remove(position);
                if let Some(log) = &mut self.log {
                    log.add(partition, row, -1);
                }
                rows.drop(row);
                missing -= 1;
            }
        }
        if missing > 0 {
            let debt = self.owed.entry((partition, [key.order, key.rest].concat().into_boxed_slice())).or_insert(0);
            *owed += u32::from(*debt == 0);
            *debt += missing;
        }
        self.shrunk.push(partition);
    }

    /// Notes which rows of a partition count, before the first change of the epoch that matters.
    fn note(&mut self, number: u32, key: RowKey<'_>) {
        let partition = &self.partitions[number as usize];
        if partition.touched {
            return;
        }
        if partition.full && partition.end > 0 {
            let last = self.rows.key(partition.list.get(partition.end as usize - 1));
            let behind = match self.spec.ranking {
                Ranking::RowNumber => key > last,
                Ranking::Rank | Ranking::DenseRank => key.order > last.order,
            };
            if behind {
                return;
            }
        }
        let old = self.counted(number);
        self.partitions[number as usize].touched = true;
        self.touched.push(Touched { partition: number, old });
    }

    /// The rows of a partition that count, in order.
    fn counted(&self, partition: u32) -> Vec<Counted> {
        let list = &self.partitions[partition as usize].list;
        let (first, last) = (self.spec.first, self.spec.last);
        let numbered = |row: u32, number: u64| Counted { row, number: if self.spec.numbered { number as i64 } else { 0 } };
        if self.spec.ranking == Ranking::RowNumber {
            let skip = usize::try_from(first - 1).unwrap_or(usize::MAX).min(list.len());
            let count = usize::try_from(last.saturating_sub(first - 1)).unwrap_or(usize::MAX);
            let rows = list.iter_from(skip).take(count);
            return rows.zip(first..).map(|(row, number)| numbered(row, number)).collect();
        }
        let mut counted = Vec::new();
        let (mut number, mut before) = (0u64, None);
        for (position, row) in list.iter_from(0).enumerate() {
            if before.is_none_or(|before| !self.rows.peers(before, row)) {
                number = if self.spec.ranking == Ranking::Rank { position as u64 + 1 } else { number + 1 };
            }
            before = Some(row);
            if number > last {
                break;
            }
            if number >= first {
                counted.push(numbered(row, number));
            }
        }
        counted
    }

    /// Notes where the rows that count end, for the epochs to come.
    fn settle(&mut self, number: u32) {
        let (list, rows) = (&self.partitions[number as usize].list, &self.rows);
        let last = usize::try_from(self.spec.last).unwrap_or(usize::MAX);
        let end_of_peers = |row: u32| {
            let order = rows.key(row).order;
            list.partition_point(|row| rows.key(row).order <= order)
        };
        let (end, full) = match self.spec.ranking {
            Ranking::RowNumber => (list.len().min(last), list.len() >= last),
            Ranking::Rank if list.len() < last => (list.len(), false),
            Ranking::Rank => (end_of_peers(list.get(last - 1)), true),
            Ranking::DenseRank => {
                let (mut end, mut groups) = (0, 0);
                while groups < last && end < list.len() {
                    end = end_of_peers(list.get(end));
                    groups += 1;
                }
                (end, groups == last)
            }
        };
        let partition = &mut self.partitions[number as usize];
        (partition.end, partition.full) = (end as u32, full);
    }

    /// What differs between a partition's old and new rows that count.
    fn difference(&mut self, partition: u32, old: &[Counted], new: &[Counted], changes: &mut Listed) {
        self.settle(partition);
        let (mut left, mut right) = (0, 0);
        let at = |counted: &Counted| (self.rows.key(counted.row), counted.number);
        loop {
            match (old.get(left), new.get(right)) {
                (Some(one), Some(other)) if one == other => (left, right) = (left + 1, right + 1),
                (Some(one), Some(other)) => match at(one).cmp(&at(other)) {
                    std::cmp::Ordering::Equal => (left, right) = (left + 1, right + 1),
                    std::cmp::Ordering::Less => {
                        changes.add(partition, *one, -1);
                        left += 1;
                    }
                    std::cmp::Ordering::Greater => {
                        changes.add(partition, *other, 1);
                        right += 1;
                    }
                },
                (Some(one), None) => {
                    changes.add(partition, *one, -1);
                    left += 1;
                }
                (None, Some(other)) => {
                    changes.add(partition, *other, 1);
                    right += 1;
                }
                (None, None) => return,
            }
        }
    }

    /// Gathers changes, then forgets what is gone.
    fn finish(&mut self, changes: Option<Listed>) -> Changes {
        let changes = changes.map(|changes| self.gathered(&changes)).unwrap_or_default();
        if let Some(log) = &mut self.log {
            log.note(&self.rows, &self.keys);
        }
        if let Some(lives) = &mut self.lives {
            lives.noted(&self.keys);
        }
        self.rows.sweep();
        if let Some(lives) = &self.lives {
            // What was retracted and did not come either is a row that was forgotten.
            for ((partition, _), debt) in self.owed.drain() {
                lives.ttl.ignored(debt);
                self.partitions[partition as usize].owed = 0;
            }
        }
        self.shrunk.sort_unstable();
        self.shrunk.dedup();
        for number in std::mem::take(&mut self.shrunk) {
            let partition = &mut self.partitions[number as usize];
            if partition.list.is_empty() && partition.owed == 0 {
                *partition = Partition::default();
                self.keys.remove(number);
            }
        }
        changes
    }

    fn gathered(&self, listed: &Listed) -> Changes {
        if listed.rows.is_empty() {
            return Changes::default();
        }
        let columns = self.rows.columns(&listed.rows, &self.keys.columns(&listed.partitions));
        Changes { columns, numbers: listed.numbers.clone(), diffs: listed.diffs.clone() }
    }
}

/// Changes by row number.
#[derive(Default)]
struct Listed {
    partitions: Vec<u32>,
    rows: Vec<u32>,
    numbers: Vec<i64>,
    diffs: Vec<Diff>,
}

impl Listed {
    fn add(&mut self, partition: u32, counted: Counted, diff: Diff) {
        self.partitions.push(partition);
        self.rows.push(counted.row);
        self.numbers.push(counted.number);
        self.diffs.push(diff);
    }
}
