//! Joins in time.

use super::{From, Queries, Query};
use crate::generate::expr::predicate;
use crate::generate::names::{Column, Kind, Relation, Role};

impl Queries<'_> {
    /// A join beside the right side of the moment, beside the version of a time, or beside the nearest row.
    pub(super) fn timed_join(&mut self) -> Query {
        let latest = self.relations.iter().any(is_latest);
        match self.random.below(3) {
            _ if latest && self.random.chance(60) => self.version_join(),
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
        // The table is `p1`, and its key its first columns; or it is the latest rows of a stream.
        let latest = self.relation(is_latest);
        let (versioned, keys) = match latest.filter(|_| self.random.chance(80)) {
            Some(latest) => (Some(latest), 1),
            None => (self.relation(|relation| relation.name == "p1" && relation.event_time().is_some()), self.versioned_keys),
        };
        let left = self.relation(|relation| relation.event_time().is_some());
        let (Some(versioned), Some(left)) = (versioned, left) else { return self.processing_join() };
        let time = left.event_time().expect("just asked").name.clone();
        let left = From { sql: format!("{} AS l", left.name), columns: left.columns_of("l"), depth: left.depth };
        let right = versioned.columns_of("r");
        let mut on = Vec::new();
        for key in right[..keys].iter().cloned() {
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

    /// The latest row of each key of a stream.
    pub(super) fn latest(&mut self) -> Query {
        let stream = self.relation(|relation| relation.name.starts_with('s')).expect("the first source is a stream");
        let columns = stream.columns_of("d");
        let other = self.random.one_of(&columns[1..]).clone();
        let condition =
            if self.random.chance(30) { format!(" AND {}", predicate(self.random, &columns, 1)) } else { String::new() };
        let below = if self.random.chance(30) { self.condition(&stream.columns, 100) } else { String::new() };
        let sql = format!(
            "SELECT d.k AS {LATEST_KEY}, {} AS c1, d.ts AS c2 FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY ts DESC) AS rn
             FROM {}{below}) AS d WHERE rn = 1{condition}",
            other.name, stream.name
        );
        let column = |name: &str, kind| Column { name: name.into(), kind, role: Role::None };
        let columns = vec![column(LATEST_KEY, Kind::BigInt), column("c1", other.kind), column("c2", Kind::Timestamp)];
        Query { sql, columns, closes: false, depth: stream.depth }
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

/// What the key of a stream's latest rows is called.
const LATEST_KEY: &str = "latest_key";

fn is_latest(relation: &Relation) -> bool {
    relation.columns[0].name == LATEST_KEY
}

fn without_role(column: &Column) -> Column {
    Column { role: Role::None, ..column.clone() }
}
