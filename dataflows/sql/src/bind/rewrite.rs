//! A pre-pass over the syntax tree for spellings that DataFusion's planner has no hook for, and for column names.

use std::ops::ControlFlow;

use sqlparser::ast::{
    BinaryOperator, CastKind, CeilFloorKind, DataType, DateTimeField, Expr, Function, FunctionArg, FunctionArgExpr,
    FunctionArguments, Ident, Interval, JoinOperator, Query, Select, SelectItem, Spanned, TableFactor, TimezoneInfo, Value,
    VisitMut, VisitorMut,
};
use sqlparser::tokenizer::Span;

use super::aggregate_calls;
use super::interval::product;
use super::names::name_items;
use super::ordered::fetch_as_limit;
use super::set_operation::rewrite_body;
use super::spelling::spelled;
use super::timed::{nest, nest_within};
use super::tvf::is_window_function;
use super::unnest::array_items;
use crate::parse::ast_function;

/// Rewrites a query, statement or expression in place.
pub(crate) fn rewrite(tree: &mut impl VisitMut) {
    let _ = VisitMut::visit(tree, &mut Rewriter);
}

struct Rewriter;

impl VisitorMut for Rewriter {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        rewrite_body(&mut query.body);
        fetch_as_limit(query);
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        name_items(select);
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

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        nest_within(factor);
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::Function(function) = expr
            && let Some(better) = aggregate_calls::rewritten(function)
        {
            *function = better;
        }
        if let Some(better) = rewritten(expr) {
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
            let unit = text(&field.to_string().to_lowercase());
            Some(call("date_trunc", vec![unit, (**inner).clone()], expr.span()))
        }
        Expr::BinaryOp { left, op, right } => product(left, op, right).map(|text| interval(&text)),
        Expr::Function(function) if function.name.0.len() == 1 && function.over.is_none() => {
            let name = function.name.0[0].as_ident()?;
            rewritten_call(&name.value.to_lowercase(), arguments(function)?, name.span)
        }
        _ => None,
    }
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

/// Names by which the relations of a FROM can be addressed; `None` if that cannot be told.
pub(super) fn relation_names(select: &Select) -> Option<Vec<String>> {
    let mut names = Vec::new();
    for table in &select.from {
        for factor in std::iter::once(&table.relation).chain(table.joins.iter().map(|join| &join.relation)) {
            names.extend(names_of(factor)?);
        }
    }
    Some(names)
}

fn names_of(factor: &TableFactor) -> Option<Vec<String>> {
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
        (Some(alias), _) => vec![alias.name.value.to_lowercase()],
        (None, Some(name)) => vec![name.value.to_lowercase()],
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
