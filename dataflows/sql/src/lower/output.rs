//! Views and sinks: the roots of the graph, and what EMIT FINAL asks of the operators below them.

use std::sync::Arc;

use highwater_plan::{Emit, Grouping, Hold, NodeId, Span, StateBound, TimeKind};

use super::expr::{columns, remap};
use super::graph::{Aggregate, Known, Map, Op};
use super::window::event_time;
use super::{Lowerer, names_of};
use crate::bind::BoundQuery;
use crate::diagnose::{Places, Result, error};

const HELP: &str = "declare WATERMARK FOR the time column on its source and group by TUMBLE or HOP of it, or use EMIT CHANGES";

/// The root nodes of a job.
pub(super) struct Outputs {
    /// Position of a materialised view among the bound views, and its node.
    pub(super) views: Vec<(usize, NodeId)>,
    /// A node for each sink.
    pub(super) sinks: Vec<NodeId>,
}

impl Lowerer<'_> {
    /// Lowers every view and sink, in the order of their statements.
    pub(super) fn outputs(&mut self) -> Result<Outputs> {
        let mut outputs = Outputs { views: Vec::new(), sinks: Vec::new() };
        for (index, view) in self.bound.views.iter().enumerate() {
            let node = self.view(index, view.emit)?;
            if view.materialized {
                outputs.views.push((index, node));
            }
        }
        for sink in &self.bound.sinks {
            let mut nodes = Vec::with_capacity(sink.queries.len());
            for query in &sink.queries {
                nodes.push(self.query(query, sink.emit)?);
            }
            let mut node = match nodes[..] {
                [node] => node,
                _ => self.all_rows(nodes, sink.schema.clone())?,
            };
            if sink.emit == Emit::Final {
                node = self.finalized(node, sink.span)?;
            }
            if let Some(millis) = sink.every {
                node = self.every(node, millis, sink.span)?;
            }
            outputs.sinks.push(node);
        }
        Ok(outputs)
    }

    /// A view's rows; with `emit` final, those of its windows once they are closed.
    pub(super) fn view(&mut self, index: usize, emit: Emit) -> Result<NodeId> {
        let view = &self.bound.views[index];
        let is_final = emit == Emit::Final || view.emit == Emit::Final;
        if let Some(node) = self.views.get(&(index, is_final)) {
            return Ok(*node);
        }
        let emit = if is_final { Emit::Final } else { Emit::Changes };
        let mut node = self.query(&view.query, emit)?;
        if view.emit == Emit::Final {
            node = self.finalized(node, view.span)?;
        }
        if let Some(millis) = view.every {
            node = self.every(node, millis, view.span)?;
        }
        if view.materialized && emit == view.emit {
            self.graph.kept.insert(node);
        }
        self.views.insert((index, is_final), node);
        Ok(node)
    }

    pub(super) fn query(&mut self, query: &BoundQuery, emit: Emit) -> Result<NodeId> {
        let places: Places = std::mem::replace(&mut self.places, query.places.clone());
        let outer = std::mem::replace(&mut self.emit, emit);
        let node = self.plan(&query.plan).map_err(|failure| failure.or_at(self.places.statement));
        self.places = places;
        self.emit = outer;
        node
    }

    /// Changes given together once in a while: of times the watermark then says nothing.
    fn every(&mut self, input: NodeId, millis: u64, span: Span) -> Result<NodeId> {
        let node = &self.graph.nodes[input];
        let mut known = Known { state: StateBound::Interval, ..node.known.clone() };
        known.time = vec![None; known.time.len()];
        let schema = Arc::clone(&node.schema);
        self.graph.add(Op::Hold(Hold::Every { millis }), vec![input], schema, known, Some(span))
    }

    /// EMIT FINAL over `root`. Windows that close give their results once by themselves; other rows are held until the
    /// watermark has passed their time.
    fn finalized(&mut self, root: NodeId, span: Span) -> Result<NodeId> {
        if self.closes(root, span)? {
            return Ok(root);
        }
        let tells_last = self.tells_last(root);
        if !self.only_sessions_change(root) {
            if tells_last {
                return Ok(root);
            }
            let message = "EMIT FINAL cannot be given: without windows no row is final while rows may be retracted";
            return Err(error("emit-final", message).at(span).help(HELP));
        }
        if let Some((column, kind)) = self.time_to_hold_by(root) {
            return self.hold(root, column, kind, span);
        }
        // The query may leave out the time that its rows have.
        let node = &self.graph.nodes[root];
        let below = match &node.op {
            Op::Map(Map { filters, exprs: Some(exprs) }) => Some((node.inputs[0], filters.clone(), exprs.clone())),
            _ => None,
        };
        let time = below.as_ref().and_then(|(input, ..)| self.time_to_hold_by(*input));
        let (Some((input, filters, exprs)), Some((column, kind))) = (below, time) else {
            if tells_last {
                return Ok(root);
            }
            return Err(error("emit-final", "EMIT FINAL needs windows that a watermark closes, or rows with an event time")
                .at(span)
                .help(HELP));
        };
        let names = names_of(&self.graph.nodes[root].schema);
        let mut read: Vec<usize> = exprs.iter().flat_map(columns).chain([column]).collect();
        read.sort_unstable();
        read.dedup();
        let position = |column: usize| read.binary_search(&column).expect("columns that are read are listed");
        let passed = self.filter(input, filters)?;
        let narrow = self.select(passed, &read)?;
        let held = self.hold(narrow, position(column), kind, span)?;
        self.project(held, exprs.iter().map(|expr| remap(expr, position)).collect(), &names)
    }

    /// The column that says when rows are final: of windows their end, else their start, else an event time.
    fn time_to_hold_by(&self, id: NodeId) -> Option<(usize, TimeKind)> {
        let rank = |kind: TimeKind| match kind {
            TimeKind::WindowEnd { .. } => 0,
            TimeKind::WindowStart { .. } => 1,
            TimeKind::Event => 2,
        };
        let times = self.graph.nodes[id].known.time.iter().enumerate();
        times.filter_map(|(column, time)| Some((column, time.as_ref()?.kind))).min_by_key(|(_, kind)| rank(*kind))
    }

    fn hold(&mut self, root: NodeId, column: usize, kind: TimeKind, span: Span) -> Result<NodeId> {
        let node = &self.graph.nodes[root];
        let known = Known { state: StateBound::Window, ..node.known.clone() };
        let schema = Arc::clone(&node.schema);
        self.graph.add(Op::Hold(Hold::UntilPassed { column, kind }), vec![root], schema, known, Some(span))
    }

    /// Whether nothing is retracted, but for rows of sessions that are open.
    fn only_sessions_change(&self, id: NodeId) -> bool {
        let node = &self.graph.nodes[id];
        let below = || node.inputs.iter().all(|input| self.only_sessions_change(*input));
        node.known.append_only || (matches!(node.op, Op::Session(_) | Op::Map(_) | Op::Union) && below())
    }

    /// Whether there are windows that close. EMIT FINAL gives each once: so nothing may change later.
    fn closes(&self, root: NodeId, span: Span) -> Result<bool> {
        let mut closes = false;
        for id in self.graph.upstream([root]) {
            let node = &self.graph.nodes[id];
            let below = node.inputs.first().map(|input| &self.graph.nodes[*input]);
            let time = match &node.op {
                Op::Window(assign) => Some(assign.time),
                Op::Session(assign) => Some(assign.time),
                Op::Aggregate(Aggregate { grouping: Grouping::Session(assign), .. }) => Some(assign.time),
                _ => None,
            };
            match (&node.op, below) {
                (_, Some(below)) if time.is_some_and(|time| event_time(&below.known.time, time).is_none()) => {
                    return Err(error("emit-final", "EMIT FINAL needs windows that a watermark closes: these have none")
                        .at(span)
                        .help(HELP));
                }
                (Op::Join(join), _)
                    if join.window.is_none()
                        && !join
                            .interval
                            .as_ref()
                            .map_or(join.kind.keeps() == [false, false], |interval| interval.tells(join.kind)) =>
                {
                    return Err(error(
                        "emit-final",
                        "EMIT FINAL cannot be given: that a row has no match is never final in a join without windows or bounds on its times",
                    )
                    .at(node.span.unwrap_or(span))
                    .help("join on the window's bounds too, or bound the distance of the event times from both sides, or use EMIT CHANGES"));
                }
                (Op::Recursion { .. }, _) => {
                    return Err(error("emit-final", "EMIT FINAL cannot be given: what a recursive query gives is never final")
                        .at(node.span.unwrap_or(span))
                        .help("use EMIT CHANGES"));
                }
                (Op::Aggregate(aggregate), Some(below)) => {
                    closes |= aggregate.grouping != Grouping::Keys;
                    if aggregate.grouping == Grouping::Keys && !below.known.append_only {
                        return Err(error(
                            "emit-final",
                            "EMIT FINAL cannot be given: a grouping without windows is never final over rows that change",
                        )
                        .at(node.span.unwrap_or(span))
                        .help("group by the window too, or use EMIT CHANGES"));
                    }
                }
                (Op::TopN(_) | Op::Over(_), _) => {
                    let closed = match &node.op {
                        Op::TopN(topn) => topn.window.is_some(),
                        Op::Over(over) => over.closing.is_some(),
                        _ => false,
                    };
                    if !closed {
                        return Err(error(
                            "emit-final",
                            "EMIT FINAL cannot be given: an order over all rows so far is never final",
                        )
                        .at(node.span.unwrap_or(span))
                        .help("add window_start or window_end to PARTITION BY, or order OVER by an event time with a bounded frame, or use EMIT CHANGES"));
                    }
                    closes = true;
                }
                _ => {}
            }
        }
        Ok(closes)
    }

    /// Whether its rows are those of an outer interval join, which gives pairs at once and the others when they cannot have
    /// a match any more: each row once, but for late corrections.
    fn tells_last(&self, id: NodeId) -> bool {
        let node = &self.graph.nodes[id];
        match &node.op {
            Op::Map(_) => self.tells_last(node.inputs[0]),
            Op::Join(join) => {
                let steady = node.inputs.iter().all(|input| self.graph.nodes[*input].known.append_only);
                join.interval.is_some() && join.emit == Emit::Final && steady
            }
            _ => false,
        }
    }
}
