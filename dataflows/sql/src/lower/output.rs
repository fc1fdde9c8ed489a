//! Views and sinks: the roots of the graph, and what EMIT FINAL asks of the operators below them.

use highwater_plan::{Emit, Grouping, NodeId, Span};

use super::Lowerer;
use super::graph::{Aggregate, Op};
use super::window::event_time;
use crate::bind::BoundQuery;
use crate::diagnose::{Places, Result, error};

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
            if view.emit == Emit::Final {
                self.check_final(node, view.span)?;
            }
            if view.materialized {
                outputs.views.push((index, node));
            }
        }
        for sink in &self.bound.sinks {
            let mut nodes = Vec::with_capacity(sink.queries.len());
            for query in &sink.queries {
                nodes.push(self.query(query, sink.emit)?);
            }
            let node = match nodes[..] {
                [node] => node,
                _ => self.all_rows(nodes, sink.schema.clone())?,
            };
            if sink.emit == Emit::Final {
                self.check_final(node, sink.span)?;
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
        let node = self.query(&view.query, emit)?;
        if view.materialized && emit == view.emit {
            self.graph.kept.insert(node);
        }
        self.views.insert((index, is_final), node);
        Ok(node)
    }

    fn query(&mut self, query: &BoundQuery, emit: Emit) -> Result<NodeId> {
        let places: Places = std::mem::replace(&mut self.places, query.places.clone());
        let outer = std::mem::replace(&mut self.emit, emit);
        let node = self.plan(&query.plan).map_err(|failure| failure.or_at(self.places.statement));
        self.places = places;
        self.emit = outer;
        node
    }

    /// EMIT FINAL gives each window once: so there must be windows, they must close, and nothing may change later.
    fn check_final(&self, root: NodeId, span: Span) -> Result<()> {
        const HELP: &str =
            "declare WATERMARK FOR the time column on its source and group by TUMBLE or HOP of it, or use EMIT CHANGES";
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
                (Op::Join(join), _) if join.kind.keeps() != [false, false] && join.window.is_none() => {
                    return Err(error(
                        "emit-final",
                        "EMIT FINAL cannot be given: that a row has no match is never final in a join without windows",
                    )
                    .at(node.span.unwrap_or(span))
                    .help("join on the window's bounds too, or use EMIT CHANGES"));
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
        if closes {
            Ok(())
        } else {
            Err(error("emit-final", "EMIT FINAL needs windows that a watermark closes").at(span).help(HELP))
        }
    }
}
