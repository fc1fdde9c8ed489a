//! Statements to bound relations: names resolved, types checked, queries optimised.
//!
//! A plain view is inlined into its readers, so that filters and column pruning reach through it; a materialised view
//! (and a view with EMIT FINAL) is a relation of its own, because what it keeps is shared, not computed again.

mod aggregate_calls;
mod bounds;
mod casts;
mod catalog;
mod check;
mod clock;
mod coercion;
mod decimals;
mod default;
mod dependent;
mod equalities;
mod event_order;
mod expressions;
mod group_window;
mod interval;
mod join_order;
mod json_calls;
mod lateness;
mod marks;
mod names;
mod natural;
mod nodes;
mod once;
mod operators;
mod optimize;
mod options;
mod ordered;
mod plain_views;
mod query;
mod recursion;
mod rewrite;
mod row_values;
mod scopes;
mod separators;
mod set_operation;
mod settings;
mod source;
mod spelling;
mod subquery;
mod text_constants;
mod timed;
mod tvf;
mod types;
mod unnest;
mod using;
mod written;

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion_common::{Constraints, DFSchema};
use datafusion_expr::LogicalPlan;
use highwater_plan::{Diagnostic, Emit, Options, SourceKind, Span};
use sqlparser::ast::{ObjectName, Spanned};

pub(crate) use catalog::{Catalog, Relation, Target};
pub(crate) use clock::changing;
pub(crate) use event_order::is_event_order;
pub(crate) use nodes::{WatermarkNode, WindowNode, Windows};
pub(crate) use once::{BoundOnce, BoundStatement, RESULT, bind_once};
pub use once::{Readable, Writable};
pub(crate) use ordered::{is_sorted, with_ties};
pub(crate) use plain_views::plain_views;
pub(crate) use recursion::{BoundRecursion, Form};
pub(crate) use set_operation::SetOperationNode;
pub(crate) use settings::Decisions;
pub(crate) use subquery::has_subquery;
pub(crate) use timed::{JoinTime, TimedJoinNode};
pub(crate) use types::{map as map_type, sql_type};
pub(crate) use unnest::UnnestNode;

use crate::CompileOptions;
use crate::diagnose::{Failure, Item, Places, Result, error, known_place, place};
use crate::parse::{CreateSink, CreateView, EmitClause, Statement, StatementKind};

/// A job whose statements make sense one by one.
pub(crate) struct Bound {
    pub(crate) sources: Vec<BoundSource>,
    pub(crate) views: Vec<BoundView>,
    pub(crate) sinks: Vec<BoundSink>,
    /// Recursive queries of all statements; each is there once its statement is bound.
    pub(crate) recursions: Vec<Option<BoundRecursion>>,
    pub(crate) decisions: Decisions,
    pub(crate) warnings: Vec<Diagnostic>,
    /// Expressions of all statements, to find those that fail on a row.
    pub(crate) items: Vec<Item>,
}

/// `CREATE SOURCE`, `CREATE TABLE`.
pub(crate) struct BoundSource {
    pub(crate) name: String,
    pub(crate) kind: SourceKind,
    /// Its physical columns.
    pub(crate) schema: SchemaRef,
    pub(crate) primary_key: Vec<usize>,
    /// Per physical column its default, as text.
    pub(crate) defaults: Vec<Option<String>>,
    /// Per physical column the metadata that it takes.
    pub(crate) metadata: Vec<Option<String>>,
    pub(crate) append_only: bool,
    pub(crate) watermark: Option<BoundWatermark>,
    pub(crate) options: Options,
    pub(crate) span: Span,
}

/// `WATERMARK FOR column AS expr`, bound.
pub(crate) struct BoundWatermark {
    pub(crate) column: String,
    /// A projection of the event time and of the watermark over a scan of the source.
    pub(crate) plan: LogicalPlan,
    pub(crate) span: Span,
}

/// A query with what its lowering needs.
#[derive(Clone)]
pub(crate) struct BoundQuery {
    /// Optimised.
    pub(crate) plan: LogicalPlan,
    /// Its output columns, as named by the query.
    pub(crate) schema: SchemaRef,
    pub(crate) places: Places,
}

/// `CREATE [MATERIALIZED] VIEW`.
pub(crate) struct BoundView {
    pub(crate) name: String,
    pub(crate) materialized: bool,
    pub(crate) query: BoundQuery,
    pub(crate) emit: Emit,
    /// Changes are given together once in so many milliseconds.
    pub(crate) every: Option<u64>,
    pub(crate) span: Span,
}

/// `CREATE SINK`, with the queries that feed it.
pub(crate) struct BoundSink {
    pub(crate) name: String,
    pub(crate) queries: Vec<BoundQuery>,
    pub(crate) schema: SchemaRef,
    /// Its declared primary key.
    pub(crate) key: Option<Vec<usize>>,
    pub(crate) emit: Emit,
    /// Changes are given together once in so many milliseconds.
    pub(crate) every: Option<u64>,
    pub(crate) options: Options,
    pub(crate) span: Span,
}

/// Binds a job's statements, of which `warnings` were said already.
pub(crate) fn bind(statements: Vec<Statement>, mut warnings: Vec<Diagnostic>, options: &CompileOptions) -> Result<Bound> {
    let mut decisions = settings::decide(&statements)?;
    warnings.append(&mut decisions.warnings);
    let lower = decisions.lower_identifiers;
    let statements = written::settled(statements, |ident| identifier(ident, lower))?;
    let catalog = Catalog::new(decisions.lower_identifiers).with_rows(options.rows.clone());
    let bound = Bound {
        sources: Vec::new(),
        views: Vec::new(),
        sinks: Vec::new(),
        recursions: Vec::new(),
        warnings,
        decisions,
        items: Vec::new(),
    };
    let mut binder = Binder { catalog, bound };
    for statement in statements {
        let span = statement.span;
        binder.statement(statement).map_err(|failure| failure.or_at(span))?;
    }
    binder.readable_tables(options.readable_tables)?;
    let Bound { sources, sinks, warnings, .. } = &mut binder.bound;
    let given = sources.iter().map(|source| &source.options).chain(sinks.iter().map(|sink| &sink.options));
    warnings.extend(given.flat_map(options::written_secrets));
    if let Some(sink) = binder.bound.sinks.iter().find(|sink| sink.queries.is_empty()) {
        return Err(error("empty-sink", format!("nothing is written to sink '{}'", sink.name))
            .at(sink.span)
            .help(format!("add INSERT INTO {} SELECT ...", sink.name)));
    }
    Ok(binder.bound)
}

/// An identifier as it is looked up.
fn identifier(ident: &sqlparser::ast::Ident, lower: bool) -> String {
    if lower && ident.quote_style.is_none() { ident.value.to_lowercase() } else { ident.value.clone() }
}

/// The database that Flink's names stand in if nothing else is said.
fn is_default(part: &sqlparser::ast::ObjectNamePart) -> bool {
    part.as_ident().is_some_and(|ident| ident.value.eq_ignore_ascii_case("default_database"))
}

struct Binder {
    catalog: Catalog,
    bound: Bound,
}

impl Binder {
    fn statement(&mut self, statement: Statement) -> Result<()> {
        let span = statement.span;
        match statement.kind {
            StatementKind::Set { .. } | StatementKind::Nothing => Ok(()),
            StatementKind::Remark(remark) => {
                self.bound.warnings.push(*remark);
                Ok(())
            }
            StatementKind::Relation(relation) => self.relation(*relation, span),
            StatementKind::View(view) => self.view(view, span),
            StatementKind::Views(views) => views.into_iter().try_for_each(|view| self.view(view, span)),
            StatementKind::Sink(sink) => self.sink(*sink, span),
            StatementKind::Insert { mut statement, target, emit } => self.insert(&mut statement, &target, emit, span),
        }
    }

    /// The number of a recursion that is about to be bound.
    fn new_recursion(&mut self) -> usize {
        self.bound.recursions.push(None);
        self.bound.recursions.len() - 1
    }

    /// An identifier as it is looked up.
    fn ident(&self, ident: &sqlparser::ast::Ident) -> String {
        identifier(ident, self.bound.decisions.lower_identifiers)
    }

    /// A relation's name; names have no schema in front.
    fn name(&self, name: &ObjectName) -> Result<(String, Span)> {
        let span = known_place(name.span());
        match &name.0[..] {
            [part] => match part.as_ident() {
                Some(ident) => Ok((self.ident(ident), place(ident.span))),
                None => Err(error("syntax", format!("'{name}' is not a name")).at(span)),
            },
            [.., database, part] if is_default(database) => match part.as_ident() {
                Some(ident) => Ok((self.ident(ident), place(ident.span))),
                None => Err(error("syntax", format!("'{name}' is not a name")).at(span)),
            },
            _ => Err(error("not-supported", format!("qualified names such as '{name}' are not supported"))
                .at(span)
                .help("all relations of a job stand in one namespace")),
        }
    }

    fn view(&mut self, view: CreateView, span: Span) -> Result<()> {
        let (name, name_span) = self.name(&view.name)?;
        let (emit, every) = self.emission(view.emit)?;
        let columns: Vec<String> = view.columns.iter().map(|column| self.ident(column)).collect();
        let (raw, query) = self.query(*view.query, &columns, span)?;
        let inline = (!view.materialized && emit == Emit::Changes && every.is_none()).then_some(raw);
        // A view that is inlined is analysed with its reader, so it shows what it has before that.
        let schema = match &inline {
            Some(raw) => query::named_like(&query.schema, raw),
            None => Arc::clone(&query.schema),
        };
        self.catalog.declare(Relation {
            name: name.clone(),
            target: Target::View(self.bound.views.len()),
            schema,
            constraints: Constraints::default(),
            inline,
            span: name_span,
            defaults: Vec::new(),
            is_stream: false,
            rows: None,
        })?;
        self.bound.views.push(BoundView { name, materialized: view.materialized, query, emit, every, span });
        Ok(())
    }

    fn sink(&mut self, sink: CreateSink, span: Span) -> Result<()> {
        let (name, name_span) = self.name(&sink.name)?;
        let options = Options { entries: options::in_our_names(sink.options.clone()), span: Some(name_span) };
        let (emit, every) = self.emission(sink.emit.clone())?;
        let (queries, schema, key) = match (&sink.from, sink.query) {
            (Some(from), _) => {
                let query = self.scan(from, span)?;
                let schema = Arc::clone(&query.schema);
                (vec![query], schema, None)
            }
            (None, Some(query)) => {
                let query = self.query(*query, &[], span)?.1;
                let schema = Arc::clone(&query.schema);
                (vec![query], schema, None)
            }
            (None, None) => {
                let schema = self.sink_schema(&sink.columns, &sink.primary_key)?;
                let key = self.key_positions(&sink.primary_key, &schema, &name)?;
                (Vec::new(), schema, (!key.is_empty()).then_some(key))
            }
        };
        self.catalog.declare(Relation {
            name: name.clone(),
            target: Target::Sink(self.bound.sinks.len()),
            schema: Arc::clone(&schema),
            constraints: Constraints::default(),
            inline: None,
            span: name_span,
            defaults: Vec::new(),
            is_stream: false,
            rows: None,
        })?;
        self.bound.sinks.push(BoundSink { name, queries, schema, key, emit, every, options, span });
        Ok(())
    }

    fn insert(
        &mut self,
        statement: &mut sqlparser::ast::Statement,
        target: &ObjectName,
        emit: Option<EmitClause>,
        span: Span,
    ) -> Result<()> {
        let (name, name_span) = self.name(target)?;
        let relation = self.catalog.relation(&name).cloned();
        let Some(relation) = relation else { return Err(self.unknown_sink(&name).at(name_span)) };
        let Target::Sink(sink) = relation.target else {
            return Err(error("not-a-sink", format!("'{name}' is not a sink"))
                .at(name_span)
                .note("declared here", Some(relation.span))
                .help("INSERT INTO writes sinks; a query's result is kept by CREATE MATERIALIZED VIEW"));
        };
        let query = self.insertion(statement, &relation, span)?;
        let (emit, every) = self.emission(emit)?;
        let sink = &mut self.bound.sinks[sink];
        if emit == Emit::Final {
            sink.emit = Emit::Final;
        }
        sink.every = every.or(sink.every);
        // Several INSERTs into one sink are a UNION ALL.
        sink.queries.push(query);
        Ok(())
    }

    /// What an EMIT clause says: when windows are given, and how often changes are.
    fn emission(&self, clause: Option<EmitClause>) -> Result<(Emit, Option<u64>)> {
        let Some(EmitClause { emit, every }) = clause else { return Ok((Emit::Changes, None)) };
        let Some((interval, span)) = every else { return Ok((emit, None)) };
        let places = Places { statement: Some(span), ..Places::default() };
        let interval = self.catalog.planner().sql_to_expr(interval, &DFSchema::empty(), &mut Default::default());
        let interval = interval.map_err(|e| crate::diagnose::from_datafusion(&e, &places))?;
        let micros = tvf::interval_micros(&interval).ok().filter(|micros| *micros > 0 && micros % 1_000 == 0);
        match micros.and_then(|micros| u64::try_from(micros / 1_000).ok()) {
            Some(millis) => Ok((emit, Some(millis))),
            None => Err(error("emit-interval", "EMIT EVERY takes a positive INTERVAL of whole milliseconds, at most days")
                .at(span)
                .help("for example EMIT EVERY INTERVAL '10' SECOND")),
        }
    }

    fn unknown_sink(&self, name: &str) -> Failure {
        let names: Vec<String> = self.bound.sinks.iter().map(|sink| sink.name.clone()).collect();
        error("unknown-relation", format!("unknown sink '{name}'")).help(
            crate::diagnose::did_you_mean(name, "sinks", &names)
                .unwrap_or_else(|| format!("declare it first: CREATE SINK {name} (columns) WITH (...)")),
        )
    }
}
