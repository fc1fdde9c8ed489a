//! Joins that tell which rows have a match: left, right, full, semi, anti and mark joins.
//!
//! Without a residual condition all rows of a key have a match or none has: [`by_key`](super::by_key) counts the other
//! side's rows per key. With one, matches are counted per row: [`by_row`](super::by_row). Either way a change costs the
//! pairs it makes and the rows whose answer it changes.
//!
//! Rows with NULL keys match nothing and are not stored: what is said of them never changes.

use std::collections::BTreeMap;
use std::mem;

use arrow::array::{ArrayRef, Int64Array, UInt32Array};
use arrow::compute;
use arrow::datatypes::SchemaRef;
use highwater_plan::{Emit, Join, JoinKind};

use super::by_key::ByKey;
use super::by_row::ByRow;
use super::expire::Expiry;
use super::layout::Layout;
use super::side::Side;
use super::{BATCH_ROWS, Window};
use crate::checkpoint::{Keeps, Saved};
use crate::keys::Keys;
use crate::operator::epoch::EpochLogic;
use crate::operator::late::LateGate;
use crate::operator::lives::TimeToLive;
use crate::operator::map::Mapper;
use crate::{Delta, Diff, Time};

/// Every join but the inner one.
pub(crate) struct MatchingJoin {
    form: Form,
    window: Option<Window>,
    ttl: Option<TimeToLive>,
    /// By window end; without windows one table, at 0.
    tables: BTreeMap<i64, Table>,
}

/// What all tables of a join have in common.
pub(super) struct Form {
    pub(super) kind: JoinKind,
    pub(super) layout: Layout,
    /// Filters and projects the join's output.
    pub(super) mapper: Mapper,
    /// Whether a pair of equal keys matches, if more is asked than that.
    pub(super) condition: Option<Mapper>,
    /// Whether a row without a match is told only when its window is closed, or when no match can come any more.
    pub(super) last: bool,
}

impl Form {
    /// Whether rows of a side are given alone, depending on whether they have a match.
    pub(super) fn gives_alone(&self, side: usize, matched: bool) -> bool {
        match (self.kind, side) {
            (JoinKind::Inner, _) => false,
            (JoinKind::Left | JoinKind::Full | JoinKind::Anti, 0) | (JoinKind::Right | JoinKind::Full, 1) => !matched,
            (JoinKind::Semi, 0) => matched,
            (JoinKind::Mark, 0) => true,
            (_, _) => false,
        }
    }

    /// Whether rows of a side are ever given alone.
    pub(super) fn asks(&self, side: usize) -> bool {
        self.gives_alone(side, false) || self.gives_alone(side, true)
    }
}

/// Where an epoch's output goes.
pub(super) struct Given<'a> {
    pub(super) form: &'a Form,
    pub(super) epoch: Time,
    pub(super) output: &'a mut Vec<Delta>,
}

impl Given<'_> {
    /// Stored rows of a side, alone, each with its multiplicity.
    pub(super) fn stored(&mut self, side: usize, matched: bool, of: &Side, rows: &[(u32, Diff)]) {
        for rows in rows.chunks(BATCH_ROWS) {
            let (rows, diffs): (Vec<u32>, Vec<Diff>) = rows.iter().copied().unzip();
            self.alone(side, matched, of.gather(&rows), rows.len(), Some(Int64Array::from(diffs)));
        }
    }

    /// Rows of a change of a side, alone.
    pub(super) fn changed(&mut self, side: usize, matched: bool, delta: &Delta, rows: Option<Vec<u32>>) {
        let columns = delta.columns(&self.form.layout.kept[side]);
        let Some(rows) = rows.filter(|rows| rows.len() < delta.len()) else {
            return self.alone(side, matched, columns, delta.len(), delta.diffs.clone());
        };
        let positions = UInt32Array::from(rows);
        let columns = columns.iter().map(|column| compute::take(column, &positions, None).expect("rows of the batch"));
        let columns: Vec<ArrayRef> = columns.collect();
        let diffs = delta.diffs.is_some().then(|| positions.values().iter().map(|row| delta.diff(*row as usize)).collect());
        self.alone(side, matched, columns, positions.len(), diffs);
    }

    fn alone(&mut self, side: usize, matched: bool, columns: Vec<ArrayRef>, rows: usize, diffs: Option<Int64Array>) {
        if rows > 0 {
            let rows = self.form.layout.alone(side, columns, rows, matched);
            self.form.mapper.apply(self.epoch, Delta::of(rows, diffs), self.output);
        }
    }
}

/// The rows of a window, or of all time.
struct Table {
    rows: Rows,
    /// Whether rows without a match are told by now.
    told: bool,
    /// Rows without a key, until they are told.
    unkeyed: Vec<(usize, Delta)>,
}

enum Rows {
    ByKey(ByKey),
    ByRow(ByRow),
}

impl MatchingJoin {
    /// Joins rows of `left` and `right`; `mapper` takes what the kind of join gives, `condition` has the residual
    /// conditions as filters over left then right columns.
    pub(crate) fn new(
        join: &Join,
        inputs: [&SchemaRef; 2],
        append_only: [bool; 2],
        mapper: Mapper,
        condition: Option<Mapper>,
        window: Option<Window>,
    ) -> Self {
        let layout = Layout::new(join, inputs, append_only);
        let form = Form { kind: join.kind, layout, mapper, condition, last: join.emit == Emit::Final };
        MatchingJoin { form, window, ttl: None, tables: BTreeMap::new() }
    }

    /// Keys that no row touches for so long are forgotten, of a join without windows.
    pub(crate) fn that_expires(mut self, ttl: TimeToLive) -> Self {
        self.ttl = Some(ttl);
        self
    }

    fn change(&mut self, epoch: Time, end: i64, changes: [Vec<Delta>; 2], output: &mut Vec<Delta>) {
        let table = self.tables.entry(end).or_insert_with(|| Table::new(&self.form, self.ttl.clone()));
        table.apply(changes, Given { form: &self.form, epoch, output });
    }
}

impl EpochLogic for MatchingJoin {
    fn keeps(&self) -> Keeps {
        if self.ttl.is_some() { Keeps::Own } else { Keeps::Inputs }
    }

    fn log(&mut self) {
        if let Some(ttl) = &self.ttl {
            let table = self.tables.entry(0).or_insert_with(|| Table::new(&self.form, Some(ttl.clone())));
            table.expiry().0.into_iter().for_each(Expiry::log);
        }
    }

    fn save(&mut self, saved: &mut Saved) {
        if let Some(expiry) = self.tables.values_mut().find_map(|table| table.expiry().0) {
            expiry.save(self.form.layout.types.len(), saved);
        }
    }

    fn load(&mut self, epoch: Time, tables: &mut [Vec<Delta>]) {
        if self.ttl.is_none() {
            return self.apply(epoch, tables, None, &mut Vec::new());
        }
        let layout = &self.form.layout;
        let changes = [0, 1].map(|side| tables[side].iter().map(|delta| layout.widened(side, delta)).collect());
        self.change(epoch, 0, changes, &mut Vec::new());
        let (Some(expiry), keys) = self.tables.get_mut(&0).expect("just made").expiry() else { return };
        expiry.load(epoch, tables.get(2).map_or(&[], Vec::as_slice), keys);
    }

    /// Rows whose keys are NULL are not kept, unless NULLs are equal.
    fn kept_of(&self, input: u32, change: &Delta) -> Delta {
        let change = Delta::of(change.rows.clone(), change.diffs.clone());
        self.form.layout.with_keys(change, input as usize)
    }

    fn gates(&mut self) -> Vec<&mut LateGate> {
        self.window.iter_mut().flat_map(|window| &mut window.gates).collect()
    }

    fn freed(&self, table: u32) -> Option<(usize, i64)> {
        self.window.as_ref().and_then(|window| window.gates[table as usize].freed(window.closed()))
    }

    fn apply(&mut self, epoch: Time, inputs: &mut [Vec<Delta>], watermarks: Option<&[i64]>, output: &mut Vec<Delta>) {
        let form = &self.form;
        let changes: [Vec<Delta>; 2] = [0, 1].map(|side| {
            let deltas = mem::take(&mut inputs[side]).into_iter();
            // Of a side that is given in matches only, rows that cannot match are nobody's loss.
            let deltas = deltas.map(|delta| if form.asks(side) { delta } else { form.layout.with_keys(delta, side) });
            deltas.filter(|delta| !delta.is_empty()).collect()
        });
        let Some(window) = &mut self.window else {
            if self.ttl.is_some() || changes.iter().any(|deltas| !deltas.is_empty()) {
                self.change(epoch, 0, changes, output);
            }
            return;
        };
        let parts = window.split(epoch, changes);
        window.watermark.advance(watermarks);
        let (ended, closed) = (window.watermark.current, window.closed());
        for (end, changes) in parts {
            self.change(epoch, end, changes, output);
        }
        for (_, table) in self.tables.range_mut(..=ended) {
            table.tell(Given { form: &self.form, epoch, output });
        }
        while let Some(first) = self.tables.first_entry() {
            if *first.key() > closed {
                break;
            }
            first.remove();
        }
    }

    fn state(&self) -> (usize, usize) {
        self.tables.values().fold((0, 0), |(rows, bytes), table| {
            let state = match &table.rows {
                Rows::ByKey(table) => table.state(),
                Rows::ByRow(table) => table.state(),
            };
            let unkeyed = table.unkeyed.iter().map(|(_, delta)| delta);
            let (more, taken) =
                unkeyed.fold((0, 0), |(rows, bytes), delta| (rows + delta.len(), bytes + delta.rows.get_array_memory_size()));
            (rows + state.0 + more, bytes + state.1 + taken)
        })
    }
}

impl Table {
    fn new(form: &Form, ttl: Option<TimeToLive>) -> Self {
        let expiry = ttl.map(Expiry::new);
        let rows = match form.condition {
            None => Rows::ByKey(ByKey::new(form, expiry)),
            Some(_) => Rows::ByRow(ByRow::new(form, expiry)),
        };
        Table { rows, told: !form.last, unkeyed: Vec::new() }
    }

    fn expiry(&mut self) -> (Option<&mut Expiry>, &Keys) {
        match &mut self.rows {
            Rows::ByKey(table) => table.expiry(),
            Rows::ByRow(table) => table.expiry(),
        }
    }

    fn apply(&mut self, changes: [Vec<Delta>; 2], mut given: Given<'_>) {
        let form = given.form;
        let mut keyed: [Vec<Delta>; 2] = Default::default();
        for (side, deltas) in changes.into_iter().enumerate() {
            for delta in deltas {
                let (delta, unkeyed) = form.layout.split_keys(delta, side);
                match unkeyed.filter(|_| form.gives_alone(side, false)) {
                    Some(unkeyed) if self.told => given.changed(side, false, &unkeyed, None),
                    Some(unkeyed) => self.unkeyed.push((side, unkeyed)),
                    None => {}
                }
                if !delta.is_empty() {
                    keyed[side].push(delta);
                }
            }
        }
        match &mut self.rows {
            Rows::ByKey(table) => table.begin(given.epoch),
            Rows::ByRow(table) => table.begin(given.epoch),
        }
        if keyed.iter().all(Vec::is_empty) {
            return;
        }
        match &mut self.rows {
            Rows::ByKey(table) => table.apply(&keyed, self.told, &mut given),
            Rows::ByRow(table) => table.apply(&keyed, self.told, &mut given),
        }
    }

    /// Gives the rows that were held back; from here on their changes are given too.
    fn tell(&mut self, mut given: Given<'_>) {
        if mem::replace(&mut self.told, true) {
            return;
        }
        for (side, delta) in mem::take(&mut self.unkeyed) {
            given.changed(side, false, &delta, None);
        }
        match &self.rows {
            Rows::ByKey(table) => table.tell(&mut given),
            Rows::ByRow(table) => table.tell(&mut given),
        }
    }
}

#[cfg(test)]
mod tests;
