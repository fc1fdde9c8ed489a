//! `RIGHT` and `FULL JOIN ... USING (k)`, and several joins `USING (k)`, spelled out with `ON`.
//!
//! DataFusion takes `k` from the left side, where it is NULL in the rows that only the right side has. SQL takes it from the
//! side that has the row, so `k` becomes the right side's column, or `COALESCE` of both:
//!
//! ```text
//! SELECT k, v, w FROM l FULL JOIN r USING (k)
//! SELECT COALESCE(l.k, r.k) AS k, v, w FROM l FULL JOIN r ON l.k = r.k
//! ```

use std::ops::ControlFlow;

use sqlparser::ast::{
    BinaryOperator, ExcludeSelectItem, Expr, GroupByExpr, Ident, Join, JoinConstraint, JoinOperator, ObjectName, OrderBy,
    OrderByKind, Query, Select, SelectItem, SelectItemQualifiedWildcardKind, Spanned, TableFactor, TableWithJoins, VisitMut,
    VisitorMut, WildcardAdditionalOptions,
};

use super::rewrite::{call, relation_idents};
use crate::diagnose::{Failure, error, known_place};

/// A column that joins have in common, and what it is.
struct Merged {
    column: Ident,
    /// The first of these that is not NULL.
    values: Vec<Expr>,
    /// The relations that have it.
    owners: Vec<usize>,
}

impl Merged {
    fn value(&self) -> Expr {
        match &self.values[..] {
            [value] => value.clone(),
            values => call("coalesce", values.to_vec(), self.column.span),
        }
    }
}

/// An error for such a join that cannot be spelled out.
pub(super) fn not_spelled_out(select: &Select) -> Option<Failure> {
    let joins = || select.from.iter().flat_map(|table| &table.joins);
    let join = joins().find(|join| keeps_right(&join.join_operator) && merges(join))?;
    if spelled_out(&mut select.clone(), &|_| None).is_some() {
        return None;
    }
    let message = "NATURAL and USING with a RIGHT or FULL JOIN are not supported in this form";
    let help = "write ON l.k = r.k, and COALESCE(l.k, r.k) for the column of both";
    Some(error("not-supported", message).at(known_place(join.relation.span())).help(help))
}

/// The columns of a relation, where they can be told.
pub(super) type Columns<'a> = &'a dyn Fn(&TableFactor) -> Option<Vec<String>>;

/// Spells out the joins of a query's SELECT, and what its ORDER BY says of their columns.
pub(super) fn spell_out_query(query: &mut Query, columns: Columns<'_>) {
    let sqlparser::ast::SetExpr::Select(select) = query.body.as_mut() else { return };
    let Some(merged) = spelled_out(select, columns) else { return };
    let named = |column: &Ident| {
        select.projection.iter().any(|item| matches!(item, SelectItem::ExprWithAlias { alias, .. } if same(alias, column)))
    };
    let merged: Vec<Merged> = merged.into_iter().filter(|merged| !named(&merged.column)).collect();
    if let Some(OrderBy { kind: OrderByKind::Expressions(exprs), .. }) = &mut query.order_by {
        exprs.iter_mut().for_each(|expr| replace(expr, &merged));
    }
}

/// Spells out the joins of a SELECT.
pub(super) fn spell_out(select: &mut Select, columns: Columns<'_>) {
    spelled_out(select, columns);
}

/// Whether DataFusion would take a column of a join from the wrong side, or not know which one is meant.
fn needs_words(table: &TableWithJoins) -> bool {
    let mut seen: Vec<&Ident> = Vec::new();
    table.joins.iter().any(|join| {
        let columns = match constraint(&join.join_operator) {
            Some(JoinConstraint::Using(columns)) => columns.iter().filter_map(|column| column.0.last()?.as_ident()).collect(),
            _ => Vec::new(),
        };
        let again = columns.iter().any(|column| seen.iter().any(|other| same(other, column)));
        seen.extend(columns);
        again || (keeps_right(&join.join_operator) && merges(join))
    })
}

/// The columns in common, if there was a join to spell out and it could be; otherwise the SELECT stays as it is.
fn spelled_out(select: &mut Select, columns: Columns<'_>) -> Option<Vec<Merged>> {
    let [table] = &select.from[..] else { return None };
    if !needs_words(table) {
        return None;
    }
    let plain = |item: &SelectItem| !matches!(item, SelectItem::Wildcard(options) if *options != clean(options));
    if !select.projection.iter().all(plain) {
        return None;
    }
    let relations = relation_idents(select)?;
    let mut merged: Vec<Merged> = Vec::new();
    let mut conditions = Vec::new();
    let factors: Vec<&TableFactor> =
        std::iter::once(&table.relation).chain(table.joins.iter().map(|join| &join.relation)).collect();
    for (place, join) in table.joins.iter().enumerate() {
        let condition = match constraint(&join.join_operator) {
            Some(JoinConstraint::Using(named)) => {
                let owner = |column: &Ident| match place {
                    0 => Some(0),
                    // Of several relations on the left side one has the column.
                    _ => {
                        let has = |relation: &usize| {
                            Some(columns(factors[*relation])?.iter().any(|name| name.eq_ignore_ascii_case(&column.value)))
                        };
                        let mut known = (0..=place).map(|relation| has(&relation));
                        known.all(|has| has.is_some()).then_some(())?;
                        let mut owners = (0..=place).filter(|relation| has(relation) == Some(true));
                        owners.next().filter(|_| owners.next().is_none())
                    }
                };
                let equal =
                    named.iter().map(|column| merge(column, place + 1, &join.join_operator, &relations, &mut merged, owner));
                let equal = equal.collect::<Option<Vec<Expr>>>()?;
                // Those of the last join stand first in `*`.
                let is_named = |merged: &Merged| {
                    named.iter().position(|column| {
                        column.0.last().and_then(|part| part.as_ident()).is_some_and(|column| same(column, &merged.column))
                    })
                };
                merged.sort_by_key(|merged| is_named(merged).unwrap_or(usize::MAX));
                equal.into_iter().reduce(|left, right| binary(left, BinaryOperator::And, right))
            }
            Some(JoinConstraint::Natural) => return None,
            _ => None,
        };
        conditions.push(condition);
    }
    for (join, condition) in select.from[0].joins.iter_mut().zip(conditions) {
        if let (Some(constraint), Some(condition)) = (constraint_mut(&mut join.join_operator), condition) {
            *constraint = JoinConstraint::On(condition);
        }
    }
    let projection = std::mem::take(&mut select.projection).into_iter().flat_map(|item| match item {
        SelectItem::Wildcard(_) => all_columns(&merged, &relations),
        SelectItem::UnnamedExpr(Expr::Identifier(name)) if merged.iter().any(|merged| same(&merged.column, &name)) => {
            vec![SelectItem::ExprWithAlias { expr: Expr::Identifier(name.clone()), alias: name }]
        }
        other => vec![other],
    });
    select.projection = projection.collect();
    select.projection.iter_mut().for_each(|item| replace(item, &merged));
    if let GroupByExpr::Expressions(keys, _) = &mut select.group_by {
        keys.iter_mut().for_each(|key| replace(key, &merged));
    }
    for condition in [&mut select.selection, &mut select.having, &mut select.qualify].into_iter().flatten() {
        replace(condition, &merged);
    }
    Some(merged)
}

/// Joins the relation at `right` by a column; gives the condition.
fn merge(
    column: &ObjectName,
    right: usize,
    operator: &JoinOperator,
    relations: &[Ident],
    merged: &mut Vec<Merged>,
    owner: impl Fn(&Ident) -> Option<usize>,
) -> Option<Expr> {
    let column = column.0.last()?.as_ident()?.clone();
    let of = |relation: usize| Expr::CompoundIdentifier(vec![relations[relation].clone(), column.clone()]);
    if !merged.iter().any(|merged| same(&merged.column, &column)) {
        let owner = owner(&column)?;
        merged.push(Merged { column: column.clone(), values: vec![of(owner)], owners: vec![owner] });
    }
    let merged = merged.iter_mut().find(|merged| same(&merged.column, &column))?;
    let (left, right_value) = (merged.value(), of(right));
    merged.owners.push(right);
    match operator {
        JoinOperator::Right(_) | JoinOperator::RightOuter(_) => merged.values = vec![right_value.clone()],
        // One call for all: COALESCE in COALESCE would double with every join.
        JoinOperator::FullOuter(_) => merged.values.push(right_value.clone()),
        _ => {}
    }
    Some(binary(left, BinaryOperator::Eq, right_value))
}

/// `*`: the columns in common first, then the other columns of each relation.
fn all_columns(merged: &[Merged], relations: &[Ident]) -> Vec<SelectItem> {
    let common = merged
        .iter()
        .map(|merged| SelectItem::ExprWithAlias { expr: Expr::Identifier(merged.column.clone()), alias: merged.column.clone() });
    let others = relations.iter().enumerate().map(|(relation, name)| {
        let owned = merged.iter().filter(|merged| merged.owners.contains(&relation));
        let owned: Vec<ObjectName> = owned.map(|merged| ObjectName::from(vec![merged.column.clone()])).collect();
        let opt_exclude = (!owned.is_empty()).then_some(ExcludeSelectItem::Multiple(owned));
        let options = WildcardAdditionalOptions { opt_exclude, ..WildcardAdditionalOptions::default() };
        let name = SelectItemQualifiedWildcardKind::ObjectName(ObjectName::from(vec![name.clone()]));
        SelectItem::QualifiedWildcard(name, options)
    });
    common.chain(others).collect()
}

/// Puts what the columns in common are in their place, but for subqueries, whose own columns come first.
fn replace(tree: &mut impl VisitMut, merged: &[Merged]) {
    struct Replace<'a> {
        merged: &'a [Merged],
        depth: usize,
    }
    impl VisitorMut for Replace<'_> {
        type Break = ();

        fn pre_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
            self.depth += 1;
            ControlFlow::Continue(())
        }

        fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
            self.depth -= 1;
            ControlFlow::Continue(())
        }

        fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
            if let Expr::Identifier(name) = expr
                && self.depth == 0
                && let Some(merged) = self.merged.iter().find(|merged| same(&merged.column, name))
            {
                *expr = merged.value();
            }
            ControlFlow::Continue(())
        }
    }
    let _ = VisitMut::visit(tree, &mut Replace { merged, depth: 0 });
}

fn keeps_right(operator: &JoinOperator) -> bool {
    matches!(operator, JoinOperator::Right(_) | JoinOperator::RightOuter(_) | JoinOperator::FullOuter(_))
}

fn merges(join: &Join) -> bool {
    matches!(constraint(&join.join_operator), Some(JoinConstraint::Using(_) | JoinConstraint::Natural))
}

fn constraint(operator: &JoinOperator) -> Option<&JoinConstraint> {
    use JoinOperator as J;
    match operator {
        J::Join(on) | J::Inner(on) | J::Left(on) | J::LeftOuter(on) | J::Right(on) | J::RightOuter(on) | J::FullOuter(on) => {
            Some(on)
        }
        _ => None,
    }
}

fn constraint_mut(operator: &mut JoinOperator) -> Option<&mut JoinConstraint> {
    use JoinOperator as J;
    match operator {
        J::Join(on) | J::Inner(on) | J::Left(on) | J::LeftOuter(on) | J::Right(on) | J::RightOuter(on) | J::FullOuter(on) => {
            Some(on)
        }
        _ => None,
    }
}

/// The same `*` without EXCLUDE and the like.
fn clean(options: &WildcardAdditionalOptions) -> WildcardAdditionalOptions {
    WildcardAdditionalOptions { wildcard_token: options.wildcard_token.clone(), ..WildcardAdditionalOptions::default() }
}

fn same(left: &Ident, right: &Ident) -> bool {
    left.value.eq_ignore_ascii_case(&right.value)
}

fn binary(left: Expr, op: BinaryOperator, right: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(left), op, right: Box::new(right) }
}
