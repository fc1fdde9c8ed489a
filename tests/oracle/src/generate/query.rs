//! Random views over sources and over each other.

mod aggregates;
mod clocked;
mod extreme;
mod grouped;
mod items;
mod joined;
mod ordered;
mod recursive;
mod subquery;
mod timed;

use super::Random;
use super::expr::{expr, predicate};
use super::names::{Column, Kind, Relation, Role};
use super::sources::{Declared, MOMENT};

/// Views that may stand on each other.
const DEPTH_MAX: usize = 3;

const KINDS: [Kind; 6] = [Kind::BigInt, Kind::BigInt, Kind::Int, Kind::Varchar, Kind::Double, Kind::Boolean];

/// Makes the views of a job.
pub(super) struct Queries<'a> {
    random: &'a mut Random,
    relations: Vec<Relation>,
    /// Windows are no finer than this, because some time column is not.
    finest_ms: i64,
    /// How many of the first columns of the table with versions are its key.
    versioned_keys: usize,
}

/// A query and what its output is.
struct Query {
    sql: String,
    columns: Vec<Column>,
    /// Whether it has windows that close.
    closes: bool,
    depth: usize,
}

/// Something to select from.
struct From {
    /// As it stands behind FROM.
    sql: String,
    columns: Vec<Column>,
    depth: usize,
}

/// Whether it has times about now.
fn is_clocked(relation: &Relation) -> bool {
    relation.clock().is_some() || relation.columns.iter().any(|column| column.name == MOMENT)
}

/// `INTERVAL '2' SECOND`.
pub(super) fn interval(ms: i64) -> String {
    if ms % 1_000 == 0 { format!("INTERVAL '{}' SECOND", ms / 1_000) } else { format!("INTERVAL '{ms}' MILLISECOND") }
}

/// Output columns in the making.
#[derive(Default)]
struct Items {
    sql: Vec<String>,
    columns: Vec<Column>,
}

impl Items {
    fn add(&mut self, sql: &str, kind: Kind, role: Role) {
        let name = format!("c{}", self.columns.len());
        self.sql.push(format!("{sql} AS {name}"));
        self.columns.push(Column { name, kind, role });
    }

    fn sql(&self) -> String {
        self.sql.join(", ")
    }
}

impl<'a> Queries<'a> {
    /// Over these sources.
    pub(super) fn new(random: &'a mut Random, sources: &[Declared]) -> Self {
        let finest_ms = if sources.iter().any(Declared::counts_seconds) { 1_000 } else { 1 };
        let versioned_keys = sources.iter().filter_map(Declared::keys).max().unwrap_or(0);
        let relations = sources.iter().map(Declared::named).collect();
        Queries { random, relations, finest_ms, versioned_keys }
    }

    /// Some views, and perhaps a sink. `changing_windows`: the second one has OVER in the windows of the first one's groups,
    /// which change while they are open; among random views that stand on each other these seldom meet.
    pub(super) fn statements(mut self, views_max: i64, changing_windows: bool) -> Vec<String> {
        let mut statements = Vec::new();
        let views = self.random.range(1, views_max).max(if changing_windows { 2 } else { 1 });
        for number in 1..=views {
            let query = match number {
                1 if changing_windows => self.window_group(),
                2 if changing_windows => self.over(100),
                _ => self.query(),
            };
            let plain = number < views && self.random.chance(25);
            let what = if plain { "VIEW" } else { "MATERIALIZED VIEW" };
            let timed = query.columns.iter().any(Column::is_timed);
            let emit = match query.closes {
                true if self.random.chance(45) => " EMIT FINAL",
                false if timed && query.depth == 0 && self.random.chance(12) => " EMIT FINAL",
                _ if self.random.chance(10) => " EMIT CHANGES",
                _ if self.random.chance(6) => " EMIT EVERY INTERVAL '4' MILLISECOND",
                _ => "",
            };
            let name = format!("v{number}");
            statements.push(format!("CREATE {what} {name} AS {}{emit}", query.sql));
            let mut columns = query.columns;
            if emit.contains("EVERY") {
                // Given later than the watermark, times say nothing.
                columns.iter_mut().for_each(|column| column.role = Role::None);
            }
            self.relations.push(Relation { name, columns, depth: query.depth + 1 });
        }
        if self.random.chance(20) {
            statements.push(format!("CREATE SINK o1 FROM v{views} WITH (connector = 'stdout')"));
        }
        statements
    }

    fn query(&mut self) -> Query {
        if self.relations.iter().any(is_clocked) && self.random.chance(14) {
            return self.clocked();
        }
        match self.random.below(46) {
            41..=45 => self.ordered(),
            37..=38 => self.lateral(),
            39..=40 => self.recursive(),
            35..=36 => self.latest(),
            32..=34 => self.interval_join(),
            28..=29 => self.with_subquery(),
            0..=1 => self.project(),
            2..=4 => self.group(),
            5 => self.distinct(),
            6..=9 => self.window_group(),
            10..=11 => self.window_again(),
            12 => self.window_rows(),
            13..=15 => self.join(),
            16..=17 => self.window_join(),
            18 => self.unnest(),
            19 => self.extreme(),
            20..=23 => self.ordered(),
            24..=27 => self.timed_join(),
            _ => self.union(),
        }
    }

    /// A relation that is not too deep; `wanted` ones if there are some.
    fn relation(&mut self, wanted: impl Fn(&Relation) -> bool) -> Option<Relation> {
        let fitting: Vec<&Relation> =
            self.relations.iter().filter(|relation| relation.depth < DEPTH_MAX && wanted(relation)).collect();
        if fitting.is_empty() {
            return None;
        }
        // Views are more interesting than sources.
        let views: Vec<&Relation> = fitting.iter().copied().filter(|relation| relation.depth > 0).collect();
        if !views.is_empty() && self.random.chance(40) {
            return Some((*self.random.one_of(&views)).clone());
        }
        Some((*self.random.one_of(&fitting)).clone())
    }

    fn any_relation(&mut self) -> Relation {
        self.relation(|_| true).expect("sources are never too deep")
    }

    /// A relation or a subquery.
    fn from(&mut self, alias: &str) -> From {
        if self.random.chance(20) {
            let query = if self.random.chance(40) { self.group() } else { self.project() };
            let relation = Relation { name: alias.into(), columns: query.columns, depth: query.depth };
            return From {
                sql: format!("({}) AS {alias}", query.sql),
                columns: relation.columns_of(alias),
                depth: relation.depth,
            };
        }
        let relation = self.any_relation();
        From { sql: format!("{} AS {alias}", relation.name), columns: relation.columns_of(alias), depth: relation.depth }
    }

    fn condition(&mut self, columns: &[Column], percent: u64) -> String {
        if self.random.chance(percent) { format!(" WHERE {}", predicate(self.random, columns, 2)) } else { String::new() }
    }

    /// Some columns as they are, times first, and some expressions.
    fn items(&mut self, columns: &[Column]) -> Items {
        let mut items = Items::default();
        for column in columns.iter().filter(|column| column.role != Role::None) {
            if self.random.chance(80) {
                items.add(&column.name, column.kind, column.role);
            }
        }
        for _ in 0..self.random.range(1, 3) {
            if self.random.chance(50) {
                let column = self.random.one_of(columns).clone();
                items.add(&column.name, column.kind, column.role);
            } else {
                let kind = *self.random.one_of(&KINDS);
                let sql = expr(self.random, columns, kind, 2);
                items.add(&sql, kind, Role::None);
            }
        }
        items
    }

    fn project(&mut self) -> Query {
        let from = self.any_relation();
        let mut items = self.items(&from.columns);
        if from.name.starts_with('s') && self.random.chance(15) {
            items.add("PROCTIME()", Kind::Timestamp, if self.random.chance(50) { Role::Event } else { Role::None });
        }
        let condition = self.condition(&from.columns, 60);
        let sql = format!("SELECT {} FROM {}{condition}", items.sql(), from.name);
        Query { sql, columns: items.columns, closes: false, depth: from.depth }
    }

    fn distinct(&mut self) -> Query {
        let from = self.from("q");
        let items = self.items(&from.columns);
        let condition = self.condition(&from.columns, 40);
        let sql = format!("SELECT DISTINCT {} FROM {}{condition}", items.sql(), from.sql);
        let closes = items.columns.iter().any(|column| matches!(column.role, Role::Start(_) | Role::End(_)));
        Query { sql, columns: items.columns, closes, depth: from.depth }
    }

    fn union(&mut self) -> Query {
        let (left, right) = (self.any_relation(), self.any_relation());
        let mut sides = [Items::default(), Items::default()];
        if let (Some(one), Some(other)) = (left.event_time(), right.event_time()) {
            sides[0].add(&one.name, one.kind, one.role);
            sides[1].add(&other.name, other.kind, other.role);
        }
        for _ in 0..self.random.range(1, 3) {
            let kind = *self.random.one_of(&KINDS);
            for (items, relation) in sides.iter_mut().zip([&left, &right]) {
                let sql = expr(self.random, &relation.columns, kind, 1);
                items.add(&sql, kind, Role::None);
            }
        }
        let conditions = [self.condition(&left.columns, 40), self.condition(&right.columns, 40)];
        let all = match self.random.below(20) {
            0..=9 => "UNION ALL",
            10..=11 => "UNION",
            12..=13 => "INTERSECT",
            14..=15 => "INTERSECT ALL",
            16..=17 => "EXCEPT",
            _ => "EXCEPT ALL",
        };
        let sql = format!(
            "SELECT {} FROM {}{} {all} SELECT {} FROM {}{}",
            sides[0].sql(),
            left.name,
            conditions[0],
            sides[1].sql(),
            right.name,
            conditions[1],
        );
        let [items, _] = sides;
        Query { sql, columns: items.columns, closes: false, depth: left.depth.max(right.depth) }
    }
}
