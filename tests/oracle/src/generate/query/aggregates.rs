//! Calls of aggregate functions.

use super::Queries;
use crate::generate::expr::{expr, predicate};
use crate::generate::names::{Column, Kind};

const NUMBERS: [Kind; 4] = [Kind::BigInt, Kind::Int, Kind::Double, Kind::Decimal];
const ORDERED: [Kind; 6] = [Kind::BigInt, Kind::Int, Kind::Varchar, Kind::Double, Kind::Decimal, Kind::Timestamp];

impl Queries<'_> {
    /// A call and what it gives.
    pub(super) fn call(&mut self, columns: &[Column]) -> (String, Kind) {
        let (call, kind) = if self.random.chance(35) { self.plain_call(columns) } else { self.further_call(columns) };
        match self.random.chance(30) {
            true => (format!("{call} FILTER (WHERE {})", predicate(self.random, columns, 1)), kind),
            false => (call, kind),
        }
    }

    /// A column of one of these kinds, or an expression.
    fn argument(&mut self, columns: &[Column], kinds: &[Kind]) -> (String, Kind) {
        let present: Vec<&Column> = columns.iter().filter(|column| kinds.contains(&column.kind)).collect();
        if !present.is_empty() && self.random.chance(75) {
            let column = *self.random.one_of(&present);
            return (column.name.clone(), column.kind);
        }
        let kind = *self.random.one_of(&[Kind::BigInt, Kind::Int]);
        (expr(self.random, columns, kind, 1), kind)
    }

    fn copies(&mut self, percent: u64) -> &'static str {
        if self.random.chance(percent) { "DISTINCT " } else { "" }
    }

    fn plain_call(&mut self, columns: &[Column]) -> (String, Kind) {
        let distinct = self.copies(25);
        match self.random.below(6) {
            0 => ("COUNT(*)".to_string(), Kind::BigInt),
            1 => (format!("COUNT({distinct}{})", self.random.one_of(columns).name), Kind::BigInt),
            2 => {
                let (argument, kind) = self.argument(columns, &NUMBERS);
                (format!("SUM({distinct}{argument})"), if kind == Kind::Int { Kind::BigInt } else { kind })
            }
            3 => {
                let (argument, kind) = self.argument(columns, &NUMBERS);
                (format!("AVG({distinct}{argument})"), if kind == Kind::Decimal { kind } else { Kind::Double })
            }
            least => {
                let (argument, kind) = self.argument(columns, &ORDERED);
                (format!("{}({argument})", if least == 4 { "MIN" } else { "MAX" }), kind)
            }
        }
    }

    fn further_call(&mut self, columns: &[Column]) -> (String, Kind) {
        let distinct = self.copies(20);
        match self.random.below(15) {
            0 => {
                let name = self.random.pick(&["BOOL_AND", "BOOL_OR", "EVERY"]);
                (format!("{name}({})", predicate(self.random, columns, 1)), Kind::Boolean)
            }
            1 => {
                let name = self.random.pick(&["BIT_AND", "BIT_OR", "BIT_XOR"]);
                let (argument, kind) = self.argument(columns, &[Kind::BigInt, Kind::Int]);
                (format!("{name}({distinct}{argument})"), kind)
            }
            2 | 12 => {
                let name = self.random.pick(&["VAR_POP", "VAR_SAMP", "STDDEV_POP", "STDDEV"]);
                let (argument, _) = self.argument(columns, &NUMBERS);
                (format!("{name}({distinct}{argument})"), Kind::Double)
            }
            3 | 13 | 14 => {
                let pairs = [
                    "COVAR_POP",
                    "COVAR_SAMP",
                    "CORR",
                    "REGR_SLOPE",
                    "REGR_INTERCEPT",
                    "REGR_R2",
                    "REGR_AVGX",
                    "REGR_AVGY",
                    "REGR_SXX",
                    "REGR_SYY",
                    "REGR_SXY",
                ];
                let name = self.random.pick(&pairs);
                let ((y, _), (x, _)) = (self.argument(columns, &NUMBERS), self.argument(columns, &NUMBERS));
                (format!("{name}({y}, {x})"), Kind::Double)
            }
            4 | 5 => {
                let name = self.random.pick(&["FIRST_VALUE", "LAST_VALUE"]);
                let nulls = if self.random.chance(25) { " IGNORE NULLS" } else { "" };
                let (argument, kind) = self.argument(columns, &ORDERED);
                (format!("{name}({argument} ORDER BY {}){nulls}", self.order(columns)), kind)
            }
            6 => {
                let name = self.random.pick(&["MIN_BY", "MAX_BY"]);
                let ((value, kind), (by, _)) = (self.argument(columns, &ORDERED), self.argument(columns, &ORDERED));
                (format!("{name}({value}, {by})"), kind)
            }
            7 => {
                let text = expr(self.random, columns, Kind::Varchar, 0);
                match (distinct.is_empty(), self.random.chance(60)) {
                    (true, true) => (format!("STRING_AGG({text}, '+' ORDER BY {})", self.order(columns)), Kind::Varchar),
                    _ => (format!("STRING_AGG({distinct}{text}, '+')"), Kind::Varchar),
                }
            }
            8 => {
                let (value, _) = self.argument(columns, &[Kind::BigInt, Kind::Int, Kind::Varchar]);
                let order = match (distinct.is_empty(), self.random.chance(60)) {
                    (true, true) => format!(" ORDER BY {}", self.order(columns)),
                    _ => String::new(),
                };
                (format!("ARRAY_TO_STRING(ARRAY_AGG({distinct}{value}{order}), ',')"), Kind::Varchar)
            }
            9 => {
                let name = self.random.pick(&["PERCENTILE_CONT", "PERCENTILE_DISC", "APPROX_PERCENTILE_CONT"]);
                let fraction = self.random.pick(&["0", "0.25", "0.5", "0.9", "1"]);
                let direction = self.random.pick(&["", " DESC"]);
                let kinds: &[Kind] = if name == "PERCENTILE_DISC" { &ORDERED } else { &NUMBERS };
                let (value, kind) = self.argument(columns, kinds);
                let kind = if name == "PERCENTILE_DISC" { kind } else { Kind::Double };
                (format!("{name}({fraction}) WITHIN GROUP (ORDER BY {value}{direction})"), kind)
            }
            10 => {
                let (value, kind) = self.argument(columns, &ORDERED);
                match self.random.below(3) {
                    0 => (format!("ANY_VALUE({value})"), kind),
                    1 => (format!("MODE() WITHIN GROUP (ORDER BY {value})"), kind),
                    _ => (format!("MODE({distinct}{value})"), kind),
                }
            }
            _ => {
                let (one, other) = (self.random.one_of(columns).name.clone(), self.random.one_of(columns).name.clone());
                match self.random.below(3) {
                    0 => (format!("COUNT_IF({})", predicate(self.random, columns, 1)), Kind::BigInt),
                    1 => (format!("COUNT({distinct}{one}, {other})"), Kind::BigInt),
                    _ => (format!("APPROX_COUNT_DISTINCT({one})"), Kind::BigInt),
                }
            }
        }
    }

    /// What rows are ordered by inside a call.
    fn order(&mut self, columns: &[Column]) -> String {
        let mut keys = Vec::new();
        for _ in 0..self.random.range(1, 2) {
            let (key, _) = self.argument(columns, &ORDERED);
            let direction = self.random.pick(&["", " DESC", " NULLS FIRST", " DESC NULLS LAST"]);
            keys.push(format!("{key}{direction}"));
        }
        keys.join(", ")
    }
}
