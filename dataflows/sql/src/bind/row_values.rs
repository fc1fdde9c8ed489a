//! Rows of several columns beside a subquery: `(a, b) IN (SELECT x, y ...)`, `(a, b) = (SELECT x, y ...)`.
//!
//! DataFusion takes subqueries of one column there. So `IN` looks for one value that holds them all, made by a function of
//! the house's own on both sides: it is never called, because the pass that spells `IN` out takes it apart and compares
//! column by column. A row that is compared with a subquery is compared inside of it.

use sqlparser::ast::{Expr, Ident, Query, SetExpr, Spanned, TableFactor, ValueWithSpan, VisitMut, VisitorMut};
use std::ops::ControlFlow;

use super::rewrite::call;
use super::spelling::row_comparison;
use crate::functions::ROW_OF;
use crate::parse::expression;

/// The subquery under a name, with columns of the house's own.
const RELATION: &str = "__row";

/// What a row compared with a subquery, or with a list of rows, is in other words.
pub(super) fn rewritten(expr: &Expr) -> Option<Expr> {
    match expr {
        Expr::InSubquery { expr: row, subquery, negated } => {
            let parts = parts(row)?;
            let columns = (0..parts.len()).map(|index| Expr::Identifier(column(index))).collect();
            let subquery = Box::new(over(call(ROW_OF, columns, row.span()), subquery, parts.len())?);
            let expr = Box::new(call(ROW_OF, parts, row.span()));
            Some(Expr::InSubquery { expr, subquery, negated: *negated })
        }
        Expr::BinaryOp { left, op, right } => {
            let (row, subquery, row_first) = match (&**left, &**right) {
                (row, Expr::Subquery(subquery)) => (row, subquery, true),
                (Expr::Subquery(subquery), row) => (row, subquery, false),
                _ => return None,
            };
            let parts = parts(row)?;
            let columns = Expr::Tuple((0..parts.len()).map(|index| Expr::Identifier(column(index))).collect());
            let count = parts.len();
            let row = Expr::Tuple(parts);
            let (left, right) = if row_first { (row, columns) } else { (columns, row) };
            Some(Expr::Subquery(Box::new(over(row_comparison(&left, op, &right)?, subquery, count)?)))
        }
        Expr::InList { expr: row, list, negated } => {
            let row = Expr::Tuple(parts(row)?);
            let equal = |other: &Expr| row_comparison(&row, &sqlparser::ast::BinaryOperator::Eq, &Expr::Tuple(parts(other)?));
            let equal: Option<Vec<Expr>> = list.iter().map(equal).collect();
            let any = equal?.into_iter().reduce(|one, other| Expr::BinaryOp {
                left: Box::new(one),
                op: sqlparser::ast::BinaryOperator::Or,
                right: Box::new(other),
            })?;
            let any = Expr::Nested(Box::new(any));
            Some(match negated {
                true => Expr::UnaryOp { op: sqlparser::ast::UnaryOperator::Not, expr: Box::new(any) },
                false => any,
            })
        }
        _ => None,
    }
}

/// The columns of `(a, b)` or `ROW(a, b)`.
pub(super) fn parts(row: &Expr) -> Option<Vec<Expr>> {
    match row {
        Expr::Tuple(parts) if parts.len() > 1 => Some(parts.clone()),
        Expr::Function(function) if function.name.to_string().eq_ignore_ascii_case("row") => {
            super::rewrite::arguments(function).filter(|parts| parts.len() > 1)
        }
        _ => None,
    }
}

/// How many columns a query gives, where that is plain to see.
pub(super) fn width(query: &Query) -> Option<usize> {
    match &*query.body {
        SetExpr::Select(select) => {
            use sqlparser::ast::SelectItem::{ExprWithAlias, UnnamedExpr};
            let plain = select.projection.iter().all(|item| matches!(item, UnnamedExpr(_) | ExprWithAlias { .. }));
            plain.then_some(select.projection.len())
        }
        SetExpr::Query(query) => width(query),
        SetExpr::Values(values) => values.rows.first().map(|row| row.len()),
        _ => None,
    }
}

fn column(index: usize) -> Ident {
    Ident::new(format!("{RELATION}{index}"))
}

/// `SELECT item FROM (subquery) AS __row (__row0, ..)`.
fn over(item: Expr, subquery: &Query, width: usize) -> Option<Query> {
    let columns: Vec<String> = (0..width).map(|index| column(index).value).collect();
    let words = format!("(SELECT $1 FROM (SELECT 1) AS {RELATION} ({}))", columns.join(", "));
    let Expr::Subquery(mut query) = expression(&words)? else { return None };
    let _ = VisitMut::visit(&mut *query, &mut Put { item: Some(item), subquery: Some(subquery.clone()) });
    Some(*query)
}

/// Puts an expression for the placeholder, and a query into FROM.
struct Put {
    item: Option<Expr>,
    subquery: Option<Query>,
}

impl VisitorMut for Put {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::Value(ValueWithSpan { value: sqlparser::ast::Value::Placeholder(_), .. }) = expr
            && let Some(item) = self.item.take()
        {
            *expr = item;
        }
        ControlFlow::Continue(())
    }

    fn post_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        if let TableFactor::Derived { subquery, .. } = factor
            && let Some(query) = self.subquery.take()
        {
            **subquery = query;
        }
        ControlFlow::Continue(())
    }
}
