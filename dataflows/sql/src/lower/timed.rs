//! Joins in time: which conditions are keys, which side says what of time, and what is kept.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use datafusion_expr::utils::conjunction;
use datafusion_expr::{BinaryExpr, Expr, LogicalPlan, Operator, lit};
use highwater_plan::{
    AsOf, Comparison, Diagnostic, NodeId, PROCESSING_TIME, Ranking, StateBound, TimeColumn, TimeKind, TimeSource, TopN,
};

use super::Lowerer;
use super::expr::{as_column, at, columns, remap};
use super::graph::{Beside, How, Known, Map, Op, Timed};
use super::map::time_of;
use crate::bind::{JoinTime, TimedJoinNode, sql_type};
use crate::diagnose::{Construct, Failure, Result, error};

/// A condition that compares an expression of each side.
struct Comparing {
    left: Expr,
    operator: Operator,
    right: Expr,
}

impl Lowerer<'_> {
    pub(super) fn timed_join(&mut self, join: &TimedJoinNode, names: &[String]) -> Result<NodeId> {
        let left = self.plan(&join.left)?;
        let right = self.plan(&join.right)?;
        let conditions = self.positional(&join.conditions, &[&join.left, &join.right])?;
        match &join.time {
            JoinTime::Processing => self.as_of_processing(join, left, right, conditions, names),
            JoinTime::Event(time, _) => {
                let time = self.positional(std::slice::from_ref(time), &[&join.left])?.remove(0);
                self.as_of_event(join, left, right, conditions, time, names)
            }
            JoinTime::Nearest => self.nearest(join, left, right, conditions, names),
        }
    }

    fn as_of_processing(
        &mut self,
        join: &TimedJoinNode,
        left: NodeId,
        right: NodeId,
        conditions: Vec<Expr>,
        names: &[String],
    ) -> Result<NodeId> {
        let width = own(&join.left);
        let (equal, residual) = compared(conditions, width, is_equality);
        let (equal, residual, nulls_equal) = one_equality(equal, residual, width);
        if equal.is_empty() {
            let message = "this join has no equality condition: each row is compared with the whole table";
            self.warnings.push(
                Diagnostic::warning("join-without-equality", message)
                    .at(self.timed_place())
                    .help("add an equality such as ON a.id = t.id"),
            );
        }
        let sides = self.timed_sides(join, left, right, equal)?;
        let (left_known, right_known) = (&self.graph.nodes[sides.left].known, &self.graph.nodes[sides.right].known);
        let unique = right_known.keys.iter().any(|key| key.iter().all(|column| sides.on.iter().any(|on| on.1 == *column)));
        let bounded = left_known.append_only && !right_known.keys.is_empty();
        let known = Known {
            append_only: left_known.append_only,
            time: sides.beside_nothing(&left_known.time),
            keys: if unique { left_known.keys.clone() } else { Vec::new() },
            state: if bounded { StateBound::Keys } else { StateBound::Unbounded },
        };
        let how = How::Temporal(AsOf::Processing);
        self.beside(join, sides, nulls_equal, residual, how, known, names)
    }

    fn as_of_event(
        &mut self,
        join: &TimedJoinNode,
        left: NodeId,
        right: NodeId,
        conditions: Vec<Expr>,
        time: Expr,
        names: &[String],
    ) -> Result<NodeId> {
        let width = own(&join.left);
        let left_time = time_of(&time, &self.graph.nodes[left].known.time).filter(|time| time.kind == TimeKind::Event);
        if left_time.as_ref().is_some_and(of_clock) {
            return self.as_of_processing(join, left, right, conditions, names);
        }
        let versions = self.versions(right)?;
        let right_known = &self.graph.nodes[right].known;
        let (right_time, right_sources, right_keys) = match &versions.latest {
            Some(latest) => {
                let time = self.graph.nodes[versions.node].known.time[latest.time].as_ref();
                let sources = time.map(|time| time.sources.clone()).unwrap_or_default();
                (latest.time, sources, vec![latest.key.clone()])
            }
            None => match event_time(&right_known.time) {
                Some((time, sources)) => (time, sources, right_known.keys.clone()),
                None => return Err(self.not_versioned()),
            },
        };
        let (equal, mut residual) = compared(conditions, width, |operator| operator == Operator::Eq);
        // One equality for each column of the key; what else is equal is a condition of the match.
        let find = |column: &usize| equal.iter().position(|equal| as_column(&equal.right) == Some(*column));
        let key: Option<Vec<usize>> = right_keys.iter().find_map(|key| key.iter().map(find).collect::<Option<Vec<usize>>>());
        let Some(key) = key else {
            let keys = right_keys.first().map(|key| {
                let name = |column: &usize| self.graph.nodes[right].schema.field(*column).name().clone();
                key.iter().map(name).collect::<Vec<String>>().join(", ")
            });
            return Err(match keys {
                Some(keys) => error("as-of-key", "FOR SYSTEM_TIME AS OF an event time joins on the whole key of the table")
                    .at(self.timed_place())
                    .help(format!("add an equality for each of its columns: {keys}")),
                None => self.not_versioned(),
            });
        };
        let mut pairs = Vec::new();
        for (index, comparing) in equal.into_iter().enumerate() {
            match key.contains(&index) {
                true => pairs.push(comparing),
                false => residual.push(comparing.into_expr(width)),
            }
        }
        let Some(left_time) = left_time.filter(|time| !time.sources.is_empty()) else {
            return Err(error("as-of", "FOR SYSTEM_TIME AS OF takes an event time of the left side, or PROCTIME()")
                .at(self.timed_place())
                .help("declare it on the source: WATERMARK FOR ts AS ts - INTERVAL '5' SECOND"));
        };
        // The left time is a column, computed if need be.
        let (keyed_left, time_column) = self.with_keys(left, vec![time])?;
        let sides = self.timed_sides(join, keyed_left, versions.node, pairs)?;
        let sources = TimeSource::merged(left_time.sources.iter().chain(&right_sources));
        let left_known = &self.graph.nodes[sides.left].known;
        let kept = |(column, time): (usize, &Option<TimeColumn>)| {
            let bounded = column == time_column[0] || time.as_ref().is_some_and(|time| time.kind != TimeKind::Event);
            let all = |time: &TimeColumn| TimeColumn {
                kind: time.kind,
                sources: TimeSource::merged(time.sources.iter().chain(&sources)),
            };
            time.as_ref().filter(|_| bounded).map(all)
        };
        let time: Vec<Option<TimeColumn>> = left_known.time.iter().enumerate().map(kept).collect();
        let known = Known {
            append_only: left_known.append_only,
            time: sides.beside_nothing(&time),
            // A retraction that comes too late leaves its row.
            keys: if left_known.append_only { left_known.keys.clone() } else { Vec::new() },
            state: StateBound::Versions,
        };
        let (valid, first_of_equal) = (versions.valid, versions.latest.is_some());
        let as_of = AsOf::Event { left: time_column[0], right: right_time, valid, first_of_equal, sources };
        self.beside(join, sides, false, residual, How::Temporal(as_of), known, names)
    }

    fn nearest(
        &mut self,
        join: &TimedJoinNode,
        mut left: NodeId,
        mut right: NodeId,
        conditions: Vec<Expr>,
        names: &[String],
    ) -> Result<NodeId> {
        let width = own(&join.left);
        let (equal, rest) = compared(conditions, width, is_equality);
        let (equal, rest, nulls_equal) = one_equality(equal, rest, width);
        let ordering = |operator: Operator| comparison(operator).is_some();
        let (mut compared, rest) = compared(rest, width, ordering);
        let (Some(compared), true) = (compared.pop(), compared.is_empty()) else {
            return Err(error("asof-condition", "ASOF JOIN needs exactly one comparison of its two sides by <, <=, > or >=")
                .at(self.timed_place())
                .help("write ASOF JOIN t ON a.id = t.id AND a.ts >= t.ts"));
        };
        // The nearest of the right rows that pass; and left rows that do not pass have none.
        for condition in rest {
            let read = columns(&condition);
            if read.iter().all(|column| *column >= width) {
                right = self.filter(right, vec![remap(&condition, |column| column - width)])?;
            } else if read.iter().all(|column| *column < width) && !join.outer {
                left = self.filter(left, vec![condition])?;
            } else {
                return Err(error("asof-condition", "a condition of an ASOF JOIN beside its equalities and its one comparison")
                    .at(self.timed_place())
                    .help("the nearest row is looked for first: put the condition into WHERE, or into a subquery of one side"));
            }
        }
        let comparison = comparison(compared.operator).expect("only such operators were taken");
        let (left_full, left_column) = self.with_keys(left, vec![compared.left])?;
        let (right_full, right_column) = self.with_keys(right, vec![compared.right])?;
        let place = self.timed_place();
        let types = [(left_full, left_column[0]), (right_full, right_column[0])]
            .map(|(node, column)| self.graph.nodes[node].schema.field(column).data_type().clone());
        if types[0] != types[1] || !has_numbers(&types[0]) {
            let message = format!("ASOF JOIN compares {} with {}", sql_type(&types[0]), sql_type(&types[1]));
            return Err(error("type-mismatch", message)
                .at(place)
                .help("compare numbers, dates or timestamps; CAST one side to the other's type"));
        }
        let sides = self.timed_sides(join, left_full, right_full, equal)?;
        let left_known = &self.graph.nodes[sides.left].known;
        let known = Known {
            append_only: false,
            time: sides.beside_nothing(&vec![None; self.width(sides.left)]),
            keys: left_known.keys.clone(),
            state: StateBound::Unbounded,
        };
        let how = How::Nearest { left: left_column[0], right: right_column[0], comparison };
        self.beside(join, sides, nulls_equal, Vec::new(), how, known, names)
    }

    /// The right side of an event-time join as versions: every row of its table or, if it takes the latest row of each key
    /// of a stream, of that stream.
    fn versions(&mut self, right: NodeId) -> Result<Versions> {
        let node = self.graph.nodes[right].clone();
        match node.op {
            Op::Source(source) if !self.bound.sources[source].primary_key.is_empty() => {
                let known = Known { keys: Vec::new(), state: StateBound::Stateless, append_only: false, ..node.known };
                let versions = self.graph.add(Op::Versions(source), Vec::new(), node.schema, known, node.span)?;
                Ok(Versions { node: versions, valid: None, latest: None })
            }
            Op::TopN(topn) => {
                let latest = self.latest(&topn, node.inputs[0]).ok_or_else(|| self.not_versioned())?;
                let width = self.width(node.inputs[0]);
                let names = super::names_of(&node.schema);
                let number = topn.numbered.then(|| lit(1i64));
                let rows = self.project(node.inputs[0], (0..width).map(at).chain(number).collect(), &names)?;
                Ok(Versions { node: rows, valid: None, latest: Some(latest) })
            }
            Op::Map(map) => {
                let Versions { node: input, valid: below, latest } = self.versions(node.inputs[0])?;
                let width = node.schema.fields().len();
                let mut exprs = map.exprs.unwrap_or_else(|| (0..width).map(at).collect());
                let mut names: Vec<String> = node.schema.fields().iter().map(|field| field.name().clone()).collect();
                let valid = below.map(at).into_iter().chain(map.filters);
                let valid = conjunction(valid);
                let column = valid.map(|valid| {
                    exprs.push(valid);
                    names.push("valid".into());
                    exprs.len() - 1
                });
                let latest = match latest {
                    None => None,
                    Some(Latest { time, key }) => {
                        let place = |column: usize| exprs.iter().position(|expr| as_column(expr) == Some(column));
                        let key = key.into_iter().map(place).collect::<Option<Vec<usize>>>();
                        let key = key.ok_or_else(|| self.not_versioned())?;
                        let time = place(time).unwrap_or_else(|| {
                            exprs.push(at(time));
                            names.push("version".into());
                            exprs.len() - 1
                        });
                        Some(Latest { time, key })
                    }
                };
                Ok(Versions { node: self.project(input, exprs, &names)?, valid: column, latest })
            }
            _ => Err(self.not_versioned()),
        }
    }

    /// The key and the time of a deduplication that keeps the last row of each key of a stream.
    fn latest(&self, topn: &TopN, input: NodeId) -> Option<Latest> {
        let known = &self.graph.nodes[input].known;
        let [by] = &topn.order[..] else { return None };
        let one = topn.ranking == Ranking::RowNumber && (topn.first, topn.last) == (1, 1) && topn.window.is_none();
        let timed = known.time[by.column]
            .as_ref()
            .is_some_and(|time| time.kind == TimeKind::Event && !time.sources.is_empty() && !of_clock(time));
        let fits = one && timed && by.descending && known.append_only && !topn.partition.is_empty();
        fits.then(|| Latest { time: by.column, key: topn.partition.clone() })
    }

    /// Both sides with their key columns.
    fn timed_sides(&mut self, join: &TimedJoinNode, left: NodeId, right: NodeId, equal: Vec<Comparing>) -> Result<Sides> {
        let (left_width, right_width) = (own(&join.left), own(&join.right));
        let (left_keys, right_keys): (Vec<Expr>, Vec<Expr>) = equal.into_iter().map(|equal| (equal.left, equal.right)).unzip();
        let (left, left_keys) = self.with_keys(left, left_keys)?;
        let (right, right_keys) = self.with_keys(right, right_keys)?;
        let on: Vec<(usize, usize)> = left_keys.into_iter().zip(right_keys).collect();
        for (l, r) in &on {
            let types = [(left, *l), (right, *r)].map(|(node, key)| self.graph.nodes[node].schema.field(key).data_type().clone());
            if types[0] != types[1] {
                let message = format!("a join compares {} with {}", sql_type(&types[0]), sql_type(&types[1]));
                return Err(error("type-mismatch", message).at(self.timed_place()).help("CAST one side to the other's type"));
            }
        }
        let (left_full, right_full) = (self.width(left), self.width(right));
        Ok(Sides { left, right, on, left_width, right_width, left_full, right_full })
    }

    /// Adds the join. Columns that were computed for it are not among its output; `known` is that of the output.
    #[allow(clippy::too_many_arguments, reason = "called from three places, with what each has worked out")]
    fn beside(
        &mut self,
        join: &TimedJoinNode,
        sides: Sides,
        nulls_equal: bool,
        residual: Vec<Expr>,
        how: How,
        mut known: Known,
        names: &[String],
    ) -> Result<NodeId> {
        let moved = |column: usize| match column < sides.left_width {
            true => column,
            false => column - sides.left_width + sides.left_full,
        };
        let residual = residual.iter().map(|condition| remap(condition, moved)).collect();
        let kept: Vec<usize> = (0..sides.left_width + sides.right_width).map(moved).collect();
        let nodes = [sides.left, sides.right].map(|node| &self.graph.nodes[node]);
        let fields = nodes[0].schema.fields().iter().map(|field| field.as_ref().clone());
        let padded = |field: &Arc<Field>| {
            let nullable = field.is_nullable() || join.outer;
            field.as_ref().clone().with_nullable(nullable)
        };
        let fields: Vec<Field> = fields.chain(nodes[1].schema.fields().iter().map(padded)).collect();
        let fields = kept.iter().zip(names).map(|(column, name)| fields[*column].clone().with_name(name));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<Field>>()));
        known.keys.retain(|key| key.iter().all(|column| *column < sides.left_width));
        let exprs = (sides.left_full + sides.right_full != kept.len()).then(|| kept.iter().map(|column| at(*column)).collect());
        let beside = Beside {
            on: sides.on,
            nulls_equal,
            outer: join.outer,
            residual,
            map: Map { filters: Vec::new(), exprs },
            left_width: sides.left_full,
        };
        let op = Op::Timed(Timed { beside, how });
        let place = self.timed_place();
        self.graph.add(op, vec![sides.left, sides.right], schema, known, place)
    }

    fn width(&self, node: NodeId) -> usize {
        self.graph.nodes[node].schema.fields().len()
    }

    fn timed_place(&self) -> Option<highwater_plan::Span> {
        self.places.construct(Construct::TimedJoin).or(self.places.statement)
    }

    fn not_versioned(&self) -> Failure {
        error("not-versioned", "FOR SYSTEM_TIME AS OF an event time needs a table whose versions have times")
            .at(self.timed_place())
            .help("give the table a PRIMARY KEY and a WATERMARK, or take the last row of each key of a stream by ROW_NUMBER() OVER (PARTITION BY key ORDER BY its event time DESC) = 1, or use FOR SYSTEM_TIME AS OF PROCTIME()")
    }
}

/// Versions of the rows of a right side.
struct Versions {
    node: NodeId,
    /// A column that says whether a row is among those that the right side selects.
    valid: Option<usize>,
    /// Set if they are the rows of a stream of which the right side takes the latest.
    latest: Option<Latest>,
}

/// A deduplication that keeps the last row of each key.
struct Latest {
    time: usize,
    key: Vec<usize>,
}

/// Both inputs of a join in time, with the columns that were computed for it behind their own.
struct Sides {
    left: NodeId,
    right: NodeId,
    on: Vec<(usize, usize)>,
    /// Own columns.
    left_width: usize,
    right_width: usize,
    /// With computed ones.
    left_full: usize,
    right_full: usize,
}

impl Sides {
    /// The left times of the output, beside right columns of which nothing is known.
    fn beside_nothing(&self, left: &[Option<TimeColumn>]) -> Vec<Option<TimeColumn>> {
        let nothing = std::iter::repeat_n(None, self.right_width);
        left[..self.left_width].iter().cloned().chain(nothing).collect()
    }
}

impl Comparing {
    /// The comparison as it was.
    fn into_expr(self, width: usize) -> Expr {
        let right = remap(&self.right, |column| column + width);
        Expr::BinaryExpr(BinaryExpr::new(Box::new(self.left), self.operator, Box::new(right)))
    }
}

/// The conditions that compare the two sides by such an operator, and the others. `width`: columns of the left side.
fn compared(conditions: Vec<Expr>, width: usize, wanted: impl Fn(Operator) -> bool) -> (Vec<Comparing>, Vec<Expr>) {
    let (mut found, mut others) = (Vec::new(), Vec::new());
    for condition in conditions {
        match comparing(&condition, width).filter(|comparing| wanted(comparing.operator)) {
            Some(comparing) => found.push(comparing),
            None => others.push(condition),
        }
    }
    (found, others)
}

fn comparing(condition: &Expr, width: usize) -> Option<Comparing> {
    let Expr::BinaryExpr(binary) = condition else { return None };
    let side = |expr: &Expr| {
        let read = columns(expr);
        match (read.iter().all(|column| *column < width), read.iter().all(|column| *column >= width)) {
            (true, false) => Some(0),
            (false, true) => Some(1),
            _ => None,
        }
    };
    let right = |expr: &Expr| remap(expr, |column| column - width);
    match (side(&binary.left)?, side(&binary.right)?) {
        (0, 1) => Some(Comparing { left: (*binary.left).clone(), operator: binary.op, right: right(&binary.right) }),
        (1, 0) => {
            let operator = binary.op.swap()?;
            Some(Comparing { left: (*binary.right).clone(), operator, right: right(&binary.left) })
        }
        _ => None,
    }
}

/// Keys are compared all by `=` or all by `IS NOT DISTINCT FROM`: where both are written, the latter are conditions of the
/// match.
fn one_equality(equal: Vec<Comparing>, mut residual: Vec<Expr>, width: usize) -> (Vec<Comparing>, Vec<Expr>, bool) {
    let any = equal.iter().any(|equal| equal.operator == Operator::Eq);
    let (keys, others): (Vec<_>, Vec<_>) = equal.into_iter().partition(|equal| !any || equal.operator == Operator::Eq);
    residual.extend(others.into_iter().map(|other| other.into_expr(width)));
    let nulls_equal = !any && !keys.is_empty();
    (keys, residual, nulls_equal)
}

fn is_equality(operator: Operator) -> bool {
    matches!(operator, Operator::Eq | Operator::IsNotDistinctFrom)
}

fn comparison(operator: Operator) -> Option<Comparison> {
    Some(match operator {
        Operator::Lt => Comparison::Less,
        Operator::LtEq => Comparison::LessOrEqual,
        Operator::Gt => Comparison::Greater,
        Operator::GtEq => Comparison::GreaterOrEqual,
        _ => return None,
    })
}

/// How many columns a side has. The node it is lowered to has one more where that is none.
fn own(side: &LogicalPlan) -> usize {
    side.schema().fields().len()
}

/// Whether the values of a type have the order of numbers.
fn has_numbers(data_type: &DataType) -> bool {
    data_type.is_integer()
        || matches!(
            data_type,
            DataType::Float32
                | DataType::Float64
                | DataType::Decimal128(..)
                | DataType::Timestamp(..)
                | DataType::Date32
                | DataType::Date64
                | DataType::Time32(_)
                | DataType::Time64(_)
        )
}

/// Whether it is processing time.
fn of_clock(time: &TimeColumn) -> bool {
    time.sources.iter().any(|time| time.source == PROCESSING_TIME)
}

/// The column that has an event time, and its sources.
fn event_time(time: &[Option<TimeColumn>]) -> Option<(usize, Vec<TimeSource>)> {
    time.iter().enumerate().find_map(|(column, time)| {
        let event = |time: &&TimeColumn| time.kind == TimeKind::Event && !time.sources.is_empty() && !of_clock(time);
        let time = time.as_ref().filter(event)?;
        Some((column, time.sources.clone()))
    })
}
