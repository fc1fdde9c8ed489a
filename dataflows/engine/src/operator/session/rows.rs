//! Sessions with their rows: joined and split by moving the fewer rows.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::SchemaRef;
use arrow_row::{RowConverter, SortField};

use super::map::{Merged, Sessions};
use super::{Entry, LateRow, SessionSpec};
use crate::keys::Keys;
use crate::{Delta, Diff, Time};

/// A key's rows: time and encoded columns, with their multiplicity.
type Kept = BTreeMap<(i64, Rc<[u8]>), Diff>;

/// What an epoch changed in the rows of a session.
pub(super) struct Change {
    pub(super) slot: u32,
    pub(super) time: i64,
    pub(super) row: Rc<[u8]>,
    pub(super) diff: Diff,
}

/// Sessions and their rows.
pub(super) struct SessionRows {
    pub(super) sessions: Sessions,
    pub(super) keys: Keys,
    input: SchemaRef,
    converter: RowConverter,
    kept: Vec<Kept>,
    rows: usize,
    bytes: usize,
    /// By how much each row's multiplicity changed since the last checkpoint, if that is to be in the next one.
    log: Option<HashMap<Rc<[u8]>, Diff, ahash::RandomState>>,
}

/// A row's net change in an epoch.
struct Net {
    entry: Entry,
    row: Rc<[u8]>,
    diff: Diff,
}

impl SessionRows {
    /// No rows of `input` yet.
    pub(super) fn new(spec: &SessionSpec, input: &SchemaRef) -> Self {
        let fields = input.fields().iter().map(|field| SortField::new(field.data_type().clone())).collect();
        SessionRows {
            sessions: Sessions::new(spec.assign.gap),
            keys: spec.keys(input),
            input: Arc::clone(input),
            converter: RowConverter::new(fields).expect("planners allow only columns that can be encoded"),
            kept: Vec::new(),
            rows: 0,
            bytes: 0,
            log: None,
        }
    }

    /// From here on what changes is remembered.
    pub(super) fn log(&mut self) {
        self.log = Some(HashMap::default());
    }

    /// Which rows are kept that were not when this was asked last, and the other way round.
    pub(super) fn take_changed(&mut self) -> Vec<Delta> {
        let log = self.log.as_mut().map(std::mem::take).unwrap_or_default();
        let changed: Vec<(Rc<[u8]>, Diff)> = log.into_iter().filter(|(_, diff)| *diff != 0).collect();
        if changed.is_empty() {
            return Vec::new();
        }
        let rows = RecordBatch::try_new(Arc::clone(&self.input), self.columns(changed.iter().map(|(row, _)| row)));
        let diffs = Int64Array::from_iter_values(changed.iter().map(|(_, diff)| *diff));
        vec![Delta::with_diffs(rows.expect("the input's columns"), diffs)]
    }

    /// Applies an epoch's rows, given the watermark of the epoch before; gives what changed in which session, and the keys
    /// that were met.
    pub(super) fn apply(&mut self, epoch: Time, spec: &SessionSpec, deltas: &[Delta], watermark: i64) -> (Vec<Change>, Vec<u32>) {
        let (entries, mut keys) = spec.entries(epoch, deltas, &mut self.keys);
        keys.extend(entries.iter().map(|entry| entry.key));
        keys.dedup();
        self.sessions.reserve(self.keys.bound());
        self.kept.resize_with(self.keys.bound(), Kept::new);
        let net = self.consolidated(entries, deltas);
        let (mut changes, mut late) = (Vec::new(), BTreeMap::new());
        for of_key in net.chunk_by(|a, b| a.entry.key == b.entry.key) {
            let added: Vec<&Net> = of_key.iter().filter(|net| net.diff > 0).collect();
            let near = |a: &&Net, b: &&Net| b.entry.time.saturating_sub(a.entry.time) <= spec.assign.gap;
            for run in added.chunk_by(near) {
                self.add(spec, run, watermark, &mut changes, &mut late);
            }
            for net in of_key.iter().filter(|net| net.diff < 0) {
                self.retract(spec, net, &mut changes, &mut late);
            }
        }
        for (batch, rows) in late {
            spec.refused.late(epoch, &deltas[batch as usize], &rows, watermark);
        }
        (changes, keys)
    }

    /// Equal rows added up, in order of key, time and columns; those that cancel are left out.
    fn consolidated(&self, entries: Vec<Entry>, deltas: &[Delta]) -> Vec<Net> {
        let encode = |delta: &Delta| self.converter.convert_columns(delta.rows.columns()).expect("columns of the input");
        let encoded: Vec<arrow_row::Rows> = deltas.iter().map(encode).collect();
        let row = |entry: &Entry| Rc::from(encoded[entry.batch as usize].row(entry.row as usize).data());
        let diff = |entry: &Entry| deltas[entry.batch as usize].diff(entry.row as usize);
        let mut all: Vec<Net> = entries.into_iter().map(|entry| Net { row: row(&entry), diff: diff(&entry), entry }).collect();
        let key = |net: &Net| (net.entry.key, net.entry.time);
        all.sort_unstable_by(|a, b| key(a).cmp(&key(b)).then_with(|| a.row.cmp(&b.row)));
        all.dedup_by(|next, first| {
            let same = key(next) == key(first) && next.row == first.row;
            if same {
                first.diff += next.diff;
            }
            same
        });
        all.retain(|net| net.diff != 0);
        all
    }

    fn add(
        &mut self,
        spec: &SessionSpec,
        run: &[&Net],
        watermark: i64,
        changes: &mut Vec<Change>,
        late: &mut BTreeMap<u32, Vec<LateRow>>,
    ) {
        let (key, first) = (run[0].entry.key, run[0].entry.time);
        let last = run.last().expect("a run has rows").entry.time;
        let refuse = spec.is_closed(last, watermark);
        let Some(Merged { slot, absorbed }) = self.sessions.add(key, (first, last), run.len() as i64, refuse) else {
            let to = last.saturating_add(spec.assign.gap);
            for Net { entry, diff, .. } in run {
                late.entry(entry.batch).or_default().push(LateRow { row: entry.row, diff: *diff, from: first, to });
            }
            return;
        };
        for (from, first, last) in absorbed {
            self.relocate(key, (first, last), from, slot, changes);
        }
        for Net { entry, row, diff } in run {
            self.keep(key, entry.time, Rc::clone(row), *diff);
            changes.push(Change { slot, time: entry.time, row: Rc::clone(row), diff: *diff });
        }
    }

    fn retract(&mut self, spec: &SessionSpec, net: &Net, changes: &mut Vec<Change>, late: &mut BTreeMap<u32, Vec<LateRow>>) {
        let Entry { key, time, batch, row } = net.entry;
        let there = self.kept[key as usize].get(&(time, Rc::clone(&net.row))).copied().unwrap_or(0).max(0);
        let taken = there.min(-net.diff);
        if taken < -net.diff {
            let to = time.saturating_add(spec.assign.gap);
            late.entry(batch).or_default().push(LateRow { row, diff: net.diff + taken, from: time, to });
        }
        if taken == 0 {
            return;
        }
        let slot = self.sessions.find(key, time).expect("a kept row is in a session");
        self.keep(key, time, Rc::clone(&net.row), -taken);
        changes.push(Change { slot, time, row: Rc::clone(&net.row), diff: -taken });
        self.sessions.count(slot, if taken == there { -1 } else { 0 });
        if taken == there {
            self.close_gap(spec.assign.gap, key, time, slot, changes);
        }
    }

    /// The last row of a time may be gone: its session may be shorter, two, or none.
    fn close_gap(&mut self, gap: i64, key: u32, time: i64, slot: u32, changes: &mut Vec<Change>) {
        let kept = &self.kept[key as usize];
        let (first, last) = (self.sessions.get(slot).first, self.sessions.get(slot).last);
        let least: Rc<[u8]> = Rc::from([]);
        let after = kept.range((time, Rc::clone(&least))..).next().map(|((time, _), _)| *time).filter(|next| *next <= last);
        if after == Some(time) {
            return;
        }
        let before = kept.range(..(time, least)).next_back().map(|((time, _), _)| *time).filter(|before| *before >= first);
        match (before, after) {
            (None, None) => self.sessions.end(slot),
            (Some(before), None) => self.sessions.set_bounds(slot, first, before),
            (None, Some(after)) => self.sessions.set_bounds(slot, after, last),
            (Some(before), Some(after)) if after.saturating_sub(before) > gap => {
                let (side, rows) = self.smaller(key, (first, before), (after, last));
                let (kept, moved) = if side == 0 { ((after, last), (first, before)) } else { ((first, before), (after, last)) };
                self.sessions.set_bounds(slot, kept.0, kept.1);
                self.sessions.count(slot, -rows);
                let new = self.sessions.insert(key, moved.0, moved.1, rows);
                self.relocate(key, moved, slot, new, changes);
            }
            _ => {}
        }
    }

    /// Which of two stretches has fewer rows, and how many: found in as many steps.
    fn smaller(&self, key: u32, left: (i64, i64), right: (i64, i64)) -> (usize, i64) {
        let (mut left, mut right) = (self.range(key, left), self.range(key, right));
        let mut rows = 0;
        loop {
            match (left.next(), right.next()) {
                (None, _) => return (0, rows),
                (_, None) => return (1, rows),
                _ => rows += 1,
            }
        }
    }

    fn range(&self, key: u32, (first, last): (i64, i64)) -> impl Iterator<Item = (&(i64, Rc<[u8]>), &Diff)> {
        self.kept[key as usize].range((first, Rc::from([]))..).take_while(move |((time, _), _)| *time <= last)
    }

    /// Moves the rows of a stretch of time from one session to another.
    fn relocate(&self, key: u32, bounds: (i64, i64), from: u32, to: u32, changes: &mut Vec<Change>) {
        for ((time, row), diff) in self.range(key, bounds) {
            changes.push(Change { slot: from, time: *time, row: Rc::clone(row), diff: -diff });
            changes.push(Change { slot: to, time: *time, row: Rc::clone(row), diff: *diff });
        }
    }

    fn keep(&mut self, key: u32, time: i64, row: Rc<[u8]>, diff: Diff) {
        use std::collections::btree_map::Entry;
        if let Some(log) = &mut self.log {
            *log.entry(Rc::clone(&row)).or_default() += diff;
        }
        let bytes = row.len() + 48;
        match self.kept[key as usize].entry((time, row)) {
            Entry::Vacant(entry) => {
                entry.insert(diff);
                (self.rows, self.bytes) = (self.rows + 1, self.bytes + bytes);
            }
            Entry::Occupied(mut entry) => {
                *entry.get_mut() += diff;
                if *entry.get() == 0 {
                    entry.remove();
                    (self.rows, self.bytes) = (self.rows - 1, self.bytes - bytes);
                }
            }
        }
    }

    /// The rows of a session.
    pub(super) fn rows_of(&self, slot: u32) -> impl Iterator<Item = (i64, &Rc<[u8]>, Diff)> {
        let session = self.sessions.get(slot);
        self.range(session.key, (session.first, session.last)).map(|((time, row), diff)| (*time, row, *diff))
    }

    /// Forgets a session and its rows; gives them as retracted.
    pub(super) fn close(&mut self, slot: u32, changes: &mut Vec<Change>) {
        let session = self.sessions.get(slot).clone();
        let gone =
            |((time, row), diff): (&(i64, Rc<[u8]>), &Diff)| Change { slot, time: *time, row: Rc::clone(row), diff: -diff };
        let rows: Vec<Change> = self.range(session.key, (session.first, session.last)).map(gone).collect();
        for change in &rows {
            self.keep(session.key, change.time, Rc::clone(&change.row), change.diff);
        }
        changes.extend(rows);
        self.sessions.end(slot);
    }

    /// The columns of these rows.
    pub(super) fn columns<'a>(&self, rows: impl Iterator<Item = &'a Rc<[u8]>>) -> Vec<ArrayRef> {
        let parser = self.converter.parser();
        self.converter.convert_rows(rows.map(|row| parser.parse(row))).expect("this converter's bytes")
    }

    /// Changes as a batch of rows of the input.
    pub(super) fn delta(&self, changes: &[Change]) -> Delta {
        let rows = RecordBatch::try_new(Arc::clone(&self.input), self.columns(changes.iter().map(|change| &change.row)));
        let diffs = Int64Array::from_iter_values(changes.iter().map(|change| change.diff));
        Delta::with_diffs(rows.expect("the input's columns"), diffs)
    }

    /// Ends the epoch: gives the slots that are free again.
    pub(super) fn end_epoch(&mut self, keys: Vec<u32>) -> Vec<u32> {
        let (slots, keys) = self.sessions.end_epoch(keys);
        for key in keys {
            self.keys.remove(key);
        }
        slots
    }

    /// Rows and bytes.
    pub(super) fn state(&self) -> (usize, usize) {
        (self.rows, self.bytes + self.keys.bytes() + self.sessions.bytes() + self.kept.capacity() * 24)
    }
}
