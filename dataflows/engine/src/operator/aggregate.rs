//! Groups that live as long as they have rows, and `DISTINCT`, which is groups without aggregates.
//!
//! Per epoch: every touched group's old result is retracted and its new one added, unless they are equal.

use std::sync::Arc;
use std::sync::mpsc::Sender;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Schema, SchemaRef};
use highwater_plan::{Aggregate, OnError};

use super::epoch::EpochLogic;
use super::groups::{Failed, Groups, PartialColumns, Results};
use super::lives::TimeToLive;
use super::sides::Errors;
use crate::checkpoint::{Keeps, Saved, Spread};
use crate::{Delta, Time};

/// `GROUP BY` without windows.
pub(crate) struct Grouped {
    groups: Groups,
    /// Without keys there is one group even without rows; this worker owns it.
    unit: bool,
    emitted_unit: bool,
    expires: bool,
    schema: SchemaRef,
    errors: Errors,
    /// Those that wait for the rows of all groups once these are given back.
    awaited_by: Vec<Sender<Vec<Delta>>>,
}

impl Grouped {
    /// Once it is given back it gives these what all of its groups come to.
    pub(crate) fn awaited_by(mut self, waiting: Vec<Sender<Vec<Delta>>>) -> Self {
        self.awaited_by = waiting;
        self
    }

    /// What all groups come to.
    fn content(&self, epoch: Time) -> Vec<Delta> {
        let mut content = Vec::new();
        for results in self.groups.all_results(self.errors.policy == OnError::Null) {
            give(epoch, results, &self.schema, &self.errors, &mut content);
        }
        content
    }

    /// Groups that no row touches for so long are forgotten.
    pub(crate) fn that_expire(mut self, ttl: TimeToLive) -> Self {
        self.groups = self.groups.that_expire(ttl);
        self.expires = true;
        self
    }

    /// `owns_unit`: this worker has the group of no columns. `partials`: rows were added up before the exchange.
    pub(crate) fn new(
        aggregate: &Aggregate,
        input: &SchemaRef,
        append_only: bool,
        schema: SchemaRef,
        errors: Errors,
        owns_unit: bool,
        partials: Option<PartialColumns>,
    ) -> Self {
        let mut groups = Groups::new(aggregate, input, append_only);
        if let Some(columns) = partials {
            groups = groups.of_partials(columns);
        }
        let unit = aggregate.keys.is_empty() && owns_unit;
        if unit {
            groups.add_unit_group();
        }
        Grouped { groups, unit, emitted_unit: false, expires: false, schema, errors, awaited_by: Vec::new() }
    }
}

impl EpochLogic for Grouped {
    /// The states of its groups, where they can be told in columns; otherwise the rows that make them.
    fn keeps(&self) -> Keeps {
        match self.groups.partial_types() {
            Some(_) => Keeps::Own,
            None if !self.expires => Keeps::Inputs,
            None if self.groups.can_keep_rows() => Keeps::Own,
            None => Keeps::Unsaved("a state_ttl of groups of rows that cannot be told apart"),
        }
    }

    fn log(&mut self) {
        if self.keeps() == Keeps::Own {
            self.groups.log();
        }
    }

    fn save(&mut self, saved: &mut Saved) {
        let keys = self.groups.key_count();
        let spread = Spread::ByColumns((0..keys).collect());
        match self.groups.partial_types() {
            Some(_) => saved.entries(0, keys, spread.clone(), self.groups.take_changed(), None),
            None => saved.rows(0, Spread::ByColumns(self.groups.key_columns().to_vec()), self.groups.take_rows(), None),
        }
        if let Some(lives) = self.groups.lives() {
            lives.save(1, spread, saved);
        }
    }

    fn load(&mut self, epoch: Time, tables: &mut [Vec<Delta>]) {
        match self.keeps() {
            Keeps::Own => {
                match self.groups.partial_types() {
                    Some(_) => {
                        self.groups.reserve(tables[0].iter().map(Delta::len).sum());
                        self.groups.expect(&tables[0], true);
                        tables[0].iter().for_each(|delta| self.groups.load(delta));
                    }
                    None => self.groups.load_rows(&tables[0]),
                }
                self.groups.load_lives(epoch, tables.get(1).map_or(&[], Vec::as_slice));
            }
            _ => {
                self.groups.expect(&tables[0], false);
                let mut numbers = Vec::new();
                tables[0].iter().for_each(|delta| self.groups.accumulate(delta, &mut numbers));
                if !self.unit {
                    self.groups.forget_empty();
                }
            }
        }
    }

    fn resume(&mut self, epoch: Time, inputs: usize, watermarks: &[i64]) {
        self.apply(epoch, &mut vec![Vec::new(); inputs], Some(watermarks), &mut Vec::new());
        if self.is_awaited() {
            let content = self.content(epoch);
            for waiting in std::mem::take(&mut self.awaited_by) {
                // Who gave up waiting, with its job, needs nothing.
                let _ = waiting.send(content.clone());
            }
        }
    }

    fn is_awaited(&self) -> bool {
        !self.awaited_by.is_empty()
    }

    fn takes_changes(&self) -> bool {
        self.keeps() == Keeps::Inputs
    }

    fn apply(&mut self, epoch: Time, inputs: &mut [Vec<Delta>], _watermarks: Option<&[i64]>, output: &mut Vec<Delta>) {
        let keep_failed = self.errors.policy == OnError::Null;
        if self.unit && !std::mem::replace(&mut self.emitted_unit, true) {
            let empty = self.groups.results(true, keep_failed);
            give(epoch, empty, &self.schema, &self.errors, output);
        }
        self.groups.begin(epoch);
        if inputs[0].is_empty() {
            return;
        }
        let changed = self.groups.apply(&inputs[0], self.unit, keep_failed);
        give(epoch, changed, &self.schema, &self.errors, output);
    }

    fn state(&self) -> (usize, usize) {
        (self.groups.len(), self.groups.bytes())
    }

    fn starts_alone(&self) -> bool {
        self.unit
    }
}

/// Appends results as a delta of `schema`; failed ones go to the errors.
pub(crate) fn give(epoch: Time, results: Results, schema: &SchemaRef, errors: &Errors, output: &mut Vec<Delta>) {
    report_failed(epoch, &results.failed, schema, errors);
    if results.rows == 0 {
        return;
    }
    let options = RecordBatchOptions::new().with_row_count(Some(results.rows));
    let batch = RecordBatch::try_new_with_options(Arc::clone(schema), results.columns, &options);
    let batch = batch.expect("keys and aggregates have the types that the planner gave them");
    output.push(Delta::of(batch, results.diffs));
}

/// Keeps the keys of groups whose result cannot be represented.
pub(crate) fn report_failed(epoch: Time, failed: &[Failed], schema: &SchemaRef, errors: &Errors) {
    for failure in failed {
        let fields: Vec<_> = schema.fields().iter().take(failure.keys.len()).cloned().collect();
        let options = RecordBatchOptions::new().with_row_count(Some(1));
        let keys = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), failure.keys.clone(), &options);
        let keys = keys.expect("the first columns of the schema are the keys");
        let delta = Delta::with_diffs(keys, vec![failure.diff].into());
        errors.report_rows(epoch, &delta, failure.reason, None);
    }
}

#[cfg(test)]
mod tests;
