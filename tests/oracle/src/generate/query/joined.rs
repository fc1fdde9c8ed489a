//! Joins of every kind, on equal columns or on others.

use super::{From, Items, Queries, Query};
use crate::generate::expr::predicate;
use crate::generate::names::{Column, Kind, Role};

impl Queries<'_> {
    pub(super) fn join(&mut self) -> Query {
        let left = self.from("l");
        let right = if self.random.chance(20) {
            let relation = left.sql.strip_suffix(" AS l").filter(|sql| !sql.starts_with('(')).map(str::to_string);
            match relation {
                Some(relation) => From { sql: format!("{relation} AS r"), columns: renamed(&left.columns), depth: left.depth },
                None => self.from("r"),
            }
        } else {
            self.from("r")
        };
        self.join_of(left, right)
    }

    /// Two groupings by windows of one length, joined by the window.
    pub(super) fn window_join(&mut self) -> Query {
        let size = *self.random.one_of(&[1_000, 2_000, 4_000]);
        // The same windows on both sides: growing ones and sessions seldom meet otherwise.
        let same = self.random.chance(50).then(|| self.windows(Some(size)));
        let sides = ["l", "r"].map(|alias| {
            let existing = self.relation(|relation| relation.windows() == Some(size));
            match existing {
                Some(relation) if same.is_none() && self.random.chance(60) => From {
                    sql: format!("{} AS {alias}", relation.name),
                    columns: relation.columns_of(alias),
                    depth: relation.depth,
                },
                _ => {
                    let query = self.window_group_sized(size, same.as_ref());
                    let columns =
                        query.columns.iter().map(|column| Column { name: format!("{alias}.{}", column.name), ..column.clone() });
                    From { sql: format!("({}) AS {alias}", query.sql), columns: columns.collect(), depth: query.depth }
                }
            }
        });
        let [left, right] = sides;
        self.join_of(left, right)
    }

    /// Two relations whose times are at most so far apart.
    pub(super) fn interval_join(&mut self) -> Query {
        let timed = |column: &Column| column.is_timed() && column.kind == Kind::Timestamp;
        let [left, right] = ["l", "r"].map(|alias| {
            // Streams always have a time.
            let relation = self.relation(|relation| relation.columns.iter().any(timed)).expect("the first source is a stream");
            From { sql: format!("{} AS {alias}", relation.name), columns: relation.columns_of(alias), depth: relation.depth }
        });
        let of = |from: &From| from.columns.iter().filter(|column| timed(column)).cloned().collect::<Vec<Column>>();
        let [left_time, right_time] = [&left, &right].map(|from| self.random.one_of(&of(from)).name.clone());
        let least = *self.random.one_of(&[-4_000, -1_000, -500, 0, 0, 1_000]);
        let greatest = least + *self.random.one_of(&[0, 500, 2_000, 5_000]);
        let mut on: Vec<String> = Vec::new();
        if self.random.chance(85) {
            on.extend(self.equality(&left.columns, &right.columns).into_iter().take(1));
        }
        let bounds = self.random.below(10);
        if bounds == 9 {
            on.push(format!("{left_time} = {right_time}"));
        } else if bounds == 8 {
            let from = format!("{right_time} + {}", super::interval(least.max(0)));
            on.push(format!("{left_time} BETWEEN {from} AND {right_time} + {}", super::interval(greatest.max(0))));
        } else {
            if bounds != 0 {
                on.push(self.time_bound(&left_time, &right_time, least, ">"));
            }
            if bounds != 1 {
                on.push(self.time_bound(&left_time, &right_time, greatest, "<"));
            }
        }
        let both: Vec<Column> = left.columns.iter().chain(&right.columns).cloned().collect();
        if self.random.chance(20) {
            on.push(predicate(self.random, &both, 1));
        }
        let query = self.joined_on(left, right, on, true);
        Query { closes: bounds > 1, ..query }
    }

    /// `left - right` compared with some milliseconds, in one of many spellings.
    fn time_bound(&mut self, left: &str, right: &str, ms: i64, direction: &str) -> String {
        let op = format!("{direction}{}", if self.random.chance(70) { "=" } else { "" });
        let opposite = if direction == "<" { op.replace('<', ">") } else { op.replace('>', "<") };
        let (sign, other, length) = if ms < 0 { ("-", "+", super::interval(-ms)) } else { ("+", "-", super::interval(ms)) };
        match self.random.below(4) {
            0 => format!("{left} {op} {right} {sign} {length}"),
            1 => format!("{right} {sign} {length} {opposite} {left}"),
            2 => format!("{left} {other} {length} {op} {right}"),
            _ => format!("{right} {opposite} {left} {other} {length}"),
        }
    }

    fn join_of(&mut self, left: From, right: From) -> Query {
        let mut on = Vec::new();
        let mut windowed = false;
        for one in &left.columns {
            let same = right.columns.iter().find(|other| other.role == one.role);
            if let (Role::Start(_) | Role::End(_), Some(other)) = (one.role, same)
                && self.random.chance(85)
            {
                on.push(format!("{} = {}", one.name, other.name));
                windowed = true;
            }
        }
        let wanted = if on.is_empty() { self.random.range(1, 2) } else { self.random.range(0, 1) };
        let wanted = if on.is_empty() && self.random.chance(12) { 0 } else { wanted };
        for _ in 0..20 {
            if on.len() as i64 >= wanted + if windowed { 1 } else { 0 } {
                break;
            }
            let one = self.random.one_of(&left.columns);
            let fitting: Vec<&Column> = right.columns.iter().filter(|other| comparable(one, other)).collect();
            if !fitting.is_empty() {
                let other = *self.random.one_of(&fitting);
                let equality = if self.random.chance(18) { "IS NOT DISTINCT FROM" } else { "=" };
                on.push(format!("{} {equality} {}", one.name, other.name));
            }
        }
        let both: Vec<Column> = left.columns.iter().chain(&right.columns).cloned().collect();
        if on.is_empty() || self.random.chance(25) {
            on.push(predicate(self.random, &both, 1));
        }
        self.joined_on(left, right, on, windowed)
    }

    /// A join of some kind on these conditions.
    fn joined_on(&mut self, left: From, right: From, on: Vec<String>, windowed: bool) -> Query {
        let mut both: Vec<Column> = left.columns.iter().chain(&right.columns).cloned().collect();
        let join = match self.random.below(20) {
            0..=5 => "JOIN",
            6..=8 => "LEFT JOIN",
            9..=11 => "RIGHT JOIN",
            12..=14 => "FULL JOIN",
            15..=17 => "LEFT SEMI JOIN",
            _ => "LEFT ANTI JOIN",
        };
        // What is padded with NULLs says nothing of time any more.
        let width = left.columns.len();
        let (pads_left, pads_right) = (matches!(join, "RIGHT JOIN" | "FULL JOIN"), matches!(join, "LEFT JOIN" | "FULL JOIN"));
        for (index, column) in both.iter_mut().enumerate() {
            if (index < width && pads_left) || (index >= width && pads_right) {
                column.role = Role::None;
            }
        }
        if join.ends_with("SEMI JOIN") || join.ends_with("ANTI JOIN") {
            both.truncate(width);
        }
        let items = self.joined_items(&both);
        let on = on.join(" AND ");
        let sql = match join == "JOIN" && self.random.chance(30) {
            true => format!("SELECT {} FROM {}, {} WHERE {on}", items.sql(), left.sql, right.sql),
            false => {
                let condition = self.condition(&both, 25);
                format!("SELECT {} FROM {} {join} {} ON {on}{condition}", items.sql(), left.sql, right.sql)
            }
        };
        let depth = left.depth.max(right.depth);
        Query { sql, columns: items.columns, closes: windowed, depth }
    }

    fn joined_items(&mut self, columns: &[Column]) -> Items {
        let mut items = self.items(columns);
        // A time that both sides have says nothing certain of the pair: let the planner decide, and do not rely on it.
        for column in &mut items.columns {
            if column.role == Role::Event && self.random.chance(50) {
                column.role = Role::None;
            }
        }
        items
    }
}

fn renamed(columns: &[Column]) -> Vec<Column> {
    let rename = |column: &Column| Column { name: format!("r{}", &column.name[1..]), ..column.clone() };
    columns.iter().map(rename).collect()
}

/// Whether equality of two columns is a sensible join.
fn comparable(one: &Column, other: &Column) -> bool {
    one.kind == other.kind && one.kind != Kind::Boolean
}
