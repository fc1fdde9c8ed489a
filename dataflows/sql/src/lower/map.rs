//! Maps: filters and projections, fused with what stands below them.

mod timed;

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{DFSchemaRef, ScalarValue};
use datafusion_expr::simplify::SimplifyContext;
use datafusion_expr::{Expr, ExprSchemable, Operator, cast, lit};
use datafusion_optimizer::simplify_expressions::ExprSimplifier;
use highwater_plan::{Emit, NodeId, OnError, PROCESSING_TIME, StateBound, TimeColumn, TimeKind, TimeSource, Unnest};

use super::Lowerer;
use super::expr::{as_column, at, columns, mentions, remap, span, substitute, volatile, with_proctime};
use super::graph::{Join, Known, Map, Op, field};
use super::scalar::compile;
use super::temporal::reads_clock;
use crate::diagnose::{Item, Result, error};
use crate::functions::{PROCTIME, calls_proctime};

impl Lowerer<'_> {
    /// Rows of `input` that pass all filters.
    pub(super) fn filter(&mut self, input: NodeId, filters: Vec<Expr>) -> Result<NodeId> {
        if filters.is_empty() {
            return Ok(input);
        }
        self.check_volatile(&filters, input)?;
        if filters.iter().any(calls_proctime) {
            let width = self.graph.nodes[input].schema.fields().len();
            let stamped = self.stamp(input)?;
            let filters = filters.into_iter().map(|filter| with_proctime(filter, width)).collect();
            let kept = self.filter(stamped, filters)?;
            return self.select(kept, &(0..width).collect::<Vec<_>>());
        }
        if let Some((below, filters, exprs)) = self.below_now(input, &filters) {
            let names = super::names_of(&self.graph.nodes[input].schema);
            let mut read: Vec<usize> = filters.iter().chain(&exprs).flat_map(columns).collect();
            read.sort_unstable();
            read.dedup();
            let moved = |column: usize| read.binary_search(&column).expect("it is among those that are read");
            let narrow = self.select(below, &read)?;
            let filtered = self.filter(narrow, filters.iter().map(|filter| remap(filter, moved)).collect())?;
            return self.project(filtered, exprs.iter().map(|expr| remap(expr, moved)).collect(), &names);
        }
        let (clocked, filters): (Vec<Expr>, Vec<Expr>) = filters.into_iter().partition(reads_clock);
        let passed = self.plain_filter(input, filters)?;
        if clocked.is_empty() { Ok(passed) } else { self.temporal(passed, clocked) }
    }

    /// Rows of `input` that pass all filters, none of which reads the clock.
    fn plain_filter(&mut self, input: NodeId, filters: Vec<Expr>) -> Result<NodeId> {
        if filters.is_empty() {
            return Ok(input);
        }
        let node = &self.graph.nodes[input];
        let (schema, known) = (Arc::clone(&node.schema), Known { state: StateBound::Stateless, ..node.known.clone() });
        self.fused(input, filters, None, schema, known)
    }

    /// Expressions over `input`, named for people.
    pub(super) fn project(&mut self, input: NodeId, exprs: Vec<Expr>, names: &[String]) -> Result<NodeId> {
        self.check_volatile(&exprs, input)?;
        let (input, exprs) = if exprs.iter().any(calls_proctime) { self.stamped(input, exprs)? } else { (input, exprs) };
        let node = &self.graph.nodes[input];
        let exprs: Vec<Expr> = exprs.into_iter().map(|expr| plain_string(expr, &node.typed)).collect();
        let mut fields: Vec<Field> = Vec::with_capacity(exprs.len());
        for (expr, name) in exprs.iter().zip(names) {
            let field = field(expr, name, &node.typed)?;
            // Where a failing expression is NULL, any may be.
            let nullable = field.is_nullable() || self.bound.decisions.settings.on_error == OnError::Null;
            fields.push(field.with_nullable(nullable));
        }
        let known = Known {
            append_only: node.known.append_only,
            time: exprs.iter().map(|expr| self.time_of(expr, &node.known.time)).collect(),
            keys: projected_keys(&node.known.keys, &exprs),
            state: StateBound::Stateless,
        };
        self.fused(input, Vec::new(), Some(exprs), Arc::new(Schema::new(fields)), known)
    }

    /// Columns of `input`, by position.
    pub(super) fn select(&mut self, input: NodeId, columns: &[usize]) -> Result<NodeId> {
        let schema = &self.graph.nodes[input].schema;
        if columns.is_empty() {
            // Rows without columns still count; one constant column keeps them ordinary batches.
            return self.project(input, vec![lit(true)], &["row".to_string()]);
        }
        let names: Vec<String> = columns.iter().map(|index| schema.field(*index).name().clone()).collect();
        self.project(input, columns.iter().map(|index| at(*index)).collect(), &names)
    }

    /// What is known of an expression's time. With EMIT FINAL a time that is cut to a unit of fixed length is the start
    /// of a window; otherwise that would refuse rows that were always taken.
    fn time_of(&self, expr: &Expr, input: &[Option<TimeColumn>]) -> Option<TimeColumn> {
        time_of(expr, input).or_else(|| {
            let (size, time) = truncated(expr).filter(|_| self.emit == Emit::Final)?;
            let time = time_of(time, input).filter(|time| time.kind == TimeKind::Event)?;
            Some(TimeColumn { kind: TimeKind::WindowStart { size }, sources: time.sources })
        })
    }

    /// Rows with their epoch, and the expressions over them. Only the columns that are read stand below.
    fn stamped(&mut self, input: NodeId, exprs: Vec<Expr>) -> Result<(NodeId, Vec<Expr>)> {
        let mut read: Vec<usize> = exprs.iter().flat_map(columns).collect();
        read.sort_unstable();
        read.dedup();
        let below = self.select(input, &read)?;
        let stamp = self.graph.nodes[below].schema.fields().len();
        let position = |column: usize| read.binary_search(&column).expect("columns that are read are listed");
        let exprs = exprs.iter().map(|expr| with_proctime(remap(expr, position), stamp)).collect();
        Ok((self.stamp(below)?, exprs))
    }

    /// Appends the epoch in which each row came.
    fn stamp(&mut self, input: NodeId) -> Result<NodeId> {
        let node = &self.graph.nodes[input];
        if let Op::Constant(_) = node.op {
            return Err(error("not-supported", "PROCTIME() of constant rows is not supported: they do not come at a time")
                .at(self.places.function(PROCTIME))
                .help("select it from a stream"));
        }
        let mut fields: Vec<Field> = node.schema.fields().iter().map(|field| field.as_ref().clone()).collect();
        fields.push(Field::new(PROCTIME, DataType::Timestamp(TimeUnit::Millisecond, None), false));
        let mut known = Known { state: StateBound::Stateless, ..node.known.clone() };
        known.time.push(Some(TimeColumn { kind: TimeKind::Event, sources: vec![TimeSource::of(PROCESSING_TIME)] }));
        let place = self.places.function(PROCTIME).or(self.places.statement);
        self.graph.add(Op::Stamp, vec![input], Arc::new(Schema::new(fields)), known, place)
    }

    fn fused(
        &mut self,
        input: NodeId,
        filters: Vec<Expr>,
        exprs: Option<Vec<Expr>>,
        schema: SchemaRef,
        known: Known,
    ) -> Result<NodeId> {
        if !self.graph.kept.contains(&input)
            && let Some((node, filters)) = self.first_rows(input, &filters, exprs.as_deref())?
        {
            let known = self.known_of(node, exprs.as_deref());
            return self.fused(node, filters, exprs, schema, known);
        }
        let node = &self.graph.nodes[input];
        let identity = exprs.as_ref().is_none_or(|exprs| is_identity(exprs, node.schema.fields().len()));
        if identity && filters.is_empty() {
            return Ok(input);
        }
        if !self.graph.kept.contains(&input) {
            match &node.op {
                Op::Map(below) => {
                    if let Some(map) = merged(&filters, exprs.as_deref(), below) {
                        let below = node.inputs[0];
                        return self.fused(below, map.filters, map.exprs, schema, known);
                    }
                }
                Op::Join(join) => {
                    if let Some(map) = merged(&filters, exprs.as_deref(), &join.map) {
                        let known = Known { state: node.known.state.clone(), ..known };
                        let (op, inputs, span) = (Op::Join(Join { map, ..join.clone() }), node.inputs.clone(), node.span);
                        return self.graph.add(op, inputs, schema, known, span);
                    }
                }
                Op::Timed(timed) => {
                    if let Some(map) = merged(&filters, exprs.as_deref(), &timed.beside.map) {
                        return self.onto_timed(input, map, schema, known);
                    }
                }
                Op::Unnest(unnest) => {
                    // Columns that nothing reads, the arrays above all, are not repeated for each item.
                    if let Some(all) = &exprs {
                        let read: BTreeSet<usize> = all.iter().chain(&filters).flat_map(columns).collect();
                        if let Some((narrow, moved)) = narrowed(unnest, &read) {
                            let narrow = self.unnested(node.inputs[0], narrow)?;
                            let filters = filters.iter().map(|expr| remap(expr, &moved)).collect();
                            let exprs = all.iter().map(|expr| remap(expr, &moved)).collect();
                            return self.fused(narrow, filters, Some(exprs), schema, known);
                        }
                    }
                }
                Op::Constant(rows) => {
                    let rows = rows.clone();
                    let fixed = |expr: &Expr| volatile(expr).is_none() && !reads_clock(expr);
                    if filters.iter().chain(exprs.iter().flatten()).all(fixed) {
                        return self.constant_map(&rows, input, &filters, exprs.as_deref(), schema, known);
                    }
                }
                _ => {}
            }
        }
        let mut known = known;
        let exprs = match exprs {
            Some(exprs) if !identity => {
                // Through a fused chain more may be seen than step by step.
                for (time, expr) in known.time.iter_mut().zip(&exprs) {
                    *time = time.take().or_else(|| self.time_of(expr, &node.known.time));
                }
                known.keys.extend(projected_keys(&node.known.keys, &exprs));
                Some(with_known_values(exprs, &filters, &node.typed))
            }
            _ => {
                for (time, below) in known.time.iter_mut().zip(&node.known.time) {
                    *time = time.take().or_else(|| below.clone());
                }
                known.keys.extend(node.known.keys.iter().cloned());
                None
            }
        };
        known.keys = known.keys.iter().fold(Vec::new(), |mut keys, key| {
            if !keys.contains(key) {
                keys.push(key.clone());
            }
            keys
        });
        let place = exprs.iter().flatten().chain(&filters).find_map(span).or(self.places.statement);
        self.graph.add(Op::Map(Map { filters, exprs }), vec![input], schema, known, place)
    }

    /// What is known of a projection of a node, or of the node's own columns.
    fn known_of(&self, node: NodeId, exprs: Option<&[Expr]>) -> Known {
        let known = &self.graph.nodes[node].known;
        match exprs {
            None => Known { state: StateBound::Stateless, ..known.clone() },
            Some(exprs) => Known {
                append_only: known.append_only,
                time: exprs.iter().map(|expr| time_of(expr, &known.time)).collect(),
                keys: projected_keys(&known.keys, exprs),
                state: StateBound::Stateless,
            },
        }
    }

    /// Constant rows are computed now.
    fn constant_map(
        &mut self,
        rows: &RecordBatch,
        input: NodeId,
        filters: &[Expr],
        exprs: Option<&[Expr]>,
        schema: SchemaRef,
        known: Known,
    ) -> Result<NodeId> {
        let types = Arc::clone(&self.graph.nodes[input].typed);
        let (statement, items) = (self.places.statement, &self.places.items);
        let evaluate = |expr: &Expr, rows: &RecordBatch| {
            compile(expr, &types, None)?.scalar.evaluate(rows).map_err(|e| {
                let (names, words) = mentions(expr);
                let place = span(expr).or_else(|| Item::find(items, &names, &words)).or(statement);
                error("constant-error", format!("a constant expression fails: {}", e.message)).at(place)
            })
        };
        let mut rows = rows.clone();
        for filter in filters {
            let passed: BooleanArray = evaluate(filter, &rows)?.as_boolean().clone();
            rows = filter_record_batch(&rows, &passed).map_err(|e| super::expr::internal(e.into()))?;
        }
        let columns = match exprs {
            None => rows.columns().to_vec(),
            Some(exprs) => exprs.iter().map(|expr| evaluate(expr, &rows)).collect::<Result<_>>()?,
        };
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        let rows = RecordBatch::try_new_with_options(Arc::clone(&schema), columns, &options)
            .map_err(|e| super::expr::internal(e.into()))?;
        self.graph.add(Op::Constant(rows), Vec::new(), schema, known, statement)
    }

    /// A volatile function over rows that may be retracted would give another value for the retraction.
    fn check_volatile(&self, exprs: &[Expr], input: NodeId) -> Result<()> {
        if self.graph.nodes[input].known.append_only {
            return Ok(());
        }
        match exprs.iter().find_map(volatile) {
            None => Ok(()),
            Some(name) => Err(error(
                "volatile-over-updates",
                format!("volatile function {name}() cannot be applied to rows that may be retracted: the retraction would not match the row"),
            )
            .at(self.places.function(&name))
            .help("evaluate it in a view directly on an append-only source")),
        }
    }
}

/// The operator without the columns that nothing reads, and where the others went; `None` if all are read.
fn narrowed(unnest: &Unnest, read: &BTreeSet<usize>) -> Option<(Unnest, impl Fn(usize) -> usize + use<>)> {
    let kept: Vec<usize> = (0..unnest.keep.len()).filter(|column| read.contains(column)).collect();
    let dropped = unnest.keep.len() - kept.len();
    if dropped == 0 {
        return None;
    }
    let keep = kept.iter().map(|column| unnest.keep[*column]).collect();
    let moved = move |column: usize| kept.iter().position(|kept| *kept == column).unwrap_or(column - dropped.min(column));
    Some((Unnest { keep, ..unnest.clone() }, moved))
}

/// Strings are `Utf8` in every operator's output.
fn plain_string(expr: Expr, types: &DFSchemaRef) -> Expr {
    match expr.get_type(types) {
        Ok(DataType::Utf8View | DataType::LargeUtf8) => cast(expr, DataType::Utf8),
        _ => expr,
    }
}

/// Where a filter says that a column equals a constant, the constant for the column: a choice by it falls away.
fn with_known_values(exprs: Vec<Expr>, filters: &[Expr], types: &DFSchemaRef) -> Vec<Expr> {
    let values: Vec<(&Expr, &Expr)> = filters.iter().filter_map(|filter| known_value(filter, types)).collect();
    let simplifier = ExprSimplifier::new(SimplifyContext::builder().with_schema(Arc::clone(types)).build());
    let simpler = |expr: &Expr| {
        let Expr::Case(_) = expr else { return None };
        let replaced = expr.clone().transform_up(|expr| {
            Ok(match values.iter().find(|(column, _)| **column == expr) {
                Some((_, value)) => Transformed::yes((*value).clone()),
                None => Transformed::no(expr),
            })
        });
        let simple = simplifier.simplify(replaced.ok().filter(|replaced| replaced.transformed)?.data).ok()?;
        (simple.get_type(types).ok()? == expr.get_type(types).ok()?).then_some(simple)
    };
    exprs.into_iter().map(|expr| simpler(&expr).unwrap_or(expr)).collect()
}

/// `column = constant`, for types whose equal values are the same value.
fn known_value<'a>(filter: &'a Expr, types: &DFSchemaRef) -> Option<(&'a Expr, &'a Expr)> {
    let Expr::BinaryExpr(binary) = filter else { return None };
    let (column, value) = (&*binary.left, &*binary.right);
    let (Operator::Eq, Some(_), Expr::Literal(literal, _)) = (binary.op, as_column(column), value) else { return None };
    let data_type = column.get_type(types).ok()?;
    let exact = data_type.is_integer() || matches!(data_type, DataType::Utf8 | DataType::Boolean);
    (exact && literal.data_type() == data_type && !literal.is_null()).then_some((column, value))
}

/// Whether expressions are all columns of an input, in order.
pub(super) fn is_identity(exprs: &[Expr], columns: usize) -> bool {
    exprs.len() == columns && exprs.iter().enumerate().all(|(index, expr)| as_column(expr) == Some(index))
}

/// A map over a map as one, unless something expensive would be computed twice.
fn merged(filters: &[Expr], exprs: Option<&[Expr]>, below: &Map) -> Option<Map> {
    let mut all = filters.to_vec();
    all.extend(exprs.unwrap_or_default().iter().cloned());
    let mut all = match &below.exprs {
        None => all,
        // A filter alone keeps the lower projection, so what it shares with that is computed twice.
        Some(inner) if exprs.is_none() => {
            let mut both = all;
            both.extend((0..inner.len()).map(at));
            let mut both = substitute(&both, inner)?;
            both.truncate(filters.len());
            both
        }
        Some(inner) => substitute(&all, inner)?,
    };
    let rest = all.split_off(filters.len());
    let mut filters = below.filters.clone();
    for filter in all {
        if !filters.contains(&filter) {
            filters.push(filter);
        }
    }
    let exprs = match exprs {
        Some(_) => Some(rest),
        None => below.exprs.clone(),
    };
    Some(Map { filters, exprs })
}

/// What is known of an expression's time: columns keep it, and casts between units of time.
pub(super) fn time_of(expr: &Expr, input: &[Option<TimeColumn>]) -> Option<TimeColumn> {
    match expr {
        Expr::Column(_) => input[as_column(expr).expect("it is a column")].clone(),
        Expr::Cast(cast) if matches!(cast.field.data_type(), DataType::Timestamp(..)) => time_of(&cast.expr, input),
        // A window's last instant, as the window functions make it, is an event time again.
        Expr::BinaryExpr(binary) if binary.op == Operator::Minus && is_window_time_gap(&binary.right) => {
            let end = time_of(&binary.left, input)?;
            matches!(end.kind, TimeKind::WindowEnd { .. }).then_some(TimeColumn { kind: TimeKind::Event, sources: end.sources })
        }
        _ => None,
    }
}

/// The unit's length in microseconds and the time of `date_trunc('unit', time)`.
fn truncated(expr: &Expr) -> Option<(i64, &Expr)> {
    const SECOND: i64 = 1_000_000;
    let Expr::ScalarFunction(call) = expr else { return None };
    let ("date_trunc", [Expr::Literal(unit, _), time]) = (call.func.name(), &call.args[..]) else { return None };
    let size = match unit.try_as_str()??.to_ascii_lowercase().as_str() {
        "second" => SECOND,
        "minute" => 60 * SECOND,
        "hour" => 3_600 * SECOND,
        "day" => 86_400 * SECOND,
        "week" => 7 * 86_400 * SECOND,
        _ => return None,
    };
    Some((size, time))
}

/// From a window's end to its time: a millisecond, or a second in columns that count those.
fn is_window_time_gap(expr: &Expr) -> bool {
    let Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(gap)), _) = expr else { return false };
    gap.months == 0 && gap.days == 0 && matches!(gap.nanoseconds, 1_000_000 | 1_000_000_000)
}

/// Keys all of whose columns survive a projection.
fn projected_keys(keys: &[Vec<usize>], exprs: &[Expr]) -> Vec<Vec<usize>> {
    let kept = |key: &Vec<usize>| {
        key.iter().map(|column| exprs.iter().position(|expr| as_column(expr) == Some(*column))).collect::<Option<Vec<_>>>()
    };
    keys.iter().filter_map(kept).collect()
}
