//! The first rows in an order: `LIMIT`, and `ROW_NUMBER() OVER (..) <= k` above an [`Over`].

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use datafusion_common::ScalarValue;
use datafusion_expr::expr::{InList, Sort as SortExpr};
use datafusion_expr::logical_plan::{FetchType, Limit, LogicalPlan, SkipType, Sort};
use datafusion_expr::{BinaryExpr, Expr, Operator};
use highwater_plan::{Emit, NodeId, OrderColumn, Over, OverClosing, OverFunction, Ranking, StateBound, TimeKind, TopN};

use super::expr::{as_column, columns};
use super::graph::{Known, Op};
use super::{Lowerer, names};
use crate::bind::{is_sorted, with_ties};
use crate::diagnose::{Construct, Result, error};

/// How many rows of an order are wanted.
#[derive(Clone, Copy)]
struct Bounds {
    skip: u64,
    fetch: u64,
    /// Peers of the last row, too.
    ties: bool,
}

impl Lowerer<'_> {
    /// A relation has no order, so an order without a limit changes nothing.
    pub(super) fn sorted(&mut self, sort: &Sort) -> Result<NodeId> {
        match sort.fetch {
            None => self.plan(&sort.input),
            Some(fetch) => self.first_of(sort, Bounds { skip: 0, fetch: fetch as u64, ties: false }),
        }
    }

    pub(super) fn limit(&mut self, limit: &Limit) -> Result<NodeId> {
        let place = self.places.construct(Construct::Limit).or(self.places.statement);
        let not_constant = || error("wrong-arguments", "LIMIT and OFFSET take constant numbers that are not negative").at(place);
        let skip = match limit.get_skip_type() {
            Ok(SkipType::Literal(skip)) => skip as u64,
            _ => return Err(not_constant()),
        };
        let (fetch, ties) = match (limit.get_fetch_type(), limit.fetch.as_deref()) {
            (Ok(FetchType::Literal(Some(fetch))), _) => (fetch as u64, false),
            (Ok(FetchType::Literal(None)), _) => {
                return Err(error(
                    "not-supported",
                    "OFFSET without LIMIT cannot be maintained: every change shifts all following rows",
                )
                .at(place)
                .help("remove it, or page when the view is read"));
            }
            (Ok(FetchType::UnsupportedExpr), Some(fetch)) => (with_ties(fetch).ok_or_else(not_constant)?, true),
            _ => return Err(not_constant()),
        };
        self.limited(&limit.input, Bounds { skip, fetch, ties })
    }

    /// The first rows of a plan; projections above its order make no difference to which.
    fn limited(&mut self, plan: &LogicalPlan, bounds: Bounds) -> Result<NodeId> {
        match plan {
            LogicalPlan::Sort(sort) if sort.fetch.is_none() => self.first_of(sort, bounds),
            LogicalPlan::SubqueryAlias(alias) if is_sorted(plan) => self.limited(&alias.input, bounds),
            LogicalPlan::Projection(project) if is_sorted(plan) => {
                let input = self.limited(&project.input, bounds)?;
                let exprs = self.positional(&project.expr, &[&project.input])?;
                self.project(input, exprs, &names(plan))
            }
            _ => {
                let input = self.plan(plan)?;
                self.first(input, Vec::new(), bounds)
            }
        }
    }

    fn first_of(&mut self, sort: &Sort, bounds: Bounds) -> Result<NodeId> {
        let input = self.plan(&sort.input)?;
        let width = self.graph.nodes[input].schema.fields().len();
        let (input, order) = self.order(input, &sort.expr, &sort.input)?;
        let node = self.first(input, order, bounds)?;
        self.select_first(node, width)
    }

    /// The columns without those that were computed for an order.
    pub(super) fn select_first(&mut self, node: NodeId, width: usize) -> Result<NodeId> {
        if self.graph.nodes[node].schema.fields().len() == width {
            return Ok(node);
        }
        self.select(node, &(0..width).collect::<Vec<_>>())
    }

    /// The input with what it is ordered by as columns.
    pub(super) fn order(&mut self, input: NodeId, order: &[SortExpr], plan: &LogicalPlan) -> Result<(NodeId, Vec<OrderColumn>)> {
        let order: Vec<&SortExpr> = order.iter().filter(|by| !matches!(by.expr, Expr::Literal(..))).collect();
        let exprs: Vec<Expr> = order.iter().map(|by| by.expr.clone()).collect();
        let exprs = self.positional(&exprs, &[plan])?;
        let (node, columns) = self.with_keys(input, exprs)?;
        let ordered = columns.into_iter().zip(order).map(|(column, by)| OrderColumn {
            column,
            descending: !by.asc,
            nulls_first: by.nulls_first,
        });
        Ok((node, ordered.collect()))
    }

    fn first(&mut self, input: NodeId, order: Vec<OrderColumn>, bounds: Bounds) -> Result<NodeId> {
        let Bounds { skip, fetch, ties } = bounds;
        let topn = |ranking, first, last| TopN {
            partition: Vec::new(),
            order: order.clone(),
            ranking,
            first,
            last,
            numbered: false,
            window: None,
            emit: Emit::Changes,
        };
        let place = self.places.construct(Construct::Limit).or(self.places.statement);
        let last = skip.saturating_add(fetch);
        if !ties || fetch == 0 {
            return self.add_topn(input, topn(Ranking::RowNumber, skip + 1, last), place);
        }
        let node = self.add_topn(input, topn(Ranking::Rank, 1, last), place)?;
        match skip {
            0 => Ok(node),
            // The rows that are skipped are counted one by one, peers or not.
            _ => self.add_topn(node, topn(Ranking::RowNumber, skip + 1, u64::MAX), place),
        }
    }

    fn add_topn(&mut self, input: NodeId, topn: TopN, place: Option<highwater_plan::Span>) -> Result<NodeId> {
        let below = &self.graph.nodes[input];
        let mut fields: Vec<Field> = below.schema.fields().iter().map(|field| field.as_ref().clone()).collect();
        // A row that is pushed out is retracted whatever its time: only what closes the partition stays a time.
        let time = |column: usize| {
            below.known.time[column].clone().filter(|_| topn.window.is_some() && topn.partition.contains(&column))
        };
        let mut time: Vec<_> = (0..fields.len()).map(time).collect();
        let mut keys = below.known.keys.clone();
        let by_number = topn.ranking == Ranking::RowNumber;
        if by_number && topn.first == topn.last {
            keys.insert(0, topn.partition.clone());
        }
        if topn.numbered {
            if by_number && topn.first != topn.last {
                keys.push([&topn.partition[..], &[fields.len()]].concat());
            }
            fields.push(Field::new("number", DataType::Int64, false));
            time.push(None);
        }
        let once = topn.emit == Emit::Final && self.bound.decisions.settings.allowed_lateness.is_zero();
        let state = match (&topn.window, below.known.append_only) {
            (Some(_), _) => StateBound::Window,
            (None, true) if topn.last < u64::MAX => StateBound::Keys,
            _ => StateBound::Unbounded,
        };
        let known = Known { append_only: below.known.append_only && once, time, keys, state };
        self.graph.add(Op::TopN(topn), vec![input], Arc::new(Schema::new(fields)), known, place)
    }

    /// What a map above an order makes of it, and the filters that are left.
    pub(super) fn first_rows(
        &mut self,
        node: NodeId,
        filters: &[Expr],
        exprs: Option<&[Expr]>,
    ) -> Result<Option<(NodeId, Vec<Expr>)>> {
        if let Some(ranked) = self.ranked(node, filters)? {
            return Ok(Some(ranked));
        }
        let Some(exprs) = exprs else { return Ok(None) };
        let read: Vec<&Expr> = filters.iter().chain(exprs).collect();
        Ok(self.unnumbered(node, &read)?.map(|node| (node, filters.to_vec())))
    }

    /// `row_number() OVER (..) <= k` as the first rows of each partition, and the filters that are left.
    fn ranked(&mut self, node: NodeId, filters: &[Expr]) -> Result<Option<(NodeId, Vec<Expr>)>> {
        let Op::Over(over) = &self.graph.nodes[node].op else { return Ok(None) };
        let Some(ranking) = only_ranking(over) else { return Ok(None) };
        let (input, place) = (self.graph.nodes[node].inputs[0], self.graph.nodes[node].span);
        let number = self.graph.nodes[input].schema.fields().len();
        let mut range = Numbers { first: 1, last: i128::MAX, exact: true };
        let mut rest = Vec::new();
        for filter in filters {
            let found = (columns(filter) == [number]).then(|| numbers(filter)).flatten();
            if let Some(found) = found {
                range = range.and(found);
            }
            if found.is_none_or(|found| !found.exact) {
                rest.push(filter.clone());
            }
        }
        if range.last >= i128::from(u64::MAX) || range.first > range.last {
            return Ok(None);
        }
        let window = match &over.closing {
            Some(OverClosing::Window(window)) => Some(window.clone()),
            _ => None,
        };
        let topn = TopN {
            partition: over.partition.clone(),
            // Within a partition its columns order nothing.
            order: over.order.iter().filter(|by| !over.partition.contains(&by.column)).copied().collect(),
            ranking,
            first: range.first as u64,
            last: range.last as u64,
            numbered: true,
            emit: if window.is_some() { over.emit } else { Emit::Changes },
            window,
        };
        Ok(Some((self.add_topn(input, topn, place)?, rest)))
    }

    /// The same rows without their numbers, if they have some that no expression reads.
    fn unnumbered(&mut self, node: NodeId, read: &[&Expr]) -> Result<Option<NodeId>> {
        let Op::TopN(topn) = &self.graph.nodes[node].op else { return Ok(None) };
        let number = self.graph.nodes[node].schema.fields().len() - 1;
        if !topn.numbered || read.iter().any(|expr| columns(expr).contains(&number)) {
            return Ok(None);
        }
        let topn = TopN { numbered: false, ..topn.clone() };
        let (input, place) = (self.graph.nodes[node].inputs[0], self.graph.nodes[node].span);
        Ok(Some(self.add_topn(input, topn, place)?))
    }
}

/// The ranking of an `Over` that does nothing else.
fn only_ranking(over: &Over) -> Option<Ranking> {
    match &over.calls[..] {
        [call] => match call.function {
            OverFunction::Ranking(ranking) => Some(ranking),
            _ => None,
        },
        _ => None,
    }
}

fn whole(expr: &Expr) -> Option<i128> {
    match expr {
        Expr::Literal(value, _) => match value.cast_to(&DataType::Int64) {
            Ok(ScalarValue::Int64(Some(number))) if value.data_type().is_integer() => Some(i128::from(number)),
            _ => None,
        },
        Expr::Cast(cast) => whole(&cast.expr),
        _ => None,
    }
}

/// Numbers that a condition lets through.
#[derive(Clone, Copy)]
struct Numbers {
    first: i128,
    last: i128,
    /// All of them from first to last.
    exact: bool,
}

impl Numbers {
    fn and(self, other: Numbers) -> Numbers {
        Numbers { first: self.first.max(other.first), last: self.last.min(other.last), exact: self.exact && other.exact }
    }
}

/// What a condition on one column says of it, if it compares it with constants.
fn numbers(expr: &Expr) -> Option<Numbers> {
    let range = |first, last| Some(Numbers { first, last, exact: true });
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => Some(numbers(left)?.and(numbers(right)?)),
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
            let (one, other) = (numbers(left)?, numbers(right)?);
            Some(Numbers { first: one.first.min(other.first), last: one.last.max(other.last), exact: false })
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let (op, value) = match (as_column(left), as_column(right)) {
                (Some(_), None) => (*op, whole(right)?),
                (None, Some(_)) => (op.swap()?, whole(left)?),
                _ => return None,
            };
            match op {
                Operator::Eq => range(value, value),
                Operator::Lt => range(i128::MIN, value - 1),
                Operator::LtEq => range(i128::MIN, value),
                Operator::Gt => range(value + 1, i128::MAX),
                Operator::GtEq => range(value, i128::MAX),
                _ => None,
            }
        }
        Expr::Between(between) if !between.negated && as_column(&between.expr).is_some() => {
            range(whole(&between.low)?, whole(&between.high)?)
        }
        Expr::InList(InList { expr, list, negated: false }) if as_column(expr).is_some() => {
            let values = list.iter().map(whole).collect::<Option<Vec<i128>>>()?;
            Some(Numbers { first: *values.iter().min()?, last: *values.iter().max()?, exact: false })
        }
        _ => None,
    }
}

/// The bound of a window among partition columns.
pub(super) fn partition_window(key: Option<(usize, TimeKind)>) -> Option<highwater_plan::PartitionWindow> {
    key.map(|(key, kind)| highwater_plan::PartitionWindow { key, kind })
}
