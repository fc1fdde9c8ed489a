//! `string_agg(x, separator)` with a separator of the row's own, as PostgreSQL has it: each text but the first comes behind its
//! separator.
//!
//! ```text
//! string_agg(x, s ORDER BY o)
//! substr(string_agg(coalesce(s, '') || x, '' ORDER BY o, x, s), length(first_value(coalesce(s, '') ORDER BY o, x, s)) + 1)
//! ```

use sqlparser::ast::{
    BinaryOperator, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentClause, FunctionArgumentList,
    FunctionArguments, OrderByExpr, OrderByOptions, Spanned, Value,
};

use super::rewrite::{arguments, call, text};

/// The call in words that the planner takes, if its separator is not a constant.
pub(super) fn rewritten(expr: &Expr) -> Option<Expr> {
    let Expr::Function(function) = expr else { return None };
    if !function.name.to_string().eq_ignore_ascii_case("string_agg") || function.over.is_some() {
        return None;
    }
    let args = arguments(function)?;
    let FunctionArguments::List(list) = &function.args else { return None };
    let [value, separator] = &args[..] else { return None };
    if is_constant(separator) || list.duplicate_treatment.is_some() {
        return None;
    }
    let span = function.name.span();
    let separator = call("coalesce", vec![separator.clone(), text("")], span);
    let written = list.clauses.iter().find_map(|clause| match clause {
        FunctionArgumentClause::OrderBy(order) => Some(order.clone()),
        _ => None,
    });
    let mut order = written.or_else(|| Some(function.within_group.clone())).unwrap_or_default();
    order.extend([value, &separator].map(|expr| ascending(expr.clone())));
    let aggregate = |name: &str, args: Vec<Expr>, filter: Option<Expr>| {
        let args = args.into_iter().map(|arg| FunctionArg::Unnamed(FunctionArgExpr::Expr(arg))).collect();
        let clauses = vec![FunctionArgumentClause::OrderBy(order.clone())];
        let list = FunctionArgumentList { duplicate_treatment: None, args, clauses };
        let mut name_parts = function.name.clone();
        if name != "string_agg" {
            name_parts = sqlparser::ast::ObjectName::from(vec![sqlparser::ast::Ident::with_span(span, name)]);
        }
        Expr::Function(Function {
            name: name_parts,
            args: FunctionArguments::List(list),
            filter: filter.map(Box::new),
            within_group: Vec::new(),
            ..function.clone()
        })
    };
    let present = Expr::IsNotNull(Box::new(Expr::Nested(Box::new(value.clone()))));
    let filter = match &function.filter {
        Some(filter) => binary(Expr::Nested(filter.clone()), BinaryOperator::And, present),
        None => present,
    };
    let behind = binary(separator.clone(), BinaryOperator::StringConcat, Expr::Nested(Box::new(value.clone())));
    let all = aggregate("string_agg", vec![behind, text("")], function.filter.as_deref().cloned());
    let first = aggregate("first_value", vec![separator], Some(filter));
    let one = Expr::Value(Value::Number("1".into(), false).with_empty_span());
    let start = binary(call("length", vec![first], span), BinaryOperator::Plus, one);
    Some(call("substr", vec![all, start], span))
}

fn is_constant(expr: &Expr) -> bool {
    match expr {
        Expr::Value(_) => true,
        Expr::Nested(inner) | Expr::Cast { expr: inner, .. } => is_constant(inner),
        _ => false,
    }
}

fn ascending(expr: Expr) -> OrderByExpr {
    OrderByExpr { expr, options: OrderByOptions { asc: None, nulls_first: None }, with_fill: None }
}

fn binary(left: Expr, op: BinaryOperator, right: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(left), op, right: Box::new(right) }
}
