//! Results of stretches of rows, for all partitions of an epoch at once: which rows each call reads is found first, the
//! columns they need are decoded once, and each call is computed by whole columns.
//!
//! An aggregate over a sliding or growing frame goes from row to row: what enters the frame is added and what leaves it is
//! taken back, beginning with the state that was kept with the row before the stretch. The steps are added up by doubling
//! (Hillis and Steele, "Data parallel algorithms", 1986), so that accumulators work on columns here, too.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, UInt32Array, new_null_array};
use arrow::compute;
use arrow::datatypes::{DataType, Int64Type, SchemaRef};
use highwater_plan::{AggregateCall, FrameBound, OverCall, OverFunction, Ranking};

use super::frames::{Ordered, Ranges, frame_of};
use crate::operator::accumulate::{Accumulator, Rows as Fed, accumulator};
use crate::operator::ordered::{List, Rows};

/// Rows of a partition from `lo` to `hi` whose results are wanted. Where there is a row before them it comes along, to
/// begin with its state: the stretch is `from..hi`.
pub(super) struct Stretch {
    pub(super) partition: u32,
    pub(super) from: usize,
    pub(super) lo: usize,
    pub(super) hi: usize,
    /// Where the stretch begins among all rows of all stretches.
    pub(super) at: usize,
}

impl Stretch {
    /// Whether the row before comes along.
    pub(super) fn leads(&self) -> bool {
        self.from < self.lo
    }

    fn len(&self) -> usize {
        self.hi - self.from
    }
}

/// What a call needs besides rows.
pub(super) struct Prepared {
    pub(super) call: OverCall,
    pub(super) way: Way,
    /// The types of what is kept with each row to go on from.
    pub(super) states: Vec<DataType>,
}

/// How a call is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// From the row before.
    Ranked,
    /// From the place among all rows of the partition.
    Placed,
    /// A value of another row.
    Taken,
    /// An aggregate over all rows.
    Whole,
    /// An aggregate that goes on from the row before.
    Carried,
    /// An aggregate over each frame anew.
    Direct,
    /// An aggregate row by row from the partition's begin or end.
    Stepwise,
}

impl Prepared {
    pub(super) fn new(call: &OverCall, input: &SchemaRef) -> Self {
        let (way, states) = match &call.function {
            OverFunction::Ranking(_) => (Way::Ranked, vec![DataType::Int64]),
            OverFunction::PercentRank | OverFunction::CumeDist | OverFunction::Ntile(_) => (Way::Placed, Vec::new()),
            OverFunction::Shift { .. } | OverFunction::Nth { .. } => (Way::Taken, Vec::new()),
            OverFunction::Aggregate(aggregate) => {
                let grows = call.frame.start == FrameBound::Unbounded;
                let ends = call.frame.end != FrameBound::Unbounded;
                match accumulator(aggregate, input, grows).partial_types() {
                    _ if grows && !ends => (Way::Whole, Vec::new()),
                    Some(types) if ends => (Way::Carried, types),
                    _ if !grows && ends => (Way::Direct, Vec::new()),
                    _ => (Way::Stepwise, Vec::new()),
                }
            }
        };
        Prepared { call: call.clone(), way, states }
    }

    /// Whether frames are asked for.
    fn framed(&self) -> bool {
        matches!(self.call.function, OverFunction::Nth { .. } | OverFunction::Aggregate(_)) && self.way != Way::Whole
    }

    /// Input columns that are read.
    pub(super) fn columns(&self) -> Vec<usize> {
        match &self.call.function {
            OverFunction::Shift { argument, default, .. } => std::iter::once(*argument).chain(*default).collect(),
            OverFunction::Nth { argument, .. } => vec![*argument],
            OverFunction::Aggregate(call) => {
                let order = call.order.iter().map(|key| key.column);
                call.argument.into_iter().chain(call.filter).chain(call.further.iter().copied()).chain(order).collect()
            }
            _ => Vec::new(),
        }
    }
}

/// A call's results over all rows of all stretches; those of rows that only lead mean nothing.
pub(super) struct Results {
    pub(super) values: ArrayRef,
    pub(super) states: Vec<ArrayRef>,
    /// Rows whose result cannot be represented, and why.
    pub(super) failed: Vec<(usize, &'static str)>,
}

/// Rows that calls read, each once.
#[derive(Default)]
pub(super) struct Pool {
    places: Vec<u32>,
    pub(super) rows: Vec<u32>,
    pub(super) partitions: Vec<u32>,
}

impl Pool {
    fn place(&mut self, row: u32, partition: u32) -> u32 {
        if self.places.len() <= row as usize {
            self.places.resize(row as usize + 1, u32::MAX);
        }
        let place = &mut self.places[row as usize];
        if *place == u32::MAX {
            *place = self.rows.len() as u32;
            self.rows.push(row);
            self.partitions.push(partition);
        }
        *place
    }

    pub(super) fn clear(&mut self) {
        for row in self.rows.drain(..) {
            self.places[row as usize] = u32::MAX;
        }
        self.partitions.clear();
    }
}

/// What a call reads: rows of the pool.
#[derive(Default)]
pub(super) struct Reads {
    /// Group, row and multiplicity of what an aggregate is fed.
    groups: Vec<u32>,
    rows: Vec<u32>,
    diffs: Vec<i64>,
    /// Per row of the stretches the row whose value is taken, and itself.
    taken: Vec<Option<u32>>,
    own: Vec<u32>,
    /// Of stepwise aggregates.
    steps: Vec<Step>,
}

/// A result of a stepwise aggregate.
struct Step {
    /// The row whose result it is.
    row: usize,
    /// How much has been fed until then.
    fed: usize,
    /// Whether another stretch begins.
    restarts: bool,
}

/// Partitions and rows, as far as results are concerned.
pub(super) struct Source<'a> {
    pub(super) lists: &'a dyn Fn(u32) -> &'a List,
    pub(super) rows: &'a Rows,
    pub(super) stretches: &'a [Stretch],
}

impl Source<'_> {
    fn total(&self) -> usize {
        self.stretches.last().map_or(0, |last| last.at + last.len())
    }

    fn ordered(&self, stretch: &Stretch) -> Ordered<'_> {
        Ordered { list: (self.lists)(stretch.partition), rows: self.rows }
    }

    /// Finds what a call reads.
    pub(super) fn reads(&self, prepared: &Prepared, ranges: Option<&Ranges>, pool: &mut Pool) -> Reads {
        let mut reads = Reads::default();
        for (number, stretch) in self.stretches.iter().enumerate() {
            let of = self.ordered(stretch);
            let frames: Vec<(usize, usize)> = match prepared.framed() {
                true => (stretch.from..stretch.hi)
                    .map(|position| {
                        let row = stretch.at + position - stretch.from;
                        frame_of(prepared.call.frame, of, position, ranges.map(|ranges| (ranges, row)))
                    })
                    .collect(),
                false => Vec::new(),
            };
            match &prepared.call.function {
                OverFunction::Shift { offset, .. } => {
                    for (place, row) in of.list.iter_from(stretch.from).take(stretch.len()).enumerate() {
                        let at = (stretch.from + place) as i128 + i128::from(*offset);
                        let there = (0..of.len() as i128).contains(&at).then(|| of.list.get(at as usize));
                        reads.taken.push(there.map(|row| pool.place(row, stretch.partition)));
                        reads.own.push(pool.place(row, stretch.partition));
                    }
                }
                OverFunction::Nth { position, .. } => {
                    for (start, end) in frames {
                        let at = if *position > 0 {
                            start as i128 + i128::from(*position) - 1
                        } else {
                            end as i128 + i128::from(*position)
                        };
                        let there = (start as i128..end as i128).contains(&at).then(|| of.list.get(at as usize));
                        reads.taken.push(there.map(|row| pool.place(row, stretch.partition)));
                    }
                }
                OverFunction::Aggregate(_) => reads.feed(prepared, of, (number, stretch), &frames, pool),
                _ => {}
            }
        }
        reads
    }

    /// The results of a call; `columns` are the input's columns that it reads, of the pool's rows. `seeds` are the states
    /// kept with the rows that lead, in order.
    pub(super) fn results(
        &self,
        prepared: &Prepared,
        reads: &Reads,
        columns: &dyn Fn(usize) -> ArrayRef,
        input: &SchemaRef,
        seeds: &[ArrayRef],
    ) -> Results {
        let plain = |values: ArrayRef| Results { values, states: Vec::new(), failed: Vec::new() };
        match &prepared.call.function {
            OverFunction::Ranking(ranking) => self.ranked(*ranking, seeds),
            OverFunction::PercentRank | OverFunction::CumeDist | OverFunction::Ntile(_) => {
                plain(self.placed(&prepared.call.function))
            }
            OverFunction::Shift { argument, default, .. } => {
                plain(reads.values(&columns(*argument), default.map(columns).as_ref()))
            }
            OverFunction::Nth { argument, .. } => plain(reads.values(&columns(*argument), None)),
            OverFunction::Aggregate(call) => {
                let argument = call.argument.map(columns);
                let filter = call.filter.map(columns);
                let grows = prepared.call.frame.start == FrameBound::Unbounded || prepared.way == Way::Stepwise;
                let empty = || accumulator(call, input, grows);
                let further = call.further.iter().map(|column| columns(*column)).collect();
                let order = call.order.iter().map(|key| columns(key.column)).collect();
                let fed = FedColumns { call, argument, further, order, filter, accumulator: empty(), empty: &empty };
                self.aggregated(prepared.way, fed, reads, seeds)
            }
        }
    }

    /// Numbers go on from the row before: its position and its number.
    fn ranked(&self, ranking: Ranking, seeds: &[ArrayRef]) -> Results {
        let (mut numbers, mut positions) = (Vec::with_capacity(self.total()), Vec::with_capacity(self.total()));
        let mut leading = 0;
        for stretch in self.stretches {
            let (mut position, mut number) = (0, 0);
            let mut before = None;
            for (place, row) in (self.lists)(stretch.partition).iter_from(stretch.from).take(stretch.len()).enumerate() {
                if place == 0 && stretch.leads() {
                    position = seeds[0].as_primitive::<Int64Type>().value(leading);
                    number = seeds[1].as_primitive::<Int64Type>().value(leading);
                    leading += 1;
                } else {
                    position += 1;
                    if before.is_none_or(|before| ranking == Ranking::RowNumber || !self.rows.peers(before, row)) {
                        number = if ranking == Ranking::DenseRank { number + 1 } else { position };
                    }
                }
                before = Some(row);
                numbers.push(number);
                positions.push(position);
            }
        }
        let states: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(positions))];
        Results { values: Arc::new(Int64Array::from(numbers)), states, failed: Vec::new() }
    }

    /// Functions of a row's place among all rows of its partition.
    fn placed(&self, function: &OverFunction) -> ArrayRef {
        let (mut shares, mut buckets) = (Vec::new(), Vec::new());
        for stretch in self.stretches {
            let of = self.ordered(stretch);
            let length = of.len();
            let mut position = stretch.from;
            while position < stretch.hi {
                let (first, last) = of.peers(position);
                for position in position..last.min(stretch.hi) {
                    match function {
                        OverFunction::PercentRank if length > 1 => shares.push(first as f64 / (length - 1) as f64),
                        OverFunction::PercentRank => shares.push(0.0),
                        OverFunction::CumeDist => shares.push(last as f64 / length as f64),
                        OverFunction::Ntile(count) => buckets.push(bucket(position, length, *count)),
                        _ => unreachable!("only functions of the place are asked for"),
                    }
                }
                position = last;
            }
        }
        match function {
            OverFunction::Ntile(_) => Arc::new(Int64Array::from(buckets)),
            _ => Arc::new(Float64Array::from(shares)),
        }
    }

    fn aggregated(&self, way: Way, mut fed: FedColumns<'_>, reads: &Reads, seeds: &[ArrayRef]) -> Results {
        let total = self.total();
        if way == Way::Stepwise {
            return fed.stepwise(reads, total);
        }
        let groups: Vec<u32> = match way {
            Way::Whole => {
                let stretch = |(number, stretch): (usize, &Stretch)| std::iter::repeat_n(number as u32, stretch.len());
                self.stretches.iter().enumerate().flat_map(stretch).collect()
            }
            _ => (0..total as u32).collect(),
        };
        fed.accumulator.resize(total.max(self.stretches.len()));
        fed.update(reads, 0..reads.rows.len());
        if way == Way::Carried {
            let leading: Vec<u32> =
                self.stretches.iter().filter(|stretch| stretch.leads()).map(|stretch| stretch.at as u32).collect();
            if !leading.is_empty() {
                fed.accumulator.update_partial(&leading, seeds);
            }
            self.add_up(fed.accumulator.as_mut());
        }
        let output = fed.accumulator.output(&groups);
        let states = if way == Way::Carried { fed.accumulator.partial(&groups) } else { Vec::new() };
        Results { values: output.values, states, failed: output.failed }
    }

    /// Makes of each row's step the sum of all steps of its stretch up to it.
    fn add_up(&self, accumulator: &mut dyn Accumulator) {
        let longest = self.stretches.iter().map(Stretch::len).max().unwrap_or(0);
        let mut distance = 1;
        while distance < longest {
            let targets: Vec<u32> = self
                .stretches
                .iter()
                .flat_map(|stretch| stretch.at + distance..stretch.at + stretch.len().max(distance))
                .map(|row| row as u32)
                .collect();
            let sources: Vec<u32> = targets.iter().map(|row| row - distance as u32).collect();
            let states = accumulator.partial(&sources);
            accumulator.update_partial(&targets, &states);
            distance *= 2;
        }
    }
}

/// The bucket of a position when `length` rows are put into `count` buckets, the first ones larger by one.
fn bucket(position: usize, length: usize, count: u64) -> i64 {
    let (position, length) = (position as u64, length as u64);
    let (size, larger) = (length / count, length % count);
    let border = larger * (size + 1);
    let bucket = if position < border { position / (size + 1) } else { larger + (position - border) / size.max(1) };
    bucket as i64 + 1
}

impl Reads {
    /// Notes what an aggregate is fed for the rows of a stretch, the `number`th.
    fn feed(
        &mut self,
        prepared: &Prepared,
        of: Ordered<'_>,
        (number, stretch): (usize, &Stretch),
        frames: &[(usize, usize)],
        pool: &mut Pool,
    ) {
        let mut feed = |reads: &mut Self, from: usize, to: usize, group: usize, diff: i64| {
            for row in of.list.iter_from(from).take(to.saturating_sub(from)) {
                reads.groups.push(group as u32);
                reads.rows.push(pool.place(row, stretch.partition));
                reads.diffs.push(diff);
            }
        };
        match prepared.way {
            Way::Whole => feed(self, 0, of.len(), number, 1),
            Way::Direct => {
                for (place, (start, end)) in frames.iter().enumerate() {
                    feed(self, *start, *end, stretch.at + place, 1);
                }
            }
            Way::Carried => {
                let mut before = None;
                for (place, (start, end)) in frames.iter().enumerate() {
                    let group = stretch.at + place;
                    match before {
                        // Its state has all that.
                        None if stretch.leads() => {}
                        None => feed(self, *start, *end, group, 1),
                        Some((last_start, last_end)) => {
                            feed(self, last_end, *end, group, 1);
                            feed(self, last_start, *start, group, -1);
                        }
                    }
                    before = Some((*start, *end));
                }
            }
            _ if prepared.call.frame.end == FrameBound::Unbounded => {
                let mut last = of.len();
                for (place, (start, _)) in frames.iter().enumerate().rev() {
                    feed(self, *start, last, 0, 1);
                    last = *start;
                    self.steps.push(Step { row: stretch.at + place, fed: self.rows.len(), restarts: place + 1 == frames.len() });
                }
            }
            _ => {
                let mut last = 0;
                for (place, (_, end)) in frames.iter().enumerate() {
                    feed(self, last, *end, 0, 1);
                    last = *end;
                    self.steps.push(Step { row: stretch.at + place, fed: self.rows.len(), restarts: place == 0 });
                }
            }
        }
    }

    /// The values that are taken, with the default where there is none.
    fn values(&self, argument: &ArrayRef, default: Option<&ArrayRef>) -> ArrayRef {
        let rows = UInt32Array::from(self.taken.clone());
        let values = compute::take(argument, &rows, None).expect("rows of the pool");
        let Some(default) = default else { return values };
        let own = compute::take(default, &UInt32Array::from(self.own.clone()), None).expect("rows of the pool");
        let missing = compute::is_null(&rows).expect("every column can be asked");
        compute::kernels::zip::zip(&missing, &own, &values).expect("a default has its argument's type")
    }
}

/// An aggregate and the columns it is fed.
struct FedColumns<'a> {
    call: &'a AggregateCall,
    argument: Option<ArrayRef>,
    further: Vec<ArrayRef>,
    order: Vec<ArrayRef>,
    filter: Option<ArrayRef>,
    accumulator: Box<dyn Accumulator>,
    /// Makes another accumulator.
    empty: &'a dyn Fn() -> Box<dyn Accumulator>,
}

impl FedColumns<'_> {
    /// Feeds a part of what is read.
    fn update(&mut self, reads: &Reads, part: std::ops::Range<usize>) {
        if part.is_empty() {
            return;
        }
        let rows = UInt32Array::from(reads.rows[part.clone()].to_vec());
        let taken = |column: &ArrayRef| compute::take(column, &rows, None).expect("rows of the pool");
        let (argument, filter) = (self.argument.as_ref().map(taken), self.filter.as_ref().map(taken));
        let (further, order) = (self.further.iter().map(taken).collect(), self.order.iter().map(taken).collect());
        self.accumulator.update(&Fed {
            groups: &reads.groups[part.clone()],
            argument: argument.as_ref(),
            further,
            order,
            filter: filter.as_ref().map(|filter| filter.as_boolean()),
            diffs: Some(&reads.diffs[part]),
        });
    }

    /// Row by row, one group.
    fn stepwise(&mut self, reads: &Reads, total: usize) -> Results {
        let (mut values, mut failed, mut fed) = (Vec::with_capacity(reads.steps.len()), Vec::new(), 0);
        let mut places = vec![0u32; total];
        for (place, step) in reads.steps.iter().enumerate() {
            if step.restarts {
                self.accumulator = (self.empty)();
                self.accumulator.resize(1);
            }
            self.update(reads, fed..step.fed);
            fed = step.fed;
            let output = self.accumulator.output(&[0]);
            failed.extend(output.failed.into_iter().map(|(_, reason)| (step.row, reason)));
            values.push(output.values);
            places[step.row] = place as u32;
        }
        if values.is_empty() {
            return Results { values: new_null_array(&self.call.data_type, total), states: Vec::new(), failed };
        }
        let arrays: Vec<&dyn Array> = values.iter().map(AsRef::as_ref).collect();
        let all = compute::concat(&arrays).expect("results of one type");
        let values = compute::take(&all, &UInt32Array::from(places), None).expect("every row has its step");
        Results { values, states: Vec::new(), failed }
    }
}
