//! Plain views of a job, for statements that are run once: a view that is only a name for a query is that query.

use highwater_plan::Span;

use super::Binder;
use crate::diagnose::{Result, error};
use crate::parse::{CreateView, StatementKind, parse, relation_names};

/// The names of the plain views that a job's text declares.
pub(crate) fn plain_views(text: &str) -> Vec<String> {
    declared(text).into_iter().map(|(name, ..)| name).collect()
}

/// Plain views with their names, in the order of their statements.
fn declared(text: &str) -> Vec<(String, CreateView, Span)> {
    // A running job's text has been parsed before.
    let statements = parse(text, &mut Vec::new()).unwrap_or_default();
    let views = statements.into_iter().filter_map(|statement| match statement.kind {
        StatementKind::View(view) if !view.materialized => {
            let name = view.name.0.last()?.as_ident()?.value.clone();
            Some((name, view, statement.span))
        }
        _ => None,
    });
    views.collect()
}

impl Binder {
    /// Declares those plain views of a job's text that a statement names (`names`), and those that they name.
    pub(super) fn plain_views(&mut self, text: &str, mut names: Vec<String>) -> Result<()> {
        let mut needed = Vec::new();
        for (name, view, span) in declared(text).into_iter().rev() {
            if names.iter().any(|named| named.eq_ignore_ascii_case(&name)) && self.catalog.relation(&name).is_none() {
                names.extend(relation_names(&*view.query));
                needed.push((name, view, span));
            }
        }
        let (items, warnings) = (self.bound.items.len(), self.bound.warnings.len());
        for (name, view, span) in needed.into_iter().rev() {
            // What is wrong has its place in the job's text, not in the statement's.
            self.view(view, span).map_err(|failure| {
                let why = &failure.0.message;
                let message = format!("view '{name}' cannot be read by a query: {why}");
                error("view-not-readable", message)
                    .help("what it reads must be kept: materialized views, tables without WITH or with readable = 'true'")
            })?;
        }
        self.bound.items.truncate(items);
        self.bound.warnings.truncate(warnings);
        Ok(())
    }
}
