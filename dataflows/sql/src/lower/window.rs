//! Rows into windows, as an operator of its own; an aggregate directly above takes it over.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema};
use highwater_plan::{NodeId, StateBound, TimeColumn, TimeKind, WindowAssign};

use super::Lowerer;
use super::expr::{as_column, at};
use super::graph::{Known, Op};
use crate::bind::WindowNode;
use crate::diagnose::Result;

impl Lowerer<'_> {
    pub(super) fn window(&mut self, window: &WindowNode, names: &[String]) -> Result<NodeId> {
        let mut input = self.plan(&window.input)?;
        let columns = self.graph.nodes[input].schema.fields().len();
        let time = self.positional(std::slice::from_ref(&window.time), &[&window.input])?.remove(0);
        let position = match as_column(&time) {
            Some(position) => position,
            None => {
                let mut exprs: Vec<_> = (0..columns).map(at).collect();
                exprs.push(time);
                let mut all = names[..columns].to_vec();
                all.push("time".into());
                input = self.project(input, exprs, &all)?;
                columns
            }
        };
        let node = self.assign(input, WindowAssign { kind: window.kind, time: position })?;
        let width = self.graph.nodes[input].schema.fields().len();
        if width == columns {
            return Ok(node);
        }
        let kept: Vec<usize> = (0..columns).chain(width..width + 3).collect();
        self.select(node, &kept)
    }

    /// Appends the window's start, end and time.
    fn assign(&mut self, input: NodeId, assign: WindowAssign) -> Result<NodeId> {
        let node = &self.graph.nodes[input];
        let bound = node.schema.field(assign.time).data_type().clone();
        let mut fields: Vec<Field> = node.schema.fields().iter().map(|field| field.as_ref().clone()).collect();
        for name in ["window_start", "window_end", "window_time"] {
            fields.push(Field::new(name, bound.clone(), false));
        }
        let mut known = Known { keys: Vec::new(), state: StateBound::Stateless, ..node.known.clone() };
        let size = assign.kind.size();
        let event = event_time(&node.known.time, assign.time);
        for kind in [TimeKind::WindowStart { size }, TimeKind::WindowEnd { size }, TimeKind::Event] {
            known.time.push(event.map(|event| TimeColumn { kind, sources: event.sources.clone() }));
        }
        let key = node.known.keys.first().cloned();
        known.keys.extend(key.map(|mut key| {
            key.push(fields.len() - 3);
            key
        }));
        let place = self.places.window();
        self.graph.add(Op::Window(assign), vec![input], Arc::new(Schema::new(fields)), known, place)
    }
}

/// The column's time, if a watermark bounds it as an event time.
pub(super) fn event_time(time: &[Option<TimeColumn>], column: usize) -> Option<&TimeColumn> {
    time[column].as_ref().filter(|time| time.kind == TimeKind::Event)
}
