//! Joins in time: for each left row the right rows of its moment are looked for among all there are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use highwater_plan::{AsOf, Beside, Comparison, Map, Nearest, NodeId, Op, TemporalJoin, TimeSource};

use super::expression::RowMap;
use super::{Context, Evaluated, Unfit, keeps_failed, wrong};
use crate::multiset::Multiset;
use crate::value::{Row, Value, micros};

/// Pairs of distinct rows that may be looked at in one epoch.
const PAIRS_MAX: usize = 40_000;

/// Pairs and lonely rows of one join.
struct Pairing<'a> {
    id: NodeId,
    beside: &'a Beside,
    residual: RowMap<'a>,
    map: RowMap<'a>,
    right_width: usize,
}

/// Conditions of a match, as a map that gives the pair itself.
fn residual_of(beside: &Beside) -> Map {
    Map { filters: beside.residual.clone(), exprs: None }
}

impl<'a> Pairing<'a> {
    fn new(context: &Context<'a>, id: NodeId, beside: &'a Beside, residual: &'a Map) -> Self {
        let node = &context.job.plan.nodes[id];
        let schemas = [0, 1].map(|side| &context.job.plan.nodes[node.inputs[side]].schema);
        let fields = schemas[0].fields().iter().chain(schemas[1].fields());
        let both: Vec<Field> = fields.map(|field| field.as_ref().clone().with_nullable(true)).collect();
        let both: SchemaRef = Arc::new(Schema::new(both));
        Pairing {
            id,
            beside,
            residual: RowMap::new(residual, &both, &both, keeps_failed(context)),
            map: RowMap::new(&beside.map, &both, &node.schema, keeps_failed(context)),
            right_width: schemas[1].fields().len(),
        }
    }

    fn keys_match(&self, left: &Row, right: &Row) -> bool {
        self.beside.on.iter().all(|(l, r)| left[*l] == right[*r] && (self.beside.nulls_equal || !left[*l].is_null()))
    }

    /// Gives `diff` copies of a left row beside these right rows.
    fn give(
        &mut self,
        left: &Row,
        diff: i64,
        right: &[(Row, i64)],
        content: &mut Multiset,
        errors: &mut i64,
    ) -> Result<(), Unfit> {
        let mut matched = false;
        for (right, copies) in right {
            let pair: Row = left.iter().chain(right.iter()).cloned().collect::<Vec<Value>>().into();
            let mut passed = Multiset::default();
            self.residual.apply(&pair, diff * copies, &mut passed, errors).map_err(|e| wrong(self.id, &e))?;
            matched |= passed.distinct() > 0;
            for (pair, diff) in passed.iter() {
                self.map.apply(pair, diff, content, errors).map_err(|e| wrong(self.id, &e))?;
            }
        }
        if !matched && self.beside.outer {
            let nulls = std::iter::repeat_n(Value::Null, self.right_width);
            let alone: Row = left.iter().cloned().chain(nulls).collect::<Vec<Value>>().into();
            self.map.apply(&alone, diff, content, errors).map_err(|e| wrong(self.id, &e))?;
        }
        Ok(())
    }
}

/// The right columns that a join reads, ascending.
fn right_columns(beside: &Beside, left_width: usize, right_width: usize) -> Vec<usize> {
    let exprs = beside.residual.iter().chain(&beside.map.filters).chain(beside.map.exprs.iter().flatten());
    let mut read: Vec<usize> = exprs.flat_map(|expr| &expr.columns).filter_map(|column| column.checked_sub(left_width)).collect();
    if beside.map.exprs.is_none() {
        read.extend(0..right_width);
    }
    read.sort_unstable();
    read.dedup();
    read
}

/// The content of `ASOF JOIN` after each epoch.
pub(super) fn nearest(
    context: &Context<'_>,
    id: NodeId,
    nearest: &Nearest,
    inputs: [&Vec<Multiset>; 2],
) -> Result<Evaluated, Unfit> {
    let residual = residual_of(&nearest.beside);
    let mut pairing = Pairing::new(context, id, &nearest.beside, &residual);
    let left_width = context.job.plan.nodes[context.job.plan.nodes[id].inputs[0]].schema.fields().len();
    // Of equally near rows the columns that the join reads decide.
    let read = right_columns(&nearest.beside, left_width, pairing.right_width);
    let kept = |row: &Row| -> Vec<Value> { read.iter().map(|column| row[*column].clone()).collect() };
    let mut evaluated = Evaluated::of(vec![Multiset::default(); context.epochs]);
    for epoch in 0..context.epochs {
        let [left, right] = inputs.map(|input| &input[epoch]);
        if left.distinct() * right.distinct() > PAIRS_MAX {
            return Err(Unfit::TooLarge);
        }
        for (row, diff) in left.iter() {
            let value = &row[nearest.left];
            let fits = |other: &Value| match nearest.comparison {
                Comparison::Less => value < other,
                Comparison::LessOrEqual => value <= other,
                Comparison::Greater => value > other,
                Comparison::GreaterOrEqual => value >= other,
            };
            let candidates = right.iter().filter(|(other, copies)| {
                let compared = &other[nearest.right];
                *copies > 0 && pairing.keys_match(row, other) && !value.is_null() && !compared.is_null() && fits(compared)
            });
            let forwards = matches!(nearest.comparison, Comparison::Less | Comparison::LessOrEqual);
            let best = candidates.min_by(|(one, _), (other, _)| {
                let (one_value, other_value) = (&one[nearest.right], &other[nearest.right]);
                let nearer = if forwards { one_value.cmp(other_value) } else { other_value.cmp(one_value) };
                nearer.then_with(|| kept(one).cmp(&kept(other)))
            });
            let best: Vec<(Row, i64)> = best.map(|(row, _)| (row.clone(), 1)).into_iter().collect();
            pairing.give(row, diff, &best, &mut evaluated.content[epoch], &mut evaluated.errors[epoch])?;
        }
    }
    Ok(evaluated)
}

/// The content of `FOR SYSTEM_TIME AS OF` after each epoch.
pub(super) fn temporal(
    context: &Context<'_>,
    id: NodeId,
    temporal: &TemporalJoin,
    inputs: [&Vec<Multiset>; 2],
) -> Result<Evaluated, Unfit> {
    let residual = residual_of(&temporal.beside);
    let pairing = Pairing::new(context, id, &temporal.beside, &residual);
    match &temporal.as_of {
        AsOf::Processing => {
            let width = context.job.plan.nodes[context.job.plan.nodes[id].inputs[0]].schema.fields().len();
            of_processing(context, pairing, &told_by(&temporal.beside, width), inputs)
        }
        AsOf::Event { left, right, valid, first_of_equal, sources } => {
            let rows = match first_of_equal {
                true => rows_that_came(inputs[1]),
                false => right_rows(context, context.job.plan.nodes[id].inputs[1])?.0,
            };
            of_event(context, id, pairing, (inputs[0], rows), (*left, *right, *valid), *first_of_equal, sources)
        }
    }
}

/// The columns by which left rows are told apart: those that the join reads. A row that changes in others stays the row it
/// was, as it would if the columns had not been read from its source.
fn told_by(beside: &Beside, left_width: usize) -> Vec<usize> {
    let exprs = beside.map.filters.iter().chain(beside.map.exprs.iter().flatten()).chain(&beside.residual);
    let mut read: BTreeSet<usize> = exprs.flat_map(|expr| &expr.columns).copied().filter(|column| *column < left_width).collect();
    read.extend(beside.on.iter().map(|(column, _)| *column));
    if beside.map.exprs.is_none() {
        read.extend(0..left_width);
    }
    if read.is_empty() && left_width > 0 {
        read.insert(0);
    }
    read.into_iter().collect()
}

fn of_processing(
    context: &Context<'_>,
    mut pairing: Pairing<'_>,
    told_by: &[usize],
    inputs: [&Vec<Multiset>; 2],
) -> Result<Evaluated, Unfit> {
    let mut evaluated = Evaluated::of(vec![Multiset::default(); context.epochs]);
    // Per left row its copies, each with the right rows that it was given beside.
    // Per left row its copies, and what those stand beside.
    type Copies = (i64, Vec<(Row, i64)>);
    let mut given: BTreeMap<Vec<Value>, Vec<Copies>> = BTreeMap::new();
    let (mut content, mut errors) = (Multiset::default(), 0);
    for epoch in 0..context.epochs {
        let [left, right] = inputs.map(|input| &input[epoch]);
        if left.distinct() * right.distinct() > PAIRS_MAX {
            return Err(Unfit::TooLarge);
        }
        let change = match epoch.checked_sub(1) {
            None => left.clone(),
            Some(before) => left.minus(&inputs[0][before]),
        };
        let mut net: BTreeMap<Vec<Value>, (Row, i64)> = BTreeMap::new();
        for (row, diff) in change.iter() {
            let told: Vec<Value> = told_by.iter().map(|column| row[*column].clone()).collect();
            net.entry(told).or_insert_with(|| (row.clone(), 0)).1 += diff;
        }
        for (told, (row, diff)) in &net {
            let diff = *diff;
            let copies = given.entry(told.clone()).or_default();
            if diff < 0 {
                for _ in 0..-diff {
                    let (_, beside) = copies.pop().expect("a script takes back what it gave");
                    pairing.give(row, -1, &beside, &mut content, &mut errors)?;
                }
                continue;
            }
            let matching = right.iter().filter(|(other, _)| pairing.keys_match(row, other));
            let beside: Vec<(Row, i64)> = matching.map(|(row, copies)| (row.clone(), copies)).collect();
            copies.extend((0..diff).map(|_| (1, beside.clone())));
            pairing.give(row, diff, &beside, &mut content, &mut errors)?;
        }
        evaluated.content[epoch] = content.clone();
        evaluated.errors[epoch] = errors;
    }
    Ok(evaluated)
}

/// A key's versions by time; `None` where the key has no row.
type Versions = BTreeMap<i64, Option<Row>>;

/// Per epoch rows with their multiplicities, in an order.
type Came = Vec<Vec<(Row, i64)>>;

fn of_event(
    context: &Context<'_>,
    id: NodeId,
    mut pairing: Pairing<'_>,
    (left, mut right): (&[Multiset], Came),
    (left_time, right_time, valid): (usize, usize, Option<usize>),
    first_of_equal: bool,
    sources: &[TimeSource],
) -> Result<Evaluated, Unfit> {
    let plan = &context.job.plan;
    let inputs = &plan.nodes[id].inputs;
    let types = [(inputs[0], left_time), (inputs[1], right_time)]
        .map(|(node, column): (usize, usize)| plan.nodes[node].schema.field(column).data_type().clone());
    let time = |row: &Row, column: usize, data_type: &DataType| micros(&row[column], data_type);
    let mut evaluated = Evaluated::of(vec![Multiset::default(); context.epochs]);
    let mut versions: BTreeMap<Vec<Value>, Versions> = BTreeMap::new();
    let mut waiting: Vec<(Row, i64, i64)> = Vec::new();
    let (mut content, mut errors, mut late) = (Multiset::default(), 0, 0);
    let read = right_columns(pairing.beside, plan.nodes[inputs[0]].schema.fields().len(), pairing.right_width);
    let kept = |row: &Row| -> Vec<Value> { read.iter().map(|column| row[*column].clone()).collect() };
    for epoch in 0..context.epochs {
        let before = context.watermark_before(epoch, sources);
        if first_of_equal {
            // A stream's rows come in no order: the earlier ones are taken first.
            right[epoch].sort_by_key(|(row, _)| time(row, right_time, &types[1]));
        }
        for (row, diff) in right[epoch].drain(..) {
            // The end of a version is a row that came, too: refused, it is one more.
            let Some(from) = time(&row, right_time, &types[1]) else {
                errors += diff.abs();
                continue;
            };
            let key = pairing.beside.on.iter().map(|(_, column)| row[*column].clone()).collect();
            let of_key = versions.entry(key).or_default();
            // What a later version has replaced before the watermark can no longer be asked for.
            if of_key.range(from.saturating_add(1)..).next().is_some_and(|(next, _)| *next <= before) {
                late += diff.abs();
                continue;
            }
            let exists = diff > 0 && valid.is_none_or(|valid| row[valid].is_true());
            let version = exists.then_some(row);
            match (of_key.get(&from), &version) {
                // One that is selected comes before one that is not, and then the smaller one.
                (Some(_), None) if first_of_equal => {}
                (Some(Some(there)), Some(row)) if first_of_equal && kept(there) <= kept(row) => {}
                _ => drop(of_key.insert(from, version)),
            }
        }
        let change = match epoch.checked_sub(1) {
            None => left[epoch].clone(),
            Some(earlier) => left[epoch].minus(&left[earlier]),
        };
        for (row, diff) in change.iter() {
            match time(row, left_time, &types[0]) {
                None => errors += diff,
                Some(at) if at < before => late += context.late(sources, diff),
                Some(at) => waiting.push((row.clone(), at, diff)),
            }
        }
        let now = context.watermark(epoch, sources);
        let (ready, rest): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|(_, at, _)| *at < now);
        waiting = rest;
        for (row, at, diff) in ready {
            let key: Vec<Value> = pairing.beside.on.iter().map(|(column, _)| row[*column].clone()).collect();
            let version = versions.get(&key).and_then(|of_key| of_key.range(..=at).next_back());
            let version = version.and_then(|(_, row)| row.clone()).filter(|version| pairing.keys_match(&row, version));
            let beside: Vec<(Row, i64)> = version.map(|row| (row, 1)).into_iter().collect();
            pairing.give(&row, diff, &beside, &mut content, &mut errors)?;
        }
        // That it is gone is not kept of a key: it is as if there had never been one.
        for of_key in versions.values_mut() {
            if let Some((last, None)) = of_key.range(..=now).next_back().map(|(at, row)| (*at, row.clone())) {
                of_key.retain(|at, _| *at > last);
            }
        }
        evaluated.content[epoch] = content.clone();
        evaluated.errors[epoch] = errors;
        evaluated.late[epoch] = late;
    }
    Ok(evaluated)
}

/// Per epoch the rows that came.
fn rows_that_came(content: &[Multiset]) -> Vec<Vec<(Row, i64)>> {
    let before = [Multiset::default()].into_iter().chain(content.iter().cloned());
    let changes = content.iter().zip(before).map(|(now, before)| now.minus(&before));
    changes.map(|change| change.iter().map(|(row, diff)| (row.clone(), diff)).collect()).collect()
}

/// The versions of a table behind a map, and what fails of them, each added up.
pub(super) fn versions(context: &Context<'_>, node: NodeId) -> Result<Evaluated, Unfit> {
    let (came, failed) = right_rows(context, node)?;
    let mut evaluated = Evaluated::of(Vec::new());
    let mut content = Multiset::default();
    for rows in came {
        rows.into_iter().for_each(|(row, diff)| content.add(row, diff));
        evaluated.content.push(content.clone());
    }
    evaluated.late = vec![0; failed.len()];
    evaluated.errors = failed;
    Ok(evaluated)
}

/// Per epoch the rows of the right side in the order they came, mapped, and how many have failed through it in the last map.
/// What fails has no row from then on; that a row ends does not fail.
fn right_rows(context: &Context<'_>, node: NodeId) -> Result<(Came, Vec<i64>), Unfit> {
    let found = &context.job.plan.nodes[node];
    match &found.op {
        Op::Versions { source, projection } => {
            let read = |row: &Row| -> Row { projection.iter().map(|column| row[*column].clone()).collect() };
            let ordered = context.history.in_order(*source);
            let of = |epoch: u64| {
                let rows = ordered.iter().filter(|(at, ..)| *at == epoch);
                rows.map(|(_, row, diff)| (read(row), *diff)).collect()
            };
            Ok((context.history.epochs().into_iter().map(of).collect(), vec![0; context.epochs]))
        }
        Op::Map(map) => {
            let input = found.inputs[0];
            let nullable = found.schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
            let nullable: SchemaRef = Arc::new(Schema::new(nullable.collect::<Vec<Field>>()));
            let mut mapped = RowMap::new(map, &context.job.plan.nodes[input].schema, &nullable, true);
            let (mut epochs, _) = right_rows(context, input)?;
            let (mut failed, mut all_failed) = (0, Vec::new());
            for rows in &mut epochs {
                for (row, diff) in rows.iter_mut() {
                    let (mut one, mut fails) = (Multiset::default(), 0);
                    mapped.apply(row, 1, &mut one, &mut fails).map_err(|e| wrong(node, &e))?;
                    *row = match one.iter().next() {
                        Some((mapped, _)) => mapped.clone(),
                        None => return Err(wrong(node, "a map leaves out versions")),
                    };
                    if *diff > 0 {
                        failed += fails;
                        *diff = if fails > 0 && !keeps_failed(context) { -1 } else { *diff };
                    }
                }
                all_failed.push(failed);
            }
            Ok((epochs, all_failed))
        }
        _ => Err(wrong(node, "versions come from a table")),
    }
}
