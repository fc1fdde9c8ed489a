//! Grouping: `GROUP BY`, `DISTINCT`, and the windows that they close.
//!
//! A grouping directly over a window assignment assigns the windows itself, so that each window's groups are one table
//! that is dropped whole. A grouping by a column that already holds a window's bound closes with that window.

mod call;
mod sets;

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use datafusion_common::ScalarValue;
use datafusion_expr::{Expr, ExprSchemable, LogicalPlan, lit};
use highwater_plan::{
    AggregateCall, AggregateFunction, Diagnostic, Emit, Grouping, NodeId, SessionAssign, StateBound, TimeColumn, TimeKind,
    WindowAssign, WindowKind,
};

use self::call::{CallExpr, moved};
use super::expr::{as_column, at, columns, substitute};
use super::graph::{Aggregate, Known, Op};
use super::window::{WINDOW_COLUMNS, bounds_of, event_time};
use super::{Lowerer, names};
use crate::diagnose::Result;

/// A window assignment below a grouping, with the grouping's expressions over the assignment's input.
struct Below {
    /// The assignment's input.
    input: NodeId,
    /// [`Op::Window`] or [`Op::Session`].
    assign: Op,
    filters: Vec<Expr>,
    keys: Vec<Expr>,
    calls: Vec<CallExpr>,
}

impl Lowerer<'_> {
    /// `SELECT DISTINCT`, `UNION`: a grouping by all columns.
    pub(super) fn distinct(&mut self, input: &LogicalPlan) -> Result<NodeId> {
        let node = self.plan(input)?;
        let keys = (0..self.graph.nodes[node].schema.fields().len()).map(at).collect();
        self.grouped(node, keys, Vec::new(), &names(input))
    }

    pub(super) fn aggregate(&mut self, aggregate: &datafusion_expr::logical_plan::Aggregate, names: &[String]) -> Result<NodeId> {
        let input = self.plan(&aggregate.input)?;
        let sets = match &aggregate.group_expr[..] {
            [Expr::GroupingSet(sets)] => Some(sets),
            _ => None,
        };
        // Grouping sets have their number behind the keys.
        let before = match sets {
            Some(sets) => sets.distinct_expr().len() + 1,
            None => aggregate.group_expr.len(),
        };
        let mut calls = Vec::with_capacity(aggregate.aggr_expr.len());
        for (index, expr) in aggregate.aggr_expr.iter().enumerate() {
            let data_type = aggregate.schema.field(before + index).data_type().clone();
            calls.push(self.call(expr, &aggregate.input, input, data_type)?);
        }
        if let Some(sets) = sets {
            return self.grouping_sets(aggregate, sets, input, &calls, names);
        }
        let keys = self.positional(&aggregate.group_expr, &[&aggregate.input])?;
        self.grouped(input, keys, calls, names)
    }

    fn grouped(&mut self, input: NodeId, keys: Vec<Expr>, calls: Vec<CallExpr>, names: &[String]) -> Result<NodeId> {
        match self.window_below(input, keys, calls)? {
            Ok(below) => self.assigning(below, names),
            Err((keys, calls)) => self.keyed(input, keys, calls, names),
        }
    }

    /// The window assignment that the grouping can take over, or the grouping unchanged.
    #[expect(clippy::type_complexity, reason = "one caller")]
    fn window_below(
        &self,
        input: NodeId,
        keys: Vec<Expr>,
        calls: Vec<CallExpr>,
    ) -> Result<std::result::Result<Below, (Vec<Expr>, Vec<CallExpr>)>> {
        let node = &self.graph.nodes[input];
        let (window, filters, exprs) = match &node.op {
            Op::Window(_) | Op::Session(_) => (input, Vec::new(), None),
            Op::Map(map) if !self.graph.kept.contains(&input) => (node.inputs[0], map.filters.clone(), map.exprs.as_ref()),
            _ => return Ok(Err((keys, calls))),
        };
        let assign = self.graph.nodes[window].op.clone();
        let Some(below) = self.graph.nodes[window].inputs.first().copied() else { return Ok(Err((keys, calls))) };
        let width = self.graph.nodes[below].schema.fields().len();
        match &assign {
            Op::Session(_) => {}
            Op::Window(assign) if event_time(&self.graph.nodes[below].known.time, assign.time).is_some() => {}
            _ => return Ok(Err((keys, calls))),
        }
        let mut all = keys.clone();
        all.extend(calls.iter().flat_map(CallExpr::exprs).cloned());
        if let Some(exprs) = exprs {
            match substitute(&all, exprs) {
                Some(substituted) => all = substituted,
                None => return Ok(Err((keys, calls))),
            }
        }
        let mut rest = all.split_off(keys.len()).into_iter();
        let plain = |expr: &Expr| columns(expr).iter().all(|column| *column < width);
        let bound = |expr: &Expr| as_column(expr).is_some_and(|column| column >= width);
        let mut fits = all.iter().all(|key| plain(key) || bound(key)) && all.iter().any(bound);
        // The end of a window tells which it is; the start only where all are of one length.
        let has_end = all.iter().any(|key| as_column(key).is_some_and(|column| column > width));
        match &assign {
            Op::Session(assign) => {
                let mut columns: Vec<Option<usize>> = all.iter().filter(|key| plain(key)).map(as_column).collect();
                columns.sort_unstable();
                columns.dedup();
                let partition: Vec<Option<usize>> = assign.partition.iter().copied().map(Some).collect();
                fits &= has_end && filters.is_empty() && columns == partition;
            }
            Op::Window(WindowAssign { kind: WindowKind::Cumulate { .. }, .. }) => fits &= has_end,
            _ => {}
        }
        if !fits || !filters.iter().all(plain) || !rest.clone().all(|expr| plain(&expr)) {
            return Ok(Err((keys, calls)));
        }
        let calls = calls.into_iter().map(|call| call.over(&mut rest));
        Ok(Ok(Below { input: below, assign, filters, keys: all, calls: calls.collect() }))
    }

    /// The operator puts rows into windows itself; a map restores the order of the columns.
    fn assigning(&mut self, below: Below, names: &[String]) -> Result<NodeId> {
        let Below { input, assign, filters, keys, calls } = below;
        let width = self.graph.nodes[input].schema.fields().len();
        let input = self.filter(input, filters)?;
        let mut slots = Slots::default();
        let time = match &assign {
            Op::Session(assign) => assign.time,
            Op::Window(assign) => assign.time,
            _ => unreachable!("windows are assigned by these two"),
        };
        let time = slots.of(at(time));
        let plain: Vec<&Expr> = keys.iter().filter(|key| as_column(key).is_none_or(|column| column < width)).collect();
        let key_slots: Vec<usize> = plain.iter().map(|key| slots.of((*key).clone())).collect();
        let calls = lowered(calls, &mut slots);
        let (input, slots) = self.inputs(input, slots)?;
        let key_columns: Vec<usize> = key_slots.iter().map(|slot| slots[*slot]).collect();
        let grouping = match assign {
            Op::Session(assign) => {
                Grouping::Session(SessionAssign { gap: assign.gap, time: slots[time], partition: key_columns.clone() })
            }
            Op::Window(assign) => Grouping::Assign(WindowAssign { time: slots[time], ..assign }),
            _ => unreachable!("windows are assigned by these two"),
        };
        let calls: Vec<AggregateCall> = calls.into_iter().map(|call| moved(call, &slots)).collect();
        let count = key_columns.len();
        let node = self.add_aggregate(input, key_columns, calls, grouping)?;
        self.warn_of_open_windows_if(self.graph.nodes[node].known.state == StateBound::Unbounded);

        let mut next = 0;
        let mut outputs = Vec::with_capacity(names.len());
        for key in &keys {
            outputs.push(match as_column(key).filter(|column| *column >= width) {
                Some(column) if column == width => at(count),
                Some(column) if column == width + 1 => at(count + 1),
                Some(_) => window_time(at(count + 1), self.graph.nodes[node].schema.field(count + 1).data_type()),
                None => {
                    next += 1;
                    at(next - 1)
                }
            });
        }
        outputs.extend((count + 2..self.graph.nodes[node].schema.fields().len()).map(at));
        self.project(node, outputs, names)
    }

    /// Groups named by columns alone.
    fn keyed(&mut self, input: NodeId, keys: Vec<Expr>, calls: Vec<CallExpr>, names: &[String]) -> Result<NodeId> {
        let mut slots = Slots::default();
        let mut key_slots: Vec<usize> = Vec::new();
        let positions: Vec<usize> = keys
            .iter()
            .map(|key| {
                let slot = slots.of(key.clone());
                key_slots.iter().position(|known| *known == slot).unwrap_or_else(|| {
                    key_slots.push(slot);
                    key_slots.len() - 1
                })
            })
            .collect();
        let calls = lowered(calls, &mut slots);
        let (input, slots) = self.inputs(input, slots)?;
        let key_columns: Vec<usize> = key_slots.iter().map(|slot| slots[*slot]).collect();
        let calls: Vec<AggregateCall> = calls.into_iter().map(|call| moved(call, &slots)).collect();
        let count = key_columns.len();
        let time = &self.graph.nodes[input].known.time;
        let grouping = bound_key(&key_columns, time)
            .or_else(|| self.time_key(&key_columns, time))
            .map_or(Grouping::Keys, |(key, kind)| Grouping::Column { key, kind });
        if grouping == Grouping::Keys {
            self.warn_of_open_windows(input, &key_columns);
        }
        let node = self.add_aggregate(input, key_columns, calls, grouping)?;
        let width = self.graph.nodes[node].schema.fields().len();
        let outputs = positions.into_iter().chain(count..width).map(at).collect();
        self.project(node, outputs, names)
    }

    /// With EMIT FINAL a key that is an event time will do for a window: each time is one of its own.
    fn time_key(&self, keys: &[usize], time: &[Option<TimeColumn>]) -> Option<(usize, TimeKind)> {
        let key = keys.iter().position(|column| event_time(time, *column).is_some())?;
        (self.emit == Emit::Final).then_some((key, TimeKind::Event))
    }

    /// The aggregate's input: `input` itself if it only reads columns, else a map that computes what it reads.
    fn inputs(&mut self, input: NodeId, slots: Slots) -> Result<(NodeId, Vec<usize>)> {
        let plain: Option<Vec<usize>> = slots.exprs.iter().map(as_column).collect();
        let fuses = matches!(self.graph.nodes[input].op, Op::Source(_) | Op::Map(_)) && !self.graph.kept.contains(&input);
        if let Some(plain) = plain
            && (!fuses || plain.is_empty())
        {
            return Ok((input, plain));
        }
        let names: Vec<String> = slots
            .exprs
            .iter()
            .enumerate()
            .map(|(slot, expr)| match as_column(expr) {
                Some(column) => self.graph.nodes[input].schema.field(column).name().clone(),
                None => format!("column{}", slot + 1),
            })
            .collect();
        let count = slots.exprs.len();
        let node = self.project(input, slots.exprs, &names)?;
        Ok((node, (0..count).collect()))
    }

    fn add_aggregate(
        &mut self,
        input: NodeId,
        keys: Vec<usize>,
        calls: Vec<AggregateCall>,
        grouping: Grouping,
    ) -> Result<NodeId> {
        let below = &self.graph.nodes[input];
        let mut fields: Vec<Field> = keys.iter().map(|key| below.schema.field(*key).clone()).collect();
        let mut time: Vec<Option<TimeColumn>> = keys.iter().map(|key| below.known.time[*key].clone()).collect();
        let mut unique: Vec<Vec<usize>> = vec![(0..keys.len()).collect()];
        let mut state = StateBound::Keys;
        let mut closes = grouping != Grouping::Keys;
        match &grouping {
            Grouping::Keys => {}
            Grouping::Assign(assign) => {
                let bound = below.schema.field(assign.time).data_type().clone();
                let event = event_time(&below.known.time, assign.time).expect("windows are assigned by an event time");
                for (name, kind) in WINDOW_COLUMNS.iter().zip(bounds_of(assign.kind)) {
                    fields.push(Field::new(*name, bound.clone(), false));
                    time.push(kind.map(|kind| TimeColumn { kind, sources: event.sources.clone() }));
                }
                let group: Vec<usize> = (0..keys.len()).collect();
                unique = [keys.len(), keys.len() + 1].map(|bound| [&group[..], &[bound]].concat()).to_vec();
                if let WindowKind::Cumulate { .. } = assign.kind {
                    // Many windows have one start.
                    unique.remove(0);
                }
                state = StateBound::Window;
            }
            Grouping::Session(assign) => {
                // A session that grows is given anew: what the watermark says of its other keys holds no more.
                time = vec![None; keys.len()];
                let bound = below.schema.field(assign.time).data_type().clone();
                let event = event_time(&below.known.time, assign.time);
                let kind = TimeKind::WindowEnd { size: assign.gap };
                time.extend([None, event.map(|event| TimeColumn { kind, sources: event.sources.clone() })]);
                fields.extend(WINDOW_COLUMNS[..2].iter().map(|name| Field::new(*name, bound.clone(), false)));
                unique = vec![(0..keys.len()).chain([keys.len() + 1]).collect()];
                if event.is_some() && !below.known.append_only {
                    // What is left of an open session by a retraction may end where a closed one did.
                    unique.clear();
                }
                state = if event.is_some() { StateBound::Window } else { StateBound::Unbounded };
                closes = event.is_some();
            }
            Grouping::Column { .. } => {
                state = StateBound::Window;
                unique.splice(0..0, without_second_bound(&time));
            }
        }
        for call in &calls {
            let nullable = call.function != AggregateFunction::Count;
            fields.push(Field::new(call.function.name(), call.data_type.clone(), nullable));
            time.push(None);
        }
        let emit = if closes { self.emit } else { Emit::Changes };
        // A window is given once, unless late rows may correct it. A group without values appears once and never changes
        // while its input only grows.
        let once = emit == Emit::Final && self.bound.decisions.settings.allowed_lateness.is_zero();
        let session = matches!(grouping, Grouping::Session(_));
        let append_only = below.known.append_only && (once || (calls.is_empty() && !keys.is_empty() && !session));
        let known = Known { append_only, time, keys: unique, state };
        let op = Op::Aggregate(Aggregate { keys, calls, grouping, emit });
        self.graph.add(op, vec![input], Arc::new(Schema::new(fields)), known, self.places.statement)
    }

    /// Windows that no watermark closes stay for ever: allowed, but worth a word.
    fn warn_of_open_windows(&mut self, input: NodeId, keys: &[usize]) {
        let node = &self.graph.nodes[input];
        let bounds = |window: NodeId| {
            let width = self.graph.nodes[window].schema.fields().len();
            width - 3..width
        };
        let windowed = match &node.op {
            Op::Window(_) | Op::Session(_) => keys.iter().any(|key| bounds(input).contains(key)),
            Op::Map(map) => {
                let below = node.inputs[0];
                matches!(self.graph.nodes[below].op, Op::Window(_) | Op::Session(_))
                    && keys.iter().any(|key| {
                        let column = map.exprs.as_ref().map_or(Some(*key), |exprs| as_column(&exprs[*key]));
                        column.is_some_and(|column| bounds(below).contains(&column))
                    })
            }
            _ => false,
        };
        self.warn_of_open_windows_if(windowed);
    }

    fn warn_of_open_windows_if(&mut self, windowed: bool) {
        let warning = Diagnostic::warning("open-windows", "without WATERMARK the state of old windows is never dropped")
            .at(self.places.window())
            .help("declare WATERMARK FOR the time column on its source");
        if windowed && !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }
}

/// Expressions that an aggregate reads, each once.
#[derive(Default)]
struct Slots {
    exprs: Vec<Expr>,
}

impl Slots {
    fn of(&mut self, expr: Expr) -> usize {
        self.exprs.iter().position(|known| *known == expr).unwrap_or_else(|| {
            self.exprs.push(expr);
            self.exprs.len() - 1
        })
    }
}

fn lowered(calls: Vec<CallExpr>, slots: &mut Slots) -> Vec<AggregateCall> {
    calls.into_iter().map(|call| call.lowered(slots)).collect()
}

/// The key column that holds a window's bound: its end if there is one, else its start.
pub(super) fn bound_key(keys: &[usize], time: &[Option<TimeColumn>]) -> Option<(usize, TimeKind)> {
    let find = |wanted: fn(&TimeKind) -> bool| {
        keys.iter()
            .enumerate()
            .find_map(|(key, column)| time[*column].as_ref().map(|time| time.kind).filter(wanted).map(|kind| (key, kind)))
    };
    find(|kind| matches!(kind, TimeKind::WindowEnd { .. })).or_else(|| find(|kind| matches!(kind, TimeKind::WindowStart { .. })))
}

/// The group's key without a window's end where its start is there too.
fn without_second_bound(time: &[Option<TimeColumn>]) -> Option<Vec<usize>> {
    let kind = |column: &usize| time[*column].as_ref().map(|time| time.kind);
    let starts: Vec<usize> =
        (0..time.len()).filter(|column| matches!(kind(column), Some(TimeKind::WindowStart { .. }))).collect();
    let ends: Vec<usize> = (0..time.len()).filter(|column| matches!(kind(column), Some(TimeKind::WindowEnd { .. }))).collect();
    match (&starts[..], &ends[..]) {
        ([_], [end]) => Some((0..time.len()).filter(|column| column != end).collect()),
        _ => None,
    }
}

/// `avg` takes integers as they are: DataFusion's cast to DOUBLE would lose digits of large sums.
fn uncast<'a>(argument: &'a Expr, input: &LogicalPlan) -> &'a Expr {
    match argument {
        Expr::Cast(cast)
            if *cast.field.data_type() == DataType::Float64
                && cast.expr.get_type(input.schema()).is_ok_and(|data_type| data_type.is_integer()) =>
        {
            &cast.expr
        }
        other => other,
    }
}

/// The last instant of a window: its end less a millisecond, or less a second if the column counts those.
fn window_time(end: Expr, data_type: &DataType) -> Expr {
    let nanos = if matches!(data_type, DataType::Timestamp(TimeUnit::Second, _)) { 1_000_000_000 } else { 1_000_000 };
    end - lit(ScalarValue::new_interval_mdn(0, 0, nanos))
}
