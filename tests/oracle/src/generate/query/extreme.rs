//! Rows that hold the extreme of their own group: a relation joined with its own `max` or `min`.

use super::{Items, Queries, Query, interval};
use crate::generate::names::{Kind, Role};

impl Queries<'_> {
    pub(super) fn extreme(&mut self) -> Query {
        let from = self.any_relation();
        let times: Vec<_> = from.columns.iter().filter(|column| column.role == Role::Event).cloned().collect();
        let numbers: Vec<_> = from.columns.iter().filter(|column| column.kind == Kind::BigInt).cloned().collect();
        let Some(value) = (!numbers.is_empty()).then(|| self.random.one_of(&numbers).clone()) else { return self.project() };
        let group = self.random.chance(60).then(|| self.random.one_of(&from.columns).clone());
        let function = if self.random.chance(70) { "max" } else { "min" };
        let (mut relation, mut keys, mut closes) = (from.name.clone(), Vec::new(), false);
        if !times.is_empty() && self.random.chance(70) {
            let time = self.random.one_of(&times).clone();
            let size = *self.random.one_of(&[2_000, 4_000]);
            let kind = match self.random.chance(75) {
                true => format!("TUMBLE(TABLE {relation}, DESCRIPTOR({}), {})", time.name, interval(size)),
                false => format!("HOP(TABLE {relation}, DESCRIPTOR({}), {}, {})", time.name, interval(size / 2), interval(size)),
            };
            relation = format!("TABLE({kind})");
            keys.extend(["window_start".to_owned(), "window_end".to_owned()]);
            closes = true;
        }
        keys.extend(group.map(|column| column.name).filter(|name| *name != value.name));
        if keys.is_empty() {
            return self.project();
        }
        let mut columns = from.columns.clone();
        columns.iter_mut().for_each(|column| {
            column.name = format!("o.{}", column.name);
            // What the join keeps of a window is there when the window closes, not when the row comes.
            column.role = Role::None;
        });
        let mut items = Items::default();
        for column in &columns {
            items.add(&column.name, column.kind, column.role);
        }
        let condition = if self.random.chance(25) {
            let number = self.random.range(-2, 3);
            format!(" WHERE {} > {number}", value.name)
        } else {
            String::new()
        };
        let on: Vec<String> = keys.iter().map(|key| format!("o.{key} = x.{key}")).collect();
        let order = match (self.random.below(3), function) {
            (0, "max") => ">=",
            (0, _) => "<=",
            _ => "=",
        };
        let sql = format!(
            "SELECT {} FROM (SELECT * FROM {relation}{condition}) AS o JOIN (SELECT {}, {function}({}) AS best FROM {relation}\
             {condition} GROUP BY {}) AS x ON {} AND o.{} {order} x.best",
            items.sql(),
            keys.join(", "),
            value.name,
            keys.join(", "),
            on.join(" AND "),
            value.name,
        );
        Query { sql, columns: items.columns, closes, depth: from.depth }
    }
}
