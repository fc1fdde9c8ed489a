//! Conditions on the clock: rows that come and go while nothing is given.

use super::{From, Items, Queries, Query, interval};
use crate::generate::Random;
use crate::generate::expr::predicate;
use crate::generate::names::{Column, Kind, Relation, Role};
use crate::generate::sources::MOMENT;

impl Queries<'_> {
    /// A query that says `NOW()`, over a relation that has times about now.
    pub(super) fn clocked(&mut self) -> Query {
        let stamped = |relation: &Relation| relation.columns.iter().any(|column| column.name == MOMENT);
        let clock = self.relations.iter().any(|relation| relation.clock().is_some());
        if let Some(stream) = self.relation(stamped)
            && (!clock || self.random.chance(50))
        {
            return self.clock_windows(stream);
        }
        let Some(relation) = self.relation(|relation| relation.clock().is_some()) else { return self.project() };
        let from = From { sql: format!("{} AS l", relation.name), columns: relation.columns_of("l"), depth: relation.depth };
        match self.random.below(8) {
            0..=3 => self.filtered(from),
            4 => self.filtered_groups(from),
            5..=6 => self.filtered_join(from),
            _ => self.groups_of_filtered(from),
        }
    }

    /// Windows of the clock, as long as a job runs.
    fn clock_windows(&mut self, stream: Relation) -> Query {
        let key = self.random.chance(50).then(|| self.random.one_of(&stream.columns).clone());
        let ms = |random: &mut Random, least: i64| interval(random.range(least, 9));
        let (function, lengths) = match self.random.below(4) {
            0 => ("TUMBLE", ms(self.random, 2)),
            // Longer than any job runs: of a row that comes just when a session ends it hangs on epochs without rows, of which
            // nobody here is told, whether the session was over. That sessions end is tested by hand.
            1 => ("SESSION", interval(self.random.range(1, 9) * 3_600_000)),
            2 => {
                let slide = self.random.range(2, 4);
                ("HOP", format!("{}, {}", interval(slide), interval(slide * self.random.range(1, 3))))
            }
            _ => {
                let step = self.random.range(1, 3);
                ("CUMULATE", format!("{}, {}", interval(step), interval(step * self.random.range(1, 4))))
            }
        };
        let mut items = Items::default();
        items.columns.extend(key.iter().map(|key| Column { name: "c0".into(), role: Role::None, ..key.clone() }));
        items.sql.extend(key.iter().map(|key| format!("{} AS c0", key.name)));
        items.add("window_start", Kind::Timestamp, Role::None);
        items.add("window_end", Kind::Timestamp, Role::None);
        let partition = key.as_ref().filter(|_| function == "SESSION").map(|key| format!(" PARTITION BY {}", key.name));
        let relation = format!("{}{}", stream.name, partition.unwrap_or_default());
        let from = format!("{function}(TABLE {relation}, DESCRIPTOR({MOMENT}), {lengths})");
        let condition = self.condition(&stream.columns, 30);
        if self.random.chance(25) {
            let sql = format!("SELECT {} FROM {from}{condition}", items.sql());
            return Query { sql, columns: items.columns, closes: false, depth: 0 };
        }
        for _ in 0..self.random.range(1, 2) {
            let (call, kind) = self.call(&stream.columns);
            items.add(&call, kind, Role::None);
        }
        let keys = key.map(|key| format!("{}, ", key.name)).unwrap_or_default();
        let sql = format!("SELECT {} FROM {from}{condition} GROUP BY {keys}window_start, window_end", items.sql());
        Query { sql, columns: items.columns, closes: true, depth: 0 }
    }

    /// A condition that turns once for each row.
    fn turning(&mut self, time: &str, columns: &[Column]) -> String {
        let [less, more] = [0, 1].map(|_| format!("INTERVAL '{}' MILLISECOND", self.random.range(0, 9)));
        match self.random.below(12) {
            0 => format!("{time} > NOW() - {less}"),
            1 => format!("{time} >= NOW()"),
            2 => format!("{time} <= NOW() + {less}"),
            3 => format!("NOW() > {time}"),
            4 => format!("NOW() - {time} < {less}"),
            5 => format!("{time} BETWEEN NOW() - {less} AND NOW() + {more}"),
            6 => format!("{time} <= NOW() AND {time} + {more} > NOW()"),
            7 => format!("({time} > NOW() OR {})", predicate(self.random, columns, 1)),
            8 => format!("({time} < NOW() OR {})", predicate(self.random, columns, 1)),
            9 => {
                let step = format!("INTERVAL '{}' MILLISECOND", self.random.range(2, 8));
                let bin = |time: &str| format!("date_bin({step}, {time}, TIMESTAMP '1970-01-01')");
                let order = self.random.pick(&["=", "<", ">="]);
                format!("{} {order} {}", bin(time), bin("NOW()"))
            }
            10 => format!("{time} + INTERVAL '1' MONTH > NOW() + INTERVAL '1' MONTH - {less}"),
            _ => format!("CASE WHEN {} THEN {time} END <= NOW()", predicate(self.random, columns, 1)),
        }
    }

    fn filtered(&mut self, from: From) -> Query {
        let time = clock_of(&from.columns);
        let mut conditions = vec![self.turning(&time, &from.columns)];
        if self.random.chance(25) {
            conditions.push(predicate(self.random, &from.columns, 1));
        }
        let items = self.items(&from.columns);
        let columns = without_times(items.columns.clone());
        let distinct = if self.random.chance(15) { "DISTINCT " } else { "" };
        let sql = format!("SELECT {distinct}{} FROM {} WHERE {}", items.sql(), from.sql, conditions.join(" AND "));
        Query { sql, columns, closes: false, depth: from.depth }
    }

    /// Groups whose own time is compared.
    fn filtered_groups(&mut self, from: From) -> Query {
        let time = clock_of(&from.columns);
        let key = self.random.one_of(&from.columns).clone();
        let last = format!("{}({time})", self.random.pick(&["max", "min"]));
        let mut items = Items::default();
        items.add(&key.name, key.kind, Role::None);
        items.add("count(*)", Kind::BigInt, Role::None);
        items.add(&last, Kind::Timestamp, Role::Clock);
        let order = self.random.pick(&["<", "<=", ">", ">="]);
        let sql = format!("SELECT {} FROM {} GROUP BY {} HAVING {last} {order} NOW()", items.sql(), from.sql, key.name);
        Query { sql, columns: items.columns, closes: false, depth: from.depth }
    }

    /// Groups of rows that come and go.
    fn groups_of_filtered(&mut self, from: From) -> Query {
        let time = clock_of(&from.columns);
        let condition = self.turning(&time, &from.columns);
        let mut items = Items::default();
        let key = self.random.chance(70).then(|| self.random.one_of(&from.columns).clone());
        if let Some(key) = &key {
            items.add(&key.name, key.kind, Role::None);
        }
        for _ in 0..self.random.range(1, 2) {
            let (call, kind) = self.call(&from.columns);
            items.add(&call, kind, Role::None);
        }
        let group = key.map(|key| format!(" GROUP BY {}", key.name)).unwrap_or_default();
        let sql = format!("SELECT {} FROM {} WHERE {condition}{group}", items.sql(), from.sql);
        Query { sql, columns: items.columns, closes: false, depth: from.depth }
    }

    /// A join of which one side, or each pair, comes and goes.
    fn filtered_join(&mut self, from: From) -> Query {
        let right = self.from("r");
        let mut on = self.equality(&from.columns, &right.columns);
        let both: Vec<Column> = from.columns.iter().chain(&right.columns).cloned().collect();
        if on.is_empty() {
            on.push(predicate(self.random, &both, 1));
        }
        let turning = self.turning(&clock_of(&from.columns), &both);
        let items = self.items(&both);
        let columns = without_times(items.columns.clone());
        let (on, items) = (on.join(" AND "), items.sql());
        let sql = match self.random.below(3) {
            0 => format!("SELECT {items} FROM {} JOIN {} ON {on} AND {turning}", from.sql, right.sql),
            1 => format!("SELECT {items} FROM {} LEFT JOIN {} ON {on} WHERE {turning}", from.sql, right.sql),
            _ => format!("SELECT {items} FROM {} JOIN {} ON {on} WHERE {turning}", from.sql, right.sql),
        };
        Query { sql, columns, closes: false, depth: from.depth.max(right.depth) }
    }
}

fn clock_of(columns: &[Column]) -> String {
    columns.iter().find(|column| column.role == Role::Clock).expect("the relation was chosen for it").name.clone()
}

/// Behind a filter by the clock no column is an event time.
fn without_times(mut columns: Vec<Column>) -> Vec<Column> {
    columns.iter_mut().filter(|column| column.role != Role::Clock).for_each(|column| column.role = Role::None);
    columns
}
