//! Tables that are written: as in Flink, which has no CREATE SINK, `INSERT INTO t SELECT ...` makes a sink of a table that
//! has a connector. `LIKE` is spelt out before that, because sinks take their columns from it.

use std::collections::BTreeMap;

use highwater_plan::{OptionEntry, Span};
use sqlparser::ast::{Ident, ObjectName, SetExpr, Spanned, Statement as SqlStatement};

use crate::diagnose::{Failure, Result, error, known_place, place};
use crate::parse::{
    Column, ColumnKind, CreateRelation, CreateSink, Part, RelationKind, Statement, StatementKind, WatermarkClause, relation_names,
};

/// The statements with every `LIKE` spelt out, and with sinks in place of the tables that are written.
pub(super) fn settled(mut statements: Vec<Statement>, same: impl Fn(&Ident) -> String) -> Result<Vec<Statement>> {
    spell_out_like(&mut statements, &same)?;
    let mut written: BTreeMap<String, Vec<(usize, Span)>> = BTreeMap::new();
    for (index, statement) in statements.iter().enumerate() {
        if let StatementKind::Insert { target, .. } = &statement.kind
            && let Some(name) = target.0.last().and_then(|part| part.as_ident())
        {
            written.entry(same(name)).or_default().push((index, place(target.span())));
        }
    }
    let mut dropped = Vec::new();
    for index in 0..statements.len() {
        let StatementKind::Relation(relation) = &statements[index].kind else { continue };
        let Some(name) = relation.name.0.last().and_then(|part| part.as_ident()).map(&same) else { continue };
        let Some(inserts) = written.get(&name) else { continue };
        if relation.kind != RelationKind::Table || !has_connector(relation) {
            continue;
        }
        if let Some(reader) = statements.iter().find(|statement| reads(statement, &name, &same)) {
            return Err(error("written-and-read", format!("table '{name}' is written by INSERT INTO, so it cannot be read"))
                .at(reader.span)
                .note("written here", Some(inserts[0].1))
                .help(format!(
                    "keep the rows: CREATE MATERIALIZED VIEW {name} AS SELECT ..., read that, and write it out by CREATE SINK out \
                     FROM {name} WITH (...)"
                )));
        }
        let StatementKind::Relation(relation) = statements[index].kind.clone() else { continue };
        let sink = sink_of(*relation);
        if sink.columns.is_empty() {
            // The columns are those of the query, which may read what is declared only after the table.
            let [(insert, _)] = inserts[..] else {
                return Err(error("syntax", format!("table '{name}' needs columns: several INSERTs write it"))
                    .at(statements[index].span)
                    .help("declare them: CREATE TABLE name (column TYPE, ...) WITH (...)"));
            };
            statements[insert].kind = StatementKind::Sink(Box::new(fed_by(sink, &statements[insert])?));
            dropped.push(index);
        } else {
            statements[index].kind = StatementKind::Sink(Box::new(sink));
        }
    }
    for index in dropped.into_iter().rev() {
        statements.remove(index);
    }
    Ok(statements)
}

fn has_connector(relation: &CreateRelation) -> bool {
    relation.options.iter().flatten().any(|option| option.key == "connector")
}

/// The table as a sink: what only a reader needs (computed columns, the watermark, defaults) is left out.
fn sink_of(relation: CreateRelation) -> CreateSink {
    let CreateRelation { name, mut columns, primary_key, options, partitioned, .. } = relation;
    let written = |column: &Column| column.metadata.as_ref().is_none_or(|metadata| !metadata.is_virtual);
    columns.retain(|column| matches!(column.kind, ColumnKind::Physical(_)) && written(column));
    for column in &mut columns {
        column.default = None;
    }
    let mut options = options.unwrap_or_default();
    if !partitioned.is_empty() && !options.iter().any(|option| option.key == "partition_by") {
        let value = partitioned.iter().map(|column| column.value.as_str()).collect::<Vec<_>>().join(",");
        let span = partitioned.first().map(|column| place(column.span));
        options.push(OptionEntry { key: "partition_by".into(), value, key_span: span, value_span: span });
    }
    CreateSink { name, columns, primary_key, from: None, query: None, options, emit: None }
}

fn fed_by(sink: CreateSink, insert: &Statement) -> Result<CreateSink> {
    let StatementKind::Insert { statement, emit, .. } = &insert.kind else { return Ok(sink) };
    let SqlStatement::Insert(insert_into) = &**statement else { return Ok(sink) };
    if let Some(column) = insert_into.columns.first() {
        return Err(error("syntax", "the table that is written has no columns to choose from")
            .at(known_place(column.span()).or(Some(insert.span)))
            .help("leave the list of columns out, or declare them with the table"));
    }
    Ok(CreateSink { query: insert_into.source.clone(), emit: emit.clone(), ..sink })
}

/// Whether a statement reads the relation.
fn reads(statement: &Statement, name: &str, same: &impl Fn(&Ident) -> String) -> bool {
    let names = match &statement.kind {
        StatementKind::View(view) => relation_names(&*view.query),
        StatementKind::Sink(sink) => {
            let mut names = sink.query.as_ref().map(|query| relation_names(&**query)).unwrap_or_default();
            names.extend(sink.from.iter().filter_map(last).map(same));
            names
        }
        StatementKind::Insert { statement, .. } => match &**statement {
            SqlStatement::Insert(insert) => insert.source.as_ref().map(|query| relation_names(&**query)).unwrap_or_default(),
            _ => Vec::new(),
        },
        _ => Vec::new(),
    };
    let common = match &statement.kind {
        StatementKind::View(view) => common_names(&view.query),
        _ => Vec::new(),
    };
    names.iter().any(|found| found == name) && !common.iter().any(|found| found == name)
}

fn common_names(query: &sqlparser::ast::Query) -> Vec<String> {
    let with = query.with.iter().flat_map(|with| &with.cte_tables).map(|table| table.alias.name.value.clone());
    let inner = match &*query.body {
        SetExpr::Query(query) => common_names(query),
        _ => Vec::new(),
    };
    with.chain(inner).collect()
}

fn last(name: &ObjectName) -> Option<&Ident> {
    name.0.last().and_then(|part| part.as_ident())
}

/// Puts what a table takes over from another into its own declaration.
fn spell_out_like(statements: &mut [Statement], same: &impl Fn(&Ident) -> String) -> Result<()> {
    for index in 0..statements.len() {
        let (before, rest) = statements.split_at_mut(index);
        let StatementKind::Relation(relation) = &mut rest[0].kind else { continue };
        let Some(like) = relation.like.take() else { continue };
        let wanted = last(&like.name).map(same);
        let base = before.iter().find_map(|statement| match &statement.kind {
            StatementKind::Relation(base) if last(&base.name).map(same) == wanted => Some(base),
            _ => None,
        });
        let Some(base) = base else {
            let name = like.name.to_string();
            return Err(error("unknown-relation", format!("LIKE names '{name}', which is no table that is declared before"))
                .at(known_place(like.name.span()).or(Some(like.span)))
                .help("LIKE takes over what CREATE TABLE or CREATE SOURCE says, not views"));
        };
        take_over(relation, base, &like.parts).map_err(|failure| failure.or_at(like.span))?;
    }
    Ok(())
}

fn take_over(relation: &mut CreateRelation, base: &CreateRelation, parts: &[Part]) -> std::result::Result<(), Failure> {
    let takes = |part: Part| parts.contains(&part);
    let mut columns = base.columns.clone();
    columns.retain(|column| takes(Part::Generated) || matches!(column.kind, ColumnKind::Physical(_)));
    for column in &relation.columns {
        if let Some(other) = columns.iter().find(|other| other.name.value == column.name.value) {
            return Err(error("duplicate-column", format!("column '{}' is there in both tables", column.name.value))
                .at(place(column.name.span))
                .note("first declared here", Some(place(other.name.span))));
        }
    }
    columns.append(&mut relation.columns);
    relation.columns = columns;
    if relation.primary_key.is_empty() && takes(Part::Constraints) {
        relation.primary_key.clone_from(&base.primary_key);
    }
    if relation.watermark.is_none() && takes(Part::Watermarks) {
        let there =
            |watermark: &&WatermarkClause| relation.columns.iter().any(|column| column.name.value == watermark.column.value);
        relation.watermark = base.watermark.as_ref().filter(there).cloned();
    }
    if relation.partitioned.is_empty() && takes(Part::Partitions) {
        relation.partitioned.clone_from(&base.partitioned);
    }
    if takes(Part::Options)
        && let Some(given) = &base.options
    {
        let own = relation.options.get_or_insert_default();
        let taken: Vec<OptionEntry> =
            given.iter().filter(|option| !own.iter().any(|other| other.key == option.key)).cloned().collect();
        own.extend(taken);
    }
    Ok(())
}
