//! Orders: the first rows of partitions, limits.

use super::{Items, Queries, Query, interval};
use crate::generate::expr::{expr, predicate};
use crate::generate::names::{Column, Kind, Relation, Role};

impl Queries<'_> {
    /// Something whose result depends on an order.
    pub(super) fn ordered(&mut self) -> Query {
        match self.random.below(12) {
            0 => self.limit(),
            1 => self.distinct_on(),
            2..=4 => self.top(),
            _ => self.over(30),
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

    /// One with windows, in so many cases of a hundred if there is one.
    fn relation_in_windows(&mut self, percent: u64) -> Relation {
        let wanted = self.random.chance(percent);
        let windowed =
            |relation: &Relation| relation.columns.iter().any(|column| matches!(column.role, Role::Start(_) | Role::End(_)));
        let found = if wanted { self.relation(windowed) } else { None };
        found.unwrap_or_else(|| self.any_relation())
    }

    fn top(&mut self) -> Query {
        let relation = self.relation_in_windows(30);
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

    /// One or two OVER clauses with one to three functions each; in so many cases of a hundred of rows in windows.
    pub(super) fn over(&mut self, in_windows: u64) -> Query {
        let relation = self.relation_in_windows(in_windows);
        let (mut partition, mut closes) = self.partition(&relation.columns);
        let mut order = self.order_by(&relation.columns, 1);
        let mut ranged = None;
        match (relation.event_time().cloned(), self.random.below(5)) {
            // By event time, as a stream has it.
            (Some(time), 0..=2) if !closes || self.random.chance(30) => {
                partition.retain(|by| by.role == Role::None);
                partition.truncate(1);
                order = format!(" ORDER BY {}", time.name);
                ranged = Some(time.kind);
                closes = true;
                if self.random.chance(20) {
                    order += &format!(", {}", self.random.one_of(&relation.columns).name);
                    ranged = None;
                }
            }
            _ => {
                let values: Vec<&Column> = relation.columns.iter().filter(|column| is_ranged(column.kind)).collect();
                if !values.is_empty() && self.random.chance(50) {
                    let by = (*self.random.one_of(&values)).clone();
                    order =
                        format!(" ORDER BY {}{}", by.name, self.random.pick(&["", " DESC", " NULLS FIRST", " DESC NULLS LAST"]));
                    ranged = Some(by.kind);
                }
            }
        }
        let columns = Self::without_times(&relation.columns, &partition, true);
        let by: Vec<&str> = partition.iter().map(|column| column.name.as_str()).collect();
        let by = if by.is_empty() { String::new() } else { format!("PARTITION BY {}", by.join(", ")) };
        let windows = [format!("{by}{order}"), format!("{by}{}", self.order_by(&relation.columns, 1))];
        let second = self.random.chance(15);
        let mut items = Items::default();
        for column in &columns {
            if self.random.chance(60) {
                items.add(&column.name, column.kind, column.role);
            }
        }
        for _ in 0..self.random.range(1, 3) {
            let other = second && self.random.chance(50);
            let frame = self.frame(if other { None } else { ranged });
            let (function, kind, framed) = self.over_function(&relation.columns, closes);
            let frame = if framed && !order.is_empty() { frame } else { String::new() };
            items.add(&format!("{function} OVER ({}{frame})", windows[usize::from(other)]), kind, Role::None);
        }
        let condition = self.condition(&relation.columns, 25);
        let sql = format!("SELECT {} FROM {}{condition}", items.sql(), relation.name);
        Query { sql, columns: items.columns, closes, depth: relation.depth }
    }

    /// A function, its type, and whether it looks at frames.
    fn over_function(&mut self, columns: &[Column], closes: bool) -> (String, Kind, bool) {
        let column = self.random.one_of(columns).clone();
        let (name, kind) = (column.name, column.kind);
        match self.random.below(10) {
            0 => (format!("{}()", self.random.pick(&["ROW_NUMBER", "RANK", "DENSE_RANK"])), Kind::BigInt, false),
            1 => {
                let function = self.random.pick(&["LAG", "LEAD"]);
                let offset = self.random.range(0, 3);
                let default = if self.random.chance(30) { format!(", {name}") } else { String::new() };
                (format!("{function}({name}, {offset}{default})"), kind, false)
            }
            2 => (format!("{}({name})", self.random.pick(&["FIRST_VALUE", "LAST_VALUE"])), kind, true),
            3 => (format!("NTH_VALUE({name}, {})", self.random.range(1, 3)), kind, true),
            4 if closes && self.random.chance(70) => {
                let (function, kind) = *self.random.one_of(&[
                    ("PERCENT_RANK()", Kind::Double),
                    ("CUME_DIST()", Kind::Double),
                    ("NTILE(3)", Kind::BigInt),
                ]);
                (function.to_string(), kind, false)
            }
            _ => {
                let (call, kind) = self.call(columns);
                (call, kind, true)
            }
        }
    }

    /// A frame, perhaps; of values if their kind is given.
    fn frame(&mut self, ranged: Option<Kind>) -> String {
        let units = match self.random.below(6) {
            0 => return String::new(),
            1..=3 if ranged.is_some() => "RANGE",
            1..=3 => "ROWS",
            _ => "GROUPS",
        };
        let distance = |queries: &mut Self| match (units, ranged) {
            ("RANGE", Some(Kind::Timestamp)) => interval(queries.random.range(0, 4) * 1_000),
            ("RANGE", Some(Kind::Double)) => format!("{}", queries.random.range(0, 6) as f64 / 2.0),
            _ => queries.random.range(0, 3).to_string(),
        };
        let one = distance(self);
        let other = distance(self);
        let frame = match self.random.below(8) {
            0 => "UNBOUNDED PRECEDING AND CURRENT ROW".to_string(),
            1 => "CURRENT ROW AND UNBOUNDED FOLLOWING".to_string(),
            2 => format!("{one} PRECEDING AND {other} FOLLOWING"),
            3 => format!("CURRENT ROW AND {one} FOLLOWING"),
            4 => format!("UNBOUNDED PRECEDING AND {one} FOLLOWING"),
            5 => "UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING".to_string(),
            _ => format!("{one} PRECEDING AND CURRENT ROW"),
        };
        format!(" {units} BETWEEN {frame}")
    }
}

fn is_ranged(kind: Kind) -> bool {
    matches!(kind, Kind::BigInt | Kind::Int | Kind::Double | Kind::Timestamp)
}
