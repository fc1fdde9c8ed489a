//! `CREATE SOURCE` and `CREATE TABLE`: physical columns, computed columns, key and watermark.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{Column as PlanColumn, Constraint, Constraints, DFSchema};
use datafusion_expr::logical_plan::{Extension, LogicalPlan, LogicalPlanBuilder};
use datafusion_expr::{Expr, ExprSchemable, TableSource, cast};
use highwater_plan::{Emit, OptionEntry, SourceKind, Span};
use sqlparser::ast::{self, Ident};

use super::catalog::{Relation, Target};
use super::nodes::WatermarkNode;
use super::optimize::simplify;
use super::query::resolve;
use super::rewrite::rewrite;
use super::{Binder, BoundSource, BoundView, BoundWatermark, types};
use crate::diagnose::{Item, Places, Result, did_you_mean, error, from_datafusion, place};
use crate::functions::cast::instant_of;
use crate::parse::{Column, ColumnKind, CreateRelation, RelationKind, WatermarkClause};

/// Formats whose rows retract others.
const CHANGELOGS: [&str; 3] = ["debezium", "changelog", "upsert"];

impl Binder {
    /// Binds and declares a source or table.
    pub(super) fn relation(&mut self, relation: CreateRelation, span: Span) -> Result<()> {
        let (name, name_span) = self.name(&relation.name)?;
        if let Some(column) = relation.partitioned.first() {
            return Err(error("not-supported", "only what is written can be PARTITIONED BY columns")
                .at(place(column.span))
                .help("leave it out; the option path names files by a pattern, and a column may be computed"));
        }
        if relation.columns.is_empty() {
            return Err(error("syntax", format!("relation '{name}' needs columns")).at(name_span));
        }
        let kind = match relation.kind {
            RelationKind::Source => SourceKind::Source,
            RelationKind::Table => SourceKind::Table,
        };
        let schema = self.physical_schema(&relation.columns, &relation.primary_key)?;
        let primary_key = self.key_positions(&relation.primary_key, &schema, &name)?;
        let constraints = match primary_key.is_empty() {
            true => Constraints::default(),
            false => Constraints::new_unverified(vec![Constraint::PrimaryKey(primary_key.clone())]),
        };
        let position = self.bound.sources.len();
        let base = Relation {
            name: name.clone(),
            target: Target::Source(position),
            schema: Arc::clone(&schema),
            constraints,
            inline: None,
            span: name_span,
            defaults: Vec::new(),
            is_stream: primary_key.is_empty(),
            rows: self.catalog.rows_of(&name),
        };
        let places = Places { statement: Some(span), ..Places::default() };
        let scan = LogicalPlanBuilder::scan(name.as_str(), Arc::new(base.clone()) as Arc<dyn TableSource>, None)
            .and_then(LogicalPlanBuilder::build)
            .map_err(|e| from_datafusion(&e, &places))?;
        let defaults = self.defaults(&relation.columns, &schema, &places)?;
        let columns = self.column_exprs(&relation.columns, &schema, &name, &places)?;
        let computed = relation.columns.iter().any(|column| matches!(column.kind, ColumnKind::Computed(_)));
        let mut plan = scan.clone();
        if computed {
            plan = LogicalPlanBuilder::from(plan)
                .project(columns.iter().map(|(name, expr)| expr.clone().alias(name)))
                .and_then(LogicalPlanBuilder::build)
                .map_err(|e| from_datafusion(&e, &places))?;
        }
        for column in &relation.columns {
            if let ColumnKind::Computed(expr) = &column.kind {
                self.bound.items.extend(Item::new(expr));
            }
        }
        let mut watermark = None;
        let clause = match relation.watermark {
            Some(clause) => Some(clause),
            None => self.by_lateness(&relation.lateness, &plan),
        };
        if let Some(clause) = &clause {
            watermark = Some(self.watermark(clause, scan, &plan, &columns, &places)?);
            let index = plan.schema().index_of_column_by_name(None, &watermark.as_ref().expect("set above").column);
            let index = index.expect("the watermark's column was found in this schema");
            let column = Expr::Column(plan.schema().columns()[index].clone());
            let node = WatermarkNode { input: Arc::new(plan), column, source: position };
            plan = LogicalPlan::Extension(Extension { node: Arc::new(node) });
        }
        let inline = (computed || watermark.is_some()).then_some(plan.clone());
        let exposed: SchemaRef = Arc::new(plan.schema().as_arrow().clone());
        self.catalog.declare(Relation { schema: exposed, inline, ..base })?;
        // Rows of a table that says nothing else are there to be changed by SQL; a watermark is about rows that come.
        let changes = kind == SourceKind::Table
            && !relation.append_only
            && watermark.is_none()
            && relation.options.as_deref().is_none_or(kept_and_pushed);
        let options = self.source_options(kind, super::lateness::plain_options(kind, relation.options)?, name_span);
        let changelog = options.get("format").is_some_and(|format| CHANGELOGS.iter().any(|word| format.contains(word)));
        let append_only = primary_key.is_empty() && !changelog && !changes;
        let metadata = metadata(&relation.columns)?;
        self.bound.sources.push(BoundSource {
            name,
            kind,
            schema,
            primary_key,
            defaults,
            metadata,
            append_only,
            watermark,
            options,
            span,
        });
        Ok(())
    }

    /// Keeps the tables that say so, and with `plain` those that say nothing: a view of the table's own name, that no query
    /// can mean because they see the table.
    pub(super) fn readable_tables(&mut self, plain: bool) -> Result<()> {
        for index in 0..self.bound.sources.len() {
            let source = &self.bound.sources[index];
            let span = source.span;
            let readable = match source.options.entry("readable").map(|entry| (entry, entry.value.as_str())) {
                // Who wrote no options has not decided against it; the one there is was put there for him.
                None => plain && source.options.entries.iter().all(|entry| entry.key_span.is_none()),
                Some((_, "false")) => false,
                Some((_, "true")) if source.kind == SourceKind::Table => true,
                Some((entry, "true")) => {
                    return Err(error("invalid-option", "only a table can be kept readable: a source has no end")
                        .at(entry.key_span.or(Some(span)))
                        .help("keep what is needed of it: CREATE MATERIALIZED VIEW ... AS SELECT ... FROM source"));
                }
                Some((entry, other)) => {
                    return Err(error("invalid-option", format!("option 'readable' is 'true' or 'false', not '{other}'"))
                        .at(entry.value_span.or(Some(span))));
                }
            };
            if readable && source.kind == SourceKind::Table {
                let name = source.name.clone();
                let query = self.scan(&Ident::with_quote('"', name.as_str()).into(), span)?;
                self.bound.views.push(BoundView { name, materialized: true, query, emit: Emit::Changes, every: None, span });
            }
        }
        Ok(())
    }

    /// The decoded columns; those of the key are never NULL.
    fn physical_schema(&self, columns: &[Column], primary_key: &[Ident]) -> Result<SchemaRef> {
        let key: Vec<String> = primary_key.iter().map(|name| self.ident(name)).collect();
        let mut fields = Vec::new();
        for column in columns {
            if let ColumnKind::Physical(sql_type) = &column.kind {
                let name = self.ident(&column.name);
                let data_type = types::data_type(sql_type).map_err(|failure| failure.or_at(column.span))?;
                let nullable = !column.not_null && !key.contains(&name);
                fields.push(Field::new(name, data_type, nullable));
            }
        }
        Ok(Arc::new(Schema::new(fields)))
    }

    /// The columns of a sink that INSERTs feed.
    pub(super) fn sink_schema(&self, columns: &[Column], primary_key: &[Ident]) -> Result<SchemaRef> {
        if let Some(column) = columns.iter().find(|column| matches!(column.kind, ColumnKind::Computed(_))) {
            return Err(error("computed-sink-column", "a sink has no computed columns")
                .at(column.span)
                .help("compute it in the query that feeds the sink"));
        }
        if let Some(metadata) = columns.iter().find_map(|column| column.metadata.as_ref()) {
            return Err(error("not-supported", "a sink has no METADATA columns")
                .at(metadata.span)
                .help("a table that is only read takes them as METADATA VIRTUAL; what is written goes into the rows"));
        }
        if let Some(column) = columns.iter().find(|column| column.default.is_some()) {
            return Err(error("invalid-default", "a column of a sink has no DEFAULT: every row gives it")
                .at(column.span)
                .help("give the value in the query that feeds the sink"));
        }
        self.physical_schema(columns, primary_key)
    }

    /// Positions of the key's columns.
    pub(super) fn key_positions(&self, key: &[Ident], schema: &SchemaRef, relation: &str) -> Result<Vec<usize>> {
        let names: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
        key.iter()
            .map(|ident| {
                let name = self.ident(ident);
                schema.index_of(&name).map_err(|_| {
                    error("primary-key", format!("PRIMARY KEY names '{name}', which is no column of '{relation}'"))
                        .at(place(ident.span))
                        .maybe_help(did_you_mean(&name, "columns", &names))
                })
            })
            .collect()
    }

    /// Every column, by name, as an expression over the physical ones.
    fn column_exprs(
        &self,
        columns: &[Column],
        schema: &SchemaRef,
        relation: &str,
        places: &Places,
    ) -> Result<Vec<(String, Expr)>> {
        let physical = DFSchema::try_from_qualified_schema(relation, schema).map_err(|e| from_datafusion(&e, places))?;
        columns
            .iter()
            .map(|column| {
                let name = self.ident(&column.name);
                let expr = match &column.kind {
                    ColumnKind::Physical(_) => Expr::Column(PlanColumn::new(Some(relation), &name)),
                    ColumnKind::Computed(expr) => {
                        self.expr(expr, &physical, places).map_err(|failure| failure.or_at(column.span))?
                    }
                };
                Ok((name, expr))
            })
            .collect()
    }

    /// An expression over a relation's columns.
    pub(super) fn expr(&self, expr: &ast::Expr, schema: &DFSchema, places: &Places) -> Result<Expr> {
        let mut places = places.clone();
        super::check::check(expr, &self.catalog, &mut places, &mut Vec::new())?;
        let mut expr = expr.clone();
        rewrite(&mut expr);
        resolve(expr, |expr| self.catalog.planner().sql_to_expr(expr, schema, &mut Default::default()))
            .map_err(|e| from_datafusion(&e, &places))
    }

    fn watermark(
        &self,
        clause: &WatermarkClause,
        scan: LogicalPlan,
        plan: &LogicalPlan,
        columns: &[(String, Expr)],
        places: &Places,
    ) -> Result<BoundWatermark> {
        let written = self.ident(&clause.column);
        let at = place(clause.column.span);
        let found = columns.iter().find(|(name, _)| *name == written).or_else(|| {
            let mut same = columns.iter().filter(|(name, _)| name.eq_ignore_ascii_case(&written));
            same.next().filter(|_| same.next().is_none())
        });
        let Some((name, event_time)) = found else {
            let names: Vec<String> = columns.iter().map(|(name, _)| name.clone()).collect();
            return Err(error("unknown-column", format!("WATERMARK FOR names '{written}', which is no column"))
                .at(at)
                .maybe_help(did_you_mean(&written, "columns", &names)));
        };
        if crate::functions::calls_proctime(event_time) {
            return Err(error("watermark-type", format!("'{name}' is processing time, which needs no watermark"))
                .at(at)
                .help(format!("remove WATERMARK FOR {name}: windows over it close by the clock")));
        }
        let data_type = event_time.get_type(scan.schema()).map_err(|e| from_datafusion(&e, places))?;
        let counted = data_type.is_integer();
        if !counted && !matches!(data_type, DataType::Timestamp(..)) {
            return Err(error(
                "watermark-type",
                format!(
                    "the column of a watermark must be a TIMESTAMP or an integer, '{name}' is {}",
                    types::sql_type(&data_type)
                ),
            )
            .at(at)
            .help(format!("declare '{name}' as TIMESTAMP(3), or compute a column: ts AS CAST(... AS TIMESTAMP(3))")));
        }
        let value = self.expr(&clause.expr, plan.schema(), places).map_err(|failure| failure.or_at(clause.span))?;
        let value = value
            .transform(|expr| {
                Ok(match &expr {
                    Expr::Column(column) => match columns.iter().find(|(name, _)| *name == column.name) {
                        Some((_, expr)) => Transformed::yes(expr.clone()),
                        None => Transformed::no(expr),
                    },
                    _ => Transformed::no(expr),
                })
            })
            .map_err(|e| from_datafusion(&e, places))?
            .data;
        let (mut event_time, mut value) = (event_time.clone(), value);
        let value_type = value.get_type(scan.schema()).map_err(|e| from_datafusion(&e, places))?;
        if counted && value_type.is_integer() {
            // Numbers order rows as times do; which instant one is called does not matter to anyone.
            let instant = |number| instant_of(cast(number, DataType::Int64));
            (event_time, value) = (instant(event_time), instant(value));
        }
        let project = [event_time.alias("event_time"), value.alias("watermark")];
        let plan = LogicalPlanBuilder::from(scan)
            .project(project)
            .and_then(LogicalPlanBuilder::build)
            .and_then(|plan| simplify(plan, self.catalog.config()))
            .map_err(|e| from_datafusion(&e, places).or_at(clause.span))?;
        if !matches!(plan.schema().field(1).data_type(), DataType::Timestamp(..)) {
            let wanted = if counted { "an integer, like its column" } else { "a TIMESTAMP" };
            let bound = if counted { "100" } else { "INTERVAL '5' SECOND" };
            return Err(error(
                "watermark-type",
                format!("a watermark must be {wanted}, this is {}", types::sql_type(&value_type)),
            )
            .at(clause.span)
            .help(format!("for example WATERMARK FOR {name} AS {name} - {bound}")));
        }
        Ok(BoundWatermark { column: name.clone(), plan, span: clause.span })
    }
}

/// Whether a table with these options is one that UPDATE and DELETE can change.
fn kept_and_pushed(options: &[OptionEntry]) -> bool {
    let has = |key: &str, value: &str| options.iter().any(|entry| entry.key == key && entry.value == value);
    has("connector", "http") && has("readable", "true")
}

/// Per physical column the metadata that it takes.
fn metadata(columns: &[Column]) -> Result<Vec<Option<String>>> {
    let physical = columns.iter().filter(|column| matches!(column.kind, ColumnKind::Physical(_)));
    let of = |column: &Column| match (&column.metadata, &column.default) {
        (Some(metadata), Some(_)) => Err(error("invalid-default", "a METADATA column has no DEFAULT: its connector gives it")
            .at(metadata.span)
            .help("leave one of them out")),
        (metadata, _) => Ok(metadata.as_ref().map(|metadata| metadata.key.clone())),
    };
    physical.map(of).collect()
}
