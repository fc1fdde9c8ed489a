//! Functions and operators that are another spelling of something that is there: `IF(a, b, c)` is a CASE, `a ^ b` a power,
//! `x BETWEEN SYMMETRIC a AND b` two ranges.

mod calcite;
mod postgres;

use std::ops::ControlFlow;

use sqlparser::ast::{
    AccessExpr, BinaryOperator, CastKind, CeilFloorKind, CharacterLength, DataType, DateTimeField, Expr, Function,
    FunctionArguments, Interval, Spanned, Subscript, UnaryOperator, Value, VisitMut, VisitorMut,
};

use super::json_calls;
use super::rewrite::{call, text};
use crate::functions::{REPLACEMENT, is_charset};
use crate::parse::expression;

/// Functions by name and number of arguments, and what they stand for; `$1` is the first argument.
const TEMPLATES: [(&str, usize, &str); 53] = [
    ("if", 3, "CASE WHEN $1 THEN $2 ELSE $3 END"),
    ("xor", 2, "(($1) <> ($2))"),
    ("ceiling", 1, "ceil($1)"),
    ("truncate", 1, "trunc($1)"),
    ("truncate", 2, "trunc($1, $2)"),
    ("sign", 1, "signum($1)"),
    ("ucase", 1, "upper($1)"),
    ("lcase", 1, "lower($1)"),
    ("char", 1, "chr($1)"),
    ("startswith", 2, "starts_with($1, $2)"),
    ("endswith", 2, "ends_with($1, $2)"),
    ("regexp", 2, "regexp_like($1, $2)"),
    ("regexp_substr", 2, "regexp_extract($1, $2, 0)"),
    ("locate", 2, "strpos($2, $1)"),
    ("charindex", 2, "strpos($2, $1)"),
    ("locate", 3, "CASE WHEN strpos(substr($2, $3), $1) > 0 THEN strpos(substr($2, $3), $1) + $3 - 1 ELSE 0 END"),
    ("space", 1, "repeat(' ', $1)"),
    ("e", 0, "CAST('2.718281828459045' AS DOUBLE)"),
    ("element", 1, "array_item($1, 1)"),
    ("array_element", 2, "array_item($1, $2)"),
    ("split", 2, "string_to_array($1, $2)"),
    ("to_base64", 1, "encode($1, 'base64pad')"),
    ("from_base64", 1, "arrow_cast(decode($1, 'base64pad'), 'Utf8')"),
    ("quote_literal", 1, "('''' || replace($1, '''', '''''') || '''')"),
    ("is_alpha", 1, "coalesce(regexp_like($1, '^[[:alpha:]]+$'), false)"),
    ("is_digit", 1, "coalesce(regexp_like($1, '^[0-9]+$'), false)"),
    ("is_decimal", 1, "(TRY_CAST($1 AS DOUBLE) IS NOT NULL)"),
    ("last_day", 1, "CAST(date_trunc('month', CAST($1 AS TIMESTAMP)) + INTERVAL '1 month' - INTERVAL '1 day' AS DATE)"),
    ("datediff", 2, "(CAST($1 AS DATE) - CAST($2 AS DATE))"),
    ("date_add", 2, "(CAST($1 AS DATE) + $2)"),
    ("date_sub", 2, "(CAST($1 AS DATE) - $2)"),
    ("dayofweek", 1, "(EXTRACT(DOW FROM $1) + 1)"),
    ("convert_tz", 3, "date_format(CAST($1 AS TIMESTAMP) AT TIME ZONE $2 AT TIME ZONE $3, 'yyyy-MM-dd HH:mm:ss')"),
    ("array_length", 1, "CAST(list_length($1) AS BIGINT)"),
    ("array_length", 2, "CAST(nullif(list_length($1, $2), 0) AS BIGINT)"),
    ("array_upper", 2, "CAST(nullif(list_length($1, $2), 0) AS BIGINT)"),
    ("array_lower", 2, "CASE WHEN list_length($1, $2) > 0 THEN 1 END"),
    ("array_join", 2, "array_to_string($1, $2)"),
    ("array_cat", 2, "array_concat($1, $2)"),
    ("array_contains", 2, "array_has($1, $2)"),
    ("regexp_split", 2, "regexp_split_to_array($1, $2)"),
    ("hypot", 2, "sqrt(power(CAST($1 AS DOUBLE), 2) + power(CAST($2 AS DOUBLE), 2))"),
    ("unicode", 1, "ascii($1)"),
    ("typeof", 2, "typeof($1)"),
    ("array_remove", 2, "array_remove_all($1, $2)"),
    ("array_slice", 2, "array_slice($1, $2, CAST(cardinality($1) AS BIGINT))"),
    ("to_timestamp_ltz", 3, "(to_timestamp($1, $2) AT TIME ZONE $3)"),
    ("unix_timestamp", 0, "CAST(floor(date_part('epoch', PROCTIME())) AS BIGINT)"),
    ("current_row_timestamp", 0, "CAST(PROCTIME() AS TIMESTAMP(3) WITH TIME ZONE)"),
    ("sha", 1, "sha1($1)"),
    ("isnull", 1, "(($1) IS NULL)"),
    ("zeroifnull", 1, "coalesce($1, 0)"),
    ("nullifzero", 1, "nullif($1, 0)"),
];

/// The expression in other words, if there are some.
pub(super) fn spelled(expr: &Expr) -> Option<Expr> {
    match expr {
        Expr::Function(function) => function_in_other_words(function),
        Expr::BinaryOp { left, op, right } => operator(left, op, right),
        Expr::UnaryOp { op: UnaryOperator::BitwiseNot, expr } => template("(-1 - ($1))", &[(**expr).clone()]),
        Expr::AnyOp { left, compare_op, right, .. } => quantified("any_op", left, compare_op, right),
        Expr::AllOp { left, compare_op, right } => quantified("all_op", left, compare_op, right),
        Expr::AtTimeZone { timestamp, time_zone } => {
            Some(call("at_time_zone", vec![(**timestamp).clone(), (**time_zone).clone()], timestamp.span()))
        }
        Expr::Ceil { expr, field: CeilFloorKind::DateTimeField(field) } if *field != DateTimeField::NoDateTime => {
            let unit = field.to_string().to_lowercase();
            let down = match unit.as_str() {
                "week" => "(date_trunc('week', $1 + INTERVAL '1 day') - INTERVAL '1 day')".to_string(),
                _ => format!("date_trunc('{unit}', $1)"),
            };
            let sum = format!("CASE WHEN {down} = $1 THEN {down} ELSE {down} + INTERVAL '1 {unit}' END");
            template(&sum, &[(**expr).clone()])
        }
        Expr::Extract { field, expr, .. } => {
            let years = match field {
                DateTimeField::Century => "((date_part('year', $1) + 99) / 100)",
                DateTimeField::Decade => "(date_part('year', $1) / 10)",
                DateTimeField::Millennium | DateTimeField::Millenium => "((date_part('year', $1) + 999) / 1000)",
                _ => return None,
            };
            template(years, &[(**expr).clone()])
        }
        Expr::SimilarTo { negated, expr, pattern, escape_char } => {
            let escape = escape_char.as_ref().map_or_else(|| text("\\"), |escape| Expr::Value(escape.clone()));
            let matches = template("regexp_like($1, similar_pattern($2, $3))", &[(**expr).clone(), (**pattern).clone(), escape])?;
            Some(negation(*negated, matches))
        }
        Expr::RLike { negated, expr, pattern, .. } => {
            let matches = template("regexp_like($1, $2)", &[(**expr).clone(), (**pattern).clone()])?;
            Some(negation(*negated, matches))
        }
        Expr::Like { negated, any: false, expr, pattern, escape_char: Some(escape) } => {
            let pattern = call("like_pattern", vec![(**pattern).clone(), Expr::Value(escape.clone())], pattern.span());
            let (negated, expr, pattern) = (*negated, expr.clone(), Box::new(pattern));
            Some(Expr::Like { negated, any: false, expr, pattern, escape_char: None })
        }
        Expr::ILike { negated, any: false, expr, pattern, escape_char: Some(escape) } => {
            let pattern = call("like_pattern", vec![(**pattern).clone(), Expr::Value(escape.clone())], pattern.span());
            let (negated, expr, pattern) = (*negated, expr.clone(), Box::new(pattern));
            Some(Expr::ILike { negated, any: false, expr, pattern, escape_char: None })
        }
        Expr::Cast { kind, expr, data_type, array: false, format: None } => shortened(kind, expr, data_type),
        Expr::CompoundFieldAccess { root, access_chain } => access(root, access_chain),
        Expr::Interval(interval) => ranged(interval),
        _ => None,
    }
}

pub(super) fn template(words: &str, args: &[Expr]) -> Option<Expr> {
    let mut expr = expression(words)?;
    let _ = VisitMut::visit(&mut expr, &mut Fill(args));
    Some(expr)
}

/// Puts arguments into their places.
struct Fill<'a>(&'a [Expr]);

impl VisitorMut for Fill<'_> {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::Value(value) = expr
            && let Value::Placeholder(place) = &value.value
            && let Some(arg) = place[1..].parse::<usize>().ok().and_then(|place| self.0.get(place - 1))
        {
            *expr = arg.clone();
        }
        ControlFlow::Continue(())
    }
}

fn negation(negated: bool, expr: Expr) -> Expr {
    match negated {
        true => Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(Expr::Nested(Box::new(expr))) },
        false => expr,
    }
}

fn function_in_other_words(function: &Function) -> Option<Expr> {
    let [name] = &function.name.0[..] else { return None };
    let ident = name.as_ident()?;
    if ident.quote_style.is_some() {
        return None;
    }
    let name = ident.value.to_lowercase();
    let FunctionArguments::List(list) = &function.args else { return None };
    if let Some(expr) = json_calls::aggregate(&name, function, list) {
        return Some(expr);
    }
    if function.over.is_some() {
        return None;
    }
    if name.starts_with("json") {
        let json = json_calls::json_call(&name, function, list);
        if json.is_some() || name != "json" {
            return json;
        }
    }
    let args = super::rewrite::arguments(function)?;
    match (name.as_str(), args.len()) {
        ("num_nulls" | "num_nonnulls", 1..) => {
            let not = if name == "num_nulls" { "" } else { " NOT" };
            let parts: Vec<String> =
                (1..=args.len()).map(|place| format!("CASE WHEN ${place} IS{not} NULL THEN 1 ELSE 0 END")).collect();
            return template(&format!("({})", parts.join(" + ")), &args);
        }
        // Oracle's DECODE; with two texts it is PostgreSQL's.
        ("decode", 3..) => {
            let mut words = String::from("CASE");
            let pairs = (args.len() - 1) / 2;
            for pair in 0..pairs {
                words.push_str(&format!(" WHEN $1 IS NOT DISTINCT FROM ${} THEN ${}", pair * 2 + 2, pair * 2 + 3));
            }
            if args.len().is_multiple_of(2) {
                words.push_str(&format!(" ELSE ${}", args.len()));
            }
            return template(&format!("{words} END"), &args);
        }
        // Flink's are of charsets, PostgreSQL's of formats.
        ("encode" | "decode", 2) if literal(&args[1]).is_some_and(is_charset) => {
            return Some(call(&format!("charset_{name}"), args, function.name.span()));
        }
        ("array_sort", 2 | 3) if literal(&args[1]).is_none() => {
            let sorted = |direction: &str, nulls: &str| format!("array_sort($1, '{direction}', 'NULLS {nulls}')");
            let words = match args.len() {
                2 => format!("CASE WHEN $2 THEN {} ELSE {} END", sorted("ASC", "FIRST"), sorted("DESC", "LAST")),
                _ => format!(
                    "CASE WHEN $2 AND $3 THEN {} WHEN $2 THEN {} WHEN $3 THEN {} ELSE {} END",
                    sorted("ASC", "FIRST"),
                    sorted("ASC", "LAST"),
                    sorted("DESC", "FIRST"),
                    sorted("DESC", "LAST")
                ),
            };
            return template(&words, &args);
        }
        // PostgreSQL's `\&` and `\\`; once.
        ("regexp_replace", 3 | 4) if !is_call(&args[2], REPLACEMENT) => {
            let replaced = call(REPLACEMENT, vec![args[2].clone()], args[2].span());
            let mut args = args;
            args[2] = replaced;
            return Some(call(&name, args, function.name.span()));
        }
        ("grouping_id", 1..) => return Some(call("grouping", args, function.name.span())),
        (_, 2) if name.ends_with("_trunc") => {
            if let Some(truncated) = calcite::truncation(&name, &args) {
                return Some(truncated);
            }
        }
        ("elt", 2..) => {
            let whens: Vec<String> = (1..args.len()).map(|place| format!("WHEN {place} THEN ${}", place + 1)).collect();
            return template(&format!("CASE $1 {} END", whens.join(" ")), &args);
        }
        ("map", _) if args.len().is_multiple_of(2) && !args.is_empty() => return map_literal(&args),
        _ => {}
    }
    let mut known = TEMPLATES.iter().chain(postgres::TEMPLATES).chain(calcite::TEMPLATES);
    let (_, _, words) = known.find(|(known, count, _)| *known == name && *count == args.len())?;
    template(words, &args)
}

fn is_call(expr: &Expr, name: &str) -> bool {
    matches!(expr, Expr::Function(function) if function.name.to_string() == name)
}

/// The text of a constant.
fn literal(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => Some(text),
            _ => None,
        },
        _ => None,
    }
}

/// `MAP[k1, v1, k2, v2]` and `MAP(k1, v1, ..)`.
fn map_literal(args: &[Expr]) -> Option<Expr> {
    // Two arrays are DataFusion's own spelling.
    if matches!(args, [Expr::Array(_), Expr::Array(_)]) {
        return None;
    }
    let list = |from: usize| (from..=args.len()).step_by(2).map(|place| format!("${place}")).collect::<Vec<_>>().join(", ");
    template(&format!("map_from_arrays(ARRAY[{}], ARRAY[{}])", list(1), list(2)), args)
}

fn operator(left: &Expr, op: &BinaryOperator, right: &Expr) -> Option<Expr> {
    let both = |name: &str| Some(call(name, vec![left.clone(), right.clone()], left.span()));
    match op {
        BinaryOperator::Arrow => both("json_get"),
        BinaryOperator::LongArrow => both("json_get_text"),
        BinaryOperator::HashArrow => both("json_get_path"),
        BinaryOperator::HashLongArrow => both("json_get_path_text"),
        BinaryOperator::PGStartsWith => both("starts_with"),
        // In PostgreSQL `^` is a power; `#` is its exclusive or.
        BinaryOperator::BitwiseXor | BinaryOperator::PGExp => {
            template("power(CAST($1 AS DOUBLE), $2)", &[left.clone(), right.clone()])
        }
        BinaryOperator::Overlaps => {
            let (Expr::Tuple(one), Expr::Tuple(other)) = (left, right) else { return None };
            let ([a, b], [c, d]) = (&one[..], &other[..]) else { return None };
            template("(($1 < $4) AND ($3 < $2))", &[a.clone(), b.clone(), c.clone(), d.clone()])
        }
        _ => row_comparison(left, op, right),
    }
}

/// `(a, b) < (c, d)`: by the first columns that differ.
pub(super) fn row_comparison(left: &Expr, op: &BinaryOperator, right: &Expr) -> Option<Expr> {
    let (Expr::Tuple(left), Expr::Tuple(right)) = (left, right) else { return None };
    if left.len() != right.len() || left.is_empty() {
        return None;
    }
    let mut args = left.clone();
    args.extend(right.iter().cloned());
    let pair = |index: usize, op: &str| format!("(${} {op} ${})", index + 1, index + 1 + left.len());
    let words = match op {
        BinaryOperator::Eq => (0..left.len()).map(|index| pair(index, "=")).collect::<Vec<_>>().join(" AND "),
        BinaryOperator::NotEq => (0..left.len()).map(|index| pair(index, "<>")).collect::<Vec<_>>().join(" OR "),
        BinaryOperator::Lt | BinaryOperator::LtEq | BinaryOperator::Gt | BinaryOperator::GtEq => {
            let strict = if matches!(op, BinaryOperator::Lt | BinaryOperator::LtEq) { "<" } else { ">" };
            let last = left.len() - 1;
            let mut words = pair(last, &op.to_string());
            for index in (0..last).rev() {
                words = format!("({} OR ({} AND {words}))", pair(index, strict), pair(index, "="));
            }
            words
        }
        _ => return None,
    };
    template(&format!("({words})"), &args)
}

fn quantified(name: &str, left: &Expr, op: &BinaryOperator, right: &Expr) -> Option<Expr> {
    if matches!(right, Expr::Subquery(_)) {
        return None;
    }
    Some(call(name, vec![left.clone(), right.clone(), text(&op.to_string())], left.span()))
}

/// `x::varchar(3)` keeps three letters; `char(n)` also without blanks at the end.
fn shortened(kind: &CastKind, expr: &Expr, data_type: &DataType) -> Option<Expr> {
    let (length, blank) = match data_type {
        DataType::Varchar(length) | DataType::CharacterVarying(length) | DataType::CharVarying(length) => (length, false),
        DataType::Char(length) | DataType::Character(length) => (length, true),
        _ => return None,
    };
    let Some(CharacterLength::IntegerLength { length, .. }) = length else { return None };
    let whole = Expr::Cast {
        kind: kind.clone(),
        expr: Box::new(expr.clone()),
        data_type: DataType::Varchar(None),
        array: false,
        format: None,
    };
    template(&if blank { format!("rtrim(left($1, {length}))") } else { format!("left($1, {length})") }, &[whole])
}

/// `(row).field`, and slices without a bound.
fn access(root: &Expr, chain: &[AccessExpr]) -> Option<Expr> {
    let mut changed = false;
    // Of plain names the first may be a relation's: a dot behind one is not ours.
    let mut is_value = !matches!(root, Expr::Identifier(_) | Expr::CompoundIdentifier(_));
    let chain: Vec<AccessExpr> = chain
        .iter()
        .map(|access| match access {
            AccessExpr::Dot(Expr::Identifier(name)) if is_value => {
                changed = true;
                AccessExpr::Dot(text(&name.value))
            }
            AccessExpr::Subscript(Subscript::Slice { lower_bound, upper_bound, stride })
                if lower_bound.is_none() || upper_bound.is_none() =>
            {
                changed = true;
                let number = |number: i64| Expr::Value(Value::Number(number.to_string(), false).with_empty_span());
                AccessExpr::Subscript(Subscript::Slice {
                    lower_bound: Some(lower_bound.clone().unwrap_or_else(|| number(1))),
                    upper_bound: Some(upper_bound.clone().unwrap_or_else(|| number(i32::MAX.into()))),
                    stride: stride.clone(),
                })
            }
            AccessExpr::Subscript(_) => {
                is_value = true;
                access.clone()
            }
            other => other.clone(),
        })
        .collect();
    changed.then(|| Expr::CompoundFieldAccess { root: Box::new(root.clone()), access_chain: chain })
}

/// `INTERVAL '1-2' YEAR TO MONTH`, `INTERVAL '1 2:03:04' DAY TO SECOND` in one text.
fn ranged(interval: &Interval) -> Option<Expr> {
    let (Some(first), Some(last)) = (&interval.leading_field, &interval.last_field) else { return None };
    let Expr::Value(value) = &*interval.value else { return None };
    let Value::SingleQuotedString(written) = &value.value else { return None };
    const UNITS: [&str; 6] = ["year", "month", "day", "hour", "minute", "second"];
    let place = |field: &DateTimeField| UNITS.iter().position(|unit| field.to_string().eq_ignore_ascii_case(unit));
    let (first, last) = (place(first)?, place(last)?);
    let (sign, body) = match written.trim().strip_prefix('-') {
        Some(body) => ("-", body),
        None => ("", written.trim()),
    };
    let parts: Vec<&str> = body.split(['-', ' ', ':']).collect();
    if first >= last || parts.len() != last - first + 1 {
        return None;
    }
    let words: Vec<String> = parts.iter().zip(&UNITS[first..=last]).map(|(part, unit)| format!("{sign}{part} {unit}s")).collect();
    Some(super::rewrite::interval(&words.join(" ")))
}
