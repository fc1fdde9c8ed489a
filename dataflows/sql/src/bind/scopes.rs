//! Names of relations around a subquery, where the subquery has a column of the same name.
//!
//! In `SELECT ... FROM customer WHERE EXISTS (SELECT 1 FROM orders WHERE orders.customer = customer.id)` DataFusion takes
//! `customer.id` for the field `id` of the column `customer` of `orders`. In SQL a relation comes first, however far outside
//! it is. A schema in front of it, which no relation inside has, leaves one meaning.

use sqlparser::ast::{Expr, Ident, Select};

use super::rewrite::relation_idents;

/// A schema that nothing is in.
pub(super) const OUTER: &str = "$outer";

/// The SELECTs around the place that a walk is at.
#[derive(Default)]
pub(super) struct Scopes(Vec<Scope>);

struct Scope {
    /// Its relations; `None` if their names cannot be told.
    names: Option<Vec<Ident>>,
    /// Per relation of its FROM that the walk is inside of, whether its other relations can be addressed there: with LATERAL.
    within: Vec<bool>,
}

impl Scopes {
    pub(super) fn enter(&mut self, select: &Select) {
        self.0.push(Scope { names: relation_idents(select), within: Vec::new() });
    }

    pub(super) fn leave(&mut self) {
        self.0.pop();
    }

    pub(super) fn enter_relation(&mut self, lateral: bool) {
        if let Some(scope) = self.0.last_mut() {
            scope.within.push(lateral);
        }
    }

    pub(super) fn leave_relation(&mut self) {
        if let Some(scope) = self.0.last_mut() {
            scope.within.pop();
        }
    }

    /// Says of `relation.column` that the relation is one further outside, if it is.
    pub(super) fn qualify(&self, expr: &mut Expr) {
        let Expr::CompoundIdentifier(parts) = expr else { return };
        let Some((inner, around)) = self.0.split_last() else { return };
        let has = |scope: &Scope| Some(scope.names.as_ref()?.iter().any(|name| name.value == parts[0].value));
        if parts.len() != 2 || has(inner) != Some(false) {
            return;
        }
        let outside = around.iter().rev().filter(|scope| scope.within.iter().all(|lateral| *lateral));
        if outside.map(has).find(|has| *has != Some(false)) == Some(Some(true)) {
            parts.insert(0, Ident { span: parts[0].span, ..Ident::with_quote('"', OUTER) });
        }
    }
}
