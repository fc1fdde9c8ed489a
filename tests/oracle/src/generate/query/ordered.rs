//! Orders: the first rows of partitions, limits.

use super::{Items, Queries, Query};
use crate::generate::expr::{expr, predicate};
use crate::generate::names::{Column, Kind, Relation, Role};

impl Queries<'_> {
    /// Something whose result depends on an order.
    pub(super) fn ordered(&mut self) -> Query {
        match self.random.below(6) {
            0 => self.limit(),
            1 => self.distinct_on(),
            _ => self.top(),
        }
    }

    /// `ORDER BY` of up to so many columns or expressions; perhaps none.
    pub(super) fn order_by(&mut self, columns: &[Column], least: i64) -> String {
        let mut order = Vec::new();
        for _ in 0..self.random.range(least, 2) {
            let by = match self.random.chance(80) {
                true => self.random.one_of(columns).name.clone(),
                false => expr(self.random, columns, Kind::BigInt, 1),
            };
            if columns.iter().any(|column| by.contains(&column.name)) {
                let direction = self.random.pick(&["", "", " DESC", " ASC", " NULLS FIRST", " DESC NULLS LAST"]);
                order.push(format!("{by}{direction}"));
            }
        }
        if order.is_empty() { String::new() } else { format!(" ORDER BY {}", order.join(", ")) }
    }

    /// Partition columns; windows' bounds are preferred. Says whether there is one.
    pub(super) fn partition(&mut self, columns: &[Column]) -> (Vec<Column>, bool) {
        let mut partition: Vec<Column> = Vec::new();
        let bounds = columns.iter().filter(|column| matches!(column.role, Role::Start(_) | Role::End(_)));
        for bound in bounds {
            if self.random.chance(60) {
                partition.push(bound.clone());
            }
        }
        let closes = !partition.is_empty();
        for _ in 0..self.random.range(0, 2) {
            let column = self.random.one_of(columns).clone();
            if !partition.iter().any(|other| other.name == column.name) {
                partition.push(column);
            }
        }
        (partition, closes)
    }

    /// The columns that stay times where old rows are retracted: the bounds of windows that close.
    pub(super) fn without_times(columns: &[Column], partition: &[Column], closes: bool) -> Vec<Column> {
        let stays = |column: &Column| {
            closes && matches!(column.role, Role::Start(_) | Role::End(_)) && partition.iter().any(|by| by.name == column.name)
        };
        let role = |column: &Column| if stays(column) { column.role } else { Role::None };
        columns.iter().map(|column| Column { role: role(column), ..column.clone() }).collect()
    }

    fn top(&mut self) -> Query {
        let relation = self.any_relation();
        let (partition, closes) = self.partition(&relation.columns);
        let order = self.order_by(&relation.columns, 1);
        let function = *self.random.one_of(&["row_number", "row_number", "rank", "dense_rank"]);
        let by: Vec<&str> = partition.iter().map(|column| column.name.as_str()).collect();
        let by = if by.is_empty() { String::new() } else { format!("PARTITION BY {}", by.join(", ")) };
        let names: Vec<&str> = relation.columns.iter().map(|column| column.name.as_str()).collect();
        let most = self.random.range(1, 4);
        let bound = match self.random.below(6) {
            0 => format!("rn = {}", self.random.range(1, 2)),
            1 => format!("rn BETWEEN 2 AND {}", most + 1),
            2 => format!("rn < {}", most + 1),
            3 => format!("rn IN (1, {most})"),
            _ => format!("rn <= {most}"),
        };
        let mut columns = Self::without_times(&relation.columns, &partition, closes);
        let rest = if self.random.chance(20) { format!(" AND {}", predicate(self.random, &columns, 1)) } else { String::new() };
        if self.random.chance(50) {
            columns.push(Column { name: "rn".into(), kind: Kind::BigInt, role: Role::None });
        }
        let items = self.items(&columns);
        let sql = format!(
            "SELECT {} FROM (SELECT {}, {function}() OVER ({by}{order}) AS rn FROM {}) AS q WHERE {bound}{rest}",
            items.sql(),
            names.join(", "),
            relation.name,
        );
        Query { sql, columns: items.columns, closes, depth: relation.depth }
    }

    fn limit(&mut self) -> Query {
        let relation = self.any_relation();
        let columns = Self::without_times(&relation.columns, &[], false);
        let items = self.items(&columns);
        let condition = self.condition(&columns, 30);
        let order = self.order_by(&columns, 0);
        let count = self.random.range(1, 5);
        let limit = match self.random.below(4) {
            0 => format!(" LIMIT {count} OFFSET {}", self.random.range(1, 3)),
            1 if !order.is_empty() => format!(" FETCH FIRST {count} ROWS WITH TIES"),
            2 if !order.is_empty() => format!(" OFFSET 1 ROW FETCH FIRST {count} ROWS WITH TIES"),
            _ => format!(" LIMIT {count}"),
        };
        let sql = format!("SELECT {} FROM {}{condition}{order}{limit}", items.sql(), relation.name);
        Query { sql, columns: items.columns, closes: false, depth: relation.depth }
    }

    fn distinct_on(&mut self) -> Query {
        let relation = self.any_relation();
        let columns = Self::without_times(&relation.columns, &[], false);
        let by = self.random.one_of(&columns).name.clone();
        let mut order = format!(" ORDER BY {by}");
        for _ in 0..self.random.range(0, 2) {
            let column = self.random.one_of(&columns);
            order += &format!(", {}{}", column.name, self.random.pick(&["", " DESC", " NULLS FIRST"]));
        }
        let mut items = Items::default();
        for column in &columns {
            items.add(&column.name, column.kind, column.role);
        }
        let inner = format!("SELECT DISTINCT ON ({by}) {} FROM {}{order}", items.sql(), relation.name);
        if self.random.chance(50) {
            return Query { sql: inner, columns: items.columns, closes: false, depth: relation.depth };
        }
        let outer = Relation { name: "q".into(), columns: items.columns, depth: relation.depth };
        let items = self.items(&outer.columns);
        let condition = self.condition(&outer.columns, 60);
        let sql = format!("SELECT {} FROM ({inner}) AS q{condition}", items.sql());
        Query { sql, columns: items.columns, closes: false, depth: relation.depth }
    }
}
