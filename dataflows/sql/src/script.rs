//! Scripts: SQL that is run once, over what views hold at one moment.
//!
//! A [`Script`] is parsed first, so that its owner can find out which relations it speaks of; then each statement is planned
//! against those there are, and gives jobs that end: their inputs are the relations' rows, their one view has the answer.

use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::{SortColumn, SortOptions, concat_batches, lexsort_to_indices, take_record_batch};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use highwater_plan::{Diagnostic, Job, Span};

use crate::bind::{BoundOnce, BoundStatement, RESULT, bind_once};
use crate::compile::on_large_stack;
use crate::diagnose::{Result as Bound, error};
use crate::parse::{ScriptKind, ScriptStatement, parse_script};

pub use crate::bind::{Readable, Writable};

/// A parsed script.
#[derive(Debug, Clone)]
pub struct Script {
    statements: Vec<ScriptStatement>,
}

/// What a statement of a script does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Gives rows.
    Select,
    /// Adds rows to a table, or replaces those of the same key.
    Insert,
    /// Changes rows of a table.
    Update,
    /// Takes rows out of a table.
    Delete,
}

impl Verb {
    /// As SQL writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Select => "SELECT",
            Verb::Insert => "INSERT",
            Verb::Update => "UPDATE",
            Verb::Delete => "DELETE",
        }
    }
}

/// A planned statement.
#[allow(clippy::large_enum_variant, reason = "there is one of it per statement")]
pub enum Planned {
    /// Rows to answer.
    Rows(Once),
    /// Changes of a table: rows to take out, then rows to put in. Both have the table's physical columns.
    Change {
        /// Rows to take out.
        old: Option<Once>,
        /// Rows to put in.
        new: Option<Once>,
    },
}

/// A job that ends: its sources are the relations it was planned over, in their order, and its view has the rows.
pub struct Once {
    /// The job.
    pub job: Job,
    order: Vec<SortOptions>,
    skip: usize,
    fetch: Option<usize>,
    schema: SchemaRef,
}

impl Script {
    /// Parses a script.
    pub fn parse(text: &str) -> Result<Script, Diagnostic> {
        guarded(|| parse_script(text)).map(|statements| Script { statements })
    }

    /// How many statements it has.
    pub fn len(&self) -> usize {
        self.statements.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.statements.is_empty()
    }

    /// What a statement does.
    pub fn verb(&self, statement: usize) -> Verb {
        match self.statements[statement].kind {
            ScriptKind::Query(_) => Verb::Select,
            ScriptKind::Insert { .. } => Verb::Insert,
            ScriptKind::Update { .. } => Verb::Update,
            ScriptKind::Delete { .. } => Verb::Delete,
        }
    }

    /// Names that may be relations' in a statement; some may be those of its own common table expressions.
    pub fn names(&self, statement: usize) -> Vec<String> {
        self.statements[statement].names()
    }

    /// The table that a statement changes, and where it is named.
    pub fn target(&self, statement: usize) -> Option<(String, Span)> {
        self.statements[statement].target()
    }

    /// Where a statement stands.
    pub fn span(&self, statement: usize) -> Span {
        self.statements[statement].span
    }

    /// Plans a statement over `relations`. `table` is what it changes, and whether its rows are among the relations. `text` is
    /// that of the job whose relations these are: its plain views can be read as well.
    pub fn plan(
        &self,
        statement: usize,
        relations: &[Readable],
        table: Option<(&Writable, bool)>,
        text: &str,
    ) -> Result<Planned, Diagnostic> {
        let statement = &self.statements[statement];
        guarded(|| {
            Ok(match bind_once(statement, relations, table, text)? {
                BoundStatement::Query(query) => Planned::Rows(Once::new(query)?),
                BoundStatement::Insert(rows) => Planned::Change { old: None, new: Some(Once::new(rows)?) },
                BoundStatement::Update { old, new } => {
                    Planned::Change { old: old.map(Once::new).transpose()?, new: Some(Once::new(new)?) }
                }
                BoundStatement::Delete(rows) => Planned::Change { old: Some(Once::new(rows)?), new: None },
            })
        })
    }
}

impl Once {
    /// The name of the job's view.
    pub const VIEW: &'static str = RESULT;

    fn new(once: BoundOnce) -> Bound<Once> {
        let BoundOnce { bound, order, skip, fetch, schema } = once;
        let option = |(ascending, nulls_first): (bool, bool)| SortOptions { descending: !ascending, nulls_first };
        let order = order.into_iter().map(option).collect();
        Ok(Once { job: crate::lower::lower(bound)?, order, skip, fetch, schema })
    }

    /// The answer's columns.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The answer, of the view's rows: in order, cut to its limits.
    pub fn answer(&self, rows: &[RecordBatch]) -> Result<RecordBatch, ArrowError> {
        let Some(first) = rows.first() else { return Ok(RecordBatch::new_empty(self.schema.clone())) };
        let mut all = concat_batches(&first.schema(), rows)?;
        let own = self.schema.fields().len();
        if !self.order.is_empty() {
            let columns = self.order.iter().enumerate();
            let columns: Vec<SortColumn> = columns
                .map(|(index, options)| SortColumn { values: all.column(own + index).clone(), options: Some(*options) })
                .collect();
            all = take_record_batch(&all, &lexsort_to_indices(&columns, None)?)?;
        }
        let skip = self.skip.min(all.num_rows());
        let fetch = self.fetch.unwrap_or(usize::MAX).min(all.num_rows() - skip);
        let all = all.slice(skip, fetch);
        let columns: Vec<ArrayRef> = all.columns()[..own].to_vec();
        let options = arrow::record_batch::RecordBatchOptions::new().with_row_count(Some(all.num_rows()));
        RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)
    }
}

/// The names of the plain views that a job's text declares.
pub fn plain_views(text: &str) -> Vec<String> {
    on_large_stack(|| crate::bind::plain_views(text)).unwrap_or_default()
}

/// The planner's own failures are errors, never panics.
fn guarded<T: Send>(work: impl FnOnce() -> Bound<T> + Send) -> Result<T, Diagnostic> {
    match on_large_stack(|| catch_unwind(AssertUnwindSafe(work))) {
        Some(Ok(Ok(done))) => Ok(done),
        Some(Ok(Err(failure))) => Err(*failure.0),
        Some(Err(_)) | None => {
            Err(*error("internal-planner-error", "the planner failed").help("please report this together with the text").0)
        }
    }
}
