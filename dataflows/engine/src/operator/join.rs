//! Pairs of rows with equal keys: inner joins here, every other kind in [`matching`].
//!
//! Per epoch, over both sides' changes at once: `dL x R_old`, then `L_new x dR`. Both sides share one table of keys, so a
//! changed row is hashed once. With a window's bound among the keys there is a table per window, dropped whole when both
//! sides' watermarks have passed the window's end. Where only the distance of two times is bounded, [`interval`] joins.

pub(crate) mod arranged;
mod by_key;
mod by_row;
pub(crate) mod couples;
mod expire;
pub(crate) mod interval;
mod layout;
pub(crate) mod lookup;
pub(crate) mod matching;
pub(crate) mod nearest;
pub(crate) mod shared;
mod side;
mod slices;
pub(crate) mod versioned;

use std::collections::BTreeMap;

use arrow::array::{ArrayRef, Int64Array, UInt32Array};
use arrow::compute;
use arrow::datatypes::SchemaRef;
use highwater_plan::Join;

use self::expire::Expiry;
use self::layout::Layout;
use self::side::{NONE, Side};
use super::epoch::EpochLogic;
use super::late::{LateGate, Watermark};
use super::lives::TimeToLive;
use super::map::Mapper;
use crate::checkpoint::{Keeps, Saved};
use crate::delta::net;
use crate::keys::{ABSENT, Keys};
use crate::{Delta, Diff, Time};

/// Rows of one output batch.
const BATCH_ROWS: usize = 8_192;

/// An inner equi-join.
pub(crate) struct HashJoin {
    layout: Layout,
    mapper: Mapper,
    window: Option<Window>,
    ttl: Option<TimeToLive>,
    /// By window end; without windows one table, at 0.
    tables: BTreeMap<i64, Table>,
    /// Rows and bytes of all tables.
    size: (usize, usize),
}

/// How rows of a window are found and freed.
pub(crate) struct Window {
    /// The smaller of both sides'.
    pub(crate) watermark: Watermark,
    /// How long after its end a window takes rows, in microseconds.
    pub(crate) lateness: i64,
    /// Refuse rows of closed windows, per side.
    pub(crate) gates: [LateGate; 2],
}

impl Window {
    /// The rows of windows that are open, by their windows' ends.
    fn split(&self, epoch: Time, changes: [Vec<Delta>; 2]) -> BTreeMap<i64, [Vec<Delta>; 2]> {
        let mut parts: BTreeMap<i64, [Vec<Delta>; 2]> = BTreeMap::new();
        for (side, deltas) in changes.into_iter().enumerate() {
            for delta in self.gates[side].at_once(deltas) {
                for (end, part) in self.gates[side].windows_of(epoch, delta, self.watermark.current) {
                    parts.entry(end).or_default()[side].push(part);
                }
            }
        }
        parts
    }

    /// The end of the last window that takes no rows any more.
    fn closed(&self) -> i64 {
        self.watermark.current.saturating_sub(self.lateness)
    }
}

/// One table of keys with the rows of both sides.
struct Table {
    keys: Keys,
    sides: [Side; 2],
    expiry: Option<Expiry>,
    /// Its part of the join's size.
    counted: (usize, usize),
}

impl HashJoin {
    /// Joins rows of `left` and `right`; `mapper` takes left then right columns.
    pub(crate) fn new(
        join: &Join,
        inputs: [&SchemaRef; 2],
        append_only: [bool; 2],
        mapper: Mapper,
        window: Option<Window>,
    ) -> Self {
        let layout = Layout::new(join, inputs, append_only);
        HashJoin { layout, mapper, window, ttl: None, tables: BTreeMap::new(), size: (0, 0) }
    }

    /// Keys that no row touches for so long are forgotten, of a join without windows.
    pub(crate) fn that_expires(mut self, ttl: TimeToLive) -> Self {
        self.ttl = Some(ttl);
        self
    }

    fn join(&mut self, epoch: Time, end: i64, changes: &[Vec<Delta>; 2], output: &mut Vec<Delta>) {
        let layout = &self.layout;
        let table = self.tables.entry(end).or_insert_with(|| Table::new(layout, self.ttl.clone()));
        let Table { keys, sides, expiry, .. } = &mut *table;
        let admitted = expiry.as_mut().map(|expiry| {
            expiry.begin(epoch, keys, sides, &mut Default::default());
            let admitted = expiry.admitted(changes, keys, sides, [true; 2], [&layout.kept, &layout.on]).0;
            expiry.note(&admitted, [true; 2], layout);
            admitted
        });
        let changes = admitted.as_ref().unwrap_or(changes);
        for side in [0, 1] {
            for delta in &changes[side] {
                table.apply(epoch, side, delta, layout, &self.mapper, output);
            }
        }
        table.forget_empty_keys(layout);
        table.count(&mut self.size);
    }

    /// Joins all rows of a window that came with the epoch that closes it: only the smaller side is stored, and neither
    /// is kept.
    fn join_once(&self, epoch: Time, changes: &[Vec<Delta>; 2], output: &mut Vec<Delta>) {
        let layout = &self.layout;
        let rows = |side: usize| changes[side].iter().map(Delta::len).sum::<usize>();
        let smaller = usize::from(rows(1) < rows(0));
        if rows(smaller) == 0 {
            return;
        }
        let mut table = Table::new(layout, None);
        for delta in &changes[smaller] {
            table.apply(epoch, smaller, delta, layout, &self.mapper, output);
        }
        let mut numbers = Vec::new();
        for delta in &changes[1 - smaller] {
            table.keys.find(&delta.columns(&layout.on[1 - smaller]), delta.len(), &mut numbers);
            let kept = delta.columns(&layout.kept[1 - smaller]);
            let fresh = Fresh { epoch, side: 1 - smaller, delta, numbers: &numbers, kept };
            fresh.join(&table.sides[smaller], None, layout, &self.mapper, output);
        }
    }
}

impl EpochLogic for HashJoin {
    fn keeps(&self) -> Keeps {
        if self.ttl.is_some() { Keeps::Own } else { Keeps::Inputs }
    }

    fn log(&mut self) {
        let layout = &self.layout;
        if let Some(ttl) = &self.ttl {
            let table = self.tables.entry(0).or_insert_with(|| Table::new(layout, Some(ttl.clone())));
            table.expiry.iter_mut().for_each(Expiry::log);
        }
    }

    fn save(&mut self, saved: &mut Saved) {
        if let Some(expiry) = self.tables.values_mut().find_map(|table| table.expiry.as_mut()) {
            expiry.save(self.layout.types.len(), saved);
        }
    }

    /// Rows whose keys are NULL are not kept, unless NULLs are equal.
    fn kept_of(&self, input: u32, change: &Delta) -> Delta {
        let change = Delta::of(change.rows.clone(), change.diffs.clone());
        self.layout.with_keys(change, input as usize)
    }

    fn gates(&mut self) -> Vec<&mut LateGate> {
        self.window.iter_mut().flat_map(|window| &mut window.gates).collect()
    }

    fn freed(&self, table: u32) -> Option<(usize, i64)> {
        self.window.as_ref().and_then(|window| window.gates[table as usize].freed(window.closed()))
    }

    fn load(&mut self, epoch: Time, tables: &mut [Vec<Delta>]) {
        let layout = &self.layout;
        if let Some(ttl) = &self.ttl {
            let table = self.tables.entry(0).or_insert_with(|| Table::new(layout, Some(ttl.clone())));
            for side in [0, 1] {
                tables[side].iter().for_each(|delta| table.insert(side, &layout.widened(side, delta), layout));
            }
            if let Some(expiry) = &mut table.expiry {
                expiry.load(epoch, tables.get(2).map_or(&[], Vec::as_slice), &table.keys);
            }
            table.count(&mut self.size);
            return;
        }
        if self.window.is_none() {
            let table = self.tables.entry(0).or_insert_with(|| Table::new(layout, None));
            let keys = [0, 1].map(|side| tables[side].iter().map(move |delta| delta.columns(&layout.on[side])));
            table.keys.expect(&keys.into_iter().flatten().collect::<Vec<_>>());
            (0..2).for_each(|side| table.sides[side].reserve(net(&tables[side])));
        }
        for side in [0, 1] {
            for delta in std::mem::take(&mut tables[side]) {
                let delta = layout.with_keys(delta, side);
                let parts = match &self.window {
                    Some(window) => window.gates[side].windows_of(epoch, delta, i64::MIN),
                    None => vec![(0, delta)],
                };
                for (end, part) in parts.into_iter().filter(|(_, part)| !part.is_empty()) {
                    self.tables.entry(end).or_insert_with(|| Table::new(layout, None)).insert(side, &part, layout);
                }
            }
        }
        for table in self.tables.values_mut() {
            table.forget_empty_keys(layout);
            table.count(&mut self.size);
        }
    }

    fn takes_changes(&self) -> bool {
        self.ttl.is_none()
    }

    fn apply(&mut self, epoch: Time, inputs: &mut [Vec<Delta>], watermarks: Option<&[i64]>, output: &mut Vec<Delta>) {
        let changes: [Vec<Delta>; 2] = [0, 1].map(|side| {
            let deltas = std::mem::take(&mut inputs[side]).into_iter();
            deltas.map(|delta| self.layout.with_keys(delta, side)).filter(|delta| !delta.is_empty()).collect()
        });
        let Some(window) = &mut self.window else {
            if self.ttl.is_some() || changes.iter().any(|deltas| !deltas.is_empty()) {
                self.join(epoch, 0, &changes, output);
            }
            return;
        };
        let parts = window.split(epoch, changes);
        window.watermark.advance(watermarks);
        let closed = window.closed();
        for (end, changes) in parts {
            match end <= closed && !self.tables.contains_key(&end) {
                true => self.join_once(epoch, &changes, output),
                false => self.join(epoch, end, &changes, output),
            }
        }
        while let Some(first) = self.tables.first_entry() {
            if *first.key() > closed {
                break;
            }
            first.remove().count_out(&mut self.size);
        }
    }

    fn state(&self) -> (usize, usize) {
        self.size
    }
}

impl Table {
    fn new(layout: &Layout, ttl: Option<TimeToLive>) -> Self {
        Table {
            expiry: ttl.map(Expiry::new),
            keys: Keys::new(&layout.types),
            sides: [0, 1].map(|side| Side::new(&layout.kept_types[side], layout.append_only[side])),
            counted: (0, 0),
        }
    }

    /// Brings the table's part of these rows and bytes up to date.
    fn count(&mut self, size: &mut (usize, usize)) {
        let [left, right] = &self.sides;
        let expiry = self.expiry.as_ref().map_or(0, Expiry::bytes);
        let now = (left.len() + right.len(), left.bytes() + right.bytes() + self.keys.bytes() + expiry);
        let before = std::mem::replace(&mut self.counted, now);
        *size = (size.0 - before.0 + now.0, size.1 - before.1 + now.1);
    }

    /// The table goes.
    fn count_out(self, size: &mut (usize, usize)) {
        *size = (size.0 - self.counted.0, size.1 - self.counted.1);
    }

    /// Joins a change of one side with the other side, then takes it into its own.
    fn apply(&mut self, epoch: Time, side: usize, delta: &Delta, layout: &Layout, mapper: &Mapper, output: &mut Vec<Delta>) {
        let mut numbers = Vec::new();
        self.keys.intern(&delta.columns(&layout.on[side]), delta.len(), &mut numbers);
        let bound = self.keys.bound();
        self.sides.iter_mut().for_each(|side| side.resize(bound));
        let fresh = Fresh { epoch, side, delta, numbers: &numbers, kept: delta.columns(&layout.kept[side]) };
        fresh.join(&self.sides[1 - side], None, layout, mapper, output);
        self.sides[side].insert(&numbers, &fresh.kept, delta);
    }

    /// Takes rows into their side without joining them.
    fn insert(&mut self, side: usize, delta: &Delta, layout: &Layout) {
        let mut numbers = Vec::new();
        self.keys.intern(&delta.columns(&layout.on[side]), delta.len(), &mut numbers);
        let bound = self.keys.bound();
        self.sides.iter_mut().for_each(|side| side.resize(bound));
        self.sides[side].insert(&numbers, &delta.columns(&layout.kept[side]), delta);
    }

    /// Frees the numbers of keys that neither side has rows of any more.
    fn forget_empty_keys(&mut self, layout: &Layout) {
        if layout.append_only == [true, true] {
            self.expiry.as_mut().map(Expiry::take_touched);
            return;
        }
        let mut emptied = self.sides[0].take_emptied();
        emptied.append(&mut self.expiry.as_mut().map(Expiry::take_touched).unwrap_or_default());
        emptied.append(&mut self.sides[1].take_emptied());
        emptied.sort_unstable();
        emptied.dedup();
        for number in emptied {
            if self.sides.iter().all(|side| side.first(number) == NONE) {
                self.keys.remove(number);
            }
        }
    }
}

/// A change of one side.
struct Fresh<'a> {
    epoch: Time,
    side: usize,
    delta: &'a Delta,
    /// The numbers of its keys, by which the rows of the other side are chained.
    numbers: &'a [u32],
    /// Its columns that the output reads.
    kept: Vec<ArrayRef>,
}

impl Fresh<'_> {
    /// Joins the change with the other side; `read`: which of its columns are kept for the output, if not all are.
    fn join(&self, other: &Side, read: Option<&[usize]>, layout: &Layout, mapper: &Mapper, output: &mut Vec<Delta>) {
        if other.len() == 0 {
            return;
        }
        let retracts = self.delta.diffs.is_some() || !layout.append_only[1 - self.side];
        let mut pairs = Pairs::default();
        for (row, number) in self.numbers.iter().enumerate() {
            if *number == ABSENT {
                continue;
            }
            let mut stored = other.first(*number);
            while stored != NONE {
                pairs.fresh.push(row as u32);
                pairs.stored.push(stored);
                if retracts {
                    pairs.diffs.push(self.delta.diff(row) * other.weight(stored));
                }
                stored = other.next(stored);
                if pairs.fresh.len() == BATCH_ROWS {
                    self.give(&mut pairs, other, read, layout, mapper, output);
                }
            }
        }
        self.give(&mut pairs, other, read, layout, mapper, output);
    }

    fn give(
        &self,
        pairs: &mut Pairs,
        other: &Side,
        read: Option<&[usize]>,
        layout: &Layout,
        mapper: &Mapper,
        output: &mut Vec<Delta>,
    ) {
        if pairs.fresh.is_empty() {
            return;
        }
        let positions = UInt32Array::from(std::mem::take(&mut pairs.fresh));
        let take = |column: &ArrayRef| compute::take(column, &positions, None).expect("rows of the batch");
        let fresh = self.kept.iter().map(take).collect();
        let stored = match read {
            None => other.gather(&pairs.stored),
            Some(read) => other.gather_of(&pairs.stored, read),
        };
        pairs.stored.clear();
        let rows = layout.pairs(self.side, fresh, stored, positions.len());
        let diffs = (!pairs.diffs.is_empty()).then(|| Int64Array::from(std::mem::take(&mut pairs.diffs)));
        mapper.apply(self.epoch, Delta::of(rows, diffs), output);
    }
}

/// Matches that wait to be given as one batch.
#[derive(Default)]
struct Pairs {
    fresh: Vec<u32>,
    stored: Vec<u32>,
    diffs: Vec<Diff>,
}
