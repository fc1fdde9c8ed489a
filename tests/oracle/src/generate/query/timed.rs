//! Joins in time.

use super::{From, Queries, Query};
use crate::generate::expr::predicate;
use crate::generate::names::{Column, Kind, Role};

impl Queries<'_> {
    /// A join beside the right side of the moment, beside the version of a time, or beside the nearest row.
    pub(super) fn timed_join(&mut self) -> Query {
        match self.random.below(3) {
            0 => self.processing_join(),
            1 => self.version_join(),
            _ => self.asof_join(),
        }
    }

    fn processing_join(&mut self) -> Query {
        let left = self.from("l");
        let relation = self.any_relation();
        let right = relation.columns_of("r");
        let mut on = if self.random.chance(92) { self.equality(&left.columns, &right) } else { Vec::new() };
        let both: Vec<Column> = left.columns.iter().chain(&right).cloned().collect();
        if on.is_empty() || self.random.chance(25) {
            on.push(predicate(self.random, &both, 1));
        }
        let joined = format!("{} FOR SYSTEM_TIME AS OF PROCTIME() AS r", relation.name);
        self.timed(left, &joined, right, &on, relation.depth)
    }

    fn version_join(&mut self) -> Query {
        // The table is `p1`, and its key its first columns.
        let versioned = self.relation(|relation| relation.name == "p1" && relation.event_time().is_some());
        let left = self.relation(|relation| relation.event_time().is_some());
        let (Some(versioned), Some(left)) = (versioned, left) else { return self.processing_join() };
        let time = left.event_time().expect("just asked").name.clone();
        let left = From { sql: format!("{} AS l", left.name), columns: left.columns_of("l"), depth: left.depth };
        let right = versioned.columns_of("r");
        let mut on = Vec::new();
        for key in right[..self.versioned_keys].iter().cloned() {
            let fitting: Vec<&Column> = left.columns.iter().filter(|column| column.kind == key.kind).collect();
            match fitting.is_empty() {
                true => return self.processing_join(),
                false => on.push(format!("{} = {}", self.random.one_of(&fitting).name, key.name)),
            }
        }
        let both: Vec<Column> = left.columns.iter().chain(&right).cloned().collect();
        if self.random.chance(25) {
            on.push(predicate(self.random, &both, 1));
        }
        let joined = format!("{} FOR SYSTEM_TIME AS OF l.{time} AS r", versioned.name);
        self.timed(left, &joined, right, &on, versioned.depth)
    }

    fn asof_join(&mut self) -> Query {
        let (left, right) = (self.from("l"), self.from("r"));
        let mut on = if self.random.chance(90) { self.equality(&left.columns, &right.columns) } else { Vec::new() };
        let ordered = |column: &&Column| matches!(column.kind, Kind::BigInt | Kind::Int | Kind::Decimal | Kind::Timestamp);
        let mut pairs = Vec::new();
        for one in left.columns.iter().filter(ordered) {
            let same = right.columns.iter().filter(|other| other.kind == one.kind);
            pairs.extend(same.map(|other| (one.name.clone(), other.name.clone(), one.kind)));
        }
        if pairs.is_empty() {
            return self.project();
        }
        // Times are what such joins are for.
        let times: Vec<_> = pairs.iter().filter(|(_, _, kind)| *kind == Kind::Timestamp).cloned().collect();
        let pairs = if !times.is_empty() && self.random.chance(70) { times } else { pairs };
        let (one, other, _) = self.random.one_of(&pairs).clone();
        let comparison = format!("{one} {} {other}", self.random.pick(&["<", "<=", ">", ">=", ">="]));
        let joined = if self.random.chance(40) && !on.is_empty() {
            format!("{} MATCH_CONDITION ({comparison})", right.sql)
        } else {
            on.push(comparison);
            right.sql.clone()
        };
        let both: Vec<Column> = left.columns.iter().chain(&right.columns).map(without_role).collect();
        let mut items = self.items(&both);
        items.columns.iter_mut().for_each(|column| column.role = Role::None);
        let kind = self.random.pick(&["ASOF JOIN", "ASOF LEFT JOIN"]);
        let condition = self.condition(&both, 25);
        let sql = format!("SELECT {} FROM {} {kind} {joined} ON {}{condition}", items.sql(), left.sql, on.join(" AND "));
        Query { sql, columns: items.columns, closes: false, depth: left.depth.max(right.depth) }
    }

    fn timed(&mut self, left: From, joined: &str, right: Vec<Column>, on: &[String], depth: usize) -> Query {
        let kind = self.random.pick(&["JOIN", "LEFT JOIN"]);
        let both: Vec<Column> = left.columns.iter().cloned().chain(right.iter().map(without_role)).collect();
        let mut items = self.items(&both);
        // What survives of the left side's times is the planner's to say.
        items.columns.iter_mut().filter(|column| column.role != Role::Event).for_each(|column| column.role = Role::None);
        let condition = self.condition(&both, 25);
        let sql = format!("SELECT {} FROM {} {kind} {joined} ON {}{condition}", items.sql(), left.sql, on.join(" AND "));
        Query { sql, columns: items.columns, closes: false, depth: left.depth.max(depth) }
    }

    pub(super) fn equality(&mut self, left: &[Column], right: &[Column]) -> Vec<String> {
        let mut on = Vec::new();
        let equality = if self.random.chance(12) { "IS NOT DISTINCT FROM" } else { "=" };
        for _ in 0..self.random.range(1, 4) {
            let one = self.random.one_of(left).clone();
            let fitting: Vec<&Column> =
                right.iter().filter(|other| other.kind == one.kind && one.kind != Kind::Boolean).collect();
            if !fitting.is_empty() && on.len() < 2 {
                on.push(format!("{} {equality} {}", one.name, self.random.one_of(&fitting).name));
            }
        }
        on
    }
}

fn without_role(column: &Column) -> Column {
    Column { role: Role::None, ..column.clone() }
}
