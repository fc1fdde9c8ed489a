//! A table of groups: their keys, how many rows each has, and one accumulator per aggregate.

mod dirty;

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use highwater_plan::Aggregate;

use self::dirty::Dirty;
use super::accumulate::Accumulators;
use super::ledger::Ledger;
use super::lives::{Lives, TimeToLive, netted};
use crate::equal::same_values;
use crate::keys::Keys;
use crate::{Delta, Diff, Time};

/// Groups and their aggregates.
pub(crate) struct Groups {
    key_columns: Vec<usize>,
    /// Rows are states of groups, added up elsewhere: the columns that hold them.
    partial: Option<PartialColumns>,
    keys: Keys,
    rows: Vec<Diff>,
    accumulators: Accumulators,
    marked: Vec<bool>,
    /// With `state_ttl`: when each group was touched last.
    lives: Option<Lives>,
    /// Columns that are read.
    read: Vec<usize>,
    /// What changed since the last checkpoint, if that is to be in the next one.
    dirty: Option<Dirty>,
    input: SchemaRef,
    /// With `state_ttl` and checkpoints: the rows of groups whose states do not travel.
    ledger: Option<Ledger>,
}

/// Of how many groups results are given at a time: columns of text have room for those.
const RESULTS: usize = 1 << 16;

/// Where the columns of partial states stand in a batch.
#[derive(Debug, Clone)]
pub(crate) struct PartialColumns {
    /// How many rows each state stands for.
    pub(crate) rows: usize,
    /// The first column of the accumulators' states, which are the last columns.
    pub(crate) states: usize,
}

/// Results of groups: key columns, then one column per aggregate, row by row.
pub(crate) struct Results {
    /// How many there are; there may be no columns.
    pub(crate) rows: usize,
    pub(crate) columns: Vec<ArrayRef>,
    pub(crate) diffs: Option<Int64Array>,
    /// Results that cannot be represented: key columns of the groups, their multiplicity, and the reason.
    pub(crate) failed: Vec<Failed>,
}

/// A group whose result cannot be represented.
pub(crate) struct Failed {
    pub(crate) keys: Vec<ArrayRef>,
    pub(crate) diff: Diff,
    pub(crate) reason: &'static str,
}

/// The results of some groups at one moment.
struct Moment {
    groups: Vec<u32>,
    values: Vec<ArrayRef>,
}

impl Groups {
    /// An empty table for the keys and calls of `aggregate` over rows of `input`.
    pub(crate) fn new(aggregate: &Aggregate, input: &SchemaRef, append_only: bool) -> Self {
        let types: Vec<DataType> = aggregate.keys.iter().map(|key| input.field(*key).data_type().clone()).collect();
        Groups {
            key_columns: aggregate.keys.clone(),
            partial: None,
            keys: Keys::new(&types),
            rows: Vec::new(),
            accumulators: Accumulators::new(&aggregate.calls, input, append_only),
            marked: Vec::new(),
            lives: None,
            read: read_columns(aggregate),
            dirty: None,
            input: Arc::clone(input),
            ledger: None,
        }
    }

    /// Groups that no row touches for so long are forgotten.
    pub(crate) fn that_expire(mut self, ttl: TimeToLive) -> Self {
        self.lives = Some(Lives::new(ttl));
        self
    }

    /// From here on groups that change are remembered.
    pub(crate) fn log(&mut self) {
        self.dirty = Some(Dirty::none_of(&self.keys));
        self.lives.iter_mut().for_each(Lives::log);
        self.keep_ledger();
    }

    /// From here on the rows of groups are kept, if they can expire and their states do not travel.
    fn keep_ledger(&mut self) {
        if self.ledger.is_none() && self.lives.is_some() && self.partial_types().is_none() {
            self.ledger = Some(Ledger::new(&self.input));
        }
    }

    /// Whether the rows of groups can be kept beside their states.
    pub(crate) fn can_keep_rows(&self) -> bool {
        Ledger::can_keep(&self.input)
    }

    /// The rows that came and went since this was asked last, of groups whose states do not travel.
    pub(crate) fn take_rows(&mut self) -> Vec<Delta> {
        self.ledger.as_mut().map(Ledger::take).unwrap_or_default()
    }

    /// Takes back what [`Groups::take_rows`] gave.
    pub(crate) fn load_rows(&mut self, deltas: &[Delta]) {
        self.keep_ledger();
        let mut numbers = Vec::new();
        // As they are: a row that is there less than not at all was not of its group, and counts.
        deltas.iter().for_each(|delta| self.accumulate(delta, &mut numbers));
        self.take_rows();
    }

    /// When its groups were touched, if that counts.
    pub(crate) fn lives(&mut self) -> Option<&mut Lives> {
        self.lives.as_mut()
    }

    /// Takes back when groups were touched, all of which were loaded.
    pub(crate) fn load_lives(&mut self, epoch: Time, touched: &[Delta]) {
        if let Some(lives) = &mut self.lives {
            lives.load(epoch, touched, &self.keys);
        }
    }

    /// The groups that changed since this was asked last: key columns, how many rows each stands for, then each accumulator's
    /// columns, as [`Groups::partials`] gives them; of groups that are gone the keys, with multiplicity -1.
    pub(crate) fn take_changed(&mut self) -> Vec<Delta> {
        let Some(dirty) = &mut self.dirty else { return Vec::new() };
        let mut dirty = std::mem::replace(dirty, Dirty::none_of(&self.keys));
        dirty.numbers.retain(|number| std::mem::take(&mut dirty.marked[*number as usize]));
        dirty.numbers.append(&mut self.keys.numbers_from(dirty.fresh));
        let present = self.partials_of(&dirty.numbers);
        let rows = dirty.numbers.len();
        let present = state_batch(present, rows);
        let mut changed = Vec::new();
        for keys in &dirty.gone {
            let rows = keys.first().map_or(1, |column| column.len());
            let mut columns = keys.clone();
            let others = present.schema().fields()[keys.len()..].to_vec();
            columns.extend(others.iter().map(|field| arrow::array::new_null_array(field.data_type(), rows)));
            changed.push(Delta::with_diffs(state_batch(columns, rows), vec![-1; rows].into()));
        }
        if rows > 0 {
            changed.push(Delta::insert(present));
        }
        changed
    }

    /// All groups are to be given by [`Groups::take_changed`].
    pub(crate) fn mark_all(&mut self) {
        if let Some(dirty) = &mut self.dirty {
            dirty.mark(&self.keys.numbers());
        }
    }

    /// What [`Groups::take_changed`] would give if all groups were gone.
    pub(crate) fn all_gone(&self) -> Delta {
        let keys = self.keys.numbers();
        let others = state_batch(self.partials_of(&[]), 0);
        let mut columns = self.keys.columns(&keys);
        let fields = others.schema().fields()[columns.len()..].to_vec();
        columns.extend(fields.iter().map(|field| arrow::array::new_null_array(field.data_type(), keys.len())));
        Delta::with_diffs(state_batch(columns, keys.len()), vec![-1; keys.len()].into())
    }

    /// Takes back what [`Groups::take_changed`] gave, of groups that it does not have yet.
    pub(crate) fn load(&mut self, delta: &Delta) {
        let columns = delta.rows.columns();
        let keys = self.key_columns.len();
        let mut numbers = Vec::new();
        self.keys.intern(&columns[..keys], delta.len(), &mut numbers);
        self.resize();
        let rows = columns[keys].as_primitive::<Int64Type>().values();
        numbers.iter().zip(rows).for_each(|(number, rows)| self.rows[*number as usize] += rows);
        self.accumulators.update_partials(&numbers, &columns[keys + 1..]);
    }

    /// Goes on to an epoch, and forgets groups that have expired by then.
    pub(crate) fn begin(&mut self, epoch: Time) {
        let Some(lives) = &mut self.lives else { return };
        let expired = lives.begin(epoch, &self.keys);
        lives.ttl.expired(expired.len());
        if let Some(dirty) = self.dirty.as_mut().filter(|_| !expired.is_empty()) {
            dirty.forget(&expired, &self.keys);
        }
        if let Some(ledger) = &mut self.ledger {
            ledger.forget(&expired);
        }
        for number in expired {
            self.rows[number as usize] = 0;
            self.forget(number);
        }
    }

    /// The table takes partial states instead of rows; their key columns come first.
    pub(crate) fn of_partials(mut self, columns: PartialColumns) -> Self {
        self.key_columns = (0..self.key_columns.len()).collect();
        self.partial = Some(columns);
        self
    }

    /// Per accumulator the types of its partial state; `None` if one has none.
    pub(crate) fn partial_types(&self) -> Option<Vec<Vec<DataType>>> {
        self.accumulators.partial_types()
    }

    /// The states of all groups: key columns, how many rows each stands for, then each accumulator's columns.
    pub(crate) fn partials(&self) -> Vec<ArrayRef> {
        self.partials_of(&self.keys.numbers())
    }

    fn partials_of(&self, numbers: &[u32]) -> Vec<ArrayRef> {
        let mut columns = self.keys.columns(numbers);
        let rows = numbers.iter().map(|number| self.rows[*number as usize]);
        columns.push(Arc::new(Int64Array::from_iter_values(rows)));
        columns.extend(self.accumulators.partials(numbers));
        columns
    }

    /// Makes room for the keys of this many groups.
    pub(crate) fn reserve(&mut self, groups: usize) {
        self.keys.reserve(groups);
        self.rows.reserve(groups);
    }

    /// Says which rows will come first, or which states of groups, as [`Groups::take_changed`] gives them.
    pub(crate) fn expect(&mut self, deltas: &[Delta], are_states: bool) {
        let of_states: Vec<usize> = (0..self.key_columns.len()).collect();
        let keys = if are_states { &of_states } else { &self.key_columns };
        self.keys.expect(&deltas.iter().map(|delta| delta.columns(keys)).collect::<Vec<_>>());
    }

    /// The columns that are the key.
    pub(crate) fn key_columns(&self) -> &[usize] {
        &self.key_columns
    }

    /// How many columns are the key.
    pub(crate) fn key_count(&self) -> usize {
        self.key_columns.len()
    }

    /// How many groups there are.
    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    /// About how many bytes they take.
    pub(crate) fn bytes(&self) -> usize {
        let lives = self.lives.as_ref().map_or(0, Lives::bytes) + self.ledger.as_ref().map_or(0, Ledger::bytes);
        self.keys.bytes() + self.rows.capacity() * 9 + self.accumulators.bytes() + lives
    }

    /// Adds rows without looking at what changes.
    pub(crate) fn accumulate(&mut self, delta: &Delta, numbers: &mut Vec<u32>) {
        self.intern(delta, numbers);
        // Of no columns there is one group, however many rows come to it.
        let changed = if self.key_columns.is_empty() { numbers.len().min(1) } else { numbers.len() };
        if let Some(dirty) = &mut self.dirty {
            dirty.mark(&numbers[..changed]);
        }
        self.update(delta, numbers);
    }

    /// Adds the group of no columns, which exists without rows.
    pub(crate) fn add_unit_group(&mut self) {
        let mut numbers = Vec::new();
        self.keys.intern(&[], 1, &mut numbers);
        self.resize();
    }

    /// Adds rows and gives what changed: for each changed group its old result retracted and its new one added.
    ///
    /// `always`: groups exist even without rows. `keep_failed`: results that cannot be represented are given as NULL
    /// rather than left out.
    pub(crate) fn apply(&mut self, deltas: &[Delta], always: bool, keep_failed: bool) -> Results {
        let mut touched = Vec::new();
        let mut numbers = Vec::with_capacity(deltas.len());
        for delta in deltas {
            let mut batch = Vec::new();
            self.intern(delta, &mut batch);
            self.marked.resize(self.keys.bound(), false);
            for number in &batch {
                if !std::mem::replace(&mut self.marked[*number as usize], true) {
                    touched.push(*number);
                }
            }
            numbers.push(batch);
        }
        for number in &touched {
            self.marked[*number as usize] = false;
        }
        if let Some(dirty) = &mut self.dirty {
            dirty.mark(&touched);
        }
        let admitted = self.lives.is_some().then(|| self.admitted(deltas, &numbers)).flatten();
        let (deltas, numbers) = match admitted {
            Some((deltas, numbers)) => (Cow::Owned(deltas), numbers),
            None => (Cow::Borrowed(deltas), numbers),
        };
        let mut failed = Vec::new();
        let old = self.moment(&touched, always, keep_failed, -1, &mut failed);
        for (delta, batch) in deltas.iter().zip(&numbers) {
            self.update(delta, batch);
        }
        if let Some(lives) = &mut self.lives {
            lives.touch(&touched);
            lives.noted(&self.keys);
            for number in &touched {
                let rows = &mut self.rows[*number as usize];
                if *rows < 0 {
                    lives.ttl.ignored(std::mem::take(rows));
                }
            }
        }
        let new = self.moment(&touched, always, keep_failed, 1, &mut failed);
        let (columns, diffs) = self.changes(&touched, &old, &new);
        let gone: Vec<u32> = touched.into_iter().filter(|number| self.rows[*number as usize] == 0 && !always).collect();
        if let Some(dirty) = self.dirty.as_mut().filter(|_| !gone.is_empty()) {
            dirty.forget(&gone, &self.keys);
        }
        if let Some(ledger) = &mut self.ledger {
            ledger.forget(&gone);
        }
        gone.into_iter().for_each(|number| self.forget(number));
        Results { rows: diffs.len(), columns, diffs: Some(diffs), failed }
    }

    /// As [`Groups::results`], some after the other.
    pub(crate) fn all_results(&self, keep_failed: bool) -> impl Iterator<Item = Results> {
        let numbers = self.keys.numbers();
        (0..numbers.len().div_ceil(RESULTS)).map(move |part| {
            let numbers = &numbers[part * RESULTS..numbers.len().min((part + 1) * RESULTS)];
            self.results_of(numbers, false, keep_failed)
        })
    }

    /// The results of all groups that have rows.
    pub(crate) fn results(&self, always: bool, keep_failed: bool) -> Results {
        self.results_of(&self.keys.numbers(), always, keep_failed)
    }

    fn results_of(&self, numbers: &[u32], always: bool, keep_failed: bool) -> Results {
        let mut failed = Vec::new();
        let moment = self.moment(numbers, always, keep_failed, 1, &mut failed);
        let mut columns = self.keys.columns(&moment.groups);
        columns.extend(moment.values);
        Results { rows: moment.groups.len(), columns, diffs: None, failed }
    }

    /// Adds another table of the same aggregate.
    pub(crate) fn merge(&mut self, other: &Groups, numbers: &mut Vec<u32>) {
        let theirs = other.keys.numbers();
        self.keys.intern(&other.keys.columns(&theirs), theirs.len(), numbers);
        self.resize();
        for (ours, theirs) in numbers.iter().zip(&theirs) {
            self.rows[*ours as usize] += other.rows[*theirs as usize];
        }
        self.accumulators.merge(numbers, &other.accumulators, &theirs);
    }

    fn intern(&mut self, delta: &Delta, numbers: &mut Vec<u32>) {
        self.keys.intern(&delta.columns(&self.key_columns), delta.len(), numbers);
        self.resize();
    }

    fn resize(&mut self) {
        let bound = self.keys.bound();
        if self.rows.len() < bound {
            self.rows.resize(bound, 0);
            self.accumulators.resize(bound);
        }
    }

    fn update(&mut self, delta: &Delta, numbers: &[u32]) {
        if let Some(ledger) = &mut self.ledger {
            ledger.add(delta, numbers);
        }
        if let Some(partial) = &self.partial {
            let rows = delta.rows.column(partial.rows).as_primitive::<Int64Type>().values();
            numbers.iter().zip(rows).for_each(|(number, rows)| self.rows[*number as usize] += rows);
            self.accumulators.update_partials(numbers, &delta.rows.columns()[partial.states..]);
            return;
        }
        if self.key_columns.is_empty() && delta.diffs.is_none() && !numbers.is_empty() {
            self.rows[0] += numbers.len() as Diff;
            self.accumulators.update_one(0, delta, numbers);
            return;
        }
        match delta.diff_values() {
            None => numbers.iter().for_each(|number| self.rows[*number as usize] += 1),
            Some(diffs) => numbers.iter().zip(diffs).for_each(|(number, diff)| self.rows[*number as usize] += diff),
        }
        self.accumulators.update(delta, numbers);
    }

    /// The changes without retractions of rows of groups that begin with this epoch: they are of groups that were
    /// forgotten. `None`: there are none.
    fn admitted(&self, deltas: &[Delta], numbers: &[Vec<u32>]) -> Option<(Vec<Delta>, Vec<Vec<u32>>)> {
        let lives = self.lives.as_ref()?;
        let begins = |number: &u32| self.rows[*number as usize] == 0;
        let suspect = |(delta, numbers): (&Delta, &Vec<u32>)| {
            delta.diff_values().is_some_and(|diffs| diffs.iter().zip(numbers).any(|(diff, number)| *diff < 0 && begins(number)))
        };
        if !deltas.iter().zip(numbers).any(suspect) {
            return None;
        }
        let rows = deltas.iter().zip(numbers).flat_map(|(delta, numbers)| {
            let (rows, others): (Vec<u32>, Vec<u32>) = (0..delta.len() as u32).partition(|row| begins(&numbers[*row as usize]));
            [rows, others].map(|rows| (delta.take(&UInt32Array::from(rows.clone())), rows, numbers))
        });
        let (mut kept, mut kept_numbers) = (Vec::new(), Vec::new());
        let (mut new, mut new_numbers) = (Vec::new(), Vec::new());
        for (place, (delta, rows, numbers)) in rows.enumerate() {
            let numbers = rows.iter().map(|row| numbers[*row as usize]).collect();
            let (deltas, all) = if place % 2 == 0 { (&mut new, &mut new_numbers) } else { (&mut kept, &mut kept_numbers) };
            deltas.push(delta);
            all.push(numbers);
        }
        let (netted, ignored) = netted(&new, &new_numbers, &self.read, |_, _| 0);
        lives.ttl.ignored(ignored);
        for (delta, numbers) in netted {
            kept.push(delta);
            kept_numbers.push(numbers);
        }
        Some((kept, kept_numbers))
    }

    /// Forgets groups that have no rows.
    pub(crate) fn forget_empty(&mut self) {
        let mut numbers = self.keys.numbers();
        numbers.retain(|number| self.rows[*number as usize] == 0);
        numbers.into_iter().for_each(|number| self.forget(number));
    }

    fn forget(&mut self, number: u32) {
        self.accumulators.clear(number);
        self.keys.remove(number);
    }

    /// The results now of those of `numbers` that have rows and can be represented.
    fn moment(&self, numbers: &[u32], always: bool, keep_failed: bool, diff: Diff, failed: &mut Vec<Failed>) -> Moment {
        let groups: Vec<u32> = numbers.iter().copied().filter(|number| always || self.rows[*number as usize] > 0).collect();
        let outputs = self.accumulators.outputs(&groups);
        let mut whole = vec![true; groups.len()];
        for (position, reason) in outputs.iter().flat_map(|output| &output.failed) {
            failed.push(Failed { keys: self.keys.columns(&groups[*position..=*position]), diff, reason });
            whole[*position] = false;
        }
        let values = outputs.into_iter().map(|output| output.values).collect();
        if keep_failed || whole.iter().all(|whole| *whole) {
            return Moment { groups, values };
        }
        let whole = BooleanArray::from(whole);
        let kept = |values: &ArrayRef| compute::filter(values, &whole).expect("one bit per group");
        let values = values.iter().map(kept).collect();
        let groups = groups.iter().zip(whole.values()).filter(|(_, whole)| *whole).map(|(group, _)| *group).collect();
        Moment { groups, values }
    }

    /// Key and value columns of what differs between two moments: retractions first.
    fn changes(&self, touched: &[u32], old: &Moment, new: &Moment) -> (Vec<ArrayRef>, Int64Array) {
        // Both moments list groups in the order of `touched`, so they are walked side by side.
        let (mut in_old, mut in_new) = (Vec::new(), Vec::new());
        let (mut both_old, mut both_new) = (Vec::new(), Vec::new());
        let (mut left, mut right) = (0, 0);
        for group in touched {
            let is_old = old.groups.get(left) == Some(group);
            let is_new = new.groups.get(right) == Some(group);
            match (is_old, is_new) {
                (true, true) => {
                    both_old.push(left as u32);
                    both_new.push(right as u32);
                }
                (true, false) => in_old.push(left as u32),
                (false, true) => in_new.push(right as u32),
                (false, false) => {}
            }
            left += usize::from(is_old);
            right += usize::from(is_new);
        }
        if !both_old.is_empty() && !old.values.is_empty() {
            let (old_rows, new_rows) = (UInt32Array::from(both_old), UInt32Array::from(both_new));
            let equal = equal_rows(&old.values, &old_rows, &new.values, &new_rows);
            for row in 0..old_rows.len() {
                if !equal.value(row) {
                    in_old.push(old_rows.value(row));
                    in_new.push(new_rows.value(row));
                }
            }
        }
        let groups: Vec<u32> = in_old
            .iter()
            .map(|position| old.groups[*position as usize])
            .chain(in_new.iter().map(|position| new.groups[*position as usize]))
            .collect();
        let diffs =
            Int64Array::from_iter_values(std::iter::repeat_n(-1, in_old.len()).chain(std::iter::repeat_n(1, in_new.len())));
        let positions: Vec<(usize, usize)> = in_old
            .into_iter()
            .map(|position| (0, position as usize))
            .chain(in_new.into_iter().map(|position| (1, position as usize)))
            .collect();
        let mut columns = self.keys.columns(&groups);
        for (old, new) in old.values.iter().zip(&new.values) {
            columns.push(compute::interleave(&[old.as_ref(), new.as_ref()], &positions).expect("two columns of one type"));
        }
        (columns, diffs)
    }
}

/// A batch of states of groups, whose columns have no names.
pub(super) fn state_batch(columns: Vec<ArrayRef>, rows: usize) -> RecordBatch {
    let fields = columns.iter().enumerate();
    let fields = fields.map(|(at, column)| Field::new(at.to_string(), column.data_type().clone(), true));
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    RecordBatch::try_new_with_options(schema, columns, &options).expect("fields of the columns")
}

/// The columns that an aggregate's calls and keys are made from.
fn read_columns(aggregate: &Aggregate) -> Vec<usize> {
    let calls = aggregate.calls.iter().flat_map(|call| {
        let ordered = call.order.iter().map(|key| key.column);
        call.argument.into_iter().chain(call.further.iter().copied()).chain(ordered).chain(call.filter)
    });
    let columns: std::collections::BTreeSet<usize> = calls.chain(aggregate.keys.iter().copied()).collect();
    columns.into_iter().collect()
}

/// Which rows are equal in all columns; NULL equals NULL.
pub(super) fn equal_rows(
    left: &[ArrayRef],
    left_rows: &UInt32Array,
    right: &[ArrayRef],
    right_rows: &UInt32Array,
) -> BooleanArray {
    let mut equal = BooleanArray::from(vec![true; left_rows.len()]);
    for (left, right) in left.iter().zip(right) {
        let left = compute::take(left, left_rows, None).expect("positions are within the column");
        let right = compute::take(right, right_rows, None).expect("positions are within the column");
        equal = compute::and(&equal, &same_values(&left, &right)).expect("as many rows");
    }
    equal
}
