//! Recursive queries over the pairs of a relation. Values are few, so that steps come to an end soon.

use super::{Queries, Query};
use crate::generate::expr::expr;
use crate::generate::names::{Column, Kind, Role};

impl Queries<'_> {
    /// What can be reached, in one of many ways.
    pub(super) fn recursive(&mut self) -> Query {
        let from = self.from("e");
        let [a, b, w] = [0; 3].map(|_| format!("({}) % 4", expr(self.random, &from.columns, Kind::BigInt, 0)));
        let base = self.condition(&from.columns, 40);
        let pairs = format!("SELECT {a} AS a, {b} AS b, abs({w}) AS w FROM {}{base}", from.sql);
        let again = if self.random.chance(30) { "JOIN p AS e ON r.b = e.a WHERE r.a <> e.b" } else { "JOIN p AS e ON r.b = e.a" };
        let reach = format!("r AS (SELECT a, b FROM p UNION SELECT r.a, e.b FROM r {again})");
        let sql = match self.random.below(12) {
            0..=3 => format!("WITH RECURSIVE p AS ({pairs}), {reach} SELECT a, b FROM r"),
            4 => format!(
                "WITH RECURSIVE p AS ({pairs}), \
                 r AS (SELECT a, b FROM p UNION SELECT x.a, y.b FROM r AS x JOIN r AS y ON x.b = y.a) SELECT a, b FROM r"
            ),
            5 => {
                let steps = self.random.range(2, 4);
                format!(
                    "WITH RECURSIVE p AS ({pairs}), r AS (SELECT a, b, 1 AS d FROM p UNION ALL \
                     SELECT r.a, e.b, r.d + 1 FROM r JOIN p AS e ON r.b = e.a WHERE r.d < {steps}) SELECT a, d AS b FROM r"
                )
            }
            6 => format!(
                "WITH RECURSIVE p AS ({pairs}), {reach}, \
                 s (n) AS (SELECT a FROM r WHERE a = b UNION SELECT r.b FROM s JOIN r ON s.n = r.a) SELECT n AS a, n + 1 AS b FROM s"
            ),
            7 => {
                let to = self.random.range(0, 3);
                format!(
                    "WITH MUTUALLY RECURSIVE p (a BIGINT, b BIGINT, w BIGINT) AS ({pairs}), \
                     even (n BIGINT) AS (SELECT {to} UNION SELECT e.b FROM odd JOIN p AS e ON odd.n = e.a), \
                     odd (n BIGINT) AS (SELECT DISTINCT e.b FROM even JOIN p AS e ON even.n = e.a) \
                     SELECT even.n AS a, odd.n AS b FROM even LEFT JOIN odd ON even.n = odd.n"
                )
            }
            8..=9 => {
                let best = self.random.pick(&["min", "min", "max"]);
                // Greatest costs grow along a cycle for ever, unless they are cut.
                let cost = if best == "min" { "best.w + e.w" } else { "LEAST(best.w + e.w, 5)" };
                format!(
                    "WITH MUTUALLY RECURSIVE best (n BIGINT, w BIGINT) AS (SELECT n, {best}(w) FROM \
                     (SELECT 1 AS n, 0 AS w UNION ALL SELECT e.b, {cost} FROM best JOIN ({pairs}) AS e ON best.n = e.a) AS p \
                     GROUP BY n) SELECT n AS a, w AS b FROM best"
                )
            }
            10 => {
                let steps = self.random.range(1, 4);
                format!(
                    "WITH MUTUALLY RECURSIVE (RETURN AT RECURSION LIMIT {steps}) r (a BIGINT, b BIGINT) AS \
                     (SELECT a, b FROM ({pairs}) AS p UNION ALL SELECT r.a, e.b FROM r JOIN ({pairs}) AS e ON r.b = e.a) \
                     SELECT a, b FROM r"
                )
            }
            // What was reached is where the next recursion begins, within each step.
            _ => format!(
                "WITH RECURSIVE p AS ({pairs}), r (n) AS (SELECT a FROM p WHERE w = 0 UNION SELECT q.n FROM (\
                 WITH RECURSIVE s (n) AS (SELECT n FROM r UNION SELECT e.b FROM s JOIN p AS e ON s.n = e.a) SELECT n FROM s) AS q) \
                 SELECT n AS a, n AS b FROM r"
            ),
        };
        let sql = format!("SELECT q.a AS c0, q.b AS c1 FROM ({sql}) AS q");
        let column = |name: &str| Column { name: name.into(), kind: Kind::BigInt, role: Role::None };
        Query { sql, columns: vec![column("c0"), column("c1")], closes: false, depth: from.depth }
    }
}
