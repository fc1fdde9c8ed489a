//! A pre-pass over the syntax tree for spellings that DataFusion's planner has no hook for, and for column names.

use std::ops::ControlFlow;

use sqlparser::ast::{
    BinaryOperator, CastKind, CeilFloorKind, DataType, DateTimeField, ExactNumberInfo, Expr, Function, FunctionArg,
    FunctionArgExpr, FunctionArguments, GroupByExpr, Ident, Interval, JoinOperator, ObjectNamePart, Query, Select, SelectItem,
    SelectItemQualifiedWildcardKind, Spanned, TableFactor, TimezoneInfo, Value, VisitMut, VisitorMut,
};
use sqlparser::tokenizer::Span;

use super::aggregate_calls;
use super::interval::{plainer, product};
use super::names::{name_items, name_twins};
use super::ordered::fetch_as_limit;
use super::row_values;
use super::scopes::Scopes;
use super::separators;
use super::set_operation::rewrite_body;
use super::spelling::spelled;
use super::timed::{nest, nest_within};
use super::tvf::is_window_function;
use super::unnest::{array_items, rows_of_items};
use super::using::{spell_out, spell_out_query};
use crate::functions::TRUNC_YEARS;
use crate::parse::ast_function;

/// Rewrites a query, statement or expression in place.
pub(crate) fn rewrite(tree: &mut impl VisitMut) {
    let _ = VisitMut::visit(tree, &mut Rewriter::default());
}

#[derive(Default)]
struct Rewriter {
    scopes: Scopes,
}

impl VisitorMut for Rewriter {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        rewrite_body(&mut query.body);
        for common in query.with.iter_mut().flat_map(|with| &mut with.cte_tables) {
            let columns: Vec<Ident> = common.alias.columns.iter().map(|column| column.name.clone()).collect();
            name_twins(&mut common.query.body, &columns);
        }
        spell_out_query(query, &|_| None);
        aggregate_calls::keep_keys_apart(query);
        fetch_as_limit(query);
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        spell_out(select, &|_| None);
        spell_stars(select);
        group_all(select);
        name_items(select);
        rows_of_items(select);
        self.scopes.enter(select);
        array_items(&mut select.from);
        for join in select.from.iter_mut().flat_map(|table| &mut table.joins) {
            // The side that is kept is the left one, said or not.
            join.join_operator = match join.join_operator.clone() {
                JoinOperator::Semi(constraint) => JoinOperator::LeftSemi(constraint),
                JoinOperator::Anti(constraint) => JoinOperator::LeftAnti(constraint),
                JoinOperator::StraightJoin(constraint) => JoinOperator::Inner(constraint),
                other => other,
            };
        }
        select.from.iter_mut().for_each(nest);
        ControlFlow::Continue(())
    }

    fn post_visit_select(&mut self, _: &mut Select) -> ControlFlow<()> {
        self.scopes.leave();
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        self.scopes.enter_relation(matches!(factor, TableFactor::Derived { lateral: true, .. }));
        if let TableFactor::Derived { subquery, alias: Some(alias), .. } = factor {
            let columns: Vec<Ident> = alias.columns.iter().map(|column| column.name.clone()).collect();
            name_twins(&mut subquery.body, &columns);
        }
        nest_within(factor);
        ControlFlow::Continue(())
    }

    fn post_visit_table_factor(&mut self, _: &mut TableFactor) -> ControlFlow<()> {
        self.scopes.leave_relation();
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        self.scopes.qualify(expr);
        if let Expr::Function(function) = expr
            && let Some(better) = aggregate_calls::rewritten(function)
        {
            *function = better;
        }
        if let Some(better) = rewritten(expr) {
            *expr = better;
        }
        if let Some(better) = row_values::rewritten(expr).or_else(|| separators::rewritten(expr)) {
            *expr = better;
        }
        if let Some(better) = spelled(expr) {
            *expr = better;
            // It may be made of what has another spelling itself.
            return VisitMut::visit(expr, self);
        }
        ControlFlow::Continue(())
    }
}

/// The positional arguments of a call.
pub(super) fn arguments(function: &Function) -> Option<Vec<Expr>> {
    match &function.args {
        FunctionArguments::List(list) => list
            .args
            .iter()
            .map(|arg| match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
                _ => None,
            })
            .collect(),
        FunctionArguments::None => Some(Vec::new()),
        FunctionArguments::Subquery(_) => None,
    }
}

fn rewritten(expr: &Expr) -> Option<Expr> {
    match expr {
        Expr::AnyOp { left, compare_op: BinaryOperator::Eq, right, .. } => among(left, right, false),
        Expr::AllOp { left, compare_op: BinaryOperator::NotEq, right } => among(left, right, true),
        Expr::Floor { expr: inner, field: CeilFloorKind::DateTimeField(field) } if *field != DateTimeField::NoDateTime => {
            let unit = field.to_string().to_lowercase();
            // Calcite's weeks begin on Sunday here, those of date_trunc on Monday.
            if unit == "week" {
                return Some(week_from_sunday((**inner).clone(), expr.span()));
            }
            Some(call("date_trunc", vec![text(&unit), (**inner).clone()], expr.span()))
        }
        Expr::Value(value) if matches!(&value.value, Value::Number(number, _) if too_wide(number)) => {
            let Value::Number(number, _) = &value.value else { return None };
            Some(cast(text(number), DataType::Double(ExactNumberInfo::None)))
        }
        Expr::Interval(written) => plainer(written).map(|text| interval(&text)),
        Expr::BinaryOp { left, op, right } => product(left, op, right).map(|text| interval(&text)),
        Expr::Function(function) if function.name.0.len() == 1 && function.over.is_none() => {
            let name = function.name.0[0].as_ident()?;
            rewritten_call(&name.value.to_lowercase(), arguments(function)?, name.span)
        }
        _ => None,
    }
}

/// The Sunday before a time, or its own.
fn week_from_sunday(time: Expr, span: Span) -> Expr {
    let day = interval("1 day");
    let monday = call("date_trunc", vec![text("week"), binary(time, BinaryOperator::Plus, day.clone())], span);
    Expr::Nested(Box::new(binary(monday, BinaryOperator::Minus, day)))
}

/// `= ANY (subquery)` is `IN`, `<> ALL (subquery)` is `NOT IN`.
fn among(left: &Expr, right: &Expr, negated: bool) -> Option<Expr> {
    let Expr::Subquery(subquery) = right else { return None };
    Some(Expr::InSubquery { expr: Box::new(left.clone()), subquery: subquery.clone(), negated })
}

fn rewritten_call(name: &str, mut args: Vec<Expr>, span: Span) -> Option<Expr> {
    if let Some((window, part)) = name.rsplit_once('_')
        && is_window_function(window)
    {
        let field = |window: Expr, field: &str| call("get_field", vec![window, text(field)], span);
        let marker = call(window, args, span);
        return match part {
            "start" => Some(field(marker, "window_start")),
            "end" => Some(field(marker, "window_end")),
            "rowtime" => Some(binary(field(marker, "window_end"), BinaryOperator::Minus, interval("0.001 seconds"))),
            _ => None,
        };
    }
    match (name, args.len()) {
        // Digits of a second are not cut: the clock has three.
        ("now" | "current_timestamp", 0 | 1) => Some(call("now", Vec::new(), span)),
        ("localtimestamp", 0 | 1) => Some(cast(call("now", Vec::new(), span), DataType::Timestamp(None, TimezoneInfo::None))),
        ("current_date" | "today", 0) => Some(cast(call("now", Vec::new(), span), DataType::Date)),
        // Of what is longer than a year DataFusion knows nothing.
        ("date_trunc", 2) => {
            let years = match unit(&args[0])?.as_str() {
                "decade" | "decades" => "10",
                "century" | "centuries" => "100",
                "millennium" | "millenniums" | "millennia" => "1000",
                _ => return None,
            };
            args[0] = Expr::Value(Value::Number(years.into(), false).with_empty_span());
            Some(call(TRUNC_YEARS, args, span))
        }
        ("mod", 2) => {
            let divisor = args.pop()?;
            Some(Expr::Nested(Box::new(binary(args.pop()?, BinaryOperator::Modulo, divisor))))
        }
        ("timestampadd", 3) => {
            let (time, count, unit) = (args.pop()?, args.pop()?, unit(&args.pop()?)?);
            let Expr::Value(value) = &count else {
                return Some(call("timestampadd", vec![text(&unit), count, time], span));
            };
            let length = interval(&format!("{} {unit}", value.value));
            Some(Expr::Nested(Box::new(binary(time, BinaryOperator::Plus, length))))
        }
        ("timestampdiff", 3) => {
            let unit = unit(&args[0])?;
            args[0] = text(&unit);
            Some(call("timestampdiff", args, span))
        }
        _ => None,
    }
}

/// A unit of time written as a bare word or a string.
fn unit(expr: &Expr) -> Option<String> {
    let word = match expr {
        Expr::Identifier(name) => name.value.to_lowercase(),
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => text.to_lowercase(),
            _ => return None,
        },
        _ => return None,
    };
    Some(word.strip_prefix("sql_tsi_").unwrap_or(&word).to_string())
}

pub(super) fn call(name: &str, args: Vec<Expr>, span: Span) -> Expr {
    ast_function(name, args.into_iter().map(|arg| FunctionArg::Unnamed(FunctionArgExpr::Expr(arg))).collect(), span)
}

pub(super) fn text(value: &str) -> Expr {
    Expr::Value(Value::SingleQuotedString(value.into()).with_empty_span())
}

fn cast(expr: Expr, data_type: DataType) -> Expr {
    Expr::Cast { kind: CastKind::Cast, expr: Box::new(expr), data_type, array: false, format: None }
}

fn binary(left: Expr, op: BinaryOperator, right: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(left), op, right: Box::new(right) }
}

pub(super) fn interval(value: &str) -> Expr {
    Expr::Interval(Interval {
        value: Box::new(text(value)),
        leading_field: None,
        leading_precision: None,
        last_field: None,
        fractional_seconds_precision: None,
    })
}

/// `c.*` of a relation `C` is its `C.*`, unless there is a `c` as well.
fn spell_stars(select: &mut Select) {
    let Some(relations) = relation_idents(select) else { return };
    for item in &mut select.projection {
        let SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _) = item else { continue };
        let [part] = &mut name.0[..] else { continue };
        let Some(written) = part.as_ident() else { continue };
        let mut meant = relations.iter().filter(|relation| relation.value.eq_ignore_ascii_case(&written.value));
        if let (Some(one), None) = (meant.next(), meant.next())
            && one.value != written.value
        {
            *part = ObjectNamePart::Identifier(Ident { span: written.span, ..one.clone() });
        }
    }
}

/// `GROUP BY ()` is one group, also of no rows: that of an aggregate without keys.
fn group_all(select: &mut Select) {
    let GroupByExpr::Expressions(keys, _) = &mut select.group_by else { return };
    let before = keys.len();
    keys.retain(|key| !matches!(key, Expr::Tuple(parts) if parts.is_empty()));
    if keys.len() == before || !keys.is_empty() {
        return;
    }
    let number = |digits: &str| Expr::Value(Value::Number(digits.into(), false).with_empty_span());
    let count = call("count", vec![number("1")], select.select_token.0.span);
    let one_group = binary(count, BinaryOperator::GtEq, number("0"));
    select.having = Some(match select.having.take() {
        Some(having) => binary(Expr::Nested(Box::new(having)), BinaryOperator::And, one_group),
        None => one_group,
    });
}

/// A number that no decimal has room for, such as `1e300`.
fn too_wide(number: &str) -> bool {
    let Some((mantissa, exponent)) = number.split_once(['e', 'E']) else { return false };
    let Ok(exponent) = exponent.parse::<i64>() else { return false };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let before = whole.trim_start_matches('0').len() as i64 + exponent;
    let behind = fraction.len() as i64 - exponent;
    before.max(0) + behind.max(0) > 38
}

/// Names by which the relations of a FROM can be addressed, in lower case; `None` if that cannot be told.
pub(super) fn relation_names(select: &Select) -> Option<Vec<String>> {
    Some(relation_idents(select)?.into_iter().map(|name| name.value.to_lowercase()).collect())
}

/// The same, as they are written.
pub(super) fn relation_idents(select: &Select) -> Option<Vec<Ident>> {
    let mut names = Vec::new();
    for table in &select.from {
        for factor in std::iter::once(&table.relation).chain(table.joins.iter().map(|join| &join.relation)) {
            names.extend(names_of(factor)?);
        }
    }
    Some(names)
}

fn names_of(factor: &TableFactor) -> Option<Vec<Ident>> {
    let (alias, name) = match factor {
        TableFactor::Table { alias, name, args, .. } => {
            let name = match args {
                Some(args) => args.args.first().and_then(|arg| match arg {
                    FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => table_name(expr),
                    _ => None,
                }),
                None => name.0.last().and_then(|part| part.as_ident()).cloned(),
            };
            (alias, name)
        }
        TableFactor::Derived { alias, .. } | TableFactor::UNNEST { alias, .. } | TableFactor::Function { alias, .. } => {
            (alias, None)
        }
        TableFactor::TableFunction { expr: Expr::Function(function), alias } => {
            (alias, arguments(function).and_then(|args| table_name(args.first()?)))
        }
        _ => return None,
    };
    Some(match (alias, name) {
        (Some(alias), _) => vec![alias.name.clone()],
        (None, Some(name)) => vec![name],
        (None, None) => Vec::new(),
    })
}

/// An unaliased `TUMBLE(TABLE bid, ..)` keeps the name of its argument.
fn table_name(expr: &Expr) -> Option<Ident> {
    match expr {
        Expr::Identifier(name) => Some(name.clone()),
        Expr::CompoundIdentifier(names) => names.last().cloned(),
        Expr::Function(function) => table_name(arguments(function)?.first()?),
        _ => None,
    }
}

/// Whether an item's expression is renamed by DataFusion although it is only a field of a column.
pub(super) fn is_field_access(item: &SelectItem, relations: &[String]) -> Option<Ident> {
    let SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts)) = item else { return None };
    let first = parts.first()?.value.to_lowercase();
    let field = parts.len() > 2 || !relations.contains(&first);
    if field { parts.last().cloned() } else { None }
}
