//! `OVER (..)`: each row with what functions say of the rows around it in its partition.
//!
//! A partition keeps its rows in order, and with each the result that was given of it and, for running and sliding
//! aggregates, the state to go on from. A change computes anew only the rows whose frame holds it, or all from it on if
//! frames reach to the partition's begin, and gives what differs.
//!
//! Partitions of windows are in a table per window, dropped whole when it closes. Rows ordered by event time are late
//! before the watermark, and forgotten when no row that may come can need them.

mod evaluate;
mod frames;
mod table;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use highwater_plan::{self as plan, Emit, OnError};

use self::table::{Changes, Moment, Shared, Table};
use super::epoch::EpochLogic;
use super::late::{LateGate, RowWindows};
use super::lives::{Lives, TimeToLive};
use super::ordered::RowLog;
use super::sides::Errors;
use super::topn::Windows;
use super::windowed::split;
use crate::checkpoint::{Keeps, Saved, Spread};
use crate::{Delta, Time};

/// Adds the results of functions to rows.
pub(crate) struct Over {
    shared: Arc<Shared>,
    schema: SchemaRef,
    errors: Errors,
    closing: Option<Closing>,
    ttl: Option<TimeToLive>,
    /// By window end; without windows there is one table, at 0.
    tables: BTreeMap<i64, Table>,
}

/// What makes results final.
pub(crate) enum Closing {
    /// Partitions belong to windows.
    Window(Windows),
    /// Rows are ordered by their time, which is a window of its own.
    Time(Windows),
}

impl Over {
    /// No rows yet.
    pub(crate) fn new(over: &plan::Over, input: &SchemaRef, schema: SchemaRef, errors: Errors, closing: Option<Closing>) -> Self {
        let shared = Shared::new(over, input, errors.policy == OnError::Null);
        Over { shared, schema, errors, closing, ttl: None, tables: BTreeMap::new() }
    }

    /// Partitions that no row touches for so long are forgotten, if nothing else makes them final.
    pub(crate) fn that_expire(mut self, ttl: TimeToLive) -> Self {
        self.ttl = Some(ttl);
        self
    }

    fn closes_by_time(&self) -> bool {
        matches!(self.closing, Some(Closing::Time(_)))
    }

    fn table(&mut self, key: i64) -> &mut Table {
        let shared = &self.shared;
        self.tables.entry(key).or_insert_with(|| Table::new(Arc::clone(shared), self.ttl.clone().map(Lives::new)))
    }

    /// Applies rows to the tables of their windows, and closes windows.
    fn windowed(&mut self, epoch: Time, deltas: Vec<Delta>, watermarks: Option<&[i64]>, output: &mut Vec<Delta>) {
        let Some(Closing::Window(windows)) = &mut self.closing else { unreachable!("only asked for with windows") };
        let mut parts: BTreeMap<i64, Vec<Delta>> = BTreeMap::new();
        for delta in windows.gate.at_once(deltas) {
            let delta = windows.gate.split(epoch, delta, windows.watermark.current);
            if delta.is_empty() {
                continue;
            }
            let times = windows.rows.times(&delta);
            for (end, part) in split(&delta, |row, _| RowWindows::end_of_bound(windows.kind, times.value(row))) {
                parts.entry(end).or_default().push(part);
            }
        }
        windows.watermark.advance(watermarks);
        let watermark = windows.watermark.current;
        let closed = watermark.saturating_sub(windows.lateness);
        let waits = self.shared.plan.emit == Emit::Final;
        let mut changes = Vec::new();
        for (end, deltas) in parts {
            let table = self.table(end);
            match waits && !table.open {
                true => table.accumulate(&deltas),
                false => changes.push(table.apply(&deltas, None)),
            }
        }
        if waits {
            let ready = self.tables.range_mut(..=watermark).filter(|(_, table)| !table.open);
            changes.extend(ready.map(|(_, table)| table.results()));
        }
        for changes in changes {
            self.give(epoch, changes, output);
        }
        while let Some(first) = self.tables.first_entry() {
            if *first.key() > closed {
                break;
            }
            first.remove();
        }
    }

    fn give(&self, epoch: Time, changes: Changes, output: &mut Vec<Delta>) {
        for (columns, diff, reason) in changes.failed {
            let fields: Vec<_> = self.shared.input.fields().iter().cloned().collect();
            let schema = Arc::new(arrow::datatypes::Schema::new(fields));
            let options = RecordBatchOptions::new().with_row_count(Some(1));
            let row = RecordBatch::try_new_with_options(schema, columns, &options).expect("an input row");
            self.errors.report_rows(epoch, &Delta::with_diffs(row, vec![diff].into()), reason, None);
        }
        if changes.diffs.is_empty() {
            return;
        }
        let options = RecordBatchOptions::new().with_row_count(Some(changes.diffs.len()));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), changes.columns, &options);
        let batch = batch.expect("the input's columns and the results");
        output.push(Delta::with_diffs(batch, Int64Array::from(changes.diffs)));
    }
}

impl Windows {
    fn moment(&self) -> Moment {
        let watermark = self.watermark.current;
        Moment { watermark, closed: watermark.saturating_sub(self.lateness) }
    }
}

impl EpochLogic for Over {
    fn keeps(&self) -> Keeps {
        if self.ttl.is_some() || self.closes_by_time() { Keeps::Own } else { Keeps::Inputs }
    }

    fn log(&mut self) {
        match self.closes_by_time() {
            true => self.table(0).log_states(),
            false if self.ttl.is_some() => self.table(0).log(),
            false => {}
        }
    }

    /// With `state_ttl` the rows that are kept, and when partitions were touched. By time, the rows that are kept and what
    /// they were given.
    fn save(&mut self, saved: &mut Saved) {
        let partition = self.shared.plan.partition.clone();
        if self.closes_by_time() {
            return saved.rows(0, Spread::ByColumns(partition), self.table(0).take_states(), None);
        }
        let table = self.table(0);
        let rows = table.log.as_mut().map(RowLog::take).unwrap_or_default();
        let spread = Spread::ByColumns((0..partition.len()).collect());
        saved.rows(0, Spread::ByColumns(partition), rows, None);
        if let Some(lives) = &mut table.lives {
            lives.save(1, spread, saved);
        }
    }

    fn load(&mut self, epoch: Time, tables: &mut [Vec<Delta>]) {
        if self.closes_by_time() {
            return tables[0].iter().for_each(|delta| self.table(0).load_states(delta));
        }
        self.apply(epoch, tables, None, &mut Vec::new());
        if self.ttl.is_some() {
            self.table(0).load_lives(epoch, tables.get(1).map_or(&[], Vec::as_slice));
        }
    }

    fn resume(&mut self, epoch: Time, inputs: usize, watermarks: &[i64]) {
        let Some(Closing::Time(times)) = &mut self.closing else {
            return self.apply(epoch, &mut vec![Vec::new(); inputs], Some(watermarks), &mut Vec::new());
        };
        times.watermark.advance(Some(watermarks));
        let moment = times.moment();
        self.table(0).resume(moment);
    }

    fn gates(&mut self) -> Vec<&mut LateGate> {
        self.closing.iter_mut().map(|(Closing::Window(windows) | Closing::Time(windows))| &mut windows.gate).collect()
    }

    fn freed(&self, _table: u32) -> Option<(usize, i64)> {
        let Some(Closing::Window(windows)) = &self.closing else { return None };
        windows.gate.freed(windows.watermark.current.saturating_sub(windows.lateness))
    }

    fn apply(&mut self, epoch: Time, inputs: &mut [Vec<Delta>], watermarks: Option<&[i64]>, output: &mut Vec<Delta>) {
        let deltas = std::mem::take(&mut inputs[0]);
        if self.ttl.is_some() {
            self.table(0).begin(epoch);
        }
        let changes = match &mut self.closing {
            Some(Closing::Window(_)) => return self.windowed(epoch, deltas, watermarks, output),
            Some(Closing::Time(times)) => {
                let split = |delta| times.gate.split(epoch, delta, times.watermark.current);
                let deltas: Vec<Delta> = times.gate.at_once(deltas).into_iter().map(split).collect();
                times.watermark.advance(watermarks);
                let moment = times.moment();
                self.table(0).apply(&deltas, Some(moment))
            }
            None if deltas.is_empty() => return,
            None => self.table(0).apply(&deltas, None),
        };
        self.give(epoch, changes, output);
    }

    fn state(&self) -> (usize, usize) {
        self.tables.values().fold((0, 0), |(rows, bytes), table| (rows + table.len(), bytes + table.bytes()))
    }
}

#[cfg(test)]
mod tests;
