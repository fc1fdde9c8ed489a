//! The statements of a job, as written.

use highwater_plan::{Diagnostic, Emit, OptionEntry, Span};
use sqlparser::ast::{DataType, Expr, Ident, ObjectName, Query, Statement as SqlStatement};

/// One statement with its place.
#[derive(Debug, Clone)]
pub(crate) struct Statement {
    /// What it says.
    pub(crate) kind: StatementKind,
    /// From its first word to its last token.
    pub(crate) span: Span,
}

/// What a statement says.
#[derive(Debug, Clone)]
pub(crate) enum StatementKind {
    /// `CREATE SOURCE`, `CREATE TABLE`.
    Relation(Box<CreateRelation>),
    /// `CREATE [MATERIALIZED] VIEW`.
    View(CreateView),
    /// Views that read each other, each as a query of its own.
    Views(Vec<CreateView>),
    /// `CREATE SINK`.
    Sink(Box<CreateSink>),
    /// `INSERT INTO sink SELECT ...`.
    Insert {
        /// The statement, for DataFusion.
        statement: Box<SqlStatement>,
        /// The sink.
        target: ObjectName,
        /// The trailing EMIT.
        emit: Option<EmitClause>,
    },
    /// Nothing: something was found that is worth a warning.
    Remark(Box<Diagnostic>),
    /// `SET name = value`.
    Set {
        /// Its name, dots included.
        name: String,
        /// Where the name stands.
        name_span: Span,
        /// The value, unquoted.
        value: String,
        /// Where the value stands.
        value_span: Span,
    },
    /// What the parser alone looks at, such as a type.
    Nothing,
}

/// `EMIT CHANGES`, `EMIT FINAL` or `EMIT EVERY interval`.
#[derive(Debug, Clone)]
pub(crate) struct EmitClause {
    pub(crate) emit: Emit,
    /// The interval and its place.
    pub(crate) every: Option<(Expr, Span)>,
}

/// Whether a relation is a stream or a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RelationKind {
    /// `CREATE SOURCE`.
    Source,
    /// `CREATE TABLE`.
    Table,
}

/// `CREATE SOURCE | TABLE name (columns) WITH (options)`.
#[derive(Debug, Clone)]
pub(crate) struct CreateRelation {
    pub(crate) kind: RelationKind,
    pub(crate) name: ObjectName,
    pub(crate) columns: Vec<Column>,
    pub(crate) primary_key: Vec<Ident>,
    pub(crate) watermark: Option<WatermarkClause>,
    /// Of its columns, in their order.
    pub(crate) lateness: Vec<Lateness>,
    pub(crate) options: Option<Vec<OptionEntry>>,
    /// `PARTITIONED BY (columns)`.
    pub(crate) partitioned: Vec<Ident>,
    /// `LIKE relation`.
    pub(crate) like: Option<LikeClause>,
    /// `APPEND ONLY`: rows only come.
    pub(crate) append_only: bool,
}

/// `LIKE relation (INCLUDING ALL EXCLUDING OPTIONS ...)`.
#[derive(Debug, Clone)]
pub(crate) struct LikeClause {
    pub(crate) name: ObjectName,
    /// What is taken over from it.
    pub(crate) parts: Vec<Part>,
    pub(crate) span: Span,
}

/// What a relation can take over from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// The primary key.
    Constraints,
    /// Computed columns.
    Generated,
    /// What stands behind WITH.
    Options,
    /// `PARTITIONED BY`.
    Partitions,
    /// `WATERMARK FOR`.
    Watermarks,
}

/// `CREATE [MATERIALIZED] VIEW name [(columns)] AS query [EMIT ..]`.
#[derive(Debug, Clone)]
pub(crate) struct CreateView {
    pub(crate) materialized: bool,
    pub(crate) name: ObjectName,
    pub(crate) columns: Vec<Ident>,
    pub(crate) query: Box<Query>,
    pub(crate) emit: Option<EmitClause>,
}

/// `CREATE SINK name ...`, one of three forms.
#[derive(Debug, Clone)]
pub(crate) struct CreateSink {
    pub(crate) name: ObjectName,
    /// `(columns)`, when rows come from an INSERT.
    pub(crate) columns: Vec<Column>,
    pub(crate) primary_key: Vec<Ident>,
    /// `FROM relation`.
    pub(crate) from: Option<ObjectName>,
    /// `AS query`.
    pub(crate) query: Option<Box<Query>>,
    pub(crate) options: Vec<OptionEntry>,
    pub(crate) emit: Option<EmitClause>,
}

/// A column of a relation.
#[derive(Debug, Clone)]
pub(crate) struct Column {
    pub(crate) name: Ident,
    pub(crate) kind: ColumnKind,
    pub(crate) not_null: bool,
    /// `DEFAULT expr`.
    pub(crate) default: Option<Expr>,
    /// `METADATA`.
    pub(crate) metadata: Option<Metadata>,
    /// Where its type or expression stands.
    pub(crate) span: Span,
}

/// `METADATA [FROM 'key'] [VIRTUAL]`: what a connector knows of a row beside the row.
#[derive(Debug, Clone)]
pub(crate) struct Metadata {
    /// The column's name without `FROM`.
    pub(crate) key: String,
    /// Only read, never written.
    pub(crate) is_virtual: bool,
    pub(crate) span: Span,
}

/// Where a column's values come from.
#[derive(Debug, Clone)]
pub(crate) enum ColumnKind {
    /// Decoded.
    Physical(DataType),
    /// Computed from the decoded ones.
    Computed(Box<Expr>),
}

/// `WATERMARK FOR column [AS expr]`.
#[derive(Debug, Clone)]
pub(crate) struct WatermarkClause {
    pub(crate) column: Ident,
    pub(crate) expr: Expr,
    pub(crate) span: Span,
}

/// `column type LATENESS bound`.
#[derive(Debug, Clone)]
pub(crate) struct Lateness {
    pub(crate) column: Ident,
    pub(crate) bound: Expr,
    pub(crate) span: Span,
}
