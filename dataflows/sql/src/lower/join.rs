//! Joins. What is projected above one becomes part of it, and so does the residual condition: of an inner join it is a
//! condition of the result, of every other one it decides whether a row has a match.

mod interval;
mod known;

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use datafusion_common::{JoinType, NullEquality};
use datafusion_expr::logical_plan::Join as LogicalJoin;
use datafusion_expr::utils::split_conjunction;
use datafusion_expr::{BinaryExpr, Expr, Operator, lit, when};
use highwater_plan::{Diagnostic, Emit, JoinKind, NodeId, Span};

use super::Lowerer;
use super::expr::{at, columns, internal, remap};
use super::graph::{Join, Map, Op, typed};
use super::temporal::reads_clock;
use crate::bind::sql_type;
use crate::diagnose::{Construct, Result, error};
use interval::interval;
use known::{Bound, join_window, joined};

/// A join in the making: its inputs with their conditions, left first.
struct Sides {
    kind: JoinKind,
    inputs: [NodeId; 2],
    /// Columns of each side. An input without any has one constant column all the same, which is not counted.
    widths: [usize; 2],
    keys: [Vec<Expr>; 2],
    /// Over left then right columns.
    residual: Vec<Expr>,
}

impl Sides {
    /// Makes keys of `IS NOT DISTINCT FROM` between the sides; whether there was one.
    fn take_null_safe_keys(&mut self) -> bool {
        let width = self.widths[0];
        for condition in std::mem::take(&mut self.residual) {
            match null_safe(&condition, width) {
                Some((left, right)) => {
                    self.keys[0].push(left);
                    self.keys[1].push(remap(&right, |column| column - width));
                }
                None => self.residual.push(condition),
            }
        }
        !self.keys[0].is_empty()
    }
}

/// The sides of a condition that has the left side's columns on one of its own and the right side's on the other.
fn null_safe(condition: &Expr, width: usize) -> Option<(Expr, Expr)> {
    let Expr::BinaryExpr(BinaryExpr { left, op: Operator::IsNotDistinctFrom, right }) = condition else { return None };
    let of = |expr: &Expr, side: usize| {
        let read = columns(expr);
        !read.is_empty() && read.iter().all(|column| usize::from(*column >= width) == side)
    };
    match (of(left, 0) && of(right, 1), of(left, 1) && of(right, 0)) {
        (true, _) => Some((left.as_ref().clone(), right.as_ref().clone())),
        (_, true) => Some((right.as_ref().clone(), left.as_ref().clone())),
        _ => None,
    }
}

impl Lowerer<'_> {
    pub(super) fn join(&mut self, join: &LogicalJoin, names: &[String]) -> Result<NodeId> {
        let (kind, swapped) = match join.join_type {
            JoinType::Inner => (JoinKind::Inner, false),
            JoinType::Left => (JoinKind::Left, false),
            JoinType::Right => (JoinKind::Right, false),
            JoinType::Full => (JoinKind::Full, false),
            JoinType::LeftSemi => (JoinKind::Semi, false),
            JoinType::RightSemi => (JoinKind::Semi, true),
            JoinType::LeftAnti => (JoinKind::Anti, false),
            JoinType::RightAnti => (JoinKind::Anti, true),
            JoinType::LeftMark => (JoinKind::Mark, false),
            JoinType::RightMark => (JoinKind::Mark, true),
        };
        if join.null_aware {
            // The pre-pass over the plan spells out what NULLs do to NOT IN; a join that still has to know was not seen by it.
            return Err(error("not-supported", "this NOT IN cannot be maintained").at(self.join_place()).help("use NOT EXISTS"));
        }
        let inputs = [self.plan(&join.left)?, self.plan(&join.right)?];
        let (left_keys, right_keys): (Vec<Expr>, Vec<Expr>) = join.on.iter().cloned().unzip();
        let keys = [self.positional(&left_keys, &[&join.left])?, self.positional(&right_keys, &[&join.right])?];
        let residual: Vec<Expr> = join.filter.iter().flat_map(split_conjunction).cloned().collect();
        let residual = self.positional(&residual, &[&join.left, &join.right])?;
        let widths = [&join.left, &join.right].map(|input| input.schema().fields().len());
        let mut sides = Sides { kind, inputs, widths, keys, residual };
        if swapped {
            let [left, right] = widths;
            let moved = |column: usize| if column < left { column + right } else { column - left };
            sides.residual = sides.residual.iter().map(|expr| remap(expr, moved)).collect();
            sides.inputs.reverse();
            sides.widths.reverse();
            sides.keys.reverse();
        }
        let mut nulls_equal = join.null_equality == NullEquality::NullEqualsNull;
        if sides.keys[0].is_empty() {
            nulls_equal = sides.take_null_safe_keys();
        }
        self.join_of(sides, nulls_equal, names)
    }

    fn join_of(&mut self, sides: Sides, nulls_equal: bool, names: &[String]) -> Result<NodeId> {
        let sides = self.with_conditions_of_one_side(sides, nulls_equal)?;
        let Sides { kind, inputs, widths, keys, residual } = sides;
        // An inner join's condition on the clock is one on its rows.
        let (clocked, residual): (Vec<Expr>, Vec<Expr>) =
            residual.into_iter().partition(|condition| kind == JoinKind::Inner && reads_clock(condition));
        let [left_keys, right_keys] = keys;
        let plain = |side: usize, keys: Vec<Expr>| -> Vec<Expr> {
            let types = &self.graph.nodes[inputs[side]].typed;
            keys.into_iter().map(|key| super::expr::plain(key, types)).collect()
        };
        let (left_keys, right_keys) = (plain(0, left_keys), plain(1, right_keys));
        let equal = |(left, right): (&Expr, &Expr)| left.clone().eq(remap(right, |column| column + widths[0]));
        let equal: Vec<Expr> = left_keys.iter().zip(&right_keys).map(equal).collect();
        let (left, left_keys) = self.with_keys(inputs[0], left_keys)?;
        let (right, right_keys) = self.with_keys(inputs[1], right_keys)?;
        let on: Vec<(usize, usize)> = left_keys.into_iter().zip(right_keys).collect();
        self.check_types(&on, [left, right])?;
        if on.is_empty() && (kind.gives_pairs() || !residual.is_empty()) {
            self.warn_of_all_pairs([left, right]);
        }
        let nodes = [left, right].map(|input| &self.graph.nodes[input]);
        let full = nodes.map(|node| node.schema.fields().len());

        // Key columns that were computed for the join are not among its output.
        let moved = |column: usize| if column < widths[0] { column } else { column - widths[0] + full[0] };
        let residual: Vec<Expr> = residual.iter().map(|condition| remap(condition, moved)).collect();
        // Rows without a time match each other where NULLs are equal: then nothing bounds how far apart they are.
        let is_bound = |(left, right): &(usize, usize)| {
            !nulls_equal || !nodes[0].schema.field(*left).is_nullable() || !nodes[1].schema.field(*right).is_nullable()
        };
        let bounds = equal.iter().zip(&on).filter(|(_, columns)| is_bound(columns));
        let mut bounding: Vec<Expr> = bounds.map(|(condition, _)| remap(condition, moved)).collect();
        bounding.extend(residual.iter().cloned());
        let types = typed(nodes.map(|node| node.schema.as_ref()))?;
        let all = kind.columns(&nodes[0].schema, &nodes[1].schema);
        let kept: Vec<usize> = match kind {
            JoinKind::Semi | JoinKind::Anti => (0..widths[0]).collect(),
            JoinKind::Mark => (0..widths[0]).chain([full[0]]).collect(),
            _ => (0..widths[0] + widths[1]).map(moved).collect(),
        };
        let exprs: Option<Vec<Expr>> = match kept.len() {
            0 => Some(vec![lit(true)]),
            columns => (columns != all.len()).then(|| kept.iter().map(|column| at(*column)).collect()),
        };
        let window = join_window(&on, &nodes[0].known, &nodes[1].known);
        let found = if window.is_some() { None } else { interval(&bounding, nodes.map(|node| &node.known.time[..]), &types) };
        // Keys that expire free both sides, a bound in one direction only one.
        let expires = self.bound.decisions.settings.state_ttl.is_some() && !on.is_empty();
        let (interval, place) = found.filter(|(interval, _)| interval.is_bounded() || !expires).unzip();
        let bound = match (&window, &interval) {
            (Some(_), _) => Bound::Window,
            (None, Some(interval)) => Bound::Interval(interval),
            (None, None) => Bound::None,
        };
        let mut known = joined(kind, nodes, &on, bound);
        known.time = kept.iter().map(|column| known.time[*column].clone()).collect();
        if kept.is_empty() {
            known.time.push(None);
        }
        let position = |column: &usize| kept.iter().position(|kept| kept == column);
        known.keys = known.keys.iter().filter_map(|key| key.iter().map(position).collect()).collect();
        if interval.is_some() && !nodes.iter().all(|node| node.known.append_only) {
            // A pair whose rows were let go stays when one of them is replaced: there are then two of its key.
            known.keys.clear();
        }
        let fields = kept.iter().zip(names).map(|(column, name)| all[*column].clone().with_name(name));
        let mut fields: Vec<Field> = fields.collect();
        if kept.is_empty() {
            fields.push(Field::new("row", DataType::Boolean, false));
        }
        let schema = Arc::new(Schema::new(fields));
        let retracts = kind.keeps() != [false, false];
        // Of a side without a bound no row is ever known to have no match.
        let closes = window.is_some() || interval.as_ref().is_some_and(|interval| interval.tells(kind));
        let emit = if retracts && closes { self.emit } else { Emit::Changes };
        if emit == Emit::Final && self.bound.decisions.settings.allowed_lateness.is_zero() {
            // A row is said to have no match once, when no match can come any more.
            known.append_only = nodes.iter().all(|node| node.known.append_only);
        }
        let (filters, residual) = match kind {
            JoinKind::Inner => (residual, Vec::new()),
            _ => (Vec::new(), residual),
        };
        if let Some(interval) = &interval {
            self.warn_of_half_interval(interval, [left, right], place.flatten());
        }
        let op = Op::Join(Join { kind, on, nulls_equal, residual, map: Map { filters, exprs }, window, interval, emit });
        let node = self.graph.add(op, vec![left, right], schema, known, self.join_place())?;
        self.filter(node, clocked)
    }

    /// Conditions of a match that read one side alone are conditions of that side's rows: of a side whose rows are given
    /// only in matches a filter, of the other a key that is NULL where they do not hold.
    fn with_conditions_of_one_side(&mut self, mut sides: Sides, nulls_equal: bool) -> Result<Sides> {
        if sides.kind == JoinKind::Inner {
            return Ok(sides);
        }
        let width = sides.widths[0];
        let mut own: [Vec<Expr>; 2] = Default::default();
        let keeps = sides.kind.keeps();
        sides.residual.retain(|condition| {
            let read = columns(condition);
            match (read.iter().any(|column| *column < width), read.iter().any(|column| *column >= width)) {
                (true, false) if !keeps[0] || !nulls_equal => own[0].push(condition.clone()),
                (false, true) if !keeps[1] || !nulls_equal => own[1].push(remap(condition, |column| column - width)),
                _ => return true,
            }
            false
        });
        for (side, conditions) in own.into_iter().enumerate() {
            if conditions.is_empty() {
                continue;
            }
            if !keeps[side] {
                sides.inputs[side] = self.filter(sides.inputs[side], conditions)?;
            } else if let Some(all) = conditions.into_iter().reduce(Expr::and) {
                sides.keys[side].push(when(all, lit(true)).end().map_err(internal)?);
                sides.keys[1 - side].push(lit(true));
            }
        }
        Ok(sides)
    }

    /// The input with these keys as columns, computed ones appended.
    pub(super) fn with_keys(&mut self, input: NodeId, keys: Vec<Expr>) -> Result<(NodeId, Vec<usize>)> {
        let schema = &self.graph.nodes[input].schema;
        let width = schema.fields().len();
        let mut names: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
        let mut exprs: Vec<Expr> = (0..width).map(at).collect();
        let mut positions = Vec::with_capacity(keys.len());
        for key in keys {
            positions.push(exprs.iter().position(|known| *known == key).unwrap_or_else(|| {
                exprs.push(key);
                names.push(format!("key{}", exprs.len() - width));
                exprs.len() - 1
            }));
        }
        let node = if exprs.len() == width { input } else { self.project(input, exprs, &names)? };
        Ok((node, positions))
    }

    fn check_types(&self, on: &[(usize, usize)], inputs: [NodeId; 2]) -> Result<()> {
        let [left, right] = inputs.map(|input| &self.graph.nodes[input].schema);
        for (l, r) in on {
            let (l, r) = (left.field(*l).data_type(), right.field(*r).data_type());
            if l != r {
                return Err(error("type-mismatch", format!("a join compares {} with {}", sql_type(l), sql_type(r)))
                    .at(self.join_place())
                    .help("CAST one side to the other's type"));
            }
        }
        Ok(())
    }

    /// All pairs of rows are compared: worth a word, unless one side has a row at most.
    fn warn_of_all_pairs(&mut self, inputs: [NodeId; 2]) {
        if inputs.iter().any(|input| self.graph.nodes[*input].known.keys.iter().any(Vec::is_empty)) {
            return;
        }
        let place = [Construct::CrossJoin, Construct::InnerJoin, Construct::OuterJoin, Construct::Subquery]
            .iter()
            .find_map(|construct| self.places.construct(*construct));
        let warning = Diagnostic::warning("join-without-equality", "no equality condition: all pairs of rows are compared")
            .at(place.or(self.places.statement))
            .help("join on equal columns where there are some: ON a.id = b.id");
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    fn join_place(&self) -> Option<Span> {
        [Construct::InnerJoin, Construct::OuterJoin, Construct::CrossJoin, Construct::Subquery]
            .iter()
            .find_map(|construct| self.places.construct(*construct))
            .or(self.places.statement)
    }
}
