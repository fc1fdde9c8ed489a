//! Rows into windows, as an operator of its own; an aggregate directly above takes it over.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema};
use highwater_plan::{NodeId, SessionAssign, StateBound, TimeColumn, TimeKind, WindowAssign, WindowKind};

use super::Lowerer;
use super::expr::{as_column, at};
use super::graph::{Known, Op};
use crate::bind::{WindowNode, Windows};
use crate::diagnose::Result;

/// Columns that a window assignment appends.
pub(super) const WINDOW_COLUMNS: [&str; 3] = ["window_start", "window_end", "window_time"];

impl Lowerer<'_> {
    pub(super) fn window(&mut self, window: &WindowNode, names: &[String]) -> Result<NodeId> {
        let mut input = self.plan(&window.input)?;
        let columns = self.graph.nodes[input].schema.fields().len();
        let mut exprs: Vec<_> = (0..columns).map(at).collect();
        let mut all = names[..columns].to_vec();
        let mut position = |expr| match as_column(&expr) {
            Some(position) => position,
            None => {
                exprs.push(expr);
                all.push(format!("column{}", exprs.len()));
                exprs.len() - 1
            }
        };
        let time = self.positional(std::slice::from_ref(&window.time), &[&window.input])?.remove(0);
        let time = position(time);
        let op = match &window.windows {
            Windows::OfTime(kind) => Op::Window(WindowAssign { kind: *kind, time }),
            Windows::Session { gap, partition } => {
                let mut partition: Vec<usize> = self.positional(partition, &[&window.input])?.into_iter().map(position).collect();
                partition.sort_unstable();
                partition.dedup();
                Op::Session(SessionAssign { gap: *gap, time, partition })
            }
        };
        let width = exprs.len();
        if width > columns {
            input = self.project(input, exprs, &all)?;
        }
        let node = self.assign(input, op)?;
        if width == columns {
            return Ok(node);
        }
        let kept: Vec<usize> = (0..columns).chain(width..width + 3).collect();
        self.select(node, &kept)
    }

    /// Appends the window's start, end and time.
    fn assign(&mut self, input: NodeId, op: Op) -> Result<NodeId> {
        let node = &self.graph.nodes[input];
        let time = match &op {
            Op::Window(assign) => assign.time,
            Op::Session(assign) => assign.time,
            _ => unreachable!("windows are assigned by these two"),
        };
        let bound = node.schema.field(time).data_type().clone();
        let mut fields: Vec<Field> = node.schema.fields().iter().map(|field| field.as_ref().clone()).collect();
        fields.extend(WINDOW_COLUMNS.map(|name| Field::new(name, bound.clone(), false)));
        let mut known = Known { state: StateBound::Stateless, ..node.known.clone() };
        let event = event_time(&node.known.time, time).cloned();
        let of = |kind| event.as_ref().map(|event| TimeColumn { kind, sources: event.sources.clone() });
        match &op {
            Op::Session(assign) => {
                // Rows of a session that grows are given anew, whatever their time, and only its end is ahead of the
                // watermark then.
                known.time = vec![None; known.time.len()];
                known.time.extend([None, of(TimeKind::WindowEnd { size: assign.gap }), of(TimeKind::Event)]);
                if event.is_some() && !known.append_only {
                    // A row whose session is closed stays, although the input retracts it and gives its key anew.
                    known.keys.clear();
                }
                known.append_only = false;
                known.state = if event.is_some() { StateBound::Window } else { StateBound::Unbounded };
            }
            Op::Window(assign) => {
                known.time.extend(bounds_of(assign.kind).map(|kind| kind.and_then(of)));
                known.time.push(of(TimeKind::Event));
                // Where windows of one start have several ends, only the end tells which it is.
                let bound = fields.len() - if let WindowKind::Cumulate { .. } = assign.kind { 2 } else { 3 };
                let key = known.keys.first().cloned();
                known.keys = key.into_iter().map(|key| [&key[..], &[bound]].concat()).collect();
            }
            _ => {}
        }
        let place = self.places.window();
        self.graph.add(op, vec![input], Arc::new(Schema::new(fields)), known, place)
    }
}

/// What the start and end of windows say of when they close. A window's start says nothing if others with the same start
/// end later.
pub(super) fn bounds_of(kind: WindowKind) -> [Option<TimeKind>; 2] {
    let size = kind.size();
    let start = match kind {
        WindowKind::Tumble { .. } | WindowKind::Hop { .. } => Some(TimeKind::WindowStart { size }),
        WindowKind::Cumulate { .. } => None,
    };
    [start, Some(TimeKind::WindowEnd { size })]
}

/// The column's time, if a watermark bounds it as an event time.
pub(super) fn event_time(time: &[Option<TimeColumn>], column: usize) -> Option<&TimeColumn> {
    time[column].as_ref().filter(|time| time.kind == TimeKind::Event)
}
