//! Rows with the bounds of their sessions, given anew when a session's bounds change.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::SchemaRef;
use highwater_plan::{Emit, timestamp_from_micros};

use super::SessionSpec;
use super::rows::{Change, SessionRows};
use crate::checkpoint::{Keeps, Saved, Spread};
use crate::operator::epoch::EpochLogic;
use crate::operator::window::LAST_INSTANT_MICROS;
use crate::{Delta, Diff, Time};

/// Adds session columns to rows.
pub(crate) struct SessionAssigner {
    spec: SessionSpec,
    schema: SchemaRef,
    rows: SessionRows,
}

/// Rows under the bounds of one session.
struct Part {
    bounds: (i64, i64),
    rows: Vec<(Rc<[u8]>, Diff)>,
}

impl SessionAssigner {
    /// No sessions yet. `schema`: the input's columns, then start, end and time of a window.
    pub(crate) fn new(spec: SessionSpec, input: &SchemaRef, schema: SchemaRef) -> Self {
        let rows = SessionRows::new(&spec, input);
        SessionAssigner { spec, schema, rows }
    }

    /// What the epoch has changed of a session's rows, with bounds.
    fn parts(&self, before: Option<(i64, i64)>, slot: u32, changes: &[&Change], parts: &mut Vec<Part>) {
        let mut net: BTreeMap<(i64, &Rc<[u8]>), Diff> = BTreeMap::new();
        for change in changes {
            *net.entry((change.time, &change.row)).or_default() += change.diff;
        }
        let session = self.rows.sessions.get(slot);
        let after = self.rows.sessions.is_live(slot).then_some((session.first, session.last));
        if let (Some(bounds), true) = (after, before == after) {
            let rows = net.into_iter().filter(|(_, diff)| *diff != 0).map(|((_, row), diff)| (Rc::clone(row), diff));
            parts.push(Part { bounds, rows: rows.collect() });
            return;
        }
        let now: Vec<(i64, &Rc<[u8]>, Diff)> = if after.is_some() { self.rows.rows_of(slot).collect() } else { Vec::new() };
        if let Some(bounds) = before {
            let mut old: BTreeMap<(i64, &Rc<[u8]>), Diff> = net.into_iter().map(|(row, diff)| (row, -diff)).collect();
            for (time, row, diff) in &now {
                *old.entry((*time, row)).or_default() += diff;
            }
            let rows = old.into_iter().filter(|(_, diff)| *diff != 0).map(|((_, row), diff)| (Rc::clone(row), -diff));
            parts.push(Part { bounds, rows: rows.collect() });
        }
        if let Some(bounds) = after {
            parts.push(Part { bounds, rows: now.into_iter().map(|(_, row, diff)| (Rc::clone(row), diff)).collect() });
        }
    }

    fn give(&self, parts: &[Part], output: &mut Vec<Delta>) {
        let rows = || parts.iter().flat_map(|part| part.rows.iter().map(|row| (part.bounds, row)));
        if rows().next().is_none() {
            return;
        }
        let mut columns = self.rows.columns(rows().map(|(_, (row, _))| row));
        let width = columns.len();
        let starts = Int64Array::from_iter_values(rows().map(|((first, _), _)| first));
        let ends = Int64Array::from_iter_values(rows().map(|((_, last), _)| self.spec.end(last)));
        let times = Int64Array::from_iter_values(ends.values().iter().map(|end| end - LAST_INSTANT_MICROS));
        for (index, bound) in [starts, ends, times].into_iter().enumerate().take(self.schema.fields().len() - width) {
            columns.push(timestamp_from_micros(bound, self.schema.field(width + index).data_type()) as ArrayRef);
        }
        let diffs = Int64Array::from_iter_values(rows().map(|(_, (_, diff))| *diff));
        let rows = RecordBatch::try_new(Arc::clone(&self.schema), columns).expect("the input's columns and a window's bounds");
        output.push(Delta::with_diffs(rows, diffs));
    }
}

impl EpochLogic for SessionAssigner {
    fn keeps(&self) -> Keeps {
        Keeps::Own
    }

    fn log(&mut self) {
        self.rows.log();
    }

    /// The rows of sessions that take rows: they make the sessions.
    fn save(&mut self, saved: &mut Saved) {
        saved.rows(0, Spread::ByColumns(self.spec.assign.partition.clone()), self.rows.take_changed(), None);
    }

    fn apply(&mut self, epoch: Time, inputs: &mut [Vec<Delta>], watermarks: Option<&[i64]>, output: &mut Vec<Delta>) {
        let deltas = std::mem::take(&mut inputs[0]);
        let (changes, keys) = self.rows.apply(epoch, &self.spec, &deltas, self.spec.watermark.current);
        let mut of_slot: HashMap<u32, Vec<&Change>> = HashMap::new();
        for change in &changes {
            of_slot.entry(change.slot).or_default().push(change);
        }
        let mut parts = Vec::new();
        for before in self.rows.sessions.touched() {
            let changes = of_slot.get(&before.slot).map(Vec::as_slice).unwrap_or_default();
            self.parts(before.bounds, before.slot, changes, &mut parts);
        }
        self.give(&parts, output);
        self.spec.watermark.advance(watermarks);
        let passed = self.spec.pass(&mut self.rows.sessions, Emit::Changes);
        let mut forgotten = Vec::new();
        passed.closed.iter().for_each(|slot| self.rows.close(*slot, &mut forgotten));
        self.rows.end_epoch(keys);
    }

    fn wake_at(&self) -> Option<Time> {
        self.spec.watermark.due(self.rows.sessions.first_due()?)
    }

    fn state(&self) -> (usize, usize) {
        self.rows.state()
    }
}
