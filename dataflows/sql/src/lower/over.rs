//! `OVER (..)`: functions of the rows around each row.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use datafusion_common::ScalarValue;
use datafusion_expr::expr::{AggregateFunction, NullTreatment, WindowFunction, WindowFunctionDefinition, WindowFunctionParams};
use datafusion_expr::logical_plan::{LogicalPlan, Window};
use datafusion_expr::{Expr, ExprSchemable, WindowFrame, WindowFrameBound, WindowFrameUnits, cast};
use datafusion_functions_aggregate::first_last::{first_value_udaf, last_value_udaf};
use highwater_plan::{
    AggregateFunction as Aggregate, Diagnostic, Emit, Frame, FrameBound, FrameUnits, NodeId, Over, OverCall, OverClosing,
    OverFunction, Ranking, StateBound,
};

use super::Lowerer;
use super::aggregate::bound_key;
use super::graph::{Known, Op};
use super::topn::partition_window;
use super::window::event_time;
use crate::bind::sql_type;
use crate::diagnose::{Failure, Result, error};

impl Lowerer<'_> {
    pub(super) fn over(&mut self, window: &Window, names: &[String]) -> Result<NodeId> {
        let mut node = self.plan(&window.input)?;
        // An input without any columns has one constant column all the same, which is not counted.
        let width = window.input.schema().fields().len();
        let calls = window.window_expr.iter().map(|expr| self.window_call(expr)).collect::<Result<Vec<_>>>()?;
        let mut outputs: Vec<usize> = (0..width).collect();
        outputs.resize(width + calls.len(), 0);
        let mut done = vec![false; calls.len()];
        while let Some(first) = done.iter().position(|done| !done) {
            let like = |call: &WindowFunction| {
                let (one, other) = (&calls[first].params, &call.params);
                one.partition_by == other.partition_by && one.order_by == other.order_by
            };
            let group: Vec<usize> = (first..calls.len()).filter(|index| !done[*index] && like(calls[*index])).collect();
            let functions: Vec<&WindowFunction> = group.iter().map(|index| calls[*index]).collect();
            let types = group.iter().map(|index| window.schema.field(width + index).data_type().clone()).collect();
            node = self.over_group(node, &window.input, &functions, types)?;
            let end = self.graph.nodes[node].schema.fields().len();
            for (place, index) in group.iter().enumerate() {
                done[*index] = true;
                outputs[width + index] = end - group.len() + place;
            }
        }
        let exprs = outputs.into_iter().map(super::expr::at).collect();
        self.project(node, exprs, names)
    }

    fn window_call<'a>(&self, expr: &'a Expr) -> Result<&'a WindowFunction> {
        match expr {
            Expr::Alias(alias) => self.window_call(&alias.expr),
            Expr::WindowFunction(call) => Ok(call),
            _ => Err(self.unsupported("this expression with OVER")),
        }
    }

    /// Calls with the same partitions and order over `node`, whose first columns are those of `plan`.
    fn over_group(
        &mut self,
        node: NodeId,
        plan: &LogicalPlan,
        calls: &[&WindowFunction],
        types: Vec<DataType>,
    ) -> Result<NodeId> {
        let WindowFunctionParams { partition_by, order_by, .. } = &calls[0].params;
        let exprs: Vec<Expr> = partition_by.iter().filter(|expr| !matches!(expr, Expr::Literal(..))).cloned().collect();
        let exprs = self.positional(&exprs, &[plan])?;
        let (node, columns) = self.with_keys(node, exprs)?;
        let mut partition: Vec<usize> = Vec::new();
        columns.into_iter().for_each(|column| {
            if !partition.contains(&column) {
                partition.push(column);
            }
        });
        let mut order_by = order_by.clone();
        // A day is a whole: differences of hours are seen only in a timestamp.
        for by in &mut order_by {
            let is_date = matches!(by.expr.get_type(plan.schema()), Ok(DataType::Date32 | DataType::Date64));
            if is_date && calls.iter().any(|call| has_part_of_day(&call.params.window_frame)) {
                by.expr = cast(by.expr.clone(), DataType::Timestamp(TimeUnit::Microsecond, None));
            }
        }
        let (mut node, order) = self.order(node, &order_by, plan)?;
        let mut over_calls = Vec::with_capacity(calls.len());
        for (call, data_type) in calls.iter().zip(types) {
            let order_type = match &order[..] {
                [by] => Some(self.graph.nodes[node].schema.field(by.column).data_type().clone()),
                _ => None,
            };
            let (with, call) = self.over_call(node, plan, call, data_type, order_type)?;
            node = with;
            over_calls.push(call);
        }
        let name = calls[0].fun.name().to_string();
        let below = &self.graph.nodes[node];
        let window = partition_window(bound_key(&partition, &below.known.time));
        let by_time = order.first().is_some_and(|by| !by.descending && event_time(&below.known.time, by.column).is_some());
        let follows = below.known.append_only || self.emit == Emit::Final;
        let closing = match window {
            Some(window) => Some(OverClosing::Window(window)),
            None if by_time && follows && over_calls.iter().all(forgets) => Some(OverClosing::Time),
            None => None,
        };
        if !matches!(closing, Some(OverClosing::Window(_)))
            && let Some((_, name)) =
                over_calls.iter().zip(calls).map(|(call, of)| (call, of.fun.name())).find(|(call, _)| is_relative(call))
        {
            let message = format!(
                "{name}() OVER: one new row changes the value of every row of its partition. It can only be computed per window that closes"
            );
            return Err(error("not-supported", message)
                .at(self.places.function(name))
                .help("add window_start or window_end of a TUMBLE or HOP to PARTITION BY"));
        }
        let emit = if closing.is_some() { self.emit } else { Emit::Changes };
        self.add_over(node, Over { partition, order, calls: over_calls, closing, emit }, &name)
    }

    fn add_over(&mut self, input: NodeId, over: Over, name: &str) -> Result<NodeId> {
        let below = &self.graph.nodes[input];
        let mut fields: Vec<Field> = below.schema.fields().iter().map(|field| field.as_ref().clone()).collect();
        // Results of rows that came before are corrected: only what closes with them stays a time.
        let stays = |column: usize| match &over.closing {
            Some(OverClosing::Window(_)) => over.partition.contains(&column),
            Some(OverClosing::Time) => over.order[0].column == column && over.calls.iter().all(looks_back),
            None => false,
        };
        let mut time: Vec<_> =
            (0..fields.len()).map(|column| below.known.time[column].clone().filter(|_| stays(column))).collect();
        // Of rows that are replaced the old one stays if it is taken back too late.
        let replaced = over.closing == Some(OverClosing::Time) && !below.known.append_only;
        let mut keys = if replaced { Vec::new() } else { below.known.keys.clone() };
        for (index, call) in over.calls.iter().enumerate() {
            let column = below.schema.fields().len() + index;
            if call.function == OverFunction::Ranking(Ranking::RowNumber) {
                keys.push([&over.partition[..], &[column]].concat());
            }
            let nullable = match &call.function {
                OverFunction::Aggregate(call) => call.function != Aggregate::Count,
                OverFunction::Shift { .. } | OverFunction::Nth { .. } => true,
                _ => false,
            };
            fields.push(Field::new(format!("over{}", index + 1), call.data_type.clone(), nullable));
            time.push(None);
        }
        // Rows of other frames wait for rows to come, however late: some stay.
        let bounded = over.calls.iter().all(|call| call.frame.units == FrameUnits::Range && !is_running(call));
        let state = match &over.closing {
            Some(OverClosing::Window(_)) => StateBound::Window,
            Some(OverClosing::Time) if bounded => StateBound::Window,
            Some(OverClosing::Time) => StateBound::Keys,
            None => StateBound::Unbounded,
        };
        let once = over.emit == Emit::Final && self.bound.decisions.settings.allowed_lateness.is_zero();
        let known = Known { append_only: below.known.append_only && once, time, keys, state };
        let place = self.places.function(name);
        self.graph.add(Op::Over(over), vec![input], Arc::new(Schema::new(fields)), known, place)
    }

    /// A call over `node`, its arguments appended to the columns if they are not there.
    fn over_call(
        &mut self,
        node: NodeId,
        plan: &LogicalPlan,
        call: &WindowFunction,
        data_type: DataType,
        order_type: Option<DataType>,
    ) -> Result<(NodeId, OverCall)> {
        let WindowFunctionParams { args, window_frame, filter, null_treatment, distinct, .. } = &call.params;
        let name = call.fun.name();
        let frame = self.frame(window_frame, order_type, name)?;
        if let WindowFunctionDefinition::AggregateUDF(function) = &call.fun {
            let aggregate = AggregateFunction::new_udf(
                Arc::clone(function),
                args.clone(),
                *distinct,
                filter.clone(),
                Vec::new(),
                *null_treatment,
            );
            let call = self.call(&Expr::AggregateFunction(aggregate), plan, node, data_type.clone())?;
            let (node, columns) = self.with_keys(node, call.exprs().cloned().collect())?;
            let aggregate = call.placed(&columns);
            return Ok((node, OverCall { function: OverFunction::Aggregate(aggregate), frame, data_type }));
        }
        let wrong =
            |what: &str| error("not-supported", format!("{what} is not supported for {name}()")).at(self.places.function(name));
        if filter.is_some() || *distinct {
            return Err(wrong(if *distinct { "DISTINCT" } else { "FILTER" }));
        }
        if *null_treatment == Some(NullTreatment::IgnoreNulls) {
            let (first, frame) = match (name, if args.len() > 1 { constant(args, 1) } else { Some(1) }) {
                ("first_value", _) => (true, frame),
                ("last_value", _) => (false, frame),
                // The value of the nearest row that has one.
                ("lag", Some(1)) if args.len() < 3 => (false, Frame { end: FrameBound::Offset(-1), ..Frame::WHOLE }),
                ("lead", Some(1)) if args.len() < 3 => (true, Frame { start: FrameBound::Offset(1), ..Frame::WHOLE }),
                ("lag" | "lead", Some(1)) => {
                    return Err(wrong("IGNORE NULLS with a default")
                        .help(format!("write coalesce({name}(x) IGNORE NULLS OVER (..), default)")));
                }
                _ => return Err(wrong("IGNORE NULLS").help("filter the NULLs out before")),
            };
            return self.over_present(node, plan, call, first, frame, data_type);
        }
        let ranking = |ranking| {
            Ok((node, OverCall { function: OverFunction::Ranking(ranking), frame: Frame::WHOLE, data_type: data_type.clone() }))
        };
        let value = |this: &mut Self| -> Result<(NodeId, usize)> {
            let exprs = this.positional(&args[..1], &[plan])?;
            let (node, columns) = this.with_keys(node, exprs)?;
            Ok((node, columns[0]))
        };
        let (node, function) = match name {
            "row_number" => return ranking(Ranking::RowNumber),
            "rank" => return ranking(Ranking::Rank),
            "dense_rank" => return ranking(Ranking::DenseRank),
            "percent_rank" => (node, OverFunction::PercentRank),
            "cume_dist" => (node, OverFunction::CumeDist),
            "ntile" => match constant(args, 0).and_then(|buckets| u64::try_from(buckets).ok()) {
                Some(buckets) if buckets > 0 => (node, OverFunction::Ntile(buckets)),
                _ => return Err(self.not_constant(name, "a positive number of buckets")),
            },
            "lag" | "lead" => {
                let Some(offset) = (if args.len() > 1 { constant(args, 1) } else { Some(1) }) else {
                    return Err(self.not_constant(name, "a constant number of rows"));
                };
                let (mut node, argument) = value(self)?;
                let mut default = None;
                if let Some(expr) = args.get(2).filter(|expr| !matches!(expr, Expr::Literal(value, _) if value.is_null())) {
                    let exprs = self.positional(&[cast(expr.clone(), data_type.clone())], &[plan])?;
                    let (with, columns) = self.with_keys(node, exprs)?;
                    (node, default) = (with, Some(columns[0]));
                }
                (node, OverFunction::Shift { argument, offset: if name == "lag" { -offset } else { offset }, default })
            }
            "first_value" | "last_value" | "nth_value" => {
                let position = match name {
                    "first_value" => 1,
                    "last_value" => -1,
                    _ => match constant(args, 1) {
                        Some(position) if position > 0 => position,
                        _ => return Err(self.not_constant(name, "a positive constant position")),
                    },
                };
                let (node, argument) = value(self)?;
                (node, OverFunction::Nth { argument, position })
            }
            _ => {
                return Err(error("not-supported", format!("{name}() OVER is not supported yet")).at(self.places.function(name)));
            }
        };
        Ok((
            node,
            OverCall {
                frame: if matches!(function, OverFunction::Nth { .. }) { frame } else { Frame::WHOLE },
                function,
                data_type,
            },
        ))
    }

    /// The first or the last value of a frame that is not NULL: an aggregate over the window's own order.
    fn over_present(
        &mut self,
        node: NodeId,
        plan: &LogicalPlan,
        call: &WindowFunction,
        first: bool,
        frame: Frame,
        data_type: DataType,
    ) -> Result<(NodeId, OverCall)> {
        let argument = call.params.args[0].clone();
        let mut order = call.params.order_by.clone();
        if order.is_empty() {
            order.push(argument.clone().sort(true, false));
        }
        let function = if first { first_value_udaf() } else { last_value_udaf() };
        let treatment = Some(NullTreatment::IgnoreNulls);
        let aggregate = AggregateFunction::new_udf(function, vec![argument], false, None, order, treatment);
        let call = self.call(&Expr::AggregateFunction(aggregate), plan, node, data_type.clone())?;
        let (node, columns) = self.with_keys(node, call.exprs().cloned().collect())?;
        Ok((node, OverCall { function: OverFunction::Aggregate(call.placed(&columns)), frame, data_type }))
    }

    fn not_constant(&self, name: &str, what: &str) -> Failure {
        error("wrong-arguments", format!("{name}() needs {what}")).at(self.places.function(name))
    }

    fn frame(&self, frame: &WindowFrame, order_type: Option<DataType>, name: &str) -> Result<Frame> {
        let rank = |bound: &WindowFrameBound| match bound {
            WindowFrameBound::Preceding(_) => 0,
            WindowFrameBound::CurrentRow => 1,
            WindowFrameBound::Following(_) => 2,
        };
        if rank(&frame.start_bound) > rank(&frame.end_bound) {
            return Err(error("frame", format!("the frame of {name}() ends before it starts"))
                .at(self.places.function(name))
                .help("write the earlier bound first: BETWEEN 1 PRECEDING AND 1 FOLLOWING"));
        }
        let free = |bound: &WindowFrameBound| bound.is_unbounded() || *bound == WindowFrameBound::CurrentRow;
        let units = match frame.units {
            WindowFrameUnits::Rows => FrameUnits::Rows,
            WindowFrameUnits::Groups => FrameUnits::Groups,
            // Values are not asked for: the current row stands for its peers.
            WindowFrameUnits::Range if free(&frame.start_bound) && free(&frame.end_bound) => FrameUnits::Groups,
            WindowFrameUnits::Range => FrameUnits::Range,
        };
        let bound = |bound: &WindowFrameBound| {
            let (value, sign) = match bound {
                WindowFrameBound::CurrentRow => return Ok(FrameBound::Offset(0)),
                bound if bound.is_unbounded() => return Ok(FrameBound::Unbounded),
                WindowFrameBound::Preceding(value) => (value, -1),
                WindowFrameBound::Following(value) => (value, 1),
            };
            let distance = distance(value, order_type.as_ref(), units).map_err(|(what, help)| {
                error("frame", format!("the frame of {name}() cannot be maintained: {what}"))
                    .at(self.places.function(name))
                    .help(help)
            })?;
            Ok::<_, Failure>(match distance {
                FrameBound::Offset(distance) => FrameBound::Offset(sign * distance),
                FrameBound::Float(distance) => FrameBound::Float(sign as f64 * distance),
                FrameBound::Unbounded => FrameBound::Unbounded,
            })
        };
        Ok(Frame { units, start: bound(&frame.start_bound)?, end: bound(&frame.end_bound)? })
    }

    /// Warnings about what costs as much as its partition is large.
    pub(super) fn warn_of_renumbering(&mut self, reachable: &[NodeId]) {
        for id in reachable {
            let node = &self.graph.nodes[*id];
            let Op::Over(over) = &node.op else { continue };
            if over.closing.is_some() {
                continue;
            }
            let warning = if over.calls.iter().any(|call| matches!(call.function, OverFunction::Ranking(_))) {
                Diagnostic::warning(
                    "renumbering",
                    "a ranking without an upper bound renumbers all following rows of the partition per change",
                )
                .help("filter on it: WHERE rn <= k keeps only the first rows of each partition")
            } else if over.calls.iter().any(|call| call.frame != Frame::WHOLE && is_running(call)) {
                Diagnostic::warning(
                    "running-frame",
                    "an unbounded frame is computed anew for all following rows of the partition per change",
                )
                .help("bound the frame, or order an append-only source by its event time")
            } else {
                continue;
            };
            let warning = warning.at(node.span);
            if !self.warnings.contains(&warning) {
                self.warnings.push(warning);
            }
        }
    }
}

/// A constant integer among arguments.
fn constant(args: &[Expr], index: usize) -> Option<i64> {
    match args.get(index)? {
        Expr::Literal(value, _) if value.data_type().is_integer() => match value.cast_to(&DataType::Int64) {
            Ok(ScalarValue::Int64(value)) => value,
            _ => None,
        },
        Expr::Cast(cast) => constant(std::slice::from_ref(&cast.expr), 0),
        Expr::Negative(inner) => constant(std::slice::from_ref(inner), 0).map(|value| -value),
        _ => None,
    }
}

const DAY: i128 = 86_400_000_000_000;

/// The nanoseconds of an interval without months.
fn nanoseconds(value: &ScalarValue) -> Option<i128> {
    let ScalarValue::IntervalMonthDayNano(Some(interval)) = value else { return None };
    (interval.months == 0).then(|| i128::from(interval.days) * DAY + i128::from(interval.nanoseconds))
}

fn has_part_of_day(frame: &WindowFrame) -> bool {
    let part = |bound: &WindowFrameBound| match bound {
        WindowFrameBound::Preceding(value) | WindowFrameBound::Following(value) => {
            nanoseconds(value).is_some_and(|nanoseconds| nanoseconds % DAY != 0)
        }
        WindowFrameBound::CurrentRow => false,
    };
    frame.units == WindowFrameUnits::Range && (part(&frame.start_bound) || part(&frame.end_bound))
}

/// How far a bound is from the current row; else what is wrong and what to do.
fn distance(
    value: &ScalarValue,
    order: Option<&DataType>,
    units: FrameUnits,
) -> std::result::Result<FrameBound, (String, &'static str)> {
    const HELP: &str = "RANGE takes distances of the type that ORDER BY has; ROWS and GROUPS take numbers";
    let whole = |value: i128| match value {
        value if value >= 0 => Ok(FrameBound::Offset(value)),
        _ => Err(("its bounds must not be negative".into(), "write PRECEDING or FOLLOWING for the direction")),
    };
    if units != FrameUnits::Range {
        return match value.cast_to(&DataType::UInt64) {
            Ok(ScalarValue::UInt64(Some(rows))) if rows <= u64::from(u32::MAX) => whole(i128::from(rows)),
            _ => Err(("its bounds must be numbers of at most 4294967295".into(), HELP)),
        };
    }
    let Some(order) = order else {
        return Err(("RANGE with distances needs exactly one ORDER BY column".into(), "order by one column, or use ROWS"));
    };
    match (value, order) {
        (ScalarValue::Float64(Some(value)), _) if *value >= 0.0 => Ok(FrameBound::Float(*value)),
        (ScalarValue::Float32(Some(value)), _) if *value >= 0.0 => Ok(FrameBound::Float(f64::from(*value))),
        (ScalarValue::Decimal128(Some(value), _, scale), DataType::Decimal128(_, wanted)) if scale == wanted => whole(*value),
        (ScalarValue::IntervalMonthDayNano(Some(interval)), _) if interval.months != 0 => {
            Err(("months differ in length".into(), "write days: RANGE INTERVAL '30' DAY PRECEDING"))
        }
        (ScalarValue::IntervalMonthDayNano(_), _) => {
            let unit = match order {
                DataType::Timestamp(TimeUnit::Second, _) => 1_000_000_000,
                DataType::Timestamp(TimeUnit::Millisecond, _) => 1_000_000,
                DataType::Timestamp(TimeUnit::Microsecond, _) => 1_000,
                DataType::Timestamp(TimeUnit::Nanosecond, _) => 1,
                DataType::Date32 => DAY,
                other => return Err((format!("a RANGE of an interval does not fit ORDER BY a {}", sql_type(other)), HELP)),
            };
            match nanoseconds(value) {
                Some(nanoseconds) if nanoseconds % unit == 0 => whole(nanoseconds / unit),
                _ => Err((
                    format!("the interval is finer than ORDER BY, which is a {}", sql_type(order)),
                    "CAST the ORDER BY column to TIMESTAMP(6)",
                )),
            }
        }
        (value, order) if value.data_type().is_integer() && order.is_integer() => match value.cast_to(&DataType::Int64) {
            Ok(ScalarValue::Int64(Some(value))) => whole(i128::from(value)),
            _ => Err(("its bounds must be constants".into(), HELP)),
        },
        (_, order) => Err((format!("a RANGE of distances does not fit ORDER BY a {}", sql_type(order)), HELP)),
    }
}

fn is_relative(call: &OverCall) -> bool {
    matches!(call.function, OverFunction::PercentRank | OverFunction::CumeDist | OverFunction::Ntile(_))
}

/// Whether a result depends on all rows before.
fn is_running(call: &OverCall) -> bool {
    match &call.function {
        OverFunction::Shift { .. } => false,
        OverFunction::Nth { position: -1, .. } => call.frame.end == FrameBound::Unbounded,
        OverFunction::Nth { .. } | OverFunction::Aggregate(_) => {
            call.frame.start == FrameBound::Unbounded || call.frame.end == FrameBound::Unbounded
        }
        _ => true,
    }
}

/// Whether a result depends on no rows after the row's peers.
fn looks_back(call: &OverCall) -> bool {
    match &call.function {
        OverFunction::Ranking(_) => true,
        OverFunction::Shift { offset, .. } => *offset <= 0,
        OverFunction::Nth { .. } | OverFunction::Aggregate(_) => match call.frame.end {
            FrameBound::Offset(offset) => offset <= 0,
            FrameBound::Float(offset) => offset <= 0.0,
            FrameBound::Unbounded => false,
        },
        _ => false,
    }
}

/// Whether rows can be forgotten once the watermark has passed all rows of their frames and what follows needs of them
/// is their result.
fn forgets(call: &OverCall) -> bool {
    let end = call.frame.end != FrameBound::Unbounded;
    let start = call.frame.start != FrameBound::Unbounded;
    match &call.function {
        OverFunction::Ranking(_) | OverFunction::Shift { .. } => true,
        OverFunction::Nth { position, .. } => end && (start || *position == -1),
        OverFunction::Aggregate(call) => {
            let carried =
                matches!(call.function, Aggregate::Count | Aggregate::Sum | Aggregate::Avg | Aggregate::Min | Aggregate::Max);
            end && (start || (carried && !call.distinct))
        }
        OverFunction::PercentRank | OverFunction::CumeDist | OverFunction::Ntile(_) => false,
    }
}

/// The column that holds the time by which rows of an ordered operator are late.
pub(super) fn closing_column(op: &highwater_plan::Op) -> Option<usize> {
    match op {
        highwater_plan::Op::TopN(topn) => topn.window.as_ref().map(|window| topn.partition[window.key]),
        highwater_plan::Op::Over(over) => match over.closing.as_ref()? {
            OverClosing::Window(window) => Some(over.partition[window.key]),
            OverClosing::Time => Some(over.order[0].column),
        },
        _ => None,
    }
}
