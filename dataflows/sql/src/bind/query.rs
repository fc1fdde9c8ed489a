//! Queries: syntax tree to optimised logical plan.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion_common::{DataFusionError, Result as PlanResult};
use datafusion_expr::logical_plan::{LogicalPlan, LogicalPlanBuilder};
use datafusion_expr::{Expr, TableSource};
use highwater_plan::{Diagnostic, Span};
use sqlparser::ast::{self, ObjectName, Query, SetExpr, VisitMut, VisitorMut};

use super::catalog::{Relation, Target};
use super::check::check;
use super::names::{item_name, name_twins, untaken};
use super::natural::spell_out_natural;
use super::optimize::optimize;
use super::rewrite::rewrite;
use super::subquery::not_in_nullable;
use super::{Binder, BoundQuery};
use crate::diagnose::{Construct, Places, Result, error, from_datafusion, known_place, misspelt_case};

impl Binder {
    /// A view's or sink's query: the plan that readers inline, and the optimised one. `columns` rename its output.
    pub(super) fn query(&mut self, mut query: Query, columns: &[String], span: Span) -> Result<(LogicalPlan, BoundQuery)> {
        let named: Vec<ast::Ident> = columns.iter().map(|column| ast::Ident::with_quote('"', column)).collect();
        name_twins(&mut query.body, &named);
        self.lift_recursion(&mut query, span)?;
        spell_out_natural(&mut query, &self.catalog);
        let mut places = Places { statement: Some(span), ..Places::default() };
        check(&query, &self.catalog, &mut places, &mut self.bound.warnings)?;
        self.bound.items.extend(places.items.iter().cloned());
        let head = top_select(&query.body).cloned();
        let mut tree = Box::new(query);
        rewrite(&mut *tree);
        let raw = resolve(tree, |tree| self.catalog.planner().sql_statement_to_plan(ast::Statement::Query(tree)))
            .map_err(|e| from_datafusion(&e, &places))?;
        let raw = rename(raw, columns, span)?;
        if not_in_nullable(&raw).map_err(|e| from_datafusion(&e, &places))? {
            let warning = "one NULL on the right side of NOT IN takes back the whole result";
            self.bound.warnings.push(
                Diagnostic::warning("not-in-nullable", warning)
                    .at(places.construct(Construct::NotIn).or(Some(span)))
                    .help("use NOT EXISTS, or SELECT only what IS NOT NULL"),
            );
        }
        let schema = output_schema(&raw, head.as_ref());
        let mut found: HashSet<&String> = HashSet::new();
        let raw = match raw.schema().fields().iter().all(|field| found.insert(field.name())) {
            true => raw,
            // Readers of the view find its columns by name.
            false => {
                let names: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
                rename(raw, &names, span)?
            }
        };
        let plan = self.optimized(raw.clone(), &places)?;
        let schema = resolved_types(&schema, &plan);
        Ok((raw, BoundQuery { plan, schema, places }))
    }

    /// The columns that a query would have.
    pub(super) fn query_schema(&mut self, query: Query, columns: &[String], span: Span) -> Result<SchemaRef> {
        // What is said of the query, and of what it defines by itself, is said when it is bound.
        let (warnings, items) = (self.bound.warnings.len(), self.bound.items.len());
        let schema = self.query(query, columns, span).map(|(_, bound)| bound.schema);
        self.bound.warnings.truncate(warnings);
        self.bound.items.truncate(items);
        schema
    }

    /// All rows of a relation, for `CREATE SINK s FROM relation`.
    pub(super) fn scan(&mut self, from: &ObjectName, span: Span) -> Result<BoundQuery> {
        let (name, name_span) = self.name(from)?;
        let places = Places { statement: Some(span), ..Places::default() };
        let relation = match self.catalog.relation(&name) {
            Some(relation) => Arc::clone(relation),
            None => return Err(self.catalog.unknown_relation(&name).at(name_span)),
        };
        if let Target::Sink(_) = relation.target {
            return Err(error("sink-read", format!("'{name}' is a sink and cannot be read"))
                .at(name_span)
                .help("read the view that the sink writes"));
        }
        let schema = Arc::clone(&relation.schema);
        let source = Arc::clone(&relation) as Arc<dyn TableSource>;
        let raw = LogicalPlanBuilder::scan(relation.name.as_str(), source, None)
            .and_then(LogicalPlanBuilder::build)
            .map_err(|e| from_datafusion(&e, &places))?;
        let plan = self.optimized(raw, &places)?;
        Ok(BoundQuery { plan, schema, places })
    }

    /// `INSERT INTO sink SELECT ...`: DataFusion checks the columns' number and casts their types.
    pub(super) fn insertion(&mut self, statement: &mut ast::Statement, sink: &Relation, span: Span) -> Result<BoundQuery> {
        self.lift_recursion(statement, span)?;
        spell_out_natural(statement, &self.catalog);
        let mut places = Places { statement: Some(span), ..Places::default() };
        if let ast::Statement::Insert(insert) = &*statement
            && let Some(source) = &insert.source
        {
            check(&**source, &self.catalog, &mut places, &mut self.bound.warnings)?;
            self.bound.items.extend(places.items.iter().cloned());
        }
        rewrite(statement);
        let raw = resolve(statement.clone(), |tree| self.catalog.planner().sql_statement_to_plan(tree)).map_err(|e| {
            if !e.to_string().contains("Column count doesn't match insert query") {
                return from_datafusion(&e, &places);
            }
            let columns: Vec<&str> = sink.schema.fields().iter().map(|field| field.name().as_str()).collect();
            let message = format!("the query does not give the {} columns of sink '{}'", columns.len(), sink.name);
            error("column-count", message).at(span).help(format!("columns of the sink: {}", columns.join(", ")))
        })?;
        let LogicalPlan::Dml(dml) = raw else {
            return Err(error("not-supported", "only INSERT INTO sink SELECT is supported").at(span));
        };
        let plan = self.optimized(Arc::unwrap_or_clone(dml.input), &places)?;
        Ok(BoundQuery { plan, schema: Arc::clone(&sink.schema), places })
    }

    pub(super) fn optimized(&self, raw: LogicalPlan, places: &Places) -> Result<LogicalPlan> {
        optimize(raw, self.catalog.config()).map_err(|e| from_datafusion(&e, places))
    }
}

/// Plans `tree`; an identifier that is unknown but for its case is corrected, and planning starts again.
pub(super) fn resolve<T: VisitMut + Clone, P>(
    mut tree: T,
    mut plan: impl FnMut(T) -> PlanResult<P>,
) -> std::result::Result<P, DataFusionError> {
    for _ in 0..100 {
        let e = match plan(tree.clone()) {
            Ok(plan) => return Ok(plan),
            Err(e) => e,
        };
        let Some((written, meant, span)) = misspelt_case(&e) else { return Err(e) };
        let mut respell = Respell { written, meant, span, done: false };
        let _ = VisitMut::visit(&mut tree, &mut respell);
        if !respell.done {
            return Err(e);
        }
    }
    plan(tree)
}

/// Replaces an identifier at a place.
struct Respell {
    written: String,
    meant: String,
    span: Option<Span>,
    done: bool,
}

impl VisitorMut for Respell {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<()> {
        let idents = match expr {
            ast::Expr::Identifier(ident) => std::slice::from_mut(ident),
            ast::Expr::CompoundIdentifier(idents) => idents.as_mut_slice(),
            _ => return ControlFlow::Continue(()),
        };
        for ident in idents {
            let here = match (self.span, known_place(ident.span)) {
                (Some(wanted), Some(found)) => wanted.start <= found.start && found.end <= wanted.end,
                _ => true,
            };
            if here && ident.value == self.written {
                ident.value.clone_from(&self.meant);
                self.done = true;
            }
        }
        ControlFlow::Continue(())
    }
}

fn rename(raw: LogicalPlan, columns: &[String], span: Span) -> Result<LogicalPlan> {
    if columns.is_empty() {
        return Ok(raw);
    }
    let found = raw.schema().columns();
    if found.len() != columns.len() {
        let message = format!("the view names {} columns but its query gives {}", columns.len(), found.len());
        return Err(error("column-count", message).at(span));
    }
    let renamed = found.into_iter().zip(columns).map(|(column, name)| Expr::Column(column).alias(name));
    LogicalPlanBuilder::from(raw)
        .project(renamed)
        .and_then(LogicalPlanBuilder::build)
        .map_err(|e| from_datafusion(&e, &Places { statement: Some(span), ..Places::default() }))
}

/// The SELECT whose items name a query's columns.
pub(super) fn top_select(body: &SetExpr) -> Option<&ast::Select> {
    match body {
        SetExpr::Select(select) => Some(select),
        SetExpr::Query(query) => top_select(&query.body),
        SetExpr::SetOperation { left, .. } => top_select(left),
        _ => None,
    }
}

/// The columns' names with the types that the analysed plan gives: those of a union are settled only there.
pub(super) fn resolved_types(named: &SchemaRef, plan: &LogicalPlan) -> SchemaRef {
    let fields = named.fields().iter().zip(plan.schema().fields()).map(|(named, typed)| {
        let nullable = named.is_nullable() || typed.is_nullable();
        named.as_ref().clone().with_data_type(typed.data_type().clone()).with_nullable(nullable)
    });
    Arc::new(Schema::new(fields.collect::<Vec<Field>>()))
}

/// The columns of `plan` under the names of `named`.
pub(super) fn named_like(named: &SchemaRef, plan: &LogicalPlan) -> SchemaRef {
    let fields = named.fields().iter().zip(plan.schema().fields());
    Arc::new(Schema::new(fields.map(|(named, field)| field.as_ref().clone().with_name(named.name())).collect::<Vec<Field>>()))
}

/// The query's columns by name; no name twice. Of columns that the query does not name itself, as those of `*`, the second
/// `x` is `x_1`.
pub(super) fn output_schema(plan: &LogicalPlan, head: Option<&ast::Select>) -> SchemaRef {
    let fields: Vec<Field> = plan.schema().fields().iter().map(|field| field.as_ref().clone()).collect();
    let mut names: Vec<String> = fields.iter().map(|field| field.name().clone()).collect();
    let mut explicit = vec![false; names.len()];
    if let Some(select) = head
        && select.projection.len() == fields.len()
    {
        for (index, item) in select.projection.iter().enumerate() {
            explicit[index] = matches!(item, ast::SelectItem::ExprWithAlias { .. });
            // What the pre-pass could not alias, because another item has the same name.
            if let Some(name) = item_name(item, index)
                && names[index].contains('(')
            {
                names[index] = name;
            }
        }
    }
    let mut taken: HashSet<String> = names.iter().zip(&explicit).filter(|(_, is)| **is).map(|(name, _)| name.clone()).collect();
    for (index, is_explicit) in explicit.into_iter().enumerate() {
        if !is_explicit {
            names[index] = untaken(&names[index], &taken);
            taken.insert(names[index].clone());
        }
    }
    let fields: Vec<Field> = fields.into_iter().zip(names).map(|(field, name)| field.with_name(name)).collect();
    Arc::new(Schema::new(fields))
}
