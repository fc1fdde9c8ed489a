//! Random expressions of a wanted type.

use super::Random;
use super::names::{Column, Kind};

/// An expression of this kind over these columns.
pub(super) fn expr(random: &mut Random, columns: &[Column], kind: Kind, depth: usize) -> String {
    let fitting: Vec<&Column> = columns.iter().filter(|column| column.kind == kind).collect();
    if !fitting.is_empty() && (depth == 0 || random.chance(45)) {
        return random.one_of(&fitting).name.clone();
    }
    if depth == 0 {
        return literal(random, kind);
    }
    let depth = depth - 1;
    match random.below(10) {
        0 => return case(random, columns, kind, depth),
        1 => return format!("COALESCE({}, {})", expr(random, columns, kind, depth), literal(random, kind)),
        2 if kind != Kind::Boolean => {
            return format!("NULLIF({}, {})", expr(random, columns, kind, depth), literal(random, kind));
        }
        _ => {}
    }
    let mut one = |kind: Kind| expr(random, columns, kind, depth);
    match kind {
        Kind::BigInt => {
            let (left, right, text) = (one(Kind::BigInt), one(Kind::BigInt), one(Kind::Varchar));
            let int = one(Kind::Int);
            match random.below(9) {
                0 => format!("({left} + {right})"),
                1 => format!("({left} - {right})"),
                2 => format!("({left} * {right})"),
                3 => format!("({left} % 3)"),
                4 => format!("({left} / NULLIF({right}, 0))"),
                5 => format!("CAST({int} AS BIGINT)"),
                6 => format!("(- {left})"),
                7 => format!("CAST(CHARACTER_LENGTH({text}) AS BIGINT)"),
                _ if random.chance(30) => format!("({left} / {right})"),
                _ => literal(random, kind),
            }
        }
        Kind::Int => {
            let (left, right) = (one(Kind::Int), one(Kind::Int));
            match random.below(3) {
                0 => format!("({left} + {right})"),
                1 => format!("({left} * {right})"),
                _ => format!("CAST({} AS INT)", expr(random, columns, Kind::BigInt, 0)),
            }
        }
        Kind::Varchar => {
            let (left, right, number) = (one(Kind::Varchar), one(Kind::Varchar), one(Kind::BigInt));
            match random.below(5) {
                0 => format!("({left} || {right})"),
                1 => format!("UPPER({left})"),
                2 => format!("CAST({number} AS VARCHAR)"),
                3 => format!("SUBSTRING({left}, 1, 1)"),
                _ => literal(random, kind),
            }
        }
        Kind::Double => {
            let (left, right, int) = (one(Kind::Double), one(Kind::Double), one(Kind::Int));
            match random.below(4) {
                0 => format!("({left} + {right})"),
                1 => format!("({left} * CAST(2 AS DOUBLE))"),
                2 => format!("CAST({int} AS DOUBLE)"),
                _ => format!("({left} - {right})"),
            }
        }
        Kind::Decimal => {
            let (left, int) = (one(Kind::Decimal), one(Kind::Int));
            match random.below(2) {
                0 => format!("CAST(({left} + {}) AS DECIMAL(10, 2))", literal(random, kind)),
                _ => format!("CAST({int} AS DECIMAL(10, 2))"),
            }
        }
        Kind::Boolean => predicate(random, columns, depth),
        Kind::Timestamp => {
            let left = one(Kind::Timestamp);
            format!("({left} + INTERVAL '{}' SECOND)", random.range(1, 5))
        }
    }
}

/// A condition over these columns.
pub(super) fn predicate(random: &mut Random, columns: &[Column], depth: usize) -> String {
    if depth > 0 && random.chance(35) {
        let (left, right) = (predicate(random, columns, depth - 1), predicate(random, columns, depth - 1));
        return match random.below(5) {
            0 | 1 => format!("({left} AND {right})"),
            2 | 3 => format!("({left} OR {right})"),
            _ => format!("(NOT {left})"),
        };
    }
    let column = random.one_of(columns).clone();
    let (name, kind) = (&column.name, column.kind);
    let compared = if random.chance(60) { literal(random, kind) } else { expr(random, columns, kind, depth.min(1)) };
    let condition = match random.below(8) {
        0 => format!("{name} IS NULL"),
        1 => format!("{name} IS NOT NULL"),
        2 if kind == Kind::Boolean => name.clone(),
        2 => format!("{name} IN ({}, {})", literal(random, kind), literal(random, kind)),
        3 if kind == Kind::Varchar => format!("{name} LIKE '{}%'", random.pick(&["a", "b", ""])),
        3 if kind != Kind::Boolean => format!("{name} BETWEEN {} AND {compared}", literal(random, kind)),
        4 => format!("{name} IS NOT DISTINCT FROM {compared}"),
        5 => format!("{name} <> {compared}"),
        6 if kind != Kind::Boolean => format!("{name} {} {compared}", random.pick(&["<", ">", "<=", ">="])),
        _ => format!("{name} = {compared}"),
    };
    format!("({condition})")
}

fn case(random: &mut Random, columns: &[Column], kind: Kind, depth: usize) -> String {
    let when = predicate(random, columns, depth);
    let then = expr(random, columns, kind, depth);
    let otherwise = if random.chance(70) { format!(" ELSE {}", expr(random, columns, kind, depth)) } else { String::new() };
    format!("CASE WHEN {when} THEN {then}{otherwise} END")
}

fn literal(random: &mut Random, kind: Kind) -> String {
    match kind {
        Kind::BigInt => random.range(-1, 4).to_string(),
        Kind::Int => format!("CAST({} AS INT)", random.range(-2, 4)),
        Kind::Varchar => random.pick(&["'a'", "'b'", "'ab'", "''"]).to_string(),
        Kind::Double => format!("CAST({} AS DOUBLE)", random.pick(&["0.5", "1", "-1.5", "2"])),
        Kind::Decimal => format!("CAST({} AS DECIMAL(10, 2))", random.pick(&["0.25", "1", "-1.50", "2"])),
        Kind::Boolean => random.pick(&["TRUE", "FALSE"]).to_string(),
        Kind::Timestamp => format!("TIMESTAMP '1970-01-01 00:00:{:02}'", random.range(0, 20)),
    }
}
