//! Statements that are run once, over what views hold at one moment.
//!
//! The views are declared as if they were sources that end; what the statement gives is declared as a view. So everything
//! that a job can maintain can also be asked. What a maintained result does not have, an order and an end of its own, is
//! taken off the top of the plan here and done to the finished rows.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion_common::{Constraints, ScalarValue};
use datafusion_expr::logical_plan::{FetchType, LogicalPlan, LogicalPlanBuilder, SkipType};
use datafusion_expr::{Expr, SortExpr, cast, lit};
use highwater_plan::{Emit, OnError, Options, SourceKind, Span};
use sqlparser::ast::{self, Ident, Query, SelectItem, SetExpr, TableWithJoins};
use sqlparser::parser::Parser;

use super::catalog::{Catalog, Relation, Target};
use super::check::check;
use super::natural::spell_out_natural;
use super::query::{output_schema, resolve, resolved_types, top_select};
use super::rewrite::rewrite;
use super::{Binder, Bound, BoundQuery, BoundSource, BoundView, Decisions};
use crate::diagnose::{Places, Result, did_you_mean, error, from_datafusion};
use crate::parse::{ScriptKind, ScriptStatement};

/// The name of the view that holds a statement's rows.
pub(crate) const RESULT: &str = "result";

/// A relation that a statement may read.
#[derive(Debug, Clone)]
pub struct Readable {
    /// Its name.
    pub name: String,
    /// Its columns.
    pub schema: SchemaRef,
    /// How many rows it has now.
    pub rows: u64,
}

/// A table that statements may change.
#[derive(Debug, Clone)]
pub struct Writable {
    /// Its name.
    pub name: String,
    /// Its physical columns.
    pub schema: SchemaRef,
    /// Its primary key among them; empty without one.
    pub primary_key: Vec<usize>,
    /// Per column its default, as [`highwater_plan::Source::defaults`].
    pub defaults: Vec<Option<String>>,
}

/// A bound query, and what is done to its rows when they are all there.
pub(crate) struct BoundOnce {
    pub(crate) bound: Bound,
    /// Of the columns behind the result's own: ascending or not, NULLs first or not.
    pub(crate) order: Vec<(bool, bool)>,
    pub(crate) skip: usize,
    pub(crate) fetch: Option<usize>,
    /// The result's own columns.
    pub(crate) schema: SchemaRef,
}

/// A bound statement of a script.
#[allow(clippy::large_enum_variant, reason = "there is one of it per statement")]
pub(crate) enum BoundStatement {
    /// Rows to show.
    Query(BoundOnce),
    /// Rows to add to a table.
    Insert(BoundOnce),
    /// Rows to take out of a table, and those to put there instead.
    Update { old: Option<BoundOnce>, new: BoundOnce },
    /// Rows to take out of a table.
    Delete(BoundOnce),
}

/// Binds a statement; `table` is what it changes, `text` that of the job whose relations these are.
pub(crate) fn bind_once(
    statement: &ScriptStatement,
    relations: &[Readable],
    table: Option<(&Writable, bool)>,
    text: &str,
) -> Result<BoundStatement> {
    let span = statement.span;
    let once = |target: Option<&Writable>| {
        let mut once = Once::new(relations, target, span)?;
        once.binder.plain_views(text, statement.names())?;
        Ok::<Once, crate::diagnose::Failure>(once)
    };
    let bound = match (&statement.kind, table) {
        (ScriptKind::Query(query), _) => once(None)?.query(query).map(BoundStatement::Query),
        (ScriptKind::Insert { statement, .. }, Some((table, _))) => {
            once(Some(table))?.insert(statement, table).map(BoundStatement::Insert)
        }
        (ScriptKind::Delete { table: from, selection, .. }, Some((table, true))) => {
            let query = rows_of(from, selection.clone(), table, &[])?;
            once(None)?.rows(&query, table).map(BoundStatement::Delete)
        }
        (ScriptKind::Update { table: from, assignments, selection, .. }, Some((table, true))) => {
            let assignments = assigned(assignments, table)?;
            let query = rows_of(from, selection.clone(), table, &assignments)?;
            let new = once(None)?.rows(&query, table)?;
            // A row replaces the one of its key; without a key, or with another one, the old row has to be taken out.
            let replaces =
                !table.primary_key.is_empty() && !assignments.iter().any(|(column, _)| table.primary_key.contains(column));
            let old = match replaces {
                true => None,
                false => {
                    let query = rows_of(from, selection.clone(), table, &[])?;
                    Some(once(None)?.rows(&query, table)?)
                }
            };
            Ok(BoundStatement::Update { old, new })
        }
        (_, None) => Err(error("internal-planner-error", "a change of nothing").help("please report this")),
        (_, Some((table, false))) => {
            let message = format!("the rows of table '{}' are not kept, so none can be found", table.name);
            Err(error("not-readable", message)
                .help("declare the table with readable = 'true', or without WITH; INSERT works without"))
        }
    };
    bound.map_err(|failure| {
        let mut failure = failure.or_at(span);
        if failure.0.code == "unknown-relation" && failure.0.help.as_ref().is_some_and(|help| help.starts_with("declare")) {
            let names = relations.iter().map(|relation| relation.name.as_str()).filter(|name| !name.contains('$'));
            let names: Vec<&str> = names.collect();
            failure = match names.is_empty() {
                true => failure.help("there is no view: create a job, POST it to /v1/jobs"),
                false => failure.help(format!("views: {}", names.join(", "))),
            };
        }
        failure
    })
}

/// One query under way.
struct Once {
    binder: Binder,
    span: Span,
}

impl Once {
    fn new(relations: &[Readable], target: Option<&Writable>, span: Span) -> Result<Once> {
        let mut decisions = Decisions::default();
        // A row that cannot be computed is an answer that cannot be given; but on the way there it may come and go again,
        // like the count of no rows that something is divided by.
        decisions.settings.on_error = OnError::Skip;
        decisions.settings.epoch_rows_max = 1 << 17;
        let bound = Bound {
            sources: Vec::new(),
            views: Vec::new(),
            sinks: Vec::new(),
            decisions,
            warnings: Vec::new(),
            recursions: Vec::new(),
            items: Vec::new(),
        };
        let mut once = Once { binder: Binder { catalog: Catalog::new(false), bound }, span };
        for relation in relations {
            once.declare(&relation.name, &relation.schema, Vec::new(), Some(relation.rows))?;
        }
        if let Some(table) = target
            && !relations.iter().any(|relation| relation.name == table.name)
        {
            once.declare(&table.name, &table.schema, Vec::new(), None)?;
        }
        Ok(once)
    }

    fn declare(&mut self, name: &str, schema: &SchemaRef, defaults: Vec<(String, Expr)>, rows: Option<u64>) -> Result<()> {
        let position = self.binder.bound.sources.len();
        self.binder.catalog.declare(Relation {
            name: name.to_owned(),
            target: Target::Source(position),
            schema: Arc::clone(schema),
            constraints: Constraints::default(),
            inline: None,
            span: self.span,
            defaults,
            is_stream: false,
            rows,
        })?;
        self.binder.bound.sources.push(BoundSource {
            name: name.to_owned(),
            kind: SourceKind::Source,
            schema: Arc::clone(schema),
            primary_key: Vec::new(),
            defaults: Vec::new(),
            metadata: Vec::new(),
            append_only: true,
            watermark: None,
            options: Options::default(),
            span: self.span,
        });
        Ok(())
    }

    fn query(mut self, query: &Query) -> Result<BoundOnce> {
        let (raw, places) = self.raw(query)?;
        let named = output_schema(&raw, top_select(&query.body));
        self.finish(raw, named, places)
    }

    /// The rows of a table, under its columns' types.
    fn rows(mut self, query: &Query, table: &Writable) -> Result<BoundOnce> {
        let (raw, places) = self.raw(query)?;
        let columns = raw.schema().columns().into_iter().zip(table.schema.fields());
        let columns = columns.map(|(column, field)| cast(Expr::Column(column), field.data_type().clone()).alias(field.name()));
        let raw = LogicalPlanBuilder::from(raw.clone()).project(columns).and_then(LogicalPlanBuilder::build);
        let raw = raw.map_err(|e| from_datafusion(&e, &places))?;
        self.finish(raw, nullable(&table.schema), places)
    }

    fn raw(&mut self, query: &Query) -> Result<(LogicalPlan, Places)> {
        let mut places = Places { statement: Some(self.span), ..Places::default() };
        // What is done to the finished rows need not be maintained.
        let mut query = query.clone();
        self.binder.lift_recursion(&mut query, self.span)?;
        spell_out_natural(&mut query, &self.binder.catalog);
        let kept = Query { order_by: None, limit_clause: None, fetch: None, ..query.clone() };
        check(&kept, &self.binder.catalog, &mut places, &mut self.binder.bound.warnings)?;
        self.binder.bound.items.extend(places.items.iter().cloned());
        let mut tree = Box::new(query);
        rewrite(&mut *tree);
        let raw = resolve(tree, |tree| self.binder.catalog.planner().sql_statement_to_plan(ast::Statement::Query(tree)))
            .map_err(|e| from_datafusion(&e, &places))?;
        Ok((raw, places))
    }

    /// `INSERT INTO table [(columns)] query`, columns that are not named having their defaults.
    fn insert(mut self, statement: &ast::Statement, table: &Writable) -> Result<BoundOnce> {
        let mut places = Places { statement: Some(self.span), ..Places::default() };
        let mut statement = statement.clone();
        self.binder.lift_recursion(&mut statement, self.span)?;
        spell_out_natural(&mut statement, &self.binder.catalog);
        let ast::Statement::Insert(insert) = &mut statement else {
            return Err(error("internal-planner-error", "an INSERT that is none").help("please report this"));
        };
        if insert.columns.is_empty() {
            insert.columns = table.schema.fields().iter().map(|field| quoted(field.name()).into()).collect();
        } else {
            for column in &mut insert.columns {
                let name = column.0.last().and_then(|part| part.as_ident()).cloned();
                let name = name.ok_or_else(|| error("syntax", format!("'{column}' is not a column's name")))?;
                *column = quoted(table.schema.field(position(&name, table)?).name()).into();
            }
        }
        if let Some(source) = &insert.source {
            check(&**source, &self.binder.catalog, &mut places, &mut self.binder.bound.warnings)?;
            self.binder.bound.items.extend(places.items.iter().cloned());
        }
        let defaults = defaults(table)?;
        // The target is planned against under a name of its own, so that the query may read what the table shows.
        let name = format!("{}$written", table.name);
        self.declare(&name, &table.schema, defaults, None)?;
        insert.table = ast::TableObject::TableName(quoted(&name).into());
        let count = insert.columns.len();
        rewrite(&mut statement);
        let planned = resolve(statement, |tree| self.binder.catalog.planner().sql_statement_to_plan(tree));
        let raw = planned.map_err(|e| {
            let text = e.to_string();
            if !text.contains("Column count doesn't match insert query") && !text.contains("Inconsistent data length") {
                return from_datafusion(&e, &places);
            }
            let columns: Vec<&str> = table.schema.fields().iter().map(|field| field.name().as_str()).collect();
            error("column-count", format!("not every row has {count} columns")).help(format!(
                "columns of table '{}': {}",
                table.name,
                columns.join(", ")
            ))
        })?;
        let LogicalPlan::Dml(dml) = raw else {
            return Err(error("not-supported", "this INSERT is not supported"));
        };
        self.finish(Arc::unwrap_or_clone(dml.input), nullable(&table.schema), places)
    }

    /// Takes order and limits off the plan, and makes a view of the rest.
    fn finish(mut self, raw: LogicalPlan, named: SchemaRef, places: Places) -> Result<BoundOnce> {
        let failed = |e| from_datafusion(&e, &places);
        let (plan, skip, fetch) = match raw {
            LogicalPlan::Limit(limit) => {
                let skip = match limit.get_skip_type().map_err(failed)? {
                    SkipType::Literal(skip) => skip,
                    SkipType::UnsupportedExpr => return Err(error("not-supported", "OFFSET takes a constant number")),
                };
                let fetch = match limit.get_fetch_type().map_err(failed)? {
                    FetchType::Literal(fetch) => fetch,
                    FetchType::UnsupportedExpr => return Err(error("not-supported", "LIMIT takes a constant number")),
                };
                (Arc::unwrap_or_clone(limit.input), skip, fetch)
            }
            other => (other, 0, None),
        };
        let (plan, order) = unordered(plan).map_err(failed)?;
        let plan = self.binder.optimized(plan, &places)?;
        let mut fields: Vec<_> = resolved_types(&named, &plan).fields().iter().cloned().collect();
        let schema: SchemaRef = Arc::new(arrow::datatypes::Schema::new(fields.clone()));
        fields.extend(plan.schema().fields().iter().skip(fields.len()).cloned());
        let all = Arc::new(arrow::datatypes::Schema::new(fields));
        let query = BoundQuery { plan, schema: all, places };
        let span = self.span;
        self.binder.bound.views.push(BoundView {
            name: RESULT.into(),
            materialized: true,
            query,
            emit: Emit::Changes,
            every: None,
            span,
        });
        Ok(BoundOnce { bound: self.binder.bound, order, skip, fetch, schema })
    }
}

/// A table's columns as a query may give them; what may not be NULL is checked when the rows are there.
fn nullable(schema: &SchemaRef) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
    Arc::new(arrow::datatypes::Schema::new(fields.collect::<Vec<_>>()))
}

/// The plan below its order, with the columns it is ordered by behind its own.
fn unordered(plan: LogicalPlan) -> datafusion_common::Result<(LogicalPlan, Vec<(bool, bool)>)> {
    let (input, own, sort) = match plan {
        LogicalPlan::Sort(sort) => {
            let own = sort.input.schema().columns().into_iter().map(Expr::Column).collect::<Vec<Expr>>();
            (sort.input, own, sort.expr)
        }
        LogicalPlan::Projection(project) => match project.input.as_ref() {
            LogicalPlan::Sort(sort) => (Arc::clone(&sort.input), project.expr.clone(), sort.expr.clone()),
            _ => return Ok((LogicalPlan::Projection(project), Vec::new())),
        },
        other => return Ok((other, Vec::new())),
    };
    let hidden = |(index, sort): (usize, &SortExpr)| sort.expr.clone().alias(format!("$order{index}"));
    let exprs = own.into_iter().chain(sort.iter().enumerate().map(hidden));
    let plan = LogicalPlanBuilder::from(Arc::unwrap_or_clone(input)).project(exprs)?.build()?;
    Ok((plan, sort.iter().map(|sort| (sort.asc, sort.nulls_first)).collect()))
}

/// `SELECT columns FROM table WHERE selection`, some columns replaced.
fn rows_of(
    from: &TableWithJoins,
    selection: Option<ast::Expr>,
    table: &Writable,
    replaced: &[(usize, ast::Expr)],
) -> Result<Query> {
    let mut query = Parser::new(&sqlparser::dialect::GenericDialect {})
        .try_with_sql("SELECT x FROM y")
        .and_then(|mut parser| parser.parse_query())
        .map_err(crate::diagnose::from_parser)?;
    let SetExpr::Select(select) = query.body.as_mut() else {
        return Err(error("internal-planner-error", "a SELECT that is none").help("please report this"));
    };
    let columns = table.schema.fields().iter().enumerate().map(|(index, field)| {
        let replaced = replaced.iter().find(|(column, _)| *column == index);
        let expr = replaced.map_or_else(|| ast::Expr::Identifier(quoted(field.name())), |(_, expr)| expr.clone());
        SelectItem::ExprWithAlias { expr, alias: quoted(field.name()) }
    });
    select.projection = columns.collect();
    select.from = vec![from.clone()];
    select.selection = selection;
    Ok(*query)
}

/// The assignments by their columns' positions.
fn assigned(assignments: &[(ast::ObjectName, ast::Expr)], table: &Writable) -> Result<Vec<(usize, ast::Expr)>> {
    let mut assigned: Vec<(usize, ast::Expr)> = Vec::new();
    for (name, value) in assignments {
        let ident = name.0.last().and_then(|part| part.as_ident());
        let ident = ident.ok_or_else(|| error("syntax", format!("'{name}' is not a column's name")))?;
        let column = position(ident, table)?;
        if assigned.iter().any(|(other, _)| *other == column) {
            return Err(error("duplicate-column", format!("column '{}' is set twice", ident.value))
                .at(crate::diagnose::known_place(ident.span)));
        }
        assigned.push((column, value.clone()));
    }
    Ok(assigned)
}

/// A column of a table, found as names are.
fn position(ident: &Ident, table: &Writable) -> Result<usize> {
    if let Ok(index) = table.schema.index_of(&ident.value) {
        return Ok(index);
    }
    let mut same = (0..table.schema.fields().len()).filter(|i| table.schema.field(*i).name().eq_ignore_ascii_case(&ident.value));
    if let (Some(index), None) = (same.next(), same.next()) {
        return Ok(index);
    }
    let names: Vec<String> = table.schema.fields().iter().map(|field| field.name().clone()).collect();
    Err(error("unknown-column", format!("table '{}' has no column '{}'", table.name, ident.value))
        .at(crate::diagnose::known_place(ident.span))
        .help(did_you_mean(&ident.value, "columns", &names).unwrap_or_else(|| format!("columns: {}", names.join(", ")))))
}

fn defaults(table: &Writable) -> Result<Vec<(String, Expr)>> {
    let with = table.schema.fields().iter().zip(&table.defaults);
    let with = with.filter_map(|(field, default)| Some((field, default.as_ref()?)));
    with.map(|(field, text)| Ok((field.name().clone(), value(text, field.data_type())?))).collect()
}

/// A default, which is text for decoders, as a value.
fn value(text: &str, data_type: &arrow::datatypes::DataType) -> Result<Expr> {
    let binary = matches!(data_type, arrow::datatypes::DataType::Binary | arrow::datatypes::DataType::LargeBinary);
    let Some(digits) = text.strip_prefix("\\x").filter(|_| binary) else {
        return Ok(cast(lit(text), data_type.clone()));
    };
    let bytes = (0..digits.len() / 2).map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16));
    let bytes: std::result::Result<Vec<u8>, _> = bytes.collect();
    let bytes = bytes.map_err(|_| error("internal-planner-error", "a default is no hex").help("please report this"))?;
    Ok(cast(lit(ScalarValue::Binary(Some(bytes))), data_type.clone()))
}

fn quoted(name: &str) -> Ident {
    Ident::with_quote('"', name)
}
