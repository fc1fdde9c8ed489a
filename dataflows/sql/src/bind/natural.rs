//! `NATURAL` joins, said with `USING` and the columns that both sides have.
//!
//! DataFusion finds those columns itself, but not where three relations are joined so, and not for what a `FULL JOIN` makes
//! of them. Which columns a relation has is asked of the planner, relation by relation.

use std::ops::ControlFlow;

use sqlparser::ast::{
    self, Ident, JoinConstraint, JoinOperator, ObjectName, Query, Select, SetExpr, TableFactor, TableWithJoins, VisitMut,
    VisitorMut, With,
};
use sqlparser::parser::Parser;

use super::catalog::Catalog;
use super::rewrite::rewrite;
use super::using::{spell_out, spell_out_query};

/// Says the `NATURAL` joins of a query otherwise; those of relations whose columns cannot be found out stay.
pub(super) fn spell_out_natural(tree: &mut impl VisitMut, catalog: &Catalog) {
    let _ = VisitMut::visit(tree, &mut Naturals { catalog, around: Vec::new() });
}

struct Naturals<'a> {
    catalog: &'a Catalog,
    /// The WITH clauses around the place that the walk is at.
    around: Vec<Option<With>>,
}

impl VisitorMut for Naturals<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        self.around.push(query.with.clone());
        if let SetExpr::Select(select) = query.body.as_mut() {
            select.from.iter_mut().for_each(|table| self.table(table));
            spell_out_query(query, &|factor| self.columns(factor));
        }
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.around.pop();
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        for table in &mut select.from {
            self.table(table);
        }
        spell_out(select, &|factor| self.columns(factor));
        ControlFlow::Continue(())
    }
}

impl Naturals<'_> {
    fn table(&self, table: &mut TableWithJoins) {
        for factor in std::iter::once(&mut table.relation).chain(table.joins.iter_mut().map(|join| &mut join.relation)) {
            if let TableFactor::NestedJoin { table_with_joins, .. } = factor {
                self.table(table_with_joins);
            }
        }
        if !table.joins.iter().any(|join| is_natural(&join.join_operator)) {
            return;
        }
        let Some(mut left) = self.columns(&table.relation) else { return };
        for join in &mut table.joins {
            let Some(right) = self.columns(&join.relation) else { return };
            if let Some(constraint) = constraint(&mut join.join_operator)
                && *constraint == JoinConstraint::Natural
            {
                let common: Vec<ObjectName> = left
                    .iter()
                    .filter(|column| right.contains(column))
                    .map(|column| ObjectName::from(vec![Ident::with_quote('"', column.as_str())]))
                    .collect();
                *constraint = match common.is_empty() {
                    true => JoinConstraint::On(ast::Expr::Value(ast::Value::Boolean(true).with_empty_span())),
                    false => JoinConstraint::Using(common),
                };
            }
            left.extend(right.into_iter().filter(|column| !left.contains(column)).collect::<Vec<_>>());
        }
    }

    /// The columns of a relation.
    fn columns(&self, factor: &TableFactor) -> Option<Vec<String>> {
        let dialect = sqlparser::dialect::GenericDialect {};
        let mut query = Parser::new(&dialect).try_with_sql("SELECT * FROM y").ok()?.parse_query().ok()?;
        let SetExpr::Select(select) = query.body.as_mut() else { return None };
        select.from = vec![TableWithJoins { relation: factor.clone(), joins: Vec::new() }];
        let mut with: Option<With> = None;
        for around in self.around.iter().flatten() {
            match &mut with {
                None => with = Some(around.clone()),
                Some(with) => with.cte_tables.extend(around.cte_tables.iter().cloned()),
            }
        }
        query.with = with;
        rewrite(&mut *query);
        let plan = self.catalog.planner().sql_statement_to_plan(ast::Statement::Query(query)).ok()?;
        Some(plan.schema().fields().iter().map(|field| field.name().clone()).collect())
    }
}

fn is_natural(operator: &JoinOperator) -> bool {
    constraint(&mut operator.clone()).is_some_and(|constraint| *constraint == JoinConstraint::Natural)
}

fn constraint(operator: &mut JoinOperator) -> Option<&mut JoinConstraint> {
    use JoinOperator as J;
    match operator {
        J::Join(on) | J::Inner(on) | J::Left(on) | J::LeftOuter(on) | J::Right(on) | J::RightOuter(on) | J::FullOuter(on) => {
            Some(on)
        }
        _ => None,
    }
}
