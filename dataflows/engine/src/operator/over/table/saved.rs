//! Rows by event time in checkpoints, with what they were given: results may go on from rows that are forgotten.
//!
//! A row is saved with its place among equal ones, whether a result was given of it, the result and the state to go on from,
//! and why a result cannot be represented.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, StringArray, UInt32Array, new_null_array};
use arrow::datatypes::Int64Type;
use arrow_row::RowConverter;

use super::{Given, Moment, Partition, Table};
use crate::operator::groups::state_batch;
use crate::operator::sink::consolidate;
use crate::{Delta, Diff};

/// Between reasons, of which a row may have several.
const BETWEEN: &str = "\n";

/// What changed since the last checkpoint.
#[derive(Default)]
pub(in crate::operator::over) struct RowStates {
    /// Rows that the epoch has changed: their partition, and what they were.
    fresh: HashMap<u32, (u32, Option<State>)>,
    changes: Vec<Delta>,
}

/// What is known of a row.
struct State {
    place: u32,
    given: Option<Outcome>,
}

/// A result, the state to go on from, and why the result cannot be represented.
type Outcome = (Box<[u8]>, Box<[u8]>, Option<String>);

/// A row as it is to be saved.
struct Line {
    partition: u32,
    row: u32,
    state: State,
    diff: Diff,
}

impl RowStates {
    /// A row came.
    pub(super) fn note_new(&mut self, partition: u32, row: u32) {
        self.fresh.entry(row).or_insert((partition, None));
    }
}

impl Table {
    /// From here on it is remembered what changes.
    pub(in crate::operator::over) fn log_states(&mut self) {
        self.states = Some(RowStates::default());
    }

    /// A row is about to go, or to be given another result.
    pub(super) fn note_change(&mut self, partition: u32, row: u32) {
        if self.states.as_ref().is_none_or(|states| states.fresh.contains_key(&row)) {
            return;
        }
        let state = self.state_of(row);
        if let Some(states) = &mut self.states {
            states.fresh.insert(row, (partition, Some(state)));
        }
    }

    fn state_of(&self, row: u32) -> State {
        let reasons = self.failing.get(&row).map(|reasons| reasons.join(BETWEEN));
        let given = self.given[row as usize].as_ref();
        State { place: self.places[row as usize], given: given.map(|given| (given.output.clone(), given.state.clone(), reasons)) }
    }

    /// Reads the rows that changed, before those that are gone are forgotten.
    pub(super) fn note_states(&mut self) {
        let Some(fresh) = self.states.as_mut().map(|states| std::mem::take(&mut states.fresh)) else { return };
        let mut lines = Vec::new();
        for (row, (partition, before)) in fresh {
            if let Some(state) = before {
                lines.push(Line { partition, row, state, diff: -1 });
            }
            if self.rows.is_kept(row) {
                lines.push(Line { partition, row, state: self.state_of(row), diff: 1 });
            }
        }
        if lines.is_empty() {
            return;
        }
        let rows: Vec<u32> = lines.iter().map(|line| line.row).collect();
        let partitions: Vec<u32> = lines.iter().map(|line| line.partition).collect();
        let mut columns = self.rows.columns(&rows, &self.keys.columns(&partitions));
        columns.push(Arc::new(Int64Array::from_iter_values(lines.iter().map(|line| i64::from(line.state.place)))));
        columns.push(Arc::new(BooleanArray::from_iter(lines.iter().map(|line| Some(line.state.given.is_some())))));
        let reasons = |line: &Line| line.state.given.as_ref().and_then(|given| given.2.clone());
        columns.push(Arc::new(lines.iter().map(reasons).collect::<StringArray>()));
        let decoded = |converter: &RowConverter, of: fn(&Outcome) -> &[u8]| -> Vec<ArrayRef> {
            let given = lines.iter().filter_map(|line| line.state.given.as_ref());
            let parser = converter.parser();
            let values = converter.convert_rows(given.map(|given| parser.parse(of(given)))).expect("bytes of this converter");
            let mut next = 0;
            let place = |line: &Line| {
                line.state.given.as_ref().map(|_| {
                    next += 1;
                    next - 1
                })
            };
            let places: UInt32Array = lines.iter().map(place).collect();
            let spread = |values: &ArrayRef| match values.len() {
                0 => new_null_array(values.data_type(), places.len()),
                _ => arrow::compute::take(values, &places, None).expect("places are within the column"),
            };
            values.iter().map(spread).collect()
        };
        columns.extend(decoded(&self.shared.outputs, |given| &given.0));
        if let Some(states) = &self.shared.states {
            columns.extend(decoded(states, |given| &given.1));
        }
        let diffs: Vec<Diff> = lines.iter().map(|line| line.diff).collect();
        let delta = Delta::with_diffs(state_batch(columns, lines.len()), diffs.into());
        if let Some(states) = &mut self.states {
            states.changes.push(delta);
        }
    }

    /// What changed since this was asked last.
    pub(in crate::operator::over) fn take_states(&mut self) -> Vec<Delta> {
        let changes = self.states.as_mut().map(|states| std::mem::take(&mut states.changes)).unwrap_or_default();
        let schema = changes.first().map(|delta| delta.rows.schema());
        schema.map_or_else(Vec::new, |schema| consolidate(changes, &schema))
    }

    /// Takes back rows with what they were given.
    pub(in crate::operator::over) fn load_states(&mut self, delta: &Delta) {
        let shared = Arc::clone(&self.shared);
        let width = shared.input.fields().len();
        let columns = delta.rows.columns();
        let (row_columns, rest) = columns.split_at(width);
        let (outputs, states) = rest[3..].split_at(shared.plan.calls.len());
        let outputs = shared.outputs.convert_columns(outputs).expect("results have their types");
        let states = shared.states.as_ref().map(|converter| converter.convert_columns(states).expect("states have theirs"));
        let places = rest[0].as_primitive::<Int64Type>().clone();
        let (given, reasons) = (rest[1].as_boolean().clone(), rest[2].as_string::<i32>().clone());
        let rows = Delta::insert(state_batch(row_columns.to_vec(), delta.len()));
        let mut numbers = Vec::new();
        self.keys.intern(&rows.columns(&shared.plan.partition), delta.len(), &mut numbers);
        self.partitions.resize_with(self.keys.bound().max(self.partitions.len()), Partition::default);
        let times =
            highwater_plan::Micros::new(rows.rows.column(shared.plan.order[0].column)).expect("planners close by timestamps");
        let encoded = shared.layout.encode(&rows);
        for (index, partition) in numbers.iter().enumerate() {
            let key = encoded.key(index);
            let place = places.value(index) as u32;
            let row = self.rows.add(key);
            self.given.resize_with(self.rows.bound(), || None);
            self.times.resize(self.rows.bound(), 0);
            self.places.resize(self.rows.bound(), 0);
            (self.times[row as usize], self.places[row as usize]) = (times.value(index), place);
            if given.value(index) {
                let state = states.as_ref().map_or(Box::from([]), |states| Box::from(states.row(index).data()));
                self.given[row as usize] = Some(Given { output: Box::from(outputs.row(index).data()), state });
                if reasons.is_valid(index) {
                    self.failing.insert(row, reasons.value(index).split(BETWEEN).map(known).collect());
                }
            }
            let (rows, known) = (&self.rows, &self.places);
            let list = &mut self.partitions[*partition as usize].list;
            let after = list.partition_point(|other| (rows.key(other), known[other as usize]) <= (key, place));
            list.insert(after, row);
        }
    }

    /// All rows are loaded, and this is the moment that they were saved at.
    pub(in crate::operator::over) fn resume(&mut self, moment: Moment) {
        for number in self.keys.numbers() {
            let partition = &self.partitions[number as usize];
            let given = partition.list.iter_from(0).take_while(|row| self.given[*row as usize].is_some()).count();
            self.partitions[number as usize].given = given;
            self.forget(number, moment);
        }
        self.finish(self.keys.numbers());
    }
}

/// A reason that was saved. There are only a few, so that each is kept once and for all.
fn known(reason: &str) -> &'static str {
    static KNOWN: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut all = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    match all.get(reason) {
        Some(known) => known,
        None => {
            let kept: &'static str = Box::leak(Box::from(reason));
            all.insert(kept);
            kept
        }
    }
}
