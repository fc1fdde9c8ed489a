//! Inner joins on equal keys. The residual condition and what is projected above become part of the join.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema};
use datafusion_common::{JoinType, NullEquality};
use datafusion_expr::Expr;
use datafusion_expr::logical_plan::Join as LogicalJoin;
use datafusion_expr::utils::split_conjunction;
use highwater_plan::{JoinWindow, NodeId, StateBound, TimeColumn, TimeKind};

use super::Lowerer;
use super::expr::{as_column, at, remap};
use super::graph::{Join, Known, Map, Op};
use crate::bind::sql_type;
use crate::diagnose::{Construct, Failure, Result, error};

impl Lowerer<'_> {
    pub(super) fn join(&mut self, join: &LogicalJoin, names: &[String]) -> Result<NodeId> {
        if join.join_type != JoinType::Inner {
            return Err(self.unsupported_join(join.join_type));
        }
        if join.on.is_empty() {
            return Err(self.no_equality());
        }
        let left = self.plan(&join.left)?;
        let right = self.plan(&join.right)?;
        let (left_keys, right_keys): (Vec<Expr>, Vec<Expr>) = join.on.iter().cloned().unzip();
        let left_keys = self.positional(&left_keys, &[&join.left])?;
        let right_keys = self.positional(&right_keys, &[&join.right])?;
        let filters: Vec<Expr> = join.filter.iter().flat_map(split_conjunction).cloned().collect();
        let filters = self.positional(&filters, &[&join.left, &join.right])?;

        let left_width = self.graph.nodes[left].schema.fields().len();
        let right_width = self.graph.nodes[right].schema.fields().len();
        let (left, left_keys) = self.with_keys(left, left_keys)?;
        let (right, right_keys) = self.with_keys(right, right_keys)?;
        let (left_node, right_node) = (&self.graph.nodes[left], &self.graph.nodes[right]);
        let left_full = left_node.schema.fields().len();
        let right_full = right_node.schema.fields().len();
        let on: Vec<(usize, usize)> = left_keys.into_iter().zip(right_keys).collect();
        for (l, r) in &on {
            let (l, r) = (left_node.schema.field(*l).data_type(), right_node.schema.field(*r).data_type());
            if l != r {
                return Err(error("type-mismatch", format!("a join compares {} with {}", sql_type(l), sql_type(r)))
                    .at(self.places.construct(Construct::InnerJoin).or(self.places.statement))
                    .help("CAST one side to the other's type"));
            }
        }

        // Key columns that were computed for the join are not among its output.
        let moved = |column: usize| if column < left_width { column } else { column - left_width + left_full };
        let exprs = (left_full != left_width || right_full != right_width)
            .then(|| (0..left_width + right_width).map(|column| at(moved(column))).collect());
        let filters = filters.iter().map(|filter| remap(filter, moved)).collect();
        let window = join_window(&on, &left_node.known, &right_node.known);
        let nodes = [left_node, right_node];
        let fields = nodes.iter().flat_map(|node| node.schema.fields().iter());
        let mut fields: Vec<Field> = fields.map(|field| field.as_ref().clone()).collect();
        let mut known = joined(&nodes.map(|node| &node.known), &on, left_full, window.is_some());
        if let Some(exprs) = &exprs {
            let exprs: &Vec<Expr> = exprs;
            let kept: Vec<usize> = exprs.iter().filter_map(as_column).collect();
            known.time = kept.iter().map(|column| known.time[*column].clone()).collect();
            let position = |column: &usize| kept.iter().position(|kept| kept == column);
            known.keys = known.keys.iter().filter_map(|key| key.iter().map(position).collect()).collect();
            fields = kept.iter().map(|column| fields[*column].clone()).collect();
        }
        let fields: Vec<Field> = fields.into_iter().zip(names).map(|(field, name)| field.with_name(name)).collect();
        let nulls_equal = join.null_equality == NullEquality::NullEqualsNull;
        let op = Op::Join(Join { on, nulls_equal, map: Map { filters, exprs }, window });
        let place = self.places.construct(Construct::InnerJoin).or_else(|| self.places.construct(Construct::CrossJoin));
        let place = place.or(self.places.statement);
        self.graph.add(op, vec![left, right], Arc::new(Schema::new(fields)), known, place)
    }

    /// The input with its join keys as columns, computed ones appended.
    fn with_keys(&mut self, input: NodeId, keys: Vec<Expr>) -> Result<(NodeId, Vec<usize>)> {
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

    fn unsupported_join(&self, kind: JoinType) -> Failure {
        let subquery = self.places.construct(Construct::ScalarSubquery);
        let outer = self.places.construct(Construct::OuterJoin);
        if let (Some(place), None) = (subquery, outer) {
            return error("not-supported", "this subquery is not supported yet: it needs an outer join")
                .at(place)
                .help("rewrite it with an explicit JOIN");
        }
        let what = match kind {
            JoinType::Left | JoinType::Right | JoinType::Full => format!("{} JOIN", kind.to_string().to_uppercase()),
            _ => "this kind of join".into(),
        };
        error("not-supported", format!("{what} is not supported yet"))
            .at(outer.or(self.places.statement))
            .help("JOIN keeps the rows that have a match")
    }

    fn no_equality(&self) -> Failure {
        let place = [Construct::CrossJoin, Construct::InnerJoin, Construct::ScalarSubquery]
            .iter()
            .find_map(|construct| self.places.construct(*construct));
        if place.is_some() && place == self.places.construct(Construct::ScalarSubquery) {
            return error("not-supported", "a subquery compared by anything but '=' is not supported yet")
                .at(place)
                .help("give both sides a column to join on with '='");
        }
        error("join-without-equality", "this join has no equality condition: all pairs of rows would be compared")
            .at(place.or(self.places.statement))
            .help("join on equal columns: ON a.id = b.id")
    }
}

/// What is known of all columns of both sides, side by side.
fn joined(sides: &[&Known; 2], on: &[(usize, usize)], left_width: usize, windowed: bool) -> Known {
    let [left, right] = sides;
    // A row leaves when its later half arrives, so both sides' watermarks bound its times.
    let sources = |known: &Known| known.time.iter().flatten().flat_map(|time| time.sources.clone()).collect::<Vec<_>>();
    let mut all = sources(left);
    all.extend(sources(right));
    all.sort_unstable();
    all.dedup();
    let times = left.time.iter().chain(&right.time);
    let time = times.map(|time| time.as_ref().map(|time| TimeColumn { kind: time.kind, sources: all.clone() })).collect();
    Known {
        append_only: left.append_only && right.append_only,
        time,
        keys: joined_keys(left, right, on, left_width),
        state: if windowed { StateBound::Window } else { StateBound::Unbounded },
    }
}

fn joined_keys(left: &Known, right: &Known, on: &[(usize, usize)], left_width: usize) -> Vec<Vec<usize>> {
    let shifted = |key: &Vec<usize>| key.iter().map(|column| column + left_width).collect::<Vec<usize>>();
    let unique =
        |keys: &[Vec<usize>], columns: &[usize]| keys.iter().any(|key| key.iter().all(|column| columns.contains(column)));
    let (left_on, right_on): (Vec<usize>, Vec<usize>) = on.iter().copied().unzip();
    let mut keys: Vec<Vec<usize>> = Vec::new();
    if unique(&right.keys, &right_on) {
        keys.extend(left.keys.iter().cloned());
    }
    if unique(&left.keys, &left_on) {
        keys.extend(right.keys.iter().map(shifted));
    }
    if keys.is_empty()
        && let (Some(l), Some(r)) = (left.keys.first(), right.keys.first())
    {
        // A column that equals one of the left key adds nothing.
        let equal = |column: &usize| on.iter().any(|(l_on, r_on)| r_on == column && l.contains(l_on));
        let rest = r.iter().filter(|column| !equal(column)).map(|column| column + left_width);
        keys.push(l.iter().copied().chain(rest).collect());
    }
    // The same keys by the other side's equal columns, for projections that keep only those.
    let swap = |key: &Vec<usize>, to_left: bool| -> Vec<usize> {
        let swapped = key.iter().map(|column| {
            let pair = on.iter().find(|(l, r)| if to_left { r + left_width == *column } else { l == column });
            match pair {
                Some((l, _)) if to_left => *l,
                Some((_, r)) => r + left_width,
                None => *column,
            }
        });
        let mut swapped: Vec<usize> = swapped.collect();
        let mut seen = Vec::new();
        swapped.retain(|column| {
            !seen.contains(column) && {
                seen.push(*column);
                true
            }
        });
        swapped
    };
    let variants: Vec<Vec<usize>> = keys.iter().flat_map(|key| [swap(key, true), swap(key, false)]).collect();
    for variant in variants {
        if !keys.contains(&variant) {
            keys.push(variant);
        }
    }
    keys
}

/// The pair of keys that both hold the same windows' bound; ends before starts.
fn join_window(on: &[(usize, usize)], left: &Known, right: &Known) -> Option<JoinWindow> {
    let pairs = || {
        on.iter().enumerate().filter_map(|(index, (l, r))| {
            let (l, r) = (left.time[*l].as_ref()?, right.time[*r].as_ref()?);
            let window = JoinWindow { on: index, kind: l.kind, left: l.sources.clone(), right: r.sources.clone() };
            (l.kind == r.kind && l.kind != TimeKind::Event).then_some(window)
        })
    };
    pairs().find(|window| matches!(window.kind, TimeKind::WindowEnd { .. })).or_else(|| pairs().next())
}
