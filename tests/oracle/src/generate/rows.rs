//! Random scripts: few distinct values, NULLs, duplicates, times around the watermark, retractions of earlier rows.

use std::collections::BTreeMap;

use arrow::datatypes::{DataType, TimeUnit};
use highwater_plan::Job;

use super::Random;
use super::sources::{Behaviour, Declared};
use crate::script::{Batch, FeedScript, Script};
use crate::value::{Row, Value};

/// A script for a job with these sources; `steps`: between how many there are, mostly and now and then.
pub(super) fn script(random: &mut Random, sources: &[Declared], job: &Job, steps: [(i64, i64); 2]) -> Script {
    let (least, many) = steps[usize::from(!random.chance(70))];
    let steps = random.range(least, many) as usize;
    let most = if steps > 12 { 4 } else { *random.one_of(&[2, 4, 8, 12]) };
    let awaited = random.chance(65);
    let mut script = Script { feeds: Vec::new(), awaited, finishes: random.chance(80), restarts: Vec::new() };
    let pace = *random.one_of(&[300, 900, 2_500, 5_000]);
    for source in &job.sources {
        let declared =
            sources.iter().find(|declared| declared.relation.name == source.name).expect("the job was made from these");
        let feeds = random.range(1, 3) as usize;
        for number in 0..feeds {
            let mut feed = FeedScript {
                source: source.name.clone(),
                worker: random.below(4),
                batches: Vec::new(),
                ends_with_rows: random.chance(50),
            };
            let mut rows = Rows {
                random,
                declared,
                types: types(source),
                feeds: feeds as i64,
                now: declared.base_ms,
                held: Vec::new(),
                gone: Vec::new(),
            };
            for step in 0..steps {
                rows.now += rows.random.range(0, pace * 2);
                rows.batches(step, most, &mut feed.batches);
                if awaited && number > 0 && step + 2 < steps && rows.random.chance(8) {
                    feed.batches.push(Batch { step, rows: Vec::new(), idle: true });
                }
            }
            script.feeds.push(feed);
        }
    }
    settle_idle_feeds(&mut script, steps - 1);
    script
}

/// Whoever is idle comes back before the last step, and the first feed of a source ends in it: so a source always has a feed
/// that is neither idle nor finished, and its watermark does not depend on the clock.
fn settle_idle_feeds(script: &mut Script, last: usize) {
    for feed in &mut script.feeds {
        let place = feed.batches.partition_point(|batch| batch.step < last);
        if feed.batches[..place].last().is_some_and(|batch| batch.idle) {
            feed.batches.insert(place, Batch { step: last - 1, ..Batch::default() });
        }
        if feed.batches.last().is_none_or(|batch| batch.step < last) {
            feed.batches.push(Batch { step: last, ..Batch::default() });
        }
    }
}

fn types(source: &highwater_plan::Source) -> Vec<DataType> {
    source.schema.fields().iter().map(|field| field.data_type().clone()).collect()
}

/// Makes the rows of one feed.
struct Rows<'a> {
    random: &'a mut Random,
    declared: &'a Declared,
    types: Vec<DataType>,
    /// How many feeds of the source there are.
    feeds: i64,
    /// About the event time of its next row.
    now: i64,
    /// Rows that were given and not retracted.
    held: Vec<Row>,
    /// Rows that were retracted.
    gone: Vec<Row>,
}

impl Rows<'_> {
    fn batches(&mut self, step: usize, most: i64, batches: &mut Vec<Batch>) {
        let count = if self.random.chance(20) { 0 } else { self.random.range(0, most) };
        let mut rows = Vec::new();
        if self.random.chance(8) {
            rows = self.emptied();
        }
        for _ in 0..count {
            let update = self.update();
            rows.push(update);
        }
        if rows.is_empty() && self.random.chance(60) {
            return;
        }
        let cut = if self.random.chance(30) { self.random.below(rows.len() + 1) } else { 0 };
        let rest = rows.split_off(cut);
        if !rows.is_empty() {
            batches.push(Batch { step, rows, idle: false });
        }
        batches.push(Batch { step, rows: rest, idle: false });
    }

    /// Takes back all that the feed has given.
    fn emptied(&mut self) -> Vec<(Row, i64)> {
        match self.declared.behaviour {
            Behaviour::Grows => Vec::new(),
            Behaviour::Retracts => {
                self.gone.extend(self.held.iter().cloned());
                self.held.drain(..).map(|row| (row, -1)).collect()
            }
            // Of every key that a feed can give.
            Behaviour::Upserts { .. } => {
                let whole = (0..=2 * self.feeds).map(|key| {
                    let mut row = self.row().to_vec();
                    row[0] = Value::Int(key);
                    (row.into(), -1)
                });
                whole.collect()
            }
        }
    }

    fn update(&mut self) -> (Row, i64) {
        let retracts = self.declared.behaviour == Behaviour::Retracts;
        if retracts && !self.held.is_empty() && self.random.chance(35) {
            let place = self.random.below(self.held.len());
            let row = self.held.swap_remove(place);
            self.gone.push(row.clone());
            return (row, -1);
        }
        let row = match self.declared.behaviour {
            Behaviour::Retracts if !self.gone.is_empty() && self.random.chance(20) => self.random.one_of(&self.gone).clone(),
            Behaviour::Retracts if !self.held.is_empty() && self.random.chance(20) => self.random.one_of(&self.held).clone(),
            _ => self.row(),
        };
        if retracts {
            self.held.push(row.clone());
        }
        let deletes = matches!(self.declared.behaviour, Behaviour::Upserts { .. }) && self.random.chance(25);
        (row, if deletes { -1 } else { 1 })
    }

    fn row(&mut self) -> Row {
        let key = if let Behaviour::Upserts { key } = self.declared.behaviour { key } else { 0 };
        let columns: Vec<String> = self.declared.relation.columns.iter().map(|column| column.name.clone()).collect();
        let mut values: BTreeMap<usize, Value> = BTreeMap::new();
        for (index, name) in columns.iter().enumerate() {
            let nulls = if index < key {
                0
            } else if name == "ts" || name == "due" {
                3
            } else {
                12
            };
            let value = if self.random.chance(nulls) { Value::Null } else { self.value(name, index) };
            values.insert(index, value);
        }
        if key > 0 {
            values.insert(0, Value::Int(self.random.range(0, 2 * self.feeds)));
        }
        values.into_values().collect::<Vec<_>>().into()
    }

    fn value(&mut self, name: &str, index: usize) -> Value {
        let random = &mut *self.random;
        match name {
            "k" if random.chance(1) => Value::Int(*random.one_of(&[i64::MAX, i64::MIN])),
            "k" => Value::Int(random.range(0, 4)),
            "n" => Value::Int(random.range(-2, 4)),
            "tag" => Value::text(random.pick(&["a", "b", "ab", ""])),
            "x" => Value::Float(random.range(-4, 5) as f64 / 2.0),
            "d" => Value::Decimal(i128::from(*random.one_of(&[-150, -25, 0, 25, 100, 199]))),
            "ok" => Value::Bool(random.chance(50)),
            "ts" => {
                let bound = self.declared.bound_ms.unwrap_or(1_000);
                let behind = if random.chance(80) { random.range(0, bound.max(200)) } else { random.range(0, bound * 3 + 3_000) };
                let ms = self.now - behind;
                let ms = if random.chance(50) { ms.div_euclid(500) * 500 } else { ms };
                Value::Int(match &self.types[index] {
                    DataType::Timestamp(TimeUnit::Second, _) => ms.div_euclid(1_000),
                    DataType::Timestamp(TimeUnit::Millisecond, _) => ms,
                    DataType::Timestamp(TimeUnit::Microsecond, _) => ms * 1_000,
                    _ => ms * 1_000_000,
                })
            }
            // Most of them while the job runs, which takes some milliseconds.
            "due" => Value::Int(random.range(-8, 24)),
            other => panic!("no values are known for column {other}"),
        }
    }
}
