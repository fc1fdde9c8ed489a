//! The finished graph as a [`Job`]: unused nodes and columns dropped, expressions compiled.

mod lifetimes;
mod timed;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion_common::{DFSchema, DFSchemaRef, ScalarValue};
use datafusion_expr::{Expr, LogicalPlan, Operator};
use highwater_plan::{self as plan, Job, NodeId, Plan, Properties, Sink, Source, Span, View, Watermark};

use super::Lowerer;
use super::expr::{columns, remap};
use super::graph::{Map, Moment, Node, Op, Temporal, typed};
use super::map::is_identity;
use super::output::Outputs;
use super::over::closing_column;
use super::recursion::{Finished, dependencies};
use super::scalar::compile;
use crate::bind::{BoundSource, BoundWatermark};
use crate::diagnose::{Result, error};
use crate::functions::now_type;

/// Makes the job.
pub(super) fn finish(mut lowerer: Lowerer<'_>, outputs: Outputs) -> Result<Job> {
    let roots: Vec<NodeId> = outputs.views.iter().map(|(_, node)| *node).chain(outputs.sinks.iter().copied()).collect();
    let reachable = lowerer.graph.upstream(roots.iter().copied());
    lowerer.warn_of_renumbering(&reachable);
    let watermarks = lowerer.bound.sources.iter().map(|source| watermark_exprs(&lowerer, source)).collect::<Result<Vec<_>>>()?;
    let used = used_columns(&lowerer, &reachable, &roots, &watermarks);

    let within = dependencies(&lowerer.graph, &roots);
    let mut recursions = Finished::default();
    let mut finished = Plan::default();
    let mut ids: BTreeMap<NodeId, NodeId> = BTreeMap::new();
    for id in reachable {
        if !within[&id].is_empty() {
            continue;
        }
        let node = &lowerer.graph.nodes[id];
        if let Op::Recursion { recursion, output } = node.op {
            let (recursion, inputs) = recursions.recursion(&lowerer, recursion, &node.inputs, &ids, &finished, &used)?;
            let properties = Properties {
                append_only: node.known.append_only,
                time: node.known.time.clone(),
                unique_key: node.known.keys.first().cloned(),
                state: node.known.state.clone(),
            };
            let op = plan::Op::Recursion { recursion, output };
            ids.insert(
                id,
                finished.push(plan::Node { op, inputs, schema: Arc::clone(&node.schema), properties, span: node.span }),
            );
            continue;
        }
        let inputs: Vec<NodeId> = node.inputs.iter().map(|input| ids[input]).collect();
        let source = node.inputs.first().and_then(|input| source_of(&lowerer.graph.nodes[*input]));
        let pruned = source.map(|source| pruned(node, &used[source])).unwrap_or_else(|| node.clone());
        let nothing = match &pruned.op {
            Op::Map(Map { filters, exprs: Some(exprs) }) => {
                filters.is_empty() && is_identity(exprs, finished.nodes[inputs[0]].schema.fields().len())
            }
            _ => false,
        };
        let finished_id = match nothing && finished.nodes[inputs[0]].properties.time == pruned.known.time {
            true => inputs[0],
            false => {
                let node = finished_node(&pruned, inputs, &finished, &used)?;
                finished.push(node)
            }
        };
        ids.insert(id, finished_id);
    }

    let late = late_sources(&finished);
    let sources = lowerer
        .bound
        .sources
        .iter()
        .zip(watermarks)
        .enumerate()
        .map(|(index, (source, watermark))| finished_source(source, watermark, used[index].clone(), late.contains(&index)));
    let sources = sources.collect::<Result<Vec<Source>>>()?;
    let views = outputs.views.iter().map(|(index, node)| {
        let view = &lowerer.bound.views[*index];
        let node = ids[node];
        let schema = named(&finished, node, &view.query.schema);
        let all = || (0..schema.fields().len()).collect();
        let key = finished.nodes[node].properties.unique_key.clone().unwrap_or_else(all);
        View { name: view.name.clone(), node, schema, key, emit: view.emit, span: Some(view.span) }
    });
    let views: Vec<View> = views.collect();
    let sinks = lowerer.bound.sinks.iter().zip(&outputs.sinks).map(|(sink, node)| {
        let node = ids[node];
        let properties = &finished.nodes[node].properties;
        Sink {
            name: sink.name.clone(),
            node,
            schema: named(&finished, node, &sink.schema),
            key: sink.key.clone().or_else(|| properties.unique_key.clone()),
            emit: sink.emit,
            append_only: properties.append_only,
            options: sink.options.clone(),
            span: Some(sink.span),
        }
    });
    let sinks: Vec<Sink> = sinks.collect();
    let settings = lowerer.bound.decisions.settings.clone();
    let mut job = Job { sources, plan: finished, views, sinks, settings, warnings: lowerer.warnings };
    lifetimes::warn(&mut job);
    Ok(job)
}

/// The event time and the watermark of a source, over its physical columns.
fn watermark_exprs(lowerer: &Lowerer<'_>, source: &BoundSource) -> Result<Option<(Expr, Expr)>> {
    let Some(BoundWatermark { plan: LogicalPlan::Projection(project), span, .. }) = &source.watermark else { return Ok(None) };
    let mut exprs = lowerer.positional(&project.expr, &[&project.input])?.into_iter();
    match (exprs.next(), exprs.next()) {
        (Some(event_time), Some(watermark)) => Ok(Some((event_time, watermark))),
        _ => Err(error("internal-planner-error", "a watermark lost its expressions")
            .at(*span)
            .help("please report this together with the job's text")),
    }
}

/// The microseconds by which a watermark stays behind the event time, if that is all it says.
fn delay(event_time: &Expr, watermark: &Expr) -> Option<i64> {
    if watermark == event_time {
        return Some(0);
    }
    let Expr::BinaryExpr(difference) = watermark else { return None };
    let interval = match (difference.op, difference.right.as_ref()) {
        (Operator::Minus, Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(interval)), _)) => interval,
        _ => return None,
    };
    if *difference.left != *event_time || interval.months != 0 || interval.nanoseconds % 1_000 != 0 {
        return None;
    }
    Some(i64::from(interval.days) * 86_400_000_000 + interval.nanoseconds / 1_000)
}

/// Physical columns of each source that some operator, its watermark or its key reads, ascending.
fn used_columns(
    lowerer: &Lowerer<'_>,
    reachable: &[NodeId],
    roots: &[NodeId],
    watermarks: &[Option<(Expr, Expr)>],
) -> Vec<Vec<usize>> {
    let sources = &lowerer.bound.sources;
    let mut used: Vec<Vec<usize>> = sources.iter().map(|source| source.primary_key.clone()).collect();
    for (used, watermark) in used.iter_mut().zip(watermarks) {
        if let Some((event_time, watermark)) = watermark {
            used.extend(columns(event_time));
            used.extend(columns(watermark));
        }
    }
    for id in reachable {
        let node = &lowerer.graph.nodes[*id];
        if let Some(source) = source_of(node).filter(|_| roots.contains(id)) {
            used[source].extend(0..sources[source].schema.fields().len());
        }
        for source in node.inputs.iter().filter_map(|input| source_of(&lowerer.graph.nodes[*input])) {
            match &node.op {
                Op::Map(Map { filters, exprs: Some(exprs) }) => {
                    used[source].extend(filters.iter().chain(exprs).flat_map(columns));
                }
                _ => used[source].extend(0..sources[source].schema.fields().len()),
            }
        }
    }
    for used in &mut used {
        if used.is_empty() {
            // A batch of no columns would have no length.
            used.push(0);
        }
        used.sort_unstable();
        used.dedup();
    }
    used
}

fn source_of(node: &Node) -> Option<usize> {
    match node.op {
        Op::Source(source) | Op::Versions(source) => Some(source),
        _ => None,
    }
}

/// A reader of a source whose unused columns are gone. Only maps that project can lose some.
fn pruned(node: &Node, used: &[usize]) -> Node {
    let Op::Map(Map { filters, exprs: Some(exprs) }) = &node.op else { return node.clone() };
    let moved = |column: usize| used.binary_search(&column).expect("columns that are read are used");
    let map = Map {
        filters: filters.iter().map(|expr| remap(expr, moved)).collect(),
        exprs: Some(exprs.iter().map(|expr| remap(expr, moved)).collect()),
    };
    Node { op: Op::Map(map), ..node.clone() }
}

/// A node that is finished with the columns that its source, if it reads one, still has.
pub(super) fn finished_reader(
    lowerer: &Lowerer<'_>,
    id: NodeId,
    inputs: Vec<NodeId>,
    done: &Plan,
    used: &[Vec<usize>],
) -> Result<plan::Node> {
    let node = &lowerer.graph.nodes[id];
    let source = node.inputs.first().and_then(|input| source_of(&lowerer.graph.nodes[*input]));
    let pruned = source.map(|source| pruned(node, &used[source])).unwrap_or_else(|| node.clone());
    finished_node(&pruned, inputs, done, used)
}

fn finished_node(node: &Node, inputs: Vec<NodeId>, done: &Plan, used: &[Vec<usize>]) -> Result<plan::Node> {
    let types = typed(inputs.iter().map(|input| done.nodes[*input].schema.as_ref()))?;
    let compiled = |exprs: &[Expr], types: &DFSchemaRef| {
        exprs.iter().map(|expr| compile(expr, types, node.span)).collect::<Result<Vec<plan::Expr>>>()
    };
    let map = |map: &Map, types: &DFSchemaRef| {
        let exprs = map.exprs.as_ref().map(|exprs| compiled(exprs, types)).transpose()?;
        Ok::<plan::Map, crate::diagnose::Failure>(plan::Map { filters: compiled(&map.filters, types)?, exprs })
    };
    let mut schema = Arc::clone(&node.schema);
    let mut time = node.known.time.clone();
    let mut unique_key = node.known.keys.first().cloned();
    let op = match &node.op {
        Op::Source(source) | Op::Versions(source) => {
            let projection = used[*source].clone();
            schema = Arc::new(schema.project(&projection).expect("used columns are columns of the source"));
            time = projection.iter().map(|column| time[*column].clone()).collect();
            let position = |column: &usize| projection.iter().position(|used| used == column);
            unique_key = unique_key.and_then(|key| key.iter().map(position).collect());
            match node.op {
                Op::Versions(source) => plan::Op::Versions { source, projection },
                _ => plan::Op::Source { source: *source, projection },
            }
        }
        Op::Constant(rows) => plan::Op::Constant { rows: rows.clone() },
        Op::Map(fused) => plan::Op::Map(map(fused, &types)?),
        Op::Window(assign) => plan::Op::Window(assign.clone()),
        Op::Session(assign) => plan::Op::Session(assign.clone()),
        Op::Unnest(unnest) => plan::Op::Unnest(unnest.clone()),
        Op::Stamp => plan::Op::Stamp,
        Op::Hold(hold) => plan::Op::Hold(hold.clone()),
        Op::Aggregate(aggregate) => plan::Op::Aggregate(plan::Aggregate {
            keys: aggregate.keys.clone(),
            calls: aggregate.calls.clone(),
            grouping: aggregate.grouping.clone(),
            emit: aggregate.emit,
        }),
        Op::Join(join) => {
            let [left, right] = [inputs[0], inputs[1]].map(|input| &done.nodes[input].schema);
            let output = typed([&Schema::new(join.kind.columns(left, right))])?;
            plan::Op::Join(plan::Join {
                kind: join.kind,
                on: join.on.clone(),
                nulls_equal: join.nulls_equal,
                residual: compiled(&join.residual, &types)?,
                map: map(&join.map, &output)?,
                window: join.window.clone(),
                interval: join.interval.clone(),
                emit: join.emit,
            })
        }
        Op::Timed(timed) => {
            let [left, right] = [inputs[0], inputs[1]].map(|input| &done.nodes[input].schema);
            let kind = if timed.beside.outer { plan::JoinKind::Left } else { plan::JoinKind::Inner };
            let output = typed([&Schema::new(kind.columns(left, right))])?;
            let residual = compiled(&timed.beside.residual, &types)?;
            timed::finished(timed, residual, map(&timed.beside.map, &output)?)
        }
        Op::Union => plan::Op::Union,
        Op::Temporal(filter) => plan::Op::Temporal(temporal(filter, &types, node.span)?),
        Op::SetOperation(operation) => plan::Op::SetOperation(*operation),
        Op::TopN(topn) => plan::Op::TopN(topn.clone()),
        Op::Over(over) => plan::Op::Over(over.clone()),
        Op::Recursion { .. } | Op::Binding { .. } => {
            return Err(error("internal-planner-error", "a recursive query stands outside of its recursion")
                .at(node.span)
                .help("please report this together with the job's text"));
        }
    };
    let properties = Properties { append_only: node.known.append_only, time, unique_key, state: node.known.state.clone() };
    Ok(plan::Node { op, inputs, schema, properties, span: node.span })
}

fn temporal(filter: &Temporal, types: &DFSchema, place: Option<Span>) -> Result<plan::TemporalFilter> {
    let mut fields: Vec<Field> = types.fields().iter().map(|field| field.as_ref().clone()).collect();
    fields.push(Field::new("now", now_type(), false));
    let with_now = typed([&Schema::new(fields)])?;
    let conditions = filter.conditions.iter().map(|(turns, moment)| {
        let moment = match moment {
            Moment::At(time) => plan::Moment::At(compile(time, types, place)?),
            Moment::After(time) => plan::Moment::After(compile(time, types, place)?),
            Moment::Search(truth) => plan::Moment::Search(compile(truth, &with_now, place)?),
        };
        Ok(plan::TemporalCondition { turns: *turns, moment })
    });
    Ok(plan::TemporalFilter { conditions: conditions.collect::<Result<_>>()? })
}

fn finished_source(source: &BoundSource, watermark: Option<(Expr, Expr)>, used: Vec<usize>, late: bool) -> Result<Source> {
    let moved = |column: usize| used.binary_search(&column).expect("columns of a watermark are used");
    let watermark = match (watermark, &source.watermark) {
        (Some((event_time, value)), Some(bound)) => {
            let schema = source.schema.project(&used).expect("used columns are columns of the source");
            let types = typed([&schema])?;
            let compiled = |expr: &Expr| compile(&remap(expr, moved), &types, Some(bound.span));
            let delay = delay(&event_time, &value);
            Some(Watermark { column: bound.column.clone(), event_time: compiled(&event_time)?, expr: compiled(&value)?, delay })
        }
        _ => None,
    };
    Ok(Source {
        name: source.name.clone(),
        kind: source.kind,
        schema: Arc::clone(&source.schema),
        used,
        primary_key: source.primary_key.clone(),
        defaults: source.defaults.clone(),
        metadata: source.metadata.clone(),
        watermark,
        options: source.options.clone(),
        append_only: source.append_only,
        keeps_late_rows: late,
        span: Some(source.span),
    })
}

/// Sources whose watermarks close some window: their rows can be late.
fn late_sources(done: &Plan) -> Vec<usize> {
    let mut sources = Vec::new();
    for node in &done.nodes {
        if let plan::Op::Join(join) = &node.op {
            let window = join.window.iter().flat_map(|window| window.left.iter().chain(&window.right));
            sources.extend(window.chain(join.interval.iter().flat_map(|interval| &interval.sources)).map(|time| time.source));
        }
        if let plan::Op::TemporalJoin(temporal) = &node.op {
            sources.extend(timed::late_sources(temporal));
        }
        let column = match &node.op {
            plan::Op::Aggregate(aggregate) => aggregate.time_column(),
            plan::Op::Session(assign) => Some(assign.time),
            plan::Op::Hold(plan::Hold::UntilPassed { column, .. }) => Some(*column),
            op => closing_column(op),
        };
        let time = column.and_then(|column| done.nodes[node.inputs[0]].properties.time[column].as_ref());
        sources.extend(time.into_iter().flat_map(|time| &time.sources).map(|time| time.source));
    }
    sources
}

/// A node's columns under the names that a query gives them.
fn named(done: &Plan, node: NodeId, names: &SchemaRef) -> SchemaRef {
    let fields = done.nodes[node].schema.fields().iter().zip(names.fields());
    let fields: Vec<Field> = fields.map(|(field, name)| field.as_ref().clone().with_name(name.name())).collect();
    Arc::new(Schema::new(fields))
}
