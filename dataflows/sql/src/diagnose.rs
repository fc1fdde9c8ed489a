//! Every error on its way to a [`Diagnostic`]: ours, sqlparser's and DataFusion's.
//!
//! DataFusion's messages were written for its own users; the common ones are rewritten here into one line that names the
//! thing, with a place and a remedy. What has no place of its own gets the statement's.

mod datafusion;
mod places;
mod suggest;

use highwater_plan::{Diagnostic, Position, Span};
use sqlparser::parser::ParserError;
use sqlparser::tokenizer::Location;

pub(crate) use datafusion::{from_datafusion, misspelt_case};
pub(crate) use places::{Construct, Item, Places, is_clock};
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

/// A token's place; sqlparser's ends are exclusive, ours are not.
pub(crate) fn place(span: sqlparser::tokenizer::Span) -> Span {
    let start = position(span.start);
    let mut end = position(span.end);
    let first = if end.line == start.line { start.column } else { 1 };
    if end.column > first {
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
        (Some(Ok(line)), Some(Ok(column))) if line > 0 => (&message[..index], Some(Span::new((line, column), (line, column)))),
        _ => (&message[..index], None),
    }
}
