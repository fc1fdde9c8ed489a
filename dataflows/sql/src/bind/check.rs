//! What cannot be maintained, found in the syntax tree: there every construct still has its place.
//!
//! DataFusion would plan much of this to something that is silently wrong for a stream (`INTERSECT ALL`, table versions,
//! samples) or would fold it (`now()`). The same walk remembers where functions and joins stand, for errors that are only
//! found after planning.

mod limits;

use std::ops::ControlFlow;

use highwater_plan::Diagnostic;
use sqlparser::ast::{
    BinaryOperator, Distinct, Expr, Function, GroupByExpr, Join, JoinConstraint, JoinOperator, Query, Select, SelectItem,
    SetExpr, SetOperator, SetQuantifier, Spanned, TableFactor, TableVersion, Visit, Visitor,
};

use super::catalog::{Catalog, Target};
use super::clock::refuse;
use super::names::names_differ;
use super::row_values;
use super::timed::{is_timed, kind_of};
use super::tvf::is_window_function;
use super::unnest::array_function;
use super::using::not_spelled_out;
use crate::diagnose::{Construct, Failure, Item, Places, Result, error, known_place};

/// Checks a query (or an INSERT) and notes places and warnings.
pub(crate) fn check(tree: &impl Visit, catalog: &Catalog, places: &mut Places, warnings: &mut Vec<Diagnostic>) -> Result<()> {
    let mut checker = Checker { catalog, places, warnings, common: Vec::new() };
    match tree.visit(&mut checker) {
        ControlFlow::Break(failure) => Err(failure.or_at(places.statement)),
        ControlFlow::Continue(()) => Ok(()),
    }
}

struct Checker<'a> {
    catalog: &'a Catalog,
    places: &'a mut Places,
    warnings: &'a mut Vec<Diagnostic>,
    /// Names of common table expressions seen so far.
    common: Vec<String>,
}

fn later(what: &str, span: sqlparser::tokenizer::Span) -> Failure {
    error("not-supported", format!("{what} is not supported yet")).at(known_place(span))
}

impl Visitor for Checker<'_> {
    type Break = Failure;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Failure> {
        if let Some(with) = &query.with {
            self.common.extend(with.cte_tables.iter().map(|cte| cte.alias.name.value.clone()));
        }
        let limited = query.limit_clause.is_some() || query.fetch.is_some();
        if let Err(failure) = self.limits(query) {
            return ControlFlow::Break(failure);
        }
        if let (Some(order), false) = (&query.order_by, limited || is_distinct_on(&query.body)) {
            let message = "ORDER BY without LIMIT is ignored: a continuously updated result has no row order";
            self.warnings.push(
                Diagnostic::warning("order-by-ignored", message)
                    .at(known_place(order.span()).or(self.places.statement))
                    .help("sort when the view is read"),
            );
        }
        self.set_expr(&query.body)
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Failure> {
        match self.select(select) {
            Ok(()) => ControlFlow::Continue(()),
            Err(failure) => ControlFlow::Break(failure),
        }
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Failure> {
        match self.table_factor(factor) {
            Ok(()) => ControlFlow::Continue(()),
            Err(failure) => ControlFlow::Break(failure),
        }
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Failure> {
        match self.expr(expr) {
            Ok(()) => ControlFlow::Continue(()),
            Err(failure) => ControlFlow::Break(failure),
        }
    }
}

impl Checker<'_> {
    fn set_expr(&mut self, body: &SetExpr) -> ControlFlow<Failure> {
        let SetExpr::SetOperation { op, set_quantifier, left, right } = body else { return ControlFlow::Continue(()) };
        let span = right.span();
        match op {
            SetOperator::Union => {
                let all = matches!(set_quantifier, SetQuantifier::All | SetQuantifier::AllByName);
                if !all && let Some(place) = known_place(span) {
                    self.places.constructs.push((Construct::Distinct, place));
                }
            }
            SetOperator::Intersect | SetOperator::Except | SetOperator::Minus => {
                let by_name =
                    matches!(set_quantifier, SetQuantifier::ByName | SetQuantifier::AllByName | SetQuantifier::DistinctByName);
                if by_name {
                    return ControlFlow::Break(later(&format!("{op} BY NAME"), span).help("name the columns in one order"));
                }
            }
        }
        self.set_expr(left)?;
        self.set_expr(right)
    }

    fn select(&mut self, select: &Select) -> Result<()> {
        if matches!(select.distinct, Some(Distinct::Distinct))
            && let Some(span) = known_place(select.select_token.0.span)
        {
            self.places.constructs.push((Construct::Distinct, span));
        }
        if let Some(top) = &select.top {
            return Err(later(&top.to_string(), select.select_token.0.span));
        }
        if let Some(view) = select.lateral_views.first() {
            return Err(later("LATERAL VIEW", view.lateral_view.span()).help("write CROSS JOIN UNNEST(array) AS t(item)"));
        }
        if let GroupByExpr::Expressions(_, modifiers) | GroupByExpr::All(modifiers) = &select.group_by
            && let Some(modifier) = modifiers.first()
        {
            return Err(later(&format!("GROUP BY ... {modifier}"), select.select_token.0.span)
                .help("write GROUP BY ROLLUP (..), CUBE (..) or GROUPING SETS (..)"));
        }
        names_differ(select)?;
        values_without_clock(select)?;
        if let Some(failure) = not_spelled_out(select) {
            return Err(failure);
        }
        self.items(select);
        for condition in select.selection.iter().chain(&select.having).chain(&select.qualify) {
            if let Some(span) = known_place(condition.span()) {
                self.places.constructs.push((Construct::Condition, span));
            }
        }
        if select.from.len() > 1
            && let Some(span) = known_place(select.from[1].relation.span())
        {
            self.places.constructs.push((Construct::CrossJoin, span));
        }
        for table in &select.from {
            for join in &table.joins {
                if is_timed(join) {
                    self.timed_join(join)?;
                } else {
                    lateral_side(join)?;
                    self.join(&join.join_operator, join.relation.span())?;
                }
            }
        }
        Ok(())
    }

    /// Remembers the expressions, to find those that fail on a row.
    fn items(&mut self, select: &Select) {
        let mut exprs: Vec<&Expr> = Vec::new();
        for item in &select.projection {
            if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
                exprs.push(expr);
            }
        }
        if let GroupByExpr::Expressions(keys, _) = &select.group_by {
            exprs.extend(keys);
        }
        for condition in select.selection.iter().chain(&select.having) {
            conjuncts(condition, &mut exprs);
        }
        for join in select.from.iter().flat_map(|table| &table.joins) {
            if let Some(JoinConstraint::On(condition)) = constraint(&join.join_operator) {
                conjuncts(condition, &mut exprs);
            }
        }
        self.places.items.extend(exprs.into_iter().filter_map(Item::new));
    }

    fn join(&mut self, operator: &JoinOperator, span: sqlparser::tokenizer::Span) -> Result<()> {
        use JoinOperator as J;
        let construct = match operator {
            J::Join(_) | J::Inner(_) | J::StraightJoin(_) => Construct::InnerJoin,
            J::CrossJoin(_) => Construct::CrossJoin,
            J::Left(_) | J::LeftOuter(_) | J::Right(_) | J::RightOuter(_) | J::FullOuter(_) => Construct::OuterJoin,
            J::Semi(_) | J::LeftSemi(_) | J::RightSemi(_) => Construct::OuterJoin,
            J::Anti(_) | J::LeftAnti(_) | J::RightAnti(_) => Construct::OuterJoin,
            J::AsOf { .. } => return Err(later("ASOF JOIN", span)),
            J::CrossApply | J::OuterApply => {
                return Err(
                    later("APPLY", span).help("write CROSS JOIN LATERAL (SELECT ...), or LEFT JOIN LATERAL (SELECT ...) ON TRUE")
                );
            }
            J::ArrayJoin | J::LeftArrayJoin | J::InnerArrayJoin => return Err(later("ARRAY JOIN", span)),
        };
        if let Some(place) = known_place(span) {
            self.places.constructs.push((construct, place));
        }
        Ok(())
    }

    fn timed_join(&mut self, join: &Join) -> Result<()> {
        kind_of(join)?;
        self.places.constructs.extend(known_place(join.relation.span()).map(|place| (Construct::TimedJoin, place)));
        Ok(())
    }

    fn table_factor(&mut self, factor: &TableFactor) -> Result<()> {
        let span = factor.span();
        match factor {
            TableFactor::Table { name, args, with_hints, version, sample, index_hints, with_ordinality, .. } => {
                if version.as_ref().is_some_and(|version| !matches!(version, TableVersion::ForSystemTimeAsOf(_))) {
                    return Err(later("this version of a table", span).help("write FOR SYSTEM_TIME AS OF"));
                }
                if sample.is_some() {
                    return Err(later("TABLESAMPLE", span)
                        .help("keep rows by a condition on their columns, so that a retraction meets its row: WHERE mod(id, 10) = 0"));
                }
                if !with_hints.is_empty() || !index_hints.is_empty() {
                    return Err(error("not-supported", "table hints are not supported")
                        .at(known_place(span))
                        .help("remove them"));
                }
                let text = name.to_string().to_lowercase();
                if args.is_some() {
                    self.places.functions.extend(known_place(name.span()).map(|place| (text.clone(), place)));
                    if array_function(&text).is_some() {
                        return Ok(());
                    }
                    if *with_ordinality {
                        return Err(error("wrong-arguments", "only UNNEST and functions that give rows take WITH ORDINALITY")
                            .at(known_place(span)));
                    }
                    return window_function(&text, span);
                }
                self.readable(name)
            }
            TableFactor::TableFunction { expr: Expr::Function(function), .. } => {
                window_function(&function.name.to_string().to_lowercase(), function.name.span())
            }
            TableFactor::Function { name, .. } => {
                let text = name.to_string().to_lowercase();
                self.places.functions.extend(known_place(name.span()).map(|place| (text.clone(), place)));
                if array_function(&text).is_some() { Ok(()) } else { window_function(&text, name.span()) }
            }
            TableFactor::Derived { .. } | TableFactor::NestedJoin { .. } => Ok(()),
            TableFactor::UNNEST { with_offset, array_exprs, .. } => {
                let place = array_exprs.first().and_then(|expr| known_place(expr.span())).or(known_place(span));
                self.places.functions.extend(place.map(|place| ("unnest".to_string(), place)));
                if *with_offset {
                    return Err(later("WITH OFFSET", span).help("WITH ORDINALITY counts items from 1"));
                }
                Ok(())
            }
            TableFactor::MatchRecognize { .. } => Err(later("MATCH_RECOGNIZE", span).help(
                "compare a row with those before it by lag(x) OVER (PARTITION BY k ORDER BY ts), or join the events on their times: \
                 b.ts BETWEEN a.ts AND a.ts + INTERVAL '1' HOUR",
            )),
            TableFactor::Pivot { .. } => {
                Err(later("PIVOT", span).help("write sum(x) FILTER (WHERE k = 1) AS k1, ... for each column"))
            }
            TableFactor::Unpivot { .. } => {
                Err(later("UNPIVOT", span).help("write CROSS JOIN LATERAL (VALUES ('a', a), ('b', b)) AS t(name, value)"))
            }
            _ => Err(later("this kind of relation", span)),
        }
    }

    /// Sinks are written, not read.
    fn readable(&self, name: &sqlparser::ast::ObjectName) -> Result<()> {
        let Some(last) = name.0.last().and_then(|part| part.as_ident()) else { return Ok(()) };
        if self.common.contains(&last.value) {
            return Ok(());
        }
        let place = known_place(name.span());
        match self.catalog.relation(&last.value) {
            Some(relation) if matches!(relation.target, Target::Sink(_)) => {
                Err(error("sink-read", format!("'{}' is a sink and cannot be read", last.value))
                    .at(place)
                    .help("read the view that the sink writes"))
            }
            Some(_) => Ok(()),
            None => Err(self.catalog.unknown_relation(&last.value).at(place)),
        }
    }

    fn expr(&mut self, expr: &Expr) -> Result<()> {
        match expr {
            Expr::Function(function) => self.function(function),
            Expr::AnyOp { right, .. } | Expr::AllOp { right, .. } if !matches!(**right, Expr::Subquery(_)) => Ok(()),
            Expr::AnyOp { compare_op, .. } | Expr::AllOp { compare_op, .. } if !compares(compare_op) => {
                Err(later(&format!("{compare_op} ANY or ALL of a subquery"), expr.span())
                    .help("compare with =, <>, <, <=, > or >=, or write EXISTS (SELECT ... WHERE ...)"))
            }
            Expr::Like { any: true, .. } | Expr::ILike { any: true, .. } => {
                Err(later("LIKE ANY", expr.span())
                    .help("write a LIKE for each pattern, or EXISTS (SELECT ... WHERE ... LIKE ...)"))
            }
            Expr::AnyOp { .. } => Ok(()),
            Expr::AllOp { .. } => {
                self.places.constructs.extend(known_place(expr.span()).map(|place| (Construct::NotIn, place)));
                Ok(())
            }
            Expr::Identifier(ident) => {
                self.places.idents.extend(known_place(ident.span).map(|place| (ident.value.clone(), place)));
                Ok(())
            }
            Expr::CompoundIdentifier(idents) => {
                let named = idents.iter().filter_map(|ident| Some((ident.value.clone(), known_place(ident.span)?)));
                self.places.idents.extend(named);
                Ok(())
            }
            Expr::Substring { substring_from: None, substring_for: None, expr: text, .. } => {
                Err(error("wrong-arguments", "substring() needs a start")
                    .at(known_place(text.span()))
                    .help("write substring(text FROM start FOR length), or substr(text, start, length)"))
            }
            Expr::Subquery(_) | Expr::Exists { .. } | Expr::InSubquery { .. } => {
                if let Expr::InSubquery { expr: row, subquery, .. } = expr
                    && let (Some(parts), Some(width)) = (row_values::parts(row), row_values::width(subquery))
                    && parts.len() != width
                {
                    return Err(error("column-count", format!("a row of {} columns is looked for in {width}", parts.len()))
                        .at(known_place(subquery.span()).or(known_place(expr.span())))
                        .help("select as many columns as the row has"));
                }
                if let Some(span) = known_place(expr.span()) {
                    self.places.constructs.push((Construct::Subquery, span));
                    if let Expr::InSubquery { negated: true, .. } = expr {
                        self.places.constructs.push((Construct::NotIn, span));
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn function(&mut self, function: &Function) -> Result<()> {
        let name = function.name.to_string().to_lowercase();
        let span = function.name.span();
        if let Some(place) = known_place(span) {
            self.places.functions.push((name.clone(), place));
        }
        match name.as_str() {
            "current_watermark" => {
                let message = "CURRENT_WATERMARK() would depend on how rows were read, not on the rows alone";
                Err(error("changing-function", message).at(known_place(span)).help(
                    "late rows are told apart already: they go to <source>$late; give the event time to a view with EMIT FINAL",
                ))
            }
            "tumble_proctime" | "hop_proctime" | "session_proctime" | "cumulate_proctime" => {
                let window = name.trim_end_matches("_proctime").to_uppercase();
                Err(error("not-supported", format!("{}() is no value of a window's rows", name.to_uppercase()))
                    .at(known_place(span))
                    .help(format!("{window}_END(..) is when the window closes")))
            }
            "rand_integer" | "group_id" | "current_database" => {
                let help = match name.as_str() {
                    "rand_integer" => "make a number of the row's columns: mod(ascii(md5(id)), 10)",
                    "group_id" => "no grouping is there twice, so it would be 0",
                    _ => "all relations of a job stand in one namespace",
                };
                Err(error("not-supported", format!("{name}() is not supported")).at(known_place(span)).help(help))
            }
            "current_time" | "localtime" => {
                let message = format!("{} turns over every day: a condition on it cannot be maintained", name.to_uppercase());
                Err(error("changing-function", message).at(known_place(span)).help("compare with NOW()"))
            }
            _ => Ok(()),
        }
    }
}

/// A LATERAL relation reads what stands to its left, so there is nothing for rows of its own.
fn lateral_side(join: &Join) -> Result<()> {
    use JoinOperator as J;
    let lateral = matches!(&join.relation, TableFactor::Derived { lateral: true, .. });
    let keeps_right =
        matches!(join.join_operator, J::Right(_) | J::RightOuter(_) | J::FullOuter(_) | J::RightSemi(_) | J::RightAnti(_));
    match lateral && keeps_right {
        true => Err(error("not-supported", "LATERAL stands to the right of an inner join or a LEFT JOIN")
            .at(known_place(join.relation.span()))
            .help("write FROM a LEFT JOIN LATERAL (SELECT ...) AS b ON TRUE")),
        false => Ok(()),
    }
}

fn compares(operator: &BinaryOperator) -> bool {
    use BinaryOperator as B;
    matches!(operator, B::Eq | B::NotEq | B::Lt | B::LtEq | B::Gt | B::GtEq)
}

/// What a join asks of its pairs.
fn constraint(operator: &JoinOperator) -> Option<&JoinConstraint> {
    use JoinOperator as J;
    match operator {
        J::Join(c) | J::Inner(c) | J::StraightJoin(c) | J::CrossJoin(c) => Some(c),
        J::Left(c) | J::LeftOuter(c) | J::Right(c) | J::RightOuter(c) | J::FullOuter(c) => Some(c),
        J::Semi(c) | J::LeftSemi(c) | J::RightSemi(c) | J::Anti(c) | J::LeftAnti(c) | J::RightAnti(c) => Some(c),
        J::AsOf { constraint, .. } => Some(constraint),
        J::CrossApply | J::OuterApply | J::ArrayJoin | J::LeftArrayJoin | J::InnerArrayJoin => None,
    }
}

/// What a query selects and groups by is a value of its rows: it does not change with the clock.
fn values_without_clock(select: &Select) -> Result<()> {
    for item in &select.projection {
        if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
            refuse(expr, "it is selected")?;
        }
    }
    if let GroupByExpr::Expressions(exprs, _) = &select.group_by {
        exprs.iter().try_for_each(|expr| refuse(expr, "it is grouped by"))?;
    }
    Ok(())
}

/// DISTINCT ON takes its rows by the order of its query.
fn is_distinct_on(body: &SetExpr) -> bool {
    matches!(body, SetExpr::Select(select) if matches!(select.distinct, Some(Distinct::On(_))))
}

/// The parts of `a AND b AND c`.
fn conjuncts<'a>(expr: &'a Expr, parts: &mut Vec<&'a Expr>) {
    match expr {
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
            conjuncts(left, parts);
            conjuncts(right, parts);
        }
        Expr::Nested(inner) => conjuncts(inner, parts),
        other => parts.push(other),
    }
}

fn window_function(name: &str, span: sqlparser::tokenizer::Span) -> Result<()> {
    match name {
        name if is_window_function(name) => Ok(()),
        "gap_fill" => Err(error("not-supported", "GAP_FILL is not supported: no row is made for a time at which there is none")
            .at(known_place(span))
            .help("LEFT JOIN the rows to a table of the times that are wanted, and COALESCE what is missing")),
        name => Err(error("unknown-function", format!("unknown table function '{name}'"))
            .at(known_place(span))
            .help("table functions are TUMBLE, HOP, CUMULATE and SESSION")),
    }
}
