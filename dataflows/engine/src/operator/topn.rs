//! The first rows of each partition: `ROW_NUMBER() OVER (..) <= k`, `LIMIT`, `DISTINCT ON`, deduplication.
//!
//! Partitions are in a [`Table`]. If they belong to windows, each window has a table of its own, which is dropped whole when
//! the watermark has passed the window's end. With `EMIT FINAL` nothing is given until then.

mod table;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, SchemaRef};
use highwater_plan::{self as plan, Emit, TimeKind};

use self::table::{Changes, Table};
use super::epoch::EpochLogic;
use super::late::{LateGate, RowWindows, Watermark};
use super::lives::{Lives, TimeToLive};
use super::ordered::{Layout, RowLog};
use super::windowed::split;
use crate::checkpoint::{Keeps, Saved, Spread};
use crate::{Delta, Time};

/// Keeps the first rows of each partition.
pub(crate) struct TopN {
    spec: Arc<plan::TopN>,
    layout: Arc<Layout>,
    key_types: Vec<DataType>,
    growing: bool,
    schema: SchemaRef,
    windows: Option<Windows>,
    ttl: Option<TimeToLive>,
    /// By window end; without windows there is one table, at 0.
    tables: BTreeMap<i64, Table>,
    input: SchemaRef,
    /// Tables remember what changes.
    logs: bool,
}

/// What closes the windows that partitions belong to.
pub(crate) struct Windows {
    /// The input column that holds a window's bound.
    pub(crate) rows: RowWindows,
    pub(crate) kind: TimeKind,
    pub(crate) watermark: Watermark,
    /// How long after its end a window takes rows, in microseconds.
    pub(crate) lateness: i64,
    pub(crate) gate: LateGate,
}

impl TopN {
    /// No rows yet. `growing`: the input never retracts, so that rows which are out once are out for ever.
    pub(crate) fn new(spec: &plan::TopN, input: &SchemaRef, growing: bool, schema: SchemaRef, windows: Option<Windows>) -> Self {
        let layout = Layout::new(input, &spec.partition, &spec.order);
        let key_types = spec.partition.iter().map(|column| input.field(*column).data_type().clone()).collect();
        let spec = Arc::new(spec.clone());
        TopN {
            spec,
            layout,
            key_types,
            growing,
            schema,
            windows,
            ttl: None,
            tables: BTreeMap::new(),
            input: Arc::clone(input),
            logs: false,
        }
    }

    /// Partitions that no row touches for so long are forgotten, if they belong to no windows.
    pub(crate) fn that_expire(mut self, ttl: TimeToLive) -> Self {
        self.ttl = Some(ttl);
        self
    }

    fn table(&mut self, key: i64) -> &mut Table {
        let (spec, layout, types, growing) = (&self.spec, &self.layout, &self.key_types, self.growing);
        self.tables.entry(key).or_insert_with(|| {
            let lives = self.ttl.clone().map(Lives::new);
            let mut table = Table::new(Arc::clone(spec), Arc::clone(layout), types, growing, lives);
            if self.logs {
                table.log(&self.input);
            }
            table
        })
    }

    /// Applies rows to the table of their window.
    fn take(&mut self, epoch: Time, deltas: Vec<Delta>, output: &mut Vec<Delta>) {
        let Some(windows) = &self.windows else {
            if self.ttl.is_some() {
                self.table(0).begin(epoch);
            }
            if !deltas.is_empty() {
                let changes = self.table(0).apply(&deltas);
                output.extend(self.delta(changes));
            }
            return;
        };
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
        let quiet = self.spec.emit == Emit::Final;
        for (end, deltas) in parts {
            let table = self.table(end);
            if quiet && !table.given {
                table.accumulate(&deltas);
            } else {
                let changes = table.apply(&deltas);
                output.extend(self.delta(changes));
            }
        }
    }

    /// Closes windows that end at or before the watermark.
    fn close(&mut self, output: &mut Vec<Delta>) {
        let Some(windows) = &self.windows else { return };
        let (watermark, closed) = (windows.watermark.current, windows.watermark.current.saturating_sub(windows.lateness));
        if self.spec.emit == Emit::Final {
            let mut results = Vec::new();
            for (_, table) in self.tables.range_mut(..=watermark).filter(|(_, table)| !table.given) {
                table.given = true;
                results.push(table.results());
            }
            output.extend(results.into_iter().filter_map(|changes| self.delta(changes)));
        }
        while let Some(first) = self.tables.first_entry() {
            if *first.key() > closed {
                break;
            }
            first.remove();
        }
    }

    fn delta(&self, changes: Changes) -> Option<Delta> {
        let rows = changes.diffs.len();
        if rows == 0 {
            return None;
        }
        let mut columns = changes.columns;
        if self.spec.numbered {
            columns.push(Arc::new(Int64Array::from(changes.numbers)) as ArrayRef);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options);
        let batch = batch.expect("the input's columns and perhaps a number");
        Some(Delta::with_diffs(batch, Int64Array::from(changes.diffs)))
    }
}

impl EpochLogic for TopN {
    fn keeps(&self) -> Keeps {
        // Of rows that come and go all are kept; of those that only come, those that can still count.
        if self.ttl.is_some() || self.growing { Keeps::Own } else { Keeps::Inputs }
    }

    fn log(&mut self) {
        if self.keeps() == Keeps::Own {
            self.logs = true;
            self.tables.values_mut().for_each(|table| table.log(&self.input));
        }
    }

    /// The rows that are kept, and with `state_ttl` when partitions were touched.
    fn save(&mut self, saved: &mut Saved) {
        let partition = &self.spec.partition;
        let logs = self.tables.values_mut().filter_map(|table| table.log.as_mut());
        let rows = logs.flat_map(RowLog::take).collect();
        saved.rows(0, Spread::ByColumns(partition.clone()), rows, self.freed(0));
        let spread = Spread::ByColumns((0..partition.len()).collect());
        if let Some(lives) = self.tables.values_mut().next().and_then(|table| table.lives.as_mut()) {
            lives.save(1, spread, saved);
        }
    }

    fn load(&mut self, epoch: Time, tables: &mut [Vec<Delta>]) {
        self.apply(epoch, tables, None, &mut Vec::new());
        if self.ttl.is_some() {
            self.table(0).load_lives(epoch, tables.get(1).map_or(&[], Vec::as_slice));
        }
    }

    fn gates(&mut self) -> Vec<&mut LateGate> {
        self.windows.iter_mut().map(|windows| &mut windows.gate).collect()
    }

    fn freed(&self, _table: u32) -> Option<(usize, i64)> {
        let windows = self.windows.as_ref()?;
        windows.gate.freed(windows.watermark.current.saturating_sub(windows.lateness))
    }

    fn apply(&mut self, epoch: Time, inputs: &mut [Vec<Delta>], watermarks: Option<&[i64]>, output: &mut Vec<Delta>) {
        self.take(epoch, std::mem::take(&mut inputs[0]), output);
        if let Some(windows) = &mut self.windows {
            let before = windows.watermark.current;
            windows.watermark.advance(watermarks);
            // A row within the allowed lateness may have made a window that is over already.
            if windows.watermark.current > before || windows.lateness > 0 {
                self.close(output);
            }
        }
    }

    fn state(&self) -> (usize, usize) {
        self.tables.values().fold((0, 0), |(rows, bytes), table| (rows + table.len(), bytes + table.bytes()))
    }
}

#[cfg(test)]
mod tests;
