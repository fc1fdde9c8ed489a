//! Grouping, with and without windows.

use super::{From, Items, Queries, Query, interval};
use crate::generate::expr::expr;
use crate::generate::names::{Column, Kind, Role};

/// Windows as they are written.
#[derive(Debug, Clone)]
pub(super) struct Windows {
    function: &'static str,
    /// Slide (only of HOP), size, perhaps offset.
    lengths: Vec<i64>,
}

impl Windows {
    fn size(&self) -> i64 {
        if matches!(self.function, "TUMBLE" | "SESSION") { self.lengths[0] } else { self.lengths[1] }
    }

    /// What a window's start and end are to those who group by them.
    fn roles(&self) -> [Role; 2] {
        match self.function {
            "SESSION" | "CUMULATE" => [Role::None, Role::End(self.size())],
            _ => [Role::Start(self.size()), Role::End(self.size())],
        }
    }

    fn arguments(&self) -> String {
        self.lengths.iter().map(|ms| interval(*ms)).collect::<Vec<_>>().join(", ")
    }
}

impl Queries<'_> {
    /// Random windows, of this size if one is given.
    pub(super) fn windows(&mut self, size: Option<i64>) -> Windows {
        let size = size.unwrap_or_else(|| *self.random.one_of(&[1_000, 2_000, 2_000, 3_000, 5_000, 500]));
        let mut windows = match self.random.below(20) {
            0..8 => Windows { function: "TUMBLE", lengths: vec![size] },
            8..12 => return self.sessions(size),
            12..14 => {
                let step = *self.random.one_of(&[size, size / 2, size / 5]);
                let step = if step > 0 && step % self.finest_ms == 0 { step } else { size };
                let step = (step.div_euclid(self.finest_ms) * self.finest_ms).max(self.finest_ms);
                Windows { function: "CUMULATE", lengths: vec![step, step * (size / step).max(1)] }
            }
            _ => {
                let slide = *self.random.one_of(&[size, size / 2, size / 2, (size * 2 / 5).max(200), (size * 3 / 4).max(200)]);
                Windows { function: "HOP", lengths: vec![slide, size] }
            }
        };
        if self.random.chance(15) {
            windows.lengths.push(*self.random.one_of(&[200, 1_000, 300, -400]));
        }
        for length in &mut windows.lengths {
            *length = (*length).div_euclid(self.finest_ms) * self.finest_ms;
        }
        let sizes = if windows.function == "TUMBLE" { 1 } else { 2 };
        windows.lengths[..sizes].iter_mut().for_each(|length| *length = (*length).max(self.finest_ms));
        windows
    }

    fn sessions(&mut self, gap: i64) -> Windows {
        let gap = if self.random.chance(50) { gap / 2 } else { gap };
        Windows { function: "SESSION", lengths: vec![(gap.div_euclid(self.finest_ms) * self.finest_ms).max(self.finest_ms)] }
    }

    /// Aggregate calls over these columns.
    fn calls(&mut self, items: &mut Items, columns: &[Column], least: i64) {
        for _ in 0..self.random.range(least, 3) {
            let (sql, kind) = self.call(columns);
            items.add(&sql, kind, Role::None);
        }
    }

    fn having(&mut self, columns: &[Column]) -> String {
        if !self.random.chance(22) {
            return String::new();
        }
        let (call, kind) = self.call(columns);
        match kind {
            Kind::BigInt | Kind::Int => {
                format!(" HAVING {call} {} {}", self.random.pick(&[">", "<", "<>"]), self.random.range(0, 3))
            }
            _ => format!(" HAVING {call} IS NOT NULL"),
        }
    }

    /// Up to so many keys: columns and expressions.
    fn keys(&mut self, items: &mut Items, columns: &[Column], most: i64) -> Vec<String> {
        let mut keys = Vec::new();
        for _ in 0..self.random.range(0, most) {
            let (sql, kind, role) = match self.random.chance(80) {
                true => {
                    let column = self.random.one_of(columns);
                    (column.name.clone(), column.kind, column.role)
                }
                false => (expr(self.random, columns, Kind::BigInt, 1), Kind::BigInt, Role::None),
            };
            let is_name = columns.iter().any(|column| sql.contains(&column.name));
            if keys.contains(&sql) || !is_name {
                continue;
            }
            let role = if role == Role::Event { Role::None } else { role };
            items.add(&sql, kind, role);
            keys.push(sql);
        }
        keys
    }

    /// `GROUP BY` of several sets of the keys behind the first so many, which are in every set.
    fn sets(&mut self, items: &mut Items, keys: &[String], fixed: usize) -> String {
        let (fixed, varying) = keys.split_at(fixed);
        if self.random.chance(50) {
            items.add(&format!("GROUPING({})", varying.join(", ")), Kind::Int, Role::None);
        }
        let all = varying.join(", ");
        let sets = match self.random.below(3) {
            0 => format!("ROLLUP ({all})"),
            1 => format!("CUBE ({all})"),
            _ => format!("GROUPING SETS (({all}), ({}), ())", varying[0]),
        };
        format!(" GROUP BY {}", [fixed, &[sets]].concat().join(", "))
    }

    pub(super) fn group(&mut self) -> Query {
        let relation = self.any_relation();
        let from = From { sql: relation.name.clone(), columns: relation.columns.clone(), depth: relation.depth };
        self.group_of(from)
    }

    /// `GROUP BY` of columns; bounds of windows among them close it.
    fn group_of(&mut self, from: From) -> Query {
        let mut items = Items::default();
        let mut keys = Vec::new();
        for column in &from.columns {
            if matches!(column.role, Role::Start(_) | Role::End(_)) && self.random.chance(70) {
                items.add(&column.name, column.kind, column.role);
                keys.push(column.name.clone());
            }
        }
        let bounds = keys.len();
        let others: Vec<Column> = from.columns.iter().filter(|column| !keys.contains(&column.name)).cloned().collect();
        if !others.is_empty() {
            keys.extend(self.keys(&mut items, &others, if bounds > 0 { 1 } else { 3 }));
        }
        let least = i64::from(keys.is_empty());
        self.calls(&mut items, &from.columns, least);
        let condition = self.condition(&from.columns, 40);
        let having = self.having(&from.columns);
        let plain = items.columns[bounds..].iter().take(keys.len() - bounds).all(|column| column.role == Role::None);
        let group = match keys.len() - bounds {
            _ if keys.is_empty() => String::new(),
            1.. if plain && self.random.chance(15) => self.sets(&mut items, &keys, bounds),
            _ => format!(" GROUP BY {}", keys.join(", ")),
        };
        let sql = format!("SELECT {} FROM {}{condition}{group}{having}", items.sql(), from.sql);
        let closes = items.columns.iter().any(|column| matches!(column.role, Role::Start(_) | Role::End(_)));
        Query { sql, columns: items.columns, closes, depth: from.depth }
    }

    /// Groups of a relation that has windows already, from a view or a subquery.
    pub(super) fn window_again(&mut self) -> Query {
        let from = match self.relation(|relation| relation.windows().is_some()) {
            Some(relation) => From { sql: relation.name.clone(), columns: relation.columns.clone(), depth: relation.depth },
            None => {
                let query = self.window_group();
                let columns = query.columns.iter().map(|column| Column { name: format!("q.{}", column.name), ..column.clone() });
                From { sql: format!("({}) AS q", query.sql), columns: columns.collect(), depth: query.depth }
            }
        };
        self.group_of(from)
    }

    pub(super) fn window_group(&mut self) -> Query {
        let windows = self.windows(None);
        let Some(relation) = self.relation(|relation| relation.event_time().is_some()) else { return self.group() };
        let from = From { sql: relation.name.clone(), columns: relation.columns.clone(), depth: relation.depth };
        self.window_group_of(from, &windows)
    }

    /// A stream with a watermark, in these windows, or some of this size.
    pub(super) fn window_group_sized(&mut self, size: i64, windows: Option<&Windows>) -> Query {
        let windows = windows.cloned().unwrap_or_else(|| self.windows(Some(size)));
        let relation = self.relation(|relation| relation.event_time().is_some()).expect("the first source has a watermark");
        let from = From { sql: relation.name.clone(), columns: relation.columns.clone(), depth: relation.depth };
        self.window_group_of(from, &windows)
    }

    fn window_group_of(&mut self, from: From, windows: &Windows) -> Query {
        let time = from.columns.iter().find(|column| column.role == Role::Event).expect("it was chosen for that").clone();
        let mut items = Items::default();
        let columns = from.columns.clone();
        let [start, end] = windows.roles();
        let mut keys = self.keys(&mut items, &columns, 2);
        let partition = if self.random.chance(85) { keys.clone() } else { Vec::new() };
        let functional = windows.function != "CUMULATE" && self.random.chance(30);
        let from_sql = if functional {
            let call = format!("{}({}, {})", windows.function, time.name, windows.arguments());
            let part = |part: &str| format!("{}_{part}({}, {})", windows.function, time.name, windows.arguments());
            let parts = self.random.below(4);
            if parts != 1 {
                items.add(&part("START"), Kind::Timestamp, start);
            }
            if parts != 2 {
                items.add(&part("END"), Kind::Timestamp, end);
            }
            keys.push(call);
            from.sql.clone()
        } else {
            let parts = self.random.below(6);
            if parts != 1 {
                keys.push("window_start".into());
                items.add("window_start", Kind::Timestamp, start);
            }
            if parts != 2 {
                keys.push("window_end".into());
                items.add("window_end", Kind::Timestamp, end);
            }
            if parts == 3 {
                keys.push("window_time".into());
                items.add("window_time", Kind::Timestamp, Role::Event);
            }
            self.table_function(&from.sql, &time.name, windows, &partition)
        };
        self.calls(&mut items, &columns, 0);
        let condition = self.condition(&columns, 35);
        let having = self.having(&columns);
        let sql = format!("SELECT {} FROM {from_sql}{condition} GROUP BY {}{having}", items.sql(), keys.join(", "));
        Query { sql, columns: items.columns, closes: true, depth: from.depth }
    }

    /// `TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), size))` in one of its spellings.
    fn table_function(&mut self, relation: &str, time: &str, windows: &Windows, partition: &[String]) -> String {
        let (function, arguments) = (windows.function, windows.arguments());
        if function == "SESSION" && !partition.is_empty() {
            let keys = partition.join(", ");
            return match self.random.chance(50) {
                true => format!("SESSION({relation}, {time}, {keys}, {arguments})"),
                false => format!("SESSION(TABLE {relation} PARTITION BY ({keys}), DESCRIPTOR({time}), {arguments})"),
            };
        }
        match self.random.below(3) {
            0 => format!("{function}({relation}, {time}, {arguments})"),
            1 => format!("{function}(TABLE {relation}, DESCRIPTOR({time}), {arguments})"),
            _ => format!("TABLE({function}(TABLE {relation}, DESCRIPTOR({time}), {arguments}))"),
        }
    }

    /// Rows with their windows, not grouped.
    pub(super) fn window_rows(&mut self) -> Query {
        let windows = self.windows(None);
        let Some(relation) = self.relation(|relation| relation.event_time().is_some()) else { return self.project() };
        let time = relation.event_time().expect("it was chosen for that").name.clone();
        let mut items = Items::default();
        let [start, end] = windows.roles();
        items.add("window_start", Kind::Timestamp, start);
        items.add("window_end", Kind::Timestamp, end);
        let session = windows.function == "SESSION";
        for _ in 0..self.random.range(1, 3) {
            let column = self.random.one_of(&relation.columns);
            items.add(&column.name, column.kind, if session { Role::None } else { column.role });
        }
        let partition =
            if self.random.chance(70) { vec![self.random.one_of(&relation.columns).name.clone()] } else { Vec::new() };
        let from = self.table_function(&relation.name, &time, &windows, &partition);
        let condition = self.condition(&relation.columns, 35);
        let sql = format!("SELECT {} FROM {from}{condition}", items.sql());
        Query { sql, columns: items.columns, closes: false, depth: relation.depth }
    }
}
