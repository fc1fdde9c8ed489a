//! `WITH RECURSIVE` and `WITH MUTUALLY RECURSIVE`: relations that are defined by themselves.
//!
//! DataFusion's own planning of them is not used: it takes the columns' types and NULLs from the first branch alone, and knows
//! neither several references nor relations that define each other. Instead each recursive relation becomes one of the
//! job, under a name that nobody can write, and what defines it a query like any other, which reads that relation. What is left
//! of the statement reads it too.

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion_common::Constraints;
use highwater_plan::{AtLimit, Diagnostic, Span};
use sqlparser::ast::helpers::attached_token::AttachedToken;
use sqlparser::ast::{
    Cte, Expr, Ident, ObjectName, Query, SelectItem, SetExpr, SetOperator, SetQuantifier, Spanned, TableAlias, TableFactor,
    Value, Visit, VisitMut, Visitor, VisitorMut, With,
};

use super::catalog::{Relation, Target};
use super::{Binder, BoundQuery, sql_type, types};
use crate::diagnose::{Failure, Result, error, known_place, place};
use crate::parse::MUTUALLY;

/// How often the columns' types of a recursive relation are widened before that is taken to have no end.
const WIDENINGS_MAX: usize = 6;

/// Relations that are defined by themselves.
pub(crate) struct BoundRecursion {
    pub(crate) bindings: Vec<BoundBinding>,
    pub(crate) form: Form,
    /// How many steps, if that was said.
    pub(crate) limit: Option<u64>,
    pub(crate) at_limit: AtLimit,
    pub(crate) span: Option<Span>,
}

/// One relation of a recursion.
pub(crate) struct BoundBinding {
    pub(crate) name: String,
    pub(crate) query: BoundQuery,
    /// Its columns; all may be NULL.
    pub(crate) schema: SchemaRef,
}

/// What a recursion was written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// `WITH RECURSIVE` with UNION.
    Union,
    /// `WITH RECURSIVE` with UNION ALL.
    UnionAll,
    /// `WITH MUTUALLY RECURSIVE`.
    Mutual,
}

impl Binder {
    /// Makes relations of the recursive queries in a syntax tree, and plans what defines them.
    pub(super) fn lift_recursion(&mut self, tree: &mut impl VisitMut, statement: Span) -> Result<()> {
        match VisitMut::visit(tree, &mut Lifter { binder: self, statement, visible: Vec::new() }) {
            ControlFlow::Break(failure) => Err(failure.or_at(Some(statement))),
            ControlFlow::Continue(()) => Ok(()),
        }
    }
}

struct Lifter<'a> {
    binder: &'a mut Binder,
    statement: Span,
    /// Per enclosing query its common table expressions that are not recursive.
    visible: Vec<Vec<Cte>>,
}

impl VisitorMut for Lifter<'_> {
    type Break = Failure;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Failure> {
        let recursive = query.with.as_ref().is_some_and(|with| with.recursive);
        if recursive && let Err(failure) = self.lift(query) {
            return ControlFlow::Break(failure);
        }
        self.visible.push(query.with.iter().flat_map(|with| with.cte_tables.iter().cloned()).collect());
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<Failure> {
        self.visible.pop();
        ControlFlow::Continue(())
    }
}

impl Lifter<'_> {
    /// Takes the recursive ones out of a query's common table expressions.
    fn lift(&mut self, query: &mut Query) -> Result<()> {
        let Some(mut with) = query.with.take() else { return Ok(()) };
        let mutual = with.cte_tables.first().and_then(options_of);
        if let Some(options) = mutual {
            let bindings = with.cte_tables.split_off(1);
            let renamed = self.mutual(bindings, options, with.with_token.0.span)?;
            renamed.iter().for_each(|renaming| renaming.apply(query));
            return Ok(());
        }
        let mut rest: std::collections::VecDeque<Cte> = with.cte_tables.into();
        let mut kept: Vec<Cte> = Vec::new();
        while let Some(cte) = rest.pop_front() {
            if let Some(later) = rest.iter().find(|later| refers(&cte.query, &later.alias.name)) {
                return Err(error(
                    "mutual-recursion",
                    format!("'{}' reads '{}', which is defined after it", cte.alias.name.value, later.alias.name.value),
                )
                .at(known_place(cte.alias.name.span))
                .help(
                    "put it after what it reads; relations that define each other are WITH MUTUALLY RECURSIVE \
                     name (column TYPE, ...) AS (...), ...",
                ));
            }
            if !refers(&cte.query, &cte.alias.name) {
                kept.push(cte);
                continue;
            }
            let renaming = self.simple(cte, &kept)?;
            rest.iter_mut().for_each(|later| renaming.apply(&mut *later.query));
            renaming.apply(query);
        }
        if !kept.is_empty() {
            query.with = Some(With { with_token: with.with_token, recursive: false, cte_tables: kept });
        }
        Ok(())
    }

    /// `name AS (base UNION step)`.
    fn simple(&mut self, cte: Cte, earlier: &[Cte]) -> Result<Renaming> {
        let name = cte.alias.name.clone();
        let span = known_place(name.span);
        let (mut bases, mut steps, mut all) = (Vec::new(), Vec::new(), false);
        branches(&cte.query.body, &name, &mut bases, &mut steps, &mut all);
        if bases.is_empty() || steps.is_empty() {
            let what = if steps.is_empty() { "is no UNION" } else { "has no part that does not read itself, so it is empty" };
            return Err(error("recursion-without-base", format!("recursive query '{}' {what}", name.value))
                .at(span)
                .help("write: rows to begin with UNION rows that follow from rows of the query itself"));
        }
        if all {
            self.binder.bound.warnings.push(
                Diagnostic::warning("recursion-union-all", "UNION ALL recursion may not terminate; use UNION")
                    .at(span.or(Some(self.statement)))
                    .help("UNION gives each row once, so that a cycle comes to an end"),
            );
        }
        let columns: Vec<String> = cte.alias.columns.iter().map(|column| self.binder.ident(&column.name)).collect();
        let base = bases.into_iter().reduce(|left, right| SetExpr::SetOperation {
            op: SetOperator::Union,
            set_quantifier: SetQuantifier::All,
            left: Box::new(left),
            right: Box::new(right),
        });
        let base = Query { body: Box::new(base.expect("there is one")), ..(*cte.query).clone() };
        let first = self.binder.query_schema(self.in_context(base, earlier), &columns, self.statement)?;

        let number = self.binder.new_recursion();
        let renaming = Renaming::new(&name, number, 0);
        let mut whole = *cte.query;
        renaming.apply(&mut whole);
        let whole = self.in_context(whole, earlier);
        let mut schema = all_nullable(&first);
        for widening in 0.. {
            self.declare(&renaming, Target::Binding { recursion: number, binding: 0 }, &schema, span);
            let found = self.binder.query_schema(whole.clone(), &columns, self.statement)?;
            let found = with_types_of(&schema, &found);
            if found == schema {
                break;
            }
            if widening == WIDENINGS_MAX {
                return Err(error("recursion-types", format!("the columns of recursive query '{}' have no type", name.value))
                    .at(span)
                    .help("with every step they need a wider one: CAST the values of the step to the type of the base"));
            }
            schema = found;
        }
        let query = self.binder.query(whole, &columns, self.statement)?.1;
        let binding = BoundBinding { name: name.value.clone(), query, schema };
        let form = if all { Form::UnionAll } else { Form::Union };
        self.binder.bound.recursions[number] =
            Some(BoundRecursion { bindings: vec![binding], form, limit: None, at_limit: AtLimit::Fail, span });
        Ok(renaming)
    }

    /// `name (column TYPE, ...) AS (...), ...`: each may read all.
    fn mutual(
        &mut self,
        bindings: Vec<Cte>,
        (limit, at_limit): (Option<u64>, AtLimit),
        span: sqlparser::tokenizer::Span,
    ) -> Result<Vec<Renaming>> {
        let number = self.binder.new_recursion();
        let renamings: Vec<Renaming> =
            bindings.iter().enumerate().map(|(binding, cte)| Renaming::new(&cte.alias.name, number, binding)).collect();
        let mut schemas: Vec<SchemaRef> = Vec::new();
        for (binding, cte) in bindings.iter().enumerate() {
            let schema = self.declared_schema(&cte.alias)?;
            let target = Target::Binding { recursion: number, binding };
            self.declare(&renamings[binding], target, &schema, known_place(cte.alias.name.span));
            schemas.push(schema);
        }
        let mut bound = Vec::new();
        for (cte, schema) in bindings.into_iter().zip(schemas) {
            let mut query = *cte.query;
            renamings.iter().for_each(|renaming| renaming.apply(&mut query));
            let query = self.in_context(query, &[]);
            let names: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
            let query = self
                .binder
                .query(query, &names, self.statement)
                .map_err(|failure| match failure.0.code == "column-count" {
                    true => error("column-count", failure.0.message.replace("the view", &format!("'{}'", cte.alias.name.value)))
                        .at(known_place(cte.alias.name.span)),
                    false => failure,
                })?
                .1;
            for (declared, found) in schema.fields().iter().zip(query.schema.fields()) {
                if !fits(found.data_type(), declared.data_type()) {
                    let message = format!(
                        "column '{}' of '{}' is declared {} but its query gives {}",
                        declared.name(),
                        cte.alias.name.value,
                        sql_type(declared.data_type()),
                        sql_type(found.data_type())
                    );
                    return Err(error("type-mismatch", message)
                        .at(known_place(cte.alias.name.span))
                        .help("CAST it, or declare the column's type as what the query gives"));
                }
            }
            bound.push(BoundBinding { name: cte.alias.name.value, query, schema });
        }
        self.binder.bound.recursions[number] =
            Some(BoundRecursion { bindings: bound, form: Form::Mutual, limit, at_limit, span: Some(place(span)) });
        Ok(renamings)
    }

    fn declared_schema(&self, alias: &TableAlias) -> Result<SchemaRef> {
        let untyped = || {
            error("recursion-types", format!("'{}' needs its columns with their types", alias.name.value))
                .at(known_place(alias.name.span))
                .help(format!("write: {} (column TYPE, ...) AS (...)", alias.name.value))
        };
        if alias.columns.is_empty() {
            return Err(untyped());
        }
        let field = |column: &sqlparser::ast::TableAliasColumnDef| {
            let data_type = types::data_type(column.data_type.as_ref().ok_or_else(untyped)?)
                .map_err(|failure| failure.or_at(known_place(column.name.span)))?;
            Ok(Field::new(self.binder.ident(&column.name), data_type, true))
        };
        Ok(Arc::new(Schema::new(alias.columns.iter().map(field).collect::<Result<Vec<Field>>>()?)))
    }

    /// A query that stands by itself where it stood within others: their common table expressions before its own.
    fn in_context(&self, mut query: Query, earlier: &[Cte]) -> Query {
        let tables: Vec<Cte> = self.visible.iter().flatten().chain(earlier).cloned().collect();
        match &mut query.with {
            Some(_) if tables.is_empty() => {}
            Some(_) => {
                // Around it, so that it stays what it is.
                let body = Box::new(SetExpr::Query(Box::new(query)));
                return around(body, tables);
            }
            None if tables.is_empty() => {}
            None => query.with = Some(plain_with(tables)),
        }
        query
    }

    fn declare(&mut self, renaming: &Renaming, target: Target, schema: &SchemaRef, span: Option<Span>) {
        self.binder.catalog.declare_hidden(Relation {
            name: renaming.to.clone(),
            target,
            schema: Arc::clone(schema),
            constraints: Constraints::default(),
            inline: None,
            span: span.unwrap_or(self.statement),
            defaults: Vec::new(),
            is_stream: false,
            rows: None,
        });
    }
}

fn plain_with(cte_tables: Vec<Cte>) -> With {
    With { with_token: AttachedToken::empty(), recursive: false, cte_tables }
}

fn around(body: Box<SetExpr>, tables: Vec<Cte>) -> Query {
    Query {
        with: Some(plain_with(tables)),
        body,
        order_by: None,
        limit_clause: None,
        fetch: None,
        locks: Vec::new(),
        for_clause: None,
        settings: None,
        format_clause: None,
        pipe_operators: Vec::new(),
    }
}

/// The options of `WITH MUTUALLY RECURSIVE`, which the parser keeps as a first table of its own.
fn options_of(cte: &Cte) -> Option<(Option<u64>, AtLimit)> {
    if cte.alias.name.value != MUTUALLY {
        return None;
    }
    let SetExpr::Select(select) = &*cte.query.body else { return None };
    let values = select.projection.iter().filter_map(|item| match item {
        SelectItem::UnnamedExpr(Expr::Value(value)) => Some(&value.value),
        _ => None,
    });
    let (mut limit, mut at_limit) = (None, AtLimit::Fail);
    for value in values {
        match value {
            Value::Number(number, _) => limit = number.parse().ok().filter(|limit| *limit > 0),
            _ => at_limit = AtLimit::Return,
        }
    }
    Some((limit, at_limit))
}

/// The branches of a UNION: those that do not read `name`, and those that do; `all` if rows are not made distinct at the top.
fn branches(body: &SetExpr, name: &Ident, bases: &mut Vec<SetExpr>, steps: &mut Vec<SetExpr>, all: &mut bool) {
    match body {
        SetExpr::SetOperation { op: SetOperator::Union, set_quantifier, left, right } => {
            if matches!(set_quantifier, SetQuantifier::All | SetQuantifier::AllByName) {
                *all = true;
            }
            let mut below = false;
            branches(left, name, bases, steps, &mut below);
            branches(right, name, bases, steps, &mut below);
        }
        SetExpr::Query(query) if query.with.is_none() => branches(&query.body, name, bases, steps, all),
        other if refers(other, name) => steps.push(other.clone()),
        other => bases.push(other.clone()),
    }
}

/// Whether something reads the relation of this name.
fn refers(tree: &impl Visit, name: &Ident) -> bool {
    struct Search<'a>(&'a Ident);
    impl Visitor for Search<'_> {
        type Break = ();
        fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
            match factor {
                TableFactor::Table { name, args: None, .. } if is(name, self.0) => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        }
    }
    tree.visit(&mut Search(name)).is_break()
}

fn is(found: &ObjectName, name: &Ident) -> bool {
    let [part] = &found.0[..] else { return false };
    let Some(found) = part.as_ident() else { return false };
    if found.quote_style.is_some() || name.quote_style.is_some() {
        found.value == name.value
    } else {
        found.value.eq_ignore_ascii_case(&name.value)
    }
}

/// A recursive relation's name, and the one that it has in the job.
struct Renaming {
    from: Ident,
    to: String,
}

impl Renaming {
    fn new(name: &Ident, recursion: usize, binding: usize) -> Self {
        Renaming { from: name.clone(), to: format!("{} (recursive {recursion}.{binding})", name.value) }
    }

    /// Readers read the job's relation, and call it what they called it.
    fn apply(&self, tree: &mut impl VisitMut) {
        struct Rename<'a>(&'a Renaming);
        impl VisitorMut for Rename<'_> {
            type Break = ();
            fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
                if let TableFactor::Table { name, alias, args: None, .. } = factor
                    && is(name, &self.0.from)
                {
                    let written = name.0[0].as_ident().cloned().unwrap_or_else(|| self.0.from.clone());
                    let mut hidden = Ident::with_quote('"', &self.0.to);
                    hidden.span = name.span();
                    *name = ObjectName::from(vec![hidden]);
                    alias.get_or_insert_with(|| TableAlias { explicit: false, name: written, columns: Vec::new(), at: None });
                }
                ControlFlow::Continue(())
            }
        }
        let _ = VisitMut::visit(tree, &mut Rename(self));
    }
}

/// What a recursion computes may be NULL whatever its first rows are.
fn all_nullable(schema: &Schema) -> SchemaRef {
    Arc::new(Schema::new(schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect::<Vec<_>>()))
}

fn with_types_of(named: &SchemaRef, typed: &SchemaRef) -> SchemaRef {
    let fields = named.fields().iter().zip(typed.fields());
    Arc::new(Schema::new(
        fields.map(|(named, typed)| named.as_ref().clone().with_data_type(typed.data_type().clone())).collect::<Vec<_>>(),
    ))
}

/// Whether values of a type are cast to a declared one without being asked.
fn fits(found: &DataType, declared: &DataType) -> bool {
    found == declared
        || *found == DataType::Null
        || (found.is_numeric() && declared.is_numeric())
        || matches!((found, declared), (DataType::Timestamp(..) | DataType::Date32, DataType::Timestamp(..)))
}
