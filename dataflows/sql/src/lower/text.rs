//! Expressions as text: positional, stable and readable, so that equal text over equal inputs is the same computation.

use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion_common::ScalarValue;
use datafusion_expr::{Expr, Operator};

use crate::bind::sql_type;
use crate::functions::cast::CastTo;

/// `(#0 * 908)`, `CAST(#1 AS VARCHAR)`, `upper(#2)`.
pub(super) fn text(expr: &Expr) -> String {
    match expr {
        Expr::Alias(alias) => text(&alias.expr),
        Expr::Column(column) => column.name.clone(),
        Expr::Literal(value, _) => literal(value),
        Expr::BinaryExpr(binary) => format!("({} {} {})", text(&binary.left), operator(binary.op), text(&binary.right)),
        Expr::Not(inner) => format!("(NOT {})", text(inner)),
        Expr::IsNull(inner) => format!("({} IS NULL)", text(inner)),
        Expr::IsNotNull(inner) => format!("({} IS NOT NULL)", text(inner)),
        Expr::IsTrue(inner) => format!("({} IS TRUE)", text(inner)),
        Expr::IsFalse(inner) => format!("({} IS FALSE)", text(inner)),
        Expr::IsUnknown(inner) => format!("({} IS UNKNOWN)", text(inner)),
        Expr::IsNotTrue(inner) => format!("({} IS NOT TRUE)", text(inner)),
        Expr::IsNotFalse(inner) => format!("({} IS NOT FALSE)", text(inner)),
        Expr::IsNotUnknown(inner) => format!("({} IS NOT UNKNOWN)", text(inner)),
        Expr::Negative(inner) => format!("(- {})", text(inner)),
        Expr::Between(between) => {
            let not = if between.negated { "NOT " } else { "" };
            format!("({} {not}BETWEEN {} AND {})", text(&between.expr), text(&between.low), text(&between.high))
        }
        Expr::Like(like) | Expr::SimilarTo(like) => {
            let not = if like.negated { "NOT " } else { "" };
            let word = match (expr, like.case_insensitive) {
                (Expr::SimilarTo(_), _) => "SIMILAR TO",
                (_, true) => "ILIKE",
                (_, false) => "LIKE",
            };
            let escape = like.escape_char.map_or(String::new(), |escape| format!(" ESCAPE '{escape}'"));
            format!("({} {not}{word} {}{escape})", text(&like.expr), text(&like.pattern))
        }
        Expr::InList(list) => {
            let not = if list.negated { "NOT " } else { "" };
            format!("({} {not}IN ({}))", text(&list.expr), texts(&list.list))
        }
        Expr::Case(case) => {
            let mut out = String::from("CASE");
            if let Some(base) = &case.expr {
                out.push_str(&format!(" {}", text(base)));
            }
            for (when, then) in &case.when_then_expr {
                out.push_str(&format!(" WHEN {} THEN {}", text(when), text(then)));
            }
            if let Some(otherwise) = &case.else_expr {
                out.push_str(&format!(" ELSE {}", text(otherwise)));
            }
            out.push_str(" END");
            out
        }
        Expr::Cast(cast) => format!("CAST({} AS {})", text(&cast.expr), sql_type(cast.field.data_type())),
        Expr::TryCast(cast) => format!("TRY_CAST({} AS {})", text(&cast.expr), sql_type(cast.field.data_type())),
        Expr::ScalarFunction(call) if let Some(cast) = call.func.inner().downcast_ref::<CastTo>() => {
            let word = if cast.safe { "TRY_CAST" } else { "CAST" };
            format!("{word}({} AS {})", texts(&call.args), sql_type(&cast.to))
        }
        Expr::ScalarFunction(call) => match (call.func.name(), &call.args[..]) {
            ("plain_float", [value]) => text(value),
            ("decimal_divide", [left, right]) => format!("({} / {})", text(left), text(right)),
            ("get_field", [value, Expr::Literal(ScalarValue::Utf8(Some(field)), _)]) => format!("{}.{field}", text(value)),
            (name, args) => format!("{}({})", name.to_lowercase(), texts(args)),
        },
        other => other.to_string(),
    }
}

fn texts(exprs: &[Expr]) -> String {
    exprs.iter().map(text).collect::<Vec<_>>().join(", ")
}

fn operator(op: Operator) -> String {
    op.to_string()
}

fn literal(value: &ScalarValue) -> String {
    if value.is_null() {
        return "NULL".into();
    }
    match value {
        ScalarValue::Utf8(Some(text)) | ScalarValue::Utf8View(Some(text)) | ScalarValue::LargeUtf8(Some(text)) => {
            format!("'{}'", text.replace('\'', "''"))
        }
        ScalarValue::Float32(Some(number)) => format!("{number:?}"),
        ScalarValue::Float64(Some(number)) => format!("{number:?}"),
        ScalarValue::IntervalMonthDayNano(Some(length)) => {
            format!("INTERVAL '{}'", interval(length.months, length.days, length.nanoseconds))
        }
        ScalarValue::IntervalDayTime(Some(length)) => {
            format!("INTERVAL '{}'", interval(0, length.days, i64::from(length.milliseconds) * 1_000_000))
        }
        ScalarValue::IntervalYearMonth(Some(months)) => format!("INTERVAL '{}'", interval(*months, 0, 0)),
        other => {
            let shown = other.to_array().ok().and_then(|array| {
                ArrayFormatter::try_new(&array, &FormatOptions::default()).ok().map(|format| format.value(0).to_string())
            });
            let shown = shown.unwrap_or_else(|| other.to_string());
            if other.data_type().is_temporal() { format!("{} '{shown}'", sql_type(&other.data_type())) } else { shown }
        }
    }
}

fn interval(months: i32, days: i32, nanos: i64) -> String {
    let mut parts = Vec::new();
    if months != 0 {
        parts.push(format!("{months} months"));
    }
    if days != 0 {
        parts.push(format!("{days} days"));
    }
    if nanos != 0 || parts.is_empty() {
        parts.push(match nanos {
            nanos if nanos % 1_000_000_000 == 0 => format!("{} s", nanos / 1_000_000_000),
            nanos if nanos % 1_000_000 == 0 => format!("{} ms", nanos / 1_000_000),
            nanos if nanos % 1_000 == 0 => format!("{} us", nanos / 1_000),
            nanos => format!("{nanos} ns"),
        });
    }
    parts.join(" ")
}
