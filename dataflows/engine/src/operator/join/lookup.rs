//! `FOR SYSTEM_TIME AS OF` processing time: each left row beside the right rows at the end of its epoch.
//!
//! The right side is kept, the left side is not: what was given stays. Only where left rows can be retracted is it
//! remembered beside which right rows each was given, so that a retraction takes back what was given and not what would be
//! given now; of equal left rows the last that came goes first.

mod saved;

use std::rc::Rc;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray};
use arrow::datatypes::{DataType, SchemaRef};
use arrow_row::{RowConverter, SortField};
use hashbrown::HashMap;

use self::saved::Log;
use super::couples::{Couples, Pairs};
use super::side::{NONE, Side};
use crate::checkpoint::{Keeps, Saved};
use crate::keys::{ABSENT, Keys};
use crate::operator::epoch::EpochLogic;
use crate::{Delta, Diff, Time};

/// Pairs of one output batch.
const BATCH_ROWS: usize = 8_192;

/// A join with the right side of the moment.
pub(crate) struct Lookup {
    couples: Couples,
    keys: Keys,
    right: Side,
    right_grows: bool,
    memory: Option<Memory>,
}

impl Lookup {
    /// `append_only` per side.
    pub(crate) fn new(couples: Couples, left: &SchemaRef, append_only: [bool; 2]) -> Self {
        let memory = (!append_only[0]).then(|| Memory::new(&couples, left));
        Lookup {
            keys: Keys::new(&couples.types),
            right: Side::new(&couples.kept_types[1], append_only[1]),
            right_grows: append_only[1],
            memory,
            couples,
        }
    }

    fn take_right(&mut self, deltas: Vec<Delta>) {
        let mut numbers = Vec::new();
        for mut delta in deltas {
            if let Some(comparable) = self.couples.comparable(&delta, 1) {
                delta = delta.filter(&comparable);
            }
            self.keys.intern(&delta.columns(&self.couples.on[1]), delta.len(), &mut numbers);
            self.right.resize(self.keys.bound());
            self.right.insert(&numbers, &delta.columns(&self.couples.kept[1]), &delta);
        }
        if !self.right_grows {
            let mut emptied = self.right.take_emptied();
            emptied.sort_unstable();
            emptied.dedup();
            for number in emptied {
                if self.right.first(number) == NONE {
                    self.keys.remove(number);
                }
            }
        }
    }

    /// Gives the rows of a left side that only grows.
    fn give(&self, epoch: Time, delta: &Delta, output: &mut Vec<Delta>) {
        let couples = &self.couples;
        let mut numbers = Vec::new();
        self.keys.find(&delta.columns(&couples.on[0]), delta.len(), &mut numbers);
        let left = delta.columns(&couples.kept[0]);
        let weighted = !self.right_grows || delta.diffs.is_some();
        let mut matched = vec![false; delta.len()];
        let mut found = Found::default();
        for (row, number) in numbers.iter().enumerate() {
            let mut stored = if *number == ABSENT { NONE } else { self.right.first(*number) };
            while stored != NONE {
                found.groups.push(row as u32);
                found.stored.push(stored);
                if weighted {
                    found.diffs.push(delta.diff(row) * self.right.weight(stored));
                }
                stored = self.right.next(stored);
                if found.groups.len() == BATCH_ROWS {
                    self.give_pairs(epoch, &left, std::mem::take(&mut found), &mut matched, output);
                }
            }
        }
        self.give_pairs(epoch, &left, found, &mut matched, output);
        couples.unmatched(epoch, &left, &matched, delta.diff_values(), output);
    }

    fn give_pairs(&self, epoch: Time, left: &[ArrayRef], found: Found, matched: &mut [bool], output: &mut Vec<Delta>) {
        if found.groups.is_empty() {
            return;
        }
        let right = self.right.gather(&found.stored);
        let diffs = (!found.diffs.is_empty()).then_some(found.diffs);
        self.couples.pairs(epoch, left, Pairs { groups: found.groups, right, diffs }, matched, output);
    }
}

/// Matches that wait to be given as one batch.
#[derive(Default)]
struct Found {
    groups: Vec<u32>,
    stored: Vec<u32>,
    diffs: Vec<Diff>,
}

impl EpochLogic for Lookup {
    fn keeps(&self) -> Keeps {
        match self.memory {
            Some(_) => Keeps::Own,
            None => Keeps::Inputs,
        }
    }

    fn log(&mut self) {
        if let Some(memory) = &mut self.memory {
            memory.log = Some(Log::default());
        }
    }

    fn save(&mut self, saved: &mut Saved) {
        if let Some(memory) = &mut self.memory {
            memory.save(&self.couples, saved);
        }
    }

    fn keeps_input(&self, input: u32) -> bool {
        input == 1
    }

    fn kept_of(&self, input: u32, change: &Delta) -> Delta {
        self.couples.comparable_of(change, input as usize)
    }

    fn load(&mut self, _epoch: Time, tables: &mut [Vec<Delta>]) {
        self.take_right(std::mem::take(&mut tables[1]));
        if let (Some(memory), Some(given)) = (&mut self.memory, tables.get(2)) {
            memory.load(given);
        }
    }

    fn apply(&mut self, epoch: Time, inputs: &mut [Vec<Delta>], _watermarks: Option<&[i64]>, output: &mut Vec<Delta>) {
        let right = std::mem::take(&mut inputs[1]);
        if let Some(log) = self.memory.as_mut().and_then(|memory| memory.log.as_mut()) {
            log.right.extend(right.iter().map(|delta| self.couples.comparable_of(delta, 1)));
        }
        self.take_right(right);
        let left = std::mem::take(&mut inputs[0]);
        match &mut self.memory {
            None => left.iter().for_each(|delta| self.give(epoch, delta, output)),
            Some(memory) => memory.apply(epoch, &left, &self.couples, &self.keys, &self.right, output),
        }
    }

    fn state(&self) -> (usize, usize) {
        let (rows, bytes) = self.memory.as_ref().map_or((0, 0), |memory| (memory.rows.len(), memory.bytes));
        (self.right.len() + rows, self.right.bytes() + self.keys.bytes() + bytes)
    }
}

/// Beside which right rows the left rows were given.
struct Memory {
    /// Left columns that are compared or kept, ascending.
    columns: Vec<usize>,
    left: RowConverter,
    right: RowConverter,
    rows: HashMap<Box<[u8]>, Vec<Given>, ahash::RandomState>,
    bytes: usize,
    /// What changed since the last checkpoint, if that is to be in the next one.
    log: Option<Log>,
}

/// Copies of a left row that were given beside the same right rows.
#[derive(Clone)]
struct Given {
    copies: Diff,
    beside: Rc<[(Box<[u8]>, Diff)]>,
}

/// Copies of a left row, and the right rows that they stand beside.
type Group = (Box<[u8]>, Diff, Rc<[(Box<[u8]>, Diff)]>);

/// An epoch's net change of a left row.
struct Net {
    diff: Diff,
    key: u32,
}

impl Memory {
    fn new(couples: &Couples, left: &SchemaRef) -> Self {
        let mut columns = [couples.on[0].clone(), couples.kept[0].clone()].concat();
        columns.sort_unstable();
        columns.dedup();
        if columns.is_empty() && !left.fields().is_empty() {
            // Rows without columns would have no bytes to be told by.
            columns.push(0);
        }
        let mut types: Vec<DataType> = columns.iter().map(|column| left.field(*column).data_type().clone()).collect();
        if types.is_empty() {
            // Rows that have no column are all alike, and are given this one.
            types.push(DataType::Boolean);
        }
        let converter = |types: &[DataType]| {
            let fields = types.iter().map(|data_type| SortField::new(data_type.clone())).collect();
            RowConverter::new(fields).expect("planners allow only columns that can be encoded")
        };
        Memory {
            left: converter(&types),
            right: converter(&couples.kept_types[1]),
            columns,
            rows: HashMap::with_hasher(ahash::RandomState::with_seeds(1, 2, 3, 4)),
            bytes: 0,
            log: None,
        }
    }

    fn apply(&mut self, epoch: Time, deltas: &[Delta], couples: &Couples, keys: &Keys, right: &Side, output: &mut Vec<Delta>) {
        let mut net: HashMap<Box<[u8]>, Net, ahash::RandomState> =
            HashMap::with_hasher(ahash::RandomState::with_seeds(1, 2, 3, 4));
        let mut numbers = Vec::new();
        for delta in deltas {
            keys.find(&delta.columns(&couples.on[0]), delta.len(), &mut numbers);
            let mut columns = delta.columns(&self.columns);
            if columns.is_empty() {
                columns.push(Arc::new(BooleanArray::from(vec![false; delta.len()])));
            }
            let encoded = self.left.convert_columns(&columns).expect("the left columns");
            for (row, key) in numbers.iter().enumerate() {
                let diff = delta.diff(row);
                match net.get_mut(encoded.row(row).data()) {
                    Some(known) => known.diff += diff,
                    None => drop(net.insert(Box::from(encoded.row(row).data()), Net { diff, key: *key })),
                }
            }
        }
        // Groups of one left row, beside what it was given or is given now.
        let mut groups: Vec<Group> = Vec::new();
        for (row, Net { diff, key }) in net {
            let mut rest = diff;
            let mut given = self.rows.remove(&row).unwrap_or_default();
            self.bytes -= bytes_of(&row, &given);
            if let Some(log) = &mut self.log {
                log.changes(&row, &given);
            }
            while rest != 0
                && let Some(last) = given.last_mut()
                && last.copies.signum() != rest.signum()
            {
                let taken = if rest.abs() < last.copies.abs() { rest } else { -last.copies };
                last.copies += taken;
                rest -= taken;
                groups.push((row.clone(), taken, Rc::clone(&last.beside)));
                if last.copies == 0 {
                    given.pop();
                }
            }
            if rest != 0 {
                let beside = self.beside(key, right);
                groups.push((row.clone(), rest, Rc::clone(&beside)));
                match given.last_mut().filter(|last| last.beside == beside) {
                    Some(last) => last.copies += rest,
                    None => given.push(Given { copies: rest, beside }),
                }
            }
            if !given.is_empty() {
                self.bytes += bytes_of(&row, &given);
                self.rows.insert(row, given);
            }
        }
        for groups in groups.chunks(BATCH_ROWS) {
            self.give(epoch, groups, couples, output);
        }
    }

    /// The right rows of a key now.
    fn beside(&self, key: u32, right: &Side) -> Rc<[(Box<[u8]>, Diff)]> {
        let mut stored = Vec::new();
        let mut next = if key == ABSENT { NONE } else { right.first(key) };
        while next != NONE {
            stored.push(next);
            next = right.next(next);
        }
        if stored.is_empty() {
            return Rc::from([]);
        }
        let weights = stored.iter().map(|row| right.weight(*row));
        let mut rows: Vec<(Box<[u8]>, Diff)> = match right.gather(&stored) {
            columns if columns.is_empty() => weights.map(|weight| (Box::from([]), weight)).collect(),
            columns => {
                let encoded = self.right.convert_columns(&columns).expect("the right side's columns");
                encoded.iter().map(|row| Box::from(row.data())).zip(weights).collect()
            }
        };
        rows.sort_unstable();
        rows.into()
    }

    fn give(&self, epoch: Time, groups: &[Group], couples: &Couples, output: &mut Vec<Delta>) {
        let parser = self.left.parser();
        let rows = groups.iter().map(|(row, ..)| parser.parse(row));
        let columns = self.left.convert_rows(rows).expect("the bytes came from this converter");
        let place = |column: &usize| self.columns.binary_search(column).expect("kept columns are remembered");
        let left: Vec<ArrayRef> = couples.kept[0].iter().map(|column| columns[place(column)].clone()).collect();
        let mut matched = vec![false; groups.len()];
        let (mut of, mut diffs, mut beside) = (Vec::new(), Vec::new(), Vec::new());
        for (group, (_, copies, rows)) in groups.iter().enumerate() {
            for (row, weight) in rows.iter() {
                of.push(group as u32);
                diffs.push(copies * weight);
                beside.push(row);
            }
        }
        let parser = self.right.parser();
        let right = match couples.kept[1].is_empty() {
            true => Vec::new(),
            false => {
                let rows = beside.into_iter().map(|row| parser.parse(row));
                self.right.convert_rows(rows).expect("the bytes came from this converter")
            }
        };
        couples.pairs(epoch, &left, Pairs { groups: of, right, diffs: Some(diffs) }, &mut matched, output);
        let copies: Vec<Diff> = groups.iter().map(|(_, copies, _)| *copies).collect();
        couples.unmatched(epoch, &left, &matched, Some(&copies), output);
    }
}

fn bytes_of(row: &[u8], given: &[Given]) -> usize {
    if given.is_empty() {
        return 0;
    }
    let beside = |given: &Given| given.beside.iter().map(|(row, _)| row.len() + 24).sum::<usize>();
    row.len() + 48 + given.iter().map(|given| 32 + beside(given)).sum::<usize>()
}

#[cfg(test)]
mod tests;
