//! Functions of PostgreSQL and of those who follow it, in other words.

/// Functions by name and number of arguments, and what they stand for; `$1` is the first argument.
pub(super) const TEMPLATES: &[(&str, usize, &str)] = &[
    ("sind", 1, "sin(radians($1))"),
    ("cosd", 1, "cos(radians($1))"),
    ("tand", 1, "tan(radians($1))"),
    ("cotd", 1, "cot(radians($1))"),
    ("asind", 1, "degrees(asin($1))"),
    ("acosd", 1, "degrees(acos($1))"),
    ("atand", 1, "degrees(atan($1))"),
    ("atan2d", 2, "degrees(atan2($1, $2))"),
    ("coth", 1, "(1 / tanh($1))"),
    ("timezone", 2, "(($2) AT TIME ZONE ($1))"),
    ("date", 1, "CAST($1 AS DATE)"),
    ("make_timestamptz", 6, "CAST(make_timestamp($1, $2, $3, $4, $5, $6) AS TIMESTAMP WITH TIME ZONE)"),
    ("make_timestamptz", 7, "(make_timestamp($1, $2, $3, $4, $5, $6) AT TIME ZONE ($7))"),
    ("array_overlaps", 2, "(($1) && ($2))"),
    ("convert_from", 2, "arrow_cast($1, 'Utf8')"),
    // Flink's, which says NULLS FIRST, has a second argument.
    ("array_sort", 1, "array_sort($1, 'ASC', 'NULLS LAST')"),
    ("version", 0, concat!("'Highwater ", env!("CARGO_PKG_VERSION"), "'")),
    ("convert_to", 2, "arrow_cast($1, 'Binary')"),
];
