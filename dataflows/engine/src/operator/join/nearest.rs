//! `ASOF JOIN`: each left row beside the nearest right row of its key, whatever changes on either side.
//!
//! Both sides are kept in order of (key, compared value). A left row remembers beside which right row it was given. A right
//! row that comes or goes changes only the left rows between it and the next one, which are a range of that order: so an
//! epoch costs the logarithm of the state for each change, plus the rows that change.
//!
//! Values are compared as numbers. For `<` and `<=` their order is turned around, so that the nearest right row is always
//! the last one before the left row.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::rc::Rc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Decimal128Type, Float32Type, Float64Type};
use arrow_row::{RowConverter, SortField};
use hashbrown::HashMap;
use highwater_plan::{Comparison, Nearest};

use super::couples::{Couples, Pairs};
use crate::checkpoint::Keeps;
use crate::keys::Keys;
use crate::operator::epoch::EpochLogic;
use crate::{Delta, Diff, Time};

/// Groups of one output batch.
const BATCH_ROWS: usize = 8_192;

/// Key, compared value, kept columns.
type Spot = (u32, i128, Rc<[u8]>);

/// A join with the nearest right row.
pub(crate) struct NearestJoin {
    couples: Couples,
    /// The compared column per side.
    compared: [usize; 2],
    /// Larger values come first.
    backwards: bool,
    /// Equal values do not match.
    strict: bool,
    converters: [RowConverter; 2],
    keys: Keys,
    /// Per key how many rows of both sides it has.
    users: Vec<u32>,
    left: BTreeMap<Spot, Placed>,
    right: BTreeMap<Spot, Diff>,
    bytes: usize,
}

/// A left row.
#[derive(Clone)]
struct Placed {
    copies: Diff,
    /// The right row that it was given beside.
    beside: Option<Rc<[u8]>>,
}

/// Copies of a left row, and the right row that they stand beside.
type Group = (Rc<[u8]>, Option<Rc<[u8]>>, Diff);

/// What a left row was before the epoch.
type Before = HashMap<Spot, Placed, ahash::RandomState>;

impl NearestJoin {
    pub(crate) fn new(nearest: &Nearest, couples: Couples) -> Self {
        let converter = |types: &[DataType]| {
            let fields = types.iter().map(|data_type| SortField::new(data_type.clone())).collect();
            RowConverter::new(fields).expect("planners allow only columns that can be encoded")
        };
        NearestJoin {
            compared: [nearest.left, nearest.right],
            backwards: matches!(nearest.comparison, Comparison::Less | Comparison::LessOrEqual),
            strict: matches!(nearest.comparison, Comparison::Less | Comparison::Greater),
            converters: [converter(&couples.kept_types[0]), converter(&couples.kept_types[1])],
            keys: Keys::new(&couples.types),
            users: Vec::new(),
            left: BTreeMap::new(),
            right: BTreeMap::new(),
            bytes: 0,
            couples,
        }
    }

    /// Calls `change` with the spot and multiplicity of each row of a side that can match, and gives the others back.
    fn each(&mut self, side: usize, delta: &Delta, mut change: impl FnMut(&mut Self, Spot, Diff)) -> Vec<u32> {
        let comparable = self.couples.comparable(delta, side);
        let values = ordered(delta.rows.column(self.compared[side]), self.backwards);
        let kept = delta.columns(&self.couples.kept[side]);
        let encoded = (!kept.is_empty()).then(|| self.converters[side].convert_columns(&kept).expect("the side's columns"));
        let mut numbers = Vec::new();
        self.keys.intern(&delta.columns(&self.couples.on[side]), delta.len(), &mut numbers);
        self.users.resize(self.keys.bound(), 0);
        let mut alone = Vec::new();
        for (row, number) in numbers.iter().enumerate() {
            match values[row].filter(|_| comparable.as_ref().is_none_or(|comparable| comparable.value(row))) {
                None => alone.push(row as u32),
                Some(value) => {
                    let bytes = encoded.as_ref().map_or_else(|| Rc::from([]), |encoded| Rc::from(encoded.row(row).data()));
                    change(self, (*number, value, bytes), delta.diff(row));
                }
            }
        }
        self.forget(numbers);
        alone
    }

    /// Frees those keys that neither side has rows of.
    fn forget(&mut self, mut numbers: Vec<u32>) {
        numbers.sort_unstable();
        numbers.dedup();
        for number in numbers {
            if self.users[number as usize] == 0 {
                self.keys.remove(number);
            }
        }
    }

    /// Takes the change of a right row; `touched` has the first right row at each changed place before the epoch.
    fn change_right(&mut self, spot: Spot, diff: Diff, touched: &mut BTreeMap<(u32, i128), Option<Rc<[u8]>>>) {
        let place = (spot.0, spot.1);
        touched.entry(place).or_insert_with(|| self.first_at(place));
        let (key, bytes) = (spot.0 as usize, spot.2.len() + 72);
        let copies = self.right.get(&spot).copied().unwrap_or(0) + diff;
        match copies {
            0 => {
                if self.right.remove(&spot).is_some() {
                    self.users[key] -= 1;
                    self.bytes -= bytes;
                }
            }
            _ => {
                if self.right.insert(spot, copies).is_none() {
                    self.users[key] += 1;
                    self.bytes += bytes;
                }
            }
        }
    }

    /// Takes the change of a left row. It stays, even without copies, until the epoch is given.
    fn change_left(&mut self, spot: Spot, diff: Diff, before: &mut Before) {
        if diff == 0 {
            return;
        }
        let (key, bytes) = (spot.0 as usize, spot.2.len() + 96);
        match self.left.get_mut(&spot) {
            Some(placed) => {
                before.entry(spot).or_insert_with(|| placed.clone());
                placed.copies += diff;
            }
            None => {
                before.entry(spot.clone()).or_insert(Placed { copies: 0, beside: None });
                self.left.insert(spot, Placed { copies: diff, beside: None });
                self.users[key] += 1;
                self.bytes += bytes;
            }
        }
    }

    /// The first right row at a place.
    fn first_at(&self, (key, value): (u32, i128)) -> Option<Rc<[u8]>> {
        let from = (key, value, Rc::from([]));
        let rows = self.right.range(from..).take_while(|(spot, _)| (spot.0, spot.1) == (key, value));
        rows.filter(|(_, copies)| **copies > 0).map(|(spot, _)| Rc::clone(&spot.2)).next()
    }

    /// The last place of a key before `to` that has a right row.
    fn place_before(&self, key: u32, to: Bound<Spot>) -> Option<(u32, i128)> {
        let from = Bound::Included((key, i128::MIN, Rc::from([])));
        self.right.range((from, to)).rev().find(|(_, copies)| **copies > 0).map(|(spot, _)| (spot.0, spot.1))
    }

    /// The right row that a left row stands beside.
    fn beside(&self, key: u32, value: i128) -> Option<Rc<[u8]>> {
        let to = match (self.strict, value.checked_add(1)) {
            (false, Some(next)) => Bound::Excluded((key, next, Rc::from([]))),
            (false, None) => Bound::Excluded((key + 1, i128::MIN, Rc::from([]))),
            (true, _) => Bound::Excluded((key, value, Rc::from([]))),
        };
        self.first_at(self.place_before(key, to)?)
    }

    /// Puts the left rows that a changed place concerns beside what is there now.
    fn replace(&mut self, (key, value): (u32, i128), old: &Option<Rc<[u8]>>, before: &mut Before) {
        let new = self.first_at((key, value));
        if new == *old {
            return;
        }
        let new = new.or_else(|| {
            let place = self.place_before(key, Bound::Excluded((key, value, Rc::from([]))))?;
            self.first_at(place)
        });
        let after = value.checked_add(1).map(|next| (key, next, Rc::from([])));
        let end = (key + 1, i128::MIN, Rc::from([]));
        let next = after.clone().and_then(|after| {
            let rows = self.right.range(after..end.clone());
            rows.into_iter().find(|(_, copies)| **copies > 0).map(|(spot, _)| spot.1)
        });
        // Equal left rows stand at the changed place, or, if equal values do not match, at the place before it.
        let bound = |value: i128| match self.strict {
            false => Some((key, value, Rc::from([]))),
            true => value.checked_add(1).map(|next| (key, next, Rc::from([]))),
        };
        let Some(from) = bound(value) else { return };
        let to = next.and_then(bound).unwrap_or(end);
        for (spot, placed) in self.left.range_mut(from..to) {
            if placed.beside != new {
                before.entry(spot.clone()).or_insert_with(|| placed.clone());
                placed.beside.clone_from(&new);
            }
        }
    }

    /// Gives what became of the changed left rows.
    fn give(&mut self, epoch: Time, before: Before, output: &mut Vec<Delta>) {
        let mut groups: Vec<Group> = Vec::new();
        let mut emptied = Vec::new();
        for (spot, old) in before {
            if old.copies == 0 {
                let beside = self.beside(spot.0, spot.1);
                self.left.get_mut(&spot).expect("a changed row stays until it is given").beside = beside;
            }
            let new = &self.left[&spot];
            let row = &spot.2;
            if new.beside == old.beside {
                groups.push((Rc::clone(row), old.beside, new.copies - old.copies));
            } else {
                groups.push((Rc::clone(row), old.beside, -old.copies));
                groups.push((Rc::clone(row), new.beside.clone(), new.copies));
            }
            if new.copies == 0 {
                self.left.remove(&spot);
                self.users[spot.0 as usize] -= 1;
                self.bytes -= spot.2.len() + 96;
                emptied.push(spot.0);
            }
        }
        self.forget(emptied);
        groups.retain(|(_, beside, diff)| *diff != 0 && (beside.is_some() || self.couples.outer));
        for groups in groups.chunks(BATCH_ROWS) {
            self.give_groups(epoch, groups, output);
        }
    }

    fn give_groups(&self, epoch: Time, groups: &[Group], output: &mut Vec<Delta>) {
        let columns = |side: usize, rows: &mut dyn Iterator<Item = &[u8]>| -> Vec<ArrayRef> {
            if self.couples.kept[side].is_empty() {
                return Vec::new();
            }
            let parser = self.converters[side].parser();
            self.converters[side].convert_rows(rows.map(|row| parser.parse(row))).expect("bytes of this converter")
        };
        let left = columns(0, &mut groups.iter().map(|(row, ..)| row.as_ref()));
        let with = |paired: bool| (0..groups.len()).filter(move |group| groups[*group].1.is_some() == paired);
        let diffs = |paired: bool| with(paired).map(|group| groups[group].2).collect();
        let numbers = |paired: bool| with(paired).map(|group| group as u32).collect();
        let right = columns(1, &mut groups.iter().filter_map(|(_, beside, _)| beside.as_deref()));
        let mut matched = vec![false; groups.len()];
        let pairs = Pairs { groups: numbers(true), right, diffs: Some(diffs(true)) };
        self.couples.pairs(epoch, &left, pairs, &mut matched, output);
        self.couples.alone(epoch, &left, numbers(false), Some(diffs(false)), output);
    }
}

impl EpochLogic for NearestJoin {
    fn keeps(&self) -> Keeps {
        Keeps::Inputs
    }

    /// Rows that match nothing are not kept.
    fn kept_of(&self, input: u32, change: &Delta) -> Delta {
        let side = input as usize;
        let kept = self.couples.comparable_of(change, side);
        match kept.rows.column(self.compared[side]).logical_nulls() {
            Some(nulls) if nulls.null_count() > 0 => kept.filter(nulls.inner()),
            _ => kept,
        }
    }

    fn apply(&mut self, epoch: Time, inputs: &mut [Vec<Delta>], _watermarks: Option<&[i64]>, output: &mut Vec<Delta>) {
        let mut before = Before::with_hasher(ahash::RandomState::with_seeds(1, 2, 3, 4));
        for delta in std::mem::take(&mut inputs[0]) {
            let alone = self.each(0, &delta, |join, spot, diff| join.change_left(spot, diff, &mut before));
            if self.couples.outer && !alone.is_empty() {
                let diffs = delta.diff_values().map(|diffs| alone.iter().map(|row| diffs[*row as usize]).collect());
                self.couples.alone(epoch, &delta.columns(&self.couples.kept[0]), alone, diffs, output);
            }
        }
        let mut touched = BTreeMap::new();
        for delta in std::mem::take(&mut inputs[1]) {
            self.each(1, &delta, |join, spot, diff| join.change_right(spot, diff, &mut touched));
        }
        for (place, old) in &touched {
            self.replace(*place, old, &mut before);
        }
        self.give(epoch, before, output);
    }

    fn state(&self) -> (usize, usize) {
        (self.left.len() + self.right.len(), self.bytes + self.keys.bytes() + self.users.capacity() * 4)
    }
}

/// The values of a column as numbers in their order; `backwards`: in the opposite one.
fn ordered(column: &ArrayRef, backwards: bool) -> Vec<Option<i128>> {
    let turned = |value: i128| if backwards { -value } else { value };
    let whole = |column: &ArrayRef| -> Vec<Option<i128>> {
        let words = arrow::compute::cast(column, &DataType::Int64).expect("times and integers are numbers");
        let words = words.as_primitive::<arrow::datatypes::Int64Type>();
        words.iter().map(|value| value.map(|value| turned(i128::from(value)))).collect()
    };
    match column.data_type() {
        DataType::Decimal128(..) => column.as_primitive::<Decimal128Type>().iter().map(|value| value.map(turned)).collect(),
        DataType::UInt64 => {
            let values = column.as_primitive::<arrow::datatypes::UInt64Type>();
            values.iter().map(|value| value.map(|value| turned(i128::from(value)))).collect()
        }
        DataType::Float64 => {
            let values = column.as_primitive::<Float64Type>();
            values.iter().map(|value| value.map(|value| turned(ordered_float(value)))).collect()
        }
        DataType::Float32 => {
            let values = column.as_primitive::<Float32Type>();
            values.iter().map(|value| value.map(|value| turned(ordered_float(f64::from(value))))).collect()
        }
        DataType::Date32 | DataType::Time32(_) => {
            whole(&arrow::compute::cast(column, &DataType::Int32).expect("dates and times are numbers"))
        }
        _ => whole(column),
    }
}

/// A number in the order of floats: NaN is the largest, and both zeros are one.
fn ordered_float(value: f64) -> i128 {
    let bits = (value + 0.0).to_bits() as i64;
    i128::from(bits ^ (((bits >> 63) as u64) >> 1) as i64)
}

#[cfg(test)]
mod tests;
