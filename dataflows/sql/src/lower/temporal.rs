//! Filters that compare with `NOW()`.
//!
//! A condition is maintained if it turns at most once as the clock goes on, whatever the row: then each row has a moment
//! at which it begins or ceases to pass. That is so where what is compared only grows or only falls with `NOW()`. Where
//! `NOW()` stands alone but for fixed lengths of time, the moment is an expression over the row; else the engine finds it
//! by trying (`date_trunc('day', NOW())`, months).

use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};
use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion_common::{DFSchema, ScalarValue};
use datafusion_expr::{Between, BinaryExpr, Expr, ExprSchemable, Operator, cast};
use highwater_plan::{NodeId, StateBound, Turns};

use super::Lowerer;
use super::expr::{at, span, substituted};
use super::graph::{Known, Moment, Op, Temporal};
use crate::bind::changing;
use crate::diagnose::Result;
use crate::functions::{NOW, TRUNC_YEARS};

/// How a value changes as the clock goes on; of booleans, false is less than NULL and NULL less than true.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Course {
    Fixed,
    Grows,
    Falls,
}

impl Course {
    fn reversed(self) -> Course {
        match self {
            Course::Fixed => Course::Fixed,
            Course::Grows => Course::Falls,
            Course::Falls => Course::Grows,
        }
    }

    /// Of a value that grows with both.
    fn with(self, other: Course) -> Option<Course> {
        match (self, other) {
            (Course::Fixed, course) | (course, Course::Fixed) => Some(course),
            (one, other) => (one == other).then_some(one),
        }
    }
}

impl Lowerer<'_> {
    /// Rows of `input` while all of these filters hold, each of which compares with `NOW()`.
    pub(super) fn temporal(&mut self, input: NodeId, filters: Vec<Expr>) -> Result<NodeId> {
        let node = &self.graph.nodes[input];
        let types = Arc::clone(&node.typed);
        let mut conditions = Vec::new();
        for filter in &filters {
            conditions_of(filter, &types, &mut conditions).ok_or_else(|| {
                let place = span(filter).or_else(|| self.places.now());
                changing("this condition may turn true and false again", place)
            })?;
        }
        let known = Known {
            append_only: node.known.append_only && conditions.iter().all(|(turns, _)| *turns == Turns::True),
            // Rows come and go when the clock says so, whatever their event times.
            time: vec![None; node.known.time.len()],
            keys: node.known.keys.clone(),
            state: StateBound::Clock,
        };
        let schema = Arc::clone(&node.schema);
        let place = filters.iter().find_map(span).or(self.places.statement);
        self.graph.add(Op::Temporal(Temporal { conditions }), vec![input], schema, known, place)
    }

    /// Where `input` computes columns with `NOW()` (as the planner does for what several filters share), the filters over
    /// what it reads, and that.
    pub(super) fn below_now(&self, input: NodeId, filters: &[Expr]) -> Option<(NodeId, Vec<Expr>, Vec<Expr>)> {
        let node = &self.graph.nodes[input];
        let Op::Map(map) = &node.op else { return None };
        let exprs = map.exprs.as_ref().filter(|exprs| exprs.iter().any(reads_clock))?;
        let mut below = map.filters.clone();
        below.extend(substituted(filters, exprs));
        Some((node.inputs[0], below, exprs.clone()))
    }
}

/// Whether an expression calls `NOW()`.
pub(super) fn reads_clock(expr: &Expr) -> bool {
    expr.exists(|expr| Ok(is_now(expr))).expect("searching does not fail")
}

fn is_now(expr: &Expr) -> bool {
    matches!(expr, Expr::ScalarFunction(call) if call.func.name() == NOW)
}

/// Appends the conditions that a filter is made of; `None` if it is not maintained.
fn conditions_of(filter: &Expr, types: &DFSchema, conditions: &mut Vec<(Turns, Moment)>) -> Option<()> {
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
            conditions_of(left, types, conditions)?;
            return conditions_of(right, types, conditions);
        }
        Expr::Between(Between { expr, negated: false, low, high }) => {
            conditions_of(&compare(expr, Operator::GtEq, low), types, conditions)?;
            return conditions_of(&compare(expr, Operator::LtEq, high), types, conditions);
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => {
            conditions_of(&compare(left, Operator::GtEq, right), types, conditions)?;
            return conditions_of(&compare(left, Operator::LtEq, right), types, conditions);
        }
        _ => {}
    }
    let moved = age(filter, types);
    let filter = moved.as_ref().unwrap_or(filter);
    if let Some(condition) = direct(filter, types) {
        conditions.push(condition);
        return Some(());
    }
    match course(filter, types)? {
        Course::Grows => conditions.push((Turns::True, searched(filter, types))),
        Course::Falls => conditions.push((Turns::False, searched(filter, types))),
        // Only part of a filter that also has others: it lets through or not from the beginning.
        Course::Fixed => conditions.push((Turns::True, Moment::Search(filter.clone()))),
    }
    Some(())
}

fn compare(left: &Expr, op: Operator, right: &Expr) -> Expr {
    Expr::BinaryExpr(BinaryExpr::new(Box::new(left.clone()), op, Box::new(right.clone())))
}

/// The condition with the epoch as the column behind the input's.
fn searched(filter: &Expr, types: &DFSchema) -> Moment {
    let now = at(types.fields().len());
    let replaced = filter.clone().transform_up(|expr| {
        Ok(if is_now(&expr) { Transformed::new(now.clone(), true, TreeNodeRecursion::Continue) } else { Transformed::no(expr) })
    });
    Moment::Search(replaced.expect("replacing a call does not fail").data)
}

/// `NOW() - ts < INTERVAL '1' DAY` as `NOW() < ts + INTERVAL '1' DAY`: times have an order, intervals have none.
fn age(filter: &Expr, types: &DFSchema) -> Option<Expr> {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = filter else { return None };
    let (difference, op, length) = match (uncast(left), uncast(right)) {
        (difference @ Expr::BinaryExpr(_), length @ Expr::Literal(..)) => (difference, *op, length),
        (length @ Expr::Literal(..), difference @ Expr::BinaryExpr(_)) => (difference, op.swap()?, length),
        _ => return None,
    };
    let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Minus, right }) = difference else { return None };
    let is_time = |expr: &Expr| matches!(expr.get_type(types), Ok(DataType::Timestamp(..)));
    if !is_time(left) || !is_time(right) || !reads_clock(difference) {
        return None;
    }
    let later = compare(right, Operator::Plus, &interval(self::length(length)?)?);
    Some(compare(left, op, &later))
}

fn uncast(expr: &Expr) -> &Expr {
    match expr {
        Expr::Cast(cast) => uncast(&cast.expr),
        other => other,
    }
}

/// A comparison of a time of the row with `NOW()`, but for fixed lengths of time.
fn direct(filter: &Expr, types: &DFSchema) -> Option<(Turns, Moment)> {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = filter else { return None };
    let (row, op, clock) = match (reads_clock(left), reads_clock(right)) {
        (false, true) => (&**left, *op, &**right),
        (true, false) => (&**right, op.swap()?, &**left),
        _ => return None,
    };
    let shift = shift_of(clock)?;
    let time = time_of_row(row, shift, types)?;
    Some(match op {
        Operator::Gt => (Turns::False, Moment::At(time)),
        Operator::GtEq => (Turns::False, Moment::After(time)),
        Operator::Lt => (Turns::True, Moment::After(time)),
        Operator::LtEq => (Turns::True, Moment::At(time)),
        _ => return None,
    })
}

/// By how many nanoseconds `NOW()` is later than the expression.
fn shift_of(clock: &Expr) -> Option<i128> {
    match clock {
        clock if is_now(clock) => Some(0),
        // NOW() counts milliseconds: none of these units loses anything.
        Expr::Cast(inner) if matches!(inner.field.data_type(), DataType::Timestamp(unit, _) if *unit != TimeUnit::Second) => {
            shift_of(&inner.expr)
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Minus, right }) => Some(shift_of(left)? + length(right)?),
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Plus, right }) => match length(right) {
            Some(length) => Some(shift_of(left)? - length),
            None => Some(shift_of(right)? - length(left)?),
        },
        _ => None,
    }
}

/// A constant length of time that is the same wherever it is added; whole milliseconds.
fn length(expr: &Expr) -> Option<i128> {
    let nanos = match expr {
        Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(interval)), _) if interval.months == 0 => {
            i128::from(interval.days) * 86_400_000_000_000 + i128::from(interval.nanoseconds)
        }
        Expr::Literal(ScalarValue::IntervalDayTime(Some(interval)), _) => {
            (i128::from(interval.days) * 86_400_000 + i128::from(interval.milliseconds)) * 1_000_000
        }
        Expr::Literal(ScalarValue::DurationSecond(Some(value)), _) => i128::from(*value) * 1_000_000_000,
        Expr::Literal(ScalarValue::DurationMillisecond(Some(value)), _) => i128::from(*value) * 1_000_000,
        Expr::Literal(ScalarValue::DurationMicrosecond(Some(value)), _) => i128::from(*value) * 1_000,
        Expr::Literal(ScalarValue::DurationNanosecond(Some(value)), _) => i128::from(*value),
        _ => return None,
    };
    (nanos % 1_000_000 == 0).then_some(nanos)
}

/// The row's time, later by `shift`, in at most microseconds.
fn time_of_row(row: &Expr, shift: i128, types: &DFSchema) -> Option<Expr> {
    let mut row = row;
    // A cast to a finer unit changes nothing but which times fit.
    while let Expr::Cast(inner) = row
        && let (DataType::Timestamp(to, _), Ok(DataType::Timestamp(from, _))) =
            (inner.field.data_type(), inner.expr.get_type(types))
        && to >= &from
    {
        row = &inner.expr;
    }
    let row = match row.get_type(types).ok()? {
        DataType::Timestamp(TimeUnit::Nanosecond, _) => return None,
        DataType::Timestamp(TimeUnit::Second, zone) if shift != 0 => {
            cast(row.clone(), DataType::Timestamp(TimeUnit::Microsecond, zone))
        }
        DataType::Timestamp(..) => row.clone(),
        DataType::Date32 => cast(row.clone(), DataType::Timestamp(TimeUnit::Microsecond, None)),
        _ => return None,
    };
    if shift == 0 {
        return Some(row);
    }
    Some(compare(&row, Operator::Plus, &interval(shift)?))
}

/// A length in nanoseconds.
fn interval(length: i128) -> Option<Expr> {
    let days = i32::try_from(length / 86_400_000_000_000).ok()?;
    let nanos = i64::try_from(length % 86_400_000_000_000).ok()?;
    Some(Expr::Literal(ScalarValue::new_interval_mdn(0, days, nanos), None))
}

/// How a value changes as the clock goes on, for a fixed row; `None` if that is not known.
fn course(expr: &Expr, types: &DFSchema) -> Option<Course> {
    if !reads_clock(expr) {
        return Some(Course::Fixed);
    }
    match expr {
        expr if is_now(expr) => Some(Course::Grows),
        Expr::Alias(alias) => course(&alias.expr, types),
        Expr::Cast(inner) => {
            let from = inner.expr.get_type(types).ok()?;
            let kept = keeps_order(&from) && keeps_order(inner.field.data_type());
            kept.then(|| course(&inner.expr, types)).flatten()
        }
        Expr::Not(inner) => Some(course(inner, types)?.reversed()),
        Expr::IsTrue(inner) | Expr::IsNotFalse(inner) => course(inner, types),
        Expr::IsFalse(inner) | Expr::IsNotTrue(inner) => Some(course(inner, types)?.reversed()),
        Expr::Between(between) => {
            let from = course(&compare(&between.expr, Operator::GtEq, &between.low), types)?;
            let to = course(&compare(&between.expr, Operator::LtEq, &between.high), types)?;
            let both = from.with(to)?;
            Some(if between.negated { both.reversed() } else { both })
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let (l, r) = (course(left, types)?, course(right, types)?);
            match op {
                Operator::And | Operator::Or | Operator::Plus => l.with(r),
                Operator::Minus | Operator::Gt | Operator::GtEq => l.with(r.reversed()),
                Operator::Lt | Operator::LtEq => l.reversed().with(r),
                Operator::Multiply | Operator::Divide if r == Course::Fixed => Some(match is_positive(right)? {
                    true => l,
                    false => l.reversed(),
                }),
                _ => None,
            }
        }
        Expr::ScalarFunction(call) => match (call.func.name(), &call.args[..]) {
            ("date_trunc" | TRUNC_YEARS, [Expr::Literal(..), time]) => course(time, types),
            ("date_bin", [_, time] | [_, time, _]) if call.args.iter().filter(|arg| reads_clock(arg)).count() == 1 => {
                course(time, types)
            }
            ("date_part", [Expr::Literal(part, _), time]) => {
                let part = part.to_string().to_lowercase();
                matches!(part.as_str(), "epoch" | "year" | "isoyear").then(|| course(time, types)).flatten()
            }
            ("floor" | "ceil" | "to_unixtime", [value]) => course(value, types),
            _ => None,
        },
        _ => None,
    }
}

/// Types whose casts among each other keep the order of values. An interval has none: a month is not 30 days.
fn keeps_order(data_type: &DataType) -> bool {
    data_type.is_numeric()
        || matches!(data_type, DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 | DataType::Duration(_))
}

/// The sign of a constant number other than 0.
fn is_positive(expr: &Expr) -> Option<bool> {
    let Expr::Literal(value, _) = expr else { return None };
    let zero = ScalarValue::new_zero(&value.data_type()).ok()?;
    match value.partial_cmp(&zero)? {
        std::cmp::Ordering::Greater => Some(true),
        std::cmp::Ordering::Less => Some(false),
        std::cmp::Ordering::Equal => None,
    }
}
