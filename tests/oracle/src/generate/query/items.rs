//! Queries that go through arrays.

use super::{Items, Queries, Query};
use crate::generate::expr::expr;
use crate::generate::names::{Column, Kind, Role};

impl Queries<'_> {
    /// `FROM r CROSS JOIN UNNEST(ARRAY[..])`, perhaps outer, perhaps with the numbers of the items.
    pub(super) fn unnest(&mut self) -> Query {
        let from = self.any_relation();
        let columns = from.columns_of("q");
        let (kind, array) = if self.random.chance(50) {
            let items: Vec<String> = (0..self.random.range(1, 3)).map(|_| expr(self.random, &columns, Kind::BigInt, 1)).collect();
            // Some rows have no array: one that is NULL is like one without items.
            let array = format!("ARRAY[{}]", items.join(", "));
            match self.random.chance(50) {
                true => {
                    (Kind::BigInt, format!("CASE WHEN {} > 1 THEN {array} END", expr(self.random, &columns, Kind::BigInt, 1)))
                }
                false => (Kind::BigInt, array),
            }
        } else {
            let text = expr(self.random, &columns, Kind::Varchar, 1);
            (Kind::Varchar, format!("STRING_TO_ARRAY({text}, 'a')"))
        };
        let numbered = self.random.chance(40);
        let (ordinality, names) = if numbered { (" WITH ORDINALITY", "item, number") } else { ("", "item") };
        let join = if self.random.chance(40) { "LEFT JOIN" } else { "CROSS JOIN" };
        let on = if join == "LEFT JOIN" { " ON TRUE" } else { "" };
        let mut items = Items::default();
        items.add("u.item", kind, Role::None);
        if numbered {
            items.add("u.number", Kind::BigInt, Role::None);
        }
        let kept: Vec<Column> = columns.iter().filter(|_| self.random.chance(60)).cloned().collect();
        for column in kept {
            items.add(&column.name, column.kind, column.role);
        }
        let condition = self.condition(&columns, 30);
        let sql = format!(
            "SELECT {} FROM {} AS q {join} UNNEST({array}){ordinality} AS u({names}){on}{condition}",
            items.sql(),
            from.name
        );
        Query { sql, columns: items.columns, closes: false, depth: from.depth }
    }
}
