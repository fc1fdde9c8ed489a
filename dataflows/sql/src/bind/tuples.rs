//! `(a, b) IN (SELECT x, y ...)`: DataFusion's subqueries have one column, so these become EXISTS.
//!
//! In a condition NULL is as good as false, and one EXISTS will do. Where the value itself is wanted it is a CASE that tells
//! the two apart: true if a row is equal, NULL if one might be, false otherwise.

use std::ops::ControlFlow;

use sqlparser::ast::{BinaryOperator, Expr, Query, SetExpr, TableFactor, VisitMut, VisitorMut};

use super::spelling::template;

/// Rewrites those of a condition: what stands under AND and OR.
pub(super) fn in_condition(condition: &mut Expr) {
    match condition {
        Expr::Nested(inner) => in_condition(inner),
        Expr::BinaryOp { left, op: BinaryOperator::And | BinaryOperator::Or, right } => {
            in_condition(left);
            in_condition(right);
        }
        Expr::InSubquery { expr, subquery, negated } => {
            let Expr::Tuple(parts) = &**expr else { return };
            let equal = equal(parts.len());
            let words = match *negated {
                false => format!("EXISTS ({})", matching(parts.len(), &equal)),
                true => format!("NOT EXISTS ({})", matching(parts.len(), &format!("({equal}) IS NOT FALSE"))),
            };
            if let Some(exists) = filled(&words, parts, subquery) {
                *condition = exists;
            }
        }
        _ => {}
    }
}

/// The value of one, wherever it stands.
pub(super) fn as_value(expr: &Expr) -> Option<Expr> {
    let Expr::InSubquery { expr, subquery, negated } = expr else { return None };
    let Expr::Tuple(parts) = &**expr else { return None };
    let equal = equal(parts.len());
    let (found, absent) = if *negated { ("FALSE", "TRUE") } else { ("TRUE", "FALSE") };
    let words = format!(
        "CASE WHEN EXISTS ({}) THEN {found} WHEN EXISTS ({}) THEN NULL ELSE {absent} END",
        matching(parts.len(), &equal),
        matching(parts.len(), &format!("({equal}) IS NOT FALSE")),
    );
    filled(&words, parts, subquery)
}

fn equal(count: usize) -> String {
    (1..=count).map(|part| format!("\"(in)\".\"({part})\" = ${part}")).collect::<Vec<_>>().join(" AND ")
}

/// A query over the subquery, whose place another one keeps.
fn matching(count: usize, condition: &str) -> String {
    let columns: Vec<String> = (1..=count).map(|part| format!("\"({part})\"")).collect();
    format!("SELECT 1 FROM (SELECT 1) AS \"(in)\" ({}) WHERE {condition}", columns.join(", "))
}

fn filled(words: &str, parts: &[Expr], subquery: &Query) -> Option<Expr> {
    let mut expr = template(words, parts)?;
    let _ = VisitMut::visit(&mut expr, &mut Place(subquery));
    Some(expr)
}

/// Puts the subquery into its places.
struct Place<'a>(&'a Query);

impl VisitorMut for Place<'_> {
    type Break = ();

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        if let SetExpr::Select(select) = &mut *query.body
            && let Some(table) = select.from.first_mut()
            && let TableFactor::Derived { subquery, alias: Some(alias), .. } = &mut table.relation
            && alias.name.value == "(in)"
        {
            **subquery = self.0.clone();
        }
        ControlFlow::Continue(())
    }
}
