//! Sections of tables: what a worker's changes become, and back.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use highwater_connectors::sink::{Changes, EpochChanges};
use highwater_engine::{Delta, Form, Piece, Spread, TableState, Time, fold, fold_pieces};
use highwater_store::Section;
use serde::{Deserialize, Serialize};

use super::CheckpointError;

/// The column of multiplicities, the last one of a section, unless they are all 1.
const DIFF: &str = "$diff";

/// The column of epochs, the last one before it in what a sink is to publish.
const EPOCH: &str = "$epoch";

/// How the changes of a section add up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct TableMeta {
    /// Absent: rows with multiplicities. Else the last change of a key counts, which has so many first columns.
    keys: Option<usize>,
    spread: SpreadMeta,
    freed: Option<(usize, i64)>,
    /// Of which worker, of how many, the rows are; absent: of all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    piece: Option<(usize, usize)>,
    /// All multiplicities are 1: there is no column of them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    each_once: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum SpreadMeta {
    ByColumns(Vec<usize>),
    Anywhere,
    One,
    Everywhere,
}

/// The section of what a sink is to publish; `published`: up to this epoch it need not be kept.
pub(crate) fn outbox_section(sink: &str, schema: &SchemaRef, epochs: &[EpochChanges], published: Time) -> Option<Section> {
    let columns = schema.fields().len();
    let mut changes = Vec::new();
    for epoch in epochs {
        for Changes { rows, diffs } in &epoch.changes {
            let at: ArrayRef = Arc::new(Int64Array::from(vec![epoch.epoch as i64; rows.num_rows()]));
            let rows = appended(rows, EPOCH, at);
            changes.push(match diffs {
                Some(diffs) => Delta::with_diffs(rows, diffs.clone()),
                None => Delta::insert(rows),
            });
        }
    }
    let freed = Some((columns, published as i64));
    let table = TableState { table: 0, form: Form::Rows, spread: Spread::One, piece: Piece::WHOLE, changes, freed };
    section_of_piece(&format!("{OUTBOX}{sink}"), Piece::WHOLE, &[&table], freed)
}

const OUTBOX: &str = "outbox/";

/// Whether a section of this key has rows that are to be published.
pub(crate) fn is_outbox(key: &str) -> bool {
    key.starts_with(OUTBOX)
}

/// The sink that a section has rows of that are to be published.
pub(crate) fn outbox_of(section: &Section) -> Option<&str> {
    section.key.strip_prefix(OUTBOX)
}

/// What a sink is to publish, from all sections of it, oldest first.
pub(crate) fn outbox_epochs(sections: &[Section]) -> Result<Vec<EpochChanges>, CheckpointError> {
    let tables = sections.iter().map(|section| table_of(0, section)).collect::<Result<Vec<_>, _>>()?;
    let mut epochs: BTreeMap<Time, Vec<Changes>> = BTreeMap::new();
    for delta in fold(&tables, true) {
        let last = delta.rows.num_columns() - 1;
        let at = delta.rows.column(last).as_primitive::<Int64Type>().clone();
        let mut rows: BTreeMap<i64, Vec<u32>> = BTreeMap::new();
        for row in 0..delta.len() {
            rows.entry(at.value(row)).or_default().push(row as u32);
        }
        for (epoch, mut rows) in rows {
            // As it was first given: retractions before insertions.
            rows.sort_by_key(|row| delta.diff(*row as usize) > 0);
            let part = delta.take(&rows.into());
            let columns: Vec<usize> = (0..last).collect();
            let rows = part.rows.project(&columns).map_err(|error| CheckpointError::Unreadable(error.to_string()))?;
            epochs.entry(epoch as Time).or_default().push(Changes { rows, diffs: part.diffs });
        }
    }
    Ok(epochs.into_iter().map(|(epoch, changes)| EpochChanges { epoch, changes }).collect())
}

/// The rows of a table whose sections these are, oldest first and from its beginning.
pub(crate) fn rows_of_table(key: &str, sections: &[Section]) -> Result<Vec<Delta>, CheckpointError> {
    let folded = fold_sections(key, true, sections)?;
    let changes = folded.iter().map(|section| Ok(table_of(0, section)?.changes));
    Ok(changes.collect::<Result<Vec<_>, CheckpointError>>()?.concat())
}

/// Adds up sections of one key, oldest first; `complete`: nothing came before them. Of what nothing is left there is none.
pub(crate) fn fold_sections(key: &str, complete: bool, sections: &[Section]) -> Result<Vec<Section>, CheckpointError> {
    let tables = sections.iter().map(|section| table_of(0, section)).collect::<Result<Vec<_>, _>>()?;
    let Some(last) = tables.last() else { return Ok(Vec::new()) };
    let freed = tables.iter().filter_map(|table| table.freed).reduce(|one, other| (one.0, one.1.max(other.1)));
    let of = |(piece, changes)| TableState {
        table: last.table,
        form: last.form,
        spread: last.spread.clone(),
        piece,
        changes,
        freed: freed.filter(|_| !complete),
    };
    let folded: Vec<TableState> = fold_pieces(&tables, complete).into_iter().map(of).collect();
    Ok(sections_of_table(key, &folded.iter().collect::<Vec<_>>()))
}

/// Rows per piece of a table from which on it is kept in pieces: to cut fewer costs less than to keep them apart.
const PIECE_ROWS: usize = 1_024;

/// The parts of a table, of all workers, a section per [`Piece`] unless they are small; none if nothing of it changed.
pub(super) fn sections_of_table(key: &str, parts: &[&TableState]) -> Vec<Section> {
    let mut pieces: BTreeMap<Piece, Vec<&TableState>> = BTreeMap::new();
    for part in parts {
        pieces.entry(part.piece).or_default().push(part);
    }
    let freed = parts.iter().map(|part| part.freed).reduce(|one, other| match (one, other) {
        (Some((column, one)), Some((_, other))) => Some((column, one.min(other))),
        _ => None,
    });
    let freed = freed.flatten();
    let rows: usize = parts.iter().flat_map(|part| &part.changes).map(Delta::len).sum();
    if rows < PIECE_ROWS * pieces.len() {
        return section_of_piece(key, Piece::WHOLE, parts, freed).into_iter().collect();
    }
    pieces.into_iter().filter_map(|(piece, parts)| section_of_piece(key, piece, &parts, freed)).collect()
}

/// The changes of a piece and what is freed of the table; `None` if nothing is.
fn section_of_piece(key: &str, piece: Piece, parts: &[&TableState], freed: Option<(usize, i64)>) -> Option<Section> {
    let first = parts.first()?;
    let deltas: Vec<&Delta> = parts.iter().flat_map(|part| &part.changes).filter(|delta| !delta.is_empty()).collect();
    if deltas.is_empty() && freed.is_none() {
        return None;
    }
    let each_once = deltas.iter().all(|delta| delta.rows.num_columns() > 0 && is_each_once(delta));
    let schema = section_schema(deltas.first().map(|delta| delta.rows.schema_ref()), each_once);
    let once = deltas.iter().filter(|delta| !each_once && delta.diffs.is_none()).map(|delta| delta.len()).max();
    let once = Int64Array::from(vec![1; once.unwrap_or(0)]);
    let batches = deltas.into_iter().map(|delta| section_rows(&schema, delta, &once)).collect();
    let meta = TableMeta {
        keys: match first.form {
            Form::Rows => None,
            Form::Entries { keys } => Some(keys),
        },
        spread: match &first.spread {
            Spread::ByColumns(columns) => SpreadMeta::ByColumns(columns.clone()),
            Spread::Anywhere => SpreadMeta::Anywhere,
            Spread::One => SpreadMeta::One,
            Spread::Everywhere => SpreadMeta::Everywhere,
        },
        freed,
        piece: (piece != Piece::WHOLE).then_some((piece.number, piece.of)),
        each_once,
    };
    let meta = serde_json::to_value(meta).expect("numbers and names are JSON");
    Some(Section::new(key, schema, batches).with_meta(meta))
}

/// Columns go by their position: names are for people, and operators of equal fingerprints may have different ones.
fn section_schema(rows: Option<&SchemaRef>, each_once: bool) -> SchemaRef {
    let columns = rows.into_iter().flat_map(|schema| schema.fields());
    let named = columns.map(|field| Field::new(field.name(), field.data_type().clone(), true));
    let diffs = (!each_once).then(|| Field::new(DIFF, DataType::Int64, true));
    Arc::new(Schema::new(named.chain(diffs).collect::<Vec<_>>()))
}

fn is_each_once(delta: &Delta) -> bool {
    delta.diffs.as_ref().is_none_or(|diffs| diffs.values().iter().all(|diff| *diff == 1))
}

/// `once`: multiplicities of 1, as many as are needed.
fn section_rows(schema: &SchemaRef, delta: &Delta, once: &Int64Array) -> RecordBatch {
    let diffs = || -> ArrayRef {
        match &delta.diffs {
            Some(diffs) => Arc::new(diffs.clone()),
            None => Arc::new(once.slice(0, delta.len())),
        }
    };
    let has_diffs = schema.fields().len() > delta.rows.num_columns();
    let columns = delta.rows.columns().iter().cloned().chain(has_diffs.then(diffs)).collect();
    RecordBatch::try_new(Arc::clone(schema), columns).expect("the changes of a table have one schema")
}

/// What is known of a section's table, and how many columns its rows have, of which the section may have one more.
fn meta_of(section: &Section) -> Result<(TableMeta, usize), CheckpointError> {
    let unreadable = |what: &dyn std::fmt::Display| CheckpointError::Unreadable(format!("section '{}': {what}", section.key));
    let meta: TableMeta = serde_json::from_value(section.meta.clone()).map_err(|error| unreadable(&error))?;
    let fields = section.schema.fields();
    let is_diff = |field: &Arc<Field>| field.name() == DIFF && *field.data_type() == DataType::Int64;
    match fields.last() {
        _ if meta.each_once => Ok((meta, fields.len())),
        Some(last) if is_diff(last) => Ok((meta, fields.len() - 1)),
        _ => Err(unreadable(&"it has no multiplicities")),
    }
}

/// How many columns the rows of a section have.
pub(super) fn columns_of(section: &Section) -> Result<usize, CheckpointError> {
    meta_of(section).map(|(_, columns)| columns)
}

pub(super) fn table_of(number: u32, section: &Section) -> Result<TableState, CheckpointError> {
    let unreadable = |what: &dyn std::fmt::Display| CheckpointError::Unreadable(format!("section '{}': {what}", section.key));
    let (meta, columns) = meta_of(section)?;
    let mut all: Vec<usize> = meta.freed.iter().map(|freed| freed.0).collect();
    if let SpreadMeta::ByColumns(columns) = &meta.spread {
        all.extend(columns);
    }
    // Nothing changed but what is freed: then its columns are not told.
    if columns > 0 && (all.iter().any(|column| *column >= columns) || meta.keys.is_some_and(|keys| keys > columns)) {
        return Err(unreadable(&"it speaks of columns that it does not have"));
    }
    let piece = meta.piece.map_or(Piece::WHOLE, |(number, of)| Piece { number, of });
    if piece.number >= piece.of || (piece != Piece::WHOLE && !matches!(meta.spread, SpreadMeta::ByColumns(_))) {
        let (number, of) = (piece.number, piece.of);
        return Err(unreadable(&format_args!("a table whose rows are {:?} cannot have piece {number} of {of}", meta.spread)));
    }
    let kept: Vec<usize> = (0..columns).collect();
    let mut changes = Vec::with_capacity(section.batches.len());
    for batch in &section.batches {
        if meta.each_once {
            changes.push(Delta::insert(batch.clone()));
            continue;
        }
        let diffs = batch.column(columns).as_primitive::<Int64Type>().clone();
        if diffs.null_count() > 0 {
            return Err(unreadable(&"a multiplicity is NULL"));
        }
        let rows = match kept.is_empty() {
            // A row without columns is a row.
            true => {
                let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
                RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &options)
            }
            false => batch.project(&kept),
        };
        changes.push(Delta::with_diffs(rows.map_err(|error| unreadable(&error))?, diffs));
    }
    Ok(TableState {
        table: number,
        form: meta.keys.map_or(Form::Rows, |keys| Form::Entries { keys }),
        spread: match meta.spread {
            SpreadMeta::ByColumns(columns) => Spread::ByColumns(columns),
            SpreadMeta::Anywhere => Spread::Anywhere,
            SpreadMeta::One => Spread::One,
            SpreadMeta::Everywhere => Spread::Everywhere,
        },
        piece,
        changes,
        freed: meta.freed,
    })
}

fn appended(rows: &RecordBatch, name: &str, column: ArrayRef) -> RecordBatch {
    let fields = rows.schema_ref().fields().iter().cloned().chain([Arc::new(Field::new(name, DataType::Int64, true))]);
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let columns = rows.columns().iter().cloned().chain([column]).collect();
    RecordBatch::try_new(schema, columns).expect("the column is as long as the rows")
}

#[cfg(test)]
mod tests;
