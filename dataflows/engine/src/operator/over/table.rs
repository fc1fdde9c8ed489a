//! Partitions with their rows in order, and with each row the result that was given of it.

mod expire;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::rc::Rc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, SchemaRef};
use arrow_row::{RowConverter, SortField};
use highwater_plan::{self as plan, Emit, FrameBound, FrameUnits, Micros, OverClosing, OverFunction};

use super::evaluate::{Pool, Prepared, Results, Source, Stretch, Way};
use super::frames::{Ordered, Ranges, concerned, finals, frame_of, micros, moved};
use crate::keys::Keys;
use crate::operator::lives::Lives;
use crate::operator::ordered::{Layout, List, RowKey, Rows};
use crate::{Delta, Diff};

/// What all tables of an operator share.
pub(super) struct Shared {
    pub(super) plan: plan::Over,
    pub(super) input: SchemaRef,
    pub(super) layout: Rc<Layout>,
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
    shared: Rc<Shared>,
    keys: Keys,
    partitions: Vec<Partition>,
    rows: Rows,
    /// Per row its result, if it was given.
    given: Vec<Option<Given>>,
    /// Per row its time in microseconds, if times close.
    times: Vec<i64>,
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
    lives: Option<Lives>,
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
    pub(super) fn new(plan: &plan::Over, input: &SchemaRef, keep_failed: bool) -> Rc<Self> {
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
        Rc::new(Shared {
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
    pub(super) fn new(shared: Rc<Shared>, lives: Option<Lives>) -> Self {
        Table {
            keys: Keys::new(&shared.key_types),
            rows: Rows::new(Rc::clone(&shared.layout)),
            shared,
            partitions: Vec::new(),
            given: Vec::new(),
            times: Vec::new(),
            failing: HashMap::new(),
            owed: HashMap::new(),
            changed: Vec::new(),
            due: BTreeSet::new(),
            pool: Pool::default(),
            open: false,
            lives,
        }
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
        while diff > 0 {
            let row = rows.add(key);
            list.insert(position, row);
            if self.given.len() < rows.bound() {
                self.given.resize_with(rows.bound(), || None);
                self.times.resize(rows.bound(), 0);
            }
            self.times[row as usize] = time.unwrap_or(0);
            self.changed.push(Change { partition, row, came: true });
            diff -= 1;
        }
        while diff < 0 && position > 0 && rows.compare(list.get(position - 1), key).is_eq() {
            position -= 1;
            let row = list.remove(position);
            rows.drop(row);
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
    }

    /// Computes anew what changes concern and what has become final, and gives the differences.
    fn renew(&mut self, touched: &BTreeSet<u32>, moment: Option<Moment>) -> Changes {
        let finals = self.finals(touched, moment);
        let mut counts: HashMap<u32, (usize, usize)> = HashMap::new();
        for change in self.changed.iter().filter(|change| change.row != u32::MAX) {
            let (came, went) = counts.entry(change.partition).or_default();
            *(if change.came { came } else { went }) += 1;
        }
        let stretches = self.stretches(&finals, &counts);
        let mut listed = Listed::default();
        // What went.
        let mut gone: HashSet<u32> = HashSet::new();
        for change in self.changed.iter().filter(|change| !change.came && change.row != u32::MAX) {
            if gone.insert(change.row)
                && let Some(given) = self.given[change.row as usize].take()
            {
                listed.give(change.partition, change.row, given.output, -1, self.failing.remove(&change.row));
            }
        }
        // What is no more final.
        for (partition, finals) in &finals {
            let Partition { list, given, .. } = &self.partitions[*partition as usize];
            let came = counts.get(partition).map_or(0, |counts| counts.0);
            if moment.is_some() && self.shared.plan.emit == Emit::Final && given + came > *finals {
                for row in list.iter_from(*finals).take(given + came - finals) {
                    if let Some(given) = self.given[row as usize].take() {
                        listed.give(*partition, row, given.output, -1, self.failing.remove(&row));
                    }
                }
            }
        }
        self.compute(&stretches, &mut listed);
        for (partition, finals) in &finals {
            self.partitions[*partition as usize].given = *finals;
        }
        let changes = self.gathered(&listed);
        if let Some(moment) = moment.filter(|_| self.shared.by_time()) {
            finals.iter().for_each(|(partition, _)| self.forget(*partition, moment));
        }
        self.changed.clear();
        self.finish(touched.iter().copied().collect());
        changes
    }

    /// Of each partition how many of its first rows are to be given.
    fn finals(&self, touched: &BTreeSet<u32>, moment: Option<Moment>) -> Vec<(u32, usize)> {
        let of = |partition: &u32| {
            let list = &self.partitions[*partition as usize].list;
            let count = match moment.filter(|_| self.shared.by_time() && self.shared.plan.emit == Emit::Final) {
                Some(moment) => self.final_at(*partition, moment.watermark),
                None => list.len(),
            };
            (*partition, count)
        };
        touched.iter().map(of).collect()
    }

    fn final_at(&self, partition: u32, watermark: i64) -> usize {
        finals(&self.shared.plan.calls, self.ordered(partition), watermark, self.shared.unit, |row| self.times[row as usize])
    }

    fn ordered(&self, partition: u32) -> Ordered<'_> {
        Ordered { list: &self.partitions[partition as usize].list, rows: &self.rows }
    }

    /// The rows whose results are to be computed.
    fn stretches(&self, finals: &[(u32, usize)], counts: &HashMap<u32, (usize, usize)>) -> Vec<Stretch> {
        let changes: Vec<Change> = self.changed.iter().copied().filter(|change| change.row != u32::MAX).collect();
        let rows: Vec<u32> = changes.iter().map(|change| change.row).collect();
        let calls = &self.shared.plan.calls;
        let ranges: Vec<Option<Ranges>> = calls.iter().map(|call| self.shared.ranges(call, &self.rows, &rows, true)).collect();
        let mut parts: HashMap<u32, Vec<(usize, usize)>> = HashMap::new();
        for (index, change) in changes.iter().enumerate() {
            let of = self.ordered(change.partition);
            let key = self.rows.key(change.row);
            let position = of.list.partition_point(|row| self.rows.compare(row, key).is_lt());
            let part = parts.entry(change.partition).or_default();
            for (call, ranges) in calls.iter().zip(&ranges) {
                part.push(concerned(call, of, position, ranges.as_ref().map(|ranges| (ranges, index))));
            }
            if change.came {
                // Copies stand beside each other; which is which makes no difference.
                let end = of.list.partition_point(|row| self.rows.compare(row, key).is_le());
                part.push((position, end));
            }
        }
        let mut stretches = Vec::new();
        let mut at = 0;
        for (partition, finals) in finals {
            let mut part = parts.remove(partition).unwrap_or_default();
            let went = counts.get(partition).map_or(0, |counts| counts.1);
            let Partition { given, closed, .. } = &self.partitions[*partition as usize];
            let before = given.saturating_sub(went);
            if self.shared.plan.emit == Emit::Final && before < *finals {
                part.push((before, *finals));
            }
            part.sort_unstable();
            let mut last: Option<(usize, usize)> = None;
            let mut add = |(lo, hi): (usize, usize)| {
                let from = lo.saturating_sub(1);
                stretches.push(Stretch { partition: *partition, from, lo, hi, at });
                at += hi - from;
            };
            for (lo, hi) in part {
                let (lo, hi) = (lo.max(*closed), hi.min(*finals));
                if lo >= hi {
                    continue;
                }
                last = Some(match last {
                    Some((first, end)) if lo <= end => (first, end.max(hi)),
                    Some(done) => {
                        add(done);
                        (lo, hi)
                    }
                    None => (lo, hi),
                });
            }
            last.into_iter().for_each(&mut add);
        }
        stretches
    }

    /// Computes stretches and lists what differs from what was given.
    fn compute(&mut self, stretches: &[Stretch], listed: &mut Listed) {
        if stretches.is_empty() {
            return;
        }
        let shared = Rc::clone(&self.shared);
        let flat: Vec<(u32, u32)> = stretches
            .iter()
            .flat_map(|stretch| {
                let list = &self.partitions[stretch.partition as usize].list;
                list.iter_from(stretch.from).take(stretch.hi - stretch.from).map(|row| (stretch.partition, row))
            })
            .collect();
        let rows: Vec<u32> = flat.iter().map(|(_, row)| *row).collect();
        let leading: Vec<u32> = stretches.iter().filter(|stretch| stretch.leads()).map(|stretch| rows[stretch.at]).collect();
        let seeds = self.seeds(&leading);
        let mut pool = std::mem::take(&mut self.pool);
        let lists = |partition: u32| &self.partitions[partition as usize].list;
        let source = Source { lists: &lists, rows: &self.rows, stretches };
        let reads: Vec<_> = shared
            .calls
            .iter()
            .map(|call| {
                let ranges = shared.ranges(&call.call, &self.rows, &rows, false);
                source.reads(call, ranges.as_ref(), &mut pool)
            })
            .collect();
        let read: HashSet<usize> = shared.calls.iter().flat_map(Prepared::columns).collect();
        let pooled = match read.is_empty() {
            true => Vec::new(),
            false => self.rows.columns(&pool.rows, &self.keys.columns(&pool.partitions)),
        };
        let columns = |column: usize| ArrayRef::clone(&pooled[column]);
        let (mut outputs, mut states, mut failed) = (Vec::new(), Vec::new(), HashMap::<usize, Vec<&'static str>>::new());
        let mut from = 0;
        for (call, reads) in shared.calls.iter().zip(&reads) {
            // A ranking goes on from its result, too.
            let mut seed: Vec<ArrayRef> = seeds.1[from..from + call.states.len()].to_vec();
            if call.way == Way::Ranked {
                seed.push(ArrayRef::clone(&seeds.0[outputs.len()]));
            }
            from += call.states.len();
            let Results { values, states: kept, failed: wrong } = source.results(call, reads, &columns, &shared.input, &seed);
            outputs.push(values);
            states.extend(kept);
            wrong.into_iter().for_each(|(row, reason)| failed.entry(row).or_default().push(reason));
        }
        pool.clear();
        self.pool = pool;
        let outputs = shared.outputs.convert_columns(&outputs).expect("results have the types that the planner gave them");
        let states = shared.states.as_ref().map(|converter| converter.convert_columns(&states).expect("states have their types"));
        for stretch in stretches {
            let places = stretch.at + stretch.lo - stretch.from..stretch.at + stretch.hi - stretch.from;
            for (place, (partition, row)) in places.clone().zip(flat[places].iter().copied()) {
                let output = outputs.row(place).data();
                let state: Box<[u8]> = states.as_ref().map_or(Box::from([]), |states| Box::from(states.row(place).data()));
                let wrong = failed.remove(&place);
                let old = self.given[row as usize].take();
                if let Some(mut given) = old {
                    if *given.output == *output && self.failing.get(&row) == wrong.as_ref() {
                        given.state = state;
                        self.given[row as usize] = Some(given);
                        continue;
                    }
                    listed.give(partition, row, given.output, -1, self.failing.remove(&row));
                }
                listed.give(partition, row, Box::from(output), 1, wrong.clone());
                if let Some(wrong) = wrong {
                    self.failing.insert(row, wrong);
                }
                self.given[row as usize] = Some(Given { output: Box::from(output), state });
            }
        }
    }

    /// What was kept with these rows: results, and states of all calls.
    fn seeds(&self, leading: &[u32]) -> (Vec<ArrayRef>, Vec<ArrayRef>) {
        let given = |row: &u32| self.given[*row as usize].as_ref().expect("what stands before a stretch was given");
        let decoded = |converter: &RowConverter, bytes: &dyn Fn(&Given) -> &[u8]| {
            let parser = converter.parser();
            let rows: Vec<&[u8]> = leading.iter().map(|row| bytes(given(row))).collect();
            converter.convert_rows(rows.iter().map(|row| parser.parse(row))).expect("the bytes came from this converter")
        };
        let outputs = decoded(&self.shared.outputs, &|given| &given.output);
        (outputs, self.shared.states.as_ref().map_or(Vec::new(), |states| decoded(states, &|given| &given.state)))
    }

    /// Drops rows of a partition that nothing can need any more, and notes when to look again.
    fn forget(&mut self, number: u32, moment: Moment) {
        let shared = Rc::clone(&self.shared);
        let closed = self.final_at(number, moment.closed);
        let of = self.ordered(number);
        let length = of.len();
        let last = length.checked_sub(1).map(|last| self.times[of.list.get(last) as usize]);
        // How long a row concerns rows that come later, if that is known.
        let reach = |call: &Prepared| match (&call.call.function, call.call.frame.units, call.call.frame.start) {
            (OverFunction::Nth { .. } | OverFunction::Aggregate(_), FrameUnits::Range, FrameBound::Offset(start)) => {
                Some(micros((-start).max(0), shared.unit))
            }
            _ => None,
        };
        let reach: Option<i64> =
            shared.calls.iter().map(reach).collect::<Option<Vec<i64>>>().and_then(|all| all.into_iter().max());
        let all = closed == length && reach.zip(last).is_some_and(|(reach, last)| last.saturating_add(reach) < moment.closed);
        let mut free = 0;
        if all || moment.closed == i64::MAX {
            free = length;
        } else if closed > 0 {
            let row = [of.list.get(closed - 1)];
            let start = |call: &Prepared| match (&call.call.function, call.call.frame.start) {
                (OverFunction::Shift { offset, .. }, _) => {
                    (closed as i128 - 1 + i128::from((*offset).min(0))).clamp(0, closed as i128 - 1) as usize
                }
                (OverFunction::Nth { position: -1, .. }, _) => frame_of(
                    call.call.frame,
                    of,
                    closed - 1,
                    shared.ranges(&call.call, &self.rows, &row, false).as_ref().map(|ranges| (ranges, 0)),
                )
                .1
                .saturating_sub(1),
                (OverFunction::Ranking(_), _) | (_, FrameBound::Unbounded) => closed - 1,
                _ => {
                    let ranges = shared.ranges(&call.call, &self.rows, &row, false);
                    frame_of(call.call.frame, of, closed - 1, ranges.as_ref().map(|ranges| (ranges, 0))).0
                }
            };
            free = shared.calls.iter().map(start).min().unwrap_or(0).min(closed - 1);
        }
        // When something more is final or can go.
        let mut due: Option<i64> = None;
        let mut at = |time: i64| due = Some(due.map_or(time, |due| due.min(time)).max(moment.watermark.saturating_add(1)));
        if free < length {
            // Frames of rows or groups wait for what follows, or for the end.
            at(i64::MAX);
            let lateness = moment.watermark.saturating_sub(moment.closed);
            let reached = shared.plan.calls.iter().map(|call| match (&call.function, call.frame.units, call.frame.end) {
                (OverFunction::Nth { .. } | OverFunction::Aggregate(_), FrameUnits::Range, FrameBound::Offset(end)) => {
                    micros(end.max(0), shared.unit)
                }
                _ => 0,
            });
            let behind = reached.max().unwrap_or(0);
            for late in [0, lateness] {
                let before = moment.watermark.saturating_sub(late);
                let next = of.list.partition_point(|row| self.times[row as usize].saturating_add(behind) < before);
                let passed = of.list.partition_point(|row| self.times[row as usize] < before);
                for (position, more) in [(next, behind), (passed, 0)] {
                    if position < length {
                        at(self.times[of.list.get(position) as usize]
                            .saturating_add(more)
                            .saturating_add(late)
                            .saturating_add(1));
                    }
                }
            }
            if let Some((reach, last)) = reach.zip(last) {
                at(last.saturating_add(reach).saturating_add(lateness).saturating_add(1));
            }
        }
        let partition = &mut self.partitions[number as usize];
        for row in partition.list.drain_front(free) {
            self.given[row as usize] = None;
            self.failing.remove(&row);
            self.rows.drop(row);
        }
        partition.given -= free.min(partition.given);
        partition.closed = closed.saturating_sub(free);
        if let Some(old) = std::mem::replace(&mut partition.due, due) {
            self.due.remove(&(old, number));
        }
        self.due.extend(due.map(|due| (due, number)));
    }

    /// Forgets rows that are gone and partitions that are empty.
    fn finish(&mut self, touched: Vec<u32>) {
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

    fn gathered(&self, listed: &Listed) -> Changes {
        let mut changes = Changes::default();
        let columns = |rows: &[u32], partitions: &[u32]| self.rows.columns(rows, &self.keys.columns(partitions));
        for (partition, row, diff, reason) in &listed.failed {
            changes.failed.push((columns(&[*row], &[*partition]), *diff, reason));
        }
        let kept: Vec<usize> = (0..listed.rows.len()).filter(|place| self.shared.keep_failed || !listed.wrong[*place]).collect();
        if kept.is_empty() {
            return changes;
        }
        let of = |values: &[u32]| -> Vec<u32> { kept.iter().map(|place| values[*place]).collect() };
        changes.columns = columns(&of(&listed.rows), &of(&listed.partitions));
        let parser = self.shared.outputs.parser();
        let outputs = self.shared.outputs.convert_rows(kept.iter().map(|place| parser.parse(&listed.outputs[*place])));
        changes.columns.extend(outputs.expect("the bytes came from this converter"));
        changes.diffs = kept.iter().map(|place| listed.diffs[*place]).collect();
        changes
    }
}

/// Results to give and to take back.
#[derive(Default)]
struct Listed {
    partitions: Vec<u32>,
    rows: Vec<u32>,
    outputs: Vec<Box<[u8]>>,
    diffs: Vec<Diff>,
    /// Whether a result of the row cannot be represented.
    wrong: Vec<bool>,
    failed: Vec<(u32, u32, Diff, &'static str)>,
}

impl Listed {
    fn give(&mut self, partition: u32, row: u32, output: Box<[u8]>, diff: Diff, failed: Option<Vec<&'static str>>) {
        self.wrong.push(failed.is_some());
        self.failed.extend(failed.into_iter().flatten().map(|reason| (partition, row, diff, reason)));
        self.partitions.push(partition);
        self.rows.push(row);
        self.outputs.push(output);
        self.diffs.push(diff);
    }
}
