//! Partitions with their rows in order, and with each row the result that was given of it.

mod expire;
mod forget;
mod renew;
mod saved;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, SchemaRef};
use arrow_row::{RowConverter, SortField};
use highwater_plan::{self as plan, FrameBound, FrameUnits, Micros, OverClosing};

use self::saved::RowStates;
use super::evaluate::{Pool, Prepared};
use super::frames::{Ordered, Ranges, finals, moved};
use crate::keys::Keys;
use crate::operator::lives::Lives;
use crate::operator::ordered::{Layout, List, RowKey, RowLog, Rows};
use crate::{Delta, Diff};

/// What all tables of an operator share.
pub(super) struct Shared {
    pub(super) plan: plan::Over,
    pub(super) input: SchemaRef,
    pub(super) layout: Arc<Layout>,
    pub(super) key_types: Vec<DataType>,
    pub(super) calls: Vec<Prepared>,
    /// Results as bytes.
    outputs: RowConverter,
    /// What is kept with them to go on from.
    states: Option<RowConverter>,
    /// Microseconds of the order column's unit, if it is a time.
    unit: f64,
    /// Whether a result that cannot be represented is NULL; otherwise its row is left out.
    keep_failed: bool,
}

/// What changes.
#[derive(Default)]
pub(super) struct Changes {
    /// The input's columns and the results.
    pub(super) columns: Vec<ArrayRef>,
    pub(super) diffs: Vec<Diff>,
    /// Input rows whose result cannot be represented: columns, multiplicities and reasons.
    pub(super) failed: Vec<(Vec<ArrayRef>, Diff, &'static str)>,
}

/// How far the watermark is.
#[derive(Clone, Copy)]
pub(super) struct Moment {
    /// Results of rows that it has passed are final.
    pub(super) watermark: i64,
    /// No row before this comes any more.
    pub(super) closed: i64,
}

/// Partitions of one window, or all.
pub(super) struct Table {
    shared: Arc<Shared>,
    keys: Keys,
    partitions: Vec<Partition>,
    rows: Rows,
    /// Per row its result, if it was given.
    given: Vec<Option<Given>>,
    /// Per row its time in microseconds, if times close.
    times: Vec<i64>,
    /// Per row its place among equal ones: the one before it has a smaller one.
    places: Vec<u32>,
    /// Reasons why results cannot be represented, by row.
    failing: HashMap<u32, Vec<&'static str>>,
    /// Rows that were retracted before they came, by partition and bytes.
    owed: HashMap<(u32, Box<[u8]>), Diff>,
    changed: Vec<Change>,
    /// Watermarks at which something becomes final or can be forgotten, with the partition.
    due: BTreeSet<(i64, u32)>,
    pool: Pool,
    /// With windows: it has closed, and results are given.
    pub(super) open: bool,
    /// With `state_ttl`: when each partition was touched last.
    pub(super) lives: Option<Lives>,
    /// What changed since the last checkpoint, if that is to be in the next one.
    pub(super) log: Option<RowLog>,
    /// The same, with what rows were given, where times close.
    states: Option<RowStates>,
}

#[derive(Default)]
struct Partition {
    list: List,
    /// How many of the first rows have been given; only counted while others have not.
    given: usize,
    /// How many of the first rows cannot change any more.
    closed: usize,
    due: Option<i64>,
    owed: u32,
}

struct Given {
    output: Box<[u8]>,
    state: Box<[u8]>,
}

#[derive(Clone, Copy)]
struct Change {
    partition: u32,
    row: u32,
    came: bool,
}

impl Shared {
    pub(super) fn new(plan: &plan::Over, input: &SchemaRef, keep_failed: bool) -> Arc<Self> {
        let calls: Vec<Prepared> = plan.calls.iter().map(|call| Prepared::new(call, input)).collect();
        let converter = |types: Vec<DataType>| {
            let fields = types.into_iter().map(SortField::new).collect();
            RowConverter::new(fields).expect("results can be encoded")
        };
        let states: Vec<DataType> = calls.iter().flat_map(|call| call.states.clone()).collect();
        let unit = plan.order.first().map_or(1.0, |by| match input.field(by.column).data_type() {
            DataType::Timestamp(arrow::datatypes::TimeUnit::Second, _) => 1_000_000.0,
            DataType::Timestamp(arrow::datatypes::TimeUnit::Millisecond, _) => 1_000.0,
            DataType::Timestamp(arrow::datatypes::TimeUnit::Nanosecond, _) => 0.001,
            _ => 1.0,
        });
        Arc::new(Shared {
            layout: Layout::new(input, &plan.partition, &plan.order),
            key_types: plan.partition.iter().map(|column| input.field(*column).data_type().clone()).collect(),
            outputs: converter(plan.calls.iter().map(|call| call.data_type.clone()).collect()),
            states: (!states.is_empty()).then(|| converter(states)),
            plan: plan.clone(),
            input: SchemaRef::clone(input),
            calls,
            unit,
            keep_failed,
        })
    }

    fn by_time(&self) -> bool {
        self.plan.closing == Some(OverClosing::Time)
    }

    /// The bounds of a call's RANGE frame around these rows, `around` the rows or, mirrored, around what they concern.
    fn ranges(&self, call: &plan::OverCall, rows: &Rows, of: &[u32], mirrored: bool) -> Option<Ranges> {
        if call.frame.units != FrameUnits::Range {
            return None;
        }
        let values = rows.order_columns(of).into_iter().next()?;
        let descending = self.plan.order[0].descending;
        let (start, end) = if mirrored { (call.frame.end, call.frame.start) } else { (call.frame.start, call.frame.end) };
        let bound =
            |bound: FrameBound| moved(&values, bound, descending, mirrored).map(|values| self.layout.encode_values(&[values]));
        Some(Ranges { start: bound(start), end: bound(end) })
    }
}

impl Table {
    pub(super) fn new(shared: Arc<Shared>, lives: Option<Lives>) -> Self {
        Table {
            keys: Keys::new(&shared.key_types),
            rows: Rows::new(Arc::clone(&shared.layout)),
            shared,
            partitions: Vec::new(),
            given: Vec::new(),
            times: Vec::new(),
            places: Vec::new(),
            failing: HashMap::new(),
            owed: HashMap::new(),
            changed: Vec::new(),
            due: BTreeSet::new(),
            pool: Pool::default(),
            open: false,
            lives,
            log: None,
            states: None,
        }
    }

    /// From here on it is remembered what changes.
    pub(super) fn log(&mut self) {
        self.log = Some(RowLog::new(SchemaRef::clone(&self.shared.input)));
        self.lives.iter_mut().for_each(Lives::log);
    }

    /// How many rows it keeps.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// About how many bytes it takes.
    pub(super) fn bytes(&self) -> usize {
        let given: usize = self.given.iter().flatten().map(|given| given.output.len() + given.state.len()).sum();
        let lists: usize = self.partitions.iter().map(|partition| partition.list.bytes()).sum();
        let partitions = self.partitions.capacity() * size_of::<Partition>() + lists;
        self.keys.bytes() + self.rows.bytes() + self.given.capacity() * 32 + given + partitions + self.times.capacity() * 8
    }

    /// Takes rows without giving anything of them.
    pub(super) fn accumulate(&mut self, deltas: &[Delta]) {
        self.change(deltas);
        let touched = self.changed.iter().map(|change| change.partition).collect();
        self.changed.clear();
        self.finish(touched);
    }

    /// Takes rows and gives what changes of all rows, or of those that are final at a moment.
    pub(super) fn apply(&mut self, deltas: &[Delta], moment: Option<Moment>) -> Changes {
        self.change(deltas);
        let mut touched: BTreeSet<u32> = self.changed.iter().map(|change| change.partition).collect();
        if let Some(moment) = moment {
            while let Some((due, partition)) = self.due.first().copied().filter(|(due, _)| *due <= moment.watermark) {
                self.due.remove(&(due, partition));
                self.partitions[partition as usize].due = None;
                touched.insert(partition);
            }
        }
        self.renew(&touched, moment)
    }

    /// Gives the results of all rows.
    pub(super) fn results(&mut self) -> Changes {
        self.open = true;
        let touched: BTreeSet<u32> = self.keys.numbers().into_iter().collect();
        self.renew(&touched, None)
    }

    fn change(&mut self, deltas: &[Delta]) {
        let mut numbers = Vec::new();
        for delta in deltas {
            self.keys.intern(&delta.columns(&self.shared.plan.partition), delta.len(), &mut numbers);
            if self.partitions.len() < self.keys.bound() {
                self.partitions.resize_with(self.keys.bound(), Partition::default);
            }
            if let Some(lives) = &mut self.lives {
                lives.touch(&numbers);
            }
            let encoded = self.shared.layout.encode(delta);
            let times = self
                .shared
                .by_time()
                .then(|| Micros::new(delta.rows.column(self.shared.plan.order[0].column)).expect("planners close by timestamps"));
            for (row, partition) in numbers.iter().enumerate() {
                let time = times.as_ref().map(|times| times.value(row));
                self.add(*partition, encoded.key(row), delta.diff(row), time);
            }
        }
    }

    /// Adds a row `diff` times to a partition, each copy as a row of its own; negative: takes copies out.
    fn add(&mut self, partition: u32, key: RowKey<'_>, mut diff: Diff, time: Option<i64>) {
        let bytes = || (partition, [key.order, key.rest].concat().into_boxed_slice());
        let Partition { list, owed, .. } = &mut self.partitions[partition as usize];
        if *owed > 0 && diff > 0 {
            let bytes = bytes();
            if let Some(debt) = self.owed.get_mut(&bytes) {
                let paid = diff.min(*debt);
                (*debt, diff) = (*debt - paid, diff - paid);
                if *debt == 0 {
                    self.owed.remove(&bytes);
                    *owed -= 1;
                }
            }
        }
        let rows = &mut self.rows;
        let mut position = list.partition_point(|row| rows.compare(row, key).is_le());
        let before = position.checked_sub(1).map(|before| list.get(before)).filter(|row| rows.compare(*row, key).is_eq());
        let place = before.map_or(0, |before| self.places[before as usize] + 1);
        let mut went = Vec::new();
        while diff > 0 {
            let row = rows.add(key);
            list.insert(position, row);
            if self.given.len() < rows.bound() {
                self.given.resize_with(rows.bound(), || None);
                self.times.resize(rows.bound(), 0);
                self.places.resize(rows.bound(), 0);
            }
            self.times[row as usize] = time.unwrap_or(0);
            // Copies are put before each other.
            self.places[row as usize] = place + (diff - 1) as u32;
            if let Some(states) = &mut self.states {
                states.note_new(partition, row);
            }
            if let Some(log) = &mut self.log {
                log.add(partition, row, 1);
            }
            self.changed.push(Change { partition, row, came: true });
            diff -= 1;
        }
        while diff < 0 && position > 0 && rows.compare(list.get(position - 1), key).is_eq() {
            position -= 1;
            let row = list.remove(position);
            if let Some(log) = &mut self.log {
                log.add(partition, row, -1);
            }
            rows.drop(row);
            went.push(row);
            self.changed.push(Change { partition, row, came: false });
            diff += 1;
        }
        if diff < 0 {
            let debt = self.owed.entry(bytes()).or_insert(0);
            *owed += u32::from(*debt == 0);
            *debt -= diff;
        }
        if self.changed.last().is_none_or(|change| change.partition != partition) {
            // Nothing came or went, but the partition may have to be forgotten.
            self.changed.push(Change { partition, row: u32::MAX, came: false });
        }
        went.into_iter().for_each(|row| self.note_change(partition, row));
    }

    fn final_at(&self, partition: u32, watermark: i64) -> usize {
        finals(&self.shared.plan.calls, self.ordered(partition), watermark, self.shared.unit, |row| self.times[row as usize])
    }

    fn ordered(&self, partition: u32) -> Ordered<'_> {
        Ordered { list: &self.partitions[partition as usize].list, rows: &self.rows }
    }

    /// Forgets rows that are gone and partitions that are empty.
    fn finish(&mut self, touched: Vec<u32>) {
        if let Some(log) = &mut self.log {
            log.note(&self.rows, &self.keys);
        }
        if let Some(lives) = &mut self.lives {
            lives.noted(&self.keys);
        }
        self.note_states();
        self.rows.sweep();
        self.forgive();
        let touched: BTreeSet<u32> = touched.into_iter().collect();
        for number in touched {
            let partition = &mut self.partitions[number as usize];
            if partition.list.is_empty() && partition.owed == 0 {
                if let Some(due) = partition.due {
                    self.due.remove(&(due, number));
                }
                *partition = Partition::default();
                self.keys.remove(number);
            }
        }
    }
}
