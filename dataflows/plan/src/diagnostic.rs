//! What is told to a person about a job's text: what is wrong, where, and what to do about it.

use std::fmt;

use crate::secret::masked;

/// A place in a text: 1-based line and column (columns count characters).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// 1-based line.
    pub line: u64,
    /// 1-based column, in characters.
    pub column: u64,
}

/// A range of a text; `end` is the position of its last character.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// First character.
    pub start: Position,
    /// Last character.
    pub end: Position,
}

impl Span {
    /// A span from `(line, column)` to `(line, column)`, 1-based.
    pub fn new(start: (u64, u64), end: (u64, u64)) -> Self {
        Span { start: Position { line: start.0, column: start.1 }, end: Position { line: end.0, column: end.1 } }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.start.line, self.start.column)
    }
}

/// Whether a job may run in spite of a diagnostic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The job cannot run.
    Error,
    /// The job runs, but probably not as meant.
    Warning,
}

/// A further place or fact that explains a diagnostic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Lower case, no full stop.
    pub message: String,
    /// Where, if it has a place.
    pub span: Option<Span>,
}

/// One error or warning about a job's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Whether it stops the job.
    pub severity: Severity,
    /// Stable code, for example `unknown-option`; each leads to a section of `docs/errors.md`.
    pub code: &'static str,
    /// What is wrong with what: lower case, no full stop.
    pub message: String,
    /// Where.
    pub span: Option<Span>,
    /// More places and facts.
    pub notes: Vec<Note>,
    /// What to do.
    pub help: Option<String>,
}

impl Diagnostic {
    /// An error with a stable `code`.
    pub fn error(code: &'static str, message: impl Into<String>) -> Self {
        Diagnostic { severity: Severity::Error, code, message: message.into(), span: None, notes: Vec::new(), help: None }
    }

    /// A warning with a stable `code`.
    pub fn warning(code: &'static str, message: impl Into<String>) -> Self {
        Diagnostic { severity: Severity::Warning, ..Diagnostic::error(code, message) }
    }

    /// Says where.
    pub fn at(mut self, span: impl Into<Option<Span>>) -> Self {
        self.span = span.into().or(self.span);
        self
    }

    /// Says what to do.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Adds a further place or fact.
    pub fn note(mut self, message: impl Into<String>, span: Option<Span>) -> Self {
        self.notes.push(Note { message: message.into(), span });
        self
    }

    /// Renders the diagnostic as a person reads it, with the line of `text` it speaks of and a mark under the place. Passwords that
    /// stand in the line are not shown.
    ///
    /// `name` is the file's name, or whatever the text is called.
    pub fn render(&self, name: &str, text: &str) -> String {
        let label = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let mut out = format!("{label}[{}]: {}\n", self.code, self.message);
        let text = &masked(text);
        if let Some(span) = self.span {
            render_place(&mut out, name, text, span);
        }
        for note in &self.notes {
            out.push_str(&format!("  note: {}\n", note.message));
            if let Some(span) = note.span {
                render_place(&mut out, name, text, span);
            }
        }
        if let Some(help) = &self.help {
            out.push_str(&format!("  help: {help}\n"));
        }
        out
    }
}

fn render_place(out: &mut String, name: &str, text: &str, span: Span) {
    let Position { line, column } = span.start;
    out.push_str(&format!("  --> {name}:{line}:{column}\n"));
    let Some(content) = text.lines().nth(line.saturating_sub(1) as usize) else { return };
    let gutter = line.to_string();
    let pad = " ".repeat(gutter.len());
    let width = if span.end.line == line {
        span.end.column.saturating_sub(column) as usize + 1
    } else {
        content.chars().count().saturating_sub(column as usize - 1)
    };
    let before = column.saturating_sub(1) as usize;
    out.push_str(&format!("{pad} |\n{gutter} | {content}\n"));
    out.push_str(&format!("{pad} | {}{}\n", " ".repeat(before), "^".repeat(width.max(1))));
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(span) = self.span {
            write!(f, "{span}: ")?;
        }
        write!(f, "{}", self.message)?;
        if let Some(help) = &self.help {
            write!(f, "; {help}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostic {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rendered_diagnostic_marks_its_place() {
        let diagnostic = Diagnostic::error("unknown-option", "unknown option 'topc'")
            .at(Span::new((2, 7), (2, 12)))
            .help("valid options: topic");
        let expected = "error[unknown-option]: unknown option 'topc'\n  --> job.sql:2:7\n  |\n2 | WITH ('topc' = 'x')\n  |       ^^^^^^\n  help: valid options: topic\n";
        assert_eq!(diagnostic.render("job.sql", "x\nWITH ('topc' = 'x')"), expected);
    }
}
