//! Where things stand in a statement: what DataFusion's plans forget.
//!
//! Names are remembered by the walk over the syntax tree that checks a statement, and looked up by errors that are found
//! after planning. An expression that fails on a row is found again by the columns it reads and the functions and
//! operators it applies: not always exact, but never in another statement's text.

use std::ops::ControlFlow;

use highwater_plan::Span;
use sqlparser::ast::{Expr, Spanned, visit_expressions};

use super::known_place;

/// Where construct and function names of a statement stand: what DataFusion's plans forget.
#[derive(Debug, Clone, Default)]
pub(crate) struct Places {
    /// The statement.
    pub(crate) statement: Option<Span>,
    /// Called functions, lower case, in order.
    pub(crate) functions: Vec<(String, Span)>,
    /// Columns and their fields, as written.
    pub(crate) idents: Vec<(String, Span)>,
    /// Expressions of SELECT, WHERE, HAVING, ON and GROUP BY.
    pub(crate) items: Vec<Item>,
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
    /// FOR SYSTEM_TIME AS OF, ASOF JOIN.
    TimedJoin,
    /// JOIN ... ON.
    InnerJoin,
    /// A subquery in an expression.
    Subquery,
    /// NOT IN (subquery).
    NotIn,
    /// DISTINCT or UNION without ALL.
    Distinct,
    /// The condition of WHERE or HAVING.
    Condition,
    /// LIMIT, OFFSET or FETCH FIRST.
    Limit,
}

/// Whether a function gives the time of the clock: `NOW()` and its other spellings; lower case.
pub(crate) fn is_clock(function: &str) -> bool {
    matches!(function, "now" | "current_timestamp" | "localtimestamp" | "current_date" | "today")
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
        let is_window = |name: &str| ["tumble", "hop", "cumulate", "session"].iter().any(|window| name.starts_with(window));
        let found = self.functions.iter().find(|(name, _)| is_window(name)).map(|(_, span)| *span);
        found.or(self.statement)
    }

    /// Where the clock is first read, else the statement.
    pub(crate) fn now(&self) -> Option<Span> {
        let found = self.functions.iter().find(|(name, _)| is_clock(name)).map(|(_, span)| *span);
        found.or(self.statement)
    }

    /// Where a construct stands, if it does.
    pub(crate) fn construct(&self, construct: Construct) -> Option<Span> {
        self.constructs.iter().find(|(kind, _)| *kind == construct).map(|(_, span)| *span)
    }
}

/// An expression as written: enough to recognise it after planning.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    /// Parts of the columns' names, lower case.
    names: Vec<String>,
    /// Functions and operators, lower case.
    words: Vec<String>,
    span: Span,
}

impl Item {
    /// What an expression of the syntax tree mentions, if its place is known.
    pub(crate) fn new(expr: &Expr) -> Option<Self> {
        let mut item = Item { names: Vec::new(), words: Vec::new(), span: known_place(expr.span())? };
        let _ = visit_expressions(expr, |expr| {
            match expr {
                Expr::Identifier(ident) => item.names.push(ident.value.to_lowercase()),
                Expr::CompoundIdentifier(idents) => item.names.extend(idents.iter().map(|ident| ident.value.to_lowercase())),
                Expr::Function(function) => item.words.push(function.name.to_string().to_lowercase()),
                Expr::BinaryOp { op, .. } => item.words.push(op.to_string().to_lowercase()),
                Expr::Cast { .. } => item.words.push("cast".into()),
                _ => {}
            }
            ControlFlow::<()>::Continue(())
        });
        Some(item)
    }

    /// The place of the item that mentions all `names` and most of `words`, and least besides; of a constant, which mentions
    /// no names, all `words`.
    pub(crate) fn find(items: &[Item], names: &[String], words: &[String]) -> Option<Span> {
        let (wanted, all) = if names.is_empty() { (words, true) } else { (names, false) };
        let fits = |item: &&Item| {
            let found = if all { &item.words } else { &item.names };
            !wanted.is_empty() && wanted.iter().all(|name| found.contains(name))
        };
        let score = |item: &Item| {
            let shared = words.iter().filter(|word| item.words.contains(word)).count();
            let foreign = item.words.iter().filter(|word| !words.contains(word)).count();
            (2 * shared) as i64 - foreign as i64 - (item.names.len().saturating_sub(names.len())) as i64
        };
        let best = items.iter().filter(fits).enumerate().max_by_key(|(index, item)| (score(item), -(*index as i64)));
        best.map(|(_, item)| item.span)
    }
}
