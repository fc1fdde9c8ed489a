//! A job: everything that its SQL text says.

use arrow::datatypes::SchemaRef;

use crate::{Diagnostic, Emit, Expr, NodeId, Options, Plan, Settings, Span};

/// A compiled job.
#[derive(Debug, Clone)]
pub struct Job {
    /// Sources and tables, in the order of their statements.
    pub sources: Vec<Source>,
    /// The operators.
    pub plan: Plan,
    /// Materialised views, in the order of their statements.
    pub views: Vec<View>,
    /// Sinks, in the order of their statements.
    pub sinks: Vec<Sink>,
    /// What `SET` decided.
    pub settings: Settings,
    /// What a person should know although the job runs.
    pub warnings: Vec<Diagnostic>,
}

/// Whether rows only come, or also change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceKind {
    /// `CREATE SOURCE`: a stream, append-only unless its format is a changelog.
    Source,
    /// `CREATE TABLE`: with a primary key its rows are upserts.
    Table,
}

/// A source or table.
#[derive(Debug, Clone)]
pub struct Source {
    /// Its name, as written.
    pub name: String,
    /// Stream or table.
    pub kind: SourceKind,
    /// The columns that are decoded: computed columns are not among them.
    pub schema: SchemaRef,
    /// Physical columns that the job reads, ascending. The others need not be decoded.
    pub used: Vec<usize>,
    /// Physical columns of the primary key; empty without one.
    pub primary_key: Vec<usize>,
    /// Per physical column the constant of its `DEFAULT`, as text: what stands in the column where an input does not have it.
    pub defaults: Vec<Option<String>>,
    /// Per physical column what of a row's metadata it takes (`offset`); `None`: it is part of the row.
    pub metadata: Vec<Option<String>>,
    /// Whether its rows only come, so that none can be taken out.
    pub append_only: bool,
    /// Event time.
    pub watermark: Option<Watermark>,
    /// `WITH (...)`.
    pub options: Options,
    /// Whether some operator may refuse its rows as late, so that whole rows must be kept at hand.
    pub keeps_late_rows: bool,
    /// The statement's place.
    pub span: Option<Span>,
}

impl Source {
    /// Whether its rows are upserts: each replaces or deletes the one of its key.
    pub fn upserts(&self) -> bool {
        self.kind == SourceKind::Table && !self.primary_key.is_empty()
    }
}

/// `WATERMARK FOR column AS expr`.
#[derive(Debug, Clone)]
pub struct Watermark {
    /// The column's name.
    pub column: String,
    /// Its value, over the physical columns of [`Source::used`] in that order: what the far-future guard looks at.
    pub event_time: Expr,
    /// The watermark's value per row, over the same columns.
    pub expr: Expr,
    /// Set if `expr` is `event_time` less this many microseconds: then it need not be evaluated.
    pub delay: Option<i64>,
}

/// A materialised view.
#[derive(Debug, Clone)]
pub struct View {
    /// Its name, as written.
    pub name: String,
    /// The operator whose output it keeps.
    pub node: NodeId,
    /// Its columns.
    pub schema: SchemaRef,
    /// Columns it is keyed by: those of [`crate::Properties::unique_key`], or all.
    pub key: Vec<usize>,
    /// As written; `Final` is already in the plan's operators.
    pub emit: Emit,
    /// The statement's place.
    pub span: Option<Span>,
}

/// A sink: changes of an operator's output, written elsewhere.
#[derive(Debug, Clone)]
pub struct Sink {
    /// Its name, as written.
    pub name: String,
    /// The operator whose changes it writes.
    pub node: NodeId,
    /// The columns written.
    pub schema: SchemaRef,
    /// Columns that identify a row, if known.
    pub key: Option<Vec<usize>>,
    /// As written.
    pub emit: Emit,
    /// Whether the operator may retract rows.
    pub append_only: bool,
    /// `WITH (...)`.
    pub options: Options,
    /// The statement's place.
    pub span: Option<Span>,
}

/// Names of the relations that come with a source or view.
pub struct OutputNames;

impl OutputNames {
    /// Rows of a source that an operator refused because their windows were closed.
    pub fn late(source: &str) -> String {
        format!("{source}$late")
    }

    /// Rows of a source that could not be decoded.
    pub fn rejects(source: &str) -> String {
        format!("{source}$rejects")
    }

    /// Rows on which an expression of a view failed.
    pub fn errors(view: &str) -> String {
        format!("{view}$errors")
    }
}

impl Job {
    /// Whether something in the job goes by the clock, so that epochs are opened in time even without rows.
    pub fn uses_processing_time(&self) -> bool {
        self.plan.nodes.iter().any(|node| matches!(node.op, crate::Op::Stamp | crate::Op::Hold(crate::Hold::Every { .. })))
    }

    /// The materialised view of this name.
    pub fn view(&self, name: &str) -> Option<&View> {
        self.views.iter().find(|view| view.name == name)
    }
}
