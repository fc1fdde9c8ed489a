//! Subqueries in WHERE and in SELECT.

use super::{Queries, Query};
use crate::generate::expr::{expr, predicate};
use crate::generate::names::{Column, Kind, Role};

impl Queries<'_> {
    pub(super) fn with_subquery(&mut self) -> Query {
        let (from, inner) = (self.from("l"), self.from("r"));
        let mut items = self.items(&from.columns);
        let mut conditions = Vec::new();
        let subquery = self.boolean_subquery(&from.columns, &inner.columns, &inner.sql);
        match self.random.below(4) {
            0 => conditions.push(format!("({subquery} OR {})", predicate(self.random, &from.columns, 1))),
            1 => items.add(&subquery, Kind::Boolean, Role::None),
            _ => conditions.push(subquery),
        }
        if self.random.chance(25) {
            let value = self.scalar_subquery(&from.columns, &inner.columns, &inner.sql);
            match self.random.chance(50) {
                true => items.add(&value, Kind::BigInt, Role::None),
                false => conditions.push(format!("{} <= {value}", expr(self.random, &from.columns, Kind::BigInt, 0))),
            }
        }
        if self.random.chance(30) {
            conditions.push(predicate(self.random, &from.columns, 1));
        }
        let conditions = if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
        let sql = format!("SELECT {} FROM {}{conditions}", items.sql(), from.sql);
        Query { sql, columns: items.columns, closes: false, depth: from.depth.max(inner.depth) }
    }

    /// `[NOT] EXISTS` or `[NOT] IN`.
    fn boolean_subquery(&mut self, outer: &[Column], inner: &[Column], from: &str) -> String {
        let not = if self.random.chance(40) { "NOT " } else { "" };
        let correlation = self.correlation(outer, inner, 60);
        let condition = if self.random.chance(40) { format!(" AND {}", predicate(self.random, inner, 1)) } else { String::new() };
        if self.random.chance(50) {
            let both: Vec<Column> = outer.iter().chain(inner).cloned().collect();
            let more = if self.random.chance(25) { format!(" AND {}", predicate(self.random, &both, 0)) } else { String::new() };
            return format!("{not}EXISTS (SELECT 1 FROM {from} WHERE {correlation}{condition}{more})");
        }
        let one = self.random.one_of(outer).clone();
        let correlation = if self.random.chance(70) { "TRUE".to_string() } else { correlation };
        let value = expr(self.random, inner, one.kind, 0);
        format!("{} {not}IN (SELECT {value} FROM {from} WHERE {correlation}{condition})", one.name)
    }

    fn scalar_subquery(&mut self, outer: &[Column], inner: &[Column], from: &str) -> String {
        let correlation = self.correlation(outer, inner, 70);
        let value = expr(self.random, inner, Kind::BigInt, 0);
        let function = self.random.pick(&["max", "min", "count"]);
        format!("(SELECT {function}({value}) FROM {from} WHERE {correlation})")
    }

    /// An equality of an outer and an inner column, in so many cases of a hundred.
    fn correlation(&mut self, outer: &[Column], inner: &[Column], percent: u64) -> String {
        if self.random.chance(percent) {
            for _ in 0..5 {
                let one = self.random.one_of(outer).clone();
                let same = |other: &&Column| other.kind == one.kind && one.kind != Kind::Boolean;
                let fitting: Vec<&Column> = inner.iter().filter(same).collect();
                if !fitting.is_empty() {
                    return format!("{} = {}", self.random.one_of(&fitting).name, one.name);
                }
            }
        }
        "TRUE".into()
    }
}
