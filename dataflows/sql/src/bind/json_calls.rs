//! JSON functions and aggregates in other words: RETURNING is a cast, `JSON_ARRAYAGG` an array of what `array_agg` collects,
//! `COLLECT` a multiset of it. So they are maintained as `array_agg` is.

use sqlparser::ast::{
    BinaryOperator, CastKind, DataType, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentClause,
    FunctionArgumentList, FunctionArguments, Ident, JsonNullClause, ObjectName, Spanned, Value,
};

use super::rewrite::{call, text};
use super::spelling::template;

/// A scalar call in other words, by its name in lower case.
pub(super) fn json_call(name: &str, function: &Function, list: &FunctionArgumentList) -> Option<Expr> {
    match name {
        "json_value" | "json_query" => returning(name, function, list),
        "json_object" => object(function, list),
        "json_array" if absent(list) == Some(false) => {
            Some(call("json_array_with_nulls", positional(list)?.into_iter().map(kept).collect(), function.name.span()))
        }
        "json_array"
        | "json_build_array"
        | "jsonb_build_array"
        | "json_array_with_nulls"
        | "json_build_object"
        | "jsonb_build_object"
        | "json_object_absent" => {
            let args = positional(list)?;
            let nested = |expr: &Expr| is_json(expr);
            (absent(list).is_some() || args.iter().any(nested))
                .then(|| call(name, args.into_iter().map(kept).collect(), function.name.span()))
        }
        _ => None,
    }
}

/// `JSON_VALUE(.. RETURNING type ..)`: a cast, that follows ON ERROR if it fails.
fn returning(name: &str, function: &Function, list: &FunctionArgumentList) -> Option<Expr> {
    let data_type = list.clauses.iter().find_map(|clause| match clause {
        FunctionArgumentClause::JsonReturningClause(returning) => Some(returning.data_type.clone()),
        _ => None,
    })?;
    let mut plain = function.clone();
    if let FunctionArguments::List(list) = &mut plain.args {
        list.clauses.retain(|clause| !matches!(clause, FunctionArgumentClause::JsonReturningClause(_)));
    }
    let plain = Expr::Function(plain);
    let cast =
        |kind, expr: Expr| Expr::Cast { kind, expr: Box::new(expr), data_type: data_type.clone(), array: false, format: None };
    if name == "json_query" {
        return Some(match data_type {
            DataType::Array(_) => cast(CastKind::Cast, template("json_array_elements_text($1)", &[plain])?),
            _ => cast(CastKind::Cast, plain),
        });
    }
    let args = positional(list)?;
    let word = |index: usize| match args.get(index) {
        Some(Expr::Value(value)) => match &value.value {
            Value::SingleQuotedString(word) => Some(word.as_str()),
            _ => None,
        },
        _ => None,
    };
    match (word(3), args.get(5)) {
        (Some("error"), _) => Some(cast(CastKind::Cast, plain)),
        (Some("default"), Some(default)) => {
            let tried = cast(CastKind::TryCast, plain.clone());
            let default = cast(CastKind::Cast, default.clone());
            template("CASE WHEN $1 IS NULL THEN NULL ELSE coalesce($2, $3) END", &[plain, tried, default])
        }
        _ => Some(cast(CastKind::TryCast, plain)),
    }
}

/// `JSON_OBJECT('a' VALUE 1, .. [NULL | ABSENT ON NULL])`.
fn object(function: &Function, list: &FunctionArgumentList) -> Option<Expr> {
    let pairs = named(list);
    let args: Vec<Expr> = match &pairs {
        Some(pairs) => pairs.iter().flat_map(|(name, value)| [name.clone(), kept(value.clone())]).collect(),
        None => positional(list)?.into_iter().map(kept).collect(),
    };
    let name = if absent(list) == Some(true) { "json_object_absent" } else { "json_object" };
    let same = pairs.is_none() && absent(list).is_none() && positional(list)? == args;
    (!same).then(|| call(name, args, function.name.span()))
}

/// An aggregate in other words, by its name in lower case.
pub(super) fn aggregate(name: &str, function: &Function, list: &FunctionArgumentList) -> Option<Expr> {
    let span = function.name.span();
    match name {
        "json_arrayagg" => {
            let [value] = &positional(list)?[..] else { return None };
            let present = (absent(list) != Some(false)).then_some(value);
            Some(call("json_list", vec![collected(function, list, kept(value.clone()), present)], span))
        }
        "json_objectagg" => {
            let pair = match (named(list), positional(list)) {
                (Some(pairs), _) => pairs,
                (None, Some(args)) => vec![(args.first()?.clone(), args.get(1)?.clone())],
                _ => return None,
            };
            let [(name, value)] = &pair[..] else { return None };
            let present = (absent(list) == Some(true)).then_some(value);
            let pair = template("struct(CAST($1 AS VARCHAR), $2)", &[name.clone(), kept(value.clone())])?;
            Some(call("json_pairs", vec![collected(function, list, pair, present)], span))
        }
        "collect" => {
            let [value] = &positional(list)?[..] else { return None };
            Some(call("multiset", vec![collected(function, list, value.clone(), Some(value))], span))
        }
        // Of several fractions an array.
        "percentile" => {
            let args = positional(list)?;
            let [value, fractions] = &args[..] else { return None };
            let one = |fraction: &Expr| {
                let args = [value.clone(), fraction.clone()].map(|arg| FunctionArg::Unnamed(FunctionArgExpr::Expr(arg)));
                let list = FunctionArgumentList { args: args.into(), ..list.clone() };
                Expr::Function(named_as("percentile_cont", function, list))
            };
            Some(match fractions {
                Expr::Array(array) => {
                    let elem = array.elem.iter().map(one).collect();
                    Expr::Array(sqlparser::ast::Array { elem, named: array.named })
                }
                fraction => one(fraction),
            })
        }
        _ => None,
    }
}

fn named_as(name: &str, function: &Function, list: FunctionArgumentList) -> Function {
    let name = ObjectName::from(vec![Ident::with_span(function.name.span(), name)]);
    Function { name, args: FunctionArguments::List(list), ..function.clone() }
}

/// `array_agg(value)` with the call's order, filter and window, over rows in which `present` is not NULL.
fn collected(function: &Function, list: &FunctionArgumentList, value: Expr, present: Option<&Expr>) -> Expr {
    let mut clauses = list.clauses.clone();
    clauses.retain(|clause| matches!(clause, FunctionArgumentClause::OrderBy(_)));
    let args = vec![FunctionArg::Unnamed(FunctionArgExpr::Expr(value))];
    let list = FunctionArgumentList { duplicate_treatment: list.duplicate_treatment, args, clauses };
    let mut inner = named_as("array_agg", function, list);
    if let Some(present) = present {
        let present = Expr::IsNotNull(Box::new(Expr::Nested(Box::new(present.clone()))));
        inner.filter = Some(Box::new(match inner.filter.take() {
            Some(filter) => {
                Expr::BinaryOp { left: Box::new(Expr::Nested(filter)), op: BinaryOperator::And, right: Box::new(present) }
            }
            None => present,
        }));
    }
    Expr::Function(inner)
}

/// Whether NULLs are left out, if that is said.
fn absent(list: &FunctionArgumentList) -> Option<bool> {
    list.clauses.iter().find_map(|clause| match clause {
        FunctionArgumentClause::JsonNullClause(clause) => Some(*clause == JsonNullClause::AbsentOnNull),
        _ => None,
    })
}

fn positional(list: &FunctionArgumentList) -> Option<Vec<Expr>> {
    let one = |arg: &FunctionArg| match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
        _ => None,
    };
    list.args.iter().map(one).collect()
}

/// Names and values, if all arguments are such pairs.
fn named(list: &FunctionArgumentList) -> Option<Vec<(Expr, Expr)>> {
    let pair = |arg: &FunctionArg| match arg {
        FunctionArg::ExprNamed { name, arg: FunctionArgExpr::Expr(value), .. } => Some((name.clone(), value.clone())),
        FunctionArg::Named { name, arg: FunctionArgExpr::Expr(value), .. } => {
            // A name between single quotes is text.
            let name = match name.quote_style {
                Some('\'') => text(&name.value),
                _ => Expr::Identifier(name.clone()),
            };
            Some((name, value.clone()))
        }
        _ => None,
    };
    let pairs: Option<Vec<(Expr, Expr)>> = list.args.iter().map(pair).collect();
    pairs.filter(|pairs| !pairs.is_empty())
}

/// A value that goes into JSON: JSON as it is, anything else as a value.
fn kept(expr: Expr) -> Expr {
    match is_json(&expr) {
        true => call("json_raw", vec![expr], sqlparser::tokenizer::Span::empty()),
        false => expr,
    }
}

/// Whether an expression gives JSON, not text: it is a call that makes JSON, or a cast to it.
fn is_json(expr: &Expr) -> bool {
    const MAKERS: [&str; 22] = [
        "json",
        "parse_json",
        "json_list",
        "json_pairs",
        "json_object",
        "json_object_absent",
        "json_array",
        "json_array_with_nulls",
        "json_build_object",
        "jsonb_build_object",
        "json_build_array",
        "jsonb_build_array",
        "json_query",
        "json_get",
        "json_get_path",
        "json_extract_path",
        "jsonb_extract_path",
        "to_json",
        "to_jsonb",
        "row_to_json",
        "json_agg",
        "jsonb_agg",
    ];
    match expr {
        Expr::Nested(inner) => is_json(inner),
        Expr::Cast { data_type: DataType::JSON | DataType::JSONB, .. } => true,
        Expr::Function(function) => MAKERS.contains(&function.name.to_string().to_lowercase().as_str()),
        _ => false,
    }
}
