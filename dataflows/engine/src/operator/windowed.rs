//! Groups that belong to windows: one table per window, closed and dropped whole by the watermark.
//!
//! With `EMIT CHANGES` each epoch gives what changed in open windows, and a window's table is dropped when the window
//! closes. With `EMIT FINAL` nothing is given until then. Final hopping windows are kept as panes, one per slide: a row is
//! counted once, and a window's result is the sum of its panes when it closes.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{ArrayRef, AsArray, Int64Array, UInt32Array};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{Int64Type, SchemaRef};
use highwater_plan::{Aggregate, Emit, Grouping, OnError, WindowAssign, WindowKind, timestamp_from_micros};

use super::aggregate::give;
use super::epoch::EpochLogic;
use super::groups::{Groups, PartialColumns, Results};
use super::late::{LateGate, RowWindows, Watermark};
use super::sides::Errors;
use crate::checkpoint::{Keeps, Saved, Spread};
use crate::{Delta, Time};

/// `GROUP BY` with windows that close.
pub(crate) struct Windowed {
    aggregate: Aggregate,
    input: SchemaRef,
    append_only: bool,
    schema: SchemaRef,
    errors: Errors,
    windows: RowWindows,
    watermark: Watermark,
    /// How long after its end a window takes rows, in microseconds.
    lateness: i64,
    /// Refuses late rows here; absent if that was done before the exchange.
    gate: Option<LateGate>,
    /// Set for final hopping windows that are made of panes: the slide.
    pane: Option<i64>,
    /// Rows are partial states.
    partials: Option<PartialColumns>,
    /// By window end, or by pane start.
    tables: BTreeMap<i64, Table>,
    /// Groups of the last table that was dropped, and of the last window that was put together from panes.
    expected: (usize, usize),
    numbers: Vec<u32>,
    /// Changes of tables are remembered, to be saved.
    logs: bool,
    /// The key of the last table that was dropped.
    dropped: i64,
    /// Groups of panes that were put together with others since the last checkpoint, by pane.
    folded: Vec<(i64, Delta)>,
}

struct Table {
    groups: Groups,
    /// Its final result was given: what comes within the allowed lateness corrects it.
    given: bool,
}

/// What it takes to make a [`Windowed`].
pub(crate) struct WindowedSpec {
    pub(crate) aggregate: Aggregate,
    pub(crate) input: SchemaRef,
    pub(crate) append_only: bool,
    pub(crate) schema: SchemaRef,
    pub(crate) errors: Errors,
    pub(crate) watermark: Watermark,
    pub(crate) lateness: i64,
    pub(crate) gate: Option<LateGate>,
    /// Rows were added up before the exchange: how their windows are found, and where their states stand.
    pub(crate) partials: Option<(WindowAssign, PartialColumns)>,
}

/// How the rows of a windowed aggregate name their windows.
pub(crate) fn row_windows(aggregate: &Aggregate) -> Option<RowWindows> {
    match &aggregate.grouping {
        Grouping::Keys => None,
        Grouping::Assign(assign) => Some(RowWindows::Assign(assign.clone())),
        Grouping::Session(_) => None,
        Grouping::Column { key, kind } => Some(RowWindows::Bound { column: aggregate.keys[*key], kind: *kind }),
    }
}

impl Windowed {
    /// No windows yet.
    pub(crate) fn new(spec: WindowedSpec) -> Self {
        let mut windows = row_windows(&spec.aggregate).expect("the renderer sends groupings without windows elsewhere");
        let mut partials = None;
        if let Some((assign, columns)) = spec.partials {
            windows = RowWindows::Assign(assign);
            partials = Some(columns);
        }
        let pane = match (&spec.aggregate.grouping, spec.aggregate.emit) {
            (Grouping::Assign(assign), Emit::Final) if spec.lateness == 0 => match assign.kind {
                WindowKind::Hop { slide, size, .. } if slide < size && size % slide == 0 => Some(slide),
                WindowKind::Cumulate { step, .. } => Some(step),
                _ => None,
            },
            _ => None,
        };
        Windowed {
            aggregate: spec.aggregate,
            input: spec.input,
            append_only: spec.append_only,
            schema: spec.schema,
            errors: spec.errors,
            windows,
            watermark: spec.watermark,
            lateness: spec.lateness,
            gate: spec.gate,
            pane,
            partials,
            tables: BTreeMap::new(),
            expected: (0, 0),
            numbers: Vec::new(),
            logs: false,
            dropped: i64::MIN,
            folded: Vec::new(),
        }
    }

    fn groups(&self) -> Groups {
        let groups = Groups::new(&self.aggregate, &self.input, self.append_only);
        match &self.partials {
            Some(columns) => groups.of_partials(columns.clone()),
            None => groups,
        }
    }

    fn keep_failed(&self) -> bool {
        self.errors.policy == OnError::Null
    }

    /// Applies rows to the tables of their windows, or of their panes.
    fn take(&mut self, epoch: Time, deltas: Vec<Delta>, output: &mut Vec<Delta>) {
        let mut parts: BTreeMap<i64, Vec<Delta>> = BTreeMap::new();
        let deltas = match &self.gate {
            Some(gate) => gate.at_once(deltas),
            None => deltas,
        };
        for delta in deltas {
            let windows = match &self.gate {
                Some(gate) => gate.windows_of(epoch, delta, self.watermark.current),
                None => self.windows.split(&delta),
            };
            self.part(windows, &mut parts);
        }
        for (key, deltas) in parts {
            if !self.tables.contains_key(&key) {
                let mut groups = self.groups();
                if self.logs {
                    groups.log();
                }
                // Windows are alike. But rows far out of order may open many at once that get few rows each.
                if self.tables.len() < 8 {
                    groups.reserve(self.expected.0);
                }
                self.tables.insert(key, Table { groups, given: false });
            }
            let table = self.tables.get_mut(&key).expect("just made");
            if self.aggregate.emit == Emit::Final && !table.given {
                for delta in &deltas {
                    table.groups.accumulate(delta, &mut self.numbers);
                }
            } else {
                let keep_failed = self.errors.policy == OnError::Null;
                let changed = table.groups.apply(&deltas, false, keep_failed);
                let results = self.with_window(changed, key);
                give(epoch, results, &self.schema, &self.errors, output);
            }
        }
    }

    /// Collects rows by window end, or by pane start; windows that are closed are left out.
    fn part(&self, windows: Vec<(i64, Delta)>, parts: &mut BTreeMap<i64, Vec<Delta>>) {
        let closed = self.watermark.current.saturating_sub(self.lateness);
        for (key, part) in windows {
            match &self.windows {
                RowWindows::Bound { .. } => {
                    if key > closed || self.watermark.current == i64::MIN {
                        parts.entry(key).or_default().push(part);
                    }
                }
                RowWindows::Assign(assign) => {
                    let (slide, size) = (assign.kind.slide(), assign.kind.size());
                    match self.pane {
                        Some(_) => parts.entry(key).or_default().push(part),
                        None if matches!(assign.kind, WindowKind::Cumulate { .. }) => {
                            let (first, last) = assign.kind.ends(key).expect("growing windows leave no gaps");
                            let open = |end: &i64| *end > closed || self.watermark.current == i64::MIN;
                            for end in (first..=last).step_by(slide as usize).filter(open) {
                                parts.entry(end).or_default().push(part.clone());
                            }
                        }
                        None => self.part_by_window(key, (slide, size), closed, part, parts),
                    }
                }
            }
        }
    }

    /// Gives the rows of the pane that starts at `pane` to each open window that holds them.
    fn part_by_window(
        &self,
        pane: i64,
        (slide, size): (i64, i64),
        closed: i64,
        part: Delta,
        parts: &mut BTreeMap<i64, Vec<Delta>>,
    ) {
        let mut end = pane + size;
        while end > pane {
            let open = end > closed || self.watermark.current == i64::MIN;
            if open && end >= pane + slide {
                parts.entry(end).or_default().push(part.clone());
            } else if open {
                // The window ends inside the pane: only the pane's first rows are in it.
                let times = self.windows.times(&part);
                let inside = BooleanBuffer::collect_bool(part.len(), |row| times.value(row) < end);
                let inside = part.filter(&inside);
                if !inside.is_empty() {
                    parts.entry(end).or_default().push(inside);
                }
            }
            end -= slide;
        }
    }

    /// Closes windows that end at or before the watermark.
    fn close(&mut self, epoch: Time, before: i64, output: &mut Vec<Delta>) {
        if let Some(slide) = self.pane {
            return self.close_panes(epoch, before, slide, output);
        }
        let watermark = self.watermark.current;
        if self.aggregate.emit == Emit::Final {
            let ready: Vec<i64> =
                self.tables.range(..=watermark).filter(|(_, table)| !table.given).map(|(end, _)| *end).collect();
            for end in ready {
                let keep_failed = self.keep_failed();
                let table = self.tables.get_mut(&end).expect("just listed");
                table.given = true;
                let results = table.groups.results(false, keep_failed);
                let results = self.with_window(results, end);
                give(epoch, results, &self.schema, &self.errors, output);
            }
        }
        let closed = watermark.saturating_sub(self.lateness);
        while let Some(first) = self.tables.first_entry() {
            if *first.key() > closed {
                break;
            }
            self.dropped = self.dropped.max(*first.key());
            self.expected.0 = first.remove().groups.len();
        }
    }

    /// Gives each window that closed between the watermark `before` and now as the sum of its panes.
    fn close_panes(&mut self, epoch: Time, before: i64, slide: i64, output: &mut Vec<Delta>) {
        let RowWindows::Assign(assign) = &self.windows else { unreachable!("panes come from a time column") };
        let (kind, watermark) = (assign.kind, self.watermark.current);
        // The windows of pane `p` end one slide apart each, the first where the pane ends.
        let ends_of = |pane: i64| kind.ends(pane).expect("panes are parts of windows");
        let ends: BTreeSet<i64> = self
            .tables
            .keys()
            .flat_map(|pane| {
                let (first, last) = ends_of(*pane);
                (first..=last).step_by(slide as usize)
            })
            .filter(|end| before < *end && *end <= watermark)
            .collect();
        for end in ends {
            if let WindowKind::Cumulate { .. } = kind {
                self.fold_panes(kind.start_of(end), end);
                let window = &self.tables[&kind.start_of(end)].groups;
                let results = self.with_window(window.results(false, self.keep_failed()), end);
                give(epoch, results, &self.schema, &self.errors, output);
                continue;
            }
            let mut window = self.groups();
            window.reserve(self.expected.1);
            for (_, pane) in self.tables.range(kind.start_of(end)..end) {
                window.merge(&pane.groups, &mut self.numbers);
            }
            self.expected.1 = window.len();
            let results = self.with_window(window.results(false, self.keep_failed()), end);
            give(epoch, results, &self.schema, &self.errors, output);
        }
        while let Some(first) = self.tables.first_entry() {
            if ends_of(*first.key()).1 > watermark {
                break;
            }
            self.dropped = self.dropped.max(*first.key());
            self.expected.0 = first.remove().groups.len();
        }
    }

    /// Adds the panes from `start` to `end` up in the first one: growing windows that end later need no more of them.
    fn fold_panes(&mut self, start: i64, end: i64) {
        let panes: Vec<i64> = self.tables.range(start + 1..end).map(|(pane, _)| *pane).collect();
        let mut removed = Vec::new();
        for pane in panes {
            let Some(table) = self.tables.remove(&pane) else { continue };
            if self.logs {
                self.folded.push((pane, table.groups.all_gone()));
            }
            removed.push(table);
        }
        let folds = !removed.is_empty();
        let mut panes = removed.into_iter();
        let first = self.tables.remove(&start).or_else(|| panes.next());
        let mut first = first.unwrap_or_else(|| Table { groups: self.groups(), given: false });
        for pane in panes {
            first.groups.merge(&pane.groups, &mut self.numbers);
        }
        if folds && self.logs {
            first.groups.mark_all();
        }
        self.tables.insert(start, first);
    }

    /// Puts the window's bounds between keys and aggregates, if this operator assigns windows.
    fn with_window(&self, mut results: Results, end: i64) -> Results {
        let RowWindows::Assign(assign) = &self.windows else { return results };
        let rows = results.rows;
        let keys = self.aggregate.keys.len();
        let bound = |index: usize, value: i64| -> ArrayRef {
            timestamp_from_micros(Int64Array::from(vec![value; rows]), self.schema.field(keys + index).data_type())
        };
        let bounds = [bound(0, assign.kind.start_of(end)), bound(1, end)];
        results.columns.splice(keys..keys, bounds);
        results
    }
}

impl EpochLogic for Windowed {
    /// The states of its groups by window, where they can be told in columns; otherwise the rows that make them.
    fn keeps(&self) -> Keeps {
        if self.groups().partial_types().is_some() { Keeps::Own } else { Keeps::Inputs }
    }

    fn gates(&mut self) -> Vec<&mut LateGate> {
        if self.keeps() == Keeps::Own { Vec::new() } else { self.gate.iter_mut().collect() }
    }

    fn freed(&self, _table: u32) -> Option<(usize, i64)> {
        // Late rows may have been refused before the exchange: then there is no gate here.
        Some(self.windows.freed(self.watermark.current.saturating_sub(self.lateness)))
    }

    fn log(&mut self) {
        self.logs = self.keeps() == Keeps::Own;
        if self.logs {
            self.tables.values_mut().for_each(|table| table.groups.log());
        }
    }

    fn save(&mut self, saved: &mut Saved) {
        let keys = self.aggregate.keys.len();
        let with_key = |key: i64, delta: Delta| {
            let mut columns: Vec<ArrayRef> = vec![std::sync::Arc::new(Int64Array::from(vec![key; delta.len()]))];
            columns.extend(delta.rows.columns().iter().cloned());
            Delta::of(super::groups::state_batch(columns, delta.len()), delta.diffs)
        };
        let mut changed: Vec<Delta> = self.folded.drain(..).map(|(key, gone)| with_key(key, gone)).collect();
        for (key, table) in &mut self.tables {
            changed.extend(table.groups.take_changed().into_iter().map(|delta| with_key(*key, delta)));
        }
        let spread = Spread::ByColumns((1..=keys).collect());
        saved.entries(0, keys + 1, spread, changed, Some((0, self.dropped)));
    }

    fn load(&mut self, epoch: Time, tables: &mut [Vec<Delta>]) {
        if self.keeps() == Keeps::Inputs {
            return self.apply(epoch, tables, None, &mut Vec::new());
        }
        for delta in std::mem::take(&mut tables[0]) {
            let keys = delta.rows.column(0).as_primitive::<Int64Type>().clone();
            for (key, part) in split(&delta, |row, _| keys.value(row)) {
                let columns: Vec<usize> = (1..part.rows.num_columns()).collect();
                let rows = part.rows.project(&columns).expect("columns of the batch");
                let groups = self.groups();
                let table = self.tables.entry(key).or_insert(Table { groups, given: false });
                table.groups.load(&Delta::of(rows, None));
            }
        }
    }

    fn apply(&mut self, epoch: Time, inputs: &mut [Vec<Delta>], watermarks: Option<&[i64]>, output: &mut Vec<Delta>) {
        self.take(epoch, std::mem::take(&mut inputs[0]), output);
        let before = self.watermark.current;
        self.watermark.advance(watermarks);
        // A row within the allowed lateness may have made a window that is over already.
        if self.watermark.current > before || self.lateness > 0 {
            self.close(epoch, before, output);
        }
    }

    fn wake_at(&self) -> Option<Time> {
        if !self.watermark.goes_by_clock() {
            return None;
        }
        let when = |(key, table): (&i64, &Table)| match (&self.windows, self.pane) {
            (RowWindows::Assign(assign), Some(slide)) => {
                let (first, last) = assign.kind.ends(*key).expect("panes are parts of windows");
                let next = (first..=last).step_by(slide as usize).find(|end| *end > self.watermark.current);
                next.unwrap_or(last)
            }
            _ if self.aggregate.emit == Emit::Final && !table.given => *key,
            _ => key.saturating_add(self.lateness),
        };
        self.watermark.due(self.tables.iter().map(when).min()?)
    }

    fn state(&self) -> (usize, usize) {
        self.tables.values().fold((0, 0), |(rows, bytes), table| (rows + table.groups.len(), bytes + table.groups.bytes()))
    }
}

/// Splits a batch into runs of rows with the same key; `key(row, last)` may reuse the last row's.
///
/// Rows of a stream come nearly in order, so runs are long and a run is a slice. If they are short, rows are gathered by
/// key instead.
pub(crate) fn split(delta: &Delta, key: impl Fn(usize, Option<i64>) -> i64) -> Vec<(i64, Delta)> {
    let mut runs: Vec<(i64, usize, usize)> = Vec::new();
    for row in 0..delta.len() {
        let current = key(row, runs.last().map(|run| run.0));
        match runs.last_mut() {
            Some(run) if run.0 == current => run.2 = row + 1,
            _ => runs.push((current, row, row + 1)),
        }
    }
    if runs.len() == 1 {
        return vec![(runs[0].0, delta.clone())];
    }
    if runs.len() * 16 <= delta.len() || runs.len() <= 4 {
        return runs.into_iter().map(|(key, from, to)| (key, delta.slice(from, to - from))).collect();
    }
    let mut rows: BTreeMap<i64, Vec<u32>> = BTreeMap::new();
    for (key, from, to) in runs {
        rows.entry(key).or_default().extend(from as u32..to as u32);
    }
    rows.into_iter().map(|(key, rows)| (key, delta.take(&UInt32Array::from(rows)))).collect()
}

#[cfg(test)]
mod tests;
