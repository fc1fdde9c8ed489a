//! Spellings of aggregate calls, rewritten to those that the planner takes.

use std::ops::ControlFlow;

use sqlparser::ast::{
    BinaryOperator, DuplicateTreatment, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentClause,
    FunctionArgumentList, FunctionArguments, GroupByExpr, Ident, ObjectName, Query, SelectItem, SetExpr, Value, VisitMut,
    VisitorMut, visit_expressions, visit_expressions_mut,
};

use crate::functions::{AS_WRITTEN, is_aggregate};
use crate::parse::ast_function;

/// The call as the planner takes it, if it is spelt otherwise.
pub(super) fn rewritten(function: &Function) -> Option<Function> {
    if function.over.is_some() {
        return None;
    }
    let [name] = &function.name.0[..] else { return None };
    let name = name.as_ident()?;
    let FunctionArguments::List(list) = &function.args else { return None };
    let with = |other: &str, list: FunctionArgumentList| Function {
        name: ObjectName::from(vec![Ident::with_span(name.span, other)]),
        args: FunctionArguments::List(list),
        ..function.clone()
    };
    match name.value.to_lowercase().as_str() {
        // Counted exactly: a structure that approximates cannot take values back in less room.
        "approx_distinct" | "approx_count_distinct" if list.args.len() == 1 => {
            let duplicate_treatment = Some(DuplicateTreatment::Distinct);
            Some(with("count", FunctionArgumentList { duplicate_treatment, ..list.clone() }))
        }
        "count_if" | "countif" if list.args.len() == 1 && list.duplicate_treatment.is_none() => {
            let FunctionArg::Unnamed(FunctionArgExpr::Expr(condition)) = &list.args[0] else { return None };
            let nested = |expr: &Expr| Box::new(Expr::Nested(Box::new(expr.clone())));
            let filter = match &function.filter {
                None => Box::new(condition.clone()),
                Some(filter) => {
                    Box::new(Expr::BinaryOp { left: nested(filter), op: BinaryOperator::And, right: nested(condition) })
                }
            };
            let args = vec![FunctionArg::Unnamed(FunctionArgExpr::Wildcard)];
            let list = FunctionArgumentList { duplicate_treatment: None, args, clauses: Vec::new() };
            Some(Function { filter: Some(filter), ..with("count", list) })
        }
        // The order may stand behind as well as inside.
        inner @ ("listagg" | "string_agg" | "array_agg" | "first_value" | "last_value") if !function.within_group.is_empty() => {
            let mut list = list.clone();
            list.clauses.push(FunctionArgumentClause::OrderBy(function.within_group.clone()));
            let mut call = with(inner, list);
            call.within_group.clear();
            Some(call)
        }
        other if is_aggregate(other) && list.args.iter().any(is_cast) => {
            let mut list = list.clone();
            list.args.iter_mut().for_each(keep_as_written);
            Some(Function { args: FunctionArguments::List(list), ..function.clone() })
        }
        _ => None,
    }
}

/// Whether an argument is cast somewhere; one that is kept as written already is left alone.
fn is_cast(arg: &FunctionArg) -> bool {
    let FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) = arg else { return false };
    if matches!(expr, Expr::Function(function) if function.name.to_string() == AS_WRITTEN) {
        return false;
    }
    let search = visit_expressions(expr, |expr| match expr {
        Expr::Cast { .. } => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    search.is_break()
}

fn keep_as_written(arg: &mut FunctionArg) {
    if !is_cast(arg) {
        return;
    }
    if let FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) = arg {
        *expr = as_written(expr);
    }
}

fn as_written(expr: &Expr) -> Expr {
    let text = Expr::Value(Value::SingleQuotedString(expr.to_string()).with_empty_span());
    let args = [expr.clone(), text].map(|expr| FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)));
    ast_function(AS_WRITTEN, args.into(), sqlparser::tokenizer::Span::empty())
}

/// Group keys that differ only by a cast are kept apart, wherever the query says them.
pub(super) fn keep_keys_apart(query: &mut Query) {
    let SetExpr::Select(select) = query.body.as_mut() else { return };
    let GroupByExpr::Expressions(keys, _) = &select.group_by else { return };
    let item = |key: &Expr| -> Expr {
        let Expr::Value(value) = key else { return key.clone() };
        let place = match &value.value {
            Value::Number(number, _) => number.parse::<usize>().ok().and_then(|number| number.checked_sub(1)),
            _ => None,
        };
        match place.and_then(|place| select.projection.get(place)) {
            Some(SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) => expr.clone(),
            _ => key.clone(),
        }
    };
    let keys: Vec<Expr> = keys.iter().map(item).collect();
    let bare: Vec<Expr> = keys.iter().map(without_casts).collect();
    let has_twin = |index: usize| (0..keys.len()).any(|other| keys[other] != keys[index] && bare[other] == bare[index]);
    let apart: Vec<Expr> = (0..keys.len())
        .filter(|index| keys[*index] != bare[*index] && has_twin(*index))
        .map(|index| keys[index].clone())
        .collect();
    if apart.is_empty() {
        return;
    }
    let mut keep = KeepApart { keys: apart };
    let _ = VisitMut::visit(select.as_mut(), &mut keep);
    let _ = VisitMut::visit(&mut query.order_by, &mut keep);
}

/// An expression without its casts and parentheses.
fn without_casts(expr: &Expr) -> Expr {
    let mut expr = expr.clone();
    let _ = visit_expressions_mut(&mut expr, |expr| {
        while let Expr::Cast { expr: inner, .. } | Expr::Nested(inner) = expr {
            *expr = (**inner).clone();
        }
        ControlFlow::<()>::Continue(())
    });
    expr
}

struct KeepApart {
    keys: Vec<Expr>,
}

impl VisitorMut for KeepApart {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if self.keys.contains(expr) {
            *expr = as_written(expr);
        }
        ControlFlow::Continue(())
    }
}
