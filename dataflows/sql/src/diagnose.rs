//! Every error on its way to a [`Diagnostic`]: ours, sqlparser's and DataFusion's.
//!
//! DataFusion's messages were written for its own users; the common ones are rewritten here into one line that names the
//! thing, with a place and a remedy. What has no place of its own gets the statement's.

mod datafusion;
mod suggest;

use highwater_plan::{Diagnostic, Position, Span};
use sqlparser::parser::ParserError;
use sqlparser::tokenizer::Location;

pub(crate) use datafusion::{from_datafusion, misspelt_case};
pub(crate) use suggest::{closest, did_you_mean};

/// The first error of a job.
#[derive(Debug, Clone)]
pub(crate) struct Failure(pub(crate) Box<Diagnostic>);

/// What a fallible step of compilation gives.
pub(crate) type Result<T> = std::result::Result<T, Failure>;

/// Starts an error.
pub(crate) fn error(code: &'static str, message: impl Into<String>) -> Failure {
    Failure(Box::new(Diagnostic::error(code, message)))
}

impl Failure {
    /// Says where.
    pub(crate) fn at(mut self, span: impl Into<Option<Span>>) -> Self {
        self.0.span = span.into().or(self.0.span);
        self
    }

    /// Says where, unless that is known already.
    pub(crate) fn or_at(mut self, span: impl Into<Option<Span>>) -> Self {
        self.0.span = self.0.span.or(span.into());
        self
    }

    /// Says what to do.
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.0.help = Some(help.into());
        self
    }

    /// Says what to do, if that is known.
    pub(crate) fn maybe_help(mut self, help: Option<String>) -> Self {
        self.0.help = help.or(self.0.help);
        self
    }

    /// Adds a further place or fact.
    pub(crate) fn note(mut self, message: impl Into<String>, span: Option<Span>) -> Self {
        self.0.notes.push(highwater_plan::Note { message: message.into(), span });
        self
    }
}

/// Carries a failure through DataFusion's callbacks.
impl From<Failure> for datafusion_common::DataFusionError {
    fn from(failure: Failure) -> Self {
        datafusion_common::DataFusionError::External(failure.0)
    }
}

/// Where construct and function names of a statement stand: what DataFusion's plans forget.
#[derive(Debug, Clone, Default)]
pub(crate) struct Places {
    /// The statement.
    pub(crate) statement: Option<Span>,
    /// Called functions, lower case, in order.
    pub(crate) functions: Vec<(String, Span)>,
    /// Columns and their fields, as written.
    pub(crate) idents: Vec<(String, Span)>,
    /// Joins and subqueries by kind.
    pub(crate) constructs: Vec<(Construct, Span)>,
}

/// A construct whose place is worth knowing after planning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Construct {
    /// LEFT, RIGHT or FULL JOIN.
    OuterJoin,
    /// `FROM a, b` or CROSS JOIN.
    CrossJoin,
    /// JOIN ... ON.
    InnerJoin,
    /// A subquery as a value.
    ScalarSubquery,
    /// DISTINCT or UNION without ALL.
    Distinct,
    /// The condition of WHERE or HAVING.
    Condition,
}

impl Places {
    /// Where a function is called, else the statement.
    pub(crate) fn function(&self, name: &str) -> Option<Span> {
        let found = self.functions.iter().find(|(function, _)| function == name).map(|(_, span)| *span);
        found.or(self.statement)
    }

    /// Where a column or field is named, else the statement.
    pub(crate) fn ident(&self, name: &str) -> Option<Span> {
        let found = self.idents.iter().find(|(ident, _)| ident == name).map(|(_, span)| *span);
        found.or(self.statement)
    }

    /// Where the first window function is called, else the statement.
    pub(crate) fn window(&self) -> Option<Span> {
        let is_window = |name: &str| name.starts_with("tumble") || name.starts_with("hop");
        let found = self.functions.iter().find(|(name, _)| is_window(name)).map(|(_, span)| *span);
        found.or(self.statement)
    }

    /// Where a construct stands, if it does.
    pub(crate) fn construct(&self, construct: Construct) -> Option<Span> {
        self.constructs.iter().find(|(kind, _)| *kind == construct).map(|(_, span)| *span)
    }
}

/// A token's place; sqlparser's ends are exclusive, ours are not.
pub(crate) fn place(span: sqlparser::tokenizer::Span) -> Span {
    let start = position(span.start);
    let mut end = position(span.end);
    if end.line == start.line && end.column > start.column {
        end.column -= 1;
    } else if end.line > start.line && end.column > 1 {
        end.column -= 1;
    }
    Span { start, end }
}

/// A token's place, unless sqlparser forgot it.
pub(crate) fn known_place(span: sqlparser::tokenizer::Span) -> Option<Span> {
    (span.start.line > 0).then(|| place(span))
}

fn position(location: Location) -> Position {
    Position { line: location.line.max(1), column: location.column.max(1) }
}

/// sqlparser's error; its place stands as text at the end of the message.
pub(crate) fn from_parser(e: ParserError) -> Failure {
    let message = match e {
        ParserError::TokenizerError(message) | ParserError::ParserError(message) => message,
        ParserError::RecursionLimitExceeded => {
            return error("too-deep", "the expression is nested too deeply").help("split it over several views");
        }
    };
    let (text, span) = split_place(&message);
    error("syntax", crate::parse::friendly(text)).at(span)
}

fn split_place(message: &str) -> (&str, Option<Span>) {
    let Some(index) = message.rfind(" at Line: ") else { return (message, None) };
    let mut numbers = message[index + " at Line: ".len()..].split(", Column: ").map(str::parse::<u64>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(line)), Some(Ok(column))) if line > 0 => {
            (&message[..index], Some(Span::new((line, column), (line, column))))
        }
        _ => (&message[..index], None),
    }
}
