//! Functions of Calcite, which Feldera has, and of BigQuery, in other words.

use sqlparser::ast::{Expr, Ident};

use super::template;

/// Functions by name and number of arguments, and what they stand for; `$1` is the first argument.
pub(super) const TEMPLATES: &[(&str, usize, &str)] = &[
    ("rlike", 2, "regexp_like($1, $2)"),
    ("bitand", 2, "(($1) & ($2))"),
    ("bitor", 2, "(($1) | ($2))"),
    ("bitxor", 2, "((($1) | ($2)) - (($1) & ($2)))"),
    ("bitnot", 1, "(-1 - ($1))"),
];

const UNITS: [&str; 12] =
    ["MILLENNIUM", "CENTURY", "DECADE", "YEAR", "QUARTER", "MONTH", "WEEK", "DAY", "HOUR", "MINUTE", "SECOND", "MILLISECOND"];

/// `TIMESTAMP_TRUNC(ts, MONTH)`: the unit is a word behind the time. Weeks begin on Sunday, as those of FLOOR.
pub(super) fn truncation(name: &str, args: &[Expr]) -> Option<Expr> {
    let [time, Expr::Identifier(Ident { value, quote_style: None, .. })] = args else { return None };
    let unit = value.to_uppercase();
    if !UNITS.contains(&unit.as_str()) {
        return None;
    }
    let down = match unit.as_str() {
        "WEEK" => "(date_trunc('week', $1 + INTERVAL '1 day') - INTERVAL '1 day')".to_string(),
        _ => format!("date_trunc('{unit}', $1)"),
    };
    let words = match name {
        "timestamp_trunc" | "datetime_trunc" | "time_trunc" => down,
        "date_trunc" if UNITS[..8].contains(&unit.as_str()) => format!("CAST({down} AS DATE)"),
        "date_trunc" => down,
        _ => return None,
    };
    template(&words, std::slice::from_ref(time))
}
