//! Spellings of aggregate calls, rewritten to those that the planner takes.

use std::ops::ControlFlow;

use sqlparser::ast::{
    BinaryOperator, DuplicateTreatment, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentClause,
    FunctionArgumentList, FunctionArguments, Ident, ObjectName, Value, visit_expressions,
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
        let text = Expr::Value(Value::SingleQuotedString(expr.to_string()).with_empty_span());
        let args = [expr.clone(), text].map(|expr| FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)));
        *expr = ast_function(AS_WRITTEN, args.into(), sqlparser::tokenizer::Span::empty());
    }
}
